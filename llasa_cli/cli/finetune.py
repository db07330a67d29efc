"""`llasa finetune`: files of `llasa prepare` and a model -> a checkpoint folder.

Two more ways to a checkpoint, without training: `--merge ADAPTER` and `--extend TEXT_MODEL`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from llasa_cli.cli.console import Console, as_json, claim_stdout, result
from llasa_cli.cli.flags import Parsed, parameters_of, with_flags
from llasa_cli.errors import UsageError
from llasa_cli.options import Flag, Options
from llasa_cli.training.options import FinetuneOptions
from llasa_cli.wording import format_duration

if TYPE_CHECKING:
    from llasa_cli.training.run import RunProgress

_ALTERNATIVES = {
    "steps": ("epochs", "minutes"),
    "epochs": ("steps", "minutes"),
    "minutes": ("steps", "epochs"),
    "fresh": ("model",),
    "model": ("fresh",),
    "warm_up_steps": ("warm_up_share",),
    "warm_up_share": ("warm_up_steps",),
    "tokens_per_batch": ("rows_per_batch",),
}
"""A flag that is given takes the place of these values of a configuration file."""
_WITHOUT_TRAINING = {"merge": {"output", "model"}, "extend": {"output", "codec", "seed"}}
"""The options of training that `--merge` and `--extend` read."""


@dataclass(frozen=True)
class FinetuneCommand(Options):
    """Options of the command that are not part of the training itself."""

    config: Annotated[
        Path | None,
        Flag("A published training script's config.json; flags take precedence over it."),
    ] = None
    merge: Annotated[
        Path | None, Flag("Without training: write this adapter merged into its base model (or into -m).")
    ] = None
    extend: Annotated[str | None, Flag("Without training: write this text Llama with speech tokens added.")] = None
    quiet: Annotated[bool, Flag("No log on the terminal.", names=("-q", "--quiet"))] = False
    json: Annotated[bool, Flag("Print the result as JSON.")] = False


@with_flags
def finetune(parsed: Parsed[FinetuneOptions], command: FinetuneCommand) -> None:
    """Train a model on prepared recordings. At any time `llasa say -m` can use the output folder as a checkpoint."""
    claim_stdout()
    is_first = os.environ.get("RANK", "0") == "0"  # one of several processes (torchrun) prints
    with Console(command.quiet or not is_first) as console:
        if command.merge is not None or command.extend is not None:
            made = _without_training(parsed, command, console)
        else:
            made = _train(parsed, command, console)
        if command.json and is_first:
            result(as_json(made))


def _train(parsed: Parsed[FinetuneOptions], command: FinetuneCommand, console: Console) -> dict[str, Any]:
    options = _options(parsed, command.config, console)
    from llasa_cli.training.finetune import finetune as run
    from llasa_cli.training.run import Callbacks

    progress = _ProgressLines(console)
    made = run(options, Callbacks(progress.log, progress.step, console.line))
    console.line(f"{options.output}: {made['steps']} steps, {made['minutes']:.1f} min")
    return made


def _options(parsed: Parsed[FinetuneOptions], config: Path | None, console: Console) -> FinetuneOptions:
    """Flags that were given, else the configuration file, else the defaults."""
    adapter = {name for name in parsed.given if name.startswith("lora_")}
    if config is not None:
        parsed = parsed.over(_read_config(parsed, config, console), str(config))
    if adapter and not parsed.values["lora"]:
        raise UsageError("Options of the adapter are given without --lora.", "Add --lora.")
    if "validation" in parsed.given and not parsed.values["online"]:
        raise UsageError(
            "--validation applies to --online only.",
            "Prepared data has its own validation rows: llasa prepare --validation.",
        )
    if {"warm_up_steps", "warm_up_share"} <= parsed.given:
        raise UsageError("--warm-up-steps and --warm-up-share exclude each other.", "Give one of them.")
    if "speak" in parsed.given and parsed.values["speak_every"] <= 0:
        raise UsageError("A sentence to speak is given without --speak-every.", "Add --speak-every STEPS.")
    return parsed.build()


def _read_config(parsed: Parsed[FinetuneOptions], config: Path, console: Console) -> dict[str, Any]:
    """The values of a configuration file, without those that a given flag replaces."""
    from llasa_cli.device import pick_device
    from llasa_cli.training.published_recipe import read_recipe

    processes = int(os.environ.get("WORLD_SIZE", "1"))
    flags = {name: parsed.values[name] for name in parsed.given}
    recipe = read_recipe(config, pick_device(parsed.values["device"]).type, processes, flags)
    for note in recipe.notes:
        console.line(f"{config.name}: {note}")
    if "trainer" in parsed.given:  # single settings of the file stay beside those of the flag
        parsed.values["trainer"] = {**recipe.values.get("trainer", {}), **parsed.values["trainer"]}
    replaced = {other for name in parsed.given for other in _ALTERNATIVES.get(name, ())}
    return {name: value for name, value in recipe.values.items() if name not in replaced}


# --- without training ---


def _without_training(parsed: Parsed[FinetuneOptions], command: FinetuneCommand, console: Console) -> dict[str, Any]:
    """Write a merged or an extended model; -> its llasa.json."""
    if command.merge is not None and command.extend is not None:
        raise UsageError("--merge and --extend exclude each other.", "Give one of them.")
    way = "merge" if command.merge is not None else "extend"
    unread = [
        parameter.title
        for parameter in parameters_of(FinetuneOptions)
        if parameter.name in parsed.given - _WITHOUT_TRAINING[way]
    ]
    if command.config is not None:
        unread.append("--config")
    if unread:
        raise UsageError(f"--{way} trains nothing and does not read {', '.join(unread)}.", "Leave it out.")
    values, output = parsed.values, parsed.required("output")
    from llasa_cli.training.merge import extend_model, merge_adapter

    console.stage("reading the model")
    if command.merge is not None:
        made = merge_adapter(command.merge, output, values["model"])
        console.line(f"{output}: {made.get('base') or values['model']} with {command.merge}")
    else:
        assert command.extend is not None
        made = extend_model(command.extend, output, values["codec"], values["seed"])
        console.line(f"{output}: {command.extend} with {made['protocol']['code_count']} speech codes, untrained")
    return made


# --- progress ---


class _ProgressLines:
    """Prints the lines of the log, and the progress between them."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def log(self, line: dict[str, Any]) -> None:
        names = ("loss", "held_out", "text_gain", "tokens_per_s")
        parts = [f"{name.replace('_', ' ')} {line[name]:.4g}" for name in names if name in line]
        if "left_s" in line:
            parts.append(f"{format_duration(line['left_s'])} left")
        self._console.line(f"step {line['step']} ({line['share']:.0%}): {', '.join(parts)}")

    def step(self, progress: RunProgress) -> None:
        parts = f"loss {progress.loss:.4g}, {format_duration(progress.left_s)} left"
        self._console.progress(f"step {progress.step} ({progress.share:.1%}): {parts}")
