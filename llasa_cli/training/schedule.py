"""How far a run is, and the learning rate that belongs there.

A run lasts a number of steps or of minutes; both become a share from 0 to 1, and everything that changes over a run
follows the share. Minutes are counted over all resumptions.
"""

from __future__ import annotations

import math
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

    def left(self, share: float, first_share: float) -> float:
        """Seconds until the end, at the pace of this process, which began at `first_share`."""
        if self.seconds is not None:
            return max(0.0, self.seconds - self.spent())
        done = share - first_share
        return (self.now() - self.began) * (1.0 - share) / done if done > 0 else 0.0


SCHEDULES = ("trapezoid", "cosine", "linear", "constant")


@dataclass(frozen=True)
class Rate:
    """How the learning rate changes over a run, as a factor of its peak.

    Attributes:
        kind: trapezoid: up in a line, level, over the last `decay_share` of the run in a line to 0. cosine, linear,
            constant: as transformers' schedulers of these names, which the published recipes use.
        warm_up_steps: Until the peak is reached.
        warm_up_share: The same as a share of the run; None takes the steps.
        decay_share: Of the trapezoid.
        steps: Of the run; None if it is told in minutes.
    """

    kind: str
    warm_up_steps: int
    decay_share: float
    warm_up_share: float | None = None
    steps: int | None = None

    def factor(self, step: int, share: float) -> float:
        """At a step, which is at this share of the run."""
        if self.kind == "trapezoid":
            warm = self.warm_up_steps
            if self.warm_up_share is not None and self.steps is not None:
                warm = math.ceil(self.warm_up_share * self.steps)
            elif self.warm_up_share:
                return min(1.0, share / self.warm_up_share) * rate_factor(step, share, 0, self.decay_share)
            return rate_factor(step, share, warm, self.decay_share)
        warm_share, rising = self._warm_up(step, share)
        if rising is not None:
            return rising
        left = 1.0 - (share - warm_share) / max(1e-9, 1.0 - warm_share)
        if self.kind == "cosine":
            return max(0.0, 0.5 * (1.0 + math.cos(math.pi * (1.0 - left))))
        return max(0.0, left) if self.kind == "linear" else 1.0

    def _warm_up(self, step: int, share: float) -> tuple[float, float | None]:
        """The share of the run it takes, and the factor while it lasts, from 0 on as in transformers."""
        if self.warm_up_share is not None and self.steps is None:
            over = share >= self.warm_up_share
            return self.warm_up_share, None if over else share / self.warm_up_share
        count = self.warm_up_steps
        if self.warm_up_share is not None and self.steps is not None:
            count = math.ceil(self.warm_up_share * self.steps)
        if step < count:
            return 0.0, step / max(1, count)
        # In minutes nobody knows at which share the warm-up ended; it is short, and counts as none of the run.
        return (count / self.steps if self.steps else 0.0), None


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
