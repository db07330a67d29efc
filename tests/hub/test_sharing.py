"""The cache is shared with the hub's library in both directions, and LLASA_CACHE takes from the hub's cache."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from llasa_cli.checkpoint.resolve import find_model
from llasa_cli.errors import LlasaError
from llasa_cli.hub.cache_layout import CachedRepo
from llasa_cli.hub.download import check_free_space, complete_folder, fetch, find_damaged, plan_download, remove
from llasa_cli.hub.http import HubClient
from tests.hub.conftest import REPO, forget, same_files
from tests.hub.fake_hub import FakeHub


@pytest.fixture(autouse=True)
def library(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Point the hub's library, which remembers its endpoint and connections, to this hub."""
    from huggingface_hub import close_session

    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    close_session()
    yield
    close_session()


def download(client: HubClient) -> Path:
    return fetch(client, plan_download(client, REPO), lambda count, fresh: None, lambda file: None, False)


def by_the_library(hub: FakeHub, cache: Path, **more: object) -> Path:
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(REPO, endpoint=hub.url, cache_dir=cache, **more))  # type: ignore[arg-type]


def bodies(hub: FakeHub) -> int:
    """Bytes of files that the hub has sent."""
    return sum(r.sent for r in hub.requests if r.method == "GET" and "/api/models/" not in r.path)


def test_a_download_of_the_library_is_used(hub: FakeHub, client: HubClient, cache: Path) -> None:
    folder = by_the_library(hub, cache)
    hub.requests.clear()
    assert complete_folder(REPO) == find_model(REPO) == folder
    assert find_damaged(folder, lambda count, fresh: None)[0] == []
    assert hub.requests == []
    download(client)
    assert bodies(hub) == 0


def test_a_partial_download_of_the_library_is_completed(
    hub: FakeHub, client: HubClient, cache: Path, repo_folder: Path
) -> None:
    by_the_library(hub, cache, allow_patterns=["*.json"])
    assert complete_folder(REPO) is None
    hub.requests.clear()
    assert same_files(repo_folder, download(client))
    assert not hub.asked("resolve-cache") or "README.md" in hub.asked("resolve-cache")[0].path


def test_the_library_uses_our_download(hub: FakeHub, client: HubClient, cache: Path) -> None:
    from huggingface_hub import scan_cache_dir

    folder = download(client)
    hub.requests.clear()
    assert by_the_library(hub, cache) == folder
    assert bodies(hub) == 0
    assert by_the_library(hub, cache, local_files_only=True) == folder
    found = scan_cache_dir(cache)
    assert found.warnings == []
    assert [repo.repo_id for repo in found.repos] == [REPO]


def test_files_are_taken_from_the_shared_cache_if_they_are_intact(
    hub: FakeHub, client: HubClient, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repo_folder: Path
) -> None:
    shared = by_the_library(hub, cache)
    (shared / "README.md").resolve().unlink()  # otherwise the model would be used from there
    (shared / "tokenizer.json").resolve().write_text("damaged")
    monkeypatch.setenv("LLASA_CACHE", str(tmp_path / "own"))
    hub.requests.clear()
    folder = download(client)
    assert folder.is_relative_to(tmp_path / "own")
    assert same_files(repo_folder, folder)
    fetched = {r.path.rpartition("/")[2] for r in hub.requests if r.method == "GET" and "resolve-cache" in r.path}
    assert fetched == {"README.md", "tokenizer.json"}
    assert hub.asked("model.safetensors", host="files") == []


def test_a_disk_without_links_holds_a_complete_model(
    hub: FakeHub, client: HubClient, cache: Path, monkeypatch: pytest.MonkeyPatch, repo_folder: Path
) -> None:
    """Without symbolic and hard links, files are moved to their names in the snapshot."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    monkeypatch.setattr(os, "link", refuse)
    folder = download(client)
    assert same_files(repo_folder, folder)
    assert not any(path.is_symlink() for path in folder.rglob("*"))
    assert complete_folder(REPO) == folder
    assert find_damaged(folder, lambda count, fresh: None)[0] == []
    before = bodies(hub)
    download(client)
    assert bodies(hub) - before < 1000, "the configuration was read, nothing was downloaded"
    remove(REPO)
    assert not CachedRepo(cache, REPO).root.exists()


def test_a_damaged_copy_does_not_hide_the_complete_one(
    hub: FakeHub, client: HubClient, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = download(client)
    monkeypatch.setenv("LLASA_CACHE", str(tmp_path / "own"))
    broken = download(client)
    assert broken != whole
    forget(broken.parents[1] / ".llasa")
    (broken / "config.json").unlink()
    (broken / "config.json").write_text("{")
    assert find_model(REPO) == complete_folder(REPO) == whole


def test_files_on_another_disk_are_copied_and_need_room(
    hub: FakeHub, client: HubClient, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    download(client)
    monkeypatch.setenv("LLASA_CACHE", str(tmp_path / "own"))
    assert plan_download(client, REPO).copied == 0
    (tmp_path / "own").mkdir(exist_ok=True)
    monkeypatch.setattr("llasa_cli.hub.download._disk_of", lambda path: "own" in path.parts)
    wanted = plan_download(client, REPO)
    assert (wanted.missing, wanted.copied) == (0, wanted.size)
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": wanted.size // 2}))
    with pytest.raises(LlasaError, match="The download needs"):
        check_free_space([wanted])


def test_a_disk_that_fills_during_a_copy_is_reported(
    hub: FakeHub, client: HubClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    download(client)
    monkeypatch.setenv("LLASA_CACHE", str(tmp_path / "own"))

    def full(source: Path, target: Path) -> None:
        Path(target).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    def no_link(*paths: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.link", no_link)
    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(LlasaError, match="is full"):
        download(client)
    assert not list((tmp_path / "own").rglob("*.incomplete"))
