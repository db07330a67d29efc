"""Any audio file -> float32 [n], mono, at the wanted rate."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llasa_cli.errors import AudioError

if TYPE_CHECKING:
    import numpy as np

_LOWEST_HZ, _HIGHEST_HZ = 1_000, 1_000_000
"""What no recording has comes from a damaged header; resampling from 1 Hz would ask for all memory."""
_BLOCK = 1 << 18
"""Frames read at once: what a header says of the length may be untrue."""
_CANCELLED = 0.35
"""Of the loudest channel's level. A voice in one of two channels is left with 0.5, one in one of three with 0.33."""


@dataclass(frozen=True)
class Recording:
    """An audio file, read.

    Attributes:
        samples: float32 [n], mono, at the rate that was asked for.
        file_rate, channels: Of the file.
    """

    samples: np.ndarray
    file_rate: int
    channels: int


def read_clip(path: Path | str, sampling_rate: int = 16_000) -> np.ndarray:
    """The samples of `read_recording`."""
    return read_recording(path, sampling_rate).samples


def read_recording(path: Path | str, sampling_rate: int = 16_000, longest_s: float | None = None) -> Recording:
    """Read what libsndfile reads: WAV, FLAC, OGG, Opus, MP3, AIFF and more, any rate and channel count.

    Channels are mixed to one; resampling is soxr's, at its highest quality but one.

    Args:
        longest_s: A longer file is refused, before it is read where its header tells.

    Raises:
        AudioError: Missing, unreadable, empty, too long, or holding samples that are not numbers.
    """
    import numpy as np

    path = Path(path)
    _check_file(path)
    frames, rate = _read_frames(path, longest_s)
    if len(frames) == 0:
        raise AudioError(f"{path} holds no sound.")
    # Before they are mixed: an infinite one would cancel or spread.
    if not np.isfinite(frames).all():
        raise AudioError(f"{path} holds samples that are not numbers.", "Export it again as 16-bit WAV.")
    mono = _mixed(frames)
    if rate != sampling_rate:
        import soxr

        mono = soxr.resample(mono, rate, sampling_rate, quality="HQ")
    return Recording(np.ascontiguousarray(mono, dtype=np.float32), rate, frames.shape[1])


def _check_file(path: Path) -> None:
    """A pipe or device would be waited for without an end, so only regular files are opened."""
    try:
        if path.is_file():
            if path.stat().st_size == 0:
                raise AudioError(f"{path} is empty.")
            return
        if path.is_dir():
            raise AudioError(f"{path} is a folder, not an audio file.")
        if path.exists():
            raise AudioError(f"{path} is a pipe or a device, not an audio file.", "Write it to a file first.")
    except OSError as error:
        raise AudioError(f"{path} can't be read: {error.strerror}.") from error
    raise AudioError(f"There is no audio file {path}.")


def _read_frames(path: Path, longest_s: float | None) -> tuple[np.ndarray, int]:
    """-> float32 [frames, channels], Hz."""
    import numpy as np
    import soundfile

    try:
        with _without_chatter(path), soundfile.SoundFile(_name_of(path)) as file:
            rate = int(file.samplerate)
            if not _LOWEST_HZ <= rate <= _HIGHEST_HZ:
                raise AudioError(f"{path} says of itself that its sampling rate is {rate} Hz.", "Convert it to WAV.")
            _check_length(path, file.frames / rate, longest_s)
            blocks, count = [], 0
            while len(block := file.read(_BLOCK, dtype="float32", always_2d=True)):
                blocks.append(block)
                count += len(block)
                _check_length(path, count / rate, longest_s)
            return np.concatenate(blocks) if blocks else np.zeros((0, 1), np.float32), rate
    except (soundfile.LibsndfileError, OSError) as error:
        raise AudioError(f"{path} can't be read as audio: {_reason(error)}", _how_to_convert(path)) from error


def _name_of(path: Path) -> str | bytes:
    """soundfile would encode a name itself, and stumble over one that is not UTF-8."""
    return str(path) if os.name == "nt" else os.fsencode(path)


@contextmanager
def _without_chatter(path: Path) -> Iterator[None]:
    """libmpg123, which reads MP3 for libsndfile, writes to standard error itself whatever it stumbles over."""
    with path.open("rb") as file:
        head = file.read(2)
    try:
        kept = os.dup(2) if head == b"ID" or head[:1] == b"\xff" else None
    except OSError:  # closed: nobody to spare
        kept = None
    if kept is None:
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(nowhere)
        os.close(kept)


def _check_length(path: Path, seconds: float, longest_s: float | None) -> None:
    if longest_s is not None and seconds > longest_s:
        raise AudioError(
            f"{path} is {seconds:.0f} s long; more than {longest_s:.0f} s is not read.",
            "Cut 3 to 15 s of speech out of it.",
        )


def _how_to_convert(path: Path) -> str:
    """What libsndfile does not read (M4A, WebM, WMA, ...) ffmpeg does."""
    if path.suffix.lower() in (".wav", ".flac"):
        return "Convert it to WAV or FLAC."
    return "Convert it first: " + shlex.join(["ffmpeg", "-i", str(path), str(path.with_suffix(".wav"))])


def _reason(error: Any) -> str:
    """libsndfile's words without the path, which is said already."""
    text = str(getattr(error, "error_string", None) or getattr(error, "strerror", None) or error).strip()
    return text if text.endswith(".") else text + "."


def _mixed(frames: np.ndarray) -> np.ndarray:
    """float32 [frames, channels] -> [frames]: the mean, or the loudest channel where a mean would lose the voice.

    It does where channels cancel (one of the two is inverted), or where a voice is in one of eight.
    """
    import numpy as np

    if frames.shape[1] == 1:
        one: np.ndarray = frames[:, 0]
        return one
    mean: np.ndarray = frames.mean(axis=1, dtype=np.float64).astype(np.float32)
    levels = np.sqrt(np.mean(np.square(frames, dtype=np.float64), axis=0))
    loudest = int(levels.argmax())
    if np.sqrt(np.mean(np.square(mean, dtype=np.float64))) < _CANCELLED * levels[loudest]:
        best: np.ndarray = frames[:, loudest]
        return best
    return mean
