"""Train the codec's decoder once more with the codes frozen: better sound for a language model that has learnt them.

    python decoder.py CORPUS CODES CODEC OUT --minutes 60        (the same command resumes from OUT/last.pt)
    torchrun --nproc-per-node 2 decoder.py ...                   (twice the batch in as much time)

In: the corpus, the codes of `encode.py`, the codec that made them. Out: OUT/codec, the same encoder and quantiser with a
new decoder; OUT/log.jsonl. Only what comes after the code is trained (`project_out`, decoder, ISTFT head), on whole
utterances, since the decoder's GroupNorm runs over time.

What the codes don't say (the phase, and pitch to a part in a hundred) makes a regression blur: log spectra are compared bin
by bin over short windows only, which see no harmonics; a discriminator judges the long windows.
A phone recognizer judges the words; it is trained on the real sound at the same time (`losses.py`).
The gradients are balanced, and all is in float32: a phase of many turns has no room in bfloat16's eight bits.

`--layers` deepens the decoder by transformer layers that do nothing at first, so that it begins where it was.
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
from transformers import Xcodec2Config, Xcodec2Model

from codec import HOP, PHONES, read_clip
from kept import load, save
from losses import Discriminator, Recogniser, Spectra, balanced, fooled, heard_alike, pieces, told_apart
from team import Team

CAN_TELL = 150
"""Steps in which the discriminator and the recogniser learn alone, where they begin from nothing."""
ADDS = ("self_attn.o_proj.weight", "mlp.fc2.weight")
"""Of a transformer layer: where they are zero it adds nothing to what passes it."""


class Pairs:
    """Clips with their codes and phones in memory, grouped by length."""

    def __init__(self, corpus: Path, codes: Path, voices: list[str], shards: int) -> None:
        self.clips: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self.by_length: dict[int, list[int]] = {}
        self.voice_of: list[str] = []
        for voice in voices:
            speaker, _, speed = voice.partition("@")
            for path in sorted((codes / voice).glob("[0-9]*.npz"))[:shards]:
                with np.load(path) as shard:
                    ends = np.cumsum(shard["lengths"])[:-1]
                    parts = zip(np.split(shard["codes"], ends), np.split(shard["phones"], ends), strict=True)
                for number, (part, phones) in enumerate(parts):
                    if len(part) >= 40:
                        samples = read_clip(corpus / speaker / path.stem / f"{number:06d}.wav", float(speed or 1))
                        samples = np.clip(samples * 32768, -32768, 32767).astype(np.int16)
                        self.by_length.setdefault(len(part), []).append(len(self.clips))
                        self.clips.append((part, samples[: len(part) * HOP], phones))
                        self.voice_of.append(voice)

    def batches(
        self, random: np.random.Generator, codes: int
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Endless (B, 1, n) codes, (B, 320 n) samples and (B, n) phones, about `codes` codes a batch."""
        lengths = np.array(sorted(self.by_length))
        weights = np.array([len(self.by_length[n]) * n for n in lengths], float)
        while True:
            length = int(random.choice(lengths, p=weights / weights.sum()))
            picks = random.choice(self.by_length[length], size=max(1, codes // length))
            chosen, samples, phones = (np.stack(each) for each in zip(*(self.clips[i] for i in picks), strict=True))
            yield (
                torch.from_numpy(chosen.astype(np.int64))[:, None],
                torch.from_numpy(samples.astype(np.float32) / 32768),
                torch.from_numpy(phones.astype(np.int64)),
            )


def deepened(folder: Path, layers: int | None) -> Xcodec2Model:
    """The codec of `folder` in float32; the layers that its decoder is to have more add nothing to what passes them."""
    config = Xcodec2Config.from_pretrained(folder)
    had, config.num_hidden_layers = config.num_hidden_layers, layers or config.num_hidden_layers
    codec = Xcodec2Model.from_pretrained(folder, config=config, dtype=torch.float32)
    with torch.no_grad():
        for layer in codec.acoustic_decoder.layers[had:]:
            for linear in (m for m in layer.modules() if isinstance(m, nn.Linear)):
                linear.weight.normal_(0, 1 / math.sqrt(linear.in_features))
            for name in ADDS:
                layer.get_parameter(name).zero_()
    return codec


def train(arguments: argparse.Namespace) -> None:
    team = Team()
    torch.manual_seed(0)  # the same discriminator in each process
    torch.set_num_threads(1)
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    pairs = Pairs(arguments.corpus, arguments.codes, arguments.voices, arguments.shards)
    print(len(pairs.clips), "clips", flush=True)
    codec = deepened(arguments.codec, arguments.layers)
    codec.requires_grad_(False)
    taught = nn.ModuleList([codec.quantizer.project_out, codec.acoustic_decoder]).requires_grad_(True)
    spectra, critic = Spectra(arguments.log_sizes), Discriminator(arguments.width, arguments.sizes)
    recogniser = Recogniser(len(PHONES))
    kept = {
        "codec": codec,
        "optimiser": torch.optim.AdamW(taught.parameters(), lr=arguments.rate, betas=(0.8, 0.98), weight_decay=0.01),
        "critic": critic,
        "critic_optimiser": torch.optim.AdamW(critic.parameters(), lr=arguments.critic_rate, betas=(0.5, 0.9)),
        "recogniser": recogniser,
        "recogniser_optimiser": torch.optim.AdamW(recogniser.parameters(), lr=1e-3),
    }
    step, spent = 0, 0.0
    last = out / "last.pt"
    if last.exists():
        state = load(last, kept)
        step, spent = state["step"], state["spent"]
    elif arguments.judges:
        load(arguments.judges, {"critic": critic, "recogniser": recogniser})
    learns_from = 0 if arguments.judges else CAN_TELL
    # Processor time, so that a busy machine delays training instead of shortening it.
    began, mark = time.process_time(), time.monotonic()
    sums: dict[str, float] = {}
    torch.manual_seed(team.rank)  # from here on each hears its own pieces
    feed = pairs.batches(np.random.default_rng([step, team.rank]), arguments.batch)

    def keep() -> None:
        if not team.rank:
            save(last, kept, step=step, spent=spent + time.process_time() - began)

    while True:
        share = team.agreed((spent + time.process_time() - began) / (arguments.minutes * 60))
        if share >= 1:
            break
        rate = min(1, (step - learns_from + 1) / 100) * (1 if share < 0.4 else 0.05 + 0.95 * (1 - share) / 0.6)
        for group in kept["optimiser"].param_groups:
            group["lr"] = arguments.rate * rate
        codes, real, phones = next(feed)
        learns = step >= learns_from
        with torch.set_grad_enabled(learns):
            made = codec.acoustic_decoder(codec.quantizer.from_codes(codes.transpose(1, 2)))[:, 0]
        piece, truth = pieces(made, real)
        parts = {}
        if learns:
            critic.requires_grad_(False)
            recogniser.requires_grad_(False)
            stft, mel = spectra(made, real)
            fool, match = fooled(critic, piece, truth)
            heard = heard_alike(recogniser, made, real)
            optimiser = kept["optimiser"]
            optimiser.zero_grad(set_to_none=True)
            losses = [
                (1.0, stft + 2.0 * mel),
                (arguments.fool, fool),
                (arguments.match, match),
                (arguments.heard, heard),
            ]
            made.backward(balanced(made, losses))
            team.mean_gradients(taught)
            norm = nn.utils.clip_grad_norm_(taught.parameters(), 1.0)
            if torch.isfinite(norm):
                optimiser.step()
            critic.requires_grad_(True)
            recogniser.requires_grad_(True)
            parts = {"stft": stft, "mel": mel, "fool": fool, "match": match, "heard": heard, "norm": norm}
        parts["critic"] = told_apart(critic, piece.detach(), truth)
        team.learn(critic, kept["critic_optimiser"], parts["critic"])
        parts["reads"] = F.cross_entropy(recogniser(real)[0], phones, label_smoothing=0.05)
        team.learn(recogniser, kept["recogniser_optimiser"], parts["reads"])
        step += 1
        for name, value in parts.items():
            sums[name] = sums.get(name, 0.0) + float(value.detach())
        if step % 100 == 0 and not team.rank:
            row = {name: round(value / 100, 4) for name, value in sums.items()}
            row |= {"step": step, "minutes": round(share * arguments.minutes, 1)}
            row["steps_per_s"] = round(100 / (time.monotonic() - mark), 2)
            with (out / "log.jsonl").open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)
            sums, mark = {}, time.monotonic()
        if step % 300 == 0:
            keep()
    keep()
    if team.rank == 0:
        codec.half().save_pretrained(out / "codec")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("codes", type=Path)
    parser.add_argument("codec", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--voices", nargs="+", default=["rms"])
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--minutes", type=float, default=60, help="of processor time, in all, over every resumption")
    parser.add_argument("--batch", type=int, default=400, help="codes a step and process")
    parser.add_argument("--rate", type=float, default=8e-4)
    parser.add_argument("--layers", type=int, help="of the decoder's transformer, where it is to become deeper")
    parser.add_argument(
        "--judges", type=Path, help="last.pt of another run, whose discriminator and recognizer are trained further"
    )
    parser.add_argument("--critic-rate", type=float, default=1e-3)
    parser.add_argument("--width", type=int, default=24, help="channels of the discriminator")
    parser.add_argument("--sizes", type=int, nargs="+", default=[512, 1024, 2048], help="windows it sees spectra of")
    parser.add_argument(
        "--log-sizes", type=int, nargs="*", default=[256, 512], help="windows whose log spectra are compared bin by bin"
    )
    parser.add_argument("--fool", type=float, default=2.5, help="share of the gradient, to that of the spectra")
    parser.add_argument("--match", type=float, default=1.0, help="the same, of the discriminator's features")
    parser.add_argument("--heard", type=float, default=1.0, help="the same, of the recogniser's features")
    train(parser.parse_args())


if __name__ == "__main__":
    main()
