"""Every benchmark imports, names only things that exist, and prints its help.

All run in this process: one process each would import torch a dozen times.
"""

from __future__ import annotations

import ast
import importlib
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "benchmarks").glob("*.py"))


@pytest.fixture(autouse=True)
def _fresh_scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As when Python runs a script, its folder comes first on the path; the modules beside it are forgotten afterwards."""
    monkeypatch.setattr(sys, "path", [str(ROOT / "benchmarks"), *sys.path])
    modules = set(sys.modules)
    yield
    for name in set(sys.modules) - modules:
        file = getattr(sys.modules[name], "__file__", None) or ""
        if "." not in name and Path(file).parent in (ROOT / "benchmarks", ROOT / "recipes" / "heart"):
            del sys.modules[name]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_benchmark_prints_its_help(
    script: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [str(script), "--help"])
    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(script), run_name="__main__")
    assert not ended.value.code
    output = capsys.readouterr().out
    assert output.startswith(f"usage: {script.name}")
    assert (ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))) or "-").splitlines()[0] in output


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_benchmark_imports_only_names_that_exist(script: Path) -> None:
    """Imports inside functions too, which `--help` does not run."""
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in ("llasa_cli", "recipes"):
            module = importlib.import_module(str(node.module))
            missing = [alias.name for alias in node.names if not hasattr(module, alias.name)]
            assert not missing, f"{node.module} has no {missing[0]}"


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("pocketsphinx", "pocketsphinx"),
        ("Systran/faster-whisper-base.en", "faster-whisper-base.en"),
        ("/lib/whisper-tiny.en/model", "whisper-tiny.en"),
        (f"/hub/models--openai--whisper-tiny/snapshots/{'0' * 40}", "whisper-tiny"),
    ],
)
def test_a_judge_is_labelled_by_a_name_that_says_which_it_is(name: str, label: str) -> None:
    assert importlib.import_module("best_of").short(name) == label
