"""Train the built-in codec: X-Codec2 at a small shape, on the teacher's speech.

    python codec.py CORPUS OUT --minutes 60        (again to go on: it resumes from OUT/last.pt)
    python codec.py CORPUS OUT --export FOLDER     (an Xcodec2Model folder in 16 bit)

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
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
import torch
import torch.nn.functional as F
from torch import nn

SAMPLING_RATE_HZ = 16_000
HOP = 320
VOICES = ("rms", "slt", "awb", "kal16")
PHONES = (
    "pau aa ae ah ao aw ax axr ay b ch d dh eh er ey f g hh ih iy jh k l m n ng ow oy p r s sh t th uh uw v w y z zh"
).split()
# Quantiser inputs with this mean and spread use the four levels of X-Codec2's doubly bounded FSQ evenly.
LEVEL_MEAN, LEVEL_STD = -0.22, 0.9


def configuration() -> dict:
    """The shape: 4,096 codes (4^6), 50 a second; about 7 M parameters."""
    return {
        "hidden_size": 256,
        "intermediate_size": 768,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "head_dim": 64,
        # Few residual units at 16 kHz: with the published ratios (2, 2, 4, 4, 5) this encoder takes two thirds of the time.
        "encoder_hidden_size": 4,
        "downsampling_ratios": [8, 8, 5],
        "quantization_dim": 256 + 192,
        "quantization_levels": [4, 4, 4, 4, 4, 4],
        "activation_dropout": 0.0,
        "semantic_model_config": {
            "model_type": "wav2vec2-bert",
            "hidden_size": 192,
            "num_hidden_layers": 2,
            "num_attention_heads": 3,
            "intermediate_size": 384,
            "feature_projection_input_dim": 160,
            "conv_depthwise_kernel_size": 15,
            "position_embeddings_type": "relative_key",
            "left_max_position_embeddings": 32,
            "right_max_position_embeddings": 32,
            "hidden_dropout": 0.0,
            "attention_dropout": 0.0,
            "activation_dropout": 0.0,
            "feat_proj_dropout": 0.0,
            "final_dropout": 0.0,
            "conformer_conv_dropout": 0.0,
            "layerdrop": 0.0,
            "apply_spec_augment": False,
            "vocab_size": None,
        },
    }


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


class Spectra(nn.Module):
    """Log-mel and multi-resolution STFT distances between two batches (B, T).

    `log_sizes`: the windows whose log spectra are compared bin by bin too.
    """

    def __init__(self, log_sizes: Sequence[int] = (256, 512, 1024, 2048)) -> None:
        super().__init__()
        from transformers.audio_utils import mel_filter_bank

        self.sizes, self.log_sizes = (256, 512, 1024, 2048), log_sizes
        for size in self.sizes:
            self.register_buffer(f"window{size}", torch.hann_window(size))
        mel = mel_filter_bank(513, 80, 20, 8000, 16000, "slaney", "slaney")
        self.register_buffer("mel", torch.tensor(mel, dtype=torch.float32))

    def forward(self, made: torch.Tensor, real: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        stft, mel = made.new_zeros(()), made.new_zeros(())
        for size in self.sizes:
            window = getattr(self, f"window{size}")
            both = torch.stft(torch.cat([made, real]), size, size // 4, window=window, return_complex=True)
            magnitude = (both.real.square() + both.imag.square() + 1e-9).sqrt()
            a, b = magnitude.chunk(2)
            stft = stft + (a - b).norm(dim=(1, 2)).div(b.norm(dim=(1, 2)) + 1e-3).mean()
            if size in self.log_sizes:
                stft = stft + (a.add(1e-3).log() - b.add(1e-3).log()).abs().mean()
            if size == 1024:
                a, b = (magnitude.transpose(1, 2) @ self.mel).clamp(min=1e-4).log().chunk(2)
                mel = (a - b).abs().mean()
        return stft / len(self.sizes), mel


# --- the network, trained through its own modules ---


class Trainee(nn.Module):
    """An Xcodec2Model with what is needed only while it learns."""

    def __init__(self) -> None:
        super().__init__()
        from transformers import Xcodec2Config, Xcodec2Model

        self.codec = Xcodec2Model(Xcodec2Config(**configuration()))
        self.bank = FilterBank()
        dimension = self.codec.config.quantization_dim
        self.phone_head = nn.Sequential(
            nn.Conv1d(dimension, 128, 3, padding=1), nn.SiLU(), nn.Conv1d(128, len(PHONES), 1)
        )
        self.teach_acoustic = True
        initialise(self.codec)

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
        quantizer = self.codec.quantizer
        levels = quantizer.project_in(self.before_quantiser(audio)).float()
        count = audio.shape[1] // HOP
        levels = levels[:, :count]
        quantised, codes = quantizer.quantizer(quantizer.quantizer.bound(levels))
        latents = quantizer.project_out(quantised)
        made = self.codec.acoustic_decoder(latents)[:, 0]
        return {
            "levels": levels,
            "codes": codes,
            "audio": made.float(),
            "phones": self.phone_head(latents.transpose(1, 2)).float(),
        }


@torch.no_grad()
def initialise(codec: nn.Module) -> None:
    """Weights by 1/sqrt(fan-in); ISTFT magnitudes small with random phases."""
    for module in codec.modules():
        if isinstance(module, (nn.Linear, nn.Conv1d)):
            fan_in = module.weight[0].numel()
            module.weight.normal_(0, 1 / math.sqrt(fan_in))
            if module.bias is not None:
                module.bias.zero_()
    for layer in codec.acoustic_decoder.layers:
        layer.self_attn.o_proj.weight.mul_(0.3)
        layer.mlp.fc2.weight.mul_(0.3)
    for block in (*codec.acoustic_decoder.prior_net, *codec.acoustic_decoder.post_net):
        block.conv2.weight.mul_(0.3)
    head = codec.acoustic_decoder.head.linear
    bins = head.bias.numel() // 2
    head.weight.mul_(0.3)
    head.bias[:bins] = -1.5
    head.bias[bins:].uniform_(-math.pi, math.pi)


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


class Discriminator(nn.Module):
    """Multi-resolution STFT discriminator: (B, T) -> one map of scores a resolution."""

    def __init__(self, width: int = 16, sizes: Sequence[int] = (256, 512, 1024)) -> None:
        super().__init__()
        self.sizes = sizes
        self.stacks = nn.ModuleList()
        for size in self.sizes:
            self.register_buffer(f"window{size}", torch.hann_window(size))
            layers: list[nn.Module] = [nn.Conv2d(1, width, (3, 9), padding=(1, 4))]
            for _ in range(3):
                layers += [nn.LeakyReLU(0.1), nn.Conv2d(width, width, (3, 9), stride=(1, 2), padding=(1, 4))]
            layers += [nn.LeakyReLU(0.1), nn.Conv2d(width, 1, (3, 3), padding=(1, 1))]
            self.stacks.append(
                nn.ModuleList(
                    nn.utils.parametrizations.weight_norm(x) if isinstance(x, nn.Conv2d) else x for x in layers
                )
            )

    def forward(self, audio: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        scores, features = [], []
        for size, stack in zip(self.sizes, self.stacks, strict=True):
            window = getattr(self, f"window{size}")
            spectrum = torch.stft(audio, size, size // 4, window=window, return_complex=True)
            x = (spectrum.real.square() + spectrum.imag.square() + 1e-9).pow(0.15)[:, None].transpose(2, 3)
            for layer in stack:
                x = layer(x)
                if isinstance(layer, nn.LeakyReLU):
                    features.append(x)
            scores.append(x)
        return scores, features


PIECE = 8_000
"""Samples of each row that the discriminator hears: of whole rows it would take ten times as long as all the rest."""


def pieces(made: torch.Tensor, real: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The same half second of both, each (B, T)."""
    start = int(torch.randint(0, max(1, made.shape[1] - PIECE + 1), ()))
    return made[:, start : start + PIECE], real[:, start : start + PIECE]


def fooled(critic: Discriminator, made: torch.Tensor, real: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """What the generator is to lower: how far it is from passing, and from the real sound's features."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores, features = critic(made)
        with torch.no_grad():
            _, wanted = critic(real)
    fool = torch.stack([(1 - s.float()).square().mean() for s in scores]).mean()
    match = torch.stack([(f.float() - g.float()).abs().mean() for f, g in zip(features, wanted, strict=True)]).mean()
    return fool, match


def told_apart(critic: Discriminator, made: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """What the discriminator is to lower (least squares)."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores, _ = critic(torch.cat([made, real]))
    halves = [s.float().chunk(2) for s in scores]
    return torch.stack([a.square().mean() + (1 - b).square().mean() for a, b in halves]).sum()


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

        `others`: the share of rows played faster or slower, pitch and all, which makes voices that nobody has.
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
    out: Path = arguments.out
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    streams = Streams(arguments.corpus, arguments.shards, dict(zip(VOICES, arguments.shares, strict=True)))
    print("hours:", [round(len(a) / 16000 / 3600, 2) for a in streams.audio], flush=True)
    trainee, spectra, critic = Trainee(), Spectra(), Discriminator()
    print("parameters:", sum(p.numel() for p in trainee.codec.parameters()), flush=True)
    random = np.random.default_rng(0)
    whiten(trainee, streams.batch(random, 16, 3.0)[0])
    optimiser = torch.optim.AdamW(trainee.parameters(), lr=arguments.rate, betas=(0.9, 0.98), weight_decay=0.01)
    critic_optimiser = torch.optim.AdamW(critic.parameters(), lr=3e-4, betas=(0.5, 0.9))
    step, spent = 0, 0.0
    last = out / "last.pt"
    begin = last if last.exists() else arguments.goes_on_from
    if begin is not None:
        state = torch.load(begin, weights_only=True)
        trainee.load_state_dict(state["trainee"])
        optimiser.load_state_dict(state["optimiser"])
        critic.load_state_dict(state["critic"])
        critic_optimiser.load_state_dict(state["critic_optimiser"])
        step, spent = state["step"], state["spent"] if begin == last else 0.0
        random = np.random.default_rng(step)
    budget = arguments.minutes * 60
    # Processor time: what else the machine does then changes when training ends, not how much of it there is.
    began, mark = time.process_time(), time.monotonic()
    sums: dict[str, float] = {}
    seen, seen_audio, since = set(), 0.0, 0

    def save() -> None:
        state = {
            "trainee": trainee.state_dict(),
            "optimiser": optimiser.state_dict(),
            "critic": critic.state_dict(),
            "critic_optimiser": critic_optimiser.state_dict(),
            "step": step,
            "spent": spent + time.process_time() - began,
        }
        torch.save(state, last.with_suffix(".part"))
        last.with_suffix(".part").replace(last)

    while True:
        total = spent + time.process_time() - began
        share = min(1.0, total / budget)
        if share >= 1:
            break
        # Warm up, hold, and over the last half fall to a twentieth.
        rate = arguments.rate * min(1, (step + 1) / 100) * (1 if share < 0.5 else 0.05 + 0.95 * (1 - (share - 0.5) * 2))
        for group in optimiser.param_groups:
            group["lr"] = rate
        seconds = 2.0 if share < 0.3 else 3.0
        audio, phones = streams.batch(random, arguments.rows, seconds, arguments.others)
        adversarial = share > arguments.critic_from
        trainee.teach_acoustic = step % arguments.acoustic_every == 0  # its backward pass costs twice all the rest
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=arguments.bf16):
            result = trainee(audio)
        stft, mel = spectra(result["audio"], audio)
        a, b = result["levels"].chunk(2)
        consistency = (a - b).square().mean()
        phone = F.cross_entropy(result["phones"], phones, label_smoothing=0.05)
        loss = stft + 2.0 * mel + 0.3 * spread_loss(result["levels"]) + arguments.consistency * consistency
        loss = loss + arguments.phone * phone
        parts = {"stft": stft, "mel": mel, "consistency": consistency, "phone": phone}
        if adversarial:
            piece, truth = pieces(result["audio"], audio)
            critic.requires_grad_(False)
            fool, match = fooled(critic, piece, truth)
            loss = loss + 0.1 * fool + 1.0 * match
            parts |= {"fool": fool, "match": match}
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(trainee.parameters(), 1.0)
        if torch.isfinite(norm):
            optimiser.step()
        if adversarial:
            critic.requires_grad_(True)
            critic_loss = told_apart(critic, piece.detach(), truth)
            critic_optimiser.zero_grad(set_to_none=True)
            critic_loss.backward()
            critic_optimiser.step()
            parts["critic"] = critic_loss
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
                "audio_per_s": round(seen_audio / (time.monotonic() - mark), 1),
            }
            with (out / "log.jsonl").open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)
            sums, seen, seen_audio, since, mark = {}, set(), 0.0, 0, time.monotonic()
        if step % 250 == 0:
            save()
    save()


def export(arguments: argparse.Namespace) -> None:
    """Write the codec as an Xcodec2Model folder in float16."""
    trainee = Trainee()
    trainee.load_state_dict(torch.load(arguments.out / "last.pt", weights_only=True)["trainee"])
    trainee.codec.half().save_pretrained(arguments.export)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--minutes", type=float, default=60, help="of processor time, in all, over every resumption")
    parser.add_argument("--goes-on-from", type=Path, help="last.pt of another run, under a schedule of its own")
    parser.add_argument("--shards", type=int, default=4, help="shards of 1,000 lines a voice to learn from")
    parser.add_argument("--shares", type=float, nargs=4, default=[1, 1, 1, 1], help=f"of {', '.join(VOICES)}")
    parser.add_argument("--others", type=float, default=0.25, help="share of crops at another pitch")
    parser.add_argument("--rows", type=int, default=4, help="crops a step; each is used twice, as it is and moved")
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--consistency", type=float, default=0.5)
    parser.add_argument("--phone", type=float, default=0.2)
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
