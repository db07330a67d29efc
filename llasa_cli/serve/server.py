"""The HTTP server: its start, and its orderly shutdown."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from llasa_cli.serve.service import JobQueue

_INCOMPLETE = "ASGI callable returned without completing response."
"""uvicorn's message about a response that was cut off on purpose (`serve.limits.Truncated`)."""


class Server(uvicorn.Server):
    """Stops on SIGTERM or Ctrl-C: it accepts no more requests, and those in progress may finish before the deadline.

    Args:
        deadline_s: The time that requests in progress have.
        on_started: Called when the port is open.
    """

    def __init__(
        self, config: uvicorn.Config, service: JobQueue, deadline_s: float, on_started: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._service, self._deadline_s, self._on_started = service, deadline_s, on_started
        logging.getLogger("uvicorn.error").addFilter(lambda record: record.msg != _INCOMPLETE)

    async def run_with(self, other: Coroutine[Any, Any, None] | None) -> None:
        """Serve, and run another server beside it until this one ends; its failure ends both."""
        tasks = [asyncio.create_task(self.serve())]
        if other is not None:
            tasks.append(asyncio.create_task(other))
        done, rest = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)
        for task in done:
            task.result()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_started()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        stopping = asyncio.create_task(asyncio.to_thread(self._service.stop, self._deadline_s))
        await super().shutdown(sockets)
        await stopping

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals until the server has ended. uvicorn raises them again then, which would change the exit code."""
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
