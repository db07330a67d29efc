"""The device and the number format of a model: `--device`, `--dtype`."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llasa_cli.errors import UsageError
from llasa_cli.settings import DTYPES
from llasa_cli.wording import listed

if TYPE_CHECKING:
    import torch

_LONG_NAMES = {"float32": "fp32", "bfloat16": "bf16", "float16": "fp16"}


def pick_device(name: str) -> torch.device:
    """Resolve auto (CUDA, then Apple's MPS, then the CPU), cpu, cuda, cuda:N or mps.

    Raises:
        UsageError: There is no such device, or this machine has none.
    """
    import torch

    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    kind, _, number = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (number and not number.isdigit()):
        raise UsageError(f"There is no device {name!r}.", "Use auto, cpu, cuda, cuda:N or mps.")
    if kind == "cuda" and not torch.cuda.is_available():
        raise UsageError(
            "--device cuda: torch finds no CUDA device here.", "Use --device cpu, or install a CUDA build of torch."
        )
    if kind == "cuda" and number and int(number) >= torch.cuda.device_count():
        raise UsageError(f"--device {name}: there are {torch.cuda.device_count()} CUDA devices, counted from 0.")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise UsageError("--device mps: torch finds no Apple GPU here.", "Use --device cpu.")
    return torch.device(name)


def usable_cores() -> int:
    """The number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def named_threads() -> int | None:
    """The number of threads in OMP_NUM_THREADS; None if it is not set."""
    named = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return max(1, int(named)) if named.isdecimal() else None


def limit_threads(model: Any, threads: int | None = None) -> None:
    """Let torch use one CPU thread for a small model, and otherwise `threads` if they are given; OMP_NUM_THREADS takes precedence.

    A step of a small model takes microseconds: threads would wait for each other longer than they work. Only the sequences of
    a step of many are shared among `threads`, or all cores.

    Args:
        model: A `LanguageModel`.
    """
    import torch

    if model.is_small:
        model.step_threads = threads or named_threads() or usable_cores()
    count = 1 if model.is_small else threads
    if count is not None and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(count)


@dataclass(frozen=True)
class WeightFormat:
    """The format in which a language model's weights are stored, and the dtype of the computation.

    Attributes:
        name: fp32, bf16, fp16, int8 or int4.
        compute_dtype: The dtype of the states: float32 on a CPU; elsewhere the format itself, or bfloat16 for integers.
    """

    name: str
    compute_dtype: torch.dtype

    @property
    def storage_dtype(self) -> torch.dtype:
        """The dtype of the embedding, and of the matrices if they are not integers."""
        return _floating_dtype(self.name)


def pick_weight_format(name: str, device: torch.device, stored: str = "fp32") -> WeightFormat:
    """Resolve a value of `--dtype`.

    auto is bf16 on a GPU. On a CPU it is the format that the checkpoint is stored in.

    Args:
        stored: The format of the checkpoint, or the one that it recommends on a CPU.

    Raises:
        UsageError: There is no such format.
    """
    import torch

    short = _short_name(name)
    if short == "auto" and device.type == "cpu":
        short = _short_name(stored)
    elif short == "auto":
        short = "bf16"
    return WeightFormat(short, torch.float32 if device.type == "cpu" else _floating_dtype(short))


def _short_name(name: str) -> str:
    short = _LONG_NAMES.get(name, name)
    if short not in DTYPES:
        raise UsageError(f"There is no dtype {name!r}.", f"Use {listed(DTYPES)}.")
    return short


def _floating_dtype(short: str) -> torch.dtype:
    """The format itself, or bfloat16 for integers."""
    import torch

    return {"fp32": torch.float32, "fp16": torch.float16}.get(short, torch.bfloat16)
