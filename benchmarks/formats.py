"""What the number formats of `--dtype` cost in quality: error of the scores, and of the words of the built-in voice.

    python benchmarks/formats.py scores MODEL [--formats bf16 fp16 int8 int4]
    python benchmarks/formats.py words [--seeds 3] [--json words.json]
    python benchmarks/formats.py join PART.json ...       of `words`, that were run with --skip and --first

`scores`: a sentence and 150 codes after it are read in each format (a CPU's) and in fp32, one model at a time. `error` is
the root mean square of the scores' difference over the fp32 scores' spread; `same` the share of codes whose likeliest
successor is the same one; `divergence` the mean Kullback-Leibler divergence of the two distributions, in nats.
Random weights are the hard case: nothing in them was trained to stand out. `speed.py --random 1b` makes some.

`words`: the 120 sentences of `recipes/tiny/held_out.txt`, that are in no training set, spoken with the same seeds in each
format; pocketsphinx listens (`recipes/tiny/judge.py`). A word error rate, its 95 % interval, and the difference to fp32
with the interval of that (bootstrap over sentences, paired).
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
sys.path[:0] = [str(ROOT), str(ROOT / "recipes" / "tiny")]
TEXT = "The morning train was crowded with people going to work."
CODES = 150


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["scores", "words", "join"])
    parser.add_argument("models", nargs="*", default=["tiny"], help="a model; or files, to be joined")
    parser.add_argument("--formats", nargs="*", default=["bf16", "fp16", "int8", "int4"])
    parser.add_argument("--seeds", type=int, default=1, help="takes of each sentence")
    parser.add_argument("--skip", type=int, default=0, help="so many of the sentences, the first")
    parser.add_argument("--first", type=int, default=1000, help="so many of the sentences that are left")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    arguments.model = arguments.models[0]
    result = {"scores": scores, "words": words, "join": join}[arguments.what](arguments)
    print(json.dumps({key: value for key, value in result.items() if key not in ("errors", "lengths")}, indent=1))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=1) + "\n")


@torch.inference_mode()
def read(model: str, kind: str) -> torch.Tensor:
    """float32 (codes, scores): after the prompt, and after each of some codes that are drawn once for all."""
    from llasa_cli.checkpoint.resolve import find_model
    from llasa_cli.lm.loader import load_language_model
    from llasa_cli.prompt import PromptFormat

    folder = find_model(model)
    prompt_format = PromptFormat.load(folder)
    network = load_language_model(folder, prompt_format, "cpu", kind).network
    drawn = torch.randint(prompt_format.code_count, (CODES,), generator=torch.Generator().manual_seed(0))
    stream = network.stream(2048)
    found = [stream.feed(torch.tensor(prompt_format.prompt(TEXT).ids))]
    found += [stream.feed(prompt_format.first_code_id + code[None]) for code in drawn]
    return torch.stack(found)


def scores(arguments: argparse.Namespace) -> dict[str, Any]:
    exact = read(arguments.model, "fp32")
    spread = exact.std(dim=-1).mean()
    result = {}
    for kind in arguments.formats:
        gc.collect()
        found = read(arguments.model, kind)
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
    import jiwer

    from judge import SENTENCES, Recognizer
    from judge import words as words_of
    from llasa_cli.settings import ModelOptions, SpeechOptions
    from llasa_cli.synthesis.synthesizer import Synthesizer

    torch.set_num_threads(1)
    formats = ["fp32", *arguments.formats]
    voices = {kind: Synthesizer.load(ModelOptions(model=arguments.model, device="cpu", dtype=kind)) for kind in formats}
    lines = [line for line in SENTENCES.read_text(encoding="utf-8").split("\n") if line.strip()]
    lines = lines[arguments.skip :][: arguments.first]
    listener = Recognizer()
    errors: dict[str, list[int]] = {kind: [] for kind in formats}
    lengths = []
    for number, line in enumerate(line for line in lines for _ in range(arguments.seeds)):
        said = words_of(line)
        lengths.append(len(said))
        for kind, voice in voices.items():
            heard = listener.hear(voice.synthesize(line, SpeechOptions(seed=number * 1000)))
            out = jiwer.process_words(" ".join(said), " ".join(heard)) if heard else None
            wrong = len(said) if out is None else out.substitutions + out.deletions + out.insertions
            errors[kind].append(wrong)
        print(number, {kind: sum(found) for kind, found in errors.items()}, file=sys.stderr)
        if arguments.json and (number + 1) % arguments.seeds == 0:  # one that is stopped is not all lost
            so_far = judged(arguments.model, (number + 1) // arguments.seeds, errors, lengths)
            arguments.json.write_text(json.dumps(so_far, indent=1) + "\n")
    return judged(arguments.model, len(lines), errors, lengths)


def join(arguments: argparse.Namespace) -> dict[str, Any]:
    parts = [json.loads(Path(path).read_text()) for path in arguments.models]
    errors = {kind: [one for part in parts for one in part["errors"][kind]] for kind in parts[0]["errors"]}
    lengths = [one for part in parts for one in part["lengths"]]
    return judged(parts[0]["model"], sum(part["sentences"] for part in parts), errors, lengths)


def judged(model: str, lines: int, errors: dict[str, list[int]], lengths: list[int]) -> dict[str, Any]:
    """What `words` says.

    Args:
        lines: How many sentences, each with as many takes, one after the other.
        errors: By format, wrong words of each take.
        lengths: Words of each take.
    """
    # Sentences are drawn, with all takes of each.
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
