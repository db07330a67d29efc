"""The word check: single errors of a recognizer pass, stretches of wrong words do not."""

from __future__ import annotations

import pytest

from llasa_cli.text.word_check import gap_of, units_of, word_problems, wrong_runs

SAID = "The morning train was crowded with people going to work in the city."


@pytest.mark.parametrize(
    ("said", "heard"),
    [
        (SAID, SAID),
        (SAID, "the morning train was crowded with people going to work in the city"),
        (SAID, "a morning train was crowded with the people going two work in that city"),
        (SAID, "morning rain was crowd with people going to work in the city yes"),
        ("I have 21 ice creams, don't I?", "i have twenty one icecreams dont i"),
        ("At 9:05 Dr. Lee paid $3.50.", "at nine oh five doctor lee paid three dollars and fifty cents"),
        ("Colour of the Café – naïve?", "color of the cafe naive"),
        ("今天天气很好，我们去公园。", "今天天气很好我们去公园"),
        ("안녕하세요 세계", "안녕 하세요 세계"),
        ("Straße", "strasse"),
        ("ＡＢＣ ｄｅｆ", "abc def"),
        ("?!", "whatever"),
        ("", "whatever"),
    ],
)
def test_what_differs_only_in_writing_or_here_and_there_is_right(said: str, heard: str) -> None:
    assert word_problems(said, heard) == ()


@pytest.mark.parametrize(
    ("heard", "problem"),
    [
        ("the morning train was city", "missing: 'crowded with people going to work in the'"),
        ("the morning train was crowded with people going to work", "in a row missing"),
        ("the morning train was crowded with people the quick brown fox jumps going to work in the city", "invented"),
        (
            "the morning train was crowded with people the morning train was crowded with people going to work in the city",
            "invented",
        ),
        ("the morning train was bla blub fasel dingens going to work in the city", "was heard as 'bla blub"),
        ("she put fresh flowers on a table before dinner", "wrong"),
        ("", "no word was understood"),
    ],
)
def test_a_stretch_left_out_repeated_mumbled_or_invented_is_a_problem(heard: str, problem: str) -> None:
    found = word_problems(SAID, heard)
    assert len(found) == 1
    assert problem in found[0]


def test_scattered_slips_of_a_long_text_pass_where_a_short_hole_does_not() -> None:
    words = (SAID + " ").replace(".", "") * 6
    heard = words.split()
    slips = [word if number % 5 else "xx" for number, word in enumerate(heard)]
    assert word_problems(words, " ".join(slips)) == ()
    assert word_problems(words, " ".join(heard[:20] + heard[25:])), "5 of 78 words are fewer than 16"


def test_scripts_without_blanks_are_compared_by_characters() -> None:
    assert units_of("今天，很好 OK") == ["今", "天", "很", "好", "ok"]
    said = "今天天气很好，我们去公园玩吧。"
    assert word_problems(said, "今天天气真好我们去公园玩吧") == ()
    assert "missing" in word_problems(said, "今天玩吧")[0]
    assert word_problems("สวัสดีครับผมชื่อสมชายและผมอยู่ที่กรุงเทพ", "สวัสดีครับ")


def test_a_text_of_one_word_must_have_it_right() -> None:
    assert word_problems("Hello", "yellow") == ()
    assert word_problems("Hello", "train station")
    assert word_problems("No", "yes")
    assert word_problems("你好", "再见")


def test_how_much_is_allowed_can_be_said() -> None:
    heard = "the morning train xx xx xx people going to work in the city"
    assert word_problems(SAID, heard, longest_run=2)
    assert word_problems(SAID, heard, longest_run=3) == ()
    short = "the morning train was people going to work in the city"
    assert word_problems(SAID, short)
    assert word_problems(SAID, short, longest_gap=2) == ()


def test_the_runs_are_those_of_the_cheapest_alignment() -> None:
    (run,) = wrong_runs("a b c d e".split(), "a x y e".split())
    assert [step.said for step in run if step.said] == ["b", "c", "d"]
    assert gap_of(run) == 1
    assert wrong_runs(["a"], ["a"]) == []
    assert len(wrong_runs("a b c d e".split(), "x b c d y".split())) == 2


def test_words_divided_otherwise_are_right() -> None:
    assert word_problems("Donaudampfschiff ahoi sagt sie", "donau dampf schiff ahoi sagt sie") == ()
    assert word_problems("It is unbelievable, she said.", "it is un belie vable she said") == ()


def test_a_recognizer_that_loops_is_a_problem_like_another() -> None:
    assert word_problems(SAID, "thank you " * 300)
    assert word_problems(SAID * 5, "thank you " * 50)
