"""Command classes: help that fits any terminal, and usage errors in the form of all other errors.

Help is plain text without escape codes. Rich would break option names at 40 columns, read "[default: 1]" as markup, and
take longer to import than the command line itself.
"""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from llasa_cli.cli.console import show_error

_USAGE_ERROR: Any = typer.BadParameter.__base__  # Typer has carried its own copy of click since 0.26
_WIDEST, _NARROW = 100, 70
_COLUMN = 28
"""Width of the names in front of the help texts, where there is room for both."""


class Command(TyperCommand):
    """A command with the help of this module."""

    def format_help(self, context: Any, formatter: Any) -> None:
        _write_help(self, context, formatter)


class Group(TyperGroup):
    """A group of commands with the help and the errors of this module."""

    def format_help(self, context: Any, formatter: Any) -> None:
        _write_help(self, context, formatter)

    def make_context(self, *arguments: Any, **more: Any) -> Any:
        with _plain_errors():
            return super().make_context(*arguments, **more)

    def invoke(self, context: Any) -> Any:
        with _plain_errors():
            return super().invoke(context)


# --- errors ---


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Print a usage error as one sentence with a hint, and end with exit code 2."""
    try:
        yield
    except _USAGE_ERROR as error:
        context = error.ctx
        hint = f"{context.command_path} --help lists the options." if context is not None else ""
        message = error.format_message()
        if hasattr(error, "possibilities"):  # an option that does not exist
            message, hint = _unknown_option(error, hint)
        elif isinstance(error, typer.BadParameter):
            message = _wrong_number(error) or message
        show_error(message, hint)
        raise typer.Exit(2) from None


def _wrong_number(error: Any) -> str:
    """The sentence about an option whose value is not a number; empty for any other error.

    Only the message tells them apart. Typer has pydantic's ("valid integer", "valid number") or click's ("valid float").
    """
    kinds = {"valid integer": "a whole number", "valid number": "a number", "valid float": "a number"}
    kind = next((kind for said, kind in kinds.items() if said in error.message), None)
    return f"{max(error.param.opts, key=len)} must be {kind}." if kind and error.param else ""


def _unknown_option(error: Any, hint: str) -> tuple[str, str]:
    """-> the sentence with the nearest known option, and the hint for a text that begins with a dash."""
    parameters = error.ctx.command.params if error.ctx is not None else []
    known = [name for parameter in parameters for name in (*parameter.opts, *parameter.secondary_opts)]
    close = get_close_matches(error.option_name, [name for name in known if name.startswith("--")], 5)
    nearest = max(close, key=lambda name: _common_letters(name, error.option_name), default=None)
    message = f"There is no option {error.option_name}." + (f" Did you mean {nearest}?" if nearest else "")
    if any(parameter.name == "text" for parameter in parameters):
        hint = f'Put -- before a text that begins with a dash: {error.ctx.command_path} -- "-5 degrees"\n{hint}'
    return message, hint


def _common_letters(one: str, other: str) -> int:
    """The number of letters that two words share at their beginning."""
    return next(
        (count for count, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )


# --- help ---


def _write_help(command: Any, context: Any, formatter: Any) -> None:
    width = min(shutil.get_terminal_size().columns, _WIDEST)
    arguments = [part for part in command.get_params(context) if part.param_type_name == "argument"]
    usage = " ".join([context.command_path, "[OPTIONS]", *map(_argument, arguments)])
    usage += " COMMAND ..." if isinstance(command, TyperGroup) else ""
    formatter.write(textwrap.fill(f"Usage: {usage}", width, subsequent_indent="  ", break_long_words=False) + "\n\n")
    formatter.write(textwrap.fill(" ".join((command.help or "").split()), width, break_on_hyphens=False) + "\n")
    for title, rows in _sections(command, context).items():
        formatter.write(f"\n{title}:\n")
        for names, text in rows:
            formatter.write(_row(names, text, width))


def _sections(command: Any, context: Any) -> dict[str, list[tuple[str, str]]]:
    """Heading -> (names, help text) of each argument, option and command below it."""
    found: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
    for parameter in command.get_params(context):
        title = getattr(parameter, "rich_help_panel", None)
        if parameter.param_type_name == "argument":
            found["Arguments"].append((_argument(parameter), parameter.help or ""))
        elif not parameter.hidden:
            found.setdefault(title or "Options", []).append((_names(parameter), parameter.help or ""))
    for name in command.list_commands(context) if isinstance(command, TyperGroup) else ():
        below = command.get_command(context, name)
        found.setdefault("Commands", []).append((name, " ".join((below.help or "").split())))
    return {title: rows for title, rows in found.items() if rows}


def _argument(argument: Any) -> str:
    """ "LIST", "[TEXT...]"."""
    name = (argument.metavar or argument.name.upper()).removesuffix("...") + ("..." if argument.nargs != 1 else "")
    return name if argument.required else f"[{name}]"


def _names(option: Any) -> str:
    """ "-o, --output PATH", "--play / --no-play"."""
    names = ", ".join(sorted(option.opts, key=len))
    if option.secondary_opts:
        names += " / " + ", ".join(option.secondary_opts)
    return names if option.is_flag else f"{names} {option.metavar or 'TEXT'}"


def _row(names: str, text: str, width: int) -> str:
    """Names and text side by side; one below the other on a narrow terminal."""
    if width < _NARROW:
        indent, first = " " * 6, f"  {names}\n" + " " * 6
    else:
        indent = " " * (_COLUMN + 2)
        first = f"  {names:<{_COLUMN}}" if len(names) < _COLUMN else f"  {names}\n{indent}"
    lines = textwrap.wrap(text, width - len(indent), break_on_hyphens=False) or [""]
    return first + f"\n{indent}".join(lines) + "\n"
