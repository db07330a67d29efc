"""Playback: one output stream for a whole command. PortAudio's own thread takes the samples from a queue.

    write() -> PlayQueue -> callback -> device

`write` returns as soon as the queue has room, so the next sound is made while this one plays. Playback begins when
`PREBUFFER_S` are queued, or `flush` marks the end of a sentence. If the queue runs empty within a sentence, more is buffered
before playback resumes.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from llasa_cli.audio.chunk import AudioChunk
from llasa_cli.audio.sink import Sink
from llasa_cli.errors import LlasaError, UsageError

if TYPE_CHECKING:
    import numpy as np

PREBUFFER_S = 0.2
"""Sound that is queued before playback begins; less than the first piece of a streamed sentence."""
LONGEST_PREBUFFER_S = 4.0
"""The prebuffer doubles with each underrun, up to this."""
MAX_QUEUED_S = 30.0
"""`write` waits while more than this is queued, so that a book does not fill the memory."""
LATENCY_S = 0.1
"""The length of the device's own buffer. The callback needs Python's global lock, which a busy machine may hold for some time."""
_POLL_S = 0.1
_SILENT_POLLS = 50
"""The number of polls without a callback after which the device counts as lost although PortAudio did not notice. Seconds would not do:
a suspended process does not poll."""
_INSTEAD = "Write a file with -o out.wav, or to a pipe with -o -."


class PlayQueue:
    """Samples on their way to the device. Lengths are in samples. All methods may be called from any thread.

    Attributes:
        underruns: The number of times that the queue ran empty within a sentence.
        is_over: Whether everything was taken after `finish`.
    """

    def __init__(self, prebuffer: int, longest_prebuffer: int) -> None:
        self.underruns = 0
        self.is_over = False
        self._prebuffer, self._longest = prebuffer, longest_prebuffer
        self._pieces: deque[np.ndarray] = deque()
        self._waiting = 0
        self._silent = 0  # silence given out while samples were held back, since the last `put`
        self._playing = self._resting = self._finished = False
        self._lock = threading.Lock()

    @property
    def waiting(self) -> int:
        return self._waiting

    @property
    def is_ready(self) -> bool:
        """Whether playback may begin or resume."""
        return self._playing

    def put(self, samples: np.ndarray) -> None:
        """Append float32 [n]."""
        if len(samples) == 0:
            return
        with self._lock:
            self._pieces.append(samples)
            self._waiting += len(samples)
            self._silent = 0
            self._resting = not samples.any()  # running empty after silence only makes a pause longer
            self._playing = self._playing or self._waiting >= self._prebuffer

    def flush(self) -> None:
        """Mark the end of a sentence: play what is queued. Running empty now does not count as an underrun."""
        with self._lock:
            self._resting = True
            self._playing = self._waiting > 0

    def finish(self) -> None:
        """Mark the end of the sound."""
        with self._lock:
            self._finished = self._playing = True

    def clear(self) -> None:
        """Discard the queue; only silence follows."""
        with self._lock:
            self._pieces.clear()
            self._waiting = 0
            self._finished = True

    def take(self, out: np.ndarray) -> None:
        """Fill float32 [n] with the next samples, and with silence where there are none.

        Samples that wait for the prebuffer are held back for at most the time of the prebuffer, since no more may follow.
        """
        with self._lock:
            if self._waiting and not self._playing:
                self._playing = self._silent >= self._prebuffer
                self._silent += len(out)
            filled = self._fill(out) if self._playing else 0
            out[filled:] = 0
            if filled == len(out) or not (self._playing or self._finished):
                return
            self._playing = False
            if self._finished:
                self.is_over = True
            elif not self._resting:
                self.underruns += 1
                self._prebuffer = min(2 * self._prebuffer, self._longest)

    def _fill(self, out: np.ndarray) -> int:
        filled = 0
        while self._pieces and filled < len(out):
            piece = self._pieces.popleft()
            part = piece[: len(out) - filled]
            out[filled : filled + len(part)] = part
            filled += len(part)
            if len(part) < len(piece):
                self._pieces.appendleft(piece[len(part) :])
        self._waiting -= filled
        return filled


class StreamResampler:
    """Resamples chunks of any rate to one rate, without seams between chunks of equal rate."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._from = rate
        self._stream: Any = None

    def convert(self, chunk: AudioChunk) -> np.ndarray:
        """float32 [n] -> float32 [about n * rate / chunk.sampling_rate]. Some ms are kept for the next call."""
        import numpy as np

        samples: np.ndarray = np.ascontiguousarray(chunk.samples, dtype=np.float32)
        rest = self.finish() if chunk.sampling_rate != self._from else None
        self._from = chunk.sampling_rate
        if self._from != self._rate:
            import soxr

            self._stream = self._stream or soxr.ResampleStream(self._from, self._rate, 1, dtype="float32", quality="HQ")
            samples = self._stream.resample_chunk(samples)
        return samples if rest is None else np.concatenate([rest, samples])

    def finish(self) -> np.ndarray:
        """The samples that were kept."""
        import numpy as np

        stream, self._stream = self._stream, None
        rest: np.ndarray = np.zeros(0, np.float32)
        if stream is not None:
            rest = stream.resample_chunk(rest, last=True)
        return rest


class SpeakerSink(Sink):
    """Plays on a sound device by PortAudio. The device is opened with the first chunk.

    Args:
        device: PortAudio's number of the device, or a part of its name; None takes the default device.

    Raises:
        UsageError: No device, or more than one, has such a name.
        LlasaError: There is no PortAudio or no device. `write` and `close` raise it when the device fails.
    """

    def __init__(self, device: str | None = None) -> None:
        _silence_alsa()
        try:
            import sounddevice
        except (ImportError, OSError) as error:
            raise LlasaError(f"Sound can't be played: {error}.", _INSTEAD) from error
        self._library = sounddevice
        self._device = self._find(device)
        self._stream: Any = None
        self._queue: PlayQueue | None = None
        self._started = False
        self._own_rate = 0
        self._rate = 0
        self._calls = 0  # callbacks so far
        self._ended = threading.Event()
        try:
            sounddevice.check_output_settings(self._device)
            self._own_rate = round(sounddevice.query_devices(self._device, "output")["default_samplerate"])
        except (sounddevice.PortAudioError, ValueError) as error:
            raise LlasaError(f"There is no sound device to play on: {error}.", _INSTEAD) from error

    def _find(self, device: str | None) -> int | None:
        """PortAudio's number of the device that the user named; None for the default device."""
        if device is None:
            return None
        name: int | str = int(device) if device.isdecimal() else device
        try:
            return int(self._library.query_devices(name, "output")["index"])
        except (self._library.PortAudioError, ValueError) as error:
            hint = "`llasa doctor` lists the devices. Give a number, or enough of a name to tell it from the others."
            raise UsageError(f"Sound can't be played on the device {device!r}: {error}.", hint) from error

    @property
    def queued_s(self) -> float:
        """Seconds of sound that the device has not taken yet."""
        return self._queue.waiting / self._rate if self._queue is not None else 0.0

    @property
    def underruns(self) -> int:
        """The number of times that playback ran out of samples within a sentence."""
        return self._queue.underruns if self._queue is not None else 0

    def write(self, chunk: AudioChunk) -> None:
        if self._queue is None:
            self._open(chunk.sampling_rate)
        assert self._queue is not None
        self._check()
        self._queue.put(self._converter.convert(chunk))
        self._start_when_ready()
        self._wait_while(lambda: self.queued_s > MAX_QUEUED_S)

    def flush(self) -> None:
        if self._queue is not None:
            self._queue.flush()
            self._start_when_ready()

    def close(self) -> None:
        if self._queue is None:
            return
        try:
            self._queue.put(self._converter.finish())
            self._queue.finish()
            self._start_when_ready()
            self._wait_while(lambda: not self._ended.is_set())
            self._check()
        except BaseException:
            self.abort()
            raise
        stream, self._stream = self._stream, None
        stream.close()

    def abort(self) -> None:
        stream, self._stream = self._stream, None
        if self._queue is not None and stream is not None:
            self._queue.clear()
            stream.abort()
            stream.close()

    def _open(self, rate: int) -> None:
        """Open at the sound's rate if the device supports it, else at the device's; mono, else stereo."""
        failure: Exception | None = None
        for channels in (1, 2):
            for device_rate in (rate, self._own_rate):
                try:
                    self._open_at(device_rate, channels)
                    return
                except (self._library.PortAudioError, ValueError) as error:
                    failure = failure or error
        raise LlasaError(f"The sound device failed: {failure}.", _INSTEAD) from failure

    def _open_at(self, rate: int, channels: int) -> None:
        queue = PlayQueue(round(PREBUFFER_S * rate), round(LONGEST_PREBUFFER_S * rate))

        def fill(out: np.ndarray, frames: int, moment: Any, status: Any) -> None:
            self._calls += 1
            queue.take(out[:, 0])
            out[:, 1:] = out[:, :1]
            if queue.is_over:
                raise self._library.CallbackStop  # the device still plays what it has taken

        self._stream = self._library.OutputStream(
            device=self._device,
            samplerate=rate,
            channels=channels,
            dtype="float32",
            latency=LATENCY_S,
            callback=fill,
            finished_callback=self._ended.set,
        )
        self._queue, self._rate, self._converter = queue, rate, StreamResampler(rate)

    def _start_when_ready(self) -> None:
        """Start once there is sound. Started earlier, the device would first play a buffer of silence."""
        assert self._queue is not None
        if self._started or not self._queue.is_ready:
            return
        try:
            self._stream.start()
        except self._library.PortAudioError as error:
            raise LlasaError(f"The sound device failed: {error}.", _INSTEAD) from error
        self._started = True

    def _check(self) -> None:
        """Raise an error if the stream ended before everything was played."""
        assert self._queue is not None
        if self._ended.is_set() and not self._queue.is_over:
            raise LlasaError("The sound device disappeared during playback.", _INSTEAD)

    def _wait_while(self, busy: Callable[[], bool]) -> None:
        calls, silent = self._calls, 0
        while busy():
            self._check()
            self._ended.wait(_POLL_S)
            silent = silent + 1 if self._calls == calls else 0
            calls = self._calls
            if silent > _SILENT_POLLS:
                raise LlasaError("The sound device has stopped playing.", _INSTEAD)


def _silence_alsa() -> None:
    """Keep ALSA from writing a dozen lines to standard error if there is no sound card; PortAudio reports the error."""
    if sys.platform != "linux":
        return
    try:
        ctypes.CDLL("libasound.so.2").snd_lib_error_set_handler(_ALSA_LOG)
    except (OSError, AttributeError):
        return


_ALSA_LOG = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p)(
    lambda *call: None
)
"""ALSA keeps the pointer, so the object must live as long as the program."""
