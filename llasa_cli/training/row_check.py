"""Single recordings and code files: looked at before, read when their turn comes. What can't be used says why."""

from __future__ import annotations

import hashlib
import io
import math
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from llasa_cli.codec.codec import SHORTEST_CLIP
from llasa_cli.codec.fbank import SAMPLING_RATE_HZ
from llasa_cli.errors import AudioError
from llasa_cli.training.code_cache import clip_key
from llasa_cli.training.sources import Columns, DatasetAudio

MISSING, BROKEN = "no such audio file", "audio can't be read"
EMPTY, SHORT, SILENT = "no sound in it", "shorter than 40 ms", "silent"
CROWDED = "more text than can be said in its time"
_QUIETEST = 1e-4
"""A clip whose loudest sample is below this (-80 dB) holds no speech."""
_UNKNOWN = 1 << 62
"""Frames that libsndfile tells of a FLAC which was written to a pipe; it can't read it either."""


class Unusable(Exception):
    """A row can't be used; the message is why, the same words for the same cause."""


@dataclass(frozen=True)
class Look:
    """What a clip's header tells: samples at 16 kHz, and a key that changes when the clip does."""

    samples: int
    key: str


def look(audio: Path | DatasetAudio, columns: Columns) -> Look:
    """
    Raises:
        Unusable: Missing, or no audio.
    """
    import soundfile

    stored = _stored(audio, columns)
    try:
        if isinstance(stored, Path):
            about, key = soundfile.info(str(stored)), clip_key(stored)
        else:
            about, key = soundfile.info(io.BytesIO(stored)), hashlib.sha256(stored).hexdigest()[:16]
    except (OSError, RuntimeError, ValueError) as error:  # soundfile's errors are RuntimeErrors; a name may hold a NUL
        missing = isinstance(stored, Path) and not _is_file(stored)
        raise Unusable(MISSING if missing else BROKEN) from error
    if about.frames <= 0:
        raise Unusable(EMPTY)
    if about.frames >= _UNKNOWN:
        raise Unusable("the file does not tell its length")
    return Look(about.frames * SAMPLING_RATE_HZ // about.samplerate, key)


def read(audio: Path | DatasetAudio, columns: Columns) -> np.ndarray:
    """float32 [n], mono, 16 kHz.

    Raises:
        Unusable: As the header did not tell.
    """
    from llasa_cli.audio.reader import read_clip

    stored = _stored(audio, columns)
    try:
        if isinstance(stored, Path):
            samples = read_clip(stored, SAMPLING_RATE_HZ)
        else:
            with tempfile.NamedTemporaryFile(prefix="llasa-clip-") as file:
                file.write(stored)
                file.flush()
                samples = read_clip(file.name, SAMPLING_RATE_HZ)
    except AudioError as error:
        raise Unusable("samples that are not numbers" if "not numbers" in error.message else BROKEN) from error
    if len(samples) < SHORTEST_CLIP:
        raise Unusable(SHORT)
    if np.abs(samples).max() < _QUIETEST:
        raise Unusable(SILENT)
    return samples


def _stored(audio: Path | DatasetAudio, columns: Columns) -> Path | bytes:
    """A file, or the bytes of one."""
    if isinstance(audio, Path):
        return audio
    from llasa_cli.training.hub_datasets import stored_audio

    value: Any = stored_audio(audio, columns)
    if isinstance(value, str) and value:
        return Path(value)
    if isinstance(value, dict) and value.get("bytes"):
        return bytes(value["bytes"])
    if isinstance(value, dict) and value.get("path"):
        return Path(value["path"])
    if isinstance(value, dict) and value.get("array") is not None and value.get("sampling_rate"):
        return _as_wav(value["array"], int(value["sampling_rate"]))
    raise Unusable("no audio in the row")


def _as_wav(array: Any, rate: int) -> bytes:
    """Numbers (n,) or (channels, n) -> the bytes of a float WAV."""
    import soundfile

    try:
        samples = np.asarray(array, np.float32)
    except (ValueError, TypeError) as error:
        raise Unusable(BROKEN) from error
    file = io.BytesIO()
    try:
        soundfile.write(file, samples if samples.ndim == 1 else samples.T, rate, "FLOAT", format="WAV")
    except (RuntimeError, ValueError, TypeError) as error:
        raise Unusable(BROKEN) from error
    return file.getvalue()


def read_codes(codes: Path | tuple[int, ...], code_count: int) -> np.ndarray:
    """Codes made elsewhere -> uint16 [n], 50 a second.

    A file is numpy's: whole numbers, (n,), (1, n) or (1, 1, n), as X-Codec-2.0's scripts save and print them.

    Raises:
        Unusable: No such file, no whole numbers, or codes that the model does not have.
    """
    try:
        found = np.asarray(codes) if isinstance(codes, tuple) else _load(codes)
    except (OSError, ValueError, EOFError, OverflowError, MemoryError) as error:
        missing = isinstance(codes, Path) and not _is_file(codes)
        raise Unusable("no such codes file" if missing else "codes can't be read") from error
    if found.size == 0:
        raise Unusable("no codes in it")
    if max(found.shape, default=0) != found.size:
        raise Unusable("codes are not in one row")
    if found.dtype.kind not in "iu":
        raise Unusable("codes are not whole numbers")
    if found.min() < 0 or found.max() >= code_count:
        raise Unusable(f"codes that the model does not have: it has 0 to {code_count - 1}")
    flat: np.ndarray = found.reshape(-1).astype(np.uint16)
    return flat


def _load(path: Path) -> np.ndarray:
    """As `np.load` does it, an eighth of the time: the headers of small files are most of it, and mostly the same."""
    data = path.read_bytes()
    start = 10 + int.from_bytes(data[8:10], "little")
    if data[:8] != b"\x93NUMPY\x01\x00":
        # Rarer kinds; of what is none of numpy's it says so.
        return np.asarray(np.lib.format.read_array(io.BytesIO(data), allow_pickle=False))
    shape, kind = _header(data[8:start])
    if kind.hasobject:
        raise ValueError("Python objects, which could run code")
    return np.frombuffer(data, kind, count=math.prod(shape), offset=start).reshape(shape)


@lru_cache(maxsize=4096)
def _header(data: bytes) -> tuple[tuple[int, ...], np.dtype]:
    shape, _, kind = np.lib.format.read_array_header_1_0(io.BytesIO(data))
    return shape, kind


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False
