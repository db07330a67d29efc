"""What people have recordings in -> rows of audio path and text.

- a folder of audio files, each with a text file of the same name (`a.wav`, `a.txt`), or LJSpeech's `metadata.csv` in it
- a table whose first line names the columns: `audio`, `text` and perhaps `speaker` (comma, tab or `|` between them)
- LJSpeech's form without a header: `id|text` or `id|text|normalised text`, the audio being `wavs/id.wav` or `id.wav`

Nothing here opens audio. A row that can't be used comes out as a `Problem`, never as an exception.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from llasa_cli.errors import UsageError

AUDIO_ENDINGS = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".aif")
_DELIMITERS = ",\t|"


@dataclass(frozen=True)
class Row:
    """One recording. `where` names the table line or file it came from."""

    where: str
    audio: Path
    text: str
    speaker: str | None = None


@dataclass(frozen=True)
class Problem:
    """A row that is left out, and why in a few words (the same words for the same cause: they are counted)."""

    where: str
    reason: str


def read_rows(source: Path) -> Iterator[Row | Problem]:
    """Rows of one folder or table, in the order they stand there (a folder: by name).

    Raises:
        UsageError: The source is not there, or in none of the forms above.
    """
    if source.is_dir():
        table = source / "metadata.csv"
        return _read_table(table) if table.is_file() else _read_folder(source)
    if not source.is_file():
        raise UsageError(f"There is no {source}.", "Give a folder of audio and .txt files, or a CSV file.")
    return _read_table(source)


def _read_folder(folder: Path) -> Iterator[Row | Problem]:
    clips = sorted(path for path in folder.rglob("*") if path.suffix.lower() in AUDIO_ENDINGS)
    if not clips:
        raise UsageError(f"There is no audio in {folder}.", "It is looked for by ending: " + " ".join(AUDIO_ENDINGS))
    for clip in clips:
        text = clip.with_suffix(".txt")
        if not text.is_file():
            yield Problem(str(clip), "no text file of the same name")
            continue
        try:
            yield _checked(Row(str(clip), clip, text.read_text(encoding="utf-8-sig")))
        except UnicodeDecodeError:
            yield Problem(str(text), "text is not UTF-8")


def _read_table(table: Path) -> Iterator[Row | Problem]:
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline().rstrip("\r\n")
            delimiter = next((d for d in _DELIMITERS if {"audio", "text"} <= _names(first, d)), None)
            file.seek(0)
            if delimiter is not None:
                yield from _read_named_columns(table, file, delimiter)
            elif "|" in first:
                yield from _read_ljspeech(table, file)
            else:
                raise UsageError(
                    f"The first line of {table} does not name the columns audio and text.",
                    "A table starts with audio,text or audio,text,speaker; LJSpeech's form is id|text.",
                )
    except UnicodeDecodeError as error:
        raise UsageError(f"{table} is not UTF-8: {error}", "Save it as UTF-8.") from error


def _names(line: str, delimiter: str) -> set[str]:
    return {name.strip().strip('"').lower() for name in line.split(delimiter)}


def _read_named_columns(table: Path, file: Iterator[str], delimiter: str) -> Iterator[Row | Problem]:
    # `|` tables are written without quoting; a text may begin with a quotation mark.
    reader: csv.DictReader[str] = csv.DictReader(
        file, delimiter=delimiter, quoting=csv.QUOTE_NONE if delimiter == "|" else csv.QUOTE_MINIMAL
    )
    reader.fieldnames = [name.strip().lower() for name in reader.fieldnames or ()]
    for cells in reader:
        where = f"{table}:{reader.line_num}"
        audio, text, speaker = (cells.get(name) or "" for name in ("audio", "text", "speaker"))
        if not audio.strip():
            yield Problem(where, "no audio named")
            continue
        found = _find_audio(table.parent, audio.strip())
        yield _checked(Row(where, found, text, speaker.strip() or None))


def _read_ljspeech(table: Path, file: Iterator[str]) -> Iterator[Row | Problem]:
    for number, line in enumerate(file, start=1):
        where = f"{table}:{number}"
        cells = line.rstrip("\r\n").split("|")
        if len(cells) < 2:
            if line.strip():
                yield Problem(where, "not id|text")
            continue
        # The third column of LJSpeech is the text with numbers and abbreviations written out.
        text = cells[2] if len(cells) > 2 and cells[2].strip() else cells[1]
        yield _checked(Row(where, _find_audio(table.parent, cells[0].strip()), text))


def _find_audio(folder: Path, name: str) -> Path:
    """The file a table names: as given, beside the table, one folder up, or in `wavs/`; with `.wav` if need be."""
    places = (folder, folder / "wavs", folder.parent)
    for candidate in [place / (name + ending) for ending in ("", ".wav", ".flac") for place in places]:
        if candidate.is_file():
            return candidate
    return folder / name


def _checked(row: Row) -> Row | Problem:
    text = " ".join(row.text.split())
    if not text:
        return Problem(row.where, "no text")
    return Row(row.where, row.audio, text, row.speaker)
