"""A text in a batch sounds as it does alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llasa_cli.errors import LlasaError
from llasa_cli.lm.request import Finished, GenerationRequest
from llasa_cli.prompt import Reference
from llasa_cli.settings import ModelOptions, SamplingRequest, SpeechOptions
from llasa_cli.synthesis.batched import BatchSynthesizer, SynthesisRequest, is_out_of_memory
from llasa_cli.synthesis.synthesizer import SynthesisSession, Synthesizer, Utterance
from llasa_cli.synthesis.text_to_speech import StreamSettings
from llasa_cli.synthesis.verifiers import Score, Take
from llasa_cli.text.chunker import TextChunk

SHORT = SpeechOptions(seed=1, retries=1, sampling=SamplingRequest(max_seconds=0.3))
LONG = "This is the first sentence of a book that has three of them. This one is the second of its sentences, and long. [pause:0.2] The third and last of the sentences stands here at the end. [pause:0.1]"
TEXTS = ["hello", LONG, "[pause:0.3] and so on", "one more", LONG, "good evening to you all"]


@pytest.fixture(scope="module")
def speech(random_checkpoint: Path) -> Synthesizer:
    return Synthesizer.load(ModelOptions(model=str(random_checkpoint), device="cpu"))


@pytest.fixture
def voiceless(speech: Synthesizer) -> Iterator[Synthesizer]:
    default, speech.prompt_format.default_speaker = speech.prompt_format.default_speaker, None
    yield speech
    speech.prompt_format.default_speaker = default


class Texts:
    def __init__(self, *texts: str, options: SpeechOptions = SHORT, reference: Reference | None = None) -> None:
        jobs = [SynthesisRequest(n, text, replace(options, seed=n), reference) for n, text in enumerate(texts)]
        self._jobs = iter(jobs)

    def next_request(self) -> SynthesisRequest | None:
        return next(self._jobs, None)


class Kept:
    def __init__(self) -> None:
        self.sounds: dict[Any, list[np.ndarray]] = {}
        self.takes: dict[Any, list[Utterance]] = {}
        self.ends: list[Any] = []
        self.errors: dict[Any, LlasaError] = {}
        self.notes: list[str] = []

    def write(self, tag: Any, take: Utterance, samples: np.ndarray) -> None:
        self.sounds.setdefault(tag, []).append(samples)
        self.takes.setdefault(tag, []).append(take)

    def end(self, tag: Any) -> None:
        self.ends.append(tag)

    def fail(self, tag: Any, error: LlasaError) -> None:
        self.errors[tag] = error

    def note(self, tag: Any, text: str) -> None:
        self.notes.append(text)


def spoken(speech: Synthesizer, slots: int, jobs: Texts, **more: Any) -> Kept:
    kept = Kept()
    BatchSynthesizer(speech, slots, **more).run(jobs, kept)
    return kept


def facts(takes: list[Utterance]) -> list[Utterance]:
    return [replace(take, wall_s=0.0) for take in takes]


@pytest.mark.parametrize("greedy", [True, False])
def test_each_text_in_a_batch_sounds_as_it_does_alone(speech: Synthesizer, greedy: bool) -> None:
    sampling = SamplingRequest(max_seconds=0.3, temperature=0.0 if greedy else 0.9)
    options = replace(SHORT, sampling=sampling)
    few, many = (spoken(speech, slots, Texts(*TEXTS, options=options)) for slots in (1, 4))
    assert sorted(few.ends) == sorted(many.ends) == list(range(len(TEXTS)))
    for number, text in enumerate(TEXTS):
        takes: list[Utterance] = []
        alone = speech.synthesize(text, replace(options, seed=number), None, takes.append)
        for kept in (few, many):
            assert facts(kept.takes[number]) == facts(takes)
            assert np.array_equal(np.concatenate(kept.sounds[number]), alone)


def test_a_text_without_a_voice_keeps_the_voice_of_its_first_good_chunk(
    voiceless: Synthesizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llasa_cli.synthesis.synthesizer.find_problems", lambda *_: ())
    kept = spoken(voiceless, 3, Texts(*TEXTS))
    for number, text in enumerate(TEXTS):
        takes: list[Utterance] = []
        alone = voiceless.synthesize(text, replace(SHORT, seed=number), None, takes.append)
        assert facts(kept.takes[number]) == facts(takes)
        assert np.array_equal(np.concatenate(kept.sounds[number]), alone)


def test_a_reference_is_decoded_with_its_speech_and_cut_off(speech: Synthesizer) -> None:
    voice = Reference("what is said", tuple(range(20)))
    kept = spoken(speech, 4, Texts("hello", "good evening", reference=voice))
    for number, text in enumerate(("hello", "good evening")):
        assert np.array_equal(kept.sounds[number][0], speech.synthesize(text, replace(SHORT, seed=number), voice))


def test_a_text_without_words_fails_alone(speech: Synthesizer) -> None:
    kept = spoken(speech, 2, Texts("hello", "...", "[pause:0.5]", "good", "word " * 200))
    assert sorted(kept.ends) == [0, 3, 4]
    assert {number: error.message for number, error in kept.errors.items()} == dict.fromkeys(
        (1, 2), "There is nothing to say in this text."
    )


def test_a_text_that_fails_at_a_later_chunk_fails_once(speech: Synthesizer, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = speech.prompt_format.prompt

    def prompt(text: str, *rest: Any) -> Any:
        if "last" in text:
            raise LlasaError("No room for the prompt.")
        return plain(text, *rest)

    monkeypatch.setattr(speech.prompt_format, "prompt", prompt)
    kept = spoken(speech, 1, Texts("hello", LONG, "good evening"), engine=None)
    assert sorted(kept.ends) == [0, 2]
    assert list(kept.errors) == [1]


def test_a_pause_that_can_not_be_read_is_noted(speech: Synthesizer) -> None:
    assert spoken(speech, 2, Texts("hello [pause:soon] there")).notes == [
        "[pause:soon] is not a pause that can be read, so it is spoken as text."
    ]


def test_a_take_that_a_verifier_refuses_is_retried(speech: Synthesizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llasa_cli.synthesis.synthesizer.find_problems", lambda *_: ())
    heard: dict[str, int] = {}

    class SecondPasses:
        name = "words"

        def score(self, take: Take) -> Score:
            heard[take.text] = heard.get(take.text, 0) + 1
            return Score(0.5, ("a word is missing",)) if heard[take.text] == 1 else Score(1.0)

    kept = spoken(speech, 2, Texts("hello", "good evening"), verifiers=[SecondPasses()])
    assert [take.attempts for takes in kept.takes.values() for take in takes] == [2, 2]
    assert sorted(take.seed for takes in kept.takes.values() for take in takes) == [1, 2]


def test_a_verifier_knows_the_words_of_the_reference(speech: Synthesizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llasa_cli.synthesis.synthesizer.find_problems", lambda *_: ())
    references: list[str] = []

    class Passing:
        name = "words"

        def score(self, take: Take) -> Score:
            assert take.reference is not None
            references.append(take.reference.text)
            return Score(1.0)

    session = SynthesisSession(
        speech, SHORT, Reference("the words of the clip", (1, 2, 3)), StreamSettings(verifiers=[Passing()])
    )
    candidates = session.candidates(TextChunk("hello", ("hello",), 0))
    (candidate,) = candidates.start()
    candidates.judge(candidate, (1, 2), np.zeros(5 * 320, np.float32), True)
    assert references == ["the words of the clip"]


class LimitedMemory:
    """An engine that has memory for three sequences."""

    def __init__(self, engine: Any, slots: int) -> None:
        self._engine, self._slots, self._in = engine, slots, 0

    @property
    def free(self) -> int:
        return self._engine.free

    def add(self, request: GenerationRequest) -> None:
        self._in += 1
        self._engine.add(request)

    def codes(self, tag: Any) -> list[int]:
        codes: list[int] = self._engine.codes(tag)
        return codes

    def step(self) -> list[Finished]:
        if self._in > 3:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
        done = self._engine.step()
        self._in -= len(done)
        return list(done)

    def drop(self, tag: Any) -> None:
        self._engine.drop(tag)


def test_a_shortage_of_memory_halves_the_slots(speech: Synthesizer) -> None:
    notes: list[str] = []
    kept = Kept()
    batched = BatchSynthesizer(
        speech, 8, engine=lambda slots: LimitedMemory(speech.model.batch(slots), slots), on_note=notes.append
    )
    batched.run(Texts(*TEXTS), kept)
    assert sorted(kept.ends) == list(range(len(TEXTS)))
    assert notes == [f"not enough memory: continuing with {slots} texts at a time" for slots in (4, 2)]
    alone = spoken(speech, 8, Texts(*TEXTS))
    assert all(
        np.array_equal(np.concatenate(kept.sounds[n]), np.concatenate(alone.sounds[n])) for n in range(len(TEXTS))
    )


def test_too_little_memory_for_one_slot_is_an_error(speech: Synthesizer) -> None:
    def out_of_memory(slots: int) -> Any:
        raise MemoryError("no memory")

    with pytest.raises(LlasaError, match="not enough memory"):
        BatchSynthesizer(speech, 4, engine=out_of_memory).run(Texts("hello"), Kept())


@pytest.mark.parametrize("where", ["write", "end", "take", "verifier"])
def test_a_fatal_error_in_any_thread_ends_the_run(
    speech: Synthesizer, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llasa_cli.synthesis.synthesizer.find_problems", lambda *_: ())

    class Full(Kept):
        def write(self, *arguments: Any) -> None:
            if where == "write":
                raise LlasaError("The disk is full.")
            super().write(*arguments)

        def end(self, tag: Any) -> None:
            if where == "end":
                raise LlasaError("The disk is full.")

    class FailingTexts(Texts):
        count = 0

        def next_request(self) -> SynthesisRequest | None:
            self.count += 1
            if where == "take" and self.count > 3:
                raise LlasaError("The disk is full.")
            return super().next_request()

    class Failing:
        name = "words"

        def score(self, take: Take) -> Score:
            if where == "verifier":
                raise LlasaError("The disk is full.")
            return Score(1.0)

    with pytest.raises(LlasaError, match="The disk is full"):
        BatchSynthesizer(speech, 2, [Failing()]).run(
            FailingTexts(*TEXTS * 9, options=replace(SHORT, retries=0)), Full()
        )
    own = [thread for thread in threading.enumerate() if thread.name in ("prompts", "sound", "files")]
    for thread in own:  # the one that reads texts ends by itself, once it sees the error
        thread.join(10)
    assert not any(thread.is_alive() for thread in own)


def test_a_run_can_be_stopped_while_it_waits_for_requests(speech: Synthesizer) -> None:
    class Endless:
        def next_request(self) -> SynthesisRequest | None:
            batched.stop(LlasaError("That is enough."))
            return SynthesisRequest(0, "hello", SHORT)

    batched = BatchSynthesizer(speech, 2)
    with pytest.raises(LlasaError, match="enough"):
        batched.run(Endless(), Kept())


def test_an_empty_source_ends_the_run(speech: Synthesizer) -> None:
    assert spoken(speech, 2, Texts()).ends == []


def test_out_of_memory_errors_are_recognized() -> None:
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(RuntimeError("CUDA error: out of memory"))
    assert not is_out_of_memory(RuntimeError("shapes do not fit"))
