"""The model to train: a checkpoint's, one with random weights, or a frozen one with an adapter."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llasa_cli.errors import ModelError, UsageError
from llasa_cli.files import read_json_object, read_json_object_if_exists
from llasa_cli.prompt import PromptFormat
from llasa_cli.settings import ARCHITECTURES
from llasa_cli.training.options import FinetuneOptions, LoraOptions
from llasa_cli.training.vocabulary import resize_embeddings

if TYPE_CHECKING:
    import torch


def choose_attention(options: FinetuneOptions, device: torch.device) -> str:
    """The name of transformers' attention to train with.

    On a CPU, at the lengths of speech rows, plain attention trains faster than torch's fused one, whose backward is slow.
    """
    if options.flash_attention:
        return "flash_attention_2"
    return "eager" if device.type == "cpu" else "sdpa"


def build_model(options: FinetuneOptions, prompt_format: PromptFormat, start: Path | None, device: torch.device) -> Any:
    """A network to train, with an embedding for each token of the tokenizer.

    Args:
        start: Folder of the checkpoint to start from; None makes random weights.

    Raises:
        ModelError: The folder holds no network of `ARCHITECTURES` that can be loaded.
        UsageError: The configuration can't be read, or an adapter is asked for a model without speech tokens.
    """
    import torch

    attention = choose_attention(options, device)
    # Trained weights are float32: bfloat16, with three digits, would lose the steps of a small learning rate.
    frozen_16_bit = options.lora is not None and device.type == "cuda"
    dtype = torch.bfloat16 if frozen_16_bit else torch.float32
    model = _random_model(options, prompt_format, attention) if start is None else _load(start, attention, dtype)
    grown = resize_embeddings(model, prompt_format.vocabulary_size)
    model.config.tie_word_embeddings = model.lm_head.weight is model.model.embed_tokens.weight
    model.generation_config.eos_token_id = prompt_format.end_id
    if options.lora is None:
        return model
    if grown or start is None:
        raise UsageError(
            "An adapter can't teach a model its first speech tokens, because these are rows of the embeddings.",
            "Train the whole model first, without --lora.",
        )
    return add_adapter(model, options.lora)


def add_adapter(model: Any, lora: LoraOptions) -> Any:
    """peft's model around a frozen base, with a pair of float32 matrices beside each target.

    Raises:
        UsageError: The model has no such target.
    """
    from peft import LoraConfig, get_peft_model

    names = {name.rsplit(".", 1)[-1] for name, _ in model.named_modules()}
    unknown = sorted(set(lora.targets) - names)
    if unknown:
        raise UsageError(
            f"The model has no {', '.join(unknown)} for an adapter.",
            "Choose --lora-target from q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj.",
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
        # peft 0.21 uses transformers' old name; the user can't change that.
        warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
        return get_peft_model(model, config)


def without_adapter(model: Any) -> Any:
    """The network itself, without peft's wrapper."""
    return model.get_base_model() if hasattr(model, "peft_config") else model


def count_parameters(options: FinetuneOptions, vocabulary_size: int, start: Path | None) -> int:
    """Parameters of the model that `build_model` will make, counted without its memory.

    Raises:
        ModelError, UsageError: As `build_model`.
    """
    import torch
    from transformers import AutoModelForCausalLM

    shape = _fresh_shape(options) if start is None else _config_of(start)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(_configuration(shape | {"vocab_size": vocabulary_size}))
    return int(model.num_parameters())


def has_speech_tokens(start: Path, vocabulary_size: int) -> bool:
    """Whether the checkpoint's embeddings have a row for every token, so that none has to be added."""
    return int(_config_of(start).get("vocab_size", 0)) >= vocabulary_size


def _config_of(folder: Path) -> dict[str, Any]:
    config = read_json_object_if_exists(folder / "config.json")
    kind = config.get("model_type")
    if kind not in ARCHITECTURES:
        found = f"its model type is {kind}" if kind else "it has no config.json"
        raise ModelError(
            f"{folder} holds no checkpoint that can be trained: {found}.",
            f"Pass a Llasa checkpoint; the model type can be {', '.join(ARCHITECTURES)}.",
        )
    return config


def _configuration(shape: dict[str, Any]) -> Any:
    """The content of a config.json -> transformers' configuration of its architecture."""
    from transformers import AutoConfig

    return AutoConfig.for_model(
        shape.get("model_type", "llama"), **{k: v for k, v in shape.items() if k != "model_type"}
    )


def _load(folder: Path, attention: str, dtype: torch.dtype) -> Any:
    from transformers import AutoModelForCausalLM

    _config_of(folder)
    try:
        return AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, attn_implementation=attention, use_safetensors=True, local_files_only=True
        )
    except Exception as error:  # the libraries' errors for a broken file have no common type
        raise ModelError(f"The model in {folder} can't be loaded: {error}", "Download it again.") from error


def _fresh_shape(options: FinetuneOptions) -> dict[str, Any]:
    assert options.fresh is not None
    shape = read_json_object(options.fresh, "Give the config.json of a Llama.", UsageError)
    if shape.get("model_type", "llama") not in ARCHITECTURES:
        raise UsageError(
            f"{options.fresh} is of the model type {str(shape['model_type'])[:40]!r}.",
            f"Give the config.json of one of {', '.join(ARCHITECTURES)}.",
        )
    return shape


def _random_model(options: FinetuneOptions, prompt_format: PromptFormat, attention: str) -> Any:
    """Random weights of the shape in the configuration file; the vocabulary comes from the tokenizer."""
    from transformers import AutoModelForCausalLM

    shape = _fresh_shape(options) | {
        "vocab_size": prompt_format.vocabulary_size,
        "bos_token_id": None,
        "eos_token_id": prompt_format.end_id,
        "pad_token_id": prompt_format.pad_id,
    }
    return AutoModelForCausalLM.from_config(_configuration(shape), attn_implementation=attention)
