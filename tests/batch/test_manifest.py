"""Lists of every form, good and bad, a line at a time."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from llasa_cli.batch.manifest import SHOWN, Item, Problems, items_of, safe_name
from llasa_cli.errors import UsageError


def read(source: str | bytes, ending: str = "", folder: Path = Path()) -> list[Item]:
    data = source.encode() if isinstance(source, str) else source
    problems = Problems()
    found = list(items_of(lambda: io.BytesIO(data), ending, folder, problems))
    problems.refuse()
    return found


def test_json_lines_may_hold_any_character_and_numbers() -> None:
    items = [{"id": 7, "text": "one\u2028two\x0bthree", "voice": 5}, {"text": "x"}]
    found = read("\r\n".join(json.dumps(item, ensure_ascii=False) for item in items), ".jsonl")
    assert [(i.name, i.text, i.voice) for i in found] == [("7", "one\u2028two\x0bthree", "5"), ("00002", "x", None)]


def test_json_lines_have_two_endings() -> None:
    assert read('{"id": "a"}\n', ".ndjson") == read('{"id": "a"}\n', ".jsonl")


def test_halves_of_characters_are_replaced() -> None:
    assert read('{"text": "a \\ud800 b"}', ".jsonl")[0].text == "a \ufffd b"


def test_tables_are_read_by_their_column_names(tmp_path: Path) -> None:
    found = read('Text,id,seed,ref\n"one, two",a,5,\n\nthree,b,,x/y.wav\n', ".csv", tmp_path)
    assert [(i.number, i.name, i.text, i.seed, i.ref) for i in found] == [
        (2, "a", "one, two", 5, None),
        (4, "b", "three", None, tmp_path / "x" / "y.wav"),
    ]


def test_a_text_of_several_lines_in_a_table_has_the_number_of_its_first() -> None:
    found = read('id\ttext\na\t"one\n\ntwo"\nb\tthree\n', ".tsv")
    assert [(i.number, i.text) for i in found] == [(2, "one\n\ntwo"), (5, "three")]


def test_a_table_that_splits_a_text_is_refused_and_not_cut() -> None:
    with pytest.raises(UsageError) as refused:
        read("id,text\na,Well, well\n", ".csv")
    assert "line 2: 3 fields" in refused.value.hint


@pytest.mark.parametrize(
    "source",
    ['id,text\na,one\nb,"two\nc,three\nd,four\n', 'id,text\na,one\nb,"two\nc,"three"\n', 'id,text\na,one\nb,"t" wo\n'],
)
def test_a_quote_that_is_not_closed_swallows_no_rows(source: str) -> None:
    with pytest.raises(UsageError) as refused:
        read(source, ".csv")
    assert refused.value.hint.startswith("line 3: ")
    assert "a quote not closed" in refused.value.hint


def test_a_text_in_a_table_may_be_a_chapter() -> None:
    chapter = "one more sentence. " * 20_000
    assert read(f'id,text\na,"{chapter}"\nb,two\n', ".csv")[0].text == chapter


@pytest.mark.parametrize("ending", ["", ".txt"])
@pytest.mark.parametrize(
    "source",
    [
        '\n{"id": "a", "Text": "one, two"}\n{"id": "b", "text": "three"}\n',
        'id,text\na,"one, two"\nb,three\n',
        '\ufeff"ID","Text"\r\n"a","one, two"\r\n"b","three"\r\n',
        "text\tid\none, two\ta\nthree\tb\n",
    ],
)
def test_the_first_line_tells_the_form_where_the_name_does_not(source: str, ending: str) -> None:
    assert [(i.id, i.text) for i in read(source, ending)] == [("a", "one, two"), ("b", "three")]


@pytest.mark.parametrize(
    "line", ["Text", '"Text," she said, "is all."', "Text, and more text", '{"a": 1}', "[1]", "12"]
)
def test_a_first_line_that_is_a_text_stays_one(line: str) -> None:
    assert [i.text for i in read(f"{line}\nand two\n")] == [line, "and two"]


def test_a_bar_in_one_sentence_makes_no_id() -> None:
    assert [i.text for i in read("this | that\nplain sentence\n")] == ["this | that", "plain sentence"]
    assert [(i.id, i.text) for i in read("a|this | that\n\nb| two\n")] == [("a", "this | that"), ("b", "two")]


def test_a_line_that_has_lost_its_id_does_not_have_the_others_spoken() -> None:
    with pytest.raises(UsageError) as refused:
        read("a|Yes.\n\nJust a line.\nb|No.\nAnd one more.\nc|Well.\n")
    assert refused.value.message == "One line of the list can't be read."
    assert refused.value.hint.startswith("line 3: no id")
    half = "a|Yes.\nb|No.\nJust a line.\nAnd one more."
    assert [i.text for i in read(half)] == half.split("\n")


def test_a_mark_at_the_beginning_and_windows_line_ends_are_not_text() -> None:
    assert [i.text for i in read("\ufeffone\r\ntwo")] == ["one", "two"]


def test_sampling_of_an_item_arrives() -> None:
    row = {"text": "x", "temperature": 0.3, "top_p": 0.5, "top_k": "7", "min_p": 0, "repetition_penalty": 1.2}
    (item,) = read(json.dumps(row | {"max_seconds": 3, "speaker": "kore", "ref_audio": "c.wav"}), ".jsonl")
    assert dict(item.sampling) == {
        "temperature": 0.3,
        "top_p": 0.5,
        "top_k": 7,
        "min_p": 0.0,
        "repetition_penalty": 1.2,
        "max_seconds": 3.0,
    }
    assert (item.speaker, item.ref) == ("kore", Path("c.wav"))


@pytest.mark.parametrize(
    ("output", "place"),
    [
        ("act1/scene2/kim.mp3", ("act1/scene2/kim", "mp3")),
        ("../../etc/passwd", ("etc/passwd", None)),
        ("/root/a.b.WAV", ("root/a.b", "wav")),
        ("v1.2", ("v1.2", None)),
        ("a\\b.txt", ("a/b.txt", None)),
        ("..", ("00001", None)),
        (".wav", ("wav", None)),
    ],
)
def test_an_output_name_never_leads_out_of_the_folder(output: str, place: tuple[str, str | None]) -> None:
    (item,) = read(json.dumps({"text": "x", "output": output}), ".jsonl")
    assert (item.name, item.ending) == place


def test_names_are_safe() -> None:
    for name in ("../a", "..", "con", "x" * 999, "日" * 99, " . ", "a\x00b", "-rf"):
        safe = safe_name(name)
        assert safe
        assert "/" not in safe
        assert "\x00" not in safe
        assert not safe.startswith(".")
        assert len(f".{safe}-1000000.12345678.part.opus".encode()) <= 255
    assert safe_name("日本 a/b") == "日本 a_b"


def test_everything_that_is_wrong_is_told_at_once() -> None:
    lines = [
        "{",
        '{"text": "x"}',
        "3",
        '{"text": ["x"], "seed": -1}',
        '{"text": "x", "top_p": 2, "temperature": 0.001}',
    ]
    with pytest.raises(UsageError) as refused:
        read("\n".join(lines), ".jsonl")
    assert refused.value.message == "4 lines of the list can't be read."
    told = refused.value.hint.split("\n")
    assert [line.strip().split(":")[0] for line in told] == ["line 1", "line 3", "line 4", "line 5"]
    assert "text is not a text; the seed '-1' is not a whole number from 0" in told[2]
    assert "temperature '0.001'" in told[3]
    assert "top_p '2' is not from 0 to 1" in told[3]


def test_of_very_many_problems_the_first_are_told_and_all_are_counted() -> None:
    with pytest.raises(UsageError) as refused:
        read("[]\n" * 5000, ".jsonl")
    assert refused.value.message.startswith("5000 lines")
    assert refused.value.hint.count("line ") == SHOWN
    assert refused.value.hint.endswith(f"and {5000 - SHOWN} more")


def test_other_encodings_are_told() -> None:
    with pytest.raises(UsageError, match="not UTF-8"):
        read("one\ntwo".encode("utf-16"))
    with pytest.raises(UsageError) as refused:
        read(b"one\nt\xe9o\n")
    assert "line 2: not UTF-8" in refused.value.hint


@pytest.mark.parametrize(
    ("source", "ending"),
    [
        ("a,b\n1,2\n", ".csv"),
        ("", ".csv"),
        ('{"text":"x","seed":"y"}', ".jsonl"),
        ('{"text":"x","seed":1.5}', ".jsonl"),
        ('{"text":"x","seed":"9999999999999999999999"}', ".jsonl"),
        ('{"text":"x","top_k":1e999}', ".jsonl"),
        ("[" * 100_000, ".jsonl"),
        ('text\n"one\n', ".csv"),
        ('"text\none\n', ".csv"),
    ],
)
def test_lists_that_are_none_are_refused(source: str, ending: str) -> None:
    with pytest.raises(UsageError):
        read(source, ending)


def test_a_column_that_nothing_is_made_of_is_noted() -> None:
    problems = Problems()
    list(items_of(lambda: io.BytesIO(b'{"txet": "x"}\n'), ".jsonl", Path(), problems))
    assert problems.unknown == {"txet": 1}
