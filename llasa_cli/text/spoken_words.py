"""The words of a text as they are written, each with the words that are spoken for it.

    written_words("In 1984 — well!")                            ["In", "1984 —", "well!"]
    match_words(["In", "1984,"], "In nineteen eighty four,")    [(1, "In"), (1, "nineteen eighty four,")]

Joining the written words with spaces gives the text back (East Asian characters: without spaces).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import NamedTuple

from llasa_cli.text.unicode import is_spaceless
from llasa_cli.text.width import spoken_length


class WordTime(NamedTuple):
    """A word as it was written and when it is said, in seconds. estimated: By its length alone, not from the sound."""

    word: str
    begin_s: float
    end_s: float
    estimated: bool = False


@dataclass(frozen=True)
class SpokenGroup:
    """Written words in a row, and what is spoken for them together.

    Attributes:
        count: The number of written words; nearly always 1.
        spoken: One or more spoken words.
    """

    count: int
    spoken: str


def written_words(text: str) -> list[str]:
    """The words of a text with their punctuation. An East Asian character is a word; a mark alone belongs to the word before it."""
    found: list[str] = []
    opening = ""  # marks before the first word
    for token in re.findall(r"\S+", text):
        is_first = True
        for part in _split_spaceless(token):
            blank = " " if is_first else ""
            is_first = False
            if any(character.isalnum() for character in part):
                found.append((opening + blank if opening else "") + part)
                opening = ""
            elif found:
                found[-1] += blank + part
            else:
                opening += (blank if opening else "") + part
    return found


def _split_spaceless(token: str) -> Iterator[str]:
    """A token without blanks, cut at each East Asian letter."""
    begin = 0
    for at in range(1, len(token)):
        is_letter = token[at].isalnum()
        if is_letter and (is_spaceless(token[at]) or _last_letter_is_spaceless(token[begin:at])):
            yield token[begin:at]
            begin = at
    yield token[begin:]


def _last_letter_is_spaceless(text: str) -> bool:
    return next((is_spaceless(c) for c in reversed(text) if c.isalnum()), False)


def match_words(written: Sequence[str], spoken: str) -> list[SpokenGroup]:
    """Share the words of a spoken text among the written words it was made from, in order.

    Args:
        written: See `written_words`.
        spoken: The same text with numbers, signs and abbreviations in words, or unchanged.

    Returns:
        Groups whose counts add up to the number of written words; empty if nothing is spoken.
    """
    said = written_words(spoken)
    if not written or not said:
        return []
    groups: list[tuple[list[str], list[str]]] = []
    matcher = SequenceMatcher(None, [_key(word) for word in written], [_key(word) for word in said], autojunk=False)
    for kind, i1, i2, j1, j2 in matcher.get_opcodes():
        if kind == "equal":
            groups += [([one], [other]) for one, other in zip(written[i1:i2], said[j1:j2], strict=True)]
        elif kind == "replace":
            groups += _divide(written[i1:i2], said[j1:j2])
        elif groups:  # words that have no counterpart belong to the word before them
            groups[-1] = (groups[-1][0] + list(written[i1:i2]), groups[-1][1] + said[j1:j2])
        else:
            groups.append((list(written[i1:i2]), said[j1:j2]))
    while len(groups) > 1 and not (groups[0][0] and groups[0][1]):  # the first one has only one side
        (words, heard), (more, rest) = groups[0], groups[1]
        groups[:2] = [(words + more, heard + rest)]
    return [SpokenGroup(len(words), " ".join(heard)) for words, heard in groups]


def _divide(written: Sequence[str], said: Sequence[str]) -> list[tuple[list[str], list[str]]]:
    """Share differing words: by the number of words that each written word is spoken as, else by their lengths."""
    if len(written) == 1 or len(said) < len(written):
        return [(list(written), list(said))]
    from llasa_cli.text.normalize.english import normalize

    own = [written_words(normalize(word)) for word in written]
    counts = [max(1, len(words)) for words in own]
    if sum(counts) == len(said):
        ends = [sum(counts[: at + 1]) for at in range(len(counts))]
    else:
        lengths = [1 + spoken_length(" ".join(words)) for words in own]
        ends = []
        for at in range(len(written)):
            share = round(len(said) * sum(lengths[: at + 1]) / sum(lengths))
            ends.append(min(max(share, at + 1), len(said) - (len(written) - 1 - at)))
    return [([word], list(said[begin:end])) for word, begin, end in zip(written, [0, *ends], ends, strict=False)]


def _key(word: str) -> str:
    return "".join(character for character in word.casefold() if character.isalnum())
