"""Markdown -> its words, in paragraphs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator


def words_of(parts: Iterable[str]) -> Iterator[str]:
    """Parts of a Markdown text -> parts of plain text."""
    yield from parts
