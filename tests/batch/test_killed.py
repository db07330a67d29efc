"""Runs and workers that are killed at any time: the folder is the same in the end."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

ITEMS = 40
pytestmark = pytest.mark.slow


@pytest.fixture
def command(tmp_path: Path, random_checkpoint: Path) -> list[str]:
    """The command without its output folder."""
    (tmp_path / "lines.txt").write_text("".join(f"line-{n}|number {n} of the lines\n" for n in range(ITEMS)))
    fixed = [
        "--device",
        "cpu",
        "--max-seconds",
        "1.5",
        "--retries",
        "1",
        "--accept-failed",
        "-m",
        str(random_checkpoint),
    ]
    return [sys.executable, "-m", "llasa_cli", "batch", str(tmp_path / "lines.txt"), *fixed]


def run(command: list[str], output: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*command, "-o", str(output), *more], capture_output=True, text=True, check=True)


def begin(command: list[str], output: Path, *more: str) -> subprocess.Popen[str]:
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([*command, "-o", str(output), *more], **quiet)


def state(folder: Path) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """Digests of all files, and the rows without their times."""
    files = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir() if p.suffix == ".wav"}
    assert {p.name for p in folder.iterdir()} == {*files, "results.jsonl"}
    rows = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    return files, [{name: value for name, value in row.items() if name != "wall_s"} for row in rows]


def count(folder: Path) -> int:
    path = folder / "results.jsonl"
    return path.read_bytes().count(b"\n") if path.is_file() else 0


def test_killed_and_resumed_runs_give_the_files_of_an_uninterrupted_one(tmp_path: Path, command: list[str]) -> None:
    run(command, tmp_path / "uninterrupted")
    draw = random.Random(4)
    for _ in range(6):
        process = begin(command, tmp_path / "killed")
        seen, until = count(tmp_path / "killed"), time.monotonic() + draw.uniform(0.5, 6.0)
        while time.monotonic() < until and count(tmp_path / "killed") < seen + draw.randint(3, 9):
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.communicate()
    run(command, tmp_path / "killed")
    assert state(tmp_path / "killed") == state(tmp_path / "uninterrupted")


def test_killed_workers_are_replaced_and_no_item_is_lost(tmp_path: Path, command: list[str]) -> None:
    run(command, tmp_path / "uninterrupted")
    process = begin(command, tmp_path / "shared", "--workers", "2", "--batch-size", "64")
    killed = 0
    while process.poll() is None and killed < 2:
        workers = children(process.pid)
        if count(tmp_path / "shared") > 5 * killed and workers:
            os.kill(workers[0], signal.SIGKILL)
            killed += 1
        time.sleep(0.05)
    _, stderr = process.communicate()
    assert process.returncode == 0, stderr
    assert stderr.count("a worker has died (SIGKILL)") == killed
    assert state(tmp_path / "shared") == state(tmp_path / "uninterrupted")


def children(parent: int) -> list[int]:
    """The worker processes of a run."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            own = int((path / "stat").read_text().rpartition(")")[2].split()[1]) == parent
            if own and b"spawn_main" in (path / "cmdline").read_bytes():
                found.append(int(path.name))
        except (OSError, IndexError):
            continue
    return sorted(found)


def test_workers_exit_when_the_run_is_killed(tmp_path: Path, command: list[str]) -> None:
    process = begin(command, tmp_path / "out", "--workers", "2")
    while len(children(process.pid)) < 2:
        time.sleep(0.05)
    workers = children(process.pid)
    process.kill()
    process.communicate()
    until = time.monotonic() + 60
    while any(Path(f"/proc/{number}").exists() for number in workers):
        assert time.monotonic() < until
        time.sleep(0.1)


def test_a_ray_cluster_that_loses_workers_and_a_node_loses_no_item(tmp_path: Path, command: list[str]) -> None:
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    run(command, tmp_path / "uninterrupted", "--batch-size", "2")
    # Ray's own niceness of 15 lets a busy machine starve its workers.
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled", "RAY_worker_niceness": "0"}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        nodes = [cluster.add_node(num_cpus=1) for _ in range(3)]
        cluster.wait_for_nodes()
        ray = ["--ray", cluster.address, "--workers", "2", "--batch-size", "2"]
        process = begin(command, tmp_path / "shared", *ray)
        while count(tmp_path / "shared") < 5 and process.poll() is None:
            time.sleep(0.05)
        os.kill(actors()[0], signal.SIGKILL)
        while count(tmp_path / "shared") < 12 and process.poll() is None:
            time.sleep(0.05)
        cluster.remove_node(nodes[0], allow_graceful=False)
        _, stderr = process.communicate()
    finally:
        cluster.shutdown()
    assert process.returncode == 0, stderr
    assert "a worker has died" in stderr
    assert state(tmp_path / "shared") == state(tmp_path / "uninterrupted")


def actors() -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().startswith(b"ray::Speaker"):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found
