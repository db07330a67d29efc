"""Recordings and their texts -> the files that Llasa is trained from.

A row holds text and codes with their markers, always with END, then padding; the chat template is added when the row is
read. A run has three stages: it checks all rows, encodes those without codes, and writes everything. The output folder holds

    codes-CODEC.bin, codes-CODEC.jsonl    the codes of every clip, kept as they are made and used by later runs (`code_cache`)
    .rows.sqlite                          the rows of this run, in place of memory, until it ends (`row_database`)
    {split}_*.part                        the rows that are being written (`memmap_writer`)
    {split}_*, skipped.jsonl, index.json  the results, in this order: the published form, a line for each row that was left
                                          out, and the description of all of it (`index`)

The same command resumes an interrupted run. Only encoding takes long, so only codes are kept: the run checks all rows again,
encodes the clips that have no codes yet, and writes all rows again, which takes less than a tenth of the time of checking them.

Several processes share the work as ranks: each has its share of the rows and writes files of its own. The last one to
finish joins their indexes.
"""

from __future__ import annotations

import errno
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from llasa_cli.errors import LlasaError, UsageError
from llasa_cli.files import make_folder, take_lock, write_json
from llasa_cli.prompt import PromptFormat
from llasa_cli.scratch_database import open_scratch_database
from llasa_cli.settings import CONTEXT_TOKENS
from llasa_cli.training import index
from llasa_cli.training.code_cache import CodeCache
from llasa_cli.training.dataset import rows_to_hold_out
from llasa_cli.training.encoding import Encoder, encode_clips
from llasa_cli.training.hub_datasets import is_dataset
from llasa_cli.training.memmap_writer import MemmapWriter, RowBuilder, rank_name
from llasa_cli.training.options import PrepareOptions
from llasa_cli.training.parallel import map_in_order
from llasa_cli.training.recordings import read_codes
from llasa_cli.training.row_check import MARKERS, RowChecker, columns_of
from llasa_cli.training.row_database import TO_ENCODE, CheckedRow, RowDatabase, short_hash
from llasa_cli.training.rows import Entry, Problem, Unusable
from llasa_cli.training.sources import read_entries
from llasa_cli.wording import format_size

_PROGRESS_ROWS = 500
"""Rows between two reports of progress."""


@dataclass(frozen=True)
class Progress:
    """The progress of one stage.

    Attributes:
        stage: checking, encoding or writing.
        rows, all_rows: Done, and to be done in this run; 0 while their number is not known.
        seconds, all_seconds: Seconds of audio, while encoding.
        rank: The rank of the process that reports.
    """

    stage: str
    rows: int
    all_rows: int = 0
    seconds: float = 0.0
    all_seconds: float = 0.0
    rank: int = 0


OnProgress = Callable[[Progress], None]


def prepare(
    options: PrepareOptions,
    prompt_format: PromptFormat,
    codec: Encoder | None,
    fingerprint: str,
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Check, encode and write everything, or the share of one of several ranks.

    Args:
        options: Sources, output and choices.
        prompt_format: The prompt format of the checkpoint (or tokenizer folder) that will be trained.
        codec: Its codec; None where every row brings its codes, and for `options.dry_run`.
        fingerprint: The fingerprint of the tokenizer, see `index.tokenizer_fingerprint`; rows of one tokenizer are noise to another.
        on_progress: Called at each stage, and every few hundred rows.

    Returns:
        The content of `index.json`; of one rank, while others are not done, that of its own index.

    Raises:
        UsageError: A source is missing, or nothing in all of them can be used.
        LlasaError: The disk is full.
    """
    _check_options(options)
    if codec is not None and prompt_format.code_count != codec.code_count:
        raise UsageError(
            f"The model has {prompt_format.code_count} speech codes, the codec {codec.code_count}.",
            "Name the model's codec with --codec.",
        )
    prompt_format.speakers = ()  # training may bring new ones

    def report(progress: Progress) -> None:
        if on_progress is not None:
            on_progress(replace(progress, rank=options.rank))

    settings = index.RunSettings(options, prompt_format, None if codec is None else codec.identity, fingerprint)
    if options.dry_run:
        with closing(open_scratch_database(None)) as scratch:
            database = _check_rows(options, prompt_format, scratch, report)
            database.hold_out(_validation_rows(options, database))
            return index.describe(settings, database)
    make_folder(options.output)
    busy = UsageError(
        f"Another `llasa prepare` is writing to {options.output}.", "Wait until it has finished, or stop it."
    )
    with _explain_full_disk(options.output):
        lock = options.output / f".lock-rank{options.rank:05d}"
        release = take_lock(lock, busy)
        try:
            return _Run(settings, codec, report).run()
        finally:
            lock.unlink(missing_ok=True)
            release()


def _check_options(options: PrepareOptions) -> None:
    if not 0 < options.subset <= 1:
        raise UsageError(f"--subset {options.subset} is out of range.", "Give a number above 0, at most 1.")
    if options.splits and not any(map(is_dataset, options.sources)):
        raise UsageError(
            "--split chooses from datasets, and no source is one.",
            "Leave it out, or name a dataset: hf:organization/name.",
        )
    if options.output.is_file():
        raise UsageError(f"{options.output} is a file, not a folder.", "Name a folder with -o.")
    if not 0 <= options.rank < options.ranks:
        raise UsageError(f"--rank {options.rank} is out of range.", f"Give 0 to {options.ranks - 1}.")
    if not MARKERS + 2 <= options.max_tokens <= CONTEXT_TOKENS:
        raise UsageError(
            f"--max-tokens {options.max_tokens} is out of range.", f"Use {MARKERS + 2} to {CONTEXT_TOKENS}."
        )
    index.refuse_other_files(options.output)


# --- checking ---


def _check_rows(
    options: PrepareOptions, prompt_format: PromptFormat, scratch: sqlite3.Connection, report: OnProgress
) -> RowDatabase:
    """Check every row of this rank, and store it as a row or as a problem."""
    database = RowDatabase(scratch, options.seed)
    checker, reported = RowChecker(options, prompt_format), 0
    report(Progress("checking", 0))
    entries = ((number, entry) for number, entry in enumerate(_selected(options)) if _is_own(entry, options))
    for number, entry, found in map_in_order(checker.check, entries):
        if number - reported >= _PROGRESS_ROWS:
            report(Progress("checking", number))
            reported = number
        if isinstance(found, Problem):
            database.add_problem(found.where, found.reason)
        elif database.has_name(entry.names):
            database.add_problem(found.where, "duplicate id or audio")
        else:
            database.add(found)
            database.add_names(entry.names)
    database.index_lengths()
    return database


def _selected(options: PrepareOptions) -> Iterator[Entry]:
    """All rows of every source and split, or a share of them evenly spread, or the first few."""
    columns = columns_of(options)
    for source in options.sources:
        counts: dict[str, int] = {}
        for entry in read_entries(source, columns, options.codes, options.splits):
            count = counts[entry.split] = counts.get(entry.split, 0) + 1
            if options.sample and count > options.sample:
                if entry.split or is_dataset(source):
                    continue  # another split may follow
                break
            if int(count * options.subset) > int((count - 1) * options.subset):
                yield entry


def _is_own(entry: Entry, options: PrepareOptions) -> bool:
    """Whether an entry belongs to this rank. All rows of one id do, so that the rank finds the duplicates."""
    return options.ranks == 1 or short_hash(entry.label) % options.ranks == options.rank


def _validation_rows(options: PrepareOptions, database: RowDatabase) -> int:
    """The number of this rank's rows to draw for validation; 0 where a source has validation rows."""
    if options.validation <= 0 or "val" in database.splits():
        return 0
    if options.validation < 1:
        rows = database.total("1", "good AND split = ''")
        return rows_to_hold_out(options.validation, rows, options.ranks)
    wanted = round(options.validation)
    return wanted // options.ranks + (options.rank < wanted % options.ranks)


# --- encoding and writing ---


class _Run:
    """One rank's work on its share of the rows."""

    def __init__(self, settings: index.RunSettings, codec: Encoder | None, report: OnProgress) -> None:
        self._settings, self._codec, self._report = settings, codec, report
        self._options, self._prompt_format = settings.options, settings.prompt_format
        self._rank_prefix = rank_name(self._options.rank, self._options.ranks).partition("_")[0]

    def _file(self, stem: str, ending: str) -> Path:
        prefix = f"_{self._rank_prefix}" if self._rank_prefix else ""
        return self._options.output / f"{stem}{prefix}{ending}"

    def run(self) -> dict[str, Any]:
        path = self._options.output / f".rows{'-' + self._rank_prefix if self._rank_prefix else ''}.sqlite"
        try:
            with closing(open_scratch_database(path)) as scratch:
                return self._run(scratch)
        finally:
            path.unlink(missing_ok=True)

    def _run(self, scratch: sqlite3.Connection) -> dict[str, Any]:
        options = self._options
        database = _check_rows(options, self._prompt_format, scratch, self._report)
        with CodeCache(options.output, self._settings.codec_identity or "none", scratch, options.rank) as cache:
            self._check_disk_space(database)
            encode_clips(
                database,
                cache,
                self._codec,
                columns_of(options),
                options.batch_seconds,
                lambda *figures: self._report(Progress("encoding", *figures)),
            )
            self._correct_counts(database, cache)
            if database.total("1") == 0 and options.ranks == 1:
                listing = options.output / "skipped.jsonl"
                index.write_listing(listing, database)
                index.refuse_empty(database.reasons(), listing)
            database.hold_out(_validation_rows(options, database))
            self._write(database, cache)
        return self._finish(database)

    def _check_disk_space(self, database: RowDatabase) -> None:
        """Raises LlasaError now, not after hours, where the results will not fit."""
        to_encode = 2 * database.total("count", f"good AND {TO_ENCODE}")
        needed = database.total("1") * self._options.max_tokens * 4 + to_encode
        parts = self._options.output.glob(f"*_{rank_name(self._options.rank, self._options.ranks)}*.memmap*")
        free = shutil.disk_usage(self._options.output).free + sum(path.stat().st_size for path in parts)
        if needed > free:
            raise LlasaError(
                f"{self._options.output} needs {format_size(needed)}, and {format_size(free)} are free.",
                "Free some disk space, name another disk with -o, or make rows shorter with --max-tokens.",
            )

    def _correct_counts(self, database: RowDatabase, cache: CodeCache) -> None:
        """A resampled clip may have one code more than its header promised."""
        checker = RowChecker(self._options, self._prompt_format)
        for row in database.rows(condition="good AND codes_file IS NULL AND stored_codes IS NULL"):
            count = cache.count(row.key)
            if count is None or count == row.count:
                continue
            database.set_count(row.number, count)
            try:
                checker.check_context(row.speaker, row.tokens, count)
            except Unusable as why:
                database.reject(row, str(why))

    def _write(self, database: RowDatabase, cache: CodeCache) -> None:
        options, build_row = self._options, RowBuilder(self._prompt_format)
        index.remove_indexes(options.output, self._rank_prefix, options.ranks)
        place = (options.output, database.splits(), options.max_tokens, self._prompt_format.pad_id)
        with MemmapWriter(*place, options.rank, options.ranks) as writer:
            all_rows = database.total("1")
            for number, (row, given) in enumerate(map_in_order(self._given_codes, database.rows())):
                if number % _PROGRESS_ROWS == 0:
                    self._report(Progress("writing", number, all_rows))
                codes = cache[row.key] if given is None else given
                ids = build_row(np.frombuffer(row.text_ids, np.int32), codes)
                if len(ids) > options.max_tokens:
                    raise LlasaError(f"{row.where} changed while it was read.", "Run the same command again.")
                writer.add(row.split, ids, row.speaker)
            self._report(Progress("writing", all_rows, all_rows))
            writer.finish()

    def _given_codes(self, row: CheckedRow) -> tuple[CheckedRow, np.ndarray | None]:
        """The row with uint16 [n] codes made elsewhere; None where the cache has them. Several threads call it."""
        if row.stored_codes is not None:
            return row, np.frombuffer(row.stored_codes, np.uint16)
        if row.codes_file is None:
            return row, None
        try:
            return row, read_codes(row.codes_file, self._prompt_format.code_count)
        except Unusable as why:
            raise LlasaError(f"{row.where} changed while it was read: {why}.", "Run the same command again.") from why

    def _finish(self, database: RowDatabase) -> dict[str, Any]:
        options = self._options
        index.write_listing(self._file("skipped", ".jsonl"), database)
        content = index.describe(self._settings, database)
        if options.ranks > 1:
            content |= {"rank": options.rank, "run": self._settings.identity}
        write_json(self._file("index", ".json"), content)
        if options.ranks == 1:
            return content
        return index.join_indexes(options.output, options.ranks) or content


@contextmanager
def _explain_full_disk(folder: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        is_full = (
            error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
            if isinstance(error, OSError)
            else "full" in str(error) or "disk I/O" in str(error)
        )
        if not is_full:
            raise
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise LlasaError(
            f"{folder} can't be written: {reason}.",
            "Free some disk space and run the same command again; it resumes where it stopped.",
        ) from error
