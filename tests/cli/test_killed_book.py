"""A book whose run is killed again and again is the same file in the end."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

KILLS = 20
pytestmark = pytest.mark.slow


@pytest.mark.parametrize("more", [(), ("--batch-size", "3"), ("--workers", "2")])
def test_a_killed_book_resumes_to_the_same_file(random_checkpoint: Path, tmp_path: Path, more: tuple[str, ...]) -> None:
    text = tmp_path / "book.txt"
    text.write_text("\n\n".join(f"This is paragraph number {n} of a long book." for n in range(600)), encoding="utf-8")
    fixed = ["--seed", "1", "--max-seconds", "0.5", "--retries", "1", "--accept-failed", "-m", str(random_checkpoint)]

    def command(output: Path) -> list[str]:
        return [sys.executable, "-m", "llasa_cli", "say", "-f", str(text), "-o", str(output), *fixed, *more]

    subprocess.run(command(tmp_path / "whole.flac"), check=True, capture_output=True)
    output = tmp_path / "killed.flac"
    log = tmp_path / "killed.flac.partial" / "takes.jsonl"

    def committed() -> int:
        return log.read_bytes().count(b"\n") if log.is_file() else 0

    sample = random.Random(1)
    for _ in range(KILLS):
        run = subprocess.Popen(command(output), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wanted = committed() + sample.randint(0, 40)
        until = time.monotonic() + 60
        while run.poll() is None and committed() < wanted and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(sample.uniform(0, 0.5))
        run.send_signal(signal.SIGKILL)
        run.wait()
    assert subprocess.run(command(output), check=False, capture_output=True).returncode == 0
    assert output.read_bytes() == (tmp_path / "whole.flac").read_bytes()
    assert not log.parent.exists()
