"""A Llama for one stream: token ids in, scores of the speech codes and of END out.

Its own few lines instead of transformers' class: no import of seconds, a key-value cache of fixed size, fused
projections, and a head that has only the rows that may be drawn (65,537 of 193,801 for the published models).
The numbers are transformers': tests compare greedy output token for token.

Shapes: B = 1 and left out. T tokens, H heads, K key-value heads, D head width.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from llasa_cli.errors import ModelError
from llasa_cli.lm.matrix import Embedding, Matrix


@dataclass(frozen=True)
class Shape:
    """What config.json says about a Llama."""

    hidden: int
    layers: int
    heads: int
    key_value_heads: int
    head: int
    inner: int
    epsilon: float
    rope: dict[str, Any]

    @classmethod
    def of(cls, config: dict[str, Any]) -> Shape:
        """Read a config.json of transformers 4 or 5.

        Raises:
            ModelError: Not a Llama, or one with parts that no Llasa has.
        """
        kind = config.get("model_type")
        if kind not in ("llama", "llasa"):  # the second is what the transformers draft calls it
            raise ModelError(f"This is a {kind!r} checkpoint; Llasa models are of type 'llama'.")
        for flag in ("attention_bias", "mlp_bias"):
            if config.get(flag):
                raise ModelError(f"The checkpoint has {flag}, which no Llasa has and this program does not run.")
        if config.get("hidden_act", "silu") != "silu":
            raise ModelError(f"The checkpoint's activation {config['hidden_act']!r} is not Llama's silu.")
        # transformers 5 writes rope_parameters; 4 wrote rope_theta and rope_scaling.
        rope = dict(config.get("rope_scaling") or {}) | dict(config.get("rope_parameters") or {})
        rope.setdefault("rope_theta", config.get("rope_theta", 10000.0))
        rope.setdefault("rope_type", rope.get("type") or "default")
        heads, hidden = _whole(config, "num_attention_heads"), _whole(config, "hidden_size")
        key_value_heads, head = (
            _whole(config, "num_key_value_heads", heads),
            _whole(config, "head_dim", hidden // heads),
        )
        if heads % key_value_heads or head % 2:
            raise ModelError(
                f"The checkpoint's config.json has {heads} heads of width {head} on {key_value_heads} key-value heads, "
                "which can't be shared out."
            )
        return cls(
            hidden=hidden,
            layers=_whole(config, "num_hidden_layers"),
            heads=heads,
            key_value_heads=key_value_heads,
            head=head,
            inner=_whole(config, "intermediate_size"),
            epsilon=float(config.get("rms_norm_eps") or 1e-6),
            rope=rope,
        )


def _whole(config: dict[str, Any], name: str, default: int | None = None) -> int:
    """A positive whole number of config.json; null means the default, as in transformers."""
    value = config.get(name)
    value = default if value is None else value
    if not isinstance(value, int) or value < 1:
        raise ModelError(f"The checkpoint's config.json has {name} {value!r}, not a positive number.")
    return value


def rope_frequencies(shape: Shape) -> torch.Tensor:
    """float32 [D / 2], radians a position; plain or with Llama 3's scaling.

    Source: transformers, `modeling_rope_utils._compute_llama3_parameters`.
    """
    rope, needed = shape.rope, ["rope_theta"]
    if rope["rope_type"] == "llama3":
        needed += ["factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"]
    for name in needed:
        if not isinstance(rope.get(name), (int, float)):
            raise ModelError(f"The checkpoint's rope parameters have no {name}.")
    steps = torch.arange(0, shape.head, 2, dtype=torch.int64).float()
    frequencies = 1.0 / (rope["rope_theta"] ** (steps / shape.head))
    if rope["rope_type"] == "default":
        return frequencies
    if rope["rope_type"] != "llama3":
        raise ModelError(f"The checkpoint's rope type {rope['rope_type']!r} is not one of Llama's: default, llama3.")
    factor, low, high = rope["factor"], rope["low_freq_factor"], rope["high_freq_factor"]
    trained = rope["original_max_position_embeddings"]
    wavelength = 2 * math.pi / frequencies
    smooth = (trained / wavelength - low) / (high - low)
    blended = (1 - smooth) * frequencies / factor + smooth * frequencies
    scaled = torch.where(wavelength > trained / low, frequencies / factor, frequencies)
    middle = (wavelength <= trained / low) & (wavelength >= trained / high)
    return torch.where(middle, blended, scaled)


@dataclass(frozen=True)
class Layer:
    """One layer's weights; queries, keys and values in one matrix, gate and up in one."""

    input_norm: torch.Tensor  # (hidden,)
    query_key_value: Matrix  # ((H + 2 K) D, hidden)
    output: Matrix  # (hidden, H D)
    middle_norm: torch.Tensor  # (hidden,)
    gate_up: Matrix  # (2 inner, hidden)
    down: Matrix  # (hidden, inner)


class Network:
    """Weights that don't change; see `Stream` for what does.

    Args:
        embedding: (V, hidden).
        head: (codes + 1, hidden): the speech codes' rows, END's last.
    """

    def __init__(
        self, shape: Shape, embedding: Embedding, layers: list[Layer], norm: torch.Tensor, head: Matrix
    ) -> None:
        self.shape = shape
        self.embedding, self.layers, self.norm, self.head = embedding, layers, norm, head
        self.frequencies = rope_frequencies(shape).to(embedding.device)

    def stream(self, capacity: int) -> Stream:
        """An empty cache for `capacity` tokens."""
        return Stream(self, capacity)


class Stream:
    """One text's way through the network: the cache of keys and values, and the position in it."""

    def __init__(self, network: Network, capacity: int) -> None:
        self.network = network
        self.capacity = capacity
        self.position = 0
        shape, like = network.shape, network.embedding
        size = (shape.layers, shape.key_value_heads, capacity, shape.head)
        self._keys = torch.empty(size, dtype=like.dtype, device=like.device)
        self._values = torch.empty(size, dtype=like.dtype, device=like.device)
        angles = torch.outer(torch.arange(capacity, device=like.device).float(), network.frequencies)
        angles = torch.cat([angles, angles], dim=-1)  # (capacity, D)
        self._cosine, self._sine = angles.cos().to(like.dtype), angles.sin().to(like.dtype)

    def feed(self, ids: torch.Tensor) -> torch.Tensor:
        """Take T more tokens, int64 [T]; give the scores after the last, float32 [codes + 1]."""
        network, begin = self.network, self.position
        end = begin + len(ids)
        if end > self.capacity:
            raise ValueError(f"{end} tokens in a cache for {self.capacity}")
        hidden = network.embedding(ids)
        rotation = self._cosine[begin:end], self._sine[begin:end]
        for index, layer in enumerate(network.layers):
            hidden = hidden + self._attend(index, layer, self._norm(hidden, layer.input_norm), rotation)
            gate, up = layer.gate_up(self._norm(hidden, layer.middle_norm)).chunk(2, dim=-1)
            hidden = hidden + layer.down(F.silu(gate) * up)
        self.position = end
        return network.head(self._norm(hidden[-1], network.norm)).float()

    def _norm(self, hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return F.rms_norm(hidden, weight.shape, weight, self.network.shape.epsilon)

    def _attend(
        self, index: int, layer: Layer, hidden: torch.Tensor, rotation: tuple[torch.Tensor, torch.Tensor]
    ) -> torch.Tensor:
        shape, count = self.network.shape, len(hidden)
        begin, end = self.position, self.position + count
        both = layer.query_key_value(hidden).view(count, -1, shape.head).transpose(0, 1)  # (H + 2 K, T, D)
        turned = _rotate(both[: shape.heads + shape.key_value_heads], *rotation)
        self._keys[index, :, begin:end] = turned[shape.heads :]
        self._values[index, :, begin:end] = both[shape.heads + shape.key_value_heads :]
        # A first feed sees itself causally; a single token sees everything before it.
        mask = None
        if count > 1 and begin > 0:
            mask = torch.ones(count, end, dtype=torch.bool, device=hidden.device).tril(begin)
        mixed = F.scaled_dot_product_attention(
            turned[None, : shape.heads],
            self._keys[None, index, :, :end],
            self._values[None, index, :, :end],
            attn_mask=mask,
            is_causal=count > 1 and begin == 0,
            enable_gqa=shape.heads != shape.key_value_heads,
        )
        return layer.output(mixed[0].transpose(0, 1).reshape(count, -1))


def _rotate(states: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> torch.Tensor:
    """Rotary position embedding, Llama's halves form: (N, T, D)."""
    first, second = states.chunk(2, dim=-1)
    return states * cosine + torch.cat([-second, first], dim=-1) * sine
