"""The tokenizer and the chat template in the metadata of a GGUF file, as Hugging Face's files hold them, and back.

A GGUF file lists its tokens by id with the type of each, and the merges of a byte-level BPE. How text is split before the merges
is a name (`tokenizer.ggml.pre`) that stands for a regular expression.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from llasa_cli.checkpoint.gguf_file import GgufFile, GgufStrings
from llasa_cli.errors import ModelError

NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5
"""Types of tokens."""
_WHOLE = "tokenizer.huggingface.json"
"""The key of a whole tokenizer.json, for tokenizers that the other keys can't express."""
METADATA_KEY = "llasa.metadata"
"""The key of the content of `llasa.json`."""
PRONUNCIATIONS_KEY = "llasa.pronunciations"
"""The key of the content of `pronunciations.txt`."""
_LLAMA_3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_QWEN_2 = _LLAMA_3.replace(r"\p{N}{1,3}", r"\p{N}")
LLAMA_SPLITS = ("llama-bpe", "llama3", "llama-v3")
"""llama.cpp's three names for how Llama 3 splits text, as `tokenizer.ggml.pre`."""
_SPLITS = dict.fromkeys(LLAMA_SPLITS, _LLAMA_3) | {"qwen2": _QWEN_2}
"""`tokenizer.ggml.pre` -> the expression that splits text."""
_SPECIAL = {"bos_token": "bos", "eos_token": "eos", "pad_token": "padding", "unk_token": "unknown"}


def tokenizer_json(file: GgufFile) -> str:
    """The content of a tokenizer.json.

    Raises:
        ModelError: The file has no tokenizer, or one of a kind that no Llasa has.
    """
    whole = file.metadata.get(_WHOLE)
    if isinstance(whole, str):
        return whole
    kind, pre = file.metadata.get("tokenizer.ggml.model"), file.metadata.get("tokenizer.ggml.pre")
    if kind != "gpt2" or pre not in _SPLITS:
        raise ModelError(
            f"The tokenizer in {file.path} is of the kind {str(kind)[:40]!r} with {str(pre)[:40]!r}.",
            "A Llasa has 'gpt2' with 'llama-bpe' or 'qwen2'. Put the model's tokenizer.json into a folder of safetensors.",
        )
    tokens, types = _tokens(file)
    normal = [token for token, kind in zip(tokens, types, strict=True) if kind == NORMAL]
    # Ids follow each other in the library: added tokens among the normal ones are entries of the vocabulary too.
    end = max((id for id, kind in enumerate(types) if kind == NORMAL), default=-1) + 1
    if len(set(tokens)) != len(tokens) or not normal:
        raise ModelError(f"The tokenizer in {file.path} has no text tokens, or the same token twice.")
    merges = file.metadata.get("tokenizer.ggml.merges")
    if not isinstance(merges, list | GgufStrings):
        raise ModelError(f"The tokenizer in {file.path} has no merges.")
    splits = {"type": "Split", "pattern": {"Regex": _SPLITS[pre]}, "behavior": "Isolated", "invert": False}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    added = [
        {"id": id, "content": token, "special": kind == CONTROL, "normalized": False}
        | dict.fromkeys(("single_word", "lstrip", "rstrip"), False)
        for id, (token, kind) in enumerate(zip(tokens, types, strict=True))
        if kind != NORMAL
    ]
    content = {
        "version": "1.0",
        "added_tokens": added,
        "normalizer": {"type": "NFC"} if pre == "qwen2" else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [splits, byte_level]},
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "vocab": {token: id for id, token in enumerate(tokens[:end])},
            "merges": list(merges),
            "ignore_merges": pre != "qwen2",
        },
    }
    return json.dumps(content, ensure_ascii=False)


def tokenizer_settings(file: GgufFile) -> dict[str, Any]:
    """The part of tokenizer_config.json that the prompt needs: special tokens and chat template."""
    tokens, _ = _tokens(file)
    ids = {name: file.metadata.get(f"tokenizer.ggml.{key}_token_id") for name, key in _SPECIAL.items()}
    settings = {name: tokens[id] for name, id in ids.items() if isinstance(id, int) and id < len(tokens)}
    return settings | {"chat_template": file.metadata.get("tokenizer.chat_template")}


def llasa_metadata(file: GgufFile) -> dict[str, Any]:
    """The content of `llasa.json` in the file; empty if it has none.

    Raises:
        ModelError: It is not a JSON object.
    """
    text = file.metadata.get(METADATA_KEY)
    if text is None:
        return {}
    try:
        found = json.loads(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise ModelError(f"The {METADATA_KEY} of {file.path} is not JSON: {error}.") from error
    if not isinstance(found, dict):
        raise ModelError(f"The {METADATA_KEY} of {file.path} is not a JSON object.")
    return found


def _tokens(file: GgufFile) -> tuple[Sequence[str], list[int]]:
    tokens, types = (file.metadata.get(f"tokenizer.ggml.{name}", ()) for name in ("tokens", "token_type"))
    is_list = isinstance(tokens, list) and all(isinstance(token, str) for token in tokens)
    if not is_list and not isinstance(tokens, GgufStrings):
        return [], []
    return tokens, types if isinstance(types, list) and len(types) == len(tokens) else [NORMAL] * len(tokens)


def ggml_tokenizer(content: Mapping[str, Any], settings: Mapping[str, Any], size: int) -> dict[str, Any]:
    """A tokenizer.json -> metadata, by key.

    A byte-level BPE that splits text as Llama 3 or Qwen 2 does gets the keys that llama.cpp reads. Of any other tokenizer
    the file holds tokenizer.json itself, and llama.cpp can only be given ids.

    Args:
        settings: tokenizer_config.json.
        size: Rows of the embedding; tokens are added up to it.
    """
    model = content["model"]
    added = {int(token["id"]): token for token in content.get("added_tokens") or ()}
    tokens = {int(id): token for token, id in model["vocab"].items()} | {id: t["content"] for id, t in added.items()}
    listed = [tokens.get(id, f"[PAD{id}]") for id in range(max(size, max(tokens) + 1))]

    def kind(id: int) -> int:
        if id not in tokens:
            return UNUSED
        return NORMAL if id not in added else CONTROL if added[id].get("special") else USER_DEFINED

    metadata: dict[str, Any] = {
        "tokenizer.ggml.tokens": listed,
        "tokenizer.ggml.token_type": [kind(id) for id in range(len(listed))],
        "tokenizer.ggml.add_bos_token": False,
    }
    ids = {token: id for id, token in tokens.items()}
    for name, key in _SPECIAL.items():
        token = settings.get(name)
        token = token.get("content") if isinstance(token, dict) else token
        if token in ids:
            metadata[f"tokenizer.ggml.{key}_token_id"] = ids[token]
    pre = _pre_tokenizer_name(content) if model.get("type") == "BPE" else None
    if pre is None:
        return metadata | {"tokenizer.ggml.model": "none", _WHOLE: json.dumps(content, ensure_ascii=False)}
    merges: Sequence[Any] = model["merges"]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in merges]
    return metadata | {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.merges": merges,
    }


def _pre_tokenizer_name(content: Mapping[str, Any]) -> str | None:
    """`tokenizer.ggml.pre` of a tokenizer.json; None if it splits text in another way."""
    split = content.get("pre_tokenizer") or {}
    patterns = [part.get("pattern", {}).get("Regex") for part in split.get("pretokenizers", ())]
    for name, pattern in _SPLITS.items():
        normalizer = {"type": "NFC"} if name == "qwen2" else None
        if pattern in patterns and content.get("normalizer") == normalizer:
            return name
    return None
