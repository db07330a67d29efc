"""How fast the codec is, in times real time, and against transformers' own forms on the same machine.

    OMP_NUM_THREADS=1 python benchmarks/codec.py CODEC [--device cpu] [--seconds 10] [--decode-only]

CPU time is measured (on a GPU: wall time after synchronising), so that other programs on the machine count little.
Printed: one JSON line. `ratio` above 1: faster than transformers, or together than one after the other; runs to be compared
take turns. `difference` is the largest between the two decoders' samples, `peak` a process's memory over what it has when the
codec is loaded, while it decodes so many seconds.

CODEC may be `random`: weights at the published size, made up (1 GB in a temporary folder).
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
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


def turns(works: dict[str, Callable[[], object]], device: torch.device, repeats: int) -> dict[str, float]:
    """Median seconds of each, run by turns."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            times[name].append(seconds_of(work, device, 1))
    return {name: statistics.median(found) for name, found in times.items()}


def peak_megabytes(folder: Path, seconds: float) -> float:
    """Of a process of its own that decodes on the CPU, over what it holds before."""
    program = (
        "import sys; from pathlib import Path; from llasa_cli.codec.model import load_codec;"
        "codec = load_codec(Path(sys.argv[1]), 'cpu'); codec.decode([1] * 50);"
        "Path('/proc/self/clear_refs').write_text('5'); import re;"
        "held = lambda name: int(re.search(name + r':\\s+(\\d+)', Path('/proc/self/status').read_text())[1]) / 1024;"
        "before = held('VmRSS'); codec.decode([n % 64 for n in range(int(sys.argv[2]))]);"
        "print(held('VmHWM') - before)"
    )
    command = [sys.executable, "-c", program, str(folder), str(int(seconds * 50))]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def write_random(folder: Path) -> None:
    """A codec at the published size but for its semantic encoder, with random weights."""
    from transformers import Xcodec2Config, Xcodec2Model

    torch.manual_seed(0)
    settings = Xcodec2Config()
    settings.semantic_model_config.num_hidden_layers = 1
    Xcodec2Model(settings).save_pretrained(folder)


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
    began = time.perf_counter()
    codec = load_codec(arguments.codec, arguments.device)
    load_seconds = time.perf_counter() - began
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
    decode = turns({"own": lambda: codec.decode(codes), "plain": plain_decode}, device, arguments.repeats)
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
        "load_seconds": round(load_seconds, 3),
        "decode_times_real_time": round(seconds / decode["own"], 1),
        "decode_ratio": round(decode["plain"] / decode["own"], 2),
        "difference": float(np.abs(own - theirs).max()),
        "largest_sample": float(np.abs(theirs).max()),
        "decode_many_ratio": round(many["each"] / many["many"], 2),
    }
    if device.type == "cpu" and sys.platform == "linux":
        result["peak_megabytes"] = {
            f"{length} s": round(peak_megabytes(arguments.codec, length)) for length in (10, 60)
        }
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
            "encode_times_real_time": round(seconds / encode["own"], 1),
            "encode_batch_times_real_time": round(len(clips) * seconds / encode["batch"], 1),
            "encode_ratio": round(encode["plain"] / encode["own"], 2),
        }
    return result


if __name__ == "__main__":
    main()
