"""The cache is shared: with the hub's own library, both ways, and between LLASA_CACHE and the hub's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from llasa_cli.checkpoint.resolve import find_model
from llasa_cli.errors import LlasaError
from llasa_cli.hub.cache_layout import CachedRepo
from llasa_cli.hub.download import cached_whole, check_room, damaged_files, fetch, plan, remove
from llasa_cli.hub.http import Wire
from tests.hub.conftest import REPO, forget, same_files
from tests.hub.fake_hub import FakeHub


@pytest.fixture(autouse=True)
def library(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The hub's library keeps what it knew of the endpoint, and its connections."""
    from huggingface_hub import close_session

    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    close_session()
    yield
    close_session()


def download(wire: Wire) -> Path:
    return fetch(wire, plan(wire, REPO), lambda count, fresh: None, lambda file: None, False)


def by_the_library(hub: FakeHub, cache: Path, **more: object) -> Path:
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(REPO, endpoint=hub.url, cache_dir=cache, **more))  # type: ignore[arg-type]


def bodies(hub: FakeHub) -> int:
    """Bytes of files that were sent."""
    return sum(r.sent for r in hub.requests if r.method == "GET" and "/api/models/" not in r.path)


def test_what_the_library_fetched_is_used_and_not_fetched_again(hub: FakeHub, wire: Wire, cache: Path) -> None:
    folder = by_the_library(hub, cache)
    hub.requests.clear()
    assert cached_whole(REPO) == find_model(REPO) == folder
    assert damaged_files(folder, lambda count, fresh: None)[0] == []
    assert hub.requests == []
    download(wire)
    assert bodies(hub) == 0


def test_what_the_library_left_undone_is_finished(hub: FakeHub, wire: Wire, cache: Path, repo_folder: Path) -> None:
    by_the_library(hub, cache, allow_patterns=["*.json"])
    assert cached_whole(REPO) is None
    hub.requests.clear()
    assert same_files(repo_folder, download(wire))
    assert not hub.asked("resolve-cache") or "README.md" in hub.asked("resolve-cache")[0].path


def test_the_library_uses_what_was_fetched_here(hub: FakeHub, wire: Wire, cache: Path) -> None:
    from huggingface_hub import scan_cache_dir

    folder = download(wire)
    hub.requests.clear()
    assert by_the_library(hub, cache) == folder
    assert bodies(hub) == 0
    assert by_the_library(hub, cache, local_files_only=True) == folder
    found = scan_cache_dir(cache)
    assert found.warnings == []
    assert [repo.repo_id for repo in found.repos] == [REPO]


def test_the_shared_cache_is_taken_from_and_not_fetched_twice(
    hub: FakeHub, wire: Wire, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repo_folder: Path
) -> None:
    shared = by_the_library(hub, cache)
    (shared / "README.md").resolve().unlink()  # else it would be used where it lies
    (shared / "tokenizer.json").resolve().write_text("damaged")
    monkeypatch.setenv("LLASA_CACHE", str(tmp_path / "own"))
    hub.requests.clear()
    folder = download(wire)
    assert folder.is_relative_to(tmp_path / "own")
    assert same_files(repo_folder, folder)
    fetched = {r.path.rpartition("/")[2] for r in hub.requests if r.method == "GET" and "resolve-cache" in r.path}
    assert fetched == {"README.md", "tokenizer.json"}
    assert hub.asked("model.safetensors", host="files") == []


def test_without_links_a_model_is_whole_all_the_same(
    hub: FakeHub, wire: Wire, cache: Path, monkeypatch: pytest.MonkeyPatch, repo_folder: Path
) -> None:
    """Disks that know no links, symbolic or hard: files are moved to where their names are."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    monkeypatch.setattr(os, "link", refuse)
    folder = download(wire)
    assert same_files(repo_folder, folder)
    assert not any(path.is_symlink() for path in folder.rglob("*"))
    assert cached_whole(REPO) == folder
    assert damaged_files(folder, lambda count, fresh: None)[0] == []
    before = bodies(hub)
    download(wire)
    assert bodies(hub) - before < 1000, "the configuration was read, and nothing fetched"
    remove(REPO)
    assert not CachedRepo(cache, REPO).root.exists()


def test_a_broken_copy_does_not_hide_the_whole_one(
    hub: FakeHub, wire: Wire, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = download(wire)
    monkeypatch.setenv("LLASA_CACHE", str(tmp_path / "own"))
    broken = download(wire)
    assert broken != whole
    forget(broken.parents[1] / ".llasa")
    (broken / "config.json").unlink()
    (broken / "config.json").write_text("{")
    assert find_model(REPO) == cached_whole(REPO) == whole


def test_what_another_disk_holds_is_not_fetched_and_needs_room(
    hub: FakeHub, wire: Wire, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    download(wire)
    monkeypatch.setenv("LLASA_CACHE", str(tmp_path / "own"))
    assert plan(wire, REPO).copied == 0
    (tmp_path / "own").mkdir(exist_ok=True)
    monkeypatch.setattr("llasa_cli.hub.download._disk_of", lambda path: "own" in path.parts)
    wanted = plan(wire, REPO)
    assert (wanted.missing, wanted.copied) == (0, wanted.size)
    monkeypatch.setattr("shutil.disk_usage", lambda path: type("Usage", (), {"free": wanted.size // 2}))
    with pytest.raises(LlasaError, match="fetched or copied"):
        check_room([wanted])


def test_a_disk_that_fills_while_it_is_copied_to_is_a_sentence(
    hub: FakeHub, wire: Wire, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    download(wire)
    monkeypatch.setenv("LLASA_CACHE", str(tmp_path / "own"))

    def full(source: Path, target: Path) -> None:
        Path(target).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    def no_link(*paths: object) -> None:
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.link", no_link)
    monkeypatch.setattr("shutil.copyfile", full)
    with pytest.raises(LlasaError, match="is full"):
        download(wire)
    assert not list((tmp_path / "own").rglob("*.incomplete"))
