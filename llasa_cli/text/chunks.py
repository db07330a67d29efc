"""Text -> pieces of about one breath, cut where a reader would pause."""

from __future__ import annotations

import re

MOST_CHARACTERS = 200
"""About 13 s of English: well inside what the models were trained on, long enough for a sentence's melody."""

_ABBREVIATION = re.compile(
    r"(?:^|[\s(\"'])(?:Mr|Mrs|Ms|Dr|Prof|St|Jr|Sr|vs|etc|e\.g|i\.e|cf|No|Vol|Fig|approx|[A-Z])\.$", re.IGNORECASE
)
_END = re.compile(
    r"""(?:[.!?…]+["'”’)\]]*(?=\s|$)     # European scripts: a blank follows
    |[。！？｡]+[」』”’）]*             # East Asian: none does
    |\n\s*\n)""",
    re.VERBOSE,
)
_PAUSES = (re.compile(r"(?<=[;:；：—])\s*"), re.compile(r"(?<=[,、，])\s*"), re.compile(r"\s+"))


def split_sentences(text: str) -> list[str]:
    """Sentences, by their marks; a blank line ends one too."""
    sentences, start = [], 0
    for match in _END.finditer(text):
        candidate = text[start : match.end()]
        if match[0].startswith(".") and _ABBREVIATION.search(candidate.rstrip()) and match.end() < len(text.rstrip()):
            continue
        sentences.append(candidate)
        start = match.end()
    sentences.append(text[start:])
    return [" ".join(sentence.split()) for sentence in sentences if sentence.strip()]


def split_text(text: str, most_characters: int = MOST_CHARACTERS) -> list[str]:
    """Text -> chunks of at most `most_characters`; whole sentences, short ones together."""
    chunks: list[str] = []
    for sentence in split_sentences(text):
        for piece in _cut(sentence, most_characters):
            joined = f"{chunks[-1]} {piece}" if chunks else piece
            # A sentence of a word or two is spoken badly alone.
            if chunks and len(joined) <= most_characters and min(len(piece), len(chunks[-1])) < most_characters // 5:
                chunks[-1] = joined
            else:
                chunks.append(piece)
    return chunks


def _cut(sentence: str, most: int) -> list[str]:
    """One sentence in pieces that fit: at semicolons, else commas, else blanks, else anywhere."""
    if len(sentence) <= most:
        return [sentence]
    for pause in _PAUSES:
        parts = [part for part in pause.split(sentence) if part]
        if len(parts) > 1:
            pieces: list[str] = []
            for part in parts:
                if pieces and len(pieces[-1]) + 1 + len(part) <= most:
                    pieces[-1] += " " + part
                else:
                    pieces.append(part)
            return [small for piece in pieces for small in _cut(piece, most)]
    return [sentence[at : at + most] for at in range(0, len(sentence), most)]
