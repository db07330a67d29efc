"""English as it is said: numbers, money, times, acronyms and symbols become words.

Only for checkpoints that ask for it (`"spell_out": true` in llasa.json), such as the built-in voice, which knows
letters and a little punctuation. The big models read raw text and learnt to do so themselves.

    "Dr. Lee paid $3.50 at 9:05 on May 2nd."  ->  "Doctor Lee paid three dollars and fifty cents at nine oh five on May second."
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
_TENS = "_ _ twenty thirty forty fifty sixty seventy eighty ninety".split()
_SCALES = ((10**12, "trillion"), (10**9, "billion"), (10**6, "million"), (1000, "thousand"), (100, "hundred"))
_ORDINALS = {
    "one": "first",
    "two": "second",
    "three": "third",
    "five": "fifth",
    "eight": "eighth",
    "nine": "ninth",
    "twelve": "twelfth",
}
_MONEY = {"$": ("dollar", "cent"), "€": ("euro", "cent"), "£": ("pound", "penny"), "¥": ("yen", "sen")}
_LETTERS = dict(
    zip(
        "abcdefghijklmnopqrstuvwxyz",
        "ay bee see dee ee eff jee aitch eye jay kay el em en oh pee cue are ess tee you vee double-you ex why zee".split(),
        strict=True,
    )
)
_ABBREVIATIONS = {
    "mr.": "mister",
    "mrs.": "missus",
    "ms.": "miss",
    "dr.": "doctor",
    "prof.": "professor",
    "st.": "saint",
    "vs.": "versus",
    "etc.": "et cetera",
    "e.g.": "for example",
    "i.e.": "that is",
    "approx.": "approximately",
    "no.": "number",
    "jr.": "junior",
    "sr.": "senior",
    "a.m.": "ay em",
    "p.m.": "pee em",
}
_UNITS = {
    "km": "kilometer",
    "cm": "centimeter",
    "mm": "millimeter",
    "kg": "kilogram",
    "mg": "milligram",
    "lb": "pound",
    "mph": "mile an hour",
    "ms": "millisecond",
    "hz": "hertz",
    "khz": "kilohertz",
    "gb": "gigabyte",
    "mb": "megabyte",
    "kb": "kilobyte",
    "min": "minute",
    "hr": "hour",
}
_SYMBOLS = {
    "&": " and ",
    "@": " at ",
    "%": " percent ",
    "+": " plus ",
    "=": " equals ",
    "#": " number ",
    "°": " degrees ",
    "/": " slash ",
    "<": " less than ",
    ">": " greater than ",
    "×": " times ",
    "÷": " divided by ",
    "€": " euros ",
    "$": " dollars ",
    "£": " pounds ",
    "_": " ",
    "*": " ",
    "~": " ",
    "^": " ",
    "|": " ",
    "\\": " ",
    "`": "",
    '"': "",
    "“": "",
    "”": "",
    "«": "",
    "»": "",
    "(": ", ",
    ")": ", ",
    "[": ", ",
    "]": ", ",
    "{": ", ",
    "}": ", ",
    "–": ", ",
    "—": ", ",
    "…": ".",
    "’": "'",
    "‘": "'",
}


def cardinal(number: int) -> str:
    """342 -> "three hundred forty two"."""
    if number < 0:
        return "minus " + cardinal(-number)
    if number < 20:
        return _ONES[number]
    if number < 100:
        rest = number % 10
        return _TENS[number // 10] + (f" {_ONES[rest]}" if rest else "")
    for size, name in _SCALES:
        if number >= size:
            rest = number % size
            return f"{cardinal(number // size)} {name}" + (f" {cardinal(rest)}" if rest else "")
    raise AssertionError("every number from 100 has a scale")


def ordinal(number: int) -> str:
    """21 -> "twenty first"."""
    *before, last = cardinal(number).split()
    if last in _ORDINALS:
        last = _ORDINALS[last]
    elif last.endswith("y"):
        last = last[:-1] + "ieth"
    else:
        last += "th"
    return " ".join([*before, last])


def year(number: int) -> str:
    """1987 -> "nineteen eighty seven", 2005 -> "two thousand five"."""
    high, low = divmod(number, 100)
    if low == 0 and high % 10:
        return f"{cardinal(high)} hundred"
    if high % 10 == 0 and low < 10:
        return cardinal(number)
    return f"{cardinal(high)} {'oh ' if low < 10 else ''}{cardinal(low)}"


def digits(text: str) -> str:
    """Each digit by itself: telephone numbers, and numbers too long to be counted."""
    return " ".join(_ONES[int(digit)] for digit in text if digit.isascii() and digit.isdigit())


def _number(text: str) -> str:
    """Digits with thousands commas and perhaps a fraction."""
    whole, _, fraction = text.replace(",", "").partition(".")
    as_digits = len(whole) > 15 or (len(whole) > 1 and whole.startswith("0"))
    said = digits(whole) if as_digits else cardinal(int(whole or "0"))
    return f"{said} point {digits(fraction)}" if fraction else said


def _money(match: re.Match[str]) -> str:
    big, small = _MONEY[match["sign"]]
    whole, _, cents = match["amount"].replace(",", "").partition(".")
    if match["scale"]:
        return f"{_number(match['amount'])} {match['scale']} {big}s"
    parts = []
    if int(whole or "0") or not cents:
        parts.append(f"{_number(whole or '0')} {big}{'' if int(whole or '0') == 1 or big == 'yen' else 's'}")
    if len(cents) == 2 and int(cents):
        plural = "pence" if small == "penny" else small + "s"
        parts.append(f"{cardinal(int(cents))} {small if int(cents) == 1 else plural}")
    return " and ".join(parts) or f"zero {big}s"


def _time(match: re.Match[str]) -> str:
    hour, minute = int(match["hour"]), int(match["minute"])
    said = cardinal(hour)
    if minute:
        said += f" oh {cardinal(minute)}" if minute < 10 else f" {cardinal(minute)}"
    else:
        said += " hundred" if hour > 12 or hour == 0 else " o'clock" if not match["half"] else ""
    half = (match["half"] or "").lower().replace(".", "").strip()
    return said + (f" {_LETTERS[half[0]]} em" if half else "")


def _acronym(match: re.Match[str]) -> str:
    word = match[0].replace(".", "")
    plural = word.endswith("s") and word[:-1].isupper()
    letters = " ".join(_LETTERS[letter.lower()] for letter in (word[:-1] if plural else word))
    return letters + ("s" if plural else "")


def _unit(match: re.Match[str]) -> str:
    name = _UNITS[match["unit"].lower()]
    one = match["amount"] == "1"
    if not one and not name.endswith("hertz"):
        name = name.replace("mile ", "miles ") if " " in name else name + "s"
    return f"{_number(match['amount'])} {name}"


_AMOUNT = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d*\.\d+|\d+"
_RULES: list[tuple[re.Pattern[str], Callable[[re.Match[str]], str] | str]] = [
    (re.compile(r"https?://(?:www\.)?|www\."), " "),
    (re.compile(r"(?<=\w)\.(?=[A-Za-z]{2,}\b)"), " dot "),
    (re.compile(r"(?<!\w)(?:[A-Za-z]\.){2,}(?!\w)"), lambda m: _abbreviation(m) or _acronym(m)),
    (re.compile(r"(?<![\w.])[A-Za-z]+\."), lambda m: _abbreviation(m) or m[0]),
    (
        re.compile(
            rf"(?P<sign>[$€£¥])(?P<amount>{_AMOUNT})(?:\s(?P<scale>hundred|thousand|million|billion|trillion))?"
        ),
        _money,
    ),
    (
        re.compile(
            r"(?<!\d)(?P<hour>[01]?\d|2[0-3]):(?P<minute>[0-5]\d)(?::\d\d)?(?:\s?(?P<half>[aApP]\.?[mM]\b\.?))?"
        ),
        _time,
    ),
    (re.compile(r"(?<![\w.])(\d+)(?:st|nd|rd|th)\b"), lambda m: ordinal(int(m[1])) if len(m[1]) < 16 else digits(m[1])),
    (
        re.compile(r"(?<![\w.])(\d{3})-(\d{3,4})(?:-(\d{4}))?(?!\w)"),
        lambda m: ", ".join(digits(g) for g in m.groups() if g),
    ),
    (
        re.compile(rf"(?<![\w.])(?P<amount>{_AMOUNT})\s?(?P<unit>{'|'.join(_UNITS)})\b(?!\.\w)", re.IGNORECASE),
        _unit,
    ),
    (
        re.compile(r"(?<![\w.,$])(1[1-9]\d\d|20\d\d)s?(?![\w,]|\.\d)"),
        lambda m: year(int(m[1])) + ("s" if m[0][-1] == "s" else ""),
    ),
    (re.compile(r"--+"), ", "),
    (re.compile(r"\d+(?:\.\d+){2,}"), lambda m: " point ".join(_number(part) for part in m[0].split("."))),
    (re.compile(r"(?<![\w.])-(?=\d)"), "minus "),
    (re.compile(r"(\d)\s?[-–](?=\d)"), r"\1 to "),
    (re.compile(_AMOUNT), lambda m: f" {_number(m[0])} "),
    (re.compile(r"\b[A-Z]{2,5}s?\b"), lambda m: _acronym(m) if _is_acronym(m) else m[0]),
]


def _abbreviation(match: re.Match[str]) -> str | None:
    return _ABBREVIATIONS.get(match[0].lower())


def _is_acronym(match: re.Match[str]) -> bool:
    """Capitals are letters to be named, unless the neighbours shout as well, or the word has a vowel and sounds."""
    text, word = match.string, match[0]
    around = text[: match.start()].split()[-1:] + text[match.end() :].split()[:1]
    if any(len(other.strip(".,!?")) > 1 and other.strip(".,!?").isalpha() and other.isupper() for other in around):
        return False
    core = word.removesuffix("s")
    return len(core) < 4 or not re.search("[AEIOU]", core[1:])


def spell_out(text: str) -> str:
    """Text -> letters, spaces and `' - , . ; : ! ?`. Writing in other scripts than Latin is left out.

    The result may be empty: a text of symbols says nothing.
    """
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    for symbol, word in _SYMBOLS.items():
        text = text.replace(symbol, word)
    text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    text = re.sub(r"[^A-Za-z' ,.;:!?-]+", " ", text)
    text = re.sub(r"\s+", " ", text)
    text = re.sub(r"\s+([,.;:!?])", r"\1", text)
    text = re.sub(r"([,.;:!?])(?:[,.;:!?]| (?=[,.;:!?]))+", _strongest, text)
    text = re.sub(r"([,.;:!?])(?=[A-Za-z])", r"\1 ", text).strip(" ,;:-")
    return text if re.search("[A-Za-z]", text) else ""


def _strongest(match: re.Match[str]) -> str:
    return next(mark for mark in "?!.;:," if mark in match[0])
