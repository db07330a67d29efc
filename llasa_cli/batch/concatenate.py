"""The items of a batch as one file, in the list's order, with pauses between them and subtitles beside it.

The items are made as files first, which is what a run that was stopped goes on from; this puts them together.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llasa_cli.audio.chunk import AudioChunk
from llasa_cli.errors import LlasaError

_BLOCK_SAMPLES = 1 << 16


@dataclass(frozen=True)
class Part:
    """A finished item.

    Attributes:
        path: Of its file, WAV of 16 bit.
        marks: (begin, end, sentences), seconds from its own beginning.
    """

    path: Path
    marks: tuple[tuple[float, float, tuple[str, ...]], ...] = ()


def join(parts: Iterable[Part], output: Path, file_format: str, pause_s: float, subtitles: Path | None = None) -> float:
    """Write them one after the other; -> seconds of sound. All of it is there afterwards, or nothing.

    Raises:
        LlasaError: A part can't be read, or the output can't be written.
    """
    from llasa_cli.audio.sinks import FileSink
    from llasa_cli.audio.subtitles import SubtitleFile

    clock = 0.0
    with (
        SubtitleFile(subtitles) if subtitles is not None else nullcontext() as written,
        FileSink(output, file_format) as sink,
    ):
        for number, part in enumerate(parts):
            if number:
                clock += _pause(sink, part, pause_s)
            begin = clock
            for chunk in _chunks(part.path):
                sink.write(chunk)
                clock += chunk.seconds
            if written is not None:
                for from_s, to_s, sentences in part.marks:
                    written.add(sentences, begin + from_s, begin + to_s)
    return clock


def _pause(sink: Any, part: Part, pause_s: float) -> float:
    import numpy as np
    import soundfile

    rate = soundfile.info(part.path).samplerate
    silence = AudioChunk(np.zeros(round(pause_s * rate), np.float32), rate)
    if len(silence.samples):
        sink.write(silence)
    return silence.seconds


def _chunks(path: Path) -> Iterator[AudioChunk]:
    import numpy as np
    import soundfile

    try:
        with soundfile.SoundFile(path) as file:
            while len(block := file.read(_BLOCK_SAMPLES, dtype="int16")):
                # 32,767 is what full scale was multiplied by: the same integers come out again.
                yield AudioChunk(block.astype(np.float32) / 32767.0, file.samplerate)
    except (soundfile.SoundFileError, OSError) as error:
        raise LlasaError(f"{path} can't be read: {error}.", "Remove it and run the same command again.") from error
