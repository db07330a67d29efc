"""A Llama (or a Qwen 2 or 3, which differ in two details): token ids in, logits of the speech codes and of END out.

    network.prefill(cache, slot, ids)                              the prompt of one sequence
    logits = network.decode(cache, ids, positions, groups)         one more token of every sequence
    logits = network.decode_rows(cache, slots, ids, positions)     of some sequences, on a CPU

It takes the place of transformers' class, which takes seconds to import: keys and values lie in a cache that does not move
(`lm.kv_cache`), projections are fused, and the head has only the rows that can be sampled (65,537 of 193,801 in the published
models). Tests compare its greedy output with transformers' token for token.

A sequence's results do not depend on what else is in the cache. A prompt is prefilled alone, in blocks that end at fixed
positions. A decode step computes every slot whether it is used or not, so that shapes never change, and the attention of a
slot covers as many tokens as its own length requires. (torch's product of another number of rows differs in its last bits. The C
kernels' does not, so with them a step computes only the slots in use.)

Shapes: N tokens, of one sequence or of N sequences; H heads, K key-value heads, D head width, L cached tokens.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F

from llasa_cli.lm.attention import Attention
from llasa_cli.lm.cpu.build import Kernels, load_kernels
from llasa_cli.lm.cpu.fused_step import FusedStep
from llasa_cli.lm.kv_cache import KVCache, SlotGroup, exact_groups
from llasa_cli.lm.layer import LayerWeights
from llasa_cli.lm.linear import LANES, Embedding, Linear
from llasa_cli.lm.llama_config import LlamaConfig, rope_frequencies
from llasa_cli.lm.prefix_cache import PREFILL_BLOCK, PrefixCache
from llasa_cli.memory import release_free_memory
from llasa_cli.settings import CONTEXT_TOKENS

Attend = Callable[[int, torch.Tensor, torch.Tensor], torch.Tensor | None]
"""(layer, queries (N, H, D), keys and values (N, 2 K, D)) -> (N, H D), or None to end the computation."""


class Llama:
    """The weights, which don't change. All state is in a `KVCache`; a network may serve several of them.

    Args:
        embedding: (vocabulary, hidden).
        head: (codes + 1, hidden): the rows of the speech codes, then END's.
        attention: An implementation of `lm.attention`.

    Attributes:
        prefix_cache: Keys and values that prompts have begun with.
    """

    def __init__(
        self,
        config: LlamaConfig,
        embedding: Embedding,
        layers: list[LayerWeights],
        norm: torch.Tensor,
        head: Linear,
        attention: str = "auto",
    ) -> None:
        self.config = config
        self.embedding, self.layers, self.norm, self.head = embedding, layers, norm, head
        self.device, self.dtype = embedding.device, embedding.dtype
        self.prefix_cache = PrefixCache()
        kernels = self._kernels_of_weights()
        can_attend = config.head_dim % LANES == 0
        self.attention = Attention(attention, self.device, self.dtype, kernels if can_attend else None)
        self._kernels = kernels if config.hidden_size % LANES == 0 else None
        self._fused_step = None
        if kernels is not None and self.attention.kind == "kernel":
            self._fused_step = FusedStep.create(config, layers, norm, head, kernels)
        angles = torch.outer(torch.arange(CONTEXT_TOKENS).float(), rope_frequencies(config))
        # Both halves of a head rotate by the same angles; the first takes the second with its sign changed.
        self._cosine = torch.cat([angles.cos(), angles.cos()], dim=-1).to(self.device, self.dtype)
        self._sine = torch.cat([-angles.sin(), angles.sin()], dim=-1).to(self.device, self.dtype)

    def _kernels_of_weights(self) -> Kernels | None:
        """The C kernels if they multiply any matrix; a small float32 model would be done before they are compiled."""
        if self.device.type != "cpu":
            return None
        some = (self.head, *(linear for layer in self.layers[:1] for linear in (layer.gate_up, layer.down)))
        return load_kernels() if any(linear.kernel_layout() is not None for linear in some) else None

    @property
    def fused_rows(self) -> int:
        """The most sequences that `decode_rows` should be given; 0 if it can't be called."""
        if self._fused_step is None:
            return 0
        # A small model's weights lie in the processor's cache, where reading them several times costs little.
        return sys.maxsize if self.config.is_small else self._fused_step.max_rows

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of keys and values that a slot takes for each token it has room for."""
        config = self.config
        return 2 * config.layers * config.key_value_heads * config.head_dim * self.dtype.itemsize

    @property
    def weight_bytes(self) -> int:
        """Bytes of weights that a decode step reads: all layers and the head."""
        linears = [self.head, *(linear for layer in self.layers for linear in layer.linears())]
        return sum(linear.bytes for linear in linears)

    def new_cache(self, slots: int, length: int = 0) -> KVCache:
        """An empty cache for `slots` sequences of this network."""
        return KVCache(self.config, slots, self.dtype, self.device, length)

    def stream(self, capacity: int) -> TokenStream:
        """A sequence of up to `capacity` tokens, to be fed in parts."""
        return TokenStream(self, capacity)

    # --- sequences ---

    def prefill(self, cache: KVCache, slot: int, ids: Sequence[int]) -> None:
        """Compute the keys and values of a prompt; blocks that an earlier prompt began with are copied instead."""
        key = tuple(ids)
        cache.reserve(len(ids))
        cache.unshare(slot)
        for begin in range(0, len(ids), PREFILL_BLOCK):
            end = min(begin + PREFILL_BLOCK, len(ids))
            is_whole = end - begin == PREFILL_BLOCK
            known = self.prefix_cache.get(key[:end]) if is_whole else None
            if known is not None:
                cache.tensor[:, slot, begin:end] = known
                continue
            self.extend(cache, slot, torch.tensor(ids[begin:end], device=self.device), begin)
            if is_whole:
                self.prefix_cache.put(key[:end], cache.tensor[:, slot, begin:end].clone())
        if self.device.type == "cpu" and not self.config.is_small:
            release_free_memory()  # the C library would keep what a block took, beside the growing cache

    def extend(self, cache: KVCache, slot: int, ids: torch.Tensor, begin: int) -> None:
        """Compute the keys and values of T more tokens of one sequence, int64 (T,), from position `begin` on."""
        end = begin + len(ids)
        cache.reserve(end)

        def attend(layer: int, queries: torch.Tensor, keys_values: torch.Tensor) -> torch.Tensor | None:
            past = cache.layer(layer)[slot, :end]  # (L, 2 K, D)
            past[begin:] = keys_values
            # After the last layer's keys and values nothing of these tokens is needed.
            return None if layer == self.config.layers - 1 else self.attention.prefill(queries, past)

        self.forward(ids, torch.arange(begin, end, device=ids.device), attend)

    def decode_rows(
        self, cache: KVCache, slots: list[int], ids: torch.Tensor, positions: list[int], threads: int = 1
    ) -> torch.Tensor:
        """One more token of each of up to `fused_rows` sequences. The results of one don't depend on the others.

        Args:
            slots: N slots of the cache, all different.
            ids: int64 (N,), their tokens.
            positions: N positions of the tokens.
            threads: The most threads that share the sequences, each with some of them.

        Returns:
            The logits of what follows, float32 (N, codes + 1).
        """
        assert self._fused_step is not None
        hidden, most, parts = self.embedding(ids), self._fused_step.max_rows, []
        for begin in range(0, len(slots), min(most, len(slots))):
            some = slice(begin, begin + most)
            rotary = self._cosine, self._sine
            parts.append(self._fused_step(hidden[some], cache, slots[some], positions[some], *rotary, threads))
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def decode(
        self,
        cache: KVCache,
        ids: torch.Tensor,
        positions: torch.Tensor,
        groups: Sequence[SlotGroup],
        is_exact: bool = False,
    ) -> torch.Tensor:
        """One more token of each sequence -> the logits of what follows it, float32 (slots, codes + 1).

        Args:
            ids, positions: int64 (slots,).
            groups: The tokens that the attention of each slot covers, from `group_slots` or `exact_groups`.
            is_exact: Each group is as long as its sequences, so that nothing in it has to be masked.
        """
        # 1. Where the new keys and values go, and which tokens are masked.
        rows = torch.arange(cache.slots, device=ids.device) * cache.length + positions
        lengths, mask = positions + 1, None
        if not is_exact and not self.attention.uses_lengths:
            longest = max(group.length for group in groups)
            is_after = torch.arange(longest, device=ids.device) > positions[:, None]
            mask = torch.zeros(is_after.shape, dtype=self.dtype, device=ids.device)
            mask = mask.masked_fill(is_after, -torch.inf)[:, None, None]  # (slots, 1, 1, longest)

        def attend(layer: int, queries: torch.Tensor, keys_values: torch.Tensor) -> torch.Tensor:
            past = cache.layer(layer)  # (slots, L, 2 K, D)
            past.flatten(0, 1).index_copy_(0, rows, keys_values)
            if self.attention.uses_lengths:
                return self.attention.decode(queries, past, lengths, None)
            parts = [
                self.attention.decode(
                    queries[start:stop],
                    past[start:stop, :length],
                    lengths[start:stop],
                    None if mask is None else mask[start:stop, ..., :length],
                )
                for start, stop, length in groups
            ]
            return parts[0] if len(parts) == 1 else torch.cat(parts)

        # 2. All layers, then the head.
        return self.logits(self.forward(ids, positions, attend))

    # --- layers ---

    def forward(self, ids: torch.Tensor, positions: torch.Tensor, attend: Attend) -> torch.Tensor:
        """N tokens through all layers -> hidden states (N, hidden), before the last norm.

        Args:
            ids, positions: int64 (N,).
            attend: The attention over these and earlier tokens; everything else is computed for each token alone. With None
                the hidden states before this layer are returned.
        """
        config = self.config
        rotated = config.heads + config.key_value_heads
        cosine, sine = self._cosine[positions, None], self._sine[positions, None]  # (N, 1, D)
        hidden = self.embedding(ids)
        for index, layer in enumerate(self.layers):
            projected = layer.query_key_value(self._normed(hidden, layer.input_norm))
            if layer.bias is not None:
                projected += layer.bias
            heads = projected.view(len(ids), -1, config.head_dim)  # (N, H + 2 K, D)
            if layer.query_norm is not None and layer.key_norm is not None:
                for some, weight in (
                    (heads[:, : config.heads], layer.query_norm),
                    (heads[:, config.heads : rotated], layer.key_norm),
                ):
                    some.copy_(self._normed(some.reshape(-1, config.head_dim), weight).view_as(some))
            if self._kernels is not None:
                self._kernels.rotate(heads, rotated, cosine, sine)
            else:
                rotate_(heads[:, :rotated], cosine, sine)
            mixed = attend(index, heads[:, : config.heads], heads[:, config.heads :])
            if mixed is None:
                return hidden
            hidden = hidden + layer.output(mixed)
            hidden = hidden + layer.down(self._gated(layer.gate_up(self._normed(hidden, layer.middle_norm))))
        return hidden

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Hidden states (N, hidden) -> float32 (N, codes + 1)."""
        return self.head(self._normed(hidden, self.norm)).float()

    def _gated(self, gate_up: torch.Tensor) -> torch.Tensor:
        """SwiGLU: (N, 2 intermediate) -> (N, intermediate)."""
        if self._kernels is not None and self.config.intermediate_size % LANES == 0:
            return self._kernels.gate(gate_up)
        gate, up = gate_up.chunk(2, dim=-1)
        return F.silu(gate) * up

    def _normed(self, hidden: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Root mean square norm of (N, width)."""
        if self._kernels is not None and hidden.is_contiguous() and len(weight) % LANES == 0:
            return self._kernels.norm(hidden, weight, self.config.norm_epsilon)
        return F.rms_norm(hidden, weight.shape, weight, self.config.norm_epsilon)


def rotate_(states: torch.Tensor, cosine: torch.Tensor, sine: torch.Tensor) -> None:
    """Rotary position embedding in place, with Llama's halves: (N, heads, D) by (N, 1, D)."""
    swapped = states.unflatten(-1, (2, -1)).flip(-2).flatten(-2)
    states.mul_(cosine).addcmul_(swapped, sine)


class TokenStream:
    """One sequence that is fed in parts: a cache of one slot and the position in it."""

    def __init__(self, network: Llama, capacity: int) -> None:
        self.capacity, self.position = capacity, 0
        self._network, self._cache = network, network.new_cache(1)

    def feed(self, ids: torch.Tensor) -> torch.Tensor:
        """Feed T more tokens, int64 (T,) -> the logits after the last, float32 (codes + 1,).

        Raises:
            ValueError: There is no room for them.
        """
        begin, end = self.position, self.position + len(ids)
        if end > self.capacity:
            raise ValueError(f"{end} tokens do not fit a sequence of at most {self.capacity}")
        if len(ids) > 1:
            self._network.extend(self._cache, 0, ids[:-1], begin)
        self.position = end
        self._cache.reserve(end)
        if self._network.fused_rows:
            return self._network.decode_rows(self._cache, [0], ids[-1:], [end - 1])[0]
        last = torch.full((1,), end - 1, dtype=torch.int64, device=self._network.device)
        return self._network.decode(self._cache, ids[-1:], last, exact_groups([end]), is_exact=True)[0]
