"""The watermark that NeuTTS's speech gets: by random weights of the right names, and (slow) by Perth's own detector."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from llasa_cli.audio.reader import resample
from llasa_cli.codec.codec import load_codec
from llasa_cli.codec.watermark import WEIGHTS_FILE, Watermark, load_watermark
from llasa_cli.errors import ModelError
from llasa_cli.synthesis.synthesizer import Synthesizer

RATE_HZ = 24_000


def random_weights() -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    shapes = [(32, 128, 1), (32, 32, 7), (128, 32, 1)]
    weights = {
        f"encoder.layers.{n}.conv.weight": 0.1 * torch.randn(shape, generator=draw) for n, shape in enumerate(shapes)
    }
    biases = {f"encoder.layers.{n}.conv.bias": torch.zeros(shape[0]) for n, shape in enumerate(shapes)}
    return weights | biases | {"decoder.slow_layers.0.conv.bias": torch.zeros(1)}


def band(samples: np.ndarray, low_hz: float, high_hz: float) -> float:
    """Energy between two frequencies."""
    power = np.abs(np.fft.rfft(samples * np.hanning(len(samples)))) ** 2
    frequencies = np.fft.rfftfreq(len(samples), 1 / RATE_HZ)
    return float(power[(frequencies >= low_hz) & (frequencies < high_hz)].sum())


@pytest.mark.parametrize("length", [0, 1, 480, 1_537, 24_000])
def test_a_take_keeps_its_length(length: int) -> None:
    samples = np.random.default_rng(0).normal(0, 0.1, length).astype(np.float32)
    marked = Watermark(random_weights())(samples, RATE_HZ)
    assert marked.shape == samples.shape
    assert marked.dtype == np.float32
    assert np.isfinite(marked).all()


def test_only_the_band_below_2_khz_of_loud_parts_changes() -> None:
    samples = np.random.default_rng(0).normal(0, 0.1, 2 * RATE_HZ).astype(np.float32)
    samples[RATE_HZ:] = 0
    change = Watermark(random_weights())(samples, RATE_HZ) - samples
    assert band(change, 0, 2_000) > 0.01 * band(samples, 0, 2_000)
    assert band(change, 2_200, 12_000) < 1e-4 * band(change, 0, 2_000)
    assert np.abs(change[RATE_HZ + 2_000 :]).max() < 1e-6


def test_everything_that_a_codec_decodes_is_marked(random_codec: Path) -> None:
    codec = load_codec(random_codec, "cpu")
    codes = [list(range(30)), list(range(30, 60)), [1] * 7]
    plain = codec.decode_many(codes)
    codec.watermark = Watermark(random_weights())
    for row, marked in zip(plain, codec.decode_many(codes), strict=True):
        np.testing.assert_array_equal(marked, codec.watermark(row, codec.sampling_rate))
        assert not np.array_equal(marked, row)


def test_the_weights_are_read_from_the_package_without_importing_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "perth" / WEIGHTS_FILE
    path.parent.mkdir(parents=True)
    (tmp_path / "perth" / "__init__.py").write_text("raise ImportError('this needs torchaudio')")
    torch.save({"model": random_weights(), "step": 1}, path)
    monkeypatch.syspath_prepend(str(tmp_path))
    samples = np.random.default_rng(0).normal(0, 0.1, 4_800).astype(np.float32)
    np.testing.assert_array_equal(load_watermark()(samples, RATE_HZ), Watermark(random_weights())(samples, RATE_HZ))
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ModelError, match="can't be read"):
        load_watermark()


@pytest.mark.slow
def test_the_mark_is_perths() -> None:
    """Run with `pip install resemble-perth torchaudio librosa`, in the versions that fit the installed torch."""
    for name in ("torchaudio", "librosa", "pkg_resources"):
        pytest.importorskip(name)
    perth: Any = pytest.importorskip("perth")
    theirs = perth.PerthImplicitWatermarker()
    speech = Synthesizer.load()
    samples = resample(speech.synthesize("The morning train was late again today."), speech.sampling_rate, RATE_HZ)
    ours, expected = load_watermark()(samples, RATE_HZ), theirs.apply_watermark(samples, sample_rate=RATE_HZ)
    error = ours[: len(expected)] - expected[: len(ours)]
    assert (error**2).sum() < 1e-8 * (expected**2).sum()
    assert theirs.get_watermark(ours, sample_rate=RATE_HZ) == 1
    assert theirs.get_watermark(samples, sample_rate=RATE_HZ) == 0
