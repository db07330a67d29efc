"""A long file that can go on after a kill: sound and takes are kept beside it until it is finished.

    with ResumableSink(Path("book.flac"), "flac", key, {"seed": 7}) as sink:
        skip everything that sink.earlier already holds
        for chunk, take in ...:
            sink.write(chunk); sink.commit(take)

`book.flac.partial/` holds `about.json` (what is being made: a key of text and settings, and the seed), `sound.pcm` (16 bit)
and `takes.jsonl` (one line a take, with its number of samples; the last line is the last take that counts). `close` writes
the file itself, in one go and finished or absent as any other, and removes the folder. `abort` keeps it if there is
something in it to go on from. A folder that holds anything else is refused: `llasa batch` keeps its items in one of that
name too.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from llasa_cli.audio.chunk import AudioChunk, to_pcm16
from llasa_cli.audio.sink import Sink
from llasa_cli.audio.writers import FileSink
from llasa_cli.errors import LlasaError, UsageError
from llasa_cli.files import take_lock

_BLOCK_SAMPLES = 1 << 16
_BYTES = 2
METADATA_FILE = "about.json"
_LOCK = "lock"
_BEGUN = ("about.part", "takes.jsonl", "sound.pcm", _LOCK)


def partial_folder(path: Path) -> Path:
    """Where what is unfinished of a file is kept beside it."""
    return path.with_name(path.name + ".partial")


def foreign_content_error(folder: Path, name: str) -> UsageError:
    return UsageError(f"{folder} holds what is not of this command, such as {name}.", _ELSEWHERE)


_ELSEWHERE = "Finish that with its own command, remove the folder, or write elsewhere."


class ResumableSink(Sink):
    """See the module.

    Args:
        path: The file to be made.
        file_format: One of `sinks.FORMATS`.
        key: Of everything that decides how it sounds; a folder with another key is not gone on with.
        facts: Kept with it and given back as `facts` when it goes on (the seed that was drawn).

    Attributes:
        earlier: What `commit` was given in the runs before this one, in order.
        count: How often it was called, in those and in this one.
        seconds: Of sound in the folder.

    Raises:
        UsageError: The folder is of another text, other settings or another command, or another process works in it.
        LlasaError: It can't be written.
    """

    def __init__(self, path: Path, file_format: str, key: str, facts: Mapping[str, Any]) -> None:
        self.path = path
        self.folder = partial_folder(path)
        self._format = file_format
        FileSink(path, file_format).abort()  # what can be refused is refused now
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
        """What has been written since the last commit is the whole of this take."""
        row = {"samples": self._uncommitted, "sampling_rate": self._rate, "take": dict(take)}
        # The sound first: a line speaks of what is already there.
        self._do(self._log, (json.dumps(row, ensure_ascii=False) + "\n").encode())
        self._samples += self._uncommitted
        self._uncommitted = 0
        self.count += 1

    def close(self) -> None:
        if not self._rate:
            self.abort()
            return
        try:
            with FileSink(self.path, self._format) as target:
                for chunk in self._sounds():
                    target.write(chunk)
        finally:
            self._release()
        self._remove()

    def abort(self) -> None:
        self._release()
        if not self.count:
            self._remove()

    def _remove(self) -> None:
        """The folder, unless somebody has put something else in it."""
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
            self._remove()  # killed while it was being made, or removed
        self.folder.mkdir(exist_ok=True)
        self._log = (self.folder / "takes.jsonl").open("a+b")
        busy = UsageError(f"Another llasa is at work in {self.folder}.", "Wait for it, or write elsewhere.")
        self._release_lock = take_lock(self.folder / _LOCK, busy)
        if not about.is_file():
            part = about.with_suffix(".part")
            part.write_text(json.dumps({"key": key, "facts": facts}) + "\n", encoding="utf-8")
            part.replace(about)
        found = _read(about)
        if found.get("key") != key:
            raise UsageError(f"{self.folder} holds unfinished work on another text or with other settings.", _ELSEWHERE)
        self.facts: dict[str, Any] = found["facts"]
        self._sound = (self.folder / "sound.pcm").open("a+b")
        self._go_on()

    def _go_on(self) -> None:
        """Take up what earlier runs finished; what was cut by a kill goes."""
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
                break  # the machine went down before the sound was on the disk
            whole += len(line)
            self._samples += row["samples"]
            self._rate = row["sampling_rate"]
            self.earlier.append(row["take"])
            self.count += 1
        self._log.truncate(whole)
        self._sound.truncate(self._samples * _BYTES)
        # Appending: both go on at their ends.

    def _sounds(self) -> Iterator[AudioChunk]:
        """All the sound, in blocks."""
        import numpy as np

        with (self.folder / "sound.pcm").open("rb") as file:
            while block := file.read(_BLOCK_SAMPLES * _BYTES):
                # 32,767 is what full scale was multiplied by: the same integers come out again.
                yield AudioChunk(np.frombuffer(block, "<i2").astype(np.float32) / 32767.0, self._rate)

    def _do(self, file: BinaryIO | None, data: bytes) -> None:
        assert file is not None
        try:
            file.write(data)
            file.flush()
        except OSError as error:
            raise LlasaError(
                f"{self.folder} can't be written: {error.strerror}.", "Make room and run the same command to go on."
            ) from error

    def _release(self) -> None:
        for file in (self._sound, self._log):
            if file is not None:
                with contextlib.suppress(OSError):  # a full disk: what was committed was flushed
                    file.close()
        self._sound = self._log = None
        if self._release_lock is not None:
            self._release_lock()
            self._release_lock = None


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UsageError(f"{path} can't be read: {error}", f"Remove {path.parent} to begin again.") from error
    if not isinstance(found, dict) or not isinstance(found.get("facts"), dict):
        raise UsageError(f"{path} is not what was written there.", f"Remove {path.parent} to begin again.")
    return found
