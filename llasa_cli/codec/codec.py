"""X-Codec2 in both directions: transformers' `Xcodec2Model` encodes, `decoder.py` decodes.

    codec = load_codec(folder)
    codes = codec.encode(samples)      float32 [n], mono, 16 kHz -> n // 320 codes, 50 a second (or 25)
    samples = codec.decode(codes)      -> float32 [codes * samples_per_code], mono, at codec.sampling_rate

Decoding is not causal: attention and GroupNorm use the whole sequence, so a part that is decoded alone differs from the same
part of the whole. The encoder, and with it transformers, is loaded when something is first encoded; generating speech needs
neither.
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
from llasa_cli.device import pick_device
from llasa_cli.errors import AudioError, ModelError

if TYPE_CHECKING:
    import torch

    from llasa_cli.codec.decoder import Decoder, DecoderConfig
    from llasa_cli.codec.watermark import Watermark
    from llasa_cli.codec.weights import CodecTensors

CODES_AT_ONCE = 1024
"""The most codes that sequences of equal length have in one decoding step; larger steps are not faster."""

MIN_CLIP_SAMPLES = 2 * HOP
"""The variance of a band over the clip needs more than one frame."""

_MAX_SAMPLE = 0.98
"""The largest sample of a clip that was brought to the codec's level; clicks are clipped to it."""
_MIN_LEVEL = 1e-4
"""The level (-80 dB) below which a clip has no speech and is not changed."""


class Codec:
    """A loaded codec. `load_codec` creates it.

    Attributes:
        sampling_rate: The rate of decoded sound in Hz: 16,000, or that of a finetuned decoder. Encoding takes 16,000 Hz.
        codes_per_second: 50, or another number by the codec's files.
        samples_per_code: Samples of decoded sound for each code.
        code_count: Codes are 0 to code_count - 1.
        identity: A short hash of configuration and weights. The codes of one codec are noise to another.
        speech_level: The root mean square (without silences) to which clips are brought before encoding, from
            `speech_level` in config.json. A codec that was trained at a single level needs it; the built-in codec makes a
            louder voice brighter. None, as in the published codecs, encodes clips as they are.
        watermark: Marks everything that is decoded; None leaves it as it is.
    """

    watermark: Watermark | None = None

    def __init__(self, stored: CodecTensors, decoder: Decoder, identity: str, device: torch.device) -> None:
        self._stored, self._decoder, self._device = stored, decoder, device
        self.identity = identity
        self.sampling_rate = decoder.config.sampling_rate
        self.codes_per_second = decoder.config.codes_per_second
        self.samples_per_code = decoder.config.samples_per_code
        self.code_count = math.prod(decoder.config.levels)
        self.speech_level = _speech_level(stored)

    @cached_property
    def _encoder(self) -> Any:
        """transformers' model without its decoder.

        Raises:
            ModelError: A tensor is missing in the file, or this program has no encoder of this kind.
        """
        import torch.nn.functional as F

        ratios = self._stored.settings.get("downsampling_ratios")
        pooling = self._decoder.config.pooling
        frames_per_second = self.codes_per_second * pooling
        if frames_per_second * HOP != SAMPLING_RATE_HZ or (ratios is not None and math.prod(ratios) != HOP):
            raise ModelError(
                f"Clips can't be encoded with the codec in {self._stored.folder}: its encoder does not have 50 frames a second.",
                "Use a saved voice, codes that were made elsewhere, or a speaker of the model.",
            )
        model = _read_encoder(self._stored)
        model = model.eval().to(self._device)
        if pooling > 1:
            model.fc_encoder.register_forward_hook(
                lambda layer, inputs, frames: F.avg_pool1d(frames.transpose(1, 2), pooling).transpose(1, 2)
            )
        if self._device.type == "cpu":
            from llasa_cli.codec.antialias import use_shifted_filters

            use_shifted_filters(model)
        return model

    def encode(self, samples: np.ndarray) -> list[int]:
        """Encode one clip: float32 [n] -> n // 320 codes, or n // 320 // 2 with 25 codes a second.

        Raises:
            AudioError: The clip is shorter than 40 ms.
        """
        return self.encode_batch([samples])[0]

    def encode_batch(self, clips: Sequence[np.ndarray]) -> list[list[int]]:
        """Encode several clips, with the same result as one by one.

        Only clips of equal `n // 320` share a batch: the encoder normalizes over time, so padding would change the codes.

        Raises:
            AudioError: A clip is shorter than 40 ms.
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
            margin = 0 if self._stored.is_neucodec else HOP // 2
            features = np.stack([filter_bank(clips[i], margin) for i in indices])
            with torch.inference_mode():
                encoded = self._encoder.encode(
                    torch.from_numpy(values)[:, None].to(self._device),
                    torch.from_numpy(features).to(self._device),
                )
            # X-Codec2's encoder gives floor(T / 320) + 1 codes, the last of which is padding (LLaSA_training keeps T // 320 too).
            codes_each = count // self._decoder.config.pooling
            for index, codes in zip(indices, encoded.audio_codes[:, 0, :codes_each].tolist(), strict=True):
                out[index] = codes
        return out

    def wait(self) -> None:
        """Wait until everything that decoding needs is loaded.

        Raises:
            ModelError: A tensor is broken.
        """
        self._decoder.wait()

    def stop(self) -> None:
        """Stop loading; the codec must not be used afterwards."""
        self._decoder.stop()

    def decode(self, codes: Sequence[int]) -> np.ndarray:
        """Decode codes -> float32 [samples_per_code * len(codes)].

        Raises:
            ModelError: A code is outside this codec's range.
        """
        return self.decode_many([codes])[0]

    def decode_many(self, sequences: Sequence[Sequence[int]]) -> list[np.ndarray]:
        """Decode several sequences, with the same result as one by one.

        Only sequences of equal length share a batch: normalization and attention go over the whole sequence, so padding
        would change the sound.

        Raises:
            ModelError: A code is outside this codec's range.
        """
        import torch

        groups: dict[int, list[int]] = {}
        for index, codes in enumerate(sequences):
            if len(codes) and not 0 <= min(codes) <= max(codes) < self.code_count:
                raise ModelError(
                    f"There are codes from {min(codes)} to {max(codes)}, but this codec has 0 to {self.code_count - 1}.",
                    "They were made by another codec. Use the one that belongs to the model.",
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
                    out[index] = row if self.watermark is None else self.watermark(row, self.sampling_rate)
        return out


def limit_onednn_cache() -> None:
    """Limit oneDNN, which torch calls on a CPU, to cached kernels for 64 array shapes instead of 1,024.

    Clips have hundreds of lengths: with the default, encoding 2,000 clips takes 2.9 GB instead of 0.7 GB, and is slower.
    Call this before anything is computed, since oneDNN reads the limit once.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")


def load_codec(folder: Path, device: str = "auto", wait: bool = True) -> Codec:
    """Load an X-Codec2 from a folder with config.json and safetensors, in transformers' format or in its authors'.

    It runs in float32 on every device: its ISTFT head and GroupNorm lose audible precision in 16 bit, and it is a small part
    of the time.

    Args:
        wait: If False, the function returns while the weights are still loading; decoding waits for those that it needs.

    Raises:
        ModelError: Files are missing, broken, or of another architecture. Without `wait`, NaN or infinite weights are found
            by the first `decode`, or by `Codec.wait`.
        UsageError: The device is not available.
    """
    limit_onednn_cache()
    where = pick_device(device)
    from llasa_cli.codec.decoder import read_decoder
    from llasa_cli.codec.weights import CodecTensors

    stored = CodecTensors(folder)
    codec = Codec(stored, read_decoder(stored, where), codec_identity(folder), where)
    if wait:
        codec.wait()
    return codec


def normalize_level(samples: np.ndarray, level: float) -> np.ndarray:
    """Bring the speech of a clip to a level, as far as its peaks allow, and remove its offset.

    Args:
        samples: float32 [n], 16 kHz.
        level: Root mean square of the speech, without silences.
    """
    found = VoiceActivity.of(samples, SAMPLING_RATE_HZ).speech_rms
    if found < _MIN_LEVEL:
        return samples
    gain = np.float32(limit_gain(samples, level / found, _MAX_SAMPLE))
    centered = samples - np.float32(samples.mean(dtype=np.float64))  # otherwise the offset would be raised too
    return np.clip(centered * gain, -_MAX_SAMPLE, _MAX_SAMPLE).astype(np.float32, copy=False)


def _speech_level(stored: CodecTensors) -> float | None:
    level = stored.settings.get("speech_level")
    if level is None:
        return None
    if isinstance(level, bool) or not isinstance(level, int | float) or not 0 < level <= 1:
        raise ModelError(
            f"speech_level in {stored.folder / 'config.json'} must be between 0 and 1, not {level!r}.",
            "It is a root mean square; without it clips are encoded as they are.",
        )
    return float(level)


def read_codec_config(folder: Path) -> DecoderConfig:
    """The dimensions of the codec in a folder, from its configuration and the headers of its files.

    Raises:
        ModelError: See `load_codec`; broken weights are not noticed here.
    """
    from llasa_cli.codec.decoder import read_config
    from llasa_cli.codec.weights import CodecTensors

    return read_config(CodecTensors(folder))


def _read_encoder(stored: CodecTensors) -> Any:
    """Load transformers' model without its decoder, and without its messages on standard output and error.

    Raises:
        ModelError: Tensors are missing, or have other shapes than config.json states.
    """
    import torch
    from transformers import NeuCodecConfig, NeuCodecModel, Xcodec2Config, Xcodec2Model
    from transformers.utils import logging

    from llasa_cli.codec.original_format import semantic_configuration

    stored.find_semantic()
    wanted = [name for name in stored.shapes if not name.startswith("acoustic_decoder.")]
    settings = dict(stored.settings)
    if stored.is_original:
        stored.require(["semantic_encoder.feature_projection.projection.weight", "acoustic_encoder.conv1.weight"])
        settings["semantic_model_config"] = semantic_configuration(stored.shapes)
    # Only the parts of transformers' decoder that can't be left out are built; they are discarded below.
    settings |= {"num_hidden_layers": 0}
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        model_class: Any = NeuCodecModel if stored.is_neucodec else Xcodec2Model
        config_class = NeuCodecConfig if stored.is_neucodec else Xcodec2Config
        loaded: Any = model_class.from_pretrained(
            None,
            config=config_class(**settings),
            state_dict={name: stored(name) for name in wanted},
            dtype=torch.float32,
            output_loading_info=True,
        )
    except ModelError:
        raise
    except Exception as error:  # the library's errors for a wrong configuration have no common type
        raise ModelError(f"The codec in {stored.folder} can't be loaded: {error}", "Download it again.") from error
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
    model, found = loaded
    model.acoustic_decoder = None
    # transformers fills missing or misshapen tensors with random numbers, which would give noise instead of speech.
    wrong = [str(name) for name in found["mismatched_keys"]]
    wrong += [
        name
        for name in found["missing_keys"]
        if not name.startswith("acoustic_decoder.") and not name.endswith(".masked_spec_embed")
    ]
    if wrong:
        raise ModelError(
            f"The codec in {stored.folder} lacks {len(wrong)} tensors, {min(wrong)} among them.", "Download it again."
        )
    return model
