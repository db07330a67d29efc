"""Perth's inaudible watermark, which the `neutts` package puts into all speech of NeuTTS's models.

    mark = load_watermark()
    samples = mark(samples, 24_000)        float32 [n], mono -> float32 [n]

A small network adds a pattern to the magnitudes below 2 kHz of the louder parts, which Perth's detector finds. The network's weights are
in the package `resemble-perth`. Only this file of it is used, because importing it needs torchaudio and librosa.

Source: resemble-perth 1.0.1, `PerthImplicitWatermarker.apply_watermark`; neutts 1.4.1, `NeuTTS.infer`.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llasa_cli.audio.reader import resample
from llasa_cli.errors import ModelError

if TYPE_CHECKING:
    import torch

WEIGHTS_FILE = Path("perth_net", "pretrained", "implicit", "perth_net_250000.pth.tar")
_RATE_HZ = 32_000
_FFT, _HOP = 2048, 320
_LOWEST_DB, _HEADROOM_DB = -180.0, 15.0
"""Magnitudes are scaled so that the lowest is 0 and +15 dB is 1."""
_LEAST_MAGNITUDE = 10 ** (_LOWEST_DB / 20)
_QUIET = 0.05
"""Frames below this share of the loudest frame are not marked."""


class Watermark:
    """The loaded network. Calling it marks a take."""

    def __init__(self, weights: dict[str, torch.Tensor]) -> None:
        from torch import nn

        kernels = {name.removesuffix(".weight"): tensor for name, tensor in weights.items() if name.endswith(".weight")}
        layers: list[nn.Module] = []
        for name, kernel in kernels.items():
            if name.startswith("encoder."):
                layers += [nn.Conv1d(kernel.shape[1], kernel.shape[0], kernel.shape[2], padding="same"), nn.LeakyReLU()]
                layers[-2].load_state_dict({part: weights[f"{name}.{part}"] for part in ("weight", "bias")})
        self._layers = nn.Sequential(*layers[:-1]).requires_grad_(False)
        self._bands = weights["encoder.layers.0.conv.weight"].shape[1]

    def __call__(self, samples: np.ndarray, rate_hz: int) -> np.ndarray:
        """Mark a take: float32 [n], mono -> float32 [n]."""
        import torch

        if not len(samples):
            return samples
        plain = resample(samples, rate_hz, _RATE_HZ)
        window = torch.hann_window(_FFT)
        padded = torch.from_numpy(np.pad(plain, (0, max(0, _FFT - len(plain)))))
        with torch.inference_mode():
            spectrum = torch.stft(padded, _FFT, _HOP, window=window, return_complex=True)  # [frequencies, frames]
            decibels = 20 * torch.log10(spectrum.abs().clip(_LEAST_MAGNITUDE))
            levels = (decibels - _LOWEST_DB) / (_HEADROOM_DB - _LOWEST_DB)
            loudness = levels.sum(0)
            pattern = self._layers(levels[None, : self._bands])[0] * (loudness > _QUIET * loudness.max())
            gain = 10 ** (pattern * (_HEADROOM_DB - _LOWEST_DB) / 20)
            added = torch.zeros_like(spectrum)
            added[: self._bands] = spectrum[: self._bands] * (gain - 1)
            difference = torch.istft(added, _FFT, _HOP, window=window, length=len(padded)).numpy()
        added_samples = resample(difference, _RATE_HZ, rate_hz)[: len(samples)]
        marked = samples.astype(np.float32)
        marked[: len(added_samples)] += added_samples
        return marked


def load_watermark() -> Watermark:
    """Load the network of `resemble-perth`.

    Raises:
        ModelError: The package is not installed, or its file is damaged.
    """
    hint = "pip install 'llasa-cli[neutts]', or speak without a watermark with --no-watermark."
    found = find_spec("perth")
    if found is None or found.origin is None:
        raise ModelError("Speech of NeuTTS gets a watermark, and the package resemble-perth is not installed.", hint)
    path = Path(found.origin).parent / WEIGHTS_FILE
    import torch

    try:
        stored: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        return Watermark(stored["model"])
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, IndexError) as error:
        raise ModelError(f"The watermark's weights {path} can't be read: {error}", hint) from error
