"""Rows -> the published memory maps, written as they come.

    {split}_input_ids.memmap       int32 (N, width), C order
    {split}_input_ids_shape.npy    the two numbers
    {split}_speakers.txt           a line a row, where rows have speakers (an addition: the published rows have none)

One of several ranks writes `{split}_rank00001_partial00000_input_ids.memmap` and so on, which Deep-unlearning's fork reads
as they are. A file has its name when it is whole; until then it ends in `.part`, and `writing.json` says how much of it is
safely on the disk, so that a killed run goes on there.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from llasa_cli.files import write_json
from llasa_cli.prompt import PromptFormat
from llasa_cli.settings import CODES_PER_SECOND

SAVE_EVERY_ROWS = 16_384
"""Written again at most after a kill: 134 MB."""
_PART = ".part"


def rank_name(rank: int, ranks: int) -> str:
    """What one rank's files have in their names; nothing if it is the only one."""
    return "" if ranks == 1 else f"rank{rank:05d}_partial00000_"


class RowMaker:
    """Rows as `PromptFormat.row` makes them, as arrays and from what is already encoded: of a million rows it counts."""

    def __init__(self, prompt_format: PromptFormat) -> None:
        self._first_code = prompt_format.first_code_id
        text_start, text_end, start, stop = prompt_format.encode_row("", ())
        self._before, self._between, self._end = (
            np.array(part, np.int32) for part in ([text_start], [text_end, start], [stop])
        )

    def __call__(self, text_ids: np.ndarray, codes: np.ndarray) -> np.ndarray:
        """int32 [text], uint16 [codes] -> int32 [text + codes + 4], END last."""
        spoken = codes.astype(np.int32) + self._first_code
        return np.concatenate([self._before, text_ids, self._between, spoken, self._end])


class _Split:
    """One split's files, being written."""

    def __init__(self, folder: Path, split: str, name: str, width: int, pad_id: int) -> None:
        self.data = folder / f"{split}_{name}input_ids.memmap"
        self.shape = folder / f"{split}_{name}input_ids_shape.npy"
        self.speakers = folder / f"{split}_{name}speakers.txt"
        self._blank = np.full(width, pad_id, np.int32)
        self.counts = {"rows": 0, "codes": 0, "tokens": 0, "tagged": 0}
        self._files: tuple[BinaryIO, BinaryIO] | None = None

    def open(self, sizes: Sequence[int], counts: dict[str, int]) -> None:
        """Go on after `sizes` bytes of data and of names."""
        self.counts = dict(counts)
        self._files = tuple(
            _open_at(_part(path), size) for path, size in zip((self.data, self.speakers), sizes, strict=True)
        )  # type: ignore[assignment]

    def add(self, ids: np.ndarray, codes: int, speaker: str | None) -> None:
        assert self._files is not None
        row = self._blank.copy()
        row[: len(ids)] = ids
        self._files[0].write(row.tobytes())
        self._files[1].write(((speaker or "") + "\n").encode())
        for name, value in (("rows", 1), ("codes", codes), ("tokens", len(ids)), ("tagged", bool(speaker))):
            self.counts[name] += value

    def saved(self) -> dict[str, Any]:
        """Everything written so far onto the disk, and how much that is."""
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
        """Name the files; of a split without rows, none is left."""
        self.close()
        width = len(self._blank)
        if self.counts["rows"] == 0:
            _part(self.data).unlink(missing_ok=True)
        else:
            part = _part(self.shape)
            with part.open("wb") as file:
                np.save(file, np.array([self.counts["rows"], width]))
            part.replace(self.shape)
            if self.counts["tagged"]:
                _part(self.speakers).replace(self.speakers)
            _part(self.data).replace(self.data)
        _part(self.speakers).unlink(missing_ok=True)


class Writer:
    """All splits of one run. A context manager; what was written when it is left early is gone on with later.

    Attributes:
        done: Rows that an earlier, killed run of the same digest has written: leave out as many.
    """

    def __init__(
        self, folder: Path, splits: Sequence[str], width: int, pad_id: int, digest: str, rank: int = 0, ranks: int = 1
    ) -> None:
        """Args:
        digest: Of everything that decides what will be written, and in which order.
        """
        self._folder, self._digest, name = folder, digest, rank_name(rank, ranks)
        self._state = folder / f"writing{'-' + name.strip('_') if name else ''}.json"
        self._splits = {split: _Split(folder, split, name, width, pad_id) for split in splits}
        state = self._read_state()
        self.done: int = state.get("done", 0)
        _remove_other_files(folder, name, ranks, keep_parts=self.done > 0)
        for split, files in self._splits.items():
            known = state.get("splits", {}).get(split, {"sizes": [0, 0], "counts": files.counts})
            files.open(known["sizes"], known["counts"])
        self._unsaved = 0

    def _read_state(self) -> dict[str, Any]:
        """What an earlier run left, if it was to write the same and its files are all there."""
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
        splits = {split: files.saved() for split, files in self._splits.items()}
        write_json(self._state, {"digest": self._digest, "done": self.done, "splits": splits})
        self._unsaved = 0

    def finish(self) -> dict[str, Any]:
        """Name all files. {"train": {"rows", "hours", "codes", "tokens"}, ...}"""
        self._save()
        for files in self._splits.values():
            files.finish()
        self._state.unlink(missing_ok=True)
        return {split: summary(files.counts) for split, files in self._splits.items()}

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *_: object) -> None:
        for files in self._splits.values():
            try:
                files.close()
            except OSError:  # what is still unwritten on a full disk; `writing.json` does not count it
                continue


def summary(counts: dict[str, int]) -> dict[str, Any]:
    hours = round(counts["codes"] / CODES_PER_SECOND / 3600, 3)
    return {"rows": counts["rows"], "hours": hours, "codes": counts["codes"], "tokens": counts["tokens"]}


def _remove_other_files(folder: Path, name: str, ranks: int, keep_parts: bool) -> None:
    """Results of earlier runs that would be read beside, or instead of, those of this one.

    Readers take every part they find: one of a rank that is no more would mix old rows with new. What only has such a
    name is somebody else's: of a split, written or begun, two files at least lie side by side.
    """
    ending = re.compile(r"_(input_ids\.memmap|input_ids_shape\.npy|speakers\.txt)(\.part)?$")
    paths = sorted(folder.iterdir())  # of a split the memmap comes first: what is left of it, cut off, nobody reads
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
        stale = part is None if ranks > 1 else part is not None
        gone = (
            part is not None
            and ranks > 1
            and (int(part[1]) >= ranks or part[0] != f"_{rank_name(int(part[1]), ranks)}")
        )
        if is_own or stale or gone:
            path.unlink(missing_ok=True)


def _part(path: Path) -> Path:
    return path.with_name(path.name + _PART)


def _open_at(path: Path, size: int) -> BinaryIO:
    """For writing on after `size` bytes; what is behind them is cut off."""
    file = path.open("r+b" if size else "wb")
    file.truncate(size)
    file.seek(size)
    return file
