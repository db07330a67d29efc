"""Measure what `--best-of N` gains and costs: word errors by a recognizer that did not choose, and time.

    python benchmarks/best_of.py --chooser WHISPER_FOLDER --judge pocketsphinx [--sentences 30] [--most 8]
    python benchmarks/best_of.py [--sentences 3]                 times only, with all cores

Every sentence of recipes/heart/held_out.txt that is used gets `--most` takes, decoded and heard by both recognizers once. The choice among the
first N takes is then made by `synthesis.candidates`, as the command makes it. The table gives the word error rate by each
recognizer when the other one chose, with a bootstrap interval of 95 % over sentences, and the choice by likelihood alone. Times are those
of the whole command but for loading, with the choice by likelihood: medians over sentences of the ratio to a single take, in CPU seconds
and in wall time, each the best of `--rounds` in which one take and `--most` take turns.
"""

from __future__ import annotations

import argparse
import json
import math
import re
import statistics
import time
from pathlib import Path

import numpy as np

from llasa_cli.asr import load_recognizer
from llasa_cli.device import limit_threads
from llasa_cli.settings import SpeechOptions
from llasa_cli.synthesis.candidates import Candidates
from llasa_cli.synthesis.synthesizer import SynthesisSession, Synthesizer
from llasa_cli.synthesis.text_to_speech import StreamSettings
from llasa_cli.synthesis.verifiers import LikelihoodVerifier, Score, Take, Verifier
from llasa_cli.text.chunker import TextChunk
from llasa_cli.text.word_check import error_rate, units_of

HELD_OUT = Path(__file__).parents[1] / "recipes" / "heart" / "held_out.txt"


class Known:
    """A word verifier that has heard the takes before; `numbers` maps the samples of a take to its number."""

    name = "words"

    def __init__(self, heard: list[str], numbers: dict[bytes, int]) -> None:
        self._heard, self._numbers = heard, numbers

    def score(self, take: Take) -> Score:
        return Score(max(0.0, 1 - error_rate(take.text, self._heard[self._numbers[take.samples.tobytes()]])))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chooser", help="a recognizer, as for --asr; without one only times are measured")
    parser.add_argument("--judge", help="another recognizer")
    parser.add_argument("--rounds", type=int, default=3, help="of which the best time counts")
    parser.add_argument("--sentences", type=int, default=30)
    parser.add_argument("--most", type=int, default=8, help="takes of each sentence")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    parser.add_argument("--picture", type=Path, help="draw the curve of the word error rates as SVG")
    options = parser.parse_args()
    lines = [line.strip() for line in HELD_OUT.read_text(encoding="utf-8").splitlines() if line.strip()]
    lines = lines[:: max(1, len(lines) // options.sentences)][: options.sentences]
    speech = Synthesizer.load()
    limit_threads(speech.model)
    names = tuple(name for name in (options.chooser, options.judge) if name)
    speech.codec.wait()
    recognizers = [load_recognizer(name, "cpu") for name in names]
    counts = [n for n in (1, 2, 4, 8, 16) if n <= options.most]
    errors: dict[str, dict[int, list[tuple[float, int]]]] = {}
    ratios: dict[str, list[float]] = {"cpu": [], "wall": [], "codes": []}
    for number, line in enumerate(lines):
        text = speech.chunks(line)[0]
        rounds = [[cost(speech, text, 1000 * number, n) for n in (1, options.most)] for _ in range(options.rounds)]
        for index, kind in enumerate(("cpu", "wall")):
            one, most = (min(both[which][index] for both in rounds) for which in (0, 1))
            ratios[kind].append(most / one)
            print(f"{kind}: {one:.3f} s, {most:.3f} s")
        if len(names) < 2:
            continue
        takes = generate(speech, text, 1000 * number, options.most)
        ratios["codes"].append(sum(len(codes) for codes, *_ in takes) / len(takes[0][0]))
        heard = [
            [one.transcribe(samples, speech.sampling_rate, "en") for _, samples, *_ in takes] for one in recognizers
        ]
        numbers = {samples.tobytes(): index for index, (_, samples, *_) in enumerate(takes)}
        words = len(units_of(text))
        for chosen_by, judges in ((0, (1,)), (1, (0,)), (None, (0, 1))):
            verifier: Verifier = LikelihoodVerifier() if chosen_by is None else Known(heard[chosen_by], numbers)
            for n in counts:
                best = choose(speech, text, 1000 * number, takes[:n], verifier)
                for judge in judges:
                    label = f"{'likelihood' if chosen_by is None else short(names[chosen_by])} -> {short(names[judge])}"
                    rate = error_rate(text, heard[judge][best])
                    errors.setdefault(label, {}).setdefault(n, []).append((rate * words, words))
        print(f"{number + 1}/{len(lines)}", flush=True)
    figures = {label: {n: interval(pairs) for n, pairs in by_count.items()} for label, by_count in errors.items()}
    for label, row in figures.items():
        print(
            label,
            " ".join(
                f"N={n}: {100 * mean:.1f} % ({100 * low:.1f} to {100 * high:.1f})"
                for n, (mean, low, high) in row.items()
            ),
        )
    costs = {kind: statistics.median(found) for kind, found in ratios.items() if found}
    print(
        f"N={options.most} against N=1, without recognizers:",
        ", ".join(f"{kind} x{value:.2f}" for kind, value in costs.items()),
    )
    if options.picture is not None:
        options.picture.write_text(
            draw({label.replace("->", "chooses,") + " judges": row for label, row in figures.items()})
        )
    if options.out is not None:
        options.out.write_text(json.dumps({"sentences": len(lines), "errors": figures, "costs": costs}, indent=1))


def draw(figures: dict[str, dict[int, tuple[float, float, float]]]) -> str:
    """The word error rates over N with their intervals, as SVG.

    Args:
        figures: Label -> N -> mean, low end and high end, as shares.
    """
    colors = ("#1f77b4", "#d9820f", "#7a7a7a", "#9467bd")
    counts = sorted({n for row in figures.values() for n in row})
    top = math.ceil(20 * max(high for row in figures.values() for _, _, high in row.values())) / 20

    def place(n: int, rate: float) -> str:
        return f"{70 + 480 * counts.index(n) / max(len(counts) - 1, 1):.1f},{300 - 260 * rate / top:.1f}"

    parts = [
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 600 440" font-family="sans-serif" font-size="13">',
        '<rect width="600" height="440" fill="white"/>',
    ]
    for percent in range(0, round(100 * top) + 1, 5):
        x, y = place(counts[0], percent / 100).split(",")
        parts.append(f'<path d="M{x} {y}H550" stroke="#ddd"/>')
        parts.append(f'<text x="60" y="{float(y) + 4:.1f}" text-anchor="end">{percent} %</text>')
    for n in counts:
        parts.append(f'<text x="{place(n, 0).split(",")[0]}" y="320" text-anchor="middle">{n}</text>')
    parts.append('<text x="310" y="340" text-anchor="middle">takes of each sentence; bands: 95 % intervals</text>')
    for number, (label, row) in enumerate(figures.items()):
        color = colors[number % len(colors)]
        band = [place(n, row[n][2]) for n in counts] + [place(n, row[n][1]) for n in reversed(counts)]
        parts.append(f'<polygon points="{" ".join(band)}" fill="{color}" opacity="0.1"/>')
        line = " ".join(place(n, row[n][0]) for n in counts)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{color}" stroke-width="2"/>')
        x, y = 70, 364 + 20 * number
        parts.append(
            f'<path d="M{x} {y - 4}h20" stroke="{color}" stroke-width="2"/><text x="{x + 26}" y="{y}">{label}</text>'
        )
    return "\n".join([*parts, "</svg>", ""])


TakeRow = tuple[tuple[int, ...], np.ndarray, bool, float | None]


def session_of(speech: Synthesizer, seed: int, count: int, verifiers: tuple[Verifier, ...] = ()) -> SynthesisSession:
    return SynthesisSession(
        speech, SpeechOptions(seed=seed, best_of=count, retries=0), None, StreamSettings(verifiers=verifiers)
    )


def cost(speech: Synthesizer, text: str, seed: int, count: int) -> tuple[float, float]:
    """CPU seconds and wall seconds of the best of `count` takes."""
    verifiers = (LikelihoodVerifier(),) if count > 1 else ()
    session = session_of(speech, seed, count, verifiers)
    cpu, wall = time.process_time(), time.perf_counter()
    list(session.synthesize(TextChunk(text, (text,), 0.0), lambda utterance: None))
    return time.process_time() - cpu, time.perf_counter() - wall


def generate(speech: Synthesizer, text: str, seed: int, count: int) -> list[TakeRow]:
    """-> takes in the order of their seeds, decoded."""
    from llasa_cli.lm.request import GenerationRequest

    session = session_of(speech, seed, count)
    candidates = session.candidates(TextChunk(text, (text,), 0.0))
    engine = speech.model.batch(count)
    for one in candidates.start():
        engine.add(GenerationRequest(candidates.prompt, session.sampling, one.seed, one.number))
    takes: dict[int, TakeRow] = {}
    while engine.free < engine.slots:
        for made in engine.step():
            samples = speech.codec.decode(list(made.codes))
            takes[made.request.tag] = made.codes, samples, made.ended, made.log_probability
    return [takes[number] for number in range(count)]


def choose(speech: Synthesizer, text: str, seed: int, takes: list[TakeRow], verifier: Verifier) -> int:
    """The number of the take that the command would choose."""
    candidates: Candidates = session_of(speech, seed, len(takes), (verifier,)).candidates(TextChunk(text, (text,), 0.0))
    for one, (codes, samples, ended, log_probability) in zip(candidates.start(), takes, strict=True):
        candidates.judge(one, codes, samples, ended, log_probability)
    return candidates.best()[0].seed - seed


def interval(pairs: list[tuple[float, int]]) -> tuple[float, float, float]:
    """The word error rate of all sentences, and its bootstrap interval of 95 %."""
    array = np.array(pairs)
    chosen = np.random.default_rng(0).integers(0, len(array), (2000, len(array)))
    rates = array[chosen, 0].sum(1) / array[chosen, 1].sum(1)
    return float(array[:, 0].sum() / array[:, 1].sum()), *map(float, np.quantile(rates, [0.025, 0.975]))  # type: ignore[return-value]


_UNTELLING = re.compile(r"models?|snapshots|[0-9a-f]{40}|[./]")
"""Names of folders that say nothing of the model inside."""


def short(name: str) -> str:
    """The label of a recognizer: `whisper-tiny.en` for `org/whisper-tiny.en` and for any folder of it."""
    telling = [part for part in Path(name).parts if not _UNTELLING.fullmatch(part)]
    return telling[-1].rpartition("--")[2] if telling else name


if __name__ == "__main__":
    main()
