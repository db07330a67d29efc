"""Which folders a model's name means: its checkpoint and its codec."""

from __future__ import annotations

import json
from pathlib import Path

from llasa_cli.errors import ModelError

PUBLISHED_CODEC = "HKUSTAudio/xcodec2-hf"


def find_model_folder(name: str) -> Path:
    """A folder as it is; any other name as the catalogue and the cache know it."""
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    from llasa_cli.hub.cache import find_model

    return find_model(name)


def find_codec_of(folder: Path, wanted: str | None) -> Path:
    """The codec asked for, else the one that the checkpoint's `llasa.json` names, else the published one.

    Raises:
        ModelError: It is not here.
    """
    if wanted is None:
        about = folder / "llasa.json"
        named = json.loads(about.read_text(encoding="utf-8")).get("codec") if about.is_file() else None
        if named is not None and (folder / named).is_dir():
            return folder / named
        inside = folder / "codec"
        if named is None and inside.is_dir():
            return inside
        wanted = named or PUBLISHED_CODEC
        if not about.is_file() and not (folder / "config.json").is_file():
            raise ModelError(f"{folder} does not say which codec it belongs to.", "Name it with --codec.")
    return find_model_folder(wanted)
