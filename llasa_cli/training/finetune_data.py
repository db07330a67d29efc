"""The rows that a run trains on and is evaluated on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from llasa_cli.checkpoint.metadata import read_metadata
from llasa_cli.checkpoint.resolve import find_codec
from llasa_cli.errors import UsageError
from llasa_cli.prompt import PromptFormat
from llasa_cli.training.chat_dataset import ChatDataset, ConcatDataset
from llasa_cli.training.dataset import (
    LengthGroupedBatchSampler,
    SpeechDataset,
    TrainingRows,
    find_held_out_split,
    read_index,
)
from llasa_cli.training.encoding import require_usual_rate
from llasa_cli.training.index import tokenizer_fingerprint
from llasa_cli.training.options import FinetuneOptions
from llasa_cli.training.starting_point import StartingPoint
from llasa_cli.training.trainer_arguments import process_rank

if TYPE_CHECKING:
    import torch

Note = Callable[[str], None]


def read_data(
    options: FinetuneOptions, prompt_format: PromptFormat, start: StartingPoint, device: torch.device, note: Note
) -> tuple[TrainingRows, TrainingRows | None]:
    """Rows to train on, and held-out rows if there are any. `note` is called with the number of skipped rows.

    Raises:
        UsageError: Data of another tokenizer, or none that can be used.
    """
    rows: TrainingRows
    held_out: TrainingRows | None
    made_for = read_index(options.data).get("tokenizer")
    if made_for is not None and made_for != tokenizer_fingerprint(start.tokenizer):
        raise UsageError(
            f"{options.data} was prepared for another tokenizer than the one in {start.tokenizer}.",
            "Run `llasa prepare -m MODEL` for the model that you train.",
        )
    if options.online:
        rows, held_out = _read_recordings(options, prompt_format, start, device, note)
    else:
        rows, held_out = _read_prepared(options, prompt_format, note)
    if options.chat:
        conversations = ChatDataset(options.chat, prompt_format, options.context)
        if not len(conversations):
            raise UsageError(f"No conversation fits into --context {options.context}.", "Shorten the conversations.")
        if conversations.skipped:
            note(f"{conversations.skipped} conversations are left out: longer than --context {options.context}.")
        rows = ConcatDataset(rows, conversations)
    return rows, held_out if held_out is not None and len(held_out) else None


def _read_prepared(
    options: FinetuneOptions, prompt_format: PromptFormat, note: Note
) -> tuple[SpeechDataset, SpeechDataset | None]:
    rows = SpeechDataset(
        options.data,
        "train",
        prompt_format,
        speakers=options.speakers,
        speaker_dropout=options.speaker_dropout,
        text_dropout=options.text_dropout,
        seed=options.seed,
        context=options.context,
    )
    if rows.skipped:
        note(
            f"{rows.skipped} rows are left out: longer than --context {options.context}, or without this model's markers."
        )
    split = find_held_out_split(options.data)
    if split is None:
        return rows, None
    return rows, SpeechDataset(options.data, split, prompt_format, options.speakers, context=options.context)


def _read_recordings(
    options: FinetuneOptions, prompt_format: PromptFormat, start: StartingPoint, device: torch.device, note: Note
) -> tuple[TrainingRows, TrainingRows | None]:
    """Rows that are encoded as they are read, by the codec of the model."""
    from llasa_cli.codec.codec import load_codec
    from llasa_cli.training.online_dataset import OnlineDataset

    if options.workers > 0:
        raise UsageError("With --online the codec runs in the training process itself.", "Leave --workers out.")
    for flag, share in (("--text-dropout", options.text_dropout), ("--speaker-dropout", options.speaker_dropout)):
        if share > 0:
            raise UsageError(
                "--online reads every row with its text and its speaker.", f"To use {flag}, run `llasa prepare` first."
            )
    places = [place for place in (start.tokenizer, start.folder) if place is not None and read_metadata(place)]
    home = places[0] if places else options.output
    codec = load_codec(find_codec(home, options.codec or read_metadata(home).get("codec")), str(device))
    require_usual_rate(codec.codes_per_second)
    if codec.code_count != prompt_format.code_count:
        raise UsageError(
            f"The model has {prompt_format.code_count} speech codes, the codec {codec.code_count}.",
            "Name the model's codec with --codec.",
        )
    recordings = OnlineDataset.read((options.data,), prompt_format, codec, options.context, options.speakers)
    for reason, count in recordings.skipped.items():
        note(f"{count} recordings are left out: {reason}.")
    rows, held_out = recordings.split(options.validation, options.seed)
    for part in (rows, held_out):
        if part is not None:
            part.on_note = note
    return rows, held_out


def count_steps(options: FinetuneOptions, rows: TrainingRows) -> int | None:
    """Length of the run in steps; None if it is given in minutes.

    Raises:
        UsageError: Not exactly one length is given.
    """
    given = [value for value in (options.steps, options.epochs, options.minutes) if value is not None]
    if len(given) != 1 or given[0] <= 0:
        raise UsageError("A run needs exactly one length, above 0.", "Give one of --steps, --epochs and --minutes.")
    if options.epochs is None:
        return options.steps
    sampler = LengthGroupedBatchSampler(
        rows.lengths, options.tokens_per_batch, options.seed, rows_per_batch=options.rows_per_batch
    )
    return max(1, round(options.epochs * sampler.batches_per_epoch() / (options.accumulate * process_rank()[1])))
