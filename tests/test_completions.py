"""The completion scripts in the repository are those of today's typer, and they complete."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import BUILT_IN_SPEAKERS

ROOT = Path(__file__).parents[1]


def test_scripts_are_up_to_date() -> None:
    for name, script in runpy.run_path(str(ROOT / "completions" / "generate.py"))["scripts"]().items():
        assert (ROOT / "completions" / name).read_text(encoding="utf-8") == script, "run completions/generate.py"


# The script calls the program by its name, so that is how it is called here.
LLASA = [sys.executable, "-c", "import sys; sys.argv = ['llasa']; from llasa_cli.__main__ import main; main()"]


def complete(line: str, llasa: list[str]) -> list[str]:
    """The answer that the bash script would get."""
    environment = os.environ | {
        "_LLASA_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split(" ")) - 1),
    }
    made = subprocess.run(llasa, env=environment, capture_output=True, text=True, check=False)
    return made.stdout.split()


def test_commands_and_flags_complete() -> None:
    assert "batch" in complete("llasa ba", LLASA)
    assert "--temperature" in complete("llasa say --temp", LLASA)


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("llasa say --speaker ", set(BUILT_IN_SPEAKERS)),
        (f"llasa say -v {BUILT_IN_SPEAKERS[1][:1]}", {BUILT_IN_SPEAKERS[1]}),
        ("llasa say -m ", {"tiny", "1b", "3b", "1b-kore-puck"}),
        ("llasa say --codec x", {"xcodec2"}),
        ("llasa download x", {"xcodec2"}),
        ("llasa say --format f", {"flac"}),
        ("llasa say --attention ", {"auto", "sdpa", "flash", "eager"}),
        ("llasa say --dtype i", {"int8", "int4"}),
        ("llasa finetune --schedule t", {"trapezoid"}),
    ],
)
def test_values_complete(llasa: list[str], line: str, offered: set[str]) -> None:
    assert offered <= set(complete(line, llasa))


def test_a_codec_is_not_offered_as_a_model(llasa: list[str]) -> None:
    assert complete("llasa say -m x", llasa) == []
