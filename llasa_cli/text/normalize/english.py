"""English as it is said: numbers, money, times, acronyms and symbols become words.

Only for checkpoints that ask for it (`"spell_out": true` in llasa.json), such as the built-in voice, which knows
letters and a little punctuation. The big models read raw text and learnt to do so themselves.

    "Dr. Lee paid $3.50 at 9:05 on May 2nd."  ->  "Doctor Lee paid three dollars and fifty cents at nine oh five on May second."
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

from llasa_cli.text.normalize import amounts
from llasa_cli.text.normalize.amounts import AMOUNT, EACH, MONEY, SHORT_EACH, UNIT, UNIT_END
from llasa_cli.text.normalize.numbers import cardinal, digits, ordinal, roman, year

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
    "rep": "representative",
    "pres": "president",
    "adm": "admiral",
    "maj": "major",
    "cpl": "corporal",
}
"""With a capital, before a name. Elsewhere they are words ("5 ms.") or other words ("Main St.")."""
_BARE_TITLES = ("Mr", "Mrs", "Ms", "Dr", "Prof", "Capt", "Lt", "Sgt", "Mt", "St")
"""Written without a full stop too. (Not Gen Z, nor Col and Rev.)"""
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
_SHORT_MONTHS = {**_MONTHS, "sept": "September"}
_MONTH = "|".join(_MONTHS.values())
_SHORT_MONTH = "Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec"
_SHORT_DAY = "Mon|Tues?|Wed|Thurs?|Thu|Fri|Sat|Sun"
_NUMBERED = {
    **_SHORT_MONTHS,
    **dict(
        pair.split()
        for pair in (
            "no number,nos numbers,vol volume,fig figure,figs figures,p page,pp pages,ch chapter,sec section,"
            "eq equation,apt apartment,ste suite,ext extension,ca circa,c circa,"
            "rm room,bldg building,hwy highway,rte route"
        ).split(",")
    ),
}
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
    "co": "company",
    "cf": "compare",
    "incl": "including",
    "excl": "excluding",
    "tel": "telephone",
    "pkg": "package",
    "appt": "appointment",
    "a.m": "ay em",
    "p.m": "pee em",
}
_BEFORE_ROMAN = "chapter part volume book act scene section phase type class title article appendix level stage war bowl episode".split()
_ONE_AFTER_CAPITAL = re.compile(
    r"(?!['’](?:m|d|ll|ve)\b|\s(?:am|have|do|don|like|love|want|need|think|know|took|read|wrote|saw)\b)", re.I
)
_ONE = re.compile(
    r"\s?(?:[.,;:!?)\]]|$)|\s(?:of|errors?|diabetes|(?:[a-z]+ )?cancers?|trauma|devices?|(?:and|or|to|through)(?: \w+)? I[IVX]*)\b"
    r"|\s(?:(?:clinical )?(?:trials?|stud(?:y|ies))|felon(?:y|ies)|misdemeanors?|recalls?|collagen|interferons?|disease|patients?)\b"
    r"|/I"
)
"""After the I of "World War I", and of "type I error": elsewhere, as in "the book I read", it is the pronoun."""
_ZONE = re.compile(r"\s(?:[ECMP][SD]?T|GMT|UTC|BST|CES?T)\b")
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
    "a i am an and any are as at be but by can did do for get go got had has he her him his how if in is its let "
    "me my no nor not now of off on one or our out own put say see she so the to too two up was way we who why yes "
    "yet you new old all day man may".split()
)
"""In capitals these are loud, not letters. (US and IT are left: more often letters.)"""
_LETTERS_OF_THEIR_OWN = str.maketrans(
    {"ß": "ss", "ẞ": "SS", "ł": "l", "Ł": "L", "ø": "o", "Ø": "O", "đ": "d", "Đ": "D", "ð": "th", "Ð": "Th", "þ": "th"}
    | {"Þ": "Th", "æ": "ae", "Æ": "Ae", "œ": "oe", "Œ": "Oe", "ı": "i", "™": "", "®": "", "℠": "", "©": ""}
    | {"ʻ": "", "ʼ": "'", "−": "-", "‐": "-", "‑": "-"}
    | dict.fromkeys("\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff", "")
)
"""Unicode takes no accent off these. Dashes as long as a hyphen are hyphens, and what is not seen is nothing."""
_POWER = re.compile(r"(?<=\d)[⁻⁺][⁰¹²³⁴-⁹]+|(?<![\w.,])(\d\d?|[A-Za-z])(?:[⁰¹²³⁴-⁹]{2,}|[⁰⁴-⁹])")
"""One ² or ³ is squared and cubed; 1999⁴ has a note, which is left out."""
_SYMBOLS = {
    "!=": " is not ",
    "≠": " is not ",
    ">=": " at least ",
    "≥": " at least ",
    "<=": " at most ",
    "≤": " at most ",
    "==": " equals ",
    "±": " plus or minus ",
    "≈": " about ",
    "√": " square root of ",
    "¢": " cents ",
    "→": ", ",
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


def _time(match: re.Match[str]) -> str:
    """9:05 -> nine oh five; 14:05:30 -> fourteen oh five and thirty seconds; 1:30:00 -> one hour thirty minutes."""
    hour, minute = int(match["hour"]), int(match["minute"] or 0)
    second = match.groupdict().get("second")
    if second and not match["half"] and match["hour"] in (str(hour % 10), "00"):
        return _duration(match["hour"], match["minute"], second)
    said = cardinal(hour)
    if minute:
        said += f" oh {cardinal(minute)}" if minute < 10 else f" {cardinal(minute)}"
    else:
        said += " hundred" if hour > 12 or hour == 0 else " o'clock" if not match["half"] else ""
    if second and int(second):
        said += f" and {_many(int(second), 'second')}"
    if not match["half"]:
        return said
    stop = "." if match["half"].endswith(".") and _is_last(match) and not _ZONE.match(match.string, match.end()) else ""
    return f"{said} {_LETTERS[match['half'][0].lower()]} em{stop}"


def _many(count: int, name: str) -> str:
    return f"{cardinal(count)} {name}{'' if count == 1 else 's'}"


def _duration(*counts: str | None) -> str:
    """Hours, minutes and seconds, those that are not zero, by their names."""
    named = zip((int(count or 0) for count in counts), ("hour", "minute", "second"), strict=True)
    return " ".join(_many(count, name) for count, name in named if count) or "zero seconds"


def _american_date(match: re.Match[str]) -> str:
    """3/14/2025 -> March fourteenth, twenty twenty five."""
    after = int(match[3])
    if len(match[3]) == 2:
        after += 2000 if after < 50 else 1900
    return f"{[*_MONTHS.values()][int(match[1]) - 1]} {ordinal(int(match[2]))}, {year(after)}"


def _roman(match: re.Match[str]) -> str:
    number = roman(match["roman"])
    one = _ONE_AFTER_CAPITAL if match["before"][0].isupper() else _ONE
    if number is None or (number == 1 and not one.match(match.string, match.end())):
        return match[0]
    return f"{match['before']} {number}"


def _ruler(match: re.Match[str]) -> str:
    number = roman(match["roman"])
    if number is None or (number == 1 and not _ONE_AFTER_CAPITAL.match(match.string, match.end())):
        return match[0]
    return f"{match['before']} the {ordinal(number)}"


def _date(match: re.Match[str]) -> str:
    month = [*_MONTHS.values()][int(match[2]) - 1]
    return f"{month} {ordinal(int(match[3]))}, {year(int(match[1]))}"


def _european_date(match: re.Match[str]) -> str:
    """15.3.2024 -> March fifteenth, twenty twenty four."""
    return f"{[*_MONTHS.values()][int(match[2]) - 1]} {ordinal(int(match[1]))}, {year(int(match[3]))}"


def _day_and_month(match: re.Match[str]) -> str:
    article = "" if re.search(r"\bthe\s$", match.string[max(0, match.start() - 5) : match.start()], re.I) else "the "
    return f"{article}{ordinal(int(match[1]))} of {match[2]}"


def _telephone(match: re.Match[str]) -> str:
    """A number in groups, by its digits. "500-1000" and "112-109" are no such."""
    if match.re.groups == 2 and match[1].endswith("0") and match[2].endswith("00"):
        return f"{match[1]} to {match[2]}"
    plus = "plus " if match[0].startswith("+") else ""
    return plus + ", ".join(digits(group) for group in re.findall(r"\d+", match[0]))


def _letters_together(match: re.Match[str]) -> str:
    """AT&T, TCP/IP: letters. YES/NO: words."""
    parts = re.split("[&/]", match[0])
    if all(part.lower() in _SMALL_WORDS or len(part) > 3 for part in parts) and "&" not in match[0]:
        return match[0]
    joint = " and " if "&" in match[0] else " "
    return joint.join(_named(part) if len(part) < 4 else part for part in parts)


def _named(word: str) -> str:
    """Each letter's name; one letter by itself stays."""
    return " ".join(_LETTERS[letter.lower()] for letter in word) if len(word) > 1 else word


def _ratio(match: re.Match[str]) -> str:
    """3:1 -> three to one; Psalm 23:4 -> Psalm twenty three four."""
    verse = re.search(r"[A-Z][a-z]+\.?\s$", match.string[max(0, match.start() - 20) : match.start()])
    return f"{match[1]} " if verse else f"{match[1]} to "


def _bare_title(match: re.Match[str]) -> str:
    """Mr Lee, St Paul; but "Main St Then"."""
    before = match.string[max(0, match.start() - 30) : match.start()]
    named = match[1] in ("St", "Dr") and re.search(_NAME_BEFORE, before)
    return (_PLACES if named else _TITLES)[match[1].lower()]


def _decade(match: re.Match[str]) -> str:
    number = int(match[1])
    name = year(number) if number > 99 else cardinal(number)
    return name[:-1] + "ies" if name.endswith("y") else name + "s"


def _acronym(match: re.Match[str]) -> str:
    word = match[0].replace(".", "")
    plural = word.endswith("s") and word[:-1].isupper()
    letters = " ".join(_LETTERS[letter.lower()] for letter in (word[:-1] if plural else word))
    return letters + ("s" if plural else "")


_NAME_BEFORE = r"\b(?!(?:In|At|On|To|From|The|And|But|Of|For|With|By|Near|Dear|Hi|Hello|Thanks|Yes|No)\b)[A-Z]\w*\s+$"
_RULES: list[tuple[re.Pattern[str], Callable[[re.Match[str]], str] | str]] = [
    (re.compile(r"(?<=[.!?,;:\"”)])\[\d{1,3}\]"), ""),  # a reference
    (re.compile(r"https?://(?:www\.)?|www\."), " "),
    (re.compile(r"\bUS(?=\$)"), ""),
    (re.compile(r"(?<=\b[A-Z])(?=[$€£¥]\d)|(?<=\b[A-Z]{2})(?=[$€£¥]\d)"), " "),
    # 3,50 € and €1.234,50 as $3.50 is written.
    (re.compile(r"(?<![\w.,$€£¥])(\d{1,12}(?:[.,]\d{1,3}){0,4})\s?([€£])(?![\d.])"), r"\2\1"),
    (
        re.compile(r"([$€£])(\d{1,3}(?:\.\d{3}){0,4}),(\d\d)(?!\d|,\d)"),
        lambda m: f"{m[1]}{m[2].replace('.', '')}.{m[3]}",
    ),
    # A hyphen between amounts, times and days is "to".
    (re.compile(r"(?<![\w.,])([$€£¥])(\d[\d,.]{0,20})[-–—](?=\d)"), r"\2 to \1"),
    (
        re.compile(r"([$€£¥]\d[\d,.]{0,20}(?:[kKmMbBtT]n?\b|\s(?:m|b|tr)illion)?)(?:\s-\s|\s?–\s?|-\s?|—)(?=[$€£¥]\d)"),
        r"\1 to ",
    ),
    (
        re.compile(r"(?<=\d)[-–—](?=\d\d?:\d\d)|(?<=:\d\d)\s?[-–—]\s?(?=\d)|(?<=[\d ][apAP][mM])\s?[-–—]\s?(?=\d)"),
        " to ",
    ),
    (re.compile(r"(?<![\w.,:])(\d\d?)\.([0-5]\d)(?=\s?[ap]\.?m\b)", re.IGNORECASE), r"\1:\2"),
    (re.compile(r"(?<=\d)\s?[-–—]\s?(?=\d\d?\s?[ap]\.?m\b)", re.IGNORECASE), " to "),
    (re.compile(r"(?<!\S)[:;=]['’]?-?[()DP](?!\w)|(?<!\S)<3(?!\S)"), ""),
    (re.compile(r"(?<=[ap]\.m\.)\s?[-–—]\s?(?=\d)"), " to "),
    (
        re.compile(rf"\b({_SHORT_DAY})\.?\s?[-–]\s?({_SHORT_DAY})\b(?:\.(?=\s?[a-z\d,;)]))?"),
        lambda m: f"{_WEEKDAYS[m[1].lower()]} to {_WEEKDAYS[m[2].lower()]}",
    ),
    (
        re.compile(
            rf"\b(?:Tues?|Wed|Thurs?|Thu|Fri|Mon)(?=,?\s\d)|\b(?:Sat|Sun)(?=,?\s\d\d?\s(?:{_MONTH}|[A-Z][a-z]{{2}})\b)"
        ),
        lambda m: _WEEKDAYS[m[0].lower()],
    ),
    (
        re.compile(rf"\b({_SHORT_MONTH})\b\.?\s?[-–]\s?({_SHORT_MONTH}|May)\b\.?"),
        lambda m: f"{_SHORT_MONTHS[m[1].lower()]} to {_SHORT_MONTHS[m[2].lower()]}",
    ),
    (
        re.compile(rf"\b({_SHORT_MONTH})\b\.?(?=\s\d)|(?<=\d )({_SHORT_MONTH})\b\.?"),
        lambda m: _SHORT_MONTHS[m[0].rstrip(".").lower()],
    ),
    (re.compile(rf"(\b(?:{_MONTH})\s\d\d?(?:st|nd|rd|th)?)\s?[-–—]\s?(?=(?:{_MONTH}|{_SHORT_MONTH})\b)"), r"\1 to "),
    (re.compile(rf"(?<=\d )({_MONTH})\s?[-–]\s?(?=\d\d?\s(?:{_MONTH})\b)"), r"\1 to "),
    (
        re.compile(rf"(?<![\w.,:/$-])([12]\d|3[01]|[1-9])\s({_MONTH})\b(?!\s\d\d?(?!\d))"),
        _day_and_month,
    ),
    (re.compile(r"(?<![\w.])(0?[1-9]|[12]\d|3[01])\.(0?[1-9]|1[0-2])\.([12]\d{3})(?![\w]|\.\d)"), _european_date),
    (re.compile(r"(?<![\w/])(1[3-9]|2\d|3[01])/(0?[1-9]|1[0-2])/([12]\d{3})(?![\w/])"), _european_date),
    (re.compile(r"(?<=\d\d\d\d-\d\d-\d\d)T(?=\d\d:)"), ", "),
    (re.compile(r"(?<=\d:\d\d)Z\b"), ""),
    (re.compile(r"(?<![\w.,])-(?=[$€£¥]\.?\d)"), " minus "),
    (
        re.compile(
            r"(?<![\w.,:])(\d{1,3})h\s?([0-5]?\d)m(?:\s?([0-5]?\d)s)?\b|(?<![\w.,:])()(\d{1,3})m\s?([0-5]?\d)s\b"
        ),
        lambda m: _duration(m[1] or m[4], m[2] or m[5], m[3] or m[6]),
    ),
    (re.compile(r"(?<![\w.,])(\d(?:\.\d{1,20})?)e\+?(-?\d{1,3})\b"), r"\1 times 10 to the power of \2"),
    # Telephone numbers, and those of places.
    (re.compile(r"(?<=,\s[A-Z][A-Z]\s)\d{5}(?:-\d{4})?(?![\w-])|(?<=\sD\.C\.\s)\d{5}(?:-\d{4})?(?![\w-])"), _telephone),
    (re.compile(r"\+\d{1,3}(?:[ -]\(?\d{1,4}\)?){2,5}(?![\w]|[.,]\d)"), _telephone),
    (re.compile(r"(?<![\w.,-])(?<!\d\s)0\d{2,4}(?:[ -]\d{3,4}){1,2}(?![\w]|[.,-]\d)"), _telephone),
    (re.compile(r"(?<![\w.])\(\d{3}\)\s?\d{3}-\d{4}(?!\w)"), _telephone),
    (re.compile(r"(?<![\w.-])(?:1[-.])?\d{3}([-.])\d{3}\1\d{4}(?![\w-])"), _telephone),
    (re.compile(r"(?<![\w.-])(\d{3})-(\d{4})(?![\w-])"), _telephone),
    (re.compile(r"(?<![\w.-])\d{1,5}(?:-\d{1,7}){3,5}(?![\w-])"), _telephone),  # an ISBN
    (
        re.compile(
            r"\b((?:call|dial|phone)(?:s|ed|ing)?\s)([2-9]11|112|999|988|\d{3}(?!\s[a-z]))\b(?![.,:'’-]\d)",
            re.IGNORECASE,
        ),
        lambda m: m[1] + digits(m[2]),
    ),
    # Sums.
    (re.compile(r"(?<=\d)\s?[-–]\s?(?=\d[\d.]{0,20}\s?=)"), " minus "),
    (re.compile(r"(?<=\d)\s?/\s?(?=\d[\d.]{0,20}\s?=)"), " divided by "),
    (re.compile(r"(?<=\d)\s?\*\s?(?=\d)|(?<=\d)\s?[x×]\s?(?=\d[\d.]{0,20}\s?=)"), " times "),
    (
        re.compile(
            r"(?<=[1-9])x(?=\d)|(?<=\d0)x(?=\d)|(?<=\d)\sx\s(?=\d)|(?<=[′″'’])\s?[x×]\s?(?=\d)|(?<=\d\s(?:cm|mm|ft|in|yd))\sx\s(?=\d)"
            r"|(?<=\d(?:cm|mm|ft|in|yd))\s?x\s?(?=\d)"
        ),
        " by ",
    ),
    (re.compile(r"(?<=\w)\^(?=-?\w)"), " to the power of "),
    (re.compile(r"[~≈](?=\s?[$€£¥]?\d)"), " about "),
    (re.compile(r"\b([CF])#(?!\w)"), r"\1 sharp"),
    # Shortened words without a full stop.
    (
        re.compile(rf"(?<![\w'’])({'|'.join(_BARE_TITLES)})(?=\s[A-Z][a-z])"),
        _bare_title,
    ),
    (re.compile(r"(?<=[a-z]\s)(St|Ave|Rd|Blvd)\b(?!\.)"), lambda m: _PLACES[m[1].lower()]),
    (re.compile(r"(?<=\w\s)v\.?(?=\s[A-Z])"), "versus"),
    (re.compile(r"\bvs\b\.?"), "versus"),
    (re.compile(r"\b(Apt|Bldg|Hwy|Rte|Ste|Vol)(?=\s\d)"), lambda m: _NUMBERED[m[0].lower()]),
    (re.compile(r"\betc\b(?!\.)"), "et cetera"),
    (re.compile(r"(?<![\w/])([wW])/o(?![\w/])"), "without"),
    (re.compile(r"(?<![\w/])([wW])/(?=\s|\w{3})"), "with "),
    (re.compile(r"\band/or\b"), "and or"),
    (re.compile(r"\b([Hh]e|[Ss]he|[Hh]im|[Hh]is|[Hh]er)/(?=(?:he|she|him|hers?|his|they|them|their)\b)"), r"\1 or "),
    (re.compile(r"(?<![\w/&])[A-Z]{1,5}(?:[&/][A-Z]{1,5}){1,3}(?![\w/&]|\.\w)"), _letters_together),
    (re.compile(r"\bPhD(s?)\b"), r"pee aitch dee\1"),
    (re.compile(r"(?<![A-Za-z])([a-z])(?=[A-Z]{2,4}\b)"), r"\1 "),
    (re.compile(r"(?<!\d)(?<!\d\s)\bkm/h\b"), "kilometers an hour"),
    (re.compile(r"\bWW(?:([12])|(I{1,2}))\b"), lambda m: f"World War {m[1] or cardinal(len(m[2]))}"),
    (
        re.compile(
            rf"\b(?P<before>{'|'.join(_BEFORE_ROMAN)}|[Vv]ol\.)\s(?P<roman>[IVX][IVXL]*|L[IVX]+)\b", re.IGNORECASE
        ),
        lambda m: _roman(m) if m["roman"].isupper() else m[0],
    ),
    (  # Henry V, King James I, but David X. Lee and Malcolm X
        re.compile(
            rf"\b(?P<before>(?P<title>(?:King|Queen|Pope|Emperor|Tsar|Czar|Kaiser)\s)?(?:{'|'.join(_RULERS)}))\s"
            r"(?P<roman>[IVX]{2,}|(?(title)I|(?!))|[VX](?<!Malcolm X)(?!\.\s?[A-Z]))\b(?!\.\w)"
        ),
        _ruler,
    ),
    (re.compile(r"\b(?P<before>[A-Za-z]{1,30})\s(?P<roman>[VX]{0,2}I{2,3})\b"), _roman),  # no acronyms: Rocky II
    (re.compile(r"(?<![\w/])(0?[1-9]|1[0-2])/(0?[1-9]|[12]\d|3[01])/(\d{4}|\d\d)(?![\w/])"), _american_date),
    (re.compile(r"(?<![\w/.-])(0?[1-9]|1[0-2])-(0?[1-9]|[12]\d|3[01])-([12]\d{3})(?![\w/-])"), _american_date),
    (re.compile(r"(?<![\w/])9/11(?![\w/])"), "9 11"),
    (re.compile(r"(?<![\w/.,])(\d\d)/(\d\d)(?=\s?Hz\b)"), r"\1 or \2"),
    (
        re.compile(rf"(?:\sper\s|\s?/\s?)((?:sq|cu)\.?\s(?:ft|in|yd|mi|km|m|cm))\b{amounts.UNIT_END}"),
        lambda m: f" per {amounts.names(m[1])[0]}",
    ),
    (re.compile(r"\by/o\b"), "years old"),
    (re.compile(r"(?<![\w/])(24/7)(?![\w/])"), "24 7"),
    (re.compile(r"(?<![\w/.])(\d\d)/\1(?![\w/])"), r"\1 \1"),
    (
        re.compile(r"(?<=°)\s?(\d\d?)['’′](?:\s?(\d\d?)″)?"),
        lambda m: f" {m[1]} min" + (f" {m[2]} sec " if m[2] else ""),
    ),
    (re.compile(r"(?<![\w.])(\d{1,3})['’](\sby\s\d{1,3})['’]"), r"\1′\2′"),
    (re.compile(r"(?<![\w.])(\d{2,3})['’](?=\s?(?:\d|1[01])″)"), r"\1′"),
    (re.compile(r"(?<=\d[′″])\s?[-–]\s?(?=\d{1,3}[′″])"), " to "),
    (re.compile(r"(?<![\w.])(\d{1,3})['’](?=\s(?:tall|high|wide|long|deep)\b)"), r"\1′"),
    (
        re.compile(r"(?<![\w.'‘])(?:(?P<feet>\d)['’]|(?P<primed>\d{1,3})′)(?:\s?(?P<inches>\d|1[01])(?:″|''))?(?!\w)"),
        amounts.height,
    ),
    (
        re.compile(r"(?<![\w.,])((?:[$€£¥])(?:\d[\d,]{0,20}(?:\.\d{1,20})?))\s?(k|m|bn?|tn?)\b", re.IGNORECASE),
        amounts.scaled,
    ),
    (
        re.compile(r"(?<![\w.,$€£¥])(\d[\d,]{0,20}(?:\.\d{1,20})?)(k|bn|tn|(?<=\.\d)M|(?<=\.\d\d)M)\b"),
        amounts.scaled,
    ),
    (re.compile(r"(?<![\w.,])(\d+(?:\.\d+)?)x\b(?!\d)"), r"\1 times"),
    (re.compile(r"%\s?[-–]\s?(?=\d)"), "% to "),
    (
        re.compile(
            rf"(?<![\w:/.,])([$€£¥]?\d[\d,.]{{0,20}}%?(?:\s?[A-Za-zμ]{{1,20}})?)\s?/\s?({'|'.join(EACH)})\b{UNIT_END}"
        ),
        amounts.each,
    ),
    (re.compile(rf"\b({_MONTH})\s(\d\d?)\s?[-–]\s?(\d\d?)(?!\w|[-/:.,]\d)"), r"\1 \2th to \3th"),
    (
        re.compile(
            rf"\b({_MONTH}|{_SHORT_MONTH})\b(\.?) ([12]\d|3[01]|0?[1-9])"
            r"(?![\w:%]|[.,]\d|\s?(?:[ap]\.?m\b|percent))"
        ),
        lambda m: f"{m[1]}{m[2]} {m[3]}th",
    ),
    (  # before the second number becomes a word with its unit
        re.compile(
            rf"(?<![\w.,-])(\d{{1,9}}(?:\.\d{{1,9}})?)\s?[-–]\s?(?=\d{{1,9}}(?:\.\d{{1,9}})?[\s-]?{UNIT})",
        ),
        r"\1 to ",
    ),
    (
        re.compile(r"(?<![\w.,])(?<!\d )[1-9]\d?(?: \d{3}){2,}(?![\w]|[.,]\d| \d)"),
        lambda m: m[0].replace(" ", ""),
    ),
    (  # thousands apart, as the metric world writes them, where something shows that it is one number
        re.compile(
            rf"(?<![\w.,$€£¥])(?<!\d )[1-9]\d{{0,2}}(?:[ ]\d{{3}})+(?![\w]|[.,]\d|[ ]\d)(?=\s?(?:%|{UNIT}))",
        ),
        lambda m: m[0].replace(" ", ""),
    ),
    (re.compile(r"\bPh\.\s?D\b\.?"), "pee aitch dee"),
    # Not "end.The next": there a blank is missing.
    (re.compile(r"(?<=\w)\.(?=[a-z]{2}|[A-Z]{2,6}\b)|(?<=/)\.(?=[a-z])|(?<![\w.])\.(?=[A-Z]{2,6}\b)"), " dot "),
    (
        re.compile(
            r"(?<![\d:])(?P<hour>[01]?\d|2[0-3])(?::(?P<minute>[0-5]\d))(?::(?P<second>[0-5]\d))?(?:\s?(?P<half>[aApP](?:\.[mM]\.|[mM]\b)))?(?!\d)"
        ),
        _time,
    ),
    (
        re.compile(r"(?<![\w:.,])(?P<hour>0?[1-9]|1[0-2])(?P<minute>)\s?(?P<half>[aApP](?:\.[mM]\.|[mM]\b))"),
        _time,
    ),
    # Fractions and units.
    (
        re.compile(r"(?<=[/⁄]\d)\s?[-–]\s?(?=\d)|(?<=\d)\s?[-–]\s?(?=\d{1,3} \d{1,2}[/⁄]\d)|(?<=\d)–(?=\d[/⁄]\d)"),
        " to ",
    ),
    (re.compile(rf"(?<=\d)(?:-pt\b|\s?pt\b(?=\.?\s(?:font|type|text|lead|shot))){UNIT_END}"), " point"),  # no pint
    (
        re.compile(
            r"(?<![\w.,/])(?:(?P<whole>\d{1,3})[\s-])?(?P<over>\d{1,2})[/⁄](?P<under>\d{1,4})(?![\w/]|[.,]\d)"
            rf"(?:[\s-]?(?P<unit>{UNIT}){UNIT_END})?"
        ),
        amounts.fraction,
    ),
    (re.compile(r"(?<![\w/.,])(\d{1,2})/10(?![\w/]|[.,]\d)"), r"\1 out of 10"),
    (re.compile(r"(?<=\d ft )(\d+) in\b\.?|(?<=\d ft\. )(\d+) in\b\.?"), lambda m: f"{m[1] or m[2]}″"),
    (re.compile(r"(?<![\w.,$€£¥])(?:(\d+\.\d+)s|(\d+(?:\.\d+)?)\ss)\b"), lambda m: f"{m[1] or m[2]} sec"),
    (
        re.compile(
            rf"(?<![\w.,$€£¥/])(?!(?:1[89]|20)\d\d (?:Gal|Mo|Min|Hp|Oz|Hr|Ms|Sec|Mi)\b\.?\s[A-Z])(?P<amount>{AMOUNT})(?P<joint>\s?|-)(?P<unit>{UNIT})(?![/'’]|\.\w){UNIT_END}"
        ),
        amounts.unit,
    ),
    (re.compile(rf"(?<=\bper\s)({'|'.join(SHORT_EACH)})\b{UNIT_END}"), lambda m: SHORT_EACH[m[1]]),
    (re.compile(r"(?<!\w)(?:[A-Za-z]\.){2,}(?!\w)"), lambda m: _abbreviation(m) or _acronym(m)),
    (re.compile(r"(?<![\w.])[A-Za-z]+\."), lambda m: _abbreviation(m) or m[0]),
    (
        re.compile(
            rf"(?P<sign>[$€£¥])(?P<amount>{AMOUNT})"
            r"(?:(?P<joint>[\s-])(?P<scale>hundred|thousand|million|billion|trillion))?(?P<named>-(?:dollar|euro|pound)\b)?"
        ),
        amounts.money,
    ),
    (
        re.compile(
            r"(?<!\d)((?:1[1-9]|20)\d\d)[-/](0[1-9]|1[0-2])(?:(?<=-\d\d)-|(?<=/\d\d)/)(0[1-9]|[12]\d|3[01])(?!\d)"
        ),
        _date,
    ),
    (
        re.compile(r"(?<![\w.,])(\d{1,3}(?:,\d{3})+|\d+)(?:st|nd|rd|th)\b"),
        lambda m: ordinal(int(m[1].replace(",", ""))) if len(m[1]) < 16 else digits(m[1]),
    ),
    (re.compile(r"(?<![\w.,$])['’]?((?:1[1-9]\d|20\d|[2-9])0)s\b"), _decade),
    (re.compile(r"(?<![\w.,-])\d{1,2}(?:-\d{1,2}){2,6}(?![\w-])"), lambda m: m[0].replace("-", " ")),
    (re.compile(r"(?<=\d)\s?[-–](?=\d)"), " to "),
    (re.compile(r"(?<![\w.,$])(1[1-9]\d\d|20\d\d)(?!\w|[.,]\d)"), lambda m: year(int(m[1]))),
    (re.compile(r"(?<![\w/.,])(1[3-9]|[2-9]\d|\d{3})/(\d{1,3})(?![\w/]|[.,]\d)"), r"\1 over \2"),
    (re.compile(r"#(?=[A-Za-z])"), ""),
    (re.compile(r"(?<=[A-Za-z])\.(?=\d)"), " "),
    (re.compile(r"(?:°|\bdegrees)\s?([CF])\b"), lambda m: " degrees " + {"C": "Celsius", "F": "Fahrenheit"}[m[1]]),
    (re.compile(r"--+"), ", "),
    (re.compile(r"(?<![\d.])[1-9]\d{0,2}(?:\.000){2,6}(?![\d.])"), lambda m: cardinal(int(m[0].replace(".", "")))),
    (re.compile(r"(?<![\d.,])[1-9]\d{0,2}(?: 000)+(?![\w]|[.,]\d)"), lambda m: cardinal(int(m[0].replace(" ", "")))),
    (
        re.compile(r"(?<!\d)\d+(?:\.\d+){2,}"),
        lambda m: f" {' point '.join(amounts.number(part) for part in m[0].split('.'))} ",
    ),
    (re.compile(r"(?<![\w.])-(?=\d|\.\d)"), "minus "),
    (re.compile(r"(?<![\d.])(\d+):(?=\d)"), _ratio),
    (re.compile(AMOUNT), lambda m: f" {amounts.number(m[0])} "),
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


_AND_TITLE = re.compile(r" (?:and|&) (?:Mr|Mrs|Ms|Dr)\b")


def _abbreviation(match: re.Match[str]) -> str | None:
    """A shortened word with its full stop -> the word; with the full stop still where it ends the sentence too."""
    word, after = match[0][:-1].lower(), _after(match)
    if word in ("mr", "mrs", "dr") and _AND_TITLE.match(match.string, match.end()):
        return _TITLES[word]
    if match[0][0].isupper() and word in _TITLES and after.isupper():
        named = re.search(_NAME_BEFORE, match.string[max(0, match.start() - 30) : match.start()])
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
    around = [other.strip(".,!?;:()") for other in around]
    if any(_shouts(other) and other.lower() in _SMALL_WORDS for other in around):
        return False
    if around and all(map(_shouts, around)):  # one alone may be an acronym that sounds: "NATO and HIV"
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


def _power(match: re.Match[str]) -> str:
    power = match[0].removeprefix(match[1] or "").replace("⁻", "-").removeprefix("⁺")
    return f"{match[1] or ''} to the power of {unicodedata.normalize('NFKC', power)}"


def _raised(match: re.Match[str]) -> str:
    return f"{match[1]}{'sq' if match[3] == '²' else 'cu'} {match[2]}"


def _with_inches(text: str) -> str:
    """A quotation mark after a number means inches, where no quotation is open."""
    is_open = False

    def mark(match: re.Match[str]) -> str:
        nonlocal is_open
        if match[1] and (
            not is_open or re.search(r"(?<!\w)\d['’′]\s?-?$", text[max(0, match.start() - 5) : match.start()])
        ):
            return f"{match[1]}″" + (" " if text[match.end() : match.end() + 1] in ("W", "D", "H", "L") else "")
        before = text[max(0, match.start() - 1) : match.start()].strip()
        is_open = not is_open and before in "([{-–—'‘:,=*_/" and not text[match.end() : match.end() + 1].isspace()
        return match[0]

    # Not the end of UTF-8, 1990 or 1.2.3.
    return re.sub(r'(?<![A-WYZa-wyz_\d.+])(?<![A-Za-z]-)(\d{1,3}(?:[./⁄]\d{1,3})?)["“”]|["“”]', mark, text)


def unsupported_words(text: str) -> list[str]:
    """The words and signs of money that `normalize` leaves out, and characters that were unreadable in a file."""
    if text.isascii():
        return []
    text = re.sub(r"(?<!\w)[α-ωΑ-Ω](?!\w)|[µμ]", " ", text).translate(_LETTERS_OF_THEIR_OWN)
    return "".join(c if _is_left_out(c) else " " for c in text).split()


def _is_left_out(character: str) -> bool:
    kind = unicodedata.category(character)
    if kind == "Sc":
        return character not in MONEY and character not in _SYMBOLS
    if character == "\ufffd":
        return True
    return kind in ("Lu", "Ll", "Lt", "Lo") and not re.search("[A-Za-z]", unicodedata.normalize("NFKD", character))


def normalize(text: str) -> str:
    """Text -> letters, spaces and `' - , . ; : ! ?`. Writing in other scripts than Latin is left out.

    The result may be empty: a text of symbols says nothing.
    """
    text = unicodedata.normalize("NFC", text).translate(_LETTERS_OF_THEIR_OWN)
    text = re.sub("(?<=\\w)[⁰⁴-⁹]+", "", _POWER.sub(_power, text))
    text = re.sub(r"(?<=\d)(\s?)([ckm]?m|ft|in|mi|yd)([²³])", _raised, text)
    for written, plain in (("²", " squared"), ("³", " cubed"), ("№", " number ")):
        text = text.replace(written, plain)
    # Wide, raised and joined characters as plain ones, while digits still count: "½" is "1⁄2".
    text = re.sub(r"(?<=\d)(?=[½⅓⅔¼¾⅕⅛])", " ", text)
    text = "″".join(unicodedata.normalize("NFKC", part) for part in text.split("″"))  # it would become two feet
    text = _with_inches(text)
    if not re.search("[α-ωΑ-Ω]{2}", text):  # beta, but no Greek
        text = re.sub(r"(?<!\w)[α-ωΑ-ΡΣ-Ω](?!\w)", lambda m: unicodedata.name(m[0]).split()[-1].lower(), text)
    for pattern, replacement in _RULES:
        text = pattern.sub(replacement, text)
    for symbol, word in _SYMBOLS.items():
        text = text.replace(symbol, word)
    text = "".join(c for c in unicodedata.normalize("NFKD", text) if not unicodedata.combining(c))
    text = re.sub(r"[^A-Za-z' ,.;:!?-]+", " ", text)
    text = re.sub(r"\s+", " ", re.sub(r"\s(?='s\b)|(?<!\S)'(?!\S)", "", text))  # five 's, ' five '
    text = re.sub(r"\s+([,.;:!?])", r"\1", text)
    text = re.sub(r"(?<=[a-z]) -(?=[A-Za-z])", "-", text)
    text = re.sub(r"(?<=[A-Za-z])- (?=[A-Za-z])", " ", text)  # COVID-19
    text = re.sub(r"([,.;:!?])(?:[,.;:!?]| (?=[,.;:!?]))+", _strongest, text)
    text = re.sub(r"([,.;:!?])(?=[A-Za-z])", r"\1 ", text).strip(" ,;:-")
    return text if re.search("[A-Za-z]", text) else ""


def _strongest(match: re.Match[str]) -> str:
    return next(mark for mark in "?!.;:," if mark in match[0])
