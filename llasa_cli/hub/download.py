"""Models from the hub into the cache: asked for, weighed, refused or fetched, checked, and removed again."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llasa_cli.errors import LlasaError, ModelError
from llasa_cli.files import temporary_path, write_text
from llasa_cli.hub.cache_layout import (
    CachedRepo,
    RemoteFile,
    caches,
    find_snapshot,
    is_commit,
    is_etag,
    is_safe_name,
    is_whole,
    read_manifest,
    size_of,
    stored,
    write_cache,
    write_manifest,
)
from llasa_cli.hub.catalog import CATALOGUE, UNVERIFIED_NAME, entry_of, repo_of
from llasa_cli.hub.checksum import OnBytes, is_intact
from llasa_cli.hub.http import Wire
from llasa_cli.hub.select import Selection, check_tokenizer, choose, refuse_known
from llasa_cli.hub.transfer import fetch_blob, part_of, writing
from llasa_cli.wording import format_size


@dataclass(frozen=True)
class Plan:
    """What a download will fetch.

    Attributes:
        repo, revision: From where, as it was asked for.
        commit: What the revision is at the hub now.
        choice: Which files, and what else the model needs.
        missing: Bytes that have to be fetched.
        copied: Bytes that another cache has, on another disk.
        license: As the catalogue or the model's own page says.
    """

    repo: str
    revision: str | None
    commit: str
    choice: Selection
    missing: int
    license: str
    copied: int = 0

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(file.size for file in self.choice.files)


def cached_whole(name: str) -> Path | None:
    """The folder of a model that is in the cache with all its files; no network is asked.

    Raises:
        ModelError: There can be no such model.
    """
    folder = cached_folder(name)
    return folder if folder is not None and is_whole(folder) else None


def cached_folder(name: str) -> Path | None:
    """As `cached_whole`, also where files are missing."""
    return find_snapshot(*_named(name))


def plan(wire: Wire, name: str) -> Plan:
    """Ask the hub what a model is made of, and whether it is one.

    Raises:
        ModelError: No such name, not reachable, not let in, or no model that this program runs.
    """
    repo, revision = _named(name)
    refuse_known(repo)
    about = _about(wire, repo, revision)
    commit = str(about.get("sha"))
    if not is_commit(commit):
        raise ModelError(f"{wire.endpoint} names no commit for {repo}.", "Is HF_ENDPOINT right?")
    entry, place = entry_of(repo), CachedRepo(write_cache(), repo)
    choice = choose(repo, _files(wire, about, repo), entry, lambda file: _read_small(wire, repo, commit, file))
    card = about.get("cardData")
    said = card.get("license") if isinstance(card, dict) else None
    known = entry.license if entry is not None and said is None else None
    missing = sum(file.size - _bytes_here(place, commit, file) for file in choice.files)
    copied = sum(file.size for file in choice.files if _is_on_another_disk(place, commit, file))
    return Plan(repo, revision, commit, choice, missing, known or _license_text(said), copied)


def check_room(plans: Sequence[Plan]) -> None:
    """Refuse before a byte is fetched what would not fit.

    Raises:
        LlasaError: The disk is too full, or the cache can't be written.
    """
    cache = write_cache()
    try:
        cache.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(cache).free
    except OSError as error:
        raise LlasaError(
            f"{cache} can't be used: {error.strerror}.", "Set LLASA_CACHE or HF_HUB_CACHE to a folder."
        ) from error
    if not os.access(cache, os.W_OK | os.X_OK):
        raise LlasaError(f"{cache} can't be written.", "Set LLASA_CACHE or HF_HUB_CACHE to a folder of yours.")
    missing = sum(wanted.missing + wanted.copied for wanted in plans)
    if free < missing * 1.05:
        raise LlasaError(
            f"{format_size(missing)} are to be fetched or copied; {cache} has {format_size(free)} free.",
            "Make room, or set LLASA_CACHE or HF_HUB_CACHE to a folder on another disk.",
        )


def fetch(wire: Wire, wanted: Plan, on_bytes: OnBytes, on_file: Callable[[RemoteFile], None], text_model: bool) -> Path:
    """Fetch what is not there yet. -> its folder in the cache, which is known by its revision from now on.

    Args:
        on_file: Told each file that is in its place.
        text_model: It need not speak: it is to be trained from.

    Raises:
        ModelError: It can't be fetched, or turns out not to be a Llasa before its weights are.
        LlasaError: It can't be written.
    """
    place = CachedRepo(write_cache(), wanted.repo)
    folder = place.snapshot(wanted.commit)
    for file in wanted.choice.files:
        if _is_there(place, wanted.commit, file) or _take_from_another_cache(place, file):
            on_bytes(file.size, False)
        else:
            fetch_blob(wire, place, wanted.commit, file, on_bytes)
        if file.name == "tokenizer.json" and wanted.choice.kind == "language model":
            check_tokenizer(_lies_at(place, folder, file), wanted.repo, text_model)
        on_file(file)
    with writing(place.cache):
        for file in wanted.choice.files:
            _link(place, folder, file)
        write_manifest(place, wanted.commit, wanted.choice.files)
        _remember(place, wanted)
    return folder


def damaged_files(folder: Path, on_bytes: OnBytes) -> tuple[list[RemoteFile], int]:
    """Read all files of a snapshot and compare their sums. -> those that are wrong, and how many were checked.

    Raises:
        LlasaError: No sums are known.
    """
    files = read_manifest(folder) or _files_by_their_links(folder)
    if not files:
        raise LlasaError(
            f"{folder} was fetched by a program that left no sums to check by.",
            "Run it with --update first, which fetches them.",
        )
    return [file for file in files if not is_intact(folder / file.name, file, on_bytes)], len(files)


def drop(folder: Path, files: Sequence[RemoteFile]) -> None:
    """Forget damaged files, so that they are fetched again.

    Raises:
        LlasaError: They can't be deleted.
    """
    for file in files:
        for path in (folder / file.name, folder.parents[1] / "blobs" / file.etag):
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                raise LlasaError(f"{path} is damaged and can't be deleted: {error.strerror}.") from error


def remove(name: str) -> int:
    """Delete a model from every cache that has it: all of it, or with `@revision` only that one. -> bytes freed.

    Raises:
        ModelError: It is not here.
        LlasaError: It is being fetched, or can't be deleted.
    """
    repo, revision = _named(name)
    freed, was_here = 0, False
    for place in stored(repo):
        commit = place.commit_of(revision) if revision else None
        if revision and commit is None:
            continue
        with ExitStack() as held:
            _hold_all(place, held)
            before = _bytes_under(place.root)
            try:
                if commit is None:
                    _delete_all(place)
                else:
                    _delete_commit(place, commit)
            except OSError as error:
                raise LlasaError(f"{place.root} can't be deleted: {error.strerror}.") from error
            freed += before - _bytes_under(place.root)
            was_here = True
    if not was_here:
        raise ModelError(f"{name} is not on this machine.", "`llasa download --list` shows what is.")
    return freed


# --- planning ---


def _named(name: str) -> tuple[str, str | None]:
    found = repo_of(name)
    if found is None:
        raise ModelError(f"There is no model {name!r}.", "Names: " + ", ".join(CATALOGUE) + "; or org/repository.")
    return found


def _about(wire: Wire, repo: str, revision: str | None) -> dict[str, Any]:
    entry = entry_of(repo)
    try:
        return wire.about(repo, revision)
    except ModelError as error:
        if entry is None or UNVERIFIED_NAME not in entry.unverified:
            raise
        hint = "Its name here is not verified: look for the model on the hub, and name it as organisation/repository."
        raise ModelError(error.message, hint) from error


def _files(wire: Wire, about: dict[str, Any], repo: str) -> list[RemoteFile]:
    """The hub's list. Names are judged later; a sum becomes a file name here, so it has to be one."""
    files = []
    for item in about["siblings"]:
        try:
            lfs = item.get("lfs") or {}
            size = int(lfs.get("size") or item.get("size") or 0)
            file = RemoteFile(str(item["rfilename"]), size, str(lfs.get("sha256") or item.get("blobId")))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ModelError(f"The hub's list of files of {repo} can't be read.", "Is HF_ENDPOINT right?") from error
        if not is_etag(file.etag) or size < 0:
            if about.get("gated"):
                wire.check_let_in(repo, str(about["sha"]), file.name)
            raise ModelError(
                f"The hub names no sum for {file.name[:80]!r} of {repo}, so it can't be checked.",
                "Is HF_ENDPOINT a mirror that leaves them out?",
            )
        files.append(file)
    return files


def _read_small(wire: Wire, repo: str, commit: str, file: RemoteFile) -> bytes:
    """From a cache if it is there as the hub has it, else from the hub."""
    for cache in caches():
        blob = CachedRepo(cache, repo).blobs / file.etag
        if is_intact(blob, file):
            return blob.read_bytes()
    return wire.read(repo, commit, file)


def _license_text(said: Any) -> str:
    text = ", ".join(map(str, said)) if isinstance(said, list) else str(said or "unknown")
    return "".join(c if c.isprintable() else " " for c in text)[:80]


# --- in the cache ---


def _is_there(place: CachedRepo, commit: str, file: RemoteFile) -> bool:
    """Whole, as its blob or, where the disk has no links, by its name."""
    return file.size in (size_of(place.blobs / file.etag), size_of(place.snapshot(commit) / file.name))


def _in_other_caches(place: CachedRepo, file: RemoteFile) -> list[Path]:
    """Where the file lies whole; its sum was not looked at."""
    blobs = [CachedRepo(cache, place.repo).blobs / file.etag for cache in caches()[1:]]
    return [blob for blob in blobs if size_of(blob) == file.size]


def _is_on_another_disk(place: CachedRepo, commit: str, file: RemoteFile) -> bool:
    """It is not fetched, and needs room all the same."""
    others = _in_other_caches(place, file)
    if not others or _is_there(place, commit, file):
        return False
    above = next(folder for folder in (place.cache, *place.cache.absolute().parents) if folder.exists())
    return _disk_of(others[0]) != _disk_of(above)


def _disk_of(path: Path) -> int:
    return path.stat().st_dev


def _bytes_here(place: CachedRepo, commit: str, file: RemoteFile) -> int:
    """Bytes of a file that need not be fetched."""
    if _is_there(place, commit, file) or _in_other_caches(place, file):
        return file.size
    return min(file.size, max(0, size_of(part_of(place, file))))


def _lies_at(place: CachedRepo, folder: Path, file: RemoteFile) -> Path:
    blob = place.blobs / file.etag
    return blob if blob.is_file() else folder / file.name


def _take_from_another_cache(place: CachedRepo, file: RemoteFile) -> bool:
    """What the hub's shared cache holds is not fetched once more into LLASA_CACHE, if its sum is right."""
    blob = place.blobs / file.etag
    for cache in caches()[1:]:
        other = CachedRepo(cache, place.repo).blobs / file.etag
        if is_intact(other, file):
            with writing(place.cache):
                _link_or_copy(other, blob, part_of(place, file))
            return True
    return False


def _link_or_copy(other: Path, blob: Path, part: Path) -> None:
    blob.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(other.resolve(), blob)
    except FileExistsError:
        return
    except OSError:  # another disk
        try:
            shutil.copyfile(other, part)
        except OSError:
            part.unlink(missing_ok=True)  # copied anew next time: it would only fill the disk
            raise
        part.replace(blob)


def _link(place: CachedRepo, folder: Path, file: RemoteFile) -> None:
    """Give a blob its name in the snapshot: by a symbolic link as the hub library does, else by what the disk can do."""
    from huggingface_hub import constants

    blob, path = place.blobs / file.etag, folder / file.name
    if not blob.is_file():
        return  # the disk has no links, and the file was moved here before
    if path.exists() and path.samefile(blob):
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    link = temporary_path(path)
    try:
        if constants.HF_HUB_DISABLE_SYMLINKS:
            raise OSError
        link.symlink_to(os.path.relpath(blob, path.parent))
    except OSError:
        try:
            os.link(blob, link)
        except OSError:
            link = blob
    link.replace(path)


def _remember(place: CachedRepo, wanted: Plan) -> None:
    """`refs/main` and the like; last, so that a revision that is known is whole."""
    revision = wanted.revision or "main"
    if revision == wanted.commit or not is_safe_name(revision):
        return
    ref = place.ref(revision)
    ref.parent.mkdir(parents=True, exist_ok=True)
    write_text(ref, wanted.commit)


def _files_by_their_links(folder: Path) -> tuple[RemoteFile, ...]:
    """For a snapshot of another program: a link leads to a blob, and a blob's name is its sum."""
    found = []
    for path in sorted(folder.rglob("*")):
        etag = Path(os.readlink(path)).name if path.is_symlink() else ""
        if is_etag(etag):
            found.append(RemoteFile(path.relative_to(folder).as_posix(), max(0, size_of(path)), etag))
    return tuple(found)


# --- deleting ---


def _hold_all(place: CachedRepo, held: ExitStack) -> None:
    """Take the locks of all its files: nobody is fetching it then."""
    from filelock import FileLock, Timeout

    for path in sorted(place.locks.glob("*.lock")):
        try:
            held.enter_context(FileLock(path, timeout=0))
        except Timeout as error:
            raise LlasaError(f"{place.repo} is being fetched by another program.", "Stop that one first.") from error
        except (OSError, NotImplementedError):
            continue


def _delete_all(place: CachedRepo) -> None:
    """First out of sight, so that what is cut off leaves no model that is half there."""
    place.root.rename(place.root.with_name(f".removed-{secrets.token_hex(4)}-{place.root.name}"))
    for aside in place.cache.glob(".removed-*"):
        shutil.rmtree(aside)


def _delete_commit(place: CachedRepo, commit: str) -> None:
    """One snapshot, what leads to it, and the blobs that no other snapshot uses."""
    refs = [path for path in place.root.glob("refs/**/*") if path.is_file()]
    for path in refs:
        if path.read_text(encoding="utf-8").strip() == commit:
            path.unlink()
    shutil.rmtree(place.snapshot(commit))
    place.manifest(commit).unlink(missing_ok=True)
    left = [path for path in place.root.glob("snapshots/*/**/*") if path.is_file()]
    if not left:
        _delete_all(place)
        return
    used = {os.path.realpath(path) for path in left}
    for blob in place.blobs.glob("*"):
        if os.path.realpath(blob) not in used:
            blob.unlink()


def _bytes_under(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
