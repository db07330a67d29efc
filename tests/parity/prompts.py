"""Prompts against transformers' `apply_chat_template`, text by text.

    .venv/bin/python tests/parity/prompts.py [FOLDER]       a checkpoint's tokenizer; without, one of the published layout

Each of `prompt_texts.txt` plain, cloning (transcript, text and codes), and with a speaker's tag. The final message is given
to transformers as the published scripts give it: as text, codes spelt out.
"""

from __future__ import annotations

import sys
import tempfile
import unicodedata
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))
from llasa_cli.prompt import TEXT_END, TEXT_START, PromptFormat, Reference
from llasa_cli.settings import TEMPLATE_DATE

INSTRUCTION = "Convert the text to speech:"
TEXTS = Path(__file__).with_name("prompt_texts.txt").read_text(encoding="utf-8").splitlines()
_KANA = ("HIRAGANA", "KATAKANA", "HALFWIDTH KATAKANA")
_NO_BLANK_AFTER = ("CJK", "HIRAGANA", "KATAKANA", "IDEOGRAPHIC", "HALFWIDTH KATAKANA", "FULLWIDTH")
"""Characters' names: Japanese transcripts that end in one are joined to the text without a blank."""


@dataclass(frozen=True)
class Case:
    """Attributes:
    heard: The reference's transcript; empty for none.
    codes: The reference's codes.
    """

    text: str
    heard: str
    codes: tuple[int, ...]
    speaker: str | None


CASES = [
    case
    for number, text in enumerate(TEXTS)
    for case in (
        Case(text, "", (), None),
        Case(text, TEXTS[number - 1], (0, 65_535, 7 * number, 1234), None),
        Case(text, "", (), ("kore", "puck")[number % 2]),
    )
]


def joined(case: Case) -> str:
    """Transcript and text, as the published scripts have them in one pair."""
    if not case.heard:
        return case.text
    japanese = any(unicodedata.name(letter, "").startswith(_KANA) for letter in case.heard + case.text)
    blank = "" if japanese and unicodedata.name(case.heard[-1]).startswith(_NO_BLANK_AFTER) else " "
    return case.heard + blank + case.text


def differences(folder: Path, instruction: str = INSTRUCTION) -> list[tuple[Case, list[int], list[int]]]:
    """Cases whose ids are not transformers', with both."""
    prompt_format, tokenizer = _both(folder)
    found = []
    for case in CASES:
        reference = Reference(case.heard, case.codes) if case.codes else None
        ours = list(prompt_format.prompt(case.text, reference, case.speaker).ids)
        tag = f"Speaker {case.speaker}" if case.speaker else ""
        messages = [
            {"role": "user", "content": f"{instruction}{TEXT_START}{joined(case)}{TEXT_END}"},
            {
                "role": "assistant",
                "content": f"{tag}<|SPEECH_GENERATION_START|>" + "".join(f"<|s_{code}|>" for code in case.codes),
            },
        ]
        theirs = tokenizer.apply_chat_template(
            messages, tokenize=True, continue_final_message=True, return_dict=False, date_string=TEMPLATE_DATE
        )
        if ours != theirs:
            found.append((case, ours, theirs))
    return found


@cache
def _both(folder: Path) -> tuple[PromptFormat, Any]:
    """Ours and transformers', read once: each takes seconds for 193,800 tokens."""
    from transformers import AutoTokenizer

    return PromptFormat.load(folder), AutoTokenizer.from_pretrained(folder)


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(sys.argv[1] if len(sys.argv) > 1 else temporary)
        if len(sys.argv) == 1:
            from llama_tokenizer import write_tokenizer

            write_tokenizer(folder)
        found = differences(folder)
    for case, ours, theirs in found:
        print(case, ours, theirs, sep="\n  ")
    print(f"{len(CASES)} prompts, {len(found)} differ")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
