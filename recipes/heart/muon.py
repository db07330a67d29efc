"""The optimizer Muon for the matrices of a network, in float32."""

from __future__ import annotations

import math

import torch
from torch import nn


class Muon(torch.optim.Optimizer):
    """Muon for matrices, in float32: `torch.optim.Muon` computes in bfloat16, which a processor without it emulates.

    Momentum .95 with Nesterov's look ahead; the step has the root mean square of AdamW's (.2 of the rate).
    Source: Keller Jordan, https://kellerjordan.github.io/posts/muon/; the scale is Moonshot's (arXiv 2502.16982).
    """

    COEFFICIENTS = (3.4445, -4.775, 2.0315)

    def __init__(self, parameters: list[nn.Parameter], lr: float, weight_decay: float, steps: int = 4) -> None:
        super().__init__(parameters, {"lr": lr, "weight_decay": weight_decay, "steps": steps})

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                momentum = state.setdefault("momentum", torch.zeros_like(parameter))
                momentum.lerp_(parameter.grad, 0.05)
                update = self.orthogonal(parameter.grad.lerp(momentum, 0.95), group["steps"])
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(update, alpha=-group["lr"] * 0.2 * math.sqrt(max(parameter.shape)))

    @classmethod
    def orthogonal(cls, matrix: torch.Tensor, steps: int) -> torch.Tensor:
        """(m, n) -> nearly the nearest matrix with orthonormal rows or columns, by Newton-Schulz iterations."""
        a, b, c = cls.COEFFICIENTS
        wide = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
        wide = wide / wide.norm().clamp(min=1e-7)
        for _ in range(steps):
            gram = wide @ wide.T
            wide = torch.addmm(wide, torch.addmm(gram, gram, gram, beta=b, alpha=c), wide, beta=a)
        return wide.T if matrix.shape[0] > matrix.shape[1] else wide
