"""First stage of the built-in voice's language model: learn to follow the text, with the phones as a second task.

    python align.py CODES TOKENIZER OUT --minutes 60 --voices rms      (the same command resumes from OUT/last.pt)
    torchrun --nproc-per-node 2 align.py ...                           (two processes, each with --tokens of its own a step)

In: the codes and phones of `encode.py`, the tokenizer folder of `tokenizer.py`. Out: OUT/model, a checkpoint folder
that `llasa say -m` speaks with and `llasa finetune -m` starts from; OUT/log.jsonl.

A plain language model over noisy codes takes millions of tokens before it looks at the text at all. Here it must also
name, from the same hidden state that predicts a code, the phone of that code and the next other phone; those can only
be known from the text. The two heads are thrown away: what is saved is a plain `LlamaForCausalLM`.

- The table of speech codes is a free table plus one vector a level of each FSQ dimension, so that neighbouring codes
  start out alike; saved as their sum.
- Short clips first: where a word is spoken alone there is little to search.
- Some rows are two or three clips joined, text and codes alike: longer speech, and what a cloning prompt looks like.
- Some rows have no text, so that the model learns the unconditional prediction. `guidance` (see `llasa say --help`) goes
  away from that.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from codec import PHONES
from kept import load, save
from llasa_cli.prompt import PromptFormat
from team import Team

SHAPE = Path(__file__).with_name("model.json")
NO_LABEL = -100


# --- data ---


class Clips:
    """All clips of some voices in memory. `item(i)` -> (text, codes, phones, voice)."""

    def __init__(self, folder: Path, voices: list[str], validation: int) -> None:
        self.texts: list[str] = []
        self.voices: list[str] = []
        codes, phones, lengths = [], [], []
        for voice in voices:
            for path in sorted((folder / voice).glob("[0-9]*.npz")):
                if ".part" in path.name:
                    continue
                with np.load(path) as shard:
                    self.texts += shard["texts"].tolist()
                    codes.append(shard["codes"])
                    phones.append(shard["phones"])
                    lengths.append(shard["lengths"])
                    self.voices += [voice] * len(shard["lengths"])
        self.codes, self.phones = np.concatenate(codes), np.concatenate(phones)
        self.lengths = np.concatenate(lengths)
        self.starts = np.cumsum(self.lengths) - self.lengths
        order = np.random.default_rng(1).permutation(len(self.texts))
        self.validation, self.training = order[:validation], order[validation:]

    def item(self, index: int) -> tuple[str, np.ndarray, np.ndarray, str]:
        cut = slice(self.starts[index], self.starts[index] + self.lengths[index])
        return self.texts[index], self.codes[cut], self.phones[cut], self.voices[index]


def next_phones(phones: np.ndarray) -> np.ndarray:
    """uint8 [n] -> int64 [n]: the phone that follows the present one's run; NO_LABEL in the last run."""
    out = np.full(len(phones), NO_LABEL, np.int64)
    changes = np.flatnonzero(np.diff(phones)) + 1
    begin = 0
    for change in changes:
        out[begin:change] = phones[change]
        begin = change
    return out


class Rows:
    """Clips -> training rows (ids, labels, phone, next phone), each int64 of one length."""

    def __init__(self, clips: Clips, prompt_format: PromptFormat, untagged: float, textless: float) -> None:
        self.clips, self.prompt_format, self.untagged, self.textless = clips, prompt_format, untagged, textless

    def row(
        self, indices: list[int], tag: bool, text_of: int | None = None, silent: bool = False
    ) -> tuple[np.ndarray, ...]:
        """Clips -> one row; `text_of`: with that clip's text instead of theirs; `silent`: with none."""
        items = [self.clips.item(i) for i in indices]
        text = " ".join(item[0] for item in items) if text_of is None else self.clips.texts[text_of]
        codes = np.concatenate([item[1] for item in items])
        phones = np.concatenate([item[2] for item in items])
        # Voices that are others at another speed (slt@0.9) have no name: they can only be cloned.
        speaker = items[0][3] if tag and "@" not in items[0][3] else None
        text_ids = [] if silent else self.prompt_format.text_ids(text)
        ids, labels = self.prompt_format.training_example(text_ids, codes.tolist(), speaker)
        now, after = np.full(len(ids), NO_LABEL, np.int64), np.full(len(ids), NO_LABEL, np.int64)
        # The row ends in the codes and END. What stands before a code predicts it, so labels move one to the left.
        begin = len(ids) - 1 - len(codes) - 1
        if not silent:
            now[begin : begin + len(codes)] = phones
            after[begin : begin + len(codes)] = next_phones(phones)
        shifted = np.array([*labels[1:], NO_LABEL], np.int64)
        return np.array(ids, np.int64), shifted, now, after


def batches(
    rows: Rows, random: np.random.Generator, tokens: int, most_codes: int, joined: float
) -> Iterator[tuple[list[torch.Tensor], int]]:
    """Endless batches of rows of like length, about `tokens` tokens each, padded at the end, and their real tokens."""
    clips = rows.clips
    pool: list[tuple[np.ndarray, ...]] = []
    by_voice = {v: [i for i in clips.training if clips.voices[i] == v] for v in sorted(set(clips.voices))}
    while True:
        nameless = {voice for voice in by_voice if "@" in voice}
        fitting = [
            i for i in clips.training if clips.lengths[i] <= most_codes and (joined or clips.voices[i] not in nameless)
        ]
        picks = random.permutation(fitting)[:4000]
        pool = []
        for index in picks:
            parts = [int(index)]
            if clips.voices[index] in nameless or random.random() < joined:
                same = by_voice[clips.voices[index]]
                parts += [int(same[random.integers(len(same))]) for _ in range(random.integers(1, 3))]
            # Joined rows are what cloning looks like, and a cloned voice has no tag.
            untagged = rows.untagged if len(parts) == 1 else 0.6
            silent = random.random() < rows.textless
            pool.append(rows.row(parts, tag=random.random() >= untagged, silent=silent))
        pool.sort(key=lambda row: len(row[0]) + random.random())
        groups, group = [], []
        for row in pool:
            if group and len(row[0]) * (len(group) + 1) > tokens:
                groups.append(group)
                group = []
            group.append(row)
        random.shuffle(groups)
        for group in groups:
            yield pad(group), sum(len(row[0]) for row in group)


def pad(group: list[tuple[np.ndarray, ...]]) -> list[torch.Tensor]:
    """Rows -> (B, T) tensors. Padding stands last, so a causal model's real tokens never see it: no mask is needed."""
    longest = max(len(row[0]) for row in group)
    out = []
    for part in range(4):
        fill = 0 if part == 0 else NO_LABEL
        out.append(
            torch.from_numpy(
                np.stack([np.pad(r[part], (0, longest - len(r[part])), constant_values=fill) for r in group])
            )
        )
    return out


# --- network ---


class Aligner(nn.Module):
    """A `LlamaForCausalLM` with factored code vectors and phone heads."""

    def __init__(self, prompt_format: PromptFormat, levels: tuple[int, ...]) -> None:
        super().__init__()
        config = LlamaConfig(**json.loads(SHAPE.read_text()), vocab_size=prompt_format.vocabulary_size)
        config._attn_implementation = "eager"  # a fifth faster than SDPA here on a CPU in bfloat16
        config.eos_token_id, config.bos_token_id, config.pad_token_id = prompt_format.end_id, None, prompt_format.pad_id
        self.lm = LlamaForCausalLM(config)
        self.prompt_format = prompt_format
        width = config.hidden_size
        places = np.unravel_index(np.arange(prompt_format.code_count), levels, order="F")
        offsets = np.cumsum(levels) - np.array(levels)
        self.register_buffer("places", torch.tensor(np.stack(places, 1) + offsets))
        self.level_vectors = nn.Parameter(torch.randn(sum(levels), width) * 0.02)
        self.phone_now, self.phone_next = nn.Linear(width, len(PHONES)), nn.Linear(width, len(PHONES))
        with torch.no_grad():
            self.lm.model.embed_tokens.weight.mul_(0.5)

    def table(self) -> torch.Tensor:
        """(V, width): what the checkpoint will hold."""
        free = self.lm.model.embed_tokens.weight
        shared = self.level_vectors[self.places].sum(1)
        first = self.prompt_format.first_code_id
        return torch.cat([free[:first], free[first : first + len(shared)] + shared, free[first + len(shared) :]])

    def hidden(self, ids: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
        return self.lm.model(inputs_embeds=F.embedding(ids, table), use_cache=False).last_hidden_state

    def losses(self, ids: torch.Tensor, labels: torch.Tensor, now: torch.Tensor, after: torch.Tensor):
        table = self.table()
        flat = self.hidden(ids, table).flatten(0, 1)
        wanted = labels.flatten()
        spoken = wanted >= self.prompt_format.first_code_id
        kept = wanted != NO_LABEL
        code = F.cross_entropy((flat[kept] @ table.T).float(), wanted[kept])
        speech = flat[spoken]
        first = named(self.phone_now(speech), now.flatten()[spoken])
        second = named(self.phone_next(speech), after.flatten()[spoken])
        return code, first, second


def named(scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy of those that have a label; 0 where none has, as in rows without text."""
    sums = F.cross_entropy(scores.float(), labels, ignore_index=NO_LABEL, reduction="sum")
    return sums / (labels != NO_LABEL).sum().clamp(min=1)


@torch.no_grad()
def evaluate(model: Aligner, rows: Rows, bf16: bool) -> dict[str, float]:
    """Cross-entropy a code with the true text, the text gain, and the phone losses, on held-out clips."""
    model.eval()
    chosen = sorted((int(i) for i in rows.clips.validation), key=lambda i: rows.clips.lengths[i])
    sums, weight = np.zeros(4), 0
    for start in range(0, len(chosen), 12):
        group = chosen[start : start + 12]
        others = [chosen[(start + n + 1) % len(chosen)] for n in range(len(group))]
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            true = model.losses(*pad([rows.row([i], tag=True) for i in group]))
            false = model.losses(*pad([rows.row([i], True, text_of=o) for i, o in zip(group, others, strict=True)]))
        count = int(rows.clips.lengths[group].sum())
        sums += np.array([*(float(x) for x in true), float(false[0])]) * count
        weight += count
    code, now, after, false = sums / weight
    model.train()
    return {
        "held_out": round(code, 4),
        "text_gain": round(false - code, 4),
        "phone": round(now, 4),
        "next_phone": round(after, 4),
    }


def save_model(model: Aligner, tokenizer: Path, folder: Path, about: dict) -> None:
    """A plain checkpoint folder; replaced as a whole, so that another process can read it at any time."""
    import copy
    import shutil

    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(tokenizer, part)
    plain = copy.deepcopy(model.lm)
    with torch.no_grad():
        plain.model.embed_tokens.weight.copy_(model.table())
    plain.to(torch.bfloat16).save_pretrained(part)
    (part / "llasa.json").write_text(json.dumps(about, indent=2) + "\n")
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    part.rename(folder)


# --- training ---


@torch.no_grad()
def start_from(model: Aligner, known: Path, near: bool) -> None:
    """Take over what another run knows of text and phones: its last.pt, or the folder of its model.

    Its codes were another codec's: their vectors start anew, unless that codec was this one earlier in its training (`near`).
    A model's folder has no heads for the phones; and its vectors of codes are the sums.
    """
    first, count = model.prompt_format.first_code_id, model.prompt_format.code_count
    table = model.lm.model.embed_tokens.weight
    fresh, levels = table[first : first + count].clone(), model.level_vectors.clone()
    if known.is_dir():
        model.lm.load_state_dict(LlamaForCausalLM.from_pretrained(known, dtype=torch.float32).state_dict())
        model.level_vectors.zero_()
    else:
        load(known, {"model": model})
    if near:
        return
    table[first : first + count] = fresh
    model.level_vectors.copy_(levels)


def optimisers(model: Aligner, rate: float, muon: bool) -> list[torch.optim.Optimizer]:
    matrices = [p for n, p in model.lm.model.layers.named_parameters() if p.ndim == 2]
    chosen = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in chosen]
    if not muon:
        return [torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.95), weight_decay=0.05, fused=True)]
    return [
        torch.optim.Muon(matrices, lr=rate, weight_decay=0.05, adjust_lr_fn="match_rms_adamw", ns_steps=4),
        torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
    ]


def train(arguments: argparse.Namespace) -> None:
    team = Team()
    torch.manual_seed(0)
    torch.set_num_threads(arguments.threads)
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    prompt_format = PromptFormat.load(arguments.tokenizer)
    clips = Clips(arguments.codes, arguments.voices, arguments.validation)
    print(f"{len(clips.texts)} clips, {clips.lengths.sum() / 180_000:.1f} h", flush=True)
    rows = Rows(clips, prompt_format, arguments.untagged, arguments.textless)
    model = Aligner(prompt_format, tuple(arguments.levels))
    print("parameters:", sum(p.numel() for p in model.lm.parameters()), flush=True)
    chain = optimisers(model, arguments.rate, arguments.muon)
    step, spent, tokens_seen = 0, 0.0, 0
    last = out / "last.pt"
    kept = {"model": model, **{f"optimiser_{number}": optimiser for number, optimiser in enumerate(chain)}}
    if not last.exists() and arguments.knows:
        start_from(model, arguments.knows, arguments.near)
    if last.exists():
        state = load(last, kept)
        step, spent, tokens_seen = state["step"], state["spent"], state["tokens"]
    about = {
        "format": 1,
        "codec": arguments.codec,
        "sampling": {"temperature": 0.6, "top_p": 0.9},
        "speakers": [voice for voice in arguments.voices if "@" not in voice],
        "default_speaker": arguments.voices[0],
        "language": ["en"],
        "license": "Apache-2.0",
        "base": None,
    }
    budget = arguments.minutes * 60
    began = time.process_time()  # so that a busy machine delays training, not shortens it
    mark = saved_at = time.monotonic()
    random = np.random.default_rng([step, team.rank])
    feed, feed_limit = None, 0
    sums, since, since_tokens = np.zeros(3), 0, 0

    def keep() -> None:
        save(last, kept, step=step, spent=spent + time.process_time() - began, tokens=tokens_seen)
        save_model(model, arguments.tokenizer, out / "model", about | {"steps": step, "tokens": tokens_seen})

    while True:
        share = team.agreed((spent + time.process_time() - began) / budget)
        if share >= 1:
            break
        decay = arguments.decay
        factor = min(1.0, (step + 1) / 60) * (1.0 if share < 1 - decay else max(0.02, (1 - share) / decay))
        for optimiser in chain:
            for group in optimiser.param_groups:
                group["lr"] = arguments.rate * factor
        # 1 s of speech at first, everything after a tenth of the time.
        limit = 50 + 25 * int(share / arguments.short_first * 10) if share < arguments.short_first else 10_000
        if feed is None or limit != feed_limit:
            joined = 0.0 if share < arguments.short_first else arguments.joined
            feed, feed_limit = batches(rows, random, arguments.tokens, limit, joined), limit
        batch, count = next(feed)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=arguments.bf16):
            code, now, after = model.losses(*batch)
        loss = code + arguments.phones * (now + after)
        for optimiser in chain:
            optimiser.zero_grad(set_to_none=True)
        loss.backward()
        team.mean_gradients(model)
        norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        if math.isfinite(float(norm)):
            for optimiser in chain:
                optimiser.step()
        step += 1
        since += 1
        sums += np.array([float(x.detach()) for x in (code, now, after)])
        tokens_seen += count * team.size  # about: rows are of other lengths elsewhere
        since_tokens += count * team.size
        if team.rank == 0 and step % arguments.report == 0:
            code_mean, now_mean, after_mean = sums / since
            row = {
                "step": step,
                "minutes": round(share * arguments.minutes, 1),
                "tokens_m": round(tokens_seen / 1e6, 2),
                "tokens_per_s": round(since_tokens / (time.monotonic() - mark)),
                "train": round(code_mean, 4),
                "train_phone": round(now_mean, 4),
                "train_next": round(after_mean, 4),
            } | evaluate(model, rows, arguments.bf16)
            with (out / "log.jsonl").open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)
            sums, since, since_tokens, mark = np.zeros(3), 0, 0, time.monotonic()
            if time.monotonic() - saved_at > 120:
                keep()
                saved_at = time.monotonic()
    if team.rank == 0:
        keep()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("codes", type=Path)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--voices", nargs="+", default=["rms"])
    parser.add_argument("--codec", default="codec", help="what llasa.json names as the codec")
    parser.add_argument("--levels", type=int, nargs="+", default=[4, 4, 4, 4, 4, 4])
    parser.add_argument("--minutes", type=float, default=60, help="of processor time, in all, over every resumption")
    parser.add_argument("--knows", type=Path, help="last.pt or model folder over another codec's codes, to start from")
    parser.add_argument("--near", action="store_true", help="that codec was this one earlier in its training")
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--decay", type=float, default=0.6, help="share of the time over which the rate falls")
    parser.add_argument("--tokens", type=int, default=1800, help="tokens a step, padding included")
    parser.add_argument("--phones", type=float, default=0.3, help="weight of each phone loss; 0 turns them off")
    parser.add_argument("--short-first", type=float, default=0.1, help="share of the time in which clips grow from 1 s")
    parser.add_argument("--joined", type=float, default=0.15, help="share of rows made of two or three clips")
    parser.add_argument("--untagged", type=float, default=0.2, help="share of rows without a speaker tag")
    parser.add_argument("--textless", type=float, default=0.0, help="share of rows without their text")
    parser.add_argument("--validation", type=int, default=240, help="clips held out")
    parser.add_argument("--report", type=int, default=200)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--muon", action="store_true")
    parser.add_argument("--bf16", action="store_true")
    train(parser.parse_args())


if __name__ == "__main__":
    main()
