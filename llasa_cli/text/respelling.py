"""Respellings: how words are to be said, from a file of `word<TAB>respelling` lines.

    words = read_lexicon(Path("words.tsv"))             (("Siobhan", "shiv awn"), ("GIF", "jif"))
    say_it = respeller(words)
    say_it("Siobhan's GIF")                             "shiv awn's jif"

- An entry is a word or a phrase. Where several entries match at a place, the longest one counts, whatever their order.
- An entry in small letters matches in any case ("gif" matches "GIF" and "Gif"). An entry with a capital letter matches only
  as it is written, and comes before one in small letters of the same length.
- An entry matches whole words only; in scripts without spaces, such as Chinese, it matches anywhere.
- A blank in an entry matches any white space. The respelling is not looked up again.
- An empty respelling leaves the word out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path

from llasa_cli.errors import UsageError
from llasa_cli.text.width import CJK_START

Lexicon = tuple[tuple[str, str], ...]
"""(written, said) in the order of the file."""

MOST_ENTRIES = 100_000
MAX_BYTES = 16 << 20


def read_lexicon(path: Path) -> Lexicon:
    """Read a file of respellings. Blank lines and lines that begin with `#` are skipped.

    Raises:
        UsageError: It can't be read, or a line has another form; the message names the line.
    """
    from llasa_cli.text.encoding import detect_encoding, open_text

    try:
        if path.stat().st_size > MAX_BYTES:
            raise UsageError(
                f"{path} is larger than {MAX_BYTES >> 20} MB.", "A lexicon has a word and its respelling a line."
            )
        encoding = detect_encoding(lambda: path.open("rb"), str(path))
        with open_text(lambda: path.open("rb"), encoding) as file:
            lines = file.read().splitlines()
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}.") from error
    found: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        written, tab, said = line.partition("\t")
        written, said = " ".join(written.split()), " ".join(said.split())
        if not tab or "\t" in line.partition("\t")[2].strip("\t"):
            raise _problem(path, number, f"is not WORD<TAB>RESPELLING: {line.strip()[:40]!r}")
        if not any(character.isalnum() for character in written):
            raise _problem(path, number, "has no word before the tab")
        if found.setdefault(written, said) != said:
            raise _problem(path, number, f"gives {written!r} a second respelling")
    if not found:
        raise UsageError(f"{path} has no respellings.", "Write a word, a tab and its respelling a line.")
    if len(found) > MOST_ENTRIES:
        raise UsageError(f"{path} has more than {MOST_ENTRIES:,} respellings.", "Leave out words that are read right.")
    return tuple(found.items())


def _problem(path: Path, number: int, what: str) -> UsageError:
    return UsageError(f"Line {number} of {path} {what}.", "Write a word, a tab and its respelling a line.")


@lru_cache(8)
def respeller(lexicon: Lexicon) -> Callable[[str], str]:
    """The function that replaces the words of a text."""
    exact = {written: said for written, said in lexicon if written != written.lower()}
    folded = {written: said for written, said in lexicon if written == written.lower()}
    first = re.compile(_alternatives(exact)) if exact else None
    second = re.compile(_alternatives(folded), re.IGNORECASE) if folded else None

    def found_at(text: str, at: int) -> tuple[int, int, str] | None:
        """(begin, end, respelling) of the first match from `at` on; of two that begin there, the longer one."""
        matches = []
        for pattern, entries, fold in ((first, exact, False), (second, folded, True)):
            match = pattern.search(text, at) if pattern is not None else None
            if match is not None:
                key = " ".join(match[0].split())
                matches.append((match.start(), -match.end(), fold, entries[key.lower() if fold else key]))
        if not matches:
            return None
        begin, end, _, said = min(matches, key=lambda one: one[:3])
        return begin, -end, said

    def respell(text: str) -> str:
        pieces: list[str] = []
        at = 0
        while (found := found_at(text, at)) is not None:
            begin, end, said = found
            pieces += [text[at:begin], said]
            at = end
        if not at:
            return text
        return "".join([*pieces, text[at:]])

    return respell


def _alternatives(entries: Iterable[str]) -> str:
    """A pattern for the entries, longest first."""
    return "|".join(map(_pattern, sorted(entries, key=len, reverse=True)))


def _pattern(written: str) -> str:
    body = r"\s+".join(map(re.escape, written.split()))
    before = r"(?<!\w)" if _is_in_words(written[0]) else ""
    after = r"(?!\w)" if _is_in_words(written[-1]) else ""
    return before + body + after


def _is_in_words(character: str) -> bool:
    """Whether the character belongs to a script with spaces between words."""
    return character.isalnum() and ord(character) < CJK_START
