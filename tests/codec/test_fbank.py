from __future__ import annotations

import numpy as np
import pytest

from llasa_cli.codec.fbank import HOP, filter_bank, pad_audio


def test_features_equal_those_of_the_published_extractor(recorded: dict[str, np.ndarray]) -> None:
    samples = recorded["clip"].astype(np.float32) / 32768
    # torchaudio works in float32, which costs it 1e-4 in quiet bands; run in float64 it differs by 3.4e-5.
    np.testing.assert_allclose(filter_bank(samples), recorded["features"], atol=2e-4)


@pytest.mark.parametrize("length", [2 * HOP, 961, 15_999, 16_000, 24_001])
def test_features_equal_those_of_the_original_pipeline(recorded: dict[str, np.ndarray], length: int) -> None:
    from transformers import SeamlessM4TFeatureExtractor

    samples = recorded["clip"][:length].astype(np.float32) / 32768
    extractor = SeamlessM4TFeatureExtractor(num_mel_bins=80, padding_value=1.0, stride=2)
    padded = np.pad(pad_audio(samples), HOP // 2)
    reference = extractor(padded, sampling_rate=16_000, return_tensors="np").input_features[0]
    np.testing.assert_allclose(filter_bank(samples), reference, atol=1e-4)


@pytest.mark.parametrize(("length", "rows"), [(640, 3), (641, 3), (959, 3), (960, 4)])
def test_a_clip_has_one_row_per_code_and_one_more(length: int, rows: int) -> None:
    samples = np.ones(length, np.float32)
    assert filter_bank(samples).shape == (rows, 160)
    assert len(pad_audio(samples)) == rows * HOP


def test_each_band_has_mean_zero_and_variance_one_over_the_clip(recorded: dict[str, np.ndarray]) -> None:
    bands = filter_bank(recorded["clip"].astype(np.float32) / 32768).reshape(-1, 80)
    np.testing.assert_allclose(bands.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(bands.var(axis=0, ddof=1), 1, atol=1e-4)


def test_features_without_a_margin_are_those_of_the_padded_clip() -> None:
    clip = np.random.default_rng(2).normal(0, 0.1, 5000).astype(np.float32)
    padded = np.pad(pad_audio(clip), (HOP // 2, HOP // 2 - 1))
    np.testing.assert_array_equal(filter_bank(padded, margin=0), filter_bank(clip))
