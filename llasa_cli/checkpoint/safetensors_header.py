"""The tensors in a folder of safetensors files, read from the headers alone.

A file consists of 8 bytes with the header's length, the header (JSON: name -> dtype, shape, begin and end of the data), and
the data. A checkpoint may come from anyone, so everything is checked before it is used: the files that an index names are in
the folder, the headers fit their files, and no tensor overlaps another.

Source: https://huggingface.co/docs/safetensors, "Format".
"""

from __future__ import annotations

import contextlib
import json
import math
import mmap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llasa_cli.errors import ModelError
from llasa_cli.files import read_json_object

AGAIN = "Download or copy the checkpoint again."
LONGEST_HEADER = 16 << 20
"""Bytes. The header of an 8B model has 40 kB; the 100 MB that the format allows would take gigabytes when parsed."""
_DTYPES = {
    "F64": (8, "float64"), "F32": (4, "float32"), "F16": (2, "float16"), "BF16": (2, "bfloat16"),
    "F8_E4M3": (1, "float8_e4m3fn"), "F8_E5M2": (1, "float8_e5m2"), "F8_E8M0": (1, "float8_e8m0fnu"),
    "C64": (8, "complex64"), "I64": (8, "int64"), "I32": (4, "int32"), "I16": (2, "int16"), "I8": (1, "int8"),
    "U64": (8, "uint64"), "U32": (4, "uint32"), "U16": (2, "uint16"), "U8": (1, "uint8"), "BOOL": (1, "bool"),
}  # fmt: skip
"""The format's name of a dtype -> bytes of a number, and torch's name."""


@dataclass(frozen=True)
class TensorLocation:
    """The location of a tensor in a file.

    Attributes:
        dtype: The format's name for it: F32, BF16, I8, ...
        begin, end: The range of its bytes in the file.
    """

    file: Path
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    def ends(self, size: int) -> bytes:
        """The tensor's first and last `size` bytes."""
        with self.file.open("rb") as file:
            file.seek(self.begin)
            first = file.read(min(size, self.end - self.begin))
            file.seek(max(self.begin, self.end - size))
            return first + file.read(self.end - file.tell())


def locate_tensors(folder: Path) -> dict[str, TensorLocation]:
    """Every tensor of the folder's `model.safetensors`, or of the files that its index names.

    Raises:
        ModelError: There are no such files, or they are damaged.
    """
    index, single = folder / "model.safetensors.index.json", folder / "model.safetensors"
    if index.is_file():
        return _places_of_shards(folder, index)
    if single.is_file():
        return read_header(single)
    hint = "The checkpoint is incomplete. " + AGAIN
    if (folder / "adapter_config.json").is_file():
        hint = "It is an adapter (LoRA), not a whole model. Name its base, or merge the two."
    elif any(path.suffix in (".bin", ".pt", ".pth", ".ckpt", ".pkl") for path in folder.glob("*")):
        hint = "It has pickled weights only, which can run any code when loaded. Convert it to safetensors."
    raise ModelError(f"There are no safetensors weights in {folder}.", hint)


def _places_of_shards(folder: Path, index: Path) -> dict[str, TensorLocation]:
    named = read_json_object(index, AGAIN).get("weight_map")
    if not isinstance(named, dict) or not named or not all(isinstance(file, str) for file in named.values()):
        raise ModelError(f"{index} names no weight files.", AGAIN)
    files = sorted(set(named.values()))
    for file in files:
        # An index from a hub must not make the program open other files of the machine.
        if not _is_plain(file):
            raise ModelError(f"{index} names {file!r}, which is not a safetensors file of its folder.", AGAIN)
    absent = [file for file in files if not (folder / file).is_file()]
    if absent:
        raise ModelError(f"{folder} lacks {', '.join(absent)}.", "The checkpoint is incomplete. " + AGAIN)
    held = {file: read_header(folder / file) for file in files}
    for name, file in named.items():
        if name not in held[file]:
            raise ModelError(f"{index} says that {file} contains {name}, but it does not.", AGAIN)
    return {name: held[file][name] for name, file in named.items()}


def _is_plain(file: str) -> bool:
    """Whether a name is a file in the same folder on every operating system."""
    return file.endswith(".safetensors") and not set(file) & set("/\\:\0") and not file.startswith(".")


def read_header(path: Path) -> dict[str, TensorLocation]:
    """One file's tensors.

    Raises:
        ModelError: The header is truncated, too long, not JSON, or impossible.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(8)
            length = int.from_bytes(start, "little")
            if start == b"version ":
                raise broken(path, "it is a pointer of Git LFS, not the file itself")
            if len(start) < 8 or length > size - 8:
                raise broken(path, "its header is truncated")
            if length > LONGEST_HEADER:
                raise broken(path, f"its header has {length:,} bytes, more than any model's")
            header = json.loads(file.read(length), object_pairs_hook=_unique_names)
    except (OSError, ValueError, RecursionError) as error:
        raise broken(path, str(error)) from error
    if not isinstance(header, dict):
        raise broken(path, "its header is not a JSON object")
    header.pop("__metadata__", None)
    spans = []
    found = {}
    for name, entry in header.items():
        dtype, shape, begin, end = _entry(path, name, entry)
        spans.append((begin, end, name))
        found[name] = TensorLocation(path, dtype, shape, 8 + length + begin, 8 + length + end)
    at = 0
    for begin, end, name in sorted(spans):
        if begin != at:
            raise broken(
                path, f"the data of {name} {'overlaps' if begin < at else 'does not follow'} the tensor before it"
            )
        at = end
    if at != size - 8 - length:
        raise broken(path, f"it has {size - 8 - length:,} bytes of data, but its header says {at:,}")
    return found


def _entry(path: Path, name: str, entry: Any) -> tuple[str, tuple[int, ...], int, int]:
    """Check one entry of a header. -> dtype, shape, begin and end in the data."""
    try:
        dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
    except (TypeError, KeyError, ValueError) as error:
        raise broken(path, f"its header does not say where {name} is") from error
    numbers = [*shape, begin, end] if isinstance(shape, list) else [None]
    if any(type(number) is not int or number < 0 for number in numbers):
        raise broken(path, f"the shape or the offsets of {name} are impossible")
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise broken(path, f"{name} has the unknown dtype {dtype!r}")
    if math.prod(shape) * _DTYPES[dtype][0] != end - begin:
        raise broken(path, f"{name} has {end - begin:,} bytes, which do not fit its shape")
    return dtype, tuple(shape), begin, end


def _unique_names(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("its header has the same name twice")
    return found


def broken(path: Path, why: str) -> ModelError:
    """The error for a file of weights that is damaged."""
    return ModelError(f"{path} can't be read: {why}.", AGAIN)


def read_tensor(place: TensorLocation) -> Any:
    """The tensor, mapped from its file: pages that are not touched are not read.

    Each tensor is a mapping of its own, because the pages that a mapping has touched count as memory of the process until the
    last tensor of that mapping is released. Changes to the tensor do not reach the file.

    Raises:
        ModelError: It can't be read.
    """
    import numpy as np
    import torch

    dtype = getattr(torch, _DTYPES[place.dtype][1])
    if place.begin == place.end:
        return torch.empty(place.shape, dtype=dtype)
    try:
        content = np.memmap(place.file, np.uint8, "c", place.begin, place.end - place.begin)
    except (OSError, ValueError) as error:
        raise broken(place.file, str(error)) from error
    return torch.from_numpy(content).view(dtype).view(place.shape)


def row_reader(place: TensorLocation) -> Callable[[Any], Any]:
    """A function that copies rows of a tensor in a file: row numbers, int64 (N,) -> bytes, uint8 (N, bytes of a row).

    The system maps many pages around each row that is read, and they would count as memory of the process: some 60 MB after
    300 codes of a 1B. So all are given back after each call; the next one finds them in the system's cache of files.
    """
    import numpy as np
    import torch

    rows = math.prod(place.shape[:-1])
    content = np.memmap(place.file, np.uint8, "c", place.begin, (rows, (place.end - place.begin) // rows))
    raw: Any = torch.from_numpy(content)
    mapping: Any = content.base

    def read(numbers: Any) -> Any:
        found = raw[numbers]
        with contextlib.suppress(AttributeError, OSError):  # not on every system
            mapping.madvise(mmap.MADV_DONTNEED)
        return found

    return read


def is_finite(tensor: Any) -> bool:
    """Whether a tensor has no NaN and no infinite value. If so, this is one pass over it without a second array."""
    # Finite numbers may have an infinite sum. Only then is each one examined, which takes fifty times as long.
    return bool(tensor.sum().isfinite()) or bool(tensor.isfinite().all())
