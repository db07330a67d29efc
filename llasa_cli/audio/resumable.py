"""A long file whose generation can be resumed: finished takes are kept in a folder beside it until the file is complete.

    with ResumableSink(Path("book.flac"), "flac", key, {"seed": 7}) as sink:
        skip the takes in sink.earlier
        for chunk, take in ...:
            sink.write(chunk); sink.commit(take)

The folder `book.flac.partial/` has `about.json` (a key of text and settings, and the seed), `sound.pcm` (16 bit) and
`takes.jsonl` (one line per committed take, with its number of samples). `close` writes the whole file, complete or absent, and
removes the folder. `abort` keeps the folder if a take was committed. A folder with other content is refused; `llasa batch`
keeps its items in a folder of the same name.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from llasa_cli.audio.chunk import AudioChunk, from_pcm16, to_pcm16
from llasa_cli.audio.sink import Sink
from llasa_cli.audio.writers import FileSink
from llasa_cli.errors import LlasaError, UsageError, os_errors_as
from llasa_cli.files import take_lock

if TYPE_CHECKING:
    from llasa_cli.audio.audiobook import BookWriter

_BLOCK_SAMPLES = 1 << 16
_BYTES = 2
METADATA_FILE = "about.json"
_LOCK = "lock"
_NOT_KEPT = "not kept"
"""The key of a run that can't be resumed."""
_BEGUN = ("about.part", "takes.jsonl", "sound.pcm", _LOCK)


def partial_folder(path: Path) -> Path:
    """The folder beside a file in which its finished takes are kept."""
    return path.with_name(path.name + ".partial")


def foreign_content_error(folder: Path, name: str) -> UsageError:
    """The error for a folder in which another command or a person has put files."""
    return UsageError(f"{folder} has files of another command, such as {name}.", _ELSEWHERE)


_ELSEWHERE = "Finish it with that command, remove the folder, or choose another path."


class ResumableSink(Sink):
    """A sink whose takes survive an interruption; the module's docstring describes its folder.

    Args:
        path: The file to write.
        file_format: A key of `formats.FORMATS`.
        key: Identifies everything that decides how the file sounds. A folder with another key is refused.
        facts: Stored in a new folder, such as the seed. `self.facts` has the stored ones when a folder is resumed.
        writer: Writes the finished sound; by default to `path`, as it is.
        keeps: Whether an interrupted run can be resumed. Otherwise the folder only holds the sound until it is complete.

    Attributes:
        earlier: The takes that earlier runs committed, in order.
        count: The number of takes committed in all runs.
        seconds: Seconds of committed sound.

    Raises:
        UsageError: The folder has another text, other settings or files of another command, or another process uses it.
        LlasaError: The folder can't be written.
    """

    def __init__(
        self,
        path: Path,
        file_format: str,
        key: str,
        facts: Mapping[str, Any],
        writer: BookWriter | None = None,
        keeps: bool = True,
    ) -> None:
        self.path = path
        self.folder = partial_folder(path)
        self._format, self._writer, self._keeps = file_format, writer, keeps
        if writer is not None:
            writer.check()
        else:
            FileSink(path, file_format).abort()  # raises the errors of the file now
        self._rate = 0
        self._samples = 0
        self._uncommitted = 0
        self._sound: BinaryIO | None = None
        self._log: BinaryIO | None = None
        self._release_lock: Callable[[], None] | None = None
        self.earlier: list[dict[str, Any]] = []
        self.count = 0
        try:
            self._open(key, dict(facts))
        except BaseException as error:
            self._release()
            if isinstance(error, OSError):
                raise LlasaError(f"{self.folder} can't be written: {error.strerror}.") from error
            raise

    @property
    def seconds(self) -> float:
        return self._samples / self._rate if self._rate else 0.0

    def write(self, chunk: AudioChunk) -> None:
        self._rate = chunk.sampling_rate
        self._do(self._sound, to_pcm16(chunk.samples))
        self._uncommitted += len(chunk.samples)

    def commit(self, take: Mapping[str, Any]) -> None:
        """Store a take whose sound is everything that was written since the last commit."""
        row = {"samples": self._uncommitted, "sampling_rate": self._rate, "take": dict(take)}
        # A line may only describe sound that is already in its file.
        self._do(self._log, (json.dumps(row, ensure_ascii=False) + "\n").encode())
        self._samples += self._uncommitted
        self._uncommitted = 0
        self.count += 1

    def close(self) -> None:
        if not self._rate:
            self.abort()
            return
        try:
            if self._writer is not None:
                self._writer.write(self._sounds)
            else:
                with FileSink(self.path, self._format) as target:
                    for chunk in self._sounds():
                        target.write(chunk)
        finally:
            self._release()
        self._remove()

    def abort(self) -> None:
        self._release()
        if not (self.count and self._keeps):
            self._remove()

    def _remove(self) -> None:
        """Remove the folder, unless it has other files."""
        with contextlib.suppress(OSError):
            for name in (METADATA_FILE, *_BEGUN):
                (self.folder / name).unlink(missing_ok=True)
            self.folder.rmdir()

    def _open(self, key: str, facts: dict[str, Any]) -> None:
        about = self.folder / METADATA_FILE
        if self.folder.is_dir() and not about.is_file():
            for name in sorted(os.listdir(self.folder)):
                if name not in _BEGUN:
                    raise foreign_content_error(self.folder, name)
            self._remove()  # an earlier run was killed while it created or removed the folder
        key = key if self._keeps else _NOT_KEPT
        self.folder.mkdir(exist_ok=True)
        self._log = (self.folder / "takes.jsonl").open("a+b")
        busy = UsageError(f"Another llasa process uses {self.folder}.", "Wait for it, or choose another path.")
        self._release_lock = take_lock(self.folder / _LOCK, busy)
        if about.is_file() and _read(about).get("key") == _NOT_KEPT:  # a killed run that could not be resumed
            self._log.truncate(0)
            about.unlink()
        if not about.is_file():
            part = about.with_suffix(".part")
            part.write_text(json.dumps({"key": key, "facts": facts}) + "\n", encoding="utf-8")
            part.replace(about)
        found = _read(about)
        if found.get("key") != key:
            raise UsageError(f"{self.folder} has unfinished work on another text or with other settings.", _ELSEWHERE)
        self.facts: dict[str, Any] = found["facts"]
        self._sound = (self.folder / "sound.pcm").open("a+b")
        self._resume()

    def _resume(self) -> None:
        """Read what earlier runs committed, and truncate the files after it."""
        assert self._log is not None
        assert self._sound is not None
        there = self._sound.seek(0, os.SEEK_END)
        whole = 0
        self._log.seek(0)
        for line in self._log:
            try:
                row = json.loads(line)
            except ValueError:
                break
            if not line.endswith(b"\n") or (self._samples + row["samples"]) * _BYTES > there:
                break  # the machine stopped before the sound was on the disk
            whole += len(line)
            self._samples += row["samples"]
            self._rate = row["sampling_rate"]
            self.earlier.append(row["take"])
            self.count += 1
        self._log.truncate(whole)
        self._sound.truncate(self._samples * _BYTES)

    def _sounds(self) -> Iterator[AudioChunk]:
        """All committed sound, in blocks."""
        import numpy as np

        with (self.folder / "sound.pcm").open("rb") as file:
            while block := file.read(_BLOCK_SAMPLES * _BYTES):
                yield AudioChunk(from_pcm16(np.frombuffer(block, "<i2")), self._rate)

    def _do(self, file: BinaryIO | None, data: bytes) -> None:
        assert file is not None
        with os_errors_as(
            f"{self.folder} can't be written", "Free some disk space and run the same command to resume."
        ):
            file.write(data)
            file.flush()

    def _release(self) -> None:
        for file in (self._sound, self._log):
            if file is not None:
                with contextlib.suppress(OSError):  # a full disk; committed takes were flushed before
                    file.close()
        self._sound = self._log = None
        if self._release_lock is not None:
            self._release_lock()
            self._release_lock = None


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{path} can't be read: {error}", f"Remove {path.parent} to start again.") from error
    if not isinstance(found, dict) or not isinstance(found.get("facts"), dict):
        raise UsageError(f"{path} has an unknown content.", f"Remove {path.parent} to start again.")
    return found
