"""Text to speech with a loaded model and codec.

    synthesizer = Synthesizer.load()
    samples = synthesizer.synthesize("Hello.")               float32 [n], mono, at synthesizer.sampling_rate
    for chunk in synthesizer.stream(long_text): ...          the same audio in chunks, each as soon as it is complete

A text is split into chunks of about a sentence, each with the pause before it. The model generates several takes of a chunk,
or one after the other until one passes the checks of `synthesis.quality`; `synthesis.candidates` chooses the best.

`stream` is lazy: closing the iterator stops the model.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from llasa_cli.audio.chunk import AudioChunk
from llasa_cli.checkpoint.resolve import Checkpoint, resolve_checkpoint
from llasa_cli.errors import ModelError, UsageError
from llasa_cli.prompt import Prompt, PromptFormat, Reference
from llasa_cli.settings import LARGEST_SEED, ModelOptions, SamplingOptions, SamplingRequest, SpeechOptions
from llasa_cli.synthesis.candidates import Candidate, Candidates
from llasa_cli.synthesis.length_band import SLOWEST_S_A_CHARACTER, LengthBand, wide_limits
from llasa_cli.synthesis.quality import find_problems
from llasa_cli.synthesis.text_to_speech import PLAIN, StreamGate, StreamSettings
from llasa_cli.synthesis.utterance import Utterance
from llasa_cli.text.unicode import whole_characters
from llasa_cli.text.width import MAX_CHARACTERS

if TYPE_CHECKING:
    import numpy as np

    from llasa_cli.codec.codec import Codec
    from llasa_cli.lm.engine import SlotEngine
    from llasa_cli.lm.loader import LanguageModel
    from llasa_cli.text.chunker import TextChunk
    from llasa_cli.text.respelling import Lexicon

T = TypeVar("T")


class Synthesizer:
    """A loaded model and its codec. Build it with `Synthesizer.load`.

    Attributes:
        sampling_rate: Sampling rate of the audio in Hz.
        speakers: The speaker tags that the model knows; may be empty.
        checkpoint: The checkpoint it was loaded from.
        lexicon: Respellings for texts whose options have none; see `text.respelling`.
    """

    def __init__(self, prompt_format: PromptFormat, model: LanguageModel, codec: Codec, checkpoint: Checkpoint) -> None:
        self.prompt_format, self.model, self.codec, self.checkpoint = prompt_format, model, codec, checkpoint
        self.sampling_rate = codec.sampling_rate
        self.speakers = prompt_format.speakers
        self.lexicon: Lexicon = ()
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
        notify(f"loading {checkpoint.name}")
        codec_folder = checkpoint.codec_folder
        prompt_format = PromptFormat.load(checkpoint.folder, checkpoint.metadata)
        prompt_format.style_fields = checkpoint.style_fields
        prompt_format.language = prompt_format.language or checkpoint.language
        prompt_format.prompt("", speaker=speaker)  # refuses an unknown speaker, and imports the template library
        from llasa_cli.codec.codec import load_codec, read_codec_config
        from llasa_cli.codec.watermark import load_watermark

        codec_config = read_codec_config(codec_folder)  # reads the header only
        prompt_format.codes_per_second = codec_config.codes_per_second
        if codec_config.code_count != prompt_format.code_count:
            raise ModelError(
                f"The model speaks {prompt_format.code_count} codes, the codec in {codec_folder} knows "
                f"{codec_config.code_count}.",
                "Name the codec that belongs to the model with --codec.",
            )
        is_marked = prompt_format.is_watermarked and not checkpoint.options.no_watermark
        watermark = load_watermark() if is_marked else None
        if read_model is None:
            model, codec = _load_model_and_codec(checkpoint, prompt_format)
        else:
            model = read_model(checkpoint.folder, prompt_format, checkpoint.options)
            notify("loading its codec")
            codec = load_codec(codec_folder, checkpoint.options.device)
        codec.watermark = watermark
        return cls(prompt_format, model, codec, checkpoint)

    def sampling(self, request: SamplingRequest) -> SamplingOptions:
        """See `Checkpoint.sampling`."""
        return self.checkpoint.sampling(request)

    def chunks(self, text: str) -> list[str]:
        """The chunks of a text in the form that the model is given."""
        return [chunk.text for chunk in self.text_chunks([text], SpeechOptions()) if chunk.text]

    def text_chunks(
        self,
        parts: Iterable[str],
        options: SpeechOptions,
        on_note: Callable[[str], None] | None = None,
        continues: bool = False,
    ) -> Iterator[TextChunk]:
        """Split a text lazily: the first chunk is available before the last part has been read.

        Args:
            parts: The text, in parts of any length.
            on_note: Called with each warning about the text, such as a pause that can't be read.
            continues: The text continues an earlier one: it begins with the pause between two sentences.
        """
        return text_chunks(self._metadata, parts, options, on_note, continues, self.lexicon)

    def length_limits(self, text: str, speaker: str | None, has_reference: bool) -> tuple[float, float]:
        """The shortest and the longest plausible duration of a text in seconds; see `synthesis.length_band`."""
        speaker = None if has_reference else speaker or self.prompt_format.default_speaker
        band = LengthBand.from_metadata(self._metadata, speaker)
        if band is not None:
            return band.limits(text)
        return wide_limits(text, float(self._metadata.get("slowest_s_a_character") or SLOWEST_S_A_CHARACTER))

    def stream(
        self,
        text: str | Iterable[str],
        options: SpeechOptions | None = None,
        reference: Reference | None = None,
        on_utterance: Callable[[Utterance], None] | None = None,
        settings: StreamSettings = PLAIN,
    ) -> Iterator[AudioChunk]:
        """Speak a text of any length, chunk by chunk; see `TextToSpeech`.

        With neither a reference nor a speaker, a Llasa model picks a random voice for each chunk. In that case the first
        good utterance becomes the reference of all later chunks.

        Args:
            text: One text, or an iterable whose parts are spoken as they arrive, growing or not.

        Raises:
            UsageError: The text has nothing to say, the speaker or a style field is unknown, or the prompt is too long.

        Example:
            for chunk in synthesizer.stream("One sentence. Another one."):
                player.write(chunk.samples)
        """
        options = (options or SpeechOptions()).with_seed()
        chunks = self.text_chunks([text] if isinstance(text, str) else text, options, settings.on_note)
        if isinstance(text, str):
            # Refuse an empty text here, not when the first audio is requested.
            first = []
            for chunk in chunks:
                first.append(chunk)
                if chunk.text:
                    break
            else:
                raise nothing_to_say(self._metadata)
            chunks = chain(first, chunks)
        session = SynthesisSession(self, options, reference, settings)
        return self._stream(chunks, session, on_utterance or (lambda utterance: None))

    def _stream(
        self,
        chunks: Iterable[TextChunk],
        session: SynthesisSession,
        notify: Callable[[Utterance], None],
    ) -> Iterator[AudioChunk]:
        has_words = False
        for number, chunk in enumerate(chunks):
            has_words = has_words or bool(chunk.text)
            if number >= session.settings.resume_from.chunks:
                yield from session.synthesize(chunk, notify)
        if not has_words:
            raise nothing_to_say(self._metadata)

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
        """See `TextToSpeech`."""
        from llasa_cli.text.normalize.loader import load_normalizer

        normalize = load_normalizer(bool(self._metadata.get("spell_out")))
        if normalize is not None:
            text = normalize(text)
        return Reference(" ".join(text.split()), tuple(self.codec.encode(samples)))


def _load_model_and_codec(checkpoint: Checkpoint, prompt_format: PromptFormat) -> tuple[LanguageModel, Codec]:
    """Load both. The codec is read in the background while the model is read and the first codes are generated."""
    from llasa_cli.codec.codec import load_codec
    from llasa_cli.lm.loader import load_language_model

    options = checkpoint.options
    codecs: list[Codec] = []
    try:
        model = load_language_model(
            checkpoint.weights_folder,
            prompt_format,
            options.device,
            options.dtype,
            checkpoint.adapter,
            options.attention,
            checkpoint.metadata.get("cpu_dtype"),
            on_checked=lambda: codecs.append(load_codec(checkpoint.codec_folder, options.device, wait=False)),
        )
    except BaseException:
        for begun in codecs:
            begun.stop()
        raise
    (codec,) = codecs
    if model.device.type != "cpu":
        codec.wait()  # no other thread may allocate GPU memory while CUDA graphs are recorded
    return model, codec


def text_chunks(
    metadata: Mapping[str, Any],
    parts: Iterable[str],
    options: SpeechOptions,
    on_note: Callable[[str], None] | None = None,
    continues: bool = False,
    lexicon: Lexicon = (),
) -> Iterator[TextChunk]:
    """`Synthesizer.text_chunks` for a model that is not loaded, with the metadata of its checkpoint.

    Args:
        lexicon: Respellings for a text whose options have none.
    """
    from llasa_cli.text.chunker import chunk_text
    from llasa_cli.text.normalize.loader import load_normalizer
    from llasa_cli.text.respelling import respeller

    most = int(metadata.get("most_characters") or MAX_CHARACTERS)
    normalize = load_normalizer(bool(metadata.get("spell_out")), on_note)
    if options.lexicon or lexicon:
        respell, spell_out = respeller(options.lexicon or lexicon), normalize or str
        normalize = lambda text: spell_out(respell(text))  # noqa: E731
    return chunk_text(map(whole_characters, parts), most, normalize, options.markdown, on_note, continues)


def nothing_to_say(metadata: Mapping[str, Any]) -> UsageError:
    """The error for a text without a word that the model can read."""
    hint = "This voice reads Latin letters and digits." if metadata.get("spell_out") else "Give it words."
    return UsageError("There is nothing to say in this text.", hint)


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
        settings: StreamSettings = PLAIN,
    ) -> None:
        self.synthesizer, self.options, self.settings = synthesizer, options, settings
        self._engine: SlotEngine | None = None
        self.sampling = synthesizer.sampling(options.sampling)
        self._rate = synthesizer.sampling_rate
        default_speaker = synthesizer.prompt_format.default_speaker
        self.needs_voice = reference is None and options.speaker is None and default_speaker is None
        self.voice = reference or settings.resume_from.voice

    def synthesize(self, chunk: TextChunk, notify: Callable[[Utterance], None]) -> Iterator[AudioChunk]:
        """Yield the pause before a chunk and its speech."""
        if not chunk.text:
            utterance, pause = self.silence(chunk)
            notify(utterance)
            yield AudioChunk(pause, self._rate)
        elif (gate := self.settings.gate) is not None and gate.wants(chunk.text):
            _, pause = self.silence(chunk)
            if len(pause):
                yield AudioChunk(pause, self._rate)
            utterance = yield from self._generate_streamed(chunk, gate)
            notify(self._adopt_voice(utterance, chunk))
        else:
            utterance, sound = self.finish(chunk, *self._generate_checked(chunk))
            notify(utterance)
            yield AudioChunk(sound, self._rate)

    def silence(self, chunk: TextChunk) -> tuple[Utterance, np.ndarray]:
        """The pause before a chunk, as an utterance and as samples, float32 [n]."""
        import numpy as np

        pause_s = chunk.pause_s / self.options.speed
        return Utterance("", 0.0, (), 0, 0, pause_s=pause_s), np.zeros(round(pause_s * self._rate), np.float32)

    def finish(self, chunk: TextChunk, utterance: Utterance, samples: np.ndarray) -> tuple[Utterance, np.ndarray]:
        """The final utterance and sound of a chunk's best take.

        Args:
            samples: float32 [n], the speech.

        Returns:
            The utterance, and the pause and the speech at the requested speed, float32 [n].
        """
        import numpy as np

        silence, pause = self.silence(chunk)
        utterance = replace(self._adopt_voice(utterance, chunk), pause_s=silence.pause_s)
        speed = self.options.speed * chunk.speed
        if speed != 1:
            from llasa_cli.audio.pyav import change_tempo

            samples = change_tempo(samples, self._rate, speed)
            utterance = replace(utterance, seconds=len(samples) / self._rate)
        return utterance, np.concatenate([pause, samples])

    def _adopt_voice(self, utterance: Utterance, chunk: TextChunk) -> Utterance:
        """Make the first good utterance the voice of a text that has none; it is returned with `is_voice` set."""
        if self.needs_voice and self.voice is None and not utterance.problems and not chunk.voice:
            self.voice = Reference(utterance.text, utterance.codes)
            return replace(utterance, is_voice=True)
        return utterance

    def _generate_streamed(self, chunk: TextChunk, gate: StreamGate) -> Generator[AudioChunk, None, Utterance]:
        """Yield the audio of the only attempt while it is generated."""
        import numpy as np

        from llasa_cli.codec.streaming import decode_stream

        began = time.monotonic()
        codec = self.synthesizer.codec
        codes: list[int] = []
        pieces: list[np.ndarray] = []
        spoken: list[np.ndarray] = []
        seed = (self.options.seed or 0) % LARGEST_SEED
        voice, _ = self._voice_of(chunk)
        reference_codes = voice.codes if voice is not None else ()
        speed = self.options.speed * chunk.speed
        with self.synthesizer.model.generate(self.prompt(chunk), self.sampling, seed) as generation:
            watched = gate.watch(_recorded(generation, codes), codec.codes_per_second)
            audio = decode_stream(codec, watched, reference_codes)
            heard = _recorded(audio, spoken)
            for piece in gate.hold(heard if speed == 1 else _at_speed(heard, self._rate, speed), self._rate):
                pieces.append(piece)
                yield AudioChunk(piece, self._rate)
        samples = np.concatenate(spoken)
        return Utterance(
            chunk.text,
            sum(map(len, pieces)) / self._rate,
            tuple(codes),
            seed,
            1,
            self._find_problems(chunk, tuple(codes), samples, generation.ended),
            wall_s=time.monotonic() - began,
            pause_s=chunk.pause_s / self.options.speed,
            sentences=chunk.sentences,
            streamed=True,
            chapter=chunk.chapter,
            voice=chunk.voice,
        )

    def _generate_checked(self, chunk: TextChunk) -> tuple[Utterance, np.ndarray]:
        """Generate takes of a chunk until the best one is known. Returns the utterance and its samples, float32 [n]."""
        from llasa_cli.lm.request import GenerationRequest

        candidates = self.candidates(chunk)
        if self._engine is None:
            self._engine = self.synthesizer.model.takes_batch(
                self.options.best_of, in_step=self.options.search is not None
            )
        engine = self._engine
        search = None
        if self.options.search is not None:
            from llasa_cli.synthesis.step_search import StepSearch

            search = StepSearch(candidates, engine, self.sampling)
        running: dict[int, Candidate] = {}
        try:
            while not candidates.finished:
                for candidate in candidates.start():
                    running[candidate.number] = candidate
                    engine.add(GenerationRequest(candidates.prompt, self.sampling, candidate.seed, candidate.number))
                for finished in engine.step():
                    decoded = partial(self.synthesizer.codec.decode, candidates.with_reference(finished.codes))
                    candidate = running.pop(finished.request.tag)
                    likelihood = finished.log_probability
                    if search is not None:
                        likelihood = search.log_probability(candidate.number, likelihood)
                    candidates.judge(candidate, finished.codes, decoded, finished.ended, likelihood)
                for number, candidate in list(running.items()):
                    codes = engine.codes(number)
                    is_failed = bool(candidates.early_problem(codes))
                    if is_failed:
                        candidates.drop(candidate, codes)
                    if is_failed or not candidates.is_wanted(candidate):
                        engine.drop(number)
                        del running[number]
                if search is not None and running:
                    search.branch(running)
        finally:
            for number in running:
                engine.drop(number)
        return candidates.best()

    def prompt(self, chunk: TextChunk) -> Prompt:
        """The prompt of a chunk in its voice."""
        return self.synthesizer.prompt_format.prompt(chunk.text, *self._voice_of(chunk), self.options.style)

    def _voice_of(self, chunk: TextChunk) -> tuple[Reference | None, str | None]:
        """The reference and the speaker of a chunk."""
        if not chunk.voice:
            return self.voice, self.options.speaker
        named = self.settings.cast.get(chunk.voice)
        if named is None:
            raise UsageError(f"There is no voice {chunk.voice!r} for this text.", "Give it with --cast NAME=VOICE.")
        return named.reference, named.speaker

    def candidates(self, chunk: TextChunk) -> Candidates:
        """The takes of a chunk in its voice."""
        return Candidates(
            chunk,
            self.prompt(chunk),
            self._voice_of(chunk)[0],
            self.options,
            self.sampling.temperature == 0,
            lambda codes, samples, ended: self._find_problems(chunk, codes, samples, ended),
            self._length_limits(chunk)[1],
            self.settings.verifiers,
            self.synthesizer.codec,
        )

    def _find_problems(
        self, chunk: TextChunk, codes: tuple[int, ...], samples: np.ndarray, ended: bool
    ) -> tuple[str, ...]:
        """The checks that a take fails, in words."""
        rate = self.synthesizer.prompt_format.codes_per_second
        return find_problems(chunk.text, codes, samples, self._rate, ended, self._length_limits(chunk), rate)

    def _length_limits(self, chunk: TextChunk) -> tuple[float, float]:
        reference, speaker = self._voice_of(chunk)
        return self.synthesizer.length_limits(chunk.text, speaker, reference is not None)


def _recorded(values: Iterable[T], into: list[T]) -> Iterator[T]:
    for value in values:
        into.append(value)
        yield value


def _at_speed(pieces: Iterable[np.ndarray], sampling_rate: int, speed: float) -> Iterator[np.ndarray]:
    """The pieces of a sound at another speed; the pitch stays."""
    from llasa_cli.audio.pyav import Tempo

    tempo = Tempo(sampling_rate, speed)
    for piece in pieces:
        yield from tempo.push(piece)
    yield from tempo.push(None)
