"""`llasa download --list`: the known models, and the content of the cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from llasa_cli.cli.console import as_json, result
from llasa_cli.cli.tables import table_text, width
from llasa_cli.wording import format_size

if TYPE_CHECKING:
    from llasa_cli.hub.inventory import ModelStatus

_WIDE = 100
"""Columns from which on the repositories' names are shown."""
_LEGEND = """\
Most models are for non-commercial use only and require an account on the hub (*).
(?): some of it is not verified. Details of a model: llasa download --list NAME"""


def show(names: Sequence[str], json: bool) -> None:
    """Print one line for each model, or all fields of the named ones."""
    from llasa_cli.hub.inventory import list_models

    models = list(list_models()) if not names else _named(names)
    if json:
        result(as_json([_as_object(model) for model in models]))
        return
    if names:
        for model in models:
            result(_details(model))
        return
    is_wide = width() >= _WIDE
    rows = [
        (model.name, _size(model), _state(model), _description(model), *([_repo(model)] if is_wide else []))
        for model in models
    ]
    result(table_text(("name", "size", "here", "what", *(["repository"] if is_wide else [])), rows))
    result(_LEGEND)


def _named(names: Sequence[str]) -> list[ModelStatus]:
    """Raises ModelError for a name that is neither in the catalog nor in a cache."""
    from llasa_cli.errors import ModelError
    from llasa_cli.hub.catalog import repo_of
    from llasa_cli.hub.inventory import built_in_status, list_models
    from llasa_cli.settings import BUILT_IN_MODEL

    known, chosen = list(list_models()), []
    for name in names:
        if name == BUILT_IN_MODEL:
            chosen.append(built_in_status())
            continue
        repo = repo_of(name)
        found = [model for model in known if repo is not None and model.repo.lower() == repo[0].lower()]
        if not found:
            raise ModelError(
                f"The model {name!r} is neither in the catalog nor on this machine.",
                "llasa download --list shows the models that are.",
            )
        chosen += [model for model in found if model not in chosen]
    return chosen


def _size(model: ModelStatus) -> str:
    if model.is_complete:
        return format_size(model.bytes_here)
    return format_size(model.entry.size) if model.entry is not None and model.entry.size else "?"


def _state(model: ModelStatus) -> str:
    if model.is_complete:
        return "yes"
    return "partly" if model.is_partial else "-"


def _description(model: ModelStatus) -> str:
    entry = model.entry
    if entry is None:
        return "not in the catalog"
    languages = f"; {' '.join(entry.languages)}" if entry.languages else ""
    return entry.what + languages + (" (?)" if entry.unverified else "")


def _repo(model: ModelStatus) -> str:
    return model.repo + ("*" if model.entry is not None and model.entry.gated else "")


def _details(model: ModelStatus) -> str:
    """Every field on a line of its own."""
    values = _as_object(model)
    for name in ("size", "bytes_here"):
        values[name] = format_size(values[name]) if values.get(name) else None
    values = {name: value for name, value in values.items() if value not in (None, (), [])}
    longest = max(map(len, values))
    return "\n".join(f"{name:<{longest}}  {_text(value)}" for name, value in values.items())


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _as_object(model: ModelStatus) -> dict[str, Any]:
    known = asdict(model.entry) if model.entry is not None else {"repo": model.repo}
    return {
        "name": model.name,
        **known,
        "here": model.is_complete,
        "folder": str(model.folder) if model.folder is not None else None,
        "bytes_here": model.bytes_here,
    }
