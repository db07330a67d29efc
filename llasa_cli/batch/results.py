"""`results.jsonl`: a row for each item of a batch, locked by who writes it.

    with Results(folder) as results:            refused while another run has it; a run that was killed holds nothing
        for place, row in results.rows(): ...
        results.append({"id": "a", ...})        on its own line, out of this process before the next item
        results.put_in_order(kept)              one row an item, as the list has them; whole or not at all

A place is (offset, length) in bytes; what is kept is a place with the line that its item has in the list now. The file itself
is what is locked, so that a folder of results holds nothing else.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from llasa_cli.errors import LlasaError, UsageError

RESULTS = "results.jsonl"
Place = tuple[int, int]
Kept = tuple[Place, "int | None"]
_LINE = re.compile(rb'"line": (?:\d+|null)')  # the first is the member: within a string its quotes would be escaped
_BLOCK = 1 << 20


class Results:
    """See the module.

    Raises:
        UsageError: Another run is at work in the folder.
        LlasaError: It can't be written to.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / RESULTS
        self._lock = _Lock(self.path)
        self._part = folder / f"{RESULTS}.part"
        self._appended = False
        with self._guarded():
            self._file = self._lock.taken()
            try:
                self._part.unlink(missing_ok=True)
                self._end = _mended(self._file)
            except BaseException:
                self.close()
                raise

    def rows(self) -> Iterator[tuple[Place, dict[str, Any]]]:
        """What is there so far; lines that are no rows are left out."""
        with self.path.open("rb") as file:
            at = 0
            for line in file:
                place = at, len(line)
                at += len(line)
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError):
                    continue
                if isinstance(row, dict):
                    yield place, row

    def append(self, row: dict[str, Any]) -> Place:
        """One more row; -> where it stands."""
        data = (json.dumps(row, ensure_ascii=False) + "\n").encode("utf-8", "replace")
        begin = self._end
        with self._guarded():
            try:
                _write_all(self._file, data)
            except OSError:
                with contextlib.suppress(OSError):
                    self._file.truncate(begin)  # a full disk: half a row is none
                raise
        self._end += len(data)
        return begin, len(data)

    def sync(self) -> None:
        """To the disk itself, against a power cut; a killed process loses nothing that was appended."""
        with self._guarded():
            os.fsync(self._file.fileno())

    def put_in_order(self, kept: Iterable[Kept]) -> None:
        """Keep these rows, in this order, and no others; each tells its item's present line, or null for one that is gone."""
        with self._guarded():
            try:
                with self.path.open("rb") as source:
                    target = self._part.open("w+b", buffering=_BLOCK)
                    # Locked before it is in its place: who opens it then finds it locked.
                    _flock(target)
                    for (offset, length), line in kept:
                        if source.tell() != offset:
                            source.seek(offset)
                        told = b'"line": ' + (b"null" if line is None else b"%d" % line)
                        target.write(_LINE.sub(told, source.read(length), count=1))
                    target.flush()
                    os.fsync(target.fileno())
                    os.replace(self._part, self.path)
            except BaseException:
                self._part.unlink(missing_ok=True)
                raise
            self._file.close()
            self._file = target

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise LlasaError(
                f"{self.path} can't be written: {error.strerror}.",
                "What is made stays: the same command goes on from there.",
            ) from error

    def close(self) -> None:
        with contextlib.suppress(OSError, AttributeError):  # refused before there was a file; a full disk
            if not self._file.closed and not self._file.seek(0, os.SEEK_END):
                self.path.unlink()  # nothing came of it; still locked, so nobody else has begun in it
            self._file.close()
        self._lock.free()

    def __enter__(self) -> Results:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _write_all(file: BinaryIO, data: bytes) -> None:
    """A raw file may take only a part: what a full disk left room for."""
    while data:
        data = data[file.write(data) :]


def _mended(file: BinaryIO) -> int:
    """Take off a last line that a kill has cut; -> the length then."""
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


class _Lock:
    """One run in a folder at a time. The system lets go of it when the process ends, however it ends.

    Where the file system knows no locks (some network ones, Windows), a file beside it names who is at work; it counts for
    nothing when that process is gone.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._owner = path.with_name(f"{path.name}.lock")
        self._owned = False

    def taken(self) -> BinaryIO:
        """The file, locked, open for appending."""
        while True:
            file = self._path.open("a+b", buffering=0)
            try:
                if not _flock(file):
                    self._own()
                # A run that ended just now may have put another file in its place.
                if os.path.samestat(os.fstat(file.fileno()), os.stat(self._path)):
                    return file  # type: ignore[return-value]
            except FileNotFoundError:
                pass
            except BaseException as error:
                file.close()
                if isinstance(error, BlockingIOError):
                    raise _busy(self._path.parent) from error
                raise
            file.close()

    def _own(self) -> None:
        try:
            with open(self._owner, "x", encoding="utf-8") as file:
                file.write(f"{socket.gethostname()} {os.getpid()}")
        except FileExistsError:
            if _is_alive(self._owner):
                raise _busy(
                    self._path.parent, f"If there is none, remove {self._owner} (this file system knows no locks)."
                ) from None
            self._owner.unlink(missing_ok=True)
            self._own()
        self._owned = True

    def free(self) -> None:
        if self._owned:
            self._owner.unlink(missing_ok=True)
            self._owned = False


def _flock(file: BinaryIO) -> bool:
    """Lock a file; False where that can't be done.

    Raises:
        BlockingIOError: Another has it.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        return False
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS):
            return False
        raise
    return True


def _is_alive(owner: Path) -> bool:
    """Whether the process that a lock file names may still be at work; one on another machine may be."""
    try:
        host, number = owner.read_text(encoding="utf-8").rsplit(" ", 1)
        if host != socket.gethostname() or os.name == "nt":  # there os.kill ends what it asks after
            return True
        os.kill(int(number), 0)
    except (ProcessLookupError, FileNotFoundError):
        return False
    except ValueError:
        return False  # cut by a kill while it was written
    except PermissionError:
        return True  # somebody else's
    return True


def _busy(folder: Path, hint: str = "Wait for it, or write elsewhere.") -> UsageError:
    return UsageError(f"Another llasa batch is at work in {folder}.", hint)
