"""PDF: lines of pages to paragraphs, without running heads, page numbers, footnotes and hyphens at line ends.

Chapters come from the bookmarks, else from lines in a larger font than the text, else from lines such as "Chapter 3".
"""

from __future__ import annotations

import logging
import math
import re
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import count, groupby, pairwise
from pathlib import Path
from statistics import median
from typing import Any

from llasa_cli.documents.document import (
    CHAPTER_LINE,
    TITLE_PAGE_WORDS,
    Block,
    Chapter,
    Document,
    as_sentence,
    chapters_by_heading,
    clean,
    with_guessed_headings,
)
from llasa_cli.documents.pdf_lines import Line, lines_of, without_notes
from llasa_cli.errors import UsageError
from llasa_cli.text.contents import contents_lines
from llasa_cli.text.references import references_lines, without_citations

MAX_PAGES = 10_000
MAX_READ_S = 600.0
MAX_CHARACTERS = 64 << 20
_EDGE_LINES = 2
"""Running heads and page numbers stand among the first or last lines of a page."""
_PAGE_NUMBER = re.compile(r"\W*(?:page\s+)?(?:\d{1,5}|[ivxlc]{1,7})(?:\s*(?:/|of)\s*\d{1,5})?\W*", re.IGNORECASE)
_SENTENCE_END = re.compile(r"[.!?:…][\"'”’)\]]*$")
_NUMBERED_CHAPTER = re.compile(r"(?:chapter|part|book|kapitel|teil|chapitre|capítulo|capitolo) #\D*")
_LEAST_REPEATS = 3
_LARGEST_GAP = 2.5
"""Pages from one running head to the next, on average: many books have one on every second page."""
_HEADING_RATIO = 1.15
"""The size of a heading's font, at least, against that of the text."""
_HEADING_CHARACTERS = 150
_HEADING_SHARE = 0.1
"""The share of headings in a document's characters above which its larger lines are no headings, as on slides."""
_LARGEST_STEP = 1.4
"""The distance of two lines of a paragraph, at most, in usual distances."""
_NO_FACT = re.compile(r"^(?:\(?anonymous\)?|\(?untitled\)?|\(?unspecified\)?)$|^Microsoft Word - ", re.IGNORECASE)
"""What programs write where no title or author was given."""
_LIST_MARK = re.compile(r"(?:[•▪◦‣·–-]|\(?\d{1,3}[.)]|[a-z]\))\s+")


def read_pdf(path: Path) -> Document:
    """Read a PDF file.

    Raises:
        UsageError: It is damaged or protected by a password, it has no text (scanned pages), or pypdf is not installed.
    """
    try:
        import pypdf
    except ImportError as error:
        raise UsageError("PDF files need the package pypdf.", "pip install 'llasa-cli[book]'") from error
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    try:
        reader = pypdf.PdfReader(path)
        if reader.is_encrypted and not reader.decrypt(""):
            raise UsageError(f"{path} is protected by a password.", "Save a copy without a password.")
        if len(reader.pages) > MAX_PAGES:
            raise UsageError(f"{path} has {len(reader.pages):,} pages; at most {MAX_PAGES:,} are read.", "Split it.")
        pages = list(_read_pages(reader, path))
        outline = dict(_outline(reader))
        facts = reader.metadata
        title, author = (
            _NO_FACT.sub("", clean(str(value or ""))) for value in (facts and facts.title, facts and facts.author)
        )
    except UsageError:
        raise
    except Exception as error:  # the library passes on errors of every kind for damaged files
        raise UsageError(
            f"{path} is damaged: {type(error).__name__}.", "Save it anew from the program that made it."
        ) from error
    if not any(line for page in pages for line in page):
        raise UsageError(
            f"{path} has no text: its pages are images.", "Run text recognition over it first, such as ocrmypdf."
        )
    heads = running_lines(pages)
    edged = [_without_edges(page, heads) for page in pages]
    omitted = {"running heads and page numbers": sum(map(len, pages)) - sum(map(len, edged))}
    size, continues, cleaned = _text_size(edged), False, list[list[Line]]()
    for page in edged:
        kept, notes, continues = without_notes(page, size, continues)
        cleaned.append(kept)
        omitted["footnotes"] = omitted.get("footnotes", 0) + notes
    cleaned = _without(contents_lines, cleaned, omitted, "contents pages")
    cleaned = _without(references_lines, cleaned, omitted, "lists of references")
    if outline:
        chapters = _by_outline(cleaned, outline)
    elif blocks := blocks_by_size(cleaned):
        chapters = chapters_by_heading(blocks)
        if len(chapters) > 1 and chapters[0].title and chapters[0].words <= TITLE_PAGE_WORDS and blocks[0].level == 1:
            front, first, *rest = chapters
            chapters = [replace(first, opening=(as_sentence(front.title), *front.paragraphs)), *rest]
            title = title or front.title
    else:
        chapters = chapters_by_heading(with_guessed_headings(paragraphs_of(cleaned)))
    if omitted["lists of references"]:
        chapters = [
            replace(chapter, paragraphs=tuple(map(without_citations, chapter.paragraphs))) for chapter in chapters
        ]
    return Document(
        title, author, "", tuple(chapters), None, {name: number for name, number in omitted.items() if number}
    )


def _read_pages(reader: Any, path: Path) -> Iterator[list[Line]]:
    """The lines of each page, within MAX_READ_S and MAX_CHARACTERS."""
    began, characters = time.monotonic(), 0
    for number, page in enumerate(reader.pages, 1):
        lines = lines_of(page)
        characters += sum(map(len, lines))
        if characters > MAX_CHARACTERS:
            raise UsageError(
                f"{path} has more than {MAX_CHARACTERS >> 20} MB of text, which is not a book.", "Split it."
            )
        if time.monotonic() - began > MAX_READ_S:
            raise UsageError(f"{path} takes too long to read: page {number} of {len(reader.pages)}.", "Split it.")
        yield lines


def _outline(reader: Any) -> Iterator[tuple[int, str]]:
    """(page index, title) of the bookmarks, the first one of each page."""
    found: dict[int, str] = {}

    def walk(entries: Any, depth: int) -> None:
        for entry in entries:
            if isinstance(entry, list):
                if depth < 1:
                    walk(entry, depth + 1)
                continue
            page = reader.get_destination_page_number(entry)
            if page is not None and page >= 0 and clean(str(entry.title)):
                found.setdefault(page, clean(str(entry.title)))

    walk(reader.outline, 0)
    yield from sorted(found.items())


_Pattern = tuple[str, float]
"""A line with its numbers replaced by `#`, and its size."""


def running_lines(pages: Sequence[Sequence[Line]]) -> set[_Pattern]:
    """The patterns of lines near the edges of pages that repeat on many pages, or on pages close to each other."""
    places: dict[_Pattern, dict[int, str]] = defaultdict(dict)
    for number, page in enumerate(pages):
        for line in (*page[:_EDGE_LINES], *page[-_EDGE_LINES:]):
            places[_pattern(line)][number] = line
    return {pattern for pattern, found in places.items() if _is_running(pattern[0], found, len(pages))}


def _is_running(pattern: str, found: dict[int, str], pages: int) -> bool:
    """Whether the lines of a pattern, by their pages, are running heads."""
    is_counted = _NUMBERED_CHAPTER.fullmatch(pattern) is not None and len(set(found.values())) == len(found)
    if len(found) < _LEAST_REPEATS or is_counted:
        return False
    is_close = max(found) - min(found) <= _LARGEST_GAP * (len(found) - 1)
    return len(found) >= pages // 5 or (is_close and re.search(r"[^\W\d_]", pattern) is not None)


def _pattern(line: Line) -> _Pattern:
    return re.sub(r"\d+", "#", line.casefold()), line.size


def _without_edges(page: list[Line], heads: set[_Pattern]) -> list[Line]:
    def is_edge(line: Line) -> bool:
        return _pattern(line) in heads or _PAGE_NUMBER.fullmatch(line) is not None

    lines = list(page)
    for end in (0, -1):
        for _ in range(_EDGE_LINES):
            if lines and is_edge(lines[end]):
                lines.pop(end)
    return lines


def _without(
    find: Callable[[Sequence[str]], set[int]], pages: list[list[Line]], omitted: dict[str, int], kind: str
) -> list[list[Line]]:
    """The pages without the lines that are found, which may go across pages."""
    found = find([line for page in pages for line in page])
    omitted[kind] = int(bool(found))
    numbers = count()
    return [[line for line in page if next(numbers) not in found] for page in pages]


def blocks_by_size(pages: Sequence[Sequence[Line]]) -> list[Block]:
    """Paragraphs and headings, which are lines in a larger font than the text; [] if no size of heading occurs twice.

    A line such as "Chapter 3" above a larger heading is a part of it.
    """
    body = _text_size(pages)
    if not body:
        return []
    runs: list[tuple[float, list[Line]]] = []
    """The lines of one heading and its size, or lines of text and 0."""
    numbered = [(number, line) for number, page in enumerate(pages) for line in page]
    for (size, _), group in groupby(
        numbered, lambda at: (at[1].size, at[0]) if at[1].size >= _HEADING_RATIO * body else (0.0, 0)
    ):
        lines = [line for _, line in group]
        if size and 1 < sum(map(len, lines)) <= _HEADING_CHARACTERS:
            runs.append((size, lines))
        elif runs and not runs[-1][0]:
            runs[-1][1].extend(lines)
        else:
            runs.append((0.0, lines))
    sizes = Counter(size for size, _ in runs if size)
    headings = sum(len(line) for size, lines in runs if size for line in lines)
    if max(sizes.values(), default=0) < 2 or headings > _HEADING_SHARE * sum(
        len(line) for page in pages for line in page
    ):
        return []
    levels = {size: level for level, size in enumerate(sorted(sizes, reverse=True), 1)}
    usual = _usual_length(pages)
    blocks: list[Block] = []
    label = ""
    for (size, lines), following in zip(runs, [*(size for size, _ in runs[1:]), 0.0], strict=True):
        text = " ".join(lines) if size else lines[-1]
        is_label = following > size and CHAPTER_LINE.fullmatch(text) is not None
        if not size:
            blocks += [Block(found) for found in paragraphs_of([lines[:-1] if is_label else lines], usual)]
        elif not is_label:
            blocks.append(Block(label + text, levels[size]))
        label = f"{label}{text}. " if is_label else ""
    return blocks


def _text_size(pages: Sequence[Sequence[Line]]) -> float:
    """The size in which most characters are; 0 if that is unknown."""
    characters = Counter[float]()
    for page in pages:
        for line in page:
            characters[line.size] += len(line)
    return characters.most_common(1)[0][0]


def _usual_length(pages: Sequence[Sequence[str]]) -> int:
    """The length that a full line of the text has."""
    lengths = sorted(len(line) for page in pages for line in page)
    return lengths[len(lengths) * 3 // 4] if lengths else 0


def paragraphs_of(pages: Sequence[Sequence[str]], usual: int | None = None) -> Iterator[str]:
    """Join lines into paragraphs: across pages, and across hyphens at line ends.

    A paragraph ends after a line that ends a sentence and is clearly shorter than the others, before a list item, and before
    a gap unless its last line is a full one inside a sentence.

    Args:
        usual: The length of a full line; None: that of these lines.
    """
    usual = _usual_length(pages) if usual is None else usual
    lines = [line for page in pages for line in page]
    steps = [step for one, other in pairwise(lines) if (step := _step(one, other)) > 0]
    largest = _LARGEST_STEP * median(steps) if steps else math.inf
    text = ""
    for line, following in zip(lines, [*lines, ""][1:], strict=True):
        is_row = isinstance(line, Line) and line.is_row
        if text and (is_row or _LIST_MARK.match(line)):
            yield text
            text = ""
        if is_row:
            yield as_sentence(line)
            continue
        text = _joined(text, line)
        is_short = len(line) < 0.8 * usual
        is_heading = is_short and text == line and _looks_like_heading(line) and not following[:1].islower()
        ends = _SENTENCE_END.search(line) is not None
        if is_heading or (is_short and ends) or ((is_short or ends) and _step(line, following) > largest):
            yield text
            text = ""
    if text:
        yield text


def _step(line: str, following: str) -> float:
    """The distance between two lines of a page; 0 if it is unknown."""
    return line.height - following.height if isinstance(line, Line) and isinstance(following, Line) else 0.0


def _looks_like_heading(line: str) -> bool:
    return len(line) < 60 and line[:1].isupper() and line[-1].isalnum()


def _joined(text: str, line: str) -> str:
    """A line after a text; a hyphen between two lower-case letters at the line's end is taken for a division of the word."""
    if len(text) > 1 and text[-1] in "-\u2010" and text[-2].islower() and line[:1].islower():
        return text[:-1] + line
    return f"{text} {line}" if text else line


def _by_outline(pages: Sequence[Sequence[str]], outline: dict[int, str]) -> list[Chapter]:
    starts = sorted({0, *outline})
    chapters = []
    for start, end in zip(starts, [*starts[1:], len(pages)], strict=True):
        title = outline.get(start, "")
        found = list(paragraphs_of(pages[start:end]))
        if found and title and clean(found[0]).casefold().rstrip(".") == title.casefold().rstrip("."):
            found = found[1:]
        if found or title:
            chapters.append(Chapter(title, tuple(found)))
    return chapters
