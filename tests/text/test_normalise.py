"""What is said for what is written."""

from __future__ import annotations

import re

import pytest

from llasa_cli.text.normalise import cardinal, ordinal, spell_out, year


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (
            "Dr. Lee paid $3.50 on May 2nd, 1987.",
            "doctor Lee paid three dollars and fifty cents on May second, nineteen eighty seven.",
        ),
        ("It is 9:05, not 10:30 a.m.", "It is nine oh five, not ten thirty ay em"),
        ("1,234,567 people", "one million two hundred thirty four thousand five hundred sixty seven people"),
        ("42.195 km at -5°C", "forty two point one nine five kilometers at minus five degrees C"),
        ("The FBI and NASA", "The eff bee eye and NASA"),
        ("I AM SHOUTING AT YOU", "I AM SHOUTING AT YOU"),
        ("bob@example.com & 50% off (today)", "bob at example dot com and fifty percent off, today"),
        ("007, 3-4 items", "zero zero seven, three to four items"),
        ("“Wörld’s”  —  best…!!", "World's, best!"),
        ("$5 million, €1.00", "five million dollars, one euro"),
    ],
)
def test_written_forms_are_said_as_words(written: str, said: str) -> None:
    assert spell_out(written) == said


@pytest.mark.parametrize("text", ["", "♥", "日本語", "...", "- - -", "\n", "(ツ)"])
def test_text_without_words_says_nothing(text: str) -> None:
    assert spell_out(text) == ""


@pytest.mark.parametrize(
    "text",
    ["9" * 400, "1.2.3.4.5", "$$$ 1,2,3 €", "3:99 25:61", "A.B.C.D.", "<|eot_id|> 5", "½ cup x² №7", "1e9 0x1F -0"],
)
def test_odd_text_becomes_letters_and_punctuation_only(text: str) -> None:
    assert re.fullmatch(r"[A-Za-z' ,.;:!?-]*", spell_out(text))


def test_numbers() -> None:
    assert cardinal(0) == "zero"
    assert cardinal(10**12 + 1) == "one trillion one"
    assert [ordinal(n) for n in (1, 12, 20, 21, 100)] == [
        "first",
        "twelfth",
        "twentieth",
        "twenty first",
        "one hundredth",
    ]
    assert [year(n) for n in (1900, 1905, 2000, 2024)] == [
        "nineteen hundred",
        "nineteen oh five",
        "two thousand",
        "twenty twenty four",
    ]
