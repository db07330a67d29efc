"""Where the sound of `say` and `clone` goes, with the subtitles beside it; a long text goes where it can go on."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from llasa_cli.cli.common_options import OutputOptions
from llasa_cli.cli.console import Console, as_json, claim_stdout
from llasa_cli.cli.text_input import TextInput
from llasa_cli.errors import UsageError
from llasa_cli.settings import SpeechOptions

if TYPE_CHECKING:
    from llasa_cli.audio.resumable import ResumableSink
    from llasa_cli.audio.sink import Sink
    from llasa_cli.audio.subtitles import SubtitleFile
    from llasa_cli.checkpoint.resolve import Checkpoint
    from llasa_cli.synthesis.synthesizer import Utterance

LONG_BYTES = 20_000
"""About twenty minutes of speech: a text of it is spoken so that it can go on after an interruption."""


@dataclass
class AudioOutput:
    """The open sink, the subtitles beside it, and what earlier runs have made.

    Leaving it finishes all of it; leaving it by an exception leaves nothing behind, or what a long text goes on from.
    """

    sink: Sink
    wishes: OutputOptions
    subtitles: SubtitleFile | None = None
    resumable: ResumableSink | None = None
    report: Console | None = None
    seed: int = 0
    rows: list[dict[str, Any]] = field(default_factory=list)
    """Of `--json`; a book without it is told in flat memory."""
    count: int = 0
    clock_s: float = 0.0
    when_finished: Callable[[], None] | None = None
    """Tells of the result, which there is only once the file is in its place."""

    def write_down(self, take: Utterance) -> None:
        """Note a take that is decided on."""
        begin = self.clock_s + take.pause_s
        self.clock_s = begin + take.seconds
        if self.subtitles is not None and take.sentences:
            self.subtitles.add(take.sentences, begin, self.clock_s)
        self.count += 1
        if self.wishes.json:
            hidden = ("codes", "sentences", "is_voice")
            row = {name: value for name, value in take.to_row().items() if name not in hidden}
            self.rows.append(row | {"begin_s": round(begin, 3)})

    def __enter__(self) -> AudioOutput:
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
        if kind is None and self.when_finished is not None:
            self.when_finished()


def check_places(wishes: OutputOptions, *reads: Path | None) -> None:
    """Refuse to write over what is read: the text, the clip.

    Raises:
        UsageError: They are the same file, or sound and subtitles are.
    """
    from llasa_cli.audio.writers import is_plain_file
    from llasa_cli.files import refuse_overwriting

    sound = Path(wishes.output) if wishes.output is not None and is_plain_file(wishes.output) else None
    refuse_overwriting([sound, wishes.subtitles], reads)


def open_audio_output(
    wishes: OutputOptions,
    source: TextInput,
    wanted: SpeechOptions,
    checkpoint: Checkpoint,
    report: Console,
    voice: str = "",
) -> AudioOutput:
    """Open what the flags ask for.

    Args:
        wanted: Without a seed one is drawn; a run that goes on has the one it began with.
        voice: Stands for a reference among what decides how the text sounds.

    Raises:
        UsageError, LlasaError: What can't be written; see `audio.writers`.
    """
    from llasa_cli.audio.writers import is_standard_output

    if wishes.json and is_standard_output(wishes.output):
        raise UsageError("Audio and JSON can't both go to standard output.", "Name a file with -o.")
    if wishes.output is None and wishes.play is False:
        raise UsageError("--no-play without -o makes nothing.", "Name a file with -o.")
    if wishes.check.recognizer is not None:
        if wishes.stream:
            raise UsageError("What is let out at once can't be verified first.", "Leave out --stream or --verify.")
        from llasa_cli.asr import check_recognizer

        check_recognizer(wishes.check.recognizer)
    from llasa_cli.synthesis.synthesizer import LARGEST_SEED

    seed = wanted.seed if wanted.seed is not None else secrets.randbelow(LARGEST_SEED)
    subtitles = None
    if wishes.subtitles is not None:
        from llasa_cli.audio.subtitles import SubtitleFile

        subtitles = SubtitleFile(wishes.subtitles)
    try:
        if _resumes(wishes, source):
            return _resumable_outlet(
                wishes,
                source,
                seed,
                subtitles,
                report,
                checkpoint,
                [asdict(wanted), asdict(checkpoint.options), voice, wishes.check.recognizer],
            )
        from llasa_cli.audio.writers import open_sink

        play = wishes.play if wishes.play is not None else wishes.output is None
        sink = open_sink(wishes.output, wishes.file_format, play, claim_stdout())
    except BaseException:
        if subtitles is not None:
            subtitles.abort()
        raise
    return AudioOutput(sink, wishes, subtitles, report=report, seed=seed)


def _resumes(wishes: OutputOptions, source: TextInput) -> bool:
    from llasa_cli.audio.writers import is_plain_file

    possible = source.digest is not None and not wishes.play and is_plain_file(wishes.output)
    if wishes.resume and not possible:
        raise UsageError(
            "--resume needs a file to write and a text that can be read again.",
            "Give -o FILE without --play, and the text with -f or as an argument.",
        )
    if wishes.resume is not None:
        return wishes.resume
    assert source.size is not None or not possible
    return possible and (source.size or 0) >= LONG_BYTES


def _resumable_outlet(
    wishes: OutputOptions,
    source: TextInput,
    seed: int,
    subtitles: SubtitleFile | None,
    report: Console,
    checkpoint: Checkpoint,
    settings: list[Any],
) -> AudioOutput:
    from llasa_cli.audio.resumable import ResumableSink
    from llasa_cli.audio.writers import pick_format

    claim_stdout()
    assert wishes.output is not None
    assert source.digest is not None
    kind = pick_format(wishes.output, wishes.file_format)
    key = as_json([*settings, checkpoint.revision, source.markdown, source.digest()])
    sink = ResumableSink(Path(wishes.output), kind, hashlib.sha256(key.encode()).hexdigest(), {"seed": seed})
    return AudioOutput(sink, wishes, subtitles, sink, report, int(sink.facts["seed"]))
