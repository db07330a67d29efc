"""Functions that several modules share for PyAV, which carries FFmpeg's libraries and is installed with the extra `book` or `serve`."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from llasa_cli.errors import UsageError

if TYPE_CHECKING:
    import numpy as np


def check_pyav(purpose: str) -> None:
    """Refuse what PyAV is needed for if it is not installed.

    Args:
        purpose: Its purpose, as the end of a sentence: "to write .m4b files".

    Raises:
        UsageError: PyAV is missing.
    """
    if not is_installed():
        raise UsageError(f"The package av (PyAV) is needed {purpose}.", "pip install 'llasa-cli[book]'")


def is_installed() -> bool:
    return find_spec("av") is not None


def frame_of(samples: np.ndarray, sampling_rate: int) -> Any:
    """float32 [n] -> an `av.AudioFrame`, mono."""
    import av
    import numpy as np

    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples, np.float32)[None], format="fltp", layout="mono")
    frame.sample_rate = sampling_rate
    return frame


class Tempo:
    """Changes the tempo of a sound that comes in pieces and keeps its pitch, by FFmpeg's `atempo`.

    Args:
        speed: Above 0; 2 is twice as fast.
    """

    def __init__(self, sampling_rate: int, speed: float) -> None:
        import av.filter

        self._rate = sampling_rate
        self._graph = graph = av.filter.Graph()
        nodes = [graph.add_abuffer(sample_rate=sampling_rate, format="fltp", layout="mono", channels=1)]
        while speed < 0.5:  # one filter takes 0.5 to 100
            nodes.append(graph.add("atempo", "0.5"))
            speed /= 0.5
        nodes += [graph.add("atempo", str(speed)), graph.add("abuffersink")]
        graph.link_nodes(*nodes).configure()

    def push(self, samples: np.ndarray | None) -> list[np.ndarray]:
        """Samples in (None: no more), samples out, float32 [n] each."""
        import av

        if samples is None:
            self._graph.push(None)
        elif len(samples):
            self._graph.push(frame_of(samples, self._rate))
        found = []
        while True:
            try:
                found.append(self._graph.pull().to_ndarray()[0])
            except (av.BlockingIOError, av.EOFError):
                return found


def change_tempo(samples: np.ndarray, sampling_rate: int, speed: float) -> np.ndarray:
    """A whole sound, float32 [n], at another speed; the pitch stays. The result has n / speed samples."""
    import numpy as np

    if speed == 1 or not len(samples):
        return samples
    tempo = Tempo(sampling_rate, speed)
    found = np.concatenate([*tempo.push(samples), *tempo.push(None), np.zeros(0, np.float32)])
    length = round(len(samples) / speed)  # the filter ends up to a window early or late
    return np.pad(found[:length], (0, max(0, length - len(found))))
