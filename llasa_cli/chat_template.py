"""A checkpoint's chat template, rendered in a sandbox as transformers renders it.

A template is a Jinja program that comes with the checkpoint, perhaps from an untrusted repository. So it can't reach Python's
underscored attributes, its loops and products are bounded, and whatever it raises becomes a ModelError.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llasa_cli.errors import ModelError
from llasa_cli.settings import TEMPLATE_DATE

MAX_ITERATIONS = 10_000
"""The limit for all loops over `range` in one rendering, and for factors and powers. Llama's templates have no such loops."""
MAX_EXPONENT = 64
_TOKENS = ("bos_token", "eos_token", "pad_token", "unk_token")


class ChatTemplate:
    """Turns messages into the text that a checkpoint was trained on.

    Args:
        source: The Jinja template.
        settings: tokenizer_config.json, for the special tokens that a template may write.
    """

    def __init__(self, source: str, settings: Mapping[str, Any]) -> None:
        self._source = source
        tokens = {name: token_text(settings.get(name)) for name in _TOKENS}
        self._tokens = {name: token for name, token in tokens.items() if token is not None}

    def render(self, messages: list[dict[str, str]]) -> str:
        """Render messages with `role` and `content`.

        Raises:
            ModelError: The template fails.
        """
        from jinja2.exceptions import TemplateError

        # Defined and null, as transformers passes them: templates ask `tools is not none`.
        variables = {"tools": None, "documents": None, "date_string": TEMPLATE_DATE, "add_generation_prompt": False}
        try:
            template = _environment().from_string(self._source)
            return str(template.render(messages=messages, **variables, **self._tokens))
        except TemplateError as error:
            raise ModelError(f"The checkpoint's chat template fails: {error}.") from error
        except (TypeError, ValueError, LookupError, ArithmeticError, RecursionError) as error:
            raise ModelError(f"The checkpoint's chat template fails: {type(error).__name__}: {error}.") from error


def read_chat_template(folder: Path, settings: Mapping[str, Any]) -> str:
    """Read chat_template.jinja, or the template inside tokenizer_config.json (`settings`).

    Raises:
        ModelError: There is no chat template.
    """
    file = folder / "chat_template.jinja"
    source = file.read_text(encoding="utf-8") if file.is_file() else settings.get("chat_template")
    if isinstance(source, list):  # several templates, one of them called `default`
        named = {entry.get("name"): entry.get("template") for entry in source if isinstance(entry, dict)}
        source = named.get("default")
    if not isinstance(source, str):
        raise ModelError(
            f"There is no chat template in {folder}.",
            "Add it to the folder, as chat_template.jinja or in tokenizer_config.json.",
        )
    return source


def token_text(token: Any) -> str | None:
    """A token of tokenizer_config.json, which holds it as a string or as {"content": ...}."""
    return token.get("content") if isinstance(token, dict) else token


def _environment() -> Any:
    """The sandbox of one rendering, with the extensions, globals and filters that transformers gives templates.

    Source: transformers, `utils/chat_template_utils._cached_compile_jinja_template`.
    """
    from jinja2 import nodes
    from jinja2.exceptions import SecurityError, TemplateError
    from jinja2.ext import Extension
    from jinja2.sandbox import ImmutableSandboxedEnvironment
    from jinja2.utils import Namespace

    class Generation(Extension):
        """`{% generation %}` marks the assistant's words for training; its content is rendered unchanged."""

        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True)).set_lineno(line)

    class PublicNamespace(Namespace):
        """A namespace whose underscored attributes, which are Python's own, can't be set."""

        def __init__(*arguments: Any, **named: Any) -> None:
            self, values = arguments[0], dict(*arguments[1:], **named)
            Namespace.__init__(self)
            for name, value in values.items():
                PublicNamespace.__setitem__(self, name, value)

        def __setitem__(self, name: str, value: Any) -> None:
            if str(name).startswith("_"):
                raise SecurityError(f"a namespace can't have {name!r}")
            super().__setitem__(name, value)

    class Environment(ImmutableSandboxedEnvironment):
        """A sandbox that multiplies small numbers only: long strings and large powers would fill the memory."""

        intercepted_binops = frozenset(["*", "**"])

        def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
            is_small = all(isinstance(side, int | float) and abs(side) < MAX_ITERATIONS for side in (left, right))
            if not is_small or (operator == "**" and right > MAX_EXPONENT):
                raise SecurityError(f"{operator} is for small numbers")
            return super().call_binop(context, operator, left, right)

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    iterations_left = MAX_ITERATIONS

    def counted_range(*bounds: int) -> range:
        nonlocal iterations_left
        numbers = range(*bounds)
        iterations_left -= len(numbers)
        if iterations_left < 0:
            raise SecurityError("its loops run too often")
        return numbers

    environment = Environment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"])
    environment.globals |= {
        "raise_exception": raise_exception,
        # A fixed date: Llama 3's template writes today's into the prompt, and a seed would give other speech tomorrow.
        "strftime_now": lambda _: TEMPLATE_DATE,
        "namespace": PublicNamespace,
        "range": counted_range,
    }
    # Jinja's own filter escapes HTML.
    environment.filters["tojson"] = lambda value, indent=None: json.dumps(value, ensure_ascii=False, indent=indent)
    return environment
