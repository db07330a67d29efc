"""The weights of one transformer layer."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from llasa_cli.lm.linear import Linear


@dataclass(frozen=True)
class LayerWeights:
    """One layer, with the projections that share an input stacked into one.

    Shapes: H heads, K key-value heads, D head width.

    Attributes:
        bias: Added to queries, keys and values; only Qwen 2 has it.
        query_norm, key_norm: The norms of each head before it is rotated; only Qwen 3 has them.
    """

    input_norm: torch.Tensor  # (hidden,)
    query_key_value: Linear  # ((H + 2 K) D, hidden)
    output: Linear  # (hidden, H D)
    middle_norm: torch.Tensor  # (hidden,)
    gate_up: Linear  # (2 intermediate, hidden)
    down: Linear  # (hidden, intermediate)
    bias: torch.Tensor | None = None  # ((H + 2 K) D,)
    query_norm: torch.Tensor | None = None  # (D,)
    key_norm: torch.Tensor | None = None  # (D,)

    def linears(self) -> tuple[Linear, ...]:
        """The four matrices, in the order of a forward pass."""
        return self.query_key_value, self.output, self.gate_up, self.down

    def optional_vectors(self) -> tuple[torch.Tensor | None, ...]:
        """The vectors that only some architectures have, in the order of `layer` in `cpu/step.h`."""
        return self.bias, self.query_norm, self.key_norm
