"""Calibrate the length check of a checkpoint from its own takes, and measure what the checks find.

    OMP_NUM_THREADS=1 python benchmarks/length_band.py [MODEL] [--speakers heart bella] [--lines 200] [--write]

Each speaker says the sentences of recipes/heart without retries. Half of the takes calibrate the speaker's band, the other
half is checked as it is, and damaged in three ways: its first half is said twice, its first third is missing, and other
speech of the same length follows. Printed for each: the share that the checks flag. Then the bands are calibrated from all
takes. --write puts them into the checkpoint's llasa.json; --takes FILE keeps them, or reads them if the file exists.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from llasa_cli.checkpoint.metadata import METADATA_FILE  # noqa: E402
from llasa_cli.checkpoint.resolve import find_model  # noqa: E402
from llasa_cli.files import write_json  # noqa: E402
from llasa_cli.settings import CODES_PER_SECOND, ModelOptions, SpeechOptions  # noqa: E402
from llasa_cli.synthesis.length_band import LengthBand  # noqa: E402
from llasa_cli.synthesis.quality import find_problems  # noqa: E402

SENTENCES = ("held_out.txt", "tuning.txt", "short.txt")
Take = tuple[str, list[int]]
"""(text as the model was given it, codes)"""


def sentences(count: int) -> list[str]:
    """Different sentences of different lengths; if more are wanted than there are, pairs of them."""
    lines = [line for name in SENTENCES for line in (ROOT / "recipes/heart" / name).read_text().splitlines() if line]
    draw = random.Random(1)
    while len(lines) < count:
        first, second = draw.sample(lines[:160], 2)
        lines.append(f"{first.rstrip('.!?')}, and {second[0].lower()}{second[1:]}")
    draw.shuffle(lines)
    return lines[:count]


def make_takes(model: str, device: str, speakers: list[str], count: int) -> dict[str, list[Take]]:
    from llasa_cli.synthesis.batched import BatchSynthesizer, SynthesisRequest
    from llasa_cli.synthesis.synthesizer import Synthesizer, Utterance

    synthesizer = Synthesizer.load(ModelOptions(model=model, device=device))
    takes: dict[str, list[Take]] = {speaker: [] for speaker in speakers}

    class Requests:
        def __init__(self) -> None:
            self._requests = self._all()

        def _all(self) -> Iterator[SynthesisRequest]:
            for speaker in speakers:
                for seed, text in enumerate(sentences(count)):
                    yield SynthesisRequest(speaker, text, SpeechOptions(seed=seed, retries=0, speaker=speaker or None))

        def next_request(self) -> SynthesisRequest | None:
            return next(self._requests, None)

    class Results:
        def write(self, speaker: str, utterance: Utterance, samples: Any) -> None:
            if utterance.text:
                takes[speaker].append((utterance.text, list(utterance.codes)))

        def end(self, speaker: str) -> None: ...
        def fail(self, speaker: str, error: Exception) -> None:
            raise error

        def note(self, speaker: str, text: str) -> None: ...

    BatchSynthesizer(synthesizer, 16).run(Requests(), Results())
    return takes


def durations(takes: list[Take]) -> list[tuple[str, float]]:
    return [(text, len(codes) / CODES_PER_SECOND) for text, codes in takes]


def flagged(takes: list[Take], band: LengthBand, damage: Callable[[list[int]], list[int]]) -> float:
    """The share of takes in which the checks of length and repetition find a problem."""
    import numpy as np

    sound = np.full(16_000, 0.1, np.float32)
    found = [find_problems(text, damage(codes), sound, 16_000, True, band.limits(text)) for text, codes in takes]
    return sum(map(bool, found)) / len(found)


def report(speaker: str, takes: list[Take]) -> None:
    draw = random.Random(2)
    takes = draw.sample(takes, len(takes))
    half = len(takes) // 2
    band, rest = LengthBand.calibrate(durations(takes[:half])), takes[half:]

    def followed(codes: list[int]) -> list[int]:
        return codes + (draw.choice(rest)[1] * 20)[: len(codes)]

    ways: dict[str, Callable[[list[int]], list[int]]] = {
        "as they are": lambda codes: codes,
        "first half twice": lambda codes: codes[: len(codes) // 2] + codes,
        "first third missing": lambda codes: codes[len(codes) // 3 :],
        "doubled length": followed,
    }
    shares = ", ".join(f"{name} {flagged(rest, band, damage):.1%}" for name, damage in ways.items())
    print(f"{speaker or 'default'}: {len(rest)} takes flagged: {shares}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="tiny")
    parser.add_argument("--speakers", nargs="+", help="by default those in llasa.json, else the model's own voice")
    parser.add_argument("--lines", type=int, default=200)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--takes", type=Path, help="a JSON file to keep the takes in")
    parser.add_argument("--write", action="store_true", help="add the bands to the checkpoint's llasa.json")
    arguments = parser.parse_args()
    path = find_model(arguments.model) / METADATA_FILE
    metadata = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    speakers = arguments.speakers or metadata.get("speakers") or [""]
    if arguments.takes is not None and arguments.takes.is_file():
        takes = json.loads(arguments.takes.read_text(encoding="utf-8"))
    else:
        takes = make_takes(arguments.model, arguments.device, speakers, arguments.lines)
        if arguments.takes is not None:
            write_json(arguments.takes, takes)
    for speaker in speakers:
        report(speaker, takes[speaker])
    everything = [take for speaker in speakers for take in takes[speaker]]
    bands = {"": LengthBand.calibrate(durations(everything))}
    if len(speakers) > 1:
        bands |= {speaker: LengthBand.calibrate(durations(takes[speaker])) for speaker in speakers}
    entry = {speaker: band.to_metadata() for speaker, band in bands.items()}
    print(json.dumps({"length_bands": entry}, indent=2))
    if arguments.write:
        write_json(path, metadata | {"length_bands": entry})


if __name__ == "__main__":
    main()
