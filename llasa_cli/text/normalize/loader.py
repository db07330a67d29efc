"""The normalizer that a checkpoint asks for, in speaking and in training."""

from __future__ import annotations

from collections.abc import Callable


def load_normalizer(enabled: bool, on_note: Callable[[str], object] | None = None) -> Callable[[str], str] | None:
    """Return the function that spells out numbers and signs for a voice, or None for a voice that reads them itself.

    Args:
        enabled: `spell_out` of the checkpoint's llasa.json.
        on_note: Receives one sentence about the first words that the voice can't read.
    """
    if not enabled:
        return None
    from llasa_cli.text.normalize.english import normalize, unsupported_words

    reported = on_note is None

    def normalize_and_report(text: str) -> str:
        nonlocal reported
        words = [] if reported else unsupported_words(text)
        if on_note is not None and words:
            reported = True
            short = (word if len(word) < 25 else word[:23] + "\u2026" for word in words[:3])
            named = ", ".join(f"\u2018{word}\u2019" for word in short)
            on_note(f"This voice reads Latin letters only. Words that it can't read are left out: {named}.")
        return normalize(text)

    return normalize_and_report
