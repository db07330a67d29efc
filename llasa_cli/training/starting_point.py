"""The start of a run: a checkpoint to resume, a model to train, or random weights; and the tokenizer that belongs to it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llasa_cli.checkpoint.metadata import read_metadata
from llasa_cli.checkpoint.resolve import base_of, find_folder, is_adapter
from llasa_cli.errors import UsageError
from llasa_cli.files import read_json_object
from llasa_cli.hub.catalog import repo_of
from llasa_cli.prompt_tokens import CODE_COUNT
from llasa_cli.training.dataset import read_index
from llasa_cli.training.options import FinetuneOptions, LoraOptions
from llasa_cli.training.run_state import base_name, data_fingerprint, last_checkpoint, refuse_other_content
from llasa_cli.training.schedule import default_learning_rate, default_warm_up
from llasa_cli.training.trainer_arguments import process_rank
from llasa_cli.training.vocabulary import codec_size, extend_tokenizer, knows_speech

_NEW_TOKENIZER = ".tokenizer"
"""Folder in the output that holds a text model's tokenizer with the new tokens."""
_FORMER_DEFAULTS = {"learning_rate": 1e-5, "warm_up_steps": 60}
"""The values of llasa 0.1.0 where llasa.json records none."""


@dataclass(frozen=True)
class StartingPoint:
    """Attributes:
    resumed: The `checkpoint-N` to resume from; None for a new run.
    folder: The checkpoint whose weights are loaded first; None for random weights.
    tokenizer: Folder of the tokenizer.
    """

    resumed: Path | None
    folder: Path | None
    tokenizer: Path


def find_start(options: FinetuneOptions) -> StartingPoint:
    """Find the run in the output folder, or the model for a new one.

    Raises:
        UsageError: The options contradict each other, or the run or model in the output folder.
        ModelError: The model is not on this machine, or is not a model.
    """
    resumed = last_checkpoint(options.output)
    if resumed is not None and not options.resume:
        raise UsageError(
            f"{options.output} already holds a run.", "Leave --no-resume out to resume it, or name another folder."
        )
    if resumed is not None:
        _check_base(options)
    else:
        refuse_other_content(options.output)
    folder = _start_folder(options, resumed)
    return StartingPoint(resumed, folder, _tokenizer_folder(options, folder, resumed))


def _check_base(options: FinetuneOptions) -> None:
    """Raises UsageError if the run in the output folder started from another model than --model."""
    began = read_metadata(options.output).get("base")
    named = base_name(options.model)
    if named is None or named in (began, base_name(began)):
        return
    if began is not None and repo_of(began) == repo_of(named) is not None:  # 1b, HKUSTAudio/Llasa-1B
        return
    # The folder may have moved, or lie on another machine.
    moved = began is not None and not Path(began).is_dir() and Path(began).name == Path(named).name
    if not (moved and Path(named).is_dir()):
        raise UsageError(
            f"The run in {options.output} started from {began or 'random weights'}, not from {options.model}.",
            "Leave -m out, or name another folder with -o.",
        )


def _start_folder(options: FinetuneOptions, resumed: Path | None) -> Path | None:
    if resumed is not None and options.lora is None:
        if is_adapter(options.output):
            raise UsageError(f"The run in {options.output} trains an adapter.", "Add --lora to resume it.")
        return resumed
    if resumed is not None and not is_adapter(options.output):
        raise UsageError(f"The run in {options.output} trains a whole model.", "Leave --lora out to resume it.")
    if resumed is not None and options.lora is not None:
        _check_adapter(options.output, options.lora)
    if resumed is not None and options.model is None:
        return find_folder(base_of(options.output))
    if (options.model is None) == (options.fresh is None):
        raise UsageError(
            "A run starts either from a checkpoint or from a new configuration.", "Give one of --model and --fresh."
        )
    if options.fresh is not None:
        if options.tokenizer is None:
            raise UsageError("A new model needs a tokenizer.", "Name its folder with --tokenizer.")
        return None
    assert options.model is not None
    folder = find_folder(options.model)
    if is_adapter(folder):
        raise UsageError(
            f"{folder} holds an adapter.",
            "Merge it with `llasa finetune --merge ADAPTER -o FOLDER`, then train the merged model.",
        )
    return folder


def _check_adapter(folder: Path, wanted: LoraOptions) -> None:
    """Raises UsageError if the adapter in the output folder has another rank, alpha or other targets than the options."""
    stored = read_json_object(folder / "adapter_config.json")
    rank, alpha, targets = int(stored["r"]), float(stored["lora_alpha"]), sorted(stored["target_modules"])
    if (rank, alpha, targets) != (wanted.rank, wanted.alpha, sorted(wanted.targets)):
        flags = f"--lora-rank {rank} --lora-alpha {alpha:g} " + " ".join(f"--lora-target {name}" for name in targets)
        raise UsageError(f"The adapter in {folder} has other settings.", f"Resume with {flags}.")


def _tokenizer_folder(options: FinetuneOptions, start: Path | None, resumed: Path | None) -> Path:
    """The folder of the tokenizer. A text model's tokenizer is first extended by Llasa's tokens, in a new folder."""
    if resumed is not None:
        return options.output
    folder = options.tokenizer or start
    assert folder is not None, "checked by _start_folder"
    if start is None or knows_speech(folder):
        return folder
    new = options.output / _NEW_TOKENIZER / str(process_rank()[0])  # each process reads only what it has written
    count = codec_size(options.codec) if options.codec else int(read_index(options.data).get("code_count", CODE_COUNT))
    extend_tokenizer(folder, new, count)
    return new


def remove_new_tokenizer(output: Path) -> None:
    """Remove this process's extended tokenizer after it was copied into the output folder."""
    folder = output / _NEW_TOKENIZER
    shutil.rmtree(folder / str(process_rank()[0]), ignore_errors=True)
    with suppress(OSError):  # absent, or another process still needs its own
        folder.rmdir()


def with_learning_rate(
    options: FinetuneOptions, start: StartingPoint, steps: int | None, vocabulary_size: int
) -> FinetuneOptions:
    """The options with a learning rate and a warm-up: the user's, else those the run began with, else defaults by size."""
    from llasa_cli.training.model import count_parameters, has_speech_tokens

    chosen: dict[str, Any] = {}
    recorded = _FORMER_DEFAULTS | (read_metadata(options.output).get("recipe") or {})
    if options.learning_rate is None and start.resumed is not None:
        chosen["learning_rate"] = recorded["learning_rate"]
    elif options.learning_rate is None:
        chosen["learning_rate"] = default_learning_rate(
            count_parameters(options, vocabulary_size, start.folder),
            adapter=options.lora is not None,
            random_weights=start.folder is None,
            new_tokens=start.folder is not None and not has_speech_tokens(start.folder, vocabulary_size),
        )
    if options.warm_up_steps is None:
        resumed_steps = recorded["warm_up_steps"] if start.resumed is not None else default_warm_up(steps)
        chosen["warm_up_steps"] = resumed_steps
    return replace(options, **chosen)


def note_odd_settings(
    options: FinetuneOptions, start: StartingPoint, steps: int | None, note: Callable[[str], None]
) -> None:
    """Warn about settings that are allowed but rarely intended."""
    warm_up = options.warm_up_steps
    if options.warm_up_share is None and steps is not None and warm_up is not None and warm_up > steps:
        note(
            f"warning: the warm-up of {warm_up} steps is longer than the run of {steps}: the learning rate never reaches "
            f"{options.learning_rate:g}. Use a smaller --warm-up-steps, or --warm-up-share 0.1."
        )
    if start.resumed is not None and not options.online:
        began = (read_metadata(options.output).get("data") or {}).get("fingerprint")
        if began is not None and began != data_fingerprint(options.data):
            note(f"warning: {options.data} has changed since the run in {options.output} began.")
