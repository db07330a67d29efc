"""A sequence's codes depend on nothing else in the batch: not on the other sequences, the slot, or when they come and go."""

from __future__ import annotations

import random
import resource
import shutil
import sys
from pathlib import Path

import pytest
import torch

from llasa_cli.errors import UsageError
from llasa_cli.lm.attention import Attention
from llasa_cli.lm.cpu.build import load_kernels
from llasa_cli.lm.engine import TURN, EnginePool, SlotEngine
from llasa_cli.lm.kv_cache import KVCache
from llasa_cli.lm.llama import Llama
from llasa_cli.lm.loader import LanguageModel, load_language_model
from llasa_cli.lm.prefix_cache import PREFILL_BLOCK
from llasa_cli.lm.request import Finished, GenerationRequest
from llasa_cli.prompt import Prompt, PromptFormat, Reference
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
    """Two layers, four heads on two key-value heads, and outputs that vary."""
    folder = tmp_path_factory.mktemp("batch") / "model"
    shutil.copytree(tokenizer_folder, folder)
    write_model(folder, PromptFormat.load(folder), SMALL | {"tie_word_embeddings": True})
    return folder


@pytest.fixture(scope="module")
def model(folder: Path) -> LanguageModel:
    return load_language_model(folder, PromptFormat.load(folder), "cpu")


def requests(model: LanguageModel) -> list[GenerationRequest]:
    """Short and long prompts, with and without references, with every kind of sampling, with and without guidance."""
    samplings = [
        SamplingOptions(temperature=0, repetition_penalty=1.5, max_seconds=0.3),
        SamplingOptions(max_seconds=0.5),
        SamplingOptions(temperature=3.0, top_p=1.0, max_seconds=0.2),
        SamplingOptions(top_k=5, repetition_penalty=1.2, guidance=1.7, max_seconds=0.3),
        SamplingOptions(temperature=1.3, min_p=0.02, max_seconds=0.7),
        SamplingOptions(guidance=0.5, max_seconds=0.4),
    ]
    references = [None, Reference("a voice", tuple(range(60))), None, Reference("hm", (1, 2, 3))]
    return [
        GenerationRequest(model.prompt_format.prompt(text, references[n % 4]), samplings[n % 6], seed=n, tag=n)
        for n, text in enumerate(TEXTS + TEXTS[1:4])
    ]


def generate_all(
    batch: SlotEngine | EnginePool, order: list[GenerationRequest], chance: random.Random | None = None
) -> dict[int, Finished]:
    """Generate all of `order`, each added as soon as a slot is free or, with `chance`, some steps later."""
    waiting, done = list(order), {}
    while waiting or batch.free < batch.slots:
        while waiting and batch.free and (chance is None or chance.random() < 0.3 or batch.free == batch.slots):
            batch.add(waiting.pop(0))
        done |= {finished.request.tag: finished for finished in batch.step()}
    return done


def assert_equal_codes(found: dict[int, Finished], wanted: dict[int, Finished]) -> None:
    """The same codes, with likelihoods that differ in their last digits at most: they were computed in another way."""
    assert {tag: (one.codes, one.ended) for tag, one in found.items()} == {
        tag: (one.codes, one.ended) for tag, one in wanted.items()
    }
    for tag, one in found.items():
        assert one.log_probability == pytest.approx(wanted[tag].log_probability, rel=1e-4)


@pytest.mark.parametrize("slots", [2, pytest.param(3, marks=pytest.mark.slow), 4])
def test_codes_do_not_depend_on_the_other_sequences(model: LanguageModel, slots: int) -> None:
    wanted = {}
    for request in requests(model):
        wanted |= generate_all(model.batch(slots), [request])
    assert len({finished.codes for finished in wanted.values()}) == len(wanted)
    assert {finished.ended for finished in wanted.values()} == {True, False}
    for seed in range(2):
        chance = random.Random(seed)
        order = chance.sample(requests(model), len(wanted))
        assert generate_all(model.batch(slots), order, chance) == wanted


def test_a_batch_generates_the_codes_of_each_sequence_alone(model: LanguageModel) -> None:
    """In float32, greedy and sampled: a seed means the same in a batch."""
    together = generate_all(model.batch(5), requests(model))
    for request in requests(model):
        generation = model.generate(request.prompt, request.sampling, request.seed)
        assert (tuple(generation), generation.ended) == (together[request.tag].codes, together[request.tag].ended)


@pytest.mark.skipif(load_kernels() is None, reason="no C compiler")
@pytest.mark.parametrize("dtype", ["int8", "int4"])
def test_with_integer_weights_a_batch_of_any_size_has_the_bits_of_each_sequence_alone(folder: Path, dtype: str) -> None:
    """So a seed gives the same sound in `say` and in `batch`."""
    model = load_language_model(folder, PromptFormat.load(folder), "cpu", dtype)
    found = {slots: generate_all(model.batch(slots), requests(model)) for slots in (1, 3, 8)}
    for request in requests(model):
        generation = model.generate(request.prompt, request.sampling, request.seed)
        assert (tuple(generation), generation.ended) == (found[1][request.tag].codes, found[1][request.tag].ended)
    for slots in (3, 8):
        assert {tag: (one.codes, one.log_probability) for tag, one in found[slots].items()} == {
            tag: (one.codes, one.log_probability) for tag, one in found[1].items()
        }


@pytest.mark.parametrize("takes", [1, 3])
@pytest.mark.parametrize("fused_rows", [0, None], ids=["torch", "here"])
def test_takes_have_the_same_bits_in_an_exact_batch_of_any_size(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch, takes: int, fused_rows: int | None
) -> None:
    if fused_rows is not None:
        monkeypatch.setattr(Llama, "fused_rows", fused_rows)
    wanted = generate_all(model.takes_batch(takes), requests(model))
    found = generate_all(model.exact_batch(5, takes), requests(model))
    assert {tag: (one.codes, one.log_probability) for tag, one in found.items()} == {
        tag: (one.codes, one.log_probability) for tag, one in wanted.items()
    }


def test_greedy_codes_equal_those_of_transformers(model: LanguageModel, folder: Path) -> None:
    sampling = SamplingOptions(temperature=0, repetition_penalty=1.5, max_seconds=1)
    prompts = [model.prompt_format.prompt(text, Reference("a voice", (1, 2, 3, 60))) for text in TEXTS]
    order = [GenerationRequest(prompt, sampling, 0, tag) for tag, prompt in enumerate(prompts)]
    for tag, finished in generate_all(model.batch(3), order).items():
        wanted = transformers_codes(folder, model.prompt_format, prompts[tag].ids, 50, repetition_penalty=1.5)
        assert list(finished.codes) == wanted
        assert len(set(wanted)) > 2


@pytest.mark.parametrize("most_rows", [1, 2, 3])
@pytest.mark.parametrize("threads", [1, 2])
def test_sequences_that_take_turns_have_the_codes_that_they_have_alone(
    folder: Path, most_rows: int, threads: int
) -> None:
    """With guidance and without; with integers, whose bits don't depend on the number of rows."""
    model = load_language_model(folder, PromptFormat.load(folder), "cpu", "int8")
    if not model.network.fused_rows:
        pytest.skip("no C compiler")
    engine = SlotEngine(model.network, model.prompt_format, 4, is_exact=True, threads=threads, most_rows=most_rows)
    alone = {one.tag: tuple(model.generate(one.prompt, one.sampling, one.seed)) for one in requests(model)}
    found = generate_all(engine, requests(model), random.Random(0))
    assert {tag: one.codes for tag, one in found.items()} == alone


def test_no_sequence_waits_longer_than_a_turn_of_each_of_the_others(folder: Path) -> None:
    model = load_language_model(folder, PromptFormat.load(folder), "cpu", "int8")
    if not model.network.fused_rows:
        pytest.skip("no C compiler")
    engine = SlotEngine(model.network, model.prompt_format, 4, most_rows=2)
    prompt, waited, counts = model.prompt_format.prompt("hello"), [0] * 4, [0] * 4
    for tag in range(4):
        engine.add(GenerationRequest(prompt, SamplingOptions(temperature=0.01, max_seconds=20), tag, tag))
    for number in range(10 * TURN):
        finished = {one.request.tag for one in engine.step()}
        for tag in finished:  # a new one in its place; it must not overtake the others
            engine.add(GenerationRequest(prompt, SamplingOptions(temperature=0.01, max_seconds=20), number, tag))
        lengths = [len(engine.codes(tag)) for tag in range(4)]
        assert sum(length != count for length, count in zip(lengths, counts, strict=True)) <= 2 + len(finished)
        waited = [0 if length != count else one + 1 for length, count, one in zip(lengths, counts, waited, strict=True)]
        assert max(waited) <= 2 * TURN
        counts = lengths


def test_a_dropped_sequence_changes_no_later_one(model: LanguageModel) -> None:
    wanted = generate_all(model.batch(2), requests(model))
    batch = model.batch(2)
    long = [
        GenerationRequest(model.prompt_format.prompt("x " * 100), SamplingOptions(max_seconds=9), 5, f"x{n}")
        for n in range(2)
    ]
    batch.add(long[0])
    batch.drop("x0")  # before its prompt is prefilled
    batch.add(long[1])
    for _ in range(40):
        batch.step()
    assert len(batch.codes("x1")) == 40
    batch.drop("x1")
    batch.drop("unknown")
    assert batch.free == 2
    assert batch.step() == []
    assert generate_all(batch, requests(model)) == wanted


def test_a_sequence_has_at_least_one_code_and_at_most_what_the_context_leaves(model: LanguageModel) -> None:
    batch = model.batch(3)
    assert batch.step() == []
    short = SamplingOptions(max_seconds=0.02)
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
    alone = model.generate(full, SamplingOptions(temperature=9.0, top_p=1.0), 1)
    assert tuple(alone) == done[1].codes


def test_a_full_batch_and_an_impossible_prompt_are_refused(model: LanguageModel) -> None:
    batch = model.batch(1)
    with pytest.raises(ValueError, match="2048"):
        batch.add(GenerationRequest(Prompt((1,) * 2048, 0), SamplingOptions(), 0))
    batch.add(requests(model)[0])
    with pytest.raises(ValueError, match="taken"):
        batch.add(requests(model)[1])
    with pytest.raises(ValueError, match="at least one slot"):
        model.batch(0)


def test_a_prefix_that_prompts_share_is_prefilled_once(
    folder: Path, model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    fresh = load_language_model(folder, model.prompt_format, "cpu")
    voice = Reference("the transcript of the clip, with which all of the prompts begin " * 2, (1, 2, 3))
    order = [
        GenerationRequest(model.prompt_format.prompt(text, voice), SamplingOptions(max_seconds=1), 1, tag)
        for tag, text in enumerate(TEXTS[:4])
    ]
    columns = zip(*(request.prompt.ids for request in order), strict=False)
    shared = next(count for count, ids in enumerate(columns) if len(set(ids)) > 1) // PREFILL_BLOCK * PREFILL_BLOCK
    assert shared >= 2 * PREFILL_BLOCK
    prefilled: list[int] = []
    extend = Llama.extend

    def counting_extend(network: Llama, cache: KVCache, slot: int, ids: torch.Tensor, begin: int) -> None:
        prefilled.append(len(ids))
        extend(network, cache, slot, ids, begin)

    monkeypatch.setattr(Llama, "extend", counting_extend)
    together = generate_all(fresh.batch(4), order)
    assert sum(prefilled) == sum(len(request.prompt.ids) - 1 for request in order) - 3 * shared
    monkeypatch.undo()
    for request in order:
        alone = load_language_model(folder, model.prompt_format, "cpu")
        assert generate_all(alone.batch(4), [request])[request.tag] == together[request.tag]


def test_eager_attention_generates_the_same_codes(folder: Path, model: LanguageModel) -> None:
    eager = load_language_model(folder, model.prompt_format, "cpu", attention="eager")
    assert eager.network.attention.kind == "eager"
    assert_equal_codes(generate_all(eager.batch(3), requests(model)), generate_all(model.batch(3), requests(model)))


def test_the_likelihood_is_that_of_the_codes_and_of_the_end(model: LanguageModel) -> None:
    first, network = model.prompt_format.first_code_id, model.network
    for finished in generate_all(model.batch(4), requests(model)).values():
        stream, total = network.stream(2048), 0.0
        logits = stream.feed(torch.tensor(finished.request.prompt.ids))
        for code in finished.codes:
            total += float(logits.log_softmax(-1)[code])
            logits = stream.feed(torch.tensor([code + first]))
        if finished.ended:
            total += float(logits.log_softmax(-1)[-1])
        assert finished.log_probability == pytest.approx(total, rel=1e-3)


def test_sequences_with_one_prompt_share_its_prefill(model: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    for guidance in (1.0, 1.5):
        sampling = SamplingOptions(max_seconds=1, guidance=guidance)
        prompt = model.prompt_format.prompt(TEXTS[1])
        order = [GenerationRequest(prompt, sampling, seed, seed) for seed in range(4)]
        alone: dict[int, Finished] = {}
        for request in order:
            alone |= generate_all(model.batch(4), [request])
        count, prefill = [], Llama.prefill
        with monkeypatch.context() as patch:
            patch.setattr(Llama, "prefill", lambda *given: count.append(1) or prefill(*given))  # noqa: B023
            assert generate_all(model.batch(4), order) == alone
        assert len(count) == (1 if guidance == 1 else 2)


def test_a_sequence_continues_the_codes_of_another_from_its_cache(
    model: LanguageModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    for guidance in (1.0, 1.5):
        sampling = SamplingOptions(max_seconds=1.2, guidance=guidance, repetition_penalty=1.1)
        prompt = model.prompt_format.prompt(TEXTS[3])
        batch = model.batch(4)
        batch.add(GenerationRequest(prompt, sampling, 1, "first"))
        while len(batch.codes("first")) < 8:
            assert not batch.step()
        begun = tuple(batch.codes("first"))
        fork = GenerationRequest(prompt, sampling, 7, "fork", begun)
        with monkeypatch.context() as patch:
            patch.setattr(Llama, "prefill", None)  # the fork copies, and computes nothing
            batch.add(fork)
            done: dict[str, Finished] = {}
            while batch.free < 4:
                done |= {finished.request.tag: finished for finished in batch.step()}
        recomputed = generate_all(model.batch(4), [fork])
        assert done["fork"].codes[:8] == begun
        assert done["fork"].codes != done["first"].codes
        assert done["fork"].codes == recomputed["fork"].codes  # type: ignore[index]
        same = GenerationRequest(prompt, sampling, 1, "same", begun)
        assert generate_all(model.batch(4), [same])["same"].codes == done["first"].codes  # type: ignore[index]


@pytest.mark.parametrize("attention", ["flash", "fast"])
def test_an_attention_that_is_not_available_is_a_usage_error(
    folder: Path, model: LanguageModel, attention: str
) -> None:
    with pytest.raises(UsageError, match=attention):
        load_language_model(folder, model.prompt_format, "cpu", attention=attention)


@pytest.mark.parametrize("slots", [1, 64])
def test_the_order_of_requests_changes_no_code(model: LanguageModel, slots: int) -> None:
    together = generate_all(model.batch(slots), requests(model))
    assert together == generate_all(model.batch(slots), requests(model)[::-1])


@pytest.mark.parametrize(("key_value_heads", "groups"), [(4, 1), (2, 3), (8, 4)])
def test_attention_of_a_slot_does_not_depend_on_the_others_with_two_threads(key_value_heads: int, groups: int) -> None:
    """To the bit, however neighboring slots share a call; in the codes a difference would rarely show."""
    generator = torch.Generator().manual_seed(0)
    past = torch.randn(8, 128, 2 * key_value_heads, 64, generator=generator)
    queries = 3 * torch.randn(8, key_value_heads * groups, 64, generator=generator)
    lengths = torch.arange(8, dtype=torch.int32) + 100
    mask = torch.zeros(8, 1, 1, 128).masked_fill(torch.arange(128) >= lengths[:, None, None, None], -torch.inf)
    attention, threads = Attention("sdpa", torch.device("cpu"), torch.float32), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        whole = attention.decode(queries, past, lengths, mask)
        for first in range(8):
            for last in range(first + 1, 9):
                some = slice(first, last)
                part = attention.decode(queries[some], past[some], lengths[some], mask[some])
                assert torch.equal(part, whole[some])
    finally:
        torch.set_num_threads(threads)


@pytest.mark.skipif(sys.platform != "linux", reason="memory is mapped on Linux")
def test_a_cache_that_does_not_fit_is_a_shortage_of_memory_and_a_long_one_takes_none_before_its_use(
    model: LanguageModel,
) -> None:
    """The batch answers the shortage with fewer slots (`synthesis.batched.is_out_of_memory`)."""
    with pytest.raises(MemoryError, match="bytes of keys and values"):
        model.network.new_cache(1 << 40, 2048)
    before = resident_bytes()
    cache = model.network.new_cache(20_000, 2048)
    assert cache.tensor.nbytes > 1 << 30
    assert resident_bytes() - before < 50 << 20


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
