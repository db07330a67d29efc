"""Saved voices: small files that are complete or absent, and are read without torch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from llasa_cli.errors import LlasaError, UsageError
from llasa_cli.voices.library import (
    SavedVoice,
    check_name,
    find,
    list_voices,
    match_speaker,
    read,
    remove,
    save,
    voice_exists,
    voice_path,
    voices_folder,
)

KIM = SavedVoice(
    name="kim",
    text='She said: "[1,2]  \\ no."\u2028Ünder – 日本',
    codes=tuple(range(150)),
    codec="0123456789ab",
    language="en",
    model="tiny",
    revision="abc",
    license="recording: mine; model: Apache-2.0",
    created="2026-11-21T08:00:00+00:00",
    sound={"seconds": 3.0, "sampling_rate": 44100, "channels": 2},
    transcribed_by="pocketsphinx",
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LLASA_VOICES", str(tmp_path / "voices"))
    return tmp_path / "voices"


def test_a_saved_voice_is_read_back_unchanged(folder: Path) -> None:
    path = save(KIM)
    assert path == folder / "kim.json"
    assert find("kim") == find(str(path)) == KIM
    assert os.listdir(folder) == ["kim.json"]
    assert path.stat().st_size < 2000
    assert len(path.read_text(encoding="utf-8").split("\n")) < 20, "a person may want to read it"


def test_a_voice_is_replaced_only_with_force(folder: Path) -> None:
    save(KIM)
    for name in ("kim", "KIM"):
        with pytest.raises(UsageError, match="already"):
            save(replace(KIM, name=name, text="other"))
    assert find("kim") == KIM
    save(replace(KIM, text="other"), force=True)
    assert find("kim").text == "other"
    assert len(list_voices()) == 1


def test_an_error_while_writing_leaves_the_old_voice(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(KIM)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(LlasaError, match="No space left"):
        save(replace(KIM, text="other"), force=True)
    assert find("kim") == KIM
    assert os.listdir(folder) == ["kim.json"]


@pytest.mark.parametrize(
    "name", ["", " ", ".", "..", "a/b", "a\\b", "-x", "a\nb", "con", "COM1.x", "x" * 65, "a.json", "é" * 40, "a "]
)
def test_an_impossible_file_name_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="name"):
        check_name(name)
    assert not voice_exists(name)


@pytest.mark.parametrize("name", ["kim", "Kim-2", "日本", "my voice", "v1.2", "a_b"])
def test_names_in_any_script_are_possible(name: str) -> None:
    save(replace(KIM, name=name))
    assert find(name).name == name


def test_without_a_folder_there_are_no_voices(folder: Path) -> None:
    assert list_voices() == []
    assert not voice_exists("kim")
    with pytest.raises(UsageError, match="no saved voice 'kim'") as raised:
        find("kim")
    assert "--save" in raised.value.hint
    with pytest.raises(UsageError, match="no saved voice"):
        remove("kim")
    assert not folder.exists()


def test_a_folder_that_is_a_file_is_an_error(folder: Path) -> None:
    folder.write_text("x")
    for attempt in (list_voices, lambda: find("kim"), lambda: save(KIM)):
        with pytest.raises(LlasaError, match="can't be"):
            attempt()
    assert not voice_exists("kim"), "a model's speaker can be asked for all the same"


def test_a_removed_voice_is_gone_and_a_broken_one_can_be_removed(folder: Path) -> None:
    save(KIM)
    (folder / "broken.json").write_text("{")
    remove("KIM")
    remove("broken")
    assert os.listdir(folder) == []


def edited(**changes: Any) -> bytes:
    values = json.loads(save(KIM, force=True).read_text(encoding="utf-8"))
    return json.dumps({name: value for name, value in (values | changes).items() if value != "DROP"}).encode()


BROKEN: dict[str, Any] = {
    "empty": b"",
    "cut off": b'{"format": 1, "name": "kim", "codes": [1, 2',
    "binary": bytes(range(256)),
    "a list": b"[]",
    "deep": b"[" * 100_000,
    "no format": {"format": "DROP"},
    "format as text": {"format": "1"},
    "later format": {"format": 2},
    "no codes": {"codes": []},
    "codes as text": {"codes": "1 2 3"},
    "half codes": {"codes": [1, 2.5]},
    "true codes": {"codes": [True]},
    "negative codes": {"codes": [-1]},
    "no text": {"text": " "},
    "text as number": {"text": 7},
    "no codec": {"codec": "DROP"},
    "language as list": {"language": ["en"]},
    "license as number": {"license": 1},
    "sound as list": {"sound": [1]},
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_file_that_is_not_a_voice_is_an_error_and_the_others_are_listed(folder: Path, name: str) -> None:
    content = BROKEN[name] if isinstance(BROKEN[name], bytes) else edited(**BROKEN[name])
    save(KIM, force=True)
    (folder / "broken.json").write_bytes(content)
    with pytest.raises(UsageError) as raised:
        read(folder / "broken.json")
    assert "broken.json" in raised.value.message
    assert raised.value.hint
    assert "\n" not in raised.value.message
    assert [(entry.name, entry.voice is None, bool(entry.error)) for entry in list_voices()] == [
        ("broken", True, True),
        ("kim", False, False),
    ]


def test_unknown_entries_are_ignored_and_missing_ones_have_defaults(folder: Path) -> None:
    path = folder / "kim.json"
    save(KIM)
    path.write_bytes(edited(added="x", sound="DROP", language=None, created="DROP", transcribed_by="DROP"))
    assert read(path) == replace(KIM, sound={}, language=None, created="", transcribed_by=None)


def test_a_copied_file_is_a_voice_of_its_own_name(folder: Path) -> None:
    save(KIM)
    (folder / "kim.json").rename(folder / "lee.json")
    assert find("lee").name == "lee"


def test_folders_and_too_large_files_are_refused(folder: Path) -> None:
    (folder / "a.json").mkdir(parents=True)
    with pytest.raises(UsageError, match="not a file"):
        read(folder / "a.json")
    with (folder / "b.json").open("wb") as file:
        file.truncate(10_000_000)
    with pytest.raises(UsageError, match="too large"):
        read(folder / "b.json")
    with pytest.raises(UsageError, match="does not exist"):
        find(str(folder / "absent.json"))


def test_the_default_folder_is_in_the_users_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("LLASA_VOICES")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    if sys.platform == "linux":
        assert voices_folder() == tmp_path / "llasa" / "voices"
    assert voice_path("kim").parent == voices_folder()


def test_voices_are_read_without_torch_or_numpy(folder: Path) -> None:
    save(KIM)
    code = (
        "import sys\nfrom llasa_cli.voices.library import find\n"
        "assert find('kim').codes[:3] == (0, 1, 2)\n"
        "assert not {'torch', 'numpy', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    ("asked", "speakers", "found"),
    [
        ("kore", ("kore", "puck"), "kore"),
        ("Kore", ("kore", "puck"), "kore"),
        ("Speaker kore", ("kore", "puck"), "kore"),
        ("speaker  PUCK", ("kore", "puck"), "puck"),
        ("Hu Tao", ("Hu Tao",), "Hu Tao"),
        ("派蒙", ("派蒙",), "派蒙"),
        ("kor", ("kore",), None),
        ("kore", (), None),
        ("Ann", ("ANN", "ann"), None),
        ("ann", ("ANN", "ann"), "ann"),
        ("Speaker 1", ("Speaker 1", "1"), "Speaker 1"),
    ],
)
def test_a_speaker_is_matched_in_every_spelling(asked: str, speakers: tuple[str, ...], found: str | None) -> None:
    assert match_speaker(asked, speakers) == found
