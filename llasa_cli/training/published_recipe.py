"""A training script's config.json -> options: the published recipes run as they are.

Read are the files of zhenye234/LLaSA_training (four recipes), of its fork by Deep-unlearning, and any other whose keys are
transformers' TrainingArguments of version 4 or 5, the scripts' own, or the names of our options. What a file does not say
is as the scripts' own defaults, not as ours.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from llasa_cli.errors import UsageError
from llasa_cli.settings import CONTEXT_TOKENS, FinetuneOptions, LoraOptions
from llasa_cli.training.trainer_arguments import OURS

NEVER = 1_000_000_000
"""Steps or minutes, for what a file says is not to happen."""

_RENAMED = {
    "evaluation_strategy": "eval_strategy",  # until transformers 4.46
    "per_gpu_train_batch_size": "per_device_train_batch_size",
    "per_gpu_eval_batch_size": "per_device_eval_batch_size",
    "model_name_or_path": "llm_model_name_or_path",
}
_DIRECT = {
    "llm_model_name_or_path": "model",
    "gradient_accumulation_steps": "accumulate",
    "learning_rate": "learning_rate",
    "weight_decay": "weight_decay",
    "adam_epsilon": "epsilon",
    "max_grad_norm": "gradient_norm",
    "gradient_checkpointing": "gradient_checkpointing",
    "use_liger_kernel": "liger",
    "dataloader_num_workers": "workers",
    "model_max_length": "context",
    "logging_steps": "log_every",
    "eval_on_start": "evaluate_at_start",
    "save_total_limit": "keep",
    "run_name": "run_name",
    "seed": "seed",
    "bf16": "bf16",
}
_SPENT = {
    "cache_dir": "models are read from the hub's own cache (HF_HOME, HF_HUB_CACHE)",
    "per_device_eval_batch_size": "judging makes its batches by tokens",
    "eval_accumulation_steps": "judging keeps no scores",
    "overwrite_output_dir": "a run in the output folder goes on, or use --no-resume",
    "group_by_length": "batches are always of like length",
    "logging_dir": "records lie in the output folder",
    "do_train": "",
    "do_eval": "",
    "local_rank": "",
    "save_safetensors": "",
    "remove_unused_columns": "",
    "ddp_find_unused_parameters": "",
}
"""Keys that need no setting here, and why where that is not plain."""
_SCHEDULES = {"cosine": "cosine", "linear": "linear", "constant": "constant", "constant_with_warmup": "constant"}
_SCRIPT_DEFAULTS: dict[str, Any] = {
    # Of train_tts.py's CustomTrainingArguments, then of TrainingArguments.
    "logging_steps": 100,
    "gradient_checkpointing": True,
    "model_max_length": CONTEXT_TOKENS,
    "lr_scheduler_type": "cosine",
    "learning_rate": 5e-5,
    "num_train_epochs": 3,
    "per_device_train_batch_size": 8,
    "weight_decay": 0.0,
    "adam_beta1": 0.9,
    "adam_beta2": 0.999,
    "eval_strategy": "no",
    "save_steps": 500,
    "warmup_steps": 0,
    "seed": 42,
}


@dataclass(frozen=True)
class Recipe:
    """What a file says.

    Attributes:
        values: Fields of FinetuneOptions.
        notes: What was left out, and why; for the user to read.
    """

    values: Mapping[str, Any]
    notes: tuple[str, ...] = field(default=())


def read_recipe(path: Path, device: str = "cpu", processes: int = 1) -> Recipe:
    """Understand a file whole, or say at once everything that is wrong with it.

    Args:
        device: cpu, cuda or mps: what the run will be on.
        processes: Of the run.

    Raises:
        UsageError: It can't be read, or has keys that nobody knows or values that make no sense.
    """
    said = _read(path)
    published = {_RENAMED.get(key, key): value for key, value in said.items()}
    own, theirs = _names()
    _check_keys(path, published, own | theirs)
    is_script = any(key in published for key in ("llm_model_name_or_path", "data_path", "output_dir"))
    try:
        values = _translate((_SCRIPT_DEFAULTS if is_script else {}) | published, path.parent, own)
        values |= {key: _own(key, value) for key, value in published.items() if key in own}
    except (TypeError, ValueError) as error:  # of int(), float(), Path(), LoraOptions(), given what the file holds
        raise UsageError(f"{path} has a value that makes no sense: {error}.", "Correct it, or take it out.") from error
    _check_kinds(path, values, FinetuneOptions)
    notes = [f"{key}: {_SPENT[key]}" for key in published if _SPENT.get(key)]
    _leave_out_what_is_not_here(values, notes, device, processes)
    return Recipe(values, tuple(notes))


def _names() -> tuple[set[str], set[str]]:
    """Keys that only our options have, and those of training scripts."""
    from transformers import TrainingArguments

    theirs = {part.name for part in fields(TrainingArguments)} | set(_DIRECT) | set(_SPENT)
    theirs |= {"data_path", "output_dir", "warmup_ratio"}
    return {part.name for part in fields(FinetuneOptions)} - theirs, theirs


def _read(path: Path) -> dict[str, Any]:
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} can't be read: {error}") from error
    if not isinstance(said, dict):
        raise UsageError(f"{path} does not hold a JSON object.")
    return said


def _check_keys(path: Path, keys: Mapping[str, Any], known: set[str]) -> None:
    unknown = sorted(set(keys) - known)
    if unknown:
        near = {key: get_close_matches(key, known, 1) for key in unknown}
        named = ", ".join(key + (f" (meant {near[key][0]}?)" if near[key] else "") for key in unknown)
        raise UsageError(f"{path} has keys that nobody knows: {named}.", "Take them out, or correct them.")
    kind = keys.get("lr_scheduler_type", "cosine")
    if not isinstance(kind, str) or kind not in _SCHEDULES:
        raise UsageError(f"{path}: there is no lr_scheduler_type {kind!r} here.", "There are " + ", ".join(_SCHEDULES))


def _check_kinds(path: Path, values: Mapping[str, Any], options: type) -> None:
    """Numbers where numbers belong: what is wrong fails here, and not where it is first reckoned with."""
    for name, kind in get_type_hints(options).items():
        value = values.get(name)
        if isinstance(value, LoraOptions):
            _check_kinds(path, vars(value), LoraOptions)
        elif value is not None and not _is_of(value, kind):
            raise UsageError(f"{path} has {name} {value!r}, which makes no sense.", "Correct it, or take it out.")


def _is_of(value: Any, kind: Any) -> bool:
    """A whole number is a float as well, as JSON has it, but true is no number."""
    kinds = get_args(kind) if isinstance(kind, UnionType) else (kind,)
    parts = next((get_args(one) for one in kinds if get_origin(one) is tuple), ())
    if isinstance(value, tuple) and parts:
        each = parts[:1] * len(value) if Ellipsis in parts else parts
        return len(value) == len(each) and all(map(_is_of, value, each))
    plain = tuple(get_origin(one) or one for one in kinds)
    if isinstance(value, bool):
        return bool in plain
    return isinstance(value, plain) or (float in plain and isinstance(value, int))


def _translate(said: Mapping[str, Any], folder: Path, own: set[str]) -> dict[str, Any]:
    """A training script's keys, all of them known, as our options."""
    values: dict[str, Any] = {_DIRECT[key]: value for key, value in said.items() if key in _DIRECT}
    for key, name in (("data_path", "data"), ("output_dir", "output")):
        if key in said:
            values[name] = Path(said[key])
    if int(said.get("max_steps", -1)) > 0:
        values["steps"] = int(said["max_steps"])
    elif "num_train_epochs" in said:
        values["epochs"] = float(said["num_train_epochs"])
    if "per_device_train_batch_size" in said:
        rows = int(said["per_device_train_batch_size"])
        values |= {"rows_per_batch": rows, "tokens_per_batch": rows * int(values.get("context", CONTEXT_TOKENS))}
    if "adam_beta1" in said or "adam_beta2" in said:
        values["betas"] = (float(said.get("adam_beta1", 0.9)), float(said.get("adam_beta2", 0.999)))
    if "lr_scheduler_type" in said:
        values["schedule"] = _SCHEDULES[said["lr_scheduler_type"]]
    values |= _warm_up(said) | _occasions(said)
    if "report_to" in said:
        values["report_to"] = _reports(said["report_to"])
    if said.get("deepspeed"):
        beside = folder / str(said["deepspeed"])
        values["deepspeed"] = beside if beside.is_file() else Path(said["deepspeed"])
    if said.get("optim", "adamw_torch_fused") != "adamw_torch_fused":
        values["optimizer"] = said["optim"]
    done = {*_DIRECT, *_SPENT, *OURS, *own, "data_path", "warmup_ratio"}
    rest = {key: value for key, value in said.items() if key not in done}
    return values | ({"trainer": rest} if rest else {})


def _warm_up(said: Mapping[str, Any]) -> dict[str, Any]:
    """Steps come before a share, as in transformers; of version 5, steps below 1 are a share."""
    steps, share = said.get("warmup_steps"), said.get("warmup_ratio")
    if steps is None and share is None:
        return {}
    if not steps and share:
        return {"warm_up_share": float(share)}
    steps = steps or 0
    return {"warm_up_share": float(steps)} if 0 < steps < 1 else {"warm_up_steps": int(steps)}


def _occasions(said: Mapping[str, Any]) -> dict[str, Any]:
    """When it is judged and saved."""
    found: dict[str, Any] = {}
    if "eval_strategy" in said:
        judged = said["eval_strategy"] == "steps"
        found["evaluate_every"] = int(said.get("eval_steps") or said.get("logging_steps", 100)) if judged else NEVER
    elif "eval_steps" in said:
        found["evaluate_every"] = int(said["eval_steps"])
    if "save_steps" in said:
        saved = said.get("save_strategy", "steps") == "steps"
        found |= {"save_every_steps": int(said["save_steps"]) if saved else None, "save_every_minutes": float(NEVER)}
    return found


def _own(key: str, value: Any) -> Any:
    """One of our options, as JSON holds it."""
    if key == "lora" and isinstance(value, dict):
        parts: dict[str, Any] = {name: tuple(part) if isinstance(part, list) else part for name, part in value.items()}
        return LoraOptions(**parts)
    if key == "lora":
        return LoraOptions() if value else None
    if key in ("data", "output", "fresh", "tokenizer", "deepspeed") and value is not None:
        return Path(value)
    if key == "chat":
        return tuple(Path(name) for name in value)
    return tuple(value) if isinstance(value, list) else value


def _reports(said: Any) -> tuple[str, ...]:
    names = [said] if isinstance(said, str) else list(said or [])
    return tuple(name for name in names if name not in ("none", "all"))


def _leave_out_what_is_not_here(values: dict[str, Any], notes: list[str], device: str, processes: int) -> None:
    """Only what changes nothing in the result: speed, memory, and where a copy of the log goes."""

    def missing(package: str) -> bool:
        return find_spec(package) is None

    kept = []
    for name in values.get("report_to", ()):
        if name in ("wandb", "tensorboard") and missing(name):
            notes.append(f"report_to: {name} is not installed; the log is log.jsonl")
        else:
            kept.append(name)
    if "report_to" in values:
        values["report_to"] = tuple(kept)
    reasons: tuple[tuple[str, bool, Callable[[], str]], ...] = (
        (
            "liger",
            device != "cuda" or missing("liger_kernel"),
            lambda: "use_liger_kernel: left out, it needs a CUDA GPU and the package liger-kernel",
        ),
        (
            "deepspeed",
            processes == 1 and (device != "cuda" or missing("deepspeed")),
            lambda: "deepspeed: left out, one process without it trains the same",
        ),
    )
    for name, absent, note in reasons:
        if values.get(name) and absent:
            values[name] = type(values[name])() if isinstance(values[name], bool) else None
            notes.append(note())
