"""The open output of `say`, `clone` and `chat`: a sink, subtitles and word times, and the state from which a long text resumes."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llasa_cli.cli.common_options import OutputOptions
from llasa_cli.cli.console import Console, as_json, claim_stdout
from llasa_cli.cli.speech_plan import LONG_BYTES, SpeechPlan
from llasa_cli.cli.text_input import TextInput
from llasa_cli.errors import UsageError
from llasa_cli.settings import LARGEST_SEED, SpeechOptions, VerifierOptions
from llasa_cli.wording import format_clock, shorten

if TYPE_CHECKING:
    from llasa_cli.audio.audiobook import BookWriter
    from llasa_cli.audio.resumable import ResumableSink
    from llasa_cli.audio.side_file import SideFile
    from llasa_cli.audio.sink import Sink
    from llasa_cli.synthesis.utterance import Utterance
    from llasa_cli.voices.resolve import ResolvedVoice

MOST_RETRIES_LISTED = 20
"""The number of retried chunks that are listed at the end; the rest are only counted."""
CHAPTER_FORMAT = "mp3"
"""The format of the files in a folder, unless --format names another."""


@dataclass
class AudioOutput:
    """The open sink, the files beside it, and the utterances of earlier runs.

    On exit all files are finished. On exit by an exception only the state from which a long text resumes is kept.
    """

    sink: Sink
    plan: SpeechPlan
    console: Console
    side_files: list[SideFile] = field(default_factory=list)
    """Subtitles and word times."""
    resumable: ResumableSink | None = None
    seed: int = 0
    writer: BookWriter | None = None
    """Writes the finished file where it has chapters, a cover or a loudness."""
    rows: list[dict[str, Any]] = field(default_factory=list)
    """One for each chunk, with `--json` only, so that a book takes flat memory without it."""
    count: int = 0
    failed: int = 0
    """Chunks that still fail their checks after the last retry."""
    clock_s: float = 0.0
    """Seconds of sound so far."""
    words: int = 0
    chapters: int = 0
    """Chapters so far, those of earlier runs included; `words` likewise."""
    retry_lines: list[str] = field(default_factory=list)
    """The times and texts of the first MOST_RETRIES_LISTED chunks that were generated again, for a person to listen to."""
    retried: int = 0
    """The number of chunks that were generated again."""
    on_finished: Callable[[], None] | None = None
    """Called when the file is in its place; reports the result."""

    def record(self, utterance: Utterance) -> tuple[float, float]:
        """Count a final utterance. Returns its begin and its end in seconds."""
        begin = self.clock_s + utterance.pause_s
        if utterance.chapter and self.writer is not None:
            from llasa_cli.audio.mp4 import ChapterStart

            self.writer.chapters.append(ChapterStart(begin if self.writer.chapters else 0.0, utterance.chapter))
        self.clock_s = begin + utterance.seconds
        if self.side_files and utterance.sentences:
            from llasa_cli.audio.side_file import SpokenPart

            part = SpokenPart(utterance.sentences, begin, self.clock_s, utterance.words, utterance.voice)
            for file in self.side_files:
                file.add(part)
        self.count += 1
        self.failed += bool(utterance.problems)
        self.words += sum(len(sentence.split()) for sentence in utterance.sentences)
        self.chapters += bool(utterance.chapter)
        if utterance.retried and utterance.attempts > self.plan.speech.best_of:  # more attempts than takes
            self._add_retry(utterance, begin)
        if self.plan.output.json:
            hidden = ("codes", "sentences", "is_voice", "words")
            row = {name: value for name, value in utterance.to_row().items() if name not in hidden}
            if not utterance.candidates:
                del row["candidates"], row["chosen_because"]
            self.rows.append(row | {"begin_s": round(begin, 3)})
        return begin, self.clock_s

    def _add_retry(self, utterance: Utterance, begin: float) -> None:
        self.retried += 1
        if len(self.retry_lines) < MOST_RETRIES_LISTED:
            outcome = "still fails" if utterance.problems else "passes now"
            reasons = "; ".join(dict.fromkeys(utterance.retried))
            where = f"{format_clock(begin)} to {format_clock(self.clock_s)}"
            self.retry_lines.append(f"{where} ({shorten(utterance.text)}): {reasons}; {outcome}")

    def __enter__(self) -> AudioOutput:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        kept = self.resumable
        if kind is not None and kept is not None and kept.count:
            self.console.line(
                f"{kept.seconds / 60:.1f} min of speech are kept in {kept.folder}; the same command resumes from there"
            )
        try:
            # The sound comes first: subtitles are useless without it.
            self.sink.__exit__(kind)
            for file in self.side_files:
                file.__exit__(kind)
        except BaseException:
            for file in self.side_files:
                file.abort()
            raise
        if kind is None and self.on_finished is not None:
            self.on_finished()


def check_paths(options: OutputOptions, *inputs: Path | None) -> None:
    """Refuse to overwrite an input: the text, or the clip.

    Raises:
        UsageError: An output is an input, or two outputs are the same file.
    """
    from llasa_cli.audio.writers import is_plain_file
    from llasa_cli.files import refuse_overwriting

    sound = Path(options.output) if options.output is not None and is_plain_file(options.output) else None
    refuse_overwriting([sound, options.subtitles, options.words], inputs)


def open_audio_output(plan: SpeechPlan, console: Console, voice: str) -> AudioOutput:
    """Open the sink and the files beside it that the options ask for. A resumed run has the seed that it began with.

    Args:
        voice: Identifies the voice among the settings that a resumed run must share.

    Raises:
        UsageError, LlasaError: The output can't be written; see `audio.writers`.
    """
    options, source = plan.output, plan.source
    _refuse_contradictions(options, plan.speech)
    from llasa_cli.prompt import parse_style

    parse_style(plan.speech.style, plan.model.checkpoint.style_fields)
    from llasa_cli.audio.beside import open_side_files
    from llasa_cli.audio.resumable import ResumableSink
    from llasa_cli.audio.sink import TeeSink
    from llasa_cli.audio.writers import open_sink, pick_format

    seed = plan.speech.seed if plan.speech.seed is not None else secrets.randbelow(LARGEST_SEED)
    side_files = open_side_files(*options.side_files)
    try:
        kept = _is_resumable(options, source)
        writer = _book_writer(options, source)
        if not kept and writer is None:
            sink = open_sink(options.output, options.file_format, plan.plays, claim_stdout(), options.audio_device)
            return AudioOutput(sink, plan, console, side_files, seed=seed)
        # A missing device is an error before anything is written.
        player = open_sink(None, None, True, audio_device=options.audio_device) if plan.plays else None
        digest = _digest(plan, voice) if kept else ""
        claim_stdout()
        assert options.output is not None
        path, kind = Path(options.output), options.file_format
        if writer is not None:
            path, kind = writer.path, writer.file_format
        stored = ResumableSink(path, pick_format(str(path), kind), digest, {"seed": seed}, writer, kept)
        if kept:
            return AudioOutput(stored, plan, console, side_files, stored, int(stored.facts["seed"]), writer)
        both = stored if player is None else TeeSink([stored, player])
        return AudioOutput(both, plan, console, side_files, seed=seed, writer=writer)
    except BaseException:
        for file in side_files:
            file.abort()
        raise


def voice_key(voice: ResolvedVoice) -> str:
    """Identifies a voice among the settings of a resumable run.

    Its form must not change: a run that was stopped before an update resumes after it.
    """
    return f"ChosenVoice(speaker={voice.speaker!r}, reference={voice.reference!r}, language={voice.language!r})"


def _digest(plan: SpeechPlan, voice: str) -> str:
    """Identifies the text and the settings that a resumed run must share. The form of the settings must not change."""
    model, check, verifiers = plan.model.checkpoint, plan.output.check, plan.verifiers
    voices = voice + (plan.cast.key if plan.cast is not None else "")
    key = [*_speech_key(plan.speech, verifiers), asdict(model.options), voices, verifiers.recognizer]
    key += [model.revision, plan.source.markdown]
    if check.choose_by or (check.verify and not verifiers):  # a server's verifiers
        key.append(check.judging)
    if plan.timing is not None:  # the words of the chunks that are kept
        key.append(asdict(plan.timing))
    return hashlib.sha256(as_json([*key, plan.source.digest()]).encode()).hexdigest()


def _speech_key(speech: SpeechOptions, verifiers: VerifierOptions) -> list[Any]:
    values = asdict(speech)
    for name in ("style", "search"):
        if not values[name]:
            del values[name]
    best_of = {name: values.pop(name) for name in ("best_of", "good_enough", "candidate")}
    later = {name: values.pop(name) for name in ("speed", "lexicon")}
    more = [later] if speech.speed != 1 or speech.lexicon else []
    return [values, *more] if speech.best_of == 1 else [values, best_of, asdict(verifiers), *more]


def _refuse_contradictions(options: OutputOptions, speech: SpeechOptions) -> None:
    from llasa_cli.audio.writers import is_standard_output

    if options.json and is_standard_output(options.output):
        raise UsageError("Audio and JSON can't both go to standard output.", "Name a file with -o.")
    if speech.speed != 1:
        from llasa_cli.audio.pyav import check_pyav

        check_pyav("for --speed")
    if options.output is None and options.play is False:
        raise UsageError("--no-play without -o produces nothing.", "Name a file with -o.")
    if options.stream and (options.check.verify or speech.best_of > 1):
        flag = "--verify" if options.check.verify else "--best-of"
        raise UsageError(f"{flag} needs a whole chunk and excludes --stream.", "Leave out one of them.")


def _is_resumable(options: OutputOptions, source: TextInput) -> bool:
    from llasa_cli.audio.writers import is_plain_file

    possible = source.reread is not None and not options.play and is_plain_file(options.output)
    if options.resume and not possible:
        raise UsageError(
            "--resume needs an output file and a text that can be read again.",
            "Give -o FILE without --play, and the text with -f or as an argument.",
        )
    if options.resume is not None:
        return options.resume
    return possible and (source.size or 0) >= LONG_BYTES


def _book_writer(options: OutputOptions, source: TextInput) -> BookWriter | None:
    """The writer of a file that takes a second pass over the finished sound; None for other outputs.

    Raises:
        UsageError: The output does not support an option.
    """
    from llasa_cli.audio.audiobook import BookWriter
    from llasa_cli.audio.formats import FORMATS
    from llasa_cli.audio.mp4 import BookTags
    from llasa_cli.audio.writers import is_plain_file, pick_format

    output = options.output
    if output is None or not is_plain_file(output):
        if options.loudness is not None:
            raise UsageError("--loudness needs an output file.", "Name one with -o.")
        return None
    is_folder = os.path.isdir(output) or output.endswith(("/", os.sep))
    if is_folder and source.book is None:
        raise UsageError(f"{output} is a folder, and only a book is written to one.", "Give the name of a file in it.")
    kind = (
        pick_format(None, options.file_format or CHAPTER_FORMAT)
        if is_folder
        else pick_format(output, options.file_format)
    )
    if not is_folder and options.loudness is None and FORMATS[kind][0] != "MP4":
        return None
    book = source.book
    tags = BookTags(book.title, book.author, book.cover) if book is not None else BookTags()
    # A folder needs a name: "." has none.
    path = Path(os.path.abspath(output)) if is_folder else Path(output)
    return BookWriter(path, kind, options.loudness, tags, is_folder=is_folder)
