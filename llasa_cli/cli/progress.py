"""The progress of a batch: a line that is replaced on a terminal, and a line every half minute elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from llasa_cli.cli.console import Console, speed
from llasa_cli.wording import format_duration

if TYPE_CHECKING:
    from llasa_cli.batch.scheduler import Tally

LOG_INTERVAL_S = 30.0
"""Seconds between two lines if standard error is not a terminal."""


class ProgressLine:
    """Shows items, percentage, seconds of speech, speed, failures and the time left."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._is_terminal = sys.stderr.isatty()
        self._shown = time.monotonic()

    def show(self, tally: Tally) -> None:
        if self._is_terminal:
            self._console.progress(progress_text(tally))
        elif time.monotonic() - self._shown >= LOG_INTERVAL_S:
            self._shown = time.monotonic()
            self._console.line(progress_text(tally))


def progress_text(tally: Tally) -> str:
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
