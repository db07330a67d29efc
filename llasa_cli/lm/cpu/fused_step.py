"""One token of one sequence through the whole network in one call of `step.h`.

What a step of 17 layers does beside its products, some 400 calls of torch, took 2.5 ms at Llasa-1B's size, and products
that are called one by one begin and end with threads that wait for each other. Same numbers as `network.Llama.hidden`
and `scores` but for rounding.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

import torch

from llasa_cli.lm.cpu.build import Kernels, at
from llasa_cli.lm.linear import LANES, Matrix

if TYPE_CHECKING:
    from llasa_cli.lm.llama import Llama

KINDS = ("fp32", "bf16", "fp16", "int8", "int4")
"""In the order of `one_row.h`."""
WIDEST = 32_768
"""Of `one_row.h`: states of a product."""


class _Matrix(ctypes.Structure):
    _fields_ = (
        ("kind", ctypes.c_long),
        ("rows", ctypes.c_long),
        ("width", ctypes.c_long),
        ("weights", ctypes.c_void_p),
        ("scales", ctypes.c_void_p),
    )


class _Layer(ctypes.Structure):
    _fields_ = (
        ("input_norm", ctypes.c_void_p),
        ("middle_norm", ctypes.c_void_p),
        ("query_key_value", _Matrix),
        ("output", _Matrix),
        ("gate_up", _Matrix),
        ("down", _Matrix),
    )


class _Network(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_long) for name in ("layers", "hidden", "heads", "key_value_heads", "head", "inner")),
        ("epsilon", ctypes.c_double),
        ("each", ctypes.c_void_p),
        ("norm", ctypes.c_void_p),
        ("scores", _Matrix),
    )


class FusedStep:
    """Build it with `of`. It holds addresses only: the network's tensors must stay where they are."""

    def __init__(self, network: Llama, own: Kernels) -> None:
        shape = network.shape
        self._own = own
        self._layers = (_Layer * shape.layers)(
            *(
                _Layer(
                    layer.input_norm.data_ptr(),
                    layer.middle_norm.data_ptr(),
                    *map(_matrix, (layer.query_key_value, layer.output, layer.gate_up, layer.down)),
                )
                for layer in network.layers
            )
        )
        self._network = _Network(
            shape.layers,
            shape.hidden,
            shape.heads,
            shape.key_value_heads,
            shape.head,
            shape.inner,
            shape.epsilon,
            ctypes.addressof(self._layers),
            network.norm.data_ptr(),
            _matrix(network.head),
        )
        self._room = 2 * (shape.heads + shape.key_value_heads) * shape.head + 2 * shape.inner
        self._rows = network.head.shape[0]

    @staticmethod
    def of(network: Llama, own: Kernels) -> FusedStep | None:
        """None where the network is of another form than `step.h` is for."""
        shape = network.shape
        matrices = [matrix for layer in network.layers for matrix in vars(layer).values() if isinstance(matrix, Matrix)]
        widths = (shape.hidden, shape.inner, shape.heads * shape.head, shape.head)
        norms = [network.norm, *(norm for layer in network.layers for norm in (layer.input_norm, layer.middle_norm))]
        if (
            all(matrix.laid_out() is not None for matrix in (*matrices, network.head))
            and all(width % LANES == 0 and width <= WIDEST for width in widths)
            and all(norm.dtype == torch.float32 and norm.is_contiguous() for norm in norms)
        ):
            return FusedStep(network, own)
        return None

    def __call__(
        self, hidden: torch.Tensor, past: torch.Tensor, position: int, cosine: torch.Tensor, sine: torch.Tensor
    ) -> torch.Tensor:
        """Scores of what may follow, float32 (codes + 1,).

        Args:
            hidden: float32 (hidden,), what the token is to the network; changed.
            past: float32 (layers, L, 2 K, D), keys and values, `position` of which are there; the token's are written.
            cosine, sine: float32 (D,), of the position.
        """
        if not (position < past.shape[1] and past.is_contiguous() and hidden.is_contiguous()):
            raise ValueError(f"position {position} in keys and values of shape {tuple(past.shape)}")
        scores, room = torch.empty(self._rows), torch.empty(self._room)
        self._own.library.step(
            ctypes.byref(self._network),
            at(hidden),
            at(past),
            ctypes.c_long(past[0].numel()),
            ctypes.c_long(position),
            at(cosine),
            at(sine),
            at(room),
            at(scores),
        )
        return scores


def _matrix(matrix: Matrix) -> _Matrix:
    parts = matrix.laid_out()
    assert parts is not None
    weights, scales, width = parts
    scales_at = None if scales is None else scales.data_ptr()
    return _Matrix(KINDS.index(matrix.format), matrix.shape[0], width, weights.data_ptr(), scales_at)
