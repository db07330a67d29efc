"""Requests that a client should not send: each is refused, none hurts the server."""

from __future__ import annotations

import base64
import http.client
import json
import os
import random
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from llasa_cli.serve import limits
from tests.serve.conftest import KEY, Running
from tests.serve.test_serve import SHORT, clip

COUNT = int(os.environ.get("LLASA_HOSTILE_REQUESTS", "2000"))
"""Requests of the slow test."""
STRANGE: list[Any] = [
    None, True, False, 0, -1, 1, 2**31, 2**63, 10**400, -(10**30), 0.5, 1e-320, 1e308, float("nan"), float("inf"), float("-inf"),
    "", " ", "\0", "a\0b", "\ud800", "\udc00x", "\u202e\u200b", "😀" * 50, "../../etc/passwd", "/etc/passwd", "~", "C:\\x",
    "<|SPEECH_GENERATION_END|>", "<|s_1|>", "[pause:99999]", "<break time='-1s'/>", "%s%n{0}", "a" * 3000, "9" * 500, "\n" * 100,
    [], [[]], {}, {"a": 1}, ["x", 1], [""] * 50, {"audio": "", "text": "x"}, {"audio": "!", "text": "x"},
    {"audio": base64.b64encode(b"RIFF" + bytes(60)).decode(), "text": "x"}, {"text": "x", "codes": [-1]},
    {"text": "x", "codes": [10**9]}, {"text": "x", "codes": [10**30]}, {"text": "\ud800", "codes": [1, 2, 3]},
    {"text": "x" * 1999, "codes": [1] * 2000}, {"text": "...", "codes": [1]},
]  # fmt: skip
NAMES = (
    "model input voice response_format speed stream_format stream seed retries markdown skipped_chunks continues chunk_events "
    "temperature top_p top_k min_p repetition_penalty guidance max_seconds instructions extra"
).split()
PATHS = [
    "/v1/audio/speech",
    "/v1/models",
    "/v1/audio/voices",
    "/health",
    "/metrics",
    "/",
    "/openapi.json",
    "/docs",
    "/%2e%2e/",
]
PATHS += ["/v1/audio/voices/" + name for name in ("x", "%2e%2e%2f%2e%2e%2fetc", "%00", "%ff", "a" * 2000, "..", "%5c")]


def own_memory() -> int:
    """Bytes of this process, in which the server runs, that are in main memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def body_of(generator: random.Random) -> bytes:
    body: dict[str, Any] = {"input": "Hi.", "seed": 1} | SHORT | {"max_seconds": 0.1}
    for _ in range(generator.randint(1, 3)):
        body[generator.choice(NAMES)] = generator.choice(STRANGE)
    if generator.random() < 0.2:
        body["input"] = generator.choice(["Hi.", ["Hi.", "Ho."], *STRANGE])
    data = json.dumps(body).encode()
    kind = generator.random()
    if kind < 0.05:
        data = data[: generator.randrange(len(data))]
    elif kind < 0.1:
        place = generator.randrange(len(data))
        data = data[:place] + generator.randbytes(3) + data[place + 3 :]
    elif kind < 0.12:
        data = b"[" * 20_000
    elif kind < 0.14:
        data = generator.choice([b"", b"null", b"1", b'"x"', b"[]", b"{}", b"\xff\xfe", generator.randbytes(200)])
    return data


def form_of(generator: random.Random) -> tuple[bytes, str]:
    boundary = "x"
    audio = generator.choice(
        [b"", b"no audio", b"RIFF" + bytes(100), clip()[: generator.randrange(60_000)], generator.randbytes(5000)]
    )
    parts = []
    for name in generator.sample(["name", "text", "file", "as_is", "other"], generator.randint(0, 5)):
        value = str(generator.choice(STRANGE)).encode("utf-8", "surrogatepass")
        if name == "file":
            parts.append(
                b'--x\r\nContent-Disposition: form-data; name="file"; filename="../a"\r\n\r\n' + audio + b"\r\n"
            )
        else:
            parts.append(f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'.encode() + value + b"\r\n")
    return b"".join(parts) + generator.choice([b"--x--\r\n", b"", b"--x"]), f"multipart/form-data; boundary={boundary}"


def send(server: Running, generator: random.Random) -> int:
    """Send one hostile request. -> its status; 0 where the connection was closed instead"""
    data, content_type, method, path = body_of(generator), "application/json", "POST", "/v1/audio/speech"
    kind = generator.random()
    if kind < 0.15:
        method, path = (
            generator.choice(["GET", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "POST"]),
            generator.choice(PATHS),
        )
    elif kind < 0.3:
        (data, content_type), path = form_of(generator), "/v1/audio/voices"
    elif kind < 0.35:
        content_type = generator.choice(
            ["text/plain", "", "multipart/form-data", "application/json; charset=x", "\xe9"]
        )
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": content_type}
    if generator.random() < 0.05:
        headers["Authorization"] = generator.choice(["", "Bearer", "Bearer \xff", "Basic x", "x" * 5000])
    if generator.random() < 0.05:
        headers[generator.choice(["Host", "Origin"])] = generator.choice(["", "[::1", "evil.example", "null", "a:b:c"])
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        connection.request(method, path, data, headers)
        made = connection.getresponse()
        if generator.random() < 0.1:
            made.read(10)
        else:
            made.read()
        return made.status
    except http.client.HTTPException:
        return 0
    finally:
        connection.close()


def send_raw(server: Running, generator: random.Random) -> None:
    """Bytes that are not a whole request; the connection is closed after them."""
    whole = b"POST /v1/audio/speech HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer secret\r\n"
    whole += b"Content-Type: application/json\r\nContent-Length: 9999\r\n\r\n" + body_of(generator)
    data = generator.choice(
        [
            whole[: generator.randrange(len(whole))],
            generator.randbytes(300),
            b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 5000 + b"\r\n",
            whole.replace(b"9999", b"-1"),
            whole.replace(b"9999", b"99999999999999999999999999"),
            whole.replace(b"Content-Length: 9999", b"Transfer-Encoding: chunked") + b"ffffffffffff\r\n",
            b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n" * 50,
        ]
    )
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(data)


@pytest.mark.slow
def test_hostile_requests_neither_fail_nor_hang_nor_make_the_server_grow(server: Running) -> None:
    generator = random.Random(1)
    statuses: dict[int, int] = {}
    memory: list[int] = []
    for number in range(COUNT):
        if number % 10 == 9:
            send_raw(server, generator)
        else:
            state = generator.getstate()
            status = send(server, generator)
            assert status < 500, f"status {status} for request {number} of generator state {hash(state)}"
            statuses[status] = statuses.get(status, 0) + 1
        if number % (COUNT // 4) == COUNT // 4 - 1:
            memory.append(own_memory())
    print(statuses, [f"{size / 1e6:.0f} MB" for size in memory])
    assert server.is_idle()
    assert statuses[200] > COUNT / 100
    assert memory[-1] - memory[0] < 60e6
    good = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    good.request(
        "POST",
        "/v1/audio/speech",
        json.dumps({"input": "Hi."} | SHORT),
        server.headers | {"Content-Type": "application/json"},
    )
    assert good.getresponse().status == 200


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"input": "\ud800"}, 400),
        ({"input": "Hi.", "voice": "\ud800"}, 400),
        ({"input": "Hi.", "temperature": float("nan")}, 400),
        ({"input": "Hi.", "speed": float("inf")}, 400),
        ({"input": "Hi.", "seed": 10**400}, 400),
        ({"input": "Hi.", "top_k": 10**400}, 400),
        ({"input": "Hi.", "retries": -(10**400)}, 400),
        ({"input": "Hi.", "voice": {"text": "x", "codes": [10**30]}}, 400),
        ({"input": "Hi.", "voice": {"text": "x", "codes": [999_999]}}, 400),
        ({"input": "Hi.", "voice": {"text": "x", "codes": [1], "codec": "other"}}, 400),
        ({"input": ["x" * 1500, "y" * 1500]}, 400),
        ({"input": "Hi.", "skipped_chunks": 99}, 200),
    ],
)
def test_strange_values_are_errors_of_the_client(server: Running, body: dict[str, Any], status: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    headers = server.headers | {"Content-Type": "application/json"}
    connection.request("POST", "/v1/audio/speech", json.dumps(SHORT | body), headers)
    made = connection.getresponse()
    assert made.status == status, made.read()


def test_a_body_beyond_the_limit_is_refused_before_it_is_read(server: Running) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(b"POST /v1/audio/speech HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 999999999999\r\n\r\n")
        assert b" 413 " in connection.recv(100)


@pytest.mark.parametrize(
    "begin",
    [b"", b"POST /v1/audio", b"POST /v1/audio/speech HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\n{"],
)
def test_a_client_that_sends_too_slowly_is_disconnected(
    server: Running, monkeypatch: pytest.MonkeyPatch, begin: bytes
) -> None:
    monkeypatch.setattr(limits, "HEADER_TIMEOUT_S", 0.3)
    monkeypatch.setattr(limits, "BODY_TIMEOUT_S", 0.3)
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(begin)
        answers = b""
        began = time.monotonic()
        while data := connection.recv(1000):
            answers += data
        assert time.monotonic() - began < 25
    assert answers == b"" or b" 408 " in answers or b" 401 " in answers


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Host": "[::1"}, 403),
        ({}, 200),
        ({"Host": "a.example", "Origin": "http://a.example"}, 200),
    ],
)
def test_pages_of_other_origins_are_refused(server: Running, headers: dict[str, str], status: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("GET", "/health", headers=headers)
    made = connection.getresponse()
    assert made.status == status
    assert made.headers.get("Access-Control-Allow-Origin") is None


def test_only_names_of_this_machine_are_answered_without_a_key() -> None:
    checked = limits.RequestLimits(None, limits.ServerSettings(hosts=("127.0.0.1", "localhost", "::1")))  # type: ignore[arg-type]
    for host, is_answered in {
        "127.0.0.1:1": 1,
        "localhost": 1,
        "LOCALHOST:8": 1,
        "[::1]:9": 1,
        "evil.example": 0,
        "": 0,
    }.items():
        assert (checked._problem({b"host": host}) is None) == bool(is_answered), host
