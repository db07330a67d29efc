"""One model at work: pieces in, files and events out.

    work(orders, take, tell)        take() -> WorkItem or None at the end; tell(event)

The same wherever it runs. Files are written beside the output folder's and renamed into it, so a worker that is killed
leaves nothing that counts, and one that speaks an item a second time puts the same file in its place.
"""

from __future__ import annotations

import os
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llasa_cli.batch.messages import (
    Completed,
    Event,
    Failed,
    FatalError,
    Note,
    Ready,
    ReferenceFile,
    WorkerConfig,
    WorkItem,
)
from llasa_cli.errors import LlasaError
from llasa_cli.files import move_to
from llasa_cli.prompt import Reference
from llasa_cli.synthesis.batched import BatchSynthesizer, SynthesisRequest
from llasa_cli.synthesis.synthesizer import Synthesizer, Utterance

if TYPE_CHECKING:
    import numpy as np

    from llasa_cli.audio.sinks import FileSink

_VOICES_KEPT = 256
_MOST_SLOTS = {"cpu": 16, "cuda": 128, "mps": 16}
_MOST_SLOTS_SMALL = 64
"""Beyond these a step takes about as much longer as there are more sequences in it. The built-in voice, one core, codes a
second: 4 slots 524, 16 739, 32 1,103, 64 1,263, 128 1,393."""
_MEMORY_SHARE = 0.5
"""Of the free memory, for the cache of keys and values: the codec and torch's own buffers want some."""


def work(
    orders: WorkerConfig,
    take: Callable[[], WorkItem | None],
    tell: Callable[[Event], None],
    on_start: Callable[[BatchSynthesizer], None] | None = None,
) -> None:
    """Load the model and speak until there is nothing left; what fails for all is told as Broken.

    Args:
        on_start: Given what can be stopped.
    """
    try:
        _work(orders, take, tell, on_start or (lambda many: None))
    except LlasaError as error:
        tell(FatalError(error))
    except Exception as error:
        if os.environ.get("LLASA_DEBUG") == "1":
            traceback.print_exc()  # here, for what is told goes to who waits for it in another thread or process
        where = f"{type(error).__name__}: {error}"
        tell(FatalError(LlasaError(f"A worker failed: {where}", "LLASA_DEBUG=1 shows where.")))


def _work(
    orders: WorkerConfig,
    take: Callable[[], WorkItem | None],
    tell: Callable[[Event], None],
    on_start: Callable[[BatchSynthesizer], None],
) -> None:
    speech = Synthesizer.load(orders.models, read_model=_reader(orders.engine))
    speech.codec.wait()  # what is wrong with it ends the run, and is not said of each item
    _set_threads(speech, orders.threads)
    check = None
    if orders.listener is not None:
        check = word_check(orders.listener, speech, orders.language)
    slots = orders.slots or slots_for(speech, orders.engine)

    def note(text: str) -> None:
        tell(Note(text))
        tell(Ready(many.slots))

    many = BatchSynthesizer(speech, slots, check, on_note=note)
    on_start(many)
    tell(Ready(slots))
    files = _Files(orders, speech.sampling_rate, tell)
    try:
        many.run(_Jobs(speech, take, tell), files)
    finally:
        files.abort()


def _set_threads(speech: Synthesizer, threads: int | None) -> None:
    import torch

    if "OMP_NUM_THREADS" in os.environ:
        return
    if speech.model.is_small:
        # Its steps take microseconds: threads wait for each other longer than they work.
        torch.set_num_threads(1)
    elif threads is not None:
        torch.set_num_threads(threads)


def word_check(listener: str, speech: Synthesizer, language: str | None) -> Callable[[str, Any], tuple[str, ...]]:
    """`--verify`: the words that a recogniser does not find in a take."""
    from llasa_cli.asr import load_recognizer
    from llasa_cli.text.word_check import word_problems

    loaded = load_recognizer(listener)
    return lambda text, samples: word_problems(text, loaded.hear(samples, speech.sampling_rate, language))


def _reader(engine: str) -> Any:
    """What loads the language model; None: our own does."""
    if engine == "llasa":
        return None
    from llasa_cli.lm.vllm import VllmModel

    return VllmModel


def slots_for(speech: Synthesizer, engine: str = "llasa") -> int:
    """How many sequences the free memory has room for, up to where more gain nothing.

    By the checkpoint's own sampling: a list that asks for guidance where it has none gets by with fewer if need be (`BatchSynthesizer`).
    """
    if engine == "vllm":
        from llasa_cli.lm.vllm import SLOTS

        return SLOTS  # it makes room for them by itself
    from llasa_cli.settings import CONTEXT_TOKENS, SamplingRequest

    device, shape = speech.model.device, speech.model.network.shape
    bytes_a_number = speech.model.dtype.itemsize
    rows = 1 if speech.sampling(SamplingRequest()).guidance == 1 else 2
    a_slot = rows * 2 * shape.layers * shape.key_value_heads * shape.head * CONTEXT_TOKENS * bytes_a_number
    most = _MOST_SLOTS_SMALL if speech.model.is_small else _MOST_SLOTS.get(device.type, 16)
    return max(1, min(most, int(free_bytes(device) * _MEMORY_SHARE) // a_slot))


def free_bytes(device: Any) -> int:
    """Memory that nobody uses: of the GPU, else of the machine or what a container may take of it."""
    import torch

    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    found = [4 << 30]
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found = [int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")]
        group = Path("/sys/fs/cgroup")
        most = (group / "memory.max").read_text(encoding="ascii").strip()
        if most.isdigit():
            found.append(int(most) - int((group / "memory.current").read_text(encoding="ascii")))
    except (OSError, ValueError):
        pass  # another system: the guess, or what was found so far
    return max(0, min(found))


class _Jobs:
    """Pieces -> jobs; a clip is encoded here, once for all who want it."""

    def __init__(self, speech: Synthesizer, take: Callable[[], WorkItem | None], tell: Callable[[Event], None]) -> None:
        self._speech, self._take, self._tell = speech, take, tell
        self._encoded = lru_cache(_VOICES_KEPT)(self._encode)

    def next_request(self) -> SynthesisRequest | None:
        while True:
            piece = self._take()
            if piece is None:
                return None
            try:
                voice = piece.voice
                reference = self._encoded(voice) if isinstance(voice, ReferenceFile) else voice
            except LlasaError as error:
                self._tell(Failed(piece.number, _sentence(error)))
                continue
            return SynthesisRequest(piece, piece.text, piece.options, reference)

    def _encode(self, clip: ReferenceFile) -> Reference:
        from llasa_cli.errors import UsageError
        from llasa_cli.voices.batch_clips import load_reference

        found = load_reference(clip.path, clip.transcript, clip.heard)
        reference = self._speech.encode_reference(found.samples, found.transcript or clip.heard or "")
        if not reference.text:
            raise UsageError("This model reads no letter of the clip's transcript.", "Name another with -m.")
        return reference


def _sentence(error: LlasaError) -> str:
    return f"{error.message} {error.hint}".strip()


class _Files:
    """Passages -> files -> events."""

    def __init__(self, orders: WorkerConfig, sampling_rate: int, tell: Callable[[Event], None]) -> None:
        self._orders, self._rate, self._tell = orders, sampling_rate, tell
        self._open: dict[int, _Open] = {}
        self._is_near = _sees(orders)
        self._parts = orders.work if self._is_near else _own_folder()

    def write(self, piece: WorkItem, take: Utterance, samples: np.ndarray) -> None:
        from llasa_cli.audio.chunk import AudioChunk
        from llasa_cli.audio.sinks import FileSink

        if piece.number not in self._open:
            ending = piece.path.rpartition(".")[2]
            with self._named(piece):
                sink = FileSink(self._parts / f"{piece.number}.{ending}", ending)
            self._open[piece.number] = _Open(sink, [])
        this = self._open[piece.number]
        with self._named(piece):
            this.sink.write(AudioChunk(samples, self._rate))
        this.takes.append(take)

    @contextmanager
    def _named(self, piece: WorkItem) -> Iterator[None]:
        """A full disk ends the run: it is told with the name of the file that it was to be."""
        try:
            yield
        except LlasaError as error:
            reason = error.message.rpartition(": ")[2]
            hint = "What is made stays: make room, and the same command goes on from there."
            raise LlasaError(f"{self._orders.folder / piece.path} can't be written: {reason}", hint) from error

    def end(self, piece: WorkItem) -> None:
        this = self._open[piece.number]
        with self._named(piece):
            this.sink.close()
        del self._open[piece.number]
        data = None
        written = this.sink.path
        if self._is_near:
            problem = move_to(written, self._orders.folder / piece.path)
            if problem:
                self._tell(Failed(piece.number, problem))
                return
        else:
            data = written.read_bytes()
            written.unlink()
        self._tell(self._made(piece, this, data))

    def _made(self, piece: WorkItem, this: _Open, data: bytes | None) -> Completed:
        spoken = [take for take in this.takes if take.text]
        marks, clock = [], 0.0
        for take in this.takes:
            begin = clock + take.pause_s
            clock = begin + take.seconds
            if self._orders.marks and take.sentences:
                marks.append((round(begin, 3), round(clock, 3), take.sentences))
        return Completed(
            number=piece.number,
            seconds=round(clock, 3),
            seed=spoken[0].seed,
            retries=sum(take.attempts - 1 for take in spoken),
            checks=tuple(problem for take in spoken for problem in take.problems),
            wall_s=round(time.monotonic() - this.began + spoken[0].wall_s, 3),
            marks=tuple(marks),
            data=data,
        )

    def fail(self, piece: WorkItem, error: LlasaError) -> None:
        this = self._open.pop(piece.number, None)
        if this is not None:
            this.sink.abort()
        self._tell(Failed(piece.number, _sentence(error)))

    def note(self, piece: WorkItem, text: str) -> None:
        self._tell(Note(f"warning: {piece.path}: {text}"))

    def abort(self) -> None:
        """Leave nothing of what is not finished."""
        for this in self._open.values():
            this.sink.abort()


class _Open:
    """A file being written."""

    def __init__(self, sink: FileSink, takes: list[Utterance]) -> None:
        self.sink, self.takes = sink, takes
        self.began = time.monotonic()


def _sees(orders: WorkerConfig) -> bool:
    """Whether the output folder is on this machine, or on a disk that it shares."""
    from llasa_cli.batch.plan import TOKEN

    try:
        return (orders.work / TOKEN).read_text(encoding="ascii") == orders.token
    except OSError:
        return False


def _own_folder() -> Path:
    import tempfile

    return Path(tempfile.mkdtemp(prefix="llasa-"))
