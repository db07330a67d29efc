"""One worker in a thread of this process: nothing has to be started or copied."""

from __future__ import annotations

import queue
import threading
from typing import TYPE_CHECKING, Any

from llasa_cli.batch.messages import SETTLED, Event, Ready, WorkerConfig, WorkItem, fair_share
from llasa_cli.batch.worker import run_worker
from llasa_cli.errors import LlasaError

if TYPE_CHECKING:
    from llasa_cli.synthesis.batched import BatchSynthesizer
    from llasa_cli.synthesis.synthesizer import Synthesizer

_STOP_PATIENCE_S = 10.0


class ThreadBackend:
    """A `messages.WorkerBackend` with one thread.

    Args:
        synthesizer: A loaded model; None loads it in the thread.
    """

    def __init__(self, config: WorkerConfig, synthesizer: Synthesizer | None = None) -> None:
        self._items: queue.Queue[WorkItem | None] = queue.Queue()
        self._events: queue.Queue[Event] = queue.Queue()
        self._slots = config.slots or 1
        self._submitted = 0
        self._closed = False
        self._batched: BatchSynthesizer | None = None
        self._thread = threading.Thread(
            target=run_worker,
            args=(config, self._items.get, self._events.put, self._on_start, synthesizer),
            name="worker",
            daemon=True,
        )
        self._thread.start()

    def _on_start(self, batched: BatchSynthesizer) -> None:
        self._batched = batched
        if self._closed:
            raise LlasaError("The run was stopped.")

    def capacity(self, left: int) -> int:
        return fair_share(self._slots, left, 1) - self._submitted

    def submit(self, item: WorkItem) -> None:
        self._submitted += 1
        self._items.put(item)

    def events(self, timeout_s: float) -> list[Event]:
        found = drain(self._events, timeout_s)
        for event in found:
            if isinstance(event, Ready):
                self._slots = event.slots
            elif isinstance(event, SETTLED):
                self._submitted -= 1
        return found

    def finish(self) -> None:
        self._items.put(None)

    def close(self) -> None:
        self._closed = True
        self._items.put(None)
        if self._batched is not None:
            self._batched.stop()
        # The thread is a daemon: the process need not wait until it has loaded a model.
        self._thread.join(_STOP_PATIENCE_S if self._batched is not None else 0.1)

    def facts(self) -> dict[str, Any]:
        return {"workers": 1, "slots": self._slots}


def drain(events: queue.Queue[Event], timeout_s: float, most: int = 1 << 30) -> list[Event]:
    """Wait for the first event, then take all others that have arrived."""
    found: list[Event] = []
    try:
        found.append(events.get(timeout=timeout_s))
        while len(found) < most:
            found.append(events.get_nowait())
    except queue.Empty:
        pass
    return found
