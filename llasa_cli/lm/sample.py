"""Scores -> one drawn index. Order and meaning as in transformers: penalty, temperature, top-k, top-p, min-p."""

from __future__ import annotations

import torch

from llasa_cli.settings import SamplingOptions


def draw(scores: torch.Tensor, options: SamplingOptions, generator: torch.Generator) -> int:
    """float32 [n] scores (overwritten) -> an index.

    Temperature 0 takes the likeliest.
    """
    if options.temperature == 0:
        return int(scores.argmax())
    return int(torch.multinomial(torch.softmax(keep(scores, options), dim=-1), 1, generator=generator))


def keep(scores: torch.Tensor, options: SamplingOptions) -> torch.Tensor:
    """Apply temperature and the filters: what may not be drawn becomes -inf."""
    scores = scores / options.temperature
    if 0 < options.top_k < len(scores):
        scores = scores.masked_fill(scores < scores.topk(options.top_k).values[-1], -torch.inf)
    if options.top_p < 1:
        ascending, order = scores.sort()
        below = torch.softmax(ascending, dim=-1).cumsum(dim=-1) <= 1 - options.top_p
        below[-1] = False  # the likeliest always stays
        scores = scores.masked_fill(below.scatter(0, order, below), -torch.inf)
    if options.min_p > 0:
        shares = torch.softmax(scores, dim=-1)
        scores = scores.masked_fill(shares < options.min_p * shares.max(), -torch.inf)
    return scores


def penalise(scores: torch.Tensor, spoken: torch.Tensor, penalty: float) -> torch.Tensor:
    """Make codes that were spoken less likely (as CTRL, arXiv 1909.05858).

    Args:
        scores: float32 [n].
        spoken: bool [n], true where the code stood in the reference or the speech so far.
    """
    if penalty == 1:
        return scores
    lower = torch.where(scores < 0, scores * penalty, scores / penalty)
    return torch.where(spoken, lower, scores)
