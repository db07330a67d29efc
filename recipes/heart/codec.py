"""Train the built-in codec: X-Codec2 at a small shape, on the teachers' speech.

    python codec.py train CORPUS OUT --minutes 60                        (again to resume from OUT/last.pt)
    python codec.py train CORPUS OUT --init-from FOLDER                  (start from a codec's folder, grown to the shape)
    python codec.py train CORPUS OUT2 --branch-from OUT/last.pt --minutes 15 --decay 1     (lower the rate to the end)
    python codec.py train CORPUS OUT3 --branch-from OUT/last.pt --freeze-codes ...         (a better decoder, same codes)
    python codec.py export OUT FOLDER                                    (an Xcodec2Model folder in 16 bit)

In: the corpus of `corpus.py` (WAV, timed phones). Out: checkpoints and `log.jsonl` in OUT.

How it differs from plain reconstruction, and why (figures in the model card):
- `Xcodec2Model`'s own initialization does not train at this size (one code for everything, silent ISTFT frames): weights
  start at 1/sqrt(fan-in), the ISTFT phase from random biases, `project_in` from whitened data.
- The quantizer's inputs are held to the mean and spread that use all levels, and to being uncorrelated.
- Half of each batch is the other half shifted by less than a frame, with faint noise. The quantizer's inputs of both are
  pulled together, so that a code depends on the speech and not on the position of the frame grid.
- A small head reads the phone (the teacher's own times) from the quantized latent. It makes the codes carry what the
  language model can know from the text, and is thrown away afterwards.
- A recognizer of phones and voices learns from the real sound; its features are a perceptual loss.
- A multi-resolution STFT discriminator (as in UnivNet) joins after `--discriminator-from` minutes.
- Crops are changed as recordings of people differ: pitch and tempo, frequency response, room, telephone band, noise.

The learning rate is constant, and falls only in a branch with `--decay`, so a run can be extended at any time. The exported
weights are an exponential moving average.
"""

from __future__ import annotations

import argparse
import copy
import json
import math
import time
from collections.abc import Callable
from dataclasses import astuple
from pathlib import Path

import numpy as np
import soundfile
import torch
import torch.nn.functional as F
from torch import nn
from transformers import Xcodec2Config, Xcodec2Model

from checkpointing import load, save
from corpus import SPEECH_LEVEL
from distributed import ProcessGroup
from losses import (
    Discriminator,
    Discriminators,
    PeriodDiscriminator,
    Recognizer,
    Spectra,
    adversarial_losses,
    balanced_gradient,
    discriminator_loss,
    feature_loss,
    recognizer_loss,
    segments,
)
from shape import configuration, initialize, load_codec
from speech_data import HOP, Augmentation, Batch, Synthesizer
from teachers import PHONES, SAMPLING_RATE_HZ

LEVEL_MEAN, LEVEL_STD = -0.22, 0.9
"""Quantizer inputs with this mean and spread use the four levels of X-Codec2's doubly bounded FSQ evenly."""
DECODER_GRADIENT_SHARE = 0.4
"""Of the sound's gradient at the latents, the share that reaches the encoder."""
EMA_DECAY = 0.998
HELPERS = "helpers.pt"
"""In a codec's folder: the phone head, the discriminator and the recognizer, so that training can start from the folder."""
DISCRIMINATOR_ALONE_STEPS, DISCRIMINATOR_RAMP_STEPS = 100, 300
"""A new discriminator first learns alone, then its share of the gradient grows."""


class FilterBank(nn.Module):
    """Kaldi filter-bank features as X-Codec2 expects them: (B, T) audio -> (B, T // 320 + 1, 160)."""

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


def in_float32(function: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[torch.Tensor], torch.Tensor]:
    """`function` outside of autocast: the head's phases of many turns need more than bfloat16's eight bits."""

    def call(x: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", enabled=False):
            return function(x.float())

    return call


class Trainee(nn.Module):
    """An Xcodec2Model with the parts that it needs only in training."""

    def __init__(self, codec: Xcodec2Model) -> None:
        super().__init__()
        self.codec = codec
        self.bank = FilterBank()
        dimension = self.codec.config.quantization_dim
        self.phone_head = nn.Sequential(
            nn.Conv1d(dimension, 128, 3, padding=1), nn.SiLU(), nn.Conv1d(128, len(PHONES), 1)
        )
        self.train_acoustic = True
        self.freeze_codes = False
        self.bf16_decoder = False
        self.codec.acoustic_decoder.head.forward = in_float32(self.codec.acoustic_decoder.head.forward)

    def before_quantizer(self, audio: torch.Tensor) -> torch.Tensor:
        """(B, T) -> (B, frames, quantization_dim), with gradients through the semantic encoder too."""
        codec = self.codec
        features = self.bank(audio)
        semantic = codec.semantic_encoder(features).last_hidden_state.transpose(1, 2)
        semantic = codec.semantic_adapter(semantic)
        padded = F.pad(audio, (0, (audio.shape[1] // HOP + 1) * HOP - audio.shape[1]))
        with (
            torch.set_grad_enabled(self.train_acoustic and torch.is_grad_enabled()),
            torch.autocast("cpu", enabled=False),
        ):
            acoustic = codec.acoustic_encoder(padded[:, None])
        count = min(semantic.shape[2], acoustic.shape[2])
        both = torch.cat([semantic[..., :count], acoustic[..., :count]], 1)
        return codec.fc_encoder(both.transpose(1, 2))

    def forward(self, audio: torch.Tensor) -> dict[str, torch.Tensor]:
        """(2 B, T), the second half being the first one shifted -> the codes of both, and the sound of the first half."""
        quantizer = self.codec.quantizer
        if self.freeze_codes:  # the shifted half is there for the codes' consistency only
            audio = audio[: len(audio) // 2]
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.freeze_codes):
            levels = quantizer.project_in(self.before_quantizer(audio)).float()
        levels = levels[:, : audio.shape[1] // HOP]
        quantized, codes = quantizer.quantizer(quantizer.quantizer.bound(levels))
        latents = quantizer.project_out(quantized)
        plain = latents if self.freeze_codes else latents[: len(latents) // 2]
        plain = DECODER_GRADIENT_SHARE * plain + (1 - DECODER_GRADIENT_SHARE) * plain.detach()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.bf16_decoder):
            made = self.codec.acoustic_decoder(plain.float())[:, 0]
        return {
            "levels": levels,
            "codes": codes,
            "audio": made,
            "phones": self.phone_head(latents.transpose(1, 2)).float(),
        }


def new_codec(arguments: argparse.Namespace) -> Xcodec2Model:
    """The codec to train: that of the checkpoint, a grown one, or a new one."""
    for checkpoint in (arguments.out / "last.pt", arguments.branch_from):
        if checkpoint and checkpoint.exists():
            return Xcodec2Model(Xcodec2Config.from_pretrained(checkpoint.parent))
    shape = configuration(arguments.levels, arguments.encoder_width, arguments.layers)
    if arguments.init_from:
        return load_codec(arguments.init_from, shape)
    codec = Xcodec2Model(Xcodec2Config(**shape))
    initialize(codec)
    return codec


@torch.no_grad()
def whiten(trainee: Trainee, audio: torch.Tensor, kept: int) -> None:
    """Point the quantizer's inputs after the first `kept` along the data's remaining principal directions."""
    hidden = trainee.before_quantizer(audio).flatten(0, 1).float()
    mean = hidden.mean(0)
    rest = hidden - mean
    project = trainee.codec.quantizer.project_in
    if kept:
        levels = (hidden @ project.weight[:kept].T) - (hidden @ project.weight[:kept].T).mean(0)
        rest = rest - levels @ torch.linalg.lstsq(levels, rest).solution
    _, spread, directions = torch.linalg.svd(rest, full_matrices=False)
    count = project.out_features - kept
    weight = directions[:count] / (spread[:count, None] / math.sqrt(len(hidden))) * LEVEL_STD
    project.weight[kept:] = weight
    project.bias[kept:] = LEVEL_MEAN - weight @ mean


def spread_loss(levels: torch.Tensor) -> torch.Tensor:
    """Distance of the quantizer's inputs from the mean and covariance that use every code."""
    flat = levels.flatten(0, 1)
    mean = flat.mean(0)
    centered = flat - mean
    covariance = centered.T @ centered / len(flat)
    wanted = torch.eye(len(mean), device=flat.device) * LEVEL_STD**2
    return (mean - LEVEL_MEAN).square().mean() + (covariance - wanted).square().mean()


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, step: int) -> None:
    decay = min(EMA_DECAY, (step + 1) / (step + 10))
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)


def learning_rate(arguments: argparse.Namespace, step: int, share: float) -> float:
    """Warm up over 100 steps, hold, and fall to a twentieth over the last `--decay` of the run."""
    rate = arguments.rate * (1.0 if arguments.branch_from else min(1.0, (step + 1) / 100))
    if arguments.decay and share > 1 - arguments.decay:
        rate *= 0.05 + 0.95 * (1 - share) / arguments.decay
    return rate


class Training:
    """One training run: its modules, optimizers and progress."""

    def __init__(self, arguments: argparse.Namespace, speech: Synthesizer, group: ProcessGroup) -> None:
        self.arguments, self.speech, self.group = arguments, speech, group
        codec = new_codec(arguments)
        self.average = copy.deepcopy(codec).requires_grad_(False)
        self.trainee = Trainee(codec)
        self.trainee.freeze_codes, self.trainee.bf16_decoder = arguments.freeze_codes, arguments.bf16_decoder
        self.spectra = Spectra()
        by_spectrum = Discriminator(arguments.discriminator_width)
        by_period = PeriodDiscriminator()
        self.discriminator = Discriminators(by_spectrum, by_period)
        self.helpers = {  # the networks that only training needs
            "phone_head": self.trainee.phone_head,
            "discriminator": by_spectrum,
            "period_discriminator": by_period,
        }
        self.helpers["recognizer"] = self.recognizer = Recognizer(len(PHONES), len(speech.voices))
        self.optimizer = torch.optim.AdamW(
            self.trainee.parameters(), lr=arguments.rate, betas=(0.8, 0.98), weight_decay=0.01
        )
        self.discriminator_optimizer = torch.optim.AdamW(self.discriminator.parameters(), lr=1e-3, betas=(0.5, 0.9))
        self.recognizer_optimizer = torch.optim.AdamW(self.recognizer.parameters(), lr=1e-3)
        self.parts = {
            "trainee": self.trainee,
            "average": self.average,
            "optimizer": self.optimizer,
            "discriminator": self.discriminator,
            "discriminator_optimizer": self.discriminator_optimizer,
            "recognizer": self.recognizer,
            "recognizer_optimizer": self.recognizer_optimizer,
        }
        self.step, self.adversarial_steps, self.spent_s = 0, 0, 0.0
        last = arguments.out / "last.pt"
        source = last if last.exists() else arguments.branch_from
        if source:
            fresh = ("discriminator", "discriminator_optimizer") if arguments.new_discriminator else ()
            state = load(source, {name: part for name, part in self.parts.items() if name not in fresh})
            self.step, self.adversarial_steps = state["step"], 0 if fresh else state["adversarial_steps"]
            self.spent_s = state["spent_s"] if source == last else 0.0
        else:
            if not group.rank:
                codec.config.save_pretrained(arguments.out)
            kept = 0
            if arguments.init_from:
                helpers = arguments.init_from / HELPERS
                if helpers.exists():
                    known = torch.load(helpers, weights_only=True)
                    for name in self.helpers.keys() & known.keys():
                        self.helpers[name].load_state_dict(known[name])
                kept = len(Xcodec2Config.from_pretrained(arguments.init_from).quantization_levels)
            if kept < len(arguments.levels):
                batch = speech.batch(np.random.default_rng(0), 16, 125, Augmentation())
                whiten(self.trainee, batch.audio, kept)
                self.average.load_state_dict(codec.state_dict())
        if source and not last.exists() and not group.rank:
            codec.config.save_pretrained(arguments.out)
        if arguments.compile:
            from fused_activation import fuse

            fuse(self.trainee.codec)

    def save(self, spent_s: float) -> None:
        if not self.group.rank:
            progress = {"step": self.step, "adversarial_steps": self.adversarial_steps, "spent_s": spent_s}
            save(self.arguments.out / "last.pt", self.parts, **progress)

    def train_step(self, batch: Batch, adversarial: bool) -> dict[str, torch.Tensor]:
        """One step of every part. Returns the losses."""
        arguments, real = self.arguments, batch.clean
        self.trainee.train_acoustic = self.step % arguments.acoustic_every == 0
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=arguments.bf16):
            result = self.trainee(batch.audio)
        made = result["audio"]
        stft, mel = self.spectra(made, real)
        parts = {"stft": stft, "mel": mel}
        if not arguments.freeze_codes:
            a, b = result["levels"].chunk(2)
            consistency = parts["consistency"] = (a - b).square().mean()
            phone = parts["phone"] = F.cross_entropy(result["phones"], batch.phones, label_smoothing=0.05)
            code_loss = (
                0.3 * spread_loss(result["levels"]) + arguments.consistency * consistency + arguments.phone * phone
            )
        sound = [(1.0, stft + 2.0 * mel)]
        if self.step > 300:  # by then the recognizer has learned something
            self.recognizer.requires_grad_(False)
            parts["feature"] = feature_loss(self.recognizer, made, real)
            self.recognizer.requires_grad_(True)
            sound.append((arguments.feature_share, parts["feature"]))
        if adversarial:
            fake, true = segments(made, real)
            ramp = (self.adversarial_steps - DISCRIMINATOR_ALONE_STEPS) / DISCRIMINATOR_RAMP_STEPS
            if ramp > 0:
                self.discriminator.requires_grad_(False)
                parts["adversarial"], parts["matching"] = adversarial_losses(self.discriminator, fake, true)
                self.discriminator.requires_grad_(True)
                ramp = min(1.0, ramp)
                sound.append((ramp * arguments.adversarial_share, parts["adversarial"]))
                sound.append((ramp * arguments.matching_share, parts["matching"]))
        self.optimizer.zero_grad(set_to_none=True)
        if arguments.freeze_codes:
            made.backward(balanced_gradient(made, sound))
        else:
            torch.autograd.backward([made, code_loss], [balanced_gradient(made, sound), None])
        self.group.average_gradients(self.trainee)
        parts["norm"] = nn.utils.clip_grad_norm_(self.trainee.parameters(), 1.0)
        if torch.isfinite(parts["norm"]):
            self.optimizer.step()
        update_average(self.average, self.trainee.codec, self.step)
        if self.step % 2 == 0 or self.step < 600:
            rows = batch.clean.shape[0]
            parts["recognizer"] = recognizer_loss(self.recognizer, real, batch.phones[:rows], batch.voices)
            self.group.step(self.recognizer, self.recognizer_optimizer, parts["recognizer"])
        if adversarial:
            parts["discriminator"] = discriminator_loss(self.discriminator, fake.detach(), true)
            self.group.step(self.discriminator, self.discriminator_optimizer, parts["discriminator"])
            self.adversarial_steps += 1
        self.step += 1
        if not arguments.freeze_codes:
            codes_a, codes_b = result["codes"].chunk(2)
            parts["same_code"] = (codes_a == codes_b).float().mean()
            parts["phone_accuracy"] = (result["phones"].argmax(1) == batch.phones).float().mean()
        self.codes_seen.update(result["codes"].flatten().tolist())
        return parts

    def run(self) -> None:
        arguments, group = self.arguments, self.group
        random = np.random.default_rng([self.step, group.rank])
        torch.manual_seed(group.rank)
        # Processor time: other work on the machine then changes when training ends, and not how long it is.
        began, mark = time.process_time(), time.monotonic()
        saved_at = mark
        sums: dict[str, list[float]] = {}
        self.codes_seen: set[int] = set()
        audio_s = 0.0
        augmentation = Augmentation(*(arguments.augmentation * p for p in astuple(Augmentation())))
        while True:
            total = group.broadcast(self.spent_s + time.process_time() - began)
            share = total / (arguments.minutes * 60)
            if share >= 1:
                break
            for settings in self.optimizer.param_groups:
                settings["lr"] = learning_rate(arguments, self.step, share)
            batch = self.speech.batch(random, arguments.rows, arguments.frames, augmentation)
            adversarial = (
                bool(arguments.branch_from and self.adversarial_steps) or total / 60 >= arguments.discriminator_from
            )
            for name, value in self.train_step(batch, adversarial).items():
                sums.setdefault(name, []).append(float(value.detach()))
            audio_s += arguments.rows * arguments.frames / 50
            if self.step % 50 == 0:
                row = {name: round(float(np.mean(values)), 4) for name, values in sums.items()}
                row |= {"step": self.step, "minutes": round(total / 60, 1), "codes_used": len(self.codes_seen)}
                row["audio_per_s"] = round(audio_s * group.size / (time.monotonic() - mark), 1)
                if not group.rank:
                    with (arguments.out / "log.jsonl").open("a") as file:
                        file.write(json.dumps(row) + "\n")
                    print(json.dumps(row), flush=True)
                sums, audio_s, mark = {}, 0.0, time.monotonic()
                self.codes_seen = set()
            if time.monotonic() - saved_at > arguments.save_every * 60:
                self.save(total)
                saved_at = time.monotonic()
        self.save(total)


def train(arguments: argparse.Namespace) -> None:
    group = ProcessGroup()
    arguments.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    shares = dict(pair.split("=") for pair in arguments.shares)
    voices = json.loads(Path(__file__).with_name("voices.json").read_text())
    speech = Synthesizer(arguments.corpus, {name: float(share) for name, share in shares.items()}, voices)
    print("hours:", speech.hours, len(speech.speakers), "speakers", flush=True)
    training = Training(arguments, speech, group)
    print("parameters:", sum(p.numel() for p in training.trainee.codec.parameters()), flush=True)
    training.run()


def mean_spectrum(samples: np.ndarray, size: int) -> np.ndarray:
    """Mean power of each bin (size // 2 + 1) over frames of `size` samples, a quarter apart."""
    frames = np.lib.stride_tricks.sliding_window_view(samples, size)[:: size // 4] * np.hanning(size)
    power: np.ndarray = np.square(np.abs(np.fft.rfft(frames))).mean(0)
    return power


@torch.no_grad()
def match_spectrum(codec: Xcodec2Model, clips: list[np.ndarray], smoothing: int = 17) -> np.ndarray:
    """Change the biases of the head's log magnitudes so that decoded clips have the clips' own mean spectrum.

    Training on spectral distances makes unpredictable parts quieter: without this, speech is 2 to 5 dB too quiet above 500 Hz.

    Returns:
        The gain of each of the n_fft / 2 + 1 bins, in dB, at most 6.
    """
    size = codec.config.n_fft
    real, made = np.zeros(size // 2 + 1), np.zeros(size // 2 + 1)
    bank = FilterBank()
    for clip in clips:
        audio = torch.from_numpy(clip[: len(clip) // HOP * HOP])[None]
        padded = F.pad(audio, (0, HOP))[:, None]
        codes = codec.encode(padded, bank(audio)).audio_codes
        decoded = codec.decode(codes).audio_values[0, 0].numpy()
        real += mean_spectrum(clip, size)
        made += mean_spectrum(decoded, size)
    kernel = np.hanning(smoothing + 2)[1:-1]
    gain = np.pad(0.5 * np.log(real / made), smoothing // 2, mode="edge")
    gain = np.convolve(gain, kernel / kernel.sum(), "valid").clip(-0.7, 0.7)
    codec.acoustic_decoder.head.linear.bias[: len(gain)] += torch.from_numpy(gain).float()
    return np.asarray(gain * 20 / math.log(10))


def export(arguments: argparse.Namespace) -> None:
    """Write the averaged codec as an Xcodec2Model folder in float16."""
    codec = Xcodec2Model(Xcodec2Config.from_pretrained(arguments.out))
    state = torch.load(arguments.out / "last.pt", weights_only=True)
    if arguments.raw:
        prefix = "codec."
        trainee = state["trainee"].items()
        codec.load_state_dict({name.removeprefix(prefix): v for name, v in trainee if name.startswith(prefix)})
    else:
        codec.load_state_dict(state["average"])
    if arguments.match_spectrum:
        random = np.random.default_rng(0)
        paths = [sorted((arguments.match_spectrum / name).glob("*/*.wav")) for name in ("heart", "named")]
        chosen = [paths[i % 2][int(random.integers(len(paths[i % 2])))] for i in range(80)]
        clips = [soundfile.read(path, dtype="float32")[0] for path in chosen]
        gains = match_spectrum(codec.float(), [clip for clip in clips if len(clip) > 2 * SAMPLING_RATE_HZ])
        print("gains in dB:", " ".join(f"{gain:.1f}" for gain in gains[::40]))
    codec.config.speech_level = SPEECH_LEVEL
    codec.half().save_pretrained(arguments.folder)
    if arguments.helpers:
        head = {name: v for name, v in state["trainee"].items() if name.startswith("phone_head.")}
        helpers = {"phone_head": {name.removeprefix("phone_head."): v for name, v in head.items()}}
        helpers["recognizer"] = state["recognizer"]
        for index, name in enumerate(("discriminator", "period_discriminator")):
            prefix = f"parts.{index}."
            of_part = {key: v for key, v in state["discriminator"].items() if key.startswith(prefix)}
            helpers[name] = {key.removeprefix(prefix): v for key, v in of_part.items()}
        halved = {name: {key: v.half() for key, v in part.items()} for name, part in helpers.items()}
        torch.save(halved, arguments.folder / HELPERS)
    print(f"step {state['step']}, {state['spent_s'] / 60:.1f} minutes -> {arguments.folder}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("train")
    command.set_defaults(run=train)
    command.add_argument("corpus", type=Path)
    command.add_argument("out", type=Path)
    command.add_argument("--minutes", type=float, default=60, help="processor time of this run, resumptions included")
    command.add_argument("--init-from", type=Path, help="a codec's folder, whose weights are grown to the shape")
    command.add_argument(
        "--branch-from", type=Path, help="last.pt of another run: all state, with a schedule of its own"
    )
    command.add_argument("--levels", type=int, nargs="+", default=[4] * 7, help="of the quantizer")
    command.add_argument("--encoder-width", type=int, default=4, help="channels of the acoustic encoder at 16 kHz")
    command.add_argument("--layers", type=int, default=6, help="transformer layers of the decoder")
    command.add_argument(
        "--shares",
        nargs="+",
        default=["heart=0.25", "english=0.3", "blends=0.35", "others=0.1"],
        help="sets of the corpus and their shares of the crops",
    )
    command.add_argument("--rows", type=int, default=4, help="crops a step; each is encoded twice, plain and shifted")
    command.add_argument("--frames", type=int, default=125, help="codes a crop")
    command.add_argument("--rate", type=float, default=6e-4)
    command.add_argument("--decay", type=float, default=0.0, help="last share of the run in which the rate falls")
    command.add_argument("--consistency", type=float, default=0.5)
    command.add_argument("--phone", type=float, default=0.3, help="weight of the phone head's loss")
    command.add_argument("--feature-share", type=float, default=1.0, help="of the gradient, relative to the spectra")
    command.add_argument("--adversarial-share", type=float, default=2.0, help="the same, of the discriminator")
    command.add_argument("--matching-share", type=float, default=1.0, help="the same, of the discriminator's features")
    command.add_argument("--discriminator-from", type=float, default=25, help="minutes after which it joins")
    command.add_argument("--new-discriminator", action="store_true", help="resume with a new discriminator")
    command.add_argument("--discriminator-width", type=int, default=16)
    command.add_argument("--acoustic-every", type=int, default=2, help="train the acoustic encoder every so many steps")
    command.add_argument(
        "--augmentation", type=float, default=1, help="factor of the probabilities of each change to a crop"
    )
    command.add_argument("--save-every", type=float, default=5, help="minutes between checkpoints")
    command.add_argument("--freeze-codes", action="store_true", help="train only what comes after the quantizer")
    command.add_argument("--bf16", action="store_true")
    command.add_argument("--bf16-decoder", action="store_true", help="the decoder in bfloat16, without its last layer")
    command.add_argument("--compile", action="store_true", help="compile the acoustic encoder's activations")
    command = commands.add_parser("export")
    command.set_defaults(run=export)
    command.add_argument("out", type=Path, help="folder of a run")
    command.add_argument("folder", type=Path)
    command.add_argument("--helpers", action="store_true", help="keep the networks that only training needs, too")
    command.add_argument(
        "--match-spectrum",
        type=Path,
        metavar="CORPUS",
        help="restore the mean spectrum, measured on 80 clips of heart and the named speakers",
    )
    command.add_argument("--raw", action="store_true", help="the weights of the last step instead of their average")
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
