"""Filters are those of transformers; draws follow the probabilities and the seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from llasa_cli.lm.loader import LanguageModel, load_language_model
from llasa_cli.lm.sampler import SamplerState, kind_of, likeliest, sample
from llasa_cli.prompt import PromptFormat
from llasa_cli.settings import SamplingOptions

FREE: dict[str, Any] = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "min_p": 0.0}


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0.3},
        {"top_k": 5},
        {"top_k": 1},
        {"top_k": 5000},
        {"top_p": 0.9},
        {"top_p": 0.01},
        {"top_p": 0.999},
        {"top_p": 0.9, "temperature": 20.0},  # so flat that far more than the likeliest few are needed
        {"top_p": 0.95, "top_k": 3},
        {"min_p": 0.1},
        {"temperature": 0.7, "top_k": 30, "top_p": 0.8, "min_p": 0.05},
    ],
    ids=str,
)
def test_filters_are_those_of_transformers(options: dict[str, Any]) -> None:
    from transformers import MinPLogitsWarper, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    chosen = FREE | options
    scores = torch.randn(20, 1000, generator=torch.Generator().manual_seed(0)) * 3
    for row in scores:
        wanted = TemperatureLogitsWarper(chosen["temperature"])(None, row[None])
        if chosen["top_k"]:
            wanted = TopKLogitsWarper(chosen["top_k"])(None, wanted)
        if chosen["top_p"] < 1:
            wanted = TopPLogitsWarper(chosen["top_p"])(None, wanted)
        if chosen["min_p"]:
            wanted = MinPLogitsWarper(chosen["min_p"])(None, wanted)
        wanted_codes = set(wanted[0].isfinite().nonzero()[:, 0].tolist())
        for count in (256, 1000):
            codes, enough = kept(row, SamplingOptions(**chosen), count)
            assert not enough or codes == wanted_codes or on_the_edge(codes ^ wanted_codes, row, chosen)
        assert enough or codes == set(range(1000)) or count == 1000


def on_the_edge(codes: set[int], row: torch.Tensor, chosen: dict[str, Any]) -> bool:
    """One code, before which the sum of the probabilities is `top_p` but for rounding."""
    shares = torch.softmax(row.double() / chosen["temperature"], dim=-1)
    before = [float(shares[shares > shares[code]].sum()) for code in codes]
    return len(codes) == 1 and abs(before[0] - chosen["top_p"]) < 1e-6


def kept(row: torch.Tensor, options: SamplingOptions, count: int) -> tuple[set[int], bool]:
    """The codes that may be drawn, going by the `count` likeliest, and whether that is certain."""
    scaled = row[None] / options.temperature
    total = scaled.logsumexp(-1, keepdim=True)
    _, order, stays, enough = likeliest(scaled, total, choices(1, options), count)
    return set(order[0, stays[0]].tolist()), bool(enough)


def choices(count: int, options: SamplingOptions) -> SamplerState:
    choice = SamplerState.room(count, torch.device("cpu"))
    for place in range(count):
        choice.put(place, options)
    return choice


@pytest.mark.parametrize("options", [FREE, FREE | {"top_p": 0.999}, FREE | {"top_k": 3}], ids=["plain", "p", "k"])
@pytest.mark.parametrize("look", [True, False])
def test_draws_follow_the_probabilities(options: dict[str, Any], look: bool) -> None:
    shares = torch.tensor([0.1, 0.6, 0.3] + [1e-9] * 400)
    chosen = SamplingOptions(**options)
    numbers = torch.rand(5000, 1, generator=torch.Generator().manual_seed(0))
    scores = shares.log().expand(5000, -1)
    drawn = sample(scores, choices(5000, chosen), numbers, frozenset([kind_of(chosen)]), look)
    counted = torch.bincount(drawn, minlength=3) / 5000
    assert (counted[:3] - shares[:3]).abs().max() < 0.02


def test_a_draw_is_the_same_whoever_else_draws() -> None:
    """Greedy, plain, sure of the few and in need of all, by turns and alone."""
    generator = torch.Generator().manual_seed(0)
    options = [
        SamplingOptions(temperature=0),
        SamplingOptions(**FREE),
        SamplingOptions(temperature=0.4, top_p=0.9),
        SamplingOptions(temperature=20.0, top_p=0.95),
        SamplingOptions(top_p=1.0, top_k=7, min_p=0.05),
        SamplingOptions(top_p=0.9, top_k=400),
    ]
    scores = 3 * torch.randn(len(options), 2000, generator=generator)
    numbers = torch.rand(len(options), 1, generator=generator)
    together = SamplerState.room(len(options), torch.device("cpu"))
    for place, option in enumerate(options):
        together.put(place, option)
    every = frozenset(map(kind_of, options))
    drawn = sample(scores, together, numbers, every).tolist()
    assert drawn == sample(scores, together, numbers, every, look=False).tolist()
    for place, option in enumerate(options):
        row = slice(place, place + 1)
        assert (
            drawn[row] == sample(scores[row], choices(1, option), numbers[row], frozenset([kind_of(option)])).tolist()
        )
    assert len(set(drawn)) > 3


@pytest.fixture(scope="module")
def model(random_checkpoint: Path) -> LanguageModel:
    return load_language_model(random_checkpoint, PromptFormat.load(random_checkpoint), "cpu")


def test_a_seed_makes_the_same_take_again_and_another_another(model: LanguageModel) -> None:
    prompt, options = model.prompt_format.prompt("hello"), SamplingOptions(max_seconds=1)
    first, again, other = (list(model.generate(prompt, options, seed)) for seed in (1, 1, 2))
    assert first == again != other


def test_only_codes_come_out_and_at_least_one(model: LanguageModel) -> None:
    prompt = model.prompt_format.prompt("hello")
    for seed in range(30):
        codes = list(model.generate(prompt, SamplingOptions(temperature=5.0, top_p=1.0, max_seconds=0.5), seed))
        assert codes
        assert all(0 <= code < model.prompt_format.code_count for code in codes)


def test_end_and_length_are_told_apart(model: LanguageModel) -> None:
    prompt, ends = model.prompt_format.prompt("hello"), set()
    for seed in range(40):
        generation = model.generate(prompt, SamplingOptions(temperature=5.0, top_p=1.0, max_seconds=1), seed)
        count = len(list(generation))
        ends.add(generation.ended)
        assert generation.ended == (count < 50) or count == 50
    assert ends == {True, False}


def test_length_is_bounded_by_the_context(model: LanguageModel) -> None:
    prompt = model.prompt_format.prompt("hello " * 330)
    generation = model.generate(prompt, SamplingOptions(max_seconds=1000), 0)
    assert generation.limit == 2048 - len(prompt.ids)


def test_closing_stops_the_work(model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    from llasa_cli.lm.kv_cache import Cache

    steps: list[int] = []
    plain = Cache.step
    monkeypatch.setattr(Cache, "step", lambda self, *given: steps.append(1) or plain(self, *given))
    with model.generate(model.prompt_format.prompt("hello"), SamplingOptions(temperature=0), 0) as generation:
        next(generation)
        next(generation)
    assert len(steps) == 2
    assert list(generation) == []
