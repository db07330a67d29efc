"""The commands of the README and the guides run as they stand.

Every `sh` block of a page is run, in order, in one folder. A comment before a block may change that:

    <!-- not run: REASON -->           the block needs a download, a GPU, a sound device or a package
    <!-- test command -->              the install commands, which `.ci/run` runs in a fresh environment
    <!-- run with: OLD -> NEW -->      one argument is replaced, so that a training takes seconds
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.documents.make import write_epub

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", *(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md"))))
BLOCK = re.compile(r"((?:<!--(?:(?!-->).)*-->\s*)*)```sh\n(.*?)```", re.S)
RUN_WITH = re.compile(r"<!-- run with: (.*?) -> (.*?) -->")
TRANSCRIPT = "The gardener planted three rows of beans."


def blocks(page: str) -> list[tuple[str, str]]:
    """(comments before the block, its commands), in order."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return [(match[1], match[2]) for match in BLOCK.finditer(text)]


def script_of(page: str) -> str:
    """The commands of a page that are run here."""
    parts = []
    for comments, commands in blocks(page):
        if "not run:" in comments or "test command" in comments or commands.startswith("pip install"):
            continue
        for old, new in RUN_WITH.findall(comments):
            assert old in commands, f"{page}: {old!r} is not in the block after its comment"
            commands = commands.replace(old, new)
        parts.append(commands)
    return "".join(parts)


def prepare_inputs(folder: Path, environment: dict[str, str]) -> None:
    """The files that the pages' commands read: a chapter, a list, a reference clip and recordings."""
    (folder / "chapter.md").write_text("# Evening\n\nThe rain had *stopped*. We walked home.\n", encoding="utf-8")
    (folder / "lines.txt").write_text("The first line.\nThe second line.\n", encoding="utf-8")
    command = [sys.executable, "-m", "llasa_cli", "say", TRANSCRIPT, "--seed", "1", "-q", "-o", str(folder / "me.wav")]
    subprocess.run(command, env=environment, check=True, timeout=300)
    write_epub(folder / "book.epub", {f"{n}.xhtml": f"<h1>Part {n}</h1><p>Hello again.</p>" for n in (1, 2, 3)})
    recordings = folder / "recordings"
    recordings.mkdir()
    for number in range(16):
        shutil.copy(folder / "me.wav", recordings / f"{number}.wav")
        (recordings / f"{number}.txt").write_text(TRANSCRIPT, encoding="utf-8")


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if script_of(page)])
def test_the_commands_of_a_page_run(page: str, tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    # A fixed seed, so that a take that fails its checks by chance does not fail the test.
    shim = '#!/bin/sh\ncommand="$1"\nshift\ncase "$command" in say|clone) set -- --seed 1 "$@" ;; esac\n'
    shim += f'exec "{sys.executable}" -m llasa_cli "$command" "$@"\n'
    (programs / "llasa").write_text(shim, encoding="utf-8")
    (programs / "llasa").chmod(0o755)
    environment = os.environ | {
        "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "LLASA_VOICES": str(tmp_path / "voices"),
        "HF_HUB_OFFLINE": "1",
    }
    work = tmp_path / "work"
    work.mkdir()
    prepare_inputs(work, environment)
    made = subprocess.run(
        ["bash", "-euxo", "pipefail", "-c", script_of(page)],
        cwd=work,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert made.returncode == 0, f"{page}:\n{made.stdout[-2000:]}\n{made.stderr[-4000:]}"


@pytest.mark.parametrize("page", PAGES)
def test_the_links_of_a_page_lead_to_files(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    targets = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", text)
    assert [target for target in targets if not (ROOT / page).parent.joinpath(target).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_a_page_names_exists(page: str) -> None:
    """A path in backticks that names a folder of the repository is a file or folder in it."""
    text = (ROOT / page).read_text(encoding="utf-8")
    named = re.findall(r"`((?:llasa_cli|benchmarks|recipes|tests|completions|docs)/[\w./-]*)`", text)
    assert [path for path in named if not (ROOT / path).exists()] == []
