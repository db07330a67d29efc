"""Whatever happens during a run - Ctrl-C, SIGTERM, samples that can't be written - nothing that was learned is lost."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import soundfile
from safetensors.torch import load_file

from llasa_cli.training import trainer
from llasa_cli.training.finetune import finetune
from llasa_cli.training.options import FinetuneOptions, LoraOptions
from llasa_cli.training.run import Callbacks, RunProgress
from llasa_cli.training.samples import SpeechSamples


@pytest.fixture
def options(data_folder: Path, random_checkpoint: Path, tmp_path: Path) -> FinetuneOptions:
    return options_for(data_folder, random_checkpoint, tmp_path / "out")


@pytest.fixture(scope="module")
def uninterrupted(data_folder: Path, random_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights of a run that was not interrupted."""
    options = options_for(data_folder, random_checkpoint, tmp_path_factory.mktemp("uninterrupted") / "out")
    finetune(options)
    return options.output / "model.safetensors"


def options_for(data: Path, model: Path, output: Path) -> FinetuneOptions:
    return FinetuneOptions(
        data,
        output,
        str(model),
        steps=6,
        learning_rate=1e-3,
        tokens_per_batch=300,
        device="cpu",
        log_every=1,
        evaluate_every=99,
    )


def steps_of(folder: Path) -> list[int]:
    return sorted(int(path.parent.name.rsplit("-", 1)[1]) for path in folder.glob("checkpoint-*/progress.json"))


def saved_step(folder: Path) -> int:
    return int(json.loads((folder / "llasa.json").read_text())["steps"])


# --- signals ---


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_the_step_and_the_run_resumes_to_the_same_weights(
    options: FinetuneOptions, uninterrupted: Path, number: int
) -> None:
    class Ended(BaseException):
        pass

    def end(*_: Any) -> None:
        raise Ended

    def interrupt(line: dict[str, float]) -> None:
        if line["step"] == 3:
            signal.raise_signal(number)

    notes: list[str] = []
    before = signal.signal(number, end)
    try:
        with pytest.raises(Ended):
            finetune(options, Callbacks(interrupt, on_note=notes.append))
        assert signal.getsignal(number) is end, "the handler from before is back"
    finally:
        signal.signal(number, before)
    step = saved_step(options.output)
    assert step < 6
    assert steps_of(options.output) == [step]
    assert notes[0].startswith("Stopping after this step, with a save.")
    assert notes[1] == f"Saved step {step} in {options.output}. The same command resumes the run."
    assert finetune(options)["steps"] == 6
    straight, resumed = load_file(uninterrupted), load_file(options.output / "model.safetensors")
    assert all((straight[name] == resumed[name]).all() for name in straight)


def test_the_command_ends_with_the_signals_exit_code_and_says_where_it_saved(
    llasa: list[str], options: FinetuneOptions
) -> None:
    command = [*llasa, "finetune", str(options.data), "-o", str(options.output)]
    command += ["-m", str(options.model), "--minutes", "5", "--device", "cpu", "--log-every", "1"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    errors = ""
    for line in process.stderr:
        errors += line
        if line.startswith("step "):
            process.send_signal(signal.SIGTERM)
            break
    errors += process.stderr.read()
    assert process.wait(timeout=120) == 143, errors
    assert f"in {options.output}. The same command resumes the run." in errors
    assert "Traceback" not in errors
    assert saved_step(options.output) >= 1


# --- saving ---


def test_a_new_run_saves_a_whole_checkpoint_once_early(
    options: FinetuneOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llasa_cli.settings import ModelOptions
    from llasa_cli.synthesis.synthesizer import Synthesizer

    monkeypatch.setattr(trainer, "FIRST_SAVE_S", 0.0)
    loaded: list[int] = []

    def load(line: dict[str, float]) -> None:
        if line["step"] == 3:
            Synthesizer.load(ModelOptions(model=str(options.output), device="cpu"))
            loaded.append(saved_step(options.output))

    finetune(replace(options, keep=9), Callbacks(load))
    assert loaded == [1]
    assert steps_of(options.output) == [1, 6]
    finetune(replace(options, steps=9, keep=9))
    assert steps_of(options.output) == [1, 6, 9], "a resumed run has a checkpoint already"


def test_a_run_shorter_than_the_time_between_saves_is_saved_with_the_permissions_of_new_files(
    options: FinetuneOptions,
) -> None:
    before = os.umask(0o007)
    try:
        finetune(replace(options, steps=1, save_every_minutes=60))
    finally:
        os.umask(before)
    assert steps_of(options.output) == [1]
    weights = [*options.output.glob("*.safetensors"), *options.output.glob("checkpoint-1/*.safetensors")]
    assert [stat.S_IMODE(path.stat().st_mode) for path in weights] == [0o660] * 2
    assert not list(options.output.rglob("*.part"))


# --- speaking ---


@pytest.mark.usefixtures("brief_samples")
@pytest.mark.parametrize("lora", [None, LoraOptions(rank=2)], ids=["whole", "adapter"])
def test_samples_are_spoken_under_bf16_and_outside_the_trainers_autocast(
    lora: LoraOptions | None, options: FinetuneOptions, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    states: list[bool] = []
    speak = SpeechSamples.speak

    def watch(self: SpeechSamples, model: Any, *rest: Any) -> Any:
        hook = model.get_input_embeddings().register_forward_hook(
            lambda *_: states.append(torch.is_autocast_enabled("cpu"))
        )
        written = speak(self, model, *rest)
        hook.remove()
        return written

    monkeypatch.setattr(SpeechSamples, "speak", watch)
    options = replace(options, lora=lora)
    finetune(replace(options, bf16=True, speak_every=3, speak=("sea salt",)))
    assert states
    assert not any(states)
    assert len(list((options.output / "spoken").glob("*.wav"))) == 2
    quiet = replace(options, output=tmp_path / "quiet", bf16=True)
    finetune(quiet)
    weights = "model.safetensors" if lora is None else "adapter_model.safetensors"
    same = [(folder / weights).read_bytes() for folder in (options.output, quiet.output)]
    assert same[0] == same[1], "speaking changes nothing in the training"


@pytest.mark.slow
def test_the_built_in_model_speaks_while_it_trains_in_bf16(tmp_path: Path) -> None:
    """The command of the guide, shortened: codes of the built-in codec, bfloat16 on a CPU."""
    from typer.testing import CliRunner

    from llasa_cli.cli.app import app

    text = "the gardener planted three rows of beans"
    lines = [
        json.dumps({"text": text, "codes": [(number * 7 + place) % 256 for place in range(150)]})
        for number in range(14)
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    data, mine = str(tmp_path / "data"), tmp_path / "mine"
    assert CliRunner().invoke(app, ["prepare", str(tmp_path / "rows.jsonl"), "-o", data]).exit_code == 0
    flags = ["--steps", "2", "--bf16", "--tokens-per-batch", "1800", "--speak-every", "2", "--device", "cpu"]
    result = CliRunner().invoke(app, ["finetune", data, "-o", str(mine), "-m", "tiny", *flags])
    assert result.exit_code == 0, result.stderr
    assert "warning" not in result.stderr
    assert all(soundfile.info(path).frames > 0 for path in (mine / "spoken").glob("*.wav"))
    assert len(list((mine / "spoken").glob("*.wav"))) == 3


@pytest.fixture
def broken_speech(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    def set_error(error: BaseException) -> None:
        def fail(*_: Any) -> None:
            raise error

        monkeypatch.setattr(SpeechSamples, "speak", fail)

    return set_error


def test_a_failure_to_speak_is_a_warning_after_a_save(
    options: FinetuneOptions, broken_speech: Callable[[BaseException], None]
) -> None:
    broken_speech(RuntimeError("could not create a primitive\nmore lines"))
    notes: list[str] = []
    assert (
        finetune(replace(options, speak_every=2, speak=("sea",), keep=9), Callbacks(on_note=notes.append))["steps"] == 6
    )
    assert notes == [
        f"warning: no speech samples were written at step {step}: could not create a primitive" for step in (2, 4, 6)
    ]
    assert steps_of(options.output) == [2, 6], "the first sample comes after a save"


def test_a_process_that_dies_while_it_speaks_has_saved_before(
    options: FinetuneOptions, broken_speech: Callable[[BaseException], None]
) -> None:
    class Killed(BaseException):
        pass

    broken_speech(Killed())
    with pytest.raises(Killed):
        finetune(replace(options, speak_every=2, speak=("sea",)))
    assert saved_step(options.output) == 2


def test_a_signal_ends_a_sentence_that_is_being_spoken(options: FinetuneOptions) -> None:
    def interrupt(line: dict[str, float]) -> None:
        if line["step"] == 2:
            signal.setitimer(signal.ITIMER_REAL, 0.2)

    signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        finetune(replace(options, steps=10_000, speak_every=2, speak=("sea",) * 500), Callbacks(interrupt))
    assert time.monotonic() - began < 60
    assert saved_step(options.output) >= 2


# --- progress ---


def test_the_loss_the_share_and_the_time_left_are_known_from_the_first_step(options: FinetuneOptions) -> None:
    lines: list[dict[str, float]] = []
    reports: list[RunProgress] = []
    finetune(replace(options, log_every=50), Callbacks(lines.append, reports.append))
    assert [line["step"] for line in lines if "loss" in line] == [1, 6]
    assert lines[0]["share"] == pytest.approx(1 / 6, abs=1e-3)
    assert lines[0]["left_s"] >= 0
    assert reports[0].step == 1
    assert reports[0].loss == pytest.approx(lines[0]["loss"], abs=1e-4)
    assert reports[0].left_s > 0
