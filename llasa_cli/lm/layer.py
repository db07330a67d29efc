"""The weights of one transformer layer."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from llasa_cli.lm.linear import Linear


@dataclass(frozen=True)
class LayerWeights:
    """One layer of a Llama, with the projections that share an input stacked into one.

    Shapes: H heads, K key-value heads, D head width.
    """

    input_norm: torch.Tensor  # (hidden,)
    query_key_value: Linear  # ((H + 2 K) D, hidden)
    output: Linear  # (hidden, H D)
    middle_norm: torch.Tensor  # (hidden,)
    gate_up: Linear  # (2 intermediate, hidden)
    down: Linear  # (hidden, intermediate)

    def linears(self) -> tuple[Linear, ...]:
        """The four matrices, in the order of a forward pass."""
        return self.query_key_value, self.output, self.gate_up, self.down
