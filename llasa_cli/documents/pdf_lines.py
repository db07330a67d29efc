"""The lines of a PDF page in the order in which they are read: one column after the other, without the footnotes at its foot."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from statistics import median
from typing import Any, NamedTuple

from llasa_cli.documents.document import clean


class Line(str):
    """A line of text.

    Attributes:
        size: The size of its font in points; 0 if that is unknown.
        height: Its height on the page; 0 if that is unknown.
        is_row: It is the row of a table, with commas between the cells.
    """

    size: float
    height: float
    is_row: bool

    def __new__(cls, text: str, size: float = 0.0, height: float = 0.0, is_row: bool = False) -> Line:
        line = super().__new__(cls, text)
        line.size, line.height, line.is_row = size, height, is_row
        return line


class _Piece(NamedTuple):
    """A piece of a line, where it begins on the page, and the size of its font."""

    text: str
    size: float = 0.0
    x: float = 0.0
    y: float = 0.0

    @property
    def end(self) -> float:
        """About where it ends."""
        return self.x + self.size * sum(
            0.3 if c in _NARROW else 0.75 if c.isupper() or c in "mw" else 0.5 for c in self.text.strip()
        )


_WORD_GAP = 0.15
_LABEL = re.compile(r"[\dA-Z.]{1,6}")
"""The number of a heading or an item, which is no cell."""
_CELL_GAP, _LONGEST_CELL = 3, 40
"""The gap between cells of a table in sizes of their font, and the characters of a cell, whose width is only about known."""
_NARROW = frozenset("fijlrt.,:;'’!|()[] ")
_Row = list[_Piece]

# --- lines ---

_MOVES = frozenset((b"Td", b"TD", b"Tm", b"T*", b"'", b'"'))
"""Operators that move the place where text is shown."""
_FLUSH = ([1, 0, 0, 1, 0, 0], b"cm")
"""An operator that changes nothing, and before which pypdf gives the text so far."""


def lines_of(page: Any) -> list[Line]:
    """The lines of a page. Raised marks of notes are between `_RAISED` and `_CLOSE`; `plain_marks` takes these away."""
    from pypdf.generic import NameObject

    content = page.get_contents()
    if content is not None:
        content.operations = [
            part
            for operation in content.operations
            for part in ((_FLUSH, operation) if operation[1] in _MOVES else (operation,))
        ]
        page[NameObject("/Contents")] = content
    pieces: list[_Piece] = []

    def note(text: str, matrix: Sequence[float], text_matrix: Sequence[float], font: Any, size: float) -> None:
        pieces.append(_Piece(text, _in_points(size, matrix, text_matrix), *_place(matrix, text_matrix)))

    text = page.extract_text(visitor_text=note)
    if "".join(piece.text for piece in pieces) != text:
        pieces = [_Piece(text)]
    return [line for row in _in_columns(_rows(pieces)) if (line := _line(row))]


def _in_points(size: float, *matrices: Sequence[float]) -> float:
    """The size that a font has on the page, in half points."""
    for matrix in matrices:
        size *= math.sqrt(abs(matrix[0] * matrix[3] - matrix[1] * matrix[2]))
    return round(2 * abs(size)) / 2 if math.isfinite(size) else 0.0


def _place(matrix: Sequence[float], text_matrix: Sequence[float]) -> tuple[float, float]:
    """Where a piece of text begins, along its direction and across it."""
    a, b, c, d, e, f = matrix
    x, y = (text_matrix[4] * one + text_matrix[5] * other + to for one, other, to in ((a, c, e), (b, d, f)))
    right, up = (text_matrix[0] * one + text_matrix[1] * other for one, other in ((a, c), (b, d)))
    if abs(up) > abs(right):
        x, y = (y, -x) if up > 0 else (-y, x)
    return (x, y) if math.isfinite(x + y) else (0.0, 0.0)


def _rows(pieces: Sequence[_Piece]) -> list[_Row]:
    """The pieces of each line; a line has words, and begins with them."""
    rows: list[_Row] = [[]]
    is_over = False
    for piece in pieces:
        for part in piece.text.splitlines(keepends=True):
            text = part.splitlines()[0]
            found = piece._replace(text=text)
            if text.strip() and is_over and not (rows[-1] and _continues(rows[-1], found)):
                rows.append([])
            elif text.strip() and is_over:
                last = rows[-1].pop()
                is_apart = max(len(last.text), len(text)) > 2 or found.x - last.end > _WORD_GAP * last.size
                rows[-1].append(last._replace(text=last.text.rstrip() + " " * is_apart))
            if text.strip() or (rows[-1] and not is_over):
                rows[-1].append(found)
                is_over = False
            is_over = is_over or text != part
    return [row for row in rows if row]


def _continues(row: _Row, piece: _Piece) -> bool:
    """Whether a piece stands at the height of a row, to the right of it. Some programs end a line after each piece."""
    first, last = row[0], row[-1]
    small, large = sorted((first, piece), key=lambda one: one.size)
    is_mark = small.size <= _MARK_RATIO * large.size and _MARK.fullmatch(small.text.strip()) is not None
    rise = abs(piece.y - first.y) / max(large.size, 1.0)
    return small.size > 0 and last.x < piece.x and rise < (_MOST_RISE if is_mark else _LEAST_RISE)


def _line(row: _Row) -> Line:
    sizes = Counter[float]()
    for piece in row:
        sizes[piece.size] += len(piece.text.strip())
    size = sizes.most_common(1)[0][0]
    height = next(piece.y for piece in row if piece.size == size and piece.text.strip())
    text, is_row, before = "", False, _Piece("")
    for piece in row:
        mark = piece.text.strip()
        if mark and before.text and len(before.text) < _LONGEST_CELL and piece.x - before.end > _CELL_GAP * piece.size:
            is_label = _LABEL.fullmatch(before.text.strip()) is not None and mark[0].isalpha()
            is_row, text = True, text.rstrip() + (", " if text.rstrip()[-1].isalnum() and not is_label else " ")
        before = piece if mark else before
        if piece.size <= _MARK_RATIO * size and _MARK.fullmatch(mark):
            is_power = text[-1:].isdigit() and piece.y >= height
            sign = _RAISED if is_power or piece.y - height > _LEAST_RISE * size else _SMALL
            text = f"{text.rstrip()}{sign}{mark}{_CLOSE}{' ' * piece.text[-1:].isspace()}"
        else:
            text += piece.text
    return Line(clean(text), size, height, is_row)


# --- columns ---

_LEAST_ROWS, _LEAST_SHARE = 6, 0.25
"""How many lines, and what share of them, begin at the margin of a column."""
_LEAST_WIDTH = 7
"""The width of a column in sizes of its font."""
_EDGES = 2
"""Rows at the edge of a page that are no part of its columns if a gap is between."""
_LEAST_CHARACTERS, _LEAST_CONTINUED = 20, 0.25
"""Lines of columns are long, and many continue a sentence; cells of tables do not."""


def _in_columns(rows: list[_Row]) -> list[_Row]:
    """The rows of a page; if they go from column to column, those of each column together.

    A row across all columns, such as a heading, stays between those above it and those below it.
    """
    starts = _margins(rows)
    if len(starts) < 2:
        return rows
    split = [_split(row, starts) for row in rows]
    order = [column for parts in split for column in parts]
    changes = sum(one != other for one, other in pairwise(order))
    texts = ["".join(piece.text for piece in row).strip() for parts in split for row in parts.values()]
    cased = [text for text in texts if text[0].isupper() or text[0].islower()]
    if (
        changes < len(rows) / 3
        or sum(map(len, texts)) < _LEAST_CHARACTERS * len(texts)
        or sum(text[0].islower() for text in cased) < _LEAST_CONTINUED * len(cased)
    ):
        return rows
    full = 1.5 * median(map(len, texts))
    step = 1.8 * median(
        abs(one[0].y - other[0].y)
        for column in range(len(starts))
        for one, other in pairwise(parts[column] for parts in split if column in parts)
    )
    found: list[_Row] = []
    columns: list[list[_Row]] = [[] for _ in starts]
    for number, (row, parts) in enumerate(zip(rows, split, strict=True)):
        is_edge = (number < _EDGES and rows[number][0].y - rows[number + 1][0].y > step) or (
            number >= len(rows) - _EDGES and rows[number - 1][0].y - row[0].y > step
        )
        if is_edge or (len(parts) == 1 and len("".join(piece.text for piece in row)) > full):
            found += [one for column in columns for one in column] + [row]
            columns = [[] for _ in starts]
        else:
            for column, part in parts.items():
                columns[column].append(part)
    return found + [one for column in columns for one in column]


def _margins(rows: list[_Row]) -> list[float]:
    """Where many pieces of lines begin, from left to right."""
    places = Counter(round(piece.x) for row in rows for piece in row if piece.size)
    size = max((piece.size for row in rows for piece in row), default=0.0)
    margins: list[float] = []
    for place in sorted(places):
        is_frequent = places[place] >= max(_LEAST_ROWS, _LEAST_SHARE * len(rows))
        if is_frequent and (not margins or place - margins[-1] >= _LEAST_WIDTH * size):
            margins.append(place)
    return margins


def _split(row: _Row, margins: list[float]) -> dict[int, _Row]:
    """Number of a column -> the pieces of a row in it."""
    parts: dict[int, _Row] = {}
    column, before = 0, _Piece("")
    for piece in row:
        if piece.text.strip():
            there = sum(margin <= piece.x + 3 for margin in margins) - 1
            is_gap = piece.x - before.end > 0.6 * piece.size or len(before.text) > _LEAST_CHARACTERS
            if not parts or (there > column and is_gap):
                column = max(there, 0)
            before = piece
        if parts or piece.text.strip():
            parts.setdefault(column, []).append(piece)
    return parts


# --- footnotes ---

_RAISED, _SMALL, _CLOSE = "\x0e", "\x0f", "\x10"
_MARK = re.compile(r"[\d*†‡§¶,\[\]()]{1,7}")
_MARKS = re.compile(f"(?P<sign>[{_RAISED}{_SMALL}])(?P<mark>[^{_CLOSE}]*){_CLOSE}")
_MARK_RATIO, _LEAST_RISE, _MOST_RISE = 0.8, 0.15, 0.7
"""The size of a mark and its height above the line, in sizes of the text."""
_NOTE = re.compile(rf"[{_RAISED}{_SMALL}]?[\[(]?(?P<mark>\d{{1,3}}|[*†‡§¶]{{1,3}})[\])]?{_CLOSE}?[.:]?\s*\S")
_NOTE_RATIO = 0.95
"""The size of a note's font, at most, against that of the text."""
_RAISED_DIGITS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹", "[]()")


def without_notes(page: Sequence[Line], size: float, continues: bool) -> tuple[list[Line], int, bool]:
    """-> the lines of a page without its footnotes, their number, and whether the last footnote continues on the next page.

    Footnotes are lines in a smaller font at the end of a page or a column, from a line that begins with a mark which is also
    in the text.

    Args:
        size: The size of the text.
        continues: The last note of the page before continues here.
    """
    marks = {mark for line in page for found in _MARKS.finditer(line) for mark in re.findall(r"\d+|[*†‡§¶]+", found["mark"])
             if found.start()}  # fmt: skip
    kept: list[Line] = []
    notes: list[Line] = []
    """The lines in a smaller font that are below each other."""
    count, goes_on = 0, False
    noted: set[str] = set()
    for line, following in zip(page, [*page[1:], None], strict=True):
        if not 0 < line.size <= _NOTE_RATIO * size:
            kept += notes
            notes = []
            kept.append(line)
            continue
        notes.append(line)
        if following is None or following.height > line.height:
            begins = [at for at, one in enumerate(notes) if (found := _NOTE.match(one)) and found["mark"] in marks]
            begin = 0 if continues and (begins or notes[0][0].islower()) else min(begins, default=len(notes))
            kept += notes[:begin]
            count += len(begins)
            noted |= {_NOTE.match(notes[at])["mark"] for at in begins}  # type: ignore[index]
            if begin < len(notes):
                goes_on, continues = not notes[-1].endswith((".", "!", "?", ")", "”", '"')), False
            notes = []
    return [plain_marks(line, noted) for line in kept], count, goes_on


def plain_marks(line: Line, noted: set[str] | frozenset[str] = frozenset()) -> Line:
    """A line with raised numbers as such, and without the marks of notes that are left out."""

    def plain(found: re.Match[str]) -> str:
        parts = set(re.findall(r"\d+|[*†‡§¶]+", found["mark"]))
        if parts and parts <= noted:
            return ""
        return found["mark"].translate(_RAISED_DIGITS) if found["sign"] == _RAISED else found["mark"]

    return Line(_MARKS.sub(plain, line), line.size, line.height, line.is_row) if _CLOSE in line else line
