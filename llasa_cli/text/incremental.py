"""Text that is still being written, or too long to hold in memory, in parts that can be spoken at once.

Together the parts are the text; a part ends where a sentence does.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import BinaryIO

from llasa_cli.errors import UsageError
from llasa_cli.text.encoding import STANDARD_INPUT, TextEncoding, detect_stream_encoding, encoding_of_stream
from llasa_cli.text.sentences import column_after, sentence_ends

PIECE_BYTES = 65536
LONGEST_WAIT = 4 * PIECE_BYTES
"""Characters without the end of a sentence that are held before they are cut at a space."""
_PARAGRAPH = re.compile(r"\n\s*\n")
_OPEN_MARKUP = re.compile(r"(?:\[\s*(?:pause|voice)\s*[:=][^\[\]\n]{0,80}|<break\b[^<>]{0,80})\Z", re.IGNORECASE)
"""`[pause: 500`, `[voice:Dr.` or `<break time="1` at the end of the text so far: no place to cut."""


def read_sentences(
    read: Callable[[int], bytes],
    is_more_waiting: Callable[[], bool] | None = None,
    on_warning: Callable[[str], object] | None = None,
    name: str = STANDARD_INPUT,
) -> Iterator[str]:
    """Yield the text of a pipe as it is completed: whole sentences, or a line after which the writer pauses.

    A line end without a pause does not end a part: text that is wrapped at 80 columns would be cut inside its sentences.

    Args:
        read: Returns at most the given number of bytes as soon as there are any, b"" at the end (`read1` of a binary pipe).
        is_more_waiting: Whether `read` would return more at once; None means that it would not.
        on_warning: Receives one sentence if the encoding is a guess.
        name: The name of the pipe, for messages.

    Raises:
        UsageError: The data are binary. Bytes that fit no encoding are replaced (U+FFFD).
    """
    decoder = _StreamDecoder(on_warning, name)
    waiting, column = "", 0
    while True:
        data = read(PIECE_BYTES)
        waiting += decoder.decode(data)
        if not data:
            break
        end = _last_end(waiting, column)
        if _is_line(waiting[end:]) and not (is_more_waiting and is_more_waiting()):
            end = len(waiting)
        if waiting[:end].strip():
            yield waiting[:end]
            column = column_after(waiting[:end], column)
            waiting = waiting[end:]
    if waiting.strip():
        yield waiting


class _StreamDecoder:
    """Decodes a stream as UTF-8, or UTF-16 or UTF-32 by its first bytes, until bytes are not: then as the code page that fits."""

    def __init__(self, on_warning: Callable[[str], object] | None, name: str) -> None:
        self._on_warning, self._name = on_warning, name
        self._decoder: codecs.IncrementalDecoder | None = None
        self._has_utf_8 = False

    def decode(self, data: bytes) -> str:
        """The text of the next bytes; b"" marks the end."""
        if self._decoder is None:
            encoding = detect_stream_encoding(data, self._name)
            if encoding.name.startswith("utf-8"):
                self._decoder = codecs.getincrementaldecoder("utf-8-sig")()  # the mark may be torn between two reads
            else:
                self._decoder = self._open(encoding)
        unfinished = self._decoder.getstate()[0]
        try:
            text = self._decoder.decode(data, final=not data)
        except UnicodeDecodeError:
            rest = unfinished + data
            if rest.startswith(codecs.BOM_UTF8):
                rest, self._has_utf_8 = rest[len(codecs.BOM_UTF8) :], True
            self._decoder = self._open(encoding_of_stream(rest, self._has_utf_8, self._name))
            text = self._decoder.decode(rest, final=not data)
        self._has_utf_8 = self._has_utf_8 or not text.isascii()
        if "\0" in text:
            raise UsageError(f"{self._name} is not text: it has zero bytes.", "Pipe text.")
        return text

    def _open(self, encoding: TextEncoding) -> codecs.IncrementalDecoder:
        if encoding.warning and self._on_warning is not None:
            self._on_warning(encoding.warning)
        return codecs.getincrementaldecoder(encoding.name)(encoding.errors)


def _is_line(text: str) -> bool:
    return (
        text.endswith("\n")
        and bool(text.strip())
        and not re.search(r"[^\W\d_][-‐\u00ad]\s*\Z", text[-100:])
        and not _OPEN_MARKUP.search(text[-100:])
    )


def _last_end(waiting: str, column: int = 0) -> int:
    """The end of the last sentence that no further text can change; 0 if there is none."""
    last = 0
    for end in sentence_ends(waiting, growing=True, column=column):
        if not _OPEN_MARKUP.search(waiting[max(last, end - 100) : end]):
            last = end
    if last or len(waiting) < LONGEST_WAIT:
        return last
    blank = max(waiting.rfind(" "), waiting.rfind("\n"))
    markup = _OPEN_MARKUP.search(waiting[:blank][-100:]) if blank > 0 else None
    if markup:
        blank -= len(markup[0])
    return blank if blank > 0 else len(waiting)


def read_text_file(path: Path, encoding: TextEncoding | None = None) -> Iterator[str]:
    """Read a text file in parts of about 64 KB that end with a paragraph, or else with a sentence.

    Line ends of all systems become "\\n"; a byte order mark goes; letters and their accents become one character. The file is checked to its end before the first part
    is given: a book must not fail at its last page.

    Args:
        encoding: The encoding of the file (see `text.encoding`); None means UTF-8.

    Raises:
        UsageError: The file is missing or empty, or it is not text in this encoding; the message names the byte.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror}.") from error
    with closing(file):
        # A sum, not any(): all of it is looked at.
        if not sum(not piece.isspace() for piece in _decoded(file, path, encoding) if piece):
            raise UsageError(f"{path} is empty.", "Give it words.")
    file = path.open("rb")
    return _parts(_decoded(file, path, encoding), file)


def _parts(pieces: Iterator[str], file: BinaryIO) -> Iterator[str]:
    with closing(file):
        waiting = ""
        for piece in pieces:
            waiting += piece
            end = _last_paragraph(waiting) or _last_end(waiting)
            if waiting[:end].strip():
                yield waiting[:end]
                waiting = waiting[end:]
        if waiting.strip():
            yield waiting


def _last_paragraph(waiting: str) -> int:
    """The beginning of the last blank line, which stays with the text after it, since more blank lines may follow."""
    at = waiting.rstrip().rfind("\n")
    while at > 0:
        before = waiting.rfind("\n", 0, at)
        if before >= 0 and not waiting[before:at].strip():
            return before
        at = before
    return 0


def _decoded(file: BinaryIO, path: Path, encoding: TextEncoding | None = None) -> Iterator[str]:
    """Decode a file as it is read; an error names the byte that is not UTF-8."""
    is_unknown, encoding = encoding is None, encoding or TextEncoding("utf-8")
    name, is_tolerant = encoding.name, encoding.is_damaged or encoding.rest
    decoder = codecs.getincrementaldecoder(name)(encoding.errors if is_tolerant else "strict")
    at = 0  # bytes before `data`
    held = ""  # "\r" whose "\n" may come
    while True:
        try:
            data = file.read1(PIECE_BYTES)  # type: ignore[attr-defined]
        except OSError as error:
            raise UsageError(f"{path} can't be read: {error.strerror}.") from error
        if is_unknown and at == 0 and data.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise UsageError(f"{path} is UTF-16, not UTF-8 text.", "Convert it first: iconv -f utf-16 -t utf-8.")
        if b"\0" in data and name.startswith("utf-8"):
            place = at + data.index(b"\0")
            raise UsageError(f"{path} is not text: byte {place} is zero.", "Text is expected, in UTF-8.")
        unfinished = len(decoder.getstate()[0])
        try:
            text = held + decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            place = at - unfinished + error.start
            raise UsageError(
                f"{path} is not {name.upper()} text: see byte {place}.", "Convert it first: iconv -t utf-8."
            ) from error
        if at == 0:
            text = text.removeprefix("\ufeff")
        at += len(data)
        held = "\r" if text.endswith("\r") and data else ""
        text = text.removesuffix("\r") if held else text
        yield unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))
        if not data:
            return
