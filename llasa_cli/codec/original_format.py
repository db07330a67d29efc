"""X-Codec2 as its authors publish it: the names and shapes of its tensors, mapped to transformers'.

Both formats hold the same numbers under different names. Other differences:

- A convolution is stored as direction and length (weight norm) and is multiplied out when it is read.
- Queries, keys and values are one matrix, `c_attn`.
- SnakeBeta's second parameter is `.beta` in the file and `.bias` in the package's code. `xcodec2` under transformers 4.49 and
  later silently does not load it.
- The semantic encoder has 24 layers, of which 16 are used. A file may leave it out; it is then `facebook/w2v-bert-2.0`, and
  only encoding needs it.

config.json has hardly any entries, so the configuration is derived from the shapes. Decoders that were finetuned for another
sampling rate have frames of another length, and an upsampler before the last layer.

Source: the package xcodec2 0.1.5, `modeling_xcodec2.py` and `vq/`. `tests/parity/codec.py` compares the results.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

SEMANTIC_REPO = "facebook/w2v-bert-2.0"
SEMANTIC_LAYERS = 16
"""The original uses `hidden_states[16]`, the output of 16 layers."""
_HEAD_WIDTH = 64
_HOP_OF_25_CODES = 960
"""Samples for a code of X-Codec-2.0-25TPS-24k (Malaysia AI, Scicom). It averages two frames of the encoder to one code, at 24 kHz;
neither the shapes nor the config.json of its code tell that."""

_RENAMED = (
    (r"fc_prior\.", "fc_encoder."),
    (r"fc_post_a\.", "acoustic_decoder.fc."),
    (r"generator\.quantizer\.project_", "quantizer.project_"),
    (r"generator\.backbone\.(embed|prior_net|post_net)\.", r"acoustic_decoder.\1."),
    (r"generator\.backbone\.final_layer_norm\.", "acoustic_decoder.norm."),
    (r"generator\.backbone\.transformers\.(\d+)\.att_norm\.", r"acoustic_decoder.layers.\1.input_layernorm."),
    (r"generator\.backbone\.transformers\.(\d+)\.ffn_norm\.", r"acoustic_decoder.layers.\1.post_attention_layernorm."),
    (r"generator\.backbone\.transformers\.(\d+)\.att\.c_proj\.", r"acoustic_decoder.layers.\1.self_attn.o_proj."),
    (r"generator\.backbone\.transformers\.(\d+)\.mlp\.", r"acoustic_decoder.layers.\1.mlp."),
    (r"generator\.upsampler\.", "acoustic_decoder.upsampler."),
    (r"generator\.head\.out\.", "acoustic_decoder.head.linear."),
    (r"SemanticEncoder_module\.initial_conv\.", "semantic_adapter.conv1."),
    (r"SemanticEncoder_module\.residual_blocks\.1\.", "semantic_adapter.conv2."),
    (r"SemanticEncoder_module\.residual_blocks\.3\.", "semantic_adapter.conv3."),
    (r"SemanticEncoder_module\.final_conv\.", "semantic_adapter.conv4."),
    (r"semantic_model\.", "semantic_encoder."),
    (r"CodecEnc\.conv_blocks\.0\.", "acoustic_encoder.conv1."),
    (r"CodecEnc\.conv_final_block\.0\.", "acoustic_encoder.snake1."),
    (r"CodecEnc\.conv_final_block\.1\.", "acoustic_encoder.conv2."),
)
_FUSED = re.compile(r"generator\.backbone\.transformers\.(\d+)\.att\.c_attn\.weight")
_UNIT = re.compile(r"CodecEnc\.conv_blocks\.([1-9]\d*)\.block\.([012])\.block\.([0123])\.")
_UNIT_PARTS = ("snake1", "conv1", "snake2", "conv2")
_END_OF_BLOCK = re.compile(r"CodecEnc\.conv_blocks\.([1-9]\d*)\.block\.([34])\.")
_COMPUTED = re.compile(r"(\.filter|\.window|\.freqs|\.theta|\.cache|codebook|_levels|_basis|\.scales|\.zero)$")
"""Tables that follow from the shapes; some files contain them."""
_UNUSED = re.compile(r"(SemanticDecoder_module|fc_post_s|discriminator)\.|.*\.masked_spec_embed$")
"""Used in training only."""
MATRICES = ("acoustic_decoder.fc.weight", "acoustic_decoder.layers.0.mlp.fc1.weight", "quantizer.project_out.weight")
"""The tensors from whose shapes `configuration` derives the sizes."""
_LENGTH = (".weight_g", ".parametrizations.weight.original0")
_DIRECTION = (".weight_v", ".parametrizations.weight.original1")


@dataclass(frozen=True)
class Source:
    """The stored tensors from which one tensor is made.

    Attributes:
        stored: Names in the file: one, or length and direction of a convolution with weight norm.
        third: The index of a third of a matrix of queries, keys and values; None means the whole tensor.
    """

    stored: tuple[str, ...]
    third: int | None = None

    def read(self, tensor: Callable[[str], Any]) -> Any:
        """Make the tensor; `tensor` reads a stored one by its name."""
        first = tensor(self.stored[0])
        if self.third is not None:
            rows = len(first) // 3
            return first[rows * self.third : rows * (self.third + 1)]
        if len(self.stored) == 1:
            return first
        direction = tensor(self.stored[1]).float()
        length = direction.flatten(1).norm(dim=1).view(-1, *[1] * (direction.dim() - 1))
        return direction * (first.float() / length)

    def shape(self, shape: Callable[[str], tuple[int, ...]]) -> tuple[int, ...]:
        """The shape of the tensor; `shape` gives that of a stored one."""
        whole = shape(self.stored[-1])
        return whole if self.third is None else (whole[0] // 3, *whole[1:])


def is_original(names: Collection[str]) -> bool:
    """Whether tensors of these names are in the authors' format."""
    return any(name.startswith("generator.backbone.") for name in names)


def sources(names: Collection[str]) -> tuple[dict[str, Source], list[str]]:
    """Map the authors' names -> the source of each tensor in transformers' format, and the unknown names."""
    found: dict[str, Source] = {}
    unknown = []
    for name in sorted(names):
        if _COMPUTED.search(name) or _UNUSED.match(name) or name.endswith(_DIRECTION):
            continue
        if match := _FUSED.fullmatch(name):
            for third, part in enumerate("qkv"):
                found[f"acoustic_decoder.layers.{match[1]}.self_attn.{part}_proj.weight"] = Source((name,), third)
            continue
        native = _native(name)
        if native is None:
            unknown.append(name)
            continue
        match = re.match(r"semantic_encoder\.encoder\.layers\.(\d+)\.", native)
        if match and int(match[1]) >= SEMANTIC_LAYERS:
            continue
        for length, direction in zip(_LENGTH, _DIRECTION, strict=True):
            if native.endswith(length):
                stem = name.removesuffix(length)
                found[native.removesuffix(length) + ".weight"] = Source((name, stem + direction))
                break
        else:
            found[native] = Source((name,))
    return found, unknown


def _native(name: str) -> str | None:
    """transformers' name for a tensor; None if it is unknown."""
    if match := _UNIT.match(name):
        block, unit, part = int(match[1]) - 1, int(match[2]) + 1, _UNIT_PARTS[int(match[3])]
        native = f"acoustic_encoder.block.{block}.res_unit{unit}.{part}." + name[match.end() :]
    elif match := _END_OF_BLOCK.match(name):
        part = "snake1" if match[2] == "3" else "conv1"
        native = f"acoustic_encoder.block.{int(match[1]) - 1}.{part}." + name[match.end() :]
    else:
        for pattern, new in _RENAMED:
            if match := re.match(pattern, name):
                native = match.expand(new) + name[match.end() :]
                break
        else:
            return None
    # A file that was saved by a corrected copy of the package has the name of the package's code.
    return native.removesuffix(".act.bias") + ".act.beta" if native.endswith(".act.bias") else native


def semantic_name(own: str) -> str:
    """The name in a codec's file of a tensor of `facebook/w2v-bert-2.0`."""
    return "semantic_model." + own.removeprefix("wav2vec2_bert.")


def configuration(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """transformers' configuration, derived from the shapes under transformers' names.

    Attention heads have 64 dimensions and the quantizer has four levels per axis, as in the package's code.
    """
    decoder = "acoustic_decoder."
    project_in, first_layer, project_out = (shapes[name] for name in MATRICES)
    hidden = project_in[0]
    settings: dict[str, Any] = {
        "model_type": "xcodec2",
        "hidden_size": hidden,
        "intermediate_size": first_layer[0],
        "num_hidden_layers": _count(shapes, decoder + "layers."),
        "num_attention_heads": hidden // _HEAD_WIDTH,
        "num_key_value_heads": hidden // _HEAD_WIDTH,
        "head_dim": _HEAD_WIDTH,
        "quantization_dim": project_out[0],
        "quantization_levels": [4] * project_out[1],
    }
    first = shapes.get("acoustic_encoder.conv1.weight")
    if first is not None:
        # The kernel of a block's last convolution is twice as wide as its step.
        blocks = range(_count(shapes, "acoustic_encoder.block."))
        ratios = [shapes[f"acoustic_encoder.block.{block}.conv1.weight"][2] // 2 for block in blocks]
        settings |= {"encoder_hidden_size": first[0], "downsampling_ratios": ratios}
    if shapes.get(decoder + "head.linear.weight", (0,))[0] == 4 * _HOP_OF_25_CODES + 2:
        settings["sample_rate"] = 24_000
    return settings


def semantic_configuration(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """The configuration of the semantic encoder, derived from the shapes."""
    layer = "semantic_encoder.encoder.layers.0."
    features = shapes["semantic_encoder.feature_projection.projection.weight"]
    distances, head = shapes[layer + "self_attn.distance_embedding.weight"]
    return {
        "model_type": "wav2vec2-bert",
        "num_hidden_layers": min(SEMANTIC_LAYERS, _count(shapes, "semantic_encoder.encoder.layers.")),
        "hidden_size": features[0],
        "feature_projection_input_dim": features[1],
        "num_attention_heads": features[0] // head,
        "intermediate_size": shapes[layer + "ffn1.intermediate_dense.weight"][0],
        "conv_depthwise_kernel_size": shapes[layer + "conv_module.depthwise_conv.weight"][2],
        "position_embeddings_type": "relative_key",
        # w2v-bert-2.0: 64 positions to the left, 8 to the right, and the position itself.
        "left_max_position_embeddings": distances - 9,
        "right_max_position_embeddings": 8,
        "add_adapter": False,
    }


def _count(shapes: Mapping[str, tuple[int, ...]], prefix: str) -> int:
    """The number of different indices after a prefix."""
    return len({name[len(prefix) :].split(".")[0] for name in shapes if name.startswith(prefix)})
