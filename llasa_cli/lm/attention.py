"""Attention over the KV cache, by one of the implementations of `--attention`.

    kernel  the C kernels, on a CPU with float32 states: the default for models whose weights they multiply.
            They serve the decode step; prompts are prefilled as with sdpa
    sdpa    torch's fused kernels, on every device
    flash   FlashAttention (package flash-attn; CUDA, 16-bit states): each sequence costs its own length
    eager   two products and a softmax, written out

Shapes: B sequences, T queries, H heads, K key-value heads, L cached tokens, D head width. Head h reads the keys and values
of key-value head h // (H / K), so the H / K heads that share them are computed as that many queries of one head.
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
    """One implementation, chosen for a device and dtype.

    Args:
        kind: A value of `--attention`.
        kernels: The C kernels, for a model whose head width is a multiple of 16.

    Attributes:
        kind: kernel, sdpa, flash or eager.

    Raises:
        UsageError: There is no such implementation, or it can't run here.
    """

    def __init__(self, kind: str, device: torch.device, dtype: torch.dtype, kernels: Kernels | None = None) -> None:
        if kind not in ATTENTIONS:
            raise UsageError(f"--attention {kind} is unknown.", "Use " + ", ".join(ATTENTIONS) + ".")
        self._flash = _flash_attention() if kind in ("auto", "flash") and device.type == "cuda" else None
        can_flash = self._flash is not None and dtype in (torch.float16, torch.bfloat16)
        if kind == "flash" and not can_flash:
            raise UsageError(
                "--attention flash needs a CUDA device, a 16-bit dtype and the package flash-attn.",
                "Use --attention auto, which takes FlashAttention where it can run.",
            )
        self._kernels = kernels if dtype == torch.float32 and device.type == "cpu" else None
        self.kind = ("flash" if can_flash else "kernel" if self._kernels else "sdpa") if kind == "auto" else kind

    @property
    def uses_lengths(self) -> bool:
        """Whether `decode` reads `lengths` instead of a mask, so that a sequence costs its own length only."""
        return self.kind in ("kernel", "flash")

    def prefill(self, queries: torch.Tensor, past: torch.Tensor) -> torch.Tensor:
        """Causal attention of T tokens of one sequence, the last T of L.

        Args:
            queries: (T, H, D).
            past: (L, 2 K, D), keys and values, including those of the T tokens.

        Returns:
            (T, H D).
        """
        count, length = len(queries), len(past)
        keys, values = past.transpose(0, 1)[None].chunk(2, dim=1)  # (1, K, L, D)
        states = queries.transpose(0, 1)[None]  # (1, H, T, D)
        is_causal = count > 1 and count == length
        mask = None
        if count > 1 and not (is_causal and self.kind != "eager"):
            mask = torch.ones(count, length, dtype=torch.bool, device=queries.device).tril(length - count)
        if self.kind == "eager":
            groups = states.shape[1] // keys.shape[1]
            keys, values = keys.repeat_interleave(groups, 1), values.repeat_interleave(groups, 1)
            mixed = eager_attention(states, keys, values, mask)
        else:
            mixed = F.scaled_dot_product_attention(
                states,
                keys,
                values,
                attn_mask=mask,
                is_causal=mask is None and is_causal,
                enable_gqa=states.shape[1] != keys.shape[1],
            )
        return mixed[0].transpose(0, 1).flatten(1)

    def decode(
        self, queries: torch.Tensor, past: torch.Tensor, lengths: torch.Tensor, mask: torch.Tensor | None
    ) -> torch.Tensor:
        """Attention of one new token of each of B sequences.

        Args:
            queries: (B, H, D).
            past: (B, L, 2 K, D), keys and values, including those of the new tokens.
            lengths: int64 (B,), how many of the L tokens belong to the sequence.
            mask: (B, 1, 1, L), 0 where a token belongs to the sequence and -inf after its end; None if all tokens belong to
                their sequences. It is not read where `uses_lengths` holds.

        Returns:
            (B, H D).
        """
        if self._kernels is not None and self.kind == "kernel":
            return self._kernels.attend(queries, past, lengths)
        if self._flash is not None and self.kind == "flash":
            keys, values = past.chunk(2, dim=2)
            mixed: torch.Tensor = self._flash(queries[:, None], keys, values, cache_seqlens=lengths.int())
            return mixed.flatten(1)
        keys, values = past.transpose(1, 2).chunk(2, dim=1)  # (B, K, L, D)
        states = queries.unflatten(1, (keys.shape[1], -1))  # (B, K, H / K, D)
        if self.kind == "eager":
            return eager_attention(states, keys, values, mask).flatten(1)
        count = states.shape[2]
        if mask is not None and count % 2 and states.device.type == "cpu":
            # With an odd number of queries the memory of torch's second thread is aligned differently from the first
            # thread's, and MKL rounds differently: the result would depend on the thread that a slot falls to.
            states = F.pad(states, (0, 0, 0, 1))
        return F.scaled_dot_product_attention(states, keys, values, mask)[:, :, :count].flatten(1)


def eager_attention(
    queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, mask: torch.Tensor | None
) -> torch.Tensor:
    """(..., T, D), (..., L, D), (..., L, D) -> (..., T, D). The mask is boolean (True: visible) or is added."""
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
