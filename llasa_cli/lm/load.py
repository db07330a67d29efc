"""A checkpoint folder -> a language model that speaks codes.

Any Llama in Hugging Face's format with a Llasa vocabulary: one safetensors file or several, tied or with its own head,
read without transformers. Pickled weights are refused: they run code.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from llasa_cli.device import pick_device, pick_dtype
from llasa_cli.errors import ModelError
from llasa_cli.files import read_object
from llasa_cli.hub.cache import find_model
from llasa_cli.lm.adapter import base_of, is_adapter, read_adapter
from llasa_cli.lm.decode import Generation
from llasa_cli.lm.matrix import Matrix
from llasa_cli.lm.network import Layer, Network, Shape
from llasa_cli.lm.weights import AGAIN, Weights
from llasa_cli.protocol import Prompt, Protocol
from llasa_cli.settings import SamplingOptions

SMALL_WEIGHTS = 20_000_000
"""Below this many weights in the layers, one CPU thread decodes faster than several."""


class LanguageModel:
    """A loaded model. Build it with `load_language_model`."""

    def __init__(self, network: Network, protocol: Protocol) -> None:
        self.network, self.protocol = network, protocol
        self.device, self.dtype = network.embedding.device, network.embedding.dtype
        shape = network.shape
        self.is_small = self.device.type == "cpu" and 12 * shape.layers * shape.hidden**2 < SMALL_WEIGHTS

    def generate(self, prompt: Prompt, sampling: SamplingOptions, seed: int) -> Generation:
        """Speak a prompt: an iterator of codes. The same prompt, options and seed give the same codes on one machine."""
        return Generation(self.network, self.protocol, prompt, sampling, seed)


def load_language_model(
    folder: Path, protocol: Protocol, device: str = "auto", dtype: str = "auto", adapter: Path | None = None
) -> LanguageModel:
    """Load the checkpoint in `folder`, whose tokenizer `protocol` was read from.

    Args:
        adapter: A LoRA adapter of that checkpoint, added to the weights as they are read. A `folder` that is itself an
            adapter is read with the base that it names.

    Raises:
        ModelError: Files missing or broken, another architecture, or weights that don't fit the tokenizer.
        UsageError: A device or dtype that there isn't.
    """
    where = pick_device(device)
    kind = pick_dtype(dtype, where)
    if adapter is None and is_adapter(folder):
        folder, adapter = find_model(base_of(folder)), folder
    config = _read_config(folder)
    shape = Shape.of(config)
    read = Weights(folder, where, kind, None if adapter is None else read_adapter(adapter))
    width = shape.hidden
    embedding = read.stored("model.embed_tokens.weight")
    if embedding.dim() != 2 or len(embedding) < protocol.vocabulary_size or embedding.shape[1] != width:
        raise ModelError(
            f"The weights have {' x '.join(map(str, embedding.shape))} numbers for tokens, "
            f"tokenizer and config.json say {protocol.vocabulary_size} of width {width}.",
            "Tokenizer and weights are of different models.",
        )
    # Where a head is stored it counts, whatever `tie_word_embeddings` says (Llasa-3B has both).
    if "lm_head.weight" in read.files:
        head = read.stored("lm_head.weight", len(embedding), width)
    elif config.get("tie_word_embeddings", False):
        head = embedding
    else:
        raise ModelError(
            f"The checkpoint in {folder} has no lm_head.weight, and config.json ties none.", "Fetch it again."
        )
    first = protocol.first_code_id
    rows = torch.cat([head[first : first + protocol.code_count], head[protocol.stop_id : protocol.stop_id + 1]])
    network = Network(
        shape,
        embedding=embedding.to(where, kind),
        layers=[_layer(read, f"model.layers.{index}.", shape) for index in range(shape.layers)],
        norm=read("model.norm.weight", width),
        head=Matrix(rows.to(where, kind)),
    )
    return LanguageModel(network, protocol)


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        raise ModelError(f"There is no config.json in {folder}.", "Is this the folder of a Llasa checkpoint?")
    config = read_object(path, AGAIN)
    if config.get("quantization_config"):
        raise ModelError(f"The weights in {folder} are quantised.", "Use the checkpoint in 16 or 32 bit.")
    return config


def _layer(read: Weights, prefix: str, shape: Shape) -> Layer:
    attention, mlp, width, inner = prefix + "self_attn.", prefix + "mlp.", shape.hidden, shape.inner
    queries, keys = shape.heads * shape.head, shape.key_value_heads * shape.head
    biases = [name for name in read.files if name.startswith(prefix) and name.endswith(".bias")]
    if biases:
        raise ModelError(f"The checkpoint has {biases[0]}, which no Llasa has and this program does not run.")
    parts = (("q", queries), ("k", keys), ("v", keys))
    return Layer(
        input_norm=read(prefix + "input_layernorm.weight", width),
        query_key_value=Matrix(read.stack([(f"{attention}{part}_proj.weight", rows) for part, rows in parts], width)),
        output=Matrix(read(attention + "o_proj.weight", width, queries)),
        middle_norm=read(prefix + "post_attention_layernorm.weight", width),
        gate_up=Matrix(read.stack([(f"{mlp}{part}_proj.weight", inner) for part in ("gate", "up")], width)),
        down=Matrix(read(mlp + "down_proj.weight", width, inner)),
    )
