"""`llasa doctor` examines the real machine, names a fix, and fails only if speech is impossible."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from llasa_cli.cli.app import app
from tests.conftest import BUILT_IN_SPEAKERS

Findings = dict[str, dict[str, Any]]


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLASA_VOICES", str(tmp_path / "voices"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.fixture
def look() -> Callable[..., tuple[int, Findings, str]]:
    def run(*arguments: str) -> tuple[int, Findings, str]:
        command = ["doctor", "--json", *(["--no-self-test"] if "--self-test" not in arguments else []), *arguments]
        made = CliRunner().invoke(app, command)
        assert made.exception is None or isinstance(made.exception, SystemExit), made.exception
        found = json.loads(made.stdout)
        assert found["ok"] == (made.exit_code == 0)
        return made.exit_code, {finding["what"]: finding for finding in found["findings"]}, made.stderr

    return run


def test_on_a_complete_machine_the_built_in_voice_speaks(look: Callable[..., tuple[int, Findings, str]]) -> None:
    code, found, said = look("--self-test", "--device", "cpu")
    assert (code, said) == (0, "")
    assert found["self-test"]["state"] == "ok"
    assert "spoke" in found["self-test"]["found"]
    assert found["model"]["found"].endswith(
        f"speakers {', '.join(BUILT_IN_SPEAKERS)} (default: {BUILT_IN_SPEAKERS[0]})"
    )
    assert {"python", "torch", "transformers", "soundfile", "CPU", "memory", "sound output", "hub"} <= set(found)
    assert found["device used"]["found"] == "cpu (--device cpu)"
    assert found["model"]["found"].startswith("tiny, revision ")
    assert all(finding["fix"] for finding in found.values() if finding["state"] != "ok")


def test_a_model_that_is_not_on_this_machine_is_broken(look: Callable[..., tuple[int, Findings, str]]) -> None:
    code, found, said = look("-m", "1b")
    assert code == 1
    assert found["model"]["state"] == "broken"
    assert found["model"]["fix"] == "Download it with: llasa download 1b"
    assert said.startswith("error: These do not work: model.")


def test_a_device_that_does_not_exist_is_broken(look: Callable[..., tuple[int, Findings, str]]) -> None:
    code, found, _ = look("--device", "cuda:99")
    assert code == 1
    assert found["device"]["state"] == "broken"


def test_a_missing_or_old_package_names_the_command_that_installs_it(
    look: Callable[..., tuple[int, Findings, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = ["numpy>=999", "no-such-package-here>=1", "typer>=0.1", "accelerate>=999; extra == 'train'"]
    monkeypatch.setattr("llasa_cli.cli.doctor._requirements", lambda: wanted)
    code, found, _ = look()
    assert code == 1
    assert [found[name]["state"] for name in ("numpy", "no-such-package-here", "typer")] == ["broken", "broken", "ok"]
    assert "install --upgrade 'numpy>=999'" in found["numpy"]["fix"]
    assert "accelerate" not in found


def test_something_optional_that_is_missing_is_a_note(
    look: Callable[..., tuple[int, Findings, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "voices").mkdir()
    (tmp_path / "voices" / "odd.json").write_text("{")
    code, found, _ = look()
    assert code == 0
    for what in ("sound output", "offline", "--asr", "voice odd"):
        assert found[what]["state"] == "note", what
        assert found[what]["fix"]
    assert found["--asr"]["fix"] == "llasa download openai/whisper-base"
    assert not (tmp_path / "hub").exists(), "looking makes no folders"


def test_folders_that_can_not_be_written_are_reported(
    look: Callable[..., tuple[int, Findings, str]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LLASA_VOICES", str(tmp_path / "file" / "voices"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "file" / "hub"))
    code, found, _ = look()
    assert code == 0
    assert "LLASA_VOICES" in found["saved voices"]["fix"]
    assert "HF_HUB_CACHE" in found["model cache"]["fix"]


def test_cached_models_are_listed_with_sizes_and_interrupted_downloads(
    look: Callable[..., tuple[int, Findings, str]], tmp_path: Path
) -> None:
    repo = tmp_path / "hub" / "models--HKUSTAudio--Llasa-1B"
    for folder in ("blobs", "refs", "snapshots/" + "0" * 40):
        (repo / folder).mkdir(parents=True)
    (repo / "refs" / "main").write_text("0" * 40)
    (repo / "blobs" / "a").write_bytes(b"x" * 3_000_000)
    (repo / "snapshots" / ("0" * 40) / "model.safetensors").symlink_to(repo / "blobs" / "a")
    _, found, _ = look()
    assert found["in the cache"] | {"what": ""} == {
        "state": "ok",
        "what": "",
        "found": "HKUSTAudio/Llasa-1B (1b), 3 MB",
        "fix": "",
    }
    (repo / "blobs" / "b.incomplete").write_bytes(b"x")
    _, found, _ = look()
    assert found["in the cache"]["fix"] == "llasa download 1b"


@pytest.mark.parametrize(("variable", "colored"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_colors_are_used_on_terminals_without_no_color(
    llasa: list[str], tmp_path: Path, variable: dict[str, str], colored: bool
) -> None:
    """On `llasa voices`, which shows its table in the same way and loads nothing."""
    import pty

    (tmp_path / "voices").mkdir()
    (tmp_path / "voices" / "odd.json").write_text("{")
    ours, theirs = pty.openpty()
    environment = {key: value for key, value in os.environ.items() if key != "NO_COLOR"} | {"TERM": "xterm"} | variable
    made = subprocess.run([*llasa, "voices"], stdout=theirs, stderr=subprocess.PIPE, env=environment, check=False)
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 4096):
            shown += part
    except OSError:  # Linux says so that the other end is closed
        pass
    os.close(ours)
    assert made.returncode == 0, made.stderr
    assert b"\x1b" not in made.stderr
    assert b"odd" in shown
    assert (b"\x1b[" in shown) == colored


def test_packed_weights_are_told_and_cleared(
    look: Callable[..., tuple[int, Findings, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llasa_cli.packed_weights_folder.packed_weights_folder", lambda: tmp_path / "weights")
    (tmp_path / "weights").mkdir()
    for name in ("a.packed", "b.packed", "other"):
        (tmp_path / "weights" / name).write_bytes(bytes(1000))
    assert "in 2 files in " in look()[1]["packed weights"]["found"]
    assert "removed from" in look("--clear-weights")[1]["packed weights"]["found"]
    assert [path.name for path in (tmp_path / "weights").iterdir()] == ["other"]
    assert look()[1]["packed weights"]["found"].startswith("none, in ")
