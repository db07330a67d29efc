"""Text to sound: the one place where the rooms of the first flow meet.

    speech = Speech.load()
    samples = speech.speak("Hello.")                   float32 [n], mono, at speech.sampling_rate
    for chunk in speech.say(long_text): ...            the same in pieces, each as soon as it is made

`say` is a pull: closing the iterator stops the model.
"""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llasa_cli.audio.chunk import AudioChunk
from llasa_cli.checks import problems_of
from llasa_cli.errors import ModelError, UsageError
from llasa_cli.protocol import Protocol, Reference
from llasa_cli.settings import ModelOptions, SamplingOptions, SamplingRequest, SpeechOptions
from llasa_cli.text.chunks import MOST_CHARACTERS, join_sentences, split_sentences

if TYPE_CHECKING:
    import numpy as np

    from llasa_cli.codec.model import Codec
    from llasa_cli.lm.load import LanguageModel

PAUSE_S = 0.25
"""Between two chunks: what a reader takes between sentences."""
LARGEST_SEED = 2**31


@dataclass(frozen=True)
class Take:
    """What became of one chunk of text.

    Attributes:
        text: As the model was given it.
        seconds: Of sound.
        seed: That made it: with the same options it can be made again.
        tries: How many takes it needed.
        problems: What is still wrong with it; empty for a good one.
        retried: What was wrong with the other takes.
        wall_s: Over all tries.
    """

    text: str
    seconds: float
    codes: tuple[int, ...]
    seed: int
    tries: int
    problems: tuple[str, ...]
    retried: tuple[str, ...]
    wall_s: float


class Speech:
    """A model and its codec, loaded. Build it with `Speech.load`.

    Attributes:
        sampling_rate: Of its sound, Hz.
        speakers: Whose voices it knows by a tag; may be empty.
        name, revision: What it was asked for by, and which weights those were; see `hub.cache.revision_of`.
    """

    def __init__(
        self, protocol: Protocol, model: LanguageModel, codec: Codec, about: dict[str, Any], name: str, revision: str
    ) -> None:
        self.protocol, self.model, self.codec = protocol, model, codec
        self.name, self.revision = name, revision
        self.sampling_rate = codec.sampling_rate
        self.speakers = protocol.speakers
        self._about = about

    @classmethod
    def load(
        cls,
        options: ModelOptions | None = None,
        on_stage: Callable[[str], None] | None = None,
        speaker: str | None = None,
    ) -> Speech:
        """Find and load a model; nothing is downloaded.

        Args:
            options: Which, and where it runs; the built-in voice by default.
            on_stage: Told what is being loaded.
            speaker: Who is going to be asked for; refused here if the model does not know them.

        Raises:
            ModelError, UsageError: See there. What needs no weights to be seen is seen before torch is imported.
        """
        from llasa_cli.hub.cache import find_codec, find_model, revision_of

        options = options or ModelOptions()
        tell = on_stage or (lambda stage: None)
        tell(f"loading {options.model}")
        folder = find_model(options.model)
        about = read_about(folder)
        codec_folder = find_codec(folder, options.codec or about.get("codec"))
        protocol = Protocol.load(folder)
        if speaker is not None:
            protocol.prompt("", speaker=speaker)
        from llasa_cli.codec.model import load_codec
        from llasa_cli.lm.load import load_language_model

        model = load_language_model(folder, protocol, options.device, options.dtype)
        tell("loading its codec")
        codec = load_codec(codec_folder, options.device)
        if codec.code_count != protocol.code_count:
            raise ModelError(
                f"The model speaks {protocol.code_count} codes, the codec in {codec_folder} knows {codec.code_count}.",
                "Name the codec that belongs to the model with --codec.",
            )
        return cls(protocol, model, codec, about, options.model, revision_of(folder))

    def sampling(self, request: SamplingRequest) -> SamplingOptions:
        """Fill what was left open: by the checkpoint's `llasa.json`, else by the general defaults."""
        return request.over(self._about.get("sampling", {}))

    def chunks(self, text: str) -> list[str]:
        """The pieces that `say` will speak, as the model is given them."""
        return list(self._pieces(text))

    def _pieces(self, text: str) -> Iterator[str]:
        """The first is there before the last has been looked at: a book begins as soon as a sentence does."""
        parts: Iterable[str] = re.split(r"\n\s*\n", text)
        if self._about.get("spell_out"):
            from llasa_cli.text.normalise import spell_out

            parts = map(spell_out, parts)
        sentences = (sentence for part in parts for sentence in split_sentences(part))
        most = int(self._about.get("most_characters", MOST_CHARACTERS))
        return (piece for piece in join_sentences(sentences, most) if _speakable(piece))

    def say(
        self,
        text: str | Iterable[str],
        options: SpeechOptions | None = None,
        reference: Reference | None = None,
        on_take: Callable[[Take], None] | None = None,
    ) -> Iterator[AudioChunk]:
        """Speak a text of any length, piece by piece.

        Args:
            text: Sentences; it is cut at their ends. Of an iterable each part is spoken as soon as it comes.
            options: How to draw, the seed, whose voice, how many retries.
            reference: A voice to clone; see `encode_reference`.
            on_take: Told about each piece once it is decided on.

        Raises:
            UsageError: Nothing to say, an unknown speaker, or no room for the prompt.
        """
        options = options or SpeechOptions()
        if options.seed is None:
            options = replace(options, seed=secrets.randbelow(LARGEST_SEED))
        if not isinstance(text, str):
            return self._say((piece for part in text for piece in self._pieces(part)), options, reference, on_take)
        pieces = self._pieces(text)
        first = next(pieces, None)
        if first is None:
            raise self._nothing()
        return self._say(chain([first], pieces), options, reference, on_take)

    def _nothing(self) -> UsageError:
        hint = "This voice reads Latin letters and digits." if self._about.get("spell_out") else "Give it words."
        return UsageError("There is nothing to say in this text.", hint)

    def _say(
        self,
        chunks: Iterable[str],
        options: SpeechOptions,
        reference: Reference | None,
        on_take: Callable[[Take], None] | None,
    ) -> Iterator[AudioChunk]:
        import numpy as np

        pause = np.zeros(0, np.float32)
        for chunk in chunks:
            take, samples = self._best_take(chunk, options, reference)
            if on_take is not None:
                on_take(take)
            yield AudioChunk(np.concatenate([pause, samples]), self.sampling_rate)
            pause = np.zeros(round(PAUSE_S * self.sampling_rate), np.float32)
        if not len(pause):
            raise self._nothing()

    def _best_take(self, text: str, options: SpeechOptions, reference: Reference | None) -> tuple[Take, np.ndarray]:
        """Speak a chunk; with problems, again by the next seed. The take with the fewest problems stays."""
        began = time.monotonic()
        prompt = self.protocol.prompt(text, reference, options.speaker)
        sampling = self.sampling(options.sampling)
        best: tuple[Take, np.ndarray] | None = None
        failures: list[tuple[int, tuple[str, ...]]] = []
        tries = 1 if sampling.temperature == 0 else 1 + options.retries
        for attempt in range(tries):
            seed = ((options.seed or 0) + attempt) % LARGEST_SEED
            with self.model.generate(prompt, sampling, seed) as generation:
                codes = tuple(generation)
            samples = self._decode(codes, reference)
            problems = problems_of(text, codes, samples, self.sampling_rate, generation.ended)
            if best is None or len(problems) < len(best[0].problems):
                take = Take(text, len(samples) / self.sampling_rate, codes, seed, attempt + 1, problems, (), 0.0)
                best = take, samples
            if not problems:
                break
            failures.append((seed, problems))
        assert best is not None
        take, samples = best
        others = tuple(problem for seed, problems in failures if seed != take.seed for problem in problems)
        return replace(take, retried=others, tries=attempt + 1, wall_s=time.monotonic() - began), samples

    def _decode(self, codes: tuple[int, ...], reference: Reference | None) -> np.ndarray:
        """Reference and speech are decoded together, so that the joint is a continuation; then exactly its samples go."""
        before = reference.codes if reference is not None else ()
        samples = self.codec.decode([*before, *codes])
        return samples[len(before) * self.codec.samples_per_code :]

    def speak(
        self,
        text: str,
        options: SpeechOptions | None = None,
        reference: Reference | None = None,
        on_take: Callable[[Take], None] | None = None,
    ) -> np.ndarray:
        """The whole of `say` in one array, float32 [n]."""
        import numpy as np

        return np.concatenate([chunk.samples for chunk in self.say(text, options, reference, on_take)])

    def encode_reference(self, samples: np.ndarray, text: str) -> Reference:
        """A clip (float32 [n], mono, 16 kHz) and what is said in it -> a voice to speak with."""
        if self._about.get("spell_out"):
            from llasa_cli.text.normalise import spell_out

            text = spell_out(text)
        return Reference(" ".join(text.split()), tuple(self.codec.encode(samples)))


def read_about(folder: Path) -> dict[str, Any]:
    """What the checkpoint's `llasa.json` says of itself; empty for one without."""
    path = folder / "llasa.json"
    if not path.is_file():
        return {}
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{path} can't be read: {error}") from error
    if not isinstance(about, dict):
        raise ModelError(f"{path} does not hold a JSON object.")
    return about


def _speakable(text: str) -> bool:
    return any(character.isalnum() for character in text)
