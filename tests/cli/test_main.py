"""How the process ends."""

from __future__ import annotations

import atexit
import ctypes
import os
import subprocess
import sys

import pytest

from llasa_cli.__main__ import main

SHUTDOWN_MESSAGE = """
import ctypes, sys
# glibc's malloc_stats prints to standard error, as a C++ library's leak report does: after Python has shut down.
report = ctypes.cast(ctypes.CDLL(None).malloc_stats, ctypes.c_void_p)
ctypes.pythonapi.Py_AtExit(report)
sys.argv = ["llasa", *sys.argv[1:]]
from llasa_cli.__main__ import main
main()
"""


def run(*arguments: str, debug: bool = False) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"LLASA_DEBUG": "1" if debug else "0"}
    command = [sys.executable, "-c", SHUTDOWN_MESSAGE, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_stats"), reason="needs glibc")
def test_messages_of_a_librarys_shutdown_do_not_reach_the_user() -> None:
    assert "Arena" in run("--version", debug=True).stderr, "the message is there to be hidden"
    version = run("--version")
    assert (version.returncode, version.stderr) == (0, "")
    assert version.stdout.startswith("llasa ")


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_stats"), reason="needs glibc")
def test_errors_before_the_shutdown_are_shown_with_their_exit_code() -> None:
    failed = run("prepare", "absent", "--dry-run")
    assert failed.returncode == 2
    assert "absent does not exist." in failed.stderr
    assert "Arena" not in failed.stderr


@pytest.mark.parametrize(
    ("chosen", "spins"), [({}, "3000"), ({"GOMP_SPINCOUNT": "7"}, "7"), ({"OMP_WAIT_POLICY": "active"}, None)]
)
def test_threads_wait_briefly_or_as_the_user_chose(
    monkeypatch: pytest.MonkeyPatch, chosen: dict[str, str], spins: str | None
) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("GOMP_", "OMP_"))}
    monkeypatch.setattr(os, "environ", kept | chosen)
    monkeypatch.setattr(sys, "argv", ["llasa", "--version"])
    monkeypatch.setattr(atexit, "register", lambda function: function)
    with pytest.raises(SystemExit):
        main()
    assert os.environ.get("GOMP_SPINCOUNT") == spins
