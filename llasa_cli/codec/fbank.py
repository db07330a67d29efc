"""Filter-bank features of the semantic encoder of X-Codec2 and NeuCodec, in numpy.

Input: float32 [n], mono, 16 kHz, -1..1. Output: float32 [n // 320 + 1, 160], one row less without a margin. A row has two
10 ms frames of 80 log-mel bands; every band is normalized to mean 0 and variance 1 over the clip.

The features are those of transformers' `Xcodec2FeatureExtractor`, which calls torchaudio's `kaldi.fbank`. They are computed
here because torchaudio has no build for recent versions of torch. Kaldi's parameters: a 25 ms Povey window, a step of 10 ms,
mean removal and pre-emphasis 0.97 within each frame, a 512-point power spectrum, and mel bands from 20 to 8,000 Hz.
"""

from __future__ import annotations

from functools import cache

import numpy as np

SAMPLING_RATE_HZ = 16_000
HOP = 320
"""Samples per code: 16,000 / 50."""
_FRAME, _STEP, _FFT, _BANDS = 400, 160, 512, 80
_FLOOR = 1.1920928955078125e-07  # float32's epsilon, as in Kaldi


def pad_audio(samples: np.ndarray) -> np.ndarray:
    """Append zeros up to the next whole code. A clip of whole codes gets one more, as in the original pipeline."""
    return np.pad(samples, (0, (len(samples) // HOP + 1) * HOP - len(samples)))


def filter_bank(samples: np.ndarray, margin: int = HOP // 2) -> np.ndarray:
    """The features of one clip; the module's docstring has shapes and units.

    Args:
        margin: Zeros before and after the padded clip: half a code for X-Codec2, none for NeuCodec.
    """
    audio = np.pad(pad_audio(samples).astype(np.float64), margin) * 32768.0
    count = (len(audio) - _FRAME) // _STEP + 1
    frames = np.lib.stride_tricks.sliding_window_view(audio, _FRAME)[::_STEP][:count]
    frames = frames - frames.mean(axis=1, keepdims=True)
    previous = np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
    frames = (frames - 0.97 * previous) * _povey_window()
    power = np.abs(np.fft.rfft(frames, _FFT, axis=1)) ** 2
    mel = np.log(np.maximum(power @ _mel_filters(), _FLOOR))
    mel = (mel - mel.mean(axis=0)) / np.sqrt(mel.var(axis=0, ddof=1) + 1e-7)
    whole = count // 2 * 2
    return mel[:whole].reshape(-1, 2 * _BANDS).astype(np.float32)


@cache
def _povey_window() -> np.ndarray:
    """Kaldi's window: a symmetric Hann window raised to the power 0.85."""
    return np.hanning(_FRAME) ** 0.85


@cache
def _mel_filters() -> np.ndarray:
    """float64 [257, 80]: triangles of equal width on the mel scale (Kaldi: 1127 ln(1 + f / 700))."""

    def mel(hertz: np.ndarray | float) -> np.ndarray:
        return np.asarray(1127.0 * np.log(1.0 + np.asarray(hertz) / 700.0))

    low, high = float(mel(20.0)), float(mel(SAMPLING_RATE_HZ / 2))
    width = (high - low) / (_BANDS + 1)
    left = low + np.arange(_BANDS) * width
    bins = mel(np.arange(_FFT // 2) * SAMPLING_RATE_HZ / _FFT)[:, None]
    rising, falling = (bins - left) / width, (left + 2 * width - bins) / width
    filters = np.maximum(0.0, np.minimum(rising, falling))
    return np.concatenate([filters, np.zeros((1, _BANDS))])  # Kaldi omits the bin at half the sampling rate
