"""Weights -> whole numbers of few bits, and the scales that turn them back."""

from __future__ import annotations

import torch

ROWS_AT_ONCE = 4096
"""Rows that are worked on together: what is needed beside the result stays some megabytes."""
GROUP = 32
"""Weights that share a scale, in int4."""
CUTS = (7.4, 8.0, 8.6)
"""Which of -8 to 7 a group's largest weight is tried at; the one with the least square error is taken."""


def quantize_int8(weight: torch.Tensor, numbers: torch.Tensor, scales: torch.Tensor) -> None:
    """Write float32 `weight`, (rows, width), as `numbers`, int8 -127 to 127, and `scales`, (rows,)."""
    largest = weight.abs().amax(dim=1, keepdim=True).clamp_min(1e-12)
    numbers.copy_((weight * (127 / largest)).round_())
    scales.copy_((largest / 127).squeeze(1))


def quantize_int4(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """float32 (rows, width) -> whole numbers -8 to 7, as float32 (rows, width), and bfloat16 scales (rows, groups)."""
    groups = weight.view(len(weight), -1, GROUP)
    largest = groups.gather(-1, groups.abs().argmax(dim=-1, keepdim=True))
    largest = torch.where(largest == 0, 1.0, largest)
    best = torch.full_like(largest, -1.0)
    numbers, scales = torch.zeros_like(groups), torch.zeros_like(largest)
    for cut in CUTS:
        tried = (groups * (-cut / largest)).round_().clamp_(-8, 7)
        both = (tried * groups).sum(dim=-1, keepdim=True)
        scale = both / tried.square().sum(dim=-1, keepdim=True).clamp_min(1e-12)
        better = both * scale > best
        best = torch.where(better, both * scale, best)
        scales = torch.where(better, scale, scales)
        numbers = torch.where(better, tried, numbers)
    return numbers.view_as(weight), scales.squeeze(-1).bfloat16()


def pack_int4(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """float32 (rows, width), both multiples of 32 -> what torch multiplies by: numbers, and (groups, rows, 2) scales."""
    numbers, scales = quantize_int4(weight)
    packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu((numbers + 8).int(), 1)
    return packed, torch.stack([scales.t(), torch.zeros_like(scales.t())], dim=-1).contiguous()
