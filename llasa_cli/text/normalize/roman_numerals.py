"""Roman numerals.

Chapter IX -> chapter nine;  Henry V -> Henry the fifth;  page xii -> page twelve
"""

from __future__ import annotations

import re

from llasa_cli.text.normalize import vocabulary
from llasa_cli.text.normalize.numbers import cardinal, ordinal, roman, year
from llasa_cli.text.normalize.token_class import after, before

_PRONOUN = re.compile(
    r"['’](?:m|d|ll|ve)\b|\s(?:am|have|do|don|like|love|want|need|think|know|took|read|wrote|saw)\b", re.IGNORECASE
)
"""After a capital I that is "I", though the word before has a capital: "The Book I Read"."""
_ONE = re.compile(
    r"\s?(?:[.,;:!?)\]]|$)|\s(?:of|errors?|diabetes|(?:[a-z]+ )?cancers?|trauma|devices?|(?:and|or|to|through)(?: \w+)? I[IVX]*)\b"
    r"|\s(?:(?:clinical )?(?:trials?|stud(?:y|ies))|felon(?:y|ies)|misdemeanors?|recalls?|collagen|interferons?|disease|patients?)\b"
    r"|/I"
)
"""After the I of "World War I" and "type I error"; elsewhere, as in "the book I read", it is the pronoun."""
_LIST_JOINT = r"(?:,|,?\s(?:and|or|through|to|&)|\s?[-–/])\s?"
_NUMERAL_BEFORE = re.compile(rf"(?<![\w'’])(?P<numeral>[IVXL]{{1,7}}){_LIST_JOINT}$")
_NUMERAL_AFTER = re.compile(rf"{_LIST_JOINT}(?P<numeral>[IVXL]{{1,7}})(?![\w'’]|\.\w)")
_INTRAVENOUS = re.compile(
    r"\s(?:fluids?|drips?|therapy|lines?|bags?|antibiotics?|access|infusions?|poles?|medications?|meds|injections?|drugs?|push|"
    r"treatments?|needles?|catheters?)\b"
)


def _is_in_list(match: re.Match[str], number: int) -> bool:
    """Whether a numeral stands beside the one before or after it in a list: "I, II, and III", "IV–VI"."""
    for found, sign in ((_NUMERAL_BEFORE.search(before(match, 16)), 1), (_NUMERAL_AFTER.match(after(match, 16)), -1)):
        other = roman(found["numeral"]) if found else None
        if found and other and (number - other) * sign > 0 and (len(match[0]) > 1 or len(found["numeral"]) > 1):
            return True
    return False


def say_small_numeral(match: re.Match[str]) -> str | None:
    """page xii -> page twelve; (ii) -> two."""
    number = roman(match[0].upper())
    if number is None:
        return None
    listed = after(match, 1) == ")" and re.search(
        r"(?:^|\s|[)\d])\($" if match[0] in ("i", "v") else r"[\w,;]\s\($|^\($|[)\d]\($", before(match, 3)
    )
    if match[0] == "x":
        listed = None
    if after(match, 1) == ")" and re.search(r"(?:^|\s)$", before(match, 1)):  # i) ... ii) ...
        listed = re.search(r"(?<![\w(])i{2,3}\)", match.string)
    pages = r"\b(?:pp\.|[Pp]ages)\s"
    if re.search(rf"{pages}$", before(match, 8)) and re.match(r"[-–][ivxlc]{1,6}\b", after(match, 8)):
        return cardinal(number)
    if re.search(rf"{pages}[ivxlc]{{1,6}}[-–]$", before(match, 16)):
        return cardinal(number)
    placed = re.search(
        r"\b(?:[Pp]ages?|[Pp]{1,2}\.|[Pp]art|[Cc]hapter|[Vv]olume|[Bb]ook|[Ss]cene|(?:[Ss]c|[Vv]ol|[Cc]h|[Bb]k|[Pp]t)\.|[Aa]ct|[Ii]tem|[Cc]lause)\s$",
        before(match, 9),
    )
    beside = len(match[0]) > 1 and re.search(rf"(?<!\w)[ivx]{{1,5}}{_LIST_JOINT}$", before(match, 16))
    first = re.match(rf"{_LIST_JOINT}[ivx]{{2,5}}(?!\w)", after(match, 16)) and not after(match, 3).startswith(
        (" to", " th")
    )
    return cardinal(number) if listed or (placed and len(match[0]) > 1) or beside or first else None


def say_numeral(match: re.Match[str]) -> str | None:
    """Chapter IX -> chapter nine; Henry V -> Henry the fifth; but "the book I read" and "Malcolm X"."""
    written, word = match[0], re.search(r"(?P<crown>[A-Za-z]+\s)?\b(?P<word>[A-Za-z]\w*)\.?\s$", before(match))
    number = roman(written)
    if number is None:
        return None
    if len(written) > 1 and re.match(
        r"(?:th)?\s(?:century|centuries|dynasty|olympi(?:ad|cs?)|(?:winter|summer) olympics|airborne|corps|legion)\b",
        after(match),
        re.IGNORECASE,
    ):
        return ordinal(number)
    listed = _is_in_list(match, number)
    if word is None:
        return cardinal(number) if listed or before(match, 1) == "§" else None
    previous = word["word"].lower()
    previous = vocabulary.BEFORE_NUMBERS.get(previous, previous)
    pronoun = number == 1 and _PRONOUN.match(match.string, match.end())
    if previous in vocabulary.BEFORE_NUMERALS and re.fullmatch(r"[IVX][IVXL]*|L[IVX]+", written):
        is_one = not pronoun if word["word"][0].isupper() else _ONE.match(match.string, match.end())
        return cardinal(number) if number > 1 or is_one else None
    if listed and not (previous in vocabulary.RULERS and word["word"][0].isupper()):
        ruler = re.search(rf"\b(?P<name>[A-Z][a-z]+) [IVX]+{_LIST_JOINT}$", before(match, 40))
        return f"the {ordinal(number)}" if ruler and ruler["name"].lower() in vocabulary.RULERS else cardinal(number)
    if len(written) > 1 and previous in vocabulary.BEFORE_LONG_NUMERALS:
        return cardinal(number)
    if previous in vocabulary.SERIES and word["word"][0] not in "abcdefghjklmnopqrstuvwxyz" and written in ("V", "X"):
        return cardinal(number)
    crowned = (word["crown"] or "").strip().lower() in vocabulary.CROWNS and word["word"][0].isupper()
    if (previous in vocabulary.RULERS and word["word"][0].isupper()) or crowned:
        middle = len(written) == 1 and re.match(r"\.\s?[A-Z]", after(match, 3))
        if written == "I":
            reigned = re.match(r"\s(?:was (?:crowned|born|the)|ruled|reigned|died|became|of [A-Z])\b", after(match, 14))
            joined = re.match(r"(?:\.?$|[,;:)]| and [A-Z])", after(match, 6))
            start = before(match)[: -len(word["word"]) - 1]
            named = re.search(r"(?:^|\b(?:of|under|by|and|between|after|before|from|until)\s)$", start)
            crowned = crowned or bool(
                (reigned and not start.strip()) or (joined and named and (start or after(match, 2)[1:]))
            )
            return f"the {ordinal(1)}" if crowned and not pronoun else None
        return None if middle or (previous == "malcolm" and written == "X") else f"the {ordinal(number)}"
    person = re.search(
        r"\b(?:(?:Mr|Mrs|Ms|Dr|Prof)\.?|(?P<first>[A-Z][a-z]+)(?: [A-Z]\.)?) [A-Z][a-z]+,? $", before(match, 40)
    )
    if person and len(written) > 1 and number < 7 and (person["first"] or "mr").lower() in vocabulary.RULERS | {"mr"}:
        return f"the {ordinal(number)}"
    if written == "IV" and (
        _INTRAVENOUS.match(match.string, match.end()) or previous in ("start", "give", "the", "an")
    ):
        return None
    sequel = (
        word["word"][0].isupper()
        and re.fullmatch(r"VI{0,3}|I?X|IV|X[IV]+I{0,3}|XX[IVX]*", written)
        and len(written) > 1
    )
    return cardinal(number) if sequel or re.fullmatch(r"[VX]{0,2}I{2,3}", written) else None


def say_stage(match: re.Match[str]) -> str | None:
    """stage IIIA -> stage three ay."""
    if not re.search(r"\b(?:[Ss]tage|[Tt]ype|[Gg]rade|[Cc]lass|[Pp]hase|[Tt]itle)\s$", before(match, 7)):
        return None
    return f"{cardinal(roman(match['number']) or 0)} {vocabulary.LETTERS[match['letter'].lower()]} "


def say_heading_number(match: re.Match[str]) -> str | None:
    """II. Methods -> two. Methods, at the beginning; "I. METHODS" too, but "V. Woolf" is a name."""
    number = roman(match["numeral"])
    is_heading = len(match["numeral"]) > 1 or (match["next"].isupper() and len(match["next"]) > 2)
    return f"{cardinal(number)}." if number and is_heading and not before(match).strip() else None


_OUTLINED = re.compile(
    r"\b(?:[Ss]ections?|[Ss]ec\.|[Pp]arts?|[Cc]hapters?|[Aa]rticles?|[Aa]rt\.|[Tt]itles?|[Rr]ules?|[Aa]ppendix|[Aa]nnex|[Ss]ee|and|or)\s$|§\s?$"
)


_LINE_OF_PLAY = re.compile(r"[IVX]+\.[ivx]+(?:\.\d+)")


def say_progression(match: re.Match[str]) -> str | None:
    """ii–V–I -> two five one, chords in a row; but "I-I-I don't"."""
    numbers = [roman(numeral.upper()) for numeral in re.split("[-–]", match[0])]
    return " ".join(cardinal(number) for number in numbers if number) + " " if len(set(numbers)) > 1 else None


def say_outline(match: re.Match[str]) -> str | None:
    """Section II.B.3 -> section two bee three."""
    number = roman(match["numeral"])
    if number is None or not (_OUTLINED.search(before(match, 10)) or _LINE_OF_PLAY.fullmatch(match[0])):
        return None
    said = [cardinal(number)]
    for part in match["rest"].strip(".").split("."):
        small = roman(part.upper()) if len(part) > 1 or part == "i" else None
        said.append(
            cardinal(int(part)) if part.isdigit() else cardinal(small) if small else vocabulary.LETTERS[part.lower()]
        )
    return " ".join(said)


def say_year(match: re.Match[str]) -> str:
    """MCMXCIX -> nineteen ninety nine."""
    hundreds = {"CM": 900, "CD": 400}.get(match["hundreds"])
    if hundreds is None:
        hundreds = 500 * match["hundreds"].count("D") + 100 * match["hundreds"].count("C")
    return year(1000 * len(match["thousands"]) + hundreds + (roman(match["tens"] + match["ones"]) or 0))


def say_world_war(match: re.Match[str]) -> str:
    return f"World War {cardinal(int(match[1])) if match[1] else cardinal(len(match[2]))}"
