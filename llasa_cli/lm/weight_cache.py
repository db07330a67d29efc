"""Packed weights in the user's cache folder, so that a model is packed once and mapped into memory at each later start.

One file holds the matrices of one checkpoint in one number format, as the C kernels read them. Its name is made of everything
that its content depends on: the checkpoint's files, the format, this package's code for quantization, and the compiled kernels,
whose name includes the processor. So a cache folder may be shared between machines and versions. A file is complete or absent
(`AtomicFile`), several processes may write it at once, and all of it has a checksum, which is compared at each start: a
damaged file is removed and written again.

Layout: the tensors, each at a multiple of ALIGNMENT; then JSON, which describes them and has their checksums; then the SHA-256
and the length of the JSON, and MAGIC. A load that packs nothing writes a file without tensors. It records that the checkpoint's
values are finite, so that the next load doesn't check them again. LLASA_WEIGHT_CACHE=off turns the cache off.

The file is written in whole huge pages, of which some file systems keep it in memory (ext4 since Linux 6.16, XFS). Mapped
so, it is ready at once and as quick as memory of this process. Elsewhere its small pages would make a step up to a fifth
slower, so it is copied, which takes some tenths of a second for each gigabyte.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import struct
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

from llasa_cli.device import WeightFormat
from llasa_cli.files import AtomicFile
from llasa_cli.lm.cpu.build import PAGE, Kernels, library, read_file
from llasa_cli.lm.linear import KernelLinear, Linear
from llasa_cli.packed_weights_folder import cache_key, is_cache_off, packed_weights, packed_weights_folder

MAGIC = b"llasapk2"
TAIL = struct.Struct(f"<32sQ{len(MAGIC)}s")
"""SHA-256 of the JSON, its length, MAGIC."""
ALIGNMENT = 64
MOST_BYTES = 12_000_000_000
"""The maximum size of the folder in bytes. The least recently used files are removed."""
MOST_FLOAT_BYTES = 6_000_000_000
"""Bytes of a checkpoint whose floating-point matrices are kept. Packing them saves some copying only."""
SPARE_BYTES = 2_000_000_000
"""Bytes that must stay free on the disk."""
SMALLEST_MODEL = 100_000_000
"""Bytes of a checkpoint below which quantizing takes no noticeable time."""
_CODE = [Path(__file__).with_name(name) for name in ("weight_cache.py", "linear.py", "quantize.py", "loader.py")]


class WeightCache:
    """The cached matrices of one checkpoint in one format. Build it with `open`; `commit` keeps the added matrices.

    Attributes:
        is_complete: A finished file was found. The checkpoint was checked when that was written.
    """

    def __init__(self, path: Path | None, kernels: Kernels | None = None) -> None:
        self._path, self._kernels = path, kernels
        self._entries: dict[str, Any] = {}
        self._target: AtomicFile | None = None
        self._page, self._written = bytearray(), 0
        self._takes_floats = False
        self._data: torch.Tensor | None = None
        self.is_complete = path is not None and kernels is not None and self._read(path, kernels)

    @staticmethod
    def open(files: Iterable[Path], kind: WeightFormat, load: Callable[[], Kernels | None]) -> WeightCache:
        """The cache of a checkpoint made of these files, in the format `kind`. It never fails: without a folder that can
        be written, without kernels, or for a small model it holds nothing."""
        unused = WeightCache(None)
        if is_cache_off():
            return unused
        try:
            source = sorted({file.resolve() for file in files})
            size = sum(file.stat().st_size for file in source)
            if size < SMALLEST_MODEL:
                return unused
            kernels = load()  # not for a small model, which may need none
            if kernels is None:
                return unused
            key = cache_key(source, _CODE, kind.name, library().name)
            path = packed_weights_folder() / f"{key}.packed"
            cache = WeightCache(path, kernels)
            if not cache.is_complete:
                cache._begin(size)
        except (OSError, subprocess.SubprocessError):
            return unused
        return cache

    def get(self, name: str, shape: tuple[int, int], compute_dtype: torch.dtype) -> Linear | None:
        """A matrix that `add` kept under this name; None if there is none."""
        entry = self._entries.get(name) if self.is_complete else None
        if entry is None or tuple(entry["shape"]) != shape:
            return None
        assert self._kernels is not None
        weights, scales = (None if tensor is None else self._tensor(tensor) for tensor in entry["tensors"])
        assert weights is not None
        kind = WeightFormat(entry["format"], compute_dtype)
        return KernelLinear(weights, scales, entry["width"], shape, kind, self._kernels)

    def add(self, name: str, linear: Linear) -> None:
        """Write a matrix to the file if the kernels multiply it. If the disk is full, nothing is kept."""
        layout = linear.kernel_layout()
        if self._target is None or layout is None or (layout[1] is None and not self._takes_floats):
            return
        try:
            tensors = [None if tensor is None else self._add_tensor(tensor) for tensor in layout[:2]]
        except OSError:
            self.discard()
            return
        self._entries[name] = {"format": linear.format, "shape": linear.shape, "width": layout[2], "tensors": tensors}

    def commit(self) -> None:
        """Make the file appear under its name, and remove the oldest ones beyond MOST_BYTES."""
        if self._target is None:
            return
        text = json.dumps(self._entries).encode()
        target, self._target = self._target, None
        with contextlib.suppress(OSError):
            try:
                target.file.write(self._page[: self._written % PAGE])
                target.file.write(text + TAIL.pack(hashlib.sha256(text).digest(), len(text), MAGIC))
                target.commit(flush_to_disk=False)  # a crash of the system is noticed by the checksums
            finally:
                target.discard()
            self._limit()

    def discard(self) -> None:
        """Drop added matrices that are not committed. It may be called at any time, and repeatedly."""
        target, self._target = self._target, None
        if target is not None:
            with contextlib.suppress(OSError):
                target.discard()

    def _begin(self, size: int) -> None:
        assert self._path is not None
        folder = self._path.parent
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        place = os.statvfs(folder)
        if size + SPARE_BYTES <= place.f_bavail * place.f_frsize:
            self._target, self._page = AtomicFile(self._path), bytearray(PAGE)
            self._takes_floats = size <= MOST_FLOAT_BYTES

    def _add_tensor(self, tensor: torch.Tensor) -> dict[str, Any]:
        """Write a tensor. -> its entry

        Raises:
            OSError: It can't be written.
        """
        assert self._kernels is not None
        self._write(memoryview(bytes(-self._written % ALIGNMENT)))
        flat = tensor.contiguous().view(-1).view(torch.uint8)
        entry = {
            "dtype": str(tensor.dtype).removeprefix("torch."),
            "shape": list(tensor.shape),
            "at": self._written,
            "checksum": self._kernels.checksum(flat),
        }
        self._write(flat.numpy().data)
        return entry

    def _write(self, data: memoryview) -> None:
        """Write in whole pages of 2 MB at multiples of 2 MB, so that the file system may keep the file in such pages."""
        assert self._target is not None
        while data:
            begin = self._written % PAGE
            count = min(len(data), PAGE - begin)
            self._page[begin : begin + count] = data[:count]
            self._written += count
            data = data[count:]
            if begin + count == PAGE:
                self._target.file.write(self._page)

    def _read(self, path: Path, kernels: Kernels) -> bool:
        """Read the file if there is one, and compare all checksums. A damaged file is removed."""
        try:
            data = read_file(path)
            entries = _entries(data)
            for tensor in (tensor for entry in entries.values() for tensor in entry["tensors"] if tensor is not None):
                size = math.prod(tensor["shape"]) * _dtype(tensor["dtype"]).itemsize
                if kernels.checksum(data[tensor["at"] :][:size]) != tensor["checksum"]:
                    raise ValueError("a checksum differs")
        except FileNotFoundError:
            return False
        except (OSError, ValueError, TypeError, LookupError, AttributeError):
            path.unlink(missing_ok=True)
            return False
        self._entries, self._data = entries, data
        with contextlib.suppress(OSError):
            os.utime(path)
        return True

    def _tensor(self, entry: dict[str, Any]) -> torch.Tensor:
        assert self._data is not None
        dtype = _dtype(entry["dtype"])
        size = math.prod(entry["shape"]) * dtype.itemsize
        return self._data[entry["at"] :][:size].view(dtype).view(entry["shape"])

    def _limit(self) -> None:
        assert self._path is not None
        total = 0
        for path, size in packed_weights():  # the newest first
            total += size
            if total > MOST_BYTES and path != self._path:
                path.unlink(missing_ok=True)


def _entries(data: torch.Tensor) -> dict[str, Any]:
    """The JSON at the end of a file.

    Raises:
        ValueError: The end is missing or damaged.
    """
    if len(data) < TAIL.size:
        raise ValueError("it is too short")
    digest, length, magic = TAIL.unpack(data[-TAIL.size :].numpy().tobytes())
    text = b"" if length > len(data) else data[: -TAIL.size][-length:].numpy().tobytes()
    if magic != MAGIC or hashlib.sha256(text).digest() != digest:
        raise ValueError("its end is missing or damaged")
    return dict(json.loads(text))


def _dtype(name: str) -> torch.dtype:
    found: torch.dtype = getattr(torch, name)
    return found
