"""A checkpoint folder -> a language model that generates speech codes.

Any Llama in Hugging Face's format with a Llasa vocabulary: one safetensors file or several, with a tied head or its own.
transformers is not needed. Pickled weights are refused, because loading them can run code.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from llasa_cli.checkpoint.safetensors_header import AGAIN
from llasa_cli.device import WeightFormat, pick_device, pick_weight_format
from llasa_cli.errors import ModelError
from llasa_cli.files import read_json_object
from llasa_cli.lm.engine import SlotEngine
from llasa_cli.lm.generation import Generation
from llasa_cli.lm.layer import LayerWeights
from llasa_cli.lm.linear import Embedding, Linear
from llasa_cli.lm.llama import Llama
from llasa_cli.lm.llama_config import LlamaConfig
from llasa_cli.lm.lora import read_adapter
from llasa_cli.lm.weights import EMBEDDING, HEAD, Weights
from llasa_cli.prompt import Prompt, PromptFormat
from llasa_cli.settings import SamplingOptions

SMALL_WEIGHTS = 20_000_000
"""With fewer weights in the layers, one CPU thread decodes faster than several."""


class LanguageModel:
    """A loaded model. Build it with `load_language_model`.

    Attributes:
        is_small: One CPU thread is quickest.
    """

    def __init__(self, network: Llama, prompt_format: PromptFormat) -> None:
        self.network, self.prompt_format = network, prompt_format
        self.device, self.dtype = network.device, network.dtype
        self.is_small = self.device.type == "cpu" and network.config.weights_in_layers < SMALL_WEIGHTS

    def generate(self, prompt: Prompt, sampling: SamplingOptions, seed: int) -> Generation:
        """Continue a prompt: an iterator of codes. On one machine the same arguments give the same codes."""
        return Generation(self.network, self.prompt_format, prompt, sampling, seed)

    def batch(self, slots: int) -> SlotEngine:
        """Continue up to `slots` prompts at once."""
        return SlotEngine(self.network, self.prompt_format, slots)


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
    """Load the checkpoint in `folder`.

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
    weights.check(config, prompt_format.vocabulary_size, bool(config_json.get("tie_word_embeddings", False)))
    if on_checked is not None:
        on_checked()
    stored = {"BF16": "bf16", "F16": "fp16"}.get(weights.files[EMBEDDING].dtype, "fp32")
    kind = pick_weight_format(dtype, where, cpu_dtype or stored)
    network = Llama(
        config,
        head=_read_head(weights, prompt_format, config.hidden_size, kind),
        embedding=_read_embedding(weights, kind),
        layers=[_read_layer(weights, f"model.layers.{index}.", config, kind) for index in range(config.layers)],
        norm=weights("model.norm.weight", config.hidden_size),
        attention=attention,
    )
    return LanguageModel(network, prompt_format)


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        raise ModelError(f"There is no config.json in {folder}.", "Is this the folder of a Llasa checkpoint?")
    config = read_json_object(path, AGAIN)
    if "auto_map" in config:
        raise ModelError(
            f"The checkpoint in {folder} asks for code of its own (auto_map), which is never run here.",
            "Use a plain Llama without auto_map.",
        )
    if config.get("quantization_config"):
        raise ModelError(f"The weights in {folder} are quantized.", "Use the checkpoint in 16 or 32 bit.")
    return config


def _read_head(weights: Weights, prompt_format: PromptFormat, hidden_size: int, kind: WeightFormat) -> Linear:
    """The rows that can be sampled: those of the codes, then END's.

    A head that is stored is used even if `tie_word_embeddings` says that the embedding is the head (Llasa-3B has both).
    """
    rows = weights.stored(HEAD if HEAD in weights.files else EMBEDDING)
    first, end = prompt_format.first_code_id, prompt_format.end_id
    parts = [rows[first : first + prompt_format.code_count], rows[end : end + 1]]
    return Linear.from_parts(parts, prompt_format.code_count + 1, hidden_size, kind, weights.device)


def _read_embedding(weights: Weights, kind: WeightFormat) -> Embedding:
    """On a CPU it stays mapped in its file, in the file's format: a step reads one row of it."""
    rows = weights.mapped(EMBEDDING)
    if weights.device.type != "cpu":
        rows = rows.to(weights.device, kind.storage_dtype)
    return Embedding(rows, kind.compute_dtype)


def _read_layer(weights: Weights, prefix: str, config: LlamaConfig, kind: WeightFormat) -> LayerWeights:
    attention, mlp = prefix + "self_attn.", prefix + "mlp."
    blocks = dict.fromkeys("qkvo", attention) | dict.fromkeys(("gate", "up", "down"), mlp)
    hidden_size, intermediate_size = config.hidden_size, config.intermediate_size
    queries, keys = config.heads * config.head_dim, config.key_value_heads * config.head_dim

    def linear(width: int, **rows: int) -> Linear:
        """The named projections, (rows, width) each, stacked."""
        parts = (weights.stored(f"{blocks[name]}{name}_proj.weight", count, width) for name, count in rows.items())
        return Linear.from_parts(parts, sum(rows.values()), width, kind, weights.device)

    return LayerWeights(
        input_norm=weights(prefix + "input_layernorm.weight", hidden_size),
        query_key_value=linear(hidden_size, q=queries, k=keys, v=keys),
        output=linear(queries, o=hidden_size),
        middle_norm=weights(prefix + "post_attention_layernorm.weight", hidden_size),
        gate_up=linear(hidden_size, gate=intermediate_size, up=intermediate_size),
        down=linear(intermediate_size, down=hidden_size),
    )
