"""Are words said twice or lost where a long sentence is cut at a comma?

    OMP_NUM_THREADS=1 python benchmarks/long_sentences.py [MODEL] [--speaker NAME] [--sentences 100] [--keep takes.json]

Long sentences (120 to 300 characters) are made of sentences of recipes/heart/held_out.txt, joined by commas and a conjunction. Each is spoken
once with the model's defaults and heard by Whisper tiny.en (the judge of recipes/heart: its packages must be installed). Takes with four
or more words too many, or too few, are heard by pocketsphinx too. Printed is the number of those on which both recognizers
agree, and the word error rate by Whisper.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "recipes" / "heart")]

from llasa_cli.settings import ModelOptions, SpeechOptions  # noqa: E402

MOST_WORDS = 4
"""So many words too many, or too few, are a fault of the take; fewer may be the recognizer's."""


def long_sentences(count: int) -> list[str]:
    """Different sentences that have to be cut at commas."""
    lines = (ROOT / "recipes" / "heart" / "held_out.txt").read_text(encoding="utf-8").splitlines()
    clauses = [line.rstrip(".?!") for line in lines if line and line.rstrip(".?!").replace("'", "").count('"') == 0]
    draw = random.Random(3)
    made: list[str] = []
    while len(made) < count:
        parts = draw.sample(clauses, draw.choice([3, 4]))
        joined = parts[0]
        for part in parts[1:]:
            joined += draw.choice([", and ", ", but ", ", so ", ", "]) + part[0].lower() + part[1:]
        if 120 < len(joined) <= 300:
            made.append(joined + ".")
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="tiny")
    parser.add_argument("--sentences", type=int, default=100)
    parser.add_argument("--speaker", help="by default the model's own")
    parser.add_argument("--keep", type=Path, help="a JSON file for the figures of each take")
    arguments = parser.parse_args()

    import jiwer

    from judge import Judges, Scores
    from llasa_cli.synthesis.synthesizer import Synthesizer

    judges, speech = Judges(), Synthesizer.load(ModelOptions(model=arguments.model))
    rows: list[dict[str, Any]] = []
    for seed, text in enumerate(long_sentences(arguments.sentences)):
        samples = speech.synthesize(text, SpeechOptions(seed=seed, speaker=arguments.speaker))
        reference = judges._normalize(text)
        found = jiwer.process_words(reference, judges._normalize(judges.whisper(samples)))
        too_many = found.insertions - found.deletions
        if abs(too_many) >= MOST_WORDS:
            again = jiwer.process_words(reference, judges._normalize(judges.sphinx(samples)))
            too_many = (min if too_many > 0 else max)(too_many, again.insertions - again.deletions)
        wrong = found.insertions + found.deletions + found.substitutions
        rows.append({"text": text, "too_many": too_many, "wrong": wrong, "words": len(reference.split())})
        print(f"{seed + 1} of {arguments.sentences}", end="\r", file=sys.stderr)
        if arguments.keep is not None:
            arguments.keep.write_text(json.dumps(rows, indent=1))
    extra = sum(row["too_many"] >= MOST_WORDS for row in rows)
    lost = sum(row["too_many"] <= -MOST_WORDS for row in rows)
    scores = Scores()
    for row in rows:
        scores.add("wer", row["wrong"], row["words"])
    print(json.dumps({"takes": len(rows), "extra": extra, "lost": lost} | scores.summary()))


if __name__ == "__main__":
    main()
