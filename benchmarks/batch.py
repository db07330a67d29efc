"""The promises of `llasa batch`: its speed, and that no item is lost whatever is killed.

    python benchmarks/batch.py speed --lines 2000        batch, a loaded model in a loop, and `llasa say` in a shell loop
    python benchmarks/batch.py kills --items 300         SIGKILL at 30 moments, each time resumed, against an uninterrupted run
    python benchmarks/batch.py ray --items 300           a Ray cluster of three nodes that loses workers and a node
    python benchmarks/batch.py plan --lines 1000000      a dry run: seconds and peak memory
    python benchmarks/batch.py bad --items 200           5 % bad items: the others are made, each bad one has its reason
    python benchmarks/batch.py same --items 60           other batch sizes and numbers of workers give the same files

Each prints its figures and exits with 1 if the promise is not kept. CPU, the built-in voice.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LLASA = [sys.executable, "-m", "llasa_cli"]
WORDS = (
    "the old man walked down to river and saw small boat with red sail in evening light while children played near "
    "water under tall green trees where birds sang about spring until night came over quiet hills"
).split()
TIMES = ("wall_s",)


def write_list(path: Path, lines: int, seed: int = 1, most_words: int = 7) -> None:
    """Short sentences with ids."""
    sample = random.Random(seed)
    with path.open("w", encoding="utf-8") as file:
        for number in range(lines):
            words = " ".join(sample.choice(WORDS) for _ in range(sample.randint(2, most_words)))
            file.write(f"line-{number:07d}|{words.capitalize()}.\n")


def batch(source: Path, output: Path, *more: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    command = [*LLASA, "batch", str(source), "-o", str(output), "--device", "cpu", "--accept-failed", *more]
    made = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if check and made.returncode:
        raise SystemExit(f"batch exited with {made.returncode}:\n{made.stderr}")
    return made


def contents(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file except the results."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != "results.jsonl"
    }


def rows(folder: Path) -> list[dict[str, Any]]:
    """The results without their times."""
    lines = (folder / "results.jsonl").read_text(encoding="utf-8").splitlines()
    return [{name: value for name, value in json.loads(line).items() if name not in TIMES} for line in lines]


def differences(one: Path, other: Path) -> list[str]:
    found = []
    if contents(one) != contents(other):
        found.append("files differ")
    if rows(one) != rows(other):
        found.append("rows differ")
    ids = [row["id"] for row in rows(other)]
    if len(ids) != len(set(ids)):
        found.append("an item has two rows")
    return found


# --- speed ---


def speed(arguments: argparse.Namespace, folder: Path) -> bool:
    source = folder / "lines.txt"
    write_list(source, arguments.lines)
    began = time.monotonic()
    more = ["--json", *(["--workers", str(arguments.workers)] if arguments.workers else [])]
    made = batch(source, folder / "out", *more, *(["--batch-size", str(arguments.slots)] if arguments.slots else []))
    batch_s = time.monotonic() - began
    summary = json.loads(made.stdout.splitlines()[-1])["summary"]
    tokens = summary["seconds"] * 50
    print(
        f"batch, whole process: {arguments.lines} lines, {tokens:.0f} codes, {batch_s:.1f} s: {tokens / batch_s:.0f} codes/s"
    )
    kept = say_in_a_loop(source, arguments.sample)
    print(f"a loaded model in a loop ({arguments.sample} of the lines): {kept:.0f} codes/s")
    each = shell_loop(source, arguments.processes, folder)
    print(f"llasa say, a process a line ({arguments.processes} of the lines): {each:.1f} codes/s")
    rate = tokens / batch_s
    print(f"batch is {rate / kept:.1f} times the loaded model, {rate / each:.1f} times the shell loop")
    return rate >= 3 * kept and rate >= 20 * each


def texts(source: Path, count: int) -> list[str]:
    """Every n-th text, so that their lengths are those of the list."""
    lines = [line.partition("|")[2] for line in source.read_text(encoding="utf-8").splitlines()]
    return lines[:: max(1, len(lines) // count)][:count]


def say_in_a_loop(source: Path, count: int) -> float:
    """Codes a second of `Synthesizer.stream` written to files, without the time for loading."""
    code = (
        "import sys, time\nfrom pathlib import Path\n"
        "import torch\nfrom llasa_cli.audio.writers import FileSink\n"
        "from llasa_cli.settings import ModelOptions, SpeechOptions\n"
        "from llasa_cli.synthesis.synthesizer import Synthesizer\n"
        "torch.set_num_threads(1)\n"
        "synthesizer = Synthesizer.load(ModelOptions(device='cpu'))\n"
        "texts = sys.stdin.read().splitlines()\n"
        "synthesizer.synthesize(texts[0], SpeechOptions(seed=1))\n"
        "began, codes = time.monotonic(), 0\n"
        "for number, text in enumerate(texts):\n"
        "    takes = []\n"
        "    with FileSink(Path(sys.argv[1]) / f'{number}.wav', 'wav') as sink:\n"
        "        for chunk in synthesizer.stream(text, SpeechOptions(seed=number), None, takes.append): sink.write(chunk)\n"
        "    codes += sum(len(take.codes) for take in takes)\n"
        "print(codes / (time.monotonic() - began))\n"
    )
    with tempfile.TemporaryDirectory() as folder:
        made = subprocess.run(
            [sys.executable, "-c", code, folder],
            input="\n".join(texts(source, count)),
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
        )
    return float(made.stdout.split()[-1])


def shell_loop(source: Path, count: int, folder: Path) -> float:
    """Codes a second of one `llasa say` for each line."""
    began, seconds = time.monotonic(), 0.0
    for number, text in enumerate(texts(source, count)):
        made = subprocess.run(
            [*LLASA, "say", text, "-o", str(folder / f"say-{number}.wav"), "--device", "cpu", "--json"],
            capture_output=True,
            text=True,
            check=True,
            cwd=ROOT,
        )
        seconds += json.loads(made.stdout)["seconds"]
    return seconds * 50 / (time.monotonic() - began)


# --- kills ---


def kills(arguments: argparse.Namespace, folder: Path) -> bool:
    source = folder / "lines.txt"
    write_list(source, arguments.items)
    began = time.monotonic()
    batch(source, folder / "uninterrupted", *arguments.more)
    uninterrupted_s = time.monotonic() - began
    sample = random.Random(arguments.seed)
    print(f"an uninterrupted run of {arguments.items} items: {uninterrupted_s:.1f} s")
    output = folder / "killed"
    command = [*LLASA, "batch", str(source), "-o", str(output), "--device", "cpu", "--accept-failed", *arguments.more]
    done = []
    for number in range(1, arguments.kills + 1):
        run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT)
        # Every fifth kill comes during the start; the others are spread so that the last one hits the last items.
        wanted = sample.uniform(number - 1, number) * arguments.items / (arguments.kills + 1)
        until = time.monotonic() + (sample.uniform(0.2, 4.0) if number % 5 == 0 else 60.0)
        while time.monotonic() < until and len(rows_so_far(output)) < wanted:
            time.sleep(0.01)
        time.sleep(sample.uniform(0.0, 0.3))
        run.send_signal(signal.SIGKILL)
        run.wait()
        done.append(len(rows_so_far(output)))
    print(f"rows after each of {arguments.kills} kills: {done}")
    last = batch(source, output, *arguments.more)
    print(last.stderr.strip().splitlines()[-1])
    return report(differences(folder / "uninterrupted", output))


def rows_so_far(folder: Path) -> list[bytes]:
    path = folder / "results.jsonl"
    return path.read_bytes().splitlines() if path.is_file() else []


def report(found: list[str]) -> bool:
    print("all files and rows are those of the uninterrupted run" if not found else "; ".join(found))
    return not found


def ray(arguments: argparse.Namespace, folder: Path) -> bool:
    """A cluster of a head and three nodes; workers are killed by SIGKILL, and one node is removed."""
    from ray.cluster_utils import Cluster

    source = folder / "lines.txt"
    write_list(source, arguments.items)
    batch(source, folder / "uninterrupted", *arguments.more)
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    nodes.append(cluster.add_node(num_cpus=1))
    cluster.wait_for_nodes()
    command = [
        *LLASA,
        "batch",
        str(source),
        "-o",
        str(folder / "shared"),
        "--device",
        "cpu",
        "--accept-failed",
        "--json",
    ]
    command += ["--ray", cluster.address, "--workers", "2", *arguments.more]
    sample = random.Random(arguments.seed)
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    killed = 0
    while run.poll() is None and killed < arguments.kills:
        time.sleep(sample.uniform(3.0, 8.0))
        if killed == 1 and nodes:
            cluster.remove_node(nodes.pop(), allow_graceful=False)
            killed += 1
            continue
        workers = actors()
        if workers:
            os.kill(sample.choice(workers), signal.SIGKILL)
            killed += 1
    out, err = run.communicate()
    cluster.shutdown()
    print(err.strip())
    summary = json.loads(out.splitlines()[-1])["summary"]
    print(f"{killed} killed, a node among them; the scheduler lost {summary['lost_workers']} workers")
    return report(differences(folder / "uninterrupted", folder / "shared")) and run.returncode == 0 and killed > 0


def actors() -> list[int]:
    """The processes of the Ray actors."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes().startswith(b"ray::Speaker"):
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


# --- plans, bad items, sameness ---


def plan(arguments: argparse.Namespace, folder: Path) -> bool:
    source = folder / "lines.txt"
    peaks = []
    for lines in (arguments.lines // 5, arguments.lines):
        write_list(source, lines, most_words=12)
        seconds, peak = planned(source, folder / f"out-{lines}")
        peaks.append(peak)
        print(f"{lines} lines ({source.stat().st_size / 1e6:.0f} MB): {seconds:.1f} s, peak memory {peak:.0f} MB")
    return peaks[1] < peaks[0] * 1.25 + 10


def planned(source: Path, output: Path) -> tuple[float, float]:
    """The seconds and the peak memory in MB of a dry run."""
    code = (
        "import resource, sys\nfrom llasa_cli.__main__ import main\n"
        "try: main()\nexcept SystemExit as end: code = end.code\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, file=sys.__stderr__)\nsys.exit(code)\n"
    )
    began = time.monotonic()
    command = [sys.executable, "-c", code, "batch", str(source), "-o", str(output), "--dry-run"]
    made = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    print("  " + made.stderr.splitlines()[0])
    return time.monotonic() - began, float(made.stderr.split()[-1])


def bad(arguments: argparse.Namespace, folder: Path) -> bool:
    import numpy as np
    import soundfile

    soundfile.write(folder / "silent.wav", np.zeros(48_000), 16_000)
    write_list(folder / "lines.txt", arguments.items)
    reasons = {}
    with (folder / "list.jsonl").open("w", encoding="utf-8") as file:
        for number, line in enumerate((folder / "lines.txt").read_text(encoding="utf-8").splitlines()):
            name, _, text = line.partition("|")
            row = {"id": name, "text": text}
            if number % 20 == 7:
                kind = number // 20 % 3
                row |= [
                    {"ref": "absent.wav", "ref_text": "what is said in it"},
                    {"text": " "},
                    {"ref": "silent.wav", "ref_text": "what is said in it"},
                ][kind]
                reasons[name] = ["absent.wav", "empty", "silen"][kind]
            file.write(json.dumps(row) + "\n")
    made = batch(folder / "list.jsonl", folder / "out", check=False)
    found = rows(folder / "out")
    failed = {row["id"]: row["error"] for row in found if row["status"] != "ok"}
    print(made.stderr.strip())
    print(f"exit {made.returncode}, {len(found) - len(failed)} made, {len(failed)} failed of {arguments.items}")
    named = failed.keys() == reasons.keys() and all(reasons[name] in failed[name] for name in failed)
    print("each bad item has its reason" if named else f"reasons are missing: {failed}")
    return made.returncode == 5 and named and len(found) == arguments.items


def same(arguments: argparse.Namespace, folder: Path) -> bool:
    source = folder / "lines.txt"
    write_list(source, arguments.items)
    greedy = ["--temperature", "0", "--dtype", "float32"]
    ways = [["--batch-size", size] for size in ("1", "3", "8", "16")] + [["--workers", "2"], ["--workers", "3"]]
    found = []
    for number, way in enumerate(ways):
        batch(source, folder / str(number), *greedy, *way)
        found.append(contents(folder / str(number)))
        print(f"{' '.join(way)}: {'the same files' if found[-1] == found[0] else 'other files'}")
    return all(one == found[0] for one in found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["speed", "kills", "ray", "plan", "bad", "same"])
    parser.add_argument("--lines", type=int, default=0)
    parser.add_argument("--items", type=int, default=0)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--sample", type=int, default=100, help="lines for the loaded model")
    parser.add_argument("--processes", type=int, default=5, help="lines for the shell loop")
    parser.add_argument("--slots", type=int, default=0)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("more", nargs="*", help="options of batch, after --")
    arguments = parser.parse_args()
    arguments.lines = arguments.lines or (1_000_000 if arguments.what == "plan" else 2000)
    arguments.items = arguments.items or {"bad": 200, "same": 60}.get(arguments.what, 300)
    arguments.kills = arguments.kills or (6 if arguments.what == "ray" else 30)
    run = {"speed": speed, "kills": kills, "ray": ray, "plan": plan, "bad": bad, "same": same}[arguments.what]
    with tempfile.TemporaryDirectory(prefix="llasa-batch-") as folder:
        good = run(arguments, Path(folder))
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
