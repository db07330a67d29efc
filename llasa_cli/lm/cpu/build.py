"""Compiles `kernels.c` when it is first used. Without a C compiler torch's own kernels are used.

torch's kernels are written for many rows of states, and a single sequence has one. With one row a product takes as long as
reading its weights, which these kernels do at nearly the speed of the memory (`benchmarks/speed.py`).

The library is kept in the user's cache folder, under a name made of the source, the compiler's flags and the processor.
It is for Linux only, where torch and the library share one OpenMP runtime and so one set of threads:
`torch.set_num_threads` holds for both. LLASA_KERNELS=torch turns it off.
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
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import torch

SOURCE = Path(__file__).with_name("kernels.c")
SOURCE_FILES = (
    "kernels.c",
    "barrier.h",
    "checksum.h",
    "vectors.h",
    "integers.h",
    "one_row.h",
    "many_rows.h",
    "step.h",
    "sampling.h",
)
FLAGS = ("-O2", "-march=native", "-fno-math-errno", "-fopenmp", "-shared", "-fPIC", "-w")
PAGE = 2 << 20
MADV_POPULATE_READ = 22
"""Read all pages now. Not in every Python's `mmap`."""
REGION = 16 * PAGE
"""Bytes of a region that smaller tensors share."""
_PROBES = 16
"""Places of a file that are read to see how the file system keeps it."""
SMALLEST_HUGE = 65_536
"""Bytes; smaller tensors are left to malloc."""
COMPILE_TIMEOUT_S = 300
"""Compiling takes about four seconds of processor time, and much longer on a busy machine."""
ENVIRONMENT_VARIABLE = "LLASA_KERNELS"


class Kernels:
    """The functions of `kernels.c`, where their arguments are described. Tensors are contiguous and on the CPU."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self.library = library
        library.step_bytes.restype = ctypes.c_long
        library.checksum.restype = ctypes.c_uint64

    def multiply(
        self, kind: str, states: torch.Tensor, weights: torch.Tensor, scales: torch.Tensor | None, rows: int
    ) -> torch.Tensor:
        """float32 states (N, W) and `rows` rows of weights of that format -> float32 (N, rows)."""
        count, width = states.shape
        out = torch.empty(count, rows)
        self.library[f"multiply_{kind}"](
            address(states),
            address(weights),
            None if scales is None else address(scales),
            address(out),
            *_longs(count, rows, width),
        )
        return out

    def norm(self, states: torch.Tensor, weight: torch.Tensor, epsilon: float) -> torch.Tensor:
        """Root mean square norm of float32 (N, W), W a multiple of 16. torch's own takes ten operations."""
        out = torch.empty_like(states)
        self.library.norm(
            address(states), address(weight), address(out), ctypes.c_float(epsilon), *_longs(*states.shape)
        )
        return out

    def rotate(self, states: torch.Tensor, rotated: int, cosine: torch.Tensor, sine: torch.Tensor) -> None:
        """Rotary embedding, in place, of the first `rotated` heads of float32 (N, heads, D), by (N, D) each."""
        count, heads, width = states.shape
        self.library.rotate(address(states), address(cosine), address(sine), *_longs(count, heads, rotated, width))

    def gate(self, gate_up: torch.Tensor) -> torch.Tensor:
        """silu(gate) * up: float32 (N, 2 W) -> (N, W), W a multiple of 16."""
        out = torch.empty(len(gate_up), gate_up.shape[1] // 2)
        self.library.gate(address(gate_up), address(out), *_longs(*out.shape))
        return out

    def attend(self, queries: torch.Tensor, past: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Attention of one token of each of B sequences over the first `lengths`, int64 (B,), of their keys and values.

        Args:
            queries: float32 (B, H, D), D a multiple of 16; it may be a slice of rows that are longer.
            past: float32 (B, L, 2 K, D).

        Returns:
            float32 (B, H D).
        """
        count, heads, width = queries.shape
        key_value_heads = past.shape[2] // 2
        out = torch.empty(count, heads * width)
        sizes = _longs(count, past.shape[1], heads // key_value_heads, key_value_heads, width, queries.stride(0))
        self.library.attend(address(queries), address(past), address(lengths), address(out), *sizes)
        return out

    def quantize(self, kind: str, values: torch.Tensor, weights: torch.Tensor, scales: torch.Tensor) -> None:
        """Write float32 `values` (R, W) to `weights` and `scales` in that format, int8 or int4."""
        self.library[f"quantize_{kind}"](address(values), address(weights), address(scales), *_longs(*values.shape))

    def checksum(self, data: torch.Tensor) -> int:
        """A 64-bit checksum of contiguous uint8 (N,), at the speed of the memory."""
        found: int = self.library.checksum(address(data), *_longs(len(data)))
        return found


def address(tensor: torch.Tensor) -> ctypes.c_void_p:
    """The tensor's data, as an argument of a C function."""
    return ctypes.c_void_p(tensor.data_ptr())


def _longs(*values: int) -> list[ctypes.c_long]:
    return [ctypes.c_long(value) for value in values]


@functools.cache
def load_kernels() -> Kernels | None:
    """The compiled functions; None if there is no compiler, it fails, or its result computes wrong numbers."""
    if sys.platform != "linux" or os.environ.get(ENVIRONMENT_VARIABLE) == "torch":
        return None
    try:
        path = library()
        try:
            kernels = Kernels(ctypes.CDLL(str(path)))
        except OSError:  # the file is damaged: compile it again
            path.unlink()
            kernels = Kernels(ctypes.CDLL(str(library())))
    except (OSError, subprocess.SubprocessError):
        return None
    return kernels if _is_correct(kernels) else None


def library() -> Path:
    """The path of the compiled library, which is compiled if it is missing.

    Raises:
        OSError, SubprocessError: It can't be compiled.
    """
    import platformdirs

    source = b"".join(SOURCE.with_name(name).read_bytes() for name in SOURCE_FILES)
    compiler = shutil.which(os.environ.get("CC", "cc")) or shutil.which("gcc") or shutil.which("clang")
    key = hashlib.sha256(source + repr((FLAGS, compiler, _processor())).encode()).hexdigest()[:16]
    folder = platformdirs.user_cache_path("llasa") / "kernels"
    path = folder / f"{key}.so"
    if path.is_file():
        return path
    if compiler is None:
        raise FileNotFoundError("there is no C compiler")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        compiled = Path(temporary) / path.name
        _run([compiler, *FLAGS, "-o", str(compiled), str(SOURCE), "-lm"])
        compiled.replace(path)  # complete or absent, even if another process does the same
    return path


def _run(command: list[str]) -> None:
    """Run a compiler. After COMPILE_TIMEOUT_S it is stopped with the processes that it started."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        status = process.wait(COMPILE_TIMEOUT_S)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    if status:
        raise subprocess.CalledProcessError(status, command)


def _processor() -> str:
    """Identifies the processor for -march=native: different machines may share a home folder."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    features = (line for line in cpuinfo.splitlines() if line.startswith(("flags", "Features")))
    return platform.machine() + next(features, "")


def _is_correct(kernels: Kernels) -> bool:
    """Compare one small product with its known result, in case the compiler is wrong or the file is damaged."""
    states, weights = torch.ones(1, 128), torch.ones(4, 128, dtype=torch.bfloat16)
    return torch.equal(kernels.multiply("bf16", states, weights, None, 4), torch.full((1, 4), 128.0))


class _HugePages:
    """Memory in pages of 2 MB from which tensors are allocated one after the other, so that small ones have such pages too."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rest = torch.empty(0, dtype=torch.uint8)

    def cut(self, size: int) -> torch.Tensor:
        """uint8 (size,), aligned to 64 bytes. As long as it exists, the whole region stays in memory."""
        with self._lock:
            if size > len(self._rest):
                self._rest = self._new_region(max(size, REGION))
            cut, self._rest = self._rest[:size], self._rest[-(-size // 64) * 64 :]
            return cut

    @staticmethod
    def _new_region(size: int) -> torch.Tensor:
        region = mmap.mmap(-1, -(-size // PAGE) * PAGE + PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        with contextlib.suppress(AttributeError, OSError):  # the system has no huge pages, or none for this process
            region.madvise(mmap.MADV_HUGEPAGE)
        whole = torch.frombuffer(region, dtype=torch.uint8)
        return whole[-whole.data_ptr() % PAGE :]


_huge_pages = _HugePages()


def empty_huge_pages(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """An uninitialized tensor on the CPU, in pages of 2 MB where the system has them: reading it is a tenth faster.

    Memory that malloc uses again keeps its small pages, so the tensor is not taken from malloc.
    """
    size = math.prod(shape) * dtype.itemsize
    if sys.platform != "linux" or size < SMALLEST_HUGE:
        return torch.empty(shape, dtype=dtype)
    return _huge_pages.cut(size).view(dtype).view(shape)


def read_file(path: Path) -> torch.Tensor:
    """The bytes of a file that is never changed in place, uint8 (N,), in pages of 2 MB.

    It is mapped if the file system keeps most of it in such pages, and else copied.

    Raises:
        OSError, ValueError: It can't be read, or it is empty.
    """
    with path.open("rb", buffering=0) as file:
        # Private and writable, because torch warns of memory that can't be written.
        region = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
        data = torch.frombuffer(region, dtype=torch.uint8)
        with contextlib.suppress(AttributeError, OSError):
            region.madvise(mmap.MADV_HUGEPAGE)
        for at in range(0, len(region), max(PAGE, len(region) // _PROBES)):
            _ = region[at]
        if _has_huge_pages(data.data_ptr()):
            with contextlib.suppress(OSError):
                region.madvise(MADV_POPULATE_READ)
            return data
        copy = empty_huge_pages((len(data),), torch.uint8)
        rest = memoryview(copy.numpy().data)
        while rest:
            count = file.readinto(rest)
            if not count:
                raise OSError("the file has become shorter")
            rest = rest[count:]
        return copy


def _has_huge_pages(address: int) -> bool:
    """Whether most of what was read of the file that is mapped at an address is in pages of 2 MB.

    A part of the file may have been evicted from memory, and read again to small pages.
    """
    with contextlib.suppress(OSError, StopIteration), open("/proc/self/smaps") as maps:
        for line in maps:
            if line.startswith(f"{address:x}-"):
                resident, huge = (
                    int(next(line for line in maps if line.startswith(f"{name}:")).split()[1])
                    for name in ("Rss", "FilePmdMapped")
                )
                return huge > resident / 2
    return False
