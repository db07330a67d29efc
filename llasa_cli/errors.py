"""The exceptions of this program, and the exit code of each.

    LlasaError       1  a failure with a known cause
      UsageError     2  an argument or an option makes no sense
      ModelError     3  the model is not on this machine, can't be downloaded, or can't be run by this program
      AudioError     4  the input audio can't be used
      BatchError     5  some items of a batch failed

Any other exception is a fault of the program and keeps its traceback.
"""

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

    def __str__(self) -> str:
        return f"{self.message} {self.hint}" if self.hint else self.message


class UsageError(LlasaError):
    """An argument or an option makes no sense."""

    exit_code = 2


class ModelError(LlasaError):
    """The model is not on this machine, can't be downloaded, or can't be run by this program."""

    exit_code = 3


class AudioError(LlasaError):
    """The input audio can't be used."""

    exit_code = 4


class BatchError(LlasaError):
    """Some items of a batch failed; the others are done."""

    exit_code = 5


class os_errors_as:
    """A `with` block whose OSErrors become errors of this program: "PROBLEM: the system's reason."

    Args:
        problem: What can't be done, without a full stop.
        kind: The type of the error.
    """

    def __init__(self, problem: str, hint: str = "", kind: type[LlasaError] = LlasaError) -> None:
        self._problem, self._hint, self._kind = problem, hint, kind

    def __enter__(self) -> None:
        """Nothing to do."""

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, OSError):
            raise self._kind(f"{self._problem}: {error.strerror}.", self._hint) from error
