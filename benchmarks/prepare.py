"""Measure time and memory of `llasa prepare` for growing numbers of synthetic rows with ready-made codes, a .npy each.

    python benchmarks/prepare.py FOLDER --rows 10000 100000 1000000

The rows are written to FOLDER (4 KB of disk each; the results, 8 KB each, are removed again). The command runs in a process of
its own. The output is a line for each number: seconds, rows a second, and the peak memory of the process.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

WORDS = "sea sand shell salt wave gull tide boat harbor evening morning seven lanterns along the quiet river".split()


def make_rows(folder: Path, count: int, code_count: int, seed: int = 0) -> Path:
    """Write `count` files of 100 to 300 codes, unless they exist, and the JSON lines that name them."""
    random = np.random.default_rng(seed)
    table = folder / f"rows-{count}.jsonl"
    with table.open("w", encoding="utf-8") as lines:
        for number in range(count):
            place = folder / "codes" / f"{number // 1000:04d}"
            path = place / f"{number % 1000:03d}.npy"
            if not path.is_file():
                place.mkdir(parents=True, exist_ok=True)
                np.save(path, random.integers(0, code_count, 100 + number % 201, dtype=np.int32))
            text = f"{number} " + " ".join(WORDS[(number * 7 + part * part) % len(WORDS)] for part in range(6))
            speaker = f"speaker{number % 50}"
            fields = {"id": f"row-{number}", "codes": str(path.relative_to(folder)), "text": text, "speaker": speaker}
            lines.write(json.dumps(fields) + "\n")
    return table


def measure(command: list[str]) -> tuple[float, float, int]:
    """Run a command. -> seconds, peak memory in MB, exit code."""
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return time.monotonic() - began, usage.ru_maxrss / 1024, process.returncode


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--code-count", type=int, default=256)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for count in options.rows:
        table = make_rows(options.folder, count, options.code_count)
        out = options.folder / "out"
        shutil.rmtree(out, ignore_errors=True)
        command = [sys.executable, "-m", "llasa_cli", "prepare", str(table), "-o", str(out), "-m", options.model, "-q"]
        seconds, megabytes, code = measure(command)
        size = (out / "train_input_ids.memmap").stat().st_size if code == 0 else 0
        print(
            f"{count} rows: {seconds:.0f} s, {count / seconds:.0f} rows/s, {megabytes:.0f} MB of memory, "
            f"{size / 1e9:.2f} GB written, exit {code}",
            flush=True,
        )
        shutil.rmtree(out, ignore_errors=True)


if __name__ == "__main__":
    main()
