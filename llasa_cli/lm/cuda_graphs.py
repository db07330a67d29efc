"""The decode step as a CUDA graph: the same calls on the same memory every time, captured once and replayed.

A step of Llasa-1B is some 300 small kernels, and launching them takes longer than computing them, so the whole step is captured,
sampling included. The host never waits for the step it has just started: its codes are copied while the next step runs,
and a sequence that ended is noticed one step late. A step that can't be captured runs call by call.

The same class runs on a CPU without capture: tests compare it with the plain step, and check that none of its calls depends
on the data.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from llasa_cli.lm.decode_step import DecodeStep
from llasa_cli.lm.kv_cache import SlotGroup
from llasa_cli.lm.llama import Llama
from llasa_cli.prompt import PromptFormat
from llasa_cli.settings import CONTEXT_TOKENS

BUCKET = 256
"""The attention of all slots covers the longest sequence, rounded up to this: at most eight graphs for each kind of sampling."""

GraphKey = tuple[tuple[SlotGroup, ...], frozenset[str], bool]
"""The facts on which the calls of a step depend: the slot groups, the kinds of sampling, and whether there is a repetition penalty."""


@dataclass(frozen=True)
class _CapturedStep:
    graph: Any
    codes: torch.Tensor
    """Every replay writes its codes here."""


class GraphedDecodeStep(DecodeStep):
    """A decode step whose calls depend on its `GraphKey` only."""

    lookahead = 1

    def __init__(self, network: Llama, prompt_format: PromptFormat, slots: int, guided: bool = False) -> None:
        super().__init__(network, prompt_format, slots, guided)
        self._cache.reserve(CONTEXT_TOKENS)  # captured graphs hold its address
        self.captures = network.device.type == "cuda"
        self._captured: dict[GraphKey, _CapturedStep] = {}
        self._host = [torch.empty(self._slots, dtype=torch.int64, pin_memory=self.captures) for _ in range(2)]
        self._turn = 0

    def __call__(self, slots: list[int] | None = None) -> Callable[[], list[int]]:
        longest = max(self._advance_lengths())
        if self.network.attention.kind == "flash":
            longest = CONTEXT_TOKENS  # each sequence covers its own length, whatever the length of the group
        length = min(CONTEXT_TOKENS, -(-longest // BUCKET) * BUCKET)
        codes = self._codes(((SlotGroup(0, self.rows, length),), *self._sampling_kinds()))
        self._turn ^= 1
        host = self._host[self._turn]
        host.copy_(codes, non_blocking=True)
        if codes.device.type != "cuda":
            return host.tolist
        copied = torch.cuda.Event()
        copied.record()

        def wait() -> list[int]:
            copied.synchronize()
            return host.tolist()

        return wait

    def _codes(self, key: GraphKey) -> torch.Tensor:
        """Replay the step; it is captured when its key first occurs."""
        if self.captures and key not in self._captured:
            try:
                self._captured[key] = self._capture(key)
            except RuntimeError as error:
                warnings.warn(f"The step can't be captured and runs call by call, slower: {error}", stacklevel=2)
                self.captures = False
        if not self.captures:
            return self._run(key)
        self._captured[key].graph.replay()
        return self._captured[key].codes

    def _run(self, key: GraphKey) -> torch.Tensor:
        return self.compute(*key, early_exit=False)

    def _capture(self, key: GraphKey) -> _CapturedStep:
        """Run once without capture, so that libraries choose their kernels, restore the state, and capture."""
        state = self._state
        changed = (state.ids, state.positions, state.sampled, state.spoken, state.log_probabilities, state.ended)
        before = [tensor.clone() for tensor in changed]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            self._run(key)
        torch.cuda.current_stream().wait_stream(side)
        for tensor, value in zip(changed, before, strict=True):
            tensor.copy_(value)
        graph = torch.cuda.CUDAGraph()
        # Capture this thread only: in a batch another thread decodes audio meanwhile, which would break a global capture.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            codes = self._run(key)
        return _CapturedStep(graph, codes)
