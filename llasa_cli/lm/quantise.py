"""Weights -> whole numbers of few bits, and the scales that turn them back."""

from __future__ import annotations

import torch

ROWS_AT_ONCE = 2048
"""Rows that are worked on together: what is needed beside the result stays a few megabytes."""


def quantise_int8(weight: torch.Tensor, numbers: torch.Tensor, scales: torch.Tensor) -> None:
    """Write `weight`, (rows, width), as `numbers`, int8 -127 to 127, and `scales`, (rows,): weight = number * scale."""
    for begin in range(0, len(weight), ROWS_AT_ONCE):
        rows = slice(begin, begin + ROWS_AT_ONCE)
        values = weight[rows].float()
        largest = values.abs().amax(dim=1, keepdim=True).clamp_min(1e-12)
        numbers[rows] = (values * (127 / largest)).round_()
        scales[rows] = (largest / 127).squeeze(1)
