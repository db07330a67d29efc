"""Word documents (.docx): paragraphs, headings by their styles, tables row by row."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llasa_cli.documents.archive import Archive
from llasa_cli.documents.document import Block, Document, chapters_by_heading, clean
from llasa_cli.errors import UsageError


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
    if not blocks:
        raise archive.problem("holds no text")
    omitted = {"footnotes": notes, "images": images}
    chapters = chapters_by_heading(blocks)
    return Document(
        title, author, language, tuple(chapters), None, {name: count for name, count in omitted.items() if count}
    )


def _count(archive: Archive, name: str, element: bytes) -> int:
    """Notes of a part, without the two separators that each such part has."""
    return max(0, archive.read(name).count(element) - 2) if name in archive.names else 0


def _blocks(document: Any) -> Iterator[Block]:
    from docx.table import Table
    from docx.text.paragraph import Paragraph

    for element in _body(document.element.body):
        if _name(element) == "tbl":
            for row in Table(element, document._body).rows:
                cells = (clean("".join(_text(cell._tc))) for cell in row.cells)
                text = ", ".join(dict.fromkeys(text for text in cells if text))
                if text:
                    yield Block(text if not text[-1].isalnum() else text + ".")
            continue
        part = Paragraph(element, document._body)
        text = clean("".join(_text(element)))
        if text:
            style = (part.style.name or "") if part.style is not None else ""
            if style == "Title":
                yield Block(text, 1)
            elif style.startswith("Heading ") and style[8:].isdigit():
                yield Block(text, min(6, int(style[8:]) + 1))
            else:
                yield Block(text)


def _name(element: Any) -> str:
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""  # a comment has none


def _body(parent: Any) -> Iterator[Any]:
    """The paragraphs and tables of a document, those in content controls too, without its table of contents."""
    for child in parent:
        name = _name(child)
        if name in ("p", "tbl"):
            yield child
        elif name in ("sdt", "sdtContent", "customXml", "ins", "moveTo") and not any(
            _name(part) == "docPartGallery" and "Contents" in "".join(part.attrib.values()) for part in child.iter()
        ):
            yield from _body(child)


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
