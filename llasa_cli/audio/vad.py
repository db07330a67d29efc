"""Where in a clip there is sound, and how loud it is there: float32 [n], mono, of any level, in frames of 20 ms."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

FRAME_S = 0.02
_CLICKS = 1e-3
"""The share of samples that may be cut where a clip is raised: one click is no reason to leave it quiet."""
_QUIET_DB, _NOISE_DB, _NOISE_CEILING_DB = -45.0, 6.0, -30.0
"""Below the loudest 20 ms is silence; so is what is hardly louder than the noise, up to -30 dB."""


@dataclass(frozen=True)
class VoiceActivity:
    """Attributes:
    sounding: bool [n // 20 ms], whether there is sound.
    loudest: Root mean square of the loudest 20 ms, 0 to 1.
    level: Root mean square of all that sounds, silences left out; 0 where nothing does.
    """

    sounding: np.ndarray
    loudest: float
    level: float

    @classmethod
    def of(cls, samples: np.ndarray, sampling_rate: int) -> VoiceActivity:
        import numpy as np

        step = round(sampling_rate * FRAME_S)
        # A recorder's constant offset would pass for sound.
        centred = samples.astype(np.float64) - (samples.mean(dtype=np.float64) if len(samples) else 0.0)
        frames = centred[: len(centred) // step * step].reshape(-1, step)
        loudness = np.sqrt(np.mean(np.square(frames), axis=1)) if len(frames) else np.zeros(1)
        loudest = float(loudness.max())
        noise = float(np.quantile(loudness, 0.05)) * 10 ** (_NOISE_DB / 20)
        quiet = max(loudest * 10 ** (_QUIET_DB / 20), min(noise, loudest * 10 ** (_NOISE_CEILING_DB / 20)))
        sounding = loudness > quiet
        level = float(np.sqrt(np.mean(np.square(loudness[sounding])))) if sounding.any() else 0.0
        return cls(sounding, loudest, level)

    @property
    def span(self) -> tuple[int, int]:
        """The first frame with sound, and the one after the last."""
        import numpy as np

        found = np.flatnonzero(self.sounding)
        return (int(found[0]), int(found[-1]) + 1) if len(found) else (0, 0)

    @property
    def seconds(self) -> float:
        begin, end = self.span
        return (end - begin) * FRAME_S

    @property
    def sound_s(self) -> float:
        return float(self.sounding.sum()) * FRAME_S

    @cached_property
    def pauses(self) -> list[tuple[float, float]]:
        """Begin and end, in seconds, of each stillness within the speech."""
        import numpy as np

        begin, end = self.span
        edges = np.flatnonzero(np.diff(self.sounding[begin:end].astype(np.int8)))
        return [
            (float(begin + first + 1) * FRAME_S, float(begin + second + 1) * FRAME_S)
            for first, second in zip(edges[::2], edges[1::2], strict=True)
        ]


def room_for(samples: np.ndarray, gain: float, most: float) -> float:
    """A gain, or the largest by which all but a few clicks stay below `most`; never one that turns down what is raised."""
    import numpy as np

    loud = float(np.quantile(np.abs(samples), 1 - _CLICKS)) if len(samples) else 0.0
    return gain if gain <= 1 or loud == 0 else max(1.0, min(gain, most / loud))
