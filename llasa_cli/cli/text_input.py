"""The text to speak: from the arguments, a file, or standard input while it is being written."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from llasa_cli.cli.common_options import TextOptions
from llasa_cli.errors import UsageError, os_errors_as

if TYPE_CHECKING:
    from llasa_cli.documents.document import Document

WRITER_PAUSE_S = 0.1
"""A line is spoken even without a mark at its end if no other follows within this time."""
ROW_ENDINGS = (".jsonl", ".ndjson")
"""Files with a turn of a dialogue in each line."""
_FORMAT_OF_ENDING = {
    **dict.fromkeys((".md", ".markdown", ".mdown", ".mkd"), "markdown"),
    ".fountain": "fountain",
}


@dataclass(frozen=True)
class TextInput:
    """A text that may still be growing.

    Attributes:
        parts: The parts of the text, as they become known, without markup other than Markdown.
        size: Bytes; None for a pipe, whose length is unknown.
        markdown: Whether the parts are Markdown.
        path: The file that is read.
        warnings: Messages for the user. Reading a pipe may append more.
        book: The document whose chapters are read; None for another text.
        reread: The parts from the beginning; None for a pipe.
        is_rows: The parts are lines of JSON, one turn of a dialogue each.
        words: The number of its words; None if that is unknown.
        chapters: The number of chapters of a book that are read.
    """

    parts: Iterable[str]
    size: int | None
    markdown: bool = False
    path: Path | None = None
    warnings: list[str] = field(default_factory=list)
    book: Document | None = None
    reread: Callable[[], Iterable[str]] | None = None
    is_rows: bool = False
    words: int | None = None
    chapters: int = 0

    def digest(self) -> str:
        """The SHA-256 of a text that can be read again."""
        assert self.reread is not None
        digest = hashlib.sha256()
        for part in self.reread():
            digest.update(part.encode(errors="replace"))
        return digest.hexdigest()

    def with_voices(self, find: Callable[[str], str], names: Collection[str]) -> TextInput:
        """The same text with marks where the voice changes (see `text.dialogue`), and with its words counted.

        Raises:
            UsageError: A text that can be read twice names an unknown voice. One that grows raises it when it gets there.
        """
        from llasa_cli.text.dialogue import read_dialogue, read_rows
        from llasa_cli.text.marks import CHAPTER, mark
        from llasa_cli.text.markup import split_lines

        def voiced(parts: Iterable[str]) -> Iterator[str]:
            if self.is_rows:
                # Names inside a row's text have no line of their own there.
                return read_dialogue(read_rows(split_lines(parts), find), find)
            return read_dialogue(parts, find, names)

        words, chapters = None, 0
        if self.reread is not None:
            words = 0
            for part in voiced(self.reread()):
                words += len(part.split())
                chapters += part.count(mark(CHAPTER, "")[:-1])
        is_markdown = self.markdown and not self.is_rows
        return replace(self, parts=voiced(self.parts), markdown=is_markdown, words=words, chapters=chapters)


NO_TEXT = TextInput((), None)


def open_text(options: TextOptions, command: str) -> TextInput:
    """The text of the arguments, of a file, or of standard input as it arrives.

    Raises:
        UsageError: The text is missing, given twice or empty, or the file can't be read.
    """
    text, file, text_format = list(options.text), options.file, _text_format(options)
    chapters = (options.book.first_chapter, options.book.last_chapter)
    if text and file:
        raise UsageError("The text is given twice: as arguments and as a file.", "Give one of them.")
    if text and text != ["-"]:
        return _from_arguments(" ".join(text), text_format)
    if file is not None and file != "-":
        path = Path(file)
        if path.is_file():
            book = _book_source(path, chapters, text_format)
            if book is not None:
                return book
        if chapters != (1, None):
            raise UsageError(
                "--from and --to choose chapters of a book.",
                "Name an EPUB, PDF, DOCX, ODT, RTF, FB2 or notebook file with -f.",
            )
        if text_format == "auto":
            text_format = _FORMAT_OF_ENDING.get(path.suffix.lower(), text_format)
        return _from_file(path, text_format)
    if sys.stdin is None or (sys.stdin.isatty() and file is None and not text):
        raise UsageError(
            "There is no text.",
            f'llasa {command} "Good evening." -o evening.wav\n       llasa {command} -f chapter.txt',
        )
    warnings: list[str] = []
    parts = _with_words(_words(_piped(sys.stdin.buffer, warnings), text_format), "The text")
    return TextInput(parts, None, text_format == "markdown", warnings=warnings)


def _text_format(options: TextOptions) -> str:
    if options.markdown is None:
        return options.text_format
    if options.text_format != "auto":
        raise UsageError("--markdown and --text-format are both given.", "Give one of them.")
    return "markdown" if options.markdown else "plain"


def _words(parts: Iterator[str], text_format: str) -> Iterator[str]:
    """The text without its markup. Markdown stays: the chunker reads it with its headings and lists."""
    from llasa_cli.text.markup import read_markup

    return parts if text_format == "markdown" else read_markup(parts, text_format)


def _from_arguments(text: str, text_format: str) -> TextInput:
    """A text of the command line; it is plain text unless a format is given."""

    def parts() -> Iterator[str]:
        return iter([text]) if text_format in ("auto", "plain") else _words(iter([text]), text_format)

    size = len(text.encode(errors="replace"))
    is_markdown = text_format == "markdown"
    return TextInput(_with_words(parts(), "The text"), size, is_markdown, reread=parts)


def _book_source(path: Path, chapters: tuple[int, int | None], text_format: str) -> TextInput | None:
    """The chapters of a document (EPUB, PDF, DOCX, ODT, RTF, FB2, notebook, e-mail); None for a file of text."""
    from llasa_cli.documents.reader import WRITTEN_AS_TEXT, kind_of, read_document, refuse_source

    if text_format == "auto":
        refuse_source(path)
    elif kind_of(path) in WRITTEN_AS_TEXT:
        return None
    document = read_document(path)
    if document is None:
        return None
    first, last = chapters
    if first > len(document.chapters) or (last is not None and last < first):
        raise UsageError(
            f"{path} has {len(document.chapters)} chapters; --from {first}{f' --to {last}' if last else ''} selects none.",
            "List them with --chapters.",
        )
    parts = list(document.parts(first, last))
    size = sum(len(part.encode()) for part in parts)
    words = _with_words(parts, str(path))
    return TextInput(words, size, False, path, book=document, reread=lambda: parts)


def _from_file(path: Path, text_format: str) -> TextInput:
    """A text file or a named pipe, in any encoding."""
    from llasa_cli.text.encoding import detect_encoding
    from llasa_cli.text.incremental import read_text_file

    is_markdown = text_format == "markdown"
    is_rows = text_format == "auto" and path.suffix.lower() in ROW_ENDINGS
    if is_rows:
        text_format = "markdown"  # the lines as they are
    with os_errors_as(f"{path} can't be read", kind=UsageError):
        if not path.is_file():  # <(command) can be read once only, and its length is unknown
            warnings: list[str] = []
            parts = _with_words(_words(_named_pipe(path, warnings), text_format), str(path))
            return TextInput(parts, None, is_markdown, warnings=warnings, is_rows=is_rows)
        encoding = detect_encoding(lambda: path.open("rb"), str(path))
        size = path.stat().st_size

    def read() -> Iterator[str]:
        return _words(read_text_file(path, encoding), text_format)

    return TextInput(
        _with_words(read(), str(path)),
        size,
        is_markdown,
        path,
        [encoding.warning] if encoding.warning else [],
        reread=read,
        is_rows=is_rows,
    )


def _piped(pipe: BinaryIO, warnings: list[str], name: str = "") -> Iterator[str]:
    """The text of a pipe, sentence by sentence."""
    from llasa_cli.text.encoding import STANDARD_INPUT
    from llasa_cli.text.incremental import read_sentences

    read = pipe.read1 if hasattr(pipe, "read1") else pipe.read
    return read_sentences(read, lambda: _is_more_waiting(pipe), warnings.append, name or STANDARD_INPUT)


def _named_pipe(path: Path, warnings: list[str]) -> Iterator[str]:
    with path.open("rb") as pipe:
        yield from _piped(pipe, warnings, str(path))


def _with_words(parts: Iterable[str], name: str) -> Iterator[str]:
    """Pass the parts on. A text without a letter or a digit is refused here, before a model is loaded."""
    rest = iter(parts)
    seen: list[str] = []
    for part in rest:
        seen.append(part)
        if any(character.isalnum() for character in part):
            return chain(seen, rest)
    raise UsageError(
        f"{name} has no words." if "".join(seen).strip() else f"{name} is empty.", "Give at least one word."
    )


def _is_more_waiting(pipe: BinaryIO) -> bool:
    """Whether more input is available within `WRITER_PAUSE_S`, for a writer that writes in pieces."""
    import select

    try:
        return bool(select.select([pipe], [], [], WRITER_PAUSE_S)[0])
    except (OSError, ValueError):
        return False  # Windows can't poll a pipe; a test's stream has no descriptor
