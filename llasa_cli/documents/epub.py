"""EPUB 2 and 3: the spine's pages in order, cut into chapters by the table of contents."""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from urllib.parse import unquote, urldefrag
from xml.etree import ElementTree

from llasa_cli.documents.archive import Archive
from llasa_cli.documents.document import Block, Chapter, Document, as_sentence, chapters_by_heading, clean
from llasa_cli.documents.html import read_html
from llasa_cli.errors import UsageError
from llasa_cli.text.markup import NoteMarks

_OPF = "{http://www.idpf.org/2007/opf}"
_DC = "{http://purl.org/dc/elements/1.1/}"
_CONTAINER = "{urn:oasis:names:tc:opendocument:xmlns:container}"
_NCX = "{http://www.daisy.org/z3986/2005/ncx/}"
_XHTML = "{http://www.w3.org/1999/xhtml}"
_FONT_ALGORITHMS = ("http://www.idpf.org/2008/embedding", "http://ns.adobe.com/pdf/enc#RC")
"""Obfuscated fonts, which need no key to read the text."""
_ENCODING = re.compile(
    r"utf-?(?:8|16)(?:-sig|-?[lb]e)?|us-ascii|(?:iso-?8859|latin|windows|cp|gb|big5|euc|koi8|mac|shift|sjis)[\w-]*",
    re.I,
)
"""Encodings of text; Python knows others, such as punycode, that take hours for a long page."""
_MOST_ENTRIES = 20_000
_NO_TITLE = re.compile(r"(?:half[ -]?)?title[ -]?page|half[ -]?title|cover(?: page)?", re.IGNORECASE)
"""Entries of a table of contents for pages that show the title of the book."""


def read_epub(path: Path) -> Document:
    """Read an EPUB file.

    Raises:
        UsageError: It is damaged, protected (DRM), or has no text.
    """
    archive = Archive(path, "EPUB")
    try:
        return _Book(archive).document()
    finally:
        archive.close()


class _Book:
    """The package document and what it refers to."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._refuse_protected()
        container = archive.read_xml("META-INF/container.xml")
        root = container.find(f".//{_CONTAINER}rootfile")
        if root is None or not root.get("full-path"):
            raise archive.problem("names no package document in META-INF/container.xml")
        self._opf_name = root.get("full-path", "")
        self._opf = archive.read_xml(self._opf_name)
        self._items = {item.get("id", ""): item for item in self._opf.iter(f"{_OPF}item")}

    def _refuse_protected(self) -> None:
        if "META-INF/encryption.xml" not in self._archive.names:
            return
        for method in self._archive.read_xml("META-INF/encryption.xml").iter():
            if method.tag.endswith("}EncryptionMethod") and method.get("Algorithm") not in _FONT_ALGORITHMS:
                raise self._archive.problem(
                    "is protected (DRM): its text is encrypted", "Use a copy without protection."
                )

    def document(self) -> Document:
        omitted: Counter[str] = Counter()
        self._notes = NoteMarks()
        pages = {name: self._page(name, omitted) for name in self._spine()}
        blocks = [(name, block) for name, page in pages.items() for block in page]
        entries = [entry for entry in self._contents() if entry[0] in pages]
        chapters = _by_contents(blocks, entries) if entries else chapters_by_heading(block for _, block in blocks)
        if not any(chapter.words for chapter in chapters):
            raise self._archive.problem("holds no text")
        return Document(
            self._metadata("title"),
            self._metadata("creator"),
            self._metadata("language"),
            tuple(chapter for chapter in chapters if chapter.words or chapter.title),
            self._cover(),
            dict(omitted),
        )

    def _metadata(self, name: str) -> str:
        found = self._opf.find(f".//{_DC}{name}")
        return clean("".join(found.itertext())) if found is not None else ""

    def _spine(self) -> list[str]:
        """Names of the pages in reading order; of a package without a spine, of all its pages."""
        ids = [
            entry.get("idref", "") for entry in self._opf.iter(f"{_OPF}itemref") if entry.get("linear", "yes") != "no"
        ]
        names = []
        for identifier in ids or list(self._items):
            item = self._items.get(identifier)
            if item is None or "nav" in item.get("properties", "").split():
                continue
            if "html" in item.get("media-type", "") and self._name(item) not in names:
                names.append(self._name(item))
        return names

    def _name(self, item: ElementTree.Element) -> str:
        return _resolve(self._opf_name, item.get("href", ""))[0]

    def _page(self, name: str, omitted: Counter[str]) -> list[Block]:
        if name not in self._archive.names:
            omitted["missing pages"] += 1
            return []
        data = self._archive.read(name)
        page = read_html(_decoded(data), self._notes)
        omitted.update(page.omitted)
        if page.is_contents:
            omitted["contents pages"] += 1
            return []
        return page.blocks

    def _contents(self) -> list[tuple[str, str, str]]:
        """(page, anchor, title) of the table of contents, its first two levels."""
        nav = next((item for item in self._items.values() if "nav" in item.get("properties", "").split()), None)
        if nav is not None and self._name(nav) in self._archive.names:
            found = self._entries(nav, _nav_entries)
            if found:
                return found
        ncx = next((item for item in self._items.values() if "ncx" in item.get("media-type", "")), None)
        if ncx is not None and self._name(ncx) in self._archive.names:
            return self._entries(ncx, _ncx_entries)
        return []

    def _entries(
        self,
        item: ElementTree.Element,
        read: Callable[[ElementTree.Element, str], Iterator[tuple[str, str, str]]],
    ) -> list[tuple[str, str, str]]:
        """The entries of a table of contents. A damaged one is no reason to refuse the book: its headings make chapters."""
        name = self._name(item)
        try:
            return list(islice(read(self._archive.read_xml(name), name), _MOST_ENTRIES))
        except UsageError:
            return []

    def _cover(self) -> bytes | None:
        identifier = next(
            (meta.get("content") for meta in self._opf.iter(f"{_OPF}meta") if meta.get("name") == "cover"), None
        )
        for item in self._items.values():
            is_cover = "cover-image" in item.get("properties", "").split() or item.get("id") == identifier
            if (
                is_cover
                and item.get("media-type") in ("image/jpeg", "image/png")
                and self._name(item) in self._archive.names
            ):
                return self._archive.read(self._name(item))
        return None


def _decoded(data: bytes) -> str:
    """A page as text, in the encoding that it states or has a mark of; UTF-8 where it states a wrong one.

    A page that is UTF-8 by its statement only, with no character of it beyond ASCII, is read as Windows-1252.
    """
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", errors="replace")
    stated = re.search(rb"<\?xml[^>]{0,100}encoding=[\"']([\w-]+)", data[:200])
    name = stated[1].decode("ascii", "replace") if stated else "utf-8-sig"
    if not _ENCODING.fullmatch(name):
        name = "utf-8-sig"
    try:
        text = data.decode(name, errors="replace")
        is_utf_8 = "\ufffd" not in text or any("\x7f" < character != "\ufffd" for character in text)
        return text if is_utf_8 else data.decode("cp1252", errors="replace")
    except (LookupError, UnicodeError):
        return data.decode("utf-8-sig", errors="replace")


def _resolve(base: str, href: str) -> tuple[str, str]:
    """A link -> (name inside the archive, anchor)."""
    target, anchor = urldefrag(href)
    return posixpath.normpath(posixpath.join(posixpath.dirname(base), unquote(target))), unquote(anchor)


def _nav_entries(root: ElementTree.Element, name: str) -> Iterator[tuple[str, str, str]]:
    def walk(parent: ElementTree.Element, depth: int) -> Iterator[tuple[str, str, str]]:
        for item in parent.findall(f"{_XHTML}li"):
            link = item.find(f"{_XHTML}a")
            if link is not None and link.get("href"):
                yield *_resolve(name, link.get("href", "")), clean("".join(link.itertext()))
            for inner in item.findall(f"{_XHTML}ol") if depth < 2 else []:
                yield from walk(inner, depth + 1)

    for nav in root.iter(f"{_XHTML}nav"):
        if "toc" in nav.get("{http://www.idpf.org/2007/ops}type", "").split():
            for ordered in nav.findall(f"{_XHTML}ol"):
                yield from walk(ordered, 1)
            return


def _ncx_entries(root: ElementTree.Element, name: str) -> Iterator[tuple[str, str, str]]:
    def walk(parent: ElementTree.Element, depth: int) -> Iterator[tuple[str, str, str]]:
        for point in parent.findall(f"{_NCX}navPoint"):
            content, label = point.find(f"{_NCX}content"), point.find(f".//{_NCX}text")
            if content is not None and content.get("src"):
                title = clean("".join(label.itertext())) if label is not None else ""
                yield *_resolve(name, content.get("src", "")), title
            if depth < 2:
                yield from walk(point, depth + 1)

    for nav_map in root.iter(f"{_NCX}navMap"):
        yield from walk(nav_map, 1)


def _by_contents(blocks: list[tuple[str, Block]], entries: list[tuple[str, str, str]]) -> list[Chapter]:
    """Begin a chapter where an entry of the contents points. A heading that repeats the entry's title is dropped."""
    starts = {(page, anchor): title for page, anchor, title in reversed(entries)}
    chapters: list[Chapter] = []
    title, paragraphs, current = "", list[str](), ""
    for page, block in blocks:
        keys = ([(page, "")] if page != current else []) + [(page, anchor) for anchor in block.anchors]
        current = page
        found = next((starts.pop(key) for key in keys if key in starts), None)
        if found is not None:
            if paragraphs or title:
                chapters.append(Chapter(title, tuple(paragraphs)))
            title, paragraphs = "" if _NO_TITLE.fullmatch(found) else found, []
        if block.level and not paragraphs and _same_title(block.text, title):
            continue
        paragraphs.append(as_sentence(block.text) if block.level else block.text)
    chapters.append(Chapter(title, tuple(paragraphs)))
    return chapters


def _same_title(heading: str, title: str) -> bool:
    """Whether a heading says (part of) what the title of the chapter says."""
    plain = ["".join(c for c in text.casefold() if c.isalnum()) for text in (heading, title)]
    return bool(plain[0]) and plain[0] in plain[1]
