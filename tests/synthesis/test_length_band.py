"""Lengths and repetitions, on 331 takes of a built-in voice (default speaker, no retries): `takes.npz`."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from llasa_cli.settings import CODES_PER_SECOND
from llasa_cli.synthesis.length_band import LEAST_TAKES, LengthBand, count_letters, count_pauses, wide_limits
from llasa_cli.synthesis.quality import find_problems, find_repetition

Take = tuple[str, list[int]]
SOUND = np.full(16_000, 0.1, np.float32)


class Takes:
    """The fixture: texts with lengths to calibrate from, and other takes with their codes, good and bad."""

    def __init__(self) -> None:
        stored = np.load(Path(__file__).parent / "takes.npz")
        seconds = stored["calibration_codes"] / CODES_PER_SECOND
        self.calibration = list(zip(stored["calibration_texts"].tolist(), seconds.tolist(), strict=True))
        codes = np.split(stored["codes"], np.cumsum(stored["lengths"].astype(int))[:-1])
        takes = [(text, part.tolist()) for text, part in zip(stored["texts"].tolist(), codes, strict=True)]
        bad = int(stored["bad"])
        self.good, self.bad = takes[:-bad], takes[-bad:]


@pytest.fixture(scope="module")
def takes() -> Takes:
    return Takes()


@pytest.fixture(scope="module")
def band(takes: Takes) -> LengthBand:
    return LengthBand.calibrate(takes.calibration)


def problems(take: Take, band: LengthBand) -> tuple[str, ...]:
    text, codes = take
    return find_problems(text, codes, SOUND, 16_000, True, band.limits(text))


def test_at_most_one_percent_of_good_takes_fails(takes: Takes, band: LengthBand) -> None:
    assert len(takes.good) > 150
    failed = [(take[0], found) for take in takes.good if (found := problems(take, band))]
    assert len(failed) <= 0.01 * len(takes.good), failed


def test_takes_in_which_the_model_repeated_itself_fail(takes: Takes, band: LengthBand) -> None:
    assert all(problems(take, band) for take in takes.bad)


def repeat_half(codes: list[int], other: list[int]) -> list[int]:
    return codes[: len(codes) // 2] + codes


def lose_beginning(codes: list[int], other: list[int]) -> list[int]:
    return codes[len(codes) // 3 :]


def double_length(codes: list[int], other: list[int]) -> list[int]:
    """Other speech follows, so that no passage is the same."""
    return codes + (other * 9)[: len(codes)]


@pytest.mark.parametrize(("damage", "least"), [(repeat_half, 0.85), (lose_beginning, 0.7), (double_length, 0.9)])
def test_most_damaged_takes_fail_without_a_recognizer(
    takes: Takes, band: LengthBand, damage: Callable[[list[int], list[int]], list[int]], least: float
) -> None:
    draw = random.Random(1)
    chosen = draw.sample(takes.good, 60)
    failed = [problems((text, damage(codes, draw.choice(takes.good)[1])), band) for text, codes in chosen]
    assert sum(map(bool, failed)) >= least * len(chosen)


def test_of_sixty_damaged_takes_at_least_four_fifths_fail(takes: Takes, band: LengthBand) -> None:
    draw = random.Random(2)
    ways = [repeat_half, lose_beginning, double_length]
    failed = 0
    for number, (text, codes) in enumerate(draw.sample(takes.good, 60)):
        damaged = ways[number % 3](codes, draw.choice(takes.good)[1])
        failed += bool(problems((text, damaged), band))
    assert failed >= 48


def test_bad_takes_among_the_calibration_do_no_harm(takes: Takes, band: LengthBand) -> None:
    spoilt = [
        (text, seconds * (3 if number % 25 == 0 else 1)) for number, (text, seconds) in enumerate(takes.calibration)
    ]
    other = LengthBand.calibrate(spoilt)
    for text in ("A short one.", "Their old dog sleeps under the table, and the cat on it."):
        assert other.limits(text) == pytest.approx(band.limits(text), abs=0.4)


def test_too_few_takes_are_refused() -> None:
    with pytest.raises(ValueError, match="too few"):
        LengthBand.calibrate([("hello there", 1.0)] * (LEAST_TAKES - 1))
    with pytest.raises(ValueError, match="equally long"):
        LengthBand.calibrate([("hello there", 1.0)] * LEAST_TAKES)


def test_a_speaker_has_its_own_band_and_the_others_the_general_one(band: LengthBand) -> None:
    general = LengthBand(0.3, 0.07, 0.3, 3, 3, 100)
    metadata = {"length_bands": {"": general.to_metadata(), "bella": band.to_metadata()}}
    assert LengthBand.from_metadata(metadata, "bella") == band
    assert LengthBand.from_metadata(metadata, "heart") == LengthBand.from_metadata(metadata, None) == general
    assert LengthBand.from_metadata({}, "heart") is None


@pytest.mark.parametrize(
    ("text", "letters", "pauses"),
    [
        ("Hello there.", 10, 0),
        ("Yes, no: well; so.", 11, 3),
        ("It is 5.", 8, 0),
        ("你好，世界。", 12, 1),
        ("こんにちは。", 10, 0),
        ("Ends. Begins.", 10, 1),
    ],
)
def test_letters_and_pauses_are_counted_as_they_are_spoken(text: str, letters: int, pauses: int) -> None:
    assert (count_letters(text), count_pauses(text)) == (letters, pauses)


def test_a_passage_that_comes_twice_is_found_despite_a_few_other_codes() -> None:
    draw = random.Random(3)
    codes = [draw.randrange(4096) for _ in range(150)]
    assert find_repetition(codes) is None
    again = [code if draw.random() < 0.8 else 7 for code in codes[20:60]]
    places = find_repetition(codes + again)
    assert places is not None
    assert places[1] - places[0] == 130
    assert find_repetition([5] * 30 + codes[:60] + [5] * 30) is None, "silence is no passage"


def test_a_text_that_repeats_its_words_may_repeat_its_codes(band: LengthBand) -> None:
    draw = random.Random(4)
    phrase = [draw.randrange(4096) for _ in range(60)]
    limits = wide_limits("thank you very much")
    assert find_problems("thank you very much, thank you very much", phrase * 2, SOUND, 16_000, True, limits) == ()
    (problem,) = find_problems("thank you very much, said the old man", phrase * 2, SOUND, 16_000, True, limits)
    assert problem == "says a passage twice (at 0.0 s and 1.2 s)"
