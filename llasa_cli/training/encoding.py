"""The long part of `llasa prepare`: the codes of all clips, into the code cache."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Protocol

import numpy as np

from llasa_cli.errors import UsageError
from llasa_cli.settings import CODES_PER_SECOND
from llasa_cli.training.code_cache import CodeCache
from llasa_cli.training.parallel import map_in_order
from llasa_cli.training.recordings import read_samples
from llasa_cli.training.row_database import TO_ENCODE, CheckedRow, RowDatabase
from llasa_cli.training.rows import Columns, Unusable

ReadBatch = list[tuple[CheckedRow, np.ndarray | Unusable]]


def require_usual_rate(codes_per_second: float) -> None:
    """Raises:
    UsageError: A codec has another number of codes a second than the lengths of recordings are counted in.
    """
    if codes_per_second != CODES_PER_SECOND:
        raise UsageError(
            f"Recordings can't be encoded for training with {codes_per_second:g} codes a second, only with {CODES_PER_SECOND}.",
            "Make the codes elsewhere, and give them in the rows.",
        )


class Encoder(Protocol):
    """The part of a codec (`codec.codec.Codec`) that `llasa prepare` uses."""

    @property
    def identity(self) -> str | None: ...

    @property
    def code_count(self) -> int: ...

    def encode_batch(self, clips: Sequence[np.ndarray]) -> list[list[int]]: ...


def encode_clips(
    database: RowDatabase,
    cache: CodeCache,
    codec: Encoder | None,
    columns: Columns,
    batch_seconds: float,
    on_progress: Callable[[int, int, float, float], None],
) -> None:
    """Encode every clip that the cache lacks; clips that can't be decoded become problems.

    Args:
        on_progress: Called after each batch with clips done, all clips, seconds done and all seconds.

    Raises:
        UsageError: There are clips to encode, and no codec.
    """
    to_encode = f"good AND {TO_ENCODE}"
    clips, all_seconds = database.total("1", to_encode), database.total("count", to_encode) / CODES_PER_SECOND
    if clips and codec is None:
        raise UsageError("There is audio to encode, but no codec.", "Name a codec with --codec.")
    done, seconds = 0, 0.0
    batches = _batches(database.rows("count", to_encode), batch_seconds * CODES_PER_SECOND)
    for batch in _read_ahead(batches, columns):
        readable = []
        for row, samples in batch:
            if isinstance(samples, Unusable):
                database.reject(row, str(samples))
            elif row.key not in cache:
                readable.append((row.key, samples))
        if readable:
            assert codec is not None
            encoded = codec.encode_batch([samples for _, samples in readable])
            cache.add([(key, codes) for (key, _), codes in zip(readable, encoded, strict=True)])
        done += len(batch)
        seconds += sum(row.count for row, _ in batch) / CODES_PER_SECOND
        on_progress(done, clips, seconds, all_seconds)


def _batches(rows: Iterable[CheckedRow], max_codes: float) -> Iterator[list[CheckedRow]]:
    """Clips of equal length in one batch: others can't share one, because the encoder normalizes over time."""
    batch: list[CheckedRow] = []
    for row in rows:
        if batch and (row.count != batch[0].count or row.count * (len(batch) + 1) > max_codes):
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _read_ahead(batches: Iterable[list[CheckedRow]], columns: Columns) -> Iterator[ReadBatch]:
    """Batches with their samples; the next ones are read and resampled while one is encoded."""

    def read(row: CheckedRow) -> np.ndarray | Unusable:
        assert row.audio is not None
        try:
            return read_samples(row.audio, columns)
        except Unusable as why:
            return why

    def read_batch(batch: list[CheckedRow]) -> ReadBatch:
        return [(row, read(row)) for row in batch]

    return map_in_order(read_batch, batches, threads=2, items_per_task=1)
