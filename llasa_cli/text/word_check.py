"""Were these the words? What a recogniser heard against what should have been said: the check behind `--verify`.

    word_problems("The cat sat on the mat.", "the cat mat")  ->  ("4 words in a row are wrong: ...",)

No share of wrong words is looked at, but their longest run, and by how many words more or fewer were heard in a run than
were said. A recogniser errs here and there, and puts words for words; what a broken take has is a stretch of them:
skipped, repeated, mumbled or invented.

How strict, measured (benchmarks/word_check.py: 48 held-out sentences of 7 to 14 words, heard by pocketsphinx, the weakest
recogniser there is a reason to use; takes of the built-in voice, whole and broken over 35 % of their length). Refused, in
per cent:

                       good takes        broken takes
                       flite  built-in   left out  said twice  another's  mumbled  end cut  other text
    run of 2             4      23         100       100          98        94       85       100
    run of 3             0       6          83        81          87        91       53       100
    run of 3, gap of 1   0      10          96       100          89        94      100       100    <- this
    run of 4, gap of 1   0       6          96       100          72        70      100        98
    error rate > 0.3     0      19         100        96         100        98       85       100
    error rate > 0.4     0       8          85        72          87        87       55       100

flite's takes are surely good; of the built-in voice's some are not ("any one I know" that became "damn onion"). A share of
wrong words that catches as much refuses twice as many of them, and sees a hole of a given length less the longer the text is.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from llasa_cli.text.normalize.english import normalize
from llasa_cli.wording import shorten

LONGEST_RUN = 3
"""Wrong words in a row that are still put down to the recogniser."""
LONGEST_GAP = 1
"""Words that may be too few or too many among them: a recogniser puts words for words, a broken take lacks some or has
some more."""
CHARACTERS_A_WORD = 2
"""Where words are not told apart, as in Chinese."""
_ALIKE = 0.34
"""Of a word's letters: so many may differ (colour, color; Meyer, Meier)."""
_NO_BLANKS = re.compile(
    r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\ua4cf\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]"
)
"""Thai, Lao, Burmese, Khmer and East Asian scripts: compared by characters. Korean has blanks, but recognisers set them
as they like."""


@dataclass(frozen=True)
class Step:
    """One place of the alignment: what was said there and what was heard; either may be empty."""

    said: str
    heard: str
    wrong: bool


def word_problems(
    said: str, heard: str, longest_run: int = LONGEST_RUN, longest_gap: int = LONGEST_GAP
) -> tuple[str, ...]:
    """What is wrong with the words of a take; empty when nothing is.

    Args:
        said: The text that should have been spoken.
        heard: What a recogniser made of the take.
        longest_run, longest_gap: More wrong words in a row, or more words too few or too many among them, are a problem;
            twice as many characters in scripts without blanks.
    """
    wanted, found = units_of(said), units_of(heard)
    if not wanted:
        return ()
    if not found:
        return ("no word was understood",)
    by_character = sum(bool(_NO_BLANKS.match(unit)) for unit in wanted) * 2 > len(wanted)
    factor = CHARACTERS_A_WORD if by_character else 1
    # Of a text that is itself so short, nothing right is wrong enough.
    most, gap = min(longest_run * factor, max(len(wanted) - 1, 0)), longest_gap * factor
    bad = [run for run in wrong_runs(wanted, found) if len(run) > most or gap_of(run) > gap]
    if not bad:
        return ()
    worst = max(bad, key=lambda run: len(run) + gap_of(run))
    return (_in_words(worst, "characters" if by_character else "words", "" if by_character else " "),)


def units_of(text: str) -> list[str]:
    """Words without case, marks and punctuation, numbers in words; characters of scripts without blanks."""
    text = unicodedata.normalize("NFKC", text)
    if re.search(r"\d", text) and not _NO_BLANKS.search(text):
        text = normalize(text)
    text = "".join(map(_plain, text.casefold()))
    text = re.sub(r"['’ʼ`]", "", text)
    text = _NO_BLANKS.sub(lambda match: f" {match[0]} ", text)
    return "".join(c if _is_of_word(c) else " " for c in text).split()


def _plain(character: str) -> str:
    """A Latin letter without its accent: recognisers leave them out or not."""
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
    # The same letters, divided otherwise (nobody, no body), are the same words.
    return [run for run in runs if not _alike(*("".join(words) for words in zip(*_sides(run), strict=True)))]


def _sides(run: list[Step]) -> list[tuple[str, str]]:
    return [(step.said, step.heard) for step in run]


def gap_of(run: list[Step]) -> int:
    """By how many words more or fewer were heard than were said."""
    return abs(sum(bool(step.said) for step in run) - sum(bool(step.heard) for step in run))


def _aligned(wanted: list[str], found: list[str]) -> list[Step]:
    """The cheapest way from one to the other: each substituted, missing or invented word costs 1.

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
    """Equal, or of four letters or more with hardly a difference."""
    if said == heard:
        return True
    longest = max(len(said), len(heard))
    if min(len(said), len(heard)) < 4 or abs(len(said) - len(heard)) > _ALIKE * longest:
        return False
    return _distance(said, heard) <= _ALIKE * longest


def _distance(one: str, other: str) -> int:
    """Letters to change, add or leave out."""
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
