"""Several processes, however they are started, write the rows that one process writes, each once."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from llasa_cli.errors import UsageError
from llasa_cli.prompt import PromptFormat
from llasa_cli.settings import ModelOptions
from llasa_cli.training.code_cache import CodeCache
from llasa_cli.training.dataset import find_parts
from llasa_cli.training.options import PrepareOptions
from llasa_cli.training.prepare import Progress, prepare
from llasa_cli.training.prepare_workers import ProgressMerger, Rank, find_rank, prepare_in_workers

ROWS = 40


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Rows with codes; two share an id, two are empty."""
    path = tmp_path / "t.jsonl"
    lines = [
        {"id": number, "text": f"row {number}", "codes": [number] * 30, "speaker": ("heart", "bella")[number % 2]}
        for number in range(ROWS)
    ]
    lines += [
        {"id": 3, "text": "again", "codes": [3] * 30},
        {"id": 50, "text": "", "codes": [1] * 9},
        {"id": 51, "text": " "},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def rows_in(folder: Path, *splits: str) -> list[tuple[list[int], str]]:
    """All rows of the given splits, each with its speaker."""
    return [
        (ids.tolist(), speaker)
        for split in splits or ("train", "val")
        for part in find_parts(folder, split)
        for ids, speaker in zip(part.ids, part.speakers, strict=True)
    ]


@pytest.mark.parametrize("ranks", [2, 3, 7])
def test_several_ranks_write_the_rows_of_one_process(
    table: Path, tmp_path: Path, prompt_format: PromptFormat, ranks: int
) -> None:
    one, many = tmp_path / "one", tmp_path / "many"
    expected = prepare(PrepareOptions((table,), one, validation=7), prompt_format, None, "t")
    for rank in reversed(range(ranks)):
        assert not (many / "index.json").exists()
        found = prepare(PrepareOptions((table,), many, validation=7, rank=rank, ranks=ranks), prompt_format, None, "t")
    assert sorted(rows_in(many)) == sorted(rows_in(one))
    assert len(rows_in(many, "val")) == len(rows_in(one, "val")) == 7
    assert found == json.loads((many / "index.json").read_text())
    assert found["skipped"]["reasons"] == expected["skipped"]["reasons"] == {"no text": 2, "duplicate id or audio": 1}
    assert found["speakers"] == expected["speakers"] == {"heart": 20, "bella": 20}
    assert {name: split["rows"] for name, split in found["splits"].items()} == {"train": 33, "val": 7}
    listed = [line for path in many.glob("skipped_rank*.jsonl") for line in path.read_text().splitlines()]
    assert len(listed) == 3


def test_the_number_of_ranks_may_change_between_runs(tmp_path: Path, prompt_format: PromptFormat) -> None:
    """One process uses the codes of three, and removes their parts, which would be read beside its own rows."""

    class Codec:
        identity, code_count, clips = "abc", prompt_format.code_count, 0

        def encode_batch(self, clips: Any) -> list[list[int]]:
            Codec.clips += len(clips)
            return [[round(1e3 * abs(float(clip[5]))) % 64] * (len(clip) // 320) for clip in clips]

    for number in range(12):
        soundfile.write(tmp_path / f"{number}.wav", np.random.default_rng(number).normal(0, 0.1, 16_000), 16_000)
        (tmp_path / f"{number}.txt").write_text(f"clip {number}")
    out = tmp_path / "out"
    for rank in range(3):
        prepare(PrepareOptions((tmp_path,), out, rank=rank, ranks=3), prompt_format, Codec(), "t")
    three = rows_in(out)
    assert Codec.clips == 12
    prepare(PrepareOptions((tmp_path,), out), prompt_format, Codec(), "t")
    assert Codec.clips == 12
    assert not list(out.glob("*_rank*_partial*"))
    assert sorted(rows_in(out)) == sorted(three)
    for rank in range(2):
        prepare(PrepareOptions((tmp_path,), out, rank=rank, ranks=2), prompt_format, Codec(), "t")
    assert Codec.clips == 12
    assert sorted(rows_in(out)) == sorted(three)
    assert not (out / "train_input_ids.memmap").exists()


def test_files_of_a_killed_rank_are_removed_when_one_process_takes_over(
    table: Path, tmp_path: Path, prompt_format: PromptFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llasa_cli.training import memmap_writer as memmaps

    class Killed(BaseException):
        pass

    def kill(self: memmaps.MemmapWriter, *_: object) -> None:
        raise Killed

    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        patch.setattr(memmaps.MemmapWriter, "finish", kill)
        patch.setattr(memmaps.MemmapWriter, "__exit__", kill)
        with pytest.raises(Killed):
            prepare(PrepareOptions((table,), out, rank=1, ranks=3), prompt_format, None, "t")
    assert {path.suffix for path in out.iterdir()} == {".part"}
    (out / "writing-rank00001_partial00000.json").write_text("{}")  # of version 0.1
    prepare(PrepareOptions((table,), out), prompt_format, None, "t")
    left = {path.name for path in out.iterdir()}
    assert not any("rank" in name or "writing" in name or name.endswith(".part") for name in left), left


def test_an_index_of_other_options_is_not_joined(table: Path, tmp_path: Path, prompt_format: PromptFormat) -> None:
    out = tmp_path / "out"
    prepare(PrepareOptions((table,), out, rank=0, ranks=2), prompt_format, None, "t")
    prepare(PrepareOptions((table,), out, rank=1, ranks=2, subset=0.5), prompt_format, None, "t")
    assert not (out / "index.json").exists()
    prepare(PrepareOptions((table,), out, rank=0, ranks=2, subset=0.5), prompt_format, None, "t")
    assert (out / "index.json").exists()


def test_a_rank_without_rows_is_an_error_only_if_no_rank_has_any(tmp_path: Path, prompt_format: PromptFormat) -> None:
    (tmp_path / "t.jsonl").write_text('{"text": "one", "codes": [1, 2, 3, 4, 5, 6]}\n{"text": "", "codes": [1]}\n')
    out = tmp_path / "out"
    for rank in range(4):
        prepare(PrepareOptions((tmp_path / "t.jsonl",), out, rank=rank, ranks=4), prompt_format, None, "t")
    assert len(rows_in(out, "train")) == 1
    (tmp_path / "t.jsonl").write_text('{"text": "", "codes": [1]}\n')
    prepare(PrepareOptions((tmp_path / "t.jsonl",), out, rank=1, ranks=2), prompt_format, None, "t")
    with pytest.raises(UsageError, match="No row could be used: no text"):
        prepare(PrepareOptions((tmp_path / "t.jsonl",), out, rank=0, ranks=2), prompt_format, None, "t")


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, Rank()),
        ({"RANK": "3", "WORLD_SIZE": "8", "LOCAL_RANK": "1"}, Rank(3, 8, 1)),
        ({"SLURM_PROCID": "2", "SLURM_NTASKS": "4", "SLURM_LOCALID": "2"}, Rank(2, 4, 2)),
        ({"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, Rank(0, 4, 0)),
        # A step of two tasks in a job of eight.
        ({"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "1", "SLURM_PROCID": "1", "SLURM_STEP_NUM_TASKS": "2", "SLURM_NTASKS": "8"}, Rank(1, 2, 0)),
        # The batch script itself, before srun: one process, which has to do everything.
        ({"SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_NTASKS": "8"}, Rank()),
        # torchrun inside a Slurm task.
        ({"RANK": "1", "WORLD_SIZE": "2", "SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_PROCID": "0", "SLURM_NTASKS": "1"}, Rank(1, 2, 0)),
        ({"RANK": "", "WORLD_SIZE": "x"}, Rank()),
    ],
)  # fmt: skip
def test_the_rank_comes_from_torchrun_or_slurm(environment: dict[str, str], expected: Rank) -> None:
    assert find_rank(environment) == expected


def test_flags_override_the_environment() -> None:
    assert find_rank({"RANK": "3", "WORLD_SIZE": "8"}, 1, 2) == Rank(1, 2, 0)
    with pytest.raises(UsageError, match="belong together"):
        find_rank({}, 1, None)
    with pytest.raises(UsageError, match="--rank 2 is out of range"):
        prepare(PrepareOptions(("x",), Path("y"), rank=2, ranks=2), None, None, "t")  # type: ignore[arg-type]


def test_progress_of_several_is_that_of_the_slowest_stage() -> None:
    merge = ProgressMerger()
    assert merge(Progress("checking", 10, rank=0)).rows == 10
    assert merge(Progress("checking", 30, rank=1)).rows == 30
    assert merge(Progress("encoding", 1, 5, 2.0, 10.0, rank=0)).stage == "checking"
    assert merge(Progress("encoding", 2, 7, 3.0, 20.0, rank=1)) == Progress("encoding", 3, 12, 5.0, 30.0)
    assert merge(Progress("writing", 1, 5, rank=0)).stage == "encoding"
    assert merge(Progress("writing", 7, 7, rank=1)) == Progress("writing", 8, 12)


def test_workers_write_one_data_set_and_report_progress(table: Path, tmp_path: Path, tokenizer_folder: Path) -> None:
    reports: list[Progress] = []
    options = PrepareOptions((str(table),), tmp_path / "out", validation=4)
    index = prepare_in_workers(options, ModelOptions(str(tokenizer_folder), device="cpu"), 2, reports.append)
    assert index == json.loads((tmp_path / "out" / "index.json").read_text())
    assert {name: split["rows"] for name, split in index["splits"].items()} == {"train": 36, "val": 4}
    assert len(rows_in(tmp_path / "out")) == ROWS
    assert reports[-1] == Progress("writing", ROWS, ROWS)


def test_the_error_of_a_worker_is_the_error_of_the_command(tmp_path: Path, tokenizer_folder: Path) -> None:
    options = PrepareOptions((str(tmp_path / "absent.csv"),), tmp_path / "out")
    with pytest.raises(UsageError, match=r"absent.csv does not exist"):
        prepare_in_workers(options, ModelOptions(str(tokenizer_folder)), 1)


@pytest.mark.slow
def test_a_killed_worker_is_an_error_without_traceback(tmp_path: Path, random_checkpoint: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for number in range(200):
        soundfile.write(
            data / f"{number}.wav", np.random.default_rng(number).normal(0, 0.1, 16_000 + 320 * number), 16_000
        )
        (data / f"{number}.txt").write_text(f"clip {number}")
    out = tmp_path / "out"
    command = [sys.executable, "-m", "llasa_cli", "prepare", str(data), "-m", str(random_checkpoint), "-o", str(out)]
    process = subprocess.Popen([*command, "--workers", "2"], stderr=subprocess.PIPE, text=True)
    while not any(path.stat().st_size for path in out.glob("codes-*.bin")):
        time.sleep(0.01)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    worker = next(int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes())
    os.kill(worker, signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "ended with SIGKILL" in errors
    assert "Run the same command again" in errors
    assert "Traceback" not in errors
    assert not (out / "index.json").exists()


@pytest.mark.slow
def test_torchrun_and_the_command_with_ranks_agree(table: Path, tmp_path: Path, random_checkpoint: Path) -> None:
    command = ["-m", "llasa_cli", "prepare", str(table), "-m", str(random_checkpoint), "-q", "-o"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--master_port=0", "--standalone"]
    subprocess.run([*torchrun, *command, str(tmp_path / "torchrun")], check=True, env=environment)
    for rank in "01":
        share = ["--rank", rank, "--ranks", "2"]
        subprocess.run([sys.executable, *command, str(tmp_path / "flags"), *share], check=True, env=environment)
    for path in (tmp_path / "flags").glob("*.memmap"):
        assert path.read_bytes() == (tmp_path / "torchrun" / path.name).read_bytes()
    assert (tmp_path / "torchrun" / "index.json").read_text() == (tmp_path / "flags" / "index.json").read_text()


def test_files_of_a_worker_that_has_just_ended_are_not_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker removes its empty files when it ends, perhaps between another's list of files and its opening them."""
    for number in (2, 3):
        (tmp_path / f"codes-none-rank{number:05d}.bin").touch()
    opened = Path.open

    def open_late(path: Path, *arguments: Any, **options: Any) -> Any:
        if path.name == "codes-none-rank00002.bin":
            path.unlink()
        return opened(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", open_late)
    with closing(sqlite3.connect("")) as scratch, CodeCache(tmp_path, "none", scratch, rank=1) as cache:
        cache.add([("clip", [1, 2, 3])])
        assert cache["clip"].tolist() == [1, 2, 3]
