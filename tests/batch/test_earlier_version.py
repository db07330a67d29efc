"""Output folders of an earlier version continue. `earlier_version` has a list and the results that it wrote with its built-in voice."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from llasa_cli.batch.options import BatchOptions
from llasa_cli.batch.validate import settings_digest, voice_digest
from llasa_cli.checkpoint.resolve import Checkpoint, resolve_checkpoint
from llasa_cli.cli.app import app
from llasa_cli.prompt import Reference
from llasa_cli.settings import ModelOptions, SpeechOptions

FIXTURE = Path(__file__).parent / "earlier_version"
CODEC_REVISION = "5e918069f61e"


def earlier_rows() -> list[dict[str, object]]:
    return [json.loads(line) for line in (FIXTURE / "results.jsonl").read_text().splitlines()]


@pytest.fixture
def folder(tmp_path: Path, random_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The output folder. That voice's speakers and revisions stand in for those of the test's model."""
    model = Path(shutil.copytree(random_checkpoint, tmp_path / "model"))
    about = json.loads((model / "llasa.json").read_text())
    (model / "llasa.json").write_text(json.dumps(about | {"speakers": ["rms", "slt"], "default_speaker": "rms"}))
    monkeypatch.setenv("LLASA_MODEL", str(model))
    monkeypatch.setattr(Checkpoint, "revision", earlier_rows()[0]["revision"])
    monkeypatch.setattr("llasa_cli.checkpoint.resolve.revision_of", lambda folder: CODEC_REVISION)
    shutil.copyfile(FIXTURE / "list.jsonl", tmp_path / "list.jsonl")
    for row in earlier_rows():
        file = tmp_path / "out" / str(row["path"])
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"sound")
    shutil.copyfile(FIXTURE / "results.jsonl", tmp_path / "out" / "results.jsonl")
    return tmp_path


def batch(folder: Path, *more: str) -> Result:
    return CliRunner().invoke(app, ["batch", str(folder / "list.jsonl"), "-o", str(folder / "out"), *more])


def test_complete_items_are_kept(folder: Path) -> None:
    made = batch(folder)
    assert made.exit_code == 0, made.output
    assert "0 items made, 3 existed already, 0 failed" in made.stderr
    assert (folder / "out" / "results.jsonl").read_bytes() == (FIXTURE / "results.jsonl").read_bytes()


def test_other_settings_make_them_again(folder: Path) -> None:
    planned = json.loads(batch(folder, "--dry-run", "--json", "--top-k", "3").stdout)["plan"]
    assert (planned["there"], planned["to_make"]) == (0, 3)


def test_a_killed_run_continues_after_its_last_complete_row(folder: Path) -> None:
    """Such a run leaves half a row, a temporary file of the results, and its plan."""
    results = folder / "out" / "results.jsonl"
    results.write_bytes(results.read_bytes()[:-40])
    (folder / "out" / "results.jsonl.part").write_text("{")
    (folder / "out" / ".llasa").mkdir()
    (folder / "out" / ".llasa" / "plan.sqlite").write_bytes(b"SQLite")
    (folder / "out" / ".llasa" / "token").write_text("0123456789abcdef")
    planned = json.loads(batch(folder, "--dry-run", "--json").stdout)["plan"]
    assert (planned["there"], planned["to_make"]) == (2, 1)
    assert not (folder / "out" / ".llasa").exists()
    assert not (folder / "out" / "results.jsonl.part").exists()


def test_the_content_of_the_hashes_has_not_changed(folder: Path) -> None:
    checkpoint = resolve_checkpoint(ModelOptions(model=str(folder / "model")))
    options = BatchOptions(source="list.jsonl", output=folder / "out")
    assert settings_digest(SpeechOptions(), options, "wav", checkpoint) == earlier_rows()[0]["settings"]
    unmarked = resolve_checkpoint(ModelOptions(model=str(folder / "model"), no_watermark=True))
    assert settings_digest(SpeechOptions(), options, "wav", unmarked) != earlier_rows()[0]["settings"]
    assert voice_digest("kore", None) == "df38128efe05"
    assert voice_digest(None, Reference("what is said", (1, 2, 3))) == "4e878400135b"
