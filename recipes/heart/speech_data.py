"""The corpus in memory for the codec's training: crops of one speaker each, with phones, voices and augmentation."""

from __future__ import annotations

import csv
import json
import math
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import torch

from corpus import SPEECH_LEVEL, blend_of
from teachers import ENGLISH_PREFIXES, NAMED_SPEAKERS, PAUSE, PHONES, SAMPLING_RATE_HZ

HOP = 320
"""Samples a code."""
_MS = SAMPLING_RATE_HZ // 1000
_PAUSE = PHONES.index(PAUSE)


def stretch(samples: np.ndarray, length: int) -> np.ndarray:
    """[n] -> [length]: the same sound in another time and at another pitch (by Fourier coefficients)."""
    if len(samples) == length:
        return samples
    bins = np.fft.rfft(samples)
    wanted = np.zeros(length // 2 + 1, bins.dtype)
    count = min(len(bins), len(wanted)) - 1
    wanted[:count] = bins[:count]
    return (np.fft.irfft(wanted, length) * (length / len(samples))).astype(np.float32)


def read_clip(path: Path, speed: float = 1.0) -> np.ndarray:
    """float32 [n], played at `speed`, which moves the pitch too."""
    samples, _ = soundfile.read(path, dtype="float32")
    return samples if speed == 1 else stretch(samples, round(len(samples) / speed / 2) * 2)


@dataclass
class Augmentation:
    """Probabilities of each change to a crop.

    speed: Pitch and tempo by .8 to 1.25. The recognizer's voice target does not apply to such a crop.
    equalizer: A smooth random frequency response within about 8 dB, as microphones have.
    room: Early reflections and a decaying tail.
    telephone: 300 to 3,400 Hz.
    noise: On the codec's input only, which is to be removed: at 15 to 40 dB below the speech.
    """

    speed: float = 0.3
    equalizer: float = 0.4
    room: float = 0.15
    telephone: float = 0.04
    noise: float = 0.35


def equalize(samples: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A smooth random frequency response."""
    bins = np.fft.rfft(samples)
    octave = np.log2(np.linspace(30, 8000, len(bins)) / 30) / 8
    gain_db = sum(random.normal(0, 3.5 / k) * np.cos(np.pi * k * octave + random.uniform(0, np.pi)) for k in (1, 2, 3))
    return np.fft.irfft(bins * 10 ** (gain_db / 20), len(samples)).astype(np.float32)


def reverberate(samples: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A small room: a few early reflections and noise that decays within 0.1 to 0.5 s."""
    decay_s = random.uniform(0.1, 0.5)
    response = random.standard_normal(int(decay_s * SAMPLING_RATE_HZ)).astype(np.float32)
    time_s = np.arange(len(response)) / SAMPLING_RATE_HZ
    response *= np.exp(-6.9 * time_s / decay_s) * (time_s > 0.002)
    for _ in range(4):
        response[int(random.uniform(0.002, 0.03) * SAMPLING_RATE_HZ)] += random.normal(0, 3)
    response *= 10 ** (-random.uniform(4, 18) / 20) / np.sqrt(np.sum(response**2) + 1e-9)
    response[0] = 1.0
    size = 1 << (len(samples) + len(response)).bit_length()
    wet = np.fft.irfft(np.fft.rfft(samples, size) * np.fft.rfft(response, size), size)
    return wet[: len(samples)].astype(np.float32)


def telephone(samples: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The telephone band, with smooth edges."""
    bins = np.fft.rfft(samples)
    hertz = np.linspace(0, SAMPLING_RATE_HZ / 2, len(bins))
    low, high = random.uniform(150, 320), random.uniform(3200, 3800)
    gain = 1 / (1 + np.exp(-(hertz - low) / 25)) / (1 + np.exp((hertz - high) / 80))
    return np.fft.irfft(bins * gain, len(samples)).astype(np.float32)


def colored_noise(length: int, random: np.random.Generator) -> np.ndarray:
    """Noise of root mean square 1 between white and brown."""
    bins = np.fft.rfft(random.standard_normal(length))
    bins /= np.maximum(np.arange(len(bins)), 20) ** random.uniform(0, 1)
    noise = np.fft.irfft(bins, length)
    return (noise / (noise.std() + 1e-9)).astype(np.float32)


@dataclass
class Batch:
    """audio: float32 (2 B, T), the second half being the first one shifted by less than a frame; noisy.
    clean: float32 (B, T), the first half without noise: what the decoder is to give.
    phones: int64 (2 B, frames). voices: float32 (B, voices), zero where unknown (an augmented pitch)."""

    audio: torch.Tensor
    clean: torch.Tensor
    phones: torch.Tensor
    voices: torch.Tensor


class Synthesizer:
    """For each speaker, all utterances end to end: int16 samples and a phone a millisecond.

    shares: Set of the corpus -> its share of the crops. Speakers of a set are drawn by the square root of their time.
    """

    def __init__(self, corpus: Path, shares: dict[str, float], voices: list[str]) -> None:
        self.voices = voices
        english = [voice for voice in voices if voice.startswith(ENGLISH_PREFIXES)]
        audio: dict[str, list[np.ndarray]] = defaultdict(list)
        phones: dict[str, list[np.ndarray]] = defaultdict(list)
        set_of: dict[str, str] = {}
        for name in shares:
            for table in sorted((corpus / name).glob("*.csv")):
                with table.open(encoding="utf-8") as file:
                    speakers = {row["audio"]: row["speaker"] for row in csv.DictReader(file)}
                for line in table.with_suffix(".phones.jsonl").read_text("utf-8").splitlines():
                    row = json.loads(line)
                    samples, _ = soundfile.read(corpus / row["audio"], dtype="int16")
                    samples = samples[: len(samples) // _MS * _MS]
                    ends = np.array([end for _, end in row["phones"]])
                    names = np.array([PHONES.index(phone) for phone, _ in row["phones"]], dtype=np.int8)
                    middle = (np.arange(len(samples) // _MS) + 0.5) / 1000
                    speaker = speakers[row["audio"]]
                    audio[speaker].append(samples)
                    phones[speaker].append(names[np.minimum(np.searchsorted(ends, middle), len(names) - 1)])
                    set_of.setdefault(speaker, name)
        self.speakers = sorted(audio)
        self.audio = [np.concatenate(audio[speaker]) for speaker in self.speakers]
        self.phones = [np.concatenate(phones[speaker]) for speaker in self.speakers]
        self.mixtures = np.zeros((len(self.speakers), len(voices)), np.float32)
        weights = np.zeros(len(self.speakers))
        totals: dict[str, float] = defaultdict(float)
        for index, speaker in enumerate(self.speakers):
            weights[index] = math.sqrt(len(self.audio[index]))
            totals[set_of[speaker]] += weights[index]
            if speaker.startswith("blend"):
                blend = blend_of(int(speaker.removeprefix("blend")), english)
            else:
                blend = {NAMED_SPEAKERS.get(speaker, speaker): 1.0}
            for voice, weight in blend.items():
                self.mixtures[index, voices.index(voice)] = weight / sum(blend.values())
        for index, speaker in enumerate(self.speakers):
            weights[index] *= shares[set_of[speaker]] / totals[set_of[speaker]]
        self.weights = weights / weights.sum()
        self.hours = {
            name: round(
                sum(len(a) for a, s in zip(self.audio, self.speakers, strict=True) if set_of[s] == name) / 57.6e6, 2
            )
            for name in shares
        }

    def _source(self, speaker: int, length: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """`length` samples of a speaker and their phones; a speaker with less is repeated."""
        samples, phones = self.audio[speaker], self.phones[speaker]
        if len(samples) <= length + _MS:
            times = length // len(samples) + 2
            samples, phones = np.tile(samples, times), np.tile(phones, times)
        start = int(random.integers(0, (len(samples) - length) // _MS))
        return samples[start * _MS : start * _MS + length], phones[start : start + length // _MS]

    def batch(self, random: np.random.Generator, rows: int, frames: int, augmentation: Augmentation) -> Batch:
        length = frames * HOP
        clean, audio, shifted, phones, phones_shifted, voices = [], [], [], [], [], []
        for speaker in random.choice(len(self.speakers), size=rows, p=self.weights):
            speed = math.exp(random.uniform(-0.22, 0.22)) if random.random() < augmentation.speed else 1.0
            source = math.ceil((length + HOP) * speed / _MS) * _MS
            samples, labels = self._source(speaker, source, random)
            take = stretch(samples.astype(np.float32) / 32768, length + HOP)
            if random.random() < augmentation.room:
                take = reverberate(take, random)
            if random.random() < augmentation.equalizer:
                take = equalize(take, random)
            if random.random() < augmentation.telephone:
                take = telephone(take, random)
            level = SPEECH_LEVEL * 10 ** random.uniform(-0.1, 0.1)
            spoken = np.repeat(labels != _PAUSE, _MS)
            spoken = spoken[(np.arange(length + HOP) * (source / (length + HOP))).astype(int)]
            if spoken.sum() > HOP:
                take = take * np.float32(
                    min(level / (np.sqrt(np.mean(take[spoken] ** 2)) + 1e-5), 0.99 / np.abs(take).max())
                )
            noisy = take
            if random.random() < augmentation.noise:
                noise_level = level * 10 ** (-random.uniform(15, 40) / 20)
                noisy = take + colored_noise(length + HOP, random) * np.float32(noise_level)
            shift = int(random.integers(0, HOP // (2 * _MS))) * _MS  # under half a frame: the phones are the same
            faint = random.standard_normal(length, dtype=np.float32) * np.float32(10 ** random.uniform(-4, -2.7))
            clean.append(take[:length])
            audio.append(noisy[:length])
            shifted.append(noisy[shift : shift + length] + faint)
            for at, out in ((0, phones), (shift, phones_shifted)):
                middles = at / _MS + np.arange(frames) * (HOP // _MS) + HOP // _MS // 2
                out.append(labels[(middles * source / (length + HOP)).astype(int)].astype(np.int64))
            voices.append(self.mixtures[speaker] if speed == 1 else np.zeros_like(self.mixtures[speaker]))
        return Batch(
            torch.from_numpy(np.stack(audio + shifted)),
            torch.from_numpy(np.stack(clean)),
            torch.from_numpy(np.stack(phones + phones_shifted)),
            torch.from_numpy(np.stack(voices)),
        )
