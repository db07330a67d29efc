"""Small files are whole or not there."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from llasa_cli.errors import UsageError
from llasa_cli.files import make_folder, refuse_overwriting, write_json, write_whole

UNWRITABLE = "\ud800"
"""Half a character: no encoding writes it."""


def test_what_is_written_is_what_is_read_and_nothing_else_is_left(tmp_path: Path) -> None:
    write_json(tmp_path / "about.json", {"name": "Zoë"})
    write_json(tmp_path / "about.json", {"name": "Zoë", "more": [1]})
    assert json.loads((tmp_path / "about.json").read_text(encoding="utf-8")) == {"name": "Zoë", "more": [1]}
    assert [path.name for path in tmp_path.iterdir()] == ["about.json"]


@pytest.mark.parametrize("content", [{"name": UNWRITABLE}, {"name": object()}])
def test_what_cant_be_written_leaves_the_old_file_and_no_part(tmp_path: Path, content: object) -> None:
    write_whole(tmp_path / "about.json", "old")
    with pytest.raises((UnicodeEncodeError, TypeError)):
        write_json(tmp_path / "about.json", content)
    assert (tmp_path / "about.json").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["about.json"]


def test_a_full_disk_leaves_the_old_file_and_no_part(tmp_path: Path) -> None:
    """A process may write 1,000 bytes: the rest fails as on a full disk."""
    write_whole(tmp_path / "about.json", "old")
    program = (
        "import pathlib, signal, sys; from llasa_cli.files import write_whole; "
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); write_whole(pathlib.Path(sys.argv[1]), 'x' * 9999)"
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
    assert [path.name for path in tmp_path.iterdir()] == ["about.json"]


def test_a_folder_that_cant_be_made_is_one_sentence(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="can't be made: Not a directory"):
        make_folder(tmp_path / "file" / "b")


@pytest.mark.parametrize("name", ["a.wav", "./b/../a.wav", "link", "absent.wav"])
def test_what_is_read_is_never_written_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("b").mkdir()
    Path("a.wav").write_text("sound")
    Path("link").symlink_to("a.wav")
    read = Path("absent.wav" if name == "absent.wav" else "a.wav").resolve()
    with pytest.raises(UsageError, match="written over"):
        refuse_overwriting([None, Path("other.wav"), Path(name)], [None, read])
    with pytest.raises(UsageError, match="two outputs"):
        refuse_overwriting([Path(name), read], [])
    refuse_overwriting([Path(name), Path("other.wav"), Path("/dev/null")], [Path("b"), Path("/dev/null")])
