"""The source of a batch's list, and the destination of its audio."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from llasa_cli.audio.formats import FILE_FORMATS, FORMATS, OTHER_ENDINGS
from llasa_cli.batch.options import BatchOptions
from llasa_cli.errors import UsageError, os_errors_as

_BLOCK_BYTES = 1 << 20


class ListSource:
    """A list that can be opened at its beginning several times. A pipe is copied to a temporary file.

    Args:
        name: A path; - is standard input.

    Raises:
        UsageError: It can't be read.
    """

    def __init__(self, name: str) -> None:
        self.name = "standard input" if name == "-" else name
        self.path = Path() if name == "-" else Path(name)
        self._copy: BinaryIO | None = None
        with os_errors_as(f"{name} can't be read", kind=UsageError):
            if name != "-" and self.path.is_file():
                self.path.open("rb").close()
                return
            self._copy = tempfile.TemporaryFile()  # noqa: SIM115 (closed by __exit__)
            with sys.stdin.buffer if name == "-" else self.path.open("rb") as pipe:
                shutil.copyfileobj(pipe, self._copy, _BLOCK_BYTES)
            self._copy.flush()

    def open(self) -> BinaryIO:
        if self._copy is None:
            return self.path.open("rb")
        self._copy.seek(0)
        return os.fdopen(os.dup(self._copy.fileno()), "rb")

    def __enter__(self) -> ListSource:
        return self

    def __exit__(self, *_: object) -> None:
        if self._copy is not None:
            self._copy.close()


@dataclass(frozen=True)
class Destination:
    """A folder of files, or one file whose items are in a folder beside it until it is complete.

    Attributes:
        folder: The folder of the items.
        item_format: The format of items that ask for none.
        joined: The one file, if there is one.
        joined_format: Its format.
    """

    folder: Path
    item_format: str
    joined: Path | None = None
    joined_format: str = ""

    @classmethod
    def from_options(cls, options: BatchOptions) -> Destination:
        """Choose the destination.

        Raises:
            UsageError: The options contradict each other, or a file can't be written there.
        """
        from llasa_cli.audio.writers import pick_format

        output = options.output
        if str(output) == "-":
            raise UsageError("A batch can't be written to standard output.", "Give a folder, or one file: -o book.wav.")
        if is_one_file(output):
            return cls._one_file(options)
        if output.suffix.lstrip(".").lower() in OTHER_ENDINGS and not output.is_dir():
            pick_format(str(output), None)  # raises: the format is not supported
        of_one_file = {"--subtitles": options.subtitles, "--pause": options.pause_s, "--loudness": options.loudness}
        for flag, value in of_one_file.items():
            if value is not None:
                raise UsageError(f"{flag} needs a single output file.", "For example: -o book.wav.")
        if options.words is not None and options.words.exists() and not options.words.is_dir():
            raise UsageError(
                f"{options.words} is not a folder.", "Give --words a folder: each item gets a .json file in it."
            )
        if options.words is not None and options.words.suffix.lower() == ".json" and not options.words.exists():
            raise UsageError(
                f"--words {options.words} is the name of a file.", "Give a folder: each item gets a .json file in it."
            )
        item_format = pick_format(None, options.file_format)
        if item_format not in FILE_FORMATS:
            raise UsageError(f"A {item_format} file does not contain its sampling rate.", "Choose wav for a folder.")
        return cls(output, item_format)

    @classmethod
    def _one_file(cls, options: BatchOptions) -> Destination:
        from llasa_cli.audio.beside import open_side_files
        from llasa_cli.audio.resumable import partial_folder
        from llasa_cli.audio.writers import FileSink, pick_format

        output = options.output
        joined_format = pick_format(str(output), options.file_format)
        folder = partial_folder(output)
        _refuse_foreign_content(folder)
        # Anything that can't be written is refused now.
        FileSink(output, joined_format).abort()
        for file in open_side_files(*options.side_files):
            file.abort()
        return cls(folder, "wav", output, joined_format)

    def refuse_overwriting_inputs(self, options: BatchOptions) -> None:
        """Refuse to replace the list or the clip of --ref.

        Raises:
            UsageError: An output is also an input, or two outputs are the same file.
        """
        from llasa_cli.batch.results import RESULTS
        from llasa_cli.files import refuse_overwriting

        source = Path(options.source) if options.source != "-" else None
        refuse_overwriting(
            [self.folder / RESULTS, self.joined, options.subtitles, options.words], [source, options.ref]
        )

    def refuse_overwriting_clips(self, clips: Iterable[Path], options: BatchOptions) -> None:
        """Refuse to replace a clip of an item by the one file. (For the files of items see `Plan.protect_clips`.)

        Raises:
            UsageError: They are the same file.
        """
        from llasa_cli.files import refuse_overwriting

        if self.joined is not None:
            refuse_overwriting([self.joined, options.subtitles, options.words], clips)


def is_one_file(output: Path) -> bool:
    """Whether an output path means one file of all items: it has the ending of a sound file and is not a folder."""
    return output.suffix.lstrip(".").lower() in FORMATS and not output.is_dir()


def _refuse_foreign_content(folder: Path) -> None:
    """Refuse a folder with files that are not a batch's, since the folder is removed at the end."""
    from llasa_cli.audio.resumable import METADATA_FILE, foreign_content_error
    from llasa_cli.batch.results import LOCK, RESULTS

    with os_errors_as(f"{folder} can't be read"):
        names = sorted(set(os.listdir(folder)) - {LOCK}) if folder.is_dir() else []
    if METADATA_FILE in names or (names and RESULTS not in names):
        raise foreign_content_error(folder, METADATA_FILE if METADATA_FILE in names else names[0])


def remove_items(folder: Path, items: Iterable[str]) -> None:
    """Remove files of a folder, and the folders that become empty. Other files stay."""
    for item in items:
        path = folder / item
        with suppress(OSError):
            path.unlink(missing_ok=True)
            while (path := path.parent) != folder.parent:
                path.rmdir()
