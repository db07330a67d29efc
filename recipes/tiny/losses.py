"""What the codec's training compares speech by: spectra, a discriminator, a recogniser of phones; and how they share a gradient."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import nn


class Spectra(nn.Module):
    """Log-mel and multi-resolution STFT distances between two batches (B, T).

    `log_sizes`: the windows whose log spectra are compared bin by bin too. Short ones only, which see no harmonics: what
    the codes don't say (the phase, and pitch to a part in a hundred) makes a regression blur.
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


class Discriminator(nn.Module):
    """Multi-resolution STFT discriminator: (B, T) -> one map of scores a resolution."""

    def __init__(self, width: int = 24, sizes: Sequence[int] = (512, 1024, 2048)) -> None:
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


class Recogniser(nn.Module):
    """Reads phones from sound: (B, T) -> (B, phones, T // 320), and the features it saw on the way.

    Taught by the teacher's own sound only; made sound is to give it the same features, as a listener would have them.
    """

    def __init__(self, phones: int, width: int = 128) -> None:
        super().__init__()
        from transformers.audio_utils import mel_filter_bank

        self.register_buffer("window", torch.hann_window(400))
        mel = mel_filter_bank(257, 64, 50, 8000, 16000, "slaney", "slaney")
        self.register_buffer("mel", torch.tensor(mel, dtype=torch.float32))
        self.stack = nn.ModuleList(
            nn.Conv1d(64 if i == 0 else width, width, 5, stride=2 if i == 1 else 1, padding=2) for i in range(5)
        )
        self.reads = nn.Conv1d(width, phones, 1)

    def forward(self, audio: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        spectrum = torch.stft(audio, 512, 160, 400, window=self.window, return_complex=True)[..., :-1]
        power = spectrum.real.square() + spectrum.imag.square()
        x = (power.transpose(1, 2) @ self.mel).add(1e-5).log().transpose(1, 2) / 4
        features = []
        for layer in self.stack:
            x = F.silu(layer(x))
            features.append(x)
        return self.reads(x), features


def heard_alike(recogniser: Recogniser, made: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """How far the recogniser's features of the made sound are from those of the real one, relative to their size."""
    _, features = recogniser(made)
    with torch.no_grad():
        _, wanted = recogniser(real)
    pairs = zip(features, wanted, strict=True)
    return torch.stack([(f - w).abs().mean() / w.abs().mean() for f, w in pairs]).mean()


def balanced(made: torch.Tensor, losses: list[tuple[float, torch.Tensor]]) -> torch.Tensor:
    """The gradient at `made` (B, T), to which each loss gives its share however steep it is (as EnCodec's balancer).

    `losses` are (share, loss) pairs; the first loss keeps its own length, which the others' are measured by.
    """
    slopes = [torch.autograd.grad(loss, made, retain_graph=True)[0] for _, loss in losses]
    lengths = [slope.norm() + 1e-12 for slope in slopes]
    return sum(
        slope * (share * lengths[0] / length) for (share, _), slope, length in zip(losses, slopes, lengths, strict=True)
    )
