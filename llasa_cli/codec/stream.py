"""Codes -> sound while the codes are still being made.

for samples in decode_stream(codec, codes): ...        float32 [n], joined exactly 320 * len(codes) samples
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:

    class Decodes(Protocol):
        """What is asked of a codec: `llasa_cli.codec.model.Codec`."""

        samples_per_code: int

        def decode(self, codes: Sequence[int]) -> np.ndarray: ...


@dataclass(frozen=True)
class Windows:
    """Where the stream is cut and how much is decoded around each piece, all in codes (50 a second)."""

    first: int = 32
    """In the first piece."""
    growth: float = 1.5
    """Each piece is so many times as long as the one before."""
    longest: int = 100
    """No piece is longer."""
    left: int = 200
    """Codes decoded again before a piece, as many as there are."""
    ahead: int = 16
    """Codes decoded behind a piece: they must be there before it can be given."""
    fade: int = 2
    """Over so many codes behind a joint the old decode turns into the new one."""
    search: int = 8
    """The joint is where it is quietest in the last so many codes of a piece."""

    def ends(self) -> Iterator[int]:
        """Where the pieces end, for ever: 32, 80, 152, 252, 352, ..."""
        end, length = 0, float(self.first)
        while True:
            end += round(min(length, self.longest))
            yield end
            length *= self.growth


def decode_stream(
    codec: Decodes, codes: Iterable[int], before: Sequence[int] = (), windows: Windows | None = None
) -> Iterator[np.ndarray]:
    """Decode in pieces, each as soon as `windows.ahead` codes behind it are there."""
    windows = windows or Windows()
    hop = codec.samples_per_code
    kept = list(before[-windows.left :]) if windows.left else []
    begin = -len(kept)  # the place of `kept`, in codes from the first of `codes`
    given = 0  # samples
    tail: np.ndarray | None = None  # what the last decode says of the samples behind the last piece
    ends = windows.ends()
    end = next(ends)
    number = 0

    def fresh() -> np.ndarray:
        samples = codec.decode(kept)[given - begin * hop :]
        if tail is not None:
            blend(tail, samples)
        return samples

    for number, code in enumerate(codes, 1):
        kept.append(code)
        if number < end + windows.ahead:
            continue
        samples = fresh()
        cut = quietest(samples, end * hop - given, windows.fade * hop, windows.search * hop)
        tail = samples[cut : cut + windows.fade * hop]
        yield samples[:cut]
        given += cut
        surplus = max(0, given // hop - windows.left - begin)
        del kept[:surplus]
        begin += surplus
        end = next(ends)
    if number * hop > given:
        yield fresh()


def quietest(samples: np.ndarray, end: int, fade: int, search: int) -> int:
    """Where in the last `search` samples before `end` the `fade` samples that follow have the least energy."""
    step = max(1, search // 32)
    places = np.arange(end, max(0, end - search) - 1, -step)
    energy = np.cumsum(np.square(samples[places[-1] : end + fade], dtype=np.float64))
    energy = np.concatenate([[0.0], energy])
    begins = places - places[-1]
    best: int = places[np.argmin(energy[begins + fade] - energy[begins])]
    return int(best)


def blend(old: np.ndarray, new: np.ndarray) -> None:
    """Begin `new` as `old` and let it turn into itself over their common length, in place."""
    length = min(len(old), len(new))
    weight = (np.arange(length, dtype=np.float32) + 0.5) / max(length, 1)
    new[:length] = old[:length] + weight * (new[:length] - old[:length])
