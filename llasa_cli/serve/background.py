"""Servers that run without a terminal: `llasa serve --background` and `llasa serve --stop`.

    with registered(port, url): serve()             every server, so that it can be found by its port
    address = start(arguments, port)                starts a process and waits until it answers
    stop(port, patience_s=25)

A folder of the user's state holds `serve-PORT.json` (process, address), `serve-PORT.lock`, which the server holds while it runs,
and `serve-PORT.log`, the output of a server in the background.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from llasa_cli.errors import LlasaError, UsageError
from llasa_cli.files import take_lock, write_json

_POLL_S = 0.05
LAST_LINES = 20


class StartFailed(LlasaError):
    """The server's process ended before the server answered. The exit code is that of the process."""

    def __init__(self, log: Path, exit_code: int) -> None:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        super().__init__("The server did not start.", "\n".join(lines[-LAST_LINES:]) or f"See {log}.")
        self.exit_code = exit_code


@contextmanager
def registered(port: int, url: str) -> Iterator[None]:
    """Register this process as the server of a port until the block ends.

    Raises:
        LlasaError: Another server is registered for this port.
    """
    folder = state_folder()
    folder.mkdir(parents=True, exist_ok=True)
    release = take_lock(_path(port, "lock"), _running_already(port))
    try:
        write_json(_path(port, "json"), {"process": os.getpid(), "url": url})
        yield
    finally:
        _path(port, "json").unlink(missing_ok=True)
        release()


def start(arguments: Sequence[str], port: int) -> str:
    """Start `llasa serve` with these arguments in a session of its own.

    Returns:
        The address at which it answers.

    Raises:
        StartFailed: The process ended before the server answered.
        LlasaError: A server is already running on this port.
    """
    folder = state_folder()
    folder.mkdir(parents=True, exist_ok=True)
    if is_running(port):
        raise _running_already(port)
    _path(port, "json").unlink(missing_ok=True)  # left by a server that was killed
    log = _path(port, "log")
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "llasa_cli", "serve", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        while (url := _url(port)) is None:
            if process.poll() is not None:
                raise StartFailed(log, max(1, process.returncode))
            time.sleep(_POLL_S)
    except BaseException:
        with suppress(OSError):
            process.terminate()
        raise
    return url


def stop(port: int, patience_s: float) -> None:
    """Stop the server of this port; its requests may finish first.

    Raises:
        UsageError: There is no such server.
        LlasaError: It has not stopped in time.
    """
    if not is_running(port):
        raise UsageError(f"No server is running on port {port}.", "Name the port of the server with --port.")
    try:
        process = int(json.loads(_path(port, "json").read_text(encoding="utf-8"))["process"])
        os.kill(process, signal.SIGTERM)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise LlasaError(f"The server on port {port} can't be stopped: {error}.", "Kill its process.") from error
    give_up = time.monotonic() + patience_s
    while is_running(port):
        if time.monotonic() > give_up:
            raise LlasaError(f"The server (process {process}) has not stopped.", f"Stop it with: kill -9 {process}")
        time.sleep(_POLL_S)


def is_running(port: int) -> bool:
    """Whether a server holds the lock of this port."""
    path = _path(port, "lock")
    if not path.exists():
        return False
    try:
        take_lock(path, _running_already(port))()
    except LlasaError:
        return True
    return False


def state_folder() -> Path:
    """The folder in which servers are registered; LLASA_STATE names another one."""
    named = os.environ.get("LLASA_STATE")
    if named:
        return Path(named).expanduser()
    from platformdirs import user_state_dir

    return Path(user_state_dir("llasa", appauthor=False))


def _path(port: int, ending: str) -> Path:
    return state_folder() / f"serve-{port}.{ending}"


def _url(port: int) -> str | None:
    try:
        return str(json.loads(_path(port, "json").read_text(encoding="utf-8"))["url"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _running_already(port: int) -> LlasaError:
    return LlasaError(f"A server is already running on port {port}.", f"Stop it with: llasa serve --stop --port {port}")
