"""The published models by short names: what they are, how big, under which licence, and what is odd about them.

Sizes are of the files that are fetched (weights, configuration, tokenizer), in bytes, from the model pages; 0 where the
page was not at hand. No entry has been checked against its files: what is not even known from a page or from code that
uses the model says so in `unverified`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

NON_COMMERCIAL = "CC BY-NC 4.0 (non-commercial)"
UNKNOWN_LICENSE = "not known; its page says"
PUBLISHED_CODEC = "HKUSTAudio/xcodec2-hf"
ORIGINAL_CODEC = "HKUSTAudio/xcodec2"
ANIME_CODEC = "NandemoGHS/Anime-XCodec2-44.1kHz-v2"
MULTILINGUAL = ("zh", "en", "de", "fr", "ja", "ko", "nl", "es", "it", "pt", "pl")


@dataclass(frozen=True)
class Entry:
    """One published model.

    Attributes:
        repo: On the Hugging Face hub.
        size: Bytes, rounded; 0 is not known.
        what: In a few words.
        languages: It was trained on, as ISO 639-1.
        license: Of the weights.
        codec: The repository of its codec; None for a codec.
        gated: The hub asks for an account and for its terms to be accepted.
        speakers: The tags it was trained with, which its own files do not name.
        chats: It answers plain Llama chat as well.
        sampling_rate: Hz, of the sound that comes out.
        quirks: What is odd about it, each in a few words.
        unverified: What of this entry nobody has checked.
    """

    repo: str
    size: int
    what: str
    languages: tuple[str, ...] = ("zh", "en")
    license: str = NON_COMMERCIAL
    codec: str | None = PUBLISHED_CODEC
    gated: bool = True
    speakers: tuple[str, ...] = ()
    chats: bool = False
    sampling_rate: int = 16_000
    quirks: tuple[str, ...] = ()
    unverified: tuple[str, ...] = ()


_DRAFT = ("in the format of the transformers draft (LlasaConfig, LlasaTokenizer)",)
_STORED_HEAD = ("its output matrix is stored though the configuration may say it is tied",)
_TAG_SPACE = ("its example writes a space after the speaker's tag, its training none; none is written",)
UNVERIFIED_NAME = "the repository's name"
_UNSEEN = ("size, licence and whether it is gated",)

CATALOGUE: dict[str, Entry] = {
    "1b": Entry("HKUSTAudio/Llasa-1B", 2_740_000_000, "1 billion parameters"),
    "3b": Entry("HKUSTAudio/Llasa-3B", 8_020_000_000, "3 billion parameters", quirks=_STORED_HEAD),
    "8b": Entry("HKUSTAudio/Llasa-8B", 17_100_000_000, "8 billion parameters"),
    "1b-multilingual": Entry(
        "HKUSTAudio/Llasa-1B-Multilingual", 3_530_000_000, "11 languages", languages=MULTILINGUAL, quirks=_STORED_HEAD
    ),
    "1b-kore-puck": Entry(
        "HKUSTAudio/Llasa-1B-two-speakers-kore-puck",
        3_530_000_000,
        "speakers kore and puck",
        speakers=("kore", "puck"),
        quirks=_TAG_SPACE,
        unverified=("languages",),
    ),
    "1b-genshin": Entry(
        "HKUSTAudio/Llasa-1B-multi-speakers-genshin-zh-en-ja-ko",
        3_530_000_000,
        "about 70 game characters",
        languages=("zh", "en", "ja", "ko"),
        quirks=(*_TAG_SPACE, "its speakers' names stand on its page only: --speaker takes any"),
    ),
    "3b-chat": Entry(
        "HKUSTAudio/Llasa-3B-Preserve-TextChat", 8_020_000_000, "speaks, and still answers text", chats=True
    ),
    "1b-chat": Entry(
        "HKUSTAudio/Llasa-1B-Preserve-TextChat",
        0,
        "speaks, and still answers text",
        chats=True,
        unverified=(UNVERIFIED_NAME, *_UNSEEN),
    ),
    "1b-draft": Entry("bezzam/Llasa-1B", 0, "1b for transformers", quirks=_DRAFT, unverified=_UNSEEN),
    "3b-draft": Entry("bezzam/Llasa-3B", 0, "3b for transformers", quirks=_DRAFT, unverified=_UNSEEN),
    "8b-draft": Entry("bezzam/Llasa-8B", 0, "8b for transformers", quirks=_DRAFT, unverified=_UNSEEN),
    "3b-anime": Entry(
        "NandemoGHS/Anime-Llasa-3B",
        0,
        "Japanese, 44.1 kHz by a codec of its own",
        languages=("ja",),
        codec=ANIME_CODEC,
        gated=False,
        sampling_rate=44_100,
        quirks=("--codec xcodec2 gives the plain 16 kHz: the codes are the same",),
        unverified=("size and whether it is gated",),
    ),
    "1b-kartoffel": Entry(
        "SebastianBodza/Kartoffel-1B",
        0,
        "German",
        languages=("de",),
        license=UNKNOWN_LICENSE,
        gated=False,
        unverified=(UNVERIFIED_NAME, *_UNSEEN),
    ),
    "1b-german": Entry(
        "MultiLlasa/Llasa-1B-Multilingual-German",
        0,
        "German, from 1b-multilingual",
        languages=("de",),
        license=UNKNOWN_LICENSE,
        gated=False,
        unverified=_UNSEEN,
    ),
    "1b-italian": Entry(
        "Steveeeeeeen/Llasagna-1b-v0.1",
        0,
        "Italian (Llasagna)",
        languages=("it",),
        license=UNKNOWN_LICENSE,
        gated=False,
        unverified=(UNVERIFIED_NAME, *_UNSEEN),
    ),
    "xcodec2": Entry(PUBLISHED_CODEC, 2_520_000_000, "the codec of all of them", languages=(), codec=None),
    "xcodec2-original": Entry(
        ORIGINAL_CODEC,
        3_300_000_000,
        "the same codec as it was first published",
        languages=(),
        codec=None,
        quirks=("original X-Codec2 format",),
        unverified=("whether it is gated",),
    ),
    "xcodec2-anime": Entry(
        ANIME_CODEC,
        0,
        "the codec of 3b-anime",
        languages=("ja",),
        codec=None,
        gated=False,
        sampling_rate=44_100,
        quirks=("original X-Codec2 format", "only the decoder was trained: the codes are those of xcodec2"),
        unverified=("size and whether it is gated",),
    ),
}

ALIASES = {
    "anime": "3b-anime",
    "kartoffel": "1b-kartoffel",
    "german": "1b-german",
    "italian": "1b-italian",
    "llasagna": "1b-italian",
    "3b-text-chat": "3b-chat",
}
"""Other names of the same."""

_BICODEC = "it speaks in the codes of another codec (BiCodec)"
REFUSED: dict[str, str] = {
    "aslp-lab/llasa-1b-yue": _BICODEC,
    "aslp-lab/llasa-1b-yue-updated": _BICODEC,
    "aslp-lab/wsyue-tts": _BICODEC,
    "inworld-ai/tts": "it has other speech tokens, in another order",
}
"""Repositories (in lower case) that look like a Llasa and are none, and why."""


def entry_named(name: str) -> tuple[str, Entry] | None:
    """A short name, in any case, with `@revision` or without -> its catalogue name and what is known."""
    short = name.partition("@")[0].lower()
    short = ALIASES.get(short, short)
    entry = CATALOGUE.get(short)
    return None if entry is None else (short, entry)


def repo_of(name: str) -> tuple[str, str | None] | None:
    """A short name or `org/repo`, each with `@revision` or without -> repository and revision; None if it is neither."""
    repo, _, revision = name.partition("@")
    named = entry_named(name)
    if named is not None:
        return named[1].repo, revision or None
    # The hub's own rule for names; its library raises for others.
    if re.fullmatch(r"\w[\w.-]{0,95}/\w(?:[\w.-]{0,94}\w)?", repo, re.ASCII) and not re.search(r"--|\.\.|\.git$", repo):
        return repo, revision or None
    return None


def entry_of(repo: str) -> Entry | None:
    """What is known of a repository."""
    return next((entry for entry in CATALOGUE.values() if entry.repo.lower() == repo.lower()), None)
