"""A tokenizer that looks up the tokens of a text in sorted arrays, for the vocabularies of published Llasas.

The library `tokenizers` fills hash tables with 193,800 tokens and 280,147 merges at each start, which takes 0.6 s and 60 MB. The
same vocabulary as sorted arrays is read from the cache folder in some milliseconds; it is put there, beside the packed weights,
at the first start. The library still splits a text into words and control tokens, with a vocabulary of single bytes. Only
the merges of each word are applied here.

Every text gets the ids that the library gives it. The library alone reads other kinds of tokenizers, parts of a chat template
that spell a speech token, and very long words.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import struct
from array import array
from bisect import bisect_left
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from itertools import accumulate, count, groupby, pairwise
from operator import itemgetter
from pathlib import Path
from typing import Any, Literal, NamedTuple

from llasa_cli.files import AtomicFile
from llasa_cli.packed_weights_folder import cache_key, is_cache_off, packed_weights_folder
from llasa_cli.prompt_tokens import LLASA

SMALLEST_FILE = 4_000_000
"""Bytes of a file below which the library reads its tokenizer in no noticeable time."""
LONGEST_WORD = 2_000
"""Bytes of a word up to which it is merged here, in a time that grows with the square of its length."""
MAGIC = b"llasatk1"
_HEAD = struct.Struct(f"<{len(MAGIC)}s32s6Q")
"""MAGIC, the SHA-256 of all that follows, and the bytes of its six parts."""
_NUMBERS: tuple[Literal["Q", "I"], ...] = ("Q", "Q", "I", "I")
"""The types of the four parts that are arrays, as `array` names them."""
_NO_MERGE = (1 << 64) - 1
_MOST_KNOWN = 65_536
"""Words whose ids are kept."""
_UNSUPPORTED = ("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "byte_fallback")
"""Features of a BPE that neither Llama 3 nor Qwen uses."""


def load_tokenizer(path: Path, read: Callable[[Path], str]) -> Any:
    """Load the tokenizer in a file: an `IndexedTokenizer` if that saves time, otherwise the library's.

    Args:
        read: The file -> the content of its tokenizer.json.

    Raises:
        Exception: The library can't read it, or `read` fails.
    """
    load_full = partial(_load_full, path, read)
    if is_cache_off() or path.stat().st_size < SMALLEST_FILE:
        return load_full()
    cached = packed_weights_folder() / f"{cache_key([path], [Path(__file__)])}.packed"
    index = TokenIndex.read(cached)
    if index is None:
        with contextlib.suppress(OSError):
            cached.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Without a folder to keep it in, indexing at each start would take longer than the library does.
        is_kept = cached.parent.is_dir() and os.access(cached.parent, os.W_OK)
        built = TokenIndex.build(read(path)) if is_kept else None
        if built is None:
            return load_full()
        with contextlib.suppress(OSError), AtomicFile(cached) as target:
            target.file.write(built)
        index = TokenIndex(built)
    return IndexedTokenizer(index, load_full)


def without_added_tokens(tokenizer: Any) -> Any:
    """The same tokenizer without its added tokens: it encodes every text as text."""
    if isinstance(tokenizer, IndexedTokenizer):
        return tokenizer.without_added_tokens()
    from tokenizers import Tokenizer

    # The model is shared, not read again, which takes a second for a published vocabulary.
    plain = Tokenizer(tokenizer.model)
    if tokenizer.normalizer is not None:
        plain.normalizer = tokenizer.normalizer
    if tokenizer.pre_tokenizer is not None:
        plain.pre_tokenizer = tokenizer.pre_tokenizer
    return plain


def _load_full(path: Path, read: Callable[[Path], str]) -> Any:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(read(path))
    # Training scripts save a tokenizer with these on, and a truncated text would be spoken to its middle.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


class Encoding(NamedTuple):
    """The part of the library's class of this name that prompts need."""

    ids: list[int]


class IndexedTokenizer:
    """The part of `tokenizers.Tokenizer` that prompts need.

    Args:
        load_full: Loads the library's tokenizer.
        has_added_tokens: Whether added tokens are recognized in a text.

    Attributes:
        code_count, vocabulary_size: The number of speech codes, and the highest id plus 1.
    """

    def __init__(self, index: TokenIndex, load_full: Callable[[], Any], has_added_tokens: bool = True) -> None:
        from tokenizers import Tokenizer

        facts = index.facts
        self._index, self._load_full, self._has_added_tokens = index, load_full, has_added_tokens
        self._splitter = Tokenizer.from_str(facts["splitter" if has_added_tokens else "text_splitter"])
        self._added: dict[str, int] = facts["added"] if has_added_tokens else {}
        self._known: dict[str, list[int]] = {}
        self.normalizer, self.model = self._splitter.normalizer, self._splitter.model
        self.code_count: int = facts["code_count"]
        self.vocabulary_size: int = facts["vocabulary_size"]

    @cached_property
    def full(self) -> Any:
        """The library's tokenizer, which is loaded when it is first used."""
        tokenizer = self._load_full()
        return tokenizer if self._has_added_tokens else without_added_tokens(tokenizer)

    def without_added_tokens(self) -> IndexedTokenizer:
        return IndexedTokenizer(self._index, partial(getattr, self, "full"), has_added_tokens=False)

    def token_to_id(self, token: str) -> int | None:
        code = _code_of(token) if self._has_added_tokens else None
        if code is not None and code < self.code_count:
            return int(self._index.facts["first_code_id"]) + code
        found = self._added.get(token)
        return self._index.id_of(token) if found is None else found

    def encode(self, text: str, add_special_tokens: bool = False) -> Encoding:
        """Encode a text. The tokens that the tokenizer itself would add at its ends are not supported."""
        assert not add_special_tokens
        if self._has_added_tokens and LLASA.code_prefix in text:
            return Encoding(self.full.encode(text, add_special_tokens=False).ids)
        split = self._splitter.encode(text, add_special_tokens=False)
        ids: list[int] = []
        for _, group in groupby(zip(split.word_ids, split.tokens, strict=True), key=itemgetter(0)):
            tokens = [token for _, token in group]  # the bytes of a word, or one added token
            if len(tokens) > LONGEST_WORD:
                return Encoding(self.full.encode(text, add_special_tokens=False).ids)
            added = self._added.get(tokens[0]) if len(tokens) == 1 else None
            ids += self._word_ids("".join(tokens)) if added is None else [added]
        return Encoding(ids)

    def _word_ids(self, word: str) -> list[int]:
        found = self._known.get(word)
        if found is None:
            if len(self._known) >= _MOST_KNOWN:
                self._known.clear()
            found = self._known[word] = self._index.word_ids(word)
        return found


class TokenIndex:
    """The vocabulary and the merges of a byte-level BPE as sorted arrays.

    Its parts, each of the size that the head states:
        facts: JSON: `splitter` and `text_splitter`, the tokenizer.json of single bytes with and without added tokens; `bytes`,
            the ids of these bytes; `added`, the ids of the added tokens without the codes; `first_code_id`, `code_count`,
            `vocabulary_size`, `ignore_merges`.
        pairs: The pairs of ids that are merged, sorted; each is the first id times 2^32 plus the second.
        merges: For each of these pairs, its rank times 2^32 plus the id of the merged token.
        ids: The ids of the tokens without the added ones, sorted by the token's UTF-8.
        ends: The end of each of these tokens in `text`.
        text: These tokens.
    Pairs and merges are uint64, ids and ends uint32.

    Args:
        data: The result of `build`.

    Raises:
        ValueError, struct.error: The data is damaged.
    """

    def __init__(self, data: bytes) -> None:
        self._data, whole = data, memoryview(data)
        magic, digest, *sizes = _HEAD.unpack_from(whole)
        rest = whole[_HEAD.size :]
        if magic != MAGIC or hashlib.sha256(rest).digest() != digest:
            raise ValueError("it is damaged")
        facts, *numbers, self._text = (
            rest[end - size : end] for size, end in zip(sizes, accumulate(sizes), strict=True)
        )
        views = [part.cast(kind) for part, kind in zip(numbers, _NUMBERS, strict=True)]
        self._pairs, self._merges, self._ids, self._ends = views
        self.facts: dict[str, Any] = json.loads(bytes(facts))

    def __reduce__(self) -> tuple[type[TokenIndex], tuple[bytes]]:
        """For workers that are started afresh: views can't be pickled."""
        return TokenIndex, (self._data,)

    @staticmethod
    def build(tokenizer_json: str) -> bytes | None:
        """Index a tokenizer.json; None if it is damaged or of another kind."""
        if '"BPE"' not in tokenizer_json or LLASA.first_code not in tokenizer_json:
            return None  # before it is parsed, which takes time
        try:
            parts = _index(json.loads(tokenizer_json))
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError, RecursionError):
            return None
        if parts is None:
            return None
        rest = b"".join(parts)
        return _HEAD.pack(MAGIC, hashlib.sha256(rest).digest(), *map(len, parts)) + rest

    @staticmethod
    def read(path: Path) -> TokenIndex | None:
        """Read a file; None if it is missing or damaged."""
        try:
            index = TokenIndex(path.read_bytes())
        except (OSError, ValueError, struct.error):
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # the files that were used last are kept the longest
        return index

    def id_of(self, token: str) -> int | None:
        """The id of a token that is not an added one."""
        wanted = token.encode()
        at = bisect_left(range(len(self._ids)), wanted, key=self._token)
        return self._ids[at] if at < len(self._ids) and self._token(at) == wanted else None

    def word_ids(self, word: str) -> list[int]:
        """Merge the bytes of a word: always the pair of the lowest rank, and the leftmost of several."""
        whole = self.id_of(word) if self.facts["ignore_merges"] else None
        if whole is not None:
            return [whole]
        ids: list[int] = [self.facts["bytes"][byte] for byte in word]
        merges = [self._merge(*pair) for pair in pairwise(ids)]
        while merges and (best := min(merges)) != _NO_MERGE:
            at = merges.index(best)
            ids[at : at + 2] = [best & 0xFFFFFFFF]
            del merges[at]
            for beside in (at - 1, at):
                if 0 <= beside < len(merges):
                    merges[beside] = self._merge(ids[beside], ids[beside + 1])
        return ids

    def _token(self, at: int) -> bytes:
        return bytes(self._text[self._ends[at - 1] if at else 0 : self._ends[at]])

    def _merge(self, left: int, right: int) -> int:
        pair = left << 32 | right
        at = bisect_left(self._pairs, pair)
        return self._merges[at] if at < len(self._pairs) and self._pairs[at] == pair else _NO_MERGE


def _index(content: Mapping[str, Any]) -> list[bytes] | None:
    """tokenizer.json -> the parts of a `TokenIndex`."""
    model, added = content["model"], content["added_tokens"]
    vocabulary: dict[str, int] = model["vocab"]
    normalizer, pre_tokenizer = content.get("normalizer"), content.get("pre_tokenizer")
    others = [token for token in added if not token["content"].startswith(LLASA.code_prefix)]
    codes = [token for token in added if token["content"].startswith(LLASA.code_prefix)]
    first_code_id: int = codes[0]["id"]
    if (
        model["type"] != "BPE"
        or any(map(model.get, _UNSUPPORTED))
        or normalizer not in (None, {"type": "NFC"})
        or not _is_byte_level(pre_tokenizer, vocabulary)
        or not _are_numbered_in_order(added, vocabulary)
        or any((_code_of(code["content"]), code["id"]) != (n, first_code_id + n) for n, code in enumerate(codes))
        or any(token.startswith(LLASA.code_prefix) for token in vocabulary)
        or LLASA.missing_from({token["content"] for token in added})
    ):
        return None
    merges: dict[int, int] = {}
    for rank, merge in enumerate(model["merges"]):
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        merges[vocabulary[left] << 32 | vocabulary[right]] = rank << 32 | vocabulary[left + right]
    tokens = sorted(vocabulary)  # by characters, which is the order of their UTF-8
    texts = [token.encode() for token in tokens]
    single = {token: id for token, id in vocabulary.items() if len(token) == 1}
    splitter: dict[str, Any] = {
        "version": "1.0",
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "added_tokens": [],
    }
    splitter |= {"model": {"type": "BPE", "vocab": single, "merges": []}}
    facts = {
        "splitter": json.dumps(splitter | {"added_tokens": others}),
        "text_splitter": json.dumps(splitter),
        "bytes": single,
        "added": {token["content"]: token["id"] for token in others},
        "first_code_id": first_code_id,
        "code_count": len(codes),
        "vocabulary_size": max(*vocabulary.values(), *(token["id"] for token in added)) + 1,
        "ignore_merges": bool(model.get("ignore_merges")),
    }
    pairs = sorted(merges)
    arrays = (
        pairs,
        map(merges.__getitem__, pairs),
        map(vocabulary.__getitem__, tokens),
        accumulate(map(len, texts)),
    )
    return [json.dumps(facts).encode(), *(part.tobytes() for part in map(array, _NUMBERS, arrays)), b"".join(texts)]


def _is_byte_level(pre_tokenizer: Any, vocabulary: Mapping[str, int]) -> bool:
    """Whether words consist of the 256 characters that stand for bytes, and the vocabulary has them all."""
    from tokenizers.pre_tokenizers import ByteLevel

    last = pre_tokenizer["pretokenizers"][-1] if pre_tokenizer["type"] == "Sequence" else pre_tokenizer
    return last["type"] == "ByteLevel" and vocabulary.keys() >= set(ByteLevel.alphabet())


def _are_numbered_in_order(added: list[dict[str, Any]], vocabulary: Mapping[str, int]) -> bool:
    """Whether added tokens have the ids that the library gives them, which does not look at those in the file."""
    numbers = count(len(vocabulary))
    ids = (vocabulary[token["content"]] if token["content"] in vocabulary else next(numbers) for token in added)
    return all(token["id"] == id for token, id in zip(added, ids, strict=True))


def _code_of(token: str) -> int | None:
    """The code of a speech token."""
    number = token[len(LLASA.code_prefix) : -2]
    is_code = number.isascii() and number.isdecimal() and token == f"{LLASA.code_prefix}{int(number)}|>"
    return int(number) if is_code else None
