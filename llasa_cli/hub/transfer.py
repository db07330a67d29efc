"""One file from the hub into the cache: the download resumes at the byte where it stopped, and its checksum is verified.

Bytes are written to their place in the file as they arrive and nothing is held back in the process, so the next download
starts from all that a killed one received. Two downloads of one file wait for each other. On a file system without locks
they write the same bytes to the same places, and the first to finish wins.
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
from llasa_cli.hub.checksum import READ_BYTES, Checksum, OnBytes
from llasa_cli.hub.http import HubClient, RangeError, TransientError

_POLL_S = 0.2
_OPEN_FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
"""No translation of line ends, and no symbolic link in the file's place."""


def part_of(place: CachedRepo, file: RemoteFile) -> Path:
    """The path of a file while it is being downloaded."""
    return place.blobs / f"{file.etag}{PART_SUFFIX}"


def fetch_blob(client: HubClient, place: CachedRepo, commit: str, file: RemoteFile, on_bytes: OnBytes) -> Path:
    """Download a file unless it is there. -> the path of its blob.

    Raises:
        ModelError: It can't be downloaded, or has a wrong checksum each time.
        LlasaError: It can't be written.
    """
    blob, part = place.blobs / file.etag, part_of(place, file)
    with write_errors(place.cache), _lock(place, file, client, on_bytes):
        if size_of(blob) == file.size:
            return blob
        place.blobs.mkdir(parents=True, exist_ok=True)
        for copy in range(client.policy.copies):
            if _complete(client, place, commit, file, on_bytes).matches():
                return _rename(part, blob, file)
            part.unlink(missing_ok=True)
            on_bytes(-file.size, False)
            if copy + 1 < client.policy.copies:
                client.note(f"{file.name} arrived damaged (wrong checksum); downloading it again from the beginning")
    raise ModelError(
        f"{file.name} of {place.repo} arrives damaged each time: its checksum differs from the hub's.",
        "Something on the way changes it: try another network or mirror (HF_ENDPOINT).",
    )


def _complete(client: HubClient, place: CachedRepo, commit: str, file: RemoteFile, on_bytes: OnBytes) -> Checksum:
    """Extend the part to the full size. -> the checksum of its content."""
    address = client.address(place.repo, commit, file.name)
    descriptor = os.open(part_of(place, file), _OPEN_FLAGS, 0o666)
    try:
        checksum, have = _read_part(descriptor, file)
        on_bytes(have, False)
        failures, supports_ranges = 0, True
        while have < file.size:
            before = have
            try:
                for content in _stream(client, address, place.repo, file, have, supports_ranges):
                    have += _write(descriptor, content, have)
                    checksum.update(content)
                    on_bytes(len(content), True)
            except TransientError as failure:
                supports_ranges = supports_ranges and not isinstance(failure, RangeError)
                failures = 1 if have > before else failures + 1
                client.pause(failure, failures, place.repo)
        os.fsync(descriptor)
        return checksum
    finally:
        os.close(descriptor)


def _read_part(descriptor: int, file: RemoteFile) -> tuple[Checksum, int]:
    """The checksum and the number of the bytes that are there. If they are more than the file has, it won't match."""
    checksum, have = Checksum(file), 0
    while piece := os.read(descriptor, READ_BYTES):
        checksum.update(piece)
        have += len(piece)
    return checksum, have


def _stream(
    client: HubClient, address: str, repo: str, file: RemoteFile, start: int, supports_ranges: bool
) -> Iterator[bytes]:
    """The file's bytes from `start` to its end, as they arrive.

    Args:
        supports_ranges: Whether the host can send a part. Otherwise all is sent, and the first `start` bytes are skipped.

    Raises:
        TransientError: The bytes end early.
        RangeError: They are not the requested part.
    """
    with client.open(address, repo, start if supports_ranges else 0) as response:
        position = _first_byte(response, start)
        for content in response.iter_bytes():
            fresh = content[max(0, start - position) :][: file.size - max(start, position)]
            position += len(content)
            if fresh:
                yield fresh
            if position > file.size:
                client.note(f"the host sends more bytes of {file.name} than the hub names; the rest is ignored")
                return
            if position == file.size:
                return
    raise TransientError(f"the connection was lost ({position:,} of {file.size:,} bytes of {file.name})")


def _first_byte(response: Any, start: int) -> int:
    """The offset in the file of the answer's first byte."""
    if response.status_code == 200:  # the answer to a Range is the whole file
        return 0
    stated = response.headers.get("Content-Range", "")
    if not stated.startswith(f"bytes {start}-") or response.headers.get("Content-Encoding", "identity") != "identity":
        raise RangeError(f"{response.url.host} sends another part of the file than the requested one")
    return start


def _write(descriptor: int, content: bytes, offset: int) -> int:
    """Write all of it at its offset. -> its length."""
    os.lseek(descriptor, offset, os.SEEK_SET)
    left = memoryview(content)
    while left:
        left = left[os.write(descriptor, left) :]
    return len(content)


def _rename(part: Path, blob: Path, file: RemoteFile) -> Path:
    try:
        part.replace(blob)
    except FileNotFoundError:
        if size_of(blob) != file.size:  # otherwise another download was first, on a file system without locks
            raise
    return blob


# --- locks and disks ---


@contextmanager
def _lock(place: CachedRepo, file: RemoteFile, client: HubClient, on_bytes: OnBytes) -> Iterator[None]:
    """Hold the hub library's lock of a file; while another program holds it, report that program's progress."""
    from filelock import FileLock, Timeout

    place.locks.mkdir(parents=True, exist_ok=True)
    lock = FileLock(place.locks / f"{file.etag}.lock")
    has_waited, seen = False, 0
    while True:
        try:
            lock.acquire(timeout=0)
            break
        except Timeout:
            if not has_waited:
                client.note(f"another program is downloading {file.name}; waiting for it")
            has_waited = True
            now = max(0, size_of(part_of(place, file)))
            on_bytes(now - seen, False)
            seen = now
            time.sleep(_POLL_S)
        except NotImplementedError:
            break  # a file system without locks
    on_bytes(-seen, False)
    if has_waited and size_of(place.blobs / file.etag) == file.size:
        on_bytes(file.size, False)
    try:
        yield
    finally:
        lock.release()


@contextmanager
def write_errors(cache: Path) -> Iterator[None]:
    """Report a cache that is full or can't be written as LlasaError. The bytes that have arrived stay."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise LlasaError(
                f"{cache} is full ({error.strerror}).",
                "Free some space and run the command again: it resumes where it stopped.",
            ) from error
        raise LlasaError(
            f"{cache} can't be written: {error.strerror or error}.",
            "Set LLASA_CACHE or HF_HUB_CACHE to another folder.",
        ) from error
