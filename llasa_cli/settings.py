"""Constants with their units, and the frozen option dataclasses that travel from the command line to the engine.

Name, default, limits and help of every option stand here once, or in the dataclass of the command that alone has the
option; see `llasa_cli.options`. The annotations are evaluated: this module doesn't postpone them.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from llasa_cli.audio.formats import FILE_FORMATS
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

ENGINES = ("llasa", "vllm")
"""The values of `--engine`: what runs the language model of a batch."""

SCHEDULES = ("trapezoid", "cosine", "linear", "constant")
"""The values of `--schedule`; see `training.schedule`."""

TEXT_FORMATS = ("auto", "plain", "markdown", "html", "ssml", "srt")
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

ITEM_PAUSE_S = 0.6
"""Seconds between two items in one file, about the pause between two paragraphs."""

PASSAGE_SLOTS = {"cpu": 16, "cuda": 32, "mps": 16}
"""Passages of one text that a worker speaks at once; on a CPU fewer if memory is short. On a GPU the number is fixed, because
it decides the last bits of the sound."""

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
class SamplingOptions(Options):
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
            panel=_SAMPLING,
        ),
    ] = 0.9
    top_p: Annotated[
        float,
        Flag("Keep the fewest codes that together reach this probability.", minimum=0, maximum=1, panel=_SAMPLING),
    ] = 0.95
    top_k: Annotated[
        int, Flag("Keep the k likeliest codes; 0 keeps all.", minimum=0, maximum=LARGEST_NUMBER, panel=_SAMPLING)
    ] = 0
    min_p: Annotated[
        float,
        Flag("Drop codes below this share of the likeliest one.", minimum=0, maximum=1, panel=_SAMPLING),
    ] = 0.0
    repetition_penalty: Annotated[
        float,
        Flag(
            "Make codes that were already spoken less likely; 1 is off.",
            minimum=0.01,
            maximum=LARGEST_NUMBER,
            panel=_SAMPLING,
        ),
    ] = 1.0
    guidance: Annotated[
        float,
        Flag(
            "Classifier-free guidance: above 1 the speech follows the text more closely; 1 is off.",
            minimum=0,
            maximum=LARGEST_NUMBER,
            panel=_SAMPLING,
        ),
    ] = 1.0
    max_seconds: Annotated[
        float,
        Flag("The longest speech of one chunk, in seconds.", minimum=0.02, maximum=LARGEST_NUMBER, panel=_SAMPLING),
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
class RetryPolicy:
    """The retries of a download over a failing network."""

    tries: int = 6
    """Requests in a row without a new byte before the download fails."""
    first_tries: int = 3
    """`tries` until the first answer: there may be no network at all."""
    first_pause_s: float = 1.0
    """The pause before the second try; each later pause is twice as long."""
    longest_pause_s: float = 30.0
    longest_wait_s: float = 320.0
    """The longest Retry-After that is followed; the hub counts its limits over 300 s."""
    timeout_s: float | None = None
    """Silence after which a connection is closed; None takes HF_HUB_DOWNLOAD_TIMEOUT (10 s)."""
    copies: int = 3
    """The number of times that a file with a wrong checksum is fetched from the beginning."""


@dataclass(frozen=True)
class ModelOptions(Options):
    """The model, its parts and its device."""

    model: Annotated[str, MODEL_FLAG] = BUILT_IN_MODEL
    codec: Annotated[str | None, CODEC_FLAG] = None
    device: Annotated[str, DEVICE_FLAG] = "auto"
    dtype: Annotated[str, Flag(f"{listed(DTYPES)}.", panel=_MODEL, completion="dtypes")] = "auto"
    adapter: Annotated[
        str | None,
        Flag(
            "Folder of a LoRA adapter trained on the model. `-m FOLDER` finds the model of an adapter by itself.",
            panel=_MODEL,
        ),
    ] = None
    attention: Annotated[
        str, Flag("auto, sdpa, flash (CUDA and the package flash-attn) or eager.", choices=ATTENTIONS, panel=_MODEL)
    ] = "auto"


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
class SpeechOptions(Options):
    """One request: how to sample, which speaker, how often to retry."""

    sampling: SamplingRequest = field(default_factory=SamplingRequest)
    seed: Annotated[
        int | None,
        Flag("Repeats a run exactly.", minimum=0, panel=_SAMPLING, default_text="drawn, and reported"),
    ] = None
    speaker: str | None = None
    """A speaker tag that the checkpoint was trained with; None takes the checkpoint's default."""
    retries: Annotated[
        int, Flag("How often a chunk that fails its checks is spoken again.", minimum=0, panel=_SAMPLING)
    ] = 2
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
            panel=_SAMPLING,
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


def check_word_options(
    subtitles: Path | None, subtitles_by: str, words_per_cue: int | None, words: Path | None
) -> bool:
    """-> whether the times of words are needed

    Raises:
        UsageError: An option has no effect.
    """
    by_word = subtitles_by == "word"
    if by_word and subtitles is None:
        raise UsageError("--subtitles-by has no effect without --subtitles.", "Add --subtitles FILE.srt.")
    if words_per_cue is not None and not by_word:
        raise UsageError("--words-per-cue has no effect without --subtitles-by word.", "Add --subtitles-by word.")
    return by_word or words is not None


@dataclass(frozen=True)
class ChatOptions(Options):
    """The sampling of a chat model's answers; the defaults are Llama 3's own."""

    temperature: Annotated[
        float,
        Flag(
            "0 takes the likeliest token.",
            names=("--answer-temperature",),
            minimum=0,
            maximum=LARGEST_NUMBER,
            smallest_above_zero=SMALLEST_TEMPERATURE,
            panel="Answer",
        ),
    ] = 0.6
    top_p: Annotated[
        float,
        Flag(
            "Keep the fewest tokens that together reach this probability.",
            names=("--answer-top-p",),
            minimum=0,
            maximum=1,
            panel="Answer",
        ),
    ] = 0.9
    most_tokens: Annotated[
        int,
        Flag(
            "The longest answer, in tokens.",
            names=("--answer-tokens",),
            minimum=1,
            maximum=CONTEXT_TOKENS // 2,
            panel="Answer",
        ),
    ] = 512


_SCHEDULING = "Many at once"

SLOTS_FLAG = Flag(
    "Texts that each worker speaks at once.",
    names=("--batch-size",),
    minimum=1,
    maximum=4096,
    panel=_SCHEDULING,
    default_text="what the free memory has room for",
)
WORKERS_FLAG = Flag(
    "Processes on each device, each with its own model; with --ray, actors in total.",
    minimum=1,
    maximum=4096,
    panel=_SCHEDULING,
)
DEVICES_FLAG = Flag("Devices with a process each: 0,1,2 or all (every GPU), or cpu,cpu.", panel=_SCHEDULING)
RAY_FLAG = Flag(
    "Distribute over a Ray cluster: its address, auto, or local for a new one.",
    metavar="ADDRESS",
    panel=_SCHEDULING,
)


@dataclass(frozen=True)
class SchedulingOptions(Options):
    """The number of passages of a long text that are spoken at once, and their devices."""

    slots: Annotated[
        int | None,
        replace(
            SLOTS_FLAG,
            help="Passages of a book or long text that each worker speaks at once.",
            default_text=f"{PASSAGE_SLOTS['cpu']} on a CPU, {PASSAGE_SLOTS['cuda']} on a GPU",
        ),
    ] = None
    workers: Annotated[int | None, WORKERS_FLAG] = None
    devices: Annotated[str | None, DEVICES_FLAG] = None
    ray: Annotated[str | None, RAY_FLAG] = None

    @property
    def is_given(self) -> bool:
        """Whether any of them was asked for."""
        return self != SchedulingOptions()

    @property
    def is_local(self) -> bool:
        """Whether one thread of this process does the work."""
        return self.ray is None and self.devices is None and self.workers in (None, 1)


@dataclass(frozen=True)
class BatchOptions(Options):
    """A list to a folder of files, or to one file."""

    source: Annotated[
        str,
        Flag("Lines, id|text, .csv, .tsv or .jsonl; - is standard input.", is_argument=True, metavar="LIST"),
    ]
    output: Annotated[
        Path,
        Flag(
            "Folder for the files and results.jsonl, or one file (.wav ...) of all items.",
            names=("-o", "--output"),
        ),
    ]
    ref: Annotated[
        Path | None,
        replace(REFERENCE_FLAG, help="A clip of the voice for items that name none."),
    ] = None
    file_format: Annotated[
        str | None,
        Flag(
            f"{listed(FILE_FORMATS)}.",
            names=("--format",),
            default_text="wav; of a single file, its ending",
            completion="formats",
        ),
    ] = None
    pause_s: Annotated[
        float | None,
        Flag(
            "Seconds between two items in one file.",
            names=("--pause",),
            minimum=0,
            maximum=60,
            default_text=f"{ITEM_PAUSE_S:g}",
        ),
    ] = None
    subtitles: Annotated[Path | None, replace(SUBTITLES_FLAG, help="Subtitles of the one file: .srt or .vtt.")] = None
    subtitles_by: Annotated[str, SUBTITLES_BY_FLAG] = SUBTITLES_BY[0]
    words_per_cue: Annotated[int | None, WORDS_PER_CUE_FLAG] = None
    words: Annotated[
        Path | None,
        replace(
            WORDS_FLAG,
            help="Write when each word is said: a .json file for one output file, else a folder for one .json file for each item.",
        ),
    ] = None
    loudness: Annotated[float | None, replace(LOUDNESS_FLAG, help="Loudness of the one file in LUFS (EBU R128).")] = (
        None
    )
    ref_text: str | None = None
    """The transcript of `ref`."""
    language: str | None = None
    """The language of clips and texts, for the recognizer."""
    verifiers: VerifierOptions = NO_VERIFIERS
    """The verifiers that judge each take besides the checks."""
    timing: WordTiming | None = None
    """How the times of words are found; None if they are not requested."""
    slots: Annotated[int | None, SLOTS_FLAG] = None
    workers: Annotated[int | None, WORKERS_FLAG] = None
    devices: Annotated[str | None, DEVICES_FLAG] = None
    ray: Annotated[str | None, RAY_FLAG] = None
    engine: Annotated[
        str, Flag("What runs the model: llasa, or vllm (if installed).", choices=ENGINES, panel=_SCHEDULING)
    ] = ENGINES[0]
    accept_failed: bool = False
    """Whether speech that still fails its checks counts as a success."""
    dry_run: Annotated[bool, Flag("Check the whole list and write nothing.")] = False
    json: Annotated[bool, Flag("Print one JSON object for each item, and a summary.")] = False

    @property
    def side_files(self) -> tuple[Path | None, Path | None, int | None]:
        """The arguments of `audio.beside.open_side_files` for the one file."""
        return self.subtitles, self.words, (self.words_per_cue or 1) if self.subtitles_by == "word" else None


@dataclass(frozen=True)
class PrepareOptions(Options):
    """Recordings to training files."""

    sources: Annotated[
        tuple[Path | str, ...],
        Flag(
            "Folders of audio with .txt files of the same name, tables (CSV, TSV, JSON lines) with the columns "
            "audio,text[,speaker], LJSpeech's metadata.csv or metadata.txt, saved datasets or parquet, or hf:org/name from the hub.",
            is_argument=True,
            metavar="DATA...",
        ),
    ]
    output: Annotated[
        Path,
        Flag(
            "Folder to write. A run that was stopped resumes in the same folder.",
            names=("-o", "--output"),
        ),
    ]
    speaker: Annotated[str | None, Flag("Speaker tag of rows that name no speaker.")] = None
    validation: Annotated[
        float,
        Flag(
            "Rows kept apart for validation: a share below 1 (at least three rows of a dozen), or a number of rows; 0 keeps "
            "none. A dataset with its own validation rows keeps those.",
            minimum=0,
        ),
    ] = 0.01
    seed: Annotated[int, Flag("Chooses the validation rows.", minimum=0)] = 0
    text_column: Annotated[str | None, Flag("Name of the text column, if it is not text.")] = None
    audio_column: Annotated[str | None, Flag("Name of the audio column, if it is not audio.")] = None
    speaker_column: Annotated[str | None, Flag("Name of the speaker column, if it is not speaker.")] = None
    codes: Annotated[
        Path | None,
        Flag(
            "Folder of codes made elsewhere, a .npy for each clip (id.npy or id.wav.npy): nothing is encoded.",
        ),
    ] = None
    splits: Annotated[
        tuple[str, ...], Flag("Read only this split of a dataset; may be repeated.", names=("--split",))
    ] = ()
    subset: Annotated[float, Flag("Take only this share of the rows, evenly spread.")] = 1.0
    sample: Annotated[int, Flag("Take only the first N rows of each source; 0 takes all.", minimum=0)] = 0
    max_tokens: Annotated[
        int,
        Flag("Width of the written rows, in tokens; longer rows are skipped.", maximum=CONTEXT_TOKENS),
    ] = CONTEXT_TOKENS
    batch_seconds: Annotated[
        float,
        Flag("Seconds of audio encoded together; on a CPU larger batches are no faster.", minimum=0),
    ] = 24.0
    rank: int = 0
    ranks: int = 1
    """This process prepares the share `rank` of `ranks`."""
    dry_run: Annotated[bool, Flag("Report hours, lengths and problems, and write nothing.")] = False


_START, _LENGTH, _RATE, _BATCHES = "Start", "Length", "Learning rate", "Batches"
_DATA, _SAVING, _MACHINE = "Data", "Evaluation and saving", "Machine"


@dataclass(frozen=True)
class LoraOptions(Options):
    """A low-rank adapter instead of all weights; the defaults are those of the published LoRA recipes."""

    rank: Annotated[int, Flag("Rank of the adapter.", minimum=1, panel=_START)] = 8
    alpha: Annotated[float, Flag("The adapter's output is scaled by alpha / rank.", panel=_START)] = 32.0
    dropout: Annotated[float, Flag("Dropout in the adapter.", minimum=0, maximum=1, panel=_START)] = 0.1
    targets: Annotated[
        tuple[str, ...],
        Flag("A linear layer to adapt; may be repeated.", names=("--lora-target",), panel=_START),
    ] = ("q_proj", "v_proj")


@dataclass(frozen=True)
class FinetuneOptions(Options):
    """Training files to a checkpoint."""

    data: Annotated[
        Path,
        Flag(
            "Folder that `llasa prepare` wrote, or data of the published form; with --online, recordings.",
            is_argument=True,
        ),
    ]
    output: Annotated[
        Path,
        Flag(
            "Folder that becomes the checkpoint. A run that was stopped resumes in the same folder.",
            names=("-o", "--output"),
        ),
    ]
    model: Annotated[
        str | None,
        replace(MODEL_FLAG, help="Checkpoint to start from: a Llasa, or a text Llama.", panel=_START, environment=None),
    ] = None
    fresh: Annotated[
        Path | None,
        Flag("Configuration (JSON) of a Llama or Qwen, to start from random weights with.", panel=_START),
    ] = None
    tokenizer: Annotated[Path | None, Flag("Tokenizer folder of a fresh model.", panel=_START)] = None
    codec: Annotated[str | None, replace(CODEC_FLAG, panel=_START)] = None
    lora: Annotated[LoraOptions | None, Flag("Train an adapter; the model's own weights stay.", panel=_START)] = None
    steps: Annotated[int | None, Flag("How long to train, in steps.", panel=_LENGTH)] = None
    epochs: Annotated[float | None, Flag("How long to train, in passes over the data.", panel=_LENGTH)] = None
    minutes: Annotated[float | None, Flag("How long to train, in minutes over all resumed runs.", panel=_LENGTH)] = None
    learning_rate: Annotated[
        float | None,
        Flag(
            "Peak learning rate.",
            minimum=0,
            panel=_RATE,
            default_text="by the model's size: 4e-4 for the built-in model, 1e-5 from 1B on; 5e-4 for an adapter",
        ),
    ] = None
    betas: Annotated[tuple[float, float], Flag("Betas of AdamW.", panel=_RATE)] = (0.9, 0.95)
    epsilon: Annotated[float, Flag("Epsilon of AdamW.", minimum=0, panel=_RATE)] = 1e-8
    weight_decay: Annotated[float, Flag("Weight decay of AdamW.", minimum=0, panel=_RATE)] = 0.01
    optimizer: Annotated[
        str,
        Flag(
            "auto (torch's AdamW, fused where possible), or a name of transformers' such as adamw_bnb_8bit.",
            panel=_RATE,
        ),
    ] = "auto"
    schedule: Annotated[
        str, Flag("Shape of the learning rate: trapezoid, cosine, linear or constant.", choices=SCHEDULES, panel=_RATE)
    ] = SCHEDULES[0]
    warm_up_steps: Annotated[
        int | None,
        Flag(
            "Steps until the peak is reached.",
            minimum=0,
            panel=_RATE,
            default_text="60, or a tenth of the run if that is less",
        ),
    ] = None
    warm_up_share: Annotated[
        float | None, Flag("The same, as a share of the run.", minimum=0, maximum=1, panel=_RATE)
    ] = None
    decay_share: Annotated[
        float,
        Flag(
            "Last share of the run, in which the trapezoid's rate falls linearly to 0.",
            minimum=0,
            maximum=1,
            panel=_RATE,
        ),
    ] = 0.6
    gradient_norm: Annotated[float, Flag("Gradients are clipped to this norm; 0 is off.", minimum=0, panel=_RATE)] = 1.0
    tokens_per_batch: Annotated[
        int, Flag("The most tokens in a batch, padding included.", minimum=1, panel=_BATCHES)
    ] = 2048
    rows_per_batch: Annotated[
        int | None,
        Flag("The most rows in a batch.", minimum=1, panel=_BATCHES, default_text="as many as the tokens allow"),
    ] = None
    accumulate: Annotated[int, Flag("Batches per optimizer step.", minimum=1, panel=_BATCHES)] = 1
    context: Annotated[
        int,
        Flag("The longest row in tokens, chat template included; longer rows are skipped.", minimum=1, panel=_BATCHES),
    ] = CONTEXT_TOKENS
    bf16: Annotated[bool | None, Flag("bfloat16 autocast.", panel=_MACHINE, default_text="on a GPU")] = None
    gradient_checkpointing: Annotated[
        bool,
        Flag("Recompute activations instead of keeping them: less memory, a quarter slower.", panel=_MACHINE),
    ] = False
    flash_attention: Annotated[bool, Flag("FlashAttention-2 (CUDA and the package flash-attn).", panel=_MACHINE)] = (
        False
    )
    liger: Annotated[bool, Flag("Liger kernels (CUDA and the package liger-kernel).", panel=_MACHINE)] = False
    deepspeed: Annotated[Path | None, Flag("DeepSpeed configuration (JSON).", panel=_MACHINE)] = None
    workers: Annotated[int, Flag("Processes that read rows ahead.", minimum=0, panel=_MACHINE)] = 0
    device: Annotated[str, replace(DEVICE_FLAG, panel=_MACHINE)] = ModelOptions.device
    seed: Annotated[int, Flag("Seed of new weights and of the order of the rows.", minimum=0, panel=_BATCHES)] = 0
    speakers: Annotated[
        tuple[str, ...],
        Flag("Train on this speaker's rows only; may be repeated.", names=("--speaker",), panel=_DATA),
    ] = ()
    speaker_dropout: Annotated[
        float,
        Flag(
            "Share of rows that are read without their speaker tag.",
            names=("--speaker-dropout", "--untagged"),
            minimum=0,
            maximum=1,
            panel=_DATA,
        ),
    ] = 0.0
    text_dropout: Annotated[
        float,
        Flag(
            "Share of rows that are read without their text, for `say --guidance`.",
            names=("--text-dropout", "--textless"),
            minimum=0,
            maximum=1,
            panel=_DATA,
        ),
    ] = 0.0
    length_curriculum: Annotated[
        float,
        Flag(
            "First share of the run, in which rows grow from one second of speech to all lengths.",
            names=("--length-curriculum", "--short-first"),
            minimum=0,
            maximum=1,
            panel=_DATA,
        ),
    ] = 0.0
    chat: Annotated[
        tuple[Path, ...],
        Flag(
            "JSONL file of text conversations, mixed in so that the model keeps its chat; may be repeated.",
            panel=_DATA,
        ),
    ] = ()
    online: Annotated[
        bool, Flag("DATA is recordings, which are encoded during training; no data files are written.", panel=_DATA)
    ] = False
    validation: Annotated[
        float,
        Flag("Rows kept for evaluation with --online: a share below 1, or a number.", minimum=0, panel=_DATA),
    ] = 0.005
    save_every_minutes: Annotated[
        float,
        Flag(
            "Minutes between saves: the most that kill -9 loses. The first save comes after one minute.",
            names=("--save-every",),
            minimum=0,
            panel=_SAVING,
        ),
    ] = 10.0
    save_every_steps: Annotated[
        int | None, Flag("Save every N steps as well.", names=("--save-steps",), minimum=1, panel=_SAVING)
    ] = None
    keep: Annotated[int, Flag("How many `checkpoint-N` folders are kept for resuming.", minimum=1, panel=_SAVING)] = 2
    evaluate_every: Annotated[
        int,
        Flag("Steps between evaluations on the validation rows.", names=("--eval-every",), minimum=1, panel=_SAVING),
    ] = 500
    evaluate_at_start: Annotated[
        bool, Flag("Evaluate before the first step too.", names=("--eval-at-start",), panel=_SAVING)
    ] = False
    evaluate_rows: Annotated[
        int, Flag("The most validation rows that are evaluated.", names=("--eval-rows",), minimum=1, panel=_SAVING)
    ] = 200
    speak_every: Annotated[
        int, Flag("Steps between spoken samples (WAV); 0 speaks none.", minimum=0, panel=_SAVING)
    ] = 0
    speak: Annotated[
        tuple[str, ...],
        Flag("A sentence to speak; may be repeated.", panel=_SAVING, default_text="the first validation sentences"),
    ] = ()
    log_every: Annotated[int, Flag("Steps between log lines.", minimum=1, panel=_SAVING)] = 50
    report_to: Annotated[
        tuple[str, ...], Flag("tensorboard, wandb or another of the Trainer's; may be repeated.", panel=_SAVING)
    ] = ()
    run_name: Annotated[str | None, Flag("Name of the run for --report-to.", panel=_SAVING)] = None
    trainer: Annotated[
        Mapping[str, Any],
        Flag(
            "Any other option of transformers' TrainingArguments; may be repeated.",
            metavar="NAME=VALUE",
            panel=_MACHINE,
        ),
    ] = field(default_factory=dict)
    resume: Annotated[
        bool, Flag("Resume the run in the output folder, or refuse a folder that has one.", panel=_SAVING)
    ] = True
