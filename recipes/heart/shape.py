"""The built-in codec's shape, and its weights before training: new ones, or those of a smaller codec."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn
from transformers import Xcodec2Config, Xcodec2Model


def configuration(levels: Sequence[int] = (4,) * 7, encoder_width: int = 4, layers: int = 6) -> dict:
    """The shape: prod(levels) codes, 50 a second, 16 kHz; about 8.3 M parameters."""
    return {
        "hidden_size": 256,
        "intermediate_size": 768,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "head_dim": 64,
        # Few residual units at 16 kHz: with the published ratios (2, 2, 4, 4, 5) this encoder takes two thirds of the time.
        "encoder_hidden_size": encoder_width,
        "downsampling_ratios": [8, 8, 5],
        "quantization_dim": 256 + 192,
        "quantization_levels": list(levels),
        "activation_dropout": 0.0,
        "semantic_model_config": {
            "model_type": "wav2vec2-bert",
            "hidden_size": 192,
            "num_hidden_layers": 2,
            "num_attention_heads": 3,
            "intermediate_size": 384,
            "feature_projection_input_dim": 160,
            "conv_depthwise_kernel_size": 15,
            "position_embeddings_type": "relative_key",
            "left_max_position_embeddings": 32,
            "right_max_position_embeddings": 32,
            "hidden_dropout": 0.0,
            "attention_dropout": 0.0,
            "activation_dropout": 0.0,
            "feat_proj_dropout": 0.0,
            "final_dropout": 0.0,
            "conformer_conv_dropout": 0.0,
            "layerdrop": 0.0,
            "apply_spec_augment": False,
            "vocab_size": None,
        },
    }


@torch.no_grad()
def initialize(codec: nn.Module) -> None:
    """Weights by 1/sqrt(fan-in); small ISTFT magnitudes with random phases."""
    for module in codec.modules():
        if isinstance(module, (nn.Linear, nn.Conv1d)):
            fan_in = module.weight[0].numel()
            module.weight.normal_(0, 1 / math.sqrt(fan_in))
            if module.bias is not None:
                module.bias.zero_()
    for layer in codec.acoustic_decoder.layers:
        layer.self_attn.o_proj.weight.mul_(0.3)
        layer.mlp.fc2.weight.mul_(0.3)
    for block in (*codec.acoustic_decoder.prior_net, *codec.acoustic_decoder.post_net):
        block.conv2.weight.mul_(0.3)
    head = codec.acoustic_decoder.head.linear
    bins = head.bias.numel() // 2
    head.weight.mul_(0.3)
    head.bias[:bins] = -1.5
    head.bias[bins:].uniform_(-math.pi, math.pi)


ZERO_AT_FIRST = ("self_attn.o_proj.weight", "mlp.fc2.weight")
"""Weights of an added transformer layer that start at zero, so that the layer adds nothing at first."""


@torch.no_grad()
def grow(codec: Xcodec2Model, smaller: Xcodec2Model) -> None:
    """Give `codec` the weights of a codec with fewer quantizer levels, decoder layers or encoder channels.

    Both compute the same at first, except that the new quantizer inputs are random: old outputs take nothing from new
    channels, and added layers add nothing.
    """
    old = dict(smaller.named_parameters())
    for name, parameter in codec.named_parameters():
        if name not in old:
            if name.endswith(ZERO_AT_FIRST):
                parameter.zero_()
            continue
        source = old[name]
        corner = tuple(slice(0, n) for n in source.shape)
        if parameter.shape != source.shape and parameter.ndim > 1:
            parameter[: source.shape[0]] = 0
        parameter[corner] = source


def load_codec(folder: Path, config: dict | None = None) -> Xcodec2Model:
    """The codec of a folder in float32, grown to `config` if that is given and differs."""
    codec = Xcodec2Model.from_pretrained(folder, dtype=torch.float32)
    if config is None:
        return codec
    larger = Xcodec2Model(Xcodec2Config(**config))
    if [p.shape for p in larger.parameters()] == [p.shape for p in codec.parameters()]:
        return codec
    initialize(larger)
    grow(larger, codec)
    return larger
