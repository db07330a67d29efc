"""How many codes a second has, and at which rate they sound, stands in the codec's files; NeuCodec computes as in transformers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from llasa_cli.codec.codec import load_codec, read_codec_config
from llasa_cli.codec.fbank import HOP, filter_bank, pad_audio
from llasa_cli.errors import ModelError, UsageError
from llasa_cli.prompt import PromptFormat
from llasa_cli.settings import ModelOptions, SamplingRequest, SpeechOptions
from llasa_cli.synthesis.synthesizer import Synthesizer
from llasa_cli.training.prepare_workers import LazyCodec

RATIOS = {50: (2, 2, 4, 4, 5), 25: (2, 4, 4, 4, 5)}


@pytest.fixture(scope="module", params=RATIOS, ids=lambda rate: f"{rate} codes a second")
def neucodec(request: pytest.FixtureRequest, random_codec: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random NeuCodec of 24 kHz, as small as the tests' X-Codec2."""
    from transformers import NeuCodecConfig, NeuCodecModel

    from recipes.heart.shape import initialize

    settings = json.loads((random_codec / "config.json").read_text())
    settings = {name: value for name, value in settings.items() if name not in ("model_type", "sampling_rate")}
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("neucodec")
    model = NeuCodecModel(NeuCodecConfig(**settings | {"downsampling_ratios": RATIOS[request.param]}))
    initialize(model)
    model.save_pretrained(folder)
    return folder


def test_sound_equals_that_of_transformers(neucodec: Path) -> None:
    from transformers import NeuCodecModel

    codec = load_codec(neucodec, "cpu")
    codes = np.random.default_rng(0).integers(codec.code_count, size=70).tolist()
    with torch.inference_mode():
        model = NeuCodecModel.from_pretrained(neucodec, dtype=torch.float32).eval()
        expected = model.decode(torch.tensor(codes)[None, None]).audio_values[0, 0].numpy()
    assert codec.sampling_rate == 24_000
    assert codec.codes_per_second * codec.samples_per_code == 24_000
    np.testing.assert_allclose(codec.decode(codes), expected, atol=1e-4)


def test_speech_is_measured_in_the_codec_s_own_seconds(neucodec: Path, random_checkpoint: Path, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    shutil.copytree(random_checkpoint, folder, ignore=shutil.ignore_patterns("codec"))
    synthesizer = Synthesizer.load(ModelOptions(str(folder), codec=str(neucodec), device="cpu"))
    rate = read_codec_config(neucodec).codes_per_second
    made = []
    options = SpeechOptions(SamplingRequest(max_seconds=0.4), seed=1, retries=0)
    for chunk in synthesizer.stream("hello there", options, on_utterance=made.append):
        assert chunk.sampling_rate == 24_000
    (utterance,) = made
    assert utterance.seconds == pytest.approx(len(utterance.codes) / rate)
    assert len(utterance.codes) <= 0.4 * rate
    assert PromptFormat.load(folder).codes_per_second == 50


def test_clips_are_encoded_as_by_transformers_or_refused(neucodec: Path) -> None:
    from transformers import NeuCodecModel

    clip = np.random.default_rng(1).normal(0, 0.1, 16_100).astype(np.float32)
    codec = load_codec(neucodec, "cpu")
    if codec.codes_per_second != 50:
        with pytest.raises(ModelError, match="can't be encoded"):
            codec.encode(clip)
        with pytest.raises(UsageError, match="only with 50"):
            LazyCodec(neucodec, "cpu", 0).encode_batch([clip])
        return
    features = torch.from_numpy(filter_bank(clip, margin=0))[None]
    with torch.inference_mode():
        model = NeuCodecModel.from_pretrained(neucodec, dtype=torch.float32).eval()
        made = model.encode(torch.from_numpy(pad_audio(clip))[None, None], features).audio_codes[0, 0]
    assert codec.encode(clip) == made.tolist()
    assert len(made) == len(clip) // HOP
    assert len(set(made.tolist())) > 5


@pytest.mark.parametrize(
    "changes",
    [
        {"downsampling_ratios": [2, 2, 4, 4, 4]},
        {"downsampling_ratios": [640]},
        {"downsampling_ratios": "many"},
        {"input_sampling_rate": 0},
        {"input_sampling_rate": 24_000},
        {"output_sampling_rate": 16_000},
    ],
    ids=str,
)
def test_rates_that_contradict_the_weights_are_refused(
    neucodec: Path, changes: dict[str, object], tmp_path: Path
) -> None:
    folder = tmp_path / "codec"
    shutil.copytree(neucodec, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(ModelError):
        read_codec_config(folder)
