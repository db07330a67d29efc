"""What is said for what is written."""

from __future__ import annotations

import re
import time

import pytest

from llasa_cli.text.normalise import spell_out
from llasa_cli.text.numbers import cardinal, ordinal, roman, year


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (
            "Dr. Lee paid $3.50 on May 2nd, 1987.",
            "doctor Lee paid three dollars and fifty cents on May second, nineteen eighty seven.",
        ),
        ("It is 9:05, not 10:30 a.m.", "It is nine oh five, not ten thirty ay em."),
        ("1,234,567 people", "one million two hundred thirty four thousand five hundred sixty seven people"),
        ("42.195 km at -5°C", "forty two point one nine five kilometers at minus five degrees Celsius"),
        ("The FBI and NASA", "The eff bee eye and NASA"),
        ("I AM SHOUTING AT YOU", "I AM SHOUTING AT YOU"),
        ("bob@example.com & 50% off (today)", "bob at example dot com and fifty percent off, today"),
        ("007, 3-4 items", "zero zero seven, three to four items"),
        ("“Wörld’s”  —  best…!!", "World's, best!"),
        ("Did he? No. It is No. 5.", "Did he? No. It is number five."),
        ("5 ms. Then 5 min. later Ms. Lee", "five milliseconds. Then five minutes later miss Lee"),
        ("St. Paul lives on Elm St. near Dr. Lee", "saint Paul lives on Elm street near doctor Lee"),
        ("In 1987, and the 1990s, or '20s", "In nineteen eighty seven, and the nineteen nineties, or twenties"),
        (
            "½ cup, 2½ cups, 3/4, x², 24/7",
            "one half cup, two and one half cups, three quarters, x squared, twenty four seven",
        ),
        ("At 5pm, 5 p.m. Bring pears, etc. Then go", "At five pee em, five pee em. Bring pears, et cetera. Then go"),
        ("This is NOT one for the US", "This is NOT one for the you ess"),
        ("On 2024-05-01 at 60 km/h", "On May first, twenty twenty four at sixty kilometers an hour"),
        ("A 5G Ph.D. #fun for the 1,000th", "A five G pee aitch dee fun for the one thousandth"),
        ("In St. Paul. He is 5 ft. 3 inches tall.[12] So", "In saint Paul. He is five feet three inches tall. So"),
        ("$5 million, €1.00", "five million dollars, one euro"),
        ("US$5M, $3.5bn, 10k, 3x", "five million dollars, three point five billion dollars, ten thousand, three times"),
        ("$5/hr, 60 miles/hour", "five dollars per hour, sixty miles per hour"),
        (
            "On 3/14/2025, May 5, and Tues., Jan. 3",
            "On March fourteenth, twenty twenty five, May fifth, and Tuesday, January third",
        ),
        ("On Sat., he Sat. Down", "On Saturday, he Sat. Down"),
        (
            "Louis XIV in WWII, World War I, vol. II, Chapter IX; Type C, I am",
            "Louis the fourteenth in World War two, World War one, volume two, Chapter nine; Type C, I am",
        ),
        ("5'11\" and 6' tall", "five foot eleven and six feet tall"),
        ("10%-15% of a 20-year-old's 50/50", "ten percent to fifteen percent of a twenty-year-old's fifty fifty"),
        ("the CIA and html, hmm, they'd fly", "the see eye ay and aitch tee em el, hmm, they'd fly"),
        ("Mr. and Mrs. Lee", "mister and missus Lee"),
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


@pytest.mark.parametrize(
    "text", ["FBI said no " * 10_000, "Mr. " * 30_000, "1,2. " * 20_000, "a." * 50_000, "5 " * 50_000, "9" * 100_000]
)
def test_a_long_line_is_spelled_out_in_about_linear_time(text: str) -> None:
    began = time.process_time()
    spell_out(text)
    assert time.process_time() - began < 5


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


def test_roman_numerals_are_read_in_their_usual_form_only() -> None:
    assert [roman(text) for text in ("I", "IV", "IX", "XIV", "XL", "XCIX", "CXX")] == [1, 4, 9, 14, 40, 99, 120]
    assert [roman(text) for text in ("", "IIII", "VX", "IC", "MC", "xi")] == [None] * 6
