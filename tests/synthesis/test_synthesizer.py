"""`Synthesizer` on random weights of the real classes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from llasa_cli.errors import ModelError, UsageError
from llasa_cli.prompt import Reference
from llasa_cli.settings import ModelOptions, SamplingRequest, SpeechOptions
from llasa_cli.synthesis.length_band import wide_limits
from llasa_cli.synthesis.quality import find_problems, longest_loop, longest_silence
from llasa_cli.synthesis.synthesizer import Synthesizer
from llasa_cli.synthesis.text_to_speech import StreamSettings
from llasa_cli.synthesis.utterance import ResumePoint, Utterance
from llasa_cli.synthesis.verifiers import Score, Take

SHORT = SpeechOptions(sampling=SamplingRequest(max_seconds=0.6), seed=1, retries=0)


@pytest.fixture(scope="module")
def speech(random_checkpoint: Path) -> Synthesizer:
    return Synthesizer.load(ModelOptions(model=str(random_checkpoint), device="cpu"))


def test_the_same_seed_gives_the_same_audio(speech: Synthesizer) -> None:
    first, again = speech.synthesize("hello there", SHORT), speech.synthesize("hello there", SHORT)
    assert first.dtype == np.float32
    assert len(first) % 320 == 0
    assert np.array_equal(first, again)
    assert not np.array_equal(first, speech.synthesize("hello there", replace(SHORT, seed=2)))


def test_a_long_text_is_streamed_in_chunks_with_pauses(speech: Synthesizer) -> None:
    text = " ".join(["This is a sentence that is long enough to stand alone, I should think."] * 6)
    takes: list[Utterance] = []
    chunks = list(speech.stream(text, SHORT, on_utterance=takes.append))
    assert len(chunks) == len(takes) == len(speech.chunks(text)) > 1
    assert chunks[0].seconds == pytest.approx(takes[0].seconds)
    assert chunks[1].seconds == pytest.approx(takes[1].seconds + 0.25)
    assert not chunks[1].samples[:4000].any()


def test_streaming_is_lazy(speech: Synthesizer, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    plain = speech.prompt_format.prompt
    monkeypatch.setattr(speech.prompt_format, "prompt", lambda text, *rest: asked.append(text) or plain(text, *rest))
    chunks = speech.stream(iter(["One sentence.", "Another one."]), SHORT)
    assert asked == []
    next(chunks)
    assert asked == ["One sentence."]
    chunks.close()
    assert asked == ["One sentence."]


def test_cloned_speech_is_decoded_with_its_reference_which_is_then_cut_off(speech: Synthesizer) -> None:
    clip = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    reference = speech.encode_reference(clip, "what is said")
    assert len(reference.codes) == 50
    takes: list[Utterance] = []
    made = speech.synthesize("hello", SHORT, reference, takes.append)
    whole = speech.codec.decode([*reference.codes, *takes[0].codes])
    assert np.array_equal(made, whole[50 * 320 :])
    assert len(made) == len(takes[0].codes) * 320


def test_a_failed_take_is_retried_with_the_next_seed(speech: Synthesizer) -> None:
    takes: list[Utterance] = []
    options = replace(SHORT, retries=3, sampling=SamplingRequest(max_seconds=0.1))
    speech.synthesize("a rather long sentence for so short a limit", options, on_utterance=takes.append)
    (take,) = takes
    assert take.attempts == 4
    assert take.problems
    assert take.seed in range(1, 5)
    assert len(take.retried) >= 3


def test_an_utterance_lists_the_problems_of_the_other_takes(
    speech: Synthesizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    verdicts = iter([("a", "b"), ("c",), ("d", "e"), ()])
    monkeypatch.setattr("llasa_cli.synthesis.synthesizer.find_problems", lambda *_, **__: next(verdicts))
    takes: list[Utterance] = []
    speech.synthesize("hello", replace(SHORT, retries=2), on_utterance=takes.append)
    assert (takes[0].seed, takes[0].problems, takes[0].retried) == (2, ("c",), ("a", "b", "d", "e"))


def test_a_book_begins_before_all_of_it_has_been_read(speech: Synthesizer) -> None:
    seen: list[int] = []

    def paragraphs() -> Iterator[str]:
        for number in range(50):
            seen.append(number)
            yield f"Paragraph {number} is long enough to stand alone, as one does.\n\n"

    next(speech.stream(paragraphs(), SHORT))
    assert 0 < len(seen) < 3


def test_a_pause_has_the_requested_length(speech: Synthesizer) -> None:
    takes: list[Utterance] = []
    samples = speech.synthesize("[pause:0.5] hello <break time='300ms'/> there [pause:1]", SHORT, None, takes.append)
    spoken = [take for take in takes if take.text]
    assert [take.pause_s for take in takes] == [0.5, 0.3, 1.0]
    assert [take.sentences for take in spoken] == [("hello",), ("there",)]
    assert len(samples) == round((1.8 + sum(take.seconds for take in takes)) * 16_000)
    assert not samples[:8000].any()
    assert not samples[-16_000:].any()


class Always:
    """A gate that streams every chunk."""

    def wants(self, text: str) -> bool:
        return True

    def watch(self, codes: Iterable[int], codes_per_second: float) -> Iterator[int]:
        return iter(codes)

    def hold(self, pieces: Iterable[np.ndarray], sampling_rate: int) -> Iterator[np.ndarray]:
        return iter(pieces)


def test_streamed_audio_has_the_codes_of_a_complete_take(speech: Synthesizer) -> None:
    options = replace(SHORT, sampling=SamplingRequest(max_seconds=4.0), seed=2)
    takes: list[Utterance] = []
    chunks = list(speech.stream("hello there", options, None, takes.append, StreamSettings(gate=Always())))
    whole: list[Utterance] = []
    samples = speech.synthesize("hello there", options, None, whole.append)
    assert len(chunks) > 2
    assert takes[0].codes == whole[0].codes
    assert sum(len(chunk.samples) for chunk in chunks) == len(samples)
    assert takes[0].attempts == 1


def test_a_take_that_a_verifier_refuses_is_retried(speech: Synthesizer) -> None:
    options = replace(SHORT, retries=3, sampling=SamplingRequest(max_seconds=0.6))
    heard: list[str] = []

    class ThirdPasses:
        name = "words"

        def score(self, take: Take) -> Score:
            assert take.samples.dtype == np.float32
            heard.append(take.text)
            return Score(1.0) if len(heard) == 3 else Score(0.5, ("3 words in a row are wrong",))

    takes: list[Utterance] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("llasa_cli.synthesis.synthesizer.find_problems", lambda *_: ())
        list(speech.stream("hello", options, None, takes.append, StreamSettings(verifiers=[ThirdPasses()])))
    assert heard == ["hello"] * 3
    assert (takes[0].attempts, takes[0].seed, takes[0].problems) == (3, options.seed + 2, ())
    assert takes[0].retried == ("3 words in a row are wrong",) * 2


BOOK = "This is the first sentence of a book that has three of them. This one is the second of its sentences, and long. The third and last of the sentences stands here at the end."


@pytest.fixture
def voiceless(speech: Synthesizer) -> Iterator[Synthesizer]:
    """A model without a default speaker, as a published Llasa: each generation has a random voice."""
    default, speech.prompt_format.default_speaker = speech.prompt_format.default_speaker, None
    yield speech
    speech.prompt_format.default_speaker = default


def test_a_text_without_a_voice_keeps_the_voice_of_its_first_good_chunk(
    voiceless: Synthesizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llasa_cli.synthesis.synthesizer.find_problems", lambda *_: ())
    asked: list[Reference | None] = []
    plain = voiceless.prompt_format.prompt
    monkeypatch.setattr(
        voiceless.prompt_format,
        "prompt",
        lambda text, voice=None, *rest: asked.append(voice) or plain(text, voice, *rest),
    )
    takes: list[Utterance] = []
    voiceless.synthesize(BOOK, SHORT, None, takes.append)
    voice = Reference(takes[0].text, takes[0].codes)
    assert asked == [None, voice, voice]
    assert [take.is_voice for take in takes] == [True, False, False]
    asked.clear()
    voiceless.synthesize(BOOK, replace(SHORT, speaker="bella"))
    assert asked == [None] * 3


def test_a_resumed_text_gives_the_same_audio_as_an_uninterrupted_one(
    voiceless: Synthesizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llasa_cli.synthesis.synthesizer.find_problems", lambda *_: ())
    takes: list[Utterance] = []
    uninterrupted = [chunk.samples for chunk in voiceless.stream(BOOK, SHORT, None, takes.append)]
    for count in (1, 2):
        after = ResumePoint(count, Reference(takes[0].text, takes[0].codes))
        rest = [chunk.samples for chunk in voiceless.stream(BOOK, SHORT, settings=StreamSettings(resume_from=after))]
        assert len(rest) == 3 - count
        assert all(np.array_equal(a, b) for a, b in zip(uninterrupted[count:], rest, strict=True))


def test_an_unknown_speaker_is_refused_while_loading(random_checkpoint: Path) -> None:
    with pytest.raises(UsageError, match="no speaker 'unknown'"):
        Synthesizer.load(ModelOptions(model=str(random_checkpoint), device="cpu"), speaker="unknown")


@pytest.mark.parametrize("text", ["", "  \n", "...", "?!"])
def test_a_text_without_words_is_refused(speech: Synthesizer, text: str) -> None:
    with pytest.raises(UsageError, match="nothing to say"):
        speech.synthesize(text, SHORT)


def test_lone_surrogates_are_replaced(speech: Synthesizer) -> None:
    assert speech.chunks("good \ud800 morning \ud83d\ude00") == speech.chunks(
        "good \N{REPLACEMENT CHARACTER} morning \N{GRINNING FACE}"
    )
    assert len(speech.synthesize("good \udcff morning", SHORT))


def test_a_flag_overrides_the_checkpoint_which_overrides_the_default(random_checkpoint: Path, tmp_path: Path) -> None:
    shutil.copytree(random_checkpoint, tmp_path / "m")
    about = json.loads((tmp_path / "m" / "llasa.json").read_text())
    about |= {"sampling": {"temperature": 0.4, "top_k": 9}, "spell_out": True, "most_characters": 30}
    (tmp_path / "m" / "llasa.json").write_text(json.dumps(about))
    speech = Synthesizer.load(ModelOptions(model=str(tmp_path / "m"), device="cpu"))
    found = speech.sampling(SamplingRequest(top_k=3))
    assert (found.temperature, found.top_k, found.top_p) == (0.4, 3, 0.95)
    assert speech.chunks("It is 5.") == ["It is five."]
    assert all(len(chunk) <= 30 for chunk in speech.chunks("word " * 50))


def test_a_codec_with_another_number_of_codes_is_refused(random_checkpoint: Path, tmp_path: Path) -> None:
    from recipes.heart.tokenizer import write_tokenizer

    shutil.copytree(random_checkpoint, tmp_path / "m")
    write_tokenizer(tmp_path / "m", 60, ("heart", "bella"))
    with pytest.raises(ModelError, match="speaks 60 codes"):
        Synthesizer.load(ModelOptions(model=str(tmp_path / "m"), device="cpu"))


def test_a_checkpoint_sets_its_own_limit_for_slow_speech(
    speech: Synthesizer, random_checkpoint: Path, tmp_path: Path
) -> None:
    def spoken(by: Synthesizer, seed: int) -> Utterance:
        takes: list[Utterance] = []
        options = replace(SHORT, seed=seed, sampling=SamplingRequest(max_seconds=3))
        by.synthesize("letters, letters", options, on_utterance=takes.append)
        return takes[0]

    # 14 letters may take 5 s by the general rule, 1.64 s by this checkpoint's.
    seed = next(seed for seed in range(100) if spoken(speech, seed).seconds > 1.7)
    assert not [problem for problem in spoken(speech, seed).problems if "too long" in problem]
    shutil.copytree(random_checkpoint, tmp_path / "m")
    about = json.loads((random_checkpoint / "llasa.json").read_text()) | {"slowest_s_a_character": 0.01}
    (tmp_path / "m" / "llasa.json").write_text(json.dumps(about))
    slow = spoken(Synthesizer.load(ModelOptions(model=str(tmp_path / "m"), device="cpu")), seed)
    assert [problem for problem in slow.problems if "too long" in problem]


def test_broken_takes_are_recognized() -> None:
    good = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    codes = list(range(50))

    def problems(
        text: str, codes: list[int], samples: np.ndarray = good, ended: bool = True, slowest: float = 0.25
    ) -> tuple[str, ...]:
        return find_problems(text, codes, samples, 16_000, ended, wide_limits(text, slowest))

    assert problems("fifteen letters", codes) == ()
    assert "limit" in problems("fifteen letters", codes, ended=False)[0]
    assert "too short" in problems("letters " * 20, codes)[0]
    slow = list(range(200))
    assert "too long" in problems("hi", slow)[0]
    assert problems("letters, letters", slow) == ()
    assert "too long" in problems("letters, letters", slow, slowest=0.1)[0]
    assert "clipped" in problems("fifteen letters", codes, np.sign(good))
    assert "repeats" in problems("a good thirty letters it has got", [1, 2] * 40)[0]
    quiet = np.concatenate([good[:100], np.zeros(40_000, np.float32), good[:100]])
    assert "silence" in problems("fifteen letters", codes, quiet)[0]


def test_loops_and_silence_are_measured() -> None:
    assert longest_loop([1, 2, 3, 4, 5]) == 0
    assert longest_loop([0, *[7] * 10, 1]) == 9
    assert longest_loop([1, 2, 3] * 10) == 27
    assert longest_silence(np.zeros(16_000, np.float32), 16_000) == pytest.approx(1.0)
    assert longest_silence(np.zeros(0, np.float32), 16_000) == 0


def test_a_seed_of_any_size_can_be_streamed(speech: Synthesizer) -> None:
    for seed in (2**31 + 5, 10**22):
        assert list(speech.stream("hi", replace(SHORT, seed=seed), settings=StreamSettings(gate=Always())))
