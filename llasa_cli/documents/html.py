"""HTML and XHTML to paragraphs and headings, as a person would read the page aloud."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from html import escape
from html.parser import HTMLParser

from llasa_cli.documents.document import CHAPTER_LINE, Block, as_sentence, clean
from llasa_cli.text.contents import HEADING
from llasa_cli.text.list_numbers import OrderedLists, numbered
from llasa_cli.text.markup import CELL_BLOCKS, LISTS, VOID, NoteMarks, unspoken_content

_BLOCKS = set(
    "p div section article aside main header footer li dt dd blockquote figure figcaption caption address ul ol dl body "
    "h1 h2 h3 h4 h5 h6 hgroup form fieldset details summary center".split()
)
_LINE_END = "\x1f"
_SUBTITLE = 6
"""The level of a paragraph beside a heading, in <hgroup>."""
_LEAST_LINKS, _LINK_SHARE = 3, 0.7
"""The links of a page of contents, and the share of its characters in them."""
SCENE_BREAK = "[pause:1]"
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
        is_contents: Whether nearly all of it is links to other pages or places of the document.

    Args:
        notes: The marks of notes on the pages before it.
    """

    def __init__(self, notes: NoteMarks | None = None) -> None:
        super().__init__(convert_charrefs=True)
        self.blocks: list[Block] = []
        self.omitted: Counter[str] = Counter()
        self._text: list[str] = []
        self._anchors: list[str] = []
        self._level = 0
        self._skipped: list[str] = []
        """Open elements inside the outermost skipped one, which comes first."""
        self._skipped_names: Counter[str] = Counter()
        self._notes = notes or NoteMarks()
        self._groups = 0  # open <hgroup> elements
        self._in_link = False
        self._links = self._linked = 0  # links inside the document, and the characters in them
        self._begun = -1  # where the words of an open link to a place of the page begin
        self._led = 0  # the characters of the block in such links
        self._cells = 0
        self._cell = -1  # where the words of the open cell begin
        self._is_over = False  # whether a paragraph in it has ended
        self._lists, self._number = OrderedLists(), ""

    @property
    def is_contents(self) -> bool:
        texts = [block.text for block in self.blocks if not block.level]
        return self._links >= _LEAST_LINKS and self._linked > _LINK_SHARE * sum(map(len, texts))

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
            self._text.append(_LINE_END)
        elif tag == "hr":
            self._end_block()
            if self.blocks:
                self.blocks.append(Block(SCENE_BREAK))
        elif tag in ("a", "sup"):
            link = values.get("href", "")
            self._notes.begin(tag, self._text, link)
            if tag == "a" and link and not re.match(r"[a-z][a-z0-9+.-]*:", link, re.IGNORECASE):
                self._links, self._in_link = self._links + 1, True
                self._begun = len(self._text) if link.startswith("#") else self._begun
        elif tag in ("td", "th"):
            while self._text and not self._text[-1].strip():
                self._text.pop()
            if self._cells and self._text and self._text[-1] != ", ":
                self._text[-1] = self._text[-1].rstrip()
                self._text.append(", ")
            self._cells += 1
            self._cell, self._is_over = len(self._text), False
        elif tag in CELL_BLOCKS and self._cell >= 0 and not "".join(self._text[self._cell :]).strip():
            pass  # a paragraph that is the whole cell
        elif tag == "tr" or tag in _BLOCKS:
            self._end_block()
            self._cells = 0
            self._groups += tag == "hgroup"
            self._level = int(tag[1]) if re.fullmatch("h[1-6]", tag) else _SUBTITLE if self._groups else 0
            if tag in LISTS:
                self._lists.begin(tag, values)
            elif tag == "li":
                self._number = self._lists.item(values)

    def _skip(self, tag: str) -> None:
        """Leave out an element until it is closed."""
        if tag not in VOID:
            self._skipped.append(tag)
            self._skipped_names[tag] += 1

    def _reason_to_skip(self, tag: str, values: dict[str, str]) -> str | None:
        """A description of the content that is skipped with this element; empty for an element without content. None if it is read."""
        if tag == "img":
            return "images"
        if tag in VOID:
            return None
        return "code blocks" if tag == "pre" else unspoken_content(tag, values)

    def handle_endtag(self, tag: str) -> None:
        if self._skipped:
            while self._skipped_names[tag]:
                last = self._skipped.pop()
                self._skipped_names[last] -= 1
                if last == tag:
                    break
            return
        if tag in ("a", "sup"):
            self._notes.end(tag, self._text)
            self._in_link = self._in_link and tag != "a"
            if tag == "a" and self._begun >= 0:
                self._led += len("".join(self._text[self._begun :]).strip())
                self._begun = -1
        elif tag in ("td", "th"):
            self._cell, self._is_over = -1, False
        elif tag in CELL_BLOCKS and self._cell >= 0:
            self._is_over = True
        elif tag == "tr" or tag in _BLOCKS:
            self._end_block()
            self._groups -= tag == "hgroup"
            self._level = _SUBTITLE if self._groups > 0 else 0
            if tag in LISTS:
                self._lists.end(tag)
            self._number = "" if tag in ("li", *LISTS) else self._number

    def handle_data(self, data: str) -> None:
        if not self._skipped:
            if self._is_over and data.strip():
                self._end_block()  # a paragraph goes before in the cell
            self._text.append(data)
            self._linked += len(data.strip()) * self._in_link

    def _end_block(self) -> None:
        text = _lines("".join(self._text))
        is_contents = 0 < len(text) <= self._led
        self._text, self._begun, self._led = [], -1, 0
        self._cell, self._is_over = -1, False
        if not text:
            return
        if self._notes.end_block(self._anchors, is_heading=self._level > 0):
            self.omitted["footnotes"] += 1
            self._lists.is_of_notes()
        elif not (HEADING.fullmatch(text) if self._level else is_contents):
            if self._level:
                text = _heading(text)
            elif self._cells and text[-1].isalnum():
                text += "."
            text, self._number = numbered(self._number, text), ""
            self.blocks.append(Block(text, self._level, tuple(self._anchors)))
        self._anchors = []

    def close(self) -> None:
        super().close()
        self._end_block()
        self.blocks = [replace(block, text=self._lists.written(block.text)) for block in self.blocks]


def _lines(text: str) -> str:
    """The lines of a block, which <br> ends; other line ends are white space."""
    return "\n".join(line for line in map(clean, text.split(_LINE_END)) if line)


def _heading(text: str) -> str:
    """A heading in one line: "Chapter 1" above its name is a sentence of its own."""
    first, _, rest = text.partition("\n")
    label = as_sentence(first) if rest and CHAPTER_LINE.fullmatch(first) else first
    return " ".join(f"{label} {rest}".split())


def read_html(text: str, notes: NoteMarks | None = None) -> HtmlBlocks:
    """Parse a page. Broken HTML is read as far as a browser would guess; nothing raises."""
    page = HtmlBlocks(notes)
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
