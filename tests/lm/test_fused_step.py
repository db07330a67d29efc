"""The step in C says what the same network says call by call in torch, in every format, however long the sequence."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from llasa_cli.errors import ModelError
from llasa_cli.lm import linear as matrix
from llasa_cli.lm.attention import Attention
from llasa_cli.lm.cpu import build as native
from llasa_cli.lm.cpu.build import kernels
from llasa_cli.lm.engine import GenerationRequest
from llasa_cli.lm.loader import LanguageModel, load_language_model
from llasa_cli.prompt import PromptFormat, Reference
from llasa_cli.settings import SamplingOptions
from tests.lm.test_greedy_parity import LLAMA3, SMALL, transformers_codes, write_model

pytestmark = pytest.mark.skipif(kernels() is None, reason="no C compiler")
FORMATS = ("fp32", "bf16", "fp16", "int8", "int4")
SHAPES: dict[str, dict[str, Any]] = {
    "four on two, of 16": SMALL | {"tie_word_embeddings": True},
    "six on three, of 64; widths that fill no block": SMALL
    | {
        "hidden_size": 144,
        "intermediate_size": 176,
        "num_attention_heads": 6,
        "num_key_value_heads": 3,
        "head_dim": 64,
    },
    "eight on one, of 128; widths of several spans": SMALL
    | {"hidden_size": 1040, "intermediate_size": 1168, "num_attention_heads": 8, "num_key_value_heads": 1}
    | {"head_dim": 128, "rope_parameters": LLAMA3},
}


@pytest.fixture(params=SHAPES)
def folder(request: pytest.FixtureRequest, tokenizer_folder: Path, tmp_path: Path) -> Path:
    return written(tokenizer_folder, tmp_path, SHAPES[request.param])


def written(tokenizer_folder: Path, path: Path, shape: dict[str, Any]) -> Path:
    import shutil

    shutil.copytree(tokenizer_folder, path, dirs_exist_ok=True)
    write_model(path, PromptFormat.load(path), shape)
    return path


@pytest.fixture(autouse=True)
def _own_kernels_however_small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(matrix, "COLUMNS_UP_TO", 0)
    yield
    kernels.cache_clear()


def loaded(folder: Path, kind: str) -> LanguageModel:
    return load_language_model(folder, PromptFormat.load(folder), "cpu", kind)


@torch.inference_mode()
def said(model: LanguageModel, count: int = 40) -> torch.Tensor:
    """Scores after a prompt and after each of some tokens: float32 (count + 1, codes + 1)."""
    stream = model.network.stream(200)
    ids = torch.randint(model.prompt_format.code_count, (count,), generator=torch.Generator().manual_seed(1))
    prompt = torch.tensor(model.prompt_format.prompt("hello there").ids)
    return torch.stack(
        [stream.feed(prompt), *(stream.feed(model.prompt_format.first_code_id + one[None]) for one in ids)]
    )


def apart(some: torch.Tensor, others: torch.Tensor) -> float:
    """Root mean square of the difference over the spread."""
    return float((some - others).square().mean().sqrt() / others.std())


@pytest.mark.parametrize("kind", FORMATS)
def test_scores_are_those_of_single_calls(folder: Path, kind: str) -> None:
    model = loaded(folder, kind)
    assert model.network._one_token is not None
    once = said(model)
    model.network._one_token = None
    model.network.attention = Attention("sdpa", torch.device("cpu"), torch.float32)
    # 16-bit states and 16-bit parts of them round; nothing else may differ.
    assert apart(once, said(model)) < (2e-3 if kind in ("int8", "int4", "bf16") else 1e-5)
    assert once.std() > 0.1


@pytest.mark.parametrize(("kind", "limit"), [("fp32", 1e-5), ("bf16", 0.1), ("fp16", 0.02), ("int8", 0.2)])
def test_scores_are_those_of_torch(folder: Path, kind: str, limit: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose products take states in the weights' own 16 bit, and of bfloat16 for whole numbers: hence the limits."""
    once = said(loaded(folder, kind))
    monkeypatch.setenv(native.CHOICE, "torch")
    kernels.cache_clear()
    without = loaded(folder, kind)
    assert without.network._one_token is None
    assert without.network.attention.kind == "sdpa"
    assert apart(once, said(without)) < limit


@pytest.mark.parametrize("kind", FORMATS)
@torch.inference_mode()
def test_threads_change_no_bit(folder: Path, kind: str) -> None:
    model, threads, found = loaded(folder, kind), torch.get_num_threads(), []
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(1)  # the prompt is torch's, which may round otherwise with more
            stream = model.network.stream(200)
            stream.feed(torch.tensor(model.prompt_format.prompt("hello there").ids))
            torch.set_num_threads(count)
            found.append(
                torch.stack([stream.feed(torch.tensor([model.prompt_format.first_code_id + n])) for n in range(3)])
            )
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_greedy_codes_are_those_of_transformers_alone_and_in_a_batch(tokenizer_folder: Path, tmp_path: Path) -> None:
    folder = written(tokenizer_folder, tmp_path, SHAPES["four on two, of 16"])
    model = loaded(folder, "fp32")
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
    assert done[3] == transformers_codes(folder, model.prompt_format, prompts[3].ids, 50, repetition_penalty=1.5)
    assert len(set(done[3])) > 2


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("broken", ["middle_norm", "input_norm", "norm"])
def test_scores_that_are_no_numbers_are_told(tokenizer_folder: Path, tmp_path: Path, kind: str, broken: str) -> None:
    """Not hidden by states being turned to whole numbers, nor by what is larger than what."""
    model = loaded(written(tokenizer_folder, tmp_path, SHAPES["four on two, of 16"]), kind)
    holder = model.network if broken == "norm" else model.network.layers[1]
    getattr(holder, broken)[3] = float("nan")
    with pytest.raises(ModelError, match="not numbers"):
        list(model.generate(model.prompt_format.prompt("x"), SamplingOptions(max_seconds=1), 0))


@pytest.mark.parametrize(("pairs", "group"), [(1, 1), (2, 3), (8, 4)])
@pytest.mark.parametrize("width", [16, 48, 64, 128])
def test_attention_is_that_of_torch_to_each_length(pairs: int, group: int, width: int) -> None:
    own = kernels()
    assert own is not None
    generator = torch.Generator().manual_seed(width)
    lengths = torch.tensor([1, 2, 15, 16, 17, 33, 100, 130])
    past = torch.randn(8, 130, 2 * pairs, width, generator=generator)
    states = torch.randn(8, pairs * (group + 2), width, generator=generator) * 4  # some keys far ahead of the others
    queries = states[:, : pairs * group]  # as in the network, where keys and values lie behind
    found = own.attend(queries, past, lengths)
    for slot, length in enumerate(lengths.tolist()):
        keys, values = past[slot, :length].transpose(0, 1).chunk(2)
        exact = torch.nn.functional.scaled_dot_product_attention(
            queries[slot].double()[:, None],
            keys.double().repeat_interleave(group, 0),
            values.double().repeat_interleave(group, 0),
        )
        torch.testing.assert_close(found[slot], exact.flatten().float(), rtol=1e-5, atol=1e-5)
        assert torch.equal(found[slot], own.attend(queries[slot, None], past[slot, None], lengths[slot, None])[0])


def test_gate_is_that_of_torch() -> None:
    own = kernels()
    assert own is not None
    both = torch.cat([torch.linspace(-200, 200, 4096).view(2, -1), torch.randn(2, 2048)], dim=1)
    gate, up = both.chunk(2, dim=-1)
    torch.testing.assert_close(own.gate(both), torch.nn.functional.silu(gate) * up, rtol=1e-6, atol=1e-30)


def test_what_lies_behind_a_sequence_is_not_looked_at() -> None:
    own = kernels()
    assert own is not None
    past, queries, lengths = torch.randn(2, 50, 4, 32), torch.randn(2, 4, 32), torch.tensor([7, 20])
    found = own.attend(queries, past, lengths)
    past[0, 7:], past[1, 20:] = float("nan"), float("inf")
    assert torch.equal(found, own.attend(queries, past, lengths))
