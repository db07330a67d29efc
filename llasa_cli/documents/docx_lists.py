"""The automatic numbers of Word's lists and headings, which are not part of the text of a document."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from llasa_cli.text.list_numbers import list_number

_WORD = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
_KINDS = {"lowerLetter": "a", "upperLetter": "A", "lowerRoman": "i", "upperRoman": "I"}
_NO_NUMBERS = ("bullet", "none")
_MOST_STYLES = 20
"""The styles that are based on each other."""


@dataclass(frozen=True)
class _Level:
    """How the items of a level are numbered: "%1.%2" stands for the numbers of the first two levels."""

    start: int
    form: str
    text: str
    style: str


class ListNumbers:
    """Counts the items of the lists of a document.

    Args:
        document: A document of python-docx. It may have no lists.
    """

    def __init__(self, document: Any) -> None:
        self._levels: dict[str, dict[int, _Level]] = {}
        """Definition of a list -> its levels."""
        self._lists: dict[str, tuple[str, dict[int, int]]] = {}
        """List -> its definition, and the levels at which it begins anew, with their first numbers."""
        self._styles: dict[str, tuple[str, int]] = {}
        self._counts: dict[str, dict[int, int]] = {}
        self._begun: set[tuple[str, int]] = set()
        with suppress(KeyError, NotImplementedError):  # a document without lists
            self._read(document.part.numbering_part.element)
            self._read_styles(document.styles.element)

    def _read(self, numbering: Any) -> None:
        for definition in numbering.iter(f"{_WORD}abstractNum"):
            self._levels[_of(definition, "abstractNumId")] = {
                _whole(_of(level, "ilvl")): _Level(
                    _whole(_value(level, "start"), 1),
                    _value(level, "numFmt") or "decimal",
                    _value(level, "lvlText"),
                    _value(level, "pStyle"),
                )
                for level in definition.iter(f"{_WORD}lvl")
            }
        for one in numbering.iter(f"{_WORD}num"):
            starts = {
                _whole(_of(change, "ilvl")): _whole(_value(change, "startOverride"), 1)
                for change in one.iter(f"{_WORD}lvlOverride")
                if _value(change, "startOverride")
            }
            self._lists[_of(one, "numId")] = _value(one, "abstractNumId"), starts

    def _read_styles(self, styles: Any) -> None:
        found = {_of(style, "styleId"): style for style in styles.iter(f"{_WORD}style")}
        for name, style in found.items():
            for _ in range(_MOST_STYLES):
                if style is None:
                    break
                if numbers := _value(style, "numId"):
                    definition, _ = self._lists.get(numbers, ("", {}))
                    levels = self._levels.get(definition, {})
                    own = next((at for at, level in levels.items() if level.style == name), None)
                    self._styles[name] = numbers, _whole(_value(style, "ilvl")) if own is None else own
                    break
                style = found.get(_value(style, "basedOn"))

    def before(self, paragraph: Any) -> str:
        """The number that Word shows before a paragraph, which is counted; empty if there is none."""
        properties = paragraph.find(f"{_WORD}pPr")
        if properties is None:
            return ""
        number, at = self._styles.get(_value(properties, "pStyle"), ("", 0))
        numbering = properties.find(f"{_WORD}numPr")
        if numbering is not None:
            number, at = _value(numbering, "numId") or number, _whole(_value(numbering, "ilvl"), at)
        definition, starts = self._lists.get(number, ("", {}))
        levels = self._levels.get(definition, {})
        if at not in levels:
            return ""
        counts = self._counts.setdefault(definition, {})
        if at in starts and (number, at) not in self._begun:
            self._begun.add((number, at))
            counts[at] = starts[at] - 1
        counts[at] = counts.get(at, levels[at].start - 1) + 1
        for deeper in [level for level in counts if level > at]:
            del counts[deeper]
        if levels[at].form in _NO_NUMBERS:
            return ""

        def written(found: re.Match[str]) -> str:
            level = levels.get(int(found[1]) - 1, levels[at])
            count = counts.get(int(found[1]) - 1, level.start)
            return f"{count:02}" if level.form == "decimalZero" else list_number(count, _KINDS.get(level.form, "1"))

        return re.sub(r"%([1-9])", written, levels[at].text).strip()


def _of(element: Any, name: str) -> str:
    return element.get(f"{_WORD}{name}") or ""


def _value(element: Any, name: str) -> str:
    """The value of the first element of this name inside."""
    found = next(element.iter(f"{_WORD}{name}"), None)
    return _of(found, "val") if found is not None else ""


def _whole(written: str, otherwise: int = 0) -> int:
    return int(written) if re.fullmatch(r"\d{1,6}", written) else otherwise
