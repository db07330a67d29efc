"""Rich Text Format (.rtf)."""

from __future__ import annotations

import re
from pathlib import Path

from llasa_cli.documents.document import Document, chapters_by_heading, clean, with_guessed_headings
from llasa_cli.errors import UsageError

MAX_BYTES = 64 << 20


_TOKEN = re.compile(r"\\(?P<word>[a-z]+)(?P<number>-?\d+)? ?|\\'[\da-fA-F]{2}|\\.|(?P<group>[{}])|[^\\{}]+", re.DOTALL)


def _without_hidden_text(source: str) -> str:
    """RTF without the words that are formatted as hidden (\\v) or as deleted by a tracked change."""
    if not re.search(r"\\(?:v|deleted)(?![a-z\d])", source):
        return source
    kept: list[str] = []
    is_hidden, around = False, list[bool]()
    for token in _TOKEN.finditer(source):
        if token["group"] == "{":
            around.append(is_hidden)
        elif token["group"]:
            is_hidden = around.pop() if around else False
        elif token["word"] in ("v", "deleted"):
            is_hidden = token["number"] != "0"
        elif token["word"] == "plain":
            is_hidden = False
        elif is_hidden and (token["word"] in (None, "u", "line", "tab", "emdash", "endash")):
            continue
        kept.append(token[0])
    return "".join(kept)


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
        text = rtf_to_text(_without_hidden_text(path.read_text(encoding="latin-1")), errors="replace")
    except (ValueError, IndexError, LookupError, RecursionError) as error:
        raise UsageError(f"{path} is damaged: {type(error).__name__}.", "Save it anew.") from error
    paragraphs = [clean(line) for line in text.splitlines() if clean(line)]
    if not paragraphs:
        raise UsageError(f"{path} holds no text.", "A document with words is needed.")
    return Document("", "", "", tuple(chapters_by_heading(with_guessed_headings(paragraphs))))
