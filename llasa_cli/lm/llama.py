"""A Llama: token ids in, scores of the speech codes and of END out.

Its own few lines instead of transformers' class: no import of seconds, keys and values in a cache that does not move
(`lm.cache`), fused projections, and a head that has only the rows that may be drawn (65,537 of 193,801 for the published
models). The numbers are transformers': tests compare greedy output token for token.

Shapes: N tokens, of one sequence or of N, H heads, K key-value heads, D head width.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F

from llasa_cli.errors import ModelError
from llasa_cli.lm.attention import Attention
from llasa_cli.lm.cpu.build import Kernels, kernels
from llasa_cli.lm.cpu.fused_step import FusedStep
from llasa_cli.lm.kv_cache import Cache, PrefixCache, runs_of
from llasa_cli.lm.linear import LANES, Embedding, Matrix
from llasa_cli.settings import CONTEXT_TOKENS

Attend = Callable[[int, torch.Tensor, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class LlamaConfig:
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
    def of(cls, config: dict[str, Any]) -> LlamaConfig:
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
        parts = [config.get(name) or {} for name in ("rope_scaling", "rope_parameters")]
        epsilon = config.get("rms_norm_eps") or 1e-6
        if not all(isinstance(part, dict) for part in parts) or not isinstance(epsilon, int | float):
            raise ModelError("The checkpoint's config.json has rope parameters or an rms_norm_eps that make no sense.")
        rope = parts[0] | parts[1]
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
            epsilon=float(epsilon),
            rope=rope,
        )


def _whole(config: dict[str, Any], name: str, default: int | None = None) -> int:
    """A positive whole number of config.json; null means the default, as in transformers."""
    value = config.get(name)
    value = default if value is None else value
    if not isinstance(value, int) or value < 1:
        raise ModelError(f"The checkpoint's config.json has {name} {value!r}, not a positive number.")
    return value


def rope_frequencies(shape: LlamaConfig) -> torch.Tensor:
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


class Llama:
    """Weights that don't change; a `Cache` holds what does.

    Args:
        embedding: (V, hidden).
        head: (codes + 1, hidden): the speech codes' rows, END's last.
        attention: See `lm.attention.Attention`.
    """

    def __init__(
        self,
        shape: LlamaConfig,
        embedding: Embedding,
        layers: list[Layer],
        norm: torch.Tensor,
        head: Matrix,
        attention: str = "auto",
    ) -> None:
        self.shape = shape
        self.embedding, self.layers, self.norm, self.head = embedding, layers, norm, head
        self.device, self.dtype = embedding.device, embedding.dtype
        self.beginnings = PrefixCache()
        own = self._own_kernels()
        self.attention = Attention(attention, self.device, self.dtype, own if shape.head % LANES == 0 else None)
        self._kernels = own if shape.hidden % LANES == 0 else None
        self._one_token = None if own is None or self.attention.kind != "own" else FusedStep.of(self, own)
        angles = torch.outer(torch.arange(CONTEXT_TOKENS).float(), rope_frequencies(shape))
        # Both halves of a head turn by the same angles; the first takes the second with its sign changed.
        self._cosine = torch.cat([angles.cos(), angles.cos()], dim=-1).to(self.device, self.dtype)
        self._sine = torch.cat([-angles.sin(), angles.sin()], dim=-1).to(self.device, self.dtype)

    def _own_kernels(self) -> Kernels | None:
        """Where a matrix has them: nothing is compiled for a small model, which would be spoken by then."""
        if self.device.type != "cpu":
            return None
        some = (self.head, *(matrix for layer in self.layers[:1] for matrix in (layer.gate_up, layer.down)))
        return kernels() if any(matrix.laid_out() is not None for matrix in some) else None

    @property
    def bytes_a_token(self) -> int:
        """Of keys and values: what a slot takes for each token of its sequence (of the longest: slots grow together)."""
        shape = self.shape
        return 2 * shape.layers * shape.key_value_heads * shape.head * self.dtype.itemsize

    def stream(self, capacity: int) -> Stream:
        """One sequence of up to `capacity` tokens."""
        return Stream(self, capacity)

    def hidden(self, ids: torch.Tensor, positions: torch.Tensor, attend: Attend) -> torch.Tensor:
        """N tokens through all layers.

        Args:
            ids, positions: int64 (N,).
            attend: (layer, queries (N, H, D), keys and values (N, 2 K, D)) -> (N, H D): what the tokens see of each
                other and of those before them. All else is done to each token alone.
        """
        shape, turned = self.shape, self.shape.heads + self.shape.key_value_heads
        cosine, sine = self._cosine[positions, None], self._sine[positions, None]  # (N, 1, D)
        hidden = self.embedding(ids)
        for index, layer in enumerate(self.layers):
            both = layer.query_key_value(self.normed(hidden, layer.input_norm)).view(len(ids), -1, shape.head)
            if self._kernels is not None:
                self._kernels.rotate(both, turned, cosine, sine)
            else:
                rotate_(both[:, :turned], cosine, sine)
            hidden = hidden + layer.output(attend(index, both[:, : shape.heads], both[:, shape.heads :]))
            hidden = hidden + layer.down(self._gated(layer.gate_up(self.normed(hidden, layer.middle_norm))))
        return hidden

    def one_token(self, ids: torch.Tensor, past: torch.Tensor, position: int) -> torch.Tensor | None:
        """Scores of what may follow one token, float32 (1, codes + 1); None where `hidden` is the way.

        Args:
            ids: int64 (1,).
            past: (layers, L, 2 K, D), keys and values, `position` of which are there; the token's are written.
        """
        if self._one_token is None:
            return None
        cosine, sine = self._cosine[position], self._sine[position]
        return self._one_token(self.embedding(ids)[0], past, position, cosine, sine)[None]

    def _gated(self, both: torch.Tensor) -> torch.Tensor:
        """(N, 2 inner), gate and up -> (N, inner)."""
        if self._kernels is not None and self.shape.inner % LANES == 0:
            return self._kernels.gate(both)
        gate, up = both.chunk(2, dim=-1)
        return F.silu(gate) * up

    def scores(self, hidden: torch.Tensor) -> torch.Tensor:
        """(N, hidden) of `hidden` -> float32 (N, codes + 1)."""
        return self.head(self.normed(hidden, self.norm)).float()

    def normed(self, hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Root mean square norm of (N, hidden)."""
        if self._kernels is not None and hidden.is_contiguous():
            return self._kernels.norm(hidden, weight, self.shape.epsilon)
        return F.rms_norm(hidden, weight.shape, weight, self.shape.epsilon)


def rotate_(states: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> None:
    """Rotary position embedding in place, Llama's halves form: (N, heads, D) by (N, 1, D)."""
    swapped = states.unflatten(-1, (2, -1)).flip(-2).flatten(-2)
    states.mul_(cosine).addcmul_(swapped, sine)


class Stream:
    """One sequence's way through the network: a cache of one slot, and the position in it."""

    def __init__(self, network: Llama, capacity: int) -> None:
        self.capacity, self.position = capacity, 0
        self._cache = Cache(network, 1)
        self._first = torch.zeros(1, dtype=torch.int64, device=network.device)

    def feed(self, ids: torch.Tensor) -> torch.Tensor:
        """Take T more tokens, int64 [T]; give the scores after the last, float32 [codes + 1]."""
        begin, end = self.position, self.position + len(ids)
        if end > self.capacity:
            raise ValueError(f"{end} tokens in a cache for {self.capacity}")
        if len(ids) > 1:
            self._cache.read(0, ids[:-1], begin)
        self.position = end
        self._cache.reserve(end)
        return self._cache.step(ids[-1:], self._first + (end - 1), runs_of([end]), exact=True)[0]
