from __future__ import annotations

import pytest

from llasa_cli.training.schedule import Clock, longest_row, rate_factor


def test_minutes_count_over_resumptions() -> None:
    time = [100.0]
    clock = Clock(None, 60.0, spent_before=30.0, now=lambda: time[0])
    time[0] += 5  # loading
    clock.start()
    assert clock.share(0) == 0.5
    time[0] += 15
    assert clock.share(0) == 0.75
    time[0] += 100
    assert clock.share(0) == 1


def test_steps_do_not_look_at_the_clock() -> None:
    assert Clock(10, None, now=lambda: 0.0).share(5) == 0.5


def test_rate_warms_up_holds_and_falls_to_nothing() -> None:
    assert rate_factor(0, 0.0, 60, 0.6) == pytest.approx(1 / 60)
    assert rate_factor(60, 0.1, 60, 0.6) == 1
    assert rate_factor(1000, 0.4, 60, 0.6) == 1
    assert rate_factor(1000, 0.7, 60, 0.6) == pytest.approx(0.5)
    assert rate_factor(1000, 1.0, 60, 0.6) == 0
    assert rate_factor(0, 0.5, 0, 0.0) == 1


def test_rows_grow_and_then_all_may_come() -> None:
    assert longest_row(0.0, 0.2, 100, 500) == 100
    assert longest_row(0.1, 0.2, 100, 500) == 300
    assert longest_row(0.2, 0.2, 100, 500) == 500
    assert longest_row(0.0, 0.0, 100, 500) == 500
