"""The built-in voice's tokenizer: characters for text, and the tokens every Llasa has.

    python tokenizer.py FOLDER --codes 16384 --speakers heart bella

Out: FOLDER with `tokenizer.json`, `tokenizer_config.json`, `chat_template.jinja`. Ids in this order: `<|pad|>`, `<|unk|>`,
the characters, the instruction as one token, the eight markers, one `Speaker {name}` a speaker, `<|s_0|>` onwards.
Text is lower-cased and stripped of accents. Characters that are then not in `CHARACTERS` are removed, because the model has
never seen `<|unk|>`.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path

CHARACTERS = " abcdefghijklmnopqrstuvwxyz'-,.;:?!"
LEXICON_PHONES = "ˈˌAIOTWYbdfhijklmnpstuvwzæðŋɑɐɔəɛɜɡɪɹʃʊʌʒʤʧθᵊᵻ"
"""Stress marks and phones of the lexicon (misaki's, US), a token `/x/` each; `T` is the flapped t."""
INSTRUCTION = "Convert the text to speech:"
MARKERS = [
    f"<|{task}_{end}|>"
    for task in ("TEXT_GENERATION", "TEXT_UNDERSTANDING", "SPEECH_GENERATION", "SPEECH_UNDERSTANDING")
    for end in ("START", "END")
]
# Only the contents: a model of one task needs no roles.
CHAT_TEMPLATE = "{%- for message in messages -%}{{ message['content'] | trim }}{%- endfor -%}"
# Typographic variants of everyday characters.
_ALIKE = {"’": "'", "‘": "'", "“": "", "”": "", "–": "-", "—": "-", "…": ".", "\n": " ", "\r": " ", "\t": " "}
# Letters that do not decompose into a plain letter and an accent, after lower-casing.
_LETTERS = {"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ð": "th", "þ": "th", "ı": "i"}


def write_tokenizer(folder: Path, code_count: int, speakers: Sequence[str], first_code_id: int = 0) -> None:
    """Write the tokenizer of a small Llasa with `code_count` speech codes and these speaker tags.

    A larger `first_code_id` than the text needs is filled up with unused tokens: in published vocabularies it is 128,264.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

    words = ["<|pad|>", "<|unk|>", *CHARACTERS, *(f"/{phone}/" for phone in LEXICON_PHONES)]
    tokenizer = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<|unk|>"))
    tokenizer.normalizer = normalizers.Sequence(
        [
            *(normalizers.Replace(old, new) for old, new in _ALIKE.items()),
            normalizers.NFKD(),  # compatible forms too: ligatures, full width, the no-break space
            normalizers.StripAccents(),
            normalizers.Lowercase(),
            *(normalizers.Replace(old, new) for old, new in _LETTERS.items()),
            normalizers.Replace(Regex("[^" + re.escape(CHARACTERS) + "]"), ""),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    added = [INSTRUCTION, *MARKERS, *(f"Speaker {name}" for name in speakers)]
    added += [f"<|unused_{number}|>" for number in range(first_code_id - len(words) - len(added))]
    added += [f"<|s_{code}|>" for code in range(code_count)]
    tokenizer.add_tokens([AddedToken("<|pad|>", normalized=False, special=True)])
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in added])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    about = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": "<|pad|>",
        "unk_token": "<|unk|>",
        "eos_token": "<|SPEECH_GENERATION_END|>",
        "clean_up_tokenization_spaces": False,
        "model_max_length": 2048,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    (folder / "chat_template.jinja").write_text(CHAT_TEMPLATE, encoding="utf-8")


def main() -> None:
    from teachers import NAMED_SPEAKERS

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--codes", type=int, default=16_384)
    parser.add_argument("--speakers", nargs="*", default=list(NAMED_SPEAKERS))
    arguments = parser.parse_args()
    write_tokenizer(arguments.folder, arguments.codes, arguments.speakers)


if __name__ == "__main__":
    main()
