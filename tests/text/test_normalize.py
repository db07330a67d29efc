"""Written text is read as a person would say it: each token class by its table of examples."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from llasa_cli.text import lexicon
from llasa_cli.text.lexicon import is_acronym, is_spelled, is_word
from llasa_cli.text.normalize.english import CLASSES, normalize, plain_characters, tokens, unsupported_words
from llasa_cli.text.normalize.loader import load_normalizer
from llasa_cli.text.normalize.numbers import cardinal, ordinal, roman, year

EXAMPLES = [
    line.split("\t")
    for line in Path(__file__).with_name("token_classes.tsv").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]
"""(class, written, said)"""


@pytest.mark.parametrize("kind", sorted({kind for kind, _, _ in EXAMPLES}))
def test_each_token_class_is_read_as_in_its_table(kind: str) -> None:
    for written, said in [(written, said) for name, written, said in EXAMPLES if name == kind]:
        assert normalize(written) == said
        assert kind == "text" or kind in {token.kind for token in tokens(plain_characters(written))}, written


def test_every_token_class_has_examples() -> None:
    assert {kind.name for table in CLASSES for kind in table} <= {kind for kind, _, _ in EXAMPLES}


def test_the_tokens_together_are_the_text() -> None:
    for _, written, _ in EXAMPLES:
        plain = plain_characters(written)
        assert "".join(token.written for token in tokens(plain)) == plain


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("I met Владимир in 東京 and paid ₸500.", ["Владимир", "東京", "₸"]),
        ("caf\ufffd is nice", ["\ufffd"]),
        ("Łódź, Øresund, straße, naïve, ½ β, 10 µm, Hawaiʻi, ﬁne, ♥, €5, №7, Ⅷ", []),
    ],
)
def test_unsupported_words_are_reported_once(text: str, words: list[str]) -> None:
    assert unsupported_words(text) == words
    notes: list[str] = []
    spell = load_normalizer(True, notes.append)
    assert spell is not None
    assert [spell(text), spell(text)] == [normalize(text)] * 2
    assert len(notes) == bool(words)
    assert all(word in notes[0] for word in words)


@pytest.mark.parametrize("text", ["", "♥", "日本語", "...", "- - -", "\n", "(ツ)"])
def test_text_without_words_becomes_empty(text: str) -> None:
    assert normalize(text) == ""


@pytest.mark.parametrize(
    "text",
    [
        "9" * 400,
        "1.2.3.4.5",
        "$$$ 1,2,3 €",
        "3:99 25:61",
        "A.B.C.D.",
        "<|eot_id|> 5",
        "½ cup x² №7",
        "1e9 0x1F -0",
        "5 mİn \u03a2",
        "make -j4 -é -1é",
    ],
)
def test_odd_text_becomes_letters_and_punctuation_only(text: str) -> None:
    assert re.fullmatch(r"[A-Za-z' ,.;:!?-]*", normalize(text))


@pytest.mark.parametrize(
    "text",
    [
        "FBI said no " * 2_500,
        "Mr. " * 7_500,
        "1,2. " * 5_000,
        "a." * 12_500,
        "5 " * 12_500,
        "9" * 25_000,
        "1," * 12_500,
        "5-" * 2_500,
        "A&" * 2_500,
        "+1 2" * 1_250,
        "0800 " * 1_250,
        "$1-" * 2_500,
        "1:1" * 2_500,
        '5" ' * 5_000,
        "3′ 5″ x " * 2_500,
        "1/2-" * 2_500,
        "a $5 € " * 2_500,
        "Part I and " * 2_500,
        "a1" * 7_500,
        "a.b" * 5_000,
        "x-" * 7_500,
        "/a" * 7_500,
        "a@" * 7_500,
        "IT " * 7_500,
        "W" * 25_000,
        "[" * 12_500,
        "I, II, " * 2_000,
        "NaCl" * 2_500,
        "git -m " * 2_500,
        "7-8-" * 2_500,
        "CHF 5 " * 2_500,
        "AbC " * 5_000,
        "1. Nf3 " * 2_500,
        "45/2 104* " * 2_500,
        "1/1/2024 " * 2_500,
        "a1b2c3 " * 2_500,
        "(a)² " * 2_500,
    ],
)
@pytest.mark.parametrize(("length", "limit_s"), [(10_000, 1), pytest.param(40_000, 3, marks=pytest.mark.slow)])
def test_a_long_line_is_spelled_out_in_about_linear_time(text: str, length: int, limit_s: float) -> None:
    began = time.process_time()
    normalize(text[:length])
    assert time.process_time() - began < limit_s


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


def test_the_warning_quotes_a_long_word_only_in_part() -> None:
    notes: list[str] = []
    spell = load_normalizer(True, notes.append)
    assert spell is not None
    spell("日" * 50_000 + " hello")
    assert len(notes[0]) < 120


def test_the_lexicon_decides_whether_capitals_are_a_word() -> None:
    assert [
        word for word in "UCLA YMCA HDMI USDA HVAC FAQ TV CEO HTTPS LED IT US".split() if not is_spelled(word)
    ] == []
    assert [word for word in "BIG FUN NASA RAM SIM GIF NATO COVID URGENT XIAOMI".split() if is_spelled(word)] == []
    assert not is_spelled("IT", shouted=True)
    assert is_acronym("NASA")
    assert not is_acronym("LOVE")
    assert is_word("mistakes")
    assert not is_word("nega")


def test_the_lexicon_is_small_and_read_fast() -> None:
    path = Path(lexicon.__file__).with_name("english_words.zlib")
    assert path.stat().st_size < 300_000
    lexicon._words.cache_clear()
    began = time.process_time()
    lexicon._words()
    assert time.process_time() - began < 0.03
