"""What goes between who shares out a batch and who speaks it: small, and the same for a thread, a process or a machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from llasa_cli.errors import LlasaError
from llasa_cli.prompt import Reference
from llasa_cli.settings import ModelOptions, SpeechOptions


@dataclass(frozen=True)
class ReferenceFile:
    """A reference clip, read and encoded where it is spoken with.

    Attributes:
        transcript: As the list has it.
        heard: What a recogniser heard, where the list has none.
    """

    path: Path
    transcript: str | None
    heard: str | None = None


@dataclass(frozen=True)
class WorkItem:
    """An item to be spoken.

    Attributes:
        number: Its task's in the plan.
        path: Relative to the output folder; its ending is the format.
        options: Seed and speaker included.
        voice: None where the speaker, or nobody, says it.
    """

    number: int
    text: str
    path: str
    options: SpeechOptions
    voice: Reference | ReferenceFile | None = None


@dataclass(frozen=True)
class WorkerConfig:
    """What every worker is told once.

    Attributes:
        folder, work: Where files go, and a folder on the same disk where they are written first.
        slots: Sequences at once; None goes by the free memory.
        listener: A recogniser that has to find the words; with the language of the text.
        marks: Whether to tell when each sentence is said.
        threads: Of a CPU; None leaves them to torch.
        engine: llasa, or vllm.
        token: Stands in `work/token`: another machine may have a folder of that name too.
    """

    models: ModelOptions
    folder: Path
    work: Path
    slots: int | None = None
    listener: str | None = None
    language: str | None = None
    marks: bool = False
    threads: int | None = None
    engine: str = "llasa"
    token: str = ""


# --- what a worker tells ---


@dataclass(frozen=True)
class Ready:
    """It has loaded its model."""

    slots: int


@dataclass(frozen=True)
class Note:
    """A sentence for the user."""

    text: str


@dataclass(frozen=True)
class Completed:
    """An item is spoken, and its file is in its place.

    Attributes:
        seconds: Of sound, pauses included.
        seed: That its first passage was made with.
        retries: Takes beyond one a passage.
        checks: What is still wrong with it.
        wall_s: From its first passage's way into the model to its file.
        marks: (begin, end, sentences) in seconds, for subtitles.
        data: The file, where the worker can't reach the output folder.
    """

    number: int
    seconds: float
    seed: int
    retries: int
    checks: tuple[str, ...]
    wall_s: float
    marks: tuple[tuple[float, float, tuple[str, ...]], ...] = ()
    data: bytes | None = None


@dataclass(frozen=True)
class Failed:
    """An item can't be spoken."""

    number: int
    error: str


@dataclass(frozen=True)
class Lost:
    """A worker is gone with these pieces; they can be given to others."""

    numbers: tuple[int, ...]
    reason: str


@dataclass(frozen=True)
class FatalError:
    """What fails for all items."""

    error: LlasaError


@dataclass(frozen=True)
class Exited:
    """A worker has nothing left to do and will get nothing more."""


Event = Ready | Note | Completed | Failed | Lost | FatalError | Exited


def begin(orders: WorkerConfig, take: Callable[[], WorkItem | None], tell: Callable[[Event], None]) -> None:
    """A worker's life in a process of its own; what is broken there (torch can't be imported) is told, not retried."""
    try:
        from llasa_cli.batch.worker import work

        work(orders, take, tell)
    except Exception as error:
        tell(FatalError(LlasaError(f"A worker can't begin: {type(error).__name__}: {error}")))
        raise
    tell(Exited())


GIVEN_A_SLOT = 2
"""Pieces with a worker for each of its slots: those in them, and those whose prompts and sound are at work."""


def share(slots: int, left: int, workers: int) -> int:
    """Pieces that one of several workers may have, of so many that are left."""
    return min(GIVEN_A_SLOT * slots + 2, -(-left // max(1, workers)))


class WorkerBackend(Protocol):
    """Who speaks: see `local`, `processes`, `cluster`."""

    def room(self, left: int) -> int:
        """How many more pieces can be given, of so many that are not settled; each worker gets its share of the last."""

    def give(self, piece: WorkItem) -> None: ...

    def events(self, timeout_s: float) -> list[Event]:
        """What has happened; waits for something at most so long."""

    def finish(self) -> None:
        """Nothing more will be given, unless something is lost."""

    def close(self) -> None:
        """End it now."""

    def facts(self) -> dict[str, Any]:
        """For the summary."""
