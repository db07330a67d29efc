"""Quantities in messages."""

from __future__ import annotations

import pytest

from llasa_cli.wording import format_duration, format_size, shorten


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (29, "29 s"), (90, "2 min"), (4000, "1 h 7 min"), (90_000, "25 h 0 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@pytest.mark.parametrize(("size", "text"), [(2_740_000_000, "2.74 GB"), (12_400_000, "12 MB")])
def test_sizes(size: int, text: str) -> None:
    assert format_size(size) == text


def test_a_long_text_is_quoted_with_dots_for_its_end() -> None:
    assert shorten("short") == "'short'"
    assert shorten("x" * 50, 10) == "'xxxxxxx...'"
