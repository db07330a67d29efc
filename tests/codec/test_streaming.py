"""Decoding while the codes arrive: close to the sound of the whole decode, without audible cuts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np
import pytest

from llasa_cli.checkpoint.resolve import BUILT_IN_FOLDER
from llasa_cli.codec.codec import Codec, load_codec
from llasa_cli.codec.streaming import FAST_WINDOWS, StreamingWindows, crossfade, decode_stream, quietest_cut

HOP = 320
SMALL = StreamingWindows(first=4, growth=2.0, longest=12, left=8, ahead=4, fade=1, search=2)


class Plain:
    """A codec without context: every code gives its own 320 samples, whatever its neighbors are.

    Where a stream of it is not exactly the whole, samples were lost, doubled or misplaced.
    """

    samples_per_code = HOP

    def __init__(self) -> None:
        self.history: list[list[int]] = []

    def decode(self, codes: Sequence[int]) -> np.ndarray:
        self.history.append(list(codes))
        ramp = np.linspace(0, 0.9, HOP, dtype=np.float32)
        return (np.asarray(codes, np.float32)[:, None] + ramp).ravel()


class Pulled(Iterator[int]):
    """Codes that count how many of them were pulled."""

    def __init__(self, codes: Sequence[int]) -> None:
        self._codes, self.count = iter(codes), 0

    def __next__(self) -> int:
        code = next(self._codes)
        self.count += 1
        return code


@pytest.fixture(scope="module")
def codec() -> Codec:
    return load_codec(BUILT_IN_FOLDER / "codec", "cpu")


@pytest.fixture(scope="module")
def spoken(codec: Codec) -> list[list[int]]:
    """Codes of three sentences by the built-in voice: 2 to 3 s each."""
    from llasa_cli.lm.loader import load_language_model
    from llasa_cli.prompt import PromptFormat
    from llasa_cli.settings import SamplingOptions

    prompt_format = PromptFormat.load(BUILT_IN_FOLDER)
    model = load_language_model(BUILT_IN_FOLDER, prompt_format, "cpu", "auto")
    texts = ("we should leave before the rain starts again.", "the shop sells bread.", "she put flowers on the table.")
    sampling = SamplingOptions(temperature=0.4, top_p=0.9)
    return [list(model.generate(prompt_format.prompt(text), sampling, 0)) for text in texts]


# --- the bookkeeping ---


@pytest.mark.parametrize(
    "windows",
    [SMALL, StreamingWindows(), FAST_WINDOWS, StreamingWindows(first=1, longest=1, left=0, ahead=0, fade=0, search=0)],
)
@pytest.mark.parametrize("count", [0, 1, 2, 7, 8, 9, 20, 47, 48, 49, 400, 999])
def test_the_pieces_join_to_exactly_the_whole(windows: StreamingWindows, count: int) -> None:
    codes = np.random.default_rng(count).integers(1, 99, count).tolist()
    pieces = list(decode_stream(Plain(), codes, windows=windows))
    assert all(len(piece) for piece in pieces)
    sound = np.concatenate([np.zeros(0, np.float32), *pieces])
    assert sound.dtype == np.float32
    assert np.array_equal(sound, Plain().decode(codes))


@pytest.mark.parametrize("before", [[], [5], list(range(40)), list(range(1000))])
def test_codes_before_the_stream_are_context_without_sound(before: list[int]) -> None:
    codes = list(range(1000, 1100))
    plain = Plain()
    pieces = list(decode_stream(plain, codes, before, SMALL))
    assert np.array_equal(np.concatenate(pieces), Plain().decode(codes))
    assert plain.history[0] == [*before[-SMALL.left :], *codes[: SMALL.first + SMALL.ahead]]


def test_each_piece_is_yielded_as_soon_as_its_codes_are_available() -> None:
    codes = Pulled(range(200))
    stream = decode_stream(Plain(), codes, windows=SMALL)
    assert codes.count == 0
    asked = [codes.count for _ in islice(stream, 4)]
    assert asked == [4 + 4, 12 + 4, 24 + 4, 36 + 4]
    stream.close()  # type: ignore[attr-defined]
    assert codes.count == 40


@pytest.mark.parametrize("windows", [SMALL, StreamingWindows(), FAST_WINDOWS])
def test_a_piece_needs_the_codes_that_are_told(windows: StreamingWindows) -> None:
    codes = Pulled(range(1000))
    stream = decode_stream(Plain(), codes, windows=windows)
    assert [codes.count for _ in islice(stream, 4)] == list(islice(windows.needed(), 4))


def test_large_pieces_decode_few_codes_twice() -> None:
    plain, lengths = Plain(), (80, 120, 160, 200)
    for length in lengths:
        list(decode_stream(plain, range(length), windows=FAST_WINDOWS))
    assert sum(map(len, plain.history)) <= 1.4 * sum(lengths)


def test_a_long_stream_is_decoded_in_windows_of_bounded_length() -> None:
    plain, windows = Plain(), StreamingWindows()
    count = sum(len(piece) for piece in decode_stream(plain, iter(range(20_000)), windows=windows))
    assert count == 20_000 * HOP
    assert max(map(len, plain.history)) == windows.max_decoded == 324
    assert set(map(len, plain.history[8:-1])) == {324}, "each length costs oneDNN time and memory anew"
    assert sum(map(len, plain.history)) <= 3.3 * 20_000


def test_each_code_is_decoded_with_context_on_both_sides() -> None:
    plain, windows = Plain(), StreamingWindows()
    given = 0
    stream = decode_stream(plain, range(2000), windows=windows)
    for piece in islice(stream, 10):
        first, last = given // HOP, (given + len(piece)) / HOP
        assert plain.history[-1][0] <= max(0, first - windows.left)
        assert plain.history[-1][-1] + 1 - last >= windows.ahead
        given += len(piece)


def test_the_cut_is_made_where_it_is_quiet() -> None:
    sound = np.ones(4000, np.float32)
    sound[1500:1700] = 0
    assert 1490 <= quietest_cut(sound, 2000, 100, 800) <= 1600
    assert quietest_cut(sound, 2000, 100, 0) == 2000
    assert 0 <= quietest_cut(sound, 50, 100, 800) <= 50
    assert quietest_cut(np.ones(4000, np.float32), 2000, 100, 800) == 2000  # nothing to choose: the longest piece


def test_a_crossfade_begins_with_the_old_and_ends_with_the_new() -> None:
    new = np.ones(100, np.float32)
    crossfade(np.zeros(10, np.float32), new)
    assert np.all(np.diff(new[:11]) > 0)
    assert (new[0] < 0.1, new[9] > 0.9, new[10:].tolist()) == (True, True, [1.0] * 90)


# --- the sound of the built-in voice ---


def si_sdr(found: np.ndarray, wanted: np.ndarray) -> float:
    """dB."""
    part = float(found @ wanted) / float(wanted @ wanted) * wanted
    return float(10 * np.log10((part @ part) / max(float((found - part) @ (found - part)), 1e-12)))


def spectra_apart(found: np.ndarray, wanted: np.ndarray) -> float:
    """Mean distance of log spectra, in dB. Unlike SI-SDR it does not depend on the phase, which is not audible."""
    frames = (
        np.lib.stride_tricks.sliding_window_view(sound, 512)[::256] * np.hanning(512) for sound in (found, wanted)
    )
    first, second = (10 * np.log10(np.abs(np.fft.rfft(frame)) ** 2 + 1e-3) for frame in frames)
    return float(np.abs(first - second).mean())


def test_a_sentence_shorter_than_the_first_window_is_decoded_whole(codec: Codec, spoken: list[list[int]]) -> None:
    codes = spoken[0][: StreamingWindows().first + StreamingWindows().ahead - 1]
    (piece,) = decode_stream(codec, codes)
    assert np.array_equal(piece, codec.decode(codes))


def test_the_same_codes_give_the_same_pieces_at_any_speed(codec: Codec, spoken: list[list[int]]) -> None:
    first, second = (list(decode_stream(codec, codes)) for codes in (spoken[0], iter(spoken[0])))
    assert len(first) > 2
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_stream_is_close_to_the_whole_and_has_no_clicks(codec: Codec, spoken: list[list[int]]) -> None:
    """Over 12 other sentences the median of SI-SDR is 13.5 dB and the worst 10.9; log spectra are .27 dB apart, at most .34."""
    for codes in (*spoken, spoken[0] + spoken[1] + spoken[2]):
        whole = codec.decode(codes)
        pieces = list(decode_stream(codec, codes))
        stream = np.concatenate(pieces)
        assert len(stream) == len(whole) == HOP * len(codes)
        assert spectra_apart(stream, whole) < 0.5  # one code later it is 3.2
        assert si_sdr(stream, whole) > 9
        steps = np.abs(np.diff(stream))
        for joint in np.cumsum([len(piece) for piece in pieces])[:-1]:
            assert steps[joint - 2 : joint + StreamingWindows().fade * HOP + 1].max() < np.abs(np.diff(whole)).max()


def test_left_context_brings_the_stream_closer_to_the_whole(codec: Codec, spoken: list[list[int]]) -> None:
    codes = spoken[0] + spoken[1] + spoken[2]
    whole = codec.decode(codes)
    begin = 2 * 16_000  # the first pieces have next to nothing on their left
    near, far = (
        si_sdr(
            np.concatenate(list(decode_stream(codec, codes, windows=StreamingWindows(left=left))))[begin:],
            whole[begin:],
        )
        for left in (200, 0)
    )
    assert near > far + 3


def test_a_reference_improves_the_first_piece(codec: Codec, spoken: list[list[int]]) -> None:
    before, codes = spoken[0], spoken[1]
    whole = codec.decode([*before, *codes])[len(before) * HOP :]
    with_it, without = (next(iter(decode_stream(codec, codes, context))) for context in (before, ()))
    assert si_sdr(with_it, whole[: len(with_it)]) > si_sdr(without, whole[: len(without)]) + 3
