"""The lexicon of a checkpoint that reads phones: what is found, and how a text is taken apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from llasa_cli.text.pronunciations import Pronunciations

LINES = {"a's": "ˈAz", "aardvark": "ˈɑɹdvˌɑɹk", "cat": "kˈæt", "cat's": "kˈæts", "cats": "kˈæts", "zoo": "zˈu"}


@pytest.fixture
def lexicon(tmp_path: Path) -> Pronunciations:
    path = tmp_path / "pronunciations.txt"
    path.write_bytes(b"".join(sorted(f"{word}\t{phones}\n".encode() for word, phones in LINES.items())))
    found = Pronunciations.read(path)
    assert found is not None
    return found


@pytest.mark.parametrize("word", LINES)
def test_each_word_of_the_file_is_found(lexicon: Pronunciations, word: str) -> None:
    assert lexicon.find(word) == LINES[word]


@pytest.mark.parametrize("word", ["", "a", "aardvar", "aardvarks", "ca", "cat'", "catt", "dog", "zoos", "zz", "é"])
def test_other_words_are_not_found(lexicon: Pronunciations, word: str) -> None:
    assert lexicon.find(word) is None


def test_a_file_without_an_end_of_line_is_read_to_its_end() -> None:
    assert Pronunciations(b"cat\tk\ndog\td").find("dog") == "d"


def test_phones_are_written_as_a_word_that_has_them(lexicon: Pronunciations) -> None:
    assert lexicon.spelled("a /k//ˈ//æ//t//s/, /z//ˈ//u/ and /q/") == "a cat's, zoo and /q/"


def test_a_missing_or_empty_file_is_no_lexicon(tmp_path: Path) -> None:
    assert Pronunciations.read(tmp_path / "pronunciations.txt") is None
    (tmp_path / "pronunciations.txt").touch()
    assert Pronunciations.read(tmp_path / "pronunciations.txt") is None


def test_a_text_is_taken_apart_into_words_with_phones_and_the_rest(lexicon: Pronunciations) -> None:
    text = "the cat's zoo, zorb cats!"
    parts = list(lexicon.split(text))
    assert parts == [("the ", None), ("cat's", "kˈæts"), (" ", None), ("zoo", "zˈu"), (", zorb ", None), ("cats", "kˈæts"), ("!", None)]  # fmt: skip
    assert "".join(piece for piece, _ in parts) == text
