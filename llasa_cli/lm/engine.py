"""Many sequences spoken at once, one code each a step; they join and leave when they like.

    batch = model.batch(slots=16)
    batch.add(GenerationRequest(prompt, sampling, seed, tag="line 1"))      while batch.free
    for finished in batch.step(): ...                             finished.request.tag, .codes, .ended

With the same number of slots a sequence's codes are bit for bit the same whoever else is in the batch, and in whichever slot:
sequences with guidance, which take two rows of the network each, are stepped apart from those without.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from llasa_cli.errors import ModelError
from llasa_cli.lm.cuda_graphs import GraphedDecodeStep
from llasa_cli.lm.decode_step import DecodeStep
from llasa_cli.lm.llama import Llama
from llasa_cli.prompt import Prompt, PromptFormat
from llasa_cli.settings import CODES_PER_SECOND, CONTEXT_TOKENS, SamplingOptions


@dataclass(frozen=True)
class GenerationRequest:
    """What is to be spoken, and how; `tag` is the caller's."""

    prompt: Prompt
    sampling: SamplingOptions
    seed: int
    tag: Any = None

    @property
    def limit(self) -> int:
        """The most codes there can be: `max_seconds`, or what the context leaves."""
        room = CONTEXT_TOKENS - len(self.prompt.ids)
        return max(1, min(room, round(self.sampling.max_seconds * CODES_PER_SECOND)))

    @property
    def guided(self) -> bool:
        """With guidance; 1 changes nothing, and costs nothing."""
        return self.sampling.guidance != 1


@dataclass(frozen=True)
class Finished:
    """Attributes:
    codes: 0 to code_count - 1, 50 a second.
    ended: The model said END; else it ran into the length.
    """

    request: GenerationRequest
    codes: tuple[int, ...]
    ended: bool


@dataclass(eq=False)
class _Sequence:
    request: GenerationRequest
    codes: list[int] = field(default_factory=list)
    steps: int = 0
    """Begun; a device that works ahead has begun one more than there are codes."""
    over: bool = False


class SlotEngine:
    """Build it with `LanguageModel.batch`.

    Args:
        slots: Sequences that there is room for.
        static: Step as on a GPU, on any device; see `lm.graphs`.
    """

    def __init__(self, network: Llama, prompt_format: PromptFormat, slots: int, static: bool = False) -> None:
        if slots < 1:
            raise ValueError(f"{slots} slots")
        self.slots = slots
        self._stop = prompt_format.code_count
        # On a GPU a step is a few hundred small calls, which take longer to make than to do.
        kind = GraphedDecodeStep if network.device.type == "cuda" or static else DecodeStep
        self._make = partial(kind, network, prompt_format, slots)
        self._steps: dict[bool, DecodeStep] = {}
        """By whether it guides; each is made when the first sequence of its kind comes."""
        self._ahead = kind.ahead
        self._in: list[_Sequence | None] = [None] * slots
        self._new: list[int] = []
        self._begun: deque[list[tuple[list[_Sequence | None], Any]]] = deque()

    @property
    def free(self) -> int:
        """Slots that nothing is in."""
        return self._in.count(None)

    def add(self, request: GenerationRequest) -> None:
        """Put a sequence into a free slot; its prompt is read at the next step.

        Raises:
            ValueError: No slot is free, the prompt leaves no room for a code, or guidance is asked for and it has no
                `unconditional`.
        """
        if request.guided and not request.prompt.unconditional:
            raise ValueError("guidance needs the prompt without its text")
        if not 0 < len(request.prompt.ids) < CONTEXT_TOKENS:
            raise ValueError(f"a prompt of {len(request.prompt.ids)} tokens; the context has {CONTEXT_TOKENS}")
        if None not in self._in:
            raise ValueError("all slots are taken")
        if request.guided not in self._steps:
            self._steps[request.guided] = self._make(request.guided)
        slot = self._in.index(None)
        self._in[slot] = _Sequence(request)
        self._new.append(slot)

    def codes(self, tag: Any) -> list[int]:
        """What a sequence in the batch has said so far; the list grows.

        Raises:
            KeyError: There is none with this tag.
        """
        for sequence in self._in:
            if sequence is not None and sequence.request.tag == tag:
                return sequence.codes
        raise KeyError(tag)

    def drop(self, tag: Any) -> None:
        """Stop a sequence and free its slot; none with this tag is no error."""
        for slot, sequence in enumerate(self._in):
            if sequence is not None and sequence.request.tag == tag:
                self._leave(slot, sequence)

    @torch.inference_mode()
    def step(self) -> list[Finished]:
        """One code more for each sequence in the batch.

        Returns:
            Those that ended. On a device that works ahead it is told a step later.

        Raises:
            ModelError: The scores are not numbers.
        """
        for slot in self._new:
            sequence = self._in[slot]
            if sequence is not None:
                request = sequence.request
                self._steps[request.guided].join(slot, request.prompt, request.sampling, request.seed)
        self._new.clear()
        going = [s if s is not None and s.steps < s.request.limit else None for s in self._in]
        begun = []
        for guided, step in self._steps.items():
            its = [s if s is not None and s.request.guided == guided else None for s in going]
            if any(its):
                begun.append((its, step()))
        for sequence in going:
            if sequence is not None:
                sequence.steps += 1
        if begun:
            self._begun.append(begun)
        if not self._begun or (begun and len(self._begun) <= self._ahead):
            return []
        return [finished for its, drawn in self._begun.popleft() for finished in self._credit(its, drawn())]

    def _credit(self, sequences: list[_Sequence | None], drawn: list[int]) -> list[Finished]:
        finished = []
        for slot, (sequence, code) in enumerate(zip(sequences, drawn, strict=False)):
            if sequence is None or sequence.over:
                continue
            if code < 0:
                raise ModelError(
                    "The model's scores are not numbers.",
                    "Its weights are broken, or too large for --dtype float16: try bfloat16 or float32.",
                )
            ended = code == self._stop
            if not ended:
                sequence.codes.append(code)
            if ended or len(sequence.codes) == sequence.request.limit:
                finished.append(Finished(sequence.request, tuple(sequence.codes), ended))
                self._leave(slot, sequence)
        return finished

    def _leave(self, slot: int, sequence: _Sequence) -> None:
        sequence.over = True
        self._in[slot] = None
        if slot in self._new:
            self._new.remove(slot)
        else:
            self._steps[sequence.request.guided].leave(slot)
