"""Logits -> one sampled index for each of B sequences, each by its own options and its own random numbers.

Order and meaning are those of transformers: guidance, repetition penalty, temperature, top-k, top-p, min-p. Sampling inverts
the cumulative distribution: one uniform number u selects the first code, likeliest first, at which the cumulative
probability passes u. The numbers of a sequence come from its own generator on the CPU, so that a seed gives the same speech
on every device and beside any other sequence.

Shapes: B sequences, n logits (the speech codes and END).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from llasa_cli.settings import CONTEXT_TOKENS, SamplingOptions

FEW = 256
"""Likeliest codes that are looked at first. They nearly always suffice, and sorting all 65,537 takes milliseconds."""

GREEDY, PLAIN, FILTERED = "greedy", "plain", "filtered"
"""The likeliest code; the whole distribution; the distribution after top-k, top-p and min-p."""


def sampling_kind(options: SamplingOptions) -> str:
    """The way of sampling that these options select, one of three."""
    if options.temperature == 0:
        return GREEDY
    return FILTERED if options.top_p < 1 or options.top_k > 0 or options.min_p > 0 else PLAIN


def uniforms(seed: int) -> torch.Tensor:
    """One uniform number for each position of a context: float32 (2048,), 0 <= u < 1."""
    return torch.rand(CONTEXT_TOKENS, generator=torch.Generator().manual_seed(seed))


@dataclass
class SamplerState:
    """The sampling options of B sequences, as tensors of (B, 1)."""

    temperature: torch.Tensor
    top_k: torch.Tensor
    top_p: torch.Tensor
    min_p: torch.Tensor
    penalty: torch.Tensor
    guidance: torch.Tensor
    kind: torch.Tensor
    """0 greedy, 1 plain, 2 filtered."""

    @classmethod
    def greedy(cls, count: int, device: torch.device) -> SamplerState:
        """The state of `count` sequences, all greedy until `set` is called."""

        def column(value: float) -> torch.Tensor:
            return torch.full((count, 1), value, device=device)

        zeros = torch.zeros(count, 1, dtype=torch.int64, device=device)
        return cls(column(1.0), zeros, column(1.0), column(0.0), column(1.0), column(1.0), zeros.clone())

    def set(self, index: int, options: SamplingOptions) -> None:
        """Sample the sequence at `index` by these options from now on."""
        self.temperature[index] = options.temperature or 1.0
        self.top_k[index], self.top_p[index], self.min_p[index] = options.top_k, options.top_p, options.min_p
        self.penalty[index], self.guidance[index] = options.repetition_penalty, options.guidance
        self.kind[index] = (GREEDY, PLAIN, FILTERED).index(sampling_kind(options))

    def rows(self, indices: torch.Tensor) -> SamplerState:
        """The state of some of the sequences only."""
        return SamplerState(*(getattr(self, name)[indices] for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class SlotState:
    """All that changes from step to step of S slots, in tensors that stay in place: CUDA graphs and `sampling.h` hold their addresses.

    A slot has R / S rows in the network: one, or two with guidance.

    Attributes:
        options: The sampling options.
        uniforms: float32 (S, tokens), the random numbers of each sequence.
        spoken: bool (S, n), True for the codes of the reference and of the speech so far.
        sampled: int64 (S,), the number of codes of the speech so far.
        limits: int64 (S,), the number of codes after which nothing is added to the likelihood.
        log_probabilities: float32 (S,), the likelihood of the sampled codes.
        ended: bool (S,), whether END was sampled.
        ids, positions: int64 (R,), the tokens that the next step takes, and their positions.
    """

    options: SamplerState
    uniforms: torch.Tensor
    spoken: torch.Tensor
    sampled: torch.Tensor
    limits: torch.Tensor
    log_probabilities: torch.Tensor
    ended: torch.Tensor
    ids: torch.Tensor
    positions: torch.Tensor

    @classmethod
    def empty(cls, slots: int, rows: int, code_count: int, device: torch.device) -> SlotState:
        """The state of free slots."""

        def zeros(*shape: int, dtype: torch.dtype = torch.int64) -> torch.Tensor:
            return torch.zeros(shape, dtype=dtype, device=device)

        return cls(
            options=SamplerState.greedy(slots, device),
            uniforms=zeros(slots, CONTEXT_TOKENS, dtype=torch.float32),
            spoken=zeros(slots, code_count + 1, dtype=torch.bool),
            sampled=zeros(slots),
            limits=zeros(slots),
            log_probabilities=zeros(slots, dtype=torch.float32),
            ended=zeros(slots, dtype=torch.bool),
            ids=zeros(rows),
            positions=zeros(rows),
        )


def sample(
    logits: torch.Tensor, state: SamplerState, u: torch.Tensor, kinds: frozenset[str], early_exit: bool = True
) -> torch.Tensor:
    """float32 (B, n) logits -> int64 (B,) indices.

    Args:
        u: float32 (B, 1), one uniform number for each sequence.
        kinds: The kinds of sampling that occur among the B; another kind in the set changes no result.
        early_exit: Look at the likeliest few, and at all only where those don't suffice. That waits for the device; without
            it all are sorted. The result is the same.
    """
    index = logits.argmax(-1, keepdim=True)
    if PLAIN in kinds:
        index = torch.where(state.kind == 1, _sample_plain(logits / state.temperature, u), index)
    if FILTERED in kinds:
        index = torch.where(state.kind == 2, _sample_filtered(logits / state.temperature, state, u, early_exit), index)
    return index[:, 0]


def sample_one(logits: torch.Tensor, options: SamplingOptions, u: float) -> int:
    """Sample from a single sequence: float32 (n,) logits -> an index."""
    state = SamplerState.greedy(1, logits.device)
    state.set(0, options)
    column = torch.full((1, 1), u, device=logits.device)
    return int(sample(logits[None], state, column, frozenset([sampling_kind(options)])))


def _sample_plain(logits: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    cumulative = torch.softmax(logits, dim=-1).cumsum(-1)
    passed = (cumulative <= u * cumulative[:, -1:]).sum(-1, keepdim=True)
    return passed.clamp(max=logits.shape[-1] - 1)


def _sample_filtered(logits: torch.Tensor, state: SamplerState, u: torch.Tensor, early_exit: bool) -> torch.Tensor:
    """(B, 1) indices. Whether a sequence needs all of its logits depends on that sequence only."""
    total = logits.logsumexp(-1, keepdim=True)
    count = logits.shape[-1]
    if not early_exit or count <= FEW:
        return _select(*top_candidates(logits, total, state, count)[:3], u)
    probabilities, order, is_kept, is_certain = top_candidates(logits, total, state, FEW)
    index = _select(probabilities, order, is_kept, u)
    uncertain = (~is_certain[:, 0] & (state.kind[:, 0] == 2)).nonzero()[:, 0]
    if len(uncertain):
        everything = top_candidates(logits[uncertain], total[uncertain], state.rows(uncertain), count)
        index[uncertain] = _select(*everything[:3], u[uncertain])
    return index


def top_candidates(
    logits: torch.Tensor, total: torch.Tensor, state: SamplerState, count: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The `count` likeliest indices, and which of them top-k, top-p and min-p keep.

    Args:
        logits: (B, n), after the temperature.
        total: (B, 1), their logsumexp.

    Returns:
        Probabilities before filtering, descending, (B, count); their indices; which are kept (the first so many); and
        (B, 1) whether no index beyond the `count` is kept.
    """
    values, order = logits.topk(count) if count < logits.shape[-1] else logits.sort(descending=True, stable=True)
    kth = values.gather(-1, (state.top_k.clamp(1, count) - 1))
    probabilities = (values - total).exp()
    in_top_k = (values >= kth) | (state.top_k == 0)
    mass = (probabilities * in_top_k).sum(-1, keepdim=True).masked_fill(state.top_k == 0, 1.0)
    before = probabilities.cumsum(-1) - probabilities
    in_top_p = (before < state.top_p * mass) | (state.top_p >= 1)
    is_kept = in_top_k & in_top_p & (probabilities >= state.min_p * probabilities[:, :1])
    is_kept[:, 0].fill_(True)
    is_certain = ~is_kept[:, -1:] & (state.top_k <= count)
    return probabilities, order, is_kept, is_certain


def _select(probabilities: torch.Tensor, order: torch.Tensor, is_kept: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
    """The index, (B, 1), at which the cumulative probability of the kept ones passes u."""
    cumulative = (probabilities * is_kept).cumsum(-1)
    passed = (cumulative <= u * cumulative[:, -1:]).sum(-1, keepdim=True)
    last = is_kept.sum(-1, keepdim=True) - 1
    return order.gather(-1, torch.minimum(passed, last))


def classifier_free_guidance(logits: torch.Tensor, unconditional: torch.Tensor, guidance: torch.Tensor) -> torch.Tensor:
    """Move the logits away from those of the prompt without text, so that the text counts for more.

    log p = log p(code | no text) + guidance (log p(code | text) - log p(code | no text)), up to a constant. A guidance of 1
    gives the conditional logits, up to rounding.

    Args:
        logits, unconditional: float32 (B, n), of the prompts with and without the text.
        guidance: (B, 1).

    Source: Sanchez et al., "Stay on topic with Classifier-Free Guidance", arXiv 2306.17806; the same as `guidance_scale`
    of transformers' `generate`.
    """
    without_text = unconditional.log_softmax(-1)
    return without_text + guidance * (logits.log_softmax(-1) - without_text)


def apply_repetition_penalty(logits: torch.Tensor, spoken: torch.Tensor, penalty: torch.Tensor) -> torch.Tensor:
    """Make spoken codes less likely (as CTRL, arXiv 1909.05858). A penalty of 1 changes no bit.

    Args:
        logits: float32 (B, n).
        spoken: bool (B, n), True for the codes of the reference and of the speech so far.
        penalty: (B, 1).
    """
    lower = torch.where(logits < 0, logits * penalty, logits / penalty)
    return torch.where(spoken, lower, logits)
