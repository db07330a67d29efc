"""`llasa serve --ray` on a Ray cluster of this machine: two replicas, one of which is killed."""

from __future__ import annotations

import http.client
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from tests.serve.test_process import ROOT, free_port
from tests.serve.test_serve import TRANSCRIPT, clip

pytestmark = pytest.mark.slow
SHORT = {"max_seconds": 0.4, "guidance": 1.0, "retries": 0, "seed": 7}
"""The random model rarely ends by itself."""


@pytest.fixture(scope="module")
def server(random_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int]]:
    """-> the port and the process of a server with two replicas; it ends with exit code 0, and so do its replicas"""
    pytest.importorskip("ray.serve")
    folder = tmp_path_factory.mktemp("ray")
    port = free_port()
    environment = os.environ | {"PYTHONPATH": str(ROOT), "LLASA_STATE": str(folder / "state")}
    environment["RAY_worker_niceness"] = "0"  # Ray's own 15 lets a busy machine starve them
    environment["RAY_ADDRESS"] = "127.0.0.1:1"  # `--ray local` joins no other cluster
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "llasa_cli", "serve", "-m", str(random_checkpoint), "--port", str(port)),
            *("--ray", "local", "--replicas", "2", "--slots", "2", "--voice-dir", str(folder / "voices")),
        ],
        env=environment,
        stderr=subprocess.PIPE,
    )
    while True:
        try:
            ask(port, "GET", "/health")
            break
        except OSError:
            assert process.poll() is None, process.stderr and process.stderr.read().decode()
            time.sleep(0.5)
    yield port, process.pid
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=600)
    assert process.returncode == 0, stderr
    assert b"Traceback" not in stderr
    assert replicas() == []


def replicas() -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().startswith(b"ray::ServeReplica:llasa-"):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


def ask(
    port: int, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    data = json.dumps(body) if isinstance(body, dict) else body
    connection.request(method, path, data, headers or {"Content-Type": "application/json"})
    made = connection.getresponse()
    return made.status, made.read()


def speak(port: int, text: str, **fields: Any) -> tuple[int, bytes]:
    return ask(port, "POST", "/v1/audio/speech", {"input": text, "response_format": "f32"} | SHORT | fields)


def test_a_replica_makes_the_samples_of_say(server: tuple[int, int], random_checkpoint: Path, tmp_path: Path) -> None:
    port, _ = server
    text = "Hello there. And this is the other half of it."
    said = tmp_path / "said.wav"
    settings = [
        "--seed",
        "7",
        "--max-seconds",
        "0.4",
        "--guidance",
        "1",
        "--retries",
        "0",
        "-v",
        "heart",
        "-q",
        "--accept-failed",
    ]
    command = [sys.executable, "-m", "llasa_cli", "say", "-m", str(random_checkpoint), text, "-o", str(said)]
    subprocess.run([*command, *settings], env=os.environ | {"PYTHONPATH": str(ROOT)}, check=True)
    status, data = speak(port, text, voice="heart", response_format="wav")
    assert status == 200
    served, _ = soundfile.read(io.BytesIO(data), dtype="int16")
    assert np.array_equal(served, soundfile.read(said, dtype="int16")[0])


def test_errors_of_a_replica_are_those_of_a_server(server: tuple[int, int]) -> None:
    port, _ = server
    for fields in ({"stream_format": "sse"}, {}):
        status, data = speak(port, "...", **fields)
        assert status == 400
        assert "nothing to say" in json.loads(data)["error"]["message"]


def test_a_long_text_arrives_in_pieces(server: tuple[int, int]) -> None:
    port, _ = server
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    body = {"input": "Hello there. " * 200, "response_format": "f32", "stream": True} | SHORT
    began = time.monotonic()
    connection.request("POST", "/v1/audio/speech", json.dumps(body), {"Content-Type": "application/json"})
    made = connection.getresponse()
    arrivals = []
    while made.read1(1 << 20):
        arrivals.append(time.monotonic())
    assert len(arrivals) > 5
    assert arrivals[0] - began < (arrivals[-1] - began) / 2, "the first piece does not wait for the rest"


def test_voices_are_kept_by_the_server_for_all_replicas(server: tuple[int, int]) -> None:
    port, _ = server
    form = b""
    for name, value in (("name", b"guest"), ("text", TRANSCRIPT.encode())):
        form += f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'.encode() + value + b"\r\n"
    form += b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n' + clip() + b"\r\n--x--\r\n"
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    status, data = ask(port, "POST", "/v1/audio/voices", form, headers)
    assert status == 200, data
    made = {speak(port, "Hello.", voice="guest")[1] for _ in range(6)}
    assert len(made) == 1
    assert speak(port, "Hello.", voice="unknown")[0] == 400
    assert ask(port, "DELETE", "/v1/audio/voices/guest")[0] == 200


def test_both_replicas_speak(server: tuple[int, int]) -> None:
    port, _ = server
    before = {number: ticks(number) for number in replicas()}
    threads = [threading.Thread(target=speak, args=(port, "Hello there. " * 20)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=600)
    work = sorted(ticks(number) - began for number, began in before.items())
    assert len(work) == 2
    assert work[0] > work[1] / 5


def ticks(process: int) -> int:
    """Processor time of a process."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_requests_are_continued_when_a_replica_is_killed(server: tuple[int, int]) -> None:
    port, _ = server
    text = "Hello there. " * 60
    expected = speak(port, text)[1]
    found: list[tuple[int, bytes]] = []
    threads = [threading.Thread(target=lambda: found.append(speak(port, text))) for _ in range(4)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    both = replicas()
    assert len(both) == 2
    os.kill(both[0], signal.SIGKILL)
    for thread in threads:
        thread.join(timeout=600)
    assert [status for status, _ in found] == [200] * 4
    assert {data for _, data in found} == {expected}
    until = time.monotonic() + 240
    while json.loads(ask(port, "GET", "/health")[1])["replicas"] < 2:
        assert time.monotonic() < until
        time.sleep(0.5)
    assert b"llasa_replicas 2" in ask(port, "GET", "/metrics")[1]
