"""The command line of `llasa prepare`: every flag arrives, the summary, and what is refused before any work."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from llasa_cli.cli.app import app
from llasa_cli.settings import ModelOptions
from llasa_cli.training import prepare_workers as ranks
from llasa_cli.training.options import PrepareOptions

INDEX = {
    "splits": {"train": {"rows": 1, "hours": 0.0, "codes": 1, "tokens": 1}},
    "seconds": {},
    "speakers": {},
    "skipped": {"reasons": {}, "rows": []},
    "ranks": 1,
}


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """The arguments that the engine was called with."""
    calls: list[tuple[Any, ...]] = []

    def listen(*arguments: Any) -> dict[str, Any]:
        calls.append(arguments)
        return INDEX

    monkeypatch.setattr(ranks, "prepare_with", listen)
    monkeypatch.setattr(ranks, "prepare_in_workers", listen)
    return calls


def test_every_flag_arrives(heard: list[tuple[Any, ...]], tmp_path: Path) -> None:
    flags: dict[str, Any] = {
        "output": tmp_path,
        "speaker": "kore",
        "validation": 7.0,
        "seed": 3,
        "text_column": "sentence",
        "audio_column": "clip",
        "speaker_column": "who",
        "codes": tmp_path / "codes",
        "subset": 0.25,
        "sample": 11,
        "max_tokens": 512,
        "batch_seconds": 99.0,
        "rank": 2,
        "ranks": 5,
    }
    typed = [part for name, value in flags.items() for part in (f"--{name.replace('_', '-')}", str(value))]
    typed += ["--split", "train", "--split", "dev", "--model", "somewhere", "--codec", "else", "--device", "cpu"]
    made = CliRunner().invoke(app, ["prepare", "one.csv", "hf:org/name", *typed])
    assert made.exit_code == 0, made.output
    options, names = heard[0][:2]
    assert options == PrepareOptions(sources=("one.csv", "hf:org/name"), splits=("train", "dev"), **flags)
    assert names == ModelOptions("somewhere", "else", "cpu")
    default = PrepareOptions(sources=(), output=Path())
    assert all(getattr(default, name) != value for name, value in flags.items()), "a default proves nothing"
    assert {part.name for part in fields(PrepareOptions)} == {*flags, "sources", "splits", "dry_run"}, (
        "a new option needs a flag"
    )


def test_workers_and_a_dry_run_arrive(heard: list[tuple[Any, ...]], tmp_path: Path) -> None:
    assert CliRunner().invoke(app, ["prepare", "x", "-o", str(tmp_path), "--workers", "3"]).exit_code == 0
    assert heard[0][2] == 3
    assert CliRunner().invoke(app, ["prepare", "x", "--dry-run"]).exit_code == 0
    assert heard[1][0].dry_run


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x"], "error: Missing option -o/--output."),
        (["absent", "-o", "out"], "error: absent does not exist."),
        (["absent.csv", "--dry-run"], "error: absent.csv does not exist."),
        (["t.jsonl", "-o", "out", "--rank", "1"], "error: --rank and --ranks belong together."),
        (["t.jsonl", "-o", "out", "--rank", "2", "--ranks", "2"], "error: --rank 2 is out of range."),
        (["t.jsonl", "-o", "out", "--subset", "0"], "error: --subset 0.0 is out of range."),
        (["t.jsonl", "-o", "out", "--subset", "nan"], "error: --subset must be a finite number, not nan."),
        (["t.jsonl", "-o", "out", "--max-tokens", "3"], "error: --max-tokens 3 is out of range."),
        (["t.jsonl", "-o", "t.jsonl"], "error: t.jsonl is a file, not a folder."),
    ],
)
def test_wrong_arguments_are_a_usage_error(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "t.jsonl").write_text('{"text": "hello", "codes": [1, 2, 3, 4, 5, 6, 7]}\n')
    made = CliRunner().invoke(app, ["prepare", *arguments])
    assert made.exit_code == 2
    assert made.stderr.startswith(message), made.stderr
    assert not (tmp_path / "out" / "index.json").exists()


def test_the_summary_has_hours_lengths_and_problems(tmp_path: Path, tokenizer_folder: Path) -> None:
    lines = [{"text": f"row {number}", "codes": [number] * (50 + 10 * number)} for number in range(10)]
    lines += [{"text": "", "codes": [1]}, {"text": "hi", "codes": [9999]}]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    command = ["prepare", str(tmp_path / "t.jsonl"), "-m", str(tokenizer_folder)]
    dry = CliRunner().invoke(app, [*command, "--dry-run"])
    real = CliRunner().invoke(app, [*command, "-o", str(tmp_path / "out")])
    assert (dry.exit_code, real.exit_code) == (0, 0)
    for made in (dry, real):
        assert re.search(r"train: 9 rows, 1[678] s; val: 1 rows, [123] s", made.stderr)
        assert "clips of 1.0 to 2.8 s, half of them under 1.8 s" in made.stderr
        assert f"skipped: 1 (no text), the first is {tmp_path / 't.jsonl'}:11" in made.stderr
        assert "skipped: 1 (codes outside the model's range of 0 to 63)" in made.stderr
    assert dry.stdout == ""
    as_json = CliRunner().invoke(app, [*command, "-o", str(tmp_path / "out"), "--json"])
    index = json.loads(as_json.stdout)
    assert index["splits"]["train"]["rows"] == 9
    assert index["skipped"] == {"no text": 1, "codes outside the model's range of 0 to 63": 1}
    table = np.fromfile(tmp_path / "out" / "train_input_ids.memmap", np.int32)
    assert table.shape == (9 * 2048,)
