"""Every flag of every command arrives in its option dataclass, and the program reads every option."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields, is_dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import pytest
import typer
from typer.testing import CliRunner

import llasa_cli
from llasa_cli.cli import voices
from llasa_cli.cli.app import COMMANDS as MAIN_COMMANDS
from llasa_cli.cli.flags import Parameter, Parsed, parameters_of, with_flags
from llasa_cli.options import flags_of
from llasa_cli.settings import SpeechOptions

COMMANDS = (*MAIN_COMMANDS, voices.voices, voices.show, voices.remove)


EXCLUSIVE = {"search": "2x3x1"}
"""Flags that can't be given together with all others, and an example of each."""


def options_of(command: Callable[..., None]) -> dict[str, Any]:
    """Argument of a command -> its option dataclass."""
    hints = get_type_hints(inspect.unwrap(command))
    found = {name: get_args(hint)[0] if get_origin(hint) is Parsed else hint for name, hint in hints.items()}
    return {name: options for name, options in found.items() if is_dataclass(options)}


def example(parameter: Parameter) -> tuple[list[str], Any]:
    """-> words of a command line, and the value that they stand for, which is not the default."""
    kinds = get_args(parameter.kind) or (parameter.kind,)
    flag, name = parameter.flag, parameter.title
    words = [] if flag.is_argument else [name]
    if bool in kinds:
        return ([f"--no-{name.removeprefix('--')}"], False) if parameter.default is True else ([name], True)
    if get_origin(parameter.kind) is Mapping:
        return [*words, "a=1", *words, "b=two"], {"a": 1, "b": "two"}
    if get_origin(parameter.kind) is tuple and Ellipsis not in kinds:
        return [*words, "0.3", "0.4"], (0.3, 0.4)
    one = (
        flag.choices[-1]
        if flag.choices
        else number(parameter)
        if {int, float} & set(kinds)
        else f"some-{parameter.name}"
    )
    value: Any = Path(str(one)) if kinds[0] is Path else one
    if get_origin(parameter.kind) is tuple:
        return [*words, str(one), *words, str(one)], (value, value)
    return [*words, str(one)], value


def number(parameter: Parameter) -> float:
    least = max(parameter.flag.minimum, min(0, parameter.flag.maximum - 10))
    most = min(parameter.flag.maximum, least + 10)
    value = least + (most - least) * 0.75
    value = round(value) if int in (get_args(parameter.kind) or (parameter.kind,)) else value
    return value if value != parameter.default else least


def expected(options: Any, values: Mapping[str, Any], prefix: str = "") -> Any:
    """The dataclass with these values, by parameter name."""
    made = {}
    for field in fields(options):
        kind = get_type_hints(options)[field.name]
        inner = next((part for part in get_args(kind) or (kind,) if is_dataclass(part)), None)
        if inner is not None:
            made[field.name] = expected(inner, values, f"{field.name}_" if field.name in flags_of(options) else "")
        elif field.name in flags_of(options) and prefix + field.name in values:
            made[field.name] = values[prefix + field.name]
        else:
            assert field.default is not MISSING or field.default_factory is not MISSING, f"{field.name} has no flag"
    return options(**made)


def built(options: Any) -> Any:
    """The dataclass without `Parsed` in its place or in its fields."""
    if isinstance(options, Parsed):
        options = options.build()
    inner = {field.name: getattr(options, field.name) for field in fields(options)}
    return replace(options, **{name: built(value) for name, value in inner.items() if isinstance(value, Parsed)})


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.__name__)
def test_every_flag_of_a_command_arrives_in_its_options(command: Callable[..., None]) -> None:
    seen: dict[str, Any] = {}

    def record(**arguments: Any) -> None:
        seen.update(arguments)

    record.__annotations__ = get_type_hints(inspect.unwrap(command))
    program = typer.Typer()
    program.command()(with_flags(record))
    examples = {
        name: {p.name: (p, *example(p)) for p in parameters_of(kind) if p.name not in EXCLUSIVE}
        for name, kind in options_of(command).items()
    }
    found = [row for rows in examples.values() for row in rows.values()]
    line = [word for parameter, words, _ in sorted(found, key=lambda row: row[0].flag.is_argument) for word in words]
    made = CliRunner().invoke(program, line, env={"LLASA_MODEL": ""})
    assert made.exit_code == 0, made.output
    for name, options in options_of(command).items():
        values = {part: value for part, (_, _, value) in examples[name].items()}
        assert all(value != parameter.default for parameter, _, value in examples[name].values())
        assert built(seen[name]) == expected(options, values)


@pytest.mark.parametrize(("name", "value"), EXCLUSIVE.items())
def test_an_exclusive_flag_arrives_alone(name: str, value: str) -> None:
    seen: dict[str, Any] = {}

    def record(speech: SpeechOptions) -> None:
        seen["speech"] = speech

    record.__annotations__ = {"speech": SpeechOptions, "return": None}
    program = typer.Typer()
    program.command()(with_flags(record))
    made = CliRunner().invoke(program, [f"--{name}", value])
    assert made.exit_code == 0, made.output
    assert getattr(seen["speech"], name) == value


@lru_cache
def names_that_are_read() -> set[str]:
    """Attributes and string keys that the package reads, outside the option dataclasses themselves."""
    found: set[str] = set()
    for path in Path(llasa_cli.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                found.add(node.attr)
            elif isinstance(node, ast.Subscript | ast.Call):
                parts = node.args if isinstance(node, ast.Call) else [node.slice]
                found |= {
                    part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str)
                }
    return found


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.__name__)
def test_every_option_of_a_command_is_read_by_the_program(command: Callable[..., None]) -> None:
    read = names_that_are_read()
    for options in options_of(command).values():
        unread = {parameter.name for parameter in parameters_of(options)} - read
        assert not {name for name in unread if not name.startswith("lora_")}
