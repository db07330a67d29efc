"""Option dataclasses: each option's name, default, limits and help stand once, in the field of a frozen dataclass.

    @dataclass(frozen=True)
    class SamplingOptions(Options, panel="Sampling"):
        top_p: Annotated[float, Flag("Keep the smallest set of codes with this total probability.", maximum=1)] = 0.95

`cli.flags` builds the command line from these fields, batch lists check their columns with `Flag.problem`, and the
constructor refuses a wrong value with the same sentence.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, fields, make_dataclass, replace
from functools import lru_cache
from typing import Annotated, Any, ClassVar, get_args, get_origin, get_type_hints

from llasa_cli.errors import UsageError


@dataclass(frozen=True)
class Flag:
    """Metadata of one field, inside `Annotated`. A field without it can't be set from the command line.

    Attributes:
        help: One or two sentences for `--help`.
        names: Spellings on the command line; empty means `--` and the field's name with dashes.
        minimum, maximum: Limits of a number, inclusive.
        smallest_above_zero: Positive values below this are refused; 0 is not.
        choices: The allowed values of a text option.
        panel: The heading in `--help` under which the option is listed; None takes the one of its class, "" none.
        metavar: The placeholder of the value in `--help`.
        environment: The variable that is read when the flag is absent.
        is_argument: Positional instead of a flag.
        completion: The source of the values that the shell offers: a name in `cli.completion.SOURCES`; empty offers `choices`.
        default_text: The default in `--help` of a field whose default is None.
    """

    help: str
    names: tuple[str, ...] = ()
    minimum: float = -math.inf
    maximum: float = math.inf
    smallest_above_zero: float = 0.0
    choices: tuple[str, ...] = ()
    panel: str | None = None
    metavar: str | None = None
    environment: str | None = None
    is_argument: bool = False
    completion: str = ""
    default_text: str | None = None

    def problem(self, value: Any) -> str:
        """The problem with a value, as the end of a sentence ("must be at least 1"); empty if there is none."""
        if self.choices and value not in self.choices:
            return f"must be one of {', '.join(self.choices)}"
        if isinstance(value, bool) or not isinstance(value, int | float):
            return ""
        if isinstance(value, float) and not math.isfinite(value):  # a long integer is no float
            return "must be a finite number"
        if not self.minimum <= value <= self.maximum:
            return f"must be {self.range_text}"
        if 0 < value < self.smallest_above_zero:
            return f"must be 0 or at least {self.smallest_above_zero:g}"
        return ""

    @property
    def range_text(self) -> str:
        """ "at least 1", "between 0 and 1"."""
        least, most = (f"{limit:,.10g}" for limit in (self.minimum, self.maximum))
        if math.isinf(self.maximum):
            return f"at least {least}"
        return f"at most {most}" if math.isinf(self.minimum) else f"between {least} and {most}"


class Options:
    """Base of the option dataclasses: it checks the limits of the fields and documents them.

    Raises:
        UsageError: A value is outside its limits.
    """

    panel: ClassVar[str | None] = None

    def __init_subclass__(cls, panel: str | None = None) -> None:
        """Add the help of the fields to the docstring, so that `help(SamplingOptions)` shows it.

        Args:
            panel: The heading in `--help` under which the fields of this class are listed.
        """
        cls.panel = panel
        found = [(name, flag_of(annotation)) for name, annotation in inspect.get_annotations(cls).items()]
        lines = [f"    {name}: {flag.help}" for name, flag in found if flag is not None]
        if lines:
            cls.__doc__ = "\n".join([inspect.cleandoc(cls.__doc__ or cls.__name__), "", "Attributes:", *lines])

    def __post_init__(self) -> None:
        kind: Any = type(self)
        for name, flag in flags_of(kind).items():
            value = getattr(self, name)
            for one in value if flag.choices and isinstance(value, tuple) else (value,):
                problem = "" if one is None else flag.problem(one)
                if problem:
                    raise UsageError(f"{name} {problem}, not {one!r}.")


def flag_of(annotation: Any) -> Flag | None:
    """The `Flag` inside an `Annotated`, or None."""
    if get_origin(annotation) is not Annotated:
        return None
    return next((part for part in get_args(annotation) if isinstance(part, Flag)), None)


@lru_cache
def annotations_of(options: type) -> Mapping[str, Any]:
    """Field name -> its annotation with `Annotated` metadata, in the order of the fields."""
    hints = get_type_hints(options, include_extras=True)
    return {field.name: hints[field.name] for field in fields(options)}


@lru_cache
def flags_of(options: type) -> Mapping[str, Flag]:
    """Field name -> flag, of the fields that have one."""
    found = {name: flag_of(annotation) for name, annotation in annotations_of(options).items()}
    return {name: _with_panel(flag, options, name) for name, flag in found.items() if flag is not None}


def _with_panel(flag: Flag, options: type, name: str) -> Flag:
    if flag.panel is not None:
        return flag
    declared_in = next(part for part in options.__mro__ if name in inspect.get_annotations(part))
    return replace(flag, panel=getattr(declared_in, "panel", None))


def default_of(field: Field[Any]) -> Any:
    """The default of a dataclass field; MISSING for a required one."""
    return field.default_factory() if field.default_factory is not MISSING else field.default


def all_optional(options: type, defaults_from: str) -> type:
    """A frozen dataclass with the fields of `options`, each None unless it is given.

    Args:
        defaults_from: The source of a value that is not given, for the help text: "the model's, else".
    """

    def columns() -> Iterator[tuple[str, Any, Any]]:
        for field in fields(options):
            kind = get_args(annotations_of(options)[field.name])[0]
            flag = replace(flags_of(options)[field.name], default_text=f"{defaults_from} {default_of(field):g}")
            yield field.name, Annotated[kind | None, flag], None

    return make_dataclass(options.__name__, columns(), bases=(Options,), frozen=True)
