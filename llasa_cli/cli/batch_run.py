"""A list from its first line to its summary: what `batch` does after its flags.

    run_list(options, wanted, models, voice, hearing, report)

The list is looked at whole, everything wrong with it is said at once, and only then is a model loaded.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import cached_property, lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llasa_cli.batch.destination import ListSource, Target, make_folder, remove_items
from llasa_cli.cli.clone import ReferenceTranscriber
from llasa_cli.cli.console import Console, as_json, result
from llasa_cli.cli.progress import Progress
from llasa_cli.cli.voices import ChosenVoice, chosen_voice
from llasa_cli.errors import BatchError, UsageError
from llasa_cli.settings import ENGINES, ITEM_PAUSE_S, BatchOptions, ModelOptions, SamplingRequest, SpeechOptions
from llasa_cli.wording import shorten

if TYPE_CHECKING:
    from llasa_cli.batch.concatenate import Part
    from llasa_cli.batch.messages import Completed, Failed, ReferenceFile, WorkerBackend, WorkerConfig, WorkItem
    from llasa_cli.batch.plan import Plan, Task
    from llasa_cli.batch.results import Results
    from llasa_cli.batch.scheduler import Tally
    from llasa_cli.checkpoint.resolve import Checkpoint
    from llasa_cli.prompt import Reference


@dataclass(frozen=True)
class Voices:
    """The voice of the flags, and those that items name."""

    models: ModelOptions
    voice: str | None = None
    speaker: str | None = None

    def of(self, voice: str | None, speaker: str | None) -> ChosenVoice:
        """An item's own by name, else that of the flags. Raises UsageError for a name that nobody has."""
        if voice is None and speaker is None:
            voice, speaker = self.voice, self.speaker
        return chosen_voice(voice, speaker, self.checkpoint)

    @cached_property
    def checkpoint(self) -> Checkpoint:
        from llasa_cli.checkpoint.resolve import resolve_checkpoint

        return resolve_checkpoint(self.models)


def run_list(
    options: BatchOptions,
    wanted: SpeechOptions,
    models: ModelOptions,
    voices: Voices,
    hearing: ReferenceTranscriber,
    report: Console,
) -> None:
    """Make what the list asks for and is not there yet.

    Raises:
        UsageError: The list can't be read, or another run is at work in the folder.
        BatchError: Some items failed; the rest is done.
        LlasaError: What fails for all of them. What is made stays.
    """
    if options.engine not in ENGINES:
        raise UsageError(f"There is no engine {options.engine!r}.", "Engines: " + ", ".join(ENGINES) + ".")
    if options.ref is not None and (voices.voice is not None or voices.speaker is not None):
        raise UsageError(
            "A clip and a voice are given for the same items.", "Leave out --ref, or --voice and --speaker."
        )
    if options.ref_text is not None and options.ref is None:
        raise UsageError("--ref-text is given without its clip.", "Add --ref; an item has a ref_text of its own.")
    if options.listener is not None:
        from llasa_cli.asr import check_recognizer

        check_recognizer(options.listener)
    target = Target.of(options)
    target.check(options)
    voices.of(None, None)  # what the flags name is everybody's
    with ExitStack() as stack:
        source = stack.enter_context(ListSource(options.source))
        make_folder(target.folder, stack)
        from llasa_cli.batch.plan import Plan
        from llasa_cli.batch.results import Results

        results = stack.enter_context(Results(target.folder))
        plan = stack.enter_context(Plan(target.folder, target.item_format))
        run = _Run(options, wanted, models, voices, hearing, report, target)
        run.survey(source, plan, results)
        if options.dry_run:
            run.tell_plan(plan)
            return
        run.make(plan, results)


# --- the run ---


class _Run:
    def __init__(
        self,
        options: BatchOptions,
        wanted: SpeechOptions,
        models: ModelOptions,
        voices: Voices,
        hearing: ReferenceTranscriber,
        report: Console,
        target: Target,
    ) -> None:
        from llasa_cli.batch.validate import digest
        from llasa_cli.checkpoint.resolve import revision_of

        self._options, self._wanted, self._models = options, wanted, models
        self._voices, self._hearing, self._report, self._target = voices, hearing, report, target
        self._chosen = lru_cache(1000)(voices.of)
        self._revision = voices.checkpoint.revision
        codec = revision_of(voices.checkpoint.codec_folder)
        decides = [asdict(replace(wanted, seed=None)), target.item_format, codec, models.dtype, self._revision]
        self._settings = digest([*decides, options.listener, options.engine])
        self._clip = lru_cache(1000)(self._heard)
        self._slots = options.slots
        self._tally: Tally | None = None
        self._tells = True
        self._is_running = False

    # --- before ---

    def survey(self, source: ListSource, plan: Plan, results: Results) -> None:
        """Look at every line; what is no list is refused, what is wrong with an item is said."""
        from llasa_cli.batch.manifest import Problems, items_of
        from llasa_cli.batch.validate import Settings, Validator

        if self._options.ref is not None:
            from llasa_cli.voices.batch_clips import load_reference

            load_reference(self._options.ref, self._options.ref_text)  # everybody's: refused for all at once
        plan.remember(self._noting_slots(results))
        settings = Settings(self._settings, self._wanted.seed, self._options.ref, self._options.ref_text)
        survey = Validator(plan, settings, self._trace)
        problems = Problems()
        items = items_of(source.open, source.path.suffix.lower(), source.path.parent, problems)
        survey.add_all(items, lambda count: self._report.progress(f"looking at the list: {count} items"))
        self._target.spare(plan.clips(), self._options)
        if problems.count:
            self._tell_bad(plan)
            problems.refuse()
        counts = plan.counts()
        if not counts.all:
            raise UsageError("The list has no items.", "Give one line for each thing to say.")
        self._tell_survey(survey, problems, plan)

    def _noting_slots(self, results: Results) -> Any:
        """Rows of earlier runs; the same model goes on with as many texts at once as it had, so that it says the same."""
        for place, row in results.rows():
            slots = row.get("batch")
            if self._options.slots is None and row.get("settings") == self._settings and row.get("status") == "ok":
                self._slots = slots if isinstance(slots, int) and slots > 0 else self._slots
            yield place, row

    def _trace(self, voice: str | None, speaker: str | None) -> str:
        chosen = self._chosen(voice, speaker)
        from llasa_cli.batch.validate import digest

        return digest([chosen.speaker, None if chosen.reference is None else asdict(chosen.reference)])

    def _tell_survey(self, survey: Any, problems: Any, plan: Plan) -> None:
        for name, line in problems.unknown.items():
            self._report.line(f"warning: line {line}: nothing is made of {name!r}")
        for warning in survey.warnings:
            self._report.line(f"warning: {warning}")
        if survey.warned > len(survey.warnings):
            self._report.line(f"warning: {survey.warned - len(survey.warnings)} more of this kind")
        self._tell_bad(plan)
        self._tell_removed(plan)

    def _tell_bad(self, plan: Plan) -> None:
        """The first few items that can't be made, and how many there are."""
        from llasa_cli.batch.manifest import SHOWN

        for count, task in enumerate(plan.bad()):
            if count < SHOWN:
                self._report.line(f"error: line {task.item.number} ({shorten(task.item.text)}): {task.problem}")
        counts = plan.counts()
        if counts.failed > SHOWN:
            self._report.line(f"error: and {counts.failed - SHOWN} more")

    def _tell_removed(self, plan: Plan) -> None:
        from llasa_cli.batch.manifest import SHOWN

        removed = 0
        for path in plan.removed():
            removed += 1
            if removed <= SHOWN:
                self._report.line(f"no longer in the list: {path} (it stays)")
        if removed > SHOWN:
            self._report.line(f"no longer in the list: {removed - SHOWN} more")

    def tell_plan(self, plan: Plan) -> None:
        """`--dry-run`."""
        from llasa_cli.cli.speak import SECONDS_A_CHARACTER

        counts = plan.counts()
        hours = counts.characters * SECONDS_A_CHARACTER / 3600
        self._report.line(
            f"{counts.all} items: {counts.to_make} to make (about {hours:.1f} h of speech), {counts.there} are there, "
            f"{counts.failed} can't be made"
        )
        if self._options.json:
            result(as_json({"plan": asdict(counts)}))
        if counts.failed:
            raise BatchError(f"{counts.failed} of {counts.all} items can't be made.", "Nothing was made: --dry-run.")

    # --- making ---

    def make(self, plan: Plan, results: Results) -> None:
        """Speak what is to be made, put the rows in order, and tell."""
        from llasa_cli.batch.scheduler import Scheduler

        progress = Progress(self._report)
        drive = Scheduler(plan, results, self._piece, self._row, self._tell_row, self._report.line, progress.show)
        facts: dict[str, Any] = {}
        self._tally = drive.tally
        try:
            drive.fail_bad()  # they have been told already
            self._is_running = True
            if drive.tally.to_make:
                crew = self._crew(plan)
                try:
                    drive.run(crew)
                finally:
                    crew.close()
                    facts = crew.facts()
            results.put_in_order(plan.rows_in_order())
        except BaseException:
            if drive.tally.made:
                self._report.line(f"{progress.closing(drive.tally)}; the same command goes on from there")
            raise
        seconds = self._join(results, drive.tally)
        self._report.line(progress.closing(drive.tally))
        self._summary(drive.tally, facts, seconds)
        if drive.tally.failed:
            hint = f"{results.path} says why."
            if self._target.joined is not None:  # a book without one of its chapters is none
                hint += f"\n       {self._target.joined} is not written without them; once the list is mended, the same command goes on."
            raise BatchError(f"{drive.tally.failed} of {drive.tally.all} items failed.", hint)
        if self._target.joined is not None:
            remove_items(self._target.folder, (row["path"] for _, row in results.rows() if row.get("path")))
            plan.close()
            results.close()
            remove_items(self._target.folder, [results.path.name])

    def _crew(self, plan: Plan) -> WorkerBackend:
        from llasa_cli.batch.messages import WorkerConfig

        options = self._options
        orders = WorkerConfig(
            models=self._models,
            folder=self._target.folder.resolve(),
            work=plan.work.resolve(),
            slots=self._slots,
            listener=options.listener,
            language=options.language,
            marks=self._target.joined is not None,
            engine=options.engine,
            token=plan.token,
        )
        self._report.stage(f"loading {self._models.model}")
        return crew_of(options, orders)

    def _piece(self, task: Task) -> WorkItem:
        from llasa_cli.batch.messages import WorkItem
        from llasa_cli.batch.validate import seed_of

        item = task.item
        seed = item.seed if item.seed is not None else self._wanted.seed
        voice: Reference | ReferenceFile | None = None
        speaker = None
        if item.ref is not None:
            voice = self._clip(item.ref, item.ref_text)
        else:
            chosen = self._chosen(item.voice, item.speaker)
            voice, speaker = chosen.reference, chosen.speaker
        sampling = SamplingRequest(**asdict(self._wanted.sampling) | dict(item.sampling))
        own = replace(
            self._wanted,
            sampling=sampling,
            seed=seed if seed is not None else seed_of(task.key, task.path),
            speaker=speaker,
        )
        return WorkItem(task.number, item.text, task.path, own, voice)

    def _heard(self, path: Path, transcript: str | None) -> ReferenceFile:
        """A clip whose words nobody gave is heard once."""
        from llasa_cli.batch.messages import ReferenceFile
        from llasa_cli.voices.batch_clips import load_reference

        if transcript is not None:
            return ReferenceFile(path.resolve(), transcript)
        self._hearing.check()
        return ReferenceFile(path.resolve(), None, self._hearing.hear(load_reference(path, None)))

    # --- telling ---

    def _row(self, task: Task, event: Completed | Failed) -> dict[str, Any]:
        from llasa_cli.batch.messages import Completed

        item = task.item
        row: dict[str, Any] = {"id": item.id, "line": item.number}
        made_by = {"model": self._models.model, "revision": self._revision, "settings": self._settings}
        if not isinstance(event, Completed):
            return {**row, "path": None, "text": item.text, **made_by, "status": "error", "error": event.error}
        row |= {"path": task.path, "text": item.text, "seconds": event.seconds, "seed": event.seed, **made_by}
        row |= {"checks": list(event.checks), "retries": event.retries, "wall_s": event.wall_s}
        row |= {"status": "ok", "error": None, "key": task.key, "batch": self._tally.slots if self._tally else 0}
        if event.marks:
            row["marks"] = [[begin, end, list(sentences)] for begin, end, sentences in event.marks]
        return row

    def _tell_row(self, row: dict[str, Any]) -> None:
        for problem in row.get("checks", ()):
            self._report.line(f"warning: line {row['line']} ({shorten(row['text'])}): {problem}")
        if row["status"] == "ok":
            self._report.detail(
                f"line {row['line']}: {row['seconds']:.1f} s, seed {row['seed']}, "
                f"{row['retries']} retries: {shorten(row['text'])}"
            )
        if row["status"] != "ok" and self._is_running:
            self._report.line(f"error: line {row['line']} ({shorten(row['text'])}): {row['error']}")
        if self._options.json:
            self._result(as_json(row))
        elif row["status"] == "ok" and self._target.joined is None:
            self._result(str(self._target.folder / row["path"]))

    def _result(self, text: str) -> None:
        """Files are what is made; who listens for their names may have heard enough."""
        if not self._tells:
            return
        self._report.clear()
        try:
            result(text)
        except BrokenPipeError:
            self._tells = False

    def _join(self, results: Results, tally: Tally) -> float | None:
        """All items as one file, where that is asked for and all of them are there."""
        if self._target.joined is None or tally.failed:
            return None
        from llasa_cli.batch.concatenate import join

        self._report.stage("putting the items together")
        options = self._options
        parts = _parts(results, self._target.folder, tally.all)
        pause_s = ITEM_PAUSE_S if options.pause_s is None else options.pause_s
        return join(parts, self._target.joined, self._target.joined_format, pause_s, options.subtitles)

    def _summary(self, tally: Tally, facts: dict[str, Any], joined_s: float | None) -> None:
        if self._target.joined is not None and joined_s is not None:
            self._report.line(f"{joined_s:.1f} s of speech with pauses: {self._target.joined}")
            if not self._options.json:
                self._result(str(self._target.joined))
        if self._options.json:
            joined = None if joined_s is None else str(self._target.joined)
            self._result(as_json({"summary": Progress.facts(tally) | facts | {"path": joined}}))


def _parts(results: Results, folder: Path, count: int) -> Iterator[Part]:
    """The rows of the list's items stand first, in its order."""
    from llasa_cli.batch.concatenate import Part

    for _, row in islice(results.rows(), count):
        marks = tuple((begin, end, tuple(sentences)) for begin, end, sentences in row.get("marks", ()))
        yield Part(folder / row["path"], marks)


def crew_of(options: BatchOptions, orders: WorkerConfig) -> WorkerBackend:
    """Who speaks: a thread of this process, processes, or actors of a Ray cluster.

    Raises:
        UsageError: Flags that don't go together.
    """
    if options.ray is None and options.devices is None and options.workers in (None, 1):
        from llasa_cli.batch.thread_backend import ThreadBackend

        return ThreadBackend(orders)
    from llasa_cli.batch.process_backend import ProcessBackend, devices_of

    if options.ray is not None:
        from llasa_cli.batch.ray_backend import RayBackend

        if options.devices is not None:
            raise UsageError("--devices is for this machine; --ray shares out what the cluster has.", "Leave one out.")
        return RayBackend(orders, options.ray, options.workers)
    return ProcessBackend(orders, devices_of(options.devices, orders.models.device, options.workers or 1))
