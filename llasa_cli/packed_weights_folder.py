"""The folder of packed weights (`lm/weight_cache.py`): what it holds, and how it is emptied. It imports no torch."""

from __future__ import annotations

from pathlib import Path


def packed_weights_folder() -> Path:
    """It need not exist."""
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
    """Remove all of them, and what killed processes left. -> bytes of the finished files

    A process that uses one keeps its pages until it ends; one that is writing one keeps nothing.

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
