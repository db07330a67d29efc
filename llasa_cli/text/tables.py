"""Rows of CSV, TSV and JSON-lines text, for the lists of `batch` and the tables of `prepare`.

Rows have the number of their first line. A line that can't be parsed becomes a `BadLine`, and the lines after it are read all
the same.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from typing import Any, NamedTuple

Numbered = Iterable[tuple[int, str]]
"""Lines of a text with their numbers, from 1."""
_SEPARATOR_LINE = re.compile(r"sep=(.)\s*", re.IGNORECASE)


class BadLine(NamedTuple):
    """Why a line can't be parsed.

    Attributes:
        reason: The same words for the same cause.
        message: The reason with what the parser says.
    """

    reason: str
    message: str


def separator_of(line: str) -> str | None:
    """The delimiter that a line `sep=;` names, which Excel reads and writes before the names of the columns."""
    match = _SEPARATOR_LINE.fullmatch(line)
    return match[1] if match else None


def split_names(line: str, delimiter: str) -> list[str]:
    """The names of columns in the first line of a table, without blanks around them."""
    with suppress(csv.Error):
        return [name.strip() for name in next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])]
    return []


def read_cells(
    lines: Numbered, delimiter: str, is_quoted: bool, is_strict: bool, longest_cell: int
) -> Iterator[tuple[int, list[str] | BadLine]]:
    """The rows of a table that are not empty, its first line included.

    Args:
        is_quoted: Quotation marks around a cell are not part of it, and delimiters and line ends between them are.
        is_strict: Quotation marks that are not closed or not doubled make a bad line. Otherwise the `csv` module guesses what is meant.
        longest_cell: Characters; longer cells make a bad line.
    """
    at = 0  # the line that was read last; csv counts only the lines it was given

    def texts() -> Iterator[str]:
        nonlocal at
        for at, line in lines:  # noqa: B007 - it is read below
            yield line.rstrip("\r\n") + "\n"

    csv.field_size_limit(longest_cell)
    if is_quoted:
        reader = csv.reader(texts(), delimiter=delimiter, strict=is_strict, skipinitialspace=True)
    else:
        reader = csv.reader(texts(), delimiter=delimiter, strict=is_strict, quoting=csv.QUOTE_NONE)
    while True:
        first = at + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield first, BadLine("not a valid line of the table", f"{error}: is a quote not closed, or not doubled?")
        else:
            if any(cells):
                yield first, cells


def read_objects(lines: Numbered) -> Iterator[tuple[int, dict[str, Any] | BadLine]]:
    """The objects of JSON lines; blank lines are left out."""
    for number, line in lines:
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            yield number, BadLine("not JSON", f"not JSON: {error}")
            continue
        if isinstance(row, dict):
            yield number, row
        else:
            yield number, BadLine("not a JSON object", 'not a JSON object such as {"id": "a", "text": "Hello."}')
