"""Changes of the voice: `[voice:NAME]` in a text, and the turns of a dialogue, become marks that `text.chunker` removes.

    parts = read_dialogue(parts, find, names={"anna", "bob"})
    rows = read_rows(lines)                                {"name": "Anna", "text": "Good evening."} -> the same marks

    [voice:Anna] Good evening. [voice:]                    from here on; without a name, the voice of the text
    Anna: Good evening.                                    a turn, until a blank line or the next turn
    **Anna:** Good evening.     - Anna: Good evening.      the same in Markdown

Turns are looked for only where names are given: elsewhere a line such as "Note: wet paint" is a text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

from llasa_cli.errors import UsageError
from llasa_cli.text.marks import PATTERN, VOICE, mark
from llasa_cli.wording import shorten

Find = Callable[[str], str]
"""A name as it is written -> the name of the voice. Raises UsageError if there is none."""

_VOICE = re.compile(r"\[\s*voice\s*[:=](?P<name>[^\[\]\n]{0,200})(?P<end>\]?)", re.IGNORECASE)
_MARK = re.compile(PATTERN)
_MARKS = re.compile(rf"(?:{PATTERN})*")
_NAME = r"(?P<name>[^\W_][^\W_'’.-]*(?:[ '’.-]{1,2}[^\W_]+){0,4}\.?)"
_TURN = re.compile(
    rf"[ \t]{{0,8}}(?:[-*+>•][ \t]+|[—–-][ \t]*)?(?:\*\*|__)?{_NAME}[ \t]*(?:\*\*|__)?[ \t]*[:：](?:\*\*|__)?(?=\s|$)[ \t]*"
)
_MOST_WORDS = 3
"""Words of a name before a colon that is refused if the cast lacks it; longer ones are taken for text."""
_NAMES = ("name", "speaker", "voice", "character", "role")
_TEXTS = ("text", "content", "line")


def read_dialogue(parts: Iterable[str], find: Find, names: Collection[str] = ()) -> Iterator[str]:
    """Replace the signs of a change of voice by marks. Voices that are marks already, as those of SSML are, are checked.

    Args:
        parts: The text in the parts in which it arrives.
        find: Checks the name of a voice.
        names: The names of a cast, in small letters. With them lines `Name: text` are turns.

    Raises:
        UsageError: A name is unknown, or `[voice:NAME` is not closed; the message has its line. (That of a mark has none: the
            lines of its file are gone.)
    """

    def check_mark(found: re.Match[str]) -> str:
        name = found["value"]
        return mark(VOICE, find(name)) if found["mark"] == VOICE and name else found[0]

    number, is_begin, in_turn = 1, True, False
    for part in parts:
        pieces = []
        for line in _MARK.sub(check_mark, part).splitlines(keepends=True):
            if is_begin and names:
                if in_turn and not line.strip():
                    pieces.append(mark(VOICE, ""))
                    in_turn = False
                # A turn may be the first line of a chapter, which begins with a mark.
                before = _MARKS.match(line)[0]  # type: ignore[index]
                found = _TURN.match(line, len(before))
                if found is not None and _is_turn(found["name"], names):
                    pieces += [before, mark(VOICE, _checked(found["name"], number, find))]
                    line, in_turn = line[found.end() :], True
            pieces.append(_VOICE.sub(lambda one, at=number: mark(VOICE, _named(one, at, find)), line))  # type: ignore[misc]
            is_begin = line.endswith(("\n", "\r"))
            number += is_begin
        yield "".join(pieces)


def has_voices(text: str) -> bool:
    """Whether a text changes the voice by `[voice:NAME]`, closed or not."""
    return _VOICE.search(text) is not None


def _is_turn(name: str, names: Collection[str]) -> bool:
    """Whether a name before a colon is one of the cast, or looks like one that is missing in it."""
    if name.casefold() in names:
        return True
    words = name.split()
    return len(words) <= _MOST_WORDS and all(word[0].isupper() for word in words)


def _named(found: re.Match[str], number: int, find: Find) -> str:
    if not found["end"]:
        raise UsageError(
            f"Line {number}: {shorten(found[0])} is not closed.",
            "Write [voice:NAME], or [voice:] for the voice of the text.",
        )
    return _checked(found["name"], number, find)


def _checked(name: str, number: int, find: Find) -> str:
    name = " ".join(name.split())
    if not name:
        return ""
    try:
        return find(name)
    except UsageError as error:
        raise UsageError(f"Line {number}: {error.message}", error.hint) from error


def read_rows(lines: Iterable[str], find: Find) -> Iterator[str]:
    """The turns of a dialogue in JSON lines: the field `name` (or speaker, voice, character, role) and `text` (or content, line).

    Raises:
        UsageError: A line is not such an object, or its name is unknown; the message has its number.
    """
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UsageError(f"Line {number} is not JSON: {shorten(line)}") from error
        text = _field(row, _TEXTS, number)
        if text is None:
            raise UsageError(f"Line {number} has no text: {shorten(line)}", 'Write {"name": "Anna", "text": "Hello."}')
        name = _field(row, _NAMES, number) or ""
        # The sign of a change of voice inside of a text is read later, like that of any text.
        yield f"{mark(VOICE, _checked(name, number, find))}{text}\n\n"


def _field(row: Any, names: Iterable[str], number: int) -> str | None:
    if not isinstance(row, dict):
        raise UsageError(f"Line {number} is not a JSON object.", 'Write {"name": "Anna", "text": "Hello."}')
    value = next((row[name] for name in names if row.get(name) is not None), None)
    if value is not None and not isinstance(value, str):
        raise UsageError(f"Line {number}: {shorten(str(value))} is not text.")
    return value
