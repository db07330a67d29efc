"""Short forms, titles, directions, keys and the words of chats.

Dr. Lee -> doctor Lee;  e.g. -> for example;  Ctrl -> control
"""

from __future__ import annotations

import re

from llasa_cli.text.lexicon import is_word
from llasa_cli.text.normalize import vocabulary
from llasa_cli.text.normalize.dates import ERA, MONTH
from llasa_cli.text.normalize.letters import STARTERS, spell
from llasa_cli.text.normalize.measures import NUMBERED_SONG
from llasa_cli.text.normalize.token_class import TokenClass, after, before, may_end_sentence, with_stop

_NAME_BEFORE = re.compile(
    r"\b(?!(?i:in|at|on|to|from|the|and|but|of|for|with|by|near|dear|hi|hello|thanks|yes|no)\b)[A-Z]\w*\s+$"
)
_ORDINAL_BEFORE = re.compile(
    r"(?<!uary\s)(?<!arch\s)(?<!pril\s)(?<!May\s)(?<!June\s)(?<!July\s)(?<!gust\s)(?<!ber\s)(?<![Tt]he\s)\b\d{1,3}(?:st|nd|rd|th)\s+$"
)
"""A numbered street before "St.", and no date."""
_AND_TITLE = re.compile(r"\.? (?:and|&) (?:Mr|Mrs|Ms|Dr|Miss)\b", re.IGNORECASE)


def say_title(match: re.Match[str]) -> str | None:
    """Mr Lee, Mr and Mrs Brown, St Paul; but "Main St Then"."""
    word = match["title"]
    small = word.lower()
    if small not in vocabulary.BARE_TITLES or (
        word.isupper() and small not in ("mr", "mrs", "dr", "prof", "capt", "sgt")
    ):
        return None
    if small in ("st", "dr") and _NAME_BEFORE.search(before(match, 30)) and not _AND_TITLE.match(after(match, 12)):
        return vocabulary.PLACES[small]
    return vocabulary.TITLES[small]


_PLACE = rf"(?:{'|'.join(name.title() for pair in vocabulary.PLACES.items() for name in pair)}|Way)"
_COUNTRY = re.compile(
    r"\s(?:Korea|Africa|America|Ireland|Dakota|Carolina|Sudan|Vietnam|Macedonia|Germany|Berlin|Virginia|Europe|Asia)\b"
)
_OF_A_DAY = re.compile(r"\s(?:at|from|and|or|night|morning|afternoon|evening|through|thru|to)\b|\s&")
DIRECTION = r"(?:[NS]\.?[EW]\b\.?|[NSEW]\b\.?)"
YOU_ARE = re.compile(
    r"\s(?:so|not|an?|the|welcome|right|wrong|cute|funny|too|very|just|gonna|going|still|my|such|[a-z]+ing)\b"
)


def _place_stop(match: re.Match[str]) -> str:
    """The full stop after "Elm St.", where the sentence ends: not before "Elm St. NW"."""
    return "." if may_end_sentence(match) and not re.match(rf"\s{DIRECTION}", after(match, 6)) else ""


def say_direction(match: re.Match[str]) -> str | None:
    """5th Ave. NW -> fifth avenue northwest; 12 N. Main St. -> twelve north Main street."""
    name = vocabulary.DIRECTIONS[match[0].replace(".", "").lower()]
    if re.search(rf"(?:[A-Za-z]|\d(?:st|nd|rd|th))\s{_PLACE}\b\.?,?\s$", before(match, 18)):
        return with_stop(match, name)
    degrees = re.search(r"°\s?$|\b(?:I|US|SR|CR|Hwy|Rte|Route|Highway)\.?[ -]\d{1,3}\s$", before(match, 14))
    wind = len(name) > 5 and (
        re.match(
            r"\s(?:winds?|of|corner|side|coast|quadrant|wall)\b|\s\d{1,2}(?:\s?[-–]\s?\d{1,2})?\s?(?:kts?|mph|knots|km/h)\b",
            after(match),
        )
        or re.search(r"\b(?:the|from|heading|headed|facing|mph|due|km/h)\s$", before(match, 9))
    )
    if degrees or wind or re.search(r"\b[Ww]inds?:?\s$", before(match, 7)) or re.match(r"\s?\d{1,3}°", after(match, 5)):
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


def say_state(match: re.Match[str]) -> str | None:
    """Springfield, Ill. -> Springfield, Illinois; but "he said, Miss. Lee"."""
    if not re.search(r"(?:\b[A-Z][\w.'’-]+,\s|\([DRI]-)$", before(match)):
        return None
    return with_stop(match, vocabulary.STATES[match["state"]])


def say_after_ordinal(match: re.Match[str]) -> str | None:
    """the 5th Fl. -> floor; the 9th Cir. -> circuit; but "the 5th min"."""
    word = match["short"].lower()
    said = vocabulary.AFTER_ORDINALS.get(word)
    if said is None or (not match[0].endswith(".") and (len(word) == 1 or is_word(word))):
        return None
    return said if ERA.match(match.string, match.end()) else with_stop(match, said)


def say_key(match: re.Match[str]) -> str | None:
    """Ctrl+C -> control plus see; Cmd/Ctrl -> command or control; Alt and Del only beside another key."""
    beside = re.match(r"\s?\+\s?\w|-[A-Z]|/[A-Z]", match.string[match.end() - len(match["joint"] or "") :][:4])
    if (
        not beside
        and not re.search(r"[a-z]\s?[+/-]$", before(match, 3))
        and match["key"] not in ("Ctrl", "Cmd", "Esc", "Fn")
    ):
        return None
    other = match["joint"] and re.match(rf"(?i:{'|'.join(vocabulary.KEYS)})\b", after(match, 6))
    return vocabulary.KEYS[match["key"].lower()] + (" or " if other else " slash " if match["joint"] else "")


BESIDE: dict[str, tuple[tuple[str, str, str], ...]] = {
    "incl": (("", r"\s?(?:$|[;,)])|\sin\s", "included."),),
    "exp": (("", r"\s\d\d?/\d\d", "expires"), (r"y(?:ea)?rs?\.?\s$", "", "experience.")),
    "bur": (("", r"\s(?:at|in)\s", "buried"),),
    "mo": ((r"\b(?:ea|each|every|per|the)\.?\s$", "", "month."),),
    "rev": (("", r"\s[$€£]", "revenue"),),
    "Sec": (("", r"\s[A-Z][a-z]{2}", "secretary"),),
    "fl": (("", r"\s1\d{3}\b", "flourished"),),
    "est": (
        (r"(?:[\d%]|[$€£]\d[\d.,]*\s?(?:[KMBTkmbt]n?|(?:m|b|tr)illion))\s$", "", "estimated."),
        ("", r"\s[$€£]\d", "estimated"),
    ),
    "reg": (("", r"\s[$€£]\d", "regular"),),
    "inc": ((r"(?<!,\s)$", "", "including"),),
    "nr": (("", r"\s?(?!\s?\d)", "near"),),
    "pop": ((r"\b(?:the|its|a)\s$", r"\s[a-z]", "population"),),
    "dev": ((r"\b[Ss]td\.?\s$", "", "deviation."),),
    "vol": (("", r"\s?[a-z]", "volume"),),
    "min": ((r"(?:^|[^\d\s])\s?$", r"\s?[a-z]", "minimum"),),
    "mm": ((r"(?:^|[^\d\s])\s?$", r"\s\d", "measures"),),
    **{
        word: (("", r"\s[Nn]os?\b", said),)
        for word, said in vocabulary.word_table(
            "acct account,cat catalog,inv inventory,ref reference,ser serial,lic license,tel telephone,cert certificate"
        ).items()
    },
}
"""Short forms by what stands before and after them. The full stop of a reading stays where a sentence ends."""


def _said_beside(match: re.Match[str], written: str) -> str | None:
    for start, following, said in (*BESIDE.get(written, ()), *BESIDE.get(written[0].lower() + written[1:], ())):
        if written == "Inc" or not re.search(start, before(match, 20)) or not re.match(following, after(match, 12)):
            continue
        return with_stop(match, said[:-1]) if said.endswith(".") else said
    return None


def say_abbreviation(match: re.Match[str]) -> str | None:
    """A shortened word with its full stop -> the word; with the full stop still where it ends the sentence too."""
    written = match[0][:-1]
    if written in ("EST", "ET", "MED", "SEC", "DIR", "COL", "REF"):  # in capitals they are time zones and agencies
        return None
    if written in ("INT", "EXT") and re.match(r"\s(?![A-Z]?\d)[A-Z]{2}|/EXT\b", after(match, 4)):
        return {"INT": "interior", "EXT": "exterior"}[written]  # the line before a scene
    word, following = written.lower(), after(match, 20).lstrip()[:1]
    capital = written[0].isupper()
    if (
        written.isupper()
        and word in vocabulary.UNITS
        and not (following.isdigit() or before(match, 2).strip()[-1:].isdigit())
    ):
        return None  # HR
    if (word == "p.a" and capital) or (word == "s.t" and written != word):
        return None
    if word in ("mr", "mrs", "dr", "prof") and _AND_TITLE.match(match.string, match.end()):
        return vocabulary.TITLES[word]
    if word in vocabulary.GIVEN_NAMES and capital and not following.isdigit():
        return vocabulary.GIVEN_NAMES[word]
    if word in ("rm", "bldg", "apt", "ste", "fig", "app", "sec", "pt", "vol", "term", "vit") and re.match(
        r"\s(?:[A-HJ-Z](?![\w'’])|[A-Z]\d)", after(match, 3)
    ):
        return vocabulary.BEFORE_NUMBERS.get(word) or vocabulary.ABBREVIATIONS[word]
    if word in ("sr", "jr") and following.isupper() and not _NAME_BEFORE.search(before(match, 30)):
        return vocabulary.ABBREVIATIONS[word]
    if capital and word in ("sgt", "lt", "capt") and following.isdigit():
        return vocabulary.TITLES[word]
    said = _said_beside(match, written)
    if said is not None:
        return said
    if capital and word in vocabulary.TITLES and following.isupper():
        saint = word == "st" and re.match(r"\s[A-Z][a-z]+['’]s\b", after(match))  # 5th St. Paul's
        named = _NAME_BEFORE.search(before(match, 30)) or (
            word == "st" and not saint and _ORDINAL_BEFORE.search(before(match, 30))
        )
        # "Elm St. Then" or "to St. Paul's": a name before a place, none before a saint.
        return (
            vocabulary.PLACES[word] + _place_stop(match)
            if named and word in vocabulary.PLACES
            else vocabulary.TITLES[word]
        )
    if word == "plz" and not _NAME_BEFORE.search(before(match, 30)):
        return "please"
    if capital and word in vocabulary.PLACES and (not following.isdigit() or word not in vocabulary.BEFORE_NUMBERS):
        return vocabulary.PLACES[word] + _place_stop(match)
    if (
        word in vocabulary.WEEKDAYS
        and capital
        and (
            word not in vocabulary.DAYS_OR_WORDS
            or following.isdigit()
            or following == ","
            or re.match(rf"\s(?:{MONTH})\b", after(match))
            or _OF_A_DAY.match(match.string, match.end())
        )
    ):
        return vocabulary.WEEKDAYS[word] + ("" if following else ".")
    if word in ("b", "d") and re.match(rf"\s(?:{MONTH})\b", after(match)):
        return vocabulary.BEFORE_NUMBERS[word]
    if word == "cat" and not capital:
        return None
    if word in ("p", "pp") and re.match(r"\s[ivx]{1,6}\b", after(match, 8)):
        return vocabulary.BEFORE_NUMBERS[word]
    if word in vocabulary.BEFORE_NUMBERS and after(match, 3).startswith(" #"):
        return vocabulary.BEFORE_NUMBERS[word]
    numbered = (
        following.isdigit()
        or bool(written in vocabulary.MONTH_NAMES and re.match(r"\s['’]\d\d(?!\d)", after(match, 4)))
        or bool(word == "no" and re.match(r"\s[A-Z]{1,4}-?\d", after(match, 8)))
        or bool(word in ("eq", "eqs", "fig", "figs", "ref", "refs", "pop") and re.match(r"\s\(\d", after(match, 3)))
        or bool(
            re.match(r"\s?(?:[IVXL]+|[ivx]{2,5})\b", after(match, 8))
            and {word, vocabulary.BEFORE_NUMBERS.get(word)} & vocabulary.BEFORE_NUMERALS
        )
    )
    if word in ("b", "d", "r") and capital:
        return None
    if word in ("b", "d", "r", "c") and numbered and not re.match(r"\s?\d{3,4}(?!\d)|\d\d(?!\d)", after(match, 6)):
        return None
    if word in ("dep", "arr") and re.match(r"\s[A-Z]{3}\b", after(match, 5)):
        return vocabulary.BEFORE_NUMBERS[word]
    if capital and word in vocabulary.TITLES and re.match(r"-[A-Z]", after(match, 2)):
        return vocabulary.TITLES[word]
    if (
        word in vocabulary.BEFORE_NUMBERS
        and not (capital and len(word) == 1 and word in "nsew")
        and (numbered or (word == "no" and re.match(r" of (?!(?:course|them|it|us|you)\b)", after(match))))
    ):
        return vocabulary.BEFORE_NUMBERS[word] + ("" if after(match, 1).isspace() else " ")
    said = vocabulary.ABBREVIATIONS.get(word)
    if said is None or re.match(r"[\w\[]", after(match, 1)):
        return None
    if word in vocabulary.NEVER_LAST or (
        capital and word in vocabulary.BEFORE_NAMES and re.match(r"\s[A-Z]", after(match, 2)) and not _starts(match)
    ):
        return said
    return with_stop(match, said)


def _starts(match: re.Match[str]) -> bool:
    """Whether the next word is one that begins a sentence."""
    word = re.match(r"\s([A-Za-z]+)", after(match))
    return word is not None and word[1] in STARTERS


def say_event(match: re.Match[str]) -> str | None:
    """b. 1842, m. 3 Jan 1866, bur. abt 1911 -> born, married, buried; but "5 m. 1900"."""
    if re.search(r"[\d.]\s?$", before(match, 2)):
        return None
    events = {"b": "born", "d": "died", "m": "married", "bap": "baptized", "bapt": "baptized", "bur": "buried"}
    return events[match["event"]]


def say_featuring(match: re.Match[str]) -> str | None:
    """feat. Drake, Ep. 12 ft. Dre -> featuring; but "6 ft. Then" and "a feat"."""
    stop = match[0].endswith(".")
    name = re.match(r"\s([A-Z]\w*|\d+ [A-Z])", after(match, 20))
    measured = re.search(r"\d\s?$", before(match, 2)) and not NUMBERED_SONG.search(before(match, 16))
    named = stop or before(match, 1) == "(" or (match["short"] == "ft" and re.search(r"[\w)\"”’]\s$", before(match, 2)))
    return "featuring" if named and not measured and name and name[1] not in STARTERS else None


def say_section(match: re.Match[str]) -> str | None:
    """s. 12(1)(b), under ss 4-6 -> section twelve, sections four to six; but "3 s 12"."""
    placed = match["capital"] or re.search(
        r"\b(?:[Uu]nder|[Bb]y|of|and|see|See|with|contrary to|pursuant to|breach of)\s$", before(match, 16)
    )
    if re.search(r"[\d'’]\s?$", before(match, 2)) or (match["plain"] is not None and not placed):
        return None
    return "sections " if match["many"] else "section "


def say_dotted_letters(match: re.Match[str]) -> str | None:
    """U.S. -> you ess; e.g. -> for example; a.m. -> ay em."""
    return say_abbreviation(match) or spell(match[0].replace(".", "")) + (
        "." if may_end_sentence(match) and (not re.match(r"\s?[A-Z]", after(match, 2)) or _starts(match)) else ""
    )


def say_before_number(match: re.Match[str]) -> str | None:
    word = match[0].lower()
    if word not in vocabulary.BARE_BEFORE_NUMBERS or match[0] == "PP" or re.search(r"\d\s?$", before(match, 3)):
        return None
    return vocabulary.BEFORE_NUMBERS[word]


CHAT_WITH_DIGIT = TokenClass("chat", r"2(?:nite|day|moro|morrow)\b", lambda m: vocabulary.CHAT[m[0]])
