"""The step as a GPU wants it: the same calls on the same memory every time, recorded once and replayed (CUDA graphs).

A step of Llasa-1B is some 300 small kernels; making the calls takes longer than computing them, so the calls are recorded,
drawing included. The host never waits for the step it has just begun: the codes come over while the next step runs, and a
sequence that said END is noticed one step late. What can't be recorded runs as it is, call by call.

The same class runs on a CPU, unrecorded: tests compare it with the plain step, and see that nothing in it looks at data.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from llasa_cli.lm.decode_step import DecodeStep
from llasa_cli.lm.kv_cache import Run
from llasa_cli.lm.llama import Llama
from llasa_cli.prompt import PromptFormat
from llasa_cli.settings import CONTEXT_TOKENS

BUCKET = 256
"""All slots' attention goes over the longest's keys, rounded up to this: at most eight recordings a way to draw."""

Form = tuple[tuple[Run, ...], frozenset[str], bool]
"""What the calls of a step depend on."""


@dataclass(frozen=True)
class _Recorded:
    graph: Any
    codes: torch.Tensor
    """Where every replay leaves its codes."""


class GraphedDecodeStep(DecodeStep):
    """A step whose calls depend on nothing but its `Form`."""

    ahead = 1

    def __init__(self, network: Llama, prompt_format: PromptFormat, slots: int, guided: bool = False) -> None:
        super().__init__(network, prompt_format, slots, guided)
        self._cache.reserve(CONTEXT_TOKENS)  # it must not move
        self._records = network.device.type == "cuda"
        self._recorded: dict[Form, _Recorded] = {}
        self._host = [torch.empty(self._slots, dtype=torch.int64, pin_memory=self._records) for _ in range(2)]
        self._turn = 0

    def __call__(self) -> Callable[[], list[int]]:
        longest = max(self._go_on())
        if self.network.attention.kind == "flash":
            longest = CONTEXT_TOKENS  # each sequence goes over its own length, whatever it is told
        form = (((0, self.rows, min(CONTEXT_TOKENS, -(-longest // BUCKET) * BUCKET)),), *self._ways())
        codes = self._codes(form)
        self._turn ^= 1
        host = self._host[self._turn]
        host.copy_(codes, non_blocking=True)
        if codes.device.type != "cuda":
            return host.tolist
        there = torch.cuda.Event()
        there.record()

        def wait() -> list[int]:
            there.synchronize()
            return host.tolist()

        return wait

    def _codes(self, form: Form) -> torch.Tensor:
        """Replay the step, recorded when it is first asked for."""
        if self._records and form not in self._recorded:
            try:
                self._recorded[form] = self._record(form)
            except RuntimeError as error:
                warnings.warn(f"The step can't be recorded and runs call by call, slower: {error}", stacklevel=2)
                self._records = False
        if not self._records:
            return self._plainly(form)
        self._recorded[form].graph.replay()
        return self._recorded[form].codes

    def _plainly(self, form: Form) -> torch.Tensor:
        return self.compute(*form, look=False)

    def _record(self, form: Form) -> _Recorded:
        """Run once unrecorded, so that libraries make their choices, put back what that moved on, and record."""
        moved = (self._ids, self._positions, self._made, self._spoken)
        before = [tensor.clone() for tensor in moved]
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            self._plainly(form)
        torch.cuda.current_stream().wait_stream(side)
        for tensor, value in zip(moved, before, strict=True):
            tensor.copy_(value)
        graph = torch.cuda.CUDAGraph()
        # Of this thread only: in a batch another one decodes sound meanwhile, which would break a recording of all.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            codes = self._plainly(form)
        return _Recorded(graph, codes)
