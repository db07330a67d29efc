"""`llasa` as a process of its own, without the seconds in which it imports torch.

    process = subprocess.run([*FORKED_LLASA, "say", "hi"], env=environment)      as [sys.executable, "-m", "llasa_cli", ...]

A server imports the libraries once and forks for each command. What the test starts is a small client, which hands its
streams, folder, arguments and environment to the server, passes signals on, and ends as the command ends. The command has
real pipes, signals and exit codes; only its imports are done. Tests of the start itself, and of limits that a process
inherits, run the interpreter instead.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

SOCKET_VARIABLE = "LLASA_TEST_FORK_SERVER"
FORKED_LLASA = [sys.executable, "-I", "-S", __file__]
_IMPORTED = (
    "llasa_cli.cli.app llasa_cli.synthesis.synthesizer llasa_cli.lm.loader llasa_cli.codec.codec llasa_cli.codec.decoder "
    "llasa_cli.audio.player transformers.models.xcodec2 soundfile soxr tokenizers jinja2 huggingface_hub numpy"
).split()
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def fork_server(folder: Path) -> Iterator[None]:
    """Run a server; inside the block the clients find it by the environment."""
    address = str(folder / "fork")
    command = [sys.executable, __file__, address]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[1]
    ) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n"
        os.environ[SOCKET_VARIABLE] = address
        yield
        del os.environ[SOCKET_VARIABLE]
        server.terminate()


# --- the client ---


def _client(arguments: list[str]) -> None:
    numbers = [number for number in (0, 1, 2) if _is_open(number)]
    while os.open(os.devnull, os.O_RDONLY) < 3:
        pass  # otherwise the socket would get the number of a stream that the test has closed
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(os.environ[SOCKET_VARIABLE])
        body = {"numbers": numbers, "arguments": arguments, "folder": os.getcwd(), "environment": dict(os.environ)}
        text = json.dumps(body).encode()
        socket.send_fds(server, [len(text).to_bytes(8, "big")], numbers)
        server.sendall(text)
        answers = server.makefile("r")
        process = int(answers.readline())

        def pass_on(number: int, frame: Any) -> None:
            with suppress(ProcessLookupError):
                os.kill(process, number)

        for number in _SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, pass_on)
        for number in numbers:
            os.close(number)  # a reader waits for the end of the command alone
        status = int(answers.readline())
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


# --- the server ---


def _serve(address: str) -> dict[str, Any]:
    """Fork for each client. -> the client's request, in the process of the command"""
    import importlib
    import select

    sys.path.insert(0, os.getcwd())
    sys.path.remove(str(Path(__file__).parent))
    for name in _IMPORTED:
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no zombies
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        print("ready", flush=True)
        while True:
            ready, _, _ = select.select([listener, 0], [], [])
            if 0 in ready:
                os._exit(0)  # the tests are over, however they ended
            connection, _ = listener.accept()
            with connection:
                if os.fork() == 0:
                    listener.close()
                    return _begin(connection)


def _begin(connection: socket.socket) -> dict[str, Any]:
    """Fork the command, and report its end to the client."""
    import select

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    head, streams, _, _ = socket.recv_fds(connection, 8, 3)
    text = b""
    while len(text) < int.from_bytes(head, "big"):
        text += connection.recv(1 << 20)
    request: dict[str, Any] = json.loads(text)
    process = os.fork()
    if process == 0:
        connection.detach()
        for number in (0, 1, 2):
            os.close(number)
        for number, stream in zip(request["numbers"], streams, strict=True):
            os.dup2(stream, number)
        os.closerange(3, 1024)
        return request
    for stream in streams:
        os.close(stream)
    connection.sendall(f"{process}\n".encode())
    ended = os.pidfd_open(process)
    ready, _, _ = select.select([ended, connection], [], [])
    if ended not in ready:
        os.kill(process, signal.SIGKILL)  # the client was killed
    _, status = os.waitpid(process, 0)
    with suppress(OSError):
        connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def _become(request: dict[str, Any]) -> None:
    """Take over the client's streams, folder and environment."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if number not in request["numbers"]:
            setattr(sys, name, None)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    sys.argv = ["llasa", *request["arguments"]]


if __name__ == "__main__":
    if SOCKET_VARIABLE in os.environ:
        _client(sys.argv[1:])
    _become(_serve(sys.argv[1]))
    from llasa_cli.__main__ import main

    main()
