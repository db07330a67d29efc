"""What one run of `llasa prepare` knows of its rows, in a database on disk: however many there are, memory stays flat.

It is made anew by every run and left by none: what must outlast a killed run is in `codes.py` and `memmaps.py`.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from llasa_cli.settings import CODES_PER_SECOND
from llasa_cli.training.sources import DatasetAudio, Problem

"""Of the database held in memory."""
_COLUMNS = "number, place, audio, codes_file, ready, text, text_ids, speaker, split, key, count"
_SCHEMA = """
CREATE TABLE rows (
    number INTEGER PRIMARY KEY, place TEXT, audio, codes_file BLOB, ready BLOB, text TEXT, text_ids BLOB,
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
        where: For people.
        audio: To be encoded, if `codes_file` and `ready` are None.
        codes_file: Of codes made elsewhere; `ready`: those codes, uint16, where a table holds them.
        key: Changes when its audio or codes do.
        text_ids: The text's tokens, int32.
        count: Its codes, 50 a second; of audio, as the header tells: a resampled clip may have one more or less.
    """

    number: int
    where: str
    audio: Path | DatasetAudio | None
    codes_file: Path | None
    ready: bytes | None
    text: str
    text_ids: bytes
    speaker: str | None
    split: str
    key: str
    count: int

    @property
    def tokens(self) -> int:
        """Of the text."""
        return len(self.text_ids) // 4


def short_hash(text: str) -> int:
    """63 bit."""
    digest = hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


class RowDatabase:
    """Rows and problems of a run, in `scratch`."""

    def __init__(self, scratch: sqlite3.Connection, seed: int = 0) -> None:
        self._base, self._seed = scratch, seed
        self._base.executescript(_SCHEMA)
        self._base.execute("BEGIN")

    # --- in ---

    def problem(self, where: str, reason: str) -> None:
        self._base.execute("INSERT INTO problems (place, reason) VALUES (?, ?)", (_printable(where), reason))

    def is_first(self, names: Sequence[str]) -> bool:
        """Whether none of these names was claimed before."""
        query = "SELECT 1 FROM seen WHERE name = ?"
        return not any(self._base.execute(query, (short_hash(name),)).fetchone() for name in names)

    def claim(self, names: Sequence[str]) -> None:
        self._base.executemany("INSERT OR IGNORE INTO seen VALUES (?)", [(short_hash(name),) for name in names])

    def add(self, row: CheckedRow) -> None:
        audio = row.audio
        place = f"{audio.index}\0{audio.split}\0{audio.source}" if isinstance(audio, DatasetAudio) else _bytes(audio)
        values = (
            *(row.number, _printable(row.where), place, _bytes(row.codes_file), row.ready, row.text, row.text_ids),
            *(row.speaker, row.split, row.key, row.count, row.tokens, short_hash(f"{self._seed} {row.number}")),
        )
        marks = ", ".join("?" * len(values))
        self._base.execute(f"INSERT INTO rows ({_COLUMNS}, tokens, draw) VALUES ({marks})", values)

    def spoil(self, row: CheckedRow, reason: str) -> None:
        """A row that was planned turned out to be unusable."""
        self._base.execute("UPDATE rows SET good = 0 WHERE number = ?", (row.number,))
        self.problem(row.where, reason)

    def recount(self, number: int, count: int) -> None:
        self._base.execute("UPDATE rows SET count = ? WHERE number = ?", (count, number))

    # --- out ---

    def rows(self, order: str = "number", condition: str = "good") -> Iterator[CheckedRow]:
        """Usable rows, in the sources' order or by another column."""
        for values in self._base.execute(f"SELECT {_COLUMNS} FROM rows WHERE {condition} ORDER BY {order}"):
            number, where, audio, codes_file, *rest = values
            yield CheckedRow(number, where, _place(audio), _path(codes_file), *rest)

    def sum_of(self, what: str, condition: str = "good") -> int:
        """SQL's sum; 0 of nothing."""
        found = self._base.execute(f"SELECT total({what}) FROM rows WHERE {condition}").fetchone()[0]
        return int(found)

    def index_lengths(self) -> None:
        """Make `rows(order="count")` and `shares` quick."""
        self._base.execute("CREATE INDEX IF NOT EXISTS by_count ON rows (count)")

    def shares(self, shares: Sequence[float]) -> list[int]:
        """Codes of the rows below which these shares (0 to 1) of the rows lie."""
        last = self.sum_of("1") - 1
        query = "SELECT count FROM rows WHERE good ORDER BY count LIMIT 1 OFFSET ?"
        return (
            [self._base.execute(query, (round(share * last),)).fetchone()[0] for share in shares] if last >= 0 else []
        )

    def by_seconds(self) -> dict[str, int]:
        """How many rows have how many whole seconds."""
        query = f"SELECT count / {CODES_PER_SECOND}, count(*) FROM rows WHERE good GROUP BY 1 ORDER BY 1"
        return {str(seconds): count for seconds, count in self._base.execute(query)}

    def speakers(self) -> dict[str, int]:
        query = (
            "SELECT speaker, count(*) FROM rows WHERE good AND speaker IS NOT NULL GROUP BY speaker ORDER BY speaker"
        )
        return dict(self._base.execute(query))

    def reasons(self) -> dict[str, int]:
        """How many rows are left out for which reason, the most frequent first."""
        query = "SELECT reason, count(*) FROM problems GROUP BY reason ORDER BY count(*) DESC, min(number)"
        return dict(self._base.execute(query))

    def problems(self, most: int = -1) -> Iterator[Problem]:
        query = "SELECT place, reason FROM problems ORDER BY number LIMIT ?"
        return (Problem(*values) for values in self._base.execute(query, (most,)))

    # --- validation ---

    def hold_out(self, wanted: int) -> None:
        """Give every row its split: what its source says, and `wanted` rows drawn by the seed to val; never all."""
        self._base.execute("UPDATE rows SET split = 'train' WHERE split = ''")
        train = self.sum_of("1", "good AND split = 'train'")
        drawn = "SELECT number FROM rows WHERE good AND split = 'train' ORDER BY draw LIMIT ?"
        self._base.execute(
            f"UPDATE rows SET split = 'val' WHERE number IN ({drawn})", (max(0, min(wanted, train - 1)),)
        )

    def splits(self) -> list[str]:
        return [name for (name,) in self._base.execute("SELECT DISTINCT split FROM rows WHERE good ORDER BY split")]


def _bytes(path: Path | None) -> bytes | None:
    """File names need not be text."""
    return None if path is None else os.fsencode(path)


def _path(name: bytes | None) -> Path | None:
    return None if name is None else Path(os.fsdecode(name))


def _place(audio: bytes | str | None) -> Path | DatasetAudio | None:
    if not isinstance(audio, str):
        return _path(audio)
    index, split, source = audio.split("\0", 2)
    return DatasetAudio(source, split, int(index))


def _printable(text: str) -> str:
    """File names may hold bytes that are not text; a database and a JSON file may not."""
    return text.encode(errors="surrogateescape").decode(errors="replace")
