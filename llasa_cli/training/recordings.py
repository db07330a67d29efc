"""Single recordings and files of codes: the header is read when rows are checked, the samples or codes when they are needed."""

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

from llasa_cli.codec.codec import MIN_CLIP_SAMPLES
from llasa_cli.codec.fbank import HOP, SAMPLING_RATE_HZ
from llasa_cli.errors import AudioError
from llasa_cli.training.code_cache import clip_key
from llasa_cli.training.hub_datasets import stored_audio
from llasa_cli.training.rows import Columns, DatasetAudio, Unusable

MISSING, BROKEN = "no such audio file", "audio can't be read"
EMPTY, SHORT, SILENT = "empty audio file", "shorter than 40 ms", "silent"
NOT_FINITE = "samples that are NaN or infinite"
_SILENCE_PEAK = 1e-4
"""A clip whose peak is below this (-80 dB) holds no speech."""
_UNKNOWN_LENGTH = 1 << 62
"""libsndfile's frame count for a FLAC that was written to a pipe, which it can't read either."""


@dataclass(frozen=True)
class ClipHeader:
    """Attributes:
    samples: Length in samples at 16 kHz.
    key: Changes when the clip changes.
    """

    samples: int
    key: str

    @property
    def codes(self) -> int:
        """The number of codes; after resampling it may be one more or less."""
        return self.samples // HOP


def read_header(audio: Path | DatasetAudio, columns: Columns) -> ClipHeader:
    """
    Raises:
        Unusable: The clip is missing, not audio, or too short.
    """
    import soundfile

    stored = _stored(audio, columns)
    try:
        if isinstance(stored, Path):
            info, key = soundfile.info(str(stored)), clip_key(stored)
        else:
            info, key = soundfile.info(io.BytesIO(stored)), hashlib.sha256(stored).hexdigest()[:16]
    except (OSError, RuntimeError, ValueError) as error:  # soundfile's errors are RuntimeErrors; a name may hold a NUL
        if isinstance(stored, Path) and _is_file(stored):  # M4A and others are decoded to find their length
            return ClipHeader(len(read_samples(stored, columns)), clip_key(stored))
        raise Unusable(MISSING if isinstance(stored, Path) else BROKEN) from error
    if info.frames <= 0:
        try:  # a recorder that was stopped leaves a header without the length
            return ClipHeader(len(read_samples(audio, columns)), key)
        except Unusable as error:
            raise Unusable(EMPTY) from error
    if info.frames >= _UNKNOWN_LENGTH:
        raise Unusable("the file does not say how long it is")
    header = ClipHeader(info.frames * SAMPLING_RATE_HZ // info.samplerate, key)
    if header.samples < MIN_CLIP_SAMPLES:
        raise Unusable(SHORT)
    return header


def read_samples(audio: Path | DatasetAudio, columns: Columns) -> np.ndarray:
    """float32 [n], mono, 16 kHz.

    Raises:
        Unusable: The audio can't be decoded, or holds no speech.
    """
    from llasa_cli.audio.reader import NotFiniteError, read_clip

    stored = _stored(audio, columns)
    try:
        if isinstance(stored, Path):
            samples = read_clip(stored, SAMPLING_RATE_HZ)
        else:
            with tempfile.NamedTemporaryFile(prefix="llasa-clip-") as file:
                file.write(stored)
                file.flush()
                samples = read_clip(file.name, SAMPLING_RATE_HZ)
    except NotFiniteError as error:
        raise Unusable(NOT_FINITE) from error
    except AudioError as error:
        raise Unusable(BROKEN) from error
    if len(samples) < MIN_CLIP_SAMPLES:
        raise Unusable(SHORT)
    if np.abs(samples).max() < _SILENCE_PEAK:
        raise Unusable(SILENT)
    return samples


def _stored(audio: Path | DatasetAudio, columns: Columns) -> Path | bytes:
    """A file, or the bytes of one."""
    if isinstance(audio, Path):
        return audio
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
    """Samples (n,) or (channels, n) -> the bytes of a float WAV."""
    import soundfile

    file = io.BytesIO()
    try:
        samples = np.asarray(array, np.float32)
        soundfile.write(file, samples if samples.ndim == 1 else samples.T, rate, "FLOAT", format="WAV")
    except (RuntimeError, ValueError, TypeError) as error:
        raise Unusable(BROKEN) from error
    return file.getvalue()


def read_codes(codes: Path | tuple[int, ...], code_count: int) -> np.ndarray:
    """Codes made elsewhere -> uint16 [n], 50 a second.

    A file is numpy's: integers (n,), (1, n) or (1, 1, n), as X-Codec-2.0's scripts save and print them.

    Raises:
        Unusable: The file is missing or holds no integers, or codes outside the model's range.
    """
    try:
        found = np.asarray(codes) if isinstance(codes, tuple) else _load(codes)
    except (OSError, ValueError, EOFError, OverflowError, MemoryError) as error:
        missing = isinstance(codes, Path) and not _is_file(codes)
        raise Unusable("no such codes file" if missing else "codes can't be read") from error
    if found.size == 0:
        raise Unusable("empty codes")
    if max(found.shape, default=0) != found.size:
        raise Unusable("codes are not one-dimensional")
    if found.dtype.kind not in "iu":
        raise Unusable("codes are not whole numbers")
    if found.min() < 0 or found.max() >= code_count:
        raise Unusable(f"codes outside the model's range of 0 to {code_count - 1}")
    flat: np.ndarray = found.reshape(-1).astype(np.uint16)
    return flat


def _load(path: Path) -> np.ndarray:
    """`np.load` in an eighth of the time: it spends most of it on the headers of small files, which are mostly equal."""
    data = path.read_bytes()
    start = 10 + int.from_bytes(data[8:10], "little")
    if data[:8] != b"\x93NUMPY\x01\x00":
        # Rarer versions of the format; numpy raises for anything else.
        return np.asarray(np.lib.format.read_array(io.BytesIO(data), allow_pickle=False))
    shape, dtype = _header(data[8:start])
    if dtype.hasobject:
        raise ValueError("Python objects, which could run code")
    return np.frombuffer(data, dtype, count=math.prod(shape), offset=start).reshape(shape)


@lru_cache(maxsize=4096)
def _header(data: bytes) -> tuple[tuple[int, ...], np.dtype]:
    shape, _, dtype = np.lib.format.read_array_header_1_0(io.BytesIO(data))
    return shape, dtype


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False
