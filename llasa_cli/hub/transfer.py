"""One file from the hub into the cache: it goes on at the byte where it stopped, and its sum is checked.

Bytes are written where they belong as they arrive, with nothing held back in the process: what a killed download had
received is what the next one starts from. Two downloads of one file wait for each other; where a file system has no
locks they write the same bytes to the same places, and the first to finish wins.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llasa_cli.errors import LlasaError, ModelError
from llasa_cli.hub.cache_layout import PART_SUFFIX, CachedRepo, RemoteFile, size_of
from llasa_cli.hub.checksum import READ_BYTES, OnBytes, Sum
from llasa_cli.hub.http import Retry, Wire, WrongPart

_POLL_S = 0.2
_PLAIN = getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
"""Bytes as they are, and no link that somebody has put there."""


def part_of(place: CachedRepo, file: RemoteFile) -> Path:
    """Where a file lies while it is fetched."""
    return place.blobs / f"{file.etag}{PART_SUFFIX}"


def fetch_blob(wire: Wire, place: CachedRepo, commit: str, file: RemoteFile, on_bytes: OnBytes) -> Path:
    """Fetch a file; nothing is done if it is there. -> its blob.

    Raises:
        ModelError: It can't be fetched, or comes with a wrong sum each time.
        LlasaError: It can't be written.
    """
    blob, part = place.blobs / file.etag, part_of(place, file)
    with writing(place.cache), _lock(place, file, wire, on_bytes):
        if size_of(blob) == file.size:
            return blob
        place.blobs.mkdir(parents=True, exist_ok=True)
        for copy in range(wire.patience.copies):
            digest = _complete(wire, place, commit, file, on_bytes)
            if digest.is_right():
                return _put_in_place(part, blob, file)
            part.unlink(missing_ok=True)
            on_bytes(-file.size, False)
            if copy + 1 < wire.patience.copies:
                wire.note(f"{file.name} arrived damaged (its sum is wrong); again from its start")
    raise ModelError(
        f"{file.name} of {place.repo} arrives damaged each time: its sum is not the one that the hub names.",
        "Something on the way changes it: try another network or mirror (HF_ENDPOINT).",
    )


def _complete(wire: Wire, place: CachedRepo, commit: str, file: RemoteFile, on_bytes: OnBytes) -> Sum:
    """Bring the part to its full size. -> the sum of what is in it."""
    address = wire.address(place.repo, commit, file.name)
    number = os.open(part_of(place, file), os.O_RDWR | os.O_CREAT | _PLAIN, 0o666)
    try:
        digest, have = _read_part(number, file)
        on_bytes(have, False)
        failures, in_parts = 0, True
        while have < file.size:
            before = have
            try:
                for content in _bytes_from(wire, address, place.repo, file, have, in_parts):
                    have += _write(number, content, have)
                    digest.add(content)
                    on_bytes(len(content), True)
            except Retry as failure:
                in_parts = in_parts and not isinstance(failure, WrongPart)
                failures = 1 if have > before else failures + 1
                wire.wait(failure, failures, place.repo)
        os.fsync(number)
        return digest
    finally:
        os.close(number)


def _read_part(number: int, file: RemoteFile) -> tuple[Sum, int]:
    """The sum and the number of the bytes that are there already; more than the file has will have a wrong sum."""
    digest, have = Sum(file), 0
    while piece := os.read(number, READ_BYTES):
        digest.add(piece)
        have += len(piece)
    return digest, have


def _bytes_from(wire: Wire, address: str, repo: str, file: RemoteFile, start: int, in_parts: bool) -> Iterator[bytes]:
    """The file's bytes from `start` on, as they arrive; never more than the file has.

    Args:
        in_parts: The other side can send a part; otherwise all is sent, and the first `start` bytes are passed over.

    Raises:
        Retry: They end early.
        WrongPart: They are not those that were asked for.
    """
    with wire.open(address, repo, start if in_parts else 0) as response:
        # 200 to a Range: all of it comes; what is there already is passed over, not thrown away.
        position = _first_byte(response, start)
        for content in response.iter_bytes():
            fresh = content[max(0, start - position) :][: file.size - max(start, position)]
            position += len(content)
            if fresh:
                yield fresh
            if position > file.size:
                wire.note(f"{file.name} comes with more bytes than the hub names; they are left")
                return
            if position == file.size:
                return
    raise Retry(f"the connection broke off ({position:,} of {file.size:,} bytes of {file.name})")


def _first_byte(response: Any, start: int) -> int:
    """Which byte of the file the answer starts with."""
    if response.status_code == 200:
        return 0
    told = response.headers.get("Content-Range", "")
    if not told.startswith(f"bytes {start}-") or response.headers.get("Content-Encoding", "identity") != "identity":
        raise WrongPart(f"{response.url.host} sends another part of the file than was asked for")
    return start


def _write(number: int, content: bytes, offset: int) -> int:
    """Write all of it at its place. -> its length."""
    os.lseek(number, offset, os.SEEK_SET)
    left = memoryview(content)
    while left:
        left = left[os.write(number, left) :]
    return len(content)


def _put_in_place(part: Path, blob: Path, file: RemoteFile) -> Path:
    try:
        part.replace(blob)
    except FileNotFoundError:
        if size_of(blob) != file.size:  # else another download was first, on a file system without locks
            raise
    return blob


# --- locks and disks ---


@contextmanager
def _lock(place: CachedRepo, file: RemoteFile, wire: Wire, on_bytes: OnBytes) -> Iterator[None]:
    """One download of a file at a time; the hub library's lock, so that it waits too."""
    from filelock import FileLock, Timeout

    place.locks.mkdir(parents=True, exist_ok=True)
    lock = FileLock(place.locks / f"{file.etag}.lock")
    said, seen = False, 0
    while True:
        try:
            lock.acquire(timeout=0)
            break
        except Timeout:
            if not said:
                wire.note(f"another program is fetching {file.name}; waiting for it")
            said = True
            now = max(0, size_of(part_of(place, file)))
            on_bytes(now - seen, False)
            seen = now
            time.sleep(_POLL_S)
        except NotImplementedError:
            break  # a file system without locks
    on_bytes(-seen, False)
    if said and size_of(place.blobs / file.etag) == file.size:
        on_bytes(file.size, False)
    try:
        yield
    finally:
        lock.release()


@contextmanager
def writing(cache: Path) -> Iterator[None]:
    """A disk that is full or can't be written, in a sentence. What has arrived stays."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise LlasaError(
                f"{cache} is full ({error.strerror}).", "Make room and run it again: it goes on where it stopped."
            ) from error
        raise LlasaError(
            f"{cache} can't be written: {error.strerror or error}.",
            "Set LLASA_CACHE or HF_HUB_CACHE to another folder.",
        ) from error
