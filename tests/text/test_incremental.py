"""A file of any size is read in parts; what is no text is refused before anything is spoken."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from llasa_cli.errors import UsageError
from llasa_cli.text.chunker import chunk_text
from llasa_cli.text.incremental import read_text_file
from llasa_cli.text.sentences import split_sentences


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("between", [" ", "\n\n", "\r\n\r\n", "\n"])
def test_a_long_file_comes_in_parts_that_end_with_a_sentence(tmp_path: Path, between: str) -> None:
    text = between.join(f"Dr. Lee paid {number}.50 to “Mr. Ö” on the way." for number in range(3000))
    parts = list(read_text_file(write(tmp_path / "a.txt", text.encode())))
    plain = text.replace("\r\n", "\n")
    assert "".join(parts) == plain
    assert len(parts) > 1
    assert max(map(len, parts)) < 70_000
    assert all(part.rstrip().endswith("on the way.") for part in parts)
    assert [one for part in parts for one in split_sentences(part)] == split_sentences(plain)


@pytest.mark.parametrize("text", ["x" * 600_000, "word " * 120_000, "今" * 200_000])
def test_a_line_without_an_end_is_cut_all_the_same(tmp_path: Path, text: str) -> None:
    parts = list(read_text_file(write(tmp_path / "a.txt", text.encode())))
    assert "".join(parts).rstrip() == text.rstrip()
    assert max(map(len, parts)) < 400_000


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    def peak(sentences: int) -> int:
        path = write(tmp_path / "a.txt", b"One sentence of this long book, and more of it.\n\n" * sentences)
        tracemalloc.start()
        count = sum(len(passage.sentences) for passage in chunk_text(read_text_file(path)))
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert count == sentences
        return highest

    assert peak(10_000) < 1.3 * peak(4_000)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"\xef\xbb\xbfA b.\r\nC\rd.", "A b.\nC\nd."),
        (b"A\n" * 40000 + b"\r\n" + "é".encode(), "A\n" * 40000 + "\né"),
        (b"x" * 65535 + b"\r\n" + "é".encode(), "x" * 65535 + "\né"),
        (b"x" * 65535 + "é".encode() + b"\r", "x" * 65535 + "é\n"),
    ],
)
def test_marks_of_other_systems_are_read(tmp_path: Path, data: bytes, expected: str) -> None:
    assert "".join(read_text_file(write(tmp_path / "a.txt", data))) == expected


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "is empty"),
        (b" \n\t\r\n", "is empty"),
        (b"\xef\xbb\xbf", "is empty"),
        (b"Good.\xff bad", "byte 5"),
        (b"\xef\xbb\xbfGood.\xff bad", "byte 8"),
        (b"x" * 65535 + b"\xc3\xa9" + b"\xc3(", "byte 65537"),
        (b"x" * 65535 + b"\xe2\x82(", "byte 65535"),
        (b"x" * 70000 + b"\xc3", "byte 70000"),
        (b"x" * 65536 + b"ab\0c", "byte 65538"),
        ("Text".encode("utf-16"), "UTF-16"),
        (b"\xed\xa0\x80", "byte 0"),
    ],
)
def test_binary_data_is_refused_before_the_first_part(tmp_path: Path, data: bytes, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        read_text_file(write(tmp_path / "a.txt", data))


def test_a_folder_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.txt"):
        with pytest.raises(UsageError, match="can't be read"):
            read_text_file(path)
