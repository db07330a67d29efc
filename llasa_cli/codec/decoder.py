"""Codes -> sound: the decoder half of `Xcodec2Model`, straight from its safetensors file.

transformers' sound to 1e-5 (tests compare them), without importing it: that import takes longer than torch's, and who only
speaks needs neither it nor the encoder, two thirds of the weights. On a CPU it takes half the time: all products, the
convolutions among them, go by oneDNN's layout of the weights (`benchmarks/codec.py` has the ratio).

    codes (N,) -> quantiser's vectors -> embed -> 2 convolution blocks -> attention layers -> 2 blocks -> ISTFT -> (320 N,)

Finetunes of the decoder for another rate (44.1 kHz: 882 samples a code) have other frames in the last step, or an upsampler
before it (98 samples a frame, 3 x 3 frames a code).

transformers rotates queries and keys by angles that depend on the head and not on time (sic). One rotation of both
changes no product of a query with a key, so it is left out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F

from llasa_cli.codec.background_loader import BackgroundLoader
from llasa_cli.errors import ModelError
from llasa_cli.packed_linear import pack_linear
from llasa_cli.settings import CODES_PER_SECOND

if TYPE_CHECKING:
    from llasa_cli.codec.weights import CodecTensors

ROWS = 256
"""Codes, 5 s, that are taken through the layers at once. With half as many it is 8 % slower; twice as many gain nothing."""

_GROUPS = 32
_UPSAMPLE = "acoustic_decoder.upsampler.upsample_layers."


@dataclass(frozen=True)
class DecoderConfig:
    """What config.json and the tensors' shapes tell; defaults are `Xcodec2Config`'s."""

    levels: tuple[int, ...]
    heads: int
    layers: int
    rms_norm_eps: float
    hop: int
    """Samples from one frame of the ISTFT to the next; a frame is four of them long."""
    upsampling: tuple[int, ...] = ()
    """Frames a code, stage by stage."""

    @property
    def samples_per_code(self) -> int:
        return self.hop * math.prod(self.upsampling)

    @property
    def sampling_rate(self) -> int:
        """Hz. There are 50 codes a second, whatever the rate."""
        return CODES_PER_SECOND * self.samples_per_code

    @property
    def code_count(self) -> int:
        return math.prod(self.levels)

    @classmethod
    def of(cls, settings: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> DecoderConfig:
        """Read a config.json of transformers' form, and the shapes of the tensors.

        Raises:
            ModelError: Not a decoder that this program runs.
        """
        if settings.get("hidden_act", "silu") != "silu":
            raise ModelError(f"The codec's activation {settings['hidden_act']!r} is not one this program runs.")
        try:
            shape = cls(
                tuple(int(level) for level in settings.get("quantization_levels", (4,) * 8)),
                int(settings.get("num_attention_heads", 16)),
                int(settings.get("num_hidden_layers", 12)),
                float(settings.get("rms_norm_eps", 1e-6)),
                (shapes["acoustic_decoder.head.linear.weight"][0] - 2) // 4,
                tuple(int(factor) for factor in settings.get("upsample_factors") or ()),
            )
        except (TypeError, ValueError) as error:
            raise ModelError(f"The codec's config.json does not describe an X-Codec2: {error}.") from error
        if min(shape.levels, default=0) < 2 or shape.heads < 1 or not 0 <= shape.layers <= len(shapes):
            raise ModelError(
                f"The codec's config.json tells of {shape.layers} layers, {shape.heads} heads and the levels {shape.levels}, "
                "which can't be."
            )
        shape._check(settings, shapes)
        return shape

    def _check(self, settings: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> None:
        stages = sum(name.startswith(_UPSAMPLE) and name.endswith(".weight") for name in shapes)
        if stages != len(self.upsampling):
            raise ModelError(
                f"The codec has {stages} upsampling layers, its config.json tells of {len(self.upsampling)}."
            )
        for stage, factor in enumerate(self.upsampling):
            taps = shapes[f"{_UPSAMPLE}{stage}.weight"][-1] if f"{_UPSAMPLE}{stage}.weight" in shapes else 0
            # Otherwise a code would not become a whole number of frames.
            if factor < 1 or taps < factor or (taps - factor) % 2:
                raise ModelError(f"The codec's upsampling by {factor} with {taps} taps is not one this program runs.")
        told = settings.get("sample_rate")
        if self.hop < 2 or self.hop % 2 or told not in (None, self.sampling_rate):
            raise ModelError(
                f"The codec's weights make {self.sampling_rate} Hz ({self.samples_per_code} samples a code), "
                f"its config.json says {told}."
            )


class Decoder:
    """The weights and what is done with them. Build it with `read_decoder`.

    Its matrices are read and laid out by a thread of their own, in the order in which they are used: decoding waits for
    what it needs and for no more.

    Shapes: B sequences of N codes each. All but keys and values goes over `ROWS` codes at a time, and attention never writes
    down who sees whom. So a decode takes three times (N, width) numbers of memory, whatever the width of the products.
    """

    def __init__(self, shape: DecoderConfig, weights: Mapping[str, torch.Tensor]) -> None:
        self.shape = shape
        names = _names(shape)
        self._norms = {name: weights[name] for name in names if "norm" in name}
        self._raised = {name: weights[name] for name in names if "upsample_layers" in name}
        apart = {*self._norms, *self._raised}
        matrices = [name for name in names if name.endswith(".weight") and name not in apart]
        # A tensor is read when its turn comes, and gone before the next if it was laid out anew.
        self._linears: BackgroundLoader[Linear] = BackgroundLoader(
            (name.removesuffix(".weight") for name in matrices),
            lambda name: Linear(weights[name + ".weight"], weights.get(name + ".bias")),
        )
        norm = self._norms["norm.weight"]
        self._dtype = norm.dtype
        self._window = torch.hann_window(4 * shape.hop, device=norm.device)

    def wait(self) -> None:
        """Until all of it is loaded.

        Raises:
            ModelError: Some of it can't be.
        """
        self._linears.wait()

    def stop(self) -> None:
        """Read no more; it is not going to be used."""
        self._linears.stop()

    def __call__(self, codes: torch.Tensor) -> torch.Tensor:
        """int64 (B, N) on the decoder's device -> float32 (B, samples_per_code * N).

        Raises:
            ModelError: A tensor can't be read after all.
        """
        norm = self._norms["norm.weight"]
        hidden = norm.new_empty(*codes.shape, len(norm))  # (B, N, width)
        for rows in _pieces(codes.shape[1]):
            hidden[:, rows] = self._linear("fc", self._linear("project_out", self._levels(codes[:, rows])))
        hidden = self._convolve("embed", hidden, torch.empty_like(hidden))
        # Once for all layers: where each gets its own and gives it back, memory falls to pieces.
        space = hidden.new_empty(2, *hidden.shape)
        for block in ("prior_net.0", "prior_net.1"):
            self._block(block, hidden, space[0])
        for layer in range(self.shape.layers):
            self._layer(f"layers.{layer}", hidden, space)
        for block in ("post_net.0", "post_net.1"):
            self._block(block, hidden, space[0])
        if self.shape.upsampling:
            hidden = self._upsample(self._last_norm(hidden))
        return self._sound(hidden)

    def _upsample(self, hidden: torch.Tensor) -> torch.Tensor:
        """(B, N, width) -> (B, N * factors, width): each stage halves the width, the last step brings it back.

        Source: the decoder of the published 44.1 kHz finetune, as its exporters describe it; not seen on its weights.
        """
        for stage, factor in enumerate(self.shape.upsampling):
            name = f"upsampler.upsample_layers.{stage}"
            weight = self._raised[name + ".weight"]
            padding = (weight.shape[-1] - factor) // 2
            raised = F.conv_transpose1d(
                hidden.transpose(1, 2), weight, self._raised[name + ".bias"], stride=factor, padding=padding
            )
            hidden = raised.transpose(1, 2).contiguous()
            self._block(f"upsampler.resnet_blocks.{stage}", hidden, torch.empty_like(hidden))
        return F.silu(self._linear("upsampler.out_proj", hidden))

    def _levels(self, codes: torch.Tensor) -> torch.Tensor:
        """A code's place on each axis of the finite scalar quantiser, -1..1: (B, N, axes)."""
        levels = torch.tensor(self.shape.levels, device=codes.device)
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
        """Over neighbouring codes, as many before as behind, as a product with what they say side by side; -> `out`.

        Args:
            before: What is done to each code first; beside the first and the last there are zeros.
        """
        for rows, made in self._convolved(name, hidden, before):
            out[:, rows] = made
        return out

    def _convolved(
        self, name: str, hidden: torch.Tensor, before: Callable[[torch.Tensor], torch.Tensor] | None
    ) -> Iterator[tuple[slice, torch.Tensor]]:
        """`_convolve`, `ROWS` codes at a time: which, and what becomes of them."""
        linear, length = self._linears[name], hidden.shape[1]
        reach = linear.taps // 2
        for rows in _pieces(length):
            first, last = max(0, rows.start - reach), min(length, rows.stop + reach)
            piece = hidden[:, first:last]
            if before is not None:
                piece = before(piece)
            piece = F.pad(piece, (0, 0, reach - (rows.start - first), reach - (last - rows.stop)))
            count = rows.stop - rows.start
            yield rows, linear(torch.cat([piece[:, tap : tap + count] for tap in range(linear.taps)], dim=-1))

    def _block(self, name: str, hidden: torch.Tensor, inner: torch.Tensor) -> None:
        """Two convolutions of three codes, each after GroupNorm over the whole sequence, added to (B, N, width).

        Args:
            inner: Room for as much.
        """
        self._convolve(f"{name}.conv1", hidden, inner, self._group_norm(f"{name}.norm1", hidden))
        for rows, made in self._convolved(f"{name}.conv2", inner, self._group_norm(f"{name}.norm2", inner)):
            hidden[:, rows] += made

    def _group_norm(self, name: str, hidden: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
        """What GroupNorm and SiLU make of any part of this sequence."""
        groups = hidden.unflatten(-1, (_GROUPS, -1))  # (B, N, groups, width of one)
        variance, mean = torch.var_mean(groups, dim=(1, 3), correction=0, keepdim=True)
        weight, bias = (self._norms[f"{name}.{part}"].unflatten(0, (_GROUPS, -1)) for part in _BOTH)
        scale = weight * (variance + 1e-6).rsqrt()  # (B, 1, groups, width of one)
        shift = bias - mean * scale
        scale, shift = scale.flatten(-2), shift.flatten(-2)
        return lambda part: F.silu(torch.addcmul(shift, part, scale), inplace=True)

    def _layer(self, name: str, hidden: torch.Tensor, space: torch.Tensor) -> None:
        """Attention of every code to every code, then a feed-forward; added to (B, N, width).

        Args:
            space: Room for keys and values.
        """
        keys, values = space
        for rows in _pieces(hidden.shape[1]):
            normed = self._rms_norm(f"{name}.input_layernorm", hidden[:, rows])
            keys[:, rows] = self._linear(f"{name}.self_attn.k_proj", normed)
            values[:, rows] = self._linear(f"{name}.self_attn.v_proj", normed)
        key, value = self._headed(keys), self._headed(values)
        for rows in _pieces(hidden.shape[1]):
            normed = self._rms_norm(f"{name}.input_layernorm", hidden[:, rows])
            query = self._headed(self._linear(f"{name}.self_attn.q_proj", normed))
            mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
            hidden[:, rows] += self._linear(f"{name}.self_attn.o_proj", mixed)
            normed = self._rms_norm(f"{name}.post_attention_layernorm", hidden[:, rows])
            inner = F.silu(self._linear(f"{name}.mlp.fc1", normed), inplace=True)
            hidden[:, rows] += self._linear(f"{name}.mlp.fc2", inner)

    def _headed(self, states: torch.Tensor) -> torch.Tensor:
        """(B, N, width) -> (B, heads, N, width of one)."""
        return states.unflatten(-1, (self.shape.heads, -1)).transpose(1, 2)

    def _rms_norm(self, name: str, hidden: torch.Tensor) -> torch.Tensor:
        return F.rms_norm(hidden, hidden.shape[-1:], self._norms[name + ".weight"], self.shape.rms_norm_eps)

    def _last_norm(self, hidden: torch.Tensor) -> torch.Tensor:
        norms = self._norms
        return F.layer_norm(hidden, hidden.shape[-1:], norms["norm.weight"], norms["norm.bias"], eps=1e-6)

    def _sound(self, hidden: torch.Tensor) -> torch.Tensor:
        """(B, N, width) -> samples, by overlapping windowed inverse transforms of the head's spectra."""
        batch, count, hop, width = *hidden.shape[:2], self.shape.hop, len(self._window)
        over = width // hop
        sound = self._window.new_zeros(batch, count + over - 1, hop)
        envelope = self._window.new_zeros(1, count + over - 1, hop)
        self._overlap(envelope, self._window.square().expand(1, count, width))
        for rows in _pieces(count):
            part = hidden[:, rows] if self.shape.upsampling else self._last_norm(hidden[:, rows])
            # log magnitudes and phases: (B, rows, frame + 2)
            magnitude, phase = self._linear("head.linear", part).float().chunk(2, dim=-1)
            frames = torch.fft.irfft(torch.polar(magnitude.exp().clamp(max=1e2), phase), width)
            self._overlap(sound[:, rows.start :], frames.mul_(self._window))
        cut = (width - hop) // 2
        return (sound / envelope.clamp_(min=1e-11)).flatten(1)[:, cut : cut + hop * count]

    def _overlap(self, total: torch.Tensor, frames: torch.Tensor) -> None:
        """Add (B, N, frame) to (B, at least N + hops a frame - 1, hop): each frame begins a hop after the one before."""
        pieces = frames.unflatten(2, (-1, self.shape.hop))  # (B, N, hops a frame, hop)
        for piece in range(pieces.shape[2]):
            total[:, piece : piece + frames.shape[1]] += pieces[:, :, piece]


def _pieces(length: int) -> Iterator[slice]:
    """0 to `length`, `ROWS` at a time."""
    for begin in range(0, length, ROWS):
        yield slice(begin, min(begin + ROWS, length))


class Linear:
    """A matrix and a bias; of a convolution's (rows, width, taps) the matrix over `taps` codes side by side."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        self.taps = weight.shape[2] if weight.dim() == 3 else 1
        matrix = weight.transpose(1, 2).flatten(1) if weight.dim() == 3 else weight
        self._product: Callable[[torch.Tensor], torch.Tensor] = pack_linear(matrix, bias) or _plain(matrix, bias)

    def __call__(self, hidden: torch.Tensor) -> torch.Tensor:
        """(..., taps * width) -> (..., rows)."""
        return self._product(hidden)


def _plain(matrix: torch.Tensor, bias: torch.Tensor | None) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda hidden: F.linear(hidden, matrix, bias)


def read_decoder(stored: CodecTensors, device: torch.device, dtype: torch.dtype) -> Decoder:
    """The decoder's tensors out of a codec's files.

    Raises:
        ModelError: The file is broken, or tensors are missing or of other shapes.
    """
    stored.need(["acoustic_decoder.head.linear.weight"])
    shape = DecoderConfig.of(stored.settings, stored.shapes)
    prefixes = ("acoustic_decoder.", "quantizer.")
    held = {name: name.split(".", 1)[1] for name in stored.shapes if name.startswith(prefixes)}
    own = {short: name for name, short in held.items()}
    stored.need(own.get(name, "acoustic_decoder." + name) for name in _names(shape))
    _check_shapes({short: stored.shapes[name] for short, name in own.items()}, shape)
    return Decoder(shape, _Read(own, lambda name: stored(name).to(device, dtype)))


class _Read(Mapping[str, torch.Tensor]):
    """Tensors that are read each time they are asked for: all at once would be the weights a second time."""

    def __init__(self, names: Mapping[str, str], read: Callable[[str], torch.Tensor]) -> None:
        self._names, self._read = names, read

    def __getitem__(self, short: str) -> torch.Tensor:
        return self._read(self._names[short])

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _check_shapes(shapes: Mapping[str, tuple[int, ...]], shape: DecoderConfig) -> None:
    """Not every wrong shape fails later: a bias of one number is broadcast.

    Raises:
        ModelError: One does not fit the others.
    """
    width = shapes["fc.weight"][0]
    inner = shapes["layers.0.mlp.fc1.weight"][0] if shape.layers else 0
    vector, square = shapes["fc.weight"][-1], (width, width)
    expected: dict[str, tuple[int, ...]] = {
        "project_out.weight": (vector, len(shape.levels)),
        "fc.weight": (width, vector),
        "embed.weight": (width, width, 7),
        "norm.weight": (width,),
        "head.linear.weight": (4 * shape.hop + 2, width),
    }
    for layer in range(shape.layers):
        name = f"layers.{layer}."
        expected |= {f"{name}self_attn.{part}_proj.weight": square for part in "qkvo"}
        expected |= {name + "mlp.fc1.weight": (inner, width), name + "mlp.fc2.weight": (width, inner)}
        expected |= {f"{name}{norm}.weight": (width,) for norm in ("input_layernorm", "post_attention_layernorm")}
    for block in ("prior_net.0", "prior_net.1", "post_net.0", "post_net.1"):
        expected |= _block_shapes(block, width)
    for stage in range(len(shape.upsampling)):
        name, narrow = f"upsampler.upsample_layers.{stage}.weight", width >> (stage + 1)
        expected |= {name: (2 * narrow, narrow, shapes[name][-1])} | _block_shapes(
            f"upsampler.resnet_blocks.{stage}", narrow
        )
    if shape.upsampling:
        expected["upsampler.out_proj.weight"] = (width, width >> len(shape.upsampling))
    expected |= {
        name.removesuffix("weight") + "bias": (size[1] if "upsample_layers" in name else size[0],)
        for name, size in expected.items()
        if name.removesuffix("weight") + "bias" in shapes
    }
    for name, size in expected.items():
        if shapes[name] != size:
            raise ModelError(f"The codec's {name} has the shape {shapes[name]}, the others and config.json say {size}.")
    if width % shape.heads or width % _GROUPS:
        raise ModelError(f"The codec's width {width} can't be shared out among {shape.heads} heads.")


def _block_shapes(name: str, width: int) -> dict[str, tuple[int, ...]]:
    norms = {f"{name}.norm{half}.weight": (width,) for half in "12"}
    return norms | {f"{name}.conv{half}.weight": (width, width, 3) for half in "12"}


def _names(shape: DecoderConfig) -> list[str]:
    """Every tensor that decoding needs, in the order in which it does."""

    def block(name: str) -> list[str]:
        return [f"{name}.{part}" for part in ("norm1", "conv1", "norm2", "conv2")]

    before = ["project_out", "fc", "embed", *block("prior_net.0"), *block("prior_net.1")]
    layers = [
        f"layers.{layer}.{name}.weight"
        for layer in range(shape.layers)
        for name in (
            *("input_layernorm", *(f"self_attn.{part}_proj" for part in "kvqo")),
            *("post_attention_layernorm", "mlp.fc1", "mlp.fc2"),
        )
    ]
    behind = [*block("post_net.0"), *block("post_net.1"), "norm"]
    for stage in range(len(shape.upsampling)):
        behind += [f"upsampler.upsample_layers.{stage}", *block(f"upsampler.resnet_blocks.{stage}")]
    behind += ["upsampler.out_proj"] if shape.upsampling else []
    return [*_with_biases(before), *layers, *_with_biases([*behind, "head.linear"])]


def _with_biases(names: list[str]) -> list[str]:
    return [f"{name}.{part}" for name in names for part in _BOTH]


_BOTH = ("weight", "bias")
