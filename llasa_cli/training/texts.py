"""A recording's text -> the ids that a model learns it by: written as `say` will write what it is to speak."""

from __future__ import annotations

from llasa_cli.prompt import PromptFormat
from llasa_cli.text.normalize.loader import load_normalizer
from llasa_cli.training.row_check import Unusable


def text_ids(prompt_format: PromptFormat, text: str) -> list[int]:
    """Raises Unusable: The model reads nothing of it, or not all."""
    unsupported_words: list[str] = []
    spell = load_normalizer(prompt_format.spell_out, unsupported_words.append)
    text = spell(text) if spell else text
    ids = prompt_format.text_ids(text)
    if not ids or not text.strip():
        raise Unusable("no text")
    if unsupported_words or prompt_format.unknown_id in ids:
        raise Unusable("letters that the model does not read")
    return ids
