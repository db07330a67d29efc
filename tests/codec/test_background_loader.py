"""Parts that a background thread loads in order while they are being used."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from llasa_cli.codec.background_loader import BackgroundLoader


def test_a_part_is_available_before_later_ones_are_loaded() -> None:
    gate = threading.Event()
    made: list[str] = []

    def make(name: str) -> str:
        if name == "last":
            assert gate.wait(10)
        made.append(name)
        return name.upper()

    parts = BackgroundLoader(["first", "last"], make)
    assert parts["first"] == "FIRST"
    assert made == ["first"]
    gate.set()
    assert parts["last"] == "LAST"
    parts.wait()
    assert made == ["first", "last"]


def test_access_waits_for_a_part_that_is_loading() -> None:
    gate = threading.Event()
    parts = BackgroundLoader(["one"], lambda name: gate.wait(10) and name)
    threading.Timer(0.05, gate.set).start()
    assert parts["one"] == "one"


def test_an_error_is_raised_at_access_to_its_part_and_to_later_ones() -> None:
    def make(name: str) -> str:
        if name == "bad":
            raise ValueError("no such thing")
        return name

    parts = BackgroundLoader(["good", "bad", "behind"], make)
    for name in ("bad", "behind"):
        with pytest.raises(ValueError, match="no such thing"):
            parts[name]
    assert parts["good"] == "good"
    with pytest.raises(ValueError, match="no such thing"):
        parts.wait()


def test_an_unknown_part_is_a_key_error() -> None:
    parts = BackgroundLoader(["one"], str)
    with pytest.raises(KeyError):
        parts["another"]


def test_a_program_that_ends_does_not_wait_for_unused_parts() -> None:
    program = (
        "import time\n"
        "from llasa_cli.codec.background_loader import BackgroundLoader\n"
        "def make(name):\n"
        "    time.sleep(0.01)\n"
        "    print(name, flush=True)\n"
        "    return name\n"
        "BackgroundLoader(map(str, range(2000)), make)['3']\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=Path(__file__).parents[2], timeout=15
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "3" in done.stdout.split()
    assert "1999" not in done.stdout.split()


def test_a_stopped_loader_loads_no_further_part() -> None:
    began, gate = threading.Event(), threading.Event()
    made: list[str] = []

    def make(name: str) -> str:
        began.set()
        assert gate.wait(10)
        made.append(name)
        return name

    parts = BackgroundLoader(["one", "two"], make)
    assert began.wait(10)
    threading.Timer(0.05, gate.set).start()
    parts.stop()
    assert made == ["one"]
    with pytest.raises(KeyError):
        parts["two"]
