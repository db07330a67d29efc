"""The one exception root. A known failure carries its sentence, what to do about it, and the exit code."""

from __future__ import annotations


class LlasaError(Exception):
    """A failure whose cause is known.

    Args:
        message: One sentence that says what is wrong.
        hint: What to do about it; may be empty.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(LlasaError):
    """The command was asked for something that makes no sense (exit 2)."""

    exit_code = 2


class ModelError(LlasaError):
    """The model is not here and can't be fetched, or is not one this program runs (exit 3)."""

    exit_code = 3


class AudioError(LlasaError):
    """Input audio can't be used (exit 4)."""

    exit_code = 4


class BatchError(LlasaError):
    """Some items of a batch failed; the rest is done (exit 5)."""

    exit_code = 5
