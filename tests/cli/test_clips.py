"""Clips that users bring: each gives a voice, a voice and a warning, or an error before a model is loaded."""

from __future__ import annotations

import os
import struct
import subprocess
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from llasa_cli.cli.app import app
from llasa_cli.settings import ModelOptions
from llasa_cli.synthesis.synthesizer import Synthesizer
from llasa_cli.voices.library import find
from tests.conftest import SPEAKERS

RATE = 16_000
WORDS = "Some words that could be said in it."
Write = Callable[[Path], object]
Clone = Callable[..., tuple[int, str, str]]


@lru_cache
def speech(seconds: float = 3.0, rate: int = RATE, level: float = 0.3) -> np.ndarray:
    """Four bursts of a buzz a second, like syllables. The tables below ask for the same ones again and again."""
    time = np.arange(round(seconds * rate)) / rate
    buzz = sum(np.sin(2 * np.pi * 130 * harmonic * time) / harmonic for harmonic in range(1, 12))
    sound = (level * buzz / 2.2 * np.clip(np.sin(2 * np.pi * 4 * time) + 0.7, 0, 1)).astype(np.float32)
    sound.flags.writeable = False
    return sound


def save(samples: np.ndarray, rate: int = RATE, **how: str) -> Write:
    how.setdefault("format", "WAV")
    return lambda path: soundfile.write(path, samples, rate, **how)


def raw(content: bytes) -> Write:
    return lambda path: path.write_bytes(content)


def cut(size: int, of: Write) -> Write:
    def write(path: Path) -> None:
        of(path)
        path.write_bytes(path.read_bytes()[:size])

    return write


def with_bytes(at: int, content: bytes, of: Write) -> Write:
    """Overwrite bytes of a file that another function wrote."""

    def write(path: Path) -> None:
        of(path)
        found = bytearray(path.read_bytes())
        found[at : at + len(content)] = content
        path.write_bytes(found)

    return write


def spoilt(value: float, samples: np.ndarray) -> np.ndarray:
    samples = samples.copy()
    samples[1000] = value
    return samples


def channels(*levels: float) -> np.ndarray:
    return np.stack([level * speech() for level in levels], axis=1)


def link_in_a_ring(path: Path) -> None:
    path.symlink_to(path)


FLOAT, BYTES_3 = {"subtype": "FLOAT"}, {"subtype": "PCM_24"}


def noisy(snr_db: float, hum: bool = False) -> np.ndarray:
    """Speech with noise, or with a 100 Hz hum, so many dB below it."""
    clean = speech()
    noise = np.random.default_rng(0).normal(size=len(clean))
    if hum:
        noise = np.sqrt(2) * np.sin(2 * np.pi * 100 * np.arange(len(clean)) / RATE)
    loudness = np.sqrt(np.mean(clean[np.abs(clean) > 1e-3] ** 2))
    return (clean + loudness * 10 ** (-snr_db / 20) * noise).astype(np.float32)


def clipped(level: float, rate: int = RATE) -> np.ndarray:
    """Speech whose peaks are cut off at this level."""
    return np.clip(speech(rate=rate, level=level * 4), -level, level)


def with_header(change: Callable[[bytearray], bytearray]) -> Write:
    """A good WAV file whose bytes are changed."""

    def write(path: Path) -> None:
        save(speech())(path)
        path.write_bytes(change(bytearray(path.read_bytes())))

    return write


def with_length(length: int) -> Write:
    return with_bytes(40, struct.pack("<I", length), save(speech()))


USABLE: dict[str, tuple[Write, str]] = {
    "8 bit": (save(speech(), subtype="PCM_U8"), ""),
    "24 bit": (save(speech(), **BYTES_3), ""),
    "32 bit": (save(speech(), subtype="PCM_32"), ""),
    "float": (save(speech(), **FLOAT), ""),
    "double": (save(speech(), subtype="DOUBLE"), ""),
    "float beyond full scale": (save(speech(level=8.0), **FLOAT), "exceeds full scale by 16 dB: it was turned down"),
    "mu-law": (
        save(speech(rate=8000), 8000, subtype="ULAW"),
        "sampled at 8000 Hz: the voice will sound as on a telephone",
    ),
    "96 kHz": (save(speech(rate=96_000), 96_000), ""),
    "11 kHz": (save(speech(rate=11_025), 11_025), "sampled at 11025 Hz"),
    "stereo": (save(channels(1, 1)), ""),
    "7.1 channels": (save(channels(0.3, 0.3, 1, 0, 0.1, 0.1, 0, 0)), ""),
    "7.1 channels, a voice in one": (save(channels(0, 0, 1, 0, 0, 0, 0, 0)), ""),
    "channels that cancel": (save(channels(1, -1)), ""),
    "constant offset": (save(speech(level=0.2) + 0.3), ""),
    "silence around it": (save(np.concatenate([np.zeros(40_000), speech(), np.zeros(40_000)])), ""),
    "little noise": (save(noisy(20)), ""),
    "length that a pipe wrote": (with_length(0x7FFFF000), ""),
    "length of all ones, as ffmpeg writes to a pipe": (with_length(0xFFFFFFFF), ""),
    "a chunk after the samples": (
        with_header(lambda data: data + b"LIST" + struct.pack("<I", 4) + b"INFO"),
        "",
    ),
}
"""Clips that give a voice, most of them without a warning."""

DOUBTFUL: dict[str, tuple[Write, str]] = {
    "clipped at full scale": (save(clipped(1.0)), "clipped in "),
    "clipped below full scale": (save(clipped(0.99)), "clipped in "),
    "clipped far below full scale": (save(clipped(0.3)), "clipped in "),
    "clipped on one side": (save(np.minimum(speech(level=1.0), 0.3)), "clipped in "),
    "clipped in one channel": (save(np.stack([clipped(0.4), speech()], axis=1)), "clipped in "),
    "clipped with an offset": (save(clipped(0.5) + 0.2), "clipped in "),
    "clipped at 44.1 kHz": (save(clipped(0.7, 44_100), 44_100), "clipped in "),
    "clipped, then compressed": (save(clipped(0.7), format="OGG"), "clipped "),
    "noise as loud as speech": (save(noisy(0)), "as loud as the speech (-1 dB), which garbles words"),
    "noise louder than speech": (save(noisy(-6)), "5 dB louder than the speech"),
    "hum as loud as speech": (save(noisy(0, hum=True)), "as loud as the speech"),
    "noise a little below speech": (save(noisy(6)), "only 5 dB below the speech"),
    "very quiet": (save(speech(level=0.004), **BYTES_3), "very quiet: it was raised by"),
    "a long pause": (save(np.concatenate([speech(1.5), np.zeros(40_000), speech(1.5)])), "has a pause of 2.5 s"),
    "MP3 named wav": (save(speech(), format="MP3"), "clip.wav is an MP3 file, not a WAV file"),
    "FLAC named wav": (save(speech(), format="FLAC"), "clip.wav is a FLAC file, not a WAV file"),
    "Ogg named wav": (save(speech(), format="OGG"), "clip.wav is an Ogg file, not a WAV file"),
    "AIFF named wav": (save(speech(), format="AIFF"), "clip.wav is an AIFF file, not a WAV file"),
    "length 0": (with_length(0), "states no sound, but 3.0 s are there and were read"),
    "length of the first second": (with_length(2 * RATE), "states 1.0 s of sound, but 3.0 s are there and were read"),
    "samples without a chunk header": (
        with_header(lambda data: data[:36] + data[44:]),
        "states no sound, but 3.0 s are there and were read",
    ),
    "two files in one": (
        with_header(lambda data: data + data),
        "is several WAV files in one: only the first, of 3.0 s, was read",
    ),
    "samples cut off": (cut(44 + 70_000, save(speech())), "states 3.0 s of sound, but only 2.2 s are there"),
}
"""Clips that give a voice after a warning that says what is wrong, with a figure."""

TRANSCRIPTS: dict[str, tuple[str, int, str]] = {
    "rather long": ("some words and more " * 4, 0, "too long for the clip: 64 letters"),
    "far too long": ("many words " * 60, 2, "too long for the clip: 540 letters in 3.0 s of speech are 180.0 a second"),
    "of a clip that was cut in the middle": (f"{WORDS} {WORDS} and the rest of it", 2, "too long for the clip"),
    "rather short": ("only some words now", 0, "too short for the clip: 16 letters"),
    "far too short": ("hi", 2, "too short for the clip: 2 letters in 3.0 s of speech are 0.7 a second"),
    "punctuation alone": ("?!", 2, "too short for the clip: 0 letters"),
    "empty": ("  ", 2, "transcript of the reference clip is empty"),
    "a file's name": ("clip.txt", 2, "is the name of a file: 'clip.txt'"),
    "a file's path": ("transcripts/my clip.txt", 2, "is the name of a file"),
    "a URL": ("https://example.org/clip", 2, "is the name of a file"),
}
"""Transcripts of a clip of 3 s, the exit code, and what is said of them."""

UNUSABLE: dict[str, tuple[Write, str]] = {
    "empty file": (raw(b""), "is empty"),
    "no sample": (save(np.zeros(0)), "contains no sound"),
    "one sample": (save(np.ones(1) / 2), "0.0 s long"),
    "silent": (save(np.zeros(3 * RATE)), "silent"),
    "half a second": (save(speech(0.5)), "0.5 s long"),
    "two clicks": (save(np.concatenate([speech(0.03), np.zeros(2 * RATE), speech(0.03)])), "of speech"),
    "not a number": (save(spoilt(float("nan"), speech()), **FLOAT), "NaN or infinite samples"),
    "infinite": (save(spoilt(float("inf"), speech()), **FLOAT), "NaN or infinite samples"),
    "infinite both ways": (
        save(np.stack([spoilt(float("inf"), speech()), spoilt(float("-inf"), speech())], 1), **FLOAT),
        "NaN or infinite samples",
    ),
    "4 kHz": (save(speech(rate=4000), 4000), "cuts off its consonants"),
    "1 Hz": (with_bytes(24, struct.pack("<I", 1), save(speech())), "sampling rate"),
    "4 GHz": (with_bytes(24, struct.pack("<I", 4_000_000_000), save(speech())), ""),
    "header cut off": (cut(30, save(speech())), "is a damaged WAV file"),
    "only RIFF": (raw(b"RIFF"), "is a damaged WAV file"),
    "M4A named wav": (raw(b"\0\0\0\x20ftypM4A " + bytes(3000)), "is an MP4 or M4A file"),
    "WebM named wav": (raw(b"\x1aE\xdf\xa3" + bytes(3000)), "is a WebM or Matroska file"),
    "AAC named wav": (raw(b"\xff\xf1\x50\x80" + bytes(3000)), "is an AAC file"),
    "PDF named wav": (raw(b"%PDF-1.7\n" + bytes(3000)), "is a PDF file"),
    "ZIP named wav": (raw(b"PK\x03\x04" + bytes(3000)), "is a ZIP file"),
    "web page named wav": (
        raw(b"<!DOCTYPE html><html>404</html>"),
        "is a web page: the download of the recording failed",
    ),
    "Git LFS pointer": (raw(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"), "is a Git LFS pointer"),
    "text named wav": (raw(b"This is what I say in the clip.\n" * 40), "is a text file, not a recording"),
    "zeros": (raw(b"\0" * 4096), "is filled with zeros"),
    "FLAC cut off": (cut(60, save(speech(), format="FLAC")), ""),
    "20 s without a pause": (save(np.sin(np.arange(20 * RATE) / 9) * 0.3), "15 s is the most"),
    "10 minutes": (save(np.tile(speech(10.0, 4000), 60), 8000), "300 s long; files of up to 120 s are read"),
    "folder": (lambda path: path.mkdir(), "is a folder"),
    "absent": (lambda path: None, "does not exist"),
    "pipe": (lambda path: os.mkfifo(path), "is a pipe"),
    "link in a ring": (link_in_a_ring, ""),
}
"""Files that give no voice: exit code 4 and what is said of them, before a model is loaded."""


@pytest.fixture(scope="module")
def speech_once(random_checkpoint: Path) -> Synthesizer:
    return Synthesizer.load(ModelOptions(str(random_checkpoint)))


@pytest.fixture
def no_model(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading a model fails the test."""

    def fail(*_: object) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(Synthesizer, "load", fail)


@pytest.fixture
def clone(speech_once: Synthesizer, random_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clone:
    monkeypatch.setenv("LLASA_VOICES", str(tmp_path / "voices"))
    monkeypatch.setattr(Synthesizer, "load", lambda *_: speech_once)

    def run(*arguments: str) -> tuple[int, str, str]:
        made = CliRunner().invoke(app, ["clone", "-m", str(random_checkpoint), "--save", "kim", *arguments])
        assert made.exception is None or isinstance(made.exception, SystemExit), made.exception
        return made.exit_code, made.stdout, made.stderr

    return run


@pytest.mark.parametrize("name", [*USABLE, *DOUBTFUL])
def test_a_usable_clip_gives_a_voice_and_a_doubtful_one_a_warning(clone: Clone, tmp_path: Path, name: str) -> None:
    write, warning = (USABLE | DOUBTFUL)[name]
    write(tmp_path / "clip.wav")
    code, out, messages = clone("--ref", str(tmp_path / "clip.wav"), "--ref-text", WORDS)
    assert code == 0, messages
    voice = find("kim")
    assert out == f"{tmp_path / 'voices' / 'kim.json'}\n"
    assert 1.0 < len(voice.codes) / 50 < 6.0
    assert ("warning: " in messages) == bool(warning), messages
    assert warning in messages


@pytest.mark.parametrize("name", UNUSABLE)
def test_an_unusable_clip_is_refused_before_a_model_is_loaded(
    clone: Clone, tmp_path: Path, no_model: None, name: str
) -> None:
    write, sentence = UNUSABLE[name]
    write(tmp_path / "clip.wav")
    words = " ".join([WORDS] * 6) if name.startswith("20 s") else WORDS
    code, out, messages = clone("--ref", str(tmp_path / "clip.wav"), "--ref-text", words)
    assert (code, out) == (4, ""), messages
    errors = [line for line in messages.splitlines() if not line.startswith("warning: ")]
    assert errors[0].startswith("error: ")
    assert messages.count("error: ") == 1
    assert sentence in messages
    assert len(errors) <= 2
    assert not (tmp_path / "voices").exists()


@pytest.mark.parametrize("name", TRANSCRIPTS)
def test_a_transcript_that_does_not_fit_gets_a_warning_or_is_refused(
    clone: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    words, exit_code, sentence = TRANSCRIPTS[name]
    save(speech())(tmp_path / "clip.wav")
    code, _, messages = clone("--ref", str(tmp_path / "clip.wav"), "--ref-text", words)
    assert code == exit_code, messages
    assert sentence in messages
    assert messages.startswith("error: " if exit_code else "warning: ")


def test_at_least_forty_bad_clips_are_tried() -> None:
    assert len(DOUBTFUL) + len(UNUSABLE) + len(TRANSCRIPTS) >= 40


def test_a_url_is_refused_with_the_command_that_downloads_it(clone: Clone, no_model: None) -> None:
    code, _, messages = clone("--ref", "https://example.org/a/voice.mp3", "--ref-text", WORDS)
    assert code == 4
    assert "https://example.org/a/voice.mp3 is a URL" in messages
    assert "curl -L -o clip.mp3 https://example.org/a/voice.mp3" in messages


def test_a_file_of_any_name_is_not_taken_for_a_transcript(clone: Clone, tmp_path: Path) -> None:
    save(speech())(tmp_path / "clip.wav")
    (tmp_path / "what.I.say").write_text(WORDS)
    code, _, messages = clone("--ref", str(tmp_path / "clip.wav"), "--ref-text", str(tmp_path / "what.I.say"))
    assert code == 2
    assert "is the name of a file" in messages


def test_a_cut_recording_is_refused_with_the_transcript_of_the_whole(clone: Clone, tmp_path: Path) -> None:
    """The recorder was killed: the header promises 4.6 s, and half of them are there."""
    sentence = "The gardener planted three rows of beans beside the old stone wall."
    cut(44 + 74_000, save(speech(4.655)))(tmp_path / "clip.wav")
    code, _, messages = clone("--ref", str(tmp_path / "clip.wav"), "--ref-text", sentence)
    assert code == 2
    assert "too long for the clip: 55 letters in 2.3 s" in messages
    assert "The header of clip.wav states 4.7 s of sound, but only 2.3 s are there." in messages


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--save", "a/b"], "can't be a voice's name"),
        (["-o", "out.wav"], "no text"),
        (["--save", "kim", "--format", "flac"], "no text"),
        (["--save", "kim", "--stream"], "no text"),
        (["--save", "\udcff"], "can't be a voice's name"),
        (["--save", SPEAKERS[1]], f"'{SPEAKERS[1]}' is a speaker of this model"),
        (["--save", SPEAKERS[1].upper()], "is a speaker of this model"),
    ],
)
def test_a_bad_name_or_flag_is_a_usage_error(
    clone: Clone, tmp_path: Path, no_model: None, arguments: list[str], sentence: str
) -> None:
    save(speech())(tmp_path / "clip.wav")
    code, out, messages = clone("--ref", str(tmp_path / "clip.wav"), "--ref-text", WORDS, *arguments)
    assert (code, out) == (2, ""), messages
    assert sentence in messages
    assert not (tmp_path / "voices").exists()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads everything")
def test_a_clip_without_read_permission_is_an_error(clone: Clone, tmp_path: Path) -> None:
    save(speech())(tmp_path / "clip.wav")
    (tmp_path / "clip.wav").chmod(0)
    code, _, messages = clone("--ref", str(tmp_path / "clip.wav"), "--ref-text", WORDS)
    assert code == 4
    assert "can't be read" in messages


@pytest.mark.parametrize("name", ["not a number", "mp3 cut off"])
def test_a_process_ends_without_a_traceback(
    llasa: list[str], random_checkpoint: Path, tmp_path: Path, name: str
) -> None:
    write = UNUSABLE[name][0] if name in UNUSABLE else cut(900, save(speech(), format="MP3"))
    write(tmp_path / "clip.wav")
    command = ["clone", "-m", str(random_checkpoint), "--ref", "clip.wav", "--ref-text", WORDS, "hi", "-o", "out.wav"]
    made = subprocess.run([*llasa, *command], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert made.returncode == 4, made.stderr
    assert made.stdout == ""
    assert made.stderr.count("error: ") == 1
    assert "Traceback" not in made.stderr
    assert os.listdir(tmp_path) == ["clip.wav"]
