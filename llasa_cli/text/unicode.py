"""Text as it comes from a shell or from JSON -> text that every tokenizer takes."""

from __future__ import annotations

CJK_START = 0x2E80
"""The first code point of the East Asian scripts, whose characters are a syllable or more. All but Hangul are written
without spaces between words."""


def whole_characters(text: str) -> str:
    """Halves of characters (arguments that are not UTF-8, JSON's lone surrogates) become U+FFFD: no tokenizer takes them."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
