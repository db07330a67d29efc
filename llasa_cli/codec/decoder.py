"""Codes to sound: the decoder half of `Xcodec2Model`, read directly from its safetensors file.

The result equals transformers' to 1e-5 (tests compare them), without importing transformers, which takes longer than
importing torch, and without the encoder, two thirds of the weights. On a CPU it takes half the time, because all matrix
products, including those of the convolutions, use oneDNN's packed weights (`benchmarks/codec.py` measures the ratio).

    codes (N,) -> quantizer's vectors -> embed -> 2 convolution blocks -> attention layers -> 2 blocks -> ISTFT -> (320 N,)

Decoders that were finetuned for another sampling rate (44.1 kHz: 882 samples per code) have a different frame length in the
last step, or an upsampler before it (98 samples per frame, 3 x 3 frames per code).

transformers rotates queries and keys by angles that depend on the head and not on time (sic). Rotating both by the same angle
changes no product of a query with a key, so the rotation is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from llasa_cli.codec.background_loader import BackgroundLoader
from llasa_cli.errors import ModelError
from llasa_cli.packed_linear import pack_linear

if TYPE_CHECKING:
    from llasa_cli.codec.weights import CodecTensors

CODES_PER_BLOCK = 256
"""Codes (5 s) that go through the layers at once. Half as many are 8 % slower, and twice as many are not faster."""

ENCODER_RATE_HZ, DOWNSAMPLING = 16_000, (2, 2, 4, 4, 5)
"""The defaults of `Xcodec2Config` for the encoder's sampling rate and the ratios of its steps, where config.json states none."""

_GROUPS = 32
_UPSAMPLE = "acoustic_decoder.upsampler.upsample_layers."


@dataclass(frozen=True)
class DecoderConfig:
    """The decoder's dimensions, from config.json and the shapes of the tensors; defaults are those of `Xcodec2Config`."""

    levels: tuple[int, ...]
    heads: int
    layers: int
    rms_norm_eps: float
    hop: int
    """Samples between frames of the ISTFT; a frame has four times as many."""
    codes_per_second: float
    """The number of codes for a second of sound: 50 in most codecs."""
    upsampling: tuple[int, ...] = ()
    """Factors of the upsampling stages; their product is the number of frames per code."""
    pooling: int = 1
    """Frames of the encoder whose mean becomes one code: 2 in the codecs with 25 codes a second."""

    @property
    def samples_per_code(self) -> int:
        return self.hop * math.prod(self.upsampling)

    @property
    def sampling_rate(self) -> int:
        """The sampling rate of decoded sound in Hz."""
        return round(self.codes_per_second * self.samples_per_code)

    @property
    def code_count(self) -> int:
        return math.prod(self.levels)

    @classmethod
    def of(cls, settings: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> DecoderConfig:
        """Read the configuration from config.json in transformers' format and from the shapes of the tensors.

        Raises:
            ModelError: The decoder has an unsupported structure, or its files contradict each other.
        """
        if settings.get("hidden_act", "silu") != "silu":
            raise ModelError(f"The codec's activation function {settings['hidden_act']!r} is not supported.")
        try:
            config = cls(
                tuple(int(level) for level in settings.get("quantization_levels", (4,) * 8)),
                int(settings.get("num_attention_heads", 16)),
                int(settings.get("num_hidden_layers", 12)),
                float(settings.get("rms_norm_eps", 1e-6)),
                (shapes["acoustic_decoder.head.linear.weight"][0] - 2) // 4,
                _codes_per_second(settings, shapes),
                tuple(int(factor) for factor in settings.get("upsample_factors") or ()),
            )
        except (TypeError, ValueError) as error:
            raise ModelError(f"The codec's config.json does not describe an X-Codec2: {error}.") from error
        if min(config.levels, default=0) < 2 or config.heads < 1 or not 0 <= config.layers <= len(shapes):
            raise ModelError(
                f"The codec's config.json is invalid: {config.layers} layers, {config.heads} heads, levels {config.levels}.",
                "Download the codec again.",
            )
        pooling = config._pooling(settings)
        config = replace(config, codes_per_second=config.codes_per_second / pooling, pooling=pooling)
        config._check(settings, shapes)
        return config

    def _pooling(self, settings: Mapping[str, Any]) -> int:
        """The factor by which the sampling rate is lower than with a code for each frame of the encoder.

        Nothing else in the files tells that frames are pooled.
        """
        stated, rate = _stated_rate(settings), self.sampling_rate
        if type(stated) is int and stated > 0 and rate % stated == 0:
            return rate // stated
        return 1

    def _check(self, settings: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> None:
        stages = sum(name.startswith(_UPSAMPLE) and name.endswith(".weight") for name in shapes)
        if stages != len(self.upsampling):
            raise ModelError(
                f"The codec has {stages} upsampling layers, but its config.json states {len(self.upsampling)}."
            )
        for stage, factor in enumerate(self.upsampling):
            taps = shapes[f"{_UPSAMPLE}{stage}.weight"][-1] if f"{_UPSAMPLE}{stage}.weight" in shapes else 0
            # Otherwise a code would not give a whole number of frames.
            if factor < 1 or taps < factor or (taps - factor) % 2:
                raise ModelError(f"The codec's upsampling by {factor} with {taps} taps is not supported.")
        stated = _stated_rate(settings)
        if self.hop < 2 or self.hop % 2 or stated not in (None, self.sampling_rate):
            raise ModelError(
                f"The codec's weights give {self.sampling_rate} Hz ({self.samples_per_code} samples per code), "
                f"but its config.json states {stated}."
            )


def _stated_rate(settings: Mapping[str, Any]) -> Any:
    """The sampling rate of decoded sound in config.json; None if it states none."""
    return settings.get("output_sampling_rate", settings.get("sample_rate"))


def _codes_per_second(settings: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> float:
    """The encoder's sampling rate divided by the samples of one of its frames.

    Raises:
        ModelError: config.json states impossible values, or values that the encoder's weights contradict.
    """
    ratios = settings.get("downsampling_ratios", DOWNSAMPLING)
    rate = settings.get("input_sampling_rate", settings.get("sampling_rate", ENCODER_RATE_HZ))
    are_ratios = isinstance(ratios, list | tuple) and all(type(ratio) is int and ratio > 0 for ratio in ratios)
    # The kernel at the end of a block is twice as wide as its step.
    kernels = [shapes.get(f"acoustic_encoder.block.{index}.conv1.weight", (0,))[-1] for index in range(len(shapes))]
    steps = [kernel // 2 for kernel in kernels if kernel]
    are_ratios = are_ratios and (not steps or steps == list(ratios))
    if not are_ratios or type(rate) is not int or not 0 < rate <= 1_000_000:
        raise ModelError(
            f"The codec's config.json states downsampling ratios {str(ratios)[:40]} and the sampling rate {str(rate)[:40]}.",
            "Download the codec again.",
        )
    return rate / math.prod(ratios)


class Decoder:
    """The decoder's weights and forward pass. `read_decoder` creates it.

    A background thread reads the matrices and packs them in the order of use, so decoding waits only for those that it needs.

    Shapes: B sequences of N codes each. Everything but keys and values is computed for `CODES_PER_BLOCK` codes at a time, and
    the attention weights are never stored. Decoding therefore takes 3 (N, width) arrays of memory, whatever the width of
    the products.
    """

    def __init__(self, config: DecoderConfig, names: Collection[str], read: Callable[[str], torch.Tensor]) -> None:
        """Args:
        names: The tensors in the order of use.
        read: Reads a tensor by its name.
        """
        self.config = config
        self._norms = {name: read(name) for name in names if "norm" in name}
        self._upsamplers = {name: read(name) for name in names if "upsample_layers" in name}
        others = {*self._norms, *self._upsamplers}
        matrices = [name for name in names if name.endswith(".weight") and name not in others]
        # A tensor is read when its turn comes, and freed before the next one if it was packed.
        self._linears: BackgroundLoader[Linear] = BackgroundLoader(
            (name.removesuffix(".weight") for name in matrices),
            lambda name: Linear(read(name + ".weight"), read(name + ".bias") if name + ".bias" in names else None),
        )
        norm = self._norms["norm.weight"]
        self._dtype = norm.dtype
        self._window = torch.hann_window(4 * config.hop, device=norm.device)

    def wait(self) -> None:
        """Wait until all matrices are loaded.

        Raises:
            ModelError: One can't be loaded.
        """
        self._linears.wait()

    def stop(self) -> None:
        """Stop loading; the decoder must not be used afterwards."""
        self._linears.stop()

    def __call__(self, codes: torch.Tensor) -> torch.Tensor:
        """Decode int64 (B, N) on the decoder's device -> float32 (B, samples_per_code * N).

        Raises:
            ModelError: A tensor can't be read.
        """
        norm = self._norms["norm.weight"]
        hidden = norm.new_empty(*codes.shape, len(norm))  # (B, N, width)
        for rows in _blocks(codes.shape[1]):
            hidden[:, rows] = self._linear("fc", self._linear("project_out", self._levels(codes[:, rows])))
        hidden = self._convolve("embed", hidden, torch.empty_like(hidden))
        # Allocated once for all layers: repeated allocation would fragment the memory.
        space = hidden.new_empty(2, *hidden.shape)
        for block in ("prior_net.0", "prior_net.1"):
            self._block(block, hidden, space[0])
        for layer in range(self.config.layers):
            self._layer(f"layers.{layer}", hidden, space)
        for block in ("post_net.0", "post_net.1"):
            self._block(block, hidden, space[0])
        if self.config.upsampling:
            hidden = self._upsample(self._final_norm(hidden))
        return self._istft(hidden)

    def _upsample(self, hidden: torch.Tensor) -> torch.Tensor:
        """(B, N, width) -> (B, N * factors, width): each stage halves the width, and the last step restores it.

        Source: the exporters' description of the published 44.1 kHz decoder. It was not tested with the published weights.
        """
        for stage, factor in enumerate(self.config.upsampling):
            name = f"upsampler.upsample_layers.{stage}"
            weight = self._upsamplers[name + ".weight"]
            padding = (weight.shape[-1] - factor) // 2
            upsampled = F.conv_transpose1d(
                hidden.transpose(1, 2), weight, self._upsamplers[name + ".bias"], stride=factor, padding=padding
            )
            hidden = upsampled.transpose(1, 2).contiguous()
            self._block(f"upsampler.resnet_blocks.{stage}", hidden, torch.empty_like(hidden))
        return F.silu(self._linear("upsampler.out_proj", hidden))

    def _levels(self, codes: torch.Tensor) -> torch.Tensor:
        """The position of each code on the axes of the finite scalar quantizer, -1..1: (B, N) -> (B, N, axes)."""
        levels = torch.tensor(self.config.levels, device=codes.device)
        basis = torch.cumprod(torch.cat([levels.new_ones(1), levels[:-1]]), 0)
        half = levels // 2
        places = (codes[..., None] // basis % levels - half) / half
        return places.to(self._dtype)

    def _linear(self, name: str, hidden: torch.Tensor) -> torch.Tensor:
        return self._linears[name](hidden)

    def _convolve(
        self,
        name: str,
        hidden: torch.Tensor,
        out: torch.Tensor,
        before: Callable[[torch.Tensor], torch.Tensor] | None = None,
    ) -> torch.Tensor:
        """Convolve over time, as a matrix product with the neighboring codes side by side.

        Args:
            hidden: (B, N, width).
            out: Receives the result, (B, N, rows); it is also returned.
            before: Applied to each code first. Before the first code and after the last one, zeros are used.
        """
        for rows, made in self._convolved(name, hidden, before):
            out[:, rows] = made
        return out

    def _convolved(
        self, name: str, hidden: torch.Tensor, before: Callable[[torch.Tensor], torch.Tensor] | None
    ) -> Iterator[tuple[slice, torch.Tensor]]:
        """Like `_convolve`, but yield each block of codes with its result."""
        linear, length = self._linears[name], hidden.shape[1]
        reach = linear.taps // 2
        for rows in _blocks(length):
            first, last = max(0, rows.start - reach), min(length, rows.stop + reach)
            piece = hidden[:, first:last]
            if before is not None:
                piece = before(piece)
            piece = F.pad(piece, (0, 0, reach - (rows.start - first), reach - (last - rows.stop)))
            count = rows.stop - rows.start
            yield rows, linear(torch.cat([piece[:, tap : tap + count] for tap in range(linear.taps)], dim=-1))

    def _block(self, name: str, hidden: torch.Tensor, inner: torch.Tensor) -> None:
        """Add two convolutions over three codes, each after GroupNorm over the whole sequence.

        Args:
            hidden: (B, N, width), changed in place.
            inner: Scratch space of the same shape.
        """
        self._convolve(f"{name}.conv1", hidden, inner, self._group_norm(f"{name}.norm1", hidden))
        for rows, made in self._convolved(f"{name}.conv2", inner, self._group_norm(f"{name}.norm2", inner)):
            hidden[:, rows] += made

    def _group_norm(self, name: str, hidden: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
        """A function that applies GroupNorm with the statistics of the whole sequence, and SiLU, to a part of it."""
        groups = hidden.unflatten(-1, (_GROUPS, -1))  # (B, N, groups, width of one)
        variance, mean = torch.var_mean(groups, dim=(1, 3), correction=0, keepdim=True)
        weight, bias = (self._norms[f"{name}.{part}"].unflatten(0, (_GROUPS, -1)) for part in ("weight", "bias"))
        scale = weight * (variance + 1e-6).rsqrt()  # (B, 1, groups, width of one)
        shift = bias - mean * scale
        scale, shift = scale.flatten(-2), shift.flatten(-2)
        return lambda part: F.silu(torch.addcmul(shift, part, scale), inplace=True)

    def _layer(self, name: str, hidden: torch.Tensor, space: torch.Tensor) -> None:
        """Add attention over all codes, and then a feed-forward layer.

        Args:
            hidden: (B, N, width), changed in place.
            space: Scratch space for keys and values, (2, B, N, width).
        """
        keys, values = space
        normed = hidden
        for rows in _blocks(hidden.shape[1]):
            normed = self._rms_norm(f"{name}.input_layernorm", hidden[:, rows])
            keys[:, rows] = self._linear(f"{name}.self_attn.k_proj", normed)
            values[:, rows] = self._linear(f"{name}.self_attn.v_proj", normed)
        key, value = self._split_heads(keys), self._split_heads(values)
        for rows in _blocks(hidden.shape[1]):
            if hidden.shape[1] > CODES_PER_BLOCK:  # else it is that of the only block
                normed = self._rms_norm(f"{name}.input_layernorm", hidden[:, rows])
            query = self._split_heads(self._linear(f"{name}.self_attn.q_proj", normed))
            mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
            hidden[:, rows] += self._linear(f"{name}.self_attn.o_proj", mixed)
            normed = self._rms_norm(f"{name}.post_attention_layernorm", hidden[:, rows])
            inner = F.silu(self._linear(f"{name}.mlp.fc1", normed), inplace=True)
            hidden[:, rows] += self._linear(f"{name}.mlp.fc2", inner)

    def _split_heads(self, states: torch.Tensor) -> torch.Tensor:
        """(B, N, width) -> (B, heads, N, width / heads)."""
        return states.unflatten(-1, (self.config.heads, -1)).transpose(1, 2)

    def _rms_norm(self, name: str, hidden: torch.Tensor) -> torch.Tensor:
        return F.rms_norm(hidden, hidden.shape[-1:], self._norms[name + ".weight"], self.config.rms_norm_eps)

    def _final_norm(self, hidden: torch.Tensor) -> torch.Tensor:
        norms = self._norms
        return F.layer_norm(hidden, hidden.shape[-1:], norms["norm.weight"], norms["norm.bias"], eps=1e-6)

    def _istft(self, hidden: torch.Tensor) -> torch.Tensor:
        """(B, N, width) -> (B, hop * N) samples: the inverse STFT of the spectra that the head predicts."""
        batch, count, hop, width = *hidden.shape[:2], self.config.hop, len(self._window)
        over = width // hop
        sound = self._window.new_zeros(batch, count + over - 1, hop)
        envelope = self._window.new_zeros(1, count + over - 1, hop)
        self._overlap(envelope, self._window.square().expand(1, count, width))
        for rows in _blocks(count):
            part = hidden[:, rows] if self.config.upsampling else self._final_norm(hidden[:, rows])
            # log magnitudes and phases: (B, rows, frame + 2)
            magnitude, phase = self._linear("head.linear", part).float().chunk(2, dim=-1)
            frames = torch.fft.irfft(torch.polar(magnitude.exp().clamp(max=1e2), phase), width)
            self._overlap(sound[:, rows.start :], frames.mul_(self._window))
        cut = (width - hop) // 2
        return (sound / envelope.clamp_(min=1e-11)).flatten(1)[:, cut : cut + hop * count]

    def _overlap(self, total: torch.Tensor, frames: torch.Tensor) -> None:
        """Overlap-add frames (B, N, frame) to `total`, (B, at least N + frame / hop - 1, hop)."""
        pieces = frames.unflatten(2, (-1, self.config.hop))  # (B, N, frame / hop, hop)
        for piece in range(pieces.shape[2]):
            total[:, piece : piece + frames.shape[1]] += pieces[:, :, piece]


def _blocks(length: int) -> Iterator[slice]:
    """Slices from 0 to `length`, `CODES_PER_BLOCK` at a time."""
    for begin in range(0, length, CODES_PER_BLOCK):
        yield slice(begin, min(begin + CODES_PER_BLOCK, length))


class Linear:
    """A linear layer. The weight (rows, width, taps) of a convolution becomes a matrix over `taps` codes side by side."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        self.taps = weight.shape[2] if weight.dim() == 3 else 1
        matrix = weight.transpose(1, 2).flatten(1) if weight.dim() == 3 else weight
        self._product: Callable[[torch.Tensor], torch.Tensor] = pack_linear(matrix, bias) or (
            lambda hidden: F.linear(hidden, matrix, bias)
        )

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        """(..., taps * width) -> (..., rows)."""
        return self._product(hidden)


def read_config(stored: CodecTensors) -> DecoderConfig:
    """The dimensions of the decoder in a codec's files.

    Raises:
        ModelError: See `DecoderConfig.of`; or the decoder is missing.
    """
    stored.require(["acoustic_decoder.head.linear.weight"])
    return DecoderConfig.of(stored.settings, stored.shapes)


def read_decoder(stored: CodecTensors, device: torch.device) -> Decoder:
    """Start to load the decoder from a codec's files, in float32.

    Raises:
        ModelError: The file is broken, or tensors are missing or have unexpected shapes.
    """
    config = read_config(stored)
    prefixes = ("acoustic_decoder.", "quantizer.")
    own = {name.split(".", 1)[1]: name for name in stored.shapes if name.startswith(prefixes)}
    shapes = {short: stored.shapes[name] for short, name in own.items()}
    expected = _expected_shapes(config, shapes)
    stored.require(own.get(name, "acoustic_decoder." + name) for name in expected)
    # All are checked now, since not every wrong one fails later: a bias of one number would be broadcast.
    for name, size in expected.items():
        if shapes[name] != size:
            raise ModelError(
                f"The codec's {name} has the shape {shapes[name]}; the others and config.json require {size}."
            )
    width = shapes["fc.weight"][0]
    if width % config.heads or width % _GROUPS:
        raise ModelError(
            f"The codec's width {width} is not a multiple of {config.heads} heads and of {_GROUPS} groups."
        )
    # A tensor is read at each access. All at once would take the memory of the weights twice.
    return Decoder(config, expected, lambda name: stored(own[name]).to(device, torch.float32))


def _expected_shapes(config: DecoderConfig, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """The shapes of all tensors that decoding needs, in the order of use.

    Args:
        shapes: The shapes in the file, of which some decide the others.
    """
    expected: dict[str, tuple[int, ...]] = {}

    def add(name: str, *size: int, has_bias: bool = True, outputs: int = 0) -> None:
        expected[f"{name}.weight"] = size
        if has_bias or f"{name}.bias" in shapes:
            expected[f"{name}.bias"] = (outputs or size[0],)

    def add_block(name: str, width: int) -> None:
        for half in "12":
            add(f"{name}.norm{half}", width)
            add(f"{name}.conv{half}", width, width, 3)

    first = shapes.get("fc.weight") or (0,)
    width, vector = first[0], first[-1]
    inner = (shapes.get("layers.0.mlp.fc1.weight") or (0,))[0]
    add("project_out", vector, len(config.levels))
    add("fc", width, vector)
    add("embed", width, width, 7)
    add_block("prior_net.0", width)
    add_block("prior_net.1", width)
    for layer in range(config.layers):
        add(f"layers.{layer}.input_layernorm", width, has_bias=False)
        for part in "kvqo":
            add(f"layers.{layer}.self_attn.{part}_proj", width, width, has_bias=False)
        add(f"layers.{layer}.post_attention_layernorm", width, has_bias=False)
        add(f"layers.{layer}.mlp.fc1", inner, width, has_bias=False)
        add(f"layers.{layer}.mlp.fc2", width, inner, has_bias=False)
    add_block("post_net.0", width)
    add_block("post_net.1", width)
    add("norm", width)
    for stage in range(len(config.upsampling)):
        name, narrow = f"upsampler.upsample_layers.{stage}", width >> (stage + 1)
        add(name, 2 * narrow, narrow, (shapes.get(f"{name}.weight") or (0,))[-1], outputs=narrow)
        add_block(f"upsampler.resnet_blocks.{stage}", narrow)
    if config.upsampling:
        add("upsampler.out_proj", width, width >> len(config.upsampling))
    add("head.linear", 4 * config.hop + 2, width)
    return expected
