"""A tokenizer whose vocabulary is looked up in the cache folder gives every text the ids that the library gives it."""

from __future__ import annotations

import json
import pickle
import random
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any

import gguf
import pytest
from tokenizers import Tokenizer

from llasa_cli import packed_weights_folder as folder_module
from llasa_cli import prompt
from llasa_cli.checkpoint import gguf_tokenizer, indexed_tokenizer
from llasa_cli.checkpoint.indexed_tokenizer import LONGEST_WORD, IndexedTokenizer, load_tokenizer, without_added_tokens
from llasa_cli.errors import UsageError
from llasa_cli.prompt import PromptFormat
from llasa_cli.prompt_tokens import SPEECH_END
from tests.training.conftest import write_text_tokenizer

CODES = 64
TEMPLATE = "{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content | trim }}<|eot_id|>{% endfor %}"
MARKERS = tuple(
    f"<|{kind}_{task}_{end}|>"
    for kind in ("TEXT", "SPEECH")
    for task in ("GENERATION", "UNDERSTANDING")
    for end in ("START", "END")
)
SPECIAL = ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|eot", "Speaker kore", "w")
TEXTS = (
    "", " ", "hello", "Hello there, world!", "  two  spaces ", "tab\tand\nlines\n\n\n", "don't we'll I'M", "1234567 3.14",
    "日本語のテキスト", "né ñ ﬁ Å Å", "\u1100\u1161\u11a8", "\u226e \u037e \u212a \u1fef", "👩🏽‍🚀 ok", "\ufffd\x00\x7f",
    "<|s_12|>", "a<|s_63|><|s_64|>", "<|s_007|>", "<|s_١|>", "< |s_1|>", "<|S_1|>", "<|s_", "|s_1|>", "<<|s_1|>|>",
    "<|eot_id|>", "x<|eot_id|>y", "<|eot_id", "<|eot<|eot_id|>", "<|SPEECH_GENERATION_END|>", "Speaker kore", "Speaker korea",
    "world w wow", "a" * 300, "the " * 80, "Ġhello", "Ċ",
)  # fmt: skip


def random_texts(count: int) -> list[str]:
    """Words, control tokens whole and cut, and characters of several writings, in any order."""
    numbers = random.Random(0)
    parts = [*TEXTS[:-6], *MARKERS, *SPECIAL, *(token[:-1] for token in SPECIAL), *(token[1:] for token in MARKERS)]
    parts += [chr(code) for code in (*range(32, 383), *range(0x3040, 0x30A0), *range(0x300, 0x310))]
    mixed = ["".join(numbers.choices(parts, k=numbers.randrange(12))) for _ in range(count)]
    letters = (
        "Convert the text to speech: sea sand shell salt wave gull tide boat"  # which the vocabulary has merges of
    )
    words = ["".join(numbers.choices([*letters, *letters.split()], k=numbers.randrange(30))) for _ in range(count)]
    return mixed + words + [letter * number for letter in set(letters) for number in (2, 3, 5, 8)]


def content(folder: Path) -> dict[str, Any]:
    """The tokenizer.json of a small Llasa: Llama 3's splits, merges with several ways to one token, markers and codes."""
    write_text_tokenizer(folder)
    found: dict[str, Any] = json.loads((folder / "tokenizer.json").read_text())
    vocabulary, merges = found["model"]["vocab"], found["model"]["merges"]
    ids = sorted(vocabulary.items(), key=lambda entry: entry[1])
    for whole, _ in ids:  # as Llama 3 lists them: each way to make a token of two others
        ways = [[whole[:at], whole[at:]] for at in range(1, len(whole))]
        merges += [way for way in ways if set(way) <= vocabulary.keys() and way not in merges]
    vocabulary["unreachable"] = len(vocabulary)
    random.Random(1).shuffle(merges)
    names = [*SPECIAL, *MARKERS, *(f"<|s_{code}|>" for code in range(CODES))]
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    new = count(len(vocabulary))
    found["added_tokens"] = [
        plain
        | {"id": vocabulary[name] if name in vocabulary else next(new), "content": name, "special": name in SPECIAL}
        for name in names
    ]
    found["truncation"] = {"direction": "Right", "max_length": 5, "strategy": "LongestFirst", "stride": 0}
    return found


def write(folder: Path, change: Callable[[dict[str, Any]], object] = lambda found: None) -> Path:
    found = content(folder)
    change(found)
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(found, ensure_ascii=False), encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache folder, which takes tokenizers of any size."""
    for module in (folder_module, indexed_tokenizer):
        monkeypatch.setattr(module, "packed_weights_folder", lambda: tmp_path / "cache")
    monkeypatch.setattr(indexed_tokenizer, "SMALLEST_FILE", 0)
    monkeypatch.delenv("LLASA_WEIGHT_CACHE", raising=False)
    return tmp_path / "cache"


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def load(path: Path) -> Any:
    return load_tokenizer(path, read)


def library(path: Path) -> Any:
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_truncation()
    return tokenizer


def ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer.encode(text, add_special_tokens=False).ids)


@pytest.mark.parametrize("normalizer", [None, {"type": "NFC"}])
@pytest.mark.parametrize("ignore_merges", [True, False])
def test_every_text_has_the_ids_of_the_library(tmp_path: Path, normalizer: Any, ignore_merges: bool) -> None:
    def change(found: dict[str, Any]) -> None:
        found["normalizer"] = normalizer
        found["model"]["ignore_merges"] = ignore_merges

    path = write(tmp_path, change)
    expected, first, second = library(path), load(path), load(path)
    for tokenizer in (first, second, pickle.loads(pickle.dumps(second))):
        assert isinstance(tokenizer, IndexedTokenizer)
        text_only, expected_text = tokenizer.without_added_tokens(), without_added_tokens(expected)
        for text in (*TEXTS, *random_texts(300), "ab" * LONGEST_WORD, "unreachable", "eachunr"):
            assert ids(tokenizer, text) == ids(expected, text), text
            assert ids(text_only, text) == ids(expected_text, text), text
        for token in (*expected.get_vocab(), *TEXTS, "<|s_64|>"):
            assert tokenizer.token_to_id(token) == expected.token_to_id(token), token
            assert text_only.token_to_id(token) == expected_text.token_to_id(token), token
        assert tokenizer.vocabulary_size == expected.get_vocab_size()


def test_only_texts_that_need_it_load_the_whole_vocabulary(tmp_path: Path) -> None:
    tokenizer = load(write(tmp_path))
    for text in ("Hello there", "<|eot_id|> Speaker kore", "a" * LONGEST_WORD):
        ids(tokenizer, text)
    assert "full" not in vars(tokenizer)
    ids(tokenizer, "<|s_12|>")
    assert "full" in vars(tokenizer)


def test_the_second_load_reads_the_cache_only(tmp_path: Path, cache: Path) -> None:
    path = write(tmp_path)
    expected = ids(load(path), "Hello there")
    tokenizer = load_tokenizer(path, lambda _: pytest.fail("read again"))
    assert ids(tokenizer, "Hello there") == expected
    assert [path.suffix for path in cache.iterdir()] == [".packed"]


@pytest.mark.parametrize("damage", ["short", "changed", "empty"])
def test_a_damaged_file_is_made_again(tmp_path: Path, cache: Path, damage: str) -> None:
    path = write(tmp_path)
    expected = ids(load(path), "Hello there")
    (file,) = cache.iterdir()
    data = file.read_bytes()
    middle = len(data) // 2
    changed = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
    file.write_bytes({"short": data[:-9], "changed": changed, "empty": b""}[damage])
    assert ids(load(path), "Hello there") == expected
    assert file.read_bytes() == data


def test_another_tokenizer_under_the_name_is_noticed(tmp_path: Path) -> None:
    before = ids(load(write(tmp_path)), "speech")
    path = write(tmp_path, lambda found: found["model"].update(merges=[], ignore_merges=False))
    assert ids(load(path), "speech") == ids(library(path), "speech") != before


def test_it_is_listed_and_removed_with_the_packed_weights(tmp_path: Path, cache: Path) -> None:
    load(write(tmp_path))
    (file,) = cache.iterdir()
    assert folder_module.packed_weights() == [(file, file.stat().st_size)]
    assert folder_module.clear_packed_weights()
    assert list(cache.iterdir()) == []


def test_without_a_cache_the_library_reads_it(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path)
    monkeypatch.setenv("LLASA_WEIGHT_CACHE", "off")
    assert isinstance(load(path), Tokenizer)
    monkeypatch.delenv("LLASA_WEIGHT_CACHE")
    cache.write_text("not a folder")
    tokenizer = load(path)
    assert isinstance(tokenizer, Tokenizer)
    assert ids(tokenizer, "a long text, which is not truncated") == ids(
        library(path), "a long text, which is not truncated"
    )


def without_a_byte(found: dict[str, Any]) -> None:
    found["model"]["merges"] = []
    del found["model"]["vocab"]["é"]


def in_another_order(found: dict[str, Any]) -> None:
    codes = [token for token in found["added_tokens"] if token["content"].startswith("<|s_")]
    codes[3]["content"], codes[4]["content"] = codes[4]["content"], codes[3]["content"]


def with_other_ids(found: dict[str, Any]) -> None:
    for token in found["added_tokens"]:
        token["id"] += 5


def without_a_marker(found: dict[str, Any]) -> None:
    next(token for token in found["added_tokens"] if token["content"] == SPEECH_END)["content"] = (
        "<|TEXT_PROMPT_START|>"
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda found: found["model"].update(unk_token="a"),
        lambda found: found["model"].update(continuing_subword_prefix="#", merges=[]),
        lambda found: found["model"].update(end_of_word_suffix="</w>"),
        lambda found: found["model"].update(byte_fallback=True),
        lambda found: found.update(normalizer={"type": "Lowercase"}),
        lambda found: found.update(pre_tokenizer={"type": "Whitespace"}),
        lambda found: found.update(pre_tokenizer=None),
        without_a_byte,
        in_another_order,
        without_a_marker,
        with_other_ids,
    ],
)
def test_another_kind_of_tokenizer_is_left_to_the_library(
    tmp_path: Path, cache: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    assert isinstance(load(write(tmp_path, change)), Tokenizer)
    assert not cache.exists() or list(cache.iterdir()) == []


def test_the_tokenizer_of_a_gguf_file_is_made_once(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = json.loads(write(tmp_path).read_text())
    found["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = gguf_tokenizer._LLAMA_3
    metadata = gguf_tokenizer.ggml_tokenizer(found, {}, 0) | {"tokenizer.chat_template": TEMPLATE}
    path = tmp_path / "x.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    for key, value in metadata.items():
        add = {bool: writer.add_bool, int: writer.add_uint32, list: writer.add_array, str: writer.add_string}
        add[type(value)](key, value)
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()
    first = PromptFormat.load(path)
    monkeypatch.setattr(prompt, "tokenizer_json", lambda _: pytest.fail("made again"))
    second = PromptFormat.load(path)
    monkeypatch.undo()
    monkeypatch.setenv("LLASA_WEIGHT_CACHE", "off")
    whole = PromptFormat.load(path)
    for text in TEXTS:
        assert first.prompt(text) == second.prompt(text) == whole.prompt(text)


def test_prompts_are_the_same_and_names_that_spell_tokens_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path)
    (tmp_path / "chat_template.jinja").write_text(TEMPLATE)
    indexed = PromptFormat.load(tmp_path)
    monkeypatch.setenv("LLASA_WEIGHT_CACHE", "off")
    whole = PromptFormat.load(tmp_path)
    assert isinstance(indexed._tokenizer, IndexedTokenizer)
    assert isinstance(whole._tokenizer, Tokenizer)
    for text in TEXTS:
        for speaker in (None, "kore", "someone else"):
            assert indexed.prompt(text, speaker=speaker) == whole.prompt(text, speaker=speaker)
        assert indexed.decode_text(indexed.text_ids(text)) == whole.decode_text(whole.text_ids(text))
    for name in ("<|s_12|>", "a <|eot_id|>", "<|SPEECH_GENERATION_END|>"):
        with pytest.raises(UsageError, match="can't be a speaker's name"):
            indexed.prompt("x", speaker=name)
    facts = ("vocabulary_size", "code_count", "first_code_id", "end_id", "marker_ids", "pad_id", "unknown_id")
    assert [getattr(indexed, name) for name in facts] == [getattr(whole, name) for name in facts]
    messages = [{"role": "user", "content": "Hello"}]
    assert indexed.chat_prompt(messages) == whole.chat_prompt(messages)
