"""Transcripts are compared with the length of their speech, as `clone` does for clips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from llasa_cli.codec.codec import load_codec
from llasa_cli.prompt import PromptFormat
from llasa_cli.training.online_dataset import OnlineDataset
from llasa_cli.training.options import PrepareOptions
from llasa_cli.training.prepare import prepare
from llasa_cli.training.row_check import TEXT_TOO_LONG, TEXT_TOO_SHORT, check_text_length
from llasa_cli.training.rows import Unusable

SIX_WORDS = "the gull flew over the sea"
SENTENCE = "the gardener planted three rows of beans beside the old stone wall"


def clip(speech_s: float, silence_s: float = 0.0) -> np.ndarray:
    """Noise for the speech, with half of the silence on either side."""
    speech = 0.1 * np.random.default_rng(0).standard_normal(round(16_000 * speech_s))
    silence = np.zeros(round(8_000 * silence_s))
    return np.concatenate([silence, speech, silence]).astype(np.float32)


@pytest.mark.parametrize(
    ("text", "speech_s", "silence_s", "reason"),
    [
        (SIX_WORDS, 2.0, 0.0, None),
        (SIX_WORDS, 2.0, 30.0, None),  # silence is not speech
        (SIX_WORDS, 39.7, 0.0, TEXT_TOO_SHORT),
        (SIX_WORDS, 10.0, 0.0, TEXT_TOO_SHORT),
        (SENTENCE * 2, 2.0, 0.0, TEXT_TOO_LONG),
        (SENTENCE, 1.0, 0.0, TEXT_TOO_LONG),
        ("yes", 0.4, 3.0, None),
        ("I", 0.6, 0.0, None),
        ("1984", 1.5, 0.0, None),  # a digit counts as a word of four letters
        ("我们今天去海边", 1.8, 0.0, None),
        ("我们今天去海边", 20.0, 0.0, TEXT_TOO_SHORT),
    ],
)
def test_a_transcript_must_fit_the_speech_in_its_clip(
    text: str, speech_s: float, silence_s: float, reason: str | None
) -> None:
    codes = round(50 * (speech_s + silence_s))
    if reason is None:
        check_text_length(text, 1, codes, lambda: clip(speech_s, silence_s))
    else:
        with pytest.raises(Unusable, match=reason):
            check_text_length(text, 1, codes, lambda: clip(speech_s, silence_s))


@pytest.mark.parametrize(
    ("text", "seconds", "reason"),
    [
        (SIX_WORDS, 2.0, None),
        (SIX_WORDS, 10.0, None),
        (SIX_WORDS, 39.7, TEXT_TOO_SHORT),
        (SENTENCE, 1.0, TEXT_TOO_LONG),
    ],
)
def test_codes_without_audio_may_hold_some_silence(text: str, seconds: float, reason: str | None) -> None:
    if reason is None:
        check_text_length(text, 1, round(50 * seconds))
    else:
        with pytest.raises(Unusable, match=reason):
            check_text_length(text, 1, round(50 * seconds))


def test_such_rows_are_reported_by_a_dry_run_a_real_run_and_online(
    tmp_path: Path, tokenizer_folder: Path, random_codec: Path
) -> None:
    lines = ["audio,text"]
    for name, seconds, text in (("good", 2, SIX_WORDS), ("long", 30, SIX_WORDS), ("short", 1, SENTENCE)):
        soundfile.write(tmp_path / f"{name}.wav", clip(seconds), 16_000)
        lines.append(f"{name}.wav,{text}")
    table = tmp_path / "table.csv"
    table.write_text("\n".join(lines) + "\n")
    prompt_format, codec = PromptFormat.load(tokenizer_folder), load_codec(random_codec, "cpu")
    expected = {TEXT_TOO_SHORT: 1, TEXT_TOO_LONG: 1}
    for dry_run in (True, False):
        options = PrepareOptions((table,), tmp_path / "out", validation=0, dry_run=dry_run)
        index = prepare(options, prompt_format, None if dry_run else codec, "t")
        assert (index["splits"]["train"]["rows"], index["skipped"]["reasons"]) == (1, expected)
    online = OnlineDataset.read((table,), prompt_format, codec, 2048)
    assert (len(online), dict(online.skipped)) == (1, expected)
