"""Books are read as a person would read them aloud, and what is not text is left out and counted."""

from __future__ import annotations

import json
import zipfile
from email.message import EmailMessage
from pathlib import Path

import pytest

from llasa_cli.documents.document import Block, Chapter, Document, chapters_by_heading
from llasa_cli.documents.html import read_html
from llasa_cli.documents.pdf import Line, running_lines
from llasa_cli.documents.reader import kind_of, read_document
from llasa_cli.errors import UsageError
from llasa_cli.text.chunker import chunk_text
from llasa_cli.text.marks import CHAPTER, mark
from tests.documents.make import Page, write_epub, write_pdf

BOOK = {
    "cover.xhtml": '<div><img src="cover.png" alt="cover"/></div>',
    "one.xhtml": '<section><h1 id="a">Chapter One</h1><p>The rain had <i>stopped</i>.<a epub:type="noteref" href="#n1">1</a> We '
    'walked.<sup><a href="notes.xhtml#n2">2</a></sup></p><hr/><p>Home&#160;at last.</p><aside epub:type="footnote" '
    'id="n1"><p>A note.</p></aside></section>',
    "two.xhtml": '<h1>Two</h1><h2>The Storm</h2><p>It was a well\u00adknown storm.</p><span epub:type="pagebreak">17</span>'
    "<table><tr><th>Day</th><th>Rain</th></tr><tr><td>\n Monday </td>\n<td></td><td>3 mm</td></tr></table><pre>x = 1</pre>"
    '<h1 id="three">Three</h1><p>The end.</p>',
}
CONTENTS = (
    '<li><a href="one.xhtml#a">One</a></li><li><a href="two.xhtml">Two: The Storm</a></li>'
    '<li><a href="two.xhtml#three">Three</a></li>'
)


def test_an_epub_gives_the_chapters_of_its_contents(tmp_path: Path) -> None:
    book = read_document(write_epub(tmp_path / "book.epub", BOOK, CONTENTS))
    assert (book.title, book.author, book.language) == ("The Garden", "A. Writer", "en")
    assert book.cover is not None
    assert book.cover.startswith(b"\x89PNG")
    assert book.chapters == (
        Chapter("One", ("Chapter One.", "The rain had stopped. We walked.", "[pause:1]", "Home at last.")),
        Chapter("Two: The Storm", ("It was a wellknown storm.", "Day, Rain.", "Monday, 3 mm.")),
        Chapter("Three", ("The end.",)),
    )
    assert book.omitted == {"images": 1, "footnotes": 1, "code blocks": 1}


def test_an_epub_without_contents_is_cut_at_its_headings(tmp_path: Path) -> None:
    book = read_document(write_epub(tmp_path / "book.epub", BOOK))
    assert [chapter.title for chapter in book.chapters] == ["Chapter One", "Two", "Three"]


def test_an_epub_with_an_empty_spine_reads_all_its_pages(tmp_path: Path) -> None:
    book = read_document(write_epub(tmp_path / "book.epub", BOOK, CONTENTS, spine=[]))
    assert [chapter.title for chapter in book.chapters] == ["One", "Two: The Storm", "Three"]


def test_parts_of_a_book_have_pauses_around_headings() -> None:
    book = Document("", "", "", (Chapter("One", ("A.", "B.")), Chapter("Two", ("C.",))))
    one, two = mark(CHAPTER, "One"), mark(CHAPTER, "Two")
    second = f"{two}Two.\n\n[pause:1]\n\nC.\n\n"
    assert "".join(book.parts()) == f"{one}One.\n\n[pause:1]\n\nA.\n\nB.\n\n[pause:2]\n\n" + second
    assert "".join(book.parts(2, 2)) == second
    chunks = [(chunk.chapter, chunk.text) for chunk in chunk_text(book.parts())]
    assert chunks == [("One", "One."), ("", "A."), ("", "B."), ("Two", "Two."), ("", "C.")]


def test_the_title_of_a_book_is_said_at_the_beginning_of_its_first_chapter() -> None:
    book = Document("", "", "", (Chapter("One", ("A.",), ("Letters.", "A Novel.")),))
    assert (
        "".join(book.parts())
        == f"{mark(CHAPTER, 'One')}Letters.\n\nA Novel.\n\n[pause:2]\n\nOne.\n\n[pause:1]\n\nA.\n\n"
    )


@pytest.mark.parametrize(
    ("html", "text"),
    [
        ("<p>10<sup>6</sup> and m<sup>2</sup>, the 4<sup>th</sup></p>", "10⁶ and m², the 4th"),
        ("<p>Said<a href='#f3'>[3]</a> so.</p>", "Said so."),
        ("<p>See <a href='#part'>part a</a>.</p>", "See part a."),
        ("<p>a<script>var b;</script><style>p{}</style> c</p>", "a c"),
        ("<p>One<br/>two\nthree</p>", "One\ntwo three"),
        ("<p>unclosed <b>bold", "unclosed bold"),
        (
            "<ol start=2><li><p>One</p><p>more</p></li><li>Two</li></ol><p>x</p><ol reversed type=A><li>y<li>z",
            "2. One more 3. Two x B. y A. z",
        ),
        (
            "<h2>Contents</h2><p><a href='#a'>One</a></p><p>See <a href='#a'>a</a>.</p><h2><a href='#b'>One</a></h2>",
            "See a. One",
        ),
        ("<table><tr><td><p>A</p></td><td><div>B</div></td></tr><tr><td>x<p>y</p>z</td></tr></table>", "A, B. x. y z"),
        ("<ol><li><img src=a></li><li id=n><ul><li>in</li></ul></li></ol>", "in"),
        ("<p hidden>no</p><p style='display: none'>no</p><p>yes</p>", "yes"),
        ("<p>&lt;tag&gt; &amp; more</p>", "<tag> & more"),
    ],
)
def test_html_is_read_as_its_words(html: str, text: str) -> None:
    assert " ".join(block.text for block in read_html(html).blocks) == text


def test_a_book_is_read_without_copyright_contents_and_notes_on_a_page_of_their_own(tmp_path: Path) -> None:
    """The pages of Standard Ebooks (imprint, <hgroup>), pandoc (contents as a page) and InDesign (notes at the end)."""
    pages = {
        "title.xhtml": '<section epub:type="titlepage"><h1>The Garden</h1><p>By A. Writer.</p></section>',
        "imprint.xhtml": '<section epub:type="imprint"><p>All rights reserved.</p></section>',
        "toc.xhtml": "<h1>Contents</h1><ul>"
        + "".join(f'<li><a href="{number}.xhtml">A long title {number}</a></li>' for number in range(3))
        + "</ul>",
        "1.xhtml": '<hgroup><h2>I</h2><p>The Gate</p></hgroup><p>It was open.<a id="m1" href="notes.xhtml#n1">1</a></p>'
        "<p>Roses are red,<br/>Violets are blue.</p>",
        "notes.xhtml": '<h2>Notes</h2><p id="n1"><a href="1.xhtml#m1">1</a> As gates are.</p><p>And so on.</p>',
    }
    contents = "".join(
        f'<li><a href="{name}">{title}</a></li>'
        for name, title in (("title.xhtml", "Titlepage"), ("1.xhtml", "I: The Gate"), ("notes.xhtml", "Notes"))
    )
    book = read_document(write_epub(tmp_path / "a.epub", pages, contents))
    assert book is not None
    assert [(chapter.title, chapter.paragraphs) for chapter in book.chapters] == [
        ("", ("The Garden.", "By A. Writer.")),
        ("I: The Gate", ("It was open.", "Roses are red,\nViolets are blue.")),
        ("Notes", ("And so on.",)),
    ]
    assert dict(book.omitted) == {"copyright pages": 1, "contents pages": 1, "footnotes": 1}


NUMBERS = ("one", "two", "three", "four", "five")


def paragraph(word: str) -> list[str]:
    """The lines of a paragraph; those of another word differ, as those of a book do."""
    return [
        f"With {word} we can also turn any nega-",
        f"tive into something better, and this line {word} is as long",
        f"as the others are, so that it looks like the {word} of a",
        f"well-known book. It ends with {word}.",
    ]


def joined(word: str) -> str:
    return " ".join(paragraph(word)).replace("nega- tive", "negative")


def test_a_pdf_has_no_running_heads_page_numbers_or_hyphens(tmp_path: Path) -> None:
    pages = [["THE GARDEN", *paragraph(word), f"Page {number}"] for number, word in enumerate(NUMBERS, 1)]
    pages[0].insert(1, "Chapter 1")
    pages[3].insert(1, "Chapter 2")
    book = read_document(write_pdf(tmp_path / "book.pdf", pages))
    assert book.chapters == (
        Chapter("Chapter 1", tuple(map(joined, NUMBERS[:3]))),
        Chapter("Chapter 2", tuple(map(joined, NUMBERS[3:]))),
    )
    assert book.omitted == {"running heads and page numbers": 10}


def test_lines_in_a_larger_font_are_the_headings_of_a_pdf(tmp_path: Path) -> None:
    pages: list[Page] = [
        [("The Garden", 30), ("A. Writer", 14)],
        [
            "The Garden",
            ("Arrival in", 20),
            ("the Rain", 20),
            *paragraph("one"),
            ("The Gate", 14),
            *paragraph("two"),
            "1",
        ],
        ["The Garden", "Chapter 2", ("Storm", 20), *paragraph("three"), "2"],
        ["The Garden", *paragraph("four"), ("W", 33), "e went.", "3"],
    ]
    book = read_document(write_pdf(tmp_path / "book.pdf", pages))
    first, second = book.chapters
    assert first == Chapter(
        "Arrival in the Rain", (joined("one"), "The Gate.", joined("two")), ("The Garden.", "A. Writer.")
    )
    assert (second.title, second.paragraphs) == ("Chapter 2. Storm", (joined("three"), joined("four"), "W e went."))
    assert book.title == "The Garden"


@pytest.mark.parametrize(
    ("lines", "titles"),
    [
        ([[("Large", 20), *paragraph("one")], paragraph("two")], [""]),  # one heading is no chapters
        ([[("Slide", 20), "A."], [("Slide two", 20), "B."]], [""]),
        (
            [["Chapter 1", *paragraph("one")], [("Note", 13), *paragraph("two")], ["Chapter 2", "B."]],
            ["Chapter 1", "Chapter 2"],
        ),
    ],
)
def test_larger_lines_that_are_not_the_headings_of_chapters_are_text(
    tmp_path: Path, lines: list[Page], titles: list[str]
) -> None:
    book = read_document(write_pdf(tmp_path / "book.pdf", lines))
    assert [chapter.title for chapter in book.chapters] == titles


@pytest.mark.parametrize(
    ("heads", "are_running"),
    [
        (["The Storm", "", "The Storm", "", "The Storm"], True),
        (
            [*[""] * 40, "The Storm", "", "The Storm", "", "The Storm", *[""] * 40],
            True,
        ),  # of one chapter in a long book
        (["Yes.", *[""] * 9, "Yes.", *[""] * 9, "Yes."], False),
        (["Chapter 1", "", "Chapter 2", "", "Chapter 3"], False),
        (["Chapter 1", "Chapter 1", "Chapter 1", "Chapter 2", "Chapter 2"], True),
        (["The Storm 1", "The Storm 2", "The Storm 3"], True),
    ],
)
def test_running_heads_are_lines_that_repeat_on_pages_close_to_each_other(heads: list[str], are_running: bool) -> None:
    found = running_lines([[Line(head or "x" * number)] for number, head in enumerate(heads)])
    assert bool({pattern for pattern, _ in found} & {"the storm", "the storm #", "yes.", "chapter #"}) == are_running


def columns(step: int, widths: tuple[int, ...] = (72, 320)) -> Page:
    """Lines of two columns that were drawn from column to column, below a title and above the number of the page."""
    lines = [f"and line {number} of this long column" for number in range(20)]
    drawn: Page = [("The Garden in the Rain", 11, 200, 750)]
    for at in range(10):
        for column, x in enumerate(widths):
            drawn.append((lines[10 * column + at], 11, x, 700 - 14 * at - step * column))
    return [*drawn, ("7", 11, 300, 40)]


@pytest.mark.parametrize("step", [0, 5])
def test_columns_that_are_drawn_line_by_line_are_read_one_after_the_other(tmp_path: Path, step: int) -> None:
    book = read_document(write_pdf(tmp_path / "a.pdf", [columns(step)]))
    text = " ".join(f"and line {number} of this long column" for number in range(20))
    assert book.chapters[0].paragraphs == ("The Garden in the Rain", text)


def test_the_rows_of_a_table_and_pieces_of_a_line_are_read_across(tmp_path: Path) -> None:
    table = [
        (cell, 11, x, 700 - 14 * row) for row in range(12) for cell, x in ((f"Plant {row}", 72), ("Red and blue", 320))
    ]
    pieces = [(word, 11, 72 + 25 * at, 500) for at, word in enumerate(("A", "line", "in", "pieces."))]
    (chapter,) = read_document(write_pdf(tmp_path / "a.pdf", [[*table, *pieces]])).chapters
    assert chapter.paragraphs[3:5] == ("Plant 3, Red and blue.", "Plant 4, Red and blue.")
    assert chapter.paragraphs[-1] == "A line in pieces."


def test_numbers_of_headings_and_powers_are_read_as_such(tmp_path: Path) -> None:
    lines: Page = [
        ("2.1", 11, 72, 700),
        ("Stars", 11, 150, 700),
        ("Red", 11, 72, 680),
        ("5", 11, 200, 680),
        ("About 10", 11, 72, 660),
    ]
    lines += [("6", 7, 117, 660), ("of H", 11, 124, 660), ("2", 7, 144, 658), ("O.", 11, 148, 660)]
    (chapter,) = read_document(write_pdf(tmp_path / "a.pdf", [lines])).chapters
    assert chapter.paragraphs == ("2.1 Stars.", "Red, 5.", "About 10⁶ of H2O.")


def test_footnotes_of_a_pdf_are_left_out_with_their_marks(tmp_path: Path) -> None:
    page: Page = [
        *((line, 11, 72, 700 - 14 * at) for at, line in enumerate(paragraph("one"))),
        ("1", 7, 240, 662),
        ("The next line has a square of 3 m", 11, 72, 644),
        ("2", 7, 250, 648),
        ("and the 4", 11, 72, 630),
        ("th", 7, 118, 634),
        ("line ends.", 11, 130, 630),
        ("*", 7, 190, 634),
    ]
    notes: Page = [
        ("1", 6, 72, 123),
        ("See the second volume of", 9, 78, 120),
        ("the letters.", 9, 72, 109),
        ("* Or so.", 9, 72, 98),
    ]
    small: Page = [("Table 2", 9, 72, 300), ("2 is a number.", 9, 72, 289), ("And so on.", 11, 72, 270)]
    book = read_document(write_pdf(tmp_path / "a.pdf", [[*page, *notes], [*page, *small]]))
    line = "The next line has a square of 3 m² and the 4th line ends."
    kept = (f"{joined('one')}¹ {line}*", "Table 2", "2 is a number.", "And so on.")
    assert book.chapters[0].paragraphs == (joined("one"), line, *kept)
    assert book.omitted == {"footnotes": 2}


def test_a_footnote_may_go_on_on_the_next_page(tmp_path: Path) -> None:
    def page(number: int, *notes: str) -> Page:
        text = [(line, 11, 72, 700 - 14 * at) for at, line in enumerate(paragraph(NUMBERS[number]))]
        return [*text, (str(number), 7, 240, 662), *((note, 9, 72, 120 - 11 * at) for at, note in enumerate(notes))]

    pages = [
        page(1, "1 See the second", "volume of the"),
        page(2, "letters of her", "aunt.", "2 Or so."),
        page(3, "other words."),
    ]
    (chapter,) = read_document(write_pdf(tmp_path / "a.pdf", pages)).chapters
    assert " ".join(chapter.paragraphs) == " ".join(
        [joined("two"), joined("three"), joined("four") + "³", "other words."]
    )


def test_a_paragraph_goes_across_pages(tmp_path: Path) -> None:
    pages = [[*paragraph("one")[:3], "1"], [paragraph("one")[3], "2"]]
    (chapter,) = read_document(write_pdf(tmp_path / "book.pdf", pages)).chapters
    assert chapter.paragraphs == (joined("one"),)


def test_a_word_document_has_headings_and_tables(tmp_path: Path) -> None:
    docx = pytest.importorskip("docx")
    document = docx.Document()
    for number in (1, 2):
        document.add_heading(f"Letter {number}", 1)
        document.add_paragraph("Dear friend,")
    table = document.add_table(1, 2)
    table.rows[0].cells[0].text, table.rows[0].cells[1].text = "Yours", "A. W."
    document.save(str(tmp_path / "letters.docx"))
    book = read_document(tmp_path / "letters.docx")
    assert [chapter.title for chapter in book.chapters] == ["Letter 1", "Letter 2"]
    assert book.chapters[-1].paragraphs == ("Dear friend,", "Yours, A. W.")


LONG = "A preface that is read before the first letter. " * 5
PAGE = [("Title", "Letters"), ("Subtitle", "A Novel"), ("Normal", "by A. Writer")]
LETTERS = [("Heading 1", "One"), ("Normal", "Dear friend."), ("Heading 1", "Two"), ("Normal", "Yours.")]


@pytest.mark.parametrize(
    ("lines", "title", "author", "opening", "chapters"),
    [
        (PAGE + LETTERS, "Letters", "A. Writer", ("Letters.", "A Novel.", "by A. Writer."), ["One", "Two"]),
        (
            [PAGE[0], ("Title", "and Cards"), *LETTERS],
            "Letters and Cards",
            "X",
            ("Letters.", "and Cards."),
            ["One", "Two"],
        ),
        (
            [("Normal", "A. Writer"), *PAGE[:2], *LETTERS[:2]],
            "Letters",
            "X",
            ("A. Writer.", "Letters.", "A Novel."),
            ["One"],
        ),
        ([PAGE[0], ("Normal", LONG), *LETTERS], "Letters", "X", (), ["Letters", "One", "Two"]),
        (PAGE, "Letters", "X", (), ["Letters"]),
        ([PAGE[0], LETTERS[1], PAGE[0], LETTERS[1]], "File", "X", (), ["Letters", "Letters"]),
        ([*LETTERS, PAGE[0]], "File", "X", (), ["One", "Two", "Letters"]),
        (LETTERS, "File", "X", (), ["One", "Two"]),
    ],
)
def test_the_title_page_of_a_word_document_opens_its_first_chapter(
    tmp_path: Path,
    lines: list[tuple[str, str]],
    title: str,
    author: str,
    opening: tuple[str, ...],
    chapters: list[str],
) -> None:
    docx = pytest.importorskip("docx")
    document = docx.Document()
    document.core_properties.title, document.core_properties.author = "File", "X"
    for style, text in lines:
        document.add_paragraph(text, style)
    document.save(str(tmp_path / "letters.docx"))
    book = read_document(tmp_path / "letters.docx")
    assert (book.title, book.author, book.chapters[0].opening) == (title, author, opening)
    assert [chapter.title for chapter in book.chapters] == chapters


def test_a_word_document_is_read_as_it_is_shown(tmp_path: Path) -> None:
    docx = pytest.importorskip("docx")
    from docx.oxml import parse_xml

    def run(text: str, around: str = "{}", properties: str = "") -> object:
        word = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
        element = around.format(f"<w:r>{properties}<w:t xml:space='preserve'>{text}</w:t></w:r>")
        return parse_xml(element.replace(">", f' xmlns:w="{word}">', 1))

    document = docx.Document()
    paragraph = document.add_paragraph("Dear")._p
    paragraph.append(run(" old", "<w:ins>{}</w:ins>"))
    paragraph.append(run(" moved", "<w:moveFrom>{}</w:moveFrom>"))
    paragraph.append(run(" hidden", properties="<w:rPr><w:vanish/></w:rPr>"))
    paragraph.append(run(" friend", "<w:sdt><w:sdtContent>{}</w:sdtContent></w:sdt>"))
    paragraph.append(run(", hi", properties='<w:rPr><w:vanish w:val="0"/></w:rPr>'))
    document.element.body.insert(0, run("In a control.", "<w:sdt><w:sdtContent><w:p>{}</w:p></w:sdtContent></w:sdt>"))
    contents = '<w:sdt><w:sdtPr><w:docPartObj><w:docPartGallery w:val="Table of Contents"/></w:docPartObj></w:sdtPr>'
    document.element.body.insert(0, run("Page 1", contents + "<w:sdtContent><w:p>{}</w:p></w:sdtContent></w:sdt>"))
    document.save(str(tmp_path / "a.docx"))
    book = read_document(tmp_path / "a.docx")
    assert book.chapters[0].paragraphs == ("In a control.", "Dear old friend, hi")


def test_a_page_that_is_not_utf_8_is_read_as_windows_1252(tmp_path: Path) -> None:
    path = write_epub(tmp_path / "a.epub", {"1.xhtml": "x"})
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, b"<html><body><p>Caf\xe9 \x93x\x94</p></body></html>" if "1.x" in name else data)
    assert read_document(path).chapters[0].paragraphs == ("Café “x”",)


def test_rich_text_is_read(tmp_path: Path) -> None:
    pytest.importorskip("striprtf")
    path = tmp_path / "a.rtf"
    path.write_bytes(rb"{\rtf1\ansi{\fonttbl\f0 Arial;}\f0 Chapter 1\par It\'92s {\b late}.\par}")
    (chapter,) = read_document(path).chapters
    assert chapter == Chapter("Chapter 1", ("It’s late.",))


def test_hidden_and_deleted_words_of_rich_text_are_not_read(tmp_path: Path) -> None:
    pytest.importorskip("striprtf")
    path = tmp_path / "a.rtf"
    path.write_bytes(
        rb"{\rtf1\ansi Seen {\v hidden {\b words} more}text.\par \v secret\v0 End \v gone \plain back {\deleted old}new.\par}"
    )
    assert read_document(path).chapters[0].paragraphs == ("Seen text.", "End back new.")


CONTENTS_LINES = [
    "Contents",
    "Preface ..... v",
    "The Gate ........ 1",
    "The Storm ........ 12",
    "The Gate",
    "It was dark.",
]


def test_tables_of_contents_are_left_out_of_all_kinds_of_documents(tmp_path: Path) -> None:
    docx, _ = pytest.importorskip("docx"), pytest.importorskip("striprtf")
    (tmp_path / "a.rtf").write_text("{\\rtf1\\ansi " + "\\par ".join(CONTENTS_LINES) + "\\par}")
    write_pdf(tmp_path / "a.pdf", [CONTENTS_LINES[:3], CONTENTS_LINES[3:]])
    document = docx.Document()
    for line in CONTENTS_LINES:
        document.add_paragraph(line.replace(" ........ ", "\t"))
    document.save(str(tmp_path / "a.docx"))
    with zipfile.ZipFile(tmp_path / "a.odt", "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.text")
        lines = "".join(f"<text:p>{line}</text:p>" for line in CONTENTS_LINES)
        archive.writestr(
            "content.xml", ODT[: ODT.index("<text:tracked-changes>")] + lines + ODT[ODT.index("</office:text>") :]
        )
    for ending in ("rtf", "pdf", "docx", "odt"):
        book = read_document(tmp_path / f"a.{ending}")
        assert [*book.chapters[0].paragraphs] == ["The Gate", "It was dark."], ending
        assert book.omitted == {"contents pages": 1}


def test_the_references_of_a_paper_are_left_out_with_their_citations(tmp_path: Path) -> None:
    lines = [
        "It is shown [2, 3] that this",
        "works [1].",
        "5 References",
        "[1] A. Doe, in Proc. of",
        "the C.",
        "[2] B.",
        "[3] D.",
        "Appendix",
        "More.",
    ]
    book = read_document(write_pdf(tmp_path / "a.pdf", [lines[:5], lines[5:]]))
    assert book.chapters[0].paragraphs == ("It is shown that this works.", "Appendix", "More.")
    assert book.omitted == {"lists of references": 1}


def test_items_of_rich_text_have_their_numbers_and_no_bullets(tmp_path: Path) -> None:
    pytest.importorskip("striprtf")
    path = tmp_path / "a.rtf"
    path.write_bytes(
        rb"{\rtf1\ansi{\fonttbl{\f3 Symbol;}}{\listtext\pard\plain\f3 \'b7\tab}Milk\par{\listtext o\tab}Eggs\par"
        rb"{\listtext\pard\plain 1.\tab}\ls2 Open\par{\pntext\f0 b)\tab}{\*\pn\pndec}Go in\par{\listtext 1.2\tab}So\par}"
    )
    assert read_document(path).chapters[0].paragraphs == ("Milk", "Eggs", "1. Open", "b) Go in", "1.2 So")


def test_a_word_document_has_the_numbers_of_its_lists_and_its_text_boxes(tmp_path: Path) -> None:
    docx = pytest.importorskip("docx")
    from docx.oxml import parse_xml

    namespace = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
    document = docx.Document()
    levels = (("decimal", "%1."), ("lowerLetter", "%2)"), ("decimal", "%1.%3"), ("bullet", "o"))
    numbering = document.part.numbering_part.element
    definition = "".join(
        f'<w:lvl w:ilvl="{at}"><w:start w:val="1"/><w:numFmt w:val="{form}"/><w:lvlText w:val="{text}"/></w:lvl>'
        for at, (form, text) in enumerate(levels)
    )
    numbering.insert(0, parse_xml(f'<w:abstractNum {namespace} w:abstractNumId="99">{definition}</w:abstractNum>'))
    again = '<w:lvlOverride w:ilvl="0"><w:startOverride w:val="5"/></w:lvlOverride>'
    for number, change in ((98, ""), (99, again)):
        numbering.append(
            parse_xml(f'<w:num {namespace} w:numId="{number}"><w:abstractNumId w:val="99"/>{change}</w:num>')
        )

    def add(text: str, level: int, number: int = 98) -> None:
        properties = document.add_paragraph(text)._p.get_or_add_pPr()
        properties.append(
            parse_xml(f'<w:numPr {namespace}><w:ilvl w:val="{level}"/><w:numId w:val="{number}"/></w:numPr>')
        )

    for text, level in (("A", 0), ("x", 1), ("y", 1), ("z", 2), ("m", 3), ("", 0), ("C", 0), ("w", 1)):
        add(text, level)
    add("E", 0, 99)
    document.add_paragraph("First", style="List Number")
    document.add_paragraph("Milk", style="List Bullet")
    document.add_paragraph("Chapter 1\t5", style="TOC Heading")
    box = f"<w:txbxContent {namespace}><w:p><w:r><w:t>In a box.</w:t></w:r></w:p></w:txbxContent>"
    shape = f'<w:r {namespace} xmlns:m="m"><m:Choice>{box}</m:Choice><m:Fallback>{box}</m:Fallback></w:r>'
    document.add_paragraph("After it.")._p.append(parse_xml(shape))
    document.save(str(tmp_path / "a.docx"))
    assert read_document(tmp_path / "a.docx").chapters[0].paragraphs == (
        *("1. A", "a) x", "b) y", "1.1 z", "m", "3. C", "a) w", "5. E", "1. First", "Milk", "After it.", "In a box."),
    )


NOTEBOOK = {
    "cells": [
        {
            "cell_type": "markdown",
            "source": ["# Growth\n", "\n", "It is **fast**: $x^2$.\n", "```\n# no heading\n```\n## Part B\nMore."],
        },
        {"cell_type": "code", "source": "x = 1", "outputs": [{"text": "1"}]},
        {"cell_type": "markdown", "source": "# Next\nEnd."},
    ],
    "nbformat": 4,
}


def test_the_text_cells_of_a_notebook_are_read(tmp_path: Path) -> None:
    for name in ("a.ipynb", "a.json"):
        (tmp_path / name).write_text(json.dumps(NOTEBOOK), encoding="utf-8")
        book = read_document(tmp_path / name)
        assert book.chapters == (
            Chapter("Growth", ("It is fast: x squared.", "Part B.", "More.")),
            Chapter("Next", ("End.",)),
        )
        assert book.omitted == {"code cells": 1}


def test_headings_tables_and_facts_of_rtf_are_read_as_such(tmp_path: Path) -> None:
    pytest.importorskip("striprtf")
    path = tmp_path / "a.rtf"
    path.write_bytes(
        rb"{\rtf1\ansi{\stylesheet{\s1\outlinelevel0 heading 1;}}{\info{\title Caf\'e9}{\author Jane Doe}}\pard\s1\outlinelevel0 The Gate\par"
        rb"\pard It was | dark.\par\trowd\pard\intbl Bob\cell 5\cell\row{{\pard\intbl Ann\par}\cell}{{\pard\intbl 6\par}\cell}\row"
        rb"\pard\s1\outlinelevel0 The Calm\par\pard End.\par}"
    )
    book = read_document(path)
    assert (book.title, book.author) == ("Café", "Jane Doe")
    assert book.chapters == (
        Chapter("The Gate", ("It was | dark.", "Bob, 5.", "Ann, 6.")),
        Chapter("The Calm", ("End.",)),
    )


ODT = (
    '<office:document-content xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0" '
    'xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0" xmlns:table="urn:oasis:names:tc:opendocument:xmlns:table:1.0" '
    'xmlns:style="urn:oasis:names:tc:opendocument:xmlns:style:1.0" xmlns:draw="urn:oasis:names:tc:opendocument:xmlns:drawing:1.0">'
    '<office:automatic-styles><style:style style:name="P1" style:parent-style-name="Title"/></office:automatic-styles><office:body>'
    "<office:text><text:tracked-changes><text:p>deleted</text:p></text:tracked-changes><text:p text:style-name='P1'>Walks</text:p>"
    "<text:table-of-content><text:p>One 1</text:p></text:table-of-content><text:h text:outline-level='1'>One</text:h>"
    "<text:p>It was<text:s/>dark<text:note><text:p>A note.</text:p></text:note>.<text:line-break/>He <text:span>slept</text:span>.</text:p>"
    "<text:list><text:list-item><text:p>First</text:p></text:list-item></text:list><text:p><draw:frame/></text:p><table:table>"
    "<table:table-row><table:table-cell><text:p>Bob</text:p></table:table-cell><table:table-cell><text:p>5</text:p></table:table-cell>"
    "</table:table-row></table:table><text:h text:outline-level='1'>Two</text:h><text:p>End.</text:p></office:text></office:body>"
    "</office:document-content>"
)
FB2 = (
    '<?xml version="1.0" encoding="utf-8"?><FictionBook xmlns="http://www.gribuser.ru/xml/fictionbook/2.0" '
    'xmlns:l="http://www.w3.org/1999/xlink"><description><title-info><author><first-name>Jane</first-name><last-name>Doe</last-name>'
    "</author><book-title>Walks</book-title><lang>en</lang></title-info></description><body><section><title><p>One</p><p>The Gate</p></title>"
    '<p>It was dark.<a l:href="#n1" type="note">[1]</a></p><empty-line/><poem><stanza><v>Red</v><v>Blue</v></stanza></poem></section>'
    '<section><title><p>Two</p></title><p>End.</p></section></body><body name="notes"><section id="n1"><p>A note.</p></section></body>'
    '<binary id="c">iVBORw0KGgo</binary></FictionBook>'
)


def test_opendocument_texts_are_read_by_their_headings(tmp_path: Path) -> None:
    path = tmp_path / "a.odt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.text")
        archive.writestr("content.xml", ODT.replace("outline-level='1'>Two", "outline-level='x'>Two"))
    book = read_document(path)
    assert book.chapters == (
        Chapter("Walks", ()),
        Chapter("One", ("It was dark.\nHe slept.", "First", "Bob, 5.")),
        Chapter("Two", ("End.",)),
    )
    assert book.omitted == {"footnotes": 1, "images": 1}


def test_opendocument_texts_have_the_numbers_of_their_lists_and_headings_and_their_text_boxes(tmp_path: Path) -> None:
    def level(number: int, form: str, more: str = "") -> str:
        return f"<text:level text:level='{number}' style:num-format='{form}' style:num-suffix='.'{more}/>"

    def item(inside: str, start: str = "") -> str:
        return f"<text:list-item{start}>{inside}</text:list-item>"

    lists = f"<text:list-style style:name='L1'>{level(1, '1')}{level(2, 'a')}{level(3, '')}</text:list-style></office:automatic-styles>"
    inner = f"<text:list>{item('<text:p>x</text:p>')}{item('<text:p>y</text:p>')}</text:list>"
    text = (
        f"<text:list text:style-name='L1'>{item(f'<text:p>A</text:p>{inner}<text:p>more</text:p>')}{item('<text:p>B</text:p>')}</text:list>"
        f"<text:list text:style-name='L1' text:continue-numbering='true'>{item('<text:p>C</text:p>')}</text:list>"
        + f"<text:list text:style-name='L1'>{item('<text:p>D</text:p>')}{item('<text:p>E</text:p>', ' text:start-value=' + repr('7'))}</text:list>"
        "<text:p>By it.<draw:frame><draw:text-box><text:p>In a box.</text:p></draw:text-box></draw:frame></text:p>"
        "<text:h text:outline-level='1'>Three"
    )
    outline = ODT[: ODT.index("<office:automatic-styles>")].replace("document-content", "document-styles")
    outline += f"<text:outline-style>{level(1, 'I')}</text:outline-style></office:document-styles>"
    path = tmp_path / "a.odt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.text")
        content = ODT.replace("</office:automatic-styles>", lists).replace("<text:h text:outline-level='1'>Two", text)
        archive.writestr("content.xml", content)
        archive.writestr("styles.xml", outline)
    _, one, three = read_document(path).chapters
    assert (one.title, three.title) == ("I. One", "II. Three")
    assert one.paragraphs[-10:] == (
        "1. A",
        "a. x",
        "b. y",
        "more",
        "2. B",
        "3. C",
        "1. D",
        "7. E",
        "By it.",
        "In a box.",
    )


def test_fictionbooks_are_read_by_their_sections(tmp_path: Path) -> None:
    path = tmp_path / "a.fb2"
    path.write_text(FB2, encoding="utf-8")
    book = read_document(path)
    assert (book.title, book.author, book.language) == ("Walks", "Jane Doe", "en")
    assert book.chapters == (
        Chapter("One. The Gate", ("It was dark.", "[pause:1]", "Red\nBlue")),
        Chapter("Two", ("End.",)),
    )
    assert book.omitted == {"footnotes": 1}
    path.write_text(FB2[:-20], encoding="utf-8")
    with pytest.raises(UsageError, match="is not XML"):
        read_document(path)


def test_the_words_of_a_message_are_read(tmp_path: Path) -> None:
    message = EmailMessage()
    message["From"], message["Subject"], message["Message-ID"] = "Renée Smith <r@example.com>", "Café tomorrow", "<1@x>"
    message.set_content(
        "Hi Bob,\n\nat nine.\n\nOn Sunday Bob <b@example.com>\nwrote:\n> When?\n> Where?\n\nBest,\nRenée\n-- \nCEO\n"
    )
    message.add_alternative("<p>Hi</p>", subtype="html")
    message.add_attachment(b"x", maintype="application", subtype="pdf", filename="a.pdf")
    for name in ("a.eml", "a.txt"):
        (tmp_path / name).write_bytes(bytes(message))
        letter = read_document(tmp_path / name)
        assert (letter.title, letter.author) == ("Café tomorrow", "Renée Smith")
        assert letter.chapters == (Chapter("Café tomorrow", ("Hi Bob,", "at nine.", "Best,\nRenée")),)
        assert letter.omitted == {"attachments": 1, "quotations": 1}


@pytest.mark.parametrize(
    ("content", "paragraphs"),
    [
        (b"Content-Type: text/html; charset=iso-8859-1\r\n\r\n<p>Caf\xe9.</p><p>Bye.</p>", ("Café.", "Bye.")),
        (b"Content-Type: text/plain; charset=nonsense\r\n\r\nHello.", ("Hello.",)),
        (b"\r\n> Hello.\r\n", ("Hello.",)),
        (b"\r\n---- Forwarded message ----\r\nFrom: c@d.e\r\n\r\nHello.\r\n", ("Hello.",)),
        (b"\r\nYes.\r\n\r\nFrom: Bob <b@c.d>\r\nSent: Monday\r\nTo: Jane\r\n\r\nWhen?\r\n", ("Yes.",)),
        (b"\r\nYes.\r\n\r\nSent from my iPhone\r\n", ("Yes.",)),
        (
            b"\r\n-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA256\n\nYes.\n-----BEGIN PGP SIGNATURE-----\n\niQIz\n",
            ("Yes.",),
        ),
        (
            b"Content-Type: text/html\r\n\r\n<p>Caf\xc3\xa9.</p><div class=gmail_quote>On Monday <p>Old.</p></div>",
            ("Café.",),
        ),
        (
            b"Content-Type: text/html\r\n\r\n<p>Yes.</p><blockquote type=cite>Old.</blockquote><p>No.</p>",
            ("Yes.", "No."),
        ),
        (
            b"Content-Type: text/html\r\n\r\n<p>Yes.</p><p><b>From:</b> Bob<br><b>Sent:</b> Monday</p><p>Old.</p>",
            ("Yes.",),
        ),
        (
            b"Content-Type: text/html\r\n\r\n<div class=gmail_quote><p>All is a quotation.</p></div>",
            ("All is a quotation.",),
        ),
        (
            b"Content-Type: multipart/alternative; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\n\r\n"
            b"--b\r\nContent-Type: text/html\r\n\r\n<p>Here.</p>\r\n--b--\r\n",
            ("Here.",),
        ),
    ],
)
def test_messages_of_all_kinds_are_read(tmp_path: Path, content: bytes, paragraphs: tuple[str, ...]) -> None:
    path = tmp_path / "a.eml"
    path.write_bytes(b"From: a@example.com\r\nSubject: X\r\n" + content)
    assert read_document(path).chapters == (Chapter("X", paragraphs),)


def test_each_message_of_a_mailbox_is_a_chapter(tmp_path: Path) -> None:
    path = tmp_path / "box.mbox"
    path.write_text(
        "From a@b.c Mon Nov 30 15:49:17 2026\nFrom: A <a@b.c>\nSubject: One\n\nHello.\n\n>From here on.\n\n"
        "From a@b.c Mon Nov 30 15:50:17 2026\nFrom: A <a@b.c>\nSubject: Two\n\nBye.\n",
        encoding="utf-8",
    )
    assert kind_of(path) == "mbox"
    assert read_document(path).chapters == (Chapter("One", ("Hello.", "From here on.")), Chapter("Two", ("Bye.",)))


def test_lines_with_colons_are_no_message(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("From: Anna\nTo: Bob\n\nHello.", encoding="utf-8")
    assert kind_of(path) is None


def test_headings_of_the_highest_repeated_level_begin_chapters() -> None:
    blocks = [Block("Book", 1), Block("One", 2), Block("a"), Block("part", 3), Block("Two", 2), Block("b")]
    assert chapters_by_heading(blocks) == [Chapter("Book", ()), Chapter("One", ("a", "part.")), Chapter("Two", ("b",))]


# --- hostile files ---


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.epub", b"PK\x03\x04 broken", "ZIP file that is damaged or cut short"),
        ("a.pdf", b"%PDF-1.4 broken", "is damaged"),
        ("a.doc", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "old Word document"),
        ("a.mobi", bytes(60) + b"BOOKMOBI", "Kindle book"),
        ("a.png", b"\x89PNG\r\n", "an image"),
        ("a.rtf", b"{\\rtf1 }", "holds no text"),
        ("a.txt.gz", b"\x1f\x8b\x08", "gzip file"),
        ("a.ipynb", b'{"cells": [', "no notebook"),
        ("a.ipynb", b'{"cells": 5}', "no notebook"),
        ("a.ipynb", b'{"cells": [{"cell_type": "code", "source": ""}]}', "no text cells"),
        ("a.eml", b"From: a@example.com\nSubject: X\n\n", "holds no text"),
    ],
)
def test_a_file_that_is_not_a_book_is_refused_in_a_sentence(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(UsageError, match=message):
        read_document(path)


def test_text_is_not_a_document(tmp_path: Path) -> None:
    path = tmp_path / "plain.epub"
    path.write_text("Only text.", encoding="utf-8")
    assert kind_of(path) is None


def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llasa_cli.documents.archive.MAX_MEMBER_BYTES", 1 << 20)
    pages = {"one.xhtml": "<p>" + "a " * (1 << 20) + "</p>"}
    with pytest.raises(UsageError, match="unpacks to more than"):
        read_document(write_epub(tmp_path / "bomb.epub", pages))


def test_entities_are_not_expanded(tmp_path: Path) -> None:
    path = write_epub(tmp_path / "a.epub", BOOK)
    opf = '<!DOCTYPE p [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><package xmlns="http://www.idpf.org/2007/opf">&b;</package>'
    members = {name: zipfile.ZipFile(path).read(name) for name in zipfile.ZipFile(path).namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, opf if name.endswith(".opf") else data)
    with pytest.raises(UsageError, match="entities"):
        read_document(path)


def test_a_protected_epub_is_refused(tmp_path: Path) -> None:
    encryption = (
        b'<encryption xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><EncryptedData '
        b'xmlns="http://www.w3.org/2001/04/xmlenc#"><EncryptionMethod Algorithm="http://www.w3.org/2001/04/xmlenc#aes128-cbc"/>'
        b"</EncryptedData></encryption>"
    )
    path = write_epub(tmp_path / "a.epub", BOOK, extra={"META-INF/encryption.xml": encryption})
    with pytest.raises(UsageError, match="protected"):
        read_document(path)


def test_a_scanned_pdf_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="images"):
        read_document(write_pdf(tmp_path / "scan.pdf", [[], []]))


def test_a_pdf_with_a_password_says_so(tmp_path: Path) -> None:
    pypdf = pytest.importorskip("pypdf")
    writer = pypdf.PdfWriter(clone_from=write_pdf(tmp_path / "a.pdf", [["Text."]]))
    writer.encrypt("secret", algorithm="RC4-128")
    writer.write(tmp_path / "b.pdf")
    with pytest.raises(UsageError, match="password"):
        read_document(tmp_path / "b.pdf")


def test_a_cover_page_alone_holds_no_text(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no text"):
        read_document(write_epub(tmp_path / "a.epub", {"cover.xhtml": BOOK["cover.xhtml"]}))
