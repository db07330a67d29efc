"""One worker of a batch: a model that turns work items into files and events.

    run_worker(config, next_item, emit)        next_item() -> WorkItem, or None at the end; emit(event)

It is the same in a thread, a process and a Ray actor. A file is written in the work folder and renamed into the output folder.
A killed worker therefore leaves no incomplete file, and an item that is made twice replaces its own file.

Heavy packages are imported inside the functions, so that a broken installation of torch is reported as an event as well.
"""

from __future__ import annotations

import os
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llasa_cli.audio.side_file import SpokenPart
from llasa_cli.batch.messages import (
    Completed,
    Event,
    Exited,
    Failed,
    FatalError,
    Note,
    Ready,
    ReferenceFile,
    Spoken,
    WorkerConfig,
    WorkItem,
)
from llasa_cli.batch.options import PASSAGE_SLOTS
from llasa_cli.device import limit_threads, named_threads
from llasa_cli.errors import LlasaError
from llasa_cli.files import move_to
from llasa_cli.memory import free_device_memory
from llasa_cli.prompt import Reference

if TYPE_CHECKING:
    import numpy as np

    from llasa_cli.audio.writers import FileSink
    from llasa_cli.synthesis.batched import BatchSynthesizer, SynthesisRequest
    from llasa_cli.synthesis.synthesizer import Synthesizer, Utterance
    from llasa_cli.synthesis.word_times import WordTimer


_CACHED_VOICES = 256
_MOST_SLOTS = {"cpu": 16, "cuda": 128, "mps": 16}
"""The number of slots beyond which the time of a step grows in proportion to them."""
_MOST_SLOTS_SMALL = 64
"""The number of slots for a model of a few million parameters."""
_MEMORY_SHARE = 0.5
"""The share of the free memory for the KV cache. The codec and torch's own buffers need the rest."""


def run_worker(
    config: WorkerConfig,
    next_item: Callable[[], WorkItem | None],
    emit: Callable[[Event], None],
    on_start: Callable[[BatchSynthesizer], None] | None = None,
    synthesizer: Synthesizer | None = None,
) -> None:
    """Load the model and work until `next_item` returns None. The last event is `Exited`; after a failure, `FatalError` precedes it.

    Args:
        on_start: Receives the synthesizer once it can be stopped from another thread.
        synthesizer: A loaded model; None loads the one of the configuration.
    """
    with _errors_as_events(emit):
        from llasa_cli.synthesis.batched import BatchSynthesizer
        from llasa_cli.synthesis.synthesizer import Synthesizer
        from llasa_cli.synthesis.verifiers import load_judges

        if synthesizer is None:
            synthesizer = Synthesizer.load(config.models, read_model=_model_reader(config.engine))
            limit_threads(synthesizer.model, named_threads() or config.threads)
        synthesizer.codec.wait()  # a damaged codec ends the run instead of failing each item
        verifiers, timer = load_judges(config.verifiers, config.timing)

        def note(text: str) -> None:
            emit(Note(text))
            emit(Ready(batched.slots))

        slots = config.slots or (_passage_slots if config.passages else default_slots)(synthesizer, config.engine)
        engine = partial(synthesizer.model.exact_batch, together=config.together) if config.passages else None
        batched = BatchSynthesizer(synthesizer, slots, verifiers, engine, note)
        if on_start is not None:
            on_start(batched)
        emit(Ready(batched.slots))
        requests = _ItemRequests(synthesizer, next_item, emit)
        if config.passages:
            batched.run(requests, _PassageResults(synthesizer.sampling_rate, emit))
            return
        files = _FileResults(config, synthesizer.sampling_rate, emit, timer)
        try:
            batched.run(requests, files)
        finally:
            files.abort()


@contextmanager
def _errors_as_events(emit: Callable[[Event], None]) -> Iterator[None]:
    """Emit the failure of a worker, if there is one, and its end."""
    try:
        yield
    except LlasaError as error:
        emit(FatalError(error))
    except Exception as error:
        if os.environ.get("LLASA_DEBUG") == "1":
            traceback.print_exc()  # the event carries only a sentence to the scheduler
        reason = f"{type(error).__name__}: {error}"
        emit(FatalError(LlasaError(f"A worker failed: {reason}", "LLASA_DEBUG=1 shows where.")))
    emit(Exited())


def _model_reader(engine: str) -> Any:
    """The class that loads the language model for an engine; None for llasa's own."""
    if engine == "llasa":
        return None
    from llasa_cli.lm.vllm import VllmModel

    return VllmModel


def default_slots(synthesizer: Synthesizer, engine: str = "llasa") -> int:
    """The number of sequences that fit into the free memory, but no more than still make a batch faster.

    The estimate uses the checkpoint's own sampling. A list that asks for guidance needs twice the memory; `BatchSynthesizer`
    then halves the slots if it has to.
    """
    if engine == "vllm":
        from llasa_cli.lm.vllm import SLOTS

        return SLOTS  # vLLM manages its memory by itself
    from llasa_cli.settings import CONTEXT_TOKENS, SamplingRequest

    device = synthesizer.model.device
    sequences = 1 if synthesizer.sampling(SamplingRequest()).guidance == 1 else 2
    slot_bytes = sequences * CONTEXT_TOKENS * synthesizer.model.network.kv_bytes_per_token
    most = _MOST_SLOTS_SMALL if synthesizer.model.is_small else _MOST_SLOTS.get(device.type, 16)
    return max(1, min(most, int(free_device_memory(device) * _MEMORY_SHARE) // slot_bytes))


def _passage_slots(synthesizer: Synthesizer, engine: str) -> int:
    device = synthesizer.model.device.type
    most = PASSAGE_SLOTS.get(device, PASSAGE_SLOTS["cuda"])
    return min(most, default_slots(synthesizer, engine)) if device == "cpu" else most


class _ItemRequests:
    """A `RequestSource` of work items. A clip is encoded once for all items that use it."""

    def __init__(
        self, synthesizer: Synthesizer, next_item: Callable[[], WorkItem | None], emit: Callable[[Event], None]
    ) -> None:
        self._synthesizer, self._next_item, self._emit = synthesizer, next_item, emit
        self._encode = lru_cache(_CACHED_VOICES)(self._encode_clip)

    def next_request(self) -> SynthesisRequest | None:
        from llasa_cli.synthesis.batched import SynthesisRequest

        while (item := self._next_item()) is not None:
            try:
                reference = self._encode(item.voice) if isinstance(item.voice, ReferenceFile) else item.voice
            except LlasaError as error:
                self._emit(Failed(item.number, str(error)))
                continue
            chunks = None if item.passage is None else (item.passage,)
            return SynthesisRequest(item, item.text, item.options, reference, chunks=chunks)
        return None

    def _encode_clip(self, clip: ReferenceFile) -> Reference:
        from llasa_cli.voices.reference import load_reference, with_recognized_text

        found = load_reference(clip.path, clip.transcript)
        if clip.recognized is not None:
            found = with_recognized_text(found, clip.recognized, "The recognizer")
        return self._synthesizer.encode_reference(found.samples, found.transcript).require_words()


class _PassageResults:
    """A `ResultSink` that sends the sound of each passage back."""

    def __init__(self, sampling_rate: int, emit: Callable[[Event], None]) -> None:
        self._rate, self._emit = sampling_rate, emit

    def write(self, item: WorkItem, utterance: Utterance, samples: np.ndarray) -> None:
        self._emit(Spoken(item.number, utterance.to_row(), samples, self._rate))

    def end(self, item: WorkItem) -> None:
        pass  # a passage is one utterance

    def fail(self, item: WorkItem, error: LlasaError) -> None:
        self._emit(FatalError(error))  # a text without one of its passages is of no use

    def note(self, item: WorkItem, text: str) -> None:
        self._emit(Note(f"warning: {text}"))


class _FileResults:
    """A `ResultSink` that writes a file for each item and emits an event when it is complete."""

    def __init__(
        self, config: WorkerConfig, sampling_rate: int, emit: Callable[[Event], None], timer: WordTimer | None = None
    ) -> None:
        self._config, self._rate, self._emit, self._timer = config, sampling_rate, emit, timer
        self._open: dict[int, _OpenFile] = {}
        self._is_local = _can_reach_folder(config)
        self._parts = config.work if self._is_local else Path(tempfile.mkdtemp(prefix="llasa-"))

    def write(self, item: WorkItem, utterance: Utterance, samples: np.ndarray) -> None:
        from llasa_cli.audio.chunk import AudioChunk
        from llasa_cli.audio.writers import FileSink

        with self._disk_errors_name(item):
            if item.number not in self._open:
                ending = item.path.rpartition(".")[2]
                self._open[item.number] = _OpenFile(FileSink(self._parts / f"{item.number}.{ending}", ending))
            file = self._open[item.number]
            file.sink.write(AudioChunk(samples, self._rate))
        if self._timer is not None and utterance.text:
            speech = samples[-max(1, round(utterance.seconds * self._rate)) :]
            times = self._timer.times(utterance.sentences, utterance.text, speech, self._rate)
            rounded = (word._replace(begin_s=round(word.begin_s, 3), end_s=round(word.end_s, 3)) for word in times)
            utterance = replace(utterance, words=tuple(rounded))
        file.utterances.append(utterance)

    @contextmanager
    def _disk_errors_name(self, item: WorkItem) -> Iterator[None]:
        """A full disk ends the run. The error names the item's file instead of the temporary one."""
        try:
            yield
        except LlasaError as error:
            reason = error.message.rpartition(": ")[2]
            hint = "Completed items are kept. Free some space and run the same command again to continue."
            raise LlasaError(f"{self._config.folder / item.path} can't be written: {reason}", hint) from error

    def end(self, item: WorkItem) -> None:
        file = self._open[item.number]
        with self._disk_errors_name(item):
            file.sink.close()
        del self._open[item.number]
        data = None
        if self._is_local:
            problem = move_to(file.sink.path, self._config.folder / item.path)
            if problem:
                self._emit(Failed(item.number, problem))
                return
        else:
            data = file.sink.path.read_bytes()
            file.sink.path.unlink()
        self._emit(self._completed(item, file, data))

    def _completed(self, item: WorkItem, file: _OpenFile, data: bytes | None) -> Completed:
        spoken = [utterance for utterance in file.utterances if utterance.text]
        marks, clock = [], 0.0
        for utterance in file.utterances:
            begin = clock + utterance.pause_s
            clock = begin + utterance.seconds
            if self._config.marks and utterance.sentences:
                marks.append(SpokenPart(utterance.sentences, round(begin, 3), round(clock, 3), utterance.words))
        return Completed(
            number=item.number,
            seconds=round(clock, 3),
            seed=spoken[0].seed,
            retries=sum(utterance.attempts - 1 for utterance in spoken),
            checks=tuple(problem for utterance in spoken for problem in utterance.problems),
            wall_s=round(time.monotonic() - file.began + spoken[0].wall_s, 3),
            marks=tuple(marks),
            candidates=tuple(
                {"candidates": list(utterance.candidates), "chosen_because": utterance.chosen_because}
                for utterance in spoken
                if len(utterance.candidates) > 1
            ),
            data=data,
        )

    def fail(self, item: WorkItem, error: LlasaError) -> None:
        file = self._open.pop(item.number, None)
        if file is not None:
            file.sink.abort()
        self._emit(Failed(item.number, str(error)))

    def note(self, item: WorkItem, text: str) -> None:
        self._emit(Note(f"warning: {item.path}: {text}"))

    def abort(self) -> None:
        """Remove the files of incomplete items."""
        for file in self._open.values():
            file.sink.abort()


class _OpenFile:
    """The file of an item that is being written."""

    def __init__(self, sink: FileSink) -> None:
        self.sink = sink
        self.utterances: list[Utterance] = []
        self.began = time.monotonic()


def _can_reach_folder(config: WorkerConfig) -> bool:
    """Whether the output folder is on this machine, or on a disk that both machines share."""
    from llasa_cli.batch.plan import TOKEN

    try:
        return (config.work / TOKEN).read_text(encoding="ascii") == config.token
    except OSError:
        return False
