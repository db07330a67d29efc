"""Memory stays flat with any number of rows; the system measures the command itself."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks.prepare import make_rows, measure


@pytest.mark.slow
def test_five_times_the_rows_need_no_more_memory(tmp_path: Path, tokenizer_folder: Path) -> None:
    """As objects in memory, 80,000 more rows would take some 100 MB."""
    most = []
    for count in (20_000, 100_000):
        table, out = make_rows(tmp_path, count, 64), tmp_path / f"out-{count}"
        command = [sys.executable, "-m", "llasa_cli", "prepare", str(table)]
        command += ["-m", str(tokenizer_folder), "-q", "-o", str(out)]
        _, megabytes, code = measure([*command, "--max-tokens", "512"])
        assert code == 0
        most.append(megabytes)
        rows = np.load(out / "train_input_ids_shape.npy")[0] + np.load(out / "val_input_ids_shape.npy")[0]
        assert rows == count
    assert most[1] - most[0] < 20, most
