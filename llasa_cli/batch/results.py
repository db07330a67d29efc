"""`results.jsonl`: one row for each item of a batch. One run at a time may write it.

    with Results(folder) as results:            raises while another run writes to the folder
        for place, row in results.rows(): ...
        results.append({"id": "a", ...})        handed to the operating system before the next item
        results.reorder(rows)                   one row an item, in the order of the list; complete or not at all

The lock is a file beside the results, which is removed at the end. The lock of a killed process is free at once.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from llasa_cli.errors import UsageError, os_errors_as
from llasa_cli.files import AtomicFile, take_lock

RESULTS = "results.jsonl"
LOCK = f"{RESULTS}.lock"
_EARLIER_PART = f"{RESULTS}.part"
"""The temporary file of earlier versions, which a killed run leaves."""
COMPLETE = ("ok", "failed_checks")
"""The values of `status` in a row whose file was written. `failed_checks`: the file's speech still fails its checks."""
_LINE = re.compile(
    rb'"line": (?:\d+|null)'
)  # the first match is the row's own field: inside a string the quotes are escaped
_BLOCK = 1 << 20


class ByteRange(NamedTuple):
    """The position of a row in the file."""

    offset: int
    length: int


class IndexedRow(NamedTuple):
    """A row of the file, and the line that its item has in the list now; None if the item is no longer in the list."""

    place: ByteRange
    line: int | None


class Results:
    """The results of one output folder; see the module.

    Raises:
        UsageError: Another run is writing to the folder.
        LlasaError: The file can't be written.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / RESULTS
        busy = UsageError(
            f"Another llasa batch is writing to {folder}.", "Wait until it has finished, or choose another output."
        )
        with self._disk_errors():
            self._release = take_lock(folder / LOCK, busy)
            try:
                (folder / _EARLIER_PART).unlink(missing_ok=True)
                self._file: BinaryIO = self.path.open("a+b", buffering=0)  # type: ignore[assignment]
                self._end = _remove_incomplete_line(self._file)
            except BaseException:
                self._release()
                raise

    def rows(self) -> Iterator[tuple[ByteRange, dict[str, Any]]]:
        """The rows so far. Lines that are not JSON objects are skipped."""
        with self.path.open("rb") as file:
            offset = 0
            for line in file:
                place = ByteRange(offset, len(line))
                offset += len(line)
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError):
                    continue
                if isinstance(row, dict):
                    yield place, row

    def append(self, row: dict[str, Any]) -> ByteRange:
        """Append a row and return its position."""
        data = (json.dumps(row, ensure_ascii=False) + "\n").encode("utf-8", "replace")
        begin = self._end
        with self._disk_errors():
            try:
                _write_all(self._file, data)
            except OSError:
                with contextlib.suppress(OSError):
                    self._file.truncate(begin)  # the disk is full: no half row may stay
                raise
        self._end += len(data)
        return ByteRange(begin, len(data))

    def sync(self) -> None:
        """Flush to the disk, against a power failure. A killed process loses no row that was appended."""
        with self._disk_errors():
            os.fsync(self._file.fileno())

    def reorder(self, rows: Iterable[IndexedRow]) -> None:
        """Rewrite the file with only these rows, in this order, and update the field `line` of each."""
        with self._disk_errors():
            with self.path.open("rb") as source, AtomicFile(self.path) as target:
                for (offset, length), line in rows:
                    if source.tell() != offset:
                        source.seek(offset)
                    field = b'"line": ' + (b"null" if line is None else b"%d" % line)
                    target.file.write(_LINE.sub(field, source.read(length), count=1))
            self._file.close()
            self._file = self.path.open("a+b", buffering=0)  # type: ignore[assignment]
            self._end = self._file.seek(0, os.SEEK_END)

    def _disk_errors(self) -> os_errors_as:
        hint = "Completed items are kept: the same command continues from there."
        return os_errors_as(f"{self.path} can't be written", hint)

    def close(self) -> None:
        """Release the lock. A file without rows is removed."""
        with contextlib.suppress(OSError):  # a full disk
            if not self._file.closed and not self._file.seek(0, os.SEEK_END):
                self.path.unlink()
            self._file.close()
        self._release()

    def __enter__(self) -> Results:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _write_all(file: BinaryIO, data: bytes) -> None:
    """Write all bytes: an unbuffered file may accept only a part."""
    while data:
        data = data[file.write(data) :]


def _remove_incomplete_line(file: BinaryIO) -> int:
    """Truncate a last line that a kill has cut. -> the length of the file"""
    end = file.seek(0, os.SEEK_END)
    at = end
    while at > 0:
        begin = max(0, at - _BLOCK)
        file.seek(begin)
        found = file.read(at - begin).rfind(b"\n")
        if found >= 0:
            at = begin + found + 1
            break
        at = begin
    if at != end:
        file.truncate(at)
    return at
