"""GGUF files: what they hold is computed as it is, whoever wrote it; what can't be run is refused in one sentence."""

from __future__ import annotations

import json
import shutil
import struct
import sys
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType, quants

from llasa_cli.checkpoint.gguf_file import (
    BLOCK_FORMATS,
    GgufLocation,
    GgufStrings,
    _read_gguf,
    dequantize,
    read_gguf,
    read_gguf_tensor,
)
from llasa_cli.checkpoint.resolve import resolve_checkpoint
from llasa_cli.device import WeightFormat
from llasa_cli.errors import LlasaError, ModelError, UsageError
from llasa_cli.lm import linear
from llasa_cli.lm.cpu import build
from llasa_cli.lm.cpu.build import load_kernels
from llasa_cli.lm.gguf_writer import write_gguf
from llasa_cli.lm.linear import Linear
from llasa_cli.lm.loader import LanguageModel, load_language_model
from llasa_cli.lm.weights import EMBEDDING, HEAD, Weights
from llasa_cli.prompt import PromptFormat
from llasa_cli.settings import ModelOptions, SamplingOptions
from tests.lm.test_fused_step import logits_of, relative_error
from tests.lm.test_greedy_parity import LLAMA3, SMALL, write_model

TYPES = ("F16", "BF16", "Q8_0", "Q4_0")
ROPE = {"rope_type": "default", "rope_theta": 1e6}
CPU = torch.device("cpu")
GREEDY = SamplingOptions(temperature=0, max_seconds=1)
needs_kernels = pytest.mark.skipif(load_kernels() is None, reason="no C compiler")
SHAPE = SMALL | {
    "hidden_size": 512,
    "intermediate_size": 768,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "rope_parameters": LLAMA3,
}


@pytest.fixture(scope="module")
def checkpoint(tokenizer_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Widths that the K formats can have, Llama 3's rope scaling, and rotary heads of queries and keys that differ in number."""
    folder = tmp_path_factory.mktemp("checkpoint")
    shutil.copytree(tokenizer_folder, folder, dirs_exist_ok=True)
    write_model(folder, PromptFormat.load(folder), SHAPE, torch.bfloat16)
    return folder


@pytest.fixture(scope="module")
def files(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The checkpoint in each type that `llasa convert` writes."""
    folder = tmp_path_factory.mktemp("gguf")
    found = {kind: folder / f"{kind}.gguf" for kind in TYPES}
    for kind, path in found.items():
        write_gguf(resolve_checkpoint(ModelOptions(str(checkpoint))), path, kind)
    return found


def load(path: Path, dtype: str = "auto", **options: Any) -> LanguageModel:
    return load_language_model(path, PromptFormat.load(path), "cpu", dtype, **options)


def codes(model: LanguageModel) -> list[int]:
    return list(model.generate(model.prompt_format.prompt("hello there"), GREEDY, 0))


# --- what is in a file ---


@pytest.mark.parametrize("kind", TYPES)
def test_tensors_equal_the_checkpoint_s_through_gguf_s_own_quantizer(
    checkpoint: Path, files: dict[str, Path], kind: str
) -> None:
    """Bit for bit, and queries and keys in Hugging Face's order of rows."""
    own, theirs = (Weights(path, torch.device("cpu"), torch.float32) for path in (files[kind], checkpoint))
    assert set(own.files) == set(theirs.files)
    for name, place in own.files.items():
        exact = theirs.stored(name).float().numpy()
        type_of = GGMLQuantizationType[place.dtype]
        expected = quants.dequantize(quants.quantize(exact, type_of), type_of)
        assert np.array_equal(own.stored(name).float().numpy(), expected), name
        matrix = "Q8_0" if kind == "Q4_0" and name in (EMBEDDING, HEAD) else kind
        assert place.dtype == (matrix if exact.ndim > 1 else "F32")


@pytest.mark.parametrize("kind", BLOCK_FORMATS)
def test_every_format_is_dequantized_as_by_gguf(kind: str) -> None:
    raw = random_blocks(kind, rows=40, width=512)
    expected = quants.dequantize(raw.numpy(), GGMLQuantizationType[kind])
    assert np.array_equal(dequantize(raw, kind).numpy(), expected)


def test_the_package_reads_what_is_written(files: dict[str, Path]) -> None:
    reader, own = gguf.GGUFReader(files["Q4_0"]), read_gguf(files["Q4_0"])
    assert {tensor.name for tensor in reader.tensors} >= {
        "token_embd.weight",
        "blk.1.attn_q.weight",
        "rope_freqs.weight",
    }
    for key, field in reader.fields.items():
        if not key.startswith("GGUF."):
            assert own.metadata[key] == field.contents(), key


def random_blocks(kind: str, rows: int, width: int) -> torch.Tensor:
    """uint8 (rows, bytes of a row) of any format: random integers, and scales that are no NaN."""
    weights, stored = BLOCK_FORMATS[kind]
    data = torch.randint(
        256, (rows, width // weights, stored), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    at = {
        "Q2_K": (80, 82),
        "Q3_K": (108,),
        "Q6_K": (208,),
        "Q4_K": (0, 2),
        "Q5_K": (0, 2),
        "Q4_1": (0, 2),
        "Q5_1": (0, 2),
    }
    for place in at.get(kind, (0,)):
        scales = torch.rand(rows, width // weights, 1, generator=torch.Generator().manual_seed(2)).half() / 2048
        data[..., place : place + 2] = scales.view(torch.uint8)
    return data.flatten(1)


# --- products ---


@needs_kernels
@pytest.mark.parametrize(
    "flags", [(), pytest.param(("-mno-avx512f",), marks=pytest.mark.slow)], ids=["this processor", "AVX2"]
)
@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0"])
def test_products_equal_those_of_the_dequantized_weights(
    kind: str, flags: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At widths of whole spans and others, for one row of states, a few, and so many that torch multiplies."""
    monkeypatch.setattr(build, "FLAGS", (*build.FLAGS, *flags))
    load_kernels.cache_clear()
    kernels = load_kernels()
    assert kernels is not None
    generator = torch.Generator().manual_seed(0)
    for rows, width in ((33, 64), (50, 512), (40, 1184)):
        raw = random_blocks(kind, rows, width)
        blocks = [linear_parts(raw[:20], kind), linear_parts(raw[20:], kind)]
        made = Linear.from_blocks(blocks, (rows, width), WeightFormat(kind.lower(), torch.float32), kernels)
        exact = dequantize(raw, kind)
        for count in (1, 2, 5, 40):
            states = torch.randn(count, width, generator=generator)
            assert relative_error(made(states), states @ exact.T) < (4e-3 if count == 40 else 5e-5)
            assert torch.equal(made(states)[0], made(states[:1])[0]) or count == 40
    load_kernels.cache_clear()


def linear_parts(raw: torch.Tensor, kind: str) -> tuple[torch.Tensor, torch.Tensor]:
    from llasa_cli.checkpoint.gguf_file import split_blocks

    return split_blocks(raw, kind)


# --- models ---


@pytest.mark.parametrize(("kind", "dtype"), [("F16", "fp16"), ("BF16", "bf16")])
def test_a_file_in_16_bit_speaks_as_the_checkpoint(
    checkpoint: Path, files: dict[str, Path], kind: str, dtype: str
) -> None:
    own, theirs = load(files[kind]), load(checkpoint, dtype)
    assert own.network.head.format == dtype
    assert relative_error(logits_of(own), logits_of(theirs)) < 1e-4
    assert codes(own) == codes(theirs)


@needs_kernels
@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0"])
def test_quantized_weights_are_kept_as_they_are(
    files: dict[str, Path], kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the fused step, call by call, and after a conversion to float32: the same model."""
    monkeypatch.setattr(linear, "SMALL_MATRIX", 0)
    model = load(files[kind])
    linears = [one for layer in model.network.layers for one in layer.linears()]
    assert {one.format for one in linears} == {kind.lower()}
    assert model.network.fused_rows > 0
    exact = logits_of(load(files[kind], "fp32"))
    assert relative_error(logits_of(model), exact) < 3e-3
    model.network._fused_step = None
    assert relative_error(logits_of(model), exact) < 3e-3


@needs_kernels
@pytest.mark.parametrize("kind", ["Q4_K", "Q5_K", "Q6_K"])
def test_other_quantized_formats_are_computed_as_q8_0(
    checkpoint: Path, files: dict[str, Path], kind: str, tmp_path: Path
) -> None:
    path = tmp_path / "k.gguf"
    replace_tensors(files["F16"], path, kind)
    model, exact = load(path), load(path, "fp32")
    for ours, theirs in zip(model.network.layers, exact.network.layers, strict=True):
        for own, other in zip(ours.linears(), theirs.linears(), strict=True):
            states = torch.randn(3, own.shape[1], generator=torch.Generator().manual_seed(3))
            assert own.format == "q8_0"
            assert relative_error(own(states), other(states)) < 0.01
    assert codes(model)


def replace_tensors(source: Path, path: Path, kind: str) -> None:
    """Copy a file, with random weights of another format as its matrices."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(path, "llama")
    for key, field in reader.fields.items():
        if not key.startswith(("GGUF.", "general.architecture")):
            inner = field.types[1] if len(field.types) > 1 else None
            writer.add_key_value(key, field.contents(), field.types[0], inner)
    for tensor in reader.tensors:
        if tensor.name.startswith("blk.") and len(tensor.shape) > 1:
            width, rows = map(int, tensor.shape)
            raw = random_blocks(kind, rows, width).numpy()
            writer.add_tensor(tensor.name, raw, raw_dtype=GGMLQuantizationType[kind])
        else:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize("dtype", ["bf16", "int8", "int4"])
def test_another_format_can_be_asked_for(files: dict[str, Path], dtype: str) -> None:
    model = load(files["Q8_0"], dtype)
    assert model.network.head.format in (dtype, "q8_0" if dtype == "int8" else dtype)
    assert len(codes(model)) > 0


def test_without_a_compiler_the_file_is_run_by_torch(files: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(build.ENVIRONMENT_VARIABLE, "torch")
    load_kernels.cache_clear()
    model = load(files["Q4_0"])
    load_kernels.cache_clear()
    assert model.network.head.format == "int8"
    assert relative_error(logits_of(model), logits_of(load(files["Q4_0"], "fp32"))) < 0.2


def test_an_adapter_is_added_to_a_quantized_file(files: dict[str, Path], tmp_path: Path) -> None:
    from safetensors.torch import save_file

    name = "model.layers.0.self_attn.q_proj"
    halves = {"A": torch.randn(2, 512), "B": torch.randn(256, 2)}
    save_file({f"base_model.model.{name}.lora_{half}.weight": value for half, value in halves.items()},
              tmp_path / "adapter_model.safetensors")  # fmt: skip
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "lora_alpha": 2, "r": 2}))
    from llasa_cli.lm.lora import read_adapter

    cpu = torch.device("cpu")
    plain = Weights(files["Q8_0"], cpu, torch.float32).stored(f"{name}.weight")
    adapted = Weights(files["Q8_0"], cpu, torch.float32, read_adapter(tmp_path))
    assert not adapted.is_quantized(f"{name}.weight")
    torch.testing.assert_close(adapted.stored(f"{name}.weight"), plain + halves["B"] @ halves["A"])
    assert codes(load(files["Q8_0"], adapter=tmp_path))


# --- the tokenizer and the rest of a folder ---


def test_prompts_metadata_and_codec_come_with_the_file(random_checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "model.gguf"
    path.parent.mkdir()
    original = resolve_checkpoint(ModelOptions(str(random_checkpoint)))
    write_gguf(original, path, "Q8_0")
    made = resolve_checkpoint(ModelOptions(str(path)))
    assert dict(made.metadata) | {"codec": None} == dict(original.metadata) | {"codec": None}
    assert made.codec_folder.resolve() == original.codec_folder.resolve()
    assert made.revision != original.revision
    own, theirs = (PromptFormat.load(one.folder, one.metadata) for one in (made, original))
    for speaker in theirs.speakers:
        assert own.prompt("Hello there, 12!", speaker=speaker) == theirs.prompt("Hello there, 12!", speaker=speaker)


# --- what can't be run ---


def test_a_damaged_file_is_refused_wherever_it_is_cut(files: dict[str, Path], tmp_path: Path) -> None:
    whole, path = files["Q8_0"].read_bytes(), tmp_path / "cut.gguf"
    for size in (0, 3, 10, 30, 1000, len(whole) // 100, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(ModelError, match=r"cut\.gguf can't be read"):
            read_gguf(path)


def test_a_long_array_of_strings_is_decoded_when_it_is_used(tmp_path: Path) -> None:
    tokens = ["", "é", "日本", *(f"token {number}" for number in range(1_500)), ""]
    path = tmp_path / "x.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_array("tokens", tokens)
    writer.add_array("few", tokens[:9])
    for write in (
        writer.write_header_to_file,
        writer.write_kv_data_to_file,
        writer.write_tensors_to_file,
        writer.close,
    ):
        write()
    metadata = read_gguf(path).metadata
    assert isinstance(metadata["tokens"], GgufStrings)
    assert metadata["few"] == tokens[:9]
    assert list(metadata["tokens"]) == tokens
    assert [metadata["tokens"][at] for at in (0, 1, -1, -2, -len(tokens))] == [tokens[at] for at in (0, 1, -1, -2, 0)]
    assert metadata["tokens"][1:4] == tokens[1:4]
    whole = path.read_bytes()
    for size in range(len(whole) // 2, len(whole) // 2 + 20):
        path.write_bytes(whole[:size])
        with pytest.raises(ModelError, match=r"x\.gguf can't be read"):
            read_gguf(path)


@pytest.mark.parametrize(
    ("start", "reason"),
    [
        (b"version https://git-lfs", "pointer of Git LFS"),
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "version 1"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1 << 60, 0), "entries"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1 << 60), "entries"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1 << 40), "entries"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1) + b"a" + struct.pack("<I", 99), "unknown type 99"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1) + b"a" + struct.pack("<IIQ", 9, 9, 5), "array"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1) + b"a" + struct.pack("<IIQ", 9, 4, 1 << 23), "can't be read"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 1, 0, 1) + b"a" + struct.pack("<I", 70), "70 dimensions"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 1, 0, 1) + b"a" + struct.pack("<IQIQ", 1, 32, 16, 0), "GGUF type 16"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 1, 0, 1) + b"a" + struct.pack("<IQIQ", 1, 33, 8, 0), "multiple of 32"),
        (b"GGUF" + struct.pack("<IQQQ", 3, 1, 0, 1) + b"a" + struct.pack("<IQIQ", 1, 1 << 40, 0, 0), "truncated"),
    ],
)
def test_impossible_headers_are_refused(start: bytes, reason: str, tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(start + bytes(64))
    with pytest.raises(ModelError, match=reason):
        read_gguf(tmp_path / "x.gguf")


def test_a_string_may_be_as_long_as_the_file(tmp_path: Path) -> None:
    """tokenizer.json with 193,800 tokens, which a file of `llasa convert` may hold, has 27 MB."""
    text = b"x" * 27_000_000
    header = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 1) + b"a" + struct.pack("<IQ", 8, len(text))
    (tmp_path / "x.gguf").write_bytes(header + text)
    assert len(read_gguf(tmp_path / "x.gguf").metadata["a"]) == len(text)


def change_metadata(source: Path, path: Path, **changes: Any) -> None:
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(path, changes.pop("architecture", "llama"))
    for key, field in reader.fields.items():
        if key.startswith(("GGUF.", "general.architecture")) or changes.get(key, "") is None:
            continue
        inner = field.types[1] if len(field.types) > 1 else None
        writer.add_key_value(key, changes.get(key, field.contents()), field.types[0], inner)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"architecture": "mamba"}, "architecture 'mamba'"),
        ({"llama.block_count": None}, r"no llama\.block_count"),
        ({"llama.block_count": 3}, "layers"),
        ({"llama.attention.head_count": 7}, "different models"),
        ({"llama.rope.dimension_count": 32}, "rotates only a part"),
        ({"tokenizer.huggingface.json": None}, "tokenizer"),
        ({"llasa.metadata": "[]"}, "not a JSON object"),
        ({"tokenizer.chat_template": None}, "no chat template"),
    ],
    ids=str,
)
def test_files_of_other_models_are_refused(
    random_checkpoint: Path, tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    path = tmp_path / "x.gguf"
    write_gguf(resolve_checkpoint(ModelOptions(str(random_checkpoint))), tmp_path / "good.gguf", "F16")
    change_metadata(tmp_path / "good.gguf", path, **changes)
    with pytest.raises(LlasaError, match=reason):
        load_language_model(path, PromptFormat.load(path), "cpu")


def test_nothing_is_written_in_place_of_a_file_that_fails(random_checkpoint: Path, tmp_path: Path) -> None:
    checkpoint = resolve_checkpoint(ModelOptions(str(random_checkpoint)))
    with pytest.raises(UsageError, match="name of a GGUF file"):
        write_gguf(checkpoint, tmp_path / "x.safetensors", "F16")
    with pytest.raises(LlasaError, match="can't be written"):
        write_gguf(checkpoint, tmp_path / "missing" / "x.gguf", "F16")
    broken = tmp_path / "broken"
    shutil.copytree(random_checkpoint, broken)
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100] + b"\xff" * 100)  # the last tensor has NaN
    with pytest.raises(ModelError):
        write_gguf(resolve_checkpoint(ModelOptions(str(broken))), tmp_path / "x.gguf", "F16")
    assert list(tmp_path.glob("*.gguf")) == []
    assert list(tmp_path.glob(".*")) == []


def test_training_does_not_start_from_a_gguf_file(random_checkpoint: Path, tmp_path: Path) -> None:
    from llasa_cli.checkpoint.resolve import find_folder

    path = tmp_path / "x.gguf"
    write_gguf(resolve_checkpoint(ModelOptions(str(random_checkpoint))), path, "F16")
    with pytest.raises(ModelError, match="not be trained"):
        find_folder(str(path))


def test_16_bit_tensors_stay_in_the_file(files: dict[str, Path]) -> None:
    place = read_gguf(files["F16"]).tensors["model.embed_tokens.weight"]
    assert isinstance(place, GgufLocation)
    assert read_gguf_tensor(place).dtype == torch.float16


def test_neither_the_header_nor_rows_of_the_embedding_stay_in_memory(files: dict[str, Path]) -> None:
    model = load(files["Q8_0"])
    assert _read_gguf.cache_info().currsize == 0
    expected = read_gguf_tensor(read_gguf(files["Q8_0"]).tensors[EMBEDDING])
    ids = torch.arange(0, len(expected), 7)
    assert torch.equal(model.network.embedding(ids), expected[ids])
    if sys.platform == "linux":
        lines = Path("/proc/self/smaps").read_text().splitlines()
        mapped = [lines[at + 1 :] for at, line in enumerate(lines) if line.endswith(str(files["Q8_0"]))]
        resident = [int(next(line for line in found if line.startswith("Rss:")).split()[1]) << 10 for found in mapped]
        assert resident.count(0) == 1  # the embedding; the others are norms, which are used where they are


@pytest.mark.parametrize("kind", ["qwen2", "qwen3"])
def test_a_qwen_keeps_its_biases_and_norms_under_llama_cpp_s_names(
    kind: str, tokenizer_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "checkpoint"
    shutil.copytree(tokenizer_folder, folder)
    write_model(folder, PromptFormat.load(folder), SHAPE | {"model_type": kind, "rope_parameters": ROPE}, torch.float16)
    path = tmp_path / "model.gguf"
    write_gguf(resolve_checkpoint(ModelOptions(str(folder))), path, "F16")
    reader = gguf.GGUFReader(path)
    names = gguf.get_tensor_name_map(next(k for k, v in gguf.MODEL_ARCH_NAMES.items() if v == kind), 2)
    of_llama_cpp = {names.get_name(name, (".weight", ".bias")) for name in Weights(folder, CPU, torch.float32).files}
    assert {tensor.name for tensor in reader.tensors} == of_llama_cpp
    own, theirs = load(path), load(folder, "fp16")
    assert relative_error(logits_of(own), logits_of(theirs)) < 1e-4
    assert codes(own) == codes(theirs)


def test_a_lexicon_is_kept(phone_checkpoint: Path, tmp_path: Path) -> None:
    path = tmp_path / "phones.gguf"
    write_gguf(resolve_checkpoint(ModelOptions(str(phone_checkpoint))), path, "F16")
    assert PromptFormat.load(path).text_ids("Ca, cab!") == PromptFormat.load(phone_checkpoint).text_ids("Ca, cab!")
