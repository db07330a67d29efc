"""Every flag of `llasa finetune` arrives at the engine."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer.testing

from llasa_cli.cli.app import app
from llasa_cli.training.options import FinetuneOptions, LoraOptions

FLAGS = (
    "DATA -o OUT -m 1b --fresh f.json --tokenizer tok --codec cod --lora --lora-rank 3 --lora-alpha 5 --lora-dropout 0.2 "
    "--lora-target k_proj --lora-target o_proj --steps 7 --epochs 2 --minutes 3 --learning-rate 0.5 --schedule cosine "
    "--warm-up-steps 4 --decay-share 0.2 --betas 0.8 0.7 --epsilon 1e-3 --weight-decay 0.3 "
    "--optimizer adafactor --gradient-norm 2 --tokens-per-batch 99 --rows-per-batch 6 --accumulate 5 --context 1000 --seed 9 "
    "--speaker a --speaker b --untagged 0.4 --textless 0.3 --short-first 0.6 --chat x.jsonl --online --validation 8 --save-every 1 "
    "--save-steps 11 --keep 4 --eval-every 12 --eval-at-start --eval-rows 13 --speak-every 14 --speak hello --log-every 15 "
    "--report-to tensorboard --run-name name --no-resume --bf16 --gradient-checkpointing --flash-attention --liger "
    "--deepspeed d.json --trainer neftune_noise_alpha=5 --trainer fsdp=full_shard --workers 2 --device cpu"
)


@pytest.fixture
def arrived(monkeypatch: pytest.MonkeyPatch) -> list[FinetuneOptions]:
    found: list[FinetuneOptions] = []

    def record(options: FinetuneOptions, *_: Any) -> dict[str, Any]:
        found.append(options)
        return {"steps": 1, "minutes": 0.1}

    monkeypatch.setattr("llasa_cli.training.finetune.finetune", record)
    return found


def test_every_flag_arrives(arrived: list[FinetuneOptions]) -> None:
    result = typer.testing.CliRunner().invoke(app, ["finetune", *FLAGS.split()])
    assert result.exit_code == 0, result.stderr
    options, default = arrived[0], FinetuneOptions(Path(), Path())
    same = [part.name for part in fields(options) if getattr(options, part.name) == getattr(default, part.name)]
    assert same == ["warm_up_share"], (
        "each is set to something else than its default, but what would be two ways of one"
    )
    other = typer.testing.CliRunner().invoke(app, ["finetune", "DATA", "-o", "OUT", "--warm-up-share", "0.1"])
    assert other.exit_code == 0, other.stderr
    assert arrived[1].warm_up_share == 0.1
    assert options.lora == LoraOptions(3, 5, 0.2, ("k_proj", "o_proj"))
    assert options.trainer == {"neftune_noise_alpha": 5, "fsdp": "full_shard"}
    assert options.speakers == ("a", "b")
    assert (options.betas, options.context, options.resume) == ((0.8, 0.7), 1000, False)


def test_without_flags_the_defaults_arrive(arrived: list[FinetuneOptions]) -> None:
    assert typer.testing.CliRunner().invoke(app, ["finetune", "DATA", "-o", "OUT"]).exit_code == 0
    assert arrived == [FinetuneOptions(Path("DATA"), Path("OUT"))]


def test_a_config_file_may_use_our_option_names_and_flags_override_it(
    arrived: list[FinetuneOptions], tmp_path: Path
) -> None:
    config = tmp_path / "recipe.json"
    content = {
        "lora": {"rank": 2},
        "steps": 9,
        "speakers": ["a"],
        "learning_rate": 0.1,
        "bf16": True,
        "report_to": "none",
    }
    config.write_text(json.dumps(content))
    flags = ["finetune", "DATA", "-o", "OUT", "--config", str(config), "--epochs", "2", "--no-bf16", "--device", "cpu"]
    result = typer.testing.CliRunner().invoke(app, flags)
    assert result.exit_code == 0, result.stderr
    (options,) = arrived
    assert options.lora == LoraOptions(rank=2)
    assert (options.steps, options.epochs, options.bf16) == (None, 2, False)
    assert (options.speakers, options.learning_rate) == (("a",), 0.1)


def test_settings_of_the_trainer_in_a_file_stay_beside_those_of_flags(
    arrived: list[FinetuneOptions], tmp_path: Path
) -> None:
    config = tmp_path / "recipe.json"
    config.write_text(json.dumps({"steps": 2, "workers": 1, "dataloader_prefetch_factor": 4, "neftune_noise_alpha": 1}))
    command = ["finetune", "DATA", "-o", "OUT", "--config", str(config), "--trainer", "neftune_noise_alpha=5"]
    assert typer.testing.CliRunner().invoke(app, command).exit_code == 0
    assert arrived[0].trainer == {"dataloader_prefetch_factor": 4, "neftune_noise_alpha": 5}


def test_flags_override_single_values_of_the_files_adapter(arrived: list[FinetuneOptions], tmp_path: Path) -> None:
    config = tmp_path / "recipe.json"
    config.write_text(json.dumps({"lora": {"rank": 2, "alpha": 4.0}, "steps": 9}))
    for flags in (["--lora", "--lora-dropout", "0.2"], ["--lora-dropout", "0.2"]):
        flags = ["finetune", "DATA", "-o", "OUT", "--config", str(config), *flags, "--device", "cpu"]
        assert typer.testing.CliRunner().invoke(app, flags).exit_code == 0
    assert [options.lora for options in arrived] == [LoraOptions(rank=2, alpha=4.0, dropout=0.2)] * 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"accumulate": 0}, "accumulate (--accumulate) must be at least 1, not 0"),
        ({"evaluate_every": 0}, "(--eval-every) must be at least 1"),
        ({"decay_share": 5}, "must be between 0 and 1, not 5"),
        ({"lora": {"rank": 0}}, "rank must be at least 1"),
        ({"betas": [0.9]}, "betas is (0.9,)"),
    ],
)
def test_values_of_a_file_have_the_limits_of_the_flags(
    content: dict, message: str, arrived: list[FinetuneOptions], tmp_path: Path
) -> None:
    config = tmp_path / "recipe.json"
    config.write_text(json.dumps({"steps": 2} | content))
    result = typer.testing.CliRunner().invoke(app, ["finetune", "DATA", "-o", "OUT", "--config", str(config)])
    assert result.exit_code == 2, result.stderr
    assert message in result.stderr
    assert arrived == []


@pytest.mark.parametrize(
    ("content", "flags", "note", "unset"),
    [
        ({"validation": 0.2}, [], "validation: set aside, it is for --online", {"validation": 0.005}),
        ({"speak": ["hello"]}, [], "speak: set aside, speak_every asks for no speech samples", {"speak": ()}),
        ({"dataloader_num_workers": 4}, ["--online"], "dataloader_num_workers: set aside, with --online", {"workers": 0}),
        ({"workers": 4, "online": True}, [], "dataloader_num_workers: set aside", {"workers": 0}),
        ({"flash_attention": True}, [], "flash_attention: set aside, it needs a CUDA GPU", {"flash_attention": False}),
    ],
)  # fmt: skip
def test_a_value_of_the_file_that_does_not_apply_is_set_aside_with_a_note(
    content: dict, flags: list[str], note: str, unset: dict, arrived: list[FinetuneOptions], tmp_path: Path
) -> None:
    config = tmp_path / "recipe.json"
    config.write_text(json.dumps({"steps": 2} | content))
    command = ["finetune", "DATA", "-o", "OUT", "--config", str(config), "--device", "cpu", *flags]
    result = typer.testing.CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.stderr
    assert f"recipe.json: {note}" in result.stderr
    assert {name: getattr(arrived[0], name) for name in unset} == unset


def test_names_of_options_of_version_0_1_are_still_read(arrived: list[FinetuneOptions], tmp_path: Path) -> None:
    config = tmp_path / "recipe.json"
    config.write_text(json.dumps({"steps": 2, "untagged": 0.1, "textless": 0.2, "short_first": 0.3}))
    command = ["finetune", "DATA", "-o", "OUT", "--config", str(config)]
    assert typer.testing.CliRunner().invoke(app, command).exit_code == 0
    (options,) = arrived
    assert (options.speaker_dropout, options.text_dropout, options.length_curriculum) == (0.1, 0.2, 0.3)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["-o", "OUT"], "Missing argument DATA"),
        (["DATA"], "Missing option -o/--output"),
        (["DATA", "-o", "OUT", "--lora-rank", "3"], "without --lora"),
        (["DATA", "-o", "OUT", "--validation", "3"], "--validation applies to --online only"),
        (["DATA", "-o", "OUT", "--speak", "hello"], "without --speak-every"),
        (["DATA", "-o", "OUT", "--trainer", "x"], "takes NAME=VALUE"),
        (["--merge", "a"], "Missing option -o/--output"),
        (["--merge", "a", "--extend", "b", "-o", "OUT"], "exclude each other"),
        (["DATA", "-o", "OUT", "--config", "/nowhere.json"], "can't be read"),
        (["DATA", "-o", "OUT", "--warm-up-steps", "3", "--warm-up-share", "0.1"], "exclude each other"),
        (["DATA", "--merge", "a", "-o", "OUT", "--steps", "5"], "does not read DATA, --steps"),
        (["--extend", "a", "-o", "OUT", "-m", "tiny"], "does not read --model"),
    ],
)
def test_flags_that_contradict_each_other_are_a_usage_error(
    flags: list[str], message: str, arrived: list[FinetuneOptions]
) -> None:
    result = typer.testing.CliRunner().invoke(app, ["finetune", *flags])
    assert result.exit_code == 2
    assert message in result.stderr
    assert arrived == []
