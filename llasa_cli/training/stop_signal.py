"""Ctrl-C, SIGTERM and SIGHUP during training: finish the step, save, then end as the signal asks.

with StopSignals(on_request) as stop:
    ...                       # looks at stop.requested after each step
stop.deliver()                # the signal reaches the handler that was set before
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")
_SAME_REQUEST_S = 1.0
"""torchrun sends its processes the signal that the terminal has sent them already: together these are one request."""


class StopSignals:
    """Context manager that turns the first signal into a request. A second one, later, ends the process at once.

    Signals that are ignored (nohup) stay ignored. Outside the main thread, where Python allows no handlers, it does nothing.

    Attributes:
        number: The signal that has arrived; None before.
    """

    def __init__(self, on_request: Callable[[], None]) -> None:
        self._on_request = on_request
        self._previous: dict[int, Any] = {}
        self._at, self._process = 0.0, os.getpid()
        self.number: int | None = None

    @property
    def requested(self) -> bool:
        return self.number is not None

    def __enter__(self) -> StopSignals:
        for name in _NAMES:
            number = getattr(signal, name, None)
            if number is None or signal.getsignal(number) in (signal.SIG_IGN, None):
                continue
            with suppress(ValueError):  # not the main thread
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a forked worker of the data loader, which its parent ends
            if number != signal.SIGINT:
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)
        elif self.number is None:
            self.number, self._at = number, time.monotonic()
            with suppress(RuntimeError):  # the signal came while the same stream was being written to
                self._on_request()
        elif time.monotonic() - self._at > _SAME_REQUEST_S:
            self.__exit__()
            signal.raise_signal(number)

    def deliver(self) -> None:
        """Give the signal to the handler from before, which raises KeyboardInterrupt or ends the process."""
        if self.number is not None:
            signal.raise_signal(self.number)
