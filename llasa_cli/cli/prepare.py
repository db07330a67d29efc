"""`llasa prepare`: recordings and texts -> files to train from."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llasa_cli.cli import console as report
from llasa_cli.errors import UsageError
from llasa_cli.settings import BUILT_IN_MODEL, CODES_PER_SECOND, CONTEXT_TOKENS, PrepareOptions

if TYPE_CHECKING:
    from llasa_cli.training.prepare import Progress

_DEFAULT = PrepareOptions(sources=(), output=Path())
_TOLD_REASONS = 12
"""In the summary; the listing has all."""


def prepare(
    data: Annotated[
        list[str],
        typer.Argument(
            help="Folders of audio with .txt files of the same name, tables (CSV, TSV, JSON lines) with the columns "
            "audio,text[,speaker], LJSpeech's metadata.csv, saved datasets or parquet, or hf:org/name from the hub.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="Folder to write; the same folder goes on.", show_default=False),
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            "-m", "--model", envvar="LLASA_MODEL", help="The model to be trained: a name, a checkpoint, or a tokenizer."
        ),
    ] = BUILT_IN_MODEL,
    codec: Annotated[
        str | None, typer.Option("--codec", help="Codec folder or repository; by default the model's own.")
    ] = None,
    codes: Annotated[
        Path | None,
        typer.Option(
            "--codes", help="Folder of codes made elsewhere, a .npy a clip (id.npy or id.wav.npy): not encoded."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Tell hours, lengths and problems, and write nothing.")
    ] = _DEFAULT.dry_run,
    speaker: Annotated[str | None, typer.Option("--speaker", help="Tag of rows that name no speaker.")] = None,
    text_column: Annotated[
        str | None, typer.Option("--text-column", help="What the data calls its text, if not text.")
    ] = None,
    audio_column: Annotated[
        str | None, typer.Option("--audio-column", help="What the data calls its audio, if not audio.")
    ] = None,
    speaker_column: Annotated[
        str | None, typer.Option("--speaker-column", help="What the data calls its speakers, if not speaker.")
    ] = None,
    split: Annotated[
        list[str] | None, typer.Option("--split", help="Of a dataset, only this split; may be repeated.")
    ] = None,
    validation: Annotated[
        float,
        typer.Option(
            "--validation",
            min=0,
            help="Rows kept apart for validation: a share below 1, or a number. Not drawn where a dataset has its own.",
        ),
    ] = _DEFAULT.validation,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Draws the validation rows.")] = _DEFAULT.seed,
    subset: Annotated[
        float, typer.Option("--subset", help="Take only this share of the rows, evenly spread.")
    ] = _DEFAULT.subset,
    sample: Annotated[
        int, typer.Option("--sample", min=0, help="Take only the first rows, so many of each source; 0 takes all.")
    ] = _DEFAULT.sample,
    max_tokens: Annotated[
        int,
        typer.Option("--max-tokens", max=CONTEXT_TOKENS, help="Width of the rows written; longer ones are left out."),
    ] = _DEFAULT.max_tokens,
    batch_seconds: Annotated[
        float, typer.Option("--batch-seconds", min=0, help="Audio encoded together; only clips of one length can be.")
    ] = _DEFAULT.batch_seconds,
    workers: Annotated[int, typer.Option("--workers", min=1, help="Processes on this machine, each a rank.")] = 1,
    rank: Annotated[
        int | None,
        typer.Option(
            "--rank", min=0, help="Which share this process does, from 0. torchrun and Slurm tell it themselves."
        ),
    ] = None,
    ranks: Annotated[int | None, typer.Option("--ranks", min=1, help="How many shares there are.")] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda[:N] or mps.")] = "auto",
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="No progress, no summary.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Check and encode recordings for `llasa finetune`. Bad rows are listed and left out; a stopped run goes on."""
    report.claim_stdout()
    if output is None and not dry_run:
        raise UsageError("Where to?", "Name a folder with -o, or look first with --dry-run.")
    options = PrepareOptions(
        sources=tuple(data),
        output=output or Path(),
        speaker=speaker,
        validation=validation,
        seed=seed,
        text_column=text_column,
        audio_column=audio_column,
        speaker_column=speaker_column,
        codes=codes,
        splits=tuple(split or ()),
        subset=subset,
        sample=sample,
        max_tokens=max_tokens,
        batch_seconds=batch_seconds,
        dry_run=dry_run,
    )
    told = _ProgressLine() if sys.stderr.isatty() and not quiet else None
    index = _run(options, (model, codec, device), (rank, ranks, workers), told)
    if told is not None:
        told.end()
    if as_json:
        report.result(report.as_json(index | {"skipped": index["skipped"]["reasons"]}))
    elif not quiet:
        _summarise(index, options)


def _run(
    options: PrepareOptions, names: tuple[str, str | None, str], share: tuple[int | None, int | None, int], told: Any
) -> dict[str, Any]:
    from dataclasses import replace

    from llasa_cli.training.distributed import Names, prepare_in_workers, prepare_with, rank_of

    rank, ranks, workers = share
    own = rank_of(os.environ, rank, ranks)
    if options.dry_run:
        return prepare_with(options, Names(*names), own.local, told)  # one look at all rows, whoever asks
    options = replace(options, rank=own.rank, ranks=own.ranks)
    if workers > 1:
        return prepare_in_workers(options, Names(*names), workers, told)
    return prepare_with(options, Names(*names), own.local, told)


class _ProgressLine:
    """One line on stderr, rewritten at most twice a second."""

    def __init__(self) -> None:
        self._shown, self._stage, self._began, self._ended = 0.0, "", 0.0, True

    def __call__(self, progress: Progress) -> None:
        now = time.monotonic()
        if progress.stage != self._stage:
            self.end()
            self._stage, self._began = progress.stage, now
        elif now - self._shown < 0.5 and progress.rows < progress.all_rows:
            return
        self._shown, self._ended = now, False
        print("\r\x1b[K" + self._text(progress, max(now - self._began, 1e-6)), end="", file=sys.stderr, flush=True)

    def _text(self, progress: Progress, spent: float) -> str:
        if progress.stage == "checking":
            return f"checked {progress.rows} rows"
        if progress.stage == "writing":
            return f"written {progress.rows} of {progress.all_rows} rows"
        left = spent / max(progress.seconds, 1e-6) * (progress.all_seconds - progress.seconds)
        return (
            f"encoded {progress.rows} of {progress.all_rows} clips, {progress.seconds / 3600:.2f} h, "
            f"{progress.seconds / spent:.0f} times real time, {left / 60:.0f} min left"
        )

    def end(self) -> None:
        """The stage's line stays."""
        if not self._ended:
            print(file=sys.stderr, flush=True)
        self._ended = True


def _summarise(index: dict[str, Any], options: PrepareOptions) -> None:
    parts = [f"{name}: {split['rows']} rows, {_duration(split['codes'])}" for name, split in index["splits"].items()]
    where = "would be written" if options.dry_run else f"{options.output}{os.sep}"
    mine = f" (rank {index['rank']} of {index['ranks']}; others are not done yet)" if "run" in index else ""
    report.note(f"{where}: " + "; ".join(parts) + mine)
    seconds = index["seconds"]
    if "half" in seconds:
        report.note(
            f"  clips of {seconds['shortest']:.1f} to {seconds['longest']:.1f} s, half of them under {seconds['half']:.1f} s, "
            f"nine tenths under {seconds['nine_tenths']:.1f} s"
        )
    if len(index["speakers"]) > 1:
        report.note(f"  {len(index['speakers'])} speakers")
    skipped = index["skipped"]
    for reason, count in list(skipped["reasons"].items())[:_TOLD_REASONS]:
        first = next((row["row"] for row in skipped["rows"] if row["reason"] == reason), None)
        report.note(f"  left out: {count} ({reason})" + (f", the first {first}" if first else ""))
    if skipped["reasons"] and not options.dry_run:
        report.note(f"  each one is listed in {options.output / 'skipped*.jsonl'}")


def _duration(codes: int) -> str:
    hours = codes / CODES_PER_SECOND / 3600
    return f"{hours:.2f} h" if hours >= 1 else f"{60 * hours:.1f} min"
