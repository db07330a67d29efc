"""The output folder of a run: its content, how it is written, and how a run in it is resumed.

config.json, model.safetensors, tokenizer files, llasa.json    the model as of the last save; each file is replaced as a
                                                               whole, so that another process can read it at any time;
                                                               of an adapter, adapter_*.* in place of the first two
checkpoint-N/                                                  the run resumes from these; progress.json is written last
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any

from llasa_cli.checkpoint.metadata import METADATA_FILE, read_metadata
from llasa_cli.errors import UsageError
from llasa_cli.files import hash_ends, read_json_object, write_json
from llasa_cli.prompt import INSTRUCTION, PromptFormat
from llasa_cli.settings import BUILT_IN_MODEL, TEMPLATE_DATE
from llasa_cli.training.options import FinetuneOptions

PROGRESS_FILE = "progress.json"
"""Written last into each `checkpoint-N`; without it, the save was interrupted."""
MODEL_FILES = (
    "config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "adapter_config.json",
    "adapter_model.safetensors",
)
"""Any of these files makes a folder a model."""
_SAVING = ".saving"
_PLACES = {"data", "output", "model", "tokenizer", "fresh", "resume", "device", "codec"}
"""Options that only say where something lies."""


def refuse_model_in(folder: Path) -> None:
    """Raises UsageError where the folder holds a model or an adapter, which is never overwritten."""
    if any((folder / name).is_file() for name in MODEL_FILES):
        raise UsageError(f"{folder} already holds a model.", "Name another folder with -o.")


# --- the run in a folder ---


def last_checkpoint(folder: Path) -> Path | None:
    """The newest complete `checkpoint-N`."""
    complete = [path for path in folder.glob("checkpoint-*") if (path / PROGRESS_FILE).is_file()]
    return max(complete, key=step_of, default=None)


def step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.rsplit("-", 1)[1])


def read_progress(checkpoint: Path | None) -> dict[str, Any]:
    """Seconds and tokens of the run so far; empty for a new run."""
    return {} if checkpoint is None else read_json_object(checkpoint / PROGRESS_FILE)


def refuse_other_content(folder: Path) -> None:
    """Raises UsageError where a new run would overwrite a model, or delete checkpoints of another program.

    A run that was interrupted in its first save may be overwritten: its `llasa.json` names no step until the model is whole.
    """
    metadata = read_metadata(folder)
    steps = metadata.get("steps")
    interrupted = "recipe" in metadata and (steps == 0 or (folder / f"checkpoint-{steps}").is_dir())
    if interrupted:
        return
    refuse_model_in(folder)
    if "recipe" not in metadata and any(folder.glob("checkpoint-*")):
        raise UsageError(f"{folder} holds checkpoints of another program.", "Name another folder with -o.")


def delete_unfinished(folder: Path) -> None:
    """Remove the files of an interrupted save."""
    for path in folder.glob("checkpoint-*"):
        if not (path / PROGRESS_FILE).is_file():
            shutil.rmtree(path, ignore_errors=True)
    shutil.rmtree(folder / _SAVING, ignore_errors=True)


# --- saving ---


def export_checkpoint(
    model: Any, folder: Path, metadata: dict[str, Any], state: Mapping[str, Any] | None = None
) -> None:
    """Write the model in bfloat16, as published checkpoints are, or its adapter in float32, and `llasa.json`.

    Each file appears whole.

    Args:
        model: A Llama, or peft's model around one.
        state: Its tensors, gathered from all processes of a sharded run; None takes the model's own.
    """
    part = folder / _SAVING
    shutil.rmtree(part, ignore_errors=True)
    if hasattr(model, "peft_config"):
        model.save_pretrained(part, state_dict=state)
        (part / "README.md").unlink(missing_ok=True)
        # The name of the base, not the place where a cache keeps it.
        settings = read_json_object(part / "adapter_config.json")
        write_json(part / "adapter_config.json", settings | {"base_model_name_or_path": metadata.get("base")})
    else:
        _save_whole(model, part, state if state is not None else model.state_dict())
    use_umask(part)
    # The weights come first: config.json and llasa.json never describe a model that is not there yet.
    for path in sorted(part.iterdir(), key=lambda path: path.suffix != ".safetensors"):
        path.replace(folder / path.name)
    part.rmdir()
    write_json(folder / METADATA_FILE, metadata)


def _save_whole(model: Any, part: Path, state: Mapping[str, Any]) -> None:
    import torch

    # A tied head in another dtype would no longer be recognized as the embeddings, and would be stored twice.
    tied = {"lm_head.weight"} if model.config.tie_word_embeddings else set()
    weights = {
        name: value.to(torch.bfloat16) if value.is_floating_point() else value
        for name, value in state.items()
        if name not in tied
    }
    model.save_pretrained(part, state_dict=weights)
    config = read_json_object(part / "config.json")
    # The Trainer turns the KV cache off in the model it trains; generation needs it.
    write_json(part / "config.json", config | {"dtype": "bfloat16", "use_cache": True})


def use_umask(folder: Path) -> None:
    """Give weight files the permissions of other new files: safetensors writes them for their owner alone."""
    probe = folder / ".umask.part"
    probe.touch()
    mode = probe.stat().st_mode & 0o777
    probe.unlink()
    for path in folder.glob("*.safetensors*"):
        path.chmod(mode)


# --- llasa.json ---


def base_name(model: str | None) -> str | None:
    """The name of the starting model in llasa.json: of a folder its absolute path, so that it is found from anywhere."""
    if model is None or model == BUILT_IN_MODEL or not Path(model).expanduser().is_dir():
        return model
    return str(Path(model).expanduser().resolve())


def describe_prompt_format(prompt_format: PromptFormat) -> dict[str, Any]:
    """The form of the prompt: enough to see that data or code of another form does not belong to the model."""
    return {
        "instruction": INSTRUCTION,
        "date": TEMPLATE_DATE,
        "start_id": prompt_format.start_id,
        "stop_id": prompt_format.end_id,
        "first_code_id": prompt_format.first_code_id,
        "code_count": prompt_format.code_count,
    }


def describe_recipe(options: FinetuneOptions) -> dict[str, Any]:
    """The options that differ from the defaults, without those that only say where something lies."""
    recipe: dict[str, Any] = {}
    for part in fields(FinetuneOptions):
        value = getattr(options, part.name)
        default = part.default_factory() if part.default_factory is not MISSING else part.default
        if part.name not in _PLACES and value != default:
            recipe[part.name] = asdict(value) if part.name == "lora" else value
    plain: dict[str, Any] = json.loads(json.dumps(recipe, default=str))
    return plain


def data_fingerprint(folder: Path) -> str:
    """12 hexadecimal digits of the training files: their names, sizes, and the first and last mebibyte of each."""
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("train_*.memmap"), *folder.glob("train_*.npy")]):
        digest.update(f"{path.name} {path.stat().st_size}".encode())
        hash_ends(digest, path)
    return digest.hexdigest()[:12]
