"""Prefix caching: prompts with the same beginning, such as all prompts with one voice, share its keys and values."""

from __future__ import annotations

import threading
from collections import OrderedDict

import torch

PREFILL_BLOCK = 32
"""Tokens of a prompt that are prefilled at once. Blocks end at the same positions in every prompt, so that prompts with the
same beginning share them bit for bit. At 32 rows a product is bound by arithmetic already, not by reading the weights."""

CACHED_TOKENS = 4096
"""Tokens whose keys and values are kept: 134 MB for Llasa-1B in 16 bit."""


class PrefixCache:
    """Keys and values of blocks of PREFILL_BLOCK tokens, found by all token ids up to the end of the block.

    The least recently used blocks are dropped first. Threads may share it.
    """

    def __init__(self) -> None:
        self._blocks: OrderedDict[tuple[int, ...], torch.Tensor] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, ids: tuple[int, ...]) -> torch.Tensor | None:
        """The last block of the prefix `ids`, (layers, PREFILL_BLOCK, 2 K, D)."""
        with self._lock:
            block = self._blocks.get(ids)
            if block is not None:
                self._blocks.move_to_end(ids)
            return block

    def put(self, ids: tuple[int, ...], block: torch.Tensor) -> None:
        """Keep the last block of the prefix `ids`."""
        with self._lock:
            self._blocks[ids] = block
            while len(self._blocks) > CACHED_TOKENS // PREFILL_BLOCK:
                self._blocks.popitem(last=False)
