"""Batch lists -> items, a line at a time: plain lines, `id|text`, CSV, TSV, JSONL.

    problems = Problems()
    for item in items_of(open_list, ".jsonl", Path("."), problems): ...        a million lines in flat memory
    problems.refuse()                                                          all that can't be read, in one report

What is no list (not JSON, a field too many, a seed that is no number) is a problem of the list, which is then refused
whole. What an item lacks (its text, its clip) is that item's failure and nobody else's: it is found by who plans.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, BinaryIO

from llasa_cli.errors import UsageError
from llasa_cli.settings import COLDEST, LARGEST_NUMBER, SamplingRequest

SAMPLING = tuple(part.name for part in fields(SamplingRequest))
"""Columns that say how an item is drawn, called as the flags are."""
FIELDS = ("id", "text", "voice", "speaker", "ref", "ref_text", "seed", "output", *SAMPLING)
_ALIASES = {"ref_audio": "ref"}
ENDINGS = ("wav", "flac", "ogg", "opus", "mp3")
"""A name in the column `output` that ends so is written in that format."""
LONGEST_LINE = 16_000_000
"""Bytes. A book is a megabyte; a line of gigabytes is another kind of file."""
SHOWN = 20
"""Problems told one by one; of the rest only how many there are."""
_DELIMITERS = {".csv": ",", ".tsv": "\t"}
_ID_LINE = re.compile(r"\s*[^|\s][^|]{0,99}\|")


@dataclass(frozen=True)
class Item:
    """One thing to say.

    Attributes:
        number: Its line in the list, from 1; of several lines the first.
        id: As the list has it, else the name.
        name: Where it is written, relative and without ending. Safe, but not yet no other item's: see `batch.plan`.
        text: What to say; may be empty, which is that item's failure.
        ending: The format that its output name asks for.
        voice, speaker, ref, ref_text, seed: None where the list says nothing. `ref` is relative to the list.
        sampling: What the list says of it, by name.
    """

    number: int
    id: str
    name: str
    text: str
    ending: str | None = None
    voice: str | None = None
    speaker: str | None = None
    ref: Path | None = None
    ref_text: str | None = None
    seed: int | None = None
    sampling: tuple[tuple[str, float], ...] = ()


class Problems:
    """What is wrong with a list, line by line; the first few in words, all of them counted."""

    def __init__(self) -> None:
        self.count = 0
        self.shown: list[str] = []
        self.unknown: dict[str, int] = {}
        """Columns that nothing is made of -> the line that has them first."""

    def add(self, line: int, what: str) -> None:
        self.count += 1
        if len(self.shown) < SHOWN:
            self.shown.append(f"line {line}: {what}")

    def add_unknown(self, line: int, names: Iterable[str]) -> None:
        for name in names:
            if len(self.unknown) < SHOWN:
                self.unknown.setdefault(str(name)[:40], line)

    def told(self) -> str:
        rest = self.count - len(self.shown)
        return "\n       ".join(self.shown) + (f"\n       and {rest} more" if rest else "")

    def refuse(self) -> None:
        """Raises UsageError if there was any."""
        if self.count:
            lines = "One line" if self.count == 1 else f"{self.count} lines"
            raise UsageError(f"{lines} of the list can't be read.", self.told())


def items_of(open_list: Callable[[], BinaryIO], ending: str, folder: Path, problems: Problems) -> Iterator[Item]:
    """Read a list.

    Args:
        open_list: Gives the list from its beginning; called more than once where its ending says nothing.
        ending: `.csv`, `.tsv`, `.jsonl` or `.ndjson`. With any other (standard input has none) the first line tells; what
            is none of them is lines, with `id|text` where every line has an id.
        folder: What `ref` paths are relative to.
        problems: Takes what can't be read; the rest is given all the same, so that everything is told at once.

    Raises:
        UsageError: No list at all: another encoding, a table without a column `text`.
    """
    if ending not in (".jsonl", ".ndjson", *_DELIMITERS):
        with open_list() as file:
            ending = _form_of(file)
    if ending in (".jsonl", ".ndjson"):
        with open_list() as file:
            yield from _items(_json_rows(file, problems), folder, problems)
    elif ending in _DELIMITERS:
        with open_list() as file:
            yield from _items(_table_rows(file, _DELIMITERS[ending], problems), folder, problems)
    else:
        # Every line or none: a bar in one sentence is no reason to read it as an id.
        with open_list() as file:
            with_id = _have_ids(_lines(file, Problems()), problems)
        with open_list() as file:
            yield from _items(_line_rows(file, with_id, problems), folder, problems)


def _form_of(file: BinaryIO) -> str:
    """The ending that the first line speaks for: an object with a `text`, or the names of columns, `text` among them."""
    first = next((line for _, line in _lines(file, Problems()) if line.strip()), "")
    with suppress(ValueError, RecursionError):
        row = json.loads(first)
        return ".jsonl" if isinstance(row, dict) and "text" in map(_known, row) else ""
    for ending, delimiter in _DELIMITERS.items():
        names = [_known(name.strip(' "')) for name in first.split(delimiter)]
        # One word alone may be a text.
        if len(names) > 1 and "text" in names and set(names) <= set(FIELDS):
            return ending
    return ""


def _have_ids(lines: Iterable[tuple[int, str]], problems: Problems) -> bool:
    """Whether every line has an id. Most of three or more are a slip, which would have all ids spoken."""
    count = plain = first = 0
    for number, line in lines:
        if line.strip():
            count += 1
            if not _ID_LINE.match(line):
                plain += 1
                first = first or number
    if count >= 3 and 0 < plain < count / 2:
        problems.add(first, "no id, where most lines have one (id|text); give all of them one, or none a bar")
    return not plain


def _lines(file: BinaryIO, problems: Problems) -> Iterator[tuple[int, str]]:
    """Numbered lines without their ends. Not str.splitlines: JSON may hold U+2028 as it is."""
    number = 0
    while line := file.readline(LONGEST_LINE):
        number += 1
        if number == 1:
            if line.startswith((b"\xff\xfe", b"\xfe\xff")):
                raise UsageError("The list is not UTF-8 text.", "Convert it first: iconv -f utf-16 -t utf-8.")
            line = line.removeprefix(b"\xef\xbb\xbf")
        if len(line) == LONGEST_LINE and not line.endswith(b"\n"):
            problems.add(number, f"longer than {LONGEST_LINE // 1_000_000} MB")
            while line and not line.endswith(b"\n"):
                line = file.readline(LONGEST_LINE)
            continue
        try:
            yield number, line.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            problems.add(number, "not UTF-8 text (iconv -t utf-8 converts it)")


def _line_rows(file: BinaryIO, with_id: bool, problems: Problems) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in _lines(file, problems):
        if not line.strip():
            continue
        if with_id:
            name, _, text = line.partition("|")
            yield number, {"id": name.strip(), "text": text.strip()}
        else:
            yield number, {"text": line.strip()}


def _table_rows(file: BinaryIO, delimiter: str, problems: Problems) -> Iterator[tuple[int, dict[str, Any]]]:
    at = 0  # the line that was read last; csv counts only those it was given

    def lines() -> Iterator[str]:
        nonlocal at
        for number, line in _lines(file, problems):
            at = number
            yield line + "\n"

    csv.field_size_limit(LONGEST_LINE)
    # Strict: a quote that is not closed takes all the rows after it into its text.
    reader = csv.reader(lines(), delimiter=delimiter, strict=True)
    names: list[str] | None = None
    while True:
        first = at + 1
        try:
            row = next(reader)
        except StopIteration:
            break
        except csv.Error as error:
            problems.add(first, f"{error}: is a quote not closed, or not doubled?")
            continue
        if not any(row):
            continue
        if names is None:
            names = [_known(name.strip()) for name in row]
            if "text" not in names:
                break
            problems.add_unknown(first, (name for name in names if name not in FIELDS))
        elif len(row) > len(names):
            problems.add(first, f"{len(row)} fields, the first line names {len(names)}; a text with commas is quoted")
        else:
            yield first, {name: value for name, value in zip(names, row, strict=False) if value != ""}
    if names is None and problems.count:
        return  # it has been told why
    if names is None or "text" not in names:
        raise UsageError(
            "The table has no column `text`.", "Its first line names the columns: " + ", ".join(FIELDS) + "."
        )


def _json_rows(file: BinaryIO, problems: Problems) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in _lines(file, problems):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            problems.add(number, f"not JSON: {error}")
            continue
        if not isinstance(row, dict):
            problems.add(number, 'no JSON object, such as {"id": "a", "text": "Hello."}')
            continue
        row = {_known(name): value for name, value in row.items()}
        problems.add_unknown(number, (name for name in row if name not in FIELDS))
        yield number, row


def _known(name: str) -> str:
    return _ALIASES.get(name.casefold(), name.casefold()) if name.casefold() in (*FIELDS, *_ALIASES) else name


def _items(rows: Iterable[tuple[int, dict[str, Any]]], folder: Path, problems: Problems) -> Iterator[Item]:
    for number, row in rows:
        wrong = list(_wrong(row))
        if wrong:
            problems.add(number, "; ".join(wrong))
            continue
        yield _item(number, row, folder)


def _wrong(row: dict[str, Any]) -> Iterator[str]:
    for name in ("id", "text", "voice", "speaker", "ref", "ref_text", "output"):
        if isinstance(row.get(name), (dict, list, bool)):
            yield f"{name} is not a text"
    seed = row.get("seed")
    if seed is not None and not (str(seed).isascii() and str(seed).isdigit() and len(str(seed)) < 19):
        yield f"the seed {_short(seed)} is not a whole number from 0"
    for name in SAMPLING:
        if row.get(name) is not None:
            what = _what_is_wrong_with(name, row[name])
            if what:
                yield f"{name} {_short(row[name])} {what}"


def _what_is_wrong_with(name: str, value: Any) -> str:
    """The limits of the flags of the same names."""
    try:
        number = math.nan if isinstance(value, (bool, dict, list)) else float(value)
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        return "is not a number"
    if number > LARGEST_NUMBER:
        return "is no number to work with"
    if name == "top_k":
        return "" if number >= 0 and number == int(number) else "is not a whole number from 0"
    if name in ("top_p", "min_p"):
        return "" if 0 <= number <= 1 else "is not from 0 to 1"
    if name == "temperature":
        return "" if number == 0 or number >= COLDEST else f"is neither 0 nor at least {COLDEST:g}"
    least = {"repetition_penalty": 0.01, "guidance": 0.0, "max_seconds": 0.02}[name]
    return "" if number >= least else f"is below {least:g}"


def _short(value: Any) -> str:
    shown = str(value)
    return repr(shown if len(shown) <= 40 else shown[:37] + "...")


def _item(number: int, row: dict[str, Any], folder: Path) -> Item:
    found = _text(row.get("id")) or ""
    name, ending = _place(_text(row.get("output")) or "", found or f"{number:05d}")
    ref, seed = _text(row.get("ref")), row.get("seed")
    sampling = tuple(
        (part, int(float(row[part])) if part == "top_k" else float(row[part]))
        for part in SAMPLING
        if row.get(part) is not None
    )
    return Item(
        number=number,
        id=found or name,
        name=name,
        text=_text(row.get("text")) or "",
        ending=ending,
        voice=_text(row.get("voice")),
        speaker=_text(row.get("speaker")),
        ref=folder / ref if ref else None,
        ref_text=_text(row.get("ref_text")),
        seed=None if seed is None else int(seed),
        sampling=sampling,
    )


def _text(value: Any) -> str | None:
    """JSON may hold a number where a text is meant, and halves of characters, which no file takes."""
    return None if value is None else str(value).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _place(output: str, otherwise: str) -> tuple[str, str | None]:
    """(relative path without ending, ending): folders are kept, what leads out of them is not."""
    if not output.strip():
        return safe_name(otherwise), None
    stem, dot, last = output.strip().rpartition(".")
    ending = last.lower() if dot and stem and last.lower() in ENDINGS else None
    parts = [part for part in re.split(r"[/\\]", stem if ending else output.strip()) if part.strip(" .")]
    return "/".join(map(safe_name, parts)) or safe_name(otherwise), ending


def safe_name(name: str) -> str:
    """An id as a file name: no separators, no leading dot, no control characters, at most 150 bytes."""
    name = re.sub(r"[^\w.,+=@ -]+", "_", name).strip(" .")
    if re.fullmatch(r"(?i)con|prn|aux|nul|com\d|lpt\d", name):
        name += "_"  # Windows' devices
    # File systems count bytes, 255 at most; endings and numbers are added.
    return name.encode()[:150].decode(errors="ignore").strip(" .") or "_"
