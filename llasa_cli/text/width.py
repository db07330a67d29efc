"""How long a text is to speak, and where it can be cut: sentences into pieces of a breath, pieces joined again."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator

from llasa_cli.text.sentences import split_sentences as split_sentences
from llasa_cli.text.unicode import CJK_START

MAX_CHARACTERS = 200
"""About 13 s of English: well inside what the models were trained on, long enough for a sentence's melody."""

DENSE_WIDTH = 3
"""Such a character takes as long as three letters: 200 Chinese characters are 45 s, more than the context holds."""

_PAUSES = (
    re.compile(r"(?<=[;:؛])\s+|(?<=[；：—])\s*|\s+(?=[–—])"),
    re.compile(r"(?<=[,،])\s+|(?<=[、，])\s*|\s+(?=[(（])"),
    # "5 km" and "Dr. Lee" stay together where they can.
    re.compile(r"(?<!\d)(?<!\bDr\.)(?<!\bMr\.)(?<!\bMrs\.)(?<!\bMs\.)(?<!\bProf\.)(?<!\bSt\.)\s+"),
    re.compile(r"\s+"),
)
_EVEN = (1.0, 1.1, 1.2, 1.4)
"""Pieces of a long sentence are at most so much longer than if all were equal, where that does not make more of them:
filled one after the other, the last would be a word, and spoken badly."""
_LEADING_VOWELS = "เแโใไ"
"""Thai: written before the consonant after which they are spoken."""


def spoken_length(text: str) -> int:
    """How long a text is to speak, in Latin letters."""
    return len(text) if text.isascii() else sum(DENSE_WIDTH if ord(c) >= CJK_START else 1 for c in text)


def join(first: str, second: str) -> str:
    """With a blank between, except where the script has none (Hangul has)."""
    if not first or (ord(first[-1]) >= CJK_START and not "가" <= first[-1] <= "힣"):
        return first + second
    return f"{first} {second}"


def split(sentence: str, most: int) -> list[str]:
    """One sentence in pieces that fit: at semicolons, else commas, else blanks, else anywhere."""
    whole = spoken_length(sentence)
    if whole <= most:
        return [sentence]
    even = math.ceil(whole / math.ceil(whole / most))
    for pause in _PAUSES:
        parts = [part for part in pause.split(sentence) if part]
        if len(parts) > 1:
            return [small for piece in _evenly(parts, even, most) for small in split(piece, most)]
    return list(_anywhere(sentence, even))


def _evenly(parts: list[str], even: int, most: int) -> list[str]:
    """Neighbours joined to as few pieces as can be, and of those the most equal ones."""
    fewest = list(_fill(parts, most))
    for limit in (math.ceil(even * factor) for factor in _EVEN):
        if limit < most:
            pieces = list(_fill(parts, limit))
            if len(pieces) <= len(fewest):
                return pieces
    return fewest


def _fill(parts: list[str], limit: int) -> Iterator[str]:
    piece = parts[0]
    for part in parts[1:]:
        if spoken_length(piece) + 1 + spoken_length(part) <= limit:
            piece = join(piece, part)
        else:
            yield piece
            piece = part
    yield piece


def _anywhere(word: str, limit: int) -> Iterator[str]:
    """A script without blanks, or no word at all; a letter and its signs stay together."""
    begin, used = 0, 0
    for at, character in enumerate(word):
        size = spoken_length(character)
        if used + size > limit and at > begin and not _clings(word, at):
            yield word[begin:at]
            begin, used = at, 0
        used += size
    yield word[begin:]


def _clings(word: str, at: int) -> bool:
    """Whether no cut may be before a character; a heap of signs is cut all the same."""
    before, after = word[at - 1], word[at]
    sign = unicodedata.category(after).startswith("M") or "\u200d" in (before, after) or before in _LEADING_VOWELS
    return sign and any(not unicodedata.category(other).startswith("M") for other in word[max(0, at - 8) : at])
