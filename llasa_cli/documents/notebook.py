"""Jupyter notebooks (.ipynb): the text cells, without code and its output."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llasa_cli.documents.document import Block, Document, chapters_by_heading
from llasa_cli.errors import UsageError
from llasa_cli.text.markdown import read_markdown

MAX_BYTES = 256 << 20
_FENCED_OR_HEADING = re.compile(
    r"^ {0,3}(?P<fence>`{3,}|~{3,})(?s:.*?)(?:^ {0,3}(?P=fence)[`~]*[ \t]*$|\Z)|^ {0,3}(?P<signs>#{1,6})[ \t]+(?P<title>.+?)[ \t#]*$",
    re.MULTILINE,
)


def read_notebook(path: Path) -> Document:
    """Read the Markdown cells of a notebook; its headings begin chapters.

    Raises:
        UsageError: It is too large, damaged, or without a text cell.
    """
    if path.stat().st_size > MAX_BYTES:
        raise UsageError(f"{path} is larger than {MAX_BYTES >> 20} MB.", "Clear the output of its cells, and save it.")
    try:
        notebook = json.loads(path.read_bytes())
        cells = list(_cells(notebook))
    except (ValueError, RecursionError, AttributeError, TypeError) as error:
        raise UsageError(
            f"{path} is damaged: no notebook in JSON could be read from it.", "Save it again in Jupyter."
        ) from error
    omitted: Counter[str] = Counter()
    blocks: list[Block] = []
    for kind, source, level in cells:
        if kind == "markdown":
            blocks += _blocks(source)
        elif kind == "heading":
            blocks.append(Block(" ".join(source.split()), level))
        else:
            omitted[f"{kind} cells"] += 1
    if not any(block.text.strip() for block in blocks):
        raise UsageError(f"{path} has no text cells.", "Only Markdown cells are read, not code.")
    return Document("", "", "", tuple(chapters_by_heading(blocks)), omitted=omitted)


def _cells(notebook: dict[str, Any]) -> Iterator[tuple[str, str, int]]:
    """The kind, the source and the heading level of each cell; format 3 keeps the cells in worksheets."""
    sheets = notebook.get("worksheets") or [notebook]
    for sheet in sheets:
        for cell in sheet.get("cells", []):
            source = cell.get("source", "")
            yield (
                str(cell.get("cell_type")),
                source if isinstance(source, str) else "".join(source),
                cell.get("level", 1),
            )


def _blocks(source: str) -> Iterator[Block]:
    at = 0
    for found in _FENCED_OR_HEADING.finditer(source):
        if found["title"]:
            yield from _paragraphs(source[at : found.start()])
            yield Block(" ".join("".join(read_markdown([found["title"]])).split()), len(found["signs"]))
            at = found.end()
    yield from _paragraphs(source[at:])


def _paragraphs(source: str) -> Iterator[Block]:
    for paragraph in "".join(read_markdown([source])).split("\n\n"):
        if paragraph.strip():
            yield Block(paragraph.strip())
