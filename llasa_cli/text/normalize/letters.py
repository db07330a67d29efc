"""Letters by their names: acronyms, single letters, chemical formulas, notes and grades.

HDMI -> aitch dee em eye;  vitamin C -> vitamin see;  NaCl -> en ay see el
"""

from __future__ import annotations

import re

from llasa_cli.text.lexicon import RESPELLED, is_acronym, is_spelled, is_word
from llasa_cli.text.normalize import vocabulary
from llasa_cli.text.normalize.numbers import cardinal
from llasa_cli.text.normalize.token_class import after, before

STARTERS = frozenset(
    "The He She It We They I You But And Then This That These There His Her My Our Their If When Take "
    "In On At As So For With From After Before While Although However Since Because Yes No Not Who What Where Why How".split()
)
"""Words that begin a sentence after "vitamin C.", where no name would."""


def spell(letters: str) -> str:
    """ "CPUs" -> "see pee yous"."""
    plural = len(letters) > 2 and letters.endswith("s") and letters[:-1].isupper()
    names = " ".join(vocabulary.LETTERS.get(letter.lower(), letter) for letter in (letters[:-1] if plural else letters))
    return names + ("s" if plural else "")


def say_capitals(match: re.Match[str]) -> str:
    """A word in capitals, perhaps with an apostrophe: a word, or letters."""
    word, ending = match["word"], match["ending"] or ""
    bare = word.removesuffix("s")
    if ending[1:].upper() in ("T", "RE", "VE", "LL", "D", "M", "EM", "CLOCK"):
        return match[0]
    if word.lower() in RESPELLED:
        return RESPELLED[word.lower()] + ending
    if word == "US" and not before(match).strip() and re.match(r"\s[A-Z]{3}", after(match, 4)):
        return spell(word) + ending  # US ECONOMY GREW
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


def say_joined_capitals(match: re.Match[str]) -> str:
    """AT&T, TCP/IP: letters; YES/NO: words."""
    parts = re.split("[&/]", match[0])
    joint = " and " if "&" in match[0] else " slash " if not any(map(is_spelled_or_single, parts)) else " "
    if "&" in match[0]:
        return joint.join(spell(part) if len(part) < 4 else part for part in parts)
    return joint.join(spell(part) if is_spelled_or_single(part) else part for part in parts)


def is_spelled_or_single(word: str) -> bool:
    return len(word) == 1 or is_spelled(word)


_HUMPS = re.compile(r"[A-Z]+s\b|[A-Z]+(?![a-z])|[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+")


def say_mixed_case(match: re.Match[str]) -> str | None:
    """mRNA, ChatGPT: the capitals are letters; ThrowbackThursday: words; but McDonald and iPhone."""
    word, parts = match[0], _HUMPS.findall(match[0])
    if word in vocabulary.SPELLED_NAMES:
        return vocabulary.SPELLED_NAMES[word]
    if word.lower() in vocabulary.FUSED_NAMES:
        return word
    if re.fullmatch("[A-Z]o[A-Z]s?", word):  # MoE, PoC, QoS
        return spell(word[:3]) + word[3:]
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
        if len(part) == 2 and not part.isupper() and is_word(part.lower()):  # ThisIsUs
            said.append(part)
        elif len(part) == 1 or (bare.isupper() and (len(part) == 2 or is_spelled(bare))):
            said.append(spell(part) if len(part) > 1 else vocabulary.LETTERS[part.lower()])
        else:
            said.append(RESPELLED.get(part.lower(), part))
    return " ".join(said)


_ELEMENT = rf"(?:{vocabulary.ELEMENTS})\d{{0,2}}"
FORMULA = rf"(?:{_ELEMENT}|\((?:{_ELEMENT})+\)\d{{0,2}}){{2,12}}"
_COMPOUND = re.compile(r"[A-Z].*(?:O|H|Cl|F|Br|S|N|P|C|As|Se|Te)$")
"""Formulas without a count are those of compounds: NaCl, but no HeHe."""


def say_formula(match: re.Match[str]) -> str | None:
    """NaCl -> en ay see el; C6H12O6 -> see six aitch twelve oh six. A formula has a symbol of two letters or two counts."""
    written = match["formula"]
    counts = re.findall(r"\d+", written)
    two_letters = re.search(r"[A-Z][a-z]", written) and written not in vocabulary.SPELLED_NAMES
    if not two_letters and len(counts) < 2 and not re.search(r"\(|^C\d?H\d", written):
        return None
    if not counts and (not _COMPOUND.search(written) or is_word(written.lower())):
        return None
    return " ".join(
        cardinal(int(run)) if run.isdigit() else vocabulary.LETTERS[run.lower()]
        for run in re.findall(r"\d+|[A-Za-z]", written)
    )


def say_ion(match: re.Match[str]) -> str:
    """Na+ -> en ay plus; Ca2+ -> see ay two plus."""
    count = f" {cardinal(int(match['count']))}" if match["count"] else ""
    return f"{spell(match['element'].upper())}{count} {'plus' if match['sign'] == '+' else 'minus'}"


def say_without_vowel(match: re.Match[str]) -> str | None:
    if match[0].lower() in vocabulary.WITHOUT_VOWELS or re.search(r"(.)\1\1", match[0]):
        return None
    short = vocabulary.ABBREVIATIONS.get(match[0].lower())
    code = match[0] in ("rm", "cf", "lg", "hr") or re.match(r"::|-\w|\s-\w|\(", after(match, 3))
    if match[0] == "nr" and not re.match(r"\s(?:the\b|[A-Z])", after(match, 5)):
        code = re.match("", "")
    return short if short and not code else spell(match[0])


def say_letter(match: re.Match[str]) -> str | None:
    """A letter by its name. The context decides whether "I" and "a" are words, and whether a full stop is an initial's."""
    letter, stop = match["letter"], match["stop"] or ""
    if letter in "ai" and re.match(r"['’]s\b", after(match, 3)):  # dot the i's
        return vocabulary.LETTERS[letter]
    if letter == "I" and stop and re.match(r"\s[A-Z]\.\s?[A-Z]", after(match)):  # I. M. Pei
        return vocabulary.LETTERS["i"]
    if letter in "Ii" or (letter.upper() == "A" and not _is_letter_a(match)):
        return None
    name = vocabulary.LETTERS[letter.lower()]
    if not stop:
        return name
    if after(match, 1) in (",", ";", ":"):
        return name
    following = re.match(r"\s(?:((?:[A-Z]['’])?[A-Z][a-z]+)|[A-Z]\b)", after(match))
    named = re.search(r"(?:^|[(\"“‘—–:,-]\s?|\b(?:[A-Z]\w*\.?|by|and|to|from|with|of|for)\s|[A-Z]\.)$", before(match))
    initial = letter.isupper() and following and following[1] not in STARTERS and named
    if letter.isupper() and re.match(r"\sv\.?\s[A-Z]", after(match)):  # R. v. Dudley
        return name
    if (
        letter in "KDSR"
        and re.match(r"\s\d{1,4}\b", after(match))
        and re.search(r"(?:^|[,;(]\s?|\b(?:and|of|by|bill|to)\s)$", before(match, 5))
    ):
        return name  # the number of a composer's work
    double = letter.isupper() and re.match(r"\s[A-Z]\.\s[A-Z][a-z]", after(match))  # J. K. Rowling
    species = re.match(
        r"\s([a-z]{2,}(?:i|us|is|um|ae|ans|ens)|rex|diff)\b|\s(?P<rare>[a-z]{5,})\b", after(match)
    )  # E. coli
    if species and species["rare"]:
        species = None if is_word(species["rare"]) else species
    return name if initial or double or (species and letter.isupper()) else name + stop


def _is_letter_a(match: re.Match[str]) -> bool:
    start, following = before(match), match.string[match.start() + 1 : match.start() + 12]
    if match["letter"] == "a":
        if re.match(r"\+|\s?(?:[=*^]|\+(?!\d)|squared\b|cubed\b)", following) or (
            start[-1:] == "(" and following[:1] == ")"
        ):
            return True
        return bool(re.match(r"[.)]\s", following) and re.search(r"(?:^|[\n(]|[;:.]\s)\s*$", start))
    if re.match(r"[:)]|[-–—+#&](?!\s)|\+(?!\s?\d)|\s?[=<>|∪∩⊂→]", following) or re.match(
        r"\.(?:\s|$)|(?:,|,?\s(?:to|and|or|through|vs\.?))\s[B-Z]\b", following
    ):
        return True
    if re.match(r"\s(?:positive|negative)(?:$|[.,;:!?)])", after(match, 11)) and re.search(r"\w\s$", start):
        return True  # the sign of a blood group
    word = re.search(r"([A-Za-z]+)\s$", start)
    if word and word[1].lower() in vocabulary.LETTER_NOUNS:
        return True
    return bool(start.strip() and re.match(r"\s?(?:$|[,;:!?)\]\"”]|['’]s\b)", following))


def say_letter_range(match: re.Match[str]) -> str:
    """A–Z -> ay to zee; but "I-I don't know"."""
    if match[1] == match[2]:
        return match[0]
    return f"{vocabulary.LETTERS[match[1].lower()]} to {vocabulary.LETTERS[match[2].lower()]}"


def say_spelled_word(match: re.Match[str]) -> str | None:
    """C-A-T -> see ay tee; but "I-I-I don't"."""
    return None if len(set(match[0])) < 3 else spell(match[0].replace("-", ""))


def say_grade(match: re.Match[str]) -> str:
    return f"{spell(match['letters'])} minus"


_CHORDS = {
    "maj": "major",
    "min": "minor",
    "m": "minor",
    "dim": "diminished",
    "aug": "augmented",
    "sus": "sus",
    "add": "add",
}


def say_note(match: re.Match[str]) -> str:
    """B♭ -> bee flat; F#m7 -> eff sharp minor seven."""
    kind = f" {_CHORDS[match['kind']]}" if match["kind"] else ""
    seventh = f" {cardinal(int(match['seventh']))}" if match["seventh"] else ""
    sign = {"♭": " flat", "b": " flat", "": ""}.get(match["sign"], " sharp")
    return f"{vocabulary.LETTERS[match['note'].lower()]}{sign}{kind}{seventh}"
