"""Turns of a dialogue become marks; unknown names are refused with their line."""

from __future__ import annotations

import pytest

from llasa_cli.documents.document import Chapter, Document
from llasa_cli.errors import UsageError
from llasa_cli.text.chunker import chunk_text
from llasa_cli.text.dialogue import has_voices, read_dialogue, read_rows
from llasa_cli.text.incremental import read_sentences
from llasa_cli.text.markup import read_markup

CAST = {"anna": "Anna", "bob": "Bob", "old man": "Old Man"}


def find(name: str) -> str:
    if name.casefold() not in CAST:
        raise UsageError(f"{name!r} is unknown.")
    return CAST[name.casefold()]


def spoken(text: str, names: object = CAST, markdown: bool = False, cut: int = 0) -> list[tuple[str, str]]:
    parts = [text] if not cut else [text[at : at + cut] for at in range(0, len(text), cut)]
    chunks = chunk_text(read_dialogue(parts, find, names), 100, markdown=markdown)  # type: ignore[arg-type]
    return [(chunk.voice, chunk.text) for chunk in chunks]


HELLO = [("Anna", "Good evening."), ("Bob", "Hello.")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Anna: Good evening.\nBob: Hello.\n", HELLO),
        ("ANNA: Good evening.\r\n\r\nbob: Hello.", HELLO),
        ("  - Anna: Good evening.\n  - Bob: Hello.", HELLO),
        ("— Anna: Good evening.\n— Bob: Hello.", HELLO),
        ("Old Man: Yes.\nAnna: No.", [("Old Man", "Yes."), ("Anna", "No.")]),
        ("It was late.\n\nAnna: Good evening.\nIs he here?\n\nNobody answered.",
         [("", "It was late."), ("Anna", "Good evening. Is he here?"), ("", "Nobody answered.")]),
        ("[voice:Anna] Good evening. [voice: bob]Hello. [voice:]The end.", [*HELLO, ("", "The end.")]),
        ("Anna says: Good evening. At 12:30 it rained.", [("", "Anna says: Good evening. At 12:30 it rained.")]),
        ("He wrote\nhttp://a.org: fine.", [("", "He wrote http://a.org: fine.")]),
    ],
)  # fmt: skip
def test_turns_have_their_voices(text: str, expected: list[tuple[str, str]]) -> None:
    assert spoken(text) == expected


def test_turns_of_markdown_have_their_voices() -> None:
    assert spoken("**Anna:** Good *evening*.\n\n**Bob**: Hello.\n", markdown=True) == HELLO


def test_without_a_cast_a_line_with_a_colon_is_a_text() -> None:
    assert spoken("Anna: Good evening.", ()) == [("", "Anna: Good evening.")]


def test_a_turn_may_begin_a_chapter_without_a_heading() -> None:
    book = Document("", "", "", (Chapter("", ("Anna: Good evening.", "It was late.")), Chapter("", ("Bob: Hello.",))))
    chunks = [chunk for chunk in chunk_text(read_dialogue(book.parts(), find, CAST), 100) if chunk.text]
    assert [(chunk.voice, chunk.text, chunk.chapter) for chunk in chunks] == [
        ("Anna", "Good evening.", "Chapter 1"),
        ("", "It was late.", ""),
        ("Bob", "Hello.", "Chapter 2"),
    ]


def test_voices_of_ssml_are_found_like_those_of_a_text() -> None:
    ssml = '<speak><voice name="ANNA">Good evening.</voice> It was late. <voice name="bob">Hello.</voice></speak>'
    chunks = chunk_text(read_dialogue(read_markup(iter([ssml]), "ssml"), find), 100)
    assert [(chunk.voice, chunk.text) for chunk in chunks] == [HELLO[0], ("", "It was late."), HELLO[1]]
    with pytest.raises(UsageError, match=r"^'Carl' is unknown"):
        list(read_dialogue(read_markup(iter([ssml.replace("bob", "Carl")]), "ssml"), find))


def test_a_turn_is_followed_by_a_pause() -> None:
    chunks = list(chunk_text(read_dialogue(["Anna: Good evening.\nBob: Hello."], find, CAST), 100))
    assert [chunk.pause_s for chunk in chunks] == [0.0, 0.5]


@pytest.mark.parametrize(
    ("text", "line"),
    [("Anna: Yes.\n\nCarl: No.", 3), ("One.\n[voice:Carl] two", 2), ("- Mr. Brown: Yes.", 1)],
)
def test_an_unknown_name_is_refused_with_its_line(text: str, line: int) -> None:
    with pytest.raises(UsageError, match=f"^Line {line}: '.*' is unknown"):
        spoken(text)


@pytest.mark.parametrize("text", ["One.\n[voice:Anna Good evening.", "One.\n[voice:", "\n[Voice = Anna\n] Yes."])
def test_a_sign_that_is_not_closed_is_refused_with_its_line(text: str) -> None:
    assert has_voices(text)
    with pytest.raises(UsageError, match=r"^Line 2: '\[[Vv]oice.* is not closed"):
        spoken(text)


def test_a_growing_text_is_not_cut_inside_a_sign() -> None:
    data = iter([b"Yes. [voice:Mr.", b" Brown] No.", b""])
    assert list(read_sentences(lambda _: next(data))) == ["Yes.", " [voice:Mr. Brown] No."]


def test_rows_have_their_voices() -> None:
    rows = [
        '{"name": "Anna", "text": "Good evening."}',
        "",
        '{"speaker": "bob", "content": "Hello."}',
        '{"text": "End."}',
    ]
    chunks = chunk_text(read_dialogue(read_rows(rows, find), find), 100)
    assert [(chunk.voice, chunk.text) for chunk in chunks] == [*HELLO, ("", "End.")]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{", "Line 1 is not JSON"),
        ("[1]", "Line 1 is not a JSON object"),
        ('{"name": "Anna"}', "Line 1 has no text"),
        ('{"name": 3, "text": "a"}', "Line 1: '3' is not text"),
        ('{"name": "Carl", "text": "a"}', "Line 1: 'Carl' is unknown"),
    ],
)
def test_a_wrong_row_is_refused_with_its_line(row: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        list(read_rows([row], find))
