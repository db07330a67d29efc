"""One worker, in a thread of this process: no start of another, no copy of anything."""

from __future__ import annotations

import queue
import threading
from typing import Any

from llasa_cli.batch.messages import Event, Exited, Ready, WorkerConfig, WorkItem, share
from llasa_cli.batch.worker import work
from llasa_cli.errors import LlasaError
from llasa_cli.synthesis.batched import BatchSynthesizer

_PATIENCE_S = 10.0


class ThreadBackend:
    """See `pieces.WorkerBackend`."""

    def __init__(self, orders: WorkerConfig) -> None:
        self._pieces: queue.Queue[WorkItem | None] = queue.Queue()
        self._events: queue.Queue[Event] = queue.Queue()
        self._slots = orders.slots or 1
        self._out = 0
        self._closed = False
        self._many: BatchSynthesizer | None = None
        self._thread = threading.Thread(target=self._run, args=(orders,), name="worker", daemon=True)
        self._thread.start()

    def _run(self, orders: WorkerConfig) -> None:
        work(orders, self._pieces.get, self._events.put, self._started)
        self._events.put(Exited())

    def _started(self, many: BatchSynthesizer) -> None:
        self._many = many
        if self._closed:
            raise LlasaError("The run was stopped.")

    def room(self, left: int) -> int:
        return share(self._slots, left, 1) - self._out

    def give(self, piece: WorkItem) -> None:
        self._out += 1
        self._pieces.put(piece)

    def events(self, timeout_s: float) -> list[Event]:
        found = []
        try:
            found.append(self._events.get(timeout=timeout_s))
            while True:
                found.append(self._events.get_nowait())
        except queue.Empty:
            pass
        for event in found:
            if isinstance(event, Ready):
                self._slots = event.slots
            elif hasattr(event, "number"):
                self._out -= 1
        return found

    def finish(self) -> None:
        self._pieces.put(None)

    def close(self) -> None:
        """What is not finished leaves nothing."""
        self._closed = True
        self._pieces.put(None)
        if self._many is not None:
            self._many.stop()
        # A daemon: who is still loading a model is not waited for.
        self._thread.join(_PATIENCE_S if self._many is not None else 0.1)

    def facts(self) -> dict[str, Any]:
        return {"workers": 1, "slots": self._slots}
