"""Concatenates the items of a batch in the order of the list, with pauses between them, and writes subtitles and word times.

The items are synthesized to separate files first, so that a stopped run can be resumed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from llasa_cli.audio.chunk import AudioChunk, from_pcm16
from llasa_cli.audio.side_file import SpokenPart
from llasa_cli.errors import LlasaError

_BLOCK_SAMPLES = 1 << 16


@dataclass(frozen=True)
class Part:
    """A complete item.

    Attributes:
        path: A WAV file with 16-bit samples.
        marks: The times of its sentences.
        title: The title of the item's chapter, in a format that has chapters.
    """

    path: Path
    marks: tuple[SpokenPart, ...] = ()
    title: str = ""


def concatenate(
    parts: Callable[[], Iterable[Part]],
    output: Path,
    file_format: str,
    pause_s: float,
    side_files: tuple[Path | None, Path | None, int | None] = (None, None, None),
    loudness: float | None = None,
) -> float:
    """Write the parts into one file. The file and those beside it are complete or absent. -> seconds of audio

    Args:
        parts: Returns the parts; it is called several times.
        side_files: The arguments of `audio.beside.open_side_files`.
        loudness: LUFS; None leaves the sound as it is.

    Raises:
        LlasaError: A part can't be read, or the output can't be written.
    """
    from llasa_cli.audio.audiobook import BookWriter
    from llasa_cli.audio.beside import open_side_files
    from llasa_cli.audio.mp4 import BookTags, ChapterStart

    writer = BookWriter(output, file_format, loudness, BookTags(title=output.stem))
    clock = 0.0
    with ExitStack() as stack:
        files = [stack.enter_context(file) for file in open_side_files(*side_files)]
        for number, part in enumerate(parts()):
            clock += _silence(part.path, pause_s).seconds if number else 0.0
            if part.title:
                writer.chapters.append(ChapterStart(clock, part.title))
            for mark in part.marks:
                spoken = replace(mark, begin_s=clock + mark.begin_s, end_s=clock + mark.end_s)
                for file in files:
                    file.add(spoken)
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
    import soundfile

    try:
        with soundfile.SoundFile(path) as file:
            while len(block := file.read(_BLOCK_SAMPLES, dtype="int16")):
                yield AudioChunk(from_pcm16(block), file.samplerate)
    except (soundfile.SoundFileError, OSError) as error:
        raise _unreadable(path, error) from error
