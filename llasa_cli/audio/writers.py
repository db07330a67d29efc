"""Sinks that write sound: to a file that appears only when it is complete, or to a pipe or device as it is made.

    with open_sink("out.wav", None, play=False) as sink:      an exception inside the block leaves no file behind
        for chunk in chunks: sink.write(chunk)

WAV and raw PCM are written to a pipe chunk by chunk; the other formats are encoded in memory and written at the end.
"""

from __future__ import annotations

import io
import os
import stat
import struct
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from llasa_cli.audio.chunk import AudioChunk, pcm16, to_pcm16
from llasa_cli.audio.formats import FORMATS
from llasa_cli.audio.sink import Sink, TeeSink
from llasa_cli.errors import LlasaError, UsageError, os_errors_as
from llasa_cli.files import AtomicFile

if TYPE_CHECKING:
    import numpy as np

    from llasa_cli.audio.mp4 import BookTags

UNKNOWN_LENGTH = 0x7FFFF000
"""Length fields of a WAV stream whose length is not known yet.

With this value Python's `wave`, libsndfile, sox and ffmpeg all read every sample. With 0, sox reads nothing and `wave`
raises an error; with 0xFFFFFFFF, sox prints a warning. ffmpeg 5.1 warns about a corrupt last packet for every length
that is not the true one, but still reads all of it.
"""


class FileSink(Sink):
    """Writes a temporary file in the target's folder, flushes it to disk, and renames it into place on `close`.

    Args:
        tags: Title, cover and chapters, for a format that has them (.m4a, .m4b).
    """

    def __init__(self, path: Path, file_format: str, tags: BookTags | None = None) -> None:
        self.path = path
        self._format, self._tags = file_format, tags
        # A symbolic link stays one: the file that it points to is replaced.
        self._target = Path(os.path.realpath(path))
        self._guard: _Guarded | None = None
        self._sound: Any = None
        if not os.path.isdir(self._target.parent):
            folder = self._target.parent if path.is_symlink() else path.parent
            raise UsageError(f"The folder {folder} does not exist.", "Create it, or choose another path.")
        if os.path.isdir(self._target):
            raise UsageError(f"{path} is a folder.", "Give the name of a file in it.")
        with os_errors_as(f"{path} can't be written"):
            self._file = AtomicFile(self._target)
            self._guard = _Guarded(self._file.file, str(path))

    def write(self, chunk: AudioChunk) -> None:
        assert self._guard is not None
        if self._sound is None:
            self._sound = _encoder(self._guard, self._format, chunk.sampling_rate, self._tags)
        self._guard.do(lambda: self._sound.write(_values(chunk, self._format)))

    def close(self) -> None:
        if self._sound is None:  # no sound was written, so no file is made
            self.abort()
            return
        guard, sound = self._guard, self._sound
        assert guard is not None
        try:
            with os_errors_as(f"{self.path} can't be written"):
                guard.do(sound.close)
                self._file.commit()
        except BaseException:
            self.abort()
            raise
        self._guard = None

    def abort(self) -> None:
        guard, self._guard = self._guard, None
        if guard is not None:
            guard.discard(self._sound)
            self._file.discard()


class _Guarded:
    """A file object for libsndfile that remembers the operating system's error; libsndfile reports only that it failed."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file, self._name = file, name
        self._error: OSError | None = None

    def write(self, data: Any) -> int:
        if self._error is None:
            try:
                return self._file.write(data)
            except OSError as error:
                self._error = error
        return 0

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            return self._file.seek(offset, whence)
        except OSError as error:  # seeking flushes the buffer
            self._error = self._error or error
            return 0

    def tell(self) -> int:
        return self._file.tell()

    def flush(self) -> None:
        pass

    def do(self, work: Any) -> None:
        """Run a step of the encoder, and raise the operating system's error if there was one."""
        try:
            work()
        except Exception:
            if self._error is None:
                raise
        if self._error is not None:
            raise LlasaError(f"{self._name} can't be written: {self._error.strerror}.", "No file was left behind.")

    def discard(self, sound: Any) -> None:
        self._error = self._error or OSError("discarded")
        for close in (getattr(sound, "close", None), self._file.close):
            if close is not None:
                # The file is deleted next, so errors do not matter.
                try:
                    close()
                except Exception:
                    continue


def _encoder(file: Any, file_format: str, sampling_rate: int, tags: BookTags | None = None) -> Any:
    kind, subtype = FORMATS[file_format]
    if kind == "MP4":
        from llasa_cli.audio.mp4 import Mp4Encoder

        return Mp4Encoder(file, sampling_rate, file_format, tags)
    import soundfile

    return soundfile.SoundFile(file, "w", sampling_rate, 1, subtype, "LITTLE" if kind == "RAW" else None, kind)


def _values(chunk: AudioChunk, file_format: str) -> np.ndarray:
    """Samples for the encoder, rounded to 16 bit where the format stores that: libsndfile truncates instead."""
    return pcm16(chunk.samples) if FORMATS[file_format][1] == "PCM_16" else chunk.samples


class StreamSink(Sink):
    """Writes to a pipe or device, which can't be replaced by renaming.

    Args:
        name: The file's name in error messages.
        owned: Whether the sink closes the stream.
    """

    def __init__(self, stream: BinaryIO, file_format: str, name: str, owned: bool = False) -> None:
        self._stream, self._format, self._name, self._owned = stream, file_format, name, owned
        self._started = False
        self._sent = 0
        self._header_at: int | None = None
        self._buffer: io.BytesIO | None = None
        self._sound: Any = None

    def write(self, chunk: AudioChunk) -> None:
        if self._format in ("wav", "pcm"):
            if not self._started and self._format == "wav":
                self._header_at = _position(self._stream)
                self._send(wav_header(chunk.sampling_rate))
                self._sent = 0
            self._started = True
            self._send(to_pcm16(chunk.samples))
            return
        if self._sound is None:
            self._buffer = io.BytesIO()
            self._sound = _encoder(self._buffer, self._format, chunk.sampling_rate)
        self._sound.write(_values(chunk, self._format))

    def close(self) -> None:
        if self._sound is not None and self._buffer is not None:
            self._sound.close()
            self._send(self._buffer.getvalue())
        if self._header_at is not None:
            self._write_length(self._header_at)
        if self._owned:
            self._stream.close()

    def abort(self) -> None:
        if self._owned:
            try:
                self._stream.close()
            except OSError:
                return

    def _send(self, data: bytes) -> None:
        try:
            self._stream.write(data)
            self._stream.flush()
            self._sent += len(data)
        except BrokenPipeError:
            raise  # the reader closed the pipe, which is not an error
        except OSError as error:
            raise LlasaError(f"{self._name} can't be written: {error.strerror}.") from error

    def _write_length(self, header: int) -> None:
        """Write the true length into the header where standard output is a file (`-o - > file.wav`)."""
        length = min(self._sent, UNKNOWN_LENGTH)
        for place, value in ((header + 4, length + 36), (header + 40, length)):
            self._stream.seek(place)
            self._send(struct.pack("<I", value))
        self._stream.seek(0, os.SEEK_END)


def _position(stream: BinaryIO) -> int | None:
    """The write position in a regular file; None for a stream that can't seek back to it."""
    try:
        import fcntl

        number = stream.fileno()
        if not stat.S_ISREG(os.fstat(number).st_mode) or fcntl.fcntl(number, fcntl.F_GETFL) & os.O_APPEND:
            return None  # `>> file` appends every write, so the header can't be rewritten
        return stream.tell()
    except (ImportError, OSError, ValueError):  # no fcntl on Windows; no descriptor behind the object
        return None


def wav_header(sampling_rate: int) -> bytes:
    """The 44 header bytes of 16-bit mono WAV of unknown length."""
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, sampling_rate, sampling_rate * 2, 2, 16)
    return (
        struct.pack("<4sI4s", b"RIFF", UNKNOWN_LENGTH + 36, b"WAVE")
        + form
        + struct.pack("<4sI", b"data", UNKNOWN_LENGTH)
    )


def is_standard_output(output: str | None) -> bool:
    """Whether the path means standard output. `claim_stdout` redirects descriptor 1, so it must not be opened by its path."""
    return output in ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")


def is_plain_file(output: str | None) -> bool:
    """Whether the path is written by a `FileSink`, not as a stream."""
    return output is not None and not is_standard_output(output) and not _is_special(output)


def pick_format(output: str | None, file_format: str | None) -> str:
    """The output format: `--format`, else the file's ending, else WAV for a pipe.

    Raises:
        UsageError: The format is not one of FORMATS, or what writes it is not installed.
    """
    name = file_format
    if name is None:
        name = "wav" if output is None or is_standard_output(output) else Path(output).suffix.lstrip(".")
        if not name and output is not None and _is_special(output):
            name = "wav"
    name = name.lower()
    if name not in FORMATS:
        problem = f"The format {name!r} is not supported." if name else f"{output or repr('')} has no file ending."
        raise UsageError(problem, f"Use one of these endings, or --format: {', '.join(FORMATS)}.")
    if FORMATS[name][0] == "MP4":
        from llasa_cli.audio.pyav import check_pyav

        check_pyav(f"to write .{name} files")
    return name


def open_sink(
    output: str | None,
    file_format: str | None,
    play: bool,
    stdout: BinaryIO | None = None,
    audio_device: str | None = None,
) -> Sink:
    """Open the sink that the flags describe. Errors are raised here, before a model is loaded.

    Args:
        output: A path, `-` for standard output, or None.
        file_format: A key of FORMATS; None goes by the ending.
        play: Whether the sound is also played.
        stdout: The stream that `-` means.
        audio_device: The device for playing; None is the default one. See `SpeakerSink`.

    Raises:
        UsageError, LlasaError: See the sinks.
    """
    kind = pick_format(output, file_format)
    speaker = None
    if play:
        from llasa_cli.audio.player import SpeakerSink

        speaker = SpeakerSink(audio_device)
    if output is None:
        return speaker or TeeSink([])
    written: Sink
    if is_standard_output(output):
        written = _stream_sink(stdout if stdout is not None else sys.stdout.buffer, kind, "Standard output")
    elif _is_special(output):
        with os_errors_as(f"{output} can't be written"):
            stream = open(output, "wb")  # noqa: SIM115 (the sink owns it)
        written = _stream_sink(stream, kind, output, owned=True)
    else:
        written = FileSink(Path(output), kind)
    # The file comes first, so that it is complete before playback ends.
    return TeeSink([written, speaker]) if speaker is not None else written


def _stream_sink(stream: BinaryIO, kind: str, name: str, owned: bool = False) -> StreamSink:
    if stream.isatty():
        if owned:
            stream.close()
        raise UsageError("Audio is not written to a terminal.", "Pipe it to a program, or give a file with -o.")
    return StreamSink(stream, kind, name, owned)


def _is_special(output: str) -> bool:
    """Whether the path is a device or a named pipe, which is written in place."""
    try:
        mode = os.stat(output).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise LlasaError(f"{output} can't be written: {error.strerror}.") from error
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)
