"""How fast the codec is, in times real time, and against transformers' own forms on the same machine.

    OMP_NUM_THREADS=1 python benchmarks/codec.py CODEC [--device cpu] [--seconds 10]

CPU time is measured (on a GPU: wall time after synchronising), so that other programs on the machine count little.
Printed: one JSON line. `ratio` above 1: faster than transformers.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from llasa_cli.codec.features import filter_bank, pad_audio
from llasa_cli.codec.model import load_codec


def machine() -> str:
    """The processor's name, or what the system calls itself."""
    path = Path("/proc/cpuinfo")
    if path.is_file():
        for line in path.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def seconds_of(work: Callable[[], object], device: torch.device, repeats: int) -> float:
    """The median of some runs, after one that does not count."""
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    times = []
    for _ in range(repeats + 1):
        began = clock()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(clock() - began)
    return statistics.median(times[1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("codec", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seconds", type=float, default=10.0, help="of one clip")
    parser.add_argument("--clips", type=int, default=4, help="of one length in a batch")
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()

    began = time.perf_counter()
    codec = load_codec(arguments.codec, arguments.device)
    load_seconds = time.perf_counter() - began
    device = torch.device(arguments.device)
    random = np.random.default_rng(0)
    count = int(arguments.seconds * 50)
    codes = random.integers(0, codec.code_count, count).tolist()
    clip = (0.1 * random.standard_normal(count * 320)).astype(np.float32)
    clips = [clip] * arguments.clips

    from transformers import Xcodec2Model
    from transformers.utils import logging

    logging.disable_progress_bar()
    plain = Xcodec2Model.from_pretrained(arguments.codec, dtype=torch.float32).eval().to(device)
    table = torch.tensor(codes, device=device)[None, None]
    values = torch.from_numpy(pad_audio(clip))[None, None].to(device)

    @torch.inference_mode()
    def plain_encode() -> object:
        return plain.encode(values, torch.from_numpy(filter_bank(clip))[None].to(device)).audio_codes.cpu()

    @torch.inference_mode()
    def plain_decode() -> object:
        return plain.decode(table).audio_values.cpu()

    def times_real_time(work: Callable[[], object], audio_seconds: float) -> float:
        return audio_seconds / seconds_of(work, device, arguments.repeats)

    seconds = count / 50
    encode, batch = times_real_time(lambda: codec.encode(clip), seconds), len(clips) * seconds
    decode = times_real_time(lambda: codec.decode(codes), seconds)
    result = {
        "machine": torch.cuda.get_device_name(device) if device.type == "cuda" else machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "seconds_of_audio": seconds,
        "load_seconds": round(load_seconds, 3),
        "encode_times_real_time": round(encode, 1),
        "encode_batch_times_real_time": round(times_real_time(lambda: codec.encode_batch(clips), batch), 1),
        "decode_times_real_time": round(decode, 1),
        "encode_ratio": round(encode / times_real_time(plain_encode, seconds), 2),
        "decode_ratio": round(decode / times_real_time(plain_decode, seconds), 2),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
