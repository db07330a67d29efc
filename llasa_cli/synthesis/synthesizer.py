"""Text to sound: the one place where the rooms of the first flow meet.

    speech = Synthesizer.load()
    samples = speech.speak("Hello.")                   float32 [n], mono, at speech.sampling_rate
    for chunk in speech.say(long_text): ...            the same in pieces, each as soon as it is made

A text is a series of passages (a breath each, with the pause before it); a passage gets one or more takes, and the best of
them is given on.

`say` is a pull: closing the iterator stops the model.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from llasa_cli.audio.chunk import AudioChunk
from llasa_cli.errors import ModelError, UsageError
from llasa_cli.files import read_metadata
from llasa_cli.prompt import Prompt, PromptFormat, Reference
from llasa_cli.settings import ModelOptions, SamplingOptions, SamplingRequest, SpeechOptions
from llasa_cli.synthesis.quality import SLOWEST_S_A_CHARACTER, problems_of
from llasa_cli.text.unicode import whole_characters
from llasa_cli.text.width import MAX_CHARACTERS

if TYPE_CHECKING:
    import numpy as np

    from llasa_cli.codec.codec import Codec
    from llasa_cli.lm.loader import LanguageModel
    from llasa_cli.text.chunker import TextChunk

LARGEST_SEED = 2**31


@dataclass(frozen=True)
class Utterance:
    """What became of one chunk of text.

    Attributes:
        text: As the model was given it; empty where there was only a pause.
        seconds: Of sound, without the pause.
        seed: That made it: with the same options it can be made again.
        tries: How many takes it needed.
        problems: What is still wrong with it; empty for a good one.
        retried: What was wrong with the other takes.
        wall_s: Over all tries.
        pause_s: The silence before it.
        sentences: What it says, as written.
        is_voice: The passages after it are spoken in its voice.
        streamed: It was given while it was made; `wall_s` has the time in which its pieces were taken.
    """

    text: str
    seconds: float
    codes: tuple[int, ...]
    seed: int
    tries: int
    problems: tuple[str, ...] = ()
    retried: tuple[str, ...] = ()
    wall_s: float = 0.0
    pause_s: float = 0.0
    sentences: tuple[str, ...] = ()
    is_voice: bool = False
    streamed: bool = False


class Synthesizer:
    """A model and its codec, loaded. Build it with `Synthesizer.load`.

    Attributes:
        sampling_rate: Of its sound, Hz.
        speakers: Whose voices it knows by a tag; may be empty.
        name, revision: What it was asked for by, and which weights those were; see `hub.cache.model_revision`.
    """

    def __init__(
        self,
        prompt_format: PromptFormat,
        model: LanguageModel,
        codec: Codec,
        about: dict[str, Any],
        name: str,
        revision: str,
    ) -> None:
        self.prompt_format, self.model, self.codec = prompt_format, model, codec
        self.name, self.revision = name, revision
        self.sampling_rate = codec.sampling_rate
        self.speakers = prompt_format.speakers
        self._about = about

    @classmethod
    def load(
        cls,
        options: ModelOptions | None = None,
        on_stage: Callable[[str], None] | None = None,
        speaker: str | None = None,
        read_model: Callable[[Path, PromptFormat, ModelOptions], Any] | None = None,
    ) -> Synthesizer:
        """Find and load a model; nothing is downloaded.

        Args:
            options: Which, and where it runs; the built-in voice by default.
            on_stage: Told what is being loaded.
            speaker: Who is going to be asked for; refused here if the model does not know them.
            read_model: Another engine's way to load the language model in a folder.

        Raises:
            ModelError, UsageError: See there. What needs no weights to be seen is seen before torch is imported; what is
                wrong with the numbers of the codec, when it first decodes, or by `codec.wait()`.
        """
        from llasa_cli.checkpoint.resolve import find_adapter, find_codec, find_model, model_revision

        options = options or ModelOptions()
        tell = on_stage or (lambda stage: None)
        tell(f"loading {options.model}")
        folder = find_model(options.model)
        about = read_metadata(folder)
        codec_folder = find_codec(folder, options.codec or about.get("codec"))
        prompt_format = PromptFormat.load(folder)
        adapter = find_adapter(options.adapter)
        if adapter is not None:
            about = about | read_metadata(adapter)
            prompt_format.speakers = tuple(about.get("speakers") or ())
            prompt_format.default_speaker = about.get("default_speaker")
        prompt_format.prompt(
            "", speaker=speaker
        )  # refuses who is not known; and the template's library is loaded by then
        from llasa_cli.codec.codec import codes_known_to, load_codec
        from llasa_cli.lm.loader import load_language_model

        known = codes_known_to(codec_folder)  # by the headers: before anything big is read
        if known != prompt_format.code_count:
            raise ModelError(
                f"The model speaks {prompt_format.code_count} codes, the codec in {codec_folder} knows {known}.",
                "Name the codec that belongs to the model with --codec.",
            )
        if read_model is not None:
            model = read_model(folder, prompt_format, options)
            tell("loading its codec")
            codec = load_codec(codec_folder, options.device)
        else:
            codecs: list[Codec] = []

            def begin() -> None:
                # Its weights are read while the model's are, and while the first prompt and codes are made.
                codecs.append(load_codec(codec_folder, options.device, wait=False))

            try:
                model = load_language_model(
                    folder, prompt_format, options.device, options.dtype, adapter, options.attention, on_checked=begin
                )
            except BaseException:
                for begun in codecs:
                    begun.stop()
                raise
            (codec,) = codecs
            if model.device.type != "cpu":
                codec.wait()  # CUDA graphs are recorded next: not tried while another thread takes memory of the GPU
        return cls(prompt_format, model, codec, about, options.model, model_revision(options))

    def sampling(self, request: SamplingRequest) -> SamplingOptions:
        """Fill what was left open: by the checkpoint's `llasa.json`, else by the general defaults."""
        return request.over(self._about.get("sampling") or {})

    def chunks(self, text: str) -> list[str]:
        """The pieces that `say` will speak, as the model is given them."""
        return [passage.text for passage in self.passages([text], SpeechOptions()) if passage.text]

    def passages(
        self, parts: Iterable[str], options: SpeechOptions, on_note: Callable[[str], None] | None = None
    ) -> Iterator[TextChunk]:
        """The first is there before the last has been looked at: a book begins as soon as a sentence does."""
        from llasa_cli.text.chunker import chunk_text

        most = int(self._about.get("most_characters") or MAX_CHARACTERS)
        spell = self._spelling(on_note)
        return chunk_text(map(whole_characters, parts), most, spell, options.markdown, on_note)

    @property
    def slowest_s_a_character(self) -> float:
        """What takes longer has gone on after the text."""
        return float(self._about.get("slowest_s_a_character") or SLOWEST_S_A_CHARACTER)

    def _spelling(self, tell: Callable[[str], object] | None = None) -> Callable[[str], str] | None:
        """How this voice wants numbers and signs written; None: it reads them itself. `tell`: of what it can't read."""
        from llasa_cli.text.normalize.loader import load_normalizer

        return load_normalizer(bool(self._about.get("spell_out")), tell)

    def say(
        self,
        text: str | Iterable[str],
        options: SpeechOptions | None = None,
        reference: Reference | None = None,
        on_take: Callable[[Utterance], None] | None = None,
        *,
        on_note: Callable[[str], None] | None = None,
        check: Callable[[str, np.ndarray], tuple[str, ...]] | None = None,
        live: StreamGate | None = None,
        after: ResumePoint | None = None,
    ) -> Iterator[AudioChunk]:
        """Speak a text of any length, passage by passage.

        Where neither a reference nor a speaker says whose voice it is, a Llasa draws a new one for each passage: there the
        first good passage is the reference of all that follow.

        Args:
            text: Sentences; it is cut at their ends. Of an iterable each part is spoken as soon as it comes.
            options: How to draw, the seed, whose voice, how many retries.
            reference: A voice to clone; see `encode_reference`.
                on_take: Told about each passage: before its sound is given, of a streamed one when all of it has been taken.
            on_note: Told what in the text could not be followed, such as a pause without a time.
            check: (text, samples) -> what else is wrong with a take, such as words that a recogniser does not find.
            live: Says which passages are wanted while they are being made. Such a one is decoded in windows and has one try,
                for what was heard can't be taken back; the others are made and checked whole.
            after: Where an earlier run of the same text stopped.

        Raises:
            UsageError: Nothing to say, an unknown speaker, or no room for the prompt.
        """
        options = options or SpeechOptions()
        if options.seed is None:
            options = replace(options, seed=secrets.randbelow(LARGEST_SEED))
        passages = self.passages([text] if isinstance(text, str) else text, options, on_note)
        if isinstance(text, str):
            first = []
            for passage in passages:
                first.append(passage)
                if passage.text:
                    break
            else:
                raise self.nothing()
            passages = chain(first, passages)
        return self._say(
            passages, SynthesisSession(self, options, reference, check, live), on_take, after or ResumePoint()
        )

    def nothing(self) -> UsageError:
        hint = "This voice reads Latin letters and digits." if self._about.get("spell_out") else "Give it words."
        return UsageError("There is nothing to say in this text.", hint)

    def _say(
        self,
        passages: Iterable[TextChunk],
        request: SynthesisSession,
        on_take: Callable[[Utterance], None] | None,
        after: ResumePoint,
    ) -> Iterator[AudioChunk]:
        tell = on_take or (lambda take: None)
        request.voice = request.voice or after.voice
        spoken = False
        for number, passage in enumerate(passages):
            spoken = spoken or bool(passage.text)
            if number >= after.passages:
                yield from request.speak(passage, tell)
        if not spoken:
            raise self.nothing()

    def speak(
        self,
        text: str,
        options: SpeechOptions | None = None,
        reference: Reference | None = None,
        on_take: Callable[[Utterance], None] | None = None,
    ) -> np.ndarray:
        """The whole of `say` in one array, float32 [n]."""
        import numpy as np

        return np.concatenate([chunk.samples for chunk in self.say(text, options, reference, on_take)])

    def encode_reference(self, samples: np.ndarray, text: str) -> Reference:
        """A clip (float32 [n], mono, 16 kHz) and what is said in it -> a voice to speak with."""
        spell = self._spelling()
        if spell is not None:
            text = spell(text)
        return Reference(" ".join(text.split()), tuple(self.codec.encode(samples)))


class StreamGate(Protocol):
    """Who listens while speech is being made; `audio.pacing.RealTimeStreamGate` does all but the first."""

    def wants(self, text: str) -> bool:
        """Whether this passage is to be heard before it is finished."""

    def watch(self, codes: Iterable[int]) -> Iterator[int]:
        """The codes of a passage, as they are made."""

    def hold(self, pieces: Iterable[np.ndarray], sampling_rate: int) -> Iterator[np.ndarray]:
        """Its sound, each piece when it may be heard."""


@dataclass(frozen=True)
class ResumePoint:
    """What an earlier run has already said.

    Attributes:
        passages: So many, from the beginning.
        voice: The take of them that the rest is to sound like (`Utterance.is_voice`), if there was one.
    """

    passages: int = 0
    voice: Reference | None = None


class SynthesisSession:
    """One text being spoken: what stays the same from passage to passage.

    Attributes:
        voice: What it is spoken in; of a text that has none, its first good take.
        needs_voice: It began without one, and no speaker was named.
    """

    def __init__(
        self,
        speech: Synthesizer,
        options: SpeechOptions,
        reference: Reference | None,
        check: Callable[[str, np.ndarray], tuple[str, ...]] | None,
        live: StreamGate | None,
    ) -> None:
        self.speech, self.options = speech, options
        self._check, self._live = check, live
        self.sampling = speech.sampling(options.sampling)
        self._rate = speech.sampling_rate
        self.needs_voice = (
            reference is None and options.speaker is None and speech.prompt_format.default_speaker is None
        )
        self.voice = reference

    def speak(self, passage: TextChunk, tell: Callable[[Utterance], None]) -> Iterator[AudioChunk]:
        """The pause before a passage, then its sound."""
        import numpy as np

        pause = np.zeros(round(passage.pause_s * self._rate), np.float32)
        if not passage.text:
            tell(Utterance("", 0.0, (), 0, 0, pause_s=passage.pause_s))
            yield AudioChunk(pause, self._rate)
        elif self._live is not None and self._live.wants(passage.text):
            if len(pause):
                yield AudioChunk(pause, self._rate)
            take = yield from self._as_it_is_made(passage, self._live)
            tell(self.keep(take))
        else:
            take, samples = self._best(passage)
            tell(self.keep(take))
            yield AudioChunk(np.concatenate([pause, samples]), self._rate)

    def keep(self, take: Utterance) -> Utterance:
        """The first good take becomes the voice of a text that has none."""
        if self.needs_voice and self.voice is None and not take.problems:
            self.voice = Reference(take.text, take.codes)
            return replace(take, is_voice=True)
        return take

    def _as_it_is_made(self, passage: TextChunk, live: StreamGate) -> Generator[AudioChunk, None, Utterance]:
        """The only take, in pieces."""
        import numpy as np

        from llasa_cli.codec.streaming import decode_stream

        began = time.monotonic()
        codes: list[int] = []
        pieces: list[np.ndarray] = []
        prompt = self.prompt(passage)
        seed = (self.options.seed or 0) % LARGEST_SEED
        before = self.voice.codes if self.voice is not None else ()
        with self.speech.model.generate(prompt, self.sampling, seed) as generation:
            made = decode_stream(self.speech.codec, live.watch(_noted(generation, codes)), before)
            for piece in live.hold(made, self._rate):
                pieces.append(piece)
                yield AudioChunk(piece, self._rate)
        samples = np.concatenate(pieces)
        problems = self.problems(passage, tuple(codes), samples, generation.ended)
        return Utterance(
            passage.text,
            len(samples) / self._rate,
            tuple(codes),
            seed,
            1,
            problems,
            wall_s=time.monotonic() - began,
            pause_s=passage.pause_s,
            sentences=passage.sentences,
            streamed=True,
        )

    def _best(self, passage: TextChunk) -> tuple[Utterance, np.ndarray]:
        """Speak a passage as often as it needs."""
        attempts = self.attempts(passage)
        while not attempts.finished:
            with self.speech.model.generate(attempts.prompt, self.sampling, attempts.seed) as generation:
                codes = tuple(generation)
            attempts.judge(codes, self.speech.codec.decode(attempts.whole(codes)), generation.ended)
        return attempts.best()

    def prompt(self, passage: TextChunk) -> Prompt:
        return self.speech.prompt_format.prompt(passage.text, self.voice, self.options.speaker)

    def attempts(self, passage: TextChunk) -> RetryLoop:
        """The takes that a passage gets, in the voice that there is by now."""
        return RetryLoop(self, passage)

    def problems(self, passage: TextChunk, codes: tuple[int, ...], samples: np.ndarray, ended: bool) -> tuple[str, ...]:
        found = problems_of(passage.text, codes, samples, self._rate, ended, self.speech.slowest_s_a_character)
        # What is broken already needs no listener.
        return found or (self._check(passage.text, samples) if self._check is not None else ())


class RetryLoop:
    """The takes of one passage: with problems, again by the next seed. The take with the fewest problems stays.

        while not attempts.finished:
            codes, ended = <what the model makes of attempts.prompt with attempts.seed>
            attempts.judge(codes, codec.decode(attempts.whole(codes)), ended)
        take, samples = attempts.best()

    Attributes:
        prompt: For every one of them.
        seed: Of the next.
        finished: There is nothing to try any more.
    """

    def __init__(self, request: SynthesisSession, passage: TextChunk) -> None:
        self._request, self._passage = request, passage
        self._voice = request.voice
        self._began = time.monotonic()
        self.prompt = request.prompt(passage)
        self.finished = False
        self._tries = 0
        self._most = 1 if request.sampling.temperature == 0 else 1 + request.options.retries
        self._best: tuple[Utterance, np.ndarray] | None = None
        self._failures: list[tuple[int, tuple[str, ...]]] = []

    @property
    def seed(self) -> int:
        return ((self._request.options.seed or 0) + self._tries) % LARGEST_SEED

    def whole(self, codes: Sequence[int]) -> list[int]:
        """What is decoded: reference and speech together, so that the joint is a continuation."""
        before = self._voice.codes if self._voice is not None else ()
        return [*before, *codes]

    def judge(self, codes: tuple[int, ...], decoded: np.ndarray, ended: bool) -> None:
        """Take up what `seed` gave.

        Args:
            codes: Of the speech alone.
            decoded: float32 [n], of `whole(codes)`: exactly the reference's samples are cut off.
            ended: Whether the model said END.
        """
        request, passage = self._request, self._passage
        per_code = request.speech.codec.samples_per_code
        samples = decoded[(len(self.whole(())) * per_code) :]
        problems = request.problems(passage, codes, samples, ended)
        if self._best is None or len(problems) < len(self._best[0].problems):
            seconds = len(samples) / request.speech.sampling_rate
            self._best = Utterance(passage.text, seconds, codes, self.seed, self._tries + 1, problems), samples
        if problems:
            self._failures.append((self.seed, problems))
        self._tries += 1
        self.finished = not problems or self._tries >= self._most

    def best(self) -> tuple[Utterance, np.ndarray]:
        """The take that stays, and its sound."""
        assert self._best is not None
        take, samples = self._best
        others = tuple(problem for seed, problems in self._failures if seed != take.seed for problem in problems)
        take = replace(take, retried=others, tries=self._tries, wall_s=time.monotonic() - self._began)
        return replace(take, pause_s=self._passage.pause_s, sentences=self._passage.sentences), samples


def _noted(codes: Iterable[int], into: list[int]) -> Iterator[int]:
    for code in codes:
        into.append(code)
        yield code
