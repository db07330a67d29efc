"""Recordings and their texts -> the files that Llasa is trained from.

Out, in one folder (the published form, see `memmaps.py`):

    {split}_input_ids.memmap, {split}_input_ids_shape.npy, {split}_speakers.txt     split: train, val
    index.json         what went in, what was left out and why; written last
    skipped.jsonl      every row that was left out, where there are any

A row is text and codes with their markers, END always there, then padding; the chat template is added when it is read.
Rows are checked first, all of them; then what has no codes yet is encoded, the long part; then everything is written.
Codes are kept as they are made (`codes.py`) and rows as they are written (`memmaps.py`): the same command again goes on
from there. Neither clips nor rows are ever all in memory (`ledger.py`).

Several processes share the work as ranks: each has the rows that fall to it, and writes files of its own. The last one to
finish joins their indexes.
"""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import os
import re
import shutil
import sqlite3
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from llasa_cli.codec.codec import SHORTEST_CLIP
from llasa_cli.codec.fbank import HOP
from llasa_cli.errors import LlasaError, UsageError
from llasa_cli.files import make_folder, write_json
from llasa_cli.prompt import PromptFormat
from llasa_cli.scratch_database import open_scratch_database
from llasa_cli.settings import CODES_PER_SECOND, CONTEXT_TOKENS, PrepareOptions
from llasa_cli.training import row_check as clips
from llasa_cli.training.code_cache import CodeStore, clip_key
from llasa_cli.training.dataset import rows_to_hold_out
from llasa_cli.training.hub_datasets import is_dataset
from llasa_cli.training.memmap_writer import RowMaker, Writer, rank_name
from llasa_cli.training.row_check import Unusable
from llasa_cli.training.row_database import CheckedRow, RowDatabase, short_hash
from llasa_cli.training.sources import Columns, Entry, Problem, Row, read_entries
from llasa_cli.training.texts import text_ids
from llasa_cli.wording import format_size

Given = TypeVar("Given")
Made = TypeVar("Made")
MARKERS = 4
"""Of a row: TEXT_UNDERSTANDING_START and END, SPEECH_GENERATION_START and END."""
_LISTED = 10_000
"""Problems in index.json; `skipped.jsonl` has all."""
_EVERY_ROWS = 500
"""Between two words of progress."""


class Encoder(Protocol):
    """What is needed of a codec (`codec.model.Codec`)."""

    @property
    def identity(self) -> str | None: ...

    @property
    def code_count(self) -> int: ...

    def encode_batch(self, clips: Sequence[np.ndarray]) -> list[list[int]]: ...


@dataclass(frozen=True)
class Progress:
    """How far one stage is.

    Attributes:
        stage: checking, encoding or writing.
        rows, all_rows: Done and to be done in this run; 0 where nobody knows how many there are.
        seconds, all_seconds: Of audio, while encoding.
        rank: Whose progress.
    """

    stage: str
    rows: int
    all_rows: int = 0
    seconds: float = 0.0
    all_seconds: float = 0.0
    rank: int = 0


Recognizer = Callable[[Progress], None]


def prepare(
    options: PrepareOptions,
    prompt_format: PromptFormat,
    codec: Encoder | None,
    fingerprint: str,
    on_progress: Recognizer | None = None,
) -> dict[str, Any]:
    """Check, encode and write everything; or, of several ranks, this one's share.

    Args:
        options: Where from, where to.
        prompt_format: Of the checkpoint (or tokenizer folder) that will be trained.
        codec: Its codec; None where every row brings its codes, or for `options.dry_run`.
        fingerprint: Of the tokenizer, see `tokenizer_fingerprint`; rows of one tokenizer are noise to another.

    Returns:
        What `index.json` holds (of one rank while others are not done: what its own index holds).

    Raises:
        UsageError: A source that is not there, or nothing usable in all of them.
        LlasaError: The disk is full.
    """
    _check_options(options)
    if codec is not None and prompt_format.code_count != codec.code_count:
        raise UsageError(
            f"The model has {prompt_format.code_count} speech codes, the codec {codec.code_count}.",
            "Name the codec that belongs to the model with --codec.",
        )
    prompt_format.speakers = ()  # training may bring new ones
    told = on_progress or (lambda progress: None)

    def listen(progress: Progress) -> None:
        told(replace(progress, rank=options.rank))

    if options.dry_run:
        with closing(open_scratch_database(None)) as scratch:
            ledger = _checked_rows(options, prompt_format, scratch, listen)
            return _report(options, prompt_format, codec, fingerprint, ledger, _expected_splits(ledger, options))
    make_folder(options.output)
    with _full_disk_in_a_sentence(options.output), _alone(options.output, options.rank):
        return _Run(options, prompt_format, codec, fingerprint, listen).all()


def tokenizer_fingerprint(folder: Path) -> str:
    """12 hexadecimal digits of a checkpoint's tokenizer.json."""
    return hashlib.sha256((folder / "tokenizer.json").read_bytes()).hexdigest()[:12]


def _check_options(options: PrepareOptions) -> None:
    if not 0 < options.subset <= 1:
        raise UsageError(f"--subset {options.subset} is no share.", "Give a number above 0, at most 1.")
    if options.splits and not any(map(is_dataset, options.sources)):
        raise UsageError(
            "--split is of datasets, and none is named.", "Leave it out, or name one: hf:organisation/name."
        )
    if options.output.is_file():
        raise UsageError(f"{options.output} is a file, not a folder.", "Name another with -o.")
    if not 0 <= options.rank < options.ranks:
        raise UsageError(f"There is no rank {options.rank} of {options.ranks}.", "Ranks are counted from 0.")
    if not MARKERS + 2 <= options.max_tokens <= CONTEXT_TOKENS:
        raise UsageError(
            f"Rows of {options.max_tokens} tokens make no sense.", f"Llasa is trained at {CONTEXT_TOKENS}."
        )
    for name, of_ours in (("index.json", "splits"), ("skipped.jsonl", "reason")):
        path = options.output / name
        if path.is_file() and not _tells(path, of_ours):
            raise UsageError(f"{path} is not of llasa prepare, which writes one.", "Name another folder with -o.")


def _tells(path: Path, name: str) -> bool:
    """Whether a file, or its first line, is a JSON object that has such a member."""
    with path.open(encoding="utf-8", errors="replace") as file:
        text = file.readline() if path.suffix == ".jsonl" else file.read()
    try:
        found = json.loads(text)
    except ValueError:
        return False
    return isinstance(found, dict) and name in found


# --- checking ---


def _checked_rows(
    options: PrepareOptions, prompt_format: PromptFormat, scratch: sqlite3.Connection, listen: Recognizer
) -> RowDatabase:
    """Every row of this rank, looked at: into the ledger, as a row or as a problem."""
    ledger = RowDatabase(scratch, options.seed)
    checker, told = _Checker(options, prompt_format), 0
    listen(Progress("checking", 0))
    entries = ((number, entry) for number, entry in enumerate(_chosen(options)) if _is_mine(entry, options))
    for number, entry, found in in_order(checker.look_at, entries):
        if number - told >= _EVERY_ROWS:
            listen(Progress("checking", number))
            told = number
        if isinstance(found, Problem):
            ledger.problem(found.where, found.reason)
        elif not ledger.is_first(entry.names):
            ledger.problem(found.where, "its id or its audio was there before")
        else:
            ledger.add(found)
            ledger.claim(entry.names)
    ledger.index_lengths()
    return ledger


def _chosen(options: PrepareOptions) -> Iterator[Entry]:
    """Of every source and split: all rows, a share of them evenly spread, or the first few."""
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


def columns_of(options: PrepareOptions) -> Columns:
    return Columns(options.text_column, options.audio_column, options.speaker_column)


def _is_mine(entry: Entry, options: PrepareOptions) -> bool:
    """Rows of one id fall to one rank, which so sees that they are two."""
    return options.ranks == 1 or short_hash(entry.label) % options.ranks == options.rank


class _Checker:
    """Rows whose audio opens and which fit into the context; judged by the header, before anything is encoded."""

    def __init__(self, options: PrepareOptions, prompt_format: PromptFormat) -> None:
        self._options, self._prompt_format = options, prompt_format
        self._columns = columns_of(options)
        self._frames: dict[str | None, int] = {}

    def look_at(self, numbered: tuple[int, Entry]) -> tuple[int, Entry, CheckedRow | Problem]:
        """Called by several threads: most of it is waiting for a disk."""
        number, entry = numbered
        row = entry.make()
        if isinstance(row, Problem):
            return number, entry, row
        try:
            return number, entry, self._planned(number, row)
        except Unusable as why:
            return number, entry, Problem(row.where, str(why))

    def _planned(self, number: int, row: Row) -> CheckedRow:
        speaker = self._options.speaker if row.speaker is None else row.speaker
        ready, key, count = self._codes(row)
        ids = text_ids(self._prompt_format, row.text)
        text = len(ids)
        self.check_length(speaker, text, count)
        if text > count:
            raise Unusable(clips.CROWDED)
        codes_file = row.codes if isinstance(row.codes, Path) else None
        kept = np.array(ids, np.int32).tobytes()
        return CheckedRow(
            number, row.where, row.audio, codes_file, ready, row.text, kept, speaker, row.split, key, count
        )

    def _codes(self, row: Row) -> tuple[bytes | None, str, int]:
        """Codes where the table itself holds them, a key, and how many codes there are or will be."""
        if row.codes is not None:
            codes = clips.read_codes(row.codes, self._prompt_format.code_count)
            if isinstance(row.codes, Path):
                return None, clip_key(row.codes), len(codes)
            return codes.tobytes(), hashlib.sha256(codes.tobytes()).hexdigest()[:16], len(codes)
        if row.audio is None:
            raise Unusable("no audio named")
        look = clips.look(row.audio, self._columns)
        if look.samples < SHORTEST_CLIP:
            raise Unusable(clips.SHORT)
        return None, look.key, look.samples // HOP

    def check_length(self, speaker: str | None, text: int, count: int) -> None:
        """
        Raises:
            Unusable: With its template it is longer than the context, or without it longer than the file is wide.
        """
        if speaker not in self._frames:
            try:
                self._frames[speaker] = len(self._prompt_format.training_example([], [], speaker)[0])
            except UsageError as error:
                raise Unusable(error.message) from error
        if self._frames[speaker] + text + count > CONTEXT_TOKENS or MARKERS + text + count > self._options.max_tokens:
            raise Unusable(f"too long: over {self._options.max_tokens} tokens")


# --- encoding and writing ---


class _Run:
    """One rank's work on its share of the rows."""

    def __init__(
        self,
        options: PrepareOptions,
        prompt_format: PromptFormat,
        codec: Encoder | None,
        fingerprint: str,
        listen: Recognizer,
    ) -> None:
        self._options, self._prompt_format, self._codec = options, prompt_format, codec
        self._fingerprint, self._listen = fingerprint, listen
        self._name = rank_name(options.rank, options.ranks).partition("_")[0]
        self._own_index = options.output / f"index_{self._name}.json" if self._name else options.output / "index.json"

    def all(self) -> dict[str, Any]:
        database = self._options.output / f".rows{'-' + self._name if self._name else ''}.sqlite"
        try:
            with closing(open_scratch_database(database)) as scratch:
                return self._with(scratch)
        finally:
            database.unlink(missing_ok=True)

    def _with(self, scratch: sqlite3.Connection) -> dict[str, Any]:
        ledger = _checked_rows(self._options, self._prompt_format, scratch, self._listen)
        identity = None if self._codec is None else self._codec.identity
        with CodeStore(self._options.output, identity or "none", scratch, self._options.rank) as store:
            self._check_room(ledger)
            self._encode(ledger, store)
            count = ledger.sum_of("1")
            if count == 0 and self._options.ranks == 1:
                listing = self._options.output / "skipped.jsonl"
                _write_listing(listing, ledger)
                _refuse(ledger.reasons(), listing)
            ledger.hold_out(_wanted(self._options, ledger))
            splits = self._write(ledger, store)
        return self._finish(ledger, splits)

    def _check_room(self, ledger: RowDatabase) -> None:
        """Better now than after hours."""
        to_encode = 2 * ledger.sum_of("count", f"good AND {_TO_ENCODE}")
        need = ledger.sum_of("1") * self._options.max_tokens * 4 + to_encode
        parts = self._options.output.glob(f"*_{rank_name(self._options.rank, self._options.ranks)}*.memmap*")
        free = shutil.disk_usage(self._options.output).free + sum(path.stat().st_size for path in parts)
        if need > free:
            raise LlasaError(
                f"{self._options.output} needs {format_size(need)}, and {format_size(free)} are free.",
                "Make room, name another disk with -o, or make rows shorter with --max-tokens.",
            )

    def _encode(self, ledger: RowDatabase, store: CodeStore) -> None:
        """Codes of all clips into the store."""
        todo = f"good AND {_TO_ENCODE}"
        rows, all_seconds = ledger.sum_of("1", todo), ledger.sum_of("count", todo) / CODES_PER_SECOND
        if rows and self._codec is None:
            raise UsageError("There is audio to encode, and no codec.", "Name one with --codec.")
        done, seconds = 0, 0.0
        batches = _batches(ledger.rows("count", todo), self._options.batch_seconds * CODES_PER_SECOND)
        for batch in _read_ahead(batches, columns_of(self._options)):
            readable = []
            for row, samples in batch:
                if isinstance(samples, Unusable):
                    ledger.spoil(row, str(samples))
                elif row.key not in store:
                    readable.append((row.key, samples))
            if readable:
                assert self._codec is not None
                made = self._codec.encode_batch([samples for _, samples in readable])
                store.add([(key, codes) for (key, _), codes in zip(readable, made, strict=True)])
            done += len(batch)
            seconds += sum(row.count for row, _ in batch) / CODES_PER_SECOND
            self._listen(Progress("encoding", done, rows, seconds, all_seconds))
        self._recount(ledger, store)

    def _recount(self, ledger: RowDatabase, store: CodeStore) -> None:
        """Resampled clips may have a code more than their header promised."""
        checker = _Checker(self._options, self._prompt_format)
        for row in ledger.rows(condition="good AND codes_file IS NULL AND ready IS NULL"):
            count = store.count(row.key)
            if count is None or count == row.count:
                continue
            ledger.recount(row.number, count)
            try:
                checker.check_length(row.speaker, row.tokens, count)
            except Unusable as why:
                ledger.spoil(row, str(why))

    def _write(self, ledger: RowDatabase, store: CodeStore) -> dict[str, Any]:
        options, make_row = self._options, RowMaker(self._prompt_format)
        self._remove_indexes()
        names = sorted({"train", "val", *ledger.splits()})
        with Writer(
            options.output,
            names,
            options.max_tokens,
            self._prompt_format.pad_id,
            self._digest(ledger),
            options.rank,
            options.ranks,
        ) as writer:
            already, all_rows = writer.done, ledger.sum_of("1")
            rows = itertools.islice(ledger.rows(), already, None)
            for number, (row, ready) in enumerate(in_order(self._ready_codes, rows), start=already):
                if number % _EVERY_ROWS == 0:
                    self._listen(Progress("writing", number, all_rows))
                codes = store[row.key] if ready is None else ready
                ids = make_row(np.frombuffer(row.text_ids, np.int32), codes)
                if len(ids) > options.max_tokens:
                    raise LlasaError(f"{row.where} was changed while it was read.", "Run the same command again.")
                writer.add(row.split, ids, len(codes), row.speaker)
            self._listen(Progress("writing", all_rows, all_rows))
            return writer.finish()

    def _remove_indexes(self) -> None:
        """Those of earlier runs that would be taken for this one's: the joined one, its own, those of ranks no more."""
        options = self._options
        one, own = ("index.json", "skipped.jsonl"), (self._own_index.name, f"skipped_{self._name}.jsonl")
        for path in options.output.iterdir():
            rank = re.fullmatch(r"(?:index_rank|skipped_rank)(\d+)\.jsonl?", path.name)
            gone = rank is not None and (options.ranks == 1 or int(rank[1]) >= options.ranks)
            if gone or path.name in (*one, *own):
                path.unlink(missing_ok=True)

    def _ready_codes(self, row: CheckedRow) -> tuple[CheckedRow, np.ndarray | None]:
        """uint16 [n] of codes made elsewhere; None where they were made here. Called by several threads."""
        if row.ready is not None:
            return row, np.frombuffer(row.ready, np.uint16)
        if row.codes_file is None:
            return row, None
        try:
            return row, clips.read_codes(row.codes_file, self._prompt_format.code_count)
        except Unusable as why:
            raise LlasaError(
                f"{row.where} was changed while it was read: {why}.", "Run the same command again."
            ) from why

    def _digest(self, ledger: RowDatabase) -> str:
        """Of all that decides what is written, in its order: only then may a killed run's rows be kept."""
        digest = hashlib.sha256(_identity(self._options, self._prompt_format, self._codec, self._fingerprint).encode())
        for row in ledger.rows():
            parts = (row.where, row.text, row.speaker, row.split, row.key, row.count)
            digest.update(repr(parts).encode(errors="replace"))
        return digest.hexdigest()

    def _finish(self, ledger: RowDatabase, splits: dict[str, Any]) -> dict[str, Any]:
        options = self._options
        listing = options.output / f"skipped{'_' + self._name if self._name else ''}.jsonl"
        _write_listing(listing, ledger)
        index = _report(options, self._prompt_format, self._codec, self._fingerprint, ledger, splits)
        if options.ranks == 1:
            write_json(self._own_index, index)
            return index
        run = _identity(options, self._prompt_format, self._codec, self._fingerprint)
        index |= {"rank": options.rank, "run": hashlib.sha256(run.encode()).hexdigest()[:16]}
        write_json(self._own_index, index)
        return join_indexes(options.output, options.ranks) or index


def _refuse(reasons: dict[str, int], listing: Path) -> None:
    why = next(iter(reasons), "there are none")
    more = f" (and {len(reasons) - 1} other reasons)" if len(reasons) > 1 else ""
    raise UsageError(f"No row could be used: {why}{more}.", f"The reason for each is in {listing}.")


_TO_ENCODE = "codes_file IS NULL AND ready IS NULL AND key NOT IN (SELECT key FROM codes)"


def _batches(rows: Iterable[CheckedRow], most_codes: float) -> Iterator[list[CheckedRow]]:
    """Clips of one length together: only those may share a batch, because the encoder normalises over time."""
    batch: list[CheckedRow] = []
    for row in rows:
        if batch and (row.count != batch[0].count or row.count * (len(batch) + 1) > most_codes):
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _read_ahead(
    batches: Iterable[list[CheckedRow]], columns: Columns
) -> Iterator[list[tuple[CheckedRow, np.ndarray | Unusable]]]:
    """Batches with their samples; while one is encoded the next are read and resampled."""

    def samples(row: CheckedRow) -> np.ndarray | Unusable:
        assert row.audio is not None
        try:
            return clips.read(row.audio, columns)
        except Unusable as why:
            return why

    def read(batch: list[CheckedRow]) -> list[tuple[CheckedRow, np.ndarray | Unusable]]:
        return [(row, samples(row)) for row in batch]

    return in_order(read, batches, threads=2, together=1)


def in_order(
    work: Callable[[Given], Made], items: Iterable[Given], threads: int = 8, together: int = 32
) -> Iterator[Made]:
    """What `work` makes of the items, in their order, made ahead by some threads: a disk far away is waited for less.

    Args:
        together: Items a thread takes at once; about twice as many lots as threads are in memory.
    """

    def lot_of(lot: list[Given]) -> list[Made]:
        return [work(item) for item in lot]

    waiting: deque[Future[list[Made]]] = deque()
    rest = iter(items)
    with ThreadPoolExecutor(threads) as pool:
        try:
            while lot := list(itertools.islice(rest, together)):
                waiting.append(pool.submit(lot_of, lot))
                if len(waiting) > 2 * threads:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _wanted(options: PrepareOptions, ledger: RowDatabase) -> int:
    """How many of this rank's rows are kept for validation: a share (below 1) or a number; none where a source has some."""
    if options.validation <= 0 or "val" in ledger.splits():
        return 0
    if options.validation < 1:
        rows = ledger.sum_of("1", "good AND split = ''")
        return rows_to_hold_out(options.validation, rows, options.ranks)
    wanted = round(options.validation)
    return wanted // options.ranks + (options.rank < wanted % options.ranks)


# --- reporting ---


def _expected_splits(ledger: RowDatabase, options: PrepareOptions) -> dict[str, Any]:
    """What would be written, were no clip to turn out bad."""
    ledger.hold_out(_wanted(options, ledger))
    splits = {}
    for name in sorted({"train", "val", *ledger.splits()}):
        condition = f"good AND split = '{name}'"
        codes, rows = ledger.sum_of("count", condition), ledger.sum_of("1", condition)
        tokens = ledger.sum_of("tokens", condition) + codes + MARKERS * rows
        splits[name] = {"rows": rows, "hours": _hours(codes), "codes": codes, "tokens": tokens}
    return splits


def _hours(codes: int) -> float:
    return round(codes / CODES_PER_SECOND / 3600, 3)


def _report(
    options: PrepareOptions,
    prompt_format: PromptFormat,
    codec: Encoder | None,
    fingerprint: str,
    ledger: RowDatabase,
    splits: dict[str, Any],
) -> dict[str, Any]:
    """The index: what went in, what came out, with what, and what was left out."""
    shares = ledger.shares((0, 0.1, 0.5, 0.9, 1))
    names = ("shortest", "tenth", "half", "nine_tenths", "longest")
    listed = [{"row": problem.where, "reason": problem.reason} for problem in ledger.problems(_LISTED)]
    return {
        "format": 1,
        "splits": splits,
        "seconds": {name: count / CODES_PER_SECOND for name, count in zip(names, shares, strict=False)},
        "clips_by_seconds": ledger.by_seconds(),
        "speakers": ledger.speakers(),
        "codec": None if codec is None else codec.identity,
        "tokenizer": fingerprint,
        "first_code_id": prompt_format.first_code_id,
        "code_count": prompt_format.code_count,
        "pad_id": prompt_format.pad_id,
        "width": options.max_tokens,
        "seed": options.seed,
        "sources": [str(source) for source in options.sources],
        "ranks": options.ranks,
        "skipped": {"reasons": ledger.reasons(), "rows": listed},
    }


def _write_listing(path: Path, ledger: RowDatabase) -> None:
    """All rows that are left out, a JSON line each; no file if there are none."""
    part = path.with_name(path.name + ".part")
    count = 0
    with part.open("w", encoding="utf-8") as file:
        for problem in ledger.problems():
            file.write(json.dumps({"row": problem.where, "reason": problem.reason}, ensure_ascii=False) + "\n")
            count += 1
    if count:
        part.replace(path)
    else:
        part.unlink()
        path.unlink(missing_ok=True)


def join_indexes(folder: Path, ranks: int) -> dict[str, Any] | None:
    """One `index.json` of all ranks' own; None while one is missing or of another run.

    Raises:
        UsageError: All are there, and none has a usable row.
    """
    indexes = []
    for rank in range(ranks):
        try:
            indexes.append(json.loads((folder / f"index_rank{rank:05d}.json").read_text(encoding="utf-8")))
        except (OSError, ValueError):
            return None
    if len({index["run"] for index in indexes}) != 1:
        return None
    index = joined(indexes)
    if not any(split["rows"] for split in index["splits"].values()):
        _refuse(index["skipped"]["reasons"], folder / "skipped_rank00000.jsonl")
    write_json(folder / "index.json", index)
    return index


def joined(indexes: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Sums and lists of several ranks' indexes."""
    index: dict[str, Any] = {key: value for key, value in indexes[0].items() if key not in ("rank", "run")}
    by_seconds = _added([one["clips_by_seconds"] for one in indexes])
    index["clips_by_seconds"] = dict(sorted(by_seconds.items(), key=lambda item: int(item[0])))
    index["speakers"] = dict(sorted(_added([one["speakers"] for one in indexes]).items()))
    names = sorted({name for one in indexes for name in one["splits"]})
    index["splits"] = {
        name: _added([one["splits"][name] for one in indexes if name in one["splits"]]) for name in names
    }
    for split in index["splits"].values():
        split["hours"] = _hours(split["codes"])
    lengths = [one["seconds"] for one in indexes if one["seconds"]]
    # What lies between can't be told from the parts' own shares.
    ends = (("shortest", min), ("longest", max)) if lengths else ()
    index["seconds"] = {name: choose(length[name] for length in lengths) for name, choose in ends}
    reasons = _added([one["skipped"]["reasons"] for one in indexes])
    rows = [row for one in indexes for row in one["skipped"]["rows"]]
    index["skipped"] = {"reasons": dict(sorted(reasons.items(), key=lambda item: -item[1])), "rows": rows[:_LISTED]}
    return index


def _added(counts: list[dict[str, Any]]) -> dict[str, Any]:
    total: dict[str, Any] = {}
    for part in counts:
        for name, value in part.items():
            total[name] = total.get(name, 0) + value
    return total


def _identity(options: PrepareOptions, prompt_format: PromptFormat, codec: Encoder | None, fingerprint: str) -> str:
    """What all ranks of one run have in common."""
    settings = {name: str(value) for name, value in asdict(options).items() if name not in ("rank", "output")}
    settings |= {"codec": str(codec and codec.identity), "tokenizer": fingerprint, "pad": str(prompt_format.pad_id)}
    settings |= {"spell_out": str(prompt_format.spell_out)}
    return json.dumps(settings, sort_keys=True)


# --- the disk ---


@contextmanager
def _full_disk_in_a_sentence(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise _full(folder, error.strerror) from error
    except sqlite3.Error as error:
        if "full" not in str(error) and "disk I/O" not in str(error):
            raise
        raise _full(folder, str(error)) from error


def _full(folder: Path, why: str | None) -> LlasaError:
    return LlasaError(
        f"{folder} can't be written: {why}.", "Make room and run the same command again: it goes on where it stopped."
    )


@contextmanager
def _alone(folder: Path, rank: int) -> Iterator[None]:
    """Two processes that write the same files would spoil them.

    Raises:
        UsageError: Another one is at it. The lock goes with its process, however that ends.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        yield
        return
    with (folder / f".lock-rank{rank:05d}").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(f"Another `llasa prepare` is writing to {folder}.", "Wait for it, or end it.") from error
        except OSError:  # a network file system without locks
            pass
        try:
            yield
        finally:
            os.unlink(file.name)
