"""Samples for some slots of a decode step in one call of `sampling.h`, as `lm.sampler` does, and advances their counters.

Shapes: S slots, n logits (the speech codes and END).
"""

from __future__ import annotations

import ctypes

import torch

from llasa_cli.lm.cpu.build import Kernels, address
from llasa_cli.lm.sampler import SamplerState


class _Sampler(ctypes.Structure):
    _fields_ = (
        ("logits", ctypes.c_long),
        ("context", ctypes.c_long),
        ("first_code_id", ctypes.c_long),
        ("slots", ctypes.c_long),
        *(
            (name, ctypes.c_void_p)
            for name in (
                *("temperature", "top_p", "min_p", "penalty", "guidance", "top_k", "kind"),
                *("uniforms", "spoken", "sampled", "limits", "log_probabilities", "ended", "ids", "positions"),
            )
        ),
    )


class FusedSampler:
    """The tensors of a `DecodeStep`, which must stay where they are, and the call that samples and advances them.

    Args:
        guided: Each slot has a second row of logits, of the prompt without text.
        state: The options of S sequences.
        uniforms: float32 (S, tokens), random numbers.
        spoken: bool (S, n).
        sampled, limits: int64 (S,).
        log_probabilities: float32 (S,).
        ended: bool (S,).
        ids, positions: int64 (S,), or (2 S,) with guidance: the tokens of the next step and their positions.
    """

    def __init__(
        self,
        kernels: Kernels,
        first_code_id: int,
        guided: bool,
        state: SamplerState,
        uniforms: torch.Tensor,
        spoken: torch.Tensor,
        sampled: torch.Tensor,
        limits: torch.Tensor,
        log_probabilities: torch.Tensor,
        ended: torch.Tensor,
        ids: torch.Tensor,
        positions: torch.Tensor,
    ) -> None:
        options = (state.temperature, state.top_p, state.min_p, state.penalty, state.guidance, state.top_k, state.kind)
        self._tensors = (*options, uniforms, spoken, sampled, limits, log_probabilities, ended, ids, positions)
        assert all(tensor.is_contiguous() for tensor in self._tensors)
        self._kernels, self._rows_each, self._logits = kernels, 2 if guided else 1, spoken.shape[1]
        slots = len(sampled) if guided else 0
        addresses = [tensor.data_ptr() for tensor in self._tensors]
        self._sampler = _Sampler(self._logits, uniforms.shape[1], first_code_id, slots, *addresses)

    def __call__(self, logits: torch.Tensor, slots: list[int]) -> list[int]:
        """Sample for N of the slots.

        Args:
            logits: float32 (N, n), or (2 N, n) with guidance, the rows with the text first. They are overwritten.

        Returns:
            N samples: codes, n - 1 for END, or -1 where the logits were NaN or infinite.
        """
        count = len(slots)
        if logits.shape != (self._rows_each * count, self._logits) or not logits.is_contiguous():
            raise ValueError(f"logits of shape {tuple(logits.shape)} for {count} slots")
        codes = (ctypes.c_int64 * count)()
        self._kernels.library.sample(
            ctypes.byref(self._sampler),
            ctypes.c_long(count),
            (ctypes.c_int64 * count)(*slots),
            address(logits),
            codes,
        )
        return list(codes)
