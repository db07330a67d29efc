"""Decode codes to sound while they are still being generated.

    for samples in decode_stream(codec, codes): ...        float32 [n], together exactly samples_per_code * len(codes)

X-Codec2's decoder is not causal. Its convolutions and the inverse transform reach 13 codes (0.26 s) to both sides; attention
and GroupNorm use the whole sequence. Each piece is therefore decoded together with 35 codes after it and up to 187 before it,
including the reference's, and the previous decode is crossfaded into the new one over 2 codes after each cut. This is exact
for the local part. The global part differs a little from decoding everything at once, most in the first piece, which has the
least context. Cuts are made where the sound is quiet.

The cuts depend on the codes alone, so the same codes give the same sound on a slow machine. Pieces grow from 13 codes (0.26 s)
to 100 (2 s). Memory and work per piece are bounded for streams of any length: at most 324 codes are kept and decoded at once,
and 3.3 codes are decoded for each code of a long stream.

The default windows are a compromise between the time until the first sound (48 codes are needed) and the distance to the whole
decode: a median SI-SDR of 13 dB over 240 sentences, with a word error rate of .092 against .091. `benchmarks/stream.py`
measures other windows.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from llasa_cli.codec.codec import Codec


@dataclass(frozen=True)
class StreamingWindows:
    """The places at which the stream is cut, and the codes that are decoded around each piece. Lengths are in codes, 50 a second."""

    first: int = 13
    """Length of the first piece."""
    growth: float = 1.5
    """Ratio between the lengths of successive pieces."""
    longest: int = 100
    """Maximum length of a piece."""
    left: int = 187
    """Codes before a piece that are decoded again, if there are as many."""
    ahead: int = 35
    """Codes after a piece that are decoded with it; the piece has to wait for them."""
    fade: int = 2
    """Length of the crossfade after each cut."""
    search: int = 2
    """The number of codes at the end of a piece in which the quietest place for the cut is searched."""

    @property
    def largest_ratio(self) -> float:
        """The largest ratio of the codes that a piece needs after the one before it to the codes of that one."""
        return min(self.first * self.growth, self.longest) / (self.first - self.search)

    @property
    def max_decoded(self) -> int:
        """The most codes decoded at once. Long streams always use this length, since oneDNN compiles code for each new one."""
        return self.left + self.search + self.longest + self.ahead

    def ends(self) -> Iterator[int]:
        """The ends of the pieces, without limit: 13, 33, 62, 106, 172, 271, ..."""
        end, length = 0, float(self.first)
        while True:
            end += round(min(length, self.longest))
            yield end
            length *= self.growth

    def needed(self) -> Iterator[int]:
        """The numbers of codes after which the pieces can be decoded, without limit: 48, 68, 97, 141, ..."""
        return (end + self.ahead for end in self.ends())


FAST_WINDOWS = StreamingWindows(growth=12, longest=156)
"""For models that are many times faster than playback. Most sentences have two pieces, and 1.35 codes are decoded for each code
instead of 2.9. The second piece needs 3.1 s of speech, so a slow machine would begin to play later."""


def decode_stream(
    codec: Codec, codes: Iterable[int], before: Sequence[int] = (), windows: StreamingWindows | None = None
) -> Iterator[np.ndarray]:
    """Decode in pieces, each as soon as `windows.ahead` codes after it are available.

    Args:
        codec: A loaded codec.
        codes: 0..codec.code_count - 1. They are pulled one by one, and no further than the next piece needs.
        before: Codes of the reference that the speech continues. They are decoded as context, and their sound is left out.
        windows: The lengths of pieces and context.

    Yields:
        float32 [n], the next samples.

    Raises:
        ModelError: A code is outside the codec's range.
    """
    windows = windows or StreamingWindows()
    hop = codec.samples_per_code
    kept = list(before[-windows.left :]) if windows.left else []
    begin = -len(kept)  # position of `kept`, in codes from the first of `codes`
    given = 0  # samples yielded so far
    tail: np.ndarray | None = None  # the last decode's samples after the last piece
    ends = windows.ends()
    end = next(ends)
    number = 0

    def decode_kept() -> np.ndarray:
        samples = codec.decode(kept)[given - begin * hop :]
        if tail is not None:
            crossfade(tail, samples)
        return samples

    for number, code in enumerate(codes, 1):
        kept.append(code)
        if number < end + windows.ahead:
            continue
        samples = decode_kept()
        cut = quietest_cut(samples, end * hop - given, windows.fade * hop, windows.search * hop)
        tail = samples[cut : cut + windows.fade * hop]
        yield samples[:cut]
        given += cut
        end = next(ends)
        surplus = max(0, end + windows.ahead - windows.max_decoded - begin)
        del kept[:surplus]
        begin += surplus
    if number * hop > given:
        yield decode_kept()


def quietest_cut(samples: np.ndarray, end: int, fade: int, search: int) -> int:
    """The position in the last `search` samples before `end` after which `fade` samples have the least energy."""
    step = max(1, search // 32)
    places = np.arange(end, max(0, end - search) - 1, -step)
    energy = np.cumsum(np.square(samples[places[-1] : end + fade], dtype=np.float64))
    energy = np.concatenate([[0.0], energy])
    begins = places - places[-1]
    best: int = places[np.argmin(energy[begins + fade] - energy[begins])]
    return int(best)


def crossfade(old: np.ndarray, new: np.ndarray) -> None:
    """Fade from `old` to `new` over their common length; `new` is changed in place."""
    length = min(len(old), len(new))
    weight = (np.arange(length, dtype=np.float32) + 0.5) / max(length, 1)
    new[:length] = old[:length] + weight * (new[:length] - old[:length])
