"""Marked-up text -> its words: plain text, Markdown, HTML, SSML and subtitles, recognized by what they hold.

    read_markup(["<p>Hello <b>world</b>.</p>"])  ->  "Hello world."

In every format the codes of a colored terminal are removed. What becomes of

    plain       entities ("&amp;") are decoded; rows of signs ("====") and times before lines ("[00:12]") are left out, and so
                are the license and the marks of Project Gutenberg (see `text.gutenberg`)
    markdown    see `text.markdown`
    html        the words; headings and items of a list get a full stop, those of ordered ones their number, cells commas; script, style, head, navigation, banners,
                page numbers, tables of contents, and footnotes with their marks are left out
    ssml        the words, pauses, voices and speeds of the elements in SSML_ELEMENTS; any other element is refused with its place
    srt         the words of SubRip, WebVTT, SBV, MicroDVD and SubStation Alpha cues, without numbers, times, notes, tags and sounds
    fountain    see `text.fountain`

The text is read in parts, so that a pipe is spoken as it grows and a long file is not held.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from html.parser import HTMLParser
from itertools import chain, pairwise

from llasa_cli.errors import UsageError
from llasa_cli.settings import FASTEST, SLOWEST
from llasa_cli.settings import TEXT_FORMATS as FORMATS
from llasa_cli.text.contents import HEADING, is_entry, without_contents
from llasa_cli.text.gutenberg import without_license, without_marks
from llasa_cli.text.latex import with_plain_commands, with_spoken_formulas
from llasa_cli.text.list_numbers import OrderedLists, numbered
from llasa_cli.text.marks import RATE, VOICE, mark
from llasa_cli.text.references import references_lines, without_citations
from llasa_cli.text.sentences import ended

_ANSI = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]{0,400}(?:\x07|\x1b\\)|[@-Z\\^_])|[\x00-\x08\x0b\x0e-\x1f\x7f]"
)
_OPEN_ANSI = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|\][^\x07\x1b]{0,400}\x1b?)?\Z")
_MOJIBAKE = re.compile("(?<![A-ZÀ-Þ])[ÃÂ][\x80-\xbf€‚ƒ„†‡ˆ‰ŠŒŽ˜™šœžŸ]|â€[\x80-\xbf™œž˜“”¦¢š]")
"""Signs that stand together in no language, unless capitals are before them (“MANHÔ)."""
_SSML = re.compile(r"\s*(?:<\?xml[^<>]*>\s*)?(?:<!--.*?-->\s*)*<speak\b", re.DOTALL)
_TIME = r"(?:\d{1,2}:)?\d{1,2}:\d\d[,.]\d{1,3}"
_CUE_TIMES = re.compile(rf"\s*{_TIME}\s*-->\s*{_TIME}.*|{_TIME},{_TIME}")
_SUBTITLES = re.compile(
    rf"\ufeff?\s*(?:WEBVTT\b[^\n]*\n|(?:\d+[ \t]*\n)?\s*{_TIME}\s*-->|{_TIME},{_TIME}[ \t\r]*\n|\[Script Info\]|\{{\d+\}}\{{\d+\}})"
)
_LATEX = re.compile(r"\s*(?:%[^\n]*\n\s*)*\\documentclass\b")
_ASS_LINE = re.compile(r"Dialogue:(?:[^,]*,){9}(.*)")
"""A cue of SubStation Alpha, after whose ninth comma the words begin."""
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
    r"|!?\[[^\[\]\n]{1,200}\]\((?:https?:|mailto:|/|\.|#)[^()\s]*\)|^\|?[ \t]*:?-{3,}:?[ \t]*\|[ \t|:-]*$|^[-*+] \[[ xX]\] "
    r"|!\[[^\[\]\n]{0,200}\]\([^()\s]{1,500}\)|\w\[\^[\w-]{1,40}\]|\A\ufeff?---[ \t]*\n[a-zA-Z][\w-]{0,40}:[^\n]*\n",
    re.MULTILINE,
)
_ENTITY = re.compile(r"&(?:[a-zA-Z][a-zA-Z\d]{1,30}|#\d{1,7}|#[xX][\da-fA-F]{1,6});")
_SIGN_LINE = re.compile(r"^[ \t]*([=\-_*~#+.·•–—])(?:[ \t]*\1){2,}[ \t]*$", re.MULTILINE)
_TIMESTAMP = re.compile(
    r"^[ \t]*(?:\[\d{1,2}:\d\d(?::\d\d)?(?:[.:]\d{1,3})?\][ \t]*){1,20}|<\d\d:\d\d\.\d{2,3}>"
    r"|^\[(?:ar|ti|al|au|by|ve|length|offset):[^\]\n]{0,200}\][ \t]*$",
    re.MULTILINE,
)
"""The times in a line of lyrics or of a transcript ("[00:12.50] Hello", "<00:12.60>"), and the tags of lyrics ("[ar:Artist]")."""
_NICKNAME = r"(?!(?:speak|break|mark|say-as|sub|voice|prosody)\b)[\w\[\]^`|-]{1,30}"
_CHAT_TIME = re.compile(
    r"^[ \t]*\[?\d{1,4}[/.-]\d{1,2}[/.-]\d{2,4},?[ \u202f]\d{1,2}:\d\d(?::\d\d)?(?:[ \u202f]?[AaPp]\.?[Mm]\.?)?\]?(?:[ \t]+-)?[ \t]+(?=[^\n:]{1,40}:[ \t])"
    r"|^[ \t]*\d{1,2}:\d\d:\d\d(?:[.,]\d{1,3})?[ \t]+(?=[A-Z][^\n:.!?]{0,30}:[ \t])"
    r"|(?<=\w)[ \t]*[(\[]\d{1,2}:\d\d(?::\d\d)?[)\]](?=:[ \t])|(?<=^Speaker \d)[ \t]+\d{1,2}:\d\d(?::\d\d)?[ \t]*$",
    re.MULTILINE,
)
"""The date and time before a name in an exported chat or a transcript, or behind it."""
_CHAT_NAME = re.compile(rf"^[ \t]*<(?P<name>{_NICKNAME})>[ \t](?=\S)", re.MULTILINE)
_QUOTED = re.compile(r"^[ \t]*>(?:[ \t]?>){0,9}(?:[ \t]+(?=\S)|(?=[A-Z])|[ \t]*$)", re.MULTILINE)
"""The signs before the lines of a quoted letter."""
_DIFF = re.compile(
    r"^(?:diff --git [^\n]*|index [\da-f]{6,40}\.\.[\da-f]{6,40}[^\n]*|(?:---|\+\+\+) (?:[ab]/|/dev/null)[^\n]*|@@ -\d+(?:,\d+)? \+\d+(?:,\d+)? @@[^\n]*)\n?",
    re.MULTILINE,
)
_DIFF_LINE = re.compile(r"^([+-])[ \t]*(?![+-])(\S[^\n]*)$", re.MULTILINE)
"""The lines of a patch: those with its places are left out."""
_TABLE_RULE = re.compile(
    r"^[ \t]*(?:[+|](?:[-=: ]*[-=][-=: ]*[+|])+|[\u250c-\u254b\u2550-\u256c][\u2500-\u257f]+)[ \t]*$\n?", re.MULTILINE
)
_TABLE_ROW = re.compile(r"^[ \t]*[|\u2502\u2503\u2551](?P<cells>[^\n]+)[|\u2502\u2503\u2551][ \t]*$", re.MULTILINE)
_PAGE_NUMBER = re.compile(
    r"(?:(?<=\n\n)|\A)[ \t]*(?:[-–—][ \t]*\d{1,4}[ \t]*[-–—]|[Pp]age \d{1,4} of \d{1,4})[ \t]*(?=\n|\Z)"
)
_PAGE_EDGE = re.compile(
    r"^[ \t]*(?:page[ \t]+)?\d{1,4}[ \t]*\n*(?=\f)|(?<=\f)\s*(?:page[ \t]+)?\d{1,4}[ \t]*(?=\n|\Z)",
    re.IGNORECASE | re.MULTILINE,
)
"""The number of a page at its foot or its head, where form feeds are between pages."""
_CELL_TABS = re.compile(r"(?<=[^\s.)\-*•:;,])\t+(?=\S)")
_SIGN_ROW = re.compile(r"([=*~#_+^|])\1{2,}|-{4,}|(?<!<)<<+(?=\w)|(?<=[\w.!?,])>>+|[\u2500-\u259f]+")
_VERSE_NUMBER = re.compile(r"(?<=[^\s\d])[ \t]{2,}(\d{1,4})[ \t]*$", re.MULTILINE)
_LEAST_VERSES = 4
_DOT_LEADERS = re.compile(r"[ \t]*(?:\.[ \t]?){4,}(?=[ \t]*\d)")


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
    clean = without_license(_without_terminal_codes(parts))
    return _read_auto(clean) if text_format == "auto" else _READERS[text_format](clean)


def sniff(text: str) -> str:
    """The format of a text, by its beginning for SSML and subtitles, else by any sign in it: one of FORMATS but "auto"."""
    if _SSML.match(text):
        return "ssml"
    if _SUBTITLES.match(text):
        return "srt"
    if _LATEX.match(text):
        raise UsageError(
            "The text is LaTeX, whose markup would be read aloud.",
            "Convert it: pandoc -f latex -t gfm\n       --text-format plain reads it as it is.",
        )
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
        text = _MOJIBAKE.sub(_decoded_again, _ANSI.sub("", text[: len(text) - len(held)]))
        if text:
            yield text


def _decoded_again(match: re.Match[str]) -> str:
    """UTF-8 that a program took for Windows-1252, as it was: "cafÃ©" -> "café"."""
    data = b"".join(
        character.encode("latin-1" if ord(character) < 256 else "cp1252", "replace") for character in match[0]
    )
    return data.decode("utf-8", "ignore") or match[0]


def _plain(text: str) -> str:
    text = without_marks(_ENTITY.sub(lambda match: html.unescape(match[0]), text))
    text = _without_references(_without_verse_numbers(without_contents(text)))
    if "\f" in text:
        text = _PAGE_EDGE.sub("", text)
    if _DIFF.search(text):
        text = _DIFF_LINE.sub(_changed_line, _DIFF.sub("", text))
    text = _CHAT_NAME.sub(r"\g<name>: ", _CHAT_TIME.sub("", _TIMESTAMP.sub("", text)))
    text = _TABLE_ROW.sub(_table_row, _TABLE_RULE.sub("", _PAGE_NUMBER.sub("", text)))
    text = _SIGN_LINE.sub("", _QUOTED.sub("", text))
    text = _CELL_TABS.sub(", ", _SIGN_ROW.sub(" ", _DOT_LEADERS.sub(", ", text)))
    return with_plain_commands(with_spoken_formulas(text))


def _without_references(text: str) -> str:
    """A paper without its list of references and the citations of their numbers."""
    lines = text.split("\n")
    found = references_lines(lines)
    return without_citations("\n".join(line for at, line in enumerate(lines) if at not in found)) if found else text


def _without_verse_numbers(text: str) -> str:
    """A poem without the numbers that count its lines at the right margin: each differs from the next by the lines between."""
    found = list(_VERSE_NUMBER.finditer(text))
    for one, other in pairwise(found):
        lines = sum(1 for line in text[one.end() : other.end()].split("\n") if line.strip())
        if int(other[1]) - int(one[1]) != lines or int(one[1]) % 5 or lines < _LEAST_VERSES:
            return text
    return _VERSE_NUMBER.sub("", text) if len(found) > 1 else text


def _changed_line(match: re.Match[str]) -> str:
    return f"{'Added' if match[1] == '+' else 'Removed'}: {ended(match[2])}"


def _table_row(match: re.Match[str]) -> str:
    """| Bob | 5 | -> Bob, 5."""
    cells = [cell.strip() for cell in re.split("[|\u2502\u2503\u2551]", match["cells"])]
    words = ", ".join(cell for cell in cells if cell)
    return ended(words) if len(cells) > 1 else words


def _read_plain(parts: Iterable[str]) -> Iterator[str]:
    return map(_plain, parts)


def _read_markdown(parts: Iterable[str]) -> Iterator[str]:
    from llasa_cli.text.markdown import read_markdown

    return read_markdown(parts)


def _read_fountain(parts: Iterable[str]) -> Iterator[str]:
    from llasa_cli.text.fountain import read_fountain

    return read_fountain(parts)


def _read_html(parts: Iterable[str]) -> Iterator[str]:
    return without_license(_read_elements(parts, _HtmlWords()))


def _read_ssml(parts: Iterable[str]) -> Iterator[str]:
    return _read_elements(parts, _SsmlWords())


def _read_elements(parts: Iterable[str], reader: _HtmlWords) -> Iterator[str]:
    for part in parts:
        reader.feed(part)
        yield from reader.take()
    reader.close()
    yield from reader.take()


_BLOCKS = frozenset(
    "p div section article header footer main aside nav ul ol dl table blockquote figure figcaption h1 h2 h3 h4 h5 h6 pre hr "
    "form body html title details summary fieldset address".split()
)
_CELLS = frozenset(("td", "th"))
CELL_BLOCKS = frozenset(("p", "div", "center"))
"""Elements that programs for office put around the words of a cell."""
_LINES = frozenset("li dt dd tr br option caption".split())
_WITH_STOP = frozenset("h1 h2 h3 h4 h5 h6 li dt dd tr caption figcaption title".split())
"""Elements whose text gets a full stop where it has no mark."""
_ARTICLES = ("article", "main")
LISTS = ("ol", "ul", "menu")


UNREAD = frozenset(
    "script style head template nav svg math object iframe audio video canvas select datalist textarea button noscript rp rt".split()
)
"""Elements whose content is not text to read: of <ruby> the characters are read, not their pronunciation."""
VOID = frozenset("area base br col embed hr img input link meta source track wbr".split())
"""Elements that are never closed."""


_HIDDEN_CLASSES = frozenset("visually-hidden sr-only screen-reader-text screen-reader-only noprint".split())
_PAGE_NUMBERS = frozenset("pagenum pageno pagebreak page-number x-ebookmaker-pageno".split())
_FURNITURE = re.compile(
    r"(?:cookies?|gdpr|consent|onetrust|breadcrumbs?|skip-?(?:link|nav|to)|shar(?:e|ing)|social|sidebar|pg-boilerplate|newsletter|adverts?|advertisement"
    r"|promo|comments|disqus)(?:[-_].*)?|related[-_]?(?:articles?|content|links|posts?|stories)|related|ads?|ad-.*|pull-?quote|infobox|ambox|sistersitebox|portalbox"
    r"|site-?(?:header|title|branding)|masthead|(?:comment-)?respond|widget(?:-area)?|sphinxsidebar|footer|read-?more|see-?also|transnote|msotoc\w*|hatnote|ipa|shortdescription|headerlink|anchor-?link|mw-portlet.*"
    r"|vector-(?:dropdown|menu|toc|sitenotice|header|sticky|column-end|page-toolbar).*"
    r"|toc|navbox|catlinks|printfooter|site-footer|mw-(?:editsection|jump-link|navigation)|jump-to-nav|siteSub",
    re.IGNORECASE,
)
"""Classes and identifiers of what surrounds the text of a page: banners, buttons, lists of links, licenses."""
_LINK_WORDS = re.compile(
    r"(?:click here to )?unsubscribe(?: here)?\.?|(?:view|read|open)\b.{0,40}\b(?:in|on) (?:your|a|the) (?:web )?browser\.?"
    r"|(?:manage|update) (?:your )?(?:e-?mail )?preferences\.?|forward to a friend|(?:read|continue|learn) more\b.{0,3}|skip to (?:main )?content"
    r"|back to top|permalink|tweet|share(?: this)?|leave a (?:comment|reply)|\d+ comments?",
    re.IGNORECASE,
)
_LINK_SIGNS = frozenset("¶#↑§")
"""The words and signs of links that are buttons."""
_NAMED_BY_WORDS = frozenset("section h1 h2 h3 h4 h5 h6".split())
"""Elements whose identifiers are made of the words of a heading ("social-history"), as those of the class "section" are."""
_FURNITURE_ROLES = frozenset("navigation search contentinfo dialog alertdialog menu menubar toolbar".split())
_FURNITURE_TYPES = frozenset("pagebreak toc landmarks page-list noteref backlink index loi lot".split())
_NOTES = frozenset("footnote footnotes endnote endnotes rearnote rearnotes".split())
_CODE = re.compile(r"highlight-\w+|codehilite|sourcecode|prettyprint|highlighttable|literal-block")
_COPYRIGHT = frozenset("copyright-page imprint colophon halftitlepage".split())
"""Pages of a book that no reader reads aloud."""


_QUOTATIONS = frozenset("gmail_quote gmail_attr moz-cite-prefix yahoo_quoted protonmail_quote".split())
_SIGNATURES = frozenset("gmail_signature moz-signature".split())
"""Classes of programs for e-mail."""


def unspoken_content(tag: str, attributes: Mapping[str, str]) -> str | None:
    """What an HTML element holds that is not read aloud: "footnotes", "copyright pages" or "quotations" (of an e-mail); empty if it is not a part of the
    text. None if it is read."""
    if tag in UNREAD or is_hidden(attributes) or (tag == "dialog" and "open" not in attributes):
        return ""
    classes = set(f"{attributes.get('class', '')} {attributes.get('id', '')}".lower().split())
    role = attributes.get("role", "").lower()
    types = set(f"{attributes.get('epub:type', '')} {role.replace('doc-', '')}".lower().split())
    is_block = tag in _BLOCKS or tag in _LINES
    if types & _FURNITURE_TYPES or role in _FURNITURE_ROLES or classes & (_HIDDEN_CLASSES | _PAGE_NUMBERS):
        return ""
    if types & _NOTES or (is_block and classes & _NOTES):
        return "footnotes"
    if tag in ("div", "pre", "table") and any(map(_CODE.fullmatch, classes)):
        return "code blocks"
    if types & _COPYRIGHT:
        return "copyright pages"
    if classes & _QUOTATIONS or (tag == "blockquote" and attributes.get("type") == "cite"):
        return "quotations"
    if classes & _SIGNATURES:
        return ""
    if tag in _NAMED_BY_WORDS or "section" in classes:
        classes = set(attributes.get("class", "").lower().split())
    if tag not in ("html", "body", "main", "article") and any(map(_FURNITURE.fullmatch, classes)):
        return ""
    return None


def is_hidden(attributes: Mapping[str, str]) -> bool:
    """Whether an HTML element with these attributes is not shown, or is only decoration."""
    if "hidden" in attributes or attributes.get("aria-hidden") == "true":
        return True
    return bool(re.search(r"display\s*:\s*none|visibility\s*:\s*hidden", attributes.get("style", "")))


_NOTE_MARK = re.compile(r"\s*[\[(]?\s*(?:\d{1,4}|[*†‡§¶]{1,3}|[ivxlc]{1,6}|[a-z]|[↩↑⤴^]\ufe0e?)\s*[\])]?\s*")
_PAGE_LINK = re.compile(r"p(?:a?ge?)?_?\d", re.IGNORECASE)
"""A link to a page, whose number is a part of the text."""
_MOST_MARKS = 50
"""Links and raised characters inside each other; deeper ones are text."""


class NoteMarks:
    """Finds the marks of footnotes, and the notes: a mark is a link to a note, and the note has a link back.

    One object serves all pages of a document, in their order.
    """

    def __init__(self) -> None:
        self._notes: set[str] = set()
        """The identifiers that marks lead to."""
        self._sources: set[str] = set()
        """The identifiers of marks."""
        self._open: list[tuple[str, int, str]] = []
        """Open `a` and `sup` elements: name, where their text begins, the link inside the document or none."""
        self._links: list[str] = []
        """The links of the marks in this block."""

    def begin(self, tag: str, words: list[str], link: str) -> None:
        """An `a` or `sup` element begins; `words` are those of the block so far."""
        if len(self._open) < _MOST_MARKS:
            self._open.append((tag, len(words), link.rpartition("#")[2] if "#" in link else ""))

    def end(self, tag: str, words: list[str]) -> None:
        """Drop the mark of a note from the words; other raised digits are written as such."""
        if all(name != tag for name, _, _ in self._open):
            return
        while self._open:
            name, start, link = self._open.pop()
            text = "".join(words[start:])
            link = link or next((outer for _, _, outer in self._open if outer), "")
            if name == "sup" and not link and _RAISED.fullmatch(text):
                words[start:] = [text.translate(_SUPERSCRIPTS)]
            elif (
                link
                and _NOTE_MARK.fullmatch(text)
                and (name == "sup" or not text.strip().isalpha())
                and not _PAGE_LINK.match(link)
            ):
                words[start:] = []
                self._links.append(link)
            if name == tag:
                return

    def end_block(self, anchors: Iterable[str], is_heading: bool = False) -> bool:
        """Whether the block that ends here is a note.

        Args:
            anchors: The identifiers in it.
        """
        links, found = set(self._links), set(anchors)
        self._links, self._open = [], []
        if found & self._notes and links & self._sources and not is_heading:
            return True
        if links:
            self._notes |= links
            self._sources |= found
        return False


_RAISED = re.compile(r"[\d\[\]()*†, ]+")
_SUPERSCRIPTS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹", "[]()*† ")


class _HtmlWords(HTMLParser):
    """Collects the words of a document in paragraphs and lines."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._ready: list[str] = []
        self._words: list[str] = []
        self._skipping: list[str] = []
        """Open elements inside the outermost one that is left out, which comes first."""
        self._preformatted = False
        self._notes, self._anchors = NoteMarks(), list[str]()
        self._lists, self._number = OrderedLists(), ""
        self._begun = 0
        """Where the words of the last link begin."""
        self._link, self._linked = -1, 0
        """Where the words of an open link to a place of the page begin, and the letters in such links."""
        self._cell, self._leads = (0, 0), False
        """Where the words of the cell begin, and the letters in links before it; whether a cell is such a link."""
        self._in_cell = self._is_over = self._only_alt = False
        """Whether a cell is open, whether a paragraph in it has ended, and whether the block has only the description of an image."""
        self._formula, self._in_formula = "", False
        """The LaTeX of a <math> element, and whether it is being read."""
        self._is_page, self._articles, self._has_article = False, 0, False
        """Whether it is a whole page; its open `article` and `main` elements; whether there were any."""

    def take(self) -> list[str]:
        """The blocks that are complete since the last call."""
        if self._lists.is_counting:
            return []
        ready, self._ready = self._ready, []
        return [self._lists.written(text) for text in ready]

    def end_block(self, name: str = "p") -> None:
        """End a paragraph, or the line of a list or table."""
        text = "".join(self._words)
        text = "\n".join(" ".join(line.split()) for line in text.split("\n")).strip(" ,\n")
        is_contents = 0 < _letters(text) <= self._linked or (self._leads and is_entry(text))
        text = with_spoken_formulas(text) if "\\(" in text or "\\[" in text else text
        if "(" in text:
            text = re.sub(r"[ \n]*\([ ;,]*\)", "", re.sub(r"(?:[;,] ?)+(?=\))", "", text))  # what is left out was in it
        self._words, self._begun, self._link, self._linked = [], 0, -1, 0
        self._cell, self._leads = (0, 0), False
        self._in_cell = self._is_over = self._only_alt = False
        if any(character.isalnum() for character in text):
            is_heading = re.fullmatch("h[1-6]", name) is not None
            is_note = self._notes.end_block(self._anchors, is_heading)
            self._anchors = []
            if is_note:
                self._lists.is_of_notes()
            if is_note or (HEADING.fullmatch(text) if is_heading else is_contents):
                return
            if name in _WITH_STOP:
                text = ended(text)
            text, self._number = numbered(self._number, text), ""
            self._ready.append(text + ("\n" if name in _LINES else "\n\n"))

    def close(self) -> None:
        super().close()
        self.end_block()
        self._lists.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "body" or (self._skipping in (["p"], ["li"]) and tag in ("li", *_BLOCKS)):
            self._skipping = []  # <head>, <p> and <li> need not be closed
        is_code = tag == "code" and self._preformatted
        given = {name: value or "" for name, value in attrs}
        if tag == "math" or (tag == "annotation" and self._skipping[:1] == ["math"]):
            self._formula = given.get("alttext", "")
            self._in_formula = "tex" in given.get("encoding", "")
        is_aside = not self._articles and (
            (tag == "aside" and self._is_page) or (tag == "footer" and self._has_article)
        )
        if self._skipping or is_code or is_aside or unspoken_content(tag, given) is not None:
            if tag not in VOID:
                self._skipping.append(tag)
            return
        self._is_page = self._is_page or tag in ("html", "body")
        self._articles += tag in _ARTICLES
        self._has_article = self._has_article or tag in _ARTICLES
        self._anchors += [given[name] for name in ("id", "name") if given.get(name)]
        if tag == "break":
            self._words.append(f" {self.get_starttag_text()} ")
        elif tag == "br":
            self._words.append("\n")
        elif tag in _CELLS:
            self._end_cell()  # </td> and </th> may be left out
            self._in_cell, self._is_over = True, False
        elif tag == "img":
            self._only_alt = not any(part.strip() for part in self._words)
            alt = given.get("alt", "")
            self._words.append(_spoken_formula(alt) if "\\displaystyle" in alt else f" {alt} ")
        elif tag in CELL_BLOCKS and self._in_cell and not _letters("".join(self._words[self._cell[0] :])):
            pass  # a paragraph that is the whole cell
        elif tag in ("a", "sup"):
            self._notes.begin(tag, self._words, given.get("href", ""))
            self._begun = len(self._words) if tag == "a" else self._begun
            self._link = len(self._words) if given.get("href", "").startswith("#") else self._link
        elif tag in _BLOCKS or tag in _LINES:
            if self._only_alt and (tag == "figcaption" or "caption" in given.get("class", "").split()):
                self._words = []  # the description of the image, which its caption replaces
            self.end_block(tag if tag in _LINES else "p")  # the line before it need not be closed
            if tag in LISTS:
                self._lists.begin(tag, given)
            elif tag == "li":
                self._number = self._lists.item(given)
        self._preformatted = tag == "pre" or (self._preformatted and tag not in _BLOCKS)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        open_before = len(self._skipping)
        self.handle_starttag(tag, attrs)
        del self._skipping[open_before:]

    def handle_endtag(self, tag: str) -> None:
        self._preformatted = self._preformatted and tag != "pre"
        if self._skipping:
            self._in_formula = False
            while tag in self._skipping and self._skipping.pop() != tag:
                pass
            if tag == "math" and not self._skipping and self._formula:
                self._words.append(_spoken_formula(self._formula))
        elif tag in _CELLS:
            self._end_cell()
        elif tag in CELL_BLOCKS and self._in_cell:
            self._is_over = True
        elif tag in ("a", "sup"):
            self._notes.end(tag, self._words)
            if tag == "a" and self._is_button():
                self._words = self._words[: self._begun]
            if tag == "a" and self._link >= 0:
                self._linked += _letters("".join(self._words[self._link :]))
                self._link = -1
        elif tag in _BLOCKS or tag in _LINES:
            self.end_block("li" if tag in ("ul", "ol", "dl", "table") else tag)  # the last line may not be closed
            self._articles = max(0, self._articles - (tag in _ARTICLES))
            if tag in LISTS:
                self._lists.end(tag)
            self._number = "" if tag in ("li", *LISTS) else self._number

    def _is_button(self) -> bool:
        """Whether the link that ends is not a part of a sentence."""
        words = "".join(self._words[self._begun :]).strip()
        if not _LINK_WORDS.fullmatch(words):
            return words in _LINK_SIGNS
        before = "".join(self._words[: self._begun]).strip()
        return not before or before[-1] in ".!?|·•–—"

    def _end_cell(self) -> None:
        """Put a comma after a cell that has words."""
        while self._words and not self._words[-1].strip():
            self._words.pop()
        begin, linked = self._cell
        self._leads = self._leads or 0 < _letters("".join(self._words[begin:])) <= self._linked - linked
        if self._words and self._words[-1] != ", ":
            last = self._words[-1].rstrip()
            self._words[-1:] = [last, " " if last.endswith((".", "!", "?")) else ", "]
        self._cell = len(self._words), self._linked
        self._in_cell = self._is_over = False

    def handle_data(self, data: str) -> None:
        if self._skipping:
            self._formula += data if self._in_formula else ""
            return
        if self._is_over and data.strip():
            self.end_block()  # a paragraph goes before in the cell
        self._only_alt = self._only_alt and not data.strip()
        self._words.append(re.sub(r"[^\S\n]+" if self._preformatted else r"\s+", " ", data))


def _spoken_formula(source: str) -> str:
    """A formula in LaTeX as words. Wikipedia puts {\\displaystyle ...} around it."""
    found = re.fullmatch(r"\{\\(?:display|text)style\s*(.*)\}", source.strip(), re.DOTALL)
    return f" {with_spoken_formulas(f'${(found[1] if found else source).strip()}$')}"


def _letters(text: str) -> int:
    return sum(map(str.isalnum, text))


SSML_ELEMENTS = frozenset("speak p s break sub say-as voice prosody emphasis lang".split())
"""The elements of SSML that are supported; any other one is refused."""
RATES = {"x-slow": 0.5, "slow": 0.8, "medium": 1.0, "default": 1.0, "fast": 1.25, "x-fast": 1.6}
"""SSML leaves the speeds open."""
_SPELLED = frozenset("characters spell-out verbatim digits telephone".split())
_WRITTEN = frozenset("cardinal number date time currency unit address name fraction ordinal duration expletive".split())
_RATE = re.compile(r"[+-]?\d{1,3}(?:\.\d+)?%|\d{1,2}(?:\.\d+)?")


class _SsmlWords(_HtmlWords):
    """Collects the words of SSML.

    <sub> is read by its alias. <voice name> and <prosody rate> become marks for what is inside. <say-as> spells out characters
    and digits and gives an ordinal its ending; other interpretations, <emphasis> and <lang> leave the words as they are.

    Raises:
        UsageError: An element or a value is unknown, or an element is not closed where it has to be; the message has its place.
    """

    def __init__(self) -> None:
        super().__init__()
        self._open: list[tuple[str, str]] = []
        """The open elements, and what ends them: the mark of the voice or speed around them, or the kind of <say-as>."""
        self._voices, self._rates = [""], [1.0]
        self._interpreted = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        name = tag.removeprefix("ssml:")
        if name not in SSML_ELEMENTS:
            raise self._problem(f"<{tag}> is not read", f"Known are {', '.join(sorted(SSML_ELEMENTS))}.")
        closing = ""
        if self._skipping:
            self._skipping.append(name)
        elif name == "break":
            self._words.append(f" {self.get_starttag_text()} ")
        elif name in ("p", "s"):
            self.end_block()
        elif name == "sub":
            self._words.append(self._value(given, "sub", "alias"))
            self._skipping.append(name)
        elif name == "say-as":
            closing = self._interpretation(given)
        elif name == "voice":
            self._words.append(self._voice_mark(" ".join(self._value(given, "voice", "name").split())))
            closing = "voice"
        elif name == "prosody" and "rate" in given:
            rate = self._rate(given["rate"])
            self._rates.append(self._rates[-1] * rate)
            self._words.append(self._rate_mark())
            closing = "rate"
        if name != "break":
            self._open.append((name, closing))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag.removeprefix("ssml:") != "break":
            self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        name = tag.removeprefix("ssml:")
        if name == "break":
            return
        if not self._open or self._open[-1][0] != name:
            expected = f"; <{self._open[-1][0]}> is open" if self._open else ""
            raise self._problem(f"</{tag}> closes nothing{expected}", "Close each element in its place.")
        _, closing = self._open.pop()
        said, self._interpreted = self._interpreted, ""
        if self._skipping:
            self._skipping.pop()
        elif name == "say-as":
            super().handle_data(f" {_said_as(said, closing)} ")
        elif closing == "voice":
            self._voices.pop()
            self._words.append(mark(VOICE, self._voices[-1]))
        elif closing == "rate":
            self._rates.pop()
            self._words.append(self._rate_mark())
        elif name == "s":
            self.end_block("li")
        elif name in ("p", "speak"):
            self.end_block()

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1][0] == "say-as":
            self._interpreted += data  # it may come in pieces
        else:
            super().handle_data(data)

    def unknown_decl(self, data: str) -> None:
        if data.startswith("CDATA["):
            self.handle_data(data.removeprefix("CDATA["))

    def close(self) -> None:
        super().close()
        if self._open:
            raise self._problem(f"<{self._open[-1][0]}> is not closed", "Close each element in its place.")

    def end_block(self, name: str = "p") -> None:
        """End a block as in HTML. A mark at its end stays with the text that follows."""
        held: list[str] = []
        while self._words and self._words[-1].startswith(_MARK_BEGIN):
            held.insert(0, self._words.pop())
        super().end_block(name)
        self._words = held

    def _voice_mark(self, name: str) -> str:
        self._voices.append(name)
        return mark(VOICE, name)

    def _rate_mark(self) -> str:
        return mark(RATE, f"{min(max(self._rates[-1], SLOWEST), FASTEST):g}")

    def _interpretation(self, given: dict[str, str]) -> str:
        kind = self._value(given, "say-as", "interpret-as").lower()
        if kind not in _SPELLED | _WRITTEN:
            known = ", ".join(sorted(_SPELLED | _WRITTEN))
            raise self._problem(f'<say-as interpret-as="{kind}"> is not known', f"Known are {known}.")
        return kind

    def _rate(self, written: str) -> float:
        value = written.strip().lower()
        if value in RATES:
            return RATES[value]
        if not _RATE.fullmatch(value):
            raise self._problem(f'<prosody rate="{written}"> is not a rate', f"Give {', '.join(RATES)}, 80% or +20%.")
        rate = float(value.rstrip("%"))
        if value.endswith("%"):
            rate = 1 + rate / 100 if value[0] in "+-" else rate / 100
        if not SLOWEST <= rate <= FASTEST:
            raise self._problem(f'<prosody rate="{written}"> is out of range', f"From {SLOWEST:g} to {FASTEST:g}.")
        return rate

    def _value(self, given: dict[str, str], tag: str, name: str) -> str:
        if not given.get(name, "").strip():
            raise self._problem(f"<{tag}> has no {name}", f'Write <{tag} {name}="...">.')
        return given[name]

    def _problem(self, what: str, hint: str) -> UsageError:
        line, column = self.getpos()
        return UsageError(f"Line {line}, column {column + 1}: {what}.", hint)


_MARK_BEGIN = mark(RATE, "")[0]


def _said_as(text: str, kind: str) -> str:
    """The words of <say-as>."""
    if kind in _SPELLED:
        only_digits = kind in ("digits", "telephone")
        return " ".join(c for c in text if (c.isdigit() if only_digits else not c.isspace()))
    number = text.strip()
    if kind == "ordinal" and number.isascii() and number.isdigit():
        ending = "th" if number[-2:] in ("11", "12", "13") else {"1": "st", "2": "nd", "3": "rd"}.get(number[-1], "th")
        return number + ending
    return text


_CUE_TAGS = re.compile(r"<rt>[^<>]*</rt>|</?[a-zA-Z][^<>]*>|<\d[\d:.]*>|\{\\[^{}]*\}|[♪♫]")
_DRAWING = re.compile(r"\{[^{}]*\\p[1-9][^{}]*\}.*?(?:\{[^{}]*\\p0[^{}]*\}|\Z)")
"""A shape in SubStation Alpha."""
_FRAMES = re.compile(r"\{\d+\}\{\d*\}(?:\{[a-zA-Z]:[^{}]*\})*(.*)")
"""A cue of MicroDVD, by the numbers of its frames; a bar ends a line."""
_SOUND = re.compile(r"\[(?!\s*(?:pause|voice)\b)[^\[\]]*\]|^\([^()]*\)$|\((?=[^()a-z]*[A-Z]{3})[^()a-z]*\)")
"""What is heard, in subtitles for people who don't hear: [door slams], (SIGHS)."""
_CUE_CREDITS = re.compile(
    r"(?:(?:subtitles?|captions?|captioning|sync(?:ed|hroni[sz]ed)?|translat(?:ed|ion)|correct(?:ed|ions?)|encoded)"
    r"(?:\s*(?:,|and|&)\s*\w+)*\s*(?:by\b|:)|.*\b(?:opensubtitles|addic7ed|subscene|amara\.org)\b).*",
    re.IGNORECASE,
)
_SPEAKER_SIGN = re.compile(r"^(?:-\s*(?=\w)|>{2,}\s*)")
"""What is before the words of another speaker."""


def _read_subtitles(parts: Iterable[str]) -> Iterator[str]:
    """The lines of the cues. Each is a line, so that a sentence continues in the next cue."""
    skipping, after_blank, waiting, previous, is_ass = False, True, "", "", False
    for line in split_lines(parts):
        bare = line.strip("\ufeff \t\r")
        is_ass = is_ass or bare == "[Script Info]"
        if is_ass:
            cue = _ASS_LINE.match(bare)
            words = (
                " ".join(re.sub(r"\\[Nnh]", " ", _CUE_TAGS.sub("", _DRAWING.sub("", cue[1]))).split()) if cue else ""
            )
            if words and words != previous:
                previous = words
                if spoken := _spoken_cue(words):
                    yield spoken + "\n"
            continue
        if frames := _FRAMES.match(bare):
            text = " ".join(_CUE_TAGS.sub("", frames[1].replace("|", " ")).split())
            # The first cue may be the frames in a second.
            if not re.fullmatch(r"[\d.]*", text) and (spoken := _spoken_cue(text)):
                yield spoken + "\n"
            continue
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
        if text and not skipping and text != previous and (spoken := _spoken_cue(text)):
            text = spoken + "\n"
            previous = spoken
            if after_blank or bare.isdigit():  # some files have no blank lines
                waiting = text
            else:
                yield text
        after_blank = not bare
    yield waiting


def _spoken_cue(line: str) -> str:
    """The words of a cue's line that are spoken."""
    if "[" in line or "(" in line:
        line = " ".join(_SOUND.sub(" ", line).split())
    line = _SPEAKER_SIGN.sub("", line)
    return line if any(map(str.isalnum, line)) and not _CUE_CREDITS.fullmatch(line) else ""


def split_lines(parts: Iterable[str]) -> Iterator[str]:
    """The lines of a text that comes in parts, without their ends."""
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
    "fountain": _read_fountain,
}
