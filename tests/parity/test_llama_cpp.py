"""A GGUF file of `llasa convert` computes the same in llama.cpp: a random Llasa of the 1B's shape, 193,800 tokens.

llama.cpp runs in `llama-cpp-python` or `xllamacpp`, whichever is installed. It rounds keys, values and states to float16, and with quantized
weights states to 8 bits for each 32. So its logits differ from ours, which have exact states, by the stated bounds, and the code with
the largest logit may be another where two are nearly equal. (Among the 65,537 logits of random weights the largest two are often so; both
are given our code then, because one other code would change all that follow.) transformers in float32 with the weights of the
F16 file decides which of the two is right.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch

from benchmarks.llama_peer import LlamaCpp, find_library
from benchmarks.speed import SHAPES, random_checkpoint
from llasa_cli.checkpoint.resolve import resolve_checkpoint
from llasa_cli.lm.gguf_writer import write_gguf
from llasa_cli.lm.loader import load_language_model
from llasa_cli.lm.weights import Weights
from llasa_cli.prompt import PromptFormat
from llasa_cli.settings import ModelOptions

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_library() is None, reason="neither llama-cpp-python nor xllamacpp is installed"),
]
TEXT = "The morning train was crowded with people going to work."
CODES = 100
BOUNDS = {"F16": 0.01, "Q8_0": 0.06, "Q4_0": 0.06}
"""The norm of the difference of the logits, as a part of the logits' own."""
SAME_CODES = {"F16": 95, "Q8_0": 80, "Q4_0": 80}
"""Of CODES, at least."""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_checkpoint(tmp_path_factory.mktemp("1b"), SHAPES["1b"])


@pytest.fixture(params=BOUNDS)
def file(request: pytest.FixtureRequest, checkpoint: Path, tmp_path: Path) -> Iterator[tuple[str, Path]]:
    path = tmp_path / f"{request.param}.gguf"
    write_gguf(resolve_checkpoint(ModelOptions(str(checkpoint))), path, request.param)
    yield request.param, path
    path.unlink()


def test_codes_and_logits_equal_those_of_llama_cpp(
    file: tuple[str, Path], checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, path = file
    monkeypatch.setenv("LLASA_WEIGHT_CACHE", "off")
    prompt_format = PromptFormat.load(path)
    first, end = prompt_format.first_code_id, prompt_format.end_id
    prompt = list(prompt_format.prompt(TEXT).ids)
    network = load_language_model(path, prompt_format, "cpu").network
    theirs = LlamaCpp(path, torch.get_num_threads())
    worst, own, others = 0.0, [], []
    with torch.inference_mode():
        stream = network.stream(len(prompt) + CODES)
        logits, found = stream.feed(torch.tensor(prompt)), theirs.feed(0, prompt)
        for _ in range(CODES):
            own.append(logits[:-1].clone())
            others.append(torch.from_numpy(found)[first : first + prompt_format.code_count].clone())
            whole = torch.cat([others[-1], torch.from_numpy(found)[end : end + 1]])
            worst = max(worst, float((logits - whole).norm() / logits.norm()))
            code = first + int(own[-1].argmax())
            prompt.append(code)
            logits, found = stream.feed(torch.tensor([code])), theirs.feed(0, [code])
    ours, llama = torch.stack(own), torch.stack(others)
    same = int((ours.argmax(1) == llama.argmax(1)).sum())
    print(f"{kind}: {same} of {CODES} codes, logits differ by {worst:.5f}")
    assert worst < BOUNDS[kind]
    assert same >= SAME_CODES[kind]
    if kind != "F16":
        return
    del network, stream
    exact = reference_logits(path, checkpoint, prompt[:-1])[-CODES:, first : first + prompt_format.code_count]
    for name, found in (("llasa", ours), ("llama.cpp", llama)):
        equal, error = int((found.argmax(1) == exact.argmax(1)).sum()), float((found - exact).norm() / exact.norm())
        print(f"{name}: {equal} of {CODES} codes as transformers in float32, logits differ by {error:.6f}")
    largest = exact.topk(2).values
    gaps, deviation = largest[:, 0] - largest[:, 1], (llama - exact).abs().amax(1)
    for step in (ours.argmax(1) != llama.argmax(1)).nonzero().flatten():
        print(
            f"step {step}: the largest logits are {gaps[step]:.5f} apart, llama.cpp's differ by up to {deviation[step]:.5f}"
        )
    assert torch.equal(ours.argmax(1), exact.argmax(1))


def reference_logits(path: Path, checkpoint: Path, ids: Sequence[int]) -> torch.Tensor:
    """The logits of transformers in float32 with the weights of a GGUF file, float32 (len(ids), vocabulary)."""
    from transformers import LlamaConfig, LlamaForCausalLM

    weights = Weights(path, torch.device("cpu"), torch.float32)
    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig(**json.loads((checkpoint / "config.json").read_text())))
    model.load_state_dict({name: weights(name) for name in weights.files}, strict=False, assign=True)
    model.tie_weights()
    model.model.rotary_emb = type(model.model.rotary_emb)(model.config)
    with torch.inference_mode():
        logits: torch.Tensor = model(torch.tensor([ids])).logits[0]
    return logits
