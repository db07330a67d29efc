"""Where a batch's list comes from, and where its sound goes."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from llasa_cli.errors import LlasaError, UsageError
from llasa_cli.settings import BatchOptions

_BLOCK_BYTES = 1 << 20


class ListSource:
    """A list that can be read from its beginning more than once; a pipe is kept in a temporary file."""

    def __init__(self, name: str) -> None:
        self.path = Path() if name == "-" else Path(name)
        self._kept: BinaryIO | None = None
        try:
            if name != "-" and self.path.is_file():
                self.path.open("rb").close()
                return
            self._kept = tempfile.TemporaryFile()  # noqa: SIM115 (closed on leaving)
            with sys.stdin.buffer if name == "-" else self.path.open("rb") as pipe:
                shutil.copyfileobj(pipe, self._kept, _BLOCK_BYTES)
            self._kept.flush()
        except OSError as error:
            raise UsageError(f"{name} can't be read: {error.strerror}.") from error

    def open(self) -> BinaryIO:
        if self._kept is None:
            return self.path.open("rb")
        self._kept.seek(0)
        return os.fdopen(os.dup(self._kept.fileno()), "rb")

    def __enter__(self) -> ListSource:
        return self

    def __exit__(self, *_: object) -> None:
        if self._kept is not None:
            self._kept.close()


@dataclass(frozen=True)
class Target:
    """A folder of files; or one file, whose items lie in a folder beside it until it is finished."""

    folder: Path
    item_format: str
    joined: Path | None = None
    joined_format: str = ""

    @classmethod
    def of(cls, options: BatchOptions) -> Target:
        from llasa_cli.audio.resumable import folder_of
        from llasa_cli.audio.sinks import FORMATS, OTHER_ENDINGS, FileSink, pick_format
        from llasa_cli.audio.subtitles import SubtitleFile
        from llasa_cli.batch.manifest import ENDINGS

        output = options.output
        if str(output) == "-":
            raise UsageError("A list's sounds don't fit into one stream.", "Name a folder, or one file: -o book.wav.")
        ending = output.suffix.lstrip(".").lower()
        if ending in FORMATS and not output.is_dir():
            kind = pick_format(str(output), options.file_format)
            folder = folder_of(output)
            _refuse_others(folder)
            FileSink(output, kind).abort()  # what can be refused is refused now
            if options.subtitles is not None:
                SubtitleFile(options.subtitles).abort()
            return cls(folder, "wav", output, kind)
        if ending in OTHER_ENDINGS and not output.is_dir():
            pick_format(str(output), None)  # refuses it
        if options.subtitles is not None:
            raise UsageError("--subtitles belong to one file.", "Name it: -o book.wav.")
        if options.pause_s is not None:
            raise UsageError("--pause is between the items of one file.", "Name it: -o book.wav.")
        kind = pick_format(None, options.file_format)
        if kind not in ENDINGS:
            raise UsageError(f"A folder of {kind} files says nowhere at which rate they play.", "Take wav.")
        return cls(output, kind)

    def check(self, options: BatchOptions) -> None:
        """Refuse to write over the list or the clip of the flags. (For the clips of items see `spare`.)

        Raises:
            UsageError: They are the same file, or sound and subtitles are.
        """
        from llasa_cli.batch.results import RESULTS
        from llasa_cli.files import refuse_overwriting

        source = Path(options.source) if options.source != "-" else None
        refuse_overwriting([self.folder / RESULTS, self.joined, options.subtitles], [source, options.ref])

    def spare(self, clips: Iterable[Path], options: BatchOptions) -> None:
        """Refuse to write one file over a clip that an item names. (Where each item is a file, the plan spares it.)

        Raises:
            UsageError: They are the same file.
        """
        from llasa_cli.files import refuse_overwriting

        if self.joined is not None:
            refuse_overwriting([self.joined, options.subtitles], clips)


def _refuse_others(folder: Path) -> None:
    """One that `llasa say`, or somebody, has put something in is not worked in: it is removed at the end."""
    from llasa_cli.audio.resumable import ABOUT, not_of_this_command
    from llasa_cli.batch.results import RESULTS

    try:
        names = sorted(os.listdir(folder)) if folder.is_dir() else []
    except OSError as error:
        raise LlasaError(f"{folder} can't be read: {error.strerror}.") from error
    if ABOUT in names or (names and RESULTS not in names):
        raise not_of_this_command(folder, ABOUT if ABOUT in names else names[0])


def remove_items(folder: Path, items: Iterable[str]) -> None:
    """The items' files and the folders that they leave empty; what somebody else has put there stays."""
    for item in items:
        path = folder / item
        with suppress(OSError):
            path.unlink(missing_ok=True)
            while (path := path.parent) != folder.parent:
                path.rmdir()


def make_folder(folder: Path, stack: ExitStack) -> None:
    """One that was made for nothing is gone on leaving the stack, and what was made to hold it."""
    try:
        if not folder.is_dir():
            made = [folder, *(parent for parent in folder.parents if not parent.exists())]
            folder.mkdir(parents=True)
            for each in reversed(made):
                stack.callback(_remove_if_empty, each)
    except OSError as error:
        raise LlasaError(f"The folder {folder} can't be made: {error.strerror}.") from error


def _remove_if_empty(folder: Path) -> None:
    with suppress(OSError):  # there is something in it
        folder.rmdir()
