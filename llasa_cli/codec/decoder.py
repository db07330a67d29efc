"""Codes -> sound: the decoder half of `Xcodec2Model`, straight from its safetensors file.

The same sums in the same order as transformers (tests compare them), without importing it: that import takes longer than
torch's, and who only speaks needs neither it nor the encoder, two thirds of the weights.

    codes (N,) -> quantiser's vectors -> embed -> 2 convolution blocks -> attention layers -> 2 blocks -> ISTFT -> (320 N,)

transformers rotates queries and keys by angles that depend on the head and not on time (sic). One rotation of both
changes no product of a query with a key, so it is left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from llasa_cli.errors import ModelError

_GROUPS = 32


@dataclass(frozen=True)
class Shape:
    """What config.json tells and the weights do not; defaults are `Xcodec2Config`'s."""

    levels: tuple[int, ...]
    heads: int
    layers: int
    rms_norm_eps: float
    hop: int
    """Samples a code."""
    sampling_rate: int

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Shape:
        if config.get("hidden_act", "silu") != "silu":
            raise ModelError(f"The codec's activation {config['hidden_act']!r} is not one this program runs.")
        hop = 1
        for ratio in config.get("downsampling_ratios", (2, 2, 4, 4, 5)):
            hop *= int(ratio)
        return cls(
            tuple(config.get("quantization_levels", (4,) * 8)),
            int(config.get("num_attention_heads", 16)),
            int(config.get("num_hidden_layers", 12)),
            float(config.get("rms_norm_eps", 1e-6)),
            hop,
            int(config.get("sampling_rate", 16_000)),
        )


class Decoder:
    """The weights and what is done with them. Build it with `read_decoder`."""

    def __init__(self, shape: Shape, weights: Mapping[str, torch.Tensor]) -> None:
        self.shape = shape
        self._weights = weights
        width = weights["head.linear.weight"].shape[0] - 2  # samples of a frame: four codes
        self._window = torch.hann_window(width, device=weights["head.linear.weight"].device)

    def __call__(self, codes: torch.Tensor) -> torch.Tensor:
        """int64 (N,) on the decoder's device -> float32 (hop * N,)."""
        hidden = self._linear("project_out", self._levels(codes))
        hidden = self._linear("fc", hidden)[None].transpose(1, 2)  # (1, width, N)
        hidden = self._convolution("embed", hidden)
        for block in ("prior_net.0", "prior_net.1"):
            hidden = self._block(block, hidden)
        hidden = hidden.transpose(1, 2)
        for layer in range(self.shape.layers):
            hidden = self._layer(f"layers.{layer}", hidden)
        hidden = hidden.transpose(1, 2)
        for block in ("post_net.0", "post_net.1"):
            hidden = self._block(block, hidden)
        weights = self._weights
        hidden = F.layer_norm(
            hidden.transpose(1, 2), hidden.shape[1:2], weights["norm.weight"], weights["norm.bias"], eps=1e-6
        )
        return self._sound(self._linear("head.linear", hidden)[0])

    def _levels(self, codes: torch.Tensor) -> torch.Tensor:
        """A code's place on each axis of the finite scalar quantiser, -1..1: (N, axes)."""
        levels = torch.tensor(self.shape.levels, device=codes.device)
        basis = torch.cumprod(torch.cat([levels.new_ones(1), levels[:-1]]), 0)
        half = levels // 2
        places = (codes[:, None] // basis % levels - half) / half
        return places.to(self._weights["project_out.weight"].dtype)

    def _linear(self, name: str, hidden: torch.Tensor) -> torch.Tensor:
        return F.linear(hidden, self._weights[name + ".weight"], self._weights.get(name + ".bias"))

    def _convolution(self, name: str, hidden: torch.Tensor) -> torch.Tensor:
        weight = self._weights[name + ".weight"]
        return F.conv1d(hidden, weight, self._weights[name + ".bias"], padding=weight.shape[-1] // 2)

    def _block(self, name: str, hidden: torch.Tensor) -> torch.Tensor:
        """Two convolutions of three codes, each after GroupNorm over the whole sequence; (1, width, N) in and out."""
        out = hidden
        for half in ("1", "2"):
            scale, shift = (self._weights[f"{name}.norm{half}.{part}"] for part in ("weight", "bias"))
            out = self._convolution(f"{name}.conv{half}", F.silu(F.group_norm(out, _GROUPS, scale, shift, eps=1e-6)))
        return hidden + out

    def _layer(self, name: str, hidden: torch.Tensor) -> torch.Tensor:
        """Attention of every code to every code, then a feed-forward; (1, N, width) in and out."""
        normed = self._rms_norm(f"{name}.input_layernorm", hidden)
        query, key, value = (
            self._linear(f"{name}.self_attn.{part}_proj", normed).unflatten(-1, (self.shape.heads, -1)).transpose(1, 2)
            for part in "qkv"
        )
        mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        hidden = hidden + self._linear(f"{name}.self_attn.o_proj", mixed)
        inner = self._linear(f"{name}.mlp.fc1", self._rms_norm(f"{name}.post_attention_layernorm", hidden))
        return hidden + self._linear(f"{name}.mlp.fc2", F.silu(inner))

    def _rms_norm(self, name: str, hidden: torch.Tensor) -> torch.Tensor:
        wide = hidden.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.shape.rms_norm_eps)
        return self._weights[name + ".weight"] * wide.to(hidden.dtype)

    def _sound(self, spectra: torch.Tensor) -> torch.Tensor:
        """(N, frame + 2) log magnitudes and phases -> samples, by overlapping windowed inverse transforms."""
        magnitude, phase = spectra.float().chunk(2, dim=-1)
        frames = torch.fft.irfft(torch.polar(magnitude.exp().clamp(max=1e2), phase), len(self._window))
        hop, width = self.shape.hop, len(self._window)
        sound = self._overlap(frames * self._window)
        envelope = self._overlap(self._window.square().expand(len(frames), width))
        cut = (width - hop) // 2
        return (sound / envelope.clamp(min=1e-11))[cut : cut + hop * len(frames)]

    def _overlap(self, frames: torch.Tensor) -> torch.Tensor:
        """(N, frame) -> (hop * (N - 1) + frame,): each frame begins a hop after the one before, and they are added."""
        hop = self.shape.hop
        pieces = frames.unflatten(1, (-1, hop))  # (N, hops a frame, hop)
        count = pieces.shape[1]
        total = frames.new_zeros(len(frames) + count - 1, hop)
        for piece in range(count):
            total[piece : piece + len(frames)] += pieces[:, piece]
        return total.flatten()


def read_decoder(file: Path, config: Mapping[str, Any], device: torch.device, dtype: torch.dtype) -> Decoder:
    """The decoder's tensors out of a codec's safetensors file.

    Raises:
        ModelError: The file is broken, or tensors are missing.
    """
    from safetensors import SafetensorError, safe_open

    shape = Shape.of(config)
    weights: dict[str, torch.Tensor] = {}
    prefixes = ("acoustic_decoder.", "quantizer.")
    try:
        with safe_open(file, "pt") as tensors:
            for name in tensors.keys():  # noqa: SIM118 - not a dict
                prefix = next((p for p in prefixes if name.startswith(p)), None)
                if prefix is not None:
                    weights[name.removeprefix(prefix)] = tensors.get_tensor(name).to(device, dtype)
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{file} can't be read: {error}", "Fetch the codec again.") from error
    missing = sorted(set(_names(shape)) - set(weights))
    if missing:
        raise ModelError(f"The codec in {file.parent} lacks {missing[0]} ({len(missing)} in all).", "Fetch it again.")
    return Decoder(shape, weights)


def _names(shape: Shape) -> list[str]:
    """Every tensor that decoding needs."""
    plain = [f"{name}.{part}" for name in ("project_out", "fc", "embed", "norm", "head.linear") for part in _BOTH]
    blocks = [
        f"{net}.{block}.{name}.{part}"
        for net in ("prior_net", "post_net")
        for block in range(2)
        for name in ("norm1", "conv1", "norm2", "conv2")
        for part in _BOTH
    ]
    layers = [
        f"layers.{layer}.{name}.weight"
        for layer in range(shape.layers)
        for name in (
            *(f"self_attn.{part}_proj" for part in "qkvo"),
            *("mlp.fc1", "mlp.fc2", "input_layernorm", "post_attention_layernorm"),
        )
    ]
    return plain + blocks + layers


_BOTH = ("weight", "bias")
