"""The anti-aliasing filters of X-Codec2's acoustic encoder, as sums of shifted slices.

transformers implements them as depthwise convolutions, which on a CPU take nine tenths of the time of encoding. The filters
have 12 taps and the same shape for all channels, so 12 multiply-adds over whole arrays give the same result to 1e-6
(`benchmarks/codec.py` measures the ratio). On a GPU the convolutions are kept.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F


def upsample(self: Any, hidden: torch.Tensor) -> torch.Tensor:
    """`Xcodec2UpSample1d.forward` for ratio 2: (B, C, T) -> (B, C, 2 T)."""
    taps = (self.ratio * self.filter.flatten()).tolist()
    length = hidden.shape[-1]
    padded = F.pad(hidden, (self.pad, self.pad), mode="replicate")
    out = hidden.new_empty(*hidden.shape, 2)
    for phase in range(2):
        # Output sample 2 t + phase is the sum over all inputs j and taps with 2 j + tap = 2 t + phase + pad_left,
        # so j starts at (phase + pad_left - tap) / 2.
        total = torch.zeros_like(hidden)
        for tap in range((phase + self.pad_left) % 2, self.kernel_size, 2):
            start = (phase + self.pad_left - tap) // 2
            total.add_(padded[..., start : start + length], alpha=taps[tap])
        out[..., phase] = total
    return out.flatten(-2)


def downsample(self: Any, hidden: torch.Tensor) -> torch.Tensor:
    """`Xcodec2DownSample1d.forward` for ratio 2: (B, C, 2 T) -> (B, C, T)."""
    taps = self.filter.flatten().tolist()
    padded = F.pad(hidden, (self.pad_left, self.pad_right), mode="replicate")
    length = (padded.shape[-1] - self.kernel_size) // 2 + 1
    halves = (padded[..., ::2].contiguous(), padded[..., 1::2].contiguous())
    total = halves[0][..., :length] * taps[0]
    for tap in range(1, self.kernel_size):
        total.add_(halves[tap % 2][..., tap // 2 : tap // 2 + length], alpha=taps[tap])
    return total


def use_shifted_filters(model: torch.nn.Module) -> None:
    """Replace the forward method of every filter of ratio 2 in this model. The library itself is not changed."""
    for module in model.modules():
        kind = type(module).__name__
        if kind == "Xcodec2UpSample1d" and module.ratio == 2:
            module.forward = MethodType(upsample, module)
        elif kind == "Xcodec2DownSample1d" and module.stride == 2:
            module.forward = MethodType(downsample, module)
