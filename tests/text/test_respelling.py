"""Respellings replace whole words: the longest entry counts, capital letters match as they are written."""

from __future__ import annotations

from pathlib import Path

import pytest

from llasa_cli.errors import UsageError
from llasa_cli.text.respelling import read_lexicon, respeller

WORDS = (
    ("gif", "jif"), ("new york", "noo york"), ("york", "yorrk"), ("US", "you ess"), ("us", "uss"), ("Polish", "pole ish"), ("c++", "see plus plus"),
    ("重庆", "虫庆"), ("naïve", "nigh eve"), ("um", ""),
)  # fmt: skip


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A GIF, a gif and a Gif.", "A jif, a jif and a jif."),
        ("Gifts are no gifs.", "Gifts are no gifs."),
        ("New  York and York", "noo york and yorrk"),
        ("The US and us", "The you ess and uss"),
        ("polish the Polish table", "polish the pole ish table"),
        ("I write C++.", "I write see plus plus."),
        ("York's gif's", "yorrk's jif's"),
        ("我在重庆市", "我在虫庆市"),
        ("a naïve plan", "a nigh eve plan"),
        ("Well, um, yes", "Well, , yes"),
        ("", ""),
    ],
)
def test_words_are_respelled(text: str, expected: str) -> None:
    assert respeller(WORDS)(text) == expected


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "words.tsv"
    path.write_bytes("\ufeff# names\r\n\r\nSiobhan\tshiv  awn\r\nnew york\tnoo york\t\r\n".encode())
    assert read_lexicon(path) == (("Siobhan", "shiv awn"), ("new york", "noo york"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("gif jif\n", "Line 1 of .* is not WORD<TAB>RESPELLING: 'gif jif'"),
        ("a\tb\nc\td\te\n", "Line 2"),
        ("\tb\n", "no word before the tab"),
        ("a\tb\na\tc\n", "Line 2 of .* a second respelling"),
        ("# nothing\n", "no respellings"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "words.tsv"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(UsageError, match=message):
        read_lexicon(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"absent\.tsv can't be read"):
        read_lexicon(tmp_path / "absent.tsv")
