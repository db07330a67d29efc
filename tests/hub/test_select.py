"""Which files of a repository are downloaded, and what is refused before anything big is downloaded."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from llasa_cli.errors import ModelError
from llasa_cli.hub.cache_layout import missing_from
from llasa_cli.hub.catalog import ANIME_CODEC, CATALOG, PUBLISHED_CODEC
from llasa_cli.hub.download import fetch, plan_download
from llasa_cli.hub.http import HubClient
from tests.hub.conftest import MARKERS, REPO, write_codec, write_repo, write_tokenizer
from tests.hub.fake_hub import FakeHub


def names(client: HubClient, repo: str = REPO) -> list[str]:
    return [file.name for file in plan_download(client, repo).selection.files]


def refusal(client: HubClient, repo: str = REPO) -> str:
    with pytest.raises(ModelError) as caught:
        plan_download(client, repo)
    assert caught.value.exit_code == 3
    return caught.value.message


def big_files(hub: FakeHub) -> list[str]:
    return [request.path for request in hub.requests if request.host == "files" and request.method == "GET"]


def test_configuration_comes_before_weights_and_no_other_file_is_downloaded(
    hub: FakeHub, client: HubClient, repo_folder: Path
) -> None:
    for name in ("pytorch_model.bin", "modeling_llasa.py", "optimizer.pt", "onnx/model.onnx", "old/model.safetensors"):
        (repo_folder / name).parent.mkdir(exist_ok=True)
        (repo_folder / name).write_bytes(b"x" * 100)
    found = names(client)
    assert found[-1] == "model.safetensors"
    assert set(found) == {
        "README.md", "config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors",
    }  # fmt: skip


def test_only_the_shards_of_the_index_are_downloaded(hub: FakeHub, client: HubClient, repo_folder: Path) -> None:
    (repo_folder / "model.safetensors").unlink()
    shards = [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    for name in [*shards, "consolidated.safetensors"]:
        (repo_folder / name).write_bytes(b"x" * 10)
    index = {"weight_map": {"a": shards[0], "b": shards[1], "c": shards[0]}}
    (repo_folder / "model.safetensors.index.json").write_text(json.dumps(index))
    found = names(client)
    assert {name for name in found if "safetensors" in name} == {*shards, "model.safetensors.index.json"}
    (repo_folder / shards[1]).unlink()
    assert "lacks model-00002-of-00002" in refusal(client)


@pytest.mark.parametrize(
    "name", ["../../.bashrc", "/etc/passwd", "a/../../b.safetensors", "C:\\x", "a//b", "..", "a\nb"]
)
def test_a_file_name_that_leads_out_of_the_folder_is_refused(hub: FakeHub, client: HubClient, name: str) -> None:
    hub.extra_names[REPO] = [name]
    assert "outside its folder" in refusal(client)


@pytest.mark.parametrize("name", ["../../../../.ssh/authorized_keys.safetensors", "/tmp/x.safetensors", "x.bin", 7])
def test_an_index_that_leads_out_of_the_folder_is_refused(
    hub: FakeHub, client: HubClient, repo_folder: Path, name: object
) -> None:
    (repo_folder / "model.safetensors").rename(repo_folder / "model-1.safetensors")
    (repo_folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": name}}))
    assert "not a file of this checkpoint" in refusal(client)


def test_a_checksum_that_is_a_path_is_refused(
    hub: FakeHub, client: HubClient, repo_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would become the name of a blob."""
    monkeypatch.setattr(hub, "sums", lambda path: ("../../x", "../" * 21 + "x"))
    monkeypatch.setattr(hub, "commit", lambda repo: "0" * 40)
    assert "names no checksum" in refusal(client)
    monkeypatch.setattr(hub, "commit", lambda repo: "../" * 13 + "x")
    assert "names no commit" in refusal(client)


def test_a_model_with_code_of_its_own_is_refused(hub: FakeHub, client: HubClient, repo_folder: Path) -> None:
    write_repo(repo_folder, auto_map={"AutoModelForCausalLM": "modeling_x.X"})
    (repo_folder / "modeling_x.py").write_text("import os")
    assert "auto_map" in refusal(client)


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        (["pytorch_model.bin"], "only pickled weights"),
        (["ckpt/epoch=4.ckpt"], "only pickled weights"),
        ([], "no weights"),
    ],
)
def test_weights_in_other_formats_are_refused(
    hub: FakeHub, client: HubClient, repo_folder: Path, files: list[str], reason: str
) -> None:
    (repo_folder / "model.safetensors").unlink()
    for name in files:
        (repo_folder / name).parent.mkdir(exist_ok=True)
        (repo_folder / name).write_bytes(b"x")
    assert reason in refusal(client)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"model_type": "bert"}, "type 'bert'"),
        ({"model_type": None}, "type 'None'"),
        ({"model_type": ["llama"], "architectures": 7}, "type \"['llama']\""),
        ({"quantization_config": {"quant_method": "gptq"}}, "already quantized (gptq)"),
        ({"quantization": {"bits": 4}}, "already quantized"),
    ],
)
def test_models_of_other_types_are_refused(
    hub: FakeHub, client: HubClient, repo_folder: Path, config: dict[str, object], reason: str
) -> None:
    write_repo(repo_folder, **config)
    assert reason in refusal(client)
    assert big_files(hub) == []


@pytest.mark.parametrize("content", ["{", "[1]", "[" * 100_000])
def test_a_damaged_configuration_is_refused(hub: FakeHub, client: HubClient, repo_folder: Path, content: str) -> None:
    (repo_folder / "config.json").write_text(content)
    assert "config.json" in refusal(client)


@pytest.mark.parametrize("name", ["ASLP-lab/Llasa-1B-Yue", "inworld-ai/tts"])
def test_a_known_incompatible_repository_is_refused_without_a_request(
    hub: FakeHub, client: HubClient, name: str
) -> None:
    assert "not compatible" in refusal(client, name)
    assert hub.requests == []


@pytest.mark.parametrize(
    ("tokens", "reason"),
    [
        (["<|bicodec_semantic_0|>"], "BiCodec"),
        (["<|s_0|>", "<|s_1|>"], "no <|TEXT_UNDERSTANDING_START|>"),
        (["<custom_token_1>"], "a text model or has another prompt format"),
        # The order of a program that sorts numbers as text.
        ([*MARKERS, "<|s_0|>", "<|s_1|>", "<|s_10|>", "<|s_2|>"], "in another order (<|s_10|>)"),
    ],
)
def test_an_incompatible_tokenizer_is_found_before_the_weights_are_downloaded(
    hub: FakeHub, client: HubClient, repo_folder: Path, tokens: list[str], reason: str
) -> None:
    write_tokenizer(repo_folder, tokens)
    with pytest.raises(ModelError) as caught:
        fetch(client, plan_download(client, REPO))
    assert reason in caught.value.message
    assert big_files(hub) == []


@pytest.mark.parametrize("content", ["{", "[]", '{"added_tokens": 3, "model": {}}', "[" * 100_000])
def test_a_damaged_tokenizer_is_found_before_the_weights_are_downloaded(
    hub: FakeHub, client: HubClient, repo_folder: Path, content: str
) -> None:
    (repo_folder / "tokenizer.json").write_text(content)
    with pytest.raises(ModelError, match="can't be read"):
        fetch(client, plan_download(client, REPO))
    assert big_files(hub) == []


def test_tokens_may_be_in_the_vocabulary(hub: FakeHub, client: HubClient, repo_folder: Path) -> None:
    ids = {token: number for number, token in enumerate([*MARKERS, "<|s_0|>", "<|s_1|>"])}
    (repo_folder / "tokenizer.json").write_text(json.dumps({"added_tokens": [], "model": {"vocab": ids}}))
    fetch(client, plan_download(client, REPO))


def test_a_text_model_is_downloaded_with_text_model(hub: FakeHub, client: HubClient, repo_folder: Path) -> None:
    write_tokenizer(repo_folder, ["<|eot_id|>"])
    folder = fetch(client, plan_download(client, REPO), text_model=True)
    assert (folder / "model.safetensors").is_file()


@pytest.mark.parametrize(("model_type", "kind"), [("whisper", "recognizer"), ("wavlm", "speaker model")])
def test_a_recognizer_or_speaker_model_is_downloaded_with_all_its_files(
    hub: FakeHub, client: HubClient, tmp_path: Path, model_type: str, kind: str
) -> None:
    folder = tmp_path / "whisper"
    write_codec(folder)
    (folder / "config.json").write_text(json.dumps({"model_type": model_type}))
    parts = ("preprocessor_config.json", "vocab.json", "merges.txt", "normalizer.json", "tokenizer.json")
    for name in parts:
        (folder / name).write_text("{}")
    hub.repositories["openai/whisper-base"] = folder
    choice = plan_download(client, "openai/whisper-base").selection
    assert (choice.kind, choice.companion) == (kind, None)
    assert {*parts, "model.safetensors"} <= {file.name for file in choice.files}


@pytest.mark.parametrize(
    ("others", "is_taken"),
    [
        (("tokenizer.json", "vocabulary.txt"), True),
        (("tokenizer.json", "vocabulary.json", "preprocessor_config.json"), True),
        (("tokenizer.json",), False),
        (("tokenizer.json", "vocab.json", "pytorch_model.bin"), False),
    ],
)
def test_a_ctranslate2_whisper_is_a_recognizer_and_other_binaries_are_refused(
    hub: FakeHub, client: HubClient, tmp_path: Path, others: tuple[str, ...], is_taken: bool
) -> None:
    folder = tmp_path / "whisper"
    folder.mkdir()
    (folder / "config.json").write_text('{"alignment_heads": [[0, 1]]}')
    (folder / "model.bin").write_bytes(b"\x06\0\0\0\x0c\0WhisperSpec")
    for name in others:
        (folder / name).write_text("{}")
    hub.repositories["Systran/faster-whisper-base"] = folder
    if not is_taken:
        with pytest.raises(ModelError, match="only pickled weights"):
            plan_download(client, "Systran/faster-whisper-base")
        return
    choice = plan_download(client, "Systran/faster-whisper-base").selection
    assert (choice.kind, choice.companion) == ("recognizer", None)
    assert {file.name for file in choice.files} == {"config.json", "model.bin", *others}
    assert missing_from(folder) == []


# --- codecs and adapters ---


def test_a_model_needs_the_codec_that_it_names_or_the_published_one(
    hub: FakeHub, client: HubClient, repo_folder: Path
) -> None:
    assert plan_download(client, REPO).selection.companion == PUBLISHED_CODEC
    (repo_folder / "llasa.json").write_text(json.dumps({"codec": "other/codec"}))
    assert plan_download(client, REPO).selection.companion == "other/codec"
    (repo_folder / "llasa.json").write_text(json.dumps({"codec": "codec"}))
    write_codec(repo_folder / "codec")
    assert plan_download(client, REPO).selection.companion is None
    assert {"codec/config.json", "codec/model.safetensors"} <= set(names(client))


def test_a_published_finetune_needs_the_codec_of_the_catalog(hub: FakeHub, client: HubClient, tmp_path: Path) -> None:
    repo = CATALOG["3b-anime"].repo
    hub.repositories |= {repo: write_repo(tmp_path / "anime"), ANIME_CODEC: write_codec(tmp_path / "anime-codec")}
    assert plan_download(client, "anime").selection.companion == ANIME_CODEC
    assert plan_download(client, ANIME_CODEC).selection.kind == "codec"


def test_an_adapter_needs_the_model_it_was_trained_on(hub: FakeHub, client: HubClient, tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": REPO}))
    (folder / "adapter_model.safetensors").write_bytes(b"x" * 1000)
    hub.repositories["somebody/adapter"] = folder
    choice = plan_download(client, "somebody/adapter").selection
    assert (choice.kind, choice.companion) == ("adapter", REPO)
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    assert "no weights" in refusal(client, "somebody/adapter")
