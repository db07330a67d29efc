"""Is a file what its author published? Sums as the hub names them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from llasa_cli.hub.cache_layout import RemoteFile, size_of

READ_BYTES = 1 << 20

OnBytes = Callable[[int, bool], None]
"""Told how many bytes more (or, for a file that starts again, fewer) are there, and whether they came just now."""


class Sum:
    """The sum of a file as it grows: SHA-256, or git's SHA-1 of a blob for small files, which the hub has no other of."""

    def __init__(self, file: RemoteFile) -> None:
        self._wanted = file.etag
        if len(file.etag) == 64:
            self._digest = hashlib.sha256()
        else:
            self._digest = hashlib.sha1(f"blob {file.size}\0".encode(), usedforsecurity=False)

    def add(self, content: bytes) -> None:
        self._digest.update(content)

    def is_right(self) -> bool:
        return self._digest.hexdigest() == self._wanted


def is_intact(path: Path, file: RemoteFile, on_bytes: OnBytes = lambda count, fresh: None) -> bool:
    """Does a file have the size and the sum it should have? Reads all of it."""
    if size_of(path) != file.size:
        return False
    digest = Sum(file)
    try:
        with path.open("rb") as content:
            while piece := content.read(READ_BYTES):
                digest.add(piece)
                on_bytes(len(piece), True)
    except OSError:
        return False  # a disk that can't read it has not kept it
    return digest.is_right()
