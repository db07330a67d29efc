"""Speed of generating speech codes: this package in each number format and batch size, transformers' `generate`, llama.cpp.

    python benchmarks/speed.py [MODEL] [--random 1b] [--formats bf16 int8 int4] [--batches 1 16] [--json speed.json]

MODEL is a name or folder (by default the built-in voice). `--random 1b` writes a checkpoint of Llasa-1B's shape with random
bfloat16 weights, and keeps it in `--work`. All generate greedily from the same prompt.

Each run is a process of its own, so that every start is a cold start (with files in the page cache), memory is that of one run,
and no two models are in memory at once. Runs take turns, `--rounds` times, so that other work on the machine affects all
alike. The table has medians over the rounds of the median step of a round.

    ms, best ms     a step, which gives one code for each sequence of the batch; the fastest tenth of steps is below "best"
    codes/s         50 are a second of speech, hence "x real time"
    GB/s, of limit  bytes of weights read per second, and their share of the rate of a plain read of as many bytes, which is
                    measured in the same rounds
    prompt s        prefill of the prompt, and the first code; `--prompt-codes 750` adds a reference of 15 seconds
    load s          from the end of the imports until the weights are in place
    start s         from the start of the process to the first code
    sound s         from the start of the process to the first samples of `llasa say`, for models that come with a codec
    peak GB         highest resident memory, including mapped files

llama.cpp takes part if `--llama-python` (by default this Python) has `llama_cpp` or `xllamacpp`, and `gguf`; its files are written to
`--work`. It multiplies by the whole head of 193,800 rows, as `generate` does; this package by the 65,537 rows of speech.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

BEGAN = time.time()
ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
sys.path.append(str(ROOT / "tests" / "parity"))  # behind the benchmarks, which have a codec.py too
TEXT = "The morning train was crowded with people going to work."
LLAMA_KINDS = ("f16", "q8_0", "q4_0")
SHAPES: dict[str, dict[str, Any]] = {
    "1b": {
        "hidden_size": 2048,
        "intermediate_size": 8192,
        "num_hidden_layers": 16,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 64,
    },
    "3b": {
        "hidden_size": 3072,
        "intermediate_size": 8192,
        "num_hidden_layers": 28,
        "num_attention_heads": 24,
        "num_key_value_heads": 8,
        "head_dim": 128,
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="tiny")
    parser.add_argument("--random", choices=sorted(SHAPES), help="instead of MODEL")
    parser.add_argument("--formats", nargs="*", default=["fp32", "bf16", "fp16", "int8", "int4"])
    parser.add_argument("--batches", nargs="*", type=int, default=[1])
    parser.add_argument(
        "--peers", nargs="*", default=["generate", "llama.cpp"], help="generate, llama.cpp, or an empty list"
    )
    parser.add_argument("--prompt-codes", type=int, default=0, help="codes of a reference in the prompt")
    parser.add_argument("--codes", type=int, default=24, help="steps that each run times")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--llama-python", default=sys.executable)
    parser.add_argument("--work", type=Path, default=Path.home() / ".cache" / "llasa" / "benchmarks")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(run_one(arguments)))
        return
    if arguments.random:
        arguments.model = str(random_checkpoint(arguments.work / f"llama-{arguments.random}", SHAPES[arguments.random]))
    result = measure(arguments)
    print(table(result))


# --- the runs, each in a process of its own ---


def run_one(arguments: argparse.Namespace) -> dict[str, Any]:
    """`--one`: "read BYTES", "generate bf16", "say bf16", or "own FORMAT BATCH"."""
    from llasa_cli.__main__ import limit_spinning

    gc.disable()  # until the model is loaded, as the command line does
    limit_spinning()  # before torch is imported
    import torch

    kind, *rest = arguments.one.split()
    torch.set_num_threads(arguments.threads)
    if kind == "read":
        return run_read(int(rest[0]))
    return {"own": run_own, "generate": run_generate, "say": run_say}[kind](arguments, *rest)


def run_read(size: int) -> dict[str, Any]:
    """Read `size` bytes by torch's sum and by this package's product with one row, and take the quicker of the two."""
    import torch

    from llasa_cli.lm.cpu.build import empty_huge_pages, load_kernels

    values = empty_huge_pages((max(1, size // 8192), 2048), torch.float32).fill_(1.0)
    ways: list[Callable[[], object]] = [values.sum]
    kernels, row = load_kernels(), torch.ones(1, 2048)
    if kernels is not None:
        ways.append(lambda: kernels.multiply("fp32", row, values, None, len(values)))
    return {"steps_s": [min(seconds_of(way) for way in ways) for _ in range(9)], "weight_bytes": values.nbytes}


def run_own(arguments: argparse.Namespace, kind: str, batch: str) -> dict[str, Any]:
    import torch

    from llasa_cli.checkpoint.resolve import find_model
    from llasa_cli.lm.loader import load_language_model
    from llasa_cli.lm.request import GenerationRequest
    from llasa_cli.prompt import PromptFormat, Reference
    from llasa_cli.settings import SamplingOptions

    began = time.perf_counter()
    folder = find_model(arguments.model)
    prompt_format = PromptFormat.load(folder)
    model = load_language_model(folder, prompt_format, "cpu", kind)
    gc.freeze()
    gc.enable()
    loaded = time.perf_counter()
    reference = Reference("", tuple(range(arguments.prompt_codes))) if arguments.prompt_codes else None
    prompt, sampling = prompt_format.prompt(TEXT, reference), SamplingOptions(temperature=0, max_seconds=60)
    with torch.inference_mode():
        engine = model.batch(int(batch))
        for number in range(int(batch)):
            engine.add(GenerationRequest(prompt, sampling, seed=number, tag=number))
        engine.step()
        first, cold = time.perf_counter(), time.time()
        steps = []
        while len(steps) < arguments.codes:
            # A sequence that ends is added again, so that the batch stays full.
            steps.append(seconds_of(lambda: [engine.add(one.request) for one in engine.step()]))
        codes = list(engine.codes(0))
    return {
        "load_s": loaded - began,
        "prompt_s": first - loaded,
        "first_at": cold,
        "steps_s": steps,
        "weight_bytes": model.network.weight_bytes,
        "peak_bytes": peak_bytes(),
        "tokens": codes,
    }


def run_generate(arguments: argparse.Namespace, kind: str) -> dict[str, Any]:
    """transformers' own loop and classes, as a model's card recommends them, with the whole head."""
    import torch
    from transformers import AutoModelForCausalLM, LogitsProcessor, LogitsProcessorList

    from llasa_cli.checkpoint.resolve import find_model
    from llasa_cli.prompt import PromptFormat

    times: list[float] = []

    class Clock(LogitsProcessor):
        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            times.append(time.perf_counter())
            return scores

    began = time.perf_counter()
    folder = find_model(arguments.model)
    prompt_format = PromptFormat.load(folder)
    dtype = {"bf16": torch.bfloat16, "fp32": torch.float32, "fp16": torch.float16}[kind]
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    gc.enable()
    loaded, loaded_at = time.perf_counter(), time.time()
    ids = torch.tensor([prompt_format.prompt(TEXT).ids])
    made = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=arguments.codes + 1,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=prompt_format.pad_id,
        logits_processor=LogitsProcessorList([Clock()]),
    )
    return {
        "load_s": loaded - began,
        "prompt_s": times[0] - loaded,
        "first_at": loaded_at + times[0] - loaded,
        "steps_s": [after - before for before, after in itertools.pairwise(times)],
        "weight_bytes": sum(tensor.nbytes for tensor in model.parameters()),
        "peak_bytes": peak_bytes(),
        "tokens": made[0, ids.shape[1] :].tolist(),
    }


def run_say(arguments: argparse.Namespace, kind: str) -> dict[str, Any]:
    """From the process's start to the first samples, as `llasa say` gets them."""
    from llasa_cli.settings import ModelOptions, SpeechOptions
    from llasa_cli.synthesis.synthesizer import Synthesizer
    from llasa_cli.synthesis.text_to_speech import StreamSettings

    speech = Synthesizer.load(ModelOptions(model=arguments.model, device="cpu", dtype=kind))
    gc.freeze()
    gc.enable()

    class AtOnce:
        """Hears each piece when it is made."""

        wants = staticmethod(lambda text: True)
        watch = staticmethod(iter)
        hold = staticmethod(lambda pieces, sampling_rate: iter(pieces))

    next(iter(speech.stream(TEXT, SpeechOptions(seed=1), settings=StreamSettings(gate=AtOnce()))))
    return {"first_at": time.time()}


def seconds_of(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


# --- taking turns ---


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    runs: dict[str, Callable[[], dict[str, Any]]] = {}
    if "generate" in arguments.peers:
        runs["generate bf16"] = child(arguments, "generate bf16")
    if "llama.cpp" in arguments.peers:
        runs |= llama_runs(arguments)
    for kind in arguments.formats:
        for batch in arguments.batches:
            runs[f"own {kind} {batch}"] = child(arguments, f"own {kind} {batch}")
        if not arguments.random and has_codec(arguments.model):
            runs[f"say {kind}"] = child(arguments, f"say {kind}")
    if not runs:
        raise SystemExit("There is nothing to measure: name a format or a peer.")
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in runs}
    for number in range(arguments.rounds):
        for name, run in runs.items():
            found[name].append(run())
            if "weight_bytes" in found[name][-1] and name.endswith((" 1", "bf16")):
                size = f"read {found[name][-1]['weight_bytes']}"
                found.setdefault(size, []).append(child(arguments, size)())
        print(f"round {number + 1} of {arguments.rounds}", file=sys.stderr)
        result = {"machine": machine(arguments), "model": arguments.model, "rows": rows(found), "runs": found}
        if arguments.json:  # after each round, in case the script is stopped
            arguments.json.write_text(json.dumps(result, indent=1) + "\n")
    return result


def child(arguments: argparse.Namespace, what: str) -> Callable[[], dict[str, Any]]:
    flags = [
        "--one",
        what,
        "--prompt-codes",
        str(arguments.prompt_codes),
        "--codes",
        str(arguments.codes),
        "--threads",
        str(arguments.threads),
    ]
    return lambda: last_line([sys.executable, __file__, arguments.model, *flags], arguments.threads)


def last_line(command: list[str], threads: int) -> dict[str, Any]:
    """Run a command and read the JSON that it prints last."""
    began = time.time()
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if "first_at" in result:
        result["start_s"] = result["first_at"] - began
    return result


def llama_runs(arguments: argparse.Namespace) -> dict[str, Callable[[], dict[str, Any]]]:
    from llasa_cli.checkpoint.resolve import find_model

    peer, python = str(Path(__file__).with_name("llama_peer.py")), arguments.llama_python
    check = "import gguf, llama_peer; raise SystemExit(llama_peer.find_library() is None)"
    if subprocess.run([python, "-c", check], capture_output=True, cwd=Path(peer).parent).returncode:
        print("llama.cpp is left out: llama_cpp and xllamacpp, or gguf, are not installed", file=sys.stderr)
        return {}
    folder, runs = find_model(arguments.model), {}
    arguments.work.mkdir(parents=True, exist_ok=True)
    for kind in LLAMA_KINDS:
        path = arguments.work / f"{folder.name}.{kind}.gguf"
        if not path.is_file():
            subprocess.run([python, peer, "write", str(folder), str(path), kind], check=True)
        for batch in arguments.batches:
            sizes = (40 + arguments.prompt_codes, arguments.codes, arguments.threads, batch)
            command = [python, peer, "run", str(path), *map(str, sizes)]
            runs[f"llama.cpp {kind} {batch}"] = lambda command=command: last_line(command, arguments.threads)
    return runs


def has_codec(model: str) -> bool:
    from llasa_cli.checkpoint.resolve import find_model

    return (find_model(model) / "codec").is_dir()


def machine(arguments: argparse.Namespace) -> dict[str, Any]:
    import torch
    import transformers

    from codec import machine as processor

    return {
        "processor": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": arguments.threads,
        "system": platform.platform(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


# --- the table ---


def rows(found: dict[str, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """One row of medians for each measured combination."""

    def middle(name: str, key: str) -> float | None:
        values = [run[key] for run in found.get(name, []) if key in run]
        return statistics.median(values) if values else None

    for runs in found.values():
        for run in runs:
            if "steps_s" in run:
                run["step_s"] = statistics.median(run["steps_s"])
    reference = middle("generate bf16", "step_s")
    made = []
    for name in found:
        step = middle(name, "step_s")
        if name.startswith(("read", "say")) or step is None:
            continue
        batch = 1 if name.startswith("generate") else int(name.split()[2])
        size = found[name][0]["weight_bytes"]
        read = middle(f"read {size}", "step_s")
        made.append(
            {
                "name": name,
                "batch": batch,
                "ms": step * 1000,
                "best_ms": 1000 * statistics.quantiles([one for run in found[name] for one in run["steps_s"]], n=10)[0],
                "codes_per_s": batch / step,
                "times_real_time": batch / step / 50,
                "bytes": size,
                "gb_per_s": size / step / 1e9,
                "of_limit": read / step if read and batch == 1 else None,
                "limit_gb_per_s": size / read / 1e9 if read else None,
                "to_generate": reference * batch / step if reference else None,
                "prompt_s": middle(name, "prompt_s"),
                "load_s": middle(name, "load_s"),
                "start_s": middle(name, "start_s"),
                "sound_s": middle(f"say {name.split()[1]}", "start_s") if name.endswith(" 1") else None,
                "peak_bytes": middle(name, "peak_bytes"),
            }
        )
    return made


COLUMNS: tuple[tuple[str, Callable[[dict[str, Any]], Any], str], ...] = (
    ("codes/s", lambda row: row["codes_per_s"], "9.1f"),
    ("x real time", lambda row: row["times_real_time"], "12.2f"),
    ("ms", lambda row: row["ms"], "8.2f"),
    ("best ms", lambda row: row["best_ms"], "9.2f"),
    ("GB", lambda row: row["bytes"] / 1e9, "7.3f"),
    ("GB/s", lambda row: row["gb_per_s"], "7.1f"),
    ("of limit", lambda row: row["of_limit"], "9.0%"),
    ("x generate", lambda row: row["to_generate"], "11.1f"),
    ("prompt s", lambda row: row["prompt_s"], "10.2f"),
    ("load s", lambda row: row["load_s"], "8.2f"),
    ("start s", lambda row: row["start_s"], "9.2f"),
    ("sound s", lambda row: row["sound_s"], "9.2f"),
    ("peak GB", lambda row: row["peak_bytes"] / 1e9, "9.2f"),
)


def table(result: dict[str, Any]) -> str:
    about = result["machine"]
    lines = [
        f"{about['processor']}, {about['threads']} threads of {about['cores']} cores, torch {about['torch']}, "
        f"transformers {about['transformers']}; {result['model']}",
        f"{'':20}" + "".join(f"{name:>{int(form.split('.')[0])}}" for name, _, form in COLUMNS),
    ]
    for row in result["rows"]:
        cells = ((value(row), form) for _, value, form in COLUMNS)
        lines.append(
            f"{row['name']:20}"
            + "".join(
                f"{'':>{int(form.split('.')[0])}}" if value is None else f"{value:{form}}" for value, form in cells
            )
        )
    return "\n".join(lines)


def random_checkpoint(folder: Path, shape: dict[str, Any]) -> Path:
    """Write a Llasa of that shape with random bfloat16 weights, unless it is there already."""
    import torch
    from llama_tokenizer import write_tokenizer
    from safetensors.torch import save_file

    from llasa_cli.lm.llama_config import LlamaConfig
    from llasa_cli.lm.weights import EMBEDDING, shapes_of
    from recipes.heart.tokenizer import CHAT_TEMPLATE

    if (folder / "config.json").is_file():
        return folder
    write_tokenizer(folder, has_merges=True)
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE)  # nearly every byte is a token, as no published one is
    rope = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 32.0, "low_freq_factor": 1.0}
    rope |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 193_800, "dtype": "bfloat16"}
    config |= {"tie_word_embeddings": True, "rms_norm_eps": 1e-5, "max_position_embeddings": 131_072}
    config |= shape | {"rope_parameters": rope}
    shapes = {EMBEDDING: (193_800, shape["hidden_size"])} | shapes_of(LlamaConfig.from_json(config))
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for name, size in shapes.items():
        weights[name] = torch.ones(size, dtype=torch.bfloat16)
        if len(size) > 1:
            weights[name].normal_(0, 0.02, generator=generator)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    return folder


if __name__ == "__main__":
    main()
