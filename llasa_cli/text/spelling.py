"""How a voice wants its text written, by what its checkpoint says: the same for speaking and for learning."""

from __future__ import annotations

from collections.abc import Callable


def spelling(wanted: bool) -> Callable[[str], str] | None:
    """Writing -> what the voice reads, where it wants numbers and signs spelled out; None: it reads them itself.

    Args:
        wanted: `spell_out` of the checkpoint's llasa.json.
    """
    if not wanted:
        return None
    from llasa_cli.text.normalise import spell_out

    return spell_out
