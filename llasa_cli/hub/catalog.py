"""The published models under short names: size, license, languages, codec and peculiarities.

Sizes are the bytes of the files that are downloaded, from the models' pages; 0 if the page was not available. No entry has
been compared with its files. `unverified` lists what is not confirmed by a page or by code that uses the model either.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

NON_COMMERCIAL = "CC BY-NC 4.0 (non-commercial)"
UNKNOWN_LICENSE = "unknown; see its page"
PUBLISHED_CODEC = "HKUSTAudio/xcodec2-hf"
ORIGINAL_CODEC = "HKUSTAudio/xcodec2"
ANIME_CODEC = "NandemoGHS/Anime-XCodec2-44.1kHz-v2"
NEUCODEC = "neuphonic/neucodec"
NEUTTS_LICENSE = "NeuTTS Open License 1.0"
STYLE_FIELDS = ("emotion", "profile", "mood", "speed", "prosody", "pitch_timbre", "style", "notes", "caption")
"""Of Anime-Llasa-3B-Captions, from its demo."""
MULTILINGUAL = ("zh", "en", "de", "fr", "ja", "ko", "nl", "es", "it", "pt", "pl")


@dataclass(frozen=True)
class CatalogEntry:
    """One published model.

    Attributes:
        repo: The repository on the Hugging Face hub.
        size: Bytes, rounded; 0 if unknown.
        what: A description in a few words.
        languages: The training languages, as ISO 639-1 codes.
        license: The license of the weights.
        codec: The repository of its codec; None for a codec.
        gated: Whether the hub requires an account and the acceptance of terms.
        speakers: The speaker tags of its training, which its own files do not name.
        style: The style fields of its prompts, in the order of its training.
        chats: Whether it answers plain Llama chat as well.
        sampling_rate: The sampling rate of the audio in Hz.
        quirks: Peculiarities, each in a few words.
        unverified: The parts of this entry that are not confirmed.
    """

    repo: str
    size: int
    what: str
    languages: tuple[str, ...] = ("zh", "en")
    license: str = NON_COMMERCIAL
    codec: str | None = PUBLISHED_CODEC
    gated: bool = True
    speakers: tuple[str, ...] = ()
    style: tuple[str, ...] = ()
    chats: bool = False
    sampling_rate: int = 16_000
    quirks: tuple[str, ...] = ()
    unverified: tuple[str, ...] = ()


_DRAFT = ("in the format of the transformers draft (LlasaConfig, LlasaTokenizer)",)
_STORED_HEAD = ("has an output matrix of its own although the configuration may say it is tied",)
_TAG_SPACE = ("its example has a space after the speaker tag, its training data has none; this program adds none",)
UNVERIFIED_NAME = "the repository's name"
_UNSEEN = ("size, license and whether it is gated",)
_NEUTTS = ("its own package puts a watermark (Perth) into all its speech, this program does not",)
_NEUTTS_UNSEEN = ("size and whether it is gated",)
_PHONES = ("reads phones: pip install 'llasa-cli[neutts]'", *_NEUTTS)

CATALOG: dict[str, CatalogEntry] = {
    "1b": CatalogEntry("HKUSTAudio/Llasa-1B", 2_740_000_000, "1 billion parameters"),
    "3b": CatalogEntry("HKUSTAudio/Llasa-3B", 8_020_000_000, "3 billion parameters", quirks=_STORED_HEAD),
    "8b": CatalogEntry("HKUSTAudio/Llasa-8B", 17_100_000_000, "8 billion parameters"),
    "1b-multilingual": CatalogEntry(
        "HKUSTAudio/Llasa-1B-Multilingual", 3_530_000_000, "11 languages", languages=MULTILINGUAL, quirks=_STORED_HEAD
    ),
    "1b-kore-puck": CatalogEntry(
        "HKUSTAudio/Llasa-1B-two-speakers-kore-puck",
        3_530_000_000,
        "speakers kore and puck",
        speakers=("kore", "puck"),
        quirks=_TAG_SPACE,
        unverified=("languages",),
    ),
    "1b-genshin": CatalogEntry(
        "HKUSTAudio/Llasa-1B-multi-speakers-genshin-zh-en-ja-ko",
        3_530_000_000,
        "about 70 game characters",
        languages=("zh", "en", "ja", "ko"),
        quirks=(*_TAG_SPACE, "its speakers are named on its page only; --speaker accepts any name"),
    ),
    "3b-chat": CatalogEntry(
        "HKUSTAudio/Llasa-3B-Preserve-TextChat", 8_020_000_000, "speaks and still answers text", chats=True
    ),
    "1b-chat": CatalogEntry(
        "HKUSTAudio/Llasa-1B-Preserve-TextChat",
        0,
        "speaks and still answers text",
        chats=True,
        unverified=(UNVERIFIED_NAME, *_UNSEEN),
    ),
    "1b-draft": CatalogEntry("bezzam/Llasa-1B", 0, "1b for transformers", quirks=_DRAFT, unverified=_UNSEEN),
    "3b-draft": CatalogEntry("bezzam/Llasa-3B", 0, "3b for transformers", quirks=_DRAFT, unverified=_UNSEEN),
    "8b-draft": CatalogEntry("bezzam/Llasa-8B", 0, "8b for transformers", quirks=_DRAFT, unverified=_UNSEEN),
    "3b-anime": CatalogEntry(
        "NandemoGHS/Anime-Llasa-3B",
        0,
        "Japanese, 44.1 kHz with a codec of its own",
        languages=("ja",),
        codec=ANIME_CODEC,
        gated=False,
        sampling_rate=44_100,
        quirks=("--codec xcodec2 gives plain 16 kHz: the codes are the same",),
        unverified=("size and whether it is gated",),
    ),
    "3b-anime-captions": CatalogEntry(
        "NandemoGHS/Anime-Llasa-3B-Captions",
        0,
        "Japanese with style fields, 44.1 kHz with a codec of its own",
        languages=("ja",),
        codec=ANIME_CODEC,
        gated=False,
        style=STYLE_FIELDS,
        sampling_rate=44_100,
        quirks=("--style caption=... describes the voice; its example always has one",),
        unverified=_UNSEEN,
    ),
    "1b-kartoffel": CatalogEntry(
        "SebastianBodza/Kartoffel-1B",
        0,
        "German",
        languages=("de",),
        license=UNKNOWN_LICENSE,
        gated=False,
        unverified=(UNVERIFIED_NAME, *_UNSEEN),
    ),
    "1b-german": CatalogEntry(
        "MultiLlasa/Llasa-1B-Multilingual-German",
        0,
        "German, from 1b-multilingual",
        languages=("de",),
        license=UNKNOWN_LICENSE,
        gated=False,
        unverified=_UNSEEN,
    ),
    "1b-italian": CatalogEntry(
        "Steveeeeeeen/Llasagna-1b-v0.1",
        0,
        "Italian (Llasagna)",
        languages=("it",),
        license=UNKNOWN_LICENSE,
        gated=False,
        unverified=(UNVERIFIED_NAME, *_UNSEEN),
    ),
    "neutts-air": CatalogEntry(
        "neuphonic/neutts-air",
        1_500_000_000,
        "NeuTTS Air, 0.55 billion parameters, 24 kHz",
        languages=("en",),
        license="Apache 2.0",
        codec=NEUCODEC,
        gated=False,
        sampling_rate=24_000,
        quirks=_PHONES,
        unverified=_NEUTTS_UNSEEN,
    ),
    **{
        f"neutts-nano{suffix}": CatalogEntry(
            f"neuphonic/neutts-nano{suffix}",
            915_000_000,
            "NeuTTS Nano, 0.23 billion parameters, 24 kHz",
            languages=(language,),
            license=NEUTTS_LICENSE,
            codec=NEUCODEC,
            gated=False,
            sampling_rate=24_000,
            quirks=_PHONES,
            unverified=_NEUTTS_UNSEEN,
        )
        for suffix, language in (("", "en"), ("-german", "de"), ("-french", "fr"), ("-spanish", "es"))
    },
    "neutts-2e": CatalogEntry(
        "neuphonic/neutts-2e",
        472_000_000,
        "NeuTTS 2E, 0.24 billion parameters, emotions, 24 kHz",
        languages=("en",),
        license=NEUTTS_LICENSE,
        codec=NEUCODEC,
        gated=False,
        style=("emotion",),
        sampling_rate=24_000,
        quirks=_NEUTTS,
        unverified=("the kind of its network", *_NEUTTS_UNSEEN),
    ),
    "neucodec": CatalogEntry(
        NEUCODEC,
        2_520_000_000,
        "the codec of NeuTTS",
        languages=(),
        license="Apache 2.0",
        codec=None,
        gated=False,
        sampling_rate=24_000,
        unverified=_NEUTTS_UNSEEN,
    ),
    "xcodec2": CatalogEntry(PUBLISHED_CODEC, 2_520_000_000, "the codec of most models", languages=(), codec=None),
    "xcodec2-original": CatalogEntry(
        ORIGINAL_CODEC,
        3_300_000_000,
        "the same codec in its original format",
        languages=(),
        codec=None,
        quirks=("original X-Codec2 format",),
        unverified=("whether it is gated",),
    ),
    "xcodec2-anime": CatalogEntry(
        ANIME_CODEC,
        0,
        "the codec of 3b-anime",
        languages=("ja",),
        codec=None,
        gated=False,
        sampling_rate=44_100,
        quirks=("original X-Codec2 format", "only the decoder was trained, so its codes are those of xcodec2"),
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
"""Other names of catalog entries."""

BICODEC = "its codes are those of another codec (BiCodec)"
INCOMPATIBLE: dict[str, str] = {
    "aslp-lab/llasa-1b-yue": BICODEC,
    "aslp-lab/llasa-1b-yue-updated": BICODEC,
    "aslp-lab/wsyue-tts": BICODEC,
    "inworld-ai/tts": "it has other speech tokens in another order",
}
"""Repositories, in lower case, that look like a Llasa without being one, and the reason."""


def variant_of(name: str) -> str | None:
    """The GGUF file that a name asks for: "Q4_K_M" of "org/repo:Q4_K_M", or a file's whole name. None without one."""
    found = re.fullmatch(r"[^:@]+:([\w.-]{1,200})(?:@.*)?", name, re.ASCII)
    return found[1] if found is not None else None


def _without_variant(name: str) -> str:
    variant = variant_of(name)
    return name if variant is None else name.replace(f":{variant}", "", 1)


def entry_named(name: str) -> tuple[str, CatalogEntry] | None:
    """The catalog name and the entry of a short name, which may be in any case and have a variant and a `@revision`."""
    short = _without_variant(name).partition("@")[0].lower()
    short = ALIASES.get(short, short)
    entry = CATALOG.get(short)
    return None if entry is None else (short, entry)


def repo_of(name: str) -> tuple[str, str | None] | None:
    """The repository and the revision of a short name or `org/repo`; None for other names.

    Both may be followed by `:VARIANT`, which names a GGUF file (see `variant_of`), and by `@revision`.
    """
    repo, _, revision = _without_variant(name).partition("@")
    named = entry_named(name)
    if named is not None:
        return named[1].repo, revision or None
    # The hub's own rule for names; its library raises for any other.
    if re.fullmatch(r"\w[\w.-]{0,95}/\w(?:[\w.-]{0,94}\w)?", repo, re.ASCII) and not re.search(r"--|\.\.|\.git$", repo):
        return repo, revision or None
    return None


def entry_of(repo: str) -> CatalogEntry | None:
    """The catalog entry of a repository, or of the one whose GGUF files it has ("neuphonic/neutts-nano-q4-gguf")."""
    names = (repo.lower(), re.sub(r"-q[48]-gguf$", "", repo.lower()))
    return next((entry for entry in CATALOG.values() if entry.repo.lower() in names), None)
