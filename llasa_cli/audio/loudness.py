"""Loudness by EBU R128 (ITU-R BS.1770-4), measured and set in flat memory however long the sound is.

gain = find_gain(sounds, target=-19.0)            sounds() -> the same `AudioChunk`s each time
for chunk in with_gain(sounds(), gain): ...       the true peaks stay below CEILING_DB
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

from llasa_cli.audio.chunk import AudioChunk

if TYPE_CHECKING:
    import numpy as np

CEILING_DB = -2.0
"""True peak in dBFS. Listeners' software wants less than -1 dB, and a lossy codec adds up to a decibel."""
_HOP_S = 0.1
_HOPS_PER_BLOCK = 4
"""Loudness is measured over blocks of 400 ms, three quarters of which overlap."""
_ABSOLUTE_GATE, _RELATIVE_GATE = -70.0, -10.0
"""LUFS, LU."""
_RESPONSE_S = 0.1
"""Length of the K-weighting's impulse response; what follows is 200 dB below its peak."""
_LOOKAHEAD_S = 0.01
_PHASES, _PHASE_TAPS = 4, 24
"""True peaks are looked for between the samples, at four times their rate."""
_TOLERANCE_LU = 0.05
_MOST_PASSES = 5


class LoudnessMeter:
    """Measures integrated loudness."""

    def __init__(self, sampling_rate: int) -> None:
        import numpy as np

        self._response = _k_weighting(sampling_rate)
        self._tail = np.zeros(len(self._response) - 1)
        self._hop = round(_HOP_S * sampling_rate)
        self._rest = np.zeros(0)
        self._energies = array("d")
        """Mean square of each hop: 7 MB for a day."""

    def add(self, samples: np.ndarray) -> None:
        """float32 [n]."""
        import numpy as np

        if not len(samples):
            return
        joined = np.concatenate([self._tail, samples])
        self._tail = joined[-len(self._tail) :]
        size = 1 << (len(joined) - 1).bit_length()
        spectrum = np.fft.rfft(joined, size) * np.fft.rfft(self._response, size)
        weighted = np.fft.irfft(spectrum, size)[len(self._response) - 1 : len(joined)]
        power = np.concatenate([self._rest, np.square(weighted)])
        whole = len(power) // self._hop * self._hop
        self._energies.extend(power[:whole].reshape(-1, self._hop).mean(1))
        self._rest = power[whole:]

    def loudness(self) -> float:
        """LUFS; -inf for silence."""
        import numpy as np

        energies = np.array(self._energies) if len(self._energies) else np.array([self._rest.mean()])
        width = min(_HOPS_PER_BLOCK, len(energies))
        blocks = np.convolve(energies, np.full(width, 1 / width), "valid")
        gated = blocks[blocks > _power(_ABSOLUTE_GATE)]
        if not len(gated):
            return -math.inf
        gated = gated[gated > gated.mean() * 10 ** (_RELATIVE_GATE / 10)]
        return _lufs(float(gated.mean()))


def _lufs(power: float) -> float:
    return -0.691 + 10 * math.log10(power)


def _power(lufs: float) -> float:
    return float(10 ** ((lufs + 0.691) / 10))


@lru_cache(maxsize=4)
def _k_weighting(sampling_rate: int) -> np.ndarray:
    """The impulse response of BS.1770's two filters, a high shelf and a high pass, for any sampling rate."""
    import numpy as np

    response = np.zeros(round(_RESPONSE_S * sampling_rate))
    response[0] = 1.0
    k, q, high = (
        math.tan(math.pi * 1681.974450955533 / sampling_rate),
        0.7071752369554196,
        10 ** (3.999843853973347 / 20),
    )
    band, whole = high**0.4996667741545416, 1 + k / q + k * k
    shelf = [(high + band * k / q + k * k) / whole, 2 * (k * k - high) / whole, (high - band * k / q + k * k) / whole]
    response = _filter(response, shelf, [2 * (k * k - 1) / whole, (1 - k / q + k * k) / whole])
    k, q = math.tan(math.pi * 38.13547087602444 / sampling_rate), 0.5003270373238773
    whole = 1 + k / q + k * k
    return _filter(response, [1.0, -2.0, 1.0], [2 * (k * k - 1) / whole, (1 - k / q + k * k) / whole])


def _filter(x: np.ndarray, b: list[float], a: list[float]) -> np.ndarray:
    """A second-order filter with a[0] = 1, which is left out."""
    import numpy as np

    y = np.zeros_like(x)
    for n in range(len(x)):
        y[n] = sum(b[i] * x[n - i] for i in range(3) if n >= i) - sum(a[i - 1] * y[n - i] for i in (1, 2) if n >= i)
    return y


def measure(chunks: Iterable[AudioChunk]) -> float:
    """The integrated loudness of a sound in LUFS; -inf for silence."""
    meter: LoudnessMeter | None = None
    for chunk in chunks:
        meter = meter or LoudnessMeter(chunk.sampling_rate)
        meter.add(chunk.samples)
    return meter.loudness() if meter is not None else -math.inf


def find_gain(sounds: Callable[[], Iterable[AudioChunk]], target: float) -> float:
    """The factor with which a sound has the target loudness after `with_gain`; 1 for silence.

    Where peaks have to be limited, the factor is found in a few passes over the sound.

    Args:
        target: LUFS.
    """
    gain = 1.0
    for _ in range(_MOST_PASSES):
        loudness = measure(with_gain(sounds(), gain) if gain != 1 else sounds())
        if math.isinf(loudness) or abs(target - loudness) < _TOLERANCE_LU:
            break
        gain *= 10 ** ((target - loudness) / 20)
    return gain


def with_gain(chunks: Iterable[AudioChunk], gain: float) -> Iterator[AudioChunk]:
    """Multiply the sound by `gain`. Peaks that would exceed CEILING_DB are turned down smoothly."""
    limiter: _Limiter | None = None
    rate = 0
    for chunk in chunks:
        rate = chunk.sampling_rate
        limiter = limiter or _Limiter(rate, 10 ** (CEILING_DB / 20))
        yield AudioChunk(limiter.push(chunk.samples * gain), rate)
    if limiter is not None:
        yield AudioChunk(limiter.finish(), rate)


class _Limiter:
    """A limiter with look-ahead: the gain is the smoothed minimum of what each peak around a sample allows."""

    def __init__(self, rate: int, ceiling: float) -> None:
        import numpy as np

        self._ceiling = ceiling
        self._radius = round(_LOOKAHEAD_S * rate)
        self._context = 2 * self._radius + _PHASE_TAPS
        """Samples on each side that decide about one."""
        self._held = np.zeros(self._context, np.float32)

    def push(self, samples: np.ndarray) -> np.ndarray:
        """Samples in, the same number of samples or fewer out, `context` samples late."""
        import numpy as np

        x = np.concatenate([self._held, samples]).astype(np.float32)
        self._held = x[-2 * self._context :]
        body = slice(self._context, len(x) - self._context)
        found: np.ndarray = x[body]
        # Between two samples the sound rises to less than twice their height.
        if len(found) and 2 * np.abs(x).max() > self._ceiling:
            found = found * self._gains(x)[body]
        return found

    def finish(self) -> np.ndarray:
        import numpy as np

        return self.push(np.zeros(self._context, np.float32))

    def _gains(self, x: np.ndarray) -> np.ndarray:
        import numpy as np

        allowed = np.minimum(1.0, self._ceiling / np.maximum(_true_peaks(x), 1e-9))
        if allowed.min() == 1.0:
            return allowed
        lowest, width, wanted = allowed, 1, 2 * self._radius + 1
        while width < wanted:  # the minimum over `wanted` samples, in steps that double
            step = min(width, wanted - width)
            lowest = np.minimum(lowest, np.concatenate([lowest[step:], np.ones(step)]))
            width += step
        lowest = np.concatenate([np.ones(self._radius), lowest])[: len(x)]  # the window is centered
        return np.convolve(lowest, np.full(wanted, 1 / wanted), "same").astype(np.float32)


def _true_peaks(x: np.ndarray) -> np.ndarray:
    """The largest absolute value between each sample and the next, by interpolation."""
    import numpy as np

    found = np.abs(x)
    for phase in range(1, _PHASES):
        between = np.abs(np.convolve(x, _interpolator(phase / _PHASES), "same"))
        found = np.maximum(found, between)
    return found


@lru_cache(maxsize=_PHASES)
def _interpolator(shift: float) -> np.ndarray:
    """A windowed sinc that gives the value `shift` samples after each sample."""
    import numpy as np

    place = np.arange(-_PHASE_TAPS // 2, _PHASE_TAPS // 2 + 1) + shift
    window = np.cos(math.pi * place / (_PHASE_TAPS + 2)) ** 2
    return np.sinc(place) * window
