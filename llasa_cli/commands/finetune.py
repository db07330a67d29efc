"""`llasa finetune`: files of `llasa prepare` and a model -> a checkpoint folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from llasa_cli.commands import report
from llasa_cli.settings import FinetuneOptions

_DEFAULT = FinetuneOptions(data=Path(), output=Path())


def finetune(
    data: Annotated[Path, typer.Argument(help="Folder that `llasa prepare` wrote.", show_default=False)],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder to become the checkpoint; a stopped run goes on in it.")
    ],
    model: Annotated[str | None, typer.Option("-m", "--model", help="Checkpoint to start from.")] = None,
    fresh: Annotated[
        Path | None, typer.Option("--fresh", help="Llama configuration (JSON) to start from random weights with.")
    ] = None,
    tokenizer: Annotated[Path | None, typer.Option("--tokenizer", help="Tokenizer folder of a fresh model.")] = None,
    codec: Annotated[
        str | None, typer.Option("--codec", help="Codec folder or repository; by default the model's own.")
    ] = None,
    steps: Annotated[int | None, typer.Option("--steps", help="How long to train, in steps.")] = None,
    epochs: Annotated[
        float | None, typer.Option("--epochs", help="How long to train, in passes over the data.")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option("--minutes", help="How long to train, in minutes over all resumptions.")
    ] = None,
    learning_rate: Annotated[
        float,
        typer.Option("--learning-rate", min=0, help="1e-5 for a whole Llasa, 2e-3 for a fresh small one."),
    ] = _DEFAULT.learning_rate,
    betas: Annotated[tuple[float, float], typer.Option("--betas", help="Of AdamW.")] = _DEFAULT.betas,
    weight_decay: Annotated[float, typer.Option("--weight-decay", min=0, help="Of AdamW.")] = _DEFAULT.weight_decay,
    warm_up_steps: Annotated[
        int, typer.Option("--warm-up-steps", min=0, help="Steps until the rate is reached.")
    ] = _DEFAULT.warm_up_steps,
    decay_share: Annotated[
        float, typer.Option("--decay-share", min=0, max=1, help="Last share of the run, in which the rate falls to 0.")
    ] = _DEFAULT.decay_share,
    gradient_norm: Annotated[
        float, typer.Option("--gradient-norm", min=0, help="Longer gradients are shortened to this; 0 leaves them.")
    ] = _DEFAULT.gradient_norm,
    tokens_per_batch: Annotated[
        int, typer.Option("--tokens-per-batch", min=1, help="Tokens a batch at most, padding included.")
    ] = _DEFAULT.tokens_per_batch,
    accumulate: Annotated[int, typer.Option("--accumulate", min=1, help="Batches a step.")] = _DEFAULT.accumulate,
    bf16: Annotated[
        bool | None, typer.Option("--bf16/--no-bf16", help="bfloat16 arithmetic; by default on a GPU.")
    ] = _DEFAULT.bf16,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda[:N] or mps.")] = _DEFAULT.device,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of weights and order.")] = _DEFAULT.seed,
    speakers: Annotated[
        list[str] | None, typer.Option("--speaker", help="Train on this speaker's rows only; may be repeated.")
    ] = None,
    untagged: Annotated[
        float, typer.Option("--untagged", min=0, max=1, help="Share of rows read without their speaker tag.")
    ] = _DEFAULT.untagged,
    short_first: Annotated[
        float,
        typer.Option("--short-first", min=0, max=1, help="First share of the run, in which rows grow from one second."),
    ] = _DEFAULT.short_first,
    save_every_minutes: Annotated[
        float, typer.Option("--save-every", min=0, help="Minutes between saves: what a kill loses at most.")
    ] = _DEFAULT.save_every_minutes,
    evaluate_every: Annotated[
        int, typer.Option("--eval-every", min=1, help="Steps between judgements on the validation rows.")
    ] = _DEFAULT.evaluate_every,
    evaluate_rows: Annotated[
        int, typer.Option("--eval-rows", min=1, help="Validation rows judged on, at most.")
    ] = _DEFAULT.evaluate_rows,
    log_every: Annotated[int, typer.Option("--log-every", min=1, help="Steps between log lines.")] = _DEFAULT.log_every,
    resume: Annotated[
        bool, typer.Option("--resume/--no-resume", help="Go on with the run in the output folder, or refuse to.")
    ] = _DEFAULT.resume,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No log on the terminal.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Train a model on prepared recordings. The output folder is a checkpoint that `llasa say -m` takes at any time."""
    report.claim_stdout()
    options = FinetuneOptions(
        data=data,
        output=output,
        model=model,
        fresh=fresh,
        tokenizer=tokenizer,
        codec=codec,
        steps=steps,
        epochs=epochs,
        minutes=minutes,
        learning_rate=learning_rate,
        betas=betas,
        weight_decay=weight_decay,
        warm_up_steps=warm_up_steps,
        decay_share=decay_share,
        gradient_norm=gradient_norm,
        tokens_per_batch=tokens_per_batch,
        accumulate=accumulate,
        bf16=bf16,
        device=device,
        seed=seed,
        speakers=tuple(speakers or ()),
        untagged=untagged,
        short_first=short_first,
        save_every_minutes=save_every_minutes,
        evaluate_every=evaluate_every,
        evaluate_rows=evaluate_rows,
        log_every=log_every,
        resume=resume,
    )
    from llasa_cli.training.finetune import finetune as run

    made = run(options, None if quiet else _print_line)
    if as_json:
        report.result(report.as_json(made))
    elif not quiet:
        report.note(f"{output}: {made['steps']} steps, {made['minutes']:.1f} min")


def _print_line(line: dict[str, Any]) -> None:
    names = ("loss", "held_out", "text_gain", "tokens_per_s")
    parts = [f"{name.replace('_', ' ')} {line[name]:.4g}" for name in names if name in line]
    report.note(f"step {line['step']} ({line['share']:.0%}): " + ", ".join(parts))
