"""Characters: the boundary of the East Asian scripts, and text that every tokenizer accepts."""

from __future__ import annotations

CJK_START = 0x2E80
"""The first code point of the East Asian scripts, whose characters are a syllable or more. All but Hangul are written
without spaces between words."""


def is_spaceless(character: str) -> bool:
    """Whether a character is of an East Asian script that is written without spaces."""
    return ord(character) >= CJK_START and not "가" <= character <= "힣"


def whole_characters(text: str) -> str:
    """Replace halves of characters (arguments that are not UTF-8, lone surrogates in JSON) by U+FFFD."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
