"""Make the training corpus: WAV files, a `metadata.csv` a shard that `llasa prepare` reads, and timed phones.

    python corpus.py OUT heart --shards 20
    python corpus.py OUT named --voices package/voices --shards 80        (the other speakers that the voice has by name)
    python corpus.py OUT english --voices package/voices --shards 10      (Kokoro's English voices)
    python corpus.py OUT blends --voices package/voices --shards 10       (means of two or three of them)
    python corpus.py OUT others --voices package/voices --shards 4        (its other voices, which speak English too)

In: `sentences.py`, `teachers.py`. Out, per set and shard of `SHARD_LINES` lines:

    OUT/{set}/{shard:03d}/{number:06d}.wav   16 kHz int16 mono, silence trimmed to 0.06 s before, 0.10 s after
    OUT/{set}/{shard:03d}.csv                audio,text,speaker  (written last: a shard without it is made again)
    OUT/{set}/{shard:03d}.phones.jsonl       {"audio": ..., "phones": [[name, end_s], ...]}

Resumable: finished shards are skipped. Every set has lines of its own. A blend speaks `LINES_PER_SPEAKER` lines, so that
rows of several clips of one speaker can be made of it. Blends from `HELD_OUT_BLENDS` on are for evaluation only.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

from sentences import lines, written
from teachers import ENGLISH_PREFIXES, NAMED_SPEAKERS, PAUSE, SAMPLING_RATE_HZ, Heart, Kokoro, Utterance

SHARD_LINES = {"heart": 500, "english": 100, "blends": 100, "others": 100, "named": 100}
"""Lines of a shard of each set: a few minutes of work at most."""
SETS = tuple(SHARD_LINES)
MOST_LINES = 60_000
LINES_PER_SPEAKER = 4
HELD_OUT_BLENDS = 1_000_000
LEAD_S, TAIL_S = 0.06, 0.10
SPEECH_LEVEL = 0.075
"""Root mean square of the speech, pauses left out, of full scale."""
HIGHEST_PEAK = 0.98

Speak = Callable[[str, int], tuple[Utterance, str]]
"""Line and its number in the set -> utterance and speaker."""


def trim(utterance: Utterance) -> Utterance:
    """Cut the outer silence by the teacher's own times and set the level."""
    samples, phones = utterance.samples, utterance.phones
    start_s = max(0.0, phones[0][1] - LEAD_S) if phones[0][0] == PAUSE else 0.0
    last_s = phones[-2][1] if phones[-1][0] == PAUSE and len(phones) > 1 else phones[-1][1]
    end_s = min(len(samples) / SAMPLING_RATE_HZ, last_s + TAIL_S)
    speech, begin_s = [], 0.0
    for name, end in phones:
        if name != PAUSE:
            speech.append(samples[int(begin_s * SAMPLING_RATE_HZ) : int(end * SAMPLING_RATE_HZ)])
        begin_s = end
    level = float(np.sqrt(np.mean(np.square(np.concatenate(speech))))) if speech else 0.0
    cut = samples[int(start_s * SAMPLING_RATE_HZ) : int(end_s * SAMPLING_RATE_HZ)]
    cut = cut - np.float32(cut.mean())
    peak = float(np.abs(cut).max(initial=1e-6))
    cut = cut * np.float32(min(SPEECH_LEVEL / max(level, 1e-4), HIGHEST_PEAK / peak))
    moved = [(name, round(min(end, end_s) - start_s, 4)) for name, end in phones]
    return Utterance(cut.astype(np.float32), [(name, end) for name, end in moved if end > 0])


def blend_of(number: int, names: list[str]) -> dict[str, float]:
    """The styles of blend `number` and their weights: two or three voices, reproducibly."""
    pick = random.Random(f"blend {number}")
    chosen = pick.sample(names, pick.choice([2, 2, 3]))
    return {name: round(pick.uniform(0.2, 1.0), 3) for name in chosen}


def speaker_of_set(name: str, voices: Path | None, compiled: bool = False) -> Speak:
    """How the set's lines are spoken."""
    if name == "heart":
        heart = Heart()

        def speak_heart(line: str, number: int) -> tuple[Utterance, str]:
            return heart.synthesize(line, seed=number), "heart"

        return speak_heart
    if voices is None:
        raise SystemExit("Missing option --voices: the folder of kokoro-js with the style vectors.")
    kokoro = Kokoro(voices, compiled)
    english = [voice for voice in kokoro.styles if voice.startswith(ENGLISH_PREFIXES)]
    names = {style: speaker for speaker, style in NAMED_SPEAKERS.items()}
    choices = {
        "english": english,
        "others": [voice for voice in kokoro.styles if voice not in english],
        "named": list(NAMED_SPEAKERS.values())[1:],
    }

    def speak_kokoro(line: str, number: int) -> tuple[Utterance, str]:
        pick = random.Random(f"{name} {number}")
        speed = pick.uniform(0.95, 1.05) if name == "named" else pick.uniform(0.88, 1.15)
        if name == "blends":
            blend = number // LINES_PER_SPEAKER
            return kokoro.synthesize(line, blend_of(blend, english), speed), f"blend{blend:05d}"
        voice = choices[name][number % len(choices[name])]
        return kokoro.synthesize(line, {voice: 1.0}, speed), names.get(voice, voice)

    return speak_kokoro


def make_shard(out: Path, name: str, shard: int, chosen: list[str], speak: Speak) -> float:
    """Speak `chosen` into shard number `shard`. Returns the seconds of speech; 0 if the shard was there."""
    folder = out / name / f"{shard:03d}"
    table = folder.with_suffix(".csv")
    if table.exists():
        return 0.0
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    rows, timed, seconds = [], [], 0.0
    for number, line in enumerate(chosen):
        try:
            raw, speaker = speak(line, shard * SHARD_LINES[name] + number)
        except (ValueError, IndexError) as error:
            print(f"skipped {line!r}: {error}", flush=True)
            continue
        utterance = trim(raw)
        if len(utterance.samples) < 0.2 * SAMPLING_RATE_HZ:
            continue
        path = folder / f"{number:06d}.wav"
        soundfile.write(path, utterance.samples, SAMPLING_RATE_HZ, subtype="PCM_16")
        audio = f"{name}/{shard:03d}/{path.name}"
        rows.append((audio, written(line), speaker))
        timed.append(json.dumps({"audio": audio, "phones": utterance.phones}, ensure_ascii=False))
        seconds += len(utterance.samples) / SAMPLING_RATE_HZ
    folder.with_suffix(".phones.jsonl").write_text("\n".join(timed) + "\n", encoding="utf-8")
    partial = table.with_suffix(".part")
    with partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("audio", "text", "speaker"))
        writer.writerows(rows)
    partial.replace(table)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("set", choices=SETS)
    parser.add_argument("--voices", type=Path, help="kokoro-js's folder of style vectors")
    parser.add_argument("--first", type=int, default=0, help="first shard")
    parser.add_argument("--shards", type=int, default=4, help="number of shards")
    parser.add_argument("--stop-file", type=Path, help="end after the present shard once this file exists")
    parser.add_argument(
        "--compile", action="store_true", help="Kokoro's decoder compiled: three times as fast after minutes"
    )
    arguments = parser.parse_args()
    speak = speaker_of_set(arguments.set, arguments.voices, arguments.compile)
    # One list for every range of shards, so that a shard's lines are the same in every run.
    all_lines = lines(MOST_LINES, seed=SETS.index(arguments.set))
    for shard in range(arguments.first, arguments.first + arguments.shards):
        size = SHARD_LINES[arguments.set]
        chosen = all_lines[shard * size : (shard + 1) * size]
        seconds = make_shard(arguments.out, arguments.set, shard, chosen, speak)
        print(f"{arguments.set} {shard}: {seconds / 3600:.3f} h", flush=True)
        if arguments.stop_file and arguments.stop_file.exists():
            break


if __name__ == "__main__":
    main()
