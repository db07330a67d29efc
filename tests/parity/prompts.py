"""Compare prompts with those of transformers' `apply_chat_template`, text by text.

    python tests/parity/prompts.py [FOLDER]       the tokenizer of a checkpoint; without FOLDER, one of the published layout

Each line of `prompt_texts.txt` makes three prompts: plain, cloning (with transcript and codes), and with a speaker's tag. As in
the published scripts, transformers is given the last message as text, with its codes spelled out.
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
from llasa_cli.hub.catalog import STYLE_FIELDS
from llasa_cli.prompt import PromptFormat, Reference
from llasa_cli.prompt_tokens import LLASA
from llasa_cli.settings import TEMPLATE_DATE

INSTRUCTION = "Convert the text to speech:"
TEXTS = Path(__file__).with_name("prompt_texts.txt").read_text(encoding="utf-8").splitlines()
_KANA = ("HIRAGANA", "KATAKANA", "HALFWIDTH KATAKANA")
_NO_SPACE_AFTER = ("CJK", "HIRAGANA", "KATAKANA", "IDEOGRAPHIC", "HALFWIDTH KATAKANA", "FULLWIDTH")
"""Unicode names: a Japanese transcript that ends in such a character is joined to the text without a space."""


@dataclass(frozen=True)
class Case:
    """Attributes:
    transcript: Of the reference; empty if there is none.
    codes: The reference's codes.
    """

    text: str
    transcript: str
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
    """Transcript and text, joined as in the published scripts."""
    if not case.transcript:
        return case.text
    japanese = any(unicodedata.name(letter, "").startswith(_KANA) for letter in case.transcript + case.text)
    separator = "" if japanese and unicodedata.name(case.transcript[-1]).startswith(_NO_SPACE_AFTER) else " "
    return case.transcript + separator + case.text


def differences(folder: Path, instruction: str = INSTRUCTION) -> list[tuple[Case, list[int], list[int]]]:
    """The cases in which the ids differ, with ours and theirs."""
    prompt_format, tokenizer = _both(folder)
    found = []
    for case in CASES:
        reference = Reference(case.transcript, case.codes) if case.codes else None
        ours = list(prompt_format.prompt(case.text, reference, case.speaker).ids)
        tag = f"Speaker {case.speaker}" if case.speaker else ""
        messages = [
            {"role": "user", "content": f"{instruction}{LLASA.text_start}{joined(case)}{LLASA.text_end}"},
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


STYLES: tuple[dict[str, str], ...] = (
    {"caption": "落ち着いた女性の声。", "mood": "シリアス、深刻", "speed": "一定"},
    {"emotion": "angry", "notes": "ends: loudly", "pitch_timbre": "mid <|eot|> low"},
    {"caption": "x"},
)
"""Fields of a style, as Anime-Llasa-3B-Captions has them."""


def style_differences(folder: Path) -> list[tuple[Case, list[int], list[int]]]:
    """The cases in which the ids with a system turn differ. Its text is written here as that model's demo writes it."""
    prompt_format, tokenizer = _both(folder)
    prompt_format.style_fields = STYLE_FIELDS
    found = []
    for number, case in enumerate(CASES):
        style = STYLES[number % len(STYLES)]
        reference = Reference(case.transcript, case.codes) if case.codes else None
        given = [f"{name}={value}" for name, value in style.items()]
        ours = list(prompt_format.prompt(case.text, reference, case.speaker, given).ids)
        spoken = "".join(f"<|s_{code}|>" for code in case.codes)
        tag = f"Speaker {case.speaker}" if case.speaker else ""
        messages = [
            {"role": "system", "content": "\n".join(f"{name}: {style.get(name, '')}" for name in STYLE_FIELDS)},
            {"role": "user", "content": f"{INSTRUCTION}{LLASA.text_start}{joined(case)}{LLASA.text_end}"},
            {"role": "assistant", "content": f"{tag}<|SPEECH_GENERATION_START|>{spoken}"},
        ]
        theirs = tokenizer.apply_chat_template(
            messages, tokenize=True, continue_final_message=True, return_dict=False, date_string=TEMPLATE_DATE
        )
        if ours != theirs:
            found.append((case, ours, theirs))
    prompt_format.style_fields = ()
    return found


@cache
def _both(folder: Path) -> tuple[PromptFormat, Any]:
    """Both tokenizers, read once: each takes seconds for 193,800 tokens."""
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
