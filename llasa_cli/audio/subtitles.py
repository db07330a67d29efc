"""Subtitles of what is said, sentence by sentence: SubRip (.srt) or WebVTT (.vtt).

    with SubtitleFile(Path("book.srt")) as subtitles:
        subtitles.add(["One.", "Two."], begin_s=0.0, end_s=1.5)

Times are seconds from the beginning of the sound. Written as it goes, a line of memory at a time; finished or absent,
as `audio.writers.FileSink`.
"""

from __future__ import annotations

import html
import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from llasa_cli.errors import LlasaError, UsageError
from llasa_cli.files import AtomicFile
from llasa_cli.text.unicode import CJK_START

ENDINGS = (".srt", ".vtt")
TWO_LINES = 84
"""Columns from which a sentence is broken in two: two lines of 42 are what broadcasters allow."""
_UNSAFE = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff]+")
"""Line ends would end the entry, control characters upset players."""


class SubtitleFile:
    """Takes sentences with their times. `close` finishes, `abort` leaves nothing; leaving a `with` block does one."""

    def __init__(self, path: Path) -> None:
        """Everything that can be refused is refused here.

        Raises:
            UsageError: No .srt or .vtt, no such folder, or something in its place that is no file.
            LlasaError: The folder can't be written to.
        """
        self.path = path
        self._kind = path.suffix.lower()
        if self._kind not in ENDINGS:
            raise UsageError(f"Subtitles can't be written to {path}.", "The name ends in .srt or .vtt.")
        self._place = Path(os.path.realpath(path))
        if not os.path.isdir(self._place.parent):
            raise UsageError(f"There is no folder {path.parent}.", "Make it first, or write elsewhere.")
        if os.path.exists(self._place) and not stat.S_ISREG(os.stat(self._place).st_mode):
            raise UsageError(f"{path} is no regular file.", "Name a new file, ending in .srt or .vtt.")
        self._count, self._end_ms = 0, 0
        self._file: AtomicFile | None = None
        try:
            self._file = AtomicFile(self._place)
        except OSError as error:
            raise LlasaError(f"{path} can't be written: {error.strerror}.") from error
        if self._kind == ".vtt":
            self._write("WEBVTT\n\n")

    def add(self, sentences: Sequence[str], begin_s: float, end_s: float) -> None:
        """What is said from `begin_s` to `end_s`; each sentence gets its share of it, by its length.

        An entry lasts at least a millisecond and begins when the last one is over, whatever the times are.

        Raises:
            LlasaError: The disk is full, or the like. `abort` is then what is left to do.
        """
        said = [text for text in map(_one_line, sentences) if text]
        whole = sum(map(_length, said))
        done = 0
        for text in said:
            begin = begin_s + (end_s - begin_s) * done / whole
            done += _length(text)
            self._entry(text, begin, begin_s + (end_s - begin_s) * done / whole)

    def _entry(self, text: str, begin_s: float, end_s: float) -> None:
        begin_ms = max(round(begin_s * 1000), self._end_ms)
        self._end_ms = max(round(end_s * 1000), begin_ms + 1)
        self._count += 1
        point = "," if self._kind == ".srt" else "."
        number = f"{self._count}\n" if self._kind == ".srt" else ""
        lines = "\n".join(self._safe(line) for line in _lines(text))
        self._write(
            f"{number}{format_timestamp(begin_ms, point)} --> {format_timestamp(self._end_ms, point)}\n{lines}\n\n"
        )

    def _safe(self, line: str) -> str:
        """WebVTT has a way to write `<`; in SubRip only the arrow could be taken for a time."""
        return html.escape(line, quote=False) if self._kind == ".vtt" else line.replace("-->", "→")

    def _write(self, text: str) -> None:
        assert self._file is not None
        try:
            self._file.file.write(text.encode("utf-8", errors="replace"))
        except OSError as error:
            raise self._failed(error) from error

    def _failed(self, error: OSError) -> LlasaError:
        return LlasaError(f"{self.path} can't be written: {error.strerror}.", "Nothing was left there.")

    def close(self) -> None:
        """Flush to disk and put in place; without a sentence there is no file."""
        if self._file is None:
            return
        if not self._count:
            self.abort()
            return
        try:
            self._file.commit()
        except OSError as error:
            raise self._failed(error) from error
        finally:
            self._file = None

    def abort(self) -> None:
        """Leave nothing; may be called at any time, and again."""
        if self._file is not None:
            self._file.discard()
            self._file = None

    def __enter__(self) -> SubtitleFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()


def format_timestamp(milliseconds: int, point: str) -> str:
    """3723004 -> "01:02:03,004"."""
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{point}{rest:03}"


def _one_line(text: str) -> str:
    return _UNSAFE.sub(" ", text).strip()


def _length(text: str, dense: int = 3) -> int:
    """To say, in letters."""
    return len(text) if text.isascii() else sum(dense if ord(c) >= CJK_START else 1 for c in text)


def _lines(text: str) -> list[str]:
    """One line, or two of about the same length: cut at a blank, in a script without blanks in the middle."""
    if _length(text, dense=2) <= TWO_LINES:
        return [text]
    middle = len(text) // 2
    blanks = [found.start() for found in re.finditer(" ", text)]
    nearest = min(blanks, key=lambda at: abs(at - middle), default=0)
    if abs(nearest - middle) <= len(text) // 4:
        return [text[:nearest], text[nearest + 1 :]]
    if ord(text[middle]) >= CJK_START:
        return [text[:middle], text[middle:]]
    return [text[:nearest], text[nearest + 1 :]] if blanks else [text]
