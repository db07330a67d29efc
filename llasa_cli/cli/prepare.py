"""`llasa prepare`: recordings and texts -> files to train from."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from llasa_cli.cli.console import Console, as_json, claim_stdout, note, result
from llasa_cli.cli.flags import Parsed, with_flags
from llasa_cli.options import Flag, Options
from llasa_cli.settings import BUILT_IN_MODEL, CODEC_FLAG, CODES_PER_SECOND, DEVICE_FLAG, MODEL_FLAG, ModelOptions
from llasa_cli.training.options import PrepareOptions
from llasa_cli.wording import format_duration

if TYPE_CHECKING:
    from llasa_cli.training.prepare import Progress

_SHOWN_REASONS = 12
"""The number of reasons in the summary; the file of skipped rows has all of them."""


@dataclass(frozen=True)
class PrepareCommand(Options):
    """Options of the command that do not change the written files."""

    model: Annotated[
        str, replace(MODEL_FLAG, help="The model to be trained: a name, a checkpoint, or a tokenizer.", panel=None)
    ] = BUILT_IN_MODEL
    codec: Annotated[str | None, replace(CODEC_FLAG, panel=None)] = None
    device: Annotated[str, replace(DEVICE_FLAG, panel=None)] = ModelOptions.device
    workers: Annotated[int, Flag("Processes on this machine, each a rank.", minimum=1)] = 1
    rank: Annotated[
        int | None, Flag("Which share of the rows this process does, from 0; torchrun and Slurm set it.", minimum=0)
    ] = None
    ranks: Annotated[int | None, Flag("How many shares there are.", minimum=1)] = None
    quiet: Annotated[bool, Flag("No progress and no summary.", names=("-q", "--quiet"))] = False
    json: Annotated[bool, Flag("Print the summary as JSON.")] = False


@with_flags
def prepare(parsed: Parsed[PrepareOptions], command: PrepareCommand) -> None:
    """Check and encode recordings for `llasa finetune`. Bad rows are listed and skipped; a stopped run resumes."""
    claim_stdout()
    needs_no_output = parsed.values["dry_run"] and parsed.values["output"] is None
    options = parsed.build(output=Path()) if needs_no_output else parsed.build()
    console = Console(command.quiet)
    progress = _ProgressLine(console) if console.is_live else None
    index = _run(options, command, progress)
    if progress is not None:
        progress.end()
    if command.json:
        result(as_json(index | {"skipped": index["skipped"]["reasons"]}))
    elif not command.quiet:
        _summarize(index, options)


def _run(
    options: PrepareOptions, command: PrepareCommand, on_progress: Callable[[Progress], None] | None
) -> dict[str, Any]:
    from llasa_cli.training.prepare_workers import find_rank, prepare_in_workers, prepare_with

    model = ModelOptions(command.model, command.codec, command.device)
    own = find_rank(os.environ, command.rank, command.ranks)
    if options.dry_run:
        return prepare_with(options, model, own.local, on_progress)  # all rows, on whichever rank
    options = replace(options, rank=own.rank, ranks=own.ranks)
    if command.workers > 1:
        return prepare_in_workers(options, model, command.workers, on_progress)
    return prepare_with(options, model, own.local, on_progress)


class _ProgressLine:
    """One line on the terminal for each stage; the last state of a stage stays."""

    def __init__(self, console: Console) -> None:
        self._console, self._stage, self._last, self._began = console, "", "", 0.0

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if progress.stage != self._stage:
            self.end()
            self._stage, self._began = progress.stage, now
        self._last = self._text(progress, max(now - self._began, 1e-6))
        self._console.progress(self._last)

    def _text(self, progress: Progress, spent: float) -> str:
        if progress.stage == "checking":
            return f"checked {progress.rows} rows"
        if progress.stage == "writing":
            return f"written {progress.rows} of {progress.all_rows} rows"
        left = format_duration(spent / max(progress.seconds, 1e-6) * (progress.all_seconds - progress.seconds))
        return (
            f"encoded {progress.rows} of {progress.all_rows} clips, {progress.seconds / 3600:.2f} h, "
            f"{progress.seconds / spent:.0f} times real time, {left} left"
        )

    def end(self) -> None:
        """Keep the line of the stage."""
        if self._last:
            self._console.line(self._last)
        self._last = ""


def _summarize(index: dict[str, Any], options: PrepareOptions) -> None:
    parts = [
        f"{name}: {split['rows']} rows, {format_duration(split['codes'] / CODES_PER_SECOND)}"
        for name, split in index["splits"].items()
    ]
    where = "would be written" if options.dry_run else f"{options.output}{os.sep}"
    mine = f" (rank {index['rank']} of {index['ranks']}; others are not done yet)" if "run" in index else ""
    note(f"{where}: " + "; ".join(parts) + mine)
    seconds = index["seconds"]
    if "half" in seconds:
        note(
            f"  clips of {seconds['shortest']:.1f} to {seconds['longest']:.1f} s, half of them under {seconds['half']:.1f} s, "
            f"nine tenths under {seconds['nine_tenths']:.1f} s"
        )
    if len(index["speakers"]) > 1:
        note(f"  {len(index['speakers'])} speakers")
    skipped = index["skipped"]
    for reason, count in list(skipped["reasons"].items())[:_SHOWN_REASONS]:
        first = next((row["row"] for row in skipped["rows"] if row["reason"] == reason), None)
        note(f"  skipped: {count} ({reason})" + (f", the first is {first}" if first else ""))
    if skipped["reasons"] and not options.dry_run:
        note(f"  all of them are listed in {options.output / 'skipped*.jsonl'}")
