"""Measure what `--best-of N` gains and costs: word errors by a recognizer that did not choose, and time.

    python benchmarks/best_of.py --chooser WHISPER_FOLDER --judge pocketsphinx [--sentences 30] [--most 8]

Every sentence of recipes/tiny/held_out.txt that is used gets `--most` takes, decoded and heard by both recognizers once. The choice among the
first N takes is then made by `synthesis.candidates`, as the command makes it. The table gives the word error rate by each
recognizer when the other one chose, with a bootstrap interval of 95 % over sentences, and the choice by likelihood alone. Times are
medians of the ratio to a single take of the same sentence, in CPU seconds and in wall time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np

from llasa_cli.asr import load_recognizer
from llasa_cli.settings import SpeechOptions
from llasa_cli.synthesis.candidates import Candidates
from llasa_cli.synthesis.synthesizer import SynthesisSession, Synthesizer
from llasa_cli.synthesis.verifiers import LikelihoodVerifier, Score, Take, Verifier
from llasa_cli.text.chunker import TextChunk
from llasa_cli.text.word_check import error_rate, units_of

HELD_OUT = Path(__file__).parents[1] / "recipes" / "tiny" / "held_out.txt"


class Known:
    """A word verifier that has heard the takes before; `numbers` maps the samples of a take to its number."""

    name = "words"

    def __init__(self, heard: list[str], numbers: dict[bytes, int]) -> None:
        self._heard, self._numbers = heard, numbers

    def score(self, take: Take) -> Score:
        return Score(max(0.0, 1 - error_rate(take.text, self._heard[self._numbers[take.samples.tobytes()]])))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chooser", required=True, help="a recognizer, as for --asr")
    parser.add_argument("--judge", required=True, help="another recognizer")
    parser.add_argument("--sentences", type=int, default=30)
    parser.add_argument("--most", type=int, default=8, help="takes of each sentence")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    options = parser.parse_args()
    lines = [line.strip() for line in HELD_OUT.read_text(encoding="utf-8").splitlines() if line.strip()]
    lines = lines[:: max(1, len(lines) // options.sentences)][: options.sentences]
    speech = Synthesizer.load()
    names = (options.chooser, options.judge)
    recognizers = [load_recognizer(name, "cpu") for name in names]
    counts = [n for n in (1, 2, 4, 8, 16) if n <= options.most]
    errors: dict[str, dict[int, list[tuple[float, int]]]] = {}
    ratios: dict[str, list[float]] = {"cpu": [], "wall": [], "codes": []}
    for number, line in enumerate(lines):
        text = speech.chunks(line)[0]
        times = {n: generate(speech, text, 1000 * number, n) for n in (1, options.most)}
        takes = times[options.most][2]
        for index, kind in enumerate(("cpu", "wall")):
            ratios[kind].append(times[options.most][index] / times[1][index])
        ratios["codes"].append(sum(len(codes) for codes, *_ in takes) / len(times[1][2][0][0]))
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
    costs = {kind: statistics.median(found) for kind, found in ratios.items()}
    print(
        f"N={options.most} against N=1, without recognizers:",
        ", ".join(f"{kind} x{value:.2f}" for kind, value in costs.items()),
    )
    if options.out is not None:
        options.out.write_text(json.dumps({"sentences": len(lines), "errors": figures, "costs": costs}, indent=1))


TakeRow = tuple[tuple[int, ...], np.ndarray, bool, float | None]


def session_of(speech: Synthesizer, seed: int, count: int, verifiers: tuple[Verifier, ...] = ()) -> SynthesisSession:
    return SynthesisSession(speech, SpeechOptions(seed=seed, best_of=count, retries=0), None, verifiers, None)


def generate(speech: Synthesizer, text: str, seed: int, count: int) -> tuple[float, float, list[TakeRow]]:
    """-> CPU seconds, wall seconds, and takes in the order of their seeds, decoded."""
    from llasa_cli.lm.engine import GenerationRequest

    session = session_of(speech, seed, count)
    candidates = session.candidates(TextChunk(text, (text,), 0.0))
    cpu, wall = time.process_time(), time.perf_counter()
    engine = speech.model.batch(count)
    for one in candidates.start():
        engine.add(GenerationRequest(candidates.prompt, session.sampling, one.seed, one.number))
    takes: dict[int, TakeRow] = {}
    while engine.free < engine.slots:
        for made in engine.step():
            samples = speech.codec.decode(list(made.codes))
            takes[made.request.tag] = made.codes, samples, made.ended, made.log_probability
    return time.process_time() - cpu, time.perf_counter() - wall, [takes[number] for number in range(count)]


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


def short(name: str) -> str:
    return Path(name).name


if __name__ == "__main__":
    main()
