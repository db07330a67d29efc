"""The cache is shared with the hub's library in both directions, and a complete model is used from LLASA_CACHE or from there."""

from __future__ import annotations

from pathlib import Path

import pytest

from llasa_cli.checkpoint.resolve import find_model
from llasa_cli.hub.cache_layout import CachedRepo
from llasa_cli.hub.download import complete_folder, fetch, find_damaged, plan_download, remove
from llasa_cli.hub.http import HubClient
from tests.hub.conftest import REPO, forget, same_files
from tests.hub.fake_hub import FakeHub


@pytest.fixture(autouse=True)
def library(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Point the hub's library, which remembers its endpoint, to this hub."""
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)


def download(client: HubClient) -> Path:
    return fetch(client, plan_download(client, REPO))


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
    assert bodies(hub) < 100, "only the configuration is read again"


def test_a_partial_download_of_the_library_is_completed(
    hub: FakeHub, client: HubClient, cache: Path, repo_folder: Path
) -> None:
    by_the_library(hub, cache, allow_patterns=["*.json"])
    assert complete_folder(REPO) is None
    hub.requests.clear()
    assert same_files(repo_folder, download(client))
    assert {r.path.rpartition("/")[2] for r in hub.asked("resolve-cache")} == {"config.json", "README.md"}


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


def test_a_disk_without_links_holds_a_complete_model(
    hub: FakeHub, client: HubClient, cache: Path, monkeypatch: pytest.MonkeyPatch, repo_folder: Path
) -> None:
    """Without symbolic links, files are moved to their names in the snapshot."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(Path, "symlink_to", refuse)
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
