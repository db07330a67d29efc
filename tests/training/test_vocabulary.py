from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from llasa_cli.errors import ModelError, UsageError
from llasa_cli.lm.loader import load_language_model
from llasa_cli.prompt import PromptFormat
from llasa_cli.prompt_tokens import MARKERS
from llasa_cli.settings import SamplingOptions
from llasa_cli.training.finetune import finetune
from llasa_cli.training.merge import extend_model
from llasa_cli.training.options import FinetuneOptions, LoraOptions
from llasa_cli.training.vocabulary import extend_tokenizer


def test_on_llama_3_the_ids_are_the_published_ones(tmp_path: Path) -> None:
    from tokenizers import AddedToken, Tokenizer, models

    tokenizer = Tokenizer(models.WordLevel({f"w{index}": index for index in range(128_000)}, unk_token="w0"))
    tokenizer.add_special_tokens([AddedToken(f"<|special_{index}|>", special=True) for index in range(256)])
    (tmp_path / "text").mkdir()
    tokenizer.save(str(tmp_path / "text" / "tokenizer.json"))
    (tmp_path / "text" / "chat_template.jinja").write_text("{{ messages[0]['content'] }}{{ messages[1]['content'] }}")
    extend_tokenizer(tmp_path / "text", tmp_path / "speech")
    prompt_format = PromptFormat.load(tmp_path / "speech")
    assert (prompt_format.text_start_id, prompt_format.text_end_id) == (128_258, 128_259)
    assert (prompt_format.start_id, prompt_format.end_id) == (128_260, 128_261)
    assert (prompt_format.first_code_id, prompt_format.code_count, prompt_format.vocabulary_size) == (
        128_264,
        65_536,
        193_800,
    )


def test_the_tokens_are_those_that_the_published_script_adds(text_llama: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    extend_tokenizer(text_llama, tmp_path / "ours", 64)
    published = AutoTokenizer.from_pretrained(text_llama)
    published.add_tokens([*MARKERS, *(f"<|s_{code}|>" for code in range(64))])
    ours = AutoTokenizer.from_pretrained(tmp_path / "ours")
    assert ours.get_vocab() == published.get_vocab()
    assert ours.chat_template == published.chat_template
    text = "sea salt<|TEXT_UNDERSTANDING_END|> <|s_7|><|s_63|>\n<|eot_id|>boat"
    assert ours(text)["input_ids"] == published(text)["input_ids"]
    assert ours.decode(ours(text)["input_ids"], skip_special_tokens=True) == published.decode(
        published(text)["input_ids"], skip_special_tokens=True
    )
    with pytest.raises(UsageError, match="already has"):
        extend_tokenizer(tmp_path / "ours", tmp_path / "again")


def speech_data(text_llama: Path, folder: Path, write_rows: Callable[..., None]) -> Path:
    extend_tokenizer(text_llama, folder / "tokenizer", 64)
    prompt_format = PromptFormat.load(folder / "tokenizer")
    write_rows(folder / "data", "train", prompt_format, 24, prompt_format.pad_id, 0)
    (folder / "data" / "index.json").write_text(json.dumps({"code_count": 64}))
    return folder / "data"


def test_a_text_llama_gets_speech_tokens_and_trains(
    text_llama: Path, random_codec: Path, tmp_path: Path, write_rows: Callable[..., None]
) -> None:
    options = FinetuneOptions(
        speech_data(text_llama, tmp_path, write_rows),
        tmp_path / "out",
        model=str(text_llama),
        codec=str(random_codec),
        steps=3,
        learning_rate=1e-3,
        warm_up_steps=0,
        device="cpu",
        save_every_steps=2,
    )
    about = finetune(options)
    assert not (options.output / ".tokenizer").exists()
    assert about["protocol"]["code_count"] == 64
    weights, tied = load_file(options.output / "model.safetensors"), text_llama.name == "tied"
    prompt_format = PromptFormat.load(options.output)
    assert len(weights["model.embed_tokens.weight"]) == prompt_format.vocabulary_size
    assert ("lm_head.weight" in weights) != tied
    config = json.loads((options.output / "config.json").read_text())
    assert config["tie_word_embeddings"] == tied
    assert config["vocab_size"] == prompt_format.vocabulary_size
    model = load_language_model(options.output, prompt_format, "cpu")
    spoken = list(model.generate(prompt_format.prompt("sea", speaker="bella"), SamplingOptions(max_seconds=0.2), 0))
    assert len(spoken) <= 10
    # The folder alone is enough to resume.
    shutil.rmtree(options.output / "checkpoint-3")
    assert finetune(options)["steps"] == 3


def test_an_extended_model_keeps_its_text_predictions(text_llama: Path, random_codec: Path, tmp_path: Path) -> None:
    from transformers import LlamaForCausalLM

    about = extend_model(str(text_llama), tmp_path / "out", str(random_codec))
    assert about["codec"] == "codec"
    before = LlamaForCausalLM.from_pretrained(text_llama)
    after = LlamaForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    ids = torch.arange(20)[None]
    with torch.no_grad():
        old, new = before(ids).logits, after(ids).logits
    torch.testing.assert_close(new[..., : old.shape[-1]], old, rtol=0.05, atol=0.05)  # the folder is in bfloat16
    # New rows resemble the old ones, not an untrained layer.
    rows = after.get_input_embeddings().weight.detach()
    known, added = rows[: old.shape[-1]], rows[old.shape[-1] :]
    assert added.std() > 0
    assert (added.mean(0) - known.mean(0)).norm() < 0.1 * known.std(0).norm()
    with pytest.raises(UsageError, match="already holds a model"):
        extend_model(str(text_llama), tmp_path / "out", str(random_codec))


def test_a_stored_head_is_kept_although_the_configuration_ties_it(
    random_checkpoint: Path, tmp_path: Path, write_rows: Callable[..., None]
) -> None:
    """Llasa-3B has both; training must use the head that it speaks with."""
    folder = tmp_path / "both"
    shutil.copytree(random_checkpoint, folder)
    weights = load_file(folder / "model.safetensors")
    torch.manual_seed(1)
    weights["lm_head.weight"] = torch.randn_like(weights["model.embed_tokens.weight"])
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    prompt_format = PromptFormat.load(folder)
    write_rows(tmp_path / "data", "train", prompt_format, 8, prompt_format.pad_id, 0)
    options = FinetuneOptions(
        tmp_path / "data", tmp_path / "out", model=str(folder), steps=1, learning_rate=0.0, device="cpu"
    )
    finetune(options)
    after = load_file(options.output / "model.safetensors")
    for name in ("lm_head.weight", "model.embed_tokens.weight"):
        np.testing.assert_array_equal(after[name].float(), weights[name].bfloat16().float())
    assert json.loads((options.output / "config.json").read_text())["tie_word_embeddings"] is False


def test_an_adapter_for_new_tokens_is_refused(
    text_llama: Path, random_codec: Path, tmp_path: Path, write_rows: Callable[..., None]
) -> None:
    data = speech_data(text_llama, tmp_path, write_rows)
    options = FinetuneOptions(
        data,
        tmp_path / "out",
        model=str(text_llama),
        codec=str(random_codec),
        lora=LoraOptions(),
        steps=1,
        device="cpu",
    )
    with pytest.raises(UsageError, match="first speech tokens"):
        finetune(options)


def test_a_text_model_without_a_template_is_refused(text_llama: Path, tmp_path: Path) -> None:
    shutil.copytree(text_llama, tmp_path / "base")
    (tmp_path / "base" / "tokenizer_config.json").write_text("{}")
    with pytest.raises(ModelError, match="no chat template"):
        extend_tokenizer(tmp_path / "base", tmp_path / "out")
