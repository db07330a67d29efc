"""The authors' format, compared with the recorded results of the authors' package (`tests/parity/codec.py`)."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from llasa_cli.codec.codec import load_codec
from llasa_cli.codec.original_format import configuration, semantic_name, sources
from llasa_cli.errors import ModelError

RECORDED = Path(__file__).with_name("original")
sys.path.insert(0, str(Path(__file__).parents[1] / "parity"))
from reference_codec import random_tensor  # noqa: E402 - the script that made the recording draws the same weights

WIDTH = 64


def save(tensors: dict[str, torch.Tensor], folder: Path, **config: Any) -> Path:
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps({"model_type": "xcodec", **config}))
    return folder


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shapes = json.loads((RECORDED / "shapes.json").read_text())
    drawn = {
        name: torch.from_numpy(random_tensor(name, tuple(shape)))
        for name, shape in shapes.items()
        if not name.endswith(("filter", "window"))  # published files hold them; they follow from the shape
    }
    return save(drawn, tmp_path_factory.mktemp("original"))


@pytest.fixture(scope="module")
def expected() -> dict[str, np.ndarray]:
    with np.load(RECORDED / "expected.npz") as file:
        return dict(file)


@pytest.fixture
def changed(original: Path, tmp_path: Path) -> Callable[..., Path]:
    """A copy of the checkpoint with changed tensors."""

    def make(change: Callable[[dict[str, torch.Tensor]], Any], **config: Any) -> Path:
        tensors = load_file(original / "model.safetensors")
        change(tensors)
        return save(tensors, tmp_path / "changed", **config)

    return make


def test_decoded_sound_equals_that_of_the_authors_package(original: Path, expected: dict[str, np.ndarray]) -> None:
    samples = load_codec(original, "cpu").decode(expected["spoken"].tolist())
    assert np.abs(expected["samples"]).max() > 0.1, "silence would prove nothing"
    np.testing.assert_allclose(samples, expected["samples"], atol=1e-5)


def test_codes_equal_those_of_the_authors_package(original: Path, expected: dict[str, np.ndarray]) -> None:
    codec = load_codec(original, "cpu")
    seen = {}
    codec._encoder.fc_encoder.register_forward_hook(lambda module, inputs, output: seen.update(latents=output))
    codes = codec.encode(expected["clip"])
    assert len(set(codes)) > 20, "one code for everything would prove nothing"
    assert codes == expected["codes"].tolist()
    np.testing.assert_allclose(seen["latents"][0], expected["latents"], atol=1e-4)  # their spread is 1.6


def test_tensors_are_read_under_their_other_names(
    changed: Callable[..., Path], original: Path, expected: dict[str, np.ndarray]
) -> None:
    def rename(tensors: dict[str, torch.Tensor]) -> None:
        """As the package's code and older versions of torch call them."""
        for name in [name for name in tensors if name.endswith(".act.beta")]:
            tensors[name.removesuffix("beta") + "bias"] = tensors.pop(name)
        for name in list(tensors):
            for new, old in (("0", "weight_g"), ("1", "weight_v")):
                if name.endswith(f"parametrizations.weight.original{new}"):
                    tensors[name.replace(f"parametrizations.weight.original{new}", old)] = tensors.pop(name)

    assert load_codec(changed(rename), "cpu").encode(expected["clip"]) == expected["codes"].tolist()


def test_every_snake_beta_changes_the_codes(changed: Callable[..., Path], expected: dict[str, np.ndarray]) -> None:
    """The package silently leaves them out under newer transformers, which changes the codes."""

    def forget(tensors: dict[str, torch.Tensor]) -> None:
        for name in tensors:
            if name.endswith(".act.beta"):
                tensors[name].zero_()

    assert load_codec(changed(forget), "cpu").encode(expected["clip"]) != expected["codes"].tolist()


def test_missing_tensors_are_refused(changed: Callable[..., Path], expected: dict[str, np.ndarray]) -> None:
    beta = "CodecEnc.conv_blocks.1.block.0.block.0.act.beta"
    with pytest.raises(ModelError, match="lacks"):
        load_codec(changed(lambda tensors: tensors.pop(beta)), "cpu").encode(expected["clip"])
    for name in ("generator.backbone.post_net.1.conv2.bias", "fc_post_a.weight", "generator.head.out.weight"):
        with pytest.raises(ModelError, match="lacks"):
            load_codec(changed(lambda tensors, name=name: tensors.pop(name)), "cpu")


def test_unknown_tensors_are_refused(changed: Callable[..., Path]) -> None:
    strange = "generator.backbone.adapter.weight"
    with pytest.raises(ModelError, match=strange):
        load_codec(changed(lambda tensors: tensors.update({strange: torch.zeros(2)})), "cpu")


def test_without_the_semantic_encoder_it_decodes_and_says_what_encoding_needs(
    changed: Callable[..., Path], expected: dict[str, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    semantic = {}

    def leave_out(tensors: dict[str, torch.Tensor]) -> None:
        for name in [name for name in tensors if name.startswith("semantic_model.")]:
            semantic[name.removeprefix("semantic_model.")] = tensors.pop(name)

    folder = changed(leave_out)
    codec = load_codec(folder, "cpu")
    np.testing.assert_allclose(codec.decode(expected["spoken"].tolist()), expected["samples"], atol=1e-5)
    with pytest.raises(ModelError, match="can decode but not encode") as caught:
        codec.encode(expected["clip"])
    assert "llasa download facebook/w2v-bert-2.0" in caught.value.hint
    own = tmp_path / "w2v"
    save(semantic, own)
    monkeypatch.setattr("llasa_cli.codec.weights.find_model", lambda name: own)
    assert load_codec(folder, "cpu").encode(expected["clip"]) == expected["codes"].tolist()


# --- decoders for another rate ---


def reference_upsampler(
    tensors: dict[str, torch.Tensor], hidden: torch.Tensor, factors: tuple[int, ...]
) -> torch.Tensor:
    """The upsampler in torch's modules, with weight norm: (1, N, width) -> (1, N * factors, width)."""
    from torch import nn
    from torch.nn.utils.parametrizations import weight_norm

    state = {name.removeprefix("generator.upsampler."): t for name, t in tensors.items() if "upsampler" in name}
    hidden = hidden.transpose(1, 2)
    for stage, factor in enumerate(factors):
        wide, narrow = WIDTH >> stage, WIDTH >> (stage + 1)
        layer = weight_norm(nn.ConvTranspose1d(wide, narrow, 9, stride=factor, padding=(9 - factor) // 2))
        prefix = f"upsample_layers.{stage}."
        layer.load_state_dict({name.removeprefix(prefix): t for name, t in state.items() if name.startswith(prefix)})
        hidden = layer(hidden)
        block = hidden
        for half in "12":
            norm, convolution = nn.GroupNorm(32, narrow, eps=1e-6), nn.Conv1d(narrow, narrow, 3, padding=1)
            for module, name in ((norm, "norm"), (convolution, "conv")):
                prefix = f"resnet_blocks.{stage}.{name}{half}."
                module.load_state_dict({part: state[prefix + part] for part in ("weight", "bias")})
            block = convolution(nn.functional.silu(norm(block)))
        hidden = hidden + block
    out = nn.functional.linear(hidden.transpose(1, 2), state["out_proj.weight"], state["out_proj.bias"])
    return nn.functional.silu(out)


def add_upsampler(tensors: dict[str, torch.Tensor], factors: tuple[int, ...], hop: int) -> None:
    def draw(name: str, *shape: int) -> None:
        tensors["generator." + name] = torch.from_numpy(random_tensor(name, shape))

    for stage in range(len(factors)):
        wide, narrow = WIDTH >> stage, WIDTH >> (stage + 1)
        layer = f"upsampler.upsample_layers.{stage}."
        draw(layer + "parametrizations.weight.original0", wide, 1, 1)
        draw(layer + "parametrizations.weight.original1", wide, narrow, 9)
        draw(layer + "bias", narrow)
        for half in "12":
            block = f"upsampler.resnet_blocks.{stage}."
            for part in ("weight", "bias"):
                draw(f"{block}norm{half}.{part}", narrow)
            draw(f"{block}conv{half}.weight", narrow, narrow, 3)
            draw(f"{block}conv{half}.bias", narrow)
    if factors:
        draw("upsampler.out_proj.weight", WIDTH, WIDTH >> len(factors))
        draw("upsampler.out_proj.bias", WIDTH)
    draw("head.out.weight", 4 * hop + 2, WIDTH)
    draw("head.out.bias", 4 * hop + 2)


@pytest.mark.parametrize(("factors", "hop"), [((9,), 98), ((), 882)], ids=["44.1 kHz upsampled", "44.1 kHz"])
def test_a_decoder_for_another_rate_has_that_rate_and_the_same_codes(
    changed: Callable[..., Path],
    original: Path,
    expected: dict[str, np.ndarray],
    factors: tuple[int, ...],
    hop: int,
) -> None:
    # Published: 3 x 3. Of this model's 64 numbers a second stage would leave 16, and GroupNorm has 32 groups.
    rate = 44_100
    about = {"sample_rate": rate, "upsample_factors": list(factors)} if factors else {}
    codec = load_codec(changed(lambda tensors: add_upsampler(tensors, factors, hop), **about), "cpu")
    assert (codec.sampling_rate, codec.samples_per_code) == (rate, rate // 50)
    samples = codec.decode(expected["spoken"].tolist())
    assert samples.shape == (20 * rate // 50,)
    assert np.isfinite(samples).all()
    assert codec.identity == load_codec(original, "cpu").identity, "voices made with one are spoken with the other"
    if factors:
        assert codec.encode(expected["clip"]) == expected["codes"].tolist(), "only the decoder was finetuned"


@pytest.mark.parametrize("about", [{}, {"sample_rate": 24_000}], ids=str)
def test_25_codes_a_second_are_means_of_two_frames(
    changed: Callable[..., Path], original: Path, expected: dict[str, np.ndarray], about: dict[str, int]
) -> None:
    """As `encode_code` of malaysia-ai/X-Codec-2.0-25TPS-24k: nn.AvgPool1d(2) between `fc_prior` and the quantizer."""
    codec = load_codec(changed(lambda tensors: add_upsampler(tensors, (), 960), **about), "cpu")
    assert (codec.sampling_rate, codec.codes_per_second, codec.samples_per_code) == (24_000, 25, 960)
    clip, frames = expected["clip"], []
    usual = load_codec(original, "cpu")
    usual._encoder.fc_encoder.register_forward_hook(lambda layer, inputs, found: frames.append(found))
    count = len(usual.encode(clip)) // 2
    with torch.inference_mode():
        pooled = torch.nn.AvgPool1d(2, stride=2)(frames[0].transpose(1, 2)).transpose(1, 2)
        codes = usual._encoder.quantizer(pooled)[1].flatten().tolist()
    assert codec.encode(clip) == codes[:count]
    assert len(set(codes)) > 2
    assert codec.decode(codes).shape == (960 * len(codes),)


def test_a_stated_rate_of_48_khz_means_50_codes(changed: Callable[..., Path]) -> None:
    codec = load_codec(changed(lambda tensors: add_upsampler(tensors, (), 960), sample_rate=48_000), "cpu")
    assert (codec.sampling_rate, codec.codes_per_second) == (48_000, 50)


def test_the_upsampler_equals_torchs_modules(changed: Callable[..., Path]) -> None:
    folder = changed(lambda tensors: add_upsampler(tensors, (3,), 160), sample_rate=24_000, upsample_factors=[3])
    decoder = load_codec(folder, "cpu")._decoder
    hidden = torch.from_numpy(random_tensor("hidden", (1, 11, WIDTH)))
    with torch.inference_mode():
        ours = decoder._upsample(hidden)
    theirs = reference_upsampler(load_file(folder / "model.safetensors"), hidden, (3,))
    assert ours.shape == (1, 33, WIDTH)
    torch.testing.assert_close(ours, theirs.detach(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "about",
    [
        {},
        {"upsample_factors": [3, 3]},
        {"upsample_factors": [2]},
        {"upsample_factors": [11]},
        {"upsample_factors": [3], "sample_rate": 44_100},
        {"upsample_factors": "three"},
    ],
    ids=str,
)
def test_an_upsampler_that_contradicts_the_config_is_refused(
    changed: Callable[..., Path], about: dict[str, Any]
) -> None:
    with pytest.raises(ModelError):
        load_codec(changed(lambda tensors: add_upsampler(tensors, (3,), 160), **about), "cpu")


def test_every_published_tensor_name_is_known() -> None:
    """The configuration of the full-size model is derived from its tensor names."""
    shapes = json.loads((RECORDED / "shapes.json").read_text())
    found, strange = sources(shapes)
    assert not strange
    told = configuration({name: source.shape(lambda stored: tuple(shapes[stored])) for name, source in found.items()})
    assert told["downsampling_ratios"] == [2, 2, 4, 4, 5]
    assert (told["num_hidden_layers"], told["quantization_levels"]) == (2, [4] * 8)
    assert not any(".layers.16." in name for name in found), "the 17th layer is not used"
    own = [f"wav2vec2_bert.{name.removeprefix('semantic_model.')}" for name in shapes if "semantic_" in name]
    own = sources([semantic_name(name) for name in own])[0]
    assert set(own) == {name for name in found if name.startswith("semantic_encoder.")}


def test_both_formats_give_the_same_codec(original: Path, tmp_path: Path) -> None:
    from llasa_cli.codec.weights import CodecTensors

    stored = CodecTensors(original)
    native = {name: stored(name).contiguous().clone() for name in stored.shapes}
    (tmp_path / "native").mkdir()
    save_file(native, tmp_path / "native" / "model.safetensors", {"format": "pt"})
    (tmp_path / "native" / "config.json").write_text(json.dumps(stored.settings))
    other = load_codec(tmp_path / "native", "cpu")
    assert other.identity == load_codec(original, "cpu").identity
    np.testing.assert_array_equal(other.decode([1, 2, 3]), load_codec(original, "cpu").decode([1, 2, 3]))


def test_a_copied_folder_needs_no_entries_in_its_config(original: Path, tmp_path: Path) -> None:
    shutil.copytree(original, tmp_path / "copy")
    (tmp_path / "copy" / "config.json").write_text("{}")
    assert load_codec(tmp_path / "copy", "cpu").code_count == 65_536


def slow(name: str, shape: tuple[int, ...]) -> Any:
    """Another tensor of the same kind: of the encoder, whose shapes show only when transformers builds it, or of the decoder."""
    return pytest.param(name, shape, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("fc_prior.weight", (96, 95)),
        slow("CodecEnc.conv_blocks.1.block.4.parametrizations.weight.original1", (2, 1, 6)),
        slow("CodecEnc.conv_blocks.0.bias", (2,)),
        slow("SemanticEncoder_module.final_conv.weight", (32, 32, 5)),
        slow("semantic_model.encoder.layers.3.ffn1.output_dense.bias", (1,)),
        slow("semantic_model.encoder.layers.0.self_attn.distance_embedding.weight", (5, 32)),
        slow("generator.quantizer.project_in.weight", (7, 96)),
        ("generator.quantizer.project_out.weight", (96, 9)),
        ("generator.backbone.embed.weight", (64, 64, 6)),
        slow("generator.backbone.embed.bias", (1,)),
        ("generator.backbone.transformers.0.att.c_attn.weight", (190, 64)),
        slow("generator.backbone.transformers.0.att.c_attn.weight", (192,)),
        slow("generator.backbone.post_net.0.norm1.weight", (1,)),
        ("fc_post_a.bias", ()),
        slow("fc_post_a.weight", (64,)),
        ("generator.head.out.weight", (1281, 64)),
        slow("generator.head.out.bias", (1,)),
    ],
    ids=str,
)
def test_tensors_of_wrong_shapes_are_refused(
    changed: Callable[..., Path], expected: dict[str, np.ndarray], name: str, shape: tuple[int, ...]
) -> None:
    folder = changed(lambda tensors: tensors.update({name: torch.full(shape, 0.1)}))
    with pytest.raises(ModelError) as caught:
        load_codec(folder, "cpu").encode(expected["clip"])
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 400
