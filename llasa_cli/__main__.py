"""`llasa`, and `python -m llasa_cli`."""

from __future__ import annotations

import atexit
import gc
import os
import sys
from contextlib import suppress

SPINS = 3000
"""About 50 us, as in `lm/cpu/barrier.h`."""


def main() -> None:
    """Run the command line. Ctrl-C before a command has begun ends the process as quietly as later."""
    limit_spinning()
    atexit.register(_silence_shutdown)  # handlers run in reverse order, so this one runs after those of all libraries
    try:
        from llasa_cli.cli.app import app
        from llasa_cli.cli.console import open_closed_streams

        open_closed_streams()
        app()
    except KeyboardInterrupt:
        sys.exit(130)


def limit_spinning() -> None:
    """Let the threads of OpenMP sleep after a short wait for each other, unless the user has chosen how they wait.

    GCC's runtime, which torch has on Linux, reads this when it is loaded. By itself it spins for milliseconds, and on a busy
    machine that keeps the processor from the very thread that is waited for: a prompt then takes twice the time.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))


def _silence_shutdown() -> None:
    """Skip the search for reference cycles at exit, and hide what libraries print while the interpreter shuts down.

    With torch, the search goes through half a million objects. Without it, bindings that count their objects, such as
    nanobind in triton, report leaks that do not matter. `LLASA_DEBUG=1` shows such messages.
    """
    gc.freeze()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # full, closed, or absent
            stream.flush()
    if os.environ.get("LLASA_DEBUG") == "1":
        return
    # `claim_stdout` makes descriptor 1 lead to standard error; otherwise it stays, so that a full disk is still noticed.
    hidden = (1, 2) if sys.stdout is sys.stderr else (2,)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for number in hidden:
        os.dup2(nowhere, number)


if __name__ == "__main__":
    main()
