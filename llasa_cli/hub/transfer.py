"""One file from the hub into the cache: the download resumes at the byte where it stopped, and its checksum is verified.

Bytes are written as they arrive and nothing is held back in the process, so the next download starts from all that a killed
one received. Two downloads of one file wait for each other.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from llasa_cli.errors import LlasaError, ModelError
from llasa_cli.hub.cache_layout import PART_SUFFIX, CachedRepo, RemoteFile, size_of
from llasa_cli.hub.http import HubClient, TransientError

_READ_BYTES = 1 << 20

OnBytes = Callable[[int, bool], None]
"""Called with a number of bytes and whether they came over the network just now.

The number is negative when a file starts again from the beginning.
"""


def part_of(place: CachedRepo, file: RemoteFile) -> Path:
    """The path of a file while it is being downloaded."""
    return place.blobs / f"{file.etag}{PART_SUFFIX}"


def fetch_blob(client: HubClient, place: CachedRepo, commit: str, file: RemoteFile, on_bytes: OnBytes) -> None:
    """Download a file that is not there.

    Raises:
        ModelError: It can't be downloaded, or has a wrong checksum each time.
        LlasaError: It can't be written.
    """
    blob, part = place.blobs / file.etag, part_of(place, file)
    with write_errors(place.cache), _lock(place, file, client):
        if size_of(blob) == file.size:  # another program has downloaded it in the meantime
            on_bytes(file.size, False)
            return
        place.blobs.mkdir(parents=True, exist_ok=True)
        for copy in range(client.policy.copies):
            if copy:
                client.note(f"{file.name} arrived damaged (wrong checksum); downloading it again from the beginning")
            with part.open("a+b") as content:
                is_right = _complete(content, client, place, commit, file, on_bytes)
            if is_right:
                part.replace(blob)
                return
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
    digest, have = file.new_digest(), 0
    part.seek(0)
    while piece := part.read(_READ_BYTES):
        digest.update(piece)
        have += len(piece)
    on_bytes(have, False)
    furthest, failures = have, 0
    while have < file.size:
        try:
            with client.open(address, place.repo, have) as response:
                if have and not _starts_at(response, have):
                    part.truncate(0)
                    on_bytes(-have, False)
                    digest, have = file.new_digest(), 0
                    if response.status_code != 200:
                        raise TransientError(
                            f"{response.url.host} sends another part of the file than the requested one"
                        )
                for content in response.iter_bytes():
                    content = content[: file.size - have]
                    part.write(content)
                    part.flush()
                    digest.update(content)
                    have += len(content)
                    on_bytes(len(content), True)
                    if have == file.size:
                        break  # any more bytes are not the file's
                else:
                    raise TransientError(f"the connection was lost ({have:,} of {file.size:,} bytes of {file.name})")
        except TransientError as failure:
            failures = 1 if have > furthest else failures + 1
            furthest = max(have, furthest)
            client.pause(failure, failures, place.repo)
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
    digest = file.new_digest()
    try:
        with path.open("rb") as content:
            while piece := content.read(_READ_BYTES):
                digest.update(piece)
                on_bytes(len(piece), True)
    except OSError:
        return False  # the disk can't read it
    return digest.hexdigest() == file.etag


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
