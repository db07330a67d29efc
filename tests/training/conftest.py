"""A small data folder in the published form, whose codes follow from the text, and small models to train."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from llasa_cli.prompt import PromptFormat
from llasa_cli.settings import CONTEXT_TOKENS

WORDS = ("sea", "sand", "shell", "salt", "wave", "gull", "tide", "boat")


def published_rows(folder: Path, split: str, prompt_format: PromptFormat, count: int, pad_id: int, seed: int) -> None:
    """Rows of two speakers with 10 to 40 codes; each letter gives three codes of its own."""
    random = np.random.default_rng(seed)
    table = np.full((count, CONTEXT_TOKENS), pad_id, np.int32)
    for row in table:
        text = " ".join(random.choice(WORDS, random.integers(1, 4)))
        codes = [
            (token * 3 + part) % prompt_format.code_count for token in prompt_format.text_ids(text) for part in range(3)
        ]
        ids = prompt_format.encode_row(text, codes)
        row[: len(ids)] = ids
    folder.mkdir(parents=True, exist_ok=True)
    table.tofile(folder / f"{split}_input_ids.memmap")
    np.save(folder / f"{split}_input_ids_shape.npy", np.array(table.shape))
    speakers = "".join(("heart\n", "bella\n")[number % 2] for number in range(count))
    (folder / f"{split}_speakers.txt").write_text(speakers, encoding="utf-8")


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory: pytest.TempPathFactory, tokenizer_folder: Path) -> Path:
    folder = tmp_path_factory.mktemp("data")
    prompt_format = PromptFormat.load(tokenizer_folder)
    published_rows(folder, "train", prompt_format, 120, prompt_format.pad_id, 0)
    published_rows(folder, "val", prompt_format, 12, prompt_format.pad_id, 1)
    return folder


@pytest.fixture
def prompt_format(tokenizer_folder: Path) -> PromptFormat:
    return PromptFormat.load(tokenizer_folder)


@pytest.fixture(scope="session")
def write_rows() -> Callable[..., None]:
    """`published_rows`, for tests that make data of their own."""
    return published_rows


@pytest.fixture
def spelling_folder(tokenizer_folder: Path, tmp_path: Path) -> Path:
    """A tokenizer like the built-in model's: digits become words, and unknown letters are not dropped."""
    import json
    import shutil

    folder = tmp_path / "spelling"
    shutil.copytree(tokenizer_folder, folder)
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    content["normalizer"]["normalizers"].pop()
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    (folder / "llasa.json").write_text('{"spell_out": true}', encoding="utf-8")
    return folder


@pytest.fixture
def brief_samples(monkeypatch: pytest.MonkeyPatch) -> float:
    """Speech samples end after half a second: a random model rarely ends by itself. -> the seconds"""
    monkeypatch.setattr("llasa_cli.training.samples.SECONDS", 0.5)
    return 0.5


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """A table of eight clips of two speakers, and of three that can't be used."""
    import soundfile

    folder = tmp_path / "recordings"
    folder.mkdir()
    random = np.random.default_rng(0)
    lines = ["audio,text,speaker"]
    for number in range(8):
        sound = 0.1 * random.standard_normal((int((0.4 + 0.1 * number) * 22_050), 2))
        soundfile.write(folder / f"{number}.wav", sound, 22_050)
        lines.append(f"{number}.wav,sea number {number},{'bella' if number % 2 else 'kore'}")
    (folder / "broken.wav").write_bytes(b"RIFF nothing")
    soundfile.write(folder / "long.wav", np.zeros(16_000 * 60), 16_000)
    lines += ["broken.wav,hello,bella", "absent.wav,hello,bella", "long.wav,hello,bella"]
    (folder / "table.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "table.csv"


# The instruction, date and header lines of Llama 3.2's chat template, without the part for tools.
LLAMA_TEMPLATE = """{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{{- "Cutting Knowledge Date: December 2023\\n" }}
{{- "Today Date: " + date_string + "\\n\\n" }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""


def write_text_tokenizer(folder: Path) -> None:
    """A small byte-level BPE tokenizer like Llama 3's, with its special tokens and template, without Llasa's tokens."""
    import json

    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    pattern = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(["Convert the text to speech: sea sand shell salt wave gull tide boat"] * 3, trainer)
    special = ["begin_of_text", "end_of_text", "start_header_id", "end_header_id", "eot_id"]
    tokenizer.add_special_tokens([AddedToken(f"<|{name}|>", special=True) for name in special])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<|begin_of_text|>",
        "eos_token": "<|eot_id|>",
        "chat_template": LLAMA_TEMPLATE,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


@pytest.fixture(scope="session", params=["tied", pytest.param("untied", marks=pytest.mark.slow)])
def text_llama(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama without speech tokens; its head is tied to the embeddings (as in 1B and 3B) or not (8B)."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    folder = tmp_path_factory.mktemp("text") / request.param
    write_text_tokenizer(folder)
    from tokenizers import Tokenizer

    torch.manual_seed(5)
    config = LlamaConfig(
        vocab_size=Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab_size(),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        tie_word_embeddings=request.param == "tied",
        initializer_range=0.2,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def speaking(text_llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tokenizer of `text_llama` with Llasa's tokens, 64 codes among them."""
    from llasa_cli.training.vocabulary import extend_tokenizer

    folder = tmp_path_factory.mktemp("speaking") / "tokenizer"
    extend_tokenizer(text_llama, folder, 64)
    return folder
