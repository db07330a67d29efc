"""Measure the errors of word times against a teacher whose phone times are known.

    python benchmarks/word_times.py make DATA                 in an environment with hibari-tts, onnx, onnxruntime and soxr
    python benchmarks/word_times.py measure DATA --asr pocketsphinx [--asr WHISPER_FOLDER] [--first 50] [--count 70]

`make` lets the teacher of `recipes/heart/teachers.py` speak recipes/heart/held_out.txt and writes WAV files and the times of
each word: it begins with its first phone and ends with its last one, or with the blank after it if that is shorter than 0.1 s.
`measure` finds the words with each recognizer, and without one ("estimated"), and prints the absolute errors. Ends before a
pause are counted apart: the teacher's last phone lasts until some 0.3 s after its sound.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
HELD_OUT = ROOT / "recipes" / "heart" / "held_out.txt"
SHORT_BLANK_S = 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("make", "measure"):
        command = commands.add_parser(name)
        command.add_argument("data", type=Path)
        if name == "measure":
            command.add_argument("--asr", action="append", default=[], help="a recognizer; may be repeated")
            command.add_argument("--first", type=int, default=0)
            command.add_argument("--count", type=int, default=50)
    options = parser.parse_args()
    if options.command == "make":
        make(options.data)
    else:
        measure(options.data, options.asr, options.first, options.count)


def make(folder: Path) -> None:
    import soundfile

    sys.path.insert(0, str(ROOT))
    from recipes.heart.teachers import SAMPLES_PER_UNIT, SAMPLING_RATE_HZ, TEACHER_RATE_HZ, Heart, phonemize

    import soxr  # isort: skip
    from hibari import dsp  # isort: skip

    heart = Heart()
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for seed, text in enumerate(HELD_OUT.read_text(encoding="utf-8").split("\n")):
        symbols = "".join(symbol for symbol in phonemize(text) if symbol in heart._model.vocab)
        ids = np.array([[0, *(heart._model.vocab[symbol] for symbol in symbols), 0]], np.int64)
        *spectra, units = heart._session.run(None, {"ids": ids, "speed": np.array([1.0], np.float32)})
        samples = dsp.synth(*(part[0] for part in spectra), np.random.default_rng(seed))
        ends = np.cumsum(np.asarray(units, np.float64).reshape(-1)) * SAMPLES_PER_UNIT / TEACHER_RATE_HZ
        words = word_spans(symbols, ends)
        if not text.strip() or len(words) != len(text.split()):
            continue  # words that the teacher reads together
        low = soxr.resample(samples.astype(np.float32), TEACHER_RATE_HZ, SAMPLING_RATE_HZ)
        soundfile.write(folder / f"{len(rows):03}.wav", low, SAMPLING_RATE_HZ)
        rows.append({"text": text, "words": words})
    (folder / "truth.json").write_text(json.dumps(rows))
    print(f"{len(rows)} sentences")


def word_spans(symbols: str, ends: np.ndarray) -> list[list[float]]:
    """Symbols and the end of each token, the boundary tokens included -> [begin, end] of each word in seconds."""
    words: list[list[float]] = []
    inside = False
    for at, symbol in enumerate(symbols):
        is_blank = symbol in " ,.;:?!—"
        if not is_blank and not inside:
            words.append([float(ends[at]), 0.0])
        if not is_blank or (words and symbol == " " and ends[at + 1] - ends[at] < SHORT_BLANK_S and inside):
            words[-1][1] = float(ends[at + 1])
        inside = not is_blank
    return words


def measure(folder: Path, recognizers: list[str], first: int, count: int) -> None:
    import soundfile

    from llasa_cli.asr import load_recognizer
    from llasa_cli.synthesis.word_times import WordTimer

    rows = list(enumerate(json.loads((folder / "truth.json").read_text())))[first : first + count]
    for name in (*recognizers, None):
        timer = WordTimer(None if name is None else load_recognizer(name, "cpu"), "en")
        errors: dict[str, list[float]] = {"begins": [], "ends": [], "ends before a pause": []}
        began, estimated = time.process_time(), 0
        for number, row in rows:
            samples, rate = soundfile.read(folder / f"{number:03}.wav", dtype="float32")
            times = timer.times((row["text"],), row["text"], samples, rate)
            estimated += sum(word.estimated for word in times)
            for at, (word, (begin, end)) in enumerate(zip(times, row["words"], strict=True)):
                errors["begins"].append(word.begin_s - begin)
                is_inner = at + 1 < len(times) and row["words"][at + 1][0] - end < 0.01
                errors["ends" if is_inner else "ends before a pause"].append(word.end_s - end)
        cpu_s = (time.process_time() - began) / len(rows)
        print(f"{name or 'estimated'}: {len(rows)} sentences, {cpu_s:.3f} CPU s each, {estimated} words estimated")
        for kind, found in (*errors.items(), ("begins and ends", errors["begins"] + errors["ends"])):
            sizes = 1000 * np.abs(found)
            within = 100 * (sizes <= 150).mean()
            print(
                f"  {kind}: n {len(found)}, median {np.median(sizes):.0f} ms, 95 % {np.percentile(sizes, 95):.0f} ms, "
                f"within 150 ms {within:.1f} %, bias {1000 * np.median(found):+.0f} ms"
            )


if __name__ == "__main__":
    main()
