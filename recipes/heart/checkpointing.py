"""Training checkpoints: the state of each module and optimizer, and the progress of the run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

Parts = Mapping[str, torch.nn.Module | torch.optim.Optimizer]


def save(path: Path, parts: Parts, **progress: float) -> None:
    """Write the state of `parts` and `progress`. The file is replaced as a whole, so it is complete at any moment."""
    partial = path.with_suffix(".part")
    torch.save({name: part.state_dict() for name, part in parts.items()} | progress, partial)
    partial.replace(path)


def load(path: Path, parts: Parts) -> dict[str, Any]:
    """Restore the state of `parts`. Returns everything that was saved, the progress included."""
    state: dict[str, Any] = torch.load(path, weights_only=True)
    for name, part in parts.items():
        part.load_state_dict(state[name])
    return state
