"""Where models lie: the hub's own cache, shared with every other program, and LLASA_CACHE where it is set.

The layout is the hub library's, so that it finds what is fetched here, and the reverse:

    models--organisation--repository/blobs/<sum>             the files, by SHA-256 (LFS) or by git's SHA-1
                                    /blobs/<sum>.llasa.incomplete   one that is being fetched
                                    /snapshots/<commit>/<name>      links to them
                                    /refs/<revision>                its commit; written when all files are there
                                    /.llasa/<commit>.json           which files, sizes and sums that are
    .locks/models--organisation--repository/<sum>.lock        held while a file is fetched
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llasa_cli.errors import ModelError
from llasa_cli.files import read_json_object, write_text

PART_SUFFIX = ".llasa.incomplete"
_SHA256, _SHA1 = 64, 40


@dataclass(frozen=True)
class RemoteFile:
    """One file of a repository.

    Attributes:
        name: Below the repository, with slashes.
        size: Bytes.
        etag: 64 hexadecimal digits: SHA-256; 40: git's SHA-1 of a blob.
    """

    name: str
    size: int
    etag: str


@dataclass(frozen=True)
class CachedRepo:
    """A repository in a cache; it need not exist."""

    cache: Path
    repo: str

    @property
    def root(self) -> Path:
        return self.cache / f"models--{self.repo.replace('/', '--')}"

    @property
    def blobs(self) -> Path:
        return self.root / "blobs"

    @property
    def locks(self) -> Path:
        return self.cache / ".locks" / self.root.name

    def snapshot(self, commit: str) -> Path:
        return self.root / "snapshots" / commit

    def manifest(self, commit: str) -> Path:
        return self.root / ".llasa" / f"{commit}.json"

    def ref(self, revision: str) -> Path:
        return self.root / "refs" / revision

    def commit_of(self, revision: str | None) -> str | None:
        """The commit that a branch, a tag or a commit means here; None if it isn't known."""
        wanted = revision or "main"
        if not is_safe_name(wanted):
            return None
        try:
            commit = self.ref(wanted).read_text(encoding="utf-8").strip()
        except (OSError, ValueError):
            commit = wanted
        return commit if is_commit(commit) and is_folder(self.snapshot(commit)) else None


def write_cache() -> Path:
    """Where downloads go: LLASA_CACHE, else the hub's (HF_HUB_CACHE, HF_HOME)."""
    return caches()[0]


def caches() -> list[Path]:
    """Where models are looked for, in order."""
    from huggingface_hub import constants

    shared = Path(constants.HF_HUB_CACHE)
    own = os.environ.get("LLASA_CACHE")
    return [Path(own).expanduser(), shared] if own else [shared]


def stored(repo: str) -> Iterator[CachedRepo]:
    """The repository in each cache that has it."""
    for cache in caches():
        found = CachedRepo(cache, repo)
        if is_folder(found.root):
            yield found


def find_snapshot(repo: str, revision: str | None) -> Path | None:
    """The folder of a revision, whole or not; of several caches' the first that is whole."""
    found = []
    for place in stored(repo):
        commit = place.commit_of(revision)
        if commit is not None:
            found.append(place.snapshot(commit))
    if len(found) < 2:
        return found[0] if found else None
    return next((folder for folder in found if is_whole(folder)), found[0])


def is_folder(path: Path) -> bool:
    """Whether a folder is there; a name that no file can have is none.

    Raises:
        ModelError: Its own folder can't be looked into.
    """
    try:
        return path.is_dir()
    except PermissionError as error:
        raise ModelError(
            f"{path} can't be read: {error.strerror}.",
            "For models of your own set LLASA_CACHE or HF_HUB_CACHE to a folder.",
        ) from error
    except (OSError, ValueError):
        return False


def is_whole(folder: Path) -> bool:
    """Whether a snapshot has all its files, as far as can be read."""
    try:
        return not missing_from(folder)
    except ModelError:
        return False


def repo_of_folder(folder: Path) -> str | None:
    """The repository that a snapshot's folder is of; None for any other folder."""
    if folder.parent.name != "snapshots" or not folder.parents[1].name.startswith("models--"):
        return None
    return folder.parents[1].name.removeprefix("models--").replace("--", "/", 1)


def is_commit(text: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{40}", text) is not None


def is_etag(text: str) -> bool:
    """A sum that a file can be checked by."""
    return re.fullmatch(rf"[0-9a-f]{{{_SHA1}}}|[0-9a-f]{{{_SHA256}}}", text) is not None


def is_safe_name(name: str) -> bool:
    """A relative path that stays in its folder, on any system."""
    parts = name.split("/")
    return (
        0 < len(name) < 1000
        and all(part not in ("", ".", "..") and len(part.encode()) < 200 for part in parts)
        and not any(character in name for character in '\\:*?"<>|')
        and name.isprintable()
    )


# --- is it whole? ---


def write_manifest(place: CachedRepo, commit: str, files: tuple[RemoteFile, ...]) -> None:
    """Remember what a snapshot is made of: offline, nothing else tells a whole one from a part."""
    listing = {"format": 1, "repo": place.repo, "files": [asdict(file) for file in files]}
    path = place.manifest(commit)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(listing, indent=1) + "\n")


def read_manifest(folder: Path) -> tuple[RemoteFile, ...] | None:
    """What a snapshot should hold; None where another program fetched it."""
    path = folder.parents[1] / ".llasa" / f"{folder.name}.json"
    if not path.is_file():
        return None
    try:
        files = tuple(
            RemoteFile(str(f["name"]), int(f["size"]), str(f["etag"])) for f in read_json_object(path)["files"]
        )
    except (ModelError, KeyError, TypeError, ValueError):
        return None  # as if it had never been written: the files themselves are looked at then
    return files if all(is_safe_name(file.name) and is_etag(file.etag) for file in files) else None


def missing_from(folder: Path) -> list[str]:
    """Names of a snapshot's files that are not there, or not all of them; empty if it is whole."""
    files = read_manifest(folder)
    if files is not None:
        return [file.name for file in files if size_of(folder / file.name) != file.size]
    return _missing_by_kind(folder)


def _missing_by_kind(folder: Path) -> list[str]:
    """For a snapshot that another program fetched: what any model is made of."""
    if (folder / "adapter_config.json").is_file():
        return [] if (folder / "adapter_model.safetensors").is_file() else ["adapter_model.safetensors"]
    if not (folder / "config.json").is_file():
        return ["config.json"]
    missing = []
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        missing += [name for name in sorted(shards_of(read_json_object(index))) if not (folder / name).is_file()]
    elif not any(folder.glob("*.safetensors")):
        missing.append("model.safetensors")
    if read_json_object(folder / "config.json").get("model_type") in LANGUAGE_MODELS:
        missing += [name for name in ("tokenizer.json",) if not (folder / name).is_file()]
    return missing


LANGUAGE_MODELS = ("llama", "llasa")


def shards_of(index: dict[str, Any]) -> set[str]:
    """The files that an index of shards names.

    Raises:
        ModelError: It names none, or one that can't be a file of the folder.
    """
    weights = index.get("weight_map")
    if not isinstance(weights, dict) or not weights:
        raise ModelError("model.safetensors.index.json names no files.", "The checkpoint is broken.")
    names = set(weights.values())
    for name in names:
        if not isinstance(name, str) or not is_safe_name(name) or not name.endswith(".safetensors"):
            raise ModelError(
                f"model.safetensors.index.json names {str(name)[:80]!r}, which is no file of this checkpoint.",
                "Don't use it: a name like that can only be meant to do harm.",
            )
    return names


def size_of(path: Path) -> int:
    """Bytes; -1 where there is nothing."""
    try:
        return path.stat().st_size
    except OSError:
        return -1
