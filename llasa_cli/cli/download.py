"""`llasa download`: download published models into the cache, verify, list and remove them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from llasa_cli.cli.console import Console, as_json, claim_stdout, result
from llasa_cli.cli.flags import with_flags
from llasa_cli.errors import UsageError
from llasa_cli.options import Flag, Options
from llasa_cli.settings import BUILT_IN_MODEL
from llasa_cli.wording import format_duration, format_size

if TYPE_CHECKING:
    from llasa_cli.hub.cache_layout import RemoteFile
    from llasa_cli.hub.download import DownloadPlan
    from llasa_cli.hub.http import HubClient

_BIG_FILE_BYTES = 50_000_000
"""The size from which on a complete file gets a line of its own, if there is no terminal."""
_LONGEST_CHAIN = 4
"""Repositories for one name: an adapter, its base, the base's codec, and one to spare."""


@dataclass(frozen=True)
class DownloadOptions(Options):
    """Options of `llasa download`."""

    names: Annotated[
        tuple[str, ...],
        Flag(
            "1b, 3b, 8b, ..., org/repo or org/repo@revision; org/repo:Q4_K_M is one GGUF file of a repository; without a "
            "name the known models are listed.",
            is_argument=True,
            metavar="NAME...",
            completion="downloads",
        ),
    ] = ()
    listed: Annotated[bool, Flag("List the known models and the content of the cache.", names=("--list",))] = False
    with_companion: Annotated[
        bool, Flag("Download the codec that the model needs as well; for an adapter, its model.", names=("--codec",))
    ] = True
    update: Annotated[bool, Flag("Ask the hub for a newer version of a cached model.")] = False
    verify: Annotated[bool, Flag("Read the cached files again, and replace damaged ones.")] = False
    remove: Annotated[bool, Flag("Delete the model from the cache.")] = False
    text_model: Annotated[bool, Flag("Download a text model to finetune from, which can't speak yet.")] = False
    json: Annotated[bool, Flag("Print the result as JSON.")] = False
    quiet: Annotated[bool, Flag("Print errors only.", names=("-q", "--quiet"))] = False


@with_flags
def download(options: DownloadOptions) -> None:
    """Download a published model, after its size and license are shown. Most are for non-commercial use only."""
    claim_stdout()
    if options.listed or not options.names:
        if options.update or options.verify or options.remove:
            raise UsageError("Missing argument NAME.", "For example: llasa download 1b --verify")
        from llasa_cli.cli.model_list import show

        show(options.names, options.json)
        return
    if options.remove and (options.update or options.verify):
        raise UsageError("--remove excludes --update and --verify.", "Give one of them.")
    with Console(options.quiet) as console:
        if options.remove:
            for name in options.names:
                _remove(name, console, options.json)
            return
        try:
            for name in options.names:
                _Download(console, options).run(name)
        except KeyboardInterrupt:
            console.line("The downloaded part is kept; the same command resumes the download.")
            raise


def _remove(name: str, console: Console, json: bool) -> None:
    from llasa_cli.hub.catalog import entry_named
    from llasa_cli.hub.download import remove

    if name == BUILT_IN_MODEL:
        raise UsageError(f"{name} is part of the program.", "It is removed by: pip uninstall llasa-cli")
    freed = remove(name)
    console.line(f"removed {name}, {format_size(freed)} freed")
    named = entry_named(name)
    if named is not None and named[1].codec is not None:
        console.line("its codec stays because other models may need it: llasa download --remove xcodec2")
    if json:
        result(as_json({"model": name, "freed_bytes": freed}))


class _Download:
    """Downloads one model and the repositories that it needs, in three steps: plan, announce, fetch."""

    def __init__(self, console: Console, options: DownloadOptions) -> None:
        self._console, self._options = console, options
        self._client: HubClient | None = None

    def run(self, name: str) -> None:
        from llasa_cli.checkpoint.resolve import BUILT_IN_FOLDER

        if name == BUILT_IN_MODEL:
            self._print_result(name, BUILT_IN_FOLDER, 0)
            return
        folders, plans = self._plan(name)
        if plans:
            self._announce(plans)
        elif not self._options.verify:
            self._console.line(f"{name} is in the cache; --update asks the hub for a newer version")
        for plan in plans:
            folders[plan.repo] = self._fetch(plan)
        fetched = {plan.repo: plan.missing for plan in plans}
        for repo, folder in folders.items():
            self._print_result(repo, folder, fetched.get(repo, 0))

    # --- plan ---

    def _plan(self, name: str) -> tuple[dict[str, Path], list[DownloadPlan]]:
        """The folders of cached repositories, in the order of the results, and plans for the others."""
        from llasa_cli.hub.catalog import repo_of
        from llasa_cli.hub.download import plan_download

        folders: dict[str, Path] = {}
        plans: list[DownloadPlan] = []
        needed: str | None = name
        while needed is not None and len(folders) < _LONGEST_CHAIN:
            found = repo_of(needed)
            key = found[0] if found is not None else needed
            if key in folders:
                break
            folder = self._cached(needed)
            if folder is not None:
                folders[key] = folder
                needed = _companion_of(folder)
            else:
                self._console.stage(f"asking the hub for {needed}")
                plans.append(plan_download(self._connect(), needed))
                folders[plans[-1].repo] = Path()
                needed = plans[-1].selection.companion
            if not self._options.with_companion or needed == BUILT_IN_MODEL:
                break
        return folders, plans

    def _connect(self) -> HubClient:
        from llasa_cli.hub.http import HubClient

        if self._client is None:
            self._client = HubClient(on_note=self._console.line)
        return self._client

    def _cached(self, name: str) -> Path | None:
        """The folder of a model that needs no download. Damaged files are deleted with --verify."""
        from llasa_cli.hub.download import cached_folder, complete_folder

        folder = cached_folder(name)
        if folder is not None and self._options.verify:
            self._verify(name, folder)
        return None if self._options.update else complete_folder(name)

    def _verify(self, name: str, folder: Path) -> None:
        from llasa_cli.hub.download import discard, find_damaged, plan_download

        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        progress = _Progress(self._console, f"verifying {name}", size)
        damaged, count = find_damaged(folder, progress.add)
        if not damaged:
            self._console.line(f"{name}: {count} files verified, all checksums match")
            return
        names = ", ".join(file.name for file in damaged)
        self._console.line(f"{name}: damaged, to be downloaded again: {names}")
        plan_download(self._connect(), name)  # raises if the hub is not available: the damaged files stay then
        discard(folder, damaged)

    # --- announce ---

    def _announce(self, plans: Sequence[DownloadPlan]) -> None:
        """Show size, license and peculiarities of each model.

        Raises:
            LlasaError: The disk is too small.
        """
        from llasa_cli.hub.catalog import entry_of
        from llasa_cli.hub.download import check_free_space

        for plan in plans:
            cached = "" if plan.missing else ", already in the cache"
            if 0 < plan.missing < plan.size:
                cached = f", {format_size(plan.size - plan.missing)} of it already in the cache"
            self._console.line(f"{plan.repo}: {format_size(plan.size)}, license {plan.license}{cached}")
            entry = entry_of(plan.repo)
            for quirk in entry.quirks if entry is not None else ():
                self._console.line(f"  {quirk}")
            if entry is not None and entry.unverified:
                self._console.line(f"  not verified by the authors of this program: {', '.join(entry.unverified)}")
        check_free_space(plans)

    # --- fetch ---

    def _fetch(self, plan: DownloadPlan) -> Path:
        from llasa_cli.hub.download import fetch

        console, started = self._console, time.monotonic()
        progress = _Progress(console, plan.repo.partition("/")[2], plan.size)

        def on_file(file: RemoteFile) -> None:
            if file.size >= _BIG_FILE_BYTES and not console.is_live:
                console.line(f"  {file.name}: {format_size(file.size)}")

        folder = fetch(self._connect(), plan, progress.add, on_file, self._options.text_model)
        if progress.fresh:
            wall = format_duration(time.monotonic() - started)
            console.line(f"{plan.repo}: {format_size(progress.fresh)} downloaded in {wall}, all checksums match")
        return folder

    def _print_result(self, name: str, folder: Path, fetched: int) -> None:
        if self._options.json:
            commit = folder.name if folder.parent.name == "snapshots" else None
            result(as_json({"model": name, "folder": str(folder), "commit": commit, "fetched_bytes": fetched}))
        else:
            result(str(folder))


class _Progress:
    """A progress line: "Llasa-1B  1.24 of 2.74 GB  45%  38 MB/s  40 s left"."""

    def __init__(self, console: Console, name: str, size: int) -> None:
        self._console, self._name, self._size = console, name, size
        self._done = self.fresh = 0
        self._started = time.monotonic()

    def add(self, count: int, fresh: bool) -> None:
        """See `hub.transfer.OnBytes`."""
        self._done += count
        if fresh:
            self.fresh += count
        speed = self.fresh / max(time.monotonic() - self._started, 1e-3)
        left = f"  {format_duration((self._size - self._done) / speed)} left" if speed else ""
        scale, unit = (1e9, "GB") if self._size >= 1e9 else (1e6, "MB")
        digits = 2 if unit == "GB" else 1
        self._console.progress(
            f"{self._name}  {self._done / scale:.{digits}f} of {self._size / scale:.{digits}f} {unit}"
            f"  {100 * self._done // max(self._size, 1)}%  {speed / 1e6:.1f} MB/s{left}"
        )


def _companion_of(folder: Path) -> str | None:
    """The other repository that a cached model needs: its codec, or an adapter's base. None if there is none."""
    from llasa_cli.checkpoint.gguf_file import SUFFIX
    from llasa_cli.checkpoint.metadata import read_metadata
    from llasa_cli.checkpoint.resolve import ADAPTER_CONFIG, codec_of
    from llasa_cli.files import read_json_object_if_exists
    from llasa_cli.hub.cache_layout import LANGUAGE_MODELS
    from llasa_cli.hub.catalog import repo_of

    adapter = read_json_object_if_exists(folder / ADAPTER_CONFIG)
    if adapter:
        base = str(adapter.get("base_model_name_or_path", ""))
        return base if repo_of(base) is not None else None
    gguf = next(iter(sorted(folder.glob(f"*{SUFFIX}"))), None)
    kind = read_json_object_if_exists(folder / "config.json").get("model_type")
    if kind not in LANGUAGE_MODELS and gguf is None:
        return None
    named = read_metadata(folder if kind in LANGUAGE_MODELS or gguf is None else gguf).get("codec")
    if named is not None and (folder / str(named) / "config.json").is_file():
        return None
    return str(named or codec_of(folder))
