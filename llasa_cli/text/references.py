"""Numbered lists of references at the end of a paper, and the citations of their numbers, which are not read aloud."""

from __future__ import annotations

import re
from collections.abc import Sequence

_HEADING = re.compile(
    r"\s*(?:(?:\d{1,2}|[IVX]{1,5})\.?\s+)?(?:references|bibliography|works cited|literature cited)\s*:?\s*", re.I
)
_ENTRY = re.compile(r"\s*\[(?P<number>\d{1,3})\]\s*\S")
_END = re.compile(r"\s*(?:[A-Z\d]{1,2}\.?\s+)?(?:appendix|appendices|acknowledge?ments?|supplementa\w+)\b", re.I)
_CITATION = re.compile(r"\s?(?:\[[1-9]\d{0,2}(?:\s?[,;–-]\s?\d{1,3}){0,20}\](?:\s?[,–-]\s?(?=\[\d))?)+")
_LEAST = 3
"""The entries of a list."""


def references_lines(lines: Sequence[str]) -> set[int]:
    """The numbers of the lines, from 0, of a list of references: its heading, and entries that begin with [1], [2], ..."""
    for begin, line in enumerate(lines):
        if _HEADING.fullmatch(line) and _begins(lines, begin + 1):
            end, count, blank = begin + 1, 0, False
            for end in range(begin + 1, len(lines)):
                is_entry = _ENTRY.match(lines[end]) is not None
                if _END.match(lines[end]) or (blank and lines[end].strip() and not is_entry):
                    break
                count += is_entry
                blank = not lines[end].strip()
            else:
                end = len(lines)
            if count >= _LEAST:
                return set(range(begin, end))
    return set()


def _begins(lines: Sequence[str], at: int) -> bool:
    """Whether the next line that has words is the first entry of a list."""
    found = next((_ENTRY.match(line) for line in lines[at : at + _LEAST] if line.strip()), None)
    return found is not None and int(found["number"]) == 1


def without_citations(text: str) -> str:
    """A text of a paper with such a list, without the numbers in brackets."""
    return _CITATION.sub("", text)
