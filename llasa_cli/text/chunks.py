"""Text -> pieces of about one breath, cut where a reader would pause."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from llasa_cli.text.sentences import split_sentences as split_sentences

MOST_CHARACTERS = 200
"""About 13 s of English: well inside what the models were trained on, long enough for a sentence's melody."""

DENSE = 0x2E80
"""From here on a character is a syllable or more (East Asian scripts)."""
DENSE_WIDTH = 3
"""Such a character takes as long as three letters: 200 Chinese characters are 45 s, more than the context holds."""

_PAUSES = (
    re.compile(r"(?<=[;:])\s+|(?<=[；：—])\s*"),
    re.compile(r"(?<=,)\s+|(?<=[、，])\s*"),
    re.compile(r"\s+"),
)


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
