"""Models are found where they are, without a network, and named when they are not."""

from __future__ import annotations

import json
import shutil
import socket
from pathlib import Path

import pytest

from llasa_cli.checkpoint.resolve import codec_of, find_adapter, find_codec, find_model, revision_of
from llasa_cli.errors import ModelError
from llasa_cli.hub.catalog import ALIASES, ANIME_CODEC, CATALOGUE, PUBLISHED_CODEC, repo_of
from llasa_cli.wording import format_size


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a network call")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("LLASA_CACHE", raising=False)


def cached(cache: Path, repo: str, source: Path) -> Path:
    """What the hub library leaves behind after a download."""
    root = cache / f"models--{repo.replace('/', '--')}"
    snapshot = root / "snapshots" / "0123456789abcdef0123456789abcdef01234567"
    shutil.copytree(source, snapshot)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(snapshot.name)
    return snapshot


def test_a_folder_is_itself(random_checkpoint: Path) -> None:
    assert find_model(str(random_checkpoint)) == random_checkpoint


def test_a_cached_model_is_found_by_each_of_its_names(tmp_path: Path, random_checkpoint: Path) -> None:
    snapshot = cached(tmp_path / "cache", "HKUSTAudio/Llasa-1B", random_checkpoint)
    for name in ("1b", "1B", "HKUSTAudio/Llasa-1B", f"HKUSTAudio/Llasa-1B@{snapshot.name}"):
        assert find_model(name) == snapshot


def test_a_model_that_is_only_partly_here_is_not_spoken_with(tmp_path: Path, random_checkpoint: Path) -> None:
    snapshot = cached(tmp_path / "cache", "HKUSTAudio/Llasa-1B", random_checkpoint)
    for name in ("tokenizer.json", "model.safetensors", "config.json"):
        (snapshot / name).unlink()
        with pytest.raises(ModelError, match="only partly on this machine") as caught:
            find_model("1b")
        assert caught.value.hint == "Fetch the rest with: llasa download 1b"
        assert caught.value.exit_code == 3


def test_shards_are_all_needed_and_lie_in_the_folder(tmp_path: Path, random_checkpoint: Path) -> None:
    snapshot = cached(tmp_path / "cache", "a/b", random_checkpoint)
    index = snapshot / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model.safetensors", "b": "model-2.safetensors"}}))
    with pytest.raises(ModelError, match=r"model-2\.safetensors is missing"):
        find_model("a/b")
    (snapshot / "model-2.safetensors").touch()
    assert find_model("a/b") == snapshot
    index.write_text(json.dumps({"weight_map": {"a": "../../../../../secret.safetensors"}}))
    with pytest.raises(ModelError, match="no file of this checkpoint"):
        find_model("a/b")


@pytest.mark.parametrize("revision", ["../../..", "/", "main/../../snapshots", "nothing", "a:b", "\n"])
def test_a_revision_is_no_way_out_of_the_cache(tmp_path: Path, random_checkpoint: Path, revision: str) -> None:
    cached(tmp_path / "cache", "a/b", random_checkpoint)
    with pytest.raises(ModelError, match="not on this machine"):
        find_model(f"a/b@{revision}")


def test_llasa_cache_comes_before_the_hubs(
    tmp_path: Path, random_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = cached(tmp_path / "cache", "a/b", random_checkpoint)
    monkeypatch.setenv("LLASA_CACHE", str(tmp_path / "own"))
    assert find_model("a/b") == shared
    own = cached(tmp_path / "own", "a/b", random_checkpoint)
    assert find_model("a/b") == own
    (own / "model.safetensors").unlink()
    assert find_model("a/b") == shared, "a whole one is better than a part"


def test_a_published_model_with_a_codec_of_its_own_gets_that(
    tmp_path: Path, random_checkpoint: Path, random_codec: Path
) -> None:
    model = cached(tmp_path / "cache", "NandemoGHS/Anime-Llasa-3B", random_checkpoint)
    codec = cached(tmp_path / "cache", ANIME_CODEC, random_codec)
    assert find_codec(model, None) == codec
    assert codec_of(random_checkpoint) == PUBLISHED_CODEC


def test_an_adapter_is_found_in_the_cache(tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    assert find_adapter(str(adapter)) == adapter
    snapshot = cached(tmp_path / "cache", "a/b", adapter)
    assert find_adapter("a/b") == snapshot
    with pytest.raises(ModelError, match="no adapter"):
        find_adapter("a/c")


@pytest.mark.parametrize("name", ["1b", "xcodec2", "some/repo"])
def test_a_model_that_is_not_here_names_the_command_that_fetches_it(name: str) -> None:
    with pytest.raises(ModelError) as caught:
        find_model(name)
    assert caught.value.hint == f"Fetch it with: llasa download {name}"
    assert caught.value.exit_code == 3


@pytest.mark.parametrize(
    "name", ["nonsense", "./absent/folder", "/absent/folder", "a/b/c", "a b/c d", "a/..", "a/b--c"]
)
def test_what_is_no_model_is_no_download(name: str) -> None:
    with pytest.raises(ModelError, match="no folder"):
        find_model(name)


def test_the_codec_is_the_named_one_or_the_published_one(random_checkpoint: Path, random_codec: Path) -> None:
    assert find_codec(random_checkpoint, "codec") == random_checkpoint / "codec"
    assert find_codec(random_checkpoint, str(random_codec)) == random_codec
    with pytest.raises(ModelError, match="HKUSTAudio/xcodec2-hf"):
        find_codec(random_checkpoint, None)


def test_a_folder_of_something_else_is_not_said_to_lack_a_codec(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json in"):
        find_codec(tmp_path, None)


def test_a_revision_is_the_commit_or_follows_the_weights(tmp_path: Path, random_checkpoint: Path) -> None:
    snapshot = cached(tmp_path / "cache", "a/b", random_checkpoint)
    assert revision_of(snapshot) == snapshot.name
    shutil.copytree(random_checkpoint, tmp_path / "mine")
    assert revision_of(tmp_path / "mine") == revision_of(random_checkpoint)
    with (tmp_path / "mine" / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\1")
    assert revision_of(tmp_path / "mine") != revision_of(random_checkpoint)


def test_names_become_repositories() -> None:
    assert repo_of("8b") == ("HKUSTAudio/Llasa-8B", None)
    assert repo_of("1b@main") == ("HKUSTAudio/Llasa-1B", "main")
    assert repo_of("a/b@c") == ("a/b", "c")
    assert repo_of("./a") is None
    assert format_size(2_740_000_000) == "2.74 GB"


def test_the_catalogue_holds_together() -> None:
    repos = [entry.repo for entry in CATALOGUE.values()]
    assert len(set(repos)) == len(repos)
    assert set(ALIASES.values()) <= set(CATALOGUE)
    assert not set(ALIASES) & set(CATALOGUE)
    for name, entry in CATALOGUE.items():
        assert repo_of(name) == (entry.repo, None), "a name the hub could have"
        assert entry.codec is None or entry.codec in repos, "its codec is listed too"
        assert entry.size or any("size" in doubt for doubt in entry.unverified), "what is not known is said"
