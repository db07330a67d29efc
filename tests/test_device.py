"""CPU threads: one of torch's for a small model, whose steps of many sequences all cores share."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from llasa_cli.device import limit_threads, named_threads, usable_cores


def model(is_small: bool) -> Any:
    return SimpleNamespace(is_small=is_small, step_threads=1)


@pytest.mark.parametrize(
    ("named", "threads"), [("3", 3), (" 2 ", 2), ("4,2", 4), ("0", 1), ("", None), ("many", None), (None, None)]
)
def test_the_number_of_threads_is_read_from_the_environment(
    named: str | None, threads: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")
    if named is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", named)
    assert named_threads() == threads


@pytest.mark.parametrize(
    ("is_small", "given", "named", "of_torch", "of_a_step"),
    [
        (True, None, None, 1, usable_cores()),
        (True, 3, None, 1, 3),
        (True, None, "2", None, 2),
        (False, 3, None, 3, 1),
        (False, None, None, None, 1),
        (False, 3, "2", None, 1),
    ],
)
def test_who_has_how_many_threads(
    is_small: bool,
    given: int | None,
    named: str | None,
    of_torch: int | None,
    of_a_step: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    monkeypatch.delenv("OMP_NUM_THREADS")
    if named is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", named)
    loaded = model(is_small)
    limit_threads(loaded, given)
    assert asked == ([] if of_torch is None else [of_torch])
    assert loaded.step_threads == of_a_step
