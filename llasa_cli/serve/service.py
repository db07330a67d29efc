"""Speech for many requests at the same time, from one model that stays loaded.

    service = SpeechService(synthesizer, slots=8)
    job = service.submit(SynthesisRequest(None, "Hello.", options), emit)     `emit` receives events, the last is Done or Failed
    job.cancel()                                                   frees its slots within one step
    service.stop(deadline_s=10)

Requests join and leave the running batch (`lm.engine`). Three kinds of threads work: for each device one that steps the model for
all slots and one that decodes and checks complete takes, and for each chunk that is streamed one that decodes it while it is
generated. A device takes work when it has a free slot.

Slots are shared fairly: a free slot goes to the request with the fewest running chunks, and one request alone leaves a
quarter of the slots to others. A request whose client reads slowly is paused. The codes of a chunk depend on its own seed
and prompt alone, whatever else is in the batch.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from queue import Queue
from typing import TYPE_CHECKING, Any, Protocol

from llasa_cli.checkpoint.resolve import Checkpoint
from llasa_cli.codec.streaming import FAST_WINDOWS, StreamingWindows, decode_stream
from llasa_cli.errors import LlasaError, ModelError
from llasa_cli.lm.request import Finished
from llasa_cli.prompt import PromptFormat, Reference
from llasa_cli.settings import SpeechOptions
from llasa_cli.synthesis.batched import Attempt, SynthesisRequest, TextProgress
from llasa_cli.synthesis.synthesizer import Synthesizer, Utterance
from llasa_cli.synthesis.verifiers import Score, Take, Verifier

if TYPE_CHECKING:
    import numpy as np

_MOST_SLOTS_CPU, _MOST_SLOTS_GPU = 8, 64
MAX_BUFFERED_S = 60.0
"""Seconds of sound that may wait for a slow client before its request is paused."""


@dataclass(frozen=True)
class Audio:
    """samples: float32 [n], mono, at the synthesizer's sampling rate."""

    samples: np.ndarray


@dataclass(frozen=True)
class Spoken:
    """A chunk is final. Its `Audio` follows in one piece; that of a streamed one has been sent."""

    utterance: Utterance


@dataclass(frozen=True)
class Note:
    """A warning about the text, such as a pause that can't be read."""

    text: str


@dataclass(frozen=True)
class Done:
    """The request is complete.

    Attributes:
        utterances: One for each chunk, pauses included, in order.
        chunks: The number of chunks of the text, those that were skipped included.
    """

    utterances: tuple[Utterance, ...]
    chunks: int


@dataclass(frozen=True)
class Failed:
    """The request ended early."""

    error: LlasaError


Event = Audio | Spoken | Note | Done | Failed


class EventQueue(asyncio.Queue[Event]):
    """The events of a job in an event loop."""

    def __init__(self) -> None:
        super().__init__()
        self._owner = asyncio.get_running_loop()

    def emit(self, event: Event) -> None:
        """Add an event. This may be called by any thread."""
        if not self._owner.is_closed():
            self._owner.call_soon_threadsafe(self.put_nowait, event)


class QueueFull(LlasaError):
    """The service has as many requests as it accepts."""


class ShuttingDown(LlasaError):
    """The service is shutting down."""


@dataclass
class ServiceStatistics:
    """Counts since the start."""

    requests: int = 0
    done: int = 0
    failed: int = 0
    cancelled: int = 0
    rejected: int = 0
    codes: int = 0
    steps: int = 0
    audio_s: float = 0.0


class SpeechJob:
    """A request in progress; `SpeechService.submit` makes it."""

    def __init__(self, emit: Callable[[Event], None], sampling_rate: int, streamed: bool) -> None:
        self._emit, self._rate = emit, sampling_rate
        self.streamed = streamed
        self.progress: TextProgress | None = None
        self.pending: deque[Attempt] = deque()
        self.running = 0
        self.lock = threading.Lock()
        """Guards `progress`, which one thread at a time may advance."""
        self.utterances: list[Utterance] = []
        self.streamed_chunks: set[int] = set()
        self.over = False
        self.is_cancelled = False
        self._buffered_s = 0.0
        self._buffer_lock = threading.Lock()

    @property
    def buffered_s(self) -> float:
        """Seconds of sound that were sent and that the client has not read."""
        return self._buffered_s

    @property
    def is_paused(self) -> bool:
        """Whether the client reads too slowly, so that nothing more is generated for it."""
        return self._buffered_s > MAX_BUFFERED_S

    def consumed(self, samples: int) -> None:
        """Record that the client has read this number of samples."""
        with self._buffer_lock:
            self._buffered_s -= samples / self._rate

    def cancel(self) -> None:
        """Stop the request: nothing more is generated or sent."""
        self.is_cancelled = self.is_cancelled or not self.over
        self.over = True

    def send(self, samples: np.ndarray) -> None:
        if not self.over and len(samples):
            with self._buffer_lock:
                self._buffered_s += len(samples) / self._rate
            self._emit(Audio(samples))

    def notify(self, event: Spoken | Note) -> None:
        """Send an event that has no sound."""
        if not self.over:
            self._emit(event)

    def end(self, event: Done | Failed) -> bool:
        """Send the last event. -> False if the job was over already."""
        if self.over:
            return False
        self.over = True
        self._emit(event)
        return True


@dataclass
class _Running:
    """An attempt in a slot.

    Attributes:
        synthesizer: The one whose engine generates the codes, and whose codec decodes them.
        codes: The queue of its streaming decoder, if it has one. Its items are the next codes; None ends it.
        windows: Those of the streaming decoder.
        generated: The codes so far; the engine adds to them.
        sent: The number of codes that were put into the queue.
        result: Set before the queue is ended; None if the request was cancelled.
    """

    job: SpeechJob
    attempt: Attempt
    synthesizer: Synthesizer
    codes: Queue[Sequence[int] | None] | None = None
    windows: StreamingWindows = field(default_factory=StreamingWindows)
    generated: Sequence[int] = ()
    sent: int = 0
    result: Finished | None = None

    def __post_init__(self) -> None:
        # The first code, whose time the gate measures, and then those of a piece at once: each item wakes a thread.
        self._due = chain((1,), self.windows.needed())
        self._next = next(self._due)

    def pass_on(self, is_complete: bool = False) -> None:
        """Give the streaming decoder the codes for its next piece if they are generated, or all that are left."""
        if self.codes is None or not (is_complete or len(self.generated) >= self._next):
            return
        while len(self.generated) >= self._next:
            self._next = next(self._due)
        self.codes.put(tuple(self.generated[self.sent :]))
        self.sent = len(self.generated)


class _Worker:
    """A device with its model, its codec and the requests that run on them.

    Attributes:
        running: The attempts in the slots, by their tags.
        finished: Complete takes that are to be decoded and checked.
    """

    def __init__(self, synthesizer: Synthesizer) -> None:
        self.synthesizer = synthesizer
        self.running: dict[int, _Running] = {}
        self.finished: Queue[tuple[_Running, Finished] | None] = Queue()


class SpeechModel(Protocol):
    """The interface of a server's model: a `Synthesizer`, or a model whose weights are on other machines."""

    sampling_rate: int
    prompt_format: PromptFormat
    checkpoint: Checkpoint

    def encode_reference(self, samples: np.ndarray, text: str) -> Reference:
        """Make a voice to clone from a clip that `voices.reference` has prepared."""


class JobQueue:
    """The requests in progress: at most `max_jobs`, and none after `stop`. A subclass runs them.

    Attributes:
        synthesizer: The model.
        verifiers: The names of the verifiers that requests may choose.
        slots: Sequences that are generated together. It and `running` are None if the number is not known here.
        replicas: The number of replicas of a cluster that have the model loaded; None without a cluster.
    """

    synthesizer: SpeechModel
    verifiers: Collection[str] = ()
    slots: int | None = None

    def __init__(self, max_jobs: int) -> None:
        self.max_jobs = max_jobs
        self.statistics = ServiceStatistics()
        self._changed = threading.Condition()
        self._jobs: list[SpeechJob] = []
        self._stopping = False

    @property
    def active(self) -> int:
        """Requests in progress."""
        return len(self._jobs)

    @property
    def running(self) -> int | None:
        """Slots in use."""
        return None

    @property
    def replicas(self) -> int | None:
        return None

    def submit(
        self,
        request: SynthesisRequest,
        emit: Callable[[Event], None],
        streamed: bool = False,
        judges: Sequence[str] = (),
    ) -> SpeechJob:
        """Begin a request.

        Args:
            request: The seed must be set; the tag is not used.
            emit: Called from other threads: `Audio`, `Spoken` and `Note` in order, then `Done` or `Failed`.
            streamed: Send the first chunk while it is generated. It is decoded in windows and gets one attempt. It has no
                effect on a request with several takes or with judges, which need whole chunks.
            judges: The names in `verifiers` that judge the takes.

        Raises:
            QueueFull: There are too many requests.
            ShuttingDown: The service is shutting down.
            UsageError: There is nothing to say in the text.
        """
        is_streamed = streamed and request.options.best_of == 1 and not judges
        with self._changed:
            if self._stopping:
                raise ShuttingDown("The server is shutting down.")
            if len(self._jobs) >= self.max_jobs:
                self.statistics.rejected += 1
                raise QueueFull("Too many requests are in progress.", "Try again in a few seconds.")
            job = self._job(emit, is_streamed)
            self._jobs.append(job)
            self.statistics.requests += 1
        try:
            self._begin(job, request, judges)
        except BaseException:
            job.over = True
            self._remove(job)
            raise
        return job

    def stop(self, deadline_s: float = 10.0) -> None:
        """Accept no more requests, wait for those in progress, and end the rest with `Failed` after the deadline."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._jobs, timeout=deadline_s)
            rest = list(self._jobs)
        for job in rest:
            job.end(Failed(ShuttingDown("The server is shutting down.")))
            job.cancel()
        with self._changed:
            self._jobs.clear()
            self._changed.notify_all()

    def _job(self, emit: Callable[[Event], None], streamed: bool) -> SpeechJob:
        return SpeechJob(emit, self.synthesizer.sampling_rate, streamed)

    def _begin(self, job: SpeechJob, request: SynthesisRequest, judges: Sequence[str]) -> None:
        raise NotImplementedError

    def _fail(self, job: SpeechJob, error: Exception) -> None:
        """End a job with `Failed`; an unexpected error is named in a LlasaError."""
        if not isinstance(error, LlasaError):
            error = LlasaError(f"{type(error).__name__}: {error}")
        if job.end(Failed(error)):
            self.statistics.failed += 1

    def _remove(self, job: SpeechJob) -> None:
        with self._changed:
            job.pending.clear()
            if job in self._jobs:
                self._jobs.remove(job)
                self.statistics.cancelled += job.is_cancelled
            self._changed.notify_all()


class SpeechService(JobQueue):
    """See the module.

    Args:
        synthesizers: The model, loaded once on each device.
        slots: Sequences that each device steps together; None: as many as fit into memory, on a CPU at most 8.
        max_jobs: Requests at the same time; more are refused with `QueueFull`.
        verifiers: The verifiers that requests may choose, besides the checks.
    """

    def __init__(
        self,
        synthesizers: Synthesizer | Sequence[Synthesizer],
        slots: int | None = None,
        max_jobs: int = 256,
        verifiers: Sequence[Verifier] = (),
    ) -> None:
        super().__init__(max_jobs)
        self._judges = {one.name: _Exclusive(one) for one in verifiers}
        self.verifiers = tuple(self._judges)
        self._workers = [
            _Worker(one) for one in ([synthesizers] if isinstance(synthesizers, Synthesizer) else synthesizers)
        ]
        self.synthesizer = self._workers[0].synthesizer
        self._slots_each = slots or _slots_by_memory(self._workers[0].synthesizer)
        self.slots: int = self._slots_each * len(self._workers)
        self._threads = [
            threading.Thread(target=work, args=(worker,), daemon=True)
            for worker in self._workers
            for work in (self._generate, self._judge)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def running(self) -> int:
        """Slots in use."""
        return sum(len(worker.running) for worker in self._workers)

    def warm_up(self) -> None:
        """Speak a word on each device, so that the first request does not wait for buffers and compiled code."""
        for worker in self._workers:
            worker.synthesizer.synthesize("Hello.", SpeechOptions(retries=0, seed=0))

    def stop(self, deadline_s: float = 10.0) -> None:
        super().stop(deadline_s)
        for worker in self._workers:
            worker.finished.put(None)
        for thread in self._threads:
            thread.join(timeout=10)

    # --- texts ---

    def _begin(self, job: SpeechJob, request: SynthesisRequest, judges: Sequence[str]) -> None:
        job.progress = TextProgress(
            request,
            self._workers[0].synthesizer,
            [self._judges[name] for name in judges],
            max(2, self.slots),
            lambda text: job.notify(Note(text)),
        )
        self._advance(job, raises=True)

    def _advance(self, job: SpeechJob, raises: bool = False) -> None:
        """Send the complete chunks that are next in order, and queue the chunks that can be generated now."""

        def send(utterance: Utterance, samples: np.ndarray) -> None:
            is_sent = len(job.utterances) in job.streamed_chunks
            job.utterances.append(utterance)
            job.notify(Spoken(replace(utterance, streamed=True) if is_sent else utterance))
            if not is_sent:
                job.send(samples)
            self.statistics.audio_s += utterance.seconds

        new: list[Attempt] = []
        with job.lock:
            assert job.progress is not None
            try:
                if not job.over:
                    new = job.progress.advance(send)
            except LlasaError as error:
                if raises:
                    raise
                self._fail(job, error)
            if job.progress.is_complete and job.end(Done(tuple(job.utterances), job.progress.chunks)):
                self.statistics.done += 1
        with self._changed:
            job.pending.extend(new)
            if job.over:
                self._remove(job)
            self._changed.notify_all()

    # --- codes ---

    def _generate(self, worker: _Worker) -> None:
        model = worker.synthesizer.model
        engine = model.batch(self._slots_each)
        while True:
            with self._changed:
                while not (worker.running or self._startable()):
                    if self._stopping and not self._jobs:
                        return
                    self._changed.wait(timeout=1.0)
                    self._drop_cancelled(worker, engine)
                self._drop_cancelled(worker, engine)
                starting = list(self._pick(worker, engine.free))
            try:
                for running in starting:
                    worker.running[id(running)] = running
                    engine.add(running.attempt.request(id(running)))
                    if running.codes is not None:
                        running.generated = engine.codes(id(running))
                        threading.Thread(target=self._stream, args=(running,), daemon=True).start()
                finished = engine.step() if worker.running else []
            except Exception as error:
                self._fail_all(worker, error)
                engine = model.batch(self._slots_each)
                continue
            self.statistics.steps += 1
            self._pass_on_codes(worker, finished)

    def _pass_on_codes(self, worker: _Worker, finished: list[Finished]) -> None:
        for result in finished:
            running = worker.running.pop(result.request.tag)
            with self._changed:
                running.job.running -= 1
            self.statistics.codes += len(result.codes)
            if running.codes is None:
                worker.finished.put((running, result))
            else:
                running.generated, running.result = result.codes, result
                running.pass_on(is_complete=True)
                running.codes.put(None)
        for running in worker.running.values():
            running.pass_on()

    def _startable(self) -> list[SpeechJob]:
        """Jobs that have a chunk waiting and may use another slot. The caller holds the condition."""
        most = max(1, self.slots - max(1, self.slots // 4))
        return [job for job in self._jobs if job.pending and not job.is_paused and job.running < most]

    def _pick(self, worker: _Worker, free: int) -> Iterator[_Running]:
        for _ in range(free):
            candidates = self._startable()
            if not candidates:
                return
            job = min(candidates, key=lambda job: job.running)
            self._jobs.remove(job)  # move it to the end: among equals, the job that has waited longest is next
            self._jobs.append(job)
            attempt = job.pending.popleft()
            if not attempt.is_wanted:
                continue
            is_streamed = job.streamed and attempt.number == len(job.utterances) and not job.streamed_chunks
            if is_streamed:
                job.streamed_chunks.add(attempt.number)
            job.running += 1
            codes: Queue[Sequence[int] | None] | None = Queue() if is_streamed else None
            yield _Running(job, attempt, worker.synthesizer, codes, _windows(worker.synthesizer))

    def _drop_cancelled(self, worker: _Worker, engine: Any) -> None:
        for tag, running in list(worker.running.items()):
            if running.job.over or not running.attempt.is_wanted:
                engine.drop(tag)
                del worker.running[tag]
                running.job.running -= 1
                if running.codes is not None:
                    running.codes.put(None)
        for job in [job for job in self._jobs if job.over]:
            self._remove(job)

    def _fail_all(self, worker: _Worker, error: Exception) -> None:
        """Fail all requests in an engine that failed; the others start in the next engine."""
        if not isinstance(error, LlasaError):
            error = ModelError(f"The model failed: {type(error).__name__}: {error}.")
        for running in worker.running.values():
            self._fail(running.job, error)
            running.job.running -= 1
            if running.codes is not None:
                running.codes.put(None)
            self._remove(running.job)
        worker.running.clear()

    # --- sound ---

    def _judge(self, worker: _Worker) -> None:
        while (item := worker.finished.get()) is not None:
            running, result = item
            job, attempt = running.job, running.attempt
            if job.over:
                self._remove(job)
                continue
            if attempt.is_settled:
                continue
            try:
                codes = attempt.candidates.with_reference(result.codes)
                attempt.judge(result, partial(worker.synthesizer.codec.decode, codes))
                if not attempt.candidates.finished:
                    with self._changed:
                        job.pending.extendleft(reversed(attempt.next_attempts()))
                        self._changed.notify_all()
                    continue
                with job.lock:
                    attempt.text.settle(attempt)
                self._advance(job)
            except Exception as error:
                self._fail(job, error)
                self._remove(job)

    def _stream(self, running: _Running) -> None:
        """Decode and send a chunk while its codes arrive."""
        import numpy as np

        from llasa_cli.audio.stream_gate import RealTimeStreamGate

        job, attempt, queue = running.job, running.attempt, running.codes
        assert queue is not None
        codec, rate = running.synthesizer.codec, running.synthesizer.sampling_rate
        reference = attempt.candidates.with_reference(())

        def codes() -> Iterator[int]:
            while (some := queue.get()) is not None:
                yield from some

        try:
            job.send(np.zeros(round(attempt.candidates.pause_s * rate), np.float32))
            pieces: list[np.ndarray] = []
            windows = running.windows
            longest_s = (windows.longest + windows.search) / codec.codes_per_second
            gate = RealTimeStreamGate(growth=windows.largest_ratio, longest_s=longest_s)
            decoded = decode_stream(codec, gate.watch(codes(), codec.codes_per_second), tuple(reference), windows)
            for piece in gate.hold(decoded, rate):
                pieces.append(piece)
                job.send(piece)
            result = running.result
            if job.over or result is None:
                return
            reference_sound = np.zeros(len(reference) * codec.samples_per_code, np.float32)
            attempt.judge(result, np.concatenate([reference_sound, *pieces]))
            with job.lock:
                attempt.text.settle(attempt)
            self._advance(job)
        except Exception as error:
            self._fail(job, error)
            self._remove(job)


class _Exclusive:
    """A verifier that several threads share, one at a time."""

    def __init__(self, verifier: Verifier) -> None:
        self.name = verifier.name
        self._verifier, self._lock = verifier, threading.Lock()

    def score(self, take: Take) -> Score:
        with self._lock:
            return self._verifier.score(take)


def _windows(synthesizer: Synthesizer) -> StreamingWindows:
    """Large pieces for a small model: decoding the same codes again would take longer than generating them."""
    return FAST_WINDOWS if synthesizer.model.is_small else StreamingWindows()


def _slots_by_memory(synthesizer: Synthesizer) -> int:
    from llasa_cli.batch.worker import default_slots

    most = _MOST_SLOTS_CPU if synthesizer.model.device.type == "cpu" else _MOST_SLOTS_GPU
    return min(most, default_slots(synthesizer))
