"""Rich Text Format (.rtf)."""

from __future__ import annotations

import re
from pathlib import Path

from llasa_cli.documents.document import (
    Block,
    Document,
    as_sentence,
    chapters_by_heading,
    clean,
    with_guessed_headings,
    without_contents,
)
from llasa_cli.errors import UsageError

MAX_BYTES = 64 << 20


_TOKEN = re.compile(r"\\(?P<word>[a-z]+)(?P<number>-?\d+)? ?|\\'[\da-fA-F]{2}|\\.|(?P<group>[{}])|[^\\{}]+", re.DOTALL)


_CELL, _HEADING, _ITEM = "\x01", "\x02", "\x03"
"""Marks in the text: the end of a cell; the level of a heading, a digit, follows; the sign or number of a list's item follows."""
_BEFORE_ITEM = re.compile(rf"{_ITEM}(?P<number>[^\t]*)\t?")
_NUMBER = re.compile(r"\s*\(?(?:[\d.]*\d[.)]?|(?:[a-zA-Z]|[ivxlcIVXLC]+)[.)])\s*|.*\w.*\d.*")
_OUTLINE_LEVELS = 6
_FACT = re.compile(r"\{\\(title|author) ([^{}]{1,1000})\}")


def _prepared(source: str) -> str:
    """RTF without the words that are formatted as hidden (\\v) or as deleted by a tracked change, with marks for cells, headings
    and items of lists."""
    if not re.search(r"\\(?:v|deleted|cell|nestcell|outlinelevel|listtext|pntext)(?![a-z])", source):
        return source
    kept: list[str] = []
    is_hidden, around = False, list[bool]()
    for token in _TOKEN.finditer(source):
        word = token["word"]
        if token["group"] == "{":
            around.append(is_hidden)
        elif token["group"]:
            is_hidden = around.pop() if around else False
        elif word in ("v", "deleted"):
            is_hidden = token["number"] != "0"
        elif word == "plain":
            is_hidden = False
        elif is_hidden and (word in (None, "u", "line", "tab", "emdash", "endash")):
            continue
        elif word in ("cell", "nestcell"):
            kept.append(_CELL)
            continue
        elif word in ("listtext", "pntext"):
            kept.append(_ITEM)
            continue
        elif word == "outlinelevel" and 0 <= int(token["number"] or 9) < _OUTLINE_LEVELS:
            kept.append(f"{_HEADING}{token['number']}")
            continue
        kept.append(token[0])
    return "".join(kept)


def _block(line: str) -> Block | None:
    """A line as a heading, a row of a table or a paragraph; None if it has no words."""
    level = 0
    if found := re.search(rf"{_HEADING}(\d)", line):
        level = int(found[1]) + 1
        line = re.sub(rf"{_HEADING}\d", "", line)
    line = _BEFORE_ITEM.sub(lambda found: found["number"] + " " if _NUMBER.fullmatch(found["number"]) else "", line)
    cells = [text for cell in line.split(_CELL) if (text := clean(cell))]
    if not cells:
        return None
    return Block(as_sentence(", ".join(cells)) if _CELL in line else cells[0], level)


def read_rtf(path: Path) -> Document:
    """Read an RTF file.

    Raises:
        UsageError: It is too large, damaged or empty, or striprtf is not installed.
    """
    try:
        from striprtf.striprtf import rtf_to_text
    except ImportError as error:
        raise UsageError("RTF files need the package striprtf.", "pip install 'llasa-cli[book]'") from error
    if path.stat().st_size > MAX_BYTES:
        raise UsageError(f"{path} is larger than {MAX_BYTES >> 20} MB.", "Save it without images.")
    try:
        source = path.read_text(encoding="latin-1")
        text = rtf_to_text(_prepared(source), errors="replace")
        facts = {name: clean(rtf_to_text("{\\rtf1 " + value + "}")) for name, value in _FACT.findall(source)}
    except (ValueError, IndexError, LookupError, RecursionError) as error:
        raise UsageError(f"{path} is damaged: {type(error).__name__}.", "Save it anew.") from error
    # A cell may hold paragraphs of its own.
    lines = re.sub(rf"\n+(?={_CELL})", "", text).splitlines()
    blocks = [block for line in lines if (block := _block(line)) is not None]
    omitted: dict[str, int] = {}
    blocks = without_contents(blocks, omitted)
    if not blocks:
        raise UsageError(f"{path} holds no text.", "A document with words is needed.")
    if not any(block.level for block in blocks):
        blocks = list(with_guessed_headings(block.text for block in blocks))
    chapters = tuple(chapters_by_heading(blocks))
    return Document(facts.get("title", ""), facts.get("author", ""), "", chapters, omitted=omitted)
