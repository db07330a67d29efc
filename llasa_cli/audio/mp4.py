"""AAC in an MP4 container: .m4a, and .m4b, the audiobook that players keep chapters and a place for.

    encoder = Mp4Encoder(file, sampling_rate, "m4b", BookTags(title="The Garden", chapters=(ChapterStart(0.0, "One"),)))
    encoder.write(samples)
    encoder.close()

PyAV does the work. Its libraries are inside the package: no ffmpeg program is needed.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llasa_cli.audio.pyav import frame_of

if TYPE_CHECKING:
    import numpy as np

_BIT_RATE = 64_000
_PICTURES = {b"\x89PNG": "png", b"\xff\xd8\xff": "mjpeg"}
_AUDIOBOOK = "2"
"""iTunes' media type."""


@dataclass(frozen=True)
class ChapterStart:
    """The beginning of a chapter in seconds, and its title."""

    begin_s: float
    title: str


@dataclass(frozen=True)
class BookTags:
    """The title, the author and the cover that a player shows.

    Attributes:
        cover: The bytes of a JPEG or PNG image.
        chapters: The chapters in order.
        seconds: Duration of the sound, where the last chapter ends.
    """

    title: str = ""
    author: str = ""
    cover: bytes | None = None
    chapters: tuple[ChapterStart, ...] = ()
    seconds: float = 0.0


class Mp4Encoder:
    """See the module.

    Args:
        file: A binary file that can seek.
        brand: m4a or m4b.
    """

    def __init__(self, file: Any, sampling_rate: int, brand: str, tags: BookTags | None = None) -> None:
        import av

        tags = tags or BookTags()
        self._rate = sampling_rate
        options = {"brand": f"{brand.upper()} ", "fflags": "+bitexact"}
        self._container: Any = av.open(file, "w", format="mp4", options=options)
        self._stream = self._container.add_stream("aac", rate=sampling_rate, layout="mono")
        self._stream.codec_context.bit_rate = _BIT_RATE
        self._cover = _add_cover(self._container, tags.cover)
        names = {"title": tags.title, "album": tags.title, "artist": tags.author, "album_artist": tags.author}
        self._container.metadata.update({name: value for name, value in names.items() if value})
        if brand == "m4b":
            self._container.metadata.update({"genre": "Audiobook", "media_type": _AUDIOBOOK})
        if tags.chapters:
            self._container.set_chapters(_chapters(tags))
        self._resampler = av.AudioResampler(format="fltp", layout="mono", rate=sampling_rate, frame_size=1024)

    def write(self, samples: np.ndarray) -> None:
        """float32 [n]."""
        if len(samples):
            self._encode(frame_of(samples, self._rate))

    def _encode(self, frame: Any) -> None:
        for part in self._resampler.resample(frame):
            if part is not None:
                self._container.mux(self._stream.encode(part))

    def close(self) -> None:
        """Write the rest and the index."""
        self._encode(None)
        self._container.mux(self._stream.encode(None))
        if self._cover is not None:
            self._container.mux(self._cover)
        self._container.close()


def _chapters(tags: BookTags) -> list[Any]:
    from fractions import Fraction

    ends = [chapter.begin_s for chapter in tags.chapters[1:]] + [tags.seconds]
    return [
        {
            "id": number,
            "start": round(chapter.begin_s * 1000),
            "end": max(round(end * 1000), round(chapter.begin_s * 1000) + 1),
            "time_base": Fraction(1, 1000),
            "metadata": {"title": chapter.title},
        }
        for number, (chapter, end) in enumerate(zip(tags.chapters, ends, strict=True))
    ]


def _add_cover(container: Any, cover: bytes | None) -> Any:
    """The packet of a cover in a stream of its own; None without one, or if it is no whole picture."""
    import av
    from av.stream import Disposition

    codec = next((name for head, name in _PICTURES.items() if cover and cover.startswith(head)), None)
    if cover is None or codec is None:
        return None
    try:
        with av.open(io.BytesIO(cover), "r") as picture:
            frame = next(picture.decode(video=0))
    except (av.FFmpegError, StopIteration):
        return None
    stream = container.add_mux_stream(codec, width=frame.width, height=frame.height)
    stream.disposition = Disposition.attached_pic
    packet = av.Packet(cover)
    packet.stream = stream
    packet.pts = packet.dts = 0
    packet.is_keyframe = True
    return packet
