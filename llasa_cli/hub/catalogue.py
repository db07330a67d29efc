"""The published models by short names: what they are, how big, under which licence.

Sizes are of the files that are fetched (weights, configuration, tokenizer), in bytes, from the model pages.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

NON_COMMERCIAL = "CC BY-NC 4.0 (non-commercial)"
PUBLISHED_CODEC = "HKUSTAudio/xcodec2-hf"


@dataclass(frozen=True)
class Entry:
    """One published model.

    Attributes:
        repo: On the Hugging Face hub.
        size: Bytes, rounded.
        what: In a few words.
        license: Of the weights.
        codec: The repository of its codec; None for a codec.
        gated: The hub asks for an account and for its terms to be accepted.
        speakers: The tags it was trained with, which its own files do not name.
    """

    repo: str
    size: int
    what: str
    license: str = NON_COMMERCIAL
    codec: str | None = PUBLISHED_CODEC
    gated: bool = True
    speakers: tuple[str, ...] = ()


CATALOGUE: dict[str, Entry] = {
    "1b": Entry("HKUSTAudio/Llasa-1B", 2_740_000_000, "Chinese, English; 1 billion parameters"),
    "3b": Entry("HKUSTAudio/Llasa-3B", 8_020_000_000, "Chinese, English; 3 billion parameters"),
    "8b": Entry("HKUSTAudio/Llasa-8B", 17_100_000_000, "Chinese, English; 8 billion parameters"),
    "1b-multilingual": Entry("HKUSTAudio/Llasa-1B-Multilingual", 3_530_000_000, "zh en de fr ja ko nl es it pt pl"),
    "1b-kore-puck": Entry(
        "HKUSTAudio/Llasa-1B-two-speakers-kore-puck", 3_530_000_000, "speakers kore and puck", speakers=("kore", "puck")
    ),
    "1b-genshin": Entry(
        "HKUSTAudio/Llasa-1B-multi-speakers-genshin-zh-en-ja-ko", 3_530_000_000, "about 70 game characters; zh en ja ko"
    ),
    "3b-text-chat": Entry("HKUSTAudio/Llasa-3B-Preserve-TextChat", 8_020_000_000, "speaks and still chats"),
    "xcodec2": Entry(PUBLISHED_CODEC, 2_520_000_000, "the codec of all of them", codec=None),
}


def repo_of(name: str) -> tuple[str, str | None] | None:
    """A short name or `org/repo`, each with `@revision` or without -> repository and revision; None if it is neither."""
    repo, _, revision = name.partition("@")
    entry = CATALOGUE.get(repo.lower())
    if entry is not None:
        return entry.repo, revision or None
    # The hub's own rule for names; its library raises for others.
    if re.fullmatch(r"\w[\w.-]{0,95}/\w(?:[\w.-]{0,94}\w)?", repo, re.ASCII) and not re.search(r"--|\.\.|\.git$", repo):
        return repo, revision or None
    return None


def entry_of(repo: str) -> Entry | None:
    """What is known of a repository."""
    return next((entry for entry in CATALOGUE.values() if entry.repo == repo), None)


def size_text(size: int) -> str:
    """Bytes -> "2.74 GB"."""
    return f"{size / 1e9:.2f} GB" if size >= 10**9 else f"{size / 1e6:.0f} MB"
