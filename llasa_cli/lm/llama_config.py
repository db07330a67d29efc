"""The part of a checkpoint's config.json that the network needs, and the rotary frequencies that follow from it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from llasa_cli.errors import ModelError
from llasa_cli.settings import ARCHITECTURES

SMALL_WEIGHTS = 20_000_000
"""Roughly the weights in the layers of the largest small model."""


@dataclass(frozen=True)
class LlamaConfig:
    """The dimensions of a Llama or Qwen, under Hugging Face's names (some without `num_`).

    Attributes:
        has_bias: Queries, keys and values have a bias (Qwen 2).
        has_head_norms: Each head of queries and keys has a norm (Qwen 3).
    """

    hidden_size: int
    layers: int
    heads: int
    key_value_heads: int
    head_dim: int
    intermediate_size: int
    norm_epsilon: float
    rope: dict[str, Any]
    """`rope_parameters` of transformers 5: `rope_type`, `rope_theta` and the parameters of that type.

    A GGUF file has the type "factors": what each frequency is divided by.
    """
    has_bias: bool = False
    has_head_norms: bool = False

    @classmethod
    def from_json(cls, config: dict[str, Any]) -> LlamaConfig:
        """Read a config.json written by transformers 4 or 5.

        Raises:
            ModelError: The checkpoint has another architecture, or parts that are not supported.
        """
        kind = config.get("model_type")
        if kind not in (*ARCHITECTURES, "llasa"):
            # "llasa" is Llama under the name in the draft of transformers' own class.
            raise ModelError(
                f"This is a {kind!r} checkpoint, which this program does not support.",
                f"Llasa models are of type 'llama'; {' and '.join(ARCHITECTURES[1:])} run as well.",
            )
        for flag in ("attention_bias", "mlp_bias", "use_sliding_window"):
            if config.get(flag):
                raise ModelError(f"The checkpoint has {flag}, which this program does not support.")
        if config.get("hidden_act", "silu") != "silu":
            raise ModelError(f"The checkpoint's activation {config['hidden_act']!r} is not Llama's silu.")
        # transformers 5 writes rope_parameters; transformers 4 wrote rope_theta and rope_scaling.
        parts = [config.get(name) or {} for name in ("rope_scaling", "rope_parameters")]
        epsilon = config.get("rms_norm_eps") or 1e-6
        if not all(isinstance(part, dict) for part in parts) or not isinstance(epsilon, int | float):
            raise ModelError("The checkpoint's config.json has invalid rope parameters or an invalid rms_norm_eps.")
        rope = parts[0] | parts[1]
        rope.setdefault("rope_theta", config.get("rope_theta", 10000.0))
        rope.setdefault("rope_type", rope.get("type") or "default")
        heads, hidden_size = _positive(config, "num_attention_heads"), _positive(config, "hidden_size")
        # Defaults of transformers' classes for keys that a config.json leaves out.
        left_out = 32 if kind in ("qwen2", "qwen3") and "num_key_value_heads" not in config else heads
        key_value_heads = _positive(config, "num_key_value_heads", left_out)
        head_dim = _positive(config, "head_dim", 128 if kind == "qwen3" else hidden_size // heads)
        if heads % key_value_heads or head_dim % 2:
            raise ModelError(
                f"The checkpoint's config.json has {heads} heads of width {head_dim} and {key_value_heads} key-value "
                "heads; the heads must be a multiple of the key-value heads, and the width must be even."
            )
        return cls(
            hidden_size=hidden_size,
            layers=_positive(config, "num_hidden_layers"),
            heads=heads,
            key_value_heads=key_value_heads,
            head_dim=head_dim,
            intermediate_size=_positive(config, "intermediate_size"),
            norm_epsilon=float(epsilon),
            rope=rope,
            has_bias=kind == "qwen2",
            has_head_norms=kind == "qwen3",
        )

    @property
    def is_small(self) -> bool:
        """Whether the layers have so few weights that one CPU thread decodes faster than several."""
        return 12 * self.layers * self.hidden_size**2 < SMALL_WEIGHTS


def rope_frequencies(config: LlamaConfig) -> torch.Tensor:
    """Radians per position of each pair of dimensions, float32 (D / 2,): plain or with Llama 3's scaling.

    Source: transformers, `modeling_rope_utils._compute_llama3_parameters`.

    Raises:
        ModelError: A parameter is missing, or the rope type is neither of the two.
    """
    rope, needed = config.rope, ["rope_theta"]
    if rope["rope_type"] == "llama3":
        needed += ["factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"]
    for name in needed:
        if not isinstance(rope.get(name), (int, float)):
            raise ModelError(f"The checkpoint's rope parameters have no {name}.")
    exponents = torch.arange(0, config.head_dim, 2, dtype=torch.int64).float() / config.head_dim
    frequencies = 1.0 / (rope["rope_theta"] ** exponents)
    if rope["rope_type"] == "default":
        return frequencies
    if rope["rope_type"] == "factors":
        divisors = torch.tensor(rope["factors"])
        if len(divisors) != len(frequencies) or not bool((divisors > 0).all()):
            raise ModelError("The checkpoint's rope factors do not fit its heads.")
        return frequencies / divisors
    if rope["rope_type"] != "llama3":
        raise ModelError(f"The checkpoint's rope type {rope['rope_type']!r} is not one of Llama's: default, llama3.")
    factor, low, high = rope["factor"], rope["low_freq_factor"], rope["high_freq_factor"]
    trained = rope["original_max_position_embeddings"]
    wavelength = 2 * math.pi / frequencies
    smooth = (trained / wavelength - low) / (high - low)
    blended = (1 - smooth) * frequencies / factor + smooth * frequencies
    scaled = torch.where(wavelength > trained / low, frequencies / factor, frequencies)
    is_between = (wavelength <= trained / low) & (wavelength >= trained / high)
    return torch.where(is_between, blended, scaled)


def _positive(config: dict[str, Any], name: str, default: int | None = None) -> int:
    """A positive integer of config.json; null means the default, as in transformers."""
    value = config.get(name)
    value = default if value is None else value
    if not isinstance(value, int) or value < 1:
        raise ModelError(f"The checkpoint's config.json has {name} {value!r}, which is not a positive integer.")
    return value
