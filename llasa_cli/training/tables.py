"""Tables of recordings -> rows.

- CSV or text whose first line names its columns (comma, tab, `|` or `;` between them)
- JSON lines
- LJSpeech's form without a header: `id|text` or `id|text|normalized text`, with audio in `wavs/id.wav` or `id.wav`;
  and the file lists of VITS and others, `file|text|speaker` or `file|speaker|text`
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from llasa_cli.audio.formats import READ_ENDINGS
from llasa_cli.errors import UsageError, os_errors_as
from llasa_cli.text.tables import BadLine, Numbered, read_cells, read_objects, separator_of, split_names
from llasa_cli.training.rows import NO_AUDIO, NOT_UTF8, Columns, Entry, Problem, Row, normalized

CODES_ENDING = ".npy"
_DELIMITERS = ",\t|;"
_LONGEST_HEADER = 1 << 16
_COMPARED_LINES = 200
_LONGEST_CELL = 1 << 17
"""Characters, and so the most that is lost after a quotation mark that is not closed."""
_MAX_CELL_LINES = 30
"""A cell with more lines follows a quotation mark that is not closed, and holds half the table."""


def read_table(table: Path, columns: Columns, codes: Path | None) -> Iterator[Entry]:
    """The rows of one table.

    Args:
        codes: Folder of `.npy` files that are named after the clips.

    Raises:
        UsageError: The table can't be read, or has no known form.
    """
    with _open(table) as file:
        yield from _TableReader(table, columns, codes).read(file)


def is_table(path: Path, columns: Columns) -> bool:
    """Whether a text file has one of the forms of a table, judged by its first line."""
    with _open(path) as lines:
        first = lines.readline(_LONGEST_HEADER)
    if first.lstrip()[:1] != "{":
        return "|" in first or _header(first, columns) is not None
    try:
        return "text" in columns.find(json.loads(first))
    except ValueError:
        return False


def _open(table: Path) -> Any:
    with os_errors_as(f"{table} can't be read", "Check its permissions.", UsageError):
        with table.open("rb") as file:
            start = file.read(2)
        # Spreadsheets save "Unicode text" as UTF-16. Bytes that are not UTF-8 become marks that `_is_utf8` finds: they
        # spoil their own row, not the table.
        wide = start in (b"\xff\xfe", b"\xfe\xff")
        encoding, errors = ("utf-16", "replace") if wide else ("utf-8-sig", "surrogateescape")
        return table.open(encoding=encoding, errors=errors, newline="")


def _header(first: str, columns: Columns) -> tuple[str, list[str]] | None:
    """The delimiter and the names of the columns in the first line; None if it does not name them."""
    for delimiter in _DELIMITERS:
        names = split_names(first, delimiter)
        found = columns.find(names)
        if "text" in found and {"audio", "codes", "id"} & set(found):
            return delimiter, names
    return None


class _TableReader:
    """Reads one table; the arguments are those of `read_table`."""

    def __init__(self, table: Path, columns: Columns, codes: Path | None) -> None:
        self._table, self._columns, self._codes = table, columns, codes

    def read(self, file: Any) -> Iterator[Entry]:
        first = file.readline(_LONGEST_HEADER)
        skipped = 0 if separator_of(first) is None else 1
        if skipped:
            first = file.readline(_LONGEST_HEADER)
        file.seek(0)
        lines = islice(enumerate(file, start=1), skipped, None)
        header = _header(first, self._columns)
        if first.lstrip()[:1] == "{":
            yield from self._read_json_lines(lines)
        elif header is not None:
            yield from self._read_named_columns(lines, *header)
        elif "|" in first:
            yield from self._read_ljspeech(file)
        else:
            raise UsageError(
                f"The first line of {self._table} does not name the columns audio and text.",
                "Start a table with audio,text or audio,text,speaker, or write id|text as LJSpeech does; "
                "name other columns with --text-column and --audio-column.",
            )

    def _read_named_columns(self, lines: Numbered, delimiter: str, names: list[str]) -> Iterator[Entry]:
        # Tables with tabs or bars are written without quoting; a text may begin with a quotation mark.
        is_plain = delimiter in "|\t"
        found = self._columns.find(names)
        for kind, flag in (("audio", "--audio-column"), ("speaker", "--speaker-column")):
            own = getattr(self._columns, kind)
            if own is not None and kind not in found:
                there = ", ".join(name for name in names if name)
                raise UsageError(f"{self._table} has no column {own}.", f"{flag} takes one of: {there}.")
        rows = read_cells(lines, delimiter, is_quoted=not is_plain, is_strict=False, longest_cell=_LONGEST_CELL)
        for number, cells in islice(rows, 1, None):
            if isinstance(cells, BadLine):
                yield self._problem(number, cells.reason)
            elif any(cell.count("\n") > _MAX_CELL_LINES for cell in cells):
                yield self._problem(number, "a quotation mark is not closed")
            elif any(cell.strip() for cell in cells):
                named = dict(zip(names, map(_unquoted, cells) if is_plain else cells, strict=False))
                yield self._entry(number, {kind: named.get(name) or "" for kind, name in found.items()})

    def _read_json_lines(self, lines: Numbered) -> Iterator[Entry]:
        for number, fields in read_objects(lines):
            if isinstance(fields, BadLine):
                yield self._problem(number, fields.reason)
            else:
                found = self._columns.find(fields)
                yield self._entry(number, {kind: fields[name] for kind, name in found.items()})

    def _read_ljspeech(self, file: Any) -> Iterator[Entry]:
        text_at, speaker_at = _text_and_speaker_columns(file)
        file.seek(0)
        for number, line in enumerate(file, start=1):
            cells = line.rstrip("\r\n").split("|")
            if len(cells) < 2:
                if line.strip():
                    yield self._problem(number, "not in the form id|text")
                continue
            # The third column of LJSpeech is the text with numbers and abbreviations written out.
            text = cells[text_at] if len(cells) > text_at and cells[text_at].strip() else cells[1]
            speaker = cells[speaker_at] if speaker_at and len(cells) > speaker_at else ""
            yield self._entry(number, {"id": cells[0], "text": text, "speaker": speaker})

    def _where(self, number: int) -> str:
        return f"{self._table}:{number}"

    def _problem(self, number: int, reason: str) -> Entry:
        where = self._where(number)
        return Entry(where, str(number), (), lambda: Problem(where, reason))

    def _entry(self, number: int, fields: Mapping[str, Any]) -> Entry:
        row_id, audio = _cell(fields.get("id")), _cell(fields.get("audio"))
        names = [f"{self._table}\nid\n{row_id}"] if row_id else []
        if audio:
            names.append(os.path.join(os.path.dirname(self._table), audio))
        where = self._where(number)
        return Entry(where, row_id or audio or str(number), tuple(names), lambda: self._row(where, fields))

    def _row(self, where: str, fields: Mapping[str, Any]) -> Row | Problem:
        row_id, name, text, speaker = (_cell(fields.get(kind)) for kind in ("id", "audio", "text", "speaker"))
        if not all(_is_utf8(cell) for cell in (row_id, name, text, speaker)):
            return Problem(where, NOT_UTF8)
        name = name or row_id
        row, folder = Row(where, None, text, speaker or None), self._table.parent
        given = fields.get("codes")
        if isinstance(given, list):
            if not all(isinstance(code, int) for code in given):
                return Problem(where, "codes are not whole numbers")
            return normalized(replace(row, codes=tuple(given)))
        if _cell(given):
            return normalized(replace(row, codes=find_file(folder, _cell(given), (CODES_ENDING,))))
        if not name:
            return Problem(where, NO_AUDIO)
        if name.endswith(CODES_ENDING):
            return normalized(replace(row, codes=find_file(folder, name, ())))
        if self._codes is not None:
            return normalized(with_codes(row, self._codes, name))
        return normalized(replace(row, audio=find_file(folder, name, (".wav", ".flac"))))


def _unquoted(cell: str) -> str:
    """Some programs quote in tab-separated files too: the whole cell in quotation marks, those inside doubled."""
    inner = cell[1:-1]
    quoted = len(cell) >= 2 and cell[0] == cell[-1] == '"' and '"' not in inner.replace('""', "")
    return inner.replace('""', '"') if quoted else cell


def _text_and_speaker_columns(lines: Iterable[str]) -> tuple[int, int]:
    """Which columns hold the text and the speaker, 0 where none does: a speaker's name is one word, most texts have several."""
    cells = [line.split("|") for line in islice(lines, _COMPARED_LINES)]
    words = [(len(row[1].split()) > 1, len(row[2].split()) > 1) for row in cells if len(row) > 2]
    if words and words.count((True, False)) >= len(words) / 2:
        return 1, 2
    return (2, 1) if words and words.count((False, True)) >= len(words) / 2 else (2, 0)


def _cell(value: Any) -> str:
    """A cell as text: JSON may hold a number instead."""
    return "" if value is None or isinstance(value, list | dict | bool) else str(value).strip()


def _is_utf8(text: str) -> bool:
    """Whether no part of it came from bytes that are not UTF-8, or from half a UTF-16 pair."""
    return text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)


def find_file(folder: Path, name: str, endings: tuple[str, ...]) -> Path:
    """The file that a table names: as given, beside the table, one folder up, or in `wavs/`; with an ending if need be."""
    base = str(folder)  # joined as text: with a million rows, Path objects would take most of the time
    places = (base, os.path.join(base, "wavs"), os.path.dirname(base) or ".")
    for ending in ("", *endings):
        for place in places:
            candidate = os.path.join(place, name + ending)
            try:
                if stat.S_ISREG(os.stat(candidate).st_mode):
                    return Path(candidate)
            except (OSError, ValueError):  # absent; a name that is too long, or with a NUL in it
                continue
    return folder / name


def with_codes(row: Row, codes: Path | None, name: str) -> Row:
    """The row with the file of its codes in the folder `codes`, named as published scripts do: a.npy, a.wav.npy."""
    if codes is None or row.codes is not None:
        return row
    stem, ending = os.path.splitext(name)
    stem = stem if ending.lower() in READ_ENDINGS else name
    names = [f"{stem}.npy", f"{name}.npy", *(f"{stem}{ending}.npy" for ending in (".wav", ".flac"))]
    candidates = [codes / part for name in names for part in (name, Path(name).name)]
    found = next((path for path in candidates if path.is_file()), codes / names[0])
    return replace(row, codes=found)
