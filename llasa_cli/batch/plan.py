"""The plan of a batch: the items to synthesize, those that exist, and those that can't be synthesized.

It is on disk, so that a million items need no memory.

    with Plan(folder, "wav") as plan:
        plan.add_earlier(results.rows())                the rows of earlier runs
        plan.add(item, key, voice="", problem="")
        plan.name_numbered_items()
        for task in plan.waiting(): ...                 long items first, then voice by voice
        plan.settle(task.number, place, ok=True)
        results.reorder(plan.rows_in_order())

The plan is a SQLite file in `.llasa/` in the output folder. Each run creates it and removes it at the end; only the list and
`results.jsonl` are kept between runs.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from llasa_cli.batch.manifest import Item
from llasa_cli.batch.results import COMPLETE, ByteRange, IndexedRow
from llasa_cli.errors import LlasaError, UsageError
from llasa_cli.files import is_same_file
from llasa_cli.scratch_database import open_scratch_database

WORK_FOLDER = ".llasa"
TOKEN = "token"
"""The name of the file with `Plan.token`."""
_DATABASE = "plan.sqlite"
LONG_CHARACTERS = 600
"""An item of this length has several chunks. It begins early, so that the last worker does not work on it alone."""
_CACHE_KIB = 24_000
_PAGE = 1000
_TO_MAKE, _EXISTS, _FAILED, _MADE = range(4)
_TABLES = """
CREATE TABLE item (
    number INTEGER PRIMARY KEY, line INTEGER, id TEXT, path TEXT, folded TEXT UNIQUE, body TEXT, voice TEXT, cost INTEGER,
    key TEXT, status INTEGER, problem TEXT, offset INTEGER, length INTEGER, ending TEXT,
    failed_checks INTEGER DEFAULT 0);
CREATE TABLE earlier (
    path TEXT PRIMARY KEY, key TEXT, ok INTEGER, offset INTEGER, length INTEGER, listed INTEGER, numbered INTEGER,
    failed_checks INTEGER)
    WITHOUT ROWID;
CREATE INDEX earlier_key ON earlier (key) WHERE numbered;
CREATE TABLE next_suffix (name TEXT PRIMARY KEY, suffix INTEGER) WITHOUT ROWID;
CREATE TABLE clip (path BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE fact (name TEXT PRIMARY KEY, value TEXT) WITHOUT ROWID;
"""
_NUMBERED = re.compile(r"\d{5,}(-\d+)?\.\w+")
"""The path of an item that was named after its line."""


@dataclass(frozen=True)
class Task:
    """An item with its own output file.

    Attributes:
        number: Counts the items of the list, from 1.
        path: Relative to the output folder.
        key: A hash of everything that decides how the item sounds.
        problem: Why the item can't be made; empty if it can.
    """

    number: int
    item: Item
    path: str
    key: str
    problem: str = ""


@dataclass(frozen=True)
class Counts:
    """Numbers of items, and of characters that have to be spoken."""

    all: int
    there: int
    failed: int
    to_make: int
    characters: int


class Plan:
    """The plan of one run; see the module.

    Args:
        folder: The output folder.
        ending: The format of items that ask for none.

    Attributes:
        work: The folder for temporary files, on the same disk as the output folder.
        token: A random text, also in the file `work/token`. A process that reads it there sees this folder, and not one of
            the same name on another machine.

    Raises:
        LlasaError: The disk is full or can't be written. Every method may raise it.
    """

    def __init__(self, folder: Path, ending: str) -> None:
        self.folder, self._ending = folder, ending
        self.work = folder / WORK_FOLDER
        self.token = secrets.token_hex(8)
        self._has_earlier_rows = False
        with self._disk_errors():
            if _belongs_to_a_run(self.work):
                shutil.rmtree(self.work, ignore_errors=True)  # a killed run left it
            self.work.mkdir()
        try:
            with self._disk_errors():
                (self.work / TOKEN).write_text(self.token, encoding="ascii")
                self._database = open_scratch_database(self.work / _DATABASE, _CACHE_KIB, any_thread=True)
                self._database.executescript(_TABLES)
                self._database.execute("BEGIN")
        except BaseException:
            shutil.rmtree(self.work, ignore_errors=True)
            raise

    # --- building the plan ---

    def add_earlier(self, rows: Iterable[tuple[ByteRange, dict[str, Any]]]) -> None:
        """Add the rows of earlier runs. If several rows have the same path, the last one counts."""
        with self._disk_errors():
            for (offset, length), row in rows:
                path, key = row.get("path"), row.get("key")
                if isinstance(path, str) and isinstance(key, str) and _is_unicode(path) and _is_unicode(key):
                    ok = row.get("status") in COMPLETE
                    numbered = bool(_NUMBERED.fullmatch(path))
                    values = (path, key, ok, offset, length, 0, numbered, bool(row.get("checks")))
                    self._database.execute("REPLACE INTO earlier VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)
                    self._has_earlier_rows = True

    def add(self, item: Item, key: str, voice: str = "", problem: str = "") -> Task:
        """Add an item, give it a path, and find out whether its file exists already.

        Args:
            key: A hash of everything that decides how the item sounds.
            voice: Items with the same voice are made together.
            problem: Why the item can't be made; empty if it can.

        Returns:
            The task. If there are earlier rows, the path of a numbered item is provisional until `name_numbered_items`.
        """
        ending = item.ending or self._ending
        body = json.dumps(_item_body(item))  # ASCII, since paths need not be valid Unicode
        problem = problem.encode(errors="replace").decode()
        with self._disk_errors():
            cursor = self._database.execute(
                "INSERT INTO item (line, id, path, body, voice, cost, key, status, problem, ending) "
                f"VALUES (?, ?, ?, ?, ?, ?, ?, {_FAILED if problem else _TO_MAKE}, ?, ?)",
                (item.number, item.id, item.name, body, voice, len(item.text), key, problem, ending),
            )
            number = int(cursor.lastrowid or 0)
            path = f"{item.name}.{ending}"
            if not (item.is_numbered and self._has_earlier_rows):
                path = self._give_unique_path(number, item.name, ending, key)
            if item.ref is not None:
                self._database.execute("INSERT OR IGNORE INTO clip VALUES (?)", (os.fsencode(item.ref),))
        return Task(number, item, path, key, problem)

    def _give_unique_path(self, number: int, name: str, ending: str, key: str) -> str:
        """Two items never share a file, not even on a file system that ignores case."""
        found = name
        while not self._claim(number, f"{found}.{ending}", found, key):
            # The next free suffix is stored, so that a million items of one name need no quadratic search.
            folded = name.casefold()
            last = self._database.execute("SELECT suffix FROM next_suffix WHERE name = ?", (folded,)).fetchone()
            suffix = last[0] if last else 2
            self._database.execute("REPLACE INTO next_suffix VALUES (?, ?)", (folded, suffix + 1))
            found = f"{name}-{suffix}"
        return f"{found}.{ending}"

    def _claim(self, number: int, path: str, name: str, key: str) -> bool:
        """Give a path to an item if no other item has it, and take over the row of an earlier run that made the same."""
        claimed = self._database.execute(
            "UPDATE OR IGNORE item SET path = ?, folded = ? WHERE number = ?", (path, name.casefold(), number)
        )
        if not claimed.rowcount:
            return False
        if self._has_earlier_rows:
            row = self._database.execute(
                "SELECT key, ok, offset, length, failed_checks FROM earlier WHERE path = ?", (path,)
            ).fetchone()
            self._database.execute("UPDATE earlier SET listed = 1 WHERE path = ?", (path,))
            if row is not None and row[0] == key and row[1] and (self.folder / path).is_file():
                self._database.execute(
                    f"UPDATE item SET status = {_EXISTS}, offset = ?, length = ?, failed_checks = ? "
                    f"WHERE number = ? AND status = {_TO_MAKE}",
                    (*row[2:], number),
                )
        return True

    def name_numbered_items(self) -> int:
        """Give paths to the items that are named after their lines. -> how many keep the name of another line

        When lines were added or removed, an item keeps the file that an earlier run made of the same text and settings.
        """
        with self._disk_errors():
            for number, name, ending, key in self._unnamed_items():
                path = f"{name}.{ending}"
                row = self._database.execute("SELECT key, ok FROM earlier WHERE path = ?", (path,)).fetchone()
                if row is not None and row[0] == key and row[1] and (self.folder / path).is_file():
                    self._claim(number, path, name, key)
            moved = sum(self._take_over(number, key) for number, _, _, key in self._unnamed_items())
            for number, name, ending, key in self._unnamed_items():
                self._give_unique_path(number, name, ending, key)
        return moved

    def _unnamed_items(self) -> Iterator[tuple[int, str, str, str]]:
        """(number, name, ending, key), page by page, since the caller changes the rows."""
        last = 0
        while True:
            page = self._database.execute(
                "SELECT number, path, ending, key FROM item WHERE folded IS NULL AND number > ? ORDER BY number LIMIT ?",
                (last, _PAGE),
            ).fetchall()
            if not page:
                return
            yield from page
            last = page[-1][0]

    def _take_over(self, number: int, key: str) -> bool:
        """Claim a file of another line that an earlier run made with the same key."""
        earlier = self._database.execute(
            "SELECT path FROM earlier WHERE numbered AND key = ? AND ok AND NOT listed ORDER BY offset", (key,)
        ).fetchall()
        for (path,) in earlier:
            if (self.folder / path).is_file() and self._claim(number, path, path.rpartition(".")[0], key):
                return True
        return False

    def line_of(self, path: str) -> int | None:
        """The line of the item that has this path."""
        with self._disk_errors():
            row = self._database.execute(
                "SELECT line FROM item WHERE folded = ?", (path.rpartition(".")[0].casefold(),)
            ).fetchone()
        return None if row is None else int(row[0])

    def clips(self) -> Iterator[Path]:
        """The reference clips of the items that exist."""
        with self._disk_errors():
            rows = self._database.execute("SELECT path FROM clip")
            for (name,) in rows:
                clip = Path(os.fsdecode(name))
                if os.path.isfile(clip):  # unlike Path.is_file, it accepts any text, such as a transcript
                    yield clip

    def protect_clips(self, shared: Path | None = None) -> None:
        """Fail the items whose new files would replace a reference clip."""
        with self._disk_errors():
            for clip in chain([shared] if shared is not None else [], self.clips()):
                self._protect(clip)

    def _protect(self, clip: Path) -> None:
        folder = self.folder.resolve()
        # Neither a link nor the recording that it leads to may be replaced.
        for path in (clip.resolve(), clip.parent.resolve() / clip.name):
            if not path.is_relative_to(folder):
                continue
            folded = path.relative_to(folder).with_suffix("").as_posix().casefold()
            row = self._database.execute(
                f"SELECT number, path FROM item WHERE folded = ? AND status = {_TO_MAKE}", (folded,)
            ).fetchone()
            if row is not None and is_same_file(self.folder / row[1], clip):
                problem = f"It would replace the clip {clip}. Give it another id or output."
                self._database.execute(
                    f"UPDATE item SET status = {_FAILED}, problem = ? WHERE number = ?", (problem, row[0])
                )

    # --- reading the plan ---

    def counts(self) -> Counts:
        sums = ", ".join(f"coalesce(sum(status = {status}), 0)" for status in (_EXISTS, _FAILED, _TO_MAKE))
        with self._disk_errors():
            row = self._database.execute(
                f"SELECT count(*), {sums}, coalesce(sum(cost * (status = {_TO_MAKE})), 0) FROM item"
            ).fetchone()
        return Counts(*row)

    def invalid(self) -> Iterator[Task]:
        """The items that can't be synthesized, in the order of the list."""
        yield from self._tasks(f"status = {_FAILED} AND problem != '' AND offset IS NULL ORDER BY number")

    def waiting(self) -> Iterator[Task]:
        """The items to make: long ones first, the others voice by voice, and longer before shorter."""
        yield from self._tasks(f"status = {_TO_MAKE} ORDER BY cost > {LONG_CHARACTERS} DESC, voice, cost DESC, number")

    def _tasks(self, condition: str) -> Iterator[Task]:
        with self._disk_errors():
            # Only numbers are sorted, and all of them before the first is yielded: the caller may change rows.
            numbers = self._database.execute(f"SELECT number FROM item WHERE {condition}")
        while True:
            with self._disk_errors():
                row = numbers.fetchone()
            if row is None:
                return
            yield self.task(row[0])

    def task(self, number: int) -> Task:
        with self._disk_errors():
            row = self._database.execute(
                "SELECT number, line, id, path, body, key, problem FROM item WHERE number = ?", (number,)
            ).fetchone()
        return _make_task(*row)

    def settle(self, number: int, place: ByteRange, ok: bool, failed_checks: bool = False) -> None:
        """Record the row of an item that was made or has failed."""
        with self._disk_errors():
            self._database.execute(
                "UPDATE item SET status = ?, offset = ?, length = ?, failed_checks = ? WHERE number = ?",
                (_MADE if ok else _FAILED, *place, failed_checks, number),
            )

    def failed_checks(self) -> int:
        """The number of items with a file whose speech fails its checks."""
        with self._disk_errors():
            row = self._database.execute("SELECT coalesce(sum(failed_checks), 0) FROM item").fetchone()
        return int(row[0])

    def removed(self) -> Iterator[str]:
        """The paths of earlier runs that no item of the list has any more."""
        with self._disk_errors():
            rows = self._database.execute("SELECT path FROM earlier WHERE ok AND NOT listed ORDER BY offset")
        for (path,) in rows:
            if (self.folder / path).is_file():
                yield path

    def rows_in_order(self) -> Iterator[IndexedRow]:
        """The rows of the items in the order of the list, then those of removed items whose files still exist."""
        with self._disk_errors():
            rows = self._database.execute(
                "SELECT offset, length, line FROM item WHERE offset IS NOT NULL ORDER BY number"
            )
            for offset, length, line in rows:
                yield IndexedRow(ByteRange(offset, length), line)
        for path in self.removed():
            row = self._database.execute("SELECT offset, length FROM earlier WHERE path = ?", (path,)).fetchone()
            yield IndexedRow(ByteRange(*row), None)

    # --- results of expensive checks, by name ---

    def fact(self, name: str) -> Any:
        """The stored value; None if there is none."""
        with self._disk_errors():
            row = self._database.execute("SELECT value FROM fact WHERE name = ?", (name,)).fetchone()
        return None if row is None else json.loads(row[0])

    def store_fact(self, name: str, value: Any) -> None:
        """Store a value that JSON can hold."""
        with self._disk_errors():
            self._database.execute("REPLACE INTO fact VALUES (?, ?)", (name, json.dumps(value)))

    def close(self) -> None:
        """Remove the plan."""
        with contextlib.suppress(sqlite3.Error):
            self._database.close()
        shutil.rmtree(self.work, ignore_errors=True)

    def __enter__(self) -> Plan:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def _disk_errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise LlasaError(
                f"The plan in {self.work} can't be written: {error}.", "Is the disk full? Completed items are kept."
            ) from error
        except FileExistsError as error:
            raise UsageError(f"There is another file or folder at {self.work}.", "Move it away.") from error
        except OSError as error:
            raise LlasaError(f"{self.work} can't be written: {error.strerror}.") from error


def _belongs_to_a_run(work: Path) -> bool:
    """Whether a folder was left by a killed run; otherwise it belongs to the user."""
    names = {path.name for path in work.iterdir()} if work.is_dir() else set()
    return _DATABASE in names or names <= {TOKEN}


def _item_body(item: Item) -> dict[str, Any]:
    """The fields of an item that have no column; empty ones are left out."""
    kept = {name: value for name, value in asdict(item).items() if value not in (None, ()) and name not in _COLUMNS}
    return kept | ({"ref": str(item.ref)} if item.ref is not None else {})


_COLUMNS = ("number", "id", "name", "is_numbered")


def _make_task(number: int, line: int, own_id: str, path: str, body: str, key: str, problem: str) -> Task:
    values = json.loads(body)
    item = Item(number=line, id=own_id, name=path.rpartition(".")[0], text=values.pop("text", ""))
    sampling = tuple((name, value) for name, value in values.pop("sampling", ()))
    style = tuple((name, value) for name, value in values.pop("style", ()))
    ref = values.pop("ref", None)
    item = replace(item, **values, sampling=sampling, style=style, ref=Path(ref) if ref is not None else None)
    return Task(number, item, path, key, problem)


def _is_unicode(text: str) -> bool:
    """Whether SQLite can hold a text. JSON can hold lone surrogates, but no path that was made here has one."""
    return not any("\ud800" <= character <= "\udfff" for character in text)
