"""How far a run is, and the learning rate that belongs there.

A run lasts a number of steps or of minutes; both become a share from 0 to 1, and everything that changes over a run
follows the share. Minutes are counted over all resumptions.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Clock:
    """Share of a run that is done.

    Attributes:
        steps: The run's length in steps; None if it is told in minutes.
        seconds: The run's length in seconds; None if it is told in steps.
        spent_before: Seconds of earlier processes of the same run.
    """

    steps: int | None
    seconds: float | None
    spent_before: float = 0.0
    now: Callable[[], float] = time.monotonic
    began: float = field(init=False)

    def __post_init__(self) -> None:
        self.began = self.now()

    def start(self) -> None:
        """Loading is over: time counts from here."""
        self.began = self.now()

    def spent(self) -> float:
        """Seconds of this and earlier processes."""
        return self.spent_before + self.now() - self.began

    def share(self, step: int) -> float:
        """0 at the beginning, 1 when the run is over."""
        if self.seconds is not None:
            return min(1.0, self.spent() / self.seconds)
        assert self.steps is not None
        return min(1.0, step / self.steps)


def rate_factor(step: int, share: float, warm_up_steps: int, decay_share: float) -> float:
    """Warm-up in a line, then 1, then over the last `decay_share` of the run in a line to 0."""
    warm = min(1.0, (step + 1) / warm_up_steps) if warm_up_steps > 0 else 1.0
    fall = min(1.0, (1.0 - share) / decay_share) if decay_share > 0 else 1.0
    return warm * fall


def longest_row(share: float, short_first: float, shortest: float, longest: float) -> float:
    """Codes of the longest row that may come at this share: from `shortest` in a line to `longest`."""
    if share >= short_first:
        return longest
    return shortest + (longest - shortest) * share / short_first
