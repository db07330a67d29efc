"""OpenDocument texts (.odt) of LibreOffice and others: headings, paragraphs, lists, tables row by row."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element

from llasa_cli.documents.archive import Archive, local_name
from llasa_cli.documents.document import (
    CHAPTER_LINE,
    Block,
    Document,
    as_sentence,
    chapters_by_heading,
    clean,
    without_contents,
)
from llasa_cli.text.list_numbers import list_number

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
        named = archive.read_xml("styles.xml") if "styles.xml" in archive.names else Element("none")
        meta = archive.read_xml("meta.xml") if "meta.xml" in archive.names else Element("none")
        if "META-INF/manifest.xml" in archive.names and b"encryption-data" in archive.read("META-INF/manifest.xml"):
            raise archive.problem("is encrypted", "Remove the password first.")
    finally:
        archive.close()
    body = next(
        (element for element in content.iter() if local_name(element) == "text" and _space(element) == "office"), None
    )
    reader = _Reader(_parents(content), _Lists(named, content))
    omitted = reader.omitted
    blocks = without_contents(list(reader.blocks(body)) if body is not None else [], omitted)
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


_HEADINGS = "\0"
"""The name of the style that numbers headings, which has none."""


class _Lists:
    """The styles of numbered lists and headings, and how far they have counted."""

    def __init__(self, *sources: Element) -> None:
        self._levels: dict[str, dict[int, Element]] = {}
        """Style of a list -> its levels, by number."""
        self._open: list[str] = []
        """The styles of the open lists."""
        self._counts: dict[str, dict[int, int]] = {}
        for source in sources:
            for style in source.iter():
                if local_name(style) in ("list-style", "outline-style"):
                    name = _value(style, "name") if local_name(style) == "list-style" else _HEADINGS
                    self._levels[name] = {_whole(_value(level, "level")): level for level in style}

    def begin(self, element: Element) -> None:
        name = _value(element, "style-name") or (self._open[-1] if self._open else "")
        self._open.append(name)
        if _value(element, "continue-numbering") != "true" and not _value(element, "continue-list"):
            self._counts.setdefault(name, {}).pop(len(self._open), None)

    def end(self) -> None:
        self._open.pop()

    def item(self, element: Element) -> str:
        """The number before an item of the innermost list; empty if it has none."""
        return self._number(self._open[-1], len(self._open), _value(element, "start-value")) if self._open[-1] else ""

    def heading(self, level: int) -> str:
        return self._number(_HEADINGS, level)

    def _number(self, name: str, at: int, start: str = "") -> str:
        levels = self._levels.get(name, {})
        if at not in levels:
            return ""
        style, counts = levels[at], self._counts.setdefault(name, {})
        counts[at] = _whole(start) if start else counts.get(at, _whole(_value(style, "start-value"), 1) - 1) + 1
        for deeper in [level for level in counts if level > at]:
            del counts[deeper]
        if not _value(style, "num-format"):
            return ""
        shown = range(max(1, at - _whole(_value(style, "display-levels"), 1) + 1), at + 1)
        numbers = (
            list_number(counts.get(level, 1), _value(levels[level], "num-format")) for level in shown if level in levels
        )
        return _value(style, "num-prefix") + ".".join(numbers) + _value(style, "num-suffix")


def _whole(written: str, otherwise: int = 0) -> int:
    return int(written) if written.isdecimal() and len(written) < 7 else otherwise


def _boxes(parent: Element) -> Iterator[Element]:
    """The text boxes of a paragraph, without those inside them."""
    for child in parent:
        if local_name(child) == "text-box":
            yield child
        elif local_name(child) not in _UNREAD:
            yield from _boxes(child)


class _Reader:
    """Walks over the elements of a text.

    Attributes:
        omitted: The kinds of content that were left out -> their numbers.
    """

    def __init__(self, styles: dict[str, str], lists: _Lists) -> None:
        self._styles, self._lists = styles, lists
        self._number = ""
        """The number of the item that begins."""
        self.omitted: Counter[str] = Counter()

    def blocks(self, parent: Element) -> Iterator[Block]:
        for child in parent:
            name = local_name(child)
            if name in _UNREAD:
                continue
            if name in ("h", "p"):
                yield from self._paragraph(child, name)
            elif name == "table-row":
                cells = (clean(" ".join(self._words(cell))) for cell in child if local_name(cell) == "table-cell")
                row = ", ".join(cell for cell in cells if cell)
                if row:
                    yield Block(as_sentence(row))
            elif name == "list":
                self._lists.begin(child)
                yield from self.blocks(child)
                self._lists.end()
                self._number = ""
            else:
                if name == "list-item":
                    self._number = self._lists.item(child)
                yield from self.blocks(child)

    def _paragraph(self, element: Element, name: str) -> Iterator[Block]:
        """A paragraph or heading, and the text boxes that are anchored in it."""
        text = "\n".join(filter(None, map(clean, "".join(self._words(element)).split("\n"))))
        style = _value(element, "style-name")
        level = 1 if "Title" in (style, self._styles.get(style)) else 0
        number, self._number = self._number, ""
        if name == "h":
            outline = _whole(_value(element, "outline-level"), 1)
            level = min(6, outline + 1)
            if _value(element, "is-list-header") != "true":
                number = number or self._lists.heading(outline)
            number = as_sentence(number) if CHAPTER_LINE.fullmatch(number) else number
        if text:
            text = f"{number} {text}" if number else text
            yield Block(" ".join(text.split("\n")) if level else text, level)
        for box in _boxes(element):
            yield from self.blocks(box)

    def _words(self, element: Element) -> Iterator[str]:
        """The words of a paragraph or a cell."""
        yield element.text or ""
        for child in element:
            name = local_name(child)
            if name in _OMITTED:
                if name != "frame" or not any(local_name(part) == "text-box" for part in child):
                    self.omitted[_OMITTED[name]] += 1
            elif name in _AS_TEXT:
                yield _AS_TEXT[name]
            elif name not in _UNREAD:
                yield from self._words(child)
            yield child.tail or ""
