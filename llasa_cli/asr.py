"""Speech recognition with a recognizer that is installed: for reference clips without a transcript, and for `--verify`.

    recognizer = load_recognizer("openai/whisper-base", "cpu")
    text = recognizer.transcribe(samples, 16_000)               float32 [n], mono -> str

A recognizer is named by `pocketsphinx` (English; the package carries its model), a folder, or `org/repo[@revision]` in the
hub's cache. The files in the folder tell its kind: a transformers model runs in transformers' pipeline, a CTranslate2
model in faster-whisper (`pip install 'llasa-cli[asr]'`). Nothing is downloaded here.

To add a kind of recognizer: write a class with `transcribe`, choose it in `load_recognizer` by its name or files, and name it in `--asr`'s help.
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
from llasa_cli.wording import first_line

if TYPE_CHECKING:
    import numpy as np

POCKETSPHINX = "pocketsphinx"
SAMPLING_RATE_HZ = 16_000
_KNOWN = (
    *("openai/whisper-large-v3-turbo", "openai/whisper-large-v3", "openai/whisper-medium", "openai/whisper-small"),
    *(
        "Systran/faster-whisper-small",
        "Systran/faster-whisper-base",
        "openai/whisper-tiny",
        "Systran/faster-whisper-tiny",
    ),
)
"""The recognizers that replace the default one if it is not on this machine, best first."""
_MAX_PART_S = 28.0
"""Whisper takes 30 s at once and silently ignores the rest."""
_SEARCH_S = 5.0
"""A longer take is split at the quietest place in so many seconds before that limit."""
_SILENT_PEAK = 1e-3
"""Whisper invents words for silence ("Thank you."), so silence is not given to it."""
_TRANSFORMERS_FILES = ("config.json", "preprocessor_config.json")
_CTRANSLATE2_FILES = ("config.json", "model.bin")
_POCKETSPHINX_HINT = "For English, --asr pocketsphinx also works (pip install pocketsphinx)."


class Recognizer(Protocol):
    """A loaded recognizer.

    Attributes:
        name: As it was asked for.
    """

    name: str

    def transcribe(self, samples: np.ndarray, sampling_rate: int, language: str | None = None) -> str:
        """Transcribe float32 [n], mono, of any length. -> the words; empty for silence

        Args:
            language: Such as "en"; None lets the recognizer detect it.
        """


def check_recognizer(name: str = DEFAULT_LISTENER) -> None:
    """Check that a recognizer is on this machine, without loading it.

    Raises:
        ModelError: It is not installed, or not in the cache. The hint says what to do.
    """
    if name == POCKETSPHINX:
        if not _is_installed("pocketsphinx"):
            raise ModelError("The recognizer pocketsphinx is not installed.", "pip install pocketsphinx")
        return
    folder = _find_folder(name)
    if _is_ctranslate2(folder) and not _is_installed("faster_whisper"):
        raise ModelError(
            f"The recognizer {name} is a CTranslate2 model, and faster-whisper is not installed.",
            "pip install 'llasa-cli[asr]'",
        )


def find_recognizer(name: str = DEFAULT_LISTENER, language: str | None = None) -> str:
    """The recognizer to use: `name`, or another one that is on this machine if the default is meant and is not here.

    Args:
        language: Of the speech; pocketsphinx is chosen only for English or an unknown language.

    Raises:
        ModelError: See `check_recognizer`.
    """
    try:
        check_recognizer(name)
        return name
    except ModelError:
        if name != DEFAULT_LISTENER:
            raise
        is_english = language is None or language.lower().startswith("en")
        for other in (*_KNOWN, *([POCKETSPHINX] if is_english else [])):
            try:
                check_recognizer(other)
                return other
            except ModelError:
                continue
        raise


def load_recognizer(name: str = DEFAULT_LISTENER, device: str = "auto") -> Recognizer:
    """Load a recognizer.

    Args:
        name: `pocketsphinx`, a folder, or `org/repo[@revision]` of a speech recognition model.
        device: As for the language model; pocketsphinx runs on the CPU.

    Raises:
        ModelError: It is not on this machine, or not a recognizer.
    """
    check_recognizer(name)
    if name == POCKETSPHINX:
        return _Pocketsphinx()
    folder = _find_folder(name)
    return (
        _FasterWhisper(name, folder, device) if _is_ctranslate2(folder) else _TransformersPipeline(name, folder, device)
    )


def _is_installed(module: str) -> bool:
    from importlib.util import find_spec

    return find_spec(module) is not None


def _is_ctranslate2(folder: Path) -> bool:
    return (folder / "model.bin").is_file() and not (folder / "preprocessor_config.json").is_file()


def _find_folder(name: str) -> Path:
    """The folder of a recognizer: the given one, or its snapshot in the hub's cache."""
    folder = Path(name).expanduser()
    if name.strip() and folder.is_dir():
        if not (folder / "config.json").is_file():
            raise ModelError(f"{folder} is not a recognizer: it has no config.json.", _POCKETSPHINX_HINT)
        return folder
    repo = repo_of(name)
    if repo is None or name.startswith(("/", "./", "../", "~")):
        raise ModelError(f"There is no recognizer {name!r}.", "Give a folder, org/repository, or pocketsphinx.")
    snapshot = find_snapshot(*repo)
    kinds = (_TRANSFORMERS_FILES, _CTRANSLATE2_FILES)
    if snapshot is None or not any(all((snapshot / file).is_file() for file in files) for files in kinds):
        raise ModelError(
            f"The recognizer {name} is not on this machine.",
            f"Fetch it with: llasa download {name}\n       {_POCKETSPHINX_HINT}",
        )
    return snapshot


class _TransformersPipeline:
    """transformers' speech recognition pipeline."""

    def __init__(self, name: str, folder: Path, device: str) -> None:
        self.name = name
        placed = pick_device(device)
        with _without_messages():
            self._run = _read_pipeline(folder, placed, pick_dtype("auto", placed))
        settings = getattr(self._run.model, "generation_config", None)
        self._is_whisper = self._run.model.config.model_type == "whisper"
        self._is_multilingual = bool(getattr(settings, "is_multilingual", False))

    def transcribe(self, samples: np.ndarray, sampling_rate: int, language: str | None = None) -> str:
        rate = self._run.feature_extractor.sampling_rate
        parts = [
            self._transcribe_part(part, language) for part in _split_long(_at_rate(samples, sampling_rate, rate), rate)
        ]
        return " ".join(" ".join(parts).split())

    def _transcribe_part(self, samples: np.ndarray, language: str | None) -> str:
        if _is_silent(samples):
            return ""
        options: dict[str, Any] = {}
        if self._is_whisper and self._is_multilingual:
            options = {"task": "transcribe"} | ({"language": language} if language else {})
        # The pipeline modifies its input.
        given = {"raw": samples.copy(), "sampling_rate": self._run.feature_extractor.sampling_rate}
        try:
            with _without_messages():
                found = self._run(given, **({"generate_kwargs": options} if options else {}))
        except ValueError as error:
            if language is None or "language" not in str(error):
                raise
            return self._transcribe_part(samples, None)  # the model does not know the language and has to detect it
        return str(found["text"])


@contextmanager
def _without_messages() -> Iterator[None]:
    """Suppress transformers' warnings and progress bars."""
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


def _read_pipeline(folder: Path, device: Any, dtype: Any) -> Any:
    """Load a folder's model and processor into transformers' pipeline.

    Raises:
        ModelError: The folder is broken, or its model does not recognize speech.
    """
    from transformers import AutoModelForCTC, AutoModelForSpeechSeq2Seq, AutoProcessor, pipeline

    try:
        processor = AutoProcessor.from_pretrained(str(folder), local_files_only=True)
        model = None
        for kind in (AutoModelForSpeechSeq2Seq, AutoModelForCTC):
            try:
                model = kind.from_pretrained(str(folder), dtype=dtype, use_safetensors=True, local_files_only=True)
                break
            except ValueError:  # another kind of model
                continue
        if model is None:
            raise ModelError(f"{folder} has no speech recognition model.", "Give a Whisper model with --asr.")
        return pipeline(
            "automatic-speech-recognition",
            model=model.eval().to(device),
            tokenizer=processor.tokenizer,
            feature_extractor=processor.feature_extractor,
            device=device,
        )
    except LlasaError:
        raise
    except Exception as error:  # the library's errors for a broken folder have no common type
        raise _broken(folder, error) from error


def _broken(folder: Path, error: Exception) -> ModelError:
    return ModelError(f"The recognizer in {folder} can't be loaded: {first_line(error)}", "Fetch it again.")


class _FasterWhisper:
    """A Whisper in CTranslate2's format, by the package faster-whisper; several times as fast on a CPU."""

    def __init__(self, name: str, folder: Path, device: str) -> None:
        from faster_whisper import WhisperModel

        self.name = name
        placed = pick_device(device)
        on_gpu = placed.type == "cuda"
        try:
            self._model = WhisperModel(
                str(folder),
                device="cuda" if on_gpu else "cpu",
                device_index=(placed.index or 0) if on_gpu else 0,
                compute_type="float16" if on_gpu else "int8",
                local_files_only=True,
            )
        except (RuntimeError, ValueError, OSError) as error:
            raise _broken(folder, error) from error

    def transcribe(self, samples: np.ndarray, sampling_rate: int, language: str | None = None) -> str:
        samples = _at_rate(samples, sampling_rate, SAMPLING_RATE_HZ)
        if _is_silent(samples):
            return ""
        if language not in (None, *self._model.supported_languages):
            language = None  # the model does not know the language and has to detect it
        segments, _ = self._model.transcribe(samples, language=language, beam_size=5, condition_on_previous_text=False)
        return " ".join(" ".join(segment.text for segment in segments).split())


class _Pocketsphinx:
    """pocketsphinx: small and English only, with many mistakes."""

    def __init__(self) -> None:
        from pocketsphinx import Decoder

        self.name = POCKETSPHINX
        self._decoder = Decoder(samprate=float(SAMPLING_RATE_HZ), loglevel="FATAL")

    def transcribe(self, samples: np.ndarray, sampling_rate: int, language: str | None = None) -> str:
        import numpy as np

        from llasa_cli.audio.chunk import to_pcm16

        if language is not None and not language.lower().startswith("en"):
            raise LlasaError(f"pocketsphinx understands English, not {language!r}.", "Give a Whisper model with --asr.")
        samples = _at_rate(samples, sampling_rate, SAMPLING_RATE_HZ)
        if _is_silent(samples):
            return ""
        # It estimates the noise before the first word.
        silence = np.zeros(SAMPLING_RATE_HZ // 5, np.float32)
        self._decoder.start_utt()
        self._decoder.process_raw(to_pcm16(np.concatenate([silence, samples, silence])), full_utt=True)
        self._decoder.end_utt()
        found = self._decoder.hyp()
        return " ".join(found.hypstr.split()) if found is not None else ""


def _is_silent(samples: np.ndarray) -> bool:
    return not len(samples) or float(abs(samples).max()) < _SILENT_PEAK


def _at_rate(samples: np.ndarray, sampling_rate: int, wanted: int) -> np.ndarray:
    """float32 [n] at `sampling_rate` -> contiguous float32 at `wanted` Hz."""
    import numpy as np

    if sampling_rate != wanted:
        import soxr

        samples = soxr.resample(samples, sampling_rate, wanted, quality="HQ")
    return np.ascontiguousarray(samples, dtype=np.float32)


def _split_long(samples: np.ndarray, sampling_rate: int) -> Iterator[np.ndarray]:
    """Parts of at most 28 s, split in the quietest tenth of a second of each part's last 5 s."""
    import numpy as np

    most, search, step = (round(sampling_rate * seconds) for seconds in (_MAX_PART_S, _SEARCH_S, 0.1))
    while len(samples) > most:
        window = samples[most - search : most]
        frames = window[: len(window) // step * step].reshape(-1, step)
        quietest = int(np.square(frames, dtype=np.float64).sum(axis=1).argmin())
        at = most - search + quietest * step + step // 2
        yield samples[:at]
        samples = samples[at:]
    yield samples
