"""Tokens that begin with a digit, a sign of money or a sign before a number: dates, times, money, measures and the rest.

    $3.50 -> three dollars and fifty cents;  5 km -> five kilometers;  7/16″ -> seven sixteenths inch

Before a noun money and units are singular: "a $20 bill" is a twenty dollar bill, "a 10-km run" a ten-kilometer run.
"""

from __future__ import annotations

import re

from llasa_cli.text.normalize.numbers import LONGEST_NUMBER, cardinal, decimal, digits, ordinal, pairs, year
from llasa_cli.text.normalize.token_class import TokenClass, after, before, may_end_sentence
from llasa_cli.text.normalize.vocabulary import (
    BEFORE_NUMBERS,
    BIBLE_BOOKS,
    BIBLE_NAMES,
    CASED_UNITS,
    CURRENCIES,
    DIRECTIONS,
    DOLLARS,
    EACH,
    LETTERS,
    LOCATORS,
    MONEY_CODES,
    MONTH_NAMES,
    MONTHS,
    PLACES,
    ROUND_NUMBERS,
    SCALES,
    SHORT_EACH,
    SHORT_UNITS_IN_CAPITALS,
    SIGN_UNITS,
    SYMBOLS,
    UNIT_KINDS,
    UNITS,
)

AMOUNT = r"(?:\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?|(?<!\w)\.\d+)"
_SIGNS = "".join(CURRENCIES)
_LONG_SCALES = "hundred|thousand|million|billion|trillion"
_UNIT = (
    r"(?:(?:in|c)\.(?=\s[a-z]|[,;)])|in\b\.?(?=\sby\s)|(?<=\d)in\b(?!-\d)"
    r"|(?i:km/h|m/s)\b|(?:(?i:sq|cu|fl)\.?[ -])?[A-Za-zμΩ]{1,5}(?!\w)|[″¢])"
)
"""The pattern of a possible unit; `unit_names` knows which are."""
_UNIT_END = r"(?:\.(?=\s+(?:[a-z0-9(+&$=]|[NS][EW]\b)|[,;:)-]))?"
"""The full stop of a shortened unit, where a sentence doesn't end."""
_MONTH = "|".join(sorted(MONTH_NAMES, key=len, reverse=True))
_HALF_DAY = r"[aApP](?:\.[mM]\.|[mM]\b)"
_ZONE = re.compile(r"\s(?:[ECMP][SD]?T|GMT|UTC|BST|CES?T)\b")
_NOUN = re.compile(
    r"\s(?!(?:a|an|the|and|or|but|nor|than|to|of|off|in|on|at|for|from|by|with|per|each|every|as|if|is|was|are|were|be|"
    r"will|would|has|had|may|more|less|up|down|over|under|into|about|after|before|when|while|that|which|who|I(?!-)|he|she|"
    r"we|you|they|it|so|not|because|could|should|would|does|did|isn|wasn|says?|said|draws?|costs?|x|plus|minus|equals)\b)[A-Za-z]"
)
_ARTICLE = re.compile(
    r"(?:\b(?:an?|the|this|its|my|your|his|her|our|their)|(?<!\bit)(?<!hat)(?<!\bhe)(?<!\bshe)(?<!ere)(?<!\bwho)(?<!\blet)['’]s"
    r"|\w-year,)\s$",
    re.IGNORECASE,
)
"""Before "$44 billion plan": the, its, Musk's, five-year; but "it's $20 cash"."""
_AMOUNT_AND_NOUN = re.compile(r"\s\d[\d,.]{0,12}\s?[A-Za-z]{1,5}\s[a-z]{3}")
_AFTER_AMOUNT = re.compile(r"(?<=\s)\d[\d,.]*\s?[A-Za-z]{1,3}\s$")
_PART_OF = re.compile(
    r"[\s-](?:inch|foot|feet|mile|yard|cup|ounce|pound|acre|second|scale)|\sof\s(?:an?|the|it|them|all)\b"
)
_SIXTEENTHS = re.compile(
    r"[\s-](?:wrench|socket|bolt|nut|bit|drill|screw|plywood|thick|share|stake|interest|hole|gap|rod|wire|pipe|tubing)"
)
_WEEKDAY = re.compile(r"(?:day|Mon|Tues?|Wed|Thurs?|Fri|Sat|Sun)[.,]{0,2}\s\(?$")
_DUE = re.compile(
    r"\b(?:(?P<date>due|until|till|dated|expires|starting|ending|deadline:?|RSVP by)|by|since|before|after|through|thru)\s$",
    re.IGNORECASE,
)
"""Before a month and a day, and those of them before which no fraction stands."""
_BEFORE_DATE = re.compile(
    r"\b(?:on|by|from|to|since|until|till|before|after|the|due|through|for|and|of|this|last|next)\s$", re.IGNORECASE
)
_FEW_LETTERS = re.compile(
    r"(?:run|race|time|pace|loop|trail|finisher|runner|course|training|pb|tv|tvs|video|monitor|display|screen|resolution|uhd|footage|walk)\b",
    re.IGNORECASE,
)
_RACE = re.compile(
    r"\b(?:ran|run|runs|running|finished|first|local|charity|Turkey Trot) (?:an? |the |my |her |his )?(?:first )?$"
)
_COUNTED = re.compile(
    r"\s(?:followers|users|views|people|likes|dollars|subscribers|downloads|members)\b", re.IGNORECASE
)


def _is_before_noun(match: re.Match[str]) -> bool:
    """a $20 bill, a 6 ft. man, $20-a-month; not "It costs $20 to enter", nor "a $20 or more"."""
    text, end = match.string, match.end()
    if text.startswith("-", end) and text[end + 1 : end + 2].isalpha():
        return True
    if _AMOUNT_AND_NOUN.match(text, end) and _ARTICLE.search(before(match, 9)):
        return True  # a 3.7V 2600mAh battery
    start = _AFTER_AMOUNT.sub("", before(match, 24))
    return bool(_ARTICLE.search(start[-9:]) and _NOUN.match(text, end))


def _is_place(match: re.Match[str]) -> bool:
    """Whether the word before names a place with a number: seat 12A."""
    word = re.search(r"([A-Za-z]+)\.?\s#?$", before(match, 20))
    return before(match, 1) == "#" or (word is not None and word[1].lower() in LOCATORS)


# Dates and times


def _numeric_date(match: re.Match[str]) -> str | None:
    """2024-05-01; 3/14/2025 (month first, unless it can't be one); 15.3.2024 (day first)."""
    if match["iso_year"]:
        written, month, day = match["iso_year"], int(match["iso_month"]), int(match["iso_day"])
        ending = ", " if match["and_time"] else ""
    else:
        written, first, second, ending = match["year"], int(match["first"]), int(match["second"]), ""
        if len(written) == 2 and match["sep"] != "/":
            return None
        day_first = (match["sep"] == "." and second < 13) or (first > 12 and len(written) == 4)
        day, month = (first, second) if day_first else (second, first)
    if not (0 < month < 13 and 0 < day < 32):
        return None
    number = int(written) + (0 if len(written) == 4 else 2000 if int(written) < 50 else 1900)
    return f" {MONTHS[month - 1]} {ordinal(day)}, {year(number)}{ending}"


def _day_and_month(match: re.Match[str]) -> str:
    """12 March -> the twelfth of March."""
    article = "" if re.search(r"\bthe\s$", before(match, 5), re.IGNORECASE) else "the "
    stop = "." if match["stop"] and may_end_sentence(match) else ""
    return f"{article}{ordinal(int(match['day']))} of {MONTH_NAMES[match['month']]}{stop}"


def _time(match: re.Match[str]) -> str:
    """9:05 -> nine oh five; 14:05:30 -> fourteen oh five and thirty seconds; 1:30:00 -> one hour thirty minutes."""
    written, half, second = match["hour"] or match["only_hour"], match["half"] or match["only_half"], match["second"]
    hour, minute = int(written), int(match["minute"] or 0)
    if written == "0" and not second and not half:  # 0:45 of a clip
        return f" {_duration(None, None, match['minute'])} "
    if second and not half and written in (str(hour % 10), "00"):
        return _duration(written, match["minute"], second)
    said = cardinal(hour)
    if minute:
        said += f" oh {cardinal(minute)}" if minute < 10 else f" {cardinal(minute)}"
    elif not half:
        said += " hundred" if hour > 12 or hour == 0 else " o'clock"
    if second and int(second):
        said += f" and {_counted(int(second), 'second')}"
    if not half:
        return f" {said} "
    stop = "." if half.endswith(".") and may_end_sentence(match) and not _ZONE.match(match.string, match.end()) else ""
    return f" {said} {'ay' if half[0] in 'aA' else 'pee'} em{stop}"


def _counted(count: int, name: str) -> str:
    return f"{cardinal(count)} {name}{'' if count == 1 else 's'}"


def _duration(*counts: str | None) -> str:
    """Hours, minutes and seconds, those that are not zero, by their names."""
    named = zip((int(count or 0) for count in counts), ("hour", "minute", "second"), strict=True)
    return " ".join(_counted(count, name) for count, name in named if count) or "zero seconds"


def _hours_and_minutes(match: re.Match[str]) -> str:
    """1h 20m 30s; 5m 3s; 1h30."""
    if match["bare_minute"]:
        hour = int(match["bare_hour"])
        said = _counted(hour, "hour") if hour < 13 else cardinal(hour)
        return f"{said} {cardinal(int(match['bare_minute']))}" if int(match["bare_minute"]) else said
    return _duration(match["hour"], match["minute"] or match["only_minute"], match["second"] or match["only_second"])


def _decade(match: re.Match[str]) -> str:
    number = int(match["decade"])
    name = year(number) if number > 99 else cardinal(number)
    return f" {name[:-1]}ies " if name.endswith("y") else f" {name}s "


# Telephone and other numbers that are read by their digits


def _telephone(match: re.Match[str]) -> str | None:
    """A number in groups. "500-1000" is a range."""
    groups = re.findall(r"\d+", match[0])
    if re.fullmatch(r"\d{1,2}(?:-\d{1,2})+", match[0]):
        return None
    if len(groups) == 2 and groups[0].endswith("0") and groups[1].endswith("00"):
        return None
    return ("plus " if match[0].startswith("+") else "") + ", ".join(map(digits, groups))


def _emergency(match: re.Match[str]) -> str | None:
    """call 911 -> nine one one; but "Call 300 people"."""
    called = re.search(r"\b(?:call|dial|phone)(?:s|ed|ing)?\s$", before(match, 12), re.IGNORECASE)
    return digits(match[0]) if called else None


def _model(match: re.Match[str]) -> str | None:
    """747-8 -> seven forty seven eight; 747-400 -> seven forty seven four hundred."""
    if match[1].endswith("00"):
        return None
    return f"{pairs(match[1])} {cardinal(int(match[2]))}"


# Amounts: money, measures, fractions


def _money(match: re.Match[str]) -> str | None:
    sign = match["sign"] or match["sign_after"]
    one, many, small, smalls = CURRENCIES[sign]
    if match["prefix"]:
        if sign != "$":
            return None
        country = DOLLARS[match["prefix"]]
        one, many = f"{country} {one}".lstrip(), f"{country} {many}".lstrip()
        if match["prefix"] == "R":
            one, many = "real", "reais"
    amount = match["amount"] or match["amount_before"]
    if match["sign_after"] and re.fullmatch(r"\d+,\d\d", amount):
        amount = amount.replace(",", ".")
    whole, _, cents = amount.replace(",", "").partition(".")
    single = match["joint"] == "-" or _is_before_noun(match)
    low = f"{decimal(match['low'].rstrip('-–—'))} to " if match["low"] else ""
    scale = match["scale"] or (SCALES[match["short_scale"].lower()] if match["short_scale"] else "")
    if match["named"]:
        return f" {low}{decimal(amount)} {scale}".rstrip() + match["named"]
    if scale or len(cents) not in (0, 2):
        return f" {low}{decimal(amount)} {scale}".rstrip() + f" {one if single else many} "
    parts = []
    if int(whole or "0") or not cents:
        parts.append(f"{decimal(whole or '0')} {one if int(whole or '0') == 1 or single else many}")
    if cents and int(cents):
        is_one = int(cents) == 1 or (single and small != "penny")
        parts.append(f"{cardinal(int(cents))} {small if is_one else smalls}")
    return f" {low}{' and '.join(parts) or f'zero {many}'} "


def _coded_money(match: re.Match[str]) -> str | None:
    """CHF 50 -> fifty Swiss francs; 2 million SEK -> two million Swedish kronor."""
    one, many = MONEY_CODES[match["code"] or match["code_after"]]
    amount, low = match["amount"] or match["amount_before"], match["low"] or match["low_before"]
    scale = match["scale"] or (SCALES[match["short_scale"].lower()] if match["short_scale"] else "")
    said = f" {decimal(low.rstrip('-–—'))} to" if low else ""
    whole, _, cents = amount.partition(".")
    small = next((sign[2:] for sign in CURRENCIES.values() if sign[0] == one or one.endswith((" dollar",))), None)
    if small and len(cents) == 2 and not scale and int(whole.replace(",", "") or 0):
        and_cents = f" and {cardinal(int(cents))} {small[0] if cents == '01' else small[1]}" if int(cents) else ""
        return f"{said} {decimal(whole)} {one if whole == '1' else many}{and_cents} "
    single = (amount == "1" and not scale and not low) or _is_before_noun(match)
    return f"{said} {decimal(amount)} {scale + ' ' if scale else ''}{one if single else many} "


def unit_names(written: str, following: str = "", glued: bool = False) -> tuple[str, str] | None:
    """ "sq. ft" -> ("square foot", "square feet"); None where the letters are no unit, as in "2017 Gal Gadot".

    Args:
        written: The letters.
        following: The text after them.
        glued: The amount stands before them without a space: "3in" has inches, "3 in all" has none.
    """
    *kind, short = re.findall(r"[^\s.-]+", written)
    if short in CASED_UNITS and not kind:
        return CASED_UNITS[short]
    is_word = (
        short in ("in", "c") and not kind and "." not in written and not re.match(r"\sby\s", following) and not glued
    )
    names = SIGN_UNITS.get(short.lower()) or UNITS.get(short.lower())
    if names is None or is_word:
        return None
    if short[0].isupper() and not kind:
        in_capitals = re.match(r"\s[A-Z]{3}|\W{0,2}$", following)
        if len(short) == 1 or short == "HRs" or (short in SHORT_UNITS_IN_CAPITALS and not in_capitals):
            return None
        if short[1:].islower() and short != "Mbit" and re.match(r"\.?\s[A-Z]", following):
            return None
    prefix = UNIT_KINDS[kind[0].lower()] if kind else ""
    return prefix + names[0], prefix + names[1]


def _measure(match: re.Match[str]) -> str | None:
    names = unit_names(match["unit"], after(match), glued=not match["joint"] and match["unit"] == "in")
    if names is None or (match["unit"] in CASED_UNITS and not _is_cased_unit(match)):
        return None
    single = match["amount"] == "1" or match["joint"] == "-" or _is_before_noun(match)
    return f" {decimal(match['amount'])}{'-' if match['joint'] == '-' else ' '}{names[0] if single else names[1]}"


def _torque(match: re.Match[str]) -> str:
    """410 lb-ft -> four hundred ten pound-feet."""
    names = {"lb": "pound", "ft": "foot", "N": "newton"}
    many = {"ft": "feet", "lb": "pounds", "lbs": "pounds", "m": "meters"}
    return f" {decimal(match[1].rstrip('.,'))} {names[match[2]]}-{many[match[3]]}"


def _tonnes(match: re.Match[str]) -> str:
    """575 t -> five hundred seventy five tonnes; 2 t vanilla -> two teaspoons vanilla."""
    is_spoon = len(match["amount"]) == 1 and re.match(r"\s(?!of\b)[a-z]", after(match, 4))
    return f" {decimal(match['amount'])} {'teaspoon' if is_spoon else 'tonne'}{'' if match['amount'] == '1' else 's'}"


def _bare_degrees(match: re.Match[str]) -> str | None:
    """Bake at 350F, 180C/350F; but a man of 32F, and seat 12C."""
    placed = re.search(
        r"(?:\b(?:at|to|below|above|about|around|was|is|temp|temperature|fever|of)[.:]?\s|[@/~]\s?)$",
        before(match, 14),
        re.I,
    )
    if _is_place(match) or not (placed or (len(match[1]) == 3 and match[1][0] in "1234")):
        return None
    return f" {decimal(match[1])} degrees {'Celsius' if match[2] == 'C' else 'Fahrenheit'} "


def _two_units(match: re.Match[str]) -> str | None:
    """5ft3in -> five feet three inches; 7lb4oz -> seven pounds four ounces."""
    said = []
    for amount, unit in ((match[1], match[2]), (match[3], match[4])):
        names = unit_names(unit, glued=True)
        if names is None:
            return None
        said.append(f"{decimal(amount)} {names[0] if amount == '1' else names[1]}")
    return f" {' '.join(said)}"


def _is_cased_unit(match: re.Match[str]) -> bool:
    """60W, 12 V and 0.26A; not seat 12A, nor "5 A students"."""
    unit, spaced = match["unit"], match["joint"].isspace()
    if _is_place(match) or (unit == "K" and not spaced) or re.match(r"-\d", after(match, 2)):
        return False
    if unit == "A" and re.search(r"\b[A-Z]{2,}\s$", before(match, 6)):
        return False  # MATH 2A
    if unit in ("A", "N", "J", "K") and (spaced or unit != "A"):
        return "." in match["amount"] or (unit == "K" and len(match["amount"]) > 2)
    return not (spaced and len(unit) == 1 and re.match(r"\.?\s(?:[A-Z]|\d+(?:st|nd|rd|th)\b)|\.[A-Z]", after(match, 7)))


def _fraction(match: re.Match[str]) -> str | None:
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
    return f"{said} {names[1] if whole and not _is_before_noun(match) else names[0]}"


def _is_fraction(match: re.Match[str], over: int, under: int) -> bool:
    """1/2, 2 3/16, 9/16 wrench, 11/12 of it; but 12/25, "on 9/16" and "the 1/16 meeting" are days."""
    text, start = match.string, before(match, 9)
    if not 0 < over < under or (not match["unit"] and _WEEKDAY.search(start)) or _is_score(match):
        return False
    if under < 10 or match["whole"] or match["unit"] or under in (32, 64) or _PART_OF.match(text, match.end()):
        return True
    day = over % 2 == 0 or (over < 13 and _BEFORE_DATE.search(start))
    return under == 16 and not day and bool(_SIXTEENTHS.match(text, match.end()))


def _is_score(match: re.Match[str]) -> bool:
    return bool(re.match(r"\s(?:stars?|points?|rating|score)\b", after(match, 10)))


def _out_of(match: re.Match[str]) -> str | None:
    """8/10 -> eight out of ten; 4.5/5 stars -> four point five out of five stars."""
    if match["of"] != "10" and "." not in match["score"] and not _is_score(match):
        return None
    if float(match["score"]) > 2 * int(match["of"]):  # 90/10, and no 11/10
        return None
    return f" {decimal(match['score'])} out of {cardinal(int(match['of']))} "


def _pair(match: re.Match[str]) -> str | None:
    """24/7, 9/11, 50/50; 120/80 -> one hundred twenty over eighty; 50/60 Hz -> fifty or sixty."""
    first, second = match[1], match[2]
    if (first, second) in (("24", "7"), ("9", "11")) or (first == second and len(first) == 2):
        return f" {cardinal(int(first))} {cardinal(int(second))} "
    if int(first) + int(second) == 100 and len(second) == 2:  # 80/20
        return f" {cardinal(int(first))} {cardinal(int(second))} "
    if match["hertz"]:
        return f" {cardinal(int(first))} or {cardinal(int(second))} hertz "
    return f" {cardinal(int(first))} over {cardinal(int(second))} " if int(first) > 12 else None


def _height(match: re.Match[str]) -> str | None:
    """5′11″ -> five foot eleven; 6' -> six feet; after a degree minutes and seconds."""
    count, inches = match["feet"], match["inches"]
    if re.search(r"°\s?$", before(match, 2)):
        return f"{_counted(int(count), 'minute')} {_counted(int(inches), 'second') if inches else ''}"
    quoted = match["mark"] in "'’"
    if quoted and (before(match, 1) in ("'", "‘") or (len(count) > 1 and not _is_length(match))):
        return None
    feet = f"{cardinal(int(count))} {'foot' if count == '1' or inches or _is_before_noun(match) else 'feet'}"
    return f"{feet} {cardinal(int(inches))}" if inches else feet


def _is_length(match: re.Match[str]) -> bool:
    if match["inches"] or re.match(r"\s(?:tall|high|wide|long|deep)\b|\s?(?:by|x|×)\s\d{1,3}['’]", after(match, 10)):
        return True
    return bool(re.search(r"\d['’]\s?(?:by|x|×)\s$", before(match, 9)))


def _scaled(match: re.Match[str]) -> str | None:
    """10k, 5M users, 3B people; but a 4K screen and Flat 3B."""
    amount, scale = match[1], match[2]
    if len(scale) == 1 and _is_place(match):
        return None
    if scale == "M" and before(match, 1) == "(" and after(match, 1) == ")" and len(amount) == 2:
        return f" {cardinal(int(amount))} em "  # (28M), a man of 28
    if scale in "kK":
        following = after(match, 14)
        if amount in ("3", "5", "8", "10", "15", "20", "50", "100") and _RACE.search(before(match, 24)):
            return f" {decimal(amount)} kay "
        if _FEW_LETTERS.match(following.lstrip()) or (
            scale == "K" and amount in "48" and not _COUNTED.match(following)
        ):
            return f" {decimal(amount)} kay "
    return f" {decimal(amount)} {SCALES[scale.lower()]} "


# Other numbers


_EARLY_YEAR = re.compile(
    r"\b(?:in|since|until|by|of|around|before|after|AD|year|circa|born|died|c\.|ca\.|r\.|b\.|d\.)\s?$|\b1\d{3}\s?[-–]\s?$"
)


def _is_status(match: re.Match[str]) -> bool:
    """HTTP 404, a 503 error."""
    named = re.search(r"\b(?:HTTP|[Ee]rror|[Ss]tatus)(?: code)? $", before(match, 12))
    return bool(named or re.match(r"\s(?:error|page|status)\b", after(match, 8)))


def _is_early_year(match: re.Match[str]) -> bool:
    return bool(_EARLY_YEAR.search(before(match, 10)))


_NUMBERED = re.compile(
    r"(?:#:?|\b(?:no|nr|number|part|case|order|serial|model|invoice|ticket|tracking|account|acct|policy|item|ref|id|sku|catalog|case|"
    r"flight|license|permit|docket|file|claim|lot)\b[.:]?)\s?$",
    re.IGNORECASE,
)


def _code_number(match: re.Match[str]) -> str | None:
    """Case no. 21-1234 -> its digits, as 007-8; but "items 3-5" is a range."""
    groups = match[1].split("-")
    if len(groups) == 2 and all(re.fullmatch(r"[012]\d[0-5]\d", group) for group in groups):
        return None  # 0800-1700, two times of day
    zero = groups[0][0] == "0" and len(groups[0]) > 1
    uneven = len({len(group) for group in groups}) > 1 and len(groups[-1]) > 2
    if not zero and not (uneven and _NUMBERED.search(before(match, 14))):
        return None
    return f" {', '.join(map(digits, groups))} "


def _ordinal(match: re.Match[str]) -> str:
    number = match[1].replace(",", "")
    return ordinal(int(number)) if len(number) <= LONGEST_NUMBER else digits(number)


def _dotted(match: re.Match[str]) -> str:
    """1.0.2 -> one point zero point two; 192.168.0.1 -> ... dot ..."""
    parts = match["number"].split(".")
    stage = {None: "", "rc": "are see"}.get(match["stage"], match["stage"])
    count = cardinal(int(match["count"])) if match["count"] else ""
    is_address = len(parts) == 4 and all(len(part) < 4 and int(part) < 256 for part in parts)
    return f" {(' dot ' if is_address else ' point ').join(map(decimal, parts))} {stage} {count} "


def _wireless(match: re.Match[str]) -> str:
    """802.11ac -> eight oh two dot eleven ay see."""
    letters = " ".join(LETTERS[letter] for letter in match["letters"] or "")
    return f" {pairs(match[1])} dot {cardinal(int(match[2]))} {letters} "


def _host(match: re.Match[str]) -> str:
    numbers = " dot ".join(cardinal(int(part)) for part in match["host"].split("."))
    return f" {numbers} colon {cardinal(int(match['port']))} "


def _ratio(match: re.Match[str]) -> str:
    """3:1 -> three to one; Psalm 23:4 -> Psalm twenty three four; 45:30 -> forty five thirty, a time or shares."""
    clock = re.match(r"[0-5]\d(?![\w:]|[.,]\d)", after(match, 4))
    if clock and len(match[1]) in (2, 3) and int(match[1]) > 24:
        return f" {cardinal(int(match[1]))} {'oh' if clock[0][0] == '0' and clock[0] != '00' else ''} "
    if match[1] in ("16", "21") and re.match(r"(?:9|10)(?!\d)", after(match, 3)):  # of a screen
        return f" {decimal(match[1])} by "
    book = re.search(r"([A-Z][a-z'’]+)\.?\s$", before(match, 20))
    return f" {decimal(match[1])} " + ("" if book and book[1].lower().replace("’", "'") in BIBLE_NAMES else "to ")


def _ratio_of_amounts(match: re.Match[str]) -> str:
    """1:10,000 -> one to ten thousand; 1.3:1 -> one point three to one."""
    return f" {decimal(match[1] or match[3])} to {decimal(match[2] or match[4])} "


_ALGEBRA_BEFORE = re.compile(r"(?:[=+*^(]\s?|\w\s-\s|\bsolve\s)$", re.IGNORECASE)
_ALGEBRA_AFTER = re.compile(r"\s(?:squared|cubed)\b|\s?[=+^]|\s?-\s?\d{1,9}[a-z]?\s?=")


def _product(match: re.Match[str]) -> str | None:
    """A factor beside its variables, in a formula: 2x + 1 -> two ex plus one; but 2x faster and 5g + 3g."""
    if not _ALGEBRA_BEFORE.search(before(match, 8)) and not (
        match["variables"][0] in "xyz" and _ALGEBRA_AFTER.match(match.string, match.end())
    ):
        return None
    if match["variables"] not in ("x", "y", "z", "n", "ac", "ab", "bc", "xy", "xyz", "abc", "ax", "bx", "by"):
        return None
    return f" {decimal(match['factor'])} {' '.join(LETTERS[letter] for letter in match['variables'])} "


def _hexadecimal(match: re.Match[str]) -> str | None:
    """00:1B:44:11:3A:B7, 550e8400-e29b-..., #FF5733, 0x1F -> their digits and letters, a group at a time."""
    groups = re.findall(r"[\dA-Fa-f]+", match[0].removeprefix("0x"))
    said = [" ".join(digits(c) if c.isdigit() else LETTERS[c.lower()] for c in group) for group in groups]
    return f" {'zero ex ' if match[0].startswith('0x') else ''}{', '.join(said)} "


def _verse(match: re.Match[str]) -> str:
    """1 Cor. 13:4 -> first Corinthians thirteen four."""
    nth = f"{ordinal(int(match['nth']))} " if match["nth"] else ""
    return nth + BIBLE_BOOKS[match["book"].lower()]


def _dashed_date(match: re.Match[str]) -> str:
    """25-Dec-2023 -> the twenty fifth of December twenty twenty three."""
    number = int(match["year"]) + (0 if len(match["year"]) == 4 else 2000 if int(match["year"]) < 50 else 1900)
    return f"the {ordinal(int(match['day']))} of {MONTH_NAMES[match['month']]} {year(number)}"


def _season(match: re.Match[str]) -> str | None:
    """2019/20 -> twenty nineteen twenty; 1999/00 -> nineteen ninety nine hundred."""
    first, second = int(match["first"]), int(match["second"])
    if (first + 1) % 100 != second:
        return None
    return f" {year(first)} {'oh ' if 0 < second < 10 else ''}{cardinal(second) if second else 'hundred'} "


def _worded_fraction(match: re.Match[str]) -> str | None:
    """2/3rds -> two thirds."""
    over, under = int(match["over"]), int(match["under"])
    if not 0 < over < under:
        return None
    return f" {cardinal(over)} {ordinal(under) if over == 1 else ordinal(under) + 's'} "


_NUMBERED_PLACE = re.compile(r"\b(?:[Ff]light|[Rr]oom|Xbox|[Hh]ighway|[Rr]oute)\s$")


def _coordinate(match: re.Match[str]) -> str:
    """40°42′46″N -> forty degrees forty two minutes forty six seconds north."""
    parts = [
        f"{decimal(match[unit])} {unit.removesuffix('s') if match[unit] == '1' else unit}"
        for unit in ("degrees", "minutes", "seconds")
        if match[unit]
    ]
    return f"{' '.join(parts)} {DIRECTIONS[match['toward'].lower()]} "


def _shillings(match: re.Match[str]) -> str | None:
    """£3 10s. 6d. -> three pounds ten shillings six pence; but a man in his 30s."""
    if not match["pence"] and not re.search(r"(?:£\d+|\dl\.)\s$", before(match, 10)):
        return None
    pence = f" {_counted(int(match['pence']), 'pence').removesuffix('s')}" if match["pence"] else ""
    return f"{_counted(int(match['shillings']), 'shilling')}{pence}"


def _weekday_and_date(match: re.Match[str]) -> str | None:
    """Tue 3/5 -> Tuesday March fifth; by 12/20 -> by December twentieth; but "reduced by 3/4"."""
    month, day = int(match["month"]), int(match["day"])
    if not (0 < month < 13 and 0 < day < 32) or (month, day) == (9, 11):
        return None
    start = re.sub(r"\d{1,2}/\d{1,2}\s?[-–]\s?$", "", before(match, 22))
    due = _DUE.search(start[-12:])
    is_fraction = due and month < day and day in (2, 3, 4, 5, 6, 8, 10, 12, 16) and not due["date"]
    if (not due or is_fraction) and not _WEEKDAY.search(start[-12:]):
        return None
    return f"{MONTHS[month - 1]} {ordinal(day)}"


def _power_of_ten(match: re.Match[str]) -> str:
    minus = "minus " if match[2] else ""
    return f" {decimal(match[1])} times ten to the power of {minus}{cardinal(int(match[3]))} "


_RANGES = [
    (re.compile(start), re.compile(following), dashes)
    for start, following, dashes in (
        (r"\d\s?$", r"\d", "-–"),
        (r"\d0s\s?$", r"\s?['’]?\d{1,3}0s\b", "-–—"),
        (r"\b(?:BCE?|AD|CE)\s?$", r"\s?(?:AD\s)?\d", "-–—"),
        (r"°\s?[CF]?\s?$", r"\s?-?\d", "-–—"),
        (r"\b[QH]\d\s?$", r"\s?[QH]\d\b", "-–—"),
        (r"(?<![A-Za-z])[ivx]{1,5}\s?$", r"\s?[ivx]{2,5}(?![\w-])", "-–"),
        (r"(?<![A-Za-z])[IVX]{1,6}\s?$", r"\s?[IVX]{2,6}(?![\w-])", "-–—"),
        (r"\d\s$", r"\s\d", "-–"),
        (r"(?::\d\d|[\d ][apAP]\.?[mM]\.?|%|[′″])\s?$", r"\s?\d", "-–—"),
        (r"[\d ][apAP]\.?[mM]\.?\s?$", r"\s?(?:noon|midnight)\b", "-–—"),
        (r"\d\s?$", r"\s?\d\d?(?::\d\d)?\s?[aApP]\.?m\b", "-–—"),
        (
            rf"(?:(?:{_MONTH})\.?\s\d\d?(?:st|nd|rd|th)?|\d\s(?:{_MONTH})\.?)\s?$",
            rf"\s?(?:\d\d?\s)?(?:{_MONTH})\b",
            "-–—",
        ),
        (rf"[{_SIGNS}]\d[\d,.]{{0,20}}(?:[kKmMbBtT]n?|\s(?:m|b|tr)illion)?$", rf"[{_SIGNS}]\d", "-–—"),
        (rf"[{_SIGNS}]\d[\d,.]{{0,20}}(?:[kKmMbBtT]n?|\s(?:m|b|tr)illion)?\s$", rf"\s[{_SIGNS}]\d", "-–—"),
    )
]
"""The pattern before and after a dash that is read as "to"."""
_SUBTRACTION = re.compile(r"\s?\d[\d.]{0,20}\s?=")
_TWO_DIGITS = re.compile(r"(?<![\w.,:/-])\d\d$")


def _range(match: re.Match[str]) -> str | None:
    """The dash between two amounts, times or days: 3–4 -> three to four; but 50-50, and 3 - 1 = 2."""
    start, following, dash = before(match, 45), after(match, 45), match[0]
    if start.rstrip()[-1:].isdigit() and _SUBTRACTION.match(following):
        return " minus "
    same = _TWO_DIGITS.search(start)
    if same and dash != "—" and re.match(rf"(?:{same[0]}|{100 - int(same[0])})(?!\w|%|[.,:-]\d)", following):
        return " "  # 50-50, 80-20
    if re.search(r"[A-Za-z]{2}(?:[A-Za-z\d.]*-)?\d[\d.]*$", start) and re.match(r"\d[\d.]*[BM]\b", following):
        return " "  # Llama-3.1-8B
    if re.search(r"(?:\b(?:squared|cubed|power of \w+)|\^\d+)\s?$", start) and re.match(r"\s?[\da-z(]", following):
        return " minus "
    is_range = any(dash in dashes and a.search(start) and b.match(following) for a, b, dashes in _RANGES)
    return " to " if is_range else None


def _minus(match: re.Match[str]) -> str:
    return " minus "


def _resolution(match: re.Match[str]) -> str:
    """1920x1080 -> nineteen twenty by ten eighty."""
    return f" {pairs(match[1])} by {pairs(match[2])} "


def _by(match: re.Match[str]) -> str | None:
    """3x4, 8.5″ x 11″ -> by; 3 x 4 = 12 -> times."""
    start, following = before(match, 6), after(match, 26)
    if match[0] != "*" and not re.search(r"(?:\d|[′″'’](?:\s?[WDHL]\b)?|\d\s?(?:cm|mm|ft|in|yd|m)\.?)\s?$", start):
        return None
    if match[0] == "*":
        return " times " if re.search(r"\d\s?$", start) and re.match(r"\s?\d", following) else None
    if not re.match(r"\s?\d", following):
        return None
    if re.match(r"\s?\d[\d.]{0,20}\s?=|\s?10(?:\^|\sto the power)", following):
        return " times "
    return None if re.search(r"(?<!\d)0$", start) else " by "


def _per(match: re.Match[str]) -> str | None:
    """$5/hr -> per hour; 6 / 2 = 3 -> divided by."""
    start = before(match, 26)
    if match["rest"] is None:
        return " divided by "
    if not re.search(r"(?:\d%?|\d\s?[A-Za-zμ]{1,20}(?:/[A-Za-z]{1,4})?)\s?$", start):
        return None
    if match["area"]:
        names = unit_names(match["area"])
        return f" per {names[0]}" if names else None
    each = match["each"]
    names = CASED_UNITS.get(each) or (UNITS.get(each.lower()) if re.search(r"[A-Za-zμ]\s?$", start) else None)
    return (
        f" per {SHORT_EACH.get(each.lower(), each)}" if each.lower() in EACH else f" per {names[0]}" if names else None
    )


def _money_per(match: re.Match[str]) -> str | None:
    """$/kg -> dollars per kilogram."""
    each = match["unit"].lower()
    names = UNITS.get(each)
    each_name = SHORT_EACH.get(each) or (each if each in EACH else names[0] if names else None)
    return f"{CURRENCIES[match['sign']][1]} per {each_name}" if each_name else None


def _number(match: re.Match[str]) -> str:
    """1,234.5, and Chapter 01, which is chapter one."""
    numbered = re.fullmatch("0+([1-9])", match[0]) and _is_place(match)
    return f" {decimal(match[0].lstrip('0') if numbered else match[0])} "


def _about(match: re.Match[str]) -> str:
    return " about "


def _symbol(match: re.Match[str]) -> str | None:
    """A sign by its name, where it stands for a word: "x < 5", but not a hashtag, nor the sign before an item of a list."""
    sign, start, following = match[0], before(match, 2), after(match, 2)
    joined = bool(re.search(r"[\w)]$", start) and re.match(r"[\w(-]", following))
    spaced = bool(re.search(r"\S\s$", start) and re.match(r"\s\S", following))
    if sign in ("<", ">"):
        joined = bool(re.search(r"(?:\d|\b\w)$", start) and re.match(r"-?\d|\w\b", following))
    if sign in ("<", ">", "=", "==") and not (joined or spaced):
        return " "
    if sign == "#" and not following[:1].isdigit():
        return " "
    if sign in "+&" and not start.strip() and following[:1].isspace():
        return " "
    return f" {SYMBOLS[sign]} " if sign in SYMBOLS else None


_HEX_PAIR = r"[\dA-Fa-f]{2}"
HEXADECIMAL = TokenClass(
    "hexadecimal",
    rf"""(?<![\w:-])(?:{_HEX_PAIR}(?P<joint>[:-]){_HEX_PAIR}(?:(?P=joint){_HEX_PAIR}){{4}}(?![\w:-])
    |(?=[\d:]*[A-Fa-f])(?=[A-Fa-f:]*\d){_HEX_PAIR}(?::{_HEX_PAIR}){{2,7}}(?![\w:-])
    |[\dA-Fa-f]{{8}}(?:-[\dA-Fa-f]{{4}}){{3}}-[\dA-Fa-f]{{12}}(?!\w)|0x[\dA-Fa-f]{{1,16}}(?!\w)
    |(?=[\dA-Fa-f:]{{0,5}}[\d:])[\dA-Fa-f]{{1,4}}(?::[\dA-Fa-f]{{1,4}}){{0,6}}::(?:[\dA-Fa-f]{{1,4}}(?::[\dA-Fa-f]{{1,4}}){{0,6}})?(?![\w:])
    |[\dA-Fa-f]{{1,4}}(?::[\dA-Fa-f]{{1,4}}){{7}}(?![\w:]))""",
    _hexadecimal,
)
VERSE = TokenClass(
    "verse",
    rf"(?:(?P<nth>[123])[ ])?(?P<book>(?i:{'|'.join(sorted(BIBLE_BOOKS, key=len, reverse=True))}))\b\.?(?=[ ]\d{{1,3}}:\d)",
    _verse,
)
NUMBER_CLASSES = [
    TokenClass("note", r"(?<=[.!?][\"”’)])\d{1,3}(?=\s|$)", lambda m: ""),
    TokenClass(
        "degrees",
        r"""(?P<degrees>\d{1,3}(?:\.\d{1,8})?)°\s?(?:(?P<minutes>[0-5]?\d(?:\.\d{1,6})?)['’′]\s?)?(?:(?P<seconds>[0-5]?\d(?:\.\d{1,4})?)(?:″|''|’’|′′)\s?)?
        (?P<toward>[NSEW])(?![\w'’])""",
        _coordinate,
    ),
    TokenClass("money", r"(?P<pounds>\d{1,6})l\.(?=\s\d{1,2}s\.)", lambda m: f" {cardinal(int(m['pounds']))} {'pound' if m['pounds'] == '1' else 'pounds'}"),
    TokenClass("money", r"(?P<shillings>\d{1,2})s\.(?:\s?(?P<pence>\d{1,2})d\.?)?(?=[\s,;:)]|$)", _shillings),
    TokenClass("measure", r"(?P<stone>\d{1,2})\s?st\.?\s(?P<pounds>\d{1,2})\s?lbs?\b\.?", lambda m: f" {cardinal(int(m['stone']))} stone {_counted(int(m['pounds']), 'pound')}"),
    TokenClass("measure", r"(?P<stone>\d{1,2})\s?st\s(?P<pounds>\d|1[0-3])(?![\w./:-])", lambda m: f" {cardinal(int(m['stone']))} stone {cardinal(int(m['pounds']))}"),
    TokenClass("measure", r"\.(?P<caliber>\d\d)(?=[ -]?(?:cal\b|caliber|LR\b|ACP\b|Magnum))", lambda m: f" {cardinal(int(m['caliber']))} "),
    TokenClass("code number", r"(?P<number>[1-9]\d[1-9]|[1-9][1-9]0)(?![\w-]|[.,:/]\d)", lambda m: f" {pairs(m['number'])} " if _NUMBERED_PLACE.search(before(m, 9)) else None),
    HEXADECIMAL,
    VERSE,
    TokenClass("code number", r"(\d{1,6}(?:-\d{1,7}){1,3})(?![\w-]|[.,]\d)", _code_number),
    TokenClass(
        "date",
        r"""(?P<iso_year>(?:1[1-9]|20)\d\d)(?P<iso_sep>[-/])(?P<iso_month>0[1-9]|1[0-2])(?P=iso_sep)(?P<iso_day>0[1-9]|[12]\d|3[01])(?!\d)
        (?P<and_time>T(?=\d\d:))?
        |(?P<first>0?[1-9]|[12]\d|3[01])(?P<sep>[/.-])(?P<second>0?[1-9]|[12]\d|3[01])(?P=sep)(?P<year>[12]\d{3}|\d\d)(?![\w/-]|\.\d)""",
        _numeric_date,
    ),
    TokenClass(
        "date",
        rf"(?P<day>[12]\d|3[01]|[1-9])(?:st|nd|rd|th)?[ ](?P<month>{_MONTH})\b(?P<stop>\.?)(?![ ]\d\d?(?!\d))",
        _day_and_month,
    ),
    TokenClass("ratio", r"(\d+\.\d+):(\d+(?:\.\d+)?)(?![\w:])|(\d+):(\d{1,3}(?:,\d{3})+)(?!\w)", _ratio_of_amounts),
    TokenClass("time", r"(?P<minutes>\d{1,2}):(?P<seconds>[0-5]\d\.\d{1,3})(?![\w:])", lambda m: f" {cardinal(int(m['minutes']))} {'oh ' if m['seconds'][0] == '0' else ''}{decimal(m['seconds'].removeprefix('0'))} "),
    TokenClass(
        "duration",
        r"""(?P<hour>\d{1,3})h\s?(?P<minute>[0-5]?\d)m(?:in)?(?:\s?(?P<second>[0-5]?\d)s)?\b
        |(?P<only_minute>\d{1,3})m\s?(?P<only_second>[0-5]?\d)s\b|(?P<bare_hour>\d\d?)h(?P<bare_minute>[0-5]\d)\b""",
        _hours_and_minutes,
    ),
    TokenClass(
        "time",
        rf"""(?P<hour>[01]?\d|2[0-4])(?::|\.(?=[0-5]\d\s?[aApP]\.?[mM]\b))(?P<minute>[0-5]\d)(?::(?P<second>[0-5]\d))?
        (?:h\b|Z\b|\s?(?P<half>{_HALF_DAY}|(?<=\d)[ap]\b))?(?!\d)|(?P<only_hour>0?[1-9]|1[0-2])\s?(?P<only_half>{_HALF_DAY})""",
        _time,
    ),
    TokenClass("date", rf"(?P<day>0?[1-9]|[12]\d|3[01])-(?P<month>{_MONTH})-(?P<year>[12]\d{{3}}|\d\d)(?![\w-])", _dashed_date),
    TokenClass("time", r"(?P<minute>\d{1,3})\+(?P<added>\d{1,2})['’′](?!\w)", lambda m: f"{cardinal(int(m['minute']))} plus {cardinal(int(m['added']))}"),
    TokenClass("scaled", r"1(?P<zeros>0{2}|,?000|0,?000|00,?000|,?000,?000)s\b", lambda m: ROUND_NUMBERS[m["zeros"].count("0")]),
    TokenClass("year", r"(?P<first>1[5-9]\d\d|20\d\d)/(?P<second>\d\d)(?![\w/]|[.,]\d)", _season),
    TokenClass("ordinal", r"([2-9]\d)ers\b", lambda m: f"{cardinal(int(m[1]))}{'rs' if m[1][1] in '1359' else 'ers'}"),
    TokenClass("fraction", r"(?P<over>\d{1,2})/(?P<under>\d{1,3})(?:rds?|ths?|nds?)\b", _worded_fraction),
    TokenClass("decade", r"['’]?(?P<decade>(?:1[1-9]\d|20\d|[2-9])0)['’]?s\b", _decade),
    TokenClass("zip code", r"(?<=,[ ][A-Z][A-Z][ ])\d{5}(?:-\d{4})?(?![\w-])|(?<=[ ]D\.C\.[ ])\d{5}(?:-\d{4})?(?![\w-])", _telephone),
    TokenClass("phone", r"1-[2-9]\d\d-(?=[A-Z]{2,})", lambda m: f"one {cardinal(int(m[0][2:5])) if m[0][3:5] == '00' else pairs(m[0][2:5])} "),
    TokenClass(
        "phone",
        r"""\+\d{1,3}(?:[ -](?:\(0\)[ ]?)?\(?\d{1,4}\)?){2,5}(?!\w|[.,]\d) | (?<!\d[ ])0\d{2,4}(?:[ -]\d{3,4}){1,2}(?!\w|[.,-]\d)
        |\(\d{3}\)\s?\d{3}-\d{4}(?!\w) | (?:1[-.])?\d{3}(?P<joint>[-.])\d{3}(?P=joint)\d{4}(?![\w-]) | \d{3}-\d{4}(?![\w-])
        |0\d{2,4}/\d{4,9}(?!\w)|\d{1,5}(?:-\d{1,7}){3,5}(?![\w-]) | \d{3}-\d\d-\d{4}(?![\w-]) | \d{5}-\d{4}(?![\w-]) | \d{4}(?:[ -]\d{4}){3}(?![\w-])""",
        _telephone,
    ),
    TokenClass("phone", r"(?:[2-9]11|112|999|988|\d{3}(?!\s[a-z]))\b(?![.,:'’-]\d)", _emergency),
    TokenClass("score", r"\d{1,2}(?:-\d{1,2}){2,6}(?![\w-])", lambda m: " ".join(cardinal(int(n)) for n in m[0].split("-"))),
    TokenClass("model number", r"(\d{3})-(\d|(?<=7[0-8]7-)[1-9]00)(?![\w-]|[.,]\d)", _model),
    TokenClass(
        "money",
        rf"""(?:(?P<prefix>{"|".join(sorted(DOLLARS, key=len, reverse=True))})?(?P<sign>[{_SIGNS}])\s?(?P<low>{AMOUNT}[-–—](?=\d))?(?P<amount>{AMOUNT})
        (?:\s?(?P<short_scale>(?i:k|m|bn?|tn?))\b|(?P<joint>[\s-])(?P<scale>{_LONG_SCALES})\b)?(?P<named>-(?:dollar|euro|pound)\b)?
        (?P<same>[ ](?:USD|US|EUR|GBP|JPY|INR)\b(?![ ]?\d))?
        |(?P<amount_before>\d{{1,12}}(?:[.,]\d{{1,3}}){{0,4}})\s?(?P<sign_after>[€£¥₹₽₺₪₴])(?!\.?\d))""",
        _money,
    ),
    TokenClass(
        "money",
        rf"""(?:(?P<code>{"|".join(MONEY_CODES)})\.?\s?(?P<low>{AMOUNT}[-–—](?=\d))?(?P<amount>{AMOUNT})(?!\w*-\w)
        |(?P<low_before>{AMOUNT}[-–—](?=\d))?(?P<amount_before>{AMOUNT}))(?:\s?(?P<short_scale>(?i:k|m|bn?|tn?))\b|\s(?P<scale>{_LONG_SCALES})\b)?
        (?(code)|\s?(?P<code_after>{"|".join(MONEY_CODES)})\b)""",
        _coded_money,
    ),
    TokenClass(
        "height",
        r"""(?P<feet>\d{1,3})(?P<mark>['’](?=\W|$|\d)|′)(?:\s?-?\s?(?P<inches>\d|1[01]|[1-5]\d(?=\s?″))(?:″|''))?(?!\w)""",
        _height,
    ),
    TokenClass("date", r"(?P<month>\d{1,2})/(?P<day>\d{1,2})(?![\w/]|[.,]\d)", _weekday_and_date),
    TokenClass("pair", r"(\d{1,3})/(\d{1,3})(?![\w/]|[.,]\d)(?P<hertz>\s?Hz\b)?", lambda m: _pair(m) if _is_special_pair(m) else None),
    TokenClass("pair", r"(\d{1,2})/(2|4|8|16)(?=\s(?:time|meter|beat)\b)", lambda m: f"{cardinal(int(m[1]))} {cardinal(int(m[2]))}"),
    TokenClass("fraction", r"1/(\d{2,4})\s?s(?:ec)?\b", lambda m: f"one {ordinal(int(m[1]))} of a second"),
    TokenClass("pair", r"24/7/365", lambda m: "twenty four seven three sixty five"),
    TokenClass("pair", r"(\d{2,3})/(\d{2,3})(?P<hertz>(?!))?(?=\s?mm\s?Hg\b)", _pair),
    *(
        TokenClass(
            "fraction",
            r"(?:(?P<whole>\d{1,3})[\s-])?(?P<over>\d{1,2})[/⁄](?P<under>\d{1,4})(?![\d/]|[.,]\d)" + unit,
            _fraction,
        )
        for unit in (rf"[\s-]?(?P<unit>{_UNIT}){_UNIT_END}", r"(?!\w)(?P<unit>(?!))?")
    ),
    TokenClass("out of", r"(?P<score>\d{1,3}(?:\.\d+)?)/(?P<of>5|10|20|100)(?![\w/]|[.,]\d)", _out_of),
    TokenClass("pair", r"(1[3-9]|[2-9]\d|\d{3})/(\d{1,3})(?![\w/]|[.,]\d)(?P<hertz>(?!))?", _pair),
    TokenClass("power", r"(\d(?:\.\d{1,20})?)[eE]\+?(-)?(\d{1,3})\b", _power_of_ten),
    TokenClass("measure", r"(\d{1,2})\s?[kK]t?\b(?=\s(?:(?:white|yellow|rose|solid)\s)?gold\b)", lambda m: f" {cardinal(int(m[1]))} karat"),
    TokenClass("out of", r"(\d{1,3})-(of|for|in|to)-(\d{1,3})(?![\w-])", lambda m: f"{cardinal(int(m[1]))} {m[2]} {cardinal(int(m[3]))}"),
    TokenClass("ordinal", r"(\d{1,3}(?:,\d{3})+|\d+)(?:st|nd|rd|th)\b", _ordinal),
    TokenClass("scaled", r"(\d[\d,]{0,20}(?:\.\d{1,20})?)(k|K|bn|tn|M|B)\b(?!\s[A-Z][a-z]+\s(?:St|Ave|Rd|Street|Avenue|Road)\b)", _scaled),
    TokenClass("times", r"(\d)in(\d)\b", lambda m: f"{cardinal(int(m[1]))} in {cardinal(int(m[2]))}"),
    TokenClass("times", r"24x7\b", lambda m: "twenty four seven"),
    TokenClass("formula", r"(?P<factor>\d{1,9}(?:\.\d{1,9})?)(?P<variables>[a-z]{1,3})(?![\w'’]|\.\w)", _product),
    TokenClass("times", r"(\d+(?:\.\d+)?)x\b(?!\d)", lambda m: f" {decimal(m[1])} times "),
    TokenClass("resolution", r"([1-9]\d{2,3})\s?[x×]\s?([1-9]\d{2,3})(?![\w.,])(?!\s?(?:=|mm|cm|m|ft|in)\b)", _resolution),
    TokenClass("measure", r"(\d+)(?:-pt\b|\s?pt\b(?=\.?\s(?:font|type|text|lead|shot)))(?:\.(?=\s[a-z]|[,;]))?", lambda m: f" {decimal(m[1])} point"),
    TokenClass("measure", r"(?P<amount>\d+\.\d+)s\b|(?P<spaced>\d+(?:\.\d+)?)\ss\b", lambda m: f" {decimal(m['amount'] or m['spaced'])} {'second' if m['spaced'] == '1' else 'seconds'}"),
    TokenClass("measure", r"(?<=\d[ ]ft[ ])(?P<amount>\d+)[ ]in\b\.?|(?<=\d[ ]ft\.[ ])(?P<other>\d+)[ ]in\b\.?", lambda m: f" {_counted(int(m['amount'] or m['other']), 'inch').replace('inchs', 'inches')}"),
    TokenClass("measure", r"(\d[\d,.]{0,20})\s?(lb|ft|N)[-·](ft|lbs?|m)\b", _torque),
    TokenClass("measure", rf"(?P<amount>{AMOUNT})\s?t\b(?![-.'’/])", _tonnes),
    TokenClass("measure", r"(\d)\s([Tt])\.(?=\s[a-z])", lambda m: f" {_counted(int(m[1]), 'tablespoon' if m[2] == 'T' else 'teaspoon')}"),
    TokenClass("degrees", r"(\d{2,3}(?:\.\d)?)([CF])\b(?!['’-])", _bare_degrees),
    TokenClass("degrees", r"(?<=\d[-–])(\d{2,3})\s([CF])\b(?!['’-])", lambda m: f" {cardinal(int(m[1]))} degrees {'Celsius' if m[2] == 'C' else 'Fahrenheit'} "),
    TokenClass("measure", r"(\d{1,3})[ -]?y\.?o\b\.?", lambda m: f" {cardinal(int(m[1]))} year old"),
    TokenClass("time", r"0(\d)(\d\d)(?=\s?(?:hrs?|hours|h)\b)", lambda m: f" oh {cardinal(int(m[1]))} {cardinal(int(m[2])) if int(m[2]) else 'hundred'} " if int(m[1]) else None),
    TokenClass("measure", r"(\d{1,4})(ft|lbs?|st|m|kg)(\d{1,3}(?:\.\d)?)(in|oz|lbs?|cm|g)\b", _two_units),
    TokenClass("measure", rf"(?P<amount>{AMOUNT})(?P<joint>\s?|-)(?P<unit>{_UNIT})(?!['’](?!s\b)|/(?![A-Za-z]|100\s?(?:km|g|ml)\b|\d{{1,3}}(?:\.\d)?\s?[AVW]\b)|\.\w){_UNIT_END}", _measure),
    TokenClass(
        "address",
        rf"(\d{{3,4}})(?=[ ](?:[NSEW]\.?[ ])?(?:(?:[A-Z][a-z]+[ ]){{1,2}}|\d{{1,3}}(?:st|nd|rd|th)[ ])(?:{'|'.join(name.title() for name in PLACES)}|Street|Avenue|Road|Boulevard|Drive|Lane|Way|Court)\b)",
        lambda m: f" {pairs(m[1])} ",
    ),
    TokenClass("dotted number", r"(802)\.(\d{1,2})(?P<letters>[a-z]{1,2}\b)?(?![\w.])", _wireless),
    TokenClass("dotted number", r"(?P<host>\d{1,3}(?:\.\d{1,3}){3}):(?P<port>\d{2,5})(?!\w)", _host),
    TokenClass("dotted number", r"(\d+(?:\.\d+)*)\.[xX](?!\w)", lambda m: f" {' point '.join(map(decimal, m[1].split('.')))} point ex "),
    TokenClass("dotted number", r"(?P<number>\d+(?:\.\d+){2,})(?:-(?P<stage>rc|alpha|beta|dev|pre|post)[.-]?(?P<count>\d{1,4})?(?!\w))?", _dotted),
    TokenClass("year", r"(1[1-9]\d\d|20\d\d)(?!\w|[.,]\d)", lambda m: f" {year(int(m[1]))} "),
    TokenClass("year", r"(?<!\w)['’](?P<oh>0)?(?P<short>\d{1,2})(?![\w'’])", lambda m: f"oh {cardinal(int(m['short']))}" if (m["oh"] and len(m["short"]) == 1 and not before(m, 2).strip("( ")) or (m["oh"] and before(m, 1) == " ") else None),
    TokenClass("code number", r"[45]\d\d(?![\w.,:-])", lambda m: pairs(m[0]) if _is_status(m) else None),
    TokenClass("year", r"(10[1-9]\d)(?!\w|[.,]\d|\s[a-z]+s\b)", lambda m: f" {year(int(m[1]))} " if _is_early_year(m) else None),
    TokenClass("ratio", r"(2[5-9]|[3-9]\d|1\d\d):00(?![\d:])", lambda m: f" {cardinal(int(m[1]))} minutes "),
    TokenClass("ratio", r"(\d+):(?=\d)", _ratio),
]  # fmt: skip
"""In the order in which they are tried."""


def _is_special_pair(match: re.Match[str]) -> bool:
    first, second = match[1], match[2]
    return (
        (first, second) in (("24", "7"), ("9", "11"))
        or (first == second and len(first) == 2 and first != "10")
        or match["hertz"] is not None
    )


_SIZE = TokenClass("size", r"(?<=″[ ])[WDHL]\b", lambda m: {"W": "wide", "D": "deep", "H": "high", "L": "long"}[m[0]])
NUMBER = TokenClass("number", AMOUNT, _number)
"""Numbers that no other class has read."""
_EXTENSION = TokenClass("phone", r"(?<=\d{4}[ ])x\s?(\d{2,5})\b", lambda m: f"extension {digits(m[1])}")
_TIMES = TokenClass(
    "times",
    r"(?<=\()x(\d{1,2})(?=\))|(?<=[A-Za-z.][ ])x[ ]?(?P<count>\d{1,2})(?=[ ]?(?:d|days?|wks?|weeks?|months?)\b)",
    lambda m: f"times {cardinal(int(m[1] or m['count']))} ",
)
_BY = TokenClass("by", r"[x×*]", _by)
_DEGREES = TokenClass(
    "degrees", r"(?:°|\bdegrees)\s?([CF])\b", lambda m: f" degrees {'Celsius' if m[1] == 'C' else 'Fahrenheit'}"
)
LETTER_NUMBER_CLASSES = [
    *(kind for kind in NUMBER_CLASSES if kind.name == "money"),
    _EXTENSION,
    _TIMES,
    _BY,
    _SIZE,
    _DEGREES,
]
"""Those that may begin with a letter: US$5, the x of 3x4."""
SIGN_CLASSES = [
    TokenClass("range", r"[-–—]", _range),
    TokenClass("minus", r"(?<=[^\w.][ijkmnxyz])-(?=\d{1,2}(?![\w-]))", _minus),
    TokenClass("rule", r"<?[-=]{1,3}>", lambda m: ", "),
    TokenClass("minus", rf"(?<![\w.])-(?=\.?\d|[{_SIGNS}]\.?\d)", _minus),
    _BY,
    TokenClass("range", r"(?<=\d)[~～](?=\d)", lambda m: " to "),
    TokenClass("about", rf"[~≈](?=\s?[{_SIGNS}]?\d)", _about),
    TokenClass("hexadecimal", r"\#[\dA-Fa-f]{6}(?!\w)", lambda m: f"hash {_hexadecimal(m)}" if re.search("[A-Fa-f]", m[0]) else None),
    TokenClass("hexadecimal", r"::(?:[\dA-Fa-f]{1,4}(?::[\dA-Fa-f]{1,4}){0,6})(?![\w:])", _hexadecimal),
    TokenClass("per", r"(?P<sign>[$€£])/(?P<unit>[A-Za-z]{1,7})\b", _money_per),
    TokenClass("per", r"/(?=100\s?(?:km|g|ml)\b)", lambda m: " per "),
    TokenClass("power", r"(?<=\w)\^(?P<charge>\d?)(?P<sign>[+-])(?!\w)", lambda m: f" {cardinal(int(m['charge'])) if m['charge'] else ''} {'plus' if m['sign'] == '+' else 'minus'} "),
    TokenClass("power", r"(?<=\w)\^(?P<power>[23])(?![\w.^])", lambda m: " squared " if m["power"] == "2" else " cubed "),
    TokenClass("power", r"(?<=\w)\^(?=-?\w)", lambda m: " to the power of "),
    _DEGREES,
    TokenClass(
        "per",
        rf"/\s?(?P<rest>(?P<area>(?:sq|cu)\.?\s(?:ft|in|yd|mi|km|m|cm))\b{_UNIT_END}|(?P<each>[A-Za-z]{{1,7}})\b{_UNIT_END})"
        r"|(?<=\d)/(?=\s?\d[\d.]{0,20}\s?=)|(?<=\d[ ])/(?=\s?\d[\d.]{0,20}\s?=)",
        _per,
    ),
    TokenClass("emoticon", r"(?<!\S)(?:[:;=]['’]?-?[()DP](?!\w)|<3(?!\S))", lambda m: " "),
    TokenClass("symbol", r"(?<=\w[ ])>(?=[ ][A-Z][a-z])", lambda m: ", "),
    TokenClass("symbol", r"(?<![^\s(])[<>](?=[$€£]?\d)", lambda m: " less than " if m[0] == "<" else " more than "),
    TokenClass("note", r"\[\d{1,3}(?:\s?[-–,]\s?\d{1,3})*\](?!\w)", lambda m: "" if re.search(r"[\w.!?,;:\"”’)\]]$", before(m, 2).rstrip()) else None),
    TokenClass("note", r"(?<=[a-z)\"”’])(?P<mark>[.!?])\d{1,3}(?=\s|$)", lambda m: m["mark"] if _is_note(m) else None),
    TokenClass("rule", r"(?P<sign>[=_*~#+<>|^])(?P=sign){2,}|-{4,}|\.{4,}|<<|>>", lambda m: ", " if m[0][0] in "-." else " "),
    TokenClass("abbreviation", r"&c\b\.?", lambda m: "et cetera" + ("." if m[0].endswith(".") and may_end_sentence(m) else "")),
    TokenClass("symbol", r"\+=|&&|\|\|", lambda m: {"+=": " plus equals ", "&&": " and ", "||": " or "}[m[0]]),
    TokenClass("symbol", r"(?<!.)\$\s(?=[a-z])", lambda m: " "),  # the prompt of a shell
    TokenClass("symbol", r"\$(?=[A-Z_]{2,}\b|\{|[a-z]\w*\s?=)", lambda m: " dollar "),
    TokenClass("symbol", rf"!=|[<>=]=|[{re.escape(''.join(SYMBOLS))}]", _symbol),
]  # fmt: skip


def _is_note(match: re.Match[str]) -> bool:
    """He won.1 Then; but "fig.1", "No.5" and "ver.2"."""
    word = re.search(r"([A-Za-z]+)$", before(match, 20))
    return word is None or match["mark"] != "." or (len(word[1]) > 1 and word[1].lower() not in BEFORE_NUMBERS)
