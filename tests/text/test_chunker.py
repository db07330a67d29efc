"""A text becomes chunks of one breath, each with the silence before it."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from llasa_cli.text.chunker import LONGEST_PAUSE_S, PARAGRAPH_PAUSE_S, SENTENCE_PAUSE_S, TextChunk, chunk_text
from llasa_cli.text.normalize.english import normalize
from llasa_cli.text.width import spoken_length


def bare(text: str) -> str:
    """The letters and digits of a text: where a sentence is split, its marks change."""
    return "".join(filter(str.isalnum, text))


def of(*parts: str, most: int = 200) -> list[tuple[str, float]]:
    return [(chunk.text, chunk.pause_s) for chunk in chunk_text(parts, most)]


@pytest.mark.parametrize(
    ("markup", "seconds"),
    [
        ("[pause:1.5]", 1.5),
        ("[pause: 500ms]", 0.5),
        ("[Pause = 2 s]", 2.0),
        ("[pause:1,5]", 1.5),
        ("[pause:0]", 0.0),
        ("[pause:1][pause:500ms]", 1.5),
        ("[pause:500]", LONGEST_PAUSE_S),
        ("[pause:40] [pause:40]", LONGEST_PAUSE_S),
        ('<break time="500ms"/>', 0.5),
        ("<break time='1.5s'>", 1.5),
        ("<BREAK  time = “250ms” />", 0.25),
        ('<break time="1s"></break>', 1.0),
        ("<break/>", 0.75),
        ('<break strength="x-strong"/>', 1.25),
        ('<break strength="none"/>', 0.0),
        ("<break time='1s' strength='strong'/>", 1.0),
        ('<break strength="weak" time="+250ms" />', 0.25),
    ],
)
def test_a_pause_is_silence_of_its_length_before_what_follows(markup: str, seconds: float) -> None:
    assert of(f"One {markup} two.") == [("One", 0.0), ("two.", seconds)]
    assert of(f"One.{markup}Two.") == [("One.", 0.0), ("Two.", seconds)]
    assert of(f"{markup} One.") == [("One.", seconds)]
    assert of(f"One.\n\n{markup}\n\nTwo.") == [("One.", 0.0), ("Two.", seconds)]
    assert of(f"One. {markup}") == [("One.", 0.0)] + ([("", seconds)] if seconds else [])


@pytest.mark.parametrize(
    "markup",
    [
        "[pause]",
        "[pause:]",
        "[pause:soon]",
        "[pause:-1]",
        "[pause:1e9]",
        "[pause 1]",
        "<break time='x'/>",
        "<break time='1s' x='2'/>",
        "<breaks/>",
    ],
)
def test_markup_that_is_not_a_pause_stays_text(markup: str) -> None:
    assert of(f"One {markup} two.") == [(f"One {markup} two.", 0.0)]


def test_a_pause_that_cannot_be_read_or_is_too_long_is_reported() -> None:
    notes: list[str] = []
    assert list(chunk_text(["A [pause:soon] b [pause:1h] c [pause:99] d. [pause:1]"], on_note=notes.append))
    assert len(notes) == 3
    assert "[pause:soon]" in notes[0]
    assert "60 s" in notes[2]


def test_a_blank_line_is_a_longer_silence_than_a_full_stop_wherever_the_parts_are_cut() -> None:
    long = "This is a sentence that is long enough to stand in a chunk of its own."
    expected = [(long, 0.0), (long, SENTENCE_PAUSE_S), (long, PARAGRAPH_PAUSE_S)]
    for parts in (
        [f"{long} {long}\n\n{long}"],
        [long, f" {long}\n", f"\n{long}"],
        [f"\n\n{long}", f" {long}", " \n", "  ", "\n ", f"{long}\n\n"],
    ):
        assert of(*parts, most=100) == expected


def test_the_first_chunk_is_given_before_the_last_part_is_looked_at() -> None:
    taken: list[int] = []

    def parts():
        for number in range(3):
            taken.append(number)
            yield f"Sentence {number}."

    given = chunk_text(parts())
    assert next(given).text == "Sentence 0."
    assert taken == [0]
    assert [chunk.text for chunk in given] == ["Sentence 1.", "Sentence 2."]


def test_the_model_is_given_words_and_the_subtitles_what_was_written() -> None:
    assert list(chunk_text(["Dr. Lee paid $5. ♥ Then he left at 9:05!"], 200, normalize)) == [
        TextChunk(
            "doctor Lee paid five dollars. Then he left at nine oh five!",
            ("Dr. Lee paid $5.", "♥ Then he left at 9:05!"),
            0.0,
        )
    ]


def test_a_sentence_that_is_too_long_is_split_together_with_its_written_form() -> None:
    sentence = ", ".join(f"{number} apples" for number in range(1000, 1100)) + "."
    given = list(chunk_text([sentence], 100, normalize))
    assert bare(" ".join(chunk.text for chunk in given)) == bare(normalize(sentence))
    assert all(chunk.text.endswith("s.") for chunk in given), "a chunk never ends with a comma"
    assert " ".join(piece for chunk in given for piece in chunk.sentences) == sentence
    for chunk in given:
        (written,) = chunk.sentences
        assert abs(len(normalize(written).split()) - len(chunk.text.split())) <= 4


@pytest.mark.parametrize("text", ["", " \n\n ", "♥", "...", "😀 😀!\n\n—", "<>", "“”"])
def test_text_without_words_gives_no_chunk(text: str) -> None:
    assert of(text) == []


@pytest.mark.parametrize("most", [30, 120, 200])
@pytest.mark.parametrize("spell", [None, normalize])
def test_every_chunk_fits_and_no_word_is_lost(most: int, spell: Callable[[str], str] | None) -> None:
    generator = random.Random(most)
    words = "word a longer, sentence. Mr. why? 3.50 $5 and; (so) 日本。 été “Well!” he... U.S. supercalifragilistic \n\n".split(
        " "
    )
    for _ in range(15):
        text = " ".join(generator.choices(words, k=80)) + " " + "x, y " * generator.randint(0, 200)
        given = list(chunk_text([text], most, spell))
        assert all(0 < spoken_length(chunk.text) <= most and chunk.pause_s >= 0 for chunk in given)
        if spell is None:
            assert bare("".join(chunk.text for chunk in given)) == bare(text)
        # Words that this voice can't read are in no subtitle.
        shown = [word for chunk in given for sentence in chunk.sentences for word in sentence.split()]
        expected = [word for word in text.split() if spell is None or "日" not in word]
        assert [word for word in shown if "日" not in word] == [word for word in expected if "日" not in word]


def test_a_line_of_a_megabyte_begins_at_once() -> None:
    asked: list[int] = []

    def spell(text: str) -> str:
        asked.append(len(text))
        return text

    given = chunk_text(["no mark at all " * 20_000], 200, spell)
    assert next(given).text.startswith("no mark")
    assert sum(asked) < 10_000


def test_a_sentence_keeps_its_mark_and_a_line_without_one_gets_it_before_the_next() -> None:
    given = list(chunk_text(["She lives in the U.S. The food is good:\n- milk\n- “eggs”\n- bread"], 200, normalize))
    assert [chunk.text for chunk in given] == ["She lives in the you ess. The food is good: milk. eggs. bread"]
    assert given[0].sentences == ("She lives in the U.S.", "The food is good:", "- milk", "- “eggs”", "- bread")


def test_control_tokens_are_plain_text() -> None:
    assert of("Say <|s_123|> and <|eot_id|>.") == [("Say <|s_123|> and <|eot_id|>.", 0.0)]


@pytest.mark.parametrize(
    ("sentence", "limit", "chunks"),
    [
        (
            "When the rain had stopped at last, the children ran out into the garden, and their mother opened the windows.",
            80,
            ["When the rain had stopped at last, the children ran out into the garden.", "and their mother opened the windows."],
        ),
        (
            "He said that the train would be late because the bridge at the river was closed",
            60,
            ["He said that the train would be late.", "because the bridge at the river was closed"],
        ),
        (
            "The report, which the committee had asked for: it was long; nobody read it, not even the chairman of the board.",
            60,
            ["The report, which the committee had asked for: it was long.", "nobody read it, not even the chairman of the board."],
        ),
        ("今天天气很好，我们去公园散步吧，然后回家。", 45, ["今天天气很好。", "我们去公园散步吧，然后回家。"]),
    ],
)  # fmt: skip
def test_a_long_sentence_is_split_at_its_clauses_and_each_piece_ends_as_a_sentence(
    sentence: str, limit: int, chunks: list[str]
) -> None:
    given = list(chunk_text([sentence], limit))
    assert [chunk.text for chunk in given] == chunks
    assert bare("".join(written for chunk in given for written in chunk.sentences)) == bare(sentence)
    assert given[0].sentences[0][-1] in ",，;e"


def test_a_chunk_that_ends_with_a_comma_or_colon_ends_with_a_full_stop_for_the_model() -> None:
    chunk, _ = chunk_text(["Bring these things to the meeting of the second of May:\n\nA pen."], 60)
    assert chunk.text == "Bring these things to the meeting of the second of May."
    assert chunk.sentences == ("Bring these things to the meeting of the second of May:",)
    assert [chunk.text for chunk in chunk_text(["“Well,”"])] == ["“Well.”"]
