"""Speaker models: one voice is like itself, and a missing model is an error that says what to do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from llasa_cli.errors import ModelError
from llasa_cli.speaker_embedding import find_speaker_encoder, load_speaker_encoder
from llasa_cli.synthesis.verifiers import LikenessVerifier, ReferenceSound, Take


@pytest.fixture(scope="module")
def random_wavlm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A WavLM-SV of the real class with random weights."""
    from transformers import Wav2Vec2FeatureExtractor, WavLMConfig, WavLMForXVector

    folder = tmp_path_factory.mktemp("speaker") / "wavlm"
    config = WavLMConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, conv_dim=(8,) * 7,
        num_conv_pos_embeddings=4, num_conv_pos_embedding_groups=2, tdnn_dim=(8, 8, 8, 8, 8), xvector_output_dim=8,
    )  # fmt: skip
    WavLMForXVector(config).save_pretrained(folder)
    Wav2Vec2FeatureExtractor().save_pretrained(folder)
    return folder


def test_a_take_is_compared_with_the_reference(random_wavlm: Path) -> None:
    verifier = LikenessVerifier(load_speaker_encoder(str(random_wavlm), "cpu"))
    noise = np.random.default_rng(1).normal(0, 0.1, (2, 16_000)).astype(np.float32)
    same = verifier.score(Take("hi", noise[0], 16_000, ReferenceSound("hello", noise[0])))
    assert same.value == pytest.approx(1, abs=1e-4)
    other = verifier.score(Take("hi", noise[1][:300], 16_000, ReferenceSound("hello", noise[0])))
    assert other.value is not None
    assert 0 <= other.value < 1
    assert verifier.score(Take("hi", noise[1], 16_000)).value is None


@pytest.mark.parametrize(
    ("name", "sentence", "hint"),
    [
        ("no/model", "The speaker model no/model is not on this machine.", "llasa download no/model"),
        ("./absent", "There is no speaker model './absent'.", "resemblyzer"),
        ("", "There is no speaker model ''.", "resemblyzer"),
    ],
)
def test_a_missing_speaker_model_is_an_error_that_says_what_to_do(name: str, sentence: str, hint: str) -> None:
    with pytest.raises(ModelError) as error:
        find_speaker_encoder(name)
    assert error.value.message == sentence
    assert hint in str(error.value.hint)


def test_a_broken_speaker_model_is_an_error(random_wavlm: Path, tmp_path: Path) -> None:
    for name in ("config.json", "preprocessor_config.json"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(ModelError, match="can't be loaded"):
        load_speaker_encoder(str(tmp_path), "cpu")


@pytest.mark.slow
def test_resemblyzer_finds_a_voice_more_like_itself_than_like_another() -> None:
    pytest.importorskip("resemblyzer")
    from llasa_cli.settings import SpeechOptions
    from llasa_cli.synthesis.synthesizer import Synthesizer

    speech = Synthesizer.load()
    text = "The morning train was crowded with people."
    one, other = (
        speech.synthesize(text, SpeechOptions(seed=1, speaker=speaker))
        for speaker in (speech.speakers[0], speech.speakers[-1])
    )
    again = speech.synthesize("Nobody wanted to talk about it.", SpeechOptions(seed=2, speaker=speech.speakers[0]))
    verifier = LikenessVerifier(load_speaker_encoder("resemblyzer"))
    reference = ReferenceSound(text, one)
    scores = [verifier.score(Take("", sound, speech.sampling_rate, reference)).value for sound in (again, other)]
    assert scores[0] is not None
    assert scores[1] is not None
    assert scores[0] > scores[1]
