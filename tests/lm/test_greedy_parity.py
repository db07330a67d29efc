"""Greedy output equals that of transformers, token for token."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from llasa_cli.errors import ModelError
from llasa_cli.lm.llama_config import LlamaConfig
from llasa_cli.lm.loader import load_language_model
from llasa_cli.prompt import PromptFormat, Reference
from llasa_cli.settings import SamplingOptions

GREEDY = SamplingOptions(temperature=0, max_seconds=1)
SMALL = {
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 2048,
}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "tied": SMALL | {"tie_word_embeddings": True},
    "own head": SMALL | {"tie_word_embeddings": False},
    "as many key-value heads": SMALL | {"num_key_value_heads": 4, "tie_word_embeddings": True},
    "llama3 rope": SMALL | {"tie_word_embeddings": True, "rope_parameters": LLAMA3},
    "Qwen 2": SMALL | {"model_type": "qwen2", "head_dim": 12, "tie_word_embeddings": True},
    "Qwen 3": SMALL | {"model_type": "qwen3", "head_dim": 32, "tie_word_embeddings": False},
}


def write_model(
    folder: Path, prompt_format: PromptFormat, shape: dict[str, Any], dtype: torch.dtype = torch.float32
) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(3)
    torch.set_default_dtype(dtype)
    shape = {"model_type": "llama"} | shape
    try:
        config = AutoConfig.for_model(vocab_size=prompt_format.vocabulary_size, initializer_range=0.3, **shape)
        model = AutoModelForCausalLM.from_config(config)
        for name, parameter in model.named_parameters():
            if name.endswith((".bias", "q_norm.weight", "k_norm.weight")):
                torch.nn.init.uniform_(parameter, 0.5, 1.5)  # new ones are zeros and ones, which would show nothing
        model.save_pretrained(folder)
    finally:
        torch.set_default_dtype(torch.float32)


def transformers_codes(
    folder: Path, prompt_format: PromptFormat, ids: tuple[int, ...], count: int, **options: Any
) -> list[int]:
    """`generate` with everything but speech codes and END masked; END not as the first token."""
    from transformers import AutoModelForCausalLM, LogitsProcessor, LogitsProcessorList

    allowed = torch.zeros(prompt_format.vocabulary_size, dtype=torch.bool)
    allowed[prompt_format.first_code_id : prompt_format.first_code_id + prompt_format.code_count] = True
    allowed[prompt_format.end_id] = True

    class OnlySpeech(LogitsProcessor):
        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            scores = scores[:, : len(allowed)].masked_fill(~allowed, -torch.inf)
            if input_ids.shape[1] == len(ids):
                scores[:, prompt_format.end_id] = -torch.inf
            return scores

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    out = model.generate(
        torch.tensor([ids]),
        attention_mask=torch.ones(1, len(ids), dtype=torch.long),
        max_new_tokens=count,
        do_sample=False,
        eos_token_id=prompt_format.end_id,
        pad_token_id=prompt_format.pad_id,
        logits_processor=LogitsProcessorList([OnlySpeech()]),
        **options,
    )
    made = out[0, len(ids) :].tolist()
    return [token - prompt_format.first_code_id for token in made if token != prompt_format.end_id]


def assert_same_codes_as_transformers(folder: Path, prompt_format: PromptFormat) -> list[int]:
    """Compare the greedy codes of a few prompts, and return them."""
    model = load_language_model(folder, prompt_format, "cpu")
    # A random network repeats itself; the penalty makes it use many codes.
    options = SamplingOptions(temperature=0, max_seconds=1, repetition_penalty=1.5)
    made = []
    for text, reference in (("the cat", None), ("and now this.", Reference("a voice", (1, 2, 3, 60)))):
        prompt = prompt_format.prompt(text, reference)
        wanted = transformers_codes(folder, prompt_format, prompt.ids, 50, repetition_penalty=1.5)
        assert list(model.generate(prompt, options, seed=0)) == wanted
        assert len(set(wanted)) > 2, "a constant output proves little"
        made += wanted
    return made


@pytest.mark.parametrize("name", CONFIGS)
def test_greedy_codes_equal_those_of_transformers(name: str, tokenizer_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(tokenizer_folder, tmp_path, dirs_exist_ok=True)
    prompt_format = PromptFormat.load(tmp_path)
    write_model(tmp_path, prompt_format, CONFIGS[name])
    assert_same_codes_as_transformers(tmp_path, prompt_format)


def test_a_stored_head_is_used_even_if_the_configuration_ties_it(tokenizer_folder: Path, tmp_path: Path) -> None:
    """As in Llasa-3B, where `tie_word_embeddings` is true and the file has an lm_head that differs from the embedding."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(tokenizer_folder, tmp_path, dirs_exist_ok=True)
    prompt_format = PromptFormat.load(tmp_path)
    write_model(tmp_path, prompt_format, CONFIGS["tied"])
    tied = assert_same_codes_as_transformers(tmp_path, prompt_format)
    weights = load_file(tmp_path / "model.safetensors")
    assert "lm_head.weight" not in weights
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"].flip(0)
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    assert assert_same_codes_as_transformers(tmp_path, prompt_format) != tied


def test_rope_is_read_as_transformers_4_wrote_it(tokenizer_folder: Path, tmp_path: Path) -> None:
    """The published checkpoints have rope_theta and rope_scaling, not rope_parameters."""
    shutil.copytree(tokenizer_folder, tmp_path, dirs_exist_ok=True)
    prompt_format = PromptFormat.load(tmp_path)
    write_model(tmp_path, prompt_format, CONFIGS["llama3 rope"])
    new = assert_same_codes_as_transformers(tmp_path, prompt_format)
    config = json.loads((tmp_path / "config.json").read_text())
    scaling = config.pop("rope_parameters")
    config |= {"rope_theta": scaling.pop("rope_theta"), "rope_scaling": scaling}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert assert_same_codes_as_transformers(tmp_path, prompt_format) == new


def test_repetition_penalty_equals_that_of_transformers(random_checkpoint: Path) -> None:
    prompt_format = PromptFormat.load(random_checkpoint)
    prompt = prompt_format.prompt("hello", Reference("hm", (5, 9)))
    model = load_language_model(random_checkpoint, prompt_format, "cpu")
    plain = list(model.generate(prompt, GREEDY, seed=0))
    options = SamplingOptions(temperature=0, max_seconds=1, repetition_penalty=1.3)
    made = list(model.generate(prompt, options, seed=0))
    assert made == transformers_codes(random_checkpoint, prompt_format, prompt.ids, 50, repetition_penalty=1.3)
    assert made != plain


def test_several_weight_files_load_as_one(random_checkpoint: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    shutil.copytree(random_checkpoint, tmp_path / "m", ignore=shutil.ignore_patterns("*.safetensors"))
    AutoModelForCausalLM.from_pretrained(random_checkpoint).save_pretrained(tmp_path / "m", max_shard_size="20KB")
    assert (tmp_path / "m" / "model.safetensors.index.json").exists()
    prompt_format = PromptFormat.load(random_checkpoint)
    prompt = prompt_format.prompt("hello")
    codes = [
        list(load_language_model(folder, prompt_format, "cpu").generate(prompt, GREEDY, seed=0))
        for folder in (random_checkpoint, tmp_path / "m")
    ]
    assert codes[0] == codes[1]
    next((tmp_path / "m").glob("*.safetensors")).unlink()
    with pytest.raises(ModelError, match="lacks model-"):
        load_language_model(tmp_path / "m", prompt_format, "cpu")


FAMILIES = {
    "1B": {"hidden_size": 2048, "num_attention_heads": 32, "head_dim": 64, "tie_word_embeddings": True},
    "3B": {"hidden_size": 3072, "num_attention_heads": 24, "head_dim": 128, "tie_word_embeddings": True},
    "8B": {
        "hidden_size": 4096,
        "intermediate_size": 1024,
        "num_attention_heads": 32,
        "head_dim": 128,
        "tie_word_embeddings": False,
    },
}


@pytest.mark.parametrize("family", ["1B", *(pytest.param(name, marks=pytest.mark.slow) for name in ("3B", "8B"))])
def test_the_attention_shapes_of_the_published_models_give_the_codes_of_transformers(
    family: str, tokenizer_folder: Path, tmp_path: Path
) -> None:
    """Two layers with the heads, groups, widths and rope of the published models, but a smaller MLP and vocabulary."""
    shutil.copytree(tokenizer_folder, tmp_path, dirs_exist_ok=True)
    prompt_format = PromptFormat.load(tmp_path)
    shape = {
        "num_hidden_layers": 2,
        "num_key_value_heads": 8,
        "intermediate_size": 2048,
        "rms_norm_eps": 1e-5,
        "rope_parameters": LLAMA3
        | {"original_max_position_embeddings": 8192, "factor": 8.0 if family == "8B" else 32.0},
    }
    write_model(tmp_path, prompt_format, shape | FAMILIES[family])
    prompt = prompt_format.prompt("hello there", Reference("a voice", tuple(range(40))))
    model = load_language_model(tmp_path, prompt_format, "cpu", "float32")
    made = list(model.generate(prompt, SamplingOptions(temperature=0, max_seconds=0.5), seed=0))
    assert made == transformers_codes(tmp_path, prompt_format, prompt.ids, 25)[: len(made)]
    assert len(made) > 3


@pytest.mark.slow
def test_a_model_of_the_shape_of_llasa_1b_gives_the_codes_of_transformers(tmp_path: Path) -> None:
    """Random weights in Llasa-1B's configuration. Needs 10 GB of memory."""
    from recipes.heart.tokenizer import write_tokenizer

    # 128,264 ids before the first code, as in the published vocabulary; the text tokens are the built-in voice's.
    write_tokenizer(tmp_path, 65_536, (), first_code_id=128_264)
    prompt_format = PromptFormat.load(tmp_path)
    assert (prompt_format.first_code_id, prompt_format.code_count, prompt_format.vocabulary_size) == (
        128_264,
        65_536,
        193_800,
    )
    shape = {
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 64,
        "max_position_embeddings": 131072,
        "tie_word_embeddings": True,
        "rope_parameters": LLAMA3 | {"original_max_position_embeddings": 8192},
        "rms_norm_eps": 1e-5,
    }
    write_model(tmp_path, prompt_format, shape, torch.bfloat16)
    model = load_language_model(tmp_path, prompt_format, "cpu", "float32")
    prompt = prompt_format.prompt("hello there", Reference("a voice", tuple(range(40))))
    made = list(model.generate(prompt, SamplingOptions(temperature=0, max_seconds=4), seed=0))
    del model
    assert made == transformers_codes(tmp_path, prompt_format, prompt.ids, 200)
    assert len(made) == 200
    assert all(0 <= code < 65_536 for code in made)


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("given", [{}, {"num_key_value_heads": None}])
def test_key_value_heads_that_are_left_out_are_those_of_transformers(kind: str, given: dict[str, None]) -> None:
    from transformers import AutoConfig

    shape = {
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 64,
        "head_dim": 2,
    }
    theirs = AutoConfig.for_model(kind, **shape, **given)
    own = LlamaConfig.from_json({"model_type": kind, **shape, **given})
    assert own.key_value_heads == theirs.num_key_value_heads
