"""Does a finetuned model sound like its recordings, and is it understood?

    python benchmarks/own_voice.py RECORDINGS MODEL [--base tiny] [--sentences 40]

In: the folder that `llasa prepare` read (NAME.wav, NAME.txt) and the checkpoint that `llasa finetune` wrote. Printed, a JSON
line each: the recordings themselves, and through the base's codec and back; the base model as it is; the base cloning one of
the recordings; the finetuned model.
`like`: mean cosine between each sentence's speaker embedding (resemblyzer) and that of the recordings; `wer`: word error rate
of sentences that are in no training set (of the recordings: of their own texts), by pocketsphinx.
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
sys.path[:0] = [str(ROOT), str(ROOT / "recipes" / "tiny")]

import judge  # noqa: E402
from llasa_cli.audio.reader import read_clip  # noqa: E402
from llasa_cli.settings import ModelOptions, SpeechOptions  # noqa: E402
from llasa_cli.synthesis.synthesizer import Synthesizer  # noqa: E402
from llasa_cli.voices.reference import check_reference  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recordings", type=Path)
    parser.add_argument("model")
    parser.add_argument("--base", default="tiny")
    parser.add_argument("--sentences", type=int, default=40)
    arguments = parser.parse_args()
    from resemblyzer import VoiceEncoder, preprocess_wav

    torch.set_num_threads(1)
    encoder, listener = VoiceEncoder("cpu", verbose=False), judge.Recognizer()
    lines = [line for line in judge.SENTENCES.read_text(encoding="utf-8").split("\n") if line.strip()]
    lines = lines[: arguments.sentences]
    files = sorted(arguments.recordings.glob("*.wav"))
    # From the end: `--validation` rows are drawn, so most of these were trained on; it is the voice that is judged.
    files = [path for path in files if path.stat().st_size > 2 * 16_000 * 2][-arguments.sentences :]
    clips = [(path.with_suffix(".txt").read_text(encoding="utf-8").strip(), read_clip(path)) for path in files]

    def voice_of(samples: np.ndarray) -> np.ndarray:
        return encoder.embed_utterance(preprocess_wav(samples, 16_000))

    own = np.stack([voice_of(samples) for _, samples in clips])

    def tell(what: str, made: Iterable[tuple[str, np.ndarray]], leave_out: bool = False) -> None:
        alike, pairs = [], []
        for number, (text, samples) in enumerate(made):
            others = np.delete(own, number, 0) if leave_out else own
            centre = others.mean(0)
            alike.append(float(voice_of(samples) @ centre / np.linalg.norm(centre)))
            pairs.append((judge.words(text), listener.hear(samples)))
        print(json.dumps({"what": what, "like": round(float(np.mean(alike)), 3)} | judge.score(pairs)), flush=True)

    tell("recordings", clips, leave_out=True)
    base, mine = (
        Synthesizer.load(ModelOptions(model=name, device="cpu")) for name in (arguments.base, arguments.model)
    )
    tell("through the codec", ((text, base.codec.decode(base.codec.encode(samples))) for text, samples in clips), True)
    text, samples = max(clips, key=lambda clip: len(clip[1]))
    reference = base.encode_reference(check_reference(samples, 16_000, text).samples, text)
    seeds = [SpeechOptions(seed=1000 * number) for number in range(len(lines))]
    tell("base", ((line, base.synthesize(line, seed)) for line, seed in zip(lines, seeds, strict=True)))
    tell(
        "base, cloning",
        ((line, base.synthesize(line, seed, reference)) for line, seed in zip(lines, seeds, strict=True)),
    )
    tell("finetuned", ((line, mine.synthesize(line, seed)) for line, seed in zip(lines, seeds, strict=True)))


if __name__ == "__main__":
    main()
