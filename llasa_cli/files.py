"""Files that checkpoints are made of: JSON objects, and which weights a big file holds."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from llasa_cli.errors import LlasaError, ModelError, UsageError

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
    """An object as a file, by `write_whole`."""
    write_whole(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def write_whole(path: Path, text: str) -> None:
    """Written beside, flushed to disk and renamed: whole or not there, and nothing is left of one that fails.

    Several processes, of several machines even, may do so at once.

    Raises:
        OSError: It can't be written.
    """
    part = beside(path)
    try:
        with part.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def make_folder(folder: Path) -> None:
    """Raises UsageError where it can't be made."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"The folder {folder} can't be made: {error.strerror}.", "Name another with -o.") from error


def move_to(part: Path, target: Path) -> str:
    """Give a finished file its place. -> what is wrong with that place, the file being gone then; empty if it lies there.

    Raises:
        LlasaError: No other place would do: the disk is full, or can't be written.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(part, target)
    except OSError as error:
        part.unlink(missing_ok=True)
        problem = f"{target} can't be written: {error.strerror}."
        if error.errno in _OF_THE_PLACE:
            return problem
        raise LlasaError(problem) from error
    return ""


_OF_THE_PLACE = (errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENOTEMPTY)
"""A name that the disk has no room for, or a folder where the file should be, or a file where its folder should be."""


def refuse_overwriting(writes: Iterable[Path | None], reads: Iterable[Path | None]) -> None:
    """Raises UsageError where a file that is to be written is read too, or is named for two outputs."""
    seen: list[Path] = []
    sources = [path for path in reads if path is not None]
    for path in writes:
        if path is None:
            continue
        if any(is_same_file(path, other) for other in sources):
            raise UsageError(f"{path} is read here, and would be written over.", "Write elsewhere.")
        if any(is_same_file(path, other) for other in seen):
            raise UsageError(f"{path} is named for two outputs.", "Give each a name of its own.")
        seen.append(path)


def is_same_file(one: Path, other: Path) -> bool:
    """Whether two paths lead to one file, which need not be there yet; devices and pipes are no files."""
    try:
        return os.path.samefile(one, other) and one.is_file()
    except OSError:
        return os.path.realpath(one) == os.path.realpath(other)


def copy_files(source: Path, target: Path, names: Iterable[str]) -> None:
    """Those of these names that are there. A folder onto itself: they stay as they are."""
    for name in names:
        if (source / name).is_file() and source.resolve() != target.resolve():
            shutil.copyfile(source / name, target / name)


def beside(path: Path) -> Path:
    """A name in the same folder that nobody else has: a cache may be shared by several machines."""
    return path.with_name(f".{path.name[:60]}.{secrets.token_hex(8)}.part")


def read_metadata(folder: Path) -> dict[str, Any]:
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
    "slowest_s_a_character": lambda value: type(value) in (int, float) and value > 0,
}
"""What is read from `llasa.json` and must be of its kind; other entries are for people."""


def add_ends(digest: hashlib._Hash, path: Path) -> None:
    """Take a file's first and last mebibyte into a digest: all of 2.5 GB would take seconds each time."""
    with path.open("rb") as file:
        digest.update(file.read(_END_BYTES))
        file.seek(max(0, path.stat().st_size - _END_BYTES))
        digest.update(file.read())
