"""vLLM in place of our own network, for `batch --engine vllm`: the same requests in, the same codes out.

    model = VllmModel(folder, prompt_format, options)
    batch = model.batch(slots=128)              add, step, drop, free: as lm.batch.SlotEngine

Prompts and sampling go over as token ids; only speech codes and END may be drawn, END stops. vLLM draws by its own generator:
a seed makes the same take again with vLLM, not the one of our own engine.

NOT RUN: written against the documented calls of vLLM 0.8 to 0.17 (EngineArgs, LLMEngine.from_engine_args, add_request, step,
abort_request, SamplingParams) and tested with a stand-in of those; nobody has seen it speak on a GPU yet.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llasa_cli.errors import ModelError, UsageError
from llasa_cli.lm.engine import Finished, GenerationRequest
from llasa_cli.prompt import PromptFormat
from llasa_cli.settings import CODES_PER_SECOND, CONTEXT_TOKENS, ModelOptions, SamplingOptions

SLOTS = 128
"""Sequences that vLLM is asked to run at once; it makes room for them by itself."""
_DTYPES = ("auto", "float32", "bfloat16", "float16", "fp32", "bf16", "fp16")
_LONG_NAMES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
_MEMORY_SHARE = 0.8
"""Of the GPU's, for weights and cache; the codec has the rest."""


class VllmModel:
    """As `lm.load.LanguageModel`, as far as `many` asks.

    Raises:
        UsageError: vLLM is not installed, or something was asked for that it does not do here.
        ModelError: It can't load the model.
    """

    is_small = False

    def __init__(self, folder: Path, prompt_format: PromptFormat, options: ModelOptions) -> None:
        if options.adapter is not None:
            raise UsageError("--engine vllm takes no adapter.", "Merge it first: llasa finetune --merge.")
        if options.dtype not in _DTYPES:
            raise UsageError(f"--engine vllm has no --dtype {options.dtype}.", "Take auto, fp32, bf16 or fp16.")
        self._folder, self._prompt_format, self._options = folder, prompt_format, options
        self._vllm = _vllm()

    def batch(self, slots: int) -> Engine:
        arguments = self._vllm.EngineArgs(
            model=str(self._folder),
            # Prompts come as ids and codes go as ids: it need not know what they spell.
            skip_tokenizer_init=True,
            dtype=_LONG_NAMES.get(self._options.dtype, self._options.dtype),
            max_model_len=CONTEXT_TOKENS,
            max_num_seqs=slots,
            gpu_memory_utilization=_MEMORY_SHARE,
            enable_prefix_caching=True,  # a voice's clip stands before each of its texts
            disable_log_stats=True,
        )
        try:
            engine = self._vllm.LLMEngine.from_engine_args(arguments)
        except (ValueError, RuntimeError, OSError) as error:
            raise ModelError(f"vLLM can't load {self._folder}: {error}", "Without --engine our own runs it.") from error
        return Engine(engine, self._vllm.SamplingParams, self._prompt_format, slots)


class Engine:
    """vLLM's engine as `lm.batch.SlotEngine`."""

    def __init__(self, engine: Any, parameters: Any, prompt_format: PromptFormat, slots: int) -> None:
        self._engine, self._parameters = engine, parameters
        self._first, self._count = prompt_format.first_code_id, prompt_format.code_count
        self._stop = prompt_format.end_id
        self._allowed = [*range(self._first, self._first + self._count), self._stop]
        self._slots = slots
        self._in: dict[str, GenerationRequest] = {}
        self._asked = 0

    @property
    def free(self) -> int:
        return self._slots - len(self._in)

    def add(self, request: GenerationRequest) -> None:
        if request.guided:
            raise UsageError("--engine vllm can't do guidance.", "Pass --guidance 1, or leave --engine away.")
        self._asked += 1
        name = str(self._asked)
        self._in[name] = request
        prompt = {"prompt_token_ids": list(request.prompt.ids)}
        self._engine.add_request(name, prompt, self._parameters(**self._draw(request)))

    def _draw(self, request: GenerationRequest) -> dict[str, Any]:
        options: SamplingOptions = request.sampling
        room = CONTEXT_TOKENS - len(request.prompt.ids)
        return {
            "temperature": options.temperature,
            "top_p": options.top_p,
            "top_k": options.top_k or -1,
            "min_p": options.min_p,
            "repetition_penalty": options.repetition_penalty,
            "seed": request.seed,
            "max_tokens": max(1, min(room, round(options.max_seconds * CODES_PER_SECOND))),
            "min_tokens": 1,  # speech has at least one code
            "allowed_token_ids": self._allowed,
            "stop_token_ids": [self._stop],
            "ignore_eos": True,  # the text model's own end is not among the allowed
            "detokenize": False,
        }

    def step(self) -> list[Finished]:
        finished = []
        for output in self._engine.step():
            if not output.finished or output.request_id not in self._in:
                continue
            request = self._in.pop(output.request_id)
            spoken = output.outputs[0]
            # END may stand among the ids, or only in the reason: by version.
            codes = tuple(token - self._first for token in spoken.token_ids if token != self._stop)
            if codes and not 0 <= min(codes) <= max(codes) < self._count:
                raise ModelError(
                    "vLLM drew a token that is no speech code.", "Its version may not keep allowed_token_ids."
                )
            finished.append(Finished(request, codes, spoken.finish_reason == "stop"))
        return finished

    def drop(self, tag: Any) -> None:
        for name in [name for name, request in self._in.items() if request.tag == tag]:
            del self._in[name]
            self._engine.abort_request([name])


def _vllm() -> Any:
    try:
        import vllm
    except ImportError as error:
        raise UsageError("--engine vllm needs the package vllm.", "pip install vllm (a CUDA GPU, Linux).") from error
    return vllm
