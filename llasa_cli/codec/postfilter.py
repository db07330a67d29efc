"""A long-term (pitch) postfilter: harmonics that a small codec's decoder blurs become lines again.

    samples = sharpen(samples)      float32 [n], mono, 16 kHz -> as many

A code is 20 ms of sound without its phase. A small decoder keeps the phases of neighbouring codes together below about
1.5 kHz; above, voiced sounds come out as noise under the right spectral envelope, which is heard as a hoarse blur. Speech
coders of low rate have long had a remedy: find the pitch, and add to each sample those whole periods before and behind it.
What repeats stays, noise between the harmonics averages out. What the average takes from a band's level is then given back
(6 of the 9 dB, where there is only noise), so that vowels and consonants keep their spectra.

Only for codecs whose config.json asks for it (`"pitch_postfilter": true`), such as the built-in voice's; for the published
X-Codec2, which does not blur so, nothing is done. Figures are in the built-in voice's card.

Sources: J.-H. Chen and A. Gersho, Adaptive postfiltering for quality enhancement of coded speech, 1995 (the filter); P.
Boersma, Accurate short-term analysis of the fundamental frequency, 1993 (pitch by autocorrelation and the best path).
"""

from __future__ import annotations

import numpy as np

RATE_HZ = 16_000

_HOP = 160
"""Samples from one measurement of the pitch to the next."""
_FRAME = 1024
"""Samples that a pitch is measured on: four periods of the lowest voice."""
_SHORTEST, _LONGEST = 50, 229
"""Periods in samples: 320 to 70 Hz."""
_LOW_PASS_HZ = 1000.0
"""Above, the decoder's harmonics can't be trusted."""
_OCTAVE_COST = 0.03
"""Of a period twice as long, in correlation: two periods correlate as well as one."""
_JUMP_COST = 0.6
"""Of an octave from one frame to the next, in correlation."""
_UNVOICED, _VOICED = 0.3, 0.5
"""Correlations below and above which nothing and all is filtered."""
_WEIGHTS = (0.8, 0.6, 0.4, 0.2)
"""Of the first, second, ... period to each side, where a sample itself has 1. With more, sounds run into each other: the
word error rate rises."""

_BAND_FRAME, _BAND_HOP = 512, 128
"""Samples: what the levels of bands are compared over."""
_BAND = np.hanning(11)[1:-1] / np.hanning(11)[1:-1].sum()
"""A band's level: over so many of the frame's frequencies, 31 Hz each."""
_MOST_GAIN = 2.0
"""That a band is raised or lowered by at most."""

_BLOCK = 160_000
"""Samples that are filtered at once: memory does not grow with the length."""
_MARGIN = 2_560
"""Samples beside a block that its sound depends on; a multiple of both hops, more than four periods and a frame."""


def sharpen(samples: np.ndarray) -> np.ndarray:
    """float32 [n] at 16 kHz -> the same, with clear harmonics where it is voiced.

    Clips shorter than a frame (64 ms) have no pitch to be found and stay as they are.
    """
    if len(samples) < _FRAME:
        return samples
    period, voiced = _pitch(samples)
    out = np.empty_like(samples)
    for begin in range(0, len(samples), _BLOCK):
        end = min(begin + _BLOCK, len(samples))
        first, last = max(0, begin - _MARGIN), min(len(samples), end + _MARGIN)
        part, frames = samples[first:last], slice(first // _HOP, last // _HOP + 1)
        made = _with_levels_of(part, _averaged(part, period[frames], voiced[frames]))
        out[begin:end] = made[begin - first : end - first]
    return out


def _frames(samples: np.ndarray, size: int, hop: int) -> np.ndarray:
    """[n] -> [n // hop + 1, size], the first in the middle of 0; a view."""
    padded = np.pad(samples, (size // 2, size // 2 + hop))
    return np.lib.stride_tricks.sliding_window_view(padded, size)[::hop][: len(samples) // hop + 1]


def _pitch(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """-> per `_HOP` samples the period in samples and how voiced it is, 0 to 1."""
    likeness = np.concatenate([_autocorrelation(rows) for rows in _some(_frames(samples, _FRAME, _HOP))])
    lags = np.arange(_SHORTEST, _LONGEST + 1)
    path = _best_path(likeness[:, _SHORTEST : _LONGEST + 1] - _OCTAVE_COST * np.log2(lags / _SHORTEST), lags)
    row, lag = np.arange(len(path)), path + _SHORTEST
    before, here, after = (likeness[row, lag + step] for step in (-1, 0, 1))
    # The top of the parabola through three neighbours: periods are no whole samples.
    bend = np.minimum(before - 2 * here + after, -1e-6)
    top = lag + np.clip(0.5 * (before - after) / bend, -0.5, 0.5)
    return top, np.clip((here - _UNVOICED) / (_VOICED - _UNVOICED), 0, 1)


def _some(rows: np.ndarray) -> list[np.ndarray]:
    return [rows[begin : begin + 512] for begin in range(0, len(rows), 512)]


def _autocorrelation(frames: np.ndarray) -> np.ndarray:
    """[rows, _FRAME] -> [rows, _LONGEST + 2], of what lies below the low-pass, 1 where a lag is a whole period."""
    window = np.hanning(_FRAME + 2)[1:-1]
    frequencies = np.fft.rfftfreq(2 * _FRAME, 1 / RATE_HZ)
    power = np.abs(np.fft.rfft(frames * window, 2 * _FRAME)) ** 2 / (1 + (frequencies / _LOW_PASS_HZ) ** 4)
    products = np.fft.irfft(power)[:, : _LONGEST + 2]
    of_window = np.fft.irfft(np.abs(np.fft.rfft(window, 2 * _FRAME)) ** 2)[: _LONGEST + 2]
    likeness: np.ndarray = products / (products[:, :1] + 1e-6) / (of_window / of_window[0])
    return likeness


def _best_path(scores: np.ndarray, lags: np.ndarray) -> np.ndarray:
    """[frames, lags] -> the lag's index in each frame: the highest sum of scores, less what jumps cost (Viterbi)."""
    cost = _JUMP_COST * np.abs(np.log2(lags[:, None] / lags))
    best = scores[0]
    came_from = np.zeros(scores.shape, np.uint8)
    row = np.arange(len(lags))
    for frame in range(1, len(scores)):
        reached = best - cost  # (to, from)
        came_from[frame] = reached.argmax(1)
        best = reached[row, came_from[frame]] + scores[frame]
    path = np.empty(len(scores), np.int64)
    path[-1] = best.argmax()
    for frame in range(len(scores) - 1, 0, -1):
        path[frame - 1] = came_from[frame, path[frame]]
    return path


def _averaged(samples: np.ndarray, period: np.ndarray, voiced: np.ndarray) -> np.ndarray:
    """Each sample with those whole periods away, where it is voiced."""
    place = np.arange(len(samples))
    frames = np.arange(len(period)) * _HOP
    period, voiced = np.interp(place, frames, period), np.interp(place, frames, voiced)
    total, weight = samples.astype(np.float64), np.ones(len(samples))
    for number, share in enumerate(_WEIGHTS, 1):
        for side in (-number, number):
            there = place + side * period
            inside = (there >= 1) & (there < len(samples) - 2)
            some = share * voiced * inside
            total += some * _between(samples, np.where(inside, there, 1.0))
            weight += some
    return total / weight


def _between(samples: np.ndarray, places: np.ndarray) -> np.ndarray:
    """The samples' values at fractional places, by cubics through four neighbours (Catmull and Rom's)."""
    index = places.astype(np.int64)
    part = places - index
    a, b, c, d = (samples[index + step] for step in (-1, 0, 1, 2))
    value: np.ndarray = b + 0.5 * part * (c - a + part * (2 * a - 5 * b + 4 * c - d + part * (3 * (b - c) + d - a)))
    return value


def _with_levels_of(wanted: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """`samples` [n] with the level of each band and moment that `wanted` [n] has."""
    window = np.hanning(_BAND_FRAME + 1)[:-1]
    spectra = np.fft.rfft(_frames(samples, _BAND_FRAME, _BAND_HOP) * window)
    levels = [
        _smooth(np.abs(x) ** 2) + 1e-9 for x in (np.fft.rfft(_frames(wanted, _BAND_FRAME, _BAND_HOP) * window), spectra)
    ]
    gain = np.clip(np.sqrt(levels[0] / levels[1]), 1 / _MOST_GAIN, _MOST_GAIN)
    pieces = (np.fft.irfft(spectra * gain) * window).reshape(len(spectra), -1, _BAND_HOP)
    total = np.zeros((len(spectra) + pieces.shape[1] - 1, _BAND_HOP))
    envelope = np.zeros_like(total)
    squares = (window**2).reshape(-1, _BAND_HOP)
    for step in range(pieces.shape[1]):
        total[step : step + len(spectra)] += pieces[:, step]
        envelope[step : step + len(spectra)] += squares[step]
    sound: np.ndarray = (total / np.maximum(envelope, 1e-3)).ravel()
    return sound[_BAND_FRAME // 2 : _BAND_FRAME // 2 + len(wanted)]


def _smooth(power: np.ndarray) -> np.ndarray:
    """[frames, frequencies], each with its neighbours."""
    reach = len(_BAND) // 2
    padded = np.pad(power, ((0, 0), (reach, reach)))
    smoothed: np.ndarray = sum(share * padded[:, step : step + power.shape[1]] for step, share in enumerate(_BAND))
    return smoothed
