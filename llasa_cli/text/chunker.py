"""Text -> chunks of about one breath, each with the silence before it.

    parts of a text -> TextChunk(text for the model, its sentences as written, seconds of silence before it)

The generator is lazy from end to end: the first chunk is given before the second part is read, and nothing that was given is
kept, so a book takes no more memory than a page.

Chunks end as sentences do. A sentence that is too long is split at its clauses, and each piece ends with a full stop in the
text for the model: a chunk that ended with a comma was partly said twice in 41 of 124 takes, with a full stop in 1 of 32.
The sentences stay as they were written.

Silences: SENTENCE_PAUSE_S between two sentences that do not share a chunk, PARAGRAPH_PAUSE_S at a blank line,
CLAUSE_PAUSE_S inside a sentence that had to be split. The text may ask for another pause:

    [pause:1.5]  [pause: 500ms]  [pause=2s]        seconds unless it says ms; "1,5" is read too
    <break time="500ms"/>  <break time='1.5s'>     as in SSML, closed or not
    <break strength="strong"/>  <break/>           none, x-weak, weak, medium (the default), strong, x-strong;
                                                   a time takes precedence


Pauses in a row add up, to at most LONGEST_PAUSE_S. Markup like these without a readable time (`[pause:soon]`,
`<break time="-1s"/>`) is reported and stays text: it may be a stage direction, and no word is dropped silently. `[pause]`
without a colon is text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from llasa_cli.text.marks import CHAPTER, PATTERN, RATE, VOICE
from llasa_cli.text.sentences import closed, column_after, ended, full_stop, sentences_in
from llasa_cli.text.width import MAX_CHARACTERS, join, split, spoken_length

SENTENCE_PAUSE_S = 0.25
"""The pause of a reader between two sentences."""
PARAGRAPH_PAUSE_S = 0.6
TURN_PAUSE_S = 0.5
"""The pause before another voice."""
CLAUSE_PAUSE_S = 0.12
"""Inside a sentence that is too long for one breath."""
LONGEST_PAUSE_S = 60.0
"""A typing error ("500" for "500ms") must not make minutes of silence."""
SHORT = 5
"""A sentence of less than a fifth of the limit is spoken badly alone: it shares a chunk."""
LONGEST_SENTENCE = 4000
"""Characters. A line without a mark may be a megabyte: it is spoken before all of it is looked at."""

_STRENGTHS_S = {"none": 0.0, "x-weak": 0.25, "weak": 0.5, "medium": 0.75, "strong": 1.0, "x-strong": 1.25}
"""SSML leaves the lengths open; these are those that Azure documents."""

_GAP = re.compile(
    r"""(?P<paragraph>\n\s*\n|[\u2029])
    |\[\s*pause\s*[:=](?P<pause>[^\[\]\n]{0,40})\]
    |<break(?P<attributes>(?:\s[^<>]{0,80}|))/?>(?:\s{0,8}</break\s{0,8}>)?
    |"""
    + PATTERN,
    re.VERBOSE | re.IGNORECASE,
)
_TIME = re.compile(
    r"\s*\+?(?P<number>\d{1,9}(?:[.,]\d{0,9})?|[.,]\d{1,9})\s*(?P<unit>ms|s|sec|secs|seconds?)?\s*", re.IGNORECASE
)
_ATTRIBUTE = re.compile(
    r"""\s*(?P<name>time|strength)\s*=\s*["'“”]?(?P<value>[^"'“”=]*?)["'“”]?\s*(?=\Z|(?:time|strength)\s*=)""",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class TextChunk:
    """A text that is spoken in one breath.

    Attributes:
        text: The text for the model; "" is only the pause, at the end of a text.
        sentences: The sentences in it as written, for subtitles. A sentence that is too long for one chunk is in several, in
            pieces.
        pause_s: Seconds of silence before it; 0 for the first, unless the text asks for a pause.
        chapter: The title of the chapter that begins here; empty inside of one.
        voice: The name of the voice that speaks it; empty for the voice of the text.
        speed: Times the speed of the text.
    """

    text: str
    sentences: tuple[str, ...]
    pause_s: float
    chapter: str = ""
    voice: str = ""
    speed: float = 1.0


def chunk_text(
    parts: Iterable[str],
    max_characters: int = MAX_CHARACTERS,
    normalize: Callable[[str], str] | None = None,
    markdown: bool = False,
    on_note: Callable[[str], None] | None = None,
    continues: bool = False,
) -> Iterator[TextChunk]:
    """Cut a text into chunks: whole sentences, short ones together.

    Args:
        parts: The text in the parts in which it arrives, spaces and line ends included. A part ends a sentence, and the
            chunks that it completes are given before the next part is asked for.
        max_characters: The limit of a chunk's text for the model, by `width.spoken_length`.
        normalize: Written text -> text that this voice can read, sentence by sentence (`normalize.english.normalize`).
        markdown: The text is Markdown, whose words are read and not its signs (`text.markdown`).
        on_note: Receives a sentence about each pause that can't be read or is too long.
        continues: The text continues an earlier one: the first chunk has the pause of a later one.

    Sentences without a letter or a digit (after `normalize`) are left out, so a text may give no chunk.
    """
    if markdown:
        from llasa_cli.text.markdown import read_markdown

        parts = read_markdown(parts)
    return ChunkBuilder(max_characters, normalize or _unchanged, continues).chunks(_parse(parts, on_note or _unchanged))


def _unchanged(text: str) -> str:
    return text


@dataclass(frozen=True)
class _Sentence:
    written: str


@dataclass(frozen=True)
class _Gap:
    """A place where a chunk ends.

    Attributes:
        requested_s: The pause that the text asks for; None leaves it to the kind of place.
        paragraph: Whether it is a blank line.
    """

    requested_s: float | None = None
    paragraph: bool = False


@dataclass(frozen=True)
class _Mark:
    """A mark of `text.marks`."""

    name: str
    value: str


def _parse(parts: Iterable[str], report: Callable[[str], object]) -> Iterator[_Sentence | _Gap | _Mark]:
    line_ends = 0  # at the end of the text so far: a blank line may be torn between two parts
    column = 0
    for part in parts:
        body = part.lstrip()
        if not body:
            line_ends += part.count("\n")
            continue
        column = 0 if "\n" in part[: len(part) - len(body)] else column
        if line_ends + part[: len(part) - len(body)].count("\n") > 1:
            yield _Gap(paragraph=True)
        line_ends = body[len(body.rstrip()) :].count("\n")
        at = 0
        for found in _GAP.finditer(body):
            gap = _gap(found, report)
            if gap is not None:
                yield from map(_Sentence, sentences_in(body[at : found.start()], 0 if at else column))
                yield gap
                at = found.end()
        yield from map(_Sentence, sentences_in(body[at:], 0 if at else column))
        yield _Gap()
        column = column_after(part, column)


def _gap(found: re.Match[str], report: Callable[[str], object]) -> _Gap | _Mark | None:
    if found["paragraph"]:
        return _Gap(paragraph=True)
    if found["mark"]:
        return _Mark(found["mark"], found["value"])
    seconds = _seconds(found["pause"]) if found["pause"] is not None else _break_seconds(found["attributes"])
    if seconds is None:
        report(f"{found[0]} is not a pause that can be read, so it is spoken as text.")
        return None
    if seconds > LONGEST_PAUSE_S:
        report(f"{found[0]} is shortened to {LONGEST_PAUSE_S:g} s.")
    return _Gap(requested_s=min(seconds, LONGEST_PAUSE_S))


def _seconds(written: str) -> float | None:
    """ "1.5" -> 1.5, "500 ms" -> 0.5; None for anything else."""
    found = _TIME.fullmatch(written)
    if found is None:
        return None
    number = float(found["number"].replace(",", "."))
    return number / 1000 if (found["unit"] or "").lower() == "ms" else number


def _break_seconds(attributes: str) -> float | None:
    """The pause of the text between `<break` and `>`: its time, else its strength, else a medium pause."""
    attributes = attributes.strip(" \t\r\n/")
    given, at = {}, 0
    while at < len(attributes):
        found = _ATTRIBUTE.match(attributes, at)
        if found is None:
            return None
        given[found["name"].lower()] = found["value"]
        at = found.end()
    if "time" in given:
        return _seconds(given["time"])
    return _STRENGTHS_S.get(given.get("strength", "medium").strip().lower())


class ChunkBuilder:
    """Joins short sentences and splits long ones; holds at most one chunk."""

    def __init__(self, limit: int, normalize: Callable[[str], str], continues: bool = False) -> None:
        self._limit, self._normalize = limit, normalize
        self._text = ""
        self._sentences: list[str] = []
        self._is_cut = False  # the text ends inside a sentence
        self._pause_s = 0.0  # before the text
        self._natural_s = SENTENCE_PAUSE_S if continues else 0.0  # after it
        self._requested_s: float | None = None
        self._begun = continues
        self._chapter = ""  # that the next chunk begins
        self._voice, self._speed = "", 1.0

    def chunks(self, steps: Iterable[_Sentence | _Gap | _Mark]) -> Iterator[TextChunk]:
        for step in steps:
            if isinstance(step, _Mark):
                yield from self._end()
                self._read_mark(step)
                continue
            if isinstance(step, _Gap):
                yield from self._end()
                self._note(step)
                continue
            for (spoken, written), is_first, is_last in _with_position(self._pieces(step.written)):
                before = ended(self._text)  # a line without a mark must not run into the next
                short = min(spoken_length(spoken), spoken_length(self._text)) < self._limit // SHORT
                room = self._limit if is_last else self._limit - _stop_length(spoken)
                if is_first and self._text and short and spoken_length(join(before, spoken)) <= room:
                    self._text = before
                else:
                    yield from self._end()
                    if not is_first:
                        self._natural_s = CLAUSE_PAUSE_S
                self._add(spoken, written)
                self._is_cut = not is_last
        yield from self._end()
        if self._requested_s:
            yield TextChunk("", (), self._requested_s)

    def _pieces(self, sentence: str) -> Iterator[tuple[str, str]]:
        """The text for the model and the text as written, in pieces that fit; none for a sentence without words."""
        for part in _windows(sentence):
            spoken = self._normalize(part)
            if spoken != part:
                spoken = _with_mark(spoken, part)
            pieces = [spoken]
            if spoken_length(spoken) > self._limit:
                pieces = split(spoken, self._limit - _stop_length(spoken))
            written = [part] if len(pieces) == 1 else pieces
            if len(pieces) > 1 and spoken != part:
                written = _share_words(part, pieces, self._normalize)
            for pair in zip(pieces, written, strict=True):
                if any(character.isalnum() for character in pair[0]):
                    yield pair

    def _add(self, spoken: str, written: str) -> None:
        if not self._text:
            self._pause_s = self._natural_s if self._requested_s is None else self._requested_s
            self._requested_s = None
        self._text = join(self._text, spoken)
        if written:
            self._sentences.append(written)

    def _end(self) -> Iterator[TextChunk]:
        if self._text:
            text, sentences = closed(self._text, self._is_cut), tuple(self._sentences)
            chunk = TextChunk(text, sentences, self._pause_s, self._chapter, self._voice, self._speed)
            self._text, self._sentences, self._chapter = "", [], ""
            self._natural_s, self._begun = SENTENCE_PAUSE_S, True
            yield chunk

    def _read_mark(self, mark: _Mark) -> None:
        if mark.name == CHAPTER:
            self._chapter = mark.value
        elif mark.name == RATE:
            self._speed = float(mark.value)
        elif mark.name == VOICE and mark.value != self._voice:
            self._voice = mark.value
            if self._begun:
                self._natural_s = max(self._natural_s, TURN_PAUSE_S)

    def _note(self, gap: _Gap) -> None:
        if gap.requested_s is not None:
            self._requested_s = min((self._requested_s or 0.0) + gap.requested_s, LONGEST_PAUSE_S)
        elif gap.paragraph and self._begun:
            self._natural_s = PARAGRAPH_PAUSE_S


def _stop_length(spoken: str) -> int:
    """The length of the full stop that a text gets where its sentence is split."""
    return spoken_length(full_stop(spoken[-1]))


def _with_position(pieces: Iterable[tuple[str, str]]) -> Iterator[tuple[tuple[str, str], bool, bool]]:
    """Each piece with whether it is the first and whether it is the last."""
    held, is_first = None, True
    for piece in pieces:
        if held is not None:
            yield held, is_first, False
            is_first = False
        held = piece
    if held is not None:
        yield held, is_first, True


def _windows(sentence: str) -> Iterator[str]:
    """A sentence in stretches of at most LONGEST_SENTENCE characters; nearly always it is one."""
    at = 0
    while len(sentence) - at > LONGEST_SENTENCE:
        end = at + LONGEST_SENTENCE
        pause = max(sentence.rfind(mark, at + 1, end) for mark in (", ", "; ", "，", "、"))
        blank = pause + 1 if pause > 0 else sentence.rfind(" ", at + 1, end)
        end = blank if blank > at else end
        yield sentence[at:end].strip()
        at = end
    yield sentence[at:].strip()


def _with_mark(spoken: str, sentence: str) -> str:
    """Restore the mark of a sentence that ends with an abbreviation, which took it: "in the U.S."."""
    mark = re.search(r"([.!?:;])\W*\Z", sentence)
    return spoken + mark[1] if mark and spoken[-1:].isalnum() else spoken


def _share_words(sentence: str, pieces: list[str], normalize: Callable[[str], str]) -> list[str]:
    """Share the words of a sentence among the pieces of its normalized form, by the length of each word in it."""
    words = sentence.split()
    lengths = [spoken_length(normalize(word)) + 1 for word in words]
    scale = sum(spoken_length(piece) for piece in pieces) / sum(lengths)
    shares: list[list[str]] = [[] for _ in pieces]
    ends = [0.0]
    for piece in pieces:
        ends.append(ends[-1] + spoken_length(piece))
    spoken, at = 0.0, 0
    for word, length in zip(words, lengths, strict=True):
        middle = (spoken + length / 2) * scale
        while at + 1 < len(pieces) and middle >= ends[at + 1]:
            at += 1
        shares[at].append(word)
        spoken += length
    return [" ".join(share) for share in shares]
