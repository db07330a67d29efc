"""What is to be made, what is there, what can't be made: one row an item, on disk, so that a million lines take no memory.

    with Plan(folder, "wav") as plan:
        plan.remember(results.rows())                   what earlier runs have made
        plan.add(item, key, group="", problem="")
        for task in plan.waiting(): ...                 long ones first, then voice by voice
        plan.settle(task.number, place, ok=True)
        results.put_in_order(plan.rows_in_order())

An SQLite file in `.llasa/` in the output folder, made anew by each run and removed at its end: the list and
`results.jsonl` are what counts.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any

from llasa_cli.batch.manifest import Item
from llasa_cli.batch.results import Kept, Place
from llasa_cli.errors import LlasaError, UsageError
from llasa_cli.files import is_same_file
from llasa_cli.scratch_database import open_scratch_database

WORK_FOLDER = ".llasa"
TOKEN = "token"
_BASE = "plan.sqlite"
LONG_CHARACTERS = 600
"""From here on an item is several passages: it begins early, so that it is not what everybody waits for at the end."""
_CACHE_KIB = 24_000
_TO_MAKE, _THERE, _FAILED, _MADE = range(4)
_TABLES = """
CREATE TABLE item (
    number INTEGER PRIMARY KEY, line INTEGER, id TEXT, place TEXT, folded TEXT UNIQUE, body TEXT, voice TEXT, cost INTEGER,
    key TEXT, status INTEGER, problem TEXT, at INTEGER, length INTEGER);
CREATE TABLE earlier (
    place TEXT PRIMARY KEY, key TEXT, ok INTEGER, at INTEGER, length INTEGER, listed INTEGER) WITHOUT ROWID;
CREATE TABLE taken (name TEXT PRIMARY KEY, next INTEGER) WITHOUT ROWID;
CREATE TABLE clip (path BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE fact (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Task:
    """An item with a place of its own.

    Attributes:
        number: Counts the items, from 1.
        path: Relative to the output folder.
        key: Of all that decides how it sounds.
        problem: Why it can't be made; empty if it can.
    """

    number: int
    item: Item
    path: str
    key: str
    problem: str = ""


@dataclass(frozen=True)
class Counts:
    """Items, and characters to be made."""

    all: int
    there: int
    failed: int
    to_make: int
    characters: int


class Plan:
    """See the module. Raises LlasaError when the disk is full, or the like."""

    def __init__(self, folder: Path, ending: str) -> None:
        self.folder, self._ending = folder, ending
        self.work = folder / WORK_FOLDER
        self.token = secrets.token_hex(8)
        """Stands in `work/token`: who reads it there sees this folder, and no other of the same name."""
        self._remembers = False
        with _guarded(self.work):
            if _is_of_a_run(self.work):
                shutil.rmtree(self.work, ignore_errors=True)  # it was killed
            self.work.mkdir()
        try:
            with _guarded(self.work):
                self._open()
        except BaseException:
            shutil.rmtree(self.work, ignore_errors=True)
            raise

    def _open(self) -> None:
        (self.work / TOKEN).write_text(self.token, encoding="ascii")
        self._base = open_scratch_database(self.work / _BASE, _CACHE_KIB, any_thread=True)
        self._base.executescript(_TABLES)
        self._base.execute("BEGIN")

    def remember(self, rows: Iterable[tuple[Place, dict[str, Any]]]) -> None:
        """The rows of earlier runs; of several for one file the last counts."""
        with _guarded(self.work):
            for (at, length), row in rows:
                path, key = row.get("path"), row.get("key")
                if isinstance(path, str) and isinstance(key, str) and _is_unicode(path) and _is_unicode(key):
                    ok = row.get("status") == "ok"
                    self._base.execute("REPLACE INTO earlier VALUES (?, ?, ?, ?, ?, 0)", (path, key, ok, at, length))
                    self._remembers = True

    def add(self, item: Item, key: str, voice: str = "", problem: str = "") -> Task:
        """Give an item its place, and see whether it is made already.

        Args:
            key: Of all that decides how it sounds.
            voice: Items that share one are made together.
            problem: Why it can't be made; empty if it can.
        """
        ending = item.ending or self._ending
        body = json.dumps(_body(item))  # in ASCII: a path need not be Unicode
        problem = problem.encode(errors="replace").decode()
        with _guarded(self.work):
            values = (item.number, item.id, voice, len(item.text), key, problem)
            number, name = self._placed(item.name, ending, body, values)
            path = f"{name}.{ending}"
            status = self._status(path, key, number)
            status = _FAILED if problem else status
            if status != _TO_MAKE:
                self._base.execute("UPDATE item SET status = ? WHERE number = ?", (status, number))
            if item.ref is not None:
                self._base.execute("INSERT OR IGNORE INTO clip VALUES (?)", (os.fsencode(item.ref),))
        return Task(number, item, path, key, problem)

    def _placed(self, name: str, ending: str, body: str, values: tuple[Any, ...]) -> tuple[int, str]:
        """Two items never share a file, not even where the file system ignores case."""
        line, own_id, voice, cost, key, problem = values
        insert = (
            "INSERT OR IGNORE INTO item (line, id, place, folded, body, voice, cost, key, status, problem) "
            f"VALUES (?, ?, ?, ?, ?, ?, ?, ?, {_TO_MAKE}, ?)"
        )
        found = name
        while True:
            row = (line, own_id, f"{found}.{ending}", found.casefold(), body, voice, cost, key, problem)
            made = self._base.execute(insert, row)
            if made.rowcount:
                return int(made.lastrowid or 0), found
            # The next free number is kept: a million items of one name are no million times a million tries.
            base = name.casefold()
            last = self._base.execute("SELECT next FROM taken WHERE name = ?", (base,)).fetchone()
            count = last[0] if last else 2
            self._base.execute("REPLACE INTO taken VALUES (?, ?)", (base, count + 1))
            found = f"{name}-{count}"

    def _status(self, path: str, key: str, number: int) -> int:
        if not self._remembers:
            return _TO_MAKE
        row = self._base.execute("SELECT key, ok, at, length FROM earlier WHERE place = ?", (path,)).fetchone()
        if row is None:
            return _TO_MAKE
        self._base.execute("UPDATE earlier SET listed = 1 WHERE place = ?", (path,))
        if row[0] != key or not row[1] or not (self.folder / path).is_file():
            return _TO_MAKE
        self._base.execute("UPDATE item SET at = ?, length = ? WHERE number = ?", (row[2], row[3], number))
        return _THERE

    def clips(self) -> Iterator[Path]:
        """The items' clips that are there."""
        with _guarded(self.work):
            rows = self._base.execute("SELECT path FROM clip")
            for (name,) in rows:
                clip = Path(os.fsdecode(name))
                if os.path.isfile(clip):  # which is not troubled by a name that can be none, as a transcript's
                    yield clip

    def spare_clips(self, shared: Path | None = None) -> None:
        """An item that would be written over a clip can't be made; one that is there already is not written."""
        with _guarded(self.work):
            for clip in chain([shared] if shared is not None else [], self.clips()):
                self._spare(clip)

    def _spare(self, clip: Path) -> None:
        folder = self.folder.resolve()
        # What a link leads to is the recording, and the link itself is what it is found by.
        for path in (clip.resolve(), clip.parent.resolve() / clip.name):
            if not path.is_relative_to(folder):
                continue
            folded = path.relative_to(folder).with_suffix("").as_posix().casefold()
            row = self._base.execute(
                f"SELECT number, place FROM item WHERE folded = ? AND status = {_TO_MAKE}", (folded,)
            ).fetchone()
            if row is not None and is_same_file(self.folder / row[1], clip):
                problem = f"It would be written over the clip {clip}. Give it another id or output."
                self._base.execute(
                    "UPDATE item SET status = ?, problem = ? WHERE number = ?", (_FAILED, problem, row[0])
                )

    def counts(self) -> Counts:
        sums = ", ".join(f"coalesce(sum(status = {status}), 0)" for status in (_THERE, _FAILED, _TO_MAKE))
        with _guarded(self.work):
            row = self._base.execute(
                f"SELECT count(*), {sums}, coalesce(sum(cost * (status = {_TO_MAKE})), 0) FROM item"
            ).fetchone()
        return Counts(*row)

    def bad(self) -> Iterator[Task]:
        """What can't be made, as the list has it."""
        yield from self._tasks(f"status = {_FAILED} AND problem != '' AND at IS NULL ORDER BY number")

    def waiting(self) -> Iterator[Task]:
        """What is to be made: long items first, the rest voice by voice, the longer before the shorter."""
        yield from self._tasks(f"status = {_TO_MAKE} ORDER BY cost > {LONG_CHARACTERS} DESC, voice, cost DESC, number")

    def in_order(self) -> Iterator[Task]:
        """All that is made, as the list has it."""
        yield from self._tasks(f"status IN ({_THERE}, {_MADE}) ORDER BY number")

    def _tasks(self, which: str) -> Iterator[Task]:
        columns = "number, line, id, place, body, key, problem"
        with _guarded(self.work):
            # Only numbers are sorted, and all of them before the first is given: rows may change meanwhile.
            numbers = self._base.execute(f"SELECT number FROM item WHERE {which}")
        while True:
            with _guarded(self.work):
                row = numbers.fetchone()
                if row is None:
                    return
                found = self._base.execute(f"SELECT {columns} FROM item WHERE number = ?", row).fetchone()
            yield _task(*found)

    def task(self, number: int) -> Task:
        with _guarded(self.work):
            found = self._base.execute(
                "SELECT number, line, id, place, body, key, problem FROM item WHERE number = ?", (number,)
            ).fetchone()
        return _task(*found)

    def settle(self, number: int, place: Place, ok: bool) -> None:
        """An item's row stands at `place` of the results now."""
        with _guarded(self.work):
            self._base.execute(
                "UPDATE item SET status = ?, at = ?, length = ? WHERE number = ?",
                (_MADE if ok else _FAILED, *place, number),
            )

    def removed(self) -> Iterator[str]:
        """Files of earlier runs that no item of the list makes any more."""
        with _guarded(self.work):
            gone = self._base.execute("SELECT place FROM earlier WHERE ok AND NOT listed ORDER BY at")
        for (path,) in gone:
            if (self.folder / path).is_file():
                yield path

    def rows_in_order(self) -> Iterator[Kept]:
        """Where each item's row stands, as the list has them; after them those of files that are still there."""
        with _guarded(self.work):
            rows = self._base.execute("SELECT at, length, line FROM item WHERE at IS NOT NULL ORDER BY number")
            for at, length, line in rows:
                yield (at, length), line
        for path in self.removed():
            yield self._base.execute("SELECT at, length FROM earlier WHERE place = ?", (path,)).fetchone(), None

    # --- facts that are dear to find: clips, by path and transcript ---

    def fact(self, name: str) -> Any:
        """What was kept under a name; None if nothing was."""
        row = self._base.execute("SELECT value FROM fact WHERE name = ?", (name,)).fetchone()
        return None if row is None else json.loads(row[0])

    def keep(self, name: str, value: Any) -> None:
        with _guarded(self.work):
            self._base.execute("REPLACE INTO fact VALUES (?, ?)", (name, json.dumps(value)))

    def close(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            self._base.close()
        shutil.rmtree(self.work, ignore_errors=True)

    def __enter__(self) -> Plan:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _is_of_a_run(work: Path) -> bool:
    """A folder of that name may be somebody's own."""
    names = {path.name for path in work.iterdir()} if work.is_dir() else set()
    return _BASE in names or names <= {TOKEN}


def _body(item: Item) -> dict[str, Any]:
    """What an item says that has no column of its own; what it says nothing of is left out."""
    kept = {name: value for name, value in asdict(item).items() if value not in (None, ()) and name not in _COLUMNS}
    return kept | ({"ref": str(item.ref)} if item.ref is not None else {})


_COLUMNS = ("number", "id", "name")


def _is_unicode(text: str) -> bool:
    """JSON can hold halves of characters; the plan can't, and no path that was made here has one."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _task(number: int, line: int, own_id: str, path: str, body: str, key: str, problem: str) -> Task:
    values = json.loads(body)
    item = Item(number=line, id=own_id, name=path.rpartition(".")[0], text=values.pop("text", ""))
    sampling = tuple((name, value) for name, value in values.pop("sampling", ()))
    ref = values.pop("ref", None)
    item = replace(item, **values, sampling=sampling, ref=Path(ref) if ref is not None else None)
    return Task(number, item, path, key, problem)


@contextlib.contextmanager
def _guarded(folder: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise LlasaError(
            f"The plan in {folder} can't be written: {error}.", "Is the disk full? What is made stays."
        ) from error
    except OSError as error:
        if isinstance(error, FileExistsError):
            raise UsageError(f"{folder} is in the way.", "Remove it.") from error
        raise LlasaError(f"{folder} can't be written: {error.strerror}.") from error
