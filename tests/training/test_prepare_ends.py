"""However a run ends (killed, disk full, beside another run), no partial file is taken for a complete one, and it resumes."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from llasa_cli.errors import LlasaError, UsageError
from llasa_cli.prompt import PromptFormat
from llasa_cli.training import memmap_writer as memmaps
from llasa_cli.training import prepare as room
from llasa_cli.training.options import PrepareOptions
from llasa_cli.training.prepare import Progress, prepare

ROWS = 60
WIDTH = 96


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """Rows with their codes, some of them bad."""
    path = tmp_path / "t.jsonl"
    lines = [
        {
            "text": f"row {number}" if number % 11 else "",
            "codes": [number % 64] * 30,
            "speaker": ("heart", "bella")[number % 2],
        }
        for number in range(ROWS)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def options_of(table: Path, out: Path, **options: Any) -> PrepareOptions:
    return PrepareOptions((table,), out, validation=0.1, max_tokens=WIDTH, **options)


def contents(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def in_a_child(work: Callable[[], Any]) -> int:
    """Run in a forked process. -> its exit code, or minus the signal that ended it."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Report progress every few rows."""
    monkeypatch.setattr(room, "_PROGRESS_ROWS", 10)


@pytest.mark.usefixtures("often")
def test_a_run_killed_at_any_moment_resumes_to_the_same_files(
    table: Path, tmp_path: Path, prompt_format: PromptFormat
) -> None:
    steps: list[Progress] = []
    prepare(options_of(table, tmp_path / "once"), prompt_format, None, "t", steps.append)
    expected = contents(tmp_path / "once")
    assert {"index.json", "train_input_ids.memmap", "train_speakers.txt", "skipped.jsonl"} < set(expected)
    assert not any(name.endswith((".part", ".sqlite")) or name.startswith(".") for name in expected)
    interrupted = 0
    for moment in range(len(steps)):
        out = tmp_path / f"killed-{moment}"
        seen: list[Progress] = []

        def kill(progress: Progress, seen: list[Progress] = seen, moment: int = moment) -> None:
            seen.append(progress)
            if len(seen) > moment:
                os.kill(os.getpid(), signal.SIGKILL)

        ended = in_a_child(lambda out=out, kill=kill: prepare(options_of(table, out), prompt_format, None, "t", kill))  # type: ignore[misc]
        assert ended == -signal.SIGKILL
        assert not any(path.suffix in (".memmap", ".json") for path in out.iterdir())
        interrupted += (out / "train_input_ids.memmap.part").is_file()
        prepare(options_of(table, out), prompt_format, None, "t")
        assert contents(out) == expected
    assert interrupted >= 4


@pytest.mark.usefixtures("often")
def test_rows_of_other_data_are_not_kept(table: Path, tmp_path: Path, prompt_format: PromptFormat) -> None:
    out = tmp_path / "out"

    def stop(progress: Progress) -> None:
        if progress.stage == "writing" and progress.rows >= 30:
            os.kill(os.getpid(), signal.SIGKILL)

    in_a_child(lambda: prepare(options_of(table, out), prompt_format, None, "t", stop))
    assert (out / "train_input_ids.memmap.part").is_file()
    table.write_text(table.read_text().replace("row 2", "other 2"), encoding="utf-8")
    prepare(options_of(table, out), prompt_format, None, "t")
    prepare(options_of(table, tmp_path / "fresh"), prompt_format, None, "t")
    assert contents(out) == contents(tmp_path / "fresh")


# --- a full disk ---


@contextmanager
def disk_of(size: int) -> Iterator[None]:
    """RLIMIT_FSIZE stands for a full disk: the same calls fail in the same places."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.usefixtures("often")
@pytest.mark.parametrize("size", [2_000, 15_000, 18_000])
def test_a_full_disk_is_one_error_and_the_run_resumes_when_there_is_room(
    table: Path, tmp_path: Path, prompt_format: PromptFormat, size: int
) -> None:
    """2,000 bytes end in the middle of the checks, the others in the middle of the rows (48 of 384 bytes)."""
    out = tmp_path / "out"
    with disk_of(size), pytest.raises(LlasaError, match="out can't be written: ") as caught:
        prepare(options_of(table, out), prompt_format, None, "t")
    assert caught.value.exit_code == 1
    assert caught.value.hint == "Free some disk space and run the same command again; it resumes where it stopped."
    assert not any(path.suffix in (".memmap", ".npy") or path.name == "index.json" for path in out.iterdir())
    prepare(options_of(table, out), prompt_format, None, "t")
    prepare(options_of(table, tmp_path / "fresh"), prompt_format, None, "t")
    assert contents(out) == contents(tmp_path / "fresh")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_codes_that_a_full_disk_did_not_take_are_an_error_and_made_again(
    tmp_path: Path, prompt_format: PromptFormat
) -> None:
    """On a device that is always full the buffered codes are lost, and the file stays as before."""

    class Codec:
        identity, code_count = "abc", prompt_format.code_count

        def encode_batch(self, clips: Any) -> list[list[int]]:
            return [[1] * (len(clip) // 320) for clip in clips]

    for number in range(3):
        soundfile.write(tmp_path / f"{number}.wav", np.random.default_rng(number).normal(0, 0.1, 16_000), 16_000)
        (tmp_path / f"{number}.txt").write_text("hello")
    out = tmp_path / "out"
    out.mkdir()
    (out / "codes-abc.bin").symlink_to("/dev/full")
    with pytest.raises(LlasaError, match="No space left on device"):
        prepare(options_of(tmp_path, out), prompt_format, Codec(), "t")
    (out / "codes-abc.bin").unlink()
    assert prepare(options_of(tmp_path, out), prompt_format, Codec(), "t")["splits"]["train"]["rows"] == 2


def test_too_little_disk_space_is_an_error_before_the_work(
    tmp_path: Path, prompt_format: PromptFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("usage", (), {"free": 1_000_000})
    table = tmp_path / "t.jsonl"
    table.write_text("".join(json.dumps({"text": "hello", "codes": [1] * 20}) + "\n" for _ in range(300)))
    monkeypatch.setattr(room.shutil, "disk_usage", lambda folder: usage)  # type: ignore[attr-defined]
    with pytest.raises(LlasaError, match=r"needs 2 MB, and 1 MB are free."):
        prepare(PrepareOptions((table,), tmp_path / "out"), prompt_format, None, "t")
    assert not list((tmp_path / "out").glob("*.memmap*"))


def test_other_errors_of_the_disk_keep_their_traceback(
    table: Path, tmp_path: Path, prompt_format: PromptFormat, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(memmaps.MemmapWriter, "finish", broken)
    with pytest.raises(OSError, match="Input/output"):
        prepare(options_of(table, tmp_path / "out"), prompt_format, None, "t")


def test_other_files_with_similar_names_are_kept(table: Path, tmp_path: Path, prompt_format: PromptFormat) -> None:
    """The output may be the folder of the recordings."""
    own = ("our_speakers.txt", "notes_input_ids.memmap", "other_input_ids_shape.npy", "rows.sqlite")
    for name in own:
        (tmp_path / name).write_text(name)
    prepare(options_of(table, tmp_path), prompt_format, None, "t")
    for path in list(tmp_path.glob("val_*")):  # as from an earlier run with another split
        path.rename(path.with_name(path.name.replace("val_", "test_")))
    prepare(options_of(table, tmp_path), prompt_format, None, "t")
    assert [(tmp_path / name).read_text() for name in own] == list(own)
    assert not list(tmp_path.glob("test_*"))


@pytest.mark.parametrize("name", ["index.json", "skipped.jsonl"])
def test_the_users_own_file_of_a_name_that_would_be_written_is_kept(
    name: str, table: Path, tmp_path: Path, prompt_format: PromptFormat
) -> None:
    own = tmp_path / "data" / name
    own.parent.mkdir()
    own.write_text('{"pages": [1, 2]}\n')
    with pytest.raises(UsageError, match="was not written by llasa prepare"):
        prepare(options_of(table, own.parent), prompt_format, None, "f")
    assert own.read_text() == '{"pages": [1, 2]}\n'


def test_two_runs_in_one_folder_are_refused(table: Path, tmp_path: Path, prompt_format: PromptFormat) -> None:
    out = tmp_path / "out"
    refused: list[Progress] = []

    def other(progress: Progress) -> None:
        if not refused:
            with pytest.raises(UsageError, match="Another `llasa prepare` is writing to"):
                prepare(options_of(table, out), prompt_format, None, "t")
            refused.append(progress)

    prepare(options_of(table, out), prompt_format, None, "t", other)
    assert refused
    assert not list(out.glob(".lock*"))


# --- the true command ---


@pytest.mark.slow
def test_the_command_killed_again_and_again_encodes_nothing_twice(tmp_path: Path, random_checkpoint: Path) -> None:
    """kill -9 at moments of the clock, with two workers and a real codec; every worker ends."""
    data = tmp_path / "data"
    data.mkdir()
    for number in range(60):
        seconds = 0.5 + 0.05 * (number % 20)
        soundfile.write(
            data / f"{number}.wav", np.random.default_rng(number).normal(0, 0.1, int(16_000 * seconds)), 16_000
        )
        (data / f"{number}.txt").write_text(f"clip {number}")
    out = tmp_path / "out"
    command = [sys.executable, "-m", "llasa_cli", "prepare", str(data)]
    command += ["-m", str(random_checkpoint), "--workers", "2", "-q"]
    for _ in range(12):
        process = subprocess.Popen([*command, "-o", str(out)])
        before = sum(path.stat().st_size for path in out.glob("codes-*.bin"))
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            if sum(path.stat().st_size for path in out.glob("codes-*.bin")) > before + 2000:
                process.kill()
            time.sleep(0.002)
        if process.wait() == 0:
            break
        assert process.returncode == -signal.SIGKILL
        for _ in range(500):  # until the workers notice that their parent is gone
            if not any(str(out).encode() in path.read_bytes() for path in commands_running()):
                break
            time.sleep(0.02)
        else:
            pytest.fail("a worker outlives its parent")
    assert process.returncode == 0
    keys = [json.loads(line)[0] for path in out.glob("codes-*.jsonl") for line in path.read_text().splitlines()]
    assert len(keys) == len(set(keys)) == 60
    straight = tmp_path / "straight"
    subprocess.run([*command, "-o", str(straight)], check=True)
    for path in straight.glob("*.memmap"):
        assert path.read_bytes() == (out / path.name).read_bytes(), path.name


def commands_running() -> Iterator[Path]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            path.read_bytes()
            yield path
        except OSError:
            continue
