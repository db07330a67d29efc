"""The form of a token class: how text of one kind is recognized and how it is read."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property


@dataclass(frozen=True)
class TokenClass:
    """One kind of token, such as a date or an acronym.

    Attributes:
        name: The name in the table of examples, tests/text/token_classes.tsv.
        pattern: A verbose regular expression, compiled when it is first needed. It is matched where a token begins, and may
            look at the text around it, as the verbalizer may.
        verbalize: A match -> the words that are spoken, or None where the token is of another class after all.
    """

    name: str
    pattern: str
    verbalize: Callable[[re.Match[str]], str | None]

    @cached_property
    def match(self) -> Callable[[str, int], re.Match[str] | None]:
        return re.compile(self.pattern, re.VERBOSE).match


def before(match: re.Match[str], length: int = 40) -> str:
    """The text before a token."""
    return match.string[max(0, match.start() - length) : match.start()]


def after(match: re.Match[str], length: int = 40) -> str:
    """The text after a token."""
    return match.string[match.end() : match.end() + length]


def with_stop(match: re.Match[str], words: str) -> str:
    """Words with the full stop of a shortened form, where it ends the sentence too."""
    return words + ("." if match[0].endswith(".") and may_end_sentence(match) else "")


def may_end_sentence(match: re.Match[str]) -> bool:
    """Whether nothing follows a token, or a capital."""
    following = after(match, 20).lstrip()[:1]
    return not following or following.isupper()
