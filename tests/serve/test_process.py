"""`llasa serve` as a process: in the background, stopped, and ended under load."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from llasa_cli.cli.app import app

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

ROOT = Path(__file__).parents[2]
SPEECH = {"input": "Hello there. " * 40, "response_format": "pcm", "max_seconds": 0.4}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def llasa(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """The command in this process. The server that it starts is a process of its own."""
    monkeypatch.setenv("LLASA_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))

    def run(*arguments: str) -> Result:
        monkeypatch.setattr(sys, "argv", ["llasa", *arguments])
        return CliRunner().invoke(app, arguments)

    return run


def ask(port: int, body: dict[str, object]) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("POST", "/v1/audio/speech", json.dumps(body), {"Content-Type": "application/json"})
    return connection.getresponse()


def wait_until_it_speaks(server: subprocess.Popen[bytes], port: int) -> None:
    while True:
        try:
            ask(port, {"input": "Hi.", "max_seconds": 0.4}).read()
            break
        except OSError:
            assert server.poll() is None
            time.sleep(0.2)


def test_a_server_in_the_background_speaks_until_it_is_stopped(
    llasa: Callable[..., Result], random_checkpoint: Path, tmp_path: Path
) -> None:
    port = str(free_port())
    started = llasa("serve", "--background", "-m", str(random_checkpoint), "--port", port)
    assert started.exit_code == 0, started.stderr
    address = started.stdout.strip()
    assert address == f"http://127.0.0.1:{port}/"
    try:
        said = ask(int(port), {"input": "Hi.", "max_seconds": 0.4})
        assert said.status == 200
        assert said.read()
        again = llasa("serve", "--background", "-m", str(random_checkpoint), "--port", port)
        assert again.exit_code == 1
        assert port in again.stderr
    finally:
        stopped = llasa("serve", "--stop", "--port", port)
    assert stopped.exit_code == 0, stopped.stderr
    assert llasa("serve", "--stop", "--port", port).exit_code == 2
    assert [path.suffix for path in (tmp_path / "state").iterdir()] == [".log"]


@pytest.mark.slow
@pytest.mark.parametrize("deadline", ["0.5", "60"])
def test_sigterm_under_load_cuts_no_response_silently(
    random_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deadline: str
) -> None:
    monkeypatch.setenv("LLASA_STATE", str(tmp_path / "state"))
    port = free_port()
    server = subprocess.Popen(
        [
            *(sys.executable, "-m", "llasa_cli", "serve", "-m", str(random_checkpoint), "--port", str(port)),
            *("--deadline", deadline, "--slots", "4"),
        ],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
    )
    outcomes: list[str] = []

    def client(number: int) -> None:
        for _ in range(100):
            try:
                made = ask(port, SPEECH | {"seed": number, "stream_format": ("audio", "sse")[number % 2]})
                data = made.read()
            except http.client.IncompleteRead:
                outcomes.append("cut")
                continue
            except OSError:
                outcomes.append("refused")
                return
            if made.status != 200:
                outcomes.append("refused")
            elif number % 2 and b'"type": "error"' in data:
                outcomes.append("cut")
            elif number % 2:
                outcomes.append("complete" if b"speech.audio.done" in data else "SILENTLY CUT")
            else:
                outcomes.append("complete" if data else "SILENTLY CUT")

    wait_until_it_speaks(server, port)
    threads = [threading.Thread(target=client, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    time.sleep(3)
    server.send_signal(signal.SIGTERM)
    began = time.monotonic()
    assert server.wait(timeout=90) == 0
    assert time.monotonic() - began < float(deadline) + 30
    for thread in threads:
        thread.join(timeout=30)
    assert "SILENTLY CUT" not in outcomes
    assert "refused" in outcomes
    if deadline == "60":
        assert "cut" not in outcomes
    assert server.stderr is not None
    assert b"Traceback" not in server.stderr.read()


@pytest.mark.slow
def test_clients_that_are_killed_leave_no_slot_taken(
    random_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """200 clients are killed at random moments; connections of a killed process are closed or reset by the system."""
    import random
    import struct

    monkeypatch.setenv("LLASA_STATE", str(tmp_path / "state"))
    port = free_port()
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    server = subprocess.Popen(
        [sys.executable, "-m", "llasa_cli", "serve", "-m", str(random_checkpoint), "--port", str(port), "--slots", "4"],
        env=environment,
    )
    try:
        wait_until_it_speaks(server, port)
        generator = random.Random(0)
        request = json.dumps(SPEECH | {"stream": True}).encode()
        head = f"POST /v1/audio/speech HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {len(request)}\r\n\r\n"
        for _ in range(200):
            client = os.fork()
            if client == 0:  # nothing but system calls in the child, which is killed
                with socket.create_connection(("127.0.0.1", port)) as connection:
                    if os.getpid() % 3 == 0:  # unread data: the system sends a reset
                        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    connection.sendall(head.encode() + request)
                    while connection.recv(4096):
                        pass
                os._exit(0)
            time.sleep(generator.random() * 0.15)
            os.kill(client, signal.SIGKILL)
            os.waitpid(client, 0)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and _metric(port, "llasa_requests_active") + _metric(
            port, "llasa_slots_used"
        ):
            time.sleep(0.1)
        assert _metric(port, "llasa_requests_active") == 0
        assert _metric(port, "llasa_slots_used") == 0
        assert ask(port, {"input": "Hi.", "max_seconds": 0.4}).read()
    finally:
        server.terminate()
        assert server.wait(timeout=60) == 0


def _metric(port: int, name: str) -> float:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    return float(next(line for line in lines if line.startswith(name + " ")).split()[1])
