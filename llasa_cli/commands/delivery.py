"""What `say` and `clone` share after their flags: the text's source, the outlets of the sound, and the way between them.

    source = text_source(arguments, file, "say", markdown)     refused here when there is nothing to say
    with open_outlet(wishes, source, key) as outlet:           refused here when it can't go there
        speech = load_speech(...)
        deliver(speech, source, wanted, reference, outlet, report)

All that can be refused is refused before a model is loaded.
"""

from __future__ import annotations

import hashlib
import secrets
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from llasa_cli.commands.report import Report, as_json, claim_stdout, result, speed
from llasa_cli.errors import UsageError
from llasa_cli.settings import ModelOptions, SpeechOptions

if TYPE_CHECKING:
    import numpy as np

    from llasa_cli.audio.resumable import ResumableSink
    from llasa_cli.audio.sinks import Sink
    from llasa_cli.audio.subtitles import SubtitleFile
    from llasa_cli.protocol import Reference
    from llasa_cli.speech import Speech, Take

WRITER_PAUSE_S = 0.1
"""A line that stands alone for so long was meant to be spoken, even if no mark ends it."""
LONG_CHARACTERS = 20_000
"""About twenty minutes of speech: a file of it is made so that it can go on after an interruption."""
SECONDS_A_CHARACTER = 0.08
"""English is read at 0.055 to 0.09."""
MARKDOWN_ENDINGS = (".md", ".markdown", ".mdown", ".mkd")


# --- the text ---


@dataclass(frozen=True)
class Source:
    """Where the text comes from.

    Attributes:
        parts: Of the text, as they become known.
        size: Bytes, or None for a pipe, which nobody knows the end of.
        markdown: Whether it is Markdown.
        digest: Of the whole text; for a pipe there is none.
    """

    parts: Iterable[str]
    size: int | None
    markdown: bool
    digest: Callable[[], str] | None = None


def text_source(text: list[str] | None, file: str | None, command: str, markdown: bool | None = None) -> Source:
    """The text of the arguments, of a file, or of standard input as it arrives.

    Raises:
        UsageError: No text, two texts, an empty one, or a file that can't be read.
    """
    if text and file:
        raise UsageError("There is text in the arguments and a file as well.", "Give one of them.")
    if text and text != ["-"]:
        whole = _not_empty(" ".join(text), "The text")
        return Source([whole], len(whole.encode(errors="replace")), bool(markdown), lambda: _digest([whole]))
    if file is not None and file != "-":
        path = Path(file)
        if markdown is None:
            markdown = path.suffix.lower() in MARKDOWN_ENDINGS
        return _file_source(path, markdown)
    if sys.stdin is None or (sys.stdin.isatty() and file is None and text is None):
        raise UsageError(
            "There is no text.",
            f'llasa {command} "Good evening." -o evening.wav\n       llasa {command} -f chapter.txt',
        )
    return Source(_piped(), None, bool(markdown))


def _file_source(path: Path, markdown: bool) -> Source:
    from llasa_cli.text.stream import parts_of_file

    try:
        size = path.stat().st_size
        if not path.is_file():  # <(command): it can be read once, and nobody knows how long it is
            parts = parts_of_file(path)
            return Source(_with_words(parts, str(path)), None, markdown)
        _has_words(parts_of_file(path), str(path))
        return Source(parts_of_file(path), size, markdown, lambda: _digest(parts_of_file(path)))
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}.") from error


def _digest(parts: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode(errors="replace"))
    return digest.hexdigest()


def _piped() -> Iterator[str]:
    """Standard input, sentence by sentence; refused before anything is loaded when it is empty."""
    from llasa_cli.text.stream import sentences_of

    pipe = sys.stdin.buffer
    read = pipe.read1 if hasattr(pipe, "read1") else pipe.read
    return _with_words(sentences_of(read, _is_more_waiting), "The text")


def _with_words(parts: Iterator[str], name: str) -> Iterator[str]:
    """The same parts, the first of which is there."""
    first = next(parts, None)
    if first is None:
        raise UsageError(f"{name} is empty.", "Give it words.")

    def all_parts() -> Iterator[str]:
        yield first
        yield from parts

    return all_parts()


def _is_more_waiting() -> bool:
    """Whether standard input goes on at once; a moment is allowed for a writer that writes in pieces."""
    import select

    try:
        return bool(select.select([sys.stdin.buffer], [], [], WRITER_PAUSE_S)[0])
    except (OSError, ValueError):
        return False  # Windows can't ask a pipe; a test's stream has no descriptor


def _not_empty(text: str, name: str) -> str:
    _has_words([text], name)
    return text


def _has_words(parts: Iterable[str], name: str) -> None:
    empty = True
    for part in parts:
        if any(character.isalnum() for character in part):
            return
        empty = empty and not part.strip()
    raise UsageError(f"{name} is empty." if empty else f"{name} has nothing to say in it.", "Give it words.")


# --- where the sound goes ---


@dataclass(frozen=True)
class Wishes:
    """The flags about output."""

    output: str | None = None
    file_format: str | None = None
    play: bool | None = None
    subtitles: Path | None = None
    resume: bool | None = None
    """None: for long texts that go to a file."""
    stream: bool | None = None
    """Sound while its sentence is still being made; None: when it is played."""
    json: bool = False
    listener: str | None = None
    """A recogniser that has to find the words of each take."""


@dataclass
class Outlet:
    """The open sink, the subtitles beside it, and what earlier runs have made.

    Leaving it finishes all of it; leaving it by an exception leaves nothing behind, or what a long text goes on from.
    """

    sink: Sink
    wishes: Wishes
    subtitles: SubtitleFile | None = None
    resumable: ResumableSink | None = None
    report: Report | None = None
    seed: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)
    """Of `--json`; a book without it is told in flat memory."""
    count: int = 0
    clock_s: float = 0.0

    def write_down(self, take: Take) -> None:
        """Note a take that is decided on."""
        begin = self.clock_s + take.pause_s
        self.clock_s = begin + take.seconds
        if self.subtitles is not None and take.sentences:
            self.subtitles.add(take.sentences, begin, self.clock_s)
        self.count += 1
        if self.wishes.json:
            hidden = ("codes", "sentences", "is_voice")
            row = {name: value for name, value in asdict(take).items() if name not in hidden}
            self.rows.append(row | {"begin_s": round(begin, 3)})

    def __enter__(self) -> Outlet:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        subtitles, kept = self.subtitles, self.resumable
        if kind is not None and kept is not None and kept.count and self.report is not None:
            self.report.line(
                f"{kept.seconds / 60:.1f} min of speech stay in {kept.folder}: the same command goes on from there"
            )
        try:
            # The sound first: subtitles of what could not be finished are of no use.
            self.sink.__exit__(kind, error, trace)
        except BaseException:
            if subtitles is not None:
                subtitles.abort()
            raise
        if subtitles is not None:
            subtitles.__exit__(kind, error, trace)


def open_outlet(
    wishes: Wishes, source: Source, wanted: SpeechOptions, models: ModelOptions, report: Report, voice: str = ""
) -> Outlet:
    """Open what the flags ask for.

    Args:
        wanted: Without a seed one is drawn; a run that goes on has the one it began with.
        voice: Stands for a reference among what decides how the text sounds.

    Raises:
        UsageError, LlasaError: What can't be written; see `audio.sinks`.
    """
    from llasa_cli.audio.sinks import is_standard_output

    if wishes.json and is_standard_output(wishes.output):
        raise UsageError("Audio and JSON can't both go to standard output.", "Name a file with -o.")
    if wishes.output is None and wishes.play is False:
        raise UsageError("--no-play without -o makes nothing.", "Name a file with -o.")
    if wishes.listener is not None:
        if wishes.stream:
            raise UsageError("What is let out at once can't be verified first.", "Leave out --stream or --verify.")
        from llasa_cli.asr import check_listener

        check_listener(wishes.listener)
    from llasa_cli.speech import LARGEST_SEED

    seed = wanted.seed if wanted.seed is not None else secrets.randbelow(LARGEST_SEED)
    subtitles = None
    if wishes.subtitles is not None:
        from llasa_cli.audio.subtitles import SubtitleFile

        subtitles = SubtitleFile(wishes.subtitles)
    try:
        if _resumes(wishes, source):
            return _resumable_outlet(wishes, source, seed, subtitles, report, [asdict(wanted), asdict(models), voice])
        from llasa_cli.audio.sinks import open_sink

        play = wishes.play if wishes.play is not None else wishes.output is None
        sink = open_sink(wishes.output, wishes.file_format, play, claim_stdout())
    except BaseException:
        if subtitles is not None:
            subtitles.abort()
        raise
    return Outlet(sink, wishes, subtitles, report=report, seed=seed)


def _resumes(wishes: Wishes, source: Source) -> bool:
    from llasa_cli.audio.sinks import is_plain_file

    possible = source.digest is not None and not wishes.play and is_plain_file(wishes.output)
    if wishes.resume and not possible:
        raise UsageError(
            "--resume needs a file to write and a text that can be read again.",
            "Give -o FILE without --play, and the text with -f or as an argument.",
        )
    if wishes.resume is not None:
        return wishes.resume
    assert source.size is not None or not possible
    return possible and (source.size or 0) >= LONG_CHARACTERS


def _resumable_outlet(
    wishes: Wishes, source: Source, seed: int, subtitles: SubtitleFile | None, report: Report, settings: list[Any]
) -> Outlet:
    from llasa_cli.audio.resumable import ResumableSink
    from llasa_cli.audio.sinks import pick_format
    from llasa_cli.hub.cache import find_model, revision_of

    claim_stdout()
    assert wishes.output is not None
    assert source.digest is not None
    kind = pick_format(wishes.output, wishes.file_format)
    revision = revision_of(find_model(settings[1]["model"]))
    key = as_json([*settings, revision, source.markdown, source.digest()])
    sink = ResumableSink(Path(wishes.output), kind, hashlib.sha256(key.encode()).hexdigest(), {"seed": seed})
    return Outlet(sink, wishes, subtitles, sink, report, int(sink.facts["seed"]))


# --- from one to the other ---


def load_speech(options: ModelOptions, report: Report, speaker: str | None = None) -> Speech:
    """Load the model; `speaker` is refused before its weights are read."""
    import os

    from llasa_cli.speech import Speech

    speech = Speech.load(options, report.stage, speaker)
    if speech.model.is_small and "OMP_NUM_THREADS" not in os.environ:
        import torch

        # Its steps take microseconds: threads wait for each other longer than they work, the more so on a busy machine.
        torch.set_num_threads(1)
    return speech


def deliver(
    speech: Speech,
    source: Source,
    wanted: SpeechOptions,
    reference: Reference | None,
    outlet: Outlet,
    report: Report,
    language: str | None = None,
) -> None:
    """Speak the source into the outlet, telling how it goes; the outlet is closed by its owner.

    Args:
        language: Of the text, for the recogniser; None leaves it to it.
    """
    wanted = replace(wanted, seed=outlet.seed, markdown=source.markdown)
    decided: list[Take] = []
    began = time.monotonic()
    seconds = 0.0

    live = _Listening(outlet.sink) if _is_live(outlet.wishes) else None

    def on_take(take: Take) -> None:
        decided.append(take)
        if take.streamed:
            settle()  # its sound has been written

    def settle() -> None:
        """The takes whose sound has all been written."""
        while decided:
            take = decided.pop(0)
            outlet.write_down(take)
            if live is not None and take.text and not take.streamed:
                live.made(take)
            if outlet.resumable is not None:
                outlet.resumable.commit(_remembered(take))
            tell_take(take, outlet.count, report)
            outlet.sink.flush()

    def note(text: str) -> None:
        report.line(f"warning: {text}")

    check = None
    if outlet.wishes.listener is not None:
        report.stage("loading the recogniser")
        check = _word_check(outlet.wishes.listener, speech, language)
    report.stage("speaking")
    after = _taken_up(outlet, report)
    already_s = outlet.clock_s
    chunks = speech.say(source.parts, wanted, reference, on_take, on_note=note, check=check, live=live, after=after)
    for chunk in chunks:
        outlet.sink.write(chunk)
        settle()
        seconds += chunk.seconds
        report.progress(speed(seconds, time.monotonic() - began) + (f", {already_s:.0f} s before" if already_s else ""))
    settle()
    wall_s = time.monotonic() - began
    output = outlet.wishes.output
    report.line(f"{speed(seconds, wall_s)}, seed {outlet.seed}" + (f": {output}" if output not in (None, "-") else ""))
    if outlet.wishes.json:
        result(as_json(summary(outlet, wall_s, wanted, speech)))


def _word_check(listener: str, speech: Speech, language: str | None) -> Callable[[str, np.ndarray], tuple[str, ...]]:
    from llasa_cli.asr import load_listener
    from llasa_cli.text.words import word_problems

    loaded = load_listener(listener)
    return lambda text, samples: word_problems(text, loaded.hear(samples, speech.sampling_rate, language))


def _is_live(wishes: Wishes) -> bool:
    """What is only written gains nothing from being cut into windows."""
    if wishes.listener is not None:
        return False
    plays = wishes.play if wishes.play is not None else wishes.output is None
    return plays if wishes.stream is None else wishes.stream


class _Listening:
    """When whoever plays the sound needs it at once, and when there is time to make a passage whole and check it."""

    def __init__(self, sink: Sink) -> None:
        from llasa_cli.audio.pacing import Pacing

        self._sink = sink
        self._pacing = Pacing()
        self.watch, self.hold = self._pacing.watch, self._pacing.hold

    def made(self, take: Take) -> None:
        """A passage that was made whole tells a speed too."""
        self._pacing.add(take.seconds, take.wall_s / take.tries)

    def wants(self, text: str) -> bool:
        from llasa_cli.text.chunks import width

        speed = self._pacing.speed
        if speed is None or not self._pacing.is_fast():
            return speed is None
        # A second try must fit in as well.
        return self._sink.waiting_s * speed < 2 * SECONDS_A_CHARACTER * width(text)


def _remembered(take: Take) -> dict[str, Any]:
    """A take as a long text's folder keeps it. The codes only of the one that the others are to sound like."""
    row = asdict(take)
    if not take.is_voice:
        row["codes"] = []
    return row


def _taken_up(outlet: Outlet, report: Report) -> Any:
    """Count in what earlier runs have said."""
    from llasa_cli.protocol import Reference
    from llasa_cli.speech import Continued, Take

    if outlet.resumable is None or not outlet.resumable.earlier:
        return Continued()
    voice = None
    for row in outlet.resumable.earlier:
        fields: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in row.items()}
        take = Take(**fields)
        outlet.write_down(take)
        if take.is_voice:
            voice = Reference(take.text, take.codes)
    count = outlet.resumable.count
    outlet.resumable.earlier.clear()
    report.line(f"going on after {outlet.clock_s / 60:.1f} min of speech ({count} passages)")
    return Continued(count, voice)


def tell_take(take: Take, number: int, report: Report) -> None:
    """A line for a take that is still wrong; with --verbose one for each."""
    if not take.text:
        return
    if take.problems:
        report.line(f"warning: chunk {number} ({shorten(take.text)}): {'; '.join(take.problems)}; {take.tries} tries")
    again = f", again after: {'; '.join(take.retried)}" if take.retried else ""
    report.detail(f"chunk {number}: {shorten(take.text)}: {speed(take.seconds, take.wall_s)}, seed {take.seed}{again}")


def shorten(text: str) -> str:
    return repr(text if len(text) <= 40 else text[:37] + "...")


def summary(outlet: Outlet, wall_s: float, wanted: SpeechOptions, speech: Speech) -> dict[str, Any]:
    """What `--json` prints."""
    made_by = {"model": speech.name, "revision": speech.revision}
    return {
        "path": outlet.wishes.output,
        **made_by,
        "seconds": round(outlet.clock_s, 3),
        "wall_s": round(wall_s, 3),
        "sampling_rate": speech.sampling_rate,
        "seed": outlet.seed,
        "sampling": asdict(speech.sampling(wanted.sampling)),
        "chunks": [row | made_by for row in outlet.rows],
    }
