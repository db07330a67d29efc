"""The numbers before the items of ordered lists, as browsers and word processors show them."""

from __future__ import annotations

import re
from collections.abc import Mapping

_ROMAN = (
    *((1000, "m"), (900, "cm"), (500, "d"), (400, "cd"), (100, "c"), (90, "xc"), (50, "l"), (40, "xl"), (10, "x")),
    *((9, "ix"), (5, "v"), (4, "iv"), (1, "i")),
)
_STYLES = {"alpha": "a", "latin": "a", "roman": "i"}
_UNNUMBERED = re.compile(r"(?:list-?)?(?:unstyled|none|plain|no-?(?:bullets?|numbers?|style))", re.IGNORECASE)
_STYLE = re.compile(
    r"list-style(?:-type)?\s*:[^;]*?\b(?:(?P<none>none)|(?P<case>lower|upper)-(?P<kind>alpha|latin|roman))\b"
)
_OPEN, _CLOSE = "\x0e", "\x0f"
_SIGN = re.compile(rf"{_OPEN}(\d+) (-?\d+) (\w*)[^{_CLOSE}]*{_CLOSE}")
_MOST_OPEN = 50
"""Lists inside each other; deeper ones have no numbers."""


def list_number(value: int, kind: str = "1") -> str:
    """A number of a list: "1", "a", "A", "i" or "I" say how it is written, as in HTML. Letters and numerals begin at 1."""
    if kind.lower() == "i" and 0 < value < 4000:
        written = ""
        for unit, sign in _ROMAN:
            written += sign * (value // unit)
            value %= unit
    elif kind.lower() == "a" and 0 < value < 18_279:
        written = ""
        while value:
            value, letter = divmod(value - 1, 26)
            written = chr(ord("a") + letter) + written
    else:
        return str(value)
    return written.upper() if kind.isupper() else written


class _List:
    """An open list: its element, the number of the next item, and how that is written (empty: it is not)."""

    def __init__(self, tag: str, attributes: Mapping[str, str]) -> None:
        self.tag = tag
        self.next, self.step = _whole(attributes.get("start"), 1), 1
        style = _STYLE.search(attributes.get("style", ""))
        is_unnumbered = any(map(_UNNUMBERED.fullmatch, attributes.get("class", "").split()))
        if tag != "ol" or is_unnumbered or (style and style["none"]):
            self.kind = ""
        elif style:
            kind = _STYLES[style["kind"]]
            self.kind = kind.upper() if style["case"] == "upper" else kind
        else:
            self.kind = attributes.get("type") or "1"
        self.place = -1
        """Of a list in reverse order whose first number is not stated: which of these it is."""


class OrderedLists:
    """Counts the items of the lists of an HTML page.

    Attributes:
        is_counting: Whether a list is open whose first number is that of its items; the numbers of its items are signs until
            it ends, which `written` replaces.
    """

    def __init__(self) -> None:
        self._open: list[_List] = []
        self._counts: list[int] = []
        """The items of the lists in reverse order."""
        self.is_counting = False

    def begin(self, tag: str, attributes: Mapping[str, str]) -> None:
        """A list begins."""
        if len(self._open) < _MOST_OPEN:
            found = _List(tag, attributes)
            if "reversed" in attributes:
                found.step = -1
                if "start" not in attributes and found.kind:
                    found.next, found.place = 0, len(self._counts)
                    self._counts.append(0)
                    self.is_counting = True
            self._open.append(found)

    def end(self, tag: str) -> None:
        """A list ends, and with it those inside that were not closed."""
        if any(one.tag == tag for one in self._open):
            while self._open.pop().tag != tag:
                pass
            self.is_counting = any(one.place >= 0 for one in self._open)

    def close(self) -> None:
        """The page ends, and with it the lists that are open."""
        self._open, self.is_counting = [], False

    def is_of_notes(self) -> None:
        """The list has footnotes, which are left out: what else is in it has no numbers."""
        if self._open:
            self._open[-1].kind = ""

    def item(self, attributes: Mapping[str, str]) -> str:
        """The number before the words of the item that begins, "3. "; empty if it has none."""
        if not self._open or not self._open[-1].kind:
            return ""
        one = self._open[-1]
        number = _whole(attributes.get("value"), one.next)
        one.next = number + one.step
        kind = attributes.get("type") or one.kind
        if one.place >= 0:
            self._counts[one.place] += 1
            return f"{_OPEN}{one.place} {number} {kind}{_CLOSE}. "
        return f"{list_number(number, kind)}. " if number >= 0 else ""

    def written(self, text: str) -> str:
        """A text with the numbers of lists that have ended."""
        return _SIGN.sub(lambda found: list_number(self._counts[int(found[1])] + int(found[2]), found[3]), text)


def numbered(number: str, text: str) -> str:
    """The text of an item with its number, unless it begins with that number itself."""
    return text if text.startswith((number[:-1], f"{number[:-2]})")) else number + text


def _whole(written: str | None, otherwise: int) -> int:
    return int(written) if written and re.fullmatch(r"\s*-?\d{1,6}\s*", written) else otherwise
