"""Marks inside a text that are not words: where a chapter begins, a change of the voice, and a change of the speed.

    mark(CHAPTER, "The Storm")  ->  a piece of text that `text.chunker` takes out again

A mark goes through every stage between the source of a text and the chunker as a part of the text. Its delimiters are
noncharacters of Unicode, which no text contains.
"""

from __future__ import annotations

_OPEN, _CLOSE = "\ufdd0", "\ufdd1"
CHAPTER = "chapter"
"""The value is the title."""
VOICE = "voice"
"""The value is the name of the voice that speaks from here on; empty for the voice of the text."""
RATE = "rate"
"""The value is the speed of what follows, as a number; 1 is the speed of the text."""
PATTERN = rf"{_OPEN}(?P<mark>[a-z]+):(?P<value>[^{_OPEN}{_CLOSE}]*){_CLOSE}"
"""The pattern of a mark, with the groups `mark` and `value`."""


def mark(name: str, value: str) -> str:
    return f"{_OPEN}{name}:{value.replace(_OPEN, '').replace(_CLOSE, '')}{_CLOSE}"
