"""Checks of a take that are always on. They are cheap and need no recognizer."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from llasa_cli.settings import CODES_PER_SECOND

if TYPE_CHECKING:
    import numpy as np

LONGEST_LOOP_S = 1.0
"""The longest repetition that is not reported: no vowel is held for longer."""
LONGEST_SILENCE_S = 2.0
SILENCE = 0.003
"""The level of silence as a share of full scale: -50 dB."""
CLIPPED_SHARE = 0.01
REPEATED_S = 0.5
"""The length of a passage whose second occurrence in the same take is a problem."""
_SAME_CODES = 0.6
"""The share of equal codes from which on a passage counts as repeated. When a text has a phrase twice, the second one shares
less than half of its codes with the first."""


def find_problems(
    text: str,
    codes: Sequence[int],
    samples: np.ndarray,
    sampling_rate: int,
    ended: bool,
    limits_s: tuple[float, float],
    codes_per_second: float = CODES_PER_SECOND,
) -> tuple[str, ...]:
    """The problems of a take, in words; empty for a good one.

    Args:
        text: The text that the model was given.
        codes: The codes of the take.
        samples: float32 [n], the decoded codes.
        ended: Whether the model generated its end token.
        limits_s: The shortest and the longest plausible duration; see `synthesis.length_band`.
        codes_per_second: The codec's.
    """
    found = []
    seconds = len(codes) / codes_per_second
    shortest_s, longest_s = limits_s
    if not ended:
        found.append("ran to its length limit without an end")
    if seconds < shortest_s:
        found.append(f"too short for the text ({seconds:.1f} s)")
    elif seconds > longest_s:
        found.append(f"too long for the text ({seconds:.1f} s)")
    loop_s = longest_loop(codes) / codes_per_second
    if loop_s > LONGEST_LOOP_S:
        found.append(f"repeats itself for {loop_s:.1f} s")
    elif not _repeats_words(text) and (places := find_repetition(codes, codes_per_second)) is not None:
        first_s, second_s = (place / codes_per_second for place in places)
        found.append(f"says a passage twice (at {first_s:.1f} s and {second_s:.1f} s)")
    silence_s = longest_silence(samples, sampling_rate)
    if silence_s > LONGEST_SILENCE_S:
        found.append(f"{silence_s:.1f} s of silence")
    if len(samples) and float((abs(samples) >= 0.999).mean()) > CLIPPED_SHARE:
        found.append("clipped")
    return tuple(found)


def longest_loop(codes: Sequence[int]) -> int:
    """The number of codes in the longest stretch that repeats with a period of 1 to 8 codes."""
    best = 0
    for period in range(1, 9):
        run = 0
        for position in range(period, len(codes)):
            run = run + 1 if codes[position] == codes[position - period] else 0
            if run > best and run >= 2 * period:
                best = run
    return best


def find_repetition(codes: Sequence[int], codes_per_second: float = CODES_PER_SECOND) -> tuple[int, int] | None:
    """Find a passage of half a second that occurs twice. Returns both positions, or None.

    Positions at the same distance are compared, so that a few different codes in between do not matter. Silence is ignored: it
    has few different codes.
    """
    import numpy as np

    window = round(REPEATED_S * codes_per_second)
    least = math.ceil(_SAME_CODES * window)
    array = np.asarray(codes)
    for distance in range(window, len(array) - window + 1):
        same = array[distance:] == array[:-distance]
        if np.count_nonzero(same) < least:
            continue
        sums = np.concatenate([[0], np.cumsum(same)])
        for first in np.flatnonzero(sums[window:] - sums[:-window] >= least):
            matched = array[first : first + window][same[first : first + window]]
            if len(np.unique(matched)) >= window // 3:
                return int(first), int(first) + distance
    return None


def _repeats_words(text: str) -> bool:
    """Whether a text has the same two words, or a long word, twice, so that its speech may repeat a passage too."""
    words = [word.strip(".,;:!?\"'").casefold() for word in text.split()]
    pairs = list(itertools.pairwise(words))
    long = [word for word in words if len(word) >= 8]
    return len(set(pairs)) < len(pairs) or len(set(long)) < len(long)


def longest_silence(samples: np.ndarray, sampling_rate: int) -> float:
    """Seconds of the longest stretch below -50 dB, in steps of 20 ms."""
    import numpy as np

    step = sampling_rate // 50
    frames = samples[: len(samples) // step * step].reshape(-1, step)
    quiet = np.sqrt(np.mean(np.square(frames, dtype=np.float64), axis=1)) < SILENCE
    edges = np.flatnonzero(np.diff(np.concatenate([[False], quiet, [False]]).astype(np.int8)))
    return float((edges[1::2] - edges[::2]).max() * 0.02) if len(edges) else 0.0
