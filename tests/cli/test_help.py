"""Help and usage errors: quick, readable on a narrow terminal, and the same as the option dataclasses."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from llasa_cli.cli.app import app

HEAVY = ("torch", "transformers", "numpy", "soundfile", "sounddevice", "tokenizers", "huggingface_hub")
ROOT = Path(__file__).parents[2]
PAGES = ["README.md", *(str(path.relative_to(ROOT)) for path in sorted((ROOT / "docs").glob("*.md")))]
OTHER_PROGRAMS = {
    "--nodes",
    "--nnodes",
    "--max-restarts",
    "--nproc-per-node",
    "--random",
    "--no-deps",
    "--head",
    "--generate",
    "--address",
}
"""Flags of torchrun, Slurm, Ray, pip and our own benchmarks that pages mention."""


def commands(group: Any = None, prefix: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Every command and group with the words that call it."""
    group = group if group is not None else get_command(app)
    yield prefix, group
    for name, command in getattr(group, "commands", {}).items():
        yield from commands(command, (*prefix, name))


COMMANDS = dict(commands())


def spellings(command: Any) -> set[str]:
    names = (name for part in command.params for name in (*part.opts, *part.secondary_opts))
    return {"--help", "-h", *(name for name in names if name.startswith("-"))}


@pytest.fixture(scope="module")
def pages_without_heavy_imports() -> dict[tuple[str, ...], str]:
    """The version and the help of all commands, printed in one process, which must not have imported anything heavy then."""
    arguments = [("-V",), *((*words, "--help") for words in COMMANDS)]
    code = (
        "import sys\nfrom llasa_cli.__main__ import main\n"
        f"for words in {arguments!r}:\n"
        "    sys.argv = ['llasa', *words]\n"
        "    try: main()\n    except SystemExit as end: assert not end.code\n    print('\\f')\n"
        f"found = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "assert not found, found"
    )
    environment = os.environ | {"COLUMNS": "40", "FORCE_COLOR": "1"}
    made = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment)
    assert made.returncode == 0, made.stderr
    return dict(zip([("-V",), *COMMANDS], made.stdout.split("\f"), strict=False))


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_the_help_of_every_command_imports_nothing_heavy_and_fits_40_columns(
    pages_without_heavy_imports: dict[tuple[str, ...], str], words: tuple[str, ...]
) -> None:
    page = pages_without_heavy_imports[words]
    lines = page.splitlines()
    assert "Usage: llasa" in page
    assert [line for line in lines if len(line) > 40 and not line.strip().startswith("-")] == []
    assert "\x1b" not in page
    assert all(name in page for name in spellings(COMMANDS[words]))


def test_the_version_is_printed_without_heavy_imports(
    pages_without_heavy_imports: dict[tuple[str, ...], str],
) -> None:
    assert pages_without_heavy_imports["-V",].split()[0] == "llasa"


def test_help_shows_defaults_ranges_and_the_environment() -> None:
    page = " ".join(CliRunner().invoke(app, ["say", "--help"]).output.split())
    for text in (
        "[between 0 and 1; default: the model's, else 0.95]",
        "[default: 2]",
        "[default: tiny; environment: LLASA_MODEL]",
        "-o, --output PATH",
        "--play / --no-play",
    ):
        assert text in page


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["say", "--tempo", "2", "hi"], "There is no option --tempo. Did you mean --temperature?"),
        (["finetune", "--lora-rnak", "2"], "Did you mean --lora-rank?"),
        (["say", "-5 degrees"], 'Put -- before a text that begins with a dash: llasa say -- "-5 degrees"'),
        (["say", "--hello"], "Put -- before a text that begins with a dash"),
        (["speak"], "No such command 'speak'"),
        (["say", "--top-p", "2", "hi"], "--top-p must be between 0 and 1, not 2.0."),
        (["say", "--top-k", "two", "hi"], "--top-k must be a whole number."),
        (["say", "--top-p", "half", "hi"], "--top-p must be a number."),
        (["say", "--attention", "flush", "hi"], "--attention must be one of auto, sdpa, flash, eager, not 'flush'."),
        (["finetune"], "Missing argument DATA."),
        (["finetune", "data"], "Missing option -o/--output."),
        (["prepare", "data"], "Missing option -o/--output."),
    ],
)
def test_a_wrong_command_line_is_one_error_with_exit_code_2(arguments: list[str], said: str) -> None:
    made = CliRunner().invoke(app, arguments, prog_name="llasa")
    assert made.exit_code == 2
    assert made.stderr.startswith("error: ")
    assert made.stderr.count("error:") == 1
    assert said in made.stderr


def test_without_a_command_the_help_goes_to_standard_error() -> None:
    made = CliRunner().invoke(app, [])
    assert (made.exit_code, made.stdout) == (2, "")
    assert "Commands:" in made.stderr


@pytest.mark.parametrize("page", [*PAGES, "CHANGELOG.md"])
def test_every_flag_that_a_page_names_is_one(page: str) -> None:
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", (ROOT / page).read_text(encoding="utf-8")))
    known = set().union(*map(spellings, COMMANDS.values()))
    assert named - known - OTHER_PROGRAMS == set()


@pytest.mark.parametrize("page", PAGES)
def test_every_command_line_of_a_page_has_that_command_and_its_options(page: str) -> None:
    """Lines that begin with `llasa`, in code blocks and after a pipe."""
    text = (ROOT / page).read_text(encoding="utf-8").replace("\\\n", " ")
    for line in re.findall(r"(?:^|[|&] |`)llasa ((?:[a-z]+ )?[^\n`|&#]*)", text, re.MULTILINE):
        words = line.split()
        if not words or words[0].startswith("-") or not words[0].isalpha() or not words[0].islower():
            continue
        called = tuple(words[:2]) if tuple(words[:2]) in COMMANDS else tuple(words[:1])
        assert called in COMMANDS, line
        options = {
            word.partition("=")[0] for word in re.findall(r"(?<!\S)--?[a-z][\w-]*", re.sub(r'"[^"]*"', "", line))
        }
        assert options - spellings(COMMANDS[called]) == set(), line
