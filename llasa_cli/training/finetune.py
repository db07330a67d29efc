"""Training files and a model -> a checkpoint folder for `llasa say -m`.

The output folder (see `run_state`) also gets log.jsonl and loss.svg, the losses as lines and as a picture, and spoken/,
the speech samples. Under torchrun every process runs this; process 0 writes, and the others wait for it where they must.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llasa_cli.checkpoint.metadata import METADATA_FILE, read_metadata
from llasa_cli.checkpoint.resolve import find_codec
from llasa_cli.codec.codec import codec_identity, limit_onednn_cache
from llasa_cli.device import pick_device
from llasa_cli.errors import LlasaError, UsageError
from llasa_cli.files import bring_folder, copy_files, output_folder, write_json
from llasa_cli.hub.catalog import PUBLISHED_CODEC
from llasa_cli.prompt import PromptFormat
from llasa_cli.prompt_tokens import CODE_COUNT
from llasa_cli.training.dataset import TrainingRows, read_index
from llasa_cli.training.finetune_data import count_steps, read_data
from llasa_cli.training.options import FinetuneOptions
from llasa_cli.training.run import NO_CALLBACKS, Callbacks, Run
from llasa_cli.training.run_state import (
    base_name,
    data_fingerprint,
    delete_unfinished,
    describe_prompt_format,
    describe_recipe,
    read_progress,
    step_of,
)
from llasa_cli.training.schedule import Clock
from llasa_cli.training.starting_point import (
    StartingPoint,
    find_start,
    note_odd_settings,
    remove_new_tokenizer,
    with_learning_rate,
)
from llasa_cli.training.stop_signal import StopSignals
from llasa_cli.training.trainer_arguments import check_packages, process_rank, training_arguments
from llasa_cli.training.vocabulary import TOKENIZER_FILES, codec_size

if TYPE_CHECKING:
    import torch

    from llasa_cli.training.trainer import SpeechTrainer


def finetune(options: FinetuneOptions, callbacks: Callbacks = NO_CALLBACKS) -> dict[str, Any]:
    """Train a model, or resume the run in the output folder.

    SIGINT, SIGTERM and SIGHUP end the run after its current step with a save; the signal then takes effect.

    Returns:
        The checkpoint's `llasa.json`, with `minutes`.

    Raises:
        LlasaError: An optional package is missing, the disk is full, or the training diverged.
        UsageError: Options or data contradict each other.
        ModelError: The model is missing or broken.
        KeyboardInterrupt: Ctrl-C, after the save.
    """
    device = pick_device(options.device)
    check_packages(options, device)
    quiet_libraries()
    limit_onednn_cache()
    with output_folder(options.output):
        run = _set_up(options, device, callbacks.on_note)
        step = step_of(run.start.resumed) if run.start.resumed else 0
        if run.clock.share(step) >= 1:
            callbacks.on_note(f"The run in {options.output} is complete. A greater length resumes it.")
        else:
            _train(run, callbacks)
        return read_metadata(options.output) | {"minutes": round(run.clock.spent() / 60, 2)}


def quiet_libraries() -> None:
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


# --- before training ---


def _set_up(options: FinetuneOptions, device: torch.device, note: Callable[[str], None]) -> Run:
    """Read model, tokenizer and data, and write everything of the output folder but the weights."""
    start = find_start(options)
    prompt_format = PromptFormat.load(start.tokenizer)
    known_speakers = prompt_format.speakers
    prompt_format.speakers = ()  # the data may bring new ones
    rows, held_out = read_data(options, prompt_format, start, device, note)
    steps = count_steps(options, rows)
    seconds = options.minutes * 60 if options.minutes is not None else None
    clock = Clock(steps, seconds, float(read_progress(start.resumed).get("seconds", 0.0)))
    options = with_learning_rate(options, start, steps, prompt_format.vocabulary_size)
    note_odd_settings(options, start, steps, note)
    arguments = training_arguments(options, steps, device)
    with arguments.main_process_first():  # the other processes wait until the folder is written
        if process_rank()[0] == 0:
            delete_unfinished(options.output)
            if start.resumed is None or not read_metadata(options.output):
                metadata = _describe_run(options, rows, prompt_format, known_speakers, start)
                _begin_folder(options, prompt_format, start, metadata)
    remove_new_tokenizer(options.output)
    metadata = read_metadata(options.output)
    if start.resumed is not None and options.model is not None:
        metadata |= {"base": base_name(options.model)}  # it may have moved
    return Run(options, prompt_format, rows, held_out, clock, device, arguments, start, metadata)


def _describe_run(
    options: FinetuneOptions,
    rows: TrainingRows,
    prompt_format: PromptFormat,
    known_speakers: tuple[str, ...],
    start: StartingPoint,
) -> dict[str, Any]:
    """The new checkpoint's llasa.json. The default speaker is the one with the most rows."""
    metadata: dict[str, Any] = {"format": 1} | (read_metadata(start.folder) if start.folder is not None else {})
    for name in ("merged", "length_bands"):  # they describe the base's origin and its speakers' pace
        metadata.pop(name, None)
    counts = Counter(name for name in rows.speakers if name is not None)
    metadata["speakers"] = list(dict.fromkeys([*known_speakers, *sorted(counts)]))
    metadata["default_speaker"] = counts.most_common(1)[0][0] if counts else None
    notes = metadata.get("speaker_notes") or {}
    metadata["speaker_notes"] = {name: note for name, note in notes.items() if name not in counts} or None
    metadata["base"] = base_name(options.model)
    metadata["chats"] = bool(options.chat)  # a model that is trained on speech alone forgets how to chat
    if prompt_format.spell_out:
        metadata["spell_out"] = True  # its prompts must be normalized as its rows were
    metadata["protocol"] = describe_prompt_format(prompt_format)
    metadata["recipe"] = describe_recipe(options)
    fingerprint = None if options.online else data_fingerprint(options.data)
    metadata["data"] = {"fingerprint": fingerprint, "rows": len(rows)}
    return metadata | {"steps": 0, "tokens": 0}


def _begin_folder(
    options: FinetuneOptions, prompt_format: PromptFormat, start: StartingPoint, metadata: dict[str, Any]
) -> None:
    """Write everything of the checkpoint but the weights."""
    metadata["codec"] = _bring_codec(options, prompt_format, start.folder, metadata.get("codec"))
    copy_files(start.tokenizer, options.output, TOKENIZER_FILES)
    write_json(options.output / METADATA_FILE, metadata)


def _bring_codec(options: FinetuneOptions, prompt_format: PromptFormat, start: Path | None, named: str | None) -> str:
    """The codec's name in llasa.json. A folder is brought along; a repository is only named."""
    if options.codec is not None:
        codec_size(options.codec)  # raises if it is not a codec
        folder = Path(options.codec)
        if not folder.is_dir():
            return options.codec
    elif start is not None and (start / (named or "codec")).is_dir():
        folder = start / (named or "codec")
    elif named is not None or prompt_format.code_count == CODE_COUNT:
        return named or PUBLISHED_CODEC
    else:
        raise UsageError(
            f"The codec of these {prompt_format.code_count} speech codes is not known.", "Name its folder with --codec."
        )
    prepared_with = read_index(options.data).get("codec")
    if prepared_with is not None and prepared_with != codec_identity(folder):
        raise UsageError(
            f"{options.data} was encoded by another codec than the one in {folder}.",
            "Run `llasa prepare` with this codec.",
        )
    bring_folder(folder, options.output / "codec")
    return "codec"


# --- training ---


def _train(run: Run, callbacks: Callbacks) -> None:
    import torch
    from transformers import set_seed

    output = run.options.output

    def on_request() -> None:
        callbacks.on_note("Stopping after this step, with a save. Press Ctrl-C again to stop without one.")

    set_seed(run.options.seed)
    _read_states_of_either_numpy()
    stop = StopSignals(on_request)
    trainer = _trainer(run, callbacks, stop)
    with stop:
        try:
            trainer.train(resume_from_checkpoint=str(run.start.resumed) if run.start.resumed else None)
        except torch.OutOfMemoryError as error:
            raise LlasaError(
                f"The GPU has too little memory for batches of {run.options.tokens_per_batch} tokens.",
                "Use fewer --tokens-per-batch and more --accumulate, --gradient-checkpointing, or --lora.",
            ) from error
        trainer.draw_losses()
    step = trainer.state.global_step
    if trainer.share(step) < 1:  # a signal to this process, or to another one, has stopped the run
        callbacks.on_note(f"Saved step {step} in {output}. The same command resumes the run.")
        stop.deliver()


def _read_states_of_either_numpy() -> None:
    """Let runs resume that were saved with numpy 1 or 2, whichever is installed: random states name a function of numpy's."""
    import numpy as np
    import torch

    reconstruct: Any = np.empty(0).__reduce__()[0]
    torch.serialization.add_safe_globals(
        [(reconstruct, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")]
    )


def _trainer(run: Run, callbacks: Callbacks, stop: StopSignals) -> SpeechTrainer:
    from llasa_cli.training.loss import use_labeled_forward
    from llasa_cli.training.model import build_model, without_adapter
    from llasa_cli.training.samples import SpeechSamples
    from llasa_cli.training.trainer import SpeechTrainer

    options, start = run.options, run.start
    # A whole model resumes from its checkpoint; the base of an adapter never changes.
    weights = start.resumed if start.resumed is not None and options.lora is None else start.folder
    model = build_model(options, run.prompt_format, weights, run.device)
    use_labeled_forward(without_adapter(model))
    samples = None
    if options.speak_every > 0:
        codec = find_codec(options.output, run.metadata.get("codec"))
        samples = SpeechSamples(options, run.prompt_format, run.held_out, codec, run.metadata)
    return SpeechTrainer(model, run, callbacks, stop, samples)
