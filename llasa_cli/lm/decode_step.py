"""One step of all slots: token in, scores, a code drawn, and everything moved on by one, all where the model runs.

What changes from step to step lies in tensors that stay in place, so a CUDA graph can replay the step: nothing in it
depends on the data but through them, and nothing waits for the device.

With guidance each slot has two rows of the network: one whose prompt has the text, and one whose prompt has lost it. Both are fed
the code that is drawn from what `classifier_free_guidance` makes of their scores, and the weights are read once for both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from llasa_cli.lm.kv_cache import Cache, Run, runs_of
from llasa_cli.lm.llama import Llama
from llasa_cli.lm.sampler import (
    SamplerState,
    apply_repetition_penalty,
    classifier_free_guidance,
    kind_of,
    sample,
    uniforms,
)
from llasa_cli.prompt import Prompt, PromptFormat
from llasa_cli.settings import CONTEXT_TOKENS, SamplingOptions

ROWS = 4
"""Slots are computed in multiples of this. In products of 2, 3 and 5 rows in float32 the last bits of a row depended on its
place (MKL on an AMD EPYC, one thread and two); in multiples of 4, up to 64 rows, they never did."""


class DecodeStep:
    """Args:
        slots: Sequences that there is room for.
        guided: With a second row for each, and guidance; without it the options' guidance is not looked at.

    Attributes:
    ahead: How many steps are begun before the codes of the first are there.
    rows: Of the network: the slots, rounded up, and as many again with guidance.
    """

    ahead = 0

    def __init__(self, network: Llama, prompt_format: PromptFormat, slots: int, guided: bool = False) -> None:
        self.network, self.prompt_format, self.guided = network, prompt_format, guided
        self._slots = slots if slots == 1 else -(-slots // ROWS) * ROWS
        self.rows = 2 * self._slots if guided else self._slots
        device = network.device
        self._cache = Cache(network, self.rows)
        self._lengths = [0] * self.rows  # tokens in the cache; 0: nobody is there
        self._sampling: list[SamplingOptions | None] = [None] * self._slots

        def column(kind: torch.dtype, count: int) -> torch.Tensor:
            return torch.zeros(count, dtype=kind, device=device)

        self._ids, self._positions = column(torch.int64, self.rows), column(torch.int64, self.rows)
        self._moves = column(torch.int64, self.rows)  # 1 where somebody is
        self._made = column(torch.int64, self._slots)  # codes
        self._numbers = torch.zeros(self._slots, CONTEXT_TOKENS, device=device)
        self._choice = SamplerState.room(self._slots, device)
        self._spoken = torch.zeros(self._slots, prompt_format.code_count + 1, dtype=torch.bool, device=device)

    def _rows_of(self, slot: int) -> tuple[int, ...]:
        return (slot, self._slots + slot) if self.guided else (slot,)

    def join(self, slot: int, prompt: Prompt, sampling: SamplingOptions, seed: int) -> None:
        """A sequence begins: its prompt is read but for the last token, which the next step takes."""
        for row, ids in zip(self._rows_of(slot), (prompt.ids, prompt.unconditional), strict=False):
            self._cache.read_prompt(row, ids[:-1])
            self._lengths[row] = len(ids) - 1
            self._ids[row], self._positions[row], self._moves[row] = ids[-1], len(ids) - 1, 1
        self._sampling[slot], self._made[slot] = sampling, 0
        self._numbers[slot] = uniforms(seed)
        self._choice.put(slot, sampling)
        self._spoken[slot] = False
        reference = prompt.ids[len(prompt.ids) - prompt.reference_codes :]
        if reference:
            self._spoken[slot, torch.tensor(reference, device=self._ids.device) - self.prompt_format.first_code_id] = (
                True
            )

    def leave(self, slot: int) -> None:
        """Nobody is there any more; the slot is computed as before, from its first token."""
        self._sampling[slot] = None
        for row in self._rows_of(slot):
            self._lengths[row], self._moves[row], self._positions[row] = 0, 0, 0

    def __call__(self) -> Callable[[], list[int]]:
        """Begin a step of all slots.

        Returns:
            What gives the codes, one for each slot (rounded up): code_count is END, -1 that the scores were no numbers.
        """
        lengths = self._go_on()
        self._cache.reserve(max(lengths))
        return self.compute(runs_of(lengths), *self._ways(), exact=self.rows == 1).tolist

    def _go_on(self) -> list[int]:
        """Tokens that each slot's attention goes over in the step that begins; at least one."""
        for slot, sampling in enumerate(self._sampling):
            for row in self._rows_of(slot) if sampling is not None else ():
                self._lengths[row] += 1
        return [max(1, length) for length in self._lengths]

    def _ways(self) -> tuple[frozenset[str], bool]:
        """The ways to draw that occur, and whether anybody wants a penalty."""
        options = [sampling for sampling in self._sampling if sampling is not None]
        return frozenset(map(kind_of, options)), any(sampling.repetition_penalty != 1 for sampling in options)

    def compute(
        self, runs: Sequence[Run], kinds: frozenset[str], penalised: bool, *, exact: bool = False, look: bool = True
    ) -> torch.Tensor:
        """The step itself -> the drawn codes, int64 (rows,)."""
        scores = self._cache.step(self._ids, self._positions, runs, exact)
        unsound = ~scores.amax(-1).isfinite()
        if self.guided:
            scores = classifier_free_guidance(scores[: self._slots], scores[self._slots :], self._choice.guidance)
            unsound = unsound.view(2, -1).any(0)
        if penalised:
            scores = apply_repetition_penalty(scores, self._spoken, self._choice.penalty)
        # Speech has at least one code.
        scores[:, -1].masked_fill_(self._made == 0, -torch.inf)
        drawn = sample(scores, self._choice, self._numbers.gather(1, self._made[:, None]), kinds, look)
        code = drawn.clamp(max=self.prompt_format.code_count - 1)
        self._ids.view(-1, self._slots).copy_(code + self.prompt_format.first_code_id)
        if penalised:
            self._spoken.scatter_(1, code[:, None], True)
        self._positions.add_(self._moves).clamp_(max=CONTEXT_TOKENS - 1)
        self._made.add_(self._moves[: self._slots]).clamp_(max=CONTEXT_TOKENS - 1)
        return drawn.masked_fill(unsound, -1)
