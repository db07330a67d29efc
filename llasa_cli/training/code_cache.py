"""Codes on disk, so that an interrupted `llasa prepare` does not encode a clip twice.

Two files that only grow: `codes-{codec}.bin` (little-endian uint16, clips end to end) and `codes-{codec}.jsonl` (a line a
clip: key, codes before it, its count). The line is written after the codes. A process that is killed at any moment
leaves at most codes without a line, which the next run removes.

Each of several processes writes files of its own (`codes-{codec}-rank00001.bin`) and reads those of all, so that one process
can use what eight have encoded. The place of each clip is kept in a database on disk, not in memory.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

_DTYPE = np.dtype("<u2")
"""16 bits hold the 65,536 codes of the published codec; no Llasa has more."""
_LINES_AT_ONCE = 10_000


class CodeCache:
    """Codes by clip. A context manager for one process at a time for each rank."""

    def __init__(self, folder: Path, codec_identity: str, scratch: sqlite3.Connection, rank: int = 0) -> None:
        """Args:
        folder: The folder of the files.
        codec_identity: Identifies the codec that made the codes.
        scratch: Gets a table of the clips' places.
        rank: Chooses the files that this process writes.
        """
        self._database = scratch
        scratch.execute("CREATE TABLE codes (key TEXT PRIMARY KEY, file INT, start INT, count INT) WITHOUT ROWID")
        name = f"codes-{codec_identity}"
        own = folder / (f"{name}-rank{rank:05d}.bin" if rank else f"{name}.bin")
        others = [*sorted(folder.glob(f"{name}-rank*.bin")), folder / f"{name}.bin"]
        self._length = self._read_places(own, 0)
        if own.is_file():
            os.truncate(own, self._length * _DTYPE.itemsize)
        self._codes = own.open("ab")
        self._lines = own.with_suffix(".jsonl").open("a", encoding="utf-8")
        self._readers = [own.open("rb")]
        for path in others:
            # Another worker that ends removes its files if they are empty, at any moment.
            with suppress(FileNotFoundError):
                if path != own:
                    reader = path.open("rb")
                    self._readers.append(reader)
                    self._read_places(path, len(self._readers) - 1)

    def _read_places(self, path: Path, number: int) -> int:
        """Store the places of one file's clips, and return its length in codes.

        Only this rank's own file (number 0) is cut to its complete lines.
        """
        lines = path.with_suffix(".jsonl")
        if not path.is_file() or not lines.is_file():
            return 0
        available, complete_bytes, length = path.stat().st_size // _DTYPE.itemsize, 0, 0
        with lines.open("rb") as file:
            places = []
            for line in file:
                try:
                    key, start, count = json.loads(line)
                except ValueError:  # half a line, written when the process was killed
                    break
                if not line.endswith(b"\n") or start + count > available:
                    break
                places.append((key, number, start, count))
                length = max(length, start + count)
                complete_bytes += len(line)
                if len(places) >= _LINES_AT_ONCE:
                    self._store(places)
                    places = []
            self._store(places)
        if number == 0:
            os.truncate(lines, complete_bytes)
        return length

    def _store(self, places: Sequence[tuple[str, int, int, int]]) -> None:
        self._database.executemany("INSERT OR REPLACE INTO codes VALUES (?, ?, ?, ?)", places)

    def __enter__(self) -> CodeCache:
        return self

    def __exit__(self, *_: object) -> None:
        for file in (self._codes, self._lines, *self._readers):
            # Clips that a full disk did not store are encoded again by the next run. The error was reported when it happened.
            with suppress(OSError):
                file.close()
        if self._length == 0:  # every row brought its codes
            for name in (self._codes.name, self._lines.name):
                Path(name).unlink(missing_ok=True)

    def __contains__(self, key: str) -> bool:
        return self._place(key) is not None

    def count(self, key: str) -> int | None:
        """The number of a clip's codes; None if it has not been encoded."""
        place = self._place(key)
        return None if place is None else place[2]

    def __getitem__(self, key: str) -> np.ndarray:
        """uint16 [n] codes of one clip."""
        place = self._place(key)
        if place is None:
            raise KeyError(key)
        number, start, count = place
        reader = self._readers[number]
        reader.seek(start * _DTYPE.itemsize)
        return np.frombuffer(reader.read(count * _DTYPE.itemsize), _DTYPE)

    def _place(self, key: str) -> tuple[int, int, int] | None:
        found: tuple[int, int, int] | None = self._database.execute(
            "SELECT file, start, count FROM codes WHERE key = ?", (key,)
        ).fetchone()
        return found

    def add(self, items: Sequence[tuple[str, Sequence[int]]]) -> None:
        """Append clips, and pass them to the operating system at once."""
        places, lines = [], []
        for key, codes in items:
            self._codes.write(np.asarray(codes, _DTYPE).tobytes())
            places.append((key, 0, self._length, len(codes)))
            lines.append(json.dumps([key, self._length, len(codes)]) + "\n")
            self._length += len(codes)
        self._codes.flush()
        self._lines.writelines(lines)
        self._lines.flush()
        self._store(places)


def clip_key(audio: Path) -> str:
    """16 hexadecimal digits of the file's path, size and modification time: they change when the file does."""
    status = audio.stat()
    name = os.fsencode(os.path.abspath(audio))  # a file name need not be text
    return hashlib.sha256(name + f"\n{status.st_size}\n{status.st_mtime_ns}".encode()).hexdigest()[:16]
