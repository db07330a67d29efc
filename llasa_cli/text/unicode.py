"""Text as it comes from a shell or from JSON -> text that every tokenizer takes."""

from __future__ import annotations


def whole_characters(text: str) -> str:
    """Halves of characters (arguments that are not UTF-8, JSON's lone surrogates) become U+FFFD: no tokenizer takes them."""
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
