"""Datasets of the `datasets` library, on the hub or in a folder -> rows. An error names the library where it is missing.

The library decodes no audio, for which it would need another package: a clip's bytes are taken as they are stored.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from llasa_cli.errors import LlasaError, ModelError, UsageError
from llasa_cli.training.rows import NO_TEXT, Columns, DatasetAudio, Entry, Problem, Row, normalized
from llasa_cli.wording import first_line

HUB = "hf:"
_SAVED = ("dataset_dict.json", "state.json")
"""Files of `save_to_disk`, for a dataset with splits and for one without."""
_PARQUET = ".parquet"


def is_dataset(source: Path | str) -> bool:
    """Whether a source is named `hf:...`, was saved by `save_to_disk`, or is parquet."""
    if str(source).startswith(HUB):
        return True
    path = Path(source)
    if path.is_dir():
        has_parquet = any(path.glob("*" + _PARQUET)) or any(path.glob("data/*" + _PARQUET))
        return has_parquet or any((path / name).is_file() for name in _SAVED)
    return path.suffix == _PARQUET and path.is_file()


def read_dataset(source: Path | str, columns: Columns, splits: tuple[str, ...] = ()) -> Iterator[Entry]:
    """All splits, or the named ones, one after the other.

    Raises:
        UsageError: The dataset lacks a named split, a column of text, or one of audio or codes.
    """
    loaded = open_dataset(str(source))
    unknown = set(splits) - set(loaded)
    if unknown:
        raise UsageError(
            f"{source} has no split {sorted(unknown)[0]!r}.", "It has: " + ", ".join(map(str, loaded)) + "."
        )
    for split, rows in loaded.items():
        if not splits or split in splits:
            yield from _read_split(str(source), str(split), rows, columns)


def _read_split(source: str, split: str, rows: Any, columns: Columns) -> Iterator[Entry]:
    found = columns.find(rows.column_names)
    if "text" not in found or not {"audio", "codes"} & set(found):
        raise UsageError(
            f"{source} has no columns of text and audio.",
            "It has: " + ", ".join(rows.column_names) + "; name them with --text-column and --audio-column.",
        )
    # Without the audio column, checking the rows reads their text alone.
    light = rows.select_columns([name for kind, name in found.items() if kind != "audio"])
    target = split_of(split)
    for index in range(len(rows)):
        where = f"{source} {split}[{index}]"
        yield Entry(
            where,
            f"{split} {index}",
            (),
            lambda index=index, where=where: _row(
                light, index, where, found, DatasetAudio(source, split, index), target
            ),  # type: ignore[misc]
            target,
        )


def _row(
    light: Any, index: int, where: str, found: Mapping[str, str], audio: DatasetAudio, split: str
) -> Row | Problem:
    fields = light[index]
    text, speaker = (fields.get(found.get(kind, "")) for kind in ("text", "speaker"))
    codes = fields.get(found.get("codes", ""))
    if text is not None and not isinstance(text, str):
        return Problem(where, NO_TEXT)
    ready = None if codes is None else tuple(int(code) for code in _flat(codes))
    tag = None if speaker is None else str(speaker)
    return normalized(Row(where, None if ready is not None else audio, text or "", tag, ready, split))


def _flat(codes: Any) -> list[int]:
    while len(codes) == 1 and isinstance(codes[0], list):
        codes = codes[0]
    return list(codes)


def split_of(name: str) -> str:
    """The split that a dataset's split is written to; empty for train, from which validation rows may be drawn."""
    name = name.lower()
    if name.startswith(("val", "dev", "eval")):
        return "val"
    return "test" if name.startswith("test") else ""


def stored_audio(audio: DatasetAudio, columns: Columns) -> Any:
    """A clip's audio as the dataset stores it: {"bytes", "path"}, {"array", "sampling_rate"}, or a path."""
    name, rows = _audio_column(audio.source, audio.split, columns)
    return rows[audio.index][name]


@lru_cache(maxsize=64)
def _audio_column(source: str, split: str, columns: Columns) -> tuple[str, Any]:
    rows = open_dataset(source)[split]
    name = columns.find(rows.column_names)["audio"]
    return name, rows.select_columns([name])


@lru_cache(maxsize=8)
def open_dataset(source: str) -> dict[str, Any]:
    """Splits by name, with undecoded audio. Arrow files are memory-mapped, so that memory stays flat.

    Raises:
        LlasaError: The library is not installed.
        ModelError: The dataset can't be found.
        UsageError: The library can't read it.
    """
    try:
        import datasets
    except ImportError as error:
        raise LlasaError(
            f"{source} is a dataset of the `datasets` library, which is not installed.",
            "Install it with: pip install 'llasa-cli[datasets]'",
        ) from error
    if not sys.stderr.isatty():
        datasets.disable_progress_bars()
    try:
        loaded = _load(datasets, source)
    except (FileNotFoundError, ConnectionError) as error:
        raise ModelError(f"{source} can't be found: {first_line(error)}", "Check its name and the network.") from error
    except (OSError, ValueError, RuntimeError) as error:  # the library's own errors derive from these
        raise UsageError(
            f"{source} can't be read as a dataset: {first_line(error)}", "Check that `datasets` can load it."
        ) from error
    splits = dict(loaded) if isinstance(loaded, dict) else {"train": loaded}
    return {str(name): _undecoded(datasets, rows) for name, rows in splits.items()}


def _load(datasets: Any, source: str) -> Any:
    if source.startswith(HUB):
        name, _, revision = source.removeprefix(HUB).partition("@")
        repository, _, configuration = name.partition(":")
        return datasets.load_dataset(repository, configuration or None, revision=revision or None)
    path = Path(source)
    if path.is_file():
        return datasets.load_dataset("parquet", data_files=str(path))
    if any((path / name).is_file() for name in _SAVED):
        return datasets.load_from_disk(str(path))
    return datasets.load_dataset(str(path))


def _undecoded(datasets: Any, rows: Any) -> Any:
    for name, kind in rows.features.items():
        if isinstance(kind, datasets.Audio):
            rows = rows.cast_column(name, datasets.Audio(decode=False))
    return rows
