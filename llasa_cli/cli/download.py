"""`llasa download`: published models into the cache, what is there, and out of it again."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from llasa_cli.cli.console import Console, as_json, claim_stdout, result
from llasa_cli.cli.option_flags import with_flags
from llasa_cli.errors import UsageError
from llasa_cli.options import Flag, Options
from llasa_cli.settings import BUILT_IN_MODEL

if TYPE_CHECKING:
    from llasa_cli.hub.cache_layout import RemoteFile
    from llasa_cli.hub.download import Plan
    from llasa_cli.hub.http import Wire

_NOTEWORTHY_BYTES = 50_000_000
"""Files from this size on get a line of their own where nobody watches a progress line."""


@dataclass(frozen=True)
class DownloadOptions(Options):
    """Options of `llasa download`."""

    names: Annotated[
        tuple[str, ...],
        Flag(
            "1b, 3b, 8b, ..., org/repo or org/repo@revision; without a name the known models are listed.",
            is_argument=True,
            metavar="NAME...",
            completion="models",
        ),
    ] = ()
    listed: Annotated[bool, Flag("List the known models and the content of the cache.", names=("--list",))] = False
    with_companion: Annotated[
        bool, Flag("Fetch the codec that the model needs as well; of an adapter, its model.", names=("--codec",))
    ] = True
    update: Annotated[bool, Flag("Ask the hub for a newer version of a cached model.")] = False
    verify: Annotated[bool, Flag("Read the cached files again, and fetch damaged ones anew.")] = False
    remove: Annotated[bool, Flag("Delete the model from the cache.")] = False
    text_model: Annotated[bool, Flag("Fetch a text model to finetune from, which can't speak yet.")] = False
    json: Annotated[bool, Flag("Print the result as JSON.")] = False
    quiet: Annotated[bool, Flag("Print errors only.", names=("-q", "--quiet"))] = False


@with_flags
def download(options: DownloadOptions) -> None:
    """Fetch a published model, after its size and license are shown. Most are for non-commercial use only."""
    claim_stdout()
    if options.listed or not options.names:
        if options.update or options.verify or options.remove:
            raise UsageError("Missing argument NAME.", "For example: llasa download 1b --verify")
        from llasa_cli.cli.model_list import show

        show(options.names, options.json)
        return
    if options.remove and (options.update or options.verify):
        raise UsageError("--remove excludes --update and --verify.", "Give one of them.")
    with Console(options.quiet) as report:
        if options.remove:
            for name in options.names:
                _remove(name, report, options.json)
            return
        try:
            for name in options.names:
                _Download(report, options).run(name)
        except KeyboardInterrupt:
            report.line("The fetched part stays; the same command resumes the download.")
            raise


def _remove(name: str, report: Console, json: bool) -> None:
    from llasa_cli.hub.catalog import entry_named
    from llasa_cli.hub.download import remove
    from llasa_cli.wording import format_size

    if name == BUILT_IN_MODEL:
        raise UsageError(f"{name} is part of the program.", "It goes with: pip uninstall llasa-cli")
    freed = remove(name)
    report.line(f"removed {name}: {format_size(freed)} are free again")
    named = entry_named(name)
    if named is not None and named[1].codec is not None:
        report.line("its codec stays, other models may need it: llasa download --remove xcodec2")
    if json:
        result(as_json({"model": name, "freed_bytes": freed}))


class _Download:
    """One model and what it needs, in three steps: look, weigh, fetch."""

    def __init__(self, report: Console, options: DownloadOptions) -> None:
        self._report, self._options = report, options
        self._wire: Wire | None = None

    def run(self, name: str) -> None:
        from llasa_cli.checkpoint.resolve import BUILT_IN_FOLDER

        if name == BUILT_IN_MODEL:
            self._tell(name, BUILT_IN_FOLDER, 0)
            return
        try:
            folders, plans = self._look(name)
            if plans:
                self._weigh(plans)
            elif not self._options.verify:
                self._report.line(f"{name} is here; --update asks the hub for a newer one")
            for wanted in plans:
                folders[wanted.repo] = self._fetch(wanted)
        finally:
            if self._wire is not None:
                self._wire.close()
        fetched = {wanted.repo: wanted.missing for wanted in plans}
        for repo, folder in folders.items():
            self._tell(repo, folder, fetched.get(repo, 0))

    # --- look ---

    def _look(self, name: str) -> tuple[dict[str, Path], list[Plan]]:
        """-> the folders of what is here already (in the order of the results), and plans for the rest."""
        from llasa_cli.hub.catalog import repo_of
        from llasa_cli.hub.download import plan

        folders: dict[str, Path] = {}
        plans: list[Plan] = []
        wanted: str | None = name
        while wanted is not None and len(folders) < 4:  # an adapter, its model, the model's codec
            found = repo_of(wanted)
            key = found[0] if found is not None else wanted
            if key in folders:
                break
            here = self._here(wanted)
            if here is not None:
                folders[key] = here
                wanted = _companion_of(here)
            else:
                self._report.stage(f"asking for {wanted}")
                plans.append(plan(self._connection(), wanted))
                folders[plans[-1].repo] = Path()
                wanted = plans[-1].choice.companion
            if not self._options.with_companion or wanted == BUILT_IN_MODEL:
                break
        return folders, plans

    def _connection(self) -> Wire:
        from llasa_cli.hub.http import Wire

        if self._wire is None:
            self._wire = Wire(on_note=self._report.line)
        return self._wire

    def _here(self, name: str) -> Path | None:
        """The folder of a model that needs no fetching; damaged files are gone afterwards."""
        from llasa_cli.hub.download import cached_folder, cached_whole

        folder = cached_folder(name)
        if folder is not None and self._options.verify:
            self._drop_damaged(name, folder)
        return None if self._options.update else cached_whole(name)

    def _drop_damaged(self, name: str, folder: Path) -> None:
        from llasa_cli.hub.download import damaged_files, drop, plan

        progress = _Progress(self._report, f"checking {name}", _size_under(folder))
        damaged, count = damaged_files(folder, progress.add)
        if not damaged:
            self._report.line(f"{name}: {count} files checked, all are as published")
            return
        self._report.line(f"{name}: damaged, to be fetched again: {', '.join(file.name for file in damaged)}")
        plan(self._connection(), name)  # without an answer it stays: what is damaged is better than nothing
        drop(folder, damaged)

    # --- weigh ---

    def _weigh(self, plans: Sequence[Plan]) -> None:
        from llasa_cli.hub.catalog import entry_of
        from llasa_cli.hub.download import check_room
        from llasa_cli.wording import format_size

        for wanted in plans:
            there = ", already here" if not wanted.missing else ""
            if 0 < wanted.missing < wanted.size:
                there = f", {format_size(wanted.size - wanted.missing)} of it already here"
            self._report.line(f"{wanted.repo}: {format_size(wanted.size)}, licence {wanted.license}{there}")
            entry = entry_of(wanted.repo)
            for quirk in entry.quirks if entry is not None else ():
                self._report.line(f"  {quirk}")
            if entry is not None and entry.unverified:
                self._report.line(f"  not verified by this program's makers: {', '.join(entry.unverified)}")
        check_room(plans)

    # --- fetch ---

    def _fetch(self, wanted: Plan) -> Path:
        from llasa_cli.hub.download import fetch
        from llasa_cli.wording import format_size

        report, began = self._report, time.monotonic()
        progress = _Progress(report, wanted.repo.partition("/")[2], wanted.size)

        def on_file(file: RemoteFile) -> None:
            if file.size >= _NOTEWORTHY_BYTES and not report.is_live:
                report.line(f"  {file.name}: {format_size(file.size)}")

        folder = fetch(self._connection(), wanted, progress.add, on_file, self._options.text_model)
        if progress.fresh:
            wall_s = time.monotonic() - began
            report.line(
                f"{wanted.repo}: {format_size(progress.fresh)} fetched in {wall_s:.0f} s, every file's sum is right"
            )
        return folder

    def _tell(self, name: str, folder: Path, fetched: int) -> None:
        if self._options.json:
            commit = folder.name if folder.parent.name == "snapshots" else None
            result(as_json({"model": name, "folder": str(folder), "commit": commit, "fetched_bytes": fetched}))
        else:
            result(str(folder))


class _Progress:
    """ "Llasa-1B  1.24 of 2.74 GB  45%  38 MB/s  0:40 left", on a terminal."""

    def __init__(self, report: Console, name: str, size: int) -> None:
        self._report, self._name, self._size = report, name, size
        self._there = self.fresh = 0
        self._began = time.monotonic()

    def add(self, count: int, fresh: bool) -> None:
        self._there += count
        if fresh:
            self.fresh += count
        speed = self.fresh / max(time.monotonic() - self._began, 1e-3)
        left_s = (self._size - self._there) / speed if speed else 0.0
        self._report.progress(
            f"{self._name}  {_of(self._there, self._size)}  {100 * self._there // max(self._size, 1)}%"
            f"  {speed / 1e6:.1f} MB/s  {_clock(left_s)} left"
        )


def _of(there: int, size: int) -> str:
    if size >= 10**9:
        return f"{there / 1e9:.2f} of {size / 1e9:.2f} GB"
    return f"{there / 1e6:.1f} of {size / 1e6:.1f} MB"


def _clock(seconds: float) -> str:
    whole = int(min(seconds, 359_999))
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"


def _size_under(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _companion_of(folder: Path) -> str | None:
    """What a model in the cache needs besides itself: its codec's repository; None if that lies inside, or it is one."""
    from llasa_cli.checkpoint.metadata import read_metadata
    from llasa_cli.checkpoint.resolve import codec_of
    from llasa_cli.files import read_json_object_if_exists
    from llasa_cli.hub.cache_layout import LANGUAGE_MODELS
    from llasa_cli.hub.catalog import repo_of

    adapter: dict[str, Any] = read_json_object_if_exists(folder / "adapter_config.json")
    if adapter:
        base = str(adapter.get("base_model_name_or_path", ""))
        return base if repo_of(base) is not None else None
    if read_json_object_if_exists(folder / "config.json").get("model_type") not in LANGUAGE_MODELS:
        return None
    named = read_metadata(folder).get("codec")
    if named is not None and (folder / str(named) / "config.json").is_file():
        return None
    return str(named or codec_of(folder))
