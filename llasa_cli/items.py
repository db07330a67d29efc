"""Batch lists -> items: plain lines, `id|text`, CSV, JSONL."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llasa_cli.errors import UsageError

FIELDS = ("id", "text", "voice", "ref", "ref_text", "seed")


@dataclass(frozen=True)
class Item:
    """One thing to say.

    Attributes:
        number: Its line in the list, from 1.
        name: Safe as a file name, and no other item's.
        text: What to say; may be empty, which is that item's failure and no other's.
        voice, ref, ref_text, seed: None where the list says nothing. `ref` is relative to the list.
    """

    number: int
    name: str
    text: str
    voice: str | None = None
    ref: Path | None = None
    ref_text: str | None = None
    seed: int | None = None


def read_items(source: str, ending: str, folder: Path) -> list[Item]:
    """Read a list.

    Args:
        source: Its text.
        ending: `.csv`, `.tsv`, `.jsonl`; anything else is lines, with `id|text` where every line has an id.
        folder: What `ref` paths are relative to.

    Raises:
        UsageError: Not of that form, naming the line; or no item at all.
    """
    if ending == ".jsonl":
        rows = list(_json_rows(source))
    elif ending in (".csv", ".tsv"):
        rows = list(_table_rows(source, "\t" if ending == ".tsv" else ","))
    else:
        rows = list(_line_rows(source))
    if not rows:
        raise UsageError("The list has no items.", "Give one line for each thing to say.")
    taken: set[str] = set()
    return [_item(number, row, folder, taken) for number, row in rows]


def _line_rows(source: str) -> Iterable[tuple[int, dict[str, Any]]]:
    lines = [(number, line.strip()) for number, line in enumerate(source.split("\n"), 1) if line.strip()]
    # Every line or none: a bar in one sentence is no reason to read it as an id.
    with_id = all(re.match(r"[^|\s][^|]{0,99}\|", line) for _, line in lines)
    for number, line in lines:
        if with_id:
            name, _, text = line.partition("|")
            yield number, {"id": name.strip(), "text": text.strip()}
        else:
            yield number, {"text": line}


def _table_rows(source: str, delimiter: str) -> Iterable[tuple[int, dict[str, Any]]]:
    reader = csv.DictReader(io.StringIO(source, newline=""), delimiter=delimiter)
    try:
        if reader.fieldnames is None or "text" not in reader.fieldnames:
            raise UsageError(
                "The table has no column `text`.", "Its first line names the columns: " + ", ".join(FIELDS) + "."
            )
        for row in reader:
            yield reader.line_num, {key: value for key, value in row.items() if value not in (None, "")}
    except csv.Error as error:
        raise UsageError(f"Line {reader.line_num} of the table can't be read: {error}.") from error


def _json_rows(source: str) -> Iterable[tuple[int, dict[str, Any]]]:
    # Not splitlines: a JSON string may hold other line separators, such as U+2028, as they are.
    for number, line in enumerate(source.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UsageError(f"Line {number} of the list is not JSON: {error}.") from error
        if not isinstance(row, dict):
            raise UsageError(
                f"Line {number} of the list is not a JSON object.", 'Such as {"id": "a", "text": "Hello."}.'
            )
        yield number, row


def _item(number: int, row: dict[str, Any], folder: Path, taken: set[str]) -> Item:
    for name in ("id", "text", "voice", "speaker", "ref", "ref_audio", "ref_text"):
        if isinstance(row.get(name), (dict, list, bool)):
            raise UsageError(f"Line {number} of the list: {name} is not a text.")
    seed = row.get("seed")
    if seed is not None and not (str(seed).isascii() and str(seed).isdigit()):
        raise UsageError(f"Line {number} of the list: the seed {seed!r} is not a whole number from 0.")
    ref = row.get("ref") or row.get("ref_audio")
    return Item(
        number=number,
        name=_unique(safe_name(_text(row.get("id")) or f"{number:05d}"), taken),
        text=_text(row.get("text")) or "",
        voice=_text(row.get("voice") or row.get("speaker")),
        ref=folder / str(ref) if ref else None,
        ref_text=_text(row.get("ref_text")),
        seed=None if seed is None else int(seed),
    )


def _text(value: Any) -> str | None:
    """JSON may hold a number where a text is meant."""
    return None if value is None else str(value)


def safe_name(name: str) -> str:
    """An id as a file name: no separators, no leading dot, no control characters, at most 150 bytes."""
    name = re.sub(r"[^\w.,+=@ -]+", "_", name).strip(" .")
    if re.fullmatch(r"(?i)con|prn|aux|nul|com\d|lpt\d", name):
        name += "_"  # Windows' devices
    # File systems count bytes, 255 at most; endings and numbers are added.
    return name.encode()[:150].decode(errors="ignore") or "_"


def _unique(name: str, taken: set[str]) -> str:
    """Two items never share a file, not even where the file system ignores case."""
    found, count = name, 2
    while found.casefold() in taken:
        found, count = f"{name}-{count}", count + 1
    taken.add(found.casefold())
    return found


def content_key(item: Item, model: str, settings: Any) -> str:
    """A hash of all that decides how the item sounds: with the same one, it need not be said again."""
    ref = None
    if item.ref is not None and item.ref.is_file():
        ref = hashlib.sha256(item.ref.read_bytes()).hexdigest()
    parts = [item.text, item.voice, ref, item.ref_text, item.seed, model, settings]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]
