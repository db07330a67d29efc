"""A checkpoint -> one GGUF file, for this program and for llama.cpp.

The tensors are written one by one, so that an 8B model takes the memory of its largest matrix. Matrices get the format that is
asked for; embedding and head are Q8_0 in a Q4_0 file, because every code is chosen by the head. Norms stay float32. Rows whose
width is not a multiple of 32 can't be quantized and are written as F16.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from llasa_cli.chat_template import read_chat_template
from llasa_cli.checkpoint.gguf_file import LAYER_NAMES, NAMES, ROPE_FACTORS, SUFFIX, import_gguf, is_gguf
from llasa_cli.checkpoint.gguf_tokenizer import METADATA_KEY, PRONUNCIATIONS_KEY, ggml_tokenizer
from llasa_cli.checkpoint.resolve import Checkpoint
from llasa_cli.errors import UsageError, os_errors_as
from llasa_cli.files import AtomicFile, read_json_object, read_json_object_if_exists
from llasa_cli.lm.llama_config import LlamaConfig, rope_frequencies
from llasa_cli.lm.lora import read_adapter
from llasa_cli.lm.weights import EMBEDDING, HEAD, Weights
from llasa_cli.prompt import PromptFormat
from llasa_cli.settings import CONTEXT_TOKENS
from llasa_cli.text.pronunciations import PRONUNCIATIONS

_GROUP = 32


def write_gguf(
    checkpoint: Checkpoint, path: Path, tensor_type: str, on_bytes: Callable[[int, int], None] = lambda done, size: None
) -> None:
    """Write a checkpoint, with its adapter merged, as `path`, which is complete or absent.

    Args:
        tensor_type: F16, BF16, Q8_0 or Q4_0.
        on_bytes: Called with the bytes of tensors that are written, and that will be written.

    Raises:
        UsageError: `path` is not the name of a GGUF file, or the checkpoint is one already.
        ModelError: The checkpoint is damaged or is not a Llasa.
        LlasaError: The package `gguf` is not installed, or the file can't be written.
    """
    if path.suffix.lower() != SUFFIX:
        raise UsageError(f"{path} is not the name of a GGUF file.", f"It must end in {SUFFIX}.")
    if is_gguf(checkpoint.weights_folder):
        raise UsageError(f"{checkpoint.name} is a GGUF file already.", "Convert the original checkpoint.")
    gguf = import_gguf("writes GGUF files")
    prompt_format = PromptFormat.load(checkpoint.folder, checkpoint.metadata)  # raises ModelError if it is not a Llasa
    folder = checkpoint.weights_folder
    config_json = read_json_object(folder / "config.json", "Is this the folder of a Llasa checkpoint?")
    config = LlamaConfig.from_json(config_json)
    adapter = None if checkpoint.adapter is None else read_adapter(checkpoint.adapter)
    weights = Weights(folder, torch.device("cpu"), torch.float32, adapter)
    weights.check(config, prompt_format.vocabulary_size, bool(config_json.get("tie_word_embeddings")))
    rows = weights.files[EMBEDDING].shape[0]
    kind = config_json["model_type"]
    writer = gguf.GGUFWriter(None, "llama" if kind == "llasa" else kind)
    _add_metadata(writer, checkpoint, config, config_json, rows, path)
    plan = dict(_plan(weights, tensor_type, config, gguf))
    for name, (_, shape, kind) in plan.items():
        writer.add_tensor_info(_gguf_name(name), shape, None, _bytes(shape, kind, gguf), kind)
    size, done = sum(_bytes(shape, kind, gguf) for _, shape, kind in plan.values()), 0
    with os_errors_as(f"{path} can't be written", "Choose another place with -o."), AtomicFile(path) as target:
        writer.write_header_to_file(target.part)
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
        for read, shape, kind in plan.values():
            writer.write_tensor_data(gguf.quants.quantize(read().float().numpy(), kind))
            done += _bytes(shape, kind, gguf)
            on_bytes(done, size)
        writer.close()


def _plan(weights: Weights, tensor_type: str, config: LlamaConfig, gguf: Any) -> Iterator[tuple[str, Any]]:
    """Yields Hugging Face's name, and how to read the tensor, its shape and its type."""
    types = gguf.GGMLQuantizationType
    factors = _rope_factors(config)
    if factors is not None:
        yield ROPE_FACTORS, (lambda: factors, tuple(factors.shape), types.F32)
    for name, place in weights.files.items():
        if name.endswith("inv_freq"):
            continue
        kind = types[tensor_type]
        if tensor_type == "Q4_0" and name in (EMBEDDING, HEAD):
            kind = types.Q8_0
        if len(place.shape) < 2:  # norms and biases
            kind = types.F32
        elif place.shape[-1] % _GROUP and kind in (types.Q8_0, types.Q4_0):
            kind = types.F16
        heads = {"q_proj": config.heads, "k_proj": config.key_value_heads}.get(name.split(".")[-2], 0)
        if config.has_bias or config.has_head_norms:
            heads = 0  # llama.cpp rotates the halves of a Qwen's heads, as Hugging Face does
        yield name, (_reader(weights, name, heads), place.shape, kind)


def _reader(weights: Weights, name: str, rotary_heads: int) -> Callable[[], torch.Tensor]:
    """A function that reads a tensor, with the rotary pairs of a Llama's queries and keys as neighbors, as llama.cpp stores them."""

    def read() -> torch.Tensor:
        tensor = weights.stored(name)
        if not rotary_heads:
            return tensor
        return tensor.view(rotary_heads, 2, -1, tensor.shape[1]).transpose(1, 2).reshape(tensor.shape)

    return read


def _bytes(shape: tuple[int, ...], kind: Any, gguf: Any) -> int:
    weights, stored = gguf.GGML_QUANT_SIZES[kind]
    return int(torch.Size(shape).numel() // weights * stored)


def _gguf_name(name: str) -> str:
    """Hugging Face's name of a tensor -> GGUF's."""
    for own, theirs in NAMES.items():
        if name == theirs:
            return own
    layer = re.fullmatch(r"model\.layers\.(\d+)\.(.+)\.(weight|bias)", name)
    if layer is None:
        return name
    return next(f"blk.{layer[1]}.{own}.{layer[3]}" for own, theirs in LAYER_NAMES.items() if theirs == layer[2])


def _rope_factors(config: LlamaConfig) -> torch.Tensor | None:
    """The divisor of each frequency; None for plain rotary embeddings."""
    if config.rope["rope_type"] == "default":
        return None
    exponents = torch.arange(0, config.head_dim, 2, dtype=torch.int64).float() / config.head_dim
    return 1.0 / (config.rope["rope_theta"] ** exponents) / rope_frequencies(config)


def _add_metadata(
    writer: Any, checkpoint: Checkpoint, config: LlamaConfig, config_json: dict[str, Any], rows: int, path: Path
) -> None:
    writer.add_name(Path(checkpoint.name).name)
    writer.add_license(checkpoint.license)
    writer.add_block_count(config.layers)
    writer.add_context_length(CONTEXT_TOKENS)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.heads)
    writer.add_head_count_kv(config.key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(float(config.rope["rope_theta"]))
    writer.add_layer_norm_rms_eps(config.norm_epsilon)
    writer.add_vocab_size(rows)
    folder = checkpoint.folder
    settings = read_json_object_if_exists(folder / "tokenizer_config.json")
    for key, value in ggml_tokenizer(read_json_object(folder / "tokenizer.json"), settings, rows).items():
        if isinstance(value, bool):
            writer.add_bool(key, value)
        elif isinstance(value, int):
            writer.add_uint32(key, value)
        elif isinstance(value, list):
            writer.add_array(key, value)
        else:
            writer.add_string(key, value)
    neutts = config_json.get("neuphonic")
    if isinstance(neutts, dict):  # its prompt is made without a chat template
        for key, value in neutts.items():
            add = writer.add_array if isinstance(value, list) else writer.add_string
            add(f"neuphonic.{key}", value if isinstance(value, list) else str(value))
    else:
        writer.add_chat_template(read_chat_template(folder, settings))
    if (folder / PRONUNCIATIONS).is_file():
        writer.add_string(PRONUNCIATIONS_KEY, (folder / PRONUNCIATIONS).read_text(encoding="utf-8"))
    metadata = dict(checkpoint.metadata)
    codec = metadata.get("codec")
    if codec is not None and (folder / codec).is_dir():
        metadata["codec"] = Path(os.path.relpath(folder / codec, path.absolute().parent)).as_posix()
    if metadata:
        writer.add_string(METADATA_KEY, json.dumps(metadata, ensure_ascii=False))
