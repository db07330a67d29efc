"""`llasa`, and `python -m llasa_cli`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; Ctrl-C before a command has begun ends it as quietly as later."""
    try:
        from llasa_cli.app import app
        from llasa_cli.commands.report import open_closed_streams

        open_closed_streams()
        app()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
