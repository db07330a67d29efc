"""The text of files and pipes: markup is recognized by its content, and encodings by their letters."""

from __future__ import annotations

import io
import os
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from llasa_cli.cli.common_options import TextOptions
from llasa_cli.cli.text_input import TextInput, open_text
from llasa_cli.errors import UsageError
from llasa_cli.settings import TEXT_FORMATS
from llasa_cli.text.chunker import chunk_text
from llasa_cli.text.markup import FORMATS

HTML = "<html><body><h1>Weather</h1><p>It is <b>cold</b> &amp; dry.</p></body></html>\n"
SUBTITLES = "1\n00:00:01,000 --> 00:00:02,500\nIt is cold.\n\n2\n00:00:03,000 --> 00:00:04,000\nIt is dry.\n"


def words(source: TextInput) -> str:
    return " ".join(chunk.text for chunk in chunk_text(source.parts, markdown=source.markdown))


def read(tmp_path: Path, name: str, text: str | bytes, **options: object) -> TextInput:
    (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return open_text(TextOptions(file=str(tmp_path / name), **options), "say")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("page.html", HTML, "Weather. It is cold & dry."),
        ("page.txt", HTML, "Weather. It is cold & dry."),
        ("film.srt", SUBTITLES, "It is cold. It is dry."),
        ("a.ssml", "<speak>It is <emphasis>cold</emphasis>.</speak>", "It is cold."),
        ("a.md", "# Weather\n\nIt is *cold*.\n", "Weather. It is cold."),
        ("a.txt", "# Weather\n\nIt is **cold**.\n", "Weather. It is cold."),
        ("log.txt", "\x1b[31mIt is cold.\x1b[0m\n", "It is cold."),
        ("plain.txt", "It is cold, 5 < 6.\n", "It is cold, 5 < 6."),
    ],
)
def test_the_markup_of_a_file_is_recognized_and_not_spoken(tmp_path: Path, name: str, text: str, expected: str) -> None:
    assert words(read(tmp_path, name, text)) == expected


def test_the_markup_of_a_pipe_is_recognized(monkeypatch: pytest.MonkeyPatch) -> None:
    for text, expected in ((HTML, "Weather. It is cold & dry."), (SUBTITLES, "It is cold. It is dry.")):
        pipe = SimpleNamespace(buffer=io.BytesIO(text.encode()), isatty=lambda: False)
        monkeypatch.setattr("sys.stdin", pipe)
        assert words(open_text(TextOptions(), "say")) == expected


@pytest.mark.parametrize(("name", "source"), [("a.tex", "latex"), ("a.rst", "rst"), ("a.org", "org")])
def test_markup_that_is_not_known_is_refused_with_the_line_that_converts_it(
    tmp_path: Path, name: str, source: str
) -> None:
    with pytest.raises(UsageError) as refused:
        read(tmp_path, name, "Some text.")
    assert f"pandoc -f {source} -t gfm {name} -o a.md" in refused.value.hint
    assert words(read(tmp_path, name, "Some text.", text_format="plain")) == "Some text."


def test_a_named_format_reads_a_notebook_as_the_text_that_it_is(tmp_path: Path) -> None:
    source = '{"cells": [{"cell_type": "markdown", "source": "Hello."}]}'
    assert words(read(tmp_path, "a.ipynb", source)).endswith("Hello.")
    assert words(read(tmp_path, "a.ipynb", source, text_format="plain")) == source


@pytest.mark.parametrize(
    ("data", "expected", "warning"),
    [
        ("Le café était fermé — à demain.\n".encode("cp1252"), "Le café était fermé — à demain.", "Windows-1252"),
        ("It is cold.\nIt’s late.\n".encode("cp1252"), "It is cold. It’s late.", "Windows-1252"),
        ("Добрый день, как дела?\n".encode("cp1251"), "Добрый день, как дела?", "Windows-1251"),
        ("It is cold.\n".encode("utf-16"), "It is cold.", ""),
        (b"\xef\xbb\xbfIt is cold \xe2\x80\x94 very.\n", "It is cold — very.", ""),
        ("日本 is Japan. ".encode() + b"Good\xff.", "日本 is Japan. Good\ufffd.", "not UTF-8"),
    ],
)
@pytest.mark.parametrize("size", [7, 65536])
def test_the_encoding_of_a_pipe_is_recognized_while_it_is_read(
    monkeypatch: pytest.MonkeyPatch, data: bytes, expected: str, warning: str, size: int
) -> None:
    class Pipe(io.BytesIO):
        def read1(self, _size: int | None = -1) -> bytes:
            return self.read(size)

    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=Pipe(data), isatty=lambda: False))
    source = open_text(TextOptions(), "say")
    assert words(source) == expected
    assert warning in "".join(source.warnings)
    assert bool(source.warnings) == bool(warning)


@pytest.mark.parametrize(
    ("first", "second", "expected", "warning"),
    [
        (b"First sentence. Second", b" one.", "First sentence. Second one.", ""),
        (b"It\x92s a caf\xe9. And", b" it\x92s good.", "It\u2019s a caf\u00e9. And it\u2019s good.", "Windows-1252"),
        ("It is cold. It".encode("utf-16"), " is.".encode("utf-16-le"), "It is cold. It is.", ""),
    ],
)
def test_a_named_pipe_is_read_as_it_grows_in_any_encoding(
    tmp_path: Path, first: bytes, second: bytes, expected: str, warning: str
) -> None:
    os.mkfifo(tmp_path / "pipe")
    spoken = threading.Event()

    def writer() -> None:
        with (tmp_path / "pipe").open("wb", buffering=0) as pipe:
            pipe.write(first)
            assert spoken.wait(10)
            pipe.write(second)

    thread = threading.Thread(target=writer)
    thread.start()
    source = open_text(TextOptions(file=str(tmp_path / "pipe")), "say")
    parts = iter(source.parts)
    begin = next(parts)
    spoken.set()
    assert (begin + "".join(parts)).strip() == expected
    assert begin.strip() == expected.split(". ")[0] + "."
    assert warning in "".join(source.warnings)
    thread.join()


def test_a_document_in_a_pipe_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(b"%PDF-1.7\n\0\1"), isatty=lambda: False))
    with pytest.raises(UsageError, match="PDF document"):
        open_text(TextOptions(), "say")


def test_arguments_are_plain_unless_a_format_is_named() -> None:
    assert words(open_text(TextOptions(text=("<b>cold</b>",)), "say")) == "<b>cold</b>"
    assert words(open_text(TextOptions(text=("<b>cold</b>",), text_format="html"), "say")) == "cold"


def test_a_named_format_takes_precedence_over_the_content_and_the_name(tmp_path: Path) -> None:
    assert "<b>" in words(read(tmp_path, "a.html", "<b>cold</b> day\n", text_format="plain"))
    assert "*" in words(read(tmp_path, "a.md", "It is *cold*.\n", markdown=False))
    with pytest.raises(UsageError, match="both given"):
        read(tmp_path, "a.txt", "It is cold.", markdown=True, text_format="html")


@pytest.mark.parametrize(
    ("data", "expected", "warning"),
    [
        ("Le café était fermé — à demain.\n".encode("cp1252"), "Le café était fermé — à demain.", "Windows-1252"),
        ("It is cold.\n".encode("utf-16"), "It is cold.", ""),
        (b"\xef\xbb\xbfIt is cold.\r\n", "It is cold.", ""),
    ],
)
def test_the_encoding_of_a_file_is_recognized(tmp_path: Path, data: bytes, expected: str, warning: str) -> None:
    source = read(tmp_path, "a.txt", data)
    assert words(source) == expected
    assert warning in "".join(source.warnings)
    assert bool(source.warnings) == bool(warning)


def test_the_digest_of_a_text_changes_with_its_words_only(tmp_path: Path) -> None:
    digests = [
        source.digest()
        for source in (
            read(tmp_path, "a.txt", "It is cold.\n"),
            read(tmp_path, "b.txt", "It is cold.\n", text_format="plain"),
            read(tmp_path, "c.txt", "It is dry.\n"),
        )
        if source.reread is not None
    ]
    assert digests[0] == digests[1] != digests[2]


def test_the_formats_of_the_flag_are_those_of_the_reader() -> None:
    assert FORMATS == TEXT_FORMATS
