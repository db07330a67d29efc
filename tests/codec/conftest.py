from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest


@pytest.fixture(scope="session")
def recorded() -> dict[str, np.ndarray]:
    """`clip` (int16 [24001], 16 kHz, speech) and `features` (float32 [76, 160]).

    The features are `Xcodec2FeatureExtractor`'s (transformers 5.23) over torchaudio 2.11's `kaldi.fbank`.
    """
    with np.load(Path(__file__).with_name("features.npz")) as file:
        return dict(file)
