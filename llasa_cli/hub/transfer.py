"""One file from the hub into the cache: the download resumes at the byte where it stopped, and its checksum is verified.

Bytes are written as they arrive and nothing is held back in the process, so the next download starts from all that a killed
one received. Two downloads of one file wait for each other.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from llasa_cli.errors import LlasaError, ModelError
from llasa_cli.hub.cache_layout import CachedRepo, RemoteFile, size_of
from llasa_cli.hub.http import HubClient, TransientError

_READ_BYTES = 1 << 20

OnBytes = Callable[[int, bool], None]
"""Called with a number of bytes and whether they came over the network just now.

The number is negative when a file starts again from the beginning.
"""


def fetch_blob(client: HubClient, place: CachedRepo, commit: str, file: RemoteFile, on_bytes: OnBytes) -> Path:
    """Download a file that is not there. -> the blob

    Raises:
        ModelError: It can't be downloaded, or has a wrong checksum each time.
        LlasaError: It can't be written.
    """
    blob, part = place.blobs / file.etag, place.part(file)
    with write_errors(place.cache), _lock(place, file, client):
        if size_of(blob) == file.size:  # another program has downloaded it in the meantime
            on_bytes(file.size, False)
            return blob
        place.blobs.mkdir(parents=True, exist_ok=True)
        for copy in range(client.policy.copies):
            if copy:
                client.note(f"{file.name} arrived damaged (wrong checksum); downloading it again from the beginning")
            with part.open("a+b") as content:
                is_right = _complete(content, client, place, commit, file, on_bytes)
            if is_right:
                return part.replace(blob)
            part.unlink()
            on_bytes(-file.size, False)
    raise ModelError(
        f"{file.name} of {place.repo} arrives damaged each time: its checksum differs from the hub's.",
        "Something on the way changes it: try another network or mirror (HF_ENDPOINT).",
    )


def _complete(
    part: BinaryIO, client: HubClient, place: CachedRepo, commit: str, file: RemoteFile, on_bytes: OnBytes
) -> bool:
    """Extend a part to the full size. -> whether its checksum is right"""
    address = client.address(place.repo, commit, file.name)
    part.seek(0)
    digest = _digest_of(part, file, lambda count: on_bytes(count, False))
    have = part.tell()

    def receive_rest() -> None:
        nonlocal digest, have
        with client.open(address, place.repo, have) as response:
            if have and not _starts_at(response, have):
                part.truncate(0)
                on_bytes(-have, False)
                digest, have = file.new_digest(), 0
                if response.status_code != 200:
                    raise TransientError(f"{response.url.host} sends another part of the file than the requested one")
            for piece in response.iter_bytes():
                piece = piece[: file.size - have]  # any more bytes are not the file's
                part.write(piece)
                part.flush()
                digest.update(piece)
                have += len(piece)
                on_bytes(len(piece), True)
                if have == file.size:
                    return
        raise TransientError(f"the connection was lost ({have:,} of {file.size:,} bytes of {file.name})")

    if have < file.size:
        client.with_retries(receive_rest, place.repo, progress=lambda: have)
    os.fsync(part.fileno())
    return digest.hexdigest() == file.etag


def _starts_at(response: Any, start: int) -> bool:
    """Whether an answer is the rest of the file from a byte on. A host may send all of the file instead."""
    stated, encoding = response.headers.get("Content-Range", ""), response.headers.get("Content-Encoding", "identity")
    return response.status_code == 206 and stated.startswith(f"bytes {start}-") and encoding == "identity"


def is_intact(path: Path, file: RemoteFile, on_bytes: OnBytes) -> bool:
    """Whether a file has the size and the checksum that the hub names. This reads all of it."""
    if size_of(path) != file.size:
        return False
    try:
        with path.open("rb") as content:
            return _digest_of(content, file, lambda count: on_bytes(count, True)).hexdigest() == file.etag
    except OSError:
        return False  # the disk can't read it


def _digest_of(content: BinaryIO, file: RemoteFile, on_count: Callable[[int], None]) -> hashlib._Hash:
    """The digest of a file's content up to its end, which may be extended."""
    digest = file.new_digest()
    while piece := content.read(_READ_BYTES):
        digest.update(piece)
        on_count(len(piece))
    return digest


# --- locks and disks ---


@contextmanager
def _lock(place: CachedRepo, file: RemoteFile, client: HubClient) -> Iterator[None]:
    """Hold the hub library's lock of a file. It is a file with a process's number where the file system has no locks."""
    from filelock import Timeout
    from huggingface_hub.utils import WeakFileLock

    place.locks.mkdir(parents=True, exist_ok=True)
    path = place.locks / f"{file.etag}.lock"
    with ExitStack() as stack:
        try:
            stack.enter_context(WeakFileLock(path, timeout=0.1))
        except Timeout:
            client.note(f"another program is downloading {file.name}; waiting for it")
            stack.enter_context(WeakFileLock(path))
        yield


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
