"""A finished book has the loudness, the chapters and the tags that were asked for, and its peaks stay below -1 dB."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from llasa_cli.audio.audiobook import BookWriter
from llasa_cli.audio.chunk import AudioChunk
from llasa_cli.audio.loudness import CEILING_DB, find_gain, measure, with_gain
from llasa_cli.audio.mp4 import BookTags, ChapterStart
from tests.documents.make import PNG

RATE = 16_000
SECONDS = 12


def samples() -> np.ndarray:
    """Noise in syllables, with a pause and a click."""
    time = np.arange(RATE * SECONDS) / RATE
    sound = np.random.default_rng(0).standard_normal(len(time)) * np.sin(9 * time) ** 2 * 0.02
    sound[RATE * 4 : RATE * 6] = 0
    sound[RATE : RATE + 4] = 0.9
    return sound.astype(np.float32)


def sounds(block: int = 65_536) -> Iterator[AudioChunk]:
    whole = samples()
    for begin in range(0, len(whole), block):
        yield AudioChunk(whole[begin : begin + block], RATE)


def test_a_sine_of_full_scale_has_the_loudness_of_the_standard() -> None:
    """BS.1770-4: a sine of 997 Hz at 0 dBFS in one channel reads -3.01 LKFS."""
    time = np.arange(48_000 * 5) / 48_000
    sine = np.sin(2 * np.pi * 997 * time).astype(np.float32)
    assert measure([AudioChunk(sine, 48_000)]) == pytest.approx(-3.01, abs=0.02)


@pytest.mark.parametrize("target", [-25.0, -19.0, -16.0])
def test_a_sound_gets_the_target_loudness_and_keeps_its_peaks_low(target: float) -> None:
    gain = find_gain(sounds, target)
    made = np.concatenate([chunk.samples for chunk in with_gain(sounds(), gain)])
    assert len(made) == RATE * SECONDS
    assert measure([AudioChunk(made, RATE)]) == pytest.approx(target, abs=0.1)
    assert 20 * np.log10(np.abs(made).max()) <= CEILING_DB + 0.01


def test_the_size_of_the_blocks_changes_nothing() -> None:
    one, other = (np.concatenate([c.samples for c in with_gain(sounds(size), 6.0)]) for size in (1_000, 50_000))
    np.testing.assert_allclose(one, other, atol=1e-6)


def test_silence_stays_silence() -> None:
    silence = [AudioChunk(np.zeros(RATE, np.float32), RATE)]
    assert find_gain(lambda: silence, -19.0) == 1.0


def write(path: Path, is_folder: bool = False) -> None:
    writer = BookWriter(path, "m4b", -19.0, BookTags("The Garden", "A. Writer", PNG), is_folder=is_folder)
    writer.chapters += [ChapterStart(0.0, "One"), ChapterStart(5.0, "Two: a/b")]
    writer.write(sounds)


def test_an_audiobook_has_chapters_tags_and_cover(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    write(tmp_path / "a.m4b")
    write(tmp_path / "b.m4b")
    assert (tmp_path / "a.m4b").read_bytes() == (tmp_path / "b.m4b").read_bytes()
    with av.open(str(tmp_path / "a.m4b")) as book:
        chapters = [(c["start"] * c["time_base"], c["metadata"]["title"]) for c in book.chapters()]
        assert chapters == [(0, "One"), (5, "Two: a/b")]
        assert book.chapters()[-1]["end"] * book.chapters()[-1]["time_base"] == SECONDS
        assert (book.metadata["title"], book.metadata["artist"]) == ("The Garden", "A. Writer")
        assert bytes(next(book.demux(book.streams.video[0]))) == PNG
        made = np.concatenate([frame.to_ndarray()[0] for frame in book.decode(audio=0)])
    assert len(made) / RATE == pytest.approx(SECONDS, abs=0.1)
    assert measure([AudioChunk(made, RATE)]) == pytest.approx(-19, abs=0.3)


def test_a_folder_gets_a_file_for_each_chapter_and_a_playlist(tmp_path: Path) -> None:
    pytest.importorskip("av")
    write(tmp_path, is_folder=True)
    lines = (tmp_path / f"{tmp_path.name}.m3u8").read_text(encoding="utf-8").splitlines()
    assert lines == ["#EXTM3U", "#EXTINF:5,One", "01 One.m4b", "#EXTINF:7,Two: a/b", "02 Two_ a_b.m4b"]
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".m3u8", ".m4b", ".m4b"]


def test_the_files_of_a_folder_add_up_to_the_whole(tmp_path: Path) -> None:
    writer = BookWriter(tmp_path, "wav", is_folder=True)
    writer.chapters += [ChapterStart(0.0, "One"), ChapterStart(0.0, "Empty"), ChapterStart(5.00001, "Two")]
    writer.write(lambda: sounds(30_000))
    lengths = [soundfile.info(str(path)).frames for path in sorted(tmp_path.glob("*.wav"))]
    assert sum(lengths) == RATE * SECONDS
    assert lengths[0] == 5 * RATE
