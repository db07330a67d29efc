"""Commands as processes, on a small random model."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def environment(llasa: list[str], random_checkpoint: Path) -> dict[str, str]:
    return os.environ | {"LLASA_MODEL": str(random_checkpoint), "OMP_NUM_THREADS": "1", "TERM": "dumb"}


@pytest.fixture
def run(
    llasa: list[str], environment: dict[str, str], tmp_path: Path
) -> Callable[..., subprocess.CompletedProcess[bytes]]:
    def start(*arguments: str | bytes, **options: Any) -> subprocess.CompletedProcess[bytes]:
        options.setdefault("input", b"")
        return subprocess.run(
            [*llasa, *arguments], capture_output=True, env=environment, cwd=tmp_path, check=False, **options
        )

    return start
