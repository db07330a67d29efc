from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from llasa_cli.checkpoint.resolve import BUILT_IN_FOLDER, codec_identity
from llasa_cli.codec.codec import Codec, load_codec, normalize_level
from llasa_cli.codec.fbank import HOP, filter_bank, pad_audio
from llasa_cli.errors import AudioError, ModelError


def tone(samples: int, seed: int = 0) -> np.ndarray:
    """float32 [samples] that change over time."""
    random = np.random.default_rng(seed)
    time = np.arange(samples) / 16000
    sweep = np.sin(2 * np.pi * (200 + 400 * time) * time) * np.sin(2 * np.pi * 3 * time) ** 2
    return (0.3 * sweep + 0.02 * random.standard_normal(samples)).astype(np.float32)


@pytest.fixture(scope="module")
def codec(random_codec: Path) -> Codec:
    return load_codec(random_codec, "cpu")


@pytest.mark.parametrize("samples", [640, 959, 960, 16_000, 16_319])
def test_a_clip_gives_one_code_for_every_320_samples(codec: Codec, samples: int) -> None:
    codes = codec.encode(tone(samples))
    assert len(codes) == samples // HOP
    assert all(0 <= code < codec.code_count for code in codes)


def test_codes_equal_those_of_transformers(codec: Codec, random_codec: Path) -> None:
    from transformers import Xcodec2Model

    plain = Xcodec2Model.from_pretrained(random_codec, dtype=torch.float32).eval()
    samples = tone(20_000)
    with torch.inference_mode():
        out = plain.encode(
            torch.from_numpy(pad_audio(samples))[None, None], torch.from_numpy(filter_bank(samples))[None]
        )
        sound = plain.decode(out.audio_codes[:, :, :62]).audio_values[0, 0].numpy()
    codes = codec.encode(samples)
    assert len(set(codes)) > 5, "the fixture's codec must tell sounds apart"
    assert codes == out.audio_codes[0, 0, :62].tolist()
    np.testing.assert_allclose(codec.decode(codes), sound, atol=1e-5)


def test_a_batch_gives_the_same_codes_as_one_by_one(codec: Codec) -> None:
    clips = [tone(length, seed) for seed, length in enumerate([8000, 3200, 8000, 8100, 640, 3200])]
    assert codec.encode_batch(clips) == [codec.encode(clip) for clip in clips]


@pytest.fixture(scope="module")
def of_one_level(random_codec: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same codec, with a speech level in its config.json."""
    folder = tmp_path_factory.mktemp("of_one_level") / "codec"
    shutil.copytree(random_codec, folder)
    told = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(told | {"speech_level": 0.05}))
    return folder


def test_a_codec_with_a_speech_level_gives_the_same_codes_at_any_loudness(codec: Codec, of_one_level: Path) -> None:
    leveled = load_codec(of_one_level, "cpu")
    clips = [tone(8000), tone(8000, 1), tone(3200)]
    codes = leveled.encode_batch(clips)
    assert (
        leveled.encode_batch([clip * np.float32(gain) for clip, gain in zip(clips, (2, 0.25, 1 / 64), strict=True)])
        == codes
    )
    assert codec.encode(clips[0] * np.float32(0.125)) != codec.encode(clips[0]), "the others hear how loud it is"


@pytest.mark.parametrize("padding", [0, 16_000])
def test_silence_around_speech_does_not_count_for_its_level(padding: int) -> None:
    speech = tone(16_000)
    at = normalize_level(np.pad(speech, padding), 0.05)
    assert np.sqrt(np.mean(np.square(at[padding : padding + 16_000]))) == pytest.approx(0.05, rel=0.05)


def test_raising_speech_clips_a_click_and_does_not_raise_silence() -> None:
    quiet = tone(16_000) * np.float32(0.05)
    clicks = quiet.copy()
    clicks[::4000] = 0.9
    raised = normalize_level(clicks, 0.05)
    assert np.abs(raised).max() <= 0.981
    assert np.std(raised) > 3 * np.std(quiet), "0.9 of a click leaves room for a tenth of more"
    spiky = np.zeros(16_000, np.float32)
    spiky[::50] = 0.9
    raised = normalize_level(spiky, 0.5)
    np.testing.assert_allclose(raised / raised.max(), (spiky - 0.018) / 0.882, atol=1e-3, err_msg="no click: not cut")
    offset = normalize_level(tone(16_000) * np.float32(0.1) + np.float32(0.05), 0.05)
    assert abs(offset.mean()) < 1e-4
    faint = tone(16_000) * np.float32(1e-5)
    assert normalize_level(faint, 0.05) is faint
    assert not normalize_level(np.zeros(1000, np.float32), 0.05).any()


def test_transformers_loads_a_codec_with_a_speech_level(of_one_level: Path, tmp_path: Path) -> None:
    from transformers import Xcodec2Model

    Xcodec2Model.from_pretrained(of_one_level).save_pretrained(tmp_path)
    assert load_codec(tmp_path, "cpu").speech_level == 0.05


@pytest.mark.parametrize("level", [0, -1, 1.5, "loud", True])
def test_an_invalid_speech_level_is_an_error(of_one_level: Path, tmp_path: Path, level: object) -> None:
    folder = tmp_path / "codec"
    shutil.copytree(of_one_level, folder)
    told = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(told | {"speech_level": level}))
    with pytest.raises(ModelError, match="speech_level"):
        load_codec(folder, "cpu")


def test_decoding_together_gives_the_same_sound_as_alone(codec: Codec) -> None:
    random = np.random.default_rng(0)
    sequences = [random.integers(0, codec.code_count, count).tolist() for count in (40, 1, 0, 40, 700, 700, 40, 3)]
    for codes, samples in zip(sequences, codec.decode_many(sequences), strict=True):
        assert samples.shape == (len(codes) * codec.samples_per_code,)
        np.testing.assert_allclose(samples, codec.decode(codes), atol=1e-5)
    assert codec.decode_many([]) == []
    with pytest.raises(ModelError, match="0 to 63"):
        codec.decode_many([[1], [64]])


def test_the_block_size_does_not_change_the_sound(codec: Codec, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = np.random.default_rng(0).integers(0, codec.code_count, 100).tolist()
    whole = codec.decode(codes)
    assert np.abs(whole).max() > 0.01
    other = codec.decode(codes[::-1])
    for rows in (1, 7, 99):
        monkeypatch.setattr("llasa_cli.codec.decoder.CODES_PER_BLOCK", rows)
        np.testing.assert_allclose(codec.decode(codes), whole, atol=1e-5)
        np.testing.assert_allclose(codec.decode_many([codes, codes[::-1]]), [whole, other], atol=1e-5)


def test_decoding_while_loading_gives_the_same_sound(codec: Codec, random_codec: Path) -> None:
    codes = list(range(40))
    assert np.array_equal(load_codec(random_codec, "cpu", wait=False).decode(codes), codec.decode(codes))


@pytest.mark.parametrize("name", ["layers.0.mlp.fc2.weight", "head.linear.bias", "post_net.0.norm2.weight"])
def test_nan_and_infinite_weights_are_refused_at_the_latest_when_they_are_used(
    random_codec: Path, tmp_path: Path, name: str
) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "broken"
    shutil.copytree(random_codec, folder)
    weights = load_file(folder / "model.safetensors")
    weights["acoustic_decoder." + name].view(-1)[-1] = float("nan")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=f"{name}.*NaN"):
        load_codec(folder, "cpu")
    with pytest.raises(ModelError, match=f"{name}.*NaN"):
        load_codec(folder, "cpu", wait=False).decode([1, 2, 3])


def test_decoding_gives_320_samples_per_code(codec: Codec) -> None:
    for count in (0, 1, 2, 51):
        sound = codec.decode([code % codec.code_count for code in range(count)])
        assert sound.shape == (count * codec.samples_per_code,)
        assert sound.dtype == np.float32
        assert np.isfinite(sound).all()


@pytest.mark.parametrize("codes", [[0, 64], [-1, 3]])
def test_a_code_of_another_codec_is_refused(codec: Codec, codes: list[int]) -> None:
    with pytest.raises(ModelError, match="0 to 63"):
        codec.decode(codes)


def test_a_clip_too_short_to_normalize_is_refused(codec: Codec) -> None:
    with pytest.raises(AudioError, match="40 ms"):
        codec.encode(np.zeros(639, np.float32))


def test_identity_depends_on_everything_that_gives_codes_their_meaning(random_codec: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "codec"
    shutil.copytree(random_codec, folder)
    assert codec_identity(folder) == codec_identity(random_codec), "not the place"
    weights = load_file(folder / "model.safetensors")
    for name, same in (
        ("acoustic_decoder.fc.bias", True),
        ("quantizer.project_in.weight", False),
        ("fc_encoder.weight", False),
    ):
        changed = weights | {name: weights[name] + 1}
        save_file(changed, folder / "model.safetensors", metadata={"format": "pt"})
        assert (codec_identity(folder) == codec_identity(random_codec)) is same, name
    with pytest.raises(ModelError):
        codec_identity(tmp_path)


def test_a_broken_folder_is_an_error(random_codec: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json"):
        load_codec(tmp_path, "cpu")
    broken = tmp_path / "broken"
    shutil.copytree(random_codec, broken)
    content = (broken / "model.safetensors").read_bytes()
    (broken / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match="can't be read"):
        load_codec(broken, "cpu")
    (broken / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(ModelError, match="not an X-Codec2"):
        load_codec(broken, "cpu")


@pytest.mark.parametrize("name", ["fc_encoder.bias", "acoustic_decoder.post_net.1.conv2.weight"])
def test_missing_weights_are_an_error_and_not_random(random_codec: Path, tmp_path: Path, name: str) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "lacking"
    shutil.copytree(random_codec, folder)
    weights = load_file(folder / "model.safetensors")
    weights.pop(name)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="lacks"):
        load_codec(folder, "cpu").encode(tone(1000))


def test_decoding_needs_neither_transformers_nor_the_encoder(random_codec: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "decoder-only"
    shutil.copytree(random_codec, folder)
    weights = load_file(folder / "model.safetensors")
    kept = {name: value for name, value in weights.items() if name.startswith(("acoustic_decoder.", "quantizer."))}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    program = (
        "import sys; from pathlib import Path; from llasa_cli.codec.codec import load_codec;"
        f"print(len(load_codec(Path({str(folder)!r}), 'cpu').decode([1, 2, 3])));"
        "sys.exit('transformers' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=Path(__file__).parents[2]
    )
    assert (done.returncode, done.stdout.strip()) == (0, "960"), done.stderr


def test_loading_prints_nothing(random_codec: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load_codec(random_codec, "cpu").encode(tone(1000))
    assert capfd.readouterr() == ("", "")


def test_the_built_in_codec_gives_the_same_codes_at_any_loudness(recorded: dict[str, np.ndarray]) -> None:
    """Without the speech level, the clone of a loud clip would be brighter than the clip."""
    codec = load_codec(BUILT_IN_FOLDER / "codec", "cpu")
    clip = recorded["clip"].astype(np.float32) / 32768
    assert codec.encode(clip) == codec.encode(clip * np.float32(0.25)) == codec.encode(clip * np.float32(2))
