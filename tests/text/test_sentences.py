"""Sentences end where a careful reader would end them, in many languages, however the text arrives."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from llasa_cli.text.chunker import chunk_text
from llasa_cli.text.incremental import read_sentences
from llasa_cli.text.sentences import column_after, sentences_in, split_sentences

GOLDEN = Path(__file__).with_name("golden_sentences.txt")
KNOWN_MISSES = {
    "Yahoo! is a company. So is Google.",
    "That is all. . . . The end.",
    "モーニング娘。は人気だ。そうだ。",
}
"""Names with a mark in them, and an ellipsis that begins with a full stop: a pipe could not know it in time."""


def golden() -> Iterator[tuple[str, str, list[str]]]:
    """(language, text, its sentences)"""
    language = ""
    for line in GOLDEN.read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            language = line.strip("[]")
        elif line and not line.startswith("#"):
            line = line.replace("\\n", "\n")
            yield language, line.replace("‖", ""), [" ".join(one.split()) for one in line.split("‖")]


CASES = list(golden())


def test_the_golden_set_is_as_large_as_it_says() -> None:
    assert len(CASES) >= 170
    assert len({language for language, _, _ in CASES}) >= 29


@pytest.mark.parametrize("language", sorted({language for language, _, _ in CASES}))
def test_sentences_are_cut_as_a_reader_would(language: str) -> None:
    for _, text, sentences in (case for case in CASES if case[0] == language):
        assert (split_sentences(text) == sentences) == (text not in KNOWN_MISSES), (split_sentences(text), sentences)


def spoken(sentences: list[str]) -> list[str]:
    """Without what is not said: a sign that stands alone may go with the sentence before it or not."""
    bare = (re.sub(r"\A[\W_]+|[\W_]+\Z", "", sentence) for sentence in sentences)
    return [sentence for sentence in bare if sentence]


def arriving(data: bytes, cuts: list[int]) -> list[str]:
    pieces = iter([data[begin:end] for begin, end in pairwise([0, *cuts, len(data)]) if begin < end] + [b""])
    return list(read_sentences(lambda _: next(pieces), lambda: True))


GARBAGE = (
    ". |! |?|« | »|»|。|」|“|”|\"| |\n|a|B|3|z.|—|他说|，|[pause: 1.5]|(|…| . . . |\n- |1. |Mr.|etc.|가|<break time='1. 5s'/>"
).split("|")


@pytest.mark.parametrize("seed", range(4))
def test_a_pipe_is_cut_into_the_same_sentences_wherever_it_is_torn(seed: int) -> None:
    generator = random.Random(seed)
    for _ in range(100):
        if generator.random() < 0.25:
            text = "".join(generator.choices(GARBAGE, k=25))
        else:
            text = generator.choice(["", " ", "\n", "\n\n"]).join(case[1] for case in generator.choices(CASES, k=3))
        data = text.encode()
        few = sorted(generator.choices(range(len(data) + 1), k=generator.randint(1, 12)))
        for cuts in (few, list(range(1, len(data)))):
            parts = arriving(data, cuts)
            assert "".join(parts).strip() == text.strip()
            got, column = list[str](), 0
            for part in parts:
                got += sentences_in(part, column)
                column = column_after(part, column)
            assert spoken(got) == spoken(split_sentences(text)), text


@pytest.mark.parametrize(
    "text", ["A [pause: 1. 5s] b. C", "A <break time='1. 5s' /> b. C", "A <break\n\ntime='1s'> b.", "[pause: 500 ms]"]
)
def test_a_pipe_does_not_tear_a_pause_apart(text: str) -> None:
    for is_more in (True, False):
        pieces = iter([bytes([byte]) for byte in text.encode()] + [b""])
        parts = list(read_sentences(lambda _, pieces=pieces: next(pieces), lambda is_more=is_more: is_more))
        assert "".join(parts) == text
        assert all(part.count("[") == part.count("]") and part.count("<") == part.count(">") for part in parts)


@pytest.mark.parametrize(
    "piece",
    [
        "Mr. ",
        "no end ",
        ". ",
        "a.",
        "3. ",
        "J. ",
        "z. B. ",
        "? » ",
        "« ",
        '。"',
        "…",
        ". . ",
        "\n- ",
        ".'",
        "“?”라고",
        "!",
    ],
)
def test_a_hostile_line_is_read_through(piece: str) -> None:
    """A quadratic rule would take hours here."""
    text = piece * (40_000 // len(piece)) + "end"
    sentences = split_sentences(text)
    assert "".join("".join(sentences).split()) == "".join(text.split())


def test_a_sentence_that_begins_late_in_a_wrapped_line_continues_in_the_next_one() -> None:
    text = (
        "There was hope, he said, but in the end it was of little use. Gurnard's\n"
        "Head is near, and another meeting should have been called for. May\n"
        "I go?\n\nChapter 1. The Storm\nIt was a dark and stormy night, and so on.\n"
    )
    assert split_sentences(text) == [
        "There was hope, he said, but in the end it was of little use.",
        "Gurnard's Head is near, and another meeting should have been called for.",
        "May I go?",
        "Chapter 1.",
        "The Storm",
        "It was a dark and stormy night, and so on.",
    ]
    pieces = arriving(text.encode(), list(range(1, len(text))))
    assert [sentence for chunk in chunk_text(pieces) for sentence in chunk.sentences] == split_sentences(text)
