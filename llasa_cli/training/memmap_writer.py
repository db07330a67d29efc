"""Rows -> the published memory maps, written as the rows come.

    {split}_input_ids.memmap       int32 (N, width), C order
    {split}_input_ids_shape.npy    the two numbers
    {split}_speakers.txt           a line a row, where rows have speakers (an addition: the published rows have none)

One of several ranks writes `{split}_rank00001_partial00000_input_ids.memmap` and so on, as Deep-unlearning's fork reads them.
A file gets its name when it is complete; until then it ends in `.part`, and `writing.json` says how much of it is safely on
the disk, so that a killed run resumes there.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from llasa_cli.files import AtomicFile, write_json
from llasa_cli.prompt import PromptFormat
from llasa_cli.settings import CODES_PER_SECOND

SAVE_EVERY_ROWS = 16_384
"""Rows (134 MB) that a kill costs at most."""
_PART = ".part"


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
        self.data = folder / f"{split}_{name}input_ids.memmap"
        self.shape = folder / f"{split}_{name}input_ids_shape.npy"
        self.speakers = folder / f"{split}_{name}speakers.txt"
        self._padding = np.full(width, pad_id, np.int32)
        self.counts = {"rows": 0, "codes": 0, "tokens": 0, "tagged": 0}
        self._files: tuple[BinaryIO, BinaryIO] | None = None

    def open(self, sizes: Sequence[int], counts: dict[str, int]) -> None:
        """Open the files for writing after `sizes` bytes of rows and of speakers."""
        self.counts = dict(counts)
        self._files = tuple(
            _open_at(_part(path), size) for path, size in zip((self.data, self.speakers), sizes, strict=True)
        )  # type: ignore[assignment]

    def add(self, ids: np.ndarray, codes: int, speaker: str | None) -> None:
        assert self._files is not None
        row = self._padding.copy()
        row[: len(ids)] = ids
        self._files[0].write(row.tobytes())
        self._files[1].write(((speaker or "") + "\n").encode())
        for name, value in (("rows", 1), ("codes", codes), ("tokens", len(ids)), ("tagged", bool(speaker))):
            self.counts[name] += value

    def sync(self) -> dict[str, Any]:
        """Flush everything to the disk, and return how much that is."""
        assert self._files is not None
        sizes = []
        for file in self._files:
            file.flush()
            os.fsync(file.fileno())
            sizes.append(file.tell())
        return {"sizes": sizes, "counts": self.counts}

    def close(self) -> None:
        for file in self._files or ():
            file.close()

    def finish(self) -> None:
        """Give the files their names. A split without rows has no files."""
        self.close()
        width = len(self._padding)
        if self.counts["rows"] == 0:
            _part(self.data).unlink(missing_ok=True)
        else:
            with AtomicFile(self.shape) as shape:
                np.save(shape.file, np.array([self.counts["rows"], width]))
            if self.counts["tagged"]:
                _part(self.speakers).replace(self.speakers)
            _part(self.data).replace(self.data)
        _part(self.speakers).unlink(missing_ok=True)


class MemmapWriter:
    """Writes all splits of one run. A context manager; if it is left early, a later run resumes there.

    Attributes:
        done: Rows that an interrupted run of the same digest has written, and that the caller skips.
    """

    def __init__(
        self, folder: Path, splits: Sequence[str], width: int, pad_id: int, digest: str, rank: int = 0, ranks: int = 1
    ) -> None:
        """Args:
        digest: Identifies everything that decides what will be written, and in which order.
        """
        self._folder, self._digest, name = folder, digest, rank_name(rank, ranks)
        self._state = folder / f"writing{'-' + name.strip('_') if name else ''}.json"
        self._splits = {split: _Split(folder, split, name, width, pad_id) for split in splits}
        state = self._read_state()
        self.done: int = state.get("done", 0)
        _remove_stale_files(folder, name, ranks, keep_parts=self.done > 0)
        for split, files in self._splits.items():
            known = state.get("splits", {}).get(split, {"sizes": [0, 0], "counts": files.counts})
            files.open(known["sizes"], known["counts"])
        self._unsaved = 0

    def _read_state(self) -> dict[str, Any]:
        """The state of an interrupted run, if it was to write the same and its files are all there."""
        try:
            state: dict[str, Any] = json.loads(self._state.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        if state.get("digest") != self._digest or set(state["splits"]) != set(self._splits):
            return {}
        for split, files in self._splits.items():
            for path, size in zip((files.data, files.speakers), state["splits"][split]["sizes"], strict=True):
                if not _part(path).is_file() or _part(path).stat().st_size < size:
                    return {}
        return state

    def add(self, split: str, ids: np.ndarray, codes: int, speaker: str | None) -> None:
        self._splits[split].add(ids, codes, speaker)
        self.done += 1
        self._unsaved += 1
        if self._unsaved >= SAVE_EVERY_ROWS:
            self._save()

    def _save(self) -> None:
        splits = {split: files.sync() for split, files in self._splits.items()}
        write_json(self._state, {"digest": self._digest, "done": self.done, "splits": splits})
        self._unsaved = 0

    def finish(self) -> dict[str, Any]:
        """Give all files their names. -> {"train": {"rows", "hours", "codes", "tokens"}, ...}"""
        self._save()
        for files in self._splits.values():
            files.finish()
        self._state.unlink(missing_ok=True)
        return {split: _summary(files.counts) for split, files in self._splits.items()}

    def __enter__(self) -> MemmapWriter:
        return self

    def __exit__(self, *_: object) -> None:
        for files in self._splits.values():
            try:
                files.close()
            except OSError:  # rows that a full disk did not take; `writing.json` does not count them
                continue


def hours(codes: int) -> float:
    """Hours of speech, rounded."""
    return round(codes / CODES_PER_SECOND / 3600, 3)


def _summary(counts: dict[str, int]) -> dict[str, Any]:
    named = {name: counts[name] for name in ("rows", "codes", "tokens")}
    return {"rows": named["rows"], "hours": hours(named["codes"])} | named


def _remove_stale_files(folder: Path, name: str, ranks: int, keep_parts: bool) -> None:
    """Remove results of earlier runs that a reader would take together with, or instead of, this run's.

    Readers take every part that they find: the part of a rank that no longer exists would mix old rows with new. A single
    file that only has such a name belongs to the user: a split has at least two files, finished or not.
    """
    ending = re.compile(r"_(input_ids\.memmap|input_ids_shape\.npy|speakers\.txt)(\.part)?$")
    paths = sorted(folder.iterdir())  # the memmap of a split comes first; if interrupted here, readers ignore the rest
    kinds: dict[str, set[str]] = {}
    for path in paths:
        if found := ending.search(path.name):
            kinds.setdefault(path.name[: found.start()], set()).add(found[1])
    own = re.compile(r"_" + name if name else r"_(?=input_ids|speakers)")
    for path in paths:
        state = re.fullmatch(r"writing-rank(\d+)_partial\d+\.json", path.name)
        if state is not None and (ranks == 1 or int(state[1]) >= ranks):
            path.unlink(missing_ok=True)
        found = ending.search(path.name)
        if found is None or len(kinds[path.name[: found.start()]]) == 1:
            continue
        part = re.search(r"_rank(\d+)_partial\d+_", path.name)
        is_own = bool(own.search(path.name)) and (part is not None) == bool(name)
        if is_own and keep_parts and path.suffix == _PART:
            continue
        other_mode = part is None if ranks > 1 else part is not None
        no_such_rank = (
            part is not None
            and ranks > 1
            and (int(part[1]) >= ranks or part[0] != f"_{rank_name(int(part[1]), ranks)}")
        )
        if is_own or other_mode or no_such_rank:
            path.unlink(missing_ok=True)


def _part(path: Path) -> Path:
    return path.with_name(path.name + _PART)


def _open_at(path: Path, size: int) -> BinaryIO:
    """Open for writing after `size` bytes; the rest of the file is cut off."""
    file = path.open("r+b" if size else "wb")
    file.truncate(size)
    file.seek(size)
    return file
