"""The fused step gives the logits of the same network computed call by call, in every format and at every length."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
import torch

from llasa_cli.errors import ModelError
from llasa_cli.lm import linear
from llasa_cli.lm.attention import Attention
from llasa_cli.lm.cpu import build
from llasa_cli.lm.cpu.build import load_kernels
from llasa_cli.lm.engine import SlotEngine
from llasa_cli.lm.linear import INTEGER_FORMATS
from llasa_cli.lm.loader import LanguageModel, load_language_model
from llasa_cli.lm.request import GenerationRequest
from llasa_cli.prompt import PromptFormat, Reference
from llasa_cli.settings import SamplingOptions
from tests.lm.test_greedy_parity import LLAMA3, SMALL, transformers_codes, write_model

pytestmark = pytest.mark.skipif(load_kernels() is None, reason="no C compiler")
FORMATS = ("fp32", "bf16", "fp16", "int8", "int4")
CONFIGS: dict[str, dict[str, Any]] = {
    "4 heads on 2, width 16": SMALL | {"tie_word_embeddings": True},
    "6 heads on 3, width 64; widths that fill no block": SMALL
    | {
        "hidden_size": 144,
        "intermediate_size": 176,
        "num_attention_heads": 6,
        "num_key_value_heads": 3,
        "head_dim": 64,
    },
    "8 heads on 1, width 128; widths of several spans": SMALL
    | {"hidden_size": 1040, "intermediate_size": 1168, "num_attention_heads": 8, "num_key_value_heads": 1}
    | {"num_hidden_layers": 1, "head_dim": 128, "rope_parameters": LLAMA3},
    "Qwen 2": SMALL | {"model_type": "qwen2", "hidden_size": 64, "head_dim": 16},
    "Qwen 3": SMALL | {"model_type": "qwen3", "head_dim": 32},
}


@pytest.fixture(scope="module", params=CONFIGS)
def folder(request: pytest.FixtureRequest, tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tokenizer_folder, tmp_path_factory.mktemp("fused"), CONFIGS[request.param])


@pytest.fixture(scope="module")
def four_heads(tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tokenizer_folder, tmp_path_factory.mktemp("heads"), CONFIGS["4 heads on 2, width 16"])


def write_checkpoint(tokenizer_folder: Path, path: Path, config: dict[str, Any]) -> Path:
    shutil.copytree(tokenizer_folder, path, dirs_exist_ok=True)
    write_model(path, PromptFormat.load(path), config)
    return path


@pytest.fixture(autouse=True)
def _kernels_for_matrices_of_any_size(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(linear, "SMALL_MATRIX", 0)
    yield
    load_kernels.cache_clear()


@lru_cache(len(FORMATS))
def load(folder: Path, kind: str) -> LanguageModel:
    """A model that several tests share; a test that changes it changes it back."""
    return load_anew(folder, kind)


def load_anew(folder: Path, kind: str) -> LanguageModel:
    return load_language_model(folder, PromptFormat.load(folder), "cpu", kind)


@torch.inference_mode()
def logits_of(model: LanguageModel, count: int = 24) -> torch.Tensor:
    """Logits after a prompt and after each of `count` codes: float32 (count + 1, codes + 1)."""
    stream = model.network.stream(200)
    ids = torch.randint(model.prompt_format.code_count, (count,), generator=torch.Generator().manual_seed(1))
    prompt = torch.tensor(model.prompt_format.prompt("hello there").ids)
    return torch.stack(
        [stream.feed(prompt), *(stream.feed(model.prompt_format.first_code_id + one[None]) for one in ids)]
    )


def relative_error(some: torch.Tensor, others: torch.Tensor) -> float:
    """Root mean square of the difference, over the standard deviation."""
    return float((some - others).square().mean().sqrt() / others.std())


@pytest.mark.parametrize("kind", FORMATS)
def test_logits_equal_those_computed_call_by_call(folder: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = load(folder, kind)
    assert model.network._fused_step is not None
    fused = logits_of(model)
    monkeypatch.setattr(model.network, "_fused_step", None)
    monkeypatch.setattr(model.network, "attention", Attention("sdpa", torch.device("cpu"), torch.float32))
    # 16-bit states, and states split into 16-bit parts, are rounded; nothing else may differ.
    assert relative_error(fused, logits_of(model)) < (2e-3 if kind in ("int8", "int4", "bf16") else 1e-5)
    assert fused.std() > 0.1


@pytest.mark.parametrize(("kind", "limit"), [("fp32", 1e-5), ("bf16", 0.1), ("fp16", 0.02), ("int8", 0.2)])
def test_logits_are_close_to_those_of_torch(
    folder: Path, kind: str, limit: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch's products take states in the weights' own 16 bit, and bfloat16 states for integers; hence the limits."""
    fused = logits_of(load(folder, kind))
    monkeypatch.setenv(build.ENVIRONMENT_VARIABLE, "torch")
    load_kernels.cache_clear()
    without = load_anew(folder, kind)
    assert without.network._fused_step is None
    assert without.network.attention.kind == "sdpa"
    assert relative_error(fused, logits_of(without)) < limit


@pytest.mark.parametrize("kind", FORMATS)
@torch.inference_mode()
def test_the_number_of_threads_changes_no_bit(folder: Path, kind: str) -> None:
    model, threads, found = load(folder, kind), torch.get_num_threads(), []
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(1)  # the prompt is prefilled by torch, which may round differently with more
            stream = model.network.stream(200)
            stream.feed(torch.tensor(model.prompt_format.prompt("hello there").ids))
            torch.set_num_threads(count)
            found.append(
                torch.stack([stream.feed(torch.tensor([model.prompt_format.first_code_id + n])) for n in range(2)])
            )
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("kind", FORMATS)
@torch.inference_mode()
def test_a_sequence_gets_the_same_bits_beside_others(folder: Path, kind: str, threads: int) -> None:
    """Sequences of different lengths in one call, in any slots, each compared with a step of its own."""
    model = load(folder, kind)
    network, first = model.network, model.prompt_format.first_code_id
    count = 11 if kind in INTEGER_FORMATS else 4
    prompts = [torch.tensor(model.prompt_format.prompt("hello there, " * (n % 7)).ids) for n in range(count)]
    tokens = [torch.cat([prompt[-1:], first + torch.arange(3) * 7 + slot]) for slot, prompt in enumerate(prompts)]
    alone = []
    for prompt, own in zip(prompts, tokens, strict=True):
        stream = network.stream(300)
        alone.append([stream.feed(prompt), *(stream.feed(token[None]) for token in own[1:])])
    for slots in ([1], [0, 1], [2, 0, 3], [3, 1, 2, 0], list(range(5)), [10, 2, 8, 5, 6, 4, 1], list(range(11))):
        if max(slots) >= count:
            continue
        cache = network.new_cache(count, 300)
        for slot in slots:
            network.extend(cache, slot, prompts[slot][:-1], 0)
        for step in range(4):
            ids = torch.stack([tokens[slot][step] for slot in slots])
            positions = [len(prompts[slot]) - 1 + step for slot in slots]
            logits = network.decode_rows(cache, slots, ids, positions, threads)
            for row, slot in enumerate(slots):
                assert torch.equal(logits[row], alone[slot][step]), (slots, slot)


def test_greedy_codes_equal_those_of_transformers_alone_and_in_a_batch(four_heads: Path) -> None:
    model = load_anew(four_heads, "fp32")
    sampling = SamplingOptions(temperature=0, repetition_penalty=1.5, max_seconds=1)
    prompts = [model.prompt_format.prompt("a cat " * n, Reference("a voice", (1, 2, 3, 60))) for n in range(1, 7)]
    batch = model.batch(4)
    done: dict[int, list[int]] = {}
    waiting = [GenerationRequest(prompt, sampling, 0, tag) for tag, prompt in enumerate(prompts)]
    while waiting or batch.free < 4:
        while waiting and batch.free:
            batch.add(waiting.pop())
        done |= {finished.request.tag: list(finished.codes) for finished in batch.step()}
    for tag, prompt in enumerate(prompts):
        assert list(model.generate(prompt, sampling, 0)) == done[tag]
    assert done[3] == transformers_codes(four_heads, model.prompt_format, prompts[3].ids, 50, repetition_penalty=1.5)
    assert len(set(done[3])) > 2


@pytest.mark.parametrize("guidance", [0.5, 1.5])
def test_guided_greedy_codes_equal_those_of_transformers(four_heads: Path, guidance: float) -> None:
    model = load_anew(four_heads, "fp32")
    assert model.network.fused_rows >= 2
    prompt = model.prompt_format.prompt("and now this.", Reference("a voice", (1, 2, 3, 60)))
    made = list(model.generate(prompt, SamplingOptions(temperature=0, max_seconds=1, guidance=guidance), 0))
    unconditional = torch.tensor([prompt.unconditional])
    options = {"guidance_scale": guidance, "negative_prompt_ids": unconditional}
    assert made == transformers_codes(four_heads, model.prompt_format, prompt.ids, 50, **options)


@torch.inference_mode()
def test_steps_in_several_threads_and_in_a_forked_process_have_their_own_bits(four_heads: Path) -> None:
    """The threads that share a step serve one caller at a time, and a forked process has none of its parent's."""
    network = load(four_heads, "int8").network
    ids = torch.arange(16) + 100

    def logits(threads: int) -> torch.Tensor:
        slots = list(range(16))
        with torch.inference_mode():
            steps = [network.decode_rows(network.new_cache(16, 1), slots, ids, [0] * 16, threads) for _ in range(50)]
        return torch.stack(steps)

    alone = logits(1)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: logits(3), range(8)):
            assert torch.equal(found, alone)
    child = os.fork()
    if not child:
        os._exit(not torch.equal(logits(3), alone))
    assert os.waitpid(child, 0)[1] == 0
    assert torch.equal(logits(3), alone)


@pytest.mark.parametrize(("threads", "most_rows"), [(1, None), (2, None), (2, 2), (1, 4)])
@torch.inference_mode()
def test_takes_of_one_prompt_have_their_own_bits_while_others_come_and_go(
    folder: Path, threads: int, most_rows: int | None
) -> None:
    """They read the prompt's keys and values from the slot of the first; that one is given up and taken for another prompt."""
    model = load(folder, "int8")
    long = model.prompt_format.prompt("hello there, " * 6, Reference("a voice", tuple(range(40))))
    other = model.prompt_format.prompt("and now this, " * 5, Reference("a voice", tuple(range(50, 10, -1))))
    sampling = SamplingOptions(temperature=1, max_seconds=1)
    requests = [GenerationRequest(long, sampling, seed, seed) for seed in range(6)]
    late = [GenerationRequest(prompt, sampling, seed, seed) for seed, prompt in enumerate((other, long), 6)]
    alone = {one.tag: list(model.generate(one.prompt, sampling, one.seed)) for one in requests[1:] + late}
    engine = SlotEngine(model.network, model.prompt_format, 6, threads=threads, most_rows=most_rows)
    found: dict[int, list[int]] = {}
    for request in requests:
        engine.add(request)
    for number in range(120 if most_rows is None else 600):
        if number == 7:
            engine.drop(0)
            engine.add(late[0])
        if number > 8 and late[1].tag not in found and engine.free:
            engine.add(late[1])
            found[late[1].tag] = []
        for one in engine.step():
            found[one.request.tag] = list(one.codes)
    assert {tag: codes for tag, codes in found.items() if tag} == alone
    assert max(map(len, alone.values())) > 20


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("broken", ["middle_norm", "input_norm", "norm"])
def test_logits_that_are_not_finite_are_an_error(four_heads: Path, kind: str, broken: str) -> None:
    """Neither the quantization of the states nor a comparison with NaN hides them."""
    model = load_anew(four_heads, kind)
    holder = model.network if broken == "norm" else model.network.layers[1]
    getattr(holder, broken)[3] = float("nan")
    with pytest.raises(ModelError, match="NaN or infinite"):
        list(model.generate(model.prompt_format.prompt("x"), SamplingOptions(max_seconds=1), 0))


@pytest.mark.parametrize(("key_value_heads", "group"), [(1, 1), (2, 3), (8, 4)])
@pytest.mark.parametrize("width", [16, 48, 64, 128])
def test_attention_equals_that_of_torch_at_each_length(key_value_heads: int, group: int, width: int) -> None:
    kernels = load_kernels()
    assert kernels is not None
    generator = torch.Generator().manual_seed(width)
    lengths = torch.tensor([1, 2, 15, 16, 17, 33, 100, 130])
    past = torch.randn(8, 130, 2 * key_value_heads, width, generator=generator)
    states = (
        torch.randn(8, key_value_heads * (group + 2), width, generator=generator) * 4
    )  # some scores far above the others
    queries = states[:, : key_value_heads * group]  # a slice, as in the network, where keys and values follow
    found = kernels.attend(queries, past, lengths)
    for slot, length in enumerate(lengths.tolist()):
        keys, values = past[slot, :length].transpose(0, 1).chunk(2)
        exact = torch.nn.functional.scaled_dot_product_attention(
            queries[slot].double()[:, None],
            keys.double().repeat_interleave(group, 0),
            values.double().repeat_interleave(group, 0),
        )
        torch.testing.assert_close(found[slot], exact.flatten().float(), rtol=1e-5, atol=1e-5)
        assert torch.equal(found[slot], kernels.attend(queries[slot, None], past[slot, None], lengths[slot, None])[0])


def test_gate_equals_that_of_torch() -> None:
    kernels = load_kernels()
    assert kernels is not None
    both = torch.cat([torch.linspace(-200, 200, 4096).view(2, -1), torch.randn(2, 2048)], dim=1)
    gate, up = both.chunk(2, dim=-1)
    torch.testing.assert_close(kernels.gate(both), torch.nn.functional.silu(gate) * up, rtol=1e-6, atol=1e-30)


def test_attention_does_not_read_beyond_a_sequence() -> None:
    kernels = load_kernels()
    assert kernels is not None
    past, queries, lengths = torch.randn(2, 50, 4, 32), torch.randn(2, 4, 32), torch.tensor([7, 20])
    found = kernels.attend(queries, past, lengths)
    past[0, 7:], past[1, 20:] = float("nan"), float("inf")
    assert torch.equal(found, kernels.attend(queries, past, lengths))
