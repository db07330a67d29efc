"""The published config.json files, restated: their values become options, and each of them trains."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer.testing

from llasa_cli.cli.app import app
from llasa_cli.errors import LlasaError, UsageError
from llasa_cli.training.options import FinetuneOptions
from llasa_cli.training.published_recipe import read_recipe
from llasa_cli.training.schedule import LearningRate

# The values that all files share; then those of each file.
SHARED: dict[str, Any] = {
    "bf16": True,
    "evaluation_strategy": "steps",
    "save_strategy": "steps",
    "weight_decay": 0.01,
    "adam_beta2": 0.95,
    "warmup_ratio": 0.03,
    "lr_scheduler_type": "cosine",
    "report_to": "wandb",
    "model_max_length": 2048,
    "dataloader_num_workers": 4,
    "dataloader_prefetch_factor": 4,
}


def config(
    model: str, rate: float, epochs: int, rows: int, accumulate: int, evaluate: int, **others: Any
) -> dict[str, Any]:
    return (
        SHARED
        | {
            "llm_model_name_or_path": model,
            "data_path": "//cluster/data/bin",
            "output_dir": "/cluster/results",
            "num_train_epochs": epochs,
            "per_device_train_batch_size": rows,
            "per_device_eval_batch_size": rows,
            "gradient_accumulation_steps": accumulate,
            "eval_steps": evaluate,
            "save_steps": 5000,
            "save_total_limit": 100,
            "learning_rate": rate,
            "logging_steps": 10,
            "gradient_checkpointing": False,
            "deepspeed": "ds_config_zero2.json",
        }
        | others
    )


TEXT_LLAMA, LLASA = "meta-llama/Llama-3.2-1B-Instruct", "HKUSTAudio/Llasa-1B"
PUBLISHED = {
    "train_tts": config(TEXT_LLAMA, 5e-5, 2, 8, 1, 1000, cache_dir="/cluster/cache", gradient_checkpointing=True),
    "offline": config(LLASA, 1e-5, 2, 4, 4, 50),
    "offline_lora": config(LLASA, 5e-4, 2, 4, 1, 5000),
    "online": config("HKUSTAudio/Llasa-1B-Multilingual", 1e-5, 1, 4, 4, 5000, logging_steps=3),
    "online_lora": config(LLASA, 5e-4, 1, 4, 4, 50, logging_steps=3),
    "fork": config(
        LLASA, 5e-5, 3, 32, 1, 1000,
        cache_dir="models", save_steps=999, save_total_limit=3, gradient_checkpointing=True, deepspeed=None,
        use_liger_kernel=True, eval_accumulation_steps=1, eval_on_start=True,
    ),
}  # fmt: skip
ZERO_2 = {
    "bf16": {"enabled": "auto"},
    "optimizer": {"type": "AdamW", "params": {"lr": "auto", "betas": "auto", "eps": "auto", "weight_decay": "auto"}},
    "scheduler": {"type": "WarmupCosineLR", "params": {"total_num_steps": "auto", "warmup_num_steps": "auto"}},
    "zero_optimization": {"stage": 2},
    "gradient_accumulation_steps": "auto",
    "train_batch_size": "auto",
    "train_micro_batch_size_per_gpu": "auto",
}


def write(folder: Path, recipe: dict[str, Any]) -> Path:
    recipe = {key: value for key, value in recipe.items() if value is not None}
    (folder / "ds_config_zero2.json").write_text(json.dumps(ZERO_2))
    path = folder / "config.json"
    path.write_text(json.dumps(recipe))
    return path


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_values_of_a_published_file_become_options(name: str, tmp_path: Path) -> None:
    recipe = PUBLISHED[name]
    options = FinetuneOptions(**read_recipe(write(tmp_path, recipe)).values)
    assert options.model == recipe["llm_model_name_or_path"]
    assert options.data == Path(recipe["data_path"])
    assert options.output == Path("/cluster/results")
    assert (options.epochs, options.learning_rate) == (recipe["num_train_epochs"], recipe["learning_rate"])
    assert (options.rows_per_batch, options.accumulate) == (
        recipe["per_device_train_batch_size"],
        recipe["gradient_accumulation_steps"],
    )
    assert options.tokens_per_batch == options.rows_per_batch * 2048
    assert (options.schedule, options.warm_up_share) == ("cosine", 0.03)
    assert (options.betas, options.weight_decay) == ((0.9, 0.95), 0.01)
    assert (options.evaluate_every, options.save_every_steps) == (recipe["eval_steps"], recipe["save_steps"])
    assert options.gradient_checkpointing == recipe["gradient_checkpointing"]
    assert options.evaluate_at_start == (name == "fork")
    assert (options.seed, options.log_every, options.workers) == (42, recipe["logging_steps"], 4)
    assert options.trainer == {"dataloader_prefetch_factor": 4}
    assert options.bf16


QUICK = ("train_tts", "online_lora", "fork")


@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in PUBLISHED]
)
def test_each_published_file_trains_as_the_guide_says(
    name: str, data_folder: Path, random_checkpoint: Path, recordings: Path, tmp_path: Path
) -> None:
    """Unedited: flags name the model, data and output of this machine, and the mode; one step is taken."""
    data = recordings if name.startswith("online") else data_folder
    flags = ["finetune", str(data), "-o", str(tmp_path / "out"), "-m", str(random_checkpoint)]
    flags += ["--config", str(write(tmp_path, PUBLISHED[name])), "--steps", "1", "--device", "cpu"]
    flags += ["--lora"] if name.endswith("lora") else []
    flags += ["--online"] if name.startswith("online") else []
    result = typer.testing.CliRunner().invoke(app, flags)
    assert result.exit_code == 0, result.output
    about = json.loads((tmp_path / "out" / "llasa.json").read_text())
    assert about["steps"] == 1
    assert about["base"] == str(random_checkpoint)
    assert about["recipe"]["rows_per_batch"] == PUBLISHED[name]["per_device_train_batch_size"]
    assert "deepspeed: set aside" in result.stderr or name == "fork"
    assert ("dataloader_num_workers: set aside" in result.stderr) == name.startswith("online")


def test_flags_come_before_the_file(tmp_path: Path, data_folder: Path, random_checkpoint: Path) -> None:
    config = write(tmp_path, PUBLISHED["offline"] | {"max_grad_norm": 0.5})
    flags = ["finetune", str(data_folder), "-o", str(tmp_path / "out"), "-m", str(random_checkpoint), "--device", "cpu"]
    flags += ["--config", str(config), "--steps", "1", "--learning-rate", "0.002", "--seed", "0", "--workers", "0"]
    assert typer.testing.CliRunner().invoke(app, flags).exit_code == 0
    recipe = json.loads((tmp_path / "out" / "llasa.json").read_text())["recipe"]
    assert recipe["learning_rate"] == 0.002
    assert "seed" not in recipe, "0 is a seed that was asked for, and our default"
    assert recipe["gradient_norm"] == 0.5
    assert recipe["steps"] == 1
    assert "epochs" not in recipe


def test_unknown_keys_are_named_together(tmp_path: Path) -> None:
    config = write(tmp_path, PUBLISHED["offline"] | {"learning_rat": 1, "frobnicate": True})
    with pytest.raises(UsageError, match=r"frobnicate, learning_rat \(meant learning_rate\?\)"):
        read_recipe(config)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"lora": {"r": 8}}, "'r'"),
        ({"lora": {"rank": "8"}}, "rank is '8'"),
        ({"num_train_epochs": "two"}, "'two'"),
        ({"data": 5}, "int"),
        ({"learning_rate": "fast"}, "learning_rate is 'fast'"),
        ({"seed": True}, "seed is True"),
        ({"speakers": "heart"}, "speakers is 'heart'"),
    ],
)
def test_a_wrong_value_is_a_usage_error(value: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        read_recipe(write(tmp_path, value))
    assert "wrong value" in caught.value.message


def test_settings_of_transformers_4_and_5_and_our_own_are_known(tmp_path: Path) -> None:
    recipe = PUBLISHED["offline"] | {
        "overwrite_output_dir": True, "max_steps": 7, "warmup_steps": 5, "warmup_ratio": 0, "neftune_noise_alpha": 5,
        "optim": "adamw_bnb_8bit", "lr_scheduler_type": "linear", "eval_strategy": "no", "lora": {"rank": 16},
    }  # fmt: skip
    del recipe["evaluation_strategy"]
    values = read_recipe(write(tmp_path, recipe)).values
    options = FinetuneOptions(**values)
    assert (options.steps, options.epochs, options.warm_up_steps, options.warm_up_share) == (7, None, 5, None)
    assert options.trainer["neftune_noise_alpha"] == 5
    assert (options.optimizer, options.schedule) == ("adamw_bnb_8bit", "linear")
    assert options.evaluate_every > 10**6
    assert options.lora is not None
    assert options.lora.rank == 16
    own = write(tmp_path, {"tokens_per_batch": 900, "speak_every": 5, "learning_rate": 1e-3})
    assert read_recipe(own).values == {"tokens_per_batch": 900, "speak_every": 5, "learning_rate": 1e-3}


def test_deepspeed_files_are_found_beside_the_recipe_and_needed_by_several_processes(tmp_path: Path) -> None:
    config = write(tmp_path, PUBLISHED["offline"])
    assert read_recipe(config, "cpu", 1).values["deepspeed"] is None
    assert read_recipe(config, "cuda", 8).values["deepspeed"] == tmp_path / "ds_config_zero2.json"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--liger"], "liger"),
        (["--flash-attention"], "flash"),
        (["--optimizer", "adamw_bnb_8bit"], "bitsandbytes"),
        (["--report-to", "wandb"], "wandb"),
        (["--deepspeed", "x.json"], "deepspeed"),
    ],
)
def test_a_package_that_a_flag_needs_is_named(
    flags: list[str], message: str, data_folder: Path, random_checkpoint: Path, tmp_path: Path
) -> None:
    from importlib.util import find_spec

    package = {"liger": "liger_kernel", "flash": "flash_attn"}.get(message, message)
    if find_spec(package) is not None:
        pytest.skip(f"{package} is installed here")
    command = ["finetune", str(data_folder), "-o", str(tmp_path / "out"), "-m", str(random_checkpoint), "--steps", "1"]
    result = typer.testing.CliRunner().invoke(app, [*command, "--device", "cpu", *flags])
    assert result.exit_code == 1
    assert f"needs the package {package.replace('_', '-')}" in result.stderr
    assert "pip install 'llasa-cli[" in result.stderr


@pytest.mark.parametrize("kind", ["cosine", "linear", "constant"])
def test_schedules_equal_those_of_transformers(kind: str) -> None:
    import torch
    from transformers import get_scheduler

    steps, warm_up = 200, 6
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    name = "constant_with_warmup" if kind == "constant" else kind
    published = get_scheduler(name, optimizer, warm_up, steps)
    ours = LearningRate(kind, 60, 0.6, warm_up_share=0.03, steps=steps)
    for step in range(steps):
        assert ours.factor(step, step / steps) == pytest.approx(published.get_last_lr()[0], abs=1e-9), step
        optimizer.step()
        published.step()


def test_the_trainers_own_settings_pass_and_others_are_refused(tmp_path: Path) -> None:
    from llasa_cli.training.trainer_arguments import check_names

    assert check_names({"neftune_noise_alpha": 5}) == {"neftune_noise_alpha": 5}
    with pytest.raises(LlasaError, match="has no nonsense"):
        check_names({"nonsense": 1})
    with pytest.raises(LlasaError, match="its own options"):
        check_names({"learning_rate": 1})
