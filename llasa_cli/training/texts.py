"""A recording's text -> the ids that a model learns it by: written as `say` will write what it is to speak."""

from __future__ import annotations

from llasa_cli.protocol import Protocol
from llasa_cli.text.spelling import spelling
from llasa_cli.training.clips import Unusable


def text_ids(protocol: Protocol, text: str) -> list[int]:
    """Raises Unusable: The model reads nothing of it, or not all."""
    left_out: list[str] = []
    spell = spelling(protocol.spell_out, left_out.append)
    text = spell(text) if spell else text
    ids = protocol.text_ids(text)
    if not ids or not text.strip():
        raise Unusable("no text")
    if left_out or protocol.unknown_id in ids:
        raise Unusable("letters that the model does not read")
    return ids
