from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from llasa_cli.codec import postfilter
from llasa_cli.codec.model import load_codec
from llasa_cli.codec.postfilter import RATE_HZ, sharpen


def harmonics(pitch_hz: np.ndarray, below_hz: float) -> np.ndarray:
    """float32 [n]: all harmonics of a pitch (Hz, one a sample) below a frequency, each weaker than the one before."""
    phase = 2 * np.pi * np.cumsum(pitch_hz) / RATE_HZ
    return sum(0.1 / number * np.sin(number * phase) for number in range(1, int(below_hz / pitch_hz.max()) + 1)).astype(
        np.float32
    )


def noise(samples: int, low_hz: float, high_hz: float, seed: int = 0) -> np.ndarray:
    spectrum = np.fft.rfft(np.random.default_rng(seed).standard_normal(samples))
    frequencies = np.fft.rfftfreq(samples, 1 / RATE_HZ)
    spectrum[(frequencies < low_hz) | (frequencies > high_hz)] = 0
    return np.fft.irfft(spectrum, samples).astype(np.float32)


def power(samples: np.ndarray, low_hz: float, high_hz: float) -> np.ndarray:
    """Of each frequency in a band, over the middle of the clip."""
    middle = samples[len(samples) // 4 : -len(samples) // 4]
    frequencies = np.fft.rfftfreq(len(middle), 1 / RATE_HZ)
    inside = (frequencies >= low_hz) & (frequencies < high_hz)
    return np.abs(np.fft.rfft(middle * np.hanning(len(middle)))[inside]) ** 2


@pytest.mark.parametrize("pitch_hz", [85.0, 120.0, 200.0, 300.0])
def test_noise_between_the_harmonics_of_a_voiced_sound_falls_and_bands_keep_their_levels_as_far_as_they_can(
    pitch_hz: float,
) -> None:
    """As a small decoder blurs: harmonics below 1.5 kHz, noise above."""
    blurred = harmonics(np.full(RATE_HZ, pitch_hz), 1500) + 0.01 * noise(RATE_HZ, 1500, 4000)
    sharp = sharpen(blurred)

    def off_the_lines(samples: np.ndarray) -> float:
        spectrum = power(samples, 2000, 3000)
        places = np.linspace(2000, 3000, len(spectrum), endpoint=False) / pitch_hz
        return float(spectrum[np.abs(places - places.round()) > 0.25].sum() / spectrum.sum())

    assert 0.4 < off_the_lines(blurred) < 0.6
    assert off_the_lines(sharp) < 0.2
    for low_hz, least_db in ((100, -0.5), (500, -0.5), (2000, -4), (3000, -4)):  # the average alone takes 9 dB of noise
        before, after = (power(samples, low_hz, low_hz + 1000).sum() for samples in (blurred, sharp))
        assert least_db < 10 * np.log10(after / before) < 0.5


def test_harmonics_of_a_gliding_pitch_stay_as_they_are() -> None:
    clean = harmonics(np.linspace(110, 180, RATE_HZ), 3000)
    error = sharpen(clean)[2000:-2000] - clean[2000:-2000]
    assert np.square(error).sum() < 0.05 * np.square(clean[2000:-2000]).sum()


def test_what_has_no_pitch_is_left_alone() -> None:
    hiss = 0.05 * noise(RATE_HZ, 2000, 8000)
    error = sharpen(hiss) - hiss
    assert np.square(error).sum() < 0.02 * np.square(hiss).sum()


def test_pitch_is_found_in_noise_while_it_glides() -> None:
    glide = np.linspace(90, 260, 2 * RATE_HZ)
    period, voiced = postfilter._pitch(harmonics(glide, 1500) + 0.02 * noise(len(glide), 1500, 8000))
    wanted = RATE_HZ / glide[:: postfilter._HOP]
    inner = slice(5, len(wanted) - 5)
    assert np.abs(period[: len(wanted)] / wanted - 1)[inner].max() < 0.02
    assert voiced[inner].min() == 1


def test_a_long_clip_filtered_in_blocks_is_the_clip_filtered_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    clip = harmonics(np.linspace(90, 260, 3 * RATE_HZ), 1500) + 0.01 * noise(3 * RATE_HZ, 1500, 8000)
    whole = sharpen(clip)
    monkeypatch.setattr(postfilter, "_BLOCK", 9_600)
    np.testing.assert_allclose(sharpen(clip), whole, atol=1e-6)


@pytest.mark.parametrize("samples", [0, 1, 320, 1023, 1024, 1025, 5000])
def test_silence_and_the_shortest_clips_pass(samples: int) -> None:
    for clip in (np.zeros(samples, np.float32), np.full(samples, 0.5, np.float32), noise(samples + 2, 0, 8000)[2:]):
        made = sharpen(clip)
        assert made.shape == clip.shape
        assert made.dtype == np.float32
        assert np.isfinite(made).all()
        assert np.abs(made).max(initial=0) <= 2 * np.abs(clip).max(initial=0)


def test_a_codec_is_filtered_if_its_configuration_asks_and_else_it_is_transformers_own(tmp_path: Path) -> None:
    from transformers import Xcodec2Model

    from llasa_cli.hub.cache import BUILT_IN_FOLDER

    asks, plain = tmp_path / "asks", tmp_path / "plain"
    shutil.copytree(BUILT_IN_FOLDER / "codec", asks)
    shutil.copytree(asks, plain)
    settings = json.loads((asks / "config.json").read_text())
    assert settings.pop("pitch_postfilter") is True
    (plain / "config.json").write_text(json.dumps(settings))
    codes = np.random.default_rng(0).integers(0, 4096, 100).tolist()
    model = Xcodec2Model.from_pretrained(asks, dtype=torch.float32).eval()
    with torch.inference_mode():
        wanted = model.decode(torch.tensor(codes)[None, None]).audio_values[0, 0].numpy()
    np.testing.assert_allclose(load_codec(plain, "cpu").decode(codes), wanted, atol=1e-4)
    np.testing.assert_allclose(load_codec(asks, "cpu").decode(codes), sharpen(wanted), atol=1e-3)
    assert np.abs(sharpen(wanted) - wanted).max() > 0.01
