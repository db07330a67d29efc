"""Lists of every form, good and bad, read one item at a time."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import pytest

from llasa_cli.batch.manifest import SHOWN, Item, Problems, read_manifest, safe_name
from llasa_cli.errors import UsageError


def read(source: str | bytes, ending: str = "", folder: Path = Path(), problems: Problems | None = None) -> list[Item]:
    data = source.encode() if isinstance(source, str) else source
    problems = problems or Problems()
    found = list(read_manifest(lambda: io.BytesIO(data), f"list{ending}", folder, problems))
    problems.refuse()
    return found


def warnings(source: str | bytes, ending: str = "") -> list[str]:
    problems = Problems()
    read(source, ending, problems=problems)
    return problems.warnings.lines


def refusal(source: str | bytes, ending: str = "") -> UsageError:
    with pytest.raises(UsageError) as refused:
        read(source, ending)
    return refused.value


# --- JSON lines ---


def test_json_lines_may_hold_any_character_and_numbers() -> None:
    items = [{"id": 7, "text": "one\u2028two\x0bthree", "voice": 5}, {"text": "x"}]
    found = read("\r\n".join(json.dumps(item, ensure_ascii=False) for item in items), ".jsonl")
    assert [(i.name, i.text, i.voice) for i in found] == [("7", "one\u2028two\x0bthree", "5"), ("00002", "x", None)]


def test_json_lines_have_two_endings() -> None:
    assert read('{"id": "a"}\n', ".ndjson") == read('{"id": "a"}\n', ".jsonl")


def test_lone_surrogates_are_replaced() -> None:
    assert read('{"text": "a \\ud800 b"}', ".jsonl")[0].text == "a \ufffd b"


def test_a_json_array_is_named_with_the_command_that_converts_it() -> None:
    assert "jq -c" in refusal('[{"text": "x"}]', ".json").hint
    assert "jq -c" in refusal('{\n  "text": "x"\n}\n', ".json").hint
    assert [i.text for i in read('{"text": "x"}\n{"text": "y"}', ".json")] == ["x", "y"]


# --- tables ---


def test_tables_are_read_by_their_column_names(tmp_path: Path) -> None:
    found = read('Text,id,seed,ref\n"one, two",a,5,\n\nthree,b,,x/y.wav\n', ".csv", tmp_path)
    assert [(i.number, i.name, i.text, i.seed, i.ref) for i in found] == [
        (2, "a", "one, two", 5, None),
        (4, "b", "three", None, tmp_path / "x" / "y.wav"),
    ]


def test_a_text_of_several_lines_in_a_table_has_the_number_of_its_first() -> None:
    found = read('id\ttext\na\t"one\n\ntwo"\nb\tthree\n', ".tsv")
    assert [(i.number, i.text) for i in found] == [(2, "one\n\ntwo"), (5, "three")]


@pytest.mark.parametrize("ending", ["", ".txt", ".csv", ".tsv"])
@pytest.mark.parametrize(
    "source",
    [
        'id;text;temperature\na;"Hello; there, friend.";0,7\nb;Bye.;\n',
        'sep=;\nid;text;temperature\na;"Hello; there, friend.";0,7\nb;Bye.;\n',
        "sep=|\nid|text|temperature\na|Hello; there, friend.|0.7\nb|Bye.|\n",
        "id\ttext\ttemperature\na\tHello; there, friend.\t0.7\nb\tBye.\t\n",
        'id,text,temperature\ra,"Hello; there, friend.",0.7\rb,Bye.,\r',
        '\ufeffid;text;temperature;\r\na;"Hello; there, friend.";0,7;\r\nb;Bye.;;\r\n',
        "id|text|temperature\na|Hello; there, friend.|0.7\nb|Bye.|\n",
    ],
)
def test_tables_of_spreadsheets_are_read_whatever_their_delimiter_and_line_ends(source: str, ending: str) -> None:
    found = read(source, ending)
    assert [(i.id, i.text) for i in found] == [("a", "Hello; there, friend."), ("b", "Bye.")]
    assert dict(found[0].sampling) == {"temperature": 0.7}


@pytest.mark.parametrize(
    ("source", "ending", "texts"),
    [
        ('text\nOne, two.\n"Three, four."\n', ".csv", ["One, two.", "Three, four."]),
        ('id|text\na|"He said ""hi"".\nThen left."\nb|Bye.\n', ".csv", ['He said "hi".\nThen left.', "Bye."]),
        ('id|text\na|"Hi," he said.\nb|"Bye.\n', ".csv", ['"Hi," he said.', '"Bye.']),
        ("id;text;seed;speed\na;One.;1,0;1,25\n", ".csv", ["One."]),
        ('{"text": "One.", "seed": NaN, "speed": NaN}\n', ".jsonl", ["One."]),
    ],
)
def test_tables_that_pandas_and_spreadsheets_write_are_read(source: str, ending: str, texts: list[str]) -> None:
    assert [item.text for item in read(source, ending)] == texts


@pytest.mark.parametrize(
    ("source", "ending", "says"),
    [
        ("text,text\nOne.,Two.\n", ".csv", "two columns `text`"),
        ("file,transcript\na.wav,One.\n", ".csv", "its first line is: 'file, transcript'"),
        ("file\ttranscript\na.wav\tOne.\n", ".tsv", "its first line is: 'file, transcript'"),
        ("file,transcript\nid,text\n", ".csv", "its first line is: 'file, transcript'"),
        ("id,text\na,#REF!\n", ".csv", "the error of a formula: #REF!"),
        ("One.\nTwo.".encode("utf-16") + b"x", "", "line 2: bytes that are not utf-16"),
        ('[{"text": "One."},\n{"text": "Two."}]\n', ".jsonl", "is a JSON array"),
    ],
)
def test_what_a_list_does_not_say_is_refused_and_named(source: str | bytes, ending: str, says: str) -> None:
    assert says in str(refusal(source, ending))


def test_a_text_that_is_split_by_a_delimiter_is_refused() -> None:
    assert "line 2: 3 fields" in refusal("id,text\na,Well, well\n", ".csv").hint
    assert "put a text with ';' in quotes" in refusal("id;text\na;Well; well\n", ".csv").hint


@pytest.mark.parametrize(
    "source",
    ['id,text\na,one\nb,"two\nc,three\nd,four\n', 'id,text\na,one\nb,"two\nc,"three"\n', 'id,text\na,one\nb,"t" wo\n'],
)
def test_a_quote_that_is_not_closed_swallows_no_rows(source: str) -> None:
    error = refusal(source, ".csv")
    assert error.hint.startswith("line 3: ")
    assert "a quote not closed" in error.hint


def test_quotes_in_a_table_with_tabs_may_be_part_of_its_texts() -> None:
    source = 'id\ttext\na\t"Stop!" she cried.\nb\t"All of it."\nc\tHe said "hi."\nd\t"He left\n'
    for ending in ("", ".tsv"):
        assert [i.text for i in read(source, ending)] == [
            '"Stop!" she cried.', '"All of it."', 'He said "hi."', '"He left'
        ]  # fmt: skip
    assert read('id\ttext\na\t"He said ""hi"", ok"\n', ".tsv")[0].text == 'He said "hi", ok'


def test_blanks_around_fields_are_left_out_and_whole_numbers_may_have_a_point() -> None:
    found = read('id, "text", voice ,seed\na, "Hello, you.", heart ,5.0\nb,Bye,,\n', ".csv")
    assert [(i.text, i.voice, i.seed) for i in found] == [("Hello, you.", "heart", 5), ("Bye", None, None)]
    assert read('{"text": "x", "seed": 7.0}\n', ".jsonl")[0].seed == 7


@pytest.mark.parametrize("source", ["", "\ufeff", "\n \n"])
def test_an_empty_table_is_named_as_such(source: str) -> None:
    assert refusal(source, ".csv").message == "The list is empty."


def test_a_text_in_a_table_may_be_a_chapter() -> None:
    chapter = "one more sentence. " * 20_000
    assert read(f'id,text\na,"{chapter}"\nb,two\n', ".csv")[0].text == chapter


# --- lines ---


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
def test_the_first_line_decides_the_form_if_the_name_does_not(source: str, ending: str) -> None:
    assert [(i.id, i.text) for i in read(source, ending)] == [("a", "one, two"), ("b", "three")]


@pytest.mark.parametrize(
    "line", ["Text", '"Text," she said, "is all."', "Text, and more text", '{"a": 1}', "[1]", "12", "sep=long"]
)
def test_a_first_line_that_is_a_text_is_spoken(line: str) -> None:
    assert [i.text for i in read(f"{line}\nand two\n")] == [line, "and two"]


def test_a_bar_in_one_sentence_does_not_make_its_beginning_an_id() -> None:
    assert [i.text for i in read("this | that\nplain sentence\n")] == ["this | that", "plain sentence"]
    assert [(i.id, i.text) for i in read("a|this | that\n\nb| two\n")] == [("a", "this | that"), ("b", "two")]


@pytest.mark.parametrize("ending", ["", ".txt", ".csv"])
def test_of_the_three_columns_of_ljspeech_the_normalized_text_is_spoken(ending: str) -> None:
    source = "LJ1|Hello 1.|Hello one.\nLJ2|Hello 2.|Hello two.\nLJ3|Bye now.|\n"
    assert [(i.id, i.text) for i in read(source, ending)] == [
        ("LJ1", "Hello one."),
        ("LJ2", "Hello two."),
        ("LJ3", "Bye now."),
    ]
    assert "third one is spoken" in warnings(source, ending)[0]
    assert [i.text for i in read("a|yes | no\nb|left | right\n")] == ["yes | no", "left | right"]


@pytest.mark.parametrize("ending", ["", ".txt", ".tsv"])
def test_a_tab_may_be_between_an_id_and_its_text(ending: str) -> None:
    found = read("a1\tHello, you.\n\na2\tGo | in\tnow.\n", ending)
    assert [(i.id, i.text) for i in found] == [("a1", "Hello, you."), ("a2", "Go | in\tnow.")]
    assert [i.text for i in read("a\tAt 5.\tAt five.\nb\tAt 6.\tAt six.\n", ending)] == ["At five.", "At six."]
    assert refusal("a\tYes, it is.\nb\tNo.\nAnd more.\n", ending).hint.startswith("line 3: no id")


@pytest.mark.parametrize(
    "source",
    [
        "Anna:\tHello.\nBob:\tHi.\n",
        "she\tsaid\nshe\tleft\n",
        "\tOne.\n\tTwo.\n",
        "This is a whole\tline.\nAnd this is another\tline.\n",
    ],
)
def test_tabs_in_texts_are_no_ids(source: str) -> None:
    assert [i.text for i in read(source)] == [line.strip() for line in source.splitlines()]


@pytest.mark.parametrize(
    "source",
    [
        "Lines of the game\nDraft,,\n\nid,text,note\na,Hello.,x\n",
        '"Lines, all",,\n,,\nid,text,seed\na,Hello.,\n',
        "Lines of the game;;\nid;text;seed\na;Hello.;\n",
    ],
)
def test_a_title_above_the_columns_of_a_table_is_skipped(source: str) -> None:
    assert [(i.id, i.text) for i in read(source, ".csv")] == [("a", "Hello.")]
    assert "what is above it is not spoken" in warnings(source, ".csv")[0]


def test_one_line_without_an_id_does_not_have_all_ids_spoken() -> None:
    error = refusal("a|Yes.\n\nJust a line.\nb|No.\nAnd one more.\nc|Well.\n")
    assert error.message == "One line of the list can't be read."
    assert error.hint.startswith("line 3: no id")
    half = "a|Yes.\nb|No.\nJust a line.\nAnd one more."
    assert [i.text for i in read(half)] == half.split("\n")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_of_all_systems_and_a_byte_order_mark_are_not_text(end: str) -> None:
    assert [i.text for i in read(f"\ufeffone{end}two")] == ["one", "two"]


def test_the_sampling_of_an_item_arrives() -> None:
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


# --- names ---


@pytest.mark.parametrize(
    ("output", "place", "warning"),
    [
        ("act1/scene2/kim.mp3", ("act1/scene2/kim", "mp3"), ""),
        ("../../etc/passwd", ("etc/passwd", None), "leads out of the output folder"),
        ("/root/a.b.WAV", ("root/a.b", "wav"), "leads out of the output folder"),
        ("C:\\x\\y", ("C_/x/y", None), "leads out of the output folder"),
        ("v1.2", ("v1.2", None), ""),
        ("a\\b.txt", ("a/b.txt", None), ""),
        ("..", ("00001", None), "leads out of the output folder"),
        (".wav", ("wav", None), "can't be a file name"),
        ("a/nul.txt", ("a/nul_.txt", None), "can't be a file name"),
        ("why?", ("why_", None), "can't be a file name"),
    ],
)
def test_an_output_never_leads_out_of_the_folder_and_changes_are_reported(
    output: str, place: tuple[str, str | None], warning: str
) -> None:
    source = json.dumps({"text": "x", "output": output})
    (item,) = read(source, ".jsonl")
    assert (item.name, item.ending) == place
    assert [warning in line for line in warnings(source, ".jsonl")] == ([True] if warning else [])


def test_an_id_that_can_not_be_a_file_name_is_reported() -> None:
    assert warnings("a/b|one\nc|two\n") == ["line 1: the id 'a/b' can't be a file name; the file is called a_b"]


def test_names_are_safe() -> None:
    for name in ("../a", "..", "con", "x" * 999, "日" * 99, " . ", "a\x00b", "-rf"):
        safe = safe_name(name)
        assert safe
        assert "/" not in safe
        assert "\x00" not in safe
        assert not safe.startswith(".")
        assert len(f".{safe}-1000000.12345678.part.opus".encode()) <= 255
    assert safe_name("日本 a/b") == "日本 a_b"


@pytest.mark.parametrize("name", ["con", "NUL", "aux.txt", "com1.tar.gz", "lpt9 .x", "com²", "PRN."])
def test_windows_devices_are_no_names_with_any_ending(name: str) -> None:
    assert safe_name(name).casefold().startswith(name.partition(".")[0].strip().casefold() + "_")


@pytest.mark.parametrize("name", ["console", "nullable", "auxiliary.x", "com", "com10", "x.con"])
def test_names_that_only_resemble_windows_devices_stay(name: str) -> None:
    assert safe_name(name) == name


# --- refusals ---


def test_everything_that_is_wrong_is_reported_at_once() -> None:
    lines = [
        "{",
        '{"text": "x"}',
        "3",
        '{"text": ["x"], "seed": -1}',
        '{"text": "x", "top_p": 2, "temperature": 0.001}',
        '{"text": "a\\u0000b"}',
    ]
    error = refusal("\n".join(lines), ".jsonl")
    assert error.message == "5 lines of the list can't be read."
    found = [line.strip() for line in error.hint.split("\n")]
    assert [line.split(":")[0] for line in found] == ["line 1", "line 3", "line 4", "line 5", "line 6"]
    assert "text is not text; the seed '-1' is not a whole number from 0" in found[2]
    assert "temperature '0.001' must be 0 or at least 0.01" in found[3]
    assert "top_p '2' must be between 0 and 1" in found[3]
    assert "text has a NUL character" in found[4]


def test_of_many_problems_the_first_are_listed_and_all_are_counted() -> None:
    error = refusal("1\n" * 5000, ".jsonl")
    assert error.message.startswith("5000 lines")
    assert error.hint.count("line ") == SHOWN
    assert error.hint.endswith(f"and {5000 - SHOWN} more")


@pytest.mark.parametrize(
    ("source", "ending"),
    [
        ("a,b\n1,2\n", ".csv"),
        ("", ".csv"),
        ('{"text":"x","seed":"y"}', ".jsonl"),
        ('{"text":"x","seed":1.5}', ".jsonl"),
        ('{"text":"x","seed":"9999999999999999999999"}', ".jsonl"),
        ('{"text":"x","top_k":1e999}', ".jsonl"),
        ('{"text":"x","top_k":1.5}', ".jsonl"),
        ("[" * 100_000, ".jsonl"),
        ('text\n"one\n', ".csv"),
        ('"text\none\n', ".csv"),
        ("one\nt\0wo\n", ""),
        ('{\n"cells": []}', ".ipynb"),
        ("From: a@example.com\n\nHello.", ".eml"),
        ("Title\n=====", ".rst"),
    ],
)
def test_invalid_lists_are_refused(source: str, ending: str) -> None:
    refusal(source, ending)


def test_a_column_without_a_meaning_is_noted() -> None:
    problems = Problems()
    read('{"txet": "x"}\n', ".jsonl", problems=problems)
    assert problems.unknown == {"txet": 1}


# --- encodings and documents (see also tests/text/test_encoding.py) ---


def test_utf_16_is_read() -> None:
    assert [i.text for i in read("text\tid\nüne\ta\n".encode("utf-16"), ".csv")] == ["üne"]


def test_a_code_page_is_read_with_a_warning_that_names_it() -> None:
    source = "It was late – very late. “Stop,” he said, it’s 5.\n".encode("cp1252")
    assert read(source)[0].text == "It was late – very late. “Stop,” he said, it’s 5."
    assert "Windows-1252" in warnings(source)[0]


def test_damaged_utf_8_is_refused_with_its_line() -> None:
    assert "line 2: bytes that are not utf-8" in refusal("über\n".encode() * 9 + b"t\xe9o\n").hint.replace(
        "line 10", "line 2"
    )


def test_a_workbook_is_named_with_the_command_that_converts_it(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "list.csv", "w") as archive:
        archive.writestr("xl/workbook.xml", "x")
    error = refusal((tmp_path / "list.csv").read_bytes(), ".csv")
    assert "an Excel workbook" in error.message
    assert "libreoffice" in error.hint


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("semi.csv", ["Hello there, friend.", "Bye now."]),
        ("sep.csv", ["Hello there."]),
        ("cr.csv", ["Hello one.", "Hello two."]),
        ("lj.txt", ["Hello one.", "Hello two."]),
        ("cp1252.txt", ["It was late – very late. “Stop,” he said, it’s 5."]),
    ],
)
def test_lists_that_failed_in_other_tools_are_read(name: str, texts: list[str]) -> None:
    path = Path(__file__).parent / "lists" / name
    found = list(read_manifest(lambda: path.open("rb"), str(path), path.parent, problems := Problems()))
    problems.refuse()
    assert [item.text for item in found] == texts
