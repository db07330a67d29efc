"""What is known and what is here: the catalogue beside the caches. Touches no network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from llasa_cli.checkpoint.resolve import BUILT_IN_FOLDER
from llasa_cli.errors import ModelError
from llasa_cli.files import read_json_object_if_exists
from llasa_cli.hub.cache_layout import LANGUAGE_MODELS, PART_SUFFIX, CachedRepo, caches, find_snapshot, is_whole, stored
from llasa_cli.hub.catalog import CATALOGUE, Entry
from llasa_cli.settings import BUILT_IN_MODEL


@dataclass(frozen=True)
class ModelStatus:
    """One model, known or here or both.

    Attributes:
        name: What to type.
        entry: What the catalogue knows; None for others.
        folder: Its files, if it is here; also if not all of them are.
        is_whole: It can be used.
        here: Bytes of it that are here, other revisions and cut off downloads included.
    """

    name: str
    repo: str
    entry: Entry | None
    folder: Path | None
    is_whole: bool
    here: int


def books() -> Iterator[ModelStatus]:
    """The catalogue, then what else the caches hold of this kind."""
    for name, entry in CATALOGUE.items():
        yield _book(name, entry.repo, entry)
    known = {entry.repo.lower() for entry in CATALOGUE.values()}
    for repo in _repositories():
        if repo.lower() not in known:
            book = _book(repo, repo, None)
            if _is_ours(book.folder) if book.folder is not None else is_cut_off(repo):
                yield book


def built_in() -> ModelStatus:
    """The voice that is part of the program."""
    size = sum(path.stat().st_size for path in BUILT_IN_FOLDER.rglob("*") if path.is_file())
    return ModelStatus(BUILT_IN_MODEL, "part of this program", None, BUILT_IN_FOLDER, True, size)


def _book(name: str, repo: str, entry: Entry | None) -> ModelStatus:
    folder = find_snapshot(repo, None) or _any_snapshot(repo)
    whole = folder is not None and is_whole(folder)
    return ModelStatus(name, repo, entry, folder, whole, sum(_bytes_of(place) for place in stored(repo)))


def _any_snapshot(repo: str) -> Path | None:
    """One that was asked for by its commit, or by another branch."""
    found = [folder for place in stored(repo) for folder in sorted(place.root.glob("snapshots/*")) if folder.is_dir()]
    return found[0] if found else None


def _is_ours(folder: Path) -> bool:
    """Fetched by this program, or a model that it may speak with."""
    if (folder.parents[1] / ".llasa" / f"{folder.name}.json").is_file():
        return True
    try:
        kind = read_json_object_if_exists(folder / "config.json").get("model_type")
    except ModelError:
        return False
    return kind == "xcodec2" or (kind in LANGUAGE_MODELS and "llasa" in str(folder.parents[1].name).lower())


def _repositories() -> list[str]:
    found = set()
    for cache in caches():
        for path in cache.glob("models--*--*"):
            found.add(path.name.removeprefix("models--").replace("--", "/", 1))
    return sorted(found)


def _bytes_of(place: CachedRepo) -> int:
    blobs = [path for path in place.blobs.glob("*") if path.is_file() and not path.is_symlink()]
    return sum(path.stat().st_size for path in blobs)


def is_cut_off(repo: str) -> bool:
    """A download of it was stopped."""
    return any(True for place in stored(repo) for _ in place.blobs.glob(f"*{PART_SUFFIX}"))
