"""Samples for some slots of a decode step in one call of `sampling.h`, as `lm.sampler` does, and advances their counters.

Shapes: S slots, n logits (the speech codes and END).
"""

from __future__ import annotations

import ctypes

import torch

from llasa_cli.lm.cpu.build import Kernels, address
from llasa_cli.lm.sampler import SlotState


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
    """The tensors of a `DecodeStep`, which must stay where they are, and the call that samples and advances them."""

    def __init__(self, kernels: Kernels, first_code_id: int, state: SlotState) -> None:
        options = state.options
        self._tensors = (
            *(options.temperature, options.top_p, options.min_p, options.penalty, options.guidance, options.top_k),
            *(options.kind, state.uniforms, state.spoken, state.sampled, state.limits, state.log_probabilities),
            *(state.ended, state.ids, state.positions),
        )
        assert all(tensor.is_contiguous() for tensor in self._tensors)
        slots = len(state.sampled)
        self._kernels, self._rows_each, self._logits = kernels, len(state.ids) // slots, state.spoken.shape[1]
        addresses = [tensor.data_ptr() for tensor in self._tensors]
        second_rows = slots if self._rows_each == 2 else 0
        self._sampler = _Sampler(self._logits, state.uniforms.shape[1], first_code_id, second_rows, *addresses)

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
