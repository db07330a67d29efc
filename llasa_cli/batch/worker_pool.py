"""The common part of workers in processes and in Ray actors: their items, their capacity, the replacement of dead ones."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Generic, TypeVar

from llasa_cli.batch.messages import SETTLED, Event, Exited, FatalError, Ready, WorkItem, fair_share
from llasa_cli.errors import LlasaError


class PooledWorker:
    """One worker that runs elsewhere.

    Attributes:
        slots: Sequences that it generates at the same time; 0 before it runs.
        items: The numbers of the items that it has.
        has_exited: Whether it has ended because there is no work left.
    """

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.items: set[int] = set()
        self.has_exited = False

    def submit(self, item: WorkItem) -> None:
        raise NotImplementedError

    def note(self, events: Iterable[Event]) -> list[Event]:
        """Update the worker's state from its events. -> the events for the scheduler"""
        kept: list[Event] = []
        for event in events:
            if isinstance(event, Exited):
                self.has_exited = True
                continue
            if isinstance(event, Ready):
                self.slots = event.slots
            elif isinstance(event, SETTLED):
                self.items.discard(event.number)
            kept.append(event)
        return kept


Worker = TypeVar("Worker", bound=PooledWorker)


class WorkerPool(Generic[Worker]):
    """The common part of `ProcessBackend` and `RayBackend`, which are `messages.WorkerBackend`s.

    Args:
        most_restarts: The number of workers that may die in a row without a completed item.
    """

    def __init__(self, workers: Sequence[Worker], most_restarts: int) -> None:
        self._workers = list(workers)
        self._most_restarts = most_restarts
        self._deaths_in_a_row = 0
        self._finishing = False
        self._left = 0

    def capacity(self, left: int) -> int:
        self._left = left
        return max(map(self._capacity_of, self._workers), default=0)

    def submit(self, item: WorkItem) -> None:
        worker = max(self._workers, key=self._capacity_of)
        worker.items.add(item.number)
        worker.submit(item)

    def facts(self) -> dict[str, Any]:
        return {"workers": len(self._workers)}

    def _capacity_of(self, worker: Worker) -> int:
        running = sum(other.slots > 0 for other in self._workers)
        return fair_share(worker.slots, self._left, running) - len(worker.items) if worker.slots else 0

    def _restart(self, worker: Worker) -> Worker:
        """Start a worker in place of one that has died."""
        raise NotImplementedError

    def _replace(self, dead: Worker, found: list[Event]) -> None:
        self._deaths_in_a_row += 1
        if self._deaths_in_a_row > self._most_restarts:
            message = f"{self._deaths_in_a_row} workers died one after the other."
            found.append(FatalError(LlasaError(message, "Is there enough memory?")))
        else:
            self._workers.append(self._restart(dead))

    def _count_deaths(self, found: Iterable[Event]) -> None:
        """Reset the count of deaths after a completed item."""
        if any(isinstance(event, SETTLED) for event in found):
            self._deaths_in_a_row = 0
