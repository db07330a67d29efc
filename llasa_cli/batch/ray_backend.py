"""Workers in the actors of a Ray cluster, for several machines.

It needs the package `ray` (2.x) here, and llasa with the model on every node. Items are sent a few at a time. The items of a
lost actor go to others, and the cluster is asked for another actor, which it starts when it has room. Actors write into the
output folder themselves if their node can reach it; from other nodes the files are sent back and written here.
"""

from __future__ import annotations

import os
import queue
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from llasa_cli.batch.messages import Event, Exited, FatalError, Lost, WorkerConfig, WorkItem
from llasa_cli.batch.thread_backend import drain
from llasa_cli.batch.worker import run_worker
from llasa_cli.batch.worker_pool import PooledWorker, WorkerPool
from llasa_cli.errors import LlasaError, UsageError
from llasa_cli.settings import BUILT_IN_MODEL, ModelOptions
from llasa_cli.wording import first_line

_POLL_S = 5.0
"""The time that an actor waits for an event before it returns an empty list."""
_MOST_EVENTS = 256
_CONNECT_TIMEOUT_S = 10.0
_MOST_RESTARTS = 20
"""The number of actors that may die in a row without a completed item."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Let the exception of a signal's handler pass calls of Ray, whose compiled code raises SystemError because of it."""
    try:
        yield
    except SystemError as error:
        raise error.__cause__ or error from None


class Speaker:
    """The actor: `run_worker` in a thread, with methods that the scheduler calls."""

    def __init__(self, config: WorkerConfig) -> None:
        self._items: queue.Queue[WorkItem | None] = queue.Queue()
        self._events: queue.Queue[Event] = queue.Queue()
        threading.Thread(target=run_worker, args=(config, self._items.get, self._emit), daemon=True).start()

    def _emit(self, event: Event) -> None:
        if isinstance(event, FatalError):  # such as a model that is only on the other machines
            event.error.message = f"On the node {socket.gethostname()}: {event.error.message}"
        self._events.put(event)

    def submit(self, items: list[WorkItem]) -> None:
        for item in items:
            self._items.put(item)

    def finish(self) -> None:
        self._items.put(None)

    def events(self) -> list[Event]:
        """The events since the last call. Waits at most `_POLL_S` for the first one."""
        return drain(self._events, _POLL_S, _MOST_EVENTS)


class RayBackend(WorkerPool["_Actor"]):
    """A `messages.WorkerBackend` with the actors of a Ray cluster.

    Args:
        address: The address of a running cluster; `auto` finds the one of this machine, `local` starts one.
        workers: The number of actors; None: one for each GPU of the cluster, or for each CPU if it has no GPU.

    Raises:
        UsageError: Ray is not installed.
        LlasaError: There is no cluster at this address.
    """

    @interruptible()
    def __init__(self, config: WorkerConfig, address: str, workers: int | None) -> None:
        self._config = replace(config, models=for_other_machines(config.models))
        self._ray, self._starts_ray = connect_ray(address)
        resources = self._ray.cluster_resources()
        gpus, cpus = int(resources.get("GPU", 0)), int(resources.get("CPU", 1))
        self._needs = {"num_gpus": 1} if gpus and config.models.device in ("auto", "cuda") else {"num_cpus": 1}
        count = workers or (gpus if "num_gpus" in self._needs else cpus) or 1
        super().__init__([self._start() for _ in range(count)], _MOST_RESTARTS)

    def _restart(self, worker: _Actor) -> _Actor:
        return self._start()

    def _start(self) -> _Actor:
        actor_class = self._ray.remote(Speaker).options(max_concurrency=4, max_restarts=0, **self._needs)
        config = replace(self._config, threads=1) if "num_cpus" in self._needs else self._config
        return _Actor(actor_class.remote(config))

    @interruptible()
    def events(self, timeout_s: float) -> list[Event]:
        for actor in self._workers:
            actor.send()
        calls = {actor.events_call(): actor for actor in self._workers}
        if not calls:
            return [Exited()]
        done, _ = self._ray.wait(list(calls), num_returns=len(calls), timeout=0)
        if not done:
            done, _ = self._ray.wait(list(calls), num_returns=1, timeout=timeout_s)
        found: list[Event] = []
        for call in done:
            self._receive(calls[call], call, found)
        self._count_deaths(found)
        return found

    def _receive(self, actor: _Actor, call: Any, found: list[Event]) -> None:
        try:
            events = self._ray.get(call)
        except self._ray.exceptions.RayError as error:
            self._workers.remove(actor)
            has_failed = isinstance(error, self._ray.exceptions.RayTaskError) or getattr(
                error, "actor_init_failed", False
            )
            if has_failed and not actor.slots:
                found.append(FatalError(_start_error(error)))
            elif not (actor.has_exited or self._finishing):
                found.append(Lost(tuple(actor.items), type(error).__name__))
                self._replace(actor, found)
            return
        found += actor.received(events)
        if actor.has_exited:
            self._workers.remove(actor)

    @interruptible()
    def finish(self) -> None:
        self._finishing = True
        for actor in list(self._workers):
            if actor.slots:
                actor.handle.finish.remote()
            else:
                # The cluster had no room for it, so it is not waited for.
                self._ray.kill(actor.handle)
                self._workers.remove(actor)

    def close(self) -> None:
        for actor in self._workers:
            self._ray.kill(actor.handle)
        self._workers.clear()
        if self._starts_ray:
            self._ray.shutdown()


class _Actor(PooledWorker):
    """The handle of an actor, and the call of `events` that is still open. It has no slots before the cluster has room for it."""

    def __init__(self, handle: Any) -> None:
        super().__init__(slots=0)
        self.handle = handle
        self._unsent: list[WorkItem] = []
        self._events_call: Any = None

    def submit(self, item: WorkItem) -> None:
        self._unsent.append(item)

    def send(self) -> None:
        """Send all items that were submitted since the last call."""
        if self._unsent:
            self.handle.submit.remote(self._unsent)
            self._unsent = []

    def events_call(self) -> Any:
        if self._events_call is None:
            self._events_call = self.handle.events.remote()
        return self._events_call

    def received(self, events: list[Event]) -> list[Event]:
        self._events_call = None
        return self.note(events)


def _start_error(error: Exception) -> LlasaError:
    """The error of an actor that could not be created. Ray's report ends with the reason; another attempt would fail as well."""
    reason = [line for line in str(error).splitlines() if line.strip()][-1:] or [type(error).__name__]
    return LlasaError(
        f"A worker can't be started on a node of the cluster: {reason[0].strip()}",
        "Install llasa in the same version on every node.",
    )


def connect_ray(address: str) -> tuple[Any, bool]:
    """Connect this process to a cluster.

    Args:
        address: See `RayBackend`.

    Returns:
        The module `ray`, and whether the caller has to shut the connection down: it did not exist before.

    Raises:
        UsageError: Ray is not installed.
        LlasaError: There is no cluster at this address.
    """
    os.environ.setdefault(
        "RAY_ENABLE_AUTO_CONNECT", "0"
    )  # a call after the end would start another cluster; read at import
    ray = _import_ray()
    if ray.is_initialized():
        return ray, False
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report to a server
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    hint = "Start one with `ray start --head`; --ray local uses this machine alone."
    try:
        if _is_reachable(address):
            hint = (
                "Its port answers. If the cluster has a token, copy ~/.ray/auth_token from the machine of"
                " `ray start --head` and set RAY_AUTH_MODE=token."
            )
        # The dashboard of a new cluster is a port on which every user of this machine could start programs. Without an address
        # Ray would join the cluster of RAY_ADDRESS, or the last one that was started here, even if that is gone.
        new_cluster = {"include_dashboard": False} if address == "local" else {}
        with interruptible():
            ray.init(address=address, log_to_driver=False, logging_level="ERROR", **new_cluster)
    except Exception as error:  # Ray raises `Exception` itself if a node does not start in time
        if address == "local":
            raise LlasaError(f"Ray can't be started: {first_line(error)}", "The machine may be too busy.") from error
        raise LlasaError(f"No Ray cluster can be used at {address}: {first_line(error)}", hint) from error
    finally:
        with suppress(ValueError):  # not in the main thread, where Ray sets none either
            for number, handler in handlers.items():
                signal.signal(number, handler)
    return ray, True


def for_other_machines(models: ModelOptions) -> ModelOptions:
    """Replace relative paths by absolute ones, which don't depend on this process's working folder."""

    def absolute(name: str | None) -> str | None:
        path = None if name is None or name == BUILT_IN_MODEL else Path(name).expanduser()
        return str(path.absolute()) if path is not None and path.exists() else name

    return replace(
        models,
        model=absolute(models.model) or models.model,
        codec=absolute(models.codec),
        adapter=absolute(models.adapter),
    )


def _is_reachable(address: str) -> bool:
    """Whether the address is a host and a port that answers.

    Raises:
        OSError: There is no server. Ray itself would try for more than a minute.
    """
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdigit():
        return False
    socket.create_connection((host, int(port)), _CONNECT_TIMEOUT_S).close()
    return True


def _import_ray() -> Any:
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise UsageError("--ray needs the package ray.", "Install it: pip install 'llasa-cli[ray]'") from error
    return ray
