"""Train the built-in codec: X-Codec2 at a small shape, on the teacher's speech.

    python codec.py CORPUS OUT --minutes 60        (the same command resumes from OUT/last.pt)
    python codec.py CORPUS OUT --export FOLDER     (an Xcodec2Model folder in 16 bit)
    python codec.py CORPUS OUT --goes-on-from FOLDER     (from such a folder: what was kept besides is learnt anew)

In: the corpus of `corpus.py` (WAV, timed phones). Out: checkpoints and `log.jsonl` in OUT.

What differs from plain reconstruction, and why (figures in the model card):
- `Xcodec2Model`'s own initialisation does not train at this size (one code for everything, silent ISTFT frames):
  weights start at 1/sqrt(fan-in), the ISTFT phase from random biases, `project_in` from whitened data.
- The quantiser's inputs are held to the mean and spread that use all levels, and to being uncorrelated.
- Half of each batch is the other half moved by less than a frame and with faint noise: what the quantiser sees of both
  is pulled together, so that a code says what was spoken and not where the frame grid happened to lie.
- A small head reads the phone (flite's own times) from the quantised latent. It is thrown away afterwards; it makes
  the codes say what the language model can know from the text.
- Late in training a multi-resolution STFT discriminator (as in UnivNet) sharpens the sound.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path

import numpy as np
import soundfile
import torch
import torch.nn.functional as F
from torch import nn
from transformers import Xcodec2Config, Xcodec2Model

from kept import load, save
from losses import Discriminator, Recogniser, Spectra, balanced, fooled, heard_alike, pieces, told_apart
from shape import configuration, initialise
from team import Team

SAMPLING_RATE_HZ = 16_000
HOP = 320
VOICES = ("rms", "slt", "awb", "kal16")
PHONES = (
    "pau aa ae ah ao aw ax axr ay b ch d dh eh er ey f g hh ih iy jh k l m n ng ow oy p r s sh t th uh uw v w y z zh"
).split()
# Quantiser inputs with this mean and spread use the four levels of X-Codec2's doubly bounded FSQ evenly.
LEVEL_MEAN, LEVEL_STD = -0.22, 0.9
# Of the corpus, silences left out (rms .0746, slt .0747, awb .0768, kal16 .0756): all that the codec has heard is as loud.
SPEECH_LEVEL = 0.075
# The share of the sound's gradient that the encoder gets: the discriminator and the recogniser make it longer than it was
# when the weights of the losses on the codes were chosen.
DECODER_SAYS = 0.4


# --- features (torch, for whole batches of equal length; the package's numpy version is the definition) ---


class FilterBank(nn.Module):
    """Kaldi filter-bank features as X-Codec2 wants them: (B, T) audio -> (B, T // 320 + 1, 160)."""

    def __init__(self) -> None:
        super().__init__()
        from transformers.audio_utils import mel_filter_bank, window_function

        filters = mel_filter_bank(257, 80, 20, 8000, 16000, None, "kaldi", True)
        self.register_buffer("filters", torch.tensor(filters, dtype=torch.float32))
        self.register_buffer("window", torch.tensor(window_function(400, "povey", periodic=False), dtype=torch.float32))

    def forward(self, audio: torch.Tensor) -> torch.Tensor:
        length = (audio.shape[1] // HOP + 1) * HOP
        audio = F.pad(audio, (HOP // 2, length - audio.shape[1] + HOP // 2)) * 32768
        frames = audio.unfold(1, 400, 160)
        frames = frames - frames.mean(-1, keepdim=True)
        frames = frames - 0.97 * torch.cat([frames[..., :1], frames[..., :-1]], -1)
        power = torch.fft.rfft(frames * self.window, 512).abs().square()
        mel = (power @ self.filters).clamp(min=1.192092955078125e-07).log()
        mel = (mel - mel.mean(1, keepdim=True)) / (mel.var(1, keepdim=True) + 1e-7).sqrt()
        count = mel.shape[1] // 2
        return mel[:, : 2 * count].reshape(mel.shape[0], count, 160)


# --- the network, trained through its own modules ---


class Trainee(nn.Module):
    """An Xcodec2Model with what is needed only while it learns."""

    def __init__(self, codec: Xcodec2Model) -> None:
        super().__init__()
        self.codec = codec
        self.bank = FilterBank()
        dimension = self.codec.config.quantization_dim
        self.phone_head = nn.Sequential(
            nn.Conv1d(dimension, 128, 3, padding=1), nn.SiLU(), nn.Conv1d(128, len(PHONES), 1)
        )
        self.teach_acoustic = True

    def before_quantiser(self, audio: torch.Tensor) -> torch.Tensor:
        """(B, T) -> (B, frames, quantization_dim), with gradients through the semantic encoder too."""
        codec = self.codec
        features = self.bank(audio)
        semantic = codec.semantic_encoder(features).last_hidden_state.transpose(1, 2)
        semantic = codec.semantic_adapter(semantic)
        padded = F.pad(audio, (0, (audio.shape[1] // HOP + 1) * HOP - audio.shape[1]))
        with (
            torch.set_grad_enabled(self.teach_acoustic and torch.is_grad_enabled()),
            torch.autocast("cpu", enabled=False),
        ):
            acoustic = codec.acoustic_encoder(padded[:, None])
        count = min(semantic.shape[2], acoustic.shape[2])
        both = torch.cat([semantic[..., :count], acoustic[..., :count]], 1)
        return codec.fc_encoder(both.transpose(1, 2))

    def forward(self, audio: torch.Tensor) -> dict[str, torch.Tensor]:
        """(2 B, T), the second half being the first moved: of the first half the codes are made sound again."""
        quantizer = self.codec.quantizer
        levels = quantizer.project_in(self.before_quantiser(audio)).float()
        count = audio.shape[1] // HOP
        levels = levels[:, :count]
        quantised, codes = quantizer.quantizer(quantizer.quantizer.bound(levels))
        latents = quantizer.project_out(quantised)
        plain = latents[: len(latents) // 2]
        plain = DECODER_SAYS * plain + (1 - DECODER_SAYS) * plain.detach()
        with torch.autocast("cpu", enabled=False):  # a phase of many turns has no room in bfloat16's eight bits
            made = self.codec.acoustic_decoder(plain.float())[:, 0]
        return {
            "levels": levels,
            "codes": codes,
            "audio": made,
            "phones": self.phone_head(latents.transpose(1, 2)).float(),
        }


def begun(source: Path | None) -> Xcodec2Model:
    """What to train: a folder's codec, one of the shape of a run's last.pt, or a new one."""
    if source is None:
        codec = Xcodec2Model(Xcodec2Config(**configuration()))
        initialise(codec)
        return codec
    if source.is_dir():
        return Xcodec2Model.from_pretrained(source, dtype=torch.float32)
    return Xcodec2Model(Xcodec2Config.from_pretrained(source.parent))


@torch.no_grad()
def whiten(trainee: Trainee, audio: torch.Tensor) -> None:
    """Point `project_in` along the data's principal directions, at the spread that uses all levels."""
    hidden = trainee.before_quantiser(audio).flatten(0, 1).float()
    centre = hidden.mean(0)
    _, spread, directions = torch.linalg.svd(hidden - centre, full_matrices=False)
    project = trainee.codec.quantizer.project_in
    count = project.out_features
    weight = directions[:count] / (spread[:count, None] / math.sqrt(len(hidden))) * LEVEL_STD
    project.weight.copy_(weight)
    project.bias.copy_(LEVEL_MEAN - weight @ centre)


def spread_loss(levels: torch.Tensor) -> torch.Tensor:
    """How far the quantiser's inputs are from the mean and spread that use every code."""
    flat = levels.flatten(0, 1)
    mean = flat.mean(0)
    centred = flat - mean
    covariance = centred.T @ centred / len(flat)
    wanted = torch.eye(len(mean), device=flat.device) * LEVEL_STD**2
    return (mean - LEVEL_MEAN).square().mean() + (covariance - wanted).square().mean()


# --- data ---


class Streams:
    """Per voice, all utterances end to end in memory: int16 samples and a phone a frame of 20 ms."""

    def __init__(self, corpus: Path, shards: int, shares: dict[str, float]) -> None:
        self.audio: list[np.ndarray] = []
        self.phones: list[np.ndarray] = []
        self.shares = np.array(list(shares.values())) / sum(shares.values())
        for voice in shares:
            pieces, labels = [], []
            for table in sorted((corpus / voice).glob("*.phones.jsonl"))[:shards]:
                if not table.with_name(table.name.replace(".phones.jsonl", ".csv")).exists():
                    continue
                for line in table.read_text().splitlines():
                    row = json.loads(line)
                    samples, _ = soundfile.read(corpus / row["audio"], dtype="int16")
                    pieces.append(samples)
                    ends = np.array([end for _, end in row["phones"]])
                    names = np.array([PHONES.index(name) for name, _ in row["phones"]], dtype=np.int8)
                    # One label a millisecond keeps the joints of utterances exact.
                    middle = (np.arange(len(samples) // 16) + 0.5) / 1000
                    labels.append(names[np.minimum(np.searchsorted(ends, middle), len(names) - 1)])
                    pieces[-1] = samples[: len(samples) // 16 * 16]
            self.audio.append(np.concatenate(pieces))
            self.phones.append(np.concatenate(labels))

    def batch(
        self, random: np.random.Generator, rows: int, seconds: float, others: float = 0.0
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """float32 (2 rows, T) audio, the second half being the first moved and noisy; int64 (2 rows, frames) phones.

        `others`: the share of rows played faster or slower, pitch and all, which makes new voices.
        """
        length = int(seconds * 50) * HOP
        plain, moved, phones, phones_moved = [], [], [], []
        for voice in random.choice(len(self.audio), size=rows, p=self.shares):
            speed = random.uniform(0.8, 1.25) if random.random() < others else 1.0
            source = math.ceil((length + HOP) * speed / 16) * 16
            start = int(random.integers(0, (len(self.audio[voice]) - source) // 16)) * 16
            shift = int(random.integers(0, HOP // 32)) * 16  # under half a frame: the same sounds are spoken
            gain = 10 ** random.uniform(-0.15, 0.15) / 32768
            take = stretch(self.audio[voice][start : start + source].astype(np.float32) * gain, length + HOP)
            plain.append(take[:length])
            moved.append(take[shift : shift + length])
            for at, out in ((0, phones), (shift, phones_moved)):
                middles = at / 16 + np.arange(length // HOP) * 20 + 10
                out.append(
                    self.phones[voice][start // 16 + (middles * source / (length + HOP)).astype(int)].astype(np.int64)
                )
        noise = random.standard_normal((rows, length), dtype=np.float32) * 10 ** random.uniform(-4, -2.7)
        audio = np.concatenate([np.stack(plain), np.stack(moved) + noise])
        return torch.from_numpy(audio), torch.from_numpy(np.stack(phones + phones_moved))


def stretch(samples: np.ndarray, length: int) -> np.ndarray:
    """[n] -> [length]: the same sound in another time, and so at another pitch (by Fourier coefficients)."""
    if len(samples) == length:
        return samples
    bins = np.fft.rfft(samples)
    wanted = np.zeros(length // 2 + 1, bins.dtype)
    kept = min(len(bins), len(wanted)) - 1
    wanted[:kept] = bins[:kept]
    return (np.fft.irfft(wanted, length) * (length / len(samples))).astype(np.float32)


def read_clip(path: Path, speed: float = 1.0) -> np.ndarray:
    """float32 [n], played so much faster and higher, or slower and lower."""
    samples, _ = soundfile.read(path, dtype="float32")
    return samples if speed == 1 else stretch(samples, round(len(samples) / speed / 2) * 2)


# --- training ---


def train(arguments: argparse.Namespace) -> None:
    team = Team()
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    streams = Streams(arguments.corpus, arguments.shards, dict(zip(VOICES, arguments.shares, strict=True)))
    print("hours:", [round(len(a) / 16000 / 3600, 2) for a in streams.audio], flush=True)
    source: Path | None = arguments.goes_on_from
    trainee, spectra, critic, recogniser = Trainee(begun(source)), Spectra(), Discriminator(), Recogniser(len(PHONES))
    if not team.rank:
        trainee.codec.config.save_pretrained(out)  # the shape that last.pt is of
    print("parameters:", sum(p.numel() for p in trainee.codec.parameters()), flush=True)
    if source is None:
        whiten(trainee, streams.batch(np.random.default_rng(0), 16, 3.0)[0])
    optimiser = torch.optim.AdamW(trainee.parameters(), lr=arguments.rate, betas=(0.9, 0.98), weight_decay=0.01)
    critic_optimiser = torch.optim.AdamW(critic.parameters(), lr=1e-3, betas=(0.5, 0.9))
    recogniser_optimiser = torch.optim.AdamW(recogniser.parameters(), lr=1e-3)
    kept = {
        "trainee": trainee,
        "optimiser": optimiser,
        "critic": critic,
        "critic_optimiser": critic_optimiser,
        "recogniser": recogniser,
        "recogniser_optimiser": recogniser_optimiser,
    }
    step, spent = 0, 0.0
    last = out / "last.pt"
    if last.exists():
        state = load(last, kept)
        step, spent = state["step"], state["spent"]
    else:
        if source is not None and source.is_file():
            load(source, {"trainee": trainee})
        if arguments.judges:
            load(arguments.judges, {"critic": critic, "recogniser": recogniser})
    random = np.random.default_rng([step, team.rank])
    torch.manual_seed(team.rank)
    budget = arguments.minutes * 60
    # Processor time: what else the machine does then changes when training ends, not how much of it there is.
    began, mark = time.process_time(), time.monotonic()
    sums: dict[str, float] = {}
    seen, seen_audio, since = set(), 0.0, 0

    def keep() -> None:
        if not team.rank:
            save(last, kept, step=step, spent=spent + time.process_time() - began)

    while True:
        total = team.agreed(spent + time.process_time() - began)
        share = min(1.0, total / budget)
        if share >= 1:
            break
        # Warm up, hold, and over the last half fall to a twentieth.
        rate = arguments.rate * (1 if share < 0.5 else 0.05 + 0.95 * (1 - (share - 0.5) * 2))
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1, (step + 1) / 100)
        seconds = 2.0 if share < 0.3 and source is None else 3.0
        audio, phones = streams.batch(random, arguments.rows, seconds, arguments.others)
        real = audio[: arguments.rows]
        adversarial = share > arguments.critic_from
        trainee.teach_acoustic = step % arguments.acoustic_every == 0  # its backward pass costs twice all the rest
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=arguments.bf16):
            result = trainee(audio)
        made = result["audio"]
        stft, mel = spectra(made, real)
        a, b = result["levels"].chunk(2)
        consistency = (a - b).square().mean()
        phone = F.cross_entropy(result["phones"], phones, label_smoothing=0.05)
        of_codes = 0.3 * spread_loss(result["levels"]) + arguments.consistency * consistency + arguments.phone * phone
        parts = {"stft": stft, "mel": mel, "consistency": consistency, "phone": phone}
        of_sound = [(1.0, stft + 2.0 * mel)]
        recogniser.requires_grad_(False)
        if step > 300:  # by then it can read
            parts["heard"] = heard_alike(recogniser, made, real)
            of_sound.append((arguments.heard, parts["heard"]))
        if adversarial:
            piece, truth = pieces(made, real)
            critic.requires_grad_(False)
            fool, match = fooled(critic, piece, truth)
            of_sound += [(arguments.fool, fool), (1.0, match)]
            parts |= {"fool": fool, "match": match}
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward([made, of_codes], [balanced(made, of_sound), None])
        team.mean_gradients(trainee)
        norm = nn.utils.clip_grad_norm_(trainee.parameters(), 1.0)
        if torch.isfinite(norm):
            optimiser.step()
        recogniser.requires_grad_(True)
        parts["reads"] = F.cross_entropy(recogniser(audio)[0], phones, label_smoothing=0.05)
        team.learn(recogniser, recogniser_optimiser, parts["reads"])
        if adversarial:
            critic.requires_grad_(True)
            parts["critic"] = told_apart(critic, piece.detach(), truth)
            team.learn(critic, critic_optimiser, parts["critic"])
        step += 1
        since += 1
        seen_audio += audio.numel() / SAMPLING_RATE_HZ
        seen.update(result["codes"].flatten().tolist())
        parts["norm"] = norm
        codes_a, codes_b = result["codes"].chunk(2)
        parts["same"] = (codes_a == codes_b).float().mean()
        parts["phone_right"] = (result["phones"].argmax(1) == phones).float().mean()
        for name, value in parts.items():
            sums[name] = sums.get(name, 0.0) + float(value.detach())
        if since == 50:
            row = {name: round(value / since, 4) for name, value in sums.items()}
            row |= {
                "step": step,
                "minutes": round(total / 60, 1),
                "codes_used": len(seen),
                "audio_per_s": round(seen_audio * team.size / (time.monotonic() - mark), 1),
            }
            if not team.rank:
                with (out / "log.jsonl").open("a") as file:
                    file.write(json.dumps(row) + "\n")
                print(json.dumps(row), flush=True)
            sums, seen, seen_audio, since, mark = {}, set(), 0.0, 0, time.monotonic()
        if step % 250 == 0:
            keep()
    keep()


def export(arguments: argparse.Namespace) -> None:
    """Write the codec as an Xcodec2Model folder in float16."""
    last = arguments.out / "last.pt"
    trainee = Trainee(begun(last))
    load(last, {"trainee": trainee})
    trainee.codec.config.speech_level = SPEECH_LEVEL
    trainee.codec.half().save_pretrained(arguments.export)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=60, help="of processor time, in all, over every resumption")
    parser.add_argument(
        "--goes-on-from", type=Path, help="last.pt of another run, or a codec's folder, under a schedule of its own"
    )
    parser.add_argument(
        "--judges", type=Path, help="last.pt of another run, whose discriminator and recognizer are trained further"
    )
    parser.add_argument("--shards", type=int, default=4, help="shards of 1,000 lines a voice to learn from")
    parser.add_argument("--shares", type=float, nargs=4, default=[1, 1, 1, 1], help=f"of {', '.join(VOICES)}")
    parser.add_argument("--others", type=float, default=0.25, help="share of crops at another pitch")
    parser.add_argument("--rows", type=int, default=4, help="crops a step; each is used twice, as it is and moved")
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--consistency", type=float, default=0.5)
    parser.add_argument("--phone", type=float, default=0.2)
    parser.add_argument("--heard", type=float, default=1.0, help="share of the gradient, to that of the spectra")
    parser.add_argument("--fool", type=float, default=2.5, help="the same, of the discriminator")
    parser.add_argument("--critic-from", type=float, default=0.75, help="share of the minutes after which it judges")
    parser.add_argument(
        "--acoustic-every", type=int, default=4, help="steps from one that teaches the acoustic encoder to the next"
    )
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--export", type=Path)
    arguments = parser.parse_args()
    if arguments.export:
        export(arguments)
    else:
        train(arguments)


if __name__ == "__main__":
    main()
