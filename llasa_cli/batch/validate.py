"""A list -> a plan: every item looked at, before anything heavy is loaded.

    survey = Validator(plan, settings, voices)
    survey.add_all(items_of(...))
    survey.warnings, plan.bad()

An item that can't be made gets its reason here, and a key of all that decides how it sounds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from llasa_cli.batch.manifest import SHOWN, Item
from llasa_cli.batch.plan import Plan
from llasa_cli.errors import LlasaError
from llasa_cli.voices.batch_clips import digest_of, load_reference

LARGEST_SEED = 2**31
_REMEMBERED = 1000
"""Voices and clips whose verdict is kept in memory; the plan has the rest."""


@dataclass(frozen=True)
class Settings:
    """What all items share.

    Attributes:
        digest: Of everything that decides how they sound: model, sampling, format, checks.
        seed: Of items that name none; None gives each one of its own, by what it says.
        ref, ref_text: A clip for the items that name no voice.
    """

    digest: str
    seed: int | None = None
    ref: Path | None = None
    ref_text: str | None = None


class Validator:
    """See the module.

    Args:
        trace_of: (voice, speaker) -> what decides how that voice sounds; raises UsageError for nobody's name.
    """

    def __init__(self, plan: Plan, settings: Settings, trace_of: Callable[[str | None, str | None], str]) -> None:
        self._plan, self._settings = plan, settings
        self._trace = lru_cache(_REMEMBERED)(lambda voice, speaker: _verdict(lambda: trace_of(voice, speaker)))
        self._clip = lru_cache(_REMEMBERED)(self._looked_at)
        self.warnings: list[str] = []
        self.warned = 0

    def add_all(self, items: Iterable[Item], on_progress: Callable[[int], None] | None = None) -> None:
        for count, item in enumerate(items, 1):
            self.add(item)
            if on_progress is not None and count % 1000 == 0:
                on_progress(count)
        self._plan.spare_clips(self._settings.ref)

    def add(self, item: Item) -> None:
        item = self._with_reference(item)
        voice, problem = self._voice(item)
        if not any(character.isalnum() for character in item.text):
            problem = "The text is empty." if not item.text.strip() else "There is nothing to say in this text."
        parts = [item.text, voice, item.ref_text, item.seed, self._settings.seed, item.sampling, item.ending]
        key = hashlib.sha256(json.dumps([*parts, self._settings.digest]).encode()).hexdigest()[:16]
        self._plan.add(item, key, voice, problem)

    def _with_reference(self, item: Item) -> Item:
        """The list's own voice counts before the flag's; clip and transcript come from the same place."""
        if item.ref is not None or item.voice is not None or item.speaker is not None or self._settings.ref is None:
            return item
        return replace(item, ref=self._settings.ref, ref_text=self._settings.ref_text)

    def _voice(self, item: Item) -> tuple[str, str]:
        """What decides how an item's voice sounds, and what is wrong with it."""
        if item.ref is None:
            return self._trace(item.voice, item.speaker)
        if item.voice is not None or item.speaker is not None:
            return "", "It names a clip and a voice."
        return self._clip(item.ref, item.ref_text)

    def _looked_at(self, path: Path, transcript: str | None) -> tuple[str, str]:
        name = clip_name(path, transcript)
        kept = self._plan.fact(name)
        if kept is None:
            kept = list(_verdict(lambda: self._judged(path, transcript)))
            self._plan.keep(name, kept)
        return kept[0], kept[1]

    def _judged(self, path: Path, transcript: str | None) -> str:
        clip = load_reference(path, transcript)
        for warning in clip.warnings:
            self.warned += 1
            if len(self.warnings) < SHOWN:
                self.warnings.append(f"{path}: {warning}")
        return digest_of(path)


def clip_name(path: Path, transcript: str | None) -> str:
    return json.dumps([str(path), transcript])


def _verdict(find: Callable[[], str]) -> tuple[str, str]:
    try:
        return find(), ""
    except LlasaError as error:
        return "", f"{error.message} {error.hint}".strip()
    except OSError as error:
        return "", f"It can't be read: {error.strerror}."


def seed_of(key: str, path: str) -> int:
    """The seed of an item for which nobody named one: its own, and the same in every run."""
    return int.from_bytes(hashlib.sha256(f"{key} {path}".encode()).digest()[:8], "big") % LARGEST_SEED


def digest(value: Any) -> str:
    """12 hexadecimal digits of anything that JSON can write."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:12]
