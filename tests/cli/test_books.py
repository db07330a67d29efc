"""`say -f book.epub`: the chapters are listed, chosen and spoken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from llasa_cli.cli.app import app
from llasa_cli.cli.common_options import TextOptions
from llasa_cli.cli.text_input import open_text
from llasa_cli.errors import UsageError
from tests.documents.make import write_epub

PAGES = {f"{n}.xhtml": f"<h1>Chapter {n}</h1><p>Text number {n}.</p>" for n in (1, 2, 3)}


@pytest.fixture
def book(tmp_path: Path) -> Path:
    return write_epub(tmp_path / "book.epub", PAGES)


def test_the_chapters_of_a_book_are_listed(book: Path) -> None:
    made = CliRunner().invoke(app, ["say", "-f", str(book), "--chapters", "--json"])
    assert made.exit_code == 0, made.output
    assert [chapter["title"] for chapter in json.loads(made.stdout)["chapters"]] == [
        "Chapter 1",
        "Chapter 2",
        "Chapter 3",
    ]
    assert "Chapter 2" in CliRunner().invoke(app, ["say", "-f", str(book), "--chapters"]).stdout


def test_chapters_can_be_chosen(book: Path) -> None:
    text = "".join(open_text(TextOptions(file=str(book)), "say", chapters=(2, 2)).parts)
    assert "Text number 2." in text
    assert "number 1" not in text
    assert "number 3" not in text


@pytest.mark.parametrize("chapters", [(4, None), (2, 1)])
def test_an_empty_choice_of_chapters_is_refused(book: Path, chapters: tuple[int, int | None]) -> None:
    with pytest.raises(UsageError, match="3 chapters"):
        open_text(TextOptions(file=str(book)), "say", chapters=chapters)


def test_chapters_of_a_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Text.", encoding="utf-8")
    with pytest.raises(UsageError, match="chapters of a book"):
        open_text(TextOptions(file=str(tmp_path / "a.txt")), "say", chapters=(2, None))


def test_a_book_becomes_an_audiobook_with_its_chapters(book: Path, tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    words = ["say", "-f", str(book), "--to", "2", "-o", str(tmp_path / "a.m4b"), "--loudness", "-19", "--seed", "1"]
    made = CliRunner().invoke(app, [*words, "--max-seconds", "1", "--retries", "0", "--accept-failed"])
    assert made.exit_code == 0, made.output
    with av.open(str(tmp_path / "a.m4b")) as found:
        assert [chapter["metadata"]["title"] for chapter in found.chapters()] == ["Chapter 1", "Chapter 2"]
        assert found.metadata["title"] == "The Garden"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.m4b", "book.epub"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["Hello.", "-o", "chapters/"], "a book's chapters"),
        (["Hello.", "-o", "-", "--loudness", "-19"], "needs an output file"),
        (["Hello.", "-o", "a.wav", "--loudness", "3"], "between -40 and -5"),
    ],
)
def test_an_output_that_can_not_be_finished_is_refused(words: list[str], message: str, tmp_path: Path) -> None:
    made = CliRunner().invoke(app, ["say", *words])
    assert made.exit_code == 2
    assert message in made.output
