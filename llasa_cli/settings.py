"""Constants with their units, and the frozen option dataclasses that travel from the command line to the engine.

Name, default, limits and help of every option stand in one place: here, in `batch.options`, in `training.options`, or in the
dataclass of the command that alone has the option; see `llasa_cli.options`. The annotations are evaluated: this module doesn't postpone them.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from secrets import randbelow
from typing import TYPE_CHECKING, Annotated, Any

from llasa_cli.errors import UsageError
from llasa_cli.options import Flag, Options, all_optional
from llasa_cli.wording import listed

CODES_PER_SECOND = 50
"""Speech codes a second (X-Codec2: 16 kHz, 320 samples a code)."""

CONTEXT_TOKENS = 2048
"""Prompt and speech codes together: the length Llasa was trained at. Configs say 131,072 and enforce nothing."""

BUILT_IN_MODEL = "tiny"
"""The small voice inside the package, used when neither `--model` nor `LLASA_MODEL` names another."""

TEMPLATE_DATE = "26 Jul 2024"
"""The Llama-3 chat template writes today's date into the prompt unless given one; this is its own fallback."""

ARCHITECTURES = ("llama", "qwen2", "qwen3")
"""The networks that run here: `model_type` in config.json, and `general.architecture` in a GGUF file."""

DTYPES = ("auto", "fp32", "bf16", "fp16", "int8", "int4")
"""The values of `--dtype`; see `device`."""

ATTENTIONS = ("auto", "sdpa", "flash", "eager")
"""The values of `--attention`; see `lm.attention`."""


TEXT_FORMATS = ("auto", "plain", "markdown", "html", "ssml", "srt", "fountain")
"""The values of `--text-format`; see `text.markup`."""

DEFAULT_LISTENER = "openai/whisper-base"
"""The recognizer for reference clips without a transcript (Apache-2.0, 290 MB, about 100 languages)."""

RECOGNIZERS = (DEFAULT_LISTENER, "pocketsphinx")
"""The values that completion offers for `--asr`, which takes other Whisper models as well; see `asr`."""

DEFAULT_SPEAKER_ENCODER = "microsoft/wavlm-base-plus-sv"
"""The speaker model of `--choose-by likeness`."""

SPEAKER_MODELS = (DEFAULT_SPEAKER_ENCODER, "resemblyzer")
"""The values that completion offers for `--speaker-model`; see `speaker_embedding`."""

SUBTITLES_BY = ("sentence", "word")
"""The values of `--subtitles-by`."""

CHOOSE_BY = ("words", "likeness", "likelihood")
"""The values of `--choose-by`; see `synthesis.verifiers`."""


SLOWEST, FASTEST = 0.5, 2.0
"""The limits of `--speed`."""

LARGEST_NUMBER = 1_000_000
"""The largest value of a sampling option. Anything larger is a typing error and would overflow."""

LARGEST_SEED = 2**31
"""Seeds are drawn, and counted up for retries, below this number."""

SMALLEST_TEMPERATURE = 0.01
"""Logits are divided by the temperature; below this they leave the range of float32."""

_SAMPLING, _MODEL, _BEST = "Sampling", "Model", "Best of several"

MODEL_FLAG = Flag(
    "tiny (built in), 1b, 3b, ..., a folder, a .gguf file, org/repo, or org/repo:Q8_0 (a GGUF file of it).",
    names=("-m", "--model"),
    panel=_MODEL,
    environment="LLASA_MODEL",
    completion="models",
)
CODEC_FLAG = Flag("Codec folder or repository; by default the model's own.", panel=_MODEL, completion="codecs")
REFERENCE_FLAG = Flag(
    "A clip of the voice, 1 to 15 s.", names=("--ref", "--ref-audio", "--ref_audio"), panel="Reference clip"
)
LOUDNESS_FLAG = Flag(
    "Loudness of the file in LUFS (EBU R128), such as -19 for an audiobook.",
    minimum=-40,
    maximum=-5,
    metavar="LUFS",
    panel="Sound",
    default_text="as the model speaks",
)
SUBTITLES_FLAG = Flag("Write subtitles: .srt or .vtt.", panel="Sound")
SUBTITLES_BY_FLAG = Flag(
    "What a cue of the subtitles is: sentence, or word (with the times at which --asr finds the words).",
    choices=SUBTITLES_BY,
    panel="Sound",
)
WORDS_PER_CUE_FLAG = Flag(
    "Words in each cue of --subtitles-by word.", minimum=1, maximum=20, panel="Sound", metavar="N", default_text="1"
)
WORDS_FLAG = Flag(
    "Write when each word is said: .json. --asr finds the words in the sound; without a recognizer the times are estimates.",
    panel="Sound",
)
DEVICE_FLAG = Flag("auto, cpu, cuda, cuda:N or mps.", panel=_MODEL, completion="devices")


@dataclass(frozen=True)
class SamplingOptions(Options, panel=_SAMPLING):
    """The sampling of the next speech code.

    The defaults are those of the cards' later update ("more stable").
    """

    temperature: Annotated[
        float,
        Flag(
            "0 is greedy; below 0.3 large models repeat themselves.",
            minimum=0,
            maximum=LARGEST_NUMBER,
            smallest_above_zero=SMALLEST_TEMPERATURE,
        ),
    ] = 0.9
    top_p: Annotated[
        float, Flag("Keep the fewest codes that together reach this probability.", minimum=0, maximum=1)
    ] = 0.95
    top_k: Annotated[int, Flag("Keep the k likeliest codes; 0 keeps all.", minimum=0, maximum=LARGEST_NUMBER)] = 0
    min_p: Annotated[float, Flag("Drop codes below this share of the likeliest one.", minimum=0, maximum=1)] = 0.0
    repetition_penalty: Annotated[
        float, Flag("Make codes that were already spoken less likely; 1 is off.", minimum=0.01, maximum=LARGEST_NUMBER)
    ] = 1.0
    guidance: Annotated[
        float,
        Flag(
            "Classifier-free guidance: above 1 the speech follows the text more closely; 1 is off.",
            minimum=0,
            maximum=LARGEST_NUMBER,
        ),
    ] = 1.0
    max_seconds: Annotated[
        float, Flag("The longest speech of one chunk, in seconds.", minimum=0.02, maximum=LARGEST_NUMBER)
    ] = 40.0


if TYPE_CHECKING:
    _OptionalSampling = SamplingOptions
else:
    _OptionalSampling = all_optional(SamplingOptions, "the model's, else")


@dataclass(frozen=True)
class SamplingRequest(_OptionalSampling):
    """The caller's part of `SamplingOptions`: the same fields, where None leaves the value to the checkpoint."""

    def over(self, checkpoint: Mapping[str, Any]) -> SamplingOptions:
        """The requested values, else the checkpoint's (`sampling` in llasa.json), else the defaults."""
        known = {part.name for part in fields(self)}
        requested = {name: getattr(self, name) for name in known if getattr(self, name) is not None}
        return SamplingOptions(**{k: v for k, v in checkpoint.items() if k in known} | requested)


@dataclass(frozen=True)
class ModelOptions(Options, panel=_MODEL):
    """The model, its parts and its device."""

    model: Annotated[str, MODEL_FLAG] = BUILT_IN_MODEL
    codec: Annotated[str | None, CODEC_FLAG] = None
    device: Annotated[str, DEVICE_FLAG] = "auto"
    dtype: Annotated[str, Flag(f"{listed(DTYPES)}.", completion="dtypes")] = "auto"
    adapter: Annotated[
        str | None,
        Flag("Folder of a LoRA adapter trained on the model. `-m FOLDER` finds the model of an adapter by itself."),
    ] = None
    attention: Annotated[
        str, Flag("auto, sdpa, flash (CUDA and the package flash-attn) or eager.", choices=ATTENTIONS)
    ] = "auto"
    no_watermark: Annotated[
        bool, Flag("NeuTTS: speak without the inaudible watermark that its own package puts into all speech.")
    ] = False


@dataclass(frozen=True)
class SearchPlan:
    """The numbers of `--search`; see `synthesis.step_search`.

    Attributes:
        beam: Unfinished takes that are kept at each step.
        width: Branches of each.
        step_s: Seconds of speech between two steps.
    """

    beam: int
    width: int
    step_s: float

    @classmethod
    def parse(cls, text: str) -> "SearchPlan":
        """Read "2x4x1.5".

        Raises:
            UsageError: It has another form, or a number is outside its limits.
        """
        found = re.fullmatch(
            r"\s*(\d{1,3})\s*[x×]\s*(\d{1,3})\s*[x×]\s*(\d{1,3}(?:\.\d{1,3})?)\s*", text, re.IGNORECASE
        )
        hint = "For example --search 2x4x1: every second the best 2 takes are kept, and each is continued 4 times."
        if found is None:
            raise UsageError(f"--search {text[:40]!r} is not BEAMxWIDTHxSECONDS.", hint)
        plan = cls(int(found[1]), int(found[2]), float(found[3]))
        if not (plan.beam >= 1 and plan.width >= 2 and plan.takes <= 256 and 0.1 <= plan.step_s <= 60):
            raise UsageError(f"--search {text[:40]!r} is outside the limits (2 to 256 takes, 0.1 to 60 s).", hint)
        return plan

    @property
    def takes(self) -> int:
        """The number of takes that run together."""
        return self.beam * self.width


@dataclass(frozen=True)
class SpeechOptions(Options, panel=_SAMPLING):
    """One request: how to sample, which speaker, how often to retry."""

    sampling: SamplingRequest = field(default_factory=SamplingRequest)
    seed: Annotated[int | None, Flag("Repeats a run exactly.", minimum=0, default_text="drawn, and reported")] = None
    speaker: str | None = None
    """A speaker tag that the checkpoint was trained with; None takes the checkpoint's default."""
    retries: Annotated[int, Flag("How often a chunk that fails its checks is spoken again.", minimum=0)] = 2
    best_of: Annotated[
        int,
        Flag(
            "Speak each chunk so many times at once and keep the best take; see --choose-by.",
            minimum=1,
            maximum=256,
            metavar="N",
            panel=_BEST,
        ),
    ] = 1
    good_enough: Annotated[
        float | None,
        Flag(
            "Stop a chunk as soon as a take has this score; 1 is a perfect one.",
            minimum=0,
            maximum=1,
            panel=_BEST,
            default_text="all takes are completed",
        ),
    ] = None
    candidate: Annotated[
        int | None,
        Flag(
            "Make only this take of --best-of again, counted from 1.",
            minimum=1,
            panel=_BEST,
            metavar="K",
            default_text="all",
        ),
    ] = None
    speed: Annotated[
        float,
        Flag(
            "Speed of the speech; the pitch stays. Needs PyAV: pip install 'llasa-cli[book]'.",
            minimum=SLOWEST,
            maximum=FASTEST,
            panel="Sound",
        ),
    ] = 1.0
    lexicon: tuple[tuple[str, str], ...] = ()
    """Respellings; see `text.respelling`."""
    style: Annotated[
        tuple[str, ...],
        Flag(
            "How it is spoken, for models whose prompts have such fields: mood=calm; may be repeated.",
            metavar="KEY=VALUE",
        ),
    ] = ()
    search: Annotated[
        str | None,
        Flag(
            "Step search instead of --best-of: every so many seconds keep the best BEAM unfinished takes and branch each WIDTH "
            "times, such as 2x4x1.",
            metavar="BEAMxWIDTHxSECONDS",
            panel=_BEST,
            default_text="off",
        ),
    ] = None
    markdown: bool = False
    """The text is Markdown: its marks are not spoken."""

    def with_seed(self) -> "SpeechOptions":
        """The same options with a seed, which is drawn if none was given."""
        return self if self.seed is not None else replace(self, seed=randbelow(LARGEST_SEED))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.search is not None:
            takes = SearchPlan.parse(self.search).takes
            if self.best_of not in (1, takes) or self.candidate is not None:
                raise UsageError("--search excludes --best-of and --candidate.", "Leave out one of them.")
            object.__setattr__(self, "best_of", takes)
        if self.candidate is not None and self.candidate > self.best_of:
            raise UsageError(f"There is no take {self.candidate} of {self.best_of}.", "Give a larger --best-of.")
        if self.good_enough is not None and self.best_of == 1:
            raise UsageError("--good-enough has no effect without --best-of.", "Add --best-of N.")


@dataclass(frozen=True)
class VerifierOptions:
    """The verifiers that judge the takes besides the checks; see `synthesis.verifiers`.

    Attributes:
        recognizer: A recognizer that has to find the words.
        likeness: A speaker model that compares the voice with the reference clip's.
        likelihood: Whether the model's own likelihood counts.
        language: The language of the text, for the recognizer.
    """

    recognizer: str | None = None
    likeness: str | None = None
    likelihood: bool = False
    language: str | None = None

    def __bool__(self) -> bool:
        return bool(self.recognizer or self.likeness or self.likelihood)


NO_VERIFIERS = VerifierOptions()


@dataclass(frozen=True)
class WordTiming:
    """The method that finds the times of words; see `synthesis.word_times`.

    Attributes:
        recognizer: Aligns the text to the sound; None: the times are estimates.
        language: The language of the text.
    """

    recognizer: str | None = None
    language: str | None = None


class SideFileOptions:
    """The files beside the sound, for options with these fields."""

    subtitles: Path | None
    subtitles_by: str
    words_per_cue: int | None
    words: Path | None

    @property
    def needs_words(self) -> bool:
        """Whether an option requests the times of words.

        Raises:
            UsageError: An option has no effect.
        """
        by_word = self.subtitles_by == "word"
        if by_word and self.subtitles is None:
            raise UsageError("--subtitles-by has no effect without --subtitles.", "Add --subtitles FILE.srt.")
        if self.words_per_cue is not None and not by_word:
            raise UsageError("--words-per-cue has no effect without --subtitles-by word.", "Add --subtitles-by word.")
        return by_word or self.words is not None

    @property
    def side_files(self) -> tuple[Path | None, Path | None, int | None]:
        """The arguments of `audio.beside.open_side_files`."""
        return self.subtitles, self.words, (self.words_per_cue or 1) if self.subtitles_by == "word" else None


@dataclass(frozen=True)
class ChatOptions(Options, panel="Answer"):
    """The sampling of a chat model's answers; the defaults are Llama 3's own."""

    temperature: Annotated[
        float,
        Flag(
            "0 takes the likeliest token.",
            names=("--answer-temperature",),
            minimum=0,
            maximum=LARGEST_NUMBER,
            smallest_above_zero=SMALLEST_TEMPERATURE,
        ),
    ] = 0.6
    top_p: Annotated[
        float,
        Flag(
            "Keep the fewest tokens that together reach this probability.",
            names=("--answer-top-p",),
            minimum=0,
            maximum=1,
        ),
    ] = 0.9
    most_tokens: Annotated[
        int, Flag("The longest answer, in tokens.", names=("--answer-tokens",), minimum=1, maximum=CONTEXT_TOKENS // 2)
    ] = 512
