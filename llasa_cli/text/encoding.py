"""The encoding of a text file, and the real format of a file that is not text.

    encoding = detect_encoding(path_open, "list.csv")          refuses a spreadsheet, a PDF, ... with the command that converts it
    if encoding.warning: ...
    file = io.TextIOWrapper(path_open(), encoding.name)

UTF-8 and everything with a byte order mark is certain. For the rest every known code page is tried: its text has to be made of
the letters of one language, with its case rules. Detectors that know no language alphabets confuse the code pages of short
files (charset-normalizer reads a French line in Windows-1252 as Windows-1250).
"""

from __future__ import annotations

import codecs
import io
import re
import zipfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import BinaryIO

from llasa_cli.errors import UsageError

STANDARD_INPUT = "Standard input"
_BLOCK_BYTES = 1 << 16
_SAMPLE_BYTES = 1 << 16
_LONG_ASCII = re.compile(rb"([\x00-\x7f]{200})[\x00-\x7f]*([\x00-\x7f]{200})")
_SEVEN_BITS = (
    ("iso2022_jp", "Japanese (ISO-2022-JP)", re.compile(rb"\x1b\$[@B][!-~]{2,}\x1b\([BJ]")),
    ("iso2022_kr", "Korean (ISO-2022-KR)", re.compile(rb"\x1b\$\)C(?s:.*)\x0e[!-~]{2,}")),
    ("hz", "Chinese (HZ)", re.compile(rb"~\{[0-w][!-~](?:[!-w][!-~]){1,400}?~\}")),
)
"""Encodings of bytes below 128: codec, name for people, and a text in them. That of HZ begins with a frequent character."""
_SURROGATE = re.compile(rb"\xed[\xa0-\xbf][\x80-\xbf]")
"""The bytes that a program writes if it encodes the halves of a surrogate pair separately."""
_ENOUGH = 0.75
"""The share of the characters beyond ASCII that has to fit a language."""


@dataclass(frozen=True)
class TextEncoding:
    """The encoding by which a file is decoded.

    Attributes:
        name: A Python codec.
        warning: A message for the user if the encoding is a guess; else empty.
        is_damaged: The file has bytes that are not UTF-8, and no code page fits them. The caller reports where they are.
        rest: The code page of the lines that are not UTF-8, in a file that is put together; else empty.
    """

    name: str
    warning: str = ""
    is_damaged: bool = False
    rest: str = ""

    @property
    def errors(self) -> str:
        """The error handler of Python's codecs that reads what is not of this encoding, or replaces it."""
        return f"{_REST}{self.rest}" if self.rest else "replace"


def detect_encoding(open_file: Callable[[], BinaryIO], name: str) -> TextEncoding:
    """Find the encoding of a file.

    Args:
        open_file: Opens the file at its beginning. It is called once or twice.
        name: The file's name in messages.

    Raises:
        UsageError: The file is a document, an archive, audio or other binary data.
        OSError: The file can't be read.
    """
    with open_file() as file:
        head = file.read(4096)
    for mark, codec in _BYTE_ORDER_MARKS:
        if head.startswith(mark):
            return TextEncoding(codec)
    _refuse_document(head, open_file, name)
    if found := _without_high_bytes(head, name):
        return found
    with open_file() as file:
        valid, invalid, sample, cut = _count_utf_8(file, name)
    if cut and invalid == len(cut) and (valid or len(cut) > 1 or cut[0] < 0xC4):
        warning = f"{name} ends in the middle of a letter: it was cut short, and its last word is incomplete."
        return TextEncoding("utf-8", warning, is_damaged=True)
    return encoding_of(name, valid, invalid, sample) if invalid else TextEncoding("utf-8")


def detect_stream_encoding(head: bytes, name: str) -> TextEncoding:
    """The encoding of a stream by its first bytes: UTF-8 unless it is UTF-16 or UTF-32.

    Raises:
        UsageError: The stream is a document, an archive, audio or other binary data.
    """
    for mark, codec in _BYTE_ORDER_MARKS:
        if head.startswith(mark):
            return TextEncoding(codec)
    _refuse_document(head, lambda: io.BytesIO(head), name)
    return _without_high_bytes(head[:4096], name) or TextEncoding("utf-8")


def encoding_of_stream(data: bytes, has_utf_8: bool, name: str) -> TextEncoding:
    """The encoding of a stream at its first bytes that are not UTF-8.

    Args:
        data: The bytes that have arrived, from a character that is not UTF-8 or before it.
        has_utf_8: Whether the text so far had characters beyond ASCII.
    """
    valid, invalid = _count_block(data)
    return encoding_of(name, invalid if has_utf_8 else valid, invalid, _extended(b"", data))


def encoding_of(name: str, valid: int, invalid: int, sample: bytes) -> TextEncoding:
    """The encoding of a text that is not UTF-8.

    Args:
        valid: Characters beyond ASCII that are valid UTF-8.
        invalid: Bytes that are not.
        sample: Lines with bytes beyond ASCII.
    """
    damaged = TextEncoding("utf-8", f"{name} has bytes that are not UTF-8.", is_damaged=True)
    if _SURROGATE.search(sample):
        return damaged
    if valid >= invalid:
        others = [line for line in sample.splitlines(keepends=True) if _count_block(line)[1]]
        codec, label = _guess_code_page(b"".join(others))
        if len(others) < _LEAST_OTHERS or not codec or codec not in _SINGLE_BYTES:
            return damaged
        codecs.register_error(f"{_REST}{codec}", _rest_handler(codec))
        warning = f"{name} is UTF-8 with lines that are not; these are read as {label}. Save it as UTF-8 if letters are wrong."
        return TextEncoding("utf-8", warning, rest=codec)
    codec, label = _guess_code_page(sample)
    if not codec:
        return damaged
    return TextEncoding(codec, f"{name} is not UTF-8; it is read as {label}. Save it as UTF-8 if letters are wrong.")


_REST = "llasa-rest-"
_LEAST_OTHERS = 2
"""The lines in a code page of a file in UTF-8 that is put together, not damaged."""


def _rest_handler(codec: str) -> Callable[[UnicodeError], tuple[str, int]]:
    def handle(error: UnicodeError) -> tuple[str, int]:
        if not isinstance(error, UnicodeDecodeError):
            raise error
        return error.object[error.start : error.end].decode(codec, "replace"), error.end

    return handle


# --- files that are not text ---

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_OFFICE = "libreoffice --headless --convert-to {0} {1}"
_DOCUMENTS = (
    (b"%PDF-", "a PDF document", "pdftotext {name} text.txt (llasa say -f {name} reads it as it is)"),
    (b"{\\rtf", "an RTF document", _OFFICE.format("txt:Text", "{name}")),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Office document", _OFFICE.format("csv", "{name}") + " (or txt:Text)"),
    (b"\x1f\x8b", "compressed (gzip)", "gunzip {name}"),
    (b"BZh", "compressed (bzip2)", "bunzip2 {name}"),
    (b"\xfd7zXZ\x00", "compressed (xz)", "unxz {name}"),
    (b"\x28\xb5\x2f\xfd", "compressed (zstd)", "unzstd {name}"),
    (b"PAR1", "a Parquet table", "python -c \"import pandas; pandas.read_parquet('{name}').to_csv('list.csv')\""),
    (b"SQLite format 3\x00", "an SQLite database", ""),
    (b"RIFF", "audio or video", ""),
    (b"fLaC", "audio", ""),
    (b"OggS", "audio", ""),
    (b"ID3", "audio", ""),
    (b"\x89PNG", "an image", ""),
    (b"\xff\xd8\xff", "an image", ""),
    (b"\x7fELF", "a program", ""),
)
_ZIPPED = (
    ("xl/", "an Excel workbook", _OFFICE.format("csv:'Text - txt - csv (StarCalc)':44,34,76", "{name}")),
    (
        "word/",
        "a Word document",
        "pandoc {name} -t plain --wrap=none -o text.txt (llasa say -f {name} reads it as it is)",
    ),
    ("ppt/", "a PowerPoint presentation", _OFFICE.format("pdf", "{name}")),
    (
        "application/epub+zip",
        "an EPUB book",
        "pandoc {name} -t plain --wrap=none -o text.txt (llasa say -f {name} reads it as it is)",
    ),
    ("opendocument.spreadsheet", "an OpenDocument spreadsheet", _OFFICE.format("csv", "{name}")),
    (
        "opendocument",
        "an OpenDocument text",
        "pandoc {name} -t plain --wrap=none -o text.txt (llasa say -f {name} reads it as it is)",
    ),
    ("", "a ZIP archive", "unzip {name}"),
)


def _refuse_document(head: bytes, open_file: Callable[[], BinaryIO], name: str) -> None:
    if head.startswith(b"PK\x03\x04"):
        inside = head.decode("latin-1")
        with suppress(OSError, zipfile.BadZipFile), open_file() as file, zipfile.ZipFile(file) as archive:
            inside += "\n".join(archive.namelist())
        kind, command = next((kind, command) for mark, kind, command in _ZIPPED if mark in inside)
        raise _document_error(name, kind, command)
    for mark, kind, command in _DOCUMENTS:
        if head.startswith(mark):
            raise _document_error(name, kind, command)


def _document_error(name: str, kind: str, command: str) -> UsageError:
    file = "FILE" if name == STANDARD_INPUT else name
    hint = f"Convert it first: {command.format(name=file)}" if command else "Give a text file."
    return UsageError(f"{name} is not text but {kind}.", hint)


def _without_high_bytes(head: bytes, name: str) -> TextEncoding | None:
    """An encoding that may be taken for UTF-8, since its bytes are those of ASCII."""
    for codec, label, written in _SEVEN_BITS:
        if written.search(head):
            return TextEncoding(codec, f"{name} is read as {label}.")
    codec = _utf_16_without_mark(head)
    return TextEncoding(codec, f"{name} has no byte order mark; it is read as UTF-16.") if codec else None


_NEVER_IN_BYTES = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")
"""Bytes that texts in a code page or in UTF-8 do not have. UTF-16 has them for spaces, line ends and full stops."""
_USUAL = re.compile(
    r"[\t\n\f\r -~\u00a0-\u024f\u0370-\u06ff\u0900-\u0eff\u1e00-\u1fff\u2010-\u2026\u20ac\u3000-\u30ff\u4e00-\u9fff\uac00-\ud7a3\uff01-\uffee]"
)
_LEAST_ZEROS, _LEAST_USUAL = 0.3, 0.95
"""The share of bytes that ASCII does not have in a text of ASCII letters, and of characters that a language has."""


def _utf_16_without_mark(head: bytes) -> str:
    """ "utf-16-le" or "utf-16-be" if nearly all characters are letters and marks of a language, else empty."""
    count = len(_NEVER_IN_BYTES.findall(head))
    is_utf_8 = not _count_block(head[: len(head) - len(_cut_letter(head))])[1]
    if not count or (is_utf_8 and count < _LEAST_ZEROS * len(head)):
        return ""
    best, most = "", _LEAST_USUAL
    for codec in ("utf-16-le", "utf-16-be"):
        text = head[: len(head) // 2 * 2].decode(codec, "replace")
        share = len(_USUAL.findall(text)) / max(1, len(text))
        if share > most:
            best, most = codec, share
    return best


def _count_utf_8(file: BinaryIO, name: str) -> tuple[int, int, bytes, bytes]:
    """-> characters beyond ASCII that are valid UTF-8, bytes that are not, the first lines with bytes beyond ASCII, and the
    bytes of a letter that the end of the file cuts

    Raises:
        UsageError: The file has zero bytes in many places: it is binary data.
    """
    valid = invalid = zeros = 0
    sample = b""
    rest = last = b""
    while block := file.read(_BLOCK_BYTES):
        zeros += block.count(0)
        if zeros > 100:
            raise UsageError(f"{name} is not text: it has zero bytes.", "Give a text file in UTF-8.")
        block = rest + block
        last = block
        if block.isascii():
            rest = b""
            continue
        # Characters are not cut: the last line of a block is read with the next one.
        whole = max(block.rfind(b"\n"), block.rfind(b"\r")) + 1 or len(block)
        rest, block = block[whole:], block[:whole]
        counts = _count_block(block)
        valid, invalid = valid + counts[0], invalid + counts[1]
        sample = _extended(sample, block)
    counts = _count_block(rest)
    return valid + counts[0], invalid + counts[1], _extended(sample, rest), _cut_letter(last)


def _cut_letter(text: bytes) -> bytes:
    """The bytes at the end that begin a letter of UTF-8."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    decoder.decode(text)
    return decoder.getstate()[0]


def _count_block(block: bytes) -> tuple[int, int]:
    with suppress(UnicodeDecodeError):
        text = block.decode("utf-8")
        return (0, 0) if text.isascii() else (sum(not c.isascii() for c in text), 0)
    text = block.decode("utf-8", "surrogateescape")
    beyond = [c for c in text if not c.isascii()]
    invalid = sum("\udc80" <= c <= "\udcff" for c in beyond)
    return len(beyond) - invalid, invalid


def _extended(sample: bytes, block: bytes) -> bytes:
    for line in block.splitlines(keepends=True):
        if len(sample) >= _SAMPLE_BYTES:
            break
        if not line.isascii():
            sample += _LONG_ASCII.sub(rb"\1 \2", line)[:_SAMPLE_BYTES]
    return sample


# --- code pages ---

_CYRILLIC = "абвгдежзийклмнопрстуфхцчшщъыьэюяёіїєґўјљњћђџ"
_GREEK = "αβγδεζηθικλμνξοπρστυφχψωςάέήίόύώϊϋΐΰ"
_WESTERN = (
    "àâæçéèêëîïôœùûü",
    "äöüß",
    "áéíñóúüªº",
    "ãáàâçéêíõóôúü",
    "àèéìíîòóùú",
    "æøåéä",
    "åäöé",
    "áðéíóúýþæö",
    "àçèéíïòóúü",
)
_CENTRAL = ("ąćęłńóśźż", "áčďéěíňóřšťúůýž", "áäčďéíĺľňóôŕšťúýž", "áéíóöőúüű", "čćđšž", "ăâîşţ")
_TURKISH = "çğıöşüİâîû"
_TONES = "\u0300\u0301\u0303\u0309\u0323"
_VIETNAMESE = "àáâãèéêìíòóôõùúýăđơư" + _TONES
_HEBREW = "".join(map(chr, range(0x5D0, 0x5EB)))
_ARABIC = "ءآأؤإئابةتثجحخدذرزسشصضطظعغفقكلمنهوىيًٌٍَُِّْپچژگ"
_THAI = "".join(map(chr, [*range(0xE01, 0xE3B), *range(0xE3F, 0xE5C)]))
_VOWELS = set("аеёиоуыэюяіїєў" + "αεηιουωάέήίόύώϊϋΐΰ")
_LEAST_VOWELS = 0.3
"""The share of vowels in Cyrillic and Greek; Hebrew and Thai that are read as these have less."""
_OTHER_SCRIPTS = (_CYRILLIC, _GREEK, _HEBREW, _ARABIC, _THAI)
_TYPOGRAPHY = set("‘’‚“”„–—…«»‹›•·¿¡€£°§©®™½¼¾×\u00a0\u00ad、。，！？：；（）「」『』《》〈〉【】・ー～")
_BLOCKS: dict[str, tuple[tuple[int, int], ...]] = {
    # Lead bytes of the frequent characters, and the least trail byte.
    "cp949": ((0xB0, 0xC8), (0xA1, 0xFE)),
    "euc_jp": ((0xA4, 0xCF), (0xA1, 0xFE)),
    "gb18030": ((0xB0, 0xD7), (0xA1, 0xFE)),
    "big5": ((0xA4, 0xC6), (0x40, 0xFE)),
}
_CODE_PAGES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("cp949", "Korean (EUC-KR)", ()),
    ("euc_jp", "Japanese (EUC-JP)", ()),
    ("cp932", "Japanese (Shift JIS)", ()),
    ("johab", "Korean (Johab)", ()),
    ("gb18030", "Chinese (GBK)", ()),
    ("big5", "Chinese (Big5)", ()),
    ("cp1252", "Windows-1252 (Western European)", _WESTERN),
    ("cp1251", "Windows-1251 (Cyrillic)", (_CYRILLIC,)),
    ("cp1255", "Windows-1255 (Hebrew)", (_HEBREW,)),
    ("koi8_r", "KOI8-R (Cyrillic)", (_CYRILLIC,)),
    ("cp866", "code page 866 (Cyrillic)", (_CYRILLIC,)),
    ("mac_cyrillic", "Mac Cyrillic", (_CYRILLIC,)),
    ("cp1253", "Windows-1253 (Greek)", (_GREEK,)),
    ("koi8_u", "KOI8-U (Cyrillic)", (_CYRILLIC,)),
    ("iso8859_5", "ISO 8859-5 (Cyrillic)", (_CYRILLIC,)),
    ("cp1256", "Windows-1256 (Arabic)", (_ARABIC,)),
    ("iso8859_6", "ISO 8859-6 (Arabic)", (_ARABIC,)),
    ("cp874", "Windows-874 (Thai)", (_THAI,)),
    ("iso8859_15", "ISO 8859-15 (Western European)", _WESTERN),
    ("cp1250", "Windows-1250 (Central European)", _CENTRAL),
    ("iso8859_2", "ISO 8859-2 (Central European)", _CENTRAL),
    ("cp1254", "Windows-1254 (Turkish)", (_TURKISH,)),
    ("cp852", "code page 852 (Central European)", _CENTRAL),
    ("mac_latin2", "Mac Central European", _CENTRAL),
    ("mac_turkish", "Mac Turkish", (_TURKISH,)),
    ("cp1258", "Windows-1258 (Vietnamese)", (_VIETNAMESE,)),
    ("mac_roman", "Mac Roman (Western European)", _WESTERN),
    ("cp850", "code page 850 (Western European)", _WESTERN),
)


_LEAST_HANGUL, _MOST_TORN = 4, 0.1
"""Characters of a text in Johab, and the share of them directly after a Latin letter."""
_SINGLE_BYTES = frozenset(codec for codec, _, alphabets in _CODE_PAGES if alphabets)


def _guess_code_page(sample: bytes) -> tuple[str, str]:
    """-> (codec, name for people) of the code page that fits best; empty strings if none does"""
    best, score = ("", ""), _ENOUGH
    for codec, label, alphabets in _CODE_PAGES:
        with suppress(UnicodeDecodeError):
            fit = _alphabet_fit(sample.decode(codec), codec, alphabets) if alphabets else _east_asian_fit(sample, codec)
            if fit > score:
                best, score = (codec, label), fit
    return best


def _alphabet_fit(text: str, codec: str, alphabets: tuple[str, ...]) -> float:
    """The share of the characters beyond ASCII that are typography, or letters of the best alphabet in a fitting case."""
    beyond = misplaced = 0
    letters: dict[str, int] = {}
    is_other_script = alphabets[0] in _OTHER_SCRIPTS
    for at, character in enumerate(text):
        if character.isascii():
            continue
        beyond += 1
        before = text[at - 1] if at else " "
        # In cp850 a no-break space is the byte 255, which damaged files have.
        after = text[at + 1 : at + 2]
        opens_in_word = (character in "‚„¿¡" or (character in "€‹›§£½¼¾" and after.isalpha())) and before.isalpha()
        if character in _TYPOGRAPHY and not opens_in_word and (character, codec) != ("\u00a0", "cp850"):
            continue
        foreign = is_other_script and before.isascii() and before.isalpha()
        if (
            not (character.isalpha() or character in _THAI or character in _TONES)
            or foreign
            or (character.isupper() and before.islower())
        ):
            misplaced += 1
        else:
            letters[character.lower()] = letters.get(character.lower(), 0) + 1
    if is_other_script and sum(letters.values()) < 0.3 * sum(map(str.isalpha, text)):
        return 0.0  # a stray byte in a Latin text
    count = sum(letters.values())
    if alphabets[0] in (_CYRILLIC, _GREEK) and sum(letters[c] for c in _VOWELS & set(letters)) < _LEAST_VOWELS * count:
        return 0.0  # another script that has letters at the same places
    known = max(sum(count for letter, count in letters.items() if letter in alphabet) for alphabet in alphabets)
    return (beyond - misplaced - sum(letters.values()) + known) / max(1, beyond)


def _east_asian_fit(sample: bytes, codec: str) -> float:
    """The share of the characters beyond ASCII that are frequent in the language of the codec."""
    beyond = frequent = kana = torn = 0
    before = ""
    for character in sample.decode(codec):
        torn += before.isascii() and before.isalpha() and not character.isascii()
        before = character
        if character.isascii():
            continue
        beyond += 1
        kana += "ぁ" <= character <= "ヿ"
        if character in _TYPOGRAPHY:
            frequent += 1
            continue
        with suppress(UnicodeEncodeError):
            data = character.encode("cp949" if codec == "johab" else codec)
            if codec == "cp932":  # kana and first-level kanji; half-width katakana are what other encodings look like
                frequent += len(data) == 2 and ("ぁ" <= character <= "ヿ" or 0x88 <= data[0] <= 0x97)
            else:
                (low, high), (least, most) = _BLOCKS["cp949" if codec == "johab" else codec]
                frequent += len(data) == 2 and low <= data[0] <= high and least <= data[1] <= most
    if codec in ("euc_jp", "cp932") and kana < 0.2 * beyond:
        return 0.0  # Japanese is never written without kana
    if codec == "johab" and (beyond < _LEAST_HANGUL or torn > _MOST_TORN * beyond):
        return 0.0  # its characters may end with the byte of a letter, and begin with that of an accented one
    if torn > beyond / 2:
        return 0.0  # a Latin text
    if codec in ("cp949", "johab") and frequent < 0.9 * beyond:
        return 0.0  # Hangul's bytes are also those of Chinese characters
    return frequent / max(1, beyond)


def open_text(open_file: Callable[[], BinaryIO], encoding: TextEncoding) -> io.TextIOWrapper:
    """Open a file for reading text. Line ends of all systems become "\\n"; bytes that are damaged become U+DC80 to U+DCFF, and
    U+FFFD in UTF-16 and UTF-32."""
    is_wide = encoding.name.startswith(("utf-16", "utf-32"))
    errors = encoding.errors if is_wide or encoding.rest else "surrogateescape"
    return io.TextIOWrapper(open_file(), encoding.name, errors=errors)
