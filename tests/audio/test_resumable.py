"""A resumed file equals the file of an uninterrupted run."""

from __future__ import annotations

import json
import resource
from pathlib import Path

import numpy as np
import pytest
import soundfile

from llasa_cli.audio.chunk import AudioChunk
from llasa_cli.audio.resumable import ResumableSink
from llasa_cli.errors import LlasaError, UsageError

RATE = 16_000
PIECES = [np.random.default_rng(n).uniform(-1, 1, 1000 + n).astype(np.float32) for n in range(8)]


def write(sink: ResumableSink, numbers: range) -> None:
    for number in numbers:
        sink.write(AudioChunk(PIECES[number], RATE))
        sink.commit({"number": number})


def straight(path: Path) -> bytes:
    with ResumableSink(path, path.suffix[1:], "k", {}) as sink:
        write(sink, range(8))
    return path.read_bytes()


@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
def test_a_resumed_file_equals_an_uninterrupted_one(tmp_path: Path, name: str) -> None:
    whole = straight(tmp_path / ("straight" + name[1:]))
    path = tmp_path / name
    with pytest.raises(KeyboardInterrupt), ResumableSink(path, name[2:], "k", {"seed": 7}) as sink:
        write(sink, range(3))
        sink.write(AudioChunk(PIECES[3], RATE))
        raise KeyboardInterrupt
    assert not path.exists()
    with ResumableSink(path, name[2:], "k", {"seed": 9}) as sink:
        assert [take["number"] for take in sink.earlier] == [0, 1, 2]
        assert sink.facts == {"seed": 7}
        assert sink.seconds == pytest.approx(sum(map(len, PIECES[:3])) / RATE)
        write(sink, range(3, 8))
    assert path.read_bytes() == whole
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([name, "straight" + name[1:]])


@pytest.mark.parametrize("cut", [1, 5, 30])
def test_a_take_that_a_crash_cut_off_is_made_again(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "a.wav"
    whole = straight(tmp_path / "b.wav")
    for victim in ("takes.jsonl", "sound.pcm"):
        with pytest.raises(RuntimeError), ResumableSink(path, "wav", "k", {}) as sink:
            write(sink, range(4))
            raise RuntimeError
        with (path.with_name("a.wav.partial") / victim).open("r+b") as file:
            file.truncate(file.seek(0, 2) - cut)
        with pytest.raises(RuntimeError), ResumableSink(path, "wav", "k", {}) as sink:
            assert len(sink.earlier) == 3
            write(sink, range(3, 6))
            raise RuntimeError
        with ResumableSink(path, "wav", "k", {}) as sink:
            assert [take["number"] for take in sink.earlier] == [0, 1, 2, 3, 4, 5]
            write(sink, range(6, 8))
        assert path.read_bytes() == whole
        assert soundfile.info(str(path)).frames == sum(map(len, PIECES))


def test_unfinished_work_on_another_text_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    with pytest.raises(RuntimeError), ResumableSink(path, "wav", "k", {}) as sink:
        write(sink, range(2))
        raise RuntimeError
    with pytest.raises(UsageError, match="another text"):
        ResumableSink(path, "wav", "other", {})
    (path.with_name("a.wav.partial") / "about.json").write_text("{")
    with pytest.raises(UsageError, match="can't be read"):
        ResumableSink(path, "wav", "k", {})
    assert (path.with_name("a.wav.partial") / "sound.pcm").stat().st_size == 2 * sum(map(len, PIECES[:2]))


def test_files_of_others_in_the_folder_are_never_removed(tmp_path: Path) -> None:
    path, folder = tmp_path / "a.wav", tmp_path / "a.wav.partial"
    folder.mkdir()
    (folder / "results.jsonl").write_text("{}\n")
    with pytest.raises(UsageError, match=r"such as results\.jsonl"):
        ResumableSink(path, "wav", "k", {})
    (folder / "results.jsonl").unlink()
    with ResumableSink(path, "wav", "k", {}) as sink:
        (folder / "notes").write_text("mine")
        write(sink, range(2))
    assert path.exists()
    assert [p.name for p in folder.iterdir()] == ["notes"]


def test_a_folder_whose_creation_was_killed_can_be_used(tmp_path: Path) -> None:
    (tmp_path / "a.wav.partial").mkdir()
    (tmp_path / "a.wav.partial" / "about.part").write_text("{")
    (tmp_path / "a.wav.partial" / "takes.jsonl").touch()
    assert straight(tmp_path / "a.wav") == straight(tmp_path / "b.wav")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.wav", "b.wav"]


def test_two_processes_do_not_write_one_file(tmp_path: Path) -> None:
    with ResumableSink(tmp_path / "a.wav", "wav", "k", {}) as sink:
        write(sink, range(1))
        with pytest.raises(UsageError, match="Another llasa"):
            ResumableSink(tmp_path / "a.wav", "wav", "k", {})
        write(sink, range(1, 2))
    assert soundfile.info(str(tmp_path / "a.wav")).frames == sum(map(len, PIECES[:2]))


def test_a_run_without_takes_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), ResumableSink(tmp_path / "a.wav", "wav", "k", {}):
        raise RuntimeError
    with ResumableSink(tmp_path / "a.wav", "wav", "k", {}):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_loses_only_the_uncommitted_take(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    import signal

    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, before[1]))
        with pytest.raises(LlasaError, match="File too large"), ResumableSink(path, "wav", "k", {}) as sink:
            write(sink, range(8))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, old)
    with ResumableSink(path, "wav", "k", {}) as sink:
        assert len(sink.earlier) == 2
        write(sink, range(2, 8))
    assert path.read_bytes() == straight(tmp_path / "b.wav")


def test_rows_are_plain_json(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), ResumableSink(tmp_path / "a.wav", "wav", "k", {}) as sink:
        write(sink, range(1))
        raise RuntimeError
    row = json.loads((tmp_path / "a.wav.partial" / "takes.jsonl").read_text())
    assert row == {"samples": 1000, "sampling_rate": RATE, "take": {"number": 0}}
