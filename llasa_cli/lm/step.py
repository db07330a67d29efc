"""One step of all slots: token in, scores, a code drawn, and everything moved on by one, all where the model runs.

What changes from step to step lies in tensors that stay in place, so a CUDA graph can replay the step: nothing in it
depends on the data but through them, and nothing waits for the device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from llasa_cli.lm.cache import Cache, Run, runs_of
from llasa_cli.lm.network import Network
from llasa_cli.lm.sample import Choice, draw, kind_of, penalise, random_numbers
from llasa_cli.protocol import Prompt, Protocol
from llasa_cli.settings import CONTEXT_TOKENS, SamplingOptions

ROWS = 4
"""Slots are computed in multiples of this. In products of 2, 3 and 5 rows in float32 the last bits of a row depended on its
place (MKL on an AMD EPYC, one thread and two); in multiples of 4, up to 64 rows, they never did."""


class Step:
    """Attributes:
    ahead: How many steps are begun before the codes of the first are there.
    """

    ahead = 0

    def __init__(self, network: Network, protocol: Protocol, slots: int) -> None:
        self.network, self.protocol = network, protocol
        self.rows = slots if slots == 1 else -(-slots // ROWS) * ROWS
        device = network.device
        self._cache = Cache(network, self.rows)
        self._lengths = [0] * self.rows  # tokens in the cache; 0: nobody is there
        self._sampling: list[SamplingOptions | None] = [None] * self.rows

        def column(kind: torch.dtype) -> torch.Tensor:
            return torch.zeros(self.rows, dtype=kind, device=device)

        self._ids, self._positions = column(torch.int64), column(torch.int64)
        self._moves = column(torch.int64)  # 1 where somebody is
        self._made = column(torch.int64)  # codes
        self._numbers = torch.zeros(self.rows, CONTEXT_TOKENS, device=device)
        self._choice = Choice.room(self.rows, device)
        self._spoken = torch.zeros(self.rows, protocol.code_count + 1, dtype=torch.bool, device=device)

    def join(self, slot: int, prompt: Prompt, sampling: SamplingOptions, seed: int) -> None:
        """A sequence begins: its prompt is read but for the last token, which the next step takes."""
        ids = prompt.ids
        self._cache.read_prompt(slot, ids[:-1])
        self._lengths[slot], self._sampling[slot] = len(ids) - 1, sampling
        self._ids[slot], self._positions[slot] = ids[-1], len(ids) - 1
        self._moves[slot], self._made[slot] = 1, 0
        self._numbers[slot] = random_numbers(seed)
        self._choice.put(slot, sampling)
        self._spoken[slot] = False
        reference = ids[len(ids) - prompt.reference_codes :]
        if reference:
            self._spoken[slot, torch.tensor(reference, device=self._ids.device) - self.protocol.first_code_id] = True

    def leave(self, slot: int) -> None:
        """Nobody is there any more; the slot is computed as before, from its first token."""
        self._lengths[slot], self._sampling[slot] = 0, None
        self._moves[slot], self._positions[slot] = 0, 0

    def __call__(self) -> Callable[[], list[int]]:
        """Begin a step of all slots.

        Returns:
            What gives the codes, one for each slot: code_count is END, -1 that the scores were no numbers.
        """
        lengths = self._go_on()
        self._cache.reserve(max(lengths))
        return self.compute(runs_of(lengths), *self._ways(), exact=self.rows == 1).tolist

    def _go_on(self) -> list[int]:
        """Tokens that each slot's attention goes over in the step that begins; at least one."""
        taken = [sampling is not None for sampling in self._sampling]
        self._lengths = [length + here for length, here in zip(self._lengths, taken, strict=True)]
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
        if penalised:
            scores = penalise(scores, self._spoken, self._choice.penalty)
        unsound = ~scores.amax(-1).isfinite()
        # Speech has at least one code.
        scores[:, -1].masked_fill_(self._made == 0, -torch.inf)
        drawn = draw(scores, self._choice, self._numbers.gather(1, self._made[:, None]), kinds, look)
        code = drawn.clamp(max=self.protocol.code_count - 1)
        self._ids.copy_(code + self.protocol.first_code_id)
        if penalised:
            self._spoken.scatter_(1, code[:, None], True)
        self._positions.add_(self._moves).clamp_(max=CONTEXT_TOKENS - 1)
        self._made.add_(self._moves).clamp_(max=CONTEXT_TOKENS - 1)
        return drawn.masked_fill(unsound, -1)
