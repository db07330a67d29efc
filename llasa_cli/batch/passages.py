"""A long text at batch speed: the workers of a batch synthesize several of its passages at once; the sound comes back in order.

    synthesizer = PassageSynthesizer(checkpoint, options)
    for chunk in synthesizer.stream(parts, speech, reference, on_utterance): ...

It replaces a `Synthesizer` for a text whose sound may come a few sentences late. On a CPU the sound is that of
`Synthesizer.stream`, bit for bit, with any number of slots and workers: each passage has the seed of the text, and its codes
do not depend on what else is in the batch. On a GPU the number of slots decides the last bits.

The text is read as far as the workers need it and the sound is held until its turn comes, so a book takes flat memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from llasa_cli.audio.chunk import AudioChunk
from llasa_cli.batch.messages import Exited, FatalError, Lost, Note, Spoken, WorkerBackend, WorkerConfig, WorkItem
from llasa_cli.batch.options import SchedulingOptions
from llasa_cli.prompt import PromptFormat, Reference
from llasa_cli.settings import NO_VERIFIERS, SpeechOptions, VerifierOptions
from llasa_cli.synthesis.synthesizer import Synthesizer, nothing_to_say, text_chunks
from llasa_cli.synthesis.text_to_speech import PLAIN, StreamSettings
from llasa_cli.synthesis.utterance import Utterance

if TYPE_CHECKING:
    import numpy as np

    from llasa_cli.checkpoint.resolve import Checkpoint
    from llasa_cli.text.chunker import TextChunk

_UNKNOWN = 1 << 30
"""The number of passages that are left while the end of the text has not been read."""
_WAITING_SHARE = 2
"""The most complete passages that may wait for an earlier one, for each passage that the workers may have."""
_LEAST_WAITING = 16


class PassageSynthesizer:
    """See the module.

    Args:
        options: Slots, workers and devices.
        verifiers: The verifiers that judge the takes besides the checks.
        synthesizer: A loaded model for the thread of this process; None where other processes load it.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        options: SchedulingOptions,
        verifiers: VerifierOptions = NO_VERIFIERS,
        synthesizer: Synthesizer | None = None,
    ) -> None:
        self.checkpoint, self._options, self._verifiers = checkpoint, options, verifiers
        self._synthesizer = synthesizer
        self._encoder: Synthesizer | None = None

    @property
    def sampling_rate(self) -> int:
        """Hz."""
        if self._synthesizer is not None:
            return self._synthesizer.sampling_rate
        from llasa_cli.codec.codec import read_codec_config

        return read_codec_config(self.checkpoint.codec_folder).sampling_rate

    def encode_reference(self, samples: np.ndarray, text: str) -> Reference:
        """See `Synthesizer.encode_reference`. If the model is not loaded yet, it is loaded and freed when the workers start."""
        self._encoder = self._synthesizer or self._encoder or Synthesizer.load(self.checkpoint)
        return self._encoder.encode_reference(samples, text)

    def stream(
        self,
        text: Iterable[str],
        options: SpeechOptions,
        reference: Reference | None = None,
        on_utterance: Callable[[Utterance], None] | None = None,
        settings: StreamSettings = PLAIN,
    ) -> Iterator[AudioChunk]:
        """Speak a text of any length; see `TextToSpeech`.

        Args:
            settings: Neither verifiers nor a gate have an effect: the workers load the verifiers of the constructor, and the
                sound comes in whole passages. The text is read as far as the workers need it, growing or not.

        Raises:
            UsageError: The text has nothing to say, or the prompt is too long.
            LlasaError: The workers can't be started, or die again and again.
        """
        options = options.with_seed()
        chunks = text_chunks(self.checkpoint.metadata, text, options, settings.on_note)
        run = _Run(self._needs_voice(options, reference), options, reference, settings)
        with closing(self._start(options.best_of)) as backend:
            for utterance, sound in run.speak(backend, chunks):
                if on_utterance is not None:
                    on_utterance(utterance)
                yield sound
        if not run.has_words:
            raise nothing_to_say(self.checkpoint.metadata)

    def _needs_voice(self, options: SpeechOptions, reference: Reference | None) -> bool:
        """See `SynthesisSession.needs_voice`."""
        prompt_format = PromptFormat.load(self.checkpoint.folder, self.checkpoint.metadata)
        return reference is None and options.speaker is None and prompt_format.default_speaker is None

    def _start(self, together: int) -> WorkerBackend:
        self._encoder = None
        config = WorkerConfig(
            models=self.checkpoint.options,
            folder=Path(),
            work=Path(),
            slots=self._options.slots,
            verifiers=self._verifiers,
            passages=True,
            together=together,
        )
        if self._options.is_local:
            from llasa_cli.batch.thread_backend import ThreadBackend

            return ThreadBackend(config, self._synthesizer)
        from llasa_cli.batch.run import create_backend

        return create_backend(self._options, config)


class _Run:
    """One text on its way through the workers.

    Attributes:
        has_words: Whether the text has had a chunk with words.
    """

    def __init__(
        self, needs_voice: bool, options: SpeechOptions, reference: Reference | None, settings: StreamSettings
    ) -> None:
        self.has_words = False
        self._needs_voice, self._settings = needs_voice, settings
        self._options = replace(options, lexicon=())  # the chunks have been respelled
        self._voice = reference or settings.resume_from.voice
        self._open: dict[int, TextChunk] = {}
        """Passages that a worker has, or that wait for one."""
        self._lost: list[int] = []
        self._complete: dict[int, tuple[Utterance, AudioChunk]] = {}
        self._submitted = self._written = 0
        self._is_read = False  # the whole text

    def speak(self, backend: WorkerBackend, chunks: Iterator[TextChunk]) -> Iterator[tuple[Utterance, AudioChunk]]:
        """Yield the utterances in the order of the text, each with the sound of its pause and its speech."""
        passages = self._passages(chunks)
        while True:
            self._submit(backend, passages)
            if self._is_read and not self._open:
                break
            for event in backend.events(0.5):
                if isinstance(event, Spoken):
                    self._settle(event)
                elif isinstance(event, Lost):
                    self._settings.on_note(
                        f"a worker has died ({event.reason}); its passages are given to other workers"
                    )
                    self._lost += [number for number in event.numbers if number in self._open]
                elif isinstance(event, Note):
                    self._settings.on_note(event.text.removeprefix("warning: "))
                elif isinstance(event, FatalError):
                    raise event.error
                elif isinstance(event, Exited):
                    raise RuntimeError("the workers have ended before the text")
            while self._written in self._complete:
                yield self._complete.pop(self._written)
                self._written += 1
        backend.finish()

    def _passages(self, chunks: Iterator[TextChunk]) -> Iterator[TextChunk]:
        for number, chunk in enumerate(chunks):
            self.has_words = self.has_words or bool(chunk.text)
            if number >= self._settings.resume_from.chunks:
                yield chunk

    def _submit(self, backend: WorkerBackend, passages: Iterator[TextChunk]) -> None:
        """Give the workers as many passages as they can take now."""
        while (capacity := backend.capacity(len(self._open) if self._is_read else _UNKNOWN)) > 0:
            if self._lost:
                number = self._lost.pop()
                backend.submit(self._item(number, self._open[number]))
                continue
            most = max(_LEAST_WAITING, _WAITING_SHARE * (len(self._open) + capacity))
            if self._is_read or self._submitted - self._written >= most:
                return
            if self._needs_voice and self._voice is None and self._open:
                return  # the first good utterance sets the voice of the others
            chunk = next(passages, None)
            if chunk is None:
                self._is_read = True
                return
            self._open[self._submitted] = chunk
            backend.submit(self._item(self._submitted, chunk))
            self._submitted += 1

    def _item(self, number: int, chunk: TextChunk) -> WorkItem:
        if not chunk.voice:
            return WorkItem(number, "", "", self._options, self._voice, chunk)
        voice = self._settings.cast[chunk.voice]
        options = replace(self._options, speaker=voice.speaker)
        return WorkItem(number, "", "", options, voice.reference, replace(chunk, voice=""))

    def _settle(self, event: Spoken) -> None:
        chunk = self._open.pop(event.number, None)
        if chunk is None:
            return  # a worker that was counted as lost had completed it
        utterance = replace(Utterance.from_row(event.row), voice=chunk.voice)
        if utterance.is_voice and self._voice is None:
            self._voice = Reference(utterance.text, utterance.codes)
        self._complete[event.number] = utterance, AudioChunk(event.samples, event.sampling_rate)
