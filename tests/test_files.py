"""Files are complete or absent, locks exclude, outputs never replace inputs."""

from __future__ import annotations

import json
import os
import resource
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from llasa_cli.errors import LlasaError, UsageError, os_errors_as
from llasa_cli.files import (
    AtomicFile,
    make_folder,
    refuse_overwriting,
    take_lock,
    temporary_path,
    write_json,
    write_text,
)

UNWRITABLE = "\ud800"
"""Half a character, which no encoding can write."""


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_written_json_reads_back_and_leaves_no_other_file(tmp_path: Path) -> None:
    write_json(tmp_path / "about.json", {"name": "Zoë"})
    write_json(tmp_path / "about.json", {"name": "Zoë", "more": [1]})
    assert json.loads((tmp_path / "about.json").read_text(encoding="utf-8")) == {"name": "Zoë", "more": [1]}
    assert names(tmp_path) == ["about.json"]


@pytest.mark.parametrize("content", [{"name": UNWRITABLE}, {"name": object()}])
def test_content_that_cannot_be_written_keeps_the_old_file(tmp_path: Path, content: object) -> None:
    write_text(tmp_path / "about.json", "old")
    with pytest.raises((UnicodeEncodeError, TypeError)):
        write_json(tmp_path / "about.json", content)
    assert (tmp_path / "about.json").read_text() == "old"
    assert names(tmp_path) == ["about.json"]


def test_a_full_disk_keeps_the_old_file(tmp_path: Path) -> None:
    """The process may write 1,000 bytes; the rest fails as on a full disk."""
    write_text(tmp_path / "about.json", "old")
    program = (
        "import pathlib, signal, sys; from llasa_cli.files import write_text; "
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); write_text(pathlib.Path(sys.argv[1]), 'x' * 9999)"
    )
    made = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "about.json")],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 1
    assert "OSError" in made.stderr
    assert (tmp_path / "about.json").read_text() == "old"
    assert names(tmp_path) == ["about.json"]


def test_an_exception_discards_the_new_file(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "old")
    with pytest.raises(KeyboardInterrupt), AtomicFile(tmp_path / "a") as target:
        target.file.write(b"half")
        raise KeyboardInterrupt
    target.discard()
    assert (tmp_path / "a").read_text() == "old"
    assert names(tmp_path) == ["a"]


def test_without_replace_a_file_that_appeared_meanwhile_stays(tmp_path: Path) -> None:
    target = AtomicFile(tmp_path / "a", replace=False)
    target.file.write(b"mine")
    (tmp_path / "a").write_text("theirs")
    with pytest.raises(FileExistsError):
        target.commit()
    assert (tmp_path / "a").read_text() == "theirs"
    assert names(tmp_path) == ["a"]
    with AtomicFile(tmp_path / "b", replace=False) as other:
        other.file.write(b"mine")
    assert (tmp_path / "b").read_text() == "mine"


def test_a_file_has_the_permissions_of_the_umask(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "")
    (tmp_path / "b").write_text("")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == stat.S_IMODE((tmp_path / "b").stat().st_mode)


def test_the_next_writer_removes_what_a_killed_process_left(tmp_path: Path) -> None:
    program = (
        "import os, pathlib, sys; from llasa_cli.files import AtomicFile; "
        "AtomicFile(pathlib.Path(sys.argv[1])).file.flush(); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "a [1]")], check=False)
    (left,) = names(tmp_path)
    assert left.startswith(".a [1].")
    running, foreign = temporary_path(tmp_path / "a [1]"), tmp_path / ".a [1].ffff-1-0.part"
    running.touch()
    foreign.touch()
    write_text(tmp_path / "a [1]", "new")
    assert names(tmp_path) == sorted(["a [1]", running.name, foreign.name])


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="no /proc")
def test_a_process_whose_parent_has_not_waited_for_it_has_ended(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)  # it stays a zombie
        left = tmp_path / temporary_path(tmp_path / "a").name.replace(f"-{os.getpid()}-", f"-{ended.pid}-")
        left.touch()
        write_text(tmp_path / "a", "new")
        assert names(tmp_path) == ["a"]


def test_a_name_of_255_bytes_can_be_written(tmp_path: Path) -> None:
    write_text(tmp_path / ("é" * 127), "x")


def test_a_lock_excludes_others_until_it_is_released(tmp_path: Path) -> None:
    busy = UsageError("Another llasa is working here.")
    release = take_lock(tmp_path / ".lock", busy)
    program = (
        "import pathlib, sys; from llasa_cli.errors import LlasaError; from llasa_cli.files import take_lock; "
        "take_lock(pathlib.Path(sys.argv[1]), LlasaError('busy'))"
    )
    command = [sys.executable, "-c", program, str(tmp_path / ".lock")]
    refused = subprocess.run(command, capture_output=True, text=True, check=False)
    assert refused.stderr.strip().endswith("LlasaError: busy")
    with pytest.raises(LlasaError) as raised:
        take_lock(tmp_path / ".lock", busy)
    assert raised.value is busy
    release()
    assert subprocess.run(command, check=False).returncode == 0
    take_lock(tmp_path / ".lock", busy)()


def test_a_folder_that_cannot_be_created_is_a_usage_error(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="can't be created: Not a directory"):
        make_folder(tmp_path / "file" / "b")


@pytest.mark.parametrize("name", ["a.wav", "./b/../a.wav", "link", "absent.wav"])
def test_an_input_is_never_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("b").mkdir()
    Path("a.wav").write_text("sound")
    Path("link").symlink_to("a.wav")
    read = Path("absent.wav" if name == "absent.wav" else "a.wav").resolve()
    with pytest.raises(UsageError, match="overwritten"):
        refuse_overwriting([None, Path("other.wav"), Path(name)], [None, read])
    with pytest.raises(UsageError, match="two outputs"):
        refuse_overwriting([Path(name), read], [])
    refuse_overwriting([Path(name), Path("other.wav"), Path("/dev/null")], [Path("b"), Path("/dev/null")])


def test_an_error_of_the_system_is_explained_and_another_error_passes() -> None:
    with pytest.raises(UsageError) as found, os_errors_as("a.txt can't be read", "Name another.", UsageError):
        raise PermissionError(13, "Permission denied")
    assert (found.value.message, found.value.hint) == ("a.txt can't be read: Permission denied.", "Name another.")
    with pytest.raises(ValueError, match="other"), os_errors_as("a.txt can't be read"):
        raise ValueError("other")
