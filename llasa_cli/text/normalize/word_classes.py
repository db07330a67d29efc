"""Tokens that begin with a letter, and the addresses of files: short forms, titles, numerals, acronyms, letters.

Dr. Lee -> doctor Lee;  Henry V -> Henry the fifth;  HDMI -> aitch dee em eye;  vitamin C -> vitamin see
"""

from __future__ import annotations

import re

from llasa_cli.text.lexicon import RESPELLED, is_acronym, is_spelled
from llasa_cli.text.normalize.numbers import cardinal, decimal, ordinal, pairs, roman
from llasa_cli.text.normalize.token_class import TokenClass, after, before, may_end_sentence
from llasa_cli.text.normalize.vocabulary import (
    ABBREVIATIONS,
    BARE_BEFORE_NUMBERS,
    BARE_TITLES,
    BEFORE_NUMBERS,
    BEFORE_NUMERALS,
    CROWNS,
    DAYS_OR_WORDS,
    LETTER_NOUNS,
    LETTERS,
    MONTH_NAMES,
    NEVER_LAST,
    PLACES,
    RULERS,
    SHORT_EACH,
    TITLES,
    UNIT_KINDS,
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
    "The He She It We They I You But And Then This That These There His Her My Our Their If When Take".split()
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


def _mixed_case(match: re.Match[str]) -> str | None:
    """mRNA, iOS, macOS: the capitals at the end are letters."""
    start, capitals = match["start"], match["capitals"]
    if not is_spelled(capitals.removesuffix("s")) and len(capitals) > 2:
        return None
    return f"{LETTERS[start.lower()] if len(start) == 1 else start} {spell(capitals)}"


def _without_vowel(match: re.Match[str]) -> str | None:
    return None if match[0] in WITHOUT_VOWELS else spell(match[0])


def _code(match: re.Match[str]) -> str | None:
    """Letters and digits that are a name together: i7-9700K -> eye seven ninety seven hundred kay."""
    said = []
    for run in re.findall(r"[A-Za-z]+|\d+", match[0]):
        if run.isdigit():
            said.append(pairs(run))
        elif len(run) < 3 or (run.isupper() and is_spelled(run)) or not re.search("[aeiouyAEIOUY]", run):
            said.append(RESPELLED.get(run.lower()) or spell(run))
        else:
            said.append(run)
    return f" {' '.join(said)} "


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
    return name if initial or double else name + stop


def _is_letter_a(match: re.Match[str]) -> bool:
    start, following = before(match), match.string[match.start() + 1 : match.start() + 12]
    if match["letter"] == "a":
        return bool(re.match(r"[.)]\s", following) and re.search(r"(?:^|[\n(])\s*$", start))
    if re.match(r"[-–—+#&](?!\s)", following) or re.match(
        r"\.(?:\s|$)|(?:,|,?\s(?:to|and|or|through|vs\.?))\s[B-Z]\b", following
    ):
        return True
    word = re.search(r"([A-Za-z]+)\s$", start)
    if word and word[1].lower() in LETTER_NOUNS:
        return True
    return bool(start.strip() and re.match(r"\s?(?:$|[,;:!?)\]\"”]|['’]s\b)", following))


def _letter_range(match: re.Match[str]) -> str:
    """A–Z -> ay to zee."""
    return f"{LETTERS[match[1].lower()]} to {LETTERS[match[2].lower()]}"


def _numeral(match: re.Match[str]) -> str | None:
    """Chapter IX -> chapter nine; Henry V -> Henry the fifth; but "the book I read" and "Malcolm X"."""
    written, word = match[0], re.search(r"(?P<crown>[A-Za-z]+\s)?\b(?P<word>[A-Za-z]+)\.?\s$", before(match))
    number = roman(written)
    if number is None:
        return None
    if len(written) > 1 and re.match(r"(?:th)?\s(?:century|centuries|dynasty)\b", after(match), re.IGNORECASE):
        return ordinal(number)
    if word is None:
        return None
    previous = word["word"].lower()
    pronoun = number == 1 and _PRONOUN.match(match.string, match.end())
    if previous in BEFORE_NUMERALS and re.fullmatch(r"[IVX][IVXL]*|L[IVX]+", written):
        is_one = not pronoun if word["word"][0].isupper() else _ONE.match(match.string, match.end())
        return cardinal(number) if number > 1 or is_one else None
    crowned = (word["crown"] or "").strip().lower() in CROWNS and word["word"][0].isupper()
    if (previous in RULERS and word["word"][0].isupper()) or crowned:
        middle = len(written) == 1 and re.match(r"\.\s?[A-Z]", after(match, 3))
        if written == "I":
            return f"the {ordinal(1)}" if crowned and not pronoun else None
        return None if middle or (previous == "malcolm" and written == "X") else f"the {ordinal(number)}"
    sequel = (
        word["word"][0].isupper() and re.fullmatch(r"VI{0,3}|I?X|X[IV]+I{0,3}|XX[IVX]*", written) and len(written) > 1
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


def _abbreviation(match: re.Match[str]) -> str | None:
    """A shortened word with its full stop -> the word; with the full stop still where it ends the sentence too."""
    written = match[0][:-1]
    word, following = written.lower(), after(match, 20).lstrip()[:1]
    capital = written[0].isupper()
    if word in ("mr", "mrs", "dr", "prof") and _AND_TITLE.match(match.string, match.end()):
        return TITLES[word]
    if capital and word in TITLES and following.isupper():
        named = _NAME_BEFORE.search(before(match, 30))
        # "Elm St. Then" or "to St. Paul's": a name before a place, none before a saint.
        return PLACES[word] + "." if named and word in PLACES else TITLES[word]
    if capital and word in PLACES and (not following.isdigit() or word not in BEFORE_NUMBERS):
        return PLACES[word] + ("" if following and not following.isupper() else ".")
    if word in WEEKDAYS and capital and (word not in DAYS_OR_WORDS or following.isdigit() or following == ","):
        return WEEKDAYS[word]
    numbered = following.isdigit() or bool(re.match(r"\s?[IVXL]+\b", after(match, 8)) and word in BEFORE_NUMERALS)
    if word in BEFORE_NUMBERS and (numbered or (word == "no" and after(match, 4).startswith(" of "))):
        return BEFORE_NUMBERS[word] + ("" if after(match, 1).isspace() else " ")
    if word == "min" and following.islower() and not re.search(r"\d\s?$", before(match, 3)):
        return "minimum"
    said = ABBREVIATIONS.get(word)
    if said is None:
        return None
    return said + "." if word not in NEVER_LAST and may_end_sentence(match) else said


def _dotted_letters(match: re.Match[str]) -> str | None:
    """U.S. -> you ess; e.g. -> for example; a.m. -> ay em."""
    return _abbreviation(match) or spell(match[0].replace(".", "")) + (
        "." if may_end_sentence(match) and not re.match(r"\s?[A-Z]", after(match, 2)) else ""
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


def _world_war(match: re.Match[str]) -> str:
    return f"World War {cardinal(int(match[1])) if match[1] else cardinal(len(match[2]))}"


CODE_CLASSES = [
    TokenClass("model number", r"(?!\d+[x×]\d)(?:\d{1,5}[A-Za-z]{1,3}\d*|[A-Z]{1,5}\d+[A-Za-z]{0,2}\d*|[A-Z]?[a-z]{1,12}\d+[A-Z]?)(?:-\d+[A-Z]{0,3}|-[A-Z]\d+)*(?![\w'’]|\.\d)", _code),
]  # fmt: skip
_END = r"(?P<end>(?=[.,;:!?)\]\"”'’]*(?:\s|$)))"
ADDRESS_CLASSES = [
    TokenClass("address", rf"(?P<address>(?:https?://|www\.)[^\s<>\"“”]{{1,300}}?){_END}", _address),
    TokenClass("address", rf"(?<![\w.+@-])(?P<address>[\w.+-]{{1,64}}@[\w-]{{1,63}}(?:\.[\w-]{{1,63}}){{1,8}}){_END}", _address),
    TokenClass("address", rf"(?<![\w/~.])(?P<address>(?:~|\.{{1,2}})?/(?:[\w.-]{{1,64}}/){{0,12}}[A-Za-z_][\w-]{{0,64}}(?:\.\w{{1,12}}){{0,4}}/?){_END}", _address),
    TokenClass("address", rf"(?P<address>[A-Z]:\\[\w\\.-]{{0,200}}\w){_END}", _address),
    TokenClass("address", rf"(?<![\w.-])(?P<address>[\w-]{{0,63}}\w(?:\.(?:[a-z][a-z0-9-]{{1,63}}|[A-Z]{{2,6}}(?![a-z]))){{1,8}}(?:/[\w./?=&%#-]{{0,200}}\w)?){_END}", _address),
    TokenClass("address", rf"(?<![\w.])(?P<address>\.(?:[A-Z]{{2,6}}|[a-z]{{2,5}})\b(?!\.)){_END}", _address),
]  # fmt: skip
WORD_CLASSES = [
    TokenClass("title", r"Ph\.?\s?D(s?)\b\.?", lambda m: f"pee aitch dee{m[1]}" + ("." if m[0].endswith(".") and may_end_sentence(m) and not after(m, 2).strip() else "")),
    TokenClass("abbreviation", r"(?:[A-Za-z]\.){2,}(?!\w)", _dotted_letters),
    *ADDRESS_CLASSES,
    TokenClass("currency", r"Rs\b\.?\s?(?P<amount>\d[\d,]*(?:\.\d+)?)", lambda m: f"{decimal(m['amount'])} {'rupee' if m['amount'] == '1' else 'rupees'} "),
    TokenClass("roman numeral", r"WW(?:([12])|(I{1,2}))\b", _world_war),
    TokenClass(
        "date",
        rf"""(?P<month>{_MONTH})\b(?P<stop>\.?)(?:\s?[-–]\s?(?P<to_month>{_MONTH})\b\.?(?!\s?\d)
        |[ ](?P<day>0?[1-9]|[12]\d|3[01])(?:\s?[-–]\s?(?P<until>\d\d?)(?!\w|[-/:.,]\d)|(?![\w:%]|[.,]\d|\s?(?:[ap]\.?m\b|percent)|\s?[-–]\s?\d(?!\d?\s(?:{_MONTH})))))?""",
        _month,
    ),
    TokenClass("date", rf"(?P<day>{_DAY})\b\.?\s?[-–]\s?(?P<to>{_DAY})\b(?:\.(?=\s?[a-z\d,;)]))?|(?P<only>(?P=day))?(?!)", _weekday),
    TokenClass("date", rf"(?P<day>{_DAY})\b(?P<to>)", _weekday),
    TokenClass("title", r"(?P<title>[A-Z][A-Za-z]+)(?=[ ][A-Z]|[ ](?:and|&|AND)[ ](?:M[Rr]|M[Rr][Ss]|M[Ss]|D[Rr]|Miss)\b)", _title),
    TokenClass("abbreviation", r"[A-Za-z]+\.", _abbreviation),
    TokenClass("abbreviation", r"(?<=[a-z][ ])(?:St|Ave|Rd|Blvd)\b(?!\.)", lambda m: PLACES[m[0].lower()]),
    TokenClass("abbreviation", r"[A-Za-z]+(?=[ ]\d)", _before_number),
    TokenClass("abbreviation", r"(?<=\w[ ])v\.?(?=[ ][A-Z])|[Vv]s\b\.?", lambda m: "versus"),
    TokenClass("abbreviation", r"etc\b(?!\.)", lambda m: "et cetera"),
    TokenClass("abbreviation", r"[wW]/o(?![\w/])", lambda m: "without"),
    TokenClass("abbreviation", r"[wW]/(?=\s|\w{3})", lambda m: "with "),
    TokenClass("abbreviation", r"c/o\b", lambda m: "care of"),
    TokenClass("abbreviation", r"b/c\b", lambda m: "because"),
    TokenClass("title", r"([BM])\.Sc\b\.?", lambda m: f"{LETTERS[m[1].lower()]} ess see" + ("." if m[0].endswith(".") and may_end_sentence(m) else "")),
    TokenClass("abbreviation", r"y/o\b", lambda m: "years old"),
    TokenClass("abbreviation", r"(and)/or\b|((?i:he|she|him|his|her))/(?=(?:he|she|him|hers?|his|they|them|their)\b)", lambda m: "and or" if m[1] else f"{m[2]} or "),
    TokenClass("unit", r"(?<=\bper[ ])(?P<kind>(?:sq|cu)\.?[ ])?(?P<each>[a-z]{1,3})\b(?:\.(?=\s[a-z]))?", lambda m: (UNIT_KINDS[m["kind"][:2]] if m["kind"] else "") + SHORT_EACH[m["each"]] if m["each"] in SHORT_EACH else None),
    TokenClass("unit", r"km/h\b", lambda m: "kilometers an hour"),
    TokenClass("roman numeral", r"[IVXLC]+\b(?!\.\w|['’](?:m|d|ll|ve)\b)", _numeral),
    TokenClass("letter", r"([CF])\#(?!\w)", lambda m: f"{LETTERS[m[1].lower()]} sharp"),
    TokenClass("acronym", r"[A-Z]{1,5}(?:[&/][A-Z]{1,5}){1,3}(?![\w/&]|\.\w)", _joined_capitals),
    TokenClass("capitals", r"(?P<word>[A-Z]{2,}s?)(?P<ending>['’](?:[A-Z]{1,2}|s|CLOCK)\b)?(?![\w])", _capitals),
    TokenClass("capitals", r"(?P<word>[A-Z])(?P<ending>['’](?:M|D|LL|VE|CLOCK|RE)\b)", lambda m: m[0]),
    TokenClass("acronym", r"(?P<start>[a-z]+)(?P<capitals>[A-Z]{2,4}s?)\b", _mixed_case),
    *CODE_CLASSES,
    TokenClass("letter", r"([A-Za-z])\s?[-–—]\s?([A-Za-z])(?![\w'’-])(?<=[A-Z])|([a-z])(?!)", _letter_range),
    TokenClass("letter", r"(?<!\w['’])(?P<letter>[A-Za-z])(?P<stop>\.(?!\w))?(?![\w])(?!['’](?!s\b))", _letter),
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
    ]
)
"""Words in small letters that may be more than themselves; the rest is copied without a look at the classes."""
