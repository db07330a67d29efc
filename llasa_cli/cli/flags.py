"""Flags that several commands share: one spelling, one help text; defaults come from `settings`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import typer

from llasa_cli.errors import UsageError
from llasa_cli.settings import (
    ATTENTIONS,
    BUILT_IN_MODEL,
    COLDEST,
    DEFAULT_LISTENER,
    LARGEST_NUMBER,
    ModelOptions,
    SamplingOptions,
    SamplingRequest,
    SpeechOptions,
)

_GENERAL = SamplingOptions()
_LOOK, _DRAW, _RUN = "Sound", "Sampling", "Model"


def _sampling(name: str, help_text: str, **limits: Any) -> Any:
    """A sampling flag: None leaves it to the model; the help says what a model without a wish of its own takes."""
    general = getattr(_GENERAL, name.removeprefix("--").replace("-", "_"))
    text = f"{help_text} [default: the model's, else {general:g}]"
    return typer.Option(name, help=text, show_default=False, rich_help_panel=_DRAW, **limits)


Text = Annotated[
    list[str] | None, typer.Argument(help="What to say; several arguments are joined.", show_default=False)
]
File = Annotated[
    str | None, typer.Option("-f", "--file", help="Read the text from a file; - is standard input.", show_default=False)
]
Output = Annotated[
    str | None,
    typer.Option(
        "-o", "--output", help="Write a file (.wav .flac .ogg .opus .mp3); - is standard output.", rich_help_panel=_LOOK
    ),
]
Format = Annotated[
    str | None,
    typer.Option(
        "--format", help="wav, flac, ogg, opus, mp3 or pcm; by default the file's ending.", rich_help_panel=_LOOK
    ),
]
Play = Annotated[
    bool | None,
    typer.Option(
        "--play/--no-play",
        help="Play it too; without -o it is played anyway.",
        show_default=False,
        rich_help_panel=_LOOK,
    ),
]
Markdown = Annotated[
    bool | None,
    typer.Option(
        "--markdown/--no-markdown",
        help="Read Markdown as words; by default, files that end in .md.",
        show_default=False,
    ),
]
Stream = Annotated[
    bool | None,
    typer.Option(
        "--stream/--no-stream",
        help="Let sound out before its sentence is finished (no second try then); by default, when it is played.",
        show_default=False,
        rich_help_panel=_LOOK,
    ),
]
Subtitles = Annotated[
    Path | None,
    typer.Option("--subtitles", help="Write what was said when: .srt or .vtt.", rich_help_panel=_LOOK),
]
Resume = Annotated[
    bool | None,
    typer.Option(
        "--resume/--no-resume",
        help="Keep what is made beside the file, so that the same command can go on; by default, for long texts.",
        show_default=False,
        rich_help_panel=_LOOK,
    ),
]
Model = Annotated[
    str,
    typer.Option(
        "-m",
        "--model",
        envvar="LLASA_MODEL",
        help="tiny (built in), 1b, 3b, ..., a folder, or org/repo.",
        rich_help_panel=_RUN,
    ),
]
Codec = Annotated[
    str | None,
    typer.Option(
        "--codec", help="Codec folder or repo; by default the model's own.", show_default=False, rich_help_panel=_RUN
    ),
]
AdapterFolder = Annotated[
    str | None,
    typer.Option(
        "--adapter",
        help="Folder of a LoRA adapter trained on the model; -m FOLDER finds the model by itself.",
        show_default=False,
        rich_help_panel=_RUN,
    ),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:N or mps.", rich_help_panel=_RUN)]
Dtype = Annotated[str, typer.Option("--dtype", help="auto, fp32, bf16, fp16, int8 or int4.", rich_help_panel=_RUN)]
Attention = Annotated[
    str,
    typer.Option("--attention", help="auto, sdpa, flash (CUDA, package flash-attn) or eager.", rich_help_panel=_RUN),
]
Seed = Annotated[
    int | None,
    typer.Option(
        "--seed",
        min=0,
        help="Makes a take again; drawn and reported otherwise.",
        show_default=False,
        rich_help_panel=_DRAW,
    ),
]
Temperature = Annotated[float | None, _sampling("--temperature", "0 is greedy; below 0.3 big models loop.", min=0.0)]
TopP = Annotated[
    float | None, _sampling("--top-p", "Keep the fewest codes that reach this probability.", min=0.0, max=1.0)
]
TopK = Annotated[int | None, _sampling("--top-k", "Keep the k likeliest codes; 0 keeps all.", min=0)]
MinP = Annotated[float | None, _sampling("--min-p", "Drop codes below this share of the likeliest.", min=0.0, max=1.0)]
RepetitionPenalty = Annotated[
    float | None, _sampling("--repetition-penalty", "Make codes already spoken less likely; 1 is off.", min=0.01)
]
Guidance = Annotated[
    float | None,
    _sampling("--guidance", "Follow the text more than the model does by itself, from 1.1; 1 is off.", min=0.0),
]
MaxSeconds = Annotated[float | None, _sampling("--max-seconds", "The most speech for one chunk.", min=0.02)]
Retries = Annotated[
    int, typer.Option("--retries", min=0, help="More takes for a chunk that fails its checks.", rich_help_panel=_DRAW)
]
Verify = Annotated[
    bool,
    typer.Option(
        "--verify",
        help="Have --asr listen to each take; one whose words it does not find is made again.",
        rich_help_panel=_DRAW,
    ),
]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Only errors.")]
Verbose = Annotated[bool, typer.Option("--verbose", help="A line for each chunk.")]
Json = Annotated[bool, typer.Option("--json", help="Print what was made as JSON.")]
_CLIP = "Reference clip"
Reference = Annotated[
    Path,
    typer.Option(
        "--ref",
        "--ref-audio",
        "--ref_audio",
        help="A clip of the voice, 1 to 15 s.",
        show_default=False,
        rich_help_panel=_CLIP,
    ),
]
ReferenceText = Annotated[
    str | None,
    typer.Option(
        "--ref-text",
        "--ref_text",
        help="What is said in the clip, word for word; without it --asr listens.",
        show_default=False,
        rich_help_panel=_CLIP,
    ),
]
Recogniser = Annotated[
    str,
    typer.Option(
        "--asr",
        help="Who listens: a Whisper model (folder or org/repo), or pocketsphinx (English).",
        rich_help_panel=_CLIP,
    ),
]
Language = Annotated[
    str | None,
    typer.Option("--language", help="Of the clip, such as en.", show_default=False, rich_help_panel=_CLIP),
]
Save = Annotated[
    str | None,
    typer.Option(
        "--save",
        metavar="NAME",
        help="Keep the voice, for --voice NAME; text is not needed then.",
        show_default=False,
        rich_help_panel=_CLIP,
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Replace a saved voice of that name.", rich_help_panel=_CLIP)]
License = Annotated[
    str | None,
    typer.Option(
        "--license",
        metavar="TEXT",
        help="Who may use the voice, and how; kept with it.",
        show_default=False,
        rich_help_panel=_CLIP,
    ),
]
Voice = Annotated[
    str | None,
    typer.Option("-v", "--voice", help="A saved voice, its file, or one of the model's speakers.", show_default=False),
]
Speaker = Annotated[
    str | None,
    typer.Option("--speaker", help="One of the model's speakers, such as kore.", show_default=False),
]

DEFAULT_MODEL = BUILT_IN_MODEL
DEFAULT_RECOGNISER = DEFAULT_LISTENER
DEFAULT_RETRIES = SpeechOptions().retries


def model_options(
    model: str, codec: str | None, device: str, dtype: str, adapter: str | None = None, attention: str = "auto"
) -> ModelOptions:
    if attention not in ATTENTIONS:
        raise typer.BadParameter(f"{attention!r} is none of {', '.join(ATTENTIONS)}.", param_hint="--attention")
    return ModelOptions(model=model, codec=codec, device=device, dtype=dtype, adapter=adapter, attention=attention)


def speech_options(
    temperature: float | None,
    top_p: float | None,
    top_k: int | None,
    min_p: float | None,
    repetition_penalty: float | None,
    guidance: float | None,
    max_seconds: float | None,
    seed: int | None,
    voice: str | None,
    retries: int,
) -> SpeechOptions:
    for name, value in (
        ("--repetition-penalty", repetition_penalty),
        ("--guidance", guidance),
        ("--max-seconds", max_seconds),
        ("--top-k", top_k),
    ):
        _check_number(name, value)
    check_temperature("--temperature", temperature)
    values: dict[str, Any] = {
        "temperature": temperature,
        "top_p": top_p,
        "top_k": top_k,
        "min_p": min_p,
        "repetition_penalty": repetition_penalty,
        "guidance": guidance,
        "max_seconds": max_seconds,
    }
    request = SamplingRequest(**values)
    return SpeechOptions(sampling=request, seed=seed, speaker=voice, retries=retries)


def check_temperature(flag: str, value: float | None) -> None:
    """Raises:
    UsageError: It is none that can be drawn by.
    """
    _check_number(flag, value)
    if value is not None and 0 < value < COLDEST:
        raise UsageError(f"{flag} {value} is too near to 0.", "0 always takes the likeliest.")


def _check_number(flag: str, value: float | None) -> None:
    if value is not None and not (math.isfinite(value) and value <= LARGEST_NUMBER):
        raise UsageError(f"{flag} {value} is no number to work with.")
