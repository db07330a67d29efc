"""Rows -> the published memory maps, written as the rows come.

    {split}_input_ids.memmap       int32 (N, width), C order
    {split}_input_ids_shape.npy    the two numbers
    {split}_speakers.txt           a line a row, where rows have speakers (an addition: the published rows have none)

One of several ranks writes `{split}_rank00001_partial00000_input_ids.memmap` and so on, as Deep-unlearning's fork reads them.
A file gets its name when all of them are complete; until then it ends in `.part`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from llasa_cli.files import AtomicFile
from llasa_cli.prompt import PromptFormat

_PART = ".part"
_ROWS_FILE = re.compile(r"(.+_)(input_ids\.memmap|input_ids_shape\.npy|speakers\.txt)(\.part)?")


def rank_name(rank: int, ranks: int) -> str:
    """The part of a rank's file names that identifies it; empty for the only process."""
    return "" if ranks == 1 else f"rank{rank:05d}_partial00000_"


class RowBuilder:
    """Makes the rows of `PromptFormat.encode_row` from encoded text and as arrays, which is faster for a million rows."""

    def __init__(self, prompt_format: PromptFormat) -> None:
        self._first_code = prompt_format.first_code_id
        text_start, text_end, start, end = prompt_format.encode_row("", ())
        self._before, self._between, self._end = (
            np.array(part, np.int32) for part in ([text_start], [text_end, start], [end])
        )

    def __call__(self, text_ids: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """int32 [text], uint16 [codes] -> int32 [text + codes + 4], END last."""
        speech = codes.astype(np.int32) + self._first_code
        return np.concatenate([self._before, text_ids, self._between, speech, self._end])


class _Split:
    """The files of one split while they are written."""

    def __init__(self, folder: Path, split: str, name: str, width: int, pad_id: int) -> None:
        self._data = folder / f"{split}_{name}input_ids.memmap"
        self._shape = folder / f"{split}_{name}input_ids_shape.npy"
        self._speakers = folder / f"{split}_{name}speakers.txt"
        self._padding = np.full(width, pad_id, np.int32)
        self._rows, self._has_speakers = 0, False
        self._files = [_part(path).open("wb") for path in (self._data, self._speakers)]

    def add(self, ids: np.ndarray, speaker: str | None) -> None:
        row = self._padding.copy()
        row[: len(ids)] = ids
        self._files[0].write(row.tobytes())
        self._files[1].write(((speaker or "") + "\n").encode())
        self._rows += 1
        self._has_speakers |= bool(speaker)

    def sync(self) -> None:
        """Write everything to the disk."""
        for file in self._files:
            file.flush()
            os.fsync(file.fileno())

    def commit(self) -> None:
        """Give the files their names. A split without rows has none."""
        if self._rows:
            with AtomicFile(self._shape) as shape:
                np.save(shape.file, np.array([self._rows, len(self._padding)]))
            if self._has_speakers:
                _part(self._speakers).replace(self._speakers)
            _part(self._data).replace(self._data)

    def close(self) -> None:
        """Close the files, and remove those that have no name yet."""
        for file, path in zip(self._files, (self._data, self._speakers), strict=True):
            with suppress(OSError):  # rows that a full disk did not take
                file.close()
            _part(path).unlink(missing_ok=True)


class MemmapWriter:
    """Writes all splits of one run, in place of those of earlier runs. A context manager, which `finish` completes."""

    def __init__(
        self, folder: Path, splits: Sequence[str], width: int, pad_id: int, rank: int = 0, ranks: int = 1
    ) -> None:
        _remove_stale_files(folder, rank, ranks)
        name = rank_name(rank, ranks)
        self._splits = {split: _Split(folder, split, name, width, pad_id) for split in splits}

    def add(self, split: str, ids: np.ndarray, speaker: str | None) -> None:
        self._splits[split].add(ids, speaker)

    def finish(self) -> None:
        """Give all files their names."""
        for files in self._splits.values():
            files.sync()
        for files in self._splits.values():
            files.commit()

    def __enter__(self) -> MemmapWriter:
        return self

    def __exit__(self, *_: object) -> None:
        for files in self._splits.values():
            files.close()


def _remove_stale_files(folder: Path, rank: int, ranks: int) -> None:
    """Remove results of earlier runs that a reader would take together with, or instead of, this run's.

    Readers take every part that they find: the part of a rank that no longer exists would mix old rows with new. Only the
    parts of the other ranks stay. A single file that only has such a name belongs to the user: a split has at least two
    files, finished or not.
    """
    others = [rank_name(other, ranks) for other in range(ranks) if other != rank]
    paths = sorted(folder.iterdir())  # the memmap of a split comes first; if interrupted here, readers ignore the rest
    found = [(path, match) for path in paths if (match := _ROWS_FILE.fullmatch(path.name))]
    kinds: dict[str, set[str]] = {}
    for _, match in found:
        kinds.setdefault(match[1], set()).add(match[2])
    for path, match in found:
        if len(kinds[match[1]]) > 1 and not match[1].endswith(tuple(f"_{name}" for name in others)):
            path.unlink(missing_ok=True)
    kept = [f"writing-{name.strip('_')}.json" for name in others]
    for path in folder.glob("writing*.json"):  # the state of an interrupted run of llasa 0.1
        if re.fullmatch(r"writing(-rank\d+_partial\d+)?\.json", path.name) and path.name not in kept:
            path.unlink(missing_ok=True)


def _part(path: Path) -> Path:
    return path.with_name(path.name + _PART)
