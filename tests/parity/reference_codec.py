"""The authors' X-Codec2 with random weights and its output for a clip and for codes. Runs in an environment of its own.

    python reference_codec.py small FOLDER          a tiny model of the same classes, which the default tests compare with
    python reference_codec.py full FOLDER           `XCodec2Model` as it is, 24 layers of w2v-bert-2.0 included (3.3 GB)

Writes `model.safetensors` and `config.json` as the authors publish them, and `expected.npz`: the clip (float32, 16 kHz), the
latents before the quantizer, the codes, and the samples decoded from codes.

The environment, without the package's pins (they want torch 2.5.0 and a build of torchaudio):

    python -m venv reference && . reference/bin/activate
    pip install torch transformers einops==0.8.0 einx frozendict safetensors
    pip install --no-deps xcodec2==0.1.5 vector-quantize-pytorch==1.17.8 torchtune==0.6.1

Stand-ins replace two imports: torchaudio, which the package imports and does not use, and torchtune's `__init__`, which needs
torchao; its rotary embedding is loaded from its own file.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import sys
import types
import zlib
from pathlib import Path

import numpy as np
import torch

HOP = 320


def stand_in() -> None:
    """Replace the imports that the package can do without."""
    for name in ("torchaudio", "torchtune", "torchtune.modules"):
        module = types.ModuleType(name)
        module.__spec__ = importlib.machinery.ModuleSpec(name, None)
        sys.modules[name] = module
    folder = next(Path(entry) / "torchtune" for entry in sys.path if (Path(entry) / "torchtune").is_dir())
    spec = importlib.util.spec_from_file_location("rope", folder / "modules" / "position_embeddings.py")
    assert spec is not None
    assert spec.loader is not None
    rope = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(rope)
    sys.modules["torchtune.modules"].RotaryPositionalEmbeddings = rope.RotaryPositionalEmbeddings  # type: ignore[attr-defined]


def random_tensor(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """float32, the same on every machine: drawn by the tensor's name, of a size at which signals keep theirs."""
    random = np.random.RandomState(zlib.crc32(name.encode()))
    drawn = random.standard_normal(shape)
    if name.endswith((".alpha", ".beta")):
        drawn = 0.3 * drawn  # logarithms
    elif name.endswith(".bias"):
        drawn = 0.1 * drawn
    elif len(shape) == 1 or name.endswith("original0"):
        drawn = 1 + 0.1 * drawn  # norms, and lengths of weight norm
    else:
        drawn = drawn / np.sqrt(np.prod(shape[1:]))
    if name == "fc_prior.weight":  # what comes out is then where the quantiser tells its levels apart
        drawn = drawn * (0.2 if shape[0] < 1000 else 0.02)
    return drawn.astype(np.float32)


def tone(count: int) -> np.ndarray:
    """float32 [count], 16 kHz: something that changes all the time."""
    time = np.arange(count) / 16_000
    sweep = np.sin(2 * np.pi * (150 + 700 * time) * time) * (0.6 + 0.4 * np.sin(2 * np.pi * 3 * time))
    return (0.4 * sweep + 0.02 * np.random.RandomState(5).standard_normal(count)).astype(np.float32)


def full_model() -> torch.nn.Module:
    """The package's own class; only where it fetches w2v-bert-2.0 it is given one of that shape."""
    from transformers import AutoFeatureExtractor, SeamlessM4TFeatureExtractor, Wav2Vec2BertConfig, Wav2Vec2BertModel

    Wav2Vec2BertModel.from_pretrained = lambda *_, **options: Wav2Vec2BertModel(Wav2Vec2BertConfig(**options))
    AutoFeatureExtractor.from_pretrained = lambda *_: SeamlessM4TFeatureExtractor()
    from xcodec2.configuration_bigcodec import BigCodecConfig
    from xcodec2.modeling_xcodec2 import XCodec2Model

    return XCodec2Model(BigCodecConfig())


def small_model() -> torch.nn.Module:
    """The package's parts, tiny, put together as its class does; its methods do the work."""
    from transformers import PreTrainedModel, SeamlessM4TFeatureExtractor, Wav2Vec2BertConfig, Wav2Vec2BertModel
    from xcodec2.configuration_bigcodec import BigCodecConfig
    from xcodec2.modeling_xcodec2 import XCodec2Model
    from xcodec2.vq.codec_decoder_vocos import CodecDecoderVocos
    from xcodec2.vq.codec_encoder import CodecEncoder_Transformer
    from xcodec2.vq.module import SemanticEncoder

    class Small(XCodec2Model):
        def __init__(self) -> None:
            PreTrainedModel.__init__(self, BigCodecConfig())
            shape = Wav2Vec2BertConfig(
                hidden_size=32,
                num_hidden_layers=17,
                num_attention_heads=1,
                intermediate_size=16,
                output_hidden_states=True,
            )
            self.semantic_model = Wav2Vec2BertModel(shape)
            self.SemanticEncoder_module = SemanticEncoder(32, 32, 32)
            self.CodecEnc = CodecEncoder_Transformer(ngf=1, hidden_dim=64)
            self.generator = CodecDecoderVocos(hidden_dim=64, depth=2, heads=1, vq_dim=96)
            self.fc_prior = torch.nn.Linear(96, 96)
            self.fc_post_a = torch.nn.Linear(96, 64)
            self.feature_extractor = SeamlessM4TFeatureExtractor()

    return Small()


def main(kind: str, folder: Path) -> None:
    stand_in()
    from safetensors.torch import save_file

    model = (full_model if kind == "full" else small_model)().eval()
    state = model.state_dict()
    drawn = {}
    for name, tensor in state.items():
        # As the published file calls them; see `llasa_cli/codec/original_format.py`.
        stored = name.removesuffix(".act.bias") + ".act.beta" if name.endswith(".act.bias") else name
        computed = name.endswith(("filter", "window"))
        drawn[stored] = tensor if computed else torch.from_numpy(random_tensor(stored, tuple(tensor.shape)))
        state[name] = drawn[stored]
    model.load_state_dict(state)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(
        {name: tensor.contiguous() for name, tensor in drawn.items()}, folder / "model.safetensors", {"format": "pt"}
    )
    (folder / "config.json").write_text(json.dumps({"model_type": "xcodec", "architectures": ["XCodec2Model"]}))
    shapes = {name: list(tensor.shape) for name, tensor in drawn.items()}
    (folder / "shapes.json").write_text(json.dumps(shapes, indent=0))

    seen = {}
    model.fc_prior.register_forward_hook(lambda module, inputs, output: seen.update(latents=output))
    clip = tone(16_000 if kind == "full" else 12_345)
    codes = model.encode_code(torch.from_numpy(clip)[None])
    count = len(clip) // HOP
    spoken = np.random.RandomState(7).randint(0, 65_536, 50 if kind == "full" else 20)
    samples = model.decode_code(torch.from_numpy(spoken)[None, None])
    np.savez_compressed(
        folder / "expected.npz",
        clip=clip,
        latents=seen["latents"][0].numpy()[: count + 1],
        codes=codes[0, 0].numpy()[:count].astype(np.int32),
        spoken=spoken.astype(np.int32),
        samples=samples.flatten().numpy(),
    )
    print(
        f"{len(shapes)} tensors, {sum(map(np.prod, shapes.values())):,} numbers, {len(set(codes.flatten().tolist()))} codes"
    )


if __name__ == "__main__":
    with torch.no_grad():
        main(sys.argv[1], Path(sys.argv[2]))
