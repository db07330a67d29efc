"""Written words and what is spoken for them."""

from __future__ import annotations

import pytest

from llasa_cli.text.normalize.english import normalize
from llasa_cli.text.spoken_words import match_words, written_words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Good evening, all.", "Good|evening,|all."),
        ("Well — really?", "Well —|really?"),
        ("“— No!” she said", "“— No!”|she|said"),
        ("It costs $5 & more", "It|costs|$5 &|more"),
        ("你好,世界。", "你|好,|世|界。"),
        ("用GPU跑。", "用|GPU|跑。"),
        ("한국어 문장", "한국어|문장"),
        ("well-known  words\n", "well-known|words"),
        ("...", ""),
        ("", ""),
    ],
)
def test_words_keep_their_marks(text: str, words: str) -> None:
    assert "|".join(written_words(text)) == words


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("In 1984, he left.", "In|nineteen eighty four,|he|left."),
        ("Dr. Smith paid $5.50 for 3 km.", "doctor|Smith|paid|five dollars and fifty cents|for|three|kilometers."),
        ("At 10:30 p.m. on May 3rd, 2024", "At|ten thirty|pee em|on|May|third,|twenty twenty four"),
        ("No numbers at all.", "No|numbers|at|all."),
    ],
)
def test_each_written_word_gets_the_words_that_are_spoken_for_it(text: str, spoken: str) -> None:
    groups = match_words(written_words(text), normalize(text))
    assert "|".join(group.spoken for group in groups) == spoken
    assert {group.count for group in groups} == {1}


@pytest.mark.parametrize(
    ("written", "spoken"),
    [
        ("one two three", "one"),
        ("one two three", "three"),
        ("one", "zero one two"),
        ("a b c", "x y"),
        ("a b", "x y z v w"),
        ("你 好", "hello"),
    ],
)
def test_no_word_of_either_side_is_lost(written: str, spoken: str) -> None:
    groups = match_words(written.split(), spoken)
    assert sum(group.count for group in groups) == len(written.split())
    assert all(group.count for group in groups)
    assert " ".join(group.spoken for group in groups) == spoken


def test_without_speech_there_are_no_groups() -> None:
    assert match_words(["one"], "...") == []
    assert match_words([], "one") == []
