"""`llasa prepare`: recordings and texts -> files to train from."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llasa_cli.commands import report
from llasa_cli.settings import BUILT_IN_MODEL, PrepareOptions

if TYPE_CHECKING:
    from llasa_cli.training.prepare import Progress

_DEFAULT = PrepareOptions(sources=(), output=Path())


def prepare(
    data: Annotated[
        list[Path],
        typer.Argument(
            help="Folders of audio with .txt files of the same name, tables with the columns audio,text[,speaker], "
            "or LJSpeech's metadata.csv.",
            show_default=False,
        ),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder to write; the same folder goes on.")],
    model: Annotated[
        str,
        typer.Option(
            "-m", "--model", envvar="LLASA_MODEL", help="The model to be trained: a name, a checkpoint, or a tokenizer."
        ),
    ] = BUILT_IN_MODEL,
    codec: Annotated[
        str | None, typer.Option("--codec", help="Codec folder or repository; by default the model's own.")
    ] = None,
    speaker: Annotated[str | None, typer.Option("--speaker", help="Tag of rows that name no speaker.")] = None,
    validation: Annotated[
        float, typer.Option("--validation", min=0, help="Rows kept apart for validation: a share below 1, or a number.")
    ] = _DEFAULT.validation,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Draws the validation rows.")] = _DEFAULT.seed,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda[:N] or mps.")] = "auto",
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No progress, no summary.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Check and encode recordings for `llasa finetune`. Bad rows are listed and left out; a stopped run goes on."""
    report.claim_stdout()
    options = PrepareOptions(sources=tuple(data), output=output, speaker=speaker, validation=validation, seed=seed)
    index = _run(options, model, codec, device, None if quiet or not sys.stderr.isatty() else _ProgressLine())
    if as_json:
        index = index | {"skipped": index["skipped"]["reasons"]}
        report.result(report.as_json(index))
    elif not quiet:
        _summarise(index, output)


def _run(options: PrepareOptions, model: str, codec: str | None, device: str, on_progress: Any) -> dict[str, Any]:
    from llasa_cli.codec.model import load_codec
    from llasa_cli.hub.cache import find_codec, find_model
    from llasa_cli.protocol import Protocol
    from llasa_cli.training.prepare import named_codec, tokenizer_fingerprint
    from llasa_cli.training.prepare import prepare as run

    folder = find_model(model)
    protocol = Protocol.load(folder)
    loaded = load_codec(find_codec(folder, codec or named_codec(folder)), device)
    return run(options, protocol, loaded, tokenizer_fingerprint(folder), on_progress)


class _ProgressLine:
    """One line on stderr, rewritten at most twice a second."""

    def __init__(self) -> None:
        self._began = self._shown = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if now - self._shown < 0.5 and progress.clips < progress.all_clips:
            return
        self._shown = now
        spent = max(now - self._began, 1e-6)
        left = spent / progress.clips * (progress.all_clips - progress.clips)
        end = "\n" if progress.clips == progress.all_clips else ""
        print(
            f"\rencoded {progress.clips} of {progress.all_clips} clips, {progress.seconds / 3600:.2f} h, "
            f"{progress.seconds / spent:.0f} times real time, {left / 60:.0f} min left ",
            end=end,
            file=sys.stderr,
            flush=True,
        )


def _summarise(index: dict[str, Any], output: Path) -> None:
    parts = [f"{name}: {split['rows']} rows, {split['hours']:.2f} h" for name, split in index["splits"].items()]
    report.note(f"{output}{os.sep}: " + "; ".join(parts))
    for reason, count in index["skipped"]["reasons"].items():
        report.note(f"  left out: {count} ({reason})")
    if index["skipped"]["reasons"]:
        report.note(f"  each one is listed in {output / 'index.json'}")
