"""The codes made so far, on disk, so that an interrupted `llasa prepare` goes on where it stopped.

Two files that only grow: `codes-{codec}.bin` (little-endian uint16, clips end to end) and
`codes-{codec}.jsonl` (a line a clip: key, codes before it, its count). The line is written after the codes, so a
process killed at any moment leaves at most codes without a line, which the next run cuts off.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np

_KIND = np.dtype("<u2")
"""65,536 codes fit in 16 bit, and more no Llasa has."""


class CodeStore:
    """Codes by clip. A context manager; one process at a time."""

    def __init__(self, folder: Path, codec_identity: str) -> None:
        self._codes_path = folder / f"codes-{codec_identity}.bin"
        self._lines_path = folder / f"codes-{codec_identity}.jsonl"
        self._places: dict[str, tuple[int, int]] = {}
        self._length = 0
        self._read()
        self._codes = self._codes_path.open("ab")
        self._lines = self._lines_path.open("a", encoding="utf-8")
        self._reader = self._codes_path.open("rb")

    def _read(self) -> None:
        whole = 0
        available = self._codes_path.stat().st_size // _KIND.itemsize if self._codes_path.is_file() else 0
        if self._lines_path.is_file():
            with self._lines_path.open("rb") as file:
                for line in file:
                    try:
                        key, start, count = json.loads(line)
                    except ValueError:  # the line that was being written when the process ended
                        break
                    if not line.endswith(b"\n") or start + count > available:
                        break
                    self._places[key] = (start, count)
                    self._length = max(self._length, start + count)
                    whole += len(line)
            os.truncate(self._lines_path, whole)
        if self._codes_path.is_file():
            os.truncate(self._codes_path, self._length * _KIND.itemsize)

    def __enter__(self) -> CodeStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._codes.close()
        self._lines.close()
        self._reader.close()

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def __getitem__(self, key: str) -> np.ndarray:
        """uint16 [n] codes of one clip."""
        start, count = self._places[key]
        self._reader.seek(start * _KIND.itemsize)
        return np.frombuffer(self._reader.read(count * _KIND.itemsize), _KIND)

    def add(self, items: Sequence[tuple[str, Sequence[int]]]) -> None:
        """Append clips and hand them to the system at once."""
        lines = []
        for key, codes in items:
            self._codes.write(np.asarray(codes, _KIND).tobytes())
            self._places[key] = (self._length, len(codes))
            lines.append(json.dumps([key, self._length, len(codes)]) + "\n")
            self._length += len(codes)
        self._codes.flush()
        self._lines.writelines(lines)
        self._lines.flush()


def clip_key(audio: Path) -> str:
    """16 hexadecimal digits that change when the file does: of its path, size and time of change."""
    stat = audio.stat()
    return hashlib.sha256(f"{audio.resolve()}\n{stat.st_size}\n{stat.st_mtime_ns}".encode()).hexdigest()[:16]
