"""Reading a batch's list: plain lines, `id|text` (or a tab), LJSpeech's three columns, CSV, TSV and JSONL, one item at a time.

    problems = Problems()
    for item in read_manifest(open_list, "list.csv", Path("."), problems): ...     a million lines in constant memory
    problems.refuse()                                                            one error with everything that is wrong

A list that can't be parsed (invalid JSON, a row with too many fields, a seed that is not a number) is refused as a whole.
An item that can't be synthesized (no text, a missing clip) fails alone; `batch.validate` checks that.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple

from llasa_cli.audio.formats import FILE_FORMATS
from llasa_cli.errors import UsageError
from llasa_cli.files import safe_name
from llasa_cli.options import flags_of
from llasa_cli.settings import SamplingOptions, SamplingRequest, SpeechOptions
from llasa_cli.text.encoding import TextEncoding, detect_encoding, open_text
from llasa_cli.text.tables import BadLine, read_cells, read_objects, separator_of, split_names
from llasa_cli.wording import shorten

SAMPLING = tuple(part.name for part in fields(SamplingRequest))
"""Columns with sampling options; they have the names of the flags."""
_WHOLE_NUMBERS = tuple(part.name for part in fields(SamplingOptions) if isinstance(part.default, int))
FIELDS = ("id", "text", "voice", "speaker", "ref", "ref_text", "seed", "output", "speed", *SAMPLING)
_ALIASES = {"ref_audio": "ref"}
LONGEST_LINE = 16_000_000
"""Characters. A book has about a million; a file with longer lines is not a list."""
SHOWN = 20
"""The number of problems that are listed; the rest are only counted."""
_DELIMITERS = {".csv": ",;\t|", ".tsv": "\t;,|"}
"""Delimiters to try, by the file's ending."""
_NO_LISTS = {
    ".ipynb": "a notebook",
    ".eml": "an e-mail message",
    ".tex": "LaTeX",
    ".rst": "reStructuredText",
    ".org": "an Org mode file",
}
"""Endings of files whose lines are no texts."""
_ID_LINES = {mark: re.compile(rf"\s*[^{mark}\s][^{mark}]{{0,99}}[{mark}]") for mark in ("|", "\t")}
"""Beginnings of lines with an id, by the mark after it."""
_LONGEST_TAB_ID, _MOST_ID_WORDS = 60, 3
"""Tabs are in other texts too: what is before them is an id if it is short, and no other one of the first lines."""
_TITLE_LINES = 10
"""The lines above the names of a table's columns, at most."""
_COMPARED_LINES = 200
_TEXTS = ("text", "ref_text")
_NO_DELIMITER = "\x1f"
"""The delimiter of a table with one column, whose texts may have commas."""
_SHEET_ERROR = re.compile(r"#(?:N/A|REF!|VALUE!|NAME\?|DIV/0!|NULL!|NUM!|SPILL!|ERROR!)", re.IGNORECASE)
"""The texts that a spreadsheet shows for a formula that failed."""


@dataclass(frozen=True)
class Item:
    """One text to speak.

    Attributes:
        number: Its line in the list, from 1; the first line of an item that has several.
        id: The id in the list, else the name.
        name: The output path without its ending, relative and safe. `batch.plan` makes it unique.
        text: The text; may be empty, which is a problem of this item.
        ending: The format that the column `output` asks for.
        voice, speaker, ref, ref_text, seed, speed: None if the list doesn't say. `ref` is relative to the current folder.
        sampling: (name, value) of the sampling options in the list.
        style: (name, value) of the model's style fields in the list.
        is_numbered: Whether the name is only the line number, since the list gives no id and no output.
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
    speed: float | None = None
    style: tuple[tuple[str, str], ...] = ()
    is_numbered: bool = False


class Messages:
    """Messages with line numbers: the first few in words, all of them counted."""

    def __init__(self) -> None:
        self.count = 0
        self.shown: list[str] = []

    def add(self, text: str) -> None:
        self.count += 1
        if len(self.shown) < SHOWN:
            self.shown.append(text)

    @property
    def lines(self) -> list[str]:
        rest = self.count - len(self.shown)
        return [*self.shown, *([f"and {rest} more"] if rest else [])]


class Problems:
    """The problems of a list.

    Attributes:
        errors: Lines that can't be read.
        warnings: Everything that may not be read as intended, such as a guessed encoding or a changed name.
        unknown: Unknown columns -> the first line that has them.
    """

    def __init__(self) -> None:
        self.errors = Messages()
        self.warnings = Messages()
        self.unknown: dict[str, int] = {}

    def add(self, line: int, what: str) -> None:
        self.errors.add(f"line {line}: {what}")

    def warn(self, what: str, line: int | None = None) -> None:
        self.warnings.add(what if line is None else f"line {line}: {what}")

    def add_unknown(self, line: int, names: Iterable[str]) -> None:
        for name in names:
            if len(self.unknown) < SHOWN:
                self.unknown.setdefault(str(name)[:40], line)

    def refuse(self) -> None:
        """Raise UsageError if there is any error."""
        count = self.errors.count
        if count:
            lines = "One line" if count == 1 else f"{count} lines"
            raise UsageError(f"{lines} of the list can't be read.", "\n       ".join(self.errors.lines))


def read_manifest(
    open_list: Callable[[], BinaryIO],
    name: str,
    folder: Path,
    problems: Problems,
    style_fields: Sequence[str] = (),
) -> Iterator[Item]:
    """Read a list.

    Args:
        open_list: Opens the list at its beginning. It is called several times.
        name: The list's name. Its ending, .csv, .tsv, .jsonl or .ndjson, decides the format; for any other, the first line does.
        folder: The folder that `ref` paths are relative to.
        problems: Receives what can't be read. The remaining items are yielded nevertheless, so that one run finds all
            problems.
        style_fields: The model's style fields, which are columns too; one with the name of another column is `style_NAME`.

    Raises:
        UsageError: The file is not a list: it is a document, or a table without a column `text`.
    """
    encoding = detect_encoding(open_list, name)
    if encoding.warning:
        problems.warn(encoding.warning)
    style = {f"style_{name}" if name in FIELDS else name: name for name in style_fields}
    known = (*FIELDS, *style)

    def lines(reported: Problems) -> Iterator[tuple[int, str]]:
        return _read_lines(open_list, encoding, reported)

    layout = _detect_layout(lines(Problems()), Path(name).suffix.lower(), known)
    if layout.has_title:
        problems.warn(f"the table begins in line {layout.skipped + 1}; what is above it is not spoken")
    if layout.form == "json":
        rows = _read_json_rows(lines(problems), problems, known)
    elif layout.form == "table":
        is_quoted = layout.delimiter not in "\t|" or not _has_plain_quotes(lines(Problems()), layout.delimiter)
        rows = _read_table_rows(lines(problems), layout, is_quoted, problems, known)
    else:
        # Either every line has an id or none has: a bar in one sentence does not turn its beginning into an id.
        columns, mark = _count_columns(lambda: lines(Problems()), problems)
        rows = _read_line_rows(lines(problems), columns, mark)
    for number, row in rows:
        wrong = list(_row_errors(row, known))
        if wrong:
            problems.add(number, "; ".join(wrong))
        else:
            yield _make_item(number, row, folder, problems, style)


# --- the format of a list ---


class _Layout(NamedTuple):
    form: str
    """json, table or lines."""
    delimiter: str = ""
    skipped: int = 0
    """The number of the last line above the table: `sep=` or a title."""
    has_title: bool = False


def _detect_layout(lines: Iterator[tuple[int, str]], ending: str, known: Sequence[str]) -> _Layout:
    if ending in _NO_LISTS:
        raise UsageError(
            f"The list is {_NO_LISTS[ending]}.", "A list has one text a line. llasa say -f FILE reads other texts."
        )
    begin = list(islice(((n, line) for n, line in lines if line.strip()), _TITLE_LINES + 1))
    number, first = begin[0] if begin else (0, "")
    if ending in (".json", ".jsonl", ".ndjson") and first.lstrip().startswith("["):
        raise UsageError("The list is a JSON array.", "Write one object per line: jq -c '.[]' LIST > list.jsonl")
    if ending in (".jsonl", ".ndjson"):
        return _Layout("json")
    if separator := separator_of(first):
        return _Layout("table", separator, number)
    if ending == ".json" or ending not in _DELIMITERS:
        with suppress(ValueError, RecursionError):
            row = json.loads(first)
            has_text = isinstance(row, dict) and "text" in (_known_name(name, known) for name in row)
            return _Layout("json" if has_text or ending == ".json" else "lines")
        if ending == ".json":
            raise UsageError(
                "The list does not have one JSON object per line.", "Convert it: jq -c . LIST > list.jsonl"
            )
        for delimiter in _DELIMITERS[".csv"]:
            names = _column_names(first, delimiter, known)
            # A single word may be a text, and so may words that are no column names.
            if len(names) > 1 and "text" in names and set(names) <= {*known, ""}:
                return _Layout("table", delimiter)
        return _Layout("lines")
    delimiters = _DELIMITERS[ending]
    if _column_names(first, _NO_DELIMITER, known) == ["text"]:
        return _Layout("table", _NO_DELIMITER)
    for delimiter in delimiters:
        if "text" in _column_names(first, delimiter, known):
            return _Layout("table", delimiter)
    for delimiter in delimiters:
        cells = [sum(map(bool, split_names(line, delimiter))) for _, line in begin]
        for at, (number, line) in enumerate(begin):
            names = _column_names(line, delimiter, known)
            if "text" in names and len({*names} & {*known}) > 1 and cells[at] > max(cells[:at], default=0):
                return _Layout("table", delimiter, number - 1, has_title=True)
    # LJSpeech's metadata.csv has bars and no names of columns.
    is_list = _ID_LINES["|"].match(first) or (_ID_LINES["\t"].match(first) and _is_sentence(first))
    return _Layout("lines") if is_list else _Layout("table", delimiters[0])


def _is_sentence(line: str) -> bool:
    """Whether the last cell of a line is no name of a column."""
    return re.search(r"\S\s+\S|[.!?…。]$", line.rpartition("\t")[2].strip()) is not None


def _column_names(line: str, delimiter: str, known: Sequence[str]) -> list[str]:
    return [_known_name(name, known) for name in split_names(line, delimiter)]


def _known_name(name: str, known: Sequence[str]) -> str:
    folded = name.casefold()
    return _ALIASES.get(folded, folded) if folded in known or folded in _ALIASES else name


def _count_columns(read: Callable[[], Iterator[tuple[int, str]]], problems: Problems) -> tuple[int, str]:
    """-> 1 for plain lines, 2 for `id|text`, 3 for LJSpeech's `id|text|normalized text`, and the mark between them"""
    for mark, id_line in _ID_LINES.items():
        count = plain = first = three = 0
        ids: list[str] = []
        for number, line in read():
            if line.strip():
                count += 1
                three += line.count(mark) == 2
                if not id_line.match(line):
                    plain += 1
                    first = first or number
                elif len(ids) < _COMPARED_LINES:
                    ids.append(line.partition(mark)[0].strip())
        if mark == "\t" and not _are_ids(ids):
            continue
        if count >= 3 and 0 < plain < count / 2:
            shown = "id|text" if mark == "|" else "id, tab, text"
            problems.add(
                first,
                f"no id, although most lines have one ({shown}); give every line an id, or no line a {_MARKS[mark]}",
            )
        if plain:
            continue
        if count and three == count and _is_normalized(read(), mark):
            problems.warn("the list has three columns like LJSpeech (id|text|normalized text); the third one is spoken")
            return 3, mark
        return 2, mark
    return 1, ""


_MARKS = {"|": "bar", "\t": "tab"}


def _are_ids(found: Sequence[str]) -> bool:
    is_short = all(len(one) <= _LONGEST_TAB_ID and len(one.split()) <= _MOST_ID_WORDS for one in found)
    return bool(found) and is_short and len(set(found)) == len(found) and not any(one[-1] in ".!?:," for one in found)


def _is_normalized(lines: Iterator[tuple[int, str]], mark: str) -> bool:
    """Whether the third column is another spelling of the second: about half of its words are the same."""
    same = total = 0
    for _, (_, line) in zip(range(_COMPARED_LINES), lines, strict=False):
        if line.strip():
            written, spoken = (set(part.casefold().split()) for part in line.split(mark)[1:])
            same += len(written & spoken)
            total += min(len(written), len(spoken))
    return same >= 0.4 * total


# --- rows ---


def _read_lines(
    open_list: Callable[[], BinaryIO], encoding: TextEncoding, problems: Problems
) -> Iterator[tuple[int, str]]:
    """Numbered lines without their ends. Only CR, LF and CRLF end a line: JSON may hold U+2028 as it is."""
    is_wide = encoding.name.startswith(("utf-16", "utf-32"))
    with open_text(open_list, encoding) as file:
        number = 0
        while line := file.readline(LONGEST_LINE):
            number += 1
            if len(line) == LONGEST_LINE and not line.endswith("\n"):
                problems.add(number, f"longer than {LONGEST_LINE // 1_000_000} million characters")
                while line and not line.endswith("\n"):
                    line = file.readline(LONGEST_LINE)
                continue
            if not line.isascii() and (
                any("\udc80" <= character <= "\udcff" for character in line) or (is_wide and "\ufffd" in line)
            ):
                problems.add(number, f"bytes that are not {encoding.name}")
            elif "\0" in line:
                problems.add(number, "a NUL character")
            else:
                yield number, unicodedata.normalize("NFC", line.rstrip("\n"))


def _read_line_rows(lines: Iterator[tuple[int, str]], columns: int, mark: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in lines:
        if not line.strip():
            continue
        if columns == 1:
            yield number, {"text": line.strip()}
        elif columns == 2:
            own_id, _, text = line.partition(mark)
            yield number, {"id": own_id.strip(), "text": text.strip()}
        else:
            own_id, text, normalized = line.split(mark)
            yield number, {"id": own_id.strip(), "text": normalized.strip() or text.strip()}


def _has_plain_quotes(lines: Iterator[tuple[int, str]], delimiter: str) -> bool:
    """Whether a table with tabs or bars has quotation marks in its texts: a field continues after its closing mark, or some
    mark is not closed."""
    bar = re.escape(delimiter)
    continues = re.compile(rf'(?:^|{bar})"(?:[^"{bar}]|"")*"[^"{bar}]')
    count = 0
    for _, line in lines:
        count += line.count('"')
        if continues.search(line):
            return True
    return count % 2 == 1


def _read_table_rows(
    numbered: Iterator[tuple[int, str]], layout: _Layout, is_quoted: bool, problems: Problems, known: Sequence[str]
) -> Iterator[tuple[int, dict[str, Any]]]:
    lines = ((number, line) for number, line in numbered if number > layout.skipped)
    # Strict: otherwise a quote that is not closed would add all following rows to its text.
    names: list[str] = []
    for first, row in read_cells(lines, layout.delimiter, is_quoted, is_strict=True, longest_cell=LONGEST_LINE):
        if isinstance(row, BadLine):
            problems.add(first, row.message)
        elif not names:
            names = [_known_name(name.strip(), known) for name in row]
            if "text" not in names:
                there = shorten(", ".join(name for name in names if name))
                raise UsageError(
                    f"The table has no column `text`; its first line is: {there}.",
                    "Name the columns in its first line: " + ", ".join(known) + ".",
                )
            twice = [name for name in known if names.count(name) > 1]
            if twice:
                raise UsageError(f"The table has two columns `{twice[0]}`.", "Rename one of them.")
            problems.add_unknown(first, (name for name in names if name and name not in known))
        elif any(row[len(names) :]):
            problems.add(
                first,
                f"{len(row)} fields, but the first line names {len(names)}; put a text with {layout.delimiter!r} in quotes",
            )
        else:
            fields = ((n, v if n in _TEXTS else v.strip()) for n, v in zip(names, row, strict=False))
            yield first, {name: value for name, value in fields if name and value}
    if not names and not problems.errors.count:
        raise UsageError("The list is empty.", "Name the columns in its first line, then write one text a line.")


def _read_json_rows(
    lines: Iterator[tuple[int, str]], problems: Problems, known: Sequence[str]
) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, found in read_objects(lines):
        if isinstance(found, BadLine):
            problems.add(number, found.message)
            continue
        # pandas writes NaN where a number is missing.
        row = {_known_name(name, known): None if value != value else value for name, value in found.items()}
        problems.add_unknown(number, (name for name in row if name not in known))
        yield number, row


# --- items ---


def _row_errors(row: dict[str, Any], known: Sequence[str]) -> Iterator[str]:
    for name in ("id", "text", "voice", "speaker", "ref", "ref_text", "output", *known[len(FIELDS) :]):
        if isinstance(row.get(name), (dict, list, bool)):
            yield f"{name} is not text"
        elif "\0" in str(row.get(name)):
            yield f"{name} has a NUL character"
    if _SHEET_ERROR.fullmatch(str(row.get("text", "")).strip()):
        yield f"the text is the error of a formula: {row['text']}"
    seed = row.get("seed")
    whole = _whole(seed)
    if seed is not None and not (whole.isascii() and whole.isdigit() and len(whole) < 19):
        yield f"the seed {shorten(str(seed))} is not a whole number from 0"
    for name in ("speed", *SAMPLING):
        if row.get(name) is not None and (what := _number_error(name, row[name])):
            yield f"{name} {shorten(str(row[name]))} {what}"


def _whole(value: Any) -> str:
    """A whole number as spreadsheets write it where some rows have none: 5.0 or 5,0."""
    return str(value).removesuffix(".0").removesuffix(",0")


def _number(value: Any) -> float:
    """A number of a list; NaN for anything else. Spreadsheets of many countries write 0,7."""
    try:
        return math.nan if isinstance(value, (bool, dict, list)) else float(str(value).replace(",", "."))
    except (ValueError, OverflowError):
        return math.nan


def _number_error(name: str, value: Any) -> str:
    """Why a value is outside the limits of the flag of the same name; empty if it is not."""
    number = _number(value)
    if not math.isfinite(number):
        return "is not a number"
    if name in _WHOLE_NUMBERS and number != int(number):
        return "is not a whole number"
    return flags_of(SpeechOptions if name == "speed" else SamplingRequest)[name].problem(number)


def _make_item(number: int, row: dict[str, Any], folder: Path, problems: Problems, style: Mapping[str, str]) -> Item:
    own_id = _to_text(row.get("id")) or ""
    output = (_to_text(row.get("output")) or "").strip()
    name, ending, change = _output_name(output, own_id or f"{number:05d}")
    if change:
        problems.warn(change, number)
    ref, seed = _to_text(row.get("ref")), row.get("seed")
    sampling = tuple(
        (part, int(_number(row[part])) if part in _WHOLE_NUMBERS else _number(row[part]))
        for part in SAMPLING
        if row.get(part) is not None
    )
    return Item(
        number=number,
        id=own_id or name,
        name=name,
        text=_to_text(row.get("text")) or "",
        ending=ending,
        voice=_to_text(row.get("voice")),
        speaker=_to_text(row.get("speaker")),
        ref=folder / ref if ref else None,
        ref_text=_to_text(row.get("ref_text")),
        seed=None if seed is None else int(_whole(seed)),
        sampling=sampling,
        speed=None if row.get("speed") is None else _number(row["speed"]),
        style=tuple((part, text) for column, part in style.items() if (text := _to_text(row.get(column)))),
        is_numbered=not (own_id or output),
    )


def _to_text(value: Any) -> str | None:
    """JSON may hold a number where a text is expected, and lone surrogates, which can't be written to a file."""
    return None if value is None else str(value).encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _output_name(output: str, otherwise: str) -> tuple[str, str | None, str]:
    """Returns a safe relative path without ending, the ending, and a message about a change.

    Folders in `output` are kept, but no name leads out of the output folder.
    """
    if not output:
        name = safe_name(otherwise)
        changed = f"the id {shorten(otherwise)} can't be a file name; the file is called {name}"
        return name, None, changed if name != otherwise.strip() else ""
    stem, dot, last = output.rpartition(".")
    ending = last.lower() if dot and stem and last.lower() in FILE_FORMATS else None
    wanted = (stem if ending else output).replace("\\", "/")
    parts = [part for part in wanted.split("/") if part.strip(" .")]
    name = "/".join(map(safe_name, parts)) or safe_name(otherwise)
    if wanted.startswith("/") or ".." in PurePosixPath(wanted).parts or re.match(r"[A-Za-z]:/", wanted):
        return name, ending, f"the output {shorten(output)} leads out of the output folder; it is written to {name}"
    changed = f"the output {shorten(output)} can't be a file name; it is written to {name}"
    return name, ending, changed if name != str(PurePosixPath(wanted)) else ""
