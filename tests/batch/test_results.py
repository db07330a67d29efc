"""Rows are complete, one run at a time writes them, and a killed run leaves nothing that blocks the next."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from llasa_cli.batch.results import LOCK, RESULTS, Results
from llasa_cli.errors import LlasaError, UsageError

HOLD = (
    "import sys, time\nfrom pathlib import Path\nfrom llasa_cli.batch.results import Results\n"
    "results = Results(Path(sys.argv[1]))\nresults.append({'id': 'theirs'})\nprint('held', flush=True)\ntime.sleep(60)\n"
)


def holder(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_rows_can_be_read_and_reordered(tmp_path: Path) -> None:
    with Results(tmp_path) as results:
        places = [results.append({"id": name, "text": "ü\u2028"}) for name in ("b", "a", "b")]
        results.reorder([(places[1], 1), (places[2], 2)])
        results.append({"id": "c"})
        results.sync()
    assert [json.loads(line)["id"] for line in (tmp_path / RESULTS).read_text().split("\n")[:-1]] == ["a", "b", "c"]
    assert os.listdir(tmp_path) == [RESULTS]


def test_reordered_rows_have_the_current_lines_of_their_items(tmp_path: Path) -> None:
    with Results(tmp_path) as results:
        rows = [{"id": f'"line": {n}', "line": n, "text": '"line": 7'} for n in (1, 2, 3)]
        places = [results.append(row) for row in rows]
        results.reorder([(places[2], 1), (places[0], 12), (places[1], None)])
        found = [row for _, row in results.rows()]
    assert found == [rows[2] | {"line": 1}, rows[0] | {"line": 12}, rows[1] | {"line": None}]


def test_an_incomplete_row_of_a_killed_run_is_removed(tmp_path: Path) -> None:
    (tmp_path / RESULTS).write_bytes(b'{"id": "a"}\n{"id": "b", "te')
    with Results(tmp_path) as results:
        results.append({"id": "c"})
        assert [row["id"] for _, row in results.rows()] == ["a", "c"]
    (tmp_path / RESULTS).write_bytes(b'{"id": "b", "te' * 200_000)
    with Results(tmp_path) as results:
        assert list(results.rows()) == []


def test_a_second_run_is_refused_and_a_killed_one_holds_no_lock(tmp_path: Path) -> None:
    process = holder(tmp_path)
    try:
        with pytest.raises(UsageError, match="Another llasa batch is writing"):
            Results(tmp_path)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    with Results(tmp_path) as results:
        assert [row["id"] for _, row in results.rows()] == ["theirs"]


def test_the_lock_is_held_after_the_rows_are_reordered(tmp_path: Path) -> None:
    with Results(tmp_path) as results:
        results.reorder([(results.append({"id": "a"}), 1)])
        with pytest.raises(UsageError, match="Another"):
            Results(tmp_path)
    Results(tmp_path).close()


def test_without_locks_of_the_file_system_a_file_names_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    with Results(tmp_path), pytest.raises(UsageError, match="Another") as refused:
        Results(tmp_path)
    assert LOCK in refused.value.hint
    assert os.listdir(tmp_path) == []
    killed = f"import filelock, os; lock = filelock.SoftFileLock({str(tmp_path / LOCK)!r}); lock.acquire(); os._exit(9)"
    subprocess.run([sys.executable, "-c", killed], check=False)
    assert os.listdir(tmp_path) == [LOCK]
    Results(tmp_path).close()
    (tmp_path / LOCK).write_text("1\nanothermachine\n")
    with pytest.raises(UsageError):
        Results(tmp_path)


def test_a_full_disk_leaves_complete_rows_only(tmp_path: Path) -> None:
    code = (
        "import resource, sys\nfrom pathlib import Path\nfrom llasa_cli.batch.results import Results\n"
        "from llasa_cli.errors import LlasaError\nresource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "results = Results(Path(sys.argv[1]))\n"
        "try:\n    while True: results.append({'id': 'x' * 90})\n"
        "except LlasaError as error: print(error.message)\n"
    )
    made = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert "can't be written: File too large" in made.stdout
    data = (tmp_path / RESULTS).read_bytes()
    assert data.endswith(b"}\n")
    assert data.count(b"\n") == 9


def test_a_folder_that_can_not_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / RESULTS).mkdir()
    with pytest.raises(LlasaError, match="can't be written"):
        Results(tmp_path)


def test_two_runs_that_begin_at_the_same_time_never_both_have_the_folder(tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom llasa_cli.batch.results import Results\n"
        "from llasa_cli.errors import UsageError\nuntil = time.time() + 1.0\n"
        "while time.time() < until:\n"
        "    try:\n        with Results(Path(sys.argv[1])) as results:\n"
        "            place = results.append({'id': sys.argv[2]}); rows = list(results.rows())\n"
        "            results.reorder([(at, 1) for at, _ in rows])\n"
        "            assert list(results.rows())[-1][1] == {'id': sys.argv[2]}\n"
        "            count = len(rows)\n"
        "            assert len(list(results.rows())) == count\n"
        "    except UsageError: pass\n"
    )
    both = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), name]) for name in ("a", "b")]
    assert [process.wait() for process in both] == [0, 0]
