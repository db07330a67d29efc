"""Money, units and fractions in words: what a rule of `normalise` has found -> how it is said.

    $3.50 -> three dollars and fifty cents;  5 km -> five kilometers;  7/16″ -> seven sixteenths inch

Singular before a noun: "a $20 bill" is a twenty dollar bill, "a 10-km run" a ten-kilometer run.
"""

from __future__ import annotations

import re

from llasa_cli.text.normalize.numbers import cardinal, digits, ordinal

MONEY = {"$": ("dollar", "cent"), "€": ("euro", "cent"), "£": ("pound", "penny"), "¥": ("yen", "sen")}
UNITS = {
    "km/h": ("kilometer an hour", "kilometers an hour"),
    "m/s": ("meter a second", "meters a second"),
    "mph": ("mile an hour", "miles an hour"),
    "mpg": ("mile a gallon", "miles a gallon"),
    "rpm": ("revolution a minute", "revolutions a minute"),
    "bpm": ("beat a minute", "beats a minute"),
    "ft": ("foot", "feet"),
    "lbs": ("pound", "pounds"),
    "hz": ("hertz", "hertz"),
    "khz": ("kilohertz", "kilohertz"),
    "mhz": ("megahertz", "megahertz"),
    "ghz": ("gigahertz", "gigahertz"),
    "kph": ("kilometer an hour", "kilometers an hour"),
    "mbps": ("megabit a second", "megabits a second"),
    "gbps": ("gigabit a second", "gigabits a second"),
    "doz": ("dozen", "dozen"),
    "hp": ("horsepower", "horsepower"),
    **{
        short: (name, name + "s")
        for short, name in (
            pair.split()
            for pair in "mi mile,h hour,km kilometer,kms kilometer,kgs kilogram,cm centimeter,mm millimeter,m meter,kg kilogram,mg milligram,g gram,lb pound,"
            "oz ounce,l liter,ml milliliter,dl deciliter,ms millisecond,μs microsecond,μm micrometer,nm nanometer,"
            "μg microgram,tb terabyte,gb gigabyte,mb megabyte,kb kilobyte,sec second,secs second,min minute,mins minute,"
            "hr hour,hrs hour,wk week,wks week,mo month,mos month,yr year,yrs year,tsp teaspoon,tbsp tablespoon,kw kilowatt,"
            "kwh kilowatt-hour,mw megawatt,gw gigawatt,db decibel,kcal calorie,usd dollar,eur euro,gbp pound,"
            "gal gallon,gals gallon,qt quart,qts quart,pt pint,pts point,yd yard,yds yard,pkg package".split(",")
        )
    },
}
_SIGNS = {"″": ("inch", "inches"), "¢": ("cent", "cents"), "in": ("inch", "inches"), "c": ("cup", "cups")}
"""The letters only with a full stop inside a sentence ("2 c. flour"): elsewhere they are words."""
_KINDS = {"sq": "square ", "cu": "cubic ", "fl": "fluid "}
_NAMES_IN_CAPITALS = "HRS?|MS|SECS?|DB|MOS?|MI|FT|ML|NM|HP|PTS?|QTS?|GALS?|YDS?|WKS?"
"""4 HR managers, 16 SEC schools: no units, unless the next word shouts as well ("6 FT TALL") or there is none."""
UNIT = (
    rf"(?:(?!(?:[MGLHC]|HRs)\b|(?:{_NAMES_IN_CAPITALS})\b(?!\s[A-Z]{{3}}|\W{{0,2}}$))"  # 5G is no weight
    rf"(?ai:{'|'.join(UNITS)}|(?:sq|cu|fl)\.?[ -](?:{'|'.join(UNITS)}|in))\b"
    r"|[″¢]|(?:in|c)\.(?=\s[a-z]|[,;)]))"
)
UNIT_END = r"(?:\.(?=\s+[a-z0-9(+&$]|[,;:)-]))?"
"""The full stop of a shortened unit, where a sentence doesn't end."""
AMOUNT = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d*\.\d+|\d+"
_SCALES = {"k": "thousand", "m": "million", "b": "billion", "bn": "billion", "t": "trillion", "tn": "trillion"}
SHORT_EACH = {"sec": "second", "min": "minute", "hr": "hour", "wk": "week", "mo": "month", "yr": "year"} | {
    "lb": "pound",
    "kg": "kilogram",
    "gal": "gallon",
    "oz": "ounce",
    "s": "second",
    "h": "hour",
    "l": "liter",
    "dl": "deciliter",
}
EACH = [*SHORT_EACH, *"second minute hour day night week month year person head item mile gallon liter L dL".split()]
_NOUN = re.compile(
    r"\s(?!(?:a|an|the|and|or|but|nor|than|to|of|off|in|on|at|for|from|by|with|per|each|every|as|if|is|was|are|were|be|"
    r"will|would|has|had|may|more|less|up|down|over|under|into|about|after|before|when|while|that|which|who|I(?!-)|he|she|we|you|they|it|so|not|because|could|should|would|does|did|isn|wasn|says?|said)\b)[A-Za-z]"
)
_ARTICLE = re.compile(
    r"(?:\b(?:an?|the|this|its|my|your|his|her|our|their)|(?<!\bit)(?<!hat)(?<!\bhe)(?<!\bshe)(?<!ere)(?<!\bwho)(?<!\blet)['’]s"
    r"|\w-year,)\s$",
    re.IGNORECASE,
)
"""Before "$44 billion plan": the, its, Musk's, five-year; but "it's $20 cash"."""
_MEASURED = re.compile(
    r"[\s-](?:inch|foot|feet|mile|yard|cup|ounce|pound|acre|second|scale)|\sof\s(?:an?|the|it|them|all)\b"
)
_SIXTEENTHS = re.compile(
    r"[\s-](?:wrench|socket|bolt|nut|bit|drill|screw|plywood|thick|share|stake|interest|hole|gap|rod|wire|pipe|tubing)"
)
_WEEKDAY = re.compile(r"(?:day|Mon|Tues?|Wed|Thurs?|Fri|Sat|Sun)[.,]?\s\(?$")
_BEFORE_DATE = re.compile(
    r"\b(?:on|by|from|to|since|until|till|before|after|the|due|through|for|and|of|this|last|next)\s$", re.IGNORECASE
)


def number(text: str) -> str:
    """Digits with thousands commas and perhaps a fraction."""
    whole, _, fraction = text.replace(",", "").partition(".")
    as_digits = len(whole) > 15 or (len(whole) > 1 and whole.startswith("0"))
    said = digits(whole) if as_digits else cardinal(int(whole or "0"))
    return f"{said} point {digits(fraction)}" if fraction else said


def _before_noun(match: re.Match[str]) -> bool:
    """a $20 bill, a 6 ft. man, $20-a-month; not "It costs $20 to enter", nor "a $20 or more"."""
    text, end = match.string, match.end()
    if text.startswith("-", end) and text[end + 1 : end + 2].isalpha():
        return True
    article = _ARTICLE.search(text, max(0, match.start() - 9), match.start())
    return bool(article and _NOUN.match(text, end))


def money(match: re.Match[str]) -> str:
    big, small = MONEY[match["sign"]]
    whole, _, cents = match["amount"].replace(",", "").partition(".")
    single = match["joint"] == "-" or _before_noun(match)
    if match["named"]:
        return f"{number(match['amount'])} {match['scale'] or ''}".strip() + match["named"]
    if match["scale"] or len(cents) not in (0, 2):
        said = f"{number(match['amount'])} {match['scale'] or ''}".strip()
        return f"{said} {big}{'' if single or big == 'yen' else 's'}"
    parts = []
    if int(whole or "0") or not cents:
        parts.append(f"{number(whole or '0')} {big}{'' if int(whole or '0') == 1 or single or big == 'yen' else 's'}")
    if cents and int(cents):
        many = "pence" if small == "penny" else small if single else small + "s"
        parts.append(f"{cardinal(int(cents))} {small if int(cents) == 1 else many}")
    return " and ".join(parts) or f"zero {big}s"


def scaled(match: re.Match[str]) -> str:
    return f"{match[1]} {_SCALES[match[2].lower()]}"


def each(match: re.Match[str]) -> str:
    if re.sub(r"[\d.,\s]", "", match[0]).lower() in UNITS:
        return match[0]  # km/h has a name of its own
    return f"{match[1]} per {SHORT_EACH.get(match[2].lower(), match[2])}"


def names(written: str) -> tuple[str, str]:
    """ "sq. ft" -> square foot, square feet."""
    *kind, short = re.findall(r"[^\s.-]+", written.lower())
    one, many = _SIGNS[short] if short in _SIGNS else UNITS[short]
    which = _KINDS[kind[0]] if kind else ""
    return which + one, which + many


def unit(match: re.Match[str]) -> str:
    one, many = names(match["unit"])
    single = match["amount"] == "1" or match["joint"] == "-" or _before_noun(match)
    return f"{number(match['amount'])}{'-' if match['joint'] == '-' else ' '}{one if single else many}"


def height(match: re.Match[str]) -> str:
    """5′11″ -> five foot eleven; 6' -> six feet."""
    count, inches = match["feet"] or match["primed"], match["inches"]
    feet = f"{cardinal(int(count))} {'foot' if count == '1' or inches or _before_noun(match) else 'feet'}"
    return f"{feet} {cardinal(int(inches))}" if inches else feet


def fraction(match: re.Match[str]) -> str:
    whole, over, under = match["whole"], int(match["over"]), int(match["under"])
    if not _is_fraction(match, over, under):
        return match[0]
    name = {2: "half", 4: "quarter"}.get(under) or ordinal(under)
    plural = "halves" if under == 2 else name + "s"
    said = f"{cardinal(over)} {name if over == 1 else plural}"
    said = f" {cardinal(int(whole))} and {said}" if whole else f" {said}"
    if not match["unit"]:
        return said
    one, many = names(match["unit"])
    return f"{said} {many if whole and not _before_noun(match) else one}"


def _is_fraction(match: re.Match[str], over: int, under: int) -> bool:
    """1/2, 2 3/16, 9/16 wrench, 11/12 of it; but 12/25, "on 9/16" and "the 1/16 meeting" are days."""
    before = match.string[max(0, match.start() - 9) : match.start()]
    if not 0 < over < under or (not match["unit"] and _WEEKDAY.search(before)):
        return False
    if under < 10 or match["whole"] or match["unit"] or under in (32, 64) or _MEASURED.match(match.string, match.end()):
        return True
    day = over % 2 == 0 or (over < 13 and _BEFORE_DATE.search(before))
    return under == 16 and not day and bool(_SIXTEENTHS.match(match.string, match.end()))
