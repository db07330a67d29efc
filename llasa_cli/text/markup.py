"""Marked-up text -> its words: plain text, Markdown, HTML, SSML and subtitles, recognized by what they hold.

    read_markup(["<p>Hello <b>world</b>.</p>"])  ->  "Hello world."

In every format the codes of a colored terminal are removed. What becomes of

    plain       entities ("&amp;") are decoded; rows of signs ("====") and box drawings are left out
    markdown    see `text.markdown`
    html        the words; headings and items of a list get a full stop, cells commas; script, style and head are left out
    ssml        the words; <break> stays (a pause for `text.chunker`), <sub alias> is replaced; other elements have no effect
    srt         the words of SubRip and WebVTT cues, without numbers, times, notes and tags

The text is read in parts, so that a pipe is spoken as it grows and a long file is not held.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterable, Iterator
from html.parser import HTMLParser
from itertools import chain

from llasa_cli.settings import TEXT_FORMATS as FORMATS
from llasa_cli.text.sentences import ended

_ANSI = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]{0,400}(?:\x07|\x1b\\)|[@-Z\\^_])|[\x00-\x08\x0b\x0e-\x1f\x7f]"
)
_OPEN_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|\][^\x07\x1b]{0,400}\x1b?)?\Z")
_SSML = re.compile(r"\s*(?:<\?xml[^<>]*>\s*)?(?:<!--.*?-->\s*)*<speak\b", re.DOTALL)
_TIME = r"(?:\d{1,2}:)?\d{1,2}:\d\d[,.]\d{1,3}"
_CUE_TIMES = re.compile(rf"\s*{_TIME}\s*-->\s*{_TIME}.*")
_SUBTITLES = re.compile(rf"\ufeff?\s*(?:WEBVTT\b[^\n]*\n|(?:\d+[ \t]*\n)?\s*{_TIME}\s*-->)")
_HTML_NAMES = (
    "p|b|i|u|s|a|em|strong|span|div|br|hr|h[1-6]|ul|ol|li|dl|dt|dd|table|thead|tbody|tr|td|th|blockquote|code|pre|sub|sup|"
    "small|big|mark|del|ins|q|cite|font|center|img|figure|figcaption|section|article|header|footer|main|nav|aside|html|body|"
    "head|title|script|style"
)
_HTML = re.compile(
    rf"\s*<(?:!doctype html|html|head|body)\b|</(?:{_HTML_NAMES})\s*>|<(?:p|br|hr|div|h[1-6]|ul|ol|li|table|img)\b[^<>]*>",
    re.IGNORECASE,
)
_HTML_DOCUMENT = re.compile(r"\s*(?:<!--.*?-->\s*)*<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE | re.DOTALL)
_MARKDOWN = re.compile(
    r"^#{1,6}[ \t]+\S|^ {0,3}(?:```|~~~)[ \t]*[\w+#.-]*[ \t]*$|\*\*[^\s*](?:[^*\n]*[^\s*])?\*\*|(?<!\w)__[^\s_](?:[^_\n]*[^\s_])?__(?!\w)"
    r"|!?\[[^\[\]\n]{1,200}\]\((?:https?:|mailto:|/|\.|#)[^()\s]*\)|^\|?[ \t]*:?-{3,}:?[ \t]*\|[ \t|:-]*$|^[-*+] \[[ xX]\] ",
    re.MULTILINE,
)
_ENTITY = re.compile(r"&(?:[a-zA-Z][a-zA-Z\d]{1,30}|#\d{1,7}|#[xX][\da-fA-F]{1,6});")
_SIGN_LINE = re.compile(r"^[ \t]*([=\-_*~#+.·•–—])(?:[ \t]*\1){2,}[ \t]*$", re.MULTILINE)
_SIGN_ROW = re.compile(r"([=*~#_+^|])\1{2,}|-{4,}|(?<!<)<<+(?=\w)|(?<=[\w.!?,])>>+|[\u2500-\u259f]+")
_DOT_LEADERS = re.compile(r"[ \t]*(?:\.[ \t]?){4,}(?=[ \t]*\d)")
_RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹", "[]()*† ")


def read_markup(parts: Iterable[str], text_format: str = "auto") -> Iterator[str]:
    """Read the words of a text in any of FORMATS.

    Args:
        parts: The text in the parts in which it arrives, line ends included. A part ends where a sentence or a line does
            (`text.incremental`), or it is the whole text.
        text_format: One of FORMATS. "auto" looks for the first sign of a format and takes the text for plain before it.

    Yields:
        Parts of plain text. Blank lines are between paragraphs; `<break>` and `[pause:1]` stay for `text.chunker`.

    Raises:
        ValueError: The format is unknown.
    """
    if text_format not in FORMATS:
        raise ValueError(f"The text format must be one of {', '.join(FORMATS)}, not {text_format!r}.")
    clean = _without_terminal_codes(parts)
    return _read_auto(clean) if text_format == "auto" else _READERS[text_format](clean)


def sniff(text: str) -> str:
    """The format of a text, by its beginning for SSML and subtitles, else by any sign in it: one of FORMATS but "auto"."""
    if _SSML.match(text):
        return "ssml"
    if _SUBTITLES.match(text):
        return "srt"
    if _HTML_DOCUMENT.match(text):
        return "html"
    if _MARKDOWN.search(text):
        return "markdown"
    return "html" if _HTML.search(text) else "plain"


def _read_auto(parts: Iterator[str]) -> Iterator[str]:
    held = ""
    for part in parts:
        held += part
        if _is_undecided(held.strip()):
            continue
        found = sniff(held)
        if found != "plain":
            if held[0].isspace():
                yield held[: len(held) - len(held.lstrip())]
            yield from _READERS[found](chain([held], parts))
            return
        yield _plain(held)
        held = ""
    if held:
        yield from _READERS[sniff(held)]([held])


def _is_undecided(text: str) -> bool:
    """Whether too little has come to tell the format: the number of a cue, or a tag that is still open."""
    return not text or text.isdigit() or text == "WEBVTT" or (text[0] == "<" and ">" not in text and len(text) < 2000)


def _without_terminal_codes(parts: Iterable[str]) -> Iterator[str]:
    """Remove escape sequences and control characters; a sequence may be torn between two parts."""
    held = ""
    for part in parts:
        text = held + part
        torn = _OPEN_ANSI.search(text)
        held = torn[0] if torn else ""
        text = _ANSI.sub("", text[: len(text) - len(held)])
        if text:
            yield text


def _plain(text: str) -> str:
    text = _ENTITY.sub(lambda match: html.unescape(match[0]), text)
    text = _SIGN_LINE.sub("", text)
    return _SIGN_ROW.sub(" ", _DOT_LEADERS.sub(", ", text))


def _read_plain(parts: Iterable[str]) -> Iterator[str]:
    return map(_plain, parts)


def _read_markdown(parts: Iterable[str]) -> Iterator[str]:
    from llasa_cli.text.markdown import read_markdown

    return read_markdown(parts)


def _read_html(parts: Iterable[str]) -> Iterator[str]:
    return _read_elements(parts, _HtmlWords())


def _read_ssml(parts: Iterable[str]) -> Iterator[str]:
    return _read_elements(parts, _SsmlWords())


def _read_elements(parts: Iterable[str], reader: _HtmlWords) -> Iterator[str]:
    for part in parts:
        reader.feed(part)
        yield from reader.take()
    reader.close()
    reader.end_block()
    yield from reader.take()


_BLOCKS = frozenset(
    "p div section article header footer main aside nav ul ol dl table blockquote figure figcaption h1 h2 h3 h4 h5 h6 pre hr "
    "form body html title details summary fieldset address".split()
)
_LINES = frozenset("li dt dd tr br option caption".split())
_WITH_STOP = frozenset("h1 h2 h3 h4 h5 h6 li dt dd tr caption figcaption title".split())
"""Elements whose text gets a full stop where it has no mark."""


class _HtmlWords(HTMLParser):
    """Collects the words of a document in paragraphs and lines."""

    skipped = frozenset("script style head template svg math object iframe select".split())

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._ready: list[str] = []
        self._words: list[str] = []
        self._skipping: list[str] = []
        self._raised = False

    def take(self) -> list[str]:
        """The blocks that are complete since the last call."""
        ready, self._ready = self._ready, []
        return ready

    def end_block(self, name: str = "p") -> None:
        """End a paragraph, or the line of a list or table."""
        text = "".join(self._words)
        text = "\n".join(" ".join(line.split()) for line in text.split("\n")).strip(" ,\n")
        self._words = []
        if any(character.isalnum() for character in text):
            if name in _WITH_STOP:
                text = ended(text)
            self._ready.append(text + ("\n" if name in _LINES else "\n\n"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "body":
            self._skipping = []
        elif tag in self.skipped:
            self._skipping.append(tag)
        if self._skipping:
            return
        if tag == "break":
            self._words.append(f" {self.get_starttag_text()} ")
        elif tag == "br":
            self._words.append("\n")
        elif tag == "img":
            self._words.append(f" {dict(attrs).get('alt') or ''} ")
        elif tag in _BLOCKS or tag in _LINES:
            self.end_block()
        self._raised = tag == "sup"

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.skipped:
            self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        self._raised = False
        if self._skipping:
            if tag == self._skipping[-1]:
                self._skipping.pop()
        elif tag in ("td", "th"):
            self._words.append(", ")
        elif tag in _BLOCKS or tag in _LINES:
            self.end_block(tag)

    def handle_data(self, data: str) -> None:
        if self._skipping:
            return
        if self._raised and re.fullmatch(r"[\d\[\]()*†, ]+", data):
            data = data.translate(_RAISED)
        self._words.append(re.sub(r"\s+", " ", data))


class _SsmlWords(_HtmlWords):
    """Collects the words of SSML; <sub> is read by its alias."""

    skipped = frozenset("audio desc metadata meta lexicon script style".split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        alias = dict(attrs).get("alias") if tag == "sub" else None
        if alias and not self._skipping:
            self._words.append(alias)
            self._skipping.append("sub")
        elif tag == "s":
            self.end_block()
        else:
            super().handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        if tag == "s" and not self._skipping:
            self.end_block("li")
        else:
            super().handle_endtag(tag)


_CUE_TAGS = re.compile(r"<[^<>]*>|\{\\[^{}]*\}|[♪♫]")


def _read_subtitles(parts: Iterable[str]) -> Iterator[str]:
    """The lines of the cues. Each is a line, so that a sentence continues in the next cue."""
    skipping, after_blank, waiting, previous = False, True, "", ""
    for line in _lines(parts):
        bare = line.strip("\ufeff \t\r")
        if _CUE_TIMES.match(bare):
            skipping, after_blank, waiting = False, False, ""  # `waiting` was the cue's number or name
            continue
        if not bare:
            skipping = False
        elif re.match(r"(?:WEBVTT|NOTE|STYLE|REGION)\b", bare):
            skipping = True
        if waiting:
            yield waiting
            waiting = ""
        text = html.unescape(_CUE_TAGS.sub("", bare)).strip()
        if text and not skipping and text != previous:
            text = re.sub(r"^-\s*(?=\w)", "", text) + "\n"
            previous = text.strip()
            if after_blank:
                waiting = text
            else:
                yield text
        after_blank = not bare
    yield waiting


def _lines(parts: Iterable[str]) -> Iterator[str]:
    held = ""
    for part in parts:
        *lines, held = (held + part).split("\n")
        yield from lines
    yield held


_READERS: dict[str, Callable[[Iterable[str]], Iterator[str]]] = {
    "plain": _read_plain,
    "markdown": _read_markdown,
    "html": _read_html,
    "ssml": _read_ssml,
    "srt": _read_subtitles,
}
