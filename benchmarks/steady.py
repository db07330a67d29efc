"""A long text in nobody's voice: whose prompt keeps it the same, the first passage's or the previous one's?

    python benchmarks/steady.py [MODEL] [--seeds 4] [--passages 10]

The model is asked without a speaker and without a reference, as the published ones are. Needs resemblyzer (install it
with --no-deps, with webrtcvad-wheels and librosa) and pocketsphinx. Printed for each way of prompting: the likeness of
every passage to the first (cosine of speaker embeddings, mean and worst; beside it that of two voices' clips), and the
word error rate.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "recipes" / "tiny"))
from judge import SENTENCES, Recognizer, score, words
from llasa_cli import speech as engine
from llasa_cli.prompt import Reference
from llasa_cli.settings import ModelOptions, SpeechOptions
from llasa_cli.synthesis.synthesizer import Synthesizer, Utterance


def keep_previous(request: engine._Request, take: Utterance) -> Utterance:
    """Instead of `_Request._keep`: every good take becomes the reference of the next."""
    if not take.problems:
        request.voice = Reference(take.text, take.codes)
    return take


WAYS = {"alone": lambda request, take: take, "first": engine._Request._keep, "previous": keep_previous}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="tiny")
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--passages", type=int, default=10)
    arguments = parser.parse_args()
    from resemblyzer import VoiceEncoder, preprocess_wav

    torch.set_num_threads(1)
    speech = Synthesizer.load(ModelOptions(model=arguments.model, device="cpu"))
    speech.prompt_format.default_speaker = None
    encoder, listener = VoiceEncoder("cpu", verbose=False), Recognizer()
    lines = [line for line in SENTENCES.read_text(encoding="utf-8").split("\n") if len(line) > 45]
    for way, keep in WAYS.items():
        engine._Request._keep = keep  # type: ignore[method-assign]
        alike: list[float] = []
        pairs: list[tuple[list[str], list[str]]] = []
        for seed in range(arguments.seeds):
            text = lines[seed * arguments.passages :][: arguments.passages]
            takes: list[Utterance] = []
            sounds = []
            for chunk in speech.stream(iter(text), SpeechOptions(seed=seed), None, takes.append):
                sounds.append(chunk.samples[round(takes[-1].pause_s * speech.sampling_rate) :])
            voices = [encoder.embed_utterance(preprocess_wav(sound, speech.sampling_rate)) for sound in sounds]
            alike += [float(voices[0] @ voice) for voice in voices[1:]]
            pairs += [(words(take.text), listener.hear(sound)) for take, sound in zip(takes, sounds, strict=True)]
        row = {"way": way, "like_the_first": round(float(np.mean(alike)), 3), "worst": round(min(alike), 3)}
        print(json.dumps(row | score(pairs)), flush=True)


if __name__ == "__main__":
    main()
