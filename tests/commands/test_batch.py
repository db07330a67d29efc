"""A list goes through: names, resume, one bad item, results."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import soundfile
from typer.testing import CliRunner, Result

from llasa_cli.app import app
from llasa_cli.hub.cache import revision_of

SHORT = ["--max-seconds", "0.2", "--retries", "0", "--device", "cpu"]


@pytest.fixture(autouse=True)
def model(random_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLASA_MODEL", str(random_checkpoint))


def batch(folder: Path, *more: str, name: str = "lines.txt") -> Result:
    return CliRunner().invoke(app, ["batch", str(folder / name), "-o", str(folder / "out"), *SHORT, *more])


def rows(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "out" / "results.jsonl").read_text().splitlines()]


def test_lines_become_numbered_files_and_rows(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("one of them\n\nand two\n")
    made = batch(tmp_path, "--seed", "4")
    assert made.exit_code == 0, made.output
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["00001.wav", "00003.wav", "results.jsonl"]
    assert [(r["id"], r["status"], r["seed"]) for r in rows(tmp_path)] == [("00001", "ok", 4), ("00003", "ok", 4)]
    assert made.stdout.split() == [str(tmp_path / "out" / f"{n}.wav") for n in ("00001", "00003")]
    assert soundfile.info(tmp_path / "out" / "00001.wav").duration == rows(tmp_path)[0]["seconds"]


def test_what_is_done_is_left_and_what_changed_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("a|one\nb|two\n")
    batch(tmp_path)
    times = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "out").glob("*.wav")}
    (tmp_path / "lines.txt").write_text("a|one\nb|two, but other\nc|three\n")
    made = batch(tmp_path)
    assert "2 items made, 1 were there" in made.stderr
    assert (tmp_path / "out" / "a.wav").stat().st_mtime_ns == times["a.wav"]
    assert (tmp_path / "out" / "b.wav").stat().st_mtime_ns != times["b.wav"]
    (tmp_path / "out" / "c.wav").unlink()
    assert "1 items made, 2 were there" in batch(tmp_path).stderr
    assert "3 items made, 0 were there" in batch(tmp_path, "--top-k", "3").stderr


def test_a_cut_row_of_a_killed_run_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("a|one\n")
    batch(tmp_path)
    with (tmp_path / "out" / "results.jsonl").open("ab") as file:
        file.write('{"id": "b", "text": "日'.encode()[:-1])
    (tmp_path / "lines.txt").write_text("a|one\nc|three\n")
    assert "1 items made, 1 were there" in batch(tmp_path).stderr
    assert "0 items made, 2 were there" in batch(tmp_path).stderr


def test_lines_that_say_the_same_are_all_remembered(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("Yes.\nYes.\nYes.\n")
    batch(tmp_path)
    assert "0 items made, 3 were there" in batch(tmp_path).stderr


def test_other_weights_of_the_same_name_speak_anew(
    tmp_path: Path, random_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "mine"
    shutil.copytree(random_checkpoint, model)
    monkeypatch.setenv("LLASA_MODEL", str(model))
    (tmp_path / "lines.txt").write_text("a|one\n")
    batch(tmp_path)
    (row,) = rows(tmp_path)
    assert row["revision"] == revision_of(model)
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    assert "1 items made, 0 were there" in batch(tmp_path).stderr


@pytest.mark.parametrize(
    ("more", "code"), [(["-m", "1b"], 3), (["--device", "cuda:77"], 2), (["--voice", "nobody"], 2)]
)
def test_what_fails_for_all_items_fails_at_once(tmp_path: Path, more: list[str], code: int) -> None:
    (tmp_path / "lines.txt").write_text("a|one\nb|two\n")
    made = batch(tmp_path, *more)
    assert made.exit_code == code, made.output
    assert made.stderr.count("error:") == 1
    assert rows(tmp_path) == [] if (tmp_path / "out" / "results.jsonl").exists() else True


def test_one_bad_item_does_not_stop_the_rest(tmp_path: Path) -> None:
    items = [{"id": "a", "text": "one"}, {"id": "b", "text": ""}, {"id": "c", "text": "x", "voice": "nobody"}]
    items += [
        {"id": "d", "text": "y", "ref": "absent.wav", "ref_text": "z"},
        {"id": "e", "text": "two", "voice": "slt"},
    ]
    (tmp_path / "list.jsonl").write_text("\n".join(json.dumps(item) for item in items))
    made = batch(tmp_path, "--json", name="list.jsonl")
    assert made.exit_code == 5
    assert [row["status"] for row in rows(tmp_path)] == ["ok", "error", "error", "error", "ok"]
    assert [row["error"] and row["error"].split(" ")[0:2] for row in rows(tmp_path)][1:4] == [
        ["The", "text"],
        ["There", "is"],
        ["There", "is"],
    ]
    assert sorted(p.name for p in (tmp_path / "out").glob("*.wav")) == ["a.wav", "e.wav"]
    told = [json.loads(line) for line in made.stdout.splitlines()]
    assert sorted(row["id"] for row in told[:-1]) == ["a", "b", "c", "d", "e"]
    assert told[-1]["summary"]["made"] == 2
    assert "3 of 5 items failed" in made.stderr
