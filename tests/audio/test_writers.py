"""A file is complete or absent; every reader understands what is written to a pipe."""

from __future__ import annotations

import io
import os
import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile

from llasa_cli.audio.chunk import AudioChunk
from llasa_cli.audio.sink import TeeSink
from llasa_cli.audio.writers import FileSink, StreamSink, is_standard_output, open_sink, pick_format
from llasa_cli.errors import LlasaError, UsageError

RATE = 16_000


def tone(seconds: float = 0.5) -> AudioChunk:
    times = np.arange(round(seconds * RATE)) / RATE
    return AudioChunk((0.3 * np.sin(2 * np.pi * 440 * times)).astype(np.float32), RATE)


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg", "opus", "mp3"])
def test_every_format_can_be_read_back_with_its_length(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"tone.{ending}"
    with open_sink(str(path), None, play=False) as sink:
        sink.write(tone())
        sink.write(tone())
    samples, rate = soundfile.read(path)
    assert rate in (RATE, 48_000)  # libsndfile decodes Opus at 48 kHz
    assert len(samples) / rate == pytest.approx(1.0, abs=0.1)
    assert np.abs(samples).max() == pytest.approx(0.3, abs=0.1)
    assert os.listdir(tmp_path) == [path.name]


def test_a_file_has_its_true_length_and_values(tmp_path: Path) -> None:
    path = tmp_path / "tone.wav"
    with FileSink(path, "wav") as sink:
        sink.write(tone())
    with wave.open(str(path)) as file:
        assert (file.getnframes(), file.getframerate(), file.getnchannels(), file.getsampwidth()) == (8000, RATE, 1, 2)
    assert np.abs(soundfile.read(path)[0] - tone().samples).max() < 1e-4


def test_sound_beyond_full_scale_is_clipped_and_never_wraps(tmp_path: Path) -> None:
    loud = AudioChunk(np.array([2.0, -2.0, 0.0] * 100, np.float32), RATE)
    path, stream = tmp_path / "loud.wav", io.BytesIO()
    with FileSink(path, "wav") as sink:
        sink.write(loud)
    with StreamSink(stream, "pcm", "stream") as sink:
        sink.write(loud)
    for found in (soundfile.read(path, dtype="int16")[0], np.frombuffer(stream.getvalue(), "<i2")):
        assert found[:3].tolist()[0] >= 32766
        assert found[:3].tolist()[1] <= -32767


def test_an_exception_leaves_no_file_and_keeps_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "out.wav"
    path.write_bytes(b"older")
    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error), FileSink(path, "wav") as sink:
            sink.write(tone())
            raise error
    assert path.read_bytes() == b"older"
    assert os.listdir(tmp_path) == ["out.wav"]


def test_no_sound_makes_no_file(tmp_path: Path) -> None:
    with FileSink(tmp_path / "out.wav", "wav"):
        pass
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("ending", ["wav", "flac", "ogg", "mp3"])
def test_a_full_disk_is_an_error_and_leaves_no_file(tmp_path: Path, ending: str) -> None:
    """RLIMIT_FSIZE replaces a full disk: the same calls fail in the same places."""
    import resource
    import signal

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with pytest.raises(LlasaError, match=r"can't be written: .*arge"):
            sink = FileSink(tmp_path / f"out.{ending}", ending)
            resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
            with sink:
                for _ in range(40):
                    noise = np.random.default_rng(0).normal(0, 0.3, RATE).astype(np.float32)
                    sink.write(AudioChunk(noise, RATE))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_device_is_an_error() -> None:
    with (
        pytest.raises(LlasaError, match="/dev/full can't be written: No space left"),
        open_sink("/dev/full", None, False) as sink,
    ):
        sink.write(tone())
    assert Path("/dev/full").is_char_device()


def test_a_streamed_wav_is_read_by_wave_and_soundfile() -> None:
    stream = io.BytesIO()
    with StreamSink(stream, "wav", "stream") as sink:
        sink.write(tone())
        sink.write(tone())
    data = stream.getvalue()
    assert len(data) == 44 + 2 * RATE
    with wave.open(io.BytesIO(data)) as file:
        assert len(file.readframes(10**6)) == 2 * RATE
    assert len(soundfile.read(io.BytesIO(data))[0]) == RATE


def test_other_formats_are_written_to_a_pipe_whole() -> None:
    stream = io.BytesIO()
    with StreamSink(stream, "flac", "stream") as sink:
        sink.write(tone())
    assert len(soundfile.read(io.BytesIO(stream.getvalue()))[0]) == 8000


def test_two_sinks_get_the_same_and_fail_together(tmp_path: Path) -> None:
    first, second = tmp_path / "a.wav", tmp_path / "b.wav"
    with TeeSink([FileSink(first, "wav"), FileSink(second, "wav")]) as sink:
        sink.write(tone())
    assert first.read_bytes() == second.read_bytes()
    with (
        pytest.raises(ValueError),
        TeeSink([FileSink(tmp_path / "c.wav", "wav"), FileSink(tmp_path / "d.wav", "wav")]) as sink,
    ):
        sink.write(tone())
        raise ValueError
    assert sorted(os.listdir(tmp_path)) == ["a.wav", "b.wav"]


def test_bad_outputs_are_refused_before_any_work(tmp_path: Path) -> None:
    for output, file_format in (
        ("x.txt", None),
        ("x", None),
        ("x.wav", "aiff"),
        (str(tmp_path / "no" / "x.wav"), None),
    ):
        with pytest.raises(UsageError):
            open_sink(output, file_format, play=False)
    with pytest.raises(UsageError, match="is a folder"):
        open_sink(str(tmp_path), "wav", play=False)
    assert pick_format("a.MP3", None) == "mp3"
    assert pick_format("-", None) == "wav"


def test_audio_is_never_written_to_a_terminal() -> None:
    class Terminal(io.BytesIO):
        def isatty(self) -> bool:
            return True

    with pytest.raises(UsageError, match="terminal"):
        open_sink("-", None, play=False, stdout=Terminal())


def test_file_and_pipe_hold_the_same_samples(tmp_path: Path) -> None:
    stream = io.BytesIO()
    for sink in (
        FileSink(tmp_path / "a.wav", "wav"),
        StreamSink(stream, "wav", "stream"),
        FileSink(tmp_path / "a.pcm", "pcm"),
    ):
        with sink:
            sink.write(tone())
    streamed = stream.getvalue()[44:]
    assert (tmp_path / "a.wav").read_bytes()[-len(streamed) :] == streamed
    assert (tmp_path / "a.pcm").read_bytes() == streamed


def test_a_redirected_stream_has_its_true_length(tmp_path: Path) -> None:
    path = tmp_path / "redirected.wav"
    with path.open("wb") as file:
        file.write(b"before")
        with StreamSink(file, "wav", "stream") as sink:
            sink.write(tone())
        file.write(b"after")
    data = path.read_bytes()
    assert (data[:6], data[-5:]) == (b"before", b"after")
    with wave.open(io.BytesIO(data[6:-5])) as found:
        assert found.getnframes() == 8000
    assert int.from_bytes(data[10:14], "little") == 36 + 16_000


def test_a_stream_that_appends_is_not_rewritten(tmp_path: Path) -> None:
    path = tmp_path / "appended.wav"
    with path.open("ab") as file, StreamSink(file, "wav", "stream") as sink:
        sink.write(tone())
    assert len(path.read_bytes()) == 44 + 16_000


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a.wav").write_bytes(b"older")
    (tmp_path / "link.wav").symlink_to(tmp_path / "real" / "a.wav")
    with open_sink(str(tmp_path / "link.wav"), None, play=False) as sink:
        sink.write(tone())
    assert (tmp_path / "link.wav").is_symlink()
    assert soundfile.info(tmp_path / "real" / "a.wav").frames == 8000
    assert sorted(os.listdir(tmp_path)) == ["link.wav", "real"]


@pytest.mark.parametrize("name", ["-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
def test_every_name_of_standard_output_means_the_claimed_stream(name: str) -> None:
    assert is_standard_output(name)
    stream = io.BytesIO()
    with open_sink(name, "wav", play=False, stdout=stream) as sink:
        sink.write(tone())
    assert len(stream.getvalue()) == 44 + 16_000


def test_a_terminal_is_refused_by_its_path_too() -> None:
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    try:
        with pytest.raises(UsageError, match="terminal"):
            open_sink(os.ttyname(theirs), "wav", play=False)
    finally:
        os.close(ours)
        os.close(theirs)


@pytest.mark.parametrize("name", ["x" * 300 + ".wav", "x" * 251 + ".wav"])
def test_a_name_is_too_long_only_if_the_file_system_says_so(tmp_path: Path, name: str) -> None:
    if len(name) > 255:
        with pytest.raises(LlasaError, match="too long"):
            open_sink(str(tmp_path / name), None, play=False)
        return
    with open_sink(str(tmp_path / name), None, play=False) as sink:
        sink.write(tone())
    assert os.listdir(tmp_path) == [name]
