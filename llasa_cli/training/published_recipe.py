"""The config.json of a training script -> options, so that the published recipes run as they are.

It reads the files of zhenye234/LLaSA_training (five recipes), those of its fork by Deep-unlearning, and any other file whose
keys are transformers' TrainingArguments of version 4 or 5, the scripts' own arguments, or the names of our options. A key
that a script's file leaves out has the script's default, not ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from llasa_cli.errors import UsageError
from llasa_cli.files import read_json_object
from llasa_cli.settings import CONTEXT_TOKENS
from llasa_cli.training.options import FinetuneOptions, LoraOptions
from llasa_cli.training.trainer_arguments import OWN_ARGUMENTS

NEVER = 1_000_000_000
"""Steps or minutes, for an event that a file turns off."""

_RENAMED = {
    "evaluation_strategy": "eval_strategy",  # until transformers 4.46
    "per_gpu_train_batch_size": "per_device_train_batch_size",
    "per_gpu_eval_batch_size": "per_device_eval_batch_size",
    "model_name_or_path": "llm_model_name_or_path",
    "untagged": "speaker_dropout",  # until llasa 0.1
    "textless": "text_dropout",
    "short_first": "length_curriculum",
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
_IGNORED = {
    "cache_dir": "models are read from the hub's cache (HF_HOME, HF_HUB_CACHE)",
    "per_device_eval_batch_size": "evaluation makes its batches by tokens",
    "eval_accumulation_steps": "evaluation keeps no logits",
    "overwrite_output_dir": "a run in the output folder is resumed; --no-resume refuses that",
    "group_by_length": "batches are always grouped by length",
    "logging_dir": "logs lie in the output folder",
    "do_train": "",
    "do_eval": "",
    "local_rank": "",
    "save_safetensors": "",
    "remove_unused_columns": "",
    "ddp_find_unused_parameters": "",
}
"""Keys that need no setting here, and the reason where it is not obvious."""
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
    """Attributes:
    values: Fields of FinetuneOptions.
    notes: Messages for the user about values that were set aside, with the reasons.
    """

    values: Mapping[str, Any]
    notes: tuple[str, ...] = field(default=())


def read_recipe(path: Path, device: str = "cpu", processes: int = 1, flags: Mapping[str, Any] | None = None) -> Recipe:
    """Read a whole file, or report at once everything that is wrong with it.

    Args:
        device: The device of the run: cpu, cuda or mps.
        processes: The number of processes of the run.
        flags: Options that the user gave beside the file. They come first, and decide which of the file's values apply.

    Raises:
        UsageError: The file can't be read, or has unknown keys or wrong values.
    """
    content = read_json_object(path, "--config takes a JSON object of settings.", UsageError)
    renamed = {_RENAMED.get(key, key): value for key, value in content.items()}
    own, theirs = _known_keys()
    _check_keys(path, renamed, own | theirs)
    is_script = any(key in renamed for key in ("llm_model_name_or_path", "data_path", "output_dir"))
    try:
        values = _translate((_SCRIPT_DEFAULTS if is_script else {}) | renamed, path.parent, own)
        values |= {key: _own_value(key, value) for key, value in renamed.items() if key in own}
    except (TypeError, ValueError) as error:  # from int(), float(), Path() or LoraOptions() with the file's values
        raise UsageError(f"{path} has a wrong value: {error}.", "Correct it, or take it out.") from error
    _check_kinds(path, values, FinetuneOptions)
    notes = [f"{key}: {_IGNORED[key]}" for key in renamed if _IGNORED.get(key)]
    _set_aside(values, flags or {}, notes)
    _set_aside_missing(values, notes, device, processes)
    return Recipe(values, tuple(notes))


def _known_keys() -> tuple[set[str], set[str]]:
    """Keys that only our options have, and those of training scripts."""
    from transformers import TrainingArguments

    theirs = {part.name for part in fields(TrainingArguments)} | set(_DIRECT) | set(_IGNORED)
    theirs |= {"data_path", "output_dir", "warmup_ratio"}
    return {part.name for part in fields(FinetuneOptions)} - theirs, theirs


def _check_keys(path: Path, keys: Mapping[str, Any], known: set[str]) -> None:
    unknown = sorted(set(keys) - known)
    if unknown:
        near = {key: get_close_matches(key, known, 1) for key in unknown}
        named = ", ".join(key + (f" (meant {near[key][0]}?)" if near[key] else "") for key in unknown)
        raise UsageError(f"{path} has unknown keys: {named}.", "Take them out, or correct them.")
    kind = keys.get("lr_scheduler_type", "cosine")
    if not isinstance(kind, str) or kind not in _SCHEDULES:
        raise UsageError(
            f"{path}: lr_scheduler_type {kind!r} is not supported.", "Use one of " + ", ".join(_SCHEDULES) + "."
        )


def _check_kinds(path: Path, values: Mapping[str, Any], options: type) -> None:
    """Check the types here, so that a wrong value does not fail where it is first used."""
    for name, kind in get_type_hints(options).items():
        value = values.get(name)
        if isinstance(value, LoraOptions):
            _check_kinds(path, vars(value), LoraOptions)
        elif value is not None and not _has_kind(value, kind):
            raise UsageError(f"{path} has a wrong value: {name} is {value!r}.", "Correct it, or take it out.")


def _has_kind(value: Any, kind: Any) -> bool:
    """An integer counts as a float, as in JSON; a boolean is not a number."""
    kinds = get_args(kind) if isinstance(kind, UnionType) else (kind,)
    parts = next((get_args(one) for one in kinds if get_origin(one) is tuple), ())
    if isinstance(value, tuple) and parts:
        each = parts[:1] * len(value) if Ellipsis in parts else parts
        return len(value) == len(each) and all(map(_has_kind, value, each))
    plain = tuple(get_origin(one) or one for one in kinds)
    if isinstance(value, bool):
        return bool in plain
    return isinstance(value, plain) or (float in plain and isinstance(value, int))


def _translate(content: Mapping[str, Any], folder: Path, own: set[str]) -> dict[str, Any]:
    """The keys of a training script, all of them known, as our options."""
    values: dict[str, Any] = {_DIRECT[key]: value for key, value in content.items() if key in _DIRECT}
    for key, name in (("data_path", "data"), ("output_dir", "output")):
        if key in content:
            values[name] = Path(content[key])
    if int(content.get("max_steps", -1)) > 0:
        values["steps"] = int(content["max_steps"])
    elif "num_train_epochs" in content:
        values["epochs"] = float(content["num_train_epochs"])
    if "per_device_train_batch_size" in content:
        rows = int(content["per_device_train_batch_size"])
        values |= {"rows_per_batch": rows, "tokens_per_batch": rows * int(values.get("context", CONTEXT_TOKENS))}
    if "adam_beta1" in content or "adam_beta2" in content:
        values["betas"] = (float(content.get("adam_beta1", 0.9)), float(content.get("adam_beta2", 0.999)))
    if "lr_scheduler_type" in content:
        values["schedule"] = _SCHEDULES[content["lr_scheduler_type"]]
    values |= _warm_up(content) | _intervals(content)
    if "report_to" in content:
        values["report_to"] = _reports(content["report_to"])
    if content.get("deepspeed"):
        beside = folder / str(content["deepspeed"])
        values["deepspeed"] = beside if beside.is_file() else Path(content["deepspeed"])
    if content.get("optim", "adamw_torch_fused") != "adamw_torch_fused":
        values["optimizer"] = content["optim"]
    done = {*_DIRECT, *_IGNORED, *OWN_ARGUMENTS, *own, "data_path", "warmup_ratio"}
    rest = {key: value for key, value in content.items() if key not in done}
    return values | ({"trainer": rest} if rest else {})


def _warm_up(content: Mapping[str, Any]) -> dict[str, Any]:
    """Steps come before a share, as in transformers; since version 5, steps below 1 are a share."""
    steps, share = content.get("warmup_steps"), content.get("warmup_ratio")
    if steps is None and share is None:
        return {}
    if not steps and share:
        return {"warm_up_share": float(share)}
    steps = steps or 0
    return {"warm_up_share": float(steps)} if 0 < steps < 1 else {"warm_up_steps": int(steps)}


def _intervals(content: Mapping[str, Any]) -> dict[str, Any]:
    """The intervals of evaluations and saves."""
    found: dict[str, Any] = {}
    if "eval_strategy" in content:
        on = content["eval_strategy"] == "steps"
        found["evaluate_every"] = int(content.get("eval_steps") or content.get("logging_steps", 100)) if on else NEVER
    elif "eval_steps" in content:
        found["evaluate_every"] = int(content["eval_steps"])
    if "save_steps" in content:
        on = content.get("save_strategy", "steps") == "steps"
        found |= {"save_every_steps": int(content["save_steps"]) if on else None, "save_every_minutes": float(NEVER)}
    return found


def _own_value(key: str, value: Any) -> Any:
    """The value of one of our options, from JSON."""
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


def _reports(value: Any) -> tuple[str, ...]:
    names = [value] if isinstance(value, str) else list(value or [])
    return tuple(name for name in names if name not in ("none", "all"))


def _set_aside(values: dict[str, Any], flags: Mapping[str, Any], notes: list[str]) -> None:
    """Take out values that do not apply in the mode of this run, with a note each."""
    together = values | dict(flags)

    def drop(name: str, key: str, reason: str, holder: dict[str, Any] = values) -> None:
        if holder.get(name):
            notes.append(f"{key}: set aside, {reason}")
        holder.pop(name, None)

    if together.get("online") and "workers" not in flags:
        drop("workers", "dataloader_num_workers", "with --online the codec runs in the training process itself")
        together = values | dict(flags)
    if not together.get("workers"):
        trainer = dict(values.get("trainer", {}))
        drop("dataloader_prefetch_factor", "dataloader_prefetch_factor", "no worker reads ahead", trainer)
        if "trainer" in values:
            values["trainer"] = trainer
    if not together.get("online"):
        drop("validation", "validation", "it is for --online; prepared data has its own validation rows")
    if not together.get("speak_every"):
        drop("speak", "speak", "speak_every asks for no speech samples")


def _set_aside_missing(values: dict[str, Any], notes: list[str], device: str, processes: int) -> None:
    """Take out options that this machine does not support and that do not change the result: speed, memory, copies of the log."""

    def missing(package: str) -> bool:
        return find_spec(package) is None

    kept = []
    for name in values.get("report_to", ()):
        if name in ("wandb", "tensorboard") and missing(name):
            notes.append(f"report_to: set aside, {name} is not installed; the log is log.jsonl")
        else:
            kept.append(name)
    if "report_to" in values:
        values["report_to"] = tuple(kept)
    no_gpu = device != "cuda"
    for name, absent, note in (
        ("liger", no_gpu or missing("liger_kernel"), "use_liger_kernel: set aside, it needs a CUDA GPU and the package liger-kernel"),
        ("flash_attention", no_gpu or missing("flash_attn"), "flash_attention: set aside, it needs a CUDA GPU and the package flash-attn"),
        ("deepspeed", processes == 1 and (no_gpu or missing("deepspeed")), "deepspeed: set aside, one process trains the same without it"),
    ):  # fmt: skip
        if values.get(name) and absent:
            values[name] = None if name == "deepspeed" else False
            notes.append(note)
