"""Where sound goes: a file that is finished or absent, a pipe, the speakers, or two of them at once.

    with open_sink("out.wav") as sink:      leaving by an exception leaves nothing behind
        for chunk in chunks: sink.write(chunk)

WAV and raw PCM leave a pipe as they are made; the other formats have to be complete first.
"""

from __future__ import annotations

import io
import os
import secrets
import stat
import struct
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO

from llasa_cli.audio.chunk import AudioChunk, pcm16, to_pcm16
from llasa_cli.errors import LlasaError, UsageError

if TYPE_CHECKING:
    import numpy as np

FORMATS = {
    "wav": ("WAV", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
    "pcm": ("RAW", "PCM_16"),
}
"""Name and file ending -> libsndfile's names."""

OTHER_ENDINGS = tuple("3gp aac ac3 aif aiff alac amr au caf m4a m4b mka mkv mov mp2 mp4 oga w64 weba webm wma".split())
"""Of sound that is not written here: who names a file so means no folder."""

UNKNOWN_LENGTH = 0x7FFFF000
"""For the length fields of a WAV that is still being made: wave, libsndfile, sox and ffmpeg all read every sample.

With zero, sox reads none and wave refuses; with 0xFFFFFFFF sox warns. ffmpeg (5.1) says of any untrue length that the
last packet is cut, and takes it whole.
"""


class Sink:
    """Takes chunks. `close` finishes, `abort` leaves nothing; leaving a `with` block does one of them."""

    def write(self, chunk: AudioChunk) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def abort(self) -> None:
        raise NotImplementedError

    def flush(self) -> None:
        """A sentence ends here: what is held back for smooth playing may sound."""

    @property
    def waiting_s(self) -> float:
        """Sound that was written and not heard yet, in seconds; 0 where nobody listens."""
        return 0.0

    def __enter__(self) -> Sink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()


class FileSink(Sink):
    """A file, written beside its place under another name, flushed to disk, then renamed into place."""

    def __init__(self, path: Path, file_format: str) -> None:
        self.path = path
        self._format = file_format
        # A link stays a link: what it leads to is replaced. (/dev/stdout is a link too.)
        self._place = Path(os.path.realpath(path))
        # 40 characters of the name: the whole one and an ending could be longer than a name may be.
        self._part = self._place.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}.part")
        self._guard: _Guarded | None = None
        self._sound: Any = None
        if not os.path.isdir(self._place.parent):
            raise UsageError(f"There is no folder {path.parent}.", "Make it first, or write elsewhere.")
        if os.path.isdir(self._place):
            raise UsageError(f"{path} is a folder.", "Name a file in it.")
        try:
            self._guard = _Guarded(self._part.open("w+b"), str(path))
        except OSError as error:
            raise LlasaError(f"{path} can't be written: {error.strerror}.") from error

    def write(self, chunk: AudioChunk) -> None:
        assert self._guard is not None
        if self._sound is None:
            self._sound = _encoder(self._guard, self._format, chunk.sampling_rate)
        self._guard.do(lambda: self._sound.write(_values(chunk, self._format)))

    def close(self) -> None:
        if self._sound is None:  # nothing was said: no empty file either
            self.abort()
            return
        guard, sound = self._guard, self._sound
        assert guard is not None
        try:
            guard.do(sound.close)
            guard.sync()
            os.replace(self._part, self._place)
        except OSError as error:
            self.abort()
            raise LlasaError(f"{self.path} can't be written: {error.strerror}.") from error
        except BaseException:
            self.abort()
            raise
        self._guard = None

    def abort(self) -> None:
        guard, self._guard = self._guard, None
        if guard is not None:
            guard.discard(self._sound)
            self._part.unlink(missing_ok=True)


class _Guarded:
    """A file object for libsndfile that keeps the system's error: the library itself only says that it failed."""

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
        except OSError as error:  # a seek writes out what is buffered
            self._error = self._error or error
            return 0

    def tell(self) -> int:
        return self._file.tell()

    def flush(self) -> None:
        pass

    def do(self, work: Any) -> None:
        """Run a step of the encoder; raise what went wrong below it."""
        try:
            work()
        except Exception:
            if self._error is None:
                raise
        if self._error is not None:
            raise LlasaError(f"{self._name} can't be written: {self._error.strerror}.", "Nothing was left there.")

    def sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def discard(self, sound: Any) -> None:
        self._error = self._error or OSError("discarded")
        for close in (getattr(sound, "close", None), self._file.close):
            if close is not None:
                # What is thrown away may fail in any way it likes.
                try:
                    close()
                except Exception:
                    continue


def _encoder(file: Any, file_format: str, sampling_rate: int) -> Any:
    import soundfile

    kind, subtype = FORMATS[file_format]
    return soundfile.SoundFile(file, "w", sampling_rate, 1, subtype, "LITTLE" if kind == "RAW" else None, kind)


def _values(chunk: AudioChunk, file_format: str) -> np.ndarray:
    """Where a format holds 16-bit integers they are rounded here: libsndfile cuts, and a pipe would differ from a file."""
    return pcm16(chunk.samples) if FORMATS[file_format][1] == "PCM_16" else chunk.samples


class StreamSink(Sink):
    """A pipe, a device, or anything else that can't be renamed into place."""

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
            self._tell_length(self._header_at)
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
            raise  # the reader has enough: not an error
        except OSError as error:
            raise LlasaError(f"{self._name} can't be written: {error.strerror}.") from error

    def _tell_length(self, header: int) -> None:
        """Put the true lengths into a header that can be reached again (`-o - > file.wav`)."""
        length = min(self._sent, UNKNOWN_LENGTH)
        for place, value in ((header + 4, length + 36), (header + 40, length)):
            self._stream.seek(place)
            self._send(struct.pack("<I", value))
        self._stream.seek(0, os.SEEK_END)


def _position(stream: BinaryIO) -> int | None:
    """Where in a regular file a stream is about to write; None where nothing can be written twice."""
    try:
        import fcntl

        number = stream.fileno()
        if not stat.S_ISREG(os.fstat(number).st_mode) or fcntl.fcntl(number, fcntl.F_GETFL) & os.O_APPEND:
            return None  # what is written to `>> file` goes to its end, wherever it was meant to go
        return stream.tell()
    except (ImportError, OSError, ValueError):  # no fcntl on Windows; no descriptor behind the object
        return None


def wav_header(sampling_rate: int) -> bytes:
    """44 bytes for 16-bit mono of unknown length."""
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, sampling_rate, sampling_rate * 2, 2, 16)
    return (
        struct.pack("<4sI4s", b"RIFF", UNKNOWN_LENGTH + 36, b"WAVE")
        + form
        + struct.pack("<4sI", b"data", UNKNOWN_LENGTH)
    )


class TeeSink(Sink):
    """Several sinks at once."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = list(sinks)

    def write(self, chunk: AudioChunk) -> None:
        for sink in self._sinks:
            sink.write(chunk)

    def close(self) -> None:
        for position, sink in enumerate(self._sinks):
            try:
                sink.close()
            except BaseException:
                for later in self._sinks[position + 1 :]:
                    later.abort()
                raise

    def abort(self) -> None:
        for sink in self._sinks:
            sink.abort()

    def flush(self) -> None:
        for sink in self._sinks:
            sink.flush()

    @property
    def waiting_s(self) -> float:
        return max((sink.waiting_s for sink in self._sinks), default=0.0)


def is_standard_output(output: str | None) -> bool:
    """`-`, or a path by which shells reach it: opened by its path, it would lead where the guard has led it."""
    return output in ("-", "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")


def is_plain_file(output: str | None) -> bool:
    """A path that gets a finished file, not a stream."""
    return output is not None and not is_standard_output(output) and not _is_special(output)


def pick_format(output: str | None, file_format: str | None) -> str:
    """By `--format`, else by the file's ending; WAV for a pipe.

    Raises:
        UsageError: Not a format that can be written.
    """
    name = file_format
    if name is None:
        name = "wav" if output is None or is_standard_output(output) else Path(output).suffix.lstrip(".")
        if not name and output is not None and _is_special(output):
            name = "wav"
    name = name.lower()
    if name not in FORMATS:
        what = f"The format {name!r}" if name else f"{output or repr('')} has no ending, and a sound file without one"
        raise UsageError(
            f"{what} can't be written.", "Formats: " + ", ".join(FORMATS) + "; choose by ending or --format."
        )
    return name


def open_sink(output: str | None, file_format: str | None, play: bool, stdout: BinaryIO | None = None) -> Sink:
    """The sink that the flags ask for; everything that can be refused is refused here, before a model loads.

    Args:
        output: A path, `-` for standard output, or None.
        file_format: A key of FORMATS; None goes by the ending.
        play: Through the speakers (too).
        stdout: Where `-` goes.

    Raises:
        UsageError, LlasaError: See the sinks.
    """
    kind = pick_format(output, file_format)
    speaker = None
    if play:
        from llasa_cli.audio.player import SpeakerSink

        speaker = SpeakerSink()
    if output is None:
        return speaker or TeeSink([])
    written: Sink
    if is_standard_output(output):
        written = _in_place(stdout if stdout is not None else sys.stdout.buffer, kind, "Standard output")
    elif _is_special(output):
        try:
            stream = open(output, "wb")  # noqa: SIM115 (the sink owns it)
        except OSError as error:
            raise LlasaError(f"{output} can't be written: {error.strerror}.") from error
        written = _in_place(stream, kind, output, owned=True)
    else:
        written = FileSink(Path(output), kind)
    # The file first: it is finished before the speakers have played to the end.
    return TeeSink([written, speaker]) if speaker is not None else written


def _in_place(stream: BinaryIO, kind: str, name: str, owned: bool = False) -> StreamSink:
    if stream.isatty():
        if owned:
            stream.close()
        raise UsageError("Audio is not written to a terminal.", "Pipe it on, or name a file with -o.")
    return StreamSink(stream, kind, name, owned)


def _is_special(output: str) -> bool:
    """A device or a named pipe: written in place, for it can't be replaced."""
    try:
        mode = os.stat(output).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise LlasaError(f"{output} can't be written: {error.strerror}.") from error
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)
