"""HTML and XHTML to paragraphs and headings, as a person would read the page aloud."""

from __future__ import annotations

import re
from collections import Counter
from html import escape
from html.parser import HTMLParser

from llasa_cli.documents.document import Block, clean
from llasa_cli.text.markup import UNREAD, VOID, is_hidden

_BLOCKS = set(
    "p div section article aside main header footer li dt dd blockquote figure figcaption caption address ul ol dl body "
    "h1 h2 h3 h4 h5 h6 form fieldset details summary center".split()
)
_NOTES = {"footnote", "footnotes", "endnote", "endnotes", "rearnote", "rearnotes"}
_NOTE_MARK = re.compile(r"\s*[\[(]?\s*(?:\d{1,4}|[*†‡§¶]{1,3}|[ivxlc]{1,6}|[a-z])\s*[\])]?\s*")
_SUPERSCRIPTS = str.maketrans("0123456789+-n", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ⁿ")
SCENE_BREAK = "[pause:1]"
_MOST_MARKS = 50
"""Links and raised characters inside each other; deeper ones are text."""
_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
_CDATA = re.compile(r"<!\[CDATA\[(.*?)(?:\]\]>|\Z)", re.DOTALL)


class HtmlBlocks(HTMLParser):
    """Collects the blocks of a page.

        page = HtmlBlocks()
        page.feed(text)
        page.close()
        page.blocks

    Attributes:
        blocks: Paragraphs and headings in reading order. A table gives one paragraph for each row.
        omitted: The kinds of content that were left out -> their numbers.
    """

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.blocks: list[Block] = []
        self.omitted: Counter[str] = Counter()
        self._text: list[str] = []
        self._anchors: list[str] = []
        self._level = 0
        self._skipped: list[str] = []
        """Open elements inside the outermost skipped one, which comes first."""
        self._skipped_names: Counter[str] = Counter()
        self._marks: list[tuple[str, int, bool]] = []
        """Open `a` and `sup` elements: name, where their text begins, whether a link leads inside the document."""
        self._cells = 0

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attributes}
        if self._skipped:
            self._skip(tag)
            return
        self._anchors += [values[name] for name in ("id", "name") if values.get(name)]
        reason = self._reason_to_skip(tag, values)
        if reason is not None:
            if reason:
                self.omitted[reason] += 1
            self._skip(tag)
        elif tag == "br":
            self._text.append("\n")
        elif tag == "hr":
            self._end_block()
            if self.blocks:
                self.blocks.append(Block(SCENE_BREAK))
        elif tag in ("a", "sup") and len(self._marks) < _MOST_MARKS:
            self._marks.append((tag, len(self._text), "#" in values.get("href", "")))
        elif tag in ("td", "th"):
            while self._text and not self._text[-1].strip():
                self._text.pop()
            if self._cells and self._text and self._text[-1] != ", ":
                self._text[-1] = self._text[-1].rstrip()
                self._text.append(", ")
            self._cells += 1
        elif tag == "tr" or tag in _BLOCKS:
            self._end_block()
            self._cells = 0
            self._level = int(tag[1]) if re.fullmatch("h[1-6]", tag) else 0

    def _skip(self, tag: str) -> None:
        """Leave out an element until it is closed."""
        if tag not in VOID:
            self._skipped.append(tag)
            self._skipped_names[tag] += 1

    def _reason_to_skip(self, tag: str, values: dict[str, str]) -> str | None:
        """A description of the content that is skipped with this element; empty for an element without content. None if it is read."""
        types = set(f"{values.get('epub:type', '')} {values.get('role', '').replace('doc-', '')}".lower().split())
        if tag == "img":
            return "images"
        if tag in VOID:
            return None
        if tag == "pre":
            return "code blocks"
        if tag in UNREAD or is_hidden(values):
            return ""
        if types & {"pagebreak", "toc", "landmarks", "page-list", "noteref", "backlink"}:
            return ""
        if types & _NOTES:
            return "footnotes"
        return None

    def handle_endtag(self, tag: str) -> None:
        if self._skipped:
            while self._skipped_names[tag]:
                last = self._skipped.pop()
                self._skipped_names[last] -= 1
                if last == tag:
                    break
            return
        if tag in ("a", "sup") and any(mark[0] == tag for mark in self._marks):
            self._end_mark(tag)
        elif tag == "tr" or tag in _BLOCKS:
            self._end_block()
            self._level = 0

    def _end_mark(self, tag: str) -> None:
        """Drop the number of a note; keep other raised characters as such."""
        while self._marks:
            name, start, is_link = self._marks.pop()
            text = "".join(self._text[start:])
            inside_link = is_link or any(mark[2] for mark in self._marks)
            if name == "sup" and text and not inside_link and text.strip().isdigit():
                self._text[start:] = [text.translate(_SUPERSCRIPTS)]
            elif inside_link and _NOTE_MARK.fullmatch(text) and (name == "sup" or not text.strip().isalpha()):
                self._text[start:] = []
            if name == tag:
                return

    def handle_data(self, data: str) -> None:
        if not self._skipped:
            self._text.append(data)

    def _end_block(self) -> None:
        text = clean("".join(self._text))
        self._text, self._marks = [], []
        if text:
            if self._cells and text[-1].isalnum():
                text += "."
            self.blocks.append(Block(text, self._level, tuple(self._anchors)))
            self._anchors = []

    def close(self) -> None:
        super().close()
        self._end_block()


def read_html(text: str) -> HtmlBlocks:
    """Parse a page. Broken HTML is read as far as a browser would guess; nothing raises."""
    page = HtmlBlocks()
    page.feed(_without_open_markup(text))
    page.close()
    return page


def _without_open_markup(text: str) -> str:
    """Remove comments, and let signs that open markup without closing it be text.

    The parser looks to the end of the page for the other end of each, which takes hours for a page that is made of them.
    """
    text = _COMMENT.sub("", text)
    text = _CDATA.sub(lambda found: escape(found[1]), text).replace("<![", "&lt;![")
    closed = text.rfind(">") + 1
    return text[:closed] + text[closed:].replace("<", "&lt;")
