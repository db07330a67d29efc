"""The cost of the number formats of `--dtype` in quality: the error of the logits, and of the words of the built-in voice.

    python benchmarks/formats.py logits MODEL [--formats bf16 fp16 int8 int4]
    python benchmarks/formats.py words [--seeds 3] [--json words.json]
    python benchmarks/formats.py join PART.json ...       joins results of `words --skip N --first M`

`logits`: a sentence and 150 codes are fed in each format (on a CPU) and in fp32, one model at a time. `error` is the root mean
square of the difference of the logits over the standard deviation of the fp32 logits; `same` is the share of positions with the
same likeliest code; `divergence` is the mean Kullback-Leibler divergence of the two distributions, in nats. Random weights are
the hard case, because no training made any code stand out; `speed.py --random 1b` makes some.

`words`: the 120 sentences of `recipes/heart/held_out.txt`, which are in no training set, are spoken with the same seeds in each
format and recognized by pocketsphinx (`recipes/heart/judge.py`). Printed are the word error rate with its 95 % interval, and its
difference to fp32 with the interval of the difference (paired bootstrap over sentences).
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
TEXT = "The morning train was crowded with people going to work."
CODES = 150


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["logits", "words", "join"])
    parser.add_argument("models", nargs="*", default=["tiny"], help="a model, or the files to join")
    parser.add_argument("--formats", nargs="*", default=["bf16", "fp16", "int8", "int4"])
    parser.add_argument("--seeds", type=int, default=1, help="utterances of each sentence")
    parser.add_argument("--skip", type=int, default=0, help="leave out so many sentences at the beginning")
    parser.add_argument("--first", type=int, default=1000, help="use so many of the remaining sentences")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    arguments.model = arguments.models[0]
    result = {"logits": compare_logits, "words": words, "join": join}[arguments.what](arguments)
    print(json.dumps({key: value for key, value in result.items() if key not in ("errors", "lengths")}, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


@torch.inference_mode()
def logits_of(model: str, kind: str) -> torch.Tensor:
    """Logits after the prompt and after each of CODES random codes, the same for all formats: float32 (CODES + 1, codes + 1)."""
    from llasa_cli.checkpoint.resolve import find_model
    from llasa_cli.lm.loader import load_language_model
    from llasa_cli.prompt import PromptFormat

    folder = find_model(model)
    prompt_format = PromptFormat.load(folder)
    network = load_language_model(folder, prompt_format, "cpu", kind).network
    codes = torch.randint(prompt_format.code_count, (CODES,), generator=torch.Generator().manual_seed(0))
    stream = network.stream(2048)
    found = [stream.feed(torch.tensor(prompt_format.prompt(TEXT).ids))]
    found += [stream.feed(prompt_format.first_code_id + code[None]) for code in codes]
    return torch.stack(found)


def compare_logits(arguments: argparse.Namespace) -> dict[str, Any]:
    exact = logits_of(arguments.model, "fp32")
    spread = exact.std(dim=-1).mean()
    result = {}
    for kind in arguments.formats:
        gc.collect()  # the model before
        found = logits_of(arguments.model, kind)
        divergence = torch.nn.functional.kl_div(
            found.log_softmax(-1), exact.log_softmax(-1), log_target=True, reduction="none"
        )
        result[kind] = {
            "error": round(float((found - exact).square().mean().sqrt() / spread), 4),
            "same": round(float((found.argmax(-1) == exact.argmax(-1)).float().mean()), 3),
            "divergence": round(float(divergence.sum(-1).mean()), 4),
        }
    return {"model": arguments.model, "formats": result}


def words(arguments: argparse.Namespace) -> dict[str, Any]:
    from llasa_cli.settings import ModelOptions, SpeechOptions
    from llasa_cli.synthesis.synthesizer import Synthesizer
    from recipes.heart.judge import SENTENCES, Judges

    torch.set_num_threads(1)
    formats = ["fp32", *arguments.formats]
    voices = {kind: Synthesizer.load(ModelOptions(model=arguments.model, device="cpu", dtype=kind)) for kind in formats}
    lines = [line for line in SENTENCES.read_text(encoding="utf-8").split("\n") if line.strip()]
    lines = lines[arguments.skip :][: arguments.first]
    judges = Judges()
    errors: dict[str, list[int]] = {kind: [] for kind in formats}
    lengths = []
    for number, line in enumerate(line for line in lines for _ in range(arguments.seeds)):
        for kind, voice in voices.items():
            heard = judges.sphinx(voice.synthesize(line, SpeechOptions(seed=number * 1000)))
            wrong, length = judges.errors(line, heard, sphinx=True)
            errors[kind].append(wrong)
        lengths.append(length)
        print(number, {kind: sum(found) for kind, found in errors.items()}, file=sys.stderr)
        if arguments.json and (number + 1) % arguments.seeds == 0:  # in case the script is stopped
            so_far = summarize(arguments.model, (number + 1) // arguments.seeds, errors, lengths)
            arguments.json.write_text(json.dumps(so_far, indent=1) + "\n")
    return summarize(arguments.model, len(lines), errors, lengths)


def join(arguments: argparse.Namespace) -> dict[str, Any]:
    parts = [json.loads(Path(path).read_text()) for path in arguments.models]
    errors = {kind: [one for part in parts for one in part["errors"][kind]] for kind in parts[0]["errors"]}
    lengths = [one for part in parts for one in part["lengths"]]
    return summarize(parts[0]["model"], sum(part["sentences"] for part in parts), errors, lengths)


def summarize(model: str, lines: int, errors: dict[str, list[int]], lengths: list[int]) -> dict[str, Any]:
    """The result of `words`.

    Args:
        lines: The number of sentences; their utterances follow each other.
        errors: By format, the wrong words of each utterance.
        lengths: The words of each utterance.
    """
    # The bootstrap draws sentences, each with all of its utterances.
    picks = np.random.default_rng(0).integers(0, lines, (2000, lines))
    by_line = {kind: np.array(found).reshape(lines, -1).sum(1) for kind, found in errors.items()}
    sizes = np.array(lengths).reshape(lines, -1).sum(1)
    result: dict[str, Any] = {}
    for kind, found in by_line.items():
        rates = found[picks].sum(1) / sizes[picks].sum(1)
        more = (found - by_line["fp32"])[picks].sum(1) / sizes[picks].sum(1)
        result[kind] = {
            "wer": round(float(found.sum() / sizes.sum()), 4),
            "interval": [round(float(value), 4) for value in np.quantile(rates, [0.025, 0.975])],
            "above_fp32": round(float((found.sum() - by_line["fp32"].sum()) / sizes.sum()), 4),
            "above_interval": [round(float(value), 4) for value in np.quantile(more, [0.025, 0.975])],
        }
    return {
        "model": model,
        "sentences": lines,
        "seeds": len(lengths) // lines,
        "formats": result,
        "errors": errors,
        "lengths": lengths,
    }


if __name__ == "__main__":
    main()
