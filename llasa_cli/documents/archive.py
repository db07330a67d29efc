"""Reading ZIP files of unknown origin (EPUB, DOCX, ODT) with bounded time and memory."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from llasa_cli.errors import UsageError

MAX_MEMBERS = 50_000
MAX_MEMBER_BYTES = 64 << 20
MAX_TOTAL_BYTES = 96 << 20
"""Unpacked. The text of a long book is 2 MB, an illustrated one has 200 MB of images, which are not unpacked."""
MAX_DEPTH = 1000
"""The greatest depth of nested XML elements."""
_ENTITY = tuple("<!ENTITY".encode(name) for name in ("utf-8", "utf-16-le", "utf-16-be"))


class Archive:
    """A ZIP file whose members are read one at a time.

    Raises:
        UsageError: It is not a ZIP file, is damaged or encrypted, or unpacks to more than a book can have.
    """

    def __init__(self, path: Path, kind: str) -> None:
        self._path, self._kind = path, kind
        self._read = 0
        try:
            self._zip = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, ValueError, NotImplementedError) as error:
            raise self.problem("is damaged: it can't be unpacked") from error
        members = self._zip.infolist()
        if len(members) > MAX_MEMBERS:
            raise self.problem(f"has {len(members):,} files inside, which is not a book")
        if any(member.flag_bits & 1 for member in members):
            raise self.problem("is encrypted", "Remove the password first.")
        self.names = frozenset(member.filename for member in members)

    def problem(self, what: str, hint: str = "") -> UsageError:
        """An error about this file: "book.epub {what}."."""
        return UsageError(f"{self._path} {what}.", hint or f"A whole, unprotected {self._kind} file is needed.")

    def read(self, name: str) -> bytes:
        """The bytes of a member.

        Raises:
            UsageError: It is missing or damaged, or too large.
        """
        try:
            with self._zip.open(name) as file:
                data = file.read(MAX_MEMBER_BYTES + 1)
        except KeyError:
            raise self.problem(f"lacks {name}, which its contents name") from None
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError) as error:
            raise self.problem(f"is damaged: {name} can't be unpacked") from error
        self._read += len(data)
        if len(data) > MAX_MEMBER_BYTES or self._read > MAX_TOTAL_BYTES:
            raise self.problem(f"unpacks to more than {MAX_MEMBER_BYTES >> 20} MB of text, which is not a book")
        return data

    def read_xml(self, name: str) -> ElementTree.Element:
        """A member as XML. Entities that the file defines itself are refused: they can grow without bound.

        Raises:
            UsageError: It is not XML.
        """
        data = self.read(name)
        if any(mark in data for mark in _ENTITY):
            raise self.problem(f"defines entities in {name}, which are not read")
        try:
            return parse_xml(data)
        except RecursionError:
            raise self.problem(f"has elements in {name} that lie too deep inside each other") from None
        except (ElementTree.ParseError, LookupError, ValueError) as error:
            raise self.problem(f"is damaged: {name} is not XML ({error})") from error

    def close(self) -> None:
        self._zip.close()


def local_name(element: ElementTree.Element) -> str:
    """The element's name without its namespace."""
    return element.tag.rpartition("}")[2]


def parse_xml(data: bytes) -> ElementTree.Element:
    """The root element.

    Raises:
        ParseError: It is not XML, or defines entities, which can grow without bound.
        RecursionError: Elements lie deeper than MAX_DEPTH.
    """
    if any(mark in data for mark in _ENTITY):
        raise ElementTree.ParseError("it defines entities")
    parser: Any = ElementTree.XMLPullParser(("start", "end"))
    depth, root = 0, None
    for at in range(0, len(data), _BLOCK):
        parser.feed(data[at : at + _BLOCK])
        for event, element in parser.read_events():
            root = element if root is None else root
            depth += 1 if event == "start" else -1
            if depth > MAX_DEPTH:
                raise RecursionError
    parser.close()
    if root is None:
        raise ElementTree.ParseError("no element found")
    return root


_BLOCK = 1 << 16
