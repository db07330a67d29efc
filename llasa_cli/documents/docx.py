"""Word documents (.docx): title and headings by their styles, paragraphs, tables row by row."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from llasa_cli.documents.archive import Archive
from llasa_cli.documents.document import (
    CHAPTER_LINE,
    TITLE_PAGE_WORDS,
    Block,
    Document,
    as_sentence,
    chapters_by_heading,
    clean,
)
from llasa_cli.documents.docx_lists import ListNumbers
from llasa_cli.errors import UsageError
from llasa_cli.text.contents import contents_lines

_TITLE, _AUTHOR = "Title", ("Author", "Byline")
"""Names of styles; pandoc has the style Author."""
_CONTENTS = re.compile(r"(?:toc \d|toc heading|table of figures|index \d)$", re.IGNORECASE)
"""Styles of the lines of a table of contents."""
_BY = re.compile(r"(?:[Ww]ritten )?[Bb][Yy]:? ([A-Z]\S*(?: \S+){0,5})")
"""A line with the author, such as "by Jane Doe"."""


def read_docx(path: Path) -> Document:
    """Read a Word document. Footnotes, comments, headers and footers are not part of its text.

    Raises:
        UsageError: It is damaged or empty, or python-docx is not installed.
    """
    try:
        import docx
    except ImportError as error:
        raise UsageError("Word documents need the package python-docx.", "pip install 'llasa-cli[book]'") from error
    archive = Archive(path, "DOCX")
    try:
        for name in sorted(archive.names):
            if name.endswith(".xml"):
                archive.read(name)  # refuses a bomb before the library unpacks it
        notes = _count(archive, "word/footnotes.xml", b"<w:footnote ") + _count(
            archive, "word/endnotes.xml", b"<w:endnote "
        )
    finally:
        archive.close()
    try:
        document = docx.Document(str(path))
        blocks = list(_blocks(document))
        properties = document.core_properties
        title, author, language = (
            clean(value or "") for value in (properties.title, properties.author, properties.language)
        )
        images = len(document.inline_shapes)
    except Exception as error:  # the library passes on errors of lxml and of its own parts
        raise archive.problem(f"is damaged: {type(error).__name__}") from error
    found = contents_lines([block.text for block, _ in blocks])
    blocks = [block for at, block in enumerate(blocks) if at not in found]
    author = "" if author == "python-docx" else author  # which a program wrote
    if not blocks:
        raise archive.problem("holds no text")
    omitted = {"footnotes": notes, "images": images, "contents pages": int(bool(found))}
    shown_title, shown_author, front = _title_page(blocks)
    chapters = chapters_by_heading(block for block, _ in blocks[front:])
    if front:
        chapters[0] = replace(chapters[0], opening=tuple(as_sentence(block.text) for block, _ in blocks[:front]))
    return Document(
        shown_title or title,
        shown_author or author,
        language,
        tuple(chapters),
        None,
        {name: count for name, count in omitted.items() if count},
    )


def _title_page(blocks: list[tuple[Block, str]]) -> tuple[str, str, int]:
    """-> title and author as the document shows them, and the number of blocks before the first chapter that show only these.

    A document with more titles further on uses that style for its chapters, and has no title page.
    """
    titles = [number for number, (_, style) in enumerate(blocks) if style == _TITLE]
    headings = [number for number, (block, style) in enumerate(blocks) if block.level and style != _TITLE]
    begin = headings[0] if headings else len(blocks)
    if not titles or titles[-1] - titles[0] >= len(titles) or titles[-1] > begin:
        return "", "", 0
    title = " ".join(blocks[number][0].text for number in titles)
    page = blocks[:begin]
    if not headings or sum(len(block.text.split()) for block, _ in page) > TITLE_PAGE_WORDS:
        return title, "", 0
    for block, style in page:
        by = _BY.fullmatch(block.text)
        if style in _AUTHOR or (by and style != _TITLE):
            return title, by[1] if by else block.text, begin
    return title, "", begin


def _count(archive: Archive, name: str, element: bytes) -> int:
    """Notes of a part, without the two separators that each such part has."""
    return max(0, archive.read(name).count(element) - 2) if name in archive.names else 0


def _blocks(document: Any) -> Iterator[tuple[Block, str]]:
    """The paragraphs and rows of tables, each with the name of its style."""
    from docx.table import Table
    from docx.text.paragraph import Paragraph

    numbers = ListNumbers(document)
    for element in _body(document.element.body):
        if _name(element) == "tbl":
            for row in Table(element, document._body).rows:
                cells = (clean("".join(_text(cell._tc))) for cell in row.cells)
                text = ", ".join(dict.fromkeys(text for text in cells if text))
                if text:
                    yield Block(text if not text[-1].isalnum() else text + "."), ""
            continue
        part = Paragraph(element, document._body)
        number, text = numbers.before(element), clean("".join(_text(element)))
        style = (part.style.name or "") if part.style is not None else ""
        if text and not _CONTENTS.match(style):
            number = as_sentence(number) if CHAPTER_LINE.fullmatch(number) else number
            text = f"{number} {text}" if number else text
            level = 1 if style == _TITLE else 0
            if style.startswith("Heading ") and style[8:].isdigit():
                level = min(6, int(style[8:]) + 1)
            yield Block(text, level), style


def _name(element: Any) -> str:
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""  # a comment has none


def _body(parent: Any) -> Iterator[Any]:
    """The paragraphs and tables of a document, those in content controls and text boxes too, without its table of contents."""
    for child in parent:
        name = _name(child)
        if name in ("p", "tbl"):
            yield child
            for box in _boxes(child) if name == "p" else ():
                yield from _body(box)
        elif name in ("sdt", "sdtContent", "customXml", "ins", "moveTo") and not any(
            _name(part) == "docPartGallery" and "Contents" in "".join(part.attrib.values()) for part in child.iter()
        ):
            yield from _body(child)


def _boxes(parent: Any) -> Iterator[Any]:
    """The contents of the text boxes of a paragraph, once where Word also writes them for its earlier versions."""
    for child in parent:
        if _name(child) == "txbxContent":
            yield child
        elif _name(child) not in ("Fallback", "del", "moveFrom"):
            yield from _boxes(child)


_LEFT_OUT = frozenset("pPr rPr tcPr tblPr sdtPr del moveFrom Fallback txbxContent instrText".split())
_AS_TEXT = {"tab": " ", "br": "\n", "cr": "\n", "noBreakHyphen": "-"}


def _text(element: Any) -> Iterator[str]:
    """The words of a paragraph or a cell as Word shows them: with tracked insertions, without deletions and hidden text."""
    for child in element:
        name = _name(child)
        if name in _LEFT_OUT or (name == "r" and _is_hidden(child)):
            continue
        if name == "t":
            yield child.text or ""
        elif name in _AS_TEXT:
            yield _AS_TEXT[name]
        else:
            yield from _text(child)
            if name == "p":
                yield "\n"


def _is_hidden(run: Any) -> bool:
    return any(
        _name(part) == "vanish" and not {"0", "false", "off"} & set(part.attrib.values())
        for properties in run
        if _name(properties) == "rPr"
        for part in properties
    )
