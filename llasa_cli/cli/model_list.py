"""`llasa download --list`: the known models, and what is in the cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from llasa_cli.cli.console import as_json, result
from llasa_cli.cli.tables import table_text, width

if TYPE_CHECKING:
    from llasa_cli.hub.inventory import ModelStatus

_WIDE = 100
"""Columns from which repositories' names have room."""
_LEGEND = """\
Most are for non-commercial use only, and ask for an account on the hub (*).
(?): not all of it is verified. More of one: llasa download --list NAME"""


def show(names: Sequence[str], json: bool) -> None:
    """One line for each model, or all that is known of those that are named."""
    from llasa_cli.hub.inventory import books

    found = list(books()) if not names else _named(names)
    if json:
        result(as_json([_as_object(book) for book in found]))
        return
    if names:
        for book in found:
            result(_all_of(book))
        return
    wide = width() >= _WIDE
    rows = [(book.name, _size(book), _here(book), _about(book), *([_source(book)] if wide else [])) for book in found]
    result(table_text(("name", "size", "here", "what", *(["repository"] if wide else [])), rows))
    result(_LEGEND)


def _named(names: Sequence[str]) -> list[ModelStatus]:
    """Raises:
    ModelError: One is neither known nor here.
    """
    from llasa_cli.errors import ModelError
    from llasa_cli.hub.catalog import repo_of
    from llasa_cli.hub.inventory import books, built_in
    from llasa_cli.settings import BUILT_IN_MODEL

    known, chosen = list(books()), []
    for name in names:
        if name == BUILT_IN_MODEL:
            chosen.append(built_in())
            continue
        repo = repo_of(name)
        found = [book for book in known if repo is not None and book.repo.lower() == repo[0].lower()]
        if not found:
            what = "There is no model" if repo is None else "Nothing is known here of the model"
            raise ModelError(f"{what} {name!r}.", "llasa download --list shows what is known, and what is here.")
        chosen += [book for book in found if book not in chosen]
    return chosen


def _size(book: ModelStatus) -> str:
    from llasa_cli.wording import format_size

    if book.is_whole:
        return format_size(book.here)
    return format_size(book.entry.size) if book.entry is not None and book.entry.size else "?"


def _here(book: ModelStatus) -> str:
    from llasa_cli.hub.inventory import is_cut_off

    if book.is_whole:
        return "yes"
    return "partly" if book.folder is not None or is_cut_off(book.repo) else "-"


def _about(book: ModelStatus) -> str:
    entry = book.entry
    if entry is None:
        return "not in the catalogue"
    languages = f"; {' '.join(entry.languages)}" if entry.languages else ""
    return entry.what + languages + (" (?)" if entry.unverified else "")


def _source(book: ModelStatus) -> str:
    return book.repo + ("*" if book.entry is not None and book.entry.gated else "")


def _all_of(book: ModelStatus) -> str:
    """Every field, a line each."""
    from llasa_cli.wording import format_size

    fields = _as_object(book)
    for name in ("size", "bytes_here"):
        fields[name] = format_size(fields[name]) if fields.get(name) else None
    fields = {name: value for name, value in fields.items() if value not in (None, (), [])}
    longest = max(map(len, fields))
    return "\n".join(f"{name:<{longest}}  {_text(value)}" for name, value in fields.items())


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _as_object(book: ModelStatus) -> dict[str, Any]:
    known = asdict(book.entry) if book.entry is not None else {"repo": book.repo}
    return {
        "name": book.name,
        **known,
        "here": book.is_whole,
        "folder": str(book.folder) if book.folder is not None else None,
        "bytes_here": book.here,
    }
