"""Measure how strict the word check of `--verify` should be: the good takes that it refuses and the broken ones it catches.

    python benchmarks/word_check.py [--sentences 120] [--asr pocketsphinx] [--keep heard.json]

Input: held-out sentences. Each is spoken by the built-in voice's teacher (certainly good; `recipes/heart/README.md` has the
packages that it needs) and by the built-in voice (good by the checks that are always on). The takes of the built-in voice are then broken as models break them: a stretch left out, said twice,
taken from another sentence or mumbled (random codes), the end cut off, or another sentence. Output: the share that is
refused, by the longest run of wrong words that is allowed and by the word error rate. With `--keep`, the transcripts are
written to a file as they are made, and read from it by the next run.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "recipes" / "heart")]

from judge import words  # noqa: E402
from llasa_cli.asr import load_recognizer  # noqa: E402
from llasa_cli.settings import SpeechOptions  # noqa: E402
from llasa_cli.synthesis.synthesizer import Synthesizer, Utterance  # noqa: E402
from llasa_cli.text.word_check import word_problems  # noqa: E402

SHARE = 0.35
"""Of a take that is broken: about three words."""


def breakings(random: np.random.Generator, code_count: int) -> dict[str, Callable[[list[int], list[int]], list[int]]]:
    """Each: the codes of a take and of another sentence's -> codes of a broken take."""

    def middle(codes: list[int]) -> tuple[int, int]:
        length = round(SHARE * len(codes))
        begin = int(random.integers(len(codes) // 8, len(codes) - length - len(codes) // 8))
        return begin, begin + length

    def left_out(codes: list[int], other: list[int]) -> list[int]:
        begin, end = middle(codes)
        return codes[:begin] + codes[end:]

    def said_twice(codes: list[int], other: list[int]) -> list[int]:
        begin, end = middle(codes)
        return codes[:end] + codes[begin:]

    def from_another(codes: list[int], other: list[int]) -> list[int]:
        (begin, end), (first, last) = middle(codes), middle(other)
        return codes[:begin] + other[first:last] + codes[end:]

    def mumbled(codes: list[int], other: list[int]) -> list[int]:
        begin, end = middle(codes)
        return codes[:begin] + random.integers(0, code_count, end - begin).tolist() + codes[end:]

    return {
        "left out": left_out,
        "said twice": said_twice,
        "from another": from_another,
        "mumbled": mumbled,
        "end cut off": lambda codes, other: codes[: -round(SHARE * len(codes))],
        "another text": lambda codes, other: other,
    }


def error_rate(said: str, heard: str) -> float:
    import jiwer

    found = words(heard)
    return float(jiwer.wer(" ".join(words(said)), " ".join(found))) if found else 1.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sentences", type=int, default=120)
    parser.add_argument("--asr", default="pocketsphinx")
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    if options.keep is not None and options.keep.exists():
        heard = json.loads(options.keep.read_text())
    else:
        heard = hear_all(options.sentences, options.asr, options.keep)
    show(heard)


Heard = dict[str, list[tuple[str, str]]]
"""Kind of take -> what should have been said, and what was heard."""


def hear_all(sentences: int, asr: str, keep: Path | None) -> Heard:
    from corpus import trim
    from teachers import Heart

    lines = (ROOT / "recipes" / "heart" / "held_out.txt").read_text(encoding="utf-8").splitlines()
    lines = [line for line in lines if line.strip()][:sentences]
    listener, speech = load_recognizer(asr, "cpu"), Synthesizer.load()
    random = np.random.default_rng(0)
    heard: Heard = defaultdict(list)
    heart = Heart()
    takes: list[tuple[str, list[int]]] = []
    for number, line in enumerate(lines):
        spoken = trim(heart.synthesize(line, number)).samples
        heard["teacher"].append((line, listener.transcribe(spoken, 16_000)))
        made: list[Utterance] = []
        samples = speech.synthesize(line, SpeechOptions(seed=number), on_utterance=made.append)
        if any(take.problems for take in made):
            continue
        heard["built in"].append((line, listener.transcribe(samples, 16_000)))
        codes = [code for take in made for code in take.codes]
        for name, how in breakings(random, speech.codec.code_count).items():
            if takes:  # the first take is only the other one of the second
                broken = speech.codec.decode(how(codes, takes[-1][1]))
                heard[name].append((line, listener.transcribe(broken, 16_000)))
        takes.append((line, codes))
        if keep is not None:
            keep.write_text(json.dumps(heard))
        print(f"{number + 1} of {len(lines)} sentences", end="\r", file=sys.stderr)
    return heard


def show(heard: Heard) -> None:
    print("share that is refused, in per cent")
    print("takes            " + "".join(f"{len(pairs):>14}" for pairs in heard.values()))
    print("allowed          " + "".join(f"{name:>14}" for name in heard))
    for longest in range(1, 7):
        row = [np.mean([bool(word_problems(*pair, longest, 99)) for pair in pairs]) for pairs in heard.values()]
        print(f"run of {longest}         " + "".join(f"{100 * share:>14.0f}" for share in row))
    for longest in range(2, 6):
        row = [np.mean([bool(word_problems(*pair, longest, 1)) for pair in pairs]) for pairs in heard.values()]
        print(f"run of {longest}, gap 1  " + "".join(f"{100 * share:>14.0f}" for share in row))
    for most in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6):
        row = [np.mean([error_rate(*pair) > most for pair in pairs]) for pairs in heard.values()]
        print(f"error rate {most:<6}" + "".join(f"{100 * share:>14.0f}" for share in row))


if __name__ == "__main__":
    main()
