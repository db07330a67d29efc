"""The completed share of a run, and the learning rate at that point.

A run lasts a number of steps or of minutes. Both become a share from 0 to 1, and everything that changes during a run
follows the share. Minutes are counted over all resumed processes of a run.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

ADAPTER_RATE = 5e-4
"""The learning rate of the published LoRA recipes."""
_RATES_BY_SIZE = ((50e6, 4e-4, 2e-3), (200e6, 1e-4, 1e-3), (800e6, 3e-5, 5e-4))
"""Parameters below which a rate is used: for a model that speaks already, and for one with random weights."""
_LARGE_RATES = (1e-5, 3e-4)
_NEW_TOKENS_FACTOR = 5
"""A text model learns its speech tokens at 5e-5 in the published recipe, five times the rate of a Llasa of that size."""
_WARM_UP_STEPS = 60


def default_learning_rate(parameters: int, *, adapter: bool, random_weights: bool, new_tokens: bool) -> float:
    """The peak learning rate where the user names none.

    Args:
        parameters: The number of parameters of the whole model.
        adapter: A LoRA adapter is trained.
        random_weights: Training starts from random weights.
        new_tokens: The model is a text model whose embeddings grow by the speech tokens.
    """
    if adapter:
        return ADAPTER_RATE
    rates = next((rates for limit, *rates in _RATES_BY_SIZE if parameters < limit), list(_LARGE_RATES))
    if random_weights:
        return rates[1]
    return rates[0] * _NEW_TOKENS_FACTOR if new_tokens else rates[0]


def default_warm_up(steps: int | None) -> int:
    """Warm-up steps where the user names none: 60, or a tenth of a run (of `steps`, where they are known) if that is less."""
    return _WARM_UP_STEPS if steps is None else min(_WARM_UP_STEPS, max(1, steps // 10))


@dataclass
class Clock:
    """The share of a run that is done.

    Attributes:
        steps: Length of the run in steps; None if it is given in minutes.
        seconds: Length of the run in seconds; None if it is given in steps.
        spent_before: Seconds that earlier processes of the same run took.
    """

    steps: int | None
    seconds: float | None
    spent_before: float = 0.0
    now: Callable[[], float] = time.monotonic
    began: float | None = field(init=False, default=None)

    def start(self) -> None:
        """Count time from here, once everything is loaded."""
        self.began = self.now()

    def spent_here(self) -> float:
        """Seconds of this process; 0 before `start`."""
        return 0.0 if self.began is None else self.now() - self.began

    def spent(self) -> float:
        """Seconds of this process and of those before it."""
        return self.spent_before + self.spent_here()

    def share(self, step: int) -> float:
        """0 at the beginning of the run, 1 at its end."""
        if self.seconds is not None:
            return min(1.0, self.spent() / self.seconds)
        assert self.steps is not None
        return min(1.0, step / self.steps)

    def left(self, share: float, first_share: float) -> float:
        """Seconds until the end at the pace of this process, which started at `first_share`."""
        if self.seconds is not None:
            return max(0.0, self.seconds - self.spent())
        done = share - first_share
        return self.spent_here() * (1.0 - share) / done if done > 0 else 0.0


@dataclass(frozen=True)
class LearningRate:
    """The learning rate over a run, as a factor of its peak.

    Attributes:
        kind: `trapezoid` rises linearly, stays at the peak, and falls linearly to 0 over the last `decay_share` of the
            run. `cosine`, `linear` and `constant` equal transformers' schedulers of these names, which the published
            recipes use.
        warm_up_steps: Steps until the peak is reached.
        decay_share: The decay share of the trapezoid.
        warm_up_share: The warm-up as a share of the run; None uses the steps.
        steps: Length of the run; None if it is given in minutes.
    """

    kind: str
    warm_up_steps: int
    decay_share: float
    warm_up_share: float | None = None
    steps: int | None = None

    def factor(self, step: int, share: float) -> float:
        """The factor at a step that lies at `share` of the run."""
        if self.kind == "trapezoid":
            if self.warm_up_share and self.steps is None:
                return min(1.0, share / self.warm_up_share) * trapezoid(step, share, 0, self.decay_share)
            return trapezoid(step, share, self._warm_up_count(), self.decay_share)
        warm_share, rising = self._warm_up(step, share)
        if rising is not None:
            return rising
        left = 1.0 - (share - warm_share) / max(1e-9, 1.0 - warm_share)
        if self.kind == "cosine":
            return max(0.0, 0.5 * (1.0 + math.cos(math.pi * (1.0 - left))))
        return max(0.0, left) if self.kind == "linear" else 1.0

    def _warm_up_count(self) -> int:
        if self.warm_up_share is not None and self.steps is not None:
            return math.ceil(self.warm_up_share * self.steps)
        return self.warm_up_steps

    def _warm_up(self, step: int, share: float) -> tuple[float, float | None]:
        """The share of the run that the warm-up takes, and the factor during it; it starts at 0, as in transformers."""
        if self.warm_up_share is not None and self.steps is None:
            over = share >= self.warm_up_share
            return self.warm_up_share, None if over else share / self.warm_up_share
        count = self._warm_up_count()
        if step < count:
            return 0.0, step / max(1, count)
        # The length in steps of a run in minutes is unknown; its warm-up is short and is not counted.
        return (count / self.steps if self.steps else 0.0), None


def trapezoid(step: int, share: float, warm_up_steps: int, decay_share: float) -> float:
    """A linear warm-up, then 1, then a linear fall to 0 over the last `decay_share` of the run."""
    warm = min(1.0, (step + 1) / warm_up_steps) if warm_up_steps > 0 else 1.0
    fall = min(1.0, (1.0 - share) / decay_share) if decay_share > 0 else 1.0
    return warm * fall


def max_codes_at(share: float, length_curriculum: float, shortest: float, longest: float) -> float:
    """Codes of the longest row that may be drawn at this share of the run: a line from `shortest` to `longest`."""
    if share >= length_curriculum:
        return longest
    return shortest + (longest - shortest) * share / length_curriculum
