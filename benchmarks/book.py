"""A book at batch speed: its throughput against one passage at a time, its memory, and kills.

    python benchmarks/book.py speed --words 600 [--model FOLDER] [--dtype bf16]     both ways in turn, in one process
    python benchmarks/book.py memory --words 20000                                  peak memory of two lengths
    python benchmarks/book.py kills --words 1500 --kills 20                         SIGKILL at random moments, each time resumed

Each prints its figures and exits with 1 if the bytes differ. CPU.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
LLASA = [sys.executable, "-m", "llasa_cli"]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]


def book(words: int, seed: int = 1) -> str:
    """Paragraphs of sentences of common words."""
    from batch import WORDS

    sample = random.Random(seed)
    paragraphs, count = [], 0
    while count < words:
        sentences = []
        for _ in range(sample.randint(2, 5)):
            length = sample.randint(5, 14)
            sentences.append(" ".join(sample.choice(WORDS) for _ in range(length)).capitalize() + ".")
            count += length
        paragraphs.append(" ".join(sentences))
    return "\n\n".join(paragraphs)


def speed(arguments: argparse.Namespace, _: Path) -> bool:
    from llasa_cli.batch.options import SchedulingOptions
    from llasa_cli.batch.passages import PassageSynthesizer
    from llasa_cli.device import limit_threads
    from llasa_cli.settings import ModelOptions, SamplingRequest, SpeechOptions
    from llasa_cli.synthesis.synthesizer import Synthesizer

    synthesizer = Synthesizer.load(ModelOptions(model=arguments.model, dtype=arguments.dtype, device="cpu"))
    limit_threads(synthesizer.model, arguments.threads)
    synthesizer.codec.wait()
    synthesizer.synthesize("Hello there.", SpeechOptions(seed=1, sampling=SamplingRequest(max_seconds=1.0)))
    options = SpeechOptions(seed=1, retries=0, sampling=SamplingRequest(max_seconds=arguments.max_seconds))
    text = book(arguments.words)
    ways = {"one passage at a time": synthesizer}
    for slots in arguments.slots:
        ways[f"{slots} slots"] = PassageSynthesizer(
            synthesizer.checkpoint, SchedulingOptions(slots=slots), synthesizer=synthesizer
        )
    best: dict[str, tuple[float, float]] = {}
    sums = set()
    for round_number in range(arguments.rounds):
        for name, speech in ways.items():
            began, processor, codes, digest = time.monotonic(), time.process_time(), [0], hashlib.sha256()
            for chunk in speech.stream(
                [text], options, None, lambda one, n=codes: n.__setitem__(0, n[0] + len(one.codes))
            ):
                digest.update(chunk.samples.tobytes())
            wall, cpu = time.monotonic() - began, time.process_time() - processor
            sums.add(digest.hexdigest())
            print(f"{round_number}: {name}: {codes[0]} codes, {wall:.1f} s, {cpu:.1f} s of processor time")
            rates = codes[0] / wall, codes[0] / cpu
            best[name] = max(best.get(name, rates), rates, key=lambda one: one[1])
    first = best["one passage at a time"]
    for name, rates in best.items():
        print(
            f"{name}: {rates[0]:.0f} codes/s, {rates[1]:.0f} a second of processor time ({rates[1] / first[1]:.2f} times)"
        )
    print("the same bytes" if len(sums) == 1 else "other bytes")
    return len(sums) == 1


def say(text: Path, output: Path, arguments: argparse.Namespace) -> list[str]:
    command = [
        *LLASA,
        "say",
        "-f",
        str(text),
        "-o",
        str(output),
        "-m",
        arguments.model,
        "--seed",
        "1",
        "--retries",
        "0",
    ]
    command += ["--resume", "--batch-size", str(arguments.slots[-1]), "--accept-failed", "-q"]
    return [*command, "--max-seconds", str(arguments.max_seconds), *arguments.more]


def memory(arguments: argparse.Namespace, folder: Path) -> bool:
    peaks = []
    for words in (arguments.words // 4, arguments.words):
        text = folder / f"{words}.txt"
        text.write_text(book(words), encoding="utf-8")
        code = (
            "import resource, runpy, sys\nsys.argv = ['llasa', *sys.argv[1:]]\n"
            "try: runpy.run_module('llasa_cli', run_name='__main__')\nexcept SystemExit: pass\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024, file=sys.__stderr__)\n"
        )
        command = [sys.executable, "-c", code, *say(text, folder / f"{words}.flac", arguments)[3:]]
        made = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
        peaks.append(int(made.stderr.split()[-1]))
        print(f"{words} words: peak {peaks[-1]} MB")
    return peaks[1] < 1.1 * peaks[0]


def kills(arguments: argparse.Namespace, folder: Path) -> bool:
    text = folder / "book.txt"
    text.write_text(book(arguments.words), encoding="utf-8")
    began = time.monotonic()
    subprocess.run(say(text, folder / "whole.flac", arguments), check=True, cwd=ROOT)
    whole_s = time.monotonic() - began
    output, log = folder / "killed.flac", folder / "killed.flac.partial" / "takes.jsonl"
    chunks = (folder / "whole.flac").stat().st_size
    sample, done = random.Random(arguments.seed), []
    print(f"whole: {whole_s:.1f} s, {chunks} bytes")
    for _ in range(arguments.kills):
        run = subprocess.Popen(say(text, output, arguments), stderr=subprocess.DEVNULL, cwd=ROOT)
        known = log.read_bytes().count(b"\n") if log.is_file() else 0
        until = time.monotonic() + 2 * whole_s
        more = sample.randint(0, 3)  # passages of this run before the kill; 0 kills it while it starts
        while more and run.poll() is None and time.monotonic() < until:
            if log.is_file() and log.read_bytes().count(b"\n") >= known + more:
                break
            time.sleep(0.02)
        time.sleep(sample.uniform(0, 0.5 if more else 3.0))
        if run.poll() is not None:
            break
        run.send_signal(signal.SIGKILL)
        run.wait()
        done.append(log.read_bytes().count(b"\n") if log.is_file() else 0)
    print(f"passages after each of {len(done)} kills: {done}")
    if not output.is_file():
        subprocess.run(say(text, output, arguments), check=True, cwd=ROOT)
    same = output.read_bytes() == (folder / "whole.flac").read_bytes()
    print("the same file" if same else "another file")
    return same and not log.parent.exists()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["speed", "memory", "kills"])
    parser.add_argument("--words", type=int, default=600)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--max-seconds", type=float, default=40.0)
    parser.add_argument("--slots", type=int, nargs="*", default=[4, 8, 16])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("more", nargs="*", help="options of say, after --")
    arguments = parser.parse_args()
    run = {"speed": speed, "memory": memory, "kills": kills}[arguments.what]
    with tempfile.TemporaryDirectory(prefix="llasa-book-") as folder:
        good = run(arguments, Path(folder))
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
