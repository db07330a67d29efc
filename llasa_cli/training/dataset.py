"""The published training files, read as rows to learn from and as batches of like length.

    rows = SpeechDataset(folder, "train", prompt_format)
    rows[7]          {"input_ids": int64 [n], "labels": int64 [n]}: template, text, codes, END; labels from START on
    LengthGroupedBatchSampler(...)     an endless stream of lists of row numbers, each at most `tokens` tokens when padded
    collate(items)   (B, T) tensors, padded at the end

Padding stands last and attention is causal, so no real token ever sees it: no mask is needed, and none is made from ids
(the published scripts pad with end-of-turn and so mask the real ones).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llasa_cli.errors import UsageError
from llasa_cli.files import read_json_object_if_exists
from llasa_cli.prompt import NO_LABEL, PromptFormat
from llasa_cli.settings import CONTEXT_TOKENS

if TYPE_CHECKING:
    import torch

_SCANNED_ROWS = 2048
_POOL_ROWS = 4096
"""Rows sorted by length together: enough that neighbours are of one length, few enough that batches differ by epoch."""
_SHORT_POOL_ROWS = 1024
"""While short rows come first: fewer, so that longer ones come in soon after they may."""


class Table:
    """One memory map of rows, int32 [N, width]. Opened when first read, so that a worker process gets paths, not data."""

    def __init__(self, data: Path, shape: Path, speakers: Path) -> None:
        self.data = data
        try:
            self.form: tuple[int, ...] = tuple(int(size) for size in np.load(shape))
        except (OSError, ValueError) as error:
            raise UsageError(f"{shape} can't be read: {error}", "Make the data anew with `llasa prepare`.") from error
        if len(self.form) != 2 or data.stat().st_size != self.form[0] * self.form[1] * 4:
            raise UsageError(f"{data} is not of the shape {self.form} that its .npy file tells.", "Make it anew.")
        names = speakers.read_text(encoding="utf-8").split("\n") if speakers.is_file() else []
        self.speakers: list[str] = (names + [""] * self.form[0])[: self.form[0]]
        self._ids: np.ndarray | None = None

    @property
    def ids(self) -> np.ndarray:
        if self._ids is None:
            self._ids = np.memmap(self.data, np.int32, "r", shape=self.form) if self.form[0] else np.empty(self.form)
        return self._ids

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_ids": None}


def find_tables(folder: Path, split: str) -> list[Table]:
    """The files of one split: one, or numbered parts, or the parts of ranks, as the published scripts look for them.

    Raises:
        UsageError: There is none, or one has no shape beside it.
    """
    parts = sorted(folder.glob(f"{split}_rank*_partial*_input_ids.memmap"))
    numbered = folder.glob(f"{split}_input_ids_*.memmap")
    parts = parts or sorted(numbered, key=lambda path: int(re.sub(r"\D", "", path.stem[len(split) :]) or 0))
    parts = parts or [folder / f"{split}_input_ids.memmap"]
    tables = []
    for data in parts:
        shape = data.with_name(data.name.removesuffix(".memmap") + "_shape.npy")
        for path in (data, shape):
            if not path.is_file():
                raise UsageError(f"There is no {path.name} in {folder}.", "Make it with `llasa prepare`.")
        speakers = re.sub(r"input_ids(_\d+)?\.memmap$", r"speakers\1.txt", data.name)
        tables.append(Table(data, shape, data.with_name(speakers)))
    return tables


def rows_to_hold_out(share: float, rows: int, ranks: int = 1) -> int:
    """How many of a rank's rows a share is: at least one, and of a dozen three, as text gain compares several texts."""
    least = math.ceil(3 / ranks) if rows * ranks >= 12 else 1
    return max(least, round(share * rows))


def held_out_split(folder: Path) -> str | None:
    """What the rows to judge on are called: val, or test where the fork's scripts made them."""
    for split in ("val", "test", "validation"):
        if any(folder.glob(f"{split}_*input_ids*.memmap")):
            return split
    return None


class SpeechDataset:
    """One split of a data folder, opened as a memory map.

    Attributes:
        cut: How many rows are left out because a marker is missing or the template makes them too long.
        codes: int32 [N], speech codes of each row; `lengths`: int32 [N], its tokens with the template and END.
        speakers: Of each row, None without one.
    """

    def __init__(
        self,
        folder: Path,
        split: str,
        prompt_format: PromptFormat,
        only: Sequence[str] = (),
        untagged: float = 0.0,
        seed: int = 0,
        context: int = CONTEXT_TOKENS,
        textless: float = 0.0,
    ) -> None:
        """Args:
        folder: Of `llasa prepare`, or of the published form.
        split: train or val.
        prompt_format: Of the model to be trained.
        only: Rows of these speakers; all if empty.
        untagged: Share of rows read without their speaker tag, so that the model can also clone.
        seed: Draws those.
        context: Tokens of the longest row, with the template.
        textless: Share of rows read without their text, so that the model learns what guidance compares with.
        """
        self._tables = find_tables(folder, split)
        self._begins = np.cumsum([0, *(table.form[0] for table in self._tables)])
        self._prompt_format, self._untagged, self._textless, self._seed = prompt_format, untagged, textless, seed
        read = [name for table in self._tables for name in table.speakers]
        count = len(read)
        self._ends, starts, text_ends = self._scan(count)
        frames = {name: len(prompt_format.training_example([], [], name or None)[0]) for name in set(read)}
        frame = np.array([frames[name] for name in read], np.int64)
        self._all_codes = self._ends - starts - 1
        lengths = frame + text_ends - 1 + self._all_codes
        fits = (self._ends > 0) & (lengths <= context)
        if count and not (self._ends > 0).any():
            raise UsageError(
                f"No row in {self._tables[0].data} has this model's markers.", "It was made with another tokenizer."
            )
        self.cut = int((~fits).sum())
        chosen = np.isin(read, only) if only else np.ones(count, bool)
        self._numbers = np.flatnonzero(fits & chosen)
        if len(self._numbers) == 0 and split == "train":
            named = ", ".join(sorted(set(read) - {""}))
            hint = (
                f"Speakers in the data: {named or 'none is named'}." if only else f"None fits into --context {context}."
            )
            raise UsageError("No row is left to train on.", hint)
        self.codes = self._all_codes[self._numbers]
        self.lengths = lengths[self._numbers]
        self.speakers = [read[number] or None for number in self._numbers]

    def _scan(self, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Where END, START and the text's end stand in each row; END is 0 where one of them is missing."""
        prompt_format = self._prompt_format
        found = np.zeros((3, count), np.int32)
        for table, offset in zip(self._tables, self._begins, strict=False):
            for begin in range(0, table.form[0], _SCANNED_ROWS):
                piece = np.asarray(table.ids[begin : begin + _SCANNED_ROWS])
                places = [
                    (piece == token).argmax(axis=1)
                    for token in (prompt_format.end_id, prompt_format.start_id, prompt_format.text_end_id)
                ]
                whole = (places[0] > places[1]) & (places[1] > places[2]) & (places[2] > 0)
                place = slice(offset + begin, offset + begin + len(piece))
                found[:, place] = np.where(whole, np.stack(places), 0)
        return found[0], found[1], found[2]

    def _row(self, number: int) -> list[int]:
        """Ids of a row of the data, END the last."""
        part = int(np.searchsorted(self._begins, number, side="right")) - 1
        ids: list[int] = self._tables[part].ids[number - self._begins[part], : self._ends[number] + 1].tolist()
        return ids

    def __len__(self) -> int:
        return len(self._numbers)

    def parts(self, index: int) -> tuple[list[int], list[int]]:
        """Text ids and codes of a row."""
        return self._prompt_format.decode_row(self._row(int(self._numbers[index])))

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        text, codes = self.parts(index)
        speaker = self.speakers[index]
        if self._untagged or self._textless:
            # Drawn from the row's number: the same rows whenever a run is resumed.
            draws = np.random.default_rng((self._seed, int(self._numbers[index]))).random(2)
            speaker = None if draws[0] < self._untagged else speaker
            text = [] if draws[1] < self._textless else text
        return self.wrap(text, codes, speaker)

    def wrap(self, text: Sequence[int], codes: Sequence[int], speaker: str | None) -> dict[str, np.ndarray]:
        """The model's input and labels for any text and codes."""
        ids, labels = self._prompt_format.training_example(text, codes, speaker)
        return {"input_ids": np.array(ids, np.int64), "labels": np.array(labels, np.int64)}


class LengthGroupedBatchSampler:
    """An endless stream of batches of row numbers, the same for the same seed.

    Rows are drawn without replacement, pass after pass; within a pool of some thousand they are put together by length,
    so that little is padding.
    """

    def __init__(
        self,
        lengths: np.ndarray,
        tokens: int,
        seed: int = 0,
        start: Callable[[], int] | None = None,
        codes: np.ndarray | None = None,
        most_codes: Callable[[int], float] | None = None,
        rows: int | None = None,
        rank: int = 0,
        ranks: int = 1,
    ) -> None:
        """Args:
        lengths: Of each row, in tokens.
        tokens: Of a batch at most, padding included. A row longer than that is a batch of its own.
        seed: Of the order.
        start: How many batches (of this rank) to leave out because they were done before an interruption.
        codes: Of each row; needed with `most_codes`.
        most_codes: Batch number -> codes of the longest row that may come now; None lets all come.
        rows: Of a batch at most.
        rank: Which of `ranks` processes this is: batch n goes to rank n modulo ranks, so that the batches of one step
            are the same however many processes share it.
        """
        self._lengths, self._tokens, self._seed = np.asarray(lengths), tokens, seed
        self._start, self._codes, self._most_codes = start, codes, most_codes
        self._rows, self._rank, self._ranks = rows or len(self._lengths), rank, ranks
        self._number = 0

    def __iter__(self) -> Iterator[list[int]]:
        start = self._start() * self._ranks if self._start is not None else 0
        self._number = 0
        for pool in self._pools():
            for batch in pool:
                if self._number >= start and self._number % self._ranks == self._rank:
                    yield batch
                self._number += 1

    def in_one_pass(self) -> int:
        """Batches until every row has come once (of the first pass; others differ by a few), of all ranks together."""
        return sum(len(pool) for pool in self._one_pass(0))

    def _pools(self) -> Iterator[list[list[int]]]:
        turn = 0
        while True:
            limit = self._most_codes(self._number) if self._most_codes is not None else np.inf
            if self._codes is None or limit >= self._codes.max():
                yield from self._one_pass(turn)
            else:
                random = np.random.default_rng((self._seed, turn))
                # Data without any row of a second or so: the shortest ones there are.
                short = np.flatnonzero(self._codes <= max(limit, np.quantile(self._codes, 0.02)))
                yield self._grouped(random.permutation(short)[:_SHORT_POOL_ROWS], random)
            turn += 1

    def _one_pass(self, turn: int) -> Iterator[list[list[int]]]:
        random = np.random.default_rng((self._seed, turn))
        order = random.permutation(len(self._lengths))
        for begin in range(0, len(order), _POOL_ROWS):
            yield self._grouped(order[begin : begin + _POOL_ROWS], random)

    def _grouped(self, rows: np.ndarray, random: np.random.Generator) -> list[list[int]]:
        by_length = rows[np.argsort(self._lengths[rows], kind="stable")]
        groups: list[list[int]] = [[]]
        for row in by_length.tolist():
            many = len(groups[-1]) + 1
            if groups[-1] and (self._lengths[row] * many > self._tokens or many > self._rows):
                groups.append([])
            groups[-1].append(row)
        random.shuffle(groups)
        return groups


def collate(items: Sequence[dict[str, np.ndarray]]) -> dict[str, torch.Tensor]:
    """Rows -> input_ids and labels (B, T) int64, and lengths (B,)."""
    import torch

    longest = max(len(item["input_ids"]) for item in items)
    out: dict[str, torch.Tensor] = {}
    for name, filler in (("input_ids", 0), ("labels", NO_LABEL)):
        table = np.full((len(items), longest), filler, np.int64)
        for row, item in zip(table, items, strict=True):
            row[: len(item[name])] = item[name]
        out[name] = torch.from_numpy(table)
    out["lengths"] = torch.tensor([len(item["input_ids"]) for item in items])
    return out


def read_index(folder: Path) -> dict[str, Any]:
    """`index.json` of `llasa prepare`; empty for data in the published form alone."""
    return read_json_object_if_exists(folder / "index.json", "Run `llasa prepare` again.")
