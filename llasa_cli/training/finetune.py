"""Training files and a model -> a checkpoint folder that `llasa say` speaks with.

Out, in one folder:

    config.json, model.safetensors, tokenizer files, llasa.json    the model as of the last save, each file replaced as a
                                                                   whole: another process can read it at any time;
                                                                   of an adapter: adapter_*.* in place of the first two
    checkpoint-N/                                                  what a stopped run goes on from (the last two)
    log.jsonl, loss.svg                                            a line every so many steps; the same as a picture
    spoken/                                                        samples, where asked for

Under torchrun every process runs this; the first one writes, the others wait for it where it matters.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llasa_cli.checkpoint.metadata import read_metadata
from llasa_cli.checkpoint.resolve import base_of, find_codec, find_model, is_adapter
from llasa_cli.codec.codec import codec_identity, keep_few_primitives
from llasa_cli.device import pick_device
from llasa_cli.errors import LlasaError, UsageError
from llasa_cli.files import copy_files, make_folder, read_json_object, write_json
from llasa_cli.hub.catalog import PUBLISHED_CODEC, repo_of
from llasa_cli.prompt import PromptFormat
from llasa_cli.settings import BUILT_IN_MODEL, FinetuneOptions, LoraOptions
from llasa_cli.training.chat_dataset import ChatRows, ConcatDataset
from llasa_cli.training.dataset import LengthGroupedBatchSampler, SpeechDataset, held_out_split, read_index
from llasa_cli.training.prepare import tokenizer_fingerprint
from llasa_cli.training.run_state import (
    PROGRESS_FILE,
    data_fingerprint,
    describe_prompt_format,
    describe_recipe,
    export_checkpoint,
    refuse_model_in,
)
from llasa_cli.training.schedule import SCHEDULES, Clock
from llasa_cli.training.trainer_arguments import check_packages, ranks, training_arguments
from llasa_cli.training.vocabulary import CODE_COUNT, TOKENIZER_FILES, codec_size, extend_tokenizer, knows_speech

if TYPE_CHECKING:
    import torch
    from transformers import TrainingArguments

    from llasa_cli.training.trainer import Data

NEW_TOKENIZER = ".tokenizer"
"""Folder in the output that holds a text model's tokenizer with the new tokens."""


def finetune(
    options: FinetuneOptions,
    on_log: Callable[[dict[str, Any]], None] | None = None,
    on_progress: Callable[[int, float], None] | None = None,
    on_note: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Train, or go on training.

    Args:
        options: See there.
        on_log: Called with each line that goes to log.jsonl.
        on_progress: Called after each step with the step and the share of the run.
        on_note: Told what the user should know of a run that goes on.

    Returns:
        The checkpoint's `llasa.json`, with `minutes`.

    Raises:
        LlasaError: An optional package that was asked for is missing.
        UsageError: Options or data that do not fit together.
        ModelError: The model to start from is not one.
    """
    device = pick_device(options.device)
    if options.schedule not in SCHEDULES:
        raise UsageError(f"There is no schedule {options.schedule!r}.", "Use " + ", ".join(SCHEDULES) + ".")
    check_packages(options, device)
    quiet_libraries()
    keep_few_primitives()
    with _made(options.output):
        return _finetune(options, device, on_log, on_progress, on_note or (lambda note: None))


@contextmanager
def _made(folder: Path) -> Iterator[None]:
    """The output folder; one that was made for nothing is gone again."""
    was_there = folder.is_dir()
    make_folder(folder)
    try:
        yield
    except BaseException:
        if not was_there:
            with suppress(OSError):  # there is something in it
                folder.rmdir()
        raise


def _finetune(
    options: FinetuneOptions,
    device: torch.device,
    on_log: Callable[[dict[str, Any]], None] | None,
    on_progress: Callable[[int, float], None] | None,
    note: Callable[[str], None],
) -> dict[str, Any]:
    last = _last_checkpoint(options)
    if last is not None:
        _check_base(options)
    elif not _was_cut_off(options.output):
        refuse_model_in(options.output)
        _refuse_others_checkpoints(options.output)
    start = _start_folder(options, last)
    tokens = _tokenizer_folder(options, start, last)
    prompt_format = PromptFormat.load(tokens)
    known_speakers = prompt_format.speakers
    prompt_format.speakers = ()  # the data may bring new ones
    rows, held_out = _read_data(options, prompt_format, tokens, start, device, note)
    clock = Clock(
        _steps(options, rows),
        options.minutes * 60 if options.minutes is not None else None,
        float(_progress(last).get("seconds", 0.0)),
    )
    arguments = training_arguments(options, clock.steps, device)
    with arguments.main_process_first():  # the others wait until the folder is there
        if ranks()[0] == 0:
            _drop_unfinished(options)
            about = read_metadata(options.output) if last is not None else {}
            if not about:
                about = _about(options, rows, prompt_format, known_speakers, start)
                _begin_folder(options, prompt_format, tokens, start, about)
    _drop_new_tokenizer(options)
    about = read_metadata(options.output)
    if last is not None:
        _compare_data(options, about, note)
        about |= {"base": base_name(options.model)} if options.model is not None else {}  # it may have moved
    step = int(last.name.rsplit("-", 1)[1]) if last else 0
    if clock.share(step) >= 1:
        note(f"The run in {options.output} was at its end: nothing left to do. A longer one goes on from there.")
    else:
        _train(
            _Run(options, prompt_format, rows, held_out, clock, device, arguments, start, last, about),
            on_log,
            on_progress,
        )
    return read_metadata(options.output) | {"minutes": round(clock.spent() / 60, 2)}


class _Run:
    """Everything that training is begun with."""

    def __init__(
        self,
        options: FinetuneOptions,
        prompt_format: PromptFormat,
        rows: Data,
        held_out: Data | None,
        clock: Clock,
        device: torch.device,
        arguments: TrainingArguments,
        start: Path | None,
        last: Path | None,
        about: dict[str, Any],
    ) -> None:
        self.options, self.prompt_format, self.rows, self.held_out = options, prompt_format, rows, held_out
        self.clock, self.device, self.arguments = clock, device, arguments
        self.start, self.last, self.about = start, last, about


def _train(
    run: _Run,
    on_log: Callable[[dict[str, Any]], None] | None,
    on_progress: Callable[[int, float], None] | None,
) -> None:
    import torch
    from transformers import set_seed

    from llasa_cli.training.loss import score_labels_only
    from llasa_cli.training.model import bare, build_model
    from llasa_cli.training.trainer import Hooks, SpeechTrainer

    options = run.options
    set_seed(options.seed)
    # A whole model goes on from its checkpoint; an adapter's base is always the one it began with.
    begin = run.last if run.last is not None and options.lora is None else run.start
    model = build_model(options, run.prompt_format, begin, run.device)
    score_labels_only(bare(model))

    def export(trained: Any, state: Any, step: int, tokens_seen: int) -> None:
        export_checkpoint(trained, options.output, run.about | {"steps": step, "tokens": tokens_seen}, state)

    hooks = Hooks(export, on_log, _speaker(run), on_progress)
    trainer = SpeechTrainer(model, options, run.arguments, run.prompt_format, run.rows, run.held_out, run.clock, hooks)
    trainer.tokens_seen = int(_progress(run.last).get("tokens", 0))
    try:
        trainer.train(resume_from_checkpoint=str(run.last) if run.last else None)
    except torch.OutOfMemoryError as error:
        raise LlasaError(
            f"The GPU's memory is not enough for batches of {options.tokens_per_batch} tokens.",
            "Fewer --tokens-per-batch and more --accumulate, --gradient-checkpointing, or --lora.",
        ) from error
    trainer.draw()


def _speaker(run: _Run) -> Callable[[Any, int], object] | None:
    if run.options.speak_every <= 0:
        return None
    from llasa_cli.training.samples import Samples

    folder = find_codec(run.options.output, run.about.get("codec"))
    return Samples(run.options, run.prompt_format, run.held_out, folder, run.about).speak


# --- before training ---


def quiet_libraries() -> None:
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def _last_checkpoint(options: FinetuneOptions) -> Path | None:
    """The newest `checkpoint-N` that was written to its end."""
    found = [path for path in options.output.glob("checkpoint-*") if (path / PROGRESS_FILE).is_file()]
    if found and not options.resume:
        raise UsageError(f"There is a run in {options.output} already.", "Go on with it, or name another folder.")
    return max(found, key=lambda path: int(path.name.rsplit("-", 1)[1]), default=None)


def _was_cut_off(folder: Path) -> bool:
    """Whether a run of its own ended here in its first save: then what it has written of a model may be replaced.

    `llasa.json` tells of no step until the model is whole.
    """
    about = read_metadata(folder)
    steps = about.get("steps")
    return "recipe" in about and (steps == 0 or (folder / f"checkpoint-{steps}").is_dir())


def _refuse_others_checkpoints(folder: Path) -> None:
    """Raises UsageError where another trainer keeps its checkpoints: they would be taken for old ones and removed."""
    if "recipe" not in read_metadata(folder) and any(folder.glob("checkpoint-*")):
        raise UsageError(f"There are another program's checkpoints in {folder}.", "Name another folder with -o.")


def _drop_unfinished(options: FinetuneOptions) -> None:
    """Checkpoints whose writing was cut off: nobody goes on from them, and they take room."""
    for path in options.output.glob("checkpoint-*"):
        if not (path / PROGRESS_FILE).is_file():
            shutil.rmtree(path, ignore_errors=True)


def _progress(last: Path | None) -> dict[str, Any]:
    return {} if last is None else json.loads((last / PROGRESS_FILE).read_text(encoding="utf-8"))


def base_name(model: str | None) -> str | None:
    """What llasa.json calls the model started from: a folder by its whole path, to be found from any other."""
    if model is None or model == BUILT_IN_MODEL or not Path(model).expanduser().is_dir():
        return model
    return str(Path(model).expanduser().resolve())


def _check_base(options: FinetuneOptions) -> None:
    """Raises UsageError: The run in the output folder began with another model than the one that is named now."""
    began = read_metadata(options.output).get("base")
    named = base_name(options.model)
    if named is None or named in (began, base_name(began)):
        return
    if began is not None and repo_of(began) == repo_of(named) is not None:  # 1b, HKUSTAudio/Llasa-1B
        return
    # A folder may lie elsewhere by now, or on another machine.
    moved = began is not None and not Path(began).is_dir() and Path(began).name == Path(named).name
    if not (moved and Path(named).is_dir()):
        raise UsageError(
            f"The run in {options.output} began with {began or 'a fresh model'}, not with {options.model}.",
            "Leave -m out, or name another folder with -o.",
        )


def _compare_data(options: FinetuneOptions, about: dict[str, Any], note: Callable[[str], None]) -> None:
    began = (about.get("data") or {}).get("fingerprint")
    now = None if options.online else data_fingerprint(options.data)
    if None not in (began, now) and began != now:
        note(f"The run in {options.output} began with other data than what is in {options.data} now.")


def _start_folder(options: FinetuneOptions, last: Path | None) -> Path | None:
    """The checkpoint to start from; None for a fresh model. A whole model's run that goes on needs neither any more."""
    if last is not None and options.lora is None:
        if is_adapter(options.output):
            raise UsageError(f"The run in {options.output} trains an adapter.", "Go on with --lora.")
        return last
    if last is not None and not is_adapter(options.output):
        raise UsageError(f"The run in {options.output} trains a whole model.", "Go on without --lora.")
    if last is not None and options.lora is not None:
        _check_adapter(options.output, options.lora)
    if last is not None and options.model is None:
        return find_model(base_of(options.output))
    if (options.model is None) == (options.fresh is None):
        raise UsageError("A run starts from a checkpoint or from a fresh configuration.", "Give --model or --fresh.")
    if options.fresh is not None:
        if options.tokenizer is None:
            raise UsageError("A fresh model needs a tokenizer.", "Name its folder with --tokenizer.")
        return None
    assert options.model is not None
    folder = find_model(options.model)
    if is_adapter(folder):
        raise UsageError(
            f"{folder} holds an adapter.", "Merge it first: llasa finetune --merge ADAPTER -o FOLDER, and train that."
        )
    return folder


def _check_adapter(folder: Path, wanted: LoraOptions) -> None:
    """Raises UsageError: The adapter in the output folder has another shape than the one that is asked for now."""
    has = read_json_object(folder / "adapter_config.json")
    rank, alpha, targets = int(has["r"]), float(has["lora_alpha"]), sorted(has["target_modules"])
    if (rank, alpha, targets) != (wanted.rank, wanted.alpha, sorted(wanted.targets)):
        flags = f"--lora-rank {rank} --lora-alpha {alpha:g} " + " ".join(f"--lora-target {name}" for name in targets)
        raise UsageError(f"The adapter in {folder} was begun with other settings.", f"Go on with {flags}.")


def _tokenizer_folder(options: FinetuneOptions, start: Path | None, last: Path | None) -> Path:
    """Where the tokenizer is read from; a text model's is written anew, with Llasa's tokens."""
    if last is not None:
        return options.output
    folder = options.tokenizer or start
    assert folder is not None, "checked by _start_folder"
    if start is None or knows_speech(folder):
        return folder
    new = options.output / NEW_TOKENIZER / str(ranks()[0])  # each process its own: nobody reads what another writes
    extend_tokenizer(folder, new, _code_count(options))
    return new


def _drop_new_tokenizer(options: FinetuneOptions) -> None:
    """It has been read and copied."""
    folder = options.output / NEW_TOKENIZER
    shutil.rmtree(folder / str(ranks()[0]), ignore_errors=True)
    with suppress(OSError):  # absent, or another process's is still there
        folder.rmdir()


def _code_count(options: FinetuneOptions) -> int:
    """How many codes a text model is given: those of the codec, or of the data."""
    if options.codec is not None:
        return codec_size(options.codec)
    return int(read_index(options.data).get("code_count", CODE_COUNT))


def _steps(options: FinetuneOptions, rows: Data) -> int | None:
    """How many steps the run has; None if it is told in minutes."""
    given = [value for value in (options.steps, options.epochs, options.minutes) if value is not None]
    if len(given) != 1 or given[0] <= 0:
        raise UsageError("How long to train?", "Give one of --steps, --epochs and --minutes, above 0.")
    if options.epochs is not None:
        one_pass = LengthGroupedBatchSampler(
            rows.lengths, options.tokens_per_batch, options.seed, rows=options.rows_per_batch
        )
        return max(1, round(options.epochs * one_pass.in_one_pass() / (options.accumulate * ranks()[1])))
    return options.steps


def _read_data(
    options: FinetuneOptions,
    prompt_format: PromptFormat,
    tokens: Path,
    start: Path | None,
    device: torch.device,
    note: Callable[[str], None],
) -> tuple[Data, Data | None]:
    """To train and to judge on; what is left out is told."""
    rows: Data
    held_out: Data | None
    made_with = read_index(options.data).get("tokenizer")
    if made_with is not None and made_with != tokenizer_fingerprint(tokens):
        raise UsageError(
            f"{options.data} was made for another tokenizer than that of {tokens}.", "Run `llasa prepare` for this one."
        )
    if options.online:
        home = next((place for place in (tokens, start) if place is not None and read_metadata(place)), options.output)
        rows, held_out = _read_recordings(options, prompt_format, home, device, note)
    else:
        rows = SpeechDataset(
            options.data,
            "train",
            prompt_format,
            only=options.speakers,
            untagged=options.untagged,
            seed=options.seed,
            context=options.context,
            textless=options.textless,
        )
        if rows.cut:
            note(
                f"{rows.cut} rows are left out: longer than --context {options.context}, or without this model's markers."
            )
        split = held_out_split(options.data)
        held_out = (
            SpeechDataset(options.data, split, prompt_format, options.speakers, context=options.context)
            if split
            else None
        )
    if options.chat:
        conversations = ChatRows(options.chat, prompt_format, options.context)
        if not len(conversations):
            raise UsageError(f"No conversation fits into --context {options.context}.", "Shorten them.")
        if conversations.cut:
            note(f"{conversations.cut} conversations are left out: longer than --context {options.context}.")
        rows = ConcatDataset(rows, conversations)
    return rows, held_out if held_out is not None and len(held_out) else None


def _read_recordings(
    options: FinetuneOptions, prompt_format: PromptFormat, home: Path, device: torch.device, note: Callable[[str], None]
) -> tuple[Data, Data | None]:
    """Rows that are encoded as they are read, by the codec that belongs to the model."""
    from llasa_cli.codec.codec import load_codec
    from llasa_cli.training.online_dataset import AudioRows

    if options.workers > 0:
        raise UsageError("The codec runs in the training process itself when online.", "Leave --workers out.")
    for flag, share in (("--textless", options.textless), ("--untagged", options.untagged)):
        if share > 0:
            raise UsageError(
                "--online reads every row with its text and its speaker.",
                f"For {flag}, `llasa prepare` the data first.",
            )
    codec = load_codec(find_codec(home, options.codec or read_metadata(home).get("codec")), str(device))
    if codec.code_count != prompt_format.code_count:
        raise UsageError(
            f"The model has {prompt_format.code_count} speech codes, the codec {codec.code_count}.",
            "Name the codec that belongs to the model with --codec.",
        )
    recordings = AudioRows.read((options.data,), prompt_format, codec, options.context, options.speakers)
    for reason, count in recordings.cut.items():
        note(f"{count} recordings are left out: {reason}.")
    rows, held_out = recordings.split(options.validation, options.seed)
    for part in (rows, held_out):
        if part is not None:
            part.tell = note
    return rows, held_out


def _about(
    options: FinetuneOptions,
    rows: Data,
    prompt_format: PromptFormat,
    known_speakers: tuple[str, ...],
    start: Path | None,
) -> dict[str, Any]:
    """What goes into llasa.json. The voice spoken with by default is the one most rows are of."""
    about: dict[str, Any] = {"format": 1} | (read_metadata(start) if start is not None else {})
    about.pop("merged", None)  # of the base's own making
    counts = Counter(name for name in rows.speakers if name is not None)
    about["speakers"] = list(dict.fromkeys([*known_speakers, *sorted(counts)]))
    about["default_speaker"] = counts.most_common(1)[0][0] if counts else None
    about["base"] = base_name(options.model)
    about["chats"] = bool(options.chat)  # what is trained on speech alone forgets how
    if prompt_format.spell_out:
        about["spell_out"] = True  # of a fresh model's tokenizer: as its rows were written, so is what it speaks
    about["protocol"] = describe_prompt_format(prompt_format)
    about["recipe"] = describe_recipe(options)
    about["data"] = {"fingerprint": None if options.online else data_fingerprint(options.data), "rows": len(rows)}
    return about | {"steps": 0, "tokens": 0}


def _begin_folder(
    options: FinetuneOptions, prompt_format: PromptFormat, tokens: Path, start: Path | None, about: dict[str, Any]
) -> None:
    """Everything of the checkpoint but the weights."""
    about["codec"] = _bring_codec(options, prompt_format, start, about.get("codec"))
    copy_files(tokens, options.output, TOKENIZER_FILES)
    write_json(options.output / "llasa.json", about)


def _bring_codec(options: FinetuneOptions, prompt_format: PromptFormat, start: Path | None, named: str | None) -> str:
    """What llasa.json calls the codec. A folder comes along (as hard links where the disk can), a repository is named."""
    if options.codec is not None:
        codec_size(options.codec)  # refuses what is none
        folder = Path(options.codec)
        if not folder.is_dir():
            return options.codec
    elif start is not None and (start / (named or "codec")).is_dir():
        folder = start / (named or "codec")
    elif named is not None or prompt_format.code_count == CODE_COUNT:
        return named or PUBLISHED_CODEC
    else:
        raise UsageError(
            f"Which codec do these {prompt_format.code_count} codes belong to?", "Name its folder with --codec."
        )
    made_with = read_index(options.data).get("codec")
    if made_with is not None and made_with != codec_identity(folder):
        raise UsageError(
            f"{options.data} was encoded by another codec than that in {folder}.", "Run `llasa prepare` with this one."
        )
    bring_folder(folder, options.output / "codec")
    return "codec"


def bring_folder(source: Path, target: Path) -> None:
    """As hard links where the disk can, else as copies. What is there already stays as it is."""
    shutil.copytree(source, target, copy_function=_link_or_copy, dirs_exist_ok=True)


def _link_or_copy(source: str, target: str) -> None:
    with suppress(FileNotFoundError):
        if os.path.samefile(source, target):
            return
    Path(target).unlink(missing_ok=True)
    try:
        os.link(os.path.realpath(source), target)  # the hub's cache holds symbolic links
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)
