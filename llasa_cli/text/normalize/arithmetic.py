"""Fractions, ratios, ranges, powers and the signs of formulas.

7/16 -> seven sixteenths;  3-5 -> three to five;  2x + 1 -> two ex plus one
"""

from __future__ import annotations

import re

from llasa_cli.text.normalize.amounts import is_before_noun
from llasa_cli.text.normalize.dates import MONTH, WEEKDAY
from llasa_cli.text.normalize.measures import is_inches_of_noun, unit_names
from llasa_cli.text.normalize.money import SIGNS
from llasa_cli.text.normalize.numbers import cardinal, decimal, ordinal
from llasa_cli.text.normalize.token_class import after, before
from llasa_cli.text.normalize.vocabulary import BEFORE_NUMBERS, BIBLE_NAMES, LETTERS, LOCATORS, SYMBOLS

_PART_OF = re.compile(
    r"[\s-](?:inch|foot|feet|mile|yard|cup|ounce|pound|acre|second|scale)|\sof\s(?:an?|the|it|them|all)\b"
)
_SIXTEENTHS = re.compile(
    r"[\s-](?:wrench|socket|bolt|nut|bit|drill|screw|plywood|thick|share|stake|interest|hole|gap|rod|wire|pipe|tubing)"
)
_BEFORE_DATE = re.compile(
    r"\b(?:on|by|from|to|since|until|till|before|after|the|due|through|for|and|of|this|last|next)\s$", re.IGNORECASE
)


def say_fraction(match: re.Match[str]) -> str | None:
    whole, over, under = match["whole"], int(match["over"]), int(match["under"])
    glued = match["unit"] == "in" and match.string[match.start("unit") - 1].isdigit()
    names = unit_names(match["unit"], after(match), glued) if match["unit"] else None
    if (match["unit"] and names is None) or not _is_fraction(match, over, under):
        return None
    name = {2: "half", 4: "quarter"}.get(under) or ordinal(under)
    plural = "halves" if under == 2 else name + "s"
    said = f"{cardinal(over)} {name if over == 1 else plural}"
    said = f" {cardinal(int(whole))} and {said}" if whole else f" {said}"
    if names is None:
        return said + " "
    return f"{said} {names[1] if whole and not (is_before_noun(match) or is_inches_of_noun(match)) else names[0]}"


def _is_fraction(match: re.Match[str], over: int, under: int) -> bool:
    """1/2, 2 3/16, 9/16 wrench, 11/12 of it; but 12/25, "on 9/16" and "the 1/16 meeting" are days."""
    text, start = match.string, before(match, 9)
    if not 0 < over < under or (not match["unit"] and WEEKDAY.search(start)) or _is_score(match):
        return False
    if under < 10 or match["whole"] or match["unit"] or under in (32, 64) or _PART_OF.match(text, match.end()):
        return True
    day = over % 2 == 0 or (over < 13 and _BEFORE_DATE.search(start))
    return under == 16 and not day and bool(_SIXTEENTHS.match(text, match.end()))


def _is_score(match: re.Match[str]) -> bool:
    return bool(
        re.match(r"\s(?:stars?|points?|rating|score)\b", after(match, 10))
        or re.search(r"[★☆⭐]\s?\(?$", before(match, 3))
    )


def say_stars(match: re.Match[str]) -> str | None:
    """★★★☆ -> three out of four stars; one alone, and one after a number, are of another class."""
    on, off = len(match["on"]), len(match["off"])
    if on + off < 2 or re.search(r"\d\s?$", before(match, 2)):
        return None
    return f" {cardinal(on)} {f'out of {cardinal(on + off)} ' if off else ''}stars "


_COUNTED_OFF = re.compile(
    r"\b(?i:page|step|part|word|item|line|game|task|test|disc|lap|day|slide|attempt|retry|stage|phase|epoch|iteration|shard|question)\s$"
)


_COUNTED_AFTER = re.compile(
    r"\s(?:laps|pages|questions|votes|seats|games|stages|holes|passes|passing|shots)\b|,\s\d+ (?:yds|yards)\b"
)


def say_part_of_count(match: re.Match[str]) -> str | None:
    """page 3/10, Retry 3/5 -> three of ten."""
    is_count = _COUNTED_OFF.search(before(match, 12)) or (
        int(match[1]) <= int(match[2]) and _COUNTED_AFTER.match(match.string, match.end())
    )
    return f"{cardinal(int(match[1]))} of {cardinal(int(match[2]))}" if is_count else None


def say_out_of(match: re.Match[str]) -> str | None:
    """8/10 -> eight out of ten; 4.5/5 stars -> four point five out of five stars."""
    is_percentage = match["of"] == "100" and len(match["score"]) == 2
    if match["of"] == match["score"] == "5":
        return " five out of five "
    if match["of"] != "10" and "." not in match["score"] and not is_percentage and not _is_score(match):
        return None
    if float(match["score"]) > 2 * int(match["of"]):  # 90/10, and no 11/10
        return None
    return f" {decimal(match['score'])} out of {cardinal(int(match['of']))} "


def say_pair(match: re.Match[str]) -> str | None:
    """24/7, 9/11, 50/50; 120/80 -> one hundred twenty over eighty; 50/60 Hz -> fifty or sixty."""
    first, second = match[0].removesuffix(match["hertz"] or "").split("/")
    if (first, second) in (("24", "7"), ("9", "11")) or (first == second and len(first) == 2):
        return f" {cardinal(int(first))} {cardinal(int(second))} "
    if int(first) + int(second) == 100 and len(second) == 2:  # 80/20
        return f" {cardinal(int(first))} {cardinal(int(second))} "
    if match["hertz"]:
        return f" {cardinal(int(first))} or {cardinal(int(second))} hertz "
    return f" {cardinal(int(first))} over {cardinal(int(second))} " if int(first) > 12 else None


def say_three(match: re.Match[str]) -> str | None:
    """50/30/20 -> fifty thirty twenty; 25/8/11 -> twenty five, eight, eleven."""
    numbers = [int(number) for number in match.groups()]
    if any(number.startswith("0") for number in match.groups()) or numbers == [24, 7, 365]:
        return None
    return (" " if sum(numbers) == 100 else ", ").join(map(cardinal, numbers)) + " "


def say_ratio(match: re.Match[str]) -> str:
    """3:1 -> three to one; Psalm 23:4 -> Psalm twenty three four; 45:30 -> forty five thirty, a time or shares."""
    clock = re.match(r"[0-5]\d(?![\w:]|[.,]\d)", after(match, 4))
    if clock and len(match[1]) in (2, 3) and int(match[1]) > 24:
        return f" {cardinal(int(match[1]))} "  # the number after it says its zero
    if match[1] in ("16", "21") and re.match(r"(?:9|10)(?!\d)", after(match, 3)):  # the ratio of a screen
        return f" {decimal(match[1])} by "
    book = re.search(r"([A-Z][a-z'’]+)\.?\s(?:\d{1,3}:\d[\d:,;–\s-]{0,16}[–,;-]\s?)?$", before(match, 40))
    return f" {decimal(match[1])} " + ("" if book and book[1].lower().replace("’", "'") in BIBLE_NAMES else "to ")


def say_ratio_of_amounts(match: re.Match[str]) -> str:
    """1:10,000 -> one to ten thousand; 1.3:1 -> one point three to one."""
    return f" {decimal(match[1] or match[3])} to {decimal(match[2] or match[4])} "


_ALGEBRA_BEFORE = re.compile(r"(?:[=+*^(]\s?|\w\s-\s|\bsolve\s)$", re.IGNORECASE)
_ALGEBRA_AFTER = re.compile(r"\s(?:squared|cubed)\b|\s?[=+^]|\s?-\s?\d{1,9}[a-z]?\s?=")


def say_product(match: re.Match[str]) -> str | None:
    """A factor beside its variables, in a formula: 2x + 1 -> two ex plus one; but 2x faster and 5g + 3g."""
    if not _ALGEBRA_BEFORE.search(before(match, 8)) and not (
        match["variables"][0] in "xyz" and _ALGEBRA_AFTER.match(match.string, match.end())
    ):
        return None
    if match["variables"] not in ("x", "y", "z", "n", "ac", "ab", "bc", "xy", "xyz", "abc", "ax", "bx", "by"):
        return None
    return f" {decimal(match['factor'])} {' '.join(LETTERS[letter] for letter in match['variables'])} "


_COUNT_AFTER = re.compile(r"\s?[=×*<>≈]|/|\s[+−-]\s?\d|\s(?:has|grows|equals|is(?! that| it| this))\b")


def say_factorial(match: re.Match[str]) -> str | None:
    """5! = 120 -> five factorial; n! -> en factorial; but "I got 5!"."""
    number = match["number"]
    if number.isdigit():
        return f" {cardinal(int(number))} factorial" if _COUNT_AFTER.match(match.string, match.end()) else None
    return f"{LETTERS[number]} factorial"


def say_quotient(match: re.Match[str]) -> str | None:
    """a/b = c/d -> ay over bee; but n/a and w/o."""
    equation = re.match(r"\s?[=+<>≤≥≈]", after(match, 3)) or re.search(r"[=+<>≤≥≈]\s?$", before(match, 3))
    return f"{LETTERS[match['above']]} over {LETTERS[match['below']]} " if equation else None


def say_worded_fraction(match: re.Match[str]) -> str | None:
    """2/3rds -> two thirds."""
    over, under = int(match["over"]), int(match["under"].replace(",", ""))
    if not 0 < over < under:
        return None
    return f" {cardinal(over)} {ordinal(under) if over == 1 else ordinal(under) + 's'} "


def say_power_of_ten(match: re.Match[str]) -> str:
    minus = "minus " if match[2] else ""
    return f" {decimal(match[1])} times ten to the power of {minus}{cardinal(int(match[3]))} "


def say_function(match: re.Match[str]) -> str:
    """f(x) -> eff of ex; f'(x) -> eff prime of ex; O(1) -> oh of one."""
    value = match["value"]
    primes = ("", " prime", " double prime")[len(match["primes"])]
    return f"{LETTERS[match['name'].lower()]}{primes} of {cardinal(int(value)) if value.isdigit() else LETTERS[value]}"


_RANGES = [
    (re.compile(start), re.compile(following), dashes)
    for start, following, dashes in (
        (r"\d\s?$", r"\d", "-–"),
        (r"(?<![A-Za-z])\d[\d.,]{0,8}[kKMB]$", r"\d[\d.,]{0,8}[kKMB]?\b", "-–—"),
        (r"\d(?:st|nd|rd|th)\s?$", r"\s?\d+(?:st|nd|rd|th)\b", "-–—"),
        (r"\d['’]\s?$", r"\s?\d{1,2}['’]", "-–"),
        (r"\d0s\s?$", r"\s?['’]?\d{1,3}0s\b", "-–—"),
        (r"\b(?:BCE?|AD|CE)\s?$", r"\s?(?:AD\s)?\d", "-–—"),
        (r"°\s?[CF]?\s?$", r"\s?-?\d", "-–—"),
        (r"\b[QH]\d\s?$", r"\s?[QH]\d\b", "-–—"),
        (r"\d[a-h]$", r"[a-h](?!\w)", "–"),
        (r"(?<![A-Za-z])[A-Z]\d{1,3}$", r"[A-Z]\d{1,3}\b", "–"),
        (r"(?<![A-Za-z])[ivx]{1,5}\s?$", r"\s?[ivx]{2,5}(?![\w-])", "-–"),
        (r"(?<![A-Za-z])[IVX]{1,6}\s?$", r"\s?[IVX]{2,6}(?![\w-])", "-–—"),
        (r"\b(?:pp\.|[Pp]ages)\s[ivxlc]{1,6}$", r"[ivxlc]{1,6}\b", "-–"),
        (r"\d\s$", r"\s\d", "-–"),
        (r"\d\]$", r"\[\d", "-–"),
        (r"(?<![A-Za-z])[A-Z]{3}$", r"[A-Z]{3}(?!\w)", "–"),
        (r"(?<![\w-])(?:X{0,3}[SL]|M)$", r"(?:X{0,3}[SL]|M)(?![\w-])", "–"),
        (r"(?::\d\d|[\d ][apAP]\.?[mM]\.?|%|[′″])\s?$", r"\s?\d", "-–—"),
        (r"[\d ][apAP]\.?[mM]\.?\s?$", r"\s?(?:noon|midnight)\b", "-–—"),
        (r"\d\s?$", r"\s?\d\d?(?::\d\d)?\s?[aApP]\.?m\b", "-–—"),
        (
            rf"(?:(?:{MONTH})\.?\s\d\d?(?:st|nd|rd|th)?|\d\s(?:{MONTH})\.?)\s?$",
            rf"\s?(?:\d\d?\s)?(?:{MONTH})\b",
            "-–—",
        ),
        (rf"[{SIGNS}]\d[\d,.]{{0,20}}(?:[kKmMbBtT]n?|\s(?:m|b|tr)illion)?$", rf"[{SIGNS}]\d", "-–—"),
        (rf"[{SIGNS}]\d[\d,.]{{0,20}}(?:[kKmMbBtT]n?|\s(?:m|b|tr)illion)?\s$", rf"\s[{SIGNS}]\d", "-–—"),
    )
]
"""The pattern before and after a dash that is read as "to"."""
_SUBTRACTION = re.compile(r"\s?\d[\d.]{0,20}\s?=")
_TWO_DIGITS = re.compile(r"(?<![\w.,:/-])\d\d$")


def say_range(match: re.Match[str]) -> str | None:
    """The dash between two amounts, times or days: 3–4 -> three to four; but 50-50, and 3 - 1 = 2."""
    start, following, dash = before(match, 45), after(match, 45), match[0]
    if start.rstrip()[-1:].isdigit() and _SUBTRACTION.match(following):
        return " minus "
    if (
        re.search(r"\b(?:Table|Figure|Exhibit|Listing|Example|Problem|Equation|(?:Fig|Tbl|Ex|Eq)\.) [A-Z]?\d+$", start)
        and dash == "-"
    ):
        return " dash "
    locator = re.search(r"([A-Za-z]+)\.?\s\d{1,4}(?:\s\d⁄\d)?\s$", start)
    if (
        locator
        and locator[1].lower() in LOCATORS
        and re.match(r"\s\d+(?::\d\d\b|(?:st|nd|rd|th)\b|\s[A-Za-z])", following)
    ):
        return ", "  # Track 03 – 4:33
    same = _TWO_DIGITS.search(start)
    if same and dash != "—" and re.match(rf"(?:{same[0]}|{100 - int(same[0])})(?!\w|%|[.,:-]\d)", following):
        return " "  # 50-50, 80-20
    if re.search(r"[A-Za-z]{2}(?:[A-Za-z\d.]*-)?\d[\d.]*$", start) and re.match(r"\d[\d.]*[BM]\b", following):
        return " "  # Llama-3.1-8B
    if re.search(r"(?:\b(?:squared|cubed|power of \w+)|\^\w+)\s?$", start) and re.match(r"\s?[\da-z(]", following):
        return " minus "
    is_range = any(dash in dashes and a.search(start) and b.match(following) for a, b, dashes in _RANGES)
    return " to " if is_range else None


def say_minus(match: re.Match[str]) -> str:
    return " minus "


def say_by(match: re.Match[str]) -> str | None:
    """3x4, 8.5″ x 11″ -> by; 3 x 4 = 12 -> times."""
    start, following = before(match, 10), after(match, 26)
    if match[0] != "*" and re.search(r"(?<!\w)[LWHD]\s?$", start) and re.match(r"\s?[LWHD](?![\w'’])", following):
        return " by "  # (L x W x H)
    if match[0] != "*" and not re.search(
        r"(?:\d|[′″'’](?:\s?[WDHL]\b)?|\d\s?(?:cm|mm|ft|in|yd|m|lbs?|kg|reps?|sets?|sts|rows)\.?)\s?$", start
    ):
        return None
    if match[0] == "*":
        product = re.search(r"(?:\d|(?<!\w)[a-z])\s?$", start) and re.match(r"\s?(?:\d|[a-z](?!\w))", following)
        return " times " if product else None
    if not re.match(r"\s?\d", following):
        return None
    if (
        match[0] != "*"
        and re.search(r"(?<![\d.])\d{1,2}\s$", start)
        and re.match(r"\s\d{1,4}\s?(?:k?g|m[lL]|oz|mg)\b", following)
    ):
        return " times "  # 2 x 400g tins
    if re.search(r"\d\s?(?:lbs?|kg|reps?|sets?)\s$", before(match, 9)):
        return " times "  # 225 lbs x 5
    if re.match(r"\s?\d[\d.]{0,20}\s?=|\s?10(?:\^|\sto the power)", following):
        return " times "
    return None if re.search(r"(?<!\d)0$", start) else " by "


def _is_product(match: re.Match[str]) -> bool:
    """5 · 6 and a · b; but "S01E05 · 42min · 1080p"."""
    factor = r"(?:\d[\d.]*|\d{0,2}[a-z]|\))"
    left = re.search(rf"(?<![\w.-]){factor}\s$|\)\s$", before(match, 12))
    return bool(left and re.match(r"\s(?:\d[\d.]*|\d*[a-z]|\()(?![\w-])(?!\s[A-Za-z]{2})", after(match, 12)))


_RATIO_WORDS = frozenset(
    "the as a an of in on at to for this his its that what is was per than returns gains profits revenues sales earnings points rewards miles odds levels times wins losses results speeds yields bonus".split()
)


def say_times(match: re.Match[str]) -> str:
    """2x faster, a 3x increase -> times; bought 2x AA batteries, 1x onion -> two batteries."""
    things = re.match(r"(?:\s[\w\"″&-]+){1,3}", after(match))
    words = things[0].split() if things else []
    plural = next((at for at, word in enumerate(words) if re.fullmatch(r"[A-Za-z]+[^suiaA-Z]s", word)), None)
    single = match[1] == "1" and words and words[0].isalpha()
    counted = single or (plural is not None and not _RATIO_WORDS & {word.lower() for word in words[: plural + 1]})
    led = re.search(
        r"\b(?:an?|the|by|of|at|is|was|are|about|over|nearly|almost|up to|than|to|or|with|uses?)\s$", before(match, 9)
    )
    is_count = counted and not led and match[1].isdigit() and int(match[1]) < 51
    return f" {cardinal(int(match[1]))} " if is_count else f" {decimal(match[1])} times "


def say_symbol(match: re.Match[str]) -> str | None:
    """A sign by its name, where it stands for a word: "x < 5", but not a hashtag, nor the sign before an item of a list."""
    sign, start, following = match[0], before(match, 2), after(match, 2)
    if sign == "·" and start.endswith(" ") and following[:1].isspace() and not _is_product(match):
        return ", "
    joined = bool(re.search(r"[\w)]$", start) and re.match(r"[\w(-]|\.\d", following))
    spaced = bool(re.search(r"\S\s$", start) and re.match(r"\s\S", following))
    if sign in ("<", ">"):
        joined = bool(re.search(r"(?:\d|\b\w)$", start) and re.match(r"-?\.?\d|\w\b", following))
    if sign in ("<", ">", "=", "==") and not (joined or spaced):
        return " "
    if sign == "#" and not following[:1].isdigit():
        return " "
    if sign == "/" and start.endswith("_"):  # a part of a face
        return " "
    if (
        sign == "/"
        and start.endswith(")")
        and re.match(r"[\da-z(]", following)
        and not re.match(r"\d{2,3}\s?[°CF]", after(match, 5))
    ):
        return " over "
    if sign in "+&" and not start.strip() and following[:1].isspace():
        return " "
    return f" {SYMBOLS[sign]} " if sign in SYMBOLS else None


_REFERRED = re.compile(
    r"\b(?P<word>in|of|by|see|See|from|with|using|Using|via|than|to|unlike|Unlike|In|Following|following|ref\.|Ref\.|refs\.|Refs\.|cf\.|at|para|paragraphs?)\s$|(?:^|[.!?]\s)$"
)


_LISTED = re.compile(
    r"\b(?:[Ll]ists?|[Aa]rrays?|[Vv]ectors?|[Tt]uples?|JSON|matrix|matrices|elements?|ind(?:ex|ices)|[Ii]nterval|append|sort(?:ed)?|sum|return(?:s|ed)?|prints?|input|output)\b|[=(\[:∈]\s?$|\[\[|\b[a-z]\s(?:in|∈)\s$"
)


def is_list(match: re.Match[str]) -> bool:
    """x = [2, 3] and "the list [2, 3]", not "as shown in [2, 3]"."""
    return "," in match[0] and bool(
        _LISTED.search(before(match, 30)) or re.search(r"\b(?:lists?|arrays?|vectors?|tuples?)\b", after(match, 30))
    )


_SECOND_REFERENCE = re.compile(
    r"\b(?:[Ii]n|of|by|[Ss]ee|from|with|[Uu]sing)\s\[\d{1,3}\](?:,\s\[\d{1,3}\]){0,4},?\s(?:and|or|&)\s$"
)


def say_reference(match: re.Match[str]) -> str | None:
    """as shown in [12] -> in reference twelve; at [45] -> at forty five; a note after a word is left out elsewhere."""
    if re.search(r"\d\]\s?[-–]$", before(match, 4)):  # [45]-[47]
        return f" {cardinal(int(match['numbers']))} " if match["numbers"].isdigit() else None
    if match["numbers"].isdigit() and _SECOND_REFERENCE.search(before(match, 40)):
        return cardinal(int(match["numbers"]))
    if is_list(match):
        return ", " + ", ".join(cardinal(int(number)) for number in re.findall(r"\d+", match["numbers"])) + ", "
    found = _REFERRED.search(before(match, 14))
    if found is None or (
        not found["word"]
        and not re.match(
            r"\s(?:shows?|showed|use[sd]?|proposed?|proposes|found|finds|report(?:s|ed)|and|argues?|argued|presents?)\b",
            after(match, 12),
        )
    ):
        return None
    numbers = [
        " to ".join(cardinal(int(number)) for number in re.findall(r"\d+", part))
        for part in re.split(r",?\s(?:and|or)\s|,", match["numbers"])
    ]
    plain = found["word"] in ("at", "para", "paragraph", "paragraphs") or (found["word"] or "").lower().startswith(
        "ref"
    )
    said = ", ".join(numbers[:-1]) + (" and " if numbers[1:] else "") + numbers[-1]
    return said if plain else f"reference{'' if match['numbers'].isdigit() else 's'} {said}"


def is_note(match: re.Match[str]) -> bool:
    """He won.1 Then; but "fig.1", "No.5" and "ver.2"."""
    word = re.search(r"([A-Za-z]+)$", before(match, 20))
    return word is None or match["mark"] != "." or (len(word[1]) > 1 and word[1].lower() not in BEFORE_NUMBERS)
