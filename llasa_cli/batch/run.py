"""Runs a batch from its list to its results, for `llasa batch`.

    summary = run_batch(options, speech_options, model_options, transcriber, reporter)

The whole list is checked first, and everything that is wrong with it is reported at once. Only then is a model loaded.
Nothing here writes to the terminal: progress goes to a `BatchReporter`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from llasa_cli.audio.formats import FORMATS
from llasa_cli.audio.side_file import SpokenPart
from llasa_cli.batch.destination import Destination, ListSource, remove_items
from llasa_cli.batch.messages import Completed, Failed, ReferenceFile, WorkerBackend, WorkerConfig, WorkItem
from llasa_cli.batch.options import ITEM_PAUSE_S, BatchOptions, SchedulingOptions
from llasa_cli.batch.plan import Counts, Plan, Task
from llasa_cli.batch.results import COMPLETE, ByteRange, Results
from llasa_cli.batch.scheduler import Scheduler, Settled, Tally
from llasa_cli.errors import BatchError, UsageError, os_errors_as
from llasa_cli.files import output_folder
from llasa_cli.prompt import parse_style
from llasa_cli.settings import ModelOptions, SamplingRequest, SpeechOptions
from llasa_cli.text.spoken_words import WordTime
from llasa_cli.voices.resolve import ResolvedVoice, resolve_voice

if TYPE_CHECKING:
    from llasa_cli.batch.concatenate import Part
    from llasa_cli.batch.manifest import Item, Problems
    from llasa_cli.checkpoint.resolve import Checkpoint
    from llasa_cli.prompt import Reference
    from llasa_cli.voices.reference import ReferenceTranscriber

_CACHED_VOICES = 1000
_SYNC_S = 2.0


class BatchReporter(Protocol):
    """Receives the progress of a run."""

    def stage(self, text: str) -> None:
        """The current stage of the work."""

    def checked(self, items: int) -> None:
        """`items` items of the list have been checked."""

    def message(self, text: str) -> None:
        """A line for the user, such as a warning."""

    def rejected(self, tasks: Iterator[Task], count: int) -> None:
        """The items that can't be made, found before the run."""

    def row(self, row: dict[str, Any], is_news: bool) -> None:
        """A row was added to the results. `is_news` is False for items that were passed to `rejected`."""

    def progress(self, tally: Tally) -> None:
        """Called at least twice a second."""

    def interrupted(self, tally: Tally) -> None:
        """An error ends the run, but some items are complete."""


@dataclass(frozen=True)
class BatchSummary:
    """The outcome of a run.

    Attributes:
        counts: The plan before the run.
        tally: None for a dry run.
        facts: Figures of the workers.
        results: The path of `results.jsonl`.
        joined: The one output file, if it was written, with `joined_s` seconds of audio.
        awaited: The one output file that was not written because items are missing.
        accepts_failed_checks: Whether speech that fails its checks counts as a success.
    """

    counts: Counts
    tally: Tally | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    results: Path = Path()
    joined: Path | None = None
    joined_s: float = 0.0
    awaited: Path | None = None
    accepts_failed_checks: bool = False

    def raise_for_failures(self) -> None:
        """Raise BatchError unless every item has succeeded."""
        if self.tally is None:
            if self.counts.failed:
                raise BatchError(
                    f"{self.counts.failed} of {self.counts.all} items can't be made.", "Nothing was made: --dry-run."
                )
            return
        messages, hints = [], []
        if self.tally.failed:
            messages.append(f"{self.tally.failed} of {self.tally.all} items failed.")
            hints.append(f"{self.results} has the reasons.")
        if self.awaited is not None:
            hints.append(
                f"{self.awaited} is not written without them. Correct the list; the same command then continues."
            )
        if self.tally.failed_checks and not self.accepts_failed_checks:
            messages.append(
                f"{self.tally.failed_checks} of {self.tally.all} items still fail their checks; {self._kept()}"
            )
            hints.append("--accept-failed accepts them. Another --seed makes new takes.")
        if messages:
            raise BatchError(" ".join(messages), "\n       ".join(hints))

    def _kept(self) -> str:
        if self.joined is not None:
            return f"{self.joined} is written with them."
        return f"their files are kept, with status failed_checks in {self.results}."


def run_batch(
    options: BatchOptions,
    speech: SpeechOptions,
    models: ModelOptions,
    transcriber: ReferenceTranscriber,
    reporter: BatchReporter,
) -> BatchSummary:
    """Synthesize the items of a list that do not exist yet.

    Raises:
        UsageError: The list can't be read, options contradict each other, or another run works in the output folder.
        LlasaError: A failure that concerns all items. Completed items are kept.
    """
    from llasa_cli.checkpoint.resolve import resolve_checkpoint

    _check_options(options)
    if speech.speed != 1:
        from llasa_cli.audio.pyav import check_pyav

        check_pyav("for --speed")
    destination = Destination.from_options(options)
    destination.refuse_overwriting_inputs(options)
    checkpoint = resolve_checkpoint(models)
    parse_style(speech.style, checkpoint.style_fields)
    resolve_voice(options.voice, options.speaker, checkpoint)  # an error in the flags concerns all items
    with ExitStack() as stack:
        source = stack.enter_context(ListSource(options.source))
        stack.enter_context(output_folder(destination.folder))
        results = stack.enter_context(Results(destination.folder))
        plan = stack.enter_context(Plan(destination.folder, destination.item_format))
        run = _Run(options, speech, checkpoint, transcriber, reporter, destination, plan, results)
        run.check(source)
        if options.dry_run:
            return BatchSummary(plan.counts())
        return run.make()


def _check_options(options: BatchOptions) -> None:
    if options.ref is not None and (options.voice is not None or options.speaker is not None):
        raise UsageError("--ref and a voice are both given.", "Leave out --ref, or leave out --voice and --speaker.")
    if options.ref_text is not None and options.ref is None:
        raise UsageError(
            "--ref-text is given without --ref.", "Add --ref; items of the list have a ref_text of their own."
        )


def create_backend(options: BatchOptions | SchedulingOptions, config: WorkerConfig) -> WorkerBackend:
    """Start the workers: a thread of this process, processes, or actors of a Ray cluster.

    Raises:
        UsageError: Options contradict each other.
    """
    if options.ray is None and options.devices is None and options.workers in (None, 1):
        from llasa_cli.batch.thread_backend import ThreadBackend

        return ThreadBackend(config)
    if options.ray is not None:
        from llasa_cli.batch.ray_backend import RayBackend

        if options.devices is not None:
            raise UsageError("--devices is for this machine, --ray for a cluster.", "Leave one of them out.")
        return RayBackend(config, options.ray, options.workers)
    from llasa_cli.batch.process_backend import ProcessBackend, choose_devices

    return ProcessBackend(config, choose_devices(options.devices, config.models.device, options.workers or 1))


@dataclass
class _Run:
    """One run on an output folder that is locked."""

    options: BatchOptions
    speech: SpeechOptions
    checkpoint: Checkpoint
    transcriber: ReferenceTranscriber
    reporter: BatchReporter
    destination: Destination
    plan: Plan
    results: Results
    _is_running: bool = False

    def __post_init__(self) -> None:
        from llasa_cli.batch.validate import settings_digest

        self._find_voice = lru_cache(_CACHED_VOICES)(self._resolve_voice)
        self._find_clip = lru_cache(_CACHED_VOICES)(self._transcribed_clip)
        self._settings = settings_digest(self.speech, self.options, self.destination.item_format, self.checkpoint)
        self._slots = self.options.slots

    # --- before the model is loaded ---

    def check(self, source: ListSource) -> None:
        """Check every line and build the plan.

        Raises:
            UsageError: The list can't be read.
        """
        from llasa_cli.batch.manifest import Problems
        from llasa_cli.batch.validate import SharedSettings, Validator

        options = self.options
        if options.ref is not None:
            from llasa_cli.voices.reference import load_reference

            load_reference(options.ref, options.ref_text)  # an error in the flags concerns all items
        self.plan.add_earlier(self._earlier_rows())
        shared = SharedSettings(self._settings, self.speech.seed, options.ref, options.ref_text)
        validator = Validator(self.plan, shared, self._voice_key)
        problems = Problems()
        validator.add_all(self._read(source, problems), self.reporter.checked)
        self.destination.refuse_overwriting_clips(self.plan.clips(), options)
        counts = self.plan.counts()
        note = self.checkpoint.metadata.get("cloning_note")
        notes = [note] if note and any(True for _ in self.plan.clips()) else []
        self._report_warnings(problems, [*validator.warnings.lines, *notes])
        if counts.failed:
            self.reporter.rejected(self.plan.invalid(), counts.failed)
        problems.refuse()
        if not counts.all:
            raise UsageError("The list has no items.", "Write one text a line.")
        self._report_removed()

    def _read(self, source: ListSource, problems: Problems) -> Iterator[Item]:
        from llasa_cli.batch.manifest import read_manifest

        style = self.checkpoint.style_fields
        return read_manifest(source.open, source.name, source.path.parent, problems, style_fields=style)

    def _earlier_rows(self) -> Iterator[tuple[ByteRange, dict[str, Any]]]:
        """The rows of earlier runs. The same settings continue with the same number of slots, which decides the last bits."""
        for place, row in self.results.rows():
            slots = row.get("batch")
            if self.options.slots is None and row.get("settings") == self._settings and row.get("status") in COMPLETE:
                self._slots = slots if isinstance(slots, int) and slots > 0 else self._slots
            yield place, row

    def _resolve_voice(self, voice: str | None, speaker: str | None) -> ResolvedVoice:
        """The voice that an item names, else that of the command line."""
        if voice is None and speaker is None:
            voice, speaker = self.options.voice, self.options.speaker
        return resolve_voice(voice, speaker, self.checkpoint)

    def _voice_key(self, voice: str | None, speaker: str | None) -> str:
        from llasa_cli.batch.validate import voice_digest

        found = self._find_voice(voice, speaker)
        return voice_digest(found.speaker, found.reference)

    def _report_warnings(self, problems: Problems, more: list[str]) -> None:
        unknown = [
            f"line {line}: the column {name!r} is unknown and ignored" for name, line in problems.unknown.items()
        ]
        for text in [*unknown, *problems.warnings.lines, *more]:
            self.reporter.message(f"warning: {text}")

    def _report_removed(self) -> None:
        from llasa_cli.batch.manifest import Messages

        removed = Messages()
        for path in self.plan.removed():
            removed.add(f"{path} (the file is kept)")
        for text in removed.lines:
            self.reporter.message(f"no longer in the list: {text}")

    # --- with the model ---

    def make(self) -> BatchSummary:
        """Synthesize the missing items, sort the rows, and concatenate the items if one file is wanted."""
        counts = self.plan.counts()
        scheduler = Scheduler(self.plan, self._work_item, self.reporter.message)
        tally = self._tally = scheduler.tally
        facts: dict[str, Any] = {}
        try:
            self._drain(scheduler.invalid())
            self._is_running = True
            if tally.to_make:
                backend = self._start_workers()
                try:
                    self._drain(scheduler.run(backend))
                finally:
                    tally.stop_clock()
                    backend.close()
                    facts = backend.facts()
            self.results.reorder(self.plan.rows_in_order())
        except BaseException:
            if tally.made:
                self.reporter.interrupted(tally)
            raise
        tally.failed_checks = self.plan.failed_checks()
        self._write_missing_words()
        joined, joined_s = self._concatenate(tally)
        accepts = self.options.accept_failed
        if joined is not None and (accepts or not tally.failed_checks):
            self._remove_parts()
        awaited = self.destination.joined if joined is None else None
        return BatchSummary(counts, tally, facts, self.results.path, joined, joined_s, awaited, accepts)

    def _drain(self, settled_items: Iterator[Settled | None]) -> None:
        synced = time.monotonic()
        for settled in settled_items:
            if settled is not None:
                self._record(*settled)
                continue
            self.reporter.progress(self._tally)
            if time.monotonic() - synced > _SYNC_S:
                self.results.sync()
                synced = time.monotonic()
        self.results.sync()

    def _record(self, task: Task, outcome: Completed | Failed) -> None:
        """Write the row of an item, and its word times."""
        row = self._row(task, outcome)
        checks = outcome.checks if isinstance(outcome, Completed) else ()
        self.plan.settle(task.number, self.results.append(row), isinstance(outcome, Completed), bool(checks))
        self._write_words(row, replace_file=True)
        self.reporter.row(row, self._is_running)

    def _start_workers(self) -> WorkerBackend:
        options = self.options
        config = WorkerConfig(
            models=self.checkpoint.options,
            folder=self.destination.folder.resolve(),
            work=self.plan.work.resolve(),
            slots=self._slots,
            verifiers=options.verifiers,
            marks=self.destination.joined is not None or options.timing is not None,
            timing=options.timing,
            engine=options.engine,
            token=self.plan.token,
        )
        self.reporter.stage(f"loading {self.checkpoint.name}")
        return create_backend(options, config)

    def _work_item(self, task: Task) -> WorkItem:
        from llasa_cli.batch.validate import seed_of

        item = task.item
        seed = item.seed if item.seed is not None else self.speech.seed
        voice: Reference | ReferenceFile | None = None
        speaker = None
        if item.ref is not None:
            voice = self._find_clip(item.ref, item.ref_text)
        else:
            found = self._find_voice(item.voice, item.speaker)
            voice, speaker = found.reference, found.speaker
        options = replace(
            self.speech,
            sampling=SamplingRequest(**asdict(self.speech.sampling) | dict(item.sampling)),
            seed=seed if seed is not None else seed_of(task.key, task.path),
            speaker=speaker,
            speed=self.speech.speed if item.speed is None else item.speed,
            style=(*self.speech.style, *(f"{name}={value}" for name, value in item.style)),
        )
        return WorkItem(task.number, item.text, task.path, options, voice)

    def _transcribed_clip(self, path: Path, transcript: str | None) -> ReferenceFile:
        """The clip of an item; one without a transcript is transcribed here once, and not by every worker."""
        from llasa_cli.voices.reference import load_reference

        if transcript is not None:
            return ReferenceFile(path.resolve(), transcript)
        self.transcriber.check()
        return ReferenceFile(path.resolve(), None, self.transcriber.transcribe(load_reference(path, None)))

    def _row(self, task: Task, outcome: Completed | Failed) -> dict[str, Any]:
        """The row of an item in `results.jsonl`. Its fields and their order are a file format."""
        item = task.item
        row: dict[str, Any] = {"id": item.id, "line": item.number}
        made_by = {"model": self.checkpoint.name, "revision": self.checkpoint.revision, "settings": self._settings}
        if isinstance(outcome, Failed):
            return {**row, "path": None, "text": item.text, **made_by, "status": "error", "error": outcome.error}
        row |= {"path": task.path, "text": item.text, "seconds": outcome.seconds, "seed": outcome.seed, **made_by}
        row |= {"checks": list(outcome.checks), "retries": outcome.retries, "wall_s": outcome.wall_s}
        status = "failed_checks" if outcome.checks else "ok"
        row |= {"status": status, "error": None, "key": task.key, "batch": self._tally.slots}
        if outcome.candidates:
            row["chunks"] = list(outcome.candidates)
        if outcome.marks:
            row["marks"] = [
                [mark.begin_s, mark.end_s, list(mark.sentences), *([list(mark.words)] if mark.words else [])]
                for mark in outcome.marks
            ]
        return row

    def _write_missing_words(self) -> None:
        """Write the word times of items that an earlier run made and whose file is not there."""
        if self.options.words is not None and self.destination.joined is None:
            for _, row in self.results.rows():
                self._write_words(row, replace_file=False)

    def _write_words(self, row: dict[str, Any], replace_file: bool) -> None:
        """Write the word times of an item into the folder of --words."""
        from llasa_cli.audio.word_file import WordFile

        folder = self.options.words
        if folder is None or self.destination.joined is not None or not row.get("marks"):
            return
        name, _, ending = row["path"].rpartition(".")
        # Items of one name and several formats have a file each.
        path = folder / f"{name if ending == self.destination.item_format else row['path']}.json"
        if not replace_file and path.exists():
            return
        with os_errors_as(f"{path.parent} can't be created"):
            path.parent.mkdir(parents=True, exist_ok=True)
        with WordFile(path) as file:
            for mark in marks_of(row):
                file.add(mark)

    def _concatenate(self, tally: Tally) -> tuple[Path | None, float]:
        """Write the one file, if it is wanted and no item is missing. -> its path and its seconds"""
        joined = self.destination.joined
        if joined is None or tally.failed:
            return None, 0.0
        from llasa_cli.batch.concatenate import concatenate

        self.reporter.stage("concatenating the items")
        pause_s = ITEM_PAUSE_S if self.options.pause_s is None else self.options.pause_s
        seconds = concatenate(
            lambda: self._parts(tally.all),
            joined,
            self.destination.joined_format,
            pause_s,
            self.options.side_files,
            self.options.loudness,
        )
        return joined, seconds

    def _parts(self, count: int) -> Iterator[Part]:
        """The items of the list; their rows are the first ones of the results."""
        from llasa_cli.batch.concatenate import Part

        for _, row in islice(self.results.rows(), count):
            title = row["id"] if FORMATS[self.destination.joined_format][0] == "MP4" else ""
            yield Part(self.destination.folder / row["path"], marks_of(row), title)

    def _remove_parts(self) -> None:
        """Remove the files of the items after the one file is written."""
        folder = self.destination.folder
        remove_items(folder, (row["path"] for _, row in self.results.rows() if row.get("path")))
        self.plan.close()
        self.results.close()
        remove_items(folder, [self.results.path.name])


def marks_of(row: dict[str, Any]) -> tuple[SpokenPart, ...]:
    """The times in a row of `results.jsonl`: [begin, end, sentences] and, if requested, the words with their times."""
    return tuple(
        SpokenPart(tuple(sentences), begin, end, tuple(WordTime(*word) for words in more for word in words))
        for begin, end, sentences, *more in row.get("marks", ())
    )
