"""Decoding on a GPU: this package against transformers' `generate`, on the same random weights, in one run.

    python benchmarks/gpu.py [--sizes 1b 3b 8b] [--batches 1 4 16 64] [--output gpu.json]
    python benchmarks/gpu.py --dry-run          the same calls on a CPU at a tiny shape; its figures mean nothing

For each size: `generate` with one sequence (greedy, END masked out, full head), and this package with one and more sequences,
greedy and with the default sampling, as CUDA graphs and, for one sequence, call by call. Runs take turns `--repeats` times, and
medians are printed. `limit` is a plain read of as many bytes as a step's weights take, on the same device; `of_limit` is the share
of it that is reached: 1 would be a step that takes no longer than reading its weights once.

Printed and, with --output, saved: one JSON object. Without a GPU the script exits with 1.

The dry run takes the GPU's code paths as far as a CPU can: the step for CUDA graphs without capture, 16-bit states, torch's
kernels instead of those in C.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(Path(__file__).parent)]

from codec import machine  # noqa: E402
from llasa_cli.device import WeightFormat, pick_weight_format  # noqa: E402
from llasa_cli.lm.cuda_graphs import GraphedDecodeStep  # noqa: E402
from llasa_cli.lm.engine import SlotEngine  # noqa: E402
from llasa_cli.lm.layer import LayerWeights  # noqa: E402
from llasa_cli.lm.linear import Embedding, Linear  # noqa: E402
from llasa_cli.lm.llama import Llama  # noqa: E402
from llasa_cli.lm.llama_config import LlamaConfig  # noqa: E402
from llasa_cli.lm.request import GenerationRequest  # noqa: E402
from llasa_cli.prompt import Prompt, PromptFormat  # noqa: E402
from llasa_cli.settings import ATTENTIONS, SamplingOptions  # noqa: E402

TEXT = "The morning train was crowded with people going to work."
SIZES: dict[str, dict[str, Any]] = {
    "1b": {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "num_attention_heads": 32},
    "3b": {"hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 28, "num_attention_heads": 24},
    "8b": {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32},
    "dry": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4},
}
HEAD_DIMS = {"1b": 64, "3b": 128, "8b": 128, "dry": 16}
ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500000.0,
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
GENERATE = "transformers generate x1"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", choices=["1b", "3b", "8b"], default=["1b", "3b", "8b"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 4, 16, 64])
    parser.add_argument("--dtypes", nargs="+", default=["bf16", "int8"], help="bf16, fp16, int8")
    parser.add_argument("--attention", choices=ATTENTIONS, default="auto")
    parser.add_argument("--codes", type=int, default=200, help="of each sequence")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dry-run", action="store_true", help="on the CPU at a tiny shape")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    if arguments.dry_run:
        os.environ["LLASA_KERNELS"] = "torch"
        arguments.device, arguments.sizes = "cpu", ["dry"]
        arguments.codes, arguments.repeats = min(arguments.codes, 10), 1
        torch.set_num_threads(1)  # the models are so small that threads only wait for each other
    device = torch.device(arguments.device)
    if device.type == "cuda" and not torch.cuda.is_available():
        parser.exit(1, "Not run: torch finds no CUDA device here. Use --dry-run to see that the script works.\n")
    result = {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else machine(),
        "torch": torch.__version__,
        "note": None if device.type == "cuda" else "not run on a GPU: a dry run, whose figures mean nothing",
        "codes": arguments.codes,
        "sizes": {size: measure(size, device, arguments) for size in arguments.sizes},
    }
    print(json.dumps(result, indent=1))
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def measure(size: str, device: torch.device, arguments: argparse.Namespace) -> dict[str, Any]:
    """The rows of one size, by name."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        prompt_format = write_tokenizer(folder, size)
    theirs = random_model(size, prompt_format, device)
    prompt = prompt_format.prompt(TEXT)
    greedy = SamplingOptions(temperature=0, max_seconds=arguments.codes / 50)
    rows: dict[str, Any] = {}
    for dtype in arguments.dtypes:
        # The format is a GPU's, in a dry run too: 16-bit states.
        network = own_network(
            theirs, prompt_format, pick_weight_format(dtype, torch.device("cuda")), device, arguments.attention
        )
        limit = seconds_to_read(network.weight_bytes, device)
        runs = [
            (count, name, sampling, True)
            for count in arguments.batches
            for name, sampling in (("greedy", greedy), ("sampled", SamplingOptions()))
        ]
        works: dict[str, tuple[int, Callable[[], None]]] = {
            f"{dtype} x{count} {name}": (
                count,
                decoding(network, prompt_format, prompt, sampling, count, arguments.codes, captures),
            )
            for count, name, sampling, captures in [*runs, (1, "greedy, call by call", greedy, False)]
        }
        if not rows:
            works[GENERATE] = 1, generating(theirs, prompt_format, prompt, arguments.codes, device)
        times = take_turns({name: work for name, (_, work) in works.items()}, device, arguments.repeats)
        for name, seconds in times.items():
            step = seconds / arguments.codes
            rows[name] = {
                "codes_per_s": round(works[name][0] / step, 1),
                "ms_per_step": round(1000 * step, 3),
                "of_limit": round(limit / step, 3),
            }
        rows[f"{dtype} limit"] = {
            "ms_per_step": round(1000 * limit, 3),
            "gigabytes_per_s": round(network.weight_bytes / limit / 1e9),
            "attention": network.attention.kind,
        }
        del network
    reference = rows[GENERATE]["codes_per_s"]
    for row in rows.values():
        if "codes_per_s" in row:
            row["ratio"] = round(row["codes_per_s"] / reference, 2)
    if device.type == "cuda":
        rows["peak_gigabytes"] = round(torch.cuda.max_memory_allocated(device) / 1e9, 1)
    return rows


def write_tokenizer(folder: Path, size: str) -> PromptFormat:
    """The published layout of ids; the text tokens are the built-in voice's."""
    from recipes.heart.tokenizer import write_tokenizer as write

    if size == "dry":
        write(folder, 64, ())
    else:
        write(folder, 65_536, (), first_code_id=128_264)
    return PromptFormat.load(folder)


def random_model(size: str, prompt_format: PromptFormat, device: torch.device) -> Any:
    """transformers' Llama with random bfloat16 weights, created on the device."""
    from transformers import LlamaConfig as TheirConfig
    from transformers import LlamaForCausalLM

    config = TheirConfig(
        vocab_size=prompt_format.vocabulary_size,
        num_key_value_heads=2 if size == "dry" else 8,
        head_dim=HEAD_DIMS[size],
        rope_parameters=dict(ROPE),
        rms_norm_eps=1e-5,
        tie_word_embeddings=size in ("1b", "dry"),
        max_position_embeddings=131072,
        **SIZES[size],
    )
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    try:
        with device:
            return LlamaForCausalLM(config).eval()
    finally:
        torch.set_default_dtype(torch.float32)


def own_network(
    theirs: Any, prompt_format: PromptFormat, kind: WeightFormat, device: torch.device, attention: str
) -> Llama:
    """The same weights in this package's network."""
    weights = theirs.state_dict()
    config = LlamaConfig.from_json(theirs.config.to_dict())

    def linear(*names: str) -> Linear:
        parts = [weights[name + ".weight"] for name in names]
        return Linear.from_parts(parts, sum(map(len, parts)), parts[0].shape[1], kind, device)

    def layer(index: int) -> LayerWeights:
        own = f"model.layers.{index}."
        return LayerWeights(
            input_norm=weights[own + "input_layernorm.weight"].to(kind.compute_dtype),
            query_key_value=linear(*(f"{own}self_attn.{part}_proj" for part in "qkv")),
            output=linear(own + "self_attn.o_proj"),
            middle_norm=weights[own + "post_attention_layernorm.weight"].to(kind.compute_dtype),
            gate_up=linear(own + "mlp.gate_proj", own + "mlp.up_proj"),
            down=linear(own + "mlp.down_proj"),
        )

    first, count = prompt_format.first_code_id, prompt_format.code_count
    head = weights["lm_head.weight"]
    speech_rows = [head[first : first + count], head[prompt_format.end_id : prompt_format.end_id + 1]]
    return Llama(
        config,
        Embedding(weights["model.embed_tokens.weight"].to(kind.storage_dtype), kind.compute_dtype),
        [layer(index) for index in range(config.layers)],
        weights["model.norm.weight"].to(kind.compute_dtype),
        Linear.from_parts(speech_rows, count + 1, config.hidden_size, kind, device),
        attention,
    )


def seconds_to_read(count: int, device: torch.device) -> float:
    """Median seconds of a plain read of `count` bytes."""
    buffer = torch.ones(count // 4, dtype=torch.float32, device=device)
    return take_turns({"read": lambda: buffer.sum()}, device, 10)["read"]


def decoding(
    network: Llama,
    prompt_format: PromptFormat,
    prompt: Prompt,
    sampling: SamplingOptions,
    count: int,
    codes: int,
    captures: bool,
) -> Callable[[], None]:
    """`codes` steps of a full batch of `count` sequences; one that ends is followed by another."""
    batch = SlotEngine(network, prompt_format, count, graphed=True)
    step = batch.decode_step(guided=False)
    assert isinstance(step, GraphedDecodeStep)
    step.captures = captures and network.device.type == "cuda"
    seeds = iter(range(10**9))

    def work() -> None:
        for _ in range(codes):
            while batch.free:
                seed = next(seeds)
                batch.add(GenerationRequest(prompt, sampling, seed, seed))
            batch.step()

    return work


def generating(
    theirs: Any, prompt_format: PromptFormat, prompt: Prompt, codes: int, device: torch.device
) -> Callable[[], None]:
    """transformers' loop, greedy among the codes."""
    from transformers import LogitsProcessor, LogitsProcessorList

    speech = slice(prompt_format.first_code_id, prompt_format.first_code_id + prompt_format.code_count)

    class OnlyCodes(LogitsProcessor):
        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            masked = torch.full_like(scores, -torch.inf)
            masked[:, speech] = scores[:, speech]
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


def take_turns(works: dict[str, Callable[[], object]], device: torch.device, repeats: int) -> dict[str, float]:
    """Median seconds of each, in turns, after a round that does not count."""
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
