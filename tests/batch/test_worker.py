"""One worker: pieces in, files and events out."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile

from llasa_cli.batch.messages import (
    Completed,
    Event,
    Failed,
    FatalError,
    Note,
    Ready,
    ReferenceFile,
    WorkerConfig,
    WorkItem,
)
from llasa_cli.batch.plan import Plan
from llasa_cli.batch.worker import free_bytes, work
from llasa_cli.errors import LlasaError, ModelError
from llasa_cli.settings import ModelOptions, SamplingRequest, SpeechOptions

SHORT = SpeechOptions(seed=5, retries=0, sampling=SamplingRequest(max_seconds=0.2))


def worked(orders: WorkerConfig, *pieces: WorkItem) -> list[Event]:
    waiting: list[WorkItem | None] = [*pieces, None]
    events: list[Event] = []
    work(orders, lambda: waiting.pop(0), events.append)
    return events


@pytest.fixture
def orders(tmp_path: Path, random_checkpoint: Path) -> WorkerConfig:
    (tmp_path / "out").mkdir()
    with Plan(tmp_path / "out", "wav") as plan:
        models = ModelOptions(model=str(random_checkpoint), device="cpu")
        token = plan.token
    plan.work.mkdir()
    (plan.work / "token").write_text(token)
    return WorkerConfig(models, tmp_path / "out", plan.work, slots=3, token=token, marks=True)


def test_files_are_in_their_places_when_they_are_told_of(orders: WorkerConfig) -> None:
    pieces = [WorkItem(n, f"number {n}", f"a/{n}.flac", SHORT) for n in range(1, 6)]
    events = worked(orders, *pieces)
    assert events[0] == Ready(3)
    made = [event for event in events if isinstance(event, Completed)]
    assert sorted(event.number for event in made) == [1, 2, 3, 4, 5]
    for event in made:
        assert event.data is None
        assert soundfile.info(orders.folder / "a" / f"{event.number}.flac").duration == pytest.approx(event.seconds)
        ((begin, end, sentences),) = event.marks
        assert (begin, end, sentences) == (0.0, event.seconds, (f"number {event.number}",))
    assert [path.name for path in orders.work.iterdir()] == ["token"]


def test_who_does_not_see_the_folder_sends_the_file(orders: WorkerConfig) -> None:
    (near,) = [event for event in worked(orders, WorkItem(1, "hello", "1.wav", SHORT)) if isinstance(event, Completed)]
    there = (orders.folder / "1.wav").read_bytes()
    (orders.folder / "1.wav").unlink()
    far_orders = replace(orders, token="another machine's folder of the same name")
    (far,) = [
        event for event in worked(far_orders, WorkItem(1, "hello", "1.wav", SHORT)) if isinstance(event, Completed)
    ]
    assert far.data == there
    assert near.data is None
    assert not (orders.folder / "1.wav").exists()


def test_an_item_that_can_not_be_made_is_told_and_the_rest_goes_on(orders: WorkerConfig, tmp_path: Path) -> None:
    absent = ReferenceFile(tmp_path / "absent.wav", "some words")
    pieces = [
        WorkItem(1, "hello", "1.wav", SHORT, absent),
        WorkItem(2, "...", "2.wav", SHORT),
        WorkItem(3, "hi", "3.wav", SHORT),
    ]
    events = worked(orders, *pieces, WorkItem(4, "hi [pause:soon]", "4.wav", SHORT))
    failed = {event.number: event.error for event in events if isinstance(event, Failed)}
    assert "absent.wav" in failed[1]
    assert "nothing to say" in failed[2]
    assert sorted(event.number for event in events if isinstance(event, Completed)) == [3, 4]
    assert any(isinstance(event, Note) and "4.wav" in event.text for event in events)


def test_what_fails_for_all_is_told_once(orders: WorkerConfig, tmp_path: Path) -> None:
    (event,) = worked(
        replace(orders, models=ModelOptions(model=str(tmp_path / "absent"))), WorkItem(1, "x", "1.wav", SHORT)
    )
    assert isinstance(event, FatalError)
    assert isinstance(event.error, ModelError)
    again = pickle.loads(pickle.dumps(event)).error
    assert (type(again), again.message, again.hint) == (ModelError, event.error.message, event.error.hint)


def test_a_disk_that_fills_ends_it_with_the_name_of_the_file(
    orders: WorkerConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise LlasaError("/x/.llasa/1.wav can't be written: No space left on device.", "Nothing was left there.")

    monkeypatch.setattr("llasa_cli.audio.sinks.FileSink.close", full)
    events = worked(orders, WorkItem(1, "hello", "kim.wav", SHORT))
    broken = [event.error for event in events if isinstance(event, FatalError)]
    assert broken[0].message == f"{orders.folder / 'kim.wav'} can't be written: No space left on device."
    assert [path.name for path in orders.work.iterdir()] == ["token"]


def test_free_memory_is_a_number_of_this_machine() -> None:
    import torch

    assert 1 << 20 < free_bytes(torch.device("cpu")) < 1 << 50


def test_what_nobody_foresaw_ends_the_run_also_while_it_is_debugged(
    orders: WorkerConfig, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def break_down(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA error")

    monkeypatch.setattr("llasa_cli.batch.worker.Synthesizer.load", break_down)
    monkeypatch.setenv("LLASA_DEBUG", "1")
    (event,) = worked(orders)
    assert isinstance(event, FatalError)
    assert "CUDA error" in str(event.error)
    assert "Traceback" in capfd.readouterr().err
