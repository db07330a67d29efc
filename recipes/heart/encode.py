"""Codes and phones of the corpus in one small file a shard, for `align.py`.

    python encode.py CORPUS CODEC OUT heart --part 0/2        (several processes share a set by parts)
    python encode.py CORPUS CODEC OUT blends --speed 0.9      (as blends@0.9: other voices, for cloning)

In: shards of `corpus.py`, a codec folder. Out, per shard, `OUT/{set}/{shard}.npz`:

    codes     uint16, all clips end to end, 50 a second
    phones    uint8, the phone that the teacher speaks in the middle of each code (an index into `teachers.PHONES`)
    lengths   int32, codes of each clip
    texts     the lines
    speakers  the speaker of each line, with @speed if it is not 1

Resumable: finished shards are skipped.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections import defaultdict
from pathlib import Path

import numpy as np

from llasa_cli.codec.codec import Codec, load_codec
from speech_data import HOP, read_clip
from teachers import PHONES, SAMPLING_RATE_HZ

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
    for line in table.with_suffix(".phones.jsonl").read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        phones[entry["audio"]] = [(name, end / speed) for name, end in entry["phones"]]
    by_length: dict[int, list[tuple[int, np.ndarray]]] = defaultdict(list)
    for index, row in enumerate(rows):
        samples = read_clip(corpus / row["audio"], speed)
        # Only clips of one length may share a batch (GroupNorm over time); cut to whole codes, many have the same.
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
    suffix = f"@{speed}" if speed != 1 else ""
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_suffix(".part.npz")
    np.savez_compressed(
        partial,
        codes=np.concatenate(codes),
        phones=np.concatenate(labels),
        lengths=lengths,
        texts=np.array([row["text"] for row in rows]),
        speakers=np.array([row["speaker"] + suffix for row in rows]),
    )
    partial.replace(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("codec", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("set")
    parser.add_argument("--speed", type=float, default=1.0, help="play the clips faster, which moves the pitch too")
    parser.add_argument("--part", default="0/1", help="number of this process / number of processes")
    arguments = parser.parse_args()
    number, count = (int(part) for part in arguments.part.split("/"))
    import torch

    torch.set_num_threads(1)
    codec = load_codec(arguments.codec, "cpu")
    for table in sorted((arguments.corpus / arguments.set).glob("*.csv"))[number::count]:
        name = arguments.set + (f"@{arguments.speed}" if arguments.speed != 1 else "")
        out = arguments.out / name / f"{table.stem}.npz"
        if not out.exists():
            encode_shard(codec, arguments.corpus, table, out, arguments.speed)
            print(out, flush=True)


if __name__ == "__main__":
    main()
