"""The interface of everything that speaks a text, wherever the model runs.

    for chunk in text_to_speech.stream(parts, SpeechOptions(seed=7), reference): ...

`Synthesizer` speaks in this process, `batch.passages.PassageSynthesizer` in the workers of a batch, and
`serve.client.RemoteSynthesizer` in a running server.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from llasa_cli.synthesis.utterance import ResumePoint, Utterance

if TYPE_CHECKING:
    import numpy as np

    from llasa_cli.audio.chunk import AudioChunk
    from llasa_cli.checkpoint.resolve import ModelDescription
    from llasa_cli.prompt import Reference
    from llasa_cli.settings import SpeechOptions
    from llasa_cli.synthesis.verifiers import Verifier
    from llasa_cli.voices.resolve import ResolvedVoice


class StreamGate(Protocol):
    """Decides which chunks are streamed, and when their audio is passed on. See `audio.stream_gate.RealTimeStreamGate`."""

    def wants(self, text: str) -> bool:
        """Whether the audio of this chunk is needed before the chunk is complete."""

    def watch(self, codes: Iterable[int], codes_per_second: float) -> Iterator[int]:
        """Pass the codes of a chunk through while they are generated."""

    def hold(self, pieces: Iterable[np.ndarray], sampling_rate: int) -> Iterator[np.ndarray]:
        """Yield the pieces of a chunk's audio, each when it may be played."""


@dataclass(frozen=True)
class StreamSettings:
    """The settings of the speech of one text, besides its `SpeechOptions`.

    Attributes:
        on_note: Called with each warning about the text, such as a pause that can't be read.
        verifiers: Judge the takes that pass the checks, such as a recognizer. Workers and servers have their own.
        gate: Selects chunks whose audio is yielded while it is generated. Such a chunk has one attempt, since audio that was
            played can't be replaced. All other chunks are completed and checked first. Without one, none is streamed.
        resume_from: The point at which an earlier run of the same text stopped.
        cast: The voices of the text by the names in its marks (`text.marks.VOICE`). A text that grows may still add some.
        is_growing: The parts are still being written: each is spoken when it arrives.
    """

    on_note: Callable[[str], None] = lambda text: None
    verifiers: Sequence[Verifier] = ()
    gate: StreamGate | None = None
    resume_from: ResumePoint = field(default_factory=ResumePoint)
    cast: Mapping[str, ResolvedVoice] = field(default_factory=dict)
    is_growing: bool = False


PLAIN = StreamSettings()


class TextToSpeech(Protocol):
    """See the module."""

    @property
    def checkpoint(self) -> ModelDescription:
        """The model that speaks."""

    @property
    def sampling_rate(self) -> int:
        """Hz, of the audio."""

    def encode_reference(self, samples: np.ndarray, text: str) -> Reference:
        """Make a voice to clone from a clip.

        Args:
            samples: float32 [n], mono, 16 kHz.
            text: The transcript of the clip.
        """

    def stream(
        self,
        text: Iterable[str],
        options: SpeechOptions,
        reference: Reference | None,
        on_utterance: Callable[[Utterance], None],
        settings: StreamSettings,
    ) -> Iterator[AudioChunk]:
        """Speak a text of any length, chunk by chunk.

        Args:
            text: The parts of the text.
            options: Sampling, seed, speaker and number of retries.
            reference: A voice to clone; see `encode_reference`.
            on_utterance: Called for each chunk, before its audio is yielded. For a streamed chunk it is called after all of
                its audio has been consumed.

        Yields:
            Audio, mono. The pause before a chunk is part of it, or a chunk of its own if the speech is streamed.
        """
