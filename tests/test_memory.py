"""Free memory is a plausible figure of this machine, and a container's limit counts."""

from __future__ import annotations

from pathlib import Path

import pytest

from llasa_cli import memory


def test_free_memory_is_less_than_all_of_it() -> None:
    free, total = memory.free_memory(), memory.total_memory()
    assert free is not None
    assert total is not None
    assert 1 << 20 < free < total < 1 << 50


def test_a_container_has_what_its_limit_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    (tmp_path / "memory.max").write_text(f"{3 << 20}\n")
    (tmp_path / "memory.current").write_text(f"{1 << 20}\n")
    assert (memory.free_memory(), memory.total_memory()) == (2 << 20, 3 << 20)
    (tmp_path / "memory.max").write_text("max\n")
    assert memory.free_memory() != 2 << 20
