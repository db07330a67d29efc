"""Speech for many requests at the same time, from one model that stays loaded.

    service = SpeechService(synthesizer, slots=8)
    job = service.submit(SynthesisRequest(None, "Hello.", options), emit)     `emit` receives events, the last is Done or Failed
    job.cancel()                                                   frees its slots within one step
    service.stop(deadline_s=10)

Requests join and leave the running batch (`lm.engine.SlotEngine`). Three kinds of threads work: one steps the model for all
slots, one decodes and checks complete takes, and each chunk that is streamed has one that decodes it while it is generated.

Slots are shared fairly: a free slot goes to the request with the fewest running chunks, and one request alone leaves a
quarter of the slots to others. A request whose client reads slowly is paused. The codes of a chunk depend on its own seed
and prompt alone, whatever else is in the batch.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from queue import Queue
from typing import TYPE_CHECKING, Any

from llasa_cli.errors import LlasaError, ModelError
from llasa_cli.lm.engine import Finished, GenerationRequest
from llasa_cli.synthesis.batched import Attempt, SynthesisRequest, TextProgress
from llasa_cli.synthesis.synthesizer import Synthesizer, Utterance

if TYPE_CHECKING:
    import numpy as np

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
    """The request ended early. `is_shutdown`: because the service stops."""

    error: LlasaError
    is_shutdown: bool = False


Event = Audio | Spoken | Note | Done | Failed


class QueueFull(LlasaError):
    """There are as many requests as the service accepts."""


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
        self._buffered_s = 0.0
        self._buffer_lock = threading.Lock()

    @property
    def is_paused(self) -> bool:
        """Whether the client has not read what it was sent."""
        return self._buffered_s > MAX_BUFFERED_S

    def consumed(self, samples: int) -> None:
        """The client has read so many samples."""
        with self._buffer_lock:
            self._buffered_s -= samples / self._rate

    def cancel(self) -> None:
        """The client is gone: nothing more is generated or sent."""
        self.over = True

    def send(self, samples: np.ndarray) -> None:
        if not self.over and len(samples):
            with self._buffer_lock:
                self._buffered_s += len(samples) / self._rate
            self._emit(Audio(samples))

    def tell(self, event: Spoken | Note) -> None:
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
        codes: The queue of its streaming decoder, if it has one; None ends it.
        sent: How many codes were put into the queue.
        result: Set before the queue is ended; None if the request was cancelled.
    """

    job: SpeechJob
    attempt: Attempt
    codes: Queue[int | None] | None = None
    sent: int = 0
    result: Finished | None = None


class SpeechService:
    """See the module.

    Args:
        slots: Sequences that are stepped together.
        max_jobs: Requests at the same time; more are refused with `QueueFull`.
    """

    def __init__(self, synthesizer: Synthesizer, slots: int, max_jobs: int = 256) -> None:
        self.synthesizer, self.slots, self.max_jobs = synthesizer, slots, max_jobs
        self.statistics = ServiceStatistics()
        self._changed = threading.Condition()
        self._jobs: list[SpeechJob] = []
        self._running: dict[int, _Running] = {}
        self._finished: Queue[tuple[_Running, Finished] | None] = Queue()
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._generate, name="engine", daemon=True),
            threading.Thread(target=self._judge, name="sound", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    @property
    def active(self) -> int:
        """Requests in progress."""
        return len(self._jobs)

    @property
    def running(self) -> int:
        """Slots in use."""
        return len(self._running)

    def submit(self, request: SynthesisRequest, emit: Callable[[Event], None], streamed: bool = False) -> SpeechJob:
        """Begin a request.

        Args:
            request: The seed must be set; the tag is not used.
            emit: Called from other threads: `Audio`, `Spoken` and `Note` in order, then `Done` or `Failed`.
            streamed: Send the first chunk while it is generated. It is decoded in windows and gets one attempt.

        Raises:
            QueueFull: There are too many requests, or the service stops.
            UsageError: There is nothing to say in the text.
        """
        with self._changed:
            if self._stopping or len(self._jobs) >= self.max_jobs:
                self.statistics.rejected += 1
                raise QueueFull("Too many requests are in progress.", "Try again in a few seconds.")
            job = SpeechJob(emit, self.synthesizer.sampling_rate, streamed)
            self._jobs.append(job)
            self.statistics.requests += 1
        try:
            job.progress = TextProgress(
                request, self.synthesizer, None, max(2, self.slots), lambda text: job.tell(Note(text))
            )
            self._advance(job, raises=True)
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
            job.end(Failed(LlasaError("The server is shutting down."), is_shutdown=True))
        with self._changed:
            self._jobs.clear()
            self._changed.notify_all()
        self._finished.put(None)
        for thread in self._threads:
            thread.join(timeout=10)

    # --- texts ---

    def _advance(self, job: SpeechJob, raises: bool = False) -> None:
        """Send what is complete and next in order, and queue the chunks that can be generated now."""
        new: list[Attempt] = []
        with job.lock:
            assert job.progress is not None
            try:
                moved = not job.over
                while moved:
                    moved = False
                    for number, (utterance, samples) in enumerate(job.progress.take_in_order(), len(job.utterances)):
                        job.utterances.append(utterance)
                        if number in job.streamed_chunks:
                            job.tell(Spoken(replace(utterance, streamed=True)))
                        else:
                            job.tell(Spoken(utterance))
                            job.send(samples)
                        self.statistics.audio_s += utterance.seconds
                        moved = True
                    attempts = job.progress.next_attempts()
                    new += attempts
                    moved = moved or bool(attempts)
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

    def _fail(self, job: SpeechJob, error: LlasaError) -> None:
        if job.end(Failed(error)):
            self.statistics.failed += 1

    def _remove(self, job: SpeechJob) -> None:
        with self._changed:
            job.pending.clear()
            if job in self._jobs:
                self._jobs.remove(job)
            self._changed.notify_all()

    # --- codes ---

    def _generate(self) -> None:
        engine = self.synthesizer.model.batch(self.slots)
        while True:
            with self._changed:
                while not (self._running or self._startable()):
                    if self._stopping and not self._jobs:
                        return
                    self._changed.wait(timeout=1.0)
                    self._drop_cancelled(engine)
                self._drop_cancelled(engine)
                starting = list(self._pick(engine.free))
            try:
                for running in starting:
                    loop = running.attempt.loop
                    sampling = running.attempt.text.session.sampling
                    engine.add(GenerationRequest(loop.prompt, sampling, loop.seed, id(running)))
                    self._running[id(running)] = running
                    if running.codes is not None:
                        threading.Thread(target=self._stream, args=(running,), daemon=True).start()
                finished = engine.step() if self._running else []
            except Exception as error:
                self._fail_all(error)
                engine = self.synthesizer.model.batch(self.slots)
                continue
            self.statistics.steps += 1
            self._pass_on_codes(engine, finished)

    def _pass_on_codes(self, engine: Any, finished: list[Finished]) -> None:
        for result in finished:
            running = self._running.pop(result.request.tag)
            with self._changed:
                running.job.running -= 1
            self.statistics.codes += len(result.codes)
            if running.codes is None:
                self._finished.put((running, result))
            else:
                for code in result.codes[running.sent :]:
                    running.codes.put(code)
                running.result = result
                running.codes.put(None)
        for running in self._running.values():
            if running.codes is not None:
                codes = engine.codes(id(running))
                for code in codes[running.sent :]:
                    running.codes.put(code)
                running.sent = len(codes)

    def _startable(self) -> list[SpeechJob]:
        """Jobs that have a chunk waiting and may use another slot. The caller holds the condition."""
        most = max(1, self.slots - max(1, self.slots // 4))
        return [job for job in self._jobs if job.pending and not job.is_paused and job.running < most]

    def _pick(self, free: int) -> Iterator[_Running]:
        for _ in range(free):
            candidates = self._startable()
            if not candidates:
                return
            job = min(candidates, key=lambda job: job.running)
            self._jobs.remove(job)  # to the end of the line: among equals the longest waiting comes first
            self._jobs.append(job)
            attempt = job.pending.popleft()
            job.running += 1
            is_streamed = job.streamed and attempt.number == len(job.utterances) and not job.streamed_chunks
            if is_streamed:
                job.streamed_chunks.add(attempt.number)
            yield _Running(job, attempt, Queue() if is_streamed else None)

    def _drop_cancelled(self, engine: Any) -> None:
        for tag, running in list(self._running.items()):
            if running.job.over:
                engine.drop(tag)
                del self._running[tag]
                running.job.running -= 1
                if running.codes is not None:
                    running.codes.put(None)
        for job in [job for job in self._jobs if job.over]:
            self.statistics.cancelled += 1
            self._remove(job)

    def _fail_all(self, error: Exception) -> None:
        """A failure of the engine ends all requests that are in it; the others begin anew in the next engine."""
        known = (
            error
            if isinstance(error, LlasaError)
            else ModelError(f"The model failed: {type(error).__name__}: {error}.")
        )
        for running in self._running.values():
            self._fail(running.job, known)
            running.job.running = 0
            if running.codes is not None:
                running.codes.put(None)
            self._remove(running.job)
        self._running.clear()

    # --- sound ---

    def _judge(self) -> None:
        while (item := self._finished.get()) is not None:
            running, result = item
            job, loop = running.job, running.attempt.loop
            if job.over:
                self._remove(job)
                continue
            try:
                decoded = self.synthesizer.codec.decode(loop.with_reference(result.codes))
                loop.judge(result.codes, decoded, result.ended)
                if not loop.finished:
                    with self._changed:
                        job.pending.appendleft(running.attempt)
                        self._changed.notify_all()
                    continue
                with job.lock:
                    running.attempt.text.settle(running.attempt)
                self._advance(job)
            except Exception as error:
                self._fail(
                    job, error if isinstance(error, LlasaError) else LlasaError(f"{type(error).__name__}: {error}")
                )
                self._remove(job)

    def _stream(self, running: _Running) -> None:
        """Decode and send a chunk while its codes come."""
        import numpy as np

        from llasa_cli.audio.stream_gate import RealTimeStreamGate
        from llasa_cli.codec.streaming import decode_stream

        job, attempt, queue = running.job, running.attempt, running.codes
        assert queue is not None
        rate = self.synthesizer.sampling_rate
        reference = attempt.loop.with_reference(())

        def codes() -> Iterator[int]:
            while (code := queue.get()) is not None:
                yield code

        try:
            job.send(np.zeros(round(attempt.loop.pause_s * rate), np.float32))
            pieces: list[np.ndarray] = []
            gate = RealTimeStreamGate()
            decoded = decode_stream(self.synthesizer.codec, gate.watch(codes()), tuple(reference))
            for piece in gate.hold(decoded, rate):
                pieces.append(piece)
                job.send(piece)
            result = running.result
            if job.over or result is None:
                return
            behind_reference = np.zeros(len(reference) * self.synthesizer.codec.samples_per_code, np.float32)
            attempt.loop.judge(result.codes, np.concatenate([behind_reference, *pieces]), result.ended)
            with job.lock:
                attempt.text.settle(attempt)
            self._advance(job)
        except Exception as error:
            self._fail(job, error if isinstance(error, LlasaError) else LlasaError(f"{type(error).__name__}: {error}"))
            self._remove(job)
