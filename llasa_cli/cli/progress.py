"""How far a batch is: a line that is replaced on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from llasa_cli.cli.console import Console, speed
from llasa_cli.wording import format_duration

if TYPE_CHECKING:
    from llasa_cli.batch.scheduler import Tally

PLAIN_EVERY_S = 30.0
"""In a log a line now and then is enough; an hour of work is 120 of them."""


class Progress:
    """Items, seconds of sound, times real time, time left, failures."""

    def __init__(self, report: Console) -> None:
        self._report = report
        self._is_terminal = sys.stderr.isatty()
        self._told = time.monotonic()

    def show(self, tally: Tally) -> None:
        if self._is_terminal:
            self._report.progress(self.now(tally))
        elif time.monotonic() - self._told >= PLAIN_EVERY_S:
            self._told = time.monotonic()
            self._report.line(self.now(tally))

    @staticmethod
    def now(tally: Tally) -> str:
        settled = tally.there + tally.made + tally.failed
        parts = [f"{settled} of {tally.all} items", speed(tally.seconds, tally.wall_s)]
        if tally.failed:
            parts.append(f"{tally.failed} failed")
        if tally.left_s is not None:
            parts.append(f"{format_duration(tally.left_s)} left")
        return ", ".join(parts)

    @staticmethod
    def closing(tally: Tally) -> str:
        return (
            f"{tally.made} items made, {tally.there} were there, {tally.failed} failed; "
            f"{speed(tally.seconds, tally.wall_s)}"
        )

    @staticmethod
    def facts(tally: Tally) -> dict[str, Any]:
        """For `--json`."""
        return {
            "items": tally.all,
            "made": tally.made,
            "there": tally.there,
            "failed": tally.failed,
            "seconds": round(tally.seconds, 3),
            "hours": round(tally.seconds / 3600, 4),
            "wall_s": round(tally.wall_s, 3),
            "times_real_time": round(tally.seconds / max(tally.wall_s, 1e-9), 2),
            "retries": tally.retries,
            "lost_workers": tally.lost_workers,
        }
