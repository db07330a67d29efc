"""The folder of packed weights (`lm/weight_cache.py`): list its files and remove them. This module imports no torch."""

from __future__ import annotations

from pathlib import Path


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
