"""Models from the hub into the cache: plan a download, check the disk, download, verify, remove."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from huggingface_hub import constants, scan_cache_dir

from llasa_cli.checkpoint.gguf_file import is_gguf
from llasa_cli.errors import LlasaError, ModelError, os_errors_as
from llasa_cli.files import take_lock, temporary_path, write_text
from llasa_cli.hub.cache_layout import (
    CachedRepo,
    RemoteFile,
    cached_repos,
    download_cache,
    find_snapshot,
    is_complete,
    is_etag,
    is_safe_name,
    manifest_of,
    read_manifest,
    size_of,
    write_manifest,
)
from llasa_cli.hub.catalog import CATALOG, INCOMPATIBLE, UNVERIFIED_NAME, entry_of, repo_of, variant_of
from llasa_cli.hub.http import HubClient
from llasa_cli.hub.select import Selection, check_tokenizer, choose_gguf, incompatible, select_files
from llasa_cli.hub.transfer import OnBytes, fetch_blob, is_intact, write_errors
from llasa_cli.wording import format_size


@dataclass(frozen=True)
class DownloadPlan:
    """The files and sizes of a download before it begins.

    Attributes:
        place: The repository in the cache for downloads.
        revision: The requested branch, tag or commit.
        commit: The commit that the revision is at now.
        selection: The files, and what else the model needs.
        missing: Bytes to download.
        license: The license by the model's page or the catalog.
    """

    place: CachedRepo
    revision: str
    commit: str
    selection: Selection
    missing: int
    license: str

    @property
    def repo(self) -> str:
        return self.place.repo

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.selection.files)


def cached_folder(name: str) -> Path | None:
    """The folder of a model in the cache, even if files are missing. Does not use the network.

    Raises:
        ModelError: The name is not one of a model.
    """
    return find_snapshot(*_parse(name))


def complete_folder(name: str) -> Path | None:
    """Like `cached_folder`; None if a file is missing, or the GGUF file that the name asks for."""
    folder, variant = cached_folder(name), variant_of(name)
    if folder is None or not is_complete(folder):
        return None
    if variant is not None:
        try:
            choose_gguf([path.name for path in folder.iterdir()], variant, name)
        except ModelError:
            return None
    return folder


def plan_download(client: HubClient, name: str) -> DownloadPlan:
    """Ask the hub for a model's files and decide which of them are needed.

    Raises:
        ModelError: There is no such name, the hub can't be reached or refuses, or this program can't run the model.
    """
    repo, revision = _parse(name)
    if repo.lower() in INCOMPATIBLE:
        raise incompatible(repo, INCOMPATIBLE[repo.lower()])
    entry, place = entry_of(repo), CachedRepo(download_cache(), repo)
    try:
        listing = client.list_files(repo, revision)
    except ModelError as error:
        if entry is None or UNVERIFIED_NAME not in entry.unverified:
            raise
        hint = "The name in the catalog is not verified: search the hub, and pass the model as organization/repository."
        raise ModelError(error.message, hint) from error
    commit = listing.commit
    read = partial(client.read_file, repo, commit)
    selection = select_files(repo, listing.files, entry, read, variant_of(name))
    absent = [file for file in selection.files if place.find(commit, file) is None]
    missing = sum(max(0, file.size - max(0, size_of(place.part(file)))) for file in absent)
    license = listing.license or (entry.license if entry is not None else "unknown")
    return DownloadPlan(place, revision or "main", commit, selection, missing, license)


def _parse(name: str) -> tuple[str, str | None]:
    """A model's name -> repository and revision."""
    found = repo_of(name)
    if found is None:
        raise ModelError(f"There is no model {name!r}.", "Names: " + ", ".join(CATALOG) + "; or org/repository.")
    return found


def check_free_space(plans: Sequence[DownloadPlan]) -> None:
    """Refuse downloads that would not fit, before anything is downloaded.

    Raises:
        LlasaError: The disk is too full, or the cache can't be written.
    """
    cache, needed = download_cache(), sum(plan.missing for plan in plans)
    with write_errors(cache):
        cache.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(cache).free
    if free < needed * 1.05:
        raise LlasaError(
            f"The download needs {format_size(needed)}; {cache} has {format_size(free)} free.",
            "Free some space. Set LLASA_CACHE or HF_HUB_CACHE to a folder on another disk otherwise.",
        )


def fetch(
    client: HubClient,
    plan: DownloadPlan,
    on_bytes: OnBytes = lambda count, fresh: None,
    on_file: Callable[[RemoteFile], None] = lambda file: None,
    text_model: bool = False,
) -> Path:
    """Download what is missing. -> the model's folder in the cache.

    The revision's name leads to the folder from then on, so a revision that is known is complete.

    Args:
        on_file: Called with each file that is in its place.
        text_model: Whether a text model without speech tokens is accepted, as a start for training.

    Raises:
        ModelError: A file can't be downloaded, or the tokenizer is not a Llasa's. This shows before the weights are fetched.
        LlasaError: The cache can't be written.
    """
    place, commit, selection = plan.place, plan.commit, plan.selection
    folder = place.snapshot(commit)
    for file in selection.files:
        path = place.find(commit, file)
        if path is None:
            path = fetch_blob(client, place, commit, file, on_bytes)
        else:
            on_bytes(file.size, False)
        in_gguf = is_gguf(Path(file.name))
        if (file.name == "tokenizer.json" or in_gguf) and selection.kind == "language model":
            check_tokenizer(path, plan.repo, text_model, in_gguf)
        on_file(file)
    with write_errors(place.cache):
        for file in selection.files:
            _link(place.blobs / file.etag, folder / file.name)
        # A commit may have several GGUF files, of which an earlier download fetched others.
        files = {file.name: file for file in (*(read_manifest(folder) or ()), *selection.files)}
        write_manifest(folder, files.values())
        if plan.revision != commit and is_safe_name(plan.revision):
            place.ref(plan.revision).parent.mkdir(parents=True, exist_ok=True)
            write_text(place.ref(plan.revision), commit)
    return folder


def _link(blob: Path, path: Path) -> None:
    """Give a blob its name in the snapshot: by a symbolic link as the hub library does, or by moving it."""
    if not blob.is_file():
        return  # the disk has no links, and an earlier run moved the file to its name
    if path.exists() and path.samefile(blob):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    link = temporary_path(path)
    try:
        if constants.HF_HUB_DISABLE_SYMLINKS:
            raise OSError
        link.symlink_to(os.path.relpath(blob, path.parent))
    except OSError:
        link = blob
    link.replace(path)


# --- verifying ---


def find_damaged(folder: Path, on_bytes: OnBytes) -> tuple[list[RemoteFile], int]:
    """Read all files of a snapshot and compare their checksums. -> the damaged files, and the number of checked ones.

    Raises:
        LlasaError: No checksums are known.
    """
    files = read_manifest(folder) or _files_by_their_links(folder)
    if not files:
        raise LlasaError(
            f"The program that downloaded {folder} left no checksums.",
            "Run the command with --update first, which gets them.",
        )
    return [file for file in files if not is_intact(folder / file.name, file, on_bytes)], len(files)


def _files_by_their_links(folder: Path) -> tuple[RemoteFile, ...]:
    """The files of a snapshot of another program: a link leads to a blob, and a blob's name is its checksum."""
    links = ((path, Path(os.readlink(path)).name) for path in sorted(folder.rglob("*")) if path.is_symlink())
    return tuple(
        RemoteFile(path.relative_to(folder).as_posix(), max(0, size_of(path)), etag)
        for path, etag in links
        if is_etag(etag)
    )


def discard(folder: Path, files: Sequence[RemoteFile]) -> None:
    """Delete damaged files of a snapshot, so that they are downloaded again.

    Raises:
        LlasaError: They can't be deleted.
    """
    for file in files:
        for path in (folder / file.name, folder.parents[1] / "blobs" / file.etag):
            with os_errors_as(f"{path} is damaged and can't be deleted"):
                path.unlink(missing_ok=True)


# --- removing ---


def remove(name: str) -> int:
    """Delete a model from every cache: all of it, or with `@revision` only that revision. -> bytes freed.

    Raises:
        ModelError: It is not on this machine.
        LlasaError: It is being downloaded, or can't be deleted.
    """
    repo, revision = _parse(name)
    places = [place for place in cached_repos(repo) if revision is None or place.commit_of(revision)]
    if not places:
        raise ModelError(f"{name} is not on this machine.", "`llasa download --list` shows the models that are.")
    freed = 0
    for place in places:
        before, commit = _bytes_under(place.root), place.commit_of(revision) if revision else None
        with os_errors_as(f"{place.root} can't be deleted"), ExitStack() as locks:
            for path in sorted(place.locks.glob("*.lock")):
                busy = LlasaError(f"Another program is downloading {repo}.", "Stop that program first.")
                locks.callback(take_lock(path, busy))
            if commit is None:
                shutil.rmtree(place.root)
            else:
                manifest_of(place.snapshot(commit)).unlink(missing_ok=True)
                scan_cache_dir(place.cache).delete_revisions(commit).execute()
        freed += before - _bytes_under(place.root)
    return freed


def _bytes_under(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
