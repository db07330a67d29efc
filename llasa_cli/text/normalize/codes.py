"""Codes and identifiers: telephone numbers, versions, models, serial numbers, verses.

555-0199 -> five five five, oh one nine nine;  C-130 -> see one thirty;  i7-9700K -> eye seven ninety seven hundred kay
"""

from __future__ import annotations

import re

from llasa_cli.text.lexicon import RESPELLED, is_spelled
from llasa_cli.text.normalize.letters import is_spelled_or_single, spell
from llasa_cli.text.normalize.numbers import cardinal, decimal, digits, ordinal, pairs
from llasa_cli.text.normalize.token_class import TokenClass, after, before
from llasa_cli.text.normalize.vocabulary import BIBLE_BOOKS, BIBLE_NAMES, LETTERS


def say_telephone(match: re.Match[str]) -> str | None:
    """A number in groups. "500-1000" is a range."""
    groups = re.findall(r"\d+", match[0])
    if re.fullmatch(r"\d{1,2}(?:-\d{1,2})+", match[0]):
        return None
    if len(groups) == 2 and groups[0].endswith("0") and groups[1].endswith("00"):
        return None
    return ("plus " if match[0].startswith("+") else "") + ", ".join(map(digits, groups))


def say_public_law(match: re.Match[str]) -> str:
    """Pub. L. No. 117-58 -> public law number one seventeen fifty eight."""
    return f"public law {'number ' if match['no'] else ''}{pairs(match['congress'])} {pairs(match['law'].lstrip('0') or '0')} "


_PASSCODE = re.compile(
    r"\b(?:OTP|PIN|[Pp]asscode|[Pp]ass code|(?:(?:verification|security|confirmation|access|2FA|one-time) )?[Cc]ode|[Ss]quawk)(?: is|:| was)?\s$"
)


def say_passcode(match: re.Match[str]) -> str | None:
    """code 482-913 -> four eight two, nine one three; PIN: 1234 -> its digits."""
    if not _PASSCODE.search(before(match, 30)) or re.match(r"\s[a-z]", after(match, 2)):
        return None
    return f" {digits(match[3])} " if match[3] else f" {digits(match[1])}, {digits(match[2])} "


_STATE_BEFORE = re.compile(
    r"\b(?:A[KLRZ]|C[AOT]|D[CE]|FL|GA|HI|I[ADLN]|K[SY]|LA|M[ADEINOST]|N[CDEHJMVY]|O[HKR]|P[AR]|RI|S[CD]|T[NX]|UT|V[AT]|W[AIVY])\s$"
)
_CITY_AFTER = re.compile(
    r"\s(?!(?:The|He|She|It|We|They|In|People|Americans|Euro|Dollars)\b)[A-Z][a-zà-ÿ]{2,}(?:[\s-][A-Z][a-zà-ÿ]+)?(?:,|\.?$|\.?\s)"
)


def is_zip_code(match: re.Match[str]) -> bool:
    """Minneapolis MN 55401; Hauptstr. 12, 10115 Berlin."""
    if _STATE_BEFORE.search(before(match, 3)):
        return True
    if not before(match).strip() and re.match(r"\s[A-Z][a-zà-ÿ]+(?:,\s[A-Z]|\.?$)", after(match)):
        return True  # 75008 Paris, France
    return bool(
        re.search(r"(?:\d[a-z]?|[A-Z][a-zà-ÿ]+),\s$", before(match, 16))
        and "-" not in match[0]
        and _CITY_AFTER.match(match.string, match.end())
    )


def say_emergency(match: re.Match[str]) -> str | None:
    """call 911 -> nine one one; but "Call 300 people"."""
    called = re.search(
        r"\b(?:call|dial|phone)(?:s|ed|ing)?\s$|\b(?:9\d\d|1\d\d) in the [A-Z][\w.]{1,12},? (?:or )?$",
        before(match, 30),
        re.IGNORECASE,
    )
    return digits(match[0]) if called else None


_TELEPHONE_BEFORE = re.compile(
    r"\b(?:call|dial|phone|tel|telephone|fax|text|cell|mobile|hotline|whatsapp|ring)\.?(?:ed|ing|s)?(?: (?:me|us|him|her|them|now|number|no\.?|is|at|on|to|the)){0,3}:?\s$"
    r"|\d{4} or\s$|\bnumber(?: is|'s|’s|:)\s$|\breach(?: \w+){1,2} at\s$",
    re.IGNORECASE,
)


def say_undivided_telephone(match: re.Match[str]) -> str | None:
    """Call 5550123 -> five five five, zero one two three; but "The number is 5550123 people"."""
    number = match[0]
    if (
        not _TELEPHONE_BEFORE.search(before(match, 40))
        or re.match(r"\s(?!(?:now|today|to|for|or|and|if|when|from|after|before|at|with|any)\b)[a-z]", after(match, 8))
        or number.endswith("000")
    ):
        return None
    groups = (number[:3], number[3:]) if len(number) == 7 else (number[:3], number[3:6], number[6:])
    return f" {', '.join(map(digits, groups))} "


_IDENTIFIED = re.compile(
    r"(?:\b(?:ISBN(?:-1[03])?|UPC|EAN|GTIN|PMID|OCLC|SKU|IMEI|NPI|EIN|ID|PIN|serial|account|acct\.?|passport|passcode|OTP|code|policy|tracking|order|invoice|member|reference|ref\.?|case|ticket|confirmation"
    r"|licen[cs]e|registration|patent|routing|reservation|booking|badge|student|employee|customer|item|part|model|batch|lot)(?: (?:number|no\.?|code|id|\#|is|ending(?: in)?))*:?\s?\#?)\s?$",
    re.IGNORECASE,
)


def say_identifier(match: re.Match[str]) -> str | None:
    """ISBN 9780134685991 and account no. 12345678 -> their digits, in groups of three."""
    number = match[0]
    if re.match(r"\s(?!(?:is|was|has|and|or|to|for|in|at|on|from|will|of)\b)[a-z]", after(match, 8)):
        return None
    if not _IDENTIFIED.search(before(match, 40)) and (len(number) < 10 or number.endswith("000")):
        return None
    ends = range(3, len(number), 3)
    groups = [number[at : at + 3] for at in (0, *ends)]
    if len(groups[-1]) == 1:  # 3, 3, 4
        groups[-2:] = [groups[-2] + groups[-1]]
    return f" {', '.join(map(digits, groups))} "


def say_bank_account(match: re.Match[str]) -> str:
    """GB29 NWBK 6016 ... -> jee bee two nine, en double-you bee kay, six zero one six, a group at a time."""
    written = match[0] if " " in match[0] else re.sub(r"(.{4})(?=.)", r"\1 ", match[0])
    return f" {', '.join(_character_names(group) for group in written.split())} "


def _character_names(written: str) -> str:
    return " ".join(digits(c) if c.isdigit() else LETTERS[c.lower()] for c in written)


def say_postcode(match: re.Match[str]) -> str:
    """NW8 9HA -> en double-you eight, nine aitch ay; G12 8QQ -> jee twelve, ..."""
    area, district, rest = re.findall(r"([A-Z]+)(\d+)(.*)", match[0])[0]
    parts = f"{rest[:1].strip()} {rest[1:]}" if rest[:1].isalpha() else f" {rest.strip()}"
    first, second = parts.split(" ", 1)
    return f" {spell(area)} {cardinal(int(district))} {_character_names(first)}, {_character_names(second.strip())} "


def say_following_pages(match: re.Match[str]) -> str | None:
    """pp. 45f. and 67ff. -> forty five and following; but 67f of another kind."""
    if not match["many"] and not re.search(r"(?:\bpp?\.|\bpages?|§)\s?$", before(match, 7)):
        return None
    return f" {cardinal(int(match['page']))} and following "


def say_docket(match: re.Match[str]) -> str:
    """No. 2:21-cv-00123 -> two, twenty one see vee zero zero one two three."""
    office = f"{cardinal(int(match['office']))}, " if match["office"] else ""
    return f" {office}{cardinal(int(match['year']))} {spell(match['kind'])} {digits(match['number'])} "


def say_model(match: re.Match[str]) -> str | None:
    """747-8 -> seven forty seven eight; 747-400 -> seven forty seven four hundred."""
    if match[1].endswith("00"):
        return None
    return f"{pairs(match[1])} {cardinal(int(match[2]))}"


def is_status(match: re.Match[str]) -> bool:
    """HTTP 404, a 503 error."""
    named = re.search(r"\b(?:HTTP|[Ee]rror|[Ss]tatus)(?: code)? $", before(match, 12))
    return bool(named or re.match(r"\s(?:error|page|status)\b", after(match, 8)))


_CARD = re.compile(
    r"\b(?:visa|master ?card|amex|discover|debit|credit|card|account|acct\.?)(?: (?:number|no\.?))?(?: end(?:ing|s|ed)(?: in| with)?)?:?\s+\**$"
    r"|\bend(?:ing|s) in\s$|\blast (?:four|4)(?: digits)?(?: are| is)?:?\s$",
    re.IGNORECASE,
)


def say_card_number(match: re.Match[str]) -> str | None:
    """A card ending in 4242 -> forty two forty two."""
    return f" {pairs(match[0])} " if _CARD.search(before(match, 40)) else None


def say_short_code(match: re.Match[str]) -> str | None:
    """dial *69 -> star six nine; text STOP to 50555 -> its digits."""
    if match["number"] and re.match(r"\s(?!(?:to|for|now|or|and|from|with|if)\b)[a-z]", after(match, 6)):
        return None  # Text 12345 words
    if match["number"]:
        return (
            digits(match[0])
            if re.search(r"\btext(?:\s\S{1,12})?(?:\sto)?\s$", before(match, 24), re.IGNORECASE)
            else None
        )
    if not re.search(r"\b(?:dial|press|call|enter|type)(?:ing|ed|s)?\s$", before(match, 9), re.IGNORECASE):
        return None
    return " ".join({"*": "star", "#": "hash"}.get(c) or digits(c) for c in match[0])


_NUMBERED = re.compile(
    r"(?:#:?|\b(?:no|nr|number|part|case|order|serial|model|invoice|ticket|tracking|account|acct|policy|item|ref|id|sku|catalog|case|"
    r"flight|license|permit|docket|file|claim|lot)\b[.:]?)\s?$",
    re.IGNORECASE,
)


def say_code_number(match: re.Match[str]) -> str | None:
    """Case no. 21-1234 -> its digits, as 007-8; but "items 3-5" is a range."""
    groups = match[1].split("-")
    if len(groups) == 2 and all(re.fullmatch(r"[012]\d[0-5]\d", group) for group in groups):
        return None  # 0800-1700, two times of day
    zero = groups[0][0] == "0" and len(groups[0]) > 1
    uneven = len({len(group) for group in groups}) > 1 and len(groups[-1]) > 2
    if not zero and not (uneven and _NUMBERED.search(before(match, 14))):
        return None
    return f" {', '.join(map(digits, groups))} "


_PLAY = re.compile(
    r"\b(?:Hamlet|Macbeth|Othello|Lear|Juliet|Tempest|Caesar|Cleopatra|Cymbeline|Coriolanus|Night|Dream|Venice|Verona|Henry [IV]+|Richard I+)[,:]?\s\(?$"
)


def say_dotted(match: re.Match[str]) -> str:
    """1.0.2 -> one point zero point two; 192.168.0.1 -> ... dot ..."""
    parts = match["number"].split(".")
    stage = {None: "", "rc": "are see"}.get(match["stage"], match["stage"])
    count = cardinal(int(match["count"])) if match["count"] else ""
    if _PLAY.search(before(match, 24)):
        return f" {' '.join(map(decimal, parts))} "
    is_address = len(parts) == 4 and all(len(part) < 4 and int(part) < 256 for part in parts)
    return f" {(' dot ' if is_address else ' point ').join(map(decimal, parts))} {stage} {count} "


def say_wireless(match: re.Match[str]) -> str:
    """802.11ac -> eight oh two dot eleven ay see."""
    letters = " ".join(LETTERS[letter] for letter in match["letters"] or "")
    return f" {pairs(match[1])} dot {cardinal(int(match[2]))} {letters} "


def say_host(match: re.Match[str]) -> str:
    numbers = " dot ".join(cardinal(int(part)) for part in match["host"].split("."))
    return f" {numbers} colon {cardinal(int(match['port']))} "


def say_hexadecimal(match: re.Match[str]) -> str | None:
    """00:1B:44:11:3A:B7, 550e8400-e29b-..., #FF5733, 0x1F -> their digits and letters, a group at a time."""
    groups = re.findall(r"[\dA-Fa-f]+", match[0].removeprefix("0x"))
    said = [" ".join(digits(c) if c.isdigit() else LETTERS[c.lower()] for c in group) for group in groups]
    return f" {'zero ex ' if match[0].startswith('0x') else ''}{', '.join(said)} "


def _verse(match: re.Match[str]) -> str:
    """1 Cor. 13:4 -> first Corinthians thirteen four."""
    nth = f"{ordinal(int(match['nth']))} " if match["nth"] else ""
    return nth + BIBLE_BOOKS[match["book"].lower()]


def say_part_of_verse(match: re.Match[str]) -> str | None:
    """John 3:16a -> three sixteen ay; but 3:16a in a timetable."""
    book = re.search(r"([A-Z][a-z'’]+)\.?\s$", before(match, 20))
    if not book or book[1].lower() not in BIBLE_NAMES:
        return None
    return f" {cardinal(int(match['chapter']))} {cardinal(int(match['number']))} {LETTERS[match['part']]} "


def say_dashed_groups(match: re.Match[str]) -> str | None:
    """KA-05-MH-1234 -> kay ay, zero five, em aitch, one two three four."""
    groups = match[0].split("-")
    if not any(group.isdigit() for group in groups[1:]) or not any(group.isalpha() for group in groups[1:]):
        return None
    said = (
        group if group.isalpha() and len(group) > 2 and not is_spelled(group) else _character_names(group)
        for group in groups
    )
    return f"{', '.join(said)} "


NUMBERED_PLACE = re.compile(r"\b(?:[Ff]light(?: [A-Z]{2})?|[Rr]oom|Xbox|[Hh]ighway|[Rr]oute|Hill)\s$")
_HEX_PAIR = r"[\dA-Fa-f]{2}"
HEXADECIMAL = TokenClass(
    "hexadecimal",
    rf"""(?<![\w:-])(?:{_HEX_PAIR}(?P<joint>[:-]){_HEX_PAIR}(?:(?P=joint){_HEX_PAIR}){{4}}(?![\w:-])
    |(?=[\d:]*[A-Fa-f])(?=[A-Fa-f:]*\d){_HEX_PAIR}(?::{_HEX_PAIR}){{2,7}}(?![\w:-])
    |(?=[a-f]{{0,10}}\d{{1,10}}[a-f]{{1,10}}\d)[\da-f]{{7,40}}(?!\w)
    |[\dA-Fa-f]{{8}}(?:-[\dA-Fa-f]{{4}}){{3}}-[\dA-Fa-f]{{12}}(?!\w)|0x[\dA-Fa-f]{{1,16}}(?!\w)
    |(?=[\dA-Fa-f:]{{0,5}}[\d:])[\dA-Fa-f]{{1,4}}(?::[\dA-Fa-f]{{1,4}}){{0,6}}::(?:[\dA-Fa-f]{{1,4}}(?::[\dA-Fa-f]{{1,4}}){{0,6}})?(?![\w:])
    |[\dA-Fa-f]{{1,4}}(?::[\dA-Fa-f]{{1,4}}){{7}}(?![\w:]))|(?<=\w:)(?=[a-f]{{0,10}}\d{{1,10}}[a-f]{{1,10}}\d)[\da-f]{{12,64}}(?!\w)""",
    say_hexadecimal,
)
VERSE = TokenClass(
    "verse",
    rf"(?:(?P<nth>[123])[ ])?(?P<book>(?i:{'|'.join(sorted(BIBLE_BOOKS, key=len, reverse=True))}))\b\.?(?=[ ]\d{{1,3}}:\d)",
    _verse,
)


def _code(match: re.Match[str]) -> str | None:
    """Letters and digits that are a name together: i7-9700K -> eye seven ninety seven hundred kay."""
    said = []
    plural = re.search(r"\ds$", match[0])
    for run in re.findall(r"[A-Za-z]+|\d+", match[0].removesuffix("s") if plural else match[0]):
        if run.isdigit():
            five = len(run) == 5 and run[0] != "0" and run.endswith("00")
            said.append(f"{cardinal(int(run[:2]))} {cardinal(int(run[2:]))}" if five else pairs(run))
        elif len(run) < 3 or (run.isupper() and is_spelled(run)) or not re.search("[aeiouyAEIOUY]", run):
            said.append(RESPELLED.get(run.lower()) or spell(run))
        else:
            said.append(run)
    if plural:  # MP3s
        said[-1] = (
            said[-1][:-1] + "ies" if said[-1].endswith("y") else said[-1] + ("es" if said[-1].endswith("x") else "s")
        )
    return f" {' '.join(said)} "


def _serial_number(match: re.Match[str]) -> str | None:
    """1HGCM82633A004352 -> one aitch jee see em eight two ..., if it has three runs or more."""
    runs = re.findall(r"[A-Z]+|\d+", match[0])
    if len(runs) < 3:
        return None
    return f" {' '.join(digits(run) if run.isdigit() else spell(run) for run in runs)} "


def say_reference_number(match: re.Match[str]) -> str:
    """INV-2023-0045 -> eye en vee, two zero two three, zero zero four five."""
    letters = spell(match["letters"]) if is_spelled_or_single(match["letters"]) else match["letters"]
    return f"{letters}, {', '.join(map(digits, match['numbers'].strip('-').split('-')))} "


def say_dashed_code(match: re.Match[str]) -> str | None:
    """C-130 -> see one thirty; H.264 -> aitch two sixty four; X-37B -> ex thirty seven bee."""
    if not is_spelled_or_single(match["letters"]):
        return None
    version = spell(match["version"]) + " " if "version" in match.groupdict() else ""
    return f"{spell(match['letters'])} {pairs(match['number'])} {version}"


def say_tire(match: re.Match[str]) -> str:
    """205/55 R16 91V -> two oh five fifty five are sixteen, ninety one vee; P225/60R17."""
    kind = "pee " if match[0][0] == "P" else ""
    load = f", {cardinal(int(match['load']))} {LETTERS[match['speed'].lower()]}" if match["load"] else ""
    return f" {kind}{pairs(match['width'])} {cardinal(int(match['aspect']))} {spell(match['build'])} {cardinal(int(match['rim']))}{load} "


def say_standard(match: re.Match[str]) -> str:
    """ISO-8859-1 -> ISO eighty eight fifty nine one."""
    name = RESPELLED.get(match["name"].lower()) or (
        spell(match["name"]) if is_spelled(match["name"]) else match["name"]
    )
    number = match["first"] if len(match["first"]) < 5 else match["first"][:2] + " " + match["first"][2:]
    said = " ".join(pairs(part) for part in number.split())
    return f"{name} {said}" + (f" {cardinal(int(match['second']))}" if match["second"] else "")


SERIAL_NUMBER = TokenClass("code number", r"(?=[A-Z]*\d)(?=\d*[A-Z])[A-Z\d]{8,24}(?![\w-])", _serial_number)
CODE_CLASSES = [
    TokenClass("model number", r"(?!\d+[x×]\d)(?:\d{1,5}[A-Za-z]{1,3}\d*|(?:\d{1,4}[A-Z]){2,3}|(?:[A-Z]{1,3}\d{1,4}){2,4}[A-Z]{0,3}|[A-Z]{1,5}\d+[A-Za-z]{0,3}\d*|[A-Z]?[a-z]{1,12}\d+[A-Z]?)(?:-\d+[A-Z]{0,3}|-[A-Z]\d+)*(?!\w|['’](?!s\b)|\.\d)", _code),
]  # fmt: skip
