"""What a token sees of those before it, computed by the way of choice (`--attention`).

    own     one query a sequence over keys in float32, on a CPU (`step.h`): what `auto` takes there for a model that is
            multiplied by our kernels; prompts are read as in sdpa
    sdpa    torch's own fused kernels, on every device
    flash   FlashAttention (package flash-attn; CUDA, 16 bit): a sequence pays for its own length, not for the longest's
    eager   two products and a softmax, written out

Shapes: B sequences, T queries, H heads, K key-value heads, L keys, D head width. A head's keys and values are those of
key-value head h // (H / K), so the H / K heads that share them are computed as that many queries of one head.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F

from llasa_cli.errors import UsageError
from llasa_cli.lm.cpu.build import Kernels
from llasa_cli.settings import ATTENTIONS


class Attention:
    """Args:
        own: Our kernels, for a model whose heads' width is a multiple of 16.

    Attributes:
    kind: own, sdpa, flash or eager: what `auto` came to.
    """

    def __init__(self, kind: str, device: torch.device, dtype: torch.dtype, own: Kernels | None = None) -> None:
        if kind not in ATTENTIONS:
            raise UsageError(f"There is no attention {kind!r}.", "Use " + ", ".join(ATTENTIONS) + ".")
        self._flash = _flash_attention() if kind in ("auto", "flash") and device.type == "cuda" else None
        fits = self._flash is not None and dtype in (torch.float16, torch.bfloat16)
        if kind == "flash" and not fits:
            raise UsageError(
                "--attention flash needs a CUDA device, a 16-bit dtype and the package flash-attn.",
                "Use --attention auto, which takes it where it can.",
            )
        self._own = own if dtype == torch.float32 and device.type == "cpu" else None
        self.kind = ("flash" if fits else "own" if self._own else "sdpa") if kind == "auto" else kind

    @property
    def by_length(self) -> bool:
        """A step goes over each sequence's own length, whoever is beside it."""
        return self.kind in ("own", "flash")

    def prompt(self, queries: torch.Tensor, past: torch.Tensor) -> torch.Tensor:
        """T tokens of one sequence, the last of L: each sees those before it and itself.

        Args:
            queries: (T, H, D).
            past: (L, 2 K, D), keys and values, theirs included.

        Returns:
            (T, H D).
        """
        count, length = len(queries), len(past)
        keys, values = past.transpose(0, 1)[None].chunk(2, dim=1)  # (1, K, L, D)
        states = queries.transpose(0, 1)[None]  # (1, H, T, D)
        causal = count > 1 and count == length
        mask = None
        if count > 1 and not (causal and self.kind != "eager"):
            mask = torch.ones(count, length, dtype=torch.bool, device=queries.device).tril(length - count)
        if self.kind == "eager":
            groups = states.shape[1] // keys.shape[1]
            keys, values = keys.repeat_interleave(groups, 1), values.repeat_interleave(groups, 1)
            mixed = written_out(states, keys, values, mask)
        else:
            mixed = F.scaled_dot_product_attention(
                states,
                keys,
                values,
                attn_mask=mask,
                is_causal=mask is None and causal,
                enable_gqa=states.shape[1] != keys.shape[1],
            )
        return mixed[0].transpose(0, 1).flatten(1)

    def step(
        self, queries: torch.Tensor, past: torch.Tensor, lengths: torch.Tensor, mask: torch.Tensor | None
    ) -> torch.Tensor:
        """One token of each of B sequences.

        Args:
            queries: (B, H, D).
            past: (B, L, 2 K, D), keys and values, theirs included.
            lengths: int64 (B,), how many of the L count.
            mask: (B, 1, 1, L), 0 where a key counts and -inf behind; None where all do. Not looked at where `kind` goes
                by the lengths: own and flash.

        Returns:
            (B, H D).
        """
        if self._own is not None and self.kind == "own":
            return self._own.attend(queries, past, lengths)
        if self._flash is not None and self.kind == "flash":
            keys, values = past.chunk(2, dim=2)
            mixed: torch.Tensor = self._flash(queries[:, None], keys, values, cache_seqlens=lengths.int())
            return mixed.flatten(1)
        keys, values = past.transpose(1, 2).chunk(2, dim=1)  # (B, K, L, D)
        states = queries.unflatten(1, (keys.shape[1], -1))  # (B, K, H / K, D)
        if self.kind == "eager":
            return written_out(states, keys, values, mask).flatten(1)
        count = states.shape[2]
        if mask is not None and count % 2 and states.device.type == "cpu":
            # With an odd number of queries torch's second thread works on memory that is aligned otherwise than the
            # first's, and MKL then rounds otherwise: a slot's result would depend on which thread it falls to.
            states = F.pad(states, (0, 0, 0, 1))
        return F.scaled_dot_product_attention(states, keys, values, mask)[:, :, :count].flatten(1)


def written_out(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None
) -> torch.Tensor:
    """(..., T, D), (..., L, D), (..., L, D) -> (..., T, D); the mask bool or added."""
    weights = (queries @ keys.mT).float() / queries.shape[-1] ** 0.5
    if mask is not None:
        weights = weights.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else weights + mask
    return torch.softmax(weights, dim=-1).to(values.dtype) @ values


def _flash_attention() -> Callable[..., Any] | None:
    try:
        from flash_attn import flash_attn_with_kvcache
    except ImportError:
        return None
    call: Callable[..., Any] = flash_attn_with_kvcache
    return call
