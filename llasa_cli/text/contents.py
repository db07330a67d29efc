"""Tables of contents in the lines of a text, which are not read aloud."""

from __future__ import annotations

import re
from collections.abc import Sequence

HEADING = re.compile(
    r"\s*(?:(?:table of )?contents|list of (?:figures|tables|illustrations))\s*[:.]?\s*"
    r"|\s*(?:inhalt(?:sverzeichnis|sübersicht)?|table des matières|sommaire|tabla de contenidos?|índice(?: general)?|indice|sommario"
    r"|inhoud(?:sopgave)?|spis treści|innehåll(?:sförteckning)?|содержание|оглавление|目录|目次)\s*[:.]?\s*",
    re.IGNORECASE,
)
_PAGE = r"(?P<page>\d{1,4}|[ivxlc]{1,7})\s*"
_LED = re.compile(rf".*\S\s*(?:(?:[.·_][ \t]?){{4,}}|(?:…[ \t]?){{2,}})\s*{_PAGE}", re.IGNORECASE)
"""Dots lead to the number of a page."""
_PAGED = re.compile(rf".*[^\W\d_].*?[\s.…]{_PAGE}", re.IGNORECASE)
_LABELED = re.compile(
    r"\W*(?:(?:chapter|part|book|volume|letter|act|scene|section|appendix|canto|kapitel|teil|chapitre|partie|capítulo|capitolo|parte)"
    r"\s+(?:[\divxlc]{1,7}|one|two|three|four|five|six|seven|eight|nine|ten|the \w+)\b|(?:[IVXLC]{1,7}|\d{1,2}(?:\.\d{1,2})*)[.:)—–-](?=\s)|prologue|epilogue|preface|introduction|foreword|afterword)"
    r"\W*(?:\s+\S.{0,90})?",
    re.IGNORECASE,
)
_PART = re.compile(r"(?:part|book|volume|act|teil|partie|parte)", re.IGNORECASE)
_LEAST = 3
"""The entries of a table of contents."""
_MOST = 500
_LONGEST_LED, _LONGEST = 300, 100
"""Characters of an entry with dots, and of any other line."""
_WRAPPED = 2
"""Lines of one entry without a sign of one."""
_SENTENCE = re.compile(r"[^.…][.!?][\"”’)]*\s*$")


def contents_lines(lines: Sequence[str]) -> set[int]:
    """The numbers of the lines of tables of contents, from 0.

    Entries have dots that lead to a page; below a heading ("Contents"), they end with the number of a page or begin with that
    of a chapter. Pages go upward, and where a title comes again, the text begins.
    """
    found: set[int] = set()
    at = 0
    while at < len(lines):
        has_heading = HEADING.fullmatch(lines[at]) is not None
        end = _end(lines, at + has_heading, has_heading) if has_heading or _led(lines[at]) else at
        found.update(range(at, end))
        at = max(end, at + 1)
    return found


def _end(lines: Sequence[str], begin: int, has_heading: bool) -> int:
    """The end of the entries that begin with this line; 0 if these are too few."""
    count, wrapped, end, blank = 0, 0, 0, 0
    page, titles = (0, 0), list[str]()
    for at in range(begin, len(lines)):
        line = lines[at].strip()
        if not line:
            blank += 1
            if blank > 2 and count:
                break
            continue
        entry = _led(line) or (_PAGED.fullmatch(line) if has_heading and len(line) < _LONGEST else None)
        label = _LABELED.fullmatch(line) if has_heading and len(line) < _LONGEST else None
        number = _page(entry["page"]) if entry else page
        title = re.sub(r"[\W_]", "", line[: entry.start("page")] if entry else line).casefold()
        is_again = any(one.startswith(title) or one.endswith(title) for one in titles)
        if (entry or label) and number >= page and not is_again and count < _MOST:
            if _PART.match(line):
                titles = [one for one in titles if _PART.match(one)]
            titles.append(title)
            count, wrapped, blank, page, end = count + 1, 0, 0, number, at + 1
        elif (
            entry
            or label
            or wrapped == _WRAPPED
            or len(line) >= _LONGEST
            or _SENTENCE.search(line)
            or (blank and count)
        ):
            break
        else:
            wrapped += 1
    return end if count >= _LEAST else 0


def _led(line: str) -> re.Match[str] | None:
    can_be = len(line) < _LONGEST_LED and line.rstrip()[-1:].casefold() in "0123456789ivxlc"
    return _LED.fullmatch(line) if can_be else None


def is_entry(line: str) -> bool:
    """Whether a line begins with the number of a chapter or ends with that of a page."""
    return len(line) < _LONGEST and (_LABELED.fullmatch(line) or _PAGED.fullmatch(line)) is not None


def without_contents(text: str) -> str:
    """A text without the lines of its tables of contents."""
    lines = text.split("\n")
    found = contents_lines(lines)
    return "\n".join(line for at, line in enumerate(lines) if at not in found) if found else text


def _page(written: str) -> tuple[int, int]:
    """The place of a page in a book, whose first pages have Roman numerals."""
    return (1, int(written)) if written.isdecimal() else (0, 0)
