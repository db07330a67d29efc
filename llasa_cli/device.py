"""Where a model runs and in which number format: `--device`, `--dtype`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llasa_cli.errors import UsageError

if TYPE_CHECKING:
    import torch

DTYPES = {
    "auto": "auto",
    "fp32": "fp32",
    "float32": "fp32",
    "bf16": "bf16",
    "bfloat16": "bf16",
    "fp16": "fp16",
    "float16": "fp16",
    "int8": "int8",
    "int4": "int4",
}
"""What `--dtype` takes, and its short name."""


def pick_device(name: str) -> torch.device:
    """auto (CUDA, then Apple's MPS, then CPU), cpu, cuda, cuda:N, mps.

    Raises:
        UsageError: No such device, or not here.
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


@dataclass(frozen=True)
class NumberFormat:
    """How a language model's weights are kept.

    Attributes:
        name: fp32, bf16, fp16, int8 or int4.
        states: What is computed with: on a CPU float32, elsewhere the format itself, bfloat16 for whole numbers.
    """

    name: str
    states: torch.dtype

    @property
    def stored(self) -> torch.dtype:
        """What the embeddings are kept in, and the matrices where they are not whole numbers."""
        import torch

        kinds = {"fp32": torch.float32, "fp16": torch.float16}
        return kinds.get(self.name, torch.bfloat16)


LARGE_WEIGHTS = 200_000_000
"""From so many weights on reading them is what takes a CPU's time, and half of them half of it."""


def pick_format(name: str, device: torch.device, stored: str = "fp32", weights: int = 0) -> NumberFormat:
    """auto: bf16 on a GPU; on a CPU fp32, or for a large model the 16 bit that it is stored in, which loses nothing.

    Args:
        stored: What the checkpoint is in; a short name.
        weights: About how many it has.

    Raises:
        UsageError: There is no such format.
    """
    import torch

    short = _short_name(name)
    if short == "auto":
        short = "bf16"
        if device.type == "cpu":
            short = stored if weights >= LARGE_WEIGHTS else "fp32"
    return NumberFormat(short, torch.float32 if device.type == "cpu" else NumberFormat(short, torch.float32).stored)


def _short_name(name: str) -> str:
    if name not in DTYPES:
        raise UsageError(f"There is no dtype {name!r}.", "Use auto, fp32, bf16, fp16, int8 or int4.")
    return DTYPES[name]


def pick_dtype(name: str, device: torch.device, codec: bool = False) -> torch.dtype:
    """auto: bfloat16 on a GPU, else float32; for what is no language model, whole numbers count as auto.

    The codec is always in float32: its ISTFT head and GroupNorm lose audible precision in 16 bit, and it is a small
    part of the time.
    """
    import torch

    short = _short_name(name)
    if codec or short == "fp32" or (short not in ("bf16", "fp16") and device.type == "cpu"):
        return torch.float32
    return torch.float16 if short == "fp16" else torch.bfloat16
