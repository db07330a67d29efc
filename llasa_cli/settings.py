"""Constants with their units, and the frozen options that travel from flags to the engine.

Every default lives here, once; `--help` shows it from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

CODES_PER_SECOND = 50
"""Speech codes a second (X-Codec2: 16 kHz, 320 samples a code)."""

CONTEXT_TOKENS = 2048
"""Prompt and speech codes together: the length Llasa was trained at. Configs say 131,072 and enforce nothing."""

BUILT_IN_MODEL = "tiny"
"""The small voice inside the package, used when neither `--model` nor `LLASA_MODEL` names another."""

TEMPLATE_DATE = "26 Jul 2024"
"""The Llama-3 chat template writes today's date into the prompt unless given one; this is its own fallback."""

ATTENTIONS = ("auto", "sdpa", "flash", "eager")
"""What `--attention` takes; see `lm.attention`."""

DEFAULT_LISTENER = "openai/whisper-base"
"""Hears reference clips that come without a transcript (Apache-2.0, 290 MB, about 100 languages)."""


@dataclass(frozen=True)
class SamplingOptions:
    """How the next speech code is drawn.

    Defaults are those of the cards' later update ("more stable"); `repetition_penalty` 1 is off.
    """

    temperature: float = 0.9
    """0 is greedy. Below about 0.3 Llasa tends to loop."""
    top_p: float = 0.95
    """Keep the fewest codes whose probabilities reach this; 1 keeps all."""
    top_k: int = 0
    """Keep the k likeliest codes; 0 keeps all."""
    min_p: float = 0.0
    """Drop codes less likely than this share of the likeliest; 0 drops none."""
    repetition_penalty: float = 1.0
    """Divide positive (multiply negative) scores of codes already spoken; 1 is off."""
    guidance: float = 1.0
    """How far to go from what would be said without the text, past what is said with it (see `lm.sample.guide`); 1 is off."""
    max_seconds: float = 40.0
    """Stop after this much audio. The 2,048-token context sets its own limit, about 40 s."""


@dataclass(frozen=True)
class SamplingRequest:
    """What the caller wants of `SamplingOptions`; None leaves it to the checkpoint, which may leave it to the defaults."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    guidance: float | None = None
    max_seconds: float | None = None

    def over(self, checkpoint: Mapping[str, Any]) -> SamplingOptions:
        """Request, else the checkpoint's own (`sampling` in llasa.json), else the defaults."""
        known = {part.name for part in fields(self)}
        wanted = {name: getattr(self, name) for name in known if getattr(self, name) is not None}
        return SamplingOptions(**{k: v for k, v in checkpoint.items() if k in known} | wanted)


@dataclass(frozen=True)
class RetryPolicy:
    """How long a download puts up with a network that fails."""

    tries: int = 6
    """Requests in a row that bring no new byte, before it is given up."""
    first_tries: int = 3
    """The same while nothing has answered at all: there may be no network."""
    first_pause_s: float = 1.0
    """Before the second try; each further one is twice as long."""
    longest_pause_s: float = 30.0
    longest_wait_s: float = 320.0
    """The longest a hub may ask to be left alone (Retry-After); its limits are counted over 300 s."""
    timeout_s: float | None = None
    """Silence after which a connection is given up; None takes HF_HUB_DOWNLOAD_TIMEOUT (10 s)."""
    copies: int = 3
    """How often a file is fetched whole whose sum is wrong."""


@dataclass(frozen=True)
class ModelOptions:
    """Which model runs, and where."""

    model: str = BUILT_IN_MODEL
    """A catalogue name (`tiny`, `1b`), a folder, or `org/repo[@revision]`."""
    codec: str | None = None
    """A codec folder or repo; None takes the one that belongs to the model."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N, mps."""
    dtype: str = "auto"
    """auto, float32, bfloat16, float16."""
    adapter: str | None = None
    """The folder of a LoRA adapter that was trained on this model."""
    attention: str = "auto"
    """auto, sdpa, flash, eager: see `lm.attention`."""


@dataclass(frozen=True)
class SpeechOptions:
    """One request: how to speak, whose voice, how often to try."""

    sampling: SamplingRequest = field(default_factory=SamplingRequest)
    seed: int | None = None
    """None draws one; the seed used is always reported."""
    speaker: str | None = None
    """A speaker tag that the checkpoint was trained with; None takes the checkpoint's default."""
    retries: int = 2
    """How often a take that fails its checks is made again with the next seed."""
    markdown: bool = False
    """The text is Markdown: its marks are not spoken."""


COLDEST = 0.01
"""Scores are divided by the temperature; below this they leave float32's range, and no chance is left to draw by."""
LARGEST_NUMBER = 1_000_000
"""Of any sampling flag. What is beyond is a slip, and overflows somewhere."""


@dataclass(frozen=True)
class ChatOptions:
    """How a model that still chats writes its answers; the defaults are Llama 3's own."""

    temperature: float = 0.6
    """0 takes the likeliest token."""
    top_p: float = 0.9
    most_tokens: int = 512
    """Of one answer; the conversation before it has what is left of the context."""


ENGINES = ("llasa", "vllm")
"""What may run the language model of a batch."""


ITEM_PAUSE_S = 0.6
"""Between two items in one file: what a reader takes between two paragraphs."""


@dataclass(frozen=True)
class BatchOptions:
    """A list to a folder of files, or to one file."""

    source: str
    """The list's file; - is standard input."""
    output: Path
    """A folder; or, with a sound file's ending, one file of all items."""
    file_format: str | None = None
    """Of the files; None: WAV, or by the ending of the one file."""
    pause_s: float | None = None
    """Between two items in one file; None: ITEM_PAUSE_S."""
    subtitles: Path | None = None
    """Of the one file, .srt or .vtt."""
    ref: Path | None = None
    ref_text: str | None = None
    """A clip for the items that name no voice."""
    language: str | None = None
    """Of clips and texts, for the recogniser."""
    listener: str | None = None
    """A recogniser that has to find the words of each take."""
    slots: int | None = None
    """Texts that are spoken at once by each worker; None goes by the free memory."""
    workers: int | None = None
    """Processes on each device; None: this one, and on Ray an actor for each GPU (or CPU) there is."""
    devices: str | None = None
    """`0,1`, `cuda:0,cuda:1`, `cpu,cpu`, or `all` GPUs: a process each."""
    ray: str | None = None
    """The address of a Ray cluster, `auto` for the one of this machine, `local` for a new one."""
    engine: str = ENGINES[0]
    """One of ENGINES."""
    dry_run: bool = False
    """Look at the list, say what would be made, and make nothing."""
    json: bool = False


@dataclass(frozen=True)
class PrepareOptions:
    """Recordings to training files."""

    sources: tuple[Path | str, ...]
    """Folders of audio and .txt, tables with audio and text, datasets (`hf:organisation/name` on the hub)."""
    output: Path
    speaker: str | None = None
    """The tag of rows that name no speaker; None leaves them without one."""
    validation: float = 0.01
    """Rows kept for validation: a share below 1 (of a dozen at least three), or their number; 0 keeps none. Not drawn where a
    source has its own."""
    seed: int = 0
    """Draws the validation rows."""
    text_column: str | None = None
    audio_column: str | None = None
    speaker_column: str | None = None
    """What a table or dataset calls them; None takes the first known name that is there."""
    codes: Path | None = None
    """A folder with a .npy of codes for each clip, made elsewhere; nothing is encoded then."""
    splits: tuple[str, ...] = ()
    """Of a dataset, those to take; all if empty."""
    subset: float = 1.0
    """Share of the rows that is taken, evenly spread."""
    sample: int = 0
    """Of each source and split, only so many rows; 0 takes all."""
    max_tokens: int = CONTEXT_TOKENS
    """The width of the written rows; longer ones are left out."""
    batch_seconds: float = 24.0
    """Audio encoded together at most: on a CPU larger batches are no faster."""
    rank: int = 0
    ranks: int = 1
    """Which share of the rows this process does, of how many."""
    dry_run: bool = False
    """Look at everything and write nothing."""


@dataclass(frozen=True)
class LoraOptions:
    """A low-rank adapter instead of all weights; defaults of the published LoRA recipes."""

    rank: int = 8
    alpha: float = 32.0
    """The adapter's product is scaled by alpha / rank."""
    dropout: float = 0.1
    targets: tuple[str, ...] = ("q_proj", "v_proj")
    """Names of the matrices that get one."""


@dataclass(frozen=True)
class FinetuneOptions:
    """Training files to a checkpoint."""

    data: Path
    """Of `llasa prepare`, or of the published form; with `online`, a source of recordings as `llasa prepare` takes."""
    output: Path
    """Becomes a checkpoint folder; a run that was stopped goes on in it."""
    model: str | None = None
    """The checkpoint to start from; None with `fresh`."""
    fresh: Path | None = None
    """A Llama configuration (JSON) to start from random weights with."""
    tokenizer: Path | None = None
    """Tokenizer folder of a fresh model."""
    codec: str | None = None
    """Codec named in the checkpoint; None takes that of the model started from."""
    lora: LoraOptions | None = None
    """Train an adapter; None trains every weight."""
    steps: int | None = None
    epochs: float | None = None
    minutes: float | None = None
    """How long: one of the three. Minutes count over all resumptions."""
    learning_rate: float = 1e-5
    """5e-5 from a text model, 1e-5 for a whole Llasa, 5e-4 for an adapter (published recipes), 2e-3 for a fresh small one."""
    betas: tuple[float, float] = (0.9, 0.95)
    epsilon: float = 1e-8
    weight_decay: float = 0.01
    optimizer: str = "auto"
    """auto: torch's AdamW, fused where it can be. Else one of transformers' names, such as adamw_bnb_8bit."""
    schedule: str = "trapezoid"
    """trapezoid, cosine, linear, constant: see `training.schedule.Rate`."""
    warm_up_steps: int = 60
    warm_up_share: float | None = None
    """The warm-up as a share of the run; None takes the steps."""
    decay_share: float = 0.6
    """The last share of the run, over which the trapezoid's rate falls to zero in a line."""
    gradient_norm: float = 1.0
    """Longer gradients are shortened to this."""
    tokens_per_batch: int = 2048
    """Tokens a batch at most, padding included."""
    rows_per_batch: int | None = None
    """Rows a batch at most; None: as many as the tokens allow."""
    accumulate: int = 1
    """Batches a step."""
    context: int = CONTEXT_TOKENS
    """Tokens of the longest row, template included; longer ones are left out, never cut."""
    bf16: bool | None = None
    """bfloat16 autocast; None: on a GPU."""
    gradient_checkpointing: bool = False
    """Compute activations twice instead of keeping them: less memory, a quarter slower."""
    flash_attention: bool = False
    """FlashAttention-2 (package flash-attn, a CUDA GPU)."""
    liger: bool = False
    """Liger kernels (package liger-kernel, a CUDA GPU)."""
    deepspeed: Path | None = None
    """A DeepSpeed configuration (JSON)."""
    workers: int = 0
    """Processes that read rows ahead."""
    device: str = "auto"
    seed: int = 0
    speakers: tuple[str, ...] = ()
    """Train on these speakers' rows only; all if empty."""
    untagged: float = 0.0
    """Share of rows read without their speaker tag."""
    textless: float = 0.0
    """Share of rows read without their text: what guidance goes away from (see `SamplingOptions.guidance`)."""
    short_first: float = 0.0
    """The first share of the run, in which rows grow from one second of speech to all lengths."""
    chat: tuple[Path, ...] = ()
    """JSONL files of text conversations, mixed in so that a model keeps its chat."""
    online: bool = False
    """`data` is recordings; the codec runs inside training and nothing is written."""
    validation: float = 0.005
    """Rows kept for judging when online, as in `PrepareOptions` (published: 0.005)."""
    save_every_minutes: float = 10.0
    """What is lost at most when the process is killed."""
    save_every_steps: int | None = None
    """Saves at these steps as well; None at none."""
    keep: int = 2
    """How many `checkpoint-N` are kept."""
    evaluate_every: int = 500
    """Steps."""
    evaluate_at_start: bool = False
    evaluate_rows: int = 200
    speak_every: int = 0
    """Steps between spoken samples; 0 speaks none."""
    speak: tuple[str, ...] = ()
    """What is spoken then; empty: the first held-out sentences."""
    log_every: int = 50
    """Steps."""
    report_to: tuple[str, ...] = ()
    """tensorboard, wandb or any other of the Trainer's."""
    run_name: str | None = None
    """What the run is called there."""
    trainer: Mapping[str, Any] = field(default_factory=dict)
    """Anything else of transformers' TrainingArguments, by name."""
    resume: bool = True
    """False refuses an output folder with a run in it."""
