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
    growth: float = 2.0
    """Each piece is so many times as long as the one before."""
    longest: int = 128
    """No piece is longer."""
    left: int = 400
    """Codes decoded again before a piece, as many as there are."""
    ahead: int = 16
    """Codes decoded behind a piece: they must be there before it can be given."""
    fade: int = 2
    """Over so many codes behind a joint the old decode turns into the new one."""

    def ends(self) -> Iterator[int]:
        """Where the pieces end, for ever: 32, 96, 224, 352, ..."""
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
    hop, fade = codec.samples_per_code, windows.fade * codec.samples_per_code
    kept = list(before[-windows.left :]) if windows.left else []
    begin = -len(kept)  # of `kept`, counted from the first code of `codes`
    given = 0  # codes
    tail: np.ndarray | None = None

    def piece(end: int, is_last: bool) -> np.ndarray:
        nonlocal tail
        samples = codec.decode(kept)[(given - begin) * hop :]
        if tail is not None:
            blend(tail, samples)
        size = (end - given) * hop
        tail = samples[size : size + fade].copy()
        return samples if is_last else samples[:size]

    ends = windows.ends()
    end = next(ends)
    number = 0
    for number, code in enumerate(codes, 1):
        kept.append(code)
        if number == end + windows.ahead:
            yield piece(end, False)
            given = end
            drop = max(0, given - windows.left - begin)
            del kept[:drop]
            begin += drop
            end = next(ends)
    if number > given:
        yield piece(number, True)


def blend(old: np.ndarray, new: np.ndarray) -> None:
    """Begin `new` as `old` and let it turn into itself over their common length, in place."""
    length = min(len(old), len(new))
    weight = (np.arange(length, dtype=np.float32) + 0.5) / max(length, 1)
    new[:length] = old[:length] + weight * (new[:length] - old[:length])
