"""A text Llama -> a Llama that can learn to speak: its tokenizer and embeddings grow by 8 markers and the speech codes.

The order is the published one (zhenye234/LLaSA_training, train_tts.py): markers, then `<|s_0|>` onwards, so that on
Llama 3's 128,256 tokens the first code is 128,264, and the public tokenized data fits.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from llasa_cli.checkpoint.resolve import codec_identity
from llasa_cli.errors import ModelError, UsageError
from llasa_cli.files import copy_files, make_folder, read_json_object, read_json_object_if_exists, write_text
from llasa_cli.hub.catalog import repo_of
from llasa_cli.prompt_tokens import CODE_COUNT, MARKERS, SPEECH_START
from llasa_cli.text.pronunciations import PRONUNCIATIONS

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
    PRONUNCIATIONS,
)


def knows_speech(folder: Path) -> bool:
    """Whether the tokenizer in a folder has Llasa's tokens.

    Raises:
        ModelError: There is no tokenizer, or it can't be read.
    """
    return SPEECH_START in _read(folder).get_vocab(with_added_tokens=True)


def extend_tokenizer(source: Path, target: Path, code_count: int = CODE_COUNT) -> None:
    """Write a text model's tokenizer with the new tokens at its end; its other files are copied unchanged.

    The tokens are plain added ones, as `tokenizer.add_tokens` of the published script makes them.

    Raises:
        ModelError: There is no tokenizer, or no chat template, in which the prompt is written.
        UsageError: The tokenizer has the tokens already.
    """
    tokenizer = _read(source)
    vocabulary = tokenizer.get_vocab(with_added_tokens=True)
    if SPEECH_START in vocabulary:
        raise UsageError(f"The model in {source} already has Llasa's tokens.", "Train it without extending it.")
    settings = read_json_object_if_exists(source / "tokenizer_config.json")
    if not (source / "chat_template.jinja").is_file() and "chat_template" not in settings:
        raise ModelError(f"There is no chat template in {source}.", "Start from the Instruct version of the model.")
    first = max(vocabulary.values()) + 1
    tokenizer.add_tokens([*MARKERS, *(f"<|s_{code}|>" for code in range(code_count))])
    last = tokenizer.token_to_id(f"<|s_{code_count - 1}|>")
    if tokenizer.token_to_id(MARKERS[0]) != first or last != first + len(MARKERS) + code_count - 1:
        raise ModelError(
            f"The token ids of the tokenizer in {source} have gaps, so the new ones are not consecutive.",
            "Start from another text model.",
        )
    make_folder(target)
    copy_files(source, target, TOKENIZER_FILES[1:])
    write_text(target / "tokenizer.json", tokenizer.to_str())


def codec_size(codec: str | None) -> int:
    """The number of a codec's codes: a folder's own number, or the published codec's for a repository.

    Raises:
        ModelError: It is neither a codec's folder nor the name of a repository.
    """
    if codec is None:
        return CODE_COUNT
    if not Path(codec).is_dir():
        if repo_of(codec) is None:
            raise ModelError(f"The codec {codec} does not exist.", "Give the codec's folder, or org/repo.")
        return CODE_COUNT
    codec_identity(Path(codec))  # raises where the folder holds no codec
    levels = read_json_object(Path(codec) / "config.json").get("quantization_levels") or []
    if not isinstance(levels, list) or not all(type(level) is int for level in levels):
        raise ModelError(
            f"quantization_levels in {codec}/config.json must be a list of integers.", "Download it again."
        )
    return math.prod(levels) if levels else CODE_COUNT


def resize_embeddings(model: Any, size: int) -> bool:
    """Make room for `size` tokens in the embeddings and the head, which stays tied if it was; whether they grew.

    transformers draws the new rows around the mean of the old ones, because random rows would be far from everything the
    model knows. The caller seeds torch.
    """
    rows = model.get_input_embeddings().weight
    if getattr(rows, "ds_shape", rows.shape)[0] >= size:  # ZeRO-3 keeps the true shape in `ds_shape`
        return False
    model.resize_token_embeddings(size)
    return True


def _read(folder: Path) -> Any:
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    if not path.is_file():
        raise ModelError(f"There is no tokenizer.json in {folder}.", "Give the folder of a model.")
    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception
        raise ModelError(f"{path} can't be read: {error}", "Download it again.") from error
