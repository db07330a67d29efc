"""The limits for the length of a text's speech, calibrated for a checkpoint from its own takes.

    band = LengthBand.calibrate([(text, seconds), ...])         a few hundred takes that are known to be good
    shortest_s, longest_s = band.limits("Good evening.")

`llasa.json` holds a band for each speaker that differs from the others, and one for everything else:

    "length_bands": {"": {"base_s": 0.32, "letter_s": 0.071, "pause_s": 0.27, "below": 2.4, "above": 2.8, "takes": 330}}

`benchmarks/length_band.py` makes the takes and the entry. A checkpoint without one gets the wide limits of `wide_limits`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from llasa_cli.text.width import count_letters, spoken_length

FASTEST_S_A_CHARACTER, SLOWEST_S_A_CHARACTER = 0.03, 0.25
"""English is read at 0.055 to 0.09 s a letter; a single slow word reaches 0.2."""
_ONSET_S = 1.5
"""Added to the slowest time: one-word texts consist mostly of onset and release."""

_PAUSES = re.compile(r"[,;:.!?—–…]+(?=\s)|[、，；：。！？](?=.)")
_SPREAD_S, _SPREAD_SHARE = 0.15, 0.05
"""Durations of equally long texts differ by about this much, and by this share of the duration."""
_OUTSIDE = 0.005
"""The share of the good takes that the limits may exclude on each side."""
_MARGIN = 1.3
"""The limits are wider than the quantiles of the takes by this factor, since other texts vary a little more."""
LEAST_TAKES = 50


@dataclass(frozen=True)
class LengthBand:
    """The plausible durations of a checkpoint's speech.

    The expected duration is base_s + letter_s * letters + pause_s * pauses.

    Attributes:
        base_s: Seconds before and after the words.
        letter_s: Seconds for each letter.
        pause_s: Seconds for each mark inside the text at which a reader pauses.
        below, above: The distance from the expected duration that a take may have, in units of the typical difference.
        takes: The number of takes that the band was calibrated from.
    """

    base_s: float
    letter_s: float
    pause_s: float
    below: float
    above: float
    takes: int = 0

    def limits(self, text: str) -> tuple[float, float]:
        """The shortest and the longest plausible duration in seconds."""
        expected = self.base_s + self.letter_s * count_letters(text) + self.pause_s * count_pauses(text)
        spread = _SPREAD_S + _SPREAD_SHARE * expected
        return max(0.0, expected - self.below * spread), expected + self.above * spread

    @classmethod
    def calibrate(cls, takes: Iterable[tuple[str, float]]) -> LengthBand:
        """Fit a band to good takes.

        A few bad ones among them do no harm: takes far from the fit are left out, and it is repeated.

        Args:
            takes: (text as the model was given it, seconds).

        Raises:
            ValueError: There are fewer than `LEAST_TAKES` takes, or all texts are equally long.
        """
        import numpy as np

        pairs = list(takes)
        if len(pairs) < LEAST_TAKES:
            raise ValueError(f"{len(pairs)} takes are too few; {LEAST_TAKES} are needed.")
        features = np.array([(1.0, count_letters(text), count_pauses(text)) for text, _ in pairs])
        seconds = np.array([duration for _, duration in pairs])
        if np.ptp(features[:, 1]) == 0:
            raise ValueError("The texts are all equally long.")
        kept = np.ones(len(pairs), bool)
        for _ in range(3):
            fit, *_ = np.linalg.lstsq(features[kept], seconds[kept], rcond=None)
            expected = features @ fit
            distance = (seconds - expected) / (_SPREAD_S + _SPREAD_SHARE * expected)
            kept = (
                np.abs(distance - np.median(distance)) < 5 * np.median(np.abs(distance - np.median(distance))) / 0.6745
            )
        low, high = np.quantile(distance[kept], [_OUTSIDE, 1 - _OUTSIDE])
        base_s, letter_s, pause_s = (round(float(value), 4) for value in fit)
        below, above = (round(float(value) * _MARGIN, 2) for value in (-low, high))
        return cls(base_s, letter_s, pause_s, below, above, len(pairs))

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any], speaker: str | None) -> LengthBand | None:
        """The band of a speaker in `llasa.json`, else the one of all others, else None."""
        bands = metadata.get("length_bands") or {}
        entry = bands.get(speaker or "") or bands.get("")
        return (
            None if entry is None else cls(**{name: entry[name] for name in cls.__dataclass_fields__ if name in entry})
        )

    def to_metadata(self) -> dict[str, Any]:
        """The entry of `llasa.json`."""
        return asdict(self)


def count_pauses(text: str) -> int:
    """The marks inside a text at which a reader pauses."""
    return len(_PAUSES.findall(text.strip()))


def wide_limits(text: str, slowest_s_a_character: float = SLOWEST_S_A_CHARACTER) -> tuple[float, float]:
    """The limits for a checkpoint without a band. Speech outside of them is broken, not merely slow or fast."""
    letters = spoken_length("".join(filter(str.isalnum, text)))
    return FASTEST_S_A_CHARACTER * letters, slowest_s_a_character * letters + _ONSET_S
