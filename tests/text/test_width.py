"""Text is cut where a reader pauses, and nothing of it is lost."""

from __future__ import annotations

import random
import time
import unicodedata
from itertools import pairwise

import pytest

from llasa_cli.errors import UsageError
from llasa_cli.text.chunker import chunk_text
from llasa_cli.text.incremental import read_sentences
from llasa_cli.text.sentences import split_sentences
from llasa_cli.text.width import split, spoken_length


def bare(text: str) -> str:
    """The letters and digits of a text: where a sentence is split, its marks change."""
    return "".join(filter(str.isalnum, text))


def split_text(text: str, most: int = 200) -> list[str]:
    return [chunk.text for chunk in chunk_text([text], most)]


def test_sentences_end_at_their_marks_and_not_at_abbreviations() -> None:
    assert split_sentences('Mr. Smith paid 3.5 dollars. "Really?" he asked. Yes!') == [
        "Mr. Smith paid 3.5 dollars.",
        '"Really?" he asked.',
        "Yes!",
    ]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("See the U.S. Army at 5 p.m. Then go.", 2),
        ("Apples, etc. Then pears, etc. and more.", 2),
        ("Do you? No. I won't. It is No. 5.", 4),
        ("On Jan. 5 Gen. Lee met J. R. Smith vs. nobody.", 1),
        ("It cost 3.50. (Really!) Yes...", 3),
    ],
)
def test_abbreviations_end_sentences_only_where_they_may(text: str, sentences: int) -> None:
    assert len(split_sentences(text)) == sentences


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
        assert all(0 < spoken_length(chunk) <= most for chunk in chunks)
        assert bare("".join(chunks)) == bare(text)


def test_a_chinese_chunk_is_a_breath_too() -> None:
    chunks = split_text("今天天气很好，我们去公园散步吧，" * 40, 200)
    assert all(spoken_length(chunk) <= 200 and len(chunk) <= 66 for chunk in chunks)
    assert not any(" " in chunk for chunk in chunks), "Chinese is joined without blanks"


@pytest.mark.parametrize("text", ["Mr. " * 15_000, "no end " * 10_000, ". " * 25_000, "x" * 75_000, "a," * 25_000])
def test_a_line_of_any_kind_is_cut_in_about_linear_time(text: str) -> None:
    began = time.process_time()
    split_text(text)
    assert time.process_time() - began < 3


def test_a_long_sentence_is_cut_in_even_pieces_where_a_reader_pauses() -> None:
    clause = "we walked along the river for an hour or two, "
    chunks = split_text("That day " + clause * 5 + "and home.", 200)
    assert all(chunk.endswith("two.") for chunk in chunks[:-1])
    assert max(map(len, chunks)) < 1.5 * min(map(len, chunks))


def test_a_number_stays_with_its_unit_and_a_title_with_its_name() -> None:
    text = " ".join(["so we drove 5 km with Dr. Lee"] * 30)
    assert not any(chunk.endswith((" 5.", "Dr.", " 5")) for most in range(60, 90) for chunk in split_text(text, most))


@pytest.mark.parametrize("word", ["เก้าอี้ใหญ่ไม่" * 40, "क्षत्रिय" * 60, "👩‍👩‍👧‍👦" * 40, "e\u0301" * 300])
def test_letters_and_their_signs_stay_together(word: str) -> None:
    chunks = split(word, 100)
    assert "".join(chunks) == word
    assert len(chunks) > 2
    for before, after in pairwise(chunks):
        assert not unicodedata.category(after[0]).startswith("M")
        assert before[-1] not in "เแโใไ\u200d"
        assert after[0] != "\u200d"


def test_a_heap_of_signs_is_cut_all_the_same() -> None:
    assert max(map(spoken_length, split_text("a" + "\u0301" * 5000, 100))) < 200


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

    parts = read_sentences(read)
    assert next(parts).strip() == "Hello there."
    assert len(taken) == 2, "the first sentence must not wait for the second"
    assert next(parts).strip() == "How are you?"
    assert "".join(parts).strip() == "I am wéll"


def growing(*arrivals: bytes, more: bool) -> list[str]:
    parts = iter([*arrivals, b""])
    return [part.strip() for part in read_sentences(lambda _: next(parts), lambda: more)]


def test_a_name_is_not_torn_from_its_title_in_a_pipe() -> None:
    assert growing(b"I saw Dr. ", b"Smith. He ", b"was well.", more=True) == ["I saw Dr. Smith.", "He was well."]


def test_a_line_is_spoken_when_the_writer_pauses_and_not_before() -> None:
    wrapped = (b"This sentence goes on\n", b"in the next line.\n")
    assert growing(*wrapped, more=True) == ["This sentence goes on\nin the next line."]
    assert growing(*wrapped, more=False) == ["This sentence goes on", "in the next line."]


def test_bad_bytes_and_a_byte_order_mark_are_no_obstacle() -> None:
    assert growing(b"\xef\xbb\xbfYes \xff\xfe indeed.", more=False) == ["Yes \ufffd\ufffd indeed."]


def test_binary_data_is_not_spoken() -> None:
    with pytest.raises(UsageError, match="not text"):
        growing(b"RIFF\0\0\0\0WAVE", more=False)
