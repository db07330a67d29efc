"""May a sentence be heard while it is still being made? Only if it is made faster than it is spoken.

    pacing = RealTimeStreamGate()                                   one for the whole command: it learns from every sentence
    pieces = decode_stream(codec, pacing.watch(codes), before)
    for piece in pacing.hold(pieces, sampling_rate):    the same pieces; too slow: all of them when the last is there
        sink.write(piece)

No sound and no device in here: the clock is given, so the same speeds always lead to the same decisions.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from llasa_cli.settings import CODES_PER_SECOND

if TYPE_CHECKING:
    import numpy as np

MARGIN = 1.25
"""So many times as fast as speech it must go: a machine has other work now and then."""
REMEMBERED_S = 20.0
"""Of speech. The speed is that of about so much of it, so that a machine that gets busy is noticed."""
LONGEST_GROWTH = 2.0
"""The next piece of `decode_stream` takes at most so many times the codes of the last (1.5, and the search for a joint)."""
TELLING_CODES = 8
"""From so few codes no speed is told: the first ones of a model are slow."""


class RealTimeStreamGate:
    """How fast sentences were made, and what follows from it for the next.

    Attributes:
        is_late: The sentence that was made last was given whole, because making it took too long.
    """

    def __init__(self, margin: float = MARGIN, clock: Callable[[], float] = time.perf_counter) -> None:
        self.is_late = False
        self._margin, self._clock = margin, clock
        self._speech_s = self._work_s = 0.0  # of earlier sentences, fading
        self._codes = 0  # of this sentence
        self._spent = self._before_first = 0.0
        self._resumed = 0.0

    @property
    def speed(self) -> float | None:
        """Seconds of speech a second of work; None as long as nothing is known."""
        speech_s = self._speech_s + max(0, self._codes - 1) / CODES_PER_SECOND
        work_s = self._work_s + self._spent - self._before_first
        known = self._speech_s > 0 or self._codes >= TELLING_CODES
        return speech_s / max(work_s, 1e-9) if known else None

    def is_fast(self) -> bool:
        """Whether a sentence that is about to be made may be heard at once; the first one may try."""
        return self.speed is None or self.speed >= self._margin

    def watch(self, codes: Iterable[int]) -> Iterator[int]:
        """The codes of a sentence, counted. What comes before the first is no matter of speed: reading the prompt."""
        self._end_sentence()
        for code in codes:
            self._codes += 1
            if self._codes == 1:
                self._before_first = self._spent + self._clock() - self._resumed
            yield code

    def hold(self, pieces: Iterable[np.ndarray], sampling_rate: int) -> Iterator[np.ndarray]:
        """Give the pieces of a sentence on, beginning when the rest can be relied on to come in time.

        What is held must last until the next piece is there, which may be longer than the last one. Only the time spent on
        making pieces counts, not what their taker does.
        """
        held: list[np.ndarray] = []
        held_s = 0.0
        begun = False
        for piece in self._timed(pieces):
            if begun:
                yield piece
                continue
            held.append(piece)
            held_s += len(piece) / sampling_rate
            begun = self._may_begin(held_s, len(piece) / sampling_rate)
            if begun:
                yield from held
                held.clear()
        self.is_late = not begun
        yield from held

    def _may_begin(self, held_s: float, last_s: float) -> bool:
        speed = self.speed
        if speed is None or speed < self._margin:
            return False
        return held_s * speed >= LONGEST_GROWTH * last_s

    def _timed(self, pieces: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        source = iter(pieces)
        while True:
            self._resumed = self._clock()
            piece = next(source, None)
            self._spent += self._clock() - self._resumed
            if piece is None:
                return
            yield piece

    def add(self, speech_s: float, work_s: float) -> None:
        """A sentence that was made without `watch` and `hold`; what is older fades."""
        left = 0.5 ** (speech_s / REMEMBERED_S)
        self._speech_s = self._speech_s * left + speech_s
        self._work_s = self._work_s * left + work_s

    def _end_sentence(self) -> None:
        """The sentence before joins the past."""
        if self._codes >= TELLING_CODES:
            self.add((self._codes - 1) / CODES_PER_SECOND, self._spent - self._before_first)
        self._codes, self._spent, self._before_first = 0, 0.0, 0.0
