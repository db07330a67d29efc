"""The state from which a training run resumes: that of each of its parts, and its progress."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

BackgroundLoader = Mapping[str, torch.nn.Module | torch.optim.Optimizer]


def save(path: Path, parts: BackgroundLoader, **progress: float) -> None:
    """Replaced as a whole, so that a stop at any moment leaves one that can be read."""
    part = path.with_suffix(".part")
    torch.save({name: kept.state_dict() for name, kept in parts.items()} | progress, part)
    part.replace(path)


def load(path: Path, parts: BackgroundLoader) -> dict[str, Any]:
    """-> all that was saved, `progress` among it."""
    state: dict[str, Any] = torch.load(path, weights_only=True)
    for name, kept in parts.items():
        kept.load_state_dict(state[name])
    return state
