"""Writes finished sound to a file or to a folder of chapters: at a given loudness, with chapters, title, author and cover.

    writer = BookWriter(Path("book.m4b"), "m4b", loudness=-19.0, tags=BookTags(title="The Garden"))
    writer.chapters.append(ChapterStart(0.0, "One"))        while the sound is made
    writer.write(sounds)                                    sounds() -> the same `AudioChunk`s each time

A path that is a folder gets a file for each chapter and a playlist, `NAME.m3u8`, which is written last.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from llasa_cli.audio.chunk import AudioChunk
from llasa_cli.audio.loudness import find_gain, with_gain
from llasa_cli.audio.mp4 import BookTags, ChapterStart
from llasa_cli.audio.writers import FileSink
from llasa_cli.errors import os_errors_as
from llasa_cli.files import safe_name, write_text

Sounds = Callable[[], Iterable[AudioChunk]]


@dataclass
class BookWriter:
    """See the module.

    Attributes:
        loudness: LUFS; None leaves the sound as it is.
        tags: Without chapters and duration, which are known at the end.
        chapters: The beginnings of the chapters, in order.
        is_folder: Whether each chapter gets a file of its own.
    """

    path: Path
    file_format: str
    loudness: float | None = None
    tags: BookTags = field(default_factory=BookTags)
    chapters: list[ChapterStart] = field(default_factory=list)
    is_folder: bool = False

    def check(self) -> None:
        """Raise the errors of the path now, before anything is spoken.

        Raises:
            UsageError, LlasaError: It can't be written.
        """
        if not self.is_folder:
            FileSink(self.path, self.file_format).abort()
            return
        with os_errors_as(f"The folder {self.path} can't be created"):
            self.path.mkdir(exist_ok=True)

    def write(self, sounds: Sounds) -> None:
        """Write the file, or all files of the folder.

        Raises:
            LlasaError: They can't be written. A file is complete or absent.
        """
        gain = find_gain(sounds, self.loudness) if self.loudness is not None else None
        found = sounds() if gain is None else with_gain(sounds(), gain)
        if self.is_folder:
            self._write_chapters(found)
            return
        tags = self.tags
        if self.chapters:
            tags = replace(tags, chapters=tuple(self.chapters), seconds=sum(chunk.seconds for chunk in sounds()))
        with FileSink(self.path, self.file_format, tags) as sink:
            for chunk in found:
                sink.write(chunk)

    def _write_chapters(self, chunks: Iterable[AudioChunk]) -> None:
        chapters = self.chapters or [ChapterStart(0.0, self.tags.title)]
        digits = max(2, len(str(len(chapters))))
        lines = ["#EXTM3U"]
        for number, pieces in _by_chapter(chunks, [chapter.begin_s for chapter in chapters[1:]]):
            title = chapters[number].title or f"Chapter {number + 1}"
            name = f"{safe_name(f'{number + 1:0{digits}} {title}')}.{self.file_format}"
            own = replace(self.tags, title=f"{self.tags.title}: {title}" if self.tags.title else title)
            seconds = 0.0
            with FileSink(self.path / name, self.file_format, own) as sink:
                for piece in pieces:
                    sink.write(piece)
                    seconds += piece.seconds
            lines += [f"#EXTINF:{round(seconds)},{title}", name]
        playlist = self.path / f"{self.path.resolve().name}.m3u8"
        with os_errors_as(f"{playlist} can't be written"):
            write_text(playlist, "\n".join(lines) + "\n")


def _by_chapter(chunks: Iterable[AudioChunk], cuts_s: list[float]) -> Iterator[tuple[int, Iterator[AudioChunk]]]:
    """(number from 0, its sound) of each chapter. The sound of one has to be consumed before the next is asked for."""
    rest: list[AudioChunk] = []
    source = iter(chunks)
    at = 0

    def pieces(end_s: float | None) -> Iterator[AudioChunk]:
        nonlocal at
        while (chunk := rest.pop() if rest else next(source, None)) is not None:
            end = at + len(chunk.samples) if end_s is None else round(end_s * chunk.sampling_rate)
            here, later = chunk.samples[: max(0, end - at)], chunk.samples[max(0, end - at) :]
            at += len(here)
            if len(here):
                yield AudioChunk(here, chunk.sampling_rate)
            if len(later):
                rest.append(AudioChunk(later, chunk.sampling_rate))
                return

    for number, end_s in enumerate([*cuts_s, None]):
        yield number, pieces(end_s)
