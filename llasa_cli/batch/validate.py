"""Checking every item of a list before a model is loaded, and entering it into the plan.

    validator = Validator(plan, shared, voice_key)
    validator.add_all(read_manifest(...))
    validator.warnings.lines, plan.invalid()

An item that can't be synthesized gets its reason here. Every item gets a key: a hash of everything that decides how it sounds. The
content of these hashes is part of the file format of `results.jsonl`. If it changed, all files of earlier runs would be made
again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llasa_cli.batch.manifest import SAMPLING, Item, Messages
from llasa_cli.batch.options import BatchOptions
from llasa_cli.batch.plan import Plan
from llasa_cli.errors import LlasaError
from llasa_cli.prompt import Reference
from llasa_cli.settings import LARGEST_SEED, SpeechOptions
from llasa_cli.text.dialogue import has_voices
from llasa_cli.voices.reference import clip_digest, load_reference

if TYPE_CHECKING:
    from llasa_cli.checkpoint.resolve import Checkpoint

_CACHED = 1000
"""Voices and clips whose checks are cached in memory; the plan has the rest."""
_PROGRESS_EVERY = 1000


@dataclass(frozen=True)
class SharedSettings:
    """The settings that all items share.

    Attributes:
        digest: The result of `settings_digest`.
        seed: The seed of items that name none; None: each item gets its own by `seed_of`.
        ref, ref_text: A clip for the items that name no voice.
    """

    digest: str
    seed: int | None = None
    ref: Path | None = None
    ref_text: str | None = None


def settings_digest(speech: SpeechOptions, options: BatchOptions, item_format: str, checkpoint: Checkpoint) -> str:
    """A hash of all settings outside the list that decide how the items sound and what their rows contain."""
    from llasa_cli.checkpoint.resolve import revision_of

    shared: dict[str, Any] = {
        "sampling": {name: getattr(speech.sampling, name) for name in SAMPLING},
        "seed": None,
        "speaker": speech.speaker,
        "retries": speech.retries,
        "markdown": speech.markdown,
    }
    if speech.style:
        shared["style"] = list(speech.style)
    model = [revision_of(checkpoint.codec_folder), checkpoint.options.dtype, checkpoint.revision]
    parts: list[Any] = [shared, item_format, *model, options.verifiers.recognizer, options.engine]
    if speech.best_of > 1:
        parts += [speech.best_of, speech.good_enough, speech.candidate, asdict(options.verifiers)]
    if options.timing is not None:
        parts.append({"words": asdict(options.timing)})
    if checkpoint.options.no_watermark:
        parts.append("no watermark")
    if speech.speed != 1 or speech.lexicon:
        parts.append({"speed": speech.speed, "lexicon": speech.lexicon})
    return _digest(parts)


def voice_digest(speaker: str | None, reference: Reference | None) -> str:
    """A hash of a speaker or a saved voice."""
    return _digest([speaker, None if reference is None else {"text": reference.text, "codes": reference.codes}])


def item_key(item: Item, voice: str, shared: SharedSettings) -> str:
    """A hash of everything that decides how an item sounds.

    Args:
        voice: The result of `voice_digest`, or the digest of a clip's file.
    """
    parts: list[Any] = [
        item.text,
        voice,
        item.ref_text,
        item.seed,
        shared.seed,
        item.sampling,
        item.ending,
        shared.digest,
    ]
    if item.speed is not None:
        parts.append(item.speed)
    if item.style:
        parts.append(item.style)
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def seed_of(key: str, path: str) -> int:
    """The seed of an item without one in the list: different for each item, the same in every run."""
    return int.from_bytes(hashlib.sha256(f"{key} {path}".encode()).digest()[:8], "big") % LARGEST_SEED


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:12]


class Validator:
    """Checks items; see the module.

    Args:
        voice_key: (voice, speaker) -> a hash of how that voice sounds. Raises UsageError for an unknown name.

    Attributes:
        warnings: About clips, file names and the names of earlier runs.
    """

    def __init__(self, plan: Plan, shared: SharedSettings, voice_key: Callable[[str | None, str | None], str]) -> None:
        self._plan, self._shared = plan, shared
        self._named_voice = lru_cache(_CACHED)(lambda voice, speaker: _attempt(lambda: voice_key(voice, speaker)))
        self._clip = lru_cache(_CACHED)(self._check_clip)
        self.warnings = Messages()

    def add_all(self, items: Iterable[Item], on_progress: Callable[[int], None] | None = None) -> None:
        """Check all items and complete the plan."""
        for count, item in enumerate(items, 1):
            self.add(item)
            if on_progress is not None and count % _PROGRESS_EVERY == 0:
                on_progress(count)
        moved = self._plan.name_numbered_items()
        if moved:
            items_keep = "1 item keeps the file name" if moved == 1 else f"{moved} items keep the file names"
            self.warnings.add(
                f"lines were added or removed; {items_keep} of the earlier run (see path in results.jsonl)"
            )
        self._plan.protect_clips(self._shared.ref)

    def add(self, item: Item) -> None:
        item = self._with_shared_clip(item)
        voice, problem = self._voice(item)
        if not any(character.isalnum() for character in item.text):
            problem = "There is nothing to say in this text." if item.text.strip() else "The text is empty."
        elif has_voices(item.text):
            problem = "[voice:NAME] works with say and clone only. An item has one voice, from its column voice."
        task = self._plan.add(item, item_key(item, voice, self._shared), voice, problem)
        name, ending = task.path.rpartition(".")[::2]
        if name != item.name:
            wanted = f"{item.name}.{ending}"
            first = self._plan.line_of(wanted)
            self.warnings.add(
                f"line {item.number}: {wanted} is the file of line {first}; this item is written to {task.path}"
            )

    def _with_shared_clip(self, item: Item) -> Item:
        """A voice in the list has priority over the flag. Clip and transcript come from the same place."""
        if item.ref is not None or item.voice is not None or item.speaker is not None or self._shared.ref is None:
            return item
        return replace(item, ref=self._shared.ref, ref_text=self._shared.ref_text)

    def _voice(self, item: Item) -> tuple[str, str]:
        """-> (a hash of how the item's voice sounds, why it can't be used)"""
        if item.ref is None:
            return self._named_voice(item.voice, item.speaker)
        if item.voice is not None or item.speaker is not None:
            return "", "It names both a clip and a voice."
        return self._clip(item.ref, item.ref_text)

    def _check_clip(self, path: Path, transcript: str | None) -> tuple[str, str]:
        name = json.dumps([str(path), transcript])
        stored = self._plan.fact(name)
        if stored is None:
            stored = list(_attempt(lambda: self._clip_digest(path, transcript)))
            self._plan.store_fact(name, stored)
        return stored[0], stored[1]

    def _clip_digest(self, path: Path, transcript: str | None) -> str:
        for warning in load_reference(path, transcript).warnings:
            self.warnings.add(f"{path}: {warning}")
        return clip_digest(path)


def _attempt(find: Callable[[], str]) -> tuple[str, str]:
    """-> (result, "") or ("", why there is none)"""
    try:
        return find(), ""
    except LlasaError as error:
        return "", str(error)
    except OSError as error:
        return "", f"It can't be read: {error.strerror}."
