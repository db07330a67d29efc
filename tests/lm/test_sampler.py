"""Filters keep the codes that transformers keeps; samples follow the probabilities and the seed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from llasa_cli.lm.llama import Llama
from llasa_cli.lm.loader import LanguageModel, load_language_model
from llasa_cli.lm.sampler import SamplerState, sample, sampling_kind, top_candidates
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
        {"top_p": 0.9, "temperature": 20.0},  # so flat that far more than the likeliest few are kept
        {"top_p": 0.95, "top_k": 3},
        {"min_p": 0.1},
        {"temperature": 0.7, "top_k": 30, "top_p": 0.8, "min_p": 0.05},
    ],
    ids=str,
)
def test_filters_keep_the_codes_that_transformers_keeps(options: dict[str, Any]) -> None:
    from transformers import MinPLogitsWarper, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

    chosen = FREE | options
    logits = torch.randn(8, 1000, generator=torch.Generator().manual_seed(0)) * 3
    for row in logits:
        wanted = TemperatureLogitsWarper(chosen["temperature"])(None, row[None])
        if chosen["top_k"]:
            wanted = TopKLogitsWarper(chosen["top_k"])(None, wanted)
        if chosen["top_p"] < 1:
            wanted = TopPLogitsWarper(chosen["top_p"])(None, wanted)
        if chosen["min_p"]:
            wanted = MinPLogitsWarper(chosen["min_p"])(None, wanted)
        wanted_codes = set(wanted[0].isfinite().nonzero()[:, 0].tolist())
        for count in (256, 1000):
            codes, is_certain = kept(row, SamplingOptions(**chosen), count)
            assert not is_certain or codes == wanted_codes or on_the_edge(codes ^ wanted_codes, row, chosen)
        assert is_certain or codes == set(range(1000)) or count == 1000


def on_the_edge(codes: set[int], row: torch.Tensor, chosen: dict[str, Any]) -> bool:
    """Whether the sets differ in one code, before which the probabilities add up to `top_p` but for rounding."""
    probabilities = torch.softmax(row.double() / chosen["temperature"], dim=-1)
    before = [float(probabilities[probabilities > probabilities[code]].sum()) for code in codes]
    return len(codes) == 1 and abs(before[0] - chosen["top_p"]) < 1e-6


def kept(row: torch.Tensor, options: SamplingOptions, count: int) -> tuple[set[int], bool]:
    """The codes that are kept among the `count` likeliest, and whether no other is."""
    scaled = row[None] / options.temperature
    total = scaled.logsumexp(-1, keepdim=True)
    _, order, is_kept, is_certain = top_candidates(scaled, total, state_of(1, options), count)
    return set(order[0, is_kept[0]].tolist()), bool(is_certain)


def state_of(count: int, options: SamplingOptions) -> SamplerState:
    state = SamplerState.greedy(count, torch.device("cpu"))
    for index in range(count):
        state.set(index, options)
    return state


@pytest.mark.parametrize("options", [FREE, FREE | {"top_p": 0.999}, FREE | {"top_k": 3}], ids=["plain", "p", "k"])
@pytest.mark.parametrize("early_exit", [True, False])
def test_samples_follow_the_probabilities(options: dict[str, Any], early_exit: bool) -> None:
    probabilities = torch.tensor([0.1, 0.6, 0.3] + [1e-9] * 400)
    chosen = SamplingOptions(**options)
    u = torch.rand(5000, 1, generator=torch.Generator().manual_seed(0))
    logits = probabilities.log().expand(5000, -1)
    sampled = sample(logits, state_of(5000, chosen), u, frozenset([sampling_kind(chosen)]), early_exit)
    counted = torch.bincount(sampled, minlength=3) / 5000
    assert (counted[:3] - probabilities[:3]).abs().max() < 0.02


def test_a_sample_does_not_depend_on_the_other_sequences() -> None:
    """Greedy, plain, filtered with few and with many kept codes; together and alone, with and without early exit."""
    generator = torch.Generator().manual_seed(0)
    options = [
        SamplingOptions(temperature=0),
        SamplingOptions(**FREE),
        SamplingOptions(temperature=0.4, top_p=0.9),
        SamplingOptions(temperature=20.0, top_p=0.95),
        SamplingOptions(top_p=1.0, top_k=7, min_p=0.05),
        SamplingOptions(top_p=0.9, top_k=400),
    ]
    logits = 3 * torch.randn(len(options), 2000, generator=generator)
    u = torch.rand(len(options), 1, generator=generator)
    together = SamplerState.greedy(len(options), torch.device("cpu"))
    for index, option in enumerate(options):
        together.set(index, option)
    every = frozenset(map(sampling_kind, options))
    sampled = sample(logits, together, u, every).tolist()
    assert sampled == sample(logits, together, u, every, early_exit=False).tolist()
    for index, option in enumerate(options):
        row = slice(index, index + 1)
        assert (
            sampled[row]
            == sample(logits[row], state_of(1, option), u[row], frozenset([sampling_kind(option)])).tolist()
        )
    assert len(set(sampled)) > 3


@pytest.fixture(scope="module")
def model(random_checkpoint: Path) -> LanguageModel:
    return load_language_model(random_checkpoint, PromptFormat.load(random_checkpoint), "cpu")


def test_a_seed_repeats_the_codes_and_another_seed_changes_them(model: LanguageModel) -> None:
    prompt, options = model.prompt_format.prompt("hello"), SamplingOptions(max_seconds=1)
    first, again, other = (list(model.generate(prompt, options, seed)) for seed in (1, 1, 2))
    assert first == again != other


def test_a_generation_has_only_speech_codes_and_at_least_one(model: LanguageModel) -> None:
    prompt = model.prompt_format.prompt("hello")
    for seed in range(10):
        codes = list(model.generate(prompt, SamplingOptions(temperature=5.0, top_p=1.0, max_seconds=0.3), seed))
        assert codes
        assert all(0 <= code < model.prompt_format.code_count for code in codes)


def test_a_generation_tells_end_from_limit(model: LanguageModel) -> None:
    prompt, ends, seed = model.prompt_format.prompt("hello"), set(), 0
    while ends != {True, False}:
        assert seed < 40, ends
        generation = model.generate(prompt, SamplingOptions(temperature=5.0, top_p=1.0, max_seconds=1), seed)
        count = len(list(generation))
        ends.add(generation.ended)
        assert generation.ended == (count < 50) or count == 50
        seed += 1


def test_the_context_bounds_the_limit(model: LanguageModel) -> None:
    prompt = model.prompt_format.prompt("hello " * 330)
    generation = model.generate(prompt, SamplingOptions(max_seconds=1000), 0)
    assert generation.limit == 2048 - len(prompt.ids)


def test_closing_stops_generation(model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []
    decode = Llama.decode
    monkeypatch.setattr(Llama, "decode", lambda self, *given: steps.append(1) or decode(self, *given))
    with model.generate(model.prompt_format.prompt("hello"), SamplingOptions(temperature=0), 0) as generation:
        next(generation)
        next(generation)
    assert len(steps) == 2
    assert list(generation) == []
