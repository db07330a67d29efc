"""A checkpoint folder or a GGUF file -> its tensors by name, each checked before it is used.

Of a folder only safetensors are read, from one file or several. Pickled weights are refused, because loading them can run code. The
headers of the whole checkpoint are checked before the first tensor is read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch

from llasa_cli.checkpoint.gguf_file import (
    BLOCK_FORMATS,
    GgufLocation,
    dequantize,
    is_gguf,
    raw_rows,
    read_gguf,
    read_gguf_tensor,
    split_blocks,
)
from llasa_cli.checkpoint.safetensors_header import (
    AGAIN,
    TensorLocation,
    is_finite,
    locate_tensors,
    read_tensor,
    row_reader,
)
from llasa_cli.errors import ModelError
from llasa_cli.lm.llama_config import LlamaConfig
from llasa_cli.lm.lora import Adapter
from llasa_cli.lm.quantize import WEIGHTS_AT_ONCE, quantize_q8_0

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
_UNUSED = re.compile(r"model\.layers\.\d+\.self_attn\.rotary_emb\.inv_freq")
"""Tensors of old checkpoints that follow from config.json."""
_FORMATS = ("F16", "BF16", "F32", "F64")


class Weights:
    """Reads tensors by name, with an adapter's changes.

    Attributes:
        files: The location of each tensor, by name.
        is_checked: The values are known to be finite and are not examined again.
    """

    def __init__(self, folder: Path, device: torch.device, dtype: torch.dtype, adapter: Adapter | None = None) -> None:
        self.folder, self.device, self.dtype = folder, device, dtype
        self.files: Mapping[str, TensorLocation] = (
            read_gguf(folder).tensors if is_gguf(folder) else locate_tensors(folder)
        )
        self._adapter = adapter
        self.is_checked = False
        if adapter is not None:
            adapter.check(set(self.files))

    def check(self, config: LlamaConfig, vocabulary: int, tied: bool) -> None:
        """Compare the headers with config.json and the tokenizer: every tensor of the network, and no other.

        Args:
            vocabulary: The number of tokens in the tokenizer; the weights may have more rows (padding).
            tied: config.json says that the embedding is the head too. A stored head is used all the same (Llasa-3B).

        Raises:
            ModelError: They don't belong to one model.
        """
        embedding = self._place(EMBEDDING)
        shape = embedding.shape
        if len(shape) != 2 or shape[0] < vocabulary or shape[1] != config.hidden_size:
            raise ModelError(
                f"The token embedding has the shape {' x '.join(map(str, shape))}, but tokenizer and config.json require "
                f"{vocabulary} tokens of width {config.hidden_size}.",
                "Tokenizer and weights are of different models.",
            )
        if HEAD not in self.files and not tied:
            raise ModelError(
                f"The checkpoint in {self.folder} has no {HEAD}, and its config.json does not tie it.", AGAIN
            )
        if config.layers > len(self.files):
            raise ModelError(
                f"The checkpoint's config.json has {config.layers} layers, but the weights have only "
                f"{len(self.files)} tensors.",
                AGAIN,
            )
        expected = shapes_of(config) | {EMBEDDING: shape, HEAD: shape}
        for name, wanted in expected.items():
            if name == HEAD and name not in self.files:
                continue
            # Not every wrong shape would fail later: a single row is broadcast, and a head that is too short shifts the codes.
            place = self._place(name)
            if place.shape != wanted:
                raise ModelError(
                    f"{name} has the shape {place.shape}, but config.json and the tokenizer require {wanted}.",
                    "The files are of different models.",
                )
            if place.dtype not in _FORMATS and not isinstance(place, GgufLocation):
                raise ModelError(f"{name} is stored as {place.dtype}.", "Use the checkpoint in 16 or 32 bit.")
        unexpected = [name for name in self.files if name not in expected and not _UNUSED.fullmatch(name)]
        if unexpected:
            raise ModelError(f"The checkpoint has {unexpected[0]}, which this program does not support.")

    def __call__(self, name: str) -> torch.Tensor:
        """One tensor, on the device and in the dtype of this reader."""
        return self.stored(name).to(self.device, self.dtype)

    def stored(self, name: str) -> torch.Tensor:
        """One tensor as it is stored, backed by its file.

        Raises:
            ModelError: The tensor is missing, or contains NaN or infinite values.
        """
        place = self._place(name)
        tensor = _read(place)
        if self._adapter is not None:
            tensor = self._adapter.applied(name, tensor)
        if not self.is_checked and not is_finite(tensor):
            raise ModelError(f"{name} in {place.file} contains NaN or infinite values.", AGAIN)
        return tensor

    def is_changed(self, name: str) -> bool:
        """Whether the adapter changes a tensor."""
        return self._adapter is not None and self._adapter.changes(name)

    def row_reader(self, name: str) -> Callable[[torch.Tensor], torch.Tensor]:
        """A function that reads rows of a tensor from its file: row numbers, int64 (N,) -> (N, W), as they are stored, or float32
        of a quantized tensor.

        The tensor can't be one for which `is_changed` holds.

        Raises:
            ModelError: As for `stored`.
        """
        place = self._place(name)
        read = row_reader(place)
        if self.is_quantized(name):
            return lambda numbers: dequantize(read(numbers), place.dtype)
        dtype = self.stored(name).dtype
        return lambda numbers: read(numbers).view(dtype)

    # --- quantized tensors ---

    def is_quantized(self, name: str) -> bool:
        """Whether a tensor lies in blocks of integers and scales, and no adapter changes it."""
        return self._place(name).dtype in BLOCK_FORMATS and not self.is_changed(name)

    def groups(self, name: str, rows: slice) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Rows of a quantized tensor, some at a time: integers, int8 (R, W), and float16 scales (R, W / 32).

        Q8_0 and Q4_0 are given as they are; other formats are quantized to Q8_0.

        Raises:
            ModelError: As for `stored`.
            LlasaError: The package that reads the format is not installed.
        """
        place = self._place(name)
        assert isinstance(place, GgufLocation)
        for raw in raw_rows(place)[rows].split(max(1, WEIGHTS_AT_ONCE // place.shape[-1])):
            if place.dtype in ("Q8_0", "Q4_0"):
                integers, scales = split_blocks(raw, place.dtype)
            else:
                integers, scales = quantize_q8_0(dequantize(raw, place.dtype))
            if not self.is_checked and not is_finite(scales.float()):
                raise ModelError(f"{name} in {place.file} contains NaN or infinite values.", AGAIN)
            yield integers, scales

    def _place(self, name: str) -> TensorLocation:
        if name not in self.files:
            raise ModelError(f"The checkpoint in {self.folder} has no {name}.", "It is incomplete: download it again.")
        return self.files[name]


def _read(place: TensorLocation) -> torch.Tensor:
    tensor: torch.Tensor = read_gguf_tensor(place) if isinstance(place, GgufLocation) else read_tensor(place)
    return tensor


def weight_files(folder: Path) -> dict[str, Path]:
    """Tensor name -> the file that holds it."""
    return {name: place.file for name, place in locate_tensors(folder).items()}


def shapes_of(config: LlamaConfig) -> dict[str, tuple[int, ...]]:
    """The shapes of a network's tensors, without embedding and head."""
    hidden_size, intermediate_size = config.hidden_size, config.intermediate_size
    queries, keys = config.heads * config.head_dim, config.key_value_heads * config.head_dim
    layer = {
        "input_layernorm": (hidden_size,),
        "self_attn.q_proj": (queries, hidden_size),
        "self_attn.k_proj": (keys, hidden_size),
        "self_attn.v_proj": (keys, hidden_size),
        "self_attn.o_proj": (hidden_size, queries),
        "post_attention_layernorm": (hidden_size,),
        "mlp.gate_proj": (intermediate_size, hidden_size),
        "mlp.up_proj": (intermediate_size, hidden_size),
        "mlp.down_proj": (hidden_size, intermediate_size),
    }
    if config.has_head_norms:
        layer |= dict.fromkeys(("self_attn.q_norm", "self_attn.k_norm"), (config.head_dim,))
    tensors = {f"{part}.weight": shape for part, shape in layer.items()}
    if config.has_bias:
        projections = [f"self_attn.{letter}_proj" for letter in "qkv"]
        tensors |= {f"{part}.bias": layer[part][:1] for part in projections}
    shapes: dict[str, tuple[int, ...]] = {"model.norm.weight": (hidden_size,)}
    for index in range(config.layers):
        shapes |= {f"model.layers.{index}.{name}": shape for name, shape in tensors.items()}
    return shapes
