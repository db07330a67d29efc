"""Tokens that begin with a letter, and the addresses of files: short forms, titles, numerals, acronyms, letters.

Dr. Lee -> doctor Lee;  Henry V -> Henry the fifth;  HDMI -> aitch dee em eye;  vitamin C -> vitamin see
"""

from __future__ import annotations

import re

from llasa_cli.text.lexicon import RESPELLED, is_acronym, is_spelled, is_word
from llasa_cli.text.normalize.number_classes import HEXADECIMAL, VERSE
from llasa_cli.text.normalize.numbers import cardinal, decimal, digits, ordinal, pairs, roman, year
from llasa_cli.text.normalize.token_class import TokenClass, after, before, may_end_sentence
from llasa_cli.text.normalize.vocabulary import (
    ABBREVIATIONS,
    BARE_BEFORE_NUMBERS,
    BARE_TITLES,
    BEFORE_LONG_NUMERALS,
    BEFORE_NAMES,
    BEFORE_NUMBERS,
    BEFORE_NUMERALS,
    CASED_UNITS,
    CHAT,
    COMMANDS,
    CROWNS,
    DAYS_OR_WORDS,
    DIRECTIONS,
    ELEMENTS,
    FUSED_NAMES,
    KEYS,
    LETTER_NOUNS,
    LETTERS,
    MONTH_NAMES,
    NEAR_OPTIONS,
    NEVER_LAST,
    PLACES,
    RULERS,
    SERIES,
    SHORT_EACH,
    SHORT_PERIODS,
    SPELLED_NAMES,
    TITLES,
    UNIT_KINDS,
    UNIT_WORDS,
    UNITS,
    WEEKDAYS,
    WITHOUT_VOWELS,
)

_MONTH = "|".join(sorted(MONTH_NAMES, key=len, reverse=True))
_DAY = "Mon|Tues?|Wed|Thurs?|Thu|Fri|Sat|Sun"
_NAME_BEFORE = re.compile(
    r"\b(?!(?i:in|at|on|to|from|the|and|but|of|for|with|by|near|dear|hi|hello|thanks|yes|no)\b)[A-Z]\w*\s+$"
)
_AND_TITLE = re.compile(r"\.? (?:and|&) (?:Mr|Mrs|Ms|Dr|Miss)\b", re.IGNORECASE)
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
_STARTERS = frozenset(
    "The He She It We They I You But And Then This That These There His Her My Our Their If When Take "
    "In On At As So For With From After Before While Although However Since Because Yes No Not Who What Where Why How".split()
)
"""Words that begin a sentence after "vitamin C.", where no name would."""


def spell(letters: str) -> str:
    """ "CPUs" -> "see pee yous"."""
    plural = len(letters) > 2 and letters.endswith("s") and letters[:-1].isupper()
    names = " ".join(LETTERS[letter.lower()] for letter in (letters[:-1] if plural else letters))
    return names + ("s" if plural else "")


def _capitals(match: re.Match[str]) -> str:
    """A word in capitals, perhaps with an apostrophe: a word, or letters."""
    word, ending = match["word"], match["ending"] or ""
    bare = word.removesuffix("s")
    if ending[1:].upper() in ("T", "RE", "VE", "LL", "D", "M", "EM", "CLOCK"):
        return match[0]
    if word.lower() in RESPELLED:
        return RESPELLED[word.lower()] + ending
    if not is_spelled(bare) or (not is_spelled(bare, shouted=True) and _is_shouted(match)):
        return match[0]
    return spell(word) + ending


def _is_shouted(match: re.Match[str]) -> bool:
    """Whether the words around are in capitals too: "IT IS LATE", "I LOVE IT", but not "the US ARMY said"."""
    left = re.split(r"[.!?:;\n]", before(match, 60))[-1]
    right = re.split(r"[.!?:;\n]", after(match, 60))[0]
    run: list[str] = []
    for words in (re.findall(r"[A-Za-z]+", left)[::-1], re.findall(r"[A-Za-z]+", right)):
        for word in words:
            if not word.isupper():
                break
            run.append(word)
    if run == ["I"] and match[0] == "AM":
        return True
    shouting = any(len(word) > 1 and not is_acronym(word) for word in run)
    return shouting and (len(run) > 1 or not any(character.islower() for character in left + right))


def _joined_capitals(match: re.Match[str]) -> str:
    """AT&T, TCP/IP: letters; YES/NO: words."""
    parts = re.split("[&/]", match[0])
    joint = " and " if "&" in match[0] else " slash " if not any(map(is_spelled_or_single, parts)) else " "
    if "&" in match[0]:
        return joint.join(spell(part) if len(part) < 4 else part for part in parts)
    return joint.join(spell(part) if is_spelled_or_single(part) else part for part in parts)


def is_spelled_or_single(word: str) -> bool:
    return len(word) == 1 or is_spelled(word)


_HUMPS = re.compile(r"[A-Z]+s\b|[A-Z]+(?![a-z])|[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+")


def _mixed_case(match: re.Match[str]) -> str | None:
    """mRNA, ChatGPT: the capitals are letters; ThrowbackThursday: words; but McDonald and iPhone."""
    word, parts = match[0], _HUMPS.findall(match[0])
    if word in SPELLED_NAMES:
        return SPELLED_NAMES[word]
    if word.lower() in FUSED_NAMES:
        return word
    if is_word(word.lower()):  # SpOnGe, FedEx
        return word if len(re.findall("[A-Z]", word)) < 3 else word.lower()
    if re.fullmatch("[A-Z]{3}[a-rt-z]", word):  # IMDb, NVMe
        return spell(word.upper())
    initials = re.fullmatch(r"(?P<name>[A-Z][a-z][A-Z])(?P<plural>s?)", word)
    if initials:  # DoD, IoT
        return spell(initials["name"]) + initials["plural"]
    if parts[0] in ("Mc", "Mac", "Fitz", "La", "De", "Di", "Le", "Van", "Von", "O") and len(parts) == 2:
        return word
    if len(parts[0]) == 1 and parts[0].islower() and len(parts) > 1 and parts[1][1:].islower() and parts[1] != "Ds":
        return word
    said = []
    for part in parts:
        bare = part.removesuffix("s")
        if len(part) == 1 or (bare.isupper() and (len(part) == 2 or is_spelled(bare))):
            said.append(spell(part) if len(part) > 1 else LETTERS[part.lower()])
        else:
            said.append(RESPELLED.get(part.lower(), part))
    return " ".join(said)


_ELEMENT = rf"(?:{ELEMENTS})\d{{0,2}}"
_FORMULA = rf"(?:{_ELEMENT}|\((?:{_ELEMENT})+\)\d{{0,2}}){{2,12}}"


_COMPOUND = re.compile(r"[A-Z].*(?:O|H|Cl|F|Br|S|N|P|C|As|Se|Te)$")
"""Formulas without a count are those of compounds: NaCl, but no HeHe."""


def _formula(match: re.Match[str]) -> str | None:
    """NaCl -> en ay see el; C6H12O6 -> see six aitch twelve oh six. A formula has a symbol of two letters or two counts."""
    written = match["formula"]
    counts = re.findall(r"\d+", written)
    two_letters = re.search(r"[A-Z][a-z]", written) and written not in SPELLED_NAMES
    if not two_letters and len(counts) < 2 and not re.search(r"\(|^C\d?H\d", written):
        return None
    if not counts and (not _COMPOUND.search(written) or is_word(written.lower())):
        return None
    return " ".join(
        cardinal(int(run)) if run.isdigit() else LETTERS[run.lower()] for run in re.findall(r"\d+|[A-Za-z]", written)
    )


def _ion(match: re.Match[str]) -> str:
    """Na+ -> en ay plus; Ca2+ -> see ay two plus."""
    count = f" {cardinal(int(match['count']))}" if match["count"] else ""
    return f"{spell(match['element'].upper())}{count} {'plus' if match['sign'] == '+' else 'minus'}"


def _without_vowel(match: re.Match[str]) -> str | None:
    return None if match[0] in WITHOUT_VOWELS or re.search(r"(.)\1\1", match[0]) else spell(match[0])


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


def _reference_number(match: re.Match[str]) -> str:
    """INV-2023-0045 -> eye en vee, two zero two three, zero zero four five."""
    letters = spell(match["letters"]) if is_spelled_or_single(match["letters"]) else match["letters"]
    return f"{letters}, {', '.join(map(digits, match['numbers'].strip('-').split('-')))} "


def _dashed_code(match: re.Match[str]) -> str | None:
    """C-130 -> see one thirty; H.264 -> aitch two sixty four; X-37B -> ex thirty seven bee."""
    if not is_spelled_or_single(match["letters"]):
        return None
    version = spell(match["version"]) + " " if "version" in match.groupdict() else ""
    return f"{spell(match['letters'])} {pairs(match['number'])} {version}"


def _standard(match: re.Match[str]) -> str:
    """ISO-8859-1 -> ISO eighty eight fifty nine one."""
    name = RESPELLED.get(match["name"].lower()) or (
        spell(match["name"]) if is_spelled(match["name"]) else match["name"]
    )
    number = match["first"] if len(match["first"]) < 5 else match["first"][:2] + " " + match["first"][2:]
    said = " ".join(pairs(part) for part in number.split())
    return f"{name} {said}" + (f" {cardinal(int(match['second']))}" if match["second"] else "")


def _letter(match: re.Match[str]) -> str | None:
    """A letter by its name. The context decides whether "I" and "a" are words, and whether a full stop is an initial's."""
    letter, stop = match["letter"], match["stop"] or ""
    if letter in "Ii" or (letter.upper() == "A" and not _is_letter_a(match)):
        return None
    name = LETTERS[letter.lower()]
    if not stop:
        return name
    following = re.match(r"\s(?:([A-Z][a-z]+)|[A-Z]\b)", after(match))
    named = re.search(r"(?:^|[(\"“‘—–-]|\b[A-Z]\w*\.?\s|[A-Z]\.)$", before(match))
    initial = letter.isupper() and following and following[1] not in _STARTERS and named
    double = letter.isupper() and re.match(r"\s[A-Z]\.\s[A-Z][a-z]", after(match))  # J. K. Rowling
    species = re.match(r"\s(?:[a-z]{2,}(?:i|us|is|um|ae|ans|ens)|rex|diff)\b", after(match))  # E. coli
    return name if initial or double or (species and letter.isupper()) else name + stop


def _is_letter_a(match: re.Match[str]) -> bool:
    start, following = before(match), match.string[match.start() + 1 : match.start() + 12]
    if match["letter"] == "a":
        return bool(re.match(r"[.)]\s", following) and re.search(r"(?:^|[\n(])\s*$", start))
    if re.match(r"[-–—+#&](?!\s)", following) or re.match(
        r"\.(?:\s|$)|(?:,|,?\s(?:to|and|or|through|vs\.?))\s[B-Z]\b", following
    ):
        return True
    if re.match(r"\s(?:positive|negative)(?:$|[.,;:!?)])", after(match, 11)) and re.search(r"\w\s$", start):
        return True  # of a blood group
    word = re.search(r"([A-Za-z]+)\s$", start)
    if word and word[1].lower() in LETTER_NOUNS:
        return True
    return bool(start.strip() and re.match(r"\s?(?:$|[,;:!?)\]\"”]|['’]s\b)", following))


def _letter_range(match: re.Match[str]) -> str:
    """A–Z -> ay to zee; but "I-I don't know"."""
    if match[1] == match[2]:
        return match[0]
    return f"{LETTERS[match[1].lower()]} to {LETTERS[match[2].lower()]}"


_LIST_JOINT = r"(?:,|,?\s(?:and|or|through|to|&)|\s?[-–/])\s?"
_NUMERAL_BEFORE = re.compile(rf"(?<![\w'’])(?P<numeral>[IVX]{{1,6}}){_LIST_JOINT}$")
_NUMERAL_AFTER = re.compile(rf"{_LIST_JOINT}(?P<numeral>[IVX]{{1,6}})(?![\w'’]|\.\w)")
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


def _small_numeral(match: re.Match[str]) -> str | None:
    """page xii -> page twelve; (ii) -> two."""
    number = roman(match[0].upper())
    if number is None:
        return None
    listed = after(match, 1) == ")" and re.search(
        r"(?:^|\s|[)\d])\($" if match[0] in ("i", "v") else r"[\w,;]\s\($|^\($|[)\d]\($", before(match, 3)
    )
    if match[0] == "x":
        listed = None
    placed = re.search(
        r"\b(?:[Pp]ages?|[Pp]{1,2}\.|[Pp]art|[Cc]hapter|[Vv]olume|[Bb]ook|[Ss]cene|[Ss]c\.|[Aa]ct|[Ii]tem|[Cc]lause)\s$",
        before(match, 9),
    )
    beside = len(match[0]) > 1 and re.search(rf"(?<!\w)[ivx]{{1,5}}{_LIST_JOINT}$", before(match, 16))
    first = re.match(rf"{_LIST_JOINT}[ivx]{{2,5}}(?!\w)", after(match, 16)) and not after(match, 3).startswith(
        (" to", " th")
    )
    return cardinal(number) if listed or (placed and len(match[0]) > 1) or beside or first else None


def _numeral(match: re.Match[str]) -> str | None:
    """Chapter IX -> chapter nine; Henry V -> Henry the fifth; but "the book I read" and "Malcolm X"."""
    written, word = match[0], re.search(r"(?P<crown>[A-Za-z]+\s)?\b(?P<word>[A-Za-z]+)\.?\s$", before(match))
    number = roman(written)
    if number is None:
        return None
    if len(written) > 1 and re.match(r"(?:th)?\s(?:century|centuries|dynasty)\b", after(match), re.IGNORECASE):
        return ordinal(number)
    listed = _is_in_list(match, number)
    if word is None:
        return cardinal(number) if listed else None
    previous = word["word"].lower()
    previous = BEFORE_NUMBERS.get(previous, previous)
    pronoun = number == 1 and _PRONOUN.match(match.string, match.end())
    if previous in BEFORE_NUMERALS and re.fullmatch(r"[IVX][IVXL]*|L[IVX]+", written):
        is_one = not pronoun if word["word"][0].isupper() else _ONE.match(match.string, match.end())
        return cardinal(number) if number > 1 or is_one else None
    if listed and not (previous in RULERS and word["word"][0].isupper()):
        ruler = re.search(rf"\b(?P<name>[A-Z][a-z]+) [IVX]+{_LIST_JOINT}$", before(match, 40))
        return f"the {ordinal(number)}" if ruler and ruler["name"].lower() in RULERS else cardinal(number)
    if len(written) > 1 and previous in BEFORE_LONG_NUMERALS:
        return cardinal(number)
    if previous in SERIES and word["word"][0] not in "abcdefghjklmnopqrstuvwxyz" and written in ("V", "X"):
        return cardinal(number)
    crowned = (word["crown"] or "").strip().lower() in CROWNS and word["word"][0].isupper()
    if (previous in RULERS and word["word"][0].isupper()) or crowned:
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
    if person and len(written) > 1 and number < 7 and (person["first"] or "mr").lower() in RULERS | {"mr"}:
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


def _title(match: re.Match[str]) -> str | None:
    """Mr Lee, Mr and Mrs Brown, St Paul; but "Main St Then"."""
    word = match["title"]
    small = word.lower()
    if small not in BARE_TITLES or (word.isupper() and small not in ("mr", "mrs", "dr", "prof", "capt", "sgt")):
        return None
    if small in ("st", "dr") and _NAME_BEFORE.search(before(match, 30)) and not _AND_TITLE.match(after(match, 12)):
        return PLACES[small]
    return TITLES[small]


_PLACE = rf"(?:{'|'.join(name.title() for pair in PLACES.items() for name in pair)}|Way)"
_COUNTRY = re.compile(
    r"\s(?:Korea|Africa|America|Ireland|Dakota|Carolina|Sudan|Vietnam|Macedonia|Germany|Berlin|Virginia|Europe|Asia)\b"
)
_OF_A_DAY = re.compile(r"\s(?:at|from|and|or|night|morning|afternoon|evening|through|thru|to)\b|\s&")
_DIRECTION = r"(?:[NS]\.?[EW]\b\.?|[NSEW]\b\.?)"


def _business_date(match: re.Match[str]) -> str:
    """Q4'23 -> cue four twenty three."""
    part = f" {cardinal(int(match['part']))}" if match["part"] else ""
    return f"{spell(match['kind'])}{part} {'oh ' if match['year'][0] == '0' else ''}{cardinal(int(match['year']))}"


_YOU_ARE = re.compile(
    r"\s(?:so|not|an?|the|welcome|right|wrong|cute|funny|too|very|just|gonna|going|still|my|such|[a-z]+ing)\b"
)


def _place_stop(match: re.Match[str]) -> str:
    """The full stop after "Elm St.", where the sentence ends: not before "Elm St. NW"."""
    return "." if may_end_sentence(match) and not re.match(rf"\s{_DIRECTION}", after(match, 6)) else ""


def _direction(match: re.Match[str]) -> str | None:
    """5th Ave. NW -> fifth avenue northwest; 12 N. Main St. -> twelve north Main street."""
    name = DIRECTIONS[match[0].replace(".", "").lower()]
    if re.search(rf"(?:[A-Za-z]|\d(?:st|nd|rd|th))\s{_PLACE}\b\.?,?\s$", before(match, 18)):
        return name + ("." if match[0].endswith(".") and may_end_sentence(match) else "")
    degrees = re.search(r"°\s?$|\b(?:I|US|SR|CR|Hwy|Rte|Route|Highway)\.?[ -]\d{1,3}\s$", before(match, 14))
    wind = len(name) > 5 and (
        re.match(r"\s(?:winds?|of|corner|side|coast|quadrant|wall)\b", after(match))
        or re.search(r"\b(?:the|from|heading|headed|facing|mph|due|km/h)\s$", before(match, 9))
    )
    if degrees or wind:
        return name
    if _COUNTRY.match(match.string, match.end()):
        return name
    if re.match(rf"\s\d+(?:st|nd|rd|th)\s{_PLACE}\b", after(match)):
        return name
    numbered = re.search(r"\d(?:-?[A-Z])?\s$", before(match, 4))
    return (
        name
        if numbered and re.match(rf"\s(?:\d+(?:st|nd|rd|th)|[A-Z][a-z]+)(?:\s[A-Z][a-z]+)?\s{_PLACE}\b", after(match))
        else None
    )


def _floor(match: re.Match[str]) -> str:
    return "floor" + ("." if match[0].endswith(".") and may_end_sentence(match) else "")


def _option(match: re.Match[str]) -> str | None:
    """`git commit -m` -> dash em; --all -> dash dash all. Elsewhere a dash is punctuation."""
    words = re.findall(r"[\w.]+|`", before(match, 80))
    following = re.match(r"['\"’”`]?\s(?:flags?|options?|switch|arguments?|parameters?)\b", after(match, 14))
    quoted = re.search(r"[\"'‘“`]$", before(match, 1)) and re.match(r"[\"'’”`]", after(match, 1))
    name, is_long = match["name"], match["dashes"] == "--"
    clues = (
        COMMANDS if not is_long and (len(name) > 2 or (len(name) > 1 and is_word(name))) else COMMANDS | NEAR_OPTIONS
    )
    first = is_long and name.islower() and not before(match).strip()
    if not (following or quoted or first or any(word.lower() in clues or word == "`" for word in words)):
        return None
    said = spell(name) if len(name) < 4 and (not is_word(name) or len(name) < 3) else name.replace("-", " ")
    return f"{'dash dash' if is_long else 'dash'} {said}"


def _key(match: re.Match[str]) -> str | None:
    """Ctrl+C -> control plus see; Cmd/Ctrl -> command or control; Alt and Del only beside another key."""
    beside = re.match(r"\s?\+\s?\w|-[A-Z]|/[A-Z]", match.string[match.end() - len(match["joint"] or "") :][:4])
    if (
        not beside
        and not re.search(r"[a-z]\s?[+/-]$", before(match, 3))
        and match["key"] not in ("Ctrl", "Cmd", "Esc", "Fn")
    ):
        return None
    other = match["joint"] and re.match(rf"(?i:{'|'.join(KEYS)})\b", after(match, 6))
    return KEYS[match["key"].lower()] + (" or " if other else " slash " if match["joint"] else "")


def _unit_name(match: re.Match[str]) -> str:
    """A unit without an amount: measured in kWh -> kilowatt-hours; a MHz -> a megahertz."""
    one, many = CASED_UNITS.get(match[0]) or UNITS[match[0].lower()]
    noun = re.match(
        r"\s(?:scale|levels?|range|rates?|limit|meter|readings?|values?|band|mark|output|display)\b", after(match)
    )
    return one if noun or re.search(r"\b(?:per|an?|each|every|one)\s$|/$", before(match, 6)) else many


def _rate(match: re.Match[str]) -> str | None:
    """MB/s -> megabytes a second."""
    size = match["size"].replace("i", "") if len(match["size"]) > 2 else match["size"]
    prefixes = {"k": "kilo", "K": "kilo", "M": "mega", "G": "giga", "T": "tera", "": ""}
    bits = re.fullmatch("([kKMGT]?)(B|b|bit)", size)
    many = prefixes[bits[1]] + ("bytes" if bits[2] == "B" else "bits") if bits else UNITS[match["size"]][1]
    return f"{many} {'an' if match['each'] in ('h', 'hr') else 'a'} {SHORT_EACH[match['each']]}"


def _grade(match: re.Match[str]) -> str:
    return f"{spell(match['letters'])} minus"


def _abbreviation(match: re.Match[str]) -> str | None:
    """A shortened word with its full stop -> the word; with the full stop still where it ends the sentence too."""
    written = match[0][:-1]
    if written in ("EST", "ET", "MED", "SEC", "DIR", "COL", "REF"):  # in capitals they are time zones and agencies
        return None
    word, following = written.lower(), after(match, 20).lstrip()[:1]
    capital = written[0].isupper()
    if word in ("mr", "mrs", "dr", "prof") and _AND_TITLE.match(match.string, match.end()):
        return TITLES[word]
    if word in ("rm", "bldg", "apt", "ste", "fig", "app", "sec", "pt", "vol", "term", "vit") and re.match(
        r"\s(?:[A-HJ-Z](?![\w'’])|[A-Z]\d)", after(match, 3)
    ):
        return BEFORE_NUMBERS.get(word) or ABBREVIATIONS[word]
    if word == "ed" and re.search(r"\d(?:st|nd|rd|th)\s$", before(match, 5)):
        return "edition" + ("." if may_end_sentence(match) else "")
    if word == "incl" and (not following or after(match).startswith(" in ")):
        return "included" + ("" if following else ".")
    if word in ("sr", "jr") and following.isupper() and not _NAME_BEFORE.search(before(match, 30)):
        return ABBREVIATIONS[word]
    if capital and word in ("sgt", "lt", "capt") and following.isdigit():
        return TITLES[word]
    if capital and word in TITLES and following.isupper():
        named = _NAME_BEFORE.search(before(match, 30))
        # "Elm St. Then" or "to St. Paul's": a name before a place, none before a saint.
        return PLACES[word] + _place_stop(match) if named and word in PLACES else TITLES[word]
    if capital and word in PLACES and (not following.isdigit() or word not in BEFORE_NUMBERS):
        return PLACES[word] + _place_stop(match)
    if (
        word in WEEKDAYS
        and capital
        and (
            word not in DAYS_OR_WORDS
            or following.isdigit()
            or following == ","
            or _OF_A_DAY.match(match.string, match.end())
        )
    ):
        return WEEKDAYS[word]
    if word == "fl" and re.match(r"\s1\d{3}\b", after(match, 6)):
        return "flourished"
    if word == "est" and re.search(r"[\d%]\s$", before(match, 2)):
        return "estimated" + ("." if may_end_sentence(match) else "")
    if word == "inc" and not capital and not before(match, 2).endswith(", "):
        return "including"
    if word in ("b", "d") and re.match(rf"\s(?:{_MONTH})\b", after(match)):
        return BEFORE_NUMBERS[word]
    if word == "pop" and following.islower() and re.search(r"\b(?:the|its|a)\s$", before(match, 4)):
        return "population"
    if word == "cent" and re.search(r"\d(?:st|nd|rd|th)\s$", before(match, 5)):
        return "century"
    if word == "cat" and not capital:
        return None
    if word in ("p", "pp") and re.match(r"\s[ivx]{1,6}\b", after(match, 8)):
        return BEFORE_NUMBERS[word]
    if word in BEFORE_NUMBERS and after(match, 3).startswith(" #"):
        return BEFORE_NUMBERS[word]
    numbered = (
        following.isdigit()
        or bool(written in MONTH_NAMES and re.match(r"\s['’]\d\d(?!\d)", after(match, 4)))
        or bool(word == "no" and re.match(r"\s[A-Z]{1,4}-?\d", after(match, 8)))
        or bool(word in ("eq", "eqs", "fig", "figs", "ref", "refs") and re.match(r"\s\(\d", after(match, 3)))
        or bool(
            re.match(r"\s?(?:[IVXL]+|[ivx]{2,5})\b", after(match, 8))
            and {word, BEFORE_NUMBERS.get(word)} & BEFORE_NUMERALS
        )
    )
    if word in ("b", "d", "r", "c") and numbered and not re.match(r"\s?\d{3,4}(?!\d)", after(match, 6)):
        return None
    if word == "c" and re.search(r"\d(?:st|nd|rd|th)\s$", before(match, 5)):
        is_era = re.match(r"\s(?:B\.?C|A\.?D|C\.?E)\b", after(match, 5))
        return "century" + ("." if may_end_sentence(match) and not is_era else "")
    if capital and word in TITLES and re.match(r"-[A-Z]", after(match, 2)):
        return TITLES[word]
    if (
        word in BEFORE_NUMBERS
        and not (capital and len(word) == 1 and word in "nsew")
        and (numbered or (word == "no" and re.match(r" of (?!(?:course|them|it|us|you)\b)", after(match))))
    ):
        return BEFORE_NUMBERS[word] + ("" if after(match, 1).isspace() else " ")
    if word == "dev" and re.search(r"\bstd\.?\s$", before(match, 6), re.IGNORECASE):
        return "deviation" + ("." if may_end_sentence(match) else "")
    if word == "vol" and following.islower():
        return "volume"
    if word == "min" and following.islower() and not re.search(r"\d\s?$", before(match, 3)):
        return "minimum"
    said = ABBREVIATIONS.get(word)
    if said is None:
        return None
    if word in NEVER_LAST or (
        capital and word in BEFORE_NAMES and re.match(r"\s[A-Z]", after(match, 2)) and not _starts(match)
    ):
        return said
    return said + "." if may_end_sentence(match) else said


def _starts(match: re.Match[str]) -> bool:
    """Whether the next word is one that begins a sentence."""
    word = re.match(r"\s([A-Za-z]+)", after(match))
    return word is not None and word[1] in _STARTERS


def _dotted_letters(match: re.Match[str]) -> str | None:
    """U.S. -> you ess; e.g. -> for example; a.m. -> ay em."""
    return _abbreviation(match) or spell(match[0].replace(".", "")) + (
        "." if may_end_sentence(match) and (not re.match(r"\s?[A-Z]", after(match, 2)) or _starts(match)) else ""
    )


def _before_number(match: re.Match[str]) -> str | None:
    word = match[0].lower()
    if word not in BARE_BEFORE_NUMBERS or re.search(r"\d\s?$", before(match, 3)):
        return None
    return BEFORE_NUMBERS[word]


def _month(match: re.Match[str]) -> str | None:
    """Jan. 5-7 -> January fifth to seventh."""
    if match["to_month"]:
        return f"{MONTH_NAMES[match['month']]} to {MONTH_NAMES[match['to_month']]}"
    short = match["month"] not in MONTH_NAMES.values()
    if match["day"] is None:
        if not short:
            return None
        numbered = re.match(r"\s\d", after(match, 2)) or re.search(r"\d\s$", before(match, 2))
        if not numbered and not (
            match["stop"] and re.search(r"\b(?:in|of|since|by|until|last|next|this|and|to)\s$", before(match, 8))
        ):
            return None
        stop = "." if match["stop"] and may_end_sentence(match) else ""
        return MONTH_NAMES[match["month"]] + stop
    until = f" to {ordinal(int(match['until']))}" if match["until"] else ""
    return f"{MONTH_NAMES[match['month']]} {ordinal(int(match['day']))}{until}"


def _weekday(match: re.Match[str]) -> str | None:
    if match["to"]:
        return f"{WEEKDAYS[match['day'].lower()]} to {WEEKDAYS[match['to'].lower()]}"
    following = after(match, 12)
    if re.match(rf",\s(?:{_MONTH})\b", following):
        return WEEKDAYS[match["day"].lower()]
    weekend = match["day"] in ("Sat", "Sun")
    dated = rf",?\s\d\d?\s(?:{_MONTH})\b" if weekend else r",?\s\d"
    return WEEKDAYS[match["day"].lower()] if re.match(dated, following) else None


_URL_SIGNS = {
    ".": "dot",
    "/": "slash",
    "@": "at",
    "-": "dash",
    ":": "colon",
    "\\": "backslash",
    "&": "and",
    "=": "equals",
    "~": "tilde",
    "+": "plus",
    "?": "question mark",
    "#": "hash",
    "%": "percent",
}


def _address(match: re.Match[str]) -> str:
    """bob@example.com -> bob at example dot com; /etc/hosts -> slash etc slash hosts."""
    written = re.sub(r"^(?:https?://)?(?:www\.)?", "", match["address"]).rstrip("/") or match[0]
    said = []
    for part in re.findall(r"[A-Za-z]+|\d+|[^\w\s]", written):
        if part.isdigit():
            said.append(decimal(part))
        elif not part.isalpha():
            said.append(_URL_SIGNS.get(part, ""))
        elif len(part) == 1:
            said.append(LETTERS[part.lower()])
        elif not re.search("[aeiouyAEIOUY]", part) or (part.isupper() and is_spelled(part)):
            said.append(spell(part.lower()))
        else:
            said.append(part)
    return f" {' '.join(word for word in said if word)}{match['end']} "


def _note(match: re.Match[str]) -> str:
    """B♭ -> bee flat; F#m7 -> eff sharp minor seven."""
    kind = {None: "", "maj": " major"}.get(match["kind"], " minor")
    seventh = f" {cardinal(int(match['seventh']))}" if match["seventh"] else ""
    return f"{LETTERS[match['note'].lower()]} {'flat' if match['sign'] == '♭' else 'sharp'}{kind}{seventh}"


def _world_war(match: re.Match[str]) -> str:
    return f"World War {cardinal(int(match[1])) if match[1] else cardinal(len(match[2]))}"


CHAT_WITH_DIGIT = TokenClass("chat", r"2(?:nite|day|moro|morrow)\b", lambda m: CHAT[m[0]])
SERIAL_NUMBER = TokenClass("code number", r"(?=[A-Z]*\d)(?=\d*[A-Z])[A-Z\d]{8,24}(?![\w-])", _serial_number)
CODE_CLASSES = [
    TokenClass("model number", r"(?!\d+[x×]\d)(?:\d{1,5}[A-Za-z]{1,3}\d*|[A-Z]{1,5}\d+[A-Za-z]{0,3}\d*|[A-Z]?[a-z]{1,12}\d+[A-Z]?)(?:-\d+[A-Z]{0,3}|-[A-Z]\d+)*(?!\w|['’](?!s\b)|\.\d)", _code),
]  # fmt: skip
_END = r"(?P<end>(?=[.,;:!?)\]\"”'’>]*(?:\s|$)|\())"
ADDRESS_CLASSES = [
    TokenClass("address", rf"(?<![\w.-])(?P<address>(?:localhost|[a-z][\w-]{{0,63}}(?:\.[\w-]{{1,63}}){{1,5}}):\d{{2,5}}(?:/[\w./-]{{0,200}}\w)?){_END}", _address),
    TokenClass("option", r"""(?<![^\s`"'(\[])(?P<dashes>--?)(?P<name>[A-Za-z][\w-]*)""", _option),
    TokenClass("address", rf"(?P<address>(?:https?://|www\.)[^\s<>\"“”]{{1,300}}?){_END}", _address),
    TokenClass("address", rf"(?<![\w.+@-])(?P<address>[\w.+-]{{1,64}}@[\w-]{{1,63}}(?:\.[\w-]{{1,63}}){{1,8}}){_END}", _address),
    TokenClass("address", rf"(?<![\w/~.])(?P<address>(?:~|\.{{1,2}})?/(?:[\w.-]{{1,64}}/){{0,12}}\.?[A-Za-z_][\w-]{{0,64}}(?:\.\w{{1,12}}){{0,4}}/?(?:\?[\w=&%.+-]{{1,200}})?){_END}", _address),
    TokenClass("address", rf"(?P<address>[A-Z]:\\[\w\\.-]{{0,200}}\w){_END}", _address),
    TokenClass("address", rf"(?<![\w.-])(?P<address>[\w-]{{0,63}}\w(?:\.(?:[a-z][a-z0-9-]{{1,63}}|[ch](?!\w)|[A-Z]{{2,6}}(?![a-z]))){{1,8}}(?:/[\w./?=&%#-]{{0,200}}\w)?){_END}", _address),
    TokenClass("address", rf"(?<![\w.])(?P<address>\.(?:[A-Z]{{2,6}}|[a-z]{{2,5}}|[a-z]{{2,12}}(?:rc|ignore|config|profile|history|lock)|env\.[a-z]{{2,10}})\b(?!\.\w)){_END}", _address),
]  # fmt: skip
WORD_CLASSES = [
    HEXADECIMAL,
    VERSE,
    SERIAL_NUMBER,
    TokenClass("dose", r"q\.?(?P<hours>\d{1,2})(?:[-–](?P<most>\d{1,2}))?h(?:rs?)?\b", lambda m: f"every {cardinal(int(m['hours']))} {'to ' + cardinal(int(m['most'])) + ' ' if m['most'] else ''}hours"),
    TokenClass("model number", r"(?P<name>[A-Z][a-z]{2,12})-(?P<number>[1-9]\d\d)(?![\w-]|[.,]\d)", lambda m: f"{m['name']} {pairs(m['number'])} "),
    TokenClass("code number", r"(?P<letters>[A-Z]{2,5})(?P<numbers>-\d{2,6}(?:-\d{2,6})+)(?![\w-])", _reference_number),
    TokenClass("title", r"Ph\.?\s?D(s?)\b\.?", lambda m: f"pee aitch dee{m[1]}" + ("." if m[0].endswith(".") and may_end_sentence(m) and not after(m, 2).strip() else "")),
    TokenClass("abbreviation", r"(?:[A-Za-z]\.){2,}(?!\w)", _dotted_letters),
    *ADDRESS_CLASSES,
    TokenClass("currency", r"Rs\b\.?\s?(?P<amount>\d[\d,]*(?:\.\d+)?)(?:/-)?", lambda m: f"{decimal(m['amount'])} {'rupee' if m['amount'] == '1' else 'rupees'} "),
    TokenClass("roman numeral", r"WW(?:([12])|(I{1,2}))\b", _world_war),
    TokenClass(
        "date",
        rf"""(?P<month>{_MONTH})\b(?P<stop>\.?)(?:\s?[-–]\s?(?P<to_month>{_MONTH})\b\.?(?:(?!\s?\d)|(?=\s\d{{4}}\b))
        |[ ](?P<day>0?[1-9]|[12]\d|3[01])(?:\s?[-–]\s?(?P<until>\d\d?)(?!\w|[-/:.,]\d)|(?![\w:%]|[.,]\d|\s?(?:[ap]\.?m\b|percent)|\s?[-–]\s?\d(?!\d?\s(?:{_MONTH})))))?""",
        _month,
    ),
    TokenClass("date", rf"(?P<day>{_DAY})\b\.?\s?[-–]\s?(?P<to>{_DAY})\b(?:\.(?=\s?[a-z\d,;)]))?|(?P<only>(?P=day))?(?!)", _weekday),
    TokenClass("date", rf"(?P<day>{_DAY})\b(?P<to>)", _weekday),
    TokenClass("title", r"(?P<title>[A-Z][A-Za-z]+)(?=[ ][A-Z]|[ ](?:and|&|AND)[ ](?:M[Rr]|M[Rr][Ss]|M[Ss]|D[Rr]|Miss)\b)", _title),
    TokenClass("model number", r"(?P<letters>[A-Z])\.(?P<number>\d{3})(?![\w-]|\.\d)", _dashed_code),
    TokenClass("abbreviation", r"[A-Za-z]+\.", _abbreviation),
    TokenClass("abbreviation", r"(?<=[a-z][ ])(?:St|Ave|Rd|Blvd)\b(?!\.)", lambda m: PLACES[m[0].lower()]),
    TokenClass("abbreviation", r"[A-Za-z]+(?=[ ]\d)", _before_number),
    TokenClass("abbreviation", r"(?<=\w[ ])v\.?(?=[ ][A-Z])|[Vv]s\b\.?", lambda m: "versus"),
    TokenClass("abbreviation", r"etc\b(?!\.)", lambda m: "et cetera"),
    TokenClass("title", r"M\.(?=\s(?:de|du|des|le|la)\s)", lambda m: "monsieur"),
    TokenClass("abbreviation", r"w/in\b", lambda m: "within"),
    TokenClass("abbreviation", r"w/e\b", lambda m: "whatever"),
    TokenClass("chat", r"(?<!\d[ ])bc\b(?=[ ][a-z])", lambda m: "because"),
    TokenClass("abbreviation", r"[wW]/o(?:ut)?(?![\w/])", lambda m: "without"),
    TokenClass("abbreviation", r"[aA]dd['’]l\b|[iI]nt['’]l\b|[gG]ov['’]t\b|[aA]ss['’]n\b|[dD]ep['’]t\b", lambda m: {"a": "additional", "i": "international", "g": "government", "d": "department"}[m[0][0].lower()] if m[0][1] != "s" else "association"),
    TokenClass("key", rf"(?P<key>(?i:{'|'.join(KEYS)}))\b(?P<joint>/)?", _key),
    TokenClass("direction", _DIRECTION, _direction),
    TokenClass("floor", r"(?<=(?:st|nd|rd|th)[ ])[Ff]lr?\b\.?", _floor),
    TokenClass("formula", rf"(?P<formula>{_FORMULA})(?![\w'’])", _formula),
    TokenClass("formula", r"(?P<element>Na|K|Ca|Mg|Cl|Fe|Cu|Zn|Li|Al|Ag|Pb)(?P<count>[2-4])?(?P<sign>[+-])(?![\w+-])", lambda m: _ion(m) if len(m["element"]) > 1 or m["count"] else None),
    TokenClass("unit", r"(?P<size>[kKMGT]?i?[Bb]|[kKMGT]bit|km|mi)/(?P<each>s|sec|h|hr|min)\b", _rate),
    TokenClass("abbreviation", r"[nN]/[aA](?!\w)", lambda m: "en ay"),
    TokenClass("unit", rf"(?:{'|'.join(UNIT_WORDS)})\b", _unit_name),
    TokenClass("letter", r"v(?=\d+(?:\.\d+)+\b)", lambda m: "vee "),
    TokenClass("letter", r"(?P<letters>[A-D]{1,3}|[FO]|AB)-(?=[\"'’”.,;:!?)]|\s|$)", lambda m: _grade(m) if not re.match(rf"\s(?:(?:and|or|to|&)\s[A-Z]-|(?!or\b|at\b|and\b|av|by\b|for\b)(?i:{m['letters'][0]}))", after(m, 12)) and not re.search(r"\w-$", before(m, 2)) else None),
    TokenClass("abbreviation", r"[wW]/(?=\s|\w{3})", lambda m: "with "),
    TokenClass("abbreviation", r"c/o\b", lambda m: "care of"),
    TokenClass("abbreviation", r"b/c\b", lambda m: "because"),
    TokenClass("title", r"LL\.?([BMD])\b\.?", lambda m: f"el el {LETTERS[m[1].lower()]}" + ("." if m[0].endswith(".") and may_end_sentence(m) else "")),
    TokenClass("title", r"([BM])\.?Sc\b\.?", lambda m: f"{LETTERS[m[1].lower()]} ess see" + ("." if m[0].endswith(".") and may_end_sentence(m) else "")),
    TokenClass("abbreviation", r"y/o\b", lambda m: "year old" if re.search(r"\ban? \d+ $", before(m, 8)) else "years old"),
    TokenClass("abbreviation", r"(?:h/o|f/u|r/o|s/p)\b(?!/)", lambda m: {"h": "history of", "f": "follow up", "r": "rule out", "s": "status post"}[m[0][0]]),
    TokenClass("abbreviation", r"(?<![\w/])([qmwy])/\1(?![\w/])", lambda m: f"{SHORT_PERIODS[m[1]]} over {SHORT_PERIODS[m[1]]}"),
    TokenClass("abbreviation", r"No(?=\d{1,3}(?!\w))", lambda m: "number "),
    TokenClass("abbreviation", r"(?P<letters>(?:[A-Z]\.){2,4})s\b", lambda m: spell(m["letters"].replace(".", "")) + "s"),
    TokenClass("abbreviation", r"AA(?P<third>A)?(?=(?:/AAA)?\s(?:batter|cell))", lambda m: "triple ay" if m["third"] else "double ay"),
    TokenClass("chat", rf"(?:{'|'.join(CHAT)}|{'|'.join(word.title() for word in CHAT if word != 'ur')})\b(?![/.]\w|['’-])", lambda m: "you're" if m[0] == "ur" and _YOU_ARE.match(m.string, m.end()) else CHAT[m[0].lower()]),
    TokenClass("date", r"FY\s?(?P<first>(?:19|20)\d\d)(?:[/–-](?P<second>\d\d))?(?![\w/-])", lambda m: f"eff why {year(int(m['first']))} {('oh ' if m['second'][0] == '0' else '') + cardinal(int(m['second'])) if m['second'] else ''} "),
    TokenClass("date", r"(?P<kind>Q|FY|H)(?P<part>[1-4])?['’](?P<year>\d\d)\b", _business_date),
    TokenClass("abbreviation", r"([aA]nd|[eE]ither)/or\b|([yY]es|[tT]rue)/(?=(?:no|false)\b)|((?i:he|she|him|his|her))/(?=(?:he|she|him|hers?|his|they|them|their)\b)", lambda m: f"{m[1]} or" if m[1] else f"{m[2] or m[3]} or "),
    TokenClass("unit", r"(?<=\bper[ ])(?P<kind>(?:sq|cu)\.?[ ])?(?P<each>[a-z]{1,3})\b(?:\.(?=\s[a-z]))?", lambda m: (UNIT_KINDS[m["kind"][:2]] if m["kind"] else "") + SHORT_EACH[m["each"]] if m["each"] in SHORT_EACH else None),
    TokenClass("unit", r"m/s\b", lambda m: "meters a second"),
    TokenClass("letter", r"f/(?=\d)", lambda m: "eff "),
    TokenClass("direction", r"(?:NN|SS|WN|WS|EN|ES)[EW]\b|(?:WN|WS|EN|ES)[NEWS]?\b(?!)", lambda m: DIRECTIONS.get(m[0].lower())),
    TokenClass("model number", r"(?P<letters>[A-Z]{1,4})-(?P<number>\d{1,4})(?P<version>[A-Z]{1,2})(?![\w-]|\.\d)", _dashed_code),
    TokenClass("formula", r"(?P<name>[fgh])\((?P<variable>[a-z])\)", lambda m: f"{LETTERS[m['name']]} of {LETTERS[m['variable']]}"),
    TokenClass("letter", r"O-O(?P<long>-O)?(?![\w-])", lambda m: f"castles {'queenside' if m['long'] else 'kingside'}"),
    TokenClass("roman numeral", r"[ivx]{1,6}\b(?!\.\w|['’])", _small_numeral),
    TokenClass("roman numeral", r"[IVXLC]+\b(?!\.\w|['’](?:m|d|ll|ve)\b)", _numeral),
    TokenClass("roman numeral", r"([IVXLC]{2,})(?:st|nd|rd|th)\b", lambda m: ordinal(number) if (number := roman(m[1])) else None),
    TokenClass("letter", r"(?P<note>[A-Ga-g])(?P<sign>[\#♯♭])(?P<kind>maj|min|m)?(?P<seventh>[679])?(?!\w)", _note),
    TokenClass("acronym", r"[A-Z]{1,5}(?:[&/][A-Z]{1,5}){1,3}(?![\w/&]|\.\w)", _joined_capitals),
    TokenClass("model number", r"(?P<name>ISO|IEC|RFC|IEEE|MIL|DIN|EN|ANSI|UL)[ -](?P<first>\d{2,5})(?:-(?P<second>\d{1,4}))?(?![\w-]|\.\d)", _standard),
    TokenClass("model number", r"(?P<letters>[A-Z]{1,4})-(?P<number>\d{3})(?![\w-]|\.\d)", _dashed_code),
    TokenClass("abbreviation", r"(?<=\d[ ])ff\b\.?", lambda m: "and following" + ("." if m[0].endswith(".") and may_end_sentence(m) else "")),
    TokenClass("capitals", r"(?P<word>[A-Z]{2,}s?)(?P<ending>['’](?:[A-Z]{1,2}|s|CLOCK)\b)?(?![\w])", _capitals),
    TokenClass("capitals", r"(?P<word>[A-Z])(?P<ending>['’](?:M|D|LL|VE|CLOCK|RE)\b)", lambda m: m[0]),
    TokenClass("acronym", rf"(?:{'|'.join(SPELLED_NAMES)})\b", lambda m: SPELLED_NAMES[m[0]]),
    TokenClass("acronym", r"IPv([46])\b", lambda m: f"eye pee vee {cardinal(int(m[1]))}"),
    TokenClass("acronym", r"(?:[a-z]+[A-Z]|[A-Z]+[a-z]+[A-Z]|[A-Z]{2,}[a-z]{2,}|[A-Z]{3}[a-rt-z]\b)[A-Za-z]*\b", _mixed_case),
    *CODE_CLASSES,
    TokenClass("stammer", r"(?P<letter>[B-DF-HJ-NP-TV-Zb-df-hj-np-tv-z])-(?=(?i:(?P=letter))[A-Za-z-])(?!(?i:boys?|clamps?|class|day|tops?|town)\b)", lambda m: m["letter"] + "uh-"),
    TokenClass("letter", r"([A-Za-z])\s?[-–—]\s?([A-Za-z])(?![\w'’-])(?<=[A-Z])|([a-z])(?!)", _letter_range),
    TokenClass("letter", r"(?<![\w.]['’])(?P<letter>[A-Za-z])(?P<stop>\.(?!\w))?(?![\w])(?!['’](?!s\b))", _letter),
    TokenClass("acronym", r"(?<![\w'’-])[b-df-hj-np-tv-xz]{2,5}\b(?!['’])", _without_vowel),
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
