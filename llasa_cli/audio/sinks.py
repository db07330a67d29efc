"""Where sound goes: a file that is finished or absent, a pipe, the speakers, or two of them at once.

    with open_sink("out.wav") as sink:      leaving by an exception leaves nothing behind
        for chunk in chunks: sink.write(chunk)

WAV and raw PCM leave a pipe as they are made; the other formats have to be complete first.
"""

from __future__ import annotations

import io
import os
import secrets
import struct
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from llasa_cli.audio.chunk import AudioChunk, to_pcm16
from llasa_cli.errors import LlasaError, UsageError

FORMATS = {
    "wav": ("WAV", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
    "pcm": ("RAW", "PCM_16"),
}
"""Name and file ending -> libsndfile's names."""

UNKNOWN_LENGTH = 0x7FFFF000
"""For the length fields of a WAV that is still being made: what wave, libsndfile, sox and ffmpeg all read on from
without a warning (zero is unreadable to three of the four)."""


class Sink:
    """Takes chunks. `close` finishes, `abort` leaves nothing; leaving a `with` block does one of them."""

    def write(self, chunk: AudioChunk) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def abort(self) -> None:
        raise NotImplementedError

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
        self._part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
        self._guard: _Guarded | None = None
        self._sound: Any = None
        if not path.parent.is_dir():
            raise UsageError(f"There is no folder {path.parent}.", "Make it first, or write elsewhere.")
        if path.is_dir():
            raise UsageError(f"{path} is a folder.", "Name a file in it.")
        try:
            self._guard = _Guarded(self._part.open("w+b"), str(path))
        except OSError as error:
            raise LlasaError(f"{path} can't be written: {error.strerror}.") from error

    def write(self, chunk: AudioChunk) -> None:
        assert self._guard is not None
        if self._sound is None:
            self._sound = _encoder(self._guard, self._format, chunk.sampling_rate)
        self._guard.do(lambda: self._sound.write(chunk.samples))

    def close(self) -> None:
        if self._sound is None:  # nothing was said: no empty file either
            self.abort()
            return
        guard, sound = self._guard, self._sound
        assert guard is not None
        try:
            guard.do(sound.close)
            guard.sync()
            os.replace(self._part, self.path)
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
    return soundfile.SoundFile(file, "w", sampling_rate, 1, subtype, "FILE" if kind == "RAW" else None, kind)


class StreamSink(Sink):
    """A pipe, a device, or anything else that can't be renamed into place."""

    def __init__(self, stream: BinaryIO, file_format: str, name: str, owned: bool = False) -> None:
        self._stream, self._format, self._name, self._owned = stream, file_format, name, owned
        self._started = False
        self._buffer: io.BytesIO | None = None
        self._sound: Any = None

    def write(self, chunk: AudioChunk) -> None:
        if self._format in ("wav", "pcm"):
            if not self._started and self._format == "wav":
                self._send(wav_header(chunk.sampling_rate))
            self._started = True
            self._send(to_pcm16(chunk.samples))
            return
        if self._sound is None:
            self._buffer = io.BytesIO()
            self._sound = _encoder(self._buffer, self._format, chunk.sampling_rate)
        self._sound.write(chunk.samples)

    def close(self) -> None:
        if self._sound is not None and self._buffer is not None:
            self._sound.close()
            self._send(self._buffer.getvalue())
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
        except BrokenPipeError:
            raise  # the reader has enough: not an error
        except OSError as error:
            raise LlasaError(f"{self._name} can't be written: {error.strerror}.") from error


def wav_header(sampling_rate: int) -> bytes:
    """44 bytes for 16-bit mono of unknown length."""
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, sampling_rate, sampling_rate * 2, 2, 16)
    return (
        struct.pack("<4sI4s", b"RIFF", UNKNOWN_LENGTH + 36, b"WAVE")
        + form
        + struct.pack("<4sI", b"data", UNKNOWN_LENGTH)
    )


class SpeakerSink(Sink):
    """The default sound device, by PortAudio; opened with the first chunk."""

    def __init__(self) -> None:
        try:
            import sounddevice
        except (ImportError, OSError) as error:
            raise LlasaError(f"Sound can't be played here: {error}.", _INSTEAD) from error
        self._library = sounddevice
        self._stream: Any = None
        try:
            sounddevice.check_output_settings()
        except (sounddevice.PortAudioError, ValueError) as error:
            raise LlasaError(f"There is no sound device to play on: {error}.", _INSTEAD) from error

    def write(self, chunk: AudioChunk) -> None:
        try:
            if self._stream is None:
                self._stream = self._library.OutputStream(chunk.sampling_rate, channels=1, dtype="float32")
                self._stream.start()
            self._stream.write(chunk.samples.reshape(-1, 1))
        except self._library.PortAudioError as error:
            raise LlasaError(f"The sound device failed: {error}.", _INSTEAD) from error

    def close(self) -> None:
        if self._stream is not None:
            self._stream.stop()  # plays what is buffered
            self._stream.close()

    def abort(self) -> None:
        if self._stream is not None:
            self._stream.abort()
            self._stream.close()


_INSTEAD = "Write a file with -o out.wav, or to a pipe with -o -."


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


def pick_format(output: str | None, file_format: str | None) -> str:
    """By `--format`, else by the file's ending; WAV for a pipe.

    Raises:
        UsageError: Not a format that can be written.
    """
    name = file_format
    if name is None:
        name = "wav" if output in (None, "-") else Path(str(output)).suffix.lstrip(".")
        if not name and output is not None and _is_special(Path(output)):
            name = "wav"
    name = name.lower()
    if name not in FORMATS:
        what = f"The format {name!r}" if name else f"{output} has no ending, and a sound file without one"
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
    sinks: list[Sink] = []
    kind = pick_format(output, file_format)
    if play:
        sinks.append(SpeakerSink())
    if output == "-":
        stream = stdout if stdout is not None else sys.stdout.buffer
        if stream.isatty():
            raise UsageError("Audio is not written to a terminal.", "Pipe it on, or name a file with -o.")
        sinks.append(StreamSink(stream, kind, "Standard output"))
    elif output is not None and _is_special(Path(output)):
        try:
            stream = open(output, "wb")  # noqa: SIM115 (the sink owns it)
        except OSError as error:
            raise LlasaError(f"{output} can't be written: {error.strerror}.") from error
        sinks.append(StreamSink(stream, kind, output, owned=True))
    elif output is not None:
        sinks.append(FileSink(Path(output), kind))
    return sinks[0] if len(sinks) == 1 else TeeSink(sinks)


def _is_special(path: Path) -> bool:
    """A device or a named pipe: written in place, for it can't be replaced."""
    return path.exists() and not path.is_file() and not path.is_dir()
