"""The actors of a Ray cluster that can't work, with a stand-in for the package `ray`."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from llasa_cli.batch import ray_backend
from llasa_cli.batch.messages import Event, FatalError, Lost, WorkerConfig
from llasa_cli.batch.ray_backend import RayBackend, Speaker
from llasa_cli.cli.console import Terminated
from llasa_cli.errors import ModelError
from llasa_cli.settings import ModelOptions

CONFIG = WorkerConfig(ModelOptions(), Path(), Path())


class RayError(Exception):
    pass


class RayTaskError(RayError):
    pass


class RayActorError(RayError):
    actor_init_failed = False


class FailedCreation(RayActorError):
    actor_init_failed = True


class FakeRay:
    """A cluster of two processors, each of whose calls raises `error`."""

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError, RayActorError=RayActorError)

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.created = 0

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 2.0}

    def remote(self, actor_class: type) -> Any:
        return SimpleNamespace(options=lambda **needs: SimpleNamespace(remote=self._create))

    def _create(self, config: WorkerConfig) -> Any:
        self.created += 1
        return SimpleNamespace(events=SimpleNamespace(remote=object))

    def wait(self, calls: list[Any], num_returns: int, timeout: float) -> tuple[list[Any], list[Any]]:
        return calls, []

    def get(self, call: Any) -> Any:
        raise self.error

    def kill(self, handle: Any) -> None:
        pass


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RayTaskError("Traceback:\n  File x\nModuleNotFoundError: No module named 'llasa_cli'\n"), "No module named"),
        (FailedCreation("The actor died because of an error\nOSError: no space"), "OSError: no space"),
        (RayActorError("The node is gone."), None),
    ],
)
def test_an_actor_that_can_not_be_created_ends_the_run(
    monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str | None
) -> None:
    ray = FakeRay(error)
    monkeypatch.setattr(ray_backend, "connect_ray", lambda address: (ray, False))
    backend = RayBackend(CONFIG, "auto", 2)
    events = backend.events(0.0)
    backend.close()
    if reason is None:
        assert [type(event) for event in events] == [Lost, Lost]
        assert ray.created == 4
    else:
        assert ray.created == 2
        assert all(isinstance(event, FatalError) and reason in event.error.message for event in events)


def test_a_signal_during_a_call_of_ray_ends_the_run_as_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(FakeRay):
        def wait(self, calls: list[Any], num_returns: int, timeout: float) -> tuple[list[Any], list[Any]]:
            raise SystemError("CoreWorker.wait returned a result with an exception set") from Terminated(15)

    monkeypatch.setattr(ray_backend, "connect_ray", lambda address: (Interrupted(RayError()), False))
    with pytest.raises(Terminated):
        RayBackend(CONFIG, "auto", 2).events(0.0)


def test_an_error_of_the_model_names_the_node(monkeypatch: pytest.MonkeyPatch) -> None:
    def run_worker(config: WorkerConfig, next_item: Any, emit: Any) -> None:
        emit(FatalError(ModelError("There is no folder /m, and no model of that name.", "Names: tiny.")))

    monkeypatch.setattr(ray_backend, "run_worker", run_worker)
    monkeypatch.setattr("socket.gethostname", lambda: "east")
    events: list[Event] = Speaker(CONFIG).events()
    assert isinstance(events[0], FatalError)
    assert str(events[0].error) == "On the node east: There is no folder /m, and no model of that name. Names: tiny."
    assert events[0].error.exit_code == 3
