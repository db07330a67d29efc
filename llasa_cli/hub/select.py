"""The choice of a repository's files, and the refusal of repositories, by the list of files and the small files alone.

Only configuration, tokenizer and safetensors files are downloaded, or one GGUF file, or a Whisper in CTranslate2's format
(`model.bin`, which is no pickle: its own loader reads plain arrays). A pickled checkpoint runs code when it is loaded, and no
Python file of a repository is ever downloaded or run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from llasa_cli.checkpoint.gguf_file import read_gguf
from llasa_cli.errors import ModelError
from llasa_cli.hub.cache_layout import (
    CTRANSLATE2_WEIGHTS,
    LANGUAGE_MODELS,
    WEIGHTS_INDEX,
    RemoteFile,
    is_ctranslate2,
    is_safe_name,
    shards_of,
)
from llasa_cli.hub.catalog import BICODEC, PUBLISHED_CODEC, CatalogEntry, repo_of
from llasa_cli.prompt_tokens import token_names

_SMALL_FILES = """
    config.json generation_config.json llasa.json adapter_config.json preprocessor_config.json processor_config.json
    tokenizer.json tokenizer_config.json tokenizer.model special_tokens_map.json added_tokens.json
    vocab.json vocabulary.json vocabulary.txt merges.txt normalizer.json pronunciations.txt
    chat_template.jinja chat_template.json
""".split()
"""A model's files besides its weights, and those for people, which are downloaded as well."""
_FOR_PEOPLE = re.compile(r"(README|LICENSE|LICENCE|NOTICE)[\w.-]*", re.IGNORECASE)
_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
_KINDS = {
    **dict.fromkeys(LANGUAGE_MODELS, "language model"),
    "xcodec2": "codec",
    "neucodec": "codec",
    "wav2vec2-bert": "codec",  # the semantic encoder of an X-Codec2 in its original format
    "whisper": "recognizer",
    "wavlm": "speaker model",
    "unispeech-sat": "speaker model",
}
"""The kind of a model, by `model_type` in its config.json."""
_SEE_LIST = "`llasa download --list` shows the models that can be used."


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


class _Repository:
    """A repository on the hub.

    Args:
        name: "organization/repository".
        files: All its files.
        read: Reads a small file, complete and checked.

    Raises:
        ModelError: A file's name leads out of the repository's folder.
    """

    def __init__(self, name: str, files: Sequence[RemoteFile], read: Callable[[RemoteFile], bytes]) -> None:
        self.name, self.files, self._read = name, {file.name: file for file in files}, read
        for path in self.files:
            if not is_safe_name(path):
                raise ModelError(
                    f"{name} has a file named {path[:80]!r}, which would lie outside its folder.",
                    "Don't use this repository: such a name can only be meant to do harm.",
                )

    def ending_in(self, *endings: str) -> list[str]:
        """The names of the files with one of these endings."""
        return [name for name in self.files if name.lower().endswith(endings)]

    def small_files(self) -> list[RemoteFile]:
        """The files besides the weights that are wanted."""
        return _by_size(f for name, f in self.files.items() if name in _SMALL_FILES or _FOR_PEOPLE.fullmatch(name))

    def read_object(self, name: str) -> dict[str, Any]:
        """The content of a JSON file. Raises ModelError if it is missing or holds something else."""
        if name not in self.files:
            raise ModelError(f"{self.name} has no {name}, so it is not a model that this program can run.", _SEE_LIST)
        try:
            found = json.loads(self._read(self.files[name]))
        except (ValueError, RecursionError) as error:
            raise ModelError(f"The {name} of {self.name} is damaged ({error}).", "Use another checkpoint.") from error
        if not isinstance(found, dict):
            raise ModelError(f"The {name} of {self.name} does not hold a JSON object.", "Use another checkpoint.")
        return found


def _by_size(files: Iterable[RemoteFile]) -> list[RemoteFile]:
    return sorted(files, key=lambda file: (file.size, file.name))


def incompatible(repo: str, reason: str, hint: str = _SEE_LIST) -> ModelError:
    """The error for a repository that looks like a Llasa without being one."""
    return ModelError(f"{repo} is not compatible with Llasa: {reason}.", hint)


def select_files(
    name: str,
    files: Sequence[RemoteFile],
    entry: CatalogEntry | None,
    read: Callable[[RemoteFile], bytes],
    variant: str | None = None,
) -> Selection:
    """Judge a repository by its list of files and its configuration.

    Args:
        entry: The repository's catalog entry.
        read: Reads a small file from the hub, complete and checked.
        variant: The GGUF file that is asked for; see `choose_gguf`.

    Raises:
        ModelError: This program can't run the model, or should not trust it.
    """
    repo = _Repository(name, files, read)
    has_safetensors = bool(repo.ending_in(".safetensors"))
    if variant is not None or (repo.ending_in(".gguf") and not has_safetensors):
        chosen = repo.files[choose_gguf(list(repo.files), variant, name)]  # has configuration and tokenizer too
        for_people = [file for file in repo.small_files() if _FOR_PEOPLE.fullmatch(file.name)]
        return Selection("language model", (*for_people, chosen), (entry and entry.codec) or PUBLISHED_CODEC)
    if "adapter_config.json" in repo.files and "config.json" not in repo.files:
        base = str(repo.read_object("adapter_config.json").get("base_model_name_or_path", ""))
        weights = repo.files.get("adapter_model.safetensors") or _refuse_without_weights(name, [])
        return Selection("adapter", (*repo.small_files(), weights), base if repo_of(base) else None)
    if not has_safetensors and is_ctranslate2(repo.files):
        return Selection("recognizer", (*repo.small_files(), repo.files[CTRANSLATE2_WEIGHTS]), None)
    if not has_safetensors:
        _refuse_without_weights(name, repo.ending_in(*_PICKLED))
    kind = _kind(name, repo.read_object("config.json"), entry)
    big_files = _weights(repo)
    if kind != "language model":
        return Selection(kind, (*repo.small_files(), *_by_size(big_files)), None)
    if "tokenizer.json" not in repo.files:
        raise ModelError(f"{name} has no tokenizer.json.", "Use a checkpoint that has one.")
    metadata = repo.read_object("llasa.json") if "llasa.json" in repo.files else {}
    codec, inside = _codec(repo, metadata.get("codec"), entry)
    return Selection(kind, (*repo.small_files(), *_by_size([*inside, *big_files])), codec)


def _refuse_without_weights(repo: str, pickled: Sequence[str]) -> NoReturn:
    if pickled:
        raise ModelError(
            f"{repo} has only pickled weights ({pickled[0][:60]}), no safetensors.",
            "Pickled weights can run any code. Use a checkpoint in safetensors.",
        )
    raise ModelError(f"{repo} has no weights (no .safetensors file).", _SEE_LIST)


def _kind(repo: str, config: dict[str, Any], entry: CatalogEntry | None) -> str:
    """The kind of model that config.json describes."""
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
    model_type = str(config.get("model_type"))
    is_codec = (entry is not None and entry.codec is None) or "'xcodec2" in str(config.get("architectures")).lower()
    kind = "codec" if is_codec else _KINDS.get(model_type)
    if kind is None:
        raise ModelError(f"{repo} is of type {model_type[:40]!r}, neither a Llasa nor a codec of one.", _SEE_LIST)
    return kind


def _weights(repo: _Repository, folder: str = "") -> list[RemoteFile]:
    """The weight files that a loader reads, with their index. There may be other .safetensors files."""
    index, single = folder + WEIGHTS_INDEX, folder + "model.safetensors"
    if single in repo.files:
        return [repo.files[single]]
    if index in repo.files:
        shards = sorted(folder + name for name in shards_of(repo.read_object(index)))
        for name in shards:
            if name not in repo.files:
                raise ModelError(f"{repo.name} lacks {name}, which its index names.", "The checkpoint is incomplete.")
        return [repo.files[name] for name in (index, *shards)]
    pattern = re.escape(folder) + r"[^/]+\.safetensors"
    found = [file for name, file in repo.files.items() if re.fullmatch(pattern, name)]
    if not found:
        raise ModelError(f"{repo.name} has no {single}.", "Use a checkpoint with weights in its main folder.")
    return found


def _codec(repo: _Repository, named: Any, entry: CatalogEntry | None) -> tuple[str | None, list[RemoteFile]]:
    """The codec's repository, or None and the files of a codec inside the checkpoint.

    Args:
        named: The codec that llasa.json names.
    """
    if isinstance(named, str) and is_safe_name(named) and f"{named}/config.json" in repo.files:
        return None, [repo.files[f"{named}/config.json"], *_weights(repo, f"{named}/")]
    if isinstance(named, str) and repo_of(named) is not None:
        return named, []
    return (entry.codec if entry is not None else PUBLISHED_CODEC), []


# --- GGUF files ---


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


# --- tokenizers ---


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
        raise incompatible(repo, reason, "To train from a text model, download it with --text-model.")
    first = ids[names.first_code]
    for token, number in ids.items():
        code = re.fullmatch(rf"{re.escape(names.code_prefix)}(\d+)\|>", token)
        if code and number != first + int(code[1]):
            raise incompatible(repo, f"its speech tokens are in another order ({token})")


def _token_ids(tokenizer: dict[str, Any]) -> dict[str, int]:
    """The added tokens, and the tokens of the vocabulary that look like them."""
    vocabulary = tokenizer["model"].get("vocab")
    entries = vocabulary.items() if isinstance(vocabulary, dict) else ()  # some kinds of vocabulary are lists
    ids = {token: int(number) for token, number in entries if token.startswith("<|")}
    return ids | {str(token["content"]): int(token["id"]) for token in tokenizer["added_tokens"]}
