"""Hostile books: each is read, or refused in one sentence. One that took time or memory without bound would hang this file."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from llasa_cli.documents import archive
from llasa_cli.documents.document import Document
from llasa_cli.documents.reader import read_document
from llasa_cli.errors import UsageError
from llasa_cli.text.chunker import chunk_text
from tests.documents.make import CONTAINER, write_epub, write_pdf

MANY = 20_000
MEGABYTE = 1 << 20
TEXT = "<p>The rain had stopped.</p>"
OPF = '<package xmlns="http://www.idpf.org/2007/opf">{}</package>'
ITEM = '<manifest><item id="p" href="p.xhtml" media-type="application/xhtml+xml"/></manifest>'
Make = Callable[[Path], object]


@pytest.fixture(autouse=True)
def _small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Smaller than the true limits, so that a file beyond them is made quickly."""
    monkeypatch.setattr(archive, "MAX_MEMBERS", 200)
    monkeypatch.setattr(archive, "MAX_MEMBER_BYTES", 2 * MEGABYTE)
    monkeypatch.setattr(archive, "MAX_TOTAL_BYTES", 3 * MEGABYTE)


def epub_page(body: str) -> Make:
    return lambda path: write_epub(path, {"p.xhtml": body})


def epub_with(**members: bytes | str) -> Make:
    """An EPUB whose members are replaced; the names have `__` for `/` and `_` for `.`."""
    changed = {name.replace("__", "/").replace("_", "."): data for name, data in members.items()}

    def make(path: Path) -> None:
        whole = io.BytesIO()
        write_epub(path, {"p.xhtml": TEXT}, '<li><a href="p.xhtml">One</a></li>')
        with zipfile.ZipFile(path) as old, zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED) as new:
            for name in old.namelist():
                data = changed.pop(name, old.read(name))
                if data:
                    new.writestr(name, data)
            for name, data in changed.items():
                new.writestr(name, data)
        path.write_bytes(whole.getvalue())

    return make


def epub_opf(content: str) -> Make:
    return epub_with(OEBPS__book_opf=OPF.format(content))


def archive_of(members: dict[str, bytes | str], method: int = zipfile.ZIP_DEFLATED) -> Make:
    def make(path: Path) -> None:
        with zipfile.ZipFile(path, "w", method) as archive:
            for name, data in members.items():
                archive.writestr(name, data)

    return make


def cut(make: Make, share: float) -> Make:
    def made(path: Path) -> None:
        make(path)
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * share)])

    return made


def patched(make: Make, old: bytes, new: bytes) -> Make:
    def made(path: Path) -> None:
        make(path)
        path.write_bytes(path.read_bytes().replace(old, new))

    return made


def data(content: bytes) -> Make:
    return lambda path: path.write_bytes(content)


def pdf(objects: dict[int, bytes], root: int = 1) -> Make:
    """A PDF of these objects, without a table of their places."""
    body = b"".join(b"%d 0 obj\n%s\nendobj\n" % pair for pair in objects.items())
    return data(b"%%PDF-1.4\n%strailer << /Root %d 0 R >>\nstartxref\n0\n%%%%EOF\n" % (body, root))


def pdf_stream(content: bytes, entries: bytes = b"") -> bytes:
    return b"<< /Length %d %s >>\nstream\n%s\nendstream" % (len(content), entries, content)


def docx_with(xml: str) -> Make:
    types = '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"><Default Extension="xml" ContentType="application/xml"/></Types>'
    return archive_of({"[Content_Types].xml": types, "word/document.xml": xml})


WORD = '<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:body>{}</w:body></w:document>'
CATALOG = b"<< /Type /Catalog /Pages 2 0 R >>"
LAUGHS = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;"><!ENTITY c "&b;&b;&b;">]>'
OUTSIDE = '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>'

REFUSED: dict[str, tuple[str, Make, str]] = {
    "a ZIP file that ends early": ("a.epub", cut(epub_page(TEXT), 0.5), "no EPUB|damaged"),
    "a ZIP file without its middle": ("a.epub", patched(epub_page(TEXT), b"PK\x01\x02", b"PK\x01\x03"), "damaged"),
    "a page that unpacks to too much": ("a.epub", lambda path: bomb(path, 3), "unpacks to more than"),
    "many pages that unpack to too much together": ("a.epub", lambda path: bomb(path, 1, 4), "unpacks to more than"),
    "too many members": ("a.epub", lambda path: crowded(path), "files inside"),
    "a wrong checksum": ("a.epub", lambda path: wrong_checksum(path), "damaged"),
    "an encrypted member": ("a.epub", lambda path: encrypted_member(path), "encrypted|damaged"),
    "a container without a package": ("a.epub", epub_with(**{"META-INF__container_xml": "<container/>"}), "names no package"),
    "a container that is no XML": ("a.epub", epub_with(**{"META-INF__container_xml": "{}"}), "is not XML"),
    "a package that is missing": ("a.epub", archive_of({"META-INF/container.xml": CONTAINER}), "lacks OEBPS/book.opf"),
    "a package that is no XML": ("a.epub", epub_with(OEBPS__book_opf="<package>"), "is not XML"),
    "a package without pages": ("a.epub", epub_opf("<manifest/><spine/>"), "holds no text"),
    "a package that includes itself": (
        "a.epub", epub_opf('<manifest><item id="p" href="book.opf" media-type="application/xhtml+xml"/></manifest><spine><itemref idref="p"/></spine>'), "holds no text"),
    "a spine of missing items": ("a.epub", epub_opf(ITEM + '<spine><itemref idref="x"/></spine>'), "holds no text"),
    "a spine of pages that are not there": ("a.epub", epub_opf('<manifest><item id="p" href="x.xhtml" media-type="application/xhtml+xml"/></manifest><spine><itemref idref="p"/></spine>'), "holds no text"),
    "a page outside of the archive": ("a.epub", epub_opf('<manifest><item id="p" href="../../../../etc/passwd" media-type="application/xhtml+xml"/></manifest>'), "holds no text"),
    "entities that grow": ("a.epub", epub_with(OEBPS__book_opf=LAUGHS + OPF.format("&c;")), "defines entities"),
    "entities that grow, in UTF-16": ("a.epub", epub_with(OEBPS__book_opf=(LAUGHS + OPF.format("&c;")).encode("utf-16")), "defines entities"),
    "an entity of another file": ("a.epub", epub_with(OEBPS__book_opf=OUTSIDE + OPF.format("&a;")), "defines entities"),
    "an entity of another file in the container": ("a.epub", epub_with(**{"META-INF__container_xml": OUTSIDE + CONTAINER.partition("?>")[2]}), "defines entities"),
    "elements that lie too deep": ("a.epub", epub_with(OEBPS__book_opf="<a>" * MANY + "</a>" * MANY), "too deep"),
    "pages of images alone": ("a.epub", epub_page('<img src="a.png"/>' * 1000), "holds no text"),
    "pages of scripts alone": ("a.epub", epub_page(f"<script>{'x = 1;' * MANY}</script>"), "holds no text"),
    "a comment that is not closed": ("a.epub", epub_page("<!--" * MANY), "holds no text"),
    "a protected book": ("a.epub", epub_with(**{"META-INF__encryption_xml": '<e xmlns="http://x"><EncryptionMethod Algorithm="drm"/></e>'}), "protected"),
    "an empty ZIP file": ("a.epub", archive_of({}), "empty ZIP"),
    "a spreadsheet": ("a.xlsx", archive_of({"xl/workbook.xml": "<w/>"}), "spreadsheet"),
    "a Kindle book": ("a.mobi", data(bytes(60) + b"BOOKMOBI"), "Kindle"),
    "an old Word document": ("a.doc", data(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"), "old Word document"),
    "a gzip file": ("a.gz", data(b"\x1f\x8b\x08"), "gzip"),
    "an archive of 7z": ("a.7z", data(b"7z\xbc\xaf\x27\x1c"), "7z"),
    "a PDF of nothing": ("a.pdf", data(b"%PDF-1.4\n"), "damaged|no text"),
    "a PDF that ends early": ("a.pdf", cut(lambda path: write_pdf(path, [["Text."]] * 9), 0.3), "damaged|no text"),
    "a PDF of random bytes": ("a.pdf", data(b"%PDF-1.7\n" + bytes(range(256)) * 400), "damaged|no text"),
    "a PDF without pages": ("a.pdf", pdf({1: CATALOG, 2: b"<< /Type /Pages /Count 0 /Kids [] >>"}), "no text|damaged"),
    "a PDF whose pages contain themselves": ("a.pdf", pdf({1: CATALOG, 2: b"<< /Type /Pages /Count 1 /Kids [2 0 R] >>"}), "damaged|no text"),
    "a PDF whose catalog is itself": ("a.pdf", pdf({1: b"1 0 R"}), "damaged|no text"),
    "a PDF that counts a billion pages": ("a.pdf", pdf({1: CATALOG, 2: b"<< /Type /Pages /Count 1000000000 /Kids [] >>"}), "no text|damaged|pages"),
    "a PDF of scanned pages": ("a.pdf", lambda path: write_pdf(path, [[]] * 20), "images"),
    "a PDF stream of a wrong kind": (
        "a.pdf", pdf({1: CATALOG, 2: b"<< /Type /Pages /Count 1 /Kids [3 0 R] >>", 3: b"<< /Type /Page /Parent 2 0 R /Contents 4 0 R >>", 4: pdf_stream(b"no flate", b"/Filter /FlateDecode")}), "damaged|no text"),
    "a PDF stream of an unknown kind": (
        "a.pdf", pdf({1: CATALOG, 2: b"<< /Type /Pages /Count 1 /Kids [3 0 R] >>", 3: b"<< /Type /Page /Parent 2 0 R /Contents 4 0 R >>", 4: pdf_stream(b"x", b"/Filter /Secret")}), "damaged|no text"),
    "a Word document that is no XML": ("a.docx", docx_with("no xml"), "damaged"),
    "a Word document of nothing": ("a.docx", docx_with(WORD.format("")), "damaged|no text"),
    "a Word document with entities": ("a.docx", docx_with(LAUGHS + WORD.format("&c;")), "damaged|no text"),
    "a Word document that unpacks to too much": ("a.docx", docx_with(WORD.format(" " * (3 * MEGABYTE))), "unpacks to more than"),
    "RTF of nothing": ("a.rtf", data(b"{\\rtf1 }"), "no text"),
    "RTF of braces": ("a.rtf", data(b"{\\rtf1 " + b"{" * MANY), "no text|damaged"),
}  # fmt: skip

READ: dict[str, tuple[str, Make]] = {
    "a paragraph of a megabyte": ("a.epub", epub_page(f"<p>{'The rain had stopped. ' * 50_000}</p>")),
    "a word of a megabyte": ("a.epub", epub_page(f"<p>{'a' * 1_000_000}</p>")),
    "comments that are not closed": ("a.epub", epub_page(TEXT + "<!--" * MANY)),
    "markup that is not closed": ("a.epub", epub_page(TEXT + "<a " * MANY)),
    "sections that are not closed": ("a.epub", epub_page(TEXT + "<![CDATA[" * MANY)),
    "declarations that are not closed": ("a.epub", epub_page(TEXT + "<!x" * MANY)),
    "ampersands": ("a.epub", epub_page(TEXT + "&" * MANY)),
    "links inside each other": ("a.epub", epub_page(TEXT + "<a href='#a'>" * MANY + "</sup>" * MANY)),
    "raised characters inside each other": ("a.epub", epub_page(TEXT + "<sup>" * MANY + "</a>" * MANY)),
    "hidden elements inside each other": ("a.epub", epub_page(TEXT + "<nav>" + "<b>" * MANY + "</i>" * MANY)),
    "contents that are no XML": ("a.epub", epub_with(OEBPS__nav_xhtml="<nav")),
    "contents that point to themselves": ("a.epub", epub_with(OEBPS__nav_xhtml='<html xmlns="http://www.w3.org/1999/xhtml"><body><nav><ol><li><a href="nav.xhtml">x</a></li></ol></nav></body></html>')),
    "no spine": ("a.epub", epub_opf(ITEM)),
    "a page that is listed many times": ("a.epub", epub_opf(ITEM + "<spine>" + '<itemref idref="p"/>' * 10_000 + "</spine>")),
    "a PDF without a table of places": ("a.pdf", pdf({1: CATALOG, 2: b"<< /Type /Pages /Count 1 /Kids [3 0 R] >>", 3: b"<< /Type /Page /Parent 2 0 R /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>", 4: pdf_stream(b"BT /F1 9 Tf 9 9 Td (The rain had stopped.) Tj ET"), 5: b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"})),
}  # fmt: skip


def bomb(path: Path, megabytes: int, pages: int = 1) -> None:
    body = "<p>" + " " * (megabytes * MEGABYTE) + "</p>"
    write_epub(path, {f"p{number}.xhtml": body for number in range(pages)})


def crowded(path: Path) -> None:
    archive_of({"META-INF/container.xml": CONTAINER} | {f"m/{number}": b"" for number in range(201)})(path)


def wrong_checksum(path: Path) -> None:
    write_epub(path, {"p.xhtml": TEXT})
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        start = archive.getinfo("OEBPS/p.xhtml").header_offset + 30 + len("OEBPS/p.xhtml")
    content[start : start + 8] = b"\xff" * 8
    path.write_bytes(bytes(content))


def encrypted_member(path: Path) -> None:
    write_epub(path, {"p.xhtml": TEXT})
    content = bytearray(path.read_bytes())
    for sign, place in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        at = content.find(sign)
        while at >= 0:
            content[at + place] |= 1
            at = content.find(sign, at + 4)
    path.write_bytes(bytes(content))


def needs(name: str) -> None:
    module = {".pdf": "pypdf", ".docx": "docx", ".rtf": "striprtf"}.get(Path(name).suffix)
    if module is not None:
        pytest.importorskip(module)


@pytest.mark.parametrize("case", REFUSED)
def test_a_hostile_book_is_refused_in_one_sentence(tmp_path: Path, case: str) -> None:
    name, make, message = REFUSED[case]
    needs(name)
    make(tmp_path / name)
    with pytest.raises(UsageError, match=message) as refused:
        read_document(tmp_path / name)
    assert "\n" not in refused.value.message
    assert name in refused.value.message


@pytest.mark.parametrize("case", READ)
def test_a_strange_book_is_read(tmp_path: Path, case: str) -> None:
    name, make = READ[case]
    needs(name)
    make(tmp_path / name)
    book = read_document(tmp_path / name)
    assert isinstance(book, Document)
    chunks = chunk_text(book.parts())
    assert "rain had stopped" in next(chunks).text or "word" in case
    for _, _ in zip(range(50), chunks, strict=False):
        pass


@pytest.mark.parametrize("encoding", ["punycode", "idna", "rot13", "zlib", "utf-7", "unknown", "utf-16"])
def test_a_page_of_a_wrong_encoding_is_read_as_utf_8(tmp_path: Path, encoding: str) -> None:
    make = epub_with(
        OEBPS__p_xhtml=f'<?xml version="1.0" encoding="{encoding}"?><html><body>{TEXT * 1000}</body></html>'
    )
    make(tmp_path / "a.epub")
    book = read_document(tmp_path / "a.epub")
    assert isinstance(book, Document)
    if encoding != "utf-16":
        assert book.chapters[0].paragraphs[0] == "The rain had stopped."
