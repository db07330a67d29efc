"""Is a take speech that could be this text? Cheap signs only, always on; none of them knows words.

The bands are wide: what falls outside is broken, not merely slow or fast.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from llasa_cli.settings import CODES_PER_SECOND
from llasa_cli.text.unicode import CJK_START

if TYPE_CHECKING:
    import numpy as np

FASTEST_S_A_CHARACTER, SLOWEST_S_A_CHARACTER = 0.03, 0.25
"""English is read at 0.055 to 0.09 s a character; a single slow word reaches 0.2."""
CALM_S = 1.5
"""Added to the slowest time: one-word texts are mostly onset and release."""
LONGEST_LOOP_S = 1.0
"""The same code, or the same two to eight in turn, for longer than any held vowel."""
LONGEST_SILENCE_S = 2.0
SILENCE = 0.003
"""Of full scale: -50 dB."""
CLIPPED_SHARE = 0.01


def find_problems(
    text: str,
    codes: Sequence[int],
    samples: np.ndarray,
    sampling_rate: int,
    ended: bool,
    slowest_s_a_character: float = SLOWEST_S_A_CHARACTER,
) -> tuple[str, ...]:
    """What is wrong with a take, in words; empty when nothing is.

    Args:
        text: What should have been said.
        codes: 50 a second.
        samples: float32 [n], what they decoded to.
        ended: Whether the model said END.
        slowest_s_a_character: A checkpoint that knows only a few speakers may know better how slow they get.
    """
    found = []
    seconds = len(codes) / CODES_PER_SECOND
    weight = sum(3 if ord(character) >= CJK_START else 1 for character in text if character.isalnum())
    if not ended:
        found.append("ran to its length limit without an end")
    if seconds < FASTEST_S_A_CHARACTER * weight:
        found.append(f"too short for the text ({seconds:.1f} s)")
    elif seconds > slowest_s_a_character * weight + CALM_S:
        found.append(f"too long for the text ({seconds:.1f} s)")
    loop = longest_loop(codes) / CODES_PER_SECOND
    if loop > LONGEST_LOOP_S:
        found.append(f"repeats itself for {loop:.1f} s")
    silence = longest_silence(samples, sampling_rate)
    if silence > LONGEST_SILENCE_S:
        found.append(f"{silence:.1f} s of silence")
    if len(samples) and float((abs(samples) >= 0.999).mean()) > CLIPPED_SHARE:
        found.append("clipped")
    return tuple(found)


def longest_loop(codes: Sequence[int], longest_period: int = 8) -> int:
    """Codes in the longest stretch that repeats with a period of 1 to `longest_period`."""
    best = 0
    for period in range(1, longest_period + 1):
        run = 0
        for position in range(period, len(codes)):
            run = run + 1 if codes[position] == codes[position - period] else 0
            if run > best and run >= 2 * period:
                best = run
    return best


def longest_silence(samples: np.ndarray, sampling_rate: int) -> float:
    """Seconds of the longest stretch below -50 dB, in steps of 20 ms."""
    import numpy as np

    step = sampling_rate // 50
    frames = samples[: len(samples) // step * step].reshape(-1, step)
    quiet = np.sqrt(np.mean(np.square(frames, dtype=np.float64), axis=1)) < SILENCE
    edges = np.flatnonzero(np.diff(np.concatenate([[False], quiet, [False]]).astype(np.int8)))
    return float((edges[1::2] - edges[::2]).max() * 0.02) if len(edges) else 0.0
