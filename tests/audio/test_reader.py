"""Audio files of any form are read as float32, mono, 16 kHz; files that can't be read are errors."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import soundfile

from llasa_cli.audio.reader import read_clip, read_recording
from llasa_cli.errors import AudioError, UsageError
from llasa_cli.voices.reference import check_sound, check_transcript


def syllables(seconds: float, rate: int = 16_000) -> np.ndarray:
    """A tone that gets louder and softer four times a second, as speech does."""
    swell = 0.6 + 0.4 * np.sin(2 * np.pi * 4 * np.arange(round(seconds * rate)) / rate)
    return (tone(seconds, rate) * swell).astype(np.float32)


def tone(seconds: float, rate: int, hertz: float = 440.0) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


@pytest.mark.parametrize("rate", [8000, 16_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("channels", [1, 2])
def test_any_rate_and_channel_count_keeps_the_tone(tmp_path: Path, rate: int, channels: int) -> None:
    path = tmp_path / "clip.wav"
    soundfile.write(path, np.stack([tone(1.0, rate)] * channels, axis=1), rate)
    samples = read_clip(path)
    assert samples.dtype == np.float32
    assert len(samples) == pytest.approx(16_000, abs=2)
    middle = slice(2000, 14_000)
    assert np.abs(samples[middle] - tone(1.0, 16_000)[middle]).max() < 0.01


@pytest.mark.parametrize("content", [b"", b"RIFF", b"not audio at all", b"\0" * 4096])
def test_a_file_without_audio_is_an_error_that_names_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "clip.wav"
    path.write_bytes(content)
    with pytest.raises(AudioError, match=r"clip\.wav"):
        read_clip(path)


def test_missing_and_empty_files_are_errors(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="does not exist"):
        read_clip(tmp_path / "absent.wav")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0, np.float32), 16_000)
    with pytest.raises(AudioError, match="contains no sound"):
        read_clip(tmp_path / "empty.wav")


def test_a_reference_loses_the_silence_around_it_and_nothing_else() -> None:
    quiet = np.zeros(16_000, np.float32)
    speech = np.concatenate([syllables(1.0), quiet[:8000], syllables(1.0)])
    clip = check_transcript(check_sound(np.concatenate([quiet, speech, quiet]), 16_000), "some twenty letters here")
    assert len(clip.samples) / 16_000 == pytest.approx(2.7, abs=0.05)
    assert clip.warnings == ()


@pytest.mark.parametrize(
    ("samples", "text", "error"),
    [
        (np.zeros(32_000, np.float32), "hello there", AudioError),
        (tone(0.5, 16_000), "hello", AudioError),
        (tone(16.0, 16_000), "hello " * 40, AudioError),
        (tone(3.0, 16_000), " ", UsageError),
        (tone(3.0, 16_000), "hi", UsageError),
        (tone(2.0, 16_000), "much too long " * 20, UsageError),
    ],
    ids=["silent", "short", "long", "no transcript", "transcript too short", "transcript too long"],
)
def test_a_clip_that_would_not_give_the_voice_is_refused(
    samples: np.ndarray, text: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        check_transcript(check_sound(samples, 16_000), text)


def test_clipped_and_quiet_clips_get_a_warning() -> None:
    loud = np.clip(tone(2.0, 16_000) * 10, -1, 1)
    assert "clipped" in check_transcript(check_sound(loud, 16_000), "some twenty letters here").warnings[0]
    quiet = np.concatenate([syllables(1.0), np.zeros(3200, np.float32), syllables(1.0)]) * 0.02
    assert "quiet" in check_transcript(check_sound(quiet, 16_000), "some twenty letters here").warnings[0]


def test_a_damaged_mp3_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "clip.mp3"
    soundfile.write(path, tone(3.0, 16_000), 16_000)
    whole = path.read_bytes()
    for cut in (900, 2000, 5000):
        damaged = bytearray(whole)
        damaged[cut : cut + 400] = bytes(range(200, 0, -1)) * 2
        for content in (damaged, whole[:cut]):
            path.write_bytes(content)
            with suppress(AudioError):
                read_clip(path)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("codec", ["VORBIS", "OPUS"])
def test_a_damaged_ogg_file_is_read_with_a_warning(tmp_path: Path, codec: str) -> None:
    path = tmp_path / "clip.ogg"
    noise = np.random.default_rng(1).standard_normal(4 * 24_000).astype(np.float32)
    soundfile.write(path, 0.1 * noise, 24_000, format="OGG", subtype=codec)
    data = path.read_bytes()
    half = len(data) // 2
    for damaged, fault in (
        (data[:half], "cut short"),
        (data[: data.rindex(b"OggS")], "its last page"),
        (data[:half] + bytes(200) + data[half + 200 :], "is damaged"),
        (data[:half] + data[half + 300 :], "is damaged"),
        (data + data, "several Ogg files"),
        (data + b"TAG" + bytes(125), ""),
        (data, ""),
    ):
        path.write_bytes(damaged)
        found = read_recording(path).warnings
        assert bool(found) == bool(fault), found
        assert fault in "".join(found)


def test_an_mp3_file_that_is_cut_short_is_read_with_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "clip.mp3"
    soundfile.write(path, tone(4.0, 24_000), 24_000, format="MP3")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "of 4.0 s could be read" in read_recording(path).warnings[0]


def test_mixing_channels_keeps_a_voice_that_is_in_one_of_them_or_inverted(tmp_path: Path) -> None:
    voice, nothing = tone(1.0, 16_000), np.zeros(16_000, np.float32)
    for number, channels in enumerate(([voice, -voice], [nothing] * 7 + [voice], [voice, nothing])):
        path = tmp_path / f"{number}.wav"
        soundfile.write(path, np.stack(channels, axis=1), 16_000, subtype="FLOAT")
        assert np.abs(read_clip(path)).max() > 0.14


def test_a_silent_or_constant_channel_does_not_lower_the_voice(tmp_path: Path) -> None:
    voice, nothing = tone(1.0, 16_000), np.zeros(16_000, np.float32)
    path = tmp_path / "clip.wav"
    for channels in ([voice, nothing], [nothing, voice * 0.7, nothing + 0.9], [nothing + 0.001, voice, voice]):
        soundfile.write(path, np.stack(channels, axis=1), 16_000, subtype="FLOAT")
        found = read_recording(path)
        assert np.abs(found.samples).max() == pytest.approx(np.abs(channels[1]).max() or np.abs(voice).max(), rel=0.01)
        assert found.flat_tops < 0.001


def test_a_page_named_as_mp3_is_refused_in_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "clip.mp3"
    path.write_bytes(b"<!DOCTYPE html><html>404</html>")
    with pytest.raises(AudioError, match="is a web page"):
        read_clip(path)
    assert capfd.readouterr() == ("", "")


def test_a_file_longer_than_the_limit_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "clip.wav"
    soundfile.write(path, tone(5.0, 8000), 8000)
    assert read_recording(path, max_s=5.1).file_rate == 8000
    with pytest.raises(AudioError, match="5 s long"):
        read_recording(path, max_s=4.9)


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("my clip.m4a", "ffmpeg -i 'my clip.m4a' 'my clip.wav'"),
        ("clip.wav", "ffmpeg -i clip.wav clip-converted.wav"),
    ],
)
def test_an_unsupported_format_is_named_with_the_command_that_converts_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(b"\0\0\0\x20ftypM4A " + bytes(2000))
    with pytest.raises(AudioError, match="is an MP4 or M4A file") as refused:
        read_clip(name)
    assert command in refused.value.hint


@pytest.mark.parametrize(
    ("name", "codec", "rate"),
    [("a.m4a", "aac", 44_100), ("a.mp4", "aac", 16_000), ("a.webm", "libopus", 48_000), ("a.wma", "wmav2", 44_100)],
)
def test_clips_of_phones_are_read_with_pyav(tmp_path: Path, name: str, codec: str, rate: int) -> None:
    av = pytest.importorskip("av")
    tone = (0.5 * np.sin(2 * np.pi * 440 * np.arange(2 * rate) / rate)).astype(np.float32)
    with av.open(str(tmp_path / name), "w") as container:
        container.metadata["title"] = "Title"
        stream = container.add_stream(codec, rate=rate, layout="mono")
        stream.bit_rate = 64_000
        resampler = av.AudioResampler(stream.format, "mono", rate, stream.frame_size or None)
        frame = av.AudioFrame.from_ndarray(tone[None], format="fltp", layout="mono")
        frame.sample_rate = rate
        for part in [*resampler.resample(frame), *resampler.resample(None), None]:
            container.mux(stream.encode(part))
    data = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(data.replace(b"Title", b"T\xeftre"))  # not UTF-8; WMA has UTF-16
    found = read_recording(tmp_path / name, max_s=15.0)
    assert found.file_rate == rate
    assert len(found.samples) / 16_000 == pytest.approx(2.0, abs=0.15)
    middle = found.samples[8_000:24_000]
    assert np.argmax(np.abs(np.fft.rfft(middle))) == 440
    with pytest.raises(AudioError, match="files of up to 1 s"):
        read_recording(tmp_path / name, max_s=1.0)


def test_flac_that_was_written_to_a_pipe_or_cut_short_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    path = tmp_path / "clip.flac"
    soundfile.write(path, tone(3.0, 16_000), 16_000)
    data = bytearray(path.read_bytes())
    path.write_bytes(data[: len(data) * 6 // 10])
    found = read_recording(path)
    assert "could be read" in found.warnings[0]
    assert "of 3.0 s" in found.warnings[0]
    assert len(found.samples) > 16_000
    data[21] &= 0xF0  # the number of samples, which a pipe leaves at 0
    data[22:26] = bytes(4)
    path.write_bytes(data)
    found = read_recording(path, max_s=15.0)
    assert found.warnings == ()
    assert len(found.samples) == pytest.approx(3 * 16_000, abs=64)


def test_an_aiff_file_that_is_cut_short_is_read_with_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "clip.aiff"
    soundfile.write(path, tone(3.0, 16_000), 16_000)
    assert read_recording(path).warnings == ()
    path.write_bytes(path.read_bytes()[:60_000])
    assert "only 1.9 s of 3.0 s could be read" in read_recording(path).warnings[0]


def test_samples_without_a_header_are_refused_with_the_command_that_converts_them(tmp_path: Path) -> None:
    path = tmp_path / "clip.raw"
    path.write_bytes(bytes([1, 2]) * 5000)
    with pytest.raises(AudioError, match="raw samples have no header") as refused:
        read_clip(path)
    assert "ffmpeg -f s16le" in refused.value.hint
    soundfile.write(path, tone(1.0, 16_000), 16_000, format="WAV")  # a whole file with that name is read
    assert len(read_clip(path)) == 16_000


def test_two_voices_in_two_channels_are_mixed_with_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "call.wav"
    turns = np.repeat([1.0, 0.0, 1.0, 0.0], 16_000).astype(np.float32)
    first, second = tone(4.0, 16_000) * turns, tone(4.0, 16_000, 300.0) * (1 - turns)
    soundfile.write(path, np.stack([first, second], axis=1), 16_000)
    assert "hold different sounds" in read_recording(path).warnings[0]
    for other in (first, -first, np.roll(0.5 * first, 200), 0.02 * second, 0 * second):
        soundfile.write(path, np.stack([first, other], axis=1), 16_000)
        assert read_recording(path).warnings == ()


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "aac"), ("a.webm", "libopus"), ("a.aac", "aac")])
def test_a_compressed_clip_that_is_cut_short_is_read_with_a_warning(tmp_path: Path, name: str, codec: str) -> None:
    av = pytest.importorskip("av")
    noise = 0.1 * np.random.default_rng(1).standard_normal(4 * 48_000).astype(np.float32)
    path = tmp_path / name
    # The index of an MP4 file comes first, as recorders of broadcasts write it: at the end it would be lost.
    options = {"movflags": "faststart"} if name == "a.mp4" else {}
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=48_000, layout="mono")
        resampler = av.AudioResampler(stream.format, "mono", 48_000, stream.frame_size or None)
        frame = av.AudioFrame.from_ndarray(noise[None], format="fltp", layout="mono")
        frame.sample_rate = 48_000
        for part in [*resampler.resample(frame), *resampler.resample(None), None]:
            container.mux(stream.encode(part))
    assert read_recording(path).warnings == ()
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    found = read_recording(path)
    assert "could be read" in found.warnings[0]
    assert 1.5 < len(found.samples) / 16_000 < 3.0


def test_a_video_without_sound_is_named_as_such(tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
        for part in (frame, None):
            container.mux(stream.encode(part))
    with pytest.raises(AudioError, match="a video without an audio track"):
        read_clip(path)
