"""A model's own lexicon: the phones of English words, for a model that was trained to read them.

A checkpoint folder may hold `pronunciations.txt`, one `word<TAB>phones` a line, sorted by the bytes of the word. Words are lower
case; each character of the phones is one phone or stress mark, and the tokenizer has a token `/x/` for it. Words that are not
in the file, and words that are said in several ways ("read", "the"), are left to the model letter by letter.
"""

from __future__ import annotations

import mmap
import re
from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path

FILE_NAME = "pronunciations.txt"
_WORD = re.compile(r"[a-z]+(?:'[a-z]+)*")


class Pronunciations:
    """The lexicon of one checkpoint, mapped into memory and searched on disk: nothing is read before a word is asked for."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self._lines = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def find(self, word: str) -> str | None:
        """The phones of a lower-case word; None if the lexicon lacks it."""
        wanted = word.encode() + b"\t"
        place = bisect_left(range(len(self._lines)), wanted, key=self._line_at)
        line = self._line_at(place) if place < len(self._lines) else b""
        return line[len(wanted) :].decode().rstrip("\n") if line.startswith(wanted) else None

    def _line_at(self, place: int) -> bytes:
        """The line that covers byte `place`."""
        begin = self._lines.rfind(b"\n", 0, place) + 1
        end = self._lines.find(b"\n", place)
        return self._lines[begin:] if end < 0 else self._lines[begin : end + 1]

    def split(self, text: str) -> Iterator[tuple[str, str | None]]:
        """Lower-case text -> its words and what stands between them, in order, each with its phones or None."""
        done = 0
        for match in _WORD.finditer(text):
            if match.start() > done:
                yield text[done : match.start()], None
            yield match[0], self.find(match[0])
            done = match.end()
        if done < len(text):
            yield text[done:], None
