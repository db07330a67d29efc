"""The only module that writes to standard error, and the owner of standard output.

Standard output carries audio, `--json` or paths. While a command runs, file descriptor 1 and `sys.stdout` point to
standard error, so that neither a library's print nor a C++ log can get into the sound.
"""

from __future__ import annotations

import functools
import json
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, BinaryIO, ParamSpec, TypeVar

import typer

from llasa_cli.errors import LlasaError

P = ParamSpec("P")
R = TypeVar("R")

_output: BinaryIO | None = None


class Terminated(BaseException):
    """SIGTERM or SIGHUP arrived. It is no `Exception`, so that only cleanup code catches it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.exit_code = 128 + number


def open_closed_streams() -> None:
    """Open the descriptors 0 to 2 that the caller closed (`>&-`).

    Otherwise the next file that is opened gets number 1 or 2, and whatever a library prints ends up in it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            # Standard output is opened read-only, so that writing a result to it fails with a proper error.
            os.open(os.devnull, os.O_WRONLY if number == 2 else os.O_RDONLY)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w", closefd=False))


def claim_stdout() -> BinaryIO:
    """Reserve standard output for results and send everything else that is printed to standard error.

    Returns:
        The stream for results.
    """
    global _output
    if _output is not None and not _output.closed:
        return _output
    try:
        real = sys.stdout.fileno() == 1
    except (AttributeError, OSError, ValueError):
        real = False
    if real:
        sys.stdout.flush()
        _output = os.fdopen(os.dup(1), "wb")
        os.dup2(2, 1)
        sys.stdout = sys.stderr
        return _output
    # Another object stands in for it (in a test or a notebook), which stays.
    stream: BinaryIO = sys.stdout.buffer
    return stream


def result(text: str) -> None:
    """Write a line of results to standard output; a path that is not Unicode is written byte for byte."""
    out = claim_stdout()
    try:
        line = (text + "\n").encode(errors="surrogateescape")
    except UnicodeEncodeError:
        line = (text + "\n").encode(errors="replace")
    try:
        out.write(line)
        out.flush()
    except BrokenPipeError:
        raise  # a reader that closes the pipe is not an error
    except OSError as error:
        raise LlasaError(f"Standard output can't be written: {error.strerror}.") from error


def boundary(command: Callable[P, R]) -> Callable[P, R]:
    """Turn every expected error of a command into one message and an exit code. An unexpected error keeps its traceback."""

    @functools.wraps(command)
    def run(*arguments: P.args, **options: P.kwargs) -> R:
        _listen_for_signals()
        try:
            return command(*arguments, **options)
        except LlasaError as error:
            if os.environ.get("LLASA_DEBUG") == "1":
                import traceback

                traceback.print_exc()
            show_error(error.message, error.hint)
            if _output is not None:
                _drop_output()
            raise typer.Exit(error.exit_code) from None
        except BrokenPipeError:
            _drop_output()
            raise typer.Exit(0) from None
        except KeyboardInterrupt:
            note("stopped")
            raise typer.Exit(130) from None
        except Terminated as end:
            raise typer.Exit(end.exit_code) from None

    return run


def note(text: str) -> None:
    """Write a line to standard error, even with `-q`."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        return


def show_error(message: str, hint: str = "") -> None:
    """ "error: ..." to standard error, with the hint on the lines below it."""
    note("\n       ".join([f"error: {message}", *map(str.strip, hint.splitlines())]))


def _listen_for_signals() -> None:
    """SIGTERM and SIGHUP (the terminal was closed) end the command like Ctrl-C: with cleanup."""

    def stop(number: int, frame: Any) -> None:
        if _no_exception_passes(frame):
            again = threading.Timer(0.02, os.kill, (os.getpid(), number))
            again.daemon = True
            again.start()
        elif number == signal.SIGINT:
            raise KeyboardInterrupt
        else:
            raise Terminated(number)

    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        usual = signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL
        try:
            if number is not None and signal.getsignal(number) is usual:  # nohup's setting for SIGHUP stays
                signal.signal(number, stop)
        except ValueError:
            return  # not in the main thread: another program uses this package


def _no_exception_passes(frame: Any) -> bool:
    """Whether an exception must not be raised now.

    During the import of torch its C++ code would abort the process, and libsndfile's callbacks swallow exceptions.
    """
    module = sys.modules.get("torch")
    if getattr(getattr(module, "__spec__", None), "_initializing", False):
        return True
    while frame is not None and not frame.f_code.co_name.startswith("vio_"):
        frame = frame.f_back
    return frame is not None


def _drop_output() -> None:
    """Redirect standard output to the null device: flushing its buffer would fail again when the interpreter exits."""
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (_output, sys.__stdout__):
        try:
            if stream is not None:
                os.dup2(null, stream.fileno())
        except (OSError, ValueError):
            continue


class Console:
    """Progress and the closing line of one command.

    Args:
        quiet: Print errors only.
        verbose: Print a line for each chunk, and why it was retried.
    """

    def __init__(self, quiet: bool = False, verbose: bool = False) -> None:
        self.quiet, self.verbose = quiet, verbose
        self._live = not quiet and sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._shown = 0.0
        self.began = time.monotonic()

    @property
    def is_live(self) -> bool:
        """Whether progress is shown: standard error is a terminal that can rewrite its line."""
        return self._live

    def stage(self, text: str) -> None:
        """Show the current stage in the progress line; only on a terminal."""
        if self._live:
            self._show(text + " ...")

    def progress(self, text: str) -> None:
        """Like `stage`, at most ten times a second."""
        if self._live and time.monotonic() - self._shown > 0.1:
            self._show(text)

    def line(self, text: str) -> None:
        """Print a line that stays, unless quiet."""
        if not self.quiet:
            self.clear()
            note(text)

    def detail(self, text: str) -> None:
        """Print a line with `--verbose`."""
        if self.verbose:
            self.line(text)

    def clear(self) -> None:
        """Erase the progress line."""
        if self._live and self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
            self._shown = 0.0

    def _show(self, text: str) -> None:
        width = os.get_terminal_size(2).columns or 80  # 0 where the width is unknown
        print(f"\r\x1b[K{text[: width - 1]}", end="", file=sys.stderr, flush=True)
        self._shown = time.monotonic()

    def __enter__(self) -> Console:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()


def as_json(value: Any) -> str:
    """JSON in one line. Bytes of a path that are not Unicode are escaped, as Python does it."""
    text = json.dumps(value, ensure_ascii=False)
    return re.sub("[\ud800-\udfff]", lambda half: f"\\u{ord(half[0]):04x}", text)


def speed(seconds: float, wall_s: float) -> str:
    """ "3.2 s of speech in 1.1 s, 2.9 times real time"."""
    return f"{seconds:.1f} s of speech in {wall_s:.1f} s, {seconds / max(wall_s, 1e-9):.1f} times real time"
