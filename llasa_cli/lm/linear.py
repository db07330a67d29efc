"""Linear layers without a bias, with weights in the number formats of `--dtype`: `linear(states)` is `states @ weights.T`.

On a CPU only the weights are in that format; the states are always float32. Reading the weights is what takes the time,
and the arithmetic on them is both most exact and quickest in float32. On other devices 16-bit weights take states of the
same format.

Which code multiplies is decided by format, number of rows of states and processor, never by timing: the same text must
give the same codes tomorrow. The classes are

    KernelLinear       every format by `cpu/kernels.c`, on a CPU with a C compiler
    TorchLinear        fp32, bf16, fp16 by torch: small float32 matrices, devices other than a CPU, no C compiler
    TorchInt8Linear    int8 by torch
    TorchInt4Linear    int4 by torch, on a CPU

The C kernels multiply integer weights with any number of rows of states, and the result of a row is bit for bit the same
however many others there are. Floating-point weights they multiply quickest with few rows: from `MANY_ROWS` on, torch's
bfloat16 product is quicker where the processor has bfloat16 instructions.

Shapes: R rows of weights (out features), W their width (in features).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator

import torch
import torch.nn.functional as F

from llasa_cli.device import WeightFormat
from llasa_cli.errors import UsageError
from llasa_cli.lm.cpu.build import Kernels, empty_huge_pages, load_kernels
from llasa_cli.lm.quantize import GROUP, ROWS_AT_ONCE, WEIGHTS_AT_ONCE, pack_groups, pack_int4, quantize_int8
from llasa_cli.packed_linear import pack_linear

SMALL_MATRIX = 4_000_000
"""Weights of the largest float32 matrix that stays in a CPU's cache (16 MB). Larger ones are multiplied by the kernels."""
LANES, BLOCK, SPAN = 16, 128, 512
"""Constants of `kernels.c`: every width is a multiple of LANES; in int4, of BLOCK, and SPAN weights have LANES scales."""
MANY_ROWS = 4
"""Rows of states from which torch's bfloat16 product is quicker than the kernels."""
_INTEGERS = {
    "int8": (1, 1, torch.int8, torch.float32),
    "int4": (BLOCK, 8, torch.int32, torch.bfloat16),
    "q8_0": (SPAN, 1, torch.int8, torch.float16),
    "q4_0": (SPAN, 8, torch.int32, torch.float16),
}
"""Integer weights as `kernels.c` stores them (the layouts are in `vectors.h`): the stored width is a multiple of the first number;
then the weights in one stored integer, its dtype, and the dtype of the scales. In int8 a row has one scale, in the others a
group of 32 weights has one."""
INTEGER_FORMATS = tuple(_INTEGERS)


class Linear:
    """Weights of shape (R, W).

    Attributes:
        shape: (R, W).
        kind: The format of its weights, and the dtype of the computation.
        dtype: The dtype of the states that it takes and returns.
        format: The format of its weights: fp32, bf16, fp16, int8 or int4; q8_0 or q4_0 of a GGUF file.
    """

    def __init__(self, shape: tuple[int, int], kind: WeightFormat) -> None:
        self.shape, self.kind = shape, kind
        self.dtype, self.format = kind.compute_dtype, kind.name

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        """(..., W) -> (..., R)."""
        raise NotImplementedError

    def kernel_layout(self) -> tuple[torch.Tensor, torch.Tensor | None, int] | None:
        """Weights, scales and stored width as `kernels.c` reads them; None if torch multiplies a single row of states."""
        return None

    @property
    def bytes(self) -> int:
        """Bytes that are read from memory for one product."""
        return sum(value.nbytes for value in vars(self).values() if isinstance(value, torch.Tensor))

    @staticmethod
    def from_parts(
        parts: Iterable[torch.Tensor], rows: int, width: int, kind: WeightFormat, device: torch.device | str = "cpu"
    ) -> Linear:
        """Stack `parts` along the rows; each is (some rows, W) in any floating-point format.

        The parts are consumed one at a time, so that at most one of them is in memory twice.

        Raises:
            UsageError: int4 is requested on another device than a CPU.
        """
        where, shape = torch.device(device), (rows, width)
        is_small = kind.name == "fp32" and rows * width <= SMALL_MATRIX
        kernels = None if where.type != "cpu" or width % LANES or is_small else load_kernels()
        if kernels is not None and kind.name in _INTEGERS:
            weights, scales, stored_width = _empty_integers(shape, kind.name)
            for place, values in _in_blocks(parts, max(1, WEIGHTS_AT_ONCE // width)):
                kernels.quantize(kind.name, _padded(values, stored_width), weights[place], scales[place])
            return KernelLinear(weights, scales, stored_width, shape, kind, kernels)
        if kernels is not None:
            weights = _stacked(parts, empty_huge_pages(shape, kind.storage_dtype))
            return KernelLinear(weights, None, width, shape, kind, kernels)
        if kind.name == "int8":
            return TorchInt8Linear(parts, shape, kind, where)
        if kind.name != "int4":
            return TorchLinear(parts, shape, kind, where)
        if where.type != "cpu":
            raise UsageError("--dtype int4 runs on a CPU only.", "Use int8 or bf16.")
        return TorchInt4Linear(parts, shape, kind)

    @staticmethod
    def from_blocks(
        blocks: Iterable[tuple[torch.Tensor, torch.Tensor]],
        shape: tuple[int, int],
        kind: WeightFormat,
        kernels: Kernels,
    ) -> Linear:
        """Integers of 8 or 4 bits and a float16 scale for each 32 neighbors, exactly as GGUF's Q8_0 and Q4_0 have them.

        Args:
            blocks: Integers, int8 (some rows, W), and scales, float16 (some rows, W / 32), of rows below each other.
            kind: q8_0 or q4_0, computed in float32.
        """
        weights, scales, stored_width = _empty_integers(shape, kind.name)
        begin = 0
        for integers, of_groups in blocks:
            rows = slice(begin, begin + len(integers))
            weights[rows] = pack_groups(_padded(integers, stored_width), kind.name)
            scales[rows] = _padded(of_groups, stored_width // GROUP).view(len(of_groups), -1, LANES)
            begin = rows.stop
        return KernelLinear(weights, scales, stored_width, shape, kind, kernels)


class Embedding:
    """Rows that are looked up by token id.

    Attributes:
        dtype: The dtype of the states that it returns.
    """

    def __init__(self, rows: torch.Tensor, dtype: torch.dtype) -> None:
        self._rows, self.dtype, self.device = rows, dtype, rows.device

    def __call__(self, ids: torch.Tensor) -> torch.Tensor:
        """int64 (...) -> (..., W)."""
        return F.embedding(ids, self._rows).to(self.dtype)


class FileEmbedding(Embedding):
    """Rows that stay in a file, on a CPU, until they are looked up.

    Args:
        read_rows: int64 (N,) -> (N, W).
    """

    def __init__(self, read_rows: Callable[[torch.Tensor], torch.Tensor], dtype: torch.dtype) -> None:
        self._read_rows, self.dtype, self.device = read_rows, dtype, torch.device("cpu")

    def __call__(self, ids: torch.Tensor) -> torch.Tensor:
        return self._read_rows(ids.flatten()).to(self.dtype).view(*ids.shape, -1)


class TorchLinear(Linear):
    """Floating-point weights, multiplied by torch."""

    def __init__(
        self, parts: Iterable[torch.Tensor], shape: tuple[int, int], kind: WeightFormat, device: torch.device
    ) -> None:
        super().__init__(shape, kind)
        self._weight = _by_columns(_stacked(parts, torch.empty(shape, dtype=kind.storage_dtype, device=device)))
        # Small enough to be kept twice: by columns for one row of states, packed for several.
        self._packed = pack_linear(self._weight) if shape[0] * shape[1] <= SMALL_MATRIX else None

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        if self._packed is not None and states.dim() > 1 and len(states) > 1:
            return self._packed(states)
        return F.linear(states.to(self._weight.dtype), self._weight).to(self.dtype)


class KernelLinear(Linear):
    """Weights that `kernels.c` multiplies; for many rows of states, bfloat16 ones are multiplied by torch.

    Args:
        weights, scales, stored_width: The results of `kernel_layout`.
    """

    def __init__(
        self,
        weights: torch.Tensor,
        scales: torch.Tensor | None,
        stored_width: int,
        shape: tuple[int, int],
        kind: WeightFormat,
        kernels: Kernels,
    ) -> None:
        super().__init__(shape, kind)
        self._weights, self._scales, self._width, self._kernels = weights, scales, stored_width, kernels
        self._many_rows = MANY_ROWS if kind.name == "bf16" and _has_bfloat16_instructions() else 1 << 30

    def kernel_layout(self) -> tuple[torch.Tensor, torch.Tensor | None, int] | None:
        return self._weights, self._scales, self._width

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        flat = states.reshape(-1, self.shape[1])
        if len(flat) >= self._many_rows:
            return F.linear(states.to(self._weights.dtype), self._weights).to(self.dtype)
        flat = _padded(flat, self._width)
        out = self._kernels.multiply(self.format, flat, self._weights, self._scales, self.shape[0])
        return out.view(*states.shape[:-1], self.shape[0])


class TorchInt8Linear(Linear):
    """8-bit integers and one scale per row, multiplied by torch with 16-bit states."""

    def __init__(
        self, parts: Iterable[torch.Tensor], shape: tuple[int, int], kind: WeightFormat, device: torch.device
    ) -> None:
        super().__init__(shape, kind)
        # torch's kernel writes past the end of weights whose rows or width are not multiples of 32 (torch 2.13).
        self._padding = -shape[1] % GROUP
        self._weight = torch.zeros(shape[0] + -shape[0] % GROUP, shape[1] + self._padding, dtype=torch.int8).to(device)
        self._scales = torch.zeros(len(self._weight), dtype=kind.storage_dtype, device=device)
        for rows, values in _in_blocks(parts):
            quantize_int8(values.to(device), self._weight[rows, : shape[1]], self._scales[rows])

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        flat = F.pad(states.reshape(-1, self.shape[1]).to(self._scales.dtype), (0, self._padding))
        if _has_int8_kernel(flat.device.type):
            out = torch._weight_int8pack_mm(flat, self._weight, self._scales)
        else:  # no quicker than 16-bit weights, but half the memory
            out = F.linear(flat, self._weight.to(flat.dtype)) * self._scales
        out = out[:, : self.shape[0]].to(self.dtype)
        return out.reshape(*states.shape[:-1], self.shape[0])


class TorchInt4Linear(Linear):
    """4-bit integers and one scale per group of 32, multiplied by torch with bfloat16 states."""

    def __init__(self, parts: Iterable[torch.Tensor], shape: tuple[int, int], kind: WeightFormat) -> None:
        super().__init__(shape, kind)
        self._padding = -shape[1] % GROUP
        # Blocks of rows, padded because torch requires a multiple of 16: the number of rows without padding, weights, scales.
        self._blocks: list[tuple[int, torch.Tensor, torch.Tensor]] = []
        for _, values in _in_blocks(parts):
            padded = F.pad(values, (0, self._padding, 0, -len(values) % GROUP))
            self._blocks.append((len(values), *pack_int4(padded)))

    @property
    def bytes(self) -> int:
        return sum(weights.nbytes + scales.nbytes for _, weights, scales in self._blocks)

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        flat = F.pad(states.reshape(-1, self.shape[1]).bfloat16(), (0, self._padding))
        out = torch.cat(
            [
                torch._weight_int4pack_mm_for_cpu(flat, weights, GROUP, scales)[:, :rows]
                for rows, weights, scales in self._blocks
            ],
            dim=1,
        )
        return out.to(self.dtype).view(*states.shape[:-1], self.shape[0])


@functools.cache
def _has_int8_kernel(device: str) -> bool:
    return bool(torch._C._dispatch_has_kernel_for_dispatch_key("aten::_weight_int8pack_mm", device.upper()))


@functools.cache
def _has_bfloat16_instructions() -> bool:
    """Whether the processor has bfloat16 instructions and torch uses them."""
    is_supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return is_supported is not None and bool(is_supported())


def _empty_integers(shape: tuple[int, int], name: str) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Uninitialized weights and scales of an integer format, and the stored width."""
    multiple, per_integer, stored, scale = _INTEGERS[name]
    width = -(-shape[1] // multiple) * multiple
    weights = empty_huge_pages((shape[0], width // per_integer), stored)
    if name == "int8":
        return weights, torch.empty(shape[0], dtype=scale), width
    return weights, empty_huge_pages((shape[0], -(-width // SPAN), LANES), scale), width


def _padded(values: torch.Tensor, width: int) -> torch.Tensor:
    """(R, some width) -> (R, width), with zeros at the end."""
    return values if values.shape[1] == width else F.pad(values, (0, width - values.shape[1]))


def _in_blocks(parts: Iterable[torch.Tensor], most: int = ROWS_AT_ONCE) -> Iterator[tuple[slice, torch.Tensor]]:
    """Yields blocks of at most `most` rows: their place in the whole, and the rows in contiguous float32."""
    begin = 0
    for part in parts:
        for block in part.split(most):
            yield slice(begin, begin + len(block)), block.float().contiguous()
            begin += len(block)


def _stacked(parts: Iterable[torch.Tensor], whole: torch.Tensor) -> torch.Tensor:
    """Write the parts below each other into `whole`, without another copy."""
    begin = 0
    for part in parts:
        whole[begin : begin + len(part)] = part
        begin += len(part)
    return whole


def _by_columns(weight: torch.Tensor) -> torch.Tensor:
    """Store the matrix by columns if that makes the product with one row of states quicker.

    That holds for float32 matrices that stay in a CPU's cache, such as the built-in voice's. For larger ones memory is the
    limit either way, and bfloat16 ones are slower by columns.
    """
    if weight.device.type == "cpu" and weight.dtype == torch.float32 and weight.numel() <= SMALL_MATRIX:
        return weight.t().contiguous().t()
    return weight
