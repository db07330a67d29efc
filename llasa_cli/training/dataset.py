"""The published training files, read as rows to train on and as batches of similar length.

    rows = SpeechDataset(folder, "train", prompt_format)
    rows[7]          {"input_ids": int64 [n], "labels": int64 [n]}: template, text, codes, END; labels from START on
    LengthGroupedBatchSampler(...)     an endless stream of lists of row numbers, each at most `tokens` tokens when padded
    collate(items)   (B, T) tensors, padded at the end

Padding comes last and attention is causal, so that no real token attends to it: no attention mask is needed. The published
scripts derive a mask from the padding id, which is the end-of-turn token, and so hide real tokens.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from llasa_cli.errors import UsageError
from llasa_cli.files import read_json_object_if_exists
from llasa_cli.prompt import NO_LABEL, PromptFormat
from llasa_cli.settings import CONTEXT_TOKENS

if TYPE_CHECKING:
    import torch

_SCANNED_ROWS = 2048
_POOL_ROWS = 4096
"""Rows that are sorted by length together: enough that neighbors are of one length, few enough that batches differ by epoch."""
_SHORT_POOL_ROWS = 1024
"""The size of the pool while a length curriculum limits the rows: smaller, so that longer rows come soon after they are allowed."""


class TrainingRows(Protocol):
    """Rows to train on: SpeechDataset, OnlineDataset, ConcatDataset.

    Attributes:
        lengths: int [N], tokens of each row with its template and END.
        codes: int [N], speech codes of each row.
        speakers: The speaker of each row; None without one.
    """

    lengths: np.ndarray
    codes: np.ndarray
    speakers: list[str | None]

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> dict[str, np.ndarray]: ...

    def decode(self, index: int) -> tuple[list[int], list[int]]:
        """Text ids and codes of a row."""
        ...


def example(
    prompt_format: PromptFormat, text: Sequence[int], codes: Sequence[int], speaker: str | None
) -> dict[str, np.ndarray]:
    """Input ids and labels, int64 [n], of a text and codes."""
    ids, labels = prompt_format.training_example(text, codes, speaker)
    return {"input_ids": np.array(ids, np.int64), "labels": np.array(labels, np.int64)}


class MemmapPart:
    """One memory map of rows, int32 [N, width]. It is opened at the first read, so that a worker process gets only paths."""

    def __init__(self, data: Path, shape: Path, speakers: Path) -> None:
        self.data = data
        try:
            self.shape: tuple[int, ...] = tuple(int(size) for size in np.load(shape))
        except (OSError, ValueError) as error:
            raise UsageError(f"{shape} can't be read: {error}", "Make the data again with `llasa prepare`.") from error
        if len(self.shape) != 2 or data.stat().st_size != self.shape[0] * self.shape[1] * 4:
            raise UsageError(
                f"{data} does not have the shape {self.shape} that its .npy file gives.",
                "Make the data again with `llasa prepare`.",
            )
        names = speakers.read_text(encoding="utf-8").split("\n") if speakers.is_file() else []
        self.speakers: list[str] = (names + [""] * self.shape[0])[: self.shape[0]]
        self._ids: np.ndarray | None = None

    @property
    def ids(self) -> np.ndarray:
        if self._ids is None:
            self._ids = np.memmap(self.data, np.int32, "r", shape=self.shape) if self.shape[0] else np.empty(self.shape)
        return self._ids

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_ids": None}


def find_parts(folder: Path, split: str) -> list[MemmapPart]:
    """The files of one split: one file, numbered parts, or the parts of ranks, as the published scripts look for them.

    Raises:
        UsageError: There is none, or one has no shape beside it.
    """
    paths = sorted(folder.glob(f"{split}_rank*_partial*_input_ids.memmap"))
    numbered = folder.glob(f"{split}_input_ids_*.memmap")
    paths = paths or sorted(numbered, key=lambda path: int(re.sub(r"\D", "", path.stem[len(split) :]) or 0))
    paths = paths or [folder / f"{split}_input_ids.memmap"]
    parts = []
    for data in paths:
        shape = data.with_name(data.name.removesuffix(".memmap") + "_shape.npy")
        for path in (data, shape):
            if not path.is_file():
                raise UsageError(f"There is no {path.name} in {folder}.", "Make it with `llasa prepare`.")
        speakers = re.sub(r"input_ids(_\d+)?\.memmap$", r"speakers\1.txt", data.name)
        parts.append(MemmapPart(data, shape, data.with_name(speakers)))
    return parts


def rows_to_hold_out(share: float, rows: int, ranks: int = 1) -> int:
    """The number of a rank's rows that a share is: at least one, and three of a dozen, because text gain compares several texts."""
    least = math.ceil(3 / ranks) if rows * ranks >= 12 else 1
    return max(least, round(share * rows))


def find_held_out_split(folder: Path) -> str | None:
    """The name of the split to evaluate on: val, or test where the fork's scripts made it."""
    for split in ("val", "test", "validation"):
        if any(folder.glob(f"{split}_*input_ids*.memmap")):
            return split
    return None


class SpeechDataset:
    """One split of a data folder, opened as memory maps; see `TrainingRows`.

    Attributes:
        skipped: The number of rows that are left out because a marker is missing or the template makes them too long.
    """

    def __init__(
        self,
        folder: Path,
        split: str,
        prompt_format: PromptFormat,
        speakers: Sequence[str] = (),
        speaker_dropout: float = 0.0,
        seed: int = 0,
        context: int = CONTEXT_TOKENS,
        text_dropout: float = 0.0,
    ) -> None:
        """Args:
        folder: A folder of `llasa prepare`, or one in the published form.
        split: train or val.
        prompt_format: The prompt format of the model to train.
        speakers: Only rows of these; all if empty.
        speaker_dropout: Share of rows read without their speaker tag, so that the model can also clone.
        seed: Draws these rows.
        context: Tokens of the longest row, with the template.
        text_dropout: Share of rows read without their text, so that the model learns the unconditional prediction that
            guidance needs.

        Raises:
            UsageError: The files are missing or damaged, or no row is left.
        """
        self._parts = find_parts(folder, split)
        self._begins = np.cumsum([0, *(part.shape[0] for part in self._parts)])
        self._prompt_format, self._seed = prompt_format, seed
        self._speaker_dropout, self._text_dropout = speaker_dropout, text_dropout
        names = [name for part in self._parts for name in part.speakers]
        count = len(names)
        self._ends, starts, text_ends = self._find_markers(count)
        template = np.array([prompt_format.template_length(name or None) for name in names], np.int64)
        codes = self._ends - starts - 1
        lengths = template + text_ends - 1 + codes
        fits = (self._ends > 0) & (lengths <= context)
        if count and not (self._ends > 0).any():
            raise UsageError(
                f"No row in {self._parts[0].data} has this model's markers, so it was made with another tokenizer.",
                "Run `llasa prepare -m MODEL` for the model that you train.",
            )
        self.skipped = int((~fits).sum())
        chosen = np.isin(names, speakers) if speakers else np.ones(count, bool)
        self._numbers = np.flatnonzero(fits & chosen)
        if len(self._numbers) == 0 and split == "train":
            named = ", ".join(sorted(set(names) - {""}))
            hint = f"No row fits into --context {context}."
            if speakers:
                hint = f"The data has the speakers {named}." if named else "The data names no speakers."
            raise UsageError("No row is left to train on.", hint)
        self.codes = codes[self._numbers]
        self.lengths = lengths[self._numbers]
        self.speakers = [names[number] or None for number in self._numbers]

    def _find_markers(self, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """int32 [count] each: the places of END, START and the text's end in each row; END is 0 where one is missing."""
        prompt_format = self._prompt_format
        tokens = (prompt_format.end_id, prompt_format.start_id, prompt_format.text_end_id)
        found = np.zeros((3, count), np.int32)
        for part, offset in zip(self._parts, self._begins, strict=False):
            for begin in range(0, part.shape[0], _SCANNED_ROWS):
                piece = np.asarray(part.ids[begin : begin + _SCANNED_ROWS])
                places = [(piece == token).argmax(axis=1) for token in tokens]
                complete = (places[0] > places[1]) & (places[1] > places[2]) & (places[2] > 0)
                where = slice(offset + begin, offset + begin + len(piece))
                found[:, where] = np.where(complete, np.stack(places), 0)
        return found[0], found[1], found[2]

    def _row(self, number: int) -> list[int]:
        """Ids of a row of the data, with END as the last."""
        part = int(np.searchsorted(self._begins, number, side="right")) - 1
        ids: list[int] = self._parts[part].ids[number - self._begins[part], : self._ends[number] + 1].tolist()
        return ids

    def __len__(self) -> int:
        return len(self._numbers)

    def decode(self, index: int) -> tuple[list[int], list[int]]:
        """Text ids and codes of a row."""
        return self._prompt_format.decode_row(self._row(int(self._numbers[index])))

    def __getitem__(self, index: int) -> dict[str, np.ndarray]:
        text, codes = self.decode(index)
        speaker = self.speakers[index]
        if self._speaker_dropout or self._text_dropout:
            # Drawn from the row's number, so that a resumed run drops the same.
            draws = np.random.default_rng((self._seed, int(self._numbers[index]))).random(2)
            speaker = None if draws[0] < self._speaker_dropout else speaker
            text = [] if draws[1] < self._text_dropout else text
        return example(self._prompt_format, text, codes, speaker)


class LengthGroupedBatchSampler:
    """An endless stream of batches of row numbers, the same for the same seed.

    Rows are drawn without replacement, epoch after epoch. Within a pool of some thousand rows they are grouped by length, so
    that batches hold little padding.
    """

    def __init__(
        self,
        lengths: np.ndarray,
        tokens: int,
        seed: int = 0,
        skip_batches: Callable[[], int] | None = None,
        codes: np.ndarray | None = None,
        max_codes: Callable[[int], float] | None = None,
        rows_per_batch: int | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """Args:
        lengths: Tokens of each row.
        tokens: The most tokens of a batch, padding included. A longer row is a batch of its own.
        seed: The seed of the order.
        skip_batches: The number of batches (of this rank) that an interrupted run has done.
        codes: The number of codes of each row; needed with `max_codes`.
        max_codes: Batch number -> codes of the longest row that may be drawn now; None allows all.
        rows_per_batch: The most rows of a batch.
        rank: The rank of this process: batch n goes to rank n modulo world_size, so that the batches of one step are the same for
            any number of processes.
        """
        self._lengths, self._tokens, self._seed = np.asarray(lengths), tokens, seed
        self._skip_batches, self._codes, self._max_codes = skip_batches, codes, max_codes
        self._max_rows, self._rank, self._world_size = rows_per_batch or len(self._lengths), rank, world_size
        self._number = 0

    def __iter__(self) -> Iterator[list[int]]:
        first = self._skip_batches() * self._world_size if self._skip_batches is not None else 0
        self._number = 0
        for pool in self._pools():
            for batch in pool:
                if self._number >= first and self._number % self._world_size == self._rank:
                    yield batch
                self._number += 1

    def batches_per_epoch(self) -> int:
        """Batches of all ranks until every row has come once, in the first epoch; other epochs differ by a few."""
        return sum(len(pool) for pool in self._epoch(0))

    def _pools(self) -> Iterator[list[list[int]]]:
        turn = 0
        while True:
            limit = self._max_codes(self._number) if self._max_codes is not None else np.inf
            if self._codes is None or limit >= self._codes.max():
                yield from self._epoch(turn)
            else:
                random = np.random.default_rng((self._seed, turn))
                # Where no row is as short as the limit, the shortest rows there are.
                short = np.flatnonzero(self._codes <= max(limit, np.quantile(self._codes, 0.02)))
                yield self._grouped(random.permutation(short)[:_SHORT_POOL_ROWS], random)
            turn += 1

    def _epoch(self, turn: int) -> Iterator[list[list[int]]]:
        random = np.random.default_rng((self._seed, turn))
        order = random.permutation(len(self._lengths))
        for begin in range(0, len(order), _POOL_ROWS):
            yield self._grouped(order[begin : begin + _POOL_ROWS], random)

    def _grouped(self, rows: np.ndarray, random: np.random.Generator) -> list[list[int]]:
        by_length = rows[np.argsort(self._lengths[rows], kind="stable")]
        groups: list[list[int]] = [[]]
        for row in by_length.tolist():
            size = len(groups[-1]) + 1
            if groups[-1] and (self._lengths[row] * size > self._tokens or size > self._max_rows):
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
        padded = np.full((len(items), longest), filler, np.int64)
        for row, item in zip(padded, items, strict=True):
            row[: len(item[name])] = item[name]
        out[name] = torch.from_numpy(padded)
    out["lengths"] = torch.tensor([len(item["input_ids"]) for item in items])
    return out


def read_index(folder: Path) -> dict[str, Any]:
    """`index.json` of `llasa prepare`; empty for data in the published form."""
    return read_json_object_if_exists(folder / "index.json", "Run `llasa prepare` again.")
