"""Forty clips that users come with: each becomes a saved voice, or one sentence and nothing else."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from llasa_cli.cli.app import app
from llasa_cli.settings import ModelOptions
from llasa_cli.synthesis.synthesizer import Synthesizer
from llasa_cli.voices.library import find

RATE = 16_000
WORDS = "Some words that could be said in it."
Write = Callable[[Path], object]


def speech(seconds: float = 3.0, rate: int = RATE, level: float = 0.3) -> np.ndarray:
    """Syllables: bursts of a buzz, four a second."""
    time = np.arange(round(seconds * rate)) / rate
    buzz = sum(np.sin(2 * np.pi * 130 * harmonic * time) / harmonic for harmonic in range(1, 12))
    return (level * buzz / 2.2 * np.clip(np.sin(2 * np.pi * 4 * time) + 0.7, 0, 1)).astype(np.float32)


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
    """A file whose header says something else."""

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
GOOD: dict[str, tuple[Write, str]] = {
    "8 bit": (save(speech(), subtype="PCM_U8"), ""),
    "24 bit": (save(speech(), **BYTES_3), ""),
    "32 bit": (save(speech(), subtype="PCM_32"), ""),
    "float": (save(speech(), **FLOAT), ""),
    "double": (save(speech(), subtype="DOUBLE"), ""),
    "float beyond full scale": (save(speech(level=8.0), **FLOAT), "turned down"),
    "mu-law": (save(speech(rate=8000), 8000, subtype="ULAW"), "telephone"),
    "96 kHz": (save(speech(rate=96_000), 96_000), ""),
    "11 kHz": (save(speech(rate=11_025), 11_025), "telephone"),
    "stereo": (save(channels(1, 1)), ""),
    "7.1 channels": (save(channels(0.3, 0.3, 1, 0, 0.1, 0.1, 0, 0)), ""),
    "7.1 channels, a voice in one": (save(channels(0, 0, 1, 0, 0, 0, 0, 0)), ""),
    "channels that cancel": (save(channels(1, -1)), ""),
    "clipped": (save(np.clip(speech(level=4.0), -1, 1)), "clipped"),
    "very quiet": (save(speech(level=0.004), **BYTES_3), "raised by"),
    "constant offset": (save(speech(level=0.2) + 0.3), ""),
    "silence around it": (save(np.concatenate([np.zeros(40_000), speech(), np.zeros(40_000)])), ""),
    "a long pause": (save(np.concatenate([speech(1.5), np.zeros(40_000), speech(1.5)])), "pause"),
    "mp3 named wav": (save(speech(), format="MP3"), ""),
    "flac named wav": (save(speech(), format="FLAC"), ""),
    "ogg named wav": (save(speech(), format="OGG"), ""),
    "data cut off": (cut(44 + 70_000, save(speech())), ""),
    "length that a pipe wrote": (with_bytes(40, struct.pack("<I", 0x7FFFF000), save(speech())), ""),
}
BAD: dict[str, tuple[Write, int, str]] = {
    "empty file": (raw(b""), 4, "is empty"),
    "no sample": (save(np.zeros(0)), 4, "holds no sound"),
    "one sample": (save(np.ones(1) / 2), 4, "0.0 s long"),
    "silent": (save(np.zeros(3 * RATE)), 4, "silent"),
    "half a second": (save(speech(0.5)), 4, "0.5 s long"),
    "two clicks": (save(np.concatenate([speech(0.03), np.zeros(2 * RATE), speech(0.03)])), 4, "of speech"),
    "not a number": (save(spoilt(float("nan"), speech()), **FLOAT), 4, "not numbers"),
    "infinite": (save(spoilt(float("inf"), speech()), **FLOAT), 4, "not numbers"),
    "infinite both ways": (
        save(np.stack([spoilt(float("inf"), speech()), spoilt(float("-inf"), speech())], 1), **FLOAT),
        4,
        "not numbers",
    ),
    "4 kHz": (save(speech(rate=4000), 4000), 4, "consonants"),
    "1 Hz": (with_bytes(24, struct.pack("<I", 1), save(speech())), 4, "sampling rate"),
    "4 GHz": (with_bytes(24, struct.pack("<I", 4_000_000_000), save(speech())), 4, ""),
    "header cut off": (cut(30, save(speech())), 4, "can't be read as audio"),
    "only RIFF": (raw(b"RIFF"), 4, "can't be read as audio"),
    "text named wav": (raw(b"This is what I say in the clip.\n" * 40), 4, "can't be read as audio"),
    "zeros": (raw(b"\0" * 4096), 4, "can't be read as audio"),
    "flac cut off": (cut(60, save(speech(), format="FLAC")), 4, ""),
    "20 s without a pause": (save(np.sin(np.arange(20 * RATE) / 9) * 0.3), 4, "15 s is the most"),
    "10 minutes": (save(np.tile(speech(10.0, 4000), 60), 8000), 4, "is not read"),
    "folder": (lambda path: path.mkdir(), 4, "is a folder"),
    "absent": (lambda path: None, 4, "There is no audio file"),
    "pipe": (lambda path: os.mkfifo(path), 4, "is a pipe"),
    "link in a ring": (link_in_a_ring, 4, ""),
}


@pytest.fixture(scope="module")
def speech_once(random_checkpoint: Path) -> Synthesizer:
    return Synthesizer.load(ModelOptions(str(random_checkpoint)))


@pytest.fixture
def clone(
    speech_once: Synthesizer, random_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    monkeypatch.setenv("LLASA_VOICES", str(tmp_path / "voices"))
    monkeypatch.setattr(Synthesizer, "load", lambda *_: speech_once)

    def run(*arguments: str) -> tuple[int, str, str]:
        made = CliRunner().invoke(app, ["clone", "-m", str(random_checkpoint), "--save", "kim", *arguments])
        assert made.exception is None or isinstance(made.exception, SystemExit), made.exception
        return made.exit_code, made.stdout, made.stderr

    return run


@pytest.mark.parametrize("name", GOOD)
def test_a_clip_that_holds_a_voice_gives_one(
    clone: Callable[..., tuple[int, str, str]], tmp_path: Path, name: str
) -> None:
    write, warning = GOOD[name]
    write(tmp_path / "clip.wav")
    code, out, said = clone("--ref", str(tmp_path / "clip.wav"), "--ref-text", WORDS)
    assert code == 0, said
    voice = find("kim")
    assert out == f"{tmp_path / 'voices' / 'kim.json'}\n"
    assert 1.0 < len(voice.codes) / 50 < 6.0
    assert ("warning: " in said) == bool(warning), said
    assert warning in said


@pytest.mark.parametrize("name", BAD)
def test_a_clip_that_holds_none_is_one_sentence(
    clone: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def too_early(*_: object) -> None:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(Synthesizer, "load", too_early)
    write, exit_code, sentence = BAD[name]
    write(tmp_path / "clip.wav")
    words = " ".join([WORDS] * 6) if name.startswith("20 s") else WORDS
    code, out, said = clone("--ref", str(tmp_path / "clip.wav"), "--ref-text", words)
    assert (code, out) == (exit_code, ""), said
    assert said.startswith("error: ")
    assert said.count("error: ") == 1
    assert sentence in said
    assert len(said.splitlines()) <= 2
    assert not (tmp_path / "voices").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--ref-text", "  "], "--ref-text is empty"),
        (["--ref-text", "hi"], "not of each other"),
        (["--ref-text", "many words " * 60], "not of each other"),
        (["--ref-text", "?!"], "not of each other"),
        (["--ref-text", WORDS, "--save", "a/b"], "can't be a voice's name"),
        (["--ref-text", WORDS, "-o", "out.wav"], "no text"),
        (["--ref-text", WORDS, "--save", "kim", "--format", "flac"], "no text"),
        (["--ref-text", WORDS, "--save", "kim", "--stream"], "no text"),
        (["--ref-text", WORDS, "--save", "\udcff"], "can't be a voice's name"),
    ],
)
def test_a_transcript_or_name_that_can_not_be_is_a_matter_of_usage(
    clone: Callable[..., tuple[int, str, str]], tmp_path: Path, arguments: list[str], sentence: str
) -> None:
    save(speech())(tmp_path / "clip.wav")
    code, out, said = clone("--ref", str(tmp_path / "clip.wav"), *arguments)
    assert (code, out) == (2, ""), said
    assert sentence in said
    assert not (tmp_path / "voices").exists()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads everything")
def test_a_clip_that_may_not_be_read_is_one_sentence(
    clone: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    save(speech())(tmp_path / "clip.wav")
    (tmp_path / "clip.wav").chmod(0)
    code, _, said = clone("--ref", str(tmp_path / "clip.wav"), "--ref-text", WORDS)
    assert code == 4
    assert "can't be read" in said


@pytest.mark.parametrize("name", ["not a number", "mp3 cut off"])
def test_as_a_process_it_ends_without_a_traceback(random_checkpoint: Path, tmp_path: Path, name: str) -> None:
    write = BAD[name][0] if name in BAD else cut(900, save(speech(), format="MP3"))
    write(tmp_path / "clip.wav")
    command = ["clone", "-m", str(random_checkpoint), "--ref", "clip.wav", "--ref-text", WORDS, "hi", "-o", "out.wav"]
    made = subprocess.run(
        [sys.executable, "-m", "llasa_cli", *command],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 4, made.stderr
    assert made.stdout == ""
    assert made.stderr.count("error: ") == 1
    assert "Traceback" not in made.stderr
    assert os.listdir(tmp_path) == ["clip.wav"]
