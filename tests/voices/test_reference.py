"""A clip and its transcript: trimmed, corrected, and cut together or not at all."""

from __future__ import annotations

import numpy as np
import pytest

from llasa_cli.errors import AudioError, UsageError
from llasa_cli.text.width import count_letters
from llasa_cli.voices.reference import (
    check_sound,
    check_transcript,
    cut_at_pause,
    leaked_words,
    speaking_rate_problem,
)

RATE = 16_000
SENTENCES = (
    "The morning train was crowded with people going to work.",
    "She put fresh flowers on the table.",
    "My grandfather used to fish in the small lake behind the farm.",
    "We should leave before the rain starts again!",
    "The shop on the corner sells bread, milk and newspapers?",
)
LETTER_S = 0.09


def spoken(sentence: str) -> np.ndarray:
    """A tone as long as the sentence, louder and softer four times a second."""
    time = np.arange(round(count_letters(sentence) * LETTER_S * RATE)) / RATE
    swell = 0.7 + 0.3 * np.sin(2 * np.pi * 4 * time)
    return (0.4 * swell * np.sin(2 * np.pi * 150 * time)).astype(np.float32)


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * RATE), np.float32)


def joined(sentences: tuple[str, ...], pauses: tuple[float, ...]) -> np.ndarray:
    parts = [silence(0.5)]
    for sentence, pause in zip(sentences, pauses, strict=True):
        parts += [spoken(sentence), silence(pause)]
    return np.concatenate(parts)


LONG = joined(SENTENCES, (0.5, 0.6, 0.4, 0.5, 0.5))
"""About 20 s."""


def test_sound_and_words_are_cut_at_the_same_sentence() -> None:
    clip = check_transcript(check_sound(LONG, RATE), " ".join(SENTENCES))
    assert clip.transcript == " ".join(SENTENCES[:3])
    expected = sum(map(len, map(spoken, SENTENCES[:3]))) / RATE + 0.5 + 0.6 + 0.2
    assert clip.seconds == pytest.approx(expected, abs=0.1)
    assert "cut together" in clip.warnings[0]


def test_scripts_without_blanks_are_cut_without_one() -> None:
    sentences = (
        "今天天气很好我们去公园玩吧。",
        "明天可能会下雨所以请带伞。",
        "他昨天在图书馆看了很多书。",
        "我们下个星期去北京旅行。",
        "孩子们在院子里高兴地玩。",
    )
    clip = check_transcript(check_sound(joined(sentences, (0.5,) * 5), RATE), "".join(sentences))
    assert clip.transcript == "".join(sentences[:4])


@pytest.mark.parametrize(
    ("sound", "words"),
    [
        (LONG, SENTENCES[:2] + SENTENCES[3:]),
        (LONG, SENTENCES[1:]),
        (LONG, SENTENCES[2:] + SENTENCES[:2]),
        (joined(SENTENCES, (0.5, 0.1, 0.4, 0.5, 0.5)), SENTENCES),
        (joined(SENTENCES, (0.05,) * 5), SENTENCES),
        (np.concatenate([LONG[: 9 * RATE], silence(0.5), LONG[9 * RATE :]]), SENTENCES),
    ],
    ids=["one left out", "first left out", "in another order", "a pause missing", "no pauses", "a pause too many"],
)
def test_a_cut_that_would_be_a_guess_is_refused(sound: np.ndarray, words: tuple[str, ...]) -> None:
    with pytest.raises(AudioError, match="15 s is the most") as raised:
        check_transcript(check_sound(sound, RATE), " ".join(words))
    assert "--asr" in raised.value.hint


def test_a_clip_without_a_transcript_is_cut_in_a_pause() -> None:
    clip = cut_at_pause(check_sound(LONG, RATE))
    assert 5.0 < clip.speech_s <= 15.0
    assert clip.transcript == ""
    assert np.abs(clip.samples[-160:]).max() == 0, "in the middle of a stillness"
    with pytest.raises(AudioError, match="without a pause"):
        cut_at_pause(check_sound(spoken("x" * 300), RATE))
    short = check_sound(LONG[: 10 * RATE], RATE)
    assert cut_at_pause(short) is short


def test_a_good_level_is_not_changed() -> None:
    clip = check_sound(LONG, RATE)
    begin = round(0.4 * RATE)
    assert np.array_equal(clip.samples, LONG[begin : begin + len(clip.samples)])
    assert clip.warnings == ()


@pytest.mark.parametrize("level", [0.002, 0.005, 0.01])
def test_a_quiet_clip_is_raised_with_a_warning(level: float) -> None:
    clip = check_sound(LONG * (level / 0.3), RATE)
    assert np.sqrt(np.mean(clip.samples**2)) == pytest.approx(0.05, rel=0.15)
    assert "raised by" in clip.warnings[0]


def test_a_quiet_clip_with_one_loud_click_stays_below_full_scale() -> None:
    sound = LONG * 0.01
    sound[5 * RATE] = 0.5
    clip = check_sound(sound, RATE)
    assert np.abs(clip.samples).max() <= 0.951
    assert np.sqrt(np.mean(clip.samples**2)) == pytest.approx(0.05, rel=0.25), "and it is raised all the same"
    assert "by 2" in clip.warnings[0]


def test_a_small_offset_is_removed_from_a_quiet_voice() -> None:
    for level in (0.01, 0.05):
        plain = check_sound(LONG * (level / 0.3), RATE)
        shifted = check_sound(LONG * (level / 0.3) + np.float32(0.0045), RATE)
        assert abs(shifted.samples.mean()) < 1e-3
        assert len(shifted.samples) == len(plain.samples)


def test_a_removed_offset_is_not_reported_as_beyond_full_scale() -> None:
    loud = np.clip(LONG * 20 + np.float32(0.1), -1, 1)
    assert not [messages for messages in check_sound(loud, RATE).warnings if "full scale" in messages]


def test_steady_noise_around_the_speech_is_trimmed_like_silence() -> None:
    sound = np.concatenate([silence(2.0), spoken(SENTENCES[0]), silence(2.0)])
    sound += np.random.default_rng(0).normal(0, 0.004, len(sound)).astype(np.float32)
    clip = check_sound(sound, RATE)
    assert clip.speech_s == pytest.approx(len(spoken(SENTENCES[0])) / RATE, abs=0.1)


def test_digits_count_by_their_spoken_length() -> None:
    assert check_transcript(check_sound(spoken("x" * 90), RATE), "Call 0151 2345678 now.").transcript
    with pytest.raises(UsageError, match="too short for the clip"):
        check_transcript(check_sound(spoken("x" * 90), RATE), "Call now")


def test_a_constant_offset_is_removed() -> None:
    clean, offset = check_sound(LONG[: 10 * RATE], RATE), check_sound(LONG[: 10 * RATE] + np.float32(0.2), RATE)
    assert len(clean.samples) == len(offset.samples)
    assert abs(float(offset.samples.mean())) < 0.01
    assert np.abs(clean.samples - offset.samples).max() < 0.01


@pytest.mark.parametrize(
    ("said", "heard", "problem"),
    [
        ("We walked home.", "old stone wall we walked home", "'old stone wall'"),
        ("We walked home.", "we walked home beside the old stone", "'beside the old stone'"),
        ("We walked home.", "we walked home", ""),
        ("The wall is old.", "the wall is old", ""),
        ("He sat beside the old stone wall.", "he sat beside the old stone wall", ""),
        ("We walked home.", "the gardener we walked home", "'the gardener'"),
        ("We walked home.", "of beans we walked home", ""),
        ("我们回家。", "旧石墙我们回家", "'旧 石 墙'"),
    ],
)
def test_words_of_the_reference_clip_in_the_generated_speech_are_found(said: str, heard: str, problem: str) -> None:
    clip = "The gardener planted three rows of beans beside the old stone wall. 花园里有旧石墙。"
    found = leaked_words(said, heard, clip)
    assert bool(found) == bool(problem)
    assert problem in "".join(found)


@pytest.mark.parametrize(
    ("letters", "problem", "is_possible"),
    [
        (10, "too short", False),
        (30, "too short", True),
        (70, "", True),
        (100, "", True),
        (108, "too long", True),
        (120, "too long", False),
    ],
)
def test_the_speaking_rate_is_checked_both_ways(letters: int, problem: str, is_possible: bool) -> None:
    found = speaking_rate_problem("x" * letters, 5.2)
    assert problem in found[0]
    assert bool(found[0]) == bool(problem)
    assert found[1] == is_possible
