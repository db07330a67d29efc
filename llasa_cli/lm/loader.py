"""A checkpoint folder or a GGUF file -> a language model that generates speech codes.

Any Llama, Qwen 2 or Qwen 3 with a Llasa vocabulary: one safetensors file or several, or one GGUF file, with a tied head or its own. transformers is not needed. Pickled weights are refused, because loading them can run code.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import torch

from llasa_cli.checkpoint.gguf_file import forget_gguf, is_gguf, read_gguf
from llasa_cli.checkpoint.safetensors_header import AGAIN
from llasa_cli.device import WeightFormat, pick_device, pick_weight_format
from llasa_cli.errors import ModelError
from llasa_cli.files import read_json_object
from llasa_cli.lm.cpu.build import load_kernels
from llasa_cli.lm.engine import EnginePool, SlotEngine
from llasa_cli.lm.generation import Generation
from llasa_cli.lm.layer import LayerWeights
from llasa_cli.lm.linear import Embedding, FileEmbedding, Linear
from llasa_cli.lm.llama import Llama
from llasa_cli.lm.llama_config import LlamaConfig
from llasa_cli.lm.lora import read_adapter
from llasa_cli.lm.weight_cache import WeightCache
from llasa_cli.lm.weights import EMBEDDING, HEAD, Weights
from llasa_cli.memory import release_free_memory
from llasa_cli.prompt import Prompt, PromptFormat
from llasa_cli.settings import SamplingOptions

LARGE_MATRIX = 4 << 20
"""The number of weights from which on free memory is returned to the system after a matrix was packed. For smaller matrices it
would take time and gain nothing."""
SMALL_EMBEDDING = 64 << 20
"""Bytes of an embedding up to which all of it may stay in memory. Reading single rows from a file takes some microseconds more."""
AS_STORED = "stored"
"""The name of a `WeightFormat` that keeps each tensor in the format of its file."""
_FLOATING = {"BF16": "bf16", "F16": "fp16"}
_DTYPE_OF = {"q8_0": "int8", "q4_0": "int4"}
"""Formats of `Linear.from_blocks` and the `--dtype` that asks for them."""

_MOST_ROWS = 4
"""Rows of a step of a small model, for each thread: two sequences with guidance have some 7 MB of keys and values."""


class LanguageModel:
    """A loaded model. Build it with `load_language_model`.

    Attributes:
        is_small: Whether one CPU thread is faster than several.
        step_threads: The most threads that share the sequences of a step of a small model.
    """

    def __init__(self, network: Llama, prompt_format: PromptFormat) -> None:
        self.network, self.prompt_format = network, prompt_format
        self.device, self.dtype = network.device, network.dtype
        self.is_small = self.device.type == "cpu" and network.config.is_small
        self.step_threads = 1

    def generate(self, prompt: Prompt, sampling: SamplingOptions, seed: int) -> Generation:
        """Continue a prompt: an iterator of codes. On one machine the same arguments give the same codes."""
        return Generation(self.network, self.prompt_format, prompt, sampling, seed)

    def batch(self, slots: int) -> SlotEngine:
        """Continue up to `slots` prompts at once, beside the decoding of what is complete."""
        return self._engine(slots, self.step_threads // 2)

    def exact_batch(self, slots: int, together: int = 1) -> SlotEngine | EnginePool:
        """Like `batch`, where on a CPU the codes of a sequence don't depend on the number of slots.

        Args:
            together: The number of sequences that one text has at once. With 1 each has the same codes as from `generate`, bit
                for bit; without the fused step, the same as from `batch(together)`.
        """
        if self.device.type != "cpu" or self.network.fused_rows:
            return self._engine(slots, self.step_threads // 2, is_exact=True)
        return EnginePool(lambda: self.batch(together), slots)

    def takes_batch(self, takes: int, in_step: bool = False) -> SlotEngine:
        """The engine of one chunk's takes: the codes of each are those of `exact_batch(..., together=takes)`.

        Args:
            in_step: All takes have equally many codes at any time.
        """
        is_exact = self.device.type == "cpu" and self.network.fused_rows > 0
        return self._engine(takes, self.step_threads, is_exact, in_step)

    def _engine(self, slots: int, threads: int, is_exact: bool = False, in_step: bool = False) -> SlotEngine:
        threads, most_rows = max(1, threads), None
        if self.is_small and self.network.fused_rows and not in_step:
            # A large model's weights don't fit a cache: there all sequences share one pass over them.
            most_rows = _MOST_ROWS * threads
        return SlotEngine(
            self.network, self.prompt_format, slots, is_exact=is_exact, threads=threads, most_rows=most_rows
        )


def load_language_model(
    folder: Path,
    prompt_format: PromptFormat,
    device: str = "auto",
    dtype: str = "auto",
    adapter: Path | None = None,
    attention: str = "auto",
    cpu_dtype: str | None = None,
    on_checked: Callable[[], None] | None = None,
) -> LanguageModel:
    """Load the checkpoint in `folder`, or the GGUF file.

    On a CPU the quantized tensors of a GGUF file stay in their format unless `dtype` names another: Q8_0 and Q4_0 exactly, the
    others as Q8_0, whose error is much smaller than theirs.

    Args:
        prompt_format: Read from the same folder.
        adapter: The folder of a LoRA adapter, which is added to the weights as they are read.
        attention: An implementation of `lm.attention`.
        cpu_dtype: The format that a dtype of auto means on a CPU. None: the format that the weights are stored in.
        on_checked: Called when everything in the headers is right, before any weight is read.

    Raises:
        ModelError: Files are missing or damaged, the architecture is another, or the weights don't fit the tokenizer.
        UsageError: There is no such device or dtype here.
    """
    where = pick_device(device)
    kind = pick_weight_format(dtype, where)
    config_json = _read_config(folder)
    config = LlamaConfig.from_json(config_json)
    weights = Weights(folder, where, kind.compute_dtype, None if adapter is None else read_adapter(adapter))
    forget_gguf()
    release_free_memory()  # reading the vocabulary took much memory for a moment
    weights.check(config, prompt_format.vocabulary_size, bool(config_json.get("tie_word_embeddings", False)))
    if on_checked is not None:
        on_checked()
    stored = _FLOATING.get(weights.files[EMBEDDING].dtype, "fp32")
    kind = pick_weight_format(dtype, where, cpu_dtype or stored)
    if dtype == "auto" and where.type == "cpu" and any(map(weights.is_quantized, weights.files)):
        kind = WeightFormat(AS_STORED, kind.compute_dtype)
    cache = WeightCache(None)
    if where.type == "cpu" and adapter is None:
        cache = WeightCache.open({place.file for place in weights.files.values()}, kind, load_kernels)
    weights.is_checked = cache.is_complete
    try:
        network = Llama(
            config,
            head=_read_head(weights, prompt_format, kind, cache),
            embedding=_read_embedding(weights, kind),
            layers=[
                _read_layer(weights, f"model.layers.{index}.", config, kind, cache) for index in range(config.layers)
            ],
            norm=weights("model.norm.weight"),
            attention=attention,
        )
        cache.commit()
    finally:
        cache.discard()
    return LanguageModel(network, prompt_format)


def _read_config(folder: Path) -> dict[str, Any]:
    if is_gguf(folder):
        return read_gguf(folder).config()
    path = folder / "config.json"
    if not path.is_file():
        raise ModelError(f"There is no config.json in {folder}.", "Is this the folder of a Llasa checkpoint?")
    config = read_json_object(path, AGAIN)
    if "auto_map" in config:
        raise ModelError(
            f"The checkpoint in {folder} needs code from its own repository (auto_map), which is never run.",
            "Use a plain Llama without auto_map.",
        )
    if config.get("quantization_config"):
        raise ModelError(f"The weights in {folder} are quantized.", "Use the checkpoint in 16 or 32 bit.")
    return config


def _read_head(weights: Weights, prompt_format: PromptFormat, kind: WeightFormat, cache: WeightCache) -> Linear:
    """The rows that can be sampled: those of the codes, then END's.

    A head that is stored is used even if `tie_word_embeddings` says that the embedding is the head (Llasa-3B has both).
    """
    name = HEAD if HEAD in weights.files else EMBEDDING
    first, end = prompt_format.first_code_id, prompt_format.end_id
    parts = [Part(name, slice(first, first + prompt_format.code_count)), Part(name, slice(end, end + 1))]
    return _read_cached(weights, parts, kind, cache)


class Part(NamedTuple):
    """Rows of a stored matrix; None: all."""

    name: str
    rows: slice | None = None


def _shape_of(weights: Weights, parts: Sequence[Part]) -> tuple[int, int]:
    """The shape of the parts below each other."""
    shapes = [weights.files[part.name].shape for part in parts]
    counts = [
        len(range(*(part.rows or slice(None)).indices(rows))) for part, (rows, _) in zip(parts, shapes, strict=True)
    ]
    return sum(counts), shapes[0][1]


def _read_cached(weights: Weights, parts: Sequence[Part], kind: WeightFormat, cache: WeightCache) -> Linear:
    """Like `read_linear`, but take the matrix from the cache if it is there, and add it otherwise."""
    name = " ".join(f"{part.name}[{part.rows.start}:{part.rows.stop}]" if part.rows else part.name for part in parts)
    rows, width = _shape_of(weights, parts)
    found = cache.get(name, (rows, width), kind.compute_dtype)
    if found is None:
        found = read_linear(weights, parts, kind)
        cache.add(name, found)
        if rows * width >= LARGE_MATRIX:
            release_free_memory()  # memory that packing took; else the C library keeps up to a third of the weights' size
    return found


def read_linear(weights: Weights, parts: Sequence[Part], kind: WeightFormat) -> Linear:
    """Stack rows of stored matrices, whose shapes `Weights.check` has checked.

    Raises:
        ModelError: A matrix is damaged.
    """
    shape = _shape_of(weights, parts)
    names = {part.name for part in parts}
    formats = {weights.files[name].dtype if weights.is_quantized(name) else "" for name in names}
    own = "q4_0" if formats == {"Q4_0"} else "q8_0"
    is_kept = "" not in formats and weights.device.type == "cpu" and kind.name in (AS_STORED, _DTYPE_OF[own])
    kernels = load_kernels() if is_kept else None
    if kernels is not None:
        blocks = (block for part in parts for block in weights.groups(part.name, part.rows or slice(None)))
        return Linear.from_blocks(blocks, shape, WeightFormat(own, kind.compute_dtype), kernels)
    if kind.name == AS_STORED:
        floating = _FLOATING.get(weights.files[parts[0].name].dtype, "fp32") if formats == {""} else "bf16"
        kind = WeightFormat(floating if "" in formats else "int8", kind.compute_dtype)

    def tensors() -> Iterator[torch.Tensor]:
        for name, of_one in groupby(parts, lambda part: part.name):
            whole = weights.stored(name)
            yield from (whole[part.rows or slice(None)] for part in of_one)

    return Linear.from_parts(tensors(), *shape, kind, weights.device)


def _read_embedding(weights: Weights, kind: WeightFormat) -> Embedding:
    """Read the embedding. On a CPU a large one stays in its file, in the file's format: a step reads one row of it."""
    place = weights.files[EMBEDDING]
    is_large = weights.is_quantized(EMBEDDING) or place.end - place.begin > SMALL_EMBEDDING
    if weights.device.type == "cpu" and is_large and not weights.is_changed(EMBEDDING):
        return FileEmbedding(weights.row_reader(EMBEDDING), kind.compute_dtype)
    rows = weights.stored(EMBEDDING)
    if weights.device.type != "cpu":
        rows = rows.to(weights.device, kind.storage_dtype)
    return Embedding(rows, kind.compute_dtype)


def _read_layer(
    weights: Weights, prefix: str, config: LlamaConfig, kind: WeightFormat, cache: WeightCache
) -> LayerWeights:
    def linear(*names: str) -> Linear:
        """The named projections, stacked."""
        return _read_cached(weights, [Part(f"{prefix}{name}_proj.weight") for name in names], kind, cache)

    attention = prefix + "self_attn."
    return LayerWeights(
        input_norm=weights(prefix + "input_layernorm.weight"),
        query_key_value=linear("self_attn.q", "self_attn.k", "self_attn.v"),
        output=linear("self_attn.o"),
        middle_norm=weights(prefix + "post_attention_layernorm.weight"),
        gate_up=linear("mlp.gate", "mlp.up"),
        down=linear("mlp.down"),
        bias=torch.cat([weights(f"{attention}{name}_proj.bias") for name in "qkv"]) if config.has_bias else None,
        query_norm=weights(attention + "q_norm.weight") if config.has_head_norms else None,
        key_norm=weights(attention + "k_norm.weight") if config.has_head_norms else None,
    )
