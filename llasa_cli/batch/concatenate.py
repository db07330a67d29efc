"""All items of a batch as one file, in the order of the list, with pauses between them and subtitles beside it.

The items are made as separate files first, so that a stopped run can be resumed; here they are put together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from llasa_cli.audio.chunk import AudioChunk
from llasa_cli.errors import LlasaError

_BLOCK_SAMPLES = 1 << 16


@dataclass(frozen=True)
class Part:
    """A complete item.

    Attributes:
        path: A WAV file with 16-bit samples.
        marks: (begin, end, sentences), in seconds from the item's beginning.
        title: Of the chapter that the item is, in a format that has chapters.
    """

    path: Path
    marks: tuple[tuple[float, float, tuple[str, ...]], ...] = ()
    title: str = ""


def concatenate(
    parts: Callable[[], Iterable[Part]],
    output: Path,
    file_format: str,
    pause_s: float,
    subtitles: Path | None = None,
    loudness: float | None = None,
) -> float:
    """Write the parts into one file. The file and its subtitles are complete or absent. -> seconds of audio

    Args:
        parts: Gives the parts; it is called several times.
        loudness: LUFS; None leaves the sound as it is.

    Raises:
        LlasaError: A part can't be read, or the output can't be written.
    """
    from llasa_cli.audio.audiobook import BookWriter
    from llasa_cli.audio.mp4 import BookTags, ChapterStart
    from llasa_cli.audio.subtitles import SubtitleFile

    writer = BookWriter(output, file_format, loudness, BookTags(title=output.stem))
    clock = 0.0
    with SubtitleFile(subtitles) if subtitles is not None else nullcontext() as subtitle_file:
        for number, part in enumerate(parts()):
            clock += _silence(part.path, pause_s).seconds if number else 0.0
            if part.title:
                writer.chapters.append(ChapterStart(clock, part.title))
            if subtitle_file is not None:
                for from_s, to_s, sentences in part.marks:
                    subtitle_file.add(sentences, clock + from_s, clock + to_s)
            clock += _seconds(part.path)
        writer.write(lambda: _sounds(parts(), pause_s))
    return clock


def _sounds(parts: Iterable[Part], pause_s: float) -> Iterator[AudioChunk]:
    for number, part in enumerate(parts):
        if number:
            silence = _silence(part.path, pause_s)
            if len(silence.samples):
                yield silence
        yield from _read(part.path)


def _seconds(path: Path) -> float:
    import soundfile

    try:
        return float(soundfile.info(path).duration)
    except (soundfile.SoundFileError, OSError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> LlasaError:
    return LlasaError(f"{path} can't be read: {error}.", "Remove it and run the same command again.")


def _silence(path: Path, seconds: float) -> AudioChunk:
    """Silence with the sampling rate of a file."""
    import numpy as np
    import soundfile

    rate = soundfile.info(path).samplerate
    return AudioChunk(np.zeros(round(seconds * rate), np.float32), rate)


def _read(path: Path) -> Iterator[AudioChunk]:
    import numpy as np
    import soundfile

    try:
        with soundfile.SoundFile(path) as file:
            while len(block := file.read(_BLOCK_SAMPLES, dtype="int16")):
                # Full scale was multiplied by 32,767 when the part was written: this gives the same integers again.
                yield AudioChunk(block.astype(np.float32) / 32767.0, file.samplerate)
    except (soundfile.SoundFileError, OSError) as error:
        raise _unreadable(path, error) from error
