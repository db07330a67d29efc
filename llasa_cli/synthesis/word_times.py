"""The times of the words of a text in a take of it.

    timer = WordTimer(recognizer, "en")               None: all times are estimates
    timer.times(("It is 1984.",), "It is nineteen eighty four.", samples, sampling_rate)
        -> (WordTime("It", 0.31, 0.42), WordTime("is", 0.42, 0.6), WordTime("1984.", 0.6, 1.7))

The recognizer aligns the words that are known to be spoken (`asr.Recognizer.align`); it does not transcribe. Its times are then
corrected by the sound: a word never begins or ends inside a pause, and no word is much longer or shorter
than its letters allow. Without a recognizer the words share the time between the pauses by their lengths.
`benchmarks/word_times.py` measures the errors.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from llasa_cli.text.spoken_words import SpokenGroup, WordTime, match_words, written_words
from llasa_cli.text.width import spoken_length

if TYPE_CHECKING:
    import numpy as np

    from llasa_cli.asr import Recognizer

_FRAME_S = 0.005
_SILENT_SHARE = 0.03
"""A frame is silent below this share of the loudness of loud frames (-30 dB)."""
_SHORTEST_PAUSE_S = 0.1
"""A shorter silence may be the closure of a consonant."""
_REACH_S = 0.4
"""The largest distance of a pause from the boundary between two words that is moved into it."""
_BOUNDARY_SIGMA_S = 0.1
"""The spread of an aligned boundary around the true one."""
_DURATION_SIGMA, _DURATION_SIGMA_S = 0.3, 0.03
"""The spread of a word's duration around the one that its length suggests: a share of it, and seconds."""

Span = tuple[float, float]


class WordTimer:
    """Finds the times of words.

    Args:
        recognizer: Aligns text to sound; None if there is none.
        language: The language of the text, such as "en"; None if it is not known.
    """

    def __init__(self, recognizer: Recognizer | None, language: str | None = None) -> None:
        self._recognizer, self._language = recognizer, language

    def times(
        self, sentences: Sequence[str], text: str, samples: np.ndarray, sampling_rate: int
    ) -> tuple[WordTime, ...]:
        """The words of the sentences with their times.

        Args:
            sentences: The written sentences.
            text: The same sentences in the form that the model was given, where numbers may be words.
            samples: float32 [n], mono: the speech of the text.

        Returns:
            All words of `written_words` of each sentence, in order. Times are seconds from the first sample, do not overlap, and
            do not decrease. `estimated` marks those of a take that could not be aligned.
        """
        words = [word for sentence in sentences for word in written_words(sentence)]
        groups = match_words(words, text) or ([SpokenGroup(len(words), text)] if words else [])
        if not groups:
            return ()
        duration_s = len(samples) / sampling_rate
        pauses = find_pauses(samples, sampling_rate)
        spoken = [group.spoken for group in groups]
        aligned = None
        if self._recognizer is not None:
            aligned = self._recognizer.align(samples, sampling_rate, spoken, self._language)
        spans = smooth(move_to_pauses(aligned, pauses, duration_s), spoken) if aligned is not None else None
        if spans is None:
            spans = move_to_pauses(share_time(spoken, pauses, duration_s), pauses, duration_s)
        times: list[WordTime] = []
        for group, span in zip(groups, spans, strict=True):
            own = words[len(times) : len(times) + group.count]
            times += [
                WordTime(word, *part, aligned is None) for word, part in zip(own, _divide(own, span), strict=True)
            ]
        return tuple(times)


def find_pauses(samples: np.ndarray, sampling_rate: int) -> list[Span]:
    """The silences of a take in seconds: those at its ends, however short, and pauses inside it."""
    import numpy as np

    step = max(1, round(sampling_rate * _FRAME_S))
    frames = samples[: len(samples) // step * step].reshape(-1, step)
    if not len(frames):
        return []
    power = np.convolve(np.square(frames, dtype=np.float64).mean(axis=1), np.ones(3) / 3, "same")
    silent = power <= _SILENT_SHARE**2 * np.percentile(power, 95)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], silent, [False]]).astype(np.int8)))
    seconds = step / sampling_rate
    return [
        (int(begin) * seconds, len(samples) / sampling_rate if end == len(frames) else int(end) * seconds)
        for begin, end in edges.reshape(-1, 2)
        if begin == 0 or end == len(frames) or (end - begin) * seconds >= _SHORTEST_PAUSE_S
    ]


def _voiced(pauses: Sequence[Span], duration_s: float) -> Span:
    """The time between the silences at both ends."""
    begin = pauses[0][1] if pauses and pauses[0][0] == 0 else 0.0
    end = pauses[-1][0] if pauses and pauses[-1][1] >= duration_s else duration_s
    return (begin, end) if begin < end else (0.0, duration_s)


def move_to_pauses(spans: Sequence[Span], pauses: Sequence[Span], duration_s: float) -> list[Span]:
    """Let the first word begin and the last one end with the sound, and move the boundary nearest to each pause into it."""
    first, last = _voiced(pauses, duration_s)
    begins = [min(max(begin, first), last) for begin, _ in spans]
    ends = [min(max(end, first), last) for _, end in spans]
    begins[0], ends[-1] = first, last
    for begin, end in pauses:
        if begin <= first or end >= last or len(spans) == 1:
            continue
        middles = [(ends[at - 1] + begins[at]) / 2 for at in range(1, len(spans))]
        distances = [max(begin - middle, middle - end, 0.0) for middle in middles]
        nearest = min(range(len(distances)), key=distances.__getitem__)
        if distances[nearest] <= _REACH_S:
            ends[nearest], begins[nearest + 1] = begin, end
    # A boundary that was moved over its neighbor takes it along.
    for at in range(1, len(spans)):
        begins[at] = max(begins[at], begins[at - 1])
    for at in range(len(spans) - 1):
        ends[at] = max(begins[at], min(ends[at], begins[at + 1]))
    ends[-1] = max(ends[-1], begins[-1])
    return list(zip(begins, ends, strict=True))


def smooth(spans: Sequence[Span], words: Sequence[str]) -> list[Span]:
    """Balance aligned boundaries against the durations that the lengths of the words suggest.

    Between two pauses the boundaries are the solution of a least-squares problem: each is near its aligned place, and each
    word near its share of the time. Boundaries at a pause stay in their places.
    """
    found: list[Span] = []
    while len(found) < len(spans):
        begin = end = len(found)
        while end + 1 < len(spans) and spans[end + 1][0] - spans[end][1] < _FRAME_S:
            end += 1
        found += _smooth_phrase(spans[begin : end + 1], words[begin : end + 1])
    return found


def _smooth_phrase(spans: Sequence[Span], words: Sequence[str]) -> list[Span]:
    import numpy as np

    count, first, last = len(spans), spans[0][0], spans[-1][1]
    if count == 1 or last <= first:
        return list(spans)
    lengths = np.array([1.0 + spoken_length(word) for word in words])
    durations = lengths / lengths.sum() * (last - first)
    weights = 1 / (_DURATION_SIGMA * durations + _DURATION_SIGMA_S)
    # Rows: one for each inner boundary, then one for each word; columns: the boundaries.
    rows = np.zeros((2 * count - 1, count + 1))
    wanted = np.empty(2 * count - 1)
    for at in range(1, count):
        rows[at - 1, at] = 1 / _BOUNDARY_SIGMA_S
        wanted[at - 1] = spans[at][0] / _BOUNDARY_SIGMA_S
    for at in range(count):
        rows[count - 1 + at, at : at + 2] = -weights[at], weights[at]
        wanted[count - 1 + at] = durations[at] * weights[at]
    wanted -= rows[:, 0] * first + rows[:, -1] * last
    inner = np.linalg.lstsq(rows[:, 1:-1], wanted, rcond=None)[0]
    edges = np.maximum.accumulate(np.clip([first, *inner, last], first, last))
    return [(float(edges[at]), float(edges[at + 1])) for at in range(count)]


def share_time(words: Sequence[str], pauses: Sequence[Span], duration_s: float) -> list[Span]:
    """Estimate the spans of words by sharing the time of the speech, without its pauses, by their lengths."""
    first, last = _voiced(pauses, duration_s)
    inner = [(begin, end) for begin, end in pauses if begin > first and end < last]
    lengths = [1.0 + spoken_length(word) for word in words]
    spoken_s = last - first - sum(end - begin for begin, end in inner)
    edges, so_far = [first], 0.0
    for length in lengths:
        so_far += length
        at = first + spoken_s * so_far / sum(lengths)
        for begin, end in inner:
            at += end - begin if at > begin else 0.0
        edges.append(min(at, last))
    return list(pairwise(edges))


def _divide(words: Sequence[str], span: Span) -> list[Span]:
    """Share a span among written words that are spoken as one."""
    lengths = [1.0 + spoken_length(word) for word in words]
    edges = [span[0] + (span[1] - span[0]) * sum(lengths[:at]) / sum(lengths) for at in range(len(words))] + [span[1]]
    return list(pairwise(edges))
