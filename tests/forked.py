"""`llasa` as a process of its own, without the seconds in which it imports torch.

    process = subprocess.run([*FORKED_LLASA, "say", "hi"], env=environment)      as [sys.executable, "-m", "llasa_cli", ...]

A server imports the libraries once and forks for each command. What the test starts is a small client, which hands its
streams, folder, arguments and environment to the server, passes signals on, and ends as the command ends. The command has
real pipes, signals and exit codes; only its imports are done. Tests of the start itself, and of limits that a process
inherits, run the interpreter instead.
"""

from __future__ import annotations

import marshal
import os
import signal
import socket
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:  # the client imports little: it starts for every command
    from pathlib import Path
    from typing import Any

SOCKET_VARIABLE = "LLASA_TEST_FORK_SERVER"
FORKED_LLASA = [sys.executable, "-I", "-S", __file__]
_IMPORTED = (
    "llasa_cli.cli.app llasa_cli.synthesis.synthesizer llasa_cli.lm.loader llasa_cli.codec.codec llasa_cli.codec.decoder "
    "llasa_cli.audio.player llasa_cli.audio.audiobook llasa_cli.audio.word_file llasa_cli.batch.passages "
    "llasa_cli.codec.original_format llasa_cli.serve.client llasa_cli.text.normalize.loader llasa_cli.voices.cast "
    "transformers.models.xcodec2 soundfile soxr tokenizers jinja2 huggingface_hub numpy pydantic.type_adapter typer._adapters"
).split()
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def start_server(address: Path, owner: int) -> None:
    """Run a server, which the clients find by the environment. It ends when the process `owner` has ended."""
    import subprocess

    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    command = [sys.executable, __file__, str(address), str(owner)]
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, cwd=root)
    assert server.stdout is not None
    assert server.stdout.readline() == b"ready\n"


# --- the client ---


def _client(arguments: list[str]) -> None:
    numbers = [number for number in (0, 1, 2) if _is_open(number)]
    while os.open(os.devnull, os.O_RDONLY) < 3:
        pass  # otherwise the socket would get the number of a stream that the test has closed
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(os.environ[SOCKET_VARIABLE])
        body = {"numbers": numbers, "arguments": arguments, "folder": os.getcwd(), "environment": dict(os.environ)}
        text = marshal.dumps(body)
        socket.send_fds(server, [len(text).to_bytes(8, "big")], numbers)
        server.sendall(text)
        answers = server.makefile("r")
        process = int(answers.readline())

        def pass_on(number: int, frame: Any) -> None:
            try:  # noqa: SIM105 - contextlib would be one more import
                os.kill(process, number)
            except ProcessLookupError:
                pass

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


def _serve(address: str, owner: int) -> dict[str, Any]:
    """Fork for each client until `owner` ends. -> the client's request, in the process of the command"""
    import gc
    import importlib
    import select
    from contextlib import suppress
    from functools import lru_cache

    import typer.main

    sys.path.insert(0, os.getcwd())
    sys.path.remove(os.path.dirname(os.path.abspath(__file__)))
    gc.disable()
    for name in _IMPORTED:
        with suppress(ModuleNotFoundError):  # some versions of Typer need no pydantic
            importlib.import_module(name)
    typer.main.get_command = lru_cache(typer.main.get_command)
    typer.main.get_command(importlib.import_module("llasa_cli.cli.app").app)
    gc.freeze()  # otherwise each command would copy the memory of all imports to search it for garbage
    gc.enable()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no zombies
    ended = os.pidfd_open(owner)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        print("ready", flush=True)
        while True:
            ready, _, _ = select.select([listener, ended], [], [])
            if ended in ready:
                os._exit(0)  # the tests are over, however they ended
            connection, _ = listener.accept()
            with connection:
                if os.fork() == 0:
                    listener.close()
                    return _begin(connection)


def _begin(connection: socket.socket) -> dict[str, Any]:
    """Fork the command, and report its end to the client."""
    import select
    from contextlib import suppress

    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    head, streams, _, _ = socket.recv_fds(connection, 8, 3)
    text = b""
    while len(text) < int.from_bytes(head, "big"):
        text += connection.recv(1 << 20)
    request: dict[str, Any] = marshal.loads(text)
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


def _end(code: Any) -> None:
    """End as `sys.exit(code)` does, without taking down the imported modules, which takes longer than most commands."""
    import atexit
    import threading

    threading._shutdown()
    atexit._run_exitfuncs()
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except (OSError, ValueError):
        code = 120
    os._exit(code if isinstance(code, int) else 0 if code is None else 1)


if __name__ == "__main__":
    if SOCKET_VARIABLE in os.environ:
        _client(sys.argv[1:])
    _become(_serve(sys.argv[1], int(sys.argv[2])))
    from llasa_cli.__main__ import main

    try:
        main()
    except SystemExit as end:
        _end(end.code)
    _end(None)
