"""A SQLite database for the intermediate data of one run, on disk instead of in memory."""

from __future__ import annotations

import sqlite3
from pathlib import Path


def open_scratch_database(path: Path | None, cache_kib: int = 8192, any_thread: bool = False) -> sqlite3.Connection:
    """Open an empty database that only this process uses.

    It has no locks and no journal and is never flushed to disk, so it is useless after a crash.

    Args:
        path: The file to create; an existing one is removed. None: a temporary file that ends with the connection.
        cache_kib: Pages to keep in memory, in KiB.
        any_thread: Allow other threads than the one that opened it. The caller then keeps them apart.

    Raises:
        OSError, sqlite3.Error: It can't be created.
    """
    if path is None:
        address = ""
    else:
        path.unlink(missing_ok=True)
        address = f"{path.absolute().as_uri()}?nolock=1"  # network file systems handle locks badly
    connection = sqlite3.connect(address, uri=True, isolation_level=None, check_same_thread=not any_thread)
    for pragma in ("journal_mode=OFF", "synchronous=OFF", "temp_store=FILE", f"cache_size=-{cache_kib}"):
        connection.execute(f"PRAGMA {pragma}")
    return connection
