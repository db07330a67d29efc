"""Options -> transformers' TrainingArguments, and what of the optional packages they need.

torchrun and Slurm tell a process who it is by RANK, WORLD_SIZE and LOCAL_RANK; nothing else here knows of other processes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llasa_cli.errors import LlasaError, UsageError
from llasa_cli.settings import FinetuneOptions

if TYPE_CHECKING:
    import torch
    from transformers import TrainingArguments

ENDLESS = 1_000_000_000
"""Steps, for a run whose end is told in minutes."""
OURS = (
    "output_dir max_steps num_train_epochs gradient_accumulation_steps learning_rate lr_scheduler_type warmup_steps "
    "adam_beta1 adam_beta2 adam_epsilon weight_decay max_grad_norm optim bf16 seed report_to run_name deepspeed "
    "gradient_checkpointing activation_checkpointing use_liger_kernel dataloader_num_workers eval_strategy eval_steps eval_on_start save_strategy "
    "save_steps save_total_limit logging_strategy logging_steps use_cpu per_device_train_batch_size ignore_data_skip "
    "remove_unused_columns disable_tqdm accelerator_config load_best_model_at_end train_sampling_strategy"
).split()
"""TrainingArguments that options of ours stand for, or that our batches leave no choice about."""
_PACKAGES = {"wandb": "wandb", "tensorboard": "tensorboard"}


def ranks() -> tuple[int, int]:
    """Which process this is, of how many."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def need(package: str, what: str, extra: str) -> None:
    """Raises LlasaError: The optional package is not installed."""
    if find_spec(package) is None:
        raise LlasaError(f"{what} needs the package {package.replace('_', '-')}.", f"pip install 'llasa-cli[{extra}]'")


def check_packages(options: FinetuneOptions, device: torch.device) -> None:
    """Everything that was asked for is here, before anything is loaded.

    Raises:
        LlasaError: A package is missing; it is named.
        UsageError: It is here and can't run on this device.
    """
    need("accelerate", "Training", "train")
    if options.lora is not None:
        need("peft", "An adapter (--lora)", "train")
    for asked, package, what, extra in (
        (options.liger, "liger_kernel", "--liger", "liger"),
        (options.flash_attention, "flash_attn", "--flash-attention", "flash"),
        (options.optimizer.endswith("bnb_8bit") or "bnb" in options.optimizer, "bitsandbytes", "8-bit Adam", "bnb"),
        (options.deepspeed is not None, "deepspeed", "--deepspeed", "deepspeed"),
        ("wandb" in options.report_to, "wandb", "--report-to wandb", "wandb"),
        ("tensorboard" in options.report_to, "tensorboard", "--report-to tensorboard", "tensorboard"),
    ):
        if asked:
            need(package, what, extra)
    if options.report_to:
        from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

        known = ("none", "all", *INTEGRATION_TO_CALLBACK)
        for name in options.report_to:
            if name not in known:
                raise UsageError(f"There is no {name} to report to.", "There are " + ", ".join(known) + ".")
    if device.type != "cuda" and (options.liger or options.flash_attention):
        what = "--liger" if options.liger else "--flash-attention"
        raise UsageError(f"{what} runs on a CUDA GPU only; this run is on {device.type}.", "Leave it out.")


def training_arguments(options: FinetuneOptions, steps: int | None, device: torch.device) -> TrainingArguments:
    """What the Trainer is told. Making it joins the other processes, where there are any.

    Raises:
        UsageError: transformers refuses a combination.
    """
    from transformers import TrainingArguments

    _, world = ranks()
    given: dict[str, Any] = {
        "output_dir": str(options.output),
        "max_steps": steps if steps is not None else ENDLESS,
        "gradient_accumulation_steps": options.accumulate,
        "learning_rate": options.learning_rate,
        "adam_beta1": options.betas[0],
        "adam_beta2": options.betas[1],
        "adam_epsilon": options.epsilon,
        "weight_decay": options.weight_decay,
        "max_grad_norm": options.gradient_norm,
        "optim": _optimizer(options, device),
        "bf16": options.bf16 if options.bf16 is not None else device.type == "cuda",
        "use_liger_kernel": options.liger,
        "deepspeed": _deepspeed(options.deepspeed) if options.deepspeed is not None else None,
        "use_cpu": device.type == "cpu",
        "ddp_backend": "gloo" if device.type == "cpu" and world > 1 else None,
        # Known to be so for a Llama; looking for unused parameters takes a pass over the graph each step.
        "ddp_find_unused_parameters": False if world > 1 else None,
        "seed": options.seed,
        "logging_strategy": "steps",
        "logging_steps": options.log_every,
        "logging_nan_inf_filter": False,  # it would hide a run that is lost; ours ends
        "save_strategy": "no",  # `trainer._Timekeeper` says when
        "eval_strategy": "no",
        "eval_on_start": options.evaluate_at_start,
        "save_total_limit": max(1, options.keep),
        "ignore_data_skip": True,  # `LengthGroupedBatchSampler` leaves out what was done without reading it
        "remove_unused_columns": False,
        "dataloader_num_workers": options.workers,
        "dataloader_pin_memory": device.type == "cuda",
        "disable_tqdm": True,
        "report_to": list(options.report_to) or "none",
        "run_name": options.run_name,
        "accelerator_config": {"even_batches": False},  # batches have no fixed size to be evened to
    }
    if options.gradient_checkpointing:
        # transformers 5.23 has a new name for it and warns of the old one.
        known = {part.name for part in fields(TrainingArguments)}
        name = "activation_checkpointing" if "activation_checkpointing" in known else "gradient_checkpointing"
        # The other form loses the gradient where the first layer's input needs none: an adapter's case.
        given |= {name: True, f"{name}_kwargs": {"use_reentrant": False}}
    given |= check_names(options.trainer)
    if options.workers == 0:
        given.pop("dataloader_prefetch_factor", None)  # nobody reads ahead
    if given["deepspeed"] is not None:
        given["per_device_train_batch_size"] = options.rows_per_batch or 1  # DeepSpeed wants a number; ours varies
    try:
        made = TrainingArguments(**given)
        if options.deepspeed is not None and device.type == "cpu":
            # accelerate does it on a GPU only, and ZeRO-3 asks for the number of processes when the model is read.
            from deepspeed import init_distributed

            init_distributed("gloo", auto_mpi_discovery=False)
        if device.type == "cuda" and device.index is None and world == 1:
            made._n_gpu = 1  # several visible GPUs and one process would mean DataParallel, which splits our batches
    except (TypeError, ValueError, ImportError) as error:
        raise UsageError(f"The Trainer refuses these settings: {error}") from error
    return made


def check_names(extra: Mapping[str, Any]) -> dict[str, Any]:
    """Settings passed on to TrainingArguments, which must be its own and not stand for one of our options.

    Raises:
        UsageError: All that are not, in one sentence.
    """
    from transformers import TrainingArguments

    known = {part.name for part in fields(TrainingArguments)}
    unknown = sorted(name for name in extra if name not in known)
    if unknown:
        raise UsageError(f"transformers' TrainingArguments has no {', '.join(unknown)}.")
    taken = sorted(set(extra) & set(OURS))
    if taken:
        raise UsageError(f"{', '.join(taken)}: the command has its own options for that.", "See llasa finetune --help.")
    return dict(extra)


def _deepspeed(path: Path) -> dict[str, Any]:
    """A DeepSpeed configuration without its scheduler: the rate follows ours, however many processes there are.

    The published files name WarmupCosineLR there, which ends at a tenth of the rate, whatever lr_scheduler_type says.

    Raises:
        UsageError: It can't be read.
    """
    try:
        said: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} can't be read: {error}", "A DeepSpeed configuration is a JSON file.") from error
    said.pop("scheduler", None)
    return said


def _optimizer(options: FinetuneOptions, device: torch.device) -> str:
    if options.optimizer != "auto":
        return options.optimizer
    return "adamw_torch_fused" if device.type in ("cpu", "cuda") else "adamw_torch"
