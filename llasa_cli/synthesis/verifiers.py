"""Verifiers: how well a take says its text and keeps its voice. They choose among the candidates of `--best-of`.

    verifiers = load_verifiers(VerifierOptions(recognizer="pocketsphinx"))
    for verifier in verifiers:
        score = verifier.score(take)         Score(value=0.92, problems=()): 1 is perfect; problems are in words

| name | value |
|---|---|
| `words` | 1 minus the word error rate of a recognizer; characters in scripts without spaces |
| `likeness` | cosine between the embeddings of the take and of the reference clip, by a speaker model |
| `likelihood` | the probability that the model gave the codes, its geometric mean over them; it costs nothing |

The checks of `synthesis.quality` come before them and are always on. To add a verifier: write a class with `name` and `score`, and
create it in `load_judges`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

from llasa_cli.asr import Recognizer, find_recognizer, load_recognizer
from llasa_cli.settings import VerifierOptions, WordTiming
from llasa_cli.speaker_embedding import SpeakerEncoder, find_speaker_encoder, load_speaker_encoder
from llasa_cli.text.word_check import error_rate, word_problems

if TYPE_CHECKING:
    import numpy as np

    from llasa_cli.synthesis.word_times import WordTimer


@dataclass(frozen=True)
class ReferenceSound:
    """The reference of a cloned voice. samples: float32 [n], as the codec decodes its codes."""

    text: str
    samples: np.ndarray


@dataclass(frozen=True)
class Take:
    """A generated take.

    Attributes:
        text: The text that the model was given.
        samples: float32 [n], mono.
        reference: The voice that was cloned; None for a speaker of the model.
        likelihood: The geometric mean of the probabilities of its codes, 0 to 1; None if it is not known.
    """

    text: str
    samples: np.ndarray
    sampling_rate: int
    reference: ReferenceSound | None = None
    likelihood: float | None = None


@dataclass(frozen=True)
class Score:
    """Attributes:
    value: 0 to 1, where 1 is perfect; None if this verifier can't judge the take.
    problems: Reasons for which the take must not be used, in words.
    """

    value: float | None
    problems: tuple[str, ...] = ()


class Verifier(Protocol):
    """Judges takes.

    Attributes:
        name: The key of its scores in reports.
    """

    name: str

    def score(self, take: Take) -> Score: ...


def resolve_verifiers(options: VerifierOptions) -> VerifierOptions:
    """Find the models that the options name, or replace a default that is missing with another one that is on this machine.

    Nothing is loaded.

    Raises:
        ModelError: A model is not on this machine. The hint says what to do.
    """
    recognizer, likeness = options.recognizer, options.likeness
    if recognizer is not None:
        recognizer = find_recognizer(recognizer, options.language)
    if likeness is not None:
        likeness = find_speaker_encoder(likeness)
    return VerifierOptions(recognizer, likeness, options.likelihood, options.language)


def load_judges(
    options: VerifierOptions, timing: WordTiming | None = None
) -> tuple[tuple[Verifier, ...], WordTimer | None]:
    """Load the verifiers, and the timer of words if one is asked for. A recognizer that serves both is loaded once.

    Raises:
        ModelError: A model is missing or damaged.
    """
    from llasa_cli.synthesis.word_times import WordTimer

    names = {options.recognizer, timing.recognizer if timing is not None else None} - {None}
    recognizers = {name: load_recognizer(name) for name in names if name is not None}
    verifiers: list[Verifier] = []
    if options.recognizer is not None:
        verifiers.append(WordVerifier(recognizers[options.recognizer], options.language))
    if options.likeness is not None:
        verifiers.append(LikenessVerifier(load_speaker_encoder(options.likeness)))
    if options.likelihood:
        verifiers.append(LikelihoodVerifier())
    timer = None if timing is None else WordTimer(recognizers.get(timing.recognizer or ""), timing.language)
    return tuple(verifiers), timer


def load_verifiers(options: VerifierOptions) -> tuple[Verifier, ...]:
    """The verifiers alone; see `load_judges`."""
    return load_judges(options)[0]


class WordVerifier:
    """A recognizer has to understand the words of the text, and none of the reference clip's."""

    name = "words"

    def __init__(self, recognizer: Recognizer, language: str | None = None) -> None:
        self._recognizer, self._language = recognizer, language

    def score(self, take: Take) -> Score:
        from llasa_cli.voices.reference import leaked_words

        heard = self._recognizer.transcribe(take.samples, take.sampling_rate, self._language)
        leaked = leaked_words(take.text, heard, take.reference.text) if take.reference is not None else ()
        return Score(max(0.0, 1 - error_rate(take.text, heard)), (*leaked, *word_problems(take.text, heard)))


class LikenessVerifier:
    """The voice has to resemble the reference clip's. Without a reference there is no score."""

    name = "likeness"

    def __init__(self, encoder: SpeakerEncoder) -> None:
        self._encoder = encoder
        self._reference = lru_cache(16)(self._embed_reference)

    def _embed_reference(self, key: bytes, sampling_rate: int) -> np.ndarray:
        import numpy as np

        return self._encoder.embed(np.frombuffer(key, np.float32), sampling_rate)

    def score(self, take: Take) -> Score:
        if take.reference is None:
            return Score(None)
        wanted = self._reference(take.reference.samples.tobytes(), take.sampling_rate)
        return Score(max(0.0, float(wanted @ self._encoder.embed(take.samples, take.sampling_rate))))


class LikelihoodVerifier:
    """The take has to be likely to the model itself."""

    name = "likelihood"

    def score(self, take: Take) -> Score:
        return Score(take.likelihood)


def mean_probability(log_probability: float | None, codes: int) -> float | None:
    """The geometric mean of the probabilities of `codes` codes whose log probabilities add up to the given sum."""
    return None if log_probability is None else math.exp(min(0.0, log_probability / max(1, codes)))
