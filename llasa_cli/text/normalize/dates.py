"""Dates, times, durations, years and weekdays.

3/14/2025 -> March fourteenth, twenty twenty five;  9:05 -> nine oh five;  Jan. 5-7 -> January fifth to seventh
"""

from __future__ import annotations

import re

from llasa_cli.text.normalize.amounts import counted
from llasa_cli.text.normalize.letters import spell
from llasa_cli.text.normalize.numbers import cardinal, decimal, ordinal, two_digits, year
from llasa_cli.text.normalize.token_class import after, before, may_end_sentence
from llasa_cli.text.normalize.vocabulary import MONTH_NAMES, MONTHS, WEEKDAYS, word_table

MONTH = "|".join(sorted(MONTH_NAMES, key=len, reverse=True))
DAY = "Mon|Tues?|Weds?|Thurs?|Thur|Thu|Fri|Sat|Sun"
HALF_DAY = r"[aApP](?:\.[mM]\.|[mM]\b)"
_ZONE = re.compile(r"\s(?:(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day|[ECMP][SD]?T|GMT|UTC|BST|CES?T)\b")
WEEKDAY = re.compile(r"(?:day|Mon|Tues?|Wed|Thurs?|Fri|Sat|Sun)[.,]{0,2}\s\(?$")
_DUE = re.compile(
    r"\b(?:(?P<date>due|ends?|until|till|dated|expires|starting|ending|deadline:?|RSVP by|EO[BD]|COB)|by|since|before|after|through|thru)\s$",
    re.IGNORECASE,
)
"""Words before a month and a day, and those among them that no fraction follows."""


_DAY_FIRST = re.compile(r"(?<![\d/])(?:1[3-9]|2\d|3[01])/(?:0?\d|1[0-2])/[12]\d{3}(?!\d)")
"""A date that shows how the others of its text are written."""


def say_numeric_date(match: re.Match[str]) -> str | None:
    """2024-05-01; 3/14/2025 (month first, unless it can't be one); 15.3.2024 (day first)."""
    if match["iso_year"]:
        written, month, day = match["iso_year"], int(match["iso_month"]), int(match["iso_day"])
        ending = ", " if match["and_time"] or re.match(r"\s\d\d:\d\d", after(match, 6)) else ""
    else:
        written, first, second, ending = match["year"], int(match["first"]), int(match["second"]), ""
        if len(written) == 2 and match["sep"] != "/":
            return None
        near = f"{before(match, 120)} {after(match, 120)}"
        other = _DAY_FIRST.search(near) if match["sep"] == "/" and second < 13 else None
        day_first = (match["sep"] == "." and second < 13) or (first > 12 and second < 13) or other is not None
        day, month = (first, second) if day_first else (second, first)
    if not (0 < month < 13 and 0 < day < 32):
        return None
    number = int(written) + (0 if len(written) == 4 else 2000 if int(written) < 50 else 1900)
    return f" {MONTHS[month - 1]} {ordinal(day)}, {year(number)}{ending}"


def say_day_and_month(match: re.Match[str]) -> str:
    """12 March -> the twelfth of March."""
    article = "" if re.search(r"\bthe\s$", before(match, 5), re.IGNORECASE) else "the "
    stop = "." if match["stop"] and may_end_sentence(match) else ""
    return f"{article}{ordinal(int(match['day']))} of {MONTH_NAMES[match['month']]}{stop}"


_POINTED = r"(?:[01]?\d|2[0-4])\.[0-5]\d"
_TIME_BEFORE = re.compile(
    rf"\b(?:(?i:open(?:s|ed|ing)?|clos(?:es|ed|ing)|doors|hours|times?|kick-?off|departs?|departing|departure|arrives|arriving|daily|weekdays|weekends|breakfast|lunch|dinner|bedtime|curfew|check-(?:in|out))"
    r"(?:\s(?:is|are|was|were|will be|on|open|opens|start|starts|end|ends|hours|times|daily|approx\.?|about|only|today|tomorrow|back|home|work|for work|(?:Sun|Mon|Tues|Wednes|Thurs|Fri|Satur)days?)){0,2}"
    r"(?:\s(?:at|from|by|between|until|till|around))?"
    r"|(?:leaves?|leaving|left|arrived?|served|starts?|started|starting|begins?|began|ends?|ended|finish\w*|runs?|available|reception|surgery|lessons?|classes|mass|sessions?|show|screening|"
    r"film|supper|tea|trains?|bus|buses|ferry|flight|match|game|party|ceremony)(?:\s(?:is|are|was|were|will be|only|today|tomorrow|back|home|work|for work|school)){0,2}\s(?:at|from|by|between|until|till|around|about|approx\.?)"
    rf"|(?:{DAY}|(?:Sun|Mon|Tues|Wednes|Thurs|Fri|Satur)day)s?(?:\s(?:at|from|until|till))?"
    r"|(?i:woke(?: up)?|wake(?: up)?|get up|got up|meet(?: \w+)?|met(?: \w+)?|see you|be (?:there|here|back)|home|tonight|tomorrow|yesterday|today|morning|evening|afternoon|night)\sat"
    r")[.:,]?\s\(?$"
)
_TIME_AFTER = re.compile(
    r"(?:\s?[-–]\s?(?:[01]?\d|2[0-4])\.[0-5]\d|\s(?:to|until|till)\s(?:[01]?\d|2[0-4])\.[0-5]\d)?"
    r"(?:\s(?:in the (?:morning|afternoon|evening)|at night|tonight|tomorrow|yesterday|sharp|every (?:morning|evening|day|night)|trains?|bus|ferry|flight|departure|"
    r"at [A-Z][a-z]+|appointment|showing|screening|performance|kick-?off|hrs|[BG]MT|BST|CES?T|UTC)\b|h\b)"
)
_PRICES = re.compile(
    r"\b(?:[Ss]hares?|[Ss]tocks?|[Pp]rices?|[Ii]ndex|[Pp]ound|[Dd]ollar|[Ee]uro|[Yy]en|[Rr]upee|percent|FTSE|Nasdaq|[Yy]ields?|[Rr]ates?|[Pp]oints|(?<!the\s)seconds?)\b|[%$€£]"
)


_AT_TIME = re.compile(r"[,;!?)]|\.?$|\.\s|\s(?:on|in|and|until|today|tomorrow|with)\b")
_LEVELS = re.compile(
    r"\b(?:set|held|kept|measured|open(?:s|ed)|clos(?:es|ed)|trad\w+|valued|stood|pH|temp\w*|averag\w+|peaked|odds|scor\w+|version|ratio|rated)\b"
)


def _is_pointed_time(match: re.Match[str]) -> bool:
    """open 6.30 to 23.15, the 10.15 train; but "shares opened at 12.40" and "version 3.10"."""
    if re.match(r"\.\d|[A-Za-gi-z]|\s?%|\s?[€£$]|\s(?:an?|per|each)\s", after(match, 6)):
        return False
    if _TIME_AFTER.match(match.string, match.end()):
        return True
    near = before(match, 60) + after(match, 20)
    quarter = int(match["hour"]) > 5 and match["minute"] in ("00", "15", "30", "45") and before(match, 4) == " at "
    if quarter and _AT_TIME.match(after(match, 10)) and not _PRICES.search(near) and not _LEVELS.search(near):
        return True
    start = re.sub(rf"(?:{_POINTED}\s?(?:[-–,]|,?\s?(?:to|until|till|and|or)\b)\s?){{1,5}}$", "", before(match, 60))
    return bool(_TIME_BEFORE.search(start)) and not _PRICES.search(start + after(match, 20))


def say_first_day(match: re.Match[str]) -> str:
    """from 6-12 July, on 8 and 9 July -> the sixth to the twelfth of July."""
    article = "" if re.search(r"\bthe\s$", before(match, 5), re.IGNORECASE) else "the "
    return article + ordinal(int(match["day"]))


def say_time(match: re.Match[str]) -> str | None:
    """9:05 -> nine oh five; 14:05:30 -> fourteen oh five and thirty seconds; 1:30:00 -> one hour thirty minutes."""
    written, half, second = match["hour"] or match["only_hour"], match["half"] or match["only_half"], match["second"]
    if match["point"] and not half and not _is_pointed_time(match):
        return None
    hour, minute = int(written), int(match["minute"] or 0)
    if written == "0" and not second and not half:  # 0:45 of a clip
        return f" {_duration(None, None, match['minute'])} "
    if second and not half and written in (str(hour % 10), "00"):
        return _duration(written, match["minute"], second)
    said = cardinal(hour)
    if minute:
        said += f" {two_digits(minute)}"
    elif not half:
        said += " hundred" if hour > 12 or hour == 0 else " o'clock"
    if second and int(second):
        said += f" and {counted(int(second), 'second')}"
    if not half:
        return f" {said}{_after_date(match)} "
    stop = "." if half.endswith(".") and may_end_sentence(match) and not _ZONE.match(match.string, match.end()) else ""
    return f" {said} {'ay' if half[0] in 'aA' else 'pee'} em{stop}"


def _after_date(match: re.Match[str]) -> str:
    """The comma after the date and time of a line in a log."""
    return "," if re.search(r"\d{4}[-/]\d\d[-/]\d\d[T ]$", before(match, 11)) else ""


def _duration(*counts: str | None) -> str:
    """Hours, minutes and seconds, those that are not zero, by their names."""
    named = zip((int(count or 0) for count in counts), ("hour", "minute", "second"), strict=True)
    return " ".join(counted(count, name) for count, name in named if count) or "zero seconds"


def say_exact_time(match: re.Match[str]) -> str:
    """1:30:45.2 -> one hour thirty minutes forty five point two seconds; at 13:55:36.120 -> thirteen fifty five and ..."""
    if len(match["hours"]) == 2 and (match["hours"] > "09" or re.search(r"\d(?:T|\s)$", before(match, 2))):
        seconds = decimal(match["seconds"].removeprefix("0").replace(",", "."))
        minutes = two_digits(int(match["minutes"]))
        return f" {cardinal(int(match['hours']))} {minutes} and {seconds} seconds{_after_date(match)} "
    counts = ((int(match["hours"]), "hour"), (int(match["minutes"]), "minute"))
    said = [counted(count, name) for count, name in counts if count]
    return f" {' '.join(said)} {decimal(match['seconds'].removeprefix('0'))} seconds "


_LASTING = re.compile(
    r"(?P<sure>\b(?:wait(?:s|ed)?|sleep|within|takes?|took|lasts?|lasted|timeout of|timed out after|another)\s|[=<>~≤≥@]\s?|\b\d+\s?(?:m|min|mins)\s)$"
    r"|\b(?:after|every|for|in|up to|[Tt]hen|plus)\s$|(?P<people>\b(?:about|only|just|under|over|to)\s)$"
)
"""Before a number of seconds; `sure` where no decade stands, `people` where an age may stand."""
_DURATION_NOUN = re.compile(
    r"\s(?:timeout|timer|delay|intervals?|clips?|rests?|video|ad|pause|countdown|exposure|loop|sprints?|planks?|holds?)\b"
)


def say_seconds(match: re.Match[str]) -> str | None:
    """wait 45s -> forty five seconds; but "in his 30s" and "80s music"."""
    count = int(match["seconds"])
    if re.match(r"\s?(?:→|->)\s?\d", after(match, 6)) or re.search(r"(?:→|->)\s?$", before(match, 4)):
        return f" {counted(count, 'second')}"
    if re.match(
        r"\sof\s(?:video|audio|silence|footage|music|planks?|rest|work|squats|jumping|running|walking|burpees|cardio)\b|\s(?:on|off)\s?(?:[,/;.]|$)",
        after(match, 20),
    ) and not re.search(r"\b(?:the|his|her|their|my|your|our|in)\s$", before(match, 6)):
        return f" {counted(count, 'second')}"
    if _DURATION_NOUN.match(match.string, match.end()):
        return f" {cardinal(count)} second"
    lasting = _LASTING.search(before(match, 20))
    if lasting is None:
        return None
    tens = count % 10 == 0 and count < 100
    decade = (
        count > 60
        or count == 50
        or re.match(r"\s(?!(?:per|on|to|and|or|before|after|then|at|with|in)\b)[a-z]", after(match, 8))
    )
    if not lasting["sure"] and ((tens and (decade or lasting["people"])) or (lasting["people"] and count > 20)):
        return None
    return f" {counted(count, 'second')}"


_MINUTES_BEFORE = re.compile(
    r"\b(?:[Pp]rep|[Cc]ook(?:ing)?|[Tt]ime|[Dd]uration|ETA|[Tt]imeout|[Ww]ait(?:ed|s)?|[Uu]ptime|[Bb]ak(?:e|ing)|[Ss]immer|[Cc]hill|[Rr]est|[Ss]nooze|[Ss]leep)(?: time| for)?:?\s$"
)


def say_minutes(match: re.Match[str]) -> str | None:
    """Prep: 15m and 5m ago -> minutes; elsewhere they are meters."""
    count = int(match["minutes"])
    following = after(match, 12)
    if match["space"]:
        return f" {counted(count, 'minute')}" if re.search(r"\btime:\s$", before(match, 6)) else None
    if re.match(r"\s(?:read|timer|timeout|delay|break|nap|call|countdown|candles?)\b", following):
        return f" {cardinal(count)} minute"
    if _MINUTES_BEFORE.search(before(match, 20)) or re.match(r"\s(?:ago|later|left)\b", following):
        return f" {counted(count, 'minute')}"
    return None


def say_countdown(match: re.Match[str]) -> str:
    """T-2:00 -> tee minus two minutes; T+1:02:33 -> tee plus one hour ..."""
    counts = match["clock"].split(":")
    return f"tee {'plus' if match['sign'] == '+' else 'minus'} {_duration(*([None] * (3 - len(counts))), *counts)}"


_SHORT_WEEKDAYS = word_table(
    "M Monday,T Tuesday,W Wednesday,Th Thursday,F Friday,Mo Monday,Tu Tuesday,We Wednesday,Fr Friday,Sa Saturday,Su Sunday"
)


def say_short_weekdays(match: re.Match[str]) -> str:
    """M/W/F -> Monday, Wednesday, Friday; Mo-Fr -> Monday to Friday."""
    days = [_SHORT_WEEKDAYS[day] for day in re.findall("[A-Z][a-z]?", match[0])]
    return (" to " if re.search("[-–]", match[0]) else ", ").join(days)


def say_half_days(match: re.Match[str]) -> str:
    """6a-10:30p -> six ay em to ten thirty pee em."""
    times = []
    for hour, minute, half in (match.group(1, 2, 3), match.group(4, 5, 6)):
        spoken = f" {two_digits(int(minute))}" if minute and minute != "00" else ""
        times.append(f"{cardinal(int(hour))}{spoken} {'ay' if half == 'a' else 'pee'} em")
    return " to ".join(times)


def say_military_time(match: re.Match[str]) -> str | None:
    """at 1800 hrs -> eighteen hundred hours; at 0745 -> oh seven forty five; but "1500 hours of work"."""
    hour, minute = match["hour"], match["minute"]
    placed = re.search(
        r"\b(?:at|by|until|till|before|after|since|around|from|HW|LW|high|low|tide)\s$", before(match, 8), re.IGNORECASE
    )
    train = re.search(r"\bthe\s$", before(match, 5), re.IGNORECASE) and re.match(
        r"\s(?:to|from|train|bus|flight|ferry|service|departure)\b", after(match, 12)
    )
    zulu = re.match(r"\sZulu\b", after(match, 6))
    if not (placed or train or zulu) or not (match["hours"] is not None or "00" < hour < "10"):
        return None
    return f"{two_digits(int(hour))} {'hundred' if minute == '00' else two_digits(int(minute))} "


def say_hours_and_minutes(match: re.Match[str]) -> str:
    """1h 20m 30s; 5m 3s; 1h30; 3d 4h."""
    if match["day"]:
        rest = _duration(match["day_hour"], match["day_minute"], None)
        return f"{counted(int(match['day']), 'day')} {'' if rest == 'zero seconds' else rest}"
    if match["bare_minute"]:
        hour = int(match["bare_hour"])
        said = counted(hour, "hour") if hour < 13 else cardinal(hour)
        minute = int(match["bare_minute"])
        oh = "oh " if hour > 12 and minute < 10 else ""
        return f"{said} {oh}{cardinal(minute)}" if minute else said if hour < 13 else f"{said} hundred"
    return _duration(match["hour"], match["minute"] or match["only_minute"], match["second"] or match["only_second"])


def say_decade(match: re.Match[str]) -> str:
    number = int(match["decade"])
    name = year(number) if number > 99 else cardinal(number)
    return f" {name[:-1]}ies " if name.endswith("y") else f" {name}s "


ERA = re.compile(r"\s(?:B\.?C|A\.?D|C\.?E)\b")
_EARLY_YEAR = re.compile(
    r"\b(?:in|since|until|by|of|around|before|after|AD|year|circa|born|died|c\.|ca\.|r\.|b\.|d\.)\s?$|\b1\d{3}\s?[-–]\s?$"
)


def is_early_year(match: re.Match[str]) -> bool:
    """in 1066, by 2150; but "a total of 2150"."""
    if match[0][0] == "2" and not re.search(r"\b(?:in|by|since|until|year)\s$", before(match, 6)):
        return False
    return bool(ERA.match(match.string, match.end()) or _EARLY_YEAR.search(before(match, 10)))


def say_month_and_year(match: re.Match[str]) -> str | None:
    """03/2025 -> March twenty twenty five; in 9/2024; but "1/2000 of it"."""
    month = match["month"]
    placed = re.search(r"\b(?:in|since|until|by|from|to|of|through|exp(?:ires|\.)?|dated)\s$", before(match, 8))
    if len(month) < 2 and (month == "1" or (not placed and re.match(r"\s(?:of|the)\b", after(match, 6)))):
        return None
    return f"{MONTHS[int(month) - 1]} {year(int(match['year']))} "


def say_expiry(match: re.Match[str]) -> str | None:
    """exp. 05/26 -> May twenty twenty six."""
    if not re.search(
        r"\b(?:[Ee]xp(?:\.|iry|ires)?|[Vv]alid (?:thru|until|to)|EXP|[Ee]xpiration(?: date)?):?\s$", before(match, 18)
    ):
        return None
    return f" {MONTHS[int(match['month']) - 1]} {year(2000 + int(match['year']))} "


def say_dashed_date(match: re.Match[str]) -> str:
    """25-Dec-2023 -> the twenty fifth of December twenty twenty three."""
    number = int(match["year"]) + (0 if len(match["year"]) == 4 else 2000 if int(match["year"]) < 50 else 1900)
    return f"the {ordinal(int(match['day']))} of {MONTH_NAMES[match['month']]} {year(number)}"


def say_season(match: re.Match[str]) -> str | None:
    """2019/20 -> twenty nineteen twenty; 1999/00 -> nineteen ninety nine hundred."""
    first, second = int(match["first"]), int(match["second"])
    if (first + 1) % 100 != second:
        return None
    return f" {year(first)} {two_digits(second) if second else 'hundred'} "


def say_weekday_and_date(match: re.Match[str]) -> str | None:
    """Tue 3/5 -> Tuesday March fifth; by 12/20 and by 20/12 -> by December twentieth; but "reduced by 3/4"."""
    month, day = int(match["month"]), int(match["day"])
    day_first = (
        12 < month < 32
        and 0 < day < 13
        and (month, day) != (24, 7)
        and not re.match(r"\s(?:vision|aspect|time|of)\b", after(match, 8))
    )
    if day_first:
        month, day = day, month
    if not (0 < month < 13 and 0 < day < 32) or (month, day) == (9, 11):
        return None
    start = re.sub(r"\d{1,2}/\d{1,2}\s?[-–]\s?$", "", before(match, 22))
    due = _DUE.search(start[-12:])
    if day_first:
        if not (due or WEEKDAY.search(start[-12:]) or re.search(r"\b(?:on|from|to|of|and)\s$", start)):
            return None
        return None if re.search(r"\b(?:multipl|divi|scale)\w* by\s$", start) else f"{MONTHS[month - 1]} {ordinal(day)}"
    is_fraction = due and month < day and day in (2, 3, 4, 5, 6, 8, 10, 12, 16) and not due["date"]
    if (not due or is_fraction) and not WEEKDAY.search(start[-12:]):
        return None
    return f"{MONTHS[month - 1]} {ordinal(day)}"


def say_business_date(match: re.Match[str]) -> str:
    """Q4'23 -> cue four twenty three."""
    part = f" {cardinal(int(match['part']))}" if match["part"] else ""
    return f"{spell(match['kind'])}{part} {two_digits(int(match['year']))}"


def say_month(match: re.Match[str]) -> str | None:
    """Jan. 5-7 -> January fifth to seventh."""
    if match["to_month"]:
        return f"{MONTH_NAMES[match['month']]} to {MONTH_NAMES[match['to_month']]}"
    short = match["month"] not in MONTH_NAMES.values()
    if match["day"] is None:
        if not short:
            return None
        numbered = re.match(r"\s\d", after(match, 2)) or re.search(r"\d\s$", before(match, 2))
        placed = re.search(r"\b(?:in|of|since|by|until|last|next|this|and|to)\s$", before(match, 8))
        if not numbered and not (match["stop"] and (placed or re.match(r"\s[a-z]", after(match, 2)))):
            return None
        stop = "." if match["stop"] and may_end_sentence(match) else ""
        return MONTH_NAMES[match["month"]] + stop
    until = f" to {ordinal(int(match['until']))}" if match["until"] else ""
    return f"{MONTH_NAMES[match['month']]} {ordinal(int(match['day']))}{until}"


def say_weekday(match: re.Match[str]) -> str | None:
    if match["to"]:
        return f"{WEEKDAYS[match['day'].lower()]} to {WEEKDAYS[match['to'].lower()]}"
    following = after(match, 14)
    weekend = match["day"] in ("Sat", "Sun")
    if (
        match["day"] in ("Tue", "Tues", "Weds", "Thu", "Thur", "Thurs", "Fri") and following[:1] != "."
    ):  # no other words
        return WEEKDAYS[match["day"].lower()]
    if re.match(
        rf",\s(?:{MONTH})\b|\s(?:{MONTH})\.?\s\d|\s(?:closed|morning|afternoon|evening|nights?)\b|:\s?(?:\d|closed\b)",
        following,
    ):
        return WEEKDAYS[match["day"].lower()]
    dated = (
        rf",?\s\d\d?\s(?:{MONTH})\b|\s\d\d?(?:[:/.]\d|[ap]\b|\s?[ap]\.?m\b|\s?[-–])|\s(?:&|and)\s(?:Sun|Mon|hol)"
        if weekend
        else r",?\s\d"
    )
    return WEEKDAYS[match["day"].lower()] if re.match(dated, following) else None
