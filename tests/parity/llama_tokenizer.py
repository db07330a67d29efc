"""A tokenizer with the published layout of ids and a small text vocabulary.

It is a byte-level BPE that splits text as Llama 3 does, with 128,000 text tokens, of which all but a few hundred never occur, 256
special tokens, 8 markers and 65,536 codes. Every id that is not text is the published one. The chat template restates that of
meta-llama/Llama-3.2-1B-Instruct.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

TEMPLATE = Path(__file__).with_name("llama_3_2_chat_template.jinja")
TEXT_TOKENS, SPECIAL_TOKENS, CODES = 128_000, 256, 65_536
IDS = {
    "<|begin_of_text|>": 128_000,
    "<|end_of_text|>": 128_001,
    "<|finetune_right_pad_id|>": 128_004,
    "<|start_header_id|>": 128_006,
    "<|end_header_id|>": 128_007,
    "<|eom_id|>": 128_008,
    "<|eot_id|>": 128_009,
    "<|python_tag|>": 128_010,
    "<|TEXT_GENERATION_START|>": 128_256,
    "<|TEXT_GENERATION_END|>": 128_257,
    "<|TEXT_UNDERSTANDING_START|>": 128_258,
    "<|TEXT_UNDERSTANDING_END|>": 128_259,
    "<|SPEECH_GENERATION_START|>": 128_260,
    "<|SPEECH_GENERATION_END|>": 128_261,
    "<|SPEECH_UNDERSTANDING_START|>": 128_262,
    "<|SPEECH_UNDERSTANDING_END|>": 128_263,
    "<|s_0|>": 128_264,
    "<|s_65535|>": 193_799,
}
_PATTERN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_TRAINING_TEXT = [
    "Convert the text to speech: the quick brown fox said hello there, how are you today? Speaker kore puck"
] * 3


def write_tokenizer(folder: Path, tokenizer_class: str = "PreTrainedTokenizerFast", has_merges: bool = False) -> None:
    """`tokenizer.json` and `tokenizer_config.json`, as the published repositories hold them.

    Args:
        tokenizer_class: The name in the configuration; the transformers draft has `LlasaTokenizer`.
        has_merges: Whether the tokens that never occur have about as many merges as the published ones, for measurements.
    """
    special = {id: token for token, id in IDS.items() if TEXT_TOKENS <= id < TEXT_TOKENS + SPECIAL_TOKENS}
    reserved = iter(range(SPECIAL_TOKENS))
    added = [
        _added(id, special.get(id) or f"<|reserved_special_token_{next(reserved)}|>", True)
        for id in range(TEXT_TOKENS, TEXT_TOKENS + SPECIAL_TOKENS)
    ]
    markers = [token for token, id in IDS.items() if 128_256 <= id < 128_264]
    for token in [*markers, *(f"<|s_{code}|>" for code in range(CODES))]:
        added.append(_added(TEXT_TOKENS + len(added), token, False))
    said: dict[str, Any] = json.loads(_text_tokenizer())
    vocabulary = said["model"]["vocab"]
    if has_merges:
        _add_merges(vocabulary, said["model"]["merges"])
    said["model"]["vocab"] = vocabulary | {f"<unused {id}>": id for id in range(len(vocabulary), TEXT_TOKENS)}
    said["model"]["ignore_merges"] = True
    said["added_tokens"] = added
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(said, ensure_ascii=False), encoding="utf-8")
    settings = {
        "tokenizer_class": tokenizer_class,
        "bos_token": "<|begin_of_text|>",
        "eos_token": "<|eot_id|>",
        "pad_token": "<|eot_id|>",
        "clean_up_tokenization_spaces": True,
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": 2048,
        "chat_template": TEMPLATE.read_text(encoding="utf-8"),
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2), encoding="utf-8")


def _text_tokenizer() -> str:
    """tokenizer.json of the text vocabulary, with Llama 3's post-processor, which adds the begin token."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(
                single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", IDS["<|begin_of_text|>"])]
            ),
        ]
    )
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=450, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(_TRAINING_TEXT, trainer)
    text: str = tokenizer.to_str()
    return text


def _add_merges(vocabulary: dict[str, int], merges: list[list[str]]) -> None:
    """Fill the vocabulary with pairs and triples of bytes above 127, each with all ways to merge it."""
    high = [byte for byte in vocabulary if len(byte) == 1 and byte > "~"]
    pairs = list(map("".join, itertools.product(high, repeat=2)))
    for token in itertools.chain(pairs, map("".join, itertools.product(pairs, high))):
        if len(vocabulary) == TEXT_TOKENS:
            break
        vocabulary.setdefault(token, len(vocabulary))
        merges += [[token[:at], token[at:]] for at in range(1, len(token))]


def _added(id: int, content: str, special: bool) -> dict[str, Any]:
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": not special}
    return {"id": id, "content": content, **plain, "special": special}
