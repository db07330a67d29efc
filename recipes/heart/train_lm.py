"""Train the built-in voice's language model on codes, with the phones as a second task.

    python train_lm.py CODES TOKENIZER OUT --minutes 60             (again to resume from OUT/last.pt)
    python train_lm.py CODES TOKENIZER OUT2 --branch-from OUT/last.pt --minutes 20 --decay 1    (lower the rate to the end)
    torchrun --nproc-per-node 2 train_lm.py ...                     (two processes, each with --tokens of its own a step)

In: the codes and phones of `encode.py`, the tokenizer folder of `tokenizer.py`. Out: OUT/model, a checkpoint folder
that `llasa say -m` speaks with and `llasa finetune -m` starts from; OUT/log.jsonl.

A plain language model over noisy codes takes millions of tokens before it uses the text at all. Here it also predicts, from
the same hidden state as a code, that code's phone and the next other phone, which only the text can tell. The two heads are
thrown away: what is saved is a plain `LlamaForCausalLM`.

- The table of speech codes is a free table plus one vector a level of each FSQ dimension, so that neighboring codes start
  out alike; saved as their sum.
- Short clips first: where a word is spoken alone there is little to search.
- Some rows are two or three clips of one speaker joined, text and codes alike, mostly without the speaker's tag: longer
  speech, and the form of a cloning prompt. Speakers without a tag occur only in such rows.
- Some rows have no text: the unconditional distribution that classifier-free guidance (`--guidance`) needs.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import shutil
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from checkpointing import load, save
from distributed import ProcessGroup
from llasa_cli.prompt import PromptFormat
from muon import Muon
from teachers import NAMED_SPEAKERS, PHONES

SHAPE = Path(__file__).with_name("model.json")
NO_LABEL = -100
LETTER_OF_PHONE = dict(zip("AIOTWYæðŋɑɐɔəɛɜɡɪɹʃʊʌʒʤʧθᵊᵻ", "aiotooatnoaoaeegirsuuzjctai", strict=True))
"""A letter that is often written for a phone whose sign is none."""


# --- data ---


class Clips:
    """All clips in memory. `item(i)` -> (text, codes, phones, speaker).

    shares: Set of the corpus -> the share of the rows that begin with a clip of it.
    """

    def __init__(self, folder: Path, shares: dict[str, float], validation: int) -> None:
        self.texts: list[str] = []
        self.speakers: list[str] = []
        codes, phones, lengths, weights = [], [], [], []
        for name, share in shares.items():
            counts = []
            for path in sorted((folder / name).glob("[0-9]*.npz")):
                if ".part" in path.name:
                    continue
                with np.load(path) as shard:
                    self.texts += shard["texts"].tolist()
                    self.speakers += shard["speakers"].tolist()
                    codes.append(shard["codes"])
                    phones.append(shard["phones"])
                    lengths.append(shard["lengths"])
                    counts.append(len(shard["lengths"]))
            weights += [share / max(sum(counts), 1)] * sum(counts)
        self.codes, self.phones = np.concatenate(codes), np.concatenate(phones)
        self.lengths, self.weights = np.concatenate(lengths), np.array(weights)
        self.starts = np.cumsum(self.lengths) - self.lengths
        order = np.random.default_rng(1).permutation(len(self.texts))
        self.validation, self.training = order[:validation], order[validation:]
        self.by_speaker: dict[str, list[int]] = defaultdict(list)
        for index in self.training:
            self.by_speaker[self.speakers[index]].append(int(index))

    def item(self, index: int) -> tuple[str, np.ndarray, np.ndarray, str]:
        span = slice(self.starts[index], self.starts[index] + self.lengths[index])
        return self.texts[index], self.codes[span], self.phones[span], self.speakers[index]


def next_phones(phones: np.ndarray) -> np.ndarray:
    """uint8 [n] -> int64 [n]: the phone after the present one's run; NO_LABEL in the last run."""
    out = np.full(len(phones), NO_LABEL, np.int64)
    begin = 0
    for change in np.flatnonzero(np.diff(phones)) + 1:
        out[begin:change] = phones[change]
        begin = change
    return out


class Rows:
    """Clips -> training rows (ids, labels, phone, next phone), each int64 of one length."""

    def __init__(
        self, clips: Clips, prompt_format: PromptFormat, speaker_dropout: float, text_dropout: float, spelled: float
    ) -> None:
        self.clips, self.prompt_format = clips, prompt_format
        self.speaker_dropout, self.text_dropout, self.spelled = speaker_dropout, text_dropout, spelled

    def row(
        self,
        indices: list[int],
        tag: bool,
        text_of: int | None = None,
        unconditional: bool = False,
        spell: Callable[[str], bool] = lambda word: False,
    ) -> tuple[np.ndarray, ...]:
        """Clips -> one row. `text_of`: with that clip's text instead. `unconditional`: without text."""
        items = [self.clips.item(i) for i in indices]
        text = " ".join(item[0] for item in items) if text_of is None else self.clips.texts[text_of]
        codes = np.concatenate([item[1] for item in items])
        phones = np.concatenate([item[2] for item in items])
        speaker = items[0][3] if tag and items[0][3] in NAMED_SPEAKERS else None
        text_ids = [] if unconditional else self.prompt_format.lexicon_ids(text, spell)
        ids, labels = self.prompt_format.training_example(text_ids, codes.tolist(), speaker)
        now, after = np.full(len(ids), NO_LABEL, np.int64), np.full(len(ids), NO_LABEL, np.int64)
        # The row ends with the codes and the end token. The token before a code predicts it, so labels move to the left.
        begin = len(ids) - 1 - len(codes) - 1
        if not unconditional:
            now[begin : begin + len(codes)] = phones
            after[begin : begin + len(codes)] = next_phones(phones)
        shifted = np.array([*labels[1:], NO_LABEL], np.int64)
        return np.array(ids, np.int64), shifted, now, after

    def random_row(self, index: int, random: np.random.Generator, joined: float) -> tuple[np.ndarray, ...]:
        """A row that begins with clip `index`, changed as training rows are."""
        clips, parts = self.clips, [index]
        speaker = clips.speakers[index]
        named = speaker in NAMED_SPEAKERS
        if not named or random.random() < joined:
            same = clips.by_speaker[speaker]
            parts += [same[random.integers(len(same))] for _ in range(random.integers(1, 3))]
        speaker_dropout = self.speaker_dropout if len(parts) == 1 else 0.6
        unconditional = random.random() < self.text_dropout
        return self.row(
            parts,
            tag=random.random() >= speaker_dropout,
            unconditional=unconditional,
            spell=lambda word: random.random() < self.spelled,
        )


def batches(
    rows: Rows, random: np.random.Generator, tokens: int, longest: int, joined: float
) -> Iterator[tuple[list[torch.Tensor], int]]:
    """Endless batches of rows of similar length, about `tokens` tokens each, padded at the end, and their true tokens.

    longest: Codes of a clip at most. While it is short, speakers without a tag are left out.
    """
    clips = rows.clips
    named = np.array([speaker in NAMED_SPEAKERS for speaker in clips.speakers])
    fitting = clips.training[(clips.lengths[clips.training] <= longest) & (named[clips.training] | (joined > 0))]
    weights = clips.weights[fitting] / clips.weights[fitting].sum()
    while True:
        picks = random.choice(fitting, size=2000, p=weights)
        pool = [rows.random_row(int(index), random, joined) for index in picks]
        pool.sort(key=lambda row: len(row[0]) + random.random())
        groups: list[list[tuple[np.ndarray, ...]]] = []
        group: list[tuple[np.ndarray, ...]] = []
        for row in pool:
            if group and len(row[0]) * (len(group) + 1) > tokens:
                groups.append(group)
                group = []
            group.append(row)
        for position in random.permutation(len(groups)):
            yield pad(groups[position]), sum(len(row[0]) for row in groups[position])


def pad(group: list[tuple[np.ndarray, ...]]) -> list[torch.Tensor]:
    """Rows -> (B, T) tensors. Padding comes last, so a causal model's true tokens never see it: no mask is needed."""
    longest = max(len(row[0]) for row in group)
    out = []
    for part in range(4):
        fill = 0 if part == 0 else NO_LABEL
        padded = [np.pad(row[part], (0, longest - len(row[part])), constant_values=fill) for row in group]
        out.append(torch.from_numpy(np.stack(padded)))
    return out


# --- network ---


class Aligner(nn.Module):
    """A `LlamaForCausalLM` with factored code embeddings and two phone heads."""

    def __init__(self, prompt_format: PromptFormat, levels: tuple[int, ...]) -> None:
        super().__init__()
        config = LlamaConfig(**json.loads(SHAPE.read_text()), vocab_size=prompt_format.vocabulary_size)
        config._attn_implementation = "eager"  # a fifth faster than SDPA on a CPU in bfloat16 at these lengths
        config.eos_token_id, config.bos_token_id, config.pad_token_id = prompt_format.end_id, None, prompt_format.pad_id
        self.lm = LlamaForCausalLM(config)
        self.prompt_format, self.code_loss = prompt_format, code_loss
        width = config.hidden_size
        places = np.unravel_index(np.arange(prompt_format.code_count), levels, order="F")
        offsets = np.cumsum(levels) - np.array(levels)
        self.register_buffer("places", torch.tensor(np.stack(places, 1) + offsets))
        self.level_vectors = nn.Parameter(torch.randn(sum(levels), width) * 0.02)
        self.phone_now, self.phone_next = nn.Linear(width, len(PHONES)), nn.Linear(width, len(PHONES))
        with torch.no_grad():
            self.lm.model.embed_tokens.weight.mul_(0.5)

    def table(self) -> torch.Tensor:
        """(V, width): the embeddings that the checkpoint stores."""
        free = self.lm.model.embed_tokens.weight
        shared = self.level_vectors[self.places].sum(1)
        first = self.prompt_format.first_code_id
        return torch.cat([free[:first], free[first : first + len(shared)] + shared, free[first + len(shared) :]])

    def hidden(self, ids: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
        return self.lm.model(inputs_embeds=F.embedding(ids, table), use_cache=False).last_hidden_state

    def compile_parts(self) -> None:
        """Compile the two largest parts; batches differ in shape."""
        self.hidden = torch.compile(self.hidden, dynamic=True)  # type: ignore[method-assign]
        self.code_loss = torch.compile(code_loss, dynamic=True)

    def losses(
        self, ids: torch.Tensor, labels: torch.Tensor, now: torch.Tensor, after: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Cross-entropy of the codes, of their phones and of the next phones."""
        table = self.table()
        flat = self.hidden(ids, table).flatten(0, 1)
        wanted = labels.flatten()
        spoken = wanted >= self.prompt_format.first_code_id
        labeled = wanted != NO_LABEL
        code = self.code_loss(flat[labeled], table, wanted[labeled])
        speech = flat[spoken]
        first = masked_cross_entropy(self.phone_now(speech), now.flatten()[spoken])
        second = masked_cross_entropy(self.phone_next(speech), after.flatten()[spoken])
        return code, first, second


def code_loss(hidden: torch.Tensor, table: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Cross-entropy over the whole vocabulary: hidden (N, width), table (V, width), wanted (N,) -> scalar."""
    return F.cross_entropy((hidden @ table.T).float(), wanted)


def masked_cross_entropy(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean over the labeled positions; 0 without any, as in rows without text."""
    sums = F.cross_entropy(logits.float(), labels, ignore_index=NO_LABEL, reduction="sum")
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
    code, now, after, false_code = sums / weight
    model.train()
    return {
        "held_out": round(code, 4),
        "text_gain": round(false_code - code, 4),
        "phone": round(now, 4),
        "next_phone": round(after, 4),
    }


def save_model(model: Aligner, tokenizer: Path, folder: Path, metadata: dict) -> None:
    """Write a plain checkpoint folder. It is replaced as a whole, so that another process can read it at any time."""
    partial = folder.with_name(folder.name + ".part")
    shutil.rmtree(partial, ignore_errors=True)
    shutil.copytree(tokenizer, partial)
    plain = copy.deepcopy(model.lm)
    with torch.no_grad():
        plain.model.embed_tokens.weight.copy_(model.table())
    plain.to(torch.bfloat16).save_pretrained(partial)
    (partial / "llasa.json").write_text(json.dumps(metadata, indent=2) + "\n")
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    partial.rename(folder)


# --- training ---


def initialize_text(table: torch.Tensor, tokenizer: Path, old_table: torch.Tensor, source: Path) -> None:
    """Take over the embeddings of the tokens before the codes from another model, by their names.

    A phone that the other model does not have starts like the letter that is often written for it, a speaker like the mean of the
    other model's.
    """
    ids, old_ids = (Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab() for folder in (tokenizer, source))
    speakers = [index for token, index in old_ids.items() if token.startswith("Speaker ")]
    for token, index in ids.items():
        if token.startswith("<|s_"):
            continue
        alike = LETTER_OF_PHONE.get(token.strip("/"), token.strip("/"))
        if token in old_ids or alike in old_ids:
            table[index] = old_table[old_ids[token if token in old_ids else alike]]
        elif token.startswith("Speaker "):
            table[index] = old_table[speakers].mean(0)


@torch.no_grad()
def initialize_from(model: Aligner, tokenizer: Path, source: Path, same_codec: bool) -> None:
    """Take over the weights of another run's last.pt or of a model's folder.

    A model's folder may have fewer layers, no phones and other speakers: added layers add nothing at first. It has no phone heads, and
    its code embeddings are sums. Without `same_codec` the embeddings of the codes start anew: the codes of another codec mean
    something else. With it, the other codec was an earlier stage of this one's training, whose codes are similar; if this one
    has more quantizer dimensions, codes that differ only in these start alike.
    """
    first, count = model.prompt_format.first_code_id, model.prompt_format.code_count
    table = model.lm.model.embed_tokens.weight
    fresh, levels = table[first : first + count].clone(), model.level_vectors.clone()
    if source.is_dir():
        state = LlamaForCausalLM.from_pretrained(source, dtype=torch.float32).state_dict()
        old_format = PromptFormat.load(source)
        old_table = state["model.embed_tokens.weight"]
        old_codes = old_table[old_format.first_code_id :][: old_format.code_count]
        initialize_text(table, tokenizer, old_table, source)
        table[first : first + count] = old_codes[torch.arange(count) % old_format.code_count]
        own = model.lm.state_dict()
        copied = {name: value for name, value in state.items() if "embed_tokens" not in name and "lm_head" not in name}
        for name, value in own.items():
            if name in copied:
                value.copy_(copied[name])
            elif name.endswith(("o_proj.weight", "down_proj.weight")):
                value.zero_()
        model.level_vectors.zero_()
    else:
        load(source, {"model": model})
    if not same_codec:
        table[first : first + count] = fresh
        model.level_vectors.copy_(levels)


def optimizers(model: Aligner, rate: float, muon: bool) -> list[torch.optim.Optimizer]:
    matrices = [p for n, p in model.lm.model.layers.named_parameters() if p.ndim == 2]
    chosen = {id(p) for p in matrices}
    others = [p for p in model.parameters() if id(p) not in chosen]
    if not muon:
        return [torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.95), weight_decay=0.05, fused=True)]
    return [
        Muon(matrices, lr=rate, weight_decay=0.05),
        torch.optim.AdamW(others, lr=rate, betas=(0.9, 0.95), weight_decay=0.0, fused=True),
    ]


def train(arguments: argparse.Namespace) -> None:
    group = ProcessGroup()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    prompt_format = PromptFormat.load(arguments.tokenizer)
    shares = {name: float(share) for name, share in (pair.split("=") for pair in arguments.shares)}
    clips = Clips(arguments.codes, shares, arguments.validation)
    print(f"{len(clips.texts)} clips, {clips.lengths.sum() / 180_000:.1f} h", flush=True)
    rows = Rows(clips, prompt_format, arguments.speaker_dropout, arguments.text_dropout, arguments.spelled)
    model = Aligner(prompt_format, tuple(arguments.levels))
    print("parameters:", sum(p.numel() for p in model.lm.parameters()), flush=True)
    chain = optimizers(model, arguments.rate, arguments.muon)
    step, spent, tokens_seen = 0, 0.0, 0
    last = out / "last.pt"
    parts = {"model": model, **{f"optimizer_{number}": optimizer for number, optimizer in enumerate(chain)}}
    if last.exists() or arguments.branch_from:
        state = load(last if last.exists() else arguments.branch_from, parts)
        step, tokens_seen = state["step"], state["tokens"]
        spent = state["spent"] if last.exists() else 0.0
    elif arguments.init_from:
        initialize_from(model, arguments.tokenizer, arguments.init_from, arguments.same_codec)
    if arguments.compile:
        model.compile_parts()
    metadata = {
        "format": 1,
        "codec": arguments.codec,
        "sampling": {"temperature": 0.6, "top_p": 0.9},
        "speakers": list(NAMED_SPEAKERS),
        "default_speaker": next(iter(NAMED_SPEAKERS)),
        "language": ["en"],
        "license": "Apache-2.0",
        "base": None,
    }
    budget = arguments.minutes * 60
    began = time.process_time()  # so that other work on the machine delays training and does not shorten it
    mark = saved_at = time.monotonic()
    random = np.random.default_rng([step, group.rank])
    feed: Iterator[tuple[list[torch.Tensor], int]] | None = None
    feed_limit, sums, since, since_tokens = 0, np.zeros(3), 0, 0

    def save_all() -> None:
        save(last, parts, step=step, spent=spent + time.process_time() - began, tokens=tokens_seen)
        save_model(model, arguments.tokenizer, out / "model", metadata | {"steps": step, "tokens": tokens_seen})

    while True:
        share = group.broadcast((spent + time.process_time() - began) / budget)
        if share >= 1:
            break
        factor = 1.0 if arguments.branch_from else min(1.0, (step + 1) / 60)
        if arguments.decay and share > 1 - arguments.decay:
            factor *= max(0.02, (1 - share) / arguments.decay)
        for optimizer in chain:
            for settings in optimizer.param_groups:
                settings["lr"] = arguments.rate * factor
        # Clips of 1 s at first; of every length after `--short-first` million tokens.
        grown = tokens_seen / 1e6 / arguments.short_first if arguments.short_first else 1.0
        limit = 50 + 25 * int(grown * 10) if grown < 1 else 10_000
        if feed is None or limit != feed_limit:
            joined = 0.0 if grown < 1 else arguments.joined
            feed, feed_limit = batches(rows, random, arguments.tokens, limit, joined), limit
        batch, count = next(feed)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=arguments.bf16):
            code, now, after = model.losses(*batch)
        loss = code + arguments.phones * (now + after)
        for optimizer in chain:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        group.average_gradients(model)
        norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        if math.isfinite(float(norm)):
            for optimizer in chain:
                optimizer.step()
        step += 1
        since += 1
        sums += np.array([float(x.detach()) for x in (code, now, after)])
        tokens_seen += count * group.size  # approximately: other processes have rows of other lengths
        since_tokens += count * group.size
        if group.rank == 0 and step % arguments.report == 0:
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
        if group.rank == 0 and time.monotonic() - saved_at > arguments.save_every * 60:
            save_all()
            saved_at = time.monotonic()
    if group.rank == 0:
        save_all()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("codes", type=Path)
    parser.add_argument("tokenizer", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--shares",
        nargs="+",
        default=["heart=0.5", "named=0.25", "english=0.1", "blends=0.15"],
        help="sets of the corpus and their shares of the rows",
    )
    parser.add_argument("--codec", default="codec", help="the codec's folder, as llasa.json names it")
    parser.add_argument("--levels", type=int, nargs="+", default=[4] * 7, help="of the codec's quantizer")
    parser.add_argument("--minutes", type=float, default=60, help="processor time of this run, resumptions included")
    parser.add_argument("--init-from", type=Path, help="last.pt or model folder, possibly over another codec's codes")
    parser.add_argument("--same-codec", action="store_true", help="keep the code embeddings of --init-from")
    parser.add_argument(
        "--branch-from", type=Path, help="last.pt of another run: all state, with a schedule of its own"
    )
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--decay", type=float, default=0.0, help="last share of the run in which the rate falls")
    parser.add_argument("--tokens", type=int, default=1800, help="tokens a step, padding included")
    parser.add_argument("--phones", type=float, default=0.3, help="weight of each phone loss; 0 turns them off")
    parser.add_argument("--short-first", type=float, default=2.0, help="million tokens in which clips grow from 1 s")
    parser.add_argument("--joined", type=float, default=0.3, help="share of rows made of two or three clips")
    parser.add_argument("--speaker-dropout", type=float, default=0.2, help="share of rows without a speaker tag")
    parser.add_argument("--text-dropout", type=float, default=0.1, help="share of rows without text")
    parser.add_argument("--spelled", type=float, default=0.15, help="share of the lexicon's words that are spelled")
    parser.add_argument("--validation", type=int, default=240, help="held-out clips")
    parser.add_argument("--report", type=int, default=200)
    parser.add_argument("--save-every", type=float, default=5, help="minutes between checkpoints")
    parser.add_argument("--muon", action="store_true")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--compile", action="store_true", help="compile the network (needs a C++ compiler)")
    train(parser.parse_args())


if __name__ == "__main__":
    main()
