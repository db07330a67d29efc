"""`llasa.json`: the metadata in a checkpoint's folder. A GGUF file holds the same object in its own metadata.

The program reads the entries of `_CHECKS`; training adds more, which are for people and for resuming a run. A checkpoint of
another project has no such file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from llasa_cli.checkpoint.gguf_file import is_gguf, read_gguf
from llasa_cli.checkpoint.gguf_tokenizer import llasa_metadata
from llasa_cli.errors import ModelError
from llasa_cli.files import read_json_object_if_exists

METADATA_FILE = "llasa.json"


def read_metadata(folder: Path) -> dict[str, Any]:
    """Read and validate the `llasa.json` of a folder or a GGUF file; an empty dictionary if there is none.

    Raises:
        ModelError: It can't be read, or an entry has a wrong type.
    """
    if is_gguf(folder):
        metadata = llasa_metadata(read_gguf(folder))
    else:
        metadata = read_json_object_if_exists(folder / METADATA_FILE)
    for name, value in metadata.items():
        if value is not None and name in _CHECKS and not _CHECKS[name](value):
            raise ModelError(
                f"The entry {name!r} of {folder if is_gguf(folder) else folder / METADATA_FILE} can't be {repr(value)[:60]}.",
                "Correct the file, or remove the entry to get the default.",
            )
    return metadata


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


def _is_length_band(entry: Any) -> bool:
    """See `synthesis.length_band.LengthBand`."""
    names = ("base_s", "letter_s", "pause_s", "below", "above")
    return isinstance(entry, dict) and all(_is_number(entry.get(name)) for name in names)


_CHECKS: dict[str, Callable[[Any], bool]] = {
    "codec": _is_text,
    "base": _is_text,
    "default_speaker": _is_text,
    "join": _is_text,
    "cloning_note": _is_text,
    "cpu_dtype": _is_text,
    "style": lambda value: isinstance(value, list) and all(map(_is_text, value)),
    "speakers": lambda value: isinstance(value, list) and all(map(_is_text, value)),
    "speaker_notes": lambda value: isinstance(value, dict) and all(map(_is_text, value.values())),
    "sampling": lambda value: isinstance(value, dict) and all(map(_is_number, value.values())),
    "most_characters": lambda value: type(value) is int and value > 0,
    "slowest_s_a_character": lambda value: _is_number(value) and value > 0,
    "length_bands": lambda value: isinstance(value, dict) and all(map(_is_length_band, value.values())),
}
"""The type of each entry that the program reads. A value of null counts as absent."""


def only_language(metadata: Mapping[str, Any]) -> str | None:
    """The language of a model that speaks just one, such as "en"."""
    spoken = metadata.get("language") or []
    if isinstance(spoken, str):
        return spoken
    return str(spoken[0]) if isinstance(spoken, list) and len(spoken) == 1 else None
