"""English as it is said: numbers, money, times, acronyms and symbols become words.

Only for checkpoints that ask for it (`"spell_out": true` in llasa.json), such as the built-in voice, which knows
letters and a little punctuation. The big models read raw text and learnt to do so themselves.

    "Dr. Lee paid $3.50 at 9:05 on May 2nd."  ->  "Doctor Lee paid three dollars and fifty cents at nine oh five on May second."
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

from llasa_cli.text.numbers import cardinal, digits, ordinal, roman, year

_MONEY = {"$": ("dollar", "cent"), "€": ("euro", "cent"), "£": ("pound", "penny"), "¥": ("yen", "sen")}
_LETTERS = dict(
    zip(
        "abcdefghijklmnopqrstuvwxyz",
        "ay bee see dee ee eff jee aitch eye jay kay el em en oh pee cue are ess tee you vee double-you ex why zee".split(),
        strict=True,
    )
)
_TITLES = {
    "mr": "mister",
    "mrs": "missus",
    "ms": "miss",
    "dr": "doctor",
    "prof": "professor",
    "st": "saint",
    "mt": "mount",
    "gen": "general",
    "col": "colonel",
    "capt": "captain",
    "lt": "lieutenant",
    "sgt": "sergeant",
    "rev": "reverend",
    "gov": "governor",
    "sen": "senator",
}
"""With a capital, before a name. Elsewhere they are words ("5 ms.") or other words ("Main St.")."""
_PLACES = {"st": "street", "dr": "drive", "ave": "avenue", "rd": "road", "blvd": "boulevard"}
"""With a capital, after a name."""
_MONTHS = dict(
    zip(
        "jan feb mar apr may jun jul aug sep oct nov dec".split(),
        "January February March April May June July August September October November December".split(),
        strict=True,
    )
)
_WEEKDAYS = {
    short: day
    for day, shorts in {
        "Monday": "mon",
        "Tuesday": "tue tues",
        "Wednesday": "wed weds",
        "Thursday": "thu thur thurs",
        "Friday": "fri",
        "Saturday": "sat",
        "Sunday": "sun",
    }.items()
    for short in shorts.split()
}
_ALSO_WORDS = ("wed", "sat", "sun")
"""Days only before a comma or a number: "Sat., 5 May", but "Down he Sat. Then"."""
_NUMBERED = {**_MONTHS, "sept": "September", "no": "number", "vol": "volume", "fig": "figure", "p": "page"}
"""Before a number only: "No. 5", but "No. I won't."."""
_ABBREVIATIONS = {
    "vs": "versus",
    "etc": "et cetera",
    "e.g": "for example",
    "i.e": "that is",
    "approx": "approximately",
    "jr": "junior",
    "sr": "senior",
    "inc": "incorporated",
    "ltd": "limited",
    "corp": "corporation",
    "dept": "department",
    "a.m": "ay em",
    "p.m": "pee em",
}
_UNITS = {
    "km/h": ("kilometer an hour", "kilometers an hour"),
    "m/s": ("meter a second", "meters a second"),
    "mph": ("mile an hour", "miles an hour"),
    "ft": ("foot", "feet"),
    "lbs": ("pound", "pounds"),
    "hz": ("hertz", "hertz"),
    "khz": ("kilohertz", "kilohertz"),
    **{
        short: (name, name + "s")
        for short, name in (
            pair.split()
            for pair in "km kilometer,cm centimeter,mm millimeter,m meter,kg kilogram,mg milligram,g gram,lb pound,"
            "oz ounce,l liter,ms millisecond,gb gigabyte,mb megabyte,kb kilobyte,min minute,hr hour".split(",")
        )
    },
}
_SCALES = {"k": "thousand", "m": "million", "b": "billion", "bn": "billion", "t": "trillion", "tn": "trillion"}
_EACH = (
    "second sec minute min hour hr day night week wk month mo year yr person head item mile lb kg gallon liter".split()
)
_SHORT_EACH = {"sec": "second", "min": "minute", "hr": "hour", "wk": "week", "mo": "month", "yr": "year"} | {
    "lb": "pound",
    "kg": "kilogram",
}
_BEFORE_ROMAN = (
    "chapter part volume book act scene section phase type class title article appendix level stage war".split()
)
_RULERS = (
    "Louis Henry Edward George William Charles James Richard John Paul Pius Benedict Elizabeth Philip Francis Napoleon Ivan "
    "Peter Leo Gregory Clement Innocent Alexander Frederick Nicholas Catherine Mary Gustav Christian Ferdinand Carlos Juan "
    "Pedro Robert David Malcolm Otto Rudolf Wilhelm Franz Joseph Leopold Albert Urban Julius Sixtus Boniface Ramses Ptolemy "
    "Darius Xerxes Cyrus Constantine Justinian Theodosius Harald Olaf Haakon Rama"
).split()
_WITHOUT_VOWELS = frozenset(
    "hm hmm hmmm mm mmm sh shh shhh psst pst brr brrr tsk grr grrr zz zzz nth pfft th st nd rd ll".split()
)
"""Said as they are. Other words without a vowel are letters: fps, html."""
_SMALL_WORDS = frozenset(
    "a i am an and any are as at be but by can did do for get go got had has he her him his how if in is it its let "
    "me my no nor not now of off on one or our out own put say see she so the to too two up was way we who why yes "
    "yet you new old all day man may".split()
)
"""In capitals these are loud, not letters. (US and IT are left: more often letters.)"""
_SYMBOLS = {
    "&": " and ",
    "@": " at ",
    "%": " percent ",
    "+": " plus ",
    "=": " equals ",
    "#": " number ",
    "°": " degrees ",
    "/": " slash ",
    "⁄": " over ",
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
    hour, minute = int(match["hour"]), int(match["minute"] or 0)
    said = cardinal(hour)
    if minute:
        said += f" oh {cardinal(minute)}" if minute < 10 else f" {cardinal(minute)}"
    else:
        said += " hundred" if hour > 12 or hour == 0 else " o'clock" if not match["half"] else ""
    if not match["half"]:
        return said
    stop = "." if match["half"].endswith(".") and _is_last(match) else ""
    return f"{said} {_LETTERS[match['half'][0].lower()]} em{stop}"


def _american_date(match: re.Match[str]) -> str:
    """3/14/2025 -> March fourteenth, twenty twenty five."""
    after = int(match[3])
    if len(match[3]) == 2:
        after += 2000 if after < 50 else 1900
    return f"{[*_MONTHS.values()][int(match[1]) - 1]} {ordinal(int(match[2]))}, {year(after)}"


def _scaled(match: re.Match[str]) -> str:
    return f"{match[1]} {_SCALES[match[2].lower()]}"


def _each(match: re.Match[str]) -> str:
    return f"{match[1]} per {_SHORT_EACH.get(match[2].lower(), match[2])}"


def _roman(match: re.Match[str]) -> str:
    number = roman(match["roman"])
    if number is None:
        return match[0]
    return f"{match['before']} {number}"


def _ruler(match: re.Match[str]) -> str:
    number = roman(match["roman"])
    return match[0] if number is None else f"{match['before']} the {ordinal(number)}"


def _height(match: re.Match[str]) -> str:
    feet = f"{cardinal(int(match[1]))} {'foot' if match[1] == '1' or match[2] else 'feet'}"
    return f"{feet} {cardinal(int(match[2]))}" if match[2] else feet


def _fraction(match: re.Match[str]) -> str:
    whole, over, under = match["whole"], int(match["over"]), int(match["under"])
    name = {2: "half", 4: "quarter"}.get(under) or ordinal(under)
    plural = "halves" if under == 2 else name + "s"
    said = f"{cardinal(over)} {name if over == 1 else plural}"
    return f" {cardinal(int(whole))} and {said}" if whole else f" {said}"


def _date(match: re.Match[str]) -> str:
    month = [*_MONTHS.values()][int(match[2]) - 1]
    return f"{month} {ordinal(int(match[3]))}, {year(int(match[1]))}"


def _decade(match: re.Match[str]) -> str:
    number = int(match[1])
    name = year(number) if number > 99 else cardinal(number)
    return name[:-1] + "ies" if name.endswith("y") else name + "s"


def _acronym(match: re.Match[str]) -> str:
    word = match[0].replace(".", "")
    plural = word.endswith("s") and word[:-1].isupper()
    letters = " ".join(_LETTERS[letter.lower()] for letter in (word[:-1] if plural else word))
    return letters + ("s" if plural else "")


def _unit(match: re.Match[str]) -> str:
    if match["unit"] in ("M", "G", "L"):
        return match[0]  # 5G is no weight
    one, many = _UNITS[match["unit"].lower()]
    return f"{_number(match['amount'])} {one if match['amount'] == '1' else many}"


_AMOUNT = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d*\.\d+|\d+"
_RULES: list[tuple[re.Pattern[str], Callable[[re.Match[str]], str] | str]] = [
    (re.compile(r"(?<=[.!?,;:\"”)])\[\d{1,3}\]"), ""),  # a reference
    (re.compile(r"https?://(?:www\.)?|www\."), " "),
    (re.compile(r"\bUS(?=\$)"), ""),
    (re.compile(r"(?<!\d)(?<!\d\s)\bkm/h\b"), "kilometers an hour"),
    (re.compile(r"\bWW(I{1,2})\b"), lambda m: f"World War {cardinal(len(m[1]))}"),
    (
        re.compile(rf"\b(?P<before>{'|'.join(_BEFORE_ROMAN)}|[Vv]ol\.)\s(?P<roman>[IVX][IVXL]*)\b", re.IGNORECASE),
        lambda m: _roman(m) if m["roman"].isupper() else m[0],
    ),
    (re.compile(rf"\b(?P<before>{'|'.join(_RULERS)})\s(?P<roman>[IVX]{{2,}})\b(?!\.\w)"), _ruler),
    (re.compile(r"(?<![\w/])(0?[1-9]|1[0-2])/(0?[1-9]|[12]\d|3[01])/(\d{4}|\d\d)(?![\w/])"), _american_date),
    (re.compile(r"(?<![\w/])(24/7)(?![\w/])"), "24 7"),
    (re.compile(r"(?<![\w/.])(\d\d)/\1(?![\w/])"), r"\1 \1"),
    (re.compile(r"(?<![\w.])(\d)['’′](?:\s?(\d|1[01])(?:\"|”|″|''))?(?!\w)"), _height),
    (re.compile(r"(?<![\w.,])((?:[$€£¥])(?:\d[\d,]*(?:\.\d+)?))\s?(k|m|bn?|tn?)\b", re.IGNORECASE), _scaled),
    (re.compile(r"(?<![\w.,$€£¥])(\d[\d,]*(?:\.\d+)?)(k)\b"), _scaled),
    (re.compile(r"(?<![\w.,])(\d+(?:\.\d+)?)x\b(?!\d)"), r"\1 times"),
    (re.compile(r"%\s?[-–]\s?(?=\d)"), "% to "),
    (
        re.compile(rf"(?<![\w:/.])([$€£¥]?\d[\d,.]*(?:\s\w+)?)\s?/\s?({'|'.join(_EACH)})\b"),
        _each,
    ),
    (
        re.compile(
            r"\b(January|February|March|April|May|June|July|August|September|October|November|December|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept|Sep|Oct|Nov|Dec)\b(\.?) ([12]\d|3[01]|0?[1-9])(?![\w:%]|[.,]\d|\s?(?:[ap]\.?m\b|percent))"
        ),
        lambda m: f"{m[1]}{m[2]} {m[3]}th",
    ),
    (re.compile(r"\bPh\.\s?D\b\.?"), "pee aitch dee"),
    (re.compile(r"(?<=\w)\.(?=[A-Za-z]{2,}\b)"), " dot "),
    (
        re.compile(
            r"(?<![\d:])(?P<hour>[01]?\d|2[0-3])(?::(?P<minute>[0-5]\d))(?::\d\d)?(?:\s?(?P<half>[aApP](?:\.[mM]\.|[mM]\b)))?(?!\d)"
        ),
        _time,
    ),
    (
        re.compile(r"(?<![\w:.,])(?P<hour>0?[1-9]|1[0-2])(?P<minute>)\s?(?P<half>[aApP](?:\.[mM]\.|[mM]\b))"),
        _time,
    ),
    (
        re.compile(
            rf"(?<![\w.,$€£¥])(?P<amount>{_AMOUNT})\s?(?P<unit>{'|'.join(_UNITS)})\b(?![/'’]|\.\w)(?:\.(?=\s+(?-i:[a-z0-9])))?",
            re.IGNORECASE,
        ),
        _unit,
    ),
    (re.compile(r"(?<!\w)(?:[A-Za-z]\.){2,}(?!\w)"), lambda m: _abbreviation(m) or _acronym(m)),
    (re.compile(r"(?<![\w.])[A-Za-z]+\."), lambda m: _abbreviation(m) or m[0]),
    (
        re.compile(
            rf"(?P<sign>[$€£¥])(?P<amount>{_AMOUNT})(?:\s(?P<scale>hundred|thousand|million|billion|trillion))?"
        ),
        _money,
    ),
    (re.compile(r"(?<!\d)((?:1[1-9]|20)\d\d)-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])(?!\d)"), _date),
    (
        re.compile(r"(?<![\w.,/])(?:(?P<whole>\d{1,3})\s)?(?P<over>[1-9])[/⁄](?P<under>[2-5]|8|10)(?![\w/]|[.,]\d)"),
        lambda m: _fraction(m) if int(m["over"]) < int(m["under"]) else m[0],
    ),
    (
        re.compile(r"(?<![\w.,])(\d{1,3}(?:,\d{3})+|\d+)(?:st|nd|rd|th)\b"),
        lambda m: ordinal(int(m[1].replace(",", ""))) if len(m[1]) < 16 else digits(m[1]),
    ),
    (
        re.compile(r"(?<![\w.])(\d{3})-(\d{3,4})(?:-(\d{4}))?(?!\w)"),
        lambda m: ", ".join(digits(g) for g in m.groups() if g),
    ),
    (re.compile(r"(?<![\w.,$])['’]?((?:1[1-9]\d|20\d|[2-9])0)s\b"), _decade),
    (re.compile(r"(?<![\w.,$])(1[1-9]\d\d|20\d\d)(?!\w|[.,]\d)"), lambda m: year(int(m[1]))),
    (re.compile(r"#(?=[A-Za-z])"), ""),
    (re.compile(r"°\s?([CF])\b"), lambda m: " degrees " + {"C": "Celsius", "F": "Fahrenheit"}[m[1]]),
    (re.compile(r"--+"), ", "),
    (re.compile(r"(?<!\d)\d+(?:\.\d+){2,}"), lambda m: " point ".join(_number(part) for part in m[0].split("."))),
    (re.compile(r"(?<![\w.])-(?=\d)"), "minus "),
    (re.compile(r"(\d)\s?[-–](?=\d)"), r"\1 to "),
    (re.compile(_AMOUNT), lambda m: f" {_number(m[0])} "),
    (re.compile(r"\b[A-Z]{2,5}s?\b"), lambda m: _acronym(m) if _is_acronym(m) else m[0]),
    (
        re.compile(r"(?<![\w'’-])[b-df-hj-np-tv-xz]{2,5}\b(?!['’])"),
        lambda m: m[0] if m[0] in _WITHOUT_VOWELS else _acronym(m),
    ),
]


def _after(match: re.Match[str]) -> str:
    """The next character that is no blank, or ""."""
    return match.string[match.end() : match.end() + 20].lstrip()[:1]


def _is_last(match: re.Match[str]) -> bool:
    """Whether a sentence may end here: nothing follows, or a capital."""
    after = _after(match)
    return not after or after.isupper()


def _abbreviation(match: re.Match[str]) -> str | None:
    """A shortened word with its full stop -> the word; with the full stop still where it ends the sentence too."""
    word, after = match[0][:-1].lower(), _after(match)
    if word in ("mr", "mrs", "dr") and match.string.startswith(" and ", match.end()):
        return _TITLES[word]
    if match[0][0].isupper() and word in _TITLES and after.isupper():
        named = re.search(
            r"\b(?!(?:In|At|On|To|From|The|And|But|Of|For|With|By|Near)\b)[A-Z]\w*\s+$",
            match.string[max(0, match.start() - 30) : match.start()],
        )
        # "Elm St. Then" or "to St. Paul's": a name before a place, none before a saint.
        return _PLACES[word] + "." if named and word in _PLACES else _TITLES[word]
    if match[0][0].isupper() and word in _PLACES:
        return _PLACES[word] + ("" if after else ".")
    if word in _WEEKDAYS and match[0][0].isupper() and (word not in _ALSO_WORDS or after.isdigit() or after == ","):
        return _WEEKDAYS[word]
    if word in _NUMBERED:
        return _NUMBERED[word] if after.isdigit() else None
    said = _ABBREVIATIONS.get(word)
    if said is None:
        return None
    return said + "." if word not in ("e.g", "i.e", "vs") and _is_last(match) else said


def _is_acronym(match: re.Match[str]) -> bool:
    """Capitals are letters to be named, unless the neighbours shout as well, or the word has a vowel and sounds."""
    text, word = match.string, match[0]
    around = text[max(0, match.start() - 40) : match.start()].split()[-1:]
    around += text[match.end() : match.end() + 40].split()[:1]
    if any(_shouts(other.strip(".,!?;:()")) for other in around):
        return False
    if word.lower() in _SMALL_WORDS:
        return False
    core = word.removesuffix("s")
    return len(core) < 4 or not re.search("[AEIOU]", core[1:])


def _shouts(word: str) -> bool:
    """A word in capitals that is no acronym itself: "HELLO", "AT", but neither "CIA" nor "US"."""
    return (
        len(word) > 1
        and word.isalpha()
        and word.isupper()
        and (word.lower() in _SMALL_WORDS or (len(word) > 3 and bool(re.search("[AEIOUY]", word[1:]))))
    )


def spell_out(text: str) -> str:
    """Text -> letters, spaces and `' - , . ; : ! ?`. Writing in other scripts than Latin is left out.

    The result may be empty: a text of symbols says nothing.
    """
    for written, plain in (("²", " squared"), ("³", " cubed"), ("№", " number ")):
        text = text.replace(written, plain)
    # Wide, raised and joined characters as plain ones, while digits still count: "½" is "1⁄2".
    text = re.sub(r"(?<=\d)(?=[½⅓⅔¼¾⅕⅛])", " ", text)
    text = unicodedata.normalize("NFKC", text)
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    for symbol, word in _SYMBOLS.items():
        text = text.replace(symbol, word)
    text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    text = re.sub(r"[^A-Za-z' ,.;:!?-]+", " ", text)
    text = re.sub(r"\s+", " ", text)
    text = re.sub(r"\s+([,.;:!?])", r"\1", text)
    text = re.sub(r"(?<=[a-z]) -(?=[A-Za-z])", "-", text)
    text = re.sub(r"([,.;:!?])(?:[,.;:!?]| (?=[,.;:!?]))+", _strongest, text)
    text = re.sub(r"([,.;:!?])(?=[A-Za-z])", r"\1 ", text).strip(" ,;:-")
    return text if re.search("[A-Za-z]", text) else ""


def _strongest(match: re.Match[str]) -> str:
    return next(mark for mark in "?!.;:," if mark in match[0])
