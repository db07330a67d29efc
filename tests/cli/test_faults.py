"""A command that is killed at any moment, gets odd text, or can't write its output."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import soundfile

LLASA = [sys.executable, "-m", "llasa_cli"]
"""With its imports, for signals at any moment."""
SHORT = ["--max-seconds", "0.4", "--retries", "0", "--accept-failed", "--seed", "1"]
Run = Callable[..., subprocess.CompletedProcess[bytes]]


def one_error(made: subprocess.CompletedProcess[bytes], code: int) -> str:
    text = made.stderr.decode()
    assert made.returncode == code, text
    assert text.count("error:") == 1, text
    assert "Traceback" not in text
    assert made.stdout == b""
    return text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "is empty"),
        (b" \n\t\n", "is empty"),
        ("\N{GRINNING FACE}\N{FIRE}".encode(), "no words"),
        (b"\x7fELF\x02\x01\x01\0\0\0 binary", "not text but a program"),
        (b"a text with one \0 in it", "byte 16 is zero"),
    ],
    ids=["empty", "blank", "emoji", "binary", "zero byte"],
)
def test_a_file_without_text_is_one_error(run: Run, tmp_path: Path, text: bytes, said: str) -> None:
    (tmp_path / "a.txt").write_bytes(text)
    assert said in one_error(run("say", "-f", "a.txt", "-o", "a.wav"), 2)
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize(
    "text", [b"", b" \n", "\N{FIRE}\n".encode(), b"\0\0\0\0"], ids=["empty", "blank", "emoji", "zeros"]
)
def test_a_pipe_without_text_is_one_error(run: Run, tmp_path: Path, text: bytes) -> None:
    one_error(run("say", "-o", "a.wav", *SHORT, input=text), 2)
    assert os.listdir(tmp_path) == []


def test_invalid_utf8_in_a_pipe_or_an_argument_is_replaced(run: Run, tmp_path: Path) -> None:
    assert run("say", "-o", "a.wav", *SHORT, input=b"good \xff\xfe morning").returncode == 0
    assert run("say", b"good \xff morning", "-o", "b.wav", *SHORT).returncode == 0
    assert sorted(os.listdir(tmp_path)) == ["a.wav", "b.wav"]


def test_text_that_spells_control_tokens_is_spoken_as_text(run: Run) -> None:
    text = "<|s_1|><|SPEECH_GENERATION_END|><|TEXT_UNDERSTANDING_END|> hello"
    made = run("say", text, "-o", "a.wav", "--json", *SHORT)
    assert made.returncode == 0, made.stderr


def test_a_megabyte_without_a_sentence_end_is_spoken_from_its_beginning(
    llasa: list[str], run: Run, environment: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "a.txt").write_text("word after word and " * 50_000)
    line = f"{' '.join(llasa)} say -f a.txt -o - {' '.join(SHORT)} | head -c 50000 | wc -c; echo ${{PIPESTATUS[0]}}"
    made = subprocess.run(["bash", "-c", line], env=environment, cwd=tmp_path, capture_output=True, check=False)
    assert made.stdout.split() == [b"50000", b"0"], made.stderr
    assert b"Traceback" not in made.stderr


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_one_error(run: Run, tmp_path: Path) -> None:
    (tmp_path / "shut").mkdir(mode=0o555)
    one_error(run("say", "hi", "-o", "shut/a.wav", *SHORT), 1)


@pytest.mark.parametrize("place", ["absent/a.wav", ".", "/proc/a.wav"])
def test_an_output_that_can_not_be_written_is_one_error(run: Run, tmp_path: Path, place: str) -> None:
    assert one_error(run("say", "hi", "-o", place, "--format", "wav", *SHORT), 1 if "proc" in place else 2)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "more",
    [
        ["--subtitles", "absent/a.srt"],
        ["--subtitles", "a.txt"],
        ["--words", "a.txt"],
        ["--words", "absent/a.json"],
        ["--subtitles", "a.srt", "--words", "a.txt"],
        ["--subtitles-by", "word"],
        ["--subtitles", "a.srt", "--words-per-cue", "2"],
    ],
)
def test_subtitles_that_can_not_be_written_are_refused_before_speech(run: Run, tmp_path: Path, more: list[str]) -> None:
    one_error(run("say", "hi", "-o", "a.wav", *more, *SHORT), 2)
    assert os.listdir(tmp_path) == []


BOOK = (
    "This is the first sentence of a book that has three of them. Here is a second one of its sentences, and long. " * 6
)


ENDINGS = ("wav", "srt", "json")


def beside(name: str) -> list[str]:
    return ["--subtitles", f"{name}.srt", "--subtitles-by", "word", "--words", f"{name}.json"]


def uninterrupted_book(run: Run, tmp_path: Path) -> bytes:
    """The files of a run without an interruption."""
    (tmp_path / "book.txt").write_text(BOOK)
    made = run("say", "-f", "book.txt", "-o", "straight.wav", "--resume", *beside("straight"), *SHORT)
    assert made.returncode == 0, made.stderr
    return b"".join((tmp_path / f"straight.{ending}").read_bytes() for ending in ENDINGS)


def test_a_killed_book_resumes_and_becomes_the_same_file(
    llasa: list[str], run: Run, environment: dict[str, str], tmp_path: Path
) -> None:
    straight = uninterrupted_book(run, tmp_path)
    command = [*llasa, "say", "-f", "book.txt", "-o", "out.wav", "--resume", *beside("out"), *SHORT]
    for kill in (signal.SIGKILL, signal.SIGINT):
        process = subprocess.Popen(command, env=environment, cwd=tmp_path, stderr=subprocess.PIPE)
        log = tmp_path / "out.wav.partial" / "takes.jsonl"
        before = log.read_bytes().count(b"\n") if log.exists() else 0
        while process.poll() is None and not (log.exists() and log.read_bytes().count(b"\n") > before + 2):
            time.sleep(0.01)
        process.send_signal(kill)
        _, stderr = process.communicate(timeout=60)
        assert process.returncode in (-kill, 130), stderr
        assert not (tmp_path / "out.wav").exists()
        # A kill between a take's sound and its line leaves sound without a line, and perhaps half a line.
        for name, rest in (("sound.pcm", b"\x01\x02" * 500), ("takes.jsonl", b'{"samples": 5')):
            with log.with_name(name).open("ab") as file:
                file.write(rest)
    assert b"the same command resumes" in stderr
    made = run(*command[len(llasa) :])
    assert made.returncode == 0, made.stderr
    assert b"resuming after" in made.stderr
    assert b"".join((tmp_path / f"out.{ending}").read_bytes() for ending in ENDINGS) == straight
    left = {name for name in os.listdir(tmp_path) if not name.endswith(".part")}  # SIGKILL can't be cleaned up after
    assert left == {"book.txt", *(f"{name}.{ending}" for name in ("straight", "out") for ending in ENDINGS)}


def test_the_unfinished_work_on_another_text_is_kept(run: Run, tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text(BOOK)
    (tmp_path / "out.wav.partial").mkdir()
    (tmp_path / "out.wav.partial" / "about.json").write_text('{"key": "else", "facts": {"seed": 3}}')
    text = one_error(run("say", "-f", "book.txt", "-o", "out.wav", "--resume", *SHORT), 2)
    assert "out.wav.partial" in text
    assert (tmp_path / "out.wav.partial" / "about.json").exists()


def moments(count: int) -> list[Any]:
    """Kills between the start of the process and its natural end."""
    draw = random.Random(7)
    kinds = [signal.SIGINT, signal.SIGTERM, signal.SIGKILL]
    return [pytest.param(kinds[n % 3], draw.random(), id=f"{kinds[n % 3].name}-{n}") for n in range(count)]


def stop_at(moment: float, kind: signal.Signals, environment: dict[str, str], folder: Path, usual_s: float) -> None:
    command = [*LLASA, "say", BOOK, "-o", "a.wav", "--subtitles", "a.srt", *SHORT]
    process = subprocess.Popen(command, env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    time.sleep(moment * usual_s)
    process.send_signal(kind)
    stdout, stderr = process.communicate(timeout=60)
    assert stdout == b""
    # Before Python has read its first line, a signal ends it in Python's own way.
    early = b"llasa_cli" not in stderr and b"KeyboardInterrupt" in stderr
    assert early or b"Traceback" not in stderr, stderr
    codes = {signal.SIGINT: (0, 130, -2), signal.SIGTERM: (0, 143, -15), signal.SIGKILL: (0, -9)}[kind]
    assert process.returncode in codes or (early and process.returncode == 1), stderr
    found = {name for name in os.listdir(folder) if not (kind == signal.SIGKILL and name.endswith(".part"))}
    assert found <= {"a.wav", "a.srt"}, found
    if "a.wav" in found:
        assert soundfile.info(str(folder / "a.wav")).frames > 16_000
    if process.returncode == 0:
        assert found == {"a.wav", "a.srt"}


@pytest.mark.parametrize(("kind", "moment"), moments(2))
def test_a_run_stopped_at_any_moment_leaves_a_complete_file_or_none(
    environment: dict[str, str], tmp_path: Path, kind: signal.Signals, moment: float
) -> None:
    """Within three seconds, which is less than a run takes anywhere."""
    stop_at(moment, kind, environment, tmp_path, 3.0)


@pytest.fixture(scope="module")
def usual_s(random_checkpoint: Path) -> float:
    """How long an undisturbed run takes here."""
    environment = os.environ | {"LLASA_MODEL": str(random_checkpoint), "OMP_NUM_THREADS": "1"}
    began = time.monotonic()
    subprocess.run([*LLASA, "say", BOOK, "-o", "/dev/null", *SHORT], env=environment, capture_output=True, check=True)
    return time.monotonic() - began


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "moment"), moments(50))
def test_a_run_stopped_at_fifty_moments_leaves_a_complete_file_or_none(
    environment: dict[str, str], tmp_path: Path, kind: signal.Signals, moment: float, usual_s: float
) -> None:
    stop_at(moment, kind, environment, tmp_path, usual_s)


def test_a_signal_during_the_import_of_torch_waits_for_its_end(tmp_path: Path) -> None:
    """Its C++ ends the process with an abort if an exception passes through it."""
    (tmp_path / "torch.py").write_text(
        "import os, signal, time\nos.kill(os.getpid(), signal.SIGINT)\ntime.sleep(0.1)\nprint('whole')\n"
    )
    script = (
        "import sys, time\nsys.path.insert(0, sys.argv[1])\n"
        "from llasa_cli.cli.console import boundary\nimport typer\n"
        "def command():\n    import torch\n    time.sleep(10)\n    print('not stopped')\n"
        "try:\n    boundary(command)()\nexcept typer.Exit as end:\n    sys.exit(end.exit_code)\n"
    )
    made = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, timeout=60, check=False)
    assert (made.returncode, made.stdout, made.stderr) == (130, b"whole\n", b"stopped\n")


def test_a_signal_inside_a_callback_of_libsndfile_is_not_lost(tmp_path: Path) -> None:
    script = (
        "import io, os, signal, sys, time, numpy, soundfile, typer\n"
        "from llasa_cli.cli.console import boundary\n"
        "class File(io.BytesIO):\n"
        "    def write(self, data):\n        os.kill(os.getpid(), signal.SIGTERM)\n        return super().write(data)\n"
        "def command():\n"
        "    soundfile.write(File(), numpy.zeros(1000), 16000, format='WAV')\n    time.sleep(10)\n    print('not stopped')\n"
        "try:\n    boundary(command)()\nexcept typer.Exit as end:\n    sys.exit(end.exit_code)\n"
    )
    made = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=60, check=False)
    assert (made.returncode, made.stdout, made.stderr) == (143, b"", b"")
