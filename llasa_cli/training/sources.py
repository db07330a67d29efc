"""What people have recordings in -> rows of audio (or of codes made elsewhere) and text.

- a folder of audio files, each with a text file of the same name (`a.wav`, `a.txt`); or of codes (`a.npy`, `a.txt`);
  or with a `metadata.csv`, `.tsv` or `.jsonl` in it
- a table whose first line names its columns (comma, tab, `|` or `;` between them), or JSON lines
- LJSpeech's form without a header: `id|text` or `id|text|normalised text`, the audio being `wavs/id.wav` or `id.wav`
- a `datasets` dataset, local or on the hub: see `hub_datasets.py`

Nothing here opens audio or holds more than one folder's names. A row that can't be used comes out as a `Problem`, never
as an exception.
"""

from __future__ import annotations

import csv
import json
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llasa_cli.errors import UsageError

AUDIO_ENDINGS = (".wav", ".flac", ".ogg", ".opus", ".mp3", ".aiff", ".aif")
CODES_ENDING = ".npy"
TEXT_ENDINGS = (".txt", ".normalized.txt", ".lab")
"""LibriTTS writes the second, aligners the third."""
TABLES = ("metadata.csv", "metadata.tsv", "metadata.jsonl")
NO_AUDIO, NO_TEXT, NOT_UTF8 = "no audio named", "no text", "not UTF-8"
_DELIMITERS = ",\t|;"
_LONGEST_HEADER = 1 << 16
_LONGEST_CELL_LINES = 30
"""A cell with more lines than this is a quotation mark that nobody closed, with half the table in it."""


@dataclass(frozen=True)
class Columns:
    """What a table or dataset calls its columns; None takes the first known name that is there."""

    text: str | None = None
    audio: str | None = None
    speaker: str | None = None

    def find(self, names: Iterable[str]) -> dict[str, str]:
        """{"text": its name, "audio": ..., ...} for those that are there."""
        there = {name.strip().lower(): name for name in names}
        found: dict[str, str] = {}
        for kind, known in _KNOWN.items():
            own = getattr(self, kind, None)
            for name in known if own is None else (own.strip().lower(),):
                if name in there:
                    found[kind] = there[name]
                    break
        return found


_KNOWN = {
    "text": ("text", "sentence", "transcript", "transcription", "normalized_text"),
    "audio": ("audio", "audio_filepath", "audio_path", "audio_file", "wav", "file_name", "filename", "file", "path"),
    "speaker": ("speaker",),
    "codes": ("codes",),
    "id": ("id",),
}
"""The first of each is this project's; the others are those of NeMo manifests, Common Voice and the hub's audio folders."""


@dataclass(frozen=True)
class DatasetAudio:
    """Audio inside a dataset instead of in a file."""

    source: str
    split: str
    index: int


@dataclass(frozen=True)
class Row:
    """One recording, or its codes.

    Attributes:
        where: The table line or file it came from.
        audio: Where the sound is; None where only codes are.
        text: In one line, blanks at its ends removed.
        speaker: Its tag.
        codes: Made elsewhere: the file they are in, or they themselves. They are then used, not the audio.
        split: train, val or another that the source tells; empty where it tells none.
    """

    where: str
    audio: Path | DatasetAudio | None
    text: str
    speaker: str | None = None
    codes: Path | tuple[int, ...] | None = None
    split: str = ""


@dataclass(frozen=True)
class Problem:
    """A row that is left out, and why in a few words (the same words for the same cause: they are counted)."""

    where: str
    reason: str


@dataclass(frozen=True)
class Entry:
    """A row before it is looked at: cheap, so that each of many processes can go through all of them.

    Attributes:
        label: Decides which of several processes does it: the same wherever the source lies, and of rows of one id.
        names: What no two rows may share: an id, the audio's name.
        make: Looks at it: finds the files and reads the text.
    """

    where: str
    label: str
    names: tuple[str, ...]
    make: Callable[[], Row | Problem]
    split: str = ""


def read_rows(source: Path | str, columns: Columns | None = None, codes: Path | None = None) -> Iterator[Row | Problem]:
    """Rows of one source, in the order they stand there (a folder: by name).

    Raises:
        UsageError: The source is not there, or in none of the forms above.
    """
    for entry in read_entries(source, columns, codes):
        yield entry.make()


def read_entries(
    source: Path | str,
    columns: Columns | None = None,
    codes: Path | None = None,
    splits: tuple[str, ...] = (),
) -> Iterator[Entry]:
    """Rows of one source, not yet looked at.

    Args:
        source: A folder, a table, or `hf:organisation/name[:configuration][@revision]`.
        columns: What they are called.
        codes: A folder of `.npy` files by the names of the clips; clips without one are a problem.
        splits: Of a dataset; all if empty.
    """
    from llasa_cli.training.hub_datasets import is_dataset, read_dataset

    columns = columns or Columns()
    if is_dataset(source):
        return read_dataset(source, columns, splits)
    source = Path(source)
    if source.is_dir():
        table = next((source / name for name in TABLES if (source / name).is_file()), None)
        return _read_folder(source, codes) if table is None else _read_table(table, columns, codes)
    if not source.is_file():
        hub = f", or hf:{source} for a dataset on the hub" if len(source.parts) == 2 else ""
        raise UsageError(f"There is no {source}.", f"Give a folder of audio and .txt files, a CSV or JSONL file{hub}.")
    return _read_table(source, columns, codes)


# --- folders ---


def _read_folder(folder: Path, codes: Path | None) -> Iterator[Entry]:
    anything = False
    for clip in _clips(folder):
        anything = True
        name = str(clip.with_suffix("")) if clip.suffix == CODES_ENDING else str(clip)
        yield Entry(str(clip), str(clip.relative_to(folder)), (name,), lambda clip=clip: _pair(folder, clip, codes))  # type: ignore[misc]
    if not anything:
        endings = " ".join((*AUDIO_ENDINGS, CODES_ENDING))
        raise UsageError(f"There is no audio in {folder}.", f"It is looked for by ending: {endings}")


def _clips(folder: Path) -> Iterator[Path]:
    """Audio files by name, and codes where there is no audio of that name. Links are followed, circles not."""
    seen: set[tuple[int, int]] = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        about = os.stat(place)
        if (about.st_dev, about.st_ino) in seen:
            folders.clear()
            continue
        seen.add((about.st_dev, about.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        names = sorted(name for name in files if not name.startswith("."))  # "._a.wav" is a Macintosh's, not sound
        sounds = {os.path.splitext(name)[0] for name in names if name.lower().endswith(AUDIO_ENDINGS)}
        for name in names:
            is_codes = name.endswith(CODES_ENDING) and _stem(name) not in sounds
            if is_codes or name.lower().endswith(AUDIO_ENDINGS):
                yield Path(place, name)


def _stem(name: str) -> str:
    """`a` of `a.npy` and of `a.wav.npy`."""
    base = name.removesuffix(CODES_ENDING)
    stem, ending = os.path.splitext(base)
    return stem if ending.lower() in AUDIO_ENDINGS else base


def _pair(folder: Path, clip: Path, codes: Path | None) -> Row | Problem:
    stem = clip.with_name(_stem(clip.name) if clip.suffix == CODES_ENDING else clip.stem)
    text = next((path for ending in TEXT_ENDINGS if (path := Path(f"{stem}{ending}")).is_file()), None)
    if text is None:
        return Problem(str(clip), "no text file of the same name")
    try:
        words = text.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        return Problem(str(text), NOT_UTF8)
    except OSError:
        return Problem(str(text), "the text file can't be read")
    if clip.suffix == CODES_ENDING:
        return checked(Row(str(clip), None, words, codes=clip))
    return checked(_with_codes(Row(str(clip), clip, words), codes, str(clip.relative_to(folder))))


# --- tables ---


def _read_table(table: Path, columns: Columns, codes: Path | None) -> Iterator[Entry]:
    try:
        with table.open("rb") as file:
            start = file.read(2)
    except OSError as error:
        raise UsageError(f"{table} can't be read: {error.strerror}.") from error
    # Spreadsheets save "Unicode text" as UTF-16. In UTF-8, bytes that are not become marks that `_whole` finds: they
    # spoil their row, not the table.
    wide = start in (b"\xff\xfe", b"\xfe\xff")
    encoding, errors = ("utf-16", "replace") if wide else ("utf-8-sig", "surrogateescape")
    with table.open(encoding=encoding, errors=errors, newline="") as lines:
        first = lines.readline(_LONGEST_HEADER)
        lines.seek(0)
        delimiter = _delimiter(first, columns)
        if first.lstrip()[:1] == "{":
            yield from _read_json_lines(table, lines, columns, codes)
        elif delimiter is not None:
            yield from _read_named_columns(table, lines, delimiter, columns, codes)
        elif "|" in first:
            yield from _read_ljspeech(table, lines, codes)
        else:
            raise UsageError(
                f"The first line of {table} does not name the columns audio and text.",
                "A table starts with audio,text or audio,text,speaker; LJSpeech's form is id|text; "
                "other names are told with --text-column and --audio-column.",
            )


def _delimiter(first: str, columns: Columns) -> str | None:
    for delimiter in _DELIMITERS:
        found = columns.find(_names(first, delimiter))
        if "text" in found and {"audio", "codes", "id"} & set(found):
            return delimiter
    return None


def _names(line: str, delimiter: str) -> list[str]:
    return [name.strip().strip('"') for name in line.rstrip("\r\n").split(delimiter)]


def _read_named_columns(
    table: Path, lines: Iterable[str], delimiter: str, columns: Columns, codes: Path | None
) -> Iterator[Entry]:
    # Tables with tabs or bars are written without quoting; a text may begin with a quotation mark.
    plain = delimiter in "|\t"
    reader = csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE if plain else csv.QUOTE_MINIMAL)
    names = [name.strip().strip('"') for name in next(reader)]
    found = columns.find(names)
    for kind, flag in (("audio", "--audio-column"), ("speaker", "--speaker-column")):
        if getattr(columns, kind) is not None and kind not in found:
            there = ", ".join(name for name in names if name)
            raise UsageError(f"{table} has no column {getattr(columns, kind)}.", f"{flag} takes one of: {there}.")
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error:
            yield _bad(f"{table}:{reader.line_num}", "the line can't be read as a table's")
            continue
        where = f"{table}:{reader.line_num}"
        if any(cell.count("\n") > _LONGEST_CELL_LINES for cell in cells):
            yield _bad(where, "a quotation mark before this line is not closed")
            continue
        if not any(cell.strip() for cell in cells):
            continue
        if plain:
            cells = [_unquoted(cell) for cell in cells]
        named = dict(zip(names, cells, strict=False))
        yield _table_entry(table, where, {kind: named.get(name) or "" for kind, name in found.items()}, codes)


def _unquoted(cell: str) -> str:
    """Some programs quote in tab-separated files too: a cell all in quotation marks, those inside doubled."""
    inner = cell[1:-1]
    quoted = len(cell) >= 2 and cell[0] == cell[-1] == '"' and '"' not in inner.replace('""', "")
    return inner.replace('""', '"') if quoted else cell


def _read_json_lines(table: Path, lines: Iterable[str], columns: Columns, codes: Path | None) -> Iterator[Entry]:
    for number, line in enumerate(lines, start=1):
        where = f"{table}:{number}"
        if not line.strip():
            continue
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError):
            yield _bad(where, "not JSON" if _whole(line) else NOT_UTF8)
            continue
        if not isinstance(fields, dict):
            yield _bad(where, "not a JSON object")
            continue
        found = columns.find(fields)
        yield _table_entry(table, where, {kind: fields[name] for kind, name in found.items()}, codes)


def _read_ljspeech(table: Path, lines: Iterable[str], codes: Path | None) -> Iterator[Entry]:
    for number, line in enumerate(lines, start=1):
        where = f"{table}:{number}"
        cells = line.rstrip("\r\n").split("|")
        if len(cells) < 2:
            if line.strip():
                yield _bad(where, "not id|text")
            continue
        # The third column of LJSpeech is the text with numbers and abbreviations written out.
        text = cells[2] if len(cells) > 2 and cells[2].strip() else cells[1]
        yield _table_entry(table, where, {"id": cells[0], "text": text}, codes)


def _bad(where: str, reason: str) -> Entry:
    return Entry(where, where.rpartition(":")[2], (), lambda: Problem(where, reason))


def _table_entry(table: Path, where: str, fields: Mapping[str, Any], codes: Path | None) -> Entry:
    row_id, audio = _cell(fields.get("id")), _cell(fields.get("audio"))
    names = [f"{table}\nid\n{row_id}"] if row_id else []
    if audio:
        names.append(os.path.join(os.path.dirname(table), audio))
    return Entry(
        where,
        row_id or audio or where.rpartition(":")[2],
        tuple(names),
        lambda: _table_row(table, where, fields, codes),
    )


def _table_row(table: Path, where: str, fields: Mapping[str, Any], codes: Path | None) -> Row | Problem:
    row_id, name, text, speaker = (_cell(fields.get(kind)) for kind in ("id", "audio", "text", "speaker"))
    if not all(_whole(cell) for cell in (row_id, name, text, speaker)):
        return Problem(where, NOT_UTF8)
    name = name or row_id
    given = fields.get("codes")
    if isinstance(given, list):
        if not all(isinstance(code, int) for code in given):
            return Problem(where, "codes are not whole numbers")
        return checked(Row(where, None, text, speaker or None, tuple(given)))
    if _cell(given):
        return checked(Row(where, None, text, speaker or None, find_file(table.parent, _cell(given), (CODES_ENDING,))))
    if not name:
        return Problem(where, NO_AUDIO)
    row = Row(where, None, text, speaker or None)
    if codes is None and not name.endswith(CODES_ENDING):
        row = replace(row, audio=find_file(table.parent, name, (".wav", ".flac")))
    elif name.endswith(CODES_ENDING):
        row = replace(row, codes=find_file(table.parent, name, ()))
    return checked(_with_codes(row, codes, name))


def _cell(value: Any) -> str:
    """JSON may hold a number where a text is meant."""
    return "" if value is None or isinstance(value, list | dict | bool) else str(value).strip()


def _whole(text: str) -> bool:
    """Nothing in it came from bytes that are not UTF-8 (or from half a UTF-16 pair)."""
    return not any("\ud800" <= letter <= "\udfff" for letter in text) if not text.isascii() else True


def find_file(folder: Path, name: str, endings: tuple[str, ...]) -> Path:
    """The file a table names: as given, beside the table, one folder up, or in `wavs/`; with an ending if need be."""
    base = str(folder)  # joined as text: of a million rows, Path objects would take most of the time
    places = (base, os.path.join(base, "wavs"), os.path.dirname(base) or ".")
    for ending in ("", *endings):
        for place in places:
            candidate = os.path.join(place, name + ending)
            try:
                if stat.S_ISREG(os.stat(candidate).st_mode):
                    return Path(candidate)
            except (OSError, ValueError):  # not there; a name too long, or with a NUL in it
                continue
    return folder / name


def _with_codes(row: Row, codes: Path | None, name: str) -> Row:
    """The row with the file its codes are in, by the names that the published scripts give: a.npy, a.wav.npy."""
    if codes is None or row.codes is not None:
        return row
    stem, ending = os.path.splitext(name)
    stem = stem if ending.lower() in AUDIO_ENDINGS else name
    names = [f"{stem}.npy", f"{name}.npy", *(f"{stem}{ending}.npy" for ending in (".wav", ".flac"))]
    candidates = [codes / part for name in names for part in (name, Path(name).name)]
    found = next((path for path in candidates if path.is_file()), codes / names[0])
    return replace(row, codes=found)


def checked(row: Row) -> Row | Problem:
    text = " ".join(row.text.split())
    if not text:
        return Problem(row.where, NO_TEXT)
    return replace(row, text=text, speaker=" ".join((row.speaker or "").split()) or None)
