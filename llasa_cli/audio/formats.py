"""The audio formats that can be written: the one table behind `-o`, `--format`, batch lists, help, completion and `doctor`.

The server answers in the formats of OpenAI's endpoint, which PyAV encodes piece by piece: see `serve.encoders`.
"""

from __future__ import annotations

FORMATS = {
    "wav": ("WAV", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
    "m4a": ("MP4", "AAC"),
    "m4b": ("MP4", "AAC"),
    "pcm": ("RAW", "PCM_16"),
}
"""Format name (also the file ending) -> libsndfile's format and subtype; MP4 is written by PyAV (`audio.mp4`)."""
FILE_FORMATS = tuple(name for name, (kind, _) in FORMATS.items() if kind != "RAW")
"""The formats whose files contain their sampling rate."""
READ_ENDINGS = tuple(
    f".{name}"
    for name in "wav flac ogg oga opus mp3 aiff aif au caf m4a mp4 webm wma aac".split()  # the last with PyAV
)
"""Endings of recordings: of a clip in `--cast`, and in a folder for `prepare`."""
OTHER_ENDINGS = tuple("3gp aac ac3 aif aiff alac amr au caf mka mkv mov mp2 mp4 oga w64 weba webm wma".split())
"""Endings of audio formats that can't be written: a path that ends so means a file, not a folder."""
