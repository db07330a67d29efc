"""Scores -> a drawn index for each of B sequences, each by its own options and its own random numbers.

Order and meaning as in transformers: guidance, penalty, temperature, top-k, top-p, min-p. A draw takes one random number u and goes
to where the sum of the probabilities, likeliest first, passes u: nothing is computed for codes that can't be drawn. The
numbers of a sequence come from a generator of its own, on the CPU: a seed makes the same take on every device.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from llasa_cli.settings import CONTEXT_TOKENS, SamplingOptions

LIKELIEST = 256
"""Codes that are sorted before all are: they nearly always suffice, and sorting all 65,537 took 4.5 ms a code."""

GREEDY, PLAIN, FILTERED = "greedy", "plain", "filtered"


def kind_of(options: SamplingOptions) -> str:
    """Which of the three ways to draw these options ask for."""
    if options.temperature == 0:
        return GREEDY
    return FILTERED if options.top_p < 1 or options.top_k > 0 or options.min_p > 0 else PLAIN


def uniforms(seed: int) -> torch.Tensor:
    """One for each code that a context could hold: float32 [2048], 0 <= u < 1."""
    return torch.rand(CONTEXT_TOKENS, generator=torch.Generator().manual_seed(seed))


@dataclass
class SamplerState:
    """How each of B sequences is drawn: tensors of (B, 1)."""

    temperature: torch.Tensor
    top_k: torch.Tensor
    top_p: torch.Tensor
    min_p: torch.Tensor
    penalty: torch.Tensor
    guidance: torch.Tensor
    kind: torch.Tensor
    """0 greedy, 1 plain, 2 filtered."""

    @classmethod
    def room(cls, count: int, device: torch.device) -> SamplerState:
        """For `count` sequences, all greedy until `put`."""

        def column(value: float) -> torch.Tensor:
            return torch.full((count, 1), value, device=device)

        whole = torch.zeros(count, 1, dtype=torch.int64, device=device)
        return cls(column(1.0), whole, column(1.0), column(0.0), column(1.0), column(1.0), whole.clone())

    def put(self, place: int, options: SamplingOptions) -> None:
        """How the sequence at `place` is drawn from now on."""
        self.temperature[place] = options.temperature or 1.0
        self.top_k[place], self.top_p[place], self.min_p[place] = options.top_k, options.top_p, options.min_p
        self.penalty[place], self.guidance[place] = options.repetition_penalty, options.guidance
        self.kind[place] = (GREEDY, PLAIN, FILTERED).index(kind_of(options))


def sample(
    scores: torch.Tensor, choice: SamplerState, numbers: torch.Tensor, kinds: frozenset[str], look: bool = True
) -> torch.Tensor:
    """float32 (B, n) scores -> int64 (B,) indices.

    Args:
        numbers: float32 (B, 1), one u for each.
        kinds: Ways to draw that occur among the B; another way more changes nobody's result.
        look: Sort the likeliest few and look whether they suffice, which waits for the device; else sort all.
    """
    drawn = scores.argmax(-1, keepdim=True)
    if PLAIN in kinds:
        drawn = torch.where(choice.kind == 1, _plain(scores / choice.temperature, numbers), drawn)
    if FILTERED in kinds:
        drawn = torch.where(choice.kind == 2, _filtered(scores / choice.temperature, choice, numbers, look), drawn)
    return drawn[:, 0]


def sample_one(scores: torch.Tensor, options: SamplingOptions, number: float) -> int:
    """float32 [n] scores -> an index, for who draws one sequence only."""
    choice = SamplerState.room(1, scores.device)
    choice.put(0, options)
    numbers = torch.full((1, 1), number, device=scores.device)
    return int(sample(scores[None], choice, numbers, frozenset([kind_of(options)])))


def _plain(scores: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    sums = torch.softmax(scores, dim=-1).cumsum(-1)
    passed = (sums <= numbers * sums[:, -1:]).sum(-1, keepdim=True)
    return passed.clamp(max=scores.shape[-1] - 1)


def _filtered(scores: torch.Tensor, choice: SamplerState, numbers: torch.Tensor, look: bool) -> torch.Tensor:
    """(B, 1) indices. A sequence's result is that of the few or of all, as its own scores need, whoever else is there."""
    total = scores.logsumexp(-1, keepdim=True)
    count = scores.shape[-1]
    if not look or count <= LIKELIEST:
        return _drawn(*likeliest(scores, total, choice, count)[:3], numbers)
    shares, order, stays, enough = likeliest(scores, total, choice, LIKELIEST)
    few = _drawn(shares, order, stays, numbers)
    unsure = (~enough[:, 0] & (choice.kind[:, 0] == 2)).nonzero()[:, 0]
    if len(unsure):
        rest = SamplerState(*(getattr(choice, name)[unsure] for name in choice.__dataclass_fields__))
        few[unsure] = _drawn(*likeliest(scores[unsure], total[unsure], rest, count)[:3], numbers[unsure])
    return few


def likeliest(
    scores: torch.Tensor, total: torch.Tensor, choice: SamplerState, count: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """The `count` likeliest, and which of them may be drawn.

    Args:
        scores: (B, n), after the temperature.
        total: (B, 1), the logarithm of the sum of their exponentials.

    Returns:
        Probabilities before filtering, falling, (B, count); their indices; which stay: the first so many; and (B, 1)
        whether that is certain without looking at more.
    """
    values, order = scores.topk(count) if count < scores.shape[-1] else scores.sort(descending=True, stable=True)
    kth = values.gather(-1, (choice.top_k.clamp(1, count) - 1))
    shares = (values - total).exp()
    in_k = (values >= kth) | (choice.top_k == 0)
    whole = (shares * in_k).sum(-1, keepdim=True).masked_fill(choice.top_k == 0, 1.0)
    before = shares.cumsum(-1) - shares
    stays = in_k & ((before < choice.top_p * whole) | (choice.top_p >= 1)) & (shares >= choice.min_p * shares[:, :1])
    stays[:, 0].fill_(True)
    enough = ~stays[:, -1:] & (choice.top_k <= count)
    return shares, order, stays, enough


def _drawn(shares: torch.Tensor, order: torch.Tensor, stays: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    sums = (shares * stays).cumsum(-1)
    passed = (sums <= numbers * sums[:, -1:]).sum(-1, keepdim=True)
    last = stays.sum(-1, keepdim=True) - 1
    return order.gather(-1, torch.minimum(passed, last))


def classifier_free_guidance(scores: torch.Tensor, unconditional: torch.Tensor, guidance: torch.Tensor) -> torch.Tensor:
    """Classifier-free guidance: what the text makes likelier is made likelier still, by `guidance` times its share.

    log p = log p(code | no text) + guidance (log p(code | text) - log p(code | no text)), up to a constant. 1 is the text's own
    scores, up to rounding.

    Args:
        scores, unconditional: float32 (B, n), with the text and without.
        guidance: (B, 1).

    Source: Sanchez et al., "Stay on topic with Classifier-Free Guidance", arXiv 2306.17806; the same as `guidance_scale`
    of transformers' `generate`.
    """
    without = unconditional.log_softmax(-1)
    return without + guidance * (scores.log_softmax(-1) - without)


def apply_repetition_penalty(scores: torch.Tensor, spoken: torch.Tensor, penalty: torch.Tensor) -> torch.Tensor:
    """Make codes that were spoken less likely (as CTRL, arXiv 1909.05858); 1 changes nothing, to the bit.

    Args:
        scores: float32 (B, n).
        spoken: bool (B, n), true where the code stood in the reference or the speech so far.
        penalty: (B, 1).
    """
    lower = torch.where(scores < 0, scores * penalty, scores / penalty)
    return torch.where(spoken, lower, scores)
