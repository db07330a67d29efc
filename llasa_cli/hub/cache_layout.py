"""The folders in which models are stored: the hub's cache, which other programs share, and LLASA_CACHE if it is set.

The layout is that of `huggingface_hub`, so each program finds what the other downloaded:

    models--organization--repository/blobs/<checksum>          the files, named by SHA-256 (LFS) or git's SHA-1
                                    /blobs/<checksum>.llasa.incomplete    a file that is being downloaded
                                    /snapshots/<commit>/<name>   links to the blobs
                                    /refs/<revision>             the revision's commit; written when all files are there
                                    /.llasa/<commit>.json        the manifest: names, sizes and checksums
    .locks/models--organization--repository/<checksum>.lock   held while a file is being downloaded
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Container, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llasa_cli.errors import ModelError
from llasa_cli.files import read_json_object, write_text
from llasa_cli.settings import ARCHITECTURES

PART_SUFFIX = ".llasa.incomplete"
LANGUAGE_MODELS = (*ARCHITECTURES, "llasa")
"""`model_type` in config.json."""
CTRANSLATE2_WEIGHTS = "model.bin"
"""The weights of a Whisper in CTranslate2's format."""
WEIGHTS_INDEX = "model.safetensors.index.json"


@dataclass(frozen=True)
class RemoteFile:
    """One file of a repository.

    Attributes:
        name: Its path in the repository, with slashes.
        size: Bytes.
        etag: The checksum in hexadecimal digits: 64 of SHA-256, or 40 of git's SHA-1 of a blob.
    """

    name: str
    size: int
    etag: str

    def new_digest(self) -> hashlib._Hash:
        """An empty digest of the kind of `etag`. Small files have only git's, which begins with a header."""
        if len(self.etag) == 64:
            return hashlib.sha256()
        return hashlib.sha1(f"blob {self.size}\0".encode(), usedforsecurity=False)


@dataclass(frozen=True)
class CachedRepo:
    """A repository's place in a cache. It need not exist."""

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

    def ref(self, revision: str) -> Path:
        return self.root / "refs" / revision

    def part(self, file: RemoteFile) -> Path:
        """The path of a file while it is being downloaded."""
        return self.blobs / f"{file.etag}{PART_SUFFIX}"

    def find(self, commit: str, file: RemoteFile) -> Path | None:
        """The complete file: the blob or, on a disk without links, the file under its name. None if it is not there."""
        paths = (self.blobs / file.etag, self.snapshot(commit) / file.name)
        return next((path for path in paths if size_of(path) == file.size), None)

    def commit_of(self, revision: str | None) -> str | None:
        """The commit of a branch, a tag or a commit in this cache; None if it is not there."""
        name = revision or "main"
        if not is_safe_name(name):
            return None
        try:
            commit = self.ref(name).read_text(encoding="utf-8").strip()
        except (OSError, ValueError):
            commit = name
        return commit if is_commit(commit) and is_folder(self.snapshot(commit)) else None


def download_cache() -> Path:
    """The cache for downloads: LLASA_CACHE, else the hub's (HF_HUB_CACHE, HF_HOME)."""
    return caches()[0]


def caches() -> list[Path]:
    """The caches in which models are searched, in order."""
    from huggingface_hub import constants

    shared = Path(constants.HF_HUB_CACHE)
    own = os.environ.get("LLASA_CACHE")
    return [Path(own).expanduser(), shared] if own else [shared]


def cached_repos(repo: str) -> Iterator[CachedRepo]:
    """The repository in each cache that has it."""
    places = (CachedRepo(cache, repo) for cache in caches())
    return (place for place in places if is_folder(place.root))


def find_snapshot(repo: str, revision: str | None) -> Path | None:
    """The folder of a revision, complete or not. If several caches have it, the first complete one."""
    found = [place.snapshot(commit) for place in cached_repos(repo) if (commit := place.commit_of(revision))]
    return next(filter(is_complete, found), found[0] if found else None)


def repo_of_folder(folder: Path) -> str | None:
    """The repository of a snapshot's folder; None for any other folder."""
    if folder.parent.name != "snapshots" or not folder.parents[1].name.startswith("models--"):
        return None
    return folder.parents[1].name.removeprefix("models--").replace("--", "/", 1)


# --- names and paths ---


def is_folder(path: Path) -> bool:
    """Whether there is a folder. False for a name that no file can have.

    Raises:
        ModelError: The folder above can't be read.
    """
    try:
        return path.is_dir()
    except PermissionError as error:
        raise ModelError(
            f"{path} can't be read: {error.strerror}.",
            "Set LLASA_CACHE or HF_HUB_CACHE to a folder that you may read.",
        ) from error
    except (OSError, ValueError):
        return False


def size_of(path: Path) -> int:
    """The size in bytes; -1 if there is no file."""
    try:
        return path.stat().st_size
    except OSError:
        return -1


def is_commit(text: str) -> bool:
    return re.fullmatch(r"[0-9a-f]{40}", text) is not None


def is_etag(text: str) -> bool:
    """Whether a text is a checksum: of SHA-1 or SHA-256."""
    return re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", text) is not None


def is_safe_name(name: str) -> bool:
    """Whether a relative path stays in its folder on every operating system."""
    parts = name.split("/")
    return (
        0 < len(name) < 1000
        and all(part not in ("", ".", "..") and len(part.encode()) < 200 for part in parts)
        and not any(character in name for character in '\\:*?"<>|')
        and name.isprintable()
    )


# --- is a snapshot complete? ---


def manifest_of(folder: Path) -> Path:
    """The path of a snapshot's manifest."""
    return folder.parents[1] / ".llasa" / f"{folder.name}.json"


def write_manifest(folder: Path, files: Iterable[RemoteFile]) -> None:
    """Record a snapshot's files: without the network, only this tells a complete snapshot from a part of one."""
    listing = {"format": 1, "repo": repo_of_folder(folder), "files": [asdict(file) for file in files]}
    path = manifest_of(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(listing, indent=1) + "\n")


def read_manifest(folder: Path) -> tuple[RemoteFile, ...] | None:
    """The files that a snapshot should have; None if another program downloaded it, or the manifest is damaged."""
    try:
        files = tuple(
            RemoteFile(str(row["name"]), int(row["size"]), str(row["etag"]))
            for row in read_json_object(manifest_of(folder))["files"]
        )
    except (ModelError, KeyError, TypeError, ValueError):
        return None
    return files if all(is_safe_name(file.name) and is_etag(file.etag) for file in files) else None


def is_complete(folder: Path) -> bool:
    """Whether a snapshot has all its files. False if its files can't be read."""
    try:
        return not missing_from(folder)
    except ModelError:
        return False


def missing_from(folder: Path) -> list[str]:
    """The names of a snapshot's files that are missing or truncated; empty if it is complete.

    Raises:
        ModelError: A file that lists others is damaged.
    """
    files = read_manifest(folder)
    if files is not None:
        return [file.name for file in files if size_of(folder / file.name) != file.size]
    return _missing_by_kind(folder)


def is_ctranslate2(names: Container[str]) -> bool:
    """Whether a folder of these files holds a Whisper in CTranslate2's format."""
    has_vocabulary = "vocabulary.json" in names or "vocabulary.txt" in names
    return CTRANSLATE2_WEIGHTS in names and "config.json" in names and has_vocabulary


def _missing_by_kind(folder: Path) -> list[str]:
    """The missing files of a snapshot without a manifest, among those that every model has."""
    names = {path.name for path in folder.iterdir() if path.is_file()}
    if "adapter_config.json" in names:
        needed = ["adapter_model.safetensors"]
    elif any(name.endswith(".gguf") for name in names) or is_ctranslate2(names):
        needed = []
    elif "config.json" not in names:
        needed = ["config.json"]
    else:
        needed = [] if any(name.endswith(".safetensors") for name in names) else ["model.safetensors"]
        if WEIGHTS_INDEX in names:
            needed = sorted(shards_of(read_json_object(folder / WEIGHTS_INDEX)))
        if read_json_object(folder / "config.json").get("model_type") in LANGUAGE_MODELS:
            needed.append("tokenizer.json")
    return [name for name in needed if not (folder / name).is_file()]


def shards_of(index: dict[str, Any]) -> set[str]:
    """The file names in an index of shards.

    Raises:
        ModelError: There are none, or one that can't be a file of the folder.
    """
    weights = index.get("weight_map")
    if not isinstance(weights, dict) or not weights:
        raise ModelError(f"{WEIGHTS_INDEX} names no files.", "The checkpoint is damaged.")
    names = set(weights.values())
    for name in names:
        if not isinstance(name, str) or not is_safe_name(name) or not name.endswith(".safetensors"):
            raise ModelError(
                f"{WEIGHTS_INDEX} names {str(name)[:80]!r}, which is not a file of this checkpoint.",
                "Don't use this checkpoint: such a name can only be meant to do harm.",
            )
    return names
