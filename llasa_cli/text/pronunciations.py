"""A checkpoint's own lexicon: the phones of words, for a small model that is trained to read phones.

`pronunciations.txt` in the checkpoint's folder has one `word<TAB>phones` a line, sorted by its bytes. Words are in lower case; each
character of the phones is one phone or stress mark, for which the tokenizer has the token `/x/`. Words that are not in the file,
and words that are said in several ways ("read", "the"), are encoded letter by letter, and the model decides.
"""

from __future__ import annotations

import mmap
import re
from bisect import bisect_left
from collections.abc import Iterator
from pathlib import Path

PRONUNCIATIONS = "pronunciations.txt"
_PHONES = re.compile("(?:/./)+")
_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)*")


class Pronunciations:
    """The lexicon of one checkpoint. It is searched line by line where it lies, so that opening it takes no time.

    Args:
        content: The file's content, which may be mapped.
    """

    def __init__(self, content: bytes | mmap.mmap) -> None:
        self._content = content

    def __reduce__(self) -> tuple[type[Pronunciations], tuple[bytes]]:
        """Workers that are started afresh get a copy, since a mapping can't be pickled."""
        return Pronunciations, (self._content[:],)

    @classmethod
    def read(cls, path: Path) -> Pronunciations | None:
        """Map a file into memory; None if it is missing or empty."""
        if not path.is_file() or not path.stat().st_size:
            return None
        with path.open("rb") as file:
            return cls(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))

    def find(self, word: str) -> str | None:
        """The phones of a word in lower case; None if the lexicon lacks it."""
        start = word.encode() + b"\t"
        place = bisect_left(range(len(self._content)), start, key=self._line_at)
        line = self._line_at(place)
        return line[len(start) :].decode() if line.startswith(start) else None

    def spelled(self, text: str) -> str:
        """Replace the phones of each word, "/k//æ//t/", by a word that has them. Of several that sound alike it is the first."""
        return _PHONES.sub(lambda match: self._word_of(match[0][1::3]) or match[0], text)

    def _word_of(self, phones: str) -> str | None:
        end = self._content.find(f"\t{phones}\n".encode())
        return self._line_at(end).decode().partition("\t")[0] if end >= 0 else None

    def _line_at(self, place: int) -> bytes:
        """The line that covers byte `place`, without its end."""
        begin, end = self._content.rfind(b"\n", 0, place) + 1, self._content.find(b"\n", place)
        return self._content[begin : end if end >= 0 else len(self._content)]

    def split(self, text: str) -> Iterator[tuple[str, str | None]]:
        """Take a text in lower case apart into words with their phones, and pieces without: other words and what is between."""
        done = 0
        for match in _WORD.finditer(text):
            phones = self.find(match[0])
            if phones is not None:
                if match.start() > done:
                    yield text[done : match.start()], None
                yield match[0], phones
                done = match.end()
        if done < len(text):
            yield text[done:], None
