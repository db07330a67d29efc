"""The Typer app with all commands."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from llasa_cli import __version__
from llasa_cli.cli.batch import batch
from llasa_cli.cli.chat import chat
from llasa_cli.cli.clone import clone
from llasa_cli.cli.console import boundary
from llasa_cli.cli.convert import convert
from llasa_cli.cli.doctor import doctor
from llasa_cli.cli.download import download
from llasa_cli.cli.finetune import finetune
from llasa_cli.cli.help import Command, Group
from llasa_cli.cli.prepare import prepare
from llasa_cli.cli.say import say
from llasa_cli.cli.serve import serve
from llasa_cli.cli.voices import app as voices

app = typer.Typer(
    name="llasa",
    help="Text to speech with Llasa.",
    cls=Group,
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"llasa {__version__}")
        raise typer.Exit


@app.callback()
def main(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("-V", "--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Text to speech with Llasa."""
    if context.invoked_subcommand is None:
        print(context.get_help(), file=sys.stderr)
        raise typer.Exit(2)


COMMANDS = (say, clone, batch, chat, serve, download, prepare, finetune, convert, doctor)

for _command in COMMANDS:
    app.command(cls=Command)(boundary(_command))

app.add_typer(voices, name="voices")
