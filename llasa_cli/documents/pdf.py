"""PDF: lines of pages to paragraphs, without running heads, page numbers and hyphens at line ends."""

from __future__ import annotations

import logging
import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llasa_cli.documents.document import (
    Chapter,
    Document,
    chapters_by_heading,
    clean,
    with_guessed_headings,
)
from llasa_cli.errors import UsageError

MAX_PAGES = 10_000
MAX_READ_S = 600.0
MAX_CHARACTERS = 64 << 20
_EDGE_LINES = 2
"""Running heads and page numbers stand among the first or last lines of a page."""
_PAGE_NUMBER = re.compile(r"\W*(?:page\s+)?(?:\d{1,5}|[ivxlc]{1,7})(?:\s*(?:/|of)\s*\d{1,5})?\W*", re.IGNORECASE)
_SENTENCE_END = re.compile(r"[.!?:…][\"'”’)\]]*$")
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
        title, author = (clean(str(value or "")) for value in (facts and facts.title, facts and facts.author))
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
    cleaned = [_without_edges(page, heads) for page in pages]
    omitted = {"running heads and page numbers": sum(map(len, pages)) - sum(map(len, cleaned))}
    chapters = (
        _by_outline(cleaned, outline) if outline else chapters_by_heading(with_guessed_headings(paragraphs_of(cleaned)))
    )
    return Document(title, author, "", tuple(chapters), None, {name: count for name, count in omitted.items() if count})


def _read_pages(reader: Any, path: Path) -> Iterator[list[str]]:
    """The lines of each page, within MAX_READ_S and MAX_CHARACTERS."""
    began, characters = time.monotonic(), 0
    for number, page in enumerate(reader.pages, 1):
        lines = _lines_of(page)
        characters += sum(map(len, lines))
        if characters > MAX_CHARACTERS:
            raise UsageError(
                f"{path} has more than {MAX_CHARACTERS >> 20} MB of text, which is not a book.", "Split it."
            )
        if time.monotonic() - began > MAX_READ_S:
            raise UsageError(f"{path} takes too long to read: page {number} of {len(reader.pages)}.", "Split it.")
        yield lines


def _lines_of(page: Any) -> list[str]:
    return [line for line in (clean(line) for line in page.extract_text().splitlines()) if line]


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


def running_lines(pages: list[list[str]]) -> set[str]:
    """Lines near the edges of pages that repeat on many pages, with their numbers replaced by `#`."""
    counts: Counter[str] = Counter()
    for page in pages:
        counts.update({_pattern(line) for line in (*page[:_EDGE_LINES], *page[-_EDGE_LINES:])})
    least = max(3, len(pages) // 5)
    return {pattern for pattern, count in counts.items() if count >= least}


def _pattern(line: str) -> str:
    return re.sub(r"\d+", "#", line.casefold())


def _without_edges(page: list[str], heads: set[str]) -> list[str]:
    def is_edge(line: str) -> bool:
        return _pattern(line) in heads or _PAGE_NUMBER.fullmatch(line) is not None

    lines = list(page)
    for end in (0, -1):
        for _ in range(_EDGE_LINES):
            if lines and is_edge(lines[end]):
                lines.pop(end)
    return lines


def paragraphs_of(pages: list[list[str]]) -> Iterator[str]:
    """Join lines into paragraphs: across pages, and across hyphens at line ends.

    A paragraph ends after a line that ends a sentence and is clearly shorter than the others, and before a list item.
    """
    lengths = sorted(len(line) for page in pages for line in page)
    usual = lengths[len(lengths) * 3 // 4] if lengths else 0
    lines = [line for page in pages for line in page]
    text = ""
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        if text and _LIST_MARK.match(line):
            yield text
            text = ""
        text = _joined(text, line)
        is_short = len(line) < 0.8 * usual
        is_heading = is_short and text == line and _looks_like_heading(line) and not following[:1].islower()
        if is_heading or (is_short and _SENTENCE_END.search(line)):
            yield text
            text = ""
    if text:
        yield text


def _looks_like_heading(line: str) -> bool:
    return len(line) < 60 and line[:1].isupper() and line[-1].isalnum()


def _joined(text: str, line: str) -> str:
    """A line after a text; a hyphen between two lower-case letters at the line's end is taken for a division of the word."""
    if len(text) > 1 and text[-1] in "-\u2010" and text[-2].islower() and line[:1].islower():
        return text[:-1] + line
    return f"{text} {line}" if text else line


def _by_outline(pages: list[list[str]], outline: dict[int, str]) -> list[Chapter]:
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
