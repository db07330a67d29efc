"""The folder of packed weights (`lm/weight_cache.py`) and tokenizers (`checkpoint/indexed_tokenizer.py`): list its files and
remove them. This module imports no torch."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from llasa_cli.files import hash_ends

ENVIRONMENT_VARIABLE = "LLASA_WEIGHT_CACHE"


def is_cache_off() -> bool:
    """Whether the user has turned the folder off."""
    return os.environ.get(ENVIRONMENT_VARIABLE) == "off"


def cache_key(files: Iterable[Path], code: Iterable[Path], *settings: str) -> str:
    """Names what is made of some files by some modules with some settings.

    A file is known by its ends and by its inode's times: reading all of it would take seconds.

    Raises:
        OSError: A file can't be read.
    """
    digest = hashlib.sha256(repr(settings).encode())
    for module in code:
        digest.update(module.read_bytes())
    for file in files:
        facts = file.stat()
        digest.update(repr((facts.st_size, facts.st_ino, facts.st_mtime_ns, facts.st_ctime_ns)).encode())
        hash_ends(digest, file)
    return digest.hexdigest()[:32]


def packed_weights_folder() -> Path:
    """The path of the folder, which may not exist yet."""
    import platformdirs

    return platformdirs.user_cache_path("llasa") / "weights"


def packed_weights() -> list[tuple[Path, int]]:
    """The finished files with their sizes in bytes, the one that was used last first."""
    found = []
    for path in packed_weights_folder().glob("*.packed"):
        try:
            facts = path.stat()
        except OSError:  # removed by another process
            continue
        found.append((facts.st_mtime_ns, path, facts.st_size))
    return [(path, size) for _, path, size in sorted(found, reverse=True)]


def clear_packed_weights() -> int:
    """Remove all files, partial ones of killed processes included. -> bytes of the finished files

    Processes that have read their weights are not affected. A process that is writing a file loses it.

    Raises:
        OSError: One can't be removed.
    """
    freed = 0
    for path, size in packed_weights():
        path.unlink(missing_ok=True)
        freed += size
    for part in packed_weights_folder().glob(".*.part"):
        part.unlink(missing_ok=True)
    return freed
