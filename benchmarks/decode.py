"""How fast speech codes are decoded: this package's loop against transformers' `generate`, in one run.

    OMP_NUM_THREADS=1 python benchmarks/decode.py [MODEL] [--codes 200] [--repeats 5]

Both make the same codes (greedy, END masked out), from the same prompt. Runs take turns, so that a busy machine slows
both; the medians and their ratio are printed with the machine's name. 50 codes are a second of sound.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import torch

from codec import machine
from llasa_cli.hub.cache import find_model
from llasa_cli.lm.load import load_language_model
from llasa_cli.protocol import Protocol


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default="tiny")
    parser.add_argument("--codes", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    from transformers import AutoModelForCausalLM, LogitsProcessor, LogitsProcessorList

    folder = find_model(arguments.model)
    protocol = Protocol.load(folder)
    own = load_language_model(folder, protocol, "cpu")
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    prompt = protocol.prompt("The morning train was crowded with people going to work.")
    codes = slice(protocol.first_code_id, protocol.first_code_id + protocol.code_count)

    class OnlyCodes(LogitsProcessor):
        def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
            masked = torch.full_like(scores, -torch.inf)
            masked[:, codes] = scores[:, codes]
            return masked

    def run_own() -> list[int]:
        stream = own.network.stream(len(prompt.ids) + arguments.codes)
        ids, made = torch.tensor(prompt.ids), []
        with torch.inference_mode():
            for _ in range(arguments.codes):
                made.append(int(stream.feed(ids)[:-1].argmax()))
                ids = torch.tensor([protocol.first_code_id + made[-1]])
        return made

    def run_theirs() -> list[int]:
        out = theirs.generate(
            torch.tensor([prompt.ids]),
            attention_mask=torch.ones(1, len(prompt.ids), dtype=torch.long),
            max_new_tokens=arguments.codes,
            do_sample=False,
            eos_token_id=None,
            pad_token_id=protocol.pad_id,
            logits_processor=LogitsProcessorList([OnlyCodes()]),
        )
        return [token - protocol.first_code_id for token in out[0, len(prompt.ids) :].tolist()]

    assert run_own() == run_theirs(), "they must do the same work"
    times: dict[str, list[float]] = {"own": [], "transformers": []}
    for _ in range(arguments.repeats):
        for name, run in (("own", run_own), ("transformers", run_theirs)):
            began = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - began)
    median = {name: statistics.median(found) for name, found in times.items()}
    print(
        json.dumps(
            {
                "machine": machine(),
                "threads": torch.get_num_threads(),
                "codes_per_s": {name: round(arguments.codes / value) for name, value in median.items()},
                "times_real_time": {name: round(arguments.codes / 50 / value, 1) for name, value in median.items()},
                "ratio": round(median["transformers"] / median["own"], 2),
            }
        )
    )


if __name__ == "__main__":
    main()
