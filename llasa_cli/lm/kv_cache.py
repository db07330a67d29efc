"""The keys and values of some sequences, a slot each: what the network remembers of the tokens before.

    cache = Cache(network, slots)
    cache.read_prompt(slot, ids)                       several tokens of one sequence
    scores = cache.step(ids, positions, runs)          one token more of every sequence

Results don't depend on who else is in the cache: a prompt is read alone, in pieces that end at fixed places; a step
computes all slots whether they are used or not, so that the shapes never change, and a slot's attention goes over as many
keys as its own length asks for. (A product of matrices gives other last bits for another number of rows.)
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from llasa_cli.settings import CONTEXT_TOKENS

if TYPE_CHECKING:
    from llasa_cli.lm.llama import Llama

BLOCK = 64
"""Keys that slots grow by, and that a step's attention is rounded up to."""

PROMPT_BLOCK = 32
"""Tokens of a prompt that are read at once. Pieces are the same for all prompts, so that prompts with the same beginning
share the work bit for bit; at 32 rows a product is already bound by arithmetic, not by reading the weights."""

KEPT_TOKENS = 4096
"""Beginnings of prompts that are remembered, in tokens: Llasa-1B in 16 bit keeps 134 MB so."""

Run = tuple[int, int, int]
"""Slots from, to, and how many keys their attention goes over."""


class Cache:
    """Attributes:
    slots: How many.
    length: Tokens that there is room for in each; see `reserve`.
    """

    def __init__(self, network: Llama, slots: int, length: int = 0) -> None:
        self.network, self.slots, self.length = network, slots, 0
        self._table = self._empty(0)
        self.reserve(length)

    def _empty(self, length: int) -> torch.Tensor:
        """(layers, slots, length, 2 K, D): a token's keys and values lie together, to be written at once.

        Zeros, not whatever was there: what is masked out is still multiplied, and 0 times not-a-number is none.
        """
        shape, network = self.network.shape, self.network
        size = (shape.layers, self.slots, length, 2 * shape.key_value_heads, shape.head)
        return torch.zeros(size, dtype=network.dtype, device=network.device)

    def reserve(self, length: int) -> None:
        """Make room for so many tokens in each slot, and some more, so that little is copied."""
        if length > self.length:
            ample = min(2 * self.length, length + 8 * BLOCK, CONTEXT_TOKENS)
            longer = self._empty(blocks(max(length, ample)))
            longer[:, :, : self.length] = self._table
            self._table, self.length = longer, longer.shape[2]

    def read_prompt(self, slot: int, ids: Sequence[int]) -> None:
        """The first tokens of a sequence; what an earlier prompt began with in the same way is not computed again."""
        kept, key = self.network.beginnings, tuple(ids)
        self.reserve(len(ids))
        for begin in range(0, len(ids), PROMPT_BLOCK):
            end = min(begin + PROMPT_BLOCK, len(ids))
            whole = end - begin == PROMPT_BLOCK
            known = kept.get(key[:end]) if whole else None
            if known is not None:
                self._table[:, slot, begin:end] = known
                continue
            self.read(slot, torch.tensor(ids[begin:end], device=self.network.device), begin)
            if whole:
                kept.put(key[:end], self._table[:, slot, begin:end].clone())

    def read(self, slot: int, ids: torch.Tensor, begin: int) -> None:
        """Tokens `begin` and on of one sequence, int64 (T,)."""
        end = begin + len(ids)
        self.reserve(end)

        def attend(layer: int, queries: torch.Tensor, both: torch.Tensor) -> torch.Tensor:
            past = self._table[layer, slot, :end]
            past[begin:] = both
            return self.network.attention.prompt(queries, past)

        self.network.hidden(ids, torch.arange(begin, end, device=ids.device), attend)

    def step(
        self, ids: torch.Tensor, positions: torch.Tensor, runs: Sequence[Run], exact: bool = False
    ) -> torch.Tensor:
        """One token more of each sequence -> what may follow it, float32 (slots, codes + 1).

        Args:
            ids, positions: int64 (slots,).
            runs: From `runs_of`.
            exact: They are as long as the sequences, so that nothing in them is to be hidden.
        """
        if self.slots == 1 and exact:
            scores = self.network.one_token(ids, self._table[:, 0], runs[0][2] - 1)
            if scores is not None:
                return scores
        longest, lengths = max(length for _, _, length in runs), positions + 1
        rows = torch.arange(self.slots, device=ids.device) * self.length + positions
        mask = None
        if not exact and not self.network.attention.by_length:
            behind = torch.arange(longest, device=ids.device) > positions[:, None]
            mask = torch.zeros(behind.shape, dtype=self.network.dtype, device=ids.device)
            mask = mask.masked_fill(behind, -torch.inf)[:, None, None]

        def attend(layer: int, queries: torch.Tensor, both: torch.Tensor) -> torch.Tensor:
            table = self._table[layer]
            table.flatten(0, 1).index_copy_(0, rows, both)
            if self.network.attention.by_length:
                return self.network.attention.step(queries, table, lengths, None)
            parts = [
                self.network.attention.step(
                    queries[first:last],
                    table[first:last, :length],
                    lengths[first:last],
                    None if mask is None else mask[first:last, ..., :length],
                )
                for first, last, length in runs
            ]
            return parts[0] if len(parts) == 1 else torch.cat(parts)

        return self.network.scores(self.network.hidden(ids, positions, attend))


def blocks(length: int) -> int:
    """Rounded up to whole blocks."""
    return -(-length // BLOCK) * BLOCK


def runs_of(lengths: Sequence[int]) -> list[Run]:
    """Neighbouring slots whose lengths need the same number of blocks; one slot alone goes over exactly its length.

    30 tokens don't pay for 2,048, and how many keys a slot pays for depends on no other slot.
    """
    if len(lengths) == 1:
        return [(0, 1, lengths[0])]
    runs: list[Run] = []
    for slot, length in enumerate(map(blocks, lengths)):
        if runs and runs[-1][2] == length:
            runs[-1] = (runs[-1][0], slot + 1, length)
        else:
            runs.append((slot, slot + 1, length))
    return runs


class PrefixCache:
    """Keys and values of prompts' first blocks, by the ids up to and with them; the longest unused go first."""

    def __init__(self, most: int = KEPT_TOKENS // PROMPT_BLOCK) -> None:
        self._most = most
        self._kept: OrderedDict[tuple[int, ...], torch.Tensor] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, ids: tuple[int, ...]) -> torch.Tensor | None:
        with self._lock:
            found = self._kept.get(ids)
            if found is not None:
                self._kept.move_to_end(ids)
            return found

    def put(self, ids: tuple[int, ...], block: torch.Tensor) -> None:
        with self._lock:
            self._kept[ids] = block
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
