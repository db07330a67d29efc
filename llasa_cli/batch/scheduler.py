"""Gives the items of a plan to workers, and yields what comes back.

    scheduler = Scheduler(plan, make_work_item, on_note)
    for settled in scheduler.run(backend):
        task, outcome = settled                     it is None at least twice a second, for progress

Its memory does not grow with the length of the list.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from llasa_cli.batch.messages import (
    Completed,
    Event,
    Exited,
    Failed,
    FatalError,
    Lost,
    Note,
    Ready,
    WorkerBackend,
    WorkItem,
)
from llasa_cli.batch.plan import Plan, Task
from llasa_cli.errors import LlasaError, os_errors_as
from llasa_cli.files import AtomicFile, move_to

_SUSPECT_LOSSES = 2
"""An item that several workers had when they died may be the cause. Only one such item is given to a worker at a time."""
_MOST_LOSSES = 5
"""The number of dead workers after which an item has failed."""


@dataclass
class Tally:
    """The progress of a run.

    Attributes:
        all: Items of the list.
        there: Items whose files existed before the run.
        to_make: Items that the run has to make, with `characters_to_make`.
        made, failed: Items so far.
        failed_checks: Items among `made` and `there` whose speech fails its checks.
        seconds: Seconds of audio that were made.
        characters: Characters of the items that are made or have failed in this run.
        slots: Sequences that a worker generates at the same time.
        began: The time (`time.monotonic`) at which the first worker had loaded its model; None before.
    """

    all: int
    there: int
    to_make: int
    characters_to_make: int
    made: int = 0
    failed: int = 0
    failed_checks: int = 0
    seconds: float = 0.0
    characters: int = 0
    retries: int = 0
    lost_workers: int = 0
    slots: int = 0
    began: float | None = None
    ended: float | None = None

    @property
    def wall_s(self) -> float:
        """Seconds of work since the first model was loaded, as `say` measures it."""
        if self.began is None:
            return 0.0
        return (time.monotonic() if self.ended is None else self.ended) - self.began

    def stop_clock(self) -> None:
        """All items are made; what follows is not part of `wall_s`."""
        self.ended = time.monotonic()

    @property
    def left_s(self) -> float | None:
        """The estimated time to the end of the run; None while there is nothing to estimate it from."""
        if not self.characters:
            return None
        return self.wall_s * (self.characters_to_make - self.characters) / self.characters


Settled = tuple[Task, Completed | Failed]
"""An item that is complete or has failed."""


class Scheduler:
    """Runs a plan; see the module.

    Args:
        make_work_item: A task in the form for workers. Raises LlasaError if it can't be made.
        on_note: Called with each message for the user.
    """

    def __init__(self, plan: Plan, make_work_item: Callable[[Task], WorkItem], on_note: Callable[[str], None]) -> None:
        counts = plan.counts()
        self._plan, self._make_work_item, self._on_note = plan, make_work_item, on_note
        self.tally = Tally(counts.all, counts.there, counts.to_make, counts.characters)
        self._submitted: dict[int, int] = {}
        """Items with a worker -> how many workers died with them before."""
        self._returned: list[int] = []
        self._suspects: list[int] = []
        self._left = counts.to_make
        self._losses: dict[int, int] = {}

    def invalid(self) -> Iterator[Settled]:
        """The items that can't be made."""
        for task in self._plan.invalid():
            yield from self._settle(task, Failed(task.number, task.problem))

    def run(self, backend: WorkerBackend) -> Iterator[Settled | None]:
        """Make all items that have to be made. Yields each when it is settled, and None at least twice a second.

        Raises:
            LlasaError: A failure that concerns all items. The completed items have been yielded.
        """
        waiting = self._plan.waiting()
        finished = False
        while True:
            while backend.capacity(self._left) > 0 and (task := self._next_task(waiting)) is not None:
                yield from self._submit(backend, task)
            if not self._left and not finished:
                backend.finish()
                finished = True
            events = backend.events(0.5)
            for event in events:
                yield from self._handle(event)
            if finished and any(isinstance(event, Exited) for event in events):
                return
            yield None

    def _next_task(self, waiting: Iterator[Task]) -> Task | None:
        """Lost items come before new ones; items that may kill their worker come one at a time."""
        if self._returned:
            return self._plan.task(self._returned.pop())
        if self._suspects and not any(losses >= _SUSPECT_LOSSES for losses in self._submitted.values()):
            return self._plan.task(self._suspects.pop(0))
        return next(waiting, None)

    def _submit(self, backend: WorkerBackend, task: Task) -> Iterator[Settled]:
        try:
            item = self._make_work_item(task)
        except LlasaError as error:
            yield from self._settle(task, Failed(task.number, str(error)))
            return
        self._submitted[task.number] = self._losses.get(task.number, 0)
        backend.submit(item)

    def _handle(self, event: Event) -> Iterator[Settled]:
        if isinstance(event, (Completed, Failed)):
            # A worker that was counted as lost may still have completed the item: the first result counts.
            if event.number in self._submitted:
                del self._submitted[event.number]
                self._losses.pop(event.number, None)
                yield from self._settle(self._plan.task(event.number), event)
        elif isinstance(event, Lost):
            yield from self._return_items(event)
        elif isinstance(event, FatalError):
            raise event.error
        elif isinstance(event, Note):
            self._on_note(event.text)
        elif isinstance(event, Ready):
            self.tally.slots = event.slots
            if self.tally.began is None:
                self.tally.began = time.monotonic()

    def _return_items(self, event: Lost) -> Iterator[Settled]:
        self.tally.lost_workers += 1
        lost = [number for number in event.numbers if number in self._submitted]
        self._on_note(f"a worker has died ({event.reason}); its {len(lost)} items are given to other workers")
        for number in lost:
            losses = self._losses[number] = self._submitted.pop(number) + 1
            if losses >= _MOST_LOSSES:
                self._losses.pop(number)
                reason = f"{losses} workers died while they had this item, the last one by {event.reason}."
                yield from self._settle(self._plan.task(number), Failed(number, reason))
            else:
                (self._suspects if losses >= _SUSPECT_LOSSES else self._returned).append(number)

    def _settle(self, task: Task, outcome: Completed | Failed) -> Iterator[Settled]:
        """Write the file of an item if it came from another machine, and count the item after its row is written."""
        if isinstance(outcome, Completed) and outcome.data is not None:
            problem = _write_file(self._plan.work, self._plan.folder / task.path, outcome.data)
            outcome = Failed(task.number, problem) if problem else outcome
        yield task, outcome
        tally = self.tally
        if not task.problem:  # it was counted among the items to make
            self._left -= 1
            tally.characters += len(task.item.text)
        if isinstance(outcome, Completed):
            tally.made += 1
            tally.seconds += outcome.seconds
            tally.retries += outcome.retries
        else:
            tally.failed += 1


def _write_file(work: Path, target: Path, data: bytes) -> str:
    """Write a file, complete or not at all. -> as `move_to`"""
    part = work / "received"
    with os_errors_as(f"{target} can't be written"), AtomicFile(part) as target_file:
        target_file.file.write(data)
    return move_to(part, target)
