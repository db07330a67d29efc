"""Models are found where they are, without a network, and named when they are not."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

import pytest

from llasa_cli.errors import ModelError
from llasa_cli.hub.cache import find_codec, find_model, revision_of
from llasa_cli.hub.catalogue import repo_of, size_text


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a network call")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))


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


def test_a_cached_model_is_found_by_each_of_its_names(
    tmp_path: Path, random_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub.file_download

    monkeypatch.setattr(huggingface_hub.file_download.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    snapshot = cached(tmp_path / "cache", "HKUSTAudio/Llasa-1B", random_checkpoint)
    for name in ("1b", "1B", "HKUSTAudio/Llasa-1B", f"HKUSTAudio/Llasa-1B@{snapshot.name}"):
        assert find_model(name) == snapshot


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
    assert size_text(2_740_000_000) == "2.74 GB"
