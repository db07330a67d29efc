"""A checkpoint folder -> a language model that speaks codes.

Any Llama in Hugging Face's format with a Llasa vocabulary: one safetensors file or several, tied or with its own head,
read without transformers. Pickled weights are refused: they run code.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch

from llasa_cli.device import pick_device, pick_dtype
from llasa_cli.errors import ModelError
from llasa_cli.lm.decode import Generation
from llasa_cli.lm.network import Layer, Network, Shape
from llasa_cli.protocol import Prompt, Protocol
from llasa_cli.settings import SamplingOptions

SMALL_WEIGHTS = 20_000_000
"""Below this many weights in the layers, one CPU thread decodes faster than several."""

Read = Callable[[str], torch.Tensor]


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


def load_language_model(folder: Path, protocol: Protocol, device: str = "auto", dtype: str = "auto") -> LanguageModel:
    """Load the checkpoint in `folder`, whose tokenizer `protocol` was read from.

    Raises:
        ModelError: Files missing or broken, another architecture, or weights that don't fit the tokenizer.
        UsageError: A device or dtype that there isn't.
    """
    where = pick_device(device)
    kind = pick_dtype(dtype, where)
    path = folder / "config.json"
    if not path.is_file():
        raise ModelError(f"There is no config.json in {folder}.", "Is this the folder of a Llasa checkpoint?")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{path} can't be read: {error}", "Fetch the checkpoint again.") from error
    shape = Shape.of(config)
    names = _files(folder)

    def read(name: str) -> torch.Tensor:
        from safetensors import SafetensorError, safe_open

        if name not in names:
            raise ModelError(f"The checkpoint in {folder} has no {name}.", "It is incomplete: fetch it again.")
        try:
            with safe_open(names[name], framework="pt") as file:
                tensor: torch.Tensor = file.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{names[name]} can't be read: {error}", "Fetch the checkpoint again.") from error
        return tensor.to(where, kind)

    embedding = read("model.embed_tokens.weight")
    if len(embedding) < protocol.vocabulary_size or embedding.shape[1] != shape.hidden:
        raise ModelError(
            f"The weights have {len(embedding)} tokens of width {embedding.shape[1]}, "
            f"tokenizer and config.json say {protocol.vocabulary_size} of {shape.hidden}.",
            "Tokenizer and weights are of different models.",
        )
    # Where a head is stored it counts, whatever `tie_word_embeddings` says (Llasa-3B has both).
    if "lm_head.weight" in names:
        head = read("lm_head.weight")
    elif config.get("tie_word_embeddings", False):
        head = embedding
    else:
        raise ModelError(
            f"The checkpoint in {folder} has no lm_head.weight, and config.json ties none.", "Fetch it again."
        )
    first = protocol.first_code_id
    rows = torch.cat([head[first : first + protocol.code_count], head[protocol.stop_id : protocol.stop_id + 1]])
    del head
    try:
        layers = [_layer(read, f"model.layers.{index}.", shape) for index in range(shape.layers)]
        network = Network(shape, embedding, layers, read("model.norm.weight"), rows)
    except RuntimeError as error:
        raise ModelError(f"The weights in {folder} don't have the shapes config.json says: {error}") from error
    return LanguageModel(network, protocol)


def _layer(read: Read, prefix: str, shape: Shape) -> Layer:
    attention, mlp = prefix + "self_attn.", prefix + "mlp."
    query_key_value = torch.cat([read(f"{attention}{part}_proj.weight") for part in "qkv"])
    wanted = ((shape.heads + 2 * shape.key_value_heads) * shape.head, shape.hidden)
    if tuple(query_key_value.shape) != wanted:
        raise RuntimeError(f"{attention}*: {tuple(query_key_value.shape)} instead of {wanted}")
    return Layer(
        input_norm=read(prefix + "input_layernorm.weight"),
        query_key_value=query_key_value,
        output=read(attention + "o_proj.weight"),
        middle_norm=read(prefix + "post_attention_layernorm.weight"),
        gate_up=torch.cat([read(f"{mlp}{part}_proj.weight") for part in ("gate", "up")]),
        down=read(mlp + "down_proj.weight"),
    )


def _files(folder: Path) -> dict[str, Path]:
    """Tensor name -> the file that holds it."""
    from safetensors import SafetensorError, safe_open

    index, single = folder / "model.safetensors.index.json", folder / "model.safetensors"
    if index.is_file():
        try:
            table = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        except (ValueError, KeyError) as error:
            raise ModelError(f"{index} can't be read: {error}", "Fetch the checkpoint again.") from error
        found = {name: folder / file for name, file in table.items()}
        absent = sorted({path.name for path in found.values() if not path.is_file()})
        if absent:
            raise ModelError(f"{folder} lacks {', '.join(absent)}.", "The download is incomplete: run it again.")
        return found
    if single.is_file():
        try:
            with safe_open(single, framework="pt") as file:
                return dict.fromkeys(file.keys(), single)
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{single} can't be read: {error}", "Fetch the checkpoint again.") from error
    hint = "It is incomplete: fetch it again."
    if list(folder.glob("*.bin")) or list(folder.glob("*.pt*")):
        hint = "It has pickled weights only, which can run any code when loaded; convert it to safetensors."
    raise ModelError(f"There are no safetensors weights in {folder}.", hint)
