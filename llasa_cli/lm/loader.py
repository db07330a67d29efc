"""A checkpoint folder -> a language model that speaks codes.

Any Llama in Hugging Face's format with a Llasa vocabulary: one safetensors file or several, tied or with its own head,
read without transformers. Pickled weights are refused: they run code.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from llasa_cli.checkpoint.safetensors_header import AGAIN
from llasa_cli.device import NumberFormat, pick_device, pick_format
from llasa_cli.errors import ModelError
from llasa_cli.files import read_json_object
from llasa_cli.lm.engine import SlotEngine
from llasa_cli.lm.generation import Generation
from llasa_cli.lm.linear import Embedding, Matrix
from llasa_cli.lm.llama import Layer, Llama, LlamaConfig
from llasa_cli.lm.lora import read_adapter
from llasa_cli.lm.weights import EMBEDDING, HEAD, Weights
from llasa_cli.prompt import Prompt, PromptFormat
from llasa_cli.settings import SamplingOptions

SMALL_WEIGHTS = 20_000_000
"""Below this many weights in the layers, one CPU thread decodes faster than several."""


class LanguageModel:
    """A loaded model. Build it with `load_language_model`."""

    def __init__(self, network: Llama, prompt_format: PromptFormat) -> None:
        self.network, self.prompt_format = network, prompt_format
        self.device, self.dtype = network.device, network.dtype
        shape = network.shape
        self.is_small = self.device.type == "cpu" and 12 * shape.layers * shape.hidden**2 < SMALL_WEIGHTS

    def generate(self, prompt: Prompt, sampling: SamplingOptions, seed: int) -> Generation:
        """Speak a prompt: an iterator of codes. The same prompt, options and seed give the same codes on one machine."""
        return Generation(self.network, self.prompt_format, prompt, sampling, seed)

    def batch(self, slots: int) -> SlotEngine:
        """Speak up to `slots` prompts at once."""
        return SlotEngine(self.network, self.prompt_format, slots)


def load_language_model(
    folder: Path,
    prompt_format: PromptFormat,
    device: str = "auto",
    dtype: str = "auto",
    adapter: Path | None = None,
    attention: str = "auto",
    on_checked: Callable[[], None] | None = None,
) -> LanguageModel:
    """Load the checkpoint in `folder`, whose tokenizer `prompt_format` was read from.

    Args:
        adapter: The folder of a LoRA adapter to add to the weights as they are read.
        attention: See `lm.attention`.
        on_checked: Called when all that the headers tell is right, before a weight is read.

    Raises:
        ModelError: Files missing or broken, another architecture, or weights that don't fit the tokenizer.
        UsageError: A device or dtype that there isn't.
    """
    where = pick_device(device)
    kind = pick_format(dtype, where)
    config = _read_config(folder)
    shape = LlamaConfig.of(config)
    read = Weights(folder, where, kind.states, None if adapter is None else read_adapter(adapter))
    read.check(shape, prompt_format.vocabulary_size, bool(config.get("tie_word_embeddings", False)))
    if on_checked is not None:
        on_checked()
    kept = {"BF16": "bf16", "F16": "fp16"}.get(read.files[EMBEDDING].dtype, "fp32")
    kind = pick_format(dtype, where, kept, 12 * shape.layers * shape.hidden**2)
    network = Llama(
        shape,
        head=_head(read, prompt_format, shape.hidden, kind),
        embedding=_embedding(read, kind),
        layers=[_layer(read, f"model.layers.{index}.", shape, kind) for index in range(shape.layers)],
        norm=read("model.norm.weight", shape.hidden),
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
            "A plain Llama without it can be used.",
        )
    if config.get("quantization_config"):
        raise ModelError(f"The weights in {folder} are quantised.", "Use the checkpoint in 16 or 32 bit.")
    return config


def _head(read: Weights, prompt_format: PromptFormat, width: int, kind: NumberFormat) -> Matrix:
    """The rows that may be drawn: the codes', then END's.

    Where a head is stored it counts, whatever `tie_word_embeddings` says (Llasa-3B has both).
    """
    whole = read.stored(HEAD if HEAD in read.files else EMBEDDING)
    first, stop = prompt_format.first_code_id, prompt_format.end_id
    rows = [whole[first : first + prompt_format.code_count], whole[stop : stop + 1]]
    return Matrix.of(rows, prompt_format.code_count + 1, width, kind, read.device)


def _embedding(read: Weights, kind: NumberFormat) -> Embedding:
    """On a CPU it stays in its file, as it is: a step takes one row of it."""
    rows = read.looked_up(EMBEDDING)
    return Embedding(rows if read.device.type == "cpu" else rows.to(read.device, kind.stored), kind.states)


def _layer(read: Weights, prefix: str, shape: LlamaConfig, kind: NumberFormat) -> Layer:
    attention, mlp, width, inner = prefix + "self_attn.", prefix + "mlp.", shape.hidden, shape.inner
    queries, keys = shape.heads * shape.head, shape.key_value_heads * shape.head

    def matrix(width: int, **parts: int) -> Matrix:
        """Of the parts that are named, (rows, width) each."""
        tensors = (read.stored(f"{places[name]}{name}_proj.weight", rows, width) for name, rows in parts.items())
        return Matrix.of(tensors, sum(parts.values()), width, kind, read.device)

    places = dict.fromkeys("qkvo", attention) | dict.fromkeys(("gate", "up", "down"), mlp)
    return Layer(
        input_norm=read(prefix + "input_layernorm.weight", width),
        query_key_value=matrix(width, q=queries, k=keys, v=keys),
        output=matrix(queries, o=width),
        middle_norm=read(prefix + "post_attention_layernorm.weight", width),
        gate_up=matrix(width, gate=inner, up=inner),
        down=matrix(inner, down=width),
    )
