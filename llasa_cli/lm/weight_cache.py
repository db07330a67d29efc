"""Packed weights in the user's cache folder, so that a model is quantized once and read at each later start.

One file holds the matrices of one checkpoint in one number format. Its name is made of everything that its content depends on:
the checkpoint's files, the format, this package's code for quantization, and the compiled kernels, whose name includes the
processor. So a cache folder may be shared between machines and versions. A file is complete or absent (`AtomicFile`), several
processes may write it at once, and a damaged one is removed and written again.

Layout: the tensors, each at a multiple of ALIGNMENT; then JSON, which describes them; then the length of the JSON in 8 bytes,
and MAGIC. A file without tensors, of a load that packs nothing, says that the checkpoint's values were found finite, so that the
next load doesn't examine them again. LLASA_WEIGHT_CACHE=off turns the cache off.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import struct
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO

import torch

from llasa_cli.device import WeightFormat
from llasa_cli.files import AtomicFile, hash_ends
from llasa_cli.lm.cpu.build import Kernels, empty_huge_pages, library
from llasa_cli.lm.linear import Linear, QuantizedLinear
from llasa_cli.packed_weights_folder import packed_weights, packed_weights_folder

MAGIC = b"llasapk1"
ALIGNMENT = 4096
MOST_BYTES = 12_000_000_000
"""Bytes that the folder may hold. The files that were not used for the longest time are removed."""
SPARE_BYTES = 2_000_000_000
"""Bytes that must stay free on the disk."""
SMALLEST_MODEL = 100_000_000
"""Bytes of a checkpoint below which quantizing takes no noticeable time."""
ENVIRONMENT_VARIABLE = "LLASA_WEIGHT_CACHE"
_CODE = [Path(__file__).with_name(name) for name in ("weight_cache.py", "linear.py", "quantize.py", "loader.py")]


class WeightCache:
    """The cached matrices of one checkpoint in one format. Build it with `open`; `commit` keeps what was added.

    Attributes:
        is_complete: A finished file was found. The checkpoint was checked when that was written.
    """

    def __init__(self, path: Path | None, kernels: Kernels | None = None) -> None:
        self._path, self._kernels = path, kernels
        self._entries: dict[str, Any] = {}
        self._target: AtomicFile | None = None
        self._file: BinaryIO | None = None if path is None else self._open(path)
        self.is_complete = self._file is not None

    @staticmethod
    def open(files: Iterable[Path], kind: WeightFormat, load: Callable[[], Kernels | None]) -> WeightCache:
        """The cache of a checkpoint made of these files, in the format `kind`. It never fails: without a folder that can
        be written, without kernels, or for a small model it holds nothing."""
        unused = WeightCache(None)
        if os.environ.get(ENVIRONMENT_VARIABLE) == "off":
            return unused
        try:
            source = sorted({file.resolve() for file in files})
            size = sum(file.stat().st_size for file in source)
            if size < SMALLEST_MODEL:
                return unused
            kernels = load()  # not for a small model, which may need none
            if kernels is None:
                return unused
            path = packed_weights_folder() / f"{_key(source, kind)}.packed"
            cache = WeightCache(path, kernels)
            if not cache.is_complete:
                cache._begin(size)
        except (OSError, subprocess.SubprocessError):
            return unused
        return cache

    def get(self, name: str, shape: tuple[int, int], compute_dtype: torch.dtype) -> Linear | None:
        """A matrix that `add` kept under this name, read from the file; None if there is none."""
        entry = self._entries.get(name) if self.is_complete else None
        if entry is None or tuple(entry["shape"]) != shape:
            return None
        assert self._kernels is not None
        weights, scales = (self._read(*tensor) for tensor in entry["tensors"])
        if weights is None or scales is None:
            return None
        kind = WeightFormat(entry["format"], compute_dtype)
        return QuantizedLinear.from_packed(weights, scales, entry["width"], shape, kind, self._kernels)

    def add(self, name: str, linear: Linear) -> None:
        """Write a matrix to the file if it is one whose packing takes time. If the disk is full, nothing is kept."""
        if self._target is None or not isinstance(linear, QuantizedLinear):
            return
        layout = linear.kernel_layout()
        assert layout is not None
        assert layout[1] is not None
        file, tensors = self._target.file, []
        try:
            for tensor in layout[:2]:
                assert tensor is not None
                file.write(bytes(-file.tell() % ALIGNMENT))
                tensors.append((str(tensor.dtype).removeprefix("torch."), list(tensor.shape), file.tell()))
                file.write(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
        except OSError:
            self.discard()
            return
        self._entries[name] = {
            "format": linear.format,
            "shape": linear.shape,
            "width": layout[2],
            "tensors": tensors,
        }

    def commit(self) -> None:
        """Make the file appear under its name, and remove the oldest ones beyond MOST_BYTES."""
        if self._target is None:
            return
        text = json.dumps(self._entries).encode()
        target, self._target = self._target, None
        with contextlib.suppress(OSError):
            try:
                target.file.write(text + struct.pack("<Q", len(text)) + MAGIC)
                target.commit()
            finally:
                target.discard()
            self._limit()

    def discard(self) -> None:
        """Close the file, and drop what was added. It may be called at any time, and again."""
        if self._file is not None:
            self._file.close()
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
            self._target = AtomicFile(self._path)

    def _open(self, path: Path) -> BinaryIO | None:
        """The file, whose entries are read; None if there is none, or it is damaged and was removed."""
        try:
            file = path.open("rb", buffering=0)
        except OSError:
            return None
        try:
            end = file.seek(0, os.SEEK_END) - len(MAGIC) - 8
            if end < 0:
                raise ValueError("it is too short")
            file.seek(end)
            length, magic = struct.unpack(f"<Q{len(MAGIC)}s", file.read())
            if magic != MAGIC or length > end:
                raise ValueError("its end is missing")
            file.seek(end - length)
            self._entries = dict(json.loads(file.read(length)))
        except (OSError, ValueError, TypeError, struct.error):
            file.close()
            with contextlib.suppress(OSError):
                path.unlink()
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        return file

    def _read(self, dtype: str, shape: list[int], at: int) -> torch.Tensor | None:
        """One tensor in huge pages, in which a step is up to a fifth faster than in the small ones of a mapped file."""
        assert self._file is not None
        tensor = empty_huge_pages(tuple(shape), _dtype(dtype))
        rest = memoryview(tensor.view(-1).view(torch.uint8).numpy().data)
        try:
            self._file.seek(at)
            while rest:
                count = self._file.readinto(rest)  # type: ignore[attr-defined]
                if not count:
                    return None
                rest = rest[count:]
        except OSError:
            return None
        return tensor

    def _limit(self) -> None:
        assert self._path is not None
        total = 0
        for path, size in packed_weights():  # the newest first
            total += size
            if total > MOST_BYTES and path != self._path:
                path.unlink(missing_ok=True)


def _dtype(name: str) -> torch.dtype:
    found: torch.dtype = getattr(torch, name)
    return found


def _key(files: list[Path], kind: WeightFormat) -> str:
    """Names the content. A file is known by its ends and by its inode's times: reading all of it would take seconds.

    Raises:
        OSError: A file can't be read.
    """
    digest = hashlib.sha256(repr((kind.name, library().name)).encode())
    for code in _CODE:
        digest.update(code.read_bytes())
    for file in files:
        facts = file.stat()
        digest.update(repr((facts.st_size, facts.st_ino, facts.st_mtime_ns, facts.st_ctime_ns)).encode())
        hash_ends(digest, file)
    return digest.hexdigest()[:32]
