"""Texts of Project Gutenberg: without the license around them, and their marks as a reader would say them.

header, "*** START OF THE PROJECT GUTENBERG EBOOK ... ***"   left out, and the credits after it
"*** END OF THE PROJECT GUTENBERG EBOOK ... ***", license    left out
_emphasis_                                                   its words
[Illustration: The cat]                                      its caption
[Footnote 1: See above.], [1] See above., [1], [Pg 12]       left out
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import chain

_OPENING = re.compile(
    r"[\ufeff\s]*(?:\*{3} ?START OF TH|(?:The )?Project Gutenberg(?:['’]s\b| +e-?(?:book|text)))", re.I
)
_LONGEST_HEADER = 32_768
_NAME = r"PROJECT GUTENBERG(?:['’]S)? (?:E-?(?:BOOK|TEXT))"
_START = re.compile(
    rf"\*{{3}} ?START OF (?:THE|THIS) {_NAME}[^*]{{0,400}}\*{{3}}|\*END\*? ?THE SMALL PRINT![^\n]*\n", re.I
)
_CREDITS = re.compile(
    r"\s*(?:Produced|Transcribed|E-?text (?:prepared|produced)|This (?:e-?text|e-?book) was (?:produced|prepared)) (?:by|from)\b"
    r"[^\n]*(?:\n[^\n]*\S[^\n]*){0,8}(?=\n)",
    re.I,
)
_END = re.compile(
    rf"^[ \t]*(?:\*{{3}} ?END OF (?:THE|THIS) {_NAME}|End of (?:the )?Project Gutenberg)", re.I | re.MULTILINE
)
_FOOTNOTE = re.compile(
    r"^[ \t]*\[(?:Footnotes? ?(?P<mark>\w{1,4})?|Transcriber['’]s notes?)[:.](?:[^\[\]]|\[[^\[\]]*\]){0,6000}\]",
    re.I | re.MULTILINE,
)
_NOTE_MARK = re.compile(r"\[([A-Z\d]{1,4})\]")
_NOTE_PARAGRAPH = re.compile(r"(?:(?<=\n\n)|\A)[ \t]*\[(?P<mark>\d{1,3}|[A-Z])\][ \t]+\S[^\n]*(?:\n[^\n]*\S[^\n]*)*")
_PAGE = re.compile(r"[ \t]?[\[{](?:Pg|p\.|page)\s?[\divxlc]{1,6}[\]}]", re.I)
_ILLUSTRATION = re.compile(r"\[Illustrations?(?:[:.]\s*(?P<caption>(?:[^\[\]]|\[[^\[\]]*\]){0,2000}))?\]", re.I)
_EMPHASIS_BEGINS = re.compile(r"(?<![^\W_])(?<!\\)_(?=[^\W_]|[\"“‘'(\[—])")
_EMPHASIS_ENDS = re.compile(r"(?<=[\w.,;:!?\"”’')\]—])(?<!_)_(?![^\W_]|[/\\])")


def without_license(parts: Iterable[str]) -> Iterator[str]:
    """A text without the frame of Project Gutenberg; any other text as it is.

    Args:
        parts: The text in the parts in which it arrives. They are held only where the text begins as such a book does.
    """
    rest = iter(parts)
    held, is_framed = "", False
    for part in rest:
        held += part
        if not held.strip():
            continue
        is_framed = _OPENING.match(held) is not None
        if not is_framed or _START.search(held) or len(held) > _LONGEST_HEADER:
            break
    found = _START.search(held) if is_framed else None
    if found:
        credits = _CREDITS.match(held, found.end())
        held = held[credits.end() if credits else found.end() :]
    for part in chain([held], rest):
        end = _END.search(part) if found or "PROJECT GUTENBERG" in part.upper() else None
        if end and (found or "***" in end[0]):
            if part[: end.start()].strip():
                yield part[: end.start()]
            return
        if part:
            yield part


def without_marks(text: str) -> str:
    """A text without the marks of notes, pages, illustrations and emphasis that transcribers of books write."""
    if "[" in text or "{" in text:
        marks = {found["mark"] for found in _FOOTNOTE.finditer(text)} - {None}
        text = _PAGE.sub("", _FOOTNOTE.sub("", text))
        attached = set(re.findall(r"(?<=[^\s\[\]])\[(\d{1,3}|[A-Z])\]", text))
        notes = {found["mark"] for found in _NOTE_PARAGRAPH.finditer(text)} & attached
        if notes:
            text = _NOTE_PARAGRAPH.sub(lambda found: "" if found["mark"] in notes else found[0], text)
            marks |= notes
        text = _ILLUSTRATION.sub(lambda found: found["caption"] or "", text)
        if marks:
            text = _NOTE_MARK.sub(lambda found: "" if found[1] in marks else found[0], text)
    return _EMPHASIS_ENDS.sub("", _EMPHASIS_BEGINS.sub("", text)) if "_" in text else text
