"""The names of a prompt's control tokens in a tokenizer, by which a model's family is recognized."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

MARKERS = tuple(
    f"<|{task}_{end}|>"
    for task in ("TEXT_GENERATION", "TEXT_UNDERSTANDING", "SPEECH_GENERATION", "SPEECH_UNDERSTANDING")
    for end in ("START", "END")
)
"""The tokens around text and codes in Llasa's vocabulary, in the order of their ids. Two tasks use four of them."""
CODE_COUNT = 65_536
"""Codes of the published codec. Their tokens follow the markers."""
SPEECH_START, SPEECH_END = "<|SPEECH_GENERATION_START|>", "<|SPEECH_GENERATION_END|>"


@dataclass(frozen=True)
class TokenNames:
    """Attributes:
    text_start, text_end: Around the text.
    code_prefix: Code 7 is `code_prefix` + "7|>".
    """

    text_start: str
    text_end: str
    code_prefix: str

    @property
    def first_code(self) -> str:
        return f"{self.code_prefix}0|>"

    def missing_from(self, vocabulary: Container[str]) -> list[str]:
        """The names of this family that a tokenizer lacks; other codes than the first are not looked for."""
        needed = (self.text_start, self.text_end, SPEECH_START, SPEECH_END, self.first_code)
        return [name for name in needed if name not in vocabulary]


LLASA = TokenNames("<|TEXT_UNDERSTANDING_START|>", "<|TEXT_UNDERSTANDING_END|>", "<|s_")
NEUTTS = TokenNames("<|TEXT_PROMPT_START|>", "<|TEXT_PROMPT_END|>", "<|speech_")


def token_names(vocabulary: Container[str]) -> TokenNames:
    """The family whose tokens a tokenizer has. It is Llasa's if it has neither's or both."""
    return NEUTTS if LLASA.missing_from(vocabulary) and not NEUTTS.missing_from(vocabulary) else LLASA
