"""The options of `prepare` and `finetune`. The annotations are evaluated: this module doesn't postpone them."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from llasa_cli.options import Flag, Options
from llasa_cli.settings import CODEC_FLAG, CONTEXT_TOKENS, DEVICE_FLAG, MODEL_FLAG, ModelOptions

SCHEDULES = ("trapezoid", "cosine", "linear", "constant")
"""The values of `--schedule`; see `training.schedule`."""

_START, _LENGTH, _RATE, _BATCHES = "Start", "Length", "Learning rate", "Batches"
_DATA, _SAVING, _MACHINE = "Data", "Evaluation and saving", "Machine"


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


@dataclass(frozen=True)
class LoraOptions(Options, panel=_START):
    """A low-rank adapter instead of all weights; the defaults are those of the published LoRA recipes."""

    rank: Annotated[int, Flag("Rank of the adapter.", minimum=1)] = 8
    alpha: Annotated[float, Flag("The adapter's output is scaled by alpha / rank.")] = 32.0
    dropout: Annotated[float, Flag("Dropout in the adapter.", minimum=0, maximum=1)] = 0.1
    targets: Annotated[tuple[str, ...], Flag("A linear layer to adapt; may be repeated.", names=("--lora-target",))] = (
        "q_proj",
        "v_proj",
    )


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
