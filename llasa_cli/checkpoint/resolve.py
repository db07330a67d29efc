"""A model's name -> the folder it lies in. Never touches a network."""

from __future__ import annotations

import hashlib
from pathlib import Path

from llasa_cli.checkpoint.safetensors_header import places_of
from llasa_cli.errors import ModelError
from llasa_cli.files import hash_ends, read_json_object
from llasa_cli.hub.cache_layout import find_snapshot, is_folder, missing_from, repo_of_folder
from llasa_cli.hub.catalog import CATALOGUE, PUBLISHED_CODEC, entry_named, entry_of, repo_of
from llasa_cli.settings import BUILT_IN_MODEL, ModelOptions
from llasa_cli.wording import format_size

BUILT_IN_FOLDER = Path(__file__).parents[1] / "voices_data" / BUILT_IN_MODEL


def find_model(name: str) -> Path:
    """A folder as it is, the built-in voice, or what is in a cache (LLASA_CACHE, else the hub's: HF_HOME, HF_HUB_CACHE).

    Raises:
        ModelError: It is not here, or not all of it, or there is no such name.
    """
    if name == BUILT_IN_MODEL:
        return BUILT_IN_FOLDER
    folder = Path(name).expanduser()
    if is_folder(folder):
        return folder
    found = repo_of(name)
    if found is None or name.startswith(("/", "./", "../", "~")):
        names = ", ".join([BUILT_IN_MODEL, *CATALOGUE])
        raise ModelError(
            f"There is no folder {name}, and no model of that name.", f"Names: {names}; or org/repository."
        )
    snapshot = find_snapshot(*found)
    if snapshot is None:
        raise ModelError(
            f"The model {name} is not on this machine{_what_is_known(name)}.", f"Fetch it with: llasa download {name}"
        )
    missing = missing_from(snapshot)
    if missing:
        raise ModelError(
            f"The model {name} is only partly on this machine: {missing[0]} is missing or cut off.",
            f"Fetch the rest with: llasa download {name}",
        )
    return snapshot


def _what_is_known(name: str) -> str:
    """ " (2.74 GB, CC BY-NC 4.0)", for a model of the catalogue."""
    named = entry_named(name)
    if named is None:
        return ""
    size = f"{format_size(named[1].size)}, " if named[1].size else ""
    return f" ({size}licence: {named[1].license})"


def find_codec(model: Path, named: str | None) -> Path:
    """The codec's folder: inside the checkpoint, elsewhere, or the one that belongs to a published model.

    Args:
        model: The checkpoint's folder.
        named: By a flag or by the checkpoint's `llasa.json`; relative to the checkpoint, or as for `find_model`.

    Raises:
        ModelError: It is not here, or the folder is no checkpoint's.
    """
    if named is None and not (model / "config.json").is_file():
        # Else a folder of anything would be said to lack the published codec.
        raise ModelError(f"There is no config.json in {model}.", "Is this the folder of a Llasa checkpoint?")
    if named is not None and (model / named / "config.json").is_file():
        return model / named
    return find_model(named or codec_of(model))


def codec_of(model: Path) -> str:
    """The codec of a checkpoint that names none: its own, where the catalogue knows one, else the published."""
    repo = repo_of_folder(model)
    entry = entry_of(repo) if repo is not None else None
    return (entry.codec if entry is not None else None) or PUBLISHED_CODEC


def revision_of(folder: Path) -> str:
    """Which weights these are: the commit of a cached model, else 12 hexadecimal digits of the weights' files.

    Of a big file only the ends are read, with its size.
    """
    if folder.parent.name == "snapshots":
        return folder.name
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.safetensors")):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}".encode())
        hash_ends(digest, path)
    return digest.hexdigest()[:12]


def find_adapter(name: str | None) -> Path | None:
    """The folder of a LoRA adapter: as it is, or of a repository in the cache.

    Raises:
        ModelError: There is none.
    """
    if name is None:
        return None
    folder = Path(name).expanduser()
    found = None if folder.is_dir() else repo_of(name)
    if found is not None:
        folder = find_snapshot(*found) or folder
    if not (folder / "adapter_config.json").is_file():
        raise ModelError(f"There is no adapter in {name}.", "Name the folder that `llasa finetune --lora` wrote.")
    return folder


def model_revision(options: ModelOptions) -> str:
    """Which weights speak: the model's revision, and the adapter's where there is one."""
    adapter = find_adapter(options.adapter)
    own = revision_of(find_model(options.model))
    return own if adapter is None else f"{own}+{revision_of(adapter)}"


def codec_identity(folder: Path) -> str:
    """12 hexadecimal digits of what gives a codec's codes their meaning: codes of one are noise to another.

    That are its quantiser and what comes before it. Both formats of X-Codec2 and a finetune of its decoder alone (44.1 kHz)
    are one codec: what was made with one can be spoken with another.

    Raises:
        ModelError: The folder is no codec's.
    """
    read_json_object(folder / "config.json", "A codec folder holds config.json and model.safetensors.")
    places = places_of(folder)
    found = next((names for names in _MEANING if names[0] in places), tuple(sorted(places)))
    digest = hashlib.sha256()
    for name in found:
        if name in places:
            digest.update(f"{places[name].dtype} {places[name].shape}".encode())
            digest.update(places[name].ends(_MEANING_BYTES))
    return digest.hexdigest()[:12]


_MEANING: tuple[tuple[str, ...], ...] = (
    ("quantizer.project_in.weight", "quantizer.project_in.bias", "fc_encoder.weight"),
    ("generator.quantizer.project_in.weight", "generator.quantizer.project_in.bias", "fc_prior.weight"),
)
"""In transformers' format, and in its authors'."""
_MEANING_BYTES = 1 << 16
