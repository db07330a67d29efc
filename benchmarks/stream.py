"""The cost of decoding in windows; the defaults in `llasa_cli/codec/streaming.py` were chosen from this table.

    OMP_NUM_THREADS=1 python benchmarks/stream.py --codes codes.json [--listen] [--joined 10] [--first 40] [ROW ...]

The built-in voice speaks the 120 sentences in `recipes/heart/held_out.txt` with two seeds. Their codes are decoded whole and in
windows; they are generated once and stored in `--codes`. Each ROW is a row of the table with changes to the default windows,
such as `first=16,ahead=8`; without a ROW the defaults are measured.

    SI-SDR     of the streamed decode to the whole one, in dB: the median and the worst tenth
    STFT       mean absolute difference of log magnitudes in dB, over transforms of 256, 512 and 1,024 samples
    mel        the same in 80 mel bands, in dB
    joint      the largest step between samples at a cut and in the crossfade after it, over the largest step in the whole
               decode of that sentence; the worst sentence. A click would be above 1.
    bend       the same for second differences, in which clicks stand out more; in parentheses, that of the whole decode at
               the same places
    WER        word error rate by pocketsphinx (`--listen`), and its difference from that of the whole decode
    cost       codes decoded per code of a long stream

`--joined 10` makes streams of ten sentences (half a minute). `--first 40` measures, for 40 sentences and a loaded model, the
time from the prompt to the first piece: prefill, generation and decoding.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from llasa_cli.codec.codec import Codec, load_codec
from llasa_cli.codec.streaming import StreamingWindows, decode_stream

ROOT = Path(__file__).resolve().parents[1]
HELD_OUT = ROOT / "recipes" / "heart" / "held_out.txt"
BUILT_IN = ROOT / "llasa_cli" / "voices_data" / "tiny"
RATE = 16_000
QUIET_DB = -70.0


def make_codes(path: Path, seeds: int = 2) -> None:
    """Write [{text, codes}] of every held-out sentence, spoken by the built-in voice with its defaults."""
    from llasa_cli.settings import SpeechOptions
    from llasa_cli.synthesis.synthesizer import Synthesizer, Utterance

    speech = Synthesizer.load()
    lines = HELD_OUT.read_text(encoding="utf-8").splitlines()
    rows = []
    for seed in range(seeds):
        for number, line in enumerate(line for line in lines if line.strip()):
            takes: list[Utterance] = []
            speech.synthesize(line, SpeechOptions(seed=number * 1000 + 500 * seed), on_utterance=takes.append)
            rows.append({"text": line, "codes": [code for take in takes for code in take.codes]})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(rows), encoding="utf-8")


def si_sdr(found: np.ndarray, wanted: np.ndarray) -> float:
    """Scale-invariant signal-to-distortion ratio, in dB."""
    part = float(found @ wanted) / float(wanted @ wanted) * wanted
    return float(10 * np.log10((part @ part) / max(float((found - part) @ (found - part)), 1e-12)))


def magnitudes(samples: np.ndarray, size: int) -> np.ndarray:
    spectrum = torch.stft(
        torch.from_numpy(samples), size, size // 4, window=torch.hann_window(size), return_complex=True
    )
    return (spectrum.abs() / size).numpy().T


def decibels(magnitude: np.ndarray) -> np.ndarray:
    found: np.ndarray = np.maximum(20 * np.log10(np.maximum(magnitude, 1e-9)), QUIET_DB - 20)
    return found


def mel_bands(size: int = 1024, bands: int = 80) -> np.ndarray:
    """(bins, bands): triangular filters on HTK's mel scale."""
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + RATE / 2 / 700), bands + 2) / 2595) - 1)
    bins = np.linspace(0, RATE / 2, size // 2 + 1)[:, None]
    rise, fall = (bins - edges[:-2]) / np.diff(edges)[:-1], (edges[2:] - bins) / np.diff(edges)[1:]
    triangles: np.ndarray = np.maximum(0, np.minimum(rise, fall))
    return triangles


MEL = mel_bands()


def stft_distance(found: np.ndarray, wanted: np.ndarray) -> float:
    sizes = (256, 512, 1024)
    return float(
        np.mean([np.abs(decibels(magnitudes(found, n)) - decibels(magnitudes(wanted, n))).mean() for n in sizes])
    )


def mel_distance(found: np.ndarray, wanted: np.ndarray) -> float:
    a, b = (np.sqrt(np.square(magnitudes(samples, 1024)) @ MEL) for samples in (found, wanted))
    return float(np.abs(decibels(a) - decibels(b)).mean())


def joints(lengths: list[int], fade: int) -> np.ndarray:
    """Indices of the steps between samples at every cut and in the crossfade after it."""
    places: list[int] = []
    for end in np.cumsum(lengths)[:-1].tolist():
        places.extend(range(end - 2, end + fade + 1))
    return np.array(places, dtype=int)


@dataclass(frozen=True)
class Row:
    """Codes to decode, and the reference's codes before them."""

    text: str
    codes: list[int]
    before: list[int]

    def whole(self, codec: Codec) -> np.ndarray:
        return codec.decode([*self.before, *self.codes])[len(self.before) * codec.samples_per_code :]

    def streamed(self, codec: Codec, windows: StreamingWindows) -> list[np.ndarray]:
        return list(decode_stream(codec, self.codes, self.before, windows))


def measure(codec: Codec, rows: list[Row], whole: list[np.ndarray], windows: StreamingWindows) -> dict[str, float]:
    """The figures of one row of the table, except the word error rate."""
    sdr, stft, mel, steps, bends, whole_bends = [], [], [], [], [], []
    for row, wanted in zip(rows, whole, strict=True):
        pieces = row.streamed(codec, windows)
        found, lengths = np.concatenate(pieces), [len(piece) for piece in pieces]
        assert len(found) == len(wanted)
        sdr.append(si_sdr(found, wanted))
        stft.append(stft_distance(found, wanted))
        mel.append(mel_distance(found, wanted))
        places = joints(lengths, windows.fade * codec.samples_per_code)
        places = places[places < len(found) - 2]
        if len(places):
            steps.append(np.abs(np.diff(found))[places].max() / np.abs(np.diff(wanted)).max())
            most = np.abs(np.diff(wanted, 2)).max()
            bends.append(np.abs(np.diff(found, 2))[places].max() / most)
            whole_bends.append(np.abs(np.diff(wanted, 2))[places].max() / most)
    return {
        "sdr": float(np.median(sdr)),
        "sdr10": float(np.quantile(sdr, 0.1)),
        "stft": float(np.mean(stft)),
        "mel": float(np.mean(mel)),
        "joint": float(max(steps, default=0)),
        "bend": float(max(bends, default=0)),
        "bend_whole": float(max(whole_bends, default=0)),
    }


def cost(windows: StreamingWindows, count: int = 2000) -> float:
    """Codes decoded per code of a stream of `count`."""
    decoded, given = 0, 0
    for end in windows.ends():
        if end + windows.ahead > count:
            break
        decoded += end + windows.ahead - max(0, given - windows.left)
        given = end
    return (decoded + count - max(0, given - windows.left)) / count


def heard_rate(samples: list[np.ndarray], texts: list[str]) -> float:
    """Word error rate by the recipe's recognizer."""
    sys.path.insert(0, str(ROOT))
    from recipes.heart.judge import Judges, Scores

    judges, scores = Judges(), Scores()
    for text, found in zip(texts, samples, strict=True):
        scores.add("wer", *judges.errors(text, judges.sphinx(found), sphinx=True))
    return float(str(scores.summary()["wer"]))


def first_sound(sentences: int) -> str:
    """The time from the prompt to the first piece, as processor time and as wall time."""
    from llasa_cli.settings import SamplingRequest
    from llasa_cli.synthesis.synthesizer import Synthesizer

    speech = Synthesizer.load()
    lines = [line for line in HELD_OUT.read_text(encoding="utf-8").splitlines() if line.strip()]
    spent: list[tuple[float, float]] = []
    for seed, line in enumerate(lines[: sentences + 1]):
        cpu, wall = time.process_time(), time.perf_counter()
        prompt = speech.prompt_format.prompt(speech.chunks(line)[0])
        with speech.model.generate(prompt, speech.sampling(SamplingRequest()), seed) as generation:
            next(decode_stream(speech.codec, generation))
        spent.append((time.process_time() - cpu, time.perf_counter() - wall))
    once, rest = spent[0], np.array(spent[1:]) * 1000
    (cpu_ms, wall_ms), (cpu_worst, wall_worst) = np.median(rest, axis=0), rest.max(axis=0)
    return (
        f"first piece after {cpu_ms:.0f} ms of processor time (worst {cpu_worst:.0f}; the very first {once[0] * 1000:.0f}), "
        f"{wall_ms:.0f} ms by the clock (worst {wall_worst:.0f}; the very first {once[1] * 1000:.0f})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codec", type=Path, default=BUILT_IN / "codec")
    parser.add_argument("--codes", type=Path, default=Path("codes.json"), help="created if it does not exist")
    parser.add_argument("--sentences", type=int, default=240)
    parser.add_argument("--joined", type=int, default=1, help="sentences per stream")
    parser.add_argument("--reference", action="store_true", help="each stream has the previous one as its reference")
    parser.add_argument("--first", type=int, metavar="SENTENCES", help="measure only the time to the first piece")
    parser.add_argument("--listen", action="store_true", help="measure word error rates too")
    parser.add_argument("rows", nargs="*", default=[""], metavar="name=value,...")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.first:
        print(first_sound(arguments.first))
        return
    if not arguments.codes.is_file():
        make_codes(arguments.codes)
    table = json.loads(arguments.codes.read_text(encoding="utf-8"))[: arguments.sentences]
    groups = [table[place : place + arguments.joined] for place in range(0, len(table), arguments.joined)]
    texts = [" ".join(row["text"] for row in group) for group in groups]
    streams = [[code for row in group for code in row["codes"]] for group in groups]
    references = [[], *streams] if arguments.reference else [[]] * len(streams)
    rows = [Row(*parts) for parts in zip(texts, streams, references, strict=False)]
    codec = load_codec(arguments.codec, "cpu")
    whole = [row.whole(codec) for row in rows]
    floor = heard_rate(whole, texts) if arguments.listen else float("nan")
    print(f"{len(rows)} streams, {sum(map(len, streams)) / 50:.0f} s of sound; whole decode: WER {floor:.3f}")
    print(
        "| first growth longest left ahead fade | SI-SDR (worst 10 %) | STFT | mel | joint | bend (whole) | WER | cost |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for wanted in arguments.rows:
        changes = {name: float(value) for name, value in (part.split("=") for part in wanted.split(",") if part)}
        windows = replace(StreamingWindows(), **{k: v if k == "growth" else int(v) for k, v in changes.items()})  # type: ignore[arg-type]
        found = measure(codec, rows, whole, windows)
        rate = float("nan")
        if arguments.listen:
            rate = heard_rate([np.concatenate(row.streamed(codec, windows)) for row in rows], texts)
        w = windows
        print(
            f"| {w.first} {w.growth:g} {w.longest} {w.left} {w.ahead} {w.fade}"
            f" | {found['sdr']:.1f} ({found['sdr10']:.1f}) | {found['stft']:.2f} | {found['mel']:.2f} | {found['joint']:.2f}"
            f" | {found['bend']:.2f} ({found['bend_whole']:.2f}) | {rate:.3f} ({rate - floor:+.3f}) | {cost(windows):.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
