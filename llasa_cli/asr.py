"""Speech recognition with a recognizer that is installed: for reference clips without a transcript, `--verify` and `--words`.

    recognizer = load_recognizer("openai/whisper-base", "cpu")
    text = recognizer.transcribe(samples, 16_000)               float32 [n], mono -> str
    spans = recognizer.align(samples, 16_000, ["two", "words"])  -> [(0.1, 0.4), (0.4, 0.9)], in seconds

A recognizer is named by `pocketsphinx` (English; the package carries its model), a folder, or `org/repo[@revision]` in the
hub's cache. The files in the folder tell its kind: a transformers model runs in transformers' pipeline, a CTranslate2
model in faster-whisper (`pip install 'llasa-cli[asr]'`). Nothing is downloaded here.

To add a kind of recognizer: write a subclass of `Recognizer`, choose it in `load_recognizer` by its name or files, and name it in `--asr`'s help.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llasa_cli.audio.reader import resample
from llasa_cli.checkpoint.resolve import find_helper_model
from llasa_cli.device import pick_device
from llasa_cli.errors import LlasaError, ModelError
from llasa_cli.files import read_json_object
from llasa_cli.settings import DEFAULT_LISTENER
from llasa_cli.wording import first_line

if TYPE_CHECKING:
    import numpy as np

POCKETSPHINX = "pocketsphinx"
SAMPLING_RATE_HZ = 16_000
_KNOWN = tuple(
    "openai/whisper-large-v3-turbo openai/whisper-large-v3 openai/whisper-medium openai/whisper-small "
    "Systran/faster-whisper-small Systran/faster-whisper-base openai/whisper-tiny Systran/faster-whisper-tiny".split()
)
"""The recognizers that replace the default one if it is not on this machine, best first."""
_MAX_PART_S = 28.0
"""Whisper takes 30 s at once and silently ignores the rest."""
_SEARCH_S = 5.0
"""A longer take is split at the quietest place within this number of seconds before that limit."""
_SILENT_PEAK = 1e-3
"""Whisper invents words for silence ("Thank you."), so silence is not given to it."""
_WHISPER_S = 30.0
_WHISPER_FEATURES = 3000
"""The frames of Whisper's input, 100 a second."""
_WHISPER_FRAMES_PER_SECOND = 50
"""The frame rate of Whisper's encoder."""
_MEDIAN_FRAMES = 7
"""The width of the median filter over the attention of each token."""
_SPHINX_SILENCE_S = 0.2
_SPHINX_FRAME_S = 0.01
_SPHINX_LATE_S = 0.06
"""The time by which pocketsphinx finds words before their sound: its states begin in the silence. Measured on the onsets of loudness."""
_PHONES = dict(
    zip(
        "abcdefghijklmnopqrstuvwxyz",
        "AE B K D EH F G HH IH JH K L M N OW P K R S T AH V W K Y Z".split(),
        strict=True,
    )
)
"""A rough pronunciation for words that are not in pocketsphinx's dictionary, which is enough to align them."""
_TRANSFORMERS_FILES = ("config.json", "preprocessor_config.json")
_CTRANSLATE2_FILES = ("config.json", "model.bin")
_POCKETSPHINX_HINT = "For English, --asr pocketsphinx also works (pip install pocketsphinx)."


class Recognizer:
    """A loaded recognizer. A subclass has `_transcribe` and `_align`, which get sound of its own rate that is not silent.

    Attributes:
        name: The requested name.
        sampling_rate: Hz, of the sound that the subclass gets.
    """

    name: str
    sampling_rate = SAMPLING_RATE_HZ

    def transcribe(self, samples: np.ndarray, sampling_rate: int, language: str | None = None) -> str:
        """Transcribe float32 [n], mono, of any length. -> the words; empty for silence

        Args:
            language: Such as "en"; None lets the recognizer detect it.
        """
        samples = resample(samples, sampling_rate, self.sampling_rate)
        return "" if _is_silent(samples) else " ".join(self._transcribe(samples, language).split())

    def align(
        self, samples: np.ndarray, sampling_rate: int, words: Sequence[str], language: str | None = None
    ) -> list[tuple[float, float]] | None:
        """Find words that are known to be spoken, in order. Nothing is transcribed.

        Args:
            samples: float32 [n], mono.
            words: Each has one or more words, as they are spoken.
            language: See `transcribe`.

        Returns:
            The beginning and the end of each in seconds; None if this sound and text can't be aligned (too long, silent, or in
            a language that the recognizer does not know).
        """
        samples = resample(samples, sampling_rate, self.sampling_rate)
        return None if _is_silent(samples) else self._align(samples, words, language)

    def _transcribe(self, samples: np.ndarray, language: str | None) -> str:
        raise NotImplementedError

    def _align(
        self, samples: np.ndarray, words: Sequence[str], language: str | None
    ) -> list[tuple[float, float]] | None:
        raise NotImplementedError


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
        language: The language of the speech; pocketsphinx is chosen only for English or an unknown language.

    Raises:
        ModelError: See `check_recognizer`.
    """
    try:
        check_recognizer(name)
        return name
    except ModelError:
        others = (*_KNOWN, *([POCKETSPHINX] if language is None or _is_english(language) else []))
        found = _first_here(others, check_recognizer) if name == DEFAULT_LISTENER else None
        if found is None:
            raise
        return found


def check_aligner(name: str) -> None:
    """Check that a recognizer is on this machine and can align words, without loading it.

    Raises:
        ModelError: See `check_recognizer`; or it is a transformers model of another kind than Whisper.
    """
    check_recognizer(name)
    if name == POCKETSPHINX:
        return
    folder = _find_folder(name)
    if not _is_ctranslate2(folder) and read_json_object(folder / "config.json").get("model_type") != "whisper":
        raise ModelError(
            f"The recognizer {name} can't find the times of words.", "Give a Whisper model or pocketsphinx with --asr."
        )


def find_aligner(name: str = DEFAULT_LISTENER, language: str | None = None) -> str | None:
    """The recognizer that finds the times of words: `name`; if the default one is meant, the best one on this machine.

    For English that is pocketsphinx, which is ten times as fast and finds boundaries more closely than a small Whisper.

    Args:
        language: The language of the text; None if it is not known.

    Returns:
        None if the default one is meant and there is none on this machine.

    Raises:
        ModelError: See `check_aligner`.
    """
    if name != DEFAULT_LISTENER:
        check_aligner(name)
        return name
    whispers: tuple[str, ...] = (DEFAULT_LISTENER, *_KNOWN)
    order: tuple[str, ...] = (*whispers, POCKETSPHINX)
    if language is not None:
        order = (POCKETSPHINX, *whispers) if _is_english(language) else whispers
    return _first_here(order, check_aligner)


def _first_here(names: Iterable[str], check: Callable[[str], None]) -> str | None:
    """The first recognizer that `check` does not refuse; None if there is none."""
    for name in names:
        with suppress(ModelError):
            check(name)
            return name
    return None


def load_recognizer(name: str = DEFAULT_LISTENER, device: str = "auto") -> Recognizer:
    """Load a recognizer.

    Args:
        name: `pocketsphinx`, a folder, or `org/repo[@revision]` of a speech recognition model.
        device: A value of `--device`; pocketsphinx runs on the CPU.

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


def _is_english(language: str) -> bool:
    return language.lower().startswith("en")


def _is_ctranslate2(folder: Path) -> bool:
    # A large one has a preprocessor_config.json as well.
    return (folder / "model.bin").is_file() and not any(folder.glob("*.safetensors"))


def _find_folder(name: str) -> Path:
    kinds = (_TRANSFORMERS_FILES, _CTRANSLATE2_FILES)
    return find_helper_model(name, "recognizer", kinds, "pocketsphinx", _POCKETSPHINX_HINT)


class _TransformersPipeline(Recognizer):
    """transformers' speech recognition pipeline."""

    def __init__(self, name: str, folder: Path, device: str) -> None:
        self.name = name
        placed = pick_device(device)
        with _without_messages():
            self._run = _read_pipeline(folder, placed)
        self.sampling_rate = self._run.feature_extractor.sampling_rate
        settings = getattr(self._run.model, "generation_config", None)
        self._is_whisper = self._run.model.config.model_type == "whisper"
        self._is_multilingual = bool(getattr(settings, "is_multilingual", False))

    def _transcribe(self, samples: np.ndarray, language: str | None) -> str:
        return " ".join(self._transcribe_part(part, language) for part in _split_long(samples, self.sampling_rate))

    def _transcribe_part(self, samples: np.ndarray, language: str | None) -> str:
        if _is_silent(samples):
            return ""
        options: dict[str, Any] = {}
        if self._is_whisper and self._is_multilingual:
            options = {"task": "transcribe"} | ({"language": language} if language else {})
        # The pipeline modifies its input.
        given = {"raw": samples.copy(), "sampling_rate": self.sampling_rate}
        try:
            with _without_messages():
                found = self._run(given, **({"generate_kwargs": options} if options else {}))
        except ValueError as error:
            if language is None or "language" not in str(error):
                raise
            return self._transcribe_part(samples, None)  # the model does not know the language and has to detect it
        return str(found["text"])

    def _align(
        self, samples: np.ndarray, words: Sequence[str], language: str | None
    ) -> list[tuple[float, float]] | None:
        import torch

        extractor, tokenizer, model = self._run.feature_extractor, self._run.tokenizer, self._run.model
        seconds = len(samples) / self.sampling_rate
        if not self._is_whisper or seconds > _WHISPER_S:
            return None
        tokens = [tokenizer.encode(f" {word}", add_special_tokens=False) for word in words]
        said = [token for word in tokens for token in word]
        settings, config = model.generation_config, model.config
        end = config.eos_token_id[0] if isinstance(config.eos_token_id, list) else config.eos_token_id
        with torch.inference_mode(), _without_messages():
            features = extractor(samples, sampling_rate=self.sampling_rate, return_tensors="pt").input_features
            encoded = model.get_encoder()(features.to(model.device, model.dtype))
            start = [config.decoder_start_token_id]
            if self._is_multilingual:
                known = (settings.lang_to_id or {}).get(f"<|{language}|>") if language else None
                if known is None:
                    known = int(model.detect_language(encoder_outputs=encoded)[0])
                start += [known, settings.task_to_id["transcribe"]]
            prompt = [*start, settings.no_timestamps_token_id, *said, end]
            if len(prompt) > config.max_target_positions:
                return None
            ids = torch.tensor([prompt], device=model.device)
            with _eager_attention(model):
                found = model(encoder_outputs=encoded, decoder_input_ids=ids, output_attentions=True)
        heads = getattr(settings, "alignment_heads", None) or [
            (layer, head)
            for layer in range(config.decoder_layers // 2, config.decoder_layers)
            for head in range(config.decoder_attention_heads)
        ]
        frames = max(1, min(config.max_source_positions, round(seconds * _WHISPER_FRAMES_PER_SECOND)))
        attention = torch.stack([found.cross_attentions[layer][0, head, :, :frames] for layer, head in heads])
        # Each word's attention, from the token before it (which predicts it) on.
        attention = attention[:, len(start) : -1].float().cpu()
        return _spans_of(_align_by_attention(attention.numpy()), [len(word) for word in tokens], seconds)


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


def _read_pipeline(folder: Path, device: Any) -> Any:
    """Load a folder's model and processor into transformers' pipeline, in bfloat16 on a GPU.

    Raises:
        ModelError: The folder is broken, or its model does not recognize speech.
    """
    import torch
    from transformers import AutoModelForCTC, AutoModelForSpeechSeq2Seq, AutoProcessor, pipeline

    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
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
    return ModelError(f"The recognizer in {folder} can't be loaded: {first_line(error)}", "Download it again.")


class _FasterWhisper(Recognizer):
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

    def _transcribe(self, samples: np.ndarray, language: str | None) -> str:
        if language not in (None, *self._model.supported_languages):
            language = None  # the model does not know the language and has to detect it
        segments, _ = self._model.transcribe(samples, language=language, beam_size=5, condition_on_previous_text=False)
        return " ".join(segment.text for segment in segments)

    def _align(
        self, samples: np.ndarray, words: Sequence[str], language: str | None
    ) -> list[tuple[float, float]] | None:
        import numpy as np
        from faster_whisper.tokenizer import Tokenizer

        seconds = len(samples) / SAMPLING_RATE_HZ
        if seconds > _WHISPER_S:
            return None
        if language not in self._model.supported_languages:
            is_multilingual = self._model.model.is_multilingual
            language = self._model.detect_language(samples)[0] if is_multilingual else "en"
        tokenizer = Tokenizer(
            self._model.hf_tokenizer, self._model.model.is_multilingual, task="transcribe", language=language
        )
        tokens = [tokenizer.encode(f" {word}") for word in words]
        said = [token for word in tokens for token in word]
        if len(said) > self._model.max_length - 8:
            return None
        features = self._model.feature_extractor(samples)
        frames = min(features.shape[-1], _WHISPER_FEATURES)
        features = np.pad(features, ((0, 0), (0, max(0, _WHISPER_FEATURES - features.shape[-1]))))
        encoded = self._model.encode(features[:, :_WHISPER_FEATURES])
        (found,) = self._model.model.align(encoded, tokenizer.sot_sequence, [said], frames)
        return _spans_of(np.array(found.alignments), [len(word) for word in tokens], seconds)


class _Pocketsphinx(Recognizer):
    """pocketsphinx: small and English only, with many mistakes."""

    def __init__(self) -> None:
        from pocketsphinx import Decoder

        self.name = POCKETSPHINX
        self._decoder = Decoder(samprate=float(SAMPLING_RATE_HZ), loglevel="FATAL")
        self._aligner: Decoder | None = None

    def _transcribe(self, samples: np.ndarray, language: str | None) -> str:
        if language is not None and not _is_english(language):
            raise LlasaError(f"pocketsphinx understands English, not {language!r}.", "Give a Whisper model with --asr.")
        _decode(self._decoder, samples)
        found = self._decoder.hyp()
        return found.hypstr if found is not None else ""

    def _align(
        self, samples: np.ndarray, words: Sequence[str], language: str | None
    ) -> list[tuple[float, float]] | None:
        from pocketsphinx import Decoder

        from llasa_cli.text.normalize.english import normalize

        if language is not None and not _is_english(language):
            return None
        spoken = [re.findall("[a-z]+(?:'[a-z]+)*", normalize(word).lower()) for word in words]
        if not all(spoken):
            return None  # a word of another script
        if self._aligner is None:
            self._aligner = Decoder(samprate=float(SAMPLING_RATE_HZ), lm=None, loglevel="FATAL")
        for word in {word for one in spoken for word in one}:
            if self._aligner.lookup_word(word) is None:
                self._aligner.add_word(word, " ".join(_PHONES[letter] for letter in word if letter in _PHONES), True)
        try:
            self._aligner.set_align_text(" ".join(word for one in spoken for word in one))
            _decode(self._aligner, samples)
            found = self._aligner.seg()
        except RuntimeError:  # the text does not fit the sound
            return None
        # Alternative pronunciations are named "word(2)"; silence and noise "<sil>", "[NOISE]".
        segments = [one for one in found or () if not one.word.startswith(("<", "["))]
        if len(segments) != sum(map(len, spoken)):
            return None
        spans, at = [], 0
        shift_s = _SPHINX_LATE_S - _SPHINX_SILENCE_S
        for one in spoken:
            first, last = segments[at], segments[at + len(one) - 1]
            at += len(one)
            begin_s, end_s = first.start_frame * _SPHINX_FRAME_S, (last.end_frame + 1) * _SPHINX_FRAME_S
            spans.append((max(0.0, begin_s + shift_s), max(0.0, end_s + shift_s)))
        return spans


def _decode(decoder: Any, samples: np.ndarray) -> None:
    """Give a whole take to a pocketsphinx decoder. samples: float32 [n], 16 kHz."""
    import numpy as np

    from llasa_cli.audio.chunk import to_pcm16

    # It estimates the noise before the first word.
    silence = np.zeros(round(SAMPLING_RATE_HZ * _SPHINX_SILENCE_S), np.float32)
    # Nothing of earlier takes counts: pocketsphinx learns the mean of the cepstrum and the noise as it goes.
    decoder.start_stream()
    decoder.set_cmn(decoder.config["cmninit"])
    decoder.start_utt()
    decoder.process_raw(to_pcm16(np.concatenate([silence, samples, silence])), full_utt=True)
    decoder.end_utt()


def _align_by_attention(attention: np.ndarray) -> np.ndarray:
    """The path of OpenAI's `find_alignment`: the cheapest monotonic way through the attention of tokens to frames.

    Args:
        attention: float32 [heads, tokens, frames].

    Returns:
        int [n, 2]: pairs of token and frame, in order.
    """
    import numpy as np

    spread = attention.std(axis=-2, keepdims=True) + 1e-9
    attention = (attention - attention.mean(axis=-2, keepdims=True)) / spread
    width = _MEDIAN_FRAMES // 2
    if attention.shape[-1] > width:
        padded = np.pad(attention, ((0, 0), (0, 0), (width, width)), mode="reflect")
        attention = np.median(np.lib.stride_tricks.sliding_window_view(padded, _MEDIAN_FRAMES, axis=-1), axis=-1)
    cost = -attention.mean(axis=0).astype(np.float64)
    tokens, frames = cost.shape
    total = np.full((tokens + 1, frames + 1), np.inf)
    total[0, 0] = 0
    moves = np.zeros((tokens + 1, frames + 1), np.int8)
    for j in range(1, frames + 1):
        for i in range(1, tokens + 1):
            both, token, frame = total[i - 1, j - 1], total[i - 1, j], total[i, j - 1]
            best = 0 if both < token and both < frame else 1 if token < both and token < frame else 2
            moves[i, j] = best
            total[i, j] = cost[i - 1, j - 1] + (both, token, frame)[best]
    i, j = tokens, frames
    path = []
    while i > 0 and j > 0:
        path.append((i - 1, j - 1))
        i, j = i - (moves[i, j] != 2), j - (moves[i, j] != 1)
    return np.array(path[::-1])


def _spans_of(path: np.ndarray, lengths: Sequence[int], seconds: float) -> list[tuple[float, float]]:
    """The spans of words from the path of their tokens. lengths: tokens of each word, in order."""
    import numpy as np

    reached = np.full(sum(lengths) + 1, seconds)
    for token, frame in path[::-1]:
        if token < len(reached):
            reached[token] = min(seconds, frame / _WHISPER_FRAMES_PER_SECOND)
    edges = np.concatenate([[0], np.cumsum(lengths)])
    return [(float(reached[begin]), float(reached[end])) for begin, end in pairwise(edges)]


@contextmanager
def _eager_attention(model: Any) -> Iterator[None]:
    """Let a transformers model compute its attention so that the weights can be returned."""
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def _is_silent(samples: np.ndarray) -> bool:
    return not len(samples) or float(abs(samples).max()) < _SILENT_PEAK


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
