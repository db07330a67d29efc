"""Text tables. They are results, so they go to standard output."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

_FILE_WIDTH = 10_000
"""Columns where standard output is not a terminal: every row is one line then."""


def table_text(
    columns: Sequence[str], rows: Sequence[Sequence[str]], title: str = "", styles: Mapping[str, str] | None = None
) -> str:
    """Rows under their column names, fitted to the terminal; colors only on a terminal and without NO_COLOR.

    Args:
        styles: The text of a row's first cell -> the rich style of that cell.
    """
    from io import StringIO

    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title or None, title_justify="left", box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        # The first cell names the row and is never broken.
        table.add_column(column, no_wrap=number == 0, overflow="fold")
    for first, *others in rows:
        style = (styles or {}).get(first, "")
        table.add_row(Text(printable(first), style=style), *(Text(printable(cell)) for cell in others))
    out = StringIO()
    Console(file=out, width=width(), force_terminal=_is_terminal(), no_color=_no_color(), highlight=False).print(table)
    return "\n".join(line.rstrip() for line in out.getvalue().rstrip().split("\n"))


def printable(text: str) -> str:
    """The text without control characters except line ends: the content of a file must not control the terminal."""
    return "".join(c if c.isprintable() or c == "\n" else " " for c in text)


def _no_color() -> bool:
    return bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"


def _is_terminal() -> bool:
    # While a command runs, sys.stdout points to standard error.
    try:
        return not _no_color() and sys.__stdout__ is not None and os.isatty(_stdout_number())
    except (OSError, ValueError):
        return False


def width() -> int:
    """Columns of the terminal; many where standard output is not a terminal."""
    try:
        return os.get_terminal_size(_stdout_number()).columns or 80
    except (OSError, ValueError):
        return _FILE_WIDTH


def _stdout_number() -> int:
    from llasa_cli.cli.console import claim_stdout

    return claim_stdout().fileno()
