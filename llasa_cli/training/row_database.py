"""The rows of one run of `llasa prepare`, in a database on disk, so that memory stays flat with any number of rows.

Each run creates and removes it. Results that must survive a killed run are in `code_cache` and `memmap_writer`.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from llasa_cli.settings import CODES_PER_SECOND
from llasa_cli.training.rows import DatasetAudio, Problem

TO_ENCODE = "codes_file IS NULL AND stored_codes IS NULL AND key NOT IN (SELECT key FROM codes)"
"""SQL condition of rows that the codec has to encode."""
_COLUMNS = "number, place, audio, codes_file, stored_codes, text, text_ids, speaker, split, key, count"
_SCHEMA = """
CREATE TABLE rows (
    number INTEGER PRIMARY KEY, place TEXT, audio, codes_file BLOB, stored_codes BLOB, text TEXT, text_ids BLOB,
    speaker TEXT, split TEXT, key TEXT, count INTEGER, tokens INTEGER, draw INTEGER, good INTEGER DEFAULT 1
);
CREATE TABLE problems (number INTEGER PRIMARY KEY, place TEXT, reason TEXT);
CREATE TABLE seen (name INTEGER PRIMARY KEY);
"""


@dataclass(frozen=True)
class CheckedRow:
    """A row that can be used.

    Attributes:
        number: Its place among all rows of all sources.
        where: Its file or table line, for messages.
        audio: The recording to encode, unless `codes_file` or `stored_codes` is set.
        codes_file: File of codes made elsewhere.
        stored_codes: Codes that the table itself holds, as uint16 bytes.
        text_ids: Tokens of the text, as int32 bytes.
        key: Changes when the audio or the codes change.
        count: Number of its codes, 50 a second. From an audio header; a resampled clip may have one more or less.
    """

    number: int
    where: str
    audio: Path | DatasetAudio | None
    codes_file: Path | None
    stored_codes: bytes | None
    text: str
    text_ids: bytes
    speaker: str | None
    split: str
    key: str
    count: int

    @property
    def tokens(self) -> int:
        """Number of the text's tokens."""
        return len(self.text_ids) // 4


def short_hash(text: str) -> int:
    """A hash of 63 bits."""
    digest = hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


class RowDatabase:
    """Rows and problems of a run, in the database `scratch`."""

    def __init__(self, scratch: sqlite3.Connection, seed: int = 0) -> None:
        self._database, self._seed = scratch, seed
        self._database.executescript(_SCHEMA)
        self._database.execute("BEGIN")

    # --- writing ---

    def add(self, row: CheckedRow) -> None:
        audio = row.audio
        place = f"{audio.index}\0{audio.split}\0{audio.source}" if isinstance(audio, DatasetAudio) else _bytes(audio)
        values = (
            *(row.number, _printable(row.where), place, _bytes(row.codes_file), row.stored_codes, row.text),
            *(row.text_ids, row.speaker, row.split, row.key, row.count, row.tokens),
            short_hash(f"{self._seed} {row.number}"),
        )
        marks = ", ".join("?" * len(values))
        self._database.execute(f"INSERT INTO rows ({_COLUMNS}, tokens, draw) VALUES ({marks})", values)

    def add_problem(self, where: str, reason: str) -> None:
        self._database.execute("INSERT INTO problems (place, reason) VALUES (?, ?)", (_printable(where), reason))

    def has_name(self, names: Sequence[str]) -> bool:
        """Whether one of these names was added before."""
        query = "SELECT 1 FROM seen WHERE name = ?"
        return any(self._database.execute(query, (short_hash(name),)).fetchone() for name in names)

    def add_names(self, names: Sequence[str]) -> None:
        self._database.executemany("INSERT OR IGNORE INTO seen VALUES (?)", [(short_hash(name),) for name in names])

    def reject(self, row: CheckedRow, reason: str) -> None:
        """Turn a row that proved to be unusable into a problem."""
        self._database.execute("UPDATE rows SET good = 0 WHERE number = ?", (row.number,))
        self.add_problem(row.where, reason)

    def set_count(self, number: int, count: int) -> None:
        """Correct the number of a row's codes."""
        self._database.execute("UPDATE rows SET count = ? WHERE number = ?", (count, number))

    # --- reading ---

    def rows(self, order: str = "number", condition: str = "good") -> Iterator[CheckedRow]:
        """Usable rows, in the order of the sources or by another column."""
        for values in self._database.execute(f"SELECT {_COLUMNS} FROM rows WHERE {condition} ORDER BY {order}"):
            number, where, audio, codes_file, *rest = values
            yield CheckedRow(number, where, _audio(audio), _path(codes_file), *rest)

    def total(self, expression: str, condition: str = "good") -> int:
        """The sum of a SQL expression over the rows."""
        found = self._database.execute(f"SELECT total({expression}) FROM rows WHERE {condition}").fetchone()[0]
        return int(found)

    def index_lengths(self) -> None:
        """Make `rows(order="count")` and `quantiles` fast."""
        self._database.execute("CREATE INDEX IF NOT EXISTS by_count ON rows (count)")

    def quantiles(self, shares: Sequence[float]) -> list[int]:
        """Numbers of codes at these shares (0 to 1) of the rows, ordered by length; empty without rows."""
        last = self.total("1") - 1
        query = "SELECT count FROM rows WHERE good ORDER BY count LIMIT 1 OFFSET ?"
        places = [round(share * last) for share in shares] if last >= 0 else []
        return [self._database.execute(query, (place,)).fetchone()[0] for place in places]

    def by_seconds(self) -> dict[str, int]:
        """Whole seconds -> number of rows of that length."""
        query = f"SELECT count / {CODES_PER_SECOND}, count(*) FROM rows WHERE good GROUP BY 1 ORDER BY 1"
        return {str(seconds): count for seconds, count in self._database.execute(query)}

    def speakers(self) -> dict[str, int]:
        """Speaker -> number of rows."""
        query = (
            "SELECT speaker, count(*) FROM rows WHERE good AND speaker IS NOT NULL GROUP BY speaker ORDER BY speaker"
        )
        return dict(self._database.execute(query))

    def reasons(self) -> dict[str, int]:
        """Reason -> number of rows that are left out for it, the most frequent first."""
        query = "SELECT reason, count(*) FROM problems GROUP BY reason ORDER BY count(*) DESC, min(number)"
        return dict(self._database.execute(query))

    def problems(self, limit: int = -1) -> Iterator[Problem]:
        query = "SELECT place, reason FROM problems ORDER BY number LIMIT ?"
        return (Problem(*values) for values in self._database.execute(query, (limit,)))

    # --- validation ---

    def hold_out(self, wanted: int) -> None:
        """Give every row a split: that of its source, else train, of which `wanted` rows drawn by the seed become val.

        At least one row stays in train.
        """
        self._database.execute("UPDATE rows SET split = 'train' WHERE split = ''")
        train = self.total("1", "good AND split = 'train'")
        drawn = "SELECT number FROM rows WHERE good AND split = 'train' ORDER BY draw LIMIT ?"
        self._database.execute(
            f"UPDATE rows SET split = 'val' WHERE number IN ({drawn})", (max(0, min(wanted, train - 1)),)
        )

    def splits(self) -> list[str]:
        query = "SELECT DISTINCT split FROM rows WHERE good ORDER BY split"
        return [name for (name,) in self._database.execute(query)]


def _bytes(path: Path | None) -> bytes | None:
    """A file name as bytes, because it need not be text."""
    return None if path is None else os.fsencode(path)


def _path(name: bytes | None) -> Path | None:
    return None if name is None else Path(os.fsdecode(name))


def _audio(stored: bytes | str | None) -> Path | DatasetAudio | None:
    if not isinstance(stored, str):
        return _path(stored)
    index, split, source = stored.split("\0", 2)
    return DatasetAudio(source, split, int(index))


def _printable(text: str) -> str:
    """A file name as valid text, which a database and a JSON file need."""
    return text.encode(errors="surrogateescape").decode(errors="replace")
