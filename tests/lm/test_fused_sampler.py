"""The C sampler chooses the codes that `lm.sampler` chooses, for each slot by its own options, and counts alike."""

from __future__ import annotations

import itertools

import pytest
import torch

from llasa_cli.lm.cpu.build import load_kernels
from llasa_cli.lm.cpu.fused_sampler import FusedSampler
from llasa_cli.lm.sampler import (
    SlotState,
    apply_repetition_penalty,
    classifier_free_guidance,
    sample,
)
from llasa_cli.settings import SamplingOptions

pytestmark = pytest.mark.skipif(load_kernels() is None, reason="no C compiler")
KINDS = frozenset(["greedy", "plain", "filtered"])
OPTIONS = [
    SamplingOptions(temperature=0),
    SamplingOptions(temperature=0, repetition_penalty=1.7),
    SamplingOptions(temperature=1.0, top_p=1.0),
    SamplingOptions(temperature=2.5, top_p=1.0, repetition_penalty=1.3),
    SamplingOptions(temperature=0.4, top_p=0.9),
    SamplingOptions(temperature=3.0, top_p=0.999),
    SamplingOptions(temperature=1.0, top_k=1),
    SamplingOptions(temperature=1.0, top_k=7, top_p=1.0),
    SamplingOptions(temperature=5.0, top_k=500, top_p=1.0),
    SamplingOptions(temperature=1.0, min_p=0.05, top_p=1.0),
    SamplingOptions(temperature=1.0, top_k=100_000, top_p=0.7, min_p=0.001, repetition_penalty=0.8),
]
CODES, FIRST = 1009, 50


class Slots:
    """The tensors of a decode step of `len(OPTIONS)` slots."""

    def __init__(self, guided: bool, sampled: int = 3) -> None:
        kernels, slots = load_kernels(), len(OPTIONS)
        assert kernels is not None
        generator = torch.Generator().manual_seed(sampled)
        rows = 2 * slots if guided else slots
        state = SlotState.empty(slots, rows, CODES, torch.device("cpu"))
        for slot, options in enumerate(OPTIONS):
            state.options.set(slot, options)
            state.options.guidance[slot] = 0.5 + 0.25 * slot
        state.uniforms.copy_(torch.rand(slots, 2048, generator=generator))
        state.spoken.copy_(torch.rand(slots, CODES + 1, generator=generator) < 0.3)
        state.sampled.fill_(sampled)
        state.limits.fill_(1000)
        state.positions.copy_(torch.arange(rows))
        self.state, self.sampler = state, FusedSampler(kernels, FIRST, state)


@pytest.mark.parametrize("guided", [False, True])
@pytest.mark.parametrize("width", [0.1, 1.0, 6.0])
def test_the_codes_are_those_of_the_sampler_in_torch(guided: bool, width: float) -> None:
    generator = torch.Generator().manual_seed(7)
    used = [1, 0, *range(2, len(OPTIONS))]
    for sampled in (0, 3, 1500):
        slots = Slots(guided, sampled)
        logits = torch.randn(2 if guided else 1, len(used), CODES + 1, generator=generator) * width
        plain, wanted = logits[0].log_softmax(-1), logits[0]
        state = slots.state.options.rows(torch.tensor(used))
        if guided:
            wanted = classifier_free_guidance(logits[0], logits[1], state.guidance)
        wanted = apply_repetition_penalty(wanted, slots.state.spoken[used], state.penalty)
        if sampled == 0:
            wanted[:, -1] = -torch.inf
        codes = sample(wanted, state, slots.state.uniforms[used, sampled, None], KINDS).tolist()
        assert slots.sampler(logits.flatten(0, 1).clone(), used) == codes
        counted = plain[torch.arange(len(used)), codes] if sampled < 1000 else torch.zeros(len(used))
        torch.testing.assert_close(slots.state.log_probabilities[used], counted, rtol=1e-4, atol=1e-4)
        assert slots.state.ended[used].tolist() == [code == CODES for code in codes]
        assert (slots.state.ids[: len(OPTIONS)][used] - FIRST).tolist() == [min(code, CODES - 1) for code in codes]
        assert slots.state.sampled.tolist() == [sampled + 1] * len(OPTIONS)
        assert all(slots.state.spoken[slot, min(code, CODES - 1)] for slot, code in zip(used, codes, strict=True))
        assert slots.state.positions.tolist() == list(range(1, len(slots.state.positions) + 1))


@pytest.mark.parametrize(("guided", "bad"), itertools.product([False, True], [float("nan"), float("inf")]))
def test_logits_that_are_not_finite_give_no_code_and_change_nothing(guided: bool, bad: float) -> None:
    slots = Slots(guided)
    count = len(OPTIONS)
    logits = torch.zeros(2 * count if guided else count, CODES + 1)
    logits[-1, 5] = bad
    codes = slots.sampler(logits, list(range(count)))
    assert codes[-1] == -1
    assert min(codes[:-1]) >= 0
    assert slots.state.sampled.tolist() == [4] * (count - 1) + [3]


def test_slots_that_are_not_named_stay_as_they_are() -> None:
    slots = Slots(True)
    slots.sampler(torch.randn(4, CODES + 1), [4, 9])
    assert slots.state.sampled.tolist() == [4 if slot in (4, 9) else 3 for slot in range(len(OPTIONS))]
    assert slots.state.ids.count_nonzero() == 4
