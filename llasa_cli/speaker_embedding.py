"""Speaker embeddings: vectors whose cosine says how alike two voices are.

    encoder = load_speaker_encoder("microsoft/wavlm-base-plus-sv")
    likeness = encoder.embed(samples, 16_000) @ encoder.embed(others, 16_000)       float32 [n], mono -> unit vectors

An encoder is named by `resemblyzer` (the package carries its model), a folder, or `org/repo[@revision]` of a WavLM, UniSpeech or wav2vec 2.0
speaker verification model of transformers in the hub's cache. Nothing is downloaded here.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from llasa_cli.audio.reader import resample
from llasa_cli.checkpoint.resolve import find_helper_model
from llasa_cli.device import pick_device
from llasa_cli.errors import ModelError
from llasa_cli.settings import DEFAULT_SPEAKER_ENCODER

if TYPE_CHECKING:
    import numpy as np

RESEMBLYZER = "resemblyzer"
SAMPLING_RATE_HZ = 16_000
_FILES = ("config.json", "preprocessor_config.json")
_RESEMBLYZER_HINT = "resemblyzer also works (pip install 'llasa-cli[likeness]')."


class SpeakerEncoder(Protocol):
    """A loaded speaker model."""

    def embed(self, samples: np.ndarray, sampling_rate: int) -> np.ndarray:
        """float32 [n], mono -> a vector of length 1."""


def find_speaker_encoder(name: str = DEFAULT_SPEAKER_ENCODER) -> str:
    """The encoder to use, without loading it: `name`, or resemblyzer if the default is meant and is not here.

    Raises:
        ModelError: It is not on this machine. The hint says what to do.
    """
    from importlib.util import find_spec

    if name == RESEMBLYZER:
        if find_spec("resemblyzer") is None:
            raise ModelError("The speaker model resemblyzer is not installed.", "pip install 'llasa-cli[likeness]'")
        return name
    try:
        _find_folder(name)
    except ModelError:
        if name != DEFAULT_SPEAKER_ENCODER or find_spec("resemblyzer") is None:
            raise
        return RESEMBLYZER
    return name


def load_speaker_encoder(name: str, device: str = "auto") -> SpeakerEncoder:
    """Load an encoder.

    Raises:
        ModelError: It is not on this machine, or not a speaker model.
    """
    find_speaker_encoder(name)
    return _Resemblyzer() if name == RESEMBLYZER else _XVector(_find_folder(name), device)


def _find_folder(name: str) -> Path:
    return find_helper_model(name, "speaker model", (_FILES,), RESEMBLYZER, _RESEMBLYZER_HINT)


class _Resemblyzer:
    """A small LSTM; its package carries the weights."""

    def __init__(self) -> None:
        from resemblyzer import VoiceEncoder

        self._encoder = VoiceEncoder("cpu", verbose=False)

    def embed(self, samples: np.ndarray, sampling_rate: int) -> np.ndarray:
        from resemblyzer import preprocess_wav

        found: np.ndarray = self._encoder.embed_utterance(
            preprocess_wav(resample(samples, sampling_rate, SAMPLING_RATE_HZ))
        )
        return found


class _XVector:
    """A transformers model with a speaker verification head, such as WavLM-SV."""

    def __init__(self, folder: Path, device: str) -> None:
        from transformers import AutoFeatureExtractor, AutoModelForAudioXVector

        self._device = pick_device(device)
        try:
            self._features: Any = AutoFeatureExtractor.from_pretrained(str(folder), local_files_only=True)
            model = AutoModelForAudioXVector.from_pretrained(str(folder), local_files_only=True, use_safetensors=True)
        except Exception as error:  # the library's errors for a broken folder have no common type
            reason = str(error).strip().split("\n")[0]
            raise ModelError(
                f"The speaker model in {folder} can't be loaded: {reason}", "Download it again."
            ) from error
        self._model: Any = model.eval().to(self._device)

    def embed(self, samples: np.ndarray, sampling_rate: int) -> np.ndarray:
        import numpy as np
        import torch

        samples = resample(samples, sampling_rate, SAMPLING_RATE_HZ)
        samples = np.pad(samples, (0, max(0, SAMPLING_RATE_HZ // 2 - len(samples))))  # the network needs some frames
        given = self._features(samples, sampling_rate=SAMPLING_RATE_HZ, return_tensors="pt").to(self._device)
        with torch.inference_mode():
            found = self._model(**given).embeddings[0].float()
        return torch.nn.functional.normalize(found, dim=-1).cpu().numpy()
