"""Subtitles of the generated speech: SubRip (.srt) or WebVTT (.vtt).

    with SubtitleFile(Path("book.srt")) as subtitles:
        subtitles.add(SpokenPart(["One.", "Two."], begin_s=0.0, end_s=1.5))

A cue has at most two lines of 42 columns and lasts 0.8 to 7 s, as
broadcasters ask for: long sentences become several cues, and short ones share a cue with their neighbor, unless another
voice speaks it. Cues of single words last as long as the words do.
"""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import count
from pathlib import Path

from llasa_cli.audio.side_file import SideFile, SpokenPart
from llasa_cli.text.spoken_words import written_words
from llasa_cli.text.unicode import CJK_START
from llasa_cli.text.width import join, spoken_length

ENDINGS = (".srt", ".vtt")
MAX_COLUMNS = 42
"""The longest line of a cue. East Asian characters are two columns wide."""
MIN_MS, MAX_MS = 800, 7000
"""Milliseconds that a cue of sentences lasts."""
WORD_GAP_MS = 300
"""A cue of words stays for a shorter gap after it, so that the text does not flicker."""
_UNSAFE = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff]+")
"""Line ends would end the cue, and control characters confuse players."""


@dataclass(frozen=True)
class Cue:
    """A text and the time when it is shown, in milliseconds, with the voice that speaks it."""

    begin: int
    end: int
    text: str
    voice: str = ""


class SubtitleFile(SideFile):
    """Writes sentences, or single words, with their times. See `SideFile`.

    Args:
        path: Ends in .srt or .vtt.
        words_per_cue: Cues of so many words, with the times of the words; None for cues of sentences.
    """

    endings = ENDINGS
    content = "Subtitles"

    def __init__(self, path: Path, words_per_cue: int | None = None) -> None:
        super().__init__(path)
        self._is_vtt = path.suffix.lower() == ".vtt"
        self._words_per_cue = words_per_cue
        self._count = 0
        self._pending: Cue | None = None
        if self._is_vtt:
            self._write("WEBVTT\n\n")

    def add(self, part: SpokenPart) -> None:
        """Write what is said in a part. Without word times every sentence gets a share of the time by its length.

        Cues never overlap, whatever the times are.
        """
        if self._words_per_cue is not None:
            self._add_words(part, self._words_per_cue)
            return
        texts = [text for text in map(_one_line, part.sentences) if text]
        duration_ms = (part.end_s - part.begin_s) * 1000
        for text, first, last in _shares(texts):
            begin, end = part.begin_s * 1000 + duration_ms * first, part.begin_s * 1000 + duration_ms * last
            pieces = split_text(text, math.ceil((end - begin) / MAX_MS))
            for piece, piece_first, piece_last in _shares(pieces):
                first_ms, last_ms = (round(begin + (end - begin) * share) for share in (piece_first, piece_last))
                self._add(Cue(first_ms, last_ms, piece, part.voice))

    def _add_words(self, part: SpokenPart, words_per_cue: int) -> None:
        """Cues of at most `words_per_cue` words of one sentence."""
        words = iter(part.words)
        for sentence in part.sentences:
            times = [time for _, time in zip(written_words(sentence), words, strict=False)]
            for at in range(0, len(times), words_per_cue):
                some = times[at : at + words_per_cue]
                text = _one_line(reduce(join, (time.word for time in some)))
                begin, end = (round((part.begin_s + at_s) * 1000) for at_s in (some[0].begin_s, some[-1].end_s))
                self._replace_pending(Cue(begin, end, text))

    def _replace_pending(self, cue: Cue) -> None:
        """Write the cue before, which stays until this one if there is no real pause between them."""
        previous = self._pending
        if previous is not None:
            cue = replace(cue, begin=max(cue.begin, previous.begin + 1))
            is_near = cue.begin - previous.end < WORD_GAP_MS
            self._write_cue(replace(previous, end=cue.begin if is_near else previous.end), cue.begin)
        self._pending = replace(cue, end=max(cue.end, cue.begin + 1))

    def _add(self, cue: Cue) -> None:
        """Keep the cue until its successor is known, which decides whether they share one cue, and where it ends."""
        previous = self._pending
        if previous is not None:
            shared = _merge(previous, cue)
            if shared is not None:
                self._pending = shared
                return
            cue = replace(cue, begin=max(cue.begin, previous.begin + MIN_MS))
            self._write_cue(previous, cue.begin)
        self._pending = replace(cue, end=max(cue.end, cue.begin))

    def _write_cue(self, cue: Cue, latest: int) -> None:
        """Write a cue that ends at `latest` at the latest."""
        self._count += 1
        self._is_empty = False
        shortest = MIN_MS if self._words_per_cue is None else 1
        end = min(max(cue.end, cue.begin + shortest), cue.begin + MAX_MS, latest)
        point = "." if self._is_vtt else ","
        number = "" if self._is_vtt else f"{self._count}\n"
        lines = "\n".join(self._escape(line) for line in wrap(cue.text) or [cue.text])
        self._write(f"{number}{format_timestamp(cue.begin, point)} --> {format_timestamp(end, point)}\n{lines}\n\n")

    def _escape(self, line: str) -> str:
        """WebVTT can escape `<`. In SubRip, only the arrow could be mistaken for a time."""
        return html.escape(line, quote=False) if self._is_vtt else line.replace("-->", "→")

    def _finish(self) -> None:
        if self._pending is not None:
            pending, self._pending = self._pending, None
            self._write_cue(pending, pending.begin + MAX_MS)


def format_timestamp(milliseconds: int, point: str) -> str:
    """3723004 -> "01:02:03,004"."""
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{point}{rest:03}"


def split_text(text: str, min_parts: int = 1) -> list[str]:
    """A text in the fewest parts, but at least `min_parts` if it has as many words, each of which fits into a cue."""
    tokens = _tokens(text)
    for parts in count(max(1, min(min_parts, len(tokens)))):
        found = _divide(tokens, parts)
        if parts >= len(tokens) or all(wrap(part) for part in found):
            return found
    raise AssertionError("unreachable")


def wrap(text: str) -> list[str] | None:
    """The text in one line, or in two of similar length, of at most 42 columns; None if it does not fit."""
    if _columns(text) <= MAX_COLUMNS:
        return [text]
    tokens = _tokens(text)
    pairs = [("".join(tokens[:at]).rstrip(), "".join(tokens[at:])) for at in range(1, len(tokens))]
    first, second = min(pairs, key=lambda pair: abs(_columns(pair[0]) - _columns(pair[1])), default=("", text))
    return [first, second] if max(_columns(first), _columns(second)) <= MAX_COLUMNS else None


def _tokens(text: str) -> list[str]:
    """The places where a text may be cut: words with the blank after them, East Asian characters, parts of long words."""
    return [part for word in re.findall(r"\S+\s*|\s+", text) for part in _word_parts(word)]


def _word_parts(word: str) -> Iterator[str]:
    begin = 0
    for at in range(1, len(word)):
        is_dense = ord(word[at]) >= CJK_START and word[at].isalnum()
        if is_dense or _columns(word[begin:at]) >= MAX_COLUMNS:
            yield word[begin:at]
            begin = at
    yield word[begin:]


def _divide(tokens: Sequence[str], parts: int) -> list[str]:
    """Join tokens to so many parts of similar length."""
    lengths = [spoken_length(token) for token in tokens]
    total = sum(lengths)
    groups: list[list[str]] = [[] for _ in range(parts)]
    before = 0
    for token, length in zip(tokens, lengths, strict=True):
        groups[min(parts - 1, int((before + length / 2) * parts / max(total, 1)))].append(token)
        before += length
    return [text for group in groups if (text := "".join(group).strip())]


def _merge(first: Cue, second: Cue) -> Cue | None:
    """Both in one cue, if one of them is too short for a cue of its own, one voice speaks them, and they fit."""
    if first.voice != second.voice or min(first.end - first.begin, second.end - second.begin) >= MIN_MS:
        return None
    if second.begin - first.end > MIN_MS or second.end - first.begin > MAX_MS:
        return None
    blank = "" if ord(first.text[-1]) >= CJK_START else " "
    text = first.text + blank + second.text
    return replace(first, end=max(first.end, second.end), text=text) if wrap(text) else None


def _shares(texts: Sequence[str]) -> Iterator[tuple[str, float, float]]:
    """Every text with the share of the time at which it begins and ends."""
    total = sum(map(spoken_length, texts))
    before = 0
    for text in texts:
        after = before + spoken_length(text)
        yield text, before / total, after / total
        before = after


def _one_line(text: str) -> str:
    return _UNSAFE.sub(" ", text).strip()


def _columns(text: str) -> int:
    text = text.strip()
    return len(text) if text.isascii() else sum(2 if ord(c) >= CJK_START else 1 for c in text)
