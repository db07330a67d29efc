"""Which files of a repository are fetched, and which repositories are not: decided from lists and small files alone.

Only configuration, tokenizer and safetensors are taken: a pickled checkpoint runs code when it is loaded, and no
Python file of a repository is ever fetched or run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llasa_cli.errors import ModelError
from llasa_cli.hub.cache_layout import LANGUAGE_MODELS, RemoteFile, is_safe_name, shards_of
from llasa_cli.hub.catalog import PUBLISHED_CODEC, REFUSED, Entry, repo_of

TEXTS = (
    "config.json",
    "generation_config.json",
    "llasa.json",
    "adapter_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "normalizer.json",
    "tokenizer.model",
    "preprocessor_config.json",
    "processor_config.json",
    "chat_template.jinja",
    "chat_template.json",
)
"""Files of a model beside its weights; README* and LICENSE* come too, for who wants to read them."""
_INDEX = "model.safetensors.index.json"
_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_LISTENERS = ("whisper",)
_CODECS = ("xcodec2", "wav2vec2-bert")  # the second hears for an X-Codec2 in its authors' format that leaves it out
_MARKERS = (
    "<|TEXT_UNDERSTANDING_START|>",
    "<|TEXT_UNDERSTANDING_END|>",
    "<|SPEECH_GENERATION_START|>",
    "<|SPEECH_GENERATION_END|>",
    "<|s_0|>",
)

Read = Callable[[RemoteFile], bytes]
"""Reads a small file from the hub, whole and checked."""


@dataclass(frozen=True)
class Selection:
    """What is fetched of a repository.

    Attributes:
        kind: "language model", "codec", "listener" or "adapter".
        files: In the order they are fetched: what decides whether the rest is worth it comes first.
        companion: What else it needs: its codec, or the model an adapter was trained on; None for nothing.
    """

    kind: str
    files: tuple[RemoteFile, ...]
    companion: str | None


def refuse_known(repo: str) -> None:
    """Refuse what is known to look like a Llasa and be none, before the hub is asked.

    Raises:
        ModelError: It is such a one.
    """
    reason = REFUSED.get(repo.lower())
    if reason is not None:
        raise ModelError(f"{repo} is not compatible with Llasa: {reason}.", "`llasa download --list` shows what is.")


def choose(repo: str, files: Sequence[RemoteFile], entry: Entry | None, read: Read) -> Selection:
    """Look at a repository's list of files and its configuration.

    Args:
        entry: What the catalogue knows of it.

    Raises:
        ModelError: It is no model that this program runs, or one that should not be trusted.
    """
    names = {file.name: file for file in files}
    for name in names:
        if not is_safe_name(name):
            raise ModelError(
                f"{repo} has a file named {name[:80]!r}, which would lie outside its folder.",
                "Don't use it: a name like that can only be meant to do harm.",
            )
    if "adapter_config.json" in names and "config.json" not in names:
        return _adapter(repo, names, read)
    _refuse_without_safetensors(repo, names)
    config = _object(repo, names, "config.json", read)
    kind = _kind(repo, config, entry)
    weights = _weights(repo, names, read)
    if kind == "language model" and "tokenizer.json" not in names:
        raise ModelError(f"{repo} has no tokenizer.json.", "Only checkpoints with a tokenizers file can be run.")
    about = _object(repo, names, "llasa.json", read) if "llasa.json" in names else {}
    own_codec, inside = _codec(repo, names, about, entry, read)
    texts = [file for name, file in names.items() if _is_text(name)]
    companion = own_codec if kind == "language model" else None
    return Selection(kind, (*_smallest_first(texts), *_smallest_first([*inside, *weights])), companion)


def check_tokenizer(path: Path, repo: str, text_model: bool) -> None:
    """Before the weights are fetched: does this tokenizer speak Llasa's tokens?

    Args:
        text_model: It is to be trained into one; it need not yet.

    Raises:
        ModelError: It has no such tokens, or counts them otherwise.
    """
    try:
        ids = _token_ids(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError, OSError, RecursionError) as error:
        raise ModelError(
            f"The tokenizer.json of {repo} can't be read ({error}).", "The checkpoint is broken."
        ) from error
    missing = [marker for marker in _MARKERS if marker not in ids]
    if missing and text_model:
        return
    if missing:
        if any("bicodec" in token for token in ids):
            why = "it speaks in the codes of another codec (BiCodec)"
        elif not any(re.fullmatch(r"<\|s_\d+\|>", token) for token in ids):
            why = f"its tokenizer has no {missing[0]}; it is a text model or speaks another way"
        else:
            why = f"its tokenizer has no {missing[0]}"
        hint = "A text model to train from is fetched with --text-model."
        raise ModelError(f"{repo} is not compatible with Llasa: {why}.", hint)
    first = ids["<|s_0|>"]
    for token, number in ids.items():
        code = re.fullmatch(r"<\|s_(\d+)\|>", token)
        if code and number != first + int(code[1]):
            raise ModelError(
                f"{repo} is not compatible with Llasa: its speech tokens stand in another order ({token})."
            )


def _token_ids(tokenizer: dict[str, Any]) -> dict[str, int]:
    """Every added token, and those of the vocabulary that are written like one."""
    vocabulary = tokenizer["model"].get("vocab")
    spelled = vocabulary.items() if isinstance(vocabulary, dict) else ()  # some kinds of vocabulary are lists
    ids = {token: int(number) for token, number in spelled if token.startswith("<|")}
    return ids | {str(token["content"]): int(token["id"]) for token in tokenizer["added_tokens"]}


# --- kinds ---


def _kind(repo: str, config: dict[str, Any], entry: Entry | None) -> str:
    if "auto_map" in config and entry is None:
        raise ModelError(
            f"{repo} wants Python code of its own to be run (auto_map in config.json).",
            "This program runs no code that comes with a model.",
        )
    quantised = config.get("quantization_config") or config.get("quantization")
    if quantised:
        method = quantised.get("quant_method", "MLX or the like") if isinstance(quantised, dict) else "unknown"
        raise ModelError(
            f"{repo} holds weights that are quantised already ({str(method)[:40]}).",
            "Fetch the original; it can be run in fewer bits with --dtype.",
        )
    if entry is not None:
        return "codec" if entry.codec is None else "language model"
    model_type = config.get("model_type")
    if model_type in LANGUAGE_MODELS:
        return "language model"
    if model_type in _CODECS or "'xcodec2" in str(config.get("architectures")).lower():
        return "codec"
    if model_type in _LISTENERS:
        return "listener"
    raise ModelError(
        f"{repo} is a model of the kind {str(model_type)[:40]!r}: not a Llasa, nor a codec of one.",
        "`llasa download --list` shows what is.",
    )


def _adapter(repo: str, names: dict[str, RemoteFile], read: Read) -> Selection:
    if "adapter_model.safetensors" not in names:
        _refuse_without_safetensors(repo, {})
    base = str(_object(repo, names, "adapter_config.json", read).get("base_model_name_or_path", ""))
    texts = [file for name, file in names.items() if _is_text(name)]
    return Selection(
        "adapter", (*_smallest_first(texts), names["adapter_model.safetensors"]), base if repo_of(base) else None
    )


def _refuse_without_safetensors(repo: str, names: dict[str, RemoteFile]) -> None:
    if any(name.endswith(".safetensors") for name in names):
        return
    if any(name.lower().endswith(".gguf") for name in names):
        raise ModelError(
            f"{repo} has GGUF files only, which this program does not run.",
            "Fetch the original (1b, 3b, 8b): --dtype int8 takes as little memory.",
        )
    pickled = [name for name in names if name.lower().endswith(_PICKLED)]
    if pickled:
        raise ModelError(
            f"{repo} has its weights only pickled ({pickled[0][:60]}), no safetensors.",
            "Pickled weights can run any code and are not fetched.",
        )
    raise ModelError(f"{repo} has no weights (no .safetensors file).", "`llasa download --list` shows what has.")


# --- files ---


def _weights(repo: str, names: dict[str, RemoteFile], read: Read, folder: str = "") -> list[RemoteFile]:
    """The files of the weights, and their index: those that loading will read, not every .safetensors there is."""
    index = folder + _INDEX
    if index in names and folder + "model.safetensors" not in names:
        shards = sorted(folder + name for name in shards_of(_object(repo, names, index, read)))
        for name in shards:
            if name not in names:
                raise ModelError(f"{repo} lacks {name}, which its index names.", "The checkpoint is not whole.")
        return [names[index], *(names[name] for name in shards)]
    if folder + "model.safetensors" in names:
        return [names[folder + "model.safetensors"]]
    found = [file for name, file in names.items() if re.fullmatch(re.escape(folder) + r"[^/]+\.safetensors", name)]
    if not found:
        raise ModelError(f"{repo} has no {folder}model.safetensors.", "Its weights lie where no loader looks.")
    return found


def _codec(
    repo: str, names: dict[str, RemoteFile], about: dict[str, Any], entry: Entry | None, read: Read
) -> tuple[str | None, list[RemoteFile]]:
    """Another repository that the codec is in, or the files of one that lies inside."""
    named = about.get("codec")
    if isinstance(named, str) and is_safe_name(named) and f"{named}/config.json" in names:
        return None, [names[f"{named}/config.json"], *_weights(repo, names, read, f"{named}/")]
    if isinstance(named, str) and repo_of(named) is not None:
        return named, []
    return (entry.codec if entry is not None else PUBLISHED_CODEC), []


def _is_text(name: str) -> bool:
    return name in TEXTS or re.fullmatch(r"(README|LICENSE|LICENCE|NOTICE)[\w.-]*", name, re.IGNORECASE) is not None


def _smallest_first(files: Sequence[RemoteFile]) -> list[RemoteFile]:
    return sorted(files, key=lambda file: (file.size, file.name))


def _object(repo: str, names: dict[str, RemoteFile], name: str, read: Read) -> dict[str, Any]:
    if name not in names:
        raise ModelError(f"{repo} has no {name}: it is no model that this program runs.")
    try:
        found = json.loads(read(names[name]))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"The {name} of {repo} is broken ({error}).") from error
    if not isinstance(found, dict):
        raise ModelError(f"The {name} of {repo} does not hold a JSON object.")
    return found
