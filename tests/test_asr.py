"""Recognisers: the real pipeline over a random Whisper, and pocketsphinx, which carries its model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llasa_cli.asr import _parts, check_recognizer, load_recognizer
from llasa_cli.errors import LlasaError, ModelError


@pytest.fixture(scope="session")
def random_whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Whisper as small as the classes allow, in the files that `llasa download` fetches of one."""
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
    # What the published repositories hold beside it, less merges.txt, which is not fetched.
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


def test_a_whisper_hears_text_at_any_rate(random_whisper: Path, capfd: pytest.CaptureFixture[str]) -> None:
    listener = load_recognizer(str(random_whisper), "cpu")
    samples = noise(2.0)
    text = listener.hear(samples, 16_000)
    assert isinstance(text, str)
    assert text == listener.hear(samples, 16_000)
    assert text.isprintable()
    assert len(text) > 3, "random weights babble"
    assert isinstance(listener.hear(noise(2.0, 44_100), 44_100), str)
    assert np.array_equal(samples, noise(2.0)), "what is heard is not changed"
    assert capfd.readouterr().out == ""


def test_a_whisper_is_told_the_language_and_guesses_one_it_does_not_know(random_whisper: Path) -> None:
    listener = load_recognizer(str(random_whisper), "cpu")
    model, asked = listener._run.model, []  # type: ignore[attr-defined]
    generate = model.generate

    def remember(*arguments: Any, **options: Any) -> Any:
        asked.append((options.get("language"), options.get("task")))
        return generate(*arguments, **options)

    model.generate = remember
    for language in ("en", "de", "tlh", None):
        assert isinstance(listener.hear(noise(2.0), 16_000, language), str)
    assert asked == [(language, "transcribe") for language in ("en", "de", "tlh", None, None)]


def test_silence_has_no_words_and_length_is_no_limit(random_whisper: Path) -> None:
    listener = load_recognizer(str(random_whisper), "cpu")
    assert listener.hear(np.zeros(60 * 16_000, np.float32), 16_000) == ""
    assert listener.hear(np.zeros(0, np.float32), 16_000) == ""
    both = listener.hear(np.concatenate([noise(10.0), np.zeros(16_000, np.float32), noise(10.0)] * 2), 16_000)
    assert len(both.split()) >= 1


def test_long_sound_is_divided_where_it_is_still_and_nothing_is_lost() -> None:
    samples = noise(70.0)
    samples[26 * 16_000 : 27 * 16_000] = 0
    parts = list(_parts(samples, 16_000))
    assert np.array_equal(np.concatenate(parts), samples)
    assert all(len(part) <= 28 * 16_000 for part in parts)
    assert 26.0 < len(parts[0]) / 16_000 < 27.0


@pytest.mark.parametrize(
    ("name", "sentence", "hint"),
    [
        ("openai/whisper-base", "not on this machine", "llasa download openai/whisper-base"),
        ("no-such-thing", "no recogniser", "pocketsphinx"),
        ("./absent", "no recogniser", "pocketsphinx"),
        ("", "no recogniser", "pocketsphinx"),
    ],
)
def test_what_is_not_here_says_what_to_do(name: str, sentence: str, hint: str) -> None:
    with pytest.raises(ModelError, match=sentence) as raised:
        check_recognizer(name)
    assert hint in raised.value.hint


def test_a_folder_that_is_no_recogniser_is_one_sentence(
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


def test_pocketsphinx_hears_english_and_says_so() -> None:
    pytest.importorskip("pocketsphinx")
    listener = load_recognizer("pocketsphinx")
    assert listener.hear(np.zeros(16_000, np.float32), 16_000) == ""
    assert isinstance(listener.hear(noise(1.0, 44_100), 44_100, "en-GB"), str)
    with pytest.raises(LlasaError, match="English"):
        listener.hear(noise(1.0), 16_000, "de")


def test_a_recogniser_in_the_hubs_cache_is_found(
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
