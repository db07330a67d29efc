"""Numbers in English words, without "and", commas and hyphens, as the built-in voice has learned them.

cardinal(342) -> "three hundred forty two"      ordinal(21) -> "twenty first"
year(1905)    -> "nineteen oh five"             pairs("747") -> "seven forty seven"
"""

from __future__ import annotations

import re
from itertools import pairwise

_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
_TENS = "- - twenty thirty forty fifty sixty seventy eighty ninety".split()
_SCALES = ("", " thousand", " million", " billion", " trillion")
_ORDINALS = dict(
    pair.split()
    for pair in "one first,two second,three third,five fifth,eight eighth,nine ninth,twelve twelfth".split(",")
)
_ROMAN = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100}
LONGEST_NUMBER = 15
"""Digits. Longer numbers are read digit by digit."""


def cardinal(number: int) -> str:
    """A number of at most 15 digits in words."""
    if number < 20:
        return _ONES[number]
    if number < 100:
        tens, ones = divmod(number, 10)
        return _TENS[tens] + (f" {_ONES[ones]}" if ones else "")
    if number < 1000:
        hundreds, rest = divmod(number, 100)
        return f"{_ONES[hundreds]} hundred" + (f" {cardinal(rest)}" if rest else "")
    groups = []
    for scale in _SCALES:
        number, group = divmod(number, 1000)
        if group:
            groups.append(cardinal(group) + scale)
    return " ".join(reversed(groups))


def ordinal(number: int) -> str:
    """21 -> "twenty first"."""
    head, _, last = cardinal(number).rpartition(" ")
    regular = last[:-1] + "ieth" if last.endswith("y") else last + "th"
    return f"{head} {_ORDINALS.get(last, regular)}".lstrip()


def year(number: int) -> str:
    """1987 -> "nineteen eighty seven", 1905 -> "nineteen oh five", 2005 -> "two thousand five"."""
    high, low = divmod(number, 100)
    if high == 0 or (high % 10 == 0 and low < 10) or high >= 100:
        return cardinal(number)
    if not low:
        return f"{cardinal(high)} hundred"
    return f"{cardinal(high)} {two_digits(low)}"


def two_digits(number: int) -> str:
    """5 -> "oh five", 15 -> "fifteen": minutes, and the end of a year."""
    return f"{'oh ' if number < 10 else ''}{cardinal(number)}"


def pairs(text: str) -> str:
    """The digits of a model, flight or house number: 747 -> "seven forty seven", 9700 -> "ninety seven hundred"."""
    if text.startswith("0") or len(text) > 4:
        return digits(text)
    number = int(text)
    if len(text) == 3 and number % 100:
        return f"{cardinal(number // 100)} {two_digits(number % 100)}"
    return year(number)


def digits(text: str) -> str:
    """Each digit by itself, as in telephone numbers."""
    return " ".join(_ONES[int(digit)] for digit in text if digit.isascii() and digit.isdigit())


def decimal(text: str) -> str:
    """Digits, perhaps with commas between thousands and a fraction: "1,234.50" -> "... thirty four point five zero"."""
    whole, _, fraction = text.replace(",", "").partition(".")
    by_digit = len(whole) > LONGEST_NUMBER or (len(whole) > 1 and whole.startswith("0"))
    words = digits(whole) if by_digit else cardinal(int(whole or "0"))
    return f"{words} point {digits(fraction)}" if fraction else words


def roman(text: str) -> int | None:
    """ "XIV" -> 14; None for anything but a numeral below 200 in its usual form."""
    if not re.fullmatch(r"C?(?:XC|XL|L?X{0,3})(?:IX|IV|V?I{0,3})", text) or not text:
        return None
    values = [_ROMAN[letter] for letter in text] + [0]
    return sum(-value if value < after else value for value, after in pairwise(values))
