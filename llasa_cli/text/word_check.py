"""The word check of `--verify`: the words that a recognizer heard in a take against the words of its text.

    word_problems("The cat sat on the mat.", "the cat mat")  ->  ("3 words in a row missing: 'sat on the'",)

The check looks at the longest run of wrong words, and at how many words are missing or added in it, not at the share of
wrong words. A recognizer makes single errors and replaces words; a broken take has a stretch that is skipped, repeated,
mumbled or invented. The word error rate that catches as many broken takes refuses twice as many good ones, and misses a
stretch of a given length more easily the longer the text is. benchmarks/word_check.py measures it; docs/benchmarks.md has
the table.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from llasa_cli.wording import shorten

LONGEST_RUN = 3
"""Wrong words in a row that may still be errors of the recognizer."""
LONGEST_GAP = 1
"""Words that may be missing or added among them: a recognizer replaces words, a broken take lacks or repeats some."""
CHARACTERS_A_WORD = 2
"""The number of characters that count as a word in scripts without spaces, such as Chinese."""
_ALIKE = 0.34
"""Share of a word's letters that may differ (colour, color; Meyer, Meier)."""
_NO_BLANKS = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\ua4cf\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]"
)
"""Thai, Lao, Burmese, Khmer and East Asian scripts are compared by characters. Korean has spaces, but recognizers set them
as they like."""


@dataclass(frozen=True)
class Step:
    """One place of the alignment: the words of the text and the words that were heard; either may be empty."""

    said: str
    heard: str
    wrong: bool


def word_problems(
    said: str, heard: str, longest_run: int = LONGEST_RUN, longest_gap: int = LONGEST_GAP
) -> tuple[str, ...]:
    """Describe the stretches of a take that do not match its text; empty if there are none.

    Args:
        said: The text that should have been spoken.
        heard: The words that a recognizer found in the take.
        longest_run: More wrong words in a row are a problem; twice as many characters in scripts without spaces.
        longest_gap: More missing or added words among them are a problem, counted in the same way.
    """
    wanted, found = units_of(said), units_of(heard)
    if not wanted:
        return ()
    if not found:
        return ("no word was understood",)
    by_character = sum(bool(_NO_BLANKS.match(unit)) for unit in wanted) * 2 > len(wanted)
    factor = CHARACTERS_A_WORD if by_character else 1
    # A text of so few words would otherwise pass with all of them wrong.
    most, gap = min(longest_run * factor, max(len(wanted) - 1, 0)), longest_gap * factor
    bad = [run for run in wrong_runs(wanted, found) if len(run) > most or gap_of(run) > gap]
    if not bad:
        return ()
    worst = max(bad, key=lambda run: len(run) + gap_of(run))
    return (_in_words(worst, "characters" if by_character else "words", "" if by_character else " "),)


def error_rate(said: str, heard: str) -> float:
    """Wrong, missing and added words per word of the text; characters in scripts without spaces. 0 is perfect."""
    wanted, found = units_of(said), units_of(heard)
    return _distance(wanted, found) / max(1, len(wanted))


def units_of(text: str) -> list[str]:
    """The words of a text without case, marks and punctuation, numbers in words; characters of scripts without spaces."""
    text = unicodedata.normalize("NFKC", text)
    if re.search(r"\d", text) and not _NO_BLANKS.search(text):
        from llasa_cli.text.normalize.english import normalize  # its expressions take .1 s

        text = normalize(text)
    text = "".join(map(_plain, text.casefold()))
    text = re.sub(r"['’ʼ`]", "", text)
    text = _NO_BLANKS.sub(lambda match: f" {match[0]} ", text)
    return "".join(c if _is_of_word(c) else " " for c in text).split()


def _plain(character: str) -> str:
    """A Latin letter without its accent, which recognizers may leave out."""
    if not "\u00c0" <= character < "\u0250":
        return character
    return "".join(c for c in unicodedata.normalize("NFKD", character) if not unicodedata.combining(c))


def _is_of_word(character: str) -> bool:
    return character.isalnum() or unicodedata.category(character) in ("Mn", "Mc")


def wrong_runs(wanted: list[str], found: list[str]) -> list[list[Step]]:
    """The stretches of an alignment in which nothing is right."""
    runs: list[list[Step]] = []
    before = False
    for step in _aligned(wanted, found):
        if step.wrong and before:
            runs[-1].append(step)
        elif step.wrong:
            runs.append([step])
        before = step.wrong
    # The same letters, divided otherwise (anyone, any one), are the same words.
    return [run for run in runs if not _alike(*("".join(words) for words in zip(*_sides(run), strict=True)))]


def _sides(run: list[Step]) -> list[tuple[str, str]]:
    return [(step.said, step.heard) for step in run]


def gap_of(run: list[Step]) -> int:
    """The difference between the number of words heard and said."""
    return abs(sum(bool(step.said) for step in run) - sum(bool(step.heard) for step in run))


def _aligned(wanted: list[str], found: list[str]) -> list[Step]:
    """The alignment with the fewest substituted, missing and invented words.

    Two words written as one (ice cream, icecream) are right.
    """
    moves: list[list[tuple[int, int]]] = [[(0, 1)] * (len(found) + 1) for _ in range(len(wanted) + 1)]
    previous: list[list[int]] = []
    for i in range(len(wanted) + 1):
        row: list[int] = []
        for j in range(len(found) + 1):
            ways = [(0, (0, 0))] if i == j == 0 else []
            if i and j:
                ways.append((previous[-1][j - 1] + (not _alike(wanted[i - 1], found[j - 1])), (1, 1)))
            if i > 1 and j and wanted[i - 2] + wanted[i - 1] == found[j - 1]:
                ways.append((previous[-2][j - 1], (2, 1)))
            if j > 1 and i and found[j - 2] + found[j - 1] == wanted[i - 1]:
                ways.append((previous[-1][j - 2], (1, 2)))
            if i:
                ways.append((previous[-1][j] + 1, (1, 0)))
            if j:
                ways.append((row[j - 1] + 1, (0, 1)))
            cost, moves[i][j] = min(ways, key=lambda way: way[0])
            row.append(cost)
        previous = [*previous[-1:], row]
    return _traced(wanted, found, moves)


def _traced(wanted: list[str], found: list[str], moves: list[list[tuple[int, int]]]) -> list[Step]:
    steps = []
    i, j = len(wanted), len(found)
    while i or j:
        back_i, back_j = moves[i][j]
        said, heard = "".join(wanted[i - back_i : i]), "".join(found[j - back_j : j])
        wrong = not (said and heard) or not _alike(said, heard)
        steps.append(Step(" ".join(wanted[i - back_i : i]), " ".join(found[j - back_j : j]), wrong))
        i, j = i - back_i, j - back_j
    return steps[::-1]


def _alike(said: str, heard: str) -> bool:
    """Whether two words are equal, or of four letters or more and nearly so."""
    if said == heard:
        return True
    longest = max(len(said), len(heard))
    if min(len(said), len(heard)) < 4 or abs(len(said) - len(heard)) > _ALIKE * longest:
        return False
    return _distance(said, heard) <= _ALIKE * longest


def _distance(one: Sequence[str], other: Sequence[str]) -> int:
    """The number of letters or words to change, add or remove."""
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, 1):
        before, row[0] = row[0], i
        for j, against in enumerate(other, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (letter != against))
    return row[-1]


def _in_words(run: list[Step], name: str, blank: str) -> str:
    said = blank.join(step.said for step in run if step.said)
    heard = blank.join(step.heard for step in run if step.heard)
    count = f"{len(run)} {name if len(run) > 1 else name.removesuffix('s')}" + (" in a row" if len(run) > 1 else "")
    if not heard:
        return f"{count} missing: {shorten(said, 50)}"
    if not said:
        return f"{count} invented: {shorten(heard, 50)}"
    return f"{count} wrong: {shorten(said, 50)} was heard as {shorten(heard, 50)}"
