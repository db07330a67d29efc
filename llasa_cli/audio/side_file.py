"""Files of text beside the sound that say what is said when: subtitles and word times.

They are written as the speech is made, and appear when they are complete. Times are seconds from the beginning of the sound.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from llasa_cli.errors import UsageError, os_errors_as
from llasa_cli.files import AtomicFile
from llasa_cli.text.spoken_words import WordTime


@dataclass(frozen=True)
class SpokenPart:
    """Speech whose time is known.

    Attributes:
        sentences: The written sentences.
        begin_s, end_s: Seconds from the beginning of the sound.
        words: The words of the sentences, with times from `begin_s`; empty if they are not known.
        voice: The name of the voice that speaks them, as in `TextChunk`.
    """

    sentences: Sequence[str]
    begin_s: float
    end_s: float
    words: Sequence[WordTime] = ()
    voice: str = ""


class SideFile:
    """A file that is written part by part. `close` completes it, `abort` discards it; without a part there is no file.

    Args:
        path: Has one of `endings`.

    Raises:
        UsageError: The name has another ending, the folder does not exist, or the path is not a regular file.
        LlasaError: The folder can't be written to.
    """

    endings: tuple[str, ...] = ()
    content = ""
    """A name for the file's content, with which an error begins."""

    def __init__(self, path: Path) -> None:
        self.path = path
        allowed = " or ".join(self.endings)
        if path.suffix.lower() not in self.endings:
            raise UsageError(f"{self.content} can't be written to {path}.", f"Give a name that ends in {allowed}.")
        target = Path(os.path.realpath(path))  # a symbolic link stays one
        if not target.parent.is_dir():
            raise UsageError(f"The folder {path.parent} does not exist.", "Create it, or choose another path.")
        if target.exists() and not stat.S_ISREG(target.stat().st_mode):
            raise UsageError(f"{path} is not a regular file.", f"Give a new file name that ends in {allowed}.")
        self._is_empty = True
        with os_errors_as(f"{path} can't be written"):
            self._file: AtomicFile | None = AtomicFile(target)

    def add(self, part: SpokenPart) -> None:
        """Write a part.

        Raises:
            LlasaError: The file can't be written, for example because the disk is full. Call `abort` then.
        """
        raise NotImplementedError

    def _finish(self) -> None:
        """Write what follows the last part."""

    def _write(self, text: str) -> None:
        assert self._file is not None
        with self._write_errors():
            self._file.file.write(text.encode("utf-8", errors="replace"))

    def _write_errors(self) -> os_errors_as:
        return os_errors_as(f"{self.path} can't be written", "No file was left behind.")

    def close(self) -> None:
        """Flush the file to disk and rename it into place."""
        if self._file is None:
            return
        try:
            self._finish()
            if self._is_empty:
                self.abort()
                return
            with self._write_errors():
                self._file.commit()
        except BaseException:
            self.abort()
            raise
        self._file = None

    def abort(self) -> None:
        """Remove what was written. It may be called at any time, and again."""
        file, self._file = self._file, None
        if file is not None:
            file.discard()

    def __enter__(self) -> SideFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()
