"""A model's name -> the folder it lies in. Never touches a network."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from llasa_cli.errors import ModelError
from llasa_cli.files import add_ends, read_object
from llasa_cli.hub.catalogue import CATALOGUE, PUBLISHED_CODEC, repo_of, size_text
from llasa_cli.settings import BUILT_IN_MODEL, ModelOptions

BUILT_IN_FOLDER = Path(__file__).parents[1] / "voices_data" / BUILT_IN_MODEL


def find_model(name: str) -> Path:
    """A folder as it is, the built-in voice, or what the hub's own cache holds (HF_HOME, HF_HUB_CACHE are honoured).

    Raises:
        ModelError: It is not here, or there is no such name.
    """
    if name == BUILT_IN_MODEL:
        return BUILT_IN_FOLDER
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    found = repo_of(name)
    if found is None or name.startswith(("/", "./", "../", "~")):
        names = ", ".join([BUILT_IN_MODEL, *CATALOGUE])
        raise ModelError(
            f"There is no folder {name}, and no model of that name.", f"Names: {names}; or org/repository."
        )
    repo, revision = found
    short = name.partition("@")[0].lower()
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(repo, "config.json", revision=revision)
    if isinstance(path, str):
        return Path(path).parent
    entry = CATALOGUE.get(short)
    size = f" ({size_text(entry.size)}, {entry.license})" if entry else ""
    raise ModelError(f"The model {name} is not on this machine{size}.", f"Fetch it with: llasa download {name}")


def find_codec(model: Path, named: str | None) -> Path:
    """The codec's folder: inside the checkpoint, elsewhere, or the published one from the cache.

    Args:
        model: The checkpoint's folder.
        named: By a flag or by the checkpoint's `llasa.json`; relative to the checkpoint, or as for `find_model`.
    """
    if named is not None and (model / named / "config.json").is_file():
        return model / named
    return find_model(named or PUBLISHED_CODEC)


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
        add_ends(digest, path)
    return digest.hexdigest()[:12]


def find_adapter(name: str | None) -> Path | None:
    """The folder of a LoRA adapter.

    Raises:
        ModelError: There is none.
    """
    if name is None:
        return None
    folder = Path(name).expanduser()
    if not (folder / "adapter_config.json").is_file():
        raise ModelError(f"There is no adapter in {name}.", "Name the folder that `llasa finetune --lora` wrote.")
    return folder


def weights_of(options: ModelOptions) -> str:
    """Which weights speak: the model's revision, and the adapter's where there is one."""
    adapter = find_adapter(options.adapter)
    own = revision_of(find_model(options.model))
    return own if adapter is None else f"{own}+{revision_of(adapter)}"


def codec_identity(folder: Path) -> str:
    """12 hexadecimal digits of the configuration's shape and of the weights: codes of one codec are noise to another.

    Raises:
        ModelError: The folder is no codec's.
    """
    hint = "A codec folder holds config.json and model.safetensors."
    settings = read_object(folder / "config.json", hint)
    digest = hashlib.sha256()
    digest.update(json.dumps([settings.get("quantization_levels"), settings.get("quantization_dim")]).encode())
    weights = folder / "model.safetensors"
    try:
        digest.update(str(weights.stat().st_size).encode())
        add_ends(digest, weights)
    except OSError as error:
        raise ModelError(f"The codec in {folder} can't be read: {error}", hint) from error
    return digest.hexdigest()[:12]
