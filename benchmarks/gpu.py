"""Decoding on a GPU: this package against transformers' `generate`, on the same random weights, in one run.

    python benchmarks/gpu.py [--sizes 1b 3b 8b] [--batches 1 4 16 64] [--output gpu.json]
    python benchmarks/gpu.py --dry-run          the same on the CPU at a tiny shape: shows that it runs, its figures mean nothing

For each size: `generate` with one sequence (greedy, END masked out, full head), and ours with one and more, greedy and drawn
as by default, with recorded steps (CUDA graphs) and, for one sequence, without. Medians of `--repeats` runs that take turns.
The limit is what a plain read of as many bytes as the step's weights takes, measured on the same device; `of_limit` is the
share of it that is reached: 1 would be a step that takes as long as reading its weights once.

Printed and, with --output, saved: one JSON object. Off a GPU it says "not run on a GPU".
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from codec import machine  # noqa: E402
from llasa_cli.device import NumberFormat, pick_format  # noqa: E402
from llasa_cli.lm.engine import GenerationRequest, SlotEngine  # noqa: E402
from llasa_cli.lm.linear import Embedding, Matrix  # noqa: E402
from llasa_cli.lm.llama import Layer, Llama, LlamaConfig  # noqa: E402
from llasa_cli.prompt import PromptFormat  # noqa: E402
from llasa_cli.settings import ATTENTIONS, SamplingOptions  # noqa: E402

SIZES: dict[str, dict[str, Any]] = {
    "1b": {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32},
    "3b": {"hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 28, "num_attention_heads": 24},
    "8b": {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32},
    "dry": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4},
}
HEADS = {"1b": 64, "3b": 128, "8b": 128, "dry": 16}
ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
DRAWN = SamplingOptions()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=["1b", "3b", "8b"], default=["1b", "3b", "8b"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 4, 16, 64])
    parser.add_argument("--dtypes", nargs="+", default=["bf16", "int8"], help="bf16, fp16, int8")
    parser.add_argument("--attention", choices=ATTENTIONS, default="auto")
    parser.add_argument("--codes", type=int, default=200, help="that each sequence speaks")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dry-run", action="store_true", help="on the CPU at a tiny shape")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    if arguments.dry_run:
        arguments.device, arguments.sizes, arguments.dtypes = "cpu", ["dry"], ["fp32"]
        arguments.codes, arguments.repeats = min(arguments.codes, 20), min(arguments.repeats, 2)
    device = torch.device(arguments.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.exit(1, "not run on a GPU: torch finds none here. --dry-run shows that the script runs.\n")
    result = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else machine(),
        "torch": torch.__version__,
        "note": None if device.type == "cuda" else "not run on a GPU: a dry run, whose figures mean nothing",
        "codes": arguments.codes,
        "sizes": {size: measured(size, device, arguments) for size in arguments.sizes},
    }
    print(json.dumps(result, indent=1))
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def measured(size: str, device: torch.device, arguments: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        prompt_format = write_tokenizer(folder, size)
        theirs = random_model(size, prompt_format, device)
        prompt = prompt_format.prompt("The morning train was crowded with people going to work.")
        rows: dict[str, Any] = {}
        greedy = SamplingOptions(temperature=0, max_seconds=arguments.codes / 50)
        for dtype in arguments.dtypes:
            kind = pick_format(dtype, device)
            network = own_network(theirs, prompt_format, kind, device, arguments.attention)
            limit = seconds_to_read(weight_bytes(network), device)
            works: dict[str, tuple[int, Callable[[], None]]] = {}
            for count in arguments.batches:
                for name, sampling in (("greedy", greedy), ("drawn", DRAWN)):
                    works[f"{dtype} x{count} {name}"] = (
                        count,
                        speaks(network, prompt_format, prompt, sampling, count, arguments),
                    )
            if device.type == "cuda":
                works[f"{dtype} x1 greedy, not recorded"] = (
                    1,
                    speaks(network, prompt_format, prompt, greedy, 1, arguments, False),
                )
            if not rows:
                works["transformers generate x1"] = 1, generates(theirs, prompt_format, prompt, arguments.codes, device)
            for name, seconds in turns(
                {name: work for name, (_, work) in works.items()}, device, arguments.repeats
            ).items():
                step = seconds / arguments.codes
                rows[name] = {
                    "codes_per_s": round(works[name][0] / step, 1),
                    "ms_a_step": round(1000 * step, 3),
                    "of_limit": round(limit / step, 3),
                }
            rows[f"{dtype} limit"] = {
                "ms_a_step": round(1000 * limit, 3),
                "gigabytes_per_s": round(weight_bytes(network) / limit / 1e9),
                "attention": network.attention.kind,
            }
            del network
        plain = rows["transformers generate x1"]["codes_per_s"]
        for row in rows.values():
            if "codes_per_s" in row:
                row["ratio"] = round(row["codes_per_s"] / plain, 2)
        if device.type == "cuda":
            rows["peak_gigabytes"] = round(torch.cuda.max_memory_allocated(device) / 1e9, 1)
        return rows


def write_tokenizer(folder: Path, size: str) -> PromptFormat:
    """The published layout of ids; text tokens are the built-in voice's."""
    from recipes.tiny.tokenizer import write_tokenizer as write

    if size == "dry":
        write(folder, 64, ())
    else:
        write(folder, 65_536, (), first_code_id=128_264)
    return PromptFormat.load(folder)


def random_model(size: str, prompt_format: PromptFormat, device: torch.device) -> Any:
    """transformers' Llama, made where it runs, in bfloat16 (dry: float32)."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=prompt_format.vocabulary_size,
        num_key_value_heads=2 if size == "dry" else 8,
        head_dim=HEADS[size],
        rope_parameters=dict(ROPE),
        rms_norm_eps=1e-5,
        tie_word_embeddings=size == "1b",
        max_position_embeddings=131072,
        **SIZES[size],
    )
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float32 if size == "dry" else torch.bfloat16)
    try:
        with device:
            return LlamaForCausalLM(config).eval()
    finally:
        torch.set_default_dtype(torch.float32)


def own_network(
    theirs: Any, prompt_format: PromptFormat, kind: NumberFormat, device: torch.device, attention: str
) -> Llama:
    """The same weights in ours."""
    weights = theirs.state_dict()
    shape = LlamaConfig.of(theirs.config.to_dict())

    def matrix(*names: str) -> Matrix:
        parts = [weights[name + ".weight"] for name in names]
        return Matrix.of(parts, sum(map(len, parts)), parts[0].shape[1], kind, device)

    def layer(index: int) -> Layer:
        own = f"model.layers.{index}."
        return Layer(
            input_norm=weights[own + "input_layernorm.weight"].to(kind.states),
            query_key_value=matrix(*(f"{own}self_attn.{part}_proj" for part in "qkv")),
            output=matrix(own + "self_attn.o_proj"),
            middle_norm=weights[own + "post_attention_layernorm.weight"].to(kind.states),
            gate_up=matrix(own + "mlp.gate_proj", own + "mlp.up_proj"),
            down=matrix(own + "mlp.down_proj"),
        )

    first, count = prompt_format.first_code_id, prompt_format.code_count
    head = weights["lm_head.weight"]
    spoken = [head[first : first + count], head[prompt_format.end_id : prompt_format.end_id + 1]]
    return Llama(
        shape,
        Embedding(weights["model.embed_tokens.weight"].to(kind.stored), kind.states),
        [layer(index) for index in range(shape.layers)],
        weights["model.norm.weight"].to(kind.states),
        Matrix.of(spoken, count + 1, shape.hidden, kind, device),
        attention,
    )


def weight_bytes(network: Llama) -> int:
    """Read by a step: everything but the embedding's other rows."""
    layers = sum(value.bytes for layer in network.layers for value in vars(layer).values() if isinstance(value, Matrix))
    return layers + network.head.bytes


def seconds_to_read(count: int, device: torch.device) -> float:
    """A plain read of `count` bytes, once the device has warmed up."""
    buffer = torch.ones(count // 4, dtype=torch.float32, device=device)
    return turns({"read": lambda: buffer.sum()}, device, 10)["read"]


def speaks(
    network: Llama,
    prompt_format: PromptFormat,
    prompt: Any,
    sampling: SamplingOptions,
    count: int,
    arguments: argparse.Namespace,
    records: bool = True,
) -> Callable[[], None]:
    """`count` sequences through `codes` steps, in a batch that is kept; who says END makes room for another."""
    batch = SlotEngine(network, prompt_format, count, static=True)
    batch._step._records = records and network.device.type == "cuda"  # type: ignore[attr-defined]
    seeds = iter(range(10**9))

    def work() -> None:
        for _ in range(arguments.codes):
            while batch.free:
                seed = next(seeds)
                batch.add(GenerationRequest(prompt, sampling, seed, seed))
            batch.step()

    return work


def generates(
    theirs: Any, prompt_format: PromptFormat, prompt: Any, codes: int, device: torch.device
) -> Callable[[], None]:
    """transformers' loop, drawing greedily among the codes."""
    from transformers import LogitsProcessor, LogitsProcessorList

    spoken = slice(prompt_format.first_code_id, prompt_format.first_code_id + prompt_format.code_count)

    class OnlyCodes(LogitsProcessor):
        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            masked = torch.full_like(scores, -torch.inf)
            masked[:, spoken] = scores[:, spoken]
            return masked

    ids = torch.tensor([prompt.ids], device=device)

    def work() -> None:
        theirs.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=codes,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=prompt_format.pad_id,
            logits_processor=LogitsProcessorList([OnlyCodes()]),
        )

    return work


def turns(works: dict[str, Callable[[], object]], device: torch.device, repeats: int) -> dict[str, float]:
    """Median seconds of each, run by turns after a round that does not count."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for number in range(repeats + 1):
        for name, work in works.items():
            began = time.perf_counter()
            with torch.inference_mode():
                work()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if number:
                times[name].append(time.perf_counter() - began)
    return {name: statistics.median(found) for name, found in times.items()}


if __name__ == "__main__":
    main()
