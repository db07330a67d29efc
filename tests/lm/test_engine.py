"""A sequence's codes are its own: whoever else is in the batch, in whichever slot, whenever they come and go."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from llasa_cli.errors import UsageError
from llasa_cli.lm.attention import Attention
from llasa_cli.lm.engine import Finished, GenerationRequest, SlotEngine
from llasa_cli.lm.loader import LanguageModel, load_language_model
from llasa_cli.prompt import PromptFormat, Reference
from llasa_cli.settings import SamplingOptions
from tests.lm.test_greedy_parity import SMALL, transformers_codes, write_model

TEXTS = [
    "hello",
    "the cat sat on the mat, and then it went away again.",
    "no",
    "one two three four five six",
    "a " * 70,
]


@pytest.fixture(scope="module")
def folder(tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two layers, four heads on two, and outputs that wander."""
    import shutil

    folder = tmp_path_factory.mktemp("batch") / "model"
    shutil.copytree(tokenizer_folder, folder)
    write_model(folder, PromptFormat.load(folder), SMALL | {"tie_word_embeddings": True})
    return folder


@pytest.fixture(scope="module")
def model(folder: Path) -> LanguageModel:
    return load_language_model(folder, PromptFormat.load(folder), "cpu")


def requests(model: LanguageModel) -> list[GenerationRequest]:
    """Short and long prompts, with and without references, drawn in every way, with and without guidance."""
    samplings = [
        SamplingOptions(temperature=0, repetition_penalty=1.5, max_seconds=1),
        SamplingOptions(max_seconds=2),
        SamplingOptions(temperature=3.0, top_p=1.0, max_seconds=1),
        SamplingOptions(top_k=5, repetition_penalty=1.2, guidance=1.7, max_seconds=1),
        SamplingOptions(temperature=1.3, min_p=0.02, max_seconds=3),
        SamplingOptions(guidance=0.5, max_seconds=2),
    ]
    references = [None, Reference("a voice", tuple(range(60))), None, Reference("hm", (1, 2, 3))]
    return [
        GenerationRequest(model.prompt_format.prompt(text, references[n % 4]), samplings[n % 6], seed=n, tag=n)
        for n, text in enumerate(TEXTS * 2 + TEXTS[1:4])
    ]


def spoken(
    batch: SlotEngine, order: list[GenerationRequest], chance: random.Random | None = None
) -> dict[int, Finished]:
    """All of `order`, each put in as soon as a slot is free, or, with `chance`, at some time later."""
    waiting, done = list(order), {}
    while waiting or batch.free < batch.slots:
        while waiting and batch.free and (chance is None or chance.random() < 0.3 or batch.free == batch.slots):
            batch.add(waiting.pop(0))
        done |= {finished.request.tag: finished for finished in batch.step()}
    return done


@pytest.mark.parametrize("slots", [2, 4, 5])
def test_codes_do_not_depend_on_the_others(model: LanguageModel, slots: int) -> None:
    wanted = {}
    for request in requests(model):
        wanted |= spoken(model.batch(slots), [request])
    assert len({finished.codes for finished in wanted.values()}) == len(wanted)
    assert {finished.ended for finished in wanted.values()} == {True, False}
    for seed in range(3):
        chance = random.Random(seed)
        order = chance.sample(requests(model), len(wanted))
        assert spoken(model.batch(slots), order, chance) == wanted


def test_codes_are_those_of_one_alone(model: LanguageModel) -> None:
    """In float32: greedy as the issue asks, and drawn ones too, for seeds mean the same."""
    together = spoken(model.batch(8), requests(model))
    for request in requests(model):
        generation = model.generate(request.prompt, request.sampling, request.seed)
        assert (tuple(generation), generation.ended) == (together[request.tag].codes, together[request.tag].ended)


def test_greedy_codes_are_those_of_transformers(model: LanguageModel, folder: Path) -> None:
    sampling = SamplingOptions(temperature=0, repetition_penalty=1.5, max_seconds=1)
    prompts = [model.prompt_format.prompt(text, Reference("a voice", (1, 2, 3, 60))) for text in TEXTS]
    order = [GenerationRequest(prompt, sampling, 0, tag) for tag, prompt in enumerate(prompts)]
    for tag, finished in spoken(model.batch(3), order).items():
        wanted = transformers_codes(folder, model.prompt_format, prompts[tag].ids, 50, repetition_penalty=1.5)
        assert list(finished.codes) == wanted
        assert len(set(wanted)) > 2


def test_a_dropped_sequence_leaves_no_trace(model: LanguageModel) -> None:
    wanted = spoken(model.batch(2), requests(model))
    batch = model.batch(2)
    long = [
        GenerationRequest(model.prompt_format.prompt("x " * 100), SamplingOptions(max_seconds=9), 5, f"x{n}")
        for n in range(2)
    ]
    batch.add(long[0])
    batch.drop("x0")  # before its prompt was read
    batch.add(long[1])
    for _ in range(40):
        batch.step()
    assert len(batch.codes("x1")) == 40
    batch.drop("x1")
    batch.drop("nobody")
    assert batch.free == 2
    assert batch.step() == []
    assert spoken(batch, requests(model)) == wanted


def test_lengths_at_the_edges(model: LanguageModel) -> None:
    """One code at least, as many as the context leaves at most, and no step without a sequence."""
    batch = model.batch(3)
    assert batch.step() == []
    short = SamplingOptions(max_seconds=0.0001)
    codes = tuple(n % 64 for n in range(1990))
    full = model.prompt_format.prompt("hello", Reference("a", codes))
    for tag, (prompt, sampling) in enumerate(
        [(model.prompt_format.prompt("hello"), short), (full, SamplingOptions(temperature=9.0, top_p=1.0))]
    ):
        batch.add(GenerationRequest(prompt, sampling, 1, tag))
    done = {}
    while batch.free < 3:
        done |= {finished.request.tag: finished for finished in batch.step()}
    assert len(done[0].codes) == 1
    assert done[1].ended or len(done[1].codes) == 2048 - len(full.ids)
    again = model.generate(full, SamplingOptions(temperature=9.0, top_p=1.0), 1)
    assert tuple(again) == done[1].codes


def test_a_full_batch_and_an_impossible_prompt_are_refused(model: LanguageModel) -> None:
    from llasa_cli.prompt import Prompt

    batch = model.batch(1)
    with pytest.raises(ValueError, match="2048"):
        batch.add(GenerationRequest(Prompt((1,) * 2048, 0), SamplingOptions(), 0))
    batch.add(requests(model)[0])
    with pytest.raises(ValueError, match="taken"):
        batch.add(requests(model)[1])
    with pytest.raises(ValueError, match="0 slots"):
        model.batch(0)


def test_what_prompts_begin_with_alike_is_read_once(
    folder: Path, model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llasa_cli.lm.kv_cache import Cache

    fresh = load_language_model(folder, model.prompt_format, "cpu")
    voice = Reference("what the voice says in the clip, which all of the prompts begin with " * 2, (1, 2, 3))
    order = [
        GenerationRequest(model.prompt_format.prompt(text, voice), SamplingOptions(max_seconds=1), 1, tag)
        for tag, text in enumerate(TEXTS[:4])
    ]
    alike = len(__import__("os").path.commonprefix([request.prompt.ids for request in order])) // 32 * 32
    assert alike >= 64
    read: list[int] = []
    plain = Cache.read
    monkeypatch.setattr(
        Cache, "read", lambda self, slot, ids, begin: read.append(len(ids)) or plain(self, slot, ids, begin)
    )
    together = spoken(fresh.batch(4), order)
    assert sum(read) == sum(len(request.prompt.ids) - 1 for request in order) - 3 * alike
    monkeypatch.undo()
    for request in order:
        alone = load_language_model(folder, model.prompt_format, "cpu")
        assert spoken(alone.batch(4), [request])[request.tag] == together[request.tag]


def test_attention_written_out_says_the_same(folder: Path, model: LanguageModel) -> None:
    written = load_language_model(folder, model.prompt_format, "cpu", attention="eager")
    assert written.network.attention.kind == "eager"
    assert spoken(written.batch(3), requests(model)) == spoken(model.batch(3), requests(model))


@pytest.mark.parametrize("attention", ["flash", "fast"])
def test_attention_that_there_is_not_is_a_usage_error(folder: Path, model: LanguageModel, attention: str) -> None:
    with pytest.raises(UsageError, match=attention):
        load_language_model(folder, model.prompt_format, "cpu", attention=attention)


@pytest.mark.parametrize("slots", [1, 64])
def test_one_slot_and_sixty_four(model: LanguageModel, slots: int) -> None:
    together = spoken(model.batch(slots), requests(model))
    assert together == spoken(model.batch(slots), requests(model)[::-1])


@pytest.mark.parametrize(("key_value_heads", "groups"), [(4, 1), (2, 3), (8, 4)])
def test_what_a_slot_sees_does_not_depend_on_the_others_with_two_threads(key_value_heads: int, groups: int) -> None:
    """To the bit, however neighbours share a call; codes alone would show it seldom."""
    generator = torch.Generator().manual_seed(0)
    past = torch.randn(8, 128, 2 * key_value_heads, 64, generator=generator)
    queries = 3 * torch.randn(8, key_value_heads * groups, 64, generator=generator)
    lengths = torch.arange(8, dtype=torch.int32) + 100
    mask = torch.zeros(8, 1, 1, 128).masked_fill(torch.arange(128) >= lengths[:, None, None, None], -torch.inf)
    attention, threads = Attention("sdpa", torch.device("cpu"), torch.float32), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        whole = attention.step(queries, past, lengths, mask)
        for first in range(8):
            for last in range(first + 1, 9):
                some = slice(first, last)
                part = attention.step(queries[some], past[some], lengths[some], mask[some])
                assert torch.equal(part, whole[some])
    finally:
        torch.set_num_threads(threads)
