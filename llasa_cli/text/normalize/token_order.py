"""All token classes in the order in which they are tried. The modules beside this one say how each is read.

`english.py` looks up the first character of a token, and tries `NUMBER_CLASSES` (a digit, a sign of money or a sign before a
number), `WORD_CLASSES` and `LETTER_NUMBER_CLASSES` (a letter) or `SIGN_CLASSES`.
"""

from __future__ import annotations

import re

from llasa_cli.text.normalize import (
    abbreviations,
    addresses,
    amounts,
    arithmetic,
    codes,
    dates,
    letters,
    measures,
    money,
    roman_numerals,
)
from llasa_cli.text.normalize.numbers import cardinal, decimal, digits, ordinal, pairs, roman, year
from llasa_cli.text.normalize.token_class import TokenClass, after, before, may_end_sentence
from llasa_cli.text.normalize.vocabulary import (
    ABBREVIATIONS,
    BEFORE_NUMBERS,
    CHAT,
    DIRECTIONS,
    DOLLARS,
    KEYS,
    LETTERS,
    MONEY_CODES,
    PLACES,
    ROUND_NUMBERS,
    SHORT_EACH,
    SHORT_PERIODS,
    SPELLED_NAMES,
    SYMBOLS,
    UNIT_KINDS,
    UNIT_WORDS,
    WITHOUT_VOWELS,
)

NUMBER_CLASSES = [
    TokenClass("note", r"(?<=[.!?][\"”’)])\d{1,3}(?=\s|$)", lambda m: ""),
    TokenClass(
        "degrees",
        r"""(?P<degrees>\d{1,3}(?:\.\d{1,8})?)°\s?(?:(?P<minutes>[0-5]?\d(?:\.\d{1,6})?)['’′]\s?)?(?:(?P<seconds>[0-5]?\d(?:\.\d{1,4})?)(?:″|''|’’|′′)\s?)?
        (?P<toward>[NSEW])(?![\w'’])""",
        measures.say_coordinate,
    ),
    TokenClass("money", r"(?P<pounds>\d{1,6})l\.(?=\s\d{1,2}s\.)", lambda m: f" {cardinal(int(m['pounds']))} {'pound' if m['pounds'] == '1' else 'pounds'}"),
    TokenClass("money", r"(?P<shillings>\d{1,2})s\.(?:\s?(?P<pence>\d{1,2})d\.?)?(?=[\s,;:)]|$)", money.say_shillings),
    TokenClass("measure", r"(?P<stone>\d{1,2})\s?st\.?\s(?P<pounds>\d{1,2})\s?lbs?\b\.?", lambda m: f" {cardinal(int(m['stone']))} stone {amounts.counted(int(m['pounds']), 'pound')}"),
    TokenClass("measure", r"(?P<stone>\d{1,2})\s?st\s(?P<pounds>\d|1[0-3])(?![\w./:-])", lambda m: f" {cardinal(int(m['stone']))} stone {cardinal(int(m['pounds']))}"),
    TokenClass("measure", r"\.(?P<caliber>\d\d)(?=[ -]?(?:cal\b|caliber|LR\b|ACP\b|Magnum))", lambda m: f" {cardinal(int(m['caliber']))} "),
    TokenClass("code number", r"(?P<number>[1-9]\d[1-9]|[1-9][1-9]0)(?![\w-]|[.,:/]\d)", lambda m: f" {pairs(m['number'])} " if codes.NUMBERED_PLACE.search(before(m, 9)) else None),
    codes.HEXADECIMAL,
    codes.VERSE,
    TokenClass("code number", r"(\d{1,6}(?:-\d{1,7}){1,3})(?![\w-]|[.,]\d)", codes.say_code_number),
    TokenClass(
        "date",
        r"""(?P<iso_year>(?:1[1-9]|20)\d\d)(?P<iso_sep>[-/])(?P<iso_month>0[1-9]|1[0-2])(?P=iso_sep)(?P<iso_day>0[1-9]|[12]\d|3[01])(?!\d)
        (?P<and_time>T(?=\d\d:))?
        |(?P<first>0?[1-9]|[12]\d|3[01])(?P<sep>[/.-])(?P<second>0?[1-9]|[12]\d|3[01])(?P=sep)(?P<year>[12]\d{3}|\d\d)(?![\w/-]|\.\d)""",
        dates.say_numeric_date,
    ),
    TokenClass(
        "date",
        rf"(?P<day>[12]\d|3[01]|[1-9])(?:st|nd|rd|th)?[ ](?P<month>{dates.MONTH})\b(?P<stop>\.?)(?![ ]\d\d?(?!\d))",
        dates.say_day_and_month,
    ),
    TokenClass("ratio", r"(\d+\.\d+):(\d+(?:\.\d+)?)(?![\w:])|(\d+):(\d{1,3}(?:,\d{3})+)(?!\w)", arithmetic.say_ratio_of_amounts),
    TokenClass("time", r"(?P<minutes>\d{1,2}):(?P<seconds>[0-5]\d\.\d{1,3})(?![\w:])", lambda m: f" {cardinal(int(m['minutes']))} {'oh ' if m['seconds'][0] == '0' else ''}{decimal(m['seconds'].removeprefix('0'))} "),
    TokenClass(
        "duration",
        r"""(?P<hour>\d{1,3})h\s?(?P<minute>[0-5]?\d)m(?:in)?(?:\s?(?P<second>[0-5]?\d)s)?\b
        |(?P<only_minute>\d{1,3})m\s?(?P<only_second>[0-5]?\d)s\b|(?P<bare_hour>\d\d?)h(?P<bare_minute>[0-5]\d)\b""",
        dates.say_hours_and_minutes,
    ),
    TokenClass(
        "time",
        rf"""(?P<hour>[01]?\d|2[0-4])(?::|\.(?=[0-5]\d\s?[aApP]\.?[mM]\b))(?P<minute>[0-5]\d)(?::(?P<second>[0-5]\d))?
        (?:h\b|Z\b|\s?(?P<half>{dates.HALF_DAY}|(?<=\d)[ap]\b))?(?!\d)|(?P<only_hour>0?[1-9]|1[0-2])\s?(?P<only_half>{dates.HALF_DAY})""",
        dates.say_time,
    ),
    TokenClass("date", rf"(?P<day>0?[1-9]|[12]\d|3[01])-(?P<month>{dates.MONTH})-(?P<year>[12]\d{{3}}|\d\d)(?![\w-])", dates.say_dashed_date),
    TokenClass("time", r"(?P<minute>\d{1,3})\+(?P<added>\d{1,2})['’′](?!\w)", lambda m: f"{cardinal(int(m['minute']))} plus {cardinal(int(m['added']))}"),
    TokenClass("scaled", r"1(?P<zeros>0{2}|,?000|0,?000|00,?000|,?000,?000)s\b", lambda m: ROUND_NUMBERS[m["zeros"].count("0")]),
    TokenClass("year", r"(?P<first>1[5-9]\d\d|20\d\d)/(?P<second>\d\d)(?![\w/]|[.,]\d)", dates.say_season),
    TokenClass("ordinal", r"([2-9]\d)ers\b", lambda m: f"{cardinal(int(m[1]))}{'rs' if m[1][1] in '1359' else 'ers'}"),
    TokenClass("fraction", r"(?P<over>\d{1,2})/(?P<under>\d{1,3})(?:rds?|ths?|nds?)\b", arithmetic.say_worded_fraction),
    TokenClass("decade", r"['’]?(?P<decade>(?:1[1-9]\d|20\d|[2-9])0)['’]?s\b", dates.say_decade),
    TokenClass("zip code", r"(?<=,[ ][A-Z][A-Z][ ])\d{5}(?:-\d{4})?(?![\w-])|(?<=[ ]D\.C\.[ ])\d{5}(?:-\d{4})?(?![\w-])", codes.say_telephone),
    TokenClass("phone", r"1-[2-9]\d\d-(?=[A-Z]{2,})", lambda m: f"one {cardinal(int(m[0][2:5])) if m[0][3:5] == '00' else pairs(m[0][2:5])} "),
    TokenClass(
        "phone",
        r"""\+\d{1,3}(?:[ -](?:\(0\)[ ]?)?\(?\d{1,4}\)?){2,5}(?!\w|[.,]\d) | (?<!\d[ ])0\d{2,4}(?:[ -]\d{3,4}){1,2}(?!\w|[.,-]\d)
        |\(\d{3}\)\s?\d{3}-\d{4}(?!\w) | (?:1[-.])?\d{3}(?P<joint>[-.])\d{3}(?P=joint)\d{4}(?![\w-]) | \d{3}-\d{4}(?![\w-])
        |0\d{2,4}/\d{4,9}(?!\w)|\d{1,5}(?:-\d{1,7}){3,5}(?![\w-]) | \d{3}-\d\d-\d{4}(?![\w-]) | \d{5}-\d{4}(?![\w-]) | \d{4}(?:[ -]\d{4}){3}(?![\w-])""",
        codes.say_telephone,
    ),
    TokenClass("phone", r"(?:[2-9]11|112|999|988|\d{3}(?!\s[a-z]))\b(?![.,:'’-]\d)", codes.say_emergency),
    TokenClass("score", r"\d{1,2}(?:-\d{1,2}){2,6}(?![\w-])", lambda m: " ".join(cardinal(int(n)) for n in m[0].split("-"))),
    TokenClass("model number", r"(\d{3})-(\d|(?<=7[0-8]7-)[1-9]00)(?![\w-]|[.,]\d)", codes.say_model),
    TokenClass(
        "money",
        rf"""(?:(?P<prefix>{"|".join(sorted(DOLLARS, key=len, reverse=True))})?(?P<sign>[{money.SIGNS}])\s?(?P<low>{amounts.AMOUNT}[-–—](?=\d))?(?P<amount>{amounts.AMOUNT})
        (?:\s?(?P<short_scale>(?i:k|m|bn?|tn?))\b|(?P<joint>[\s-])(?P<scale>{amounts.LONG_SCALES})\b)?(?P<named>-(?:dollar|euro|pound)\b)?
        (?P<same>[ ](?:USD|US|EUR|GBP|JPY|INR)\b(?![ ]?\d))?
        |(?P<amount_before>\d{{1,12}}(?:[.,]\d{{1,3}}){{0,4}})\s?(?P<sign_after>[$€£¥₹₽₺₪₴])(?!\.?\d))""",
        money.say_money,
    ),
    TokenClass(
        "money",
        rf"""(?:(?P<code>{"|".join(MONEY_CODES)})\.?\s?(?P<low>{amounts.AMOUNT}[-–—](?=\d))?(?P<amount>{amounts.AMOUNT})(?!\w*-\w)
        |(?P<low_before>{amounts.AMOUNT}[-–—](?=\d))?(?P<amount_before>{amounts.AMOUNT}))(?:\s?(?P<short_scale>(?i:k|m|bn?|tn?))\b|\s(?P<scale>{amounts.LONG_SCALES})\b)?
        (?(code)|\s?(?P<code_after>{"|".join(MONEY_CODES)})\b)""",
        money.say_coded_money,
    ),
    TokenClass(
        "height",
        r"""(?P<feet>\d{1,3})(?P<mark>['’](?=\W|$|\d)|′)(?:\s?-?\s?(?P<inches>\d|1[01]|[1-5]\d(?=\s?″))(?:″|''))?(?!\w)""",
        measures.say_height,
    ),
    TokenClass("out of", r"(?<=\b(?i:page|step|part|word|item|line)[ ])(\d{1,4})/(\d{1,4})(?![\w/]|[.,]\d)", lambda m: f"{cardinal(int(m[1]))} of {cardinal(int(m[2]))}"),
    TokenClass("date", r"(?P<month>\d{1,2})/(?P<day>\d{1,2})(?![\w/]|[.,]\d)", dates.say_weekday_and_date),
    TokenClass("pair", r"(\d{1,3})/(\d{1,3})(?![\w/]|[.,]\d)(?P<hertz>\s?Hz\b)?", lambda m: arithmetic.say_pair(m) if arithmetic.is_special_pair(m) else None),
    TokenClass("pair", r"(\d{1,2})/(2|4|8|16)(?=\s(?:time|meter|beat)\b)", lambda m: f"{cardinal(int(m[1]))} {cardinal(int(m[2]))}"),
    TokenClass("fraction", r"1/(\d{2,4})\s?s(?:ec)?\b", lambda m: f"one {ordinal(int(m[1]))} of a second"),
    TokenClass("pair", r"24/7/365", lambda m: "twenty four seven three sixty five"),
    TokenClass("pair", r"(\d{2,3})/(\d{2,3})(?P<hertz>(?!))?(?=\s?mm\s?Hg\b)", arithmetic.say_pair),
    *(
        TokenClass(
            "fraction",
            r"(?:(?P<whole>\d{1,3})[\s-])?(?P<over>\d{1,2})[/⁄](?P<under>\d{1,4})(?![\d/]|[.,]\d)" + unit,
            arithmetic.say_fraction,
        )
        for unit in (rf"[\s-]?(?P<unit>{measures.UNIT}){measures.UNIT_END}", r"(?!\w)(?P<unit>(?!))?")
    ),
    TokenClass("out of", r"(?P<score>\d{1,3}(?:\.\d+)?)/(?P<of>5|10|20|100)(?![\w/]|[.,]\d)", arithmetic.say_out_of),
    TokenClass("pair", r"(1[3-9]|[2-9]\d|\d{3})/(\d{1,3})(?![\w/]|[.,]\d)(?P<hertz>(?!))?", arithmetic.say_pair),
    TokenClass("power", r"(\d(?:\.\d{1,20})?)[eE]\+?(-)?(\d{1,3})\b", arithmetic.say_power_of_ten),
    TokenClass("measure", r"(\d{1,2})\s?[kK]t?\b(?=\s(?:(?:white|yellow|rose|solid)\s)?gold\b)", lambda m: f" {cardinal(int(m[1]))} karat"),
    TokenClass("out of", r"(\d{1,3})-(of|for|in|to|on)-(\d{1,3})(?![\w-])", lambda m: f"{cardinal(int(m[1]))} {m[2]} {cardinal(int(m[3]))}"),
    TokenClass("ordinal", r"(\d{1,3}(?:,\d{3})+|\d+)(?:st|nd|rd|th)\b", amounts.say_ordinal),
    TokenClass("scaled", r"(\d[\d,]{0,20}(?:\.\d{1,20})?)(k|K|bn|tn|M|B)\b(?!\s[A-Z][a-z]+\s(?:St|Ave|Rd|Street|Avenue|Road)\b)", amounts.say_scaled),
    TokenClass("times", r"(\d)in(\d)\b", lambda m: f"{cardinal(int(m[1]))} in {cardinal(int(m[2]))}"),
    TokenClass("times", r"24x7\b", lambda m: "twenty four seven"),
    TokenClass("formula", r"(?P<factor>\d{1,9}(?:\.\d{1,9})?)(?P<variables>[a-z]{1,3})(?![\w'’]|\.\w)", arithmetic.say_product),
    TokenClass("times", r"(\d+(?:\.\d+)?)x\b(?!\d)", lambda m: f" {decimal(m[1])} times "),
    TokenClass("resolution", r"([1-9]\d{2,3})\s?[x×]\s?([1-9]\d{2,3})(?![\w.,])(?!\s?(?:=|mm|cm|m|ft|in)\b)", measures.say_resolution),
    TokenClass("measure", r"(\d+)(?:-pt\b|\s?pt\b(?=\.?\s(?:font|type|text|lead|shot)))(?:\.(?=\s[a-z]|[,;]))?", lambda m: f" {decimal(m[1])} point"),
    TokenClass("measure", r"(?P<amount>\d+\.\d+)s\b|(?P<spaced>\d+(?:\.\d+)?)\ss\b", lambda m: f" {decimal(m['amount'] or m['spaced'])} {'second' if m['spaced'] == '1' else 'seconds'}"),
    TokenClass("measure", r"(?<=\d[ ]ft[ ])(?P<amount>\d+)[ ]in\b\.?|(?<=\d[ ]ft\.[ ])(?P<other>\d+)[ ]in\b\.?", lambda m: f" {amounts.counted(int(m['amount'] or m['other']), 'inch').replace('inchs', 'inches')}"),
    TokenClass("measure", r"(\d[\d,.]{0,20})\s?(lb|ft|N)[-·](ft|lbs?|m)\b", measures.say_torque),
    TokenClass("measure", rf"(?P<amount>{amounts.AMOUNT})\s?t\b(?![-.'’/])", measures.say_tonnes),
    TokenClass("measure", r"(\d)\s([Tt])\.(?=\s[a-z])", lambda m: f" {amounts.counted(int(m[1]), 'tablespoon' if m[2] == 'T' else 'teaspoon')}"),
    TokenClass("degrees", r"(\d{2,3}(?:\.\d)?)([CF])\b(?!['’-])", measures.say_bare_degrees),
    TokenClass("degrees", r"(?<=\d[-–])(\d{2,3})\s([CF])\b(?!['’-])", lambda m: f" {cardinal(int(m[1]))} degrees {'Celsius' if m[2] == 'C' else 'Fahrenheit'} "),
    TokenClass("measure", r"(\d{1,3})[ -]?y\.?o\b\.?", lambda m: f" {cardinal(int(m[1]))} year old"),
    TokenClass("time", r"0(\d)(\d\d)(?=\s?(?:hrs?|hours|h)\b)", lambda m: f" oh {cardinal(int(m[1]))} {cardinal(int(m[2])) if int(m[2]) else 'hundred'} " if int(m[1]) else None),
    TokenClass("measure", r"(\d{1,4})(ft|lbs?|st|m|kg)(\d{1,3}(?:\.\d)?)(in|oz|lbs?|cm|g)\b", measures.say_two_units),
    TokenClass("measure", rf"(?P<amount>{amounts.AMOUNT})(?P<joint>\s?|-)(?P<unit>{measures.UNIT})(?!['’](?!s\b)|/(?![A-Za-z]|100\s?(?:km|g|ml)\b|\d{{1,3}}(?:\.\d)?\s?[AVW]\b)|\.\w){measures.UNIT_END}", measures.say_measure),
    TokenClass(
        "address",
        rf"(\d{{3,4}})(?=[ ](?:[NSEW]\.?[ ])?(?:(?:[A-Z][a-z]+[ ]){{1,2}}|\d{{1,3}}(?:st|nd|rd|th)[ ])(?:{'|'.join(name.title() for name in PLACES)}|Street|Avenue|Road|Boulevard|Drive|Lane|Way|Court)\b)",
        lambda m: f" {pairs(m[1])} ",
    ),
    TokenClass("dotted number", r"(802)\.(\d{1,2})(?P<letters>[a-z]{1,2}\b)?(?![\w.])", codes.say_wireless),
    TokenClass("dotted number", r"(?P<host>\d{1,3}(?:\.\d{1,3}){3}):(?P<port>\d{2,5})(?!\w)", codes.say_host),
    TokenClass("dotted number", r"(\d+(?:\.\d+)*)\.[xX](?!\w)", lambda m: f" {' point '.join(map(decimal, m[1].split('.')))} point ex "),
    TokenClass("dotted number", r"(?P<number>\d+(?:\.\d+){2,})(?:-(?P<stage>rc|alpha|beta|dev|pre|post)[.-]?(?P<count>\d{1,4})?(?!\w))?", codes.say_dotted),
    TokenClass("year", r"(1[1-9]\d\d|20\d\d)(?!\w|[.,]\d)", lambda m: f" {year(int(m[1]))} "),
    TokenClass("year", r"(?<!\w)['’](?P<oh>0)?(?P<short>\d{1,2})(?![\w'’])", lambda m: f"oh {cardinal(int(m['short']))}" if (m["oh"] and len(m["short"]) == 1 and not before(m, 2).strip("( ")) or (m["oh"] and before(m, 1) == " ") else None),
    TokenClass("code number", r"[45]\d\d(?![\w.,:-])", lambda m: pairs(m[0]) if codes.is_status(m) else None),
    TokenClass("year", r"(10[1-9]\d)(?!\w|[.,]\d|\s[a-z]+s\b)", lambda m: f" {year(int(m[1]))} " if dates.is_early_year(m) else None),
    TokenClass("ratio", r"(2[5-9]|[3-9]\d|1\d\d):00(?![\d:])", lambda m: f" {cardinal(int(m[1]))} minutes "),
    TokenClass("ratio", r"(\d+):(?=\d)", arithmetic.say_ratio),
]  # fmt: skip
"""In the order in which they are tried."""
_SIZE = TokenClass("size", r"(?<=″[ ])[WDHL]\b", lambda m: {"W": "wide", "D": "deep", "H": "high", "L": "long"}[m[0]])
_EXTENSION = TokenClass("phone", r"(?<=\d{4}[ ])x\s?(\d{2,5})\b", lambda m: f"extension {digits(m[1])}")
_TIMES = TokenClass(
    "times",
    r"(?<=\()x(\d{1,2})(?=\))|(?<=[A-Za-z.][ ])x[ ]?(?P<count>\d{1,2})(?=[ ]?(?:d|days?|wks?|weeks?|months?)\b)",
    lambda m: f"times {cardinal(int(m[1] or m['count']))} ",
)
_BY = TokenClass("by", r"[x×*]", arithmetic.say_by)
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
    TokenClass("range", r"[-–—]", arithmetic.say_range),
    TokenClass("minus", r"(?<=[^\w.][ijkmnxyz])-(?=\d{1,2}(?![\w-]))", arithmetic.say_minus),
    TokenClass("rule", r"<?[-=]{1,3}>", lambda m: ", "),
    TokenClass("minus", rf"(?<![\w.])-(?=\.?\d|[{money.SIGNS}]\.?\d)", arithmetic.say_minus),
    _BY,
    TokenClass("range", r"(?<=\d)[~～](?=\d)", lambda m: " to "),
    TokenClass("about", rf"[~≈](?=\s?[{money.SIGNS}]?\d)", amounts.say_about),
    TokenClass("hexadecimal", r"\#[\dA-Fa-f]{6}(?!\w)", lambda m: f"hash {codes.say_hexadecimal(m)}" if re.search("[A-Fa-f]", m[0]) else None),
    TokenClass("hexadecimal", r"::(?:[\dA-Fa-f]{1,4}(?::[\dA-Fa-f]{1,4}){0,6})(?![\w:])", codes.say_hexadecimal),
    TokenClass("per", r"(?P<sign>[$€£])/(?P<unit>[A-Za-z]{1,7})\b", money.say_money_per),
    TokenClass("per", r"/(?=100\s?(?:km|g|ml)\b)", lambda m: " per "),
    TokenClass("power", r"(?<=\w)\^(?P<charge>\d?)(?P<sign>[+-])(?!\w)", lambda m: f" {cardinal(int(m['charge'])) if m['charge'] else ''} {'plus' if m['sign'] == '+' else 'minus'} "),
    TokenClass("power", r"(?<=\w)\^(?P<power>[23])(?![\w.^])", lambda m: " squared " if m["power"] == "2" else " cubed "),
    TokenClass("power", r"(?<=\w)\^(?=-?\w)", lambda m: " to the power of "),
    _DEGREES,
    TokenClass(
        "per",
        rf"/\s?(?P<rest>(?P<area>(?:sq|cu)\.?\s(?:ft|in|yd|mi|km|m|cm))\b{measures.UNIT_END}|(?P<each>[A-Za-z]{{1,7}})\b{measures.UNIT_END})"
        r"|(?<=\d)/(?=\s?\d[\d.]{0,20}\s?=)|(?<=\d[ ])/(?=\s?\d[\d.]{0,20}\s?=)",
        measures.say_per,
    ),
    TokenClass("emoticon", r"(?<!\S)(?:[:;=]['’]?-?[()DP](?!\w)|<3(?!\S))", lambda m: " "),
    TokenClass("symbol", r"(?<=\w[ ])>(?=[ ][A-Z][a-z])", lambda m: ", "),
    TokenClass("symbol", r"(?<![^\s(])[<>](?=[$€£]?\d)", lambda m: " less than " if m[0] == "<" else " more than "),
    TokenClass("note", r"\[\d{1,3}(?:\s?[-–,]\s?\d{1,3})*\](?!\w)", lambda m: "" if re.search(r"[\w.!?,;:\"”’)\]]$", before(m, 2).rstrip()) else None),
    TokenClass("note", r"(?<=[a-z)\"”’])(?P<mark>[.!?])\d{1,3}(?=\s|$)", lambda m: m["mark"] if arithmetic.is_note(m) else None),
    TokenClass("rule", r"(?P<sign>[=_*~#+<>|^])(?P=sign){2,}|-{4,}|\.{4,}|<<|>>", lambda m: ", " if m[0][0] in "-." else " "),
    TokenClass("abbreviation", r"&c\b\.?", lambda m: "et cetera" + ("." if m[0].endswith(".") and may_end_sentence(m) else "")),
    TokenClass("symbol", r"\+=|&&|\|\|", lambda m: {"+=": " plus equals ", "&&": " and ", "||": " or "}[m[0]]),
    TokenClass("symbol", r"(?<!.)\$\s(?=[a-z])", lambda m: " "),  # the prompt of a shell
    TokenClass("symbol", r"\$(?=[A-Z_]{2,}\b|\{|[a-z]\w*\s?=)", lambda m: " dollar "),
    TokenClass("symbol", rf"§§|!=|[<>=]=|[{re.escape(''.join(SYMBOLS))}]", arithmetic.say_symbol),
]  # fmt: skip
WORD_CLASSES = [
    codes.HEXADECIMAL,
    codes.VERSE,
    codes.SERIAL_NUMBER,
    TokenClass("dose", r"q\.?(?P<hours>\d{1,2})(?:[-–](?P<most>\d{1,2}))?h(?:rs?)?\b", lambda m: f"every {cardinal(int(m['hours']))} {'to ' + cardinal(int(m['most'])) + ' ' if m['most'] else ''}hours"),
    TokenClass("model number", r"(?P<name>[A-Z][a-z]{2,12})-(?P<number>[1-9]\d\d)(?![\w-]|[.,]\d)", lambda m: f"{m['name']} {pairs(m['number'])} "),
    TokenClass("code number", r"(?P<letters>[A-Z]{2,5})(?P<numbers>-\d{2,6}(?:-\d{2,6})+)(?![\w-])", codes.say_reference_number),
    TokenClass("title", r"Ph\.?\s?D(?:\.?(s))?\b\.?", lambda m: f"pee aitch dee{m[1] or ''}" + ("." if m[0].endswith(".") and may_end_sentence(m) and not after(m, 2).strip() else "")),
    TokenClass("abbreviation", r"(?:[A-Za-z]\.){2,}(?!\w)", abbreviations.say_dotted_letters),
    *addresses.ADDRESS_CLASSES,
    TokenClass("currency", r"Rs\b\.?\s?(?P<amount>\d[\d,]*(?:\.\d+)?)(?:/-)?", lambda m: f"{decimal(m['amount'])} {'rupee' if m['amount'] == '1' else 'rupees'} "),
    TokenClass("roman numeral", r"WW(?:([12])|(I{1,2}))\b", roman_numerals.say_world_war),
    TokenClass(
        "date",
        rf"""(?P<month>{dates.MONTH})\b(?P<stop>\.?)(?:\s?[-–]\s?(?P<to_month>{dates.MONTH})\b\.?(?:(?!\s?\d)|(?=\s\d{{4}}\b))
        |[ ](?P<day>0?[1-9]|[12]\d|3[01])(?:\s?[-–]\s?(?P<until>\d\d?)(?!\w|[-/:.,]\d)|(?![\w:%]|[.,]\d|\s?(?:[ap]\.?m\b|percent)|\s?[-–]\s?\d(?!\d?\s(?:{dates.MONTH})))))?""",
        dates.say_month,
    ),
    TokenClass("date", rf"(?P<day>{dates.DAY})\b\.?\s?[-–]\s?(?P<to>{dates.DAY})\b(?:\.(?=\s?[a-z\d,;)]))?|(?P<only>(?P=day))?(?!)", dates.say_weekday),
    TokenClass("date", rf"(?P<day>{dates.DAY})\b(?P<to>)", dates.say_weekday),
    TokenClass("title", r"(?P<title>[A-Z][A-Za-z]+)(?=[ ][A-Z]|[ ](?:and|&|AND)[ ](?:M[Rr]|M[Rr][Ss]|M[Ss]|D[Rr]|Miss)\b)", abbreviations.say_title),
    TokenClass("model number", r"(?P<letters>[A-Z])\.(?P<number>\d{3})(?![\w-]|\.\d)", codes.say_dashed_code),
    TokenClass("abbreviation", r"[A-Za-z]+\.", abbreviations.say_abbreviation),
    TokenClass("abbreviation", r"(?<=[a-z][ ])(?:St|Ave|Rd|Blvd)\b(?!\.)", lambda m: PLACES[m[0].lower()]),
    TokenClass("abbreviation", r"[A-Za-z]+(?=[ ]\d)", abbreviations.say_before_number),
    TokenClass("abbreviation", r"(?<=\w[ ])v\.?(?=[ ][A-Z])|[Vv]s\b\.?", lambda m: "versus"),
    TokenClass("abbreviation", r"etc\b(?!\.)", lambda m: "et cetera"),
    TokenClass("title", r"M\.(?=\s(?:de|du|des|le|la)\s)", lambda m: "monsieur"),
    TokenClass("abbreviation", r"w/in\b", lambda m: "within"),
    TokenClass("abbreviation", r"w/e\b", lambda m: "whatever"),
    TokenClass("chat", r"(?<!\d[ ])bc\b(?=[ ][a-z])", lambda m: "because"),
    TokenClass("abbreviation", r"[wW]/o(?:ut)?(?![\w/])", lambda m: "without"),
    TokenClass("abbreviation", r"[aA]dd['’]l\b|[iI]nt['’]l\b|[gG]ov['’]t\b|[aA]ss['’]n\b|[dD]ep['’]t\b", lambda m: {"a": "additional", "i": "international", "g": "government", "d": "department"}[m[0][0].lower()] if m[0][1] != "s" else "association"),
    TokenClass("key", rf"(?P<key>(?i:{'|'.join(KEYS)}))\b(?P<joint>/)?", abbreviations.say_key),
    TokenClass("direction", abbreviations.DIRECTION, abbreviations.say_direction),
    TokenClass("floor", r"(?<=(?:st|nd|rd|th)[ ])[Ff]lr?\b\.?", abbreviations.say_floor),
    TokenClass("formula", rf"(?P<formula>{letters.FORMULA})(?![\w'’])", letters.say_formula),
    TokenClass("formula", r"(?P<element>Na|K|Ca|Mg|Cl|Fe|Cu|Zn|Li|Al|Ag|Pb)(?P<count>[2-4])?(?P<sign>[+-])(?![\w+-])", lambda m: letters.say_ion(m) if len(m["element"]) > 1 or m["count"] else None),
    TokenClass("unit", r"(?P<size>[kKMGT]?i?[Bb]|[kKMGT]bit|km|mi)/(?P<each>s|sec|h|hr|min)\b", measures.say_rate),
    TokenClass("abbreviation", r"[nN]/[aA](?!\w)", lambda m: "en ay"),
    TokenClass("unit", rf"(?:{'|'.join(UNIT_WORDS)})\b", measures.say_unit_name),
    TokenClass("letter", r"v(?=\d+(?:\.\d+)+\b)", lambda m: "vee "),
    TokenClass("letter", r"(?P<letters>[A-D]{1,3}|[FO]|AB)-(?=[\"'’”.,;:!?)]|\s|$)", lambda m: letters.say_grade(m) if not re.match(rf"\s(?:(?:and|or|to|&)\s[A-Z]-|(?!or\b|at\b|and\b|av|by\b|for\b)(?i:{m['letters'][0]}))", after(m, 12)) and not re.search(r"\w-$", before(m, 2)) else None),
    TokenClass("abbreviation", r"[wW]/(?=\s|\w{3})", lambda m: "with "),
    TokenClass("abbreviation", r"c/o\b", lambda m: "care of"),
    TokenClass("abbreviation", r"b/c\b", lambda m: "because"),
    TokenClass("title", r"LL\.?([BMD])\b\.?", lambda m: f"el el {LETTERS[m[1].lower()]}" + ("." if m[0].endswith(".") and may_end_sentence(m) else "")),
    TokenClass("title", r"([BM])\.?Sc\b\.?", lambda m: f"{LETTERS[m[1].lower()]} ess see" + ("." if m[0].endswith(".") and may_end_sentence(m) else "")),
    TokenClass("abbreviation", r"y/o\b", lambda m: "year old" if re.search(r"\ban? \d+ $", before(m, 8)) else "years old"),
    TokenClass("abbreviation", r"(?:h/o|f/u|r/o|s/p)\b(?!/)", lambda m: {"h": "history of", "f": "follow up", "r": "rule out", "s": "status post"}[m[0][0]]),
    TokenClass("abbreviation", r"(?<![\w/])([qmwy])/\1(?![\w/])", lambda m: f"{SHORT_PERIODS[m[1]]} over {SHORT_PERIODS[m[1]]}"),
    TokenClass("abbreviation", r"No(?=\d{1,3}(?!\w))", lambda m: "number "),
    TokenClass("abbreviation", r"(?P<letters>(?:[A-Z]\.){2,4})s\b", lambda m: letters.spell(m["letters"].replace(".", "")) + "s"),
    TokenClass("abbreviation", r"AA(?P<third>A)?(?=(?:/AAA)?\s(?:batter|cell))", lambda m: "triple ay" if m["third"] else "double ay"),
    TokenClass("chat", rf"(?:{'|'.join(CHAT)}|{'|'.join(word.title() for word in CHAT if word != 'ur')})\b(?![/.]\w|['’-])", lambda m: "you're" if m[0] == "ur" and abbreviations.YOU_ARE.match(m.string, m.end()) else CHAT[m[0].lower()]),
    TokenClass("date", r"FY\s?(?P<first>(?:19|20)\d\d)(?:[/–-](?P<second>\d\d))?(?![\w/-])", lambda m: f"eff why {year(int(m['first']))} {('oh ' if m['second'][0] == '0' else '') + cardinal(int(m['second'])) if m['second'] else ''} "),
    TokenClass("date", r"(?P<kind>Q|FY|H)(?P<part>[1-4])?['’](?P<year>\d\d)\b", dates.say_business_date),
    TokenClass("abbreviation", r"([aA]nd|[eE]ither)/or\b|([yY]es|[tT]rue)/(?=(?:no|false)\b)|((?i:he|she|him|his|her))/(?=(?:he|she|him|hers?|his|they|them|their)\b)", lambda m: f"{m[1]} or" if m[1] else f"{m[2] or m[3]} or "),
    TokenClass("unit", r"(?<=\bper[ ])(?P<kind>(?:sq|cu)\.?[ ])?(?P<each>[a-z]{1,3})\b(?:\.(?=\s[a-z]))?", lambda m: (UNIT_KINDS[m["kind"][:2]] if m["kind"] else "") + SHORT_EACH[m["each"]] if m["each"] in SHORT_EACH else None),
    TokenClass("unit", r"m/s\b", lambda m: "meters a second"),
    TokenClass("letter", r"f/(?=\d)", lambda m: "eff "),
    TokenClass("direction", r"(?:NN|SS|WN|WS|EN|ES)[EW]\b|(?:WN|WS|EN|ES)[NEWS]?\b(?!)", lambda m: DIRECTIONS.get(m[0].lower())),
    TokenClass("model number", r"(?P<letters>[A-Z]{1,4})-(?P<number>\d{1,4})(?P<version>[A-Z]{1,2})(?![\w-]|\.\d)", codes.say_dashed_code),
    TokenClass("formula", r"(?P<name>[fghO])(?P<primes>['’′]{0,2})\((?P<value>[a-z]|\d{1,3})\)", arithmetic.say_function),
    TokenClass("formula", r"d(?P<above>[a-z])/d(?P<below>[a-z])(?!\w)", lambda m: f"dee {LETTERS[m['above']]} dee {LETTERS[m['below']]}"),
    TokenClass("letter", r"O-O(?P<long>-O)?(?![\w-])", lambda m: f"castles {'queenside' if m['long'] else 'kingside'}"),
    TokenClass("roman numeral", r"[ivx]{1,6}\b(?!\.\w|['’])", roman_numerals.say_small_numeral),
    TokenClass("roman numeral", r"[IVXLC]+\b(?!\.\w|['’](?:m|d|ll|ve)\b)", roman_numerals.say_numeral),
    TokenClass("roman numeral", r"([IVXLC]{2,})(?:st|nd|rd|th)\b", lambda m: ordinal(number) if (number := roman(m[1])) else None),
    TokenClass("letter", r"(?P<note>[A-Ga-g])(?P<sign>[\#♯♭])(?P<kind>maj|min|m)?(?P<seventh>[679])?(?!\w)", letters.say_note),
    TokenClass("acronym", r"[A-Z]{1,5}(?:[&/][A-Z]{1,5}){1,3}(?![\w/&]|\.\w)", letters.say_joined_capitals),
    TokenClass("model number", r"(?P<name>ISO|IEC|RFC|IEEE|MIL|DIN|EN|ANSI|UL)[ -](?P<first>\d{2,5})(?:-(?P<second>\d{1,4}))?(?![\w-]|\.\d)", codes.say_standard),
    TokenClass("model number", r"(?P<letters>[A-Z]{1,4})-(?P<number>\d{3})(?![\w-]|\.\d)", codes.say_dashed_code),
    TokenClass("abbreviation", r"(?<=\d[ ])ff\b\.?", lambda m: "and following" + ("." if m[0].endswith(".") and may_end_sentence(m) else "")),
    TokenClass("capitals", r"(?P<word>[A-Z]{2,}s?)(?P<ending>['’](?:[A-Z]{1,2}|s|CLOCK)\b)?(?![\w])", letters.say_capitals),
    TokenClass("capitals", r"(?P<word>[A-Z])(?P<ending>['’](?:M|D|LL|VE|CLOCK|RE)\b)", lambda m: m[0]),
    TokenClass("acronym", rf"(?:{'|'.join(SPELLED_NAMES)})\b", lambda m: SPELLED_NAMES[m[0]]),
    TokenClass("acronym", r"IPv([46])\b", lambda m: f"eye pee vee {cardinal(int(m[1]))}"),
    TokenClass("acronym", r"(?:[a-z]+[A-Z]|[A-Z]+[a-z]+[A-Z]|[A-Z]{2,}[a-z]{2,}|[A-Z]{3}[a-rt-z]\b)[A-Za-z]*\b", letters.say_mixed_case),
    *codes.CODE_CLASSES,
    TokenClass("stammer", r"(?P<letter>[B-DF-HJ-NP-TV-Zb-df-hj-np-tv-z])-(?=(?i:(?P=letter))[A-Za-z-])(?!(?i:boys?|clamps?|class|day|tops?|town)\b)", lambda m: m["letter"] + "uh-"),
    TokenClass("letter", r"([A-Za-z])\s?[-–—]\s?([A-Za-z])(?![\w'’-])(?<=[A-Z])|([a-z])(?!)", letters.say_letter_range),
    TokenClass("letter", r"(?<![\w.]['’])(?P<letter>[A-Za-z])(?P<stop>\.(?!\w))?(?![\w])(?!['’](?!s\b))", letters.say_letter),
    TokenClass("acronym", r"(?<![\w'’-])[b-df-hj-np-tv-xz]{2,5}\b(?!['’])", letters.say_without_vowel),
]  # fmt: skip
"""In the order in which they are tried."""
WORDS_WITH_CLASS = frozenset(
    [
        *ABBREVIATIONS,
        *BEFORE_NUMBERS,
        *SHORT_EACH,
        *WITHOUT_VOWELS,
        "etc",
        "vs",
        "w",
        "y",
        "and",
        "he",
        "she",
        "him",
        "his",
        "her",
        "degrees",
        "sq",
        "cu",
        "dev",
        "cent",
        "ff",
        *CHAT,
        *UNIT_WORDS,
        *KEYS,
        *(("i " * count).replace(" ", "") for count in (1, 2, 3)),
        *"iv vi vii viii ix xi xii xiii xiv xv xvi xvii xviii xix xx xxi".split(),
    ]
)
"""Words in small letters that may be more than themselves; the rest is copied without a look at the classes."""
