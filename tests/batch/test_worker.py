"""A worker turns work items into files and events."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import soundfile

from llasa_cli.audio.side_file import SpokenPart
from llasa_cli.batch.messages import (
    Completed,
    Event,
    Exited,
    Failed,
    FatalError,
    Note,
    Ready,
    ReferenceFile,
    WorkerConfig,
    WorkItem,
)
from llasa_cli.batch.plan import Plan
from llasa_cli.batch.worker import run_worker
from llasa_cli.errors import LlasaError, ModelError
from llasa_cli.settings import ModelOptions, SamplingRequest, SpeechOptions

SHORT = SpeechOptions(seed=5, retries=0, sampling=SamplingRequest(max_seconds=0.2))


def events_of(config: WorkerConfig, *items: WorkItem) -> list[Event]:
    waiting: list[WorkItem | None] = [*items, None]
    events: list[Event] = []
    run_worker(config, lambda: waiting.pop(0), events.append)
    assert events.pop() == Exited()
    return events


@pytest.fixture
def config(tmp_path: Path, random_checkpoint: Path) -> WorkerConfig:
    (tmp_path / "out").mkdir()
    with Plan(tmp_path / "out", "wav") as plan:
        models = ModelOptions(model=str(random_checkpoint), device="cpu")
        token = plan.token
    plan.work.mkdir()
    (plan.work / "token").write_text(token)
    return WorkerConfig(models, tmp_path / "out", plan.work, slots=3, token=token, marks=True)


def test_a_file_is_in_its_place_when_its_event_arrives(config: WorkerConfig) -> None:
    items = [WorkItem(n, f"number {n}", f"a/{n}.flac", SHORT) for n in range(1, 6)]
    events = events_of(config, *items)
    assert events[0] == Ready(3)
    made = [event for event in events if isinstance(event, Completed)]
    assert sorted(event.number for event in made) == [1, 2, 3, 4, 5]
    for event in made:
        assert event.data is None
        assert soundfile.info(config.folder / "a" / f"{event.number}.flac").duration == pytest.approx(event.seconds)
        assert event.marks == (SpokenPart((f"number {event.number}",), 0.0, event.seconds),)
    assert [path.name for path in config.work.iterdir()] == ["token"]


def test_a_worker_that_can_not_reach_the_folder_sends_the_file(config: WorkerConfig) -> None:
    (near,) = [
        event for event in events_of(config, WorkItem(1, "hello", "1.wav", SHORT)) if isinstance(event, Completed)
    ]
    there = (config.folder / "1.wav").read_bytes()
    (config.folder / "1.wav").unlink()
    far_config = replace(config, token="another machine's folder of the same name")
    (far,) = [
        event for event in events_of(far_config, WorkItem(1, "hello", "1.wav", SHORT)) if isinstance(event, Completed)
    ]
    assert far.data == there
    assert near.data is None
    assert not (config.folder / "1.wav").exists()


def test_an_item_that_can_not_be_made_fails_alone(config: WorkerConfig, tmp_path: Path) -> None:
    absent = ReferenceFile(tmp_path / "absent.wav", "some words")
    items = [
        WorkItem(1, "hello", "1.wav", SHORT, absent),
        WorkItem(2, "...", "2.wav", SHORT),
        WorkItem(3, "hi", "3.wav", SHORT),
    ]
    events = events_of(config, *items, WorkItem(4, "hi [pause:soon]", "4.wav", SHORT))
    failed = {event.number: event.error for event in events if isinstance(event, Failed)}
    assert "absent.wav" in failed[1]
    assert "nothing to say" in failed[2]
    assert sorted(event.number for event in events if isinstance(event, Completed)) == [3, 4]
    assert any(isinstance(event, Note) and "4.wav" in event.text for event in events)


def test_a_missing_model_is_one_fatal_error(config: WorkerConfig, tmp_path: Path) -> None:
    (event,) = events_of(
        replace(config, models=ModelOptions(model=str(tmp_path / "absent"))), WorkItem(1, "x", "1.wav", SHORT)
    )
    assert isinstance(event, FatalError)
    assert isinstance(event.error, ModelError)
    again = pickle.loads(pickle.dumps(event)).error
    assert (type(again), again.message, again.hint) == (ModelError, event.error.message, event.error.hint)


def test_a_full_disk_is_a_fatal_error_that_names_the_file(
    config: WorkerConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise LlasaError("/x/.llasa/1.wav can't be written: No space left on device.", "Nothing was left there.")

    monkeypatch.setattr("llasa_cli.audio.writers.FileSink.close", full)
    events = events_of(config, WorkItem(1, "hello", "kim.wav", SHORT))
    broken = [event.error for event in events if isinstance(event, FatalError)]
    assert broken[0].message == f"{config.folder / 'kim.wav'} can't be written: No space left on device."
    assert [path.name for path in config.work.iterdir()] == ["token"]


def test_an_unexpected_error_is_a_fatal_error_with_a_traceback_for_debugging(
    config: WorkerConfig, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def break_down(*_: object, **__: object) -> None:
        raise RuntimeError("CUDA error")

    monkeypatch.setattr("llasa_cli.synthesis.synthesizer.Synthesizer.load", break_down)
    monkeypatch.setenv("LLASA_DEBUG", "1")
    (event,) = events_of(config)
    assert isinstance(event, FatalError)
    assert "CUDA error" in str(event.error)
    assert "Traceback" in capfd.readouterr().err
