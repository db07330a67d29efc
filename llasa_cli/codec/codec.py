"""X-Codec2 both ways: encoding by transformers' `Xcodec2Model`, decoding by `decoder.py`.

    codec = load_codec(folder)
    codes = codec.encode(samples)      float32 [n], mono, 16 kHz -> n // 320 codes, 50 a second
    samples = codec.decode(codes)      -> float32 [codes * samples_per_code], mono, at codec.sampling_rate

Decoding is not causal: attention and GroupNorm see the whole sequence, so a piece decoded alone is not the piece of
the whole. transformers is imported and the encoder loaded when something is first encoded: speaking needs neither.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from llasa_cli.audio.vad import VoiceActivity, limit_gain
from llasa_cli.checkpoint.resolve import codec_identity
from llasa_cli.codec.fbank import HOP, SAMPLING_RATE_HZ, filter_bank, pad_audio
from llasa_cli.device import pick_device, pick_dtype
from llasa_cli.errors import AudioError, ModelError

if TYPE_CHECKING:
    import torch

    from llasa_cli.codec.decoder import Decoder, DecoderConfig
    from llasa_cli.codec.weights import CodecTensors

CODES_AT_ONCE = 1024
"""That sequences of one length are decoded together up to: more are no faster."""

MIN_CLIP_SAMPLES = 2 * HOP
"""Samples: a band's variance over the clip needs more than one frame."""

LOUDEST_SAMPLE = 0.98
"""In a clip that was brought to the codec's level; clicks beyond it are cut."""
FAINTEST = 1e-4
"""The level (-80 dB) below which a clip is no speech, and stays as it is."""


class Codec:
    """A loaded codec. Build it with `load_codec`.

    Attributes:
        sampling_rate: Of decoded sound, Hz: 16,000, or what a finetune of the decoder makes. Clips come in at 16,000.
        samples_per_code: Of decoded sound: a fiftieth of a second.
        code_count: Codes are 0 to code_count - 1.
        identity: A short hash of configuration and weights: codes of one codec are noise to another.
        speech_level: Root mean square (silences left out) that clips are brought to before they are encoded, by
            `speech_level` in config.json, which transformers passes over. For a codec that has heard one level only: to
            the built-in one a louder voice is a brighter one. None, as of the published ones: clips are taken as they are.
    """

    def __init__(
        self, stored: CodecTensors, decoder: Decoder, identity: str, device: torch.device, dtype: torch.dtype
    ) -> None:
        self._stored, self._decoder = stored, decoder
        self._device, self._dtype = device, dtype
        self.identity = identity
        self.sampling_rate = decoder.shape.sampling_rate
        self.samples_per_code = decoder.shape.samples_per_code
        self.code_count = math.prod(decoder.shape.levels)
        self.speech_level = _speech_level(stored)

    @cached_property
    def _encoder(self) -> Any:
        """The whole model less its decoder.

        Raises:
            ModelError: Its tensors are not all in the file.
        """
        model = _read_encoder(self._stored, self._dtype)
        model = model.eval().to(self._device)
        if self._device.type == "cpu":
            from llasa_cli.codec.antialias import use_shifted_filters

            use_shifted_filters(model)
        return model

    def encode(self, samples: np.ndarray) -> list[int]:
        """One clip -> n // 320 codes.

        Raises:
            AudioError: Shorter than 40 ms.
        """
        return self.encode_batch([samples])[0]

    def encode_batch(self, clips: Sequence[np.ndarray]) -> list[list[int]]:
        """Clips of one length in codes at once, exactly as one by one.

        The encoder normalises over time, so clips of unlike length are not padded to share a batch: they are encoded
        in groups of equal `n // 320`.
        """
        import torch

        groups: dict[int, list[int]] = {}
        for index, clip in enumerate(clips):
            if len(clip) < MIN_CLIP_SAMPLES:
                raise AudioError("The clip is shorter than 40 ms.", "Give at least a second of speech.")
            groups.setdefault(len(clip) // HOP, []).append(index)
        if self.speech_level is not None:
            clips = [normalize_level(clip, self.speech_level) for clip in clips]
        out: list[list[int]] = [[] for _ in clips]
        for count, indices in groups.items():
            values = np.stack([pad_audio(clips[i].astype(np.float32, copy=False)) for i in indices])
            features = np.stack([filter_bank(clips[i]) for i in indices])
            with torch.inference_mode():
                encoded = self._encoder.encode(
                    torch.from_numpy(values)[:, None].to(self._device, self._dtype),
                    torch.from_numpy(features).to(self._device, self._dtype),
                )
            # floor(T / 320) + 1 codes come out; the last one is padding (LLaSA_training keeps T // 320).
            for index, codes in zip(indices, encoded.audio_codes[:, 0, :count].tolist(), strict=True):
                out[index] = codes
        return out

    def wait(self) -> None:
        """Until all that decoding needs is loaded.

        Raises:
            ModelError: Some of it is broken.
        """
        self._decoder.wait()

    def stop(self) -> None:
        """Read no more of it; it is not going to be used."""
        self._decoder.stop()

    def decode(self, codes: Sequence[int]) -> np.ndarray:
        """Codes -> float32 [samples_per_code * len(codes)].

        Raises:
            ModelError: A code that this codec does not have.
        """
        return self.decode_many([codes])[0]

    def decode_many(self, sequences: Sequence[Sequence[int]]) -> list[np.ndarray]:
        """Each as decoded alone; those of one length together.

        Normalising goes over the whole sequence, and every code sees every other: padding would change the sound, so
        nothing is padded.

        Raises:
            ModelError: A code that this codec does not have.
        """
        import torch

        groups: dict[int, list[int]] = {}
        for index, codes in enumerate(sequences):
            if len(codes) and not 0 <= min(codes) <= max(codes) < self.code_count:
                raise ModelError(
                    f"The codes reach from {min(codes)} to {max(codes)}; this codec has 0 to {self.code_count - 1}.",
                    "They were made by another codec: use the one that belongs to the model.",
                )
            groups.setdefault(len(codes), []).append(index)
        out = [np.zeros(0, np.float32)] * len(sequences)
        for length, indices in groups.items():
            together = max(1, CODES_AT_ONCE // max(length, 1))
            for begin in range(0, len(indices) if length else 0, together):
                some = indices[begin : begin + together]
                with torch.inference_mode():
                    table = torch.tensor([sequences[index] for index in some], device=self._device)
                    samples = self._decoder(table).cpu().numpy()
                for index, row in zip(some, samples, strict=True):
                    out[index] = row
        return out


def limit_onednn_cache() -> None:
    """Tell oneDNN, which torch calls on a CPU, to remember the code and buffers of 64 array shapes instead of 1,024.

    Clips have hundreds of lengths. Encoding 2,000 clips took 2.9 GB so, and 0.7 GB at 64, and was a quarter faster. To be
    called before anything is computed: oneDNN reads it once.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")


def load_codec(folder: Path, device: str = "auto", dtype: str = "auto", wait: bool = True) -> Codec:
    """Load an X-Codec2's folder: config.json and safetensors, in transformers' format or in its authors'.

    Args:
        wait: Without, the weights are still being read when this returns: decoding waits for those that it needs.

    Raises:
        ModelError: Files missing, broken, or of another architecture. Without `wait`, numbers that are none are found by
            the first `decode`, or by `Codec.wait`.
        UsageError: A device that is not there.
    """
    limit_onednn_cache()
    where = pick_device(device)
    kind = pick_dtype(dtype, where, codec=True)
    from llasa_cli.codec.decoder import read_decoder

    stored, _ = _look_at(folder)
    codec = Codec(stored, read_decoder(stored, where, kind), codec_identity(folder), where, kind)
    if wait:
        codec.wait()
    return codec


def normalize_level(samples: np.ndarray, level: float) -> np.ndarray:
    """float32 [n], 16 kHz -> the same with its speech at that root mean square, or as near as its peaks allow; without its offset."""
    found = VoiceActivity.of(samples, SAMPLING_RATE_HZ).speech_rms
    if found < FAINTEST:
        return samples
    gain = np.float32(limit_gain(samples, level / found, LOUDEST_SAMPLE))
    centred = samples - np.float32(samples.mean(dtype=np.float64))  # an offset would be raised with it
    return np.clip(centred * gain, -LOUDEST_SAMPLE, LOUDEST_SAMPLE).astype(np.float32, copy=False)


def _speech_level(stored: CodecTensors) -> float | None:
    told = stored.settings.get("speech_level")
    if told is None:
        return None
    if isinstance(told, bool) or not isinstance(told, int | float) or not 0 < told <= 1:
        raise ModelError(
            f"{stored.folder / 'config.json'} gives speech_level as {told!r}, which is no level.",
            "It is a root mean square between 0 and 1; without it clips are encoded as they are.",
        )
    return float(told)


def read_code_count(folder: Path) -> int:
    """How many codes the codec in a folder has, by its configuration and its files' headers.

    Raises:
        ModelError: As `load_codec`, as far as that can be seen.
    """
    return _look_at(folder)[1].code_count


def _look_at(folder: Path) -> tuple[CodecTensors, DecoderConfig]:
    from llasa_cli.codec.decoder import DecoderConfig
    from llasa_cli.codec.weights import CodecTensors

    stored = CodecTensors(folder)
    stored.need(["acoustic_decoder.head.linear.weight"])
    ratios = stored.settings.get("downsampling_ratios", (2, 2, 4, 4, 5))
    if (
        not isinstance(ratios, list | tuple)
        or not all(type(ratio) is int for ratio in ratios)
        or math.prod(ratios) != HOP
    ):
        raise ModelError(
            f"The codec in {folder} makes a code of {str(ratios)[:40]} samples.",
            f"Llasa's codes are {HOP} samples at {SAMPLING_RATE_HZ} Hz.",
        )
    return stored, DecoderConfig.of(stored.settings, stored.shapes)


def _read_encoder(stored: CodecTensors, kind: torch.dtype) -> Any:
    """transformers' model without its decoder, without a word on stdout or stderr.

    Raises:
        ModelError: Tensors are missing, or of another shape than config.json says.
    """
    from transformers import Xcodec2Config
    from transformers.models.xcodec2.modeling_xcodec2 import Xcodec2Model
    from transformers.utils import logging

    from llasa_cli.codec.original_format import semantic_configuration

    stored.find_semantic()
    wanted = [name for name in stored.shapes if not name.startswith("acoustic_decoder.")]
    settings = dict(stored.settings)
    if stored.is_original:
        stored.need(["semantic_encoder.feature_projection.projection.weight", "acoustic_encoder.conv1.weight"])
        settings["semantic_model_config"] = semantic_configuration(stored.shapes)
    # The decoder is ours: of transformers' only what can't be left out is built, and thrown away.
    settings |= {"num_hidden_layers": 0}
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        loaded: Any = Xcodec2Model.from_pretrained(
            None,
            config=Xcodec2Config(**settings),
            state_dict={name: stored(name) for name in wanted},
            dtype=kind,
            output_loading_info=True,
        )
    except ModelError:
        raise
    except Exception as error:  # the library's errors for a wrong configuration have no common type
        raise ModelError(f"The codec in {stored.folder} can't be loaded: {error}", "Fetch it again.") from error
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
    model, found = loaded
    model.acoustic_decoder = None
    # transformers fills what is missing or misshapen with random numbers and goes on: noise instead of speech.
    wrong = [str(name) for name in found["mismatched_keys"]]
    wrong += [
        name
        for name in found["missing_keys"]
        if not name.startswith("acoustic_decoder.") and not name.endswith(".masked_spec_embed")
    ]
    if wrong:
        raise ModelError(
            f"The codec in {stored.folder} lacks {len(wrong)} tensors, {min(wrong)} among them.", "Fetch it again."
        )
    return model
