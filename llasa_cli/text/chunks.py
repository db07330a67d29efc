"""Text -> pieces of about one breath, cut where a reader would pause."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import chain, pairwise

MOST_CHARACTERS = 200
"""About 13 s of English: well inside what the models were trained on, long enough for a sentence's melody."""

DENSE = 0x2E80
"""From here on a character is a syllable or more (East Asian scripts)."""
DENSE_WIDTH = 3
"""Such a character takes as long as three letters: 200 Chinese characters are 45 s, more than the context holds."""

_END = re.compile(
    r"""(?:[.!?…]+["'”’)\]]*(?=\s|$)     # European scripts: a blank follows
    |[。！？｡]+[」』”’）]*             # East Asian: none does
    |\n\s*\n)""",
    re.VERBOSE,
)
_WORD = re.compile(r"[\w.]+$")
_NEVER_LAST = frozenset(
    "mr mrs ms dr prof st mt gen col capt lt sgt rev hon gov sen rep messrs vs e.g i.e cf fig vol ph.d".split()
)
"""A name or an explanation follows."""
_BEFORE_NUMBERS = frozenset("no nos p pp ch art sec jan feb mar apr jun jul aug sep sept oct nov dec".split())
"""Shortened only before a number: "No. 5", but "No. I won't."."""
_SOMETIMES_LAST = frozenset("etc inc ltd co corp jr sr dept est approx ca min hr a.m p.m".split())
"""The sentence goes on if the next word begins small."""
_INITIALS = re.compile(r"[A-Z]|(?:[A-Z]\.)+[A-Z]")
_PAUSES = (
    re.compile(r"(?<=[;:])\s+|(?<=[；：—])\s*"),
    re.compile(r"(?<=,)\s+|(?<=[、，])\s*"),
    re.compile(r"\s+"),
)


def sentence_ends(text: str, growing: bool = False) -> Iterator[int]:
    """Positions after which a new sentence begins.

    Args:
        text: Of any length.
        growing: More may come: an end that the next character could still undo is not given.
    """
    for match in _END.finditer(text):
        if growing and match.end() == len(text) and match[0][0] in ".!?…":
            return
        if match[0][0] == "." and len(match[0].rstrip("\"'”’)]")) == 1:
            after = text[match.end() : match.end() + 20].lstrip()[:1]
            if not _ends(text[max(0, match.start() - 12) : match.start()], after, growing):
                continue
        yield match.end()


def _ends(before: str, after: str, growing: bool) -> bool:
    """Whether a full stop after `before` ends a sentence; `after` is the next character that is no blank, or ""."""
    found = _WORD.search(before)
    word = found[0] if found else ""
    small = word.lower()
    sure = small not in _NEVER_LAST | _BEFORE_NUMBERS | _SOMETIMES_LAST and not _INITIALS.fullmatch(word)
    if sure or not after:
        return sure or not growing
    if small in _BEFORE_NUMBERS:
        return not after.isdigit()
    if small in _SOMETIMES_LAST:
        return not after.islower()
    return False


def split_sentences(text: str) -> list[str]:
    """Sentences, by their marks; a blank line ends one too."""
    return list(sentences_in(text))


def sentences_in(text: str) -> Iterator[str]:
    """As `split_sentences`, one after the other."""
    for begin, end in pairwise(chain([0], sentence_ends(text), [len(text)])):
        sentence = " ".join(text[begin:end].split())
        if sentence:
            yield sentence


def split_text(text: str, most_characters: int = MOST_CHARACTERS) -> list[str]:
    """Text -> chunks of at most `most_characters` (see `width`); whole sentences, short ones together."""
    return list(join_sentences(split_sentences(text), most_characters))


def join_sentences(sentences: Iterable[str], most_characters: int) -> Iterator[str]:
    """As `split_text`, with each chunk given as soon as it is known."""
    waiting = ""
    for sentence in sentences:
        for piece in cut(sentence, most_characters):
            joined = join(waiting, piece)
            # A sentence of a word or two is spoken badly alone.
            short = min(width(piece), width(waiting)) < most_characters // 5
            if not waiting or (short and width(joined) <= most_characters):
                waiting = joined
            else:
                yield waiting
                waiting = piece
    if waiting:
        yield waiting


def width(text: str) -> int:
    """How long a text is to speak, in Latin letters."""
    return len(text) if text.isascii() else sum(DENSE_WIDTH if ord(c) >= DENSE else 1 for c in text)


def join(first: str, second: str) -> str:
    """With a blank between, except where the script has none (Hangul has)."""
    if not first or (ord(first[-1]) >= DENSE and not "가" <= first[-1] <= "힣"):
        return first + second
    return f"{first} {second}"


def cut(sentence: str, most: int) -> list[str]:
    """One sentence in pieces that fit: at semicolons, else commas, else blanks, else anywhere."""
    if width(sentence) <= most:
        return [sentence]
    for pause in _PAUSES:
        parts = [part for part in pause.split(sentence) if part]
        if len(parts) > 1:
            pieces: list[str] = []
            for part in parts:
                if pieces and width(pieces[-1]) + 1 + width(part) <= most:
                    pieces[-1] = join(pieces[-1], part)
                else:
                    pieces.append(part)
            return [small for piece in pieces for small in cut(piece, most)]
    step = max(1, most if sentence.isascii() else most // DENSE_WIDTH)
    return [sentence[at : at + step] for at in range(0, len(sentence), step)]
