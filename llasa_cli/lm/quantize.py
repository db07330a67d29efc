"""Quantization: float32 weights -> integers of a few bits, and the scales that turn them back."""

from __future__ import annotations

import torch

ROWS_AT_ONCE = 4096
"""Rows that are quantized together, which keeps the temporary tensors at some megabytes."""
WEIGHTS_AT_ONCE = 1 << 20
"""The number of weights that are quantized at once for the kernels: many rows of a wide matrix would take more memory than the matrix itself."""
GROUP = 32
"""Weights that share a scale in int4."""
CUTS = (7.4, 8.0, 8.6)
"""Magnitudes that a group's largest weight is tried at in int4; the one with the least square error is taken."""


def quantize_int8(weight: torch.Tensor, integers: torch.Tensor, scales: torch.Tensor) -> None:
    """Write float32 `weight` (R, W) to `integers`, int8 (R, W) from -127 to 127, and `scales` (R,)."""
    largest = weight.abs().amax(dim=1, keepdim=True).clamp_min(1e-12)
    integers.copy_((weight * (127 / largest)).round_())
    scales.copy_((largest / 127).squeeze(1))


def quantize_int4(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """float32 (R, W) -> integers from -8 to 7 as float32 (R, W), and bfloat16 scales (R, W / GROUP)."""
    groups = weight.view(len(weight), -1, GROUP)
    largest = groups.gather(-1, groups.abs().argmax(dim=-1, keepdim=True))
    largest = torch.where(largest == 0, 1.0, largest)
    best = torch.full_like(largest, -1.0)
    integers, scales = torch.zeros_like(groups), torch.zeros_like(largest)
    for cut in CUTS:
        candidate = (groups * (-cut / largest)).round_().clamp_(-8, 7)
        # The scale with the least square error; the larger `explained` is, the smaller that error.
        product = (candidate * groups).sum(dim=-1, keepdim=True)
        scale = product / candidate.square().sum(dim=-1, keepdim=True).clamp_min(1e-12)
        explained = product * scale
        is_better = explained > best
        best = torch.where(is_better, explained, best)
        scales = torch.where(is_better, scale, scales)
        integers = torch.where(is_better, candidate, integers)
    return integers.view_as(weight), scales.squeeze(-1).bfloat16()


def pack_int4(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """float32 (R, W), both multiples of 32 -> what torch's int4 product takes: packed integers, scales (groups, R, 2)."""
    integers, scales = quantize_int4(weight)
    packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu((integers + 8).int(), 1)
    return packed, torch.stack([scales.t(), torch.zeros_like(scales.t())], dim=-1).contiguous()


def quantize_q8_0(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """float32 (R, W) -> integers from -127 to 127, int8 (R, W), and float16 scales (R, W / GROUP)."""
    groups = weight.view(len(weight), -1, GROUP)
    scales = (groups.abs().amax(dim=-1) / 127).half()
    inverse = torch.where(scales == 0, 0.0, 1 / scales.float())
    integers = (groups * inverse[..., None]).round_().clamp_(-127, 127)
    return integers.to(torch.int8).view_as(weight), scales


def pack_groups(integers: torch.Tensor, kind: str) -> torch.Tensor:
    """Integers as the kernels read them (the layouts are in `cpu/vectors.h`).

    Args:
        integers: int8 (R, W), W a multiple of 512.
        kind: q8_0 or q4_0.

    Returns:
        int8 (R, W) or, for q4_0, int32 (R, W / 8).
    """
    rows = len(integers)
    if kind == "q8_0":
        return integers.view(rows, -1, 16, GROUP // 2, 2).transpose(2, 3).reshape(rows, -1)
    # Spans, blocks, bytes of a word, halves of a byte, words.
    numbers = (integers + 8).view(torch.uint8).view(rows, -1, 16, GROUP).transpose(2, 3).reshape(rows, -1, 4, 4, 2, 16)
    packed = numbers[..., 0, :] | numbers[..., 1, :] << 4
    return packed.transpose(3, 4).contiguous().view(torch.int32).view(rows, -1)
