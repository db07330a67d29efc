"""Books and other documents, by what they are and not by what they are called.

    document = read_document(path)         None for a file of text

EPUB, ODT, FB2, HTML, notebooks and e-mail need nothing but Python; PDF, DOCX and RTF need the extra `book`.
"""

from __future__ import annotations

import re
from pathlib import Path

from llasa_cli.documents.document import Document
from llasa_cli.errors import UsageError

HEAD_BYTES = 4096
_OTHER_FILES = {
    b"\xd0\xcf\x11\xe0": ("an old Word document (.doc)", "Save it as .docx."),
    b"PK\x03\x04": (
        "a ZIP file that is no EPUB, Word document or OpenDocument text",
        "Unpack it and name a file in it.",
    ),
    b"PK\x05\x06": ("an empty ZIP file", "A whole file is needed."),
    b"\x1f\x8b": ("a gzip file", "Unpack it first: gunzip."),
    b"\x89PNG": ("an image", "Run text recognition over it first."),
    b"\xff\xd8\xff": ("an image", "Run text recognition over it first."),
    b"TPZ": ("a Kindle book", "Convert it to EPUB, for example with Calibre."),
    b"7z\xbc\xaf": ("a 7z archive", "Unpack it first."),
}
WRITTEN_AS_TEXT = ("ipynb", "eml", "mbox")
"""Kinds of documents that `--text-format` reads as the text that they are written in."""
_SOURCES = {".tex": ("LaTeX", "latex"), ".rst": ("reStructuredText", "rst"), ".org": ("Org mode", "org")}
"""Endings of text whose markup is not known here -> its name, and pandoc's name for it."""
_HEADERS = re.compile(rb"(?:[A-Z][\w-]{1,40}:[^\r\n]*\r?\n(?:[ \t][^\r\n]*\r?\n)*){2,}")
_ENVELOPE = re.compile(rb"From [^\r\n]*\d{4}\r?\n")
"""The line before each message of a mailbox."""
_MESSAGE = re.compile(rb"^(?:Message-ID|MIME-Version|Received|Return-Path):", re.MULTILINE | re.IGNORECASE)


def refuse_source(path: Path) -> None:
    """Refuse a text whose markup would be read aloud.

    Raises:
        UsageError: The file's ending is one of LaTeX, reStructuredText or Org mode; the message says how to convert it.
    """
    if path.suffix.lower() in _SOURCES:
        name, source = _SOURCES[path.suffix.lower()]
        raise UsageError(
            f"{path} is {name}, whose markup would be read aloud.",
            f"Convert it: pandoc -f {source} -t gfm {path.name} -o {path.stem}.md"
            "\n       --text-format plain reads it as it is.",
        )


def kind_of(path: Path) -> str | None:
    """ "epub", "pdf", "docx", "odt", "fb2", "rtf", "ipynb", "eml", "mbox", or None for a file that is text (or no document at all).

    Raises:
        UsageError: The file can't be read, or is of another kind without readable text, which the message names.
    """
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}.") from error
    if head.startswith(b"%PDF-"):
        return "pdf"
    if head.startswith(b"{\\rtf"):
        return "rtf"
    if b"<FictionBook" in head:
        return "fb2"
    is_notebook = b'"cells"' in head and b'"cell_type"' in head
    if head.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"{") and (is_notebook or path.suffix.lower() == ".ipynb"):
        return "ipynb"
    if (envelope := _ENVELOPE.match(head)) and _HEADERS.match(head, envelope.end()):
        return "mbox"
    headers = _HEADERS.match(head)
    if headers and (
        path.suffix.lower() == ".eml" or (_MESSAGE.search(headers[0]) and b"\nFrom:" in b"\n" + headers[0])
    ):
        return "eml"
    if head[60:68] in (b"BOOKMOBI", b"TEXtREAd"):
        raise UsageError(f"{path} is a Kindle book.", "Convert it to EPUB, for example with Calibre.")
    if head.startswith(b"PK"):
        import zipfile
        import zlib

        if zipfile.is_zipfile(path):
            try:
                with zipfile.ZipFile(path) as archive:
                    names = set(archive.namelist())
                    declared = archive.read("mimetype") if "mimetype" in names else b""
            except (zipfile.BadZipFile, zlib.error, ValueError, NotImplementedError, OSError, RuntimeError) as error:
                raise UsageError(f"{path} is damaged: it can't be unpacked.", "A whole file is needed.") from error
            if "META-INF/container.xml" in names:
                return "epub"
            if "word/document.xml" in names:
                return "docx"
            if declared.strip().decode("ascii", "replace") == "application/vnd.oasis.opendocument.text":
                return "odt"
            if "xl/workbook.xml" in names or b"spreadsheet" in declared:
                raise UsageError(f"{path} is a spreadsheet.", "Save it as CSV; llasa batch reads that.")
        elif head.startswith(b"PK\x03\x04"):
            raise UsageError(f"{path} is a ZIP file that is damaged or cut short.", "A whole file is needed.")
    for start, (kind, hint) in _OTHER_FILES.items():
        if head.startswith(start):
            raise UsageError(f"{path} is {kind}.", hint)
    return None


def read_document(path: Path) -> Document | None:
    """Read a document; None for a file that is text.

    Raises:
        UsageError: It can't be read; the message says why.
    """
    kind = kind_of(path)
    if kind == "epub":
        from llasa_cli.documents.epub import read_epub as read
    elif kind == "pdf":
        from llasa_cli.documents.pdf import read_pdf as read
    elif kind == "docx":
        from llasa_cli.documents.docx import read_docx as read
    elif kind == "odt":
        from llasa_cli.documents.odt import read_odt as read
    elif kind == "fb2":
        from llasa_cli.documents.fb2 import read_fb2 as read
    elif kind == "rtf":
        from llasa_cli.documents.rtf import read_rtf as read
    elif kind == "ipynb":
        from llasa_cli.documents.notebook import read_notebook as read
    elif kind == "eml":
        from llasa_cli.documents.mail import read_email as read
    elif kind == "mbox":
        from llasa_cli.documents.mail import read_mailbox as read
    else:
        return None
    return read(path)
