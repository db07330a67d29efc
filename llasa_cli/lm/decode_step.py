"""The decode step: one token of every slot goes through the network and one code is sampled for each, on the model's device.

    step = DecodeStep(network, prompt_format, slots=4)
    step.admit(slot, request)                         the prompt is prefilled, less its last token
    codes = step()()                                  one code for each slot; free slots give meaningless ones
    step.release(slot)

On a CPU with the C kernels a step computes only the slots in use, in two calls (`lm.cpu.fused_step` and `lm.cpu.fused_sampler`).
Elsewhere it computes all slots, and what changes from step to step lies in tensors that stay in place, so that a CUDA graph can
replay the step: its calls depend on the data through those tensors only, and none of them waits for the device.

With guidance each slot has two rows in the network: one whose prompt has the text and one whose prompt lacks it. Both are fed
the code that is sampled from the guided logits, and the weights are read once for both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch

from llasa_cli.lm.cpu.build import load_kernels
from llasa_cli.lm.cpu.fused_sampler import FusedSampler
from llasa_cli.lm.kv_cache import SlotGroup, exact_groups, group_slots
from llasa_cli.lm.llama import Llama
from llasa_cli.lm.request import GenerationRequest
from llasa_cli.lm.sampler import (
    SlotState,
    apply_repetition_penalty,
    classifier_free_guidance,
    sample,
    sampling_kind,
    uniforms,
)
from llasa_cli.prompt import PromptFormat
from llasa_cli.settings import CONTEXT_TOKENS, SamplingOptions

SLOT_MULTIPLE = 4
"""Several slots are rounded up to a multiple of this. In float32 products of 2, 3 and 5 rows the last bits of a row depend on
its place among the rows (MKL on AMD, one thread and two); in multiples of 4, up to 64 rows, they do not."""

INVALID = -1
"""Stands for a code where the logits were NaN or infinite."""


class DecodeStep:
    """The state of all slots, and the step that advances them.

    Args:
        slots: The maximum number of sequences.
        guided: Each slot has a second row, for guidance. Without it the guidance of the sampling options has no effect.
        is_exact: Give each sequence the same codes, bit for bit, as in a step of one slot, whatever the number of slots. This
            needs the network's fused step; without it, it has no effect.
        threads: The most threads that share the sequences of a fused step.

    Attributes:
        lookahead: The number of steps that are started before the codes of the first are read.
        rows: Rows in the network: the slots, rounded up, and twice as many with guidance.
    """

    lookahead = 0

    def __init__(
        self,
        network: Llama,
        prompt_format: PromptFormat,
        slots: int,
        guided: bool = False,
        is_exact: bool = False,
        threads: int = 1,
    ) -> None:
        self.network, self.prompt_format, self.guided = network, prompt_format, guided
        is_fused = slots * (2 if guided else 1) <= network.fused_rows or (is_exact and network.fused_rows > 0)
        self._slots = slots if slots == 1 or is_fused else -(-slots // SLOT_MULTIPLE) * SLOT_MULTIPLE
        self.rows = 2 * self._slots if guided else self._slots
        self._cache = network.new_cache(self.rows)
        self._is_exact, self._threads = self.rows == 1, threads
        self._lengths = [0] * self.rows  # tokens in the cache; 0 marks a free row
        self._sampling: list[SamplingOptions | None] = [None] * self._slots
        self._state = SlotState.empty(self._slots, self.rows, prompt_format.code_count, network.device)
        self._increments = torch.zeros_like(self._state.ids)  # 1 where the row is in use, 0 where it is free
        kernels = load_kernels() if is_fused else None
        self._indexed: tuple[list[int], torch.Tensor] = [], torch.tensor([])
        self._fused_sampler = None
        if kernels is not None:
            self._fused_sampler = FusedSampler(kernels, prompt_format.first_code_id, self._state)

    def _rows_of(self, slot: int) -> tuple[int, ...]:
        return (slot, self._slots + slot) if self.guided else (slot,)

    def admit(self, slot: int, request: GenerationRequest, source: int | None = None) -> None:
        """Start a sequence in a free slot: prefill its tokens but for the last one, which the next step takes.

        Args:
            source: A slot in use whose tokens begin in the same way. They are copied instead of computed.
        """
        state, prompt, first_code = self._state, request.prompt, self.prompt_format.first_code_id
        begun = [code + first_code for code in request.begun]
        sources = (None, None) if source is None else self._rows_of(source)
        for row, known, start in zip(self._rows_of(slot), sources, (prompt.ids, prompt.unconditional), strict=False):
            ids = [*start, *begun]
            if known is None:
                self.network.prefill(self._cache, row, ids[:-1])
            else:
                self._cache.copy(known, row, len(ids) - 1)
            self._lengths[row] = len(ids) - 1
            state.ids[row], state.positions[row], self._increments[row] = ids[-1], len(ids) - 1, 1
        self._sampling[slot] = request.sampling
        state.options.set(slot, request.sampling)
        state.uniforms[slot] = uniforms(request.seed)
        state.sampled[slot], state.limits[slot] = len(begun), request.limit
        state.log_probabilities[slot], state.ended[slot], state.spoken[slot] = 0, False, False
        before = [*prompt.ids[len(prompt.ids) - prompt.reference_codes :], *begun]
        if before:
            state.spoken[slot, torch.tensor(before, device=state.ids.device) - first_code] = True

    def log_probability(self, slot: int) -> float:
        """The natural logarithm of the probability of all codes sampled in the slot, END included, by the prompt with the
        text, before guidance and all other sampling options. On a GPU this waits for the step that was started last."""
        return float(self._state.log_probabilities[slot])

    def release(self, slot: int) -> None:
        """Free a slot. It is still computed, as one of a single token, so that shapes don't change."""
        self._sampling[slot] = None
        for row in self._rows_of(slot):
            self._lengths[row], self._increments[row], self._state.positions[row] = 0, 0, 0

    def __call__(self, slots: list[int] | None = None) -> Callable[[], list[int]]:
        """Start a step of all slots.

        Args:
            slots: The slots in use that are stepped, where the network has a fused step; the others wait. None: all.

        Returns:
            A function that waits for the codes, one for each slot (rounded up); code_count is END, INVALID marks logits that
            were NaN or infinite.
        """
        used = self._slots_in_use() if slots is None or self._fused_sampler is None else slots
        lengths = self._advance_lengths(used)
        self._cache.reserve(max(lengths))
        if self._fused_sampler is not None:
            return partial(list, self._compute_used(self._fused_sampler, lengths, used))
        groups = (exact_groups if self._is_exact else group_slots)(lengths)
        return self.compute(groups, *self._sampling_kinds(), is_exact=self._is_exact).tolist

    def _compute_used(self, sampler: FusedSampler, lengths: list[int], used: list[int]) -> list[int]:
        """The step of some slots in use -> the codes of all slots, INVALID for the others."""
        rows = used + [self._slots + slot for slot in used] if self.guided else used
        # The rows stay the same for some steps, and making a tensor of them takes as long as sampling.
        if rows != self._indexed[0]:
            self._indexed = rows, torch.tensor(rows)
        ids = self._state.ids.index_select(0, self._indexed[1])
        logits = self.network.decode_rows(self._cache, rows, ids, [lengths[row] - 1 for row in rows], self._threads)
        codes = [INVALID] * self._slots
        for slot, code in zip(used, sampler(logits, used), strict=True):
            codes[slot] = code
        return codes

    def _slots_in_use(self) -> list[int]:
        return [slot for slot, sampling in enumerate(self._sampling) if sampling is not None]

    def _advance_lengths(self, used: list[int] | None = None) -> list[int]:
        """The number of tokens that the attention of each row covers in the step that starts; at least one.

        Args:
            used: The slots that are stepped; None: all in use.
        """
        for slot in self._slots_in_use() if used is None else used:
            for row in self._rows_of(slot):
                self._lengths[row] += 1
        return [max(1, length) for length in self._lengths]

    def _sampling_kinds(self) -> tuple[frozenset[str], bool]:
        """The kinds of sampling that occur, and whether any sequence has a repetition penalty."""
        options = [sampling for sampling in self._sampling if sampling is not None]
        return frozenset(map(sampling_kind, options)), any(sampling.repetition_penalty != 1 for sampling in options)

    def compute(
        self,
        groups: Sequence[SlotGroup],
        kinds: frozenset[str],
        penalized: bool,
        *,
        is_exact: bool = False,
        early_exit: bool = True,
    ) -> torch.Tensor:
        """The step itself -> the sampled codes, int64 (slots,)."""
        state, code_count = self._state, self.prompt_format.code_count
        # 1. Forward pass; rows with the text come first.
        logits = self.network.decode(self._cache, state.ids, state.positions, groups, is_exact)  # (rows, codes + 1)
        invalid = ~logits.amax(-1).isfinite()
        plain = logits[: self._slots]
        total = plain.logsumexp(-1)
        # 2. Guidance: two rows of logits become one.
        if self.guided:
            conditional, unconditional = logits[: self._slots], logits[self._slots :]
            logits = classifier_free_guidance(conditional, unconditional, state.options.guidance)  # (slots, codes + 1)
            invalid = invalid.view(2, -1).any(0)
        # 3. Repetition penalty, and no END as the first code: speech has at least one.
        if penalized:
            logits = apply_repetition_penalty(logits, state.spoken, state.options.penalty)
        logits[:, -1].masked_fill_(state.sampled == 0, -torch.inf)
        # 4. Sample.
        u = state.uniforms.gather(1, state.sampled[:, None])
        sampled = sample(logits, state.options, u, kinds, early_exit)
        # 5. Add up the likelihood, up to END or the limit: with lookahead a step follows that does not count.
        gained = plain.gather(1, sampled[:, None])[:, 0] - total
        state.log_probabilities.add_(gained.masked_fill_(state.ended | (state.sampled >= state.limits), 0.0))
        state.ended.logical_or_(sampled == code_count)
        # 6. The sampled codes are the tokens of the next step.
        code = sampled.clamp(max=code_count - 1)
        state.ids.view(-1, self._slots).copy_(code + self.prompt_format.first_code_id)
        if penalized:
            state.spoken.scatter_(1, code[:, None], True)
        state.positions.add_(self._increments).clamp_(max=CONTEXT_TOKENS - 1)
        state.sampled.add_(self._increments[: self._slots]).clamp_(max=CONTEXT_TOKENS - 1)
        return sampled.masked_fill(invalid, INVALID)
