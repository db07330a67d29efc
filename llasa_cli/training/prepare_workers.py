"""One `llasa prepare` as several processes, started here, by torchrun or by Slurm.

Each process is a rank with its share of the rows. The output folder is all that they have in common.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

import numpy as np

from llasa_cli.checkpoint.resolve import Checkpoint, codec_identity, resolve_checkpoint
from llasa_cli.errors import LlasaError, ModelError, UsageError
from llasa_cli.prompt import PromptFormat
from llasa_cli.settings import ModelOptions
from llasa_cli.training.encoding import Encoder, require_usual_rate
from llasa_cli.training.index import merge_indexes, tokenizer_fingerprint
from llasa_cli.training.options import PrepareOptions
from llasa_cli.training.prepare import OnProgress, Progress, prepare
from llasa_cli.training.vocabulary import codec_size
from llasa_cli.wording import describe_exit

_STAGES = ("checking", "encoding", "writing")


@dataclass(frozen=True)
class Rank:
    """The place of this process among several.

    Attributes:
        local: Its number on this machine, which chooses a GPU.
    """

    rank: int = 0
    ranks: int = 1
    local: int = 0


def find_rank(environment: Mapping[str, str], rank: int | None = None, ranks: int | None = None) -> Rank:
    """The rank that the flags give, or else torchrun's or Slurm's variables.

    Raises:
        UsageError: Only one of the two flags is given.
    """
    if (rank is None) != (ranks is None):
        raise UsageError("--rank and --ranks belong together.", "For example: --rank 0 --ranks 4")
    local = _number(environment, "LOCAL_RANK", "SLURM_LOCALID") or 0
    if rank is not None and ranks is not None:
        return Rank(rank, ranks, local)
    torch_rank, world = _number(environment, "RANK"), _number(environment, "WORLD_SIZE")
    if torch_rank is not None and world is not None:
        return Rank(torch_rank, world, local)
    # In the batch script itself, outside srun, Slurm sets "rank 0 of all" too, but this one process has to do everything.
    in_script = "SLURM_JOB_ID" in environment and not {"SLURM_STEP_ID", "SLURM_STEP_NUM_TASKS"} & set(environment)
    slurm_rank = _number(environment, "SLURM_PROCID")
    tasks = _number(environment, "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS")
    if slurm_rank is not None and tasks is not None and not in_script:
        return Rank(slurm_rank, tasks, local)
    return Rank()


def _number(environment: Mapping[str, str], *names: str) -> int | None:
    found = next((environment[name] for name in names if environment.get(name, "").isdecimal()), None)
    return None if found is None else int(found)


# --- one process ---


def prepare_with(
    options: PrepareOptions, model: ModelOptions, local: int = 0, on_progress: OnProgress | None = None
) -> dict[str, Any]:
    """Find model and codec by name, and prepare.

    Raises:
        ModelError: The model is missing, or there is something to encode and the codec is missing.
    """
    checkpoint = resolve_checkpoint(model)
    prompt_format = PromptFormat.load(checkpoint.folder, checkpoint.metadata)
    codec = None if options.dry_run else _find_encoder(checkpoint, prompt_format.code_count, local)
    return prepare(options, prompt_format, codec, tokenizer_fingerprint(checkpoint.folder), on_progress)


def _find_encoder(checkpoint: Checkpoint, code_count: int, local: int) -> Encoder:
    try:
        return LazyCodec(checkpoint.codec_folder, checkpoint.options.device, local)
    except ModelError as error:
        if checkpoint.options.codec is not None:
            raise
        return MissingCodec(error, code_count)


class LazyCodec:
    """A codec that is loaded when there is something to encode: importing torch takes seconds, and rows may have codes already.

    Attributes:
        identity, code_count: The attributes of `codec.codec.Codec`, read from its files.
    """

    def __init__(self, folder: Path, device: str, local: int) -> None:
        self._folder, self._device, self._local = folder, device, local
        self._loaded: Encoder | None = None
        self.code_count = codec_size(str(folder))
        self.identity: str | None = codec_identity(folder)

    def encode_batch(self, clips: Sequence[np.ndarray]) -> list[list[int]]:
        if self._loaded is None:
            from llasa_cli.codec.codec import load_codec

            loaded = load_codec(self._folder, own_device(self._device, self._local))
            require_usual_rate(loaded.codes_per_second)
            self._loaded = loaded
        return self._loaded.encode_batch(clips)


class MissingCodec:
    """Stands for a codec that is not on this machine, which does not matter if every row has codes already."""

    def __init__(self, error: ModelError, code_count: int) -> None:
        self._error, self.code_count = error, code_count
        self.identity: str | None = None

    def encode_batch(self, clips: Sequence[np.ndarray]) -> list[list[int]]:
        raise self._error


def own_device(device: str, local: int) -> str:
    """The GPU of one of several processes on a machine."""
    if device not in ("auto", "cuda"):
        return device
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return f"cuda:{local % count}" if count > 1 else device


# --- several processes ---


def prepare_in_workers(
    options: PrepareOptions, model: ModelOptions, workers: int, on_progress: OnProgress | None = None
) -> dict[str, Any]:
    """Run `workers` processes on this machine, each with a share of this rank's rows.

    Returns:
        The merged index of all ranks if all are done, else that of these workers.

    Raises:
        LlasaError: A worker failed; the others are stopped. Their results are kept.
    """
    # Several processes with a thread for each core would only wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))
    context = multiprocessing.get_context("spawn")  # a fork would share the locks of torch's threads
    ranks = options.ranks * workers
    started = []
    for local in range(workers):
        own = replace(options, rank=options.rank * workers + local, ranks=ranks)
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(sender, own, model, local), name=f"llasa-prepare-{own.rank}")
        process.start()
        sender.close()
        started.append((receiver, process, own.rank))
    try:
        indexes = _collect({pipe: (process, rank) for pipe, process, rank in started}, on_progress)
    finally:
        for _, process, _ in started:
            process.terminate()
            process.join()
    return next((index for index in indexes if "run" not in index), None) or merge_indexes(indexes)


def _work(pipe: Connection, options: PrepareOptions, model: ModelOptions, local: int) -> None:
    """The main function of a worker, which reports through the pipe."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the first one stops the others
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        index = prepare_with(options, model, local, lambda progress: pipe.send(("progress", progress)))
        pipe.send(("done", index))
    except LlasaError as error:
        pipe.send(("failed", type(error), error.message, error.hint))
    except Exception:
        pipe.send(("failed", RuntimeError, traceback.format_exc(), ""))


def _end_with_parent() -> None:
    """End this worker when its parent is killed; otherwise it would keep writing while the next run writes too."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _collect(started: dict[Connection, tuple[Any, int]], on_progress: OnProgress | None) -> list[dict[str, Any]]:
    """Every worker's index, by rank."""
    merge, open_pipes = ProgressMerger(), dict(started)
    found: dict[int, dict[str, Any]] = {}
    while open_pipes:
        for pipe in wait(list(open_pipes)):
            assert isinstance(pipe, Connection)
            process, rank = open_pipes[pipe]
            try:
                kind, *content = pipe.recv()
            except EOFError:
                process.join()
                raise LlasaError(
                    f"Worker {rank} ended with {describe_exit(process.exitcode)}.",
                    "Run the same command again: it resumes where it stopped.",
                ) from None
            if kind == "progress" and on_progress is not None:
                on_progress(merge(content[0]))
            elif kind == "done":
                found[rank] = content[0]
                del open_pipes[pipe]
            elif kind == "failed":
                error, message, hint = content
                raise error(message, hint) if issubclass(error, LlasaError) else error(message)
    return [found[rank] for rank in sorted(found)]


class ProgressMerger:
    """The progress of several ranks as that of one: of the stage that the slowest rank is in."""

    def __init__(self) -> None:
        self._last: dict[int, dict[str, Progress]] = {}

    def __call__(self, progress: Progress) -> Progress:
        self._last.setdefault(progress.rank, {})[progress.stage] = progress
        stage = min((max(stages, key=_STAGES.index) for stages in self._last.values()), key=_STAGES.index)
        reports = [stages[stage] for stages in self._last.values() if stage in stages]
        # While checking, every rank goes through all rows to find its own.
        total: Callable[..., int] = max if stage == "checking" else sum
        return Progress(
            stage,
            total(report.rows for report in reports),
            total(report.all_rows for report in reports),
            sum(report.seconds for report in reports),
            sum(report.all_seconds for report in reports),
        )
