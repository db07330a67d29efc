"""A worker in each of several processes of this machine: for several GPUs, or several cores.

A process that dies gives back what it had, and another is started in its place. When the one that shares out is gone, even by
a kill, its workers see the end of their pipe and end too.
"""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import threading
import time
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

_STARTS_AGAIN = 5
"""How often in a row workers may die without having made anything."""
_PATIENCE_S = 5.0


def devices_of(devices: str | None, device: str, workers: int) -> list[str]:
    """A device for each process.

    Args:
        devices: `0,1`, `cuda:0,cpu`, `all` (GPUs), or None.
        device, workers: What `--device` and `--workers` say: so many processes on each.

    Raises:
        UsageError: No such list.
    """
    if devices is None:
        return [device] * workers
    if devices.strip() == "all":
        import torch

        found = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
        if not found:
            raise UsageError("--devices all: torch finds no CUDA device here.", "--workers 2 takes processes instead.")
    else:
        found = [f"cuda:{part}" if part.isdigit() else part for part in map(str.strip, devices.split(","))]
    from llasa_cli.device import pick_device

    for name in dict.fromkeys(found):
        pick_device(name)  # refuses what is not here
    return [name for name in found for _ in range(workers)]


class ProcessBackend:
    """See `pieces.WorkerBackend`.

    Args:
        devices: One for each process.
    """

    def __init__(self, orders: WorkerConfig, devices: list[str]) -> None:
        self._orders = orders
        self._finishing = False
        self._fruitless = 0
        self._left = 0
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self._threads = max(1, cores // len(devices))
        self._workers = [self._started(device) for device in devices]

    def _started(self, device: str) -> _Worker:
        orders = replace(self._orders, models=replace(self._orders.models, device=device), threads=self._threads)
        return _Worker(device, orders)

    def room(self, left: int) -> int:
        self._left = left
        return max((self._room(worker) for worker in self._workers), default=0)

    def give(self, piece: WorkItem) -> None:
        """To whom has most room."""
        max(self._workers, key=self._room).give(piece)

    def _room(self, worker: _Worker) -> int:
        return share(worker.slots, self._left, len(self._workers)) - len(worker.has)

    def events(self, timeout_s: float) -> list[Event]:
        found: list[Event] = []
        ready = set(wait([worker.pipe for worker in self._workers], timeout_s))
        for worker in [worker for worker in self._workers if worker.pipe in ready]:
            lost = worker.take_events(found)
            if lost is not None:
                self._workers.remove(worker)
                if not (worker.is_over or self._finishing):
                    found.append(lost)
                    self._replace(worker, found)
        if any(isinstance(event, (Completed, Failed)) for event in found):
            self._fruitless = 0
        if self._finishing and not self._workers:
            found.append(Exited())
        return found

    def _replace(self, worker: _Worker, found: list[Event]) -> None:
        self._fruitless += 1
        if self._fruitless > _STARTS_AGAIN:
            found.append(
                FatalError(
                    LlasaError(f"{self._fruitless} workers died one after the other.", "Is there memory enough?")
                )
            )
            return
        self._workers.append(self._started(worker.device))

    def finish(self) -> None:
        self._finishing = True
        for worker in self._workers:
            worker.give(None)

    def close(self) -> None:
        for worker in self._workers:
            worker.process.terminate()
        until = time.monotonic() + _PATIENCE_S
        for worker in self._workers:
            worker.process.join(max(0.0, until - time.monotonic()))
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.pipe.close()

    def facts(self) -> dict[str, Any]:
        return {"workers": len(self._workers)}


class _Worker:
    """A process, its pipe, and what it was given."""

    def __init__(self, device: str, orders: WorkerConfig) -> None:
        context = multiprocessing.get_context("spawn")
        self.device = device
        self.pipe, theirs = context.Pipe()
        self.slots = 1
        self.is_over = False
        self.has: set[int] = set()
        self.process: SpawnProcess = context.Process(target=_serve, args=(theirs, orders), daemon=True)
        self.process.start()
        theirs.close()

    def give(self, piece: WorkItem | None) -> None:
        if piece is not None:
            self.has.add(piece.number)
        try:
            self.pipe.send(piece)
        except OSError:
            return  # it is gone: the pipe's end says so next

    def take_events(self, into: list[Event]) -> Lost | None:
        """What it says; Lost when it says nothing any more."""
        try:
            while self.pipe.poll():
                event: Event = self.pipe.recv()
                if isinstance(event, Exited):
                    self.is_over = True
                    continue
                if isinstance(event, Ready):
                    self.slots = event.slots
                elif isinstance(event, (Completed, Failed)):
                    self.has.discard(event.number)
                into.append(event)
        except (EOFError, OSError):
            self.process.join(_PATIENCE_S)
            return Lost(tuple(self.has), _cause(self.process.exitcode))
        return None


def _cause(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        try:
            return signal.Signals(-exit_code).name
        except ValueError:
            return f"signal {-exit_code}"
    return f"exit code {exit_code}"


def _serve(pipe: Connection, orders: WorkerConfig) -> None:
    """The worker's process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to all of a terminal; who shares out ends the others
    pieces: queue.Queue[WorkItem | None] = queue.Queue()
    said = threading.Lock()

    def read() -> None:
        try:
            while True:
                piece = pipe.recv()
                pieces.put(piece)
        except (EOFError, OSError):
            os._exit(1)  # nobody is there to be told

    def tell(event: Event) -> None:
        with said:
            try:
                pipe.send(event)
            except OSError:
                os._exit(1)

    threading.Thread(target=read, daemon=True).start()
    begin(orders, pieces.get, tell)
