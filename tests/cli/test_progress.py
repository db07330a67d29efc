"""The progress of a batch on a terminal and in a log."""

from __future__ import annotations

import time

import pytest

from llasa_cli.batch.scheduler import Tally
from llasa_cli.cli import progress as module
from llasa_cli.cli.console import Console
from llasa_cli.cli.progress import ProgressLine, describe_batch, summary_facts


@pytest.fixture
def tally() -> Tally:
    found = Tally(all=100, there=10, to_make=90, characters_to_make=9000)
    found.made, found.failed, found.seconds, found.characters = 19, 1, 60.0, 2250
    found.began = time.monotonic() - 30
    return found


def test_progress_has_items_seconds_speed_failures_and_time_left(tally: Tally) -> None:
    text = describe_batch(tally)
    assert text.startswith("30 of 100 items (30 %), 60.0 s of speech in 30.")
    assert "2.0 times real time, 1 failed, 2 min left" in text


def test_a_log_gets_a_plain_line_now_and_then(
    tally: Tally, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    progress = ProgressLine(Console())
    for _ in range(5):
        progress.show(tally)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(module, "LOG_INTERVAL_S", 0.0)
    progress.show(tally)
    text = capsys.readouterr().err
    assert text.count("\n") == 1
    assert "\r" not in text
    assert "\x1b" not in text
    ProgressLine(Console(quiet=True)).show(tally)
    assert capsys.readouterr().err == ""


def test_the_summary_has_hours_and_times_real_time(tally: Tally) -> None:
    facts = summary_facts(tally)
    assert facts["hours"] == round(60 / 3600, 4)
    assert facts["times_real_time"] == pytest.approx(2.0, abs=0.01)
    assert (facts["items"], facts["made"], facts["there"], facts["failed"]) == (100, 19, 10, 1)
