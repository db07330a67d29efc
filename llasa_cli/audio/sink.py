"""The interface through which sound leaves the program, and a sink that feeds several others.

    with sink:                                          an exception inside the block calls abort()
        for chunk in chunks: sink.write(chunk)          otherwise close() runs at the end

`writers.py` has the sinks for files and pipes, `player.py` the one for the sound device.
"""

from __future__ import annotations

from collections.abc import Sequence

from llasa_cli.audio.chunk import AudioChunk


class Sink:
    """Receives audio chunks. `close` completes the output; `abort` discards it."""

    def write(self, chunk: AudioChunk) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError

    def abort(self) -> None:
        raise NotImplementedError

    def flush(self) -> None:
        """Mark the end of a sentence: a sink that buffers sound for smooth playback may play it now."""

    @property
    def queued_s(self) -> float:
        """Seconds of sound that were written but not played yet; 0 for a sink that does not play."""
        return 0.0

    def __enter__(self) -> Sink:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()


class TeeSink(Sink):
    """Writes every chunk to several sinks. They are closed in order; if one fails, the later ones are aborted."""

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
    def queued_s(self) -> float:
        return max((sink.queued_s for sink in self._sinks), default=0.0)
