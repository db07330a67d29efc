"""Text as phones, as the models of NeuTTS read it: by espeak-ng through the package phonemizer.

The `neutts` package carries an espeak-ng of its own, which writes some phones otherwise than the plain one. Its library is
used if the package's files are installed; the package itself is never imported. Otherwise espeakng-loader has a plain 1.52.

Source: neutts 1.4.1, `phonemizers.py` and `NeuTTS._to_phones`, which keeps only the first part where espeak-ng reads a text in several.
"""

from __future__ import annotations

import threading
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from llasa_cli.errors import ModelError

_ESPEAK_NAMES = {"en": "en-us", "fr": "fr-fr"}
"""espeak's name of a language, where it is not that of ISO 639-1."""
_LOCK = threading.Lock()
"""espeak-ng has one state for the process."""


def to_phones(text: str, language: str) -> str:
    """Phones with stress marks, and the text's punctuation, separated by single spaces. Empty for an empty text.

    Args:
        language: The ISO 639-1 code, such as "en".

    Raises:
        ModelError: A package is not installed, or espeak-ng does not know the language.
    """
    with _LOCK:
        backend = _backend(_ESPEAK_NAMES.get(language, language))
        phones = " ".join(backend.phonemize([text]))
    if language == "fr":  # a hyphen between syllables
        phones = phones.replace("-", "")
    return " ".join(phones.split())


def bundled_espeak() -> tuple[Path, Path] | None:
    """The library and the data of the espeak-ng in the `neutts` package; None if it is not installed."""
    found = find_spec("neutts")
    if found is None or found.origin is None:
        return None
    folder = Path(found.origin).parent
    names = ("libespeak-ng.so*", "libespeak-ng*.dylib", "espeak-ng*.dll")
    library = next((path for name in names for path in sorted(folder.glob(name))), None)
    return None if library is None else (library, folder / "espeak-ng-data")


@lru_cache(maxsize=8)
def _backend(language: str) -> Any:
    try:
        from phonemizer.backend import EspeakBackend
        from phonemizer.backend.espeak.wrapper import EspeakWrapper
        from phonemizer.logger import get_logger

        espeak = bundled_espeak()
        if espeak is None:
            import espeakng_loader

            espeak = Path(espeakng_loader.get_library_path()), Path(espeakng_loader.get_data_path())
    except ImportError as error:
        raise ModelError(
            f"This model reads phones, and the package {str(error.name).replace('_', '-')} that makes them is not installed.",
            "pip install 'llasa-cli[neutts]'",
        ) from error
    EspeakWrapper.set_library(str(espeak[0]))
    EspeakWrapper.set_data_path(str(espeak[1]))
    try:
        return EspeakBackend(
            language,
            preserve_punctuation=True,
            with_stress=True,
            words_mismatch="ignore",
            language_switch="remove-flags",
            logger=get_logger("quiet"),
        )
    except RuntimeError as error:
        raise ModelError(f"espeak-ng can't read {language!r}: {error}.", "Correct the model's language.") from error
