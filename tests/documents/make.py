"""Small EPUB, PDF and DOCX files for the tests, as the programs that people use write them."""

from __future__ import annotations

import zipfile
from pathlib import Path

CONTAINER = (
    '<?xml version="1.0"?><container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container">'
    '<rootfiles><rootfile full-path="OEBPS/book.opf" media-type="application/oebps-package+xml"/></rootfiles></container>'
)
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d49444154789c6360606060000000050001a5f645400000000049454e44ae426082"
)


def page(body: str) -> str:
    return (
        '<?xml version="1.0" encoding="utf-8"?><html xmlns="http://www.w3.org/1999/xhtml" '
        f'xmlns:epub="http://www.idpf.org/2007/ops"><head><title>no text</title></head><body>{body}</body></html>'
    )


def write_epub(
    path: Path,
    pages: dict[str, str],
    contents: str = "",
    spine: list[str] | None = None,
    extra: dict[str, bytes] | None = None,
) -> Path:
    """An EPUB 3 of some pages (name -> body).

    Args:
        contents: The list items of the table of contents; empty for a book without one.
        spine: Names of the pages in reading order; None takes all, [] writes an empty spine.
        extra: More members of the archive.
    """
    manifest = "".join(
        f'<item id="p{number}" href="{name}" media-type="application/xhtml+xml"/>' for number, name in enumerate(pages)
    )
    order = list(pages) if spine is None else spine
    references = "".join(f'<itemref idref="p{list(pages).index(name)}"/>' for name in order)
    opf = (
        '<package xmlns="http://www.idpf.org/2007/opf" version="3.0"><metadata xmlns:dc="http://purl.org/dc/elements/1.1/">'
        "<dc:title>The Garden</dc:title><dc:creator>A. Writer</dc:creator><dc:language>en</dc:language></metadata>"
        f'<manifest>{manifest}<item id="nav" properties="nav" href="nav.xhtml" media-type="application/xhtml+xml"/>'
        '<item id="c" properties="cover-image" href="cover.png" media-type="image/png"/></manifest>'
        f"<spine>{references}</spine></package>"
    )
    nav = page(f'<nav epub:type="toc"><h1>Contents</h1><ol>{contents}</ol></nav>')
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mimetype", "application/epub+zip", zipfile.ZIP_STORED)
        archive.writestr("META-INF/container.xml", CONTAINER)
        archive.writestr("OEBPS/book.opf", opf)
        archive.writestr("OEBPS/nav.xhtml", nav)
        archive.writestr("OEBPS/cover.png", PNG)
        for name, body in pages.items():
            archive.writestr(f"OEBPS/{name}", page(body))
        for name, data in (extra or {}).items():
            archive.writestr(name, data)
    return path


Page = list["str | tuple[str, int] | tuple[str, int, int, int]"]


def write_pdf(path: Path, pages: list[Page]) -> Path:
    """A PDF whose pages show lines of text in Helvetica of 11 points, or of a given size, one below the other, or each at its place."""
    objects: list[bytes] = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"",
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    kids = []
    for lines in pages:
        text = ""
        for line, size, *place in ((line, 11) if isinstance(line, str) else line for line in lines):
            escaped = line.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)")
            move = "1 0 0 1 {} {} Tm".format(*place) if place else f"{1.3 * size:.1f} TL T*"
            text += f" /F1 {size} Tf {move} ({escaped}) Tj"
        text = f"BT 72 760 Td{text} ET"
        stream = text.encode("latin-1")
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream))
        content = len(objects)
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents %d 0 R "
            b"/Resources << /Font << /F1 3 0 R >> >> >>" % content
        )
        kids.append(len(objects))
    objects[1] = b"<< /Type /Pages /Count %d /Kids [%s] >>" % (len(kids), b" ".join(b"%d 0 R" % kid for kid in kids))
    data, places = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, 1):
        places.append(len(data))
        data += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    start = len(data)
    data += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    data += b"".join(b"%010d 00000 n \n" % place for place in places)
    data += b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, start)
    path.write_bytes(data)
    return path
