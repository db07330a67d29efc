"""A document that was read: its chapters as paragraphs of plain text, and what was left out."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field

from llasa_cli.text.contents import contents_lines
from llasa_cli.text.marks import CHAPTER, mark

HEADING_PAUSE_S = 1.0
"""Silence between a chapter's heading and its text."""
CHAPTER_PAUSE_S = 2.0
"""Silence between two chapters."""
TITLE_PAGE_WORDS = 40
"""The most words before the first chapter that still are its opening: title, subtitle, author, date."""
WORDS_PER_MINUTE = 160
"""An audiobook's usual pace, for the estimate that `--chapters` prints."""


@dataclass(frozen=True)
class Chapter:
    """A part of a document with a heading.

    Attributes:
        title: The heading; empty for text before the first one.
        paragraphs: The text in reading order. `[pause:SECONDS]` marks a scene break.
        opening: Sentences before the heading: the title and the author of the book.
    """

    title: str
    paragraphs: tuple[str, ...]
    opening: tuple[str, ...] = ()

    @property
    def words(self) -> int:
        return sum(len(paragraph.split()) for paragraph in (*self.opening, *self.paragraphs))


@dataclass(frozen=True)
class Document:
    """A book, an article, a letter.

    Attributes:
        title, author, language: The values that the file states; empty if it states none.
        chapters: The chapters, at least one.
        cover: The bytes of a JPEG or PNG image.
        omitted: The kinds of content that were left out -> their numbers ("footnotes" -> 12).
    """

    title: str
    author: str
    language: str
    chapters: tuple[Chapter, ...]
    cover: bytes | None = None
    omitted: Mapping[str, int] = field(default_factory=dict)

    def parts(self, first: int = 1, last: int | None = None) -> Iterator[str]:
        """The text of some chapters, paragraph by paragraph, with pauses around the headings and a mark for each chapter.

        Args:
            first, last: Chapter numbers from 1, both included; `last` None reads to the end.
        """
        for number, chapter in enumerate(self.chapters[first - 1 : last]):
            if number:
                yield f"[pause:{CHAPTER_PAUSE_S:g}]\n\n"
            # The mark is part of what follows it, so that the two are never torn apart.
            begin = mark(CHAPTER, chapter.title or f"Chapter {first + number}")
            for sentence in chapter.opening:
                yield f"{begin}{sentence}\n\n"
                begin = ""
            if chapter.opening:
                yield f"[pause:{CHAPTER_PAUSE_S:g}]\n\n"
            if chapter.title:
                yield f"{begin}{as_sentence(chapter.title)}\n\n[pause:{HEADING_PAUSE_S:g}]\n\n"
                begin = ""
            for paragraph in chapter.paragraphs:
                yield f"{begin}{paragraph}\n\n"
                begin = ""


@dataclass
class Block:
    """A paragraph or heading on the way into a document.

    Attributes:
        level: 1 to 6 for a heading, 0 for a paragraph.
        anchors: Identifiers that links may lead to, at or before this block.
    """

    text: str
    level: int = 0
    anchors: tuple[str, ...] = ()


def without_contents(blocks: Sequence[Block], omitted: MutableMapping[str, int]) -> list[Block]:
    """The blocks without those of a table of contents, which is counted."""
    found = contents_lines([block.text for block in blocks])
    if found:
        omitted["contents pages"] = omitted.get("contents pages", 0) + 1
    return [block for at, block in enumerate(blocks) if at not in found]


_TERMINAL = re.compile(r"[.!?:;,…。！？]['\"”’»)\]]*$")
CHAPTER_LINE = re.compile(
    r"(?:chapter|part|book|prologue|epilogue|introduction|preface|kapitel|teil|chapitre|capítulo|capitolo)\b.{0,60}",
    re.I,
)


def as_sentence(title: str) -> str:
    """A heading with a final mark, so that it is read as a sentence of its own."""
    title = " ".join(title.split())
    return title if _TERMINAL.search(title) else title + "."


def clean(text: str) -> str:
    """White space folded, soft hyphens and zero-width characters removed, letters and their accents as one character."""
    text = unicodedata.normalize("NFC", text)
    return " ".join(text.replace("\u00ad", "").replace("\u200b", "").replace("\ufeff", "").split())


def chapters_by_heading(blocks: Iterable[Block]) -> list[Chapter]:
    """Begin a chapter at each heading of the highest level that occurs more than once, else of the highest level.

    Headings of lower levels become paragraphs.
    """
    found = list(blocks)
    levels = Counter(block.level for block in found if block.level)
    repeated = [level for level in sorted(levels) if levels[level] > 1]
    split_at = repeated[0] if repeated else min(levels, default=0)
    chapters: list[Chapter] = []
    title, paragraphs = "", list[str]()
    for block in found:
        if block.level and block.level <= split_at:
            if paragraphs or title:
                chapters.append(Chapter(title, tuple(paragraphs)))
            title, paragraphs = block.text, []
        else:
            paragraphs.append(as_sentence(block.text) if block.level else block.text)
    if paragraphs or title:
        chapters.append(Chapter(title, tuple(paragraphs)))
    return chapters


def with_guessed_headings(paragraphs: Iterable[str]) -> Iterator[Block]:
    """Mark paragraphs such as "Chapter 3" and "CHAPTER III. The Storm" as headings, for formats without any."""
    for paragraph in paragraphs:
        is_heading = len(paragraph) < 80 and CHAPTER_LINE.fullmatch(paragraph.rstrip(".")) is not None
        yield Block(paragraph, 1 if is_heading else 0)
