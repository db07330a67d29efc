"""Start-up times: `llasa --help`, a sentence spoken by a new process, and its first sound.

    python benchmarks/start.py [--model tiny] [--rounds 7] [--json start.json]

Each figure is the wall time of whole processes. The rows are measured in turns, so that other load on the machine affects
all of them, and files stay in the page cache. The table shows the median, the smallest and the largest time in seconds:

    nothing      python -c pass
    torch        python -c "import torch"
    help         llasa --help
    say          llasa say, five words, to a file
    first sound  llasa say --stream -o - : until the first byte of sound after the header, same five words
    first long   the same for a sentence of three seconds, which streams while it is generated

A second table shows the stages of `say`: when each began and how long it took, including the stages it calls (importing torch
imports numpy; loading imports more modules). `beside` marks a stage in another thread.

`bar` is the time that `say` may take: one and a half times `import torch`, and one second.
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

FIVE_WORDS = "the shop sells fresh bread."
LONG = "we should leave before the rain starts again, and take the old road along the river."
HEADER = 44
"""Bytes of a WAV before its sound."""
MARK = "stages: "

STAGES = """
import builtins, importlib, json, sys, threading, time
began = float(sys.argv.pop(1))
rows, main = {}, threading.current_thread()
IMPORTS = {"llasa_cli.cli.app", "tokenizers", "jinja2.sandbox", "numpy", "torch"}
CALLS = [
    ("tokenizer and template", "llasa_cli.prompt", "PromptFormat.load"),
    ("load the model", "llasa_cli.lm.loader", "load_language_model"),
    ("load the codec", "llasa_cli.codec.codec", "load_codec"),
    ("code", "llasa_cli.lm.generation", "Generation.__next__"),
    ("decode", "llasa_cli.codec.codec", "Codec.decode"),
]

def note(name, start):
    if name in ("code", "decode"):
        name = "other " + name + "s" if "first " + name in rows else "first " + name
    row = rows.setdefault(name, [start - began, 0.0, threading.current_thread() is main])
    row[1] += time.time() - start

def timed(name, work):
    def run(*arguments, **options):
        start = time.time()
        try:
            return work(*arguments, **options)
        finally:
            note(name, start)
    return run

def wrap(name, owner, path):
    *parts, last = path.split(".")
    for part in parts:
        owner = getattr(owner, part)
    held = owner.__dict__[last]
    is_class = isinstance(held, classmethod)
    setattr(owner, last, classmethod(timed(name, held.__func__)) if is_class else timed(name, held))

plain = builtins.__import__

def watching(name, *rest, **named):
    if name not in IMPORTS:
        found = plain(name, *rest, **named)
    else:
        IMPORTS.discard(name)
        start = time.time()
        found = plain(name, *rest, **named)
        note("import " + name, start)
    for call in CALLS[:]:
        module = sys.modules.get(call[1])
        if module is not None and not getattr(module.__spec__, "_initializing", False):
            CALLS.remove(call)
            wrap(call[0], module, call[2])
    return found

builtins.__import__ = watching
rows["python"] = [0.0, time.time() - began, True]

def report():
    rows["to the exit"] = [0.0, time.time() - began, True]
    print("stages: " + json.dumps(rows), file=sys.stderr, flush=True)

import llasa_cli.cli.app
from llasa_cli.__main__ import main as run
sys.argv[0] = "llasa"
try:
    run()
finally:
    report()  # at exit standard error is closed
"""


def wall_time(command: list[str]) -> float:
    """Wall time in seconds of a process that must succeed."""
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    return time.perf_counter() - began


def first_sound(command: list[str]) -> float:
    """Seconds until the first byte of sound. The rest is read too, so that the process ends as it does for a user."""
    began = time.perf_counter()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        got = b""
        while len(got) <= HEADER:
            more = os.read(process.stdout.fileno(), 1 << 16)
            if not more:
                raise RuntimeError(f"no sound from {command}")
            got += more
        found = time.perf_counter() - began
        process.stdout.read()
    if process.returncode:
        raise RuntimeError(f"{command} ended with {process.returncode}")
    return found


def stages(command: list[str]) -> dict[str, Any]:
    """Stage -> [seconds after the start, duration in seconds, whether it ran in the main thread]."""
    program = [sys.executable, "-c", STAGES, str(time.time()), *command]
    done = subprocess.run(program, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    line = next(line for line in done.stderr.splitlines() if line.startswith(MARK))
    found: dict[str, Any] = json.loads(line.removeprefix(MARK))
    return found


def machine() -> dict[str, Any]:
    import torch

    from codec import machine as processor

    return {
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def middle(values: list[float]) -> list[float]:
    """Median, smallest, largest."""
    return [round(value, 3) for value in (statistics.median(values), min(values), max(values))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--codec")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", nargs="*", default=[], help="names of rows; `stages` is one")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    llasa = str(Path(sys.executable).with_name("llasa"))
    flags = [
        "--model",
        arguments.model,
        "--seed",
        "1",
        "-q",
        *(["--codec", arguments.codec] if arguments.codec else []),
    ]
    with tempfile.TemporaryDirectory() as folder:
        to_file = ["say", FIVE_WORDS, "-o", f"{folder}/out.wav", *flags]
        to_pipe = ["-o", "-", "--stream", *flags]
        works: dict[str, Callable[[], Any]] = {
            "nothing": lambda: wall_time([sys.executable, "-c", "pass"]),
            "torch": lambda: wall_time([sys.executable, "-c", "import torch"]),
            "help": lambda: wall_time([llasa, "--help"]),
            "say": lambda: wall_time([llasa, *to_file]),
            "first sound": lambda: first_sound([llasa, "say", FIVE_WORDS, *to_pipe]),
            "first long": lambda: first_sound([llasa, "say", LONG, *to_pipe]),
            "stages": lambda: stages(to_file),
        }
        works = {name: work for name, work in works.items() if not arguments.only or name in arguments.only}
        found: dict[str, list[Any]] = {name: [] for name in works}
        for turn in range(arguments.rounds + 1):
            for name, work in works.items():
                value = work()
                if turn:  # the first turn fills the page cache and may compile the kernels
                    found[name].append(value)
    result = summary(found)
    if arguments.json:
        arguments.json.write_text(json.dumps(result | {"machine": machine()}, indent=1) + "\n", encoding="utf-8")


def summary(found: dict[str, list[Any]]) -> dict[str, Any]:
    """Print the tables; -> the content of the JSON file."""
    seconds = {name: middle(values) for name, values in found.items() if name != "stages"}
    for name, values in seconds.items():
        print(f"{name:24}{values[0]:8.3f}  ({values[1]:.3f} to {values[2]:.3f})")
    result: dict[str, Any] = {"seconds": seconds}
    if {"torch", "say"} <= set(seconds):
        result["bar"] = round(1.5 * seconds["torch"][0] + 1, 3)
        print(f"{'bar of say':24}{result['bar']:8.3f}")
    if "stages" in found:
        rows = found["stages"]
        names = sorted(rows[0], key=lambda name: rows[0][name][0])
        result["stages"] = {
            name: {
                "from": round(statistics.median(row[name][0] for row in rows), 3),
                "seconds": round(statistics.median(row[name][1] for row in rows), 3),
                "beside": not rows[0][name][2],
            }
            for name in names
        }
        print("\nstage                       from  seconds")
        for name, row in result["stages"].items():
            print(f"{name:24}{row['from']:8.3f} {row['seconds']:8.3f}{'  beside' if row['beside'] else ''}")
    return result


if __name__ == "__main__":
    main()
