"""How a voice wants its text written, by what its checkpoint says: the same for speaking and for learning."""

from __future__ import annotations

from collections.abc import Callable


def load_normalizer(wanted: bool, tell: Callable[[str], object] | None = None) -> Callable[[str], str] | None:
    """Writing -> what the voice reads, where it wants numbers and signs spelled out; None: it reads them itself.

    Args:
        wanted: `spell_out` of the checkpoint's llasa.json.
        tell: Told, once, of the first words that are left out.
    """
    if not wanted:
        return None
    from llasa_cli.text.normalize.english import normalize, unsupported_words

    told = tell is None

    def spell(text: str) -> str:
        nonlocal told
        words = [] if told else unsupported_words(text)
        if tell is not None and words:
            told = True
            named = ", ".join(f"\u2018{_shortened(word)}\u2019" for word in words[:3])
            tell(f"This voice reads Latin letters. Left out, here and further on: {named}.")
        return normalize(text)

    return spell


def _shortened(word: str) -> str:
    """A script without blanks has words of a page."""
    return word if len(word) <= _SHOWN else word[: _SHOWN - 1] + "\u2026"


_SHOWN = 24
