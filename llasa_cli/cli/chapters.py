"""`llasa say -f BOOK --chapters`: the chapters that would be read, and what would be left out."""

from __future__ import annotations

from pathlib import Path

from llasa_cli.errors import UsageError


def list_chapters(file: str | None, json: bool) -> None:
    """Print a line for each chapter: number, words, minutes of speech at an audiobook's pace, title.

    Raises:
        UsageError: The file is missing or not a book.
    """
    from llasa_cli.cli.console import as_json, note, result
    from llasa_cli.cli.tables import table_text
    from llasa_cli.documents.document import WORDS_PER_MINUTE
    from llasa_cli.documents.reader import read_document

    if file is None or file == "-":
        raise UsageError("--chapters lists a book.", "Name it with -f.")
    path = Path(file)
    document = read_document(path)
    if document is None:
        raise UsageError(
            f"{path} is a text without chapters.", "Name an EPUB, PDF, DOCX, ODT, RTF, FB2 or notebook file."
        )
    if json:
        chapters = [{"number": n, "title": c.title, "words": c.words} for n, c in enumerate(document.chapters, 1)]
        facts = {"title": document.title, "author": document.author, "language": document.language}
        result(as_json(facts | {"chapters": chapters, "omitted": dict(document.omitted)}))
        return
    rows = [
        (str(number), f"{chapter.words:,}", f"{chapter.words / WORDS_PER_MINUTE:.0f}", chapter.title or "(no heading)")
        for number, chapter in enumerate(document.chapters, 1)
    ]
    title = ", ".join(part for part in (document.title, document.author) if part)
    result(table_text(("chapter", "words", "minutes", "title"), rows, title=title))
    if document.omitted:
        note("left out: " + ", ".join(f"{count} {name}" for name, count in document.omitted.items()))
