"""Text to speech with a loaded model and codec.

    synthesizer = Synthesizer.load()
    samples = synthesizer.synthesize("Hello.")               float32 [n], mono, at synthesizer.sampling_rate
    for chunk in synthesizer.stream(long_text): ...          the same audio in chunks, each as soon as it is complete

A text is split into chunks of about a sentence, each with the pause before it. The model generates up to `retries + 1`
takes of a chunk until one passes the checks of `synthesis.quality`; the take with the fewest problems is used.

`stream` is lazy: closing the iterator stops the model.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from llasa_cli.audio.chunk import AudioChunk
from llasa_cli.checkpoint.resolve import Checkpoint, resolve_checkpoint
from llasa_cli.errors import ModelError, UsageError
from llasa_cli.prompt import Prompt, PromptFormat, Reference
from llasa_cli.settings import LARGEST_SEED, ModelOptions, SamplingOptions, SamplingRequest, SpeechOptions
from llasa_cli.synthesis.length_band import SLOWEST_S_A_CHARACTER, LengthBand, wide_limits
from llasa_cli.synthesis.quality import find_problems
from llasa_cli.text.unicode import whole_characters
from llasa_cli.text.width import MAX_CHARACTERS

if TYPE_CHECKING:
    import numpy as np

    from llasa_cli.codec.codec import Codec
    from llasa_cli.lm.loader import LanguageModel
    from llasa_cli.text.chunker import TextChunk

Check = Callable[[str, "np.ndarray", str], tuple[str, ...]]
"""(text, samples float32 [n], transcript of the voice's reference or "") -> problems of a take in words.
`--verify` passes one that uses a recognizer: `load_word_check`."""


def load_word_check(recognizer: str, sampling_rate: int, language: str | None) -> Check:
    """The check of `--verify`: words that a recognizer misses in a take, and words of the reference that it finds there."""
    from llasa_cli.asr import load_recognizer
    from llasa_cli.text.word_check import word_problems
    from llasa_cli.voices.reference import leaked_words

    loaded = load_recognizer(recognizer)

    def check(text: str, samples: np.ndarray, reference: str) -> tuple[str, ...]:
        heard = loaded.transcribe(samples, sampling_rate, language)
        return (*leaked_words(text, heard, reference), *word_problems(text, heard))

    return check


@dataclass(frozen=True)
class Utterance:
    """The speech of one text chunk.

    Attributes:
        text: The text that the model was given; empty for a pause alone.
        seconds: Duration of the speech, without the pause before it.
        codes: The speech codes.
        seed: The seed of the take that was used. The same seed and options give the same codes.
        attempts: How many takes were generated.
        problems: The checks that the used take fails; empty for a good one.
        retried: The problems of the other takes.
        wall_s: Seconds of computing, over all attempts.
        pause_s: The pause before the chunk, in seconds.
        sentences: The sentences of the chunk as they were written.
        is_voice: Whether the following chunks use this one as their reference.
        chapter: The title of the chapter that begins with it; empty inside of one.
        streamed: Whether the audio was passed on while it was generated. `wall_s` then includes the consumer's time.
    """

    text: str
    seconds: float
    codes: tuple[int, ...]
    seed: int
    attempts: int
    problems: tuple[str, ...] = ()
    retried: tuple[str, ...] = ()
    wall_s: float = 0.0
    pause_s: float = 0.0
    sentences: tuple[str, ...] = ()
    is_voice: bool = False
    streamed: bool = False
    chapter: str = ""

    def to_row(self) -> dict[str, Any]:
        """The fields under the names that files and `--json` have: `attempts` is `tries` there."""
        row = asdict(self)
        return {"tries" if name == "attempts" else name: value for name, value in row.items()}

    @classmethod
    def from_row(cls, row: Mapping[str, Any]) -> Utterance:
        """Rebuild an utterance from `to_row` after a round trip through JSON, which turns tuples into lists."""
        known = {part.name for part in fields(cls)}
        values: dict[str, Any] = {"attempts" if name == "tries" else name: value for name, value in row.items()}
        values = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items() if name in known}
        return cls(**values)


class StreamGate(Protocol):
    """Decides which chunks are streamed, and when their audio is passed on. See `audio.stream_gate.RealTimeStreamGate`."""

    def wants(self, text: str) -> bool:
        """Whether the audio of this chunk is needed before the chunk is complete."""

    def watch(self, codes: Iterable[int]) -> Iterator[int]:
        """Pass the codes of a chunk through while they are generated."""

    def hold(self, pieces: Iterable[np.ndarray], sampling_rate: int) -> Iterator[np.ndarray]:
        """Yield the pieces of a chunk's audio, each when it may be played."""


@dataclass(frozen=True)
class ResumePoint:
    """Where an earlier run of the same text stopped.

    Attributes:
        chunks: The number of chunks that are done, pauses included.
        voice: The utterance among them that the others use as their reference (`Utterance.is_voice`), if there is one.
    """

    chunks: int = 0
    voice: Reference | None = None


class Synthesizer:
    """A loaded model and its codec. Build it with `Synthesizer.load`.

    Attributes:
        sampling_rate: Sampling rate of the audio in Hz.
        speakers: The speaker tags that the model knows; may be empty.
        checkpoint: The checkpoint it was loaded from.
        name: The name that the model was loaded by.
        revision: Identifies the weights; see `checkpoint.resolve.Checkpoint.revision`.
    """

    def __init__(
        self,
        prompt_format: PromptFormat,
        model: LanguageModel,
        codec: Codec,
        checkpoint: Checkpoint,
    ) -> None:
        self.prompt_format, self.model, self.codec = prompt_format, model, codec
        self.checkpoint = checkpoint
        self.name, self.revision = checkpoint.name, checkpoint.revision
        self.sampling_rate = codec.sampling_rate
        self.speakers = prompt_format.speakers
        self._metadata = checkpoint.metadata

    @classmethod
    def load(
        cls,
        options: ModelOptions | Checkpoint | None = None,
        on_stage: Callable[[str], None] | None = None,
        speaker: str | None = None,
        read_model: Callable[[Path, PromptFormat, ModelOptions], Any] | None = None,
    ) -> Synthesizer:
        """Find and load a model. Nothing is downloaded.

        Args:
            options: The model, its device and its number format, or a checkpoint that was resolved from them. None: the
                built-in voice.
            on_stage: Called with a short text before each stage of loading.
            speaker: A speaker that will be requested later. An unknown one is refused before any weights are read.
            read_model: Loads the language model of a folder with another engine.

        Raises:
            ModelError: The model is missing or damaged. Everything that can be seen without weights is checked before torch
                is imported; damaged codec weights are reported by the first decode, or by `codec.wait()`.
            UsageError: The model doesn't know the speaker.
        """
        notify = on_stage or (lambda stage: None)
        checkpoint = options if isinstance(options, Checkpoint) else resolve_checkpoint(options or ModelOptions())
        options = checkpoint.options
        notify(f"loading {checkpoint.name}")
        codec_folder = checkpoint.codec_folder
        prompt_format = PromptFormat.load(checkpoint.folder, checkpoint.metadata)
        prompt_format.prompt("", speaker=speaker)  # refuses an unknown speaker, and imports the template library
        from llasa_cli.codec.codec import load_codec, read_codec_config
        from llasa_cli.lm.loader import load_language_model

        codec_config = read_codec_config(codec_folder)  # reads the header only
        known = codec_config.code_count
        prompt_format.codes_per_second = codec_config.codes_per_second
        if known != prompt_format.code_count:
            raise ModelError(
                f"The model speaks {prompt_format.code_count} codes, the codec in {codec_folder} knows {known}.",
                "Name the codec that belongs to the model with --codec.",
            )
        if read_model is not None:
            model = read_model(checkpoint.folder, prompt_format, options)
            notify("loading its codec")
            codec = load_codec(codec_folder, options.device)
        else:
            codecs: list[Codec] = []

            def begin_codec() -> None:
                # The codec is read in the background while the model is read and the first codes are generated.
                codecs.append(load_codec(codec_folder, options.device, wait=False))

            try:
                model = load_language_model(
                    checkpoint.weights_folder,
                    prompt_format,
                    options.device,
                    options.dtype,
                    checkpoint.adapter,
                    options.attention,
                    checkpoint.metadata.get("cpu_dtype"),
                    on_checked=begin_codec,
                )
            except BaseException:
                for begun in codecs:
                    begun.stop()
                raise
            (codec,) = codecs
            if model.device.type != "cpu":
                codec.wait()  # no other thread may allocate GPU memory while CUDA graphs are recorded
        return cls(prompt_format, model, codec, checkpoint)

    def sampling(self, request: SamplingRequest) -> SamplingOptions:
        """Complete a request: open values come from the checkpoint's `llasa.json`, else from the general defaults."""
        return request.over(self._metadata.get("sampling") or {})

    def chunks(self, text: str) -> list[str]:
        """The chunks of a text as the model is given them."""
        return [chunk.text for chunk in self.text_chunks([text], SpeechOptions()) if chunk.text]

    def text_chunks(
        self,
        parts: Iterable[str],
        options: SpeechOptions,
        on_note: Callable[[str], None] | None = None,
        continues: bool = False,
    ) -> Iterator[TextChunk]:
        """Split a text lazily: the first chunk is there before the last part has been read.

        Args:
            parts: The text, in parts of any length.
            on_note: Called with each warning about the text, such as a pause that can't be read.
            continues: The text continues an earlier one: it begins with the pause between two sentences.
        """
        from llasa_cli.text.chunker import chunk_text

        most = int(self._metadata.get("most_characters") or MAX_CHARACTERS)
        normalize = self._normalizer(on_note)
        return chunk_text(map(whole_characters, parts), most, normalize, options.markdown, on_note, continues)

    def length_limits(self, text: str, speaker: str | None, has_reference: bool) -> tuple[float, float]:
        """The shortest and the longest plausible duration of a text in seconds; see `synthesis.length_band`."""
        speaker = None if has_reference else speaker or self.prompt_format.default_speaker
        band = LengthBand.from_metadata(self._metadata, speaker)
        if band is not None:
            return band.limits(text)
        return wide_limits(text, float(self._metadata.get("slowest_s_a_character") or SLOWEST_S_A_CHARACTER))

    def _normalizer(self, on_note: Callable[[str], object] | None = None) -> Callable[[str], str] | None:
        """The function that spells out numbers and signs; None if this model reads them by itself."""
        from llasa_cli.text.normalize.loader import load_normalizer

        return load_normalizer(bool(self._metadata.get("spell_out")), on_note)

    def stream(
        self,
        text: str | Iterable[str],
        options: SpeechOptions | None = None,
        reference: Reference | None = None,
        on_utterance: Callable[[Utterance], None] | None = None,
        *,
        on_note: Callable[[str], None] | None = None,
        check: Check | None = None,
        gate: StreamGate | None = None,
        resume_from: ResumePoint | None = None,
    ) -> Iterator[AudioChunk]:
        """Speak a text of any length, chunk by chunk.

        With neither a reference nor a speaker, a Llasa model picks a random voice for each chunk. In that case the first
        good utterance becomes the reference of all later chunks.

        Args:
            text: One text, or an iterable whose parts are spoken as they arrive.
            options: Sampling, seed, speaker and number of retries.
            reference: A voice to clone; see `encode_reference`.
            on_utterance: Called for each chunk, before its audio is yielded. For a streamed chunk it is called after all of
                its audio has been consumed.
            on_note: Called with each warning about the text, such as a pause that can't be read.
            check: An additional check of each take, such as a recognizer's.
            gate: Selects chunks whose audio is yielded while it is generated. Such a chunk has one attempt, since audio that
                was played can't be replaced. All other chunks are completed and checked first.
            resume_from: Where an earlier run of the same text stopped.

        Yields:
            Audio, mono. The pause before a chunk is part of it, or a chunk of its own if the speech is streamed.

        Raises:
            UsageError: The text has nothing to say, the speaker is unknown, or the prompt is too long.

        Example:
            for chunk in synthesizer.stream("One sentence. Another one."):
                player.write(chunk.samples)
        """
        options = options or SpeechOptions()
        if options.seed is None:
            options = replace(options, seed=secrets.randbelow(LARGEST_SEED))
        chunks = self.text_chunks([text] if isinstance(text, str) else text, options, on_note)
        if isinstance(text, str):
            # Refuse an empty text here, not when the first audio is requested.
            first = []
            for chunk in chunks:
                first.append(chunk)
                if chunk.text:
                    break
            else:
                raise self.nothing_to_say()
            chunks = chain(first, chunks)
        session = SynthesisSession(self, options, reference, check, gate)
        return self._stream(chunks, session, on_utterance, resume_from or ResumePoint())

    def nothing_to_say(self) -> UsageError:
        """The error for a text without a word that this model can read."""
        hint = "This voice reads Latin letters and digits." if self._metadata.get("spell_out") else "Give it words."
        return UsageError("There is nothing to say in this text.", hint)

    def _stream(
        self,
        chunks: Iterable[TextChunk],
        session: SynthesisSession,
        on_utterance: Callable[[Utterance], None] | None,
        resume_from: ResumePoint,
    ) -> Iterator[AudioChunk]:
        notify = on_utterance or (lambda utterance: None)
        session.voice = session.voice or resume_from.voice
        has_words = False
        for number, chunk in enumerate(chunks):
            has_words = has_words or bool(chunk.text)
            if number >= resume_from.chunks:
                yield from session.synthesize(chunk, notify)
        if not has_words:
            raise self.nothing_to_say()

    def synthesize(
        self,
        text: str,
        options: SpeechOptions | None = None,
        reference: Reference | None = None,
        on_utterance: Callable[[Utterance], None] | None = None,
    ) -> np.ndarray:
        """All audio of `stream` in one array, float32 [n]."""
        import numpy as np

        return np.concatenate([chunk.samples for chunk in self.stream(text, options, reference, on_utterance)])

    def encode_reference(self, samples: np.ndarray, text: str) -> Reference:
        """Make a voice to clone from a clip.

        Args:
            samples: float32 [n], mono, 16 kHz.
            text: The transcript of the clip.
        """
        normalize = self._normalizer()
        if normalize is not None:
            text = normalize(text)
        return Reference(" ".join(text.split()), tuple(self.codec.encode(samples)))


class SynthesisSession:
    """The synthesis of one text: the settings and the voice that all of its chunks share.

    Attributes:
        voice: The reference of the next chunk; None if there is none yet.
        needs_voice: Whether neither a reference nor a speaker was given, so that the first good utterance sets the voice.
    """

    def __init__(
        self,
        synthesizer: Synthesizer,
        options: SpeechOptions,
        reference: Reference | None,
        check: Check | None,
        gate: StreamGate | None,
    ) -> None:
        self.synthesizer, self.options = synthesizer, options
        self._check, self._gate = check, gate
        self.sampling = synthesizer.sampling(options.sampling)
        self._rate = synthesizer.sampling_rate
        default_speaker = synthesizer.prompt_format.default_speaker
        self.needs_voice = reference is None and options.speaker is None and default_speaker is None
        self.voice = reference

    def synthesize(self, chunk: TextChunk, notify: Callable[[Utterance], None]) -> Iterator[AudioChunk]:
        """Yield the pause before a chunk and its speech."""
        import numpy as np

        pause = np.zeros(round(chunk.pause_s * self._rate), np.float32)
        if not chunk.text:
            notify(Utterance("", 0.0, (), 0, 0, pause_s=chunk.pause_s))
            yield AudioChunk(pause, self._rate)
        elif self._gate is not None and self._gate.wants(chunk.text):
            if len(pause):
                yield AudioChunk(pause, self._rate)
            utterance = yield from self._generate_streamed(chunk, self._gate)
            notify(self.adopt_voice(utterance))
        else:
            utterance, samples = self._generate_checked(chunk)
            notify(self.adopt_voice(utterance))
            yield AudioChunk(np.concatenate([pause, samples]), self._rate)

    def adopt_voice(self, utterance: Utterance) -> Utterance:
        """Make the first good utterance the voice of a text that has none; it is returned with `is_voice` set."""
        if self.needs_voice and self.voice is None and not utterance.problems:
            self.voice = Reference(utterance.text, utterance.codes)
            return replace(utterance, is_voice=True)
        return utterance

    def _generate_streamed(self, chunk: TextChunk, gate: StreamGate) -> Generator[AudioChunk, None, Utterance]:
        """Yield the audio of the only attempt while it is generated."""
        import numpy as np

        from llasa_cli.codec.streaming import decode_stream

        began = time.monotonic()
        codes: list[int] = []
        pieces: list[np.ndarray] = []
        seed = (self.options.seed or 0) % LARGEST_SEED
        reference_codes = self.voice.codes if self.voice is not None else ()
        with self.synthesizer.model.generate(self.prompt(chunk), self.sampling, seed) as generation:
            audio = decode_stream(self.synthesizer.codec, gate.watch(_recorded(generation, codes)), reference_codes)
            for piece in gate.hold(audio, self._rate):
                pieces.append(piece)
                yield AudioChunk(piece, self._rate)
        samples = np.concatenate(pieces)
        return Utterance(
            chunk.text,
            len(samples) / self._rate,
            tuple(codes),
            seed,
            1,
            self.find_problems(chunk, tuple(codes), samples, generation.ended),
            wall_s=time.monotonic() - began,
            pause_s=chunk.pause_s,
            sentences=chunk.sentences,
            streamed=True,
            chapter=chunk.chapter,
        )

    def _generate_checked(self, chunk: TextChunk) -> tuple[Utterance, np.ndarray]:
        """Generate takes of a chunk until one passes. -> the utterance and its samples, float32 [n]"""
        attempts = self.retry_loop(chunk)
        while not attempts.finished:
            with self.synthesizer.model.generate(attempts.prompt, self.sampling, attempts.seed) as generation:
                codes = tuple(generation)
            decoded = self.synthesizer.codec.decode(attempts.with_reference(codes))
            attempts.judge(codes, decoded, generation.ended)
        return attempts.best()

    def prompt(self, chunk: TextChunk) -> Prompt:
        """The prompt of a chunk in the current voice."""
        return self.synthesizer.prompt_format.prompt(chunk.text, self.voice, self.options.speaker)

    def retry_loop(self, chunk: TextChunk) -> RetryLoop:
        """The attempts at a chunk in the current voice."""
        return RetryLoop(self, chunk)

    def find_problems(
        self, chunk: TextChunk, codes: tuple[int, ...], samples: np.ndarray, ended: bool
    ) -> tuple[str, ...]:
        """The problems of a take, in words."""
        limits_s = self.synthesizer.length_limits(chunk.text, self.options.speaker, self.voice is not None)
        rate = self.synthesizer.prompt_format.codes_per_second
        found = find_problems(chunk.text, codes, samples, self._rate, ended, limits_s, rate)
        if found or self._check is None:
            return found  # the expensive check is not needed for a take that has failed already
        return self._check(chunk.text, samples, self.voice.text if self.voice is not None else "")


class RetryLoop:
    """The attempts at one chunk. A take with problems is followed by another one with the next seed; the take with the
    fewest problems is used.

        while not attempts.finished:
            codes, ended = <generate from attempts.prompt with attempts.seed>
            attempts.judge(codes, codec.decode(attempts.with_reference(codes)), ended)
        utterance, samples = attempts.best()

    Attributes:
        prompt: The prompt of all attempts.
        finished: Whether a take has passed, or all attempts are used up.
    """

    def __init__(self, session: SynthesisSession, chunk: TextChunk) -> None:
        self._session, self._chunk = session, chunk
        self._voice = session.voice
        self._began = time.monotonic()
        self.prompt = session.prompt(chunk)
        self.finished = False
        self._attempts = 0
        # Greedy decoding gives the same take again.
        self._most = 1 if session.sampling.temperature == 0 else 1 + session.options.retries
        self._best: tuple[Utterance, np.ndarray] | None = None
        self._failures: list[tuple[int, tuple[str, ...]]] = []

    @property
    def pause_s(self) -> float:
        """The silence before the chunk, in seconds."""
        return self._chunk.pause_s

    @property
    def seed(self) -> int:
        """The seed of the next attempt."""
        return ((self._session.options.seed or 0) + self._attempts) % LARGEST_SEED

    def with_reference(self, codes: Sequence[int]) -> list[int]:
        """The codes to decode: the reference's, then the speech's, so that the codec sees them as one recording."""
        return [*(self._voice.codes if self._voice is not None else ()), *codes]

    def judge(self, codes: tuple[int, ...], decoded: np.ndarray, ended: bool) -> None:
        """Check the take that was generated with `seed`.

        Args:
            codes: The codes of the speech alone.
            decoded: float32 [n], the audio of `with_reference(codes)`. The reference's samples are cut off here.
            ended: Whether the model generated its end token.
        """
        session = self._session
        reference_samples = len(self.with_reference(())) * session.synthesizer.codec.samples_per_code
        samples = decoded[reference_samples:]
        problems = session.find_problems(self._chunk, codes, samples, ended)
        if self._best is None or len(problems) < len(self._best[0].problems):
            seconds = len(samples) / session.synthesizer.sampling_rate
            utterance = Utterance(self._chunk.text, seconds, codes, self.seed, self._attempts + 1, problems)
            self._best = utterance, samples
        if problems:
            self._failures.append((self.seed, problems))
        self._attempts += 1
        self.finished = not problems or self._attempts >= self._most

    def best(self) -> tuple[Utterance, np.ndarray]:
        """The take that is used, and its samples, float32 [n]."""
        assert self._best is not None
        utterance, samples = self._best
        others = tuple(p for seed, problems in self._failures if seed != utterance.seed for p in problems)
        return replace(
            utterance,
            retried=others,
            attempts=self._attempts,
            wall_s=time.monotonic() - self._began,
            pause_s=self._chunk.pause_s,
            sentences=self._chunk.sentences,
            chapter=self._chunk.chapter,
        ), samples


def _recorded(codes: Iterable[int], into: list[int]) -> Iterator[int]:
    for code in codes:
        into.append(code)
        yield code
