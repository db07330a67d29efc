"""Differences between published checkpoints that must not change a single code."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from llasa_cli.errors import ModelError
from llasa_cli.lm.loader import load_language_model
from llasa_cli.prompt import PromptFormat
from llasa_cli.settings import ModelOptions, SamplingOptions
from llasa_cli.synthesis.synthesizer import Synthesizer

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
ROOT = Path(__file__).parents[2]
GREEDY = SamplingOptions(temperature=0.0, max_seconds=0.6)


def codes_of(folder: Path) -> list[int]:
    prompt_format = PromptFormat.load(folder)
    model = load_language_model(folder, prompt_format, "cpu")
    return list(model.generate(prompt_format.prompt("hello there"), GREEDY, 0))


@pytest.fixture(scope="module")
def usual(random_checkpoint: Path) -> list[int]:
    codes = codes_of(random_checkpoint)
    assert len(set(codes)) > 3, "a constant output proves nothing"
    return codes


@pytest.fixture
def folder(random_checkpoint: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(random_checkpoint, tmp_path / "m", ignore=shutil.ignore_patterns("codec")))


def set_values(folder: Path, name: str = "config.json", **values: Any) -> None:
    path = folder / name
    old = json.loads(path.read_text()) if path.is_file() else {}
    path.write_text(json.dumps(old | values))


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def test_eos_lists_of_text_tokens_do_not_end_speech(folder: Path, usual: list[int]) -> None:
    """Published configurations list 128001, 128008 and 128009, and not END."""
    set_values(folder, eos_token_id=[1, 8, 9])
    set_values(folder, "generation_config.json", eos_token_id=[1, 8, 9], temperature=0.6, do_sample=True)
    assert codes_of(folder) == usual


def test_vocabularies_may_be_padded(folder: Path, usual: list[int]) -> None:
    def pad(weights: dict[str, torch.Tensor]) -> None:
        weights[EMBEDDING] = torch.cat([weights[EMBEDDING], torch.full((56, 32), 100.0)])

    change_weights(folder, pad)
    set_values(folder, vocab_size=json.loads((folder / "config.json").read_text())["vocab_size"] + 56)
    assert codes_of(folder) == usual


@pytest.mark.parametrize("tied", [True, False])
def test_a_stored_head_equals_a_tied_one(folder: Path, usual: list[int], tied: bool) -> None:
    change_weights(folder, lambda weights: weights.update({HEAD: weights[EMBEDDING].clone()}))
    set_values(folder, tie_word_embeddings=tied)
    assert codes_of(folder) == usual


def test_a_stored_head_is_used_rather_than_the_embedding(folder: Path, usual: list[int]) -> None:
    change_weights(folder, lambda weights: weights.update({HEAD: -weights[EMBEDDING]}))
    tied = codes_of(folder)
    set_values(folder, tie_word_embeddings=False)
    assert codes_of(folder) == tied != usual


def test_files_in_any_number_and_order_are_one_model(folder: Path, usual: list[int]) -> None:
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(weights, reverse=True)
    where = {name: f"model-{number % 5 + 1:05}-of-00005.safetensors" for number, name in enumerate(names)}
    for file in set(where.values()):
        save_file({name: weights[name] for name in names if where[name] == file}, folder / file, {"format": "pt"})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    assert codes_of(folder) == usual
    (folder / "model-00003-of-00005.safetensors").unlink()
    with pytest.raises(ModelError, match=r"lacks model-00003-of-00005\.safetensors"):
        codes_of(folder)


def test_rotary_tables_of_old_checkpoints_are_ignored(folder: Path, usual: list[int]) -> None:
    change_weights(
        folder, lambda weights: weights.update({"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8)})
    )
    assert codes_of(folder) == usual


def test_norms_that_no_llama_has_are_refused(folder: Path) -> None:
    change_weights(folder, lambda weights: weights.update({"model.layers.0.self_attn.q_norm.weight": torch.ones(16)}))
    with pytest.raises(ModelError, match="q_norm"):
        codes_of(folder)


def test_checkpoints_of_the_transformers_draft_load(folder: Path, usual: list[int]) -> None:
    """As `LlasaForCausalLM` and `LlasaTokenizer` save them (transformers pull request 39760)."""
    end_id = PromptFormat.load(folder).end_id
    set_values(
        folder, model_type="llasa", architectures=["LlasaForCausalLM"], sampling_rate=16_000, eos_token_id=end_id
    )
    markers = {"speech_generation_end": "<|SPEECH_GENERATION_END|>"}
    set_values(
        folder,
        "tokenizer_config.json",
        tokenizer_class="LlasaTokenizer",
        codebook_size=64,
        llasa_start_end_tokens=markers,
        model_max_length=2048,
    )
    set_values(folder, "processor_config.json", processor_class="LlasaProcessor")
    assert codes_of(folder) == usual


def test_a_codec_with_another_number_of_codes_is_refused(folder: Path, tmp_path: Path, random_codec: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(random_codec, other)
    weights = load_file(other / "model.safetensors")
    for name in ("project_in.weight", "project_in.bias"):
        weights[f"quantizer.{name}"] = torch.cat([weights[f"quantizer.{name}"]] * 2)[:4].clone()
    weights["quantizer.project_out.weight"] = torch.zeros(96, 4)
    save_file(weights, other / "model.safetensors", {"format": "pt"})
    set_values(other, quantization_levels=[4, 4, 4, 4])
    with pytest.raises(ModelError, match=r"speaks 64 codes, the codec in .* knows 256"):
        Synthesizer.load(ModelOptions(model=str(folder), codec=str(other), device="cpu"))


def test_a_codec_with_another_sampling_rate_sets_that_of_the_file(
    llasa: list[str], random_checkpoint: Path, tmp_path: Path
) -> None:
    """As a finetune of the decoder alone: 44.1 kHz from the same codes."""
    import soundfile

    folder = Path(shutil.copytree(random_checkpoint, tmp_path / "m"))
    codec = folder / "codec"
    weights = load_file(codec / "model.safetensors")
    frame = 4 * 882 + 2
    weights["acoustic_decoder.head.linear.weight"] = 0.1 * torch.randn(frame, 64)
    weights["acoustic_decoder.head.linear.bias"] = torch.zeros(frame)
    save_file(weights, codec / "model.safetensors", {"format": "pt"})
    out = tmp_path / "out.wav"
    command = [*llasa, "say", "-m", str(folder), "Hello there.", "-o", str(out), "--json"]
    made = subprocess.run(
        [*command, "--max-seconds", "0.4", "--retries", "0", "--seed", "1", "--accept-failed"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    info = soundfile.info(out)
    assert info.samplerate == 44_100 == json.loads(made.stdout)["sampling_rate"]
    assert info.frames % 882 == 0
    assert info.frames > 0


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", [[], ["--untied"], ["--untied", "--files", "3"]], ids=["tied", "untied", "sharded"])
def test_loading_takes_memory_for_the_weights_once(tmp_path: Path, kind: list[str], dtype: str) -> None:
    """With Llasa-1B's shape, in a process of its own. Needs 4 GB of disk and 8 GB of memory."""
    script = [sys.executable, str(ROOT / "benchmarks" / "full_size.py")]
    subprocess.run([*script, "write", str(tmp_path), "--no-codec", *kind], check=True)
    model = tmp_path / "HKUSTAudio" / "Llasa-1B"
    made = subprocess.run([*script, "load", str(model), "--dtype", dtype], check=True, capture_output=True, text=True)
    assert json.loads(made.stdout)["ratio"] <= 1.15, made.stdout
