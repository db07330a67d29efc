"""A checkpoint folder -> a language model that speaks codes.

Any Llama in Hugging Face's format with a Llasa vocabulary: one safetensors file or several, tied or with its own head,
read without transformers. Pickled weights are refused: they run code.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from llasa_cli.device import pick_device, pick_dtype
from llasa_cli.errors import ModelError
from llasa_cli.files import read_object
from llasa_cli.hub.cache import find_model
from llasa_cli.lm.adapter import Adapter, base_of, is_adapter, read_adapter
from llasa_cli.lm.decode import Generation
from llasa_cli.lm.network import Layer, Network, Shape
from llasa_cli.protocol import Prompt, Protocol
from llasa_cli.settings import SamplingOptions

_AGAIN = "Fetch the checkpoint again."
SMALL_WEIGHTS = 20_000_000
"""Below this many weights in the layers, one CPU thread decodes faster than several."""

COLUMNS_UP_TO = 4_000_000
"""Larger matrices (16 MB) don't stay in a CPU's cache, and how they are stored no longer matters."""


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
    read = _Weights(folder, where, kind, None if adapter is None else read_adapter(adapter))
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
        head=_lay_out(rows.to(where, kind)),
    )
    return LanguageModel(network, protocol)


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        raise ModelError(f"There is no config.json in {folder}.", "Is this the folder of a Llasa checkpoint?")
    config = read_object(path, _AGAIN)
    if config.get("quantization_config"):
        raise ModelError(f"The weights in {folder} are quantised.", "Use the checkpoint in 16 or 32 bit.")
    return config


class _Weights:
    """Reads tensors by name; `files` tells which there are, and where."""

    def __init__(self, folder: Path, device: torch.device, dtype: torch.dtype, adapter: Adapter | None = None) -> None:
        self.folder, self.device, self.dtype = folder, device, dtype
        self.files = weight_files(folder)
        self._adapter = adapter
        if adapter is not None:
            adapter.check(set(self.files))

    def __call__(self, name: str, *shape: int) -> torch.Tensor:
        """One tensor, where and as it is wanted."""
        return self.stored(name, *shape).to(self.device, self.dtype)

    def stack(self, parts: Sequence[tuple[str, int]], width: int) -> torch.Tensor:
        """Matrices of (name, rows) below each other; each is written where it belongs, not copied once more."""
        whole = torch.empty(sum(rows for _, rows in parts), width, dtype=self.dtype, device=self.device)
        begin = 0
        for name, rows in parts:
            whole[begin : begin + rows] = self.stored(name, rows, width)
            begin += rows
        return whole

    def stored(self, name: str, *shape: int) -> torch.Tensor:
        """One tensor as it is in its file, checked against `shape` where that is given.

        Checked here because not every wrong shape fails later: one row is broadcast, and a short head speaks nonsense.
        """
        from safetensors import SafetensorError, safe_open

        if name not in self.files:
            raise ModelError(f"The checkpoint in {self.folder} has no {name}.", "It is incomplete: fetch it again.")
        path = self.files[name]
        try:
            with safe_open(path, framework="pt") as file:
                tensor: torch.Tensor = file.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{path} can't be read: {error}", _AGAIN) from error
        if self._adapter is not None:
            tensor = self._adapter.applied(name, tensor)
        if shape and tuple(tensor.shape) != shape:
            raise ModelError(
                f"{name} has the shape {tuple(tensor.shape)}, config.json and tokenizer say {shape}.",
                "The files are of different models.",
            )
        if not tensor.is_floating_point() or tensor.element_size() < 2:
            raise ModelError(f"{name} is stored as {tensor.dtype}.", "Use the checkpoint in 16 or 32 bit.")
        return tensor


def _layer(read: _Weights, prefix: str, shape: Shape) -> Layer:
    attention, mlp, width, inner = prefix + "self_attn.", prefix + "mlp.", shape.hidden, shape.inner
    queries, keys = shape.heads * shape.head, shape.key_value_heads * shape.head
    biases = [name for name in read.files if name.startswith(prefix) and name.endswith(".bias")]
    if biases:
        raise ModelError(f"The checkpoint has {biases[0]}, which no Llasa has and this program does not run.")
    parts = (("q", queries), ("k", keys), ("v", keys))
    return Layer(
        input_norm=read(prefix + "input_layernorm.weight", width),
        query_key_value=_lay_out(read.stack([(f"{attention}{part}_proj.weight", rows) for part, rows in parts], width)),
        output=_lay_out(read(attention + "o_proj.weight", width, queries)),
        middle_norm=read(prefix + "post_attention_layernorm.weight", width),
        gate_up=_lay_out(read.stack([(f"{mlp}{part}_proj.weight", inner) for part in ("gate", "up")], width)),
        down=_lay_out(read(mlp + "down_proj.weight", width, inner)),
    )


def _lay_out(weight: torch.Tensor) -> torch.Tensor:
    """The same matrix, stored by columns where one vector at a time is multiplied faster so.

    The built-in voice took three quarters of its time so. At Llasa-1B's size, where memory is the limit, it was one
    twentieth faster and seconds longer to load; in bfloat16 it is slower (one thread of an AMD EPYC).
    """
    if weight.device.type == "cpu" and weight.dtype == torch.float32 and weight.numel() <= COLUMNS_UP_TO:
        return weight.t().contiguous().t()
    return weight


def weight_files(folder: Path) -> dict[str, Path]:
    """Tensor name -> the file that holds it."""
    from safetensors import SafetensorError, safe_open

    index, single = folder / "model.safetensors.index.json", folder / "model.safetensors"
    if index.is_file():
        try:
            found = {name: folder / file for name, file in read_object(index, _AGAIN)["weight_map"].items()}
        except (KeyError, AttributeError, TypeError) as error:
            raise ModelError(f"{index} names no weight files.", _AGAIN) from error
        absent = sorted({path.name for path in found.values() if not path.is_file()})
        if absent:
            raise ModelError(f"{folder} lacks {', '.join(absent)}.", "The download is incomplete: run it again.")
        return found
    if single.is_file():
        try:
            with safe_open(single, framework="pt") as file:
                return dict.fromkeys(file.keys(), single)
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{single} can't be read: {error}", _AGAIN) from error
    hint = "It is incomplete: fetch it again."
    if (folder / "adapter_config.json").is_file():
        hint = "It is an adapter (LoRA), not a whole model: name its base, or merge the two."
    elif list(folder.glob("*.bin")) or list(folder.glob("*.pt*")):
        hint = "It has pickled weights only, which can run any code when loaded; convert it to safetensors."
    raise ModelError(f"There are no safetensors weights in {folder}.", hint)
