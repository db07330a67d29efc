"""Make the training corpus: WAV files, a `metadata.csv` that `llasa prepare` reads, and timed phones.

    python corpus.py OUT --voice rms --first 0 --shards 40

In: `sentences.py`, `flite.py`. Out, per voice and shard of 1,000 lines:

    OUT/{voice}/{shard:03d}/{number:06d}.wav   16 kHz int16 mono, silence trimmed to 0.06 s before, 0.10 s after
    OUT/{voice}/{shard:03d}.csv                audio,text,speaker  (written last: a shard without it is made again)
    OUT/{voice}/{shard:03d}.phones.jsonl       {"audio": ..., "phones": [[name, end_s], ...]}

Resumable: finished shards are skipped. Every voice gets its own lines (the seed is the voice's number).
"""

from __future__ import annotations

import argparse
import csv
import json
import shutil
from pathlib import Path

import numpy as np
import soundfile

from flite import SAMPLING_RATE_HZ, VOICES, Flite
from sentences import sentences

SHARD = 1000
MOST_SHARDS = 90
LEAD_S, TAIL_S = 0.06, 0.10
SPEECH_RMS = 0.07  # of full scale; the loudest peak of the four voices then stays below 1


def trim(samples: np.ndarray, phones: list[tuple[str, float]]) -> tuple[np.ndarray, list[tuple[str, float]]]:
    """Cut the outer silences by flite's own times and set the level. int16 [n] -> float32 [m]."""
    start_s = max(0.0, phones[0][1] - LEAD_S) if phones[0][0] == "pau" else 0.0
    last = phones[-2][1] if phones[-1][0] == "pau" and len(phones) > 1 else phones[-1][1]
    end_s = min(len(samples) / SAMPLING_RATE_HZ, last + TAIL_S)
    cut = samples[int(start_s * SAMPLING_RATE_HZ) : int(end_s * SAMPLING_RATE_HZ)].astype(np.float32) / 32768
    cut *= SPEECH_RMS / max(float(np.sqrt(np.mean(cut**2))), 1e-4)
    peak = float(np.abs(cut).max())
    if peak > 0.98:
        cut *= 0.98 / peak
    moved = [(name, round(min(end, end_s) - start_s, 4)) for name, end in phones]
    return cut, moved


def make_shard(out: Path, flite: Flite, voice: str, shard: int, lines: list[str]) -> None:
    """Speak `lines` into shard number `shard`."""
    folder = out / voice / f"{shard:03d}"
    table = folder.with_suffix(".csv")
    if table.exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    rows, timed = [], []
    for number, line in enumerate(lines):
        utterance = flite.synthesise(line)
        samples, phones = trim(utterance.samples, utterance.phones)
        path = folder / f"{number:06d}.wav"
        soundfile.write(path, samples, SAMPLING_RATE_HZ, subtype="PCM_16")
        name = f"{voice}/{shard:03d}/{path.name}"
        rows.append((name, line, voice))
        timed.append(json.dumps({"audio": name, "phones": phones}))
    folder.with_suffix(".phones.jsonl").write_text("\n".join(timed) + "\n", encoding="utf-8")
    partial = table.with_suffix(".part")
    with partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("audio", "text", "speaker"))
        writer.writerows(rows)
    partial.replace(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--voice", choices=VOICES, required=True)
    parser.add_argument("--first", type=int, default=0, help="first shard")
    parser.add_argument("--shards", type=int, default=4, help="how many shards of 1,000 lines")
    arguments = parser.parse_args()
    flite = Flite(arguments.voice)
    # One list whatever the range asked for, so that a shard's lines are the same from run to run.
    lines = sentences(MOST_SHARDS * SHARD, seed=VOICES.index(arguments.voice))
    for shard in range(arguments.first, arguments.first + arguments.shards):
        make_shard(arguments.out, flite, arguments.voice, shard, lines[shard * SHARD : (shard + 1) * SHARD])
        print(arguments.voice, shard, flush=True)


if __name__ == "__main__":
    main()
