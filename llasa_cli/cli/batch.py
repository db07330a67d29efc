"""`llasa batch`: a list of texts to a folder of files, or to one file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

from llasa_cli.batch.options import BatchOptions
from llasa_cli.cli.common_options import (
    CheckOptions,
    ConsoleOptions,
    LexiconOptions,
    ReferenceOptions,
    VoiceOptions,
)
from llasa_cli.cli.console import Console, as_json, claim_stdout, result
from llasa_cli.cli.flags import Parsed, with_flags
from llasa_cli.cli.progress import ProgressLine, closing_line, summary_facts
from llasa_cli.errors import UsageError
from llasa_cli.options import Flag, Options
from llasa_cli.settings import ModelOptions, SpeechOptions
from llasa_cli.wording import shorten

if TYPE_CHECKING:
    from llasa_cli.batch.plan import Task
    from llasa_cli.batch.run import BatchSummary
    from llasa_cli.batch.scheduler import Tally

_SHOWN = 20
"""The number of invalid items that are listed; the rest are only counted."""


@dataclass(frozen=True)
class BatchCommand(Options):
    """Options of the command alone."""

    markdown: Annotated[bool, Flag("The texts are Markdown.")] = False


@with_flags
def batch(
    options: Parsed[BatchOptions],
    command: BatchCommand,
    voice: VoiceOptions,
    reference: ReferenceOptions,
    lexicon: LexiconOptions,
    checks: CheckOptions,
    models: ModelOptions,
    speech: SpeechOptions,
    console_options: ConsoleOptions,
) -> None:
    """Speak a list: one file for each item, or all items in one file. Existing items are kept; a bad item does not stop the rest."""
    from llasa_cli.batch.run import run_batch
    from llasa_cli.checkpoint.metadata import only_language
    from llasa_cli.checkpoint.resolve import resolve_checkpoint
    from llasa_cli.voices.reference import ReferenceTranscriber

    claim_stdout()
    language = reference.language
    built = options.build(**vars(voice), **vars(reference), accept_failed=checks.accept_failed)
    if built.needs_words and language is None:
        language = only_language(resolve_checkpoint(models).metadata)
    verifiers = checks.verifiers(speech, reference.language)
    built = replace(built, verifiers=verifiers, timing=checks.timing(built.needs_words, language))
    if speech.search is not None:
        raise UsageError("--search speaks one text at a time.", "Use --best-of for a batch.")
    speech = replace(speech, markdown=command.markdown, lexicon=lexicon.words)
    with Console(console_options.quiet, console_options.verbose) as console:
        transcriber = ReferenceTranscriber(checks.asr, reference.language, models.device, console.stage, console.line)
        printer = _Printer(console, built)
        summary = run_batch(built, speech, models, transcriber, printer)
        printer.finished(summary)
        summary.raise_for_failures()


class _Printer:
    """Prints the progress of a run: a `batch.run.BatchReporter`."""

    def __init__(self, console: Console, options: BatchOptions) -> None:
        from llasa_cli.batch.destination import is_one_file

        self._console, self._options = console, options
        self._progress = ProgressLine(console)
        self._output_is_open = True
        self._is_one_file = is_one_file(options.output)

    def stage(self, text: str) -> None:
        self._console.stage(text)

    def checked(self, items: int) -> None:
        self._console.progress(f"checking the list: {items} items")

    def message(self, text: str) -> None:
        self._console.line(text)

    def rejected(self, tasks: Iterator[Task], count: int) -> None:
        for task in islice(tasks, _SHOWN):
            self._console.line(f"error: line {task.item.number} ({shorten(task.item.text)}): {task.problem}")
        if count > _SHOWN:
            self._console.line(f"error: and {count - _SHOWN} more")

    def row(self, row: dict[str, Any], is_news: bool) -> None:
        where = f"line {row['line']} ({shorten(row['text'])})"
        if row["status"] == "error" and is_news:
            self._console.line(f"error: {where}: {row['error']}")
        for problem in row.get("checks", ()):
            self._console.line(f"warning: {where}: {problem}")
        if row["status"] != "error":
            self._console.detail(
                f"line {row['line']}: {row['seconds']:.1f} s, seed {row['seed']}, "
                f"{row['retries']} retries: {shorten(row['text'])}"
            )
        if self._options.json:
            self._result(as_json(row))
        elif row["status"] != "error" and not self._is_one_file:
            self._result(str(self._options.output / row["path"]))

    def progress(self, tally: Tally) -> None:
        self._progress.show(tally)

    def interrupted(self, tally: Tally) -> None:
        self._console.line(f"{closing_line(tally)}; the same command continues from there")

    def finished(self, summary: BatchSummary) -> None:
        """Print the closing lines."""
        from llasa_cli.text.width import SECONDS_A_CHARACTER

        tally, counts = summary.tally, summary.counts
        if tally is None:
            hours = counts.characters * SECONDS_A_CHARACTER / 3600
            self._console.line(
                f"{counts.all} items: {counts.to_make} to make (about {hours:.1f} h of speech), {counts.there} exist, "
                f"{counts.failed} can't be made"
            )
            if self._options.json:
                result(as_json({"plan": asdict(counts)}))
            return
        self._console.line(closing_line(tally))
        joined = None if summary.joined is None else str(summary.joined)
        if joined is not None:
            self._console.line(f"{summary.joined_s:.1f} s of speech with pauses: {joined}")
            if not self._options.json:
                self._result(joined)
        if self._options.json:
            self._result(as_json({"summary": summary_facts(tally) | summary.facts | {"path": joined}}))

    def _result(self, text: str) -> None:
        """Print to standard output. The run continues if its reader closes the pipe, since the files are its purpose."""
        if not self._output_is_open:
            return
        self._console.clear()
        try:
            result(text)
        except BrokenPipeError:
            self._output_is_open = False
