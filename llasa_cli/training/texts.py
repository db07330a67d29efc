"""The text of a recording -> token ids to train on, normalized as `say` normalizes its text."""

from __future__ import annotations

from llasa_cli.prompt import PromptFormat
from llasa_cli.text.normalize.loader import load_normalizer
from llasa_cli.training.rows import Unusable


def encode_text(prompt_format: PromptFormat, text: str) -> list[int]:
    """
    Raises:
        Unusable: The model can't read the text, or not all of it.
    """
    unsupported: list[str] = []
    normalize = load_normalizer(prompt_format.spell_out, unsupported.append)
    text = normalize(text) if normalize else text
    ids = prompt_format.text_ids(text)
    if not ids or not text.strip():
        raise Unusable("no text")
    if unsupported or prompt_format.unknown_id in ids:
        raise Unusable("characters that the model can't read")
    return ids
