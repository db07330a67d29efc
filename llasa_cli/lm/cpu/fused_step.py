"""The fused step: one token of each of some sequences through the whole network in one call of `step.h`.

Computed call by call, a step at Llasa-1B's size makes some 400 calls of torch beside the matrix products, and each product
begins and ends with threads that wait for each other. The results equal those of `Llama.forward` and `Llama.logits` but for
rounding, and those of a sequence are bit for bit the same whatever else is in the call. The weights are read once for all
sequences. Integer weights serve any number of them, and the others up to FEW_ROWS.

Shapes: B sequences, K key-value heads, L cached tokens, D head width.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Sequence

import torch

from llasa_cli.lm.cpu.build import Kernels, address
from llasa_cli.lm.kv_cache import KVCache
from llasa_cli.lm.layer import LayerWeights
from llasa_cli.lm.linear import INTEGER_FORMATS, LANES, Linear
from llasa_cli.lm.llama_config import LlamaConfig

FORMATS = ("fp32", "bf16", "fp16", "int8", "int4", "q8_0", "q4_0")
"""The formats in the order of `enum format` in `one_row.h`."""
FEW_ROWS = 4
"""The most sequences in a step with floating-point weights, as in `one_row.h`."""
FEW_INTEGER_ROWS = 2
"""The most sequences that integer weights are multiplied with one after the other, not in tiles; one with short rows of int8."""
MAX_WIDTH = 32_768
"""The longest row of states, as in `one_row.h`."""


class _Matrix(ctypes.Structure):
    _fields_ = (
        ("format", ctypes.c_long),
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
        ("bias", ctypes.c_void_p),
        ("query_norm", ctypes.c_void_p),
        ("key_norm", ctypes.c_void_p),
    )


class _Network(ctypes.Structure):
    _fields_ = (
        ("layer_count", ctypes.c_long),
        ("hidden_size", ctypes.c_long),
        ("heads", ctypes.c_long),
        ("key_value_heads", ctypes.c_long),
        ("head_dim", ctypes.c_long),
        ("intermediate_size", ctypes.c_long),
        ("norm_epsilon", ctypes.c_double),
        ("layers", ctypes.c_void_p),
        ("norm", ctypes.c_void_p),
        ("head", _Matrix),
        ("few_rows", ctypes.c_long),
    )


class FusedStep:
    """Build it with `create`. It holds addresses only: the network's tensors must stay where they are.

    Attributes:
        max_rows: The most sequences in a step.
    """

    def __init__(
        self, config: LlamaConfig, layers: Sequence[LayerWeights], norm: torch.Tensor, head: Linear, kernels: Kernels
    ) -> None:
        self._kernels = kernels
        linears = [head, *(linear for layer in layers for linear in layer.linears())]
        has_integers = all(linear.format in INTEGER_FORMATS for linear in linears)
        self.max_rows = sys.maxsize if has_integers else FEW_ROWS
        self._layers = (_Layer * config.layers)(
            *(
                _Layer(
                    layer.input_norm.data_ptr(),
                    layer.middle_norm.data_ptr(),
                    *map(_matrix, layer.linears()),
                    *(None if vector is None else vector.data_ptr() for vector in layer.optional_vectors()),
                )
                for layer in layers
            )
        )
        self._network = _Network(
            config.layers,
            config.hidden_size,
            config.heads,
            config.key_value_heads,
            config.head_dim,
            config.intermediate_size,
            config.norm_epsilon,
            ctypes.addressof(self._layers),
            norm.data_ptr(),
            _matrix(head),
            FEW_INTEGER_ROWS if has_integers else FEW_ROWS,
        )
        self._logits = head.shape[0]

    @staticmethod
    def create(
        config: LlamaConfig, layers: Sequence[LayerWeights], norm: torch.Tensor, head: Linear, kernels: Kernels
    ) -> FusedStep | None:
        """Build the step; None if `step.h` does not support the network's dimensions or formats."""
        linears = [head, *(linear for layer in layers for linear in layer.linears())]
        widths = (config.hidden_size, config.intermediate_size, config.heads * config.head_dim, config.head_dim)
        norms = [norm, *(weight for layer in layers for weight in (layer.input_norm, layer.middle_norm))]
        norms += [vector for layer in layers for vector in layer.optional_vectors() if vector is not None]
        if (
            all(linear.kernel_layout() is not None for linear in linears)
            and all(width % LANES == 0 and width <= MAX_WIDTH for width in widths)
            and all(weight.dtype == torch.float32 and weight.is_contiguous() for weight in norms)
        ):
            return FusedStep(config, layers, norm, head, kernels)
        return None

    def __call__(
        self,
        hidden: torch.Tensor,
        cache: KVCache,
        slots: list[int],
        positions: list[int],
        cosine: torch.Tensor,
        sine: torch.Tensor,
        threads: int = 1,
    ) -> torch.Tensor:
        """The logits of what follows the tokens, float32 (B, codes + 1).

        Args:
            hidden: float32 (B, hidden), the embeddings of the tokens; they are overwritten.
            cache: float32 keys and values of earlier tokens; those of the tokens are written.
            slots, positions: B slots of the cache, all different, and positions of the tokens.
            cosine, sine: float32 (tokens, D), the rotary embeddings of all positions.
            threads: The most threads that share many sequences.
        """
        count, past = len(positions), cache.tensor
        if not (
            hidden.shape[0] == len(slots) == count <= self.max_rows
            and 0 <= min(slots) <= max(slots) < past.shape[1]
            and 0 <= min(positions) <= max(positions) < min(past.shape[2], len(cosine))
            and all(tensor.is_contiguous() for tensor in (hidden, past, cosine, sine))
        ):
            raise ValueError(f"slots {slots} at {positions} in keys and values of shape {tuple(past.shape)}")
        network, rows = ctypes.byref(self._network), ctypes.c_long(count)
        logits = torch.empty(count, self._logits)
        # Each thread's part is rounded up to a whole sequence.
        scratch_rows = ctypes.c_long(count + threads)
        scratch = torch.empty(self._kernels.library.step_bytes(network, scratch_rows), dtype=torch.uint8)
        self._kernels.library.step(
            network,
            rows,
            address(hidden),
            address(past),
            ctypes.c_long(past.stride(0)),
            ctypes.c_long(past.stride(1)),
            (ctypes.c_int64 * count)(*slots),
            (ctypes.c_int64 * count)(*positions),
            address(cache.sources),
            address(cache.shared),
            address(cosine),
            address(sine),
            address(scratch),
            address(logits),
            ctypes.c_long(threads),
        )
        return logits


def _matrix(linear: Linear) -> _Matrix:
    layout = linear.kernel_layout()
    assert layout is not None
    weights, scales, width = layout
    scales_address = None if scales is None else scales.data_ptr()
    return _Matrix(FORMATS.index(linear.format), linear.shape[0], width, weights.data_ptr(), scales_address)
