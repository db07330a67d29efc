"""Filters are those of transformers; draws follow the probabilities and the seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from llasa_cli.lm.load import LanguageModel, load_language_model
from llasa_cli.lm.sample import draw, keep
from llasa_cli.protocol import Protocol
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
        assert torch.equal(keep(row, SamplingOptions(**chosen)), wanted[0])


def test_draws_follow_the_probabilities() -> None:
    generator = torch.Generator().manual_seed(0)
    shares = torch.tensor([0.6, 0.3, 0.1])
    drawn = [draw(shares.log(), SamplingOptions(**FREE), generator) for _ in range(2000)]
    counted = torch.bincount(torch.tensor(drawn), minlength=3) / 2000
    assert (counted - shares).abs().max() < 0.04


@pytest.fixture(scope="module")
def model(random_checkpoint: Path) -> LanguageModel:
    return load_language_model(random_checkpoint, Protocol.load(random_checkpoint), "cpu")


def test_a_seed_makes_the_same_take_again_and_another_another(model: LanguageModel) -> None:
    prompt, options = model.protocol.prompt("hello"), SamplingOptions(max_seconds=1)
    first, again, other = (list(model.generate(prompt, options, seed)) for seed in (1, 1, 2))
    assert first == again != other


def test_only_codes_come_out_and_at_least_one(model: LanguageModel) -> None:
    prompt = model.protocol.prompt("hello")
    for seed in range(30):
        codes = list(model.generate(prompt, SamplingOptions(temperature=5.0, top_p=1.0, max_seconds=0.5), seed))
        assert codes
        assert all(0 <= code < model.protocol.code_count for code in codes)


def test_end_and_length_are_told_apart(model: LanguageModel) -> None:
    prompt, ends = model.protocol.prompt("hello"), set()
    for seed in range(40):
        generation = model.generate(prompt, SamplingOptions(temperature=5.0, top_p=1.0, max_seconds=1), seed)
        count = len(list(generation))
        ends.add(generation.ended)
        assert generation.ended == (count < 50) or count == 50
    assert ends == {True, False}


def test_length_is_bounded_by_the_context(model: LanguageModel) -> None:
    prompt = model.protocol.prompt("hello " * 330)
    generation = model.generate(prompt, SamplingOptions(max_seconds=1000), 0)
    assert generation.limit == 2048 - len(prompt.ids)


def test_closing_stops_the_work(model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    from llasa_cli.lm.network import Stream

    fed: list[int] = []
    plain = Stream.feed
    monkeypatch.setattr(Stream, "feed", lambda self, ids: fed.append(len(ids)) or plain(self, ids))
    with model.generate(model.protocol.prompt("hello"), SamplingOptions(temperature=0), 0) as generation:
        next(generation)
        next(generation)
    assert len(fed) == 2
    assert list(generation) == []
