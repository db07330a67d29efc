"""A plan and a crew -> files and rows: gives pieces out, writes down what comes back.

    Scheduler(plan, results, crew, pieces, rows, tell).run()

The only writer of `results.jsonl`; nothing here grows with the length of the list.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
from llasa_cli.batch.results import Results
from llasa_cli.errors import LlasaError
from llasa_cli.files import move_to

_SYNC_S = 2.0
_SUSPECT = 2
"""An item that was with so many workers when they died may be why: of such only one is out at a time."""
_MOST_LOSSES = 5
"""And after so many it is given up."""


@dataclass
class Tally:
    """How far a run is.

    Attributes:
        seconds: Of sound made.
        characters: Settled, of those to be made: what the time left is told from.
    """

    all: int
    there: int
    to_make: int
    characters_to_make: int
    made: int = 0
    failed: int = 0
    seconds: float = 0.0
    characters: int = 0
    retries: int = 0
    lost_workers: int = 0
    slots: int = 0
    began: float = 0.0

    @property
    def wall_s(self) -> float:
        return time.monotonic() - self.began

    @property
    def left_s(self) -> float | None:
        """Until all is made, if it goes on as it went; None while nobody knows."""
        if not self.characters:
            return None
        return self.wall_s * (self.characters_to_make - self.characters) / self.characters


class Scheduler:
    """See the module.

    Args:
        piece_of: A task as a worker is given it. Raises LlasaError for one that can't be.
        row_of: (task, what became of it) -> its row.
        on_row: Told each row once it is written down.
        on_note: Told sentences for the user.
        on_progress: Called often.
    """

    def __init__(
        self,
        plan: Plan,
        results: Results,
        piece_of: Callable[[Task], WorkItem],
        row_of: Callable[[Task, Completed | Failed], dict[str, Any]],
        on_row: Callable[[dict[str, Any]], None],
        on_note: Callable[[str], None],
        on_progress: Callable[[Tally], None],
    ) -> None:
        counts = plan.counts()
        self._plan, self._results = plan, results
        self._piece_of, self._row_of = piece_of, row_of
        self._on_row, self._on_note, self._on_progress = on_row, on_note, on_progress
        self.tally = Tally(counts.all, counts.there, counts.to_make, counts.characters, began=time.monotonic())
        self._out: dict[int, int] = {}
        """Pieces with a worker -> how often they were lost before."""
        self._back: list[int] = []
        self._suspects: list[int] = []
        self._left = counts.to_make
        self._losses: dict[int, int] = {}
        self._synced = time.monotonic()

    def fail_bad(self) -> None:
        """Write down what was found to be impossible before anything was loaded."""
        for task in self._plan.bad():
            self._settle(task, Failed(task.number, task.problem))

    def run(self, crew: WorkerBackend) -> None:
        """Have everything made that is to be made.

        Raises:
            LlasaError: What fails for all: the model, the disk. What is made stays.
        """
        waiting = self._plan.waiting()
        finished = False
        while True:
            while crew.room(self._left) > 0 and (task := self._next(waiting)) is not None:
                self._give(crew, task)
            if not self._left and not finished:
                crew.finish()
                finished = True
            events = crew.events(0.5)
            for event in events:
                self._take(event)
            if finished and any(isinstance(event, Exited) for event in events):
                break
            self._on_progress(self.tally)
            if time.monotonic() - self._synced > _SYNC_S:
                self._results.sync()
                self._synced = time.monotonic()
        self._results.sync()

    def _next(self, waiting: Iterator[Task]) -> Task | None:
        """What was lost before what is new; of what may kill its worker, one after the other."""
        if self._back:
            return self._plan.task(self._back.pop())
        if self._suspects and not any(losses >= _SUSPECT for losses in self._out.values()):
            return self._plan.task(self._suspects.pop(0))
        return next(waiting, None)

    def _give(self, crew: WorkerBackend, task: Task) -> None:
        try:
            piece = self._piece_of(task)
        except LlasaError as error:
            self._settle(task, Failed(task.number, f"{error.message} {error.hint}".strip()))
            return
        self._out[task.number] = self._losses.get(task.number, 0)
        crew.give(piece)

    def _take(self, event: Event) -> None:
        if isinstance(event, (Completed, Failed)):
            # A worker that was taken for lost may still have finished: the first word counts.
            if event.number in self._out:
                del self._out[event.number]
                self._losses.pop(event.number, None)
                self._settle(self._plan.task(event.number), event)
        elif isinstance(event, Lost):
            self._take_back(event)
        elif isinstance(event, FatalError):
            raise event.error
        elif isinstance(event, Note):
            self._on_note(event.text)
        elif isinstance(event, Ready):
            self.tally.slots = event.slots

    def _take_back(self, event: Lost) -> None:
        self.tally.lost_workers += 1
        lost = [number for number in event.numbers if number in self._out]
        self._on_note(f"a worker is gone ({event.reason}); the {len(lost)} items that it had go to others")
        for number in lost:
            losses = self._losses[number] = self._out.pop(number) + 1
            if losses >= _MOST_LOSSES:
                self._losses.pop(number)
                why = f"{losses} workers died while they had it: the last of them by {event.reason}."
                self._settle(self._plan.task(number), Failed(number, why))
            else:
                (self._suspects if losses >= _SUSPECT else self._back).append(number)

    def _settle(self, task: Task, event: Completed | Failed) -> None:
        if isinstance(event, Completed) and event.data is not None:
            problem = _put(self._plan.work, self._plan.folder / task.path, event.data)
            event = Failed(task.number, problem) if problem else event
        row = self._row_of(task, event)
        self._plan.settle(task.number, self._results.append(row), isinstance(event, Completed))
        self._left -= not task.problem
        tally = self.tally
        if isinstance(event, Completed):
            tally.made += 1
            tally.seconds += event.seconds
            tally.retries += event.retries
            tally.characters += len(task.item.text)
        else:
            tally.failed += 1
            if not task.problem:
                tally.characters += len(task.item.text)
        self._on_row(row)


def _put(work: Path, target: Path, data: bytes) -> str:
    """A file that came over the network, whole or not at all. -> as `move_to`."""
    part = work / f"{os.getpid()}.part"
    try:
        with part.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise LlasaError(f"{target} can't be written: {error.strerror}.") from error
    return move_to(part, target)
