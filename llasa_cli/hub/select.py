"""The choice of a repository's files, and the refusal of repositories, by the list of files and the small files alone.

Only configuration, tokenizer and safetensors files are downloaded, or one GGUF file, or a Whisper in CTranslate2's format (`model.bin`, which is no
pickle: its own loader reads plain arrays). A pickled checkpoint runs code when it is loaded, and no
Python file of a repository is ever downloaded or run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llasa_cli.checkpoint.gguf_file import read_gguf
from llasa_cli.errors import ModelError
from llasa_cli.hub.cache_layout import (
    CTRANSLATE2_WEIGHTS,
    LANGUAGE_MODELS,
    RemoteFile,
    is_ctranslate2,
    is_safe_name,
    shards_of,
)
from llasa_cli.hub.catalog import BICODEC, INCOMPATIBLE, PUBLISHED_CODEC, CatalogEntry, repo_of
from llasa_cli.prompt_tokens import token_names

SMALL_FILES = (
    "config.json",
    "generation_config.json",
    "llasa.json",
    "adapter_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocabulary.json",
    "vocabulary.txt",
    "merges.txt",
    "normalizer.json",
    "pronunciations.txt",
    "tokenizer.model",
    "preprocessor_config.json",
    "processor_config.json",
    "chat_template.jinja",
    "chat_template.json",
)
"""A model's files besides its weights. README*, LICENSE* and NOTICE* are downloaded as well, for people."""
_INDEX = "model.safetensors.index.json"
_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_RECOGNIZERS = ("whisper",)
_SPEAKER_MODELS = ("wavlm", "unispeech-sat")
_CODECS = (
    "xcodec2",
    "neucodec",
    "wav2vec2-bert",
)  # the last is the semantic encoder of an X-Codec2 in its original format
_SEE_LIST = "`llasa download --list` shows the models that can be used."
_HARMFUL = "Don't use this repository: such a name can only be meant to do harm."

ReadFile = Callable[[RemoteFile], bytes]
"""Reads a small file from the hub, complete and checked."""


@dataclass(frozen=True)
class Selection:
    """The files to download from a repository.

    Attributes:
        kind: "language model", "codec", "recognizer", "speaker model" or "adapter".
        files: The files in the order of the download: the small ones that may stop it come first.
        companion: The other repository that the model needs: its codec, or an adapter's base. None if there is none.
    """

    kind: str
    files: tuple[RemoteFile, ...]
    companion: str | None


def refuse_incompatible(repo: str) -> None:
    """Raise ModelError for a repository that is known to look like a Llasa without being one."""
    reason = INCOMPATIBLE.get(repo.lower())
    if reason is not None:
        raise ModelError(f"{repo} is not compatible with Llasa: {reason}.", _SEE_LIST)


def choose_gguf(names: Sequence[str], variant: str | None, repo: str) -> str:
    """The GGUF file of a repository that a name like "org/repo:Q4_K_M" asks for.

    Args:
        names: The repository's files.
        variant: The format at the end of the file's name, in any case, or the whole name. None takes the only file.

    Raises:
        ModelError: There is none, or more than one.
    """
    known = sorted(name for name in names if name.lower().endswith(".gguf") and "mmproj" not in name.lower())
    found = known if variant is None else [name for name in known if _is_variant(name, variant)]
    if len(found) == 1:
        return found[0]
    if len(found) > 1 and all(re.search(r"-\d{5}-of-\d{5}\.gguf$", name) for name in found):
        raise ModelError(f"The GGUF model in {repo} is split into {len(found)} files.", "Choose one that is whole.")
    listed = ", ".join(known[:20]) or "none"
    if not found:
        raise ModelError(f"{repo} has no GGUF file {variant or ''}".rstrip() + ".", f"Its GGUF files: {listed}.")
    raise ModelError(
        f"{repo} has several GGUF files: {listed}.", f"Name one of them by its format, such as {repo}:Q8_0."
    )


def _is_variant(name: str, variant: str) -> bool:
    stem, wanted = name.lower().removesuffix(".gguf"), variant.lower().removesuffix(".gguf")
    stem = re.sub(r"-\d{5}-of-\d{5}$", "", stem)
    return stem == wanted or re.search(rf"[-._/]{re.escape(wanted)}$", stem) is not None


def select_files(
    repo: str, files: Sequence[RemoteFile], entry: CatalogEntry | None, read: ReadFile, variant: str | None = None
) -> Selection:
    """Judge a repository by its list of files and its configuration.

    Args:
        entry: The repository's catalog entry.
        variant: The GGUF file that is asked for; see `choose_gguf`.

    Raises:
        ModelError: This program can't run the model, or should not trust it.
    """
    names = {file.name: file for file in files}
    for name in names:
        if not is_safe_name(name):
            raise ModelError(f"{repo} has a file named {name[:80]!r}, which would lie outside its folder.", _HARMFUL)
    has_safetensors = any(name.endswith(".safetensors") for name in names)
    if variant is not None or (not has_safetensors and any(name.lower().endswith(".gguf") for name in names)):
        return _select_gguf(repo, names, entry, variant)
    if "adapter_config.json" in names and "config.json" not in names:
        return _select_adapter(repo, names, read)
    if not has_safetensors and is_ctranslate2(names):
        return Selection("recognizer", (*_small_files(names), names[CTRANSLATE2_WEIGHTS]), None)
    _refuse_without_safetensors(repo, names)
    kind = _kind(repo, _read_object(repo, names, "config.json", read), entry)
    weights = _weights(repo, names, read)
    if kind == "language model" and "tokenizer.json" not in names:
        raise ModelError(f"{repo} has no tokenizer.json.", "Use a checkpoint that has one.")
    metadata = _read_object(repo, names, "llasa.json", read) if "llasa.json" in names else {}
    codec, codec_files = _codec(repo, names, metadata, entry, read)
    companion = codec if kind == "language model" else None
    return Selection(kind, (*_small_files(names), *_by_size([*codec_files, *weights])), companion)


def check_tokenizer(path: Path, repo: str, text_model: bool, in_gguf: bool = False) -> None:
    """Check that a tokenizer has the tokens of Llasa or NeuTTS: before the weights are downloaded, if it is not in their file.

    Args:
        path: A tokenizer.json.
        in_gguf: `path` is a GGUF file instead.
        text_model: Whether a text model without these tokens is accepted, as a start for training.

    Raises:
        ModelError: The tokens are missing or numbered in another order, or the file is damaged.
    """
    try:
        if in_gguf:
            tokens = read_gguf(path).metadata.get("tokenizer.ggml.tokens") or ()
            ids = {str(token): number for number, token in enumerate(tokens)}
        else:
            ids = _token_ids(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError, OSError, RecursionError) as error:
        raise ModelError(
            f"The tokenizer.json of {repo} can't be read ({error}).", "The checkpoint is damaged."
        ) from error
    names = token_names(ids)
    missing = names.missing_from(ids)
    if missing and text_model:
        return
    if missing:
        reason = f"its tokenizer has no {missing[0]}"
        if any("bicodec" in token for token in ids):
            reason = BICODEC
        elif not any(re.fullmatch(r"<\|s_\d+\|>", token) for token in ids):
            reason += "; it is a text model or has another prompt format"
        hint = "To train from a text model, download it with --text-model."
        raise ModelError(f"{repo} is not compatible with Llasa: {reason}.", hint)
    first = ids[names.first_code]
    for token, number in ids.items():
        code = re.fullmatch(rf"{re.escape(names.code_prefix)}(\d+)\|>", token)
        if code and number != first + int(code[1]):
            reason = f"its speech tokens are in another order ({token})"
            raise ModelError(f"{repo} is not compatible with Llasa: {reason}.", _SEE_LIST)


def _token_ids(tokenizer: dict[str, Any]) -> dict[str, int]:
    """The added tokens, and the tokens of the vocabulary that look like them."""
    vocabulary = tokenizer["model"].get("vocab")
    entries = vocabulary.items() if isinstance(vocabulary, dict) else ()  # some kinds of vocabulary are lists
    ids = {token: int(number) for token, number in entries if token.startswith("<|")}
    return ids | {str(token["content"]): int(token["id"]) for token in tokenizer["added_tokens"]}


# --- kinds ---


def _kind(repo: str, config: dict[str, Any], entry: CatalogEntry | None) -> str:
    if "auto_map" in config and entry is None:
        raise ModelError(
            f"{repo} needs Python code of its own (auto_map in config.json).",
            "This program runs no code of a model. Use a checkpoint without it.",
        )
    quantized = config.get("quantization_config") or config.get("quantization")
    if quantized:
        method = quantized.get("quant_method", "MLX or the like") if isinstance(quantized, dict) else "unknown"
        raise ModelError(
            f"The weights of {repo} are already quantized ({str(method)[:40]}).",
            "Download the original and run it with fewer bits by --dtype.",
        )
    model_type = config.get("model_type")
    if entry is not None and (entry.codec is None or model_type in LANGUAGE_MODELS):
        return "codec" if entry.codec is None else "language model"
    if model_type in LANGUAGE_MODELS:
        return "language model"
    if model_type in _CODECS or "'xcodec2" in str(config.get("architectures")).lower():
        return "codec"
    if model_type in _RECOGNIZERS:
        return "recognizer"
    if model_type in _SPEAKER_MODELS:
        return "speaker model"
    raise ModelError(f"{repo} is of type {str(model_type)[:40]!r}, neither a Llasa nor a codec of one.", _SEE_LIST)


def _select_adapter(repo: str, names: dict[str, RemoteFile], read: ReadFile) -> Selection:
    if "adapter_model.safetensors" not in names:
        _refuse_without_safetensors(repo, {})
    base = str(_read_object(repo, names, "adapter_config.json", read).get("base_model_name_or_path", ""))
    files = (*_small_files(names), names["adapter_model.safetensors"])
    return Selection("adapter", files, base if repo_of(base) else None)


def _select_gguf(repo: str, names: dict[str, RemoteFile], entry: CatalogEntry | None, variant: str | None) -> Selection:
    """Select one GGUF file, which holds configuration and tokenizer too, and the files for people."""
    chosen = names[choose_gguf(list(names), variant, repo)]
    for_people = [file for file in _small_files(names) if file.name not in SMALL_FILES]
    return Selection("language model", (*for_people, chosen), (entry and entry.codec) or PUBLISHED_CODEC)


def _refuse_without_safetensors(repo: str, names: dict[str, RemoteFile]) -> None:
    if any(name.endswith(".safetensors") for name in names):
        return
    pickled = [name for name in names if name.lower().endswith(_PICKLED)]
    if pickled:
        raise ModelError(
            f"{repo} has only pickled weights ({pickled[0][:60]}), no safetensors.",
            "Pickled weights can run any code. Use a checkpoint in safetensors.",
        )
    raise ModelError(f"{repo} has no weights (no .safetensors file).", _SEE_LIST)


# --- files ---


def _weights(repo: str, names: dict[str, RemoteFile], read: ReadFile, folder: str = "") -> list[RemoteFile]:
    """The weight files that a loader reads, with their index. There may be other .safetensors files."""
    index, single = folder + _INDEX, folder + "model.safetensors"
    if single in names:
        return [names[single]]
    if index in names:
        shards = sorted(folder + name for name in shards_of(_read_object(repo, names, index, read)))
        for name in shards:
            if name not in names:
                raise ModelError(f"{repo} lacks {name}, which its index names.", "The checkpoint is incomplete.")
        return [names[index], *(names[name] for name in shards)]
    found = [file for name, file in names.items() if re.fullmatch(re.escape(folder) + r"[^/]+\.safetensors", name)]
    if not found:
        raise ModelError(f"{repo} has no {single}.", "Use a checkpoint with weights in its main folder.")
    return found


def _codec(
    repo: str, names: dict[str, RemoteFile], metadata: dict[str, Any], entry: CatalogEntry | None, read: ReadFile
) -> tuple[str | None, list[RemoteFile]]:
    """The repository of the codec, or None and the files of a codec inside the checkpoint."""
    named = metadata.get("codec")
    if isinstance(named, str) and is_safe_name(named) and f"{named}/config.json" in names:
        return None, [names[f"{named}/config.json"], *_weights(repo, names, read, f"{named}/")]
    if isinstance(named, str) and repo_of(named) is not None:
        return named, []
    return (entry.codec if entry is not None else PUBLISHED_CODEC), []


def _small_files(names: dict[str, RemoteFile]) -> list[RemoteFile]:
    for_people = re.compile(r"(README|LICENSE|LICENCE|NOTICE)[\w.-]*", re.IGNORECASE)
    return _by_size([file for name, file in names.items() if name in SMALL_FILES or for_people.fullmatch(name)])


def _by_size(files: Sequence[RemoteFile]) -> list[RemoteFile]:
    return sorted(files, key=lambda file: (file.size, file.name))


def _read_object(repo: str, names: dict[str, RemoteFile], name: str, read: ReadFile) -> dict[str, Any]:
    if name not in names:
        raise ModelError(f"{repo} has no {name}, so it is not a model that this program can run.", _SEE_LIST)
    try:
        found = json.loads(read(names[name]))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"The {name} of {repo} is damaged ({error}).", "Use another checkpoint.") from error
    if not isinstance(found, dict):
        raise ModelError(f"The {name} of {repo} does not hold a JSON object.", "Use another checkpoint.")
    return found
