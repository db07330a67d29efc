"""The KV cache: keys and values of the tokens of some sequences, one slot per sequence.

    cache = KVCache(config, slots=4, dtype=torch.float32, device=torch.device("cpu"))
    cache.reserve(100)                     room for 100 tokens in each slot
    cache.layer(0)                         (slots, length, 2 K, D), to be read and written in place

The network writes to it (`Llama.prefill`, `Llama.decode`); nothing here computes.
"""

from __future__ import annotations

import math
import mmap
import sys
from collections.abc import Sequence
from typing import NamedTuple

import torch

from llasa_cli.lm.llama_config import LlamaConfig
from llasa_cli.settings import CONTEXT_TOKENS

BLOCK = 64
"""Tokens that slots grow by, and that the attention of a decode step is rounded up to."""


class KVCache:
    """Keys and values of all layers and slots.

    Attributes:
        slots: The number of slots.
        length: The number of tokens that each slot has room for.
        tensor: (layers, slots, length, 2 K, D): a token's keys lie beside its values, so that both are written at once.
        sources, shared: int64 (slots,): the first `shared` tokens of a slot are also the first ones of the slot `sources`, so
            that the takes of one prompt read its keys and values from one place, which stays in the processor's cache.
    """

    def __init__(
        self, config: LlamaConfig, slots: int, dtype: torch.dtype, device: torch.device, length: int = 0
    ) -> None:
        self._config, self._dtype, self._device = config, dtype, device
        self.slots, self.length = slots, 0
        self.tensor = self._zeros(0)
        self.reserve(length)
        self.sources = torch.zeros(slots, dtype=torch.int64)
        self.shared = torch.zeros(slots, dtype=torch.int64)

    def _zeros(self, length: int) -> torch.Tensor:
        """Zeros, not uninitialized memory: masked tokens are still multiplied by 0, and 0 times NaN is NaN."""
        config = self._config
        size = (config.layers, self.slots, length, 2 * config.key_value_heads, config.head_dim)
        count = math.prod(size) * self._dtype.itemsize
        if self._device.type != "cpu" or sys.platform != "linux" or not count:
            return torch.zeros(size, dtype=self._dtype, device=self._device)
        try:
            # A page is 0, and takes no memory, until it is used.
            pages = mmap.mmap(-1, count, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        except OSError as error:
            raise MemoryError(f"no memory for {count} bytes of keys and values") from error
        return torch.frombuffer(pages, dtype=self._dtype).view(size)

    def reserve(self, length: int) -> None:
        """Make room for at least `length` tokens in each slot. It reserves more than that, so that the cache is rarely copied."""
        if length > self.length:
            # On a CPU memory that isn't used yet costs nothing.
            most = CONTEXT_TOKENS if self._device.type == "cpu" else 2 * self.length
            ample = min(most, length + 8 * BLOCK, CONTEXT_TOKENS)
            longer = self._zeros(round_to_blocks(max(length, ample)))
            longer[:, :, : self.length] = self.tensor
            self.tensor, self.length = longer, longer.shape[2]

    def copy(self, source: int, target: int, length: int) -> None:
        """Copy the first `length` tokens of a slot into another one."""
        self.tensor[:, target, :length] = self.tensor[:, source, :length]
        self.unshare(target)
        self.sources[target], self.shared[target] = source, length

    def unshare(self, slot: int) -> None:
        """Stop sharing the tokens of this slot, because they change: it and the slots that share its tokens use their own copies."""
        self.shared[(self.sources == slot) | (torch.arange(self.slots) == slot)] = 0

    def layer(self, index: int) -> torch.Tensor:
        """A view of one layer, (slots, length, 2 K, D)."""
        return self.tensor[index]


class SlotGroup(NamedTuple):
    """Neighboring slots `start` to `stop` whose attention covers `length` tokens."""

    start: int
    stop: int
    length: int


def group_slots(lengths: Sequence[int]) -> list[SlotGroup]:
    """Group neighboring slots whose lengths need the same number of blocks.

    A sequence of 30 tokens then does not pay for one of 2,048, and the cost of a slot does not depend on other slots.
    """
    groups: list[SlotGroup] = []
    for slot, length in enumerate(map(round_to_blocks, lengths)):
        if groups and groups[-1].length == length:
            groups[-1] = groups[-1]._replace(stop=slot + 1)
        else:
            groups.append(SlotGroup(slot, slot + 1, length))
    return groups


def exact_groups(lengths: Sequence[int]) -> list[SlotGroup]:
    """A group for each slot that covers exactly its length."""
    return [SlotGroup(slot, slot + 1, length) for slot, length in enumerate(lengths)]


def round_to_blocks(length: int) -> int:
    """`length` rounded up to a multiple of BLOCK."""
    return -(-length // BLOCK) * BLOCK
