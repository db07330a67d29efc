"""Two processes on this machine, as torchrun starts them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from llasa_cli.training.dataset import LengthGroupedBatchSampler


def test_the_batches_of_a_step_do_not_depend_on_the_number_of_processes() -> None:
    lengths = np.random.default_rng(0).integers(20, 400, 300)
    whole, halves = (
        iter(LengthGroupedBatchSampler(lengths, 2000, seed=3)),
        [
            iter(LengthGroupedBatchSampler(lengths, 2000, seed=3, rank=rank, world_size=2, skip_batches=lambda: 2))
            for rank in (0, 1)
        ],
    )
    for _ in range(4):
        next(whole)
    for _ in range(40):
        assert [next(whole), next(whole)] == [next(half) for half in halves]


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def torchrun(arguments: list[str], processes: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes)]
    command += ["--master-addr", "127.0.0.1", "--master-port", str(free_port()), "-m", "llasa_cli", "finetune"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, *arguments], env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def losses(folder: Path) -> dict[int, float]:
    lines = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
    return {line["step"]: line["loss"] for line in lines if "loss" in line}


def flags(data: Path, model: Path, output: Path, steps: int) -> list[str]:
    given = [str(data), "-o", str(output), "-m", str(model), "--steps", str(steps), "--device", "cpu", "--seed", "3"]
    given += ["--learning-rate", "1e-3", "--warm-up-steps", "0", "--tokens-per-batch", "400", "--log-every", "1"]
    return [*given, "--save-steps", "2", "--eval-every", "4"]


@pytest.mark.slow
def test_two_processes_train_as_one_with_twice_the_batches_and_resume_after_a_kill(
    data_folder: Path, random_checkpoint: Path, tmp_path: Path
) -> None:
    steps = 8
    alone = tmp_path / "alone"
    made = torchrun([*flags(data_folder, random_checkpoint, alone, steps), "--accumulate", "2"], 1)
    output, errors = made.communicate(timeout=300)
    assert made.returncode == 0, errors
    both = tmp_path / "both"
    made = torchrun(flags(data_folder, random_checkpoint, both, steps), 2)
    output, errors = made.communicate(timeout=300)
    assert made.returncode == 0, errors
    assert output == ""
    assert errors.count("step 8 (100%)") == 2, "one process prints: the loss, and the evaluation"
    one, two = losses(alone), losses(both)
    assert list(one) == list(range(1, steps + 1))
    for step, loss in one.items():
        assert two[step] == pytest.approx(loss, abs=1e-5), step
    first, second = (load_file(folder / "checkpoint-8" / "model.safetensors") for folder in (alone, both))
    for name, value in first.items():
        np.testing.assert_allclose(second[name], value, atol=1e-5)
    assert (
        json.loads((alone / "llasa.json").read_text())["tokens"]
        == json.loads((both / "llasa.json").read_text())["tokens"]
    )

    killed = tmp_path / "killed"
    # A speech sample at each step makes the run slow enough to be killed in the middle.
    slow = [*flags(data_folder, random_checkpoint, killed, steps), "--speak-every", "1"]
    made = torchrun(slow, 2)
    until = time.monotonic() + 200
    while not list(killed.glob("checkpoint-*/progress.json")):
        assert made.poll() is None, made.communicate()[1]
        assert time.monotonic() < until
        time.sleep(0.05)
    children = subprocess.run(["pgrep", "-P", str(made.pid)], capture_output=True, text=True).stdout.split()
    os.kill(int(children[-1]), signal.SIGKILL)
    made.communicate(timeout=200)
    assert made.returncode != 0
    assert json.loads((killed / "llasa.json").read_text())["steps"] < steps
    made = torchrun(slow, 2)
    _, errors = made.communicate(timeout=300)
    assert made.returncode == 0, errors
    for step, loss in losses(killed).items():
        assert one[step] == pytest.approx(loss, abs=1e-5), step
    after = load_file(killed / "checkpoint-8" / "model.safetensors")
    for name, value in second.items():
        np.testing.assert_allclose(after[name], value, atol=1e-5)


def test_the_batch_file_for_slurm_saves_before_it_returns_to_the_queue(tmp_path: Path) -> None:
    """Small scripts stand for Slurm's commands and for torchrun; USR1 comes five minutes before the time limit."""
    calls = tmp_path / "calls"
    programs = {
        "srun": 'exec "$@"',
        "scontrol": f'echo "scontrol $1" >> {calls}; echo localhost',
        "torchrun": f"trap 'echo saved >> {calls}; exit 143' TERM\necho started >> {calls}\nwhile :; do sleep 0.05; done",
    }
    for name, text in programs.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    slurm = {"NNODES": "1", "GPUS_ON_NODE": "2", "CPUS_PER_TASK": "2", "JOB_NODELIST": "here", "JOB_ID": "7"}
    environment = os.environ | {f"SLURM_{name}": value for name, value in slurm.items()}
    environment |= {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    script = Path(__file__).parents[2] / "recipes" / "slurm" / "finetune.sbatch"
    job = subprocess.Popen(["bash", str(script), "data", "out"], env=environment)
    while "started" not in (calls.read_text() if calls.is_file() else ""):
        assert job.poll() is None
        time.sleep(0.02)
    job.send_signal(signal.SIGUSR1)
    job.wait(timeout=60)
    assert calls.read_text().split("\n")[1:-1] == ["started", "saved", "scontrol requeue"]


@pytest.mark.slow
def test_the_batch_file_for_slurm_starts_as_many_processes_as_a_node_has_gpus(
    data_folder: Path, random_checkpoint: Path, tmp_path: Path
) -> None:
    """Small scripts that behave alike on one node stand for Slurm's own commands."""
    commands = tmp_path / "bin"
    commands.mkdir()
    for name, text in (("srun", 'exec "$@"'), ("scontrol", "echo localhost")):
        (commands / name).write_text(f"#!/bin/sh\n{text}\n")
        (commands / name).chmod(0o755)
    script = Path(__file__).parents[2] / "recipes" / "slurm" / "finetune.sbatch"
    slurm = {"NNODES": "1", "GPUS_ON_NODE": "2", "CPUS_PER_TASK": "2", "JOB_NODELIST": "here", "JOB_ID": "7"}
    path = f"{commands}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = os.environ | {f"SLURM_{name}": value for name, value in slurm.items()} | {"PATH": path}
    given = flags(data_folder, random_checkpoint, tmp_path / "out", 2)
    made = subprocess.run(
        ["bash", str(script), given[0], given[2], *given[3:]],
        env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    assert json.loads((tmp_path / "out" / "llasa.json").read_text())["steps"] == 2
    assert len(list((tmp_path / "out" / "checkpoint-2").glob("rng_state_*.pth"))) == 2, "two processes"


@pytest.mark.slow
@pytest.mark.parametrize("stage", [2, 3])
def test_deepspeed_gives_the_losses_of_a_run_without_it(
    stage: int, data_folder: Path, random_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On two processes, with the settings of the published files; its optimizer is compiled once, which takes minutes."""
    pytest.importorskip("deepspeed")
    monkeypatch.setenv("DS_ACCELERATOR", "cpu")
    auto = {"lr": "auto", "betas": "auto", "eps": "auto", "weight_decay": "auto"}
    settings = {
        "bf16": {"enabled": "auto"},
        "optimizer": {"type": "AdamW", "params": auto},
        "scheduler": {"type": "WarmupCosineLR", "params": {"total_num_steps": "auto", "warmup_num_steps": "auto"}},
        "zero_optimization": {"stage": stage, "stage3_gather_16bit_weights_on_model_save": stage == 3},
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": 1.0,
        "train_batch_size": "auto",
        "train_micro_batch_size_per_gpu": "auto",
    }
    (tmp_path / "ds.json").write_text(json.dumps(settings))
    for name, more in (("plain", []), ("zero", ["--deepspeed", str(tmp_path / "ds.json")])):
        made = torchrun([*flags(data_folder, random_checkpoint, tmp_path / name, 4), *more], 2)
        _, errors = made.communicate(timeout=900)
        assert made.returncode == 0, errors
    plain, zero = losses(tmp_path / "plain"), losses(tmp_path / "zero")
    for step, loss in plain.items():
        assert zero[step] == pytest.approx(loss, abs=2e-3), step
    first, second = (load_file(tmp_path / name / "model.safetensors") for name in ("plain", "zero"))
    for name, value in first.items():
        np.testing.assert_allclose(second[name].float(), value.float(), atol=0.01)
