"""Guidance gives the greedy codes of transformers' `guidance_scale`; a guidance of 1 is off."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from llasa_cli.lm.loader import load_language_model
from llasa_cli.lm.request import GenerationRequest
from llasa_cli.lm.sampler import classifier_free_guidance
from llasa_cli.prompt import Prompt, PromptFormat, Reference
from llasa_cli.settings import SamplingOptions
from tests.lm.test_greedy_parity import CONFIGS, GREEDY, transformers_codes, write_model


@pytest.mark.parametrize("name", ["tied", "llama3 rope"])
@pytest.mark.parametrize("guidance", [0.5, 1.5, 3.0])
def test_greedy_codes_equal_those_of_transformers(
    name: str, guidance: float, tokenizer_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(tokenizer_folder, tmp_path, dirs_exist_ok=True)
    prompt_format = PromptFormat.load(tmp_path)
    write_model(tmp_path, prompt_format, CONFIGS[name])
    model = load_language_model(tmp_path, prompt_format, "cpu")
    changed = []
    for text, reference in (("the cat sat on the mat", None), ("and now this.", Reference("a voice", (1, 2, 3, 60)))):
        prompt = prompt_format.prompt(text, reference)
        made = list(model.generate(prompt, SamplingOptions(temperature=0, max_seconds=1, guidance=guidance), seed=0))
        wanted = transformers_codes(
            tmp_path,
            prompt_format,
            prompt.ids,
            50,
            guidance_scale=guidance,
            negative_prompt_ids=torch.tensor([prompt.unconditional]),
        )
        assert made == wanted
        changed.append(made != list(model.generate(prompt, GREEDY, seed=0)))
    assert any(changed)


def test_the_unconditional_prompt_lacks_the_text_only(tokenizer_folder: Path) -> None:
    prompt_format = PromptFormat.load(tokenizer_folder)
    reference = Reference("a voice", (1, 2, 3))
    with_text, other = prompt_format.prompt("hello", reference), prompt_format.prompt("quite another text", reference)
    assert with_text.unconditional == other.unconditional != prompt_format.prompt("hello").unconditional
    assert with_text.unconditional[-3:] == with_text.ids[-3:]
    assert len(with_text.unconditional) == len(with_text.ids) - len(prompt_format.text_ids("a voice hello"))


def test_a_guidance_of_one_is_off(random_checkpoint: Path) -> None:
    prompt_format = PromptFormat.load(random_checkpoint)
    model = load_language_model(random_checkpoint, prompt_format, "cpu")
    prompt = prompt_format.prompt("hello")
    plain, one = (list(model.generate(prompt, SamplingOptions(max_seconds=1, guidance=g), 5)) for g in (1, 1.0))
    assert plain == one == list(model.generate(prompt, SamplingOptions(max_seconds=1), 5))
    assert not GenerationRequest(prompt, SamplingOptions(guidance=1), 0).guided


def test_guidance_moves_the_logits_away_from_those_without_text() -> None:
    logits, unconditional = torch.tensor([[2.0, 1.0, 0.0]]), torch.tensor([[2.0, 0.0, 0.0]])
    chances = [
        classifier_free_guidance(logits, unconditional, torch.tensor([[g]])).softmax(-1)[0] for g in (0.0, 1.0, 2.0)
    ]
    torch.testing.assert_close(chances[0], unconditional.softmax(-1)[0])
    torch.testing.assert_close(chances[1], logits.softmax(-1)[0])
    assert chances[0][1] < chances[1][1] < chances[2][1]


def test_guidance_needs_the_unconditional_prompt(random_checkpoint: Path) -> None:
    model = load_language_model(random_checkpoint, PromptFormat.load(random_checkpoint), "cpu")
    batch = model.batch(1)
    with pytest.raises(ValueError, match="without its text"):
        batch.add(GenerationRequest(Prompt((1, 2, 3), 0), SamplingOptions(guidance=2), 0))
    assert batch.free == 1
