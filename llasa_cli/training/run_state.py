"""What a run leaves: a folder that `llasa say -m` takes at any time, and `llasa.json`, in which it describes itself."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from llasa_cli.checkpoint.metadata import METADATA_FILE
from llasa_cli.errors import UsageError
from llasa_cli.files import write_json
from llasa_cli.prompt import INSTRUCTION, PromptFormat
from llasa_cli.settings import TEMPLATE_DATE, FinetuneOptions

PROGRESS_FILE = "progress.json"
"""Written last into each `checkpoint-N`: one without it was cut off by a kill."""
MODEL_FILES = (
    "config.json",
    "model.safetensors",
    "model.safetensors.index.json",
    "adapter_config.json",
    "adapter_model.safetensors",
)
"""Any of these makes a folder somebody's model."""


def refuse_model_in(folder: Path) -> None:
    """Raises UsageError where there is a model or an adapter: nothing is written over one."""
    if any((folder / name).is_file() for name in MODEL_FILES):
        raise UsageError(f"There is a model in {folder} already.", "Name another folder.")


def export_checkpoint(model: Any, folder: Path, about: dict[str, Any], state: Mapping[str, Any] | None = None) -> None:
    """The model in bfloat16, as published checkpoints are, or its adapter in float32, and `llasa.json`.

    Each file appears whole.

    Args:
        model: A Llama, or peft's model around one.
        state: Its tensors, where a sharded run has gathered them; None takes the model's own.
    """
    part = folder / ".saving"
    shutil.rmtree(part, ignore_errors=True)
    if hasattr(model, "peft_config"):
        model.save_pretrained(part, state_dict=state)
        (part / "README.md").unlink(missing_ok=True)
        # Nothing of the base is trained: its name, and not where a cache has it.
        settings = json.loads((part / "adapter_config.json").read_text(encoding="utf-8"))
        write_json(part / "adapter_config.json", settings | {"base_model_name_or_path": about.get("base")})
    else:
        _save_whole(model, part, state if state is not None else model.state_dict())
    # The weights first: config and llasa.json then never tell of a model that is not there yet.
    for path in sorted(part.iterdir(), key=lambda path: path.suffix != ".safetensors"):
        path.replace(folder / path.name)
    part.rmdir()
    write_json(folder / METADATA_FILE, about)


def _save_whole(model: Any, part: Path, state: Mapping[str, Any]) -> None:
    import torch

    tied = {"lm_head.weight"} if model.config.tie_word_embeddings else set()
    weights = {
        name: value.to(torch.bfloat16) if value.is_floating_point() else value
        for name, value in state.items()
        if name not in tied  # in another dtype it would no longer be seen to be the embeddings, and be stored again
    }
    model.save_pretrained(part, state_dict=weights)
    config = json.loads((part / "config.json").read_text(encoding="utf-8"))
    # The Trainer turns the cache off in the model it trains; who speaks with it needs it.
    write_json(part / "config.json", config | {"dtype": "bfloat16", "use_cache": True})


# --- what llasa.json says ---


def describe_prompt_format(prompt_format: PromptFormat) -> dict[str, Any]:
    """How the model is spoken to: enough to see that data or code of another form does not belong to it."""
    return {
        "instruction": INSTRUCTION,
        "date": TEMPLATE_DATE,
        "start_id": prompt_format.start_id,
        "stop_id": prompt_format.end_id,
        "first_code_id": prompt_format.first_code_id,
        "code_count": prompt_format.code_count,
    }


def describe_recipe(options: FinetuneOptions) -> dict[str, Any]:
    """The options that differ from the defaults, less those that only say where things lie."""
    places = {"data", "output", "model", "tokenizer", "fresh", "resume", "device", "codec"}
    said: dict[str, Any] = {}
    for part in fields(FinetuneOptions):
        value = getattr(options, part.name)
        if part.name not in places and value != _default(part):
            said[part.name] = asdict(value) if part.name == "lora" else value
    found: dict[str, Any] = json.loads(json.dumps(said, default=str))
    return found


def _default(part: Any) -> Any:
    from dataclasses import MISSING

    return part.default_factory() if part.default_factory is not MISSING else part.default


def data_fingerprint(folder: Path) -> str:
    """12 hexadecimal digits of the training files: their names, sizes, and the first and last mebibyte of each."""
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("train_*.memmap"), *folder.glob("train_*.npy")]):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}".encode())
        with path.open("rb") as file:
            digest.update(file.read(1 << 20))
            file.seek(max(0, size - (1 << 20)))
            digest.update(file.read())
    return digest.hexdigest()[:12]
