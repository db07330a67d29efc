"""A worker in each of many actors of a Ray cluster: for more than one machine.

Needs the package `ray` (2.x) here and llasa with the model on every node. Pieces go out a few at a time, a lost actor's go to
others, and another actor is asked for in its place; the cluster starts it when it has room. Where a node can reach the output
folder its actors write there themselves; from others the finished files come back to be written here.
"""

from __future__ import annotations

import os
import queue
import socket
import threading
from dataclasses import replace
from typing import Any

from llasa_cli.batch.messages import (
    Completed,
    Event,
    Exited,
    Failed,
    FatalError,
    Lost,
    Ready,
    WorkerConfig,
    WorkItem,
    begin,
    share,
)
from llasa_cli.errors import LlasaError, UsageError

_LISTEN_S = 5.0
"""How long an actor waits for something to tell before it says that there was nothing."""
_MOST_EVENTS = 256
_KNOCK_S = 10.0
_STARTS_AGAIN = 20
"""How often in a row actors may die without any having made anything."""


class Speaker:
    """An actor: `crew.worker.work` in a thread, asked from outside."""

    def __init__(self, orders: WorkerConfig) -> None:
        self._pieces: queue.Queue[WorkItem | None] = queue.Queue()
        self._events: queue.Queue[Event] = queue.Queue()
        threading.Thread(target=self._run, args=(orders,), daemon=True).start()

    def _run(self, orders: WorkerConfig) -> None:
        begin(orders, self._pieces.get, self._events.put)

    def give(self, pieces: list[WorkItem]) -> None:
        for piece in pieces:
            self._pieces.put(piece)

    def finish(self) -> None:
        self._pieces.put(None)

    def events(self) -> list[Event]:
        """What there is to tell; waits for something at most `_LISTEN_S`."""
        found = []
        try:
            found.append(self._events.get(timeout=_LISTEN_S))
            while len(found) < _MOST_EVENTS:
                found.append(self._events.get_nowait())
        except queue.Empty:
            pass
        return found


class RayBackend:
    """See `pieces.WorkerBackend`.

    Args:
        address: Of a running cluster; `auto` finds this machine's, `local` starts one.
        workers: Actors; None takes one for each GPU of the cluster, or each CPU where there is none.

    Raises:
        UsageError: Ray is not installed.
        LlasaError: No cluster there.
    """

    def __init__(self, orders: WorkerConfig, address: str, workers: int | None) -> None:
        self._ray = _ray()
        self._orders = orders
        self._starts_ray = not self._ray.is_initialized()
        if self._starts_ray:
            self._connect(address)
        has = self._ray.cluster_resources()
        gpus, cpus = int(has.get("GPU", 0)), int(has.get("CPU", 1))
        self._needs = {"num_gpus": 1} if gpus and orders.models.device in ("auto", "cuda") else {"num_cpus": 1}
        count = workers or (gpus if "num_gpus" in self._needs else cpus) or 1
        self._finishing = False
        self._fruitless = 0
        self._left = 0
        self._actors = [self._started() for _ in range(count)]

    def _connect(self, address: str) -> None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report to a server
        os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
        where = None if address == "local" else address
        try:
            _knock(address)
            self._ray.init(address=where, log_to_driver=False, logging_level="ERROR")
        except (ConnectionError, ValueError, RuntimeError, OSError) as error:
            raise LlasaError(
                f"There is no Ray cluster at {address}: {str(error).splitlines()[0]}",
                "ray start --head begins one; --ray local takes this machine alone.",
            ) from error

    def _started(self) -> _Actor:
        kind = self._ray.remote(Speaker).options(max_concurrency=4, max_restarts=0, **self._needs)
        orders = self._orders
        if "num_cpus" in self._needs:
            orders = replace(orders, threads=1)
        return _Actor(kind.remote(orders))

    def room(self, left: int) -> int:
        self._left = left
        return max(map(self._room, self._actors), default=0)

    def give(self, piece: WorkItem) -> None:
        max(self._actors, key=self._room).give(piece)

    def _room(self, actor: _Actor) -> int:
        """None before it runs: the cluster may have no place for it."""
        running = sum(other.slots > 0 for other in self._actors)
        return share(actor.slots, self._left, running) - len(actor.has) if actor.slots else 0

    def events(self, timeout_s: float) -> list[Event]:
        for actor in self._actors:
            actor.send()
        asked = {actor.listening(): actor for actor in self._actors}
        if not asked:
            return [Exited()]
        done, _ = self._ray.wait(list(asked), num_returns=len(asked), timeout=0)
        if not done:
            done, _ = self._ray.wait(list(asked), num_returns=1, timeout=timeout_s)
        found: list[Event] = []
        for answer in done:
            self._take(asked[answer], answer, found)
        if any(isinstance(event, (Completed, Failed)) for event in found):
            self._fruitless = 0
        return found

    def _take(self, actor: _Actor, answer: Any, found: list[Event]) -> None:
        try:
            events = self._ray.get(answer)
        except self._ray.exceptions.RayError as error:
            self._actors.remove(actor)
            if not (actor.is_over or self._finishing):
                reason = type(error).__name__
                found.append(Lost(tuple(actor.has), reason))
                self._replace(found)
            return
        found += actor.heard(events)
        if actor.is_over:
            self._actors.remove(actor)

    def _replace(self, found: list[Event]) -> None:
        self._fruitless += 1
        if self._fruitless > _STARTS_AGAIN:
            found.append(
                FatalError(
                    LlasaError(f"{self._fruitless} workers died one after the other.", "Is there memory enough?")
                )
            )
            return
        self._actors.append(self._started())

    def finish(self) -> None:
        self._finishing = True
        for actor in list(self._actors):
            if actor.slots:
                actor.handle.finish.remote()
            else:
                # It never got its place: nobody waits for it.
                self._ray.kill(actor.handle)
                self._actors.remove(actor)

    def close(self) -> None:
        for actor in self._actors:
            self._ray.kill(actor.handle)
        self._actors.clear()
        if self._starts_ray:
            self._ray.shutdown()

    def facts(self) -> dict[str, Any]:
        return {"workers": len(self._actors)}


class _Actor:
    """An actor's handle, what it was given, and the question it has not answered yet."""

    def __init__(self, handle: Any) -> None:
        self.handle = handle
        self.slots = 0
        self.is_over = False
        self.has: set[int] = set()
        self._to_send: list[WorkItem] = []
        self._listening: Any = None

    def give(self, piece: WorkItem) -> None:
        self.has.add(piece.number)
        self._to_send.append(piece)

    def send(self) -> None:
        """One call for all that was given since the last."""
        if self._to_send:
            self.handle.give.remote(self._to_send)
            self._to_send = []

    def listening(self) -> Any:
        if self._listening is None:
            self._listening = self.handle.events.remote()
        return self._listening

    def heard(self, events: list[Event]) -> list[Event]:
        self._listening = None
        kept: list[Event] = []
        for event in events:
            if isinstance(event, Exited):
                self.is_over = True
                continue
            if isinstance(event, Ready):
                self.slots = event.slots
            elif isinstance(event, (Completed, Failed)):
                self.has.discard(event.number)
            kept.append(event)
        return kept


def _knock(address: str) -> None:
    """Ray asks at an address where nobody is for more than a minute; raises OSError at once."""
    host, _, port = address.rpartition(":")
    if host and "/" not in host and port.isdigit():
        socket.create_connection((host, int(port)), _KNOCK_S).close()


def _ray() -> Any:
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise UsageError("--ray needs the package ray.", "pip install 'llasa-cli[ray]'") from error
    return ray
