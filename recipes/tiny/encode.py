"""Codes and phones of the corpus in one small file a shard, for `align.py`.

    python encode.py CORPUS CODEC OUT --voice rms --part 0/2      (several processes share a voice by parts)
    python encode.py CORPUS CODEC OUT --voice slt --part 0/10 --speed 0.9     (as slt@0.9, a new voice)

In: shards of `corpus.py`, a codec folder. Out, per shard, `OUT/{voice}/{shard}.npz`:

    codes    uint16, all clips end to end, 50 a second
    phones   uint8, the phone flite speaks in the middle of each code (an index into `codec.PHONES`)
    lengths  int32, codes of each clip
    texts    the lines
Resumable: finished shards are skipped.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import defaultdict
from pathlib import Path

import numpy as np

from codec import HOP, PHONES, SAMPLING_RATE_HZ, read_clip
from llasa_cli.codec.codec import Codec, load_codec

BATCH_SECONDS = 24


def frame_phones(timed: list[tuple[str, float]], count: int) -> np.ndarray:
    """(name, end in seconds) pairs -> uint8 [count], the phone in the middle of each 20 ms."""
    ends = np.array([end for _, end in timed])
    names = np.array([PHONES.index(name) for name, _ in timed], dtype=np.uint8)
    middles = (np.arange(count) + 0.5) * HOP / SAMPLING_RATE_HZ
    return names[np.minimum(np.searchsorted(ends, middles), len(names) - 1)]


def encode_shard(codec: Codec, corpus: Path, table: Path, out: Path, speed: float) -> None:
    with table.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    phones = {}
    for line in table.with_name(table.stem + ".phones.jsonl").read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        phones[entry["audio"]] = [(name, end / speed) for name, end in entry["phones"]]
    by_length: dict[int, list[tuple[int, np.ndarray]]] = defaultdict(list)
    for index, row in enumerate(rows):
        samples = read_clip(corpus / row["audio"], speed)
        # Whole codes only: then many clips have one length, and only those may share a batch (GroupNorm over time).
        count = len(samples) // HOP
        by_length[count].append((index, samples[: count * HOP]))
    codes: list[np.ndarray] = [np.zeros(0, np.uint16)] * len(rows)
    for count, clips in by_length.items():
        size = max(1, BATCH_SECONDS * 50 // max(count, 1))
        for start in range(0, len(clips), size):
            batch = clips[start : start + size]
            for (index, _), made in zip(batch, codec.encode_batch([clip for _, clip in batch]), strict=True):
                codes[index] = np.array(made, dtype=np.uint16)
    lengths = np.array([len(c) for c in codes], dtype=np.int32)
    labels = [frame_phones(phones[row["audio"]], length) for row, length in zip(rows, lengths, strict=True)]
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_suffix(".part.npz")
    np.savez(
        part,
        codes=np.concatenate(codes),
        phones=np.concatenate(labels),
        lengths=lengths,
        texts=np.array([row["text"] for row in rows]),
    )
    part.replace(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("codec", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--voice", required=True)
    parser.add_argument("--speed", type=float, default=1.0, help="play it so much faster, pitch and all")
    parser.add_argument("--part", default="0/1", help="this process's number / how many there are")
    arguments = parser.parse_args()
    number, count = (int(part) for part in arguments.part.split("/"))
    import torch

    torch.set_num_threads(1)
    codec = load_codec(arguments.codec, "cpu")
    for table in sorted((arguments.corpus / arguments.voice).glob("*.csv"))[number::count]:
        name = arguments.voice + (f"@{arguments.speed}" if arguments.speed != 1 else "")
        out = arguments.out / name / f"{table.stem}.npz"
        if not out.exists():
            encode_shard(codec, arguments.corpus, table, out, arguments.speed)
            print(out, flush=True)


if __name__ == "__main__":
    main()
