"""Samples during training sound as `say` with the checkpoint: the same sampling and guidance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from llasa_cli.errors import UsageError
from llasa_cli.prompt import PromptFormat
from llasa_cli.settings import ModelOptions, SamplingOptions
from llasa_cli.synthesis.synthesizer import Synthesizer
from llasa_cli.training.options import FinetuneOptions
from llasa_cli.training.samples import SpeechSamples


@pytest.mark.parametrize("guidance", [1.0, 1.6])
def test_samples_use_the_sampling_and_guidance_of_the_checkpoint(
    random_checkpoint: Path, tmp_path: Path, guidance: float, brief_samples: float
) -> None:
    from transformers import AutoModelForCausalLM

    options = FinetuneOptions(Path(), tmp_path, speak=("the sea and the salt",), device="cpu")
    about = {"default_speaker": "bella", "sampling": {"temperature": 0, "guidance": guidance}}
    speech = Synthesizer.load(ModelOptions(model=str(random_checkpoint), device="cpu"))
    samples = SpeechSamples(options, speech.prompt_format, None, random_checkpoint / "codec", about)
    (written,) = samples.speak(AutoModelForCausalLM.from_pretrained(random_checkpoint), 5)
    greedy = SamplingOptions(temperature=0, guidance=guidance, max_seconds=brief_samples)
    codes = list(speech.model.generate(speech.prompt_format.prompt(options.speak[0], speaker="bella"), greedy, 0))
    assert len(set(codes)) > 2
    heard, _ = soundfile.read(written)
    wanted = np.clip(speech.codec.decode(codes), -1, 1)
    assert len(heard) == len(wanted)
    assert np.abs(heard - wanted).max() < 2 / 32768


def test_sentences_are_normalized_as_by_say_and_unreadable_ones_refused(
    spelling_folder: Path, random_codec: Path, tmp_path: Path
) -> None:
    options = FinetuneOptions(Path(), tmp_path, speak=("3 boats",), device="cpu")
    SpeechSamples(options, PromptFormat.load(spelling_folder), None, random_codec, {})
    assert (tmp_path / "spoken" / "sentences.txt").read_text() == "three boats\n"
    (spelling_folder / "llasa.json").unlink()
    with pytest.raises(UsageError, match="can't speak '3 boats': characters"):
        SpeechSamples(options, PromptFormat.load(spelling_folder), None, random_codec, {})
