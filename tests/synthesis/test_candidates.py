"""The best of several takes: one result, whatever is generated first, and every take can be made again."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llasa_cli.errors import UsageError
from llasa_cli.prompt import Prompt, Reference
from llasa_cli.settings import ModelOptions, SamplingRequest, SpeechOptions
from llasa_cli.synthesis.batched import BatchSynthesizer, SynthesisRequest
from llasa_cli.synthesis.candidates import CHECK_EVERY, Candidates
from llasa_cli.synthesis.quality import find_problems
from llasa_cli.synthesis.synthesizer import Synthesizer
from llasa_cli.synthesis.text_to_speech import StreamSettings
from llasa_cli.synthesis.utterance import Utterance
from llasa_cli.synthesis.verifiers import LikelihoodVerifier, Score, Take, WordVerifier
from llasa_cli.text.chunker import TextChunk

TEXT = "the morning train was crowded"


class FakeCodec:
    """Decodes every code to one sample, the code itself."""

    sampling_rate, samples_per_code = 50, 1

    def decode(self, codes: Any) -> np.ndarray:
        return np.array(codes, np.float32)


class FirstSample:
    """Scores a take by its first sample, in hundredths; below a tenth it has a problem."""

    name = "words"

    def score(self, take: Take) -> Score:
        value = float(take.samples[0]) / 100
        return Score(value, ("3 words missing",) if value < 0.1 else ())


def candidates(options: SpeechOptions, voice: Reference | None = None, longest_s: float = 100.0) -> Candidates:
    chunk = TextChunk(TEXT, (TEXT,), 0.0)
    checks = lambda codes, samples, ended: () if ended else ("ran to its length limit without an end",)  # noqa: E731
    return Candidates(chunk, Prompt((1, 2), 0), voice, options, False, checks, longest_s, [FirstSample()], FakeCodec())


def run(options: SpeechOptions, scores: list[int], order: random.Random | None = None) -> Utterance:
    """Judge takes with the given scores, each as soon as it can be, or in another order."""
    made = candidates(options)
    waiting: list[Any] = []
    while not made.finished:
        waiting += made.start()
        take = waiting.pop(order.randrange(len(waiting)) if order is not None else 0)
        if made.is_wanted(take):
            codes = (scores[take.number], 7, 8, 9)
            made.judge(take, codes, np.array(codes, np.float32), True, -4.0 - take.number)
    return made.best()[0]


OPTIONS = SpeechOptions(seed=10, best_of=4, retries=0)


def test_the_take_with_the_best_score_is_chosen_and_every_take_is_reported() -> None:
    found = run(OPTIONS, [50, 5, 90, 70])
    assert (found.seed, found.attempts, found.problems) == (12, 4, ())
    assert [(row["seed"], row["scores"]["words"], row["chosen"]) for row in found.candidates] == [
        (10, 0.5, False),
        (11, 0.05, False),
        (12, 0.9, True),
        (13, 0.7, False),
    ]
    assert found.candidates[1]["problems"] == ["3 words missing"]
    assert found.chosen_because == "the best score (words 0.900)"
    assert Utterance.from_row(found.to_row()).candidates == found.candidates


@pytest.mark.parametrize(
    ("scores", "seed", "reason"),
    [
        ([90, 90, 5, 90], 10, "none scores higher (words 0.900), and it is the likeliest to the model (0.449)"),
        ([5, 5, 90, 5], 12, "the only one that passes its checks"),
        ([5, 5, 5, 7], 13, "the best score (words 0.070)"),
    ],
)
def test_the_reason_of_the_choice_is_given(scores: list[int], seed: int, reason: str) -> None:
    found = run(OPTIONS, scores)
    assert (found.seed, found.chosen_because) == (seed, reason)


def test_the_result_does_not_depend_on_which_take_is_complete_first() -> None:
    shuffled = random.Random(1)
    for good_enough, scores in itertools.product((None, 0.9), ([50, 95, 99, 40], [5, 6, 7, 8], [95, 1, 1, 99])):
        options = replace(OPTIONS, good_enough=good_enough)
        wanted = run(options, scores)
        for _ in range(20):
            found = run(options, scores, shuffled)
            assert (found.seed, found.problems) == (wanted.seed, wanted.problems)


def test_takes_that_are_chosen_by_likelihood_are_decoded_only_if_they_may_be_the_best() -> None:
    """The result is that of decoding all of them; the likeliest here is clipped, so the next one is heard too."""
    heard: list[int] = []

    def decoded(number: int) -> np.ndarray:
        heard.append(number)
        return np.full(40, 1.0 if number == 2 else 0.5, np.float32)

    def find(codes: tuple[int, ...], samples: np.ndarray, ended: bool) -> tuple[str, ...]:
        return find_problems("a text", codes, samples, 50, ended, (0.0, 9.0))

    found = []
    for is_lazy in (True, False):
        made = Candidates(
            TextChunk(TEXT, (TEXT,), 0.0),
            Prompt((1, 2), 0),
            None,
            OPTIONS,
            False,
            find,
            9.0,
            (LikelihoodVerifier(),),
            FakeCodec(),
        )
        for take in made.start():
            sound = partial(decoded, take.number)
            likelihood = {0: -9.0, 1: -3.0, 2: -1.0, 3: -5.0}[take.number]
            made.judge(take, tuple(range(40)), sound if is_lazy else sound(), True, likelihood)
            assert made.finished == (take.number == 3)
        if is_lazy:
            assert heard == [2, 1]
        utterance, samples = made.best()
        found.append((replace(utterance, wall_s=0.0), samples.tobytes()))
    assert found[0] == found[1]
    assert found[0][0].seed == 11
    assert found[0][0].candidates[2]["problems"] == ["clipped"]


def test_a_take_that_is_good_enough_ends_the_search() -> None:
    found = run(replace(OPTIONS, good_enough=0.9), [50, 95, 99, 40])
    assert (found.seed, found.attempts) == (11, 2)
    assert found.chosen_because == "the first that is good enough (words 0.950)"


def test_retries_follow_only_if_no_take_passes() -> None:
    assert run(replace(OPTIONS, retries=2), [50, 5, 5, 5]).attempts == 4
    found = run(replace(OPTIONS, retries=3), [5, 5, 5, 5, 6, 80, 99])
    assert (found.seed, found.attempts) == (15, 6)
    assert run(replace(OPTIONS, best_of=1, retries=2), [5, 80, 99]).seed == 11


def test_one_take_is_made_again_by_its_number() -> None:
    found = run(replace(OPTIONS, candidate=3), [50, 5, 90, 70])
    assert (found.seed, found.attempts, found.chosen_because) == (12, 1, "")
    with pytest.raises(UsageError, match="no take 5 of 4"):
        replace(OPTIONS, candidate=5)


def test_an_unfinished_take_is_dropped_when_it_has_failed() -> None:
    made = candidates(replace(OPTIONS, best_of=2, retries=1), Reference("a voice", (4, 5)), longest_s=2.0)
    first, second = made.start()
    loop, varied = [1, 2] * 50, list(range(100))
    assert "repeats itself" in made.early_problem(loop[: 3 * CHECK_EVERY])
    assert not made.early_problem(varied)
    assert "too long" in made.early_problem([*varied, *range(100, 125)])
    assert not made.early_problem(loop[:-1]), "not between two looks"
    made.drop(first, loop[: 3 * CHECK_EVERY])
    assert not made.finished
    made.drop(second, loop[: 3 * CHECK_EVERY])
    # Nothing is left but a take that was dropped: what there is of it is used, and fails.
    (retry,) = made.start()
    made.judge(retry, (90,), np.array([4, 5, 90], np.float32), False)
    found, samples = made.best()
    assert (found.seed, samples.tolist()) == (12, [90])
    assert [row["dropped"] for row in found.candidates] == [True, True, False]
    alone = candidates(replace(OPTIONS, best_of=1))
    assert not alone.early_problem(loop), "a take that is not one of several is completed"


def test_without_any_complete_take_the_sound_of_a_dropped_one_is_used() -> None:
    made = candidates(replace(OPTIONS, best_of=2), Reference("a voice", (4, 5)))
    loop = [1, 2] * 50
    for take in made.start():
        made.drop(take, loop)
    found, samples = made.best()
    assert made.finished
    assert samples.tolist() == loop
    assert found.problems == ("repeats itself for 2.0 s",)


# --- with a model ---


@pytest.fixture(scope="module")
def speech(random_checkpoint: Path) -> Synthesizer:
    return Synthesizer.load(ModelOptions(model=str(random_checkpoint), device="cpu"))


@pytest.fixture(autouse=True)
def no_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights pass no check."""
    monkeypatch.setattr("llasa_cli.synthesis.synthesizer.find_problems", lambda *_: ())


MODEL_OPTIONS = SpeechOptions(seed=3, best_of=3, sampling=SamplingRequest(max_seconds=0.4))


def spoken(speech: Synthesizer, options: SpeechOptions) -> tuple[Utterance, np.ndarray]:
    found: list[Utterance] = []
    chunks = list(speech.stream(TEXT, options, None, found.append, StreamSettings(verifiers=[LikelihoodVerifier()])))
    return found[0], np.concatenate([chunk.samples for chunk in chunks])


def test_the_likeliest_of_three_is_chosen_and_can_be_made_again(speech: Synthesizer) -> None:
    found, samples = spoken(speech, MODEL_OPTIONS)
    scores = [row["scores"]["likelihood"] for row in found.candidates]
    assert [row["seed"] for row in found.candidates] == [3, 4, 5]
    assert len(set(scores)) == 3
    assert found.seed == 3 + int(np.argmax(scores))
    for number, row in enumerate(found.candidates, 1):
        again, sound = spoken(speech, replace(MODEL_OPTIONS, candidate=number))
        assert (again.seed, again.candidates[0]["scores"]) == (row["seed"], row["scores"])
        assert np.array_equal(sound, samples) == row["chosen"]


def test_a_batch_chooses_as_one_text_alone_does(speech: Synthesizer) -> None:
    class Source:
        left: Iterator[int] = iter(range(4))

        def next_request(self) -> SynthesisRequest | None:
            number = next(self.left, None)
            return None if number is None else SynthesisRequest(number, TEXT, replace(MODEL_OPTIONS, seed=number))

    class Sink:
        def __init__(self) -> None:
            self.found: dict[int, Utterance] = {}

        def write(self, tag: int, utterance: Utterance, samples: np.ndarray) -> None:
            self.found[tag] = utterance

        def end(self, tag: int) -> None: ...
        def fail(self, tag: int, error: Any) -> None: ...
        def note(self, tag: int, text: str) -> None: ...

    sink = Sink()
    BatchSynthesizer(speech, 4, [LikelihoodVerifier()]).run(Source(), sink)
    assert len(sink.found) == 4
    for seed, found in sink.found.items():
        alone, _ = spoken(speech, replace(MODEL_OPTIONS, seed=seed))
        assert (found.seed, found.codes, found.candidates) == (alone.seed, alone.codes, alone.candidates)


def test_the_words_of_a_take_are_scored_by_characters_in_scripts_without_spaces() -> None:
    class Heard:
        name = "fake"

        def transcribe(self, samples: np.ndarray, sampling_rate: int, language: str | None = None) -> str:
            return heard

    def score(text: str) -> float | None:
        return WordVerifier(Heard()).score(Take(text, np.zeros(1, np.float32), 16_000)).value

    heard = "the cat sat on a mat"
    assert score("The cat sat on the mat.") == pytest.approx(5 / 6)
    heard = "今天天很好"
    assert score("今天天气很好。") == pytest.approx(5 / 6)
