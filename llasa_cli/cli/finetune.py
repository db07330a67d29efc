"""`llasa finetune`: files of `llasa prepare` and a model -> a checkpoint folder.

Two more ways to a checkpoint, without training: `--merge ADAPTER` and `--extend TEXT_MODEL`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from llasa_cli.cli import console as report
from llasa_cli.errors import UsageError
from llasa_cli.settings import FinetuneOptions, LoraOptions

_DEFAULT = FinetuneOptions(data=Path(), output=Path())
_LORA = LoraOptions()
_MODEL, _LENGTH, _RATE = "Start", "Length", "Learning rate"
_BATCH, _DATA, _WATCH, _MACHINE = "Batches", "Data", "Watching and saving", "Machine"


def finetune(
    context: typer.Context,
    data: Annotated[
        Path | None,
        typer.Argument(help="Folder that `llasa prepare` wrote; with --online, recordings.", show_default=False),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Folder to become the checkpoint; a stopped run goes on in it."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option("--config", help="A training script's config.json, as published; flags given here come first."),
    ] = None,
    merge: Annotated[
        Path | None, typer.Option("--merge", help="No training: write this adapter and its base (or -m) as one model.")
    ] = None,
    extend: Annotated[
        str | None, typer.Option("--extend", help="No training: write this text Llama with speech tokens added.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "-m", "--model", help="Checkpoint to start from: a Llasa, or a text Llama.", rich_help_panel=_MODEL
        ),
    ] = None,
    fresh: Annotated[
        Path | None,
        typer.Option(
            "--fresh", help="Llama configuration (JSON) to start from random weights with.", rich_help_panel=_MODEL
        ),
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option("--tokenizer", help="Tokenizer folder of a fresh model.", rich_help_panel=_MODEL)
    ] = None,
    codec: Annotated[
        str | None,
        typer.Option("--codec", help="Codec folder or repository; by default the model's own.", rich_help_panel=_MODEL),
    ] = None,
    lora: Annotated[
        bool, typer.Option("--lora", help="Train an adapter, the model stays as it is.", rich_help_panel=_MODEL)
    ] = False,
    lora_rank: Annotated[
        int, typer.Option("--lora-rank", min=1, help="Of the adapter.", rich_help_panel=_MODEL)
    ] = _LORA.rank,
    lora_alpha: Annotated[
        float, typer.Option("--lora-alpha", help="It counts alpha / rank times.", rich_help_panel=_MODEL)
    ] = _LORA.alpha,
    lora_dropout: Annotated[
        float, typer.Option("--lora-dropout", min=0, max=1, help="Of the adapter.", rich_help_panel=_MODEL)
    ] = _LORA.dropout,
    lora_targets: Annotated[
        list[str] | None,
        typer.Option(
            "--lora-target",
            help="A matrix to adapt; may be repeated. [default: q_proj, v_proj]",
            rich_help_panel=_MODEL,
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option("--steps", help="How long to train, in steps.", rich_help_panel=_LENGTH)
    ] = None,
    epochs: Annotated[
        float | None,
        typer.Option("--epochs", help="How long to train, in passes over the data.", rich_help_panel=_LENGTH),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option("--minutes", help="How long to train, in minutes over all resumptions.", rich_help_panel=_LENGTH),
    ] = None,
    learning_rate: Annotated[
        float,
        typer.Option(
            "--learning-rate",
            min=0,
            help="1e-5 for a whole Llasa, 5e-4 for an adapter, 2e-3 for a fresh small one.",
            rich_help_panel=_RATE,
        ),
    ] = _DEFAULT.learning_rate,
    schedule: Annotated[
        str, typer.Option("--schedule", help="trapezoid, cosine, linear or constant.", rich_help_panel=_RATE)
    ] = _DEFAULT.schedule,
    warm_up_steps: Annotated[
        int, typer.Option("--warm-up-steps", min=0, help="Steps until the rate is reached.", rich_help_panel=_RATE)
    ] = _DEFAULT.warm_up_steps,
    warm_up_share: Annotated[
        float | None,
        typer.Option("--warm-up-share", min=0, max=1, help="The same, as a share of the run.", rich_help_panel=_RATE),
    ] = _DEFAULT.warm_up_share,
    decay_share: Annotated[
        float,
        typer.Option(
            "--decay-share",
            min=0,
            max=1,
            help="Last share of the run, in which the trapezoid's rate falls to 0.",
            rich_help_panel=_RATE,
        ),
    ] = _DEFAULT.decay_share,
    betas: Annotated[tuple[float, float], typer.Option("--betas", help="Of AdamW.", rich_help_panel=_RATE)] = (
        _DEFAULT.betas
    ),
    epsilon: Annotated[
        float, typer.Option("--epsilon", min=0, help="Of AdamW.", rich_help_panel=_RATE)
    ] = _DEFAULT.epsilon,
    weight_decay: Annotated[
        float, typer.Option("--weight-decay", min=0, help="Of AdamW.", rich_help_panel=_RATE)
    ] = _DEFAULT.weight_decay,
    optimizer: Annotated[
        str,
        typer.Option(
            "--optimizer", help="auto, or a name of transformers', such as adamw_bnb_8bit.", rich_help_panel=_RATE
        ),
    ] = _DEFAULT.optimizer,
    gradient_norm: Annotated[
        float,
        typer.Option(
            "--gradient-norm",
            min=0,
            help="Longer gradients are shortened to this; 0 leaves them.",
            rich_help_panel=_RATE,
        ),
    ] = _DEFAULT.gradient_norm,
    tokens_per_batch: Annotated[
        int,
        typer.Option(
            "--tokens-per-batch", min=1, help="Tokens a batch at most, padding included.", rich_help_panel=_BATCH
        ),
    ] = _DEFAULT.tokens_per_batch,
    rows_per_batch: Annotated[
        int | None, typer.Option("--rows-per-batch", min=1, help="Rows a batch at most.", rich_help_panel=_BATCH)
    ] = _DEFAULT.rows_per_batch,
    accumulate: Annotated[
        int, typer.Option("--accumulate", min=1, help="Batches a step.", rich_help_panel=_BATCH)
    ] = _DEFAULT.accumulate,
    longest_row: Annotated[
        int,
        typer.Option(
            "--context", min=1, help="Tokens of the longest row; longer ones are left out.", rich_help_panel=_BATCH
        ),
    ] = _DEFAULT.context,
    seed: Annotated[
        int, typer.Option("--seed", min=0, help="Of weights and order.", rich_help_panel=_BATCH)
    ] = _DEFAULT.seed,
    speakers: Annotated[
        list[str] | None,
        typer.Option("--speaker", help="Train on this speaker's rows only; may be repeated.", rich_help_panel=_DATA),
    ] = None,
    untagged: Annotated[
        float,
        typer.Option(
            "--untagged", min=0, max=1, help="Share of rows read without their speaker tag.", rich_help_panel=_DATA
        ),
    ] = _DEFAULT.untagged,
    textless: Annotated[
        float,
        typer.Option(
            "--textless",
            min=0,
            max=1,
            help="Share of rows read without text, for say's --guidance.",
            rich_help_panel=_DATA,
        ),
    ] = _DEFAULT.textless,
    short_first: Annotated[
        float,
        typer.Option(
            "--short-first",
            min=0,
            max=1,
            help="First share of the run, in which rows grow from one second.",
            rich_help_panel=_DATA,
        ),
    ] = _DEFAULT.short_first,
    chat: Annotated[
        list[Path] | None,
        typer.Option(
            "--chat", help="JSONL of text conversations to mix in, so that chat is kept.", rich_help_panel=_DATA
        ),
    ] = None,
    online: Annotated[
        bool,
        typer.Option("--online", help="DATA is recordings; they are encoded while training.", rich_help_panel=_DATA),
    ] = _DEFAULT.online,
    validation: Annotated[
        float,
        typer.Option(
            "--validation",
            min=0,
            help="Rows kept to judge on when online: a share, or a number.",
            rich_help_panel=_DATA,
        ),
    ] = _DEFAULT.validation,
    save_every_minutes: Annotated[
        float,
        typer.Option(
            "--save-every", min=0, help="Minutes between saves: what a kill loses at most.", rich_help_panel=_WATCH
        ),
    ] = _DEFAULT.save_every_minutes,
    save_every_steps: Annotated[
        int | None, typer.Option("--save-steps", min=1, help="Save at these steps as well.", rich_help_panel=_WATCH)
    ] = _DEFAULT.save_every_steps,
    keep: Annotated[
        int, typer.Option("--keep", min=1, help="How many checkpoints to go on from are kept.", rich_help_panel=_WATCH)
    ] = _DEFAULT.keep,
    evaluate_every: Annotated[
        int,
        typer.Option(
            "--eval-every", min=1, help="Steps between judgements on the validation rows.", rich_help_panel=_WATCH
        ),
    ] = _DEFAULT.evaluate_every,
    evaluate_at_start: Annotated[
        bool, typer.Option("--eval-at-start", help="Judge before the first step too.", rich_help_panel=_WATCH)
    ] = _DEFAULT.evaluate_at_start,
    evaluate_rows: Annotated[
        int, typer.Option("--eval-rows", min=1, help="Validation rows judged on, at most.", rich_help_panel=_WATCH)
    ] = _DEFAULT.evaluate_rows,
    speak_every: Annotated[
        int,
        typer.Option(
            "--speak-every", min=0, help="Steps between spoken samples (WAV); 0 speaks none.", rich_help_panel=_WATCH
        ),
    ] = _DEFAULT.speak_every,
    speak: Annotated[
        list[str] | None,
        typer.Option(
            "--speak", help="A sentence for that; may be repeated. By default held-out ones.", rich_help_panel=_WATCH
        ),
    ] = None,
    log_every: Annotated[
        int, typer.Option("--log-every", min=1, help="Steps between log lines.", rich_help_panel=_WATCH)
    ] = _DEFAULT.log_every,
    report_to: Annotated[
        list[str] | None,
        typer.Option("--report-to", help="tensorboard, wandb; may be repeated.", rich_help_panel=_WATCH),
    ] = None,
    run_name: Annotated[
        str | None, typer.Option("--run-name", help="What the run is called there.", rich_help_panel=_WATCH)
    ] = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume/--no-resume",
            help="Go on with the run in the output folder, or refuse to.",
            rich_help_panel=_WATCH,
        ),
    ] = _DEFAULT.resume,
    bf16: Annotated[
        bool | None,
        typer.Option("--bf16/--no-bf16", help="bfloat16 arithmetic; by default on a GPU.", rich_help_panel=_MACHINE),
    ] = _DEFAULT.bf16,
    gradient_checkpointing: Annotated[
        bool,
        typer.Option("--gradient-checkpointing", help="Less memory, a quarter slower.", rich_help_panel=_MACHINE),
    ] = _DEFAULT.gradient_checkpointing,
    flash_attention: Annotated[
        bool, typer.Option("--flash-attention", help="FlashAttention-2 (CUDA, flash-attn).", rich_help_panel=_MACHINE)
    ] = _DEFAULT.flash_attention,
    liger: Annotated[
        bool, typer.Option("--liger", help="Liger kernels (CUDA, liger-kernel).", rich_help_panel=_MACHINE)
    ] = _DEFAULT.liger,
    deepspeed: Annotated[
        Path | None, typer.Option("--deepspeed", help="DeepSpeed configuration (JSON).", rich_help_panel=_MACHINE)
    ] = None,
    trainer: Annotated[
        list[str] | None,
        typer.Option("--trainer", help="NAME=VALUE, anything else of transformers' Trainer.", rich_help_panel=_MACHINE),
    ] = None,
    workers: Annotated[
        int, typer.Option("--workers", min=0, help="Processes that read rows ahead.", rich_help_panel=_MACHINE)
    ] = _DEFAULT.workers,
    device: Annotated[
        str, typer.Option("--device", help="auto, cpu, cuda[:N] or mps.", rich_help_panel=_MACHINE)
    ] = _DEFAULT.device,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No log on the terminal.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Train a model on prepared recordings. The output folder is a checkpoint that `llasa say -m` takes at any time."""
    report.claim_stdout()
    first = os.environ.get("RANK", "0") == "0"  # of several processes (torchrun), one speaks
    with report.Console(quiet or not first) as show:
        if merge is not None or extend is not None:
            if merge is not None and extend is not None:
                raise UsageError("--merge and --extend are two things.", "Give one of them.")
            _refuse_flags_of_training(context, "merge" if merge is not None else "extend")
            _without_training(merge, extend, output, model, codec, seed, show, as_json)
            return
        flags: dict[str, Any] = {
            "data": data,
            "output": output,
            "model": model,
            "fresh": fresh,
            "tokenizer": tokenizer,
            "codec": codec,
            "lora": LoraOptions(lora_rank, lora_alpha, lora_dropout, tuple(lora_targets or _LORA.targets)),
            "steps": steps,
            "epochs": epochs,
            "minutes": minutes,
            "learning_rate": learning_rate,
            "schedule": schedule,
            "warm_up_steps": warm_up_steps,
            "warm_up_share": warm_up_share,
            "decay_share": decay_share,
            "betas": betas,
            "epsilon": epsilon,
            "weight_decay": weight_decay,
            "optimizer": optimizer,
            "gradient_norm": gradient_norm,
            "tokens_per_batch": tokens_per_batch,
            "rows_per_batch": rows_per_batch,
            "accumulate": accumulate,
            "context": longest_row,
            "seed": seed,
            "speakers": tuple(speakers or ()),
            "untagged": untagged,
            "textless": textless,
            "short_first": short_first,
            "chat": tuple(chat or ()),
            "online": online,
            "validation": validation,
            "save_every_minutes": save_every_minutes,
            "save_every_steps": save_every_steps,
            "keep": keep,
            "evaluate_every": evaluate_every,
            "evaluate_at_start": evaluate_at_start,
            "evaluate_rows": evaluate_rows,
            "speak_every": speak_every,
            "speak": tuple(speak or ()),
            "log_every": log_every,
            "report_to": tuple(report_to or ()),
            "run_name": run_name,
            "resume": resume,
            "bf16": bf16,
            "gradient_checkpointing": gradient_checkpointing,
            "flash_attention": flash_attention,
            "liger": liger,
            "deepspeed": deepspeed,
            "trainer": _named_values(trainer or []),
            "workers": workers,
            "device": device,
        }
        options = _options(flags, context, config, show)
        from llasa_cli.training.finetune import finetune as run

        live = _Live(show)
        made = run(options, live.line, live.step, show.line)
        if not first:
            return
        show.line(f"{options.output}: {made['steps']} steps, {made['minutes']:.1f} min")
        if as_json:
            report.result(report.as_json(made))


_FLAG_OF = {"longest_row": "context"}
_INSTEAD = {
    "steps": ("epochs", "minutes"),
    "epochs": ("steps", "minutes"),
    "minutes": ("steps", "epochs"),
    "fresh": ("model",),
    "model": ("fresh",),
    "warm_up_steps": ("warm_up_share",),
    "warm_up_share": ("warm_up_steps",),
    "tokens_per_batch": ("rows_per_batch",),
}
"""A flag that was given takes the place of these, where a configuration file has them."""


_NO_TRAINING = {
    "merge": {"merge", "output", "model", "quiet", "as_json"},
    "extend": {"extend", "output", "codec", "seed", "quiet", "as_json"},
}
"""What the two ways without training read."""


def _given(context: typer.Context) -> set[str]:
    """Fields that the user gave a flag for; an adapter's, each by its flag."""
    return {_FLAG_OF.get(name, name) for name in context.params if _is_given(context, name)}


def _refuse_flags_of_training(context: typer.Context, way: str) -> None:
    known = {part.name or "": part.opts[-1] for part in context.command.params}
    others = [flag for name, flag in known.items() if _is_given(context, name) and name not in _NO_TRAINING[way]]
    if others:
        raise UsageError(f"--{way} trains nothing and does not read {', '.join(others)}.", "Leave it out.")


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name in ("COMMANDLINE", "ENVIRONMENT")


def _options(
    flags: dict[str, Any], context: typer.Context, config: Path | None, show: report.Console
) -> FinetuneOptions:
    """Flags that were given, else the configuration file, else the defaults."""
    values, given = dict(flags), _given(context)
    adapter = {name: value for name, value in vars(flags["lora"]).items() if f"lora_{name}" in given}
    if not context.params["lora"]:
        values["lora"] = None
    if config is not None:
        from llasa_cli.device import pick_device
        from llasa_cli.training.published_recipe import read_recipe

        processes = int(os.environ.get("WORLD_SIZE", "1"))
        recipe = read_recipe(config, pick_device(flags["device"]).type, processes)
        for note in recipe.notes:
            show.line(f"{config.name}: {note}")
        _check_ranges(context, config, recipe.values)
        said = dict(recipe.values)
        for name in given:
            for other in _INSTEAD.get(name, ()):
                said.pop(other, None)
        said["trainer"] = dict(said.get("trainer", {})) | flags["trainer"]
        values |= {name: value for name, value in said.items() if name not in given or name == "trainer"}
        if said.get("lora") is not None:
            values["lora"] = replace(said["lora"], **adapter)
        given |= set(said)
    if adapter and values["lora"] is None:
        raise UsageError("The flags of an adapter are given without --lora.", "Add --lora.")
    if "validation" in given and not values["online"]:
        raise UsageError("--validation is of --online.", "Prepared data have their own: llasa prepare --validation.")
    if {"warm_up_steps", "warm_up_share"} <= given:
        raise UsageError("--warm-up-steps and --warm-up-share are two ways to say one thing.", "Give one of them.")
    if "speak" in given and values["speak_every"] <= 0:
        raise UsageError("A sentence to speak is given without --speak-every.", "Add --speak-every STEPS.")
    if values["data"] is None:
        raise UsageError("What to train on?", "Name the folder that `llasa prepare` wrote.")
    if values["output"] is None:
        raise UsageError("Where should the checkpoint go?", "Name a folder with -o.")
    return FinetuneOptions(**values)


def _check_ranges(context: typer.Context, config: Path, values: Mapping[str, Any]) -> None:
    """A file's numbers are held to what their flags take."""
    flat = dict(values) | {f"lora_{name}": value for name, value in vars(values.get("lora") or LoraOptions()).items()}
    for flag in context.command.params:
        name = _FLAG_OF.get(flag.name or "", flag.name or "")
        kind = getattr(flag, "type", flag)  # until Typer 0.26 click's type held the range
        least, most = getattr(kind, "min", None), getattr(kind, "max", None)
        value = flat.get(name)
        if not isinstance(value, int | float):
            continue
        if (least is not None and value < least) or (most is not None and value > most):
            wants = f"at least {least}" if most is None else f"{least} to {most}"
            raise UsageError(
                f"{config} has {name} {value}: {flag.opts[0]} takes {wants}.", "Correct it, or take it out."
            )


def _named_values(pairs: list[str]) -> dict[str, Any]:
    """ "a=1" -> {"a": 1}; what is no JSON is a string."""
    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise typer.BadParameter(f"{pair!r} is not NAME=VALUE.", param_hint="--trainer")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


def _without_training(
    merge: Path | None,
    extend: str | None,
    output: Path | None,
    model: str | None,
    codec: str | None,
    seed: int,
    show: report.Console,
    as_json: bool,
) -> None:
    if output is None:
        raise UsageError("Where should the checkpoint go?", "Name a folder with -o.")
    from llasa_cli.training.merge import extend_model, merge_adapter

    show.stage("reading the model")
    if merge is not None:
        about = merge_adapter(merge, output, model)
        show.line(f"{output}: {about.get('base') or model} with {merge}")
    else:
        assert extend is not None
        about = extend_model(extend, output, codec, seed)
        show.line(f"{output}: {extend} with {about['protocol']['code_count']} speech codes, untrained")
    if as_json:
        report.result(report.as_json(about))


class _Live:
    """Log lines as they come, and between them how far the run is."""

    def __init__(self, show: report.Console) -> None:
        self._show, self._said = show, ""

    def line(self, line: dict[str, Any]) -> None:
        names = ("loss", "held_out", "text_gain", "tokens_per_s")
        parts = [f"{name.replace('_', ' ')} {line[name]:.4g}" for name in names if name in line]
        if "left_s" in line:
            parts.append(f"{_duration(line['left_s'])} left")
        self._said = ", ".join(parts)
        self._show.line(f"step {line['step']} ({line['share']:.0%}): {self._said}")

    def step(self, step: int, share: float) -> None:
        self._show.progress(f"step {step} ({share:.1%}), {self._said}")


def _duration(seconds: float) -> str:
    """40 s, 5 min, 3 h 20 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
