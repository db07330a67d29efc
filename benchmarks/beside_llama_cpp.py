"""This package and llama.cpp with the same random weights in one process, taking turns at each step, so that other work on the machine slows both.

    python benchmarks/beside_llama_cpp.py q4_0 [--threads 1] [--work FOLDER]

The file in llama.cpp's format is that of `speed.py --random 1b`, which must have run with the same `--work`. Times are in ms, medians and
minima: wall time of a step of one sequence and of 16, and processor time of the prefill of 128 tokens.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[1])]
OWN = {"q4_0": "int4", "q8_0": "int8", "f16": "bf16"}
"""llama.cpp's format and this package's with as many bits."""
SEQUENCES, TOKEN = 16, 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("format", choices=OWN)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", type=Path, default=Path.home() / ".cache" / "llasa" / "benchmarks")
    arguments = parser.parse_args()
    import torch

    from benchmarks.llama_peer import LlamaCpp
    from llasa_cli.lm.loader import load_language_model
    from llasa_cli.prompt import PromptFormat

    torch.set_num_threads(arguments.threads)
    folder, kind = arguments.work / "1b", OWN[arguments.format]
    network = load_language_model(folder, PromptFormat.load(folder), "cpu", kind).network
    path = arguments.work / f"1b.{arguments.format}.gguf"
    one, many = LlamaCpp(path, arguments.threads), LlamaCpp(path, arguments.threads, 128, SEQUENCES)
    prompt, tokens = list(range(1, 41)), [TOKEN] * SEQUENCES
    with torch.inference_mode():
        stream, cache = network.stream(2048), network.new_cache(SEQUENCES, 128)
        stream.feed(torch.tensor(prompt))
        one.feed(0, prompt)
        compare("one sequence", 24, lambda: one.feed(0, [TOKEN]), lambda: stream.feed(torch.tensor([TOKEN])))

        def step_of_many() -> None:
            network.decode_rows(cache, list(range(SEQUENCES)), torch.tensor(tokens), [0] * SEQUENCES)

        compare(f"{SEQUENCES} sequences", 4, lambda: many.step(tokens).argmax(-1), step_of_many)
        part = list(range(100, 228))
        work = (lambda: one.feed(0, part), lambda: stream.feed(torch.tensor(part)))
        compare("prefill of 128 tokens", 3, *work, clock=time.process_time)


def compare(
    name: str,
    turns: int,
    theirs: Callable[[], object],
    own: Callable[[], object],
    clock: Callable[[], float] = time.perf_counter,
) -> None:
    """Time both in turns and print a line."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(turns):
        for work, found in zip((theirs, own), times, strict=True):
            began = clock()
            work()
            found.append(1000 * (clock() - began))
    cells = [f"{statistics.median(found):7.0f} ({min(found):.0f})" for found in times]
    ratio = statistics.median(times[0]) / statistics.median(times[1])
    print(f"{name:24}llama.cpp {cells[0]:18}llasa {cells[1]:18}{ratio:.2f} times as fast", flush=True)


if __name__ == "__main__":
    main()
