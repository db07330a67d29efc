"""`llasa`, and `python -m llasa_cli`."""

from __future__ import annotations

import gc
import sys


def main() -> None:
    """Run the command line; Ctrl-C before a command has begun ends it as quietly as later."""
    try:
        from llasa_cli.cli.app import app
        from llasa_cli.cli.console import open_closed_streams

        open_closed_streams()
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    finally:
        # torch brings half a million objects. Looking them through for cycles before the process ends took 0.35 s.
        gc.freeze()


if __name__ == "__main__":
    main()
