"""The form in which sound is passed between packages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class AudioChunk:
    """Samples with their sampling rate.

    Attributes:
        samples: float32 [n], mono, -1..1.
        sampling_rate: Hz.
    """

    samples: np.ndarray
    sampling_rate: int

    @property
    def seconds(self) -> float:
        return len(self.samples) / self.sampling_rate


def pcm16(samples: np.ndarray) -> np.ndarray:
    """float32 -1..1 -> int16. Samples beyond full scale are clipped."""
    import numpy as np

    rounded: np.ndarray = (np.clip(samples, -1.0, 1.0) * 32767.0).round().astype(np.int16)
    return rounded


def to_pcm16(samples: np.ndarray) -> bytes:
    """float32 -1..1 -> little-endian 16-bit integers."""
    return pcm16(samples).astype("<i2").tobytes()


def from_pcm16(samples: np.ndarray) -> np.ndarray:
    """int16 -> float32, from which `pcm16` makes the same integers again."""
    import numpy as np

    return samples.astype(np.float32) / np.float32(32767.0)
