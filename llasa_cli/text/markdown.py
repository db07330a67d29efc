"""Markdown -> its words, in paragraphs that a reader would make.

Parsed by markdown-it (CommonMark, with tables and struck text), which comes with rich. What becomes of

    headings            a paragraph of their own, with a full stop where they have no mark
    lists               a line for each item, with a full stop (with a blank line between them: a paragraph); ordered ones with
                        their number; boxes of tasks dropped
    tables              a line for each row, with commas between the cells
    quotes              their paragraphs
    emphasis, struck    the words
    links, images       their text, their description; a bare address as its host ("example.org")
    `inline code`       its words
    $formulas$          the words of their LaTeX, also between \\( \\), \\[ \\] and $$ (`text.latex`)
    definitions         the term, with a full stop, and its text
    ==marked==, H~2~O   the words, H2O
    code blocks         left out
    footnotes           left out, mark and note
    contents            left out: their heading, and items that are a link inside of the text
    boxes, tabs         of MkDocs: their name, with a full stop, and their text
    HTML                tags and comments dropped, with what is in script and style; words between tags are read;
                        <br> ends a line, <break> is a pause (see `text.chunker`)
    front matter        left out (between two lines of --- or +++ at the very beginning)
    link definitions    left out; a link whose definition is far away still gives its text

The text is read in parts. A block is given as soon as a line after it shows that it is complete, and the sentences of a
plain paragraph as soon as no emphasis or link is open in them. So a pipe is spoken as it grows, and a long file is not held
in memory: a block longer than HELD characters is cut.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

from llasa_cli.text.contents import HEADING
from llasa_cli.text.latex import with_spoken_formulas
from llasa_cli.text.sentences import ended, sentence_ends
from llasa_cli.text.unicode import CJK_START

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

HELD = 262144
_FENCE = re.compile(r" {0,3}(?P<marks>`{3,}|~{3,})(?P<info>.*)")
_LONG_HTML = (
    # Blocks that a blank line does not end: how they begin and end (CommonMark 4.6, kinds 1 to 5).
    (re.compile(r" {0,3}<!--"), re.compile(r"-->")),
    (
        re.compile(r" {0,3}<(?:script|pre|style|textarea)(?:[\s>]|$)", re.IGNORECASE),
        re.compile(r"</(?:script|pre|style|textarea)>", re.IGNORECASE),
    ),
    (re.compile(r" {0,3}<\?"), re.compile(r"\?>")),
    (re.compile(r" {0,3}<!\[CDATA\["), re.compile(r"\]\]>")),
)
_FRONT = re.compile(r"\A\ufeff?(?P<line>---|\+\+\+)[ \t]*\n(?=[^\n]*[:=])")
_PLAIN_START = re.compile(r"[^\W\d_]|[\"'“‘«¿¡]")
_PLAIN_BLOCK = re.compile(r"\n*(?:#{1,6}\s|[^\W\d_]|[\"'“‘«¿¡])")
_ITEM = re.compile(r"^\s*(?:[-*+]|\d{1,9}[.)]|>|\|)", re.MULTILINE)
_SIGNS = re.compile(r"\*+|_+|`+|~+|[\[\]()<>|\\\n]")
_BREAK = re.compile(r"<break\b[^<>]*>", re.IGNORECASE)
_LINE_TAG = re.compile(r"<(?:br|/?p|/?div|/?li|/?tr|/?h[1-6]|/?summary|/?details)\b[^<>]*>", re.IGNORECASE)
_TAG = re.compile(r"</?[A-Za-z][^<>]*>|<[!?][^<>]*>")
_UNSPOKEN_HTML = re.compile(r"<!--.*?(?:-->|\Z)|<(script|style)\b.*?(?:</\1\s*>|\Z)", re.IGNORECASE | re.DOTALL)
_ADDRESS = re.compile(
    r"(?:https?|ftp)://(?:[!-.0-~]*@)?(?:www\.)?(?P<host>[^\s/:?#<>()\[\]\"'“”]+?)"
    r"(?::\d+)?(?:[/?#][!-~]*?)?(?=[.,;:!?)\]}'\"]*(?:[^!-~]|$))"
)
_FOOTNOTE = re.compile(r"\[\^[^\[\]\s]{1,60}\](?P<note>:)?")
_FAR_LINK = re.compile(r"\[([^\[\]]{1,300})\]\[[^\[\]]{0,100}\]")
_WIKI_LINK = re.compile(r"\[\[(?:[^\[\]|]{1,300}\|)?([^\[\]|]{1,300})\]\]")
_MARKED = re.compile(r"(?<!=)==(?=\S)([^=\n]+?)(?<=\S)==(?!=)")
_LOWERED = re.compile(r"(?<=\w)~(\w{1,6})~")
_RAISED = re.compile(r"(?<=\w)\^(\w{1,6})\^")
_INSERTED = re.compile(r"(?<![+\w])\+\+(?=\S)([^+\n]+?)(?<=\S)\+\+(?![+\w])")
_TEMPLATE = re.compile(r"\{%.{0,200}?%\}|\{\{.{0,200}?\}\}")
"""Tags and values of site generators (Jekyll, Hugo), which have no words."""
_EMOJI_NAME = re.compile(r"(?<![\w:]):(?:[a-z][a-z0-9_+-]{1,40}|[+-]1):(?![\w:])")
_PRODUCT = re.compile(r"`[^`\n]*`|(?<=\d)\*(?=\d)")
"""The star between two digits, which Markdown takes for emphasis; code stays as it is."""
_CONTAINER = re.compile(r"^:{3,}[ \t]*(?:(?P<kind>[a-z]+)\b)?[ \t]*(?P<title>[^\n]*)$\n?", re.MULTILINE)
_UNSPOKEN = re.compile(
    r"%%(?!%).{0,2000}?%%"  # Obsidian: comments
    r"|[ \t]\^[a-zA-Z][\w-]*[ \t]*$"  # and names of blocks
    r"|!\[\[[^\[\]|]+\.(?:png|jpe?g|gif|svg|webp|pdf|mp[34]|wav|canvas)(?:\|[^\[\]]*)?\]\]|!(?=\[\[)"  # and embedded files
    r"|(?<=\S)\{:?[ ]?[.#][a-z][^{}\n]{0,100}\}|(?<=\))\{[a-z-]+=[^{}\n]{1,100}\}"  # attributes
    r"|[ ]?\[-?@[\w:.-]+[^\[\]\n]{0,200}\](?!\()"  # Pandoc: citations
    r"|\^\[[^\[\]\n]{1,500}\]"  # Pandoc: notes in the line
    r"|^\[\[?_?TOC_?\]?\][ \t]*$|^\*\[[^\[\]\n]+\]:[^\n]*$"  # MkDocs: contents and abbreviations
    r"|^\|[ ](?=[^|\n]*$)",  # Pandoc: the bars of verse
    re.MULTILINE | re.DOTALL | re.IGNORECASE,
)
_SPAN = re.compile(r"(?<![\]!])\[([^\[\]\n]{1,300})\]\{[ ]?[.#][a-zA-Z][^{}\n]{0,100}\}")
_BOX = re.compile(
    r"^(?:(?:!!!|\?\?\?)\+?[ \t]+(?P<kind>[a-z]+)[^\"\n]*(?:\"(?P<title>[^\"\n]*)\")?|===[!+]?[ \t]+\"(?P<tab>[^\"\n]+)\")[^\"\n]*$"
    r"(?P<body>(?:\n(?:[ \t]*\n)*(?:[ ]{4}|\t)[^\n]*)*)",
    re.MULTILINE,
)
"""An admonition or a tab of MkDocs; what is indented below belongs to it."""
_TASK = re.compile(r"\[[ xX]\]\s+")
_DEFINITION = re.compile(r"(\S)\n:[ \t]+")
_ALERT = re.compile(r"\[!(\w+)\]\s*")
_HEADING_NAME = re.compile(r"\s*\{[#.][^{}]*\}\s*\Z")


def read_markdown(parts: Iterable[str]) -> Iterator[str]:
    """Read the words of a Markdown text.

    Args:
        parts: The text with its line ends, in parts that end where a sentence or a line does (`text.incremental`).

    Yields:
        Parts of plain text. Paragraphs have a blank line between them; each item of a list and row of a table is a line.
    """
    blocks = _Blocks()
    for part in parts:
        blocks.held += part
        yield from _spoken(blocks.complete())
    yield from _spoken(blocks.rest())


def _spoken(pieces: Iterable[str]) -> Iterator[str]:
    for piece in pieces:
        words = _words(piece)
        if words.strip():
            # A piece that ends inside a paragraph ends with a sentence.
            yield (
                words
                if piece.endswith("\n")
                else words.rstrip() + ("" if ord(words.rstrip()[-1]) >= CJK_START else " ")
            )


class _Blocks:
    """Finds places where Markdown can be cut without changing what it means."""

    def __init__(self) -> None:
        self.held = ""
        self._seen = 0  # where the first line begins that has not been looked at
        self._safe = 0  # the last safe place before it
        self._first = True
        self._blank = False  # the line before was
        self._fence = ""
        self._html: re.Pattern[str] | None = None

    def complete(self) -> Iterator[str]:
        if self._first and not self._drop_front_matter(final=False):
            return
        self._look()
        if self._safe:
            yield self._take(self._safe)
        if not self._fence and self._html is None:
            over = self._blank and self._seen == len(self.held) and _is_over(self.held)
            end = len(self.held) if over else _plain_end(self.held)
            if end:
                yield self._take(end)
        if len(self.held) > HELD:
            yield from self._too_long()

    def rest(self) -> Iterator[str]:
        if self._first:
            self._drop_front_matter(final=True)
        if self.held:
            yield self.held.rstrip("\n") + "\n"

    def _take(self, end: int) -> str:
        piece, self.held = self.held[:end], self.held[end:]
        self._seen, self._safe = max(0, self._seen - end), 0
        return piece

    def _look(self) -> None:
        """Look at each new complete line. A line that begins at the margin after a blank one is a safe place to cut."""
        while (end := self.held.find("\n", self._seen)) >= 0:
            line = self.held[self._seen : end]
            self._mark(line)
            self._follow(line)
            self._blank = not line.strip()
            self._seen = end + 1
        self._mark(self.held[self._seen : self._seen + 1])

    def _mark(self, line: str) -> None:
        if self._blank and line[:1].strip() and not self._fence and self._html is None:
            self._safe = self._seen

    def _follow(self, line: str) -> None:
        """Follow the blocks that a blank line does not end: fences and some HTML."""
        if self._html is not None:
            if self._html.search(line):
                self._html = None
            return
        fence = _FENCE.fullmatch(line)
        if self._fence:
            if fence and fence["marks"].startswith(self._fence) and not fence["info"].strip():
                self._fence = ""
            return
        if fence and not (fence["marks"][0] == "`" and "`" in fence["info"]):
            self._fence = fence["marks"]
            return
        for begin, end in _LONG_HTML:
            found = begin.match(line)
            if found and not end.search(line, found.end()):
                self._html = end

    def _too_long(self) -> Iterator[str]:
        end = self.held.rfind("\n", 0, HELD) + 1
        if not end:
            end = max((place for place in sentence_ends(self.held, growing=True)), default=0)
        piece = self._take(end or self.held.rfind(" ", 0, HELD) + 1 or HELD)
        yield piece
        if self._fence:  # the following lines are still code
            self.held = self._fence + "\n" + self.held
            self._seen += len(self._fence) + 1

    def _drop_front_matter(self, final: bool) -> bool:
        """Drop the front matter. False if more text is needed to see whether there is any."""
        if not final and self.held.count("\n") < 2 and re.match(r"(?:\ufeff|-|\+|\Z)", self.held):
            return False
        found = _FRONT.match(self.held)
        if found:
            end = re.compile(rf"^(?:{re.escape(found['line'])}|\.\.\.)[ \t]*$", re.MULTILINE).search(
                self.held, found.end()
            )
            if end is None and not final and len(self.held) < HELD:
                return False
            if end is not None:
                self.held = self.held[end.end() :]
        self._first = False
        return True


def _is_over(block: str) -> bool:
    """Whether the blank line after a block ends it: an indented line would continue a list."""
    return bool(_PLAIN_BLOCK.match(block)) and not _ITEM.search(block)


def _plain_end(held: str) -> int:
    """The end of the last complete sentence of a paragraph in which no Markdown is open; 0 if there is none."""
    text = held.lstrip("\n").removeprefix(" ")  # after a sentence that was given
    if not _PLAIN_START.match(text) or len(text) > 65536:
        return 0
    offset, good, at = len(held) - len(text), 0, 0
    depths = dict.fromkeys("*_~`[", 0)
    for end in sentence_ends(text + " ", growing=True):  # a part ends a sentence: a blank would follow
        for found in _SIGNS.finditer(text, at, end):
            if found[0] in ("|", "\n", "\\"):
                return good and offset + good
            _weigh(found, depths)
        at = end
        if not any(depths.values()):
            good = end
    return good and offset + good


def _weigh(found: re.Match[str], depths: dict[str, int]) -> None:
    """Count a sign as opening or closing, roughly as CommonMark does; in doubt it closes nothing."""
    sign, length = found[0][0], len(found[0])
    before = found.string[max(0, found.start() - 1) : found.start()]
    after = found.string[found.end() : found.end() + 1]
    if sign in "[]()<>":
        depths["["] += length if sign in "[(<" else -length
    elif sign == "`":
        depths[sign] ^= length
    elif sign == "_" and before.isalnum() and after.isalnum():
        return
    elif after.strip() and not (before.isalnum() or before in tuple(".,;:!?")):
        depths[sign] += length
    elif before.strip():
        depths[sign] -= length


@lru_cache(maxsize=1)
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])


def _words(piece: str) -> str:
    """One or more complete blocks as paragraphs, each with a blank line after it."""
    piece = _UNSPOKEN.sub("", _SPAN.sub(r"\1", _BOX.sub(_box, piece)))
    piece = _PRODUCT.sub(lambda found: found[0] if found[0][0] == "`" else r"\*", with_spoken_formulas(piece))
    return _Reader().read(_parser().parse(piece))


class _Reader:
    """Walks over the tokens of a parsed piece."""

    def __init__(self) -> None:
        self._paragraphs: list[str] = []
        self._lines: list[str] = []  # the lines of the open list or table
        self._cells: list[str] = []
        self._number = ""
        self._depth = 0  # the depth of lists and tables
        self._line_number = 0  # in the source, of the end of what was read last

    def read(self, tokens: list[Token]) -> str:
        for position, token in enumerate(tokens):
            kind = token.type
            if kind in ("bullet_list_open", "ordered_list_open", "table_open"):
                self._depth += 1
            elif kind in ("bullet_list_close", "ordered_list_close", "table_close"):
                self._depth -= 1
                if not self._depth:
                    self._end_lines()
            elif kind == "list_item_open":
                self._number = f"{token.info}. " if token.info else ""
            elif kind == "inline":
                around = tokens[position - 1].type
                begin, end = token.map or (0, 0)
                if begin > self._line_number and around == "paragraph_open":
                    self._end_lines()  # a blank line between two items: they are paragraphs
                self._line_number = end
                if not (self._depth and _is_link_inside(token.children or [])):
                    self._text(_inline(token.children or []), around)
            elif kind == "tr_close":
                self._line(", ".join(cell for cell in self._cells if cell))
                self._cells = []
            elif kind == "html_block":
                self._text(_without_tags(token.content), kind)
        return "".join(f"{paragraph}\n\n" for paragraph in self._paragraphs)

    def _text(self, text: str, kind: str) -> None:
        text = text.strip()
        if kind in ("th_open", "td_open"):
            self._cells.append(text.rstrip(".,;"))
        elif kind == "heading_open" and not HEADING.fullmatch(text):
            self._paragraph(ended(_HEADING_NAME.sub("", text)))
        elif kind != "heading_open" and self._depth:
            self._line(self._number + _TASK.sub("", text, count=1) if _TASK.match(text) else self._number + text)
            self._number = ""
        elif kind != "heading_open":
            text = _DEFINITION.sub(lambda found: ended(found[1]) + "\n", _CONTAINER.sub(_container_name, text)).strip()
            self._paragraph(_ALERT.sub(lambda found: found[1].capitalize() + ". ", text, count=1))

    def _line(self, text: str) -> None:
        if text.strip():
            self._lines.append(ended(text))

    def _paragraph(self, text: str) -> None:
        if text:
            self._paragraphs.append(text)

    def _end_lines(self) -> None:
        self._paragraph("\n".join(self._lines))
        self._lines = []


def _box(found: re.Match[str]) -> str:
    """'!!! note "Do this"' and what is indented below -> "Note. Do this.", and the same as paragraphs."""
    names = ((found["kind"] or "").capitalize(), found["title"] or found["tab"] or "")
    body = re.sub(r"^(?:[ ]{4}|\t)", "", found["body"], flags=re.MULTILINE)
    return " ".join(ended(name) for name in names if name) + f"\n{body}"


def _container_name(found: re.Match[str]) -> str:
    """ ":::tip Do this" -> "Tip. Do this."; the end of a container and a class (`::: {.wide}`) have no words."""
    title = "" if found["title"].startswith("{") else found["title"].strip("[] :")
    return " ".join(ended(part) for part in ((found["kind"] or "").capitalize(), title) if part) + "\n"


def _is_link_inside(tokens: list[Token]) -> bool:
    """Whether it is nothing but a link to a place of the same text, as in a table of contents."""
    return (
        len(tokens) > 2
        and tokens[0].type == "link_open"
        and tokens[-1].type == "link_close"
        and str(tokens[0].attrs.get("href", "")).startswith("#")
        and sum(token.type == "link_open" for token in tokens) == 1
    )


def _inline(tokens: list[Token]) -> str:
    words: list[str] = []
    for token in tokens:
        if token.type == "text":
            found = _FOOTNOTE.match(token.content)
            if found and found["note"] and not "".join(words).rsplit("\n", 1)[-1].strip():
                break  # a note, to the end of its paragraph
            words.append(_of_text(token.content))
        elif token.type == "code_inline":
            words.append(token.content)
        elif token.type == "image":
            words.append(_inline(token.children or []))
        elif token.type in ("softbreak", "hardbreak"):
            words.append("\n")
        elif token.type == "html_inline":
            words.append(_without_tags(token.content))
    return "".join(words)


def _of_text(text: str) -> str:
    if text.startswith("^") and " " not in text:
        return ""  # a footnote mark that was parsed as a link
    text = _EMOJI_NAME.sub("", _TEMPLATE.sub("", _FOOTNOTE.sub("", text)))
    text = _WIKI_LINK.sub(r"\1", text)
    text = _INSERTED.sub(r"\1", text)
    text = _MARKED.sub(r"\1", _LOWERED.sub(r"\1", _RAISED.sub(r"^\1", text)))
    text = _FAR_LINK.sub(r"\1", text)
    return _ADDRESS.sub(lambda found: found["host"], text)


def _without_tags(source: str) -> str:
    source = _UNSPOKEN_HTML.sub("", source)
    if "<" not in source:
        return html.unescape(source)
    pieces, at = [], 0
    for found in _BREAK.finditer(source):
        pieces += [_plain_html(source[at : found.start()]), found[0]]
        at = found.end()
    return "".join([*pieces, _plain_html(source[at:])])


def _plain_html(source: str) -> str:
    return html.unescape(_TAG.sub("", _LINE_TAG.sub("\n", source)))
