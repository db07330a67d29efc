"""`say -f book.epub`: the chapters are listed, chosen and spoken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from llasa_cli.cli.app import app
from llasa_cli.cli.common_options import BookOptions, TextOptions
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


def chapters_of(path: Path, first: int, last: int | None = None) -> TextOptions:
    return TextOptions(file=str(path), book=BookOptions(first_chapter=first, last_chapter=last))


def test_chapters_can_be_chosen(book: Path) -> None:
    text = "".join(open_text(chapters_of(book, 2, 2), "say").parts)
    assert "Text number 2." in text
    assert "number 1" not in text
    assert "number 3" not in text


@pytest.mark.parametrize("chapters", [(4, None), (2, 1)])
def test_an_empty_choice_of_chapters_is_refused(book: Path, chapters: tuple[int, int | None]) -> None:
    with pytest.raises(UsageError, match="3 chapters"):
        open_text(chapters_of(book, *chapters), "say")


def test_chapters_of_a_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("Text.", encoding="utf-8")
    with pytest.raises(UsageError, match="chapters of a book"):
        open_text(chapters_of(tmp_path / "a.txt", 2), "say")


def test_a_book_becomes_an_audiobook_with_its_chapters(book: Path, random_checkpoint: Path, tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    words = ["-f", str(book), "--to", "2", "--loudness", "-19", "-m", str(random_checkpoint)]
    spoken(tmp_path / "a.m4b", *words)
    with av.open(str(tmp_path / "a.m4b")) as found:
        assert [chapter["metadata"]["title"] for chapter in found.chapters()] == ["Chapter 1", "Chapter 2"]
        assert found.metadata["title"] == "The Garden"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.m4b", "book.epub"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["Hello.", "-o", "chapters/"], "only a book is written"),
        (["Hello.", "-o", "-", "--loudness", "-19"], "needs an output file"),
        (["Hello.", "-o", "a.wav", "--loudness", "3"], "between -40 and -5"),
    ],
)
def test_an_output_that_can_not_be_finished_is_refused(words: list[str], message: str, tmp_path: Path) -> None:
    made = CliRunner().invoke(app, ["say", *words])
    assert made.exit_code == 2
    assert message in made.output


SHORT = ["--seed", "1", "--max-seconds", "0.5", "--retries", "0", "--accept-failed"]


def spoken(path: Path, *words: str) -> bytes:
    made = CliRunner().invoke(app, ["say", "-o", str(path), *SHORT, *words])
    assert made.exit_code == 0, made.output
    return path.read_bytes()


def test_a_book_spoken_at_once_is_the_same_file(random_checkpoint: Path, tmp_path: Path) -> None:
    text = tmp_path / "a.txt"
    text.write_text("\n\n".join(f"This is paragraph number {n} of a book." for n in range(8)), encoding="utf-8")
    words = ["-f", str(text), "-m", str(random_checkpoint)]
    alone = spoken(tmp_path / "a.wav", *words)
    for slots in ("1", "3", "16"):
        assert spoken(tmp_path / f"{slots}.wav", *words, "--batch-size", slots) == alone
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".txt", ".wav", ".wav", ".wav", ".wav"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["Hello.", "--play"], "sound that is played or streamed"),
        (["Hello.", "-o", "a.wav", "--stream"], "sound that is played or streamed"),
        (["-o", "a.wav"], "a pipe is spoken as it grows"),
    ],
)
def test_passages_at_once_are_refused_where_sound_has_to_come_in_order(words: list[str], message: str) -> None:
    made = CliRunner().invoke(app, ["say", *words, "--batch-size", "4"], input="Hello there.")
    assert made.exit_code == 2
    assert message in made.output


@pytest.mark.parametrize("slots", [(), ("--batch-size", "2")])
def test_a_dialogue_has_the_voices_of_its_cast(random_checkpoint: Path, tmp_path: Path, slots: tuple[str, ...]) -> None:
    play = tmp_path / "play.jsonl"
    play.write_text('{"name": "Anna", "text": "Hello."}\n{"name": "Bob", "text": "Hello."}\n', encoding="utf-8")
    words = ["-f", str(play), "-m", str(random_checkpoint), *slots]
    subtitles = tmp_path / "two.srt"
    two = spoken(
        tmp_path / "two.wav", *words, "--cast", "Anna=heart", "--cast", "Bob=bella", "--subtitles", str(subtitles)
    )
    assert subtitles.read_text().count("\nHello.\n\n") == 2
    assert two == spoken(tmp_path / "again.wav", *words, "--cast", "Anna=heart,Bob=bella")
    assert two != spoken(tmp_path / "one.wav", *words, "--cast", "Anna=heart,Bob=heart")


def test_a_pipe_may_name_voices_without_a_cast(random_checkpoint: Path, tmp_path: Path) -> None:
    def piped(name: str, text: str) -> bytes:
        words = ["say", "-m", str(random_checkpoint), "-o", str(tmp_path / name), *SHORT]
        made = CliRunner().invoke(app, words, input=text)
        assert made.exit_code == 0, made.output
        return (tmp_path / name).read_bytes()

    assert piped("a.wav", "[voice:bella] Hello.\n") != piped("b.wav", "[voice:heart] Hello.\n")
    ssml = '<speak><voice name="bella">Hello.</voice></speak>'
    assert piped("c.wav", ssml) == piped("a.wav", "[voice:bella] Hello.\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["[voice:Carl] Hello."], "Line 1: 'Carl' is neither in --cast nor a voice"),
        (["--cast", "Anna", "Hello."], "--cast takes NAME=VOICE, not 'Anna'"),
        (["--cast", "A=heart,a=bella", "Hello."], "gives a two voices"),
        (["--cast", "A=nobody", "Hello."], "--cast A=nobody:"),
        (["--cast", "A=absent.wav", "Hello."], "absent.wav"),
        (["--lexicon", "absent.tsv", "Hello."], "absent.tsv can't be read"),
        (["--speed", "3", "Hello."], "between 0.5 and 2"),
    ],
)
def test_a_wrong_cast_lexicon_or_speed_is_refused(random_checkpoint: Path, words: list[str], message: str) -> None:
    made = CliRunner().invoke(app, ["say", "-m", str(random_checkpoint), "-o", "a.wav", *words])
    assert made.exit_code in (2, 4), made.output
    assert message in made.output
