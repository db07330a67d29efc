"""`llasa chat`: a conversation with a model, whose answers are printed and spoken."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

from llasa_cli.cli.audio_output import open_audio_output, voice_key
from llasa_cli.cli.common_options import CheckOptions, ConsoleOptions, OutputOptions, SoundOptions, VoiceOptions
from llasa_cli.cli.console import Console, claim_stdout
from llasa_cli.cli.flags import with_flags
from llasa_cli.cli.model import LocalModel, load_synthesizer
from llasa_cli.cli.speak import speak
from llasa_cli.cli.speech_plan import SpeechPlan
from llasa_cli.cli.text_input import NO_TEXT, TextInput
from llasa_cli.errors import LlasaError, UsageError
from llasa_cli.options import Flag, Options
from llasa_cli.settings import LARGEST_SEED, MODEL_FLAG, ChatOptions, ModelOptions, SpeechOptions

if TYPE_CHECKING:
    from llasa_cli.checkpoint.resolve import Checkpoint
    from llasa_cli.synthesis.chat import Conversation


@dataclass(frozen=True)
class QuestionOptions(Options):
    """The questions and the instruction."""

    text: Annotated[
        tuple[str, ...], Flag("One question; without it, every line of standard input is one.", is_argument=True)
    ] = ()
    system: Annotated[str | None, Flag("The system prompt: the role of the model.", panel="Answer")] = None


@dataclass(frozen=True)
class ChatModelOptions(ModelOptions):
    """`ModelOptions` with a default that chats."""

    model: Annotated[str, replace(MODEL_FLAG, help="A model that chats: 3b-chat, a folder, or org/repo.")] = "3b-chat"


@with_flags
def chat(
    question: QuestionOptions,
    answers: ChatOptions,
    voice: VoiceOptions,
    console_options: ConsoleOptions,
    sound: SoundOptions,
    models: ChatModelOptions,
    speech: SpeechOptions,
) -> None:
    """Chat with a model that can still generate text. The answer is printed as it is generated, and spoken sentence by sentence."""
    seed = speech.seed if speech.seed is not None else secrets.randbelow(LARGEST_SEED)
    if question.text and not " ".join(question.text).strip():
        raise UsageError("The question is empty.", 'llasa chat "Who are you?"')
    checkpoint = resolve_chat_model(models)
    from llasa_cli.voices.resolve import resolve_voice

    chosen = resolve_voice(voice.voice, voice.speaker, checkpoint)
    speech = replace(speech, seed=seed, speaker=chosen.speaker)
    check = CheckOptions(accept_failed=True)
    verifiers = check.verifiers(speech, chosen.language)
    output = OutputOptions(**vars(sound), check=check)
    plan = SpeechPlan(LocalModel(checkpoint), NO_TEXT, speech, output, verifiers)
    with (
        Console(console_options.quiet, console_options.verbose) as console,
        open_audio_output(plan, console, voice_key(chosen)) as audio_output,
    ):
        synthesizer = load_synthesizer(checkpoint, console, chosen.speaker)
        from llasa_cli.lm.text_generation import load_text_generator
        from llasa_cli.synthesis.chat import Conversation

        generator = load_text_generator(synthesizer.model, checkpoint.weights_folder, checkpoint.adapter)
        conversation = Conversation(generator, synthesizer.prompt_format, question.system)
        printer = _AnswerPrinter(sys.stderr.buffer if sound.output == "-" else claim_stdout())
        parts = _spoken(conversation, _questions(question.text), answers, seed, printer)
        speak(replace(plan, source=TextInput(parts, None)), synthesizer, chosen.reference, audio_output)


def resolve_chat_model(options: ModelOptions) -> Checkpoint:
    """Find a model that can chat. A checkpoint that neither the catalog nor its own metadata describes may be able to.

    Raises:
        UsageError: The model is known to generate speech only.
        ModelError: The model is not on this machine.
    """
    from llasa_cli.checkpoint.resolve import resolve_checkpoint
    from llasa_cli.hub.catalog import CATALOG, entry_of, repo_of

    hint = "Models that can chat: " + ", ".join(short for short, entry in CATALOG.items() if entry.chats) + "."
    named = repo_of(options.model)
    entry = entry_of(named[0]) if named is not None and not Path(options.model).is_dir() else None
    if entry is not None and not entry.chats:
        raise UsageError(f"{options.model} can no longer chat: it only reads text aloud.", hint)
    checkpoint = resolve_checkpoint(options)
    if entry is None and checkpoint.metadata and not checkpoint.metadata.get("chats"):
        raise UsageError(f"{options.model} can't chat: it only reads text aloud.", hint)
    return checkpoint


def _questions(text: tuple[str, ...]) -> Iterator[str]:
    """The arguments as one question, or else the lines of standard input, each read when it is needed."""
    if text and text != ("-",):
        yield " ".join(text)
        return
    if sys.stdin is None:
        raise UsageError("There is no question.", 'llasa chat "Who are you?"')
    while True:
        if sys.stdin.isatty():
            print("> ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.buffer.readline().decode(errors="replace")
        if not line:
            return
        if line.strip():
            yield line.strip()


def _spoken(
    conversation: Conversation, questions: Iterator[str], options: ChatOptions, seed: int, printer: _AnswerPrinter
) -> Iterator[str]:
    """Yield the answers sentence by sentence while they are generated, and print them."""
    from llasa_cli.text.incremental import read_sentences

    for number, question in enumerate(questions):
        pieces = conversation.answer(question, options, (seed + number) % LARGEST_SEED)

        def read(_most: int, pieces: Iterator[str] = pieces) -> bytes:
            words = next(pieces, "").encode(errors="replace")
            printer.write(words or b"\n")
            return words

        yield from read_sentences(read, is_more_waiting=lambda: True)
        yield "\n\n"


class _AnswerPrinter:
    """Prints the answers. A reader that closes the pipe doesn't end the speech."""

    def __init__(self, out: BinaryIO) -> None:
        self._out: BinaryIO | None = out

    def write(self, words: bytes) -> None:
        if self._out is None:
            return
        try:
            self._out.write(words)
            self._out.flush()
        except BrokenPipeError:
            self._out = None
        except OSError as error:
            raise LlasaError(f"Standard output can't be written: {error.strerror}.") from error
