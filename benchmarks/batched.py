"""Many sequences per step against one after the other, on the CPU, and the cost of a long sequence for the others.

    OMP_NUM_THREADS=1 python benchmarks/batched.py [MODEL] [--slots 1 4 16 64] [--max-seconds 4]

`codes_per_s`: sentences are spoken to their end with the voice's own sampling, in slots that are filled again when they become
free; `ratio` compares with one sentence at a time. `with_codec`: the codes are decoded to audio as well, in the batch by a second
thread. `step_ms`: a step of 16 sequences with 30 tokens each, with 1,900 each, and of 15 with 30 beside one with 1,900, which
shows that a short sequence does not pay for a long one. Runs take turns, and medians are printed as one JSON line.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from codec import machine
from llasa_cli.checkpoint.resolve import resolve_checkpoint
from llasa_cli.codec.codec import Codec, load_codec
from llasa_cli.lm.kv_cache import group_slots
from llasa_cli.lm.loader import LanguageModel, load_language_model
from llasa_cli.lm.request import GenerationRequest
from llasa_cli.prompt import PromptFormat
from llasa_cli.settings import ModelOptions, SamplingRequest

TEXT = "The morning train number {} was crowded with people going to work."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="tiny")
    parser.add_argument("--slots", nargs="+", type=int, default=[1, 4, 16, 64])
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--max-seconds", type=float, default=4.0, help="of each sentence")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    checkpoint = resolve_checkpoint(ModelOptions(arguments.model))
    prompt_format = PromptFormat.load(checkpoint.folder, checkpoint.metadata)
    model = load_language_model(checkpoint.weights_folder, prompt_format, "cpu", arguments.dtype)
    codec = load_codec(checkpoint.codec_folder, "cpu")
    sampling = SamplingRequest(max_seconds=arguments.max_seconds).over(checkpoint.metadata.get("sampling") or {})
    prompts = [prompt_format.prompt(TEXT.format(number)) for number in range(4 * max(arguments.slots))]

    def one_by_one(sound: Codec | None) -> int:
        count = 0
        for seed, prompt in enumerate(prompts[:6]):
            codes = list(model.generate(prompt, sampling, seed))
            count += len(codes)
            if sound is not None:
                sound.decode(codes)
        return count

    def together(slots: int, sound: Codec | None) -> int:
        batch, count, waiting = model.batch(slots), 0, list(enumerate(prompts[: 4 * slots]))
        sounds: list[Future[object]] = []
        with ThreadPoolExecutor(1) as decoder:
            while waiting or batch.free < slots:
                while waiting and batch.free:
                    seed, prompt = waiting.pop()
                    batch.add(GenerationRequest(prompt, sampling, seed, seed))
                for finished in batch.step():
                    count += len(finished.codes)
                    if sound is not None:
                        sounds.append(decoder.submit(sound.decode, finished.codes))
            for done in sounds:
                done.result()
        return count

    works: dict[str, Callable[[], int]] = {}
    for name, sound in (("codes_per_s", None), ("with_codec", codec)):
        works[f"{name} one by one"] = lambda sound=sound: one_by_one(sound)
        for slots in arguments.slots:
            works[f"{name} {slots} slots"] = lambda slots=slots, sound=sound: together(slots, sound)
    rates: dict[str, list[float]] = {name: [] for name in works}
    for number in range(arguments.repeats + 1):
        for name, work in works.items():
            began = time.perf_counter()
            count = work()
            if number:
                rates[name].append(count / (time.perf_counter() - began))
    median = {name: statistics.median(found) for name, found in rates.items()}
    print(
        json.dumps(
            {
                "machine": machine(),
                "threads": torch.get_num_threads(),
                "model": arguments.model,
                "codes_per_s": {name: round(value) for name, value in median.items()},
                "ratio": {
                    name: round(value / median[name.split(" ")[0] + " one by one"], 2) for name, value in median.items()
                },
                "step_ms": step_times(model, arguments.repeats),
            }
        )
    )


def step_times(model: LanguageModel, repeats: int) -> dict[str, float]:
    """Milliseconds of a decode step of 16 slots, without sampling."""
    lengths = {"30": [30] * 16, "1900": [1900] * 16, "15 x 30, 1 x 1900": [30] * 15 + [1900]}
    cache = model.network.new_cache(16, 2048)
    ids = torch.full((16,), model.prompt_format.first_code_id)
    times: dict[str, list[float]] = {name: [] for name in lengths}
    with torch.inference_mode():
        for _ in range(5 * repeats):
            for name, some in lengths.items():
                began = time.perf_counter()
                if model.network.fused_rows >= 16:
                    model.network.decode_rows(cache, list(range(16)), ids, [length - 1 for length in some])
                else:
                    model.network.decode(cache, ids, torch.tensor(some) - 1, group_slots(some))
                times[name].append(time.perf_counter() - began)
    return {name: round(1000 * statistics.median(found), 2) for name, found in times.items()}


if __name__ == "__main__":
    main()
