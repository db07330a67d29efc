"""Speech for many texts at the same time, by the same rules for each text as `Synthesizer.stream`.

    requests, results = ...                                see `RequestSource` and `ResultSink`
    BatchSynthesizer(synthesizer, slots=16).run(requests, results)      returns when everything is synthesized and written

Four threads work with bounded queues between them: one prepares prompts, the caller's thread steps the model for all slots
at once, one decodes and checks takes and schedules retries, one writes. The audio of a text depends on its own request
alone: its chunks have their own seeds, and the engine gives a sequence the same codes whatever else is in the batch.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from queue import Queue
from typing import TYPE_CHECKING, Any, Protocol

from llasa_cli.errors import LlasaError
from llasa_cli.lm.request import Finished, GenerationRequest
from llasa_cli.prompt import Reference
from llasa_cli.settings import SpeechOptions
from llasa_cli.synthesis.candidates import Candidate, Candidates
from llasa_cli.synthesis.synthesizer import SynthesisSession, Synthesizer, nothing_to_say
from llasa_cli.synthesis.text_to_speech import StreamSettings
from llasa_cli.synthesis.utterance import Utterance
from llasa_cli.synthesis.verifiers import Verifier

if TYPE_CHECKING:
    import numpy as np

    from llasa_cli.text.chunker import TextChunk

_OPEN_TEXTS_PER_SLOT = 3
"""Texts that are begun and not yet written, per slot. With fewer, the model would wait for decoding and writing."""
_MAX_PENDING_WRITES = 64


@dataclass(frozen=True)
class SynthesisRequest:
    """A text to synthesize.

    Attributes:
        tag: Identifies the request in the calls of `ResultSink`.
        options: Sampling, seed and speaker. The seed must be set.
        text: One text, or parts of one, each of which ends a sentence.
        reference: A voice to clone.
        skipped_chunks: The number of chunks at its beginning that are not synthesized, because an earlier run did.
        continues: The text continues an earlier one, so that it begins with the pause between two sentences.
        chunks: Chunks of a text that was split before; `text` is not read then.
    """

    tag: Any
    text: str | Sequence[str]
    options: SpeechOptions
    reference: Reference | None = None
    skipped_chunks: int = 0
    continues: bool = False
    chunks: tuple[TextChunk, ...] | None = None


class RequestSource(Protocol):
    """Supplies requests. It is called by one thread."""

    def next_request(self) -> SynthesisRequest | None:
        """Wait for the next request; None after the last one."""


class ResultSink(Protocol):
    """Receives audio. For each text the chunks come in order, then `end` or `fail`. One thread makes these calls."""

    def write(self, tag: Any, utterance: Utterance, samples: np.ndarray) -> None:
        """A chunk with the pause before it, float32 [n]."""

    def end(self, tag: Any) -> None:
        """The text is complete."""

    def fail(self, tag: Any, error: LlasaError) -> None:
        """The text can't be synthesized."""

    def note(self, tag: Any, text: str) -> None:
        """A warning about the text, such as a pause that can't be read. This call may come from another thread."""


class Engine(Protocol):
    """Steps the model for many sequences: `lm.engine.SlotEngine` or `lm.vllm.Engine`."""

    @property
    def free(self) -> int: ...
    def add(self, request: GenerationRequest) -> None: ...
    def step(self) -> list[Finished]: ...
    def codes(self, tag: Any) -> list[int]: ...
    def drop(self, tag: Any) -> None: ...


class BatchSynthesizer:
    """Runs many requests at the same time; see the module.

    Args:
        slots: The number of sequences that are stepped together.
        verifiers: Judge the takes that pass the checks.
        engine: Creates the engine for a number of slots; by default the model's own.
        on_note: Called with a message when the slots are reduced because the memory is too small.

    Attributes:
        slots: The current number of slots.
        steps: The number of model steps.
        codes: The number of codes that were generated.
    """

    def __init__(
        self,
        synthesizer: Synthesizer,
        slots: int,
        verifiers: Sequence[Verifier] = (),
        engine: Callable[[int], Engine] | None = None,
        on_note: Callable[[str], None] | None = None,
    ) -> None:
        self._synthesizer, self.slots, self._verifiers = synthesizer, slots, verifiers
        self._make_engine = engine or synthesizer.model.batch
        self._notify = on_note or (lambda text: None)
        self._changed = threading.Condition()  # guards everything down to _error
        self._urgent: deque[Attempt] = deque()
        """Later chunks and retries. They come before new texts, so that open texts are completed."""
        self._new: deque[Attempt] = deque()
        self._open_texts = 0
        self._all_requested = False
        self._error: BaseException | None = None
        self._generated: Queue[tuple[Attempt, Finished | tuple[int, ...]] | None] = Queue()
        """Complete takes, and the codes of those that have failed their checks before."""
        self._writes: Queue[tuple[Callable[..., None], tuple[Any, ...]] | None] = Queue(_MAX_PENDING_WRITES)
        self.steps = self.codes = 0

    def run(self, requests: RequestSource, results: ResultSink) -> None:
        """Synthesize all requests.

        Raises:
            LlasaError: A failure that concerns all requests, such as a full disk. A failure of one request is passed to
                `results.fail`.
        """
        threads = [
            threading.Thread(
                target=self._guarded, args=(self._prepare, requests, results), name="prompts", daemon=True
            ),
            threading.Thread(target=self._guarded, args=(self._judge, results), name="sound", daemon=True),
            threading.Thread(target=self._guarded, args=(self._write,), name="files", daemon=True),
        ]
        for thread in threads:
            thread.start()
        try:
            self._generate()
        except BaseException as error:
            self._fail(error)
        self._generated.put(None)
        threads[1].join()
        self._put_write(None)
        threads[2].join()
        if self._error is not None:
            raise self._error

    def stop(self, error: BaseException | None = None) -> None:
        """End the run from another thread as soon as possible. `run` then raises `error`."""
        self._fail(error or LlasaError("The run was stopped."))

    def _fail(self, error: BaseException) -> None:
        with self._changed:
            self._error = self._error or error
            self._changed.notify_all()
        self._generated.put(None)
        # Make room, so that no thread keeps waiting to put a write.
        with suppress(Exception):
            self._writes.get_nowait()

    def _guarded(self, work: Callable[..., None], *arguments: Any) -> None:
        try:
            work(*arguments)
        except BaseException as error:
            self._fail(error)

    def _put_write(self, write: tuple[Callable[..., None], tuple[Any, ...]] | None) -> None:
        while True:
            if self._error is not None and write is not None:
                return
            with suppress(Exception):
                self._writes.put(write, timeout=0.5)
                return
            if self._error is not None:
                with suppress(Exception):
                    self._writes.get_nowait()

    # --- 1: prompts ---

    def _prepare(self, requests: RequestSource, results: ResultSink) -> None:
        while True:
            with self._changed:
                while self._error is None and (
                    len(self._new) >= self.slots or self._open_texts > _OPEN_TEXTS_PER_SLOT * self.slots
                ):
                    self._changed.wait()
                if self._error is not None:
                    return
            request = requests.next_request()
            with self._changed:
                if request is None:
                    self._all_requested = True
                    self._changed.notify_all()
                    return
                self._open_texts += 1
            text = TextProgress(
                request, self._synthesizer, self._verifiers, 2 * self.slots, partial(results.note, request.tag)
            )
            self._advance(text, results, self._new)

    def _advance(self, text: TextProgress, results: ResultSink, queue: deque[Attempt]) -> None:
        """Write the chunks of a text that are next in order, and queue the chunks that can be generated now."""
        tag = text.request.tag
        try:
            attempts = text.advance(
                lambda utterance, samples: self._put_write((results.write, (tag, utterance, samples)))
            )
        except LlasaError as error:
            text.failed = True
            self._put_write((self._end_text, (results.fail, tag, error)))
            return
        if text.is_complete:
            self._put_write((self._end_text, (results.end, tag)))
        with self._changed:
            queue.extend(attempts)
            self._changed.notify_all()

    # --- 2: codes ---

    def _generate(self) -> None:
        engine: Engine | None = self._create_engine()
        running: dict[int, Attempt] = {}
        while True:
            shortage = ""
            try:
                assert engine is not None
                for attempt in self._next_attempts(engine.free, wait=not running):
                    running[id(attempt)] = attempt
                    engine.add(attempt.request(id(attempt)))
                if not running:
                    return
                finished = engine.step()
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                shortage = str(error) or "no memory"
            if shortage:
                engine = None  # the exception and its frames are gone here, so that their memory can be used again
                self._requeue(running)
                self._halve_slots(shortage)
                engine = self._create_engine()
                continue
            self.steps += 1
            for result in finished:
                self.codes += len(result.codes)
                self._generated.put((running.pop(result.request.tag), result))
            assert engine is not None
            self._drop_failed(engine, running)

    def _drop_failed(self, engine: Engine, running: dict[int, Attempt]) -> None:
        """Free the slots of takes that have failed their checks already, or that can no longer be chosen."""
        for tag, attempt in list(running.items()):
            codes = tuple(engine.codes(tag))
            is_failed = bool(attempt.candidates.early_problem(codes))
            if is_failed or not attempt.is_wanted:
                engine.drop(tag)
                del running[tag]
            if is_failed:
                self._generated.put((attempt, codes))

    def _next_attempts(self, free: int, wait: bool) -> list[Attempt]:
        """The next attempts, `free` at most. With `wait` an empty list means that everything is synthesized and written."""
        with self._changed:
            while wait and self._error is None and not (self._urgent or self._new):
                if self._all_requested and self._open_texts == 0:
                    return []
                self._changed.wait()
            if self._error is not None:
                raise self._error
            found: list[Attempt] = []
            while len(found) < free and (self._urgent or self._new):
                attempt = (self._urgent or self._new).popleft()
                if not attempt.text.failed and attempt.is_wanted:
                    found.append(attempt)
            self._changed.notify_all()
        return found or (self._next_attempts(free, wait) if wait else [])

    def _create_engine(self) -> Engine:
        """Create an engine with as many slots as the memory allows."""
        while True:
            try:
                return self._make_engine(self.slots)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                shortage = str(error) or "no memory"
            self._halve_slots(shortage)

    def _requeue(self, running: dict[int, Attempt]) -> None:
        """Generate the sequences in the slots again, with the same seeds."""
        with self._changed:
            self._urgent.extendleft(reversed(running.values()))
        running.clear()

    def _halve_slots(self, shortage: str) -> None:
        if self.slots == 1:
            raise LlasaError("There is not enough memory to synthesize one text.", f"({shortage})")
        self.slots //= 2
        self._notify(f"not enough memory: continuing with {self.slots} texts at a time")
        _empty_cache()

    # --- 3: audio ---

    def _judge(self, results: ResultSink) -> None:
        while True:
            generated = self._generated.get()
            if generated is None:
                return
            attempt, finished = generated
            if attempt.text.failed or attempt.is_settled:
                continue
            if not isinstance(finished, Finished):
                attempt.candidates.drop(attempt.candidate, finished)
            elif attempt.is_wanted:
                attempt.judge(finished, partial(self._decode, attempt.candidates.with_reference(finished.codes)))
            if attempt.candidates.finished:
                attempt.text.settle(attempt)
                self._advance(attempt.text, results, self._urgent)
            else:
                with self._changed:
                    self._urgent.extend(attempt.next_attempts())
                    self._changed.notify_all()

    def _decode(self, codes: list[int]) -> np.ndarray:
        """Decode one take at a time. Takes of equal length could share a batch (`decode_many`), but they are rare, and on a
        GPU the last bits of a take would then depend on the others."""
        try:
            return self._synthesizer.codec.decode(codes)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        _empty_cache()
        return self._synthesizer.codec.decode(codes)

    # --- 4: results ---

    def _write(self) -> None:
        while True:
            write = self._writes.get()
            if write is None or self._error is not None:
                return
            call, arguments = write
            call(*arguments)

    def _end_text(self, call: Callable[..., None], *arguments: Any) -> None:
        call(*arguments)
        with self._changed:
            self._open_texts -= 1
            self._changed.notify_all()


@dataclass
class Attempt:
    """A take of a chunk on its way through the model.

    Attributes:
        number: The number of the chunk in its text.
    """

    text: TextProgress
    number: int
    candidates: Candidates
    candidate: Candidate

    def request(self, tag: Any) -> GenerationRequest:
        """The request of this attempt to the engine."""
        return GenerationRequest(self.candidates.prompt, self.text.session.sampling, self.candidate.seed, tag)

    @property
    def is_wanted(self) -> bool:
        """Whether the take may still be chosen."""
        return self.candidates.is_wanted(self.candidate)

    def judge(self, finished: Finished, decoded: np.ndarray | Callable[[], np.ndarray]) -> None:
        """Check the complete take.

        Args:
            decoded: float32 [n], with the reference before it, or a function that decodes it.
        """
        self.candidates.judge(self.candidate, finished.codes, decoded, finished.ended, finished.log_probability)

    @property
    def is_settled(self) -> bool:
        """Whether the chunk is complete by other takes."""
        return self.text.is_settled(self.number)

    def next_attempts(self) -> list[Attempt]:
        """The takes of the same chunk that can be generated now."""
        return [Attempt(self.text, self.number, self.candidates, other) for other in self.candidates.start()]


@dataclass
class TextProgress:
    """A request in progress. It knows which chunks are being generated, and which wait for an earlier one.

    Attributes:
        window: The most chunks that are generated and not yet written, so that a book's audio is not held in memory.
        chunks: The number of chunks so far, those that were skipped included.
    """

    request: SynthesisRequest
    synthesizer: Synthesizer
    verifiers: Sequence[Verifier]
    window: int
    on_note: Callable[[str], None]
    failed: bool = False
    chunks: int = 0
    _chunks: Iterator[TextChunk] | None = None
    _next: TextChunk | None = None
    _begun: int = 0
    _written: int = 0
    _complete: dict[int, tuple[Utterance, np.ndarray]] = field(default_factory=dict)
    _has_words: bool = False

    def __post_init__(self) -> None:
        request = self.request
        self.session = SynthesisSession(
            self.synthesizer, request.options, request.reference, StreamSettings(verifiers=self.verifiers)
        )

    @property
    def is_complete(self) -> bool:
        """Whether all chunks have been passed on."""
        return self._next is None and self._chunks is not None and self._written == self._begun

    def advance(self, write: Callable[[Utterance, np.ndarray], None]) -> list[Attempt]:
        """Pass the complete chunks that are next in order to `write`, and begin the chunks that can be generated now.

        Raises:
            UsageError: The text has nothing to say, or the prompt is too long.
        """
        attempts: list[Attempt] = []
        while True:
            while self._written in self._complete:
                write(*self._complete.pop(self._written))
                self._written += 1
            attempts += self._begin_chunks()
            if self._written not in self._complete:
                return attempts

    def _begin_chunks(self) -> list[Attempt]:
        """Begin the chunks that can be generated now. Pauses are complete at once."""
        if self._chunks is None:
            self._chunks = self._remaining_chunks()
            self._next = next(self._chunks, None)
        found: list[Attempt] = []
        while self._next is not None and self._begun - self._written < self.window:
            if self._next.text:
                # If the first good utterance sets the voice, the later chunks wait for it.
                if self.session.needs_voice and self.session.voice is None and self._begun > self._written:
                    break
                candidates = self.session.candidates(self._next)
                found += [Attempt(self, self._begun, candidates, candidate) for candidate in candidates.start()]
            else:
                self._complete[self._begun] = self.session.silence(self._next)
            self._begun += 1
            self._next = next(self._chunks, None)
        if self._next is None and not self._has_words:
            raise nothing_to_say(self.synthesizer.checkpoint.metadata)
        return found

    def _remaining_chunks(self) -> Iterator[TextChunk]:
        request = self.request
        chunks: Iterable[TextChunk]
        if request.chunks is not None:
            chunks, self._has_words = request.chunks, True
        else:
            parts = [request.text] if isinstance(request.text, str) else request.text
            chunks = self.synthesizer.text_chunks(parts, request.options, self.on_note, request.continues)
        for chunk in chunks:
            self.chunks += 1
            self._has_words = self._has_words or bool(chunk.text)
            if self.chunks > request.skipped_chunks:
                yield chunk

    def settle(self, attempt: Attempt) -> None:
        """Keep the best take of a chunk until its turn comes."""
        candidates = attempt.candidates
        self._complete[attempt.number] = self.session.finish(candidates.chunk, *candidates.best())

    def is_settled(self, number: int) -> bool:
        """Whether the chunk with this number is complete."""
        return number < self._written or number in self._complete


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error means that a smaller batch may succeed."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return "can't allocate memory" in str(error) or "out of memory" in str(error)


def _empty_cache() -> None:
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
