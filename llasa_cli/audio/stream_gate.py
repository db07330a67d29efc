"""Whether a sentence may be played while it is still being generated: only if generation is faster than playback.

    gate = RealTimeStreamGate()                        one for the whole command, since it measures every sentence
    pieces = decode_stream(codec, gate.watch(codes, codec.codes_per_second), before)
    for piece in gate.hold(pieces, sampling_rate):     the same pieces; if generation is slow, all of them at the end
        sink.write(piece)

The gate reads only a clock, which can be replaced, so the same speeds always give the same decisions.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from llasa_cli.settings import CODES_PER_SECOND

if TYPE_CHECKING:
    import numpy as np

MARGIN = 1.25
"""Required speed in times real time; the machine may have other work now and then."""
REMEMBERED_S = 20.0
"""Seconds of speech over which the speed is averaged; older measurements fade, so that a busy machine is noticed."""
LONGEST_GROWTH = 2.0
"""Ratio of the codes that `decode_stream` needs for successive pieces, at most: the growth of 1.5, and the cut's search."""
TELLING_CODES = 8
"""The speed is not measured on fewer codes, since a model's first ones are slow."""


class RealTimeStreamGate:
    """Measures the speed of generation, and holds sound back if it is too slow.

    Args:
        growth: The ratio of the codes that are needed for successive pieces, if it may exceed `LONGEST_GROWTH`.
        longest_s: The longest piece, in seconds.

    Attributes:
        is_late: Whether the last sentence was held back to its end, because generation was too slow.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.perf_counter,
        growth: float = LONGEST_GROWTH,
        longest_s: float = math.inf,
    ) -> None:
        self.is_late, self._codes_per_second = False, float(CODES_PER_SECOND)
        self._clock, self._growth, self._longest_s = clock, max(LONGEST_GROWTH, growth), longest_s
        self._speech_s = self._work_s = 0.0  # earlier sentences, with fading weight
        self._codes = 0  # this sentence
        self._spent = self._before_first = 0.0
        self._resumed = 0.0

    @property
    def speed(self) -> float | None:
        """Seconds of speech per second of work; None before the first measurement."""
        speech_s = self._speech_s + max(0, self._codes - 1) / self._codes_per_second
        work_s = self._work_s + self._spent - self._before_first
        known = self._speech_s > 0 or self._codes >= TELLING_CODES
        return speech_s / max(work_s, 1e-9) if known else None

    def is_fast(self) -> bool:
        """Whether the next sentence may be streamed. Before the first measurement it may."""
        return self.speed is None or self.speed >= MARGIN

    def watch(self, codes: Iterable[int], codes_per_second: float = CODES_PER_SECOND) -> Iterator[int]:
        """Pass on the codes of a sentence and count them. The time before the first one is prefill and does not count."""
        self._end_sentence()
        self._codes_per_second = codes_per_second
        for code in codes:
            self._codes += 1
            if self._codes == 1:
                self._before_first = self._spent + self._clock() - self._resumed
            yield code

    def hold(self, pieces: Iterable[np.ndarray], sampling_rate: int) -> Iterator[np.ndarray]:
        """Pass on the pieces of a sentence, from the moment when the rest will arrive in time.

        The pieces held back must last until the next one is ready, which may be longer than the last one. Only the time for
        making pieces counts, not the time of the consumer.
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
        if speed is None or speed < MARGIN:
            return False
        return held_s * speed >= min(self._growth * last_s, self._longest_s)

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
        """Add the measurement of a sentence that was made without `watch` and `hold`."""
        left = 0.5 ** (speech_s / REMEMBERED_S)
        self._speech_s = self._speech_s * left + speech_s
        self._work_s = self._work_s * left + work_s

    def _end_sentence(self) -> None:
        """Add the measurement of the previous sentence."""
        if self._codes >= TELLING_CODES:
            self.add((self._codes - 1) / self._codes_per_second, self._spent - self._before_first)
        self._codes, self._spent, self._before_first = 0, 0.0, 0.0
