"""Models from the hub into the cache: plan a download, check the disk, download, verify, remove."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import constants, scan_cache_dir

from llasa_cli.checkpoint.gguf_file import is_gguf
from llasa_cli.errors import LlasaError, ModelError
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
    read_manifest,
    size_of,
    write_manifest,
)
from llasa_cli.hub.catalog import CATALOG, UNVERIFIED_NAME, entry_of, repo_of, variant_of
from llasa_cli.hub.http import HubClient
from llasa_cli.hub.select import Selection, check_tokenizer, choose_gguf, refuse_incompatible, select_files
from llasa_cli.hub.transfer import OnBytes, fetch_blob, is_intact, part_of, write_errors
from llasa_cli.wording import format_size


@dataclass(frozen=True)
class DownloadPlan:
    """The files and sizes of a download before it begins.

    Attributes:
        repo, revision: The requested ones.
        commit: The commit that the revision is at now.
        selection: The files, and what else the model needs.
        missing: Bytes to download.
        license: The license by the catalog or the model's page.
    """

    repo: str
    revision: str | None
    commit: str
    selection: Selection
    missing: int
    license: str

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
    refuse_incompatible(repo)
    entry, place = entry_of(repo), CachedRepo(download_cache(), repo)
    try:
        listing = client.list_files(repo, revision)
    except ModelError as error:
        if entry is None or UNVERIFIED_NAME not in entry.unverified:
            raise
        hint = "The name in the catalog is not verified: search the hub, and pass the model as organization/repository."
        raise ModelError(error.message, hint) from error
    commit = listing.commit
    selection = select_files(
        repo, listing.files, entry, lambda file: client.read_file(repo, commit, file), variant_of(name)
    )
    missing = sum(file.size - _bytes_here(place, commit, file) for file in selection.files)
    license = listing.license or (entry.license if entry is not None else "unknown")
    return DownloadPlan(repo, revision, commit, selection, missing, license)


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
    client: HubClient, plan: DownloadPlan, on_bytes: OnBytes, on_file: Callable[[RemoteFile], None], text_model: bool
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
    place = CachedRepo(download_cache(), plan.repo)
    folder = place.snapshot(plan.commit)
    for file in plan.selection.files:
        if _is_there(place, plan.commit, file):
            on_bytes(file.size, False)
        else:
            fetch_blob(client, place, plan.commit, file, on_bytes)
        in_gguf = is_gguf(Path(file.name))
        if (file.name == "tokenizer.json" or in_gguf) and plan.selection.kind == "language model":
            blob = place.blobs / file.etag
            check_tokenizer(blob if blob.is_file() else folder / file.name, plan.repo, text_model, in_gguf)
        on_file(file)
    with write_errors(place.cache):
        for file in plan.selection.files:
            _link(place, folder, file)
        # A commit may have several GGUF files, of which an earlier download fetched others.
        earlier = {file.name: file for file in read_manifest(folder) or ()}
        files = earlier | {file.name: file for file in plan.selection.files}
        write_manifest(place, plan.commit, tuple(files.values()))
        revision = plan.revision or "main"
        if revision != plan.commit and is_safe_name(revision):
            place.ref(revision).parent.mkdir(parents=True, exist_ok=True)
            write_text(place.ref(revision), plan.commit)
    return folder


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


def discard(folder: Path, files: Sequence[RemoteFile]) -> None:
    """Delete damaged files of a snapshot, so that they are downloaded again.

    Raises:
        LlasaError: They can't be deleted.
    """
    for file in files:
        for path in (folder / file.name, folder.parents[1] / "blobs" / file.etag):
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise LlasaError(f"{path} is damaged and can't be deleted: {error.strerror}.") from error


# --- planning ---


def _parse(name: str) -> tuple[str, str | None]:
    """A model's name -> repository and revision."""
    found = repo_of(name)
    if found is None:
        raise ModelError(f"There is no model {name!r}.", "Names: " + ", ".join(CATALOG) + "; or org/repository.")
    return found


# --- in the cache ---


def _is_there(place: CachedRepo, commit: str, file: RemoteFile) -> bool:
    """Whether a file is complete, as a blob or, on a disk without links, under its name."""
    return file.size in (size_of(place.blobs / file.etag), size_of(place.snapshot(commit) / file.name))


def _bytes_here(place: CachedRepo, commit: str, file: RemoteFile) -> int:
    """Bytes of a file that need no download."""
    if _is_there(place, commit, file):
        return file.size
    return min(file.size, max(0, size_of(part_of(place, file))))


def _link(place: CachedRepo, folder: Path, file: RemoteFile) -> None:
    """Give a blob its name in the snapshot: by a symbolic link as the hub library does, or by moving it."""
    blob, path = place.blobs / file.etag, folder / file.name
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


def _files_by_their_links(folder: Path) -> tuple[RemoteFile, ...]:
    """The files of a snapshot of another program: a link leads to a blob, and a blob's name is its checksum."""
    found = []
    for path in sorted(folder.rglob("*")):
        etag = Path(os.readlink(path)).name if path.is_symlink() else ""
        if is_etag(etag):
            found.append(RemoteFile(path.relative_to(folder).as_posix(), max(0, size_of(path)), etag))
    return tuple(found)


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
        try:
            with ExitStack() as locks:
                for path in sorted(place.locks.glob("*.lock")):
                    busy = LlasaError(f"Another program is downloading {repo}.", "Stop that program first.")
                    locks.callback(take_lock(path, busy))
                if commit is None:
                    shutil.rmtree(place.root)
                else:
                    place.manifest(commit).unlink(missing_ok=True)
                    scan_cache_dir(place.cache).delete_revisions(commit).execute()
        except OSError as error:
            raise LlasaError(f"{place.root} can't be deleted: {error.strerror}.") from error
        freed += before - _bytes_under(place.root)
    return freed


def _bytes_under(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
