"""The model that is trained: a checkpoint's, one of random weights, or a frozen one with an adapter."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llasa_cli.errors import ModelError, UsageError
from llasa_cli.prompt import PromptFormat
from llasa_cli.settings import FinetuneOptions, LoraOptions
from llasa_cli.training.vocabulary import resize

if TYPE_CHECKING:
    import torch


def attention_of(options: FinetuneOptions, device: torch.device) -> str:
    """Which of transformers' attentions.

    On a CPU and at these lengths torch's fused one is slower than the plain one, most of all backward: 4,400 against
    5,600 tokens a second of a whole training step (6 layers, 256 wide, bfloat16, one Zen 5 core).
    """
    if options.flash_attention:
        return "flash_attention_2"
    return "eager" if device.type == "cpu" else "sdpa"


def build_model(options: FinetuneOptions, prompt_format: PromptFormat, start: Path | None, device: torch.device) -> Any:
    """A Llama ready to be trained, its embeddings as many as the tokenizer has tokens.

    Args:
        start: The checkpoint's folder; None for a fresh model.

    Raises:
        ModelError, UsageError: See there.
    """
    import torch

    attention = attention_of(options, device)
    # What is trained is in float32: steps of a small rate are lost in bfloat16's three digits. A frozen base is not.
    frozen_16 = options.lora is not None and device.type == "cuda"
    kind = torch.bfloat16 if frozen_16 else torch.float32
    model = _fresh(options, prompt_format, attention) if start is None else _read(start, attention, kind)
    grown = resize(model, prompt_format.vocabulary_size)
    model.config.tie_word_embeddings = model.lm_head.weight is model.model.embed_tokens.weight
    model.generation_config.eos_token_id = prompt_format.end_id
    if options.lora is None:
        return model
    if grown or start is None:
        raise UsageError(
            "An adapter can't teach a model its first speech tokens: they are rows of the embeddings.",
            "Train the whole model first.",
        )
    return add_adapter(model, options.lora)


def add_adapter(model: Any, lora: LoraOptions) -> Any:
    """peft's model around it: the base frozen, a pair of float32 matrices beside each target.

    Raises:
        UsageError: A target that the model does not have.
    """
    from peft import LoraConfig, get_peft_model

    names = {name.rsplit(".", 1)[-1] for name, _ in model.named_modules()}
    unknown = sorted(set(lora.targets) - names)
    if unknown:
        raise UsageError(
            f"The model has no {', '.join(unknown)} for an adapter.",
            "There are q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj.",
        )
    config = LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,  # type: ignore[arg-type]
        lora_dropout=lora.dropout,
        target_modules=list(lora.targets),
        bias="none",
        task_type="CAUSAL_LM",
    )
    with warnings.catch_warnings():
        # peft (0.21) asks by transformers' old name; nobody who trains can do anything about it.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        return get_peft_model(model, config)


def bare(model: Any) -> Any:
    """The Llama itself, without peft's wrapper."""
    return model.get_base_model() if hasattr(model, "peft_config") else model


def _read(folder: Path, attention: str, kind: torch.dtype) -> Any:
    from transformers import LlamaForCausalLM

    config = folder / "config.json"
    found = json.loads(config.read_text(encoding="utf-8")).get("model_type") if config.is_file() else None
    if found != "llama":
        raise ModelError(
            f"{folder} holds no Llama checkpoint ({found or 'no config.json'}).", "Pass a Llasa checkpoint."
        )
    try:
        return LlamaForCausalLM.from_pretrained(
            folder, dtype=kind, attn_implementation=attention, use_safetensors=True, local_files_only=True
        )
    except Exception as error:  # the libraries' errors for a broken file have no common type
        raise ModelError(f"The model in {folder} can't be loaded: {error}", "Fetch it again.") from error


def _fresh(options: FinetuneOptions, prompt_format: PromptFormat, attention: str) -> Any:
    """Random weights in the shape that the configuration file tells; the vocabulary comes from the tokenizer."""
    from transformers import LlamaConfig, LlamaForCausalLM

    assert options.fresh is not None
    try:
        shape = json.loads(options.fresh.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{options.fresh} can't be read: {error}") from error
    shape |= {
        "vocab_size": prompt_format.vocabulary_size,
        "bos_token_id": None,
        "eos_token_id": prompt_format.end_id,
        "pad_token_id": prompt_format.pad_id,
    }
    return LlamaForCausalLM._from_config(LlamaConfig(**shape), attn_implementation=attention)
