"""The load of `llasa serve`: many clients against one, first sound, memory.

    OMP_NUM_THREADS=1 python benchmarks/serve.py [--clients 1 4 16 64] [--seconds 60] [--requests 2000] [--devices cpu,cpu]

A server of the built-in voice is started as a process of its own. Each row has so many clients that send one request after the
other for `--seconds`; the first row, one client, is the comparison. Every client speaks the sentences of
`recipes/heart/held_out.txt` in an order of its own, as raw samples that are sent while they are generated.

    requests/s   completed requests
    audio        seconds of speech a second
    against one  audio of this row over audio of the first row
    first sound  from the request to the first samples, in ms: median and 95th percentile
    CPU          seconds of the server's processor time for each second of speech; other work on the machine changes it little
    failed       responses with another status than 200, or without an end

`--requests N` sends N short requests from four clients and prints the server's memory before, in between and after. With
`--sentences K` each of them has 1 to K sentences, in the formats and kinds of stream in turn.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SENTENCES = [
    line for line in (ROOT / "recipes" / "heart" / "held_out.txt").read_text(encoding="utf-8").splitlines() if line
]
FORMATS = ("mp3", "wav", "opus", "aac", "flac", "pcm", "f32")
RATE = 24_000
"""Hz of `response_format: pcm`."""


@dataclass
class Row:
    """What the clients of one row measured, in seconds."""

    first: list[float] = field(default_factory=list)
    audio_s: float = 0.0
    failed: int = 0
    wall_s: float = 0.0
    cpu_s: float = 0.0


def ask(port: int, text: str, seed: int, row: Row, **fields: object) -> None:
    """One request; what it measured is added to the row.

    Args:
        fields: Other fields of the request than those of a row.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    body = {"input": text, "response_format": "pcm", "stream": True, "seed": seed, "retries": 0} | fields
    began = time.perf_counter()
    try:
        connection.request("POST", "/v1/audio/speech", json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        data = response.read(1)
        row.first.append(time.perf_counter() - began)
        data += response.read()
        row.audio_s += len(data) / 2 / RATE
        row.failed += response.status != 200
    except (OSError, http.client.HTTPException):
        row.failed += 1
    finally:
        connection.close()


def load(port: int, process: int, clients: int, seconds: float = 0.0, requests: int = 0, sentences: int = 0) -> Row:
    """Let clients send requests for so long, or so many; these of up to so many sentences, or of two words."""
    rows = [Row() for _ in range(clients)]
    end = time.monotonic() + seconds

    def client(number: int) -> None:
        generator = random.Random(number)
        sent = 0
        while sent < requests // clients if requests else time.monotonic() < end:
            fields: dict[str, object] = {}
            text = "Good morning." if requests else generator.choice(SENTENCES)
            if sentences:
                text = " ".join(generator.choices(SENTENCES, k=generator.randint(1, sentences)))
                fields = {"response_format": FORMATS[sent % len(FORMATS)], "stream": sent % 2 == 0}
                fields |= {"stream_format": "sse"} if sent % 5 == 0 else {}
                fields |= {"speed": 1.25} if sent % 7 == 0 else {}
            ask(port, text, generator.randrange(2**31), rows[number], **fields)
            sent += 1

    began, cpu = time.monotonic(), cpu_s(process)
    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Row(
        [first for row in rows for first in row.first],
        sum(row.audio_s for row in rows),
        sum(row.failed for row in rows),
        time.monotonic() - began,
        cpu_s(process) - cpu,
    )


def cpu_s(process: int) -> float:
    """Processor time of a process so far."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mb(process: int) -> float:
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def start(arguments: list[str]) -> tuple[subprocess.Popen[bytes], int]:
    """A server of the built-in voice that answers; -> its process and port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "llasa_cli", "serve", "-q", "--port", str(port), *arguments]
    environment = os.environ | {"LLASA_STATE": tempfile.mkdtemp(), "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=environment)
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return process, port
        except OSError:
            if process.poll() is not None:
                raise SystemExit("the server did not start") from None
            time.sleep(0.1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clients", type=int, nargs="*", default=[1, 4, 16, 64])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--requests", type=int, default=0)
    parser.add_argument("--sentences", type=int, default=0)
    parser.add_argument("--parts", type=int, default=4, help="how often the memory is printed")
    parser.add_argument("--devices")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--slots")
    options = parser.parse_args()
    arguments = ["--dtype", options.dtype]
    for name in ("devices", "slots"):
        if getattr(options, name):
            arguments += [f"--{name}", getattr(options, name)]
    process, port = start(arguments)
    try:
        warm = Row()
        for seed in range(3):
            ask(port, SENTENCES[seed], seed, warm)
        print("clients  requests/s  audio  against one  first sound       CPU    failed")
        one = 0.0
        for clients in options.clients:
            row = load(port, process.pid, clients, options.seconds)
            first = sorted(row.first)
            speed = row.audio_s / row.wall_s
            one = one or speed
            half, most = (1000 * first[int(share * (len(first) - 1))] for share in (0.5, 0.95))
            print(
                f"{clients:7}  {len(first) / row.wall_s:10.2f}  {speed:5.1f}  {speed / one:11.2f}  {half:6.0f}, {most:6.0f}  "
                f"{row.cpu_s / row.audio_s:6.3f}  {row.failed:6}",
                flush=True,
            )
        sizes = [memory_mb(process.pid)]
        for _ in range(options.parts if options.requests else 0):
            row = load(port, process.pid, 4, requests=options.requests // options.parts, sentences=options.sentences)
            sizes.append(memory_mb(process.pid))
            print(
                f"{len(row.first)} requests, {row.failed} failed, {sizes[-1]:.0f} MB (before {sizes[0]:.0f} MB)",
                flush=True,
            )
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
