"""Word error rate of speech, by a recognizer that was not trained on it (pocketsphinx' en-us model).

    python judge.py teacher [--voice rms]           flite itself: the floor of this measure
    python judge.py codec CODEC [--voice rms]       flite through the codec and back: the codec's share of the error
    python judge.py model MODEL [--voice rms]       `llasa say` with its defaults and fixed seeds: the whole chain

In: `held_out.txt`, whose sentences are in no training set. Out: one JSON line: word error rate (errors over words of
all sentences), its 95 % bootstrap interval over sentences, the share of sentences without an error, and how many were made
with a problem that no retry mended (`problems`). `--seeds 3` says each sentence three times; an interval is then over sentences
still. `--sentences short.txt` has inputs of one to three words. `--dnsmos` adds the mean DNSMOS of one take of each (pip install
speechmos onnxruntime librosa). `--keep FOLDER` keeps the audio; `--list` prints what was understood.
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
SENTENCES = Path(__file__).parents[1] / "heart" / "held_out.txt"


def words(text: str) -> list[str]:
    """Lower-case words; apostrophes stay, other punctuation goes. The judge's own rule, not the product's."""
    return re.findall(r"[a-z]+(?:'[a-z]+)*", text.lower().replace("’", "'"))


class Recognizer:
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


def score(pairs: list[tuple[list[str], list[str]]], draws: int = 2000, takes: int = 1) -> dict[str, object]:
    """(said, heard) pairs, `takes` of each sentence one after the other -> word error rate with a bootstrap interval.

    The interval is over sentences: takes of one sentence are no independent witnesses.
    """
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
    by_sentence, spoken = error.reshape(-1, takes).sum(1), length.reshape(-1, takes).sum(1)
    picks = np.random.default_rng(0).integers(0, len(by_sentence), (draws, len(by_sentence)))
    rates = by_sentence[picks].sum(1) / spoken[picks].sum(1)
    low, high = np.quantile(rates, [0.025, 0.975])
    return {
        "wer": round(float(error.sum() / length.sum()), 3),
        "interval": [round(float(low), 3), round(float(high), 3)],
        "sentences": len(by_sentence),
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
    from llasa_cli.codec.codec import load_codec

    codec, real = load_codec(folder), teacher(voice)
    return lambda text: codec.decode(codec.encode(real(text)))


def model(
    folder: str, voice: str | None, sampling: dict[str, float], problems: list[str] | None = None
) -> Callable[[str], np.ndarray]:
    from llasa_cli.settings import ModelOptions, SamplingRequest, SpeechOptions
    from llasa_cli.synthesis.synthesizer import Synthesizer, Utterance

    def note(take: Utterance) -> None:
        if problems is not None:
            problems.extend(take.problems)

    speech = Synthesizer.load(ModelOptions(model=folder))
    count = iter(range(1_000_000))

    def speak(text: str) -> np.ndarray:
        options = SpeechOptions(sampling=SamplingRequest(**sampling), seed=next(count) * 1000, speaker=voice)
        return speech.synthesize(text, options, on_utterance=note)

    return speak


def dnsmos(samples: np.ndarray) -> float:
    """Overall quality, 1 to 5, by DNSMOS P.835, which hears 16 kHz."""
    from speechmos import dnsmos as judge

    return float(judge.run(np.clip(samples, -1, 1), sr=SAMPLING_RATE_HZ)["ovrl_mos"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["teacher", "codec", "model"])
    parser.add_argument("folder", nargs="?", default="tiny")
    parser.add_argument("--voice")
    parser.add_argument("--first", type=int, default=1000, help="so many of the sentences")
    parser.add_argument("--sentences", type=Path, default=SENTENCES)
    parser.add_argument("--sampling", default="{}", help='JSON, for example {"temperature": 0.5}')
    parser.add_argument("--seeds", type=int, default=1, help="takes of each sentence")
    parser.add_argument("--dnsmos", action="store_true")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--list", action="store_true")
    arguments = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    lines = arguments.sentences.read_text(encoding="utf-8").split("\n")
    lines = [line for line in lines if line.strip()][: arguments.first]
    problems: list[str] = []
    if arguments.what == "teacher":
        speak = teacher(arguments.voice or "rms")
    elif arguments.what == "codec":
        speak = through_codec(Path(arguments.folder), arguments.voice or "rms")
    else:
        speak = model(arguments.folder, arguments.voice, json.loads(arguments.sampling), problems)
    pairs, seconds, wall, quality = [], 0.0, 0.0, []
    listener = Recognizer()
    for number, line in enumerate(line for line in lines for _ in range(arguments.seeds)):
        began = time.monotonic()
        samples = speak(line)
        wall += time.monotonic() - began
        seconds += len(samples) / SAMPLING_RATE_HZ
        heard = listener.hear(samples)
        pairs.append((words(line), heard))
        if arguments.dnsmos and number % arguments.seeds == 0:
            quality.append(dnsmos(samples))
        if arguments.list:
            print(f"{line}\n    {' '.join(heard)}", flush=True)
        if arguments.keep:
            import soundfile

            arguments.keep.mkdir(parents=True, exist_ok=True)
            soundfile.write(arguments.keep / f"{number:03d}.wav", samples, SAMPLING_RATE_HZ)
    result = score(pairs, takes=arguments.seeds) | {"seeds": arguments.seeds, "problems": len(problems)}
    if quality:
        result["dnsmos"] = round(float(np.mean(quality)), 2)
    result |= {"seconds": round(seconds, 1), "times_real_time": round(seconds / wall, 2)}
    print(json.dumps({"what": arguments.what, "voice": arguments.voice, **result}))


if __name__ == "__main__":
    main()
