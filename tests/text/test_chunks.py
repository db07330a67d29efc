"""Text is cut where a reader pauses, and nothing of it is lost."""

from __future__ import annotations

import random

import pytest

from llasa_cli.text.chunks import split_sentences, split_text
from llasa_cli.text.stream import sentences_of


def test_sentences_end_at_their_marks_and_not_at_abbreviations() -> None:
    assert split_sentences('Mr. Smith paid 3.5 dollars. "Really?" he asked. Yes!') == [
        "Mr. Smith paid 3.5 dollars.",
        '"Really?"',
        "he asked.",
        "Yes!",
    ]


def test_east_asian_marks_end_sentences_without_a_blank() -> None:
    assert split_sentences("今日は。元気ですか？はい！") == ["今日は。", "元気ですか？", "はい！"]


def test_a_blank_line_ends_a_sentence() -> None:
    assert split_sentences("A title\n\nThe text\ngoes on.") == ["A title", "The text goes on."]


@pytest.mark.parametrize("most", [20, 80, 200])
def test_chunks_fit_and_lose_nothing(most: int) -> None:
    generator = random.Random(0)
    words = ["word", "a", "longer,", "sentence.", "Mr.", "why?", "x" * 30, "and;", "日本。"]
    for _ in range(50):
        text = " ".join(generator.choice(words) for _ in range(generator.randint(1, 120)))
        chunks = split_text(text, most)
        assert all(0 < len(chunk) <= most for chunk in chunks)
        assert "".join("".join(chunks).split()) == "".join(text.split())


def test_short_sentences_share_a_chunk() -> None:
    assert split_text("Yes. No. Perhaps not today, my dear old friend.", 100) == [
        "Yes. No. Perhaps not today, my dear old friend."
    ]


def test_a_growing_pipe_is_spoken_sentence_by_sentence() -> None:
    arrivals = iter([b"Hello th", b"ere. How ", b"are you", b"? I am", b" w\xc3", b"\xa9ll", b""])
    taken: list[int] = []

    def read(size: int) -> bytes:
        taken.append(size)
        return next(arrivals)

    parts = sentences_of(read)
    assert next(parts) == "Hello there. "
    assert len(taken) == 2, "the first sentence must not wait for the second"
    assert next(parts) == "How are you? "
    assert list(parts) == ["I am wéll"]
