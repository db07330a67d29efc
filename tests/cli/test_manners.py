"""How the command behaves as a process: pipes, full disks, signals, exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import wave
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from typer.testing import CliRunner

from llasa_cli.cli.app import app
from tests.conftest import SPEAKERS

Run = Callable[..., subprocess.CompletedProcess[bytes]]
SHORT = ["--max-seconds", "0.4", "--retries", "0", "--accept-failed"]


def test_text_from_a_pipe_becomes_a_wav_on_standard_output(run: Run) -> None:
    made = run("say", "-o", "-", "--seed", "3", *SHORT, input=b"Hello there. How are you today, my friend?")
    assert made.returncode == 0, made.stderr
    with wave.open(BytesIO(made.stdout)) as file:
        assert file.getframerate() == 16_000
        assert len(file.readframes(10**8)) > 6400
    assert made.stdout[:4] == b"RIFF"
    assert b"seed 3" in made.stderr


def test_a_reader_that_closes_the_pipe_ends_the_command_quietly(llasa: list[str], environment: dict[str, str]) -> None:
    line = f"{' '.join(llasa)} say hi -o - {' '.join(SHORT)} | head -c 100 | wc -c; echo ${{PIPESTATUS[0]}}"
    made = subprocess.run(["bash", "-c", line], env=environment, capture_output=True, check=False)
    assert made.stdout.split() == [b"100", b"0"]
    assert b"Broken" not in made.stderr
    assert b"Traceback" not in made.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_device_is_one_line_and_exit_1(run: Run) -> None:
    made = run("say", "hi", "-o", "/dev/full", "-q", *SHORT)
    assert made.returncode == 1
    assert made.stderr.decode().strip() == "error: /dev/full can't be written: No space left on device."


def test_a_full_disk_is_one_line_exit_1_and_no_file(
    random_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process: the limit on the size of files, which stands for a full disk, is lifted afterwards."""
    import resource

    monkeypatch.setenv("LLASA_MODEL", str(random_checkpoint))
    monkeypatch.chdir(tmp_path)
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, before[1]))
    try:
        made = CliRunner().invoke(app, ["say", "hi there", "-o", "out.wav", "-q", *SHORT, "--seed", "1"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert made.exit_code == 1, made.stderr
    assert made.stderr.splitlines()[0].startswith("error: out.wav can't be written:")
    assert "Traceback" not in made.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_redirected_wav_has_its_true_length(llasa: list[str], environment: dict[str, str], tmp_path: Path) -> None:
    with (tmp_path / "out.wav").open("wb") as file:
        command = [*llasa, "say", "hi", "-o", "/dev/stdout", "-q", *SHORT]
        made = subprocess.run(command, stdout=file, stderr=subprocess.PIPE, env=environment, check=False)
    assert (made.returncode, made.stderr) == (0, b"")
    with wave.open(str(tmp_path / "out.wav")) as found:
        assert 44 + 2 * found.getnframes() == (tmp_path / "out.wav").stat().st_size > 44


@pytest.mark.parametrize("closed", [">&-", "2>&-"])
def test_a_closed_standard_stream_does_no_harm(
    llasa: list[str], environment: dict[str, str], tmp_path: Path, closed: str
) -> None:
    line = f"{' '.join(llasa)} say hi -o out.wav {' '.join(SHORT)} {closed}"
    made = subprocess.run(["bash", "-c", line], env=environment, cwd=tmp_path, capture_output=True, check=False)
    assert made.returncode == 0, made.stderr
    with wave.open(str(tmp_path / "out.wav")) as found:
        assert found.getnframes() > 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_results_that_can_not_be_written_are_one_line(llasa: list[str], environment: dict[str, str]) -> None:
    with open("/dev/full", "wb") as full:
        made = subprocess.run([*llasa, "download"], stdout=full, stderr=subprocess.PIPE, env=environment, check=False)
    assert made.returncode == 1
    assert made.stderr.decode() == "error: Standard output can't be written: No space left on device.\n"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_run_stopped_by_a_signal_leaves_no_file(
    llasa: list[str], environment: dict[str, str], tmp_path: Path, number: int, code: int
) -> None:
    if signal.getsignal(number) == signal.SIG_IGN:
        pytest.skip("the tests run under nohup, whose processes ignore this signal")
    text = "This is one of very many sentences that it will not be able to finish in time. " * 400
    (tmp_path / "text.txt").write_text(text)
    command = [*llasa, "say", "-f", "text.txt", "-o", "out.wav", "--max-seconds", "1", "--retries", "0", "--no-resume"]
    process = subprocess.Popen(command, env=environment, cwd=tmp_path, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    # Only once sound is being written is there something to leave behind.
    while not any(part.stat().st_size for part in tmp_path.glob(".out.wav.*.part")):
        assert process.poll() is None, process.stderr and process.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == code, stderr
    assert os.listdir(tmp_path) == ["text.txt"]
    assert b"Traceback" not in stderr


def test_json_is_the_only_content_of_standard_output(run: Run, tmp_path: Path) -> None:
    made = run("say", "hello", "-o", "out.wav", "--json", "--seed", "7", *SHORT)
    assert made.returncode == 0, made.stderr
    found = json.loads(made.stdout)
    assert (found["path"], found["seed"], found["sampling_rate"]) == ("out.wav", 7, 16_000)
    assert found["chunks"][0]["text"] == "hello"
    assert os.listdir(tmp_path) == ["out.wav"]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["say", "-o", "a.wav"], 2, "empty"),
        (["say", "hi", "-m", "no-such-model", "-o", "a.wav"], 3, "no-such-model"),
        (["say", "hi", "-m", "1b", "-o", "a.wav"], 3, "llasa download 1b"),
        (["say", "hi", "--device", "cuda:7", "-o", "a.wav"], 2, "cuda"),
        (["say", "hi", "--voice", "nobody", "-o", "a.wav"], 2, ", ".join(SPEAKERS[:2])),
        (["clone", "--ref", "absent.wav", "--ref-text", "x", "hi", "-o", "a.wav"], 4, "absent.wav"),
    ],
    ids=lambda value: " ".join(value[:5]) if isinstance(value, list) else None,
)
def test_a_failure_is_one_error_with_its_exit_code(
    run: Run, tmp_path: Path, arguments: list[str], code: int, said: str
) -> None:
    made = run(*arguments)
    text = made.stderr.decode()
    assert made.returncode == code, text
    assert said in text
    assert text.count("error:") == 1
    assert "Traceback" not in text
    assert made.stdout == b""
    assert list(tmp_path.iterdir()) == []


def test_no_text_on_a_terminal_shows_two_examples(llasa: list[str], environment: dict[str, str]) -> None:
    import pty

    ours, theirs = pty.openpty()
    made = subprocess.run([*llasa, "say"], stdin=theirs, capture_output=True, env=environment, check=False)
    os.close(ours)
    os.close(theirs)
    assert made.returncode == 2
    assert made.stderr.decode().count("llasa say") == 2


def test_llasa_debug_shows_the_traceback_of_a_known_error(run: Run, environment: dict[str, str]) -> None:
    environment["LLASA_DEBUG"] = "1"
    made = run("say", "hi", "-m", "no-such-model", "-o", "a.wav")
    assert made.returncode == 3
    assert b"Traceback" in made.stderr
    assert b"error: There is no folder no-such-model" in made.stderr


def test_a_wrong_option_is_refused_before_torch_is_imported(environment: dict[str, str], tmp_path: Path) -> None:
    code = (
        "import sys\nfrom llasa_cli.__main__ import main\n"
        "for wrong in (['-m', '1b'], ['--voice', 'unknown'], ['-o', 'a.xyz']):\n"
        "    sys.argv = ['llasa', 'say', 'hi', '-o', 'a.wav', *wrong]\n"
        "    try: main()\n    except SystemExit as end: assert end.code in (2, 3), (wrong, end.code)\n"
        "    assert 'torch' not in sys.modules, wrong"
    )
    made = subprocess.run([sys.executable, "-c", code], env=environment, cwd=tmp_path, capture_output=True, check=False)
    assert made.returncode == 0, made.stderr
    assert made.stderr.count(b"error:") == 3


def test_a_sentence_sounds_before_the_next_one_is_written(llasa: list[str], environment: dict[str, str]) -> None:
    command = [*llasa, "say", "-o", "-", *SHORT]
    process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(b"One of two\n")
    process.stdin.flush()
    assert len(process.stdout.read(44 + 640)) == 44 + 640  # would wait for ever if it waited for the end
    process.stdin.write(b"Two.")
    process.stdin.close()
    assert len(process.stdout.read()) > 640
    assert process.wait() == 0
