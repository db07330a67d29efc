"""Workers in several processes of this machine, for several GPUs or several cores.

A process that dies gives its items back, and another one is started in its place. When the scheduler's process is gone, even
by a kill, its workers notice the end of their pipe and exit as well.
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
from typing import TYPE_CHECKING

from llasa_cli.batch.messages import Event, Exited, Lost, WorkerConfig, WorkItem
from llasa_cli.batch.worker import run_worker
from llasa_cli.batch.worker_pool import PooledWorker, WorkerPool
from llasa_cli.device import usable_cores
from llasa_cli.errors import UsageError
from llasa_cli.wording import describe_exit

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

_MOST_RESTARTS = 5
"""The number of workers that may die in a row without a completed item."""
_STOP_PATIENCE_S = 5.0


def choose_devices(devices: str | None, device: str, workers: int) -> list[str]:
    """The device of each process.

    Args:
        devices: `0,1`, `cuda:0,cpu`, `all` (GPUs), or None.
        device: The value of `--device`; used if `devices` is None.
        workers: Processes on each device.

    Raises:
        UsageError: A device does not exist here.
    """
    if devices is None:
        return [device] * workers
    if devices.strip() == "all":
        import torch

        found = [f"cuda:{number}" for number in range(torch.cuda.device_count())]
        if not found:
            raise UsageError(
                "--devices all: torch finds no CUDA device here.", "For several CPU processes: --workers 2."
            )
    else:
        found = [f"cuda:{part}" if part.isdigit() else part for part in map(str.strip, devices.split(","))]
    from llasa_cli.device import pick_device

    for name in dict.fromkeys(found):
        pick_device(name)  # refuses a device that does not exist
    return [name for name in found for _ in range(workers)]


class ProcessBackend(WorkerPool["_Worker"]):
    """A `messages.WorkerBackend` with one process for each entry of `devices`."""

    def __init__(self, config: WorkerConfig, devices: list[str]) -> None:
        self._config = config
        self._threads = max(1, usable_cores() // len(devices))
        super().__init__([self._start(device) for device in devices], _MOST_RESTARTS)

    def _start(self, device: str) -> _Worker:
        models = replace(self._config.models, device=device)
        return _Worker(device, replace(self._config, models=models, threads=self._threads))

    def _restart(self, worker: _Worker) -> _Worker:
        return self._start(worker.device)

    def events(self, timeout_s: float) -> list[Event]:
        found: list[Event] = []
        ready = set(wait([worker.pipe for worker in self._workers], timeout_s))
        for worker in [worker for worker in self._workers if worker.pipe in ready]:
            lost = worker.receive(found)
            if lost is not None:
                self._workers.remove(worker)
                if not (worker.has_exited or self._finishing):
                    found.append(lost)
                    self._replace(worker, found)
        self._count_deaths(found)
        if self._finishing and not self._workers:
            found.append(Exited())
        return found

    def finish(self) -> None:
        self._finishing = True
        for worker in self._workers:
            worker.send(None)

    def close(self) -> None:
        for worker in self._workers:
            worker.process.terminate()
        until = time.monotonic() + _STOP_PATIENCE_S
        for worker in self._workers:
            worker.process.join(max(0.0, until - time.monotonic()))
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            worker.pipe.close()


class _Worker(PooledWorker):
    """A process and its pipe."""

    def __init__(self, device: str, config: WorkerConfig) -> None:
        context = multiprocessing.get_context("spawn")
        super().__init__(slots=1)
        self.device = device
        self.pipe, other_end = context.Pipe()
        self.process: SpawnProcess = context.Process(target=_serve, args=(other_end, config), daemon=True)
        self.process.start()
        other_end.close()

    def submit(self, item: WorkItem) -> None:
        self.send(item)

    def send(self, item: WorkItem | None) -> None:
        """Send an item, or None when there are no more."""
        try:
            self.pipe.send(item)
        except OSError:
            return  # the process is gone; the end of the pipe is noticed by `receive`

    def receive(self, into: list[Event]) -> Lost | None:
        """Add the events that have arrived. -> Lost if the process is gone"""
        try:
            while self.pipe.poll():
                into += self.note([self.pipe.recv()])
        except (EOFError, OSError):
            self.process.join(_STOP_PATIENCE_S)
            return Lost(tuple(self.items), describe_exit(self.process.exitcode))
        return None


def _serve(pipe: Connection, config: WorkerConfig) -> None:
    """The main function of a worker's process."""
    # Ctrl-C reaches all processes of a terminal; the scheduler ends its workers by itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    items: queue.Queue[WorkItem | None] = queue.Queue()
    sending = threading.Lock()

    def receive() -> None:
        try:
            while True:
                items.put(pipe.recv())
        except (EOFError, OSError):
            os._exit(1)  # the scheduler is gone

    def emit(event: Event) -> None:
        with sending:
            try:
                pipe.send(event)
            except OSError:
                os._exit(1)

    threading.Thread(target=receive, daemon=True).start()
    run_worker(config, items.get, emit)
