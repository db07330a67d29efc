"""A run of training: everything that it consists of, and what it reports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llasa_cli.prompt import PromptFormat
from llasa_cli.training.dataset import TrainingRows
from llasa_cli.training.options import FinetuneOptions
from llasa_cli.training.schedule import Clock
from llasa_cli.training.starting_point import StartingPoint

if TYPE_CHECKING:
    import torch
    from transformers import TrainingArguments


@dataclass(frozen=True)
class RunProgress:
    """Attributes:
    share: The completed share of the run, 0 to 1.
    loss: The mean loss since the last line of the log.
    left_s: Seconds until the end, estimated.
    """

    step: int
    share: float
    loss: float
    left_s: float


def _ignore(report: object) -> None:
    """The callback of a caller that needs no such report."""


@dataclass(frozen=True)
class Callbacks:
    """The reports of a run to its caller.

    Attributes:
        on_log: Called with each line of log.jsonl.
        on_progress: Called after a step, a few times a second at most. None: the loss is not read, which waits for a GPU.
        on_note: Called with sentences for the user: skipped rows, warnings, the folder of a stopped run.
    """

    on_log: Callable[[dict[str, Any]], None] = _ignore
    on_progress: Callable[[RunProgress], None] | None = None
    on_note: Callable[[str], None] = _ignore


NO_CALLBACKS = Callbacks()


@dataclass(frozen=True)
class Run:
    """Everything that training needs.

    Attributes:
        rows, held_out: The rows to train on, and those to evaluate on.
        arguments: The result of `trainer_arguments.training_arguments`.
        metadata: The checkpoint's llasa.json, to which each save adds its step.
    """

    options: FinetuneOptions
    prompt_format: PromptFormat
    rows: TrainingRows
    held_out: TrainingRows | None
    clock: Clock
    device: torch.device
    arguments: TrainingArguments
    start: StartingPoint
    metadata: dict[str, Any]
