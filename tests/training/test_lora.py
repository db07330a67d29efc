from __future__ import annotations

import json
import shutil
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from llasa_cli.checkpoint.resolve import resolve_checkpoint
from llasa_cli.errors import ModelError, UsageError
from llasa_cli.lm.loader import LanguageModel, load_language_model
from llasa_cli.prompt import PromptFormat
from llasa_cli.settings import ModelOptions
from llasa_cli.training.finetune import finetune
from llasa_cli.training.merge import merge_adapter
from llasa_cli.training.options import FinetuneOptions, LoraOptions

pytestmark = pytest.mark.skipif(find_spec("peft") is None, reason="needs peft")  # its import takes seconds
LORA = LoraOptions(rank=4, alpha=16, dropout=0.1, targets=("q_proj", "v_proj", "down_proj"))


@pytest.fixture(scope="module")
def trained(data_folder: Path, random_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> FinetuneOptions:
    options = FinetuneOptions(
        data_folder,
        tmp_path_factory.mktemp("lora") / "out",
        model=str(random_checkpoint),
        lora=LORA,
        steps=6,
        learning_rate=2e-2,
        warm_up_steps=0,
        tokens_per_batch=400,
        device="cpu",
        log_every=1,
        save_every_steps=3,
        evaluate_every=6,
    )
    finetune(options)
    return options


def scores(model: LanguageModel, ids: torch.Tensor) -> torch.Tensor:
    return model.network.stream(len(ids)).feed(ids)


@pytest.fixture
def ids(random_checkpoint: Path) -> torch.Tensor:
    prompt_format = PromptFormat.load(random_checkpoint)
    return torch.tensor(prompt_format.training_example(prompt_format.text_ids("sea salt"), [3, 1, 60], "bella")[0][:-1])


def test_only_the_adapter_is_written_and_the_folder_names_its_base(
    trained: FinetuneOptions, random_checkpoint: Path
) -> None:
    out = trained.output
    assert {path.name for path in out.iterdir()} >= {"adapter_config.json", "adapter_model.safetensors", "llasa.json"}
    assert not (out / "model.safetensors").exists()
    assert not (out / "README.md").exists()
    about = json.loads((out / "llasa.json").read_text())
    assert about["base"] == str(random_checkpoint)
    assert about["recipe"]["lora"]["rank"] == 4
    assert about["default_speaker"] in ("heart", "bella")
    assert json.loads((out / "adapter_config.json").read_text())["base_model_name_or_path"] == str(random_checkpoint)


def test_merged_and_unmerged_adapters_compute_what_peft_computes(
    trained: FinetuneOptions, random_checkpoint: Path, ids: torch.Tensor, tmp_path: Path
) -> None:
    from peft import PeftModel
    from transformers import LlamaForCausalLM

    prompt_format = PromptFormat.load(random_checkpoint)
    base = scores(load_language_model(random_checkpoint, prompt_format, "cpu"), ids)
    unmerged = scores(load_language_model(random_checkpoint, prompt_format, "cpu", adapter=trained.output), ids)
    named = resolve_checkpoint(ModelOptions(str(trained.output)))
    alone = scores(load_language_model(named.weights_folder, prompt_format, "cpu", adapter=named.adapter), ids)
    about = merge_adapter(trained.output, tmp_path / "merged")
    merged = scores(load_language_model(tmp_path / "merged", PromptFormat.load(tmp_path / "merged"), "cpu"), ids)
    model = PeftModel.from_pretrained(LlamaForCausalLM.from_pretrained(random_checkpoint), trained.output).eval()
    with torch.no_grad():
        every = model(input_ids=ids[None]).logits[0, -1]
    codes = slice(prompt_format.first_code_id, prompt_format.first_code_id + prompt_format.code_count)
    by_peft = torch.cat([every[codes], every[prompt_format.end_id : prompt_format.end_id + 1]])
    assert (unmerged - base).abs().max() > 0.1, "the adapter does something"
    for other in (alone, merged, by_peft):
        torch.testing.assert_close(other, unmerged, rtol=0, atol=1e-4)
    assert about["default_speaker"] in ("heart", "bella")
    assert (tmp_path / "merged" / "codec" / "model.safetensors").is_file()
    with pytest.raises(UsageError, match="already holds a model"):
        merge_adapter(trained.output, tmp_path / "merged")


def test_an_adapter_is_not_merged_onto_itself(trained: FinetuneOptions) -> None:
    before = {path: path.stat().st_mtime_ns for path in trained.output.rglob("*")}
    with pytest.raises(UsageError, match="already holds a model"):
        merge_adapter(trained.output, trained.output)
    assert {path: path.stat().st_mtime_ns for path in trained.output.rglob("*")} == before


def test_the_adapters_folder_speaks_as_the_merged_model_does(
    trained: FinetuneOptions, random_checkpoint: Path, tmp_path: Path
) -> None:
    from llasa_cli.settings import SamplingRequest, SpeechOptions
    from llasa_cli.synthesis.synthesizer import Synthesizer

    merge_adapter(trained.output, tmp_path / "merged")
    options = SpeechOptions(SamplingRequest(temperature=0, max_seconds=0.6), seed=1, retries=0)
    alone, beside, merged = (
        Synthesizer.load(ModelOptions(model=str(folder), adapter=adapter, device="cpu")).synthesize("sea salt", options)
        for folder, adapter in (
            (trained.output, None),
            (random_checkpoint, str(trained.output)),
            (tmp_path / "merged", None),
        )
    )
    assert len(alone) > 0
    torch.testing.assert_close(torch.from_numpy(alone), torch.from_numpy(merged), rtol=0, atol=1e-4)
    assert (alone == beside).all()
    with pytest.raises(ModelError, match="no adapter in"):
        Synthesizer.load(ModelOptions(model=str(random_checkpoint), adapter=str(tmp_path)))


def test_a_resumed_adapter_run_reaches_the_weights_of_an_uninterrupted_one(
    trained: FinetuneOptions, tmp_path: Path
) -> None:
    """The state of torch's random numbers, which draw the dropout, is restored too."""
    half = replace(trained, output=tmp_path / "out")
    shutil.copytree(trained.output, half.output)
    for name in ("checkpoint-6", "log.jsonl"):
        path = half.output / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    about = finetune(replace(half, model=None))
    assert about["steps"] == 6
    straight, resumed = (load_file(folder / "adapter_model.safetensors") for folder in (trained.output, half.output))
    for name, value in straight.items():
        torch.testing.assert_close(resumed[name], value, rtol=0, atol=1e-6)
    with pytest.raises(UsageError, match="trains an adapter"):
        finetune(replace(half, lora=None))


def test_an_adapter_of_another_model_or_kind_is_refused(
    trained: FinetuneOptions, random_checkpoint: Path, tmp_path: Path
) -> None:
    prompt_format = PromptFormat.load(random_checkpoint)

    def load(change: dict, tensors: dict | None = None) -> None:
        folder = tmp_path / "adapter"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        settings = json.loads((trained.output / "adapter_config.json").read_text())
        (folder / "adapter_config.json").write_text(json.dumps(settings | change))
        save_file(
            tensors or load_file(trained.output / "adapter_model.safetensors"), folder / "adapter_model.safetensors"
        )
        load_language_model(random_checkpoint, prompt_format, "cpu", adapter=folder)

    load({})
    whole = load_file(trained.output / "adapter_model.safetensors")
    for change, tensors, message in (
        ({"use_dora": True}, None, "DoRA"),
        ({"peft_type": "IA3"}, None, "not a LoRA"),
        ({}, {name.replace("layers.0", "layers.9"): value for name, value in whole.items()}, "does not have"),
        ({}, {name: value[..., :8].clone() for name, value in whole.items()}, "the model has"),
        ({}, {name: value for name, value in whole.items() if "lora_A" in name}, "one of the matrices"),
    ):
        with pytest.raises(ModelError, match=message):
            load(change, tensors)


def test_an_adapter_run_resumes_only_with_its_own_settings(trained: FinetuneOptions) -> None:
    assert trained.lora is not None
    for other in (replace(trained.lora, rank=3), replace(trained.lora, targets=("k_proj",)), LoraOptions(alpha=1)):
        with pytest.raises(UsageError, match="has other settings") as caught:
            finetune(replace(trained, lora=other, steps=99))
        assert f"--lora-rank {trained.lora.rank} " in caught.value.hint


def test_an_unknown_target_is_named(trained: FinetuneOptions, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no query"):
        finetune(replace(trained, output=tmp_path / "out", lora=LoraOptions(targets=("query",))))
