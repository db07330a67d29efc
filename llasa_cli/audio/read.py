"""Any audio file -> float32 [n], mono, at the wanted rate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from llasa_cli.errors import AudioError

if TYPE_CHECKING:
    import numpy as np


def read_clip(path: Path | str, sampling_rate: int = 16_000) -> np.ndarray:
    """Read what libsndfile reads: WAV, FLAC, OGG, Opus, MP3, AIFF and more, any rate and channel count.

    Channels are mixed to one by their mean; resampling is soxr's, at its highest quality but one.

    Raises:
        AudioError: Missing, unreadable, empty, or holding no finite numbers.
    """
    import numpy as np
    import soundfile

    path = Path(path)
    if not path.is_file():
        raise AudioError(f"There is no audio file {path}.")
    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, OSError) as error:
        raise AudioError(f"{path} can't be read as audio: {error}", "Convert it to WAV or FLAC.") from error
    if len(samples) == 0:
        raise AudioError(f"{path} holds no sound.")
    mono: np.ndarray = samples.mean(axis=1)
    if not np.isfinite(mono).all():
        raise AudioError(f"{path} holds samples that are not numbers.", "Export it again as 16-bit WAV.")
    if rate != sampling_rate:
        import soxr

        mono = soxr.resample(mono, rate, sampling_rate, quality="HQ")
    return np.ascontiguousarray(mono, dtype=np.float32)
