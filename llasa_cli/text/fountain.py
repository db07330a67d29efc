"""Screenplays in Fountain (.fountain) as plain text.

title page                  its title and author
INT. KITCHEN - DAY          Interior. Kitchen, Day.
MARY (V.O.)                 a turn of a dialogue, "Mary: ...", with the lines below
(smiling), CUT TO:, [[note]], /* boneyard */, # sections, = synopses      left out
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

_TITLE_KEY = re.compile(r"(?P<key>[A-Z][\w ]{1,30}):[ \t]*(?P<value>.*)")
_SAID_KEYS = ("title", "credit", "author", "authors")
_SCENE = re.compile(
    r"(?:\.(?=\w)(?P<forced>.+)|(?P<where>INT\.?/EXT|EXT\.?/INT|I/E|INT|EXT|EST)[. ]+(?P<place>\S.*))", re.IGNORECASE
)
_WHERE = {"int": "Interior", "ext": "Exterior", "est": "Exterior"}
_SCENE_NUMBER = re.compile(r"\s*#[\w.-]+#\s*$")
_CHARACTER = re.compile(r"(?:@(?P<forced>\S[^(^]*)|(?P<name>[^\Wa-z\d_][^a-z(^]*))(?:\([^()]*\)\s*)*\^?")
_TRANSITION = re.compile(r">(?!.*<\s*$).*|[^a-z]*(?:\bTO:|\bFADE (?:IN|OUT)[:.]?)")
_UNSPOKEN = re.compile(r"\[\[.*?(?:\]\]|\Z)|/\*.*?(?:\*/|\Z)", re.DOTALL)
_EMPHASIS = re.compile(r"(?<![\w\\])[*_]{1,4}(?=\S)|(?<=[^\s\\])[*_]{1,4}(?!\w)")
_LONGEST_HELD = 65536


def read_fountain(parts: Iterable[str]) -> Iterator[str]:
    """Read a screenplay.

    Yields:
        Paragraphs of plain text. One that begins with `Name:` is a turn of a dialogue (see `text.dialogue`).
    """
    is_first = True
    for block in _blocks(parts):
        lines = [line.strip() for line in block.split("\n") if line.strip()]
        if is_first and lines and _TITLE_KEY.match(lines[0]):
            yield from _title_page(lines)
        elif lines:
            yield from _paragraphs(lines)
        is_first = is_first and not lines


def _blocks(parts: Iterable[str]) -> Iterator[str]:
    """The lines between two blank ones, without notes and comments, which may hold blank lines."""
    held = ""
    for part in parts:
        held += part
        is_open = _is_open(held, "/*", "*/") or _is_open(held, "[[", "]]")
        if "\n\n" in held and (not is_open or len(held) > _LONGEST_HELD):
            *complete, held = re.split(r"\n[ \t]*\n", _UNSPOKEN.sub("", held))
            yield from complete
    yield from re.split(r"\n[ \t]*\n", _UNSPOKEN.sub("", held))


def _is_open(text: str, begin: str, end: str) -> bool:
    return text.rfind(begin) > text.rfind(end)


def _title_page(lines: list[str]) -> Iterator[str]:
    key = ""
    for line in lines:
        found = _TITLE_KEY.fullmatch(line)
        key, value = (found["key"].casefold(), found["value"]) if found else (key, line)
        if key in _SAID_KEYS and value:
            yield _plain(value) + "\n\n"


def _paragraphs(lines: list[str]) -> Iterator[str]:
    first, *rest = lines
    if scene := _SCENE.fullmatch(first) if not first.startswith("..") else None:
        yield _scene(scene) + "\n\n"
        yield from _paragraphs(rest) if rest else ()
    elif rest and (character := _CHARACTER.fullmatch(first)):
        name = " ".join((character["forced"] or _titled(character["name"])).split())
        said = [_plain(line.removeprefix("~")) for line in rest if not re.fullmatch(r"\(.*\)", line)]
        yield f"{name}: " + "\n".join(said) + "\n\n"
    elif not (_TRANSITION.fullmatch(first) and not rest):
        kept = [line for line in lines if not re.match(r"#|=", line)]
        text = "\n".join(_plain(line.lstrip("!~").strip("> <") if line[0] in "!~>" else line) for line in kept)
        if text:
            yield text + "\n\n"


def _scene(found: re.Match[str]) -> str:
    place = _SCENE_NUMBER.sub("", found["forced"] or found["place"]).strip()
    words = [_titled(part) if part.isupper() else part for part in re.split(r"\s+[-–—]+\s+", _plain(place))]
    parts = [
        _WHERE.get(part, "Exterior")
        for part in re.split(r"\W+", (found["where"] or "").lower().replace("i/e", "int/ext"))
        if part
    ]
    return "".join(f"{name}. " for name in (", ".join(parts),) if name) + ", ".join(words).rstrip(".") + "."


def _titled(text: str) -> str:
    """BRICK'S PATIO -> Brick's Patio"""
    return re.sub(
        r"(?P<end>(?<=\w['’])(?:S|T|D|M|RE|LL|VE)\b)|[^\W\d_]+",
        lambda found: found[0].lower() if found["end"] else found[0].capitalize(),
        text,
    )


def _plain(text: str) -> str:
    return _EMPHASIS.sub("", text).replace("\\*", "*").replace("\\_", "_")
