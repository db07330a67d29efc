"""Where a model runs and in which number format: `--device`, `--dtype`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llasa_cli.errors import UsageError

if TYPE_CHECKING:
    import torch

DTYPES = ("auto", "float32", "bfloat16", "float16")


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


def pick_dtype(name: str, device: torch.device, codec: bool = False) -> torch.dtype:
    """auto: bfloat16 for a language model on a GPU, else float32.

    The codec is always in float32: its ISTFT head and GroupNorm lose audible precision in 16 bit, and it is a small
    part of the time.
    """
    import torch

    if name not in DTYPES:
        raise UsageError(f"There is no dtype {name!r}.", "Use " + ", ".join(DTYPES) + ".")
    if codec or (name == "auto" and device.type == "cpu"):
        return torch.float32
    kind: torch.dtype = torch.bfloat16 if name == "auto" else getattr(torch, name)
    return kind
