"""The progress of a batch or a long text: a line that is replaced on a terminal, and a line every half minute elsewhere."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llasa_cli.cli.console import Console, speed
from llasa_cli.wording import format_duration

if TYPE_CHECKING:
    from llasa_cli.batch.scheduler import Tally

LOG_INTERVAL_S = 30.0
"""Seconds between two lines if standard error is not a terminal."""


@dataclass
class TextTally:
    """The progress of one text.

    Attributes:
        all_words, all_chapters: The numbers of the whole text; None and 0 if they are unknown.
        earlier_words, earlier_s: The words and the seconds of speech of earlier runs.
        words, chapters, seconds: So far; words and chapters with those of earlier runs.
    """

    all_words: int | None = None
    all_chapters: int = 0
    earlier_words: int = 0
    earlier_s: float = 0.0
    words: int = 0
    chapters: int = 0
    seconds: float = 0.0
    began: float = field(default_factory=time.monotonic)

    @property
    def wall_s(self) -> float:
        return time.monotonic() - self.began

    @property
    def left_s(self) -> float | None:
        """The estimated time to the end; None while there is nothing to estimate it from."""
        new = self.words - self.earlier_words
        if self.all_words is None or new <= 0 or self.seconds < _LEAST_S:
            return None
        return self.wall_s * max(0, self.all_words - self.words) / new


_LEAST_S = 5.0
"""Seconds of speech before the time left is estimated."""


def describe_text(tally: TextTally) -> str:
    """ "chapter 2 of 9, 1,204 of 90,310 words (1 %), 480.1 s of speech in 40.0 s, 12.0 times real time, 49 min left"."""
    parts = []
    if tally.all_chapters > 1:
        parts.append(f"chapter {max(1, tally.chapters)} of {tally.all_chapters}")
    if tally.all_words:
        words = min(tally.words, tally.all_words)
        parts.append(f"{words:,} of {tally.all_words:,} words ({words * 100 // tally.all_words} %)")
    parts.append(speed(tally.seconds, tally.wall_s))
    if tally.earlier_s:
        parts.append(f"{tally.earlier_s:.0f} s before")
    if tally.left_s is not None:
        parts.append(f"{format_duration(tally.left_s)} left")
    return ", ".join(parts)


class ProgressLine:
    """Shows items, percentage, seconds of speech, speed, failures and the time left."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._is_terminal = sys.stderr.isatty()
        self._shown = time.monotonic()

    def show(self, tally: Tally | TextTally) -> None:
        if self._is_terminal:
            self._console.progress(_describe(tally))
        elif time.monotonic() - self._shown >= LOG_INTERVAL_S:
            self._shown = time.monotonic()
            self._console.line(_describe(tally))


def _describe(tally: Tally | TextTally) -> str:
    return describe_text(tally) if isinstance(tally, TextTally) else describe_batch(tally)


def describe_batch(tally: Tally) -> str:
    settled = tally.there + tally.made + tally.failed
    parts = [f"{settled} of {tally.all} items ({settled * 100 // max(1, tally.all)} %)"]
    if tally.began is not None:
        parts.append(speed(tally.seconds, tally.wall_s))
    if tally.failed:
        parts.append(f"{tally.failed} failed")
    if tally.left_s is not None:
        parts.append(f"{format_duration(tally.left_s)} left")
    return ", ".join(parts)


def closing_line(tally: Tally) -> str:
    checks = f", {tally.failed_checks} fail their checks" if tally.failed_checks else ""
    made = f"{tally.made} items made, {tally.there} existed already, {tally.failed} failed{checks}"
    return made if tally.began is None else f"{made}; {speed(tally.seconds, tally.wall_s)}"


def summary_facts(tally: Tally) -> dict[str, Any]:
    """The figures of `--json`."""
    return {
        "items": tally.all,
        "made": tally.made,
        "there": tally.there,
        "failed": tally.failed,
        "failed_checks": tally.failed_checks,
        "seconds": round(tally.seconds, 3),
        "hours": round(tally.seconds / 3600, 4),
        "wall_s": round(tally.wall_s, 3),
        "times_real_time": round(tally.seconds / max(tally.wall_s, 1e-9), 2),
        "retries": tally.retries,
        "lost_workers": tally.lost_workers,
    }
