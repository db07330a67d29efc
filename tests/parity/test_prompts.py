"""Prompt ids equal those of `apply_chat_template`, with the published layout of ids and Llama 3.2's own template.

`python tests/parity/prompts.py FOLDER` compares them for a real tokenizer.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from llasa_cli.checkpoint import indexed_tokenizer
from llasa_cli.checkpoint.gguf_file import GgufFile
from llasa_cli.checkpoint.gguf_tokenizer import ggml_tokenizer, tokenizer_json, tokenizer_settings
from llasa_cli.prompt import PromptFormat, Reference

sys.path.insert(0, str(Path(__file__).parent))
from llama_tokenizer import IDS, write_tokenizer
from prompts import CASES, differences, style_differences


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("llama")
    write_tokenizer(folder)
    with pytest.MonkeyPatch.context() as patch:  # the user's cache folder is not written
        patch.setattr(indexed_tokenizer, "packed_weights_folder", lambda: folder / "cache")
        yield folder


@pytest.fixture(scope="module")
def prompt_format(folder: Path) -> PromptFormat:
    return PromptFormat.load(folder)


def test_every_prompt_equals_that_of_transformers(folder: Path, prompt_format: PromptFormat) -> None:
    assert isinstance(prompt_format._tokenizer, indexed_tokenizer.IndexedTokenizer)
    assert len({case.text for case in CASES}) >= 50
    assert sum(case.codes != () for case in CASES) >= 50, "as many cloning prompts"
    assert differences(folder) == []


def test_prompts_with_a_style_equal_those_of_transformers(folder: Path) -> None:
    assert style_differences(folder) == []


def test_ids_equal_the_published_ones(prompt_format: PromptFormat) -> None:
    ids = list(prompt_format.prompt("Hello.").ids)
    assert ids[0] == IDS["<|begin_of_text|>"]
    assert ids.count(IDS["<|begin_of_text|>"]) == 1
    turn = [IDS["<|eot_id|>"], IDS["<|start_header_id|>"]]
    assert ids.count(turn[0]) == 2
    assert ids[-1] == IDS["<|SPEECH_GENERATION_START|>"]
    assert IDS["<|TEXT_UNDERSTANDING_START|>"] in ids
    assert (prompt_format.end_id, prompt_format.first_code_id) == (IDS["<|SPEECH_GENERATION_END|>"], IDS["<|s_0|>"])
    assert (prompt_format.code_count, prompt_format.vocabulary_size) == (65_536, 193_800)
    assert prompt_format.pad_id == IDS["<|finetune_right_pad_id|>"]


def test_a_gguf_file_gives_the_same_prompts(folder: Path, prompt_format: PromptFormat) -> None:
    """From the tokens, types and merges that llama.cpp's converter writes; they do not hold tokenizer.json."""
    content, settings = (
        json.loads((folder / name).read_text()) for name in ("tokenizer.json", "tokenizer_config.json")
    )
    metadata = ggml_tokenizer(content, settings, IDS["<|s_65535|>"] + 1)
    assert metadata["tokenizer.ggml.pre"] == "llama-bpe"
    assert "tokenizer.huggingface.json" not in metadata
    metadata["tokenizer.chat_template"] = settings["chat_template"]
    file = GgufFile(folder / "x.gguf", metadata, {}, ())
    tokenizer = Tokenizer.from_str(tokenizer_json(file))
    settings = tokenizer_settings(file)
    rebuilt = PromptFormat(tokenizer, settings["chat_template"], settings, {})
    for case in CASES:
        reference = Reference("Some words.", case.codes) if case.codes else None
        assert rebuilt.prompt(case.text, reference) == prompt_format.prompt(case.text, reference)


@pytest.mark.parametrize("text", ["<|SPEECH_GENERATION_END|>", "a<|eot_id|>b", "<|s_5|><|s_6|>", "<|begin_of_text|>"])
def test_text_that_spells_a_token_stays_text(prompt_format: PromptFormat, text: str) -> None:
    """Only here do the ids differ from those of `apply_chat_template`."""
    plain, spelt = prompt_format.prompt("x").ids, prompt_format.prompt(text).ids
    markers = [[id for id in ids if id >= 128_000] for ids in (plain, spelt)]
    assert markers[0] == markers[1]
    assert prompt_format.decode_text(prompt_format.text_ids(text)) == text


def test_another_space_in_the_instruction_would_be_found(folder: Path) -> None:
    assert len(differences(folder, "Convert the text to speech: ")) == len(CASES)
