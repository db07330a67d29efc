"""Codes -> sound while the codes are still being made.

    for samples in decode_stream(codec, codes): ...        float32 [n], together exactly 320 * len(codes) samples

X-Codec2's decoder is not causal. Its convolutions and the inverse transform reach 13 codes (0.26 s) to both sides;
attention and GroupNorm see the whole sequence. So a piece is decoded with 35 codes behind it and up to 187 before it,
reference included, and the old decode fades into the new one over 2 codes behind each joint. That is exact for what is
local; what is global differs a little from the whole decode, most in the first piece, which has the least to go by. The
joint is put where it is quiet.

Where the stream is cut depends on the codes and on nothing else: the same codes make the same sound on a slow machine.
Pieces grow from 13 codes (0.26 s) to 100 (2 s). Memory and the work for a piece are bounded for streams of any length:
at most 324 codes are kept and decoded at once, 3.3 codes are decoded for each code given.

The built-in codec was taught by a discriminator to have clear harmonics, and chooses their phase by all it sees: what
lies behind a piece counts for more than its length. SI-SDR against the whole decode, 12 sentences, median and worst, by the decoder
before the present one, which is deeper and nearer (12 other sentences, standard windows: 12.7 (8.3), before 11.7 (7.3)):

| first left ahead search | SI-SDR dB    | behind 0.64 s | log spectra, median and worst | codes before the first sound |
|-------------------------|--------------|---------------|-------------------------------|------------------------------|
|    16  188    32      4 | 11.2   (3.1) | 16.1  (11.9)  | 0.23  (0.52)                  | 48                           |
|    13  187    35      2 | 12.0   (4.3) | 16.4  (11.7)  | 0.23  (0.44)                  | 48, the standard             |
|    32  184    32      8 | 13.5   (4.9) | 20.5  (12.5)  | 0.19  (0.34)                  | 64                           |
|    16  172    48      4 | 14.6   (6.6) | 19.8  (13.5)  | 0.15  (0.26)                  | 64                           |

240 sentences in the standard windows: word error rate .092 against .091 of the whole decode, SI-SDR 13.2 dB (worst tenth 10.0),
largest step at a joint 1.05 of the largest in its sentence.

What follows was measured on a voice and codec two before it, with sentences they were not trained on, and before the
windows of a long stream had one length (`benchmarks/stream.py`, which says what the columns are). 240 sentences of 3.2 s, first 32,
left 200, ahead 16, against the whole decode: word error rate 0.150 against 0.154, SI-SDR 17.4 dB (worst tenth
12.5), log spectra 0.2 dB apart, largest step at a joint 0.82 of the largest in its sentence. Other windows, 80 sentences:

| first left ahead fade | SI-SDR dB (worst tenth) | STFT dB | mel dB | joint | cost |
|-----------------------|-------------------------|---------|--------|-------|------|
|    16  200     8    1 | 13.8 ( 9.3)             | 0.26    | 0.31   | 1.00  | 3.0  |
|    32  200     8    2 | 16.5 (11.9)             | 0.20    | 0.24   | 0.70  | 3.0  |
|    32    0    16    2 | 12.9 ( 9.0)             | 0.44    | 0.50   | 0.72  | 1.2  |
|    32   50    16    2 | 15.8 (12.4)             | 0.27    | 0.31   | 0.68  | 1.7  |
|    32  200    16    2 | 17.2 (13.2)             | 0.18    | 0.21   | 0.70  | 3.1  |
|    32  200    16    2 | 16.9 (12.6)             | 0.19    | 0.22   | 0.97  | 3.1  | joint not at the quietest place
|    32  400    16    2 | 17.2 (13.2)             | 0.18    | 0.21   | 0.70  | 4.8  |
|    64  200    32    2 | 23.6 (19.8)             | 0.09    | 0.10   | 1.00  | 3.2  | sound begins twice as late

Streams of ten sentences: left 0, 50, 200: 14.6, 18.1, 21.0 dB. With a reference of one sentence before each: 25.7 dB
(40 sentences). Of three windows listened to (16 and 8, 32 and 16 with left 200 and 400) all lay within 0.007 of the
whole decode's word error rate. So it is the wait that decides, until 48 codes are made. How a full-size X-Codec2 takes
it is not measured; its reach is the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:

    class CodeDecoder(Protocol):
        """What is asked of a codec: `llasa_cli.codec.codec.Codec`."""

        samples_per_code: int

        def decode(self, codes: Sequence[int]) -> np.ndarray: ...


@dataclass(frozen=True)
class StreamingWindows:
    """Where the stream is cut and how much is decoded around each piece, all in codes (50 a second)."""

    first: int = 13
    """In the first piece."""
    growth: float = 1.5
    """Each piece is so many times as long as the one before."""
    longest: int = 100
    """No piece is longer."""
    left: int = 187
    """Codes decoded again before a piece, as many as there are: at least so many."""
    ahead: int = 35
    """Codes decoded behind a piece: they must be there before it can be given."""
    fade: int = 2
    """Over so many codes behind a joint the old decode turns into the new one."""
    search: int = 2
    """The joint is where it is quietest in the last so many codes of a piece."""

    @property
    def most(self) -> int:
        """Codes that are decoded at once: in a long stream always as many, since oneDNN makes code for each new length."""
        return self.left + self.search + self.longest + self.ahead

    def ends(self) -> Iterator[int]:
        """Where the pieces end, for ever: 13, 33, 62, 106, 172, 271, ..."""
        end, length = 0, float(self.first)
        while True:
            end += round(min(length, self.longest))
            yield end
            length *= self.growth


def decode_stream(
    codec: CodeDecoder, codes: Iterable[int], before: Sequence[int] = (), windows: StreamingWindows | None = None
) -> Iterator[np.ndarray]:
    """Decode in pieces, each as soon as `windows.ahead` codes behind it are there.

    Args:
        codec: A loaded codec.
        codes: 0..codec.code_count - 1; pulled one by one, and no further than the next piece needs.
        before: Codes of the reference that the speech goes on from: heard by the codec, not given.
        windows: How it is cut; the measured ones by default.

    Raises:
        ModelError: A code that the codec does not have.
    """
    windows = windows or StreamingWindows()
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
            crossfade(tail, samples)
        return samples

    for number, code in enumerate(codes, 1):
        kept.append(code)
        if number < end + windows.ahead:
            continue
        samples = fresh()
        cut = quietest_cut(samples, end * hop - given, windows.fade * hop, windows.search * hop)
        tail = samples[cut : cut + windows.fade * hop]
        yield samples[:cut]
        given += cut
        end = next(ends)
        surplus = max(0, end + windows.ahead - windows.most - begin)
        del kept[:surplus]
        begin += surplus
    if number * hop > given:
        yield fresh()


def quietest_cut(samples: np.ndarray, end: int, fade: int, search: int) -> int:
    """Where in the last `search` samples before `end` the `fade` samples that follow have the least energy."""
    step = max(1, search // 32)
    places = np.arange(end, max(0, end - search) - 1, -step)
    energy = np.cumsum(np.square(samples[places[-1] : end + fade], dtype=np.float64))
    energy = np.concatenate([[0.0], energy])
    begins = places - places[-1]
    best: int = places[np.argmin(energy[begins + fade] - energy[begins])]
    return int(best)


def crossfade(old: np.ndarray, new: np.ndarray) -> None:
    """Begin `new` as `old` and let it turn into itself over their common length, in place."""
    length = min(len(old), len(new))
    weight = (np.arange(length, dtype=np.float32) + 0.5) / max(length, 1)
    new[:length] = old[:length] + weight * (new[:length] - old[:length])
