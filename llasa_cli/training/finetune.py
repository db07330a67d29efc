"""Training files and a model -> a checkpoint folder that `llasa say` speaks with.

Out, in one folder:

    config.json, model.safetensors, tokenizer files, llasa.json    the model as of the last save, each file replaced as a
                                                                   whole: another process can read it at any time
    checkpoint-N/                                                  what a stopped run goes on from (the last two)
    log.jsonl                                                      a line every so many steps
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llasa_cli.codec.model import keep_few_primitives
from llasa_cli.device import pick_device
from llasa_cli.errors import LlasaError, ModelError, UsageError
from llasa_cli.hub.cache import codec_identity, find_model
from llasa_cli.hub.catalogue import PUBLISHED_CODEC
from llasa_cli.protocol import Protocol
from llasa_cli.settings import FinetuneOptions
from llasa_cli.training.data import Batches, Rows, read_index
from llasa_cli.training.prepare import tokenizer_fingerprint
from llasa_cli.training.schedule import Clock

if TYPE_CHECKING:
    import torch

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")
PUBLISHED_CODES = 65_536


def finetune(options: FinetuneOptions, on_log: Callable[[dict[str, Any]], None] | None = None) -> dict[str, Any]:
    """Train, or go on training.

    Args:
        options: See there.
        on_log: Called with each line that goes to log.jsonl.

    Returns:
        The checkpoint's `llasa.json`, with `minutes`.

    Raises:
        UsageError: Options or data that do not fit together.
        ModelError: The model to start from is not one.
    """
    _need_accelerate()
    _quiet_libraries()
    keep_few_primitives()
    device = pick_device(options.device)
    options.output.mkdir(parents=True, exist_ok=True)
    last = _last_checkpoint(options)
    start = last or _start_folder(options)
    tokens = _tokenizer_folder(options, start, last)
    protocol = Protocol.load(tokens)
    known_speakers = protocol.speakers
    protocol.speakers = ()  # the data may bring new ones
    rows, held_out = _read_data(options, protocol, tokens)
    about = _about(options, rows, known_speakers, None if last or options.fresh else start)
    clock = Clock(
        _steps(options, rows),
        options.minutes * 60 if options.minutes is not None else None,
        float(_progress(last).get("seconds", 0.0)),
    )
    if last is None:
        _begin_folder(options, protocol, tokens, start, about)
    else:
        about = json.loads((options.output / "llasa.json").read_text(encoding="utf-8"))
    step = int(last.name.rsplit("-", 1)[1]) if last else 0
    if clock.share(step) < 1:
        _train(options, protocol, rows, held_out, clock, device, start, last, about, on_log)
    written: dict[str, Any] = json.loads((options.output / "llasa.json").read_text(encoding="utf-8"))
    return written | {"minutes": round(clock.spent() / 60, 2)}


def _train(
    options: FinetuneOptions,
    protocol: Protocol,
    rows: Rows,
    held_out: Rows | None,
    clock: Clock,
    device: torch.device,
    start: Path | None,
    last: Path | None,
    about: dict[str, Any],
    on_log: Callable[[dict[str, Any]], None] | None,
) -> None:
    from transformers import set_seed

    from llasa_cli.training.loss import score_labels_only
    from llasa_cli.training.trainer import SpeechTrainer

    set_seed(options.seed)
    # On a CPU and at these lengths torch's fused attention is slower than the plain one, most of all backward: 4,400
    # against 5,600 tokens a second of a whole training step (6 layers, 256 wide, bfloat16, one Zen 5 core).
    attention = "eager" if device.type == "cpu" else "sdpa"
    model = _read_model(start, protocol, attention) if start is not None else _fresh_model(options, protocol, attention)
    score_labels_only(model)

    def export(trained: Any, step: int, tokens_seen: int) -> None:
        export_checkpoint(trained, options.output, about | {"steps": step, "tokens": tokens_seen})

    trainer = SpeechTrainer(model, options, protocol, rows, held_out, clock, device, export, on_log)
    trainer.tokens_seen = int(_progress(last).get("tokens", 0))
    trainer.train(resume_from_checkpoint=str(last) if last else None)


# --- before training ---


def _need_accelerate() -> None:
    from importlib.util import find_spec

    if find_spec("accelerate") is None:
        raise LlasaError("Training needs the package accelerate.", "pip install 'llasa-cli[train]'")


def _quiet_libraries() -> None:
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()


def _last_checkpoint(options: FinetuneOptions) -> Path | None:
    """The newest `checkpoint-N` that was written to its end."""
    from llasa_cli.training.trainer import PROGRESS_FILE

    found = [path for path in options.output.glob("checkpoint-*") if (path / PROGRESS_FILE).is_file()]
    if found and not options.resume:
        raise UsageError(f"There is a run in {options.output} already.", "Go on with it, or name another folder.")
    return max(found, key=lambda path: int(path.name.rsplit("-", 1)[1]), default=None)


def _progress(last: Path | None) -> dict[str, Any]:
    from llasa_cli.training.trainer import PROGRESS_FILE

    return {} if last is None else json.loads((last / PROGRESS_FILE).read_text(encoding="utf-8"))


def _start_folder(options: FinetuneOptions) -> Path | None:
    """The checkpoint to start from; None for a fresh model."""
    if (options.model is None) == (options.fresh is None):
        raise UsageError("A run starts from a checkpoint or from a fresh configuration.", "Give --model or --fresh.")
    if options.fresh is not None:
        if options.tokenizer is None:
            raise UsageError("A fresh model needs a tokenizer.", "Name its folder with --tokenizer.")
        return None
    assert options.model is not None
    return find_model(options.model)


def _tokenizer_folder(options: FinetuneOptions, start: Path | None, last: Path | None) -> Path:
    if last is not None:
        return options.output
    folder = options.tokenizer or start
    assert folder is not None, "checked by _start_folder"
    return folder


def _steps(options: FinetuneOptions, rows: Rows) -> int | None:
    """How many steps the run has; None if it is told in minutes."""
    given = [value for value in (options.steps, options.epochs, options.minutes) if value is not None]
    if len(given) != 1 or given[0] <= 0:
        raise UsageError("How long to train?", "Give one of --steps, --epochs and --minutes, above 0.")
    if options.epochs is not None:
        batches = Batches(rows.lengths, options.tokens_per_batch, options.seed).in_one_pass()
        return max(1, round(options.epochs * batches / options.accumulate))
    return options.steps


def _read_data(options: FinetuneOptions, protocol: Protocol, tokens: Path) -> tuple[Rows, Rows | None]:
    made_with = read_index(options.data).get("tokenizer")
    if made_with is not None and made_with != tokenizer_fingerprint(tokens):
        raise UsageError(
            f"{options.data} was made for another tokenizer than that of {tokens}.", "Run `llasa prepare` for this one."
        )
    rows = Rows(options.data, "train", protocol, options.speakers, options.untagged, options.seed)
    if not (options.data / "val_input_ids.memmap").is_file():
        return rows, None
    held_out = Rows(options.data, "val", protocol, options.speakers)
    return rows, held_out if len(held_out) else None


def _about(options: FinetuneOptions, rows: Rows, known_speakers: tuple[str, ...], start: Path | None) -> dict[str, Any]:
    """What goes into llasa.json. The voice spoken with by default is the one most rows are of."""
    source = start / "llasa.json" if start is not None else None
    about: dict[str, Any] = (
        json.loads(source.read_text(encoding="utf-8")) if source is not None and source.is_file() else {"format": 1}
    )
    counts = Counter(name for name in rows.speakers if name is not None)
    about["speakers"] = list(dict.fromkeys([*known_speakers, *sorted(counts)]))
    about["default_speaker"] = counts.most_common(1)[0][0] if counts else None
    about["base"] = options.model
    return about | {"steps": 0, "tokens": 0}


def _begin_folder(
    options: FinetuneOptions, protocol: Protocol, tokens: Path, start: Path | None, about: dict[str, Any]
) -> None:
    """Everything of the checkpoint but the weights."""
    from llasa_cli.training.trainer import write_json

    about["codec"] = _bring_codec(options, protocol, start, about.get("codec"))
    for name in TOKENIZER_FILES:
        if (tokens / name).is_file():
            shutil.copyfile(tokens / name, options.output / name)
    write_json(options.output / "llasa.json", about)


def _bring_codec(options: FinetuneOptions, protocol: Protocol, start: Path | None, named: str | None) -> str:
    """What llasa.json calls the codec. A folder comes along (as hard links where the disk can), a repository is named."""
    if options.codec is not None:
        folder = Path(options.codec)
        if not folder.is_dir():
            return options.codec
    elif start is not None and (start / (named or "codec")).is_dir():
        folder = start / (named or "codec")
    elif named is not None or protocol.code_count == PUBLISHED_CODES:
        return named or PUBLISHED_CODEC
    else:
        raise UsageError(
            f"Which codec do these {protocol.code_count} codes belong to?", "Name its folder with --codec."
        )
    made_with = read_index(options.data).get("codec")
    if made_with is not None and made_with != codec_identity(folder):
        raise UsageError(
            f"{options.data} was encoded by another codec than that in {folder}.", "Run `llasa prepare` with this one."
        )
    shutil.copytree(folder, options.output / "codec", copy_function=_link_or_copy, dirs_exist_ok=True)
    return "codec"


def _link_or_copy(source: str, target: str) -> None:
    Path(target).unlink(missing_ok=True)
    try:
        os.link(os.path.realpath(source), target)  # the hub's cache holds symbolic links
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)


# --- the model ---


def _read_model(folder: Path, protocol: Protocol, attention: str) -> Any:
    """A Llama checkpoint in float32 (what the optimiser needs), with as many embeddings as the tokenizer has tokens."""
    import torch
    from transformers import LlamaForCausalLM

    config = folder / "config.json"
    kind = json.loads(config.read_text(encoding="utf-8")).get("model_type") if config.is_file() else None
    if kind != "llama":
        raise ModelError(
            f"{folder} holds no Llama checkpoint ({kind or 'no config.json'}).", "Pass a Llasa checkpoint."
        )
    try:
        model = LlamaForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation=attention, use_safetensors=True, local_files_only=True
        )
    except Exception as error:  # the libraries' errors for a broken file have no common type
        raise ModelError(f"The model in {folder} can't be loaded: {error}", "Fetch it again.") from error
    if model.config.vocab_size < protocol.vocabulary_size:
        model.resize_token_embeddings(protocol.vocabulary_size)
    model.generation_config.eos_token_id = protocol.stop_id
    return model


def _fresh_model(options: FinetuneOptions, protocol: Protocol, attention: str) -> Any:
    """Random weights in the shape that the configuration file tells; the vocabulary comes from the tokenizer."""
    from transformers import LlamaConfig, LlamaForCausalLM

    assert options.fresh is not None
    try:
        shape = json.loads(options.fresh.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{options.fresh} can't be read: {error}") from error
    shape |= {
        "vocab_size": protocol.vocabulary_size,
        "bos_token_id": None,
        "eos_token_id": protocol.stop_id,
        "pad_token_id": protocol.pad_id,
    }
    return LlamaForCausalLM._from_config(LlamaConfig(**shape), attn_implementation=attention)


def export_checkpoint(model: Any, folder: Path, about: dict[str, Any]) -> None:
    """The model in bfloat16, as published checkpoints are, and `llasa.json`; each file appears whole."""
    import torch

    from llasa_cli.training.trainer import write_json

    part = folder / ".saving"
    shutil.rmtree(part, ignore_errors=True)
    tied = {"lm_head.weight"} if model.config.tie_word_embeddings else set()
    weights = {
        name: value.to(torch.bfloat16) if value.is_floating_point() else value
        for name, value in model.state_dict().items()
        if name not in tied  # in another dtype it would no longer be seen to be the embeddings, and be stored again
    }
    model.save_pretrained(part, state_dict=weights)
    config = json.loads((part / "config.json").read_text(encoding="utf-8"))
    # The Trainer turns the cache off in the model it trains; who speaks with it needs it.
    write_json(part / "config.json", config | {"dtype": "bfloat16", "use_cache": True})
    # The weights first: config and llasa.json then never tell of a model that is not there yet.
    for path in sorted(part.iterdir(), key=lambda path: path.suffix != ".safetensors"):
        path.replace(folder / path.name)
    part.rmdir()
    write_json(folder / "llasa.json", about)
