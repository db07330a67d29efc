"""The codes made so far, on disk, so that an interrupted `llasa prepare` goes on where it stopped.

Two files that only grow: `codes-{codec}.bin` (little-endian uint16, clips end to end) and
`codes-{codec}.jsonl` (a line a clip: key, codes before it, its count). The line is written after the codes, so a
process killed at any moment leaves at most codes without a line, which the next run cuts off.

Of several processes each writes files of its own (`codes-{codec}-rank00001.bin`) and reads those of all: what was
encoded by eight is there for one. Where each clip lies is kept in a database on disk, not in memory.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import numpy as np

_KIND = np.dtype("<u2")
"""65,536 codes fit in 16 bit, and more no Llasa has."""
_AT_ONCE = 10_000


class CodeStore:
    """Codes by clip. A context manager; one process at a time for each rank."""

    def __init__(self, folder: Path, codec_identity: str, scratch: sqlite3.Connection, rank: int = 0) -> None:
        """Args:
        folder: Where the files are.
        codec_identity: Whose codes.
        scratch: Gets a table of where each clip lies.
        rank: Which files are this process's own.
        """
        self._base = scratch
        scratch.execute("CREATE TABLE codes (key TEXT PRIMARY KEY, file INT, start INT, count INT) WITHOUT ROWID")
        name = f"codes-{codec_identity}"
        own = folder / (f"{name}-rank{rank:05d}.bin" if rank else f"{name}.bin")
        others = [*sorted(folder.glob(f"{name}-rank*.bin")), folder / f"{name}.bin"]
        self._length = self._read(own, 0)
        _cut(own, self._length)
        self._codes = own.open("ab")
        self._lines = own.with_suffix(".jsonl").open("a", encoding="utf-8")
        self._readers = [own.open("rb")]
        for path in others:
            if path != own and path.is_file():
                self._read(path, len(self._readers))
                self._readers.append(path.open("rb"))

    def _read(self, path: Path, number: int) -> int:
        """Note the places in one file; its length in codes comes back. Only a rank's own files are cut to what is whole."""
        lines = path.with_suffix(".jsonl")
        if not path.is_file() or not lines.is_file():
            return 0
        available, whole, length = path.stat().st_size // _KIND.itemsize, 0, 0
        with lines.open("rb") as file:
            places = []
            for line in file:
                try:
                    key, start, count = json.loads(line)
                except ValueError:  # the line that was being written when the process ended
                    break
                if not line.endswith(b"\n") or start + count > available:
                    break
                places.append((key, number, start, count))
                length = max(length, start + count)
                whole += len(line)
                if len(places) >= _AT_ONCE:
                    self._note(places)
                    places = []
            self._note(places)
        if number == 0:
            os.truncate(lines, whole)
        return length

    def _note(self, places: Sequence[tuple[str, int, int, int]]) -> None:
        self._base.executemany("INSERT OR REPLACE INTO codes VALUES (?, ?, ?, ?)", places)

    def __enter__(self) -> CodeStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in (self._codes, self._lines, *self._readers):
            # What could not be written is not there for the next run; a full disk has been told of already.
            with suppress(OSError):
                file.close()
        if self._length == 0:  # every row brought its codes
            for name in (self._codes.name, self._lines.name):
                Path(name).unlink(missing_ok=True)

    def __contains__(self, key: str) -> bool:
        return self._place(key) is not None

    def count(self, key: str) -> int | None:
        """Of its codes; None if it has none yet."""
        place = self._place(key)
        return None if place is None else place[2]

    def __getitem__(self, key: str) -> np.ndarray:
        """uint16 [n] codes of one clip."""
        place = self._place(key)
        if place is None:
            raise KeyError(key)
        number, start, count = place
        reader = self._readers[number]
        reader.seek(start * _KIND.itemsize)
        return np.frombuffer(reader.read(count * _KIND.itemsize), _KIND)

    def _place(self, key: str) -> tuple[int, int, int] | None:
        found: tuple[int, int, int] | None = self._base.execute(
            "SELECT file, start, count FROM codes WHERE key = ?", (key,)
        ).fetchone()
        return found

    def add(self, items: Sequence[tuple[str, Sequence[int]]]) -> None:
        """Append clips and hand them to the system at once."""
        places, lines = [], []
        for key, codes in items:
            self._codes.write(np.asarray(codes, _KIND).tobytes())
            places.append((key, 0, self._length, len(codes)))
            lines.append(json.dumps([key, self._length, len(codes)]) + "\n")
            self._length += len(codes)
        self._codes.flush()
        self._lines.writelines(lines)
        self._lines.flush()
        self._note(places)


def _cut(path: Path, length: int) -> None:
    if path.is_file():
        os.truncate(path, length * _KIND.itemsize)


def clip_key(audio: Path) -> str:
    """16 hexadecimal digits that change when the file does: of its path, size and time of change."""
    stat = audio.stat()
    name = os.fsencode(os.path.abspath(audio))  # need not be text
    return hashlib.sha256(name + f"\n{stat.st_size}\n{stat.st_mtime_ns}".encode()).hexdigest()[:16]
