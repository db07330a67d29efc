"""Training losses on sound: spectra, a discriminator, a recognizer of phones and voices, and the balance of their gradients."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn


class Spectra(nn.Module):
    """Log-mel and multi-resolution STFT distances between two batches (B, T).

    `log_sizes`: windows whose log spectra are compared bin by bin as well. Only short ones, which do not resolve harmonics:
    the codes do not determine the phase, nor the pitch to one percent, so a regression on harmonics blurs them.
    """

    def __init__(self, log_sizes: Sequence[int] = (256, 512)) -> None:
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


class ConvolutionStack(nn.ModuleList):
    """Convolutions and activations of a discriminator.

    Kaiming initialization without weight normalization: with torch's default and weight normalization a discriminator learned
    little in 100 steps (loss 1.45 on held-out crops, 1.5 being chance; so 0.97).
    """

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__(layers)
        for layer in layers:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, 0.1, nonlinearity="leaky_relu")
                nn.init.zeros_(layer.bias)

    def forward(self, x: torch.Tensor, features: list[torch.Tensor]) -> torch.Tensor:
        """The logits. What the activations return is appended to `features`."""
        for layer in self:
            x = layer(x)
            if isinstance(layer, nn.LeakyReLU):
                features.append(x)
        return x


class Discriminator(nn.Module):
    """Multi-resolution STFT discriminator: (B, T) -> one map of logits a resolution, and all hidden features."""

    def __init__(self, width: int = 16, sizes: Sequence[int] = (512, 1024, 2048)) -> None:
        super().__init__()
        self.sizes = sizes
        self.stacks = nn.ModuleList()
        for size in self.sizes:
            self.register_buffer(f"window{size}", torch.hann_window(size))
            layers: list[nn.Module] = [nn.Conv2d(1, width, (3, 9), padding=(1, 4))]
            for _ in range(3):
                layers += [nn.LeakyReLU(0.1), nn.Conv2d(width, width, (3, 9), stride=(1, 2), padding=(1, 4))]
            layers += [nn.LeakyReLU(0.1), nn.Conv2d(width, 1, (3, 3), padding=(1, 1))]
            self.stacks.append(ConvolutionStack(layers))

    def forward(self, audio: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        logits, features = [], []
        for size, stack in zip(self.sizes, self.stacks, strict=True):
            window = getattr(self, f"window{size}")
            spectrum = torch.stft(audio, size, size // 4, window=window, return_complex=True)
            x = (spectrum.real.square() + spectrum.imag.square() + 1e-9).pow(0.15)[:, None].transpose(2, 3)
            logits.append(stack(x, features))
        return logits, features


class PeriodDiscriminator(nn.Module):
    """HiFi-GAN's multi-period discriminator with few channels: (B, T) -> one map of logits a period, and all hidden features.

    Its input is the waveform, so it notices phases that do not fit between neighboring codes. Magnitudes do not show them.
    """

    def __init__(self, widths: Sequence[int] = (16, 64, 128, 128), periods: Sequence[int] = (2, 3, 5, 7, 11)) -> None:
        super().__init__()
        self.periods = periods
        self.stacks = nn.ModuleList()
        for _ in periods:
            layers: list[nn.Module] = []
            for index, width in enumerate(widths):
                stride = 3 if index < len(widths) - 1 else 1
                before = widths[index - 1] if index else 1
                layers += [nn.Conv2d(before, width, (5, 1), (stride, 1), padding=(2, 0)), nn.LeakyReLU(0.1)]
            layers.append(nn.Conv2d(widths[-1], 1, (3, 1), padding=(1, 0)))
            self.stacks.append(ConvolutionStack(layers))

    def forward(self, audio: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        logits, features = [], []
        for period, stack in zip(self.periods, self.stacks, strict=True):
            x = 10 * audio[:, : audio.shape[1] // period * period].unflatten(1, (-1, period))[:, None]
            logits.append(stack(x, features))
        return logits, features


class Discriminators(nn.Module):
    """Several discriminators as one."""

    def __init__(self, *parts: nn.Module) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, audio: torch.Tensor) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        results = [part(audio) for part in self.parts]
        return [x for logits, _ in results for x in logits], [x for _, features in results for x in features]


SEGMENT = 8_000
"""Samples of each row that the discriminator sees: whole rows would take ten times as long as everything else."""


def segments(made: torch.Tensor, real: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The same random half second of both, each (B, T)."""
    start = int(torch.randint(0, max(1, made.shape[1] - SEGMENT + 1), ()))
    return made[:, start : start + SEGMENT], real[:, start : start + SEGMENT]


def adversarial_losses(
    discriminator: nn.Module, made: torch.Tensor, real: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The generator's losses: least squares on the logits, and the distance of the features from those of the real sound."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits, features = discriminator(made)
        with torch.no_grad():
            _, wanted = discriminator(real)
    adversarial = torch.stack([(1 - s.float()).square().mean() for s in logits]).mean()
    pairs = zip(features, wanted, strict=True)
    return adversarial, torch.stack([(f.float() - g.float()).abs().mean() for f, g in pairs]).mean()


def discriminator_loss(discriminator: nn.Module, made: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """The discriminator's own loss (least squares)."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits, _ = discriminator(torch.cat([made, real]))
    halves = [s.float().chunk(2) for s in logits]
    return torch.stack([a.square().mean() + (1 - b).square().mean() for a, b in halves]).sum()


class Recognizer(nn.Module):
    """Recognizes phones and the voice: (B, T) -> (B, phones, T // 320), (B, voices) and the hidden features.

    It learns from real sound only. Generated sound should give it the same features: that is a perceptual loss for words
    and for the likeness of the speaker. Its voice target is the speaker's mixture of the teacher's voices.
    """

    def __init__(self, phones: int, voices: int, width: int = 128) -> None:
        super().__init__()
        from transformers.audio_utils import mel_filter_bank

        self.register_buffer("window", torch.hann_window(400))
        mel = mel_filter_bank(257, 64, 50, 8000, 16000, "slaney", "slaney")
        self.register_buffer("mel", torch.tensor(mel, dtype=torch.float32))
        self.stack = nn.ModuleList(
            nn.Conv1d(64 if i == 0 else width, width, 5, stride=2 if i == 1 else 1, padding=2) for i in range(5)
        )
        self.phones = nn.Conv1d(width, phones, 1)
        self.embedding = nn.Linear(2 * 2 * width, width)
        self.voices = nn.Linear(width, voices)

    def forward(self, audio: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
        spectrum = torch.stft(audio, 512, 160, 400, window=self.window, return_complex=True)[..., :-1]
        power = spectrum.real.square() + spectrum.imag.square()
        x = (power.transpose(1, 2) @ self.mel).add(1e-5).log().transpose(1, 2) / 4
        features = []
        for layer in self.stack:
            x = F.silu(layer(x))
            features.append(x)
        pooled = torch.cat([part for h in (features[2], x) for part in (h.mean(2), h.std(2))], 1)
        embedding = self.embedding(pooled)
        return self.phones(x), self.voices(F.silu(embedding)), [*features, embedding]


def recognizer_loss(
    recognizer: Recognizer, audio: torch.Tensor, phones: torch.Tensor, voices: torch.Tensor
) -> torch.Tensor:
    """The recognizer's own loss: phones (B, frames) and mixtures of voices (B, voices) of real sound."""
    phone_logits, voice_logits, _ = recognizer(audio)
    return F.cross_entropy(phone_logits, phones, label_smoothing=0.05) + 0.2 * F.cross_entropy(voice_logits, voices)


def feature_loss(recognizer: Recognizer, made: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """Distance of the recognizer's features of the generated sound from those of the real one, relative to their size."""
    *_, features = recognizer(made)
    with torch.no_grad():
        *_, wanted = recognizer(real)
    pairs = zip(features, wanted, strict=True)
    return torch.stack([(f - w).abs().mean() / w.abs().mean() for f, w in pairs]).mean()


def balanced_gradient(made: torch.Tensor, losses: list[tuple[float, torch.Tensor]]) -> torch.Tensor:
    """The gradient at `made` (B, T), to which each loss contributes its share whatever its scale (as EnCodec's balancer).

    `losses` are (share, loss) pairs. The first loss keeps its own gradient norm, by which the others are scaled.
    """
    gradients = [torch.autograd.grad(loss, made, retain_graph=True)[0] for _, loss in losses]
    norms = [gradient.norm() + 1e-12 for gradient in gradients]
    parts = zip(losses, gradients, norms, strict=True)
    return sum(gradient * (share * norms[0] / norm) for (share, _), gradient, norm in parts)
