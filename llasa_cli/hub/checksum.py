"""Checksums of files, as the hub names them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

from llasa_cli.hub.cache_layout import RemoteFile, size_of

READ_BYTES = 1 << 20

OnBytes = Callable[[int, bool], None]
"""Called with a number of bytes and whether they came over the network just now.

The number is negative when a file starts again from the beginning.
"""


class Checksum:
    """The checksum of a file that grows: SHA-256, or git's SHA-1 of a blob for small files, which have no other."""

    def __init__(self, file: RemoteFile) -> None:
        self._expected = file.etag
        if len(file.etag) == 64:
            self._digest = hashlib.sha256()
        else:
            self._digest = hashlib.sha1(f"blob {file.size}\0".encode(), usedforsecurity=False)

    def update(self, content: bytes) -> None:
        self._digest.update(content)

    def matches(self) -> bool:
        return self._digest.hexdigest() == self._expected


def is_intact(path: Path, file: RemoteFile, on_bytes: OnBytes = lambda count, fresh: None) -> bool:
    """Whether a file has the size and the checksum that the hub names. This reads all of it."""
    if size_of(path) != file.size:
        return False
    checksum = Checksum(file)
    try:
        with path.open("rb") as content:
            while piece := content.read(READ_BYTES):
                checksum.update(piece)
                on_bytes(len(piece), True)
    except OSError:
        return False  # the disk can't read it
    return checksum.matches()
