"""Voice activity in a recording, and its faults: noise and clipping.

All functions take float32 [n], mono, at any level. Activity is measured in frames of 20 ms.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

FRAME_S = 0.02
_CLICK_SHARE = 1e-3
"""The share of samples that may exceed the peak limit when a clip is raised: a single click must not keep it quiet."""
_QUIET_DB, _NOISE_DB, _NOISE_CEILING_DB = -45.0, 6.0, -30.0
"""A frame is silent when it is 45 dB below the loudest one, or less than 6 dB above the noise. The second rule applies
only up to 30 dB below the loudest frame."""
_NOISE_QUANTILE = 0.05
"""Speech has gaps (stops, breaths), so the quietest 5 % of its frames show the noise."""
_FLAT_RUN, _FLAT_TOLERANCE = 4, 2e-4
"""Samples in a row within this share of the extreme value that count as a flat top; a sine's peak is narrower."""
_LOUD_QUANTILE, _LOUDEST, _LOUD = 0.999, 0.85, 0.7
"""Limits of the two amplitude bands that `loudness_bulge` compares."""


@dataclass(frozen=True)
class VoiceActivity:
    """The frames of a clip that have sound.

    Attributes:
        active: bool [n // 20 ms], whether the frame has sound.
        peak_rms: Root mean square of the loudest frame, 0 to 1.
        speech_rms: Root mean square over all active frames; 0 if there are none.
        snr_db: Power of speech over power of noise, in dB, between the first and the last active frame. The noise is
            taken from the quietest 5 % of those frames. Infinite for digital silence between words.
    """

    active: np.ndarray
    peak_rms: float
    speech_rms: float
    snr_db: float

    @classmethod
    def of(cls, samples: np.ndarray, sampling_rate: int) -> VoiceActivity:
        import numpy as np

        step = round(sampling_rate * FRAME_S)
        # A constant offset would pass for sound.
        centered = samples.astype(np.float64) - (samples.mean(dtype=np.float64) if len(samples) else 0.0)
        frames = centered[: len(centered) // step * step].reshape(-1, step)
        loudness = np.sqrt(np.mean(np.square(frames), axis=1)) if len(frames) else np.zeros(1)
        peak = float(loudness.max())
        noise = float(np.quantile(loudness, _NOISE_QUANTILE)) * 10 ** (_NOISE_DB / 20)
        quiet = max(peak * 10 ** (_QUIET_DB / 20), min(noise, peak * 10 ** (_NOISE_CEILING_DB / 20)))
        active = loudness > quiet
        speech = float(np.sqrt(np.mean(np.square(loudness[active])))) if active.any() else 0.0
        begin, end = _span(active)
        return cls(active, peak, speech, _snr_db(np.square(loudness[begin:end])))

    @property
    def span(self) -> tuple[int, int]:
        """The first active frame, and the frame after the last one; (0, 0) if there are none."""
        return _span(self.active)

    @property
    def span_s(self) -> float:
        """Seconds from the first active frame to the last, pauses included."""
        begin, end = self.span
        return (end - begin) * FRAME_S

    @property
    def active_s(self) -> float:
        """Seconds of all active frames."""
        return float(self.active.sum()) * FRAME_S

    @cached_property
    def pauses(self) -> list[tuple[float, float]]:
        """Begin and end, in seconds, of every silence within the speech."""
        import numpy as np

        begin, end = self.span
        edges = np.flatnonzero(np.diff(self.active[begin:end].astype(np.int8)))
        return [
            (float(begin + first + 1) * FRAME_S, float(begin + second + 1) * FRAME_S)
            for first, second in zip(edges[::2], edges[1::2], strict=True)
        ]


def _span(active: np.ndarray) -> tuple[int, int]:
    import numpy as np

    found = np.flatnonzero(active)
    return (int(found[0]), int(found[-1]) + 1) if len(found) else (0, 0)


def _snr_db(power: np.ndarray) -> float:
    """Mean power above the noise, over the noise, in dB; `power` holds one value per frame."""
    import numpy as np

    if not len(power):
        return 0.0
    noise = float(np.quantile(power, _NOISE_QUANTILE))
    speech = float(power.mean()) - noise
    if noise == 0:
        return float("inf")
    return float(10 * np.log10(max(speech, 1e-3 * noise) / noise))


def flat_top_share(samples: np.ndarray) -> float:
    """The share of samples that lie on flat tops: several in a row at the largest or at the smallest value.

    Clipping shows like this at any level and on one side alone, as long as the sound was not resampled or compressed
    afterwards (see `loudness_bulge`). Returns 0 for silence.
    """
    import numpy as np

    flat = 0
    for side in (samples, -samples):
        peak = float(side.max()) if len(side) else 0.0
        if peak <= 0:
            continue
        top = side >= peak * (1 - _FLAT_TOLERANCE)
        edges = np.flatnonzero(np.diff(np.concatenate([[0], top.astype(np.int8), [0]])))
        lengths = edges[1::2] - edges[::2]
        flat += int(lengths[lengths >= _FLAT_RUN].sum())
    return flat / max(len(samples), 1)


def loudness_bulge(samples: np.ndarray) -> float:
    """The ratio of the samples near the highest level to the samples just below it.

    Loud samples are rare in speech: the ratio is 0.3 on average, and at most 0.94 in 207 recordings. In a clip that was
    clipped at 3 % of its samples, and then resampled or compressed, it is 1.1 to 1.8. A steady tone has 2.3.
    """
    import numpy as np

    size = np.abs(samples - samples.mean(dtype=np.float64)) if len(samples) else np.zeros(1)
    peak = float(np.quantile(size, _LOUD_QUANTILE))
    loudest = int(((size >= _LOUDEST * peak) & (size < peak)).sum())
    loud = int(((size >= _LOUD * peak) & (size < _LOUDEST * peak)).sum())
    return loudest / max(loud, 1)


def limit_gain(samples: np.ndarray, gain: float, peak: float) -> float:
    """`gain`, reduced if necessary so that all but a few clicks stay below `peak`; a gain above 1 is not reduced below 1."""
    import numpy as np

    loud = float(np.quantile(np.abs(samples), 1 - _CLICK_SHARE)) if len(samples) else 0.0
    return gain if gain <= 1 or loud == 0 else max(1.0, min(gain, peak / loud))
