"""X-Codec2 as its authors publish it -> the names and shapes that this program and transformers give the same tensors.

The two formats hold the same numbers under other names. What is more than a new name:

- a convolution is stored as direction and length (weight norm) and put together when it is read;
- queries, keys and values lie in one matrix `c_attn`;
- SnakeBeta's second parameter is `.beta` in the file and `.bias` in the package's code: `xcodec2` under transformers 4.49 and
  later does not load it, and says nothing;
- the semantic encoder has 24 layers, of which 16 are used. A file may leave it out altogether: then it is
  `facebook/w2v-bert-2.0`, and needed only to encode.

What config.json does not tell (it tells next to nothing) is read from the shapes. Finetunes of the decoder for another rate
have other lengths of frames, and an upsampler before the last layer.

Source: the package xcodec2 0.1.5, `modeling_xcodec2.py`, `vq/`; `tests/parity/codec.py` compares.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

SEMANTIC_REPO = "facebook/w2v-bert-2.0"
SEMANTIC_LAYERS = 16
"""The original takes `hidden_states[16]`: what 16 layers made."""
_HEAD_WIDTH = 64

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
"""Tables that follow from the shape; some files hold them."""
_UNUSED = re.compile(r"(SemanticDecoder_module|fc_post_s|discriminator)\.|.*\.masked_spec_embed$")
"""Of the training only."""
_LENGTH, _DIRECTION = (
    (".weight_g", ".parametrizations.weight.original0"),
    (
        ".weight_v",
        ".parametrizations.weight.original1",
    ),
)


@dataclass(frozen=True)
class Source:
    """Where a tensor comes from.

    Attributes:
        stored: What the file calls it; of a convolution with weight norm, length and direction.
        third: Of a matrix of queries, keys and values: which; None takes the whole tensor.
    """

    stored: tuple[str, ...]
    third: int | None = None

    def read(self, tensor: Callable[[str], Any]) -> Any:
        """Put it together of what `tensor` gives for a stored name."""
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
        """As `read`, of shapes."""
        whole = shape(self.stored[-1])
        return whole if self.third is None else (whole[0] // 3, *whole[1:])


def is_original(names: Collection[str]) -> bool:
    """By the names of a file's tensors."""
    return any(name.startswith("generator.backbone.") for name in names)


def sources(names: Collection[str]) -> tuple[dict[str, Source], list[str]]:
    """The original's names -> where each tensor of the other format comes from, and the names that have no place there."""
    found: dict[str, Source] = {}
    strange = []
    for name in sorted(names):
        if _COMPUTED.search(name) or _UNUSED.match(name) or name.endswith(_DIRECTION):
            continue
        if match := _FUSED.fullmatch(name):
            for third, part in enumerate("qkv"):
                found[f"acoustic_decoder.layers.{match[1]}.self_attn.{part}_proj.weight"] = Source((name,), third)
            continue
        native = _native(name)
        if native is None:
            strange.append(name)
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
    return found, strange


def _native(name: str) -> str | None:
    """transformers' name for a tensor; None where it has none."""
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
    # As the package's code calls it; a file saved by a fixed copy of it has that name.
    return native.removesuffix(".act.bias") + ".act.beta" if native.endswith(".act.bias") else native


def semantic_name(own: str) -> str:
    """What a tensor of `facebook/w2v-bert-2.0`'s own file is called in a codec's."""
    return "semantic_model." + own.removeprefix("wav2vec2_bert.")


def configuration(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """What transformers' config.json would say, from the tensors' shapes (under transformers' names).

    Attention has heads of 64 numbers and the quantiser four levels an axis, as the package's code has it.
    """
    decoder = "acoustic_decoder."
    hidden = shapes[decoder + "fc.weight"][0]
    settings: dict[str, Any] = {
        "model_type": "xcodec2",
        "hidden_size": hidden,
        "intermediate_size": shapes[decoder + "layers.0.mlp.fc1.weight"][0],
        "num_hidden_layers": _count(shapes, decoder + "layers."),
        "num_attention_heads": hidden // _HEAD_WIDTH,
        "num_key_value_heads": hidden // _HEAD_WIDTH,
        "head_dim": _HEAD_WIDTH,
        "quantization_dim": shapes["quantizer.project_out.weight"][0],
        "quantization_levels": [4] * shapes["quantizer.project_out.weight"][1],
    }
    first = shapes.get("acoustic_encoder.conv1.weight")
    if first is not None:
        # The kernel of a block's last convolution is twice as wide as its step.
        blocks = range(_count(shapes, "acoustic_encoder.block."))
        ratios = [shapes[f"acoustic_encoder.block.{block}.conv1.weight"][2] // 2 for block in blocks]
        settings |= {"encoder_hidden_size": first[0], "downsampling_ratios": ratios}
    return settings


def semantic_configuration(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    """The semantic encoder's part of the same."""
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
        "left_max_position_embeddings": distances - 9,  # w2v-bert-2.0: 64 to the left, 8 to the right, and itself
        "right_max_position_embeddings": 8,
        "add_adapter": False,
    }


def _count(shapes: Mapping[str, tuple[int, ...]], prefix: str) -> int:
    """How many `prefix`0, 1, 2, ... there are."""
    return len({name[len(prefix) :].split(".")[0] for name in shapes if name.startswith(prefix)})
