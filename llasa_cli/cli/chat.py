"""`llasa chat`: a model that speaks and still chats answers, in text and aloud."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from llasa_cli.cli import flags
from llasa_cli.cli.audio_output import OutputOptions, open_audio_output
from llasa_cli.cli.console import Console, claim_stdout
from llasa_cli.cli.speak import deliver, load_speech
from llasa_cli.cli.text_input import TextInput
from llasa_cli.cli.voices import chosen_voice
from llasa_cli.errors import LlasaError, UsageError
from llasa_cli.settings import CONTEXT_TOKENS, ChatOptions

if TYPE_CHECKING:
    from llasa_cli.synthesis.chat import Conversation

_ANSWER = "Answer"
_GENERAL = ChatOptions()
_NOTHING = TextInput((), None, False)
"""An outlet asks its source only whether it can be read again."""


def chat(
    text: Annotated[
        list[str] | None, typer.Argument(help="One question; without it, a line of input each.", show_default=False)
    ] = None,
    system: Annotated[
        str | None,
        typer.Option("--system", help="Who the model is to be.", show_default=False, rich_help_panel=_ANSWER),
    ] = None,
    answer_tokens: Annotated[
        int,
        typer.Option(
            "--answer-tokens",
            min=1,
            max=CONTEXT_TOKENS // 2,
            help="The most tokens of an answer.",
            rich_help_panel=_ANSWER,
        ),
    ] = _GENERAL.most_tokens,
    answer_temperature: Annotated[
        float, typer.Option("--answer-temperature", min=0.0, help="0 is greedy.", rich_help_panel=_ANSWER)
    ] = _GENERAL.temperature,
    answer_top_p: Annotated[
        float,
        typer.Option(
            "--answer-top-p",
            min=0.0,
            max=1.0,
            help="Keep the fewest tokens that reach this probability.",
            rich_help_panel=_ANSWER,
        ),
    ] = _GENERAL.top_p,
    output: flags.Output = None,
    voice: flags.Voice = None,
    speaker: flags.Speaker = None,
    play: flags.Play = None,
    stream: flags.Stream = None,
    file_format: flags.Format = None,
    model: Annotated[
        str,
        typer.Option(
            "-m",
            "--model",
            envvar="LLASA_MODEL",
            help="A model that still chats: 3b-chat, a folder, or org/repo.",
            rich_help_panel="Model",
        ),
    ] = "3b-chat",
    codec: flags.Codec = None,
    adapter: flags.AdapterFolder = None,
    device: flags.Device = "auto",
    dtype: flags.Dtype = "auto",
    attention: flags.Attention = "auto",
    seed: flags.Seed = None,
    temperature: flags.Temperature = None,
    top_p: flags.TopP = None,
    top_k: flags.TopK = None,
    min_p: flags.MinP = None,
    repetition_penalty: flags.RepetitionPenalty = None,
    guidance: flags.Guidance = None,
    max_seconds: flags.MaxSeconds = None,
    retries: flags.Retries = flags.DEFAULT_RETRIES,
    quiet: flags.Quiet = False,
    verbose: flags.Verbose = False,
) -> None:
    """Talk with a model that kept its text chat: the answer is printed as it grows, and spoken sentence by sentence."""
    from llasa_cli.synthesis.synthesizer import LARGEST_SEED

    seed = seed if seed is not None else secrets.randbelow(LARGEST_SEED)
    wanted = flags.speech_options(
        temperature, top_p, top_k, min_p, repetition_penalty, guidance, max_seconds, seed, None, retries
    )
    flags.check_temperature("--answer-temperature", answer_temperature)
    if text and not " ".join(text).strip():
        raise UsageError("The question is empty.", 'llasa chat "Who are you?"')
    models = flags.model_options(model, codec, device, dtype, adapter, attention)
    refuse_what_only_speaks(model)
    chosen = chosen_voice(voice, speaker, models)
    questions = _questions(text)
    answers = ChatOptions(answer_temperature, answer_top_p, answer_tokens)
    wishes = OutputOptions(output, file_format, play, stream=stream)
    with (
        Console(quiet, verbose) as report,
        open_audio_output(wishes, _NOTHING, wanted, models, report, repr(chosen)) as outlet,
    ):
        speech = load_speech(models, report, chosen.speaker)
        from llasa_cli.checkpoint.resolve import find_adapter, find_model
        from llasa_cli.lm.text_generation import load_writer
        from llasa_cli.synthesis.chat import Conversation

        writer = load_writer(speech.model, find_model(model), find_adapter(models.adapter))
        conversation = Conversation(writer, speech.prompt_format, system)
        paper = _Paper(sys.stderr.buffer if output == "-" else claim_stdout())
        parts = _spoken(conversation, questions, answers, seed, paper)
        wanted = replace(wanted, speaker=chosen.speaker)
        deliver(speech, TextInput(parts, None, False), wanted, chosen.reference, outlet, report)


def refuse_what_only_speaks(name: str) -> None:
    """A checkpoint that is not known may chat; whoever names it knows it.

    Raises:
        UsageError: It is known to have forgotten how.
    """
    from llasa_cli.checkpoint.resolve import find_model
    from llasa_cli.files import read_metadata
    from llasa_cli.hub.catalog import CATALOGUE, entry_of, repo_of

    hint = "Models that kept it: " + ", ".join(short for short, entry in CATALOGUE.items() if entry.chats) + "."
    named = repo_of(name)
    entry = entry_of(named[0]) if named is not None and not Path(name).is_dir() else None
    if entry is not None and not entry.chats:
        raise UsageError(f"{name} speaks text, and no longer answers it.", hint)
    folder = find_model(name)
    about = read_metadata(folder) if entry is None else {}
    if about and not about.get("chats"):
        raise UsageError(f"{name} speaks text, and does not answer it.", hint)


def _questions(text: list[str] | None) -> Iterator[str]:
    """The arguments as one question, or the lines of standard input, each when it is asked for."""
    if text and text != ["-"]:
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
    conversation: Conversation, questions: Iterator[str], options: ChatOptions, seed: int, paper: _Paper
) -> Iterator[str]:
    """The answers sentence by sentence, as they are written; all of each is printed as well."""
    from llasa_cli.text.incremental import read_sentences

    for number, question in enumerate(questions):
        pieces = conversation.answer(question, options, (seed + number) % 2**31)

        def read(_most: int, pieces: Iterator[str] = pieces) -> bytes:
            words = next(pieces, "").encode(errors="replace")
            paper.write(words or b"\n")
            return words

        yield from read_sentences(read, is_more_waiting=lambda: True)
        yield "\n\n"


class _Paper:
    """Where answers are printed. Who reads them may have enough; who listens goes on."""

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
