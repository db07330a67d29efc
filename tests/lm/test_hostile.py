"""An untrusted checkpoint with a fault is refused in one sentence, before anything large is read.

Each case is a copy of a good checkpoint with one thing changed; the good one itself loads (see the last test).
"""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from llasa_cli.checkpoint import safetensors_header as tensors
from llasa_cli.errors import ModelError
from llasa_cli.settings import ModelOptions, SamplingRequest
from llasa_cli.synthesis.synthesizer import Synthesizer

DOWN = "model.layers.1.mlp.down_proj.weight"
Change = Callable[[Path], Any]


@pytest.fixture
def folder(random_checkpoint: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(random_checkpoint, tmp_path / "m"))


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[tensors.TensorLocation]:
    """The tensors that have been read."""
    places: list[tensors.TensorLocation] = []

    def noted(place: tensors.TensorLocation) -> Any:
        places.append(place)
        return tensors.read_tensor(place)

    monkeypatch.setattr("llasa_cli.lm.weights.read_tensor", noted)
    monkeypatch.setattr("llasa_cli.codec.weights.read_tensor", noted)
    return places


def refusal(folder: Path) -> str:
    with pytest.raises(ModelError) as caught:
        Synthesizer.load(ModelOptions(model=str(folder), device="cpu")).codec.wait()
    error = caught.value
    assert error.exit_code == 3
    assert "\n" not in error.message + error.hint
    assert error.message.endswith((".", "?"))
    assert len(error.message) < 500
    return f"{error.message} {error.hint}"


def header(change: Callable[[dict[str, Any], int], Any], name: str = "model.safetensors") -> Change:
    """Apply `change`, which is given the header and the size of the data, to a safetensors file."""

    def spoil(folder: Path) -> None:
        path = folder / name
        content = path.read_bytes()
        length = struct.unpack("<Q", content[:8])[0]
        said = json.loads(content[8 : 8 + length])
        said = change(said, len(content) - 8 - length) or said
        text = said if isinstance(said, bytes) else json.dumps(said).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + length :])

    return spoil


def written(name: str, content: bytes | str | Any) -> Change:
    def spoil(folder: Path) -> None:
        text = content if isinstance(content, bytes | str) else json.dumps(content)
        (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())

    return spoil


def with_values(name: str, **values: Any) -> Change:
    """Set values in a JSON file."""

    def spoil(folder: Path) -> None:
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return spoil


def index(file: str) -> Change:
    return written("model.safetensors.index.json", {"weight_map": {DOWN: file}})


def renamed(old: str, new: str) -> Change:
    return lambda folder: (folder / old).rename(folder / new)


def cut(size: int, name: str = "model.safetensors") -> Change:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:size])


def tokenizer(change: Callable[[dict[str, Any]], Any]) -> Change:
    def spoil(folder: Path) -> None:
        said = json.loads((folder / "tokenizer.json").read_text())
        change(said)
        (folder / "tokenizer.json").write_text(json.dumps(said))

    return spoil


def without(marker: str) -> Callable[[dict[str, Any]], Any]:
    """Rename a marker in the tokenizer."""

    def change(said: dict[str, Any]) -> None:
        for token in said["added_tokens"]:
            if token["content"] == marker:
                token["content"] = "<|other|>"
        vocabulary = said["model"]["vocab"]
        if marker in vocabulary:
            vocabulary["<|other|>"] = vocabulary.pop(marker)

    return change


def overlapping(said: dict[str, Any], size: int) -> None:
    names = [name for name in said if name != "__metadata__"]
    first, second = names[0], names[1]
    width = said[second]["data_offsets"][1] - said[second]["data_offsets"][0]
    said[second]["data_offsets"] = [said[first]["data_offsets"][0], said[first]["data_offsets"][0] + width]


def entry(**values: Any) -> Callable[[dict[str, Any], int], Any]:
    return lambda said, size: said[DOWN].update(values)


FROM_THE_HEADERS = {
    "a path out of the folder": (index("../../secret.safetensors"), "not a safetensors file of its folder"),
    "an absolute path": (index("/etc/passwd"), "not a safetensors file of its folder"),
    "a path of another system": (index("..\\secret.safetensors"), "not a safetensors file of its folder"),
    "a drive": (index("c:secret.safetensors"), "not a safetensors file of its folder"),
    "a pickle in the index": (index("pytorch_model.bin"), "not a safetensors file of its folder"),
    "a name with a zero": (index("a\0.safetensors"), "not a safetensors file of its folder"),
    "a missing shard": (index("model-1.safetensors"), "lacks model-1.safetensors"),
    "an index that names a tensor the file lacks": (
        written("model.safetensors.index.json", {"weight_map": {"model.x": "model.safetensors"}}),
        "but it does not",
    ),
    "an index of numbers": (written("model.safetensors.index.json", {"weight_map": {DOWN: 1}}), "names no weight"),
    "a nested index": (written("model.safetensors.index.json", "[" * 100_000), "can't be read"),
    "an empty file": (cut(0), "header is truncated"),
    "half a length": (cut(5), "header is truncated"),
    "half a header": (cut(100), "header is truncated"),
    "data cut off": (lambda folder: cut(-1000)(folder), "but its header says"),
    "data too long": (
        lambda folder: (folder / "model.safetensors").open("ab").write(b"PK\x03\x04 more"),
        "but its header says",
    ),
    "a pointer of Git LFS": (
        written("model.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 12\n"),
        "pointer of Git LFS",
    ),
    "a header longer than the file": (written("model.safetensors", struct.pack("<Q", 1 << 62) + b"{}"), "truncated"),
    "a header that is not JSON": (header(lambda said, size: b"\x80\x04pickle"), "can't be read"),
    "a header that is a list": (header(lambda said, size: b"[]"), "not a JSON object"),
    "a nested header": (header(lambda said, size: b"[" * 100_000), "can't be read"),
    "the same name twice": (
        header(lambda said, size: json.dumps(said)[:-1].encode() + b', "' + DOWN.encode() + b'": {}}'),
        "same name twice",
    ),
    "a tensor that is too long for its shape": (
        header(entry(data_offsets=[0, 1 << 60])),
        "do not fit its shape",
    ),
    "a tensor beyond the end of the file": (
        header(lambda said, size: said[DOWN].update(data_offsets=[size, size + 32 * 64 * 4])),
        "does not follow",
    ),
    "overlapping tensors": (header(overlapping), "overlaps"),
    "a negative offset": (header(entry(data_offsets=[-8192, 0])), "are impossible"),
    "a shape beyond any memory": (header(entry(shape=[1 << 40, 1 << 40])), "do not fit its shape"),
    "a negative shape": (header(entry(shape=[-32, -64])), "are impossible"),
    "a shape of booleans": (header(entry(shape=[True, 2048])), "are impossible"),
    "no shape": (header(entry(shape="32x64")), "are impossible"),
    "no offset": (header(lambda said, size: said[DOWN].pop("data_offsets") and None), "does not say where"),
    "an unknown dtype": (header(entry(dtype="PICKLE")), "the unknown dtype"),
    "a dtype that is a list": (header(entry(dtype=["F32"])), "the unknown dtype"),
    "integer weights": (header(entry(dtype="I32")), "stored as I32"),
    "another shape": (header(entry(shape=[64, 32])), "has the shape"),
    "a flat shape": (header(entry(shape=[32 * 64])), "has the shape"),
    "code of its own": (with_values("config.json", auto_map={"AutoModel": "evil.py"}), "auto_map"),
    "a tokenizer's own code": (
        with_values("tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.T", None]}),
        "auto_map",
    ),
    "trust_remote_code": (with_values("config.json", trust_remote_code=True, auto_map={}), "auto_map"),
    "another network": (with_values("config.json", model_type="spark"), "'spark'"),
    "quantized": (with_values("config.json", quantization_config={"quant_method": "gptq"}), "quantized"),
    "heads by the million": (with_values("config.json", num_attention_heads=1 << 60), "config.json"),
    "layers by the million": (with_values("config.json", num_hidden_layers=1 << 40), "layers"),
    "an epsilon that is a list": (with_values("config.json", rms_norm_eps=["small"]), "invalid rope parameters"),
    "a number for rope": (with_values("config.json", rope_parameters=5), "invalid rope parameters"),
    "a codec elsewhere": (with_values("llasa.json", codec="../../elsewhere"), "codec"),
    "a codec's own code": (with_values("codec/config.json", auto_map={"AutoModel": "evil.py"}), "auto_map"),
    "a codec of another model type": (with_values("codec/config.json", model_type="llama"), "not an X-Codec2"),
    "a codec cut off": (cut(-1000, "codec/model.safetensors"), "but its header says"),
    "a codec's index": (
        written("codec/model.safetensors.index.json", {"weight_map": {"a": "../../a.safetensors"}}),
        "not a safetensors file",
    ),
    "a codec's layers by the million": (with_values("codec/config.json", num_hidden_layers=1 << 40), "is invalid"),
    "a codec without heads": (with_values("codec/config.json", num_attention_heads=0), "is invalid"),
    "a codec without levels": (with_values("codec/config.json", quantization_levels=[0, 0, 0]), "is invalid"),
    "a codec's epsilon in words": (with_values("codec/config.json", rms_norm_eps="small"), "does not describe"),
    "a codec of another frame rate": (
        with_values("codec/config.json", downsampling_ratios=[8, 8, 8]),
        "states downsampling ratios",
    ),
    "a codec whose ratios are a word": (
        with_values("codec/config.json", downsampling_ratios="many"),
        "states downsampling ratios",
    ),
    "a codec of other codes": (with_values("codec/config.json", quantization_levels=[4, 4, 5]), "codec"),
}
FROM_THE_TOKENIZER = {
    "no END": (tokenizer(without("<|SPEECH_GENERATION_END|>")), "no <|SPEECH_GENERATION_END|>"),
    "no START": (tokenizer(without("<|SPEECH_GENERATION_START|>")), "no <|SPEECH_GENERATION_START|>"),
    "no text markers": (tokenizer(without("<|TEXT_UNDERSTANDING_END|>")), "no <|TEXT_UNDERSTANDING_END|>"),
    "no codes": (tokenizer(without("<|s_0|>")), "no <|s_0|>"),
    "a code missing": (tokenizer(without("<|s_5|>")), "not numbered contiguously"),
    "no tokenizer": (lambda folder: (folder / "tokenizer.json").unlink(), "no tokenizer.json"),
    "a nested tokenizer": (written("tokenizer.json", "[" * 100_000), "can't be read"),
    "settings that are a list": (written("tokenizer_config.json", "[]"), "JSON object"),
    "a codec that is a number": (with_values("llasa.json", codec=5), "can't be 5"),
    "speakers that are a number": (with_values("llasa.json", speakers=5), "can't be 5"),
    "sampling in words": (with_values("llasa.json", sampling={"top_k": "many"}), "sampling"),
    "no characters": (with_values("llasa.json", most_characters=0), "most_characters"),
    "metadata that is a list": (written("llasa.json", "[]"), "JSON object"),
    "a template that reaches for Python's classes": (
        written("chat_template.jinja", "{{ ''.__class__.__mro__[1].__subclasses__() }}"),
        "template",
    ),
    "a template with an endless loop": (
        written("chat_template.jinja", "{% for a in range(10**12) %}{% endfor %}"),
        "template",
    ),
}


@pytest.mark.parametrize("case", FROM_THE_HEADERS)
def test_a_fault_in_the_headers_is_refused_before_weights_are_read(
    folder: Path, read: list[tensors.TensorLocation], case: str
) -> None:
    spoil, message = FROM_THE_HEADERS[case]
    spoil(folder)
    assert message in refusal(folder)
    assert not read


@pytest.mark.parametrize("case", FROM_THE_TOKENIZER)
def test_a_broken_tokenizer_is_refused_before_weights_are_read(
    folder: Path, read: list[tensors.TensorLocation], case: str
) -> None:
    spoil, message = FROM_THE_TOKENIZER[case]
    spoil(folder)
    assert message in refusal(folder)
    assert not read


@pytest.mark.parametrize("value", [torch.nan, torch.inf], ids=str)
@pytest.mark.parametrize("name", [DOWN, "model.embed_tokens.weight", "model.norm.weight"])
def test_weights_with_nan_or_infinite_values_are_refused(folder: Path, name: str, value: float) -> None:
    weights = load_file(folder / "model.safetensors")
    weights[name].view(-1)[-1] = value
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    assert name in refusal(folder)


def test_a_codec_with_nan_values_is_refused(folder: Path) -> None:
    weights = load_file(folder / "codec" / "model.safetensors")
    weights["acoustic_decoder.fc.bias"][0] = torch.nan
    save_file(weights, folder / "codec" / "model.safetensors", {"format": "pt"})
    assert "acoustic_decoder.fc.bias" in refusal(folder)


def test_finite_values_with_an_infinite_sum_are_accepted() -> None:
    large = torch.full((4,), 3e38)
    assert tensors.is_finite(large)
    assert not tensors.is_finite(torch.cat([large, torch.tensor([-torch.inf])]))


class Trap:
    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (self.place,))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.ckpt", "model.pt", "model.safetensors"])
def test_pickles_are_never_opened(folder: Path, tmp_path: Path, name: str) -> None:
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    said = refusal(folder)
    assert ("can't be read" if name == "model.safetensors" else "pickled") in said
    assert not (tmp_path / "sprung").exists()


def test_code_beside_the_weights_is_never_run(folder: Path, tmp_path: Path) -> None:
    """Python files in the repository are ignored."""
    for place in (folder, folder / "codec"):
        (place / "modeling_llasa.py").write_text(f"open({str(tmp_path / 'sprung')!r}, 'w')")
        (place / "__init__.py").write_text(f"open({str(tmp_path / 'sprung')!r}, 'w')")
    speech = Synthesizer.load(ModelOptions(model=str(folder), device="cpu"))
    assert len(speech.codec.decode([1, 2, 3]))
    assert not (tmp_path / "sprung").exists()


def test_the_command_reports_a_fault_in_one_line_and_exits_with_3(
    llasa: list[str], folder: Path, tmp_path: Path
) -> None:
    index("../../secret.safetensors")(folder)
    command = [*llasa, "say", "-m", str(folder), "Hello.", "-o", str(tmp_path / "out.wav")]
    environment = os.environ | {"TERM": "dumb"}
    made = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)
    assert (made.returncode, made.stdout) == (3, "")
    assert made.stderr.count("error:") == 1
    assert "Traceback" not in made.stderr
    assert not (tmp_path / "out.wav").exists()


def test_null_values_in_llasa_json_are_accepted(folder: Path) -> None:
    with_values("llasa.json", speakers=None, default_speaker=None, sampling=None, most_characters=None)(folder)
    speech = Synthesizer.load(ModelOptions(model=str(folder), device="cpu"))
    assert speech.speakers == ()
    assert speech.chunks("Hello.")
    speech.sampling(SamplingRequest())


def test_the_unchanged_checkpoint_loads(folder: Path, read: list[tensors.TensorLocation]) -> None:
    Synthesizer.load(ModelOptions(model=str(folder), device="cpu"))
    assert tensors.locate_tensors(folder)[DOWN] in read
