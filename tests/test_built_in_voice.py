"""The voice in the package: small, complete, spoken with by the code that runs the big ones, and understood."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from llasa_cli.checkpoint.resolve import BUILT_IN_FOLDER
from llasa_cli.settings import SamplingRequest, SpeechOptions
from llasa_cli.synthesis.synthesizer import Synthesizer
from recipes.heart.judge import Judges, Scores

ROOT = Path(__file__).parents[1]
SENTENCES = (ROOT / "recipes" / "heart" / "held_out.txt").read_text(encoding="utf-8").splitlines()


@pytest.fixture(scope="module")
def speech() -> Synthesizer:
    return Synthesizer.load()


def word_error_rate(speech: Synthesizer, lines: list[str]) -> float:
    """By pocketsphinx, of one take of each line at the default settings."""
    judges, scores = Judges(), Scores()
    for number, line in enumerate(lines):
        samples = speech.synthesize(line, SpeechOptions(seed=number * 1000))
        scores.add("wer", *judges.errors(line, judges.sphinx(samples), sphinx=True))
    return float(str(scores.summary()["wer"]))


def test_it_is_at_most_45_mb_and_holds_nothing_pickled() -> None:
    files = [path for path in BUILT_IN_FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 45_000_000
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".jinja", ".md", ".txt"}


def test_it_is_of_the_published_classes() -> None:
    assert json.loads((BUILT_IN_FOLDER / "config.json").read_text())["architectures"] == ["LlamaForCausalLM"]
    assert json.loads((BUILT_IN_FOLDER / "codec" / "config.json").read_text())["architectures"] == ["Xcodec2Model"]


def test_sentences_come_out_at_a_speaking_pace_and_without_problems(speech: Synthesizer) -> None:
    for line in SENTENCES[:3]:
        takes = []
        samples = speech.synthesize(line, SpeechOptions(seed=0), on_utterance=takes.append)
        assert takes[0].problems == ()
        assert 0.04 < len(samples) / 16_000 / len(line) < 0.13
        assert 0.02 < np.sqrt(np.mean(samples**2)) < 0.3


def pitch_of(samples: np.ndarray, rate: int = 16_000) -> float:
    """The median fundamental frequency of the voiced frames, in Hz."""
    found = []
    for begin in range(0, len(samples) - 1024, 256):
        frame = samples[begin : begin + 1024] * np.hanning(1024)
        correlation = np.correlate(frame, frame, "full")[1023:]
        low, high = rate // 300, rate // 60
        lag = low + int(np.argmax(correlation[low:high]))
        if correlation[0] > 0.5 and correlation[lag] > 0.5 * correlation[0]:
            before, peak, after = correlation[lag - 1 : lag + 2]
            found.append(rate / (lag + 0.5 * (before - after) / (before - 2 * peak + after)))
    return float(np.median(found))


def test_another_speed_keeps_the_pitch(speech: Synthesizer) -> None:
    pytest.importorskip("av")
    usual = speech.synthesize(SENTENCES[0], SpeechOptions(seed=0))
    for speed in (0.5, 0.75, 1.5, 2.0):
        changed = speech.synthesize(SENTENCES[0], SpeechOptions(seed=0, speed=speed))
        assert len(changed) == pytest.approx(len(usual) / speed, rel=0.02)
        assert pitch_of(changed) == pytest.approx(pitch_of(usual), rel=0.02)


@pytest.mark.parametrize(
    "text", ["7", "At 9:05 the FBI paid $1,234.50!", "?!... (hm) -- [x] & ♥ 日本 ok", "a", "x" * 400, "Wörld’s   best…"]
)
def test_digits_acronyms_and_odd_punctuation_do_not_crash(speech: Synthesizer, text: str) -> None:
    options = SpeechOptions(SamplingRequest(max_seconds=3), seed=0, retries=0)  # a row of x may go on for 40 s
    assert len(speech.synthesize(text, options)) > 1600


def test_transformers_own_classes_load_it() -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer, Xcodec2Model

    assert AutoModelForCausalLM.from_pretrained(BUILT_IN_FOLDER).config.vocab_size >= 4096
    assert len(AutoTokenizer.from_pretrained(BUILT_IN_FOLDER)) >= 4096
    assert Xcodec2Model.from_pretrained(BUILT_IN_FOLDER / "codec").config.hop_length == 320


def test_it_is_understood(speech: Synthesizer) -> None:
    """Four unseen sentences, far from a measurement; `recipes/heart/judge.py` measures."""
    assert word_error_rate(speech, SENTENCES[:4]) < 0.4


def test_a_deepened_codec_sounds_as_before() -> None:
    import torch

    from recipes.heart.shape import configuration, load_codec

    folder = BUILT_IN_FOLDER / "codec"
    plain = load_codec(folder)
    layers = plain.config.num_hidden_layers + 2
    deeper = load_codec(
        folder, configuration(plain.config.quantization_levels, plain.config.encoder_hidden_size, layers)
    )
    codes = torch.randint(0, 4096, (1, 60, 1), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before, after = (codec.acoustic_decoder(codec.quantizer.from_codes(codes)) for codec in (plain, deeper))
    assert len(deeper.acoustic_decoder.layers) == layers
    torch.testing.assert_close(after, before)


@pytest.mark.slow
def test_its_word_error_rate_is_that_of_the_card(speech: Synthesizer) -> None:
    card = (BUILT_IN_FOLDER / "README.md").read_text(encoding="utf-8")
    said = re.search(r"\| \*\*the whole chain\*\* \| \*\*\.\d+\*\* \| \*\*(\.\d+)\*\*", card)
    assert said
    assert word_error_rate(speech, SENTENCES) == pytest.approx(float(said[1]), abs=0.03)


def test_the_readmes_python_works(tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (snippet,) = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)
    names: dict[str, object] = {}
    exec(snippet, names)
    soundfile.write(tmp_path / "a.wav", names["samples"], names["synthesizer"].sampling_rate)  # type: ignore[attr-defined]
    assert soundfile.info(tmp_path / "a.wav").duration > 0.5
