"""Speech to text, by a recogniser that the user has: for reference clips without a transcript, and for `--verify`.

    listener = load_recognizer("openai/whisper-base", "cpu")
    text = listener.hear(samples, 16_000)              float32 [n], mono

Nothing is downloaded here. Whisper runs in transformers' pipeline; `pocketsphinx` hears English and carries its model.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from llasa_cli.device import pick_device, pick_dtype
from llasa_cli.errors import LlasaError, ModelError
from llasa_cli.hub.cache_layout import find_snapshot
from llasa_cli.hub.catalog import repo_of
from llasa_cli.settings import DEFAULT_LISTENER

if TYPE_CHECKING:
    import numpy as np

POCKETSPHINX = "pocketsphinx"
SAMPLING_RATE_HZ = 16_000
_LONGEST_S = 28.0
"""Whisper hears 30 s at once; the rest it would leave out without a word."""
_SEARCH_S = 5.0
"""Before that, a longer take is divided where it is stillest."""
_SILENT = 1e-3
"""Peak. Given silence, Whisper invents words ("Thank you.")."""


class Recognizer(Protocol):
    """A recogniser, loaded.

    Attributes:
        name: What it was asked for by.
    """

    name: str

    def hear(self, samples: np.ndarray, sampling_rate: int, language: str | None = None) -> str:
        """float32 [n], mono -> what is said; empty for silence.

        Args:
            language: Such as "en"; None leaves it to the recogniser.
        """


def check_recognizer(name: str = DEFAULT_LISTENER) -> None:
    """Refuse, before anything heavy is loaded, a recogniser that is not here.

    Raises:
        ModelError: It is not installed, or not in the cache; the hint says what to do.
    """
    if name == POCKETSPHINX:
        from importlib.util import find_spec

        if find_spec("pocketsphinx") is None:
            raise ModelError("The recogniser pocketsphinx is not installed.", "pip install pocketsphinx")
        return
    _find(name)


def load_recognizer(name: str = DEFAULT_LISTENER, device: str = "auto") -> Recognizer:
    """Load a recogniser.

    Args:
        name: `pocketsphinx`, a folder, or `org/repo[@revision]` of a speech recognition model.
        device: As for the model; pocketsphinx has none.

    Raises:
        ModelError: It is not here, or is no recogniser.
    """
    check_recognizer(name)
    return _Sphinx() if name == POCKETSPHINX else _Pipeline(name, _find(name), device)


def _find(name: str) -> Path:
    """The folder of a recogniser: as it is, or in the hub's cache."""
    other = "Or hear English with --asr pocketsphinx (pip install pocketsphinx)."
    folder = Path(name).expanduser()
    if name.strip() and folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ModelError(f"{folder} is no recogniser: there is no config.json in it.", other)
        return folder
    found = repo_of(name)
    if found is None or name.startswith(("/", "./", "../", "~")):
        raise ModelError(f"There is no recogniser {name!r}.", "Name a folder, org/repository, or pocketsphinx.")
    snapshot = find_snapshot(*found)
    parts = ("config.json", "preprocessor_config.json")
    if snapshot is None or not all((snapshot / part).is_file() for part in parts):
        raise ModelError(
            f"The recogniser {name} is not on this machine.",
            f"Fetch it with: llasa download {name}\n       {other}",
        )
    return snapshot


class _Pipeline:
    """transformers' speech recognition pipeline over whole utterances."""

    def __init__(self, name: str, folder: Path, device: str) -> None:
        self.name = name
        where = pick_device(device)
        with _quiet():
            self._run = _read_pipeline(folder, where, pick_dtype("auto", where))
        settings = getattr(self._run.model, "generation_config", None)
        self._is_whisper = self._run.model.config.model_type == "whisper"
        self._is_multilingual = bool(getattr(settings, "is_multilingual", False))

    def hear(self, samples: np.ndarray, sampling_rate: int, language: str | None = None) -> str:
        wanted = _at_rate(samples, sampling_rate, self._run.feature_extractor.sampling_rate)
        parts = [self._hear_part(part, language) for part in _parts(wanted, self._run.feature_extractor.sampling_rate)]
        return " ".join(" ".join(parts).split())

    def _hear_part(self, samples: np.ndarray, language: str | None) -> str:
        import numpy as np

        if not len(samples) or float(np.abs(samples).max()) < _SILENT:
            return ""
        options: dict[str, Any] = {}
        if self._is_whisper and self._is_multilingual:
            options = {"task": "transcribe"} | ({"language": language} if language else {})
        # The pipeline writes into what it is given.
        given = {"raw": samples.copy(), "sampling_rate": self._run.feature_extractor.sampling_rate}
        try:
            with _quiet():
                found = self._run(given, **({"generate_kwargs": options} if options else {}))
        except ValueError as error:
            if language is None or "language" not in str(error):
                raise
            return self._hear_part(samples, None)  # it does not know the language: it is left to guess
        return str(found["text"])


@contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' warnings and progress bars."""
    from transformers import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _read_pipeline(folder: Path, device: Any, kind: Any) -> Any:
    """The pipeline over the folder's model."""
    from transformers import AutoModelForCTC, AutoModelForSpeechSeq2Seq, AutoProcessor, pipeline

    try:
        processor = AutoProcessor.from_pretrained(str(folder), local_files_only=True)
        model = None
        for kinds in (AutoModelForSpeechSeq2Seq, AutoModelForCTC):
            try:
                model = kinds.from_pretrained(str(folder), dtype=kind, use_safetensors=True, local_files_only=True)
                break
            except ValueError:  # not of this kind
                continue
        if model is None:
            raise ModelError(f"{folder} holds no speech recognition model.", "Name a Whisper model with --asr.")
        return pipeline(
            "automatic-speech-recognition",
            model=model.eval().to(device),
            tokenizer=processor.tokenizer,
            feature_extractor=processor.feature_extractor,
            device=device,
        )
    except LlasaError:
        raise
    except Exception as error:  # the libraries' errors for a broken folder have no common type
        reason = str(error).strip().split("\n")[0]
        raise ModelError(f"The recogniser in {folder} can't be loaded: {reason}", "Fetch it again.") from error


class _Sphinx:
    """pocketsphinx over whole utterances: English, weak, and small."""

    def __init__(self) -> None:
        from pocketsphinx import Decoder

        self.name = POCKETSPHINX
        self._decoder = Decoder(samprate=float(SAMPLING_RATE_HZ), loglevel="FATAL")

    def hear(self, samples: np.ndarray, sampling_rate: int, language: str | None = None) -> str:
        import numpy as np

        from llasa_cli.audio.chunk import to_pcm16

        if language is not None and not language.lower().startswith("en"):
            raise LlasaError(f"pocketsphinx hears English, not {language!r}.", "Name a Whisper model with --asr.")
        samples = _at_rate(samples, sampling_rate, SAMPLING_RATE_HZ)
        if not len(samples) or float(np.abs(samples).max()) < _SILENT:
            return ""
        # Its noise estimate wants a moment before the first word.
        still = np.zeros(SAMPLING_RATE_HZ // 5, np.float32)
        self._decoder.start_utt()
        self._decoder.process_raw(to_pcm16(np.concatenate([still, samples, still])), full_utt=True)
        self._decoder.end_utt()
        found = self._decoder.hyp()
        return " ".join(found.hypstr.split()) if found is not None else ""


def _at_rate(samples: np.ndarray, sampling_rate: int, wanted: int) -> np.ndarray:
    import numpy as np

    if sampling_rate != wanted:
        import soxr

        samples = soxr.resample(samples, sampling_rate, wanted, quality="HQ")
    return np.ascontiguousarray(samples, dtype=np.float32)


def _parts(samples: np.ndarray, sampling_rate: int) -> Iterator[np.ndarray]:
    """Pieces of at most 28 s, divided in the stillest tenth of a second of each one's last 5 s."""
    import numpy as np

    most, search, step = (round(sampling_rate * seconds) for seconds in (_LONGEST_S, _SEARCH_S, 0.1))
    while len(samples) > most:
        window = samples[most - search : most]
        frames = window[: len(window) // step * step].reshape(-1, step)
        stillest = int(np.square(frames, dtype=np.float64).sum(axis=1).argmin())
        at = most - search + stillest * step + step // 2
        yield samples[:at]
        samples = samples[at:]
    yield samples
