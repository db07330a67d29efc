"""Options that several commands share and that only the command line reads; those of the engine are in `settings`."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from llasa_cli.audio.formats import FILE_FORMATS, FORMATS
from llasa_cli.batch.options import SchedulingOptions
from llasa_cli.cli.flags import Parsed
from llasa_cli.errors import UsageError
from llasa_cli.options import Flag, Options
from llasa_cli.settings import (
    CHOOSE_BY,
    DEFAULT_LISTENER,
    DEFAULT_SPEAKER_ENCODER,
    LOUDNESS_FLAG,
    SUBTITLES_BY,
    SUBTITLES_BY_FLAG,
    SUBTITLES_FLAG,
    TEXT_FORMATS,
    WORDS_FLAG,
    WORDS_PER_CUE_FLAG,
    ModelOptions,
    SideFileOptions,
    SpeechOptions,
    VerifierOptions,
    WordTiming,
)
from llasa_cli.wording import listed

_SOUND, _BEST = "Sound", "Best of several"


@dataclass(frozen=True)
class BookOptions(Options, panel="Books"):
    """The part of a book that is read."""

    chapters: Annotated[bool, Flag("List the chapters of a book (EPUB, PDF, DOCX, ODT, ...) and stop.")] = False
    first_chapter: Annotated[
        int, Flag("The first chapter of a book to read.", names=("--from",), minimum=1, metavar="N")
    ] = 1
    last_chapter: Annotated[
        int | None,
        Flag(
            "The last chapter of a book to read.",
            names=("--to",),
            minimum=1,
            metavar="N",
            default_text="the book's last",
        ),
    ] = None


@dataclass(frozen=True)
class TextOptions(Options):
    """The source of the text."""

    text: Annotated[tuple[str, ...], Flag("The text; several arguments are joined.", is_argument=True)] = ()
    file: Annotated[
        str | None, Flag("Read the text from a file; - is standard input.", names=("-f", "--file"), metavar="PATH")
    ] = None
    text_format: Annotated[
        str,
        Flag(
            "The markup of the text: auto, plain, markdown, html, ssml, srt (subtitles) or fountain (screenplays). auto "
            "recognizes it in files and pipes; arguments are plain.",
            choices=TEXT_FORMATS,
        ),
    ] = TEXT_FORMATS[0]
    markdown: Annotated[bool | None, Flag("The same as --text-format markdown, or plain.")] = None
    book: BookOptions = field(default_factory=BookOptions)


@dataclass(frozen=True)
class LexiconOptions(Options):
    """The pronunciation of words."""

    lexicon: Annotated[
        Path | None,
        Flag(
            "Respellings for the text's language: a word or phrase, a tab, and how it is said, in each line.",
            metavar="TSV",
        ),
    ] = None

    @cached_property
    def words(self) -> tuple[tuple[str, str], ...]:
        """The respellings.

        Raises:
            UsageError: The file can't be read, or a line is wrong.
        """
        if self.lexicon is None:
            return ()
        from llasa_cli.text.respelling import read_lexicon

        return read_lexicon(self.lexicon)


@dataclass(frozen=True)
class CastOptions(Options):
    """The voices of a dialogue."""

    cast: Annotated[
        tuple[str, ...],
        Flag(
            "The voices of lines `Name: text` and of [voice:Name]: Anna=bella,Bob=bob.wav. A voice is a saved voice, a speaker "
            "or a clip (its words in bob.txt, else --asr writes them); may be repeated.",
            metavar="NAME=VOICE",
        ),
    ] = ()


@dataclass(frozen=True)
class VoiceOptions(Options):
    """The voice that speaks."""

    voice: Annotated[
        str | None,
        Flag(
            "A saved voice, the file of one, or one of the model's speakers.",
            names=("-v", "--voice"),
            completion="voices",
        ),
    ] = None
    speaker: Annotated[str | None, Flag("One of the model's speakers, such as kore.", completion="speakers")] = None


@dataclass(frozen=True)
class RemoteOptions(Options, panel="Server"):
    """The running server that speaks, instead of a model that is loaded here."""

    server: Annotated[
        str | None,
        Flag(
            "Let a running `llasa serve` speak: its address, such as http://127.0.0.1:8880.",
            environment="LLASA_SERVER",
            metavar="URL",
        ),
    ] = None
    api_key: Annotated[str | None, Flag("The key of the server.", environment="LLASA_API_KEY", metavar="KEY")] = None
    server_or_local: Annotated[bool, Flag("Load the model here if no server answers.")] = False


@dataclass(frozen=True)
class ReferenceOptions(Options, panel="Reference clip"):
    """The transcript and the language of a reference clip."""

    ref_text: Annotated[
        str | None,
        Flag(
            "The words of the clip, exactly.", names=("--ref-text", "--ref_text"), default_text="transcribed by --asr"
        ),
    ] = None
    language: Annotated[str | None, Flag("The language of clip and text for --asr, such as en.")] = None


@dataclass(frozen=True)
class SoundOptions(Options, panel=_SOUND):
    """The destination of the sound."""

    output: Annotated[
        str | None,
        Flag(
            f"Write a file ({' '.join(f'.{name}' for name in FILE_FORMATS)}), or a book's chapters into a folder (NAME/); - is "
            "standard output.",
            names=("-o", "--output"),
            metavar="PATH",
        ),
    ] = None
    play: Annotated[bool | None, Flag("Play the sound.", default_text="without -o")] = None
    audio_device: Annotated[
        str | None,
        Flag(
            "The device to play on: its number or a part of its name (`llasa doctor` lists them).",
            environment="LLASA_AUDIO_DEVICE",
            default_text="the system's",
        ),
    ] = None
    stream: Annotated[
        bool | None,
        Flag(
            "Put out sound before its sentence is complete; such a sentence can't be retried.",
            default_text="when the sound is played",
        ),
    ] = None
    file_format: Annotated[
        str | None,
        Flag(
            f"{listed(FORMATS)} (raw samples).",
            names=("--format",),
            default_text="the file's ending",
            completion="formats",
        ),
    ] = None


@dataclass(frozen=True)
class CheckOptions(Options, panel="Checks"):
    """The verifiers of the takes, and the treatment of speech that fails its checks."""

    verify: Annotated[bool, Flag("Transcribe each chunk with --asr and speak it again if words are missing.")] = False
    asr: Annotated[
        str,
        Flag(
            "The recognizer: a Whisper model (folder or org/repo), or pocketsphinx (English). For the transcript of a clip "
            "the default is a recognizer that is installed.",
            completion="recognizers",
        ),
    ] = DEFAULT_LISTENER
    accept_failed: Annotated[bool, Flag("Succeed even if a chunk still fails its checks after the last retry.")] = False
    choose_by: Annotated[
        tuple[str, ...],
        Flag(
            "The verifier that chooses among the takes of --best-of; may be repeated: words (--asr has to understand them), likeness (to "
            "the reference clip, by --speaker-model) or likelihood (to the model itself, at no cost).",
            choices=CHOOSE_BY,
            panel=_BEST,
            default_text="words",
        ),
    ] = ()
    speaker_model: Annotated[
        str,
        Flag(
            "The model that compares voices: a WavLM-SV (folder or org/repo), or resemblyzer.",
            panel=_BEST,
            completion="speaker_models",
        ),
    ] = DEFAULT_SPEAKER_ENCODER

    def chosen(self, speech: SpeechOptions) -> tuple[str, ...]:
        """The names of the verifiers that choose among several takes.

        Raises:
            UsageError: An option has no effect.
        """
        is_choice = speech.best_of > 1
        if self.choose_by and not is_choice:
            raise UsageError("--choose-by has no effect without --best-of.", "Add --best-of N.")
        chosen = self.choose_by or ("words",) if is_choice else ()
        if self.speaker_model != DEFAULT_SPEAKER_ENCODER and "likeness" not in chosen:
            raise UsageError("--speaker-model has no effect.", "Add --best-of N and --choose-by likeness.")
        return chosen

    @property
    def judging(self) -> dict[str, Any]:
        """The fields of a request to a server."""
        return {"choose_by": list(self.choose_by), "verify": self.verify}

    def verifiers(self, speech: SpeechOptions, language: str | None) -> VerifierOptions:
        """The verifiers that judge the takes.

        Raises:
            UsageError: An option has no effect.
            ModelError: A model is not on this machine.
        """
        chosen = self.chosen(speech)
        found = VerifierOptions(
            self.asr if self.verify or "words" in chosen else None,
            self.speaker_model if "likeness" in chosen else None,
            "likelihood" in chosen,
            language,
        )
        if not found:
            return found
        from llasa_cli.synthesis.verifiers import resolve_verifiers

        return resolve_verifiers(found)

    def timing(self, needs_words: bool, language: str | None) -> WordTiming | None:
        """The method that finds the times of words; None if they are not needed.

        Args:
            needs_words: Whether an option asks for them.
            language: The language of the text; None if it is not known.

        Raises:
            ModelError: The recognizer of --asr is not on this machine, or can't find times.
        """
        if not needs_words:
            return None
        from llasa_cli.asr import find_aligner

        return WordTiming(find_aligner(self.asr, language), language)


@dataclass(frozen=True)
class OutputOptions(SoundOptions, SideFileOptions):
    """The destination of the sound, and the files that are written beside it."""

    subtitles: Annotated[Path | None, SUBTITLES_FLAG] = None
    subtitles_by: Annotated[str, SUBTITLES_BY_FLAG] = SUBTITLES_BY[0]
    words_per_cue: Annotated[int | None, WORDS_PER_CUE_FLAG] = None
    words: Annotated[Path | None, WORDS_FLAG] = None
    loudness: Annotated[float | None, LOUDNESS_FLAG] = None
    resume: Annotated[
        bool | None,
        Flag(
            "Keep finished chunks beside the file, so that the same command can resume.",
            panel=_SOUND,
            default_text="for long texts that are written to a file",
        ),
    ] = None
    check: CheckOptions = field(default_factory=CheckOptions)
    json: Annotated[bool, Flag("Print a description of the result as JSON.")] = False


@dataclass(frozen=True)
class ConsoleOptions(Options):
    """The amount of output on the terminal."""

    quiet: Annotated[bool, Flag("Print errors only.", names=("-q", "--quiet"))] = False
    verbose: Annotated[bool, Flag("Print a line for each chunk.")] = False


@dataclass(frozen=True)
class SpeakOptions(Options):
    """The options that `say` and `clone` share: of the speech, the model and the destination of the sound."""

    cast: CastOptions
    lexicon: LexiconOptions
    console: ConsoleOptions
    output: OutputOptions
    models: Parsed[ModelOptions]
    speech: SpeechOptions
    remote: RemoteOptions
    scheduling: SchedulingOptions

    def refuse_unused_recognizer(self) -> None:
        """Raises UsageError if a recognizer was chosen and no option uses it. A clip of the cast may need it."""
        check = self.output.check
        chooses = self.speech.best_of > 1 and "words" in (check.choose_by or ("words",))
        is_used = self.cast.cast or check.verify or chooses or self.output.needs_words
        if check.asr != DEFAULT_LISTENER and not is_used:
            raise UsageError(
                "--asr has no effect without --verify.", "Add --verify, --best-of or --words, or leave out --asr."
            )
