"""The published models under short names: size, license, languages, codec and peculiarities.

Sizes are the bytes of the files that are downloaded, from the models' pages; 0 if the page was not available. No entry has
been compared with its files. `unverified` lists what is not confirmed by a page or by code that uses the model either.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import partial

NON_COMMERCIAL = "CC BY-NC 4.0 (non-commercial)"
UNKNOWN_LICENSE = "unknown; see its page"
PUBLISHED_CODEC = "HKUSTAudio/xcodec2-hf"
ORIGINAL_CODEC = "HKUSTAudio/xcodec2"
ANIME_CODEC = "NandemoGHS/Anime-XCodec2-44.1kHz-v2"
NEUCODEC = "neuphonic/neucodec"
NEUTTS_LICENSE = "NeuTTS Open License 1.0"
STYLE_FIELDS = ("emotion", "profile", "mood", "speed", "prosody", "pitch_timbre", "style", "notes", "caption")
"""The style fields of Anime-Llasa-3B-Captions, from its demo."""
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
_UNNAMED_SPEAKERS = "its speakers are named on its page only; --speaker accepts any name"
_ORIGINAL_FORMAT = ("original X-Codec2 format",)
UNVERIFIED_NAME = "the repository's name"
_SIZE_AND_GATE = ("size and whether it is gated",)
_UNSEEN = ("size, license and whether it is gated",)
_NEUTTS = (
    "its speech has an inaudible watermark (Perth), as its own package makes it: pip install 'llasa-cli[neutts]'",
)
_PHONES = (*_NEUTTS, "reads phones, which the same extra makes")

_llasa = CatalogEntry
_draft = partial(CatalogEntry, size=0, quirks=_DRAFT, unverified=_UNSEEN)
_anime = partial(CatalogEntry, size=0, languages=("ja",), codec=ANIME_CODEC, gated=False, sampling_rate=44_100)
_finetune = partial(CatalogEntry, size=0, license=UNKNOWN_LICENSE, gated=False)
_neutts = partial(
    CatalogEntry, license=NEUTTS_LICENSE, codec=NEUCODEC, gated=False, sampling_rate=24_000, unverified=_SIZE_AND_GATE
)
_nano = partial(_neutts, size=915_000_000, what="NeuTTS Nano, 0.23 billion parameters, 24 kHz", quirks=_PHONES)
_codec = partial(CatalogEntry, codec=None, languages=())
_GENSHIN = "HKUSTAudio/Llasa-1B-multi-speakers-genshin-zh-en-ja-ko"

CATALOG: dict[str, CatalogEntry] = {
    "1b": _llasa("HKUSTAudio/Llasa-1B", 2_740_000_000, "1 billion parameters"),
    "3b": _llasa("HKUSTAudio/Llasa-3B", 8_020_000_000, "3 billion parameters", quirks=_STORED_HEAD),
    "8b": _llasa("HKUSTAudio/Llasa-8B", 17_100_000_000, "8 billion parameters"),
    "1b-multilingual": _llasa("HKUSTAudio/Llasa-1B-Multilingual", 3_530_000_000, "11 languages", languages=MULTILINGUAL, quirks=_STORED_HEAD),
    "1b-kore-puck": _llasa("HKUSTAudio/Llasa-1B-two-speakers-kore-puck", 3_530_000_000, "speakers kore and puck", speakers=("kore", "puck"), quirks=_TAG_SPACE, unverified=("languages",)),
    "1b-genshin": _llasa(_GENSHIN, 3_530_000_000, "about 70 game characters", languages=("zh", "en", "ja", "ko"), quirks=(*_TAG_SPACE, _UNNAMED_SPEAKERS)),
    "3b-chat": _llasa("HKUSTAudio/Llasa-3B-Preserve-TextChat", 8_020_000_000, "speaks and still answers text", chats=True),
    "1b-chat": _llasa("HKUSTAudio/Llasa-1B-Preserve-TextChat", 0, "speaks and still answers text", chats=True, unverified=(UNVERIFIED_NAME, *_UNSEEN)),
    "1b-draft": _draft("bezzam/Llasa-1B", what="1b for transformers"),
    "3b-draft": _draft("bezzam/Llasa-3B", what="3b for transformers"),
    "8b-draft": _draft("bezzam/Llasa-8B", what="8b for transformers"),
    "3b-anime": _anime("NandemoGHS/Anime-Llasa-3B", what="Japanese, 44.1 kHz with a codec of its own", quirks=("--codec xcodec2 gives plain 16 kHz: the codes are the same",), unverified=_SIZE_AND_GATE),
    "3b-anime-captions": _anime("NandemoGHS/Anime-Llasa-3B-Captions", what="Japanese with style fields, 44.1 kHz with a codec of its own", style=STYLE_FIELDS, quirks=("--style caption=... describes the voice; its example always has one",), unverified=_UNSEEN),
    "1b-kartoffel": _finetune("SebastianBodza/Kartoffel-1B", what="German", languages=("de",), unverified=(UNVERIFIED_NAME, *_UNSEEN)),
    "1b-german": _finetune("MultiLlasa/Llasa-1B-Multilingual-German", what="German, from 1b-multilingual", languages=("de",), unverified=_UNSEEN),
    "1b-italian": _finetune("Steveeeeeeen/Llasagna-1b-v0.1", what="Italian (Llasagna)", languages=("it",), unverified=(UNVERIFIED_NAME, *_UNSEEN)),
    "neutts-air": _neutts("neuphonic/neutts-air", 1_500_000_000, "NeuTTS Air, 0.55 billion parameters, 24 kHz", languages=("en",), license="Apache 2.0", quirks=_PHONES),
    "neutts-nano": _nano("neuphonic/neutts-nano", languages=("en",)),
    "neutts-nano-german": _nano("neuphonic/neutts-nano-german", languages=("de",)),
    "neutts-nano-french": _nano("neuphonic/neutts-nano-french", languages=("fr",)),
    "neutts-nano-spanish": _nano("neuphonic/neutts-nano-spanish", languages=("es",)),
    "neutts-2e": _neutts("neuphonic/neutts-2e", 472_000_000, "NeuTTS 2E, 0.24 billion parameters, emotions, 24 kHz", languages=("en",), style=("emotion",), quirks=_NEUTTS, unverified=("the kind of its network", *_SIZE_AND_GATE)),
    "neucodec": _codec(NEUCODEC, 2_520_000_000, "the codec of NeuTTS", license="Apache 2.0", gated=False, sampling_rate=24_000, unverified=_SIZE_AND_GATE),
    "xcodec2": _codec(PUBLISHED_CODEC, 2_520_000_000, "the codec of most models"),
    "xcodec2-original": _codec(ORIGINAL_CODEC, 3_300_000_000, "the same codec in its original format", quirks=_ORIGINAL_FORMAT, unverified=("whether it is gated",)),
    "xcodec2-anime": _codec(ANIME_CODEC, 0, "the codec of 3b-anime", languages=("ja",), gated=False, sampling_rate=44_100, quirks=(*_ORIGINAL_FORMAT, "only the decoder was trained, so its codes are those of xcodec2"), unverified=_SIZE_AND_GATE),
}  # fmt: skip

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


_NAME = re.compile(r"([^:@]+)(?::([\w.-]{1,200}))?(?:@(.*))?", re.ASCII | re.DOTALL)
"""A model's name: a short name or `org/repo`, then `:VARIANT`, which names a GGUF file, and `@revision`."""


def _parse(name: str) -> tuple[str, str | None, str | None]:
    """-> the model, the variant and the revision. The model is empty if this is no name."""
    found = _NAME.fullmatch(name)
    return ("", None, None) if found is None else (found[1], found[2], found[3] or None)


def variant_of(name: str) -> str | None:
    """The GGUF file that a name asks for: "Q4_K_M" of "org/repo:Q4_K_M", or a file's whole name. None without one."""
    return _parse(name)[1]


def entry_named(name: str) -> tuple[str, CatalogEntry] | None:
    """The catalog name and the entry of a short name, which may be in any case and have a variant and a `@revision`."""
    short = _parse(name)[0].lower()
    short = ALIASES.get(short, short)
    return (short, CATALOG[short]) if short in CATALOG else None


def repo_of(name: str) -> tuple[str, str | None] | None:
    """The repository and the revision of a short name or `org/repo`; None for other names."""
    repo, _, revision = _parse(name)
    named = entry_named(name)
    if named is not None:
        return named[1].repo, revision
    # The hub's own rule for names; its library raises for any other.
    if re.fullmatch(r"\w[\w.-]{0,95}/\w(?:[\w.-]{0,94}\w)?", repo, re.ASCII) and not re.search(r"--|\.\.|\.git$", repo):
        return repo, revision
    return None


def entry_of(repo: str) -> CatalogEntry | None:
    """The catalog entry of a repository, or of the one whose GGUF files it has ("neuphonic/neutts-nano-q4-gguf")."""
    names = (repo.lower(), re.sub(r"-q[48]-gguf$", "", repo.lower()))
    return next((entry for entry in CATALOG.values() if entry.repo.lower() in names), None)
