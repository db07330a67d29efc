"""Files that checkpoints are made of: JSON objects, and which weights a big file holds."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from llasa_cli.errors import ModelError

ABOUT_FILE = "llasa.json"
"""In a checkpoint's folder: what it says of itself."""
_END_BYTES = 1 << 20


def read_object(path: Path, hint: str = "") -> dict[str, Any]:
    """A file that holds one JSON object.

    Raises:
        ModelError: It can't be read, or holds something else.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise ModelError(f"{path} can't be read: {error}.", hint) from error
    if not isinstance(found, dict):
        raise ModelError(f"{path} does not hold a JSON object.", hint)
    return found


def read_object_if_there(path: Path, hint: str = "") -> dict[str, Any]:
    """As `read_object`; empty where there is no file."""
    return read_object(path, hint) if path.is_file() else {}


def write_json(path: Path, content: Any) -> None:
    """Written beside, flushed to disk and renamed: whole or not there. Several processes may do so at once."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    with part.open("w", encoding="utf-8") as file:
        file.write(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def read_about(folder: Path) -> dict[str, Any]:
    """What a checkpoint's `llasa.json` says of it; empty for one without.

    Raises:
        ModelError: It can't be read, or says what makes no sense.
    """
    about = read_object_if_there(folder / ABOUT_FILE)
    for name, value in about.items():
        if value is not None and name in _ABOUT and not _ABOUT[name](value):
            raise ModelError(f"{folder / ABOUT_FILE} has {name} {str(value)[:60]}, which makes no sense.")
    return about


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


_ABOUT: dict[str, Callable[[Any], bool]] = {
    "codec": _is_text,
    "base": _is_text,
    "default_speaker": _is_text,
    "join": _is_text,
    "speakers": lambda value: isinstance(value, list) and all(map(_is_text, value)),
    "sampling": lambda value: isinstance(value, dict) and all(type(part) in (int, float) for part in value.values()),
    "most_characters": lambda value: type(value) is int and value > 0,
}
"""What is read from `llasa.json` and must be of its kind; other entries are for people."""


def add_ends(digest: hashlib._Hash, path: Path) -> None:
    """Take a file's first and last mebibyte into a digest: all of 2.5 GB would take seconds each time."""
    with path.open("rb") as file:
        digest.update(file.read(_END_BYTES))
        file.seek(max(0, path.stat().st_size - _END_BYTES))
        digest.update(file.read())
