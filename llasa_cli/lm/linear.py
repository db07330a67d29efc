"""Matrices of weights in the number formats of `--dtype`: `matrix(states)` is `states @ weights.T`.

On a CPU only the weights are in the format, states are float32 whatever it is: reading the weights is what takes the
time, and the little that is computed with them is most exact, and here quickest, in float32. On other devices 16-bit
weights take states of their own format.

Which kernel multiplies depends on format, rows of states and CPU, by a table and not by timing: the same text must give
the same codes tomorrow. Figures are of two cores of a Zen 5, 16,384 x 2,048 weights, in multiplications a second (the column of
one row is older than `one_row.h`; `benchmarks/speed.py` has whole steps):

    rows of states          1     4    16    64   256
    bf16, `kernels.c`     24 G    60    90   116
    bf16, torch           14      59   174   330   431     from 4 rows; before, and for lack of bf16 instructions, ours
    fp16, `kernels.c`     25      61   105   138           always: torch has 27 from 4 rows on
    int8, `kernels.c`     47     107   118   147           until 32 rows, then expanded to bf16 for torch
    int4, `kernels.c`     77      84   107   131           likewise
    fp32, torch                    9    40    57    74     for matrices that stay in cache; else ours
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F

from llasa_cli.device import NumberFormat
from llasa_cli.errors import UsageError
from llasa_cli.lm.cpu.build import Kernels, kernels, roomy
from llasa_cli.lm.quantize import GROUP, ROWS_AT_ONCE, pack_int4, quantize_int8
from llasa_cli.packed_linear import packed

COLUMNS_UP_TO = 4_000_000
"""Larger matrices (16 MB) don't stay in a CPU's cache, and how they are stored no longer matters."""
LANES, BLOCK, SPAN = 16, 128, 512
"""Of `kernels.c`: what widths are multiples of, in int4, and what has 16 scales there."""
MANY = {"bf16": 4, "int8": 32, "int4": 32}
"""Rows of states from which torch's bfloat16 kernel is quicker than ours, where the processor multiplies bfloat16."""
EXPANDED_ROWS = 1024
"""Rows of whole numbers that are turned to bfloat16 at once: 4 MB of 2,048 wide."""


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

    def laid_out(self) -> tuple[torch.Tensor, torch.Tensor | None, int] | None:
        """Weights, scales and width as `kernels.c` has them, where it is what multiplies one row of states."""
        return None

    @property
    def bytes(self) -> int:
        """What is read of memory to multiply by it."""
        return sum(value.nbytes for value in vars(self).values() if isinstance(value, torch.Tensor))

    @staticmethod
    def of(
        parts: Iterable[torch.Tensor], rows: int, width: int, kind: NumberFormat, device: torch.device | str = "cpu"
    ) -> Matrix:
        """The matrix of `parts`, stacked: (rows of the part, width) each, in any floating format.

        Parts are taken one at a time and put into their place, so that no more than one of them is there twice.
        """
        where, shape = torch.device(device), (rows, width)
        is_cached = kind.name == "fp32" and rows * width <= COLUMNS_UP_TO
        own = None if where.type != "cpu" or width % LANES or is_cached else kernels()
        if kind.name == "int8":
            return Int8(parts, shape, kind, own) if own else TorchInt8(parts, shape, kind, where)
        if kind.name == "int4":
            if where.type != "cpu":
                raise UsageError("--dtype int4 is for a CPU.", "Use int8 or bf16.")
            if own is None and not hasattr(torch.ops.aten, "_convert_weight_to_int4pack_for_cpu"):
                raise UsageError("--dtype int4 needs a C compiler, or torch 2.6.", "Use int8 or bf16.")
            return Int4(parts, shape, kind, own) if own else TorchInt4(parts, shape, kind)
        return Floats(parts, shape, kind, own) if own else Plain(parts, shape, kind, where)


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
    """Floating numbers, multiplied by torch."""

    def __init__(
        self, parts: Iterable[torch.Tensor], shape: tuple[int, int], kind: NumberFormat, device: torch.device
    ) -> None:
        super().__init__(shape, kind)
        self._weight = _lay_out(_stacked(parts, torch.empty(shape, dtype=kind.stored, device=device)))
        # Small enough to be there twice: one vector goes by columns, several go by blocks.
        self._several = packed(self._weight) if shape[0] * shape[1] <= COLUMNS_UP_TO else None

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        if self._several is not None and states.dim() > 1 and len(states) > 1:
            return self._several(states)
        return F.linear(states.to(self._weight.dtype), self._weight).to(self.dtype)


class Floats(Matrix):
    """Floating numbers, multiplied by `kernels.c` where that is quicker."""

    def __init__(self, parts: Iterable[torch.Tensor], shape: tuple[int, int], kind: NumberFormat, own: Kernels) -> None:
        super().__init__(shape, kind)
        self._weight, self._own = _stacked(parts, roomy(shape, kind.stored)), own
        self._many = _many(kind.name)

    def laid_out(self) -> tuple[torch.Tensor, torch.Tensor | None, int] | None:
        return self._weight, None, self.shape[1]

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        flat = states.reshape(-1, self.shape[1])
        if len(flat) >= self._many:
            return F.linear(states.to(self._weight.dtype), self._weight).to(self.dtype)
        out = self._own.multiply(self.format, flat, self._weight, None, self.shape[0])
        return out.view(*states.shape[:-1], self.shape[0])


class Whole(Matrix):
    """Whole numbers and scales, multiplied by `kernels.c`, or by torch when they are expanded."""

    _weights: torch.Tensor
    _scales: torch.Tensor
    _width: int
    _own: Kernels

    def laid_out(self) -> tuple[torch.Tensor, torch.Tensor | None, int] | None:
        return self._weights, self._scales, self._width

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        flat = states.reshape(-1, self.shape[1])
        if self._width != self.shape[1]:
            flat = F.pad(flat, (0, self._width - self.shape[1]))
        if len(flat) < _many(self.format):
            out = self._own.multiply(self.format, flat, self._weights, self._scales, self.shape[0])
        else:
            narrow, out = flat.bfloat16(), torch.empty(len(flat), self.shape[0])
            for begin in range(0, self.shape[0], EXPANDED_ROWS):
                rows = slice(begin, begin + EXPANDED_ROWS)
                out[:, rows] = self._expanded_product(narrow, rows)
        return out.view(*states.shape[:-1], self.shape[0])

    def _expanded_product(self, states: torch.Tensor, rows: slice) -> torch.Tensor:
        """bfloat16 (count, width) -> (count, some rows)."""
        raise NotImplementedError

    def _quantise(self, parts: Iterable[torch.Tensor]) -> None:
        for rows, values in _few_at_a_time(parts):
            if self._width != self.shape[1]:
                values = F.pad(values, (0, self._width - self.shape[1]))
            self._own.quantise(self.format, values, self._weights[rows], self._scales[rows])


class Int8(Whole):
    """Whole numbers of 8 bit and a scale for each row."""

    def __init__(self, parts: Iterable[torch.Tensor], shape: tuple[int, int], kind: NumberFormat, own: Kernels) -> None:
        super().__init__(shape, kind)
        self._own, self._width = own, shape[1]
        self._weights, self._scales = roomy(shape, torch.int8), torch.empty(shape[0])
        self._quantise(parts)

    def _expanded_product(self, states: torch.Tensor, rows: slice) -> torch.Tensor:
        return F.linear(states, self._weights[rows].bfloat16()) * self._scales[rows]


class Int4(Whole):
    """Whole numbers of 4 bit, and a scale for each group of 32 (see `kernels.c`): 4.5 bit a weight."""

    def __init__(self, parts: Iterable[torch.Tensor], shape: tuple[int, int], kind: NumberFormat, own: Kernels) -> None:
        super().__init__(shape, kind)
        self._own, self._width = own, -(-shape[1] // BLOCK) * BLOCK
        self._weights = roomy((shape[0], self._width // 8), torch.int32)
        self._scales = roomy((shape[0], -(-self._width // SPAN), LANES), torch.bfloat16)
        self._quantise(parts)

    def _expanded_product(self, states: torch.Tensor, rows: slice) -> torch.Tensor:
        return F.linear(states, self._own.expand_int4(self._weights[rows], self._scales[rows], self._width))


class TorchInt8(Matrix):
    """As Int8, multiplied by torch, with states in 16 bit."""

    def __init__(
        self, parts: Iterable[torch.Tensor], shape: tuple[int, int], kind: NumberFormat, device: torch.device
    ) -> None:
        super().__init__(shape, kind)
        # Its kernel writes past the end of rows that are no multiple of 32 (torch 2.13).
        self._padding = -shape[1] % GROUP
        self._weight = torch.zeros(shape[0] + -shape[0] % GROUP, shape[1] + self._padding, dtype=torch.int8).to(device)
        self._scales = torch.zeros(len(self._weight), dtype=kind.stored, device=device)
        for rows, values in _few_at_a_time(parts):
            quantize_int8(values.to(device), self._weight[rows, : shape[1]], self._scales[rows])

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        flat = F.pad(states.reshape(-1, self.shape[1]).to(self._scales.dtype), (0, self._padding))
        if _has_int8_kernel(flat.device.type):
            out = torch._weight_int8pack_mm(flat, self._weight, self._scales)
        else:  # no quicker than 16 bit, half the memory
            out = F.linear(flat, self._weight.to(flat.dtype)) * self._scales
        out = out[:, : self.shape[0]].to(self.dtype)
        return out.reshape(*states.shape[:-1], self.shape[0])


class TorchInt4(Matrix):
    """Whole numbers of 4 bit and a scale for each group of 32, as torch multiplies them, with states in bfloat16."""

    def __init__(self, parts: Iterable[torch.Tensor], shape: tuple[int, int], kind: NumberFormat) -> None:
        super().__init__(shape, kind)
        self._padding = -shape[1] % GROUP
        # Some rows at a time, of which there must be a multiple of 16: how many are meant, numbers, scales.
        self._pieces: list[tuple[int, torch.Tensor, torch.Tensor]] = []
        for _, values in _few_at_a_time(parts):
            padded = F.pad(values, (0, self._padding, 0, -len(values) % GROUP))
            self._pieces.append((len(values), *pack_int4(padded)))

    @property
    def bytes(self) -> int:
        return sum(packed.nbytes + scales.nbytes for _, packed, scales in self._pieces)

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        flat = F.pad(states.reshape(-1, self.shape[1]).bfloat16(), (0, self._padding))
        out = torch.cat(
            [
                torch._weight_int4pack_mm_for_cpu(flat, packed, GROUP, scales)[:, :rows]
                for rows, packed, scales in self._pieces
            ],
            dim=1,
        )
        return out.to(self.dtype).view(*states.shape[:-1], self.shape[0])


@functools.cache
def _has_int8_kernel(device: str) -> bool:
    return bool(torch._C._dispatch_has_kernel_for_dispatch_key("aten::_weight_int8pack_mm", device.upper()))


def _many(kind: str) -> int:
    return MANY.get(kind, 1 << 30) if _multiplies_bfloat16() else 1 << 30


@functools.cache
def _multiplies_bfloat16() -> bool:
    """The processor has instructions for it, and torch uses them."""
    asked = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return asked is not None and bool(asked())


def _few_at_a_time(parts: Iterable[torch.Tensor]) -> Iterator[tuple[slice, torch.Tensor]]:
    """Where they belong, and float32 rows that are contiguous."""
    begin = 0
    for part in parts:
        for few in part.split(ROWS_AT_ONCE):
            yield slice(begin, begin + len(few)), few.float().contiguous()
            begin += len(few)


def _stacked(parts: Iterable[torch.Tensor], whole: torch.Tensor) -> torch.Tensor:
    """The parts below each other in `whole`; each is written where it belongs, not copied once more."""
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
