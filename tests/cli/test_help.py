"""Help is quick and says what settings say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from llasa_cli.cli.app import app

HEAVY = ("torch", "transformers", "numpy", "soundfile", "sounddevice", "tokenizers", "huggingface_hub")


@pytest.mark.parametrize("arguments", [["--help"], ["say", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom llasa_cli.__main__ import main\n"
        f"sys.argv = ['llasa', *{arguments!r}]\n"
        "try: main()\nexcept SystemExit as end: assert not end.code\n"
        f"found = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "assert not found, found"
    )
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert made.returncode == 0, made.stderr
    assert made.stdout


@pytest.mark.parametrize("command", ["say", "clone", "batch", "download", "prepare", "finetune", "voices", "doctor"])
def test_every_command_has_help(command: str) -> None:
    made = CliRunner().invoke(app, [command, "--help"])
    assert made.exit_code == 0
    assert "Usage" in made.output


@pytest.mark.parametrize("arguments", [["say", "--tempo", "2", "hi"], ["speak"], ["say", "--top-p", "2", "hi"]])
def test_what_is_unknown_is_an_error_and_not_spoken(arguments: list[str]) -> None:
    assert CliRunner().invoke(app, arguments).exit_code == 2


@pytest.mark.parametrize("page", ["README.md", "CHANGELOG.md"])
def test_every_flag_that_a_page_names_is_one(page: str) -> None:
    def options(command: object) -> set[str]:
        own = {name for part in getattr(command, "params", ()) for name in (*part.opts, *part.secondary_opts)}
        return own.union(*(options(below) for below in getattr(command, "commands", {}).values()))

    text = (Path(__file__).parents[2] / page).read_text(encoding="utf-8")
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text))
    assert named - options(get_command(app)) - {"--help"} == set()
