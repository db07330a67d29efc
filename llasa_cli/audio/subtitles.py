"""Subtitles of the generated speech: SubRip (.srt) or WebVTT (.vtt).

    with SubtitleFile(Path("book.srt")) as subtitles:
        subtitles.add(["One.", "Two."], begin_s=0.0, end_s=1.5)

Times are seconds from the beginning of the sound. A cue has at most two lines of 42 columns and lasts 0.8 to 7 s, as
broadcasters ask for: long sentences become several cues, and short ones share a cue with their neighbor. The file is
written as the speech is made, and appears when it is complete.
"""

from __future__ import annotations

import html
import math
import os
import re
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

from llasa_cli.errors import LlasaError, UsageError
from llasa_cli.files import AtomicFile
from llasa_cli.text.unicode import CJK_START

ENDINGS = (".srt", ".vtt")
MAX_COLUMNS = 42
"""Of a line. East Asian characters are two columns wide."""
MIN_MS, MAX_MS = 800, 7000
"""Milliseconds that a cue lasts."""
_UNSAFE = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff]+")
"""Line ends would end the cue, and control characters confuse players."""


@dataclass(frozen=True)
class Cue:
    """A text and the time when it is shown, in milliseconds."""

    begin: int
    end: int
    text: str


class SubtitleFile:
    """Writes sentences with their times. `close` completes the file, `abort` discards it.

    Args:
        path: Ends in .srt or .vtt.

    Raises:
        UsageError: The name has another ending, the folder does not exist, or the path is not a regular file.
        LlasaError: The folder can't be written to.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._is_vtt = path.suffix.lower() == ".vtt"
        if path.suffix.lower() not in ENDINGS:
            raise UsageError(f"Subtitles can't be written to {path}.", "Give a name that ends in .srt or .vtt.")
        target = Path(os.path.realpath(path))  # a symbolic link stays one
        if not target.parent.is_dir():
            raise UsageError(f"The folder {path.parent} does not exist.", "Create it, or choose another path.")
        if target.exists() and not stat.S_ISREG(target.stat().st_mode):
            raise UsageError(f"{path} is not a regular file.", "Give a new file name that ends in .srt or .vtt.")
        self._count = 0
        self._pending: Cue | None = None
        try:
            self._file: AtomicFile | None = AtomicFile(target)
        except OSError as error:
            raise LlasaError(f"{path} can't be written: {error.strerror}.") from error
        if self._is_vtt:
            self._write("WEBVTT\n\n")

    def add(self, sentences: Sequence[str], begin_s: float, end_s: float) -> None:
        """Write what is said from `begin_s` to `end_s`; every sentence gets a share of the time by its length.

        Cues never overlap, whatever the times are.

        Raises:
            LlasaError: The file can't be written, for example because the disk is full. Call `abort` then.
        """
        texts = [text for text in map(_one_line, sentences) if text]
        duration_ms = (end_s - begin_s) * 1000
        for text, first, last in _shares(texts):
            begin, end = begin_s * 1000 + duration_ms * first, begin_s * 1000 + duration_ms * last
            parts = split_text(text, math.ceil((end - begin) / MAX_MS))
            for part, part_first, part_last in _shares(parts):
                self._add(
                    Cue(round(begin + (end - begin) * part_first), round(begin + (end - begin) * part_last), part)
                )

    def _add(self, cue: Cue) -> None:
        """Keep the cue until its successor is known, which decides whether they share one cue, and where it ends."""
        previous = self._pending
        if previous is not None:
            shared = _merge(previous, cue)
            if shared is not None:
                self._pending = shared
                return
            cue = replace(cue, begin=max(cue.begin, previous.begin + MIN_MS))
            self._write_cue(previous, cue.begin)
        self._pending = replace(cue, end=max(cue.end, cue.begin))

    def _write_cue(self, cue: Cue, latest: int) -> None:
        """Write a cue that ends at `latest` at the latest."""
        self._count += 1
        end = min(max(cue.end, cue.begin + MIN_MS), cue.begin + MAX_MS, latest)
        point = "." if self._is_vtt else ","
        number = "" if self._is_vtt else f"{self._count}\n"
        lines = "\n".join(self._escape(line) for line in wrap(cue.text) or [cue.text])
        self._write(f"{number}{format_timestamp(cue.begin, point)} --> {format_timestamp(end, point)}\n{lines}\n\n")

    def _escape(self, line: str) -> str:
        """WebVTT can escape `<`. In SubRip, only the arrow could be mistaken for a time."""
        return html.escape(line, quote=False) if self._is_vtt else line.replace("-->", "→")

    def _write(self, text: str) -> None:
        assert self._file is not None
        try:
            self._file.file.write(text.encode("utf-8", errors="replace"))
        except OSError as error:
            raise self._write_error(error) from error

    def _write_error(self, error: OSError) -> LlasaError:
        return LlasaError(f"{self.path} can't be written: {error.strerror}.", "No file was left behind.")

    def close(self) -> None:
        """Flush the file to disk and rename it into place. Without a cue there is no file."""
        if self._file is None:
            return
        try:
            if self._pending is not None:
                pending, self._pending = self._pending, None
                self._write_cue(pending, pending.begin + MAX_MS)
            if not self._count:
                self.abort()
                return
            self._file.commit()
        except OSError as error:
            self.abort()
            raise self._write_error(error) from error
        except BaseException:
            self.abort()
            raise
        self._file = None

    def abort(self) -> None:
        """Remove what was written. It may be called at any time, and again."""
        file, self._file = self._file, None
        if file is not None:
            file.discard()

    def __enter__(self) -> SubtitleFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()


def format_timestamp(milliseconds: int, point: str) -> str:
    """3723004 -> "01:02:03,004"."""
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{point}{rest:03}"


def split_text(text: str, min_parts: int = 1) -> list[str]:
    """A text in the fewest parts, but at least `min_parts` if it has as many words, each of which fits into a cue."""
    tokens = _tokens(text)
    for parts in count(max(1, min(min_parts, len(tokens)))):
        found = _divide(tokens, parts)
        if parts >= len(tokens) or all(wrap(part) for part in found):
            return found
    raise AssertionError("unreachable")


def wrap(text: str) -> list[str] | None:
    """The text in one line, or in two of similar length, of at most 42 columns; None if it does not fit."""
    if _columns(text) <= MAX_COLUMNS:
        return [text]
    tokens = _tokens(text)
    pairs = [("".join(tokens[:at]).rstrip(), "".join(tokens[at:])) for at in range(1, len(tokens))]
    first, second = min(pairs, key=lambda pair: abs(_columns(pair[0]) - _columns(pair[1])), default=("", text))
    return [first, second] if max(_columns(first), _columns(second)) <= MAX_COLUMNS else None


def _tokens(text: str) -> list[str]:
    """The places where a text may be cut: words with the blank after them, East Asian characters, parts of long words."""
    return [part for word in re.findall(r"\S+\s*|\s+", text) for part in _word_parts(word)]


def _word_parts(word: str) -> Iterator[str]:
    begin = 0
    for at in range(1, len(word)):
        is_dense = ord(word[at]) >= CJK_START and word[at].isalnum()
        if is_dense or _columns(word[begin:at]) >= MAX_COLUMNS:
            yield word[begin:at]
            begin = at
    yield word[begin:]


def _divide(tokens: Sequence[str], parts: int) -> list[str]:
    """Join tokens to so many parts of similar length."""
    lengths = [_spoken_length(token) for token in tokens]
    total = sum(lengths)
    groups: list[list[str]] = [[] for _ in range(parts)]
    before = 0
    for token, length in zip(tokens, lengths, strict=True):
        groups[min(parts - 1, int((before + length / 2) * parts / max(total, 1)))].append(token)
        before += length
    return [text for group in groups if (text := "".join(group).strip())]


def _merge(first: Cue, second: Cue) -> Cue | None:
    """Both in one cue, if one of them is too short for a cue of its own and they fit."""
    if min(first.end - first.begin, second.end - second.begin) >= MIN_MS:
        return None
    if second.begin - first.end > MIN_MS or second.end - first.begin > MAX_MS:
        return None
    blank = "" if ord(first.text[-1]) >= CJK_START else " "
    text = first.text + blank + second.text
    return Cue(first.begin, max(first.end, second.end), text) if wrap(text) else None


def _shares(texts: Sequence[str]) -> Iterator[tuple[str, float, float]]:
    """Every text with the share of the time at which it begins and ends."""
    total = sum(map(_spoken_length, texts))
    before = 0
    for text in texts:
        after = before + _spoken_length(text)
        yield text, before / total, after / total
        before = after


def _one_line(text: str) -> str:
    return _UNSAFE.sub(" ", text).strip()


def _columns(text: str) -> int:
    return _weigh(text.strip(), 2)


def _spoken_length(text: str) -> int:
    """In letters; an East Asian character takes as long as three."""
    return _weigh(text, 3)


def _weigh(text: str, dense: int) -> int:
    return len(text) if text.isascii() else sum(dense if ord(c) >= CJK_START else 1 for c in text)
