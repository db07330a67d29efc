"""Every item is made once, whatever happens to the workers."""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llasa_cli.batch.manifest import Item
from llasa_cli.batch.messages import Completed, Event, Exited, Failed, FatalError, Lost, Note, Ready, WorkItem
from llasa_cli.batch.plan import Plan, Task
from llasa_cli.batch.results import Results
from llasa_cli.batch.scheduler import Scheduler, Settled, Tally
from llasa_cli.errors import LlasaError
from llasa_cli.settings import SpeechOptions


class FakeBackend:
    """Follows a script: for each item "made", "failed", "lost", "fatal" or "twice"."""

    def __init__(self, script: dict[int, list[str]], capacity: int = 3) -> None:
        self.script, self._capacity = script, capacity
        self.submitted: list[int] = []
        self.most = 0
        self._with: list[WorkItem] = []
        self._events: deque[Event] = deque([Ready(5), Note("loaded")])
        self.finished = False

    def capacity(self, left: int) -> int:
        return self._capacity - len(self._with)

    def submit(self, item: WorkItem) -> None:
        assert not self.finished
        self.submitted.append(item.number)
        self._with.append(item)
        self.most = max(self.most, len(self._with))

    def events(self, timeout_s: float) -> list[Event]:
        if self._with:
            item = self._with.pop(random.Random(len(self.submitted)).randrange(len(self._with)))
            fate = self.script.get(item.number, [])
            what = fate.pop(0) if fate else "made"
            if what == "lost":
                everything = [item.number, *(other.number for other in self._with)]
                self._with.clear()
                self._events.append(Lost(tuple(everything), "SIGKILL"))
            elif what == "failed":
                self._events.append(Failed(item.number, "It can't be said."))
            elif what == "fatal":
                self._events.append(FatalError(LlasaError("The disk is full.")))
            else:
                self._events += [made(item.number)] * (2 if what == "twice" else 1)
        elif self.finished:
            self._events.append(Exited())
        found, self._events = list(self._events), deque()
        return found

    def finish(self) -> None:
        self.finished = True

    def close(self) -> None:
        pass

    def facts(self) -> dict[str, Any]:
        return {}


def made(number: int, data: bytes | None = None) -> Completed:
    return Completed(number, 1.0, 7, 0, (), 0.5, data=data)


def make_work_item(task: Task) -> WorkItem:
    if task.item.text == "unspeakable":
        raise LlasaError("The clip was not understood.")
    return WorkItem(task.number, task.item.text, task.path, SpeechOptions(seed=1))


def schedulern(folder: Path, backend: FakeBackend, texts: list[str], problems: dict[int, str] | None = None) -> Any:
    def row_of(task: Task, event: Completed | Failed) -> dict[str, Any]:
        row = {"id": task.item.id, "path": task.path, "status": "ok" if isinstance(event, Completed) else "error"}
        return row | ({"error": event.error} if isinstance(event, Failed) else {})

    notes: list[str] = []
    with Results(folder) as results, Plan(folder, "wav") as plan:
        for number, text in enumerate(texts, 1):
            plan.add(Item(number, str(number), str(number), text), "k", problem=(problems or {}).get(number, ""))
        scheduler = Scheduler(plan, make_work_item, notes.append)

        def drain(settled_items: Iterator[Settled | None]) -> None:
            for settled in settled_items:
                if settled is not None:
                    task, outcome = settled
                    plan.settle(task.number, results.append(row_of(*settled)), isinstance(outcome, Completed))

        drain(scheduler.invalid())
        try:
            if scheduler.tally.to_make:
                drain(scheduler.run(backend))
        finally:
            results.reorder(plan.rows_in_order())
            kept = [row for _, row in results.rows()]
    return scheduler.tally, kept, notes


def test_every_item_is_made_once_within_the_capacity(tmp_path: Path) -> None:
    backend = FakeBackend({4: ["twice"]})
    tally, rows, notes = schedulern(tmp_path, backend, ["hello"] * 50)
    assert sorted(backend.submitted) == list(range(1, 51))
    assert backend.most == 3
    assert [row["id"] for row in rows] == [str(number) for number in range(1, 51)]
    assert (tally.made, tally.failed, tally.slots, tally.left_s) == (50, 0, 5, 0.0)
    assert notes == ["loaded"]


def test_the_items_of_a_lost_worker_are_given_to_others(tmp_path: Path) -> None:
    backend = FakeBackend({number: ["lost"] for number in (2, 9, 10, 11, 40)})
    tally, rows, _ = schedulern(tmp_path, backend, ["hello"] * 50)
    assert tally.lost_workers >= 4
    assert [(row["id"], row["status"]) for row in rows] == [(str(number), "ok") for number in range(1, 51)]


def test_an_item_that_kills_its_workers_fails(tmp_path: Path) -> None:
    backend = FakeBackend({3: ["lost"] * 9}, capacity=2)
    tally, rows, _ = schedulern(tmp_path, backend, ["hello"] * 5)
    assert backend.submitted.count(3) == 5
    assert [row["status"] for row in rows] == ["ok", "ok", "error", "ok", "ok"]
    assert "5 workers died while they had this item" in rows[2]["error"]
    assert (tally.made, tally.failed) == (4, 1)


def test_bad_items_of_every_kind_do_not_stop_the_rest(tmp_path: Path) -> None:
    backend = FakeBackend({4: ["failed"]})
    texts = ["hello", "", "unspeakable", "hello", "hello"]
    tally, rows, _ = schedulern(tmp_path, backend, texts, {2: "The text is empty."})
    assert backend.submitted == [1, 4, 5]
    assert [row.get("error") for row in rows] == [
        None,
        "The text is empty.",
        "The clip was not understood.",
        "It can't be said.",
        None,
    ]
    assert (tally.made, tally.failed) == (2, 3)


def test_bad_items_alone_need_no_worker(tmp_path: Path) -> None:
    tally, rows, _ = schedulern(tmp_path, FakeBackend({}), ["", ""], {1: "The text is empty.", 2: "The text is empty."})
    assert (len(rows), tally.failed, tally.to_make) == (2, 2, 0)
    assert schedulern(tmp_path, FakeBackend({}), ["unspeakable"])[0].failed == 1


def test_a_fatal_error_ends_the_run_and_keeps_complete_items(tmp_path: Path) -> None:
    with pytest.raises(LlasaError, match="disk is full"):
        schedulern(tmp_path, FakeBackend({5: ["fatal"]}, capacity=1), ["hello"] * 9)
    with Results(tmp_path) as results:
        assert len(list(results.rows())) == 4


def test_a_file_from_another_machine_is_put_in_its_place(tmp_path: Path) -> None:
    class Far(FakeBackend):
        def events(self, timeout_s: float) -> list[Event]:
            return [
                made(event.number, b"sound") if isinstance(event, Completed) else event for event in super().events(1)
            ]

    schedulern(tmp_path, Far({}), ["hello"] * 2)
    assert [(tmp_path / name).read_bytes() for name in ("1.wav", "2.wav")] == [b"sound"] * 2


def test_the_time_left_is_estimated_from_the_characters() -> None:
    tally = Tally(10, 0, 10, 1000)
    assert tally.left_s is None
    tally.characters = 250
    tally.began = time.monotonic() - 10.0
    assert tally.left_s == pytest.approx(30.0, rel=0.01)
