"""The speed of the codec, in times real time, and compared with transformers on the same machine.

    OMP_NUM_THREADS=1 python benchmarks/codec.py CODEC [--device cpu] [--seconds 10] [--decode-only]

Measured is wall time (on a GPU after synchronizing) and, on a CPU, the time of its cores (`cpu`), which shows whether other
programs were running; `others` is the number of cores that those kept busy while decoding was timed (Linux). The output is one
JSON line. A `ratio` above 1 means faster than transformers, or faster together than one by one; the compared runs alternate,
and medians are reported. `difference` is the largest difference between the samples of the two decoders.

Separate processes measure, on a CPU: `peak`, the megabytes used while so many seconds are decoded, whole and as a stream,
beyond what a process has after loading the codec and decoding a second; and `first_s`, the seconds from `load_codec` to the
sound of three seconds of codes, with the files in the page cache: after waiting for all weights, without waiting, and when
other work took so long before the first codes that all weights were read.

CODEC may be `random`: random weights of the published size (1 GB in a temporary folder).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from llasa_cli.codec.codec import load_codec
from llasa_cli.codec.fbank import filter_bank, pad_audio


def machine() -> str:
    """The processor's name, or the system's name for the machine."""
    path = Path("/proc/cpuinfo")
    if path.is_file():
        for line in path.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def busy_s() -> float:
    """Seconds that all cores together were busy since the start of the system; 0 if unknown."""
    path = Path("/proc/stat")
    if not path.is_file():
        return 0.0
    user, nice, system, _, _, interrupts, soft = map(int, path.read_text().split(maxsplit=8)[1:8])
    return (user + nice + system + interrupts + soft) / os.sysconf("SC_CLK_TCK")


def turns(works: dict[str, Callable[[], object]], device: torch.device, repeats: int) -> dict[str, dict[str, float]]:
    """Run all works alternately -> the median seconds of each, `wall` and `cpu`."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
    for turn in range(repeats + 1):
        for name, work in works.items():
            wall, cpu = time.perf_counter(), time.process_time()
            work()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if turn:  # the first turn includes the setup
                times[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return {
        name: dict(zip(("wall", "cpu"), map(statistics.median, zip(*found, strict=True)), strict=True))
        for name, found in times.items()
    }


def ratio(times: dict[str, dict[str, float]], of: str, to: str) -> dict[str, float]:
    return {clock: round(times[of][clock] / times[to][clock], 2) for clock in ("wall", "cpu")}


def child(program: str, *arguments: object) -> float:
    """Run a program in a separate process -> the number that it prints."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


PEAK = """
import re, sys
from pathlib import Path
from typing import Any
from llasa_cli.codec.codec import load_codec
from llasa_cli.codec.streaming import decode_stream
codec = load_codec(Path(sys.argv[1]), 'cpu')
codec.decode([1] * 50)
Path('/proc/self/clear_refs').write_text('5')
held = lambda name: int(re.search(name + r':\\s+(\\d+)', Path('/proc/self/status').read_text())[1]) / 1024
before = held('VmRSS')
codes = [n % 64 for n in range(int(sys.argv[2]))]
if sys.argv[3] == 'whole':
    codec.decode(codes)
else:
    for piece in decode_stream(codec, codes):
        pass
print(held('VmHWM') - before)
"""

FIRST = """
import sys, time
import torch, safetensors.torch
from pathlib import Path
from typing import Any
from llasa_cli.codec import weights as stored
from llasa_cli.codec import decoder
from llasa_cli.codec.codec import load_codec
codes = [n % 64 for n in range(150)]
began = time.perf_counter()
codec = load_codec(Path(sys.argv[1]), 'cpu', wait=sys.argv[2] == 'wait')
if sys.argv[2] == 'later':
    codec.wait()
    began = time.perf_counter()
codec.decode(codes)
print(time.perf_counter() - began)
"""


def first_seconds(folder: Path, repeats: int) -> dict[str, float]:
    """Run the three kinds alternately -> the median of each."""
    times: dict[str, list[float]] = {kind: [] for kind in ("wait", "at once", "later")}
    for _ in range(repeats):
        for kind, found in times.items():
            found.append(child(FIRST, folder, kind))
    return {kind: round(statistics.median(found), 2) for kind, found in times.items()}


def write_random(folder: Path) -> None:
    """Write a codec of the published size, except its semantic encoder, with random weights."""
    from transformers import Xcodec2Config, Xcodec2Model

    torch.manual_seed(0)
    settings = Xcodec2Config()
    semantic: Any = settings.semantic_model_config
    semantic.num_hidden_layers = 1
    Xcodec2Model(settings).save_pretrained(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("codec", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seconds", type=float, default=10.0, help="of one clip")
    parser.add_argument("--clips", type=int, default=4, help="of one length in a batch")
    parser.add_argument("--sentence", type=float, default=3.0, help="seconds of each of 16 decoded together")
    parser.add_argument("--decode-only", action="store_true")
    parser.add_argument("--repeats", type=int, default=7)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        if str(arguments.codec) == "random":
            write_random(Path(made))
            arguments.codec = Path(made)
        print(json.dumps(measured(arguments)))


def measured(arguments: argparse.Namespace) -> dict[str, object]:
    codec = load_codec(arguments.codec, arguments.device)
    device = torch.device(arguments.device)
    random = np.random.default_rng(0)
    count = int(arguments.seconds * 50)
    codes = random.integers(0, codec.code_count, count).tolist()
    clip = (0.1 * random.standard_normal(count * 320)).astype(np.float32)
    clips = [clip] * arguments.clips
    sentences = random.integers(0, codec.code_count, (16, int(arguments.sentence * 50))).tolist()

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
    def plain_decode() -> torch.Tensor:
        return plain.decode(table).audio_values.cpu()

    seconds = count / 50
    own, theirs = codec.decode(codes), plain_decode()[0, 0].numpy()
    busy, used, began = busy_s(), time.process_time(), time.perf_counter()
    decode = turns({"own": lambda: codec.decode(codes), "plain": plain_decode}, device, arguments.repeats)
    others = (busy_s() - busy - (time.process_time() - used)) / (time.perf_counter() - began)
    many = turns(
        {"many": lambda: codec.decode_many(sentences), "each": lambda: [codec.decode(one) for one in sentences]},
        device,
        arguments.repeats,
    )
    result: dict[str, object] = {
        "machine": torch.cuda.get_device_name(device) if device.type == "cuda" else machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "seconds_of_audio": seconds,
        "repeats": arguments.repeats,
        "others": round(max(0.0, others), 2),
        "decode_times_real_time": round(seconds / decode["own"]["wall"], 1),
        "decode_ratio": ratio(decode, "plain", "own"),
        "difference": float(np.abs(own - theirs).max()),
        "largest_sample": float(np.abs(theirs).max()),
        "decode_many_ratio": ratio(many, "each", "many"),
    }
    if device.type == "cpu" and sys.platform == "linux":
        result["peak_megabytes"] = {
            f"{length} s {how}": round(child(PEAK, arguments.codec, length * 50, how))
            for how in ("whole", "streamed")
            for length in (10, 60)
        }
        result["first_s"] = first_seconds(arguments.codec, arguments.repeats)
    if not arguments.decode_only:
        encode = turns(
            {
                "own": lambda: codec.encode(clip),
                "batch": lambda: codec.encode_batch(clips),
                "plain": plain_encode,
            },
            device,
            arguments.repeats,
        )
        result |= {
            "encode_times_real_time": round(seconds / encode["own"]["wall"], 1),
            "encode_batch_times_real_time": round(len(clips) * seconds / encode["batch"]["wall"], 1),
            "encode_ratio": ratio(encode, "plain", "own"),
        }
    return result


if __name__ == "__main__":
    main()
