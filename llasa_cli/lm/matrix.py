"""Matrices of weights in the number formats of `--dtype`: `matrix(states)` is `states @ weights.T`.

On a CPU only the weights are in the format, states are float32 whatever it is: reading the weights is what takes the
time, and the little that is computed with them is most exact, and here quickest, in float32. On other devices 16-bit
weights take states of their own format.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F

from llasa_cli.device import NumberFormat
from llasa_cli.lm.quantise import quantise_int8

COLUMNS_UP_TO = 4_000_000
"""Larger matrices (16 MB) don't stay in a CPU's cache, and how they are stored no longer matters."""


class Matrix:
    """(rows, width) weights.

    Attributes:
        shape: (rows, width).
        dtype: Of the states that it takes and gives.
        format: Of its weights: fp32, bf16, fp16, int8 or int4.
    """

    def __init__(self, shape: tuple[int, int], kind: NumberFormat) -> None:
        self.shape, self.dtype, self.format = shape, kind.states, kind.name

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        """(..., width) -> (..., rows)."""
        raise NotImplementedError

    @staticmethod
    def of(
        parts: Iterable[torch.Tensor], rows: int, width: int, kind: NumberFormat, device: torch.device | str = "cpu"
    ) -> Matrix:
        """The matrix of `parts`, stacked: (rows of the part, width) each, in any floating format.

        Parts are taken one at a time and put into their place, so that no more than one of them is there twice.
        """
        device = torch.device(device)
        chosen = {"int8": Int8}.get(kind.name, Plain)
        return chosen(parts, (rows, width), kind, device)


class Embedding:
    """Rows that are looked up by number: what a token is to the network.

    Attributes:
        dtype: Of the states that it gives.
    """

    def __init__(self, rows: torch.Tensor, dtype: torch.dtype) -> None:
        self._rows, self.dtype, self.device = rows, dtype, rows.device

    def __call__(self, ids: torch.Tensor) -> torch.Tensor:
        """int64 (...) -> (..., width)."""
        return F.embedding(ids, self._rows).to(self.dtype)


class Plain(Matrix):
    """Weights as floating numbers, multiplied by torch."""

    def __init__(
        self, parts: Iterable[torch.Tensor], shape: tuple[int, int], kind: NumberFormat, device: torch.device
    ) -> None:
        super().__init__(shape, kind)
        self._weight = _lay_out(stacked(parts, shape, kind.stored, device))

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        return F.linear(states.to(self._weight.dtype), self._weight).to(self.dtype)


class Int8(Matrix):
    """Whole numbers of 8 bit and a scale for each row."""

    def __init__(
        self, parts: Iterable[torch.Tensor], shape: tuple[int, int], kind: NumberFormat, device: torch.device
    ) -> None:
        super().__init__(shape, kind)
        self._weight = torch.empty(shape, dtype=torch.int8, device=device)
        self._scales = torch.empty(shape[0], dtype=self.dtype, device=device)
        begin = 0
        for part in parts:
            end = begin + len(part)
            quantise_int8(part.to(device), self._weight[begin:end], self._scales[begin:end])
            begin = end

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        flat = states.reshape(-1, self.shape[1])
        return torch._weight_int8pack_mm(flat, self._weight, self._scales).view(*states.shape[:-1], self.shape[0])


def stacked(
    parts: Iterable[torch.Tensor], shape: tuple[int, int], dtype: torch.dtype, device: torch.device
) -> torch.Tensor:
    """The parts below each other; each is written where it belongs, not copied once more."""
    whole = torch.empty(shape, dtype=dtype, device=device)
    begin = 0
    for part in parts:
        whole[begin : begin + len(part)] = part
        begin += len(part)
    return whole


def _lay_out(weight: torch.Tensor) -> torch.Tensor:
    """The same matrix, stored by columns where one vector at a time is multiplied faster so.

    The built-in voice took three quarters of its time so. At Llasa-1B's size, where memory is the limit, it was one
    twentieth faster and seconds longer to load; in bfloat16 it is slower (one thread of an AMD EPYC).
    """
    if weight.device.type == "cpu" and weight.dtype == torch.float32 and weight.numel() <= COLUMNS_UP_TO:
        return weight.t().contiguous().t()
    return weight
