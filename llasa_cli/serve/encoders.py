"""Encodes samples to an audio format, piece by piece, for a response that is sent while the speech is generated.

    encoder = Encoder("mp3", sampling_rate=16_000, speed=1.0)
    data = encoder.encode(samples) ... encoder.finish()

WAV and PCM are written here; FLAC, MP3, Opus and AAC, and any other speed than 1, by PyAV.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from llasa_cli.audio.chunk import to_pcm16
from llasa_cli.audio.pyav import Tempo, frame_of

if TYPE_CHECKING:
    import numpy as np

MEDIA_TYPES = {
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "audio/pcm",
    "f32": "application/octet-stream",
}
"""The formats of OpenAI's `response_format`, raw float32 samples at the model's rate, and their media types."""
_CODECS = {
    "mp3": ("mp3", "libmp3lame", None),
    "opus": ("ogg", "libopus", 48_000),
    "aac": ("adts", "aac", None),
    "flac": ("flac", "flac", None),
}
"""Format -> PyAV's container, its codec, and the sampling rate that the codec needs."""
PCM_RATE = 24_000
"""Hz. Clients of OpenAI's endpoint take raw samples to have this rate."""


class Encoder:
    """See the module.

    Args:
        name: A key of `MEDIA_TYPES`.
        sampling_rate: Hz of the samples that will be given.
        speed: Tempo, 0.25 to 4; the pitch stays.
    """

    def __init__(self, name: str, sampling_rate: int, speed: float = 1.0) -> None:
        self._rate = sampling_rate
        self._tempo = Tempo(sampling_rate, speed) if speed != 1 else None
        if name == "f32":
            self._sink: Any = _Float32()
        elif name in _CODECS:
            self._sink = _Container(*_CODECS[name], sampling_rate)
        else:
            self._sink = _Pcm(sampling_rate, has_header=name == "wav")

    def encode(self, samples: np.ndarray) -> bytes:
        """float32 [n] -> the bytes that are complete, possibly none."""
        data = b""
        for piece in [samples] if self._tempo is None else self._tempo.push(samples):
            data += self._sink.encode(piece)
        return data

    def finish(self) -> bytes:
        """The rest of the bytes; a complete, empty file if there were no samples."""
        data = b""
        if self._tempo is not None:
            for piece in self._tempo.push(None):
                data += self._sink.encode(piece)
        return data + bytes(self._sink.finish())


class _Float32:
    def encode(self, samples: np.ndarray) -> bytes:
        return samples.astype("<f4").tobytes()

    def finish(self) -> bytes:
        return b""


class _Pcm:
    def __init__(self, rate: int, has_header: bool) -> None:
        self._header = has_header
        self._rate = rate
        self._resampler: Any = None
        if not has_header and rate != PCM_RATE:
            import soxr

            self._resampler = soxr.ResampleStream(rate, PCM_RATE, 1, dtype="float32")

    def encode(self, samples: np.ndarray, last: bool = False) -> bytes:
        data = b""
        if self._header:
            from llasa_cli.audio.writers import wav_header

            data, self._header = wav_header(self._rate), False
        if self._resampler is not None:
            samples = self._resampler.resample_chunk(samples, last=last)
        return data + to_pcm16(samples)

    def finish(self) -> bytes:
        import numpy as np

        return self.encode(np.zeros(0, np.float32), last=True)


class _Container:
    def __init__(self, container: str, codec: str, codec_rate: int | None, rate: int) -> None:
        import av

        self._buffer = io.BytesIO()
        self._rate = rate
        # FLAC's muxer seeks back to its header at the end; without `seek` it leaves the header as it is.
        self._file = av.open(_WriteOnly(self._buffer), "w", format=container)
        stream: Any = self._file.add_stream(codec, rate=codec_rate or rate)
        stream.layout = "mono"
        self._stream = stream
        self._resampler = av.AudioResampler(
            format=stream.format,
            layout="mono",
            rate=codec_rate or rate,
            frame_size=stream.frame_size or None,
        )

    def encode(self, samples: np.ndarray | None) -> bytes:
        frames = self._resampler.resample(None if samples is None else frame_of(samples, self._rate))
        for frame in frames:
            if frame is not None:
                self._file.mux(self._stream.encode(frame))
        return self._taken()

    def finish(self) -> bytes:
        data = self.encode(None)
        self._file.mux(self._stream.encode(None))
        self._file.close()
        return data + self._taken()

    def _taken(self) -> bytes:
        data = self._buffer.getvalue()
        self._buffer.seek(0)
        self._buffer.truncate()
        return data


class _WriteOnly:
    """A file that PyAV can't seek in."""

    def __init__(self, buffer: io.BytesIO) -> None:
        self._buffer = buffer

    def write(self, data: bytes) -> int:
        return self._buffer.write(data)
