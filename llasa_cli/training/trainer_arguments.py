"""Options -> transformers' TrainingArguments, and the optional packages that they need.

torchrun and Slurm tell a process its rank by RANK, WORLD_SIZE and LOCAL_RANK.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llasa_cli.errors import LlasaError, UsageError
from llasa_cli.files import read_json_object
from llasa_cli.training.options import FinetuneOptions

if TYPE_CHECKING:
    import torch
    from transformers import TrainingArguments

ENDLESS = 1_000_000_000
"""Steps of a run whose length is given in minutes."""
OWN_ARGUMENTS = frozenset(
    "output_dir max_steps num_train_epochs gradient_accumulation_steps learning_rate lr_scheduler_type warmup_steps "
    "adam_beta1 adam_beta2 adam_epsilon weight_decay max_grad_norm optim bf16 seed report_to run_name deepspeed "
    "gradient_checkpointing activation_checkpointing use_liger_kernel dataloader_num_workers eval_strategy eval_steps "
    "eval_on_start save_strategy save_steps save_total_limit logging_strategy logging_steps logging_first_step use_cpu "
    "per_device_train_batch_size ignore_data_skip remove_unused_columns disable_tqdm accelerator_config "
    "load_best_model_at_end train_sampling_strategy".split()
)
"""TrainingArguments that our own options set, or that our batches leave no choice about."""


def process_rank() -> tuple[int, int]:
    """The rank of this process, and the number of processes."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def require_package(package: str, feature: str, extra: str) -> None:
    """Raises LlasaError where an optional package is not installed."""
    if find_spec(package) is None:
        raise LlasaError(
            f"{feature} needs the package {package.replace('_', '-')}.", f"pip install 'llasa-cli[{extra}]'"
        )


def check_packages(options: FinetuneOptions, device: torch.device) -> None:
    """Check that every optional package is there, before anything is loaded.

    Raises:
        LlasaError: A package is missing; the error names it.
        UsageError: An option does not run on this device.
    """
    require_package("accelerate", "Training", "train")
    if options.lora is not None:
        require_package("peft", "An adapter (--lora)", "train")
    for asked, package, feature, extra in (
        (options.liger, "liger_kernel", "--liger", "liger"),
        (options.flash_attention, "flash_attn", "--flash-attention", "flash"),
        ("bnb" in options.optimizer, "bitsandbytes", "8-bit Adam", "bnb"),
        (options.deepspeed is not None, "deepspeed", "--deepspeed", "deepspeed"),
        ("wandb" in options.report_to, "wandb", "--report-to wandb", "wandb"),
        ("tensorboard" in options.report_to, "tensorboard", "--report-to tensorboard", "tensorboard"),
    ):
        if asked:
            require_package(package, feature, extra)
    if options.report_to:
        from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

        known = ("none", "all", *INTEGRATION_TO_CALLBACK)
        for name in options.report_to:
            if name not in known:
                raise UsageError(
                    f"{name} is not known as a target of --report-to.", "Choose from " + ", ".join(known) + "."
                )
    if device.type != "cuda" and (options.liger or options.flash_attention):
        flag = "--liger" if options.liger else "--flash-attention"
        raise UsageError(f"{flag} needs a CUDA GPU; this run is on {device.type}.", "Leave it out.")


def training_arguments(options: FinetuneOptions, steps: int | None, device: torch.device) -> TrainingArguments:
    """The Trainer's arguments. Creating them connects the processes, where there are several.

    Raises:
        UsageError: transformers refuses a combination.
    """
    from transformers import TrainingArguments

    _, world = process_rank()
    given = _arguments(options, steps, device, world)
    given |= check_names(options.trainer)
    if options.workers == 0:
        given.pop("dataloader_prefetch_factor", None)  # without workers no batch is read ahead
    if given["deepspeed"] is not None:
        given["per_device_train_batch_size"] = options.rows_per_batch or 1  # DeepSpeed needs a number; ours varies
    try:
        arguments = TrainingArguments(**given)
        if options.deepspeed is not None and device.type == "cpu":
            # accelerate does this on a GPU only, and ZeRO-3 needs the number of processes when the model is loaded.
            from deepspeed import init_distributed

            init_distributed("gloo", auto_mpi_discovery=False)
        if device.type == "cuda" and device.index is None and world == 1:
            arguments._n_gpu = 1  # with several visible GPUs, DataParallel would split our batches
    except (TypeError, ValueError, ImportError) as error:
        raise UsageError(
            f"transformers' Trainer refuses these settings: {error}", "Change the flags that it names."
        ) from error
    return arguments


def _arguments(options: FinetuneOptions, steps: int | None, device: torch.device, world: int) -> dict[str, Any]:
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
        # A Llama uses all its parameters; looking for unused ones would traverse the graph at each step.
        "ddp_find_unused_parameters": False if world > 1 else None,
        "seed": options.seed,
        "logging_strategy": "steps",
        "logging_steps": options.log_every,
        "logging_nan_inf_filter": False,  # it would hide a diverged run, which has to end
        "save_strategy": "no",  # `trainer._Timekeeper` decides
        "eval_strategy": "no",
        "eval_on_start": options.evaluate_at_start,
        "save_total_limit": max(1, options.keep),
        "ignore_data_skip": True,  # `LengthGroupedBatchSampler` skips earlier batches without reading them
        "remove_unused_columns": False,
        "dataloader_num_workers": options.workers,
        "dataloader_pin_memory": device.type == "cuda",
        "disable_tqdm": True,
        "report_to": list(options.report_to) or "none",
        "run_name": options.run_name,
        "accelerator_config": {"even_batches": False},  # our batches differ in size on purpose
    }
    if options.gradient_checkpointing:
        name = _gradient_checkpointing_name()
        # The reentrant form loses the gradient where the first layer's input needs none, as with an adapter.
        given |= {name: True, f"{name}_kwargs": {"use_reentrant": False}}
    return given


def _gradient_checkpointing_name() -> str:
    """transformers 5.23 renamed the argument, and warns of the old name."""
    from transformers import TrainingArguments

    known = {part.name for part in fields(TrainingArguments)}
    return "activation_checkpointing" if "activation_checkpointing" in known else "gradient_checkpointing"


def check_names(extra: Mapping[str, Any]) -> dict[str, Any]:
    """Settings for TrainingArguments, which must know them, and which our own options must not set.

    Raises:
        UsageError: All names that are refused, in one message.
    """
    from transformers import TrainingArguments

    known = {part.name for part in fields(TrainingArguments)}
    unknown = sorted(name for name in extra if name not in known)
    if unknown:
        raise UsageError(f"transformers' TrainingArguments has no {', '.join(unknown)}.", "Check the spelling.")
    taken = sorted(set(extra) & OWN_ARGUMENTS)
    if taken:
        raise UsageError(f"{', '.join(taken)}: the command has its own options for that.", "See llasa finetune --help.")
    return dict(extra)


def _deepspeed(path: Path) -> dict[str, Any]:
    """A DeepSpeed configuration without its scheduler: the learning rate follows `--schedule` with any number of processes.

    The published files name WarmupCosineLR there, which ends at a tenth of the rate, whatever lr_scheduler_type says.

    Raises:
        UsageError: It can't be read.
    """
    settings = read_json_object(path, "A DeepSpeed configuration is a JSON file.", UsageError)
    settings.pop("scheduler", None)
    return settings


def _optimizer(options: FinetuneOptions, device: torch.device) -> str:
    if options.optimizer != "auto":
        return options.optimizer
    return "adamw_torch_fused" if device.type in ("cpu", "cuda") else "adamw_torch"
