"""Continuous batching: many sequences are decoded together, one code each per step, and join and leave independently.

    batch = model.batch(slots=16)
    batch.add(GenerationRequest(prompt, sampling, seed, tag="line 1"))      while batch.free
    for finished in batch.step(): ...                             finished.request.tag, .codes, .ended

On a CPU the sequences of a small model take turns. With the same number of slots, a sequence's codes are bit for bit the same whatever else is in the batch, and in whichever
slot it is; with `is_exact` also with any other number of slots. Sequences with guidance take two rows of the network each, so
they are stepped apart from those without.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any

import torch

from llasa_cli.errors import ModelError
from llasa_cli.lm.cuda_graphs import GraphedDecodeStep
from llasa_cli.lm.decode_step import DecodeStep
from llasa_cli.lm.llama import Llama
from llasa_cli.lm.request import Finished, GenerationRequest
from llasa_cli.prompt import PromptFormat
from llasa_cli.settings import CONTEXT_TOKENS

TURN = 48
"""Steps of a turn: the codes that a stream needs for its first sound. In so many, reading keys and values from memory once is little."""


@dataclass(eq=False)
class _Sequence:
    request: GenerationRequest
    is_over: bool = False
    codes: list[int] = field(init=False)
    steps: int = field(init=False)
    """Steps started; with lookahead, one more than there are codes."""
    limit: int = field(init=False)
    rows: int = field(init=False)
    """The rows that it takes in the network."""
    turn_left: int = 0
    """Steps that are left of its turn."""
    place: int = 0
    """Its place in the order of turns."""

    def __post_init__(self) -> None:
        self.codes, self.steps = list(self.request.begun), len(self.request.begun)
        self.limit, self.rows = self.request.limit, 2 if self.request.guided else 1


@dataclass(frozen=True)
class _StartedStep:
    sequences: list[_Sequence | None]
    """The sequence in each slot; None where the slot is free or belongs to the other decode step."""
    read_codes: Callable[[], list[int]]


class SlotEngine:
    """Build it with `LanguageModel.batch`.

    Args:
        slots: The maximum number of sequences.
        graphed: Use the step for a GPU on any device; see `lm.cuda_graphs`.
        is_exact: See `lm.decode_step.DecodeStep`; the step for a GPU ignores it.
        threads: See `lm.decode_step.DecodeStep`.
        most_rows: The most rows of a step, if the network has a fused one: the sequences take turns of `TURN` steps. With
            few of them at a time, their keys and values stay in the processor's cache. None: all sequences in each step.
    """

    def __init__(
        self,
        network: Llama,
        prompt_format: PromptFormat,
        slots: int,
        graphed: bool = False,
        is_exact: bool = False,
        threads: int = 1,
        most_rows: int | None = None,
    ) -> None:
        if slots < 1:
            raise ValueError(f"a batch needs at least one slot, not {slots}")
        self.slots, self._most_rows, self._places = slots, most_rows, count()
        self._end = prompt_format.code_count
        kind = GraphedDecodeStep if network.device.type == "cuda" or graphed else DecodeStep
        self._lookahead = kind.lookahead
        self._new_step: Callable[[bool], DecodeStep] = partial(kind, network, prompt_format, slots)
        if kind is DecodeStep:
            self._new_step = partial(DecodeStep, network, prompt_format, slots, is_exact=is_exact, threads=threads)
        self.decode_steps: dict[bool, DecodeStep] = {}
        """The steps by whether they guide; each is built when the first sequence of its kind is added."""
        self._sequences: list[_Sequence | None] = [None] * slots
        self._waiting: list[int] = []
        """Slots whose prompt is still to be prefilled."""
        self._started: deque[list[_StartedStep]] = deque()

    @property
    def free(self) -> int:
        """The number of free slots."""
        return self._sequences.count(None)

    def add(self, request: GenerationRequest) -> None:
        """Put a sequence into a free slot; its prompt is prefilled at the next step.

        Raises:
            ValueError: No slot is free, the prompt leaves no room for a code, or guidance is on and the prompt has no
                `unconditional`.
        """
        if request.guided and not request.prompt.unconditional:
            raise ValueError("guidance needs the prompt without its text")
        if not 0 < len(request.prompt.ids) + len(request.begun) < CONTEXT_TOKENS:
            raise ValueError(f"a prompt of {len(request.prompt.ids)} tokens; the context has {CONTEXT_TOKENS}")
        if len(request.begun) >= request.limit:
            raise ValueError(f"{len(request.begun)} codes are begun, and the limit is {request.limit}")
        if None not in self._sequences:
            raise ValueError("all slots are taken")
        self.decode_step(request.guided)
        slot = self._sequences.index(None)
        self._sequences[slot] = _Sequence(request, turn_left=TURN, place=next(self._places))
        self._waiting.append(slot)

    def decode_step(self, guided: bool) -> DecodeStep:
        """The step of the sequences with or without guidance."""
        if guided not in self.decode_steps:
            self.decode_steps[guided] = self._new_step(guided)
        return self.decode_steps[guided]

    def codes(self, tag: Any) -> list[int]:
        """The codes of a sequence so far; the list grows with each step.

        Raises:
            KeyError: No sequence in the batch has this tag.
        """
        return self._find(tag)[1].codes

    def _find(self, tag: Any) -> tuple[int, _Sequence]:
        """The slot and the sequence with this tag; KeyError if there is none."""
        for slot, sequence in enumerate(self._sequences):
            if sequence is not None and sequence.request.tag == tag:
                return slot, sequence
        raise KeyError(tag)

    def log_probability(self, tag: Any) -> float:
        """The natural logarithm of the probability of the codes that a sequence has sampled so far, without those that it began
        with. 0 before its first step; with lookahead the step that is not read yet is included.

        Raises:
            KeyError: No sequence in the batch has this tag.
        """
        slot, sequence = self._find(tag)
        return 0.0 if slot in self._waiting else self.decode_steps[sequence.request.guided].log_probability(slot)

    def drop(self, tag: Any) -> None:
        """Stop a sequence and free its slot; an unknown tag has no effect."""
        with suppress(KeyError):
            self._release(*self._find(tag))

    @torch.inference_mode()
    def step(self) -> list[Finished]:
        """One more code for each sequence in the batch, or for each whose turn it is.

        Returns:
            The sequences that finished. With lookahead they are reported one step later.

        Raises:
            ModelError: The logits contain NaN or infinite values.
        """
        # 1. Admit: prefill the prompts of new sequences, or copy them from a sequence that begins in the same way.
        while self._waiting:
            slot = self._waiting[0]
            sequence = self._sequences[slot]
            assert sequence is not None
            self.decode_step(sequence.request.guided).admit(slot, sequence.request, self._slot_like(sequence.request))
            self._waiting.pop(0)
        # 2. Start a step, guided and unguided sequences apart.
        running = self._in_turn([s if s is not None and s.steps < s.limit else None for s in self._sequences])
        started = []
        for guided, decode_step in self.decode_steps.items():
            own = [s if s is not None and s.request.guided == guided else None for s in running]
            if any(own):
                slots = None if self._most_rows is None else [slot for slot, one in enumerate(own) if one is not None]
                started.append(_StartedStep(own, decode_step(slots)))
        for sequence in running:
            if sequence is not None:
                sequence.steps += 1
        if started:
            self._started.append(started)
        # 3. Read the codes of the oldest step; with lookahead, of the one before.
        if not self._started or (started and len(self._started) <= self._lookahead):
            return []
        oldest = self._started.popleft()
        return [finished for one in oldest for finished in self._append_codes(one.sequences, one.read_codes())]

    def _in_turn(self, running: list[_Sequence | None]) -> list[_Sequence | None]:
        """The sequences whose turn it is; None in the slots of the others."""
        waiting = [sequence for sequence in running if sequence is not None]
        if self._most_rows is None or sum(one.rows for one in waiting) <= self._most_rows:
            return running
        rows = 0
        chosen: set[int] = set()
        for sequence in sorted(waiting, key=lambda one: one.place):
            rows += sequence.rows
            if chosen and rows > self._most_rows:
                break
            chosen.add(id(sequence))
            sequence.turn_left -= 1
            if sequence.turn_left <= 0:
                sequence.turn_left, sequence.place = TURN, next(self._places)
        return [sequence if id(sequence) in chosen else None for sequence in running]

    def _slot_like(self, request: GenerationRequest) -> int | None:
        """An admitted slot with the same prompt and the same first codes; None if there is none."""
        for slot, sequence in enumerate(self._sequences):
            if sequence is None or slot in self._waiting or sequence.request.guided != request.guided:
                continue
            other = sequence.request
            is_same = other.prompt is request.prompt or other.prompt == request.prompt
            if is_same and tuple(sequence.codes[: len(request.begun)]) == request.begun:
                return slot
        return None

    def _append_codes(self, sequences: list[_Sequence | None], codes: list[int]) -> list[Finished]:
        finished = []
        for slot, (sequence, code) in enumerate(zip(sequences, codes, strict=False)):
            if sequence is None or sequence.is_over:
                continue
            if code < 0:
                raise ModelError(
                    "The model's logits contain NaN or infinite values.",
                    "Its weights are damaged, or too large for --dtype float16: use bfloat16 or float32.",
                )
            ended = code == self._end
            if not ended:
                sequence.codes.append(code)
            if ended or len(sequence.codes) == sequence.limit:
                likelihood = self.decode_steps[sequence.request.guided].log_probability(slot)
                finished.append(Finished(sequence.request, tuple(sequence.codes), ended, likelihood))
                self._release(slot, sequence)
        return finished

    def _release(self, slot: int, sequence: _Sequence) -> None:
        sequence.is_over = True
        self._sequences[slot] = None
        if slot in self._waiting:
            self._waiting.remove(slot)
        else:
            self.decode_steps[sequence.request.guided].release(slot)


class EnginePool:
    """Distributes sequences among equal engines, which are stepped one after the other.

    A sequence has the same codes as in such an engine alone, bit for bit. In one engine with more slots, the products of more
    rows would differ in their last bits.

    Args:
        new_engine: Makes an engine, such as one of one slot.
        slots: The maximum number of sequences.
    """

    def __init__(self, new_engine: Callable[[], SlotEngine], slots: int) -> None:
        self._new_engine, self.slots = new_engine, slots
        self._engines: list[SlotEngine] = []
        self._busy: dict[Any, SlotEngine] = {}

    @property
    def free(self) -> int:
        """The number of free slots."""
        return self.slots - len(self._busy)

    def add(self, request: GenerationRequest) -> None:
        """See `SlotEngine.add`."""
        engine = next((one for one in self._engines if one.free), None)
        if engine is None:
            engine = self._new_engine()
            self._engines.append(engine)
        engine.add(request)
        self._busy[request.tag] = engine

    def codes(self, tag: Any) -> list[int]:
        """See `SlotEngine.codes`."""
        return self._busy[tag].codes(tag)

    def drop(self, tag: Any) -> None:
        """See `SlotEngine.drop`."""
        engine = self._busy.pop(tag, None)
        if engine is not None:
            engine.drop(tag)

    def step(self) -> list[Finished]:
        """See `SlotEngine.step`."""
        finished = []
        for engine in dict.fromkeys(self._busy.values()):
            finished += engine.step()
        for one in finished:
            del self._busy[one.request.tag]
        return finished
