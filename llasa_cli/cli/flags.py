"""The command line of a function whose parameters are option dataclasses.

    @with_flags
    def say(text: TextOptions, models: ModelOptions, console: ConsoleOptions) -> None: ...

Each field with a `Flag` becomes one flag or argument, and the command receives the finished dataclasses. A parameter of
the type `Parsed[FinetuneOptions]` receives the values and the names that the user gave instead, for a command that
combines them with a configuration file.
"""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from keyword import iskeyword
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Generic, TypeVar, Union, get_args, get_origin, get_type_hints

import typer

from llasa_cli.errors import UsageError
from llasa_cli.options import Flag, annotations_of, default_of, flags_of
from llasa_cli.settings import LARGEST_NUMBER

T = TypeVar("T")
_METAVARS = {str: "TEXT", Path: "PATH", int: "N", float: "NUMBER"}


@dataclass(frozen=True)
class Parameter:
    """One flag or argument of a command.

    Attributes:
        name: The field's name; inside an optional dataclass, after the name of that dataclass's field (`lora_rank`).
        flag: The field's metadata.
        kind: The field's type; bool for an optional dataclass, which the flag switches on.
        default: The field's default; MISSING for a required one.
    """

    name: str
    flag: Flag
    kind: Any
    default: Any

    @property
    def names(self) -> tuple[str, ...]:
        """Spellings on the command line; a switch that can be turned off has its `--no-` form after a slash."""
        names = self.flag.names or ("--" + self.name.replace("_", "-"),)
        if bool not in _alternatives(self.kind) or self.default is False:
            return names
        return tuple(f"{name}/--no-{name.removeprefix('--')}" if name.startswith("--") else name for name in names)

    @property
    def title(self) -> str:
        """The spelling in messages: "--top-p", "DATA"."""
        if self.flag.is_argument:
            return (self.flag.metavar or self.name.upper()).removesuffix("...")
        return next(name for name in self.names if name.startswith("--")).partition("/")[0]

    @property
    def keyword(self) -> str:
        """The name of the Python parameter that Typer sees, from the flag: no command has two of them."""
        name = self.name if self.flag.is_argument else self.title.removeprefix("--").replace("-", "_")
        return f"{name}_" if iskeyword(name) else name

    def check(self, value: Any, where: str = "") -> None:
        """Refuse a value outside the limits.

        Raises:
            UsageError: The message names the flag, or the key of the file `where`.
        """
        values = value if isinstance(value, list | tuple) else (value,)
        for one in values:
            problem = "" if one is None else self.flag.problem(one)
            if problem and where:
                raise UsageError(f"{where}: {self.name} ({self.title}) {problem}, not {one!r}.", "Correct the file.")
            if problem:
                raise UsageError(f"{self.title} {problem}, not {one!r}.")

    def value(self, parsed: Any) -> Any:
        """The value that Typer parsed, in the field's type."""
        if parsed is None:
            return None if self.default is MISSING else self.default
        if _is_mapping(self.kind):
            return _named_values(parsed, self.title)
        return tuple(parsed) if isinstance(parsed, list) else parsed

    def as_signature(self, may_be_absent: bool) -> inspect.Parameter:
        """This parameter in the signature that Typer reads.

        Args:
            may_be_absent: Whether the command itself checks for required values.
        """
        declared: dict[str, Any] = {"help": self.help, "show_default": False, "show_envvar": False}
        declared |= {"envvar": self.flag.environment, "rich_help_panel": self.flag.panel or None}
        if bool not in _alternatives(self.kind):
            declared["metavar"] = self.flag.metavar or (self.title if self.flag.is_argument else self._metavar)
        if self.flag.completion or self.flag.choices:
            declared["autocompletion"] = self._completion()
        info = typer.Argument(**declared) if self.flag.is_argument else typer.Option(*self.names, **declared)
        default = self.default
        if default is MISSING:
            default = None if may_be_absent else inspect.Parameter.empty
        elif _is_list(self.kind) or _is_mapping(self.kind):
            default = None
        annotation: Any = Annotated[_typer_kind(self.kind, is_optional=default is None), info]  # type: ignore[valid-type]
        return inspect.Parameter(self.keyword, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)

    @property
    def help(self) -> str:
        """The help text with the range, the default and the environment variable."""
        notes = []
        if self.flag.maximum < LARGEST_NUMBER:
            notes.append(self.flag.range_text)
        default = self.flag.default_text or _default_text(self.default)
        if default:
            notes.append(f"default: {default}")
        if self.flag.environment:
            notes.append(f"environment: {self.flag.environment}")
        return f"{self.flag.help} [{'; '.join(notes)}]" if notes else self.flag.help

    @property
    def _metavar(self) -> str:
        kinds = [kind for kind in _alternatives(self.kind) if kind is not NoneType]
        parts = [part for part in get_args(kinds[0]) if part is not Ellipsis] or kinds[:1]
        return " ".join(_METAVARS.get(part, "TEXT") for part in parts)

    def _completion(self) -> Callable[..., list[str]]:
        flag = self.flag

        def complete(context: typer.Context, incomplete: str) -> list[str]:
            from llasa_cli.cli.completion import offered

            return offered(flag, context.params, incomplete)

        return complete


class Parsed(Generic[T]):
    """The values of a command line for an option dataclass that is not complete yet.

    Attributes:
        values: Parameter name -> value, given or default.
        given: The names of those on the command line; a value of the environment is not among them.
    """

    def __init__(self, options: type[T], values: Mapping[str, Any], given: set[str]) -> None:
        self._options = options
        self.values, self.given = dict(values), set(given)

    def over(self, values: Mapping[str, Any], where: str) -> Parsed[T]:
        """Take the values of a file for the options that were not given.

        Args:
            values: The values by field name; an inner dataclass as such.
            where: The file's name, for messages.

        Raises:
            UsageError: One is outside its limits.
        """
        flat = dict(_flattened(self._options, values))
        for parameter in parameters_of(self._options):
            if parameter.name in flat:
                parameter.check(flat[parameter.name], where)
        added = {name: value for name, value in flat.items() if name not in self.given}
        return Parsed(self._options, self.values | added, self.given | set(flat))

    def build(self, **others: Any) -> T:
        """The finished dataclass.

        Args:
            others: Fields, by name, that no flag or another value sets.

        Raises:
            UsageError: A required value is missing, or one is outside its limits.
        """
        for parameter in parameters_of(self._options):
            if parameter.default is MISSING and parameter.name not in others:
                self.required(parameter.name)
        made: T = _build(self._options, self, "", others)
        return made

    def part(self, options: type[T]) -> Parsed[T]:
        """The values of a dataclass in one of the fields."""
        names = {parameter.name for parameter in parameters_of(options)}
        return Parsed(options, {name: self.values[name] for name in names}, self.given & names)

    def required(self, name: str) -> Any:
        """A required value.

        Raises:
            UsageError: The value is missing.
        """
        if self.values[name] is None:
            parameter = next(part for part in parameters_of(self._options) if part.name == name)
            if parameter.flag.is_argument:
                raise UsageError(f"Missing argument {parameter.title}.", parameter.flag.help)
            raise UsageError(f"Missing option {'/'.join(parameter.names)}.", parameter.flag.help)
        return self.values[name]


def with_flags(function: Callable[..., None]) -> Callable[..., None]:
    """Wrap a command for Typer, with one parameter for each field of its option dataclasses."""
    hints = get_type_hints(function)
    shown: dict[str, inspect.Parameter] = {}
    for hint in hints.values():
        options = _dataclass_in(hint)
        for parameter in parameters_of(options) if options is not None else ():
            assert parameter.keyword not in shown, f"{function.__name__} has two flags {parameter.title}"
            shown[parameter.keyword] = parameter.as_signature(get_origin(hint) is Parsed)

    @functools.wraps(function)
    def run(typer_context: typer.Context, **values: Any) -> None:
        given = {name for name in values if _is_given(typer_context, name)}
        arguments: dict[str, Any] = {}
        for name, hint in hints.items():
            options = _dataclass_in(hint)
            if options is not None:
                parsed = _parse(options, values, given)
                arguments[name] = parsed if get_origin(hint) is Parsed else parsed.build()
            elif hint is typer.Context:
                arguments[name] = typer_context
        function(**arguments)

    context = inspect.Parameter("typer_context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    run.__signature__ = inspect.Signature([context, *shown.values()])  # type: ignore[attr-defined]
    run.__annotations__ = {}
    return run


def parameters_of(options: Any, prefix: str = "") -> Iterator[Parameter]:
    """The flags of an option dataclass, those of the dataclasses in its fields included."""
    for field in fields(options):
        kind, flag, inner = _field_kind(options, field.name)
        if inner is not None and flag is None:
            yield from parameters_of(inner)
        elif inner is not None and flag is not None:
            yield Parameter(prefix + field.name, flag, bool, False)
            yield from parameters_of(inner, field.name + "_")
        elif flag is not None:
            yield Parameter(prefix + field.name, flag, kind, default_of(field))


def _parse(options: type[T], values: Mapping[str, Any], given: set[str]) -> Parsed[T]:
    parameters = list(parameters_of(options))
    found = {parameter.name: parameter.value(values[parameter.keyword]) for parameter in parameters}
    for parameter in parameters:
        parameter.check(found[parameter.name])
    return Parsed(options, found, {parameter.name for parameter in parameters if parameter.keyword in given})


def _build(options: Any, parsed: Parsed[Any], prefix: str = "", others: Mapping[str, Any] | None = None) -> Any:
    made, values = dict(others or {}), parsed.values
    for field in fields(options):
        kind, flag, inner = _field_kind(options, field.name)
        if field.name in made:
            continue
        if get_origin(kind) is Parsed:
            made[field.name] = parsed.part(inner)
        elif inner is not None and flag is None:
            made[field.name] = _build(inner, parsed)
        elif inner is not None:
            made[field.name] = _build(inner, parsed, field.name + "_") if values[prefix + field.name] else None
        elif flag is not None:
            made[field.name] = values[prefix + field.name]
    return options(**made)


def _flattened(options: Any, values: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Values by field name -> by parameter name."""
    for name, value in values.items():
        _, flag, inner = _field_kind(options, name)
        if inner is not None and flag is not None:
            yield name, value is not None
            if value is not None:
                yield from ((f"{name}_{part}", held) for part, held in vars(value).items())
        else:
            yield name, value


def _field_kind(options: Any, name: str) -> tuple[Any, Flag | None, Any]:
    """-> the field's type, its flag, and the dataclass that it holds, if any."""
    annotation = annotations_of(options)[name]
    flag = flags_of(options).get(name)
    kind = annotation if get_origin(annotation) is not Annotated else get_args(annotation)[0]
    return kind, flag, _dataclass_in(kind)


def _dataclass_in(kind: Any) -> Any:
    """The dataclass of a type: itself, in an optional one, or in `Parsed`; None for another type."""
    return next((part for part in _alternatives(kind) if is_dataclass(part)), None)


def _is_given(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _alternatives(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if isinstance(kind, UnionType) or get_origin(kind) in (Union, Parsed) else (kind,)


def _is_mapping(kind: Any) -> bool:
    return get_origin(kind) is Mapping


def _is_list(kind: Any) -> bool:
    """tuple[X, ...], but not tuple[X, X]."""
    return get_origin(kind) is tuple and Ellipsis in get_args(kind)


def _typer_kind(kind: Any, is_optional: bool) -> Any:
    """A field's type in the types that Typer reads."""
    if _is_mapping(kind):
        kind = list[str]
    elif _is_list(kind):
        element = get_args(kind)[0]
        kind = list[element if isinstance(element, type) else str]  # type: ignore[misc]
    return kind | None if is_optional else kind


def _default_text(default: Any) -> str:
    if default is None or default is MISSING or default is False or default in ((), {}):
        return ""
    if default is True:
        return "on"
    if isinstance(default, tuple):
        return ", ".join(map(_default_text, default))
    return f"{default:g}" if isinstance(default, float) else str(default)


def _named_values(pairs: list[str], title: str) -> dict[str, Any]:
    """["a=1"] -> {"a": 1}; a value that is not JSON is a string."""
    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or not name:
            raise UsageError(f"{title} takes NAME=VALUE, not {pair!r}.")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found
