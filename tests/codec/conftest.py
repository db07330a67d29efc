"""A codec of random weights at a very small shape, in the folder form that `load_codec` reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch


def write_random_codec(folder: Path) -> None:
    """64 codes (4^3), the published structure, 16-bit weights on disk."""
    from transformers import Xcodec2Config, Xcodec2Model

    torch.manual_seed(0)
    semantic = {
        "model_type": "wav2vec2-bert",
        "hidden_size": 32,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "feature_projection_input_dim": 160,
        "vocab_size": None,
    }
    config = Xcodec2Config(
        hidden_size=64,  # two channels a group of GroupNorm: one code alone can be decoded
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        head_dim=16,
        encoder_hidden_size=2,
        downsampling_ratios=[8, 8, 5],
        quantization_dim=96,
        quantization_levels=[4, 4, 4],
        semantic_model_config=semantic,
    )
    model = Xcodec2Model(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:  # the library's own spread of 0.02 gives one code for every sound
                parameter.normal_(0, parameter[0].numel() ** -0.5)
    model.half().save_pretrained(folder)


@pytest.fixture(scope="session")
def random_codec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("codec")
    write_random_codec(folder)
    return folder


@pytest.fixture(scope="session")
def recorded() -> dict[str, np.ndarray]:
    """`clip` (int16 [24001], 16 kHz, speech) and `features` (float32 [76, 160]).

    The features are `Xcodec2FeatureExtractor`'s (transformers 5.23) over torchaudio 2.11's `kaldi.fbank`.
    """
    with np.load(Path(__file__).with_name("features.npz")) as file:
        return dict(file)
