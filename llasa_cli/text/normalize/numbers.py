"""Numbers in English words, as flite reads them: the teacher of the built-in voice."""

from __future__ import annotations

import re
from itertools import pairwise

_ROMAN = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100}


def cardinal(number: int) -> str:
    """342 -> "three hundred forty two"."""
    return _in_words(number, "cardinal")


def ordinal(number: int) -> str:
    """21 -> "twenty first"."""
    return _in_words(number, "ordinal")


def year(number: int) -> str:
    """1987 -> "nineteen eighty seven", 2005 -> "two thousand five"."""
    return _in_words(number, "year")


def _in_words(number: int, kind: str) -> str:
    """num2words without "and", commas and hyphens."""
    from num2words import num2words  # only where there is a number: its forty languages take their time

    return " ".join(re.sub(r"\band\b|[,-]", " ", num2words(number, to=kind)).split())


def digits(text: str) -> str:
    """Each digit by itself: telephone numbers, and numbers too long to be counted."""
    return " ".join(cardinal(int(digit)) for digit in text if digit.isascii() and digit.isdigit())


def roman(text: str) -> int | None:
    """ "XIV" -> 14; None where it is no numeral below 200 in its usual form."""
    if not re.fullmatch(r"C?(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})", text) or not text:
        return None
    values = [_ROMAN[letter] for letter in text] + [0]
    return sum(-value if value < after else value for value, after in pairwise(values))
