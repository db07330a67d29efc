"""Playback: every sample once, in order and without gaps, and every way in which it can end."""

from __future__ import annotations

import ctypes.util
import fcntl
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr

from llasa_cli.audio.chunk import AudioChunk
from llasa_cli.audio.player import PlayQueue, StreamResampler
from llasa_cli.audio.sink import Sink, TeeSink
from llasa_cli.audio.writers import open_sink
from llasa_cli.errors import LlasaError

RATE = 16_000


def ramp(count: int) -> np.ndarray:
    """Samples that all differ, none of them zero."""
    return (np.arange(1, count + 1) / 2**20).astype(np.float32)


def taken(queue: PlayQueue, count: int) -> np.ndarray:
    out = np.full(count, np.nan, np.float32)
    queue.take(out)
    return out


# --- the queue ---


def test_every_sample_is_taken_once_and_in_order_for_any_sizes() -> None:
    random = np.random.default_rng(0)
    queue, sound, out = PlayQueue(1, 1), ramp(20_000), []
    place = 0
    while not queue.is_over:
        size = int(random.integers(0, 700))
        queue.put(sound[place : place + size])
        place += size
        if place >= len(sound):
            queue.finish()
        out.append(taken(queue, int(random.integers(1, 700))))
    heard = np.concatenate(out)
    assert np.array_equal(heard[heard != 0], sound)
    assert queue.waiting == 0


def test_playback_begins_when_enough_is_queued() -> None:
    queue = PlayQueue(100, 100)
    queue.put(ramp(99))
    assert not taken(queue, 10).any()
    queue.put(ramp(1))
    assert taken(queue, 10).all()


@pytest.mark.parametrize("end", [PlayQueue.flush, PlayQueue.finish])
def test_a_short_sentence_does_not_wait_for_more(end: Callable[[PlayQueue], None]) -> None:
    queue = PlayQueue(100, 100)
    queue.put(ramp(20))
    end(queue)
    assert np.array_equal(taken(queue, 30), np.pad(ramp(20), (0, 10)))


def test_the_last_samples_are_not_held_back_forever() -> None:
    queue = PlayQueue(100, 100)
    queue.put(ramp(20))
    assert not taken(queue, 60).any()
    queue.put(ramp(20))  # more follows: wait as long again
    assert not taken(queue, 100).any()
    assert taken(queue, 60)[:40].all()


def test_after_an_underrun_the_prebuffer_grows_up_to_a_limit() -> None:
    queue = PlayQueue(100, 300)
    for underruns, enough in enumerate([100, 200, 300, 300]):
        queue.put(ramp(enough - 1))
        assert (queue.underruns, taken(queue, 10).any()) == (underruns, False)
        queue.put(ramp(1))
        assert taken(queue, 400)[:enough].all()


def test_an_empty_queue_between_sentences_is_not_an_underrun() -> None:
    queue = PlayQueue(100, 300)
    for _ in range(3):
        queue.put(ramp(150))
        queue.flush()
        assert taken(queue, 200)[:150].all()
        assert not taken(queue, 50).any()
    assert queue.underruns == 0
    queue.put(ramp(100))
    assert taken(queue, 10).all()


def test_an_empty_queue_after_silence_is_not_an_underrun() -> None:
    queue = PlayQueue(100, 300)
    queue.put(ramp(150))
    queue.put(np.zeros(50, np.float32))
    assert taken(queue, 300)[:150].all()
    assert queue.underruns == 0


def test_a_flush_ends_with_the_next_sound() -> None:
    queue = PlayQueue(100, 300)
    queue.put(ramp(150))
    queue.flush()
    queue.put(ramp(10))
    assert taken(queue, 200)[:160].all()
    assert queue.underruns == 1


def test_a_cleared_queue_is_silent_at_once() -> None:
    queue = PlayQueue(10, 10)
    queue.put(ramp(1000))
    assert taken(queue, 10).all()
    queue.clear()
    assert not taken(queue, 10).any()
    assert queue.is_over


# --- rates ---


@pytest.mark.parametrize("rate", [16_000, 44_100, 48_000])
def test_chunks_are_resampled_without_seams(rate: int) -> None:
    sound = np.sin(np.arange(12_345) / 7).astype(np.float32)
    converter = StreamResampler(rate)
    pieces = [converter.convert(AudioChunk(piece, RATE)) for piece in np.array_split(sound, 9)]
    heard = np.concatenate([*pieces, converter.finish()])
    expected = soxr.resample(sound, RATE, rate, quality="HQ") if rate != RATE else sound
    assert abs(len(heard) - len(expected)) <= 1
    np.testing.assert_allclose(heard[: len(expected)], expected[: len(heard)], atol=1e-5)


def test_a_change_of_rate_loses_no_samples() -> None:
    converter = StreamResampler(48_000)
    pieces = [converter.convert(AudioChunk(np.ones(1600, np.float32), rate)) for rate in (16_000, 48_000, 16_000)]
    heard = np.concatenate([*pieces, converter.finish()])
    assert abs(len(heard) - 3 * 1600 - 2 * 3200) <= 2


# --- a device that PortAudio opens ---

needs_portaudio = pytest.mark.skipif(
    sys.platform != "linux" or ctypes.util.find_library("portaudio") is None, reason="no PortAudio, or no ALSA"
)

BEGIN = """
import sys, time
import numpy as np
from llasa_cli.audio.chunk import AudioChunk
from llasa_cli.audio.writers import open_sink
from llasa_cli.errors import LlasaError
sound = (np.arange(1, 320001) / 2**20).astype(np.float32)
def chunk(begin, end):
    return AudioChunk(sound[begin:end], 16000)
"""


class Recorder:
    """ALSA's default device as a named pipe: what PortAudio plays is read here at a chosen speed, float32 mono.

    It holds 64 ms at real time: as real devices, it takes sound no faster than it plays it.
    """

    def __init__(self, folder: Path, speed: float = 1.0) -> None:
        self.folder, self._speed = folder, speed
        self._pipe = folder / "device"
        os.mkfifo(self._pipe)
        # Open for both, so that it never sees an end: PortAudio opens the device several times.
        self._file: int | None = os.open(self._pipe, os.O_RDWR | os.O_NONBLOCK)
        fcntl.fcntl(self._file, 1031, 4096)  # F_SETPIPE_SZ
        self._data: list[bytes] = []
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def environment(self) -> dict[str, str]:
        config = self.folder / "alsa.conf"
        config.write_text(
            f'pcm.recorder {{ type file  slave.pcm {{ type null }}  file "{self._pipe}"  format raw }}\n'
            "pcm.!default { type plug  slave.pcm recorder }\n"
            "ctl.!default { type null }\n"
        )
        return os.environ | {"ALSA_CONFIG_PATH": str(config), "OMP_NUM_THREADS": "1"}

    def start(self, script: str, *arguments: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", BEGIN + script, *arguments]
        return subprocess.Popen(command, env=self.environment(), text=True, stdout=-1, stderr=-1)

    def play(self, script: str) -> tuple[int, str]:
        """Run a program to its end -> exit code and standard error."""
        with self.start(script) as process:
            errors = ending(process)[1]
        return process.returncode, errors

    def _read(self) -> None:
        rate = self._speed * 4 * RATE
        began = None
        count = 0
        while not self._done.is_set():
            file = self._file
            if file is None or not select.select([file], [], [], 0.02)[0]:
                continue
            began = began or time.monotonic()
            data = os.read(file, 2048)
            self._data.append(data)
            count += len(data)
            time.sleep(max(0.0, began + count / rate - time.monotonic()))

    @property
    def heard(self) -> np.ndarray:
        return np.frombuffer(b"".join(self._data), "<f4")

    def vanish(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            os.close(file)

    def close(self) -> None:
        time.sleep(0.1)
        self._done.set()
        self._thread.join()
        self.vanish()


@pytest.fixture
def recorder(tmp_path: Path) -> Any:
    made: list[Recorder] = []

    def make(speed: float = 1.0) -> Recorder:
        made.append(Recorder(tmp_path, speed))
        return made[0]

    yield make
    for device in made:
        device.close()


def ending(process: subprocess.Popen[str], timeout_s: float = 60) -> tuple[str, str]:
    """The output of a program until it ends; the program does not outlive the test."""
    try:
        return process.communicate(timeout=timeout_s)
    except BaseException:
        process.kill()
        raise


def without_silence(heard: np.ndarray) -> np.ndarray:
    """The samples from the first to the last one that is not zero."""
    places = np.flatnonzero(heard)
    return heard[places[0] : places[-1] + 1] if len(places) else heard[:0]


@needs_portaudio
def test_playback_equals_what_was_written_without_gaps(recorder: Callable[..., Recorder]) -> None:
    device = recorder(speed=1.0)
    code, errors = device.play("""
with open_sink(None, None, play=True) as sink:
    sink.write(chunk(0, 12000))
    for place in range(12000, 24000, 4000):     # 0.25 s each, made two and a half times as fast as they are spoken
        time.sleep(0.1)
        sink.write(chunk(place, place + 4000))
    print(sink.underruns, file=sys.stderr)
""")
    device.close()
    assert (code, errors) == (0, "0\n")
    assert np.array_equal(without_silence(device.heard), ramp(24_000))


@needs_portaudio
def test_a_device_is_chosen_by_a_part_of_its_name_or_by_its_number(recorder: Callable[..., Recorder]) -> None:
    device = recorder(speed=8.0)
    silent_default = "pcm.!default { type null }\n"
    environment = device.environment()
    with (device.folder / "alsa.conf").open("a", encoding="utf-8") as config:
        config.write(silent_default)
    script = """
import sounddevice
number = sounddevice.query_devices("recorder", "output")["index"]
for place, name in enumerate([None, "Recorder", str(number)]):
    with open_sink(None, None, play=True, audio_device=name) as sink:
        sink.write(chunk(place * 8000, place * 8000 + 8000))
try:
    open_sink(None, None, play=True, audio_device="kitchen")
except LlasaError as error:
    print(error.exit_code, error.message, error.hint, file=sys.stderr)
"""
    process = subprocess.Popen([sys.executable, "-c", BEGIN + script], env=environment, text=True, stderr=-1)
    errors = ending(process)[1]
    device.close()
    assert errors.startswith("2 Sound can't be played on the device 'kitchen'"), errors
    assert "llasa doctor" in errors
    heard = device.heard
    assert np.array_equal(heard[heard != 0], ramp(24_000)[8000:])


@needs_portaudio
def test_slow_sound_is_played_with_pauses_and_without_loss(recorder: Callable[..., Recorder]) -> None:
    device = recorder(speed=1.0)
    code, errors = device.play("""
with open_sink(None, None, play=True) as sink:
    for place in range(0, 12000, 4000):
        sink.write(chunk(place, place + 4000))
        time.sleep(0.4)
    print(sink.underruns, file=sys.stderr)
""")
    device.close()
    assert code == 0
    assert int(errors) >= 1
    heard = device.heard
    assert np.array_equal(heard[heard != 0], ramp(12_000))
    assert len(without_silence(heard)) > 12_000


@needs_portaudio
def test_write_waits_for_the_device_and_close_for_the_end(recorder: Callable[..., Recorder]) -> None:
    device = recorder(speed=40.0)
    code, errors = device.play("""
import llasa_cli.audio.player as player
player.MAX_QUEUED_S, player.LONGEST_PREBUFFER_S = 1.0, 0.2
most = 0.0
with open_sink(None, None, play=True) as sink:
    for place in range(0, 160000, 8000):
        sink.write(chunk(place, place + 8000))
        most = max(most, sink.queued_s)
print(most, file=sys.stderr)
""")
    device.close()
    assert code == 0
    assert float(errors) <= 1.0
    heard = device.heard
    assert np.array_equal(heard[heard != 0], ramp(160_000))


@needs_portaudio
def test_a_device_that_disappears_is_an_error(recorder: Callable[..., Recorder]) -> None:
    device = recorder(speed=1.0)
    with device.start("""
try:
    with open_sink(None, None, play=True) as sink:
        sink.write(chunk(0, 320000))
except LlasaError as error:
    print("|", error.message, error.hint)
    sys.exit(error.exit_code)
""") as process:
        while not device.heard.any():
            time.sleep(0.02)
        device.vanish()
        said, _ = ending(process)
    assert process.returncode == 1
    assert said.startswith("| The sound device disappeared during playback.")
    assert "-o" in said


@needs_portaudio
def test_an_interrupt_silences_the_device_at_once(recorder: Callable[..., Recorder]) -> None:
    device = recorder(speed=1.0)
    with device.start("""
with open_sink(None, None, play=True) as sink:
    sink.write(chunk(0, 320000))
""") as process:
        while not device.heard.any():
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        ending(process, 15)  # 20 s of sound are waiting
    device.close()
    assert process.returncode != 0
    heard = without_silence(device.heard)
    assert np.array_equal(heard, ramp(len(heard)))
    assert len(heard) < 160_000


# --- devices that can't be had here ---


class Library:
    """A replacement of sounddevice: its thread calls back, and the device supports only the given formats."""

    class PortAudioError(Exception):
        pass

    class CallbackStop(Exception):
        pass

    def __init__(self, rates: tuple[int, ...] = (RATE,), channels: int = 1, present: bool = True) -> None:
        self.rates, self.channels, self.present = rates, channels, present
        self.frozen = False
        self.heard: list[np.ndarray] = []
        self.ends: list[str] = []

    def check_output_settings(self, device: int | None) -> None:
        if not self.present:
            raise self.PortAudioError("Error querying device -1")

    def query_devices(self, device: int | None, kind: str) -> dict[str, float]:
        return {"default_samplerate": float(self.rates[0])}

    def OutputStream(self, **wanted: Any) -> Library:
        if wanted["samplerate"] not in self.rates or wanted["channels"] != self.channels:
            raise self.PortAudioError("Invalid sample rate")
        assert wanted["dtype"] == "float32"
        self._fill, self._finished = wanted["callback"], wanted["finished_callback"]
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)
        return self

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        while not self._stopped.is_set():
            if self.frozen:
                self._stopped.wait(0.01)
                continue
            out = np.full((256, self.channels), np.nan, np.float32)
            try:
                self._fill(out, len(out), None, None)
            except self.CallbackStop:
                self._stopped.set()
            self.heard.append(out)
            time.sleep(0.0005)
        self._finished()

    def abort(self) -> None:
        self.ends.append("abort")
        self._stopped.set()
        self._thread.join()

    def close(self) -> None:
        self.ends.append("close")
        if self._thread.is_alive():
            self._stopped.set()
            self._thread.join()


def play_on(library: Library | None, monkeypatch: pytest.MonkeyPatch, output: str | None = None) -> Sink:
    monkeypatch.setitem(sys.modules, "sounddevice", library)  # None makes the import fail
    return open_sink(output, None, play=True)


def test_device_and_file_get_the_same_sound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library()
    with play_on(library, monkeypatch, str(tmp_path / "a.wav")) as sink:
        assert isinstance(sink, TeeSink)
        sink.write(AudioChunk(ramp(8000), RATE))
        sink.flush()
        sink.write(AudioChunk(ramp(8000), RATE))
    assert soundfile.info(tmp_path / "a.wav").frames == 16_000
    heard = np.concatenate(library.heard)
    assert np.array_equal(heard[heard != 0], np.tile(ramp(8000), 2))
    assert library.ends == ["close"]


@pytest.mark.parametrize("channels", [1, 2])
def test_a_device_that_lacks_the_rate_gets_its_own_rate(channels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library(rates=(48_000,), channels=channels)
    sound = (0.5 * np.sin(np.arange(16_000) / 9)).astype(np.float32)
    with play_on(library, monkeypatch) as sink:
        for piece in np.array_split(sound, 7):
            sink.write(AudioChunk(piece, RATE))
    heard = np.concatenate(library.heard)
    assert all(np.array_equal(heard[:, 0], heard[:, channel]) for channel in range(channels))
    expected = soxr.resample(sound, RATE, 48_000, quality="HQ")
    np.testing.assert_allclose(heard[: len(expected), 0], expected, atol=1e-4)


def test_a_device_that_accepts_no_format_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    sink = play_on(Library(rates=(8000,), channels=6), monkeypatch)
    with pytest.raises(LlasaError, match="The sound device failed: Invalid sample rate"), sink:
        sink.write(AudioChunk(ramp(8000), RATE))


def test_an_exception_aborts_the_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library()
    with pytest.raises(KeyboardInterrupt), play_on(library, monkeypatch) as sink:
        sink.write(AudioChunk(ramp(80_000), RATE))
        raise KeyboardInterrupt
    sink.abort()  # once more does no harm
    assert library.ends == ["abort", "close"]
    assert sum(map(len, library.heard)) < 80_000


def test_a_device_that_stops_calling_back_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library()
    monkeypatch.setattr("llasa_cli.audio.player._POLL_S", 0.005)
    with pytest.raises(LlasaError, match="stopped playing"), play_on(library, monkeypatch) as sink:
        sink.write(AudioChunk(ramp(160_000), RATE))
        library.frozen = True
    assert library.ends == ["abort", "close"]


def test_without_sound_no_device_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    library = Library()
    with play_on(library, monkeypatch) as sink:
        sink.flush()
    assert (library.ends, library.heard, sink.queued_s) == ([], [], 0.0)


@pytest.mark.parametrize("library", [None, Library(present=False)], ids=["no PortAudio", "no device"])
def test_without_a_sound_device_the_error_names_the_output_flag(
    library: Library | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(LlasaError) as caught:
        play_on(library, monkeypatch)
    assert (caught.value.exit_code, "-o" in caught.value.hint) == (1, True)
