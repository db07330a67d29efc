"""Measure how closely a finetuned model sounds like its recordings, and how well it is understood.

    python benchmarks/own_voice.py RECORDINGS MODEL [--base tiny] [--sentences 40]

RECORDINGS is the folder that `llasa prepare` read (NAME.wav, NAME.txt), MODEL the checkpoint that `llasa finetune` wrote. The
output is a JSON line each for the recordings themselves, the recordings through the base's codec and back, the base model, the
base model cloning one of the recordings, and the finetuned model:

    like    mean cosine between each sentence's speaker embedding (resemblyzer) and that of the recordings
    wer     word error rate by pocketsphinx, of sentences outside every training set (of the recordings: their own texts)

Both have 95 % bootstrap intervals over sentences. `cloning.py --make` with `--texts FILE` makes recordings of speakers that the
built-in voice has never heard.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from llasa_cli.audio.reader import read_clip  # noqa: E402
from llasa_cli.settings import ModelOptions, SpeechOptions  # noqa: E402
from llasa_cli.synthesis.synthesizer import Synthesizer  # noqa: E402
from llasa_cli.voices.reference import check_sound, check_transcript  # noqa: E402
from recipes.heart.judge import SENTENCES, Judges, Scores  # noqa: E402

_SHORTEST_FILE_BYTES = 2 * 16_000 * 2
"""Two seconds of 16-bit audio at 16 kHz: shorter recordings say little about a voice."""


class Likeness:
    """Compares sentences with recordings, and transcribes them."""

    def __init__(self, recordings: list[np.ndarray]) -> None:
        self._judges = Judges()
        self._embeddings = np.stack([self._judges.embedding(samples) for samples in recordings])

    def report(self, name: str, spoken: Iterable[tuple[str, np.ndarray]], leave_one_out: bool = False) -> None:
        """Print a line for texts and their sound.

        Args:
            leave_one_out: The sentences are the recordings: compare each one with the others.
        """
        scores = Scores()
        for number, (text, samples) in enumerate(spoken):
            others = np.delete(self._embeddings, number, 0) if leave_one_out else self._embeddings
            center = others.mean(0)
            scores.add("like", float(self._judges.embedding(samples) @ center / np.linalg.norm(center)))
            scores.add("wer", *self._judges.errors(text, self._judges.sphinx(samples), sphinx=True))
        print(json.dumps({"what": name} | scores.summary()), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", type=Path)
    parser.add_argument("model")
    parser.add_argument("--base", default="tiny")
    parser.add_argument("--sentences", type=int, default=40)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    lines = [line for line in SENTENCES.read_text(encoding="utf-8").split("\n") if line.strip()]
    lines = lines[: arguments.sentences]
    files = [path for path in sorted(arguments.recordings.glob("*.wav")) if path.stat().st_size > _SHORTEST_FILE_BYTES]
    # Most of these were trained on, because `prepare` draws few rows for validation; the voice is measured, not the words.
    files = files[-arguments.sentences :]
    clips = [(path.with_suffix(".txt").read_text(encoding="utf-8").strip(), read_clip(path)) for path in files]
    likeness = Likeness([samples for _, samples in clips])
    likeness.report("recordings", clips, leave_one_out=True)
    base, finetuned = (
        Synthesizer.load(ModelOptions(model=name, device="cpu")) for name in (arguments.base, arguments.model)
    )
    decoded = ((text, base.codec.decode(base.codec.encode(samples))) for text, samples in clips)
    likeness.report("through the codec", decoded, leave_one_out=True)
    text, samples = max(clips, key=lambda clip: len(clip[1]))
    reference = base.encode_reference(check_transcript(check_sound(samples, 16_000), text).samples, text)
    for name, synthesizer, voice in (
        ("base", base, None),
        ("base, cloning", base, reference),
        ("finetuned", finetuned, None),
    ):
        seeds = (SpeechOptions(seed=1000 * number) for number in range(len(lines)))
        spoken = ((line, synthesizer.synthesize(line, seed, voice)) for line, seed in zip(lines, seeds, strict=True))
        likeness.report(name, spoken)


if __name__ == "__main__":
    main()
