"""Many texts to sound at once: `Synthesizer` for a list, by the same rules for each text as `Synthesizer.say` has.

    jobs, outlet = ...                          where texts come from, where their sound goes: see `RequestSource`, `ResultSink`
    BatchSynthesizer(speech, slots=16).run(jobs, outlet)    returns when jobs are at their end and all sound is written

Four threads, with bounded room between them: one makes prompts ready, the caller's own steps the model for all slots at
once, one decodes, judges and has bad takes made again, one writes. What a text sounds like depends on its own job alone:
its passages have their own seeds, and the engine gives a sequence the same codes whoever shares the batch with it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Queue
from typing import TYPE_CHECKING, Any, Protocol

from llasa_cli.errors import LlasaError
from llasa_cli.lm.engine import Finished, GenerationRequest
from llasa_cli.prompt import Reference
from llasa_cli.settings import SpeechOptions
from llasa_cli.synthesis.synthesizer import RetryLoop, SynthesisSession, Synthesizer, Utterance

if TYPE_CHECKING:
    import numpy as np

    from llasa_cli.text.chunker import TextChunk

Check = Callable[[str, "np.ndarray"], tuple[str, ...]]
_OPEN_A_SLOT = 3
"""Texts that are begun and not written, for each slot: enough to decode and write without the model waiting."""
_WRITES_WAITING = 64


@dataclass(frozen=True)
class SynthesisRequest:
    """A text to be spoken.

    Attributes:
        tag: Whatever its owner knows it by.
        options: With a seed.
    """

    tag: Any
    text: str
    options: SpeechOptions
    reference: Reference | None = None


class RequestSource(Protocol):
    """Where texts come from. Asked by one thread."""

    def take(self) -> SynthesisRequest | None:
        """The next; waits until there is one. None: there will be none any more."""


class ResultSink(Protocol):
    """Where sound goes. Called by one thread; for each text its passages in order, then `end` or `fail`."""

    def write(self, tag: Any, take: Utterance, samples: np.ndarray) -> None:
        """A passage and the pause before it, float32 [n]."""

    def end(self, tag: Any) -> None:
        """The text is spoken."""

    def fail(self, tag: Any, error: LlasaError) -> None:
        """It can't be."""

    def note(self, tag: Any, text: str) -> None:
        """What in it could not be followed, such as a pause without a time."""


class Engine(Protocol):
    """What steps the model for many sequences: `lm.batch.Batch`, `lm.vllm.Engine`."""

    @property
    def free(self) -> int: ...
    def add(self, request: GenerationRequest) -> None: ...
    def step(self) -> list[Finished]: ...
    def drop(self, tag: Any) -> None: ...


class BatchSynthesizer:
    """See the module.

    Args:
        slots: Sequences that are stepped together.
        check: (text, samples) -> what else is wrong with a take.
        engine: Makes what steps the model; by default our own.
        on_note: Told when there was not memory enough for all slots.
    """

    def __init__(
        self,
        speech: Synthesizer,
        slots: int,
        check: Check | None = None,
        engine: Callable[[int], Engine] | None = None,
        on_note: Callable[[str], None] | None = None,
    ) -> None:
        self._speech, self.slots, self._check = speech, slots, check
        self._make_engine = engine or speech.model.batch
        self._tell = on_note or (lambda text: None)
        self._lock = threading.Condition()
        self._again: deque[_Attempt] = deque()
        """Later passages and second tries: before anything new, so that what is begun is finished."""
        self._fresh: deque[_Attempt] = deque()
        self._open = 0
        self._all_taken = False
        self._error: BaseException | None = None
        self._finished: Queue[tuple[_Attempt, Finished] | None] = Queue()
        self._writes: Queue[tuple[Callable[..., None], tuple[Any, ...]] | None] = Queue(_WRITES_WAITING)
        self.steps = self.codes = 0
        """How often the model was stepped, and what it has made."""

    def run(self, jobs: RequestSource, outlet: ResultSink) -> None:
        """Speak all of them.

        Raises:
            LlasaError: What fails for all: the model, a full disk. What fails for one is told to the outlet.
        """
        threads = [
            threading.Thread(target=self._guarded, args=(self._prepare, jobs, outlet), name="prompts", daemon=True),
            threading.Thread(target=self._guarded, args=(self._judge, outlet), name="sound", daemon=True),
            threading.Thread(target=self._guarded, args=(self._write,), name="files", daemon=True),
        ]
        for thread in threads:
            thread.start()
        try:
            self._generate()
        except BaseException as error:
            self._fail(error)
        self._finished.put(None)
        threads[1].join()
        self._put(None)
        threads[2].join()
        if self._error is not None:
            raise self._error

    def stop(self, error: BaseException | None = None) -> None:
        """End the run from another thread, as soon as may be; `run` raises what is given here."""
        self._fail(error or LlasaError("The run was stopped."))

    def _fail(self, error: BaseException) -> None:
        with self._lock:
            self._error = self._error or error
            self._lock.notify_all()
        self._finished.put(None)
        # Nobody may go on waiting for room there.
        with suppress(Exception):
            self._writes.get_nowait()

    def _guarded(self, work: Callable[..., None], *arguments: Any) -> None:
        try:
            work(*arguments)
        except BaseException as error:
            self._fail(error)

    def _put(self, write: tuple[Callable[..., None], tuple[Any, ...]] | None) -> None:
        while True:
            if self._error is not None and write is not None:
                return
            with suppress(Exception):
                self._writes.put(write, timeout=0.5)
                return
            if self._error is not None:
                with suppress(Exception):
                    self._writes.get_nowait()

    # --- prompts ---

    def _prepare(self, jobs: RequestSource, outlet: ResultSink) -> None:
        while True:
            with self._lock:
                while self._error is None and (
                    len(self._fresh) >= self.slots or self._open >= _OPEN_A_SLOT * self.slots + 1
                ):
                    self._lock.wait()
                if self._error is not None:
                    return
            job = jobs.take()
            with self._lock:
                if job is None:
                    self._all_taken = True
                    self._lock.notify_all()
                    return
                self._open += 1
            text = _Text(job, self._speech, self._check, 2 * self.slots, outlet)
            self._advance(text, outlet, self._fresh)

    def _advance(self, text: _Text, outlet: ResultSink, ready: deque[_Attempt]) -> None:
        """What of a text can be spoken or written by now."""
        attempts: list[_Attempt] = []
        try:
            moved = True
            while moved:
                moved = False
                for take, samples in text.in_order():
                    self._put((outlet.write, (text.job.tag, take, samples)))
                    moved = True
                new = text.next_attempts()
                attempts += new
                moved = moved or bool(new)
        except LlasaError as error:
            text.failed = True
            self._put((self._end, (outlet.fail, text.job.tag, error)))
            return
        if text.is_said:
            self._put((self._end, (outlet.end, text.job.tag)))
        with self._lock:
            ready.extend(attempts)
            self._lock.notify_all()

    # --- codes ---

    def _generate(self) -> None:
        engine: Engine | None = self._made_engine()
        running: dict[int, _Attempt] = {}
        while True:
            shortage = ""
            try:
                assert engine is not None
                for attempt in self._wanted(engine.free, wait=not running):
                    running[id(attempt)] = attempt
                    takes = attempt.attempts
                    engine.add(GenerationRequest(takes.prompt, attempt.text.telling.sampling, takes.seed, id(attempt)))
                if not running:
                    return
                done = engine.step()
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                shortage = str(error) or "no memory"
            if shortage:
                engine = None  # and the exception with its frames: what they held is free before more is asked for
                self._begin_anew(running)
                self._halve(shortage)
                engine = self._made_engine()
                continue
            self.steps += 1
            for finished in done:
                self.codes += len(finished.codes)
                self._finished.put((running.pop(finished.request.tag), finished))

    def _wanted(self, free: int, wait: bool) -> list[_Attempt]:
        """At most `free` attempts; none: all is said and written, or something went wrong."""
        with self._lock:
            while wait and self._error is None and not (self._again or self._fresh):
                if self._all_taken and self._open == 0:
                    return []
                self._lock.wait()
            if self._error is not None:
                raise self._error
            found: list[_Attempt] = []
            while len(found) < free and (self._again or self._fresh):
                attempt = (self._again or self._fresh).popleft()
                if not attempt.text.failed:
                    found.append(attempt)
            self._lock.notify_all()
        return found or (self._wanted(free, wait) if wait else [])

    def _made_engine(self) -> Engine:
        """For as many slots as there is memory for."""
        while True:
            try:
                return self._make_engine(self.slots)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                shortage = str(error) or "no memory"
            self._halve(shortage)

    def _begin_anew(self, running: dict[int, _Attempt]) -> None:
        """What was in the slots is made again, with the seeds it had."""
        with self._lock:
            self._again.extendleft(reversed(running.values()))
        running.clear()

    def _halve(self, shortage: str) -> None:
        if self.slots == 1:
            raise LlasaError("There is not memory enough to speak one text.", f"({shortage})")
        self.slots //= 2
        self._tell(f"not memory enough: going on with {self.slots} at once")
        _empty_cache()

    # --- sound ---

    def _judge(self, outlet: ResultSink) -> None:
        while True:
            following = self._finished.get()
            if following is None:
                return
            attempt, finished = following
            if attempt.text.failed:
                continue
            attempt.attempts.judge(
                finished.codes, self._decoded(attempt.attempts.whole(finished.codes)), finished.ended
            )
            if attempt.attempts.finished:
                attempt.text.settle(attempt)
                self._advance(attempt.text, outlet, self._again)
            else:
                with self._lock:
                    self._again.append(attempt)
                    self._lock.notify_all()

    def _decoded(self, codes: list[int]) -> np.ndarray:
        """Each take alone: those of one length could share a batch (`decode_many`), but are rare, and on a GPU the last bits
        would then depend on who else was there."""
        try:
            return self._speech.codec.decode(codes)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        _empty_cache()
        return self._speech.codec.decode(codes)

    # --- files ---

    def _write(self) -> None:
        while True:
            write = self._writes.get()
            if write is None or self._error is not None:
                return
            work, arguments = write
            work(*arguments)

    def _end(self, tell: Callable[..., None], *arguments: Any) -> None:
        tell(*arguments)
        with self._lock:
            self._open -= 1
            self._lock.notify_all()


@dataclass
class _Attempt:
    """A passage of a text on its way through the model."""

    text: _Text
    number: int
    attempts: RetryLoop


@dataclass
class _Text:
    """A text being spoken: which of its passages are on their way, which wait for one before them."""

    job: SynthesisRequest
    speech: Synthesizer
    check: Check | None
    window: int
    """Passages on their way at most: a book's sound is not kept for its first sentence's sake."""
    outlet: ResultSink
    failed: bool = False
    _passages: Iterator[TextChunk] | None = None
    _next: TextChunk | None = None
    _taken: int = 0
    _written: int = 0
    _said: dict[int, tuple[Utterance, np.ndarray]] = field(default_factory=dict)
    _has_words: bool = False

    def __post_init__(self) -> None:
        self.telling = SynthesisSession(self.speech, self.job.options, self.job.reference, self.check, None)

    @property
    def is_said(self) -> bool:
        """All of it has been given on."""
        return self._next is None and self._passages is not None and self._written == self._taken

    def next_attempts(self) -> list[_Attempt]:
        """Passages whose turn has come.

        Raises:
            UsageError: Nothing to say in it, or no room for the prompt.
        """
        if self._passages is None:
            self._passages = self.speech.passages(
                [self.job.text], self.job.options, lambda text: self.outlet.note(self.job.tag, text)
            )
            self._next = next(self._passages, None)
        found: list[_Attempt] = []
        while self._next is not None and self._taken - self._written < self.window:
            if self._next.text:
                # Where the first good take is to be the voice of the rest, the rest waits for it.
                if self.telling.needs_voice and self.telling.voice is None and self._taken > self._written:
                    break
                self._has_words = True
                found.append(_Attempt(self, self._taken, self.telling.attempts(self._next)))
            else:
                self._said[self._taken] = _silence(self._next, self.speech.sampling_rate)
            self._taken += 1
            self._next = next(self._passages, None)
        if self._next is None and not self._has_words:
            raise self.speech.nothing()
        return found

    def settle(self, attempt: _Attempt) -> None:
        """A passage has its take."""
        import numpy as np

        take, samples = attempt.attempts.best()
        take = self.telling.keep(take)
        pause = np.zeros(round(take.pause_s * self.speech.sampling_rate), np.float32)
        self._said[attempt.number] = take, np.concatenate([pause, samples])

    def in_order(self) -> Iterator[tuple[Utterance, np.ndarray]]:
        """What can be given on: the passages up to the first that is still on its way."""
        while self._written in self._said:
            yield self._said.pop(self._written)
            self._written += 1


def _silence(passage: TextChunk, sampling_rate: int) -> tuple[Utterance, np.ndarray]:
    import numpy as np

    take = Utterance("", 0.0, (), 0, 0, pause_s=passage.pause_s)
    return take, np.zeros(round(passage.pause_s * sampling_rate), np.float32)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a smaller batch may help."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return "can't allocate memory" in str(error) or "out of memory" in str(error)


def _empty_cache() -> None:
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
