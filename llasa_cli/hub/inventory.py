"""The status of every known model: the catalog, and what the caches hold. Does not use the network."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from llasa_cli.checkpoint.resolve import BUILT_IN_FOLDER
from llasa_cli.errors import ModelError
from llasa_cli.files import read_json_object_if_exists
from llasa_cli.hub.cache_layout import (
    LANGUAGE_MODELS,
    PART_SUFFIX,
    cached_repos,
    caches,
    find_snapshot,
    is_complete,
    manifest_of,
)
from llasa_cli.hub.catalog import CATALOG, CatalogEntry
from llasa_cli.settings import BUILT_IN_MODEL


@dataclass(frozen=True)
class ModelStatus:
    """One model that is in the catalog, or in a cache, or both.

    Attributes:
        name: The name to type.
        entry: Its catalog entry; None for others.
        folder: Its folder if it is on this machine, even if files are missing.
        is_complete: Whether it can be used.
        is_partial: Whether some of it is on this machine, but not all.
        bytes_here: Its bytes on this machine, other revisions and interrupted downloads included.
    """

    name: str
    repo: str
    entry: CatalogEntry | None
    folder: Path | None
    is_complete: bool
    is_partial: bool
    bytes_here: int


def list_models() -> Iterator[ModelStatus]:
    """The catalog, then the other models of this kind in the caches."""
    for name, entry in CATALOG.items():
        yield _status(name, entry.repo, entry)
    known = {entry.repo.lower() for entry in CATALOG.values()}
    found = {path.name.removeprefix("models--") for cache in caches() for path in cache.glob("models--*--*")}
    for repo in sorted(name.replace("--", "/", 1) for name in found):
        if repo.lower() not in known:
            status = _status(repo, repo, None)
            if _is_llasa(status.folder) if status.folder is not None else status.is_partial:
                yield status


def built_in_status() -> ModelStatus:
    """The voice that is part of the program."""
    size = sum(path.stat().st_size for path in BUILT_IN_FOLDER.rglob("*") if path.is_file())
    return ModelStatus(BUILT_IN_MODEL, "part of this program", None, BUILT_IN_FOLDER, True, False, size)


def _status(name: str, repo: str, entry: CatalogEntry | None) -> ModelStatus:
    folder = find_snapshot(repo, None) or _any_snapshot(repo)
    blobs = [path for place in cached_repos(repo) for path in place.blobs.glob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in blobs if not path.is_symlink())
    is_whole = folder is not None and is_complete(folder)
    has_some = folder is not None or any(path.name.endswith(PART_SUFFIX) for path in blobs)
    return ModelStatus(name, repo, entry, folder, is_whole, has_some and not is_whole, size)


def _any_snapshot(repo: str) -> Path | None:
    """A snapshot that was downloaded by its commit or from another branch than main."""
    found = (folder for place in cached_repos(repo) for folder in sorted(place.root.glob("snapshots/*")))
    return next((folder for folder in found if folder.is_dir()), None)


def _is_llasa(folder: Path) -> bool:
    """Whether this program downloaded a snapshot, or may be able to use it."""
    if manifest_of(folder).is_file():
        return True
    try:
        kind = read_json_object_if_exists(folder / "config.json").get("model_type")
    except ModelError:
        return False
    is_named = re.search("llasa|neutts", folder.parents[1].name.lower()) is not None
    return kind in ("xcodec2", "neucodec") or (kind in LANGUAGE_MODELS and is_named)
