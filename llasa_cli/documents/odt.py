"""OpenDocument texts (.odt) of LibreOffice and others: headings, paragraphs, lists, tables row by row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element

from llasa_cli.documents.archive import Archive, local_name
from llasa_cli.documents.document import Block, Document, as_sentence, chapters_by_heading, clean

_OMITTED = {"note": "footnotes", "annotation": "comments", "frame": "images"}
_UNREAD = frozenset(
    "tracked-changes table-of-content alphabetical-index bibliography illustration-index table-index hidden-text ruby-text "
    "sequence-decls variable-decls user-field-decls forms annotation-end".split()
)
_AS_TEXT = {"tab": " ", "s": " ", "line-break": "\n"}


def read_odt(path: Path) -> Document:
    """Read an OpenDocument text. Footnotes, comments, deleted text and tables of contents are not part of its text.

    Raises:
        UsageError: It is damaged, encrypted or empty.
    """
    archive = Archive(path, "ODT")
    try:
        content = archive.read_xml("content.xml")
        meta = archive.read_xml("meta.xml") if "meta.xml" in archive.names else Element("none")
        if "META-INF/manifest.xml" in archive.names and b"encryption-data" in archive.read("META-INF/manifest.xml"):
            raise archive.problem("is encrypted", "Remove the password first.")
    finally:
        archive.close()
    omitted: Counter[str] = Counter()
    body = next(
        (element for element in content.iter() if local_name(element) == "text" and _space(element) == "office"), None
    )
    blocks = list(_blocks(body, _parents(content), omitted)) if body is not None else []
    if not blocks:
        raise archive.problem("holds no text")
    facts = {local_name(element): clean(element.text or "") for element in meta.iter()}
    author = facts.get("initial-creator") or facts.get("creator", "")
    return Document(
        facts.get("title", ""), author, facts.get("language", ""), tuple(chapters_by_heading(blocks)), omitted=omitted
    )


def _space(element: Element) -> str:
    """The last part of the element's namespace: "text", "table", "office"."""
    return element.tag.rpartition("}")[0].removesuffix(":1.0").rpartition(":")[2]


def _value(element: Element, name: str) -> str:
    return next((value for key, value in element.attrib.items() if key.rpartition("}")[2] == name), "")


def _parents(content: Element) -> dict[str, str]:
    """The styles that LibreOffice derived for single paragraphs -> the named styles that they come from."""
    return {
        _value(style, "name"): _value(style, "parent-style-name")
        for style in content.iter()
        if local_name(style) == "style"
    }


def _blocks(parent: Element, styles: dict[str, str], omitted: Counter[str]) -> Iterator[Block]:
    for child in parent:
        name = local_name(child)
        if name in _UNREAD:
            continue
        if name in ("h", "p"):
            text = "\n".join(filter(None, map(clean, "".join(_words(child, omitted)).split("\n"))))
            style = _value(child, "style-name")
            level = 1 if "Title" in (style, styles.get(style)) else 0
            if name == "h":
                outline = _value(child, "outline-level")
                level = min(6, int(outline) + 1) if outline.isdecimal() and len(outline) < 3 else 2
            if text:
                yield Block(" ".join(text.split("\n")) if level else text, level)
        elif name == "table-row":
            cells = (clean(" ".join(_words(cell, omitted))) for cell in child if local_name(cell) == "table-cell")
            row = ", ".join(cell for cell in cells if cell)
            if row:
                yield Block(as_sentence(row))
        else:
            yield from _blocks(child, styles, omitted)


def _words(element: Element, omitted: Counter[str]) -> Iterator[str]:
    """The words of a paragraph or a cell."""
    yield element.text or ""
    for child in element:
        name = local_name(child)
        if name in _OMITTED:
            omitted[_OMITTED[name]] += 1
        elif name in _AS_TEXT:
            yield _AS_TEXT[name]
        elif name not in _UNREAD:
            yield from _words(child, omitted)
        yield child.tail or ""
