"""The memory of this machine, and its free part."""

from __future__ import annotations

import contextlib
import ctypes
import os
from pathlib import Path
from typing import Any

_CGROUP = Path("/sys/fs/cgroup")
_M_ARENA_MAX = -8  # malloc.h


def free_memory() -> int | None:
    """Free bytes of main memory: the machine's, or less where a container may use less. None if unknown."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, StopIteration):
        return None
    limit, used = _read_number(_CGROUP / "memory.max"), _read_number(_CGROUP / "memory.current")
    return free if limit is None or used is None else max(0, min(free, limit - used))


def total_memory() -> int | None:
    """Bytes of main memory: the machine's, or what a container may use. None if unknown."""
    limits = [_read_number(_CGROUP / "memory.max")]
    if hasattr(os, "sysconf"):
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    return min((limit for limit in limits if limit is not None), default=None)


def free_device_memory(device: Any) -> int:
    """Free bytes of a torch device; 4 GB if unknown."""
    if device.type == "cuda":
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    free = free_memory()
    return 4 << 30 if free is None else free


def _read_number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):  # also "max": no limit
        return None


def release_free_memory() -> None:
    """Give memory that was freed back to the system, where the C library keeps it for itself (glibc)."""
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def share_arenas() -> None:
    """Let all threads take memory from two pools instead of one or more each (glibc). Call it before threads are started.

    A pool keeps what its threads once needed. The threads that decode large pieces of sound come and go, so that after a
    while each of up to eight pools for each processor would hold as much as the largest piece took.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)
