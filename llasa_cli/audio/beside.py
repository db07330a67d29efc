"""Opens the files beside the sound: subtitles and word times."""

from __future__ import annotations

from pathlib import Path

from llasa_cli.audio.side_file import SideFile
from llasa_cli.audio.subtitles import SubtitleFile
from llasa_cli.audio.word_file import WordFile


def open_side_files(subtitles: Path | None, words: Path | None, words_per_cue: int | None) -> list[SideFile]:
    """Open the files that are asked for.

    Args:
        subtitles: .srt or .vtt.
        words: .json.
        words_per_cue: The words in each cue of the subtitles; None for cues of sentences.

    Raises:
        UsageError, LlasaError: See `SideFile`. Nothing stays open.
    """
    opened: list[SideFile] = []
    try:
        if subtitles is not None:
            opened.append(SubtitleFile(subtitles, words_per_cue))
        if words is not None:
            opened.append(WordFile(words))
    except BaseException:
        for file in opened:
            file.abort()
        raise
    return opened
