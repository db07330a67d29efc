"""Sentences as people write them are read right, by kind: at least 97 of 100 of each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from llasa_cli.text.chunker import chunk_text
from llasa_cli.text.markup import read_markup
from llasa_cli.text.normalize.english import normalize
from llasa_cli.text.normalize.vocabulary import LETTERS
from llasa_cli.text.sentences import split_sentences

KINDS = {
    "C": "capitals",
    "D": "acronyms",
    "E": "letters and units",
    "F": "markup",
    "G": "book text",
    "H": "abbreviations",
    "I": "titles",
    "J": "numbers and names",
    "K": "Chinese and Japanese line ends",
}
SHARE = 0.97


def cases(kind: str, name: str = "corpus.tsv") -> Iterator[tuple[str, str]]:
    """(written, right readings) of a kind"""
    for line in Path(__file__).with_name(name).read_text(encoding="utf-8").splitlines():
        if line.startswith(f"{kind}\t"):
            _, written, reading = line.split("\t")
            written = written.replace("\\n", "\n").replace("\\x1b", "\x1b")
            yield written, reading if reading != "=" else written


def words(text: str) -> list[str]:
    text = re.sub(
        r"\[([A-Z ]+)\]", lambda match: " ".join(LETTERS[letter.lower()] for letter in match[1].split()), text
    )
    return re.sub(r"[^a-z' ]+", " ", text.lower().replace("’", "'")).split()


def read(written: str) -> str:
    return " ".join(chunk.text for chunk in chunk_text(read_markup([written]), 10_000, normalize))


def is_right(kind: str, written: str, reading: str) -> bool:
    if kind == "K":  # these scripts are not spelled out: what counts is where sentences and words end
        chunks = chunk_text(read_markup([written]), 10_000)
        sentences = " ".join(sentence for chunk in chunks for sentence in chunk.sentences)
        return re.sub(r"(?<=[。”]) ", "", sentences) == re.sub(r"(?<=[。”]) ", "", reading)
    return any(words(read(written)) == words(one) for one in reading.split(" | "))


def test_the_corpus_has_400_sentences() -> None:
    assert sum(1 for kind in KINDS for _ in cases(kind)) >= 400


@pytest.mark.parametrize("kind", KINDS, ids=KINDS.values())
def test_sentences_of_a_kind_are_read_right(kind: str) -> None:
    found = [(written, reading) for written, reading in cases(kind)]
    wrong = [(written, reading, read(written)) for written, reading in found if not is_right(kind, written, reading)]
    assert len(wrong) <= (1 - SHARE) * len(found), wrong


@pytest.mark.parametrize("kind", KINDS, ids=KINDS.values())
def test_sentences_that_were_reported_are_read_right(kind: str) -> None:
    reported = cases(kind, "reported.tsv")
    wrong = [(written, reading, read(written)) for written, reading in reported if not is_right(kind, written, reading)]
    assert wrong == []


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("He won.1 Then he lost.2 The end.", 3),
        ("It was good.¹ It was better.² Nice!³", 3),
        ("It takes approx. 5 minutes.", 1),
        ("He was born c. 1850 and died in 1900.", 1),
        ("See Apt. 4 and Hwy. 61.", 1),
        ("Use max. 10 and min. 3 items.", 1),
        ("This was shown before [12], [3-5].", 1),
        ("The Old House\nIt stood on a hill.", 2),
        ("I live in New York\nand work here.", 1),
        ("苹果\n香蕉", 2),
        ("我们去公\n园玩吧。", 1),
    ],
)
def test_notes_abbreviations_and_line_ends_do_not_mislead_the_splitter(text: str, count: int) -> None:
    assert len(split_sentences(text)) == count
