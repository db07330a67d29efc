"""Rows are whole, one run writes them, and whoever was killed is no obstacle."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from llasa_cli.batch.results import RESULTS, Results
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


def test_rows_come_back_and_can_be_put_in_order(tmp_path: Path) -> None:
    with Results(tmp_path) as results:
        places = [results.append({"id": name, "text": "ü\u2028"}) for name in ("b", "a", "b")]
        results.put_in_order([(places[1], 1), (places[2], 2)])
        results.append({"id": "c"})
        results.sync()
    assert [json.loads(line)["id"] for line in (tmp_path / RESULTS).read_text().split("\n")[:-1]] == ["a", "b", "c"]
    assert os.listdir(tmp_path) == [RESULTS]


def test_rows_tell_where_their_item_stands_in_the_list_now(tmp_path: Path) -> None:
    with Results(tmp_path) as results:
        rows = [{"id": f'"line": {n}', "line": n, "text": '"line": 7'} for n in (1, 2, 3)]
        places = [results.append(row) for row in rows]
        results.put_in_order([(places[2], 1), (places[0], 12), (places[1], None)])
        found = [row for _, row in results.rows()]
    assert found == [rows[2] | {"line": 1}, rows[0] | {"line": 12}, rows[1] | {"line": None}]


def test_half_a_row_of_a_killed_run_is_taken_off(tmp_path: Path) -> None:
    (tmp_path / RESULTS).write_bytes(b'{"id": "a"}\n{"id": "b", "te')
    with Results(tmp_path) as results:
        results.append({"id": "c"})
        assert [row["id"] for _, row in results.rows()] == ["a", "c"]
    (tmp_path / RESULTS).write_bytes(b'{"id": "b", "te' * 200_000)
    with Results(tmp_path) as results:
        assert list(results.rows()) == []


def test_a_second_run_is_told_and_does_no_harm(tmp_path: Path) -> None:
    process = holder(tmp_path)
    try:
        with pytest.raises(UsageError, match="Another llasa batch is at work"):
            Results(tmp_path)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    with Results(tmp_path) as results:  # a killed run holds nothing
        assert [row["id"] for _, row in results.rows()] == ["theirs"]


def test_the_lock_goes_with_the_file_when_rows_are_put_in_order(tmp_path: Path) -> None:
    with Results(tmp_path) as results:
        results.put_in_order([(results.append({"id": "a"}), 1)])
        with pytest.raises(UsageError, match="Another"):
            Results(tmp_path)
    Results(tmp_path).close()


def test_without_locks_of_the_system_a_file_names_who_is_at_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", none)
    with Results(tmp_path), pytest.raises(UsageError, match="Another") as refused:
        Results(tmp_path)
    assert f"{RESULTS}.lock" in refused.value.hint
    assert os.listdir(tmp_path) == []
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    host = os.uname().nodename
    (tmp_path / f"{RESULTS}.lock").write_text(f"{host} {gone.stdout.decode().strip()}")
    Results(tmp_path).close()
    (tmp_path / f"{RESULTS}.lock").write_text("anothermachine 1")
    with pytest.raises(UsageError):
        Results(tmp_path)


def test_a_full_disk_leaves_whole_rows_only(tmp_path: Path) -> None:
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


def test_a_folder_that_takes_nothing_is_told(tmp_path: Path) -> None:
    (tmp_path / RESULTS).mkdir()
    with pytest.raises(LlasaError, match="can't be written"):
        Results(tmp_path)


def test_two_that_begin_at_once_are_never_both_in(tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom llasa_cli.batch.results import Results\n"
        "from llasa_cli.errors import UsageError\nuntil = time.time() + 1.0\n"
        "while time.time() < until:\n"
        "    try:\n        with Results(Path(sys.argv[1])) as results:\n"
        "            place = results.append({'id': sys.argv[2]}); rows = list(results.rows())\n"
        "            results.put_in_order([(at, 1) for at, _ in rows])\n"
        "            assert list(results.rows())[-1][1] == {'id': sys.argv[2]}\n"
        "            count = len(rows)\n"
        "            assert len(list(results.rows())) == count\n"
        "    except UsageError: pass\n"
    )
    both = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path), name]) for name in ("a", "b")]
    assert [process.wait() for process in both] == [0, 0]
