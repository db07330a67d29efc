"""A GGUF file: its metadata, and its tensors under the names that Hugging Face gives them.

A file consists of a header (metadata and the list of tensors) and the data. The weights of a quantized tensor lie in blocks:
Q8_0 has 32 integers of 8 bits and a float16 scale, Q4_0 the same with 4 bits, and the K formats have blocks of 256 weights
with scales of scales. A file may come from anyone, so everything is checked before it is used.

The header is parsed here, with every number checked, so that these files run without the package `gguf`. That package is needed
only for the K formats, which it turns into numbers.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

from __future__ import annotations

import math
import mmap
import re
import struct
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from llasa_cli.checkpoint.safetensors_header import TensorLocation, broken
from llasa_cli.errors import LlasaError, ModelError
from llasa_cli.settings import ARCHITECTURES

SUFFIX = ".gguf"
BLOCK_FORMATS = {
    "Q4_0": (32, 18), "Q4_1": (32, 20), "Q5_0": (32, 22), "Q5_1": (32, 24), "Q8_0": (32, 34),
    "Q2_K": (256, 84), "Q3_K": (256, 110), "Q4_K": (256, 144), "Q5_K": (256, 176), "Q6_K": (256, 210),
}  # fmt: skip
"""Quantized formats that can be read: weights and bytes of a block."""
_FORMATS = {"F32": (1, 4), "F16": (1, 2), "BF16": (1, 2), "F64": (1, 8)} | BLOCK_FORMATS
_TYPES = {
    0: "F32", 1: "F16", 2: "Q4_0", 3: "Q4_1", 6: "Q5_0", 7: "Q5_1", 8: "Q8_0",
    10: "Q2_K", 11: "Q3_K", 12: "Q4_K", 13: "Q5_K", 14: "Q6_K", 28: "F64", 30: "BF16",
}  # fmt: skip
"""`ggml_type` of a tensor."""
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
"""Types of metadata values; the scalars are named as in `struct`."""
_LENGTH = struct.Struct("<Q")
"""In front of a string."""
_MOST = 1 << 24
"""Entries of an array, or tensors. The vocabulary of a published Llasa has 193,800."""
_SHORT = 1_000
"""Entries of an array of strings that becomes a list."""
NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output.weight": "lm_head.weight",
    "output_norm.weight": "model.norm.weight",
}
LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
ROPE_FACTORS = "rope_freqs.weight"
"""The tensor of the factors that Llama 3's rope scaling divides the frequencies by."""


@dataclass(frozen=True)
class GgufLocation(TensorLocation):
    """The location of a tensor in a GGUF file.

    Attributes:
        shape: (rows, width) as Hugging Face has it; a GGUF file names the width first.
        rotary_heads: The rows are those of so many heads whose rotary pairs are neighbors, as llama.cpp stores queries and keys
            of a Llama; Hugging Face pairs the two halves of a head. 0 for other tensors.
    """

    rotary_heads: int = 0


@dataclass(frozen=True)
class GgufFile:
    """Attributes:
    metadata: Python values by key; arrays are lists, long ones of strings `GgufStrings`.
    tensors: The tensors by Hugging Face's names; a name that a Llama does not have is kept as it is.
    rope_factors: The divisors of the rotary frequencies; empty if the file has none.
    """

    path: Path
    metadata: Mapping[str, Any]
    tensors: Mapping[str, GgufLocation]
    rope_factors: tuple[float, ...]

    def value(self, name: str, kind: type | tuple[type, ...] = int, default: Any = None) -> Any:
        """A metadata value of the architecture: `block_count` for `llama.block_count`.

        Raises:
            ModelError: It has another type, or it is missing and has no default.
        """
        key = f"{self.metadata.get('general.architecture')}.{name}"
        found = self.metadata.get(key, default)
        if not isinstance(found, kind) and found is not default:
            raise broken(self.path, f"its {key} is {str(found)[:40]!r}")
        if found is None:
            raise broken(self.path, f"it has no {key}")
        return found

    def config(self) -> dict[str, Any]:
        """The content that config.json has in a folder of safetensors.

        Raises:
            ModelError: Metadata is missing, or the architecture is another.
        """
        architecture = self.metadata.get("general.architecture")
        if architecture not in ARCHITECTURES:
            raise ModelError(
                f"{self.path} has the architecture {str(architecture)[:40]!r}, which this program does not support.",
                f"It runs {', '.join(ARCHITECTURES)}.",
            )
        heads, numbers = self.value("attention.head_count"), (int, float)
        scaling = str(self.metadata.get(f"{architecture}.rope.scaling.type", "none"))
        rope = {"rope_theta": float(self.value("rope.freq_base", numbers, 10000.0)), "rope_type": scaling}
        if scaling == "none":
            rope["rope_type"] = "default"
        if self.rope_factors:
            rope |= {"rope_type": "factors", "factors": self.rope_factors}
        width = self.value("embedding_length")
        head_dim = self.value("attention.key_length", int, 0) or self.value("rope.dimension_count", int, 0)
        if head_dim and self.value("rope.dimension_count", int, head_dim) != head_dim:
            raise broken(self.path, "it rotates only a part of each head, which no Llama does")
        return {
            "model_type": architecture,
            "hidden_size": width,
            "intermediate_size": self.value("feed_forward_length"),
            "num_hidden_layers": self.value("block_count"),
            "num_attention_heads": heads,
            "num_key_value_heads": self.value("attention.head_count_kv", int, heads),
            "head_dim": head_dim or None,
            "rms_norm_eps": self.value("attention.layer_norm_rms_epsilon", numbers),
            "rope_parameters": rope,
            "tie_word_embeddings": "lm_head.weight" not in self.tensors,
            "eos_token_id": self.metadata.get("tokenizer.ggml.eos_token_id"),
        }


def is_gguf(path: Path) -> bool:
    """Whether a model's path is that of a GGUF file and not of a folder."""
    return path.suffix.lower() == SUFFIX


def read_gguf(path: Path) -> GgufFile:
    """Parse a file's header, which is kept until another file is read or `forget_gguf` is called.

    Raises:
        ModelError: The file is missing, damaged or of an unknown version, or one of several parts.
    """
    try:
        status = path.stat()
    except OSError as error:
        raise broken(path, error.strerror or str(error)) from error
    return _read_gguf(path, status.st_size, status.st_mtime_ns)


def forget_gguf() -> None:
    """Free the header that `read_gguf` keeps: some megabytes in a Llasa's."""
    _read_gguf.cache_clear()


@lru_cache(maxsize=1)
def _read_gguf(path: Path, size: int, changed_ns: int) -> GgufFile:
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _parse(path, _Reader(data), size)
    except (OSError, ValueError, struct.error, UnicodeDecodeError) as error:
        raise broken(path, str(error)) from error


class GgufStrings(Sequence[str]):
    """The strings of a long array, decoded when they are used: those of a Llasa's tokenizer would take 40 MB."""

    def __init__(self, data: bytes, ends: array[int]) -> None:
        self._data, self._ends = data, ends

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return [self[index] for index in range(*at.indices(len(self)))]
        end = self._ends[at]
        begin = self._ends[at - 1] if at % len(self) else 0
        return self._data[begin + _LENGTH.size : end].decode("utf-8", errors="replace")


class _Reader:
    """Reads values one after the other. Raises struct.error or ValueError behind the end."""

    def __init__(self, data: mmap.mmap) -> None:
        self.data, self.at = data, 0

    def number(self, form: str) -> Any:
        (value,) = struct.unpack_from("<" + form, self.data, self.at)
        self.at += struct.calcsize("<" + form)
        return value

    def count(self, most: int = _MOST) -> int:
        value: int = self.number("Q")
        if value > most:
            raise ValueError(f"it says that something has {value:,} entries or bytes")
        return value

    def text(self) -> str:
        length = self.count(len(self.data))
        begin, self.at = self.at, self.at + length
        if self.at > len(self.data):
            raise ValueError("its header is truncated")
        return self.data[begin : self.at].decode("utf-8", errors="replace")

    def value(self, kind: int) -> Any:
        if kind in _SCALARS:
            return self.number(_SCALARS[kind])
        if kind == _STRING:
            return self.text()
        if kind != _ARRAY:
            raise ValueError(f"its metadata has a value of the unknown type {kind}")
        kind, count = self.number("I"), self.count()
        if kind in _SCALARS:
            form = f"<{count}{_SCALARS[kind]}"
            values = struct.unpack_from(form, self.data, self.at)
            self.at += struct.calcsize(form)
            return list(values)
        if kind != _STRING:
            raise ValueError(f"its metadata has an array of the type {kind}")
        return self.strings(count) if count > _SHORT else [self.text() for _ in range(count)]

    def strings(self, count: int) -> GgufStrings:
        begin, ends = self.at, array("Q")
        for _ in range(count):
            (length,) = _LENGTH.unpack_from(self.data, self.at)
            self.at += _LENGTH.size + length
            if self.at > len(self.data):
                raise ValueError("its header is truncated")
            ends.append(self.at - begin)
        return GgufStrings(self.data[begin : self.at], ends)


def _parse(path: Path, reader: _Reader, size: int) -> GgufFile:
    if reader.data[:4] != b"GGUF":
        is_pointer = reader.data[:8] == b"version "
        raise ValueError("it is a pointer of Git LFS, not the file itself" if is_pointer else "it is no GGUF file")
    reader.at = 4
    version = reader.number("I")
    if version not in (2, 3):
        raise ValueError(f"it has version {version} of the format; 2 and 3 are known")
    tensor_count, key_count = reader.count(), reader.count()
    metadata: dict[str, Any] = {}
    for _ in range(key_count):
        key = reader.text()
        metadata[key] = reader.value(reader.number("I"))
    if metadata.get("split.count", 0) > 1:
        raise ModelError(f"{path} is one of {metadata['split.count']} parts.", "Merge them with llama-gguf-split.")
    entries = [_entry(reader) for _ in range(tensor_count)]
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or not 1 <= alignment <= 1 << 20:
        raise ValueError(f"its alignment is {str(alignment)[:40]}")
    start = -(-reader.at // alignment) * alignment
    found: dict[str, GgufLocation] = {}
    for name, shape, kind, offset in entries:
        if name in found:
            raise ValueError(f"its header has {name} twice")
        found[name] = _location(path, name, shape, kind, start + offset, size)
    factors = found.pop(ROPE_FACTORS, None)
    is_llama = metadata.get("general.architecture") == "llama"
    rotary = {
        f"attn_{letter}": metadata.get(f"llama.attention.head_count{of}", 0) if is_llama else 0
        for letter, of in (("q", ""), ("k", "_kv"))
    }
    named = {_hugging_face_name(name): _rotated(name, place, rotary) for name, place in found.items()}
    if len(named) != len(found):
        raise ValueError("two of its tensors have one name")
    if factors is not None and factors.dtype != "F32":
        raise ValueError(f"its {ROPE_FACTORS} is stored as {factors.dtype}")
    values = struct.unpack_from(f"<{factors.shape[0]}f", reader.data, factors.begin) if factors is not None else ()
    return GgufFile(path, metadata, named, values)


def _entry(reader: _Reader) -> tuple[str, tuple[int, ...], int, int]:
    """-> name, shape with the rows first, type and offset of one tensor."""
    name, dimensions = reader.text(), reader.number("I")
    if not 1 <= dimensions <= 4:
        raise ValueError(f"{name[:80]!r} has {dimensions} dimensions")
    shape = tuple(reader.number("Q") for _ in range(dimensions))
    return name, shape[::-1], reader.number("I"), reader.number("Q")


def _location(path: Path, name: str, shape: tuple[int, ...], kind: int, begin: int, size: int) -> GgufLocation:
    if kind not in _TYPES:
        raise ModelError(
            f"{name[:80]} in {path} has the GGUF type {kind}, which this program does not read.",
            f"Use a file in one of {', '.join(_FORMATS)}.",
        )
    weights, stored = _FORMATS[_TYPES[kind]]
    if shape[-1] % weights:
        raise ValueError(f"the width {shape[-1]} of {name[:80]} is not a multiple of {weights}")
    end = begin + math.prod(shape) // weights * stored
    if end > size:
        raise ValueError(f"it is truncated: the data of {name[:80]} is missing")
    return GgufLocation(path, _TYPES[kind], shape, begin, end)


def _hugging_face_name(name: str) -> str:
    layer = re.fullmatch(r"blk\.(\d{1,4})\.(\w+)\.(weight|bias)", name)
    if layer is None or layer[2] not in LAYER_NAMES:
        return NAMES.get(name, name)
    return f"model.layers.{int(layer[1])}.{LAYER_NAMES[layer[2]]}.{layer[3]}"


def _rotated(name: str, place: GgufLocation, heads_of: Mapping[str, Any]) -> GgufLocation:
    """The place of queries and keys with the number of their heads."""
    layer = re.fullmatch(r"blk\.\d+\.(attn_[qk])\.weight", name)
    heads = heads_of[layer[1]] if layer is not None else 0
    if not isinstance(heads, int) or heads < 1 or place.shape[0] % (2 * heads):
        return place
    return GgufLocation(place.file, place.dtype, place.shape, place.begin, place.end, heads)


# --- tensors ---


def read_gguf_tensor(place: GgufLocation) -> Any:
    """The tensor as torch has it: F16, BF16, F32 and F64 mapped from the file, quantized ones as float32.

    Raises:
        LlasaError: The format needs the package `gguf`, which is not installed.
    """
    import torch

    raw = raw_rows(place)
    if place.dtype in BLOCK_FORMATS:
        return dequantize(raw, place.dtype).view(place.shape)
    dtype = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "F64": torch.float64}[place.dtype]
    return raw.view(dtype).view(place.shape)


def raw_rows(place: GgufLocation) -> Any:
    """The stored bytes, uint8 (rows, bytes of a row), mapped from the file. Rows are in Hugging Face's order."""
    import numpy as np
    import torch

    rows = math.prod(place.shape[:-1])
    # Mapped for private changes, because torch warns of arrays that can't be written; nothing writes to it.
    mapped = np.memmap(place.file, np.uint8, "c", place.begin, (rows, (place.end - place.begin) // rows))
    raw = torch.from_numpy(mapped)
    if place.rotary_heads:
        pairs = torch.arange(rows).view(place.rotary_heads, -1, 2)
        raw = raw[pairs.transpose(1, 2).reshape(-1)]
    return raw


def dequantize(raw: Any, dtype: str) -> Any:
    """uint8 (R, bytes of a row) of a quantized format -> float32 (R, W).

    Raises:
        LlasaError: The format needs the package `gguf`, which is not installed.
    """
    import torch

    if dtype in ("Q8_0", "Q4_0"):
        integers, scales = split_blocks(raw, dtype)
        return (integers.view(len(raw), -1, 32) * scales.float()[..., None]).flatten(1)
    gguf = import_gguf(f"reads {dtype} weights")
    return torch.from_numpy(gguf.quants.dequantize(raw.numpy(), gguf.GGMLQuantizationType[dtype]))


def split_blocks(raw: Any, dtype: str) -> tuple[Any, Any]:
    """uint8 (R, bytes of a row) in Q8_0 or Q4_0 -> integers, int8 (R, W), and float16 scales (R, W / 32).

    A weight is its integer times the scale of its 32 neighbors.
    """
    import torch

    blocks = raw.view(len(raw), -1, BLOCK_FORMATS[dtype][1])
    scales = blocks[..., :2].contiguous().view(torch.float16).squeeze(-1)
    packed = blocks[..., 2:]
    if dtype == "Q8_0":
        return packed.contiguous().view(torch.int8).flatten(1), scales
    halves = torch.cat([packed & 0xF, packed >> 4], dim=-1)
    return (halves.view(torch.int8) - 8).flatten(1), scales


def import_gguf(purpose: str) -> Any:
    """The package `gguf`.

    Args:
        purpose: The purpose of the package, for the message.

    Raises:
        LlasaError: It is not installed.
    """
    try:
        import gguf
        import gguf.quants
    except ImportError as error:
        raise LlasaError(
            f"The package gguf, which {purpose}, is not installed.", "Install it: pip install 'llasa-cli[gguf]'"
        ) from error
    return gguf
