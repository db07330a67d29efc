"""A checkpoint that can't be run is refused in one sentence when it is loaded; one that loads is computed as its files say."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from llasa_cli.device import WeightFormat, pick_weight_format
from llasa_cli.errors import ModelError, UsageError
from llasa_cli.lm.loader import load_language_model
from llasa_cli.prompt import PromptFormat
from llasa_cli.settings import SamplingOptions

LAYER = "model.layers.1."


@pytest.fixture
def folder(random_checkpoint: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    shutil.copytree(random_checkpoint, tmp_path / "m", ignore=shutil.ignore_patterns("codec"))
    return tmp_path / "m"


def load(folder: Path, **options: Any) -> Any:
    return load_language_model(folder, PromptFormat.load(folder), **{"device": "cpu"} | options)


def change_config(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def test_missing_files_are_named(folder: Path) -> None:
    (folder / "config.json").rename(folder / "elsewhere")
    with pytest.raises(ModelError, match=r"no config\.json"):
        load(folder)
    (folder / "elsewhere").rename(folder / "config.json")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="no safetensors"):
        load(folder)


def test_pickled_weights_are_refused_and_never_opened(folder: Path) -> None:
    import pickle

    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (folder / "sprung",))

    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(ModelError) as caught:
        load(folder)
    assert "pickled" in caught.value.hint
    assert not (folder / "sprung").exists()


def test_an_adapter_without_its_base_is_recognized(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(ModelError) as caught:
        load(folder)
    assert "merge" in caught.value.hint


@pytest.mark.parametrize(
    "content", [b"", b"version https://git-lfs.github.com/spec/v1\nsize 12\n", None], ids=["empty", "pointer", "cut"]
)
def test_damaged_weights_are_refused(folder: Path, content: bytes | None) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-2000] if content is None else content)
    with pytest.raises(ModelError, match=r"model\.safetensors can't be read"):
        load(folder)


@pytest.mark.parametrize("text", ["[]", "{}", '{"weight_map": []}', "{"])
def test_damaged_indexes_are_refused(folder: Path, text: str) -> None:
    (folder / "model.safetensors.index.json").write_text(text)
    with pytest.raises(ModelError, match=r"index\.json"):
        load(folder)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        (LAYER + "self_attn.k_proj.weight", (17, 32)),
        (LAYER + "self_attn.o_proj.weight", (32, 31)),
        (LAYER + "mlp.gate_proj.weight", (63, 32)),
        (LAYER + "mlp.down_proj.weight", (1, 64)),  # would be broadcast
        (LAYER + "input_layernorm.weight", (1,)),
        ("model.norm.weight", (31,)),
        ("model.embed_tokens.weight", (50, 32)),
        ("model.embed_tokens.weight", (50,)),
        ("lm_head.weight", (107, 32)),  # END's row would be taken for a code's
    ],
)
def test_wrong_shapes_are_refused_at_load(folder: Path, name: str, shape: tuple[int, ...]) -> None:
    change_weights(folder, lambda weights: weights.update({name: torch.zeros(shape)}))
    with pytest.raises(ModelError):
        load(folder)


@pytest.mark.parametrize(
    "values",
    [
        {"model_type": "mistral"},
        {"num_hidden_layers": 3},
        {"num_attention_heads": None},
        {"num_key_value_heads": 0},
        {"num_attention_heads": 3, "num_key_value_heads": 2, "head_dim": 16},
        {"hidden_size": "wide"},
        {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0}},
        {"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4, "factor": 2.0}},
        {"rope_parameters": {"rope_type": "default", "rope_theta": None}},
        {"tie_word_embeddings": False},
        {"attention_bias": True},
        {"hidden_act": "gelu"},
        {"quantization_config": {"quant_method": "bitsandbytes"}},
    ],
    ids=str,
)
def test_configurations_that_do_not_fit_are_refused(folder: Path, values: dict[str, Any]) -> None:
    change_config(folder, **values)
    with pytest.raises(ModelError):
        load(folder)


@pytest.mark.parametrize("text", ["[1]", "{", ""])
def test_a_damaged_configuration_is_refused(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text)
    with pytest.raises(ModelError, match=r"config\.json"):
        load(folder)


def test_weights_that_would_be_left_out_are_refused(folder: Path) -> None:
    bias = LAYER + "self_attn.q_proj.bias"
    change_weights(folder, lambda weights: weights.update({bias: torch.zeros(32)}))
    with pytest.raises(ModelError, match="bias"):
        load(folder)


def test_integer_weights_are_refused(folder: Path) -> None:
    down = LAYER + "mlp.down_proj.weight"
    change_weights(folder, lambda weights: weights.update({down: torch.zeros(32, 64, dtype=torch.int8)}))
    with pytest.raises(ModelError, match="stored as I8"):
        load(folder)


@pytest.mark.parametrize("temperature", [0.0, 0.9])
def test_logits_that_are_not_finite_are_an_error_in_one_sentence(folder: Path, temperature: float) -> None:
    change_weights(folder, lambda weights: weights["model.norm.weight"].fill_(3e38))  # infinite once multiplied
    model = load(folder)
    with pytest.raises(ModelError, match="NaN or infinite"):
        next(model.generate(model.prompt_format.prompt("hello"), SamplingOptions(temperature=temperature), 0))


def test_a_device_or_dtype_that_is_not_available_is_a_usage_error(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name in ("cuda", "cuda:1", "gpu9"):
        with pytest.raises(UsageError):
            load(folder, device=name)
    with pytest.raises(UsageError):
        load(folder, dtype="int3")


@pytest.mark.parametrize(
    ("dtype", "kept"),
    [("auto", "bf16"), ("float32", "fp32"), ("bfloat16", "bf16"), ("fp16", "fp16"), ("int8", "int8"), ("int4", "int4")],
)
def test_a_dtype_reaches_every_matrix(folder: Path, dtype: str, kept: str) -> None:
    change_weights(folder, lambda w: w.update({name: tensor.bfloat16() for name, tensor in w.items()}))
    model = load(folder, dtype=dtype)
    network = model.network
    assert model.dtype == network.norm.dtype == torch.float32
    linears = [linear for layer in network.layers for linear in layer.linears()]
    assert {linear.format for linear in (*linears, network.head)} == {kept}
    codes = list(model.generate(model.prompt_format.prompt("hello"), SamplingOptions(max_seconds=0.2), 0))
    assert all(0 <= code < model.prompt_format.code_count for code in codes)


@pytest.mark.parametrize(
    ("stored", "picked"), [("bf16", "bf16"), ("fp16", "fp16"), ("fp32", "fp32"), ("float32", "fp32"), ("int8", "int8")]
)
def test_on_a_cpu_a_dtype_of_auto_is_the_format_of_the_checkpoint(stored: str, picked: str) -> None:
    cpu = torch.device("cpu")
    assert pick_weight_format("auto", cpu, stored) == WeightFormat(picked, torch.float32)
    assert pick_weight_format("fp32", cpu, stored).name == "fp32"
    assert pick_weight_format("auto", torch.device("cuda"), stored) == WeightFormat("bf16", torch.bfloat16)


def test_a_model_may_recommend_a_format_for_a_cpu(folder: Path) -> None:
    assert load(folder, cpu_dtype="int8").network.head.format == "int8"
    assert load(folder, cpu_dtype="int8", dtype="fp32").network.head.format == "fp32"


def test_a_prompt_fed_in_parts_gives_the_logits_of_the_whole(folder: Path) -> None:
    model = load(folder)
    ids = torch.tensor(model.prompt_format.prompt("a longer prompt than that").ids)
    with torch.inference_mode():
        whole = model.network.stream(len(ids)).feed(ids)
        stream = model.network.stream(len(ids))
        for part in (ids[:7], ids[7:8], ids[8:]):
            last = stream.feed(part)
    assert torch.allclose(whole, last, atol=1e-4)
