"""The length of a text when it is spoken, and the split of a sentence that is too long: at clauses, in balanced pieces."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator

from llasa_cli.text.unicode import CJK_START, is_spaceless

MAX_CHARACTERS = 200
"""The usual limit of a chunk: about 13 s of English, well inside the training lengths, and long enough for intonation."""
SECONDS_A_CHARACTER = 0.08
"""English is read at 0.055 to 0.09 seconds a character."""
CJK_LENGTH = 3
"""An East Asian character takes as long as three letters: 200 Chinese characters are 45 s, more than the context holds."""

_STRONG = re.compile(r"[;:؛；：—–][\"”’)\]]*$")
_COMMA = re.compile(r"[,،，、)\]][\"”’]*$")
_CONJUNCTIONS = frozenset(
    "and but or nor so yet because although though while when whenever where if unless until since before after as than "
    "which who whom whose that und oder aber weil dass wenn et ou mais parce que quand y o pero porque cuando e ma perché".split()
)
_BINDING = frozenset(
    "a an the of in on at to for from by with my your his her its our their this that these no not very is are was were be "
    "der die das den dem des ein eine im am zu von le la les un une de du des el los una en mr. mrs. ms. dr. prof. st.".split()
)
"""Words that stay with the word after them."""
_YEARS = ("nineteen", "twenty", "two")
"""The first words of a date's year, which follows a comma."""
_COST_OF_PIECE = 0.6
_COST_OF_UNEVENNESS = 0.7
_COST_OF_SHORT_PIECE = 1.0
_LEADING_VOWELS = "เแโใไ"
"""Thai vowels that are written before the consonant after which they are spoken."""


def spoken_length(text: str) -> int:
    """The length of a spoken text, in Latin letters."""
    return len(text) if text.isascii() else sum(CJK_LENGTH if ord(c) >= CJK_START else 1 for c in text)


def count_letters(text: str) -> int:
    """The letters and digits of a text as they are spoken: a digit (five, twenty) counts 4, kana 2, other East Asian characters 3."""
    return sum(_letters(character) for character in text if character.isalnum())


def _letters(character: str) -> int:
    if character.isdigit():
        return 4
    return 2 if "\u3040" <= character < "\u3100" else spoken_length(character)


def join(first: str, second: str) -> str:
    """Join two texts with a space, except where the script has none."""
    return first + second if not first or is_spaceless(first[-1]) else f"{first} {second}"


def split(sentence: str, limit: int) -> list[str]:
    """Split a sentence into pieces of at most `limit`, by `spoken_length`.

    Of all ways to split it, the one is taken whose cuts are best (after semicolons and commas, before conjunctions, not
    after an article, a number or a title) and whose pieces are few and of about the same length.
    """
    whole = spoken_length(sentence)
    if whole <= limit:
        return [sentence]
    even = math.ceil(whole / math.ceil(whole / limit))
    atoms = list(_atoms(sentence, limit, even))
    starts = [0]  # the length before each atom, with the spaces
    for text, spaced in atoms:
        starts.append(starts[-1] + spaced + spoken_length(text))
    costs, cuts = [0.0], [0]
    for end in range(1, len(atoms) + 1):
        best, cut = math.inf, end - 1
        for begin in range(end - 1, -1, -1):
            length = starts[end] - starts[begin] - atoms[begin][1]
            if length > limit:
                break
            cost = costs[begin] + _COST_OF_PIECE + _COST_OF_UNEVENNESS * ((length - even) / even) ** 2
            cost += _COST_OF_SHORT_PIECE if length < limit / 5 else 0
            if cost < best:
                best, cut = cost, begin
        costs.append(best + (_cut_cost(atoms[end - 1][0], *atoms[end]) if end < len(atoms) else 0))
        cuts.append(cut)
    pieces, end = [], len(atoms)
    while end:
        begin = cuts[end]
        pieces.append("".join(" " * spaced + text for text, spaced in atoms[begin:end]).lstrip())
        end = begin
    return pieces[::-1]


def _atoms(sentence: str, limit: int, even: int) -> Iterator[tuple[str, bool]]:
    """The parts that are not split: words, clauses of a script without spaces, and parts of what is longer than `limit`.

    Yields each with whether a space is before it.
    """
    for number, word in enumerate(sentence.split()):
        spaced = number > 0
        for clause in re.split(r"(?<=[；：，、—])(?=.)", word):
            for part in [clause] if spoken_length(clause) <= limit else _cut_anywhere(clause, even):
                yield part, spaced
                spaced = False


def _cut_cost(word: str, following: str, spaced: bool) -> float:
    """The cost of a cut between two atoms."""
    if _STRONG.search(word) or (spaced and following[0] in "–—"):
        return 0.0
    clause = following.lower() in _CONJUNCTIONS
    if _COMMA.search(word) or following[0] in "(（[":
        return 0.0 if clause else 1.5 if following in _YEARS else 0.5
    if word.lower() in _BINDING or word[-1].isdigit():
        return 3.0
    return 0.7 if clause else 1.5


def _cut_anywhere(word: str, limit: int) -> Iterator[str]:
    """Cut text without spaces; a letter and its signs stay together."""
    begin, used = 0, 0
    for at, character in enumerate(word):
        size = spoken_length(character)
        if used + size > limit and at > begin and not _clings(word, at):
            yield word[begin:at]
            begin, used = at, 0
        used += size
    yield word[begin:]


def _clings(word: str, at: int) -> bool:
    """Whether a character must stay with the one before it. A heap of signs is cut all the same."""
    before, after = word[at - 1], word[at]
    sign = unicodedata.category(after).startswith("M") or "\u200d" in (before, after) or before in _LEADING_VOWELS
    return sign and any(not unicodedata.category(other).startswith("M") for other in word[max(0, at - 8) : at])
