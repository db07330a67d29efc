"""Shell completion of the values of options."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from llasa_cli.audio.formats import FORMATS
from llasa_cli.options import Flag
from llasa_cli.settings import BUILT_IN_MODEL, DTYPES, RECOGNIZERS, SPEAKER_MODELS, ModelOptions


def offered(flag: Flag, given: Mapping[str, Any], incomplete: str) -> list[str]:
    """The values that begin with the typed text.

    Args:
        given: The options that were parsed before, by parameter name.
    """
    values = flag.choices or SOURCES[flag.completion](given)
    return [value for value in values if value.startswith(incomplete)]


def _catalog(given: Mapping[str, Any]) -> Iterable[str]:
    from llasa_cli.hub.catalog import CATALOG

    return [BUILT_IN_MODEL, *(name for name in CATALOG if name != BUILT_IN_MODEL)]


def _models(given: Mapping[str, Any]) -> Iterable[str]:
    """The catalog without its codecs, and the other models in the cache."""
    from llasa_cli.hub.inventory import list_models

    codecs = _codecs(given)
    others = [status.name for status in list_models() if status.entry is None and status.is_complete]
    return [*(name for name in _catalog(given) if name not in codecs), *others]


def _codecs(given: Mapping[str, Any]) -> Iterable[str]:
    from llasa_cli.hub.catalog import CATALOG

    return [name for name, entry in CATALOG.items() if entry.codec is None]


def _speakers(given: Mapping[str, Any]) -> Iterable[str]:
    from llasa_cli.checkpoint.resolve import resolve_checkpoint
    from llasa_cli.errors import LlasaError

    try:
        return resolve_checkpoint(ModelOptions(model=given.get("model") or BUILT_IN_MODEL)).known_speakers
    except LlasaError:
        return []  # the model is not here


def _saved_voices(given: Mapping[str, Any]) -> Iterable[str]:
    from llasa_cli.voices.library import list_voices

    return [entry.name for entry in list_voices()]


SOURCES: Mapping[str, Callable[[Mapping[str, Any]], Iterable[str]]] = {
    "models": _models,
    "codecs": _codecs,
    "downloads": _catalog,
    "speakers": _speakers,
    "voices": lambda given: [*_saved_voices(given), *_speakers(given)],
    "saved voices": _saved_voices,
    "formats": lambda given: FORMATS,
    "devices": lambda given: ("auto", "cpu", "cuda", "cuda:0", "mps"),
    "dtypes": lambda given: DTYPES,
    "recognizers": lambda given: RECOGNIZERS,
    "speaker_models": lambda given: SPEAKER_MODELS,
}
