"""The form of quantities and quotations in messages."""

from __future__ import annotations

import signal
from collections.abc import Iterable
from contextlib import suppress


def shorten(text: str, limit: int = 40) -> str:
    """Quote a text, with three dots in place of what exceeds `limit` characters."""
    return repr(text if len(text) <= limit else text[: limit - 3] + "...")


def listed(names: Iterable[str]) -> str:
    """("a", "b", "c") -> "a, b or c"."""
    *others, final = names
    return f"{', '.join(others)} or {final}" if others else final


def first_line(error: Exception) -> str:
    """The first line of an error's text, or the name of an error without a text."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def describe_exit(code: int | None) -> str:
    """Describe the end of a process: "SIGKILL", "exit code 1"."""
    if code is not None and code < 0:
        with suppress(ValueError):
            return signal.Signals(-code).name
        return f"signal {-code}"
    return f"exit code {code}"


def format_duration(seconds: float) -> str:
    """29 -> "29 s", 90 -> "2 min", 4000 -> "1 h 7 min"."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def format_size(size: int) -> str:
    """Bytes -> "2.74 GB"."""
    return f"{size / 1e9:.2f} GB" if size >= 10**9 else f"{size / 1e6:.0f} MB"


def format_clock(seconds: float) -> str:
    """65.25 -> "1:05.2"."""
    minutes, rest = divmod(round(seconds, 1), 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02}:{rest:04.1f}" if hours else f"{minutes}:{rest:04.1f}"
