"""When words are said, against sound whose times are known."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from llasa_cli.asr import load_recognizer
from llasa_cli.settings import SpeechOptions
from llasa_cli.synthesis.synthesizer import Synthesizer
from llasa_cli.synthesis.word_times import Span, WordTimer, find_pauses, smooth

RATE = 16_000
PAUSE_S = 0.35


def tone(seconds: float) -> np.ndarray:
    time = np.arange(round(seconds * RATE)) / RATE
    return (0.3 * np.sin(2 * np.pi * 220 * time)).astype(np.float32)


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * RATE), np.float32)


def test_pauses_are_those_of_the_sound() -> None:
    samples = np.concatenate(
        [silence(0.2), tone(0.5), silence(0.3), tone(0.4), silence(0.05), tone(0.3), silence(0.02)]
    )
    found = find_pauses(samples, RATE)
    assert np.allclose(found, [(0, 0.2), (0.7, 1.0), (1.75, 1.77)], atol=0.012), "0.05 s is no pause"
    assert find_pauses(silence(0), RATE) == []


def test_without_a_recognizer_words_share_the_time_between_pauses_and_are_marked() -> None:
    samples = np.concatenate([silence(0.2), tone(1.0), silence(0.4), tone(0.5), silence(0.3)])
    times = WordTimer(None).times(
        ("Abcdefghi jklmnopqr,", "stuvwxyza."), "Abcdefghi jklmnopqr, stuvwxyza.", samples, RATE
    )
    assert [time.word for time in times] == ["Abcdefghi", "jklmnopqr,", "stuvwxyza."]
    assert np.allclose([time[1:3] for time in times], [(0.2, 0.7), (0.7, 1.2), (1.6, 2.1)], atol=0.03)
    assert all(time.estimated for time in times)


@pytest.mark.parametrize("samples", [silence(0.0), silence(1.0), tone(0.01), tone(1.0)])
@pytest.mark.parametrize("text", ["one two three", "1984 — ok", "...", ""])
def test_any_sound_and_text_give_times_in_order(samples: np.ndarray, text: str) -> None:
    times = WordTimer(None).times((text,), text, samples, RATE)
    assert all(0 <= time.begin_s <= time.end_s <= len(samples) / RATE + 1e-9 for time in times)
    assert all(one.end_s <= other.begin_s + 1e-9 for one, other in pairwise(times))


def test_an_unlikely_boundary_is_moved_and_a_pause_is_not() -> None:
    spans: list[Span] = [(0.0, 0.5), (0.5, 0.6), (1.0, 1.4)]  # "a" 0.5 s, "computer" 0.1 s, then a pause
    moved = smooth(spans, ["a", "computer", "works"])
    assert moved[0][0] == 0.0
    assert moved[0][1] < 0.35
    assert moved[1][1] == 0.6
    assert moved[2] == (1.0, 1.4)


WORDS = ("seven", "tickets", "1984", "tomorrow", "garden", "$5", "window")


@pytest.fixture(scope="module")
def spoken() -> tuple[np.ndarray, list[Span], str]:
    """Words that were spoken one by one, with pauses between them: samples, true times, and the text for the model."""
    speech = Synthesizer.load()
    pieces, truth, at, text = [silence(PAUSE_S)], [], PAUSE_S, []
    for number, word in enumerate(WORDS):
        samples = speech.synthesize(f"{word}.", SpeechOptions(seed=number))
        loud = np.flatnonzero(np.abs(samples) > 0.05 * np.abs(samples).max())
        samples = samples[loud[0] : loud[-1]]
        truth.append((at, at + len(samples) / RATE))
        pieces += [samples, silence(PAUSE_S)]
        at += len(samples) / RATE + PAUSE_S
        text += speech.chunks(word)
    return np.concatenate(pieces), truth, " ".join(text).replace(".", "")


def test_pocketsphinx_finds_words_that_are_known(spoken: tuple[np.ndarray, list[Span], str]) -> None:
    pytest.importorskip("pocketsphinx")
    samples, truth, text = spoken
    times = WordTimer(load_recognizer("pocketsphinx"), "en").times((" ".join(WORDS),), text, samples, RATE)
    assert [time.word for time in times] == list(WORDS), "as written"
    assert not any(time.estimated for time in times)
    errors = np.abs(np.array([time[1:3] for time in times]) - truth)
    assert errors.max() < 0.15, errors
    assert np.median(errors) < 0.03


def test_a_text_that_can_not_be_aligned_is_estimated() -> None:
    pytest.importorskip("pocketsphinx")
    recognizer = load_recognizer("pocketsphinx")
    samples = np.concatenate([silence(0.2), tone(1.0), silence(0.2)])
    for text, language in (("你好", "en"), ("guten Tag", "de"), ("too many words for one second " * 20, "en")):
        times = WordTimer(recognizer, language).times((text,), text, samples, RATE)
        assert times
        assert all(time.estimated for time in times)
