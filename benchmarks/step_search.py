"""Compare `--search` with `--best-of` at equal compute: word errors by a recognizer that did not choose, likelihood, and time.

    python benchmarks/step_search.py --judge WHISPER_FOLDER [--chooser pocketsphinx] [--sentences 12] [--takes 8]
    python benchmarks/step_search.py --clone [--judge ...]        likeness to a clip of another speaker, by resemblyzer, as well

Each sentence of recipes/heart/held_out.txt that is used is spoken by the built-in voice once as a plain take, with `--best-of TAKES`
and with two searches of as many takes. The chooser is the outcome verifier of all of them.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np

from llasa_cli.asr import load_recognizer
from llasa_cli.settings import SpeechOptions
from llasa_cli.speaker_embedding import load_speaker_encoder
from llasa_cli.synthesis.synthesizer import Synthesizer
from llasa_cli.synthesis.text_to_speech import StreamSettings
from llasa_cli.synthesis.utterance import Utterance
from llasa_cli.synthesis.verifiers import LikenessVerifier, Verifier, WordVerifier
from llasa_cli.text.word_check import error_rate, units_of

HELD_OUT = Path(__file__).parents[1] / "recipes" / "heart" / "held_out.txt"
CLIP_TEXT = "The gardener planted three rows of beans behind the house."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--judge", required=True, help="a recognizer that does not choose")
    parser.add_argument("--chooser", default="pocketsphinx")
    parser.add_argument("--sentences", type=int, default=12)
    parser.add_argument("--takes", type=int, default=8)
    parser.add_argument("--clone", action="store_true", help="clone a clip, and choose by likeness as well")
    options = parser.parse_args()
    lines = [line.strip() for line in HELD_OUT.read_text(encoding="utf-8").splitlines() if line.strip()]
    lines = lines[:: max(1, len(lines) // options.sentences)][: options.sentences]
    speech, judge = Synthesizer.load(), load_recognizer(options.judge, "cpu")
    verifiers: list[Verifier] = [WordVerifier(load_recognizer(options.chooser, "cpu"), "en")]
    reference = None
    if options.clone:
        verifiers.append(LikenessVerifier(load_speaker_encoder("resemblyzer", "cpu")))
        clip = SpeechOptions(seed=1, speaker=speech.speakers[-1])
        said: list[Utterance] = []
        speech.synthesize(CLIP_TEXT, clip, on_utterance=said.append)
        from llasa_cli.prompt import Reference

        reference = Reference(said[0].text, said[0].codes)
    half = max(1, options.takes // 2)
    ways: dict[str, dict[str, Any]] = {
        "one take": {},
        f"best of {options.takes}": {"best_of": options.takes},
        f"search 1x{options.takes}x1": {"search": f"1x{options.takes}x1"},
        f"search {half}x2x1": {"search": f"{half}x2x1"},
    }
    rows: dict[str, list[tuple[float, int, float, float, float]]] = {name: [] for name in ways}
    for number, line in enumerate(lines):
        for name, chosen in ways.items():
            heard: list[Utterance] = []
            began = time.process_time()
            request = SpeechOptions(seed=1000 * number, retries=0, **chosen)
            chunks = speech.stream(line, request, reference, heard.append, StreamSettings(verifiers=verifiers))
            samples = np.concatenate([chunk.samples for chunk in chunks])
            cpu_s = time.process_time() - began
            words = len(units_of(line))
            wrong = error_rate(line, judge.transcribe(samples, speech.sampling_rate, "en")) * words
            scores = [take["scores"] for one in heard for take in one.candidates if take["chosen"]]
            likelihood = float(np.mean([score.get("likelihood", np.nan) for score in scores]))
            likeness = float(np.mean([score.get("likeness", np.nan) for score in scores]))
            rows[name].append((wrong, words, likelihood, likeness, cpu_s))
        print(f"{number + 1}/{len(lines)}", flush=True)
    for name, found in rows.items():
        wrong, words, likelihood, likeness, cpu_s = (np.array(column) for column in zip(*found, strict=True))
        print(
            f"{name}: {100 * wrong.sum() / words.sum():.1f} % wrong words by the judge, likelihood {np.nanmean(likelihood):.3f}, "
            f"likeness {np.nanmean(likeness):.3f}, {cpu_s.mean():.2f} CPU s a sentence"
        )


if __name__ == "__main__":
    main()
