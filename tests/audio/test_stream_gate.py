"""Playback begins early if the rest will arrive in time, and late otherwise; only speeds decide."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np
import pytest

from llasa_cli.audio.player import PREBUFFER_S
from llasa_cli.audio.stream_gate import LONGEST_GROWTH, RealTimeStreamGate
from llasa_cli.codec.streaming import FAST_WINDOWS, StreamingWindows

RATE = 16_000
CODE = 320


class Machine:
    """A clock, and a model that needs `1 / speed` of real time for its codes."""

    def __init__(self, speed: float, prompt_s: float = 0.3, windows: StreamingWindows | None = None) -> None:
        self.now, self.speed, self.prompt_s = 0.0, speed, prompt_s
        self.windows = windows or StreamingWindows()

    def clock(self) -> float:
        return self.now

    def codes(self, count: int) -> Iterator[int]:
        self.now += self.prompt_s
        for code in range(count):
            self.now += 0.02 / self.speed
            yield code

    def pieces(self, codes: Iterator[int]) -> Iterator[np.ndarray]:
        """As `decode_stream` gives them, each sample telling its place."""
        windows, read, given = self.windows, 0, 0
        random = np.random.default_rng(0)
        for end in windows.ends():
            for _ in codes:
                read += 1
                if read == end + windows.ahead:
                    break
            else:
                yield np.arange(given * CODE, read * CODE)
                return
            cut = end - int(random.integers(0, windows.search + 1))
            yield np.arange(given * CODE, cut * CODE)
            given = cut


def speak(
    machine: Machine, pacing: RealTimeStreamGate, count: int = 400, taker_s: float = 0.0
) -> tuple[list[np.ndarray], list[float]]:
    """The pieces that reach the consumer, with their times."""
    pieces, times = [], []
    for piece in pacing.hold(machine.pieces(pacing.watch(machine.codes(count))), RATE):
        pieces.append(piece)
        times.append(machine.now)
        machine.now += taker_s
    return pieces, times


@pytest.mark.parametrize("speed", [0.3, 0.9, 1.3, 2.0, 12.0])
def test_every_piece_is_passed_on_once_and_in_order(speed: float) -> None:
    machine = Machine(speed)
    pieces, _ = speak(machine, RealTimeStreamGate(clock=machine.clock))
    assert np.array_equal(np.concatenate(pieces), np.arange(400 * CODE))


@pytest.mark.parametrize(("speed", "codes_before_sound"), [(12.0, 48), (2.5, 48), (1.6, 68)])
def test_a_fast_model_is_streamed_from_its_first_pieces(speed: float, codes_before_sound: int) -> None:
    machine = Machine(speed)
    pacing = RealTimeStreamGate(clock=machine.clock)
    _, times = speak(machine, pacing)
    assert times[0] == pytest.approx(0.3 + codes_before_sound * 0.02 / speed)
    assert not pacing.is_late


@pytest.mark.parametrize("speed", [0.2, 0.8, 1.0, 1.2])
def test_a_slow_model_is_held_back_to_the_end_of_the_sentence(speed: float) -> None:
    machine = Machine(speed)
    pacing = RealTimeStreamGate(clock=machine.clock)
    _, times = speak(machine, pacing)
    assert times == [machine.now] * len(times)
    assert pacing.is_late
    assert not pacing.is_fast()


def gate_for(machine: Machine) -> RealTimeStreamGate:
    windows = machine.windows
    longest_s = (windows.longest + windows.search) * CODE / RATE
    return RealTimeStreamGate(machine.clock, windows.largest_ratio, longest_s)


@pytest.mark.parametrize("windows", [StreamingWindows(), FAST_WINDOWS])
@pytest.mark.parametrize("speed", [1.26, 1.4, 1.6, 2.0, 3.0, 12.0, 16.0])
@pytest.mark.parametrize("count", [60, 200, 1000])
def test_sound_that_has_begun_never_waits_for_the_next_piece(
    windows: StreamingWindows, speed: float, count: int
) -> None:
    machine = Machine(speed, windows=windows)
    pieces, times = speak(machine, gate_for(machine), count)
    played = times[0]  # when the device has played all it was given
    for piece, moment in zip(pieces, times, strict=True):
        assert moment <= played + 1e-9
        played += len(piece) / RATE


def test_the_first_sentence_may_be_streamed_and_the_next_ones_by_its_speed() -> None:
    slow, fast = Machine(0.5), Machine(5.0)
    for machine, expected in ((slow, False), (fast, True)):
        pacing = RealTimeStreamGate(clock=machine.clock)
        assert pacing.speed is None
        assert pacing.is_fast()
        speak(machine, pacing)
        assert pacing.speed == pytest.approx(machine.speed)
        assert pacing.is_fast() is expected


def test_a_machine_that_gets_busy_or_free_is_noticed() -> None:
    machine = Machine(5.0)
    pacing = RealTimeStreamGate(clock=machine.clock)
    heard_early = []
    for speed in (5.0, 0.5, 0.5, 0.5, *[5.0] * 12):
        machine.speed = speed
        speak(machine, pacing, 500)
        heard_early.append(not pacing.is_late)
    assert heard_early[0]
    assert not heard_early[3]
    assert heard_early[-1]


def test_a_slow_consumer_does_not_count_as_a_slow_model() -> None:
    machine = Machine(2.0)
    pacing = RealTimeStreamGate(clock=machine.clock)
    speak(machine, pacing, taker_s=30.0)
    assert pacing.speed == pytest.approx(2.0)


def test_a_long_prefill_does_not_count_as_slow() -> None:
    machine = Machine(4.0, prompt_s=20.0)
    pacing = RealTimeStreamGate(clock=machine.clock)
    _, times = speak(machine, pacing)
    assert times[0] == pytest.approx(20 + 48 * 0.005)


def test_a_measurement_can_be_added() -> None:
    pacing = RealTimeStreamGate()
    pacing.add(speech_s=4.0, work_s=8.0)
    assert pacing.speed == pytest.approx(0.5)
    assert not pacing.is_fast()


def test_the_assumed_growth_is_that_of_the_stream() -> None:
    windows = StreamingWindows()
    ends = list(islice(windows.ends(), 10))
    for first, second, third in zip([0, *ends], ends, ends[1:], strict=False):
        shortest = second - windows.search - first
        assert third - second <= LONGEST_GROWTH * shortest


@pytest.mark.parametrize(("speed", "codes_before_sound"), [(16.0, 48), (5.0, 204)])
def test_large_pieces_are_held_back_until_the_next_one_will_arrive_in_time(
    speed: float, codes_before_sound: int
) -> None:
    machine = Machine(speed, windows=FAST_WINDOWS)
    _, times = speak(machine, gate_for(machine))
    assert times[0] == pytest.approx(0.3 + codes_before_sound * 0.02 / speed)


@pytest.mark.parametrize("windows", [StreamingWindows(), FAST_WINDOWS])
def test_the_largest_ratio_is_that_of_the_pieces(windows: StreamingWindows) -> None:
    ends = [0, *islice(windows.ends(), 10)]
    lengths = np.diff(ends)
    assert max(lengths[1:] / (lengths[:-1] - windows.search)) == pytest.approx(windows.largest_ratio, rel=0.03)


def test_playback_begins_with_the_first_piece_however_short() -> None:
    windows = StreamingWindows()
    assert (windows.first - windows.search) * CODE / RATE > PREBUFFER_S
