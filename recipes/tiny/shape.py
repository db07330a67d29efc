"""The built-in codec's shape, and weights to begin training from."""

from __future__ import annotations

import math

import torch
from torch import nn


def configuration() -> dict:
    """The shape: 4,096 codes (4^6), 50 a second; about 7 M parameters."""
    return {
        "hidden_size": 256,
        "intermediate_size": 768,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "head_dim": 64,
        # Few residual units at 16 kHz: with the published ratios (2, 2, 4, 4, 5) this encoder takes two thirds of the time.
        "encoder_hidden_size": 4,
        "downsampling_ratios": [8, 8, 5],
        "quantization_dim": 256 + 192,
        "quantization_levels": [4, 4, 4, 4, 4, 4],
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
def initialise(codec: nn.Module) -> None:
    """Weights by 1/sqrt(fan-in); ISTFT magnitudes small with random phases."""
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
