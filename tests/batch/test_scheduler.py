"""Pieces go out and come back, whatever becomes of those who have them."""

from __future__ import annotations

import random
import time
from collections import deque
from pathlib import Path
from typing import Any

import pytest

from llasa_cli.batch.manifest import Item
from llasa_cli.batch.messages import Completed, Event, Exited, Failed, FatalError, Lost, Note, Ready, WorkItem
from llasa_cli.batch.plan import Plan, Task
from llasa_cli.batch.results import Results
from llasa_cli.batch.scheduler import Scheduler, Tally
from llasa_cli.errors import LlasaError
from llasa_cli.settings import SpeechOptions


class FakeCrew:
    """Does as a script says: for each piece "made", "failed", "lost", "broken" or "twice"."""

    def __init__(self, script: dict[int, list[str]], room: int = 3) -> None:
        self.script, self._room = script, room
        self.given: list[int] = []
        self.most = 0
        self._with: list[WorkItem] = []
        self._events: deque[Event] = deque([Ready(5), Note("loaded")])
        self.finished = False

    def room(self, left: int) -> int:
        return self._room - len(self._with)

    def give(self, piece: WorkItem) -> None:
        assert not self.finished
        self.given.append(piece.number)
        self._with.append(piece)
        self.most = max(self.most, len(self._with))

    def events(self, timeout_s: float) -> list[Event]:
        if self._with:
            piece = self._with.pop(random.Random(len(self.given)).randrange(len(self._with)))
            fate = self.script.get(piece.number, [])
            what = fate.pop(0) if fate else "made"
            if what == "lost":
                everything = [piece.number, *(other.number for other in self._with)]
                self._with.clear()
                self._events.append(Lost(tuple(everything), "SIGKILL"))
            elif what == "failed":
                self._events.append(Failed(piece.number, "It can't be said."))
            elif what == "broken":
                self._events.append(FatalError(LlasaError("The disk is full.")))
            else:
                self._events += [made(piece.number)] * (2 if what == "twice" else 1)
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


def piece_of(task: Task) -> WorkItem:
    if task.item.text == "unspeakable":
        raise LlasaError("The clip was not understood.")
    return WorkItem(task.number, task.item.text, task.path, SpeechOptions(seed=1))


def driven(folder: Path, crew: FakeCrew, texts: list[str], problems: dict[int, str] | None = None) -> Any:
    rows: list[dict[str, Any]] = []

    def row_of(task: Task, event: Completed | Failed) -> dict[str, Any]:
        row = {"id": task.item.id, "path": task.path, "status": "ok" if isinstance(event, Completed) else "error"}
        return row | ({"error": event.error} if isinstance(event, Failed) else {})

    notes: list[str] = []
    with Results(folder) as results, Plan(folder, "wav") as plan:
        for number, text in enumerate(texts, 1):
            plan.add(Item(number, str(number), str(number), text), "k", problem=(problems or {}).get(number, ""))
        drive = Scheduler(plan, results, piece_of, row_of, rows.append, notes.append, lambda tally: None)
        drive.fail_bad()
        try:
            if drive.tally.to_make:
                drive.run(crew)
        finally:
            results.put_in_order(plan.rows_in_order())
            kept = [row for _, row in results.rows()]
    return drive.tally, kept, notes


def test_everything_is_made_once_and_no_more_is_out_than_there_is_room(tmp_path: Path) -> None:
    crew = FakeCrew({4: ["twice"]})
    tally, rows, notes = driven(tmp_path, crew, ["hello"] * 50)
    assert sorted(crew.given) == list(range(1, 51))
    assert crew.most == 3
    assert [row["id"] for row in rows] == [str(number) for number in range(1, 51)]
    assert (tally.made, tally.failed, tally.slots, tally.left_s) == (50, 0, 5, 0.0)
    assert notes == ["loaded"]


def test_what_a_lost_worker_had_goes_to_others(tmp_path: Path) -> None:
    crew = FakeCrew({number: ["lost"] for number in (2, 9, 10, 11, 40)})
    tally, rows, _ = driven(tmp_path, crew, ["hello"] * 50)
    assert tally.lost_workers >= 4
    assert [(row["id"], row["status"]) for row in rows] == [(str(number), "ok") for number in range(1, 51)]


def test_an_item_that_kills_its_workers_is_given_up(tmp_path: Path) -> None:
    crew = FakeCrew({3: ["lost"] * 9}, room=2)
    tally, rows, _ = driven(tmp_path, crew, ["hello"] * 5)
    assert crew.given.count(3) == 5
    assert [row["status"] for row in rows] == ["ok", "ok", "error", "ok", "ok"]
    assert "5 workers died while they had it" in rows[2]["error"]
    assert (tally.made, tally.failed) == (4, 1)


def test_bad_items_of_every_kind_do_not_stop_the_rest(tmp_path: Path) -> None:
    crew = FakeCrew({4: ["failed"]})
    texts = ["hello", "", "unspeakable", "hello", "hello"]
    tally, rows, _ = driven(tmp_path, crew, texts, {2: "The text is empty."})
    assert crew.given == [1, 4, 5]
    assert [row.get("error") for row in rows] == [
        None,
        "The text is empty.",
        "The clip was not understood.",
        "It can't be said.",
        None,
    ]
    assert (tally.made, tally.failed) == (2, 3)


def test_nothing_but_bad_items_needs_no_worker(tmp_path: Path) -> None:
    tally, rows, _ = driven(tmp_path, FakeCrew({}), ["", ""], {1: "The text is empty.", 2: "The text is empty."})
    assert (len(rows), tally.failed, tally.to_make) == (2, 2, 0)
    assert driven(tmp_path, FakeCrew({}), ["unspeakable"])[0].failed == 1


def test_what_fails_for_all_ends_the_run_and_keeps_what_is_made(tmp_path: Path) -> None:
    with pytest.raises(LlasaError, match="disk is full"):
        driven(tmp_path, FakeCrew({5: ["broken"]}, room=1), ["hello"] * 9)
    with Results(tmp_path) as results:
        assert len(list(results.rows())) == 4


def test_a_file_that_comes_over_the_network_is_put_in_its_place(tmp_path: Path) -> None:
    class Far(FakeCrew):
        def events(self, timeout_s: float) -> list[Event]:
            return [
                made(event.number, b"sound") if isinstance(event, Completed) else event for event in super().events(1)
            ]

    driven(tmp_path, Far({}), ["hello"] * 2)
    assert [(tmp_path / name).read_bytes() for name in ("1.wav", "2.wav")] == [b"sound"] * 2


def test_the_time_left_is_told_by_what_is_to_be_said() -> None:
    tally = Tally(10, 0, 10, 1000)
    assert tally.left_s is None
    tally.characters = 250
    tally.began = time.monotonic() - 10.0
    assert tally.left_s == pytest.approx(30.0, rel=0.01)
