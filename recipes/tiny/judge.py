"""Word error rate of speech, by a recogniser that nobody trained on it (pocketsphinx' en-us model).

    python judge.py teacher [--voice rms]           flite itself: the floor of this measure
    python judge.py codec CODEC [--voice rms]       flite through the codec and back: the codec's share of the error
    python judge.py model MODEL [--voice rms]       `llasa say` with its defaults and fixed seeds: the whole chain

In: `held_out.txt`, whose sentences are in no training set. Out: one JSON line: word error rate (errors over words of
all sentences), its 95 % bootstrap interval over sentences, and the share of sentences without an error.
`--keep FOLDER` keeps the audio; `--list` prints what was understood.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

SAMPLING_RATE_HZ = 16_000
SENTENCES = Path(__file__).with_name("held_out.txt")


def words(text: str) -> list[str]:
    """Lower-case words; apostrophes stay, other punctuation goes. The judge's own rule, not the product's."""
    return re.findall(r"[a-z]+(?:'[a-z]+)*", text.lower().replace("’", "'"))


class Listener:
    """pocketsphinx over whole utterances."""

    def __init__(self) -> None:
        from pocketsphinx import Decoder

        self._decoder = Decoder(samprate=float(SAMPLING_RATE_HZ), loglevel="FATAL")

    def hear(self, samples: np.ndarray) -> list[str]:
        """float32 [n], mono, 16 kHz -> words."""
        quiet = np.zeros(SAMPLING_RATE_HZ // 5, np.float32)
        pcm = np.clip(np.concatenate([quiet, samples, quiet]), -1, 1)
        self._decoder.start_utt()
        self._decoder.process_raw((pcm * 32767).astype(np.int16).tobytes(), full_utt=True)
        self._decoder.end_utt()
        found = self._decoder.hyp()
        return words(found.hypstr) if found else []


def score(pairs: list[tuple[list[str], list[str]]], draws: int = 2000) -> dict[str, object]:
    """(said, heard) pairs -> word error rate with a bootstrap interval."""
    import jiwer

    errors, lengths = [], []
    for said, heard in pairs:
        if not heard:
            errors.append(len(said))
        else:
            out = jiwer.process_words(" ".join(said), " ".join(heard))
            errors.append(out.substitutions + out.deletions + out.insertions)
        lengths.append(len(said))
    error, length = np.array(errors), np.array(lengths)
    picks = np.random.default_rng(0).integers(0, len(error), (draws, len(error)))
    rates = error[picks].sum(1) / length[picks].sum(1)
    low, high = np.quantile(rates, [0.025, 0.975])
    return {
        "wer": round(float(error.sum() / length.sum()), 3),
        "interval": [round(float(low), 3), round(float(high), 3)],
        "sentences": len(pairs),
        "perfect": round(float((error == 0).mean()), 3),
    }


def teacher(voice: str) -> Callable[[str], np.ndarray]:
    from corpus import trim
    from flite import Flite

    flite = Flite(voice)

    def speak(text: str) -> np.ndarray:
        utterance = flite.synthesise(text)
        return trim(utterance.samples, utterance.phones)[0]

    return speak


def through_codec(folder: Path, voice: str) -> Callable[[str], np.ndarray]:
    from llasa_cli.codec.model import load_codec

    codec, real = load_codec(folder), teacher(voice)
    return lambda text: codec.decode(codec.encode(real(text)))


def model(folder: str, voice: str | None, sampling: dict[str, float]) -> Callable[[str], np.ndarray]:
    from llasa_cli.settings import ModelOptions, SamplingRequest, SpeechOptions
    from llasa_cli.speech import Speech

    speech = Speech.load(ModelOptions(model=folder))
    count = iter(range(1_000_000))

    def speak(text: str) -> np.ndarray:
        options = SpeechOptions(sampling=SamplingRequest(**sampling), seed=next(count) * 1000, speaker=voice)
        return speech.speak(text, options)

    return speak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["teacher", "codec", "model"])
    parser.add_argument("folder", nargs="?", default="tiny")
    parser.add_argument("--voice")
    parser.add_argument("--first", type=int, default=1000, help="so many of the sentences")
    parser.add_argument("--sentences", type=Path, default=SENTENCES)
    parser.add_argument("--sampling", default="{}", help='JSON, for example {"temperature": 0.5}')
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--list", action="store_true")
    arguments = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    lines = arguments.sentences.read_text(encoding="utf-8").split("\n")
    lines = [line for line in lines if line.strip()][: arguments.first]
    if arguments.what == "teacher":
        speak = teacher(arguments.voice or "rms")
    elif arguments.what == "codec":
        speak = through_codec(Path(arguments.folder), arguments.voice or "rms")
    else:
        speak = model(arguments.folder, arguments.voice, json.loads(arguments.sampling))
    pairs, seconds, wall = [], 0.0, 0.0
    listener = Listener()
    for number, line in enumerate(lines):
        began = time.monotonic()
        samples = speak(line)
        wall += time.monotonic() - began
        seconds += len(samples) / SAMPLING_RATE_HZ
        heard = listener.hear(samples)
        pairs.append((words(line), heard))
        if arguments.list:
            print(f"{line}\n    {' '.join(heard)}", flush=True)
        if arguments.keep:
            import soundfile

            arguments.keep.mkdir(parents=True, exist_ok=True)
            soundfile.write(arguments.keep / f"{number:03d}.wav", samples, SAMPLING_RATE_HZ)
    result = score(pairs) | {"seconds": round(seconds, 1), "times_real_time": round(seconds / wall, 2)}
    print(json.dumps({"what": arguments.what, "voice": arguments.voice, **result}))


if __name__ == "__main__":
    main()
