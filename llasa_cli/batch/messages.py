"""Messages between the batch scheduler and its workers. They are the same for a thread, a process and another machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from llasa_cli.audio.side_file import SpokenPart
from llasa_cli.errors import LlasaError
from llasa_cli.prompt import Reference
from llasa_cli.settings import NO_VERIFIERS, ModelOptions, SpeechOptions, VerifierOptions, WordTiming
from llasa_cli.text.chunker import TextChunk

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class ReferenceFile:
    """A reference clip that the worker reads and encodes.

    Attributes:
        transcript: The transcript in the list.
        recognized: The transcript of a recognizer, if the list has none.
    """

    path: Path
    transcript: str | None
    recognized: str | None = None


@dataclass(frozen=True)
class WorkItem:
    """An item for a worker.

    Attributes:
        number: The number of its task in the plan.
        path: Relative to the output folder; the ending is the format.
        options: Sampling, seed and speaker. The seed is set.
        voice: A voice to clone; None if the speaker, or the model's default, sets the voice.
        passage: A chunk to synthesize instead of `text`; its sound is sent back instead of being written to `path`.
    """

    number: int
    text: str
    path: str
    options: SpeechOptions
    voice: Reference | ReferenceFile | None = None
    passage: TextChunk | None = None


@dataclass(frozen=True)
class WorkerConfig:
    """The settings that all items of a worker share.

    Attributes:
        folder: The output folder.
        work: A folder on the same disk, where files are written before they are renamed into `folder`.
        slots: Sequences that are generated at the same time; None: as many as the free memory allows.
        verifiers: The verifiers that judge the takes besides the checks.
        marks: Whether to report the times of sentences, for subtitles.
        timing: How the times of words are found, for the same reports; None if they are not requested.
        threads: CPU threads; None: torch's default.
        engine: One of `batch.options.ENGINES`.
        passages: The items are passages of one text. On a CPU their codes are those of one passage at a time, bit for bit.
        together: Takes of a passage that are generated at once.
        token: The content of the file `work/token`. It shows a worker that its `work` is the same folder, and not one of
            the same name on another machine.
    """

    models: ModelOptions
    folder: Path
    work: Path
    slots: int | None = None
    verifiers: VerifierOptions = NO_VERIFIERS
    marks: bool = False
    timing: WordTiming | None = None
    threads: int | None = None
    engine: str = "llasa"
    passages: bool = False
    together: int = 1
    token: str = ""


# --- events of a worker ---


@dataclass(frozen=True)
class Ready:
    """The model is loaded, or the number of slots has changed."""

    slots: int


@dataclass(frozen=True)
class Note:
    """A sentence for the user."""

    text: str


@dataclass(frozen=True)
class Completed:
    """An item is complete, and its file is in its place.

    Attributes:
        seconds: Duration of the audio, pauses included.
        seed: The seed of its first chunk.
        retries: Attempts beyond the first, over all chunks.
        checks: The checks that the chosen takes still fail.
        wall_s: Seconds from the start of its first chunk to the complete file.
        marks: The times of the sentences, for subtitles.
        candidates: The takes of each chunk that had several (`Utterance.candidates`), and why one was chosen.
        data: The file's bytes, if the worker can't reach the output folder.
    """

    number: int
    seconds: float
    seed: int
    retries: int
    checks: tuple[str, ...]
    wall_s: float
    marks: tuple[SpokenPart, ...] = ()
    candidates: tuple[dict[str, Any], ...] = ()
    data: bytes | None = None


@dataclass(frozen=True)
class Spoken:
    """A passage is complete.

    Attributes:
        row: `Utterance.to_row()`.
        samples: float32 [n], with the pause before it.
    """

    number: int
    row: dict[str, Any]
    samples: np.ndarray
    sampling_rate: int


@dataclass(frozen=True)
class Failed:
    """An item can't be synthesized."""

    number: int
    error: str


@dataclass(frozen=True)
class Lost:
    """A worker has died. Its items can be given to other workers."""

    numbers: tuple[int, ...]
    reason: str


@dataclass(frozen=True)
class FatalError:
    """An error that ends the whole run."""

    error: LlasaError


@dataclass(frozen=True)
class Exited:
    """A worker has ended because there is no work left."""


Event = Ready | Note | Completed | Spoken | Failed | Lost | FatalError | Exited


SETTLED = (Completed, Spoken, Failed)
"""The events after which a worker no longer has an item."""

# --- the scheduler's side ---


class WorkerBackend(Protocol):
    """Runs workers: `thread_backend`, `process_backend`, `ray_backend`."""

    def capacity(self, left: int) -> int:
        """The number of items that the workers can still take, if `left` items are not complete yet."""

    def submit(self, item: WorkItem) -> None:
        """Give an item to a worker that has capacity."""

    def events(self, timeout_s: float) -> list[Event]:
        """The events since the last call. Waits at most `timeout_s` for the first one."""

    def finish(self) -> None:
        """Let the workers exit after their current items. Only items of lost workers may still be submitted."""

    def close(self) -> None:
        """Stop the workers now."""

    def facts(self) -> dict[str, Any]:
        """Figures for the summary."""


_ITEMS_PER_SLOT = 2
"""One item is generated in a slot, while another one's prompt or audio is processed."""


def fair_share(slots: int, left: int, workers: int) -> int:
    """The most items that one of several workers may have at the same time. The last `left` items are divided evenly."""
    return min(_ITEMS_PER_SLOT * slots + 2, -(-left // max(1, workers)))
