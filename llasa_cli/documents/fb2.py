"""FictionBook files (.fb2): sections with a title are chapters; notes and images are left out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from llasa_cli.documents.archive import MAX_MEMBER_BYTES, local_name, parse_xml
from llasa_cli.documents.document import Block, Document, as_sentence, chapters_by_heading, clean
from llasa_cli.documents.html import SCENE_BREAK
from llasa_cli.errors import UsageError

_PARAGRAPHS = frozenset("p v subtitle text-author date".split())
_LABEL_END = ". "


def read_fb2(path: Path) -> Document:
    """Read a FictionBook file.

    Raises:
        UsageError: It is too large, damaged or empty.
    """
    if path.stat().st_size > MAX_MEMBER_BYTES:
        raise UsageError(f"{path} is larger than {MAX_MEMBER_BYTES >> 20} MB.", "Save it without images.")
    try:
        root = parse_xml(path.read_bytes())
    except (ElementTree.ParseError, RecursionError, LookupError, ValueError) as error:
        raise UsageError(f"{path} is damaged: it is not XML ({error}).", "Convert it to EPUB, with Calibre.") from error
    omitted: Counter[str] = Counter()
    blocks: list[Block] = []
    for body in root:
        if local_name(body) == "body" and body.get("name", "") in ("notes", "comments"):
            omitted["footnotes"] += sum(local_name(section) == "section" for section in body.iter())
        elif local_name(body) == "body":
            blocks += _blocks(body, 0, omitted)
    if not blocks:
        raise UsageError(f"{path} holds no text.", "A book with words is needed.")
    info = next((element for element in root.iter() if local_name(element) == "title-info"), Element("none"))
    facts = {local_name(element): element for element in reversed(info)}
    author = " ".join(
        clean(part.text or "")
        for part in facts.get("author", Element("none"))
        if local_name(part) in ("first-name", "middle-name", "last-name") and part.text
    )
    return Document(
        _text(facts.get("book-title"), omitted),
        author,
        _text(facts.get("lang"), omitted),
        tuple(chapters_by_heading(blocks)),
        omitted=omitted,
    )


def _blocks(parent: Element, depth: int, omitted: Counter[str]) -> Iterator[Block]:
    """The paragraphs of a section, with its titles as headings."""
    for child in parent:
        name = local_name(child)
        if name == "title":
            lines = [text for line in child if (text := _text(line, omitted))]
            if lines:
                yield Block(_LABEL_END.join(line.rstrip(".") for line in lines), min(6, depth + 1))
        elif name in _PARAGRAPHS:
            if text := _text(child, omitted):
                yield Block(text)
        elif name == "tr":
            cells = [text for cell in child if (text := _text(cell, omitted))]
            if cells:
                yield Block(as_sentence(", ".join(cells)))
        elif name == "empty-line":
            yield Block(SCENE_BREAK)
        elif name == "stanza":
            lines = [text for line in child if local_name(line) == "v" and (text := _text(line, omitted))]
            if lines:
                yield Block("\n".join(lines))
        elif name == "image":
            omitted["images"] += 1
        elif name != "binary":
            yield from _blocks(child, depth + (name == "section"), omitted)


def _text(element: Element | None, omitted: Counter[str]) -> str:
    return clean("".join(_words(element, omitted))) if element is not None else ""


def _words(element: Element, omitted: Counter[str]) -> Iterator[str]:
    """The words of a paragraph without the marks of notes."""
    yield element.text or ""
    for child in element:
        text = "".join(_words(child, omitted))
        is_mark = local_name(child) == "a" and (
            child.get("type") == "note" or re.fullmatch(r"\s*\[?\w{1,4}\]?\s*", text)
        )
        if local_name(child) == "image":
            omitted["images"] += 1
        elif not is_mark:
            yield text
        yield child.tail or ""
