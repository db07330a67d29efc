"""What is fetched of a repository, and what is refused before anything big is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llasa_cli.errors import ModelError
from llasa_cli.hub.catalog import ANIME_CODEC, CATALOG, PUBLISHED_CODEC
from llasa_cli.hub.download import fetch, plan
from llasa_cli.hub.http import Wire
from tests.hub.conftest import MARKERS, REPO, write_codec, write_repo, write_tokenizer
from tests.hub.fake_hub import FakeHub


def names(wire: Wire, repo: str = REPO) -> list[str]:
    return [file.name for file in plan(wire, repo).choice.files]


def refusal(wire: Wire, repo: str = REPO) -> str:
    with pytest.raises(ModelError) as caught:
        plan(wire, repo)
    assert caught.value.exit_code == 3
    return caught.value.message


def big_files(hub: FakeHub) -> list[str]:
    return [request.path for request in hub.requests if request.host == "files" and request.method == "GET"]


def test_configuration_comes_before_weights_and_nothing_else_comes(hub: FakeHub, wire: Wire, repo_folder: Path) -> None:
    for name in ("pytorch_model.bin", "modeling_llasa.py", "optimizer.pt", "onnx/model.onnx", "old/model.safetensors"):
        (repo_folder / name).parent.mkdir(exist_ok=True)
        (repo_folder / name).write_bytes(b"x" * 100)
    found = names(wire)
    assert found[-1] == "model.safetensors"
    assert set(found) == {
        "README.md", "config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors",
    }  # fmt: skip


def test_of_shards_those_are_fetched_that_the_index_names(hub: FakeHub, wire: Wire, repo_folder: Path) -> None:
    (repo_folder / "model.safetensors").unlink()
    shards = [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    for name in [*shards, "consolidated.safetensors"]:
        (repo_folder / name).write_bytes(b"x" * 10)
    index = {"weight_map": {"a": shards[0], "b": shards[1], "c": shards[0]}}
    (repo_folder / "model.safetensors.index.json").write_text(json.dumps(index))
    found = names(wire)
    assert {name for name in found if "safetensors" in name} == {*shards, "model.safetensors.index.json"}
    (repo_folder / shards[1]).unlink()
    assert "lacks model-00002-of-00002" in refusal(wire)


@pytest.mark.parametrize(
    "name", ["../../.bashrc", "/etc/passwd", "a/../../b.safetensors", "C:\\x", "a//b", "..", "a\nb"]
)
def test_a_name_that_leads_out_of_the_folder_is_refused(hub: FakeHub, wire: Wire, name: str) -> None:
    hub.extra_names[REPO] = [name]
    assert "outside its folder" in refusal(wire)


@pytest.mark.parametrize("name", ["../../../../.ssh/authorized_keys.safetensors", "/tmp/x.safetensors", "x.bin", 7])
def test_an_index_that_leads_out_of_the_folder_is_refused(
    hub: FakeHub, wire: Wire, repo_folder: Path, name: object
) -> None:
    (repo_folder / "model.safetensors").rename(repo_folder / "model-1.safetensors")
    (repo_folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    assert "no file of this checkpoint" in refusal(wire)


def test_a_sum_is_no_way_out_of_the_folder_either(
    hub: FakeHub, wire: Wire, repo_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It becomes the name of a blob."""
    monkeypatch.setattr(hub, "sums", lambda path: ("../../x", "../" * 21 + "x"))
    monkeypatch.setattr(hub, "commit", lambda repo: "0" * 40)
    assert "names no sum" in refusal(wire)
    monkeypatch.setattr(hub, "commit", lambda repo: "../" * 13 + "x")
    assert "names no commit" in refusal(wire)


def test_a_model_that_brings_its_own_code_is_refused(hub: FakeHub, wire: Wire, repo_folder: Path) -> None:
    write_repo(repo_folder, auto_map={"AutoModelForCausalLM": "modeling_x.X"})
    (repo_folder / "modeling_x.py").write_text("import os")
    assert "auto_map" in refusal(wire)


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        (["pytorch_model.bin"], "only pickled"),
        (["ckpt/epoch=4.ckpt"], "only pickled"),
        (["Llasa-3B.Q4_K_M.gguf", "x.bin"], "GGUF files only"),
        ([], "no weights"),
    ],
)
def test_weights_that_are_no_safetensors_are_refused(
    hub: FakeHub, wire: Wire, repo_folder: Path, files: list[str], reason: str
) -> None:
    (repo_folder / "model.safetensors").unlink()
    for name in files:
        (repo_folder / name).parent.mkdir(exist_ok=True)
        (repo_folder / name).write_bytes(b"x")
    assert reason in refusal(wire)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"model_type": "bert"}, "kind 'bert'"),
        ({"model_type": None}, "kind 'None'"),
        ({"model_type": ["llama"], "architectures": 7}, "kind \"['llama']\""),
        ({"quantization_config": {"quant_method": "gptq"}}, "quantised already (gptq)"),
        ({"quantization": {"bits": 4}}, "quantised already"),
    ],
)
def test_other_kinds_of_models_are_refused(
    hub: FakeHub, wire: Wire, repo_folder: Path, config: dict[str, object], reason: str
) -> None:
    write_repo(repo_folder, **config)
    assert reason in refusal(wire)
    assert big_files(hub) == []


@pytest.mark.parametrize("content", ["{", "[1]", "[" * 100_000])
def test_a_broken_configuration_is_refused(hub: FakeHub, wire: Wire, repo_folder: Path, content: str) -> None:
    (repo_folder / "config.json").write_text(content)
    assert "config.json" in refusal(wire)


@pytest.mark.parametrize("name", ["ASLP-lab/Llasa-1B-Yue", "inworld-ai/tts"])
def test_what_is_known_to_be_none_is_refused_without_asking(hub: FakeHub, wire: Wire, name: str) -> None:
    assert "not compatible" in refusal(wire, name)
    assert hub.requests == []


@pytest.mark.parametrize(
    ("tokens", "reason"),
    [
        (["<|bicodec_semantic_0|>"], "BiCodec"),
        (["<|s_0|>", "<|s_1|>"], "no <|TEXT_UNDERSTANDING_START|>"),
        (["<custom_token_1>"], "a text model or speaks another way"),
        # As sorted by a program that sorts numbers as text.
        ([*MARKERS, "<|s_0|>", "<|s_1|>", "<|s_10|>", "<|s_2|>"], "in another order (<|s_10|>)"),
    ],
)
def test_a_tokenizer_of_another_kind_is_found_before_the_weights_are_fetched(
    hub: FakeHub, wire: Wire, repo_folder: Path, tokens: list[str], reason: str
) -> None:
    write_tokenizer(repo_folder, tokens)
    with pytest.raises(ModelError) as caught:
        fetch(wire, plan(wire, REPO), lambda count, fresh: None, lambda file: None, False)
    assert reason in caught.value.message
    assert big_files(hub) == []


@pytest.mark.parametrize("content", ["{", "[]", '{"added_tokens": 3, "model": {}}', "[" * 100_000])
def test_a_broken_tokenizer_is_found_before_the_weights_are_fetched(
    hub: FakeHub, wire: Wire, repo_folder: Path, content: str
) -> None:
    (repo_folder / "tokenizer.json").write_text(content)
    with pytest.raises(ModelError, match="can't be read"):
        fetch(wire, plan(wire, REPO), lambda count, fresh: None, lambda file: None, False)
    assert big_files(hub) == []


def test_tokens_may_stand_in_the_vocabulary(hub: FakeHub, wire: Wire, repo_folder: Path) -> None:
    ids = {token: number for number, token in enumerate([*MARKERS, "<|s_0|>", "<|s_1|>"])}
    (repo_folder / "tokenizer.json").write_text(json.dumps({"added_tokens": [], "model": {"vocab": ids}}))
    fetch(wire, plan(wire, REPO), lambda count, fresh: None, lambda file: None, False)


def test_a_text_model_is_fetched_where_one_is_wanted(hub: FakeHub, wire: Wire, repo_folder: Path) -> None:
    write_tokenizer(repo_folder, ["<|eot_id|>"])
    folder = fetch(wire, plan(wire, REPO), lambda count, fresh: None, lambda file: None, True)
    assert (folder / "model.safetensors").is_file()


def test_a_listener_is_fetched_with_all_it_reads(hub: FakeHub, wire: Wire, tmp_path: Path) -> None:
    folder = tmp_path / "whisper"
    write_codec(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": "whisper"}))
    parts = ("preprocessor_config.json", "vocab.json", "merges.txt", "normalizer.json", "tokenizer.json")
    for name in parts:
        (folder / name).write_text("{}")
    hub.repositories["openai/whisper-base"] = folder
    choice = plan(wire, "openai/whisper-base").choice
    assert (choice.kind, choice.companion) == ("listener", None)
    assert {*parts, "model.safetensors"} <= {file.name for file in choice.files}


# --- codecs and adapters ---


def test_a_model_needs_the_codec_that_it_names_or_the_published_one(
    hub: FakeHub, wire: Wire, repo_folder: Path
) -> None:
    assert plan(wire, REPO).choice.companion == PUBLISHED_CODEC
    (repo_folder / "llasa.json").write_text(json.dumps({"codec": "other/codec"}))
    assert plan(wire, REPO).choice.companion == "other/codec"
    (repo_folder / "llasa.json").write_text(json.dumps({"codec": "codec"}))
    write_codec(repo_folder / "codec")
    assert plan(wire, REPO).choice.companion is None
    assert {"codec/config.json", "codec/model.safetensors"} <= set(names(wire))


def test_a_published_finetune_needs_the_codec_of_the_catalogue(hub: FakeHub, wire: Wire, tmp_path: Path) -> None:
    repo = CATALOG["3b-anime"].repo
    hub.repositories |= {repo: write_repo(tmp_path / "anime"), ANIME_CODEC: write_codec(tmp_path / "anime-codec")}
    assert plan(wire, "anime").choice.companion == ANIME_CODEC
    assert plan(wire, ANIME_CODEC).choice.kind == "codec"


def test_an_adapter_needs_the_model_it_was_trained_on(hub: FakeHub, wire: Wire, tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": REPO}))
    (folder / "adapter_model.safetensors").write_bytes(b"x" * 1000)
    hub.repositories["somebody/adapter"] = folder
    choice = plan(wire, "somebody/adapter").choice
    assert (choice.kind, choice.companion) == ("adapter", REPO)
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    assert "no weights" in refusal(wire, "somebody/adapter")
