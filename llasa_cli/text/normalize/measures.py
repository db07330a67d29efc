"""Measures and their units.

5 km -> five kilometers;  a 10-km run -> a ten-kilometer run;  410 lb-ft -> four hundred ten pound-feet
"""

from __future__ import annotations

import re

from llasa_cli.text.normalize import vocabulary
from llasa_cli.text.normalize.amounts import counted, is_before_noun, is_place
from llasa_cli.text.normalize.numbers import cardinal, decimal, pairs
from llasa_cli.text.normalize.token_class import after, before, may_end_sentence

UNIT = (
    r"(?:(?:in|c)\.(?=\s[a-z(]|[,;)])|(?<=\d[ ])in\.(?=$|\s[A-Z][a-z]*\s)|in\b\.?(?=\s(?:by|=|of\s(?:rain|snow|ice|water|sleet))\s?)|(?<=\d)in\b(?!-\d)"
    r"|(?i:km/h|m/s)\b|(?:(?i:sq|cu|fl)(?:\.?[ -]|\.))?[A-Za-zμΩ]{1,5}(?!\w)|[″¢])"
)
"""The pattern of a possible unit; `unit_names` knows which are."""
UNIT_END = r"(?:\.(?=\s+(?:[a-z0-9(+&$=]|[NS][EW]\b)|[,;:)-]|/[a-z]))?"
"""The full stop of a shortened unit, where a sentence doesn't end."""


def unit_names(written: str, following: str = "", glued: bool = False) -> tuple[str, str] | None:
    """ "sq. ft" -> ("square foot", "square feet"); None where the letters are no unit, as in "2017 Gal Gadot".

    Args:
        written: The letters.
        following: The text after them.
        glued: The amount stands before them without a space: "3in" has inches, "3 in all" has none.
    """
    *kind, short = re.findall(r"[^\s.-]+", written)
    if short == "IN":  # the word, in a headline
        return None
    if short in vocabulary.CASED_UNITS and not kind:
        return vocabulary.CASED_UNITS[short]
    is_word = (
        short in ("in", "c")
        and not kind
        and "." not in written
        and not re.match(r"\s(?:by|=|of)\s", following)
        and not glued
    )
    names = vocabulary.SIGN_UNITS.get(short.lower()) or vocabulary.UNITS.get(short.lower())
    if names is None or is_word or (short.lower() == "pg" and not following.startswith("/")):
        return None
    if short[0].isupper() and not kind:
        in_capitals = re.match(r"\s[A-Z]{3}|\W{0,2}$", following)
        if len(short) == 1 or short == "HRs" or (short in vocabulary.SHORT_UNITS_IN_CAPITALS and not in_capitals):
            return None
        if (
            short[1:].islower()
            and short not in ("Mbit", "Hz", "Pa", "Tbsp", "Tsp", "Lb", "Lbs", "Oz", "Kg")
            and re.match(r"\.?\s[A-Z]", following)
        ):
            return None
    prefix = vocabulary.UNIT_KINDS[kind[0].lower()] if kind else ""
    return prefix + names[0], prefix + names[1]


def say_measure(match: re.Match[str]) -> str | None:
    names = unit_names(match["unit"], after(match), glued=not match["joint"] and match["unit"] == "in")
    if match["unit"] == "TB" and _SPOONFUL.match(match.string, match.end()):
        names = vocabulary.UNITS["tbsp"]
    if match["unit"] == "ft" and NUMBERED_SONG.search(before(match, 12) + f"{match['amount']} "):
        return None  # Ep. 12 ft. Dr. Dre
    if names is None or (match["unit"] in vocabulary.CASED_UNITS and not _is_cased_unit(match)):
        return None
    single = (
        match["amount"] == "1"
        or match["joint"] == "-"
        or is_before_noun(match)
        or is_inches_of_noun(match)
        or _is_short_hour(match)
    )
    stop = "." if match["unit"] == "in." and may_end_sentence(match) else ""
    return f" {decimal(match['amount'])}{'-' if match['joint'] == '-' else ' '}{names[0] if single else names[1]}{stop}"


NUMBERED_SONG = re.compile(r"(?:\b(?:[Ee]p(?:\.|isode)?|[Vv]ol\.|[Tt]rack|[Pp]t\.|[Pp]art)\s|\#)\d+\s$")
_SIZE_AND_NOUN = re.compile(
    r"(?:\s?[x×]\s?\d+(?:\.\d+)?″){0,2}\s(?:[48]K\b|(?:LED|OLED|LCD|HD|TV)\b|(?!(?:long|tall|wide|thick|deep|high|apart|below|above|away|across|off|from|of|in|by|x|and|or|to|too|at|on|for|with|per|each|is|was|are|more|less|if|then|but|diam|dia)\b)[a-z]{3})"
)


def is_inches_of_noun(match: re.Match[str]) -> bool:
    """an 8″ round tin, 9″ × 13″ pan; not 8″ wide."""
    return match["unit"] == "″" and bool(_SIZE_AND_NOUN.match(match.string, match.end()))


_SHORT_HOUR = re.compile(
    r"\s(?:service|shifts?|care|access|support|delivery|flight|drive|period|day|clock|news|reception|surveillance|hotline|notice|delay|window|walk|ride|race|gym|store|shop|supermarket)\b"
)
_CALIBER = re.compile(
    r"\s(?:lens|film|cameras?|jack|plug|guns?|shells?|rounds?|pistols?|cannon|drill|bits?|bolts?|screws?|socket|wrench|headphones?|ammo)\b"
)


_SPOONFUL = re.compile(
    r"\s(?:of )?(?:[a-z-]+ ){0,2}(?:oil|butter|sugar|salt|flour|allspice|juice|sauce|powder|pepper|garlic|cinnamon|honey|vinegar|milk|cream|water|paste|syrup|starch|cornstarch|parsley|ginger|cumin|paprika)\b"
)
_CONTAINER = re.compile(
    r"\.?\s(?:plastic |glass |paper |cotton |large |small )?(?:bags?|packs?|packets?|packages?|tins?|cans?|jars?|bottles?|box|boxes|cartons?|tubes?|tablets?|capsules?|pills?|doses?|bars?|blocks?|sachets?|tubs?|"
    r"jugs?|steaks?|bulbs?|lamps?|chargers?|motors?|sockets?|outlets?|adapters?|resistors?|capacitors?|fences?|poles?|ladders?|ceilings?|waves?|rope|hose|ruler|screen|monitor|radius|relay|sprint|hurdles|freestyle|"
    r"butterfly|backstroke|breaststroke|medley|steeplechase|dumbbells?|kettlebells?|trail|hike|heats?)\b"
)
_OUTING = re.compile(
    r"\s(?:runs?|walks?|races?|rides?|hikes?|swim|drives?|dash|final|loop|course|stretch|delays?|breaks?|workouts?|sessions?|meetings?|calls?|videos?|tours?|episodes?|naps?|intervals?|rests?|timers?|waits?)\b"
)
"""Nouns that an amount stands before: "two 500ml bottles", "the 4x100m relay"; the second only after a unit without a space."""


def _is_short_hour(match: re.Match[str]) -> bool:
    """24hr service, 35mm film, two 500ml bottles and a daily 5km run; not 24 hrs, nor "2 tbsp jarred"."""
    unit = match["unit"]
    if unit not in ("tbsp", "tsp", "c", "c.", "cup", "yrs", "hrs", "mins", "lbs") and _CONTAINER.match(
        match.string, match.end()
    ):
        return True
    nouns = {"hr": _SHORT_HOUR, "mm": _CALIBER, "m": _OUTING, "km": _OUTING, "mi": _OUTING, "min": _OUTING}.get(unit)
    if match["joint"] and re.search(r"\b(?:[Ii]n|[Aa]fter|[Ww]ithin|[Ff]or|[Ee]very)\s$", before(match, 8)):
        return False  # in 45 min call me
    return (
        nouns is not None
        and (unit in ("min", "hr") or not match["joint"])
        and bool(nouns.match(match.string, match.end()))
    )


def say_torque(match: re.Match[str]) -> str:
    """410 lb-ft -> four hundred ten pound-feet."""
    names = {"lb": "pound", "ft": "foot", "N": "newton"}
    many = {"ft": "feet", "lb": "pounds", "lbs": "pounds", "m": "meters"}
    return f" {decimal(match[1].rstrip('.,'))} {names[match[2]]}-{many[match[3]]}"


def say_tonnes(match: re.Match[str]) -> str:
    """575 t -> five hundred seventy five tonnes; 2 t vanilla -> two teaspoons vanilla."""
    is_spoon = len(match["amount"]) == 1 and re.match(r"\s(?!of\b)[a-z]", after(match, 4))
    return f" {decimal(match['amount'])} {'teaspoon' if is_spoon else 'tonne'}{'' if match['amount'] == '1' else 's'}"


_WEATHER = re.compile(
    r"\d\s?°|\b(?:heat\w*|hot|hotter|hottest|cold\w*|cool\w*|warm\w*|temperatures?|mercury|thermometers?|degrees|weather|forecast|overnight|nights?|summer|winter|Celsius)\b"
)


def say_bare_degrees(match: re.Match[str]) -> str | None:
    """Bake at 350F, 180C/350F; but a man of 32F, and seat 12C."""
    placed = re.search(
        r"(?:\bT:?\s|\b(?:at|to|near|highs?|lows?|like|reach|reached|hit|below|above|about|around|was|is|temp|temperature|fever|of)[.:]?\s|[@/~]\s?)$",
        before(match, 14),
        re.I,
    )
    warm = re.match(r"\s(?:fever|temperatures?|heat|weather|water|wash|oven|days?)\b", after(match, 14))
    near = before(match, 60) + "/" + after(match, 60)
    if match[0][-2] == " " and not (placed or _WEATHER.search(near) or re.search(r"\d [CF] ?\(\s?$", before(match, 8))):
        return None
    weather = (
        "." in match[1]
        or re.match(r"\s\(\d+(?:\.\d)?[CF]\)", after(match, 9))
        or (match[2] == "C" and _WEATHER.search(near))
    )
    if is_place(match) or not (placed or warm or weather or (len(match[1]) == 3 and match[1][0] in "1234")):
        return None
    return f" {decimal(match[1])} degrees {'Celsius' if match[2] == 'C' else 'Fahrenheit'} "


def say_degrees(match: re.Match[str]) -> str:
    """1°C -> one degree Celsius; a 45° angle -> a forty five degree angle."""
    scale = {"C": " Celsius", "F": " Fahrenheit", "K": " Kelvin"}.get((match["scale"] or "").upper(), "")
    single = match["amount"] == "1" or (not scale and is_before_noun(match))
    return f" {decimal(match['amount'])} degree{'' if single else 's'}{scale} "


def say_days(match: re.Match[str]) -> str | None:
    """for 10d, x3d -> ten days; but flat 3d."""
    lasting = re.search(r"\b(?:for|in|after|every|past|last|next)\s$|[x×]\s?$", before(match, 6))
    if int(match["days"]) < 5 and (before(match, 4).endswith(" in ") or re.match(r"\s[a-z]", after(match, 2))):
        return None  # for 3d printing
    return f" {counted(int(match['days']), 'day')} " if lasting else None


def say_bits(match: re.Match[str]) -> str:
    """1 Gb/s -> one gigabit; "GB" are bytes."""
    prefix = {"k": "kilo", "M": "mega", "G": "giga", "T": "tera"}[match["size"]]
    return f" {decimal(match['amount'])} {prefix}bit{'' if match['amount'] == '1' else 's'}"


def say_two_units(match: re.Match[str]) -> str | None:
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
    if unit == "L" and before(match, 2) == "f/":
        return False  # a lens
    if is_place(match) or (unit == "K" and not spaced) or re.match(r"-\d", after(match, 2)):
        return False
    if unit == "A" and re.search(r"\b[A-Z]{2,}\s$", before(match, 6)):
        return False  # MATH 2A
    if unit in ("A", "N", "J", "K") and (spaced or unit != "A"):
        return "." in match["amount"] or (unit == "K" and len(match["amount"]) > 2)
    return not (spaced and len(unit) == 1 and re.match(r"\.?\s(?:[A-Z]|\d+(?:st|nd|rd|th)\b)|\.[A-Z]", after(match, 7)))


_STRAND = re.compile(r"[ACGTUN]{2}|[ -](?:primers?|ends?|UTRs?|caps?|exonucleases?|overhangs?)\b|\sto\s[35]['’′]")


def say_prime(match: re.Match[str]) -> str | None:
    """the 5' end, 5'-ATG-3' -> five prime; but 5' tall."""
    at_end = re.search(r"[ACGTUN]{2}-$|[35]['’′] to $", before(match, 6))
    return f" {cardinal(int(match['prime']))} prime " if at_end or _STRAND.match(match.string, match.end()) else None


def say_height(match: re.Match[str]) -> str | None:
    """5′11″ -> five foot eleven; 6' -> six feet; after a degree minutes and seconds."""
    count, inches = match["feet"], match["inches"]
    if re.search(r"°\s?$", before(match, 2)):
        return f"{counted(int(count), 'minute')} {counted(int(inches), 'second') if inches else ''}"
    if re.search(r"\bevery\s$", before(match, 6)) and not inches:
        return counted(int(count), "minute")
    quoted = match["mark"] in "'’"
    if quoted and (before(match, 1) in ("'", "‘") or (len(count) > 1 and not _is_length(match))):
        return None
    feet = f"{cardinal(int(count))} {'foot' if count == '1' or inches or is_before_noun(match) else 'feet'}"
    return f"{feet} {cardinal(int(inches))}" if inches else feet


def _is_length(match: re.Match[str]) -> bool:
    if match["inches"] or re.match(r"\s(?:tall|high|wide|long|deep)\b|\s?(?:by|x|×)\s\d{1,3}['’]", after(match, 10)):
        return True
    return bool(re.search(r"\d['’]\s?(?:by|x|×)\s$", before(match, 9)))


def say_coordinate(match: re.Match[str]) -> str:
    """40°42′46″N -> forty degrees forty two minutes forty six seconds north."""
    parts = [
        f"{decimal(match[unit])} {unit.removesuffix('s') if match[unit] == '1' else unit}"
        for unit in ("degrees", "minutes", "seconds")
        if match[unit]
    ]
    return f"{' '.join(parts)} {vocabulary.DIRECTIONS[match['toward'].lower()]} "


def say_resolution(match: re.Match[str]) -> str:
    """1920x1080 -> nineteen twenty by ten eighty."""
    return f" {pairs(match[1])} by {pairs(match[2])} "


PERIODS = frozenset("second sec minute min hour day night week month year person".split())


def say_per(match: re.Match[str]) -> str | None:
    """$5/hr -> per hour; 6 / 2 = 3 -> divided by."""
    start = before(match, 26)
    if match["rest"] is None:
        return " divided by "
    noun = re.search(r"\b[a-z]{2,}s\s?$", start) and match["each"] in PERIODS
    if re.search(r"\d(?:st|nd|rd|th)(?:/\w+)?$|[A-Za-z_/-]\d+$", start):
        return None
    if not noun and not re.search(
        r"(?:\d\s?m?g\s[a-z]{3,12}|\d[%¢]?|\d\s?[A-Za-zμ]{1,20}\.?(?:/[A-Za-z]{1,4})?)\+?\s?$", start
    ):
        return None
    if match["area"]:
        names = unit_names(match["area"])
        return f" per {names[0]}" if names else None
    each = match["each"]
    names = vocabulary.CASED_UNITS.get(each) or (
        vocabulary.UNITS.get(each.lower()) if re.search(r"(?:[A-Za-zμ¢]|:\d\d)\s?$", start) else None
    )
    return (
        f" per {vocabulary.SHORT_EACH.get(each.lower(), each)}"
        if each.lower() in vocabulary.EACH
        else f" per {names[0]}"
        if names
        else None
    )


def say_unit_name(match: re.Match[str]) -> str:
    """A unit without an amount: measured in kWh -> kilowatt-hours; a MHz -> a megahertz."""
    one, many = vocabulary.CASED_UNITS.get(match[0]) or vocabulary.UNITS[match[0].lower()]
    noun = re.match(
        r"\s(?:scale|levels?|range|rates?|limit|meter|readings?|values?|band|mark|output|display)\b", after(match)
    )
    return one if noun or re.search(r"\b(?:per|an?|each|every|one)\s$|/$", before(match, 6)) else many


def say_rate(match: re.Match[str]) -> str | None:
    """MB/s -> megabytes a second."""
    size = match["size"].replace("i", "") if len(match["size"]) > 2 else match["size"]
    prefixes = {"k": "kilo", "K": "kilo", "M": "mega", "G": "giga", "T": "tera", "": ""}
    bits = re.fullmatch("([kKMGT]?)(B|b|bit)", size)
    many = prefixes[bits[1]] + ("bytes" if bits[2] == "B" else "bits") if bits else vocabulary.UNITS[match["size"]][1]
    return f"{many} {'an' if match['each'] in ('h', 'hr') else 'a'} {vocabulary.SHORT_EACH[match['each']]}"
