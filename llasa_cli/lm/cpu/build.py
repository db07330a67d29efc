"""`kernels.c`, compiled at first use where there is a C compiler; without one, torch's own kernels do the work.

torch's are written for many rows of states; a voice has one. Read from memory by two cores of a Zen 5 that read 48 GB/s
at most: bf16 48 here, 29 with torch; int8 47, 31; int4 43, 34; fp16 50, 47. (And torch's take 16-bit states.)

The library is kept in the user's cache folder, under a name made of the source, the compiler's flags and the processor.
Linux only, where torch and the library share one OpenMP, and so one set of threads: `torch.set_num_threads` counts.
LLASA_KERNELS=torch does without.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import math
import mmap
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import torch

SOURCE = Path(__file__).with_name("kernels.c")
PARTS = ("kernels.c", "vectors.h", "one_row.h", "step.h")
FLAGS = ("-O3", "-march=native", "-fno-math-errno", "-fopenmp", "-shared", "-fPIC", "-w")
HUGE_FROM = 65_536
PAGE = 2 << 20
REGION = 16 * PAGE
"""Smaller tensors share regions of this size."""
COMPILE_S = 60
"""It takes one or two seconds."""
CHOICE = "LLASA_KERNELS"


class Kernels:
    """The functions of `kernels.c`. Tensors are contiguous and on the CPU; see there for what they hold."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.library = library

    def multiply(
        self, kind: str, states: torch.Tensor, weights: torch.Tensor, scales: torch.Tensor | None, rows: int
    ) -> torch.Tensor:
        """float32 (count, width) states and `rows` rows of weights -> float32 (count, rows)."""
        count, width = states.shape
        out = torch.empty(count, rows)
        self.library[f"multiply_{kind}"](
            at(states), at(weights), None if scales is None else at(scales), at(out), *_numbers(count, rows, width)
        )
        return out

    def norm(self, states: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
        """float32 (count, width), a multiple of 16 -> its root mean square norm. torch's own takes ten operations."""
        out = torch.empty_like(states)
        self.library.norm(at(states), at(weight), at(out), ctypes.c_float(epsilon), *_numbers(*states.shape))
        return out

    def rotate(self, states: torch.Tensor, turned: int, cosine: torch.Tensor, sine: torch.Tensor) -> None:
        """The first `turned` heads of float32 (count, heads, width), in place, by (count, width) each."""
        count, heads, width = states.shape
        self.library.rotate(at(states), at(cosine), at(sine), *_numbers(count, heads, turned, width))

    def gate(self, both: torch.Tensor) -> torch.Tensor:
        """float32 (count, 2 width), gate and up; width a multiple of 16 -> silu(gate) * up, (count, width)."""
        out = torch.empty(len(both), both.shape[1] // 2)
        self.library.gate(at(both), at(out), *_numbers(*out.shape))
        return out

    def attend(self, queries: torch.Tensor, past: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """What one token of each of B sequences sees of its `lengths`, int64 (B,), first keys and values.

        Args:
            queries: float32 (B, H, D), D a multiple of 16; what is between sequences is passed over.
            past: float32 (B, L, 2 K, D).

        Returns:
            float32 (B, H D).
        """
        count, heads, width = queries.shape
        pairs = past.shape[2] // 2
        out = torch.empty(count, heads * width)
        sizes = _numbers(count, past.shape[1], heads // pairs, pairs, width, queries.stride(0))
        self.library.attend(at(queries), at(past), at(lengths), at(out), *sizes)
        return out

    def quantise(self, kind: str, values: torch.Tensor, weights: torch.Tensor, scales: torch.Tensor) -> None:
        """float32 (rows, width) `values` -> `weights` and `scales` of that kind, int8 or int4."""
        self.library[f"quantise_{kind}"](at(values), at(weights), at(scales), *_numbers(*values.shape))

    def expand_int4(self, weights: torch.Tensor, scales: torch.Tensor, width: int) -> torch.Tensor:
        """int4 weights -> bfloat16 (rows, width)."""
        out = torch.empty(len(weights), width, dtype=torch.bfloat16)
        self.library.expand_int4(at(weights), at(scales), at(out), *_numbers(*out.shape))
        return out


def at(tensor: torch.Tensor) -> ctypes.c_void_p:
    """Its address, for a function in C."""
    return ctypes.c_void_p(tensor.data_ptr())


def _numbers(*values: int) -> list[ctypes.c_long]:
    return [ctypes.c_long(value) for value in values]


@functools.cache
def kernels() -> Kernels | None:
    """The compiled functions, or None: no compiler, one that fails, or what it made does not multiply."""
    if sys.platform != "linux" or os.environ.get(CHOICE) == "torch":
        return None
    try:
        path = library()
        try:
            made = Kernels(ctypes.CDLL(str(path)))
        except OSError:  # damaged: once more
            path.unlink()
            made = Kernels(ctypes.CDLL(str(library())))
    except (OSError, subprocess.SubprocessError):
        return None
    return made if _multiplies(made) else None


def library() -> Path:
    """The compiled file; made if it is not there.

    Raises:
        OSError, SubprocessError: It can't be.
    """
    import platformdirs

    source = b"".join(SOURCE.with_name(part).read_bytes() for part in PARTS)
    compiler = shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc") or shutil.which("clang")
    key = hashlib.sha256(source + repr((FLAGS, compiler, _processor())).encode()).hexdigest()[:16]
    folder = platformdirs.user_cache_path("llasa") / "kernels"
    path = folder / f"{key}.so"
    if path.is_file():
        return path
    if compiler is None:
        raise FileNotFoundError("there is no C compiler")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(dir=folder) as beside:
        fresh = Path(beside) / path.name
        subprocess.run([compiler, *FLAGS, "-o", fresh, SOURCE], check=True, capture_output=True, timeout=COMPILE_S)
        fresh.replace(path)  # whole or not at all, whoever else does the same
    return path


def _processor() -> str:
    """What -march=native looks at: a home folder may be shared by machines that differ."""
    about = Path("/proc/cpuinfo").read_text()
    return platform.machine() + next(
        (line for line in about.splitlines() if line.startswith(("flags", "Features"))), ""
    )


def _multiplies(made: Kernels) -> bool:
    """It gives what torch gives, for a few numbers: a compiler may be wrong, a file damaged."""
    states, weights = torch.ones(1, 128), torch.ones(4, 128, dtype=torch.bfloat16)
    return torch.equal(made.multiply("bf16", states, weights, None, 4), torch.full((1, 4), 128.0))


class _Pages:
    """Memory in pages of 2 MB, of which tensors are cut: one after the other, so that small ones lie in such pages too."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rest = torch.empty(0, dtype=torch.uint8)

    def cut(self, size: int) -> torch.Tensor:
        """uint8 (size,), at a multiple of 64. It keeps all of its region in memory as long as it is there itself."""
        with self._lock:
            if size > len(self._rest):
                self._rest = self._region(max(size, REGION))
            begun, self._rest = self._rest[:size], self._rest[-(-size // 64) * 64 :]
            return begun

    @staticmethod
    def _region(size: int) -> torch.Tensor:
        region = mmap.mmap(-1, -(-size // PAGE) * PAGE + PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        with contextlib.suppress(AttributeError, OSError):  # there are none, or not for us
            region.madvise(mmap.MADV_HUGEPAGE)
        whole = torch.frombuffer(region, dtype=torch.uint8)
        return whole[-whole.data_ptr() % PAGE :]


_pages = _Pages()


def roomy(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """An empty tensor on the CPU in pages of 2 MB where the system has them: reading it is a tenth faster.

    Memory that is used again, as malloc's is, keeps the small pages it once had.
    """
    size = math.prod(shape) * dtype.itemsize
    if sys.platform != "linux" or size < HUGE_FROM:
        return torch.empty(shape, dtype=dtype)
    return _pages.cut(size).view(dtype).view(shape)
