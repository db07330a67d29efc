"""Rows of training data before they are encoded: where each one lies, its text, and why a row can't be used."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path

NO_AUDIO, NO_TEXT, NOT_UTF8 = "no audio file given", "no text", "not UTF-8"
_KNOWN_COLUMNS = {
    "text": ("text", "sentence", "transcript", "transcription", "normalized_text"),
    "audio": ("audio", "audio_filepath", "audio_path", "audio_file", "wav", "file_name", "filename", "file", "path"),
    "speaker": ("speaker",),
    "codes": ("codes",),
    "id": ("id",),
}
"""The first of each is this project's name; the others are those of NeMo, Common Voice and audio folders on the hub."""


class Unusable(Exception):
    """A row can't be used. The message is the reason, in the same words for the same cause."""


@dataclass(frozen=True)
class Columns:
    """Names of a table's or dataset's columns; None takes the first known name that is there."""

    text: str | None = None
    audio: str | None = None
    speaker: str | None = None

    def find(self, names: Iterable[str]) -> dict[str, str]:
        """{"text": its name, "audio": ..., ...} for the columns that are there."""
        there = {name.strip().lower(): name for name in names}
        found: dict[str, str] = {}
        for kind, known in _KNOWN_COLUMNS.items():
            own = getattr(self, kind, None)
            for name in known if own is None else (own.strip().lower(),):
                if name in there:
                    found[kind] = there[name]
                    break
        return found


@dataclass(frozen=True)
class DatasetAudio:
    """Audio inside a dataset instead of in a file."""

    source: str
    split: str
    index: int


@dataclass(frozen=True)
class Row:
    """One recording, or its codes.

    Attributes:
        where: The table line or file it comes from, for messages.
        audio: None where there are only codes.
        text: The text in one line, without blanks at its ends.
        speaker: The speaker tag.
        codes: Codes made elsewhere, or the file that holds them. They are used in place of the audio.
        split: train, val or another; empty where the source names none.
    """

    where: str
    audio: Path | DatasetAudio | None
    text: str
    speaker: str | None = None
    codes: Path | tuple[int, ...] | None = None
    split: str = ""


@dataclass(frozen=True)
class Problem:
    """A row that is left out, and the reason: the same words for the same cause, because reasons are counted."""

    where: str
    reason: str


@dataclass(frozen=True)
class Entry:
    """A row that has not been read yet, so that each of many processes can go through all entries cheaply.

    Attributes:
        label: Assigns the row to one of several processes; equal for rows of one id, and wherever the source lies.
        names: Names that no two rows may share: an id, the audio's name.
        read: Finds the files and reads the text.
    """

    where: str
    label: str
    names: tuple[str, ...]
    read: Callable[[], Row | Problem]
    split: str = ""


def normalized(row: Row) -> Row | Problem:
    """The row with its text and speaker in one line each; a Problem without text."""
    text = " ".join(row.text.split())
    if not text:
        return Problem(row.where, NO_TEXT)
    return replace(row, text=text, speaker=" ".join((row.speaker or "").split()) or None)
