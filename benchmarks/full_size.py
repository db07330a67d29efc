"""The whole path at full size with random weights: repositories as published, a local hub, download, speech.

    python benchmarks/full_size.py write FOLDER [--size 1b|3b|8b|small]            the repositories
    python benchmarks/full_size.py run FOLDER [--seconds 2] [--dtype auto ...]     serve them, download, speak
    python benchmarks/full_size.py load MODEL --dtype float32|bfloat16|int8|int4   memory of loading, in this process

Published weights are not available everywhere, so only shapes, files and layouts are the published ones: Llasa-1B has 2.74 GB in
one file with a tied head, Llasa-3B a stored head although it is tied, in two files, Llasa-8B its own head, in four files, and
the codec 2.5 GB (`tests/parity/codec.py full --work FOLDER` writes one in the original format). `run` prints for each command its
seconds and its highest resident memory, as counted by the kernel.

`load` prints `ratio`: the highest memory while loading, less that of the program without a model, over the bytes of the weights
in the chosen format (each tensor counted once). Pages of a mapped file count if they are in memory; weights in the file's own
format stay mapped and are not copied.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "hub"), str(ROOT / "tests" / "parity")]

VOCABULARY = 193_800
SIZES: dict[str, dict[str, Any]] = {
    # Llama-3.2-1B, -3B and Llama-3.1-8B, with the files and the head of the published repositories.
    "1b": {"layers": 16, "hidden": 2048, "heads": 32, "inner": 8192, "files": 1, "tied": True, "head": False},
    "3b": {"layers": 28, "hidden": 3072, "heads": 24, "inner": 8192, "files": 2, "tied": True, "head": True},
    "8b": {"layers": 32, "hidden": 4096, "heads": 32, "inner": 14336, "files": 4, "tied": False, "head": True},
    "small": {"layers": 2, "hidden": 64, "heads": 2, "inner": 128, "files": 2, "tied": True, "head": True},
}
REPOS = {"1b": "HKUSTAudio/Llasa-1B", "3b": "HKUSTAudio/Llasa-3B", "8b": "HKUSTAudio/Llasa-8B", "small": "local/small"}
CARD = "---\nlicense: cc-by-nc-4.0\n---\nRandom weights, for measuring.\n"
Shapes = dict[str, tuple[int, ...]]


def write_safetensors(path: Path, shapes: Shapes, dtype: str) -> None:
    """Write random tensors of these shapes, with one of them in memory at a time."""
    import torch

    kind = {"BF16": torch.bfloat16, "F32": torch.float32}[dtype]
    width = kind.itemsize
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, shape in shapes.items():
        size = math.prod(shape) * width
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, shape in shapes.items():
            file.write(sample(name, shape).to(kind).view(torch.uint8).numpy().tobytes())


def sample(name: str, shape: tuple[int, ...]) -> Any:
    """Random values with which signals keep their size and no code is much likelier than another."""
    import torch

    if len(shape) <= 1:
        noise = 0.1 * torch.randn(shape)
        return noise if name.endswith((".bias", ".alpha", ".beta")) else 1 + noise
    if name.endswith("original0"):
        return torch.ones(shape)
    scale = 0.02 if "embed_tokens" in name or "lm_head" in name else 1 / math.sqrt(math.prod(shape[1:]))
    return scale * torch.randn(shape)


def llama_shapes(size: dict[str, Any]) -> Shapes:
    """The shapes of all tensors, under transformers' names."""
    from llasa_cli.lm.llama_config import LlamaConfig
    from llasa_cli.lm.weights import EMBEDDING, HEAD, shapes_of

    head = (VOCABULARY, size["hidden"])
    return (
        {EMBEDDING: head}
        | shapes_of(LlamaConfig.from_json(llama_config(size)))
        | ({HEAD: head} if size["head"] else {})
    )


def llama_config(size: dict[str, Any]) -> dict[str, Any]:
    """config.json as transformers 4 wrote it, with the entries of the published ones that are not needed."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "bos_token_id": 128_000,
        "eos_token_id": [128_001, 128_008, 128_009],
        "head_dim": size["hidden"] // size["heads"],
        "hidden_act": "silu",
        "hidden_size": size["hidden"],
        "intermediate_size": size["inner"],
        "max_position_embeddings": 131_072,
        "model_type": "llama",
        "num_attention_heads": size["heads"],
        "num_hidden_layers": size["layers"],
        "num_key_value_heads": min(8, size["heads"]),
        "rms_norm_eps": 1e-5,
        "rope_scaling": {
            "factor": 32.0,
            "high_freq_factor": 4.0,
            "low_freq_factor": 1.0,
            "original_max_position_embeddings": 8192,
            "rope_type": "llama3",
        },
        "rope_theta": 500_000.0,
        "tie_word_embeddings": size["tied"],
        "torch_dtype": "bfloat16",
        "vocab_size": VOCABULARY,
    }


def write_language_model(folder: Path, size: dict[str, Any]) -> None:
    from llama_tokenizer import write_tokenizer

    write_tokenizer(folder)
    (folder / "config.json").write_text(json.dumps(llama_config(size), indent=2))
    generation = {"eos_token_id": [128_001, 128_008, 128_009], "do_sample": True, "temperature": 0.6, "top_p": 0.9}
    (folder / "generation_config.json").write_text(json.dumps(generation))
    (folder / "README.md").write_text(CARD)
    shapes, count = llama_shapes(size), size["files"]
    if count == 1:
        write_safetensors(folder / "model.safetensors", shapes, "BF16")
        return
    share = sum(map(math.prod, shapes.values())) / count
    parts: list[Shapes] = [{} for _ in range(count)]
    done = 0
    for name, shape in shapes.items():
        parts[min(count - 1, int(done / share))][name] = shape
        done += math.prod(shape)
    names = [f"model-{number:05}-of-{count:05}.safetensors" for number in range(1, count + 1)]
    for name, part in zip(names, parts, strict=True):
        write_safetensors(folder / name, part, "BF16")
    where = {tensor: name for name, part in zip(names, parts, strict=True) for tensor in part}
    index = {"metadata": {"total_size": 2 * int(done)}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def write_codec(folder: Path) -> None:
    """X-Codec2 in transformers' format, at its published size."""
    import torch
    from transformers import Xcodec2Config, Xcodec2Model

    folder.mkdir(parents=True)
    config = Xcodec2Config()
    with torch.device("meta"):
        shapes = {name: tuple(tensor.shape) for name, tensor in Xcodec2Model(config).state_dict().items()}
    write_safetensors(folder / "model.safetensors", shapes, "F32")
    config.architectures = ["Xcodec2Model"]
    (folder / "config.json").write_text(config.to_json_string())
    (folder / "README.md").write_text(CARD)


def measured(command: list[str], environment: dict[str, str]) -> dict[str, Any]:
    """Run a command; its seconds, processor seconds, and highest resident memory."""
    began = time.monotonic()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    output = process.stdout.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}:\n{output}")
    return {
        "command": " ".join(command[2:]),
        "wall_s": round(time.monotonic() - began, 1),
        "processor_s": round(used.ru_utime + used.ru_stime, 1),
        "peak_gb": round(used.ru_maxrss * 1024 / 1e9, 2),
        "output": output.strip().splitlines()[-12:],
    }


def run(folder: Path, seconds: float, dtypes: list[str], name: str) -> Iterator[dict[str, Any]]:
    """Serve the repositories, download a model twice, and speak in each dtype."""
    from fake_hub import FakeHub, repositories_in

    with tempfile.TemporaryDirectory(dir=folder.parent) as cache, FakeHub(repositories_in(folder)) as hub:
        environment = os.environ | {
            "HF_ENDPOINT": hub.url,
            "LLASA_CACHE": cache,
            "HF_HOME": f"{cache}/hf",
            "HF_TOKEN": "hf_of_a_local_hub",
            "PYTHONPATH": str(ROOT),
        }
        environment.pop("HF_HUB_OFFLINE", None)
        llasa = [sys.executable, "-m", "llasa_cli"]
        yield measured([*llasa, "download", name], environment)
        yield measured([*llasa, "download", name], environment)
        for dtype in dtypes:
            out = f"{cache}/{dtype}.wav"
            text = "A chance to leave him alone, but he just wanted to see him again."
            flags = ["--dtype", dtype, "--max-seconds", str(seconds), "--retries", "0", "--seed", "1", "-o", out]
            yield measured([*llasa, "say", "-m", name, *flags, text], environment)


def load(folder: Path, dtype: str) -> dict[str, Any]:
    """Load one model in this process and report its memory."""
    from llasa_cli.checkpoint.safetensors_header import locate_tensors
    from llasa_cli.lm.loader import load_language_model
    from llasa_cli.prompt import PromptFormat

    prompt_format = PromptFormat.load(folder)
    count = sum(math.prod(place.shape) for place in locate_tensors(folder).values())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    began = time.monotonic()
    model = load_language_model(folder, prompt_format, "cpu", dtype)
    seconds = time.monotonic() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    width = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0, "int8": 1.0, "int4": 0.5}[dtype]
    next(model.generate(prompt_format.prompt("Hello."), sampling(), 0))  # loading is complete: it generates
    weights = count * width
    return {
        "model": str(folder),
        "dtype": dtype,
        "weights_gb": round(weights / 1e9, 3),
        "before_gb": round(before / 1e9, 3),
        "peak_gb": round(peak / 1e9, 3),
        "ratio": round((peak - before) / weights, 3),
        "seconds": round(seconds, 1),
    }


def sampling() -> Any:
    from llasa_cli.settings import SamplingOptions

    return SamplingOptions(temperature=0.0, max_seconds=0.1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = parser.add_subparsers(dest="what", required=True)
    writing = kinds.add_parser("write")
    writing.add_argument("folder", type=Path)
    writing.add_argument("--size", choices=SIZES, default="1b")
    writing.add_argument(
        "--untied", action="store_true", help="write a head of its own even if the published model has none"
    )
    writing.add_argument("--files", type=int, help="the number of weight files")
    writing.add_argument("--no-codec", action="store_true")
    running = kinds.add_parser("run")
    running.add_argument("folder", type=Path)
    running.add_argument("--seconds", type=float, default=2.0)
    running.add_argument("--dtype", nargs="*", default=["auto"])
    running.add_argument("--model", default="1b")
    loading = kinds.add_parser("load")
    loading.add_argument("folder", type=Path)
    loading.add_argument("--dtype", default="float32")
    options = parser.parse_args()
    if options.what == "load":
        print(json.dumps(load(options.folder, options.dtype)))
    elif options.what == "run":
        for line in run(options.folder.resolve(), options.seconds, options.dtype, options.model):
            print(json.dumps(line), flush=True)
    else:
        size = SIZES[options.size] | ({"tied": False, "head": True} if options.untied else {})
        size |= {"files": options.files} if options.files else {}
        write_language_model(options.folder / REPOS[options.size], size)
        if not options.no_codec:
            write_codec(options.folder / "HKUSTAudio" / "xcodec2-hf")


if __name__ == "__main__":
    main()
