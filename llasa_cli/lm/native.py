"""`kernels.c`, compiled at first use where there is a C compiler; without one, torch's own kernels do the work.

torch's are written for many rows of states; a voice has one. Read from memory by two cores of a Zen 5 that read 48 GB/s
at most: bf16 48 here, 29 with torch; int8 47, 31; int4 43, 34; fp16 50, 47. (And torch's take 16-bit states.)

The library is kept in the user's cache folder, under a name made of the source, the compiler's flags and the processor.
Linux only, where torch and the library share one OpenMP, and so one set of threads: `torch.set_num_threads` counts.
LLASA_KERNELS=torch does without.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import mmap
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

SOURCE = Path(__file__).with_name("kernels.c")
FLAGS = ("-O3", "-march=native", "-fopenmp", "-shared", "-fPIC", "-w")
HUGE_FROM = 4_000_000
COMPILE_S = 60
"""It takes one or two seconds."""
CHOICE = "LLASA_KERNELS"


class Kernels:
    """The functions of `kernels.c`. Tensors are contiguous and on the CPU; see there for what they hold."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library

    def multiply(
        self, kind: str, states: torch.Tensor, weights: torch.Tensor, scales: torch.Tensor | None, rows: int
    ) -> torch.Tensor:
        """float32 (count, width) states and `rows` rows of weights -> float32 (count, rows)."""
        count, width = states.shape
        out = torch.empty(count, rows)
        self._library[f"multiply_{kind}"](
            _at(states), _at(weights), None if scales is None else _at(scales), _at(out), *_numbers(count, rows, width)
        )
        return out

    def norm(self, states: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
        """float32 (count, width), a multiple of 16 -> its root mean square norm. torch's own takes ten operations."""
        out = torch.empty_like(states)
        self._library.norm(_at(states), _at(weight), _at(out), ctypes.c_float(epsilon), *_numbers(*states.shape))
        return out

    def rotate(self, states: torch.Tensor, turned: int, cosine: torch.Tensor, sine: torch.Tensor) -> None:
        """The first `turned` heads of float32 (count, heads, width), in place, by (count, width) each."""
        count, heads, width = states.shape
        self._library.rotate(_at(states), _at(cosine), _at(sine), *_numbers(count, heads, turned, width))

    def quantise(self, kind: str, values: torch.Tensor, weights: torch.Tensor, scales: torch.Tensor) -> None:
        """float32 (rows, width) `values` -> `weights` and `scales` of that kind, int8 or int4."""
        self._library[f"quantise_{kind}"](_at(values), _at(weights), _at(scales), *_numbers(*values.shape))

    def expand_int4(self, weights: torch.Tensor, scales: torch.Tensor, width: int) -> torch.Tensor:
        """int4 weights -> bfloat16 (rows, width)."""
        out = torch.empty(len(weights), width, dtype=torch.bfloat16)
        self._library.expand_int4(_at(weights), _at(scales), _at(out), *_numbers(*out.shape))
        return out


def _at(tensor: torch.Tensor) -> ctypes.c_void_p:
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

    source = SOURCE.read_bytes()
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


def roomy(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """An empty tensor on the CPU in pages of 2 MB where the system has them: reading it is one twentieth faster."""
    tensor = torch.empty(shape, dtype=dtype)
    advice = getattr(mmap, "MADV_HUGEPAGE", None)
    if advice is not None and tensor.nbytes > HUGE_FROM:
        begin = -(-tensor.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
        size = tensor.data_ptr() + tensor.nbytes - begin
        ctypes.CDLL(None).madvise(ctypes.c_void_p(begin), ctypes.c_size_t(size), advice)  # refused is no harm
    return tensor
