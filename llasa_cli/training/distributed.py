"""One `llasa prepare` as several processes: started here, or by torchrun, or by Slurm.

Each process is a rank with a share of the rows; they need nothing of each other but one folder.
"""

from __future__ import annotations

import json
import math
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

from llasa_cli.checkpoint.resolve import Checkpoint
from llasa_cli.errors import LlasaError, ModelError, UsageError
from llasa_cli.settings import ModelOptions, PrepareOptions
from llasa_cli.training.prepare import (
    Encoder,
    Progress,
    Recognizer,
    joined,
    prepare,
    tokenizer_fingerprint,
)

_STAGES = ("checking", "encoding", "writing")


@dataclass(frozen=True)
class Names:
    """What is loaded in each process: model, codec (None: the model's own) and device, as on the command line."""

    model: str
    codec: str | None = None
    device: str = "auto"


@dataclass(frozen=True)
class Rank:
    """This process among several. `local` is its number on this machine, for choosing a GPU."""

    rank: int = 0
    ranks: int = 1
    local: int = 0


def rank_of(environment: Mapping[str, str], rank: int | None = None, ranks: int | None = None) -> Rank:
    """As told, else as torchrun or Slurm tell.

    Raises:
        UsageError: Only one of the two is told.
    """
    if (rank is None) != (ranks is None):
        raise UsageError("--rank and --ranks go together.", "As in: --rank 0 --ranks 4")
    local = _number(environment, "LOCAL_RANK", "SLURM_LOCALID") or 0
    if rank is not None and ranks is not None:
        return Rank(rank, ranks, local)
    torch_rank, world = _number(environment, "RANK"), _number(environment, "WORLD_SIZE")
    if torch_rank is not None and world is not None:
        return Rank(torch_rank, world, local)
    # In a batch script itself, outside srun, Slurm says "0 of all" too: that one process has to do everything.
    in_script = "SLURM_JOB_ID" in environment and not {"SLURM_STEP_ID", "SLURM_STEP_NUM_TASKS"} & set(environment)
    slurm_rank, tasks = (
        _number(environment, "SLURM_PROCID"),
        _number(environment, "SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"),
    )
    if slurm_rank is not None and tasks is not None and not in_script:
        return Rank(slurm_rank, tasks, local)
    return Rank()


def _number(environment: Mapping[str, str], *names: str) -> int | None:
    found = next((environment[name] for name in names if environment.get(name, "").isdecimal()), None)
    return None if found is None else int(found)


# --- one process ---


def prepare_with(
    options: PrepareOptions, names: Names, local: int = 0, on_progress: Recognizer | None = None
) -> dict[str, Any]:
    """Find model and codec by name, and prepare.

    Raises:
        ModelError: They are not here. (A codec only if there is something to encode.)
    """
    from llasa_cli.checkpoint.resolve import resolve_checkpoint
    from llasa_cli.prompt import PromptFormat

    checkpoint = resolve_checkpoint(ModelOptions(names.model, names.codec, names.device))
    prompt_format = PromptFormat.load(checkpoint.folder, checkpoint.metadata)
    codec = None if options.dry_run else _codec(checkpoint, prompt_format.code_count, local)
    return prepare(options, prompt_format, codec, tokenizer_fingerprint(checkpoint.folder), on_progress)


def _codec(checkpoint: Checkpoint, code_count: int, local: int) -> Encoder:
    try:
        return CodecOnDemand(checkpoint.codec_folder, checkpoint.options.device, local)
    except ModelError as error:
        if checkpoint.options.codec is not None:
            raise
        return MissingCodec(error, code_count)


class CodecOnDemand:
    """A codec that is loaded when there is something to encode: torch takes seconds, and rows may bring their codes.

    Attributes:
        identity, code_count: As those of `codec.model.Codec`, from its files.
    """

    def __init__(self, folder: Path, device: str, local: int) -> None:
        from llasa_cli.checkpoint.resolve import codec_identity
        from llasa_cli.codec.codec import load_codec

        self._folder, self._device, self._local = folder, device, local
        self._loaded: Encoder | None = None
        try:
            settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
            self.code_count = math.prod(settings["quantization_levels"])
            self.identity: str | None = codec_identity(folder)
        except (OSError, ValueError, KeyError, TypeError):
            self._loaded = load_codec(folder, device)  # which says what is wrong with it
            self.identity, self.code_count = self._loaded.identity, self._loaded.code_count

    def encode_batch(self, clips: Sequence[np.ndarray]) -> list[list[int]]:
        if self._loaded is None:
            from llasa_cli.codec.codec import load_codec

            self._loaded = load_codec(self._folder, own_device(self._device, self._local))
        return self._loaded.encode_batch(clips)


class MissingCodec:
    """Stands for a codec that is not on this machine; no trouble while every row brings its codes."""

    def __init__(self, error: ModelError, code_count: int) -> None:
        self._error, self.code_count = error, code_count
        self.identity: str | None = None

    def encode_batch(self, clips: Sequence[np.ndarray]) -> list[list[int]]:
        raise self._error


def own_device(device: str, local: int) -> str:
    """Of several GPUs, each process on a machine takes its own."""
    if device not in ("auto", "cuda"):
        return device
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return f"cuda:{local % count}" if count > 1 else device


# --- several processes ---


def prepare_in_workers(
    options: PrepareOptions, names: Names, workers: int, on_progress: Recognizer | None = None
) -> dict[str, Any]:
    """`workers` processes on this machine, each with a share of this rank's rows.

    Returns:
        The joined index of all ranks if all are done, else that of these workers.

    Raises:
        LlasaError: One of them failed; the others are ended. What they have done is kept.
    """
    # Several processes with as many threads as there are cores would only wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))
    context = multiprocessing.get_context("spawn")  # a fork would share the locks of torch's threads
    ranks = options.ranks * workers
    started = []
    for local in range(workers):
        own = replace(options, rank=options.rank * workers + local, ranks=ranks)
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(theirs, own, names, local), name=f"llasa-prepare-{own.rank}")
        process.start()
        theirs.close()
        started.append((ours, process, own.rank))
    try:
        indexes = _results({pipe: (process, rank) for pipe, process, rank in started}, on_progress)
    finally:
        for _, process, _ in started:
            process.terminate()
            process.join()
    return next((index for index in indexes if "run" not in index), None) or joined(indexes)


def _work(pipe: Connection, options: PrepareOptions, names: Names, local: int) -> None:
    """One worker: what it has to tell goes through the pipe."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the first process ends the others
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        index = prepare_with(options, names, local, lambda progress: pipe.send(("progress", progress)))
        pipe.send(("done", index))
    except LlasaError as error:
        pipe.send(("failed", type(error), error.message, error.hint))
    except Exception:
        pipe.send(("failed", RuntimeError, traceback.format_exc(), ""))


def _end_with_parent() -> None:
    """A worker whose parent was killed would go on unseen, and the next run would write beside it."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _results(started: dict[Connection, tuple[Any, int]], on_progress: Recognizer | None) -> list[dict[str, Any]]:
    """Every worker's index, by rank."""
    merge, open_pipes = Merged(), dict(started)
    found: dict[int, dict[str, Any]] = {}
    while open_pipes:
        for pipe in wait(list(open_pipes)):
            assert isinstance(pipe, Connection)
            process, rank = open_pipes[pipe]
            try:
                kind, *told = pipe.recv()
            except EOFError:
                process.join()
                raise LlasaError(
                    f"Worker {rank} ended with {_ending(process.exitcode)}.",
                    "Run the same command again: it goes on where it stopped.",
                ) from None
            if kind == "progress" and on_progress is not None:
                on_progress(merge(told[0]))
            elif kind == "done":
                found[rank] = told[0]
                del open_pipes[pipe]
            elif kind == "failed":
                error, message, hint = told
                raise error(message, hint) if issubclass(error, LlasaError) else error(message)
    return [found[rank] for rank in sorted(found)]


def _ending(code: int | None) -> str:
    return f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"


class Merged:
    """Progress of several ranks as that of one: of the stage that the slowest is in."""

    def __init__(self) -> None:
        self._last: dict[int, dict[str, Progress]] = {}

    def __call__(self, progress: Progress) -> Progress:
        self._last.setdefault(progress.rank, {})[progress.stage] = progress
        stage = min((max(stages, key=_STAGES.index) for stages in self._last.values()), key=_STAGES.index)
        seen = [stages[stage] for stages in self._last.values() if stage in stages]
        # All go through all rows when they look for their own.
        total: Callable[..., int] = max if stage == "checking" else sum
        return Progress(
            stage,
            total(one.rows for one in seen),
            total(one.all_rows for one in seen),
            sum(one.seconds for one in seen),
            sum(one.all_seconds for one in seen),
        )
