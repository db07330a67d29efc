"""Text -> passages of about one breath, each with the silence before it.

    parts of a text -> TextChunk(text for the model, its sentences as written, seconds of silence before it)

Lazy from end to end: the first passage is given before the second part is looked at, and nothing of what was given is
kept, so a book takes no more memory than a page.

Silences. Between two sentences that do not share a passage SENTENCE_PAUSE_S, at a blank line PARAGRAPH_PAUSE_S, inside a
sentence that had to be cut CLAUSE_PAUSE_S. A pause that is asked for stands instead of those:

    [pause:1.5]  [pause: 500ms]  [pause=2s]        seconds unless it says ms; "1,5" is read too
    <break time="500ms"/>  <break time='1.5s'>     as in SSML, closed or not
    <break strength="strong"/>  <break/>           none, x-weak, weak, medium (without anything), strong, x-strong;
                                                   beside a time it says nothing

Several in a row add up, to at most LONGEST_PAUSE_S. What begins like one of these but has no readable time
(`[pause:soon]`, `<break time="-1s"/>`) is told about and stays text: it may be a stage direction, and words are not
dropped in silence. `[pause]` without a colon is text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from llasa_cli.text.sentences import ended, sentences_in
from llasa_cli.text.width import MAX_CHARACTERS, join, split, spoken_length

SENTENCE_PAUSE_S = 0.25
"""What a reader takes between two sentences."""
PARAGRAPH_PAUSE_S = 0.6
CLAUSE_PAUSE_S = 0.12
"""Inside a sentence too long for a breath."""
LONGEST_PAUSE_S = 60.0
"""A slip of the keyboard ("500" for "500ms") must not make an hour of silence."""
SHORT = 5
"""A sentence of less than a fifth of a passage is spoken badly alone: it shares one."""

LONGEST_SENTENCE = 4000
"""Characters. A line without a mark may be a megabyte: it is spoken before it is looked through."""

_STRENGTHS_S = {"none": 0.0, "x-weak": 0.25, "weak": 0.5, "medium": 0.75, "strong": 1.0, "x-strong": 1.25}
"""SSML leaves the lengths open; these are the ones of the largest service that documents them (Azure)."""

_GAP = re.compile(
    r"""(?P<paragraph>\n\s*\n|[\u2029])
    |\[\s*pause\s*[:=](?P<pause>[^\[\]\n]{0,40})\]
    |<break(?P<attributes>(?:\s[^<>]{0,80}|))/?>(?:\s{0,8}</break\s{0,8}>)?""",
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
    """What is spoken in one breath.

    Attributes:
        text: As the model is given it; "" is only the pause, at the end of a text.
        sentences: What is in it as written, for subtitles. A sentence too long for one passage is in several, in
            pieces.
        pause_s: Silence before it, seconds; 0 for the first, unless one is asked for.
    """

    text: str
    sentences: tuple[str, ...]
    pause_s: float


def chunk_text(
    parts: Iterable[str],
    most_characters: int = MAX_CHARACTERS,
    normalize: Callable[[str], str] | None = None,
    markdown: bool = False,
    on_note: Callable[[str], None] | None = None,
) -> Iterator[TextChunk]:
    """Cut a text into what can be spoken at once: whole sentences, short ones together.

    Args:
        parts: The text in the pieces in which it comes, blanks and line ends included. A part ends a sentence, and
            what it completes is given before the next part is asked for.
        most_characters: In a passage, as `chunks.spoken_length` counts; of the text that the model is given.
        normalize: Writing -> what this voice can read (`normalise.normalize`), sentence by sentence.
        markdown: The text is Markdown: its words are read and not its signs; see `text.markdown`.
        on_note: Told in a sentence about a pause that can't be read or is too long.

    Sentences without a letter or a digit (in the spelled-out form) are left out. A text may give nothing.
    """
    if markdown:
        from llasa_cli.text.markdown import read_markdown

        parts = read_markdown(parts)
    return _Breaths(most_characters, normalize or _as_it_is).of(_steps(parts, on_note or _as_it_is))


def _as_it_is(text: str) -> str:
    return text


@dataclass(frozen=True)
class _Sentence:
    written: str


@dataclass(frozen=True)
class _Gap:
    """A place where a passage ends. `asked_s`: the pause the text asks for; None: by the kind of place."""

    asked_s: float | None = None
    paragraph: bool = False


def _steps(parts: Iterable[str], tell: Callable[[str], object]) -> Iterator[_Sentence | _Gap]:
    line_ends = 0  # at the end of what was read: a blank line may be torn between two parts
    for part in parts:
        body = part.lstrip()
        if not body:
            line_ends += part.count("\n")
            continue
        if line_ends + part[: len(part) - len(body)].count("\n") > 1:
            yield _Gap(paragraph=True)
        line_ends = body[len(body.rstrip()) :].count("\n")
        at = 0
        for found in _GAP.finditer(body):
            gap = _gap(found, tell)
            if gap is not None:
                yield from map(_Sentence, sentences_in(body[at : found.start()]))
                yield gap
                at = found.end()
        yield from map(_Sentence, sentences_in(body[at:]))
        yield _Gap()


def _gap(found: re.Match[str], tell: Callable[[str], object]) -> _Gap | None:
    if found["paragraph"]:
        return _Gap(paragraph=True)
    seconds = _seconds(found["pause"]) if found["pause"] is not None else _break_seconds(found["attributes"])
    if seconds is None:
        tell(f"{found[0]} is no pause that can be read: it is spoken as text.")
        return None
    if seconds > LONGEST_PAUSE_S:
        tell(f"{found[0]} is cut to {LONGEST_PAUSE_S:g} s.")
    return _Gap(asked_s=min(seconds, LONGEST_PAUSE_S))


def _seconds(written: str) -> float | None:
    """ "1.5" -> 1.5, "500 ms" -> 0.5; None for anything else."""
    found = _TIME.fullmatch(written)
    if found is None:
        return None
    number = float(found["number"].replace(",", "."))
    return number / 1000 if (found["unit"] or "").lower() == "ms" else number


def _break_seconds(attributes: str) -> float | None:
    """What is between `<break` and `>`; without time and strength it is a medium one. A time goes before a strength."""
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


class _Breaths:
    """Joins short sentences and cuts long ones; keeps at most one passage."""

    def __init__(self, most: int, normalize: Callable[[str], str]) -> None:
        self._most, self._spell_out = most, normalize
        self._text, self._sentences = "", []  # type: ignore[var-annotated]
        self._pause_s = 0.0  # before what is being joined
        self._natural_s = 0.0  # after it
        self._asked_s: float | None = None
        self._begun = False

    def of(self, steps: Iterable[_Sentence | _Gap]) -> Iterator[TextChunk]:
        for step in steps:
            if isinstance(step, _Gap):
                yield from self._end()
                self._note(step)
                continue
            for number, (spoken, written) in enumerate(self._pieces(step.written)):
                # A line without a mark must not run into the next.
                before = self._text if number else ended(self._text)
                short = min(spoken_length(spoken), spoken_length(self._text)) < self._most // SHORT
                if self._text and short and spoken_length(join(before, spoken)) <= self._most:
                    self._text = before
                else:
                    yield from self._end()
                    if number:
                        self._natural_s = CLAUSE_PAUSE_S
                self._add(spoken, written)
        yield from self._end()
        if self._asked_s:
            yield TextChunk("", (), self._asked_s)

    def _pieces(self, sentence: str) -> Iterator[tuple[str, str]]:
        """What the model gets and what was written, in pieces that fit; none for a sentence that says nothing."""
        for part in _windows(sentence):
            spoken = self._spell_out(part)
            if spoken != part:
                spoken = _with_mark(spoken, part)
            pieces = split(spoken, self._most)
            written = [part] if len(pieces) == 1 else pieces
            if len(pieces) > 1 and spoken != part:
                written = _shared_out(part, pieces, self._spell_out)
            for pair in zip(pieces, written, strict=True):
                if any(character.isalnum() for character in pair[0]):
                    yield pair

    def _add(self, spoken: str, written: str) -> None:
        if not self._text:
            self._pause_s = self._natural_s if self._asked_s is None else self._asked_s
            self._asked_s = None
        self._text = join(self._text, spoken)
        if written:
            self._sentences.append(written)

    def _end(self) -> Iterator[TextChunk]:
        if self._text:
            passage = TextChunk(self._text, tuple(self._sentences), self._pause_s)
            self._text, self._sentences = "", []
            self._natural_s, self._begun = SENTENCE_PAUSE_S, True
            yield passage

    def _note(self, gap: _Gap) -> None:
        if gap.asked_s is not None:
            self._asked_s = min((self._asked_s or 0.0) + gap.asked_s, LONGEST_PAUSE_S)
        elif gap.paragraph and self._begun:
            self._natural_s = PARAGRAPH_PAUSE_S


def _windows(sentence: str) -> Iterator[str]:
    """A sentence that no reader would read in stretches of at most LONGEST_SENTENCE; nearly always it is one."""
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
    """The mark at a sentence's end may have been taken for one of a shortened word: "in the U.S."."""
    mark = re.search(r"([.!?:;])\W*\Z", sentence)
    return spoken + mark[1] if mark and spoken[-1:].isalnum() else spoken


def _shared_out(sentence: str, pieces: list[str], normalize: Callable[[str], str]) -> list[str]:
    """The words of a sentence, given to the pieces of its spelled-out form by how long each word is in it."""
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
