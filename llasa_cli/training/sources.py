"""Sources of training data -> rows of audio (or of codes made elsewhere) and text.

- a folder of audio files, each with a text file of the same name (`a.wav`, `a.txt`); or of codes (`a.npy`, `a.txt`);
  or with one table in it, such as `metadata.csv` or `metadata.txt`
- a table: see `tables`
- a `datasets` dataset, local or on the hub: see `hub_datasets`

No audio is opened here, and the names of one folder at most are held in memory. A row that can't be used becomes a
`Problem`, never an exception.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from llasa_cli.audio.formats import READ_ENDINGS
from llasa_cli.errors import UsageError
from llasa_cli.training.hub_datasets import is_dataset, read_dataset
from llasa_cli.training.rows import NOT_UTF8, Columns, Entry, Problem, Row, normalized
from llasa_cli.training.tables import CODES_ENDING, is_table, read_table, with_codes

TEXT_ENDINGS = (".txt", ".normalized.txt", ".lab", ".TXT")
"""LibriTTS writes the second, forced aligners the third, recorders the last."""
_TABLE_STEMS = ("metadata", "manifest", "transcripts", "transcript", "transcription", "filelist")
_TABLE_ENDINGS = (".csv", ".tsv", ".jsonl", ".json", ".txt", ".list")


def read_rows(source: Path | str, columns: Columns | None = None, codes: Path | None = None) -> Iterator[Row | Problem]:
    """Rows of one source in their order (a folder's by name).

    Raises:
        UsageError: The source is missing or unsupported.
    """
    for entry in read_entries(source, columns, codes):
        yield entry.read()


def read_entries(
    source: Path | str, columns: Columns | None = None, codes: Path | None = None, splits: tuple[str, ...] = ()
) -> Iterator[Entry]:
    """Rows of one source that have not been read yet.

    Args:
        source: A folder, a table, or `hf:organization/name[:configuration][@revision]`.
        columns: Names of its columns.
        codes: A folder of `.npy` files by the names of the clips; a clip without one is a problem.
        splits: The splits of a dataset to read; all if empty.
    """
    columns = columns or Columns()
    if is_dataset(source):
        return read_dataset(source, columns, splits)
    source = Path(source)
    if source.is_dir():
        table = _table_in(source, columns)
        return _read_folder(source, codes) if table is None else read_table(table, columns, codes)
    if not source.is_file():
        hub = f", or hf:{source} for a dataset on the hub" if len(source.parts) == 2 else ""
        raise UsageError(
            f"{source} does not exist.", f"Give a folder of audio and .txt files, a CSV or JSONL file{hub}."
        )
    return read_table(source, columns, codes)


def _table_in(folder: Path, columns: Columns) -> Path | None:
    """The table that lists a folder's clips. A `.txt` beside a clip of its name is the text of that clip."""
    for stem in _TABLE_STEMS:
        for ending in _TABLE_ENDINGS:
            path = folder / f"{stem}{ending}"
            if not path.is_file() or any((folder / f"{stem}{audio}").is_file() for audio in READ_ENDINGS):
                continue
            if f"{stem}{ending}" in ("metadata.csv", "metadata.tsv", "metadata.jsonl") or is_table(path, columns):
                return path
    return None


def _read_folder(folder: Path, codes: Path | None) -> Iterator[Entry]:
    is_empty = True
    for clip in _clips(folder):
        is_empty = False
        name = str(clip.with_suffix("")) if clip.suffix == CODES_ENDING else str(clip)
        yield Entry(str(clip), str(clip.relative_to(folder)), (name,), lambda clip=clip: _pair(folder, clip, codes))  # type: ignore[misc]
    if is_empty:
        endings = " ".join((*READ_ENDINGS, CODES_ENDING))
        raise UsageError(f"There is no audio in {folder}.", f"Files with these endings are read: {endings}")


def _clips(folder: Path) -> Iterator[Path]:
    """Audio files by name, and codes where there is no audio of that name. Links are followed, each folder is read once."""
    seen: set[tuple[int, int]] = set()
    for place, folders, files in os.walk(folder, followlinks=True):
        status = os.stat(place)
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        names = sorted(name for name in files if not name.startswith("."))  # "._a.wav" holds macOS metadata, not sound
        sounds = {os.path.splitext(name)[0] for name in names if name.lower().endswith(READ_ENDINGS)}
        for name in names:
            is_codes = name.endswith(CODES_ENDING) and _stem(name) not in sounds
            if is_codes or name.lower().endswith(READ_ENDINGS):
                yield Path(place, name)


def _stem(name: str) -> str:
    """`a` of `a.npy` and of `a.wav.npy`."""
    base = name.removesuffix(CODES_ENDING)
    stem, ending = os.path.splitext(base)
    return stem if ending.lower() in READ_ENDINGS else base


def _pair(folder: Path, clip: Path, codes: Path | None) -> Row | Problem:
    """A clip with the text file of its name."""
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
        return normalized(Row(str(clip), None, words, codes=clip))
    return normalized(with_codes(Row(str(clip), clip, words), codes, str(clip.relative_to(folder))))
