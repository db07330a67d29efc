"""The clock of a run, the learning rate over it, and the defaults where the user names none."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from llasa_cli.training.finetune import finetune
from llasa_cli.training.options import FinetuneOptions
from llasa_cli.training.run import Callbacks
from llasa_cli.training.schedule import Clock, default_learning_rate, default_warm_up, max_codes_at, trapezoid


def test_minutes_are_counted_over_all_resumed_processes_and_without_loading() -> None:
    time = [100.0]
    clock = Clock(None, 60.0, spent_before=30.0, now=lambda: time[0])
    time[0] += 5  # loading
    assert clock.share(0) == 0.5
    clock.start()
    assert clock.share(0) == 0.5
    time[0] += 15
    assert clock.share(0) == 0.75
    time[0] += 100
    assert clock.share(0) == 1


def test_the_share_of_a_run_in_steps_does_not_depend_on_the_clock() -> None:
    assert Clock(10, None, now=lambda: 0.0).share(5) == 0.5


@pytest.mark.parametrize(
    ("step", "share", "warm_up", "decay", "factor"),
    [(0, 0.0, 60, 0.6, 1 / 60), (60, 0.1, 60, 0.6, 1), (1000, 0.4, 60, 0.6, 1), (1000, 0.7, 60, 0.6, 0.5),
     (1000, 1.0, 60, 0.6, 0), (0, 0.5, 0, 0.0, 1)],
)  # fmt: skip
def test_the_rate_warms_up_stays_and_falls_to_zero(
    step: int, share: float, warm_up: int, decay: float, factor: float
) -> None:
    assert trapezoid(step, share, warm_up, decay) == pytest.approx(factor)


@pytest.mark.parametrize(
    ("share", "curriculum", "codes"), [(0.0, 0.2, 100), (0.1, 0.2, 300), (0.2, 0.2, 500), (0.0, 0.0, 500)]
)
def test_rows_grow_until_all_lengths_are_allowed(share: float, curriculum: float, codes: float) -> None:
    assert max_codes_at(share, curriculum, 100, 500) == codes


@pytest.mark.parametrize(
    ("parameters", "kind", "rate"),
    [
        (13e6, {}, 4e-4),  # the built-in model
        (1.4e9, {}, 1e-5),  # Llasa-1B
        (8e9, {}, 1e-5),
        (100e6, {}, 1e-4),
        (1.4e9, {"new_tokens": True}, 5e-5),  # the published recipe from a text model
        (1.4e9, {"adapter": True}, 5e-4),
        (13e6, {"random_weights": True}, 2e-3),
    ],
)
def test_the_default_rate_follows_the_models_size(parameters: float, kind: dict[str, bool], rate: float) -> None:
    kinds = {"adapter": False, "random_weights": False, "new_tokens": False} | kind
    assert default_learning_rate(int(parameters), **kinds) == pytest.approx(rate)


@pytest.mark.parametrize(("steps", "warm_up"), [(None, 60), (2, 1), (100, 10), (5000, 60)])
def test_the_default_warm_up_is_a_tenth_of_a_short_run(steps: int | None, warm_up: int) -> None:
    assert default_warm_up(steps) == warm_up


@pytest.fixture
def options(data_folder: Path, random_checkpoint: Path, tmp_path: Path) -> FinetuneOptions:
    return FinetuneOptions(
        data_folder, tmp_path / "out", str(random_checkpoint), steps=2, device="cpu", evaluate_every=99
    )


def recipe_of(folder: Path) -> dict[str, float]:
    recipe: dict[str, float] = json.loads((folder / "llasa.json").read_text())["recipe"]
    return recipe


def test_a_run_records_its_default_rate_and_a_resumed_one_keeps_it(options: FinetuneOptions) -> None:
    options = replace(options, schedule="constant")
    notes: list[str] = []
    finetune(options, Callbacks(on_note=notes.append))
    assert notes == []
    assert (recipe_of(options.output)["learning_rate"], recipe_of(options.output)["warm_up_steps"]) == (4e-4, 1)
    metadata = json.loads((options.output / "llasa.json").read_text())
    metadata["recipe"]["learning_rate"] = 7e-5
    (options.output / "llasa.json").write_text(json.dumps(metadata))
    finetune(replace(options, steps=4, log_every=1))
    lines = map(json.loads, (options.output / "log.jsonl").read_text().splitlines())
    assert [line["learning_rate"] for line in lines if "loss" in line and line["step"] > 2] == [7e-5, 7e-5]


def test_a_warm_up_that_is_longer_than_the_run_is_a_warning(options: FinetuneOptions) -> None:
    notes: list[str] = []
    finetune(replace(options, steps=1, warm_up_steps=60), Callbacks(on_note=notes.append))
    assert notes[0].startswith("warning: the warm-up of 60 steps is longer than the run of 1:")
