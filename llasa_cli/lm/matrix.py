"""A matrix of weights, stored so that what it is multiplied with is multiplied quickly: `matrix(x)` is `x @ matrix.T`."""

from __future__ import annotations

import torch
import torch.nn.functional as F

COLUMNS_UP_TO = 4_000_000
"""Larger matrices (16 MB) don't stay in a CPU's cache, and how they are stored no longer matters."""


class Matrix:
    """(rows, width) weights.

    Attributes:
        shape: (rows, width).
        dtype: Of the states that it takes and gives.
    """

    def __init__(self, weight: torch.Tensor) -> None:
        self.shape = tuple(weight.shape)
        self.dtype = weight.dtype
        self._weight = _lay_out(weight)

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        """(..., width) -> (..., rows)."""
        return F.linear(states, self._weight)


def _lay_out(weight: torch.Tensor) -> torch.Tensor:
    """The same matrix, stored by columns where one vector at a time is multiplied faster so.

    The built-in voice took three quarters of its time so. At Llasa-1B's size, where memory is the limit, it was one
    twentieth faster and seconds longer to load; in bfloat16 it is slower (one thread of an AMD EPYC).
    """
    if weight.device.type == "cpu" and weight.dtype == torch.float32 and weight.numel() <= COLUMNS_UP_TO:
        return weight.t().contiguous().t()
    return weight
